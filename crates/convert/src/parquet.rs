//! `parquet`: rows -> a Parquet file.
//!
//! Batches of rows become encoded pages of a row group, which leaves as parts when it is large enough; what is held is
//! bounded in bytes.
//!
//! Never here: what becomes a row (`rows.rs`), and what a value becomes in a column (`column.rs`).

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{SchemaRef, TimeUnit};
use bytes::Bytes;
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, Type as PhysicalType, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;

use crate::encode::EncodeError;
use crate::parts::Parts;
use crate::rows::Table;
use crate::schema::Columns;

mod int96;

use int96::Int96Leaf;

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

/// The version of the form of a Parquet file (WriterVersion).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ParquetVersion {
    /// Data pages of version 1, encodings of version 1.0: Firehose's default, and what every reader knows.
    #[default]
    V1,
    /// Data pages of version 2, with the delta encodings.
    V2,
}

/// How timestamps stand in a Parquet file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ParquetTimestamps {
    /// INT64, TIMESTAMP_MICROS of UTC. Firehose writes INT96, which the format's specification has deprecated, for which
    /// readers keep no statistics, and which some read as nanoseconds of the years 1677 to 2262 alone.
    #[default]
    Micros,
    /// INT64, TIMESTAMP_MILLIS of UTC. What a record has beyond milliseconds is cut off.
    Millis,
    /// INT96, as Firehose.
    Int96,
}

impl ParquetTimestamps {
    /// The unit of the arrays that are written.
    pub(crate) fn unit(self) -> TimeUnit {
        if self == Self::Millis { TimeUnit::Millisecond } else { TimeUnit::Microsecond }
    }
}

/// How a Parquet file is made: the options of Firehose's ParquetSerDe. MaxPaddingBytes is not among them: padding aligns
/// row groups with the blocks of HDFS, and S3 has none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ParquetOptions {
    /// Compression of the pages.
    pub compression: ParquetCompression,
    /// EnableDictionaryCompression: values that come again are written once a row group.
    pub dictionary: bool,
    /// PageSizeBytes: bytes of values before they are compressed.
    pub page_bytes: usize,
    /// BlockSizeBytes: bytes of encoded pages that are held until they become a row group. About: it is looked at after
    /// some thousand rows.
    pub row_group_bytes: usize,
    /// WriterVersion.
    pub version: ParquetVersion,
    /// What timestamps are.
    pub timestamps: ParquetTimestamps,
}

impl ParquetOptions {
    /// The smallest page that Firehose allows.
    pub const PAGE_BYTES_MIN: usize = 64 << 10;
    /// The smallest row group that Firehose allows.
    pub const ROW_GROUP_BYTES_MIN: usize = 64 << 20;
}

impl Default for ParquetOptions {
    /// Firehose's, but for dictionaries, which make files smaller, timestamps, and row groups, of which Firehose's have
    /// 256 MiB: an object that is being encoded holds one in memory.
    fn default() -> Self {
        Self {
            compression: ParquetCompression::default(),
            dictionary: true,
            page_bytes: 1 << 20,
            row_group_bytes: 128 << 20,
            version: ParquetVersion::default(),
            timestamps: ParquetTimestamps::default(),
        }
    }
}

/// One Parquet file.
pub(crate) struct ParquetFile {
    file: SerializedFileWriter<Parts>,
    columns: ArrowRowGroupWriterFactory,
    schema: SchemaRef,
    /// The columns of the row group that is being made; none before its first batch.
    group: Vec<LeafWriter>,
    row_group_bytes: usize,
}

/// A column of a row group that holds values.
enum LeafWriter {
    Arrow(Box<ArrowColumnWriter>),
    /// The library writes no arrays as INT96.
    Int96(Int96Leaf),
}

impl ParquetFile {
    pub(crate) fn new(columns: &Columns, options: &ParquetOptions) -> Result<Self, EncodeError> {
        Self::open(columns, options).map_err(EncodeError::of)
    }

