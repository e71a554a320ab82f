//! `Batch (raw records) -> encoded bytes`: what one object of a destination holds.
//!
//! [`Format`] is what the config means; its encoder ([`Encode`]) takes the records of one object one by one and gives
//! the object's bytes as parts while they come, so that the memory of an object is bounded whatever its size. A record
//! that the format cannot hold is isolated as a `RejectedRecord` and never stops the others: for every encoder,
//! accepted + rejected = pushed. The bytes are a function of the records alone.
//!
//! Never here: I/O, tokio, a clock, threads, and who stages what.

mod column;
mod compress;
mod deserialize;
mod encode;
mod failed;
mod fault;
mod fields;
mod joda;
mod json;
mod json_scan;
mod json_text;
mod lines;
mod no_columns;
mod orc;
mod parquet;
mod parts;
mod rows;
mod scalar;
mod schema;
#[cfg(test)]
mod testing;

pub use crate::parquet::{ParquetCompression, ParquetOptions, ParquetTimestamps, ParquetVersion};
pub use compress::Compression;
pub use deserialize::{CurrentRows, Deserializer, Hive, OpenX, RowFormat, RowFormatError};
pub use encode::{Delimiter, Encode, EncodeError, Encoded, EncodedObject, Format, Stopped, encode_all};
pub use failed::{HTTP_ENDPOINT_FAILED, error_line, error_line_bytes};
pub use joda::{Joda, JodaError};
pub use orc::{OrcCompression, OrcOptions, orc_supports};
pub use parts::PART_BYTES;
pub use schema::{
    Column, ColumnType, Columns, GlueTable, Inference, Inferring, SampleError, Sampled, SchemaError, SourceError,
    Widening, sample,
};
