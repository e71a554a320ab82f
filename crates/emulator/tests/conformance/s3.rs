//! S3: objects, conditions, checksums, listings.

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode, Delete, ObjectIdentifier, ServerSideEncryption};

use crate::support::{World, code, happened, pass, world};

pub async fn world_with_bucket() -> World {
    let world = world().await;
    world.s3.create_bucket().bucket("bkt").send().await.expect("made");
    world
}

async fn put(world: &World, key: &str, data: &'static [u8]) {
    world.s3.put_object().bucket("bkt").key(key).body(ByteStream::from_static(data)).send().await.expect("put");
}

async fn get(world: &World, key: &str) -> Vec<u8> {
    let object = world.s3.get_object().bucket("bkt").key(key).send().await.expect("there");
    object.body.collect().await.expect("read").to_vec()
}

async fn head(world: &World, key: &str) -> HeadObjectOutput {
    world.s3.head_object().bucket("bkt").key(key).checksum_mode(ChecksumMode::Enabled).send().await.expect("there")
}

#[tokio::test(start_paused = true)]
async fn a_bucket_is_made_once_listed_and_deleted() {
    let world = world_with_bucket().await;
    assert_eq!(code(world.s3.create_bucket().bucket("bkt").send().await), "BucketAlreadyOwnedByYou");
    world.s3.head_bucket().bucket("bkt").send().await.expect("there");
    assert_eq!(code(world.s3.head_bucket().bucket("nowhere").send().await), "NotFound");
    let listed = world.s3.list_buckets().send().await.expect("listed");
    assert_eq!(listed.buckets()[0].name(), Some("bkt"));
    put(&world, "k", b"x").await;
    assert_eq!(code(world.s3.delete_bucket().bucket("bkt").send().await), "BucketNotEmpty");
    world.s3.delete_object().bucket("bkt").key("k").send().await.expect("deleted");
    world.s3.delete_bucket().bucket("bkt").send().await.expect("deleted");
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_is_not_there_is_said_not_to_be() {
    let world = world().await;
    let put = world.s3.put_object().bucket("nowhere").key("k").body(ByteStream::from_static(b"x")).send().await;
    assert_eq!(code(put), "NoSuchBucket");
    assert_eq!(code(world.s3.get_object().bucket("nowhere").key("k").send().await), "NoSuchBucket");
    assert_eq!(code(world.s3.list_objects_v2().bucket("nowhere").send().await), "NoSuchBucket");
    assert_eq!(code(world.s3.create_multipart_upload().bucket("nowhere").key("k").send().await), "NoSuchBucket");
}

#[tokio::test(start_paused = true)]
async fn an_object_comes_back_with_what_was_said_of_it() {
    let world = world_with_bucket().await;
    pass(5000).await;
    let put = world.s3.put_object().bucket("bkt").key("a/ü +1.gz").body(ByteStream::from_static(b"hello"));
    let put = put.content_encoding("gzip").content_type("application/json").cache_control("no-store");
    let put = put.metadata("cid", "c-1").metadata("ranges", "a=1;b=2").send().await.expect("put");
    assert_eq!(put.e_tag(), Some("\"5d41402abc4b2a76b9719d911017c592\""));
    let object = world.s3.get_object().bucket("bkt").key("a/ü +1.gz").send().await.expect("there");
    assert_eq!(object.content_encoding(), Some("gzip"));
    assert_eq!(object.content_type(), Some("application/json"));
    assert_eq!(object.cache_control(), Some("no-store"));
    assert_eq!(object.metadata().expect("metadata")["ranges"], "a=1;b=2");
    assert_eq!(object.content_length(), Some(5));
    assert!(happened(object.last_modified().expect("a time").secs() as u64 * 1000, 5000));
    assert_eq!(object.body.collect().await.expect("read").to_vec(), b"hello");
    let head = head(&world, "a/ü +1.gz").await;
    assert_eq!(head.metadata().expect("metadata")["cid"], "c-1");
    assert_eq!(head.content_length(), Some(5));
}

#[tokio::test(start_paused = true)]
async fn a_missing_object_is_missing() {
    let world = world_with_bucket().await;
    assert_eq!(code(world.s3.get_object().bucket("bkt").key("k").send().await), "NoSuchKey");
    assert_eq!(code(world.s3.head_object().bucket("bkt").key("k").send().await), "NotFound");
    world.s3.delete_object().bucket("bkt").key("k").send().await.expect("deleting nothing succeeds");
}

#[tokio::test(start_paused = true)]
async fn ranges_are_cut_out() {
    let world = world_with_bucket().await;
    put(&world, "k", b"0123456789").await;
    for (range, expected, header) in [
        ("bytes=2-4", &b"234"[..], "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-2", b"89", "bytes 8-9/10"),
        ("bytes=8-99", b"89", "bytes 8-9/10"),
    ] {
        let object = world.s3.get_object().bucket("bkt").key("k").range(range).send().await.expect("there");
        assert_eq!(object.content_range(), Some(header));
        assert_eq!(object.body.collect().await.expect("read").to_vec(), expected, "{range}");
    }
    let beyond = world.s3.get_object().bucket("bkt").key("k").range("bytes=10-11").send().await;
    assert_eq!(code(beyond), "InvalidRange");
}

#[tokio::test(start_paused = true)]
async fn an_object_is_put_only_if_there_is_none() {
    let world = world_with_bucket().await;
    let put = |data: &'static [u8]| {
        let put = world.s3.put_object().bucket("bkt").key("k").if_none_match("*");
        put.body(ByteStream::from_static(data)).send()
    };
    put(b"first").await.expect("the first");
    assert_eq!(code(put(b"second").await), "PreconditionFailed");
    assert_eq!(get(&world, "k").await, b"first");
}

