//! `orc`: rows -> an ORC file (version 0.12, "ORCv1" of the format's specification).
//!
//! The columns of a stripe gather encoded and leave compressed when they are large enough, with a row index, statistics
//! and dictionaries as Hive's writer makes them, which is Firehose's. What is held is bounded in bytes.
//! Written by ourselves: the one library there is (orc-rust) writes neither compression nor dates, timestamps, decimals
//! and nested types in the version for our Arrow, has no statistics and no index, and panics at what it lacks.
//!
//! Timestamps are of the type without a zone, with the writer's zone UTC: Athena, Hive and Spark show them as UTC.
//! Not written: bloom filters, padding to blocks of HDFS, format 0.11.
//!
//! Never here: what becomes a row (`rows.rs`), and what a value becomes in a column (`column.rs` beside this file).

use arrow_array::{Array, RecordBatch, StructArray};
use arrow_schema::DataType;
use bytes::Bytes;

use crate::encode::EncodeError;
use crate::parts::Parts;
use crate::rows::Table;
use crate::schema::Columns;

mod column;
mod pack;
mod proto;
mod rle;
mod statistics;
mod text;

use column::{ColumnWriter, Finished, StreamKind};
use pack::{CHUNK_BYTES, Packed, Packer};
use proto::Message;
use statistics::Statistics;

/// What every ORC file begins with, and its postscript ends with.
const MAGIC: &[u8] = b"ORC";

/// How the streams of an ORC file are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OrcCompression {
    /// Not at all (Firehose's NONE).
    None,
    /// zlib.
    Zlib,
    /// Snappy, Firehose's default.
    #[default]
    Snappy,
    /// Zstandard, level 1: readers since ORC 1.5. Firehose has none.
    Zstd,
}

/// How an ORC file is made: those of Firehose's OrcSerDe that change it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OrcOptions {
    /// Compression.
    pub compression: OrcCompression,
    /// Bytes of encoded columns, before they are compressed, that end a stripe (StripeSizeBytes): held in memory.
    pub stripe_bytes: usize,
    /// Rows of an entry of the index (RowIndexStride).
    pub row_index_stride: usize,
    /// The most distinct values of a hundred for which a column of strings has a dictionary (DictionaryKeyThreshold, as
    /// percent): 0 is never, 100 always.
    pub dictionary_threshold_percent: u8,
}

impl OrcOptions {
    /// The smallest stripe that Firehose allows.
    pub const STRIPE_BYTES_MIN: usize = 8 << 20;
    /// The smallest stride that Firehose allows.
    pub const ROW_INDEX_STRIDE_MIN: usize = 1000;
}

impl Default for OrcOptions {
    /// Firehose's.
    fn default() -> Self {
        Self {
            compression: OrcCompression::default(),
            stripe_bytes: 64 << 20,
            row_index_stride: 10_000,
            dictionary_threshold_percent: 80,
        }
    }
}

/// Whether ORC files can have these columns; the first that they cannot is named.
pub fn orc_supports(columns: &Columns) -> Result<(), String> {
    fn supported(kind: &DataType) -> bool {
        column::orc_type(kind).is_some() && column::within(kind).into_iter().all(supported)
    }
    match columns.as_slice().iter().find(|column| !supported(&column.kind.data_type())) {
        Some(column) => Err(format!("column `{}` of the type {} cannot be written to ORC", column.name, column.kind)),
        None => Ok(()),
    }
}

/// One ORC file.
pub(crate) struct OrcFile {
    options: OrcOptions,
    packer: Packer,
    /// The type of the rows.
    kind: DataType,
    root: ColumnWriter,
    /// Rows of the stripe that is being made, and of its last row group.
    stripe_rows: usize,
    group_rows: usize,
    stripes: Vec<Stripe>,
    /// Of the columns of the stripes before, by number.
    statistics: Vec<Statistics>,
    /// Bytes of the file so far.
    written: u64,
    parts: Parts,
}

/// A stripe in the file.
struct Stripe {
    /// `StripeInformation` of orc_proto.proto.
    information: Message,
    /// `StripeStatistics`.
    statistics: Message,
    rows: u64,
}

