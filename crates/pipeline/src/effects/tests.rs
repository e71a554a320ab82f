//! What one batch becomes: its records, those that transforms rejected and those that the destination cannot take; and
//! what must be written before a commit is sent.

use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use proptest::prelude::*;
use standpipe_flow::deliver::ExtraObject;
use standpipe_flow::{
    BatchLimits, BatchShard, Checksum, Chunk, Commit, CommitShard, Held, Holding, LeaseKey, Millis, Mode, OutputKind,
    Record, RejectedRecord, SequenceNumber, Staged, Taken, conformance,
};

use super::*;

/// A destination that takes some records, cannot take others, and remembers its error objects; and a log.
#[derive(Debug, Default)]
struct Scripted {
    objects: Mutex<Vec<ExtraObject>>,
    refuses: bool,
    /// What was asked of the log, with failures of `prepare` that are still to come.
    asked: Mutex<Vec<&'static str>>,
    failures: Mutex<usize>,
    /// What publishing answers, one after the other, and how long it may be refused.
    answers: Mutex<Vec<Result<Published, DeliveryError>>>,
    refused_max: Option<Duration>,
    gave_up: Mutex<usize>,
}

fn output(kind: OutputKind, records: u64) -> Output {
    Output {
        kind,
        bucket: "lake".to_owned(),
        key: String::new(),
        held: Held::Upload { id: String::new(), parts: Vec::new() },
        size: 0,
        checksum: Checksum::Crc32(String::new()),
        records,
    }
}

#[async_trait]
impl Destination for Scripted {
    fn mode(&self) -> Mode {
        Mode::Staged
    }
    fn limits(&self) -> BatchLimits {
        BatchLimits { size_bytes: 1, interval: Duration::ZERO, shards_max: 1, partitions_max: None }
    }
    async fn probe(&self) -> Result<(), DeliveryError> {
        Ok(())
    }
    async fn stage(&self, _: CommitId, batch: &Arc<Batch>) -> Result<Staged, DeliveryError> {
        if self.refuses {
            return Err(DeliveryError::Reject { cause: "never".to_owned() });
        }
        let unfit = |(_, record): &(&LeaseKey, &Record)| record.data.starts_with(b"unfit");
        let rejected = batch.records_with_lease().filter(unfit);
        let rejected: Vec<_> =
            rejected.map(|of| RejectedRecord::of(of, "format-conversion-failed", "Code", "why")).collect();
        let taken = (batch.records().count() - rejected.len()) as u64;
        let outputs = if taken > 0 { vec![output(OutputKind::Data, taken)] } else { Vec::new() };
        Ok(Staged { outputs, rejected, created_at: None, next_ordinal: 7, ..Staged::default() })
    }
    async fn stage_extra(&self, _: CommitId, object: &ExtraObject) -> Result<(Output, Option<Millis>), DeliveryError> {
        self.objects.lock().expect("no test panics with it").push(object.clone());
        Ok((output(object.kind, object.records), None))
    }
    async fn publish(&self, _: &Receipt) -> Result<Published, DeliveryError> {
        self.answers.lock().expect("no test panics with it").pop().unwrap_or(Ok(Published::All))
    }
    fn refused_max(&self) -> Option<Duration> {
        self.refused_max
    }
    async fn give_up(&self, _: &Receipt) -> Result<Published, DeliveryError> {
        let mut gave_up = self.gave_up.lock().expect("no test panics with it");
        *gave_up += 1;
        if *gave_up == 1 { Err(away()) } else { Ok(Published::GaveUp) }
    }
    async fn discard(&self, _: &[Output]) -> Result<(), DeliveryError> {
        Ok(())
    }
    async fn write_incident(&self, _: CommitId, _: Bytes) -> Result<(), DeliveryError> {
        Ok(())
    }
}

