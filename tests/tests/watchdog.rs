//! A read that is stuck is seen: the reader starts anew where it stood, then the lease goes to another worker; no record
//! is lost or delivered twice on the way, and the worker stays ready.
//!
//! Every call to a service has a timeout, so here the timer that would end it is broken: it never fires.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_async::rt::sleep::{AsyncSleep, SharedAsyncSleep, Sleep};
use bytes::Bytes;
use standpipe_config::Config;
use standpipe_emulator::{Emulator, Fault, Options as EmulatorOptions, Rule, Service};
use standpipe_flow::Clock;
use standpipe_lease::{Dynamo, LeaseTable};
use standpipe_tests::simulation::{Inline, SimClock, SimRandom};
use standpipe_worker::{Ending, Options, Platform, SharedMetrics, WorkerError, platform};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

const STREAM: &str = "events";
const BUCKET: &str = "lake";
const TABLE: &str = "standpipe-watched";
const RECORDS: usize = 400;
/// A read that takes so long is stuck: 120 s and the poll interval.
const STUCK: Duration = Duration::from_secs(121);

#[derive(Debug)]
struct NeverFires;

impl AsyncSleep for NeverFires {
    fn sleep(&self, _: Duration) -> Sleep {
        Sleep::new(std::future::pending())
    }
}

struct World {
    emulator: Arc<Emulator>,
    clock: Arc<SimClock>,
    config: Config,
    workers: JoinSet<Result<Ending, WorkerError>>,
    stop: CancellationToken,
}

impl World {
    fn new(shards: usize) -> Self {
        let clock = Arc::new(SimClock::start());
        let of_emulator = clock.clone();
        let options = EmulatorOptions::new(Arc::new(move || of_emulator.wall().0));
        let emulator = Emulator::new(options).expect("an emulator in memory opens");
        emulator.create_stream(STREAM, shards).expect("a new stream");
        emulator.create_bucket(BUCKET).expect("a bucket in memory");
        let text = format!(
            "version: 1\nhttp: \"off\"\nworker: {{ memory: 64MiB }}\npipelines:\n  watched:\n    lease: {{ table: {TABLE}, failover: 5s }}\n    source: {{ kinesis: {{ stream: {STREAM}, start: trim_horizon, poll: 1s }} }}\n    destinations:\n      - s3: {{ bucket: {BUCKET}, buffer: {{ interval: 1s }} }}\n"
        );
        let checks = standpipe_config::Unchecked;
        let config = match standpipe_config::parse("watched.yaml", &text, &|_| None, &checks) {
            Ok(config) => config,
            Err(errors) => panic!("the config is refused:\n{}", errors.render(false)),
        };
        Self { emulator, clock, config, workers: JoinSet::new(), stop: CancellationToken::new() }
    }

    fn start(&mut self, name: &'static str) -> SharedMetrics {
        let metrics = SharedMetrics::new();
        let sdk = platform::embedded(Some(self.emulator.connect(name).http_client()), "http://127.0.0.1:4600");
        let platform = Platform {
            sdk: sdk.to_builder().sleep_impl(SharedAsyncSleep::new(NeverFires)).build(),
            clock: self.clock.clone(),
            random: Arc::new(SimRandom::new(name.len() as u64)),
            offload: Arc::new(Inline),
            heartbeats: None,
            metrics: metrics.clone(),
        };
        let mut config = self.config.clone();
        config.worker.id = Some(name.to_owned());
        let (options, stop) = (Options { version: "test".into(), ..Options::default() }, self.stop.clone());
        self.workers.spawn(async move { standpipe_worker::run(&config, &options, platform, stop).await });
        metrics
    }

    fn produce(&self) {
        for number in 0..RECORDS {
            let record = (format!("key-{number}"), Bytes::from(number.to_string()));
            self.emulator.put_records(STREAM, &[record]).expect("the stream takes it");
        }
    }

    /// Reads of this worker whose answers never come, so many times.
    fn hang(&self, worker: &str, times: u32) {
        let rule = Rule::new(Service::Kinesis, Fault::DelayAnswer(3_600_000)).operation("GetRecords");
        self.emulator.faults().add(rule.connection(worker).times(times));
    }

