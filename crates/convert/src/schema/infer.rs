//! Lines of JSON -> the columns that hold them.
//!
//! The column list of `standpipe infer`: it is printed, read by a human and put into the config, so that every worker
//! and every day has the same columns. Only types whose values read back as they were are inferred: boolean, bigint,
//! double, string, array and struct. A field that is seen with two types that no type joins, that is only ever null, an
//! object without fields, an integer beyond 64 bits, and what lies deeper than a column list allows, becomes a string,
//! which holds the JSON text of anything. Columns stand in the order in which they were first seen, under the name
//! that was seen first: keys that differ in case alone are one column.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{Column, ColumnType, Columns, SchemaError, TYPE_DEPTH_MAX, fold};
use crate::deserialize::Deserializer;
use crate::fault::Fault;
use crate::json::{Cursor, Kind, documents};
use crate::scalar;

/// What [`infer`] found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inference {
    /// The columns; `None` if no line has a field with a name.
    pub columns: Option<Columns>,
    /// Lines seen.
    pub lines: u64,
    /// Of them those that a Parquet destination would reject whatever the columns: not JSON, no object, too deep.
    pub rejected: u64,
    /// The lines that made a column's type another, in order; the first [`WIDENINGS_MAX`].
    pub widened: Vec<Widening>,
}

/// Columns and fields that are inferred, in all; keys beyond them are passed over, as keys without a column are. Keys that
/// are data (of what should be a map) make so many.
pub const FIELDS_MAX: usize = 10_000;

/// How many widenings are kept: a human reads them.
pub const WIDENINGS_MAX: usize = 100;

/// A line whose value did not fit what a column had been until then.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Widening {
    /// The line's number, as it was given to [`Inferring::line`].
    pub line: u64,
    /// The column, and the fields in it: `customer.address`, `tags[]`.
    pub column: String,
    /// What its type was.
    pub from: &'static str,
    /// What it became.
    pub to: &'static str,
}

/// Infers columns line by line; no line is kept.
#[derive(Default)]
pub struct Inferring {
    table: Fields,
    lines: u64,
    rejected: u64,
    notes: Notes,
}

impl Inferring {
    /// Takes in one line; `number` is its place in the file.
    pub fn line(&mut self, number: u64, line: &[u8]) {
        self.lines += 1;
        self.notes.line = number;
        if observe_line(&mut self.table, line, &mut self.notes).is_err() {
            self.rejected += 1;
        }
    }

    /// Lines taken in.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// What was found.
    pub fn finish(self) -> Inference {
        let columns = self.table.columns();
        let columns = (!columns.is_empty()).then_some(Columns(columns));
        Inference { columns, lines: self.lines, rejected: self.rejected, widened: self.notes.widened }
    }
}

/// Bytes of a column list that is frozen: an item of DynamoDB takes 400 KB, and as `columns:` it fits into a config.
const FROZEN_BYTES_MAX: usize = 256 << 10;

const HINT: &str = "keys that are data belong into a map, which `schema: { columns: ... }` can say";

/// The columns of records of a stream, for `schema: { infer: ... }`: they are frozen for all workers, and every one reads
/// them with [`Columns::parse`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sampled {
    /// The columns.
    pub columns: Columns,
    /// Records that were looked at.
    pub records: u64,
}

/// Why columns are not frozen although records have fields.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SampleError {
    /// Keys that are data make a column each.
    #[error("the records have more than {max} fields: {hint}", max = FIELDS_MAX, hint = HINT)]
    Fields,
    /// The list does not fit into an item.
    #[error("the column list of the records has {0} bytes, more than {max}: {hint}", max = FROZEN_BYTES_MAX, hint = HINT)]
    Bytes(usize),
    /// A name that cannot be read back.
    #[error("the column list of the records cannot be read: {0}")]
    Unreadable(SchemaError),
}

