//! Hive's column list, or its `CREATE TABLE` statement -> columns.
//!
//! `columns := name type [COMMENT 'text'] (',' ...)*`, `struct<name:type,...>`, `array<type>`, `map<key,type>`,
//! `decimal[(p[,s])]`, `varchar(n)`, `char(n)`; white space and comments anywhere between; types without regard to case.
//! Of a statement the columns are read alone: partition columns are in the names of objects, not in their rows. An error
//! says where, what was expected, what stands there, and which type name is nearest.

use std::collections::BTreeSet;
use std::ops::Range;

use super::{Column, ColumnType, TYPE_DEPTH_MAX, fold};

/// A column list that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("at character {}: expected {expected}, found {found}{}", self.at + 1, hint(.nearest))]
pub struct SchemaError {
    /// Characters before the place.
    pub at: usize,
    /// The bytes of the text that are wrong; empty at its end.
    pub span: Range<usize>,
    /// What could stand there.
    pub expected: String,
    /// What does.
    pub found: String,
    /// The type name that was probably meant.
    pub nearest: Option<&'static str>,
}

impl SchemaError {
    /// What is wrong, without the place.
    pub(super) fn reason(&self) -> String {
        format!("expected {}, found {}{}", self.expected, self.found, hint(&self.nearest))
    }
}

fn hint(nearest: &Option<&'static str>) -> String {
    nearest.map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}

/// The type names, as an error offers them.
const TYPE_NAMES: [&str; 18] = [
    "boolean",
    "tinyint",
    "smallint",
    "int",
    "integer",
    "bigint",
    "float",
    "double",
    "decimal",
    "string",
    "varchar",
    "char",
    "binary",
    "date",
    "timestamp",
    "array",
    "map",
    "struct",
];

/// Other languages' names for them.
const OTHER_NAMES: [(&str, &str); 28] = [
    ("bool", "boolean"),
    ("byte", "tinyint"),
    ("int8", "tinyint"),
    ("short", "smallint"),
    ("int16", "smallint"),
    ("int32", "int"),
    ("long", "bigint"),
    ("int64", "bigint"),
    ("uint64", "decimal(20,0)"),
    ("number", "double"),
    ("numeric", "decimal"),
    ("real", "float"),
    ("float32", "float"),
    ("float64", "double"),
    ("text", "string"),
    ("str", "string"),
    ("utf8", "string"),
    ("json", "string"),
    ("uuid", "string"),
    ("bytes", "binary"),
    ("blob", "binary"),
    ("datetime", "timestamp"),
    ("timestamptz", "timestamp"),
    ("time", "timestamp"),
    ("list", "array"),
    ("object", "struct"),
    ("row", "struct"),
    ("record", "struct"),
];

/// Reads the whole text, a column list.
pub(super) fn columns(text: &str) -> Result<Vec<Column>, SchemaError> {
    let mut parser = Parser { text, at: 0 };
    let columns = parser.column_list(None, 0)?;
    parser.end("',' or the end")?;
    Ok(columns)
}

/// Reads a column list, in parentheses or not, or those of a `CREATE TABLE` statement, whose rest is passed over.
pub(super) fn table(text: &str) -> Result<Vec<Column>, SchemaError> {
    let mut parser = Parser { text, at: 0 };
    parser.peek();
    let statement = parser.word().eq_ignore_ascii_case("create");
    if statement {
        parser.table_name()?;
    }
    if !parser.eat('(') {
        return columns(text);
    }
    let columns = parser.column_list(None, 0)?;
    parser.expect(')', "',' or ')'")?;
    if !statement {
        parser.end("the end")?;
    }
    Ok(columns)
}

