//! Implements, of the arrow `what the user wrote -> what it means`: the left side, field by field as the YAML looks.
//!
//! The JSON Schema, the shape check and the reference page come from these structs, so a key exists exactly where it is
//! built. A key of the design that is not built stands in `not_built.rs` instead.
//! Never: a default that means something; those are in `resolve.rs`, and named here for the reader.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{self, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use crate::decode::Located;
use crate::text::{
    ConsumerText, DestinationIdText, DurationText, EndpointText, LeasesText, ListenText, RegionText, SizeText,
    StartText, StreamText, TableText, WorkerIdText,
};

pub(crate) mod http_endpoint;
pub(crate) mod opensearch;
pub(crate) mod redshift;
pub(crate) mod s3;
pub(crate) mod transforms;

use http_endpoint::HttpEndpointFile;
use opensearch::OpenSearchFile;
use redshift::RedshiftFile;
use s3::S3File;
use transforms::TransformFile;

/// A configuration of Standpipe. It may be spread over several files; each begins with `version: 1`, and pipelines are
/// put together by name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Standpipe")]
pub(crate) struct File {
    /// The form of this file: always 1.
    #[schemars(schema_with = "one", required)]
    #[allow(dead_code, reason = "the shape check has compared it")]
    pub(crate) version: Located<u64>,
    /// The account's region and endpoints; credentials come from the SDK's own chain.
    pub(crate) aws: Option<Located<AwsFile>>,
    /// This process.
    pub(crate) worker: Option<Located<WorkerFile>>,
    /// Health, metrics and the status page; `off` for none. Default: `{ listen: 0.0.0.0:9464 }`.
    pub(crate) http: Option<Located<HttpFile>>,
    /// What it tells about itself.
    pub(crate) telemetry: Option<Located<TelemetryFile>>,
    /// The pipelines by name. A name is also the first part of object names: `[a-z][a-z0-9-]*`, at most 63 characters.
    pub(crate) pipelines: Option<Named<PipelineFile>>,
}

fn one(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "title": "version", "type": "integer", "const": 1, "examples": [1] })
}

/// Region and endpoints.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Aws")]
pub(crate) struct AwsFile {
    /// The region of everything whose ARN does not name one. Default: the SDK's chain.
    pub(crate) region: Option<Located<RegionText>>,
    /// Endpoints in place of AWS's own. Default: `AWS_ENDPOINT_URL` and `AWS_ENDPOINT_URL_<SERVICE>`, then AWS.
    pub(crate) endpoints: Option<EndpointsFile>,
}

/// An endpoint for each service.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Endpoints")]
pub(crate) struct EndpointsFile {
    /// Kinesis Data Streams.
    pub(crate) kinesis: Option<Located<EndpointText>>,
    /// DynamoDB.
    pub(crate) dynamodb: Option<Located<EndpointText>>,
    /// S3. With an endpoint of its own, path-style addresses are used.
    pub(crate) s3: Option<Located<EndpointText>>,
    /// Lambda.
    pub(crate) lambda: Option<Located<EndpointText>>,
    /// Glue.
    pub(crate) glue: Option<Located<EndpointText>>,
    /// The Data API of Redshift.
    pub(crate) redshift_data: Option<Located<EndpointText>>,
}

/// This process.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Worker")]
pub(crate) struct WorkerFile {
    /// The name in the lease table. Default `auto`: the host's name and a ULID, new for every process. A name of your own
    /// must be new for every process too.
    #[schemars(extend("default" = "auto"))]
    pub(crate) id: Option<Located<WorkerIdText>>,
    /// All buffers together. Default: 60% of the cgroup's limit. More memory makes larger objects when it is behind.
    pub(crate) memory: Option<Located<SizeText>>,
    /// How long a drain may take after SIGTERM. Default 50s; the platform's own grace must be longer.
    #[schemars(extend("default" = "50s"))]
    pub(crate) shutdown_grace: Option<Located<DurationText>>,
}

/// `off`, or where to listen.
#[derive(Debug)]
pub(crate) enum HttpFile {
    Off,
    On(ListenFile),
}

impl<'de> Deserialize<'de> for HttpFile {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HttpVisitor;

        impl<'de> Visitor<'de> for HttpVisitor {
            type Value = HttpFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`off` or a mapping")
            }
            fn visit_str<E: de::Error>(self, word: &str) -> Result<HttpFile, E> {
                match word {
                    "off" => Ok(HttpFile::Off),
                    other => Err(E::unknown_variant(other, &["off"])),
                }
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<HttpFile, A::Error> {
                ListenFile::deserialize(de::value::MapAccessDeserializer::new(map)).map(HttpFile::On)
            }
        }