/// Infers the columns of records, to be read by this deserializer. `None`: no record has a field.
pub fn sample<'a>(
    records: impl IntoIterator<Item = &'a [u8]>,
    deserializer: &Deserializer,
) -> Result<Option<Sampled>, SampleError> {
    let mut inferring = Inferring::default();
    inferring.notes.dots = matches!(deserializer, Deserializer::OpenX(openx) if openx.convert_dots_in_keys);
    (1..).zip(records).for_each(|(number, record)| inferring.line(number, record));
    if inferring.notes.too_many {
        return Err(SampleError::Fields);
    }
    let Inference { columns: Some(columns), lines, .. } = inferring.finish() else { return Ok(None) };
    let text = columns.to_string();
    if text.len() > FROZEN_BYTES_MAX {
        return Err(SampleError::Bytes(text.len()));
    }
    Columns::parse(&text).map_err(SampleError::Unreadable)?;
    Ok(Some(Sampled { columns, records: lines }))
}

/// The widenings so far.
#[derive(Default)]
struct Notes {
    line: u64,
    widened: Vec<Widening>,
    fields: usize,
    /// Whether a key was passed over because there were [`FIELDS_MAX`].
    too_many: bool,
    /// Whether the key `a.b` is the column `a_b`.
    dots: bool,
}

impl Notes {
    /// Notes what the present line made of a shape; `path` is added by those around it.
    fn compare(&mut self, from: Option<&'static str>, shape: &Shape) {
        if let (Some(from), Some(to)) = (from, shape.name())
            && from != to
            && self.widened.len() < WIDENINGS_MAX
        {
            self.widened.push(Widening { line: self.line, column: String::new(), from, to });
        }
    }

    /// Puts a name before what was noted since `first`.
    fn within(&mut self, first: usize, name: &str) {
        for widening in &mut self.widened[first..] {
            let dot = if widening.column.is_empty() || widening.column.starts_with('[') { "" } else { "." };
            widening.column = format!("{name}{dot}{}", widening.column);
        }
    }
}

/// The objects of a line. All of it is looked at, so that a bad one leaves no column.
pub(crate) fn objects(line: &[u8]) -> Result<Vec<&str>, Fault> {
    let documents: Vec<&str> = documents(line)?.collect::<Result<_, _>>()?;
    for document in &documents {
        let mut json = Cursor::new(document);
        match json.kind()? {
            Kind::Object => drop(json.skip()?),
            found => return Err(Fault::NotAnObject(found)),
        }
    }
    Ok(documents)
}

fn observe_line(table: &mut Fields, line: &[u8], notes: &mut Notes) -> Result<(), Fault> {
    let documents = objects(line)?;
    documents.iter().try_for_each(|document| table.observe(&mut Cursor::new(document), 0, notes))
}

/// What a field has been so far.
#[derive(Default)]
enum Shape {
    /// Never anything but null.
    #[default]
    Null,
    Boolean,
    Integer,
    /// An integer that no bigint holds.
    LargeInteger,
    Double,
    /// A string, or things of more than one type.
    Text,
    Array(Box<Shape>),
    Object(Fields),
}

impl Shape {
    /// Takes in one more value. `depth`: types around it.
    fn observe(&mut self, json: &mut Cursor<'_>, depth: usize, notes: &mut Notes) -> Result<(), Fault> {
        let found = json.kind()?;
        let nested = matches!(found, Kind::Object | Kind::Array);
        if nested && depth + 1 >= TYPE_DEPTH_MAX {
            *self = Self::Text;
        }
        if let (Self::Null, Kind::Object) = (&*self, found) {
            *self = Self::Object(Fields::default());
        } else if let (Self::Null, Kind::Array) = (&*self, found) {
            *self = Self::Array(Box::default());
        }
        match (&mut *self, found) {
            (Self::Object(fields), Kind::Object) => return fields.observe(json, depth + 1, notes),
            (Self::Array(element), Kind::Array) => {
                let first = notes.widened.len();
                json.enter()?;
                while json.next_element()? {
                    let before = element.name();
                    element.observe(json, depth + 1, notes)?;
                    notes.compare(before, element);
                }
                notes.within(first, "[]");
                return Ok(());
            }
            _ => (),
        }
        let text = json.skip()?;
        match found {
            Kind::Null => (),
            Kind::Boolean => self.join(Self::Boolean),
            Kind::Number => self.join(number(text)),
            Kind::String | Kind::Object | Kind::Array => *self = Self::Text,
        }
        Ok(())
    }

