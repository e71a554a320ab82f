//! JSON values -> the arrays of a batch of rows.
//!
//! One [`ColumnBuilder`] a column, element, key, value and field. Invariants: a builder's length is the number of rows
//! that it has a value for; a row that does not name it is filled with a null when a later row does, or at the end
//! (most columns of ragged records are never touched); [`ColumnBuilder::truncate`] takes a half-written row back, so
//! that a bad record shifts no column.
//!
//! How a value becomes another type is the deserializer's (probed of Firehose). Under OpenX a string is parsed by a
//! column that is none, anything has a text in a string column, a value stands for the array of it, an array fills a
//! struct by position, and a scalar is no struct and no map. Under Hive each of these fails the record, but a scalar in
//! a string column.

use std::sync::Arc;

use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimestampMicrosecondType, TimestampMillisecondType,
};
use arrow_array::{ArrayRef, BinaryArray, BooleanArray, ListArray, MapArray, PrimitiveArray, StringArray, StructArray};
use arrow_buffer::{BooleanBufferBuilder, Buffer, NullBuffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, TimeUnit};

use crate::deserialize::{Keys, Rules};
use crate::fault::{Fault, Misfit};
use crate::fields::FieldBuilders;
use crate::json::{Cursor, Kind};
use crate::json_text::{self, DataKeys};
use crate::scalar;
use crate::schema::ColumnType;

/// Bytes that the values of one record may take: a short JSON text can hold many empty objects of wide structs.
pub(crate) const RECORD_BYTES_MAX: usize = 64 << 20;

/// How the record at hand is read, and what it has taken so far.
#[derive(Debug)]
pub(crate) struct Reading<'a> {
    pub(crate) rules: &'a Rules,
    pub(crate) bytes: usize,
}

impl Reading<'_> {
    pub(crate) fn add(&mut self, bytes: usize) -> Result<(), Fault> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > RECORD_BYTES_MAX { Err(Fault::Large { max_bytes: RECORD_BYTES_MAX }) } else { Ok(()) }
    }
}

/// The values of one column, as they come.
#[derive(Debug)]
pub(crate) struct ColumnBuilder {
    kind: ColumnType,
    data_type: DataType,
    /// Bytes that a value takes at least, null or not.
    width: usize,
    nulls: Nulls,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Boolean(BooleanBufferBuilder),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Int128(Vec<i128>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Text { offsets: Offsets, data: Vec<u8> },
    List { offsets: Offsets, element: Box<ColumnBuilder> },
    Map { offsets: Offsets, key: Box<ColumnBuilder>, value: Box<ColumnBuilder> },
    Struct(FieldBuilders),
}

impl ColumnBuilder {
    pub(crate) fn new(kind: &ColumnType, keys: &Keys, unit: TimeUnit) -> Self {
        let (values, width) = match kind {
            ColumnType::Boolean => (Values::Boolean(BooleanBufferBuilder::new(0)), 1),
            ColumnType::TinyInt => (Values::Int8(Vec::new()), 1),
            ColumnType::SmallInt => (Values::Int16(Vec::new()), 2),
            ColumnType::Int | ColumnType::Date => (Values::Int32(Vec::new()), 4),
            ColumnType::BigInt | ColumnType::Timestamp => (Values::Int64(Vec::new()), 8),
            ColumnType::Decimal { .. } => (Values::Int128(Vec::new()), 16),
            ColumnType::Float => (Values::Float32(Vec::new()), 4),
            ColumnType::Double => (Values::Float64(Vec::new()), 8),
            ColumnType::String | ColumnType::Binary => {
                (Values::Text { offsets: Offsets::default(), data: Vec::new() }, 4)
            }
            ColumnType::Array(element) => {
                (Values::List { offsets: Offsets::default(), element: Box::new(Self::new(element, keys, unit)) }, 4)
            }
            ColumnType::Map(key, value) => {
                let (key, value) = (Self::new(key, keys, unit), Self::new(value, keys, unit));
                let (key, value) = (Box::new(key), Box::new(value));
                (Values::Map { offsets: Offsets::default(), key, value }, 4)
            }
            ColumnType::Struct(columns) => {
                let fields = FieldBuilders::new(columns, keys, unit);
                let width = 1 + fields.width();
                (Values::Struct(fields), width)
            }
        };
        Self { kind: kind.clone(), data_type: kind.data_type_in(unit), width, nulls: Nulls::default(), values }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.nulls.rows
    }

