//! Consumers of a stream, and SubscribeToShard: events, heartbeats, renewals, take-over, the end of a shard, faults.

use std::time::Duration;

use aws_sdk_kinesis::error::SdkError;
use aws_sdk_kinesis::operation::subscribe_to_shard::SubscribeToShardOutput;
use aws_sdk_kinesis::types::error::SubscribeToShardEventStreamError as EventError;
use aws_sdk_kinesis::types::{
    ConsumerStatus, ShardIteratorType, StartingPosition, SubscribeToShardEvent, SubscribeToShardEventStream,
};
use bytes::Bytes;
use standpipe_emulator::{Fault, Options, Rule, Service};
use tokio::time::Instant;

use crate::support::{World, clients, clock, code, pass, world, world_with};

const SHARD: &str = "shardId-000000000000";
const ARN: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/s";

fn put(world: &World, from: usize, count: usize) -> Vec<String> {
    let records: Vec<_> = (from..from + count).map(|index| ("k".to_owned(), Bytes::from(index.to_string()))).collect();
    let placed = world.emulator.put_records("s", &records).expect("put");
    placed.into_iter().map(|placed| placed.sequence_number).collect()
}

async fn register(world: &World, name: &str) -> String {
    let made = world.kinesis.register_stream_consumer().stream_arn(ARN).consumer_name(name).send().await;
    made.expect("registered").consumer().expect("a consumer").consumer_arn().to_owned()
}

async fn consumer() -> (World, String) {
    let world = world().await;
    world.emulator.create_stream("s", 1).expect("made");
    let arn = register(&world, "c").await;
    (world, arn)
}

fn at(kind: ShardIteratorType, number: Option<&str>) -> StartingPosition {
    let position = StartingPosition::builder().r#type(kind).set_sequence_number(number.map(str::to_owned));
    position.build().expect("a type")
}

async fn subscribe(world: &World, arn: &str, position: StartingPosition) -> SubscribeToShardOutput {
    let call = world.kinesis.subscribe_to_shard().consumer_arn(arn).shard_id(SHARD).starting_position(position);
    call.send().await.expect("subscribed")
}

async fn refused(world: &World, arn: &str) -> String {
    let position = at(ShardIteratorType::TrimHorizon, None);
    let call = world.kinesis.subscribe_to_shard().consumer_arn(arn).shard_id(SHARD).starting_position(position);
    code(call.send().await)
}

/// The next event; `None` at the end.
async fn next(subscription: &mut SubscribeToShardOutput) -> Option<SubscribeToShardEvent> {
    match subscription.event_stream.recv().await.expect("no error")? {
        SubscribeToShardEventStream::SubscribeToShardEvent(event) => Some(event),
        other => panic!("an event, not {other:?}"),
    }
}

fn data(event: &SubscribeToShardEvent) -> Vec<String> {
    let text = |record: &aws_sdk_kinesis::types::Record| String::from_utf8(record.data().as_ref().to_vec());
    event.records().iter().map(|record| text(record).expect("text")).collect()
}

#[tokio::test(start_paused = true)]
async fn a_consumer_is_registered_once_and_becomes_active() {
    let world = world_with(Options { consumer_change_millis: 3000, ..Options::new(clock()) }).await;
    world.emulator.create_stream("s", 1).expect("made");
    let arn = register(&world, "c").await;
    assert!(arn.starts_with(&format!("{ARN}/consumer/c:")), "{arn}");
    let again = world.kinesis.register_stream_consumer().stream_arn(ARN).consumer_name("c").send().await;
    assert_eq!(code(again), "ResourceInUseException");
    let by_name = async || {
        let described = world.kinesis.describe_stream_consumer().stream_arn(ARN).consumer_name("c").send().await;
        described.expect("there").consumer_description().expect("described").consumer_status().clone()
    };
    assert_eq!(by_name().await, ConsumerStatus::Creating);
    assert_eq!(refused(&world, &arn).await, "ResourceInUseException");
    pass(3000).await;
    assert_eq!(by_name().await, ConsumerStatus::Active);
    let by_arn = world.kinesis.describe_stream_consumer().consumer_arn(&arn).send().await.expect("there");
    assert_eq!(by_arn.consumer_description().expect("described").stream_arn(), ARN);
    let listed = world.kinesis.list_stream_consumers().stream_arn(ARN).send().await.expect("listed");
    assert_eq!(listed.consumers().iter().map(|c| c.consumer_name()).collect::<Vec<_>>(), ["c"]);
    let kept = world.kinesis.delete_stream().stream_name("s").send().await;
    assert_eq!(code(kept), "ResourceInUseException", "a stream with consumers");
    world.kinesis.deregister_stream_consumer().consumer_arn(&arn).send().await.expect("gone");
    let gone = world.kinesis.describe_stream_consumer().stream_arn(ARN).consumer_name("c").send().await;
    assert_eq!(code(gone), "ResourceNotFoundException");
    assert_eq!(refused(&world, &arn).await, "ResourceNotFoundException");
}

