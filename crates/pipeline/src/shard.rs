//! `read`: one task per held lease. Takes its share of the memory budget, then reads, then hands the chunk on; ends with
//! the shard, or when it is dropped with the lease.
//!
//! Invariant: I15 (chunks continue each other; the reader promises it, the batcher checks it).
//! Never here: the lease, delivery, what a shard end means for the children.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use standpipe_flow::{ChildShard, Chunk, Clock, LeaseKey, Millis, Position, Read, ReadError, ShardReader};
use tokio::sync::mpsc;
use tracing::{debug, error, warn};

use crate::budget::{Budget, Share};
use crate::metrics::{At, Metrics};

/// A chunk with its share of the memory budget, on its way to delivery.
#[derive(Debug)]
pub struct Arrived {
    /// The records.
    pub chunk: Chunk,
    /// Which start of the reader it came from ([`crate::deliver::Order::Read`]): what is older is void.
    pub epoch: u64,
    /// Its share of the budget.
    pub share: Share,
}

/// How a reader's work ended.
#[derive(Debug)]
pub enum ReadEnd {
    /// The shard is closed and read to its end.
    ShardEnd {
        /// The shards that go on from it.
        children: Vec<ChildShard>,
        /// Where the last chunk that was handed on ended, or where reading began (I15).
        at: Position,
    },
    /// The service says that the shard or its stream does not exist; to be confirmed.
    Gone {
        /// As above.
        at: Position,
    },
    /// Nobody takes chunks any more.
    Stopped,
    /// The reader panicked: a defect. What it had not handed on is read again by the next one.
    Died,
}

/// What the reader of a shard has seen: for the lag, and for `run --until caught-up`.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// When a read last answered ([`Clock::elapsed`]).
    pub read_at: Option<Duration>,
    /// Since when the present read is under way; `None` while the reader waits for memory, or for delivery to take what
    /// it read.
    pub reading_since: Option<Duration>,
    /// MillisBehindLatest of the last answer.
    pub behind: Duration,
    /// Arrival of the newest record read.
    pub newest: Option<Millis>,
    /// When an answer was first empty with nothing behind, with only such answers since.
    pub at_tip_since: Option<Duration>,
    /// Whether the tip was confirmed by a second such answer at least a second after the first.
    pub at_tip: bool,
    /// Read to the end.
    pub ended: bool,
}

/// What all readers of a pipeline have seen.
#[derive(Debug, Default)]
pub struct Progress(Mutex<BTreeMap<LeaseKey, Seen>>);

impl Progress {
    /// A copy for one shard.
    pub fn get(&self, lease: &LeaseKey) -> Option<Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(lease).cloned()
    }

    /// Forgets a shard: its lease is gone, or its reader starts anew.
    pub fn forget(&self, lease: &LeaseKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(lease);
    }

    /// How long the present read of a shard has been under way: zero while its reader is held back by the budget, `None`
    /// without a reader that has begun. A read that fails is over; the next one begins anew.
    pub fn read_age(&self, lease: &LeaseKey, now: Duration) -> Option<Duration> {
        let seen = self.get(lease).filter(|seen| !seen.ended)?;
        Some(seen.reading_since.map_or(Duration::ZERO, |since| now.saturating_sub(since)))
    }

    fn note(&self, lease: &LeaseKey, note: impl FnOnce(&mut Seen)) {
        note(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(lease.clone()).or_default());
    }

    fn begins(&self, lease: &LeaseKey, now: Duration) {
        self.note(lease, |seen| seen.reading_since = Some(now));
    }

    fn is_over(&self, lease: &LeaseKey) {
        self.note(lease, |seen| seen.reading_since = None);
    }

    fn chunk(&self, lease: &LeaseKey, (behind, newest): (Duration, Option<Millis>), now: Duration) {
        self.note(lease, |seen| {
            seen.read_at = Some(now);
            seen.behind = behind;
            // Of a chunk of which everything was dropped nobody knows it.
            seen.newest = newest.or(seen.newest);
            (seen.at_tip_since, seen.at_tip) = (None, false);
        });
    }

    fn empty(&self, lease: &LeaseKey, behind: Duration, now: Duration) {
        self.note(lease, |seen| {
            seen.read_at = Some(now);
            seen.behind = behind;
            if !behind.is_zero() {
                (seen.at_tip_since, seen.at_tip) = (None, false);
            } else if let Some(since) = seen.at_tip_since {
                seen.at_tip |= now.saturating_sub(since) >= Duration::from_secs(1);
            } else {
                seen.at_tip_since = Some(now);
            }
        });
    }
}

