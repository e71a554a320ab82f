//! What the protocol is told, and what it asks for.

use standpipe_flow::{
    Advance, Commit, CommitId, Declare, DestinationPosition, Fence, Finalize, LeaseKey, LeaseRow, Output, Position,
    Range, Receipt, Staged, Tenure,
};

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A lease was taken; `row` is the answer of that very write (ALL_NEW), nothing older.
    Taken {
        /// The row.
        row: Box<LeaseRow>,
        /// The acquisition.
        fence: Fence,
    },
    /// A lease is no longer ours.
    Lost {
        /// The lease.
        lease: LeaseKey,
        /// The acquisition that ended.
        tenure: Tenure,
    },
    /// A batch was cut: its ranges begin at the shards' positions.
    Cut {
        /// The attempt's id, never used before; or that of the declared range which the batch is ([`super::Protocol::owed`]).
        cid: CommitId,
        /// What it covers.
        ranges: Vec<Range>,
    },
    /// Everything is durable and invisible, or delivered.
    Staged {
        /// The attempt.
        cid: CommitId,
        /// What is staged, error objects included.
        staged: Box<StagedBatch>,
    },
    /// Staging was given up; nothing was sent to the commit log.
    Unstaged {
        /// The attempt.
        cid: CommitId,
    },
    /// An answer to an effect of an attempt.
    Answer {
        /// The attempt.
        cid: CommitId,
        /// Which run of it asked.
        run: u64,
        /// The answer.
        answer: Answer,
    },
    /// The row of the lease does not carry the commit any more.
    Finalized {
        /// The lease.
        lease: LeaseKey,
        /// The acquisition that asked.
        tenure: Tenure,
        /// The commit.
        cid: CommitId,
    },
    /// A second after DONE ([`Effect::FinalizeSoon`]).
    FinalizeDue {
        /// The lease.
        lease: LeaseKey,
        /// The acquisition.
        tenure: Tenure,
        /// The commit.
        cid: CommitId,
    },
    /// The shard ends, moves or the worker stops: finalize without waiting.
    FinalizeNow {
        /// The lease.
        lease: LeaseKey,
    },
    /// [`Effect::Advance`] was answered: the new position, or `None` if it was refused.
    Advanced {
        /// The lease.
        lease: LeaseKey,
        /// The acquisition.
        tenure: Tenure,
        /// `at` now.
        position: Option<Position>,
    },
}

/// What was staged of one batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StagedBatch {
    /// Outputs of every kind, and the instant of the first.
    pub staged: Staged,
    /// User records covered, rejected ones included.
    pub records: u64,
    /// The destination has them (`Mode::Idempotent`, `Mode::Declared`): without outputs there is nothing left to commit.
    pub delivered: bool,
    /// The id that the outputs are staged under: the batch's, but for a declared one. Its own has no receipt.
    pub cid: CommitId,
}

/// An answer to an effect of an attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// [`Effect::Declare`]: whether the row carries the range now.
    Declared(bool),
    /// [`Effect::Commit`]: written.
    Committed,
    /// [`Effect::Commit`]: a condition did not hold; the row as the service showed it.
    CommitRefused {
        /// The lease whose condition failed; `None` for the receipt's own.
        lease: Option<LeaseKey>,
        /// Its row; `None` if it is gone.
        now: Option<Box<LeaseRow>>,
    },
    /// [`Effect::Commit`]: no answer, or one that proves nothing.
    CommitUnclear,
    /// [`Effect::Commit`]: not sent (again), because the lease's local deadline or the batch's age forbids it.
    CommitExpired {
        /// Whether it was sent before, so that a copy may still arrive.
        sent: bool,
    },
    /// [`Effect::ReadReceipt`]: what a consistent read found.
    Receipt(Option<Box<Receipt>>),
    /// [`Effect::ReadReceipt`]: there is one, in a form that this version does not know.
    Unreadable,
    /// [`Effect::Publish`]: everything is visible.
    Published,
    /// [`Effect::Publish`]: the destination refused it for too long; what is not visible is written down.
    GaveUp,
    /// [`Effect::Publish`]: these can never be made visible.
    Gone {
        /// What is lost.
        outputs: Vec<Output>,
        /// Whether some other output of the commit is visible.
        published: bool,
    },
    /// [`Effect::Done`]: the receipt is DONE by this write.
    Done,
    /// [`Effect::Done`] or [`Effect::Retract`]: the receipt was not COMMITTED.
    Refused,
    /// [`Effect::Retract`]: retracted by this write, which also cleared every row that carried it.
    Retracted,
}