    fn join(&mut self, other: Self) {
        use Shape::{Boolean, Double, Integer, LargeInteger, Null, Text};
        *self = match (std::mem::take(self), other) {
            (Null, other) => other,
            (Boolean, Boolean) => Boolean,
            (Integer, Integer) => Integer,
            (Integer | LargeInteger, Integer | LargeInteger) => LargeInteger,
            (Integer | LargeInteger | Double, Integer | LargeInteger | Double) => Double,
            _ => Text,
        };
    }

    /// Its type in a word; `None` while any type will do.
    fn name(&self) -> Option<&'static str> {
        match self {
            Self::Null => None,
            Self::Boolean => Some("boolean"),
            Self::Integer => Some("bigint"),
            Self::Double => Some("double"),
            Self::Text | Self::LargeInteger => Some("string"),
            Self::Array(_) => Some("array"),
            Self::Object(_) => Some("struct"),
        }
    }

    fn column_type(&self) -> ColumnType {
        match self {
            Self::Boolean => ColumnType::Boolean,
            Self::Integer => ColumnType::BigInt,
            Self::Double => ColumnType::Double,
            Self::Null | Self::Text | Self::LargeInteger => ColumnType::String,
            Self::Array(element) => ColumnType::Array(Box::new(element.column_type())),
            Self::Object(fields) => match fields.columns() {
                columns if columns.is_empty() => ColumnType::String,
                columns => ColumnType::Struct(columns),
            },
        }
    }
}

fn number(text: &str) -> Shape {
    if text.parse::<i64>().is_ok() {
        Shape::Integer
    } else if text.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit()) {
        Shape::LargeInteger
    } else if scalar::double(text).is_some() {
        Shape::Double
    } else {
        Shape::Text
    }
}

/// The fields of an object.
#[derive(Default)]
struct Fields {
    fields: Vec<Field>,
    by_name: BTreeMap<String, usize>,
    objects: u64,
}

struct Field {
    name: String,
    shape: Shape,
    /// The object that it was last seen in.
    object: u64,
}

impl Fields {
    fn observe(&mut self, json: &mut Cursor<'_>, depth: usize, notes: &mut Notes) -> Result<(), Fault> {
        self.objects += 1;
        json.enter()?;
        // Records tend to name their keys in one order.
        let mut guess = 0;
        while let Some(key) = json.next_key()? {
            // No column list can name a key without letters.
            if key.is_empty() {
                json.skip()?;
                continue;
            }
            let index = match self.fields.get(guess) {
                Some(field) if field.name == key => guess,
                _ => match self.find_or_add(key, notes) {
                    Some(index) => index,
                    None => {
                        json.skip()?;
                        continue;
                    }
                },
            };
            guess = index + 1;
            let field = &mut self.fields[index];
            // Of keys that are the same in one object, the first counts.
            if field.object == self.objects {
                json.skip()?;
            } else {
                field.object = self.objects;
                let (first, before) = (notes.widened.len(), field.shape.name());
                field.shape.observe(json, depth, notes)?;
                notes.compare(before, &field.shape);
                notes.within(first, &field.name);
            }
        }
        Ok(())
    }

    fn find_or_add(&mut self, key: Cow<'_, str>, notes: &mut Notes) -> Option<usize> {
        let key = if notes.dots { key.replace('.', "_").into() } else { key };
        let folded = fold(&key);
        if let Some(index) = self.by_name.get(&folded) {
            return Some(*index);
        }
        if notes.fields == FIELDS_MAX {
            notes.too_many = true;
            return None;
        }
        notes.fields += 1;
        self.by_name.insert(folded, self.fields.len());
        self.fields.push(Field { name: key.into_owned(), shape: Shape::Null, object: 0 });
        Some(self.fields.len() - 1)
    }

