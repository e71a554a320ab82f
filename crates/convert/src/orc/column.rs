//! The streams of one column of a stripe, and of the columns within it (ORCv1, "Column Encodings").
//!
//! A column has values only where everything around it is not null: [`ColumnWriter::write`] is told which rows of an
//! array these are. The rows of a stripe come in row groups; of each the column notes its places in the streams and its
//! statistics.

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, ArrowPrimitiveType, PrimitiveArray};
use arrow_schema::{DataType, TimeUnit};

use crate::encode::EncodeError;

use super::proto::Message;
use super::rle::{Bits, ByteRuns, Integers, Mark, put_varint};
use super::statistics::{Range, Statistics, Values};
use super::text::TextWriter;

/// What a stream holds: `Stream.Kind` of orc_proto.proto.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum StreamKind {
    Present = 0,
    Data = 1,
    Length = 2,
    DictionaryData = 3,
    Secondary = 5,
    RowIndex = 6,
}

/// A stream before it is compressed.
pub(super) type Stream = (StreamKind, Vec<u8>);

/// How the values of a column stand in its streams: `ColumnEncoding` of orc_proto.proto.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Encoding {
    Direct,
    DirectV2,
    DictionaryV2 { entries: u64 },
}

impl Encoding {
    pub(super) fn message(self) -> Message {
        match self {
            Self::Direct => Message::default().uint(1, 0),
            Self::DirectV2 => Message::default().uint(1, 2),
            Self::DictionaryV2 { entries } => Message::default().uint(1, 3).uint(2, entries),
        }
    }
}

/// One row group of a column. `marks` are those of the first streams, in order.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) marks: Vec<Mark>,
    pub(super) statistics: Statistics,
}

/// What a stripe has of one column.
pub(super) struct Finished {
    pub(super) encoding: Encoding,
    pub(super) streams: Vec<Stream>,
    pub(super) groups: Vec<Group>,
    /// The statistics of no values.
    pub(super) none: Statistics,
}

/// A column, with those within it.
pub(super) struct ColumnWriter {
    present: Bits,
    values: Streams,
    within: Vec<ColumnWriter>,
    statistics: Statistics,
    groups: Vec<Group>,
}

/// The streams of the values that are not null.
enum Streams {
    Struct,
    /// Lists and maps.
    Lengths(Integers),
    Boolean(Bits),
    Byte(ByteRuns),
    Integer(Integers),
    Float(Vec<u8>),
    Text(TextWriter),
    Binary {
        data: Vec<u8>,
        lengths: Integers,
    },
    Decimal {
        data: Vec<u8>,
        scales: Integers,
        scale: i64,
    },
    Timestamp {
        seconds: Integers,
        nanos: Integers,
    },
}

/// The kind of a column (`Type.Kind` of orc_proto.proto), by Arrow's type.
pub(super) fn orc_type(kind: &DataType) -> Option<u64> {
    Some(match kind {
        DataType::Boolean => 0,
        DataType::Int8 => 1,
        DataType::Int16 => 2,
        DataType::Int32 => 3,
        DataType::Int64 => 4,
        DataType::Float32 => 5,
        DataType::Float64 => 6,
        DataType::Utf8 => 7,
        DataType::Binary => 8,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 9,
        DataType::List(_) => 10,
        DataType::Map(..) => 11,
        DataType::Struct(_) => 12,
        DataType::Decimal128(..) => 14,
        DataType::Date32 => 15,
        _ => return None,
    })
}

/// The types within a type, in order.
pub(super) fn within(kind: &DataType) -> Vec<&DataType> {
    match kind {
        DataType::List(element) => vec![element.data_type()],
        DataType::Map(entries, _) => within(entries.data_type()),
        DataType::Struct(fields) => fields.iter().map(|field| field.data_type()).collect(),
        _ => Vec::new(),
    }
}