    fn open(columns: &Columns, options: &ParquetOptions) -> Result<Self, ParquetError> {
        let schema = Arc::new(columns.arrow_schema_in(options.timestamps.unit()));
        let mut root = ArrowSchemaConverter::new().convert(&schema)?.root_schema_ptr();
        if options.timestamps == ParquetTimestamps::Int96 {
            root = int96::with_int96(&root)?;
        }
        let file = SerializedFileWriter::new(Parts::default(), root, Arc::new(properties(options)))?;
        let columns = ArrowRowGroupWriterFactory::new(&file, schema.clone());
        Ok(Self { file, columns, schema, group: Vec::new(), row_group_bytes: options.row_group_bytes })
    }

    fn append(&mut self, batch: &RecordBatch) -> Result<(), ParquetError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if self.group.is_empty() {
            let writers = self.columns.create_column_writers(self.file.flushed_row_groups().len())?;
            let leaves = writers.into_iter().zip(self.file.schema_descr().columns());
            self.group = leaves.map(|(writer, leaf)| LeafWriter::new(writer, leaf.physical_type())).collect();
        }
        let mut writers = self.group.iter_mut();
        for (field, array) in self.schema.fields().iter().zip(batch.columns()) {
            for leaf in compute_leaves(field, array)? {
                if let Some(LeafWriter::Arrow(writer)) = writers.next() {
                    writer.write(&leaf)?;
                }
            }
        }
        let mut times = self.group.iter_mut().filter_map(LeafWriter::int96);
        int96::append(batch, &mut times);
        if self.group.iter().map(LeafWriter::memory_bytes).sum::<usize>() >= self.row_group_bytes {
            self.end_group()?;
        }
        Ok(())
    }

    fn end_group(&mut self) -> Result<(), ParquetError> {
        if self.group.is_empty() {
            return Ok(());
        }
        let mut group = self.file.next_row_group()?;
        for writer in self.group.drain(..) {
            match writer {
                LeafWriter::Arrow(writer) => writer.close()?.append_to_row_group(&mut group)?,
                LeafWriter::Int96(leaf) => leaf.write(&mut group)?,
            }
        }
        group.close()?;
        Ok(())
    }
}

impl LeafWriter {
    fn new(writer: ArrowColumnWriter, physical: PhysicalType) -> Self {
        if physical == PhysicalType::INT96 { Self::Int96(Int96Leaf::default()) } else { Self::Arrow(Box::new(writer)) }
    }

    fn int96(&mut self) -> Option<&mut Int96Leaf> {
        if let Self::Int96(leaf) = self { Some(leaf) } else { None }
    }

    fn memory_bytes(&self) -> usize {
        match self {
            Self::Arrow(writer) => writer.memory_size(),
            Self::Int96(leaf) => leaf.memory_bytes(),
        }
    }
}

impl Table for ParquetFile {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), EncodeError> {
        self.append(batch).map_err(EncodeError::of)
    }

    fn take(&mut self) -> Option<Bytes> {
        self.file.inner_mut().take()
    }

    fn finish(mut self) -> Result<Vec<Bytes>, EncodeError> {
        self.end_group().map_err(EncodeError::of)?;
        Ok(self.file.into_inner().map_err(EncodeError::of)?.finish())
    }
}

/// Pages have at most 20,000 rows, dictionaries at most 1 MiB, pages statistics: the library's defaults. A row group ends
/// by bytes, not by rows.
fn properties(options: &ParquetOptions) -> WriterProperties {
    let compression = match options.compression {
        ParquetCompression::None => Compression::UNCOMPRESSED,
        ParquetCompression::Snappy => Compression::SNAPPY,
        ParquetCompression::Gzip => Compression::GZIP(Default::default()),
        ParquetCompression::Zstd => Compression::ZSTD(ZstdLevel::default()),
    };
    let version = match options.version {
        ParquetVersion::V1 => WriterVersion::PARQUET_1_0,
        ParquetVersion::V2 => WriterVersion::PARQUET_2_0,
    };
    WriterProperties::builder()
        .set_compression(compression)
        .set_dictionary_enabled(options.dictionary)
        .set_data_page_size_limit(options.page_bytes)
        .set_writer_version(version)
        .set_max_row_group_row_count(None)
        // The form `<application> version <version>` is what readers parse.
        .set_created_by(concat!("standpipe version ", env!("CARGO_PKG_VERSION")).to_owned())
        .build()
}

#[cfg(test)]
mod tests;
