//! Why a record is no row: the codes and messages of an error line.
//!
//! Codes, and the beginning of each message, are Firehose's: those that were seen of the service, or else those of its
//! guide ("Monitor Amazon Data Firehose using CloudWatch Logs", DataFormatConversion). What follows names the column, its
//! type and the kind of the value. A value is shown where Firehose shows it, and then at most its beginning.

use crate::json::{Cursor, DEPTH_MAX, KEY_BYTES_MAX, Kind};
use crate::schema::ColumnType;

const PARSE_ERROR: &str = "DataFormatConversion.ParseError";
const MALFORMED_DATA: &str = "DataFormatConversion.MalformedData";
const INVALID_RECORD: &str = "DataFormatConversion.InvalidRecord";

/// Characters of a value that a message shows.
const SHOWN_CHARS: usize = 64;

/// Why a record is no row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// No bytes, or white space.
    Empty,
    /// Not UTF-8.
    NotText,
    /// Not JSON; what the parser says.
    Broken(String),
    /// A document that is no object.
    NotAnObject(Kind),
    /// Too many levels.
    Deep,
    /// A key that is too long.
    LongKey,
    /// Too many documents.
    Documents { max: usize },
    /// No field, where columns are to be inferred from fields.
    NoColumns,
    /// Too many values: the row would be larger in memory than `max_bytes`.
    Large { max_bytes: usize },
    /// A value that does not fit.
    Misfit(Box<Misfit>),
}

/// A value that does not fit its column.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Misfit {
    /// The column and the fields to the value, innermost first.
    path: Vec<String>,
    wanted: ColumnType,
    found: Kind,
    code: &'static str,
    /// What Firehose says.
    said: String,
}

impl Fault {
    /// The fault of a value inside the column or field `name`.
    pub(crate) fn within(mut self, name: &str) -> Self {
        if let Self::Misfit(misfit) = &mut self {
            misfit.path.push(name.to_owned());
        }
        self
    }

    /// The fault of a key of a map.
    pub(crate) fn of_key_in(mut self, map: &ColumnType) -> Self {
        if let Self::Misfit(misfit) = &mut self {
            misfit.code = INVALID_RECORD;
            misfit.said = format!("Record is not as per schema. One or more map keys were invalid for {}.", short(map));
        }
        self
    }

    /// Firehose's error code.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Broken(_) => PARSE_ERROR,
            Self::Misfit(misfit) => misfit.code,
            _ => MALFORMED_DATA,
        }
    }

    /// The message of the error line.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Empty => "The record was empty or contained only whitespace.".to_owned(),
            Self::NotText => "The data cannot be decoded as UTF-8.".to_owned(),
            Self::Broken(cause) => format!("Encountered malformed JSON. {cause}."),
            Self::NotAnObject(Kind::Array) => {
                "The input JSON contained an array at the top level. The top level must be an object.".to_owned()
            }
            Self::NotAnObject(_) => {
                "The input JSON contained a primitive at the top level. The top level must be an object or array."
                    .to_owned()
            }
            Self::Deep => format!(
                "Data contains a highly nested JSON structure that is not supported. \
                 At most {DEPTH_MAX} levels are."
            ),
            Self::LongKey => format!("Length of json key must not be greater than {KEY_BYTES_MAX}"),
            Self::Documents { max } => format!("The record contains more than {max} JSON documents."),
            Self::NoColumns => {
                "The record has no field. The columns of the table are inferred from the fields of records, \
                                and no record so far has had one."
                    .to_owned()
            }
            Self::Large { max_bytes } => {
                format!("The record has too many values: its columns would take more than {max_bytes} bytes.")
            }
            Self::Misfit(misfit) => misfit.message(),
        }
    }
}

impl Misfit {
    fn fault(wanted: &ColumnType, found: Kind, said: String) -> Fault {
        Fault::Misfit(Box::new(Self { path: Vec::new(), wanted: wanted.clone(), found, code: MALFORMED_DATA, said }))
    }