#[async_trait]
impl CommitLog for Scripted {
    async fn prepare(&self, _: &Receipt) -> Result<(), CommitError> {
        self.asked.lock().expect("no test panics with it").push("prepare");
        let mut failures = self.failures.lock().expect("no test panics with it");
        if *failures == 0 {
            return Ok(());
        }
        *failures -= 1;
        Err(CommitError::Unknown { cause: "no answer".to_owned() })
    }
    async fn commit(&self, _: &Commit) -> Result<(), CommitError> {
        self.asked.lock().expect("no test panics with it").push("commit");
        Ok(())
    }
    async fn done(&self, _: CommitId, _: bool) -> Result<(), CommitError> {
        Ok(())
    }
    async fn receipt(&self, _: CommitId) -> Result<Option<Receipt>, CommitError> {
        Ok(None)
    }
    async fn finalize(&self, _: &Finalize) -> Result<(), CommitError> {
        Ok(())
    }
    async fn declare(&self, _: &Declare) -> Result<(), CommitError> {
        Ok(())
    }
    async fn advance(&self, _: &Advance) -> Result<(), CommitError> {
        Ok(())
    }
    async fn row(&self, _: &LeaseKey) -> Result<Option<LeaseRow>, CommitError> {
        Ok(None)
    }
    async fn retract(&self, _: &Receipt, _: &[LeaseRow]) -> Result<(), CommitError> {
        Ok(())
    }
}

#[derive(Debug)]
struct Running(tokio::time::Instant);

