use standpipe_flow::{CommitId, DestinationId, DestinationPosition, Pending, PendingMode, SequenceNumber};

use super::*;
use crate::emulated::World;
use crate::kcl::RowError;
use crate::table::Unpinned;
use crate::testing::rows;

const WHOLE: HashRange = HashRange { start: 0, end: u128::MAX };
const LOW: HashRange = HashRange { start: 0, end: 99 };
const HIGH: HashRange = HashRange { start: 100, end: u128::MAX };

fn id(n: u64) -> ShardId {
    ShardId::new(format!("shardId-{n:012}"))
}

fn row(n: u64, parents: &[u64], range: HashRange, checkpoint: Position) -> LeaseRow {
    let mut row = LeaseRow::new(LeaseKey::of(&id(n)));
    row.parents = parents.iter().copied().map(id).collect();
    row.hash_range = Some(range);
    row.checkpoint = checkpoint.clone();
    row.destinations.insert(DestinationId::new("lake"), DestinationPosition::finalized(checkpoint, None));
    row
}

fn at(n: u64) -> Position {
    Position::at(SequenceNumber::from(n), 0)
}

fn listed(shards: &[u64]) -> Vec<ShardInfo> {
    let shard = |n: u64| ShardInfo {
        id: id(n),
        parents: Vec::new(),
        hash_range: WHOLE,
        starting_sequence: SequenceNumber::from(n),
        open: true,
    };
    shards.iter().copied().map(shard).collect()
}

/// Shard 0 was split into 1 and 2.
fn split(low: Position, high: Position) -> Vec<LeaseRow> {
    vec![row(0, &[], WHOLE, Position::ShardEnd), row(1, &[0], LOW, low), row(2, &[0], HIGH, high)]
}

fn over_in(leases: Vec<LeaseRow>, shards: &[u64]) -> Vec<String> {
    over(&rows(leases), &listed(shards)).into_iter().map(|row| row.key.to_string()).collect()
}

#[test]
fn an_ended_lease_goes_when_its_shard_is_past_the_retention_and_its_children_are_begun() {
    assert_eq!(over_in(split(at(5), at(6)), &[1, 2]), ["shardId-000000000000"]);
    assert_eq!(over_in(split(at(5), Position::ShardEnd), &[1, 2]), ["shardId-000000000000"]);
}

#[test]
fn a_lease_whose_shard_is_still_listed_stays() {
    assert!(over_in(split(at(5), at(6)), &[0, 1, 2]).is_empty());
}

#[test]
fn a_list_of_another_stream_deletes_nothing() {
    assert!(over_in(split(at(5), at(6)), &[7]).is_empty());
    assert!(over_in(split(at(5), at(6)), &[]).is_empty());
}

#[test]
fn a_parent_shard_lease_is_not_deleted_when_a_child_is_at_trim_horizon() {
    assert!(over_in(split(at(5), Position::TrimHorizon), &[1, 2]).is_empty());
}

#[test]
fn a_lease_is_not_deleted_when_its_parents_are_still_present() {
    let mut leases = split(Position::ShardEnd, at(6));
    leases.extend([
        row(3, &[1], HashRange { start: 0, end: 49 }, at(8)),
        row(4, &[1], HashRange { start: 50, end: 99 }, at(9)),
    ]);
    assert_eq!(over_in(leases.clone(), &[2, 3, 4]), ["shardId-000000000000"], "the oldest first");
    leases.remove(0);
    assert_eq!(over_in(leases, &[2, 3, 4]), ["shardId-000000000001"], "then its child");
}

#[test]
fn no_cleanup_when_some_child_shard_leases_are_not_present() {
    let mut leases = split(at(5), at(6));
    leases.pop();
    assert!(over_in(leases.clone(), &[1, 2]).is_empty(), "its range is not covered");
    leases[0].children = [id(1), id(2)].into();
    leases[0].hash_range = None;
    assert!(over_in(leases.clone(), &[1, 2]).is_empty(), "its row names another child");
    leases[0].children = [id(1)].into();
    assert_eq!(over_in(leases, &[1, 2]).len(), 1);
}

#[test]
fn both_parents_of_a_merge_go_when_their_child_is_begun() {
    let merged = |checkpoint| {
        let ended = Position::ShardEnd;
        vec![row(0, &[], LOW, ended.clone()), row(1, &[], HIGH, ended), row(2, &[0, 1], WHOLE, checkpoint)]
    };
    assert_eq!(over_in(merged(at(9)), &[2]).len(), 2);
    assert!(over_in(merged(Position::TrimHorizon), &[2]).is_empty());
}

#[test]
fn what_is_pending_or_not_understood_or_not_ended_stays() {
    let with = |change: fn(&mut LeaseRow)| {
        let mut leases = split(at(5), at(6));
        change(&mut leases[0]);
        over_in(leases, &[1, 2])
    };
    assert!(with(|row| row.version = Some(2)).is_empty());
    assert!(with(|row| row.checkpoint = at(3)).is_empty());
    assert!(
        with(|row| {
            let pending = Pending { to: Position::ShardEnd, cid: CommitId([1; 16]), mode: PendingMode::Staged };
            let position = DestinationPosition { at: at(3), arrival: None, pending: Some(pending) };
            row.destinations.insert(DestinationId::new("old"), position);
        })
        .is_empty()
    );
}

