//! Rows as Java workers write them, and Java workers as far as a table sees them.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use standpipe_flow::{DestinationId, DestinationPosition, Millis, Position};

use super::*;
use crate::coordinator::LostReason;
use crate::emulated::{FAILOVER, MORNING, World, lease, shard};
use crate::kcl::{number, text};
use crate::start::{LeaseSettings, StartError, StartPosition};
use crate::testing::at;

fn item<const N: usize>(attributes: [(&str, AttributeValue); N]) -> Item {
    attributes.map(|(name, value)| (name.to_owned(), value)).into()
}

/// A lease as KCL 2.7 writes it: all that its `DynamoDBLeaseSerializer` knows, and nothing else.
fn kcl2(n: u64, owner: &str, checkpoint: &str) -> Item {
    let mut row = item([
        ("leaseKey", text(lease(n).as_str())),
        ("leaseCounter", number(17)),
        ("checkpoint", text(checkpoint)),
        ("checkpointSubSequenceNumber", number(0)),
        ("ownerSwitchesSinceCheckpoint", number(3)),
        ("startingHashKey", text("0")),
        ("endingHashKey", text("340282366920938463463374607431768211455")),
    ]);
    if !owner.is_empty() {
        row.insert("leaseOwner".into(), text(owner));
    }
    row
}

/// As KCL 3.5 writes it.
fn kcl3(n: u64, owner: &str, checkpoint: &str) -> Item {
    let mut row = kcl2(n, owner, checkpoint);
    row.insert("entityType".into(), text("LEASE"));
    row.insert("throughputKBps".into(), AttributeValue::N("103.250000".into()));
    row
}

fn report_row(key: &str, seconds: u64) -> Item {
    item([
        (key, text("ip-10-0-0-7:55")),
        ("lut", number(seconds)),
        ("sts", AttributeValue::M([("C".to_owned(), AttributeValue::L(vec![number(12)]))].into())),
        ("opr", AttributeValue::M([("C".to_owned(), AttributeValue::L(vec![number(80)]))].into())),
        ("entityType", text("WORKER_METRIC_STATS")),
        ("sup", number(1)),
    ])
}

async fn table_of(rows: impl IntoIterator<Item = Item>) -> World {
    let world = World::new();
    world.table().await;
    let mut shards = Vec::new();
    for row in rows {
        if row.get("entityType").is_none_or(|entity| *entity == text("LEASE")) {
            shards.push(shard(shards.len() as u64, &[], true));
        }
        world.put(row).await;
    }
    *world.shards.0.lock().expect("shards") = shards;
    world
}

/// A Java worker that renews what it holds, three times a failover time, until a renewal is refused.
fn renews(world: &World, leases: &[u64]) -> tokio::task::JoinSet<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for n in leases.iter().copied() {
        let client = world.client("java");
        tasks.spawn(async move {
            for counter in 17.. {
                tokio::time::sleep(Duration::from_millis(3_308)).await;
                let request = client.update_item().table_name(crate::emulated::TABLE);
                let request = request.key("leaseKey", text(lease(n).as_str()));
                let request =
                    request.condition_expression("leaseCounter = :c").update_expression("SET leaseCounter = :d");
                let request = request.expression_attribute_values(":c", number(counter));
                if request.expression_attribute_values(":d", number(counter + 1)).send().await.is_err() {
                    return;
                }
            }
        });
    }
    tasks
}

#[tokio::test(start_paused = true)]
async fn a_stopped_java_fleet_is_taken_over_where_it_stood() {
    let mut second = kcl3(1, "host:2", "SHARD_END");
    second.insert("childShardIds".into(), AttributeValue::Ss(vec![lease(2).as_str().into()]));
    let mut third = kcl3(2, "", "TRIM_HORIZON");
    third.insert("parentShardId".into(), AttributeValue::Ss(vec![lease(1).as_str().into()]));
    let mut first = kcl2(0, "host:1", "4711");
    first.insert("pendingCheckpoint".into(), text("4800"));
    first.insert("pendingCheckpointSubSequenceNumber".into(), number(0));
    let world = table_of([first, second, third]).await;
    let mut me = world.worker("me").await;
    let begin = standpipe_flow::Clock::elapsed(&*world.clock);
    let (child, _) = me.taken().await;
    assert_eq!(child.key, lease(2), "nobody owns it");
    let (row, tenure) = me.taken().await;
    let after = standpipe_flow::Clock::elapsed(&*world.clock) - begin;
    assert_eq!((&row.key, &row.checkpoint), (&lease(0), &at(4711)), "what was only prepared is no checkpoint");
    assert!((FAILOVER..FAILOVER + Duration::from_secs(5)).contains(&after), "{after:?}");
    me.quiet(Duration::from_secs(30)).await;

    let before = world.item(&lease(0)).await.expect("a row");
    assert!(before.contains_key("pendingCheckpoint"));
    let lake = DestinationId::new("lake");
    me.holdings.settle(&lease(0), tenure, &lake, DestinationPosition::finalized(at(5000), None));
    me.quiet(Duration::from_secs(5)).await;
    let row = world.item(&lease(0)).await.expect("a row");
    assert!(!row.keys().any(|name| name.starts_with("pendingCheckpoint")), "{:?}", row.keys());
    assert_eq!((&row["checkpoint"], &row["ownerSwitchesSinceCheckpoint"]), (&text("5000"), &number(0)));
}

