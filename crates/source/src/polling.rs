//! `read`, by polling: one shard, from a position on, with GetShardIterator and GetRecords.
//!
//! I15, no read gap: every iterator is asked for from where the last answer ended, and an answer counts as a whole or not
//! at all. A future dropped on its way has moved nothing: what was answered waits for the next call.
//! The first iterator is AT_SEQUENCE_NUMBER of the position, which may lie within an aggregate (the KCL's rule), later
//! ones AFTER_SEQUENCE_NUMBER; either way what was returned before is dropped.
//!
//! Every failure but the first in a row holds the next call back for longer, so that a dead endpoint is asked about
//! twice a minute. It never skips a record, never starts at LATEST, and ends a shard only on the service's word:
//! ChildShards in the answer, or, if the answers never name them, a closed shard in ListShards.

use std::time::Duration;

use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use aws_sdk_kinesis::types::{self, ShardIteratorType};
use standpipe_flow::{ChildShard, LeaseKey, Millis, Position, Read, ReadError, ShardId, ShardReader, Tenure};
use tracing::{debug, warn};

use crate::answer::{BadAnswer, Onward};
use crate::catalog::date_time;
use crate::chunks::{Answered, Chunks};
use crate::errors::{Failure, Kind, StreamError};
use crate::quota::{After, Pace};
use crate::size::AnswerSize;
use crate::stream::Stream;
use crate::unpack::Unpack;

/// An iterator lives 5 minutes (API reference); a reader that was held back gets a new one a minute earlier.
const ITERATOR_AGE_MAX: Duration = Duration::from_secs(240);
/// So many throttles in a row are waited out in silence (the KCL's threshold for an error).
const SILENT_THROTTLES: u32 = 5;
/// After so many answers in a row without an iterator and without children, ListShards is asked.
const BAD_ENDS_MAX: u32 = 3;

/// Where a reader starts, and what its chunks say they are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadFrom {
    /// The shard.
    pub shard: ShardId,
    /// The lease it is read under.
    pub lease: LeaseKey,
    /// The acquisition of the lease.
    pub tenure: Tenure,
    /// What was delivered: reading goes on after it. SHARD_END asks for the children only.
    pub position: Position,
    /// The instant that LATEST or a time was pinned to; where reading starts while the position is TRIM_HORIZON.
    pub pinned: Option<Millis>,
    /// How its records become user records.
    pub unpack: Unpack,
}

/// How a reader behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PollingSettings {
    /// From call to call at the tip of the shard; less than 222 ms is 222 ms.
    pub poll: Duration,
    /// Bytes that an answer's records may hold, as far as their count decides it. More than 2 MiB gains nothing: a shard
    /// gives no more in a second.
    pub answer_bytes_max: usize,
    /// The longest pause between calls while the service fails: a shard is to be read again within two failover times once
    /// it is back, so no longer than one.
    pub failure_longest: Duration,
}

impl Default for PollingSettings {
    fn default() -> Self {
        Self {
            poll: Duration::from_secs(1),
            answer_bytes_max: 2 * 1024 * 1024,
            failure_longest: Duration::from_secs(10),
        }
    }
}

/// What a reader has seen so far.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct ReadCounts {
    /// Calls of GetRecords.
    pub calls: u64,
    /// Calls of GetShardIterator.
    pub iterators: u64,
    /// Calls refused for throughput.
    pub throttles: u64,
    /// Iterators that were too old when used.
    pub expired: u64,
    /// Calls that failed otherwise.
    pub failures: u64,
    /// Answers dropped because they broke what the service promises.
    pub bad_answers: u64,
    /// Records dropped because they had been returned before. One at the start of each reader is expected.
    pub repeated: u64,
    /// Records returned.
    pub records: u64,
    /// Bytes of their data.
    pub bytes: u64,
}

#[derive(Debug)]
struct Iterator {
    token: String,
    issued: Duration,
}

/// Reads one shard by polling.
#[derive(Debug)]
pub struct Polling {
    stream: Stream,
    from: ReadFrom,
    /// What was read and is not returned yet.
    chunks: Chunks,
    iterator: Option<Iterator>,
    pace: Pace,
    size: AnswerSize,
    bad_ends: u32,
    expired_in_a_row: u32,
    /// What ListShards said, once the answers themselves kept silent about the children.
    listed: Option<Vec<ChildShard>>,
    end: Option<Vec<ChildShard>>,
    counts: ReadCounts,
}

impl ShardReader for Polling {
    async fn next(&mut self) -> Result<Read, ReadError> {
        let reserved_bytes = self.expected_bytes();
        loop {
            if let Some(read) = self.at_hand(reserved_bytes) {
                return Ok(read);
            }
            if self.bad_ends >= BAD_ENDS_MAX {
                self.ask_for_the_end().await?;
            }
            let Some(token) = self.usable_iterator() else {
                self.renew_iterator().await?;
                continue;
            };
            self.stream.wait_until(self.pace.next_call()).await;
            if self.usable_iterator().is_none() {
                continue;
            }
            match self.call(token).await {
                Ok(answer) => {
                    if let Some(read) = self.accept(answer)? {
                        return Ok(read);
                    }
                }
                Err(failure) => self.failed(failure)?,
            }
        }
    }

