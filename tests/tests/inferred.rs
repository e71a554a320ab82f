//! Columns that are inferred from the first batch and frozen for all workers: whoever is killed at that moment, whatever
//! answer is lost, there is one schema, every object has it, and every record is delivered once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use bytes::Bytes;
use md5::{Digest, Md5};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use standpipe_convert::Columns;
use standpipe_emulator::{Emulator, Fault, Options as EmulatorOptions, Rule, Service};
use standpipe_flow::{Clock, DestinationId};
use standpipe_lease::{CommitTable, Dynamo, Frozen};
use standpipe_tests::simulation::{Dice, Inline, SimClock, SimRandom};
use standpipe_worker::{Ending, Options, Platform, SharedMetrics, WorkerError, platform};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

const STREAM: &str = "events";
const TABLE: &str = "standpipe-inferred";
const SECOND: Duration = Duration::from_secs(1);
const SHARDS: usize = 8;

/// A partition key of each shard.
fn keys() -> Vec<String> {
    let shard = |key: &String| usize::from(Md5::digest(key.as_bytes())[0] >> 5);
    let key_of = |wanted| (0..).map(|n: u32| format!("key-{n}")).find(|key| shard(key) == wanted).expect("a key");
    (0..SHARDS).map(key_of).collect()
}

struct World {
    emulator: Arc<Emulator>,
    clock: Arc<SimClock>,
    metrics: SharedMetrics,
    workers: JoinSet<Result<Ending, WorkerError>>,
    stop: CancellationToken,
    keys: Vec<String>,
    produced: i64,
}

impl World {
    fn new(seed: u64) -> Self {
        let clock = Arc::new(SimClock::start());
        let of_emulator = clock.clone();
        let options = EmulatorOptions { seed, ..EmulatorOptions::new(Arc::new(move || of_emulator.wall().0)) };
        let emulator = Emulator::new(options).expect("an emulator in memory opens");
        emulator.create_stream(STREAM, SHARDS).expect("a new stream");
        for bucket in ["lake", "even"] {
            emulator.create_bucket(bucket).expect("a bucket in memory");
        }
        Self {
            emulator,
            clock,
            metrics: SharedMetrics::new(),
            workers: JoinSet::new(),
            stop: CancellationToken::new(),
            keys: keys(),
            produced: 0,
        }
    }

    /// One destination of every record, and one of every second.
    fn start(&mut self, name: &str) -> AbortHandle {
        let inferred = "format: parquet, schema: { infer: { sample: 40 } }";
        let text = format!(
            "version: 1\nhttp: \"off\"\nworker: {{ memory: 64MiB, shutdown_grace: 60s }}\npipelines:\n  inferred:\n    \
             lease: {{ table: {TABLE}, failover: 5s }}\n    \
             source: {{ kinesis: {{ stream: {STREAM}, start: trim_horizon, poll: 1s }} }}\n    destinations:\n      \
             - s3: {{ id: lake, bucket: lake, {inferred}, buffer: {{ interval: 5s }} }}\n      \
             - s3: {{ id: even, bucket: even, {inferred}, buffer: {{ interval: 8s }}, when: '.id % 2 == 0' }}\n"
        );
        let checks = standpipe_config::Unchecked;
        let config = standpipe_config::parse("inferred.yaml", &text, &|_| None, &checks);
        let mut config = config.unwrap_or_else(|errors| panic!("the config is refused:\n{}", errors.render(false)));
        config.worker.id = Some(name.to_owned());
        let platform = Platform {
            sdk: platform::embedded(Some(self.emulator.connect(name).http_client()), "http://127.0.0.1:4600"),
            clock: self.clock.clone(),
            random: Arc::new(SimRandom::new(name.bytes().map(u64::from).sum())),
            offload: Arc::new(Inline),
            heartbeats: None,
            outside: Default::default(),
            metrics: self.metrics.clone(),
        };
        let (options, stop) = (Options { version: "test".into(), ..Options::default() }, self.stop.clone());
        self.workers.spawn(async move { standpipe_worker::run(&config, &options, platform, stop).await })
    }

