//! The contract of the commit log: the lease table and the commit table, written together.
//! One call is one request, no retry inside: what an unclear answer means is the protocol's to say.

use async_trait::async_trait;

use crate::clock::Millis;
use crate::lease::{DestinationId, Fence, LeaseKey, LeaseRow, PendingMode};
use crate::receipt::{CommitId, Receipt};
use crate::sequence::Position;
use crate::write::{self, RowWrite};

/// One shard's part of a commit.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct CommitShard {
    /// The right to commit.
    pub fence: Fence,
    /// Where the range begins.
    pub from: Position,
    /// When the record at `from` arrived.
    pub from_arrival: Option<Millis>,
    /// Where it ends.
    pub to: Position,
    /// What this process saw DONE, or acknowledged, and that may not be finalized yet; or the declared range that this very
    /// commit takes the place of.
    pub previous: Option<CommitId>,
}

/// The one decision: ranges and receipt in one transaction, client request token = cid.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Commit {
    /// The shards.
    pub shards: Vec<CommitShard>,
    /// The receipt, COMMITTED.
    pub receipt: Receipt,
}

impl Commit {
    /// The conditional writes of the lease rows. The receipt is put IF `attribute_not_exists(cid)` beside them.
    pub fn writes(&self) -> Vec<RowWrite> {
        let write = |shard: &CommitShard| {
            write::commit(&write::CommitWrite {
                fence: &shard.fence,
                destination: &self.receipt.destination,
                from: (&shard.from, shard.from_arrival),
                to: &shard.to,
                cid: self.receipt.cid,
                mode: PendingMode::Staged,
                previous: shard.previous,
            })
        };
        self.shards.iter().map(write).collect()
    }
}

/// Writes down what is about to be sent, and under which id (protocol 2, declared destinations): one shard.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Declare {
    /// The destination.
    pub destination: DestinationId,
    /// The id that every repeat carries.
    pub cid: CommitId,
    /// The shard and the range.
    pub shard: CommitShard,
}

impl Declare {
    /// The conditional write: a commit's, but that whoever finds it sends the range again.
    pub fn write(&self) -> RowWrite {
        write::commit(&write::CommitWrite {
            fence: &self.shard.fence,
            destination: &self.destination,
            from: (&self.shard.from, self.shard.from_arrival),
            to: &self.shard.to,
            cid: self.cid,
            mode: PendingMode::Declared,
            previous: self.shard.previous,
        })
    }
}

/// Finalizes one shard of a published commit.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Finalize {
    /// The lease.
    pub lease: LeaseKey,
    /// The destination.
    pub destination: DestinationId,
    /// The commit.
    pub cid: CommitId,
    /// Its end.
    pub to: Position,
    /// When the record at `to` arrived.
    pub arrival: Option<Millis>,
}

impl Finalize {
    /// The conditional write.
    pub fn write(&self) -> RowWrite {
        write::finalize(&self.lease, &self.destination, self.cid, (&self.to, self.arrival))
    }
}

/// Moves one shard's position without a commit: past records that an idempotent destination has taken (protocol 2), or to
/// where a Java worker has come (4.8).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Advance {
    /// The right to write.
    pub fence: Fence,
    /// The destination.
    pub destination: DestinationId,
    /// `at` as this process knows it, with nothing pending.
    pub from: Position,
    /// The new `at`.
    pub to: Position,
    /// When the record at `to` arrived; not known of a Java worker's.
    pub arrival: Option<Millis>,
}

impl Advance {
    /// The conditional write.
    pub fn write(&self) -> RowWrite {
        write::advance(&self.fence, &self.destination, &self.from, (&self.to, self.arrival))
    }
}

/// Why a write of the log gave no plain yes; named by what the answer proves.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// A condition did not hold: nothing was written. `now` is the row as the service showed it (ALL_OLD); `None` if
    /// the row is gone, or if it was the receipt's own condition that failed.
    #[error("refused: a condition on {lease:?} does not hold")]
    Refused {
        /// The lease whose condition failed; `None` for the receipt.
        lease: Option<LeaseKey>,
        /// The row as it is.
        now: Option<Box<LeaseRow>>,
    },
    /// Another write of the same item was under way (TransactionConflict, TransactionInProgress). Nothing was written;
    /// neither a lost lease nor an unclear answer.
    #[error("in conflict with another write")]
    Conflict,
    /// Throttled: nothing was written.
    #[error("throttled")]
    Throttled,
    /// No answer, or one that proves nothing: it may have been written, or may be written later.
    #[error("unclear: {cause}")]
    Unknown {
        /// What was seen.
        cause: String,
    },
    /// What was read has a form that this program does not know: hands off (I13).
    #[error("cannot be understood: {cause}")]
    Unreadable {
        /// What is wrong with it.
        cause: String,
    },
    /// Not permitted, or the table is missing: nothing was written; waited for, with an alarm.
    #[error("not permitted: {cause}")]
    Denied {
        /// What the service said.
        cause: String,
    },
}

/// The lease table and the commit table.
#[async_trait]
pub trait CommitLog: Send + Sync + 'static {
    /// Writes down what of a receipt does not fit into its own item: before the commit, which names it. Writing it again
    /// changes nothing; without the commit nobody ever reads it.
    async fn prepare(&self, receipt: &Receipt) -> Result<(), CommitError>;
    /// Sends the transaction once. What [`prepare`](Self::prepare) has to write has been written.
    async fn commit(&self, commit: &Commit) -> Result<(), CommitError>;
    /// Sets the receipt DONE (with its expiry) IF it is COMMITTED; `gave_up` is written beside it. Refused means that it is
    /// not.
    async fn done(&self, cid: CommitId, gave_up: bool) -> Result<(), CommitError>;
    /// Reads the receipt, consistently.
    async fn receipt(&self, cid: CommitId) -> Result<Option<Receipt>, CommitError>;
    /// Finalizes one shard. Refused means that it no longer carries the commit.
    async fn finalize(&self, finalize: &Finalize) -> Result<(), CommitError>;
    /// Declares one shard's range.
    async fn declare(&self, declare: &Declare) -> Result<(), CommitError>;
    /// Moves one shard's position without a commit.
    async fn advance(&self, advance: &Advance) -> Result<(), CommitError>;
    /// Reads one lease row, consistently.
    async fn row(&self, lease: &LeaseKey) -> Result<Option<LeaseRow>, CommitError>;
    /// One transaction: the receipt becomes RETRACTED IF COMMITTED, and each of `carriers` (rows just read that carry
    /// the commit) goes back to its `at`, IF it still carries it.
    async fn retract(&self, receipt: &Receipt, carriers: &[LeaseRow]) -> Result<(), CommitError>;
}