    /// Bytes that a value takes at least.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Fills up with nulls to `rows` values.
    #[inline]
    pub(crate) fn pad(&mut self, rows: usize) {
        if rows > self.len() {
            self.pad_more(rows);
        }
    }

    fn pad_more(&mut self, rows: usize) {
        let count = rows - self.len();
        self.nulls.append_nulls(count);
        match &mut self.values {
            Values::Boolean(values) => values.append_n(count, false),
            Values::Int8(values) => values.resize(rows, 0),
            Values::Int16(values) => values.resize(rows, 0),
            Values::Int32(values) => values.resize(rows, 0),
            Values::Int64(values) => values.resize(rows, 0),
            Values::Int128(values) => values.resize(rows, 0),
            Values::Float32(values) => values.resize(rows, 0.0),
            Values::Float64(values) => values.resize(rows, 0.0),
            Values::Text { offsets, .. } | Values::List { offsets, .. } | Values::Map { offsets, .. } => {
                offsets.pad(rows);
            }
            // The fields are filled up when they are touched, or at the end.
            Values::Struct(_) => (),
        }
    }

    /// Takes back every value from `rows` on, and what a value that failed left behind.
    pub(crate) fn truncate(&mut self, rows: usize) {
        self.nulls.truncate(rows);
        match &mut self.values {
            Values::Boolean(values) => values.truncate(rows),
            Values::Int8(values) => values.truncate(rows),
            Values::Int16(values) => values.truncate(rows),
            Values::Int32(values) => values.truncate(rows),
            Values::Int64(values) => values.truncate(rows),
            Values::Int128(values) => values.truncate(rows),
            Values::Float32(values) => values.truncate(rows),
            Values::Float64(values) => values.truncate(rows),
            Values::Text { offsets, data } => data.truncate(offsets.truncate(rows)),
            Values::List { offsets, element } => element.truncate(offsets.truncate(rows)),
            Values::Map { offsets, key, value } => {
                let entries = offsets.truncate(rows);
                key.truncate(entries);
                value.truncate(entries);
            }
            Values::Struct(fields) => fields.truncate(rows),
        }
    }

    /// Appends the next value. After a fault the builder is to be truncated.
    #[inline]
    pub(crate) fn push(&mut self, json: &mut Cursor<'_>, reading: &mut Reading<'_>) -> Result<(), Fault> {
        if self.push_plain(json, reading)? {
            self.nulls.append_value();
            return Ok(());
        }
        self.push_any(json, reading)
    }

    /// Appends what most values are, a text without escapes or a short whole number in a column of its own kind, which
    /// every deserializer takes as it stands. If it is neither, nothing was read.
    #[inline]
    fn push_plain(&mut self, json: &mut Cursor<'_>, reading: &mut Reading<'_>) -> Result<bool, Fault> {
        Ok(match &mut self.values {
            Values::Text { offsets, data } => match json.plain_string() {
                Some(text) => {
                    data.extend_from_slice(text.as_bytes());
                    offsets.push(data.len());
                    reading.add(text.len())?;
                    true
                }
                None => false,
            },
            Values::Int64(values) if !matches!(self.kind, ColumnType::Timestamp) => {
                put(values, json.short_integer()).is_some()
            }
            Values::Int32(values) if !matches!(self.kind, ColumnType::Date) => {
                put(values, json.short_integer()).is_some()
            }
            Values::Int16(values) => put(values, json.short_integer()).is_some(),
            Values::Int8(values) => put(values, json.short_integer()).is_some(),
            _ => false,
        })
    }