    fn put(&self, shard: usize, record: &str) {
        let record = (self.keys[shard].clone(), Bytes::from(record.to_owned()));
        self.emulator.put_records(STREAM, &[record]).expect("the stream takes it");
    }

    /// The fields of a record are those of its shard, and now and then `odd` has another type.
    fn produce(&mut self, records: usize) {
        for _ in 0..records {
            let (id, shard) = (self.produced, self.produced as usize % SHARDS);
            let odd = if id % 97 == 50 { format!("\"word {id}\"") } else { id.to_string() };
            self.put(shard, &format!("{{\"id\":{id},\"of_{shard}\":{{\"n\":{id}}},\"odd\":{odd}}}"));
            self.produced += 1;
        }
    }

    fn commits(&self) -> CommitTable {
        let sdk = platform::embedded(Some(self.emulator.connect("observer").http_client()), "http://127.0.0.1:4600");
        CommitTable::new(Dynamo::new(&sdk, 5 * SECOND), TABLE, self.clock.clone())
    }

    async fn frozen(&self, id: &str) -> Option<Frozen> {
        self.commits().frozen(&DestinationId::new(id)).await.expect("an answer")
    }

    /// What a bucket holds.
    fn delivered(&self, bucket: &str) -> Delivered {
        let mut delivered = Delivered::default();
        for object in self.emulator.objects(bucket) {
            let body = self.emulator.object(bucket, &object.key).expect("it was just listed");
            if object.key.contains("format-conversion-failed") {
                delivered.errors.extend(errors(&body));
            } else {
                let reader = ParquetRecordBatchReaderBuilder::try_new(body).expect("a Parquet file");
                let names =
                    reader.schema().fields().iter().map(|field| format!("{}: {}", field.name(), field.data_type()));
                delivered.schemas.insert(names.collect());
                for rows in reader.build().expect("a reader") {
                    let rows = rows.expect("rows");
                    for id in
                        rows.column_by_name("id").expect("the column").as_primitive::<Int64Type>().iter().flatten()
                    {
                        *delivered.ids.entry(id).or_default() += 1;
                    }
                }
            }
        }
        delivered
    }

    /// Waits until the bucket has so many records.
    async fn await_records(&self, bucket: &str, records: usize) {
        for _ in 0..240 {
            if self.delivered(bucket).records() >= records {
                return;
            }
            sleep(SECOND).await;
        }
        panic!("{bucket} has {} of {records} records", self.delivered(bucket).records());
    }

    /// Everybody stops in order.
    async fn drain(&mut self) {
        self.stop.cancel();
        while let Some(ended) = self.workers.join_next().await {
            let killed = ended.as_ref().is_err_and(|error| error.is_cancelled());
            assert!(killed || matches!(ended, Ok(Ok(Ending::Drained))), "{ended:?}");
        }
        self.stop = CancellationToken::new();
        let broken = self.metrics.encode();
        let broken = broken.lines().filter(|line| line.starts_with("standpipe_invariant_violations_total{"));
        assert_eq!(broken.filter(|line| !line.ends_with(" 0")).count(), 0);
    }

    /// Every object of the bucket has the frozen columns, and these records are in objects or error lines, each once.
    async fn holds_once(&self, bucket: &str, ids: impl Iterator<Item = i64>) {
        let frozen = self.frozen(bucket).await.expect("columns are frozen");
        let columns = Columns::parse(&frozen.columns).expect("columns");
        let schema = columns.arrow_schema();
        let names = schema.fields().iter().map(|field| format!("{}: {}", field.name(), field.data_type()));
        let Delivered { schemas, ids: rows, errors } = self.delivered(bucket);
        assert_eq!(schemas, BTreeSet::from([names.collect()]), "{bucket}");
        let mut found = rows;
        for data in errors {
            let record: serde_json::Value = serde_json::from_str(&data).expect("the record");
            *found.entry(record["id"].as_i64().expect("its id")).or_default() += 1;
        }
        assert_eq!(found, ids.map(|id| (id, 1)).collect(), "{bucket}");
    }
}

