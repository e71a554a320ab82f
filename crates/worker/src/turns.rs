//! The loops of several destinations share rows: of a lease one write of theirs is in flight, the others wait for their
//! turn here instead of losing to each other by TransactionConflict (protocol 2.2). Heartbeats are never in this queue.
//!
//! Never here: what a write means. Who waits too long is told of a conflict, and asks again whether it still may write.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use standpipe_flow::{Adopt, Commit, CommitError, CommitId, CommitLog, Finalize, LeaseKey, LeaseRow, Receipt};
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

    async fn done(&self, cid: CommitId) -> Result<(), CommitError> {
        self.log.done(cid).await
    }

    async fn receipt(&self, cid: CommitId) -> Result<Option<Receipt>, CommitError> {
        self.log.receipt(cid).await
    }

    async fn finalize(&self, finalize: &Finalize) -> Result<(), CommitError> {
        let _turn = self.turns(std::iter::once(&finalize.lease)).await?;
        self.log.finalize(finalize).await
    }

    async fn adopt(&self, adopt: &Adopt) -> Result<(), CommitError> {
        let _turn = self.turns(std::iter::once(&adopt.fence.lease)).await?;
        self.log.adopt(adopt).await
    }

    async fn row(&self, lease: &LeaseKey) -> Result<Option<LeaseRow>, CommitError> {
        self.log.row(lease).await
    }

    async fn retract(&self, receipt: &Receipt, carriers: &[LeaseRow]) -> Result<(), CommitError> {
        let _turns = self.turns(carriers.iter().map(|row| &row.key)).await?;
        self.log.retract(receipt, carriers).await
    }
}
