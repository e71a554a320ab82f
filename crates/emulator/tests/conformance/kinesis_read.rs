//! GetShardIterator and GetRecords: positions, lag, limits, the end of a shard.

use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::ShardIteratorType;
use bytes::Bytes;
use standpipe_emulator::Options;

use crate::support::{World, clock, code, happened, moment, pass, world, world_with};

const SHARD: &str = "shardId-000000000000";

/// Puts `count` records `from`, `from + 1`, ... and gives their sequence numbers.
fn put(world: &World, from: usize, count: usize) -> Vec<String> {
    let records: Vec<_> = (from..from + count).map(|index| ("k".to_owned(), Bytes::from(index.to_string()))).collect();
    let placed = world.emulator.put_records("s", &records).expect("put");
    placed.into_iter().map(|placed| placed.sequence_number).collect()
}

async fn iterator(world: &World, shard: &str, kind: ShardIteratorType, number: Option<&str>) -> String {
    let get = world.kinesis.get_shard_iterator().stream_name("s").shard_id(shard).shard_iterator_type(kind);
    let get = get.set_starting_sequence_number(number.map(str::to_owned)).send().await.expect("an iterator");
    get.shard_iterator().expect("an iterator").to_owned()
}

async fn read(world: &World, iterator: &str) -> GetRecordsOutput {
    world.kinesis.get_records().shard_iterator(iterator).send().await.expect("read")
}

fn data(output: &GetRecordsOutput) -> Vec<usize> {
    let text = |record: &aws_sdk_kinesis::types::Record| String::from_utf8(record.data().as_ref().to_vec());
    output.records().iter().map(|record| text(record).expect("text").parse().expect("a number")).collect()
}

async fn one_shard() -> World {
    let world = world().await;
    world.emulator.create_stream("s", 1).expect("made");
    world
}

#[tokio::test(start_paused = true)]
async fn a_record_comes_back_as_it_was_put() {
    let world = one_shard().await;
    pass(1234).await;
    let key = "Schlüssel \"mit\" \\ \u{1F600}\n";
    let value: Vec<u8> = (0..=255).collect();
    let placed = world.emulator.put_records("s", &[(key.to_owned(), value.clone().into()), ("e".into(), Bytes::new())]);
    let placed = placed.expect("put");
    let start = iterator(&world, SHARD, ShardIteratorType::TrimHorizon, None).await;
    let output = read(&world, &start).await;
    let record = &output.records()[0];
    assert_eq!(record.data().as_ref(), value);
    assert_eq!(record.partition_key(), Some(key));
    assert_eq!(record.sequence_number(), placed[0].sequence_number);
    // The SDK reads a floating point number of seconds, which falls short of a whole millisecond.
    let arrival = record.approximate_arrival_timestamp().expect("a time").as_secs_f64();
    assert!(happened((arrival * 1000.0).round() as u64, 1234), "{arrival}");
    assert!(output.records()[1].data().as_ref().is_empty(), "an empty record is a record");
    assert_eq!(output.millis_behind_latest(), Some(0));
}

