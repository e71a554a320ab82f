use standpipe_emulator::Fault;
use standpipe_flow::{DestinationId, DestinationPosition, Generation, WorkerId};

use super::*;
use crate::emulated::{FAILOVER, World, lease};
use crate::testing::at;

fn fence() -> Fence {
    Fence { lease: lease(0), owner: WorkerId::new("me"), tenure: Tenure([1; 16]), generation: Generation(0) }
}

/// A row that this process holds, at checkpoint 5.
fn ours(counter: u64) -> LeaseRow {
    let mut row = LeaseRow::new(lease(0));
    row.owner = Some(WorkerId::new("me"));
    row.tenure = Some(Tenure([1; 16]));
    row.counter = counter;
    row.checkpoint = at(5);
    row.own_checkpoint = Some(at(5));
    row
}

fn attempt() -> Attempt {
    Attempt {
        counter: 7,
        checkpoint: Some(at(5)),
        after: at(5),
        throughput: Throughput::default(),
        start: Duration::ZERO,
    }
}

#[test]
fn a_refusal_that_shows_our_own_write_is_a_success() {
    let row = ours(8);
    assert_eq!(judge(Some(&row), &fence(), &attempt()), Verdict::Ours(&row));
    let other_value = Attempt { after: at(6), ..attempt() };
    assert_eq!(judge(Some(&row), &fence(), &other_value), Verdict::Counter(&row));
    let far = ours(12);
    assert_eq!(judge(Some(&far), &fence(), &attempt()), Verdict::Counter(&far));
}

