use std::collections::BTreeMap;

use standpipe_emulator::TraceEntry;
use standpipe_flow::write::{self, Change, RowWrite};
use standpipe_flow::{Clock, DestinationId, DestinationPosition};

use super::*;
use crate::emulated::{FAILOVER, TABLE, Worker, World, lease};
use crate::testing::at;
use crate::{Command, LeaseSettings, StartError};

async fn cheap(world: &World, name: &str) -> Worker {
    world.worker_with(LeaseSettings { heartbeat: HeartbeatMode::PerWorker, ..world.settings(name) }).await
}

async fn row(world: &World, n: u64) -> LeaseRow {
    world.table().await.get(&lease(n)).await.expect("an answer").expect("a row")
}

fn workers(world: &World) -> WorkerTable {
    WorkerTable::new(world.dynamo(&world.connect("test")), TABLE)
}

#[tokio::test(start_paused = true)]
async fn leases_are_kept_by_one_heartbeat_a_worker_and_their_counters_stand_still() {
    let world = World::new();
    world.open_shards(4);
    let mut me = cheap(&world, "me").await;
    me.take_all(4).await;
    let mut other = cheap(&world, "other").await;
    // One that has nothing asks for its share; what it is given is drained by somebody else than this test.
    me.quiet_but_for_hand_overs(FAILOVER * 6).await;
    assert_eq!((me.holdings.len(), other.holdings.len()), (4, 0));
    assert_eq!(row(&world, 0).await.counter, 1, "the take's");
    other.quiet(FAILOVER).await;
    let beats = workers(&world).scan().await.expect("an answer");
    assert_eq!(beats.keys().map(WorkerId::as_str).collect::<Vec<_>>(), ["me", "other"]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_workers_leases_are_taken_after_a_failover_time_and_not_before() {
    let world = World::new();
    world.open_shards(2);
    let mut me = cheap(&world, "me").await;
    me.take_all(2).await;
    let mut other = cheap(&world, "other").await;
    me.quiet_but_for_hand_overs(FAILOVER * 2).await;
    let killed = world.clock.elapsed();
    me.kill();
    other.taken().await;
    let took = world.clock.elapsed() - killed;
    assert!(took > FAILOVER - FAILOVER / BEATS_A_FAILOVER, "{took:?}: its last heartbeat was good for longer");
    other.taken().await;
    assert!(world.clock.elapsed() - killed < FAILOVER * 2);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_renews_lease_by_lease_takes_nothing_from_one_that_does_not() {
    let world = World::new();
    world.open_shards(2);
    let mut cheaply = cheap(&world, "cheap").await;
    cheaply.take_all(2).await;
    let mut dear = world.worker("dear").await;
    cheaply.quiet_but_for_hand_overs(FAILOVER * 6).await;
    assert_eq!((cheaply.holdings.len(), dear.holdings.len()), (2, 0));
    cheaply.kill();
    dear.take_all(2).await;
    assert!(!by_worker(&row(&world, 0).await));
}

#[tokio::test(start_paused = true)]
async fn one_heartbeat_a_worker_is_refused_while_leases_are_renewed_one_by_one() {
    let world = World::new();
    world.open_shards(1);
    let mut dear = world.worker("dear").await;
    dear.taken().await;
    let settings = || LeaseSettings { heartbeat: HeartbeatMode::PerWorker, ..world.settings("cheap") };
    match world.leases(settings()).await {
        Err(StartError::Unfit { cause }) => assert!(cause.contains("renewed by dear"), "{cause}"),
        other => panic!("{:?}", other.map(|_| ())),
    }
    dear.kill();
    world.leases(settings()).await.expect("nobody renews any more");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_another_has_taken_is_noticed_by_the_scan() {
    let world = World::new();
    world.open_shards(1);
    let mut me = cheap(&world, "me").await;
    me.taken().await;
    // As a Java worker takes it, which sees a counter that stands still.
    let java = RowWrite {
        lease: lease(0),
        require: vec![],
        change: vec![Change::Counter(row(&world, 0).await.counter + 1), Change::Owner(WorkerId::new("java"))],
    };
    let before = world.clock.elapsed();
    world.table().await.write(&java).await.expect("taken");
    assert_eq!(me.lost().await, (lease(0), LostReason::Taken));
    assert!(world.clock.elapsed() - before < Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_lease_is_noticed_by_the_scan_once() {
    let world = World::new();
    world.open_shards(1);
    let mut me = cheap(&world, "me").await;
    me.taken().await;
    let ask = write::ask(&lease(0), &WorkerId::new("me"), &WorkerId::new("newcomer"));
    let before = world.clock.elapsed();
    world.table().await.write(&ask).await.expect("asked");
    assert!(matches!(me.event().await, LeaseEvent::HandOver { .. }));
    assert!(world.clock.elapsed() - before < Duration::from_secs(3));
    me.quiet(FAILOVER * 2).await;
}

#[tokio::test(start_paused = true)]
async fn heartbeats_that_do_not_get_through_lose_every_lease_in_time_and_revive_none() {
    let world = World::new();
    world.open_shards(2);
    let mut me = cheap(&world, "me").await;
    me.take_all(2).await;
    tokio::time::sleep(FAILOVER).await;
    let deadline = me.holdings.all().iter().map(|held| held.deadline).max().expect("held");
    me.connection.cut();
    for _ in 0..2 {
        assert_eq!(me.lost().await.1, LostReason::Deadline);
        assert!(world.clock.elapsed() < deadline + FAILOVER / 4, "before anybody may take it");
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(me.holdings.is_empty());
    me.connection.mend();
    me.take_all(2).await;
}

async fn delete_table(world: &World) {
    let (client, table) = (world.client("raw"), WorkerTable::name_of(TABLE));
    let unprotected = client.update_table().table_name(&table).deletion_protection_enabled(false);
    unprotected.send().await.expect("unprotected");
    client.delete_table().table_name(&table).send().await.expect("deleted");
}

/// Regression: leases were lost and taken again and again until a restart.
#[tokio::test(start_paused = true)]
async fn a_table_of_workers_that_is_deleted_is_made_anew_and_no_lease_is_lost() {
    let world = World::new();
    world.open_shards(2);
    let mut me = cheap(&world, "me").await;
    me.take_all(2).await;
    let mut other = cheap(&world, "other").await;
    me.quiet_but_for_hand_overs(FAILOVER * 2).await;
    delete_table(&world).await;
    me.quiet_but_for_hand_overs(FAILOVER * 6).await;
    other.quiet(Duration::ZERO).await;
    assert_eq!((me.holdings.len(), other.holdings.len()), (2, 0));
    assert_eq!(workers(&world).scan().await.expect("an answer").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn without_a_table_of_workers_leases_are_renewed_one_by_one() {
    let world = World::new();
    world.open_shards(2);
    cheap(&world, "first").await.kill();
    let settings = LeaseSettings { heartbeat: HeartbeatMode::PerWorker, create: false, ..world.settings("me") };
    let mut me = world.worker_with(settings).await;
    me.take_all(2).await;
    let before = row(&world, 0).await.counter;
    delete_table(&world).await;
    let mut other = world.worker("other").await;
    me.quiet_but_for_hand_overs(FAILOVER * 6).await;
    let moved = row(&world, 0).await.counter - before;
    assert!((15..=20).contains(&moved), "three a failover time: {moved}");
    other.quiet(Duration::ZERO).await;
    workers(&world).open(true).await.expect("made by somebody");
    me.quiet_but_for_hand_overs(FAILOVER).await;
    let before = row(&world, 0).await.counter;
    me.quiet_but_for_hand_overs(FAILOVER * 3).await;
    assert_eq!(row(&world, 0).await.counter, before, "one heartbeat a worker again");
    assert_eq!(workers(&world).scan().await.expect("an answer").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_could_not_be_given_back_is_taken_again() {
    let world = World::new();
    world.open_shards(1);
    let mut me = cheap(&world, "me").await;
    let (_, tenure) = me.taken().await;
    me.connection.cut();
    me.handle.send(Command::Release { lease: lease(0), tenure });
    tokio::time::sleep(FAILOVER * 2).await;
    assert_eq!(row(&world, 0).await.owner, Some(WorkerId::new("me")), "its heartbeat would hold it for ever");
    me.connection.mend();
    let (_, again) = me.taken().await;
    assert_ne!(again, tenure);
}

#[tokio::test(start_paused = true)]
async fn the_checkpoint_is_a_write_of_its_own_every_ten_seconds_at_most() {
    let world = World::new();
    world.open_shards(1);
    let mut me = cheap(&world, "me").await;
    let (taken, tenure) = me.taken().await;
    let lake = DestinationId::new("lake");
    let mut number = 0;
    for _ in 0..60 {
        number += 1;
        let to = DestinationPosition::finalized(at(number), None);
        let write =
            RowWrite { lease: lease(0), require: vec![], change: vec![Change::Destination(lake.clone(), to.clone())] };
        world.table().await.write(&write).await.expect("finalized");
        me.holdings.settle(&lease(0), tenure, &lake, to);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let row = row(&world, 0).await;
    let writes = row.counter - taken.counter;
    assert!((5..=7).contains(&writes), "{writes} in a minute");
    assert!(row.checkpoint >= at(number - 11), "{:?}", row.checkpoint);
    // At once with the lease.
    me.handle.send(Command::Release { lease: lease(0), tenure });
    me.handle.stop().await;
    let row = world.table().await.get(&lease(0)).await.expect("an answer").expect("a row");
    assert_eq!((row.owner, row.checkpoint), (None, at(number)));
    me.tasks.join_all().await;
    assert!(workers(&world).scan().await.expect("an answer").is_empty(), "its heartbeat went with it");
}

#[test]
fn an_owner_is_silent_since_its_counter_or_its_item_last_changed() {
    let owner = WorkerId::new("me");
    let row = |mode: HeartbeatMode| LeaseRow {
        owner: Some(owner.clone()),
        tenure: Some(plan::tenure(&owner, mode.mark(7))),
        ..LeaseRow::new(lease(0))
    };
    let (cheap, dear) = (row(HeartbeatMode::PerWorker), row(HeartbeatMode::PerLease));
    assert_eq!((by_worker(&cheap), by_worker(&dear)), (true, false));
    let java = LeaseRow { owner: Some(WorkerId::new("java")), ..cheap.clone() };
    assert!(!by_worker(&java), "the tenure is another's");
    let seconds = Duration::from_secs;
    let mut beats = Beats::default();
    let mut see = |second: u64, beat: Option<u64>| {
        let rows = Rows { at: seconds(second), ..crate::testing::rows([cheap.clone()]) };
        let seen = beat.into_iter().map(|beat| (owner.clone(), beat)).collect::<BTreeMap<_, _>>();
        beats.see(&rows, &Beside { held: Vec::new(), beats: Some(seen) });
        (beats.unchanged_since(&cheap, seconds(1)), beats.unchanged_since(&dear, seconds(1)))
    };
    assert_eq!(see(10, Some(5)), (seconds(10), seconds(1)), "seen for the first time");
    assert_eq!(see(12, Some(5)).0, seconds(10));
    assert_eq!(see(14, Some(6)).0, seconds(14));
    assert_eq!(see(16, Some(4)).0, seconds(16), "a late write changes it, too");
    assert_eq!(see(18, None).0, seconds(18), "that it is gone is seen now");
    assert_eq!(see(20, None).0, seconds(18));
    assert_eq!(beats.unchanged_since(&cheap, seconds(19)), seconds(19), "the counter moved later");
}

/// DynamoDB requests while nothing happens: writes and reads a second and shard, in both modes.
async fn cost(mode: HeartbeatMode, shards: u64, fleet: u64) -> (f64, f64) {
    let world = World::traced();
    world.open_shards(shards);
    let mut running = Vec::new();
    for n in 0..fleet {
        let settings = LeaseSettings {
            heartbeat: mode,
            leases_max: (shards / fleet) as usize,
            ..world.settings(&format!("worker-{n}"))
        };
        let mut worker = world.worker_with(settings).await;
        worker.take_all((shards / fleet) as usize).await;
        running.push(worker);
    }
    tokio::time::sleep(FAILOVER).await;
    world.emulator.take_trace();
    let span = 300;
    tokio::time::sleep(Duration::from_secs(span)).await;
    let trace = world.emulator.take_trace();
    let count = |operation: &str| trace.iter().filter(|entry: &&TraceEntry| entry.call.operation == operation).count();
    let each = |requests: usize| requests as f64 / (span * shards) as f64;
    let (writes, reads) = (each(count("UpdateItem")), each(count("Scan")));
    println!("{mode:?}: {shards} shards, {fleet} workers: {writes:.4} writes, {reads:.4} scans a second and shard");
    (writes, reads)
}

#[tokio::test(start_paused = true)]
async fn what_heartbeats_cost_is_counted_at_the_server() {
    let (per_lease, scans) = cost(HeartbeatMode::PerLease, 16, 2).await;
    let (per_worker, more_scans) = cost(HeartbeatMode::PerWorker, 16, 2).await;
    assert!((0.28..0.32).contains(&per_lease), "three in ten seconds: {per_lease}");
    assert!((0.035..0.04).contains(&per_worker), "the same, for two workers instead of sixteen leases: {per_worker}");
    assert!((scans * 1.9..scans * 2.1).contains(&more_scans), "two tables are looked at instead of one");
}

impl Worker {
    /// No event for so long but that somebody waits.
    async fn quiet_but_for_hand_overs(&mut self, span: Duration) {
        let end = tokio::time::sleep(span);
        tokio::pin!(end);
        loop {
            tokio::select! {
                event = self.events.recv() => assert!(matches!(event, Some(LeaseEvent::HandOver { .. })), "{event:?}"),
                () = &mut end => return,
            }
        }
    }
}
