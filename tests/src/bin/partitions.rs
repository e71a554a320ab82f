//! Many partitions in one run: a real worker in a process of its own, over TCP, against the embedded endpoints in this one.
//!
//! `partitions [--partitions 5000] [--records 20] [--bytes 300] [--shards 4] [--active 5000] [--memory 512] [--interval 5]
//! [--latency 0] [--kills 0] [--publish multipart]
//! [--columns 0]`: so many records of so many bytes for each partition, in an order in which every chunk has
//! most of them; `--active` is `max_active`, `--memory` MiB, `--interval` seconds, `--latency` milliseconds of each request to
//! S3, `--kills` how often the worker is killed on its way, `--publish put` as in the config, `--columns` tables of so
//! many columns (of which a record has two) in the place of lines: then objects are counted, and not read. Printed: whether every record is there exactly once in its own
//! partition, the worker's peak memory, objects a commit, and requests by kind. Exits 1 if anything is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use standpipe_destinations::object_key::cid_of;
use standpipe_emulator::{Emulator, Fault, Rule, Service};
use standpipe_tests::storm::endpoints::Endpoints;
use standpipe_tests::storm::{BUCKET, STREAM, number};
use standpipe_worker::{Ending, Options, Platform};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// Bytes of a staging object.
const STAGING_BYTES: u64 = 8 << 20;

/// The argument that makes this program the worker; its config follows.
const WORKER: &str = "--be-the-worker";

struct Plan {
    partitions: u64,
    records: u64,
    bytes: usize,
    shards: usize,
    active: u64,
    memory: u64,
    interval: u64,
    latency: u64,
    kills: u64,
    publish: String,
    columns: u64,
}

impl Plan {
    fn of(arguments: &[String]) -> Result<Self, String> {
        let given = |flag: &str, default: u64| number(arguments, flag, default as f64).map(|number| number as u64);
        let publish = arguments.iter().position(|argument| argument == "--publish");
        let publish = publish.and_then(|at| arguments.get(at + 1)).map_or("multipart", String::as_str);
        Ok(Self {
            publish: publish.to_owned(),
            partitions: given("--partitions", 5_000)?,
            records: given("--records", 20)?,
            bytes: given("--bytes", 300)? as usize,
            shards: given("--shards", 4)? as usize,
            active: given("--active", 5_000)?,
            memory: given("--memory", 512)?,
            interval: given("--interval", 5)?,
            latency: given("--latency", 0)?,
            kills: given("--kills", 0)?,
            columns: given("--columns", 0)?,
        })
    }

    fn config(&self) -> String {
        let Self { active, memory, interval, publish, .. } = self;
        format!(
            "version: 1
worker: {{ memory: {memory}MiB, shutdown_grace: 900s }}
http: \"off\"
pipelines:
  partitions:
    lease: {{ table: standpipe-partitions, failover: 5s }}
    source: {{ kinesis: {{ stream: {STREAM}, start: trim_horizon }} }}
    destinations:
      - s3:
          bucket: {BUCKET}
          prefix: \"out/p=!{{partitionKeyFromQuery:p}}/\"
          error_prefix: \"errors/!{{firehose:error-output-type}}/\"
          partition_by: {{ p: .p }}
          partitions: {{ max_active: {active}, publish: {publish} }}
          buffer: {{ size: 64MiB, interval: {interval}s }}
{}",
            self.table()
        )
    }