    fn push_any(&mut self, json: &mut Cursor<'_>, reading: &mut Reading<'_>) -> Result<(), Fault> {
        let found = json.kind()?;
        if found == Kind::Null {
            json.word()?;
            self.pad(self.len() + 1);
            return Ok(());
        }
        match &mut self.values {
            Values::List { .. } => self.push_list(json, found, reading)?,
            Values::Map { .. } => self.push_map(json, found, reading)?,
            Values::Struct(_) => self.push_struct(json, found, reading)?,
            _ => self.push_scalar(json, found, reading)?,
        }
        self.nulls.append_value();
        Ok(())
    }

    fn push_scalar(&mut self, json: &mut Cursor<'_>, found: Kind, reading: &mut Reading<'_>) -> Result<(), Fault> {
        let hive = reading.rules.hive.is_some();
        match found {
            Kind::String if hive && self.kind.is_number() => Err(Misfit::not_numeric(&self.kind, found, json)),
            Kind::String => {
                let text = json.string()?;
                self.push_text(&text, found, reading)
            }
            Kind::Object | Kind::Array => match &mut self.values {
                Values::Text { .. } if hive => Err(Misfit::not_a_field(&self.kind, found)),
                Values::Text { offsets, data } => {
                    let start = data.len();
                    json_text::write(json, reading.rules.fold_keys, data)?;
                    offsets.push(data.len());
                    reading.add(data.len() - start)
                }
                _ if hive && self.kind.is_number() => Err(Misfit::not_numeric(&self.kind, found, json)),
                _ => Err(Misfit::of(&self.kind, found)),
            },
            Kind::Boolean if hive && self.kind.is_number() => Err(Misfit::not_numeric(&self.kind, found, json)),
            _ => self.push_text(json.word()?, found, reading),
        }
    }

    /// Appends a scalar, given as its text; without its mark of not being null.
    fn push_text(&mut self, text: &str, found: Kind, reading: &mut Reading<'_>) -> Result<(), Fault> {
        let kind = &self.kind;
        let trimmed = text.trim_ascii();
        let put = match &mut self.values {
            Values::Boolean(values) => scalar::boolean(trimmed).map(|value| values.append(value)),
            Values::Int8(values) => put(values, scalar::integer(trimmed)),
            Values::Int16(values) => put(values, scalar::integer(trimmed)),
            Values::Int32(values) if *kind == ColumnType::Date => put(values, scalar::date(trimmed)),
            Values::Int32(values) => put(values, scalar::integer(trimmed)),
            Values::Int64(values) if *kind == ColumnType::Timestamp => put(values, timestamp(trimmed, reading.rules)),
            Values::Int64(values) => put(values, scalar::integer(trimmed)),
            Values::Int128(values) => match kind {
                ColumnType::Decimal { precision, scale } => {
                    put(values, scalar::decimal_of(trimmed, *precision, *scale))
                }
                _ => None,
            },
            Values::Float32(values) => put(values, scalar::float(trimmed)),
            Values::Float64(values) => put(values, scalar::double(trimmed)),
            Values::Text { offsets, data } => {
                data.extend_from_slice(text.as_bytes());
                offsets.push(data.len());
                return reading.add(text.len());
            }
            Values::List { .. } | Values::Map { .. } | Values::Struct(_) => None,
        };
        put.ok_or_else(|| Misfit::of_text(kind, found, text))
    }

    fn push_list(&mut self, json: &mut Cursor<'_>, found: Kind, reading: &mut Reading<'_>) -> Result<(), Fault> {
        let Values::List { offsets, element } = &mut self.values else { return Ok(()) };
        if found == Kind::Array {
            json.enter()?;
            while json.next_element()? {
                reading.add(element.width)?;
                element.push(json, reading)?;
            }
        } else if reading.rules.hive.is_some() {
            return Err(Misfit::start_expected(&self.kind, found, "Array"));
        } else {
            reading.add(element.width)?;
            element.push(json, reading)?;
        }
        offsets.push(element.len());
        Ok(())
    }

