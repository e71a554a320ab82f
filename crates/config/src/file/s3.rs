//! Implements, of the arrow `what the user wrote -> what it means`: the left side of an `s3` destination.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Named, words_or_settings};
use crate::decode::Located;
use crate::text::{
    AccountText, BucketText, ColumnsText, CountText, DestinationIdText, DurationText, ExtensionText, JqText,
    KmsKeyText, NameText, PathText, PrefixText, RegionText, SizeText, ValueText, ZoneText,
};

/// Objects in an S3 bucket.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "S3")]
pub(crate) struct S3File {
    /// The name of this destination's position in the lease table; it must stay as long as the destination does.
    /// Default: the kind, `s3`.
    #[schemars(extend("default" = "s3"))]
    pub(crate) id: Option<Located<DestinationIdText>>,
    /// The bucket's name or ARN.
    pub(crate) bucket: Located<BucketText>,
    /// The beginning of object keys, with `!{timestamp:PATTERN}` (a pattern of Java's DateTimeFormatter, of the oldest
    /// record), `!{firehose:random-string}`, `!{partitionKeyFromQuery:KEY}` and `!{partitionKeyFromLambda:KEY}`. Without any
    /// expression `yyyy/MM/dd/HH/` is put behind it.
    pub(crate) prefix: Option<Located<PrefixText>>,
    /// The same for records that could not be delivered, with `!{firehose:error-output-type}`. Default:
    /// `<prefix><error-output-type>/yyyy/MM/dd/HH/`; needed when `prefix` has an expression.
    pub(crate) error_prefix: Option<Located<PrefixText>>,
    /// What an object holds. `raw`: the records' bytes. `json_lines`: the same, each ended by a newline. `parquet` and
    /// `orc`: a table, from records that are JSON objects. Default json_lines.
    #[schemars(extend("default" = "json_lines"))]
    pub(crate) format: Option<Located<FormatFile>>,
    /// The compression of raw and json_lines. Default none. It costs CPU and saves storage.
    #[schemars(extend("default" = "none"))]
    pub(crate) compression: Option<Located<Compression>>,
    /// What ends a record: `newline` (default of json_lines) or `none` (default of raw).
    pub(crate) record_delimiter: Option<Located<RecordDelimiter>>,
    /// Replaces the end of object keys. Default: that of format and compression, such as `.parquet` or `.gz`.
    pub(crate) file_extension: Option<Located<ExtensionText>>,
    /// The columns of a table; needed for parquet and orc.
    pub(crate) schema: Option<Located<SchemaFile>>,
    /// When an object is made: at this size or after this time, whichever comes first.
    pub(crate) buffer: Option<BufferFile>,
    /// How objects are encrypted. Default: as the bucket says.
    pub(crate) encryption: Option<EncryptionFile>,
    /// When an upload has vanished between commit and publication: `replay` delivers its records again, `assume_published`
    /// takes the object for delivered and then deleted by a reader. Default replay.
    #[schemars(extend("default" = "replay"))]
    pub(crate) lost_object: Option<LostObject>,
    /// How a JSON object becomes a row of a table. Default `openx`, as with Firehose.
    #[schemars(extend("default" = "openx"))]
    pub(crate) deserializer: Option<Located<DeserializerFile>>,
    /// A jq program that says of each record whether this destination gets it: its first output is neither false nor null.
    /// Default: every record.
    pub(crate) when: Option<Located<JqText>>,
    /// The keys of partitions, each with a jq program over the record: `customer: .customer.id`. Every key stands in
    /// `prefix` as `!{partitionKeyFromQuery:KEY}`; an object holds records of one partition.
    pub(crate) partition_by: Option<PartitionBy>,
    /// What goes with partitions.
    pub(crate) partitions: Option<Located<PartitionsFile>>,
    /// Allows a prefix that begins with what a record says: then whoever writes records chooses where objects lie.
    /// Default false.
    #[schemars(extend("default" = false))]
    pub(crate) allow_unconfined_prefix: Option<bool>,
    /// The time zone of times in object keys. Default UTC.
    #[schemars(extend("default" = "UTC"))]
    pub(crate) time_zone: Option<Located<ZoneText>>,
    /// The account that must own the bucket: S3 refuses to write into one of anybody else. Default: not asked.
    pub(crate) bucket_owner: Option<Located<AccountText>>,
    /// The records as they were read, beside what is made of them.
    pub(crate) backup: Option<Located<BackupFile>>,
}

