//! The transform by a Lambda function over the SDK's seam for HTTP clients and the emulator, with the clock paused: each
//! thing that a function or its service may do, and what becomes of the records.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use standpipe_emulator::lambda::{Fate as Says, Reply, each};
use standpipe_emulator::{Clock as EmulatorClock, Emulator, Fault, Options, Rule, Service};
use standpipe_flow::{
    Chunk, Clock, Detail, Job, LeaseKey, Millis, Offload, Position, Random, Record, Taken, Tenure, Transform,
};
use standpipe_transform::lambda::{Observer, Seams};
use standpipe_transform::{Counts, Fate, Lambda, LambdaSettings, Step, Transforms};
use standpipe_worker::platform::embedded;
use tokio::time::{Instant, sleep};

const STREAM: &str = "arn:aws:kinesis:us-east-1:111122223333:stream/orders";

#[derive(Debug)]
struct Seen {
    start: Instant,
    random: AtomicU64,
    attempts: Mutex<Vec<&'static str>>,
    waiting: AtomicI64,
    longest_wait: AtomicI64,
    counted: [AtomicU64; 3],
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
    fn records(&self, _: &str, fate: Fate, records: u64) {
        let place = [Fate::Passed, Fate::Dropped, Fate::Failed].iter().position(|of| *of == fate).expect("a fate");
        self.counted[place].fetch_add(records, Ordering::Relaxed);
    }
}

impl Observer for Seen {
    fn attempt(&self, result: &'static str, _: Duration) {
        self.attempts.lock().expect("a lock").push(result);
    }

    fn waiting(&self, change: i64) {
        let now = self.waiting.fetch_add(change, Ordering::Relaxed) + change;
        self.longest_wait.fetch_max(now, Ordering::Relaxed);
    }
}

struct World {
    emulator: Arc<Emulator>,
    seen: Arc<Seen>,
    transforms: Transforms,
}

impl World {
    fn new(change: impl FnOnce(&mut LambdaSettings)) -> Self {
        let start = Instant::now();
        let clock: EmulatorClock = Arc::new(move || u64::try_from(start.elapsed().as_millis()).expect("a while"));
        let emulator = Emulator::new(Options { trace: true, ..Options::new(clock) }).expect("in memory");
        let seen = Arc::new(Seen {
            start,
            random: AtomicU64::new(1),
            attempts: Mutex::default(),
            waiting: AtomicI64::new(0),
            longest_wait: AtomicI64::new(0),
            counted: Default::default(),
        });
        let sdk = embedded(Some(emulator.connect("w1").http_client()), "http://emulator");
        let mut settings = LambdaSettings::new("enrich".parse().expect("a name"), STREAM, "lake");
        change(&mut settings);
        let seams = Seams { clock: seen.clone(), random: seen.clone(), offload: seen.clone(), observer: seen.clone() };
        let lambda = Lambda::new(settings, &sdk, seams).expect("a stream");
        let transforms = Transforms::new(vec![Step::All(Arc::new(lambda))], false, seen.clone(), seen.clone());
        Self { emulator, seen, transforms }
    }

    fn fails(&self, fault: Fault, times: u32) {
        self.emulator.faults().add(Rule::new(Service::Lambda, fault).operation("Invoke").times(times));
    }

    async fn transform(&self, data: &[&str]) -> Chunk {
        let made = self.transforms.apply(chunk(data)).await;
        let counted: u64 = self.seen.counted.iter().map(|of| of.load(Ordering::Relaxed)).sum();
        assert_eq!(counted, data.len() as u64, "each record has a fate");
        assert_eq!(self.seen.waiting.load(Ordering::Relaxed), 0);
        made
    }

    fn attempts(&self) -> Vec<&'static str> {
        self.seen.attempts.lock().expect("a lock").clone()
    }
}

