//! Implements, of the arrow `what the user wrote -> what it means`: the right side, with every default filled in, every
//! unit resolved and every name checked.
//!
//! Never: holds a place in a file, or a text that still has to be understood.

mod http_endpoint;
mod opensearch;
mod redshift;

use std::net::SocketAddr;
use std::time::Duration;

use standpipe_flow::DestinationId;

use crate::errors::ConfigErrors;
pub use crate::file::opensearch::Rotation;
pub use crate::file::redshift::StagingCompression;
pub use crate::file::s3::{
    Compression, LostObject, OrcCompression, ParquetCompression, ParquetTimestamps, ParquetVersion, Publish,
    RecordDelimiter,
};
pub use crate::file::transforms::Decompress;
pub use crate::file::{Deaggregate, HeartbeatMode, Logs, OnDestinationFailure, OutOfRange};
use crate::template::Template;
pub use crate::units::StartPosition;
pub use http_endpoint::HttpEndpoint;
pub use opensearch::{DocumentId, OpenSearch, OpenSearchAuth, Refused, RetryFor};
pub use redshift::{Copy, Redshift, RedshiftAuth, RedshiftFormat, RedshiftTarget, Staging};

/// What the program is to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Region and endpoints.
    pub aws: Aws,
    /// This process.
    pub worker: Worker,
    /// Where health, metrics and the status page are served; `None` for nowhere.
    pub http: Option<SocketAddr>,
    /// The form of the log on stderr.
    pub logs: Logs,
    /// The pipelines in the order of the files; at least one, each name and each lease table once.
    pub pipelines: Vec<Pipeline>,
    /// What is allowed and was probably not meant; to be shown to whoever wrote it.
    pub warnings: Option<ConfigErrors>,
}

/// Region and endpoints; what is `None` comes from the SDK's own chain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Aws {
    /// The region of everything whose ARN does not name one.
    pub region: Option<String>,
    /// Endpoint of Kinesis Data Streams, without a slash at its end.
    pub kinesis_endpoint: Option<String>,
    /// Endpoint of DynamoDB, without a slash at its end.
    pub dynamodb_endpoint: Option<String>,
    /// Endpoint of S3, without a slash at its end; path-style addresses go with it.
    pub s3_endpoint: Option<String>,
    /// Endpoint of Lambda, without a slash at its end.
    pub lambda_endpoint: Option<String>,
    /// Endpoint of Glue, without a slash at its end.
    pub glue_endpoint: Option<String>,
    /// Endpoint of Redshift's Data API, without a slash at its end.
    pub redshift_data_endpoint: Option<String>,
}

/// This process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// The name in the lease table; `None` for the host's name and a ULID.
    pub id: Option<String>,
    /// Bytes of all buffers together; `None` for 60% of the cgroup's limit.
    pub memory_bytes: Option<u64>,
    /// How long a drain may take.
    pub shutdown_grace: Duration,
}

/// One stream and where its records go.
#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline {
    /// `[a-z][a-z0-9-]{0,62}`; also the first part of object names.
    pub name: String,
    /// How the shards are shared out.
    pub lease: Lease,
    /// Where records come from.
    pub source: Kinesis,
    /// What is done to records before any destination sees them, in this order.
    pub transforms: Vec<Transform>,
    /// Where records go; at least one, each id once.
    pub destinations: Vec<Destination>,
    /// What a failing destination does to the others.
    pub on_destination_failure: OnDestinationFailure,
    /// Ids of destinations that were taken out, none of them in use.
    pub retired: Vec<DestinationId>,
}

/// How the shards of a pipeline are shared out among workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The DynamoDB table of leases; short enough for the name of the commit table to follow from it.
    pub table: String,
    /// A worker that is silent for this long has lost its leases.
    pub failover: Duration,
    /// How workers show that they are alive.
    pub heartbeat: HeartbeatMode,
    /// The most leases that one worker takes; `None` for no limit.
    pub leases_max: Option<u32>,
    /// Missing tables are made.
    pub create: bool,
}

