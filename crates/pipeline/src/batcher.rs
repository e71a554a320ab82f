//! `chunk -> batch`: when a batch is cut, and of which shards. PURE: time comes in, nothing is awaited.
//!
//! A batch is cut by the size of an object, by the age of its oldest record, by the number of its partitions, because
//! memory is short, because a shard ended, because a lease is handed over, or because it is a declared range that is to be
//! sent again: then exactly that is cut, however large it is. With partitions `buffer.size` bounds one
//! object, and a batch is as large as all of them. Lanes are made at the cut: the shards that may be cut, in shard order, at most
//! [`BatchLimits::shards_max`]; a shard whose last commit is not yet published is left out.
//! Invariants: I9 (a chunk of another acquisition is refused), I15 (a chunk continues what is buffered).
//! Never here: what a shard's position is at the destination (the protocol's), memory (the share rides along).

mod weight;

use std::collections::BTreeMap;
use std::time::Duration;

use standpipe_flow::{BatchLimits, Chunk, LeaseKey, Position, Tenure};

use crate::invariant::Invariant;
use weight::{Total, Weight};

/// Why a batch was cut.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum CutReason {
    /// `buffer.size`.
    Size,
    /// `buffer.interval`.
    Interval,
    /// `partitions.max_active`.
    Partitions,
    /// A reader waits for memory.
    Memory,
    /// A shard is read to its end.
    ShardEnd,
    /// A lease is handed over, or the worker stops.
    HandOver,
    /// It was declared before, by this worker or another.
    Declared,
}

impl CutReason {
    /// The label in `standpipe_buffer_flush_total{reason}`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Interval => "interval",
            Self::Partitions => "partitions",
            Self::Memory => "memory",
            Self::ShardEnd => "shard_end",
            Self::HandOver => "hand_over",
            Self::Declared => "declared",
        }
    }
}

/// One shard's part of a cut.
#[derive(Debug)]
pub struct CutShard<S> {
    /// The lease.
    pub lease: LeaseKey,
    /// Its chunks, in order, with their shares of the budget.
    pub chunks: Vec<(Chunk, S)>,
    /// Where the part ends.
    pub to: Position,
}

/// What is delivered together.
#[derive(Debug)]
pub struct Cut<S> {
    /// Why.
    pub reason: CutReason,
    /// Of what, in shard order.
    pub shards: Vec<CutShard<S>>,
}

#[derive(Debug)]
struct Buffered<S> {
    chunk: Chunk,
    share: S,
    weight: Weight,
}

#[derive(Debug)]
struct Buffer<S> {
    tenure: Tenure,
    /// Where the next chunk must begin.
    next: Position,
    chunks: Vec<Buffered<S>>,
    /// When the oldest buffered chunk came.
    since: Option<Duration>,
    ended: bool,
    flush: bool,
    /// Where the next batch must end, and is cut once everything up to there has come.
    owed: Option<Position>,
}

impl<S> Buffer<S> {
    fn is_due_at_once(&self) -> Option<CutReason> {
        if self.owed.is_some() {
            return self.is_whole().then_some(CutReason::Declared);
        }
        match (self.ended, self.flush && !self.chunks.is_empty()) {
            (true, _) => Some(CutReason::ShardEnd),
            (_, true) => Some(CutReason::HandOver),
            _ => None,
        }
    }

    /// Whether a batch may be cut of it: everything has come up to where it must end.
    fn is_whole(&self) -> bool {
        match &self.owed {
            None => true,
            // Of a shard that has ended nothing more comes: what is missing has expired.
            Some(to) => self.ended || self.next >= *to,
        }
    }

    fn is_empty(&self) -> bool {
        self.chunks.is_empty() && !self.ended
    }

    /// Records without data hold memory too.
    fn holds_records(&self) -> bool {
        let holds =
            |chunk: &Chunk| !(chunk.records.is_empty() && chunk.rejected.is_empty() && chunk.originals.is_empty());
        self.chunks.iter().any(|buffered| holds(&buffered.chunk))
    }
}

/// What is buffered for one destination. `S` is the share of the budget that rides on each chunk.
#[derive(Debug)]
pub struct Batcher<S> {
    limits: BatchLimits,
    shards: BTreeMap<LeaseKey, Buffer<S>>,
    /// Of all shards together.
    total: Total,
}

impl<S> Batcher<S> {
    /// Nothing buffered.
    pub fn new(limits: BatchLimits) -> Self {
        Self { limits, shards: BTreeMap::new(), total: Total::default() }
    }

    /// Begins to buffer a shard after `from`, dropping whatever was buffered of it. `owed`: the first batch ends exactly
    /// there.
    pub fn open(&mut self, lease: LeaseKey, tenure: Tenure, from: Position, owed: Option<Position>) {
        let flush = self.shards.get(&lease).is_some_and(|buffer| buffer.flush && buffer.tenure == tenure);
        let buffer = Buffer { tenure, next: from, chunks: Vec::new(), since: None, ended: false, flush, owed };
        let before = self.shards.insert(lease, buffer);
        self.forget(before);
    }