    fn push_map(&mut self, json: &mut Cursor<'_>, found: Kind, reading: &mut Reading<'_>) -> Result<(), Fault> {
        let Values::Map { offsets, key, value } = &mut self.values else { return Ok(()) };
        if found != Kind::Object {
            return Err(match &reading.rules.hive {
                Some(_) => Misfit::start_expected(&self.kind, found, "Object"),
                None => Misfit::of(&self.kind, found),
            });
        }
        json.enter()?;
        let mut keys = DataKeys::new(reading.rules.fold_keys);
        while let Some(name) = json.next_key()? {
            let Some(name) = keys.first(name) else {
                json.skip()?;
                continue;
            };
            reading.add(key.width + value.width)?;
            key.push_text(&name, Kind::String, reading).map_err(|fault| fault.of_key_in(&self.kind))?;
            key.nulls.append_value();
            value.push(json, reading)?;
        }
        offsets.push(key.len());
        Ok(())
    }

    fn push_struct(&mut self, json: &mut Cursor<'_>, found: Kind, reading: &mut Reading<'_>) -> Result<(), Fault> {
        let row = self.len();
        let Values::Struct(fields) = &mut self.values else { return Ok(()) };
        match found {
            Kind::Object => fields.push_object(json, row, reading),
            _ if reading.rules.hive.is_some() => Err(Misfit::start_expected(&self.kind, found, "Object")),
            Kind::Array => fields.push_positions(json, row, reading),
            _ => Err(Misfit::no_object(&self.kind, found, json.skip()?)),
        }
    }

    /// The array of all values; the builder is empty again.
    pub(crate) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let rows = self.len();
        let nulls = self.nulls.finish();
        let array: ArrayRef = match (&mut self.values, &self.data_type) {
            (Values::Boolean(values), _) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            (Values::Int8(values), _) => Arc::new(primitive::<Int8Type>(values, nulls)?),
            (Values::Int16(values), _) => Arc::new(primitive::<Int16Type>(values, nulls)?),
            (Values::Int32(values), DataType::Date32) => Arc::new(primitive::<Date32Type>(values, nulls)?),
            (Values::Int32(values), _) => Arc::new(primitive::<Int32Type>(values, nulls)?),
            (Values::Int64(values), DataType::Timestamp(TimeUnit::Millisecond, zone)) => {
                values.iter_mut().for_each(|micros| *micros = micros.div_euclid(1000));
                Arc::new(primitive::<TimestampMillisecondType>(values, nulls)?.with_timezone_opt(zone.clone()))
            }
            (Values::Int64(values), DataType::Timestamp(_, zone)) => {
                Arc::new(primitive::<TimestampMicrosecondType>(values, nulls)?.with_timezone_opt(zone.clone()))
            }
            (Values::Int64(values), _) => Arc::new(primitive::<Int64Type>(values, nulls)?),
            (Values::Int128(values), data_type) => {
                Arc::new(primitive::<Decimal128Type>(values, nulls)?.with_data_type(data_type.clone()))
            }
            (Values::Float32(values), _) => Arc::new(primitive::<Float32Type>(values, nulls)?),
            (Values::Float64(values), _) => Arc::new(primitive::<Float64Type>(values, nulls)?),
            (Values::Text { offsets, data }, DataType::Binary) => {
                Arc::new(BinaryArray::try_new(offsets.finish(), Buffer::from(take_all(data)), nulls)?)
            }
            (Values::Text { offsets, data }, _) => {
                Arc::new(StringArray::try_new(offsets.finish(), Buffer::from(take_all(data)), nulls)?)
            }
            (Values::List { offsets, element }, DataType::List(field)) => {
                Arc::new(ListArray::try_new(field.clone(), offsets.finish(), element.finish()?, nulls)?)
            }
            (Values::Map { offsets, key, value }, DataType::Map(field, ordered)) => {
                let DataType::Struct(fields) = field.data_type() else { return Err(no_such_type(&self.data_type)) };
                let entries = StructArray::try_new(fields.clone(), vec![key.finish()?, value.finish()?], None)?;
                Arc::new(MapArray::try_new(field.clone(), offsets.finish(), entries, nulls, *ordered)?)
            }
            (Values::Struct(builders), DataType::Struct(fields)) => {
                Arc::new(StructArray::try_new_with_length(fields.clone(), builders.finish(rows)?, nulls, rows)?)
            }
            (_, data_type) => return Err(no_such_type(data_type)),
        };
        Ok(array)
    }
}

