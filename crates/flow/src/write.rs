//! The protocol's conditional writes of a lease row, as data: what must hold, and what changes.
//!
//! The lease table renders them as DynamoDB expressions; the model and the first ring of the simulation apply them to
//! rows in memory with [`RowWrite::apply`]. So what was explored is what runs, and a rule left out here (the compare,
//! the tenure, `checkpoint = spCheckpoint`) is left out in both. Source: `docs/decisions/commit-protocol.md`.
//!
//! Never here: who sends a write, when, and what an answer means.

use std::collections::BTreeSet;

use crate::clock::Millis;
use crate::lease::{
    DestinationId, DestinationPosition, Fence, Generation, LeaseKey, LeaseRow, Pending, PendingMode, Tenure,
    Throughput, WorkerId,
};
use crate::receipt::CommitId;
use crate::sequence::Position;
use crate::shard::ShardId;

/// Something that must hold of the row for a write to take effect.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Clause {
    /// `leaseCounter = n`.
    CounterIs(u64),
    /// `leaseOwner = worker`.
    OwnerIs(WorkerId),
    /// `(leaseOwner = worker AND attribute_not_exists(checkpointOwner)) OR checkpointOwner = worker`.
    HeldBy(WorkerId),
    /// `spTenure = t`.
    TenureIs(Tenure),
    /// `spGen = g`.
    GenerationIs(Generation),
    /// `checkpoint = spCheckpoint AND checkpointSubSequenceNumber = spSub`: no Java worker has moved it.
    CheckpointUntouched,
    /// `attribute_not_exists(spVersion) OR spVersion = 1`.
    VersionKnown,
    /// `attribute_not_exists(spNext)`.
    NobodyWaits,
    /// `sp_d.cid = cid`.
    CommitIs(DestinationId, CommitId),
    /// `attribute_not_exists(sp_d.cid) AND sp_d.at = at AND sp_d.sub = sub`.
    PositionIs(DestinationId, Position),
    /// The position with nothing pending; or still pending what this process saw DONE or acknowledged, or what the write
    /// takes the place of.
    PositionOrCommitIs(DestinationId, Position, CommitId),
}

impl Clause {
    /// Whether it holds.
    pub fn holds(&self, row: &LeaseRow) -> bool {
        match self {
            Self::CounterIs(counter) => row.counter == *counter,
            Self::OwnerIs(worker) => row.owner.as_ref() == Some(worker),
            Self::HeldBy(worker) => match &row.checkpoint_owner {
                None => row.owner.as_ref() == Some(worker),
                Some(checkpoint_owner) => checkpoint_owner == worker,
            },
            Self::TenureIs(tenure) => row.tenure.as_ref() == Some(tenure),
            Self::GenerationIs(generation) => row.generation == *generation,
            Self::CheckpointUntouched => row.own_checkpoint.as_ref() == Some(&row.checkpoint),
            Self::VersionKnown => row.version_known(),
            Self::NobodyWaits => row.next.is_none(),
            Self::CommitIs(destination, cid) => pending_is(row, destination, *cid),
            Self::PositionIs(destination, at) => position_is(row, destination, at),
            Self::PositionOrCommitIs(destination, at, cid) => {
                position_is(row, destination, at) || pending_is(row, destination, *cid)
            }
        }
    }
}

fn pending_is(row: &LeaseRow, destination: &DestinationId, cid: CommitId) -> bool {
    row.destinations
        .get(destination)
        .and_then(|position| position.pending.as_ref())
        .is_some_and(|pending| pending.cid == cid)
}

fn position_is(row: &LeaseRow, destination: &DestinationId, at: &Position) -> bool {
    row.destinations.get(destination).is_some_and(|position| position.pending.is_none() && position.at == *at)
}

