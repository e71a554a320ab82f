//! The loop's doors: what notices and chunks do to readers. Nothing is ever staged here.

use async_trait::async_trait;
use bytes::Bytes;
use standpipe_flow::deliver::ExtraObject;
use standpipe_flow::{
    Advance, BatchLimits, Chunk, Commit, CommitError, Declare, DeliveryError, DestinationPosition, Fence, Finalize,
    Generation, LeaseRow, Mode, Output, Published, Receipt, Record, SequenceNumber, Staged,
};
use tokio::sync::oneshot;

use super::*;

const T: Tenure = Tenure([1; 16]);

fn lease() -> LeaseKey {
    LeaseKey::new("shardId-000000000001")
}

fn at(number: u64) -> Position {
    Position::at(SequenceNumber::from(number), 0)
}

/// A destination and a log that never answer.
#[derive(Debug)]
struct Silent;

#[async_trait]
impl Destination for Silent {
    fn mode(&self) -> Mode {
        Mode::Staged
    }
    fn limits(&self) -> BatchLimits {
        BatchLimits { size_bytes: 1 << 20, interval: Duration::from_secs(3600), shards_max: 32, partitions_max: None }
    }
    async fn probe(&self) -> Result<(), DeliveryError> {
        Ok(())
    }
    async fn stage(&self, _: CommitId, _: &Arc<Batch>) -> Result<Staged, DeliveryError> {
        std::future::pending().await
    }
    async fn stage_extra(&self, _: CommitId, _: &ExtraObject) -> Result<(Output, Option<Millis>), DeliveryError> {
        std::future::pending().await
    }
    async fn publish(&self, _: &Receipt) -> Result<Published, DeliveryError> {
        std::future::pending().await
    }
    async fn discard(&self, _: &[Output]) -> Result<(), DeliveryError> {
        std::future::pending().await
    }
    async fn write_incident(&self, _: CommitId, _: Bytes) -> Result<(), DeliveryError> {
        std::future::pending().await
    }
}

#[async_trait]
impl CommitLog for Silent {
    async fn prepare(&self, _: &Receipt) -> Result<(), CommitError> {
        std::future::pending().await
    }
    async fn commit(&self, _: &Commit) -> Result<(), CommitError> {
        std::future::pending().await
    }
    async fn done(&self, _: CommitId, _: bool) -> Result<(), CommitError> {
        std::future::pending().await
    }
    async fn receipt(&self, _: CommitId) -> Result<Option<Receipt>, CommitError> {
        std::future::pending().await
    }
    async fn finalize(&self, _: &Finalize) -> Result<(), CommitError> {
        std::future::pending().await
    }
    async fn declare(&self, _: &Declare) -> Result<(), CommitError> {
        std::future::pending().await
    }
    async fn advance(&self, _: &Advance) -> Result<(), CommitError> {
        std::future::pending().await
    }
    async fn row(&self, _: &LeaseKey) -> Result<Option<LeaseRow>, CommitError> {
        std::future::pending().await
    }
    async fn retract(&self, _: &Receipt, _: &[LeaseRow]) -> Result<(), CommitError> {
        std::future::pending().await
    }
}

#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn wall(&self) -> Millis {
        Millis(0)
    }
    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

impl Random for Still {
    fn next(&self) -> u64 {
        1
    }
}

/// A running loop that holds one lease, finalized up to record 10, with the order to read it taken out.
struct Scene {
    notices: mpsc::UnboundedSender<Notice>,
    chunks: mpsc::Sender<Arrived>,
    orders: mpsc::UnboundedReceiver<(DestinationId, Order)>,
    budget: Arc<Budget>,
    metrics: Metrics,
    _loop: JoinSet<()>,
}