impl ColumnWriter {
    /// `threshold_percent` is that of the dictionaries.
    pub(super) fn new(kind: &DataType, threshold_percent: u8) -> Result<Self, EncodeError> {
        let integer = || Values::Integer { range: Range::default(), sum: Some(0) };
        let double = || Values::Double { range: Range::default(), sum: 0.0 };
        let (values, statistics) = match kind {
            DataType::Boolean => (Streams::Boolean(Bits::default()), Values::Boolean { yes: 0 }),
            DataType::Int8 => (Streams::Byte(ByteRuns::default()), integer()),
            DataType::Int16 | DataType::Int32 | DataType::Int64 => (Streams::Integer(Integers::signed()), integer()),
            DataType::Float32 | DataType::Float64 => (Streams::Float(Vec::new()), double()),
            DataType::Utf8 => {
                let text = Values::Text { range: Range::default(), bytes: 0 };
                (Streams::Text(TextWriter::new(threshold_percent)), text)
            }
            DataType::Binary => {
                let streams = Streams::Binary { data: Vec::new(), lengths: Integers::unsigned() };
                (streams, Values::Binary { bytes: 0 })
            }
            DataType::Decimal128(_, scale) => {
                let scale = u8::try_from(*scale).map_err(EncodeError::of)?;
                let streams = Streams::Decimal { data: Vec::new(), scales: Integers::signed(), scale: scale.into() };
                (streams, Values::Decimal { range: Range::default(), scale: scale.into() })
            }
            DataType::Date32 => (Streams::Integer(Integers::signed()), Values::Date { range: Range::default() }),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                let streams = Streams::Timestamp { seconds: Integers::signed(), nanos: Integers::unsigned() };
                (streams, Values::Timestamp { range: Range::default() })
            }
            DataType::List(_) | DataType::Map(..) => (Streams::Lengths(Integers::unsigned()), Values::Nested),
            DataType::Struct(_) => (Streams::Struct, Values::Nested),
            other => return Err(EncodeError::of(format!("ORC has no column of {other}"))),
        };
        let within = within(kind).into_iter().map(|kind| Self::new(kind, threshold_percent));
        let within = within.collect::<Result<_, _>>()?;
        let statistics = Statistics::new(statistics);
        Ok(Self { present: Bits::default(), values, within, statistics, groups: Vec::new() })
    }

    /// Bytes that the column holds.
    pub(super) fn bytes(&self) -> usize {
        /// Of the places and the statistics of a row group, about.
        const GROUP_BYTES: usize = 256;
        let values = match &self.values {
            Streams::Struct => 0,
            Streams::Lengths(lengths) => lengths.len(),
            Streams::Boolean(bits) => bits.len(),
            Streams::Byte(runs) => runs.len(),
            Streams::Integer(values) => values.len(),
            Streams::Float(data) => data.len(),
            Streams::Text(text) => text.bytes(),
            Streams::Binary { data, lengths } => data.len() + lengths.len(),
            Streams::Decimal { data, scales, .. } => data.len() + scales.len(),
            Streams::Timestamp { seconds, nanos } => seconds.len() + nanos.len(),
        };
        let within: usize = self.within.iter().map(Self::bytes).sum();
        values + self.present.len() + self.groups.len() * GROUP_BYTES + within
    }

    /// Begins a row group.
    pub(super) fn begin_group(&mut self) {
        let mut marks = vec![self.present.mark()];
        let whole = |data: &Vec<u8>| Mark { byte: data.len(), ..Mark::default() };
        match &self.values {
            Streams::Struct => (),
            Streams::Lengths(lengths) => marks.push(lengths.mark()),
            Streams::Boolean(bits) => marks.push(bits.mark()),
            Streams::Byte(runs) => marks.push(runs.mark()),
            Streams::Integer(values) => marks.push(values.mark()),
            Streams::Float(data) => marks.push(whole(data)),
            Streams::Text(text) => marks.extend(text.marks()),
            Streams::Binary { data, lengths } => marks.extend([whole(data), lengths.mark()]),
            Streams::Decimal { data, scales, .. } => marks.extend([whole(data), scales.mark()]),
            Streams::Timestamp { seconds, nanos } => marks.extend([seconds.mark(), nanos.mark()]),
        }
        let statistics = self.statistics.take();
        self.groups.push(Group { marks, statistics });
        self.within.iter_mut().for_each(Self::begin_group);
    }

    /// Ends the row group that was begun.
    pub(super) fn end_group(&mut self) {
        if let Streams::Text(text) = &mut self.values {
            text.decide();
        }
        if let Some(group) = self.groups.last_mut() {
            group.statistics = self.statistics.take();
        }
        self.within.iter_mut().for_each(Self::end_group);
    }

    /// The column and those within it, in the order of their numbers; it is empty again.
    pub(super) fn finish(&mut self, out: &mut Vec<Finished>) {
        let mut groups = std::mem::take(&mut self.groups);
        let (encoding, mut streams) = self.take_values(&mut groups);
        let present = self.present.take();
        if groups.iter().any(|group| group.statistics.has_null) {
            streams.insert(0, (StreamKind::Present, present));
        } else {
            for group in &mut groups {
                group.marks.remove(0);
            }
        }
        self.statistics.take();
        out.push(Finished { encoding, streams, groups, none: self.statistics.clone() });
        self.within.iter_mut().for_each(|column| column.finish(out));
    }

    fn take_values(&mut self, groups: &mut [Group]) -> (Encoding, Vec<Stream>) {
        use StreamKind::{Data, Length, Secondary};
        use std::mem::take;
        match &mut self.values {
            Streams::Struct => (Encoding::Direct, Vec::new()),
            Streams::Lengths(lengths) => (Encoding::DirectV2, vec![(Length, lengths.take())]),
            Streams::Boolean(bits) => (Encoding::Direct, vec![(Data, bits.take())]),
            Streams::Byte(runs) => (Encoding::Direct, vec![(Data, runs.take())]),
            Streams::Integer(values) => (Encoding::DirectV2, vec![(Data, values.take())]),
            Streams::Float(data) => (Encoding::Direct, vec![(Data, take(data))]),
            Streams::Text(text) => {
                let (encoding, streams, first) = text.take();
                // What the streams are was not known yet when the first row group began.
                if let Some(group) = groups.first_mut() {
                    group.marks.truncate(1);
                    group.marks.extend(first);
                }
                (encoding, streams)
            }
            Streams::Binary { data, lengths } => {
                (Encoding::DirectV2, vec![(Data, take(data)), (Length, lengths.take())])
            }
            Streams::Decimal { data, scales, .. } => {
                (Encoding::DirectV2, vec![(Data, take(data)), (Secondary, scales.take())])
            }
            Streams::Timestamp { seconds, nanos } => {
                (Encoding::DirectV2, vec![(Data, seconds.take()), (Secondary, nanos.take())])
            }
        }
    }

    /// Appends the values of `rows`, which are indices into `array` in rising order.
    pub(super) fn write(&mut self, array: &dyn Array, rows: &[usize]) -> Result<(), EncodeError> {
        let mut valid = Vec::with_capacity(rows.len());
        for row in rows {
            let is_valid = array.is_valid(*row);
            self.present.push(is_valid);
            if is_valid {
                valid.push(*row);
            }
        }
        self.statistics.has_null |= valid.len() < rows.len();
        self.statistics.count += valid.len() as u64;
        match array.data_type() {
            DataType::List(_) => {
                let list = array.as_list_opt::<i32>().ok_or_else(unlike)?;
                let elements = self.write_lengths(list.value_offsets(), &valid);
                self.write_within(0, list.values(), &elements)
            }
            DataType::Map(..) => {
                let map = array.as_map_opt().ok_or_else(unlike)?;
                let entries = self.write_lengths(map.value_offsets(), &valid);
                self.write_within(0, map.keys(), &entries)?;
                self.write_within(1, map.values(), &entries)
            }
            DataType::Struct(_) => {
                let fields = array.as_struct_opt().ok_or_else(unlike)?;
                fields.columns().iter().enumerate().try_for_each(|(at, field)| self.write_within(at, field, &valid))
            }
            _ => self.write_scalars(array, &valid),
        }
    }

    fn write_within(&mut self, at: usize, array: &dyn Array, rows: &[usize]) -> Result<(), EncodeError> {
        self.within.get_mut(at).ok_or_else(unlike)?.write(array, rows)
    }

    /// The rows of the elements or entries.
    fn write_lengths(&mut self, offsets: &[i32], rows: &[usize]) -> Vec<usize> {
        let mut elements = Vec::new();
        if let Streams::Lengths(lengths) = &mut self.values {
            for row in rows {
                let (from, to) = (offsets[*row], offsets[*row + 1]);
                lengths.push((to - from).into());
                elements.extend(from as usize..to as usize);
            }
        }
        elements
    }

    fn write_scalars(&mut self, array: &dyn Array, rows: &[usize]) -> Result<(), EncodeError> {
        let statistics = &mut self.statistics.values;
        match (&mut self.values, array.data_type()) {
            (Streams::Boolean(bits), DataType::Boolean) => {
                let array = array.as_boolean_opt().ok_or_else(unlike)?;
                for row in rows {
                    let value = array.value(*row);
                    bits.push(value);
                    if let Values::Boolean { yes } = statistics {
                        *yes += u64::from(value);
                    }
                }
            }
            (Streams::Byte(runs), DataType::Int8) => {
                for value in primitive::<Int8Type>(array, rows)? {
                    runs.push(value as u8);
                    add_integer(statistics, value.into());
                }
            }
            (Streams::Integer(out), kind) => {
                let values: Vec<i64> = match kind {
                    DataType::Int16 => primitive::<Int16Type>(array, rows)?.map(i64::from).collect(),
                    DataType::Int32 => primitive::<Int32Type>(array, rows)?.map(i64::from).collect(),
                    DataType::Date32 => primitive::<Date32Type>(array, rows)?.map(i64::from).collect(),
                    _ => primitive::<Int64Type>(array, rows)?.collect(),
                };
                for value in values {
                    out.push(value);
                    add_integer(statistics, value);
                }
            }
            (Streams::Float(data), DataType::Float32) => {
                for value in primitive::<Float32Type>(array, rows)? {
                    data.extend_from_slice(&value.to_le_bytes());
                    add_double(statistics, value.into());
                }
            }
            (Streams::Float(data), _) => {
                for value in primitive::<Float64Type>(array, rows)? {
                    data.extend_from_slice(&value.to_le_bytes());
                    add_double(statistics, value);
                }
            }
            _ => return self.write_others(array, rows),
        }
        Ok(())
    }

    fn write_others(&mut self, array: &dyn Array, rows: &[usize]) -> Result<(), EncodeError> {
        let statistics = &mut self.statistics.values;
        match &mut self.values {
            Streams::Text(text) => {
                let array = array.as_string_opt::<i32>().ok_or_else(unlike)?;
                for value in rows.iter().map(|row| array.value(*row).as_bytes()) {
                    text.push(value);
                    if let Values::Text { range, bytes } = statistics {
                        range.add_text(value);
                        *bytes = bytes.saturating_add(value.len() as i64);
                    }
                }
            }
            Streams::Binary { data, lengths } => {
                let array = array.as_binary_opt::<i32>().ok_or_else(unlike)?;
                for value in rows.iter().map(|row| array.value(*row)) {
                    data.extend_from_slice(value);
                    lengths.push(value.len() as i64);
                    if let Values::Binary { bytes } = statistics {
                        *bytes = bytes.saturating_add(value.len() as i64);
                    }
                }
            }
            Streams::Decimal { data, scales, scale } => {
                for value in primitive::<Decimal128Type>(array, rows)? {
                    put_varint(data, (value << 1 ^ value >> 127) as u128);
                    scales.push(*scale);
                    if let Values::Decimal { range, .. } = statistics {
                        range.add(value);
                    }
                }
            }
            Streams::Timestamp { seconds, nanos } => {
                for value in primitive::<TimestampMicrosecondType>(array, rows)? {
                    let (second, nano) = timestamp(value);
                    seconds.push(second);
                    nanos.push(nano);
                    if let Values::Timestamp { range } = statistics {
                        range.add(value.div_euclid(1000));
                    }
                }
            }
            _ => return Err(unlike()),
        }
        Ok(())
    }
}