/// What a reading task needs.
#[derive(Clone, Debug)]
pub struct ReadContext {
    /// The memory budget of the process.
    pub budget: Arc<Budget>,
    /// What readers have seen.
    pub progress: Arc<Progress>,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// Counters.
    pub metrics: Metrics,
    /// The pipeline.
    pub at: At,
}

/// Pause after a read that is not permitted: an operator must act, and the log must not fill.
const DENIED_PAUSE: Duration = Duration::from_secs(5);
/// Every so many failures in a row are said aloud.
const LOUD_FAILURES: u64 = 5;

/// One start of a reader.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The lease.
    pub lease: LeaseKey,
    /// Which start it is ([`crate::deliver::Order::Read`]).
    pub epoch: u64,
    /// Where reading goes on from.
    pub from: Position,
}

/// Reads a shard until it ends. Dropping the future loses nothing: what was read and not handed on is read again.
pub async fn read<R: ShardReader>(
    reader: R,
    of: Reading,
    context: ReadContext,
    chunks: mpsc::Sender<Arrived>,
) -> ReadEnd {
    let lease = of.lease.clone();
    // Nothing that a panic may leave half done outlives it: the reader dies, the share goes back.
    let end = AssertUnwindSafe(read_on(reader, of, context, chunks)).catch_unwind().await;
    end.unwrap_or_else(|_| {
        error!(shard = %lease, "the reader of a shard panicked");
        ReadEnd::Died
    })
}

async fn read_on<R: ShardReader>(
    mut reader: R,
    of: Reading,
    context: ReadContext,
    chunks: mpsc::Sender<Arrived>,
) -> ReadEnd {
    let Reading { lease, epoch, from: mut at } = of;
    let mut failures = 0u64;
    loop {
        let mut share = context.budget.take(reader.expected_bytes()).await;
        context.progress.begins(&lease, context.clock.elapsed());
        let answer = reader.next().await;
        context.progress.is_over(&lease);
        match answer {
            Ok(Read::Chunk(chunk)) => {
                failures = 0;
                share.fit(chunk.memory_bytes);
                count(&context, &chunk);
                let seen = (chunk.behind, chunk.records.last().map(|record| record.arrival));
                let to = chunk.to.clone();
                if chunks.send(Arrived { chunk, epoch, share }).await.is_err() {
                    return ReadEnd::Stopped;
                }
                at = to;
                // Only now: what is not handed on is not seen.
                context.progress.chunk(&lease, seen, context.clock.elapsed());
            }
            // The share goes back first: a reader that waits for more must not keep it from the others.
            Ok(Read::Heavy) => failures = 0,
            Ok(Read::Empty { behind }) => {
                failures = 0;
                context.progress.empty(&lease, behind, context.clock.elapsed());
                set_lag(&context, &lease, behind);
            }
            Ok(Read::End { children }) => {
                context.progress.note(&lease, |seen| seen.ended = true);
                return ReadEnd::ShardEnd { children, at };
            }
            Err(ReadError::Again { cause }) => {
                context.metrics.source_errors.get_or_create(&context.at.why("again")).inc();
                failures += 1;
                if failures.is_multiple_of(LOUD_FAILURES) {
                    warn!(shard = %lease, failures, error = cause, "reading fails again and again");
                } else {
                    debug!(shard = %lease, error = cause, "read failed, will be tried again");
                }
            }
            Err(ReadError::Denied { cause }) => {
                context.metrics.source_errors.get_or_create(&context.at.why("denied")).inc();
                warn!(shard = %lease, error = cause, "reading is not permitted, will be tried again");
                drop(share);
                tokio::time::sleep(DENIED_PAUSE).await;
            }
            Err(ReadError::Gone { cause }) => {
                warn!(shard = %lease, error = cause, "the shard does not exist");
                return ReadEnd::Gone { at };
            }
        }
    }
}

fn count(context: &ReadContext, chunk: &Chunk) {
    let (metrics, at, taken) = (&context.metrics, &context.at, chunk.taken);
    metrics.source_records.get_or_create(at).inc_by(taken.stream_records);
    metrics.source_bytes.get_or_create(at).inc_by(taken.stream_bytes);
    metrics.source_user_records.get_or_create(at).inc_by(chunk.records.len() as u64);
    metrics.source_subrecords_out_of_range.get_or_create(at).inc_by(taken.out_of_range);
    metrics.source_broken_aggregates.get_or_create(at).inc_by(taken.no_aggregates);
    set_lag(context, &chunk.lease, chunk.behind);
}

fn set_lag(context: &ReadContext, lease: &LeaseKey, behind: Duration) {
    context.metrics.source_lag_seconds.get_or_create(&context.at.shard(lease.as_str())).set(behind.as_secs_f64());
}

#[cfg(test)]
mod tests;