/// One change of the row.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Change {
    /// `SET leaseCounter = n`.
    Counter(u64),
    /// `SET leaseOwner = worker`, and ADD 1 to `ownerSwitchesSinceCheckpoint`.
    Owner(WorkerId),
    /// `REMOVE leaseOwner`.
    NoOwner,
    /// `REMOVE checkpointOwner`.
    NoCheckpointOwner,
    /// `SET spTenure = t`.
    Tenure(Tenure),
    /// `SET spGen = g`.
    Generation(Generation),
    /// `SET spVersion = 1`.
    Version,
    /// `SET spCheckpoint, spSub`: the take copies what it saw under the counter it names.
    CopyCheckpoint(Position),
    /// `SET checkpoint, checkpointSubSequenceNumber, spCheckpoint, spSub, ownerSwitchesSinceCheckpoint = 0`,
    /// `REMOVE pendingCheckpoint, pendingCheckpointSubSequenceNumber, pendingCheckpointState`.
    Checkpoint(Position),
    /// `SET sp_d = {...}`, whole.
    Destination(DestinationId, DestinationPosition),
    /// `REMOVE sp_d`.
    NoDestination(DestinationId),
    /// `SET spOff`, whole; REMOVE when empty.
    Off(BTreeSet<DestinationId>),
    /// `SET spNext = worker`.
    Next(WorkerId),
    /// `REMOVE spNext`.
    NobodyNext,
    /// `SET childShardIds`.
    Children(BTreeSet<ShardId>),
    /// `SET throughputKBps`: for the plan alone, no rule reads it.
    Throughput(Throughput),
    /// `SET spStart`.
    Start(Millis),
    /// `REMOVE spStart`.
    NoStart,
}

impl Change {
    fn apply(&self, row: &mut LeaseRow) {
        match self {
            Self::Counter(counter) => row.counter = *counter,
            Self::Owner(worker) => {
                row.owner = Some(worker.clone());
                row.owner_switches += 1;
            }
            Self::NoOwner => row.owner = None,
            Self::NoCheckpointOwner => row.checkpoint_owner = None,
            Self::Tenure(tenure) => row.tenure = Some(*tenure),
            Self::Generation(generation) => row.generation = *generation,
            Self::Version => row.version = Some(LeaseRow::VERSION),
            Self::CopyCheckpoint(position) => row.own_checkpoint = Some(position.clone()),
            Self::Checkpoint(position) => {
                row.checkpoint = position.clone();
                row.own_checkpoint = Some(position.clone());
                row.owner_switches = 0;
            }
            Self::Destination(id, position) => {
                row.destinations.insert(id.clone(), position.clone());
            }
            Self::NoDestination(id) => {
                row.destinations.remove(id);
            }
            Self::Off(off) => row.off = off.clone(),
            Self::Next(worker) => row.next = Some(worker.clone()),
            Self::NobodyNext => row.next = None,
            Self::Children(children) => row.children = children.clone(),
            Self::Throughput(throughput) => row.throughput = Some(*throughput),
            Self::Start(instant) => row.start = Some(*instant),
            Self::NoStart => row.start = None,
        }
    }
}

/// One conditional UpdateItem of one lease row. Every one also demands `attribute_exists(leaseKey)`: an update must
/// never make a row again that a Java worker has deleted, because half a row kills a KCL 2.x fleet.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RowWrite {
    /// Which row.
    pub lease: LeaseKey,
    /// All of these must hold.
    pub require: Vec<Clause>,
    /// All of these happen, or none.
    pub change: Vec<Change>,
}

impl RowWrite {
    /// Whether the write would take effect.
    pub fn allowed(&self, row: &LeaseRow) -> bool {
        row.key == self.lease && self.require.iter().all(|clause| clause.holds(row))
    }

    /// The row after the write, or `None` if a clause does not hold.
    pub fn apply(&self, row: &LeaseRow) -> Option<LeaseRow> {
        if !self.allowed(row) {
            return None;
        }
        let mut row = row.clone();
        for change in &self.change {
            change.apply(&mut row);
        }
        Some(row)
    }
}

/// The fence F: the lease is held by us, under this acquisition and generation, and no Java worker has moved its
/// checkpoint since.
pub fn fence(fence: &Fence) -> Vec<Clause> {
    vec![
        Clause::HeldBy(fence.owner.clone()),
        Clause::TenureIs(fence.tenure),
        Clause::GenerationIs(fence.generation),
        Clause::CheckpointUntouched,
    ]
}

/// What a take writes besides the KCL's own attributes.
#[derive(Clone, Debug)]
pub struct Take<'a> {
    /// The row as it was read; its counter makes every KCL attribute in it exact.
    pub row: &'a LeaseRow,
    /// Who takes.
    pub worker: &'a WorkerId,
    /// The new acquisition.
    pub tenure: Tenure,
    /// The destinations of the config.
    pub destinations: &'a BTreeSet<DestinationId>,
    /// The destinations that the config lists as retired.
    pub retired: &'a BTreeSet<DestinationId>,
}

