use standpipe_emulator::Fault;
use standpipe_flow::{
    ChildShard, Clock, Commit, CommitLog, CommitShard, Fence, Generation, HashRange, Receipt, ReceiptState, WorkerId,
};

use super::*;
use crate::emulated::{World, cid, lease, shard, shard_id};
use crate::start::LeaseSettings;
use crate::testing::at;

const LAKE: &str = "lake";

fn lake() -> DestinationId {
    DestinationId::new(LAKE)
}

async fn row(world: &World, n: u64) -> LeaseRow {
    world.table().await.get(&lease(n)).await.expect("an answer").expect("a row")
}

#[tokio::test(start_paused = true)]
async fn one_worker_takes_everything() {
    let world = World::new();
    world.open_shards(20);
    let mut me = world.worker("me").await;
    me.take_all(20).await;
    assert!(world.clock.elapsed() < Duration::from_secs(10));
    let row = row(&world, 3).await;
    assert_eq!(row.destinations[&lake()].at, Position::TrimHorizon, "the take gives it the destinations of the config");
    assert_eq!((row.version, row.own_checkpoint), (Some(1), Some(Position::TrimHorizon)));
    me.quiet(Duration::from_secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn workers_that_start_together_share_and_settle() {
    let world = World::new();
    world.open_shards(24);
    let mut workers = Vec::new();
    for name in ["a", "b", "c"] {
        workers.push(world.worker(name).await);
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let held: Vec<_> = workers.iter().map(|worker| worker.holdings.len()).collect();
    assert_eq!(held.iter().sum::<usize>(), 24, "{held:?}");
    assert!(held.iter().all(|held| *held > 2), "{held:?}");
}

#[tokio::test(start_paused = true)]
async fn the_leases_of_a_killed_worker_are_taken_after_the_failover_time() {
    let world = World::new();
    world.open_shards(4);
    let mut first = world.worker("first").await;
    first.take_all(4).await;
    let mut second = world.worker("second").await;
    second.quiet(Duration::from_secs(5)).await;
    let killed = world.clock.elapsed();
    first.kill();
    second.take_all(4).await;
    let after = world.clock.elapsed() - killed;
    assert!((Duration::from_secs(6)..Duration::from_secs(20)).contains(&after), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn the_same_worker_id_restarted_waits_for_the_expiry_of_its_own_leases() {
    let world = World::new();
    world.open_shards(1);
    let mut first = world.worker("pod-0").await;
    let (_, before) = first.taken().await;
    first.kill();
    let mut second = world.worker("pod-0").await;
    second.quiet(Duration::from_secs(8)).await;
    let (_, after) = second.taken().await;
    assert_ne!(before, after);
}

#[tokio::test(start_paused = true)]
async fn sigterm_peers_have_the_leases_within_three_seconds() {
    let world = World::new();
    world.open_shards(8);
    let mut leaving = world.worker("leaving").await;
    leaving.take_all(8).await;
    let mut peer = world.worker("peer").await;
    peer.quiet(Duration::from_millis(100)).await;
    leaving.handle.send(Command::TakeNoMore);
    for held in leaving.holdings.all() {
        leaving.handle.send(Command::Release { lease: held.fence.lease, tenure: held.fence.tenure });
    }
    let released = world.clock.elapsed();
    leaving.handle.stop().await;
    assert!(leaving.holdings.is_empty());
    peer.take_all(8).await;
    let after = world.clock.elapsed() - released;
    assert!(after < Duration::from_secs(3), "{after:?}");
    while leaving.tasks.join_next().await.is_some() {}
    assert!(leaving.events.try_recv().is_err(), "a release is not a loss");
}

#[tokio::test(start_paused = true)]
async fn what_was_not_released_before_the_end_is_released_at_the_end() {
    let world = World::new();
    world.open_shards(3);
    let mut me = world.worker("me").await;
    me.take_all(3).await;
    me.handle.stop().await;
    for n in 0..3 {
        assert_eq!(row(&world, n).await.owner, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_gets_its_share_by_hand_over() {
    let world = World::new();
    world.open_shards(4);
    let mut owner = world.worker("owner").await;
    owner.take_all(4).await;
    let mut newcomer = world.worker("newcomer").await;
    let LeaseEvent::HandOver { lease: first, tenure } = owner.event().await else { panic!("no hand-over") };
    let asked = row(&world, first.as_str()[8..].parse().expect("a number")).await;
    assert_eq!(asked.next, Some(WorkerId::new("newcomer")));
    // The first is not drained yet, and holds up no second; a third would be too much.
    let LeaseEvent::HandOver { lease: second, tenure: of_second } = owner.event().await else { panic!("no hand-over") };
    owner.quiet(Duration::from_secs(30)).await;
    newcomer.quiet(Duration::ZERO).await;

    // Drained: the last position goes with it.
    owner.holdings.settle(&first, tenure, &lake(), DestinationPosition::finalized(at(9), None));
    owner.handle.send(Command::Release { lease: first.clone(), tenure });
    let (row, _) = newcomer.taken().await;
    assert_eq!((&row.key, &row.checkpoint, row.next.as_ref()), (&first, &at(9), None));
    owner.handle.send(Command::Release { lease: second.clone(), tenure: of_second });
    let (row, _) = newcomer.taken().await;
    assert_eq!(row.key, second);
    owner.quiet(Duration::from_secs(600)).await;
    newcomer.quiet(Duration::ZERO).await;
    assert_eq!((owner.holdings.len(), newcomer.holdings.len()), (2, 2), "and then nothing moves any more");
}

#[tokio::test(start_paused = true)]
async fn a_lease_given_up_for_a_newcomer_that_died_comes_back() {
    let world = World::new();
    world.open_shards(2);
    let mut owner = world.worker("owner").await;
    owner.take_all(2).await;
    let newcomer = world.worker("newcomer").await;
    let LeaseEvent::HandOver { lease, tenure } = owner.event().await else { panic!("no hand-over") };
    newcomer.kill();
    owner.handle.send(Command::Release { lease: lease.clone(), tenure });
    let released = world.clock.elapsed();
    let (row, _) = owner.taken().await;
    assert_eq!(row.key, lease);
    let after = world.clock.elapsed() - released;
    assert!((Duration::from_secs(3)..Duration::from_secs(7)).contains(&after), "{after:?}");
}

fn commit(held: &Fence) -> Commit {
    let shard =
        CommitShard { fence: held.clone(), from: Position::TrimHorizon, from_arrival: None, to: at(5), previous: None };
    let receipt = Receipt {
        gave_up: false,
        cid: cid(1),
        state: ReceiptState::Committed,
        destination: lake(),
        shards: Vec::new(),
        outputs: Vec::new(),
        config: String::new(),
        worker: held.owner.clone(),
        version: String::new(),
        records: 0,
        bytes: 0,
        created_at: None,
    };
    Commit { shards: vec![shard], receipt }
}

#[tokio::test(start_paused = true)]
async fn walking_away_takes_the_lease_again_and_fences_what_was_under_way() {
    let world = World::new();
    world.open_shards(1);
    let mut me = world.worker("me").await;
    let LeaseEvent::Taken { fence, .. } = me.event().await else { panic!("no take") };
    me.handle.send(Command::WalkAway { lease: lease(0), tenure: fence.tenure });
    let walked = world.clock.elapsed();
    let (row, tenure) = me.taken().await;
    assert_ne!(fence.tenure, tenure);
    assert!(world.clock.elapsed() - walked < Duration::from_secs(1), "at once");
    assert_eq!(row.owner, Some(WorkerId::new("me")));
    let late = me.commits.commit(&commit(&fence)).await;
    assert!(matches!(late, Err(CommitError::Refused { .. })), "{late:?}");
    let now = Fence { tenure, ..fence };
    me.commits.commit(&commit(&now)).await.expect("the new tenure commits");
}

#[tokio::test(start_paused = true)]
async fn walking_away_while_dynamodb_does_not_answer_ends_in_a_new_tenure_all_the_same() {
    let world = World::new();
    world.open_shards(1);
    let mut me = world.worker("me").await;
    let (_, tenure) = me.taken().await;
    world.fault(Fault::DropAnswer, "UpdateItem", 6);
    me.handle.send(Command::WalkAway { lease: lease(0), tenure });
    let (row, after) = me.taken().await;
    assert_ne!(tenure, after);
    assert_eq!(row.tenure, Some(after));
    me.quiet(Duration::from_secs(30)).await;
}

#[tokio::test(start_paused = true)]
async fn hands_off_is_not_taken_again_until_somebody_settles_it() {
    let world = World::new();
    world.open_shards(2);
    let mut me = world.worker("me").await;
    me.take_all(2).await;
    let tenure = me.holdings.get(&lease(1)).expect("held").fence.tenure;
    let positions = row(&world, 1).await.destinations;
    me.handle.send(Command::HandsOff { lease: lease(1), tenure, positions });
    me.quiet(Duration::from_secs(120)).await;
    let mut left = row(&world, 1).await;
    assert_eq!(left.owner, None);
    left.destinations.insert(lake(), DestinationPosition::finalized(at(3), None));
    world.put_row(&left).await;
    let (again, _) = me.taken().await;
    assert_eq!(again.key, lease(1));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_settled_before_the_next_scan_is_taken_again_too() {
    let world = World::new();
    world.open_shards(2);
    let mut me = world.worker("me").await;
    me.take_all(2).await;
    let tenure = me.holdings.get(&lease(1)).expect("held").fence.tenure;
    let mut left = row(&world, 1).await;
    me.handle.send(Command::HandsOff { lease: lease(1), tenure, positions: left.destinations.clone() });
    left.owner = None;
    left.destinations.insert(lake(), DestinationPosition::finalized(at(3), None));
    world.put_row(&left).await;
    let (again, _) = me.taken().await;
    assert_eq!(again.key, lease(1));
}

fn child(n: u64, parents: &[u64]) -> ChildShard {
    ChildShard {
        id: shard_id(n),
        parents: parents.iter().copied().map(shard_id).collect(),
        hash_range: HashRange { start: 0, end: u128::MAX },
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_shard_makes_its_children_and_gives_the_lease_back() {
    let world = World::new();
    world.open_shards(1);
    let mut me = world.worker("me").await;
    let (parent, tenure) = me.taken().await;
    *world.shards.0.lock().expect("shards") = vec![shard(0, &[], false), shard(1, &[0], true), shard(2, &[0], true)];
    me.handle.make_children(parent, vec![child(1, &[0]), child(2, &[0])]).await;
    assert_eq!(row(&world, 0).await.children, [shard_id(1), shard_id(2)].into());
    me.take_all_of(&[1, 2]).await;
    let first = row(&world, 1).await;
    assert!(!crate::may_read(&first, &me.handle.rows(), &lake()), "the parent is not finished");

    me.handle.send(Command::Ended { lease: lease(0), tenure });
    me.quiet(Duration::from_secs(1)).await;
    me.holdings.settle(&lease(0), tenure, &lake(), DestinationPosition::finalized(Position::ShardEnd, None));
    me.handle.send(Command::Ended { lease: lease(0), tenure });
    assert_eq!(me.lost().await, (lease(0), LostReason::Ended));
    tokio::time::sleep(Duration::from_secs(3)).await;
    let ended = row(&world, 0).await;
    assert_eq!((&ended.checkpoint, &ended.owner), (&Position::ShardEnd, &None));
    assert!(crate::may_read(&first, &me.handle.rows(), &lake()));
    me.quiet(Duration::from_secs(120)).await;
    assert_eq!(me.holdings.len(), 2, "a finished lease is not taken");
}

impl crate::emulated::Worker {
    async fn take_all_of(&mut self, leases: &[u64]) {
        let mut wanted: BTreeSet<_> = leases.iter().copied().map(lease).collect();
        while !wanted.is_empty() {
            let (row, _) = self.taken().await;
            assert!(wanted.remove(&row.key), "{:?}", row.key);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_merge_whose_other_parent_has_no_lease_makes_that_one_first() {
    let world = World::new();
    world.open_shards(1);
    let mut me = world.worker("me").await;
    let (parent, _) = me.taken().await;
    *world.shards.0.lock().expect("shards") = vec![shard(0, &[], false), shard(1, &[], false), shard(2, &[0, 1], true)];
    me.handle.make_children(parent, vec![child(2, &[0, 1])]).await;
    let rows = world.table().await.scan().await.expect("a scan");
    assert!(rows.get(&lease(1)).is_some(), "its records would be passed over");
    let merged = rows.get(&lease(2)).expect("the child");
    assert!(!crate::may_read(merged, &rows, &lake()));
}

#[tokio::test(start_paused = true)]
async fn children_are_made_although_dynamodb_throttles() {
    let world = World::new();
    world.open_shards(1);
    let mut me = world.worker("me").await;
    let (parent, _) = me.taken().await;
    world.fault(Fault::Throttle, "PutItem", 5);
    world.fault(Fault::DropAnswer, "PutItem", 2);
    me.handle.make_children(parent, vec![child(1, &[0]), child(2, &[0])]).await;
    assert_eq!(row(&world, 2).await.destinations.keys().cloned().collect::<Vec<_>>(), [lake()]);
}

#[tokio::test(start_paused = true)]
async fn new_shards_are_found_by_listing_when_nobody_told() {
    let world = World::new();
    world.open_shards(1);
    let mut me = world.worker("me").await;
    let (_, tenure) = me.taken().await;
    *world.shards.0.lock().expect("shards") = vec![shard(0, &[], false), shard(1, &[0], true)];
    me.quiet(Duration::from_secs(70)).await;
    me.holdings.settle(&lease(0), tenure, &lake(), DestinationPosition::finalized(Position::ShardEnd, None));
    let (row, _) = me.taken().await;
    assert_eq!(row.key, lease(1), "once the parent's end shows in its row");
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_only_one_scan_missed_does_not_count_as_gone() {
    let world = World::new();
    world.open_shards(1);
    let mut me = world.worker("me").await;
    me.take_all(1).await;
    let mut late = LeaseRow::new(lease(5));
    late.parents = [shard_id(4)].into();
    world.put_row(&late).await;
    let (taken, _) = me.taken().await;
    assert_eq!(taken.key, lease(5));
    assert!(!crate::may_read(&taken, &me.handle.rows(), &lake()));
    let mut scans = me.handle.scans();
    scans.changed().await.expect("a scan");
    assert!(crate::may_read(&taken, &me.handle.rows(), &lake()));
}

#[tokio::test(start_paused = true)]
async fn rows_that_cannot_be_worked_with_do_not_stop_the_others() {
    let world = World::new();
    world.open_shards(2);
    world.table().await;
    let half = [("leaseKey", crate::kcl::text("shardId-half"))];
    world.put(half.map(|(name, value)| (name.to_owned(), value)).into()).await;
    let mut unknown = LeaseRow::new(lease(9));
    unknown.version = Some(2);
    world.put_row(&unknown).await;
    let mut me = world.worker("me").await;
    me.take_all(2).await;
    me.quiet(Duration::from_secs(60)).await;
    assert_eq!(row(&world, 9).await.owner, None);
    assert_eq!(me.handle.rows().unreadable.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_worker_with_room_for_two_leaves_the_rest() {
    let world = World::new();
    world.open_shards(5);
    let settings = LeaseSettings { leases_max: 2, ..world.settings("small") };
    let (leases, _connection) = world.leases(settings).await.expect("a start");
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(leases.coordinator.run());
    tasks.spawn(leases.heartbeats.run());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(leases.holdings.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn dynamodb_away_for_a_minute_leases_are_given_up_and_come_back() {
    let world = World::new();
    world.open_shards(4);
    let mut me = world.worker("me").await;
    me.take_all(4).await;
    me.connection.cut();
    for _ in 0..4 {
        assert_eq!(me.lost().await.1, LostReason::Deadline);
    }
    me.quiet(Duration::from_secs(50)).await;
    me.connection.mend();
    me.take_all(4).await;
}

#[tokio::test(start_paused = true)]
async fn when_nobody_can_command_it_any_more_the_coordinator_ends() {
    let world = World::new();
    world.open_shards(1);
    let mut me = world.worker("me").await;
    me.take_all(1).await;
    let crate::emulated::Worker { handle, mut tasks, .. } = me;
    drop(handle);
    while let Some(ended) = tokio::time::timeout(Duration::from_secs(5), tasks.join_next()).await.expect("they end") {
        ended.expect("without a panic");
    }
    let _ = Generation(0);
}