    /// Drops a shard and what is buffered of it.
    pub fn close(&mut self, lease: &LeaseKey) {
        let buffer = self.shards.remove(lease);
        self.forget(buffer);
    }

    fn forget(&mut self, buffer: Option<Buffer<S>>) {
        self.total.remove(buffer.iter().flat_map(|buffer| &buffer.chunks).map(|buffered| &buffered.weight));
    }

    /// Takes a chunk in. Refused with the invariant that it would break; the caller drops it.
    pub fn push(&mut self, chunk: Chunk, share: S, now: Duration) -> Result<(), Invariant> {
        let Some(buffer) = self.shards.get_mut(&chunk.lease).filter(|buffer| buffer.tenure == chunk.tenure) else {
            return Err(Invariant::I9);
        };
        if buffer.next != chunk.from || chunk.to <= chunk.from || buffer.ended {
            return Err(Invariant::I15);
        }
        buffer.next = chunk.to.clone();
        buffer.since.get_or_insert(now);
        let weight = Weight::of(&chunk, &self.limits);
        self.total.add(&weight);
        buffer.chunks.push(Buffered { chunk, share, weight });
        Ok(())
    }

    /// The shard is read to its end, the last record being the one at `at`: it is cut as soon as it may be, with or
    /// without records. Refused, without effect, if something before `at` was never buffered.
    pub fn end(&mut self, lease: &LeaseKey, tenure: Tenure, at: &Position) -> Result<(), Invariant> {
        let Some(buffer) = self.shards.get_mut(lease).filter(|buffer| buffer.tenure == tenure) else {
            return Err(Invariant::I9);
        };
        if buffer.next != *at {
            return Err(Invariant::I15);
        }
        buffer.ended = true;
        Ok(())
    }

    /// Drops what is buffered of a shard and not cut: it goes on from where the last cut ended.
    pub fn step_back(&mut self, lease: &LeaseKey) {
        let Some(buffer) = self.shards.get_mut(lease).filter(|buffer| !buffer.chunks.is_empty()) else { return };
        let dropped = std::mem::take(&mut buffer.chunks);
        buffer.next = dropped[0].chunk.from.clone();
        (buffer.since, buffer.ended) = (None, false);
        self.total.remove(dropped.iter().map(|buffered| &buffered.weight));
    }

    /// Where the next chunk of the shard must begin; `None` if no more is to come, or none is awaited.
    pub fn next(&self, lease: &LeaseKey, tenure: Tenure) -> Option<&Position> {
        let buffer = self.shards.get(lease).filter(|buffer| buffer.tenure == tenure && !buffer.ended)?;
        (buffer.next != Position::ShardEnd).then_some(&buffer.next)
    }

    /// The shares of what is buffered of a shard.
    pub fn shares_mut(&mut self, lease: &LeaseKey) -> impl Iterator<Item = &mut S> {
        let chunks = self.shards.get_mut(lease).map(|buffer| buffer.chunks.as_mut_slice()).unwrap_or_default();
        chunks.iter_mut().map(|buffered| &mut buffered.share)
    }

    /// Where the next batch of the shard must end, if that is given.
    pub fn owed(&self, lease: &LeaseKey) -> Option<&Position> {
        self.shards.get(lease)?.owed.as_ref()
    }

    /// What is buffered of the shard is cut as soon as it may be.
    pub fn flush(&mut self, lease: &LeaseKey) {
        if let Some(buffer) = self.shards.get_mut(lease) {
            buffer.flush = true;
        }
    }

    /// Whether nothing of the shard waits to be cut.
    pub fn is_drained(&self, lease: &LeaseKey) -> bool {
        self.shards.get(lease).is_none_or(Buffer::is_empty)
    }

    /// Bytes of record data buffered.
    pub fn bytes(&self) -> u64 {
        self.total.bytes()
    }

    /// When the oldest buffered chunk came.
    pub fn oldest(&self) -> Option<Duration> {
        self.shards.values().filter_map(|buffer| buffer.since).min()
    }

    /// When the next cut by interval is due, of the shards that `ready` lets through.
    pub fn due(&self, ready: impl Fn(&LeaseKey) -> bool) -> Option<Duration> {
        let open = self.shards.iter().filter(|(lease, buffer)| ready(lease) && buffer.is_whole());
        open.filter_map(|(_, buffer)| buffer.since).min().map(|since| since + self.limits.interval)
    }