impl Clock for Running {
    fn wall(&self) -> Millis {
        Millis(0)
    }
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

impl Random for Running {
    fn next(&self) -> u64 {
        1
    }
}

fn away() -> DeliveryError {
    DeliveryError::Retry { after: Some(Duration::from_secs(100_000)), cause: "away".to_owned() }
}

fn refused() -> DeliveryError {
    DeliveryError::Reject { cause: "no table".to_owned() }
}

/// Publishes with these answers; the protocol's answer, and how often it was given up.
async fn published(refused_max: Option<Duration>, answers: Vec<Result<Published, DeliveryError>>) -> (Answer, usize) {
    let answers = Mutex::new(answers.into_iter().rev().collect());
    let scripted = Arc::new(Scripted { refused_max, answers, ..Scripted::default() });
    let receipt = conformance::receipt(CommitId([1; 16]), &conformance::batch(1), Staged::default());
    let Event::Answer { answer, .. } = context(&scripted).publish(1, receipt).await else { panic!("an answer") };
    let gave_up = *scripted.gave_up.lock().expect("no test panics with it");
    (answer, gave_up)
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_for_too_long_is_given_up_and_only_time_of_refusals_counts() {
    let hour = Some(Duration::from_secs(3600));
    let many = |n: usize| (0..n).map(|_| Err(refused())).collect::<Vec<_>>();
    // Pauses grow to a minute: an hour of refusals is fewer than a hundred of them, and ten are none.
    assert_eq!(published(hour, many(10)).await, (Answer::Published, 0));
    assert_eq!(published(hour, many(100)).await, (Answer::GaveUp, 2), "giving up is tried again");
    let alternating = (0..60).map(|n| Err(if n % 2 == 0 { refused() } else { away() })).collect();
    assert_eq!(published(hour, alternating).await, (Answer::Published, 0), "months away, and never refused for long");
    assert_eq!(published(None, many(1000)).await, (Answer::Published, 0), "without a bound it is waited for");
    assert_eq!(published(Some(Duration::ZERO), many(2)).await.0, Answer::GaveUp);
}

/// A commit that is lost while it is refused is taken back, and its records come in another: the time for which they were
/// refused goes on, or commits would follow each other for ever.
#[tokio::test(start_paused = true)]
async fn the_time_of_refusals_goes_on_with_the_records_of_a_commit_that_is_taken_back() {
    let lost = || Ok(Published::Gone { outputs: Vec::new(), published: true });
    let mut answers: Vec<_> = (0..20).flat_map(|_| [Err(refused()), Err(refused()), lost()]).collect();
    answers.push(Ok(Published::All));
    let answers = Mutex::new(answers.into_iter().rev().collect());
    let refused_max = Some(Duration::from_secs(20));
    let scripted = Arc::new(Scripted { refused_max, answers, ..Scripted::default() });
    let context = context(&scripted);
    let mut commits = 0;
    let publish = async |number: u8| {
        let receipt = conformance::receipt(CommitId([number; 16]), &conformance::batch(1), Staged::default());
        let Event::Answer { answer, .. } = context.clone().publish(1, receipt).await else { panic!("an answer") };
        answer
    };
    while matches!(publish(commits).await, Answer::Gone { .. }) {
        commits += 1;
    }
    assert!((5..12).contains(&commits), "about two seconds each: {commits}");
    assert_eq!(*scripted.gave_up.lock().expect("no test panics with it"), 2, "giving up is tried again");
    let next = conformance::receipt(CommitId([0; 16]), &conformance::batch(1), Staged::default());
    assert_eq!(context.refused.of(&next), Duration::ZERO, "what comes behind it counts anew");
}

/// The alarm is there while publishing fails for long, and not for a failure that passes.
#[tokio::test(start_paused = true)]
async fn what_fails_for_five_minutes_raises_the_alarm_until_it_is_published() {
    let answers =
        Mutex::new((0..10).map(|_| Err(DeliveryError::Retry { after: None, cause: "busy".to_owned() })).collect());
    let scripted = Arc::new(Scripted { answers, ..Scripted::default() });
    let context = context(&scripted);
    let blocked = || context.metrics.publish_blocked.get_or_create(&context.at).get();
    let receipt = conformance::receipt(CommitId([1; 16]), &conformance::batch(1), Staged::default());
    let mut publishing = std::pin::pin!(context.clone().publish(1, receipt.clone()));
    assert!(tokio::time::timeout(Duration::from_secs(20), &mut publishing).await.is_err());
    assert_eq!(blocked(), 0, "it may pass");
    publishing.await;
    scripted.answers.lock().expect("no test panics with it").extend((0..100).map(|_| Err(away())));
    let mut publishing = std::pin::pin!(context.clone().publish(1, receipt));
    assert!(tokio::time::timeout(Duration::from_secs(300_000), &mut publishing).await.is_err());
    assert_eq!(blocked(), 1);
    publishing.await;
    assert_eq!(blocked(), 0);
}

fn context(scripted: &Arc<Scripted>) -> Context {
    let running = || Running(tokio::time::Instant::now());
    Context {
        destination: scripted.clone(),
        log: scripted.clone(),
        holdings: Arc::default(),
        clock: Arc::new(running()),
        random: Arc::new(running()),
        metrics: Metrics::default(),
        at: At { pipeline: "p".to_owned(), destination: "d".to_owned() },
        error_turn: Arc::new(Semaphore::new(1)),
        retention: Duration::ZERO,
        refused: Carried::default(),
    }
}

/// What becomes of a record on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Delivered,
    Unfit,
    Rejected(&'static str),
    Dropped,
}

/// A batch as transforms leave it: each record delivered, rejected or dropped.
fn batch(fates: &[Vec<Fate>]) -> Arc<Batch> {
    let template = conformance::batch(1);
    let mut number = 0;
    let mut chunk = |fates: &Vec<Fate>| {
        let BatchShard { range, chunks } = &template.shards[0];
        let mut chunk = Chunk { records: Vec::new(), taken: Taken::default(), ..chunks[0].clone() };
        for fate in fates {
            number += 1;
            let name = if *fate == Fate::Unfit { "unfit" } else { "fit" };
            let data = Bytes::from(format!("{name} {number}"));
            let record = Record { data, sequence: SequenceNumber::from(number), ..chunks[0].records[0].clone() };
            match fate {
                Fate::Delivered | Fate::Unfit => chunk.records.push(record),
                Fate::Rejected(of) => {
                    chunk.rejected.push(RejectedRecord::of(
                        (&range.fence.lease, &record),
                        of,
                        "Transform.Failed",
                        "why",
                    ));
                }
                Fate::Dropped => {}
            }
        }
        chunk
    };
    let shard = BatchShard { range: template.shards[0].range.clone(), chunks: fates.iter().map(&mut chunk).collect() };
    Arc::new(Batch { shards: vec![shard], ..Arc::unwrap_or_clone(template.clone()) })
}

fn staged(scripted: Scripted, fates: &[Vec<Fate>]) -> (StagedBatch, Vec<ExtraObject>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let scripted = Arc::new(scripted);
        let event = context(&scripted).stage(CommitId([1; 16]), CommitId([1; 16]), batch(fates)).await;
        let Event::Staged { staged, .. } = event else { panic!("{event:?}") };
        let objects = std::mem::take(&mut *scripted.objects.lock().expect("no test panics with it"));
        (*staged, objects)
    })
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        Just(Fate::Delivered),
        Just(Fate::Unfit),
        Just(Fate::Rejected("processing-failed")),
        Just(Fate::Rejected("format-conversion-failed")),
        Just(Fate::Dropped),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Delivered, rejected by whomever and dropped are what came in; every rejected record is one line, in the object of
    /// its kind.
    #[test]
    fn every_record_is_delivered_or_a_line_or_was_dropped(fates in proptest::collection::vec(proptest::collection::vec(fate(), 0..12), 1..6)) {
        let all: Vec<Fate> = fates.iter().flatten().copied().collect();
        let count = |wanted: &dyn Fn(Fate) -> bool| all.iter().filter(|fate| wanted(**fate)).count() as u64;
        let (staged, objects) = staged(Scripted::default(), &fates);
        let kind = |kind| staged.staged.outputs.iter().filter(|o| o.kind == kind).map(|o| o.records).sum::<u64>();
        let dropped = count(&|fate| fate == Fate::Dropped);
        prop_assert_eq!(kind(OutputKind::Data), count(&|fate| fate == Fate::Delivered));
        prop_assert_eq!(kind(OutputKind::Data) + kind(OutputKind::Error) + dropped, all.len() as u64);
        prop_assert_eq!(staged.records + dropped, all.len() as u64);
        for (n, object) in (7..).zip(&objects) {
            prop_assert_eq!(object.ordinal, n, "no name of a data object");
            let lines = object.body.iter().filter(|byte| **byte == b'\n').count() as u64;
            let unfit = count(&|fate| fate == Fate::Unfit && object.output_type == "format-conversion-failed");
            let of_transforms = count(&|fate| fate == Fate::Rejected(object.output_type));
            prop_assert_eq!((lines, object.records), (unfit + of_transforms, lines));
        }
        let types: Vec<_> = objects.iter().map(|object| object.output_type).collect();
        prop_assert!(types.windows(2).all(|two| two[0] < two[1]), "one object a kind: {types:?}");
    }
}

