//! A reader's task against scripted readers.

use std::collections::VecDeque;

use standpipe_flow::{DestinationId, SequenceNumber};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::*;
use crate::feed::{Arrived, Outlet, Subscriber};

#[derive(Debug)]
struct Paused(tokio::time::Instant);

impl Clock for Paused {
    fn wall(&self) -> Millis {
        Millis(0)
    }
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

enum Does {
    Reads(u64, u64),
    Hangs,
    Panics,
    Fails,
    Ends,
}

struct Scripted(VecDeque<Does>);

impl ShardReader for Scripted {
    async fn next(&mut self) -> Result<Read, ReadError> {
        match self.0.pop_front() {
            Some(Does::Reads(from, to)) => Ok(Read::Chunk(Chunk {
                lease: lease(),
                tenure: standpipe_flow::Tenure([1; 16]),
                from: at(from),
                to: at(to),
                records: Vec::new(),
                rejected: Vec::new(),
                originals: Default::default(),
                behind: Duration::ZERO,
                memory_bytes: 1024,
                taken: Default::default(),
            })),
            Some(Does::Panics) => panic!("a defect of a reader"),
            Some(Does::Fails) => {
                tokio::time::sleep(Duration::from_secs(10)).await;
                Err(ReadError::Again { cause: "no answer".into() })
            }
            Some(Does::Ends) => Ok(Read::End { children: Vec::new() }),
            Some(Does::Hangs) | None => std::future::pending().await,
        }
    }

