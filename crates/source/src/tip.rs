//! Whether a shard has anything left to deliver: for `run --until caught-up`, about shards that another worker holds; and
//! whether it has a position at all, for `leases reset`.

use std::time::Duration;

use aws_sdk_kinesis::types::ShardIteratorType;
use standpipe_flow::{Millis, Position, ShardId};

use crate::catalog::Catalog;
use crate::chunks::Chunks;
use crate::errors::{Failure, Kind, StreamError};
use crate::polling::ReadFrom;
use crate::quota::After;

/// Between two looks at the tip, and between empty answers on the way there.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Answers without a new record on the way to the tip; each covers a stretch of the shard.
const EMPTY_ANSWERS_MAX: u32 = 120;

/// What lies after a position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tip {
    /// A record that arrived at or before the instant: not caught up.
    Waiting,
    /// Only records that arrived after the instant.
    Later,
    /// Nothing, and the shard is open: nothing new with MillisBehindLatest 0, twice, a second apart.
    Empty,
    /// Nothing, and the shard is closed.
    Ended,
}

impl Tip {
    /// Whether everything that arrived up to the instant was delivered.
    pub fn caught_up(self) -> bool {
        self != Self::Waiting
    }
}

impl Catalog {
    /// What lies after a position, as seen from the instant `until`. Its own record is read again, as a reader would: of
    /// an aggregate that the KCL delivered in part, the rest lies after the position. Asks for one record at a time; the
    /// shard's quota is used, so a worker reading it may be throttled once. Cancel-safe.
    pub async fn tip(&self, from: &ReadFrom, until: Millis) -> Result<Tip, StreamError> {
        let kind = match &from.position {
            Position::ShardEnd => return Ok(Tip::Ended),
            Position::At { .. } => ShardIteratorType::AtSequenceNumber,
            Position::TrimHorizon if from.pinned.is_some() => ShardIteratorType::AtTimestamp,
            Position::TrimHorizon => ShardIteratorType::TrimHorizon,
        };
        let iterator = || self.stream.shard_iterator(&from.shard, kind.clone(), &from.position, from.pinned);
        let mut token = self.ask(iterator).await?;
        let mut chunks = Chunks::new(from);
        let mut seen = After::Now;
        for _ in 0..EMPTY_ANSWERS_MAX {
            let answer = self.ask(|| self.stream.records(token.clone(), 1)).await?;
            let arrival = answer.records.first().and_then(|record| record.approximate_arrival_timestamp);
            let taken = chunks.take(answer.records, Duration::ZERO, self.stream.clock().wall());
            if taken.map_err(|bad| StreamError::Again { cause: bad.to_string() })?.records > 0 {
                let arrival = arrival.and_then(|time| time.to_millis().ok());
                let later = arrival.is_some_and(|arrival| i128::from(arrival) > i128::from(until.0));
                return Ok(if later { Tip::Later } else { Tip::Waiting });
            }
            let at_tip = answer.millis_behind_latest.unwrap_or(0) == 0;
            match answer.next_shard_iterator {
                None => return Ok(Tip::Ended),
                Some(_) if at_tip && seen == After::Later => return Ok(Tip::Empty),
                Some(next) => token = next,
            }
            seen = if at_tip { After::Later } else { After::Now };
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Err(Failure::new(Kind::Transient, format!("{} gave nothing new", from.shard)).into_error())
    }

    /// Whether a reader of the shard can begin at this position: `Refused` with what the service said about a sequence
    /// number that the shard does not have. Cancel-safe.
    pub async fn has(&self, shard: &ShardId, position: &Position) -> Result<(), StreamError> {
        let Position::At { .. } = position else { return Ok(()) };
        self.ask(|| self.stream.shard_iterator(shard, ShardIteratorType::AtSequenceNumber, position, None))
            .await
            .map(drop)
    }
}
