use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use standpipe_emulator::Fault;
use standpipe_flow::write::{self, Change, Take};
use standpipe_flow::{DestinationId, Fence, Generation, Position, Tenure, WorkerId};

use super::*;
use crate::emulated::{World, lease};
use crate::testing::{self, at, ids};

fn paused() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().start_paused(true).build().expect("a runtime")
}

/// The key test: what a write does to a row in memory, which is what the models of the protocol explored, is what its
/// expressions do to the row in the table: the same row afterwards, or the same refusal.
#[test]
fn a_rendered_write_does_what_it_does_in_memory() {
    let runtime = paused();
    let (world, table) = runtime.block_on(async {
        let world = World::still();
        let table = world.table().await;
        (world, table)
    });
    let mut refused = 0;
    let mut runner = TestRunner::new(Config { cases: 600, failure_persistence: None, ..Config::default() });
    let cases = std::cell::Cell::new(0);
    let done = runner.run(&testing::row_and_write(), |(row, write)| {
        let mut item = kcl::encode(&row);
        item.insert("attributeOfOthers".to_owned(), kcl::text("a Java worker's"));
        item.insert("pendingCheckpoint".to_owned(), kcl::text("7"));
        let (answer, after) = runtime.block_on(async {
            world.put(item).await;
            let answer = table.write(&write).await;
            (answer, world.item(&row.key).await.expect("the row"))
        });
        let moved = |change: &Change| matches!(change, Change::Checkpoint(_));
        let pending = !(write.allowed(&row) && write.change.iter().any(moved));
        prop_assert_eq!(after.contains_key("pendingCheckpoint"), pending);
        prop_assert!(after.contains_key("attributeOfOthers"), "attributes of others survive");
        let after = kcl::decode(&after).expect("a row").expect("a lease");
        match write.apply(&row) {
            Some(expected) => {
                prop_assert_eq!(&answer.expect("written"), &expected, "ALL_NEW");
                prop_assert_eq!(&after, &expected);
            }
            None => {
                let Err(CommitError::Refused { lease, now: Some(now) }) = answer else {
                    return Err(TestCaseError::fail(format!("{answer:?}")));
                };
                prop_assert_eq!(lease, Some(row.key.clone()));
                prop_assert_eq!(&*now, &row, "ALL_OLD");
                prop_assert_eq!(&after, &row);
                cases.set(cases.get() + 1);
            }
        }
        Ok(())
    });
    refused += cases.get();
    done.expect("memory and table agree");
    assert!((60..540).contains(&refused), "{refused} of 600 were refused: the test tests one side only");
}

fn take_of(row: &LeaseRow, worker: &str, tenure: u8) -> RowWrite {
    write::take(&Take {
        row,
        worker: &WorkerId::new(worker),
        tenure: Tenure([tenure; 16]),
        destinations: &ids(&["lake"]),
        retired: &BTreeSet::new(),
    })
}

fn fence_of(row: &LeaseRow) -> Fence {
    Fence {
        lease: row.key.clone(),
        owner: row.owner.clone().expect("an owner"),
        tenure: row.tenure.expect("a tenure"),
        generation: row.generation,
    }
}

/// A table with lease 0, taken by `me`.
async fn held(world: &World) -> (LeaseTable, LeaseRow) {
    let table = world.table().await;
    let row = LeaseRow::new(lease(0));
    assert!(table.create(&row).await.expect("an answer"));
    let row = table.write(&take_of(&row, "me", 1)).await.expect("taken");
    (table, row)
}

