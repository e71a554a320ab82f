//! Whole workers that deliver to an HTTP endpoint in memory: killed in the middle, answers lost, requests too large, records
//! refused. Every record under one request id, no id for two sets of records, one error line a refused record, one copy of
//! each in the backup.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use standpipe_destinations::http::dial::{BoxStream, Dial, DialError};
use standpipe_emulator::{Emulator, Options as EmulatorOptions};
use standpipe_flow::Clock;
use standpipe_tests::simulation::{Dice, Inline, SimClock, SimRandom};
use standpipe_worker::platform::Outside;
use standpipe_worker::{Ending, Options, Platform, SharedMetrics, WorkerError, platform};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

const SECOND: Duration = Duration::from_secs(1);
const KEY: &str = "canary-of-the-key";
const CONFIG: &str = "
version: 1
http: \"off\"
worker: { memory: 64MiB, shutdown_grace: 60s }
pipelines:
  calls:
    lease: { table: standpipe-calls, failover: 5s }
    source: { kinesis: { stream: events, start: trim_horizon, poll: 1s } }
    destinations:
      - http:
          url: http://in.test/firehose
          access_key: canary-of-the-key
          buffer: { size: 1MiB, interval: 2s }
          retry: { for: 20s }
          backup: { mode: all, bucket: failed, prefix: raw/, error_prefix: 'bad/!{firehose:error-output-type}/' }
";

#[derive(Default)]
struct Known {
    /// The numbers of the records that each request id stands for.
    ids: BTreeMap<String, Vec<u64>>,
    taken: BTreeSet<String>,
    acknowledged: BTreeSet<String>,
    repeats: u64,
}

/// An endpoint that goes wrong by dice.
#[derive(Clone)]
struct Calls {
    known: Arc<Mutex<Known>>,
    dice: Arc<Mutex<Dice>>,
    connections: Arc<Mutex<JoinSet<()>>>,
}

impl std::fmt::Debug for Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Calls")
    }
}

#[async_trait]
impl Dial for Calls {
    async fn dial(&self, _: &str, _: u16) -> Result<BoxStream, DialError> {
        if self.one_in(12) {
            return Err(DialError::Unreachable("connection refused".to_owned()));
        }
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        self.connections.lock().expect("connections").spawn(self.clone().serve(theirs));
        Ok(Box::new(ours))
    }
}

impl Calls {
    fn one_in(&self, of: u64) -> bool {
        self.dice.lock().expect("dice").roll().is_multiple_of(of)
    }