/// A stream of Kinesis Data Streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kinesis {
    /// The stream.
    pub stream: Stream,
    /// Where reading begins the first time.
    pub start: StartPosition,
    /// How records are read.
    pub read: ReadMode,
    /// The time between reads of a shard that is caught up.
    pub poll: Duration,
    /// Whether KPL aggregates are taken apart.
    pub deaggregate: Deaggregate,
    /// What happens to sub-records outside their shard's hash range.
    pub out_of_range: OutOfRange,
}

/// How records are read from a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadMode {
    /// Polling, unless the consumer [`CONSUMER_DEFAULT`] is registered already.
    Auto,
    /// GetRecords.
    Polling,
    /// SubscribeToShard.
    EnhancedFanOut {
        /// The consumer's name.
        consumer: String,
    },
}

/// The name of the consumer where none is given.
pub const CONSUMER_DEFAULT: &str = "standpipe";

/// A stream by name, with what its ARN said if there was one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// The name alone.
    pub name: String,
    /// The ARN as it was written.
    pub arn: Option<String>,
    /// The region in the ARN.
    pub region: Option<String>,
    /// The account in the ARN.
    pub account: Option<String>,
}

impl Stream {
    /// The stream as it was written.
    #[must_use]
    pub fn shown(&self) -> &str {
        self.arn.as_deref().unwrap_or(&self.name)
    }
}

/// What is done to records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transform {
    /// They are unpacked.
    Decompress(Decompress),
    /// Envelopes of CloudWatch Logs.
    CloudwatchLogs {
        /// Only the messages of the log events go on.
        extract_message: bool,
    },
    /// JSON documents one after the other become a record each.
    SplitJson {
        /// The most records of one.
        max: usize,
    },
    /// What stands between delimiters becomes a record each.
    SplitDelimited(String),
    /// A line of text becomes a JSON object.
    Parse(Parse),
    /// A JSON object becomes a line of comma-separated values.
    JsonToCsv {
        /// The members of the object, in their order; at least one.
        columns: Vec<String>,
        /// What stands between values.
        delimiter: u8,
    },
    /// A jq program; it has been compiled once.
    Jq(String),
    /// A Lambda function.
    Lambda(Lambda),
}

/// What a line of text is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parse {
    /// Apache's common log format.
    ApacheCommon,
    /// Apache's combined log format.
    ApacheCombined,
    /// BSD syslog.
    SyslogRfc3164,
    /// Syslog of RFC 5424.
    SyslogRfc5424,
    /// An XML document.
    Xml,
    /// Comma-separated values.
    Csv {
        /// The names of the columns; `None`: the first line of each record has them.
        columns: Option<Vec<String>>,
        /// What stands between values.
        delimiter: u8,
        /// What stands around a value with delimiters within.
        quote: u8,
    },
    /// A regular expression with named groups; it has been compiled once.
    Regex(String),
}

/// A Lambda function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lambda {
    /// Its name or ARN, as written.
    pub function: String,
    /// How often a batch is tried again that the function failed.
    pub retries: u32,
    /// Bytes of records in one request.
    pub buffer_bytes: u64,
    /// How long records of a shard wait for more of them.
    pub buffer_interval: Duration,
}

/// A destination of a kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Destination {
    /// Objects in an S3 bucket.
    S3(Box<S3>),
    /// Rows in a table of Redshift.
    Redshift(Box<Redshift>),
    /// Documents in OpenSearch or Elasticsearch.
    OpenSearch(Box<OpenSearch>),
    /// Requests to an HTTP endpoint.
    Http(Box<HttpEndpoint>),
}

impl Destination {
    /// The id, which names its position in the lease table.
    #[must_use]
    pub fn id(&self) -> &DestinationId {
        match self {
            Self::S3(s3) => &s3.id,
            Self::Redshift(redshift) => &redshift.id,
            Self::OpenSearch(opensearch) => &opensearch.id,
            Self::Http(http) => &http.id,
        }
    }

