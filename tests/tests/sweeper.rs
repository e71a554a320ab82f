//! The sweeper beside a second deployment on the same bucket and prefix: it ends what crashed workers of its own left
//! behind, a day later by S3's clock, and touches nothing that may still be published.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use standpipe_convert::{Compression, Delimiter, Format};
use standpipe_destinations::{LostObject, Publish, S3, S3Settings};
use standpipe_emulator::{Emulator, Options};
use standpipe_flow::conformance;
use standpipe_flow::write::{self, Take};
use standpipe_flow::{
    Batch, BatchLimits, Clock, Commit, CommitId, CommitLog, CommitShard, Destination, DestinationId, Fence, Finalize,
    LeaseKey, LeaseRow, Partition, Position, Receipt, ReceiptState, Record, Tenure, WorkerId,
};
use standpipe_lease::{CommitTable, Dynamo, LeaseTable};
use standpipe_tests::simulation::{Inline, SimClock, SimRandom};
use standpipe_worker::{Sweeper, Swept, platform};

const BUCKET: &str = "lake";
const DAY: Duration = Duration::from_secs(24 * 3600);

struct Deployment {
    sweeper: Sweeper,
    commits: Arc<CommitTable>,
    worker: WorkerId,
}

async fn deployment(emulator: &Arc<Emulator>, clock: Arc<SimClock>, table: &str) -> Deployment {
    let sdk = platform::embedded(Some(emulator.connect(table).http_client()), "http://127.0.0.1:4600");
    let dynamo = Dynamo::new(&sdk, Duration::from_secs(10));
    let leases = LeaseTable::new(dynamo.clone(), table);
    leases.open(true).await.expect("a new table");
    let commits = CommitTable::new(dynamo, table, clock);
    let fingerprint = commits.open(true, &leases.scan().await.expect("a scan")).await.expect("a new table");
    let commits = Arc::new(commits);
    let settings = S3Settings {
        bucket: BUCKET.into(),
        prefix: standpipe_config::template::Template::prefix(Some("out/")).expect("a prefix"),
        error_prefix: standpipe_config::template::Template::prefix(Some("errors/")).expect("a prefix"),
        pipeline: "orders".into(),
        time_zone: jiff::tz::TimeZone::UTC,
        format: Format::JsonLines { delimiter: Delimiter::Newline },
        compression: Compression::None,
        file_extension: None,
        limits: BatchLimits {
            size_bytes: 1 << 20,
            interval: Duration::from_secs(1),
            shards_max: 32,
            partitions_max: None,
        },
        kms: None,
        expected_owner: None,
        backup: None,
        lost_object: LostObject::Replay,
        publish: Publish::Put,
    };
    let s3 = Arc::new(S3::new(&sdk, settings, Arc::new(Inline), Arc::new(SimRandom::new(1))));
    let sweeper = Sweeper { s3, log: commits.clone(), table: leases, fingerprint };
    Deployment { sweeper, commits, worker: WorkerId::new(format!("worker-of-{table}")) }
}

impl Deployment {
    /// Stages a batch of one shard and leaves its upload open.
    async fn stage(&self, number: u64) -> (Arc<Batch>, Receipt) {
        let batch = self.batch(number);
        self.staged(number, batch).await
    }

    fn batch(&self, number: u64) -> Batch {
        let mut batch = Arc::unwrap_or_clone(conformance::batch(3));
        batch.shards.truncate(1);
        batch.shards[0].range.fence = Fence {
            lease: LeaseKey::new(format!("shardId-{number:012}")),
            owner: self.worker.clone(),
            tenure: Tenure([number as u8; 16]),
            generation: Default::default(),
        };
        batch
    }

