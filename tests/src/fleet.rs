//! Workers of one pipeline over the SDK and the emulator in process, under the paused clock, that deliver lines of numbers
//! to one bucket: what tests of whole workers begin with. Never here: a fault.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use standpipe_config::Config;
use standpipe_emulator::{Emulator, Options as EmulatorOptions};
use standpipe_flow::Clock;
use standpipe_lease::{Dynamo, LeaseTable, Rows};
use standpipe_worker::platform::{self, SdkConfig};
use standpipe_worker::{Ending, Options, Platform, SharedMetrics, WorkerError};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::simulation::{Inline, SimClock, SimRandom};

const STREAM: &str = "events";
const BUCKET: &str = "lake";
const TABLE: &str = "standpipe-fleet";

/// A stream, a bucket, and workers.
#[derive(Debug)]
pub struct Fleet {
    /// The endpoints.
    pub emulator: Arc<Emulator>,
    /// The clock of everything.
    pub clock: Arc<SimClock>,
    config: Config,
    workers: JoinSet<Result<Ending, WorkerError>>,
    stop: CancellationToken,
    produced: usize,
}

impl Fleet {
    /// A stream of so many shards and nobody who reads it; the failover time and the buffer interval are in seconds.
    ///
    /// # Panics
    /// As a test does.
    pub fn new(shards: usize, failover: u64, interval: u64) -> Self {
        let clock = Arc::new(SimClock::start());
        let of_emulator = clock.clone();
        let options = EmulatorOptions::new(Arc::new(move || of_emulator.wall().0));
        let emulator = Emulator::new(options).expect("an emulator in memory opens");
        emulator.create_stream(STREAM, shards).expect("a new stream");
        emulator.create_bucket(BUCKET).expect("a bucket in memory");
        let text = format!(
            "version: 1\nhttp: \"off\"\nworker: {{ memory: 64MiB }}\npipelines:\n  fleet:\n    \
             lease: {{ table: {TABLE}, failover: {failover}s }}\n    \
             source: {{ kinesis: {{ stream: {STREAM}, start: trim_horizon, poll: 1s }} }}\n    \
             destinations:\n      - s3: {{ bucket: {BUCKET}, buffer: {{ interval: {interval}s }} }}\n"
        );
        let checks = standpipe_config::Unchecked;
        let config = match standpipe_config::parse("fleet.yaml", &text, &|_| None, &checks) {
            Ok(config) => config,
            Err(errors) => panic!("the config is refused:\n{}", errors.render(false)),
        };
        Self { emulator, clock, config, workers: JoinSet::new(), stop: CancellationToken::new(), produced: 0 }
    }

    /// The way of somebody to the endpoints.
    pub fn sdk(&self, name: &str) -> SdkConfig {
        platform::embedded(Some(self.emulator.connect(name).http_client()), "http://127.0.0.1:4600")
    }

    /// Starts a worker that reaches the endpoints in this way.
    pub fn start(&mut self, name: &str, sdk: SdkConfig) -> SharedMetrics {
        let metrics = SharedMetrics::new();
        let platform = Platform {
            sdk,
            clock: self.clock.clone(),
            random: Arc::new(SimRandom::new(name.len() as u64)),
            offload: Arc::new(Inline),
            heartbeats: None,
            outside: Default::default(),
            metrics: metrics.clone(),
        };
        let mut config = self.config.clone();
        config.worker.id = Some(name.to_owned());
        let (options, stop) = (Options { version: "test".into(), ..Options::default() }, self.stop.clone());
        self.workers.spawn(async move { standpipe_worker::run(&config, &options, platform, stop).await });
        metrics
    }

    /// Puts so many more numbers into the stream.
    ///
    /// # Panics
    /// As a test does.
    pub fn produce(&mut self, records: usize) {
        for _ in 0..records {
            let record = (format!("key-{}", self.produced), Bytes::from(self.produced.to_string()));
            self.emulator.put_records(STREAM, &[record]).expect("the stream takes it");
            self.produced += 1;
        }
    }

    /// The lease table.
    ///
    /// # Panics
    /// As a test does.
    pub async fn rows(&self) -> Rows {
        let table = LeaseTable::new(Dynamo::new(&self.sdk("observer"), Duration::from_secs(5)), TABLE);
        table.scan().await.expect("the table")
    }

    /// The owner of each lease, by the name that it was started under.
    pub async fn owners(&self) -> Vec<String> {
        let rows = self.rows().await;
        let owner = |row: &standpipe_flow::LeaseRow| {
            let owner = row.owner.as_ref().map_or("nobody", |owner| owner.as_str());
            owner.split_once('-').map_or(owner, |(name, _)| name).to_owned()
        };
        rows.leases.values().map(owner).collect()
    }

    /// How often each number was delivered.
    ///
    /// # Panics
    /// As a test does.
    pub fn delivered(&self) -> BTreeMap<usize, usize> {
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
    ///
    /// # Panics
    /// If it is not so.
    pub async fn end(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.workers.join_next().await {
            assert!(matches!(ended, Ok(Ok(Ending::Drained))), "{ended:?}");
        }
        let found = self.delivered();
        assert_eq!(found.len(), self.produced, "nothing is lost");
        assert!(found.values().all(|times| *times == 1), "nothing is there twice");
    }
}