#[tokio::test(start_paused = true)]
async fn consumers_are_bounded() {
    let world = world_with(Options { consumer_change_millis: 60_000, ..Options::new(clock()) }).await;
    world.emulator.create_stream("s", 1).expect("made");
    let made =
        async |name: String| world.kinesis.register_stream_consumer().stream_arn(ARN).consumer_name(name).send().await;
    for number in 0..20 {
        made(format!("c{number}")).await.expect("registered");
        if number % 5 == 4 {
            assert_eq!(code(made("more".to_owned()).await), "LimitExceededException", "five are CREATING");
            pass(60_000).await;
        }
    }
    assert_eq!(code(made("more".to_owned()).await), "LimitExceededException", "twenty are there");
}

#[tokio::test(start_paused = true)]
async fn events_follow_one_another_and_heartbeats_fill_the_silence() {
    let (world, arn) = consumer().await;
    put(&world, 0, 2);
    let mut subscription = subscribe(&world, &arn, at(ShardIteratorType::TrimHorizon, None)).await;
    let first = next(&mut subscription).await.expect("an event");
    assert_eq!((data(&first), first.millis_behind_latest()), (vec!["0".to_owned(), "1".to_owned()], 0));
    let start = Instant::now();
    let second = next(&mut subscription).await.expect("an event");
    assert_eq!((data(&second).len(), start.elapsed()), (0, Duration::from_secs(5)));
    assert!(!second.continuation_sequence_number().is_empty(), "progress without records");
    let (event, ()) = tokio::join!(next(&mut subscription), async {
        pass(1000).await;
        put(&world, 2, 1);
    });
    assert_eq!(data(&event.expect("an event")), ["2"]);
    assert_eq!(start.elapsed(), Duration::from_secs(6), "a record is given when it arrives");
}

#[tokio::test(start_paused = true)]
async fn a_subscription_lives_five_minutes_and_goes_on_after_its_continuation() {
    let (world, arn) = consumer().await;
    let start = Instant::now();
    let mut subscription = subscribe(&world, &arn, at(ShardIteratorType::Latest, None)).await;
    let mut events = Vec::new();
    while let Some(event) = next(&mut subscription).await {
        events.push(event);
    }
    assert_eq!(start.elapsed(), Duration::from_secs(300));
    assert_eq!(events.len(), 60, "one at once, and one every five seconds");
    put(&world, 0, 1);
    let continuation = events.last().expect("events").continuation_sequence_number();
    let position = at(ShardIteratorType::AfterSequenceNumber, Some(continuation));
    let mut renewed = subscribe(&world, &arn, position).await;
    assert_eq!(data(&next(&mut renewed).await.expect("an event")), ["0"]);
}

#[tokio::test(start_paused = true)]
async fn a_second_subscription_is_refused_for_five_seconds_and_then_takes_over() {
    let (world, arn) = consumer().await;
    let mut old = subscribe(&world, &arn, at(ShardIteratorType::Latest, None)).await;
    next(&mut old).await.expect("an event");
    assert_eq!(refused(&world, &arn).await, "LimitExceededException", "one call a second");
    pass(4999).await;
    assert_eq!(refused(&world, &arn).await, "ResourceInUseException");
    pass(1001).await;
    let mut new = subscribe(&world, &arn, at(ShardIteratorType::Latest, None)).await;
    let taken = old.event_stream.recv().await.expect_err("it was taken over");
    let SdkError::ServiceError(taken) = taken else { panic!("an exception, not {taken:?}") };
    assert!(matches!(taken.err(), EventError::ResourceInUseException(_)));
    put(&world, 0, 1);
    assert_eq!(data(&next(&mut new).await.expect("an event")), ["0"]);
    let other = register(&world, "other").await;
    let mut beside = subscribe(&world, &other, at(ShardIteratorType::TrimHorizon, None)).await;
    assert_eq!(data(&next(&mut beside).await.expect("an event")), ["0"], "another consumer has its own");
}

#[tokio::test(start_paused = true)]
async fn a_closed_shard_ends_with_its_children_and_without_a_continuation() {
    let (world, arn) = consumer().await;
    put(&world, 0, 1);
    let mut subscription = subscribe(&world, &arn, at(ShardIteratorType::TrimHorizon, None)).await;
    assert!(next(&mut subscription).await.expect("an event").child_shards().is_empty());
    world.emulator.split_shard("s", SHARD).expect("split");
    let end = next(&mut subscription).await.expect("an event");
    assert_eq!(end.continuation_sequence_number(), "");
    assert_eq!(
        end.child_shards().iter().map(|child| child.parent_shards()[0].as_str()).collect::<Vec<_>>(),
        [SHARD; 2]
    );
    assert!(next(&mut subscription).await.is_none());
    pass(5000).await;
    let mut again = subscribe(&world, &arn, at(ShardIteratorType::Latest, None)).await;
    let end = next(&mut again).await.expect("an event");
    assert_eq!((end.records().len(), end.child_shards().len()), (0, 2), "LATEST of a closed shard is its end");
}