    /// The same of a batch of many small objects, which are staged together.
    async fn stage_together(&self, number: u64) -> (Arc<Batch>, Receipt) {
        let mut batch = self.batch(number);
        let chunk = &mut batch.shards[0].chunks[0];
        let record = chunk.records[0].clone();
        let of_partition = |n: u64| {
            let query = [("k".to_owned(), n.to_string())].into();
            Record { partition: Some(Arc::new(Partition { query, ..Partition::default() })), ..record.clone() }
        };
        chunk.records = (0..20).map(of_partition).collect();
        self.staged(number, batch).await
    }

    async fn staged(&self, number: u64, batch: Batch) -> (Arc<Batch>, Receipt) {
        let batch = Arc::new(batch);
        let cid = CommitId::new(batch.cut_at, self.sweeper.fingerprint, number << 8);
        let staged = self.sweeper.s3.stage(cid, &batch).await.expect("the bucket is there");
        let receipt = conformance::receipt(cid, &batch, staged);
        (batch, receipt)
    }

    /// Takes the batch's lease and commits it.
    async fn commit(&self, batch: &Batch, receipt: &Receipt) {
        let range = &batch.shards[0].range;
        let row = LeaseRow::new(range.fence.lease.clone());
        assert!(self.sweeper.table.create(&row).await.expect("a new row"));
        let destinations: BTreeSet<DestinationId> = [batch.destination.clone()].into();
        let none = BTreeSet::new();
        let take = Take {
            row: &row,
            worker: &self.worker,
            tenure: range.fence.tenure,
            destinations: &destinations,
            retired: &none,
        };
        self.sweeper.table.write(&write::take(&take)).await.expect("a take");
        let shard = CommitShard {
            fence: range.fence.clone(),
            from: Position::TrimHorizon,
            from_arrival: None,
            to: range.to.clone(),
            previous: None,
        };
        let commit = Commit { shards: vec![shard], receipt: receipt.clone() };
        self.commits.commit(&commit).await.expect("a commit");
    }
}

fn open(emulator: &Emulator) -> BTreeMap<String, usize> {
    let mut open = BTreeMap::new();
    for upload in emulator.open_uploads(BUCKET) {
        *open.entry(upload.key).or_default() += 1;
    }
    open
}

#[tokio::test(start_paused = true)]
async fn orphans_of_our_own_deployment_end_after_a_day_and_nothing_else_does() {
    let clock = Arc::new(SimClock::start());
    let wall = clock.clone();
    let emulator = Emulator::new(Options::new(Arc::new(move || wall.wall().0))).expect("in memory");
    emulator.create_bucket(BUCKET).expect("in memory");
    let ours = deployment(&emulator, clock.clone(), "orders-a").await;
    let theirs = deployment(&emulator, clock.clone(), "orders-b").await;
    assert_ne!(ours.sweeper.fingerprint, theirs.sweeper.fingerprint);

    let (_, orphan) = ours.stage(1).await;
    let (_, foreign) = theirs.stage(1).await;
    let (pending_batch, pending) = ours.stage(2).await;
    ours.commit(&pending_batch, &pending).await;
    // Committed, and no row carries it any more: a Java worker has finished the shard.
    let (forgotten_batch, forgotten) = ours.stage(3).await;
    ours.commit(&forgotten_batch, &forgotten).await;
    let range = &forgotten_batch.shards[0].range;
    let finalize = Finalize {
        lease: range.fence.lease.clone(),
        destination: forgotten_batch.destination.clone(),
        cid: forgotten.cid,
        to: range.to.clone(),
        arrival: None,
    };
    ours.commits.finalize(&finalize).await.expect("it carries the commit");

    tokio::time::advance(DAY - Duration::from_secs(60)).await;
    let (_, young) = ours.stage(4).await;
    assert_eq!(ours.sweeper.sweep().await, Ok(Swept { seen: 4, ended: 0 }), "nothing is a day old");
    tokio::time::advance(Duration::from_secs(120)).await;
    assert_eq!(ours.sweeper.sweep().await, Ok(Swept { seen: 4, ended: 2 }));

    let open = open(&emulator);
    let is_open = |receipt: &Receipt| receipt.outputs.iter().all(|output| open.contains_key(&output.key));
    assert!(!is_open(&orphan), "of a worker that crashed before its commit");
    assert!(!is_open(&forgotten), "of a commit that nobody can finish");
    assert!(is_open(&pending), "it may still be published");
    assert!(is_open(&foreign), "of another deployment on the same bucket and prefix");
    assert!(is_open(&young));
    let state = ours.commits.receipt(forgotten.cid).await.expect("an answer").map(|receipt| receipt.state);
    assert_eq!(state, Some(ReceiptState::Retracted));
}

