//! Every bound on what a configuration may say, each with its source. Bounds that a service sets say which; the others
//! are ours and say why.

use std::time::Duration;

/// The least and the most of a value, both allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds<T> {
    /// The least.
    pub least: T,
    /// The most.
    pub most: T,
    /// Why, in the words of a hint.
    pub why: &'static str,
}

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

// Times and sizes.

/// `lease.failover`. The KCL's default is 10 s. Below 1 s a heartbeat (a third of it) is no longer than a slow answer of
/// DynamoDB; iterators of a dead worker's shards expire after 5 min anyhow (Kinesis).
pub const FAILOVER: Bounds<Duration> = Bounds {
    least: Duration::from_secs(1),
    most: Duration::from_secs(300),
    why: "a worker that is silent for this long has lost its leases",
};
/// `source.kinesis.poll`. Kinesis allows five GetRecords a second a shard; an iterator lives 5 min.
pub const POLL: Bounds<Duration> = Bounds {
    least: Duration::from_millis(200),
    most: Duration::from_secs(60),
    why: "Kinesis allows five reads a second a shard, and an iterator lives five minutes",
};
/// `buffer.interval`. Zero is Firehose's zero buffering. A batch refuses to commit when it is older than 6 h (the rule of
/// death for uploads, commit protocol 3), which leaves an hour for delivery.
pub const BUFFER_INTERVAL: Bounds<Duration> = Bounds {
    least: Duration::ZERO,
    most: Duration::from_secs(5 * 3600),
    why: "a batch that is older than six hours is not committed",
};
/// `buffer.size`. Firehose takes 1 to 128 MiB. The receipt of a commit is one item of DynamoDB, 400 KB with all parts and
/// error objects of a batch: `docs/decisions/receipt-size.md`.
pub const BUFFER_BYTES: Bounds<u64> =
    Bounds { least: MIB, most: GIB, why: "the receipt of a commit, which lists its uploads, has at most 400 KB" };
/// `worker.memory`. One answer of GetRecords holds up to 10 MB, and a part of an upload 8 MiB, for several at a time.
pub const MEMORY_BYTES: Bounds<u64> = Bounds {
    least: 64 * MIB,
    most: 4096 * GIB,
    why: "a few reads of up to 10 MB and parts of 8 MiB must fit at the same time",
};
/// `worker.shutdown_grace`. Ours: a drain that needs more than an hour is stuck.
pub const SHUTDOWN_GRACE: Bounds<Duration> = Bounds {
    least: Duration::from_secs(1),
    most: Duration::from_secs(3600),
    why: "the platform ends the process after its own grace: Kubernetes 30 s, ECS 30 to 120 s unless told otherwise",
};

/// `redshift.retry.for`. Firehose takes 0 to 7200 s. The ledger of loads keeps 90 days.
pub const RETRY: Bounds<Duration> = Bounds {
    least: Duration::ZERO,
    most: Duration::from_secs(30 * 24 * 3600),
    why: "what waits so long holds up everything behind it in its shards",
};
/// `lambda.buffer.size`. Firehose takes 0.2 to 3 MB: Lambda takes 6 MB, and base64 adds a third.
pub const LAMBDA_BUFFER_BYTES: Bounds<u64> =
    Bounds { least: 64 << 10, most: 3 * MIB, why: "Lambda takes 6 MB, and base64 adds a third" };
/// `lambda.buffer.interval`. Firehose's bounds.
pub const LAMBDA_BUFFER_INTERVAL: Bounds<Duration> =
    Bounds { least: Duration::ZERO, most: Duration::from_secs(900), why: "records wait in memory for so long" };
/// `lambda.retries`. Ours: what has failed a hundred times is not going to work.
pub const LAMBDA_RETRIES_MAX: u32 = 100;
/// `parquet.page_size`. Firehose's least.
pub const PAGE_BYTES: Bounds<u64> = Bounds { least: 64 << 10, most: 128 * MIB, why: "a reader unpacks a page at once" };
/// `parquet.row_group_size`. Firehose's least is 64 MiB; smaller ones cost readers time and save us memory.
pub const ROW_GROUP_BYTES: Bounds<u64> =
    Bounds { least: MIB, most: GIB, why: "a writer holds a row group, and a reader takes one at once" };