/// Reads the whole text, a type.
pub(super) fn column_type(text: &str) -> Result<ColumnType, SchemaError> {
    let mut parser = Parser { text, at: 0 };
    let kind = parser.column_type(0)?;
    parser.end("the end")?;
    Ok(kind)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    /// The next character that is no white space and in no comment.
    fn peek(&mut self) -> Option<char> {
        loop {
            let rest = self.text[self.at..].trim_start();
            self.at = self.text.len() - rest.len();
            let end = if rest.starts_with("--") {
                rest.find('\n')
            } else if rest.starts_with("/*") {
                rest.find("*/").map(|at| at + 2)
            } else {
                return rest.chars().next();
            };
            self.at += end.unwrap_or(rest.len());
        }
    }

    fn end(&mut self, expected: &str) -> Result<(), SchemaError> {
        if self.peek().is_none() { Ok(()) } else { Err(self.unexpected(expected)) }
    }

    /// Passes over `CREATE [EXTERNAL] TABLE [IF NOT EXISTS] [database.]name`, up to the parenthesis.
    fn table_name(&mut self) -> Result<(), SchemaError> {
        let mut is_table = false;
        loop {
            match self.peek() {
                Some('(') if is_table => return Ok(()),
                Some('`') if is_table => drop(self.quoted_name()?),
                Some('`' | '(' | ',' | ':' | '<' | '>' | ')') | None => {
                    return Err(self.unexpected(if is_table { "'(' and the columns" } else { "TABLE" }));
                }
                Some(_) => {
                    let word = self.word();
                    is_table |= word.eq_ignore_ascii_case("table");
                    self.at += word.len();
                }
            }
        }
    }

    /// Passes over `COMMENT 'text'`, whose quotes are doubled or follow a backslash inside.
    fn comment(&mut self) -> Result<(), SchemaError> {
        self.peek();
        if !self.word().eq_ignore_ascii_case("comment") {
            return Ok(());
        }
        self.at += "comment".len();
        let Some(quote @ ('\'' | '"')) = self.peek() else { return Err(self.unexpected("the comment in quotes")) };
        let start = self.at;
        let mut chars = self.text[start + 1..].char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            if c == '\\' {
                chars.next();
            } else if c == quote && chars.next_if(|(_, next)| *next == quote).is_none() {
                self.at = start + 1 + at + 1;
                return Ok(());
            }
        }
        Err(self.wrong(start..self.text.len(), "a closing quote"))
    }

    fn eat(&mut self, wanted: char) -> bool {
        let eaten = self.peek() == Some(wanted);
        if eaten {
            self.at += wanted.len_utf8();
        }
        eaten
    }

    fn expect(&mut self, wanted: char, expected: &str) -> Result<(), SchemaError> {
        if self.eat(wanted) { Ok(()) } else { Err(self.unexpected(expected)) }
    }

    /// What stands at the present place, up to the next delimiter.
    fn word(&mut self) -> &'a str {
        let Some(first) = self.peek() else { return "" };
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| c.is_whitespace() || "`,:<>()".contains(c)).unwrap_or(rest.len());
        if end == 0 { &rest[..first.len_utf8()] } else { &rest[..end] }
    }

    fn unexpected(&mut self, expected: &str) -> SchemaError {
        let word = self.word();
        self.wrong(self.at..self.at + word.len(), expected)
    }

    fn wrong(&self, span: Range<usize>, expected: &str) -> SchemaError {
        let found = match &self.text[span.clone()] {
            "" => "the end".to_owned(),
            text => format!("{text:?}"),
        };
        let at = self.text[..span.start].chars().count();
        SchemaError { at, span, expected: expected.to_owned(), found, nearest: None }
    }

    /// Columns up to the end, or fields of a struct up to `>`. `depth`: types around them.
    fn column_list(&mut self, colon: Option<char>, depth: usize) -> Result<Vec<Column>, SchemaError> {
        let mut columns = Vec::new();
        let mut names = BTreeSet::new();
        loop {
            self.peek();
            let start = self.at;
            let name = self.name(if colon.is_some() { "a field's name" } else { "a column's name" })?;
            let end = self.at;
            if let Some(colon) = colon {
                self.expect(colon, "':' and the field's type")?;
            }
            let kind = self.column_type(depth)?;
            self.comment()?;
            if !names.insert(fold(&name)) {
                return Err(self.wrong(start..end, "a name that differs from those before it in more than case"));
            }
            columns.push(Column { name, kind });
            if !self.eat(',') {
                return Ok(columns);
            }
        }
    }

    fn name(&mut self, expected: &str) -> Result<String, SchemaError> {
        if self.peek() == Some('`') {
            return self.quoted_name();
        }
        let word = self.word();
        if word.is_empty() || ",:<>()".contains(word) {
            return Err(self.unexpected(expected));
        }
        self.at += word.len();
        Ok(word.to_owned())
    }

    fn quoted_name(&mut self) -> Result<String, SchemaError> {
        let start = self.at;
        let mut name = String::new();
        let mut rest = &self.text[self.at + 1..];
        loop {
            let Some(end) = rest.find('`') else {
                return Err(self.wrong(start..self.text.len(), "a closing backtick"));
            };
            name.push_str(&rest[..end]);
            rest = &rest[end + 1..];
            match rest.strip_prefix('`') {
                Some(after) => rest = after,
                None => break,
            }
            name.push('`');
        }
        self.at = self.text.len() - rest.len();
        if name.is_empty() {
            return Err(self.wrong(start..self.at, "a name that is not empty"));
        }
        Ok(name)
    }

    fn column_type(&mut self, depth: usize) -> Result<ColumnType, SchemaError> {
        self.peek();
        let start = self.at;
        let word = self.word();
        if depth >= TYPE_DEPTH_MAX {
            return Err(self.wrong(start..start + word.len(), &format!("at most {TYPE_DEPTH_MAX} types within types")));
        }
        self.at += word.len();
        let kind = match word.to_ascii_lowercase().as_str() {
            "boolean" => ColumnType::Boolean,
            "tinyint" => ColumnType::TinyInt,
            "smallint" => ColumnType::SmallInt,
            "int" | "integer" => ColumnType::Int,
            "bigint" => ColumnType::BigInt,
            "float" => ColumnType::Float,
            "double" => self.double(),
            "decimal" => self.decimal()?,
            "string" => ColumnType::String,
            "varchar" | "char" => self.text_of_length()?,
            "binary" => ColumnType::Binary,
            "date" => ColumnType::Date,
            "timestamp" => self.timestamp(),
            "array" => self.array(depth)?,
            "map" => self.map(depth)?,
            "struct" => self.structure(depth)?,
            "uniontype" => return Err(self.wrong(start..self.at, "a type that files of columns have: no uniontype")),
            "interval" => return Err(self.wrong(start..self.at, "a type that tables have: no interval")),
            "set" => return Err(self.wrong(start..self.at, "a type that Hive has: array instead of set")),
            other => {
                self.at = start;
                return Err(SchemaError { nearest: nearest(other), ..self.unexpected("a type") });
            }
        };
        Ok(kind)
    }

    /// `double`, `double precision`.
    fn double(&mut self) -> ColumnType {
        if self.word().eq_ignore_ascii_case("precision") {
            self.at += "precision".len();
        }
        ColumnType::Double
    }

    /// `timestamp`, `timestamp with local time zone`: instants both.
    fn timestamp(&mut self) -> ColumnType {
        for word in ["with", "local", "time", "zone"] {
            self.peek();
            if self.word().eq_ignore_ascii_case(word) {
                self.at += word.len();
            }
        }
        ColumnType::Timestamp
    }

    fn decimal(&mut self) -> Result<ColumnType, SchemaError> {
        if !self.eat('(') {
            return Ok(ColumnType::Decimal { precision: 10, scale: 0 });
        }
        let precision = self.number(1..=38, "a precision of 1 to 38")? as u8;
        let mut scale = 0;
        if self.eat(',') {
            scale = self.number(0..=u32::from(precision), &format!("a scale of 0 to {precision}"))? as u8;
        }
        self.expect(')', "')'")?;
        Ok(ColumnType::Decimal { precision, scale })
    }

    /// The length of Hive's `varchar` (at most 65,535) and `char` (255); Firehose does not enforce it.
    fn text_of_length(&mut self) -> Result<ColumnType, SchemaError> {
        self.expect('(', "'(' and a length")?;
        self.number(1..=65_535, "a length of 1 to 65535")?;
        self.expect(')', "')'")?;
        Ok(ColumnType::String)
    }

    fn number(&mut self, range: std::ops::RangeInclusive<u32>, expected: &str) -> Result<u32, SchemaError> {
        self.peek();
        let word = self.word();
        match word.parse() {
            Ok(number) if range.contains(&number) => {
                self.at += word.len();
                Ok(number)
            }
            _ => Err(self.unexpected(expected)),
        }
    }

    fn array(&mut self, depth: usize) -> Result<ColumnType, SchemaError> {
        self.expect('<', "'<' and the element's type")?;
        let element = self.column_type(depth + 1)?;
        self.expect('>', "'>'")?;
        Ok(ColumnType::Array(Box::new(element)))
    }

    fn map(&mut self, depth: usize) -> Result<ColumnType, SchemaError> {
        self.expect('<', "'<' and the key's type")?;
        self.peek();
        let start = self.at;
        let key = self.column_type(depth + 1)?;
        if key.is_nested() {
            return Err(self.wrong(start..self.at, "a key that is no array, map or struct"));
        }
        self.expect(',', "',' and the value's type")?;
        let value = self.column_type(depth + 1)?;
        self.expect('>', "'>'")?;
        Ok(ColumnType::Map(Box::new(key), Box::new(value)))
    }

    fn structure(&mut self, depth: usize) -> Result<ColumnType, SchemaError> {
        self.expect('<', "'<' and a field's name")?;
        let columns = self.column_list(Some(':'), depth + 1)?;
        self.expect('>', "',' or '>'")?;
        Ok(ColumnType::Struct(columns))
    }
}

/// The type name that `word` was probably meant to be.
fn nearest(word: &str) -> Option<&'static str> {
    if let Some((_, name)) = OTHER_NAMES.iter().find(|(other, _)| *other == word) {
        return Some(name);
    }
    let distance = |name: &str| strsim::damerau_levenshtein(name, word);
    let (name, distance) =
        TYPE_NAMES.iter().map(|name| (*name, distance(name))).min_by_key(|(_, distance)| *distance)?;
    (distance <= 1 + word.len() / 4).then_some(name)
}
