//! ListShards: pages and filters.

use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::{Shard, ShardFilter, ShardFilterType};

use crate::support::{World, code, moment, pass, world};

fn ids(shards: &[Shard]) -> Vec<u32> {
    shards.iter().map(|shard| shard.shard_id()[8..].parse().expect("digits")).collect()
}

async fn filtered(world: &World, filter: ShardFilter) -> Vec<u32> {
    let listed = world.kinesis.list_shards().stream_name("s").shard_filter(filter).send().await.expect("listed");
    ids(listed.shards())
}

fn of(kind: ShardFilterType) -> ShardFilter {
    ShardFilter::builder().r#type(kind).build().expect("complete")
}

fn at(kind: ShardFilterType, millis: u64) -> ShardFilter {
    let timestamp = DateTime::from_millis(i64::try_from(moment(millis)).expect("small"));
    ShardFilter::builder().r#type(kind).timestamp(timestamp).build().expect("complete")
}

/// Shards 0, 1, 2 from the start; 0 is split into 3 and 4 after 10 s, 1 and 2 are merged into 5 after 20 s.
async fn reshaped() -> World {
    let world = world().await;
    world.emulator.create_stream("s", 3).expect("made");
    pass(10_000).await;
    world.emulator.split_shard("s", "shardId-000000000000").expect("split");
    pass(10_000).await;
    world.emulator.merge_shards("s", "shardId-000000000001", "shardId-000000000002").expect("merged");
    pass(10_000).await;
    world
}

#[tokio::test(start_paused = true)]
async fn pages_follow_one_another_by_token_alone() {
    let world = world().await;
    world.emulator.create_stream("s", 5).expect("made");
    let mut seen = Vec::new();
    let mut page = world.kinesis.list_shards().stream_name("s").max_results(2).send().await.expect("listed");
    loop {
        seen.extend(ids(page.shards()));
        let Some(token) = page.next_token() else { break };
        let both = world.kinesis.list_shards().stream_name("s").next_token(token).send().await;
        assert_eq!(code(both), "InvalidArgumentException", "a token excludes the name");
        page = world.kinesis.list_shards().next_token(token).max_results(2).send().await.expect("listed");
    }
    assert_eq!(seen, [0, 1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_token_keeps_its_filter_and_expires() {
    let world = reshaped().await;
    let page = world.kinesis.list_shards().stream_name("s").shard_filter(of(ShardFilterType::AtLatest));
    let page = page.max_results(2).send().await.expect("listed");
    assert_eq!(ids(page.shards()), [3, 4]);
    let token = page.next_token().expect("one more");
    let rest = world.kinesis.list_shards().next_token(token).send().await.expect("listed");
    assert_eq!(ids(rest.shards()), [5]);
    assert!(rest.next_token().is_none());
    pass(300_001).await;
    assert_eq!(code(world.kinesis.list_shards().next_token(token).send().await), "ExpiredNextTokenException");
    assert_eq!(code(world.kinesis.list_shards().next_token("junk").send().await), "InvalidArgumentException");
}

#[tokio::test(start_paused = true)]
async fn every_filter_lists_what_it_says() {
    let world = reshaped().await;
    use ShardFilterType::{AtLatest, AtTimestamp, AtTrimHorizon, FromTimestamp, FromTrimHorizon};
    assert_eq!(filtered(&world, of(AtLatest)).await, [3, 4, 5]);
    assert_eq!(filtered(&world, of(AtTrimHorizon)).await, [0, 1, 2]);
    assert_eq!(filtered(&world, of(FromTrimHorizon)).await, [0, 1, 2, 3, 4, 5]);
    assert_eq!(filtered(&world, at(AtTimestamp, 5_000)).await, [0, 1, 2]);
    assert_eq!(filtered(&world, at(AtTimestamp, 15_000)).await, [1, 2, 3, 4]);
    assert_eq!(filtered(&world, at(AtTimestamp, 25_000)).await, [3, 4, 5]);
    assert_eq!(filtered(&world, at(FromTimestamp, 15_000)).await, [1, 2, 3, 4, 5]);
    assert_eq!(filtered(&world, at(FromTimestamp, 25_000)).await, [3, 4, 5]);
    let after = ShardFilter::builder().r#type(ShardFilterType::AfterShardId).shard_id("shardId-000000000003");
    assert_eq!(filtered(&world, after.build().expect("complete")).await, [4, 5]);
    let without = world.kinesis.list_shards().stream_name("s").shard_filter(of(AtTimestamp)).send().await;
    assert_eq!(code(without), "InvalidArgumentException");
}

#[tokio::test(start_paused = true)]
async fn the_listing_can_begin_after_a_shard() {
    let world = reshaped().await;
    let listed = world.kinesis.list_shards().stream_name("s").exclusive_start_shard_id("shardId-000000000003");
    assert_eq!(ids(listed.send().await.expect("listed").shards()), [4, 5]);
}

#[tokio::test(start_paused = true)]
async fn a_closed_shard_has_an_end_and_its_children_know_it() {
    let world = reshaped().await;
    let listed = world.kinesis.list_shards().stream_name("s").send().await.expect("listed");
    let shards = listed.shards();
    let range = |index: usize| shards[index].sequence_number_range().expect("a range");
    assert!(range(0).ending_sequence_number().expect("closed") > range(0).starting_sequence_number());
    assert!(range(3).ending_sequence_number().is_none());
    assert!(range(3).starting_sequence_number() > range(0).ending_sequence_number().expect("closed"));
    assert_eq!(shards[3].parent_shard_id(), Some("shardId-000000000000"));
    assert_eq!(shards[4].parent_shard_id(), Some("shardId-000000000000"));
    assert_eq!(shards[5].adjacent_parent_shard_id(), Some("shardId-000000000002"));
}