/// What an object holds: a word, or a word with its settings.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FormatFile {
    Raw,
    JsonLines,
    Parquet(Option<Box<ParquetFile>>),
    Orc(Option<OrcFile>),
}

impl JsonSchema for FormatFile {
    fn schema_name() -> Cow<'static, str> {
        "Format".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let parquet = generator.subschema_for::<ParquetFile>();
        let orc = generator.subschema_for::<OrcFile>();
        words_or_settings(&["raw", "json_lines", "parquet", "orc"], &[("parquet", parquet), ("orc", orc)])
    }
}

/// Settings of Parquet.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Parquet")]
pub(crate) struct ParquetFile {
    /// The compression of column pages. Default snappy; zstd is smaller and costs more CPU.
    #[schemars(extend("default" = "snappy"))]
    pub(crate) compression: Option<ParquetCompression>,
    /// Repeated values are written once a row group. Default true (Firehose: false); false costs storage.
    #[schemars(extend("default" = true))]
    pub(crate) dictionary: Option<bool>,
    /// Bytes of a page. Default 1MiB, at least 64KiB.
    #[schemars(extend("default" = "1MiB"))]
    pub(crate) page_size: Option<Located<SizeText>>,
    /// Bytes of a row group: what a reader takes at once, and a writer holds. Default 128MiB, at least 1MiB.
    #[schemars(extend("default" = "128MiB"))]
    pub(crate) row_group_size: Option<Located<SizeText>>,
    /// The version of the file's form: `v1`, which every reader knows, or `v2`. Default v1.
    #[schemars(extend("default" = "v1"))]
    pub(crate) version: Option<ParquetVersion>,
    /// How timestamps are stored. Default micros.
    #[schemars(extend("default" = "micros"))]
    pub(crate) timestamps: Option<ParquetTimestamps>,
}

/// The version of Parquet's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ParquetVersion {
    /// 1.0: every reader knows it.
    #[default]
    V1,
    /// 2.0.
    V2,
}

/// How Parquet stores timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ParquetTimestamps {
    /// 64 bits, microseconds since 1970.
    #[default]
    Micros,
    /// 64 bits, milliseconds since 1970.
    Millis,
    /// 96 bits, as Hive and Firehose write them: for readers that know nothing else.
    Int96,
}

/// Settings of ORC.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Orc")]
pub(crate) struct OrcFile {
    /// The compression of its streams. Default snappy.
    #[schemars(extend("default" = "snappy"))]
    pub(crate) compression: Option<OrcCompression>,
    /// Bytes of a stripe: what a reader takes at once, and a writer holds. Default 64MiB, at least 8MiB.
    #[schemars(extend("default" = "64MiB"))]
    pub(crate) stripe_size: Option<Located<SizeText>>,
    /// Rows of an entry of the index, by which readers skip. Default 10000, at least 1000.
    #[schemars(extend("default" = 10_000))]
    pub(crate) row_index_stride: Option<Located<CountText>>,
    /// The most distinct values of a hundred for which a column of strings has a dictionary: 0 is never, 100 always.
    /// Default 80.
    #[schemars(extend("default" = 80))]
    pub(crate) dictionary_threshold: Option<Located<CountText>>,
}

/// The compression of ORC's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum OrcCompression {
    /// Fast, Firehose's default.
    #[default]
    Snappy,
    /// Smaller, and costs more CPU.
    Zlib,
    /// Smaller, for readers of the last years.
    Zstd,
    /// As it is.
    None,
}