fn refused(answer: &Result<LeaseRow, CommitError>) -> Option<&LeaseRow> {
    match answer {
        Err(CommitError::Refused { now, .. }) => now.as_deref(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_made_once_and_a_second_time_left_as_it_is() {
    let (table, row) = held(&World::new()).await;
    assert!(!table.create(&LeaseRow::new(lease(0))).await.expect("an answer"));
    assert_eq!(table.get(&lease(0)).await.expect("an answer"), Some(row));
    assert_eq!(table.get(&lease(9)).await.expect("an answer"), None);
}

#[tokio::test(start_paused = true)]
async fn renew_lease_and_a_stale_counter_cannot_renew() {
    let (table, row) = held(&World::new()).await;
    let fence = fence_of(&row);
    let beat = write::heartbeat(&fence, row.counter, None);
    let renewed = table.write(&beat).await.expect("renewed");
    assert_eq!(renewed.counter, row.counter + 1);
    let again = table.write(&beat).await;
    assert_eq!(refused(&again), Some(&renewed));
}

#[tokio::test(start_paused = true)]
async fn take_owned_lease_counts_the_switch_and_fences_the_old_owner() {
    let (table, row) = held(&World::new()).await;
    let taken = table.write(&take_of(&row, "other", 2)).await.expect("taken");
    assert_eq!((taken.owner_switches, taken.counter), (2, 2));
    assert_eq!(taken.owner, Some(WorkerId::new("other")));
    let late = table.write(&write::heartbeat(&fence_of(&row), taken.counter, None)).await;
    assert_eq!(
        refused(&late),
        Some(&taken),
        "hold updated lease: the old tenure is over although the counter is right"
    );
}

#[tokio::test(start_paused = true)]
async fn take_updated_lease_fails() {
    let (table, row) = held(&World::new()).await;
    let renewed = table.write(&write::heartbeat(&fence_of(&row), row.counter, None)).await.expect("renewed");
    assert_eq!(refused(&table.write(&take_of(&row, "other", 2)).await), Some(&renewed));
}

#[tokio::test(start_paused = true)]
async fn the_same_worker_id_again_is_another_tenure() {
    let (table, row) = held(&World::new()).await;
    let again = table.write(&take_of(&row, "me", 2)).await.expect("taken again");
    let late = table.write(&write::heartbeat(&fence_of(&row), again.counter, None)).await;
    assert_eq!(refused(&late), Some(&again), "ABA: the owner is the same, the acquisition is not");
    table.write(&write::heartbeat(&fence_of(&again), again.counter, None)).await.expect("the new one renews");
}

#[tokio::test(start_paused = true)]
async fn evict_owned_lease_keeps_who_waits_and_only_for_the_holder() {
    let (table, row) = held(&World::new()).await;
    let owner = WorkerId::new("me");
    let asked = table.write(&write::ask(&row.key, &owner, &WorkerId::new("newcomer"))).await.expect("asked");
    let second = table.write(&write::ask(&row.key, &owner, &WorkerId::new("latecomer"))).await;
    assert_eq!(refused(&second), Some(&asked), "one waits already");
    let stranger = Fence { tenure: Tenure([9; 16]), ..fence_of(&row) };
    assert_eq!(refused(&table.write(&write::release(&stranger, row.counter)).await), Some(&asked));
    let released = table.write(&write::release(&fence_of(&row), row.counter)).await.expect("released");
    assert_eq!((released.owner.clone(), released.counter), (None, row.counter + 1));
    assert_eq!(released.next, Some(WorkerId::new("newcomer")));
    let taken = table.write(&take_of(&released, "newcomer", 3)).await.expect("taken");
    assert_eq!(taken.next, None);
}

#[tokio::test(start_paused = true)]
async fn delete_lease_then_update_must_not_bring_the_row_back() {
    let world = World::new();
    let (table, row) = held(&world).await;
    world.delete(&row.key).await;
    let fence = fence_of(&row);
    for write in [
        write::heartbeat(&fence, row.counter, Some(&at(5))),
        write::children(&fence, [crate::emulated::shard_id(1)].into()),
        take_of(&row, "me", 2),
        RowWrite { lease: row.key.clone(), require: Vec::new(), change: vec![Change::Counter(1)] },
    ] {
        assert_eq!(refused(&table.write(&write).await), None);
        assert_eq!(world.item(&row.key).await, None, "no half row");
    }
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_a_java_worker_moved_kills_every_write_from_before() {
    let world = World::new();
    let (table, row) = held(&world).await;
    world.java_checkpoint(&row.key, "77").await;
    let fence = fence_of(&row);
    let beat = table.write(&write::heartbeat(&fence, row.counter + 1, None)).await;
    let now = refused(&beat).expect("the row");
    assert_eq!((&now.checkpoint, now.tenure), (&at(77), row.tenure));
    let again = table.write(&take_of(now, "me", 2)).await.expect("taken again");
    assert_eq!(again.own_checkpoint, Some(at(77)));
}

#[tokio::test(start_paused = true)]
async fn a_hand_off_of_a_java_leader_is_honoured() {
    let world = World::new();
    let (table, mut row) = held(&world).await;
    // KCL 3: the next owner is written at once, the old one may still checkpoint, the counter is left alone.
    row.checkpoint_owner = row.owner.replace(WorkerId::new("java-b"));
    world.put_row(&row).await;
    let fence = Fence { owner: WorkerId::new("me"), ..fence_of(&row) };
    let beat =
        table.write(&write::heartbeat(&fence, row.counter, Some(&at(5)))).await.expect("still ours to checkpoint");
    assert_eq!(beat.checkpoint, at(5));
    let next = Fence { owner: WorkerId::new("java-b"), ..fence };
    refused(&table.write(&write::heartbeat(&next, beat.counter, None)).await);
    let taken = table.write(&take_of(&beat, "me", 2)).await.expect("taken");
    assert_eq!(taken.checkpoint_owner, None, "take lease removes the checkpoint owner");
}

#[tokio::test(start_paused = true)]
async fn a_generation_that_is_absent_counts_as_zero() {
    let world = World::new();
    let table = world.table().await;
    let mut row = LeaseRow::new(lease(0));
    row.owner = Some(WorkerId::new("me"));
    row.tenure = Some(Tenure([1; 16]));
    row.own_checkpoint = Some(Position::TrimHorizon);
    world.put_row(&row).await;
    assert!(!world.item(&row.key).await.expect("the row").contains_key("spGen"));
    let row = table.write(&write::heartbeat(&fence_of(&row), 0, None)).await.expect("renewed");
    let reset = Fence { generation: Generation(1), ..fence_of(&row) };
    refused(&table.write(&write::heartbeat(&reset, row.counter, None)).await);
}

#[tokio::test(start_paused = true)]
async fn a_scan_sorts_leases_from_foreign_and_broken_rows_over_all_pages() {
    let world = World::new();
    let table = world.table().await;
    for n in 0..30 {
        let mut row = LeaseRow::new(lease(n));
        // Makes the table larger than a page of 1 MB.
        row.stream = Some(vec![0; 50_000]);
        world.put_row(&row).await;
    }
    let metrics = [("leaseKey", kcl::text("worker-1")), ("entityType", kcl::text("WORKER_METRIC_STATS"))];
    world.put(metrics.map(|(name, value)| (name.to_owned(), value)).into()).await;
    let half = [("leaseKey", kcl::text("shardId-half")), ("leaseOwner", kcl::text("java"))];
    world.put(half.map(|(name, value)| (name.to_owned(), value)).into()).await;
    let rows = table.scan().await.expect("a scan");
    assert_eq!(rows.leases.len(), 30);
    assert_eq!(rows.unreadable.keys().map(LeaseKey::as_str).collect::<Vec<_>>(), ["shardId-half"]);
    assert!(!rows.gone(&LeaseKey::new("shardId-half")));
    assert!(rows.gone(&lease(77)));
}

#[tokio::test(start_paused = true)]
async fn what_went_wrong_is_named_by_what_it_proves() {
    let world = World::new();
    let (table, row) = held(&world).await;
    let beat = |row: &LeaseRow| write::heartbeat(&fence_of(row), row.counter, None);
    world.fault(Fault::Throttle, "UpdateItem", 1);
    assert!(matches!(table.write(&beat(&row)).await, Err(CommitError::Throttled)));
    world.fault(Fault::TransactionConflict, "UpdateItem", 1);
    assert!(matches!(table.write(&beat(&row)).await, Err(CommitError::Conflict)));
    world.fault(Fault::InternalError, "UpdateItem", 1);
    assert!(matches!(table.write(&beat(&row)).await, Err(CommitError::Unknown { .. })));
    world.fault(Fault::DropRequest, "UpdateItem", 1);
    assert!(matches!(table.write(&beat(&row)).await, Err(CommitError::Unknown { .. })));
    world.fault(Fault::Delay(60_000), "GetItem", 1);
    assert!(matches!(table.get(&row.key).await, Err(CommitError::Unknown { .. })));
    assert_eq!(table.get(&row.key).await.expect("an answer").as_ref(), Some(&row), "none of these wrote anything");

    world.fault(Fault::DropAnswer, "UpdateItem", 1);
    assert!(matches!(table.write(&beat(&row)).await, Err(CommitError::Unknown { .. })));
    let again = table.write(&beat(&row)).await;
    let now = refused(&again).expect("the row");
    assert_eq!((now.counter, now.tenure), (row.counter + 1, row.tenure), "the answer was lost, not the write");
}

#[tokio::test(start_paused = true)]
async fn a_missing_table_is_made_or_reported() {
    let world = World::new();
    let table = LeaseTable::new(world.dynamo(&world.connect("test")), "elsewhere");
    assert!(matches!(table.open(false).await, Err(TableError::Missing { table }) if table == "elsewhere"));
    assert!(matches!(table.scan().await, Err(CommitError::Denied { .. })));
    table.open(true).await.expect("made");
    table.open(false).await.expect("there");
    assert_eq!(table.scan().await.expect("a scan"), Rows::default());
}

#[tokio::test(start_paused = true)]
async fn a_lease_whose_destination_is_named_like_a_reserved_word_works() {
    let (table, row) = held(&World::new()).await;
    let state = DestinationId::new("state");
    let position = standpipe_flow::DestinationPosition::finalized(at(4), None);
    let change = vec![Change::Destination(state.clone(), position)];
    let row = table.write(&RowWrite { lease: row.key, require: Vec::new(), change }).await.expect("written");
    assert_eq!(row.destinations[&state].at, at(4));
}