    /// Answers request by request until something breaks.
    async fn serve(self, mut stream: DuplexStream) {
        while let Some((is_post, body)) = read(&mut stream).await {
            sleep(Duration::from_millis(50)).await;
            let (status, text) = if !is_post {
                ("405 No", String::new())
            } else if self.one_in(10) {
                return; // nothing was done
            } else {
                self.answer(&body)
            };
            if is_post && self.one_in(6) {
                return; // everything was done
            }
            let head = "content-type: application/json\r\ncontent-length";
            let text = format!("HTTP/1.1 {status}\r\n{head}: {}\r\n\r\n{text}", text.len());
            if stream.write_all(text.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn answer(&self, body: &[u8]) -> (&'static str, String) {
        let request: Value = serde_json::from_slice(body).expect("a request");
        let id = request["requestId"].as_str().expect("an id").to_owned();
        let data = |record: &Value| {
            let text = record["data"].as_str().expect("data");
            base64_simd::STANDARD.decode_to_vec(text).expect("base64")
        };
        let records: Vec<Vec<u8>> = request["records"].as_array().expect("records").iter().map(data).collect();
        let numbers = numbers(&records.concat(), false);
        assert!(!numbers.is_empty(), "no request is empty");
        let mut known = self.known.lock().expect("what is known");
        let before = known.ids.insert(id.clone(), numbers.clone());
        assert!(before.is_none_or(|before| before == numbers), "{id} stands for two sets of records");
        if numbers.len() > 25 {
            return ("413 Too Large", String::new());
        }
        if numbers.iter().any(|n| n % 500 == 7) {
            return ("400 Bad", "{\"errorMessage\":\"cannot parse\"}".to_owned());
        }
        if self.one_in(8) {
            return ("503 Away", String::new());
        }
        if !known.taken.insert(id.clone()) {
            known.repeats += 1;
        }
        if self.one_in(10) {
            return ("200 OK", "<html>".to_owned());
        }
        let text = format!("{{\"requestId\":\"{id}\",\"timestamp\":1}}");
        known.acknowledged.insert(id);
        ("200 OK", text)
    }
}

/// A request: whether it has records, and its body.
async fn read(stream: &mut DuplexStream) -> Option<(bool, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    if head.starts_with("post /firehose ") {
        assert!(head.contains("x-amz-firehose-access-key: canary-of-the-key\r\n"), "{head}");
        assert!(head.contains("x-amz-firehose-source-arn: arn:aws:firehose:"), "{head}");
    }
    Some((head.starts_with("post /firehose "), body))
}

struct World {
    emulator: Arc<Emulator>,
    clock: Arc<SimClock>,
    calls: Calls,
    metrics: SharedMetrics,
    workers: JoinSet<Result<Ending, WorkerError>>,
    stop: CancellationToken,
    produced: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let clock = Arc::new(SimClock::start());
        let of_emulator = clock.clone();
        let options = EmulatorOptions::new(Arc::new(move || of_emulator.wall().0));
        let emulator = Emulator::new(options).expect("an emulator in memory opens");
        emulator.create_stream("events", 2).expect("a new stream");
        emulator.create_bucket("failed").expect("a bucket in memory");
        let dice = Arc::new(Mutex::new(Dice::new(seed)));
        let calls = Calls { known: Arc::default(), dice, connections: Arc::default() };
        let (workers, stop, metrics) = (JoinSet::new(), CancellationToken::new(), SharedMetrics::new());
        Self { emulator, clock, calls, metrics, workers, stop, produced: 0 }
    }

    fn start(&mut self, name: &str) -> AbortHandle {
        let platform = Platform {
            sdk: platform::embedded(Some(self.emulator.connect(name).http_client()), "http://127.0.0.1:4600"),
            clock: self.clock.clone(),
            random: Arc::new(SimRandom::new(self.produced)),
            offload: Arc::new(Inline),
            heartbeats: None,
            outside: Outside { dial: Some(Arc::new(self.calls.clone())), ..Outside::default() },
            metrics: self.metrics.clone(),
        };
        let config = standpipe_config::parse("calls.yaml", CONFIG, &|_| None, &standpipe_config::Unchecked);
        let mut config = config.unwrap_or_else(|errors| panic!("{}", errors.render(false)));
        config.worker.id = Some(name.to_owned());
        let (options, stop) = (Options { version: "test".into(), ..Options::default() }, self.stop.clone());
        self.workers.spawn(async move { standpipe_worker::run(&config, &options, platform, stop).await })
    }

    /// Of 500 records one is refused for as long as it is tried, with the request that it is in.
    fn produce(&mut self, records: u64) {
        let record = |n: u64| (format!("key-{n}"), Bytes::from(format!("{{\"n\":{n}}}")));
        let records: Vec<(String, Bytes)> = (self.produced..self.produced + records).map(record).collect();
        self.produced += records.len() as u64;
        self.emulator.put_records("events", &records).expect("the stream takes it");
    }

    async fn drain(&mut self) {
        self.stop.cancel();
        while let Some(ended) = self.workers.join_next().await {
            let cancelled = ended.as_ref().is_err_and(tokio::task::JoinError::is_cancelled);
            assert!(matches!(ended, Ok(Ok(Ending::Drained))) || cancelled, "{ended:?}");
        }
    }

    /// The bytes of all objects under a prefix.
    fn objects(&self, prefix: &str) -> Vec<u8> {
        let objects = self.emulator.objects("failed");
        let found = objects.iter().filter(|object| object.key.starts_with(prefix));
        found.flat_map(|object| self.emulator.object("failed", &object.key).expect("it was just listed")).collect()
    }
}

/// The numbers of JSON documents that stand one after the other.
fn numbers(text: &[u8], sorted: bool) -> Vec<u64> {
    let documents = serde_json::Deserializer::from_slice(text).into_iter::<Value>();
    let mut numbers: Vec<u64> = documents.map(|document| document.expect("JSON")["n"].as_u64().expect("n")).collect();
    if sorted {
        numbers.sort_unstable();
    }
    numbers
}

#[tokio::test(start_paused = true)]
async fn every_record_is_under_one_request_id_whatever_is_killed_lost_or_refused() {
    for seed in 0..3 {
        let mut world = World::new(seed);
        let mut dice = Dice::new(seed + 100);
        let mut running = vec![world.start("first"), world.start("second")];
        for second in 0..60 {
            world.produce(30);
            sleep(SECOND + Duration::from_millis(dice.within(0, 499))).await;
            if second % 12 == 11 {
                // Gone without a word, wherever it stands.
                running.remove(0).abort();
                running.push(world.start(&format!("worker-{second}")));
            }
        }
        // What is refused holds up what is behind it for a while, each time.
        sleep(900 * SECOND).await;
        world.drain().await;

        let bad = world.objects("bad/http-endpoint-failed/");
        let raw: Vec<u8> = String::from_utf8(bad)
            .expect("text")
            .lines()
            .flat_map(|line| {
                let line: Value = serde_json::from_str(line).expect("an error line");
                // Refused with the status, or by a page that was the last word when its time was over.
                let code = line["errorCode"].as_str().expect("a code");
                let codes = ["HttpEndpoint.DestinationException", "HttpEndpoint.InvalidResponseFromDestination"];
                assert!(codes.contains(&code), "{code}");
                assert!(line["dataId"].as_str().is_some_and(|id| id.ends_with(".0")), "{line}");
                base64_simd::STANDARD.decode_to_vec(line["rawData"].as_str().expect("the record")).expect("base64")
            })
            .collect();
        let refused = numbers(&raw, true);
        let known = world.calls.known.lock().expect("what is known");
        let mut found: Vec<u64> = known.acknowledged.iter().flat_map(|id| known.ids[id].clone()).collect();
        found.sort_unstable();
        assert!(found.is_sorted_by(|one, next| one < next), "seed {seed}: a record is under two ids");
        assert!(refused.is_sorted_by(|one, next| one < next), "seed {seed}: a record has two error lines");
        let all: Vec<u64> = (0..world.produced).collect();
        let there: BTreeSet<u64> = found.iter().chain(&refused).copied().collect();
        assert!(there.iter().eq(&all), "seed {seed}: every record is acknowledged, or an error line");
        assert!(known.repeats > 0, "seed {seed}: nothing came twice");
        assert!(all.iter().filter(|n| *n % 500 == 7).all(|n| refused.contains(n)), "seed {seed}");
        assert_eq!(numbers(&world.objects("raw/"), true), all, "seed {seed}: the backup");
        assert!(!world.metrics.encode().contains(KEY), "seed {seed}: the key is in the metrics");
    }
}
