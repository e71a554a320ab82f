//! A pipeline of a config on embedded endpoints, for `try` and `test`: the real worker reads the records from a stream of
//! one shard, and what it delivers is what would be delivered.
//!
//! Time is the paused clock of the runtime: nothing waits, and the same records give the same objects.
//! Never: asks AWS, or writes a file.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use bytes::Bytes;
use standpipe_config::Config;
use standpipe_config::config::{self, HeartbeatMode, ReadMode, StartPosition, Transform};
use standpipe_destinations::object_key;
use standpipe_emulator::{Emulator, Options};
use standpipe_flow::offload::{Job, Offload};
use standpipe_flow::{Clock, CommitLog, DestinationId, Millis, OutputKind, Random};
use standpipe_lease::{CommitTable, Dynamo};
use standpipe_transform::Fate;
use standpipe_worker::SharedMetrics;
use standpipe_worker::platform::{self, Platform};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

mod documents;
mod loads;
mod sent;

use crate::args::parse::NewFunction;
use crate::exit::Usage;
use documents::Documents;
use loads::Loads;

/// A stream's name that needs no escape anywhere.
const STREAM: &str = "input";
const TABLE: &str = "input";
const FAILOVER: Duration = Duration::from_secs(10);
/// By the paused clock: what is not delivered by then never will be.
const PATIENCE: Duration = Duration::from_secs(48 * 3600);
/// By real time, where functions answer elsewhere.
const PATIENCE_WITH_FUNCTIONS: Duration = Duration::from_secs(120);
/// Put at once: what Kinesis takes.
const PUT_RECORDS: usize = 500;

/// An object that was delivered.
#[derive(Debug, Clone)]
pub struct Delivered {
    /// The destination.
    pub destination: DestinationId,
    /// What it holds.
    pub kind: OutputKind,
    /// Its bucket.
    pub bucket: String,
    /// Its key.
    pub key: String,
    /// Records in it.
    pub records: u64,
    /// Its bytes.
    pub body: Bytes,
    /// These are documents, not an object: the bucket is the destination's id, the key the index, the bytes are the lines of
    /// bulk requests.
    pub is_bulk: bool,
}

/// What is delivered, and when it arrives.
pub struct Input {
    /// The records.
    pub records: Vec<Bytes>,
    /// When they arrive.
    pub at: Millis,
    /// Lambda functions that answer elsewhere: they take real time, and then everything does.
    pub functions: Vec<NewFunction>,
}

/// What became of them.
pub struct Outcome {
    /// The objects, in the order of destinations in the config.
    pub objects: Vec<Delivered>,
    /// What became of records in each transform, in words.
    pub stages: Vec<String>,
}

/// Delivers records by the pipeline of this name, or the only one.
pub fn deliver(config: &Config, name: Option<&str>, input: Input) -> Result<Outcome> {
    let pipeline = chosen(config, name)?;
    let local = localised(config, pipeline, &input.functions)?;
    let paused = input.functions.is_empty();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(paused).build();
    let runtime = runtime.context("cannot start the runtime")?;
    runtime.block_on(delivered(&local, input))
}

/// The pipeline that is meant.
pub fn chosen<'a>(config: &'a Config, name: Option<&str>) -> Result<&'a config::Pipeline> {
    let names = || config.pipelines.iter().map(|pipeline| pipeline.name.as_str()).collect::<Vec<_>>().join(", ");
    match (name, config.pipelines.as_slice()) {
        (None, [one]) => Ok(one),
        (None, _) => Err(Usage(format!("the config has several pipelines: --pipeline one of {}", names())).into()),
        (Some(name), pipelines) => pipelines
            .iter()
            .find(|pipeline| pipeline.name == name)
            .ok_or_else(|| Usage(format!("there is no pipeline {name:?} in the config, which has {}", names())).into()),
    }
}

/// The name in a name or an ARN, with or without a version.
fn function_name(text: &str) -> &str {
    let name = text.rsplit_once("function:").map_or(text, |(_, name)| name);
    name.split_once(':').map_or(name, |(name, _)| name)
}