impl Scene {
    async fn begin() -> (Self, u64) {
        let me = WorkerId::new("me");
        let id = DestinationId::new("lake");
        let mut row = LeaseRow::new(lease());
        row.destinations.insert(id.clone(), DestinationPosition::finalized(at(10), None));
        let fence = Fence { lease: lease(), owner: me.clone(), tenure: T, generation: Generation(0) };
        let (notices, notices_in) = mpsc::unbounded_channel();
        let (chunks, chunks_in) = mpsc::channel(8);
        let (orders_out, orders) = mpsc::unbounded_channel();
        let (budget, metrics) = (Budget::new(1 << 20), Metrics::default());
        let delivery = Delivery {
            worker: me,
            id,
            destination: Arc::new(Silent),
            log: Arc::new(Silent),
            holdings: Arc::default(),
            budget: budget.clone(),
            clock: Arc::new(Still),
            random: Arc::new(Still),
            fingerprint: 0,
            config: String::new(),
            version: String::new(),
            metrics: metrics.clone(),
            pipeline: "test".into(),
            retention: Duration::ZERO,
            isolate: true,
        };
        let mut running = JoinSet::new();
        running.spawn(delivery.run(notices_in, chunks_in, orders_out));
        let mut scene = Self { notices, chunks, orders, budget, metrics, _loop: running };
        scene.notify(Notice::Taken { row: Box::new(row), fence });
        let epoch = scene.reads_from(&at(10)).await;
        (scene, epoch)
    }

    fn notify(&self, notice: Notice) {
        self.notices.send(notice).expect("the loop runs");
    }

    /// Takes the next order: the epoch under which reading is to go on after `position`.
    async fn reads_from(&mut self, position: &Position) -> u64 {
        match self.orders.recv().await {
            Some((_, Order::Read { from, epoch, .. })) if from == *position => epoch,
            order => panic!("an order to read on from {position} was expected, not {order:?}"),
        }
    }

    /// Hands the records `from + 1 ..= to` on.
    async fn hand_on(&self, epoch: u64, from: u64, to: u64) {
        let record = |number| Record {
            data: Bytes::from_static(b"x"),
            partition_key: "k".into(),
            sequence: SequenceNumber::from(number),
            sub: 0,
            arrival: Millis(0),
            transformed: None,
            partition: None,
        };
        let chunk = Chunk {
            lease: lease(),
            tenure: T,
            from: at(from),
            to: at(to),
            records: (from + 1..=to).map(record).collect(),
            rejected: Vec::new(),
            originals: Default::default(),
            behind: Duration::ZERO,
            memory_bytes: 1024,
            taken: Default::default(),
        };
        let share = Arc::new(self.budget.take(1024).await);
        self.chunks.send(Arrived { chunk, epoch, share, newest: None }).await.expect("the loop runs");
    }

    fn breaches(&self) -> u64 {
        let at = At { pipeline: "test".into(), destination: "lake".into() };
        self.metrics.invariant_violations.get_or_create(&at.why("I15")).get()
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stumbles_reads_on_where_its_chunks_end_and_what_the_old_one_still_sends_is_void() {
    let (mut scene, first) = Scene::begin().await;
    scene.hand_on(first, 10, 12).await;
    scene.notify(Notice::Stumbled { lease: lease(), tenure: T, epoch: first });
    let second = scene.reads_from(&at(12)).await;
    assert!(second > first);
    scene.hand_on(first, 12, 14).await;
    scene.hand_on(second, 12, 13).await;
    // News of a reader that was replaced already says nothing.
    scene.notify(Notice::Stumbled { lease: lease(), tenure: T, epoch: first });
    scene.notify(Notice::Stumbled { lease: lease(), tenure: T, epoch: second });
    scene.reads_from(&at(13)).await;
    assert_eq!(scene.breaches(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_shard_end_before_all_its_chunks_have_come_is_counted_and_read_on_from() {
    let (mut scene, epoch) = Scene::begin().await;
    scene.hand_on(epoch, 10, 12).await;
    scene.notify(Notice::ShardEnd { lease: lease(), tenure: T, epoch, at: at(14) });
    let anew = scene.reads_from(&at(12)).await;
    assert_eq!(scene.breaches(), 1);
    scene.hand_on(anew, 12, 14).await;
    scene.notify(Notice::ShardEnd { lease: lease(), tenure: T, epoch: anew, at: at(14) });
    // The end is taken: nothing is read any more.
    scene.notify(Notice::Stumbled { lease: lease(), tenure: T, epoch: anew });
    let (drained, _answer) = oneshot::channel();
    scene.notify(Notice::Drain { lease: lease(), tenure: T, drained });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(scene.orders.try_recv().is_err());
    assert_eq!(scene.breaches(), 1);
}