    /// Cuts a batch if one is due. `ready`: the shards that may be cut now; `memory_short`: a reader waits.
    pub fn cut(&mut self, now: Duration, memory_short: bool, ready: impl Fn(&LeaseKey) -> bool) -> Option<Cut<S>> {
        let may = |lease: &LeaseKey, buffer: &Buffer<S>| !buffer.is_empty() && buffer.is_whole() && ready(lease);
        let open: Vec<(&LeaseKey, &Buffer<S>)> =
            self.shards.iter().filter(|(lease, buffer)| may(lease, buffer)).collect();
        let (reason, only) = if self.limits.shards_max > 1 {
            let open: Vec<&Buffer<S>> = open.iter().map(|(_, buffer)| *buffer).collect();
            (self.reason(now, memory_short, &open)?, None)
        } else {
            // Each shard for itself, and the one that has waited for longest first.
            let mut open = open;
            open.sort_by_key(|(_, buffer)| buffer.since);
            let due = |(lease, buffer): &(&LeaseKey, &Buffer<S>)| {
                Some((self.reason(now, memory_short, &[*buffer])?, Some((*lease).clone())))
            };
            open.iter().find_map(due)?
        };
        let ready = |lease: &LeaseKey| only.as_ref().is_none_or(|only| only == lease) && ready(lease);
        let mut shards = Vec::new();
        let mut taken = Total::default();
        // A shard that must go now goes first, so that a full lane never holds up a hand-over.
        let urgent = |buffer: &Buffer<S>| buffer.is_due_at_once().is_some();
        for first in [true, false] {
            for (lease, buffer) in &mut self.shards {
                let room = shards.len() < self.limits.shards_max && (first || !taken.is_full(&self.limits));
                if !room || buffer.is_empty() || !buffer.is_whole() || urgent(buffer) != first || !ready(lease) {
                    continue;
                }
                shards.extend(buffer.cut(lease, &mut taken, &self.limits, now));
            }
        }
        let cut = shards.iter().flat_map(|(_, weights)| weights);
        self.total.remove(cut);
        let mut shards: Vec<CutShard<S>> = shards.into_iter().map(|(part, _)| part).collect();
        shards.sort_by(|a, b| a.lease.cmp(&b.lease));
        (!shards.is_empty()).then_some(Cut { reason, shards })
    }

    fn reason(&self, now: Duration, memory_short: bool, open: &[&Buffer<S>]) -> Option<CutReason> {
        if let Some(reason) = open.iter().find_map(|buffer| buffer.is_due_at_once()) {
            return Some(reason);
        }
        let oldest = open.iter().filter_map(|buffer| buffer.since).min()?;
        if let Some(reason) = self.reached(open) {
            Some(reason)
        } else if oldest + self.limits.interval <= now {
            Some(CutReason::Interval)
        } else if memory_short && open.iter().any(|buffer| buffer.holds_records()) {
            Some(CutReason::Memory)
        } else {
            None
        }
    }

    /// The bound of a batch that these buffers reach together.
    fn reached(&self, open: &[&Buffer<S>]) -> Option<CutReason> {
        let reached = |total: &Total| {
            let full = total.is_full(&self.limits).then_some(CutReason::Size);
            full.or_else(|| total.has_too_many(&self.limits).then_some(CutReason::Partitions))
        };
        // What all shards do not reach, none of them do.
        let of_all = reached(&self.total)?;
        if open.len() == self.shards.values().filter(|buffer| !buffer.is_empty()).count() {
            return Some(of_all);
        }
        let mut total = Total::default();
        open.iter().flat_map(|buffer| &buffer.chunks).for_each(|buffered| total.add(&buffered.weight));
        reached(&total)
    }
}

impl<S> Buffer<S> {
    /// Takes chunks until a bound of `taken` is reached, at least one of a shard that must go now; with what they weigh.
    /// `None` if there is no room for any. What remains of a shard that must go now is due at once.
    fn cut(
        &mut self,
        lease: &LeaseKey,
        taken: &mut Total,
        limits: &BatchLimits,
        now: Duration,
    ) -> Option<(CutShard<S>, Vec<Weight>)> {
        // Where nothing is taken yet there is room for any chunk: one that alone is too much is a batch of its own.
        let mut must = self.is_due_at_once().is_some() || taken.is_empty();
        let mut count = 0;
        let owed = self.owed.take();
        for buffered in &self.chunks {
            if owed.as_ref().is_some_and(|to| buffered.chunk.from >= *to) {
                break;
            }
            if !must && owed.is_none() && (taken.is_full(limits) || !taken.has_room_for(&buffered.weight, limits)) {
                break;
            }
            taken.add(&buffered.weight);
            count += 1;
            must = false;
        }
        if count == 0 && !self.chunks.is_empty() {
            return None;
        }
        let rest = self.chunks.split_off(count);
        let cut = std::mem::replace(&mut self.chunks, rest);
        let (chunks, weights): (Vec<_>, Vec<_>) =
            cut.into_iter().map(|buffered| ((buffered.chunk, buffered.share), buffered.weight)).unzip();
        self.since = (!self.chunks.is_empty()).then_some(now);
        if let Some(to) = owed.filter(|to| *to != Position::ShardEnd) {
            self.next = self.next.clone().max(to.clone());
            return Some((CutShard { lease: lease.clone(), chunks, to }, weights));
        }
        let whole = self.chunks.is_empty();
        let to = match chunks.last() {
            _ if whole && self.ended => Position::ShardEnd,
            Some((chunk, _)) => chunk.to.clone(),
            None => self.next.clone(),
        };
        if whole && self.ended {
            self.ended = false;
            self.next = Position::ShardEnd;
        }
        Some((CutShard { lease: lease.clone(), chunks, to }, weights))
    }
}

#[cfg(test)]
mod tests;
