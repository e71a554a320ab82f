//! Against a service that misbehaves by script.

use std::time::Duration;

use serde_json::{Value, json};
use standpipe_flow::{
    Chunk, LeaseKey, Millis, Position, Read, ReadError, SequenceNumber, ShardId, ShardReader, Tenure,
};

use super::script::{Say, Script};
use crate::{
    Pack, Polling, PollingSettings, PutError, PutSettings, ReadFrom, ShardFilter, StreamError, StreamRef, StreamStatus,
    Tip, Unpack,
};

fn from(position: Position, pinned: Option<Millis>) -> ReadFrom {
    let shard = ShardId::new("shardId-000000000000");
    ReadFrom {
        lease: LeaseKey::of(&shard),
        shard,
        tenure: Tenure([7; 16]),
        position,
        pinned,
        unpack: Unpack::default(),
    }
}

fn reader(script: &Script, position: Position) -> Polling {
    script.stream().reader(from(position, None), PollingSettings::default())
}

fn at(sequence: u64, sub: u64) -> Position {
    Position::at(SequenceNumber::from(sequence), sub)
}

fn record(sequence: u64, data: &str) -> Value {
    let data = base64_simd::STANDARD.encode_to_string(data);
    json!({ "SequenceNumber": sequence.to_string(), "Data": data, "PartitionKey": "k", "ApproximateArrivalTimestamp": 1.5 })
}

fn answer(records: &[u64], behind: u64, next: &str) -> Value {
    let records: Vec<_> = records.iter().map(|sequence| record(*sequence, "data")).collect();
    json!({ "Records": records, "MillisBehindLatest": behind, "NextShardIterator": next })
}

fn ended(records: &[u64]) -> Value {
    let children = json!([{
        "ShardId": "shardId-000000000001",
        "ParentShards": ["shardId-000000000000"],
        "HashKeyRange": { "StartingHashKey": "0", "EndingHashKey": "340282366920938463463374607431768211455" },
    }]);
    let records: Vec<_> = records.iter().map(|sequence| record(*sequence, "data")).collect();
    json!({ "Records": records, "MillisBehindLatest": 0, "ChildShards": children })
}

async fn chunk(reader: &mut Polling) -> Chunk {
    match reader.next().await {
        Ok(Read::Chunk(chunk)) => chunk,
        other => panic!("a chunk, not {other:?}"),
    }
}