/// The same pipeline, with what it reads and where its leases are on the embedded endpoints.
fn localised(config: &Config, pipeline: &config::Pipeline, functions: &[NewFunction]) -> Result<Config> {
    let mut pipeline = pipeline.clone();
    for transform in &mut pipeline.transforms {
        let Transform::Lambda(lambda) = transform else { continue };
        let name = function_name(&lambda.function);
        if !functions.iter().any(|function| function.name == name) {
            return Err(Usage(format!(
                "the pipeline asks the Lambda function {name}: --function {name}=http://127.0.0.1:PORT/ says where one answers"
            ))
            .into());
        }
        lambda.function = name.to_owned();
        // Nothing more comes that would be worth waiting for.
        lambda.buffer_interval = Duration::ZERO;
    }
    pipeline.lease = config::Lease {
        table: TABLE.to_owned(),
        failover: FAILOVER,
        heartbeat: HeartbeatMode::PerLease,
        leases_max: None,
        create: true,
    };
    for destination in &mut pipeline.destinations {
        if let config::Destination::Redshift(redshift) = destination {
            (redshift.staging.kms_key, redshift.staging.bucket_owner) = (None, None);
        }
        if let config::Destination::Http(http) = destination {
            *destination = config::Destination::S3(Box::new(sent::objects(http)));
        }
        let config::Destination::OpenSearch(opensearch) = destination else { continue };
        opensearch.endpoints = vec![Documents::endpoint(opensearch.id.as_str())];
        opensearch.auth = config::OpenSearchAuth::None;
        opensearch.ca_file = None;
        opensearch.gzip = false;
    }
    pipeline.source.stream = config::Stream { name: STREAM.to_owned(), arn: None, region: None, account: None };
    pipeline.source.start = StartPosition::TrimHorizon;
    pipeline.source.read = ReadMode::Polling;
    let worker = config::Worker { id: Some("local".to_owned()), ..config.worker.clone() };
    Ok(Config { aws: config::Aws::default(), worker, http: None, pipelines: vec![pipeline], ..config.clone() })
}

async fn delivered(config: &Config, Input { records, at, functions }: Input) -> Result<Outcome> {
    let start = Instant::now();
    let clock = Arc::new(PausedClock { start, at });
    let wall = clock.clone();
    let options = Options { limits: false, ..Options::new(Arc::new(move || wall.wall().0)) };
    let emulator = Emulator::new(options).context("cannot open the endpoints")?;
    emulator.create_stream(STREAM, 1).context("cannot make the stream")?;
    let asks = !functions.is_empty();
    for function in functions {
        emulator.forward_function(&function.name, function.address);
    }
    let buckets = buckets(&config.pipelines[0]);
    for bucket in &buckets {
        emulator.create_bucket(bucket).with_context(|| format!("cannot make the bucket {bucket}"))?;
    }
    for (index, records) in records.chunks(PUT_RECORDS).enumerate() {
        let put: Vec<_> = records.iter().map(|data| ("key".to_owned(), data.clone())).collect();
        emulator.put_records(STREAM, &put).with_context(|| {
            format!(
                "the stream does not take one of the records {} to {}",
                index * PUT_RECORDS + 1,
                index * PUT_RECORDS + put.len()
            )
        })?;
    }
    let metrics = SharedMetrics::new();
    let documents = Documents::default();
    let connection = emulator.connect("local");
    let sdk = platform::embedded(Some(SharedHttpClient::new(Loads::new(connection.http_client()))), "http://local");
    let platform = Platform {
        sdk: sdk.clone(),
        clock: clock.clone(),
        random: Arc::new(Counted::default()),
        offload: Arc::new(Inline),
        heartbeats: None,
        outside: platform::Outside { dial: Some(Arc::new(documents.clone())), ..platform::Outside::default() },
        metrics: metrics.clone(),
    };
    let options = standpipe_worker::Options {
        until_caught_up: true,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..standpipe_worker::Options::default()
    };
    let worker = standpipe_worker::run(config, &options, platform, CancellationToken::new());
    let patience = if asks { PATIENCE_WITH_FUNCTIONS } else { PATIENCE };
    match tokio::time::timeout(patience, worker).await {
        Ok(ended) => drop(ended?),
        Err(_) if asks => bail!("not delivered within two minutes: does the function answer at its address?"),
        Err(_) => bail!("the records were not delivered within two days of the embedded clock"),
    }
    let log = CommitTable::new(Dynamo::new(&sdk, FAILOVER), TABLE, clock);
    let mut objects = Vec::new();
    for bucket in &buckets {
        objects.extend(delivered_to(&emulator, bucket, &log).await?);
    }
    objects.extend(documents.taken().into_iter().map(bulk));
    // In the order of the config; of one destination by key.
    let place = |id: &DestinationId| config.pipelines[0].destinations.iter().position(|one| one.id() == id);
    objects.sort_by_key(|object| place(&object.destination));
    Ok(Outcome { objects, stages: stages(&metrics) })
}