/// `orc.stripe_size`. The least is Firehose's.
pub const STRIPE_BYTES: Bounds<u64> =
    Bounds { least: 8 * MIB, most: GIB, why: "a writer holds a stripe, and a reader takes one at once" };

/// `http.buffer.size`: Firehose's, for what one request of its protocol may hold.
pub const HTTP_BUFFER_BYTES: Bounds<u64> =
    Bounds { least: MIB, most: 64 * MIB, why: "a request of the protocol has at most 64 MiB" };

// Defaults that are numbers.

/// `lease.failover`: the KCL's `failoverTimeMillis`.
pub const FAILOVER_DEFAULT: Duration = Duration::from_secs(10);
/// `source.kinesis.poll`: the KCL's `idleTimeBetweenReadsInMillis`.
pub const POLL_DEFAULT: Duration = Duration::from_secs(1);
/// `buffer.interval`: Firehose's.
pub const BUFFER_INTERVAL_DEFAULT: Duration = Duration::from_secs(300);
/// `buffer.size` of raw and json_lines: Firehose's.
pub const BUFFER_BYTES_DEFAULT: u64 = 5 * MIB;
/// `buffer.size` of tables and of partitions: Firehose's, with conversion or dynamic partitioning.
pub const BUFFER_BYTES_LARGE_DEFAULT: u64 = 128 * MIB;
/// `http.buffer.interval` with a preset: what Firehose's guide has for its partners.
pub const HTTP_PRESET_INTERVAL: Duration = Duration::from_secs(60);
/// `redshift.retry.for`: Firehose's.
pub const RETRY_DEFAULT: Duration = Duration::from_secs(3600);
/// `lambda.retries`: Firehose's `NumberOfRetries`.
pub const LAMBDA_RETRIES_DEFAULT: u32 = 3;
/// `lambda.buffer.size`: Firehose's.
pub const LAMBDA_BUFFER_BYTES_DEFAULT: u64 = MIB;
/// `split.json.max`. Firehose's is 500, beyond which it silently takes nothing apart.
pub const PIECES_DEFAULT: usize = 100_000;
/// `partitions.max_active`. Firehose's quota is 500, beyond which records fail; here more of them only cost memory, and
/// fewer than there are make very small objects.
pub const PARTITIONS_DEFAULT: usize = 5_000;
/// `parquet.page_size`: Firehose's and the library's.
pub const PAGE_BYTES_DEFAULT: u64 = MIB;
/// `parquet.row_group_size`. Firehose's is 256 MiB; half of it is what its default buffer fills.
pub const ROW_GROUP_BYTES_DEFAULT: u64 = 128 * MIB;
/// `orc.stripe_size`: Firehose's.
pub const STRIPE_BYTES_DEFAULT: u64 = 64 * MIB;
/// `worker.shutdown_grace`: below the 60 s of our Helm chart.
pub const SHUTDOWN_GRACE_DEFAULT: Duration = Duration::from_secs(50);

// Names.

