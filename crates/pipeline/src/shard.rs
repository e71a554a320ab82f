//! `read -> transform`: one task per reader of a shard. Takes its share of the memory budget, reads, transforms, then hands
//! the chunk on to every destination that this reader feeds; ends with the shard, when it feeds nobody, or when it is
//! dropped with the lease.
//!
//! With transforms a chunk is taken piece by piece: what a piece became is charged before the next one is begun, so that
//! what expands does not overrun the budget. A transform that is called once a chunk may have chunks gathered for it.
//! Invariant: I15 (chunks continue each other; the reader promises it, the batcher checks it).
//! Never here: the lease, delivery, what a shard end means for the children.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use standpipe_flow::{
    ChildShard, Chunk, Clock, Gather, Holdings, LeaseKey, Millis, Position, Read, ReadError, ShardReader, Transform,
};
use tracing::{debug, error, warn};

use crate::budget::{Budget, Share};
use crate::copies;
use crate::feed::Feeds;
use crate::metrics::{At, Metrics};
use crate::progress::Progress;

/// How a reader's work ended.
#[derive(Debug)]
pub enum ReadEnd {
    /// The shard is closed and read to its end; whom it fed stands where the last chunk ended (I15).
    ShardEnd {
        /// The shards that go on from it.
        children: Vec<ChildShard>,
    },
    /// The service says that the shard or its stream does not exist; to be confirmed.
    Gone,
    /// Nobody takes chunks of it any more.
    Stopped,
    /// It was second in line, and is the only reader now: another one leads from where it stands.
    LeftAlone,
    /// The reader panicked: a defect. What it had not handed on is read again by the next one.
    Died,
}

/// What a reading task needs.
#[derive(Clone, Debug)]
pub struct ReadContext {
    /// The memory budget of the process.
    pub budget: Arc<Budget>,
    /// What readers have seen.
    pub progress: Arc<Progress>,
    /// The leases held by this process: what is read makes a shard's throughput.
    pub holdings: Arc<Holdings>,
    /// What the pipeline makes of its records; `None` if they are delivered as they are.
    pub transform: Option<Arc<dyn Transform>>,
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
/// Bytes of data that are transformed at once, unless the transform says otherwise.
const PIECE_BYTES: usize = 1 << 20;
/// Bytes that a piece may become before it is handed on and the rest of it waits for its own memory.
const MADE_BYTES: usize = 16 << 20;

/// One start of a reader.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The lease.
    pub lease: LeaseKey,
    /// Its number among the readers.
    pub reader: u64,
    /// Whom the readers of the shard feed.
    pub feeds: Arc<Feeds>,
    /// Where reading goes on from.
    pub from: Position,
    /// Whether it is the shard's first reader: it tells the shard's lag.
    pub first: bool,
}

/// Reads a shard until it ends. Dropping the future loses nothing: what was read and not handed on is read again.
pub async fn read<R: ShardReader>(reader: R, of: Reading, context: ReadContext) -> ReadEnd {
    let lease = of.lease.clone();
    let gathers = context.transform.as_ref().and_then(|transform| transform.gathers());
    let gathered = gathers.map(|gathers| Gathered { chunks: Gather::new(gathers), share: None });
    let task = Task { key: (of.lease.clone(), of.reader), at: of.from.clone(), of, context, made: (1, 1), gathered };
    // Nothing that a panic may leave half done outlives it: the reader dies, the share goes back.
    let end = AssertUnwindSafe(task.read_on(reader)).catch_unwind().await;
    end.unwrap_or_else(|_| {
        error!(shard = %lease, "the reader of a shard panicked");
        ReadEnd::Died
    })
}

struct Task {
    key: (LeaseKey, u64),
    of: Reading,
    context: ReadContext,
    /// Where the last chunk ended that was handed on.
    at: Position,
    /// Bytes of memory that the transform made of the last piece, and what the piece had held.
    made: (usize, usize),
    /// What is read and waits for more, if the transform gathers.
    gathered: Option<Gathered>,
}

struct Gathered {
    chunks: Gather,
    share: Option<Share>,
}

