//! Implements, of the arrow `what the user wrote -> what it means`: the right side, with every default filled in, every
//! unit resolved and every name checked.
//!
//! Never: holds a place in a file, or a text that still has to be understood.

use std::net::SocketAddr;
use std::time::Duration;

use standpipe_flow::DestinationId;

use crate::errors::ConfigErrors;
pub use crate::file::{
    Compression, Deaggregate, HeartbeatMode, Logs, LostObject, OnDestinationFailure, OutOfRange, ParquetCompression,
    RecordDelimiter,
};
use crate::template::Template;
pub use crate::units::StartPosition;

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
    /// Where records go; exactly one today.
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

/// A destination of a kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Destination {
    /// Objects in an S3 bucket.
    S3(Box<S3>),
}

impl Destination {
    /// The id, which names its position in the lease table.
    #[must_use]
    pub fn id(&self) -> &DestinationId {
        match self {
            Self::S3(s3) => &s3.id,
        }
    }

    /// The kind, as it stands in the file.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::S3(_) => "s3",
        }
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
    /// The compression of the whole object; `None` with Parquet, which compresses inside.
    pub compression: Compression,
    /// What ends a record; `None` with Parquet.
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
}

/// What an object holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// The bytes of the records.
    Raw,
    /// The bytes of the records, each with its delimiter.
    JsonLines,
    /// A table.
    Parquet {
        /// The compression of its pages.
        compression: ParquetCompression,
        /// Names and types of its columns, as written; they have been checked.
        columns: String,
    },
}