/// Takes a lease (protocol 4.1): the KCL's condition and update; a destination that the row lacks starts at
/// `checkpoint`; `spOff` becomes what of the retired ones the row has.
pub fn take(take: &Take<'_>) -> RowWrite {
    let row = take.row;
    let mut require = vec![Clause::CounterIs(row.counter), Clause::VersionKnown];
    let mut change = vec![
        Change::Counter(row.counter + 1),
        Change::Owner(take.worker.clone()),
        Change::NoCheckpointOwner,
        Change::Tenure(take.tenure),
        Change::Generation(row.generation),
        Change::Version,
        Change::CopyCheckpoint(row.checkpoint.clone()),
        Change::NobodyNext,
    ];
    for id in take.destinations {
        if !row.destinations.contains_key(id) {
            change.push(Change::Destination(id.clone(), DestinationPosition::finalized(row.checkpoint.clone(), None)));
        }
    }
    let mut off = BTreeSet::new();
    for id in take.retired.iter().filter(|id| row.destinations.contains_key(*id) && !take.destinations.contains(*id)) {
        off.insert(id.clone());
    }
    // A retired destination that `checkpoint` has passed is forgotten; its position would say nothing any more.
    let passed = |id: &DestinationId| {
        row.destinations.get(id).is_some_and(|position| position.pending.is_none() && position.at < row.checkpoint)
    };
    for id in off.clone().into_iter().filter(|id| row.off.contains(id) && passed(id)) {
        require.push(Clause::PositionIs(id.clone(), row.destinations[&id].at.clone()));
        change.push(Change::NoDestination(id.clone()));
        off.remove(&id);
    }
    change.push(Change::Off(off));
    RowWrite { lease: row.key.clone(), require, change }
}

/// A heartbeat (KCL's renewal), with the checkpoint where it moves (protocol 2.5): `counter` is the present one.
pub fn heartbeat(held: &Fence, counter: u64, checkpoint: Option<&Position>) -> RowWrite {
    let mut require = vec![Clause::CounterIs(counter)];
    require.extend(fence(held));
    let mut change = vec![Change::Counter(counter + 1)];
    if let Some(position) = checkpoint {
        change.push(Change::Checkpoint(position.clone()));
    }
    RowWrite { lease: held.lease.clone(), require, change }
}

/// One shard's part of the commit (protocol 2.2), or a declared range. `previous` is what of the same shard this process saw
/// DONE or acknowledged and that may not be finalized yet: this write finalizes it too. Or the declared range that this
/// very commit takes the place of, `at` unchanged.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct CommitWrite<'a> {
    /// The right to commit.
    pub fence: &'a Fence,
    /// The destination.
    pub destination: &'a DestinationId,
    /// Where the range begins, and when that record arrived.
    pub from: (&'a Position, Option<Millis>),
    /// Where it ends.
    pub to: &'a Position,
    /// The commit.
    pub cid: CommitId,
    /// How it is finished by whoever finds it.
    pub mode: PendingMode,
    /// The commit before, if this process saw it DONE.
    pub previous: Option<CommitId>,
}

/// Builds the write of [`CommitWrite`].
pub fn commit(write: &CommitWrite<'_>) -> RowWrite {
    let mut require = fence(write.fence);
    let (from, arrival) = write.from;
    require.push(match write.previous {
        None => Clause::PositionIs(write.destination.clone(), from.clone()),
        Some(previous) => Clause::PositionOrCommitIs(write.destination.clone(), from.clone(), previous),
    });
    let pending = Some(Pending { to: write.to.clone(), cid: write.cid, mode: write.mode });
    let position = DestinationPosition { at: from.clone(), arrival, pending };
    RowWrite {
        lease: write.fence.lease.clone(),
        require,
        change: vec![Change::Destination(write.destination.clone(), position)],
    }
}

/// Ends what is pending at `at`: finalizes a published commit, with `at` its end (protocol 2.4), or clears a retracted one,
/// with `at` where it began (4.7). Needs no owner and may arrive at any time.
pub fn finalize(
    lease: &LeaseKey,
    destination: &DestinationId,
    cid: CommitId,
    at: (&Position, Option<Millis>),
) -> RowWrite {
    RowWrite {
        lease: lease.clone(),
        require: vec![Clause::CommitIs(destination.clone(), cid)],
        change: vec![Change::Destination(destination.clone(), DestinationPosition::finalized(at.0.clone(), at.1))],
    }
}

