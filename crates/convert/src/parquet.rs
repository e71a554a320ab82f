//! `parquet`: JSON records -> rows -> a Parquet file.
//!
//! Every record is tried alone; one that is no row is rejected whole and leaves no trace in any column. A record that
//! holds several JSON documents is as many rows, or none. Rows gather as arrays of some thousand, then as encoded pages
//! of a row group, then leave as parts; each of the three is bounded in bytes.
//! The file depends on the records and the columns alone: no time, no random id.
//!
//! Never here: what a value becomes in a column (`column.rs`).

use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use standpipe_flow::{LeaseKey, Record, RejectedRecord};

use crate::column::{Cost, FieldBuilders};
use crate::encode::{Encode, EncodeError, Encoded};
use crate::failed::FORMAT_CONVERSION_FAILED;
use crate::fault::Fault;
use crate::json::{Cursor, Kind, documents};
use crate::parts::Parts;
use crate::schema::Columns;

/// When what has gathered goes on.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Rows of a batch of arrays; also the documents that one record may hold.
    batch_rows: usize,
    /// Bytes of a batch of arrays.
    batch_bytes: usize,
    /// Bytes of encoded pages that are held until they become a row group.
    row_group_bytes: usize,
}

/// Beyond some hundred rows a batch gains nothing; wide rows end it by bytes. Firehose's row groups (BlockSizeBytes)
/// have 256 MiB, and at least 64: the smaller, because each object that is being encoded holds one in memory.
const LIMITS: Limits = Limits { batch_rows: 8192, batch_bytes: 8 << 20, row_group_bytes: 64 << 20 };

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

/// The encoder of one Parquet file.
pub(crate) struct Rows {
    fields: FieldBuilders,
    width: usize,
    schema: SchemaRef,
    /// Rows in `fields`, and about how many bytes they take.
    rows: usize,
    bytes: usize,
    /// The error stays: a file that lacks rows must not be finished.
    writer: Result<ArrowWriter<Parts>, EncodeError>,
    records: u64,
    limits: Limits,
    /// The last message of a fault: a million records of one fault have one.
    said: Arc<str>,
}

impl Rows {
    pub(crate) fn new(columns: &Columns, compression: ParquetCompression) -> Self {
        Self::with_limits(columns, compression, LIMITS)
    }

    fn with_limits(columns: &Columns, compression: ParquetCompression, limits: Limits) -> Self {
        let schema = Arc::new(columns.arrow_schema());
        let fields = FieldBuilders::new(columns.as_slice());
        let options = ArrowWriterOptions::new()
            .with_properties(properties(compression))
            // Readers take the types from Parquet's own schema.
            .with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(Parts::default(), schema.clone(), options);
        let writer = writer.map_err(EncodeError::of);
        let width = fields.width();
        Self { fields, width, schema, rows: 0, bytes: 0, writer, records: 0, limits, said: "".into() }
    }

    /// Appends the rows of one record, all or none.
    fn push_record(&mut self, data: &[u8]) -> Result<(), Fault> {
        let mut cost = Cost::default();
        let mut rows = self.rows;
        let pushed = documents(data).and_then(|mut documents| {
            documents.try_for_each(|document| {
                if rows == self.rows + self.limits.batch_rows {
                    return Err(Fault::Documents { max: self.limits.batch_rows });
                }
                cost.add(self.width)?;
                let mut json = Cursor::new(document?);
                match json.kind()? {
                    Kind::Object => self.fields.push_object(&mut json, rows, &mut cost)?,
                    found => return Err(Fault::NotAnObject(found)),
                }
                rows += 1;
                Ok(())
            })
        });
        match pushed {
            Ok(()) => {
                self.rows = rows;
                self.bytes += cost.bytes;
            }
            Err(_) => self.fields.truncate(self.rows),
        }
        pushed
    }

    /// Hands the gathered rows to the writer, and ends its row group when it is large enough.
    fn write(&mut self) -> Result<(), EncodeError> {
        let Ok(writer) = &mut self.writer else { return Ok(()) };
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let arrays = self.fields.finish(rows).map_err(EncodeError::of)?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch =
            RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options).map_err(EncodeError::of)?;
        writer.write(&batch).map_err(EncodeError::of)?;
        if writer.memory_size() >= self.limits.row_group_bytes {
            writer.flush().map_err(EncodeError::of)?;
        }
        Ok(())
    }

    fn message(&mut self, fault: &Fault) -> Arc<str> {
        let message = fault.message();
        if *self.said != *message {
            self.said = message.into();
        }
        self.said.clone()
    }

    fn write_or_fail(&mut self) {
        if let Err(error) = self.write() {
            self.writer = Err(error);
        }
    }
}

impl Encode for Rows {
    fn push(&mut self, lease: &LeaseKey, record: &Record) -> Result<(), Box<RejectedRecord>> {
        if self.writer.is_err() {
            return Ok(());
        }
        if let Err(fault) = self.push_record(&record.data) {
            let message = self.message(&fault);
            let of = (lease, record);
            return Err(Box::new(RejectedRecord::of(of, FORMAT_CONVERSION_FAILED, fault.code(), message)));
        }
        self.records += 1;
        if self.rows >= self.limits.batch_rows || self.bytes >= self.limits.batch_bytes {
            self.write_or_fail();
        }
        Ok(())
    }

    fn take(&mut self) -> Result<Option<Bytes>, EncodeError> {
        match &mut self.writer {
            Ok(writer) => Ok(writer.inner_mut().take()),
            Err(error) => Err(error.clone()),
        }
    }

    fn finish(mut self: Box<Self>) -> Result<Encoded, EncodeError> {
        self.write_or_fail();
        let parts = self.writer?.into_inner().map_err(EncodeError::of)?;
        Ok(Encoded { tail: parts.finish(), records: self.records })
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