impl Task {
    async fn read_on<R: ShardReader>(mut self, mut reader: R) -> ReadEnd {
        let mut failures = 0u64;
        loop {
            if !self.holds_something() && self.of.feeds.is_left_alone(self.of.reader) {
                return ReadEnd::LeftAlone;
            }
            let Some((share, answer)) = self.next(&mut reader).await else { return ReadEnd::Stopped };
            match answer {
                Ok(Read::Chunk(chunk)) => {
                    failures = 0;
                    if !self.came(chunk, share).await {
                        return ReadEnd::Stopped;
                    }
                }
                // The share goes back first: a reader that waits for more must not keep it from the others.
                Ok(Read::Heavy) => failures = 0,
                Ok(Read::Empty { behind }) => {
                    failures = 0;
                    self.set_lag(behind);
                    if self.holds_something() {
                        continue; // what is not handed on is not seen
                    }
                    self.context.progress.empty(&self.key, behind, self.context.clock.elapsed());
                    if !self.of.feeds.goes_on(self.of.reader, &self.at) {
                        return ReadEnd::Stopped;
                    }
                }
                Ok(Read::End { children }) => {
                    drop(share);
                    if !self.hand_on_what_is_held().await {
                        return ReadEnd::Stopped;
                    }
                    self.context.progress.note(&self.key, |seen| seen.ended = true);
                    return ReadEnd::ShardEnd { children };
                }
                Err(ReadError::Gone { cause }) => {
                    warn!(shard = %self.of.lease, error = cause, "the shard does not exist");
                    return ReadEnd::Gone;
                }
                Err(error) => {
                    failures += 1;
                    drop(share);
                    self.failed(error, failures).await;
                }
            }
        }
    }

    async fn failed(&self, error: ReadError, failures: u64) {
        let (context, lease) = (&self.context, &self.of.lease);
        match error {
            ReadError::Denied { cause } => {
                context.metrics.source_errors.get_or_create(&context.at.why("denied")).inc();
                warn!(shard = %lease, error = cause, "reading is not permitted, will be tried again");
                tokio::time::sleep(DENIED_PAUSE).await;
            }
            ReadError::Again { cause } | ReadError::Gone { cause } => {
                context.metrics.source_errors.get_or_create(&context.at.why("again")).inc();
                if failures.is_multiple_of(LOUD_FAILURES) {
                    warn!(shard = %lease, failures, error = cause, "reading fails again and again");
                } else {
                    debug!(shard = %lease, error = cause, "read failed, will be tried again");
                }
            }
        }
    }

    /// The next answer, with its share of the budget; what is held is handed on when it is due, even while there is none.
    /// `None` if the reader need not go on.
    async fn next<R: ShardReader>(&mut self, reader: &mut R) -> Option<(Share, Result<Read, ReadError>)> {
        let (context, key) = (self.context.clone(), self.key.clone());
        let read = async {
            let share = context.budget.take(reader.expected_bytes()).await;
            context.progress.begins(&key, context.clock.elapsed());
            let answer = reader.next().await;
            context.progress.is_over(&key);
            (share, answer)
        };
        tokio::pin!(read);
        loop {
            let due = self.gathered.as_ref().and_then(|gathered| gathered.chunks.due_at());
            let Some(due) = due else { return Some(read.await) };
            let left = due.saturating_sub(self.context.clock.elapsed());
            tokio::select! {
                biased;
                answer = &mut read => return Some(answer),
                () = tokio::time::sleep(left) => {
                    // Meanwhile nobody looks at the read: it does not age.
                    let since = self.context.progress.suspend(&self.key);
                    if !self.hand_on_what_is_held().await {
                        return None;
                    }
                    self.context.progress.resume(&self.key, since, self.context.clock.elapsed());
                }
            }
        }
    }

    /// A chunk was read: it is transformed and handed on, or held for more to come. Whether the reader has to go on.
    async fn came(&mut self, chunk: Chunk, mut share: Share) -> bool {
        self.count(&chunk);
        share.fit(chunk.memory_bytes);
        let Some(gathered) = &mut self.gathered else { return self.chunk(chunk, share).await };
        let held = gathered.share.take();
        let due = gathered.chunks.push(chunk, self.context.clock.elapsed());
        let waits = gathered.chunks.due_at().is_some();
        match (due, held) {
            (None, Some(mut held)) => {
                held.merge(share);
                gathered.share = Some(held);
                true
            }
            (None, None) => {
                gathered.share = Some(share);
                true
            }
            // What was held goes, what came is held.
            (Some(due), Some(held)) if waits => {
                gathered.share = Some(share);
                self.chunk(due, held).await
            }
            (Some(due), held) => {
                held.into_iter().for_each(|held| share.merge(held));
                self.chunk(due, share).await
            }
        }
    }

    fn holds_something(&self) -> bool {
        self.gathered.as_ref().is_some_and(|gathered| gathered.chunks.due_at().is_some())
    }

    /// Whether the reader has to go on.
    async fn hand_on_what_is_held(&mut self) -> bool {
        let Some(gathered) = &mut self.gathered else { return true };
        match (gathered.chunks.take(), gathered.share.take()) {
            (Some(chunk), Some(share)) => self.chunk(chunk, share).await,
            _ => true,
        }
    }