    fn columns(&self) -> Vec<Column> {
        let column = |field: &Field| Column { name: field.name.clone(), kind: field.shape.column_type() };
        self.fields.iter().map(column).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::deserialize::{OpenX, RowFormat};

    fn infer<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Inference {
        let mut inferring = Inferring::default();
        lines.into_iter().zip(1..).for_each(|(line, number)| inferring.line(number, line));
        inferring.finish()
    }

    #[test]
    fn the_line_that_widens_a_type_is_named_with_its_column() {
        let lines = [
            r#"{"n":1,"s":"x","o":{"a":[1],"b":null},"m":{"k":1}}"#,
            r#"{"n":2,"s":"y","o":{"a":[2,3],"b":true},"m":{"k":2}}"#,
            r#"{"n":2.5,"s":3,"o":{"a":[4,"x"],"b":false},"m":7}"#,
            r#"{"n":"?","s":4,"o":{"a":[5],"b":0}}"#,
        ];
        let found = infer(lines.iter().map(|line| line.as_bytes())).widened;
        let said: Vec<String> =
            found.iter().map(|w| format!("{}: {} {} -> {}", w.line, w.column, w.from, w.to)).collect();
        assert_eq!(
            said,
            [
                "3: n bigint -> double",
                "3: o.a[] bigint -> string",
                "3: m struct -> string",
                "4: n double -> string",
                "4: o.b boolean -> string",
            ]
        );
    }

    fn inferred(lines: &[&str]) -> String {
        let inference = infer(lines.iter().map(|line| line.as_bytes()));
        assert_eq!((inference.lines, inference.rejected), (lines.len() as u64, 0));
        inference.columns.map(|columns| columns.to_string()).unwrap_or_default()
    }

    #[test]
    fn types_join_to_the_smallest_that_holds_them_all() {
        let lines = [
            r#"{"i":1,"d":1,"b":true,"s":"x","n":null,"a":[1,2.5],"o":{"x":1},"m":1,"big":1,"e":[],"none":{}}"#,
            r#"{"i":-5,"d":1e3,"b":null,"s":null,"a":[],"o":{"y":[{"z":null},{"z":1}]},"m":"x","big":18446744073709551615,"late":1}"#,
        ];
        assert_eq!(
            inferred(&lines),
            "i bigint, d double, b boolean, s string, n string, a array<double>, \
             o struct<x:bigint,y:array<struct<z:bigint>>>, m string, big string, e array<string>, none string, late bigint"
        );
        assert_eq!(inferred(&[r#"{"x":1}"#, r#"{"x":[1]}"#, r#"{"x":2}"#]), "x string");
        assert_eq!(inferred(&[r#"{"x":{"a":1}}"#, r#"{"x":[1]}"#, r#"{"x":{"a":1}}"#]), "x string");
        assert_eq!(inferred(&[r#"{"x":100000000000000000000}{"x":0.5}"#]), "x double");
    }

    #[test]
    fn names_are_quoted_and_keys_that_differ_in_case_are_one_column() {
        assert_eq!(inferred(&[r#"{"@t":1,"A b":{"c-d":2}}"#]), "`@t` bigint, `A b` struct<`c-d`:bigint>");
        assert_eq!(inferred(&[r#"{"Id":1,"id":"x"}"#, r#"{"ID":2,"":3}"#]), "Id bigint");
        assert_eq!(inferred(&[r#"{"":3}"#]), "");
    }

    #[test]
    fn keys_without_end_make_columns_with_an_end() {
        let mut inferring = Inferring::default();
        for number in 0..3 * FIELDS_MAX as u64 {
            let line = format!(r#"{{"k":{{"id{number}":1,"x{number}":{{"y":[]}}}}}}"#);
            inferring.line(number, line.as_bytes());
        }
        let columns = inferring.finish().columns.expect("columns").to_string();
        assert_eq!(columns.matches(':').count(), FIELDS_MAX - 1);
        assert!(Columns::parse(&columns).is_ok());
    }

    fn sampled(records: &[&str], deserializer: &Deserializer) -> Result<Option<(String, u64)>, SampleError> {
        let sampled = sample(records.iter().map(|record| record.as_bytes()), deserializer)?;
        Ok(sampled.map(|sampled| (sampled.columns.to_string(), sampled.records)))
    }

    #[test]
    fn a_sample_becomes_a_column_list_that_reads_back() {
        let openx = Deserializer::default();
        let records = [r#"{"a":1}"#, "broken", r#"{"a":2,"b":{"c":null}}"#];
        let columns = "a bigint, b struct<c:string>".to_owned();
        assert_eq!(sampled(&records, &openx), Ok(Some((columns, 3))));
        assert_eq!(sampled(&[], &openx), Ok(None));
        assert_eq!(sampled(&["{}", "x", r#"{"":1}"#], &openx), Ok(None), "no field");
        let odd = [r#"{"line\nfeed":1,"nul\u0000":2,"`":3,"a,b":4,"<":{">":5},"\ud83d\ude00":6}"#];
        let (columns, _) = sampled(&odd, &openx).expect("a list").expect("fields");
        assert_eq!(Columns::parse(&columns).map(|columns| columns.to_string()), Ok(columns));
    }

    #[test]
    fn where_dots_become_underscores_the_columns_have_underscores() {
        let records = [r#"{"a.b":1,"s":{"x.y":"z"}}"#, r#"{"a_b":2.5}"#];
        let dots = OpenX { convert_dots_in_keys: true, ..OpenX::default() };
        let dots = Deserializer::OpenX(dots);
        assert_eq!(sampled(&records, &dots), Ok(Some(("a_b double, s struct<x_y:string>".to_owned(), 2))));
        let as_they_are = "`a.b` bigint, s struct<`x.y`:string>, a_b double".to_owned();
        assert_eq!(sampled(&records, &Deserializer::default()), Ok(Some((as_they_are, 2))));
        let (columns, _) = sampled(&records, &dots).expect("a list").expect("fields");
        assert!(RowFormat::new(Columns::parse(&columns).expect("columns"), dots).is_ok());
    }

    #[test]
    fn what_no_item_holds_is_refused_with_the_reason() {
        let keys = |count: usize, pad: usize| {
            let fields: Vec<String> = (0..count).map(|n| format!("\"{n:0pad$}\":1")).collect();
            format!("{{{}}}", fields.join(","))
        };
        let openx = Deserializer::default();
        assert!(matches!(sampled(&[&keys(FIELDS_MAX, 5)], &openx), Ok(Some(_))));
        assert_eq!(sampled(&[&keys(FIELDS_MAX + 1, 5)], &openx), Err(SampleError::Fields));
        let error = sampled(&[&keys(3_000, 90)], &openx).expect_err("too long");
        assert!(error.to_string().contains("more than 262144"), "{error}");
    }

    #[test]
    fn bad_lines_are_counted_and_leave_nothing() {
        let deep = format!(r#"{{"x":1,"deep":{}{}}}"#, "[".repeat(200), "]".repeat(200));
        let lines = [r#"{"a":1}"#, r#"{"b":1"#, "[1]", "", r#"{"c":1} 2"#, deep.as_str(), "\u{FEFF}"];
        let inference = infer(lines.iter().map(|line| line.as_bytes()));
        assert_eq!((inference.lines, inference.rejected), (7, 6));
        assert_eq!(inference.columns.map(|columns| columns.to_string()).as_deref(), Some("a bigint"));
    }

    #[test]
    fn what_is_too_deep_for_a_column_list_is_a_string() {
        let line = format!(r#"{{"x":{}1{}}}"#, "[".repeat(100), "]".repeat(100));
        let columns = inferred(&[&line]);
        assert_eq!(Columns::parse(&columns).map(|columns| columns.to_string()), Ok(columns.clone()));
        assert!(columns.contains("array<string>"));
    }

    proptest! {
        #[test]
        fn what_is_inferred_can_be_read_as_a_column_list(
            names in prop::collection::vec("\\PC{0,6}", 0..6),
            values in prop::collection::vec("1|2\\.5|true|null|\"x\"|\\[1,null\\]|\\{\"a\":\\[\\]\\}", 0..6),
        ) {
            let fields = names.iter().zip(&values);
            let fields: Vec<String> = fields.map(|(name, value)| {
                format!("{}:{value}", serde_json::to_string(name).expect("a name"))
            }).collect();
            let line = format!("{{{}}}", fields.join(","));
            let inference = infer([line.as_bytes()]);
            prop_assert_eq!(inference.rejected, 0);
            if let Some(columns) = inference.columns {
                prop_assert_eq!(Columns::parse(&columns.to_string()), Ok(columns));
            }
        }
    }
}