        deserializer.deserialize_any(HttpVisitor)
    }
}

/// Where to listen.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Listen")]
pub(crate) struct ListenFile {
    /// Address and port, without encryption or login: keep it inside. Default 0.0.0.0:9464.
    #[schemars(extend("default" = "0.0.0.0:9464"))]
    pub(crate) listen: Option<Located<ListenText>>,
}

impl JsonSchema for HttpFile {
    fn schema_name() -> Cow<'static, str> {
        "Http".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let listen = generator.subschema_for::<ListenFile>();
        schemars::json_schema!({ "oneOf": [{ "type": "string", "enum": ["off"] }, listen] })
    }
}

/// What it tells about itself.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Telemetry")]
pub(crate) struct TelemetryFile {
    /// The form of the log on stderr. Default `auto`: json when stderr is no terminal.
    #[schemars(extend("default" = "auto"))]
    pub(crate) logs: Option<Logs>,
}

/// The form of the log on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Logs {
    /// JSON when stderr is no terminal, text otherwise.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// Lines for people.
    Text,
}

/// One stream and where its records go.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Pipeline")]
pub(crate) struct PipelineFile {
    /// How the shards are shared out among workers.
    pub(crate) lease: Option<LeaseFile>,
    /// Where records come from.
    pub(crate) source: SourceFile,
    /// What is done to records before any destination sees them, in this order. Each may pass, drop, fail or multiply a
    /// record. Default: nothing.
    pub(crate) transforms: Option<Vec<Located<TransformFile>>>,
    /// Where records go. Each destination gets every record, with a buffer and a position of its own.
    #[schemars(length(min = 1))]
    pub(crate) destinations: Located<Vec<Located<DestinationFile>>>,
    /// When one of several destinations fails: `isolate` lets the others go on, each with its own position; `stop`
    /// stops reading. Default isolate.
    #[schemars(extend("default" = "isolate"))]
    pub(crate) on_destination_failure: Option<OnDestinationFailure>,
    /// Ids of destinations that were taken out; until one is listed here it keeps its place and the checkpoint stands
    /// still. Default: none.
    pub(crate) retired: Option<Vec<Located<DestinationIdText>>>,
}

/// What a failing destination does to the others of its pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum OnDestinationFailure {
    /// The others go on, each with its own position.
    #[default]
    Isolate,
    /// Reading stops for all.
    Stop,
}

/// How the shards are shared out among workers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Lease")]
pub(crate) struct LeaseFile {
    /// The DynamoDB table of leases, in the form of the KCL. Default `standpipe-<pipeline>`. The name of a KCL
    /// application takes that application over. Costs a write a heartbeat and shard.
    pub(crate) table: Option<Located<TableText>>,
    /// A worker that is silent for this long has lost its leases. Default 10s. A third of it is the time between
    /// heartbeats, so half of it doubles their cost.
    #[schemars(extend("default" = "10s"))]
    pub(crate) failover: Option<Located<DurationText>>,
    /// How workers show that they are alive. Default `per_lease`, which costs a write every third of `failover` and lease;
    /// `per_worker` costs one a worker, and is for fleets without a worker of the Java KCL.
    #[schemars(extend("default" = "per_lease"))]
    pub(crate) heartbeat: Option<HeartbeatMode>,
    /// The most leases that one worker takes. Default unlimited.
    #[schemars(extend("default" = "unlimited"))]
    pub(crate) max: Option<Located<LeasesText>>,
    /// Makes the tables when they are missing: on demand, with deletion protection and point-in-time recovery. With
    /// false, a missing table ends the program with exit code 3. Default true.
    #[schemars(extend("default" = true))]
    pub(crate) create: Option<bool>,
}

/// How workers show that they are alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum HeartbeatMode {
    /// In every lease they hold, as the KCL does: needed beside Java workers.
    #[default]
    PerLease,
    /// In one item a worker, in a table `<lease table>-standpipe-workers`.
    PerWorker,
}

/// Where records come from; exactly one kind.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Source")]
pub(crate) enum SourceFile {
    /// A stream of Kinesis Data Streams.
    Kinesis(Box<KinesisFile>),
}