/// Microseconds, as the deserializer reads them.
fn timestamp(text: &str, rules: &Rules) -> Option<i64> {
    match &rules.hive {
        None => scalar::timestamp(text),
        Some(hive) => {
            hive.timestamp_formats.iter().find_map(|format| format.micros(text)).or_else(|| scalar::sql_timestamp(text))
        }
    }
}

fn put<T>(values: &mut Vec<T>, value: Option<T>) -> Option<()> {
    value.map(|value| values.push(value))
}

fn primitive<T: ArrowPrimitiveType>(
    values: &mut Vec<T::Native>,
    nulls: Option<NullBuffer>,
) -> Result<PrimitiveArray<T>, ArrowError> {
    PrimitiveArray::try_new(ScalarBuffer::from(take_all(values)), nulls)
}

/// All values; room is left for as many: the next batch is likely to be as long.
fn take_all<T>(values: &mut Vec<T>) -> Vec<T> {
    let room = Vec::with_capacity(values.len());
    std::mem::replace(values, room)
}

fn no_such_type(data_type: &DataType) -> ArrowError {
    ArrowError::SchemaError(format!("no builder for {data_type}"))
}

/// Which rows have a value. What most rows are costs next to nothing: it is written down when a null follows.
#[derive(Debug)]
struct Nulls {
    rows: usize,
    /// Of the rows up to the last null.
    written: NullBufferBuilder,
}

impl Default for Nulls {
    fn default() -> Self {
        Self { rows: 0, written: NullBufferBuilder::new(0) }
    }
}

impl Nulls {
    #[inline]
    fn append_value(&mut self) {
        self.rows += 1;
    }

    fn append_nulls(&mut self, count: usize) {
        self.written.append_n_non_nulls(self.rows - self.written.len());
        self.written.append_n_nulls(count);
        self.rows += count;
    }

    fn truncate(&mut self, rows: usize) {
        self.rows = self.rows.min(rows);
        if self.written.len() > rows {
            self.written.truncate(rows);
        }
    }

    fn finish(&mut self) -> Option<NullBuffer> {
        let rows = std::mem::take(&mut self.rows);
        if self.written.is_empty() {
            // It may have been longer, and then holds a bitmap of nothing.
            self.written = NullBufferBuilder::new(0);
            return None;
        }
        self.written.append_n_non_nulls(rows - self.written.len());
        self.written.finish()
    }
}

/// Where each value ends; the first begins at 0.
#[derive(Debug)]
struct Offsets(Vec<i32>);

impl Default for Offsets {
    fn default() -> Self {
        Self(vec![0])
    }
}

impl Offsets {
    fn push(&mut self, end: usize) {
        self.0.push(i32::try_from(end).expect("a batch is cut long before 2 GiB: see the encoder's limits"));
    }

    /// Empty values up to `rows`.
    fn pad(&mut self, rows: usize) {
        let end = self.end();
        self.0.resize(rows + 1, end);
    }

    /// Keeps `rows` values; where the last of them ends.
    fn truncate(&mut self, rows: usize) -> usize {
        self.0.truncate(rows + 1);
        self.end() as usize
    }

    fn end(&self) -> i32 {
        self.0.last().copied().unwrap_or(0)
    }

    fn finish(&mut self) -> OffsetBuffer<i32> {
        let offsets = take_all(&mut self.0);
        self.0.push(0);
        OffsetBuffer::new(ScalarBuffer::from(offsets))
    }
}
