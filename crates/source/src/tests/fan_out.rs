//! Enhanced fan-out against a service that misbehaves by script.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_kinesis::config::{BehaviorVersion, Region};
use aws_sdk_kinesis::types::ShardIteratorType;
use aws_types::SdkConfig;
use serde_json::{Value, json};
use standpipe_flow::{LeaseKey, Millis, Position, Read, ReadError, SequenceNumber, ShardId, ShardReader, Tenure};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::time::Instant;

use super::script::{Arrived, Part, Say, Script};
use super::{Seeded, TestClock};
use crate::consumer::Consumer;
use crate::{FanOut, PollingSettings, ReadFrom, Stream, StreamError, StreamRef, Unpack, Watch, Way};

const SEC: Duration = Duration::from_secs(1);
const ARN: &str = "arn:aws:kinesis:eu-west-1:111122223333:stream/orders";

/// Remembers what it heard.
#[derive(Debug, Default)]
pub(super) struct Ear {
    ways: Mutex<Vec<(Way, i32)>>,
    reconnects: Mutex<Vec<&'static str>>,
}

impl Ear {
    /// Shards that are read by fan-out and by polling.
    pub(super) fn reads(&self) -> (i32, i32) {
        let ways = self.ways.lock().expect("no test panics with the lock held");
        let sum = |way| ways.iter().filter(|(of, _)| *of == way).map(|(_, change)| change).sum();
        (sum(Way::FanOut), sum(Way::Polling))
    }

    pub(super) fn reconnects(&self) -> Vec<&'static str> {
        self.reconnects.lock().expect("no test panics with the lock held").clone()
    }
}

impl Watch for Ear {
    fn begins(&self, way: Way) {
        self.ways.lock().expect("no test panics with the lock held").push((way, 1));
    }

    fn ends(&self, way: Way) {
        self.ways.lock().expect("no test panics with the lock held").push((way, -1));
    }

    fn reconnects(&self, why: &'static str) {
        self.reconnects.lock().expect("no test panics with the lock held").push(why);
    }
}

fn reader_from(script: &Script, position: Position, pinned: Option<Millis>) -> (FanOut, Arc<Ear>) {
    let shard = ShardId::new("shardId-000000000000");
    let (lease, tenure) = (LeaseKey::of(&shard), Tenure([7; 16]));
    let from = ReadFrom { lease, shard, tenure, position, pinned, unpack: Unpack::default() };
    let stream = script.stream();
    let ear = Arc::new(Ear::default());
    let consumer = Consumer::new("consumer-arn", stream.config.clone());
    (stream.fan_out(from, PollingSettings::default(), &consumer, ear.clone()), ear)
}

fn reader(script: &Script) -> (FanOut, Arc<Ear>) {
    reader_from(script, Position::TrimHorizon, None)
}

fn at(sequence: u64) -> Position {
    Position::at(SequenceNumber::from(sequence), 0)
}

fn records(sequences: &[u64]) -> Value {
    let data = base64_simd::STANDARD.encode_to_string("data");
    let record = |sequence: &u64| json!({ "SequenceNumber": sequence.to_string(), "Data": data, "PartitionKey": "k" });
    sequences.iter().map(record).collect()
}

/// An event with these records and this continuation, at the tip.
fn event(sequences: &[u64], continuation: u64) -> Part {
    Part::Event(json!({
        "Records": records(sequences), "ContinuationSequenceNumber": continuation.to_string(), "MillisBehindLatest": 0,
        "ChildShards": [],
    }))
}

fn children() -> Value {
    json!([{
        "ShardId": "shardId-000000000001",
        "ParentShards": ["shardId-000000000000"],
        "HashKeyRange": { "StartingHashKey": "0", "EndingHashKey": "340282366920938463463374607431768211455" },
    }])
}

fn ended(sequences: &[u64]) -> Part {
    Part::Event(json!({ "Records": records(sequences), "MillisBehindLatest": 0, "ChildShards": children() }))
}

/// What GetRecords answers to a poll.
fn polled(sequences: &[u64]) -> Say {
    Say::Ok(json!({ "Records": records(sequences), "MillisBehindLatest": 0, "NextShardIterator": "next" }))
}