    fn expected_bytes(&self) -> usize {
        match self.chunks.next_bytes() {
            0 => self.size.expected_bytes(),
            waiting => waiting,
        }
    }
}

impl Polling {
    pub(crate) fn new(stream: Stream, from: ReadFrom, settings: PollingSettings) -> Self {
        Self {
            stream,
            chunks: Chunks::new(&from),
            from,
            iterator: None,
            pace: Pace::new(settings.poll, settings.failure_longest),
            size: AnswerSize::new(settings.answer_bytes_max),
            bad_ends: 0,
            expired_in_a_row: 0,
            listed: None,
            end: None,
            counts: ReadCounts::default(),
        }
    }

    /// Where the next chunk goes on from.
    pub fn position(&self) -> &Position {
        self.chunks.position()
    }

    /// What was seen so far.
    pub fn counts(&self) -> ReadCounts {
        self.counts
    }

    fn now(&self) -> Duration {
        self.stream.clock().elapsed()
    }

    fn usable_iterator(&self) -> Option<String> {
        let now = self.now();
        let iterator = self.iterator.as_ref()?;
        (now.saturating_sub(iterator.issued) < ITERATOR_AGE_MAX).then(|| iterator.token.clone())
    }

    /// How the service is told to go on after what was taken.
    pub(crate) fn start_kind(&self) -> ShardIteratorType {
        match self.chunks.taken() {
            Position::TrimHorizon if self.from.pinned.is_some() => ShardIteratorType::AtTimestamp,
            Position::TrimHorizon => ShardIteratorType::TrimHorizon,
            Position::At { .. } if self.chunks.is_whole() => ShardIteratorType::AfterSequenceNumber,
            Position::At { .. } => ShardIteratorType::AtSequenceNumber,
            // Nothing follows in a closed shard: the answer to LATEST is its end.
            Position::ShardEnd => ShardIteratorType::Latest,
        }
    }

    async fn renew_iterator(&mut self) -> Result<(), ReadError> {
        self.stream.wait_until(self.pace.next_iterator()).await;
        let issued = self.now();
        self.pace.iterator_called(issued);
        self.counts.iterators += 1;
        let (kind, position) = (self.start_kind(), self.chunks.taken());
        let names_a_record = matches!(position, Position::At { .. });
        let mut given = self.stream.shard_iterator(&self.from.shard, kind, position, self.from.pinned).await;
        if given.is_ok() && !names_a_record {
            given = self.stream.catalog().still_the_same(self.now()).await.and(given);
        }
        match given {
            Ok(token) => {
                self.iterator = Some(Iterator { token, issued });
                Ok(())
            }
            Err(failure) => self.failed(failure),
        }
    }

    async fn call(&mut self, token: String) -> Result<GetRecordsOutput, Failure> {
        self.pace.called(self.now());
        self.counts.calls += 1;
        self.stream.records(token, self.size.limit()).await
    }

    /// Takes an answer. Nothing here waits: either the whole answer counts or none of it.
    fn accept(&mut self, answer: GetRecordsOutput) -> Result<Option<Read>, ReadError> {
        let now = self.now();
        let behind = Duration::from_millis(answer.millis_behind_latest.unwrap_or(0).try_into().unwrap_or(0));
        let onward = Onward::of(answer.next_shard_iterator, answer.child_shards, self.listed.as_deref());
        let taken = onward.and_then(|onward| self.take(answer.records, behind, onward));
        let (next, answered) = match taken {
            Ok(taken) => taken,
            Err(bad) => return self.bad(&bad),
        };
        self.pace.answered(now, answered.quota_bytes, behind.is_zero());
        self.bad_ends = 0;
        self.expired_in_a_row = 0;
        self.iterator = next.map(|token| Iterator { token, issued: now });
        // The loop returns what waits, and the end.
        Ok((answered.records == 0 && self.end.is_none()).then_some(Read::Empty { behind }))
    }

    /// Takes over the records of an answer and where it leads: the whole of it or, if it is bad, nothing. Returns what to
    /// go on with; without it the shard has ended.
    pub(crate) fn take(
        &mut self,
        records: Vec<types::Record>,
        behind: Duration,
        onward: Onward,
    ) -> Result<(Option<String>, Answered), BadAnswer> {
        let answered = self.chunks.take(records, behind, self.stream.clock().wall())?;
        self.size.answered(answered.records, answered.memory_bytes, !behind.is_zero());
        self.counts.repeated += answered.repeated;
        match onward {
            Onward::Next(next) => Ok((Some(next), answered)),
            Onward::End(children) => {
                self.end = Some(children);
                Ok((None, answered))
            }
        }
    }

