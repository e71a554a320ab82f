//! The contract of an encoder, and the formats of the config.
//!
//! Invariants: every record pushed is either accepted (it is in the object) or returned as rejected, never both; the
//! encoder holds at most one row group, stripe, gzip member or part at a time as long as its parts are taken.
//! An object whose encoder reported an [`EncodeError`] is thrown away whole.
//!
//! Never here: who stages the parts.

use arrow_schema::TimeUnit;
use bytes::Bytes;
use standpipe_flow::{LeaseKey, Record, RejectedRecord};

use crate::compress::Compression;
use crate::deserialize::CurrentRows;
use crate::lines::Lines;
use crate::no_columns::NoColumns;
use crate::orc::{OrcFile, OrcOptions};
use crate::parquet::{ParquetFile, ParquetOptions};
use crate::parts::PART_BYTES;
use crate::rows::{BATCH_LIMITS, Rows};

/// Encodes the records of ONE object.
pub trait Encode: Send {
    /// Takes one record, or returns it as one that the format cannot hold; nothing of a rejected record is in the
    /// object. After an [`EncodeError`] it does nothing.
    fn push(&mut self, lease: &LeaseKey, record: &Record) -> Result<(), Box<RejectedRecord>>;

    /// The next part of [`PART_BYTES`] bytes, if one is whole. Called after every push until it gives none, it bounds
    /// the encoder's memory. An error means that the object cannot be finished.
    fn take(&mut self) -> Result<Option<Bytes>, EncodeError>;

    /// Ends the object.
    fn finish(self: Box<Self>) -> Result<Encoded, EncodeError>;
}

/// The end of an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Encoded {
    /// The parts that were not taken: each of [`PART_BYTES`] bytes but the last. If no part was taken before, there is
    /// at least one, which may be empty.
    pub tail: Vec<Bytes>,
    /// Records in the object; a record that held several JSON documents counts once. 0: there is nothing to publish.
    pub records: u64,
}

/// An object that cannot be encoded, for a reason that lies in no record: out of memory, a limit of the format.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EncodeError {
    /// Throw the object away and deliver the batch again.
    #[error("the object cannot be encoded: {cause}")]
    Abandon {
        /// What the codec said.
        cause: String,
    },
}

impl EncodeError {
    pub(crate) fn of(cause: impl std::fmt::Display) -> Self {
        Self::Abandon { cause: cause.to_string() }
    }
}

/// What follows every record of an object of lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Delimiter {
    /// A line feed, unless the record ends in one. Firehose's AppendDelimiterToRecord, without its blank lines.
    #[default]
    Newline,
    /// Nothing: Firehose's default.
    None,
}

/// What the objects of a destination hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Format {
    /// The records one after the other, byte for byte.
    Raw,
    /// The records byte for byte, each on a line of its own; they are not parsed.
    JsonLines {
        /// What follows each.
        delimiter: Delimiter,
    },
    /// A Parquet file; each record is a JSON object, or several.
    Parquet {
        /// Its columns, and how records become rows.
        rows: CurrentRows,
        /// How it is made.
        options: ParquetOptions,
    },
    /// An ORC file; each record is a JSON object, or several.
    Orc {
        /// Its columns, which `orc_supports` says whether it can have, and how records become rows.
        rows: CurrentRows,
        /// How it is made.
        options: OrcOptions,
    },
}

impl Format {
    /// An encoder for one object. `compression` is that of raw and JSON lines; Parquet and ORC have their own.
    pub fn encoder(&self, compression: Compression) -> Box<dyn Encode> {
        match self {
            Self::Raw | Self::JsonLines { delimiter: Delimiter::None } => {
                Box::new(Lines::new(Delimiter::None, compression))
            }
            Self::JsonLines { delimiter: Delimiter::Newline } => Box::new(Lines::new(Delimiter::Newline, compression)),
            Self::Parquet { rows, options } => {
                let Some(rows) = rows.current() else { return Box::new(NoColumns) };
                let file = ParquetFile::new(rows.columns(), options);
                Box::new(Rows::new(&rows, options.timestamps.unit(), file, BATCH_LIMITS))
            }
            Self::Orc { rows, options } => {
                let Some(rows) = rows.current() else { return Box::new(NoColumns) };
                let file = OrcFile::new(rows.columns(), options);
                Box::new(Rows::new(&rows, TimeUnit::Microsecond, file, BATCH_LIMITS))
            }
        }
    }

    /// The rows, of a format that has columns.
    pub fn rows(&self) -> Option<&CurrentRows> {
        match self {
            Self::Raw | Self::JsonLines { .. } => None,
            Self::Parquet { rows, .. } | Self::Orc { rows, .. } => Some(rows),
        }
    }

    /// Columns of an encoder, nested ones counted too: each has buffers of its own, whatever is in them. 1 for lines.
    pub fn width(&self) -> usize {
        let rows = self.rows().and_then(CurrentRows::current);
        rows.map_or(1, |rows| rows.columns().arrow_schema().flattened_fields().len())
    }

    /// The extension that Firehose gives the object's name.
    pub fn extension(&self, compression: Compression) -> &'static str {
        match self {
            Self::Raw | Self::JsonLines { .. } => compression.extension(),
            Self::Parquet { .. } => ".parquet",
            Self::Orc { .. } => ".orc",
        }
    }

    /// The `Content-Encoding` of the object.
    pub fn content_encoding(&self, compression: Compression) -> Option<&'static str> {
        match self {
            Self::Raw | Self::JsonLines { .. } => compression.content_encoding(),
            // Firehose says `hadoop-snappy` here, of a body that is not encoded: whoever believes it cannot read it.
            Self::Parquet { .. } | Self::Orc { .. } => None,
        }
    }
}

/// What [`encode_all`] made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EncodedObject {
    /// Records in the object. 0: there is nothing to publish.
    pub records: u64,
    /// Bytes given to the sink.
    pub bytes: u64,
    /// Records that are not in it.
    pub rejected: Vec<RejectedRecord>,
}

/// Why [`encode_all`] stopped.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Stopped<E> {
    /// The object cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The sink takes no more.
    #[error("the parts are not taken any more")]
    Sink(E),
}

/// Encodes one whole object on the present thread, and gives `sink` each part as soon as it is whole. The sink may
/// block: then no more is encoded, and no more memory used.
pub fn encode_all<'a, E>(
    mut encoder: Box<dyn Encode>,
    records: impl IntoIterator<Item = (&'a LeaseKey, &'a Record)>,
    mut sink: impl FnMut(Bytes) -> Result<(), E>,
) -> Result<EncodedObject, Stopped<E>> {
    let mut rejected = Vec::new();
    let mut bytes = 0;
    let mut give = |part: Bytes| {
        debug_assert!(part.len() <= PART_BYTES);
        bytes += part.len() as u64;
        sink(part).map_err(Stopped::Sink)
    };
    for (lease, record) in records {
        if let Err(record) = encoder.push(lease, record) {
            rejected.push(*record);
        }
        while let Some(part) = encoder.take()? {
            give(part)?;
        }
    }
    let encoded = encoder.finish()?;
    for part in encoded.tail {
        give(part)?;
    }
    Ok(EncodedObject { records: encoded.records, bytes, rejected })
}
