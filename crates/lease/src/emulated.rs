//! The tables of this crate's tests: real SDK clients on the emulator, in process, under the paused clock.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_dynamodb::config::{BehaviorVersion, Region};
use aws_types::SdkConfig;
use standpipe_emulator::{Connection, Emulator, Fault, Latency, Options, Rule, Service};
use standpipe_flow::{
    Clock, CommitId, DestinationId, HashRange, Holdings, LeaseKey, LeaseRow, Millis, Random, SequenceNumber, ShardId,
    Tenure, WorkerId,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::coordinator::{LeaseEvent, LeaseHandle, LostReason, ShardCatalog};
use crate::kcl::{self, Item};
use crate::start::{LeaseSettings, Leases, Seams, StartError, StartPosition};
use crate::{CommitTable, Dynamo, HeartbeatMode, LeaseTable, ShardInfo, StreamIdentity};

pub(crate) const TABLE: &str = "orders";
pub(crate) const FAILOVER: Duration = Duration::from_secs(10);
/// When every test begins.
pub(crate) const MORNING: Millis = Millis(1_790_000_000_000);

#[derive(Debug)]
pub(crate) struct TestClock(tokio::time::Instant);

impl Clock for TestClock {
    fn wall(&self) -> Millis {
        Millis(MORNING.0 + self.0.elapsed().as_millis() as u64)
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// splitmix64.
#[derive(Debug)]
pub(crate) struct Seeded(AtomicU64);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

impl Random for Seeded {
    fn next(&self) -> u64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// The shards of the stream, as the test says.
#[derive(Debug, Default)]
pub(crate) struct Shards(pub(crate) Mutex<Vec<ShardInfo>>);

#[async_trait]
impl ShardCatalog for Shards {
    async fn list(&self) -> Result<Vec<ShardInfo>, String> {
        Ok(self.0.lock().expect("shards").clone())
    }
}

pub(crate) fn shard_id(n: u64) -> ShardId {
    ShardId::new(format!("shardId-{n:012}"))
}

pub(crate) fn lease(n: u64) -> LeaseKey {
    LeaseKey::of(&shard_id(n))
}

pub(crate) fn shard(n: u64, parents: &[u64], open: bool) -> ShardInfo {
    ShardInfo {
        id: shard_id(n),
        parents: parents.iter().copied().map(shard_id).collect(),
        hash_range: HashRange { start: 0, end: u128::MAX },
        starting_sequence: SequenceNumber::from(n),
        open,
    }
}

pub(crate) struct World {
    pub(crate) emulator: Arc<Emulator>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) shards: Arc<Shards>,
    processes: AtomicU64,
}

impl World {
    /// An emulator where nothing takes time.
    pub(crate) fn still() -> Self {
        Self::with(Latency::default(), false)
    }

    /// An emulator where requests travel.
    pub(crate) fn new() -> Self {
        Self::with(Latency { request: (1, 5), answer: (1, 5), ..Latency::default() }, false)
    }

    /// An emulator that keeps the list of requests.
    pub(crate) fn traced() -> Self {
        Self::with(Latency::default(), true)
    }

    fn with(latency: Latency, trace: bool) -> Self {
        let clock = Arc::new(TestClock(tokio::time::Instant::now()));
        let wall = Arc::clone(&clock);
        let options = Options { latency, trace, seed: 7, ..Options::new(Arc::new(move || wall.wall().0)) };
        let emulator = Emulator::new(options).expect("an emulator");
        Self { emulator, clock, shards: Arc::default(), processes: AtomicU64::new(0) }
    }

    pub(crate) fn open_shards(&self, count: u64) {
        *self.shards.0.lock().expect("shards") = (0..count).map(|n| shard(n, &[], true)).collect();
    }

    pub(crate) fn dynamo(&self, connection: &Connection) -> Dynamo {
        Dynamo::new(&config(connection), FAILOVER)
    }

    pub(crate) fn connect(&self, name: &str) -> Connection {
        self.emulator.connect(name)
    }

    /// The lease table, made.
    pub(crate) async fn table(&self) -> LeaseTable {
        let table = LeaseTable::new(self.dynamo(&self.connect("test")), TABLE);
        table.open(true).await.expect("a lease table");
        table
    }

    /// Both tables, made.
    pub(crate) async fn tables(&self) -> (LeaseTable, CommitTable) {
        let table = self.table().await;
        let commits = CommitTable::new(self.dynamo(&self.connect("test")), TABLE, self.clock.clone());
        commits.open(true, &crate::Rows::default()).await.expect("a commit table");
        (table, commits)
    }

    pub(crate) fn fault(&self, fault: Fault, operation: &str, times: u32) {
        self.emulator.faults().add(Rule::new(Service::DynamoDb, fault).operation(operation).times(times));
    }

    /// A client of somebody else's.
    pub(crate) fn client(&self, name: &str) -> aws_sdk_dynamodb::Client {
        aws_sdk_dynamodb::Client::new(&config(&self.connect(name)))
    }

    /// Makes a table of somebody else's and writes an item into it.
    pub(crate) async fn put_in(&self, table: &str, key: &'static str, item: Item) {
        let spec = crate::admin::Spec { table, key, ttl: None };
        let client = self.client("raw");
        crate::admin::open(&client, &spec, true).await.expect("a table");
        let request = client.put_item().table_name(table).set_item(Some(item.into_iter().collect()));
        request.send().await.expect("an item is put");
    }

    /// Writes an item as it is, as no code of ours ever would.
    pub(crate) async fn put(&self, item: Item) {
        let client = aws_sdk_dynamodb::Client::new(&config(&self.connect("raw")));
        let request = client.put_item().table_name(TABLE).set_item(Some(item.into_iter().collect()));
        request.send().await.expect("an item is put");
    }

    pub(crate) async fn item(&self, key: &LeaseKey) -> Option<Item> {
        let client = aws_sdk_dynamodb::Client::new(&config(&self.connect("raw")));
        let request = client.get_item().table_name(TABLE).key("leaseKey", kcl::text(key.as_str()));
        let item = request.consistent_read(true).send().await.expect("an answer").item?;
        Some(item.into_iter().collect())
    }

    pub(crate) async fn put_row(&self, row: &LeaseRow) {
        self.put(kcl::encode(row)).await;
    }

    pub(crate) async fn delete(&self, key: &LeaseKey) {
        let client = aws_sdk_dynamodb::Client::new(&config(&self.connect("raw")));
        let request = client.delete_item().table_name(TABLE).key("leaseKey", kcl::text(key.as_str()));
        request.send().await.expect("an answer");
    }

    /// What a Java worker does: it checkpoints with its own counter.
    pub(crate) async fn java_checkpoint(&self, key: &LeaseKey, checkpoint: &str) {
        let client = aws_sdk_dynamodb::Client::new(&config(&self.connect("java")));
        let request = client.update_item().table_name(TABLE).key("leaseKey", kcl::text(key.as_str()));
        let request = request.update_expression("SET checkpoint = :c ADD leaseCounter :one");
        let request = request.expression_attribute_values(":c", kcl::text(checkpoint));
        request.expression_attribute_values(":one", kcl::number(1)).send().await.expect("an answer");
    }

    pub(crate) fn settings(&self, worker: &str) -> LeaseSettings {
        LeaseSettings {
            worker: WorkerId::new(worker),
            table: TABLE.to_owned(),
            failover: FAILOVER,
            heartbeat: HeartbeatMode::PerLease,
            leases_max: usize::MAX,
            create: true,
            start: StartPosition::TrimHorizon,
            stream: stream(),
            destinations: [(DestinationId::new("lake"), "s3 acme-lake".to_owned())].into(),
            retired: BTreeSet::new(),
            adopt_destinations: false,
        }
    }

    pub(crate) async fn leases(&self, settings: LeaseSettings) -> Result<(Leases, Connection), StartError> {
        let name = settings.worker.to_string();
        let connection = self.connect(&name);
        let seed = self.processes.fetch_add(1, Ordering::Relaxed) << 32;
        let seams = Seams {
            heartbeats: self.dynamo(&connection),
            dynamo: self.dynamo(&connection),
            clock: self.clock.clone(),
            random: Arc::new(Seeded::new(seed)),
            catalog: self.shards.clone(),
        };
        Ok((crate::start(settings, seams).await?, connection))
    }

    pub(crate) async fn worker(&self, name: &str) -> Worker {
        self.worker_with(self.settings(name)).await
    }

    pub(crate) async fn worker_with(&self, settings: LeaseSettings) -> Worker {
        let (leases, connection) = self.leases(settings).await.expect("a worker");
        let Leases { handle, events, holdings, commits, coordinator, heartbeats, .. } = leases;
        let mut tasks = JoinSet::new();
        tasks.spawn(coordinator.run());
        tasks.spawn(heartbeats.run());
        Worker { handle, events, holdings, commits, connection, tasks }
    }
}

pub(crate) fn stream() -> StreamIdentity {
    StreamIdentity { arn: "arn:aws:kinesis:eu-west-1:111122223333:stream/orders".to_owned(), created_at: Millis(1) }
}

fn config(connection: &Connection) -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::from_keys("id", "secret", None)))
        .endpoint_url("http://dynamodb.emulator.test")
        .http_client(connection.http_client())
        .build()
}

