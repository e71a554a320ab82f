//! A data directory outlives the emulator: objects as plain files, open uploads, tables, streams.

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::ShardIteratorType;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use standpipe_emulator::Options;

use crate::support::{World, clock, code, pass, world_with};

async fn open(dir: &std::path::Path) -> World {
    world_with(Options { data_dir: Some(dir.to_owned()), ..Options::new(clock()) }).await
}

#[tokio::test(start_paused = true)]
async fn objects_are_plain_files_and_stay() {
    let dir = tempfile::tempdir().expect("a directory");
    let keys = ["2026/01/01/00/part-1.gz", "odd//key", "../escape", "a", "a/b", "trailing/"];
    {
        let world = open(dir.path()).await;
        world.emulator.create_bucket("bkt").expect("made");
        for key in keys {
            let put = world.s3.put_object().bucket("bkt").key(key).metadata("k", "v").content_encoding("gzip");
            put.body(ByteStream::from(key.as_bytes().to_vec())).send().await.expect("put");
        }
        world
            .s3
            .put_object()
            .bucket("bkt")
            .key("gone/x")
            .body(ByteStream::from_static(b"x"))
            .send()
            .await
            .expect("put");
        world.s3.delete_object().bucket("bkt").key("gone/x").send().await.expect("deleted");
    }
    let file = dir.path().join("s3/bkt/2026/01/01/00/part-1.gz");
    assert_eq!(std::fs::read(file).expect("a plain file"), b"2026/01/01/00/part-1.gz");
    assert!(!dir.path().join("s3/bkt/gone").exists(), "an empty directory does not stay");
    assert!(!dir.path().join("escape").exists() && !dir.path().join("s3/escape").exists());
    std::fs::write(dir.path().join("s3/bkt/by-hand"), b"123456789").expect("written");

    let world = open(dir.path()).await;
    for key in keys {
        let object = world.s3.get_object().bucket("bkt").key(key).send().await.expect("there");
        assert_eq!(object.metadata().expect("metadata")["k"], "v");
        assert_eq!(object.content_encoding(), Some("gzip"));
        assert_eq!(object.body.collect().await.expect("read").to_vec(), key.as_bytes());
    }
    let ranged = world.s3.get_object().bucket("bkt").key("by-hand").range("bytes=2-3").send().await.expect("there");
    assert_eq!(ranged.body.collect().await.expect("read").to_vec(), b"34");
    assert_eq!(world.emulator.objects("bkt").len(), keys.len() + 1);
}

#[tokio::test(start_paused = true)]
async fn an_open_upload_is_completed_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let (id, mut parts) = {
        let world = open(dir.path()).await;
        world.emulator.create_bucket("bkt").expect("made");
        let create = world.s3.create_multipart_upload().bucket("bkt").key("k").metadata("cid", "1").send().await;
        let id = create.expect("created").upload_id().expect("an id").to_owned();
        let upload = world.s3.upload_part().bucket("bkt").key("k").upload_id(&id).part_number(1);
        let part = upload.body(ByteStream::from(vec![1; 5 << 20])).send().await.expect("uploaded");
        (id, vec![CompletedPart::builder().part_number(1).set_e_tag(part.e_tag().map(str::to_owned)).build()])
    };
    let world = open(dir.path()).await;
    assert_eq!(world.emulator.open_uploads("bkt").len(), 1);
    let upload = world.s3.upload_part().bucket("bkt").key("k").upload_id(&id).part_number(2);
    let part = upload.body(ByteStream::from_static(b"end")).send().await.expect("uploaded");
    parts.push(CompletedPart::builder().part_number(2).set_e_tag(part.e_tag().map(str::to_owned)).build());
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let complete = world.s3.complete_multipart_upload().bucket("bkt").key("k").upload_id(&id).multipart_upload(parts);
    complete.send().await.expect("completed");
    assert_eq!(world.emulator.object("bkt", "k").expect("there").len(), (5 << 20) + 3);

    let world = open(dir.path()).await;
    assert!(world.emulator.open_uploads("bkt").is_empty(), "a completed upload does not come back");
    let head = world.s3.head_object().bucket("bkt").key("k").send().await.expect("there");
    assert_eq!(head.metadata().expect("metadata")["cid"], "1");
}

#[tokio::test(start_paused = true)]
async fn streams_go_on_where_they_were() {
    let dir = tempfile::tempdir().expect("a directory");
    let put = async |world: &World, data: &str| {
        let put = world.kinesis.put_record().stream_name("s").partition_key("k").explicit_hash_key("0");
        put.data(Blob::new(data)).send().await.expect("put").sequence_number().to_owned()
    };
    let before = {
        let world = open(dir.path()).await;
        world.emulator.create_stream("s", 1).expect("made");
        pass(10).await;
        put(&world, "one").await;
        world.emulator.split_shard("s", "shardId-000000000000").expect("split");
        put(&world, "two").await
    };
    // A record that was cut short by a crash.
    let log = dir.path().join("kinesis/s/shardId-000000000001.log");
    let mut bytes = std::fs::read(&log).expect("a log");
    bytes.extend_from_slice(b"{\"Data\":\"AAAA");
    std::fs::write(&log, bytes).expect("written");

    let world = open(dir.path()).await;
    assert!(put(&world, "three").await > before);
    let read = async |shard: &str| {
        let get = world.kinesis.get_shard_iterator().stream_name("s").shard_id(shard);
        let get = get.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.expect("an iterator");
        world.kinesis.get_records().shard_iterator(get.shard_iterator().expect("one")).send().await.expect("read")
    };
    let parent = read("shardId-000000000000").await;
    assert_eq!(parent.records()[0].data().as_ref(), b"one");
    assert_eq!(parent.child_shards().len(), 2);
    let child = read("shardId-000000000001").await;
    let data: Vec<_> = child.records().iter().map(|record| record.data().as_ref()).collect();
    assert_eq!(data, [&b"two"[..], b"three"]);
    world.kinesis.delete_stream().stream_name("s").send().await.expect("deleted");
    assert!(!dir.path().join("kinesis/s").exists());
}

#[tokio::test(start_paused = true)]
async fn tables_stay() {
    let dir = tempfile::tempdir().expect("a directory");
    {
        let world = open(dir.path()).await;
        let hash = KeySchemaElement::builder().attribute_name("k").key_type(KeyType::Hash).build().expect("complete");
        let attribute = AttributeDefinition::builder().attribute_name("k").attribute_type(ScalarAttributeType::S);
        let create = world.dynamodb.create_table().table_name("leases").key_schema(hash);
        let create = create.billing_mode(BillingMode::PayPerRequest);
        create.attribute_definitions(attribute.build().expect("complete")).send().await.expect("made");
        let put = world.dynamodb.put_item().table_name("leases").item("k", AttributeValue::S("a".into()));
        put.send().await.expect("put");
    }
    let world = open(dir.path()).await;
    let get = world.dynamodb.get_item().table_name("leases").key("k", AttributeValue::S("a".into())).send().await;
    assert!(get.expect("read").item().is_some());
    let put = world.dynamodb.put_item().table_name("leases").item("k", AttributeValue::S("a".into()));
    assert_eq!(
        code(put.condition_expression("attribute_not_exists(k)").send().await),
        "ConditionalCheckFailedException"
    );
}
