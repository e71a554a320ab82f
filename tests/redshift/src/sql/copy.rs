//! `COPY table [(columns)] FROM 's3://...' IAM_ROLE '...' ...`, Redshift's, as a grammar.
//!
//! An option that Redshift does not have is a syntax error. One that it has and this endpoint cannot do is refused by
//! name, never passed over.

use std::collections::BTreeMap;

use super::Refused;
use super::token::{Kind, Token};

/// Most errors that MAXERROR may allow (Redshift, "Data load operations").
const ERRORS_MAX: u32 = 100_000;

/// A COPY that can be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Copy {
    pub(crate) schema: Option<String>,
    pub(crate) table: String,
    /// In the order of the list; all of the table's columns where there is none.
    pub(crate) columns: Option<Vec<String>>,
    /// `s3://bucket/key` of the manifest.
    pub(crate) from: String,
    pub(crate) format: Format,
    pub(crate) compression: Compression,
    pub(crate) rules: Rules,
    /// The load fails with so many errors; 0 and 1 are alike.
    pub(crate) max_errors: u32,
    /// Reads and checks, loads nothing.
    pub(crate) no_load: bool,
}

/// How rows lie in an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Format {
    /// Fields between delimiters; a quote where it is CSV.
    Delimited { delimiter: u8, quote: Option<u8>, skip_lines: u64 },
    /// One object after the other, keys matched to names of columns.
    Json { ignore_case: bool },
    /// Columns by position.
    Parquet { serialize_nested: bool },
}

/// How an object is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// How the unit of a time that is a number is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimeFormat {
    /// What PostgreSQL's own reader takes.
    Auto,
    EpochMillis,
    EpochSeconds,
}

/// What happens to single values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) time: TimeFormat,
    pub(crate) blanks_as_null: bool,
    pub(crate) empty_as_null: bool,
    pub(crate) truncate: bool,
    /// What stands for bytes that are no UTF-8.
    pub(crate) replace_invalid: Option<char>,
    pub(crate) null_as: String,
    pub(crate) fill_record: bool,
    pub(crate) ignore_blank_lines: bool,
    pub(crate) trim_blanks: bool,
}

/// Reads a COPY from its words; the first is `COPY`.
///
/// # Errors
/// A syntax error, or an option that does not fit.
pub(crate) fn read(all: &[Token<'_>], parameters: &BTreeMap<String, String>) -> Result<Copy, Refused> {
    let mut words = Words { all, at: 1, parameters };
    let (schema, table) = words.name()?;
    let columns = if words.takes("(") { Some(words.columns()?) } else { None };
    words.expect("from")?;
    let from = words.text()?;
    if !from.starts_with("s3://") {
        return Err(Refused(format!("COPY from \"{from}\" is not supported by this endpoint, only s3://")));
    }
    let mut options = Options::default();
    while let Some(token) = words.peek() {
        options.one(token, &mut words)?;
    }
    options.copy(schema, table, columns, from)
}

/// The words that are not read yet.
struct Words<'a> {
    all: &'a [Token<'a>],
    at: usize,
    parameters: &'a BTreeMap<String, String>,
}

impl<'a> Words<'a> {
    fn peek(&self) -> Option<&'a Token<'a>> {
        self.all.get(self.at)
    }

    fn takes(&mut self, word: &str) -> bool {
        let found = self.peek().is_some_and(|token| token.is(word));
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, word: &str) -> Result<(), Refused> {
        if self.takes(word) { Ok(()) } else { Err(Refused::near(self.peek())) }
    }

    fn any(&mut self, kinds: &[Kind]) -> Option<&'a Token<'a>> {
        let token = self.peek().filter(|token| kinds.contains(&token.kind))?;
        self.at += 1;
        Some(token)
    }

    fn one_name(&mut self) -> Result<String, Refused> {
        match self.any(&[Kind::Word, Kind::Quoted]) {
            Some(token) => Ok(token.value()),
            None => Err(Refused::near(self.peek())),
        }
    }

    fn name(&mut self) -> Result<(Option<String>, String), Refused> {
        let first = self.one_name()?;
        if self.takes(".") { Ok((Some(first), self.one_name()?)) } else { Ok((None, first)) }
    }

    fn columns(&mut self) -> Result<Vec<String>, Refused> {
        let mut names = Vec::new();
        loop {
            let name = self.one_name()?;
            if names.contains(&name) {
                return Err(Refused(format!("column \"{name}\" specified more than once")));
            }
            names.push(name);
            if self.takes(")") {
                return Ok(names);
            }
            self.expect(",")?;
        }
    }

    /// A string, after an optional AS.
    fn text(&mut self) -> Result<String, Refused> {
        self.takes("as");
        match self.any(&[Kind::Text, Kind::Parameter]) {
            Some(token) if token.kind == Kind::Parameter => {
                self.parameters.get(&token.value()).cloned().ok_or_else(|| Refused::near(Some(token)))
            }
            Some(token) => Ok(token.value()),
            None => Err(Refused::near(self.peek())),
        }
    }