/// A stream of Kinesis Data Streams.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Kinesis")]
pub(crate) struct KinesisFile {
    /// The stream's name or ARN.
    pub(crate) stream: Located<StreamText>,
    /// Where reading begins the first time: trim_horizon, latest, a time, or how long ago.
    pub(crate) start: Located<StartText>,
    /// How records are read. `polling`: GetRecords, five calls and 2 MiB a second a shard, shared by all its readers.
    /// `enhanced_fan_out`: SubscribeToShard, by a registered consumer, which costs money. `auto`: polling, unless the
    /// consumer `standpipe` is registered already. Default auto.
    #[schemars(extend("default" = "auto"))]
    pub(crate) read: Option<Located<ReadFile>>,
    /// The time between reads of a shard that is caught up. Default 1s; five a second when behind.
    #[schemars(extend("default" = "1s"))]
    pub(crate) poll: Option<Located<DurationText>>,
    /// Whether the aggregates of the Kinesis Producer Library are taken apart. `kpl`: their user records are delivered. What
    /// only begins like an aggregate is delivered as it is, and counted. `none`: every record is delivered as it is.
    /// Default kpl.
    #[schemars(extend("default" = "kpl"))]
    pub(crate) deaggregate: Option<Deaggregate>,
    /// What happens to user records of an aggregate whose hash key lies outside their shard: `deliver`, or `drop`, one by
    /// one. They are counted either way. The KPL writes such a record a second time, and the KCL drops it with its whole
    /// aggregate; other producers write it once, and dropping loses it. Default deliver.
    #[schemars(extend("default" = "deliver"))]
    pub(crate) out_of_range: Option<Located<OutOfRange>>,
}

/// How records are read from a stream: a word, or a word with its settings.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ReadFile {
    #[default]
    Auto,
    Polling,
    EnhancedFanOut(Option<EnhancedFanOutFile>),
}

impl JsonSchema for ReadFile {
    fn schema_name() -> Cow<'static, str> {
        "Read".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let fan_out = generator.subschema_for::<EnhancedFanOutFile>();
        schemars::json_schema!({ "oneOf": [
            { "type": "string", "enum": ["auto", "polling", "enhanced_fan_out"] },
            {
                "type": "object",
                "properties": { "enhanced_fan_out": fan_out },
                "required": ["enhanced_fan_out"],
                "additionalProperties": false
            }
        ] })
    }
}

/// Reading by SubscribeToShard: 2 MiB a second of each shard for this pipeline alone, and less delay, for the price of a
/// registered consumer.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "EnhancedFanOut")]
pub(crate) struct EnhancedFanOutFile {
    /// The consumer's name, the same for all workers of the pipeline and for nobody else. Registered when it is missing,
    /// never deregistered. Default standpipe.
    #[schemars(extend("default" = "standpipe"))]
    pub(crate) consumer: Option<Located<ConsumerText>>,
}

/// Whether KPL aggregates are taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Deaggregate {
    /// User records are delivered.
    #[default]
    Kpl,
    /// A record is delivered as it is.
    None,
}

/// What happens to sub-records outside their shard's hash range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum OutOfRange {
    /// They are delivered, and counted.
    #[default]
    Deliver,
    /// They are dropped, as the KCL does.
    Drop,
}

/// A destination, named by its kind.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Destination")]
pub(crate) enum DestinationFile {
    /// Objects in an S3 bucket, every record exactly once.
    S3(Box<S3File>),
    /// Rows in a table of Amazon Redshift, every record exactly once.
    Redshift(Box<RedshiftFile>),
    /// Documents in OpenSearch or Elasticsearch, one for each record.
    #[serde(rename = "opensearch")]
    OpenSearch(Box<OpenSearchFile>),
    /// Requests to an HTTP endpoint by Firehose's delivery protocol, at least once.
    Http(Box<HttpEndpointFile>),
}

/// A mapping from names that the user chooses, in the order of the file, with the places of the names.
#[derive(Debug)]
pub(crate) struct Named<T>(pub(crate) Vec<(Located<String>, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NamedVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for NamedVisitor<T> {
            type Value = Named<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Named<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Named(entries))
            }
        }

        deserializer.deserialize_map(NamedVisitor(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("NamedBy{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let value = generator.subschema_for::<T>();
        schemars::json_schema!({ "type": "object", "additionalProperties": value })
    }
}

/// The schema of `word`, or of `{ word: settings }`, for words with settings that may be left out or must be there.
fn words_or_settings(words: &[&str], settings: &[(&str, schemars::Schema)]) -> schemars::Schema {
    let words = schemars::json_schema!({ "type": "string", "enum": words });
    let tagged = |(word, settings): &(&str, schemars::Schema)| {
        schemars::json_schema!({
            "type": "object",
            "properties": { *word: settings },
            "required": [word],
            "additionalProperties": false
        })
    };
    let ways: Vec<schemars::Schema> = std::iter::once(words).chain(settings.iter().map(tagged)).collect();
    schemars::json_schema!({ "oneOf": ways })
}
