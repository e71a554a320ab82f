//! The columns of a table: what `columns:` in the config means, and what they are in Arrow and Parquet.
//!
//! Names and types are Hive's, as Glue writes them. JSON keys are matched to column names without regard to case, as
//! Firehose's OpenX deserializer does by default; so two columns of one table or struct may not differ in case alone.
//! `Display` writes what `parse` reads. Timestamps are instants in microseconds (Parquet TIMESTAMP_MICROS, UTC), where
//! Firehose writes the deprecated INT96; Athena, Redshift and Spark read both.
//!
//! Never here: values.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};

mod arrow;
mod avro;
mod glue;
mod infer;
mod json_schema;
mod parse;
mod source;

pub use glue::GlueTable;
pub(crate) use infer::objects;
pub use infer::{Inference, Inferring, SampleError, Sampled, Widening, sample};
pub use parse::SchemaError;
pub use source::SourceError;

/// Levels of types within types: `array<int>` has two. Each costs Parquet a level of every value below it.
pub const TYPE_DEPTH_MAX: usize = 32;

/// The time zone of the timestamps: Parquet's `isAdjustedToUTC`.
pub(crate) const TIMESTAMP_ZONE: &str = "UTC";

/// The type of a column, an element, a key, a value or a field. Every one of them may be null but a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ColumnType {
    /// `boolean`.
    Boolean,
    /// `tinyint`: 8 bits.
    TinyInt,
    /// `smallint`: 16 bits.
    SmallInt,
    /// `int`, `integer`: 32 bits.
    Int,
    /// `bigint`: 64 bits.
    BigInt,
    /// `float`: 32 bits.
    Float,
    /// `double`: 64 bits.
    Double,
    /// `decimal(precision, scale)`; bare `decimal` is (10, 0).
    Decimal {
        /// Decimal digits, 1 to 38.
        precision: u8,
        /// Of them after the point, 0 to `precision`.
        scale: u8,
    },
    /// `string`, `varchar(n)`, `char(n)`: text of any length, as Firehose does; n is not enforced.
    String,
    /// `binary`: the UTF-8 bytes of a JSON string.
    Binary,
    /// `date`.
    Date,
    /// `timestamp`: an instant, in microseconds.
    Timestamp,
    /// `array<element>`.
    Array(Box<ColumnType>),
    /// `map<key,value>`; the key is no array, map or struct.
    Map(Box<ColumnType>, Box<ColumnType>),
    /// `struct<name:type,...>`.
    Struct(Vec<Column>),
}

/// A named column, or a field of a struct.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Column {
    /// The name, as the file shows it.
    pub name: String,
    /// The type.
    pub kind: ColumnType,
}

/// The columns of a table, at least one, with names that differ in more than case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Columns(Vec<Column>);

impl Columns {
    /// Reads Hive's column list, e.g. `id bigint, tags array<string>, s struct<a:int,b:string>`. Names that hold more
    /// than letters, digits and `_` stand in backticks (a backtick inside is doubled).
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        parse::columns(text).map(Self)
    }

    /// The columns in order.
    pub fn as_slice(&self) -> &[Column] {
        &self.0
    }

    /// The Arrow schema of the rows, with timestamps in microseconds; every column may be null.
    pub fn arrow_schema(&self) -> Schema {
        self.arrow_schema_in(TimeUnit::Microsecond)
    }

    pub(crate) fn arrow_schema_in(&self, unit: TimeUnit) -> Schema {
        Schema::new(fields(&self.0, unit))
    }
}

impl FromStr for Columns {
    type Err = SchemaError;

    fn from_str(text: &str) -> Result<Self, SchemaError> {
        Self::parse(text)
    }
}

/// What makes two names the same: Unicode lower case.
pub(crate) fn fold(name: &str) -> String {
    name.to_lowercase()
}

fn fields(columns: &[Column], unit: TimeUnit) -> Fields {
    columns.iter().map(|column| Field::new(&column.name, column.kind.data_type_in(unit), true)).collect()
}

impl ColumnType {
    /// The Arrow type, timestamps in microseconds.
    pub(crate) fn data_type(&self) -> DataType {
        self.data_type_in(TimeUnit::Microsecond)
    }

    /// The Arrow type, timestamps in `unit`. Names inside lists and maps are those of the Parquet specification
    /// (LogicalTypes, LIST, MAP).
    pub(crate) fn data_type_in(&self, unit: TimeUnit) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::TinyInt => DataType::Int8,
            Self::SmallInt => DataType::Int16,
            Self::Int => DataType::Int32,
            Self::BigInt => DataType::Int64,
            Self::Float => DataType::Float32,
            Self::Double => DataType::Float64,
            Self::Decimal { precision, scale } => DataType::Decimal128(*precision, *scale as i8),
            Self::String => DataType::Utf8,
            Self::Binary => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Timestamp => DataType::Timestamp(unit, Some(TIMESTAMP_ZONE.into())),
            Self::Array(element) => DataType::List(element_field(element, unit)),
            Self::Map(key, value) => DataType::Map(entries_field(key, value, unit), false),
            Self::Struct(columns) => DataType::Struct(fields(columns, unit)),
        }
    }

    /// Whether its values are numbers.
    pub(crate) fn is_number(&self) -> bool {
        matches!(
            self,
            Self::TinyInt
                | Self::SmallInt
                | Self::Int
                | Self::BigInt
                | Self::Float
                | Self::Double
                | Self::Decimal { .. }
        )
    }

    /// Whether it holds other types.
    pub(crate) fn is_nested(&self) -> bool {
        matches!(self, Self::Array(_) | Self::Map(..) | Self::Struct(_))
    }
}

fn element_field(element: &ColumnType, unit: TimeUnit) -> Arc<Field> {
    Arc::new(Field::new("element", element.data_type_in(unit), true))
}

fn entries_field(key: &ColumnType, value: &ColumnType, unit: TimeUnit) -> Arc<Field> {
    let entries =
        [Field::new("key", key.data_type_in(unit), false), Field::new("value", value.data_type_in(unit), true)];
    Arc::new(Field::new("key_value", DataType::Struct(entries.into_iter().collect()), false))
}

impl fmt::Display for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_columns(f, &self.0, (" ", ", "))
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean => f.write_str("boolean"),
            Self::TinyInt => f.write_str("tinyint"),
            Self::SmallInt => f.write_str("smallint"),
            Self::Int => f.write_str("int"),
            Self::BigInt => f.write_str("bigint"),
            Self::Float => f.write_str("float"),
            Self::Double => f.write_str("double"),
            Self::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            Self::String => f.write_str("string"),
            Self::Binary => f.write_str("binary"),
            Self::Date => f.write_str("date"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Array(element) => write!(f, "array<{element}>"),
            Self::Map(key, value) => write!(f, "map<{key},{value}>"),
            Self::Struct(columns) => {
                f.write_str("struct<")?;
                write_columns(f, columns, (":", ","))?;
                f.write_str(">")
            }
        }
    }
}

fn write_columns(f: &mut fmt::Formatter<'_>, columns: &[Column], (between, after): (&str, &str)) -> fmt::Result {
    for (index, column) in columns.iter().enumerate() {
        if index > 0 {
            f.write_str(after)?;
        }
        write_name(f, &column.name)?;
        write!(f, "{between}{}", column.kind)?;
    }
    Ok(())
}

fn write_name(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    if name.chars().all(|c| c.is_alphanumeric() || c == '_') {
        f.write_str(name)
    } else {
        write!(f, "`{}`", name.replace('`', "``"))
    }
}

#[cfg(test)]
mod tests;