    /// Transforms a chunk and hands it on. Whether the reader has to go on.
    async fn chunk(&mut self, chunk: Chunk, share: Share) -> bool {
        let seen = (chunk.behind, newest(&chunk));
        let before = self.at.clone();
        let handed_on = match self.context.transform.clone() {
            Some(transform) => self.transform(transform, chunk, share).await,
            None => self.hand_on(chunk, share, seen.1).await,
        };
        // Only now: what is not handed on is not seen.
        if handed_on {
            self.context.progress.chunk(&self.key, seen, self.context.clock.elapsed());
        }
        handed_on && self.of.feeds.goes_on(self.of.reader, &before)
    }

    /// Piece by piece: before each there is a share for what it will probably become, and for what is left behind it.
    async fn transform(&mut self, transform: Arc<dyn Transform>, chunk: Chunk, mut share: Share) -> bool {
        let mut pieces = VecDeque::from(chunk.pieces(transform.at_once().unwrap_or(PIECE_BYTES)));
        let mut left: usize = pieces.iter().map(|piece| piece.memory_bytes).sum();
        while let Some(piece) = pieces.pop_front() {
            let (came, newest) = (piece.memory_bytes, newest(&piece));
            let probably = (came.saturating_mul(self.made.0) / self.made.1).min(came.max(MADE_BYTES).max(self.made.0));
            let needed = left.saturating_add(probably.saturating_sub(came));
            left -= came;
            if share.bytes() < needed {
                // It goes back first: a reader that waits for more must not keep it from the others.
                drop(share);
                share = self.context.budget.take(needed).await;
            }
            let begun = self.context.clock.elapsed();
            let (piece, rest) = transform.apply_some(piece, MADE_BYTES).await;
            self.spent(&self.context.at, begun);
            let unmade = rest.as_ref().map_or(0, |rest| rest.memory_bytes);
            left += unmade;
            self.made = (piece.memory_bytes.max(1), came.saturating_sub(unmade).max(1));
            // What is left arrived no earlier.
            let newest = rest.as_ref().and_then(|rest| rest.records.first()).map(|record| record.arrival).or(newest);
            if let Some(rest) = rest {
                pieces.push_front(rest);
            }
            share.fit(left + piece.memory_bytes);
            let own = share.split(piece.memory_bytes);
            if !self.hand_on(piece, own, newest).await {
                return false;
            }
        }
        true
    }

    /// Gives each destination that is fed what it lacks. Whether the reader has to go on.
    async fn hand_on(&mut self, chunk: Chunk, share: Share, newest: Option<Millis>) -> bool {
        let to = chunk.to.clone();
        let Some(subscribers) = self.of.feeds.hand(self.of.reader, &to) else { return false };
        let mut copies = copies::of(chunk, subscribers);
        for (subscriber, copy) in &mut copies {
            if let Some(transform) = &subscriber.outlet.transform {
                let begun = self.context.clock.elapsed();
                copy.apply(transform.as_ref()).await;
                let destination = subscriber.destination.to_string();
                self.spent(&At { destination, ..self.context.at.clone() }, begun);
            }
        }
        for (subscriber, chunk, share) in copies::weighed(copies, share) {
            let arrived = crate::feed::Arrived { chunk, epoch: subscriber.epoch, share, newest };
            if subscriber.outlet.chunks.send(arrived).await.is_err() {
                return false;
            }
        }
        self.at = to;
        true
    }

    /// Time that records wait for transforms.
    fn spent(&self, at: &At, begun: Duration) {
        let spent = self.context.clock.elapsed().saturating_sub(begun);
        self.context.metrics.transform_seconds.get_or_create(at).inc_by(spent.as_secs_f64());
    }

    fn count(&self, chunk: &Chunk) {
        let (metrics, at, taken) = (&self.context.metrics, &self.context.at, chunk.taken);
        self.context.holdings.read(&self.of.lease, chunk.data_bytes() as u64);
        metrics.source_records.get_or_create(at).inc_by(taken.stream_records);
        metrics.source_bytes.get_or_create(at).inc_by(taken.stream_bytes);
        metrics.source_user_records.get_or_create(at).inc_by(chunk.records.len() as u64);
        metrics.source_subrecords_out_of_range.get_or_create(at).inc_by(taken.out_of_range);
        metrics.source_broken_aggregates.get_or_create(at).inc_by(taken.no_aggregates);
        self.set_lag(chunk.behind);
    }

    fn set_lag(&self, behind: Duration) {
        if self.of.first {
            let of_shard = self.context.at.shard(self.of.lease.as_str());
            self.context.metrics.source_lag_seconds.get_or_create(&of_shard).set(behind.as_secs_f64());
        }
    }
}

/// When the last record of a chunk arrived that no transform has seen.
fn newest(chunk: &Chunk) -> Option<Millis> {
    chunk.records.last().map(|record| record.arrival)
}

#[cfg(test)]
mod tests;
