//! The function is a closure behind the SDK's seam for HTTP clients; the clock is paused.

use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};
use standpipe_flow::{Job, LeaseKey, Millis, Position, Taken, Tenure};
use tokio::time::Instant;

use super::*;

const STREAM: &str = "arn:aws:kinesis:eu-west-1:111122223333:stream/orders";
const SHARD: &str = "shardId-000000000007";
/// Firehose's word for a function error, which a record says.
const SAYS_ERROR: &str = "The Lambda function was successfully invoked but it returned an error result.";

type Answer = Result<http::Response<Vec<u8>>, ConnectorError>;
type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Takes requests by a closure.
#[derive(Clone)]
struct Served(Arc<dyn Fn(http::Request<SdkBody>) -> Answering + Send + Sync>);

impl Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Served")
    }
}

impl HttpConnector for Served {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let answer = (self.0)(request.try_into_http1x().expect("a request"));
        HttpConnectorFuture::new(async move {
            let answer = answer.await?.map(SdkBody::from);
            Ok(answer.try_into().expect("an answer"))
        })
    }
}

impl HttpClient for Served {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

#[derive(Debug)]
struct Seen {
    start: Instant,
    random: AtomicU64,
    attempts: Mutex<Vec<&'static str>>,
    records: Mutex<Vec<(Fate, u64)>>,
    waiting: Mutex<Vec<i64>>,
}

impl Clock for Seen {
    fn wall(&self) -> Millis {
        Millis(1_700_000_000_000 + u64::try_from(self.start.elapsed().as_millis()).expect("a while"))
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

impl Random for Seen {
    fn next(&self) -> u64 {
        self.random.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed)
    }
}

impl Offload for Seen {
    fn run(&self, job: Job) {
        job();
    }
}

impl Counts for Seen {
    fn records(&self, stage: &str, fate: Fate, records: u64) {
        assert_eq!(stage, "lambda");
        self.records.lock().expect("a lock").push((fate, records));
    }
}

impl Observer for Seen {
    fn attempt(&self, result: &'static str, _: Duration) {
        self.attempts.lock().expect("a lock").push(result);
    }