fn chunk(data: &[&str]) -> Chunk {
    let record = |(i, data): (u64, &&str)| Record {
        data: Bytes::copy_from_slice(data.as_bytes()),
        partition_key: "customer".into(),
        sequence: (1_000 + i).into(),
        sub: 0,
        arrival: Millis(i + 1),
        transformed: None,
        partition: None,
    };
    let records: Vec<Record> = (0..).zip(data).map(record).collect();
    Chunk {
        lease: LeaseKey::new("shardId-000000000000"),
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

fn delivered(chunk: &Chunk) -> Vec<&str> {
    chunk.records.iter().map(|record| std::str::from_utf8(&record.data).expect("text")).collect()
}

fn rejected(chunk: &Chunk) -> Vec<(&str, u32, &[u8])> {
    chunk.rejected.iter().map(|record| (record.code, record.attempts, &record.data[..])).collect()
}

fn loud(_: usize, data: Vec<u8>) -> Says {
    Says::Ok(data.to_ascii_uppercase())
}

#[tokio::test(start_paused = true)]
async fn many_records_go_out_in_several_invocations_and_come_back_in_order() {
    let world = World::new(|settings| settings.buffer_bytes = 1_000);
    world.emulator.create_function("enrich", each(loud));
    let texts: Vec<String> = (0..3_000).map(|i| format!("record {i:04}")).collect();
    let made = world.transform(&texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(delivered(&made), texts.iter().map(|text| text.to_uppercase()).collect::<Vec<_>>());
    assert_eq!(world.attempts(), vec!["answered"; 3_000_usize.div_ceil(1_000_usize.div_ceil("record 0000".len()))]);
    assert!(made.memory_bytes > 3_000 * 2 * "record 0000".len(), "what was read is kept beside it");
    let line = world.emulator.take_trace().remove(0).to_string();
    assert!(line.ends_with("w1 lambda Invoke enrich -> 200"), "{line}");
}

#[tokio::test(start_paused = true)]
async fn records_pass_with_keys_are_dropped_or_fail_as_the_function_says() {
    let world = World::new(|_| {});
    let says = |i, data: Vec<u8>| match i % 3 {
        0 => Says::Keyed(data, vec![("customer".into(), "a/b".into())]),
        1 => Says::Dropped,
        _ => Says::Failed,
    };
    world.emulator.create_function("enrich", each(says));
    let made = world.transform(&["a", "b", "c", "d", "e", "f"]).await;
    assert_eq!(delivered(&made), ["a", "d"]);
    assert!(made.records.iter().all(|record| record.transformed.as_ref().expect("keys").keys["customer"] == "a/b"));
    let code = "Lambda.ProcessingFailedStatus";
    assert_eq!(rejected(&made), [(code, 1, b"c".as_slice()), (code, 1, b"f")]);
    let arn = "arn:aws:lambda:us-east-1:111122223333:function:enrich:$LATEST";
    assert_eq!(made.rejected[0].detail, Detail::Lambda(arn.into()));
    assert_eq!((made.rejected[0].output_type, made.rejected[0].arrival), ("processing-failed", Millis(3)));
}

#[tokio::test(start_paused = true)]
async fn a_function_with_a_defect_fails_the_records_that_it_concerns() {
    let world = World::new(|_| {});
    let says = |i, data: Vec<u8>| match i {
        0 => Says::Silent,
        1 => Says::Twice(data),
        2 => Says::Raw(json!({ "result": "Ok" })),
        _ => Says::Ok(data),
    };
    world.emulator.create_function("enrich", each(says));
    let made = world.transform(&["a", "b", "c", "d"]).await;
    assert_eq!(delivered(&made), ["d"]);
    let missing = ("Lambda.MissingRecordId", 1, b"a".as_slice());
    let twice = ("Lambda.DuplicatedRecordId", 1, b"b".as_slice());
    assert_eq!(rejected(&made), [missing, twice, ("Lambda.InvalidReturnFormat", 1, b"c")]);
    assert_eq!(world.attempts(), ["answered"], "what was answered is final");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_read_is_final_for_all() {
    type Wrong = (&'static str, fn(usize, Vec<u8>) -> Says);
    let wrong: [Wrong; 2] = [
        ("Lambda.FunctionError", |_, _| Says::Raw(json!({ "result": "Fine", "data": "" }))),
        ("Lambda.FunctionError", |_, _| Says::Raw(json!({ "result": "Ok", "data": "!" }))),
    ];
    for (code, says) in wrong {
        let world = World::new(|_| {});
        world.emulator.create_function("enrich", each(says));
        assert_eq!(rejected(&world.transform(&["a", "b"]).await), [(code, 1, b"a".as_slice()), (code, 1, b"b")]);
    }
    let world = World::new(|_| {});
    world.emulator.create_function("enrich", |_| async { Reply::Returned("records".into()) });
    let made = world.transform(&["a"]).await;
    assert_eq!(rejected(&made), [("Lambda.JsonProcessingException", 1, b"a".as_slice())]);
}

#[tokio::test(start_paused = true)]
async fn a_function_that_throws_is_asked_as_often_as_the_config_says() {
    for (throws, retries, code) in
        [(3, 3, None), (4, 3, Some("Lambda.FunctionError")), (1, 0, Some("Lambda.FunctionError"))]
    {
        let world = World::new(|settings| settings.retries = retries);
        let calls = AtomicU64::new(0);
        world.emulator.create_function("enrich", move |event| {
            let throws = calls.fetch_add(1, Ordering::Relaxed) < throws;
            if throws { std::future::ready(Reply::failed("ValueError", "no")) } else { each(loud)(event) }
        });
        let made = world.transform(&["a"]).await;
        let expected: Vec<_> = code.iter().map(|code| (*code, retries + 1, b"a".as_slice())).collect();
        assert_eq!(rejected(&made), expected);
        assert_eq!(world.attempts().len() as u64, throws.min(u64::from(retries)) + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_function_may_take_five_minutes_and_no_more() {
    for (seconds, in_time) in [(299, true), (600, false)] {
        let world = World::new(|settings| settings.retries = 1);
        world.emulator.create_function("enrich", move |event| async move {
            sleep(Duration::from_secs(seconds)).await;
            each(loud)(event).await
        });
        let made = world.transform(&["a"]).await;
        assert_eq!(made.records.len(), usize::from(in_time));
        let expected: Vec<_> =
            (!in_time).then_some(("Lambda.FunctionTimeout", 2, b"a".as_slice())).into_iter().collect();
        assert_eq!(rejected(&made), expected);
    }
    let world = World::new(|settings| settings.retries = 1);
    world.emulator.create_function("enrich", each(loud));
    world.fails(Fault::Unanswered, 2);
    assert_eq!(rejected(&world.transform(&["a"]).await), [("Lambda.FunctionTimeout", 2, b"a".as_slice())]);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_away_makes_records_wait_until_it_is_back() {
    let faults = [
        (Fault::Throttle, "throttled"),
        (Fault::NotFound, "not_found"),
        (Fault::InternalError, "unavailable"),
        (Fault::InternalErrorAfterEffect, "unavailable"),
        (Fault::Away, "unreachable"),
        (Fault::DropRequest, "unreachable"),
        (Fault::DropAnswer, "unreachable"),
    ];
    for (fault, label) in faults {
        let world = World::new(|settings| settings.retries = 0);
        world.emulator.create_function("enrich", each(loud));
        world.fails(fault, 100);
        let made = world.transform(&["a", "b"]).await;
        assert_eq!((delivered(&made), made.rejected.len()), (vec!["A", "B"], 0), "{label}");
        let attempts = world.attempts();
        assert!(attempts.len() == 101 && attempts[..100].iter().all(|attempt| *attempt == label), "{attempts:?}");
        assert_eq!(world.seen.longest_wait.load(Ordering::Relaxed), 1);
        let waited = world.seen.start.elapsed();
        assert!((1_300..3_000).contains(&waited.as_secs()), "at most 30 s between attempts: {waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_right_that_is_taken_away_makes_records_wait_until_it_is_given_back() {
    let world = World::new(|settings| settings.retries = 0);
    let calls = AtomicU64::new(0);
    world.emulator.create_function("enrich", move |event| {
        let denied = calls.fetch_add(1, Ordering::Relaxed) < 10;
        if denied { std::future::ready(Reply::Refused(403, "AccessDeniedException")) } else { each(loud)(event) }
    });
    assert_eq!(delivered(&world.transform(&["a"]).await), ["A"]);
    assert_eq!(world.attempts()[..10], ["access_denied"; 10]);
}

#[tokio::test(start_paused = true)]
async fn what_an_invocation_cannot_carry_is_halved() {
    let world = World::new(|settings| settings.buffer_bytes = 4 << 20);
    // Twice as much comes back: 8 MiB of 4, in base64.
    world.emulator.create_function("enrich", each(|_, data| Says::Ok([data.clone(), data].concat())));
    let mebibyte = &*"x".repeat(1 << 20);
    let made = world.transform(&[mebibyte; 4]).await;
    assert_eq!(made.records.iter().map(|record| record.data.len()).collect::<Vec<_>>(), [2 << 20; 4]);
    assert_eq!(world.attempts(), ["too_large", "answered", "answered"]);
    // One that comes back too large by itself is a failure of the function.
    let world = World::new(|settings| settings.retries = 0);
    world.emulator.create_function("enrich", each(|_, data| Says::Ok(data.repeat(5))));
    let made = world.transform(&[mebibyte, "a"]).await;
    assert_eq!(delivered(&made), ["aaaaa"]);
    assert_eq!((made.rejected[0].code, made.rejected[0].attempts), ("Lambda.FunctionError", 1));
}

#[tokio::test(start_paused = true)]
async fn one_request_never_exceeds_what_lambda_takes() {
    let world = World::new(|settings| settings.buffer_bytes = 1 << 30);
    world.emulator.create_function("enrich", each(|_, data| Says::Ok(data)));
    // Many small ones, whose frames are most of the request, and one that no request can carry.
    let (small, huge) = ("x".repeat(7), "x".repeat(5 << 20));
    let mut data = vec![small.as_str(); 40_000];
    data.insert(20_000, &huge);
    let made = world.transform(&data).await;
    assert_eq!((made.records.len(), made.rejected.len()), (40_000, 1));
    assert_eq!((made.rejected[0].code, made.rejected[0].attempts), ("Lambda.RequestTooLargeException", 0));
    assert!(world.attempts().iter().all(|attempt| *attempt == "answered"), "none was refused: {:?}", world.attempts());
}
