use standpipe_emulator::Fault;
use standpipe_flow::{DestinationPosition, LeaseRow, Pending, PendingMode, Position};

use super::*;
use crate::emulated::{MORNING, World, cid, lease, shard, stream};
use crate::testing::at;

async fn unfit(world: &World, settings: LeaseSettings) -> String {
    match world.leases(settings).await {
        Err(StartError::Unfit { cause }) => cause,
        other => panic!("{other:?}"),
    }
}

async fn rows(world: &World) -> Rows {
    world.table().await.scan().await.expect("a scan")
}

#[tokio::test(start_paused = true)]
async fn a_first_start_makes_tables_and_leases_and_a_second_one_finds_them() {
    let world = World::new();
    *world.shards.0.lock().expect("shards") =
        vec![shard(0, &[], false), shard(1, &[0], true), shard(2, &[0], true), shard(3, &[], true)];
    let (first, _) = world.leases(world.settings("a")).await.expect("a start");
    let made = rows(&world).await;
    assert_eq!(made.leases.keys().cloned().collect::<Vec<_>>(), [lease(0), lease(3)]);
    let (second, _) = world.leases(world.settings("b")).await.expect("a start");
    assert_eq!(rows(&world).await, made);
    assert_eq!(first.fingerprint, second.fingerprint);
}

#[tokio::test(start_paused = true)]
async fn every_row_has_what_a_java_worker_cannot_do_without() {
    let world = World::new();
    *world.shards.0.lock().expect("shards") = vec![shard(4, &[2, 3], true)];
    world.leases(world.settings("a")).await.expect("a start");
    let item = world.item(&lease(4)).await.expect("the row");
    for number in ["leaseCounter", "checkpointSubSequenceNumber", "ownerSwitchesSinceCheckpoint"] {
        assert!(item[number].is_n(), "{number}");
    }
    for text in ["leaseKey", "checkpoint", "startingHashKey", "endingHashKey", "entityType"] {
        assert!(item[text].is_s(), "{text}");
    }
    assert!(item["parentShardId"].is_ss());
    assert_eq!(item["entityType"].as_s().expect("text"), "LEASE");
}

#[tokio::test(start_paused = true)]
async fn latest_is_pinned_to_one_instant_for_everybody() {
    let world = World::new();
    *world.shards.0.lock().expect("shards") = vec![shard(0, &[], false), shard(1, &[0], true), shard(2, &[0], true)];
    let latest = |worker| LeaseSettings { start: StartPosition::Latest, ..world.settings(worker) };
    world.leases(latest("a")).await.expect("a start");
    let made = rows(&world).await;
    assert_eq!(made.leases.keys().cloned().collect::<Vec<_>>(), [lease(1), lease(2)], "the open ones");
    let pinned = made.leases[&lease(1)].start.expect("an instant");
    assert!((MORNING..Millis(MORNING.0 + 5_000)).contains(&pinned), "{pinned:?}");
    assert!(made.leases.values().all(|row| row.start == Some(pinned) && row.checkpoint == Position::TrimHorizon));

    tokio::time::sleep(Duration::from_secs(3600)).await;
    world.delete(&lease(2)).await;
    world.leases(latest("b")).await.expect("a start");
    assert_eq!(rows(&world).await.leases[&lease(2)].start, Some(pinned), "a missing one begins where the others began");
}

#[tokio::test(start_paused = true)]
async fn latest_worker_that_dies_before_its_leases_are_made_leaves_no_gap() {
    let world = World::new();
    *world.shards.0.lock().expect("shards") = vec![shard(0, &[], true)];
    let (_, commits) = world.tables().await;
    let (pinned, _) = commits.pin_start(Millis(77)).await.expect("pinned");
    // Between the pin and the next start the shard is split: its records from the pinned instant on still count.
    *world.shards.0.lock().expect("shards") = vec![shard(0, &[], false), shard(1, &[0], true), shard(2, &[0], true)];
    world.leases(LeaseSettings { start: StartPosition::Latest, ..world.settings("b") }).await.expect("a start");
    let made = rows(&world).await;
    assert_eq!(made.leases.len(), 3);
    assert!(made.leases.values().all(|row| row.start == Some(pinned)));
}

#[tokio::test(start_paused = true)]
async fn a_stream_made_anew_refuses_to_start() {
    let world = World::new();
    world.open_shards(1);
    world.leases(world.settings("a")).await.expect("a start");
    let anew = StreamIdentity { created_at: Millis(2), ..stream() };
    let settings = LeaseSettings { stream: anew, ..world.settings("b") };
    let cause = unfit(&world, settings.clone()).await;
    assert!(cause.contains("another stream"), "{cause}");
    // Also when only the commit table remembers.
    world.delete(&lease(0)).await;
    let cause = unfit(&world, settings).await;
    assert!(cause.contains(&stream().arn), "{cause}");
    assert!(rows(&world).await.leases.is_empty(), "nothing was made");
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_points_elsewhere_refuses_to_start_unless_adopted() {
    let world = World::new();
    world.open_shards(1);
    world.leases(world.settings("a")).await.expect("a start");
    let destinations = [(DestinationId::new("lake"), "s3 elsewhere".to_owned())].into();
    let settings = LeaseSettings { destinations, ..world.settings("b") };
    let cause = unfit(&world, settings.clone()).await;
    assert!(cause.contains("lake") && cause.contains("s3 acme-lake"), "{cause}");
    world.leases(LeaseSettings { adopt_destinations: true, ..settings }).await.expect("adopted");
}

#[tokio::test(start_paused = true)]
async fn a_table_of_the_kcls_multi_stream_mode_is_refused_and_left_as_it_is() {
    let world = World::new();
    *world.shards.0.lock().expect("shards") = vec![shard(0, &[], true)];
    let table = world.table().await;
    let several = LeaseRow::new(LeaseKey::new("000000000000:orders:1795650493:shardId-000000000000"));
    table.create(&several).await.expect("made");
    let started = world.leases(world.settings("a")).await;
    let Err(StartError::Java { cause }) = started else { panic!("{started:?}") };
    assert!(cause.contains("several streams"), "{cause}");
    let rows = rows(&world).await;
    assert_eq!((rows.leases.len(), rows.unreadable.len()), (0, 1), "no lease of ours beside it");
}

#[tokio::test(start_paused = true)]
async fn missing_tables_are_named() {
    let world = World::new();
    let cause = unfit(&world, LeaseSettings { create: false, ..world.settings("a") }).await;
    assert!(cause.contains("orders"), "{cause}");

    let table = world.table().await;
    let mut row = LeaseRow::new(lease(0));
    let pending = Pending { to: at(5), cid: cid(1), mode: PendingMode::Staged };
    let position = DestinationPosition { at: at(1), arrival: None, pending: Some(pending) };
    row.destinations.insert(DestinationId::new("lake"), position);
    table.create(&row).await.expect("made");
    let cause = unfit(&world, world.settings("a")).await;
    assert!(cause.contains("orders-standpipe-commits"), "{cause}");
}

#[tokio::test(start_paused = true)]
async fn a_start_waits_while_dynamodb_is_throttled_or_away() {
    let world = World::new();
    world.open_shards(2);
    for operation in ["DescribeTable", "CreateTable", "Scan", "PutItem", "UpdateItem"] {
        world.fault(Fault::Throttle, operation, 3);
        world.fault(Fault::DropAnswer, operation, 2);
    }
    world.leases(world.settings("a")).await.expect("a start");
    assert_eq!(rows(&world).await.leases.len(), 2);
}