impl OrcFile {
    pub(crate) fn new(columns: &Columns, options: &OrcOptions) -> Result<Self, EncodeError> {
        let kind = DataType::Struct(columns.arrow_schema().fields);
        let root = ColumnWriter::new(&kind, options.dictionary_threshold_percent)?;
        let mut parts = Parts::default();
        parts.extend(MAGIC);
        Ok(Self {
            // The stride is an `int` of Java's, and no row group is without rows.
            options: OrcOptions {
                row_index_stride: options.row_index_stride.clamp(1, i32::MAX as usize),
                ..options.clone()
            },
            packer: Packer::new(options.compression)?,
            kind,
            root,
            stripe_rows: 0,
            group_rows: 0,
            stripes: Vec::new(),
            statistics: Vec::new(),
            written: MAGIC.len() as u64,
            parts,
        })
    }

    /// Ends the stripe: index, data, footer.
    fn finish_stripe(&mut self) -> Result<(), EncodeError> {
        if self.group_rows > 0 {
            self.root.end_group();
            self.group_rows = 0;
        }
        let mut columns = Vec::new();
        self.root.finish(&mut columns);
        let mut footer = Footer::default();
        let (mut index, mut data) = (Vec::new(), Vec::new());
        let mut statistics = Vec::new();
        for (number, column) in columns.into_iter().enumerate() {
            footer.encodings.push(column.encoding.message());
            statistics.push(stripe_statistics(&column));
            let mut packed = Vec::new();
            for (kind, stream) in column.streams {
                packed.push((kind, self.packer.pack(stream)?));
            }
            let entries = column.groups.iter().map(|group| {
                let places = group.marks.iter().zip(&packed);
                let positions = places.flat_map(|(mark, (_, stream))| stream.position(*mark));
                Message::default().packed(1, positions).message(2, &group.statistics.message())
            });
            let entries = Message::default().messages(1, entries);
            let entries = self.packer.pack(entries.as_slice().to_vec())?;
            footer.index.push(stream_message(StreamKind::RowIndex, number, &entries));
            index.extend_from_slice(&entries.bytes);
            for (kind, stream) in packed {
                footer.data.push(stream_message(kind, number, &stream));
                data.push(stream.bytes);
            }
        }
        let data_bytes: usize = data.iter().map(Vec::len).sum();
        let footer = self.packer.pack(footer.message().as_slice().to_vec())?.bytes;
        let rows = std::mem::take(&mut self.stripe_rows) as u64;
        let lengths = [self.written, index.len() as u64, data_bytes as u64, footer.len() as u64, rows];
        let information = (1..).zip(lengths).fold(Message::default(), |all, (field, number)| all.uint(field, number));
        self.write(&index);
        data.iter().for_each(|stream| self.write(stream));
        self.write(&footer);
        let messages = Message::default().messages(1, statistics.iter().map(Statistics::message));
        self.stripes.push(Stripe { information, statistics: messages, rows });
        if self.statistics.is_empty() {
            self.statistics = statistics;
        } else {
            self.statistics.iter_mut().zip(&statistics).for_each(|(all, stripe)| all.merge(stripe));
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) {
        self.written += bytes.len() as u64;
        self.parts.extend(bytes);
    }

    /// `Metadata`, `Footer` and `PostScript`, and the postscript's length.
    fn write_tail(&mut self) -> Result<(), EncodeError> {
        let content_bytes = self.written;
        let metadata = Message::default().messages(1, self.stripes.iter().map(|stripe| stripe.statistics.clone()));
        let metadata = self.packer.pack(metadata.as_slice().to_vec())?.bytes;
        let mut types = Vec::new();
        put_types(&self.kind, &mut types);
        let footer = Message::default()
            .uint(1, MAGIC.len() as u64)
            .uint(2, content_bytes)
            .messages(3, self.stripes.iter().map(|stripe| stripe.information.clone()))
            .messages(4, types)
            .uint(6, self.stripes.iter().map(|stripe| stripe.rows).sum())
            .messages(7, self.statistics.iter().map(Statistics::message))
            .uint(8, self.options.row_index_stride as u64)
            .uint(11, PROLEPTIC_GREGORIAN)
            .bytes(12, concat!("standpipe ", env!("CARGO_PKG_VERSION")).as_bytes());
        let footer = self.packer.pack(footer.as_slice().to_vec())?.bytes;
        let compression = match self.options.compression {
            OrcCompression::None => 0,
            OrcCompression::Zlib => 1,
            OrcCompression::Snappy => 2,
            OrcCompression::Zstd => 5,
        };
        let postscript = Message::default()
            .uint(1, footer.len() as u64)
            .uint(2, compression)
            .uint(3, CHUNK_BYTES as u64)
            .packed(4, [0, 12])
            .uint(5, metadata.len() as u64)
            .uint(6, WRITER_VERSION)
            .bytes(8000, MAGIC);
        self.write(&metadata);
        self.write(&footer);
        self.write(postscript.as_slice());
        self.write(&[postscript.as_slice().len() as u8]);
        Ok(())
    }
}

/// Of Java's writer, which a file without a number of its own program is taken for: the version that has the bounds of
/// timestamps in UTC (ORC-135). No number is ours, and there are readers that refuse one that they do not know.
const WRITER_VERSION: u64 = 6;

/// `CalendarKind`: days before October 1582 are not Julius Caesar's, as Java's readers take them for otherwise.
const PROLEPTIC_GREGORIAN: u64 = 2;

impl Table for OrcFile {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), EncodeError> {
        let rows = StructArray::from(batch.clone());
        let mut from = 0;
        while from < rows.len() {
            if self.group_rows == 0 {
                self.root.begin_group();
            }
            let room = self.options.row_index_stride - self.group_rows;
            let to = rows.len().min(from + room);
            self.root.write(&rows, &(from..to).collect::<Vec<_>>())?;
            self.stripe_rows += to - from;
            self.group_rows += to - from;
            from = to;
            if self.group_rows == self.options.row_index_stride {
                self.root.end_group();
                self.group_rows = 0;
            }
            if self.root.bytes() >= self.options.stripe_bytes {
                self.finish_stripe()?;
            }
        }
        Ok(())
    }