/// The compression of Parquet's pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ParquetCompression {
    /// Fast, Firehose's default.
    #[default]
    Snappy,
    /// Smaller, and costs more CPU.
    Zstd,
    /// For readers that know nothing else.
    Gzip,
    /// As it is.
    None,
}

/// The compression of a whole object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Compression {
    /// As it is.
    #[default]
    None,
    /// Gzip: `.gz`.
    Gzip,
    /// A ZIP archive of one file: `.zip`.
    Zip,
    /// Snappy in the stream that snappy-java writes, as Firehose does: `.snappy`.
    Snappy,
    /// Snappy in the blocks of Hadoop: `.snappy`.
    HadoopSnappy,
    /// Zstandard: `.zst`.
    Zstd,
}

/// What ends a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum RecordDelimiter {
    /// One `\n`.
    Newline,
    /// Nothing.
    None,
}

/// What is done when an upload has vanished between commit and publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum LostObject {
    /// Its records are delivered again: a repeat is better than a loss.
    #[default]
    Replay,
    /// It counts as published; for buckets whose readers delete objects.
    AssumePublished,
}

/// Where the columns of a table come from; exactly one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "TableSchema")]
pub(crate) enum SchemaFile {
    /// Names and types, as in Hive: `id bigint, total double, tags array<string>`. `standpipe infer FILE` prints it.
    Columns(Located<ColumnsText>),
    /// A file: a CREATE TABLE or column list of Hive, an Avro schema, an Arrow schema or a JSON Schema.
    File(Located<PathText>),
    /// A table of the Glue Data Catalog. Its columns are read at the start, and again while the program runs.
    Glue(Box<GlueFile>),
    /// Inferred from the first records that are delivered, then frozen once for all workers and for good. A field that
    /// none of these records has is left out from then on.
    Infer(InferFile),
}

/// How columns are inferred.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Infer")]
pub(crate) struct InferFile {
    /// The most records of the first batch that are looked at, spread over it evenly. Default 10000.
    #[schemars(extend("default" = 10_000))]
    pub(crate) sample: Option<Located<CountText>>,
}

/// A table of the Glue Data Catalog.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Glue")]
pub(crate) struct GlueFile {
    /// The database.
    pub(crate) database: Located<NameText>,
    /// The table.
    pub(crate) table: Located<NameText>,
    /// The catalog: the account that it belongs to. Default: the account of the credentials.
    pub(crate) catalog: Option<Located<AccountText>>,
    /// The region of the catalog. Default: `aws.region`.
    pub(crate) region: Option<Located<RegionText>>,
    /// The version of the table. Default `latest`, which follows every change.
    #[schemars(extend("default" = "latest"))]
    pub(crate) version: Option<Located<NameText>>,
}

/// How a JSON object becomes a row: a word, or a word with its settings.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DeserializerFile {
    Openx(Option<OpenxFile>),
    Hive(Option<HiveFile>),
}

impl JsonSchema for DeserializerFile {
    fn schema_name() -> Cow<'static, str> {
        "Deserializer".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let openx = generator.subschema_for::<OpenxFile>();
        let hive = generator.subschema_for::<HiveFile>();
        words_or_settings(&["openx", "hive"], &[("openx", openx), ("hive", hive)])
    }
}

/// The OpenX deserializer: takes what it can.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Openx")]
pub(crate) struct OpenxFile {
    /// Keys are compared, and keys of maps written, in small letters. Default true.
    #[schemars(extend("default" = true))]
    pub(crate) case_insensitive: Option<bool>,
    /// The column `a_b` takes the key `a.b`. Default false.
    #[schemars(extend("default" = false))]
    pub(crate) convert_dots_in_keys: Option<bool>,
    /// Columns whose key in the record has another name: `column: key`.
    pub(crate) column_keys: Option<Named<Located<NameText>>>,
}

