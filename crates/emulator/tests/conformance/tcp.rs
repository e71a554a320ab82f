//! The same endpoints on one port of 127.0.0.1, by the SDK's own HTTP client.

use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{ShardIteratorType, StartingPosition, SubscribeToShardEventStream};
use aws_sdk_s3::primitives::ByteStream;
use standpipe_emulator::{Emulator, Fault, Options, Rule, Service, serve};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::support::{builder, clock, code, services};

#[tokio::test]
async fn every_service_answers_on_one_port() {
    let emulator = Emulator::new(Options::new(clock())).expect("in memory");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let (stop, stopped) = oneshot::channel::<()>();
    let mut server = tokio::task::JoinSet::new();
    server.spawn(serve(emulator.clone(), listener, async {
        let _ = stopped.await;
    }));
    let config = builder().endpoint_url(endpoint).load().await;
    let (kinesis, dynamodb, s3) = services(&config);

    kinesis.create_stream().stream_name("s").shard_count(1).send().await.expect("made");
    kinesis.put_record().stream_name("s").partition_key("k").data(Blob::new("hello")).send().await.expect("put");
    let get = kinesis.get_shard_iterator().stream_name("s").shard_id("shardId-000000000000");
    let get = get.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.expect("an iterator");
    let read = kinesis.get_records().shard_iterator(get.shard_iterator().expect("an iterator")).send().await;
    assert_eq!(read.expect("read").records()[0].data().as_ref(), b"hello");

    let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
    let made = kinesis.register_stream_consumer().stream_arn(arn).consumer_name("c").send().await.expect("registered");
    let start = StartingPosition::builder().r#type(ShardIteratorType::TrimHorizon).build().expect("a type");
    let subscribe = kinesis.subscribe_to_shard().shard_id("shardId-000000000000").starting_position(start);
    let subscribe = subscribe.consumer_arn(made.consumer().expect("a consumer").consumer_arn());
    let mut events = subscribe.send().await.expect("subscribed").event_stream;
    for word in ["hello", "again"] {
        let Ok(Some(SubscribeToShardEventStream::SubscribeToShardEvent(event))) = events.recv().await else {
            panic!("an event")
        };
        assert_eq!(event.records()[0].data().as_ref(), word.as_bytes());
        kinesis.put_record().stream_name("s").partition_key("k").data(Blob::new("again")).send().await.expect("put");
    }
    drop(events);

    let hash = KeySchemaElement::builder().attribute_name("k").key_type(KeyType::Hash).build().expect("complete");
    let attribute = AttributeDefinition::builder().attribute_name("k").attribute_type(ScalarAttributeType::S);
    let create = dynamodb.create_table().table_name("leases").key_schema(hash).billing_mode(BillingMode::PayPerRequest);
    create.attribute_definitions(attribute.build().expect("complete")).send().await.expect("made");
    dynamodb.put_item().table_name("leases").item("k", AttributeValue::S("a".into())).send().await.expect("put");

    s3.create_bucket().bucket("bkt").send().await.expect("made");
    let data = vec![7u8; 3 << 20];
    s3.put_object().bucket("bkt").key("k").body(ByteStream::from(data.clone())).send().await.expect("put");
    let object = s3.get_object().bucket("bkt").key("k").send().await.expect("there");
    assert_eq!(object.body.collect().await.expect("read").to_vec(), data);

    emulator.faults().add(Rule::new(Service::S3, Fault::DropAnswer).times(1));
    let lost = s3.put_object().bucket("bkt").key("lost").body(ByteStream::from_static(b"x")).send().await;
    let lost = code(lost);
    assert!(["io", "dispatch"].contains(&lost.as_str()), "the connection was closed: {lost}");
    assert!(emulator.object("bkt", "lost").is_some(), "the effect happened");

    stop.send(()).expect("it is running");
    let ended = tokio::time::timeout(Duration::from_secs(10), server.join_next()).await.expect("it ends");
    ended.expect("one task").expect("no panic").expect("no error");
}
