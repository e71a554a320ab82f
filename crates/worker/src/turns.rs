//! The loops of several destinations share rows: of a lease one write of theirs is in flight, the others wait for their
//! turn here instead of losing to each other by TransactionConflict (protocol 2.2). Heartbeats are never in this queue.
//!
//! Never here: what a write means. Who waits too long is told of a conflict, and asks again whether it still may write.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use standpipe_flow::{
    Advance, Commit, CommitError, CommitId, CommitLog, Declare, Finalize, LeaseKey, LeaseRow, Receipt,
};
use tokio::sync::OwnedMutexGuard;

/// A turn is waited for so long at once: what allowed the write is looked at again after it.
const WAIT: Duration = Duration::from_millis(300);

type Turn = tokio::sync::Mutex<()>;

/// The log for so many destinations. With one there is nothing to queue.
pub(crate) fn queued(log: Arc<dyn CommitLog>, destinations: usize) -> Arc<dyn CommitLog> {
    if destinations <= 1 { log } else { Arc::new(Queued { log, turns: Mutex::default() }) }
}

struct Queued {
    log: Arc<dyn CommitLog>,
    /// Leases that somebody writes to, or waits for.
    turns: Mutex<BTreeMap<LeaseKey, Weak<Turn>>>,
}

impl Queued {
    fn turn(&self, lease: &LeaseKey) -> Arc<Turn> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(lease).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::new(Turn::default());
        turns.insert(lease.clone(), Arc::downgrade(&turn));
        turn
    }

    /// The turns of these leases; in their order, so that no two wait for each other.
    async fn turns<'a>(
        &self,
        leases: impl Iterator<Item = &'a LeaseKey>,
    ) -> Result<Vec<OwnedMutexGuard<()>>, CommitError> {
        let leases: BTreeSet<LeaseKey> = leases.cloned().collect();
        let all = async {
            let mut turns = Vec::with_capacity(leases.len());
            for lease in &leases {
                turns.push(self.turn(lease).lock_owned().await);
            }
            turns
        };
        tokio::time::timeout(WAIT, all).await.map_err(|_| CommitError::Conflict)
    }
}

#[async_trait]
impl CommitLog for Queued {
    async fn prepare(&self, receipt: &Receipt) -> Result<(), CommitError> {
        self.log.prepare(receipt).await
    }

    async fn commit(&self, commit: &Commit) -> Result<(), CommitError> {
        let _turns = self.turns(commit.shards.iter().map(|shard| &shard.fence.lease)).await?;
        self.log.commit(commit).await
    }

    async fn done(&self, cid: CommitId, gave_up: bool) -> Result<(), CommitError> {
        self.log.done(cid, gave_up).await
    }

    async fn receipt(&self, cid: CommitId) -> Result<Option<Receipt>, CommitError> {
        self.log.receipt(cid).await
    }

    async fn finalize(&self, finalize: &Finalize) -> Result<(), CommitError> {
        let _turn = self.turns(std::iter::once(&finalize.lease)).await?;
        self.log.finalize(finalize).await
    }

    async fn declare(&self, declare: &Declare) -> Result<(), CommitError> {
        let _turn = self.turns(std::iter::once(&declare.shard.fence.lease)).await?;
        self.log.declare(declare).await
    }

    async fn advance(&self, advance: &Advance) -> Result<(), CommitError> {
        let _turn = self.turns(std::iter::once(&advance.fence.lease)).await?;
        self.log.advance(advance).await
    }

    async fn row(&self, lease: &LeaseKey) -> Result<Option<LeaseRow>, CommitError> {
        self.log.row(lease).await
    }

    async fn retract(&self, receipt: &Receipt, carriers: &[LeaseRow]) -> Result<(), CommitError> {
        let _turns = self.turns(carriers.iter().map(|row| &row.key)).await?;
        self.log.retract(receipt, carriers).await
    }
}

#[cfg(test)]
mod tests {
    use standpipe_flow::{DestinationId, Position};

    use super::*;

    /// Every write takes a second. What was under way at once.
    #[derive(Default)]
    struct Slow {
        under_way: Mutex<Vec<LeaseKey>>,
        together: Mutex<BTreeSet<(LeaseKey, LeaseKey)>>,
    }

    #[async_trait]
    impl CommitLog for Slow {
        async fn commit(&self, _: &Commit) -> Result<(), CommitError> {
            Ok(())
        }
        async fn prepare(&self, _: &Receipt) -> Result<(), CommitError> {
            Ok(())
        }
        async fn done(&self, _: CommitId, _: bool) -> Result<(), CommitError> {
            Ok(())
        }
        async fn receipt(&self, _: CommitId) -> Result<Option<Receipt>, CommitError> {
            Ok(None)
        }
        async fn finalize(&self, finalize: &Finalize) -> Result<(), CommitError> {
            for other in self.under_way.lock().expect("nobody panics").iter() {
                self.together.lock().expect("nobody panics").insert((other.clone(), finalize.lease.clone()));
            }
            self.under_way.lock().expect("nobody panics").push(finalize.lease.clone());
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.under_way.lock().expect("nobody panics").retain(|lease| *lease != finalize.lease);
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

    fn finalize(lease: &str, destination: &str) -> Finalize {
        Finalize {
            lease: LeaseKey::new(lease),
            destination: DestinationId::new(destination),
            cid: CommitId::new(standpipe_flow::Millis(0), 0, 1),
            to: Position::ShardEnd,
            arrival: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_lease_one_write_is_in_flight_and_who_waits_too_long_asks_again() {
        let slow = Arc::new(Slow::default());
        let log = queued(slow.clone(), 2);
        let repeat = |one: Finalize| {
            let log = log.clone();
            async move {
                let mut conflicts = 0;
                while let Err(error) = log.finalize(&one).await {
                    assert!(matches!(error, CommitError::Conflict));
                    conflicts += 1;
                }
                conflicts
            }
        };
        let start = tokio::time::Instant::now();
        let writes = [("1", "a"), ("1", "b"), ("2", "a")].map(|(lease, to)| repeat(finalize(lease, to)));
        assert_eq!(futures_util::future::join_all(writes).await, [0, 3, 0]);
        assert_eq!(start.elapsed(), Duration::from_secs(2));
        let together = slow.together.lock().expect("nobody panics").clone();
        assert!(together.iter().all(|(one, other)| one != other) && !together.is_empty(), "{together:?}");
    }
}