/// What became of records in each transform, as the metrics say: `jq: 4 passed, 1 dropped`.
fn stages(metrics: &SharedMetrics) -> Vec<String> {
    let text = metrics.encode();
    let mut stages: BTreeMap<(String, String), Vec<(String, String)>> = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("standpipe_transform_records_total{")) {
        let Some((labels, count)) = line.rsplit_once("} ") else { continue };
        let label = |name: &str| {
            let found = labels.split(',').find_map(|label| label.strip_prefix(name)?.strip_prefix("=\""));
            found.map(|value| value.trim_end_matches('"').to_owned()).unwrap_or_default()
        };
        let (destination, stage) = (label("destination"), label("stage"));
        stages.entry((destination, stage)).or_default().push((label("result"), count.to_owned()));
    }
    let line = |((destination, stage), counts): ((String, String), Vec<(String, String)>)| {
        let of = if destination.is_empty() { String::new() } else { format!("{destination}: ") };
        let count = |fate: Fate| {
            let found = counts.iter().find(|(result, _)| result == fate.label());
            found.map(|(result, count)| format!("{count} {result}"))
        };
        let counts: Vec<String> = [Fate::Passed, Fate::Dropped, Fate::Failed].into_iter().filter_map(count).collect();
        format!("{of}{stage}: {}", counts.join(", "))
    };
    stages.into_iter().map(line).collect()
}

/// The objects of a bucket, with what the receipts of their commits say of them.
async fn delivered_to(emulator: &Emulator, bucket: &str, log: &CommitTable) -> Result<Vec<Delivered>> {
    let mut found = Vec::new();
    for object in emulator.objects(bucket) {
        let Some(cid) = object_key::cid_of(&object.key) else { continue };
        let Some(receipt) = log.receipt(cid).await.context("cannot read a receipt")? else { continue };
        let output = receipt.outputs.iter().find(|output| output.bucket == bucket && output.key == object.key);
        let (Some(output), Some(body)) = (output, emulator.object(bucket, &object.key)) else { continue };
        found.push(Delivered {
            destination: receipt.destination.clone(),
            kind: output.kind,
            bucket: bucket.to_owned(),
            key: object.key,
            records: output.records,
            body,
            is_bulk: false,
        });
    }
    Ok(found)
}

/// The documents of one index.
fn bulk((destination, index, lines): (String, String, Vec<u8>)) -> Delivered {
    Delivered {
        destination: DestinationId::new(destination.clone()),
        kind: OutputKind::Data,
        bucket: destination,
        key: format!("{index}.ndjson"),
        records: lines.iter().filter(|byte| **byte == b'\n').count() as u64 / 2,
        body: lines.into(),
        is_bulk: true,
    }
}

fn buckets(pipeline: &config::Pipeline) -> Vec<String> {
    let mut buckets = Vec::new();
    for destination in &pipeline.destinations {
        buckets.extend(destination.buckets().into_iter().map(str::to_owned));
    }
    buckets.sort();
    buckets.dedup();
    buckets
}

/// The runtime's paused clock, with the wall clock at a given time at its start.
#[derive(Debug)]
struct PausedClock {
    start: Instant,
    at: Millis,
}

impl Clock for PausedClock {
    fn wall(&self) -> Millis {
        Millis(self.at.0 + u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX >> 1))
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

/// Numbers that look random and are the same in every run: nobody else writes to these endpoints.
#[derive(Debug, Default)]
struct Counted(AtomicU64);

impl Random for Counted {
    fn next(&self) -> u64 {
        // The finalizer of splitmix64 over a counter.
        let mut x = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }
}

/// A thread would not hold the paused clock.
#[derive(Debug)]
struct Inline;

impl Offload for Inline {
    fn run(&self, job: Job) {
        job();
    }
}