    /// The requests that staging and publishing make for each object.
    fn steps(&self) -> &'static [&'static str] {
        match self.publish.as_str() {
            "put" => &["PutObject"],
            _ => &["CreateMultipart", "CompleteMultipart"],
        }
    }

    /// How many of these the worker makes before it is killed for this time. Of uploads each object is opened, then
    /// completed: in the middle of staging, then in that of publishing, and so on. Of put objects: when all staging objects
    /// are on their way, then in the middle of publishing.
    fn until(&self, kill: u64) -> u64 {
        match (self.publish.as_str(), kill % 2) {
            ("put", 1) => (self.partitions * self.records * self.bytes as u64).div_ceil(STAGING_BYTES),
            (_, 1) | ("put", _) => self.partitions / 2,
            _ => self.partitions * 3 / 2,
        }
    }

    /// The format, if it is a table.
    fn table(&self) -> String {
        if self.columns == 0 {
            return String::new();
        }
        let columns: Vec<String> = (0..self.columns).map(|n| format!("c{n} string")).collect();
        let columns = columns.join(", ");
        format!("          format: parquet\n          schema: {{ columns: \"p string, n bigint, {columns}\" }}\n")
    }

    /// Record `n` of a partition.
    fn record(&self, partition: u64, n: u64) -> Bytes {
        let mut text = format!("{{\"p\":\"p{partition:05}\",\"n\":{n},\"x\":\"");
        let fill = self.bytes.saturating_sub(text.len() + 2);
        text.push_str(&"x".repeat(fill));
        text.push_str("\"}");
        Bytes::from(text)
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be built");
    let done = match &arguments[..] {
        [first, config] if first == WORKER => runtime.block_on(work(config)),
        _ => runtime.block_on(run(&arguments)),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("partitions: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The worker's process: until it has caught up. Says how much memory it took.
async fn work(config: &str) -> io::Result<bool> {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .init();
    let config = standpipe_config::parse("partitions.yaml", config, &|_| None, &standpipe_config::Unchecked)
        .map_err(|errors| io::Error::other(errors.render(false)))?;
    let platform = Platform::system(&config.aws).await;
    let options = Options { until_caught_up: true, version: "partitions".into(), ..Options::default() };
    let ending = standpipe_worker::run(&config, &options, platform, CancellationToken::new()).await;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("unknown").trim();
    println!("the worker's peak memory (VmHWM)   {peak}");
    match ending {
        Ok(Ending::CaughtUp) => Ok(true),
        other => Err(io::Error::other(format!("the worker ended with {other:?}"))),
    }
}

fn start(address: &str, config: &str) -> io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args([WORKER, config])
        .env("AWS_ENDPOINT_URL", format!("http://{address}"))
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "worker")
        .env("AWS_SECRET_ACCESS_KEY", "standpipe")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdin(Stdio::null())
        .spawn()
}

async fn run(arguments: &[String]) -> io::Result<bool> {
    let plan = Plan::of(arguments).map_err(io::Error::other)?;
    let endpoints = Endpoints::open(plan.shards, 1).await?;
    let emulator = &endpoints.emulator;
    produce(emulator, &plan);
    let counted: Arc<Mutex<BTreeMap<String, u64>>> = Arc::default();
    let count = counted.clone();
    emulator.faults().set_hook(move |call| {
        if call.service != Service::Kinesis {
            let name = format!("{:?} {}", call.service, call.operation);
            *count.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
        }
        None
    });
    if plan.latency > 0 {
        emulator.faults().add(Rule::new(Service::S3, Fault::Delay(plan.latency)));
    }

    let (config, begun) = (plan.config(), Instant::now());
    let mut worker = start(&endpoints.address, &config)?;
    for kill in 1..=plan.kills {
        let until = asked(&counted, plan.steps()) + plan.until(kill);
        while worker.try_wait()?.is_none() && asked(&counted, plan.steps()) < until {
            sleep(Duration::from_millis(1)).await;
        }
        if worker.try_wait()?.is_none() {
            worker.kill()?;
            worker.wait()?;
            let kinds = ["CreateMultipart", "CompleteMultipart", "PutObject", "GetObject", "Transact"];
            let [opened, completed, put, read, committed] = kinds.map(|kind| asked(&counted, &[kind]));
            println!(
                "killed                             after {opened} uploads, {completed} completions, {put} objects put, \
                 {read} reads, {committed} transactions"
            );
            worker = start(&endpoints.address, &config)?;
        }
    }
    let ended = loop {
        match worker.try_wait()? {
            Some(status) => break status.success(),
            None => sleep(Duration::from_millis(50)).await,
        }
    };
    let seconds = begun.elapsed().as_secs_f64();
    println!("seconds                            {seconds:.1}");
    for (name, requests) in counted.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        println!("requests: {name:<35} {requests:>8}");
    }
    if plan.columns > 0 {
        let objects = emulator.objects(BUCKET);
        println!(
            "objects                            {}, the largest {:?} bytes",
            objects.len(),
            objects.iter().map(|o| o.size).max()
        );
        return Ok(ended && objects.len() as u64 >= plan.partitions);
    }
    Ok(ended & exact(emulator, &plan))
}

