//! `parquet`: rows -> a Parquet file.
//!
//! Batches of rows become encoded pages of a row group, which leaves as parts when it is large enough; what is held is
//! bounded in bytes.
//!
//! Never here: what becomes a row (`rows.rs`), and what a value becomes in a column (`column.rs`).

use std::sync::Arc;

use arrow_array::RecordBatch;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::encode::EncodeError;
use crate::parts::Parts;
use crate::rows::Table;
use crate::schema::Columns;

/// Bytes of encoded pages that are held until they become a row group. Firehose's row groups (BlockSizeBytes) have
/// 256 MiB, and at least 64: the smaller, because each object that is being encoded holds one in memory.
const ROW_GROUP_BYTES: usize = 64 << 20;

/// How the pages of a Parquet file are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ParquetCompression {
    /// Not at all (Firehose's UNCOMPRESSED).
    None,
    /// Snappy, Firehose's default.
    #[default]
    Snappy,
    /// gzip.
    Gzip,
    /// Zstandard, level 1.
    Zstd,
}

/// One Parquet file.
pub(crate) struct ParquetFile {
    writer: ArrowWriter<Parts>,
    row_group_bytes: usize,
}

impl ParquetFile {
    pub(crate) fn new(columns: &Columns, compression: ParquetCompression) -> Result<Self, EncodeError> {
        Self::with_row_groups(columns, compression, ROW_GROUP_BYTES)
    }

    fn with_row_groups(
        columns: &Columns,
        compression: ParquetCompression,
        row_group_bytes: usize,
    ) -> Result<Self, EncodeError> {
        let schema = Arc::new(columns.arrow_schema());
        let options = ArrowWriterOptions::new()
            .with_properties(properties(compression))
            // Readers take the types from Parquet's own schema.
            .with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(Parts::default(), schema, options).map_err(EncodeError::of)?;
        Ok(Self { writer, row_group_bytes })
    }
}

impl Table for ParquetFile {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), EncodeError> {
        self.writer.write(batch).map_err(EncodeError::of)?;
        if self.writer.memory_size() >= self.row_group_bytes {
            self.writer.flush().map_err(EncodeError::of)?;
        }
        Ok(())
    }

    fn take(&mut self) -> Option<Bytes> {
        self.writer.inner_mut().take()
    }

    fn finish(self) -> Result<Vec<Bytes>, EncodeError> {
        Ok(self.writer.into_inner().map_err(EncodeError::of)?.finish())
    }
}

/// Parquet format version 1.0, pages of 1 MiB or 20,000 rows, dictionaries up to 1 MiB, statistics of every page:
/// the library's defaults, which are Firehose's (PageSizeBytes 1 MiB, WriterVersion V1) but for the dictionaries, that
/// make the files smaller. A row group ends by bytes, not by rows.
fn properties(compression: ParquetCompression) -> WriterProperties {
    let compression = match compression {
        ParquetCompression::None => Compression::UNCOMPRESSED,
        ParquetCompression::Snappy => Compression::SNAPPY,
        ParquetCompression::Gzip => Compression::GZIP(Default::default()),
        ParquetCompression::Zstd => Compression::ZSTD(ZstdLevel::default()),
    };
    WriterProperties::builder()
        .set_compression(compression)
        .set_max_row_group_row_count(None)
        // The form `<application> version <version>` is what readers parse.
        .set_created_by(concat!("standpipe version ", env!("CARGO_PKG_VERSION")).to_owned())
        .build()
}

#[cfg(test)]
mod tests;
