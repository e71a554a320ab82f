//! What the tests of this crate share: strategies for rows and writes, a clock and a random source to hand.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_map, btree_set};
use proptest::option;
use proptest::prelude::*;
use standpipe_flow::write::{Change, Clause, RowWrite};
use standpipe_flow::{
    CommitId, DestinationId, DestinationPosition, Generation, HashRange, LeaseKey, LeaseRow, Millis, Pending,
    PendingMode, Position, SequenceNumber, ShardId, Tenure, Throughput, WorkerId,
};

pub(crate) fn position() -> impl Strategy<Value = Position> + Clone {
    let sequence = prop_oneof![(0_u64..4).prop_map(SequenceNumber::from), any::<u64>().prop_map(SequenceNumber::from)];
    prop_oneof![
        Just(Position::TrimHorizon),
        (sequence, 0_u64..3).prop_map(|(sequence, sub)| Position::at(sequence, sub)),
        Just(Position::ShardEnd),
    ]
}

pub(crate) fn worker() -> impl Strategy<Value = WorkerId> + Clone {
    (0_u8..3).prop_map(|n| WorkerId::new(format!("worker-{n}")))
}

pub(crate) fn shard() -> impl Strategy<Value = ShardId> + Clone {
    (0_u8..4).prop_map(|n| ShardId::new(format!("shardId-{n:012}")))
}

pub(crate) fn destination() -> impl Strategy<Value = DestinationId> + Clone {
    prop_oneof![Just("lake"), Just("at"), Just("x")].prop_map(DestinationId::new)
}

pub(crate) fn cid() -> impl Strategy<Value = CommitId> + Clone {
    (0_u8..3).prop_map(|n| CommitId([n; 16]))
}

pub(crate) fn tenure() -> impl Strategy<Value = Tenure> + Clone {
    (0_u8..3).prop_map(|n| Tenure([n; 16]))
}

pub(crate) fn mode() -> impl Strategy<Value = PendingMode> + Clone {
    prop_oneof![Just(PendingMode::Staged), Just(PendingMode::Declared), Just(PendingMode::Unknown)]
}

pub(crate) fn destination_position() -> impl Strategy<Value = DestinationPosition> + Clone {
    let pending = (position(), cid(), mode()).prop_map(|(to, cid, mode)| Pending { to, cid, mode });
    let arrival = option::of(any::<u64>().prop_map(Millis));
    (position(), arrival, option::of(pending)).prop_map(|(at, arrival, pending)| DestinationPosition {
        at,
        arrival,
        pending,
    })
}

/// Any row that can stand in the table.
pub(crate) fn row() -> impl Strategy<Value = LeaseRow> {
    let kcl = (
        option::of(worker()),
        option::weighted(0.2, worker()),
        prop_oneof![0_u64..3, any::<u64>().prop_map(|n| n >> 8)],
        position(),
        0_u64..5,
        btree_set(shard(), 0..3),
        btree_set(shard(), 0..3),
        option::of((any::<u128>(), any::<u128>()).prop_map(|(start, end)| HashRange { start, end })),
        option::of(any::<u64>().prop_map(|millionths| Throughput { millionths })),
    );
    let own = (
        option::of(tenure()),
        option::of(position()),
        prop_oneof![Just(0_u64), 0_u64..3].prop_map(Generation),
        option::of(any::<u64>().prop_map(Millis)),
        option::of(proptest::collection::vec(any::<u8>(), 16)),
        option::of(worker()),
        btree_map(destination(), destination_position(), 0..3),
        btree_set(destination(), 0..3),
        option::of(Just(1_u64)),
        any::<bool>(),
    );
    (shard(), kcl, own).prop_map(|(shard, kcl, own)| {
        let mut row = LeaseRow::new(LeaseKey::of(&shard));
        (row.owner, row.checkpoint_owner, row.counter, row.checkpoint, ..) = kcl.clone();
        (.., row.owner_switches, row.parents, row.children, row.hash_range, row.throughput) = kcl;
        let untouched = own.9;
        (row.tenure, row.own_checkpoint, row.generation, row.start, row.stream, row.next, ..) = own.clone();
        (.., row.destinations, row.off, row.version, _) = own;
        if untouched {
            row.own_checkpoint = Some(row.checkpoint.clone());
        }
        row
    })
}