    /// What can be returned without a call: records that wait, then the end.
    pub(crate) fn at_hand(&mut self, reserved_bytes: usize) -> Option<Read> {
        let waiting = self.waiting(reserved_bytes);
        waiting.or_else(|| self.end.as_ref().map(|children| Read::End { children: children.clone() }))
    }

    /// Where reading goes on: after this.
    pub(crate) fn taken(&self) -> &Position {
        self.chunks.taken()
    }

    /// Records were taken from elsewhere: the next call begins behind them.
    pub(crate) fn forget_iterator(&mut self) {
        self.iterator = None;
    }

    /// An answer from elsewhere was dropped.
    pub(crate) fn count_bad(&mut self) {
        self.counts.bad_answers += 1;
    }

    /// What was read and is not returned yet, if so many bytes are enough for it.
    fn waiting(&mut self, reserved_bytes: usize) -> Option<Read> {
        if self.chunks.next_bytes() > reserved_bytes {
            return Some(Read::Heavy);
        }
        let chunk = self.chunks.next()?;
        self.counts.records += chunk.records.len() as u64;
        self.counts.bytes += chunk.data_bytes() as u64;
        Some(Read::Chunk(chunk))
    }

    /// Drops an answer that breaks what the service promises. The same iterator is asked again, after a pause; an answer
    /// out of order gets a new one.
    fn bad(&mut self, bad: &BadAnswer) -> Result<Option<Read>, ReadError> {
        self.counts.bad_answers += 1;
        match bad {
            BadAnswer::Sequence(_) | BadAnswer::Descends { .. } => self.iterator = None,
            BadAnswer::NoChildren | BadAnswer::BadChild(_) => self.bad_ends += 1,
            BadAnswer::ChildrenTooEarly => {}
        }
        warn!(shard = %self.from.shard, error = %bad, "answer dropped, will be asked for again");
        self.pace.refused(self.now(), self.stream.random());
        Err(ReadError::Again { cause: bad.to_string() })
    }

    /// The answers give neither an iterator nor children: is the shard closed at all?
    async fn ask_for_the_end(&mut self) -> Result<(), ReadError> {
        self.stream.wait_until(self.pace.next_call()).await;
        match self.stream.catalog().children(&self.from.shard).await {
            Ok(children) => {
                self.bad_ends = 0;
                self.listed = children;
                Ok(())
            }
            Err(error) => {
                self.pace.refused(self.now(), self.stream.random());
                Err(error.into())
            }
        }
    }

    /// Decides what a failed call means: `Ok` tries again in this very call of `next`.
    fn failed(&mut self, failure: Failure) -> Result<(), ReadError> {
        let now = self.now();
        match failure.kind {
            Kind::Throttled => {
                self.counts.throttles += 1;
                self.pace.throttled(now, self.stream.random());
                debug!(shard = %self.from.shard, in_a_row = self.pace.throttles(), "shard throttled");
                if self.pace.throttles() < SILENT_THROTTLES {
                    return Ok(());
                }
            }
            Kind::Iterator => {
                self.counts.expired += 1;
                self.expired_in_a_row += 1;
                self.iterator = None;
                if self.expired_in_a_row == 1 {
                    return Ok(());
                }
                self.pace.refused(now, self.stream.random());
            }
            Kind::Transient => {
                self.counts.failures += 1;
                if self.pace.failed(now, self.stream.random()) == After::Now {
                    return Ok(());
                }
            }
            Kind::Gone | Kind::Denied | Kind::Refused | Kind::InUse => {
                self.counts.failures += 1;
                // InvalidArgument may mean an iterator that the service no longer understands.
                self.iterator = None;
                self.pace.refused(now, self.stream.random());
            }
        }
        Err(StreamError::into(failure.into_error()))
    }
}

impl Stream {
    /// GetShardIterator.
    pub(crate) async fn shard_iterator(
        &self,
        shard: &ShardId,
        kind: ShardIteratorType,
        position: &Position,
        pinned: Option<Millis>,
    ) -> Result<String, Failure> {
        let request = self.client.get_shard_iterator();
        let request = request.set_stream_name(self.reference.name()).set_stream_arn(self.reference.arn());
        let request = request.shard_id(shard.as_str()).shard_iterator_type(kind.clone());
        let request = match (kind, position) {
            (ShardIteratorType::AtTimestamp, _) => request.set_timestamp(pinned.map(date_time)),
            (_, Position::At { sequence, .. }) => request.starting_sequence_number(sequence.as_str()),
            _ => request,
        };
        let answer = request.send().await.map_err(|error| Failure::of(&error))?;
        answer.shard_iterator.ok_or_else(|| Failure::new(Kind::Transient, "GetShardIterator gave no iterator"))
    }

    /// GetRecords.
    pub(crate) async fn records(&self, token: String, limit: i32) -> Result<GetRecordsOutput, Failure> {
        let request = self.client.get_records().shard_iterator(token).limit(limit).set_stream_arn(self.reference.arn());
        request.send().await.map_err(|error| Failure::of(&error))
    }
}