/// Requests of these kinds so far.
fn asked(counted: &Mutex<BTreeMap<String, u64>>, kinds: &[&str]) -> u64 {
    let counted = counted.lock().unwrap_or_else(PoisonError::into_inner);
    counted.iter().filter(|(name, _)| kinds.iter().any(|kind| name.contains(kind))).map(|(_, requests)| requests).sum()
}

/// Round by round over the partitions, so that neighbours are of different ones.
fn produce(emulator: &Emulator, plan: &Plan) {
    for n in 0..plan.records {
        for first in (0..plan.partitions).step_by(500) {
            let records: Vec<(String, Bytes)> = (first..plan.partitions.min(first + 500))
                .map(|partition| (format!("{partition}-{n}"), plan.record(partition, n)))
                .collect();
            emulator.put_records(STREAM, &records).expect("the stream takes what is loaded");
        }
    }
    let bytes = plan.partitions * plan.records * plan.bytes as u64;
    println!("records                            {} of {bytes} bytes", plan.partitions * plan.records);
}

/// Whether every record is there once, in an object of its partition; says what was found.
fn exact(emulator: &Emulator, plan: &Plan) -> bool {
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    let (mut misplaced, mut by_commit) = (0, BTreeMap::<_, u64>::new());
    let mut partitions = BTreeSet::new();
    let (staging, objects): (Vec<_>, Vec<_>) =
        emulator.objects(BUCKET).into_iter().partition(|object| object.key.starts_with("standpipe-staging/"));
    for object in objects {
        *by_commit.entry(cid_of(&object.key)).or_default() += 1;
        let partition = object.key.strip_prefix("out/p=").and_then(|key| key.split('/').next()).unwrap_or_default();
        partitions.insert(partition.to_owned());
        let body = emulator.object(BUCKET, &object.key).expect("it was just listed");
        for line in std::str::from_utf8(&body).expect("what was put in").lines() {
            misplaced += u64::from(!line.starts_with(&format!("{{\"p\":\"{partition}\",")));
            *found.entry(line.to_owned()).or_default() += 1;
        }
    }
    let expected = |partition, n| String::from_utf8(plan.record(partition, n).to_vec()).expect("text");
    let all = (0..plan.partitions).flat_map(|partition| (0..plan.records).map(move |n| (partition, n)));
    let lost = all.filter(|(partition, n)| !found.contains_key(&expected(*partition, *n))).count();
    let twice = found.values().filter(|count| **count > 1).count();
    let of_none = found.len() + lost - (plan.partitions * plan.records) as usize;
    let sizes: Vec<u64> = by_commit.values().copied().collect();
    let open = emulator.open_uploads(BUCKET).len();
    println!("partitions                         {}", partitions.len());
    println!("objects                            {} in {} commits: {sizes:?}", sizes.iter().sum::<u64>(), sizes.len());
    println!("lost, twice, misplaced, of nobody  {lost}, {twice}, {misplaced}, {of_none}");
    println!("uploads left open                  {open}");
    println!("staging objects left               {}", staging.len());
    lost + twice + of_none == 0 && misplaced == 0 && (open + staging.len() == 0 || plan.kills > 0)
}