/// Going back: whatever we do to a row, what Java reads of it stays whole, in Java's own types.
#[tokio::test(start_paused = true)]
async fn at_every_instant_a_java_worker_could_read_every_row() {
    let world = table_of([kcl2(0, "", "4711"), kcl3(1, "", "TRIM_HORIZON"), kcl2(2, "", "LATEST")]).await;
    let mut me = world.worker("me").await;
    me.take_all(3).await;
    let lake = DestinationId::new("lake");
    for step in 0..20 {
        for held in me.holdings.all().iter().filter(|_| step % 3 == 0) {
            let position = DestinationPosition::finalized(at(6000 + step), None);
            me.holdings.settle(&held.fence.lease, held.fence.tenure, &lake, position);
        }
        if step == 15 {
            me.handle.stop().await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        for n in 0..3 {
            let row = world.item(&lease(n)).await.expect("a row");
            for name in ["leaseCounter", "checkpointSubSequenceNumber", "ownerSwitchesSinceCheckpoint"] {
                assert!(row[name].as_n().expect("a number").parse::<i64>().is_ok(), "{name}");
            }
            for name in ["leaseKey", "checkpoint", "startingHashKey", "endingHashKey"] {
                assert!(row[name].is_s(), "{name}");
            }
            let ours = ["spTenure", "spGen", "spCheckpoint", "spSub", "spVersion", "spStart", "sp_lake"];
            let javas = ["leaseOwner", "throughputKBps", "entityType"];
            let known = |name: &String| {
                ours.contains(&name.as_str()) || javas.contains(&name.as_str()) || kcl2(0, "", "1").contains_key(name)
            };
            assert!(row.keys().all(known), "{:?}", row.keys());
            if let Some(throughput) = row.get("throughputKBps") {
                assert!(throughput.as_n().expect("a number").parse::<f64>().is_ok());
            }
        }
    }
    let left = world.item(&lease(0)).await.expect("a row");
    assert!(!left.contains_key("leaseOwner"), "Java takes it at once");
}

#[tokio::test(start_paused = true)]
async fn beside_a_live_java_fleet_we_come_by_our_share_one_lease_at_a_time() {
    let world = table_of((0..6).map(|n| kcl2(n, "host:1", "4711"))).await;
    let java = renews(&world, &[0, 1, 2, 3, 4, 5]);
    let mut me = world.worker("me").await;
    let mut stolen = Vec::new();
    for _ in 0..3 {
        let (row, _) = me.taken().await;
        assert_eq!((row.owner_switches, row.checkpoint), (4, at(4711)));
        stolen.push(standpipe_flow::Clock::elapsed(&*world.clock));
    }
    for pair in stolen.windows(2) {
        assert!(pair[1] - pair[0] >= FAILOVER * 2, "{stolen:?}");
    }
    me.quiet(Duration::from_secs(120)).await;
    assert_eq!(me.holdings.len(), 3, "half of six");
    drop(java);
    me.take_all_more(3).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_a_java_worker_steals_is_lost_and_not_stolen_back() {
    let world = table_of([kcl2(0, "", "4711"), kcl2(1, "", "4711")]).await;
    let mut me = world.worker("me").await;
    me.take_all(2).await;
    let stolen = world.item(&lease(0)).await.expect("a row");
    let counter = stolen["leaseCounter"].as_n().expect("a number").parse::<u64>().expect("a number");
    // `takeLease` of KCL 2: the counter is its only condition.
    let request = world.client("java").update_item().table_name(crate::emulated::TABLE);
    let request = request.key("leaseKey", text(lease(0).as_str())).condition_expression("leaseCounter = :c");
    let request =
        request.update_expression("SET leaseCounter = :d, leaseOwner = :o ADD ownerSwitchesSinceCheckpoint :one");
    let request = request.expression_attribute_values(":c", number(counter));
    let request = request.expression_attribute_values(":d", number(counter + 1));
    let request = request.expression_attribute_values(":o", text("host:1"));
    request.expression_attribute_values(":one", number(1)).send().await.expect("stolen");
    assert_eq!(me.lost().await, (lease(0), LostReason::Taken));
    let client = world.client("java");
    let mut java = tokio::task::JoinSet::new();
    java.spawn(async move {
        for counter in counter + 1.. {
            tokio::time::sleep(Duration::from_secs(3)).await;
            let request = client.update_item().table_name(crate::emulated::TABLE);
            let request = request.key("leaseKey", text(lease(0).as_str())).condition_expression("leaseCounter = :c");
            let request = request.update_expression("SET leaseCounter = :d");
            let request = request.expression_attribute_values(":c", number(counter));
            request.expression_attribute_values(":d", number(counter + 1)).send().await.expect("Java keeps it");
        }
    });
    me.quiet(Duration::from_secs(120)).await;
    assert_eq!(me.holdings.len(), 1);
    drop(java);
    me.taken().await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_at_latest_begins_where_the_config_says() {
    let starts = [
        (StartPosition::TrimHorizon, None),
        (StartPosition::At(Millis(77)), Some(Millis(77))),
        (StartPosition::Latest, Some(MORNING)),
    ];
    for (start, instant) in starts {
        let world = table_of([kcl2(0, "host:1", "LATEST"), kcl2(1, "host:1", "4711")]).await;
        let settings = LeaseSettings { start, ..world.settings("me") };
        let mut me = world.worker_with(settings).await;
        me.take_all(2).await;
        let row = world.table().await.get(&lease(0)).await.expect("an answer").expect("a row");
        assert_eq!(
            (&row.checkpoint, row.own_checkpoint.as_ref()),
            (&Position::TrimHorizon, Some(&Position::TrimHorizon))
        );
        assert_eq!(row.start.map(|start| start.0 / 10_000), instant.map(|start| start.0 / 10_000), "{start:?}");
        let other = world.table().await.get(&lease(1)).await.expect("an answer").expect("a row");
        assert_eq!(other.start, None, "a lease with a position keeps it");
    }
}

#[tokio::test(start_paused = true)]
async fn a_live_java_worker_keeps_its_lease_at_latest() {
    let world = table_of([kcl2(0, "host:1", "LATEST"), kcl2(1, "", "4711")]).await;
    let _java = renews(&world, &[0]);
    let mut me = world.worker("me").await;
    me.take_all(1).await;
    me.quiet(Duration::from_secs(120)).await;
    assert_eq!(world.item(&lease(0)).await.expect("a row")["checkpoint"], text("LATEST"));
}

#[tokio::test(start_paused = true)]
async fn a_lease_at_a_timestamp_needs_the_instant() {
    let world = table_of([kcl2(0, "", "AT_TIMESTAMP")]).await;
    let latest = LeaseSettings { start: StartPosition::Latest, ..world.settings("me") };
    match world.leases(latest).await {
        Err(StartError::Java { cause }) => {
            assert!(cause.contains("AT_TIMESTAMP") && cause.contains("start"), "{cause}")
        }
        other => panic!("{other:?}"),
    }
    let settings = LeaseSettings { start: StartPosition::At(Millis(77)), ..world.settings("me") };
    let mut me = world.worker_with(settings).await;
    let (row, _) = me.taken().await;
    assert_eq!((row.checkpoint, row.start), (Position::TrimHorizon, Some(Millis(77))));
}

fn now_seconds() -> u64 {
    MORNING.0 / 1000
}

#[tokio::test(start_paused = true)]
async fn a_start_beside_a_live_kcl_3_is_refused_in_both_layouts() {
    // KCL >= 3.5: everything in one table.
    let world = table_of([kcl3(0, "ip-10-0-0-7:55", "4711"), report_row("leaseKey", now_seconds())]).await;
    let _java = renews(&world, &[0]);
    match world.leases(world.settings("me")).await {
        Err(StartError::Java { cause }) => {
            assert!(cause.contains("ip-10-0-0-7:55") && cause.contains("Stop the Java application"), "{cause}");
        }
        other => panic!("{other:?}"),
    }
    // KCL 3.0 to 3.4: a table of their own.
    let world = table_of([kcl3(0, "ip-10-0-0-7:55", "4711")]).await;
    world.put_in("orders-WorkerMetricStats", "wid", report_row("wid", now_seconds())).await;
    let _java = renews(&world, &[0]);
    assert!(matches!(world.leases(world.settings("me")).await, Err(StartError::Java { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_stopped_kcl_3_is_taken_over_and_so_is_one_that_was_rolled_back() {
    // It stopped a moment ago: its report is fresh, its counters stand still.
    let world = table_of([kcl3(0, "ip-10-0-0-7:55", "4711"), report_row("leaseKey", now_seconds())]).await;
    let mut me = world.worker("me").await;
    me.take_all(1).await;
    assert!(world.item(&standpipe_flow::LeaseKey::new("ip-10-0-0-7:55")).await.is_some(), "its rows are left alone");
    // Its report is old, and a KCL 2 lives here.
    let old = report_row("leaseKey", now_seconds() - 121);
    let world = table_of([kcl2(0, "host:1", "4711"), kcl2(1, "host:1", "4711"), old]).await;
    let _java = renews(&world, &[0, 1]);
    let mut me = world.worker("me").await;
    me.take_all(1).await;
}