#[test]
fn every_other_refusal_says_why_the_lease_is_lost() {
    let lost = |change: fn(&mut LeaseRow)| {
        let mut row = ours(8);
        change(&mut row);
        match judge(Some(&row), &fence(), &attempt()) {
            Verdict::Lost(reason) => reason,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(lost(|row| row.tenure = Some(Tenure([2; 16]))), LostReason::Taken);
    assert_eq!(lost(|row| row.owner = Some(WorkerId::new("java"))), LostReason::Taken, "Java knows no tenure");
    assert_eq!(lost(|row| row.owner = None), LostReason::Taken);
    assert_eq!(lost(|row| row.checkpoint_owner = Some(WorkerId::new("java"))), LostReason::Taken);
    assert_eq!(lost(|row| row.generation = Generation(1)), LostReason::Reset);
    assert_eq!(lost(|row| row.checkpoint = at(9)), LostReason::CheckpointMoved);
    assert_eq!(judge(None, &fence(), &attempt()), Verdict::Lost(LostReason::Gone));
}

#[test]
fn the_deadline_leaves_a_margin_before_anybody_may_take_the_lease() {
    assert_eq!(term(Duration::from_secs(10)), Duration::from_secs(9));
    assert_eq!(term(Duration::from_secs(30)), Duration::from_secs(27));
    assert_eq!(term(Duration::from_secs(2)), Duration::from_millis(1800));
    assert_eq!(term(Duration::from_secs(1)), Duration::from_millis(800));
}

#[tokio::test(start_paused = true)]
async fn heartbeats_keep_a_lease_for_an_hour_three_a_failover() {
    let world = World::new();
    world.open_shards(3);
    let mut me = world.worker("me").await;
    me.take_all(3).await;
    let before = me.holdings.get(&lease(0)).expect("held").counter;
    me.quiet(Duration::from_secs(600)).await;
    let beats = me.holdings.get(&lease(0)).expect("held").counter - before;
    assert!((170..=182).contains(&beats), "{beats} heartbeats in 60 failover times");
    let deadline = me.holdings.deadline(&lease(0), me.holdings.get(&lease(0)).expect("held").fence.tenure);
    let left = deadline.expect("a deadline") - standpipe_flow::Clock::elapsed(&*world.clock);
    assert!(left > Duration::from_secs(5), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_a_conflict_and_a_throttle_are_no_lost_lease() {
    let world = World::new();
    world.open_shards(2);
    let mut me = world.worker("me").await;
    me.take_all(2).await;
    for fault in [
        Fault::DropAnswer,
        Fault::TransactionConflict,
        Fault::Throttle,
        Fault::InternalErrorAfterEffect,
        Fault::DelayAnswer(4_000),
        Fault::Repeat(50),
    ] {
        world.fault(fault, "UpdateItem", 3);
        me.quiet(Duration::from_secs(30)).await;
    }
    assert_eq!(me.holdings.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_late_copy_of_a_heartbeat_changes_nothing() {
    let world = World::new();
    world.open_shards(1);
    let mut me = world.worker("me").await;
    me.take_all(1).await;
    world.fault(Fault::DelayRequest(7_000), "UpdateItem", 2);
    me.quiet(Duration::from_secs(60)).await;
    let held = me.holdings.get(&lease(0)).expect("held");
    let row = world.table().await.get(&lease(0)).await.expect("an answer").expect("a row");
    assert!(row.counter.abs_diff(held.counter) <= 1, "{} {}", row.counter, held.counter);
}

#[tokio::test(start_paused = true)]
async fn lease_timeout_stops_this_process_before_another_may_take_it() {
    let world = World::new();
    world.open_shards(1);
    let mut me = world.worker("me").await;
    me.take_all(1).await;
    let mut other = world.worker("other").await;
    me.quiet(Duration::from_secs(20)).await;
    me.connection.cut();
    let ((_, reason), lost_at) = (me.lost().await, standpipe_flow::Clock::elapsed(&*world.clock));
    assert_eq!(reason, LostReason::Deadline);
    assert!(me.holdings.is_empty());
    other.taken().await;
    let taken_at = standpipe_flow::Clock::elapsed(&*world.clock);
    assert!(taken_at > lost_at + Duration::from_millis(500), "{lost_at:?} {taken_at:?}");
    assert!(taken_at < lost_at + FAILOVER, "{lost_at:?} {taken_at:?}");
    me.connection.mend();
    me.quiet(Duration::from_secs(30)).await;
    assert!(me.holdings.is_empty(), "it is the other's now");
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_of_everything_its_own_leases_are_taken_again_by_a_new_tenure() {
    let world = World::new();
    world.open_shards(1);
    let mut me = world.worker("me").await;
    let (_, before) = me.taken().await;
    me.connection.cut();
    assert_eq!(me.lost().await, (lease(0), LostReason::Deadline));
    me.connection.mend();
    let (row, after) = me.taken().await;
    assert_ne!(before, after);
    assert_eq!(row.tenure, Some(after));
}

#[tokio::test(start_paused = true)]
async fn a_suspended_process_gives_up_by_itself_before_anything_else() {
    let world = World::new();
    world.open_shards(1);
    let mut me = world.worker("me").await;
    let (row, tenure) = me.taken().await;
    // Nothing of this process ran for a minute: the clock is past the deadline when it wakes.
    tokio::time::advance(Duration::from_secs(60)).await;
    let deadline = me.holdings.deadline(&lease(0), tenure);
    let now = standpipe_flow::Clock::elapsed(&*world.clock);
    assert!(deadline.is_none_or(|deadline| deadline < now), "no commit may be sent");
    assert_eq!(me.lost().await, (lease(0), LostReason::Deadline));
    let (again, _) = me.taken().await;
    assert!(again.counter > row.counter);
}

#[tokio::test(start_paused = true)]
async fn the_checkpoint_moves_with_a_heartbeat_and_never_back() {
    let world = World::new();
    world.open_shards(1);
    let mut me = world.worker("me").await;
    let (_, tenure) = me.taken().await;
    let lake = DestinationId::new("lake");
    let settle = |n| {
        let position = DestinationPosition::finalized(at(n), None);
        me.holdings.settle(&lease(0), tenure, &lake, position);
    };
    settle(40);
    me_quiet(&world).await;
    let row = world.table().await.get(&lease(0)).await.expect("an answer").expect("a row");
    assert_eq!((&row.checkpoint, row.own_checkpoint.as_ref(), row.owner_switches), (&at(40), Some(&at(40)), 0));
    settle(30);
    me_quiet(&world).await;
    let row = world.table().await.get(&lease(0)).await.expect("an answer").expect("a row");
    assert_eq!(row.checkpoint, at(40), "I8");
}

async fn me_quiet(_: &World) {
    tokio::time::sleep(Duration::from_secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn update_lost_lease_a_java_worker_that_takes_the_lease_is_seen() {
    let world = World::new();
    world.open_shards(1);
    let mut me = world.worker("me").await;
    let (mut row, _) = me.taken().await;
    row.owner = Some(WorkerId::new("java"));
    row.counter += 50;
    world.put_row(&row).await;
    assert_eq!(me.lost().await, (lease(0), LostReason::Taken));
    assert!(me.holdings.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_lease_whose_row_is_deleted_is_lost_and_not_made_again() {
    let world = World::new();
    world.open_shards(1);
    let mut me = world.worker("me").await;
    me.take_all(1).await;
    world.shards.0.lock().expect("shards").clear();
    world.delete(&lease(0)).await;
    assert_eq!(me.lost().await, (lease(0), LostReason::Gone));
    me.quiet(Duration::from_secs(120)).await;
    assert_eq!(world.item(&lease(0)).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_foreign_checkpoint_is_walked_away_from_and_adopted_by_the_next_take() {
    let world = World::new();
    world.open_shards(1);
    let mut me = world.worker("me").await;
    let (_, before) = me.taken().await;
    world.java_checkpoint(&lease(0), "77").await;
    assert_eq!(me.lost().await, (lease(0), LostReason::CheckpointMoved));
    let (row, after) = me.taken().await;
    assert_ne!(before, after);
    assert_eq!((&row.checkpoint, row.own_checkpoint.as_ref()), (&at(77), Some(&at(77))));
}