#[tokio::test(start_paused = true)]
async fn every_iterator_type_begins_where_it_says() {
    let world = one_shard().await;
    let numbers = put(&world, 0, 3);
    let latest = iterator(&world, SHARD, ShardIteratorType::Latest, None).await;
    put(&world, 3, 2);
    let trim = iterator(&world, SHARD, ShardIteratorType::TrimHorizon, None).await;
    let at = iterator(&world, SHARD, ShardIteratorType::AtSequenceNumber, Some(&numbers[1])).await;
    pass(1000).await;
    let after = iterator(&world, SHARD, ShardIteratorType::AfterSequenceNumber, Some(&numbers[1])).await;
    assert_eq!(data(&read(&world, &latest).await), [3, 4]);
    assert_eq!(data(&read(&world, &trim).await), [0, 1, 2, 3, 4]);
    assert_eq!(data(&read(&world, &at).await), [1, 2, 3, 4]);
    assert_eq!(data(&read(&world, &after).await), [2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_timestamp_is_a_position_too() {
    let world = one_shard().await;
    put(&world, 0, 1);
    pass(1000).await;
    put(&world, 1, 1);
    pass(1000).await;
    let at = async |millis: u64| {
        let timestamp = DateTime::from_millis(i64::try_from(moment(millis)).expect("small"));
        let get = world.kinesis.get_shard_iterator().stream_name("s").shard_id(SHARD);
        get.shard_iterator_type(ShardIteratorType::AtTimestamp).timestamp(timestamp).send().await
    };
    for (millis, expected) in [(0, vec![0, 1]), (500, vec![1]), (1000, vec![1]), (1500, vec![])] {
        let found = at(millis).await.expect("an iterator");
        let output = read(&world, found.shard_iterator().expect("an iterator")).await;
        assert_eq!(data(&output), expected, "at {millis}");
        pass(1000).await;
    }
    assert_eq!(code(at(3_600_000).await), "InvalidArgumentException", "far in the future");
    let soon = at(16_000).await.expect("a little ahead is a clock that differs");
    put(&world, 2, 1);
    pass(20_000).await;
    put(&world, 3, 1);
    assert_eq!(data(&read(&world, soon.shard_iterator().expect("an iterator")).await), [3]);
}

#[tokio::test(start_paused = true)]
async fn bad_positions_are_refused() {
    let world = one_shard().await;
    let get = |shard: &str| world.kinesis.get_shard_iterator().stream_name("s").shard_id(shard);
    let at = ShardIteratorType::AtSequenceNumber;
    let unknown = get("shardId-000000000007").shard_iterator_type(ShardIteratorType::Latest).send().await;
    assert_eq!(code(unknown), "ResourceNotFoundException");
    let missing = get(SHARD).shard_iterator_type(at.clone()).send().await;
    assert_eq!(code(missing), "InvalidArgumentException");
    let foreign = get(SHARD).shard_iterator_type(at).starting_sequence_number("49".repeat(28)).send().await;
    assert_eq!(code(foreign), "InvalidArgumentException");
    let junk = world.kinesis.get_records().shard_iterator("junk").send().await;
    assert_eq!(code(junk), "InvalidArgumentException");
}

#[tokio::test(start_paused = true)]
async fn iterators_advance_and_say_how_far_behind() {
    let world = one_shard().await;
    for index in 0..5 {
        put(&world, index, 1);
        pass(1000).await;
    }
    let mut next = iterator(&world, SHARD, ShardIteratorType::TrimHorizon, None).await;
    let mut seen = Vec::new();
    for behind in [4600, 2800, 0] {
        pass(200).await;
        let output = world.kinesis.get_records().shard_iterator(&next).limit(2).send().await.expect("read");
        seen.extend(data(&output));
        let expected = if behind == 0 { 0 } else { behind - 400 };
        assert_eq!(output.millis_behind_latest(), Some(expected), "{seen:?}");
        next = output.next_shard_iterator().expect("the shard is open").to_owned();
    }
    assert_eq!(seen, [0, 1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn an_iterator_lives_five_minutes() {
    let world = one_shard().await;
    let start = iterator(&world, SHARD, ShardIteratorType::TrimHorizon, None).await;
    pass(300_000).await;
    read(&world, &start).await;
    pass(1).await;
    assert_eq!(code(world.kinesis.get_records().shard_iterator(start).send().await), "ExpiredIteratorException");
}

#[tokio::test(start_paused = true)]
async fn a_shard_answers_five_reads_a_second() {
    let world = one_shard().await;
    let start = iterator(&world, SHARD, ShardIteratorType::TrimHorizon, None).await;
    for _ in 0..5 {
        read(&world, &start).await;
    }
    let sixth = world.kinesis.get_records().shard_iterator(&start).send().await;
    assert_eq!(code(sixth), "ProvisionedThroughputExceededException");
    pass(1000).await;
    read(&world, &start).await;
    for _ in 0..4 {
        iterator(&world, SHARD, ShardIteratorType::Latest, None).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_read_is_cut_at_ten_mebibytes_and_paid_for() {
    let world = one_shard().await;
    let records: Vec<_> = (0..12).map(|_| ("k".to_owned(), Bytes::from(vec![b'x'; 1 << 20]))).collect();
    world.emulator.put_records("s", &records).expect("put");
    let start = iterator(&world, SHARD, ShardIteratorType::TrimHorizon, None).await;
    let output = read(&world, &start).await;
    assert_eq!(output.records().len(), 9, "ten records and their keys would exceed 10 MiB");
    let next = output.next_shard_iterator().expect("more");
    pass(4000).await;
    let early = world.kinesis.get_records().shard_iterator(next).send().await;
    assert_eq!(code(early), "ProvisionedThroughputExceededException");
    pass(1000).await;
    assert_eq!(read(&world, next).await.records().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_a_read_is_ten_thousand() {
    let world = world_with(Options { limits: false, ..Options::new(clock()) }).await;
    world.emulator.create_stream("s", 1).expect("made");
    put(&world, 0, 10_001);
    let start = iterator(&world, SHARD, ShardIteratorType::TrimHorizon, None).await;
    let output = read(&world, &start).await;
    assert_eq!(output.records().len(), 10_000);
    let rest = read(&world, output.next_shard_iterator().expect("more")).await;
    assert_eq!(data(&rest), [10_000]);
    let above = world.kinesis.get_records().shard_iterator(start).limit(10_001).send().await;
    assert_eq!(code(above), "ValidationException");
}

#[tokio::test(start_paused = true)]
async fn a_closed_shard_ends_with_its_children() {
    let world = one_shard().await;
    put(&world, 0, 3);
    let start = iterator(&world, SHARD, ShardIteratorType::TrimHorizon, None).await;
    world.emulator.split_shard("s", SHARD).expect("split");
    put(&world, 3, 1);
    let part = world.kinesis.get_records().shard_iterator(start).limit(2).send().await.expect("read");
    assert!(part.child_shards().is_empty());
    let last = read(&world, part.next_shard_iterator().expect("one record is left")).await;
    assert_eq!(data(&last), [2], "records put after the split are in a child");
    assert!(last.next_shard_iterator().is_none());
    assert_eq!(last.millis_behind_latest(), Some(0));
    let children = last.child_shards();
    assert_eq!(children.len(), 2);
    assert_eq!(children[0].parent_shards(), [SHARD]);
    let middle = u128::MAX / 2;
    assert_eq!(children[0].hash_key_range().expect("a range").ending_hash_key(), middle.to_string());
    assert_eq!(children[1].hash_key_range().expect("a range").starting_hash_key(), (middle + 1).to_string());

    let at_end = iterator(&world, SHARD, ShardIteratorType::Latest, None).await;
    let output = read(&world, &at_end).await;
    assert!(output.next_shard_iterator().is_none() && output.child_shards().len() == 2, "an empty end is an end");
}

#[tokio::test(start_paused = true)]
async fn the_child_of_a_merge_has_two_parents() {
    let world = world().await;
    world.emulator.create_stream("s", 2).expect("made");
    let start = iterator(&world, SHARD, ShardIteratorType::TrimHorizon, None).await;
    world.emulator.merge_shards("s", SHARD, "shardId-000000000001").expect("merged");
    let output = read(&world, &start).await;
    assert_eq!(output.child_shards().len(), 1);
    assert_eq!(output.child_shards()[0].parent_shards(), [SHARD, "shardId-000000000001"]);
}

#[tokio::test(start_paused = true)]
async fn an_iterator_of_a_deleted_stream_finds_nothing() {
    let world = one_shard().await;
    let start = iterator(&world, SHARD, ShardIteratorType::TrimHorizon, None).await;
    world.kinesis.delete_stream().stream_name("s").send().await.expect("deleted");
    let gone = world.kinesis.get_records().shard_iterator(&start).send().await;
    assert_eq!(code(gone), "ResourceNotFoundException");
}

#[tokio::test(start_paused = true)]
async fn old_records_fall_behind_the_trim_horizon() {
    let world = world_with(Options { retention_millis: 3_600_000, ..Options::new(clock()) }).await;
    world.emulator.create_stream("s", 1).expect("made");
    let numbers = put(&world, 0, 2);
    pass(3_000_000).await;
    put(&world, 2, 1);
    pass(1_000_000).await;
    let start = iterator(&world, SHARD, ShardIteratorType::TrimHorizon, None).await;
    assert_eq!(data(&read(&world, &start).await), [2]);
    let at = iterator(&world, SHARD, ShardIteratorType::AtSequenceNumber, Some(&numbers[0])).await;
    assert_eq!(data(&read(&world, &at).await), [2], "a trimmed position begins at the horizon");
}
