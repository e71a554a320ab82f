//! Whether a shard has anything left to deliver: for `run --until caught-up`, about shards that another worker holds.

use std::time::Duration;

use aws_sdk_kinesis::types::ShardIteratorType;
use standpipe_flow::{Millis, Position, ShardId};

use crate::catalog::Catalog;
use crate::errors::{Failure, Kind, StreamError};
use crate::quota::After;

/// Between two looks at the tip, and between empty answers on the way there.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Empty answers on the way to the tip; each covers a stretch of the shard without records.
const EMPTY_ANSWERS_MAX: u32 = 120;

/// What lies after a position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tip {
    /// A record that arrived at or before the instant: not caught up.
    Waiting,
    /// Only records that arrived after the instant.
    Later,
    /// Nothing, and the shard is open: empty with MillisBehindLatest 0, twice, a second apart.
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
    /// What lies after `after` in a shard, as seen from the instant `until`. Reads one record at most; the shard's quota
    /// is used, so a worker reading it may be throttled once. `pinned` is where a shard without a position starts.
    /// Cancel-safe.
    pub async fn tip(
        &self,
        shard: &ShardId,
        after: &Position,
        pinned: Option<Millis>,
        until: Millis,
    ) -> Result<Tip, StreamError> {
        let kind = match after {
            Position::ShardEnd => return Ok(Tip::Ended),
            Position::At { .. } => ShardIteratorType::AfterSequenceNumber,
            Position::TrimHorizon if pinned.is_some() => ShardIteratorType::AtTimestamp,
            Position::TrimHorizon => ShardIteratorType::TrimHorizon,
        };
        let mut token = self.ask(|| self.stream.shard_iterator(shard, kind.clone(), after, pinned)).await?;
        let mut seen = After::Now;
        for _ in 0..EMPTY_ANSWERS_MAX {
            let answer = self.ask(|| self.stream.records(token.clone(), 1)).await?;
            if let Some(record) = answer.records.first() {
                let arrival = record.approximate_arrival_timestamp.and_then(|time| time.to_millis().ok());
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
        Err(Failure::new(Kind::Transient, format!("{shard} gave only empty answers")).into_error())
    }
}