/// A batch of which nothing is left has nothing to put anywhere, and moves on all the same.
#[test]
fn a_batch_of_which_everything_was_dropped_or_rejected_still_commits() {
    let (all_dropped, objects) = staged(Scripted::default(), &[vec![Fate::Dropped; 3], vec![]]);
    assert_eq!((all_dropped.staged.outputs, all_dropped.records, objects.len()), (Vec::new(), 0, 0));
    let (all_rejected, objects) = staged(Scripted::default(), &[vec![Fate::Rejected("processing-failed"); 3]]);
    assert_eq!((all_rejected.staged.outputs.len(), all_rejected.records, objects[0].records), (1, 3, 3));
}

#[test]
fn a_batch_that_the_destination_refuses_keeps_what_transforms_rejected() {
    let fates = [vec![Fate::Delivered, Fate::Rejected("decompression-failed"), Fate::Delivered]];
    let (staged, objects) = staged(Scripted { refuses: true, ..Scripted::default() }, &fates);
    let found: Vec<_> = objects.iter().map(|object| (object.output_type, object.records)).collect();
    assert_eq!(found, [("decompression-failed", 1), ("processing-failed", 2)]);
    assert_eq!((staged.records, staged.staged.outputs.len()), (3, 2));
}

/// A commit of the suite's batch, whose lease is held until `deadline`.
fn commit(context: &Context, deadline: Duration) -> Commit {
    let batch = conformance::batch(1);
    let range = batch.shards[0].range.clone();
    let row = LeaseRow::new(range.fence.lease.clone());
    context.holdings.insert(Holding::of(&row, range.fence.clone(), deadline));
    let shard =
        CommitShard { fence: range.fence.clone(), from: range.from, from_arrival: None, to: range.to, previous: None };
    Commit { shards: vec![shard], receipt: conformance::receipt(CommitId([1; 16]), &batch, Staged::default()) }
}

async fn sent(failures: usize, deadline: Duration, sent: bool) -> (Answer, Vec<&'static str>) {
    let scripted = Arc::new(Scripted { failures: Mutex::new(failures), ..Scripted::default() });
    let context = context(&scripted);
    let commit = commit(&context, deadline);
    let Event::Answer { answer, .. } = context.commit(1, commit, Duration::ZERO, sent).await else {
        panic!("an answer");
    };
    let asked = std::mem::take(&mut *scripted.asked.lock().expect("no test panics with it"));
    (answer, asked)
}

#[tokio::test(start_paused = true)]
async fn what_a_receipt_names_is_written_before_the_commit_and_once() {
    let hour = Duration::from_secs(3600);
    assert_eq!(sent(0, hour, false).await, (Answer::Committed, vec!["prepare", "commit"]));
    assert_eq!(sent(2, hour, false).await, (Answer::Committed, vec!["prepare", "prepare", "prepare", "commit"]));
    assert_eq!(sent(0, hour, true).await, (Answer::Committed, vec!["commit"]), "it was sent before");
    let (answer, asked) = sent(1_000, Duration::from_secs(5), false).await;
    assert_eq!(answer, Answer::CommitExpired { sent: false }, "nothing was sent");
    assert!(!asked.contains(&"commit"));
}
