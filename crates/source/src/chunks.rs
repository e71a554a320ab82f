//! Answers to chunks: what was read of one shard and is not handed on yet. Every reader of a shard has one.
//!
//! I15, no read gap: chunks continue each other, and an answer must ascend and lie after what was taken before. A record
//! at or below the position that reading started from was delivered, and is left out: of an aggregate, its first user
//! records only. A chunk ends where a record of the stream ends, never within an aggregate.
//! Memory: what a chunk will hold is known before its aggregates are taken apart, so that the reader can ask for it first.
//! Never here: a call to the service, a decision what to read next.

use std::collections::VecDeque;
use std::time::Duration;

use aws_sdk_kinesis::types;
use standpipe_flow::{Chunk, LeaseKey, Millis, Position, Record, Taken, Tenure};
use tracing::debug;

use crate::aggregate::Aggregate;
use crate::answer::{BadAnswer, Page};
use crate::polling::ReadFrom;
use crate::unpack::Unpack;

/// A chunk ends before the record of the stream that would make it hold more, and holds one at least.
const CHUNK_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A record of the stream that waits to be handed on.
#[derive(Debug)]
struct Waiting {
    record: Record,
    /// Bytes of memory of the record as it came.
    came_bytes: usize,
    behind: Duration,
    form: Form,
}

#[derive(Debug)]
enum Form {
    /// It is delivered as it is.
    Whole,
    /// So too, although it begins like an aggregate.
    Broken,
    /// Its user records are delivered, from this index on.
    Aggregate(Aggregate, usize),
}

impl Waiting {
    /// Looks at a record of the stream, of which everything up to `after` was delivered.
    fn new((record, came_bytes): (Record, usize), behind: Duration, after: &Position, unpack: &Unpack) -> Self {
        let delivered = match after {
            Position::At { sequence, sub } if *sequence == record.sequence => Some(*sub),
            _ => None,
        };
        // A position within an aggregate is one of somebody who takes them apart, and its rest is still to be delivered.
        let form = if unpack.kpl || delivered.is_some_and(|sub| sub > 0) {
            match Aggregate::of(&record.data) {
                Ok(Some(aggregate)) => {
                    let first = delivered.map_or(0, |sub| sub.saturating_add(1));
                    let first = usize::try_from(first).unwrap_or(usize::MAX);
                    Form::Aggregate(aggregate, first)
                }
                Ok(None) => Form::Whole,
                Err(why) => {
                    debug!(sequence = %record.sequence, why = %why, "no aggregate, delivered as it is");
                    Form::Broken
                }
            }
        } else {
            Form::Whole
        };
        Self { record, came_bytes, behind, form }
    }

    /// Bytes of memory that it holds while it waits.
    fn held_bytes(&self) -> usize {
        match &self.form {
            Form::Aggregate(aggregate, _) => self.came_bytes + aggregate.memory_bytes(),
            Form::Whole | Form::Broken => self.came_bytes,
        }
    }

    /// Bytes of memory that its user records will hold.
    fn expanded_bytes(&self) -> usize {
        match &self.form {
            Form::Aggregate(aggregate, first) => self.held_bytes() + aggregate.expanded_bytes(*first),
            Form::Whole | Form::Broken => self.came_bytes,
        }
    }

    /// User records that it has, without those delivered before.
    fn user_records(&self) -> usize {
        match &self.form {
            Form::Aggregate(aggregate, first) => aggregate.records().saturating_sub(*first),
            Form::Whole | Form::Broken => 1,
        }
    }

    /// The position of its last user record.
    fn to(&self) -> Position {
        let last = match &self.form {
            Form::Aggregate(aggregate, _) => aggregate.records() as u64 - 1,
            Form::Whole | Form::Broken => 0,
        };
        Position::at(self.record.sequence.clone(), last)
    }

    /// Adds its user records.
    fn hand_on(self, unpack: &Unpack, into: &mut Vec<Record>, taken: &mut Taken) {
        taken.stream_records += 1;
        taken.stream_bytes += self.record.data.len() as u64;
        match self.form {
            Form::Aggregate(aggregate, first) => {
                taken.user_records += aggregate.records().saturating_sub(first) as u64;
                taken.out_of_range += aggregate.take_apart(&self.record, first, unpack, into);
            }
            form => {
                taken.no_aggregates += u64::from(matches!(form, Form::Broken));
                into.push(self.record);
            }
        }
    }
}