/// The keys of staging objects.
fn staging_objects(emulator: &Emulator) -> BTreeSet<String> {
    let keys = emulator.objects(BUCKET).into_iter().map(|object| object.key);
    keys.filter(|key| key.starts_with("standpipe-staging/")).collect()
}

#[tokio::test(start_paused = true)]
async fn staging_objects_end_after_a_day_unless_their_commit_may_still_be_published() {
    let clock = Arc::new(SimClock::start());
    let wall = clock.clone();
    let emulator = Emulator::new(Options::new(Arc::new(move || wall.wall().0))).expect("in memory");
    emulator.create_bucket(BUCKET).expect("in memory");
    let ours = deployment(&emulator, clock.clone(), "orders-a").await;
    let theirs = deployment(&emulator, clock.clone(), "orders-b").await;

    let (_, orphan) = ours.stage_together(1).await;
    let (_, foreign) = theirs.stage_together(1).await;
    let (pending_batch, pending) = ours.stage_together(2).await;
    ours.commit(&pending_batch, &pending).await;
    // Its publisher crashed between DONE and the deletion.
    let (done_batch, done) = ours.stage_together(3).await;
    ours.commit(&done_batch, &done).await;
    ours.sweeper.s3.publish(&done).await.expect("published");
    ours.commits.done(done.cid, false).await.expect("it is committed");
    // Committed, and no row carries it any more: a Java worker has finished the shard.
    let (forgotten_batch, forgotten) = ours.stage_together(4).await;
    ours.commit(&forgotten_batch, &forgotten).await;
    let range = &forgotten_batch.shards[0].range;
    let finalize = Finalize {
        lease: range.fence.lease.clone(),
        destination: forgotten_batch.destination.clone(),
        cid: forgotten.cid,
        to: range.to.clone(),
        arrival: None,
    };
    ours.commits.finalize(&finalize).await.expect("it carries the commit");

    tokio::time::advance(DAY - Duration::from_secs(60)).await;
    let (_, young) = ours.stage_together(5).await;
    assert_eq!(ours.sweeper.sweep().await, Ok(Swept { seen: 5, ended: 0 }), "nothing is a day old");
    tokio::time::advance(Duration::from_secs(120)).await;
    assert_eq!(ours.sweeper.sweep().await, Ok(Swept { seen: 5, ended: 3 }));

    let left = staging_objects(&emulator);
    let is_left = |receipt: &Receipt| left.iter().any(|key| key.contains(&receipt.cid.to_string()));
    assert!(!is_left(&orphan), "of a worker that crashed before its commit");
    assert!(!is_left(&done), "nobody needs it");
    assert!(!is_left(&forgotten), "of a commit that nobody can finish");
    assert!(is_left(&pending), "it may still be published");
    assert!(is_left(&foreign), "of another deployment on the same bucket");
    assert!(is_left(&young));
    let state = ours.commits.receipt(forgotten.cid).await.expect("an answer").map(|receipt| receipt.state);
    assert_eq!(state, Some(ReceiptState::Retracted));
    ours.sweeper.s3.publish(&pending).await.expect("published");
    let objects = emulator.objects(BUCKET).len() - staging_objects(&emulator).len();
    assert_eq!(objects, done.outputs.len() + pending.outputs.len());
}