/// The Hive deserializer: refuses what has another type.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Hive")]
pub(crate) struct HiveFile {
    /// Patterns of Joda-Time that timestamps are tried with, or `millis`. Default: as java.sql.Timestamp reads them.
    pub(crate) timestamp_formats: Option<Vec<Located<NameText>>>,
}

/// Keys with their programs.
pub(crate) type PartitionBy = Located<Named<Located<JqText>>>;

/// What goes with partitions.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Partitions")]
pub(crate) struct PartitionsFile {
    /// Partitions that are buffered at once; with one more, all are delivered. Looked at after each read, or each MiB of it
    /// where there are transforms, so one batch may have more. Below the number of partitions that live at the same time it
    /// makes very small objects. Default 5000.
    #[schemars(extend("default" = 5_000))]
    pub(crate) max_active: Option<Located<CountText>>,
    /// A record without a value for a key: `error` makes it an error record, as Firehose does; `default: VALUE` gives it
    /// one. Default error.
    #[schemars(extend("default" = "error"))]
    pub(crate) on_missing: Option<OnMissingFile>,
    /// How objects below 5 MiB become visible where a commit has more than 16 of them. `multipart`: as all others, each
    /// exactly once, with three requests. `put`: they are staged together under `standpipe-staging/` in the bucket, then
    /// written with one request each; a reader that deletes an object may see it again after a crash. Default multipart.
    #[schemars(extend("default" = "multipart"))]
    pub(crate) publish: Option<Publish>,
}

/// What becomes of a record without a value.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnMissingFile {
    #[default]
    Error,
    Default(Located<ValueText>),
}

impl JsonSchema for OnMissingFile {
    fn schema_name() -> Cow<'static, str> {
        "OnMissing".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let value = generator.subschema_for::<ValueText>();
        words_or_settings(&["error"], &[("default", value)])
    }
}

/// How many small objects become visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Publish {
    /// By completing an upload each.
    #[default]
    Multipart,
    /// By writing each from an object that holds the bytes of many.
    Put,
}

/// The records as they were read.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Backup")]
pub(crate) struct BackupFile {
    /// `all`: every record as it was read, beside its delivery. `failed_only`: records that could not be delivered, which an
    /// s3 destination always keeps under its `error_prefix`, so it is the same as `off`. Default all.
    #[schemars(extend("default" = "all"))]
    pub(crate) mode: Option<BackupMode>,
    /// The bucket's name or ARN; needed for all.
    pub(crate) bucket: Option<Located<BucketText>>,
    /// The beginning of the keys of backup objects. Without any expression `yyyy/MM/dd/HH/` is put behind it.
    pub(crate) prefix: Option<Located<PrefixText>>,
    /// The compression of backup objects. Default none.
    #[schemars(extend("default" = "none"))]
    pub(crate) compression: Option<Compression>,
    /// How backup objects are encrypted. Default: as the bucket says.
    pub(crate) encryption: Option<EncryptionFile>,
    /// The account that must own the bucket. Default: not asked.
    pub(crate) bucket_owner: Option<Located<AccountText>>,
}

/// Which records are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum BackupMode {
    /// All.
    #[default]
    All,
    /// Those that could not be delivered.
    FailedOnly,
    /// None.
    Off,
}

/// When an object is made.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Buffer")]
pub(crate) struct BufferFile {
    /// Bytes of records before compression that make one object. Default 5MiB; 128MiB with tables or partitions. At least
    /// 1MiB.
    pub(crate) size: Option<Located<SizeText>>,
    /// The age of the oldest record that makes an object. Default 5m; at most 5h; `0s` delivers without waiting and
    /// costs a commit for nearly every read.
    #[schemars(extend("default" = "5m"))]
    pub(crate) interval: Option<Located<DurationText>>,
}

/// How objects are encrypted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Encryption")]
pub(crate) struct EncryptionFile {
    /// A KMS key: alias, id or ARN. Each object costs a KMS request.
    pub(crate) kms: Located<KmsKeyText>,
}
