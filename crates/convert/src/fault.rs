//! Why a record is no row: the codes and messages of an error line.
//!
//! Codes, and the first sentence of each message, are Firehose's ("Monitor Amazon Data Firehose using CloudWatch
//! Logs", DataFormatConversion). What follows names the column, its type and the kind of the value: never the value.

use crate::json::{DEPTH_MAX, Kind};
use crate::schema::ColumnType;

const PARSE_ERROR: &str = "DataFormatConversion.ParseError";
const MALFORMED_DATA: &str = "DataFormatConversion.MalformedData";

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
    /// Too many documents.
    Documents { max: usize },
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
}

impl Fault {
    pub(crate) fn misfit(wanted: ColumnType, found: Kind) -> Self {
        Self::Misfit(Box::new(Misfit { path: Vec::new(), wanted, found }))
    }

    /// The fault of a value inside the column or field `name`.
    pub(crate) fn within(mut self, name: &str) -> Self {
        if let Self::Misfit(misfit) = &mut self {
            misfit.path.push(name.to_owned());
        }
        self
    }

    /// Firehose's error code.
    pub(crate) fn code(&self) -> &'static str {
        if let Self::Broken(_) = self { PARSE_ERROR } else { MALFORMED_DATA }
    }

    /// The message of the error line.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Empty => "The record was empty or contained only whitespace.".to_owned(),
            Self::NotText => "Encountered invalid characters. The record cannot be decoded as UTF-8.".to_owned(),
            Self::Broken(cause) => format!("Encountered malformed JSON. {cause}."),
            Self::NotAnObject(Kind::Array) => {
                "The input JSON contained an array at the top level. The top level must be an object.".to_owned()
            }
            Self::NotAnObject(_) => {
                "The input JSON contained a primitive at the top level. The top level must be an object.".to_owned()
            }
            Self::Deep => format!(
                "Data contains a highly nested JSON structure that is not supported. \
                 At most {DEPTH_MAX} levels are."
            ),
            Self::Documents { max } => format!("The record contains more than {max} JSON documents."),
            Self::Large { max_bytes } => {
                format!("The record has too many values: its columns would take more than {max_bytes} bytes.")
            }
            Self::Misfit(misfit) => misfit.message(),
        }
    }
}

impl Misfit {
    fn message(&self) -> String {
        let path: Vec<&str> = self.path.iter().rev().map(String::as_str).collect();
        let said = match (&self.wanted, self.found) {
            (wanted, Kind::String | Kind::Number | Kind::Boolean | Kind::Null) if wanted.is_nested() => {
                "A scalar type was found in the data but a complex type was specified on the schema."
            }
            (ColumnType::Timestamp, _) => "Encountered invalid or unsupported timestamp format.",
            (ColumnType::Date, _) => "Data does not match the schema. Invalid format for one or more dates.",
            _ => "Data does not match the schema.",
        };
        let found = match self.found {
            Kind::Object => "an object",
            Kind::Array => "an array",
            Kind::String => "this string",
            Kind::Number => "this number",
            Kind::Boolean => "a boolean",
            Kind::Null => "null",
        };
        // Types that hold others may be very long.
        let wanted = match &self.wanted {
            ColumnType::Array(_) => "array".to_owned(),
            ColumnType::Map(..) => "map".to_owned(),
            ColumnType::Struct(_) => "struct".to_owned(),
            scalar => scalar.to_string(),
        };
        format!("{said} Column `{}` of type {wanted} cannot hold {found}.", path.join("."))
    }
}