fn primitive<'a, T: ArrowPrimitiveType>(
    array: &'a dyn Array,
    rows: &'a [usize],
) -> Result<impl Iterator<Item = T::Native> + use<'a, T>, EncodeError> {
    let array: &PrimitiveArray<T> = array.as_primitive_opt().ok_or_else(unlike)?;
    Ok(rows.iter().map(|row| array.value(*row)))
}

fn add_integer(statistics: &mut Values, value: i64) {
    match statistics {
        Values::Integer { range, sum } => {
            range.add(value);
            *sum = sum.and_then(|sum| sum.checked_add(value));
        }
        Values::Date { range } => range.add(value),
        _ => (),
    }
}

fn add_double(statistics: &mut Values, value: f64) {
    if let Values::Double { range, sum } = statistics {
        if !value.is_nan() {
            range.add(value);
        }
        *sum += value;
    }
}

/// Seconds after 2015 and nanoseconds, as ORC writes an instant. Its readers take a negative second (from 1970 on) with
/// a millisecond or more for the second before; so writers give the second after. The second before 1970 then comes out
/// as the one after it: no ORC file can hold it.
fn timestamp(micros: i64) -> (i64, i64) {
    /// 1 January 2015, 00:00 UTC.
    const BASE_SECONDS: i64 = 1_420_070_400;
    let (second, nano) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000) * 1000);
    let second = if second < 0 && nano > 999_999 { second + 1 } else { second };
    (second - BASE_SECONDS, short_nanos(nano))
}

/// Nanoseconds without their last zeros, whose number less one stands in the last three bits if there are two or more.
fn short_nanos(nanos: i64) -> i64 {
    if nanos == 0 || nanos % 100 != 0 {
        return nanos << 3;
    }
    let (mut digits, mut zeros) = (nanos / 100, 1);
    while digits % 10 == 0 && zeros < 7 {
        digits /= 10;
        zeros += 1;
    }
    digits << 3 | zeros
}

/// The rows are made for the columns of the same schema, so this does not happen.
fn unlike() -> EncodeError {
    EncodeError::of("the rows are not of the columns of the file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_are_those_of_the_specification() {
        assert_eq!((short_nanos(0), short_nanos(1000), short_nanos(100_000)), (0, 0x0a, 0x0c));
        assert_eq!(short_nanos(123_456_789), 123_456_789 << 3);
    }

    #[test]
    fn a_negative_second_with_milliseconds_is_the_one_after() {
        assert_eq!(timestamp(1_420_070_400_000_000), (0, 0));
        assert_eq!(timestamp(-1_500_000).0 + 1_420_070_400, -1);
        assert_eq!(timestamp(-2_000_000).0 + 1_420_070_400, -2);
    }
}
