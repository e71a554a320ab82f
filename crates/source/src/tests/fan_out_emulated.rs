//! Enhanced fan-out against the emulator: its heartbeats, its five minutes, take-over, resharding, faults.

use std::sync::Arc;
use std::time::Duration;

use standpipe_emulator::{Fault, Latency, Rule, Service};
use standpipe_flow::{Millis, Position, Random, Read, ReadError, ShardReader};

use super::Seeded;
use super::emulated::{World, connect, drain, from, lines, texts};
use super::fan_out::Ear;
use crate::{Consumer, FanOut, PollingSettings, Way};

const SEC: Duration = Duration::from_secs(1);
const ARN: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/orders";

async fn consumer(world: &World) -> Consumer {
    world.stream.consumer(ARN, "standpipe").await.expect("a consumer")
}

fn reader(world: &World, consumer: &Consumer, shard: &str) -> (FanOut, Arc<Ear>) {
    let ear = Arc::new(Ear::default());
    let from = from(shard, Position::TrimHorizon, None);
    (world.stream.fan_out(from, PollingSettings::default(), consumer, ear.clone()), ear)
}

/// Reads for so long; gives what was read.
async fn read_for(reader: &mut FanOut, span: Duration) -> Vec<String> {
    let mut records = Vec::new();
    let mut position = reader.position().clone();
    let reading = async {
        loop {
            match reader.next().await {
                Ok(Read::Chunk(chunk)) => {
                    assert_eq!(chunk.from, position, "no read gap (I15)");
                    position = chunk.to;
                    records.extend(texts(&chunk.records));
                }
                Ok(Read::End { .. }) => std::future::pending().await,
                Ok(_) | Err(ReadError::Again { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    let over: Result<(), _> = tokio::time::timeout(span, reading).await;
    over.expect_err("it reads for ever");
    records
}

fn subscribes(world: &World) -> usize {
    world.emulator.take_trace().iter().filter(|entry| entry.call.operation == "SubscribeToShard").count()
}

#[tokio::test(start_paused = true)]
async fn records_flow_as_they_come_and_every_five_minutes_the_subscription_is_renewed() {
    let world = World::new(1);
    let consumer = consumer(&world).await;
    let (mut reader, ear) = reader(&world, &consumer, &world.shards()[0]);
    world.load(lines(5_000));
    let (records, end) = drain(&mut reader).await;
    assert_eq!((texts(&records), end.is_some()), (lines(5_000), false));
    let writing = async {
        for minute in 0..20 {
            tokio::time::sleep(60 * SEC).await;
            world.load([format!("minute {minute}")]);
        }
    };
    let (read, ()) = tokio::join!(read_for(&mut reader, 1210 * SEC), writing);
    assert_eq!(read, (0..20).map(|minute| format!("minute {minute}")).collect::<Vec<_>>());
    assert_eq!(ear.reconnects(), ["renewed"; 4]);
    assert_eq!(subscribes(&world), 5);
    assert!(world.emulator.take_trace().iter().all(|entry| entry.call.operation != "GetRecords"));
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_splits_and_merges_is_read_to_its_end_and_its_children_after_it() {
    let world = World::new(1);
    let consumer = consumer(&world).await;
    let parent = world.shards().remove(0);
    let (mut reader, _) = self::reader(&world, &consumer, &parent);
    world.load(lines(100));
    assert_eq!(texts(&drain(&mut reader).await.0), lines(100));
    world.load((100..200).map(|number| format!("line {number}")));
    world.emulator.split_shard("orders", &parent).expect("a split");
    let (records, children) = drain(&mut reader).await;
    assert_eq!(texts(&records), lines(200)[100..]);
    let children = children.expect("a split shard ends");
    assert_eq!(children.len(), 2);
    world.load((200..300).map(|number| format!("line {number}")));
    world.emulator.merge_shards("orders", children[0].id.as_str(), children[1].id.as_str()).expect("a merge");
    let mut read = Vec::new();
    for child in &children {
        let (mut reader, _) = self::reader(&world, &consumer, child.id.as_str());
        let (records, end) = drain(&mut reader).await;
        read.extend(texts(&records));
        assert_eq!(end.expect("a merged shard ends")[0].parents.len(), 2);
    }
    read.sort();
    assert_eq!(read, lines(300)[200..]);
}

#[tokio::test(start_paused = true)]
async fn a_pinned_start_begins_at_its_instant() {
    let world = World::new(1);
    let consumer = consumer(&world).await;
    world.load(["before".to_owned()]);
    tokio::time::sleep(10 * SEC).await;
    world.load(["after".to_owned()]);
    let start = from(&world.shards()[0], Position::TrimHorizon, Some(Millis(1_700_000_005_000)));
    let ear = Arc::new(Ear::default());
    let mut reader = world.stream.fan_out(start, PollingSettings::default(), &consumer, ear);
    assert_eq!(texts(&drain(&mut reader).await.0), ["after"]);
}

/// A worker that paused, or lost its lease without knowing it, and the one that has taken over.
#[tokio::test(start_paused = true)]
async fn a_new_owner_takes_the_subscription_over_and_both_go_on_reading() {
    let world = World::new(1);
    let consumer = consumer(&world).await;
    let shard = world.shards().remove(0);
    let (mut old, heard) = reader(&world, &consumer, &shard);
    world.load(lines(10));
    assert_eq!(read_for(&mut old, 2 * SEC).await, lines(10));
    // Too early: refused, and polled for meanwhile.
    let (mut new, _) = reader(&world, &consumer, &shard);
    assert_eq!(texts(&drain(&mut new).await.0), lines(10));
    assert_eq!(new.way(), Some(Way::Polling));
    let writing = async {
        for second in 0..30 {
            tokio::time::sleep(SEC).await;
            world.load([format!("second {second}")]);
        }
    };
    let span = 35 * SEC;
    let (of_old, of_new, ()) = tokio::join!(read_for(&mut old, span), read_for(&mut new, span), writing);
    let expected: Vec<_> = (0..30).map(|second| format!("second {second}")).collect();
    assert_eq!((of_old, of_new), (expected.clone(), expected), "each of them reads each record once");
    assert!(heard.reconnects().contains(&"in_use"), "{:?}", heard.reconnects());
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_is_deregistered_leaves_its_readers_polling() {
    let world = World::new(1);
    let consumer = consumer(&world).await;
    let (mut reader, ear) = reader(&world, &consumer, &world.shards()[0]);
    world.load(lines(10));
    assert_eq!(texts(&drain(&mut reader).await.0), lines(10));
    let gone = world.stream.client.deregister_stream_consumer().consumer_arn(consumer.arn()).send().await;
    gone.expect("deregistered");
    world.load(["after".to_owned()]);
    assert_eq!(read_for(&mut reader, 10 * SEC).await, ["after"]);
    assert_eq!(ear.reads(), (0, 1));
}

/// A shard of 3,000 records that is split at last; everything goes wrong now and then, answers are slow, futures are
/// dropped. Gives what was read, the list of calls, and why subscriptions ended.
async fn read_in_a_storm(seed: u64) -> (Vec<String>, Vec<String>, Vec<&'static str>) {
    let world = World::with(1, |options| {
        options.seed = seed;
        options.latency = Latency { request: (1, 40), answer: (1, 200), ..Latency::default() };
        options.subscription_millis = 12_000;
    });
    let shard = world.shards().remove(0);
    let faults = [
        (Fault::EventsCut(3), 0.15),
        (Fault::EventsSilent(4), 0.1),
        (Fault::EventInvalid(2), 0.15),
        (Fault::EventsFail(1), 0.1),
        (Fault::EventsTaken(2), 0.1),
        (Fault::InUse, 0.1),
        (Fault::LimitExceeded, 0.1),
        (Fault::Unanswered, 0.05),
        (Fault::DropAnswer, 0.1),
        (Fault::Repeat(300), 0.1),
        (Fault::InternalError, 0.1),
    ];
    let consumer = consumer(&world).await;
    for (fault, probability) in faults {
        world.fault(fault, "SubscribeToShard", probability);
    }
    for fault in [Fault::Throttle, Fault::DropAnswer, Fault::ExpiredIterator] {
        world.emulator.faults().add(Rule::new(Service::Kinesis, fault).operation("GetRecords").probability(0.1));
    }
    let random = Seeded::new(seed);
    let ear = Arc::new(Ear::default());
    let start = from(&shard, Position::TrimHorizon, None);
    let mut reader = world.stream.fan_out(start, PollingSettings::default(), &consumer, ear.clone());
    let (mut records, mut position, mut written) = (Vec::new(), Position::TrimHorizon, 0);
    loop {
        let patience = Duration::from_millis(100 + random.below(12_000));
        match tokio::time::timeout(patience, reader.next()).await {
            Ok(Ok(Read::Chunk(chunk))) => {
                assert_eq!(chunk.from, position);
                position = chunk.to;
                records.extend(chunk.records);
            }
            Ok(Ok(Read::End { .. })) => break,
            Ok(Ok(Read::Empty { .. } | Read::Heavy)) | Ok(Err(ReadError::Again { .. })) | Err(_) => {}
            Ok(Err(error)) => panic!("{error}"),
        }
        if written < 3_000 {
            tokio::time::sleep(Duration::from_millis(random.below(800))).await;
            let more = 1 + usize::try_from(random.below(40)).expect("small");
            let until = (written + more).min(3_000);
            world.load((written..until).map(|number| format!("line {number}")));
            written = until;
            if written == 3_000 {
                world.emulator.split_shard("orders", &shard).expect("a split");
            }
        }
    }
    let trace = world.emulator.take_trace().iter().map(ToString::to_string).collect();
    (texts(&records), trace, ear.reconnects())
}

#[tokio::test(start_paused = true)]
async fn faults_and_dropped_futures_lose_and_repeat_nothing() {
    let mut seen: Vec<&'static str> = Vec::new();
    for seed in 0..20 {
        let (records, _, reconnects) = read_in_a_storm(seed).await;
        assert_eq!(records, lines(3_000), "seed {seed}");
        seen.extend(reconnects);
    }
    for why in ["renewed", "broken", "silent", "invalid", "in_use", "refused"] {
        assert!(seen.contains(&why), "{why} never happened");
    }
}

#[tokio::test(start_paused = true)]
async fn one_seed_gives_one_list_of_calls() {
    let (first, second, other) = (read_in_a_storm(1).await.1, read_in_a_storm(1).await.1, read_in_a_storm(2).await.1);
    assert_eq!(first, second);
    assert_ne!(first, other);
}

/// 64 shards at once: nothing is polled, and every record comes once.
#[tokio::test(start_paused = true)]
async fn sixty_four_shards_are_read_beside_each_other() {
    let world = World::new(64);
    let consumer = consumer(&world).await;
    world.load(lines(6_400));
    let mut tasks = tokio::task::JoinSet::new();
    for shard in world.shards() {
        let (mut reader, ear) = reader(&world, &consumer, &shard);
        tasks.spawn(async move { (read_for(&mut reader, 320 * SEC).await, ear.reconnects()) });
    }
    let mut read = Vec::new();
    while let Some(done) = tasks.join_next().await {
        let (records, reconnects) = done.expect("no panic");
        read.extend(records);
        assert_eq!(reconnects, ["renewed"]);
    }
    read.sort();
    let mut expected = lines(6_400);
    expected.sort();
    assert_eq!(read, expected);
    assert_eq!(consumer.clients(), 8);
    let other = connect(&world.emulator, &world.clock, "other", 2);
    assert!(other.registered_consumer(ARN, "standpipe").await.expect("asked").is_some());
}
