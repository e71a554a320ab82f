//! A live lease moves: the owner drains and releases, the newcomer reads on, every record is delivered once. A
//! destination that is down does not hold the move for ever, and the move makes nothing of it worse.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

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
const TABLE: &str = "standpipe-moving";
const SHARDS: usize = 4;
const SECOND: Duration = Duration::from_secs(1);

struct World {
    emulator: Arc<Emulator>,
    clock: Arc<SimClock>,
    config: Config,
    workers: JoinSet<Result<Ending, WorkerError>>,
    stop: CancellationToken,
    produced: usize,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(SimClock::start());
        let of_emulator = clock.clone();
        let options = EmulatorOptions::new(Arc::new(move || of_emulator.wall().0));
        let emulator = Emulator::new(options).expect("an emulator in memory opens");
        emulator.create_stream(STREAM, SHARDS).expect("a new stream");
        emulator.create_bucket(BUCKET).expect("a bucket in memory");
        let text = format!(
            "version: 1\nhttp: \"off\"\nworker: {{ memory: 64MiB }}\npipelines:\n  moving:\n    lease: {{ table: {TABLE}, failover: 10s }}\n    source: {{ kinesis: {{ stream: {STREAM}, start: trim_horizon, poll: 1s }} }}\n    destinations:\n      - s3: {{ bucket: {BUCKET}, buffer: {{ interval: 60s }} }}\n"
        );
        let checks = standpipe_config::Unchecked;
        let config = match standpipe_config::parse("moving.yaml", &text, &|_| None, &checks) {
            Ok(config) => config,
            Err(errors) => panic!("the config is refused:\n{}", errors.render(false)),
        };
        Self { emulator, clock, config, workers: JoinSet::new(), stop: CancellationToken::new(), produced: 0 }
    }

    fn start(&mut self, name: &'static str) {
        let platform = Platform {
            sdk: platform::embedded(Some(self.emulator.connect(name).http_client()), "http://127.0.0.1:4600"),
            clock: self.clock.clone(),
            random: Arc::new(SimRandom::new(name.len() as u64)),
            offload: Arc::new(Inline),
            heartbeats: None,
            metrics: SharedMetrics::new(),
        };
        let mut config = self.config.clone();
        config.worker.id = Some(name.to_owned());
        let (options, stop) = (Options { version: "test".into(), ..Options::default() }, self.stop.clone());
        self.workers.spawn(async move { standpipe_worker::run(&config, &options, platform, stop).await });
    }

    /// So many seconds of load, or until the newcomer has so many leases. How many seconds it was.
    async fn load(&mut self, seconds: usize, until: usize) -> usize {
        for second in 0..seconds {
            for _ in 0..20 {
                let record = (format!("key-{}", self.produced), Bytes::from(self.produced.to_string()));
                self.emulator.put_records(STREAM, &[record]).expect("the stream takes it");
                self.produced += 1;
            }
            sleep(SECOND).await;
            if self.of("newcomer").await >= until {
                return second + 1;
            }
        }
        seconds
    }

    /// How many leases a worker has.
    async fn of(&self, name: &str) -> usize {
        let sdk = platform::embedded(Some(self.emulator.connect("observer").http_client()), "http://127.0.0.1:4600");
        let rows = LeaseTable::new(Dynamo::new(&sdk, 5 * SECOND), TABLE).scan().await.expect("the table");
        let owned = |row: &&standpipe_flow::LeaseRow| {
            row.owner.as_ref().is_some_and(|owner| owner.as_str().starts_with(&format!("{name}-")))
        };
        rows.leases.values().filter(owned).count()
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

    /// Everybody stops in order; everything was delivered, once.
    async fn end(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.workers.join_next().await {
            assert!(matches!(ended, Ok(Ok(Ending::Drained))), "{ended:?}");
        }
        let found = self.delivered();
        assert_eq!(found.len(), self.produced, "nothing is lost");
        assert!(found.values().all(|times| *times == 1), "nothing is there twice");
    }
}

#[tokio::test(start_paused = true)]
async fn under_load_a_newcomer_has_its_share_within_seconds_and_no_record_twice() {
    let mut world = World::new();
    world.start("owner");
    world.load(30, usize::MAX).await;
    world.start("newcomer");
    let seconds = world.load(60, SHARDS / 2).await;
    println!("two of four leases moved {seconds} s after the newcomer's start, with an interval of 60 s");
    assert!(seconds < 20, "{seconds}: what is buffered is flushed early");
    world.load(20, usize::MAX).await;
    assert_eq!((world.of("owner").await, world.of("newcomer").await), (2, 2));
    world.end().await;
}

/// The owner cannot stage: after 30 seconds it gives the lease back as it is, and the newcomer reads the records again.
#[tokio::test(start_paused = true)]
async fn a_destination_that_is_down_for_the_owner_bounds_the_drain() {
    let mut world = World::new();
    world.start("owner");
    world.load(30, usize::MAX).await;
    let rule = Rule::new(Service::S3, Fault::InternalError).connection("owner");
    world.emulator.faults().add(rule.times(u32::MAX));
    world.start("newcomer");
    let seconds = world.load(120, SHARDS / 2).await;
    println!("two of four leases moved {seconds} s after the newcomer's start, although the owner could not drain");
    assert!((30..60).contains(&seconds), "{seconds}");
    world.emulator.faults().clear();
    world.load(120, usize::MAX).await;
    world.end().await;
}

/// The owner has committed and cannot publish: the newcomer publishes the owner's commits, and nothing is read again.
#[tokio::test(start_paused = true)]
async fn what_the_owner_committed_and_could_not_publish_is_published_by_the_newcomer() {
    let mut world = World::new();
    world.start("owner");
    world.load(30, usize::MAX).await;
    let rule = Rule::new(Service::S3, Fault::InternalError).operation("CompleteMultipartUpload").connection("owner");
    world.emulator.faults().add(rule.times(u32::MAX));
    world.start("newcomer");
    let seconds = world.load(120, SHARDS / 2).await;
    println!("two of four leases moved {seconds} s after the newcomer's start, although the owner could not publish");
    assert!((30..60).contains(&seconds), "{seconds}");
    sleep(10 * SECOND).await;
    // Before the newcomer's own first batch is due.
    assert!(!world.delivered().is_empty(), "the newcomer publishes what the owner could not");
    world.emulator.faults().clear();
    world.load(120, usize::MAX).await;
    world.end().await;
}