pub(crate) fn clause() -> impl Strategy<Value = Clause> {
    prop_oneof![
        (0_u64..3).prop_map(Clause::CounterIs),
        worker().prop_map(Clause::OwnerIs),
        worker().prop_map(Clause::HeldBy),
        tenure().prop_map(Clause::TenureIs),
        (0_u64..3).prop_map(|n| Clause::GenerationIs(Generation(n))),
        Just(Clause::CheckpointUntouched),
        Just(Clause::VersionKnown),
        Just(Clause::NobodyWaits),
        (destination(), cid()).prop_map(|(id, cid)| Clause::CommitIs(id, cid)),
        (destination(), position()).prop_map(|(id, at)| Clause::PositionIs(id, at)),
        (destination(), position(), cid()).prop_map(|(id, at, cid)| Clause::PositionOrCommitIs(id, at, cid)),
    ]
}

/// A clause that holds of the row, if there is one of that kind.
pub(crate) fn true_clause(row: &LeaseRow, clause: Clause) -> Clause {
    match clause {
        Clause::CounterIs(_) => Clause::CounterIs(row.counter),
        Clause::OwnerIs(worker) => Clause::OwnerIs(row.owner.clone().unwrap_or(worker)),
        Clause::HeldBy(worker) => {
            Clause::HeldBy(row.checkpoint_owner.clone().or_else(|| row.owner.clone()).unwrap_or(worker))
        }
        Clause::TenureIs(tenure) => Clause::TenureIs(row.tenure.unwrap_or(tenure)),
        Clause::GenerationIs(_) => Clause::GenerationIs(row.generation),
        Clause::PositionIs(id, at) => {
            let at = row.destinations.get(&id).map_or(at, |position| position.at.clone());
            Clause::PositionIs(id, at)
        }
        Clause::PositionOrCommitIs(id, at, cid) => {
            let at = row.destinations.get(&id).map_or(at, |position| position.at.clone());
            Clause::PositionOrCommitIs(id, at, cid)
        }
        Clause::CommitIs(id, cid) => {
            let pending = row.destinations.get(&id).and_then(|position| position.pending.as_ref());
            let cid = pending.map_or(cid, |pending| pending.cid);
            Clause::CommitIs(id, cid)
        }
        other => other,
    }
}

pub(crate) fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        any::<u32>().prop_map(|n| Change::Counter(n.into())),
        worker().prop_map(Change::Owner),
        Just(Change::NoOwner),
        Just(Change::NoCheckpointOwner),
        tenure().prop_map(Change::Tenure),
        (0_u64..3).prop_map(|n| Change::Generation(Generation(n))),
        Just(Change::Version),
        position().prop_map(Change::CopyCheckpoint),
        position().prop_map(Change::Checkpoint),
        (destination(), destination_position()).prop_map(|(id, position)| Change::Destination(id, position)),
        destination().prop_map(Change::NoDestination),
        btree_set(destination(), 0..3).prop_map(Change::Off),
        worker().prop_map(Change::Next),
        Just(Change::NobodyNext),
        btree_set(shard(), 0..3).prop_map(Change::Children),
        any::<u64>().prop_map(|millionths| Change::Throughput(Throughput { millionths })),
        any::<u64>().prop_map(|instant| Change::Start(Millis(instant))),
        Just(Change::NoStart),
    ]
}

/// A row, and a write that takes effect on it about every second time.
pub(crate) fn row_and_write() -> impl Strategy<Value = (LeaseRow, RowWrite)> {
    let clauses = proptest::collection::vec((clause(), proptest::bool::weighted(0.9)), 0..4);
    let changes = proptest::collection::vec(change(), 0..6);
    (row(), clauses, changes).prop_map(|(row, clauses, change)| {
        let clause = |(clause, hold): (Clause, bool)| if hold { true_clause(&row, clause) } else { clause };
        let require = clauses.into_iter().map(clause).collect();
        let write = RowWrite { lease: row.key.clone(), require, change };
        (row, write)
    })
}

pub(crate) fn ids(ids: &[&str]) -> BTreeSet<DestinationId> {
    ids.iter().map(|id| DestinationId::new(*id)).collect()
}

pub(crate) fn at(number: u64) -> Position {
    Position::at(SequenceNumber::from(number), 0)
}

pub(crate) fn rows(rows: impl IntoIterator<Item = LeaseRow>) -> crate::Rows {
    let leases: BTreeMap<_, _> = rows.into_iter().map(|row| (row.key.clone(), row)).collect();
    crate::Rows { leases, ..crate::Rows::default() }
}