    /// How often each number was delivered.
    fn delivered(&self) -> BTreeMap<usize, usize> {
        let mut found = BTreeMap::new();
        for object in self.emulator.objects(BUCKET) {
            let body = self.emulator.object(BUCKET, &object.key).expect("it was just listed");
            for line in String::from_utf8_lossy(&body).lines() {
                *found.entry(line.parse().expect("a number")).or_default() += 1;
            }
        }
        found
    }

    /// The owner of each lease, without the part that is new for every process.
    async fn owners(&self) -> Vec<String> {
        let sdk = platform::embedded(Some(self.emulator.connect("observer").http_client()), "http://127.0.0.1:4600");
        let rows = LeaseTable::new(Dynamo::new(&sdk, Duration::from_secs(5)), TABLE).scan().await.expect("the table");
        let owner = |row: &standpipe_flow::LeaseRow| {
            let owner = row.owner.as_ref().map_or("nobody", |owner| owner.as_str());
            owner.split_once('-').map_or(owner, |(name, _)| name).to_owned()
        };
        rows.leases.values().map(owner).collect()
    }

    async fn wait_for_all(&self, most: Duration) {
        let start = self.clock.elapsed();
        while self.delivered().len() < RECORDS && self.clock.elapsed() - start < most {
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// Everything was delivered once, and every worker ends well.
    async fn end(mut self) {
        let found = self.delivered();
        assert_eq!(found.len(), RECORDS, "nothing is lost");
        assert!(found.values().all(|times| *times == 1), "nothing is there twice");
        self.stop.cancel();
        while let Some(ended) = self.workers.join_next().await {
            assert!(matches!(ended, Ok(Ok(Ending::Drained))), "{ended:?}");
        }
    }
}

/// The value of a series, its labels being whatever they are.
fn value(metrics: &SharedMetrics, name: &str, labelled: &str) -> Option<f64> {
    let text = metrics.encode();
    let of = |line: &&str| line.starts_with(name) && line.contains(labelled);
    text.lines().find(of).and_then(|line| line.rsplit(' ').next()?.parse().ok())
}

fn restarts(metrics: &SharedMetrics) -> Option<f64> {
    value(metrics, "standpipe_read_restarts_total{", "reason=\"stuck\"")
}

#[tokio::test(start_paused = true)]
async fn a_read_whose_answer_never_comes_is_begun_anew_where_it_stood() {
    let mut world = World::new(1);
    let metrics = world.start("lone");
    sleep(Duration::from_secs(10)).await;
    world.hang("lone", 1);
    world.produce();
    sleep(STUCK - Duration::from_secs(5)).await;
    assert_eq!((world.delivered().len(), restarts(&metrics)), (0, Some(0.0)), "not yet");
    let age = value(&metrics, "standpipe_shard_read_age_seconds{", "shardId-").expect("the series is there");
    assert!(age > 100.0, "its age is seen: {age}");
    world.wait_for_all(Duration::from_secs(30)).await;
    assert_eq!(restarts(&metrics), Some(1.0));
    sleep(Duration::from_secs(2)).await;
    assert!(value(&metrics, "standpipe_shard_read_age_seconds{", "shardId-").is_some_and(|age| age < 2.0));
    assert_eq!(world.owners().await, ["lone"]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_connection_hangs_lets_its_lease_go_and_another_reads_the_shard() {
    let mut world = World::new(2);
    let hung = world.start("hung");
    sleep(Duration::from_secs(5)).await;
    let well = world.start("well");
    let mut tries = 0;
    loop {
        let mut owners = world.owners().await;
        owners.sort();
        if owners == ["hung", "well"] {
            break;
        }
        assert!(tries < 120, "each has one lease: {owners:?}");
        tries += 1;
        sleep(Duration::from_secs(1)).await;
    }
    world.hang("hung", u32::MAX);
    world.produce();
    sleep(STUCK + Duration::from_secs(15)).await;
    let half = world.delivered().len();
    assert!(0 < half && half < RECORDS, "the other shard goes on: {half}");
    assert_eq!(restarts(&hung), Some(1.0));
    world.wait_for_all(STUCK + Duration::from_secs(60)).await;
    assert_eq!((restarts(&hung), restarts(&well)), (Some(2.0), Some(0.0)));
    assert_eq!(world.owners().await, ["well", "well"]);
    world.end().await;
}