fn sequences(chunk: &Chunk) -> Vec<String> {
    chunk.records.iter().map(|record| record.sequence.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn chunks_continue_each_other_and_the_end_comes_after_the_last_record() {
    let script = Script::of([answer(&[1, 2], 5000, "a"), answer(&[], 3000, "b"), ended(&[7])]);
    let mut reader = reader(&script, Position::TrimHorizon);
    let first = chunk(&mut reader).await;
    assert_eq!((&first.from, &first.to), (&Position::TrimHorizon, &at(2, 0)));
    assert_eq!(first.behind, Duration::from_secs(5));
    assert_eq!(first.tenure, Tenure([7; 16]));
    assert!(matches!(reader.next().await, Ok(Read::Empty { behind }) if behind == Duration::from_secs(3)));
    let last = chunk(&mut reader).await;
    assert_eq!((&last.from, &last.to), (&at(2, 0), &at(7, 0)));
    for _ in 0..2 {
        let Ok(Read::End { children }) = reader.next().await else { panic!("the end, as often as it is asked for") };
        assert_eq!(children[0].id, ShardId::new("shardId-000000000001"));
    }
    let iterators: Vec<_> = script.bodies("GetRecords").iter().map(|body| body["ShardIterator"].clone()).collect();
    assert_eq!(iterators, ["it-1", "a", "b"]);
    assert_eq!(script.bodies("GetShardIterator")[0]["ShardIteratorType"], "TRIM_HORIZON");
    let counts = reader.counts();
    assert_eq!((counts.records, counts.bytes, counts.repeated, counts.calls), (3, 12, 0, 3));
}

/// Regression, seen elsewhere: a resume with AT_SEQUENCE_NUMBER delivered the last record twice.
#[tokio::test(start_paused = true)]
async fn a_reader_starts_at_its_position_and_drops_what_was_delivered() {
    let script = Script::of([answer(&[20, 21], 0, "a")]);
    let mut reader = reader(&script, at(20, 4));
    let first = chunk(&mut reader).await;
    assert_eq!((first.from.clone(), sequences(&first)), (at(20, 4), vec!["21".to_owned()]));
    let asked = &script.bodies("GetShardIterator")[0];
    assert_eq!(asked["ShardIteratorType"], "AT_SEQUENCE_NUMBER");
    assert_eq!(asked["StartingSequenceNumber"], "20");
    assert_eq!(reader.counts().repeated, 1);
}

#[tokio::test(start_paused = true)]
async fn a_pinned_start_is_asked_for_by_its_instant_and_an_arn_goes_with_every_call() {
    let script = Script::of([answer(&[1], 0, "a")]);
    let arn = "arn:aws:kinesis:eu-west-1:111122223333:stream/orders";
    let stream = script.stream_named(StreamRef::parse(arn));
    let mut reader = stream.reader(from(Position::TrimHorizon, Some(Millis(1_459_799_926_480))), Default::default());
    chunk(&mut reader).await;
    let asked = &script.bodies("GetShardIterator")[0];
    assert_eq!(asked["ShardIteratorType"], "AT_TIMESTAMP");
    assert_eq!(asked["Timestamp"], 1_459_799_926.48);
    assert_eq!(asked["StreamARN"], arn);
    assert!(asked.get("StreamName").is_none());
    assert_eq!(script.bodies("GetRecords")[0]["StreamARN"], arn);
}

/// Regression, seen elsewhere: a position at the end of a shard was a panic.
#[tokio::test(start_paused = true)]
async fn a_shard_that_was_delivered_to_its_end_gives_its_end() {
    let script = Script::of([ended(&[])]);
    let mut reader = reader(&script, Position::ShardEnd);
    assert!(matches!(reader.next().await, Ok(Read::End { children }) if children.len() == 1));
    assert_eq!(script.bodies("GetShardIterator")[0]["ShardIteratorType"], "LATEST");
}

#[tokio::test(start_paused = true)]
async fn an_expired_iterator_is_replaced_after_the_last_record() {
    let mut calls = 0;
    let script = Script::new(move |_| {
        calls += 1;
        match calls {
            1 => Say::Ok(answer(&[5], 100, "a")),
            2 => Say::Error("ExpiredIteratorException"),
            _ => Say::Ok(answer(&[6], 0, "b")),
        }
    });
    let mut reader = reader(&script, Position::TrimHorizon);
    chunk(&mut reader).await;
    assert_eq!(sequences(&chunk(&mut reader).await), ["6"]);
    let asked = &script.bodies("GetShardIterator")[1];
    assert_eq!(asked["ShardIteratorType"], "AFTER_SEQUENCE_NUMBER");
    assert_eq!(asked["StartingSequenceNumber"], "5");
    assert_eq!(reader.counts().expired, 1);
}

#[tokio::test(start_paused = true)]
async fn iterators_that_expire_again_and_again_are_not_renewed_in_a_loop() {
    let script = Script::new(|_| Say::Error("ExpiredIteratorException"));
    let mut reader = reader(&script, Position::TrimHorizon);
    let minute = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            assert!(matches!(reader.next().await, Err(ReadError::Again { .. })));
        }
    });
    assert!(minute.await.is_err());
    assert!(script.calls().len() < 40, "{} calls in a minute", script.calls().len());
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_was_held_back_renews_its_iterator_before_it_expires() {
    let script = Script::of([answer(&[5], 0, "a"), answer(&[6], 0, "b")]);
    let mut reader = reader(&script, Position::TrimHorizon);
    chunk(&mut reader).await;
    tokio::time::sleep(Duration::from_secs(241)).await;
    chunk(&mut reader).await;
    assert_eq!(script.bodies("GetRecords")[1]["ShardIterator"], "it-2");
    assert_eq!(reader.counts().expired, 0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_future_has_moved_nothing() {
    let mut calls = 0;
    let script = Script::new(move |_| {
        calls += 1;
        if calls == 2 { Say::Silence } else { Say::Ok(answer(&[calls], 100, &format!("after-{calls}"))) }
    });
    let mut reader = reader(&script, Position::TrimHorizon);
    chunk(&mut reader).await;
    assert!(tokio::time::timeout(Duration::from_secs(2), reader.next()).await.is_err());
    let next = chunk(&mut reader).await;
    assert_eq!(next.from, at(1, 0));
    let bodies = script.bodies("GetRecords");
    assert_eq!(bodies[1]["ShardIterator"], bodies[2]["ShardIterator"], "the same iterator once more");
}

/// Regression, seen elsewhere: against a dead endpoint a reader asked without a pause.
#[tokio::test(start_paused = true)]
async fn a_dead_endpoint_is_not_asked_in_a_loop() {
    for silent in [false, true] {
        let script = Script::raw(move |_| if silent { Say::Silence } else { Say::Reset });
        let mut reader = reader(&script, Position::TrimHorizon);
        let hour = tokio::time::timeout(Duration::from_secs(3600), async {
            loop {
                assert!(matches!(reader.next().await, Err(ReadError::Again { .. })));
            }
        });
        assert!(hour.await.is_err());
        let calls = script.calls();
        assert!((180..=760).contains(&calls.len()), "{} calls in an hour", calls.len());
        let late = calls.windows(2).filter(|two| two[0].at.elapsed() < Duration::from_secs(3000));
        for two in late {
            assert!(two[1].at - two[0].at >= Duration::from_secs(5), "half of the longest pause at least");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_failure_is_retried_at_once_within_the_same_call() {
    for first in ["RequestTimeTooSkewed", "ExpiredTokenException", "SignatureDoesNotMatch", "status", "reset"] {
        let mut calls = 0;
        let script = Script::new(move |_| {
            calls += 1;
            match (calls, first) {
                (1, "status") => Say::Status(503),
                (1, "reset") => Say::Reset,
                (1, code) => Say::Error(code),
                _ => Say::Ok(answer(&[1], 0, "a")),
            }
        });
        let mut reader = reader(&script, Position::TrimHorizon);
        let start = tokio::time::Instant::now();
        chunk(&mut reader).await;
        assert!(start.elapsed() < Duration::from_millis(50), "{first}: {:?}", start.elapsed());
        assert_eq!(reader.counts().failures, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn throttles_are_waited_out_and_shown_only_when_they_go_on() {
    let mut calls = 0;
    let script = Script::new(move |_| {
        calls += 1;
        if calls <= 4 || calls > 5 {
            Say::Error("ProvisionedThroughputExceededException")
        } else {
            Say::Ok(answer(&[1], 0, "a"))
        }
    });
    let mut reader = reader(&script, Position::TrimHorizon);
    let start = tokio::time::Instant::now();
    chunk(&mut reader).await;
    assert!(start.elapsed() > Duration::from_secs(7), "1, 2, 4 and 8 s, each by half at least");
    assert_eq!(reader.counts().throttles, 4);
    assert!(matches!(reader.next().await, Err(ReadError::Again { cause }) if cause.contains("Throughput")));
    assert_eq!(reader.counts().throttles, 9);
}

#[tokio::test(start_paused = true)]
async fn what_somebody_must_act_on_is_named_and_asked_for_seldom() {
    let errors =
        ["ResourceNotFoundException", "AccessDeniedException", "KMSDisabledException", "InvalidArgumentException"];
    for code in errors {
        let script = Script::new(move |_| Say::Error(code));
        let mut reader = reader(&script, Position::TrimHorizon);
        let error = reader.next().await.expect_err("an error");
        match code {
            "ResourceNotFoundException" => assert!(matches!(error, ReadError::Gone { .. })),
            "InvalidArgumentException" => assert!(matches!(error, ReadError::Again { .. })),
            _ => assert!(matches!(error, ReadError::Denied { .. })),
        }
        let minutes = tokio::time::timeout(Duration::from_secs(600), async {
            loop {
                assert!(reader.next().await.is_err());
            }
        });
        assert!(minutes.await.is_err());
        let calls = script.bodies("GetRecords").len();
        assert!((45..=150).contains(&calls), "{code}: {calls} calls in ten minutes");
    }
}

/// Regression, seen elsewhere: an answer with neither an iterator nor children was asked for again for ever.
#[tokio::test(start_paused = true)]
async fn an_end_without_children_is_believed_only_when_the_list_says_closed() {
    for closed in [true, false] {
        let script = Script::new(move |call| {
            if call.operation != "ListShards" {
                let mut silent = answer(&[3], 0, "");
                silent.as_object_mut().expect("an object").remove("NextShardIterator");
                return Say::Ok(silent);
            }
            let range = json!({ "StartingHashKey": "0", "EndingHashKey": "9" });
            let mut sequences = json!({ "StartingSequenceNumber": "1" });
            if closed {
                sequences["EndingSequenceNumber"] = "5".into();
            }
            Say::Ok(json!({ "Shards": [
                { "ShardId": "shardId-000000000000", "HashKeyRange": range, "SequenceNumberRange": sequences },
                { "ShardId": "shardId-000000000001", "ParentShardId": "shardId-000000000000", "HashKeyRange": range,
                  "SequenceNumberRange": { "StartingSequenceNumber": "6" } },
            ] }))
        });
        let mut reader = reader(&script, Position::TrimHorizon);
        for _ in 0..3 {
            assert!(matches!(reader.next().await, Err(ReadError::Again { .. })), "not an end");
        }
        if closed {
            assert_eq!(sequences(&chunk(&mut reader).await), ["3"], "the records of the last answer are delivered");
            assert!(
                matches!(reader.next().await, Ok(Read::End { children }) if children[0].id.as_str().ends_with('1'))
            );
        } else {
            assert!(matches!(reader.next().await, Err(ReadError::Again { .. })), "still not an end");
        }
        assert_eq!(script.bodies("GetShardIterator").len(), 1, "the same iterator is asked again");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_out_of_order_is_dropped_as_a_whole() {
    let script = Script::of([answer(&[5, 4, 6], 100, "a"), answer(&[4, 5, 6], 100, "b")]);
    let mut reader = reader(&script, Position::TrimHorizon);
    assert!(matches!(reader.next().await, Err(ReadError::Again { .. })));
    assert_eq!(sequences(&chunk(&mut reader).await), ["4", "5", "6"]);
    assert_eq!(script.bodies("GetRecords")[1]["ShardIterator"], "it-2", "with a new iterator");
    assert_eq!(reader.counts().bad_answers, 1);
}

#[tokio::test(start_paused = true)]
async fn a_listing_goes_through_its_pages_without_naming_the_stream_again() {
    let shard = |id: u32, parents: Value| {
        let mut shard = json!({
            "ShardId": format!("shardId-{id:012}"),
            "HashKeyRange": { "StartingHashKey": "0", "EndingHashKey": "9" },
            "SequenceNumberRange": { "StartingSequenceNumber": "495" },
        });
        shard.as_object_mut().expect("an object").append(parents.clone().as_object_mut().expect("an object"));
        shard
    };
    let mut expired = false;
    let script = Script::new(move |call| match call.body["NextToken"].as_str() {
        Some(_) if !std::mem::replace(&mut expired, true) => Say::Error("ExpiredNextTokenException"),
        Some(_) => Say::Ok(json!({ "Shards": [shard(2, json!({
            "ParentShardId": "shardId-000000000000", "AdjacentParentShardId": "shardId-000000000001",
        }))] })),
        None => Say::Ok(json!({ "Shards": [shard(0, json!({})), shard(1, json!({}))], "NextToken": "t" })),
    });
    let shards = script.stream().catalog().shards(ShardFilter::AtTimestamp(Millis(1_500))).await.expect("a list");
    assert_eq!(shards.iter().map(|shard| shard.parents.len()).collect::<Vec<_>>(), [0, 0, 2]);
    let bodies = script.bodies("ListShards");
    assert_eq!(bodies.len(), 4, "the listing whose token expired started over");
    assert_eq!(bodies[0]["StreamName"], "orders");
    assert_eq!(bodies[0]["ShardFilter"], json!({ "Type": "AT_TIMESTAMP", "Timestamp": 1.5 }));
    assert!(bodies[1].get("StreamName").is_none() && bodies[1].get("ShardFilter").is_none());
}

#[tokio::test(start_paused = true)]
async fn control_calls_are_tried_five_times_and_refusals_once() {
    for (code, tries) in [("LimitExceededException", 5), ("AccessDeniedException", 1), ("ResourceNotFoundException", 1)]
    {
        let script = Script::new(move |_| Say::Error(code));
        let error = script.stream().catalog().identity().await.expect_err("an error");
        match code {
            "LimitExceededException" => assert!(matches!(error, StreamError::Again { .. })),
            "AccessDeniedException" => assert!(matches!(error, StreamError::Denied { .. })),
            _ => assert!(matches!(error, StreamError::Gone { .. })),
        }
        assert_eq!(script.calls().len(), tries, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_known_by_its_arn_and_its_creation() {
    let script = Script::of([json!({ "StreamDescriptionSummary": {
        "StreamName": "orders", "StreamARN": "arn:x", "StreamStatus": "UPDATING", "RetentionPeriodHours": 24,
        "StreamCreationTimestamp": 1_459_799_926.48, "EnhancedMonitoring": [], "OpenShardCount": 3,
    } })]);
    let identity = script.stream().catalog().identity().await.expect("an identity");
    assert_eq!((identity.arn.as_str(), identity.created), ("arn:x", Millis(1_459_799_926_480)));
    assert_eq!((identity.status, identity.open_shards), (StreamStatus::Updating, 3));
    assert_eq!(identity.retention, Duration::from_secs(86_400));
}

#[tokio::test(start_paused = true)]
async fn the_tip_is_what_lies_after_a_position() {
    let cases = [
        (answer(&[5], 0, "a"), 1_499, Tip::Later),
        (answer(&[5], 0, "a"), 1_500, Tip::Waiting),
        (answer(&[], 0, "a"), 1_500, Tip::Empty),
        (ended(&[]), 1_500, Tip::Ended),
    ];
    for (answer, until, tip) in cases {
        let script = Script::of([answer]);
        let start = tokio::time::Instant::now();
        let seen = script.stream().catalog().tip(&from(at(4, 0), None), Millis(until)).await.expect("a tip");
        assert_eq!(seen, tip);
        let looks = if tip == Tip::Empty { 2 } else { 1 };
        assert_eq!(script.bodies("GetRecords").len(), looks);
        assert_eq!(start.elapsed() >= Duration::from_secs(1), looks == 2);
        assert_eq!(script.bodies("GetShardIterator")[0]["ShardIteratorType"], "AT_SEQUENCE_NUMBER");
    }
}

#[tokio::test(start_paused = true)]
async fn empty_answers_on_the_way_to_the_tip_are_no_tip() {
    let script = Script::of([answer(&[], 9000, "a"), answer(&[], 0, "b"), answer(&[], 400, "c"), answer(&[7], 0, "d")]);
    let tip = script.stream().catalog().tip(&from(Position::TrimHorizon, None), Millis(2_000)).await;
    assert_eq!(tip, Ok(Tip::Waiting));
}

fn put_answer(call: &Value, failing: impl Fn(usize) -> Option<&'static str>) -> Value {
    let entries = call["Records"].as_array().expect("entries").len();
    let results = (0..entries).map(|index| match failing(index) {
        Some(code) => json!({ "ErrorCode": code, "ErrorMessage": "no" }),
        None => json!({ "SequenceNumber": index.to_string(), "ShardId": "shardId-000000000000" }),
    });
    json!({ "FailedRecordCount": 0, "Records": results.collect::<Vec<_>>() })
}

#[tokio::test(start_paused = true)]
async fn only_the_entries_that_failed_are_put_again() {
    let mut calls = 0;
    let script = Script::new(move |call| {
        calls += 1;
        let failing = |index: usize| (calls == 1 && index % 2 == 1).then_some("ProvisionedThroughputExceededException");
        Say::Ok(put_answer(&call.body, failing))
    });
    let mut putter = script.stream().putter(PutSettings::default());
    for number in 0..501 {
        putter.push(format!("line {number}").into_bytes(), "key".to_owned()).await.expect("put");
    }
    putter.flush().await.expect("put");
    let counts = putter.counts();
    assert_eq!((counts.records, counts.throttled, counts.maybe_twice, counts.calls), (501, 250, 0, 3));
    let sent: Vec<_> =
        script.bodies("PutRecords").iter().map(|body| body["Records"].as_array().map_or(0, Vec::len)).collect();
    assert_eq!(sent, [500, 250, 1]);
    assert_eq!(script.bodies("PutRecords")[1]["Records"][0]["Data"], base64_simd::STANDARD.encode_to_string("line 1"));
}

#[tokio::test(start_paused = true)]
async fn a_call_holds_five_mebibytes_and_a_large_record_goes_alone() {
    let script = Script::new(|call| Say::Ok(put_answer(&call.body, |_| None)));
    let mut putter = script.stream().putter(PutSettings::default());
    for mebibytes in [2, 2, 2, 8, 1] {
        putter.push(vec![b'x'; mebibytes << 20], "key".to_owned()).await.expect("put");
    }
    putter.flush().await.expect("put");
    let sent: Vec<_> =
        script.bodies("PutRecords").iter().map(|body| body["Records"].as_array().map_or(0, Vec::len)).collect();
    assert_eq!(sent, [2, 1, 1, 1]);
    let refused = putter.push(vec![b'x'; 10 << 20], "key".to_owned()).await;
    assert_eq!(refused, Err(PutError::Record { bytes: (10 << 20) + 3, key_chars: 3 }));
    assert!(putter.push(vec![], String::new()).await.is_err(), "a key has one character at least");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_sent_again_and_counted() {
    let mut calls = 0;
    let script = Script::new(move |call| {
        calls += 1;
        if calls == 1 { Say::Reset } else { Say::Ok(put_answer(&call.body, |_| None)) }
    });
    let mut putter = script.stream().putter(PutSettings::default());
    putter.push(b"line".to_vec(), "key".to_owned()).await.expect("put");
    putter.flush().await.expect("put");
    assert_eq!((putter.counts().records, putter.counts().maybe_twice), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_producer_gives_up_when_nothing_moves_and_at_once_when_refused() {
    let script = Script::new(|_| Say::Error("ProvisionedThroughputExceededException"));
    let mut putter = script.stream().putter(PutSettings::default());
    putter.push(b"line".to_vec(), "key".to_owned()).await.expect("buffered");
    let start = tokio::time::Instant::now();
    assert!(matches!(putter.flush().await, Err(PutError::GaveUp { .. })));
    assert!((60..70).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    let script = Script::new(|_| Say::Error("ResourceNotFoundException"));
    let mut putter = script.stream().putter(PutSettings::default());
    putter.push(b"line".to_vec(), "key".to_owned()).await.expect("buffered");
    assert!(matches!(putter.flush().await, Err(PutError::Refused { .. })));
    let script = Script::new(|_| Say::Error("AccessDeniedException"));
    let mut putter = script.stream().putter(PutSettings::default());
    putter.push(b"line".to_vec(), "key".to_owned()).await.expect("buffered");
    assert!(matches!(putter.flush().await, Err(PutError::Denied { .. })));
}

#[tokio::test(start_paused = true)]
async fn what_keeps_a_producer_from_writing_can_be_seen_meanwhile() {
    let mut calls = 0;
    let script = Script::new(move |call| {
        calls += 1;
        if calls < 20 { Say::Reset } else { Say::Ok(put_answer(&call.body, |_| None)) }
    });
    let mut putter = script.stream().putter(PutSettings::default());
    let trouble = putter.trouble();
    putter.push(b"line".to_vec(), "key".to_owned()).await.expect("buffered");
    let look = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        trouble.cause()
    };
    let (put, seen) = tokio::join!(putter.flush(), look);
    put.expect("the line is put in the end");
    assert!(seen.is_some_and(|cause| cause.contains("reset")));
    assert_eq!(trouble.cause(), None);
}

/// A hundred thousand user records come in a few hundred kilobytes: they are counted before they are made.
#[tokio::test(start_paused = true)]
async fn an_answer_that_expands_is_handed_on_once_its_memory_is_reserved() {
    let dense = |sequence: u64| {
        let mut pack = Pack::new(usize::MAX);
        (0..50_000).for_each(|_| assert_eq!(pack.add(Vec::new(), "k".to_owned()), None));
        let data = base64_simd::STANDARD.encode_to_string(pack.take().expect("not empty").data);
        json!({ "SequenceNumber": sequence.to_string(), "Data": data, "PartitionKey": "k" })
    };
    let answer = json!({ "Records": [dense(5), dense(6)], "MillisBehindLatest": 9, "NextShardIterator": "a" });
    let script = Script::of([answer]);
    let from = ReadFrom { unpack: Unpack { kpl: true, ..Unpack::default() }, ..from(Position::TrimHorizon, None) };
    let mut reader = script.stream().reader(from, PollingSettings::default());
    assert!(matches!(reader.next().await, Ok(Read::Heavy)), "more than was reserved");
    for to in [at(5, 49_999), at(6, 49_999)] {
        let reserved = reader.expected_bytes();
        let chunk = chunk(&mut reader).await;
        let holds = chunk.records.capacity() * size_of_val(&chunk.records[0]);
        assert!(holds <= chunk.memory_bytes && chunk.memory_bytes <= reserved, "{holds} of {reserved}");
        assert_eq!((chunk.records.len(), chunk.to), (50_000, to));
    }
    assert_eq!(script.bodies("GetRecords").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_rate_holds() {
    let script = Script::new(|call| Say::Ok(put_answer(&call.body, |_| None)));
    let settings = PutSettings { bytes_per_second: Some(100_000), ..PutSettings::default() };
    let mut putter = script.stream().putter(settings);
    let start = tokio::time::Instant::now();
    for _ in 0..10_000 {
        putter.push(vec![b'x'; 100], "key".to_owned()).await.expect("put");
    }
    putter.flush().await.expect("put");
    assert!((8..=10).contains(&start.elapsed().as_secs()), "{:?} for 1 MB", start.elapsed());
}