#[tokio::test(start_paused = true)]
async fn of_16_conditional_puts_one_wins() {
    let world = world_with_bucket().await;
    let mut racers = tokio::task::JoinSet::new();
    for index in 0..16u8 {
        let put = world.s3.put_object().bucket("bkt").key("k").if_none_match("*");
        racers.spawn(put.body(ByteStream::from(vec![index])).send());
    }
    let results = racers.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_put_can_ask_for_the_present_version() {
    let world = world_with_bucket().await;
    put(&world, "k", b"one").await;
    let etag = head(&world, "k").await.e_tag().expect("an etag").to_owned();
    let put = |etag: &str| {
        let put = world.s3.put_object().bucket("bkt").key("k").if_match(etag);
        put.body(ByteStream::from_static(b"two")).send()
    };
    put(&etag).await.expect("it is the one");
    assert_eq!(code(put(&etag).await), "PreconditionFailed");
    let unchanged = world.s3.get_object().bucket("bkt").key("k").if_match(&etag).send().await;
    assert_eq!(code(unchanged), "PreconditionFailed");
}

#[tokio::test(start_paused = true)]
async fn checksums_are_checked_and_kept() {
    let world = world_with_bucket().await;
    let put = world.s3.put_object().bucket("bkt").key("k").body(ByteStream::from_static(b"123456789"));
    let put = put.checksum_algorithm(ChecksumAlgorithm::Crc32).send().await.expect("put");
    assert_eq!(put.checksum_crc32(), Some("y/Q5Jg=="));
    assert_eq!(head(&world, "k").await.checksum_crc32(), Some("y/Q5Jg=="));
    let plain = world.s3.head_object().bucket("bkt").key("k").send().await.expect("there");
    assert_eq!(plain.checksum_crc32(), None, "only when asked for");
    let wrong = world.s3.put_object().bucket("bkt").key("w").checksum_crc32("AAAAAA==");
    assert_eq!(code(wrong.body(ByteStream::from_static(b"x")).send().await), "BadDigest");
    assert_eq!(code(world.s3.head_object().bucket("bkt").key("w").send().await), "NotFound");
    let wrong = world.s3.put_object().bucket("bkt").key("w").content_md5("1B2M2Y8AsgTpgAmY7PhCfg==");
    assert_eq!(code(wrong.body(ByteStream::from_static(b"x")).send().await), "BadDigest");
}

#[tokio::test(start_paused = true)]
async fn a_streamed_body_arrives_whole_with_its_trailer() {
    let world = world_with_bucket().await;
    let data: Vec<u8> = (0..300_000u32).map(|index| (index % 251) as u8).collect();
    for algorithm in [ChecksumAlgorithm::Crc64Nvme, ChecksumAlgorithm::Crc32, ChecksumAlgorithm::Sha256] {
        // A body that is not in memory is sent in chunks, its checksum in the trailer.
        let copy = bytes::Bytes::from(data.clone());
        let streamed = ByteStream::new(SdkBody::retryable(move || {
            SdkBody::from_body_1_x(http_body_util::Full::new(copy.clone()))
        }));
        let put = world.s3.put_object().bucket("bkt").key("k").checksum_algorithm(algorithm.clone());
        put.content_encoding("gzip").body(streamed).send().await.expect("put");
        assert_eq!(get(&world, "k").await, data);
        let head = head(&world, "k").await;
        assert_eq!(head.content_length(), Some(300_000));
        assert_eq!(head.content_encoding(), Some("gzip"), "aws-chunked is not of the object");
        let sums = [head.checksum_crc64_nvme(), head.checksum_crc32(), head.checksum_sha256()];
        assert_eq!(sums.iter().flatten().count(), 1, "the one of the writer: {algorithm}");
    }
}

#[tokio::test(start_paused = true)]
async fn encryption_headers_are_echoed() {
    let world = world_with_bucket().await;
    let put = world.s3.put_object().bucket("bkt").key("k").server_side_encryption(ServerSideEncryption::AwsKms);
    let put = put.ssekms_key_id("key-1").bucket_key_enabled(true).send().await.expect("put");
    assert_eq!(put.server_side_encryption(), Some(&ServerSideEncryption::AwsKms));
    assert_eq!(put.ssekms_key_id(), Some("key-1"));
    let head = head(&world, "k").await;
    assert_eq!(head.server_side_encryption(), Some(&ServerSideEncryption::AwsKms));
    assert_eq!(head.bucket_key_enabled(), Some(true));
}

#[tokio::test(start_paused = true)]
async fn listings_have_prefixes_pages_and_starts() {
    let world = world_with_bucket().await;
    for key in ["a", "data/1/x", "data/1/y", "data/2/x", "data/3", "z"] {
        put(&world, key, b"x").await;
    }
    let list = || world.s3.list_objects_v2().bucket("bkt");
    let all = list().send().await.expect("listed");
    assert_eq!(all.contents().len(), 6);
    assert_eq!(all.contents()[0].e_tag(), Some("\"9dd4e461268c8034f5c8564e155c67a6\""));
    let grouped = list().prefix("data/").delimiter("/").send().await.expect("listed");
    let prefixes: Vec<_> = grouped.common_prefixes().iter().filter_map(|prefix| prefix.prefix()).collect();
    assert_eq!(prefixes, ["data/1/", "data/2/"]);
    assert_eq!(grouped.contents()[0].key(), Some("data/3"));
    assert_eq!(grouped.key_count(), Some(3));
    let after = list().start_after("data/1/y").send().await.expect("listed");
    assert_eq!(after.contents().len(), 3);

    let mut seen = Vec::new();
    let mut token = None;
    loop {
        let page = list().delimiter("/").max_keys(1).set_continuation_token(token).send().await.expect("listed");
        seen.extend(page.contents().iter().filter_map(|object| object.key().map(str::to_owned)));
        seen.extend(page.common_prefixes().iter().filter_map(|prefix| prefix.prefix().map(str::to_owned)));
        token = page.next_continuation_token().map(str::to_owned);
        assert_eq!(page.is_truncated(), Some(token.is_some()));
        if token.is_none() {
            break;
        }
    }
    assert_eq!(seen, ["a", "data/", "z"]);
    let versions = world.s3.list_object_versions().bucket("bkt").send().await.expect("listed");
    assert_eq!(versions.versions().len(), 6);
    assert_eq!(versions.versions()[0].version_id(), Some("null"));
}

#[tokio::test(start_paused = true)]
async fn several_objects_are_deleted_at_once() {
    let world = world_with_bucket().await;
    for key in ["a", "b", "c"] {
        put(&world, key, b"x").await;
    }
    let named = |key: &str| ObjectIdentifier::builder().key(key).build().expect("complete");
    let delete = Delete::builder().objects(named("a")).objects(named("c")).objects(named("nothing"));
    let deleted = world.s3.delete_objects().bucket("bkt").delete(delete.build().expect("complete")).send().await;
    assert_eq!(deleted.expect("deleted").deleted().len(), 3);
    let left: Vec<_> = world.emulator.objects("bkt").into_iter().map(|object| object.key).collect();
    assert_eq!(left, ["b"]);
}

#[tokio::test(start_paused = true)]
async fn an_object_is_copied() {
    let world = world_with_bucket().await;
    let put = world.s3.put_object().bucket("bkt").key("k").metadata("m", "1").body(ByteStream::from_static(b"data"));
    put.send().await.expect("put");
    world.s3.copy_object().bucket("bkt").key("l").copy_source("bkt/k").send().await.expect("copied");
    assert_eq!(get(&world, "l").await, b"data");
    assert_eq!(head(&world, "l").await.metadata().expect("metadata")["m"], "1");
    assert_eq!(world.emulator.object("bkt", "l").as_deref(), Some(&b"data"[..]));
}