    /// The kind, as it stands in the file.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::S3(_) => "s3",
            Self::Redshift(_) => "redshift",
            Self::OpenSearch(_) => "opensearch",
            Self::Http(_) => "http",
        }
    }

    /// The age of the oldest record that makes a commit.
    #[must_use]
    pub fn buffer_interval(&self) -> Duration {
        match self {
            Self::S3(s3) => s3.buffer_interval,
            Self::Redshift(redshift) => redshift.buffer_interval,
            Self::OpenSearch(opensearch) => opensearch.buffer_interval,
            Self::Http(http) => http.buffer_interval,
        }
    }

    /// The jq program that says which records it gets.
    #[must_use]
    pub fn when(&self) -> Option<&str> {
        match self {
            Self::S3(s3) => s3.when.as_deref(),
            Self::Redshift(redshift) => redshift.when.as_deref(),
            Self::OpenSearch(opensearch) => opensearch.when.as_deref(),
            Self::Http(http) => http.when.as_deref(),
        }
    }

    /// How its records are parted.
    #[must_use]
    pub fn partitions(&self) -> Option<&Partitions> {
        match self {
            Self::S3(s3) => s3.partitions.as_ref(),
            Self::Redshift(_) | Self::OpenSearch(_) | Self::Http(_) => None,
        }
    }

    /// Where its records are kept as they were read.
    #[must_use]
    pub fn backup(&self) -> Option<&Backup> {
        match self {
            Self::S3(s3) => s3.backup.as_ref(),
            Self::Redshift(redshift) => redshift.backup.as_ref(),
            Self::OpenSearch(opensearch) => opensearch.backup.as_ref(),
            Self::Http(http) => http.backup.as_ref(),
        }
    }

    /// The columns of what it writes, if that has columns.
    #[must_use]
    pub fn table(&self) -> Option<&Table> {
        match self {
            Self::S3(s3) => s3.format.table(),
            Self::Redshift(redshift) => match &redshift.format {
                RedshiftFormat::Parquet(parquet) => Some(&parquet.table),
                RedshiftFormat::JsonLines | RedshiftFormat::Csv => None,
            },
            Self::OpenSearch(_) | Self::Http(_) => None,
        }
    }

    /// The buckets that it writes to; the first is its own, if it has one.
    #[must_use]
    pub fn buckets(&self) -> Vec<&str> {
        let own = match self {
            Self::S3(s3) => Some(&s3.bucket),
            Self::Redshift(redshift) => Some(&redshift.staging.bucket),
            Self::OpenSearch(opensearch) => opensearch.refused.as_ref().map(|refused| &refused.bucket),
            Self::Http(http) => http.refused.as_ref().map(|refused| &refused.bucket),
        };
        own.map(String::as_str).into_iter().chain(self.backup().map(|backup| backup.bucket.as_str())).collect()
    }
}

/// Objects in an S3 bucket.
#[derive(Debug, Clone, PartialEq)]
pub struct S3 {
    /// The id, `s3` by default.
    pub id: DestinationId,
    /// The bucket's name.
    pub bucket: String,
    /// The beginning of the keys of data objects.
    pub prefix: Template,
    /// The beginning of the keys of error objects.
    pub error_prefix: Template,
    /// What an object holds.
    pub format: Format,
    /// The compression of the whole object; `None` with tables, which compress inside.
    pub compression: Compression,
    /// What ends a record; `None` with tables.
    pub record_delimiter: RecordDelimiter,
    /// The end of the keys of data objects, with its dot; may be empty.
    pub extension: String,
    /// Bytes of records before compression that make one object.
    pub buffer_bytes: u64,
    /// The age of the oldest record that makes an object; zero for no waiting.
    pub buffer_interval: Duration,
    /// The KMS key of the objects; `None` for what the bucket says.
    pub kms_key: Option<String>,
    /// What is done when an upload has vanished between commit and publication.
    pub lost_object: LostObject,
    /// A jq program that says which records this destination gets; `None` for all. It has been compiled once.
    pub when: Option<String>,
    /// How records are parted; the keys of both kinds are exactly those that the prefix names.
    pub partitions: Option<Partitions>,
    /// The time zone of times in keys, a name of the IANA database; `None` for UTC.
    pub time_zone: Option<String>,
    /// The account that must own the bucket.
    pub bucket_owner: Option<String>,
    /// Where records are kept as they were read; `None` for nowhere.
    pub backup: Option<Backup>,
}