    fn number(&mut self) -> Result<u32, Refused> {
        self.takes("as");
        let token = self.any(&[Kind::Number]).ok_or_else(|| Refused::near(self.peek()))?;
        token.text.parse().map_err(|_| Refused::near(Some(token)))
    }

    /// One ASCII character: `'|'`, `'\t'`, also written `'\\t'`.
    fn character(&mut self, option: &str) -> Result<u8, Refused> {
        let text = self.text()?;
        match text.as_bytes() {
            [one] if one.is_ascii() => Ok(*one),
            b"\\t" => Ok(b'\t'),
            _ => Err(Refused(format!("COPY {option} must be a single ASCII character"))),
        }
    }
}

/// What was said so far.
#[derive(Default)]
struct Options {
    seen: Vec<String>,
    manifest: bool,
    role: bool,
    format: Option<&'static str>,
    json: String,
    delimiter: Option<u8>,
    quote: Option<u8>,
    skip_lines: u32,
    compression: Option<Compression>,
    serialize_nested: bool,
    time: Option<TimeFormat>,
    null_as: Option<String>,
    replace_invalid: Option<char>,
    max_errors: u32,
}

/// Options without a value.
const FLAGS: [&str; 10] = [
    "manifest",
    "blanksasnull",
    "emptyasnull",
    "truncatecolumns",
    "fillrecord",
    "ignoreblanklines",
    "trimblanks",
    "acceptanydate",
    "roundec",
    "noload",
];
/// Options that Redshift has and this endpoint has not.
const NOT_HERE: [&str; 20] = [
    "avro",
    "orc",
    "fixedwidth",
    "shapefile",
    "bzip2",
    "lzop",
    "encrypted",
    "master_symmetric_key",
    "kms_key_id",
    "ssh",
    "readratio",
    "escape",
    "removequotes",
    "explicit_ids",
    "ignoreallerrors",
    "access_key_id",
    "secret_access_key",
    "session_token",
    "encoding",
    "explain",
];

impl Options {
    fn one(&mut self, token: &Token<'_>, words: &mut Words<'_>) -> Result<(), Refused> {
        let name = if token.kind == Kind::Word { token.value() } else { return Err(Refused::near(Some(token))) };
        words.at += 1;
        if NOT_HERE.contains(&name.as_str()) {
            let name = name.to_uppercase();
            return Err(Refused(format!("{name} argument is not supported by this endpoint")));
        }
        if name == "format" {
            words.takes("as");
            return Ok(());
        }
        let name = if name == "credentials" { "iam_role".to_owned() } else { name };
        if self.seen.contains(&name) {
            return Err(Refused("conflicting or redundant options".to_owned()));
        }
        self.seen.push(name.clone());
        match name.as_str() {
            "csv" | "json" | "parquet" => self.format(&name, words)?,
            "delimiter" => self.delimiter = Some(words.character("DELIMITER")?),
            "quote" => self.quote = Some(words.character("QUOTE")?),
            "null" => {
                words.takes("as");
                // Written as one string or the other, it means the two characters.
                let plain = words.peek().is_some_and(|token| token.text == r"'\N'");
                let text = words.text()?;
                self.null_as = Some(if plain { r"\N".to_owned() } else { text });
            }
            "gzip" => self.compress(Compression::Gzip)?,
            "zstd" => self.compress(Compression::Zstd)?,
            "iam_role" => self.role(words)?,
            "region" => region(&words.text()?)?,
            "ignoreheader" => self.skip_lines = words.number()?,
            "maxerror" => self.max_errors = words.number()?,
            "comprows" => drop(words.number()?),
            // The value may be left out.
            "compupdate" | "statupdate" => {
                let _ = ["on", "off", "true", "false", "preset"].iter().any(|value| words.takes(value));
            }
            "timeformat" => self.time = Some(time(&words.text()?)?),
            "dateformat" => date(&words.text()?)?,
            "serializetojson" => self.serialize_nested = true,
            "acceptinvchars" => {
                words.takes("as");
                let given = words.any(&[Kind::Text]).map_or_else(|| "?".to_owned(), Token::value);
                let one = given.chars().next().filter(|c| c.is_ascii() && *c != '\0' && given.len() == 1);
                let must = || Refused("ACCEPTINVCHARS must be a single ASCII character".to_owned());
                self.replace_invalid = Some(one.ok_or_else(must)?);
            }
            "manifest" => self.manifest = true,
            flag if FLAGS.contains(&flag) => {}
            _ => return Err(Refused::near(Some(token))),
        }
        Ok(())
    }

    fn format(&mut self, name: &str, words: &mut Words<'_>) -> Result<(), Refused> {
        if self.format.is_some() {
            return Err(Refused("conflicting or redundant options".to_owned()));
        }
        self.format = Some(match name {
            "csv" => "csv",
            "json" => "json",
            _ => "parquet",
        });
        if name == "json" {
            words.takes("as");
            self.json = words.any(&[Kind::Text, Kind::Parameter]).map_or_else(|| "auto".to_owned(), Token::value);
        }
        Ok(())
    }

