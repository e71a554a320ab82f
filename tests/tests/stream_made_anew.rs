//! A stream that is deleted and made anew under its name while a worker reads it: what was read of the old one is
//! delivered, nothing of the new one is read under the old leases, and the program ends with the reason.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use standpipe_emulator::{Emulator, Options as EmulatorOptions};
use standpipe_flow::{Clock, LeaseKey};
use standpipe_lease::{Dynamo, LeaseTable};
use standpipe_tests::simulation::{Inline, SimClock, SimRandom};
use standpipe_worker::{Options, Platform, SharedMetrics, WorkerError, platform};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const STREAM: &str = "events";
const BUCKET: &str = "lake";
const TABLE: &str = "leases";

struct World {
    emulator: Arc<Emulator>,
    clock: Arc<SimClock>,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(SimClock::start());
        let wall = Arc::clone(&clock);
        let emulator = Emulator::new(EmulatorOptions::new(Arc::new(move || wall.wall().0))).expect("an emulator");
        emulator.create_bucket(BUCKET).expect("a bucket");
        Self { emulator, clock }
    }

    fn worker(&self, name: &str, interval: &str) -> JoinHandle<Result<(), WorkerError>> {
        let text = format!(
            "version: 1\nhttp: \"off\"\nworker: {{ id: {name}, memory: 64MiB }}\npipelines:\n  sim:\n    \
             lease: {{ table: {TABLE}, failover: 3s }}\n    source: {{ kinesis: {{ stream: {STREAM}, start: trim_horizon }} }}\n    \
             destinations:\n      - s3: {{ bucket: {BUCKET}, prefix: \"out/\", buffer: {{ size: 1MiB, interval: {interval} }} }}\n"
        );
        let checks = standpipe_config::Unchecked;
        let config = standpipe_config::parse("anew.yaml", &text, &|_| None, &checks);
        let config = config.unwrap_or_else(|errors| panic!("{}", errors.render(false)));
        let platform = Platform {
            sdk: platform::embedded(Some(self.emulator.connect(name).http_client()), "http://127.0.0.1:4600"),
            clock: self.clock.clone(),
            random: Arc::new(SimRandom::new(1)),
            offload: Arc::new(Inline),
            heartbeats: None,
            outside: Default::default(),
            metrics: SharedMetrics::new(),
        };
        #[allow(clippy::disallowed_methods)] // a worker process of the test
        tokio::spawn(async move {
            let options = Options { version: "test".into(), ..Options::default() };
            standpipe_worker::run(&config, &options, platform, CancellationToken::new()).await.map(|_| ())
        })
    }

    fn put(&self, word: &str, count: usize) {
        let records: Vec<(String, Bytes)> = (0..count)
            .map(|n| (format!("key-{n}"), Bytes::from(format!("{{\"word\":\"{word}\",\"n\":{n}}}"))))
            .collect();
        self.emulator.put_records(STREAM, &records).expect("the stream takes records");
    }

    fn delivered(&self) -> Vec<String> {
        let objects = self.emulator.objects(BUCKET).into_iter();
        let bodies = objects.filter_map(|object| self.emulator.object(BUCKET, &object.key));
        bodies.flat_map(|body| String::from_utf8_lossy(&body).lines().map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    async fn until(&self, what: &str, is: impl Fn(&Self) -> bool) {
        for _ in 0..300 {
            if is(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("not within a minute: {what}");
    }
}

fn cause(ended: Result<Result<(), WorkerError>, tokio::task::JoinError>) -> String {
    match ended.expect("no panic") {
        Err(WorkerError::Findings(cause)) => cause,
        other => panic!("it must end with the reason: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_of_the_new_stream_is_read_under_the_leases_of_the_old_one() {
    // Eight shards and few keys: some shards have records, others are still at TRIM_HORIZON.
    for pause in [0, 3, 30] {
        let world = World::new();
        world.emulator.create_stream(STREAM, 8).expect("a new stream");
        let worker = world.worker("first", "1s");
        world.put("old", 4);
        world.until("the old records", |world| world.delivered().len() == 4).await;

        world.emulator.delete_stream(STREAM).expect("deleted");
        tokio::time::sleep(Duration::from_secs(pause) + Duration::from_millis(1)).await;
        world.emulator.create_stream(STREAM, 8).expect("made anew");
        world.put("new", 400);
        let ended = tokio::time::timeout(Duration::from_secs(600), worker).await.expect("it ends by itself");
        let cause = cause(ended);
        assert!(cause.contains("made anew"), "{cause}");
        let words: BTreeSet<bool> = world.delivered().iter().map(|line| line.contains("old")).collect();
        assert_eq!(words, [true].into(), "after {pause} s: {:?}", world.delivered());

        // Started again on the same table, it is refused before the first read.
        let again = cause_of_start(&world).await;
        assert!(again.contains("made anew") || again.contains("another stream"), "{again}");
        assert_eq!(world.delivered().len(), 4);
    }
}

async fn cause_of_start(world: &World) -> String {
    let worker = world.worker("second", "1s");
    cause(tokio::time::timeout(Duration::from_secs(600), worker).await.expect("it ends by itself"))
}

#[tokio::test(start_paused = true)]
async fn what_was_read_of_the_old_stream_is_delivered_before_the_end() {
    let world = World::new();
    world.emulator.create_stream(STREAM, 1).expect("a new stream");
    let worker = world.worker("first", "20s");
    world.put("old", 10);
    let sdk = platform::embedded(Some(world.emulator.connect("observer").http_client()), "http://127.0.0.1:4600");
    let table = LeaseTable::new(Dynamo::new(&sdk, Duration::from_secs(10)), TABLE);
    world.until("the first delivery", |world| world.delivered().len() == 10).await;
    world.put("old", 10);
    // Read, and not yet due.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(world.delivered().len(), 10);
    world.emulator.delete_stream(STREAM).expect("deleted");
    tokio::time::sleep(Duration::from_millis(1)).await;
    world.emulator.create_stream(STREAM, 1).expect("made anew");
    let cause = cause(tokio::time::timeout(Duration::from_secs(600), worker).await.expect("it ends by itself"));
    assert!(cause.contains("made anew"), "{cause}");
    let rows = table.scan().await.expect("a scan");
    let row = rows.get(&LeaseKey::new("shardId-000000000000")).expect("its lease");
    assert_eq!(row.owner, None, "the lease is given back");
    assert!(row.destinations.values().all(|position| position.pending.is_none()), "nothing is left half done");
    assert_eq!(world.delivered().len(), 20, "nothing that was read is left behind");
}