#[tokio::test(start_paused = true)]
async fn a_backlog_comes_in_events_of_a_mebibyte_at_two_a_second() {
    let (world, arn) = consumer().await;
    let records: Vec<_> = (0..160).map(|_| ("k".to_owned(), Bytes::from(vec![b'x'; 65_535]))).collect();
    world.emulator.put_records("s", &records).expect("put");
    let mut subscription = subscribe(&world, &arn, at(ShardIteratorType::TrimHorizon, None)).await;
    let start = Instant::now();
    let (mut seen, mut behind) = (0, Vec::new());
    while seen < 160 {
        let event = next(&mut subscription).await.expect("an event");
        assert_eq!(event.records().len(), 16);
        seen += event.records().len();
        behind.push(event.millis_behind_latest() > 0);
    }
    assert_eq!(behind, [vec![true; 9], vec![false]].concat());
    assert!((3500..5500).contains(&start.elapsed().as_millis()), "10 MiB in {:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_ask_is_not_run_over() {
    let (world, arn) = consumer().await;
    let mut subscription = subscribe(&world, &arn, at(ShardIteratorType::TrimHorizon, None)).await;
    next(&mut subscription).await.expect("an event");
    for second in 0..100 {
        put(&world, second, 1);
        pass(1000).await;
    }
    assert_eq!(data(&next(&mut subscription).await.expect("an event")).len(), 100, "made when it is asked for");
}

/// Subscribes with this fault and reads until something else than an event comes.
async fn faulty(fault: Fault) -> (usize, String) {
    let (world, arn) = consumer().await;
    let rule = Rule::new(Service::Kinesis, fault).operation("SubscribeToShard").times(1);
    world.emulator.faults().add(rule);
    let position = at(ShardIteratorType::TrimHorizon, None);
    let call = world.kinesis.subscribe_to_shard().consumer_arn(arn).shard_id(SHARD).starting_position(position);
    let sent = tokio::time::timeout(Duration::from_secs(60), call.send()).await;
    let Ok(sent) = sent else { return (0, "no answer".to_owned()) };
    let mut subscription = match sent {
        Ok(subscription) => subscription,
        refused => return (0, code(refused)),
    };
    let mut events = 0;
    loop {
        let event = tokio::time::timeout(Duration::from_secs(60), subscription.event_stream.recv()).await;
        let Ok(event) = event else { return (events, "silence".to_owned()) };
        match event {
            Ok(Some(SubscribeToShardEventStream::SubscribeToShardEvent(event))) => {
                if event.continuation_sequence_number().is_empty() {
                    return (events, format!("invalid with {} children", event.child_shards().len()));
                }
                events += 1;
            }
            Ok(other) => return (events, format!("{other:?}")),
            Err(SdkError::ServiceError(error)) => match error.err() {
                EventError::ResourceInUseException(_) => return (events, "taken".to_owned()),
                EventError::InternalFailureException(_) => return (events, "failed".to_owned()),
                other => return (events, format!("{other:?}")),
            },
            Err(SdkError::DispatchFailure(failure)) if failure.is_io() => return (events, "broken".to_owned()),
            Err(other) => return (events, format!("{other:?}")),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn subscriptions_go_wrong_by_name() {
    for (fault, events, what) in [
        (Fault::Unanswered, 0, "no answer"),
        (Fault::InUse, 0, "ResourceInUseException"),
        (Fault::LimitExceeded, 0, "LimitExceededException"),
        (Fault::NotFound, 0, "ResourceNotFoundException"),
        (Fault::InternalError, 0, "InternalFailure"),
        (Fault::EventsCut(2), 2, "broken"),
        (Fault::EventsSilent(2), 2, "silence"),
        (Fault::EventInvalid(1), 1, "invalid with 0 children"),
        (Fault::EventsFail(1), 1, "failed"),
        (Fault::EventsTaken(1), 1, "taken"),
    ] {
        assert_eq!(faulty(fault).await, (events, what.to_owned()), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn events_end_with_the_consumer_the_stream_and_the_connection() {
    let (world, arn) = consumer().await;
    let mut subscription = subscribe(&world, &arn, at(ShardIteratorType::Latest, None)).await;
    next(&mut subscription).await.expect("an event");
    world.kinesis.deregister_stream_consumer().consumer_arn(&arn).send().await.expect("gone");
    assert!(matches!(subscription.event_stream.recv().await, Err(SdkError::ServiceError(error))
        if matches!(error.err(), EventError::ResourceNotFoundException(_))));
    let arn = register(&world, "c").await;
    let other = clients(&world.emulator, "other").await;
    let mut cut = subscribe(&other, &arn, at(ShardIteratorType::Latest, None)).await;
    next(&mut cut).await.expect("an event");
    other.connection.cut();
    assert!(matches!(cut.event_stream.recv().await, Err(SdkError::DispatchFailure(_))));
}