    fn compress(&mut self, compression: Compression) -> Result<(), Refused> {
        if self.compression.replace(compression).is_some() {
            return Err(Refused("conflicting or redundant options".to_owned()));
        }
        Ok(())
    }

    fn role(&mut self, words: &mut Words<'_>) -> Result<(), Refused> {
        self.role = true;
        if words.takes("default") {
            return Ok(());
        }
        let text = words.text()?;
        let roles = text.strip_prefix("aws_iam_role=").unwrap_or(&text);
        let good = |role: &str| role.starts_with("arn:aws") && role.contains(":iam::") && role.contains(":role/");
        if roles.split(',').all(good) {
            return Ok(());
        }
        Err(Refused(
            "Invalid credentials. Must be of the format: credentials 'aws_iam_role=...' or \
                     'aws_access_key_id=...;aws_secret_access_key=...[;token=...]'"
                .to_owned(),
        ))
    }

    fn has(&self, name: &str) -> bool {
        self.seen.iter().any(|seen| seen == name)
    }

    /// Checks what fits together.
    fn copy(
        self,
        schema: Option<String>,
        table: String,
        columns: Option<Vec<String>>,
        from: String,
    ) -> Result<Copy, Refused> {
        if !self.role {
            return Err(Refused("CREDENTIALS argument is required but not provided".to_owned()));
        }
        if !self.manifest {
            return Err(Refused("COPY without MANIFEST is not supported by this endpoint".to_owned()));
        }
        if self.max_errors > ERRORS_MAX {
            return Err(Refused(format!("MAXERROR must be between 0 and {ERRORS_MAX}")));
        }
        let format = self.whole_format()?;
        Ok(Copy {
            schema,
            table,
            columns,
            from,
            format,
            compression: self.compression.unwrap_or(Compression::None),
            max_errors: self.max_errors,
            no_load: self.has("noload"),
            rules: Rules {
                time: self.time.unwrap_or(TimeFormat::Auto),
                blanks_as_null: self.has("blanksasnull"),
                empty_as_null: self.has("emptyasnull"),
                truncate: self.has("truncatecolumns"),
                fill_record: self.has("fillrecord"),
                ignore_blank_lines: self.has("ignoreblanklines"),
                trim_blanks: self.has("trimblanks"),
                replace_invalid: self.replace_invalid,
                null_as: self.null_as.unwrap_or_else(|| "\\N".to_owned()),
            },
        })
    }

    fn whole_format(&self) -> Result<Format, Refused> {
        let skip_lines = u64::from(self.skip_lines);
        match self.format {
            Some("parquet") => {
                let kept = [
                    "parquet",
                    "manifest",
                    "iam_role",
                    "statupdate",
                    "fillrecord",
                    "acceptinvchars",
                    "serializetojson",
                ];
                if let Some(other) = self.seen.iter().find(|name| !kept.contains(&name.as_str())) {
                    let other = other.to_uppercase();
                    return Err(Refused(format!("{other} argument is not supported for PARQUET based COPY")));
                }
                Ok(Format::Parquet { serialize_nested: self.serialize_nested })
            }
            Some("json") => {
                let csv = ["delimiter", "quote", "ignoreheader", "null", "fillrecord"];
                if let Some(other) = csv.iter().find(|name| self.has(name)) {
                    return Err(Refused(format!("{} is not supported with JSON", other.to_uppercase())));
                }
                match self.json.as_str() {
                    "auto" => Ok(Format::Json { ignore_case: false }),
                    "auto ignorecase" => Ok(Format::Json { ignore_case: true }),
                    other => Err(Refused(format!("JSON '{other}' is not supported by this endpoint, only 'auto'"))),
                }
            }
            Some(_) => Ok(Format::Delimited {
                delimiter: self.delimiter.unwrap_or(b','),
                quote: Some(self.quote.unwrap_or(b'"')),
                skip_lines,
            }),
            None if self.quote.is_some() => Err(Refused("QUOTE can only be specified with CSV".to_owned())),
            None => Ok(Format::Delimited { delimiter: self.delimiter.unwrap_or(b'|'), quote: None, skip_lines }),
        }
    }
}

fn region(name: &str) -> Result<(), Refused> {
    let letters = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if letters && name.contains('-') {
        return Ok(());
    }
    Err(Refused(format!("The specified region '{name}' does not exist")))
}

fn time(format: &str) -> Result<TimeFormat, Refused> {
    match format.to_ascii_lowercase().as_str() {
        "auto" => Ok(TimeFormat::Auto),
        "epochmillisecs" => Ok(TimeFormat::EpochMillis),
        "epochsecs" => Ok(TimeFormat::EpochSeconds),
        _ => Err(Refused(format!("TIMEFORMAT '{format}' is not supported by this endpoint"))),
    }
}

fn date(format: &str) -> Result<(), Refused> {
    match format.to_ascii_lowercase().as_str() {
        "auto" | "yyyy-mm-dd" => Ok(()),
        _ => Err(Refused(format!("DATEFORMAT '{format}' is not supported by this endpoint"))),
    }
}

#[cfg(test)]
mod tests;