    fn take(&mut self) -> Option<Bytes> {
        self.parts.take()
    }

    fn finish(mut self) -> Result<Vec<Bytes>, EncodeError> {
        if self.stripe_rows > 0 {
            self.finish_stripe()?;
        }
        if self.statistics.is_empty() {
            // A file without rows has statistics of its columns all the same.
            let mut columns = Vec::new();
            self.root.finish(&mut columns);
            self.statistics = columns.iter().map(|column| column.none.clone()).collect();
        }
        self.write_tail()?;
        Ok(self.parts.finish())
    }
}

/// The streams of a stripe and the encodings of its columns: `StripeFooter`.
#[derive(Default)]
struct Footer {
    index: Vec<Message>,
    data: Vec<Message>,
    encodings: Vec<Message>,
}

impl Footer {
    fn message(self) -> Message {
        let streams = self.index.into_iter().chain(self.data);
        Message::default().messages(1, streams).messages(2, self.encodings).bytes(3, b"UTC")
    }
}

fn stream_message(kind: StreamKind, column: usize, stream: &Packed) -> Message {
    Message::default().uint(1, kind as u64).uint(2, column as u64).uint(3, stream.bytes.len() as u64)
}

fn stripe_statistics(column: &Finished) -> Statistics {
    column.groups.iter().fold(column.none.clone(), |mut all, group| {
        all.merge(&group.statistics);
        all
    })
}

/// `Type` of a column and of those within it, each after the one that holds it.
fn put_types(kind: &DataType, types: &mut Vec<Message>) {
    let own = types.len();
    types.push(Message::default());
    let mut subtypes = Vec::new();
    for kind in column::within(kind) {
        subtypes.push(types.len() as u64);
        put_types(kind, types);
    }
    let mut message = Message::default().uint(1, column::orc_type(kind).unwrap_or_default()).packed(2, subtypes);
    match kind {
        DataType::Struct(fields) => {
            message = fields.iter().fold(message, |all, field| all.bytes(3, field.name().as_bytes()));
        }
        DataType::Decimal128(precision, scale) => {
            message = message.uint(5, u64::from(*precision)).uint(6, scale.unsigned_abs().into());
        }
        _ => (),
    }
    types[own] = message;
}

#[cfg(test)]
mod tests;