    /// A value of another kind, of which nothing is known to be said but that.
    pub(crate) fn of(wanted: &ColumnType, found: Kind) -> Fault {
        let said = match (wanted, found) {
            (wanted, Kind::String | Kind::Number | Kind::Boolean | Kind::Null) if wanted.is_nested() => {
                "A scalar type was found in the data but a complex type was specified on the schema."
            }
            _ => "Data does not match the schema.",
        };
        Self::fault(wanted, found, said.to_owned())
    }

    /// A scalar whose text is none of the wanted type.
    pub(crate) fn of_text(wanted: &ColumnType, found: Kind, text: &str) -> Fault {
        let said = match wanted {
            ColumnType::Timestamp => "Encountered invalid or unsupported timestamp format. Please see the Firehose \
                                      developer guide for supported timestamp formats."
                .to_owned(),
            ColumnType::Date => "Data does not match the schema. Invalid format for one or more dates.".to_owned(),
            _ => format!("Data does not match the schema. For input string: \"{}\"", shown(text)),
        };
        Self::fault(wanted, found, said)
    }

    /// OpenX: a scalar where a struct is wanted. Two spaces, as the service writes them.
    pub(crate) fn no_object(wanted: &ColumnType, found: Kind, text: &str) -> Fault {
        let class = match found {
            Kind::Boolean => "Boolean",
            Kind::Number if text.contains(['.', 'e', 'E']) => "Double",
            Kind::Number => "Long",
            _ => "String",
        };
        // Its own quotes are no part of a string; escapes stay.
        let text = if found == Kind::String { text.trim_matches('"') } else { text };
        let text = shown(text);
        let said =
            format!("Data does not match the schema. Data is not JSONObject  but java.lang.{class} with value {text}");
        Self::fault(wanted, found, said)
    }

    /// Hive: what is no number where one is wanted.
    pub(crate) fn not_numeric(wanted: &ColumnType, found: Kind, json: &mut Cursor<'_>) -> Fault {
        let token = match found {
            Kind::Object => "START_OBJECT",
            Kind::Array => "START_ARRAY",
            Kind::Boolean if json.skip().is_ok_and(|text| text == "true") => "VALUE_TRUE",
            Kind::Boolean => "VALUE_FALSE",
            _ => "VALUE_STRING",
        };
        let said = format!(
            "Data does not match the schema. Current token ({token}) not numeric, can not use numeric value accessors"
        );
        Self::fault(wanted, found, said)
    }

    /// Hive: an object or array where text is wanted.
    pub(crate) fn not_a_field(wanted: &ColumnType, found: Kind) -> Fault {
        let said = "One or more fields have incorrect format. Exception when validating field (root)";
        Self::fault(wanted, found, said.to_owned())
    }

    /// Hive: a value where an array or an object is wanted.
    pub(crate) fn start_expected(wanted: &ColumnType, found: Kind, of: &str) -> Fault {
        let said = format!("Data does not match the schema. java.io.IOException: Start of {of} expected");
        Self::fault(wanted, found, said)
    }

    fn message(&self) -> String {
        let path: Vec<&str> = self.path.iter().rev().map(String::as_str).collect();
        let found = match self.found {
            Kind::Object => "an object",
            Kind::Array => "an array",
            Kind::String => "this string",
            Kind::Number => "this number",
            Kind::Boolean => "a boolean",
            Kind::Null => "null",
        };
        let (said, path, wanted) = (&self.said, path.join("."), short(&self.wanted));
        let stop = if said.ends_with('.') { "" } else { "." };
        format!("{said}{stop} Column `{path}` of type {wanted} cannot hold {found}.")
    }
}

/// A type in a word or two: those that hold others may be very long.
fn short(kind: &ColumnType) -> String {
    match kind {
        ColumnType::Array(_) => "array".to_owned(),
        ColumnType::Map(key, value) if !value.is_nested() => format!("map<{key},{value}>"),
        ColumnType::Map(..) => "map".to_owned(),
        ColumnType::Struct(_) => "struct".to_owned(),
        scalar => scalar.to_string(),
    }
}

/// The beginning of a value.
fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}