    fn expected_bytes(&self) -> usize {
        64 << 10
    }
}

fn lease() -> LeaseKey {
    LeaseKey::new("shardId-000000000001")
}

fn at(number: u64) -> Position {
    Position::at(SequenceNumber::from(number), 0)
}

fn context() -> ReadContext {
    ReadContext {
        budget: Budget::new(1 << 20),
        progress: Arc::default(),
        holdings: Arc::default(),
        transform: None,
        clock: Arc::new(Paused(tokio::time::Instant::now())),
        metrics: Metrics::default(),
        at: At { pipeline: "test".into(), destination: String::new() },
    }
}

/// Reader 1 feeds one destination after record 10.
fn one_is_fed(transform: Option<Arc<dyn Transform>>) -> (Reading, mpsc::Receiver<Arrived>) {
    let (chunks, arrived) = mpsc::channel(1);
    let feeds = Arc::<Feeds>::default();
    let (destination, outlet) = (DestinationId::new("lake"), Outlet { chunks, transform });
    feeds.subscribe(Subscriber { destination, epoch: 1, from: at(10), outlet }, 1).expect("a reader is needed");
    (Reading { lease: lease(), reader: 1, feeds, from: at(10), first: true }, arrived)
}

fn reading(script: Vec<Does>, context: &ReadContext) -> (JoinSet<ReadEnd>, mpsc::Receiver<Arrived>) {
    let (of, arrived) = one_is_fed(None);
    let mut task = JoinSet::new();
    task.spawn(read(Scripted(script.into()), of, context.clone()));
    (task, arrived)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

async fn age_after(wait: Duration, context: &ReadContext) -> Option<Duration> {
    tokio::time::sleep(wait).await;
    context.progress.read_age(&lease(), 1, context.clock.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_read_ages_while_it_is_under_way_and_one_that_fails_is_over() {
    let context = context();
    let (_task, _arrived) = reading(vec![Does::Fails, Does::Hangs], &context);
    assert_eq!(age_after(seconds(9), &context).await, Some(seconds(9)));
    assert_eq!(age_after(seconds(2), &context).await, Some(seconds(1)), "the second read began after 10 s");
    assert_eq!(age_after(seconds(500), &context).await, Some(seconds(501)));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_waits_for_memory_or_for_delivery_is_held_back_and_not_stuck() {
    let context = context();
    let all = context.budget.take(1 << 20).await;
    let (_task, _arrived) = reading(vec![Does::Reads(10, 11), Does::Reads(11, 12), Does::Reads(12, 13)], &context);
    assert_eq!(age_after(seconds(500), &context).await, None, "no read has begun");
    drop(all);
    // The channel takes one chunk; the second is on its way into it.
    assert_eq!(age_after(seconds(500), &context).await, Some(Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn the_end_says_up_to_where_chunks_were_handed_on() {
    for (script, end) in [(vec![Does::Ends], at(10)), (vec![Does::Reads(10, 11), Does::Ends], at(11))] {
        let (of, _arrived) = one_is_fed(None);
        let feeds = of.feeds.clone();
        let ended = read(Scripted(script.into()), of, context()).await;
        assert!(matches!(ended, ReadEnd::ShardEnd { .. }), "{ended:?}");
        assert_eq!(feeds.end(1).pop().map(|fed| fed.from), Some(end));
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_reader_ends_that_reader_alone_and_gives_its_memory_back() {
    let context = context();
    let (mut task, _arrived) = reading(vec![Does::Panics], &context);
    assert!(matches!(task.join_next().await, Some(Ok(ReadEnd::Died))));
    assert_eq!(context.budget.used_bytes(), 0);
}

/// What it reads expands: 64 KiB are reserved, 1000 KiB of 1024 are needed.
struct Expanding {
    came: bool,
}

impl ShardReader for Expanding {
    async fn next(&mut self) -> Result<Read, ReadError> {
        if !std::mem::replace(&mut self.came, true) {
            return Ok(Read::Heavy);
        }
        self.came = false;
        Ok(Read::Chunk(Chunk {
            lease: lease(),
            tenure: standpipe_flow::Tenure([1; 16]),
            from: at(10),
            to: at(11),
            records: Vec::new(),
            rejected: Vec::new(),
            originals: Default::default(),
            behind: Duration::ZERO,
            memory_bytes: 1000 << 10,
            taken: standpipe_flow::Taken {
                stream_records: 1,
                stream_bytes: 50_000,
                out_of_range: 7,
                ..Default::default()
            },
        }))
    }

    fn expected_bytes(&self) -> usize {
        if self.came { 1000 << 10 } else { 64 << 10 }
    }
}

/// Without this, every reader could hold what its answer expands to beside a budget that is spent.
#[tokio::test(start_paused = true)]
async fn what_expands_waits_for_its_memory_and_keeps_none_meanwhile() {
    let context = context();
    let others = context.budget.take(512 << 10).await;
    let (of, mut arrived) = one_is_fed(None);
    let mut task = JoinSet::new();
    task.spawn(read(Expanding { came: false }, of, context.clone()));
    tokio::time::sleep(seconds(1)).await;
    assert!(arrived.try_recv().is_err() && context.budget.pressure());
    drop(others);
    let first = tokio::time::timeout(seconds(60), arrived.recv()).await;
    let first = first.expect("its first share went back, or there would never be room").expect("it came");
    assert_eq!(first.share.bytes(), 1000 << 10);
    let counted = |family: &prometheus_client::metrics::family::Family<
        At,
        prometheus_client::metrics::counter::Counter,
    >| { family.get_or_create(&context.at).get() };
    let metrics = &context.metrics;
    assert_eq!((counted(&metrics.source_records), counted(&metrics.source_bytes)), (1, 50_000));
    assert_eq!((counted(&metrics.source_user_records), counted(&metrics.source_subrecords_out_of_range)), (0, 7));
}

/// Makes `times` as many bytes of each record, and gathers if it is told to.
#[derive(Debug)]
struct Swells {
    times: usize,
    gathers: Option<(usize, Duration)>,
}

#[async_trait::async_trait]
impl Transform for Swells {
    async fn apply(&self, mut chunk: Chunk) -> Chunk {
        // It takes its time: that is no stuck read.
        tokio::time::sleep(seconds(1)).await;
        for record in &mut chunk.records {
            *record = record.with_data(record.data.repeat(self.times).into());
        }
        chunk.memory_bytes = chunk.data_bytes();
        chunk
    }

    fn gathers(&self) -> Option<(usize, Duration)> {
        self.gathers
    }
}

/// Keeps every second record.
#[derive(Debug)]
struct Halves;

#[async_trait::async_trait]
impl Transform for Halves {
    async fn apply(&self, mut chunk: Chunk) -> Chunk {
        let mut number = 0;
        chunk.records.retain(|_| {
            number += 1;
            number % 2 == 0
        });
        chunk
    }
}

/// Reads chunks of so many records of so many bytes, then hangs or ends.
struct Loaded {
    at: u64,
    chunks: u64,
    records: u64,
    bytes: usize,
    ends: bool,
}

impl ShardReader for Loaded {
    async fn next(&mut self) -> Result<Read, ReadError> {
        if self.chunks == 0 {
            return if self.ends { Ok(Read::End { children: Vec::new() }) } else { std::future::pending().await };
        }
        self.chunks -= 1;
        let from = self.at;
        self.at += self.records;
        let record = |number: u64| standpipe_flow::Record {
            data: vec![b'x'; self.bytes].into(),
            partition_key: "k".into(),
            sequence: number.into(),
            sub: 0,
            arrival: Millis(number),
            transformed: None,
            partition: None,
        };
        Ok(Read::Chunk(Chunk {
            lease: lease(),
            tenure: standpipe_flow::Tenure([1; 16]),
            from: at(from),
            to: at(self.at),
            records: (from + 1..=self.at).map(record).collect(),
            rejected: Vec::new(),
            originals: Default::default(),
            behind: Duration::ZERO,
            memory_bytes: self.records as usize * self.bytes,
            taken: Default::default(),
        }))
    }

    fn expected_bytes(&self) -> usize {
        self.records as usize * self.bytes
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_transform_makes_of_a_piece_is_charged_before_the_next_piece_is_begun() {
    let mut context = context();
    context.budget = Budget::new(16 << 20);
    context.transform = Some(Arc::new(Swells { times: 5, gathers: None }));
    let (of, mut arrived) = one_is_fed(None);
    let loaded = Loaded { at: 10, chunks: 1, records: 400, bytes: 10 << 10, ends: true };
    let mut task = JoinSet::new();
    task.spawn(read(loaded, of, context.clone()));
    let (mut next, mut records) = (at(10), 0);
    let (mut held, mut waited) = (Vec::new(), false);
    while let Ok(came) = tokio::time::timeout(seconds(100), arrived.recv()).await {
        let Some(Arrived { chunk, share, newest, .. }) = came else { break };
        assert_eq!((chunk.from, newest), (next, Some(Millis(10 + records as u64 + chunk.records.len() as u64))));
        assert!(share.bytes() >= 5 << 20 || chunk.records.len() < 100, "{}", share.bytes());
        assert!(context.budget.used_bytes() <= 16 << 20);
        (next, records) = (chunk.to, records + chunk.records.len());
        held.push(share);
        // Three pieces of 5 MiB are all that there is room for.
        if held.len() == 3 {
            assert!(tokio::time::timeout(seconds(60), arrived.recv()).await.is_err());
            waited = context.budget.pressure();
            assert_eq!(context.progress.read_age(&lease(), 1, context.clock.elapsed()), Some(Duration::ZERO));
            held.clear();
        }
    }
    assert!(waited && records == 400);
    let spent = context.metrics.transform_seconds.get_or_create(&context.at).get();
    assert_eq!(spent, 4.0, "a second a piece");
}

#[tokio::test(start_paused = true)]
async fn what_is_gathered_goes_on_when_it_has_waited_or_the_shard_ends_and_not_before() {
    let mut context = context();
    context.transform = Some(Arc::new(Swells { times: 1, gathers: Some((100 << 10, seconds(30))) }));
    for (ends, after) in [(false, seconds(31)), (true, seconds(1))] {
        let start = tokio::time::Instant::now();
        let (of, mut arrived) = one_is_fed(None);
        let mut task = JoinSet::new();
        task.spawn(read(Loaded { at: 10, chunks: 3, records: 10, bytes: 1 << 10, ends }, of, context.clone()));
        let whole = arrived.recv().await.expect("it came");
        assert_eq!((start.elapsed(), whole.chunk.records.len(), whole.chunk.to), (after, 30, at(40)));
        drop(whole.share);
        if ends {
            assert!(matches!(task.join_next().await, Some(Ok(ReadEnd::ShardEnd { .. }))));
        } else {
            assert_eq!(age_after(seconds(5), &context).await, Some(seconds(5)), "the read itself ages on");
        }
        drop(task);
        tokio::task::yield_now().await;
        assert_eq!(context.budget.used_bytes(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn each_destination_has_its_own_transform_and_one_read_is_enough() {
    let context = context();
    let (of, mut all) = one_is_fed(None);
    let (chunks, mut half) = mpsc::channel(1);
    let outlet = Outlet { chunks, transform: Some(Arc::new(Halves)) };
    let second = Subscriber { destination: DestinationId::new("half"), epoch: 7, from: at(10), outlet };
    assert_eq!(of.feeds.subscribe(second, 2), None);
    let mut task = JoinSet::new();
    task.spawn(read(Loaded { at: 10, chunks: 1, records: 10, bytes: 1 << 10, ends: false }, of, context.clone()));
    let (all, half) = (all.recv().await.expect("it came"), half.recv().await.expect("it came"));
    assert_eq!((all.chunk.records.len(), half.chunk.records.len(), all.epoch, half.epoch), (10, 5, 1, 7));
    assert_eq!((all.chunk.to, all.newest), (half.chunk.to, half.newest), "of what is dropped the end is known");
    assert!(Arc::ptr_eq(&all.share, &half.share));
    assert_eq!(context.metrics.source_user_records.get_or_create(&context.at).get(), 10);
}