#[test]
fn active_leases_that_tile_the_hash_keys_leave_no_hole() {
    assert_eq!(hole(&rows(split(at(5), at(6)))), None);
    assert_eq!(hole(&rows([])), None, "a table without leases is not a hole");
    let mut leases = split(at(5), Position::ShardEnd);
    assert_eq!(hole(&rows(leases.clone())), Some(HIGH), "an ended lease covers nothing");
    leases[2].checkpoint = at(6);
    leases[1].hash_range = Some(HashRange { start: 1, end: 99 });
    assert_eq!(hole(&rows(leases.clone())), Some(HashRange { start: 0, end: 0 }));
    leases[1].hash_range = Some(HashRange { start: 0, end: 98 });
    assert_eq!(hole(&rows(leases.clone())), Some(HashRange { start: 99, end: 99 }));
    leases[1].hash_range = None;
    assert_eq!(hole(&rows(leases)), None, "a range that is not known may be the one");
}

/// Regression: while a single row stood at LATEST, no hole was seen.
#[test]
fn a_lease_of_java_without_a_position_hides_no_hole() {
    let unpinned = |key: &LeaseKey, row: Option<LeaseRow>| {
        let mut rows = rows(split(at(5), Position::ShardEnd));
        let error = RowError::NoPosition { key: key.to_string(), checkpoint: "LATEST".to_owned() };
        rows.unreadable.insert(key.clone(), error);
        rows.unpinned.extend(row.map(|row| (key.clone(), Unpinned { row, at_timestamp: false })));
        rows
    };
    let key = LeaseKey::of(&id(7));
    let quarter = HashRange { start: 100, end: 199 };
    let java = row(7, &[], quarter, Position::TrimHorizon);
    assert_eq!(hole(&unpinned(&key, Some(java))), Some(HashRange { start: 200, end: u128::MAX }), "it covers its own");
    assert_eq!(hole(&unpinned(&key, None)), None, "a row that cannot be read at all may cover any");
}

#[test]
fn ranges_that_overlap_are_no_hole() {
    let mut leases = split(at(5), at(6));
    leases[0].checkpoint = at(3);
    assert_eq!(hole(&rows(leases)), None, "the parent is not at its end yet");
}

#[test]
fn a_hole_is_mended_when_it_was_seen_three_times() {
    let whole = rows(split(at(5), at(6)));
    let torn = rows(split(at(5), Position::ShardEnd));
    let mut audit = Audit::default();
    assert_eq!([&torn, &torn, &torn].map(|rows| audit.look(rows)), [false, false, true]);
    assert_eq!(audit.found(), Some(HIGH));
    assert_eq!([&torn, &torn, &torn].map(|rows| audit.look(rows)), [false, false, true], "again, while it is there");
    assert!(!audit.look(&whole));
    assert_eq!(audit.found(), None);
    assert_eq!([&torn, &whole, &torn, &torn].map(|rows| audit.look(rows)), [false; 4], "not in a row");
}

#[test]
fn shard_sync_is_not_initiated_when_the_hole_shifts() {
    let torn = rows(split(at(5), Position::ShardEnd));
    let other = rows(split(Position::ShardEnd, at(6)));
    let mut audit = Audit::default();
    assert_eq!([&torn, &torn, &other, &other, &torn].map(|rows| audit.look(rows)), [false; 5]);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_changed_since_it_was_seen_is_not_deleted() {
    let world = World::still();
    let table = world.table().await;
    let mut ended = row(0, &[], WHOLE, Position::ShardEnd);
    table.create(&ended).await.expect("made");
    ended.counter = 7;
    let refused = table.delete_ended(&ended).await;
    assert!(matches!(refused, Err(CommitError::Refused { .. })), "{refused:?}");
    ended.counter = 0;
    table.delete_ended(&ended).await.expect("deleted");
    assert!(table.get(&ended.key).await.expect("read").is_none());
    let again = table.delete_ended(&ended).await;
    assert!(matches!(again, Err(CommitError::Refused { .. })), "a second time does nothing: {again:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_not_at_its_end_or_carries_a_commit_is_not_deleted() {
    let world = World::still();
    let table = world.table().await;
    let open = row(0, &[], WHOLE, at(4));
    table.create(&open).await.expect("made");
    assert!(matches!(table.delete_ended(&open).await, Err(CommitError::Refused { .. })));
    let mut pending = row(1, &[], WHOLE, Position::ShardEnd);
    let commit = Pending { to: Position::ShardEnd, cid: CommitId([1; 16]), mode: PendingMode::Staged };
    let position = DestinationPosition { at: at(3), arrival: None, pending: Some(commit) };
    pending.destinations.insert(DestinationId::new("lake"), position);
    table.create(&pending).await.expect("made");
    assert!(matches!(table.delete_ended(&pending).await, Err(CommitError::Refused { .. })));
    assert_eq!(table.scan().await.expect("scanned").leases.len(), 2);
}
