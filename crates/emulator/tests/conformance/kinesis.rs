//! Kinesis: streams, puts, resharding.

use std::time::Duration;

use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, ScalingType, StreamMode, StreamModeDetails, StreamStatus};
use standpipe_emulator::Options;

use crate::support::{clock, code, happened, pass, world, world_with};

fn entry(key: &str, bytes: usize) -> PutRecordsRequestEntry {
    PutRecordsRequestEntry::builder().partition_key(key).data(Blob::new(vec![b'x'; bytes])).build().expect("complete")
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_made_described_and_deleted() {
    let world = world().await;
    world.kinesis.create_stream().stream_name("s").shard_count(3).send().await.expect("made");
    let again = world.kinesis.create_stream().stream_name("s").shard_count(3).send().await;
    assert_eq!(code(again), "ResourceInUseException");

    let summary = world.kinesis.describe_stream_summary().stream_name("s").send().await.expect("described");
    let summary = summary.stream_description_summary().expect("a summary");
    assert_eq!(summary.open_shard_count(), 3);
    assert_eq!(summary.stream_status(), &StreamStatus::Active);
    assert_eq!(summary.stream_arn(), "arn:aws:kinesis:us-east-1:000000000000:stream/s");
    assert!(happened((summary.stream_creation_timestamp().as_secs_f64() * 1000.0).round() as u64, 0));
    assert_eq!(summary.retention_period_hours(), 24);

    let described = world.kinesis.describe_stream().stream_arn(summary.stream_arn()).limit(2).send().await;
    let described = described.expect("described by its ARN");
    let description = described.stream_description().expect("a description");
    assert_eq!(description.shards().len(), 2);
    assert!(description.has_more_shards());

    world.kinesis.delete_stream().stream_name("s").send().await.expect("deleted");
    let gone = world.kinesis.describe_stream_summary().stream_name("s").send().await;
    assert_eq!(code(gone), "ResourceNotFoundException");
}

#[tokio::test(start_paused = true)]
async fn a_new_stream_can_take_its_time() {
    let world = world_with(Options { stream_change_millis: 5000, ..Options::new(clock()) }).await;
    world.kinesis.create_stream().stream_name("s").shard_count(1).send().await.expect("made");
    let status = async || {
        let summary = world.kinesis.describe_stream_summary().stream_name("s").send().await.expect("described");
        summary.stream_description_summary().expect("a summary").stream_status().clone()
    };
    assert_eq!(status().await, StreamStatus::Creating);
    pass(5000).await;
    assert_eq!(status().await, StreamStatus::Active);
    world.emulator.split_shard("s", "shardId-000000000000").expect("split");
    assert_eq!(status().await, StreamStatus::Updating);
    let busy = world.emulator.split_shard("s", "shardId-000000000001");
    assert_eq!(busy.expect_err("still busy").kind(), "ResourceInUseException");
}

#[tokio::test(start_paused = true)]
async fn streams_are_listed_in_pages() {
    let world = world().await;
    for name in ["a", "b", "c"] {
        world.emulator.create_stream(name, 1).expect("made");
    }
    let first = world.kinesis.list_streams().limit(2).send().await.expect("listed");
    assert_eq!(first.stream_names(), ["a", "b"]);
    assert!(first.has_more_streams());
    let next = first.next_token().expect("a token");
    let second = world.kinesis.list_streams().next_token(next).send().await.expect("listed");
    assert_eq!(second.stream_names(), ["c"]);
    assert!(!second.has_more_streams());
}

#[tokio::test(start_paused = true)]
async fn sequence_numbers_have_56_digits_and_ascend() {
    let world = world().await;
    world.emulator.create_stream("s", 1).expect("made");
    let mut last = String::new();
    for _ in 0..5 {
        let put = world.kinesis.put_record().stream_name("s").partition_key("k").data(Blob::new("x"));
        let put = put.send().await.expect("put");
        assert_eq!(put.shard_id(), "shardId-000000000000");
        assert_eq!(put.sequence_number().len(), 56);
        assert!(put.sequence_number() > last.as_str());
        last = put.sequence_number().to_owned();
    }
}

#[tokio::test(start_paused = true)]
async fn records_go_where_their_hash_key_says() {
    let world = world().await;
    world.emulator.create_stream("s", 4).expect("made");
    let max = u128::MAX.to_string();
    for (hash, shard) in [("0", 0), ("85070591730234615865843651857942052864", 1), (max.as_str(), 3)] {
        let put = world.kinesis.put_record().stream_name("s").partition_key("k").explicit_hash_key(hash);
        let put = put.data(Blob::new("x")).send().await.expect("put");
        assert_eq!(put.shard_id(), format!("shardId-{shard:012}"), "{hash}");
    }
    // MD5("a") = 0cc1..., MD5("b") = 92eb...: the first and the third quarter.
    for (key, shard) in [("a", 0), ("b", 2)] {
        let put = world.kinesis.put_record().stream_name("s").partition_key(key).data(Blob::new("x")).send().await;
        assert_eq!(put.expect("put").shard_id(), format!("shardId-{shard:012}"), "{key}");
    }
    let put = world.kinesis.put_record().stream_name("s").partition_key("k").explicit_hash_key("minus one");
    assert_eq!(code(put.data(Blob::new("x")).send().await), "InvalidArgumentException");
}

#[tokio::test(start_paused = true)]
async fn put_records_takes_500_and_no_more() {
    let world = world().await;
    world.emulator.create_stream("s", 2).expect("made");
    let entries: Vec<_> = (0..500).map(|index| entry(&index.to_string(), 10)).collect();
    let put = world.kinesis.put_records().stream_name("s").set_records(Some(entries.clone())).send().await;
    let put = put.expect("put");
    assert_eq!(put.failed_record_count(), Some(0));
    assert_eq!(put.records().len(), 500);
    let put =
        world.kinesis.put_records().stream_name("s").set_records(Some(entries)).records(entry("k", 1)).send().await;
    assert_eq!(code(put), "ValidationException");
}

#[tokio::test(start_paused = true)]
async fn a_shard_takes_one_mebibyte_a_second() {
    let world = world().await;
    world.emulator.create_stream("s", 1).expect("made");
    let half = (1 << 19) - 1;
    let put = async || {
        let put = world.kinesis.put_records().stream_name("s");
        put.records(entry("k", half)).records(entry("k", half)).records(entry("k", half)).send().await.expect("put")
    };
    let answer = put().await;
    assert_eq!(answer.failed_record_count(), Some(1));
    assert_eq!(answer.records()[2].error_code(), Some("ProvisionedThroughputExceededException"));
    assert!(answer.records()[2].sequence_number().is_none());
    let single = world.kinesis.put_record().stream_name("s").partition_key("k").data(Blob::new("x")).send().await;
    assert_eq!(code(single), "ProvisionedThroughputExceededException");
    pass(1000).await;
    assert_eq!(put().await.failed_record_count(), Some(1), "a second later there is room for two again");
}

#[tokio::test(start_paused = true)]
async fn limits_can_be_switched_off() {
    let world = world_with(Options { limits: false, ..Options::new(clock()) }).await;
    world.emulator.create_stream("s", 1).expect("made");
    for _ in 0..4 {
        let put = world.kinesis.put_records().stream_name("s").records(entry("k", 1 << 20)).send().await.expect("put");
        assert_eq!(put.failed_record_count(), Some(0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_split_closes_the_parent_and_routes_to_the_children() {
    let world = world().await;
    world.emulator.create_stream("s", 1).expect("made");
    let middle = (u128::MAX / 2 + 1).to_string();
    let split = world.kinesis.split_shard().stream_name("s").shard_to_split("shardId-000000000000");
    split.new_starting_hash_key(&middle).send().await.expect("split");
    let put = world.kinesis.put_record().stream_name("s").partition_key("k").explicit_hash_key(&middle);
    assert_eq!(put.data(Blob::new("x")).send().await.expect("put").shard_id(), "shardId-000000000002");

    let split = world.kinesis.split_shard().stream_name("s").shard_to_split("shardId-000000000000");
    assert_eq!(code(split.new_starting_hash_key("5").send().await), "InvalidArgumentException", "it is closed");
    let split = world.kinesis.split_shard().stream_name("s").shard_to_split("shardId-000000000001");
    assert_eq!(code(split.new_starting_hash_key("0").send().await), "InvalidArgumentException", "its own start");
    let split = world.kinesis.split_shard().stream_name("s").shard_to_split("shardId-000000000009");
    assert_eq!(code(split.new_starting_hash_key("5").send().await), "ResourceNotFoundException");
}

#[tokio::test(start_paused = true)]
async fn only_neighbours_merge() {
    let world = world().await;
    world.emulator.create_stream("s", 3).expect("made");
    let merge = async |one: usize, other: usize| {
        let merge = world.kinesis.merge_shards().stream_name("s").shard_to_merge(format!("shardId-{one:012}"));
        merge.adjacent_shard_to_merge(format!("shardId-{other:012}")).send().await
    };
    assert_eq!(code(merge(0, 2).await), "InvalidArgumentException");
    merge(2, 1).await.expect("merged, whichever is named first");
    let shards = world.kinesis.list_shards().stream_name("s").send().await.expect("listed");
    let child = shards.shards().last().expect("a child");
    assert_eq!(child.parent_shard_id(), Some("shardId-000000000002"));
    assert_eq!(child.adjacent_parent_shard_id(), Some("shardId-000000000001"));
    let range = child.hash_key_range().expect("a range");
    assert_eq!(range.ending_hash_key(), u128::MAX.to_string());
    assert_eq!(world.emulator.open_shards("s").expect("a stream").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_shard_count_is_updated_uniformly() {
    let world = world().await;
    world.emulator.create_stream("s", 4).expect("made");
    for target in [6, 3, 5] {
        let update = world.kinesis.update_shard_count().stream_name("s").target_shard_count(target);
        let update = update.scaling_type(ScalingType::UniformScaling).send().await.expect("updated");
        assert_eq!(update.target_shard_count(), Some(target));
        let shards = world.kinesis.list_shards().stream_name("s").send().await.expect("listed");
        let open = shards.shards().iter().filter(|shard| {
            shard.sequence_number_range().is_some_and(|range| range.ending_sequence_number().is_none())
        });
        let mut ranges: Vec<(u128, u128)> = open
            .map(|shard| {
                let range = shard.hash_key_range().expect("a range");
                (range.starting_hash_key().parse().expect("a key"), range.ending_hash_key().parse().expect("a key"))
            })
            .collect();
        ranges.sort_unstable();
        assert_eq!(ranges.len(), usize::try_from(target).expect("small"));
        assert_eq!((ranges[0].0, ranges[ranges.len() - 1].1), (0, u128::MAX));
        assert!(ranges.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0), "the open shards tile: {ranges:?}");
    }
    let update = world.kinesis.update_shard_count().stream_name("s").target_shard_count(100);
    assert_eq!(code(update.scaling_type(ScalingType::UniformScaling).send().await), "InvalidArgumentException");
}

#[tokio::test(start_paused = true)]
async fn the_shard_count_is_updated_ten_times_in_a_day() {
    let world = world().await;
    world.emulator.create_stream("s", 2).expect("made");
    let update = |target| {
        let update = world.kinesis.update_shard_count().stream_name("s").target_shard_count(target);
        update.scaling_type(ScalingType::UniformScaling).send()
    };
    for round in 0..10 {
        update(2 + round % 2).await.expect("updated");
    }
    assert_eq!(code(update(2).await), "LimitExceededException");
    tokio::time::advance(Duration::from_secs(24 * 3600 + 1)).await;
    update(2).await.expect("updated a day later");
}

#[tokio::test(start_paused = true)]
async fn an_on_demand_stream_is_resharded_by_its_load_alone() {
    let world = world().await;
    let mode = StreamModeDetails::builder().stream_mode(StreamMode::OnDemand).build().expect("a mode");
    world.kinesis.create_stream().stream_name("s").stream_mode_details(mode).send().await.expect("made");
    let summary = world.kinesis.describe_stream_summary().stream_name("s").send().await.expect("described");
    let summary = summary.stream_description_summary().expect("a summary");
    assert_eq!(summary.stream_mode_details().map(|details| details.stream_mode()), Some(&StreamMode::OnDemand));
    assert_eq!(summary.open_shard_count(), 4);
    let first = world.emulator.open_shards("s").expect("a stream")[0].clone();
    let split = world.kinesis.split_shard().stream_name("s").shard_to_split(&first).new_starting_hash_key("7");
    assert_eq!(code(split.send().await), "ValidationException");
    let update = world.kinesis.update_shard_count().stream_name("s").target_shard_count(8);
    assert_eq!(code(update.scaling_type(ScalingType::UniformScaling).send().await), "ValidationException");

    // 1.5 MiB into one shard within a second: refused in part, and the stream doubles.
    let put = |part: u8| {
        let put = world.kinesis.put_record().stream_name("s").partition_key("k").data(Blob::new(vec![part; 786_432]));
        put.send()
    };
    put(1).await.expect("put");
    assert_eq!(code(put(2).await), "ProvisionedThroughputExceededException");
    assert_eq!(world.emulator.open_shards("s").expect("a stream").len(), 8);
    put(3).await.expect("its new shard takes it");
}

#[tokio::test(start_paused = true)]
async fn a_closed_shard_is_listed_until_its_records_are_past_the_retention() {
    let world = world().await;
    world.emulator.create_stream("s", 1).expect("made");
    world.emulator.split_shard("s", "shardId-000000000000").expect("split");
    let listed = || world.kinesis.list_shards().stream_name("s").send();
    assert_eq!(listed().await.expect("listed").shards().len(), 3);
    tokio::time::advance(Duration::from_secs(24 * 3600 + 1)).await;
    assert_eq!(listed().await.expect("listed").shards().len(), 2, "its parent has expired");
}

#[tokio::test(start_paused = true)]
async fn bad_requests_are_refused() {
    let world = world().await;
    world.emulator.create_stream("s", 1).expect("made");
    let put = world.kinesis.put_record().stream_name("s").partition_key("").data(Blob::new("x")).send().await;
    assert_eq!(code(put), "ValidationException");
    let put = world.kinesis.put_record().stream_name("t").partition_key("k").data(Blob::new("x")).send().await;
    assert_eq!(code(put), "ResourceNotFoundException");
    let put = world.kinesis.put_record().partition_key("k").data(Blob::new("x")).send().await;
    assert_eq!(code(put), "InvalidArgumentException");
    let create = world.kinesis.create_stream().stream_name("a/../b").shard_count(1).send().await;
    assert_eq!(code(create), "ValidationException");
    assert_eq!(code(world.kinesis.describe_limits().send().await), "UnknownOperationException");
}