/// What an answer weighed.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Answered {
    /// Records of the stream that will be handed on.
    pub(crate) records: usize,
    /// Bytes of memory that their user records will hold.
    pub(crate) memory_bytes: usize,
    /// Bytes that count towards the shard's quota.
    pub(crate) quota_bytes: usize,
    /// Records of the stream left out, because all of them was delivered before.
    pub(crate) repeated: u64,
}

/// What was read of one shard and is not handed on yet.
#[derive(Debug)]
pub(crate) struct Chunks {
    lease: LeaseKey,
    tenure: Tenure,
    unpack: Unpack,
    /// Where the last chunk that was handed on ended.
    handed_on: Position,
    /// Where the last answer ended: reading goes on after it.
    taken: Position,
    /// Whether `taken` was taken here: then nothing of its record lies after it.
    whole: bool,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
}

impl Chunks {
    pub(crate) fn new(from: &ReadFrom) -> Self {
        Self {
            lease: from.lease.clone(),
            tenure: from.tenure,
            unpack: from.unpack,
            handed_on: from.position.clone(),
            taken: from.position.clone(),
            whole: false,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
        }
    }

    /// Where the last chunk that was handed on ended.
    pub(crate) fn position(&self) -> &Position {
        &self.handed_on
    }

    /// Where reading goes on: after this.
    pub(crate) fn taken(&self) -> &Position {
        &self.taken
    }

    /// Whether nothing lies after [`Self::taken`] in its record of the stream. A position that reading started from may
    /// lie within an aggregate: then its record is read again (the KCL's rule).
    pub(crate) fn is_whole(&self) -> bool {
        self.whole
    }

    /// Takes over an answer, the whole of it or, if it is bad, nothing. `now` stands in for an arrival time that the
    /// service left out, `behind` is its MillisBehindLatest.
    pub(crate) fn take(
        &mut self,
        answer: Vec<types::Record>,
        behind: Duration,
        now: Millis,
    ) -> Result<Answered, BadAnswer> {
        let page = Page::take(answer, &self.taken, now)?;
        let mut answered = Answered { quota_bytes: page.quota_bytes, repeated: page.repeated, ..Answered::default() };
        for record in page.records {
            let waiting = Waiting::new(record, behind, &self.taken, &self.unpack);
            if waiting.to() <= self.taken {
                answered.repeated += 1;
                continue;
            }
            answered.records += 1;
            answered.memory_bytes += waiting.expanded_bytes();
            (self.taken, self.whole) = (waiting.to(), true);
            self.waiting_bytes += waiting.held_bytes();
            self.waiting.push_back(waiting);
        }
        Ok(answered)
    }

    /// Bytes of memory to reserve before [`Self::next`]; 0 if nothing waits.
    pub(crate) fn next_bytes(&self) -> usize {
        let (count, bytes) = self.fitting();
        bytes + self.waiting.iter().skip(count).map(Waiting::held_bytes).sum::<usize>()
    }

    /// How many records of the stream the next chunk is made of, and what it holds.
    fn fitting(&self) -> (usize, usize) {
        let (mut count, mut bytes) = (0, 0);
        for waiting in &self.waiting {
            let more = waiting.expanded_bytes();
            if count > 0 && bytes + more > CHUNK_BYTES_MAX {
                break;
            }
            (count, bytes) = (count + 1, bytes + more);
        }
        (count, bytes)
    }

    /// The next chunk. It is charged for what still waits behind it too.
    pub(crate) fn next(&mut self) -> Option<Chunk> {
        let (count, mut memory_bytes) = self.fitting();
        let last = self.waiting.get(count.checked_sub(1)?)?;
        let (to, behind) = (last.to(), last.behind);
        let mut taken = Taken::default();
        let mut records = Vec::with_capacity(self.waiting.iter().take(count).map(Waiting::user_records).sum());
        for waiting in self.waiting.drain(..count) {
            self.waiting_bytes -= waiting.held_bytes();
            waiting.hand_on(&self.unpack, &mut records, &mut taken);
        }
        let from = std::mem::replace(&mut self.handed_on, to.clone());
        if records.is_empty() {
            // Everything was left out, and the bytes that came are free.
            (records, memory_bytes) = (Vec::new(), 0);
        }
        memory_bytes += self.waiting_bytes;
        let (lease, tenure) = (self.lease.clone(), self.tenure);
        let (rejected, originals) = Default::default();
        Some(Chunk { lease, tenure, from, to, records, rejected, originals, behind, memory_bytes, taken })
    }
}

#[cfg(test)]
mod tests;