#[derive(Default)]
struct Delivered {
    schemas: BTreeSet<Vec<String>>,
    ids: BTreeMap<i64, u32>,
    /// The records of error lines.
    errors: Vec<String>,
}

impl Delivered {
    fn records(&self) -> usize {
        self.ids.len() + self.errors.len()
    }
}

fn errors(body: &[u8]) -> Vec<String> {
    let raw = |line: &[u8]| {
        let line: serde_json::Value = serde_json::from_slice(line).expect("an error line is JSON");
        let data = base64_simd::STANDARD.decode_to_vec(line["rawData"].as_str().expect("text")).expect("base64");
        String::from_utf8_lossy(&data).into_owned()
    };
    body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(raw).collect()
}

/// Writes of frozen columns.
fn freezing(fault: Fault) -> Rule {
    Rule::new(Service::DynamoDb, fault).operation("PutItem").detail("schema-")
}

/// Three workers begin at once on eight shards of different fields; what the dice say happens to the first writes of the
/// columns, and to the workers that send them.
async fn storm(seed: u64) -> (u64, usize) {
    let mut dice = Dice::new(seed);
    let mut world = World::new(seed);
    let faults = [
        Fault::DropAnswer,
        Fault::DropRequest,
        Fault::InternalErrorAfterEffect,
        Fault::InternalError,
        Fault::Throttle,
        Fault::Unanswered,
        Fault::DelayRequest(4_000),
        Fault::DelayAnswer(3_000),
        Fault::Repeat(2_000),
    ];
    // Who writes columns, as it is seen.
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let writes = seen.clone();
    let watched = move |call: &standpipe_emulator::Call| {
        writes.lock().expect("a list").push(call.connection.to_string());
        true
    };
    let fault = faults[dice.within(0, faults.len() as u64 - 1) as usize];
    world.emulator.faults().add(freezing(fault).when(watched).times(dice.within(1, 4) as u32));
    let kills = dice.within(0, 3);
    world.produce(dice.within(10, 400) as usize);
    let mut living: BTreeMap<String, AbortHandle> = BTreeMap::new();
    for n in 0..3 {
        let name = format!("w{n}");
        let handle = world.start(&name);
        living.insert(name, handle);
    }
    let (mut killed, mut born) = (0, 3);
    for _ in 0..400 {
        sleep(Duration::from_millis(100)).await;
        if dice.percent(30) {
            world.produce(dice.within(1, 20) as usize);
        }
        let writers = std::mem::take(&mut *seen.lock().expect("a list"));
        for writer in writers {
            if killed < kills
                && dice.percent(80)
                && let Some(handle) = living.remove(&writer)
            {
                handle.abort();
                killed += 1;
                let name = format!("w{born}");
                born += 1;
                let handle = world.start(&name);
                living.insert(name, handle);
            }
        }
    }
    world.emulator.faults().clear();
    let produced = world.produced;
    world.await_records("lake", produced as usize).await;
    world.await_records("even", (produced as usize).div_ceil(2)).await;
    world.drain().await;
    world.holds_once("lake", 0..produced).await;
    world.holds_once("even", (0..produced).step_by(2)).await;
    (killed, world.delivered("lake").errors.len())
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_while_columns_are_frozen_there_is_one_schema_and_every_record_once() {
    let (mut killed, mut errors) = (0, 0);
    for seed in 1..=12 {
        let (kills, unfit) = storm(seed).await;
        killed += kills;
        errors += unfit;
    }
    println!("12 seeds: {killed} workers killed while they wrote columns, {errors} records that did not fit");
    assert!(killed > 5, "{killed}: workers are killed at the moment that matters");
    assert!(errors > 0, "some samples lack what comes later, and some later values do not fit");
}

#[tokio::test(start_paused = true)]
async fn one_record_is_delivered_after_the_interval_and_later_fields_are_left_out_for_good() {
    let mut world = World::new(1);
    world.start("first");
    world.put(0, r#"{"id":0,"a":1}"#);
    sleep(12 * SECOND).await;
    assert_eq!(world.delivered("lake").ids, BTreeMap::from([(0, 1)]), "nothing waits for more records");
    let frozen = world.frozen("lake").await.expect("frozen");
    assert_eq!((frozen.columns.as_str(), frozen.records), ("id bigint, a bigint", 1));
    world.put(1, r#"{"id":1,"a":2,"b":3}"#);
    world.put(1, r#"{"id":2,"a":"x"}"#);
    world.drain().await;
    // Another process, later.
    world.start("second");
    world.put(2, r#"{"id":3,"b":5}"#);
    world.await_records("lake", 4).await;
    world.drain().await;
    assert_eq!(world.frozen("lake").await, Some(frozen));
    world.holds_once("lake", 0..4).await;
    assert_eq!(world.delivered("lake").errors, [r#"{"id":2,"a":"x"}"#], "what does not fit is an error record");
}

#[tokio::test(start_paused = true)]
async fn records_without_a_field_freeze_nothing_and_hold_nobody_up() {
    let mut world = World::new(1);
    world.start("lone");
    world.put(0, "{}");
    world.put(1, "no JSON");
    world.await_records("lake", 2).await;
    assert_eq!(world.frozen("lake").await, None);
    assert_eq!(world.delivered("lake").ids.len(), 0);
    world.produce(8);
    world.await_records("lake", 10).await;
    world.drain().await;
    let mut refused = world.delivered("lake").errors;
    refused.retain(|record| !record.contains("id"));
    refused.sort_unstable();
    assert_eq!(refused, ["no JSON", "{}"]);
    assert!(world.frozen("lake").await.is_some());
}

#[tokio::test(start_paused = true)]
async fn while_the_table_does_not_answer_records_wait_and_none_is_lost() {
    let mut world = World::new(1);
    world.emulator.faults().add(Rule::new(Service::DynamoDb, Fault::InternalError).detail("schema-"));
    world.start("lone");
    world.produce(50);
    sleep(60 * SECOND).await;
    assert_eq!(world.delivered("lake").records(), 0, "nothing is encoded without frozen columns");
    world.emulator.faults().clear();
    world.await_records("lake", 50).await;
    world.await_records("even", 25).await;
    world.drain().await;
    world.holds_once("lake", 0..50).await;
}

#[tokio::test(start_paused = true)]
async fn columns_that_cannot_be_used_end_the_start_and_thawed_ones_are_inferred_anew() {
    let mut world = World::new(1);
    world.start("first");
    world.put(0, r#"{"id":0}"#);
    world.await_records("lake", 1).await;
    world.drain().await;
    let (commits, id) = (world.commits(), DestinationId::new("lake"));
    let first = world.frozen("lake").await.expect("frozen");
    commits.thaw(&id, &first).await.expect("thawed");
    let unusable = Frozen { columns: "id enum".to_owned(), ..first };
    commits.freeze(&id, &unusable).await.expect("frozen");
    world.start("second");
    let ended = world.workers.join_next().await.expect("it ends").expect("no panic");
    assert!(matches!(&ended, Err(WorkerError::Findings(said)) if said.contains("frozen columns")), "{ended:?}");
    commits.thaw(&id, &unusable).await.expect("thawed");
    world.start("third");
    world.put(1, r#"{"id":1,"new":true}"#);
    world.await_records("lake", 2).await;
    world.drain().await;
    assert_eq!(world.frozen("lake").await.expect("frozen").columns, "id bigint, new boolean");
}