/// How records are parted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partitions {
    /// Keys with their jq programs, which have been compiled once; in the order of the file.
    pub query: Vec<(String, String)>,
    /// Keys that Lambda functions give.
    pub lambda: Vec<String>,
    /// Partitions that are buffered at once.
    pub max_active: usize,
    /// How small objects become visible where a commit has many.
    pub publish: Publish,
    /// What stands for a missing value; `None`: the record becomes an error record.
    pub default: Option<String>,
}

/// Where records are kept as they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// The bucket's name.
    pub bucket: String,
    /// The beginning of the keys of backup objects.
    pub prefix: Template,
    /// The compression of backup objects.
    pub compression: Compression,
    /// The KMS key of the objects; `None` for what the bucket says.
    pub kms_key: Option<String>,
    /// The account that must own the bucket.
    pub bucket_owner: Option<String>,
}

/// What an object holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Format {
    /// The bytes of the records.
    Raw,
    /// The bytes of the records, each with its delimiter.
    JsonLines,
    /// A table as a Parquet file.
    Parquet(Box<Parquet>),
    /// A table as an ORC file.
    Orc(Box<Orc>),
}

impl Format {
    /// Whether it has columns.
    #[must_use]
    pub fn is_table(&self) -> bool {
        self.table().is_some()
    }

    /// Its columns.
    #[must_use]
    pub fn table(&self) -> Option<&Table> {
        match self {
            Self::Parquet(parquet) => Some(&parquet.table),
            Self::Orc(orc) => Some(&orc.table),
            Self::Raw | Self::JsonLines => None,
        }
    }
}

/// A table as a Parquet file.
#[derive(Debug, Clone, PartialEq)]
pub struct Parquet {
    /// Its columns, and how records become rows.
    pub table: Table,
    /// The compression of its pages.
    pub compression: ParquetCompression,
    /// Whether repeated values are written once a row group.
    pub dictionary: bool,
    /// Bytes of a page.
    pub page_bytes: u64,
    /// Bytes of a row group.
    pub row_group_bytes: u64,
    /// The version of the file's form.
    pub version: ParquetVersion,
    /// How timestamps are stored.
    pub timestamps: ParquetTimestamps,
}

/// A table as an ORC file.
#[derive(Debug, Clone, PartialEq)]
pub struct Orc {
    /// Its columns, and how records become rows.
    pub table: Table,
    /// The compression of its streams.
    pub compression: OrcCompression,
    /// Bytes of a stripe.
    pub stripe_bytes: u64,
    /// Rows of an entry of the index.
    pub row_index_stride: usize,
    /// The most distinct values of a hundred for which a column of strings has a dictionary.
    pub dictionary_threshold: u8,
}

/// The columns of a table, and how records become rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// The columns.
    pub columns: TableColumns,
    /// How records become rows.
    pub deserializer: Deserializer,
}

/// Where the columns of a table come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableColumns {
    /// A schema in any of the forms that may stand in a config or a file; it has been read once.
    Written(String),
    /// A table of the Glue Data Catalog.
    Glue(Glue),
    /// Inferred from the first batch of any worker, then frozen for all.
    Inferred {
        /// Records of it that are looked at.
        sample: usize,
    },
}

/// A table of the Glue Data Catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glue {
    /// The database.
    pub database: String,
    /// The table.
    pub table: String,
    /// The account of the catalog; `None` for that of the credentials.
    pub catalog: Option<String>,
    /// The region of the catalog; `None` for `aws.region`.
    pub region: Option<String>,
    /// The version of the table; `None` for the latest, which is followed.
    pub version: Option<String>,
}

/// How records become rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deserializer {
    /// Takes what it can.
    Openx {
        /// Keys are compared, and keys of maps written, in small letters.
        case_insensitive: bool,
        /// The column `a_b` takes the key `a.b`.
        convert_dots_in_keys: bool,
        /// Columns whose key has another name: column, key.
        column_keys: Vec<(String, String)>,
    },
    /// Refuses what has another type.
    Hive {
        /// Patterns of Joda-Time that timestamps are tried with, or `millis`.
        timestamp_formats: Vec<String>,
    },
}