/// One answer to each SubscribeToShard, the last one for ever; polls give nothing.
fn subscriptions(answers: impl IntoIterator<Item = Vec<Part>>) -> Script {
    let answers: Vec<_> = answers.into_iter().collect();
    let mut next = 0;
    Script::new(move |call| {
        if call.operation != "SubscribeToShard" {
            return polled(&[]);
        }
        next += 1;
        Say::Events(answers[(next - 1).min(answers.len() - 1)].clone())
    })
}

/// The calls of SubscribeToShard: when, and where from.
fn calls(script: &Script) -> Vec<(Instant, Value)> {
    let subscribe = |call: Arrived| (call.at, call.body["StartingPosition"].clone());
    script.calls().into_iter().filter(|call| call.operation == "SubscribeToShard").map(subscribe).collect()
}

/// Reads until so many records have come, over whatever goes wrong. Chunks must continue each other.
async fn read(reader: &mut FanOut, count: usize) -> Vec<u64> {
    let (mut sequences, mut position) = (Vec::new(), reader.position().clone());
    while sequences.len() < count {
        match reader.next().await {
            Ok(Read::Chunk(chunk)) => {
                assert_eq!(chunk.from, position, "no read gap (I15)");
                position = chunk.to;
                sequences.extend(chunk.records.iter().map(|record| record.sequence.as_str().parse::<u64>()));
            }
            Ok(Read::End { .. }) => panic!("not the end"),
            Ok(_) | Err(ReadError::Again { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    sequences.into_iter().collect::<Result<_, _>>().expect("numbers")
}

async fn end(reader: &mut FanOut) -> usize {
    loop {
        match reader.next().await {
            Ok(Read::End { children }) => return children.len(),
            Ok(Read::Chunk(_)) => panic!("the end"),
            Ok(_) | Err(ReadError::Again { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn events_are_chunks_and_the_end_comes_after_the_last_record() {
    let script = subscriptions([vec![event(&[1, 2], 2), Part::Unknown, event(&[], 4), ended(&[7])]]);
    let (mut reader, ear) = reader(&script);
    assert_eq!(read(&mut reader, 2).await, [1, 2]);
    assert!(matches!(reader.next().await, Ok(Read::Empty { behind }) if behind.is_zero()));
    assert_eq!(read(&mut reader, 1).await, [7]);
    assert_eq!((end(&mut reader).await, end(&mut reader).await), (1, 1), "the end stays the end");
    assert_eq!(calls(&script).len(), 1);
    assert_eq!(ear.reads(), (1, 0));
    drop(reader);
    assert_eq!(ear.reads(), (0, 0));
}

/// `testContinuesAfterSequence` (KCL): a subscription goes on after the last continuation, with records or without.
#[tokio::test(start_paused = true)]
async fn a_subscription_goes_on_after_the_last_continuation() {
    let parts = vec![event(&[1], 1), event(&[], 5), Part::Wait(14)];
    let script = subscriptions([parts, vec![event(&[7], 8)], vec![event(&[9], 9), Part::Silence]]);
    let (mut reader, ear) = reader(&script);
    assert_eq!(read(&mut reader, 3).await, [1, 7, 9]);
    let calls = calls(&script);
    assert_eq!(calls[0].1, json!({ "Type": "TRIM_HORIZON" }));
    assert_eq!(calls[1].1, json!({ "Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": "5" }));
    assert_eq!(calls[2].1, json!({ "Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": "8" }));
    let pause = calls[2].0 - calls[1].0;
    assert!((SEC..2 * SEC).contains(&pause), "{pause:?}: a second at least, and not all readers together");
    assert_eq!(ear.reconnects(), ["renewed", "renewed"]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_begins_as_polling_does() {
    let (pinned, zero) = (Some(Millis(1_500)), Position::TrimHorizon);
    for (position, pinned, start) in [
        (zero.clone(), None, json!({ "Type": "TRIM_HORIZON" })),
        (zero, pinned, json!({ "Type": "AT_TIMESTAMP", "Timestamp": 1.5 })),
        (at(5), pinned, json!({ "Type": "AT_SEQUENCE_NUMBER", "SequenceNumber": "5" })),
    ] {
        let script = subscriptions([vec![event(&[5, 6], 6), event(&[7], 7), Part::Silence]]);
        let (mut reader, _) = reader_from(&script, position.clone(), pinned);
        let expected = if position == at(5) { vec![6, 7] } else { vec![5, 6, 7] };
        assert_eq!(read(&mut reader, expected.len()).await, expected);
        assert_eq!(calls(&script)[0].1, start);
    }
}

/// `restartFromShardEndCallsSubscribeToShardAtLatest` (KCL).
#[tokio::test(start_paused = true)]
async fn a_reader_that_begins_at_the_end_asks_for_the_children_at_latest() {
    let script = subscriptions([vec![ended(&[])]]);
    let (mut reader, _) = reader_from(&script, Position::ShardEnd, None);
    assert_eq!(end(&mut reader).await, 1);
    assert_eq!(calls(&script)[0].1, json!({ "Type": "LATEST" }));
}

/// `testIfPublisherIgnoresStaleEventsAndContinuesWithNextFlow` (KCL): what was given before is not given again.
#[tokio::test(start_paused = true)]
async fn what_an_event_repeats_is_dropped() {
    let script = subscriptions([vec![event(&[1, 2], 2), event(&[1, 2], 2), event(&[2, 3], 3), Part::Silence]]);
    let (mut reader, _) = reader(&script);
    assert_eq!(read(&mut reader, 3).await, [1, 2, 3]);
    assert_eq!(reader.counts().repeated, 3);
}

/// Row 72: an event without a continuation and without children is void, and no end of the shard.
#[tokio::test(start_paused = true)]
async fn an_empty_continuation_without_children_is_not_the_end() {
    let nothing = |continuation: Value| {
        Part::Event(json!({
            "Records": records(&[3, 4]), "ContinuationSequenceNumber": continuation, "MillisBehindLatest": 0,
            "ChildShards": [],
        }))
    };
    for continuation in [json!(null), json!("")] {
        let void = nothing(continuation);
        let script = subscriptions([vec![event(&[1], 2), void], vec![event(&[3, 4], 4), Part::Silence]]);
        let (mut reader, ear) = reader(&script);
        assert_eq!(read(&mut reader, 3).await, [1, 3, 4], "nothing of the void event counts");
        let calls = calls(&script);
        assert_eq!(calls[1].1, json!({ "Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": "2" }));
        assert!(calls[1].0 - calls[0].0 >= 5 * SEC, "sooner it would be refused");
        assert_eq!((ear.reconnects(), reader.counts().bad_answers), (vec!["invalid"], 1));
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_breaks_a_promise_is_void_as_a_whole() {
    let bad = [
        event(&[4, 3], 4),
        Part::Event(json!({ "Records": records(&[3]), "ContinuationSequenceNumber": "x", "MillisBehindLatest": 0 })),
        Part::Event(json!({
            "Records": records(&[3]), "ContinuationSequenceNumber": "3", "MillisBehindLatest": 0,
            "ChildShards": children(),
        })),
    ];
    for bad in bad {
        let script = subscriptions([vec![event(&[1], 1), bad], vec![event(&[3, 4], 4), Part::Silence]]);
        let (mut reader, ear) = reader(&script);
        assert_eq!(read(&mut reader, 3).await, [1, 3, 4]);
        assert_eq!(ear.reconnects(), ["invalid"]);
    }
}

/// `testReadTimeoutExceptionForShard` (KCL), and every other way in which a stream breaks off.
#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_off_is_made_anew_and_nothing_is_lost() {
    for (broken, why) in [
        (Part::Cut, "broken"),
        (Part::Exception("InternalFailureException"), "broken"),
        (Part::Exception("SomethingNewException"), "broken"),
        (Part::Exception("KMSThrottlingException"), "broken"),
        (Part::Silence, "silent"),
    ] {
        let parts = vec![event(&[1], 1), event(&[2], 3), broken.clone()];
        let script = subscriptions([parts, vec![event(&[4], 4), Part::Silence]]);
        let (mut reader, ear) = reader(&script);
        let start = Instant::now();
        assert_eq!(read(&mut reader, 3).await, [1, 2, 4]);
        assert_eq!(calls(&script)[1].1["SequenceNumber"], "3");
        assert_eq!(ear.reconnects(), [why], "{broken:?}");
        let waited = start.elapsed();
        // Our own watchdog takes 15 s; a subscription 5 s after a successful one is no earlier than allowed.
        let expected = if why == "silent" { 16 * SEC..18 * SEC } else { 5 * SEC..7 * SEC };
        assert!(expected.contains(&waited), "{broken:?}: {waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_stream_with_its_heartbeats_is_alive() {
    let heartbeat = |number| vec![Part::Wait(14), event(&[], number)];
    let script = subscriptions([(1..=20).flat_map(heartbeat).chain([event(&[30], 30)]).collect()]);
    let (mut reader, ear) = reader(&script);
    assert_eq!(read(&mut reader, 1).await, [30]);
    assert_eq!((calls(&script).len(), ear.reconnects().len()), (1, 0));
}

/// `testResourceNotFoundForShard` (KCL): a shard that is gone is gone when polling says so too; a consumer that is gone
/// is none.
#[tokio::test(start_paused = true)]
async fn a_shard_is_gone_when_polling_says_so_too() {
    let script = Script::raw(|_| Say::Error("ResourceNotFoundException"));
    let (mut reader, _) = reader(&script);
    assert!(matches!(reader.next().await, Err(ReadError::Gone { .. })));

    let mut next = 0;
    let script = Script::new(move |call| {
        if call.operation == "SubscribeToShard" {
            return Say::Error("ResourceNotFoundException");
        }
        next += 1;
        polled(&[next])
    });
    let (mut reader, ear) = self::reader(&script);
    assert_eq!(read(&mut reader, 3).await, [1, 2, 3], "the shard is read");
    assert_eq!((ear.reads(), reader.way()), ((0, 1), Some(Way::Polling)));
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_has_is_polled_for_five_seconds() {
    for in_stream in [false, true] {
        let mut subscribed = 0;
        let mut polls = 1;
        let script = Script::new(move |call| {
            if call.operation != "SubscribeToShard" {
                polls += 1;
                return polled(&[polls]);
            }
            subscribed += 1;
            match subscribed {
                1 if in_stream => Say::Events(vec![event(&[1], 1), Part::Exception("ResourceInUseException")]),
                1 => Say::Error("ResourceInUseException"),
                _ => Say::Events(vec![event(&[100], 100), Part::Silence]),
            }
        });
        let (mut reader, ear) = reader(&script);
        let mut sequences = Vec::new();
        while sequences.last() != Some(&100) {
            sequences.extend(read(&mut reader, 1).await);
        }
        let first = if in_stream { 1 } else { 2 };
        let polled: Vec<_> = (first..first + sequences.len() as u64 - 1).chain([100]).collect();
        assert_eq!(sequences, polled, "reading goes on meanwhile, each record once");
        let calls = calls(&script);
        let pause = calls[1].0 - calls[0].0;
        assert!((5 * SEC..12 * SEC).contains(&pause), "{pause:?}");
        assert_eq!(calls[1].1["SequenceNumber"], (99 - (99 - sequences[sequences.len() - 2])).to_string());
        assert_eq!((ear.reconnects(), ear.reads()), (vec!["in_use"], (1, 0)));
    }
}

#[tokio::test(start_paused = true)]
async fn after_repeated_failures_the_shard_is_polled_for_a_while_and_then_subscribed_to_again() {
    for silent in
        [None, Some(Say::Reset), Some(Say::Silence), Some(Say::Status(503)), Some(Say::Error("LimitExceededException"))]
    {
        let (mut subscribed, mut polls) = (0, 1);
        let script = Script::new(move |call| {
            if call.operation != "SubscribeToShard" {
                polls += 1;
                return polled(&[polls]);
            }
            subscribed += 1;
            match (&silent, subscribed) {
                (_, 4..) => Say::Events(vec![event(&[1000], 1000), Part::Silence]),
                (None, 1) => Say::Events(vec![event(&[1], 1), Part::Cut]),
                // The head of the answer comes, and nothing else.
                (None, _) => Say::Events(vec![Part::Cut]),
                (Some(Say::Reset), _) => Say::Reset,
                (Some(Say::Silence), _) => Say::Silence,
                (Some(Say::Status(status)), _) => Say::Status(*status),
                _ => Say::Error("LimitExceededException"),
            }
        });
        let (mut reader, ear) = reader(&script);
        let mut sequences = Vec::new();
        while sequences.last() != Some(&1000) {
            sequences.extend(read(&mut reader, 1).await);
        }
        let first = sequences[0];
        let expected: Vec<_> = (first..first + sequences.len() as u64 - 1).chain([1000]).collect();
        assert_eq!(sequences, expected, "each record once");
        let calls = calls(&script);
        assert_eq!((calls.len(), ear.reconnects().len(), ear.reads()), (4, 3, (1, 0)));
        let polled = calls[3].0 - calls[2].0;
        assert!((30 * SEC..75 * SEC).contains(&polled), "polled for {polled:?}");
        assert!(sequences.len() > 25, "{} records meanwhile", sequences.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_not_permitted_is_polled_for() {
    for code in ["AccessDeniedException", "InvalidArgumentException"] {
        let mut polls = 0;
        let script = Script::new(move |call| {
            if call.operation == "SubscribeToShard" {
                return Say::Error(code);
            }
            polls += 1;
            polled(&[polls])
        });
        let (mut reader, ear) = reader(&script);
        assert_eq!(read(&mut reader, 600).await.len(), 600);
        assert_eq!(ear.reads(), (0, 1));
        let calls = calls(&script).len();
        assert!((2..=8).contains(&calls), "{code}: asked for {calls} times in ten minutes");
    }
}

/// Row 60 (`testNoDeadlockOnFullQueueAndLossOfNotification`): there is no queue that could fill. A caller that comes back
/// late finds what waits in the connection first, and the watchdog only then.
#[tokio::test(start_paused = true)]
async fn a_caller_that_comes_late_goes_on_where_it_was() {
    let parts = (1..=20).map(|number| event(&[number], number)).chain([Part::Silence]).collect();
    let script = subscriptions([parts, vec![event(&[21], 21), Part::Silence]]);
    let (mut reader, ear) = reader(&script);
    for number in 1..=20 {
        assert_eq!(read(&mut reader, 1).await, [number]);
        tokio::time::sleep(20 * SEC).await;
    }
    assert!(ear.reconnects().is_empty(), "the caller was slow, not the stream");
    assert_eq!(read(&mut reader, 1).await, [21]);
    assert_eq!(ear.reconnects(), ["silent"]);
}

/// Row 61 (`testResetClearsRemainingData`): a reader that begins anew has nothing of the one before.
#[tokio::test(start_paused = true)]
async fn a_reader_that_begins_anew_begins_where_it_is_told() {
    let script = subscriptions([vec![event(&[1, 2, 3], 3), event(&[4], 4), Part::Silence]]);
    let (mut first, _) = reader(&script);
    assert_eq!(read(&mut first, 4).await, [1, 2, 3, 4]);
    drop(first);
    let (mut again, _) = reader_from(&script, at(2), None);
    assert_eq!(read(&mut again, 2).await, [3, 4]);
}

fn described(status: &str) -> Say {
    Say::Ok(json!({ "ConsumerDescription": {
        "ConsumerName": "c", "ConsumerARN": "the-arn", "ConsumerStatus": status, "ConsumerCreationTimestamp": 1.0,
        "StreamARN": ARN,
    } }))
}

#[tokio::test(start_paused = true)]
async fn a_consumer_is_registered_once_and_waited_for() {
    let (mut registered, mut looks) = (false, 0);
    let script = Script::new(move |call| match call.operation.as_str() {
        "RegisterStreamConsumer" => {
            registered = true;
            Say::Ok(json!({ "Consumer": {
                "ConsumerName": "c", "ConsumerARN": "the-arn", "ConsumerStatus": "CREATING",
                "ConsumerCreationTimestamp": 1.0,
            } }))
        }
        "DescribeStreamConsumer" if !registered => Say::Error("ResourceNotFoundException"),
        _ => {
            looks += 1;
            described(if looks < 4 { "CREATING" } else { "ACTIVE" })
        }
    });
    let stream = script.stream();
    assert_eq!(stream.registered_consumer(ARN, "c").await.map(|found| found.is_some()), Ok(false));
    let start = Instant::now();
    let consumer = stream.consumer(ARN, "c").await.expect("a consumer");
    assert_eq!((consumer.arn(), start.elapsed()), ("the-arn", 3 * SEC));
    stream.consumer(ARN, "c").await.expect("it is there");
    let bodies = script.bodies("RegisterStreamConsumer");
    assert_eq!(bodies, [json!({ "StreamARN": ARN, "ConsumerName": "c" })]);
    assert!(script.bodies("DeregisterStreamConsumer").is_empty());
}

/// Row 63 (`testStreamConsumerStuckInCreating`).
#[tokio::test(start_paused = true)]
async fn a_consumer_that_stays_creating_is_given_up_after_a_minute() {
    let script = Script::new(|_| described("CREATING"));
    let start = Instant::now();
    let stuck = script.stream().consumer(ARN, "c").await;
    assert!(matches!(stuck, Err(StreamError::Again { cause }) if cause.contains("ACTIVE")));
    assert_eq!(start.elapsed(), 60 * SEC);
}

#[tokio::test(start_paused = true)]
async fn a_registration_that_another_worker_won_is_found_and_a_denied_one_is_said() {
    let mut lost = false;
    let script = Script::new(move |call| match call.operation.as_str() {
        "RegisterStreamConsumer" => {
            lost = true;
            Say::Error("ResourceInUseException")
        }
        _ if lost => described("ACTIVE"),
        _ => Say::Error("ResourceNotFoundException"),
    });
    script.stream().consumer(ARN, "c").await.expect("the other worker's");
    let script = Script::new(|call| match call.operation.as_str() {
        "RegisterStreamConsumer" => Say::Error("AccessDeniedException"),
        _ => Say::Error("ResourceNotFoundException"),
    });
    let denied = script.stream().consumer(ARN, "c").await;
    assert!(matches!(denied, Err(StreamError::Denied { .. })));
}

#[tokio::test(start_paused = true)]
async fn eight_subscriptions_share_a_client_and_what_ends_makes_room() {
    let script = subscriptions([vec![Part::Silence]]);
    let stream = script.stream();
    let consumer = Consumer::new("arn", stream.config.clone());
    let mut seats: Vec<_> = (0..64).map(|_| consumer.seat()).collect();
    assert_eq!(consumer.clients(), 8);
    seats.drain(10..20);
    seats.extend((0..10).map(|_| consumer.seat()));
    assert_eq!(consumer.clients(), 8);
    seats.push(consumer.seat());
    assert_eq!(consumer.clients(), 9);
}

/// A Kinesis that answers every call with an iterator; tells how many connections came.
async fn counting(connections: Arc<Mutex<usize>>) -> (String, tokio::task::JoinSet<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    let mut server = tokio::task::JoinSet::new();
    server.spawn(async move {
        let mut served = tokio::task::JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            *connections.lock().expect("no test panics with the lock held") += 1;
            served.spawn(async move {
                let mut stream = BufReader::new(stream);
                loop {
                    let (mut line, mut length) = (String::new(), 0);
                    while stream.read_line(&mut line).await.is_ok_and(|read| read > 2) {
                        let header = line.to_ascii_lowercase();
                        length = header
                            .strip_prefix("content-length:")
                            .map_or(length, |text| text.trim().parse().expect("a number"));
                        line.clear();
                    }
                    if stream.read_exact(&mut vec![0; length]).await.is_err() || length == 0 {
                        return;
                    }
                    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 21\r\n\r\n{\"ShardIterator\":\"i\"}";
                    stream.write_all(answer.as_bytes()).await.expect("it listens");
                }
            });
        }
    });
    (endpoint, server)
}

#[tokio::test]
async fn each_client_has_connections_of_its_own() {
    let connections = Arc::new(Mutex::new(0));
    let (endpoint, _server) = counting(connections.clone()).await;
    let credentials = Credentials::from_keys("id", "secret", None);
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url(endpoint)
        .build();
    let reference = StreamRef::Name("orders".to_owned());
    let stream = Stream::new(&config, reference, Arc::new(TestClock::new()), Arc::new(Seeded::new(1)));
    let consumer = Consumer::new("arn", stream.config.clone());
    let seats: Vec<_> = (0..17).map(|_| consumer.seat()).collect();
    for seat in seats.iter().chain(&seats) {
        let call = seat.client().get_shard_iterator().stream_name("orders").shard_id("shardId-000000000000");
        call.shard_iterator_type(ShardIteratorType::Latest).send().await.expect("an iterator");
    }
    let connections = *connections.lock().expect("no test panics with the lock held");
    assert_eq!((consumer.clients(), connections), (3, 3), "one after the other, each client on its own connection");
}