    fn waiting(&self, change: i64) {
        self.waiting.lock().expect("a lock").push(change);
    }
}

/// A function behind a closure that gets each event with its number, and what it is asked by.
fn lambda(
    change: impl FnOnce(&mut LambdaSettings),
    answer: impl Fn(u64, Value) -> Answering + Send + Sync + 'static,
) -> (Lambda, Arc<Seen>) {
    let calls = AtomicU64::new(0);
    let served = Served(Arc::new(move |request| {
        let event = serde_json::from_slice(request.body().bytes().expect("a whole body")).expect("an event");
        answer(calls.fetch_add(1, Ordering::Relaxed), event)
    }));
    let mut settings = LambdaSettings::new("enrich:live".parse().expect("a name"), STREAM, "orders-lake");
    change(&mut settings);
    make(settings, served)
}

fn make(settings: LambdaSettings, served: Served) -> (Lambda, Arc<Seen>) {
    let credentials = Credentials::new("id", "secret", None, None, "a test");
    let sdk = SdkConfig::builder()
        .endpoint_url("http://127.0.0.1:1")
        .http_client(SharedHttpClient::new(served))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build();
    let seen = Arc::new(Seen {
        start: Instant::now(),
        random: AtomicU64::new(7),
        attempts: Mutex::default(),
        records: Mutex::default(),
        waiting: Mutex::default(),
    });
    let seams = Seams { clock: seen.clone(), random: seen.clone(), offload: seen.clone(), observer: seen.clone() };
    (Lambda::new(settings, &sdk, seams).expect("a stream"), seen)
}

fn chunk(data: &[&str]) -> Chunk {
    let records: Vec<Record> = (100_u64..)
        .zip(data)
        .map(|(sequence, data)| Record {
            data: Bytes::copy_from_slice(data.as_bytes()),
            partition_key: "key \"1\"".into(),
            sequence: sequence.into(),
            sub: sequence % 2,
            arrival: Millis(1_699_999_999_000 + sequence),
            transformed: None,
            partition: None,
        })
        .collect();
    Chunk {
        lease: LeaseKey::new(SHARD),
        tenure: Tenure([1; 16]),
        from: Position::TrimHorizon,
        to: records.last().map_or(Position::TrimHorizon, Record::position),
        records,
        rejected: Vec::new(),
        originals: Arc::default(),
        behind: Duration::ZERO,
        memory_bytes: 0,
        taken: Taken::default(),
    }
}

fn ready(answer: Answer) -> Answering {
    Box::pin(std::future::ready(answer))
}

fn says(status: u16, kind: &str, body: impl Into<Vec<u8>>) -> Answer {
    let answer = http::Response::builder().status(status);
    let header = if status == 200 { "x-amz-function-error" } else { "x-amzn-errortype" };
    let answer = if kind.is_empty() { answer } else { answer.header(header, kind) };
    Ok(answer.body(body.into()).expect("an answer"))
}

fn data(record: &Value) -> Vec<u8> {
    base64_simd::STANDARD.decode_to_vec(record["data"].as_str().expect("data")).expect("base64")
}

/// Every record with its bytes in capitals.
fn shout(event: &Value) -> Answer {
    let one = |record: &Value| {
        let data = base64_simd::STANDARD.encode_to_string(data(record).to_ascii_uppercase());
        json!({ "recordId": record["recordId"], "result": "Ok", "data": data })
    };
    let records: Vec<Value> = event["records"].as_array().expect("records").iter().map(one).collect();
    says(200, "", json!({ "records": records }).to_string())
}

fn delivered(chunk: &Chunk) -> Vec<&str> {
    chunk.records.iter().map(|record| std::str::from_utf8(&record.data).expect("text")).collect()
}

fn rejected(chunk: &Chunk) -> Vec<(&str, u32, &[u8])> {
    chunk.rejected.iter().map(|record| (record.code, record.attempts, &record.data[..])).collect()
}

#[tokio::test(start_paused = true)]
async fn the_event_is_firehoses_and_the_request_is_signed() {
    let events = Arc::new(Mutex::new(Vec::new()));
    let kept = events.clone();
    let served = Served(Arc::new(move |request| {
        let event: Value = serde_json::from_slice(request.body().bytes().expect("a whole body")).expect("an event");
        let answer = shout(&event);
        kept.lock().expect("a lock").push((request.map(|_| ()), event));
        ready(answer)
    }));
    let function = "arn:aws:lambda:us-west-2:444455556666:function:enrich".parse().expect("an ARN");
    let (lambda, seen) = make(LambdaSettings::new(function, STREAM, "orders-lake"), served);
    let made = lambda.apply(chunk(&["a", "b"])).await;
    assert_eq!((delivered(&made), made.rejected.len()), (vec!["A", "B"], 0));
    assert_eq!(made.records[0].original(), "a");
    let (request, event) = events.lock().expect("a lock").remove(0);
    let path = "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-west-2%3A444455556666%3Afunction%3Aenrich/invocations";
    assert_eq!((request.method().as_str(), request.uri().path()), ("POST", path));
    assert_eq!(request.headers()["x-amz-invocation-type"], "RequestResponse");
    let signature = request.headers()["authorization"].to_str().expect("text");
    assert!(
        signature.starts_with("AWS4-HMAC-SHA256 Credential=id/20231114/us-west-2/lambda/aws4_request"),
        "{signature}"
    );
    let id = event["invocationId"].as_str().expect("an id").to_owned();
    assert!(id.len() == 36 && id.as_bytes()[14] == b'4', "{id}");
    let record = |sequence: u64, sub: u64, data: &str| {
        json!({
            "recordId": format!("{sequence}{sub:06}"),
            "approximateArrivalTimestamp": 1_699_999_999_000 + sequence,
            "data": data,
            "kinesisRecordMetadata": {
                "shardId": SHARD,
                "partitionKey": "key \"1\"",
                "approximateArrivalTimestamp": 1_699_999_999_000 + sequence,
                "sequenceNumber": sequence.to_string(),
                "subsequenceNumber": sub,
            },
        })
    };
    let expected = json!({
        "invocationId": id,
        "sourceKinesisStreamArn": STREAM,
        "deliveryStreamArn": "arn:aws:firehose:eu-west-1:111122223333:deliverystream/orders-lake",
        "region": "eu-west-1",
        "records": [record(100, 0, "YQ=="), record(101, 1, "Yg==")],
    });
    assert_eq!(event, expected);
    assert_eq!(*seen.records.lock().expect("a lock"), [(Fate::Passed, 2)]);
    assert_eq!(*seen.attempts.lock().expect("a lock"), ["answered"]);
}

#[tokio::test(start_paused = true)]
async fn a_function_that_fails_is_asked_again_and_then_its_records_fail() {
    for (fails, attempts) in [(2, 3), (9, 4)] {
        let (lambda, seen) = lambda(
            |_| {},
            move |call, event| ready(if call < fails { says(200, "Unhandled", "{}") } else { shout(&event) }),
        );
        let made = lambda.apply(chunk(&["a", "b"])).await;
        assert_eq!(seen.attempts.lock().expect("a lock").len(), attempts);
        if fails == 2 {
            assert_eq!(delivered(&made), ["A", "B"]);
            continue;
        }
        let code = "Lambda.FunctionError";
        assert_eq!(rejected(&made), [(code, 4, b"a".as_slice()), (code, 4, b"b")]);
        let record = &made.rejected[0];
        assert_eq!((record.output_type, &*record.message), (PROCESSING_FAILED, SAYS_ERROR));
        let arn = "arn:aws:lambda:eu-west-1:111122223333:function:enrich:live";
        assert_eq!(record.detail, Detail::Lambda(arn.into()));
        assert_eq!(*seen.records.lock().expect("a lock"), [(Fate::Failed, 2)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_function_that_does_not_answer_in_time_is_asked_again_and_then_its_records_fail() {
    let (lambda, seen) = lambda(|settings| settings.retries = 1, |_, _| Box::pin(std::future::pending()));
    let made = lambda.apply(chunk(&["a"])).await;
    assert_eq!(rejected(&made), [("Lambda.FunctionTimeout", 2, b"a".as_slice())]);
    let took = seen.start.elapsed();
    assert!((620..630).contains(&took.as_secs()), "twice five minutes and a little: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_function_that_cannot_be_asked_makes_records_wait_for_as_long_as_it_takes() {
    let refused = || Err(ConnectorError::io("connection refused".into()));
    type Refusal = (&'static str, fn() -> Answer);
    let refusals: [Refusal; 7] = [
        ("throttled", || says(429, "TooManyRequestsException", r#"{"message":"Rate Exceeded."}"#)),
        ("access_denied", || says(403, "AccessDeniedException", "{}")),
        ("not_found", || says(404, "ResourceNotFoundException", r#"{"Message":"Function not found"}"#)),
        ("unavailable", || says(500, "ServiceException", "{}")),
        ("unavailable", || says(502, "ENILimitReachedException", "")),
        ("refused", || says(400, "InvalidParameterValueException", "\u{0}")),
        ("unreachable", refused),
    ];
    for (label, refusal) in refusals {
        let (lambda, seen) = lambda(
            |settings| settings.retries = 0,
            move |call, event| ready(if call < 20 { refusal() } else { shout(&event) }),
        );
        let made = lambda.apply(chunk(&["a"])).await;
        assert_eq!((delivered(&made), made.rejected.len()), (vec!["A"], 0), "{label}");
        let attempts = seen.attempts.lock().expect("a lock").clone();
        assert!(attempts.len() == 21 && attempts[..20].iter().all(|attempt| *attempt == label), "{attempts:?}");
        assert_eq!(*seen.waiting.lock().expect("a lock"), [1, -1], "{label}");
    }
}

#[tokio::test(start_paused = true)]
async fn waits_end_with_the_reader() {
    let (lambda, seen) = lambda(|_| {}, |_, _| ready(says(404, "ResourceNotFoundException", "{}")));
    let stopped = tokio::time::timeout(Duration::from_secs(60), lambda.apply(chunk(&["a"]))).await;
    assert!(stopped.is_err(), "it still waits");
    assert_eq!(*seen.waiting.lock().expect("a lock"), [1, -1]);
}

#[tokio::test(start_paused = true)]
async fn what_lambda_does_not_let_through_is_halved() {
    let too_large = r#"{"errorType":"Function.ResponseSizeTooLarge"}"#;
    for (status, kind, body) in [(413, "RequestTooLargeException", "{}"), (200, "Unhandled", too_large)] {
        let (lambda, _) = lambda(
            |_| {},
            move |_, event| {
                let records = event["records"].as_array().expect("records");
                let whole = records.len() > 2 || records.iter().any(|record| data(record) == b"huge");
                ready(if whole { says(status, kind, body) } else { shout(&event) })
            },
        );
        let made = lambda.apply(chunk(&["a", "b", "c", "huge", "d", "e", "f"])).await;
        assert_eq!(delivered(&made), ["A", "B", "C", "D", "E", "F"]);
        let expected = if status == 413 { ("Lambda.RequestTooLargeException", 1) } else { ("Lambda.FunctionError", 4) };
        assert_eq!(rejected(&made), [(expected.0, expected.1, b"huge".as_slice())]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_can_never_go_out_is_not_tried() {
    let (lambda, seen) = lambda(|settings| settings.buffer_bytes = usize::MAX, |_, event| ready(shout(&event)));
    let huge = "x".repeat(5 << 20);
    let made = lambda.apply(chunk(&["a", &huge, "b"])).await;
    assert_eq!((delivered(&made), made.rejected.len()), (vec!["A", "B"], 1));
    assert_eq!((made.rejected[0].code, made.rejected[0].attempts), ("Lambda.RequestTooLargeException", 0));
    assert_eq!(seen.attempts.lock().expect("a lock").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_end_is_not_read_to_its_end() {
    let (lambda, _) = lambda(|settings| settings.retries = 0, |_, _| ready(says(200, "", vec![b' '; 7 << 20])));
    let made = lambda.apply(chunk(&["a"])).await;
    assert_eq!(rejected(&made), [("Lambda.FunctionError", 1, b"a".as_slice())]);
}

#[tokio::test(start_paused = true)]
async fn a_chunk_goes_out_in_invocations_of_the_buffers_size_so_many_at_a_time_and_comes_back_in_order() {
    let (now, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let highest = most.clone();
    let (lambda, seen) = lambda(
        |settings| (settings.buffer_bytes, settings.concurrency) = (4, 3),
        move |call, event| {
            assert!(event["records"].as_array().expect("records").len() <= 2);
            most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            let now = now.clone();
            Box::pin(async move {
                // The later ones are the faster ones.
                tokio::time::sleep(Duration::from_secs(100 - call)).await;
                now.fetch_sub(1, Ordering::Relaxed);
                shout(&event)
            })
        },
    );
    let texts: Vec<String> = (10..33).map(|i| format!("a{i}")).map(|text| text[1..].to_owned()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let made = lambda.apply(chunk(&texts)).await;
    assert_eq!(delivered(&made), texts);
    assert_eq!(seen.attempts.lock().expect("a lock").len(), 12);
    assert_eq!(highest.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn several_records_of_one_have_ids_of_their_own_and_bytes_that_stay_are_no_change() {
    let (lambda, _) = lambda(
        |_| {},
        |_, event| {
            let ids: Vec<&str> = event["records"].as_array().expect("records").iter().map(id).collect();
            assert_eq!(ids, ["100000000", "100.0.1", "100.0.2", "101.1000000.0"]);
            let keys = json!({ "partitionKeys": { "customer": "c" } });
            let one = |record: &Value| json!({ "recordId": id(record), "result": "Ok", "data": record["data"], "metadata": keys });
            let records: Vec<Value> = event["records"].as_array().expect("records").iter().map(one).collect();
            ready(says(200, "", json!({ "records": records }).to_string()))
        },
    );
    fn id(record: &Value) -> &str {
        record["recordId"].as_str().expect("an id")
    }
    let mut chunk = chunk(&["a", "b"]);
    let last = Record { sub: 1_000_000, ..chunk.records.pop().expect("a record") };
    chunk.records = vec![chunk.records[0].clone(), chunk.records[0].clone(), chunk.records[0].clone(), last];
    let made = lambda.apply(chunk).await;
    for record in &made.records {
        let transformed = record.transformed.as_ref().expect("keys");
        assert_eq!((transformed.keys["customer"].as_str(), &transformed.original), ("c", &None));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_gathered_is_what_one_invocation_takes_and_a_chunk_comes_for_as_many_as_may_be_under_way() {
    let of = |bytes| {
        let settings = |settings: &mut LambdaSettings| settings.buffer_bytes = bytes;
        lambda(settings, |_, event| ready(shout(&event))).0
    };
    assert_eq!(of(1 << 20).gathers(), Some((1 << 20, Duration::from_secs(60))));
    assert_eq!(of(1 << 20).at_once(), Some(5 << 20));
    assert!(of(1 << 30).gathers().is_some_and(|(bytes, _)| bytes < 5 << 20));
}

#[test]
fn every_event_is_as_small_as_it_was_reckoned_to_be() {
    let head = Head { delivery_stream_arn: "d".into(), stream_arn: "s".into(), region: "r\u{1}".into() };
    let mut chunk = chunk(&["", "a", "bb", "ccc"]);
    for (i, record) in chunk.records.iter_mut().enumerate() {
        record.sub = u64::MAX;
        record.arrival = Millis(u64::MAX);
        record.partition_key = "\u{1}\"\\ü\n".repeat(i).into();
        record.transformed.get_or_insert_default().part = u32::MAX;
    }
    for count in 0..=chunk.records.len() {
        let event = event::render(&head, &"i".repeat(36), SHARD, &chunk.records[..count]);
        // What is reckoned is a capacity, and so is seen there: it never had to grow.
        assert!(event.len() <= event.capacity() && event.len() + 200 * (count + 1) > event.capacity());
    }
}

proptest! {
    /// Whatever the function answers, every record is found again once, in order.
    #[test]
    fn what_comes_in_passes_is_dropped_or_fails(
        fates in prop::collection::vec((0_u8..8, 0_usize..6), 0..40),
        (buffer_bytes, retries) in (1_usize..12, 0_u32..2),
        calls in prop::collection::vec(0_u8..12, 0..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async move {
            let of = fates.clone();
            let (lambda, seen) = lambda(
                |settings| (settings.buffer_bytes, settings.retries) = (buffer_bytes, retries),
                move |call, event| {
                    ready(match calls.get(usize::try_from(call).unwrap_or(usize::MAX)) {
                        Some(0) => says(200, "Unhandled", "{}"),
                        Some(1) => says(413, "", ""),
                        Some(2) => says(503, "", ""),
                        Some(3) => says(200, "", "no json"),
                        Some(4) => Err(ConnectorError::timeout("no answer".into())),
                        _ => whimsical(&event, &of),
                    })
                },
            );
            let texts: Vec<String> = fates.iter().enumerate().map(|(i, (_, len))| format!("{i}{}", "x".repeat(*len))).collect();
            let before = chunk(&texts.iter().map(String::as_str).collect::<Vec<_>>());
            let made = lambda.apply(before.clone()).await;
            let counted = |fate| {
                let counts = seen.records.lock().expect("a lock");
                counts.iter().filter(|(of, _)| *of == fate).map(|(_, records)| *records).sum::<u64>()
            };
            assert_eq!(counted(Fate::Passed), made.records.len() as u64);
            assert_eq!(counted(Fate::Failed), made.rejected.len() as u64);
            assert_eq!(counted(Fate::Passed) + counted(Fate::Failed) + counted(Fate::Dropped), fates.len() as u64);
            let places: Vec<_> = made.records.iter().map(Record::position).collect();
            assert!(places.windows(2).all(|two| two[0] < two[1]), "{places:?}");
            let failed: Vec<_> = made.rejected.iter().map(|record| Position::at(record.sequence.clone(), record.sub)).collect();
            assert!(failed.windows(2).all(|two| two[0] < two[1]), "{failed:?}");
            assert!(failed.iter().all(|place| !places.contains(place)));
            for record in &made.records {
                let read = before.records.iter().find(|read| read.position() == record.position()).expect("it was read");
                assert_eq!((record.original(), record.data.to_ascii_uppercase()), (&read.data, record.data.to_vec()));
            }
            for record in &made.rejected {
                let read = before.records.iter().find(|read| read.sequence == record.sequence).expect("it was read");
                assert_eq!(record.data, read.data);
            }
        });
    }
}

/// An answer in which each record has the fate that is drawn for it.
fn whimsical(event: &Value, fates: &[(u8, usize)]) -> Answer {
    let mut answered = Vec::new();
    for record in event["records"].as_array().expect("records") {
        let id = &record["recordId"];
        let sequence =
            record["kinesisRecordMetadata"]["sequenceNumber"].as_str().and_then(|text| text.parse::<usize>().ok());
        let loud = base64_simd::STANDARD.encode_to_string(data(record).to_ascii_uppercase());
        let ok = json!({ "recordId": id, "result": "Ok", "data": loud });
        match fates[sequence.expect("a number") - 100].0 {
            0 => answered.push(json!({ "recordId": id, "result": "Dropped" })),
            1 => answered.push(json!({ "recordId": id, "result": "ProcessingFailed", "data": "" })),
            2 => {}
            3 => answered.extend([ok.clone(), ok]),
            4 => answered.insert(0, json!({ "recordId": "unknown", "result": "Ok" })),
            5 => answered.insert(0, ok),
            _ => answered.push(ok),
        }
    }
    says(200, "", json!({ "records": answered }).to_string())
}