/// A pipeline's name. Ours: a DNS label (63), so that it can name things in Kubernetes.
pub const PIPELINE_NAME_CHARS_MAX: usize = 63;
/// A destination's id. Ours: it is part of an attribute's name in every lease row, and the row should stay under 1 KB.
pub const DESTINATION_ID_CHARS_MAX: usize = 16;
/// A stream's name: Kinesis.
pub const STREAM_NAME_CHARS_MAX: usize = 128;
/// A lease table's name: DynamoDB's 255, less `-standpipe-commits`.
pub const TABLE_NAME_CHARS_MAX: usize = 255 - "-standpipe-commits".len();
/// A worker's id. Ours: it stands in every lease row.
pub const WORKER_ID_CHARS_MAX: usize = 128;
/// A file extension: Firehose's API (`FileExtension`).
pub const EXTENSION_CHARS_MAX: usize = 128;
/// `lease.max`. Ours: far beyond the shards of any stream.
pub const LEASES_MAX: u32 = 100_000;
/// Pipelines in one configuration. Ours: each has tasks and a table of its own.
pub const PIPELINES_MAX: usize = 1_000;
/// Retired ids of a pipeline. Ours: they stand in every lease row until they are forgotten.
pub const RETIRED_MAX: usize = 32;
/// Destinations of a pipeline. Ours: each has an entry in every lease row, and a share of the memory.
pub const DESTINATIONS_MAX: usize = 16;
/// `split.json.max`. Ours: the smallest documents of the largest record.
pub const PIECES_MAX: usize = 5_000_000;
/// `schema.infer.sample`. Ours: a field that not one of these records has is a rare one.
pub const SAMPLE_DEFAULT: usize = 10_000;
/// `schema.infer.sample`. Ours: of so many, more tell nothing more, and each is read twice.
pub const SAMPLE_MAX: usize = 1_000_000;
/// `orc.row_index_stride`: Firehose's least.
pub const STRIDE_MIN: usize = 1_000;
/// `orc.row_index_stride`. Ours: an entry of more rows skips nothing.
pub const STRIDE_MAX: usize = 100_000_000;
/// `orc.row_index_stride`: Firehose's.
pub const STRIDE_DEFAULT: usize = 10_000;
/// `orc.dictionary_threshold`: Firehose's 0.8.
pub const DICTIONARY_THRESHOLD_DEFAULT: u8 = 80;
/// `opensearch.endpoints`. Ours: the nodes that take requests of the largest clusters.
pub const ENDPOINTS_MAX: usize = 64;
/// `opensearch.index`: OpenSearch's 255 bytes, less `-2026-01-31-13`.
pub const INDEX_BYTES_MAX: usize = 255 - "-2026-01-31-13".len();
/// `http.common_attributes`, their names and values: the protocol's.
pub const ATTRIBUTES_MAX: usize = 50;
/// A name of a common attribute: the protocol's.
pub const ATTRIBUTE_NAME_CHARS_MAX: usize = 256;
/// A value of a common attribute: the protocol's.
pub const ATTRIBUTE_VALUE_CHARS_MAX: usize = 1_024;
/// `http.url`: Firehose's API.
pub const URL_CHARS_MAX: usize = 1_000;
/// `http.source_arn`: Firehose's API.
pub const ARN_CHARS_MAX: usize = 512;
/// `copy.columns`: the columns of a table of Redshift.
pub const TABLE_COLUMNS_MAX: usize = 1_600;
/// `copy.role`. Redshift chains ten roles.
pub const ROLES_CHARS_MAX: usize = 2_048;
/// Keys of `partition_by`: Firehose's.
pub const PARTITION_KEYS_MAX: usize = 50;
/// `partitions.max_active`. Ours: each costs an object a batch.
pub const PARTITIONS_MAX: usize = 100_000;

// Prefixes.

/// Characters of a prefix as written: Firehose's API (`Prefix`, `ErrorOutputPrefix`: at most 1,024).
pub const PREFIX_CHARS_MAX: usize = 1024;
/// Nested `[` in a date pattern. Ours: no real pattern has more than a few, and the reader must end.
pub const PATTERN_DEPTH_MAX: usize = 16;
/// Width of `p` in a date pattern. Ours: a key has at most 1,024 bytes (S3).
pub const PATTERN_PAD_MAX: usize = 64;
/// Bytes of a column list. Ours: Glue takes 400 KB for a whole table, of which types are a part.
pub const COLUMNS_BYTES_MAX: usize = 256 << 10;

// Files.

/// Findings that are shown. Ours: more are not read.
pub const FINDINGS_MAX: usize = 40;
/// Files of one configuration. Ours: one a pipeline.
pub const FILES_MAX: usize = 1_000;
/// Bytes of one file. Ours: a thousand pipelines fit.
pub const FILE_BYTES_MAX: usize = 1 << 20;
/// Depth of the YAML. Ours: the deepest key of the design is at 9.
pub const YAML_DEPTH_MAX: usize = 32;
/// Values in one file, those that aliases repeat included. Ours: a thousand pipelines fit.
pub const YAML_NODES_MAX: usize = 100_000;
/// Aliases, anchors and merge keys in one file, each. Ours: one or two a pipeline.
pub const YAML_ALIASES_MAX: usize = 2_000;
/// Bytes of a value with its variables replaced. Ours: no value of the design is longer.
pub const VARIABLE_BYTES_MAX: usize = 256 << 10;
/// Bytes of a secret's file. Ours: a private key has a few thousand.
pub const SECRET_BYTES_MAX: u64 = 64 << 10;
