//! Implements, of the arrow `what the user wrote -> what it means`: the left side of a `redshift` destination.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Deserialize;

use super::s3::{BackupFile, BufferFile, DeserializerFile, EncryptionFile, ParquetFile, SchemaFile};
use super::words_or_settings;
use crate::decode::Located;
use crate::text::{
    AccountText, BucketText, CopyOptionsText, DestinationIdText, DurationText, JqText, NameText, PrefixText,
    RegionText, RoleText, TableNameText,
};

/// Rows in a table of Amazon Redshift, loaded by COPY from staged objects, every record exactly once.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Redshift")]
pub(crate) struct RedshiftFile {
    /// The name of this destination's position in the lease table; it must stay as long as the destination does.
    /// Default: the kind, `redshift`.
    #[schemars(extend("default" = "redshift"))]
    pub(crate) id: Option<Located<DestinationIdText>>,
    /// The workgroup of Redshift Serverless; either this or `cluster`.
    pub(crate) workgroup: Option<Located<NameText>>,
    /// The identifier of a provisioned cluster; either this or `workgroup`.
    pub(crate) cluster: Option<Located<NameText>>,
    /// The database.
    pub(crate) database: Located<NameText>,
    /// As whom statements run. Default: the IAM identity of this process.
    pub(crate) auth: Option<Located<AuthFile>>,
    /// Where objects lie between this process and COPY. They are not deleted: a rule of the bucket does that.
    pub(crate) staging: StagingFile,
    /// What COPY is told.
    pub(crate) copy: CopyFile,
    /// What a staged object holds. `json_lines`: one JSON object a record. `csv`: lines of comma-separated values, as
    /// `json_to_csv` makes them. `parquet`: a table, from records that are JSON objects. Default json_lines.
    #[schemars(extend("default" = "json_lines"))]
    pub(crate) format: Option<Located<LoadFormatFile>>,
    /// The columns of a table; needed for parquet, in the order of the table's or of `copy.columns`.
    pub(crate) schema: Option<Located<SchemaFile>>,
    /// How a JSON object becomes a row of a table. Default `openx`.
    #[schemars(extend("default" = "openx"))]
    pub(crate) deserializer: Option<Located<DeserializerFile>>,
    /// When a load is made: at this size or after this time. Loads into one table follow each other.
    pub(crate) buffer: Option<BufferFile>,
    /// How long one load may be refused.
    pub(crate) retry: Option<RetryFile>,
    /// A jq program that says of each record whether this destination gets it: its first output is neither false nor null.
    /// Default: every record.
    pub(crate) when: Option<Located<JqText>>,
    /// The beginning of the keys of objects of records that could not be delivered, in the staging bucket, with
    /// `!{firehose:error-output-type}` and `!{timestamp:PATTERN}`. Default:
    /// `<staging.prefix>errors/<error-output-type>/yyyy/MM/dd/HH/`.
    pub(crate) error_prefix: Option<Located<PrefixText>>,
    /// The records as they were read, beside what is made of them.
    pub(crate) backup: Option<Located<BackupFile>>,
}

/// As whom statements run; exactly one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "RedshiftAuth")]
pub(crate) enum AuthFile {
    /// The name or ARN of a secret of Secrets Manager with user and password. It is never read here: Redshift reads it.
    Secretsmanager(Located<NameText>),
    /// A database user of a provisioned cluster, by temporary credentials.
    Iam(IamFile),
}

/// A database user, by temporary credentials.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RedshiftIam")]
pub(crate) struct IamFile {
    /// The user.
    pub(crate) db_user: Located<NameText>,
}

/// Where objects lie between this process and COPY.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RedshiftStaging")]
pub(crate) struct StagingFile {
    /// The bucket's name or ARN.
    pub(crate) bucket: Located<BucketText>,
    /// The beginning of the keys, without any expression; `yyyy/MM/dd/HH/` is put behind it.
    pub(crate) prefix: Option<Located<PrefixText>>,
    /// The compression of json_lines and csv: none, gzip or zstd. Default none.
    #[schemars(extend("default" = "none"))]
    pub(crate) compression: Option<Located<StagingCompression>>,
    /// The bucket's region where it is not that of the table: COPY is told it. Not for parquet.
    pub(crate) region: Option<Located<RegionText>>,
    /// How objects are encrypted. Default: as the bucket says.
    pub(crate) encryption: Option<EncryptionFile>,
    /// The account that must own the bucket. Default: not asked.
    pub(crate) bucket_owner: Option<Located<AccountText>>,
}

/// The compression of staged objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum StagingCompression {
    /// As they are.
    #[default]
    None,
    /// Gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// What COPY is told.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RedshiftCopy")]
pub(crate) struct CopyFile {
    /// The table, `schema.table` or a table of `public`. A name of other than letters, digits, `_` and `$` stands in double
    /// quotes; one without them means its small letters, as in SQL.
    pub(crate) table: Located<TableNameText>,
    /// The columns that are loaded. Default: all, in the order of the table.
    pub(crate) columns: Option<Vec<Located<TableNameText>>>,
    /// The role with which Redshift reads the staging bucket, or several, chained by commas. Default: the cluster's or
    /// workgroup's own default role.
    pub(crate) role: Option<Located<RoleText>>,
    /// Further options of COPY, such as `TIMEFORMAT 'auto' MAXERROR 10`. Default: `JSON 'auto'` for json_lines, none
    /// otherwise. What is said elsewhere (where the objects are, as whom they are read, their compression) is refused here.
    pub(crate) options: Option<Located<CopyOptionsText>>,
}

/// How long one load may be refused.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RedshiftRetry")]
pub(crate) struct RetryFile {
    /// How long Redshift may refuse one load before it is given up: its manifest is then written under `errors/manifests/`,
    /// and delivery goes on. Time in which Redshift cannot be reached does not count. Default 1h, `0s` gives up at once.
    #[serde(rename = "for")]
    #[schemars(extend("default" = "1h"))]
    pub(crate) duration: Option<Located<DurationText>>,
}

/// What a staged object holds: a word, or a word with its settings.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LoadFormatFile {
    JsonLines,
    Csv,
    Parquet(Option<Box<ParquetFile>>),
}

impl JsonSchema for LoadFormatFile {
    fn schema_name() -> Cow<'static, str> {
        "LoadFormat".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let parquet = generator.subschema_for::<ParquetFile>();
        words_or_settings(&["json_lines", "csv", "parquet"], &[("parquet", parquet)])
    }
}
