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