/// One worker process: its leases, and nobody who reads.
pub(crate) struct Worker {
    pub(crate) handle: LeaseHandle,
    pub(crate) events: mpsc::UnboundedReceiver<LeaseEvent>,
    pub(crate) holdings: Arc<Holdings>,
    pub(crate) commits: CommitTable,
    pub(crate) connection: Connection,
    pub(crate) tasks: JoinSet<()>,
}

impl Worker {
    /// The next event, within a minute.
    pub(crate) async fn event(&mut self) -> LeaseEvent {
        let event = tokio::time::timeout(Duration::from_secs(60), self.events.recv()).await;
        event.expect("an event within a minute").expect("a coordinator")
    }

    /// The next event, which must be a take.
    pub(crate) async fn taken(&mut self) -> (LeaseRow, Tenure) {
        match self.event().await {
            LeaseEvent::Taken { row, fence, .. } => (*row, fence.tenure),
            other => panic!("{other:?}"),
        }
    }

    /// The next event, which must be a loss.
    pub(crate) async fn lost(&mut self) -> (LeaseKey, LostReason) {
        match self.event().await {
            LeaseEvent::Lost { lease, reason, .. } => (lease, reason),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn take_all(&mut self, count: usize) {
        for _ in 0..count {
            self.taken().await;
        }
        assert_eq!(self.holdings.len(), count);
    }

    pub(crate) async fn take_all_more(&mut self, count: usize) {
        let before = self.holdings.len();
        for _ in 0..count {
            self.taken().await;
        }
        assert_eq!(self.holdings.len(), before + count);
    }

    /// No event for so long.
    pub(crate) async fn quiet(&mut self, span: Duration) {
        let event = tokio::time::timeout(span, self.events.recv()).await;
        assert!(event.is_err(), "{event:?}");
    }

    /// As `kill -9`.
    pub(crate) fn kill(mut self) {
        self.tasks.abort_all();
    }
}

pub(crate) fn cid(n: u8) -> CommitId {
    CommitId([n; 16])
}