/// Moves a position without a commit, IF nothing is pending and the shard stands where we know it to: to the end of what an
/// idempotent destination has taken (protocol 2), or to the `checkpoint` of a Java worker (4.8). A late copy finds
/// nothing to do.
pub fn advance(
    held: &Fence,
    destination: &DestinationId,
    from: &Position,
    (to, arrival): (&Position, Option<Millis>),
) -> RowWrite {
    let mut require = fence(held);
    require.push(Clause::PositionIs(destination.clone(), from.clone()));
    let position = DestinationPosition::finalized(to.clone(), arrival);
    RowWrite { lease: held.lease.clone(), require, change: vec![Change::Destination(destination.clone(), position)] }
}

/// Gives a lease back. Whoever waits for it (`spNext`) stays named.
pub fn release(held: &Fence, counter: u64) -> RowWrite {
    let mut require = vec![Clause::CounterIs(counter)];
    require.extend(fence(held));
    RowWrite { lease: held.lease.clone(), require, change: vec![Change::Counter(counter + 1), Change::NoOwner] }
}

/// Asks the owner for its lease: the newcomer names itself, if nobody else waits.
pub fn ask(lease: &LeaseKey, owner: &WorkerId, newcomer: &WorkerId) -> RowWrite {
    RowWrite {
        lease: lease.clone(),
        require: vec![Clause::OwnerIs(owner.clone()), Clause::NobodyWaits],
        change: vec![Change::Next(newcomer.clone())],
    }
}

/// Pins where a lease begins that a Java KCL made at LATEST or at a time and has never checkpointed: TRIM_HORIZON, and the
/// instant for us, so that Java repeats rather than skips. Whoever owned it has lost it: its counter stood still.
pub fn pin(lease: &LeaseKey, counter: u64, instant: Option<Millis>) -> RowWrite {
    let mut change = vec![Change::Counter(counter + 1), Change::NoOwner, Change::Checkpoint(Position::TrimHorizon)];
    change.extend(instant.map(Change::Start));
    RowWrite { lease: lease.clone(), require: vec![Clause::CounterIs(counter), Clause::VersionKnown], change }
}

/// Names the children on their parent's row, as the KCL does at shard end.
pub fn children(held: &Fence, children: BTreeSet<ShardId>) -> RowWrite {
    RowWrite { lease: held.lease.clone(), require: fence(held), change: vec![Change::Children(children)] }
}

/// Frees a lease by a human's hand (`leases release`): whoever holds it is fenced, as by a take. The row's counter makes
/// it void as soon as the owner has moved.
pub fn free(row: &LeaseRow) -> RowWrite {
    RowWrite {
        lease: row.key.clone(),
        require: vec![Clause::CounterIs(row.counter), Clause::VersionKnown],
        change: vec![Change::Counter(row.counter + 1), Change::NoOwner, Change::NoCheckpointOwner, Change::NobodyNext],
    }
}

/// Where a lease is reset to (`leases reset`).
#[derive(Clone, Debug)]
pub struct Reset<'a> {
    /// The row as it was read, with no commit pending at any destination.
    pub row: &'a LeaseRow,
    /// The one destination that goes there; `None`: all in the row.
    pub destination: Option<&'a DestinationId>,
    /// The new position.
    pub to: &'a Position,
    /// The instant that TRIM_HORIZON means there.
    pub start: Option<Millis>,
}

/// Resets a lease: a new generation, no owner, the new positions, and `checkpoint` at the smallest of them (I18). Every
/// position must be as it was read with nothing pending: a commit that came between makes it void.
pub fn reset(reset: &Reset<'_>) -> RowWrite {
    let row = reset.row;
    let mut require = vec![Clause::CounterIs(row.counter), Clause::VersionKnown];
    let mut change = vec![
        Change::Counter(row.counter + 1),
        Change::NoOwner,
        Change::NoCheckpointOwner,
        Change::NobodyNext,
        Change::Generation(Generation(row.generation.0 + 1)),
        Change::Version,
        reset.start.map_or(Change::NoStart, Change::Start),
    ];
    let mut after = row.clone();
    for (id, position) in &row.destinations {
        require.push(Clause::PositionIs(id.clone(), position.at.clone()));
        if reset.destination.is_none_or(|one| one == id) {
            let position = DestinationPosition::finalized(reset.to.clone(), None);
            after.destinations.insert(id.clone(), position.clone());
            change.push(Change::Destination(id.clone(), position));
        }
    }
    change.push(Change::Checkpoint(after.smallest_position().unwrap_or(reset.to).clone()));
    RowWrite { lease: row.key.clone(), require, change }
}
