//! Faults by name, as a client meets them, and the sameness of two runs of one seed.

use std::time::Duration;

use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::ShardIteratorType;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use standpipe_emulator::{Emulator, Fault, Latency, Options, Rule, Service};
use tokio::time::Instant;

use crate::support::{BASE_MILLIS, World, clients, clock, code, pass, world, world_with};

const SHARD: &str = "shardId-000000000000";

async fn world_with_all() -> World {
    let world = world().await;
    world.emulator.create_stream("s", 1).expect("made");
    world.emulator.create_bucket("bkt").expect("made");
    world
}

async fn put(world: &World) -> Result<(), String> {
    let put = world.kinesis.put_record().stream_name("s").partition_key("k").data(Blob::new("x")).send().await;
    if put.is_ok() { Ok(()) } else { Err(code(put)) }
}

async fn records(world: &World) -> usize {
    let get = world.kinesis.get_shard_iterator().stream_name("s").shard_id(SHARD);
    let get = get.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.expect("an iterator");
    let read = world.kinesis.get_records().shard_iterator(get.shard_iterator().expect("an iterator")).send().await;
    read.expect("read").records().len()
}

fn once(service: Service, operation: &str, fault: Fault) -> Rule {
    Rule::new(service, fault).operation(operation).times(1)
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_has_had_its_effect_and_a_lost_request_has_not() {
    let world = world_with_all().await;
    world.emulator.faults().add(once(Service::Kinesis, "PutRecord", Fault::DropAnswer));
    assert_eq!(put(&world).await, Err("io".to_owned()));
    assert_eq!(records(&world).await, 1);
    world.emulator.faults().add(once(Service::Kinesis, "PutRecord", Fault::DropRequest));
    assert_eq!(put(&world).await, Err("io".to_owned()));
    assert_eq!(records(&world).await, 1);
    put(&world).await.expect("the rules struck once each");
}

#[tokio::test(start_paused = true)]
async fn throttles_have_the_names_of_their_service() {
    let world = world_with_all().await;
    world.emulator.faults().add(Rule::everywhere(Fault::Throttle));
    assert_eq!(put(&world).await, Err("ProvisionedThroughputExceededException".to_owned()));
    assert_eq!(code(world.s3.head_object().bucket("bkt").key("k").send().await), "no code", "HEAD has no body");
    assert_eq!(code(world.s3.list_objects_v2().bucket("bkt").send().await), "SlowDown");
    assert_eq!(code(world.dynamodb.list_tables().send().await), "ProvisionedThroughputExceededException");
    world.emulator.faults().clear();
    put(&world).await.expect("no rule is left");
}

#[tokio::test(start_paused = true)]
async fn a_service_is_away_for_a_span() {
    let world = world_with_all().await;
    let away = Rule::new(Service::Kinesis, Fault::Away).between(BASE_MILLIS + 1000, BASE_MILLIS + 2000);
    world.emulator.faults().add(away);
    put(&world).await.expect("before");
    pass(1000).await;
    assert_eq!(put(&world).await, Err("io".to_owned()));
    world.s3.list_objects_v2().bucket("bkt").send().await.expect("the others are there");
    pass(1000).await;
    put(&world).await.expect("after");
}

#[tokio::test(start_paused = true)]
async fn internal_errors_come_with_and_without_effect() {
    let world = world_with_all().await;
    world.emulator.faults().add(once(Service::Kinesis, "PutRecord", Fault::InternalError));
    assert_eq!(put(&world).await, Err("InternalFailure".to_owned()));
    assert_eq!(records(&world).await, 0);
    world.emulator.faults().add(once(Service::Kinesis, "PutRecord", Fault::InternalErrorAfterEffect));
    assert_eq!(put(&world).await, Err("InternalFailure".to_owned()));
    assert_eq!(records(&world).await, 1);
}

#[tokio::test(start_paused = true)]
async fn an_iterator_expires_by_fault() {
    let world = world_with_all().await;
    world.emulator.faults().add(once(Service::Kinesis, "GetRecords", Fault::ExpiredIterator));
    let read = world.kinesis.get_records().shard_iterator("any").send().await;
    assert_eq!(code(read), "ExpiredIteratorException");
}

#[tokio::test(start_paused = true)]
async fn delays_are_virtual_and_of_three_kinds() {
    let world = world_with_all().await;
    let start = Instant::now();
    for fault in [Fault::Delay(70), Fault::DelayRequest(70), Fault::DelayAnswer(70)] {
        world.emulator.faults().add(once(Service::Kinesis, "PutRecord", fault));
        put(&world).await.expect("late, but there");
    }
    assert_eq!(start.elapsed(), Duration::from_millis(210));
    let trace = world.emulator.take_trace();
    let acted: Vec<_> = trace.iter().map(|entry| entry.acted_millis - BASE_MILLIS).collect();
    assert_eq!(acted, [70, 140, 140], "an answer that is late has had its effect at once");
}

#[tokio::test(start_paused = true)]
async fn a_request_arrives_though_its_sender_is_gone() {
    let world = world_with_all().await;
    world.emulator.faults().add(once(Service::Kinesis, "PutRecord", Fault::DelayRequest(3000)));
    let given_up = tokio::time::timeout(Duration::from_millis(100), put(&world)).await;
    assert!(given_up.is_err());
    assert_eq!(records(&world).await, 0);
    pass(3000).await;
    assert_eq!(records(&world).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_can_arrive_twice() {
    let world = world_with_all().await;
    world.emulator.faults().add(once(Service::Kinesis, "PutRecord", Fault::Repeat(500)));
    put(&world).await.expect("put");
    assert_eq!(records(&world).await, 1);
    pass(600).await;
    assert_eq!(records(&world).await, 2);
}

#[tokio::test(start_paused = true)]
async fn one_connection_is_cut_and_the_others_are_not() {
    let one = world_with_all().await;
    let other = clients(&one.emulator, "other").await;
    one.connection.cut();
    assert_eq!(put(&one).await, Err("io".to_owned()));
    put(&other).await.expect("whole");
    one.connection.mend();
    put(&one).await.expect("mended");
    let only = once(Service::Kinesis, "PutRecord", Fault::Throttle).connection("other");
    one.emulator.faults().add(only);
    put(&one).await.expect("not this one");
    assert_eq!(put(&other).await, Err("ProvisionedThroughputExceededException".to_owned()));
}

/// Completes an upload of one part; what the client is told.
async fn complete(world: &World) -> Result<(), String> {
    let create = world.s3.create_multipart_upload().bucket("bkt").key("k").send().await.expect("created");
    let id = create.upload_id().expect("an id");
    let upload = world.s3.upload_part().bucket("bkt").key("k").upload_id(id).part_number(1);
    let part = upload.body(ByteStream::from_static(b"x")).send().await.expect("uploaded");
    let part = CompletedPart::builder().part_number(1).set_e_tag(part.e_tag().map(str::to_owned)).build();
    let parts = CompletedMultipartUpload::builder().parts(part).build();
    let complete = world.s3.complete_multipart_upload().bucket("bkt").key("k").upload_id(id).multipart_upload(parts);
    let answer = complete.send().await;
    if answer.is_ok() { Ok(()) } else { Err(code(answer)) }
}

#[tokio::test(start_paused = true)]
async fn a_complete_can_fail_with_status_200() {
    let world = world_with_all().await;
    let operation = "CompleteMultipartUpload";
    world.emulator.faults().add(once(Service::S3, operation, Fault::OkWithError));
    assert_eq!(complete(&world).await, Err("InternalError".to_owned()));
    assert!(world.emulator.objects("bkt").is_empty() && world.emulator.open_uploads("bkt").len() == 1);
    world.emulator.faults().add(once(Service::S3, operation, Fault::OkWithErrorAfterEffect));
    assert_eq!(complete(&world).await, Err("InternalError".to_owned()));
    assert_eq!(world.emulator.objects("bkt").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_complete_that_succeeded_can_say_there_is_no_upload() {
    let world = world_with_all().await;
    let fault = Fault::NoSuchUploadAfterComplete;
    world.emulator.faults().add(once(Service::S3, "CompleteMultipartUpload", fault));
    assert_eq!(complete(&world).await, Err("NoSuchUpload".to_owned()));
    assert_eq!(world.emulator.objects("bkt").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_conflict_can_be_ordered() {
    let world = world_with_all().await;
    world.emulator.faults().add(Rule::new(Service::DynamoDb, Fault::TransactionConflict));
    let value = aws_sdk_dynamodb::types::AttributeValue::S("a".to_owned());
    let put = world.dynamodb.put_item().table_name("leases").item("leaseKey", value).send().await;
    assert_eq!(code(put), "TransactionConflictException");
}

/// A small storm on one seed: what was asked and what came of it.
async fn storm(seed: u64) -> Vec<String> {
    let latency = Latency { request: (1, 20), answer: (1, 20), transaction: (0, 0) };
    let world = world_with(Options { seed, latency, trace: true, ..Options::new(clock()) }).await;
    world.emulator.create_stream("s", 4).expect("made");
    for fault in [Fault::DropAnswer, Fault::DropRequest, Fault::Throttle, Fault::Repeat(30)] {
        world.emulator.faults().add(Rule::everywhere(fault).probability(0.2));
    }
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..4 {
        let world = clients(&world.emulator, &format!("w{worker}")).await;
        workers.spawn(async move {
            for turn in 0..10 {
                let put = world.kinesis.put_record().stream_name("s").partition_key(format!("{worker}.{turn}"));
                let _ = put.data(Blob::new("x")).send().await;
            }
        });
    }
    workers.join_all().await;
    pass(1000).await;
    world.emulator.take_trace().iter().map(ToString::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn one_seed_is_one_run() {
    let (first, second) = (storm(11).await, storm(11).await);
    assert!(first.len() > 40, "{} lines", first.len());
    assert_eq!(first, second);
    assert_ne!(first, storm(12).await);
}

#[tokio::test(start_paused = true)]
async fn the_trace_names_things_and_holds_no_content() {
    let world = world_with_all().await;
    let placed = world.emulator.put_records("s", &[("secret key".to_owned(), Bytes::from_static(b"secret"))]);
    placed.expect("put");
    put(&world).await.expect("put");
    records(&world).await;
    complete(&world).await.expect("completed");
    let _ = world.s3.get_object().bucket("bkt").key("none").send().await;
    let lines: Vec<_> = world.emulator.take_trace().iter().map(ToString::to_string).collect();
    assert!(
        lines.iter().any(|line| line.ends_with("test kinesis GetRecords s/shardId-000000000000@0 -> 200")),
        "{lines:#?}"
    );
    assert!(lines.iter().any(|line| line.ends_with("test s3 UploadPart /bkt/k#1 -> 200")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.ends_with("test s3 GetObject /bkt/none -> 404 NoSuchKey")), "{lines:#?}");
    assert!(lines.iter().all(|line| !line.contains("secret")));
}

#[tokio::test(start_paused = true)]
async fn an_emulator_needs_no_trace() {
    let emulator = Emulator::new(Options::new(clock())).expect("in memory");
    let world = clients(&emulator, "w").await;
    let _ = world.kinesis.list_streams().send().await.expect("listed");
    assert!(emulator.take_trace().is_empty());
}