/// What the shell is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// (Re)start reading the shard after `from`; whatever is buffered of it is void.
    Read {
        /// The lease.
        lease: LeaseKey,
        /// The acquisition.
        tenure: Tenure,
        /// The position.
        from: Position,
    },
    /// Stage the batch; where staging is the delivery, deliver it.
    Stage {
        /// The attempt.
        cid: CommitId,
    },
    /// Write down what is about to be sent; repeated until it is known to be written or can no longer be.
    Declare {
        /// The run.
        run: u64,
        /// The range and its id.
        declare: Box<Declare>,
    },
    /// Send the transaction, unless the local deadline of a lease in it has passed. Conflict and throttling are
    /// repeated by the shell.
    Commit {
        /// The run.
        run: u64,
        /// The transaction; a repeat is identical.
        commit: Box<Commit>,
    },
    /// Read the receipt consistently.
    ReadReceipt {
        /// The attempt.
        cid: CommitId,
        /// The run.
        run: u64,
    },
    /// Make the outputs visible; repeated for ever by the shell while the destination is down or refuses us.
    Publish {
        /// The run.
        run: u64,
        /// The committed receipt.
        receipt: Box<Receipt>,
    },
    /// Set the receipt DONE IF COMMITTED.
    Done {
        /// The attempt.
        cid: CommitId,
        /// The run.
        run: u64,
        /// Whether it was given up, which is written beside it.
        gave_up: bool,
    },
    /// Finalize in a second, unless a commit carries it ([`Event::FinalizeDue`]).
    FinalizeSoon {
        /// What.
        finalize: Finalize,
        /// The acquisition.
        tenure: Tenure,
    },
    /// Finalize now (also: clear a retracted commit). Refused and written mean the same: [`Event::Finalized`].
    Finalize {
        /// What.
        finalize: Finalize,
        /// The acquisition.
        tenure: Tenure,
    },
    /// Retract IF COMMITTED, clearing every row that a consistent read shows to carry it.
    Retract {
        /// The run.
        run: u64,
        /// The receipt.
        receipt: Box<Receipt>,
    },
    /// Move a shard's position without a commit: its batch is delivered, or a Java worker has come further.
    Advance(Advance),
    /// Throw outputs away: proven dead.
    Discard {
        /// The attempt.
        cid: CommitId,
        /// Its outputs.
        outputs: Vec<Output>,
    },
    /// Drop all local state of the lease and take it again under a new tenure.
    WalkAway {
        /// The lease.
        lease: LeaseKey,
        /// The acquisition to end.
        tenure: Tenure,
        /// Why, for the log.
        why: &'static str,
    },
    /// Raise the alarm and release the lease: a human must look.
    HandsOff {
        /// The lease.
        lease: LeaseKey,
        /// The acquisition.
        tenure: Tenure,
        /// Why.
        why: String,
    },
    /// The row's position at this destination is now known to be this: heartbeats may use it.
    Settle {
        /// The lease.
        lease: LeaseKey,
        /// The acquisition.
        tenure: Tenure,
        /// The position.
        position: DestinationPosition,
    },
    /// The attempt will never be committed; its batch is void.
    Dead {
        /// The attempt.
        cid: CommitId,
        /// Why.
        why: &'static str,
    },
    /// The commit is DONE; or the batch was delivered and needed none, then no such receipt stands anywhere.
    Delivered {
        /// The receipt.
        receipt: Box<Receipt>,
        /// Whether this process proved it; otherwise another has, and has counted it.
        by_us: bool,
    },
    /// Part of a commit is visible, or may yet become so, and the rest is lost: write the affected keys down, count,
    /// alarm. What is not in `lost` may be there twice once the commit is taken back.
    Incident {
        /// The receipt.
        receipt: Box<Receipt>,
        /// What is lost.
        lost: Vec<Output>,
    },
    /// Something to count.
    Note(Note),
}

/// Recoveries, by what was found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Note {
    /// A take found nothing pending, but the shard was held by another before.
    FoundNothing,
    /// A take found a commit that was not yet proven to be published.
    FoundCommitted,
    /// A take found a published commit that was not finalized.
    FoundDone,
    /// A take found a retracted commit.
    FoundRetracted,
    /// A take found a declared range: it is sent again, under the same id.
    FoundDeclared,
    /// A commit was lost and taken back: its records are read again.
    Retracted,
    /// An unclear or refused commit turned out to be ours.
    Recognised,
    /// A Java worker's progress was adopted.
    Adopted,
}

impl Note {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::FoundNothing,
        Self::FoundCommitted,
        Self::FoundDone,
        Self::FoundRetracted,
        Self::FoundDeclared,
        Self::Retracted,
        Self::Recognised,
        Self::Adopted,
    ];
}
