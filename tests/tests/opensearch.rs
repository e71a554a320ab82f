//! Whole workers that deliver to an index in memory: killed in the middle, answers lost, documents refused for the moment
//! and for good. One document a record, one error line a refused one, one copy of each in the backup.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
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
const CONFIG: &str = "
version: 1
http: \"off\"
worker: { memory: 64MiB, shutdown_grace: 60s }
pipelines:
  search:
    lease: { table: standpipe-search, failover: 5s }
    source: { kinesis: { stream: events, start: trim_horizon, poll: 1s } }
    destinations:
      - opensearch:
          endpoint: http://search.test:9200
          auth: none
          index: events
          rotation: hourly
          buffer: { size: 1MiB, interval: 2s }
          backup: { mode: all, bucket: failed, prefix: raw/, error_prefix: 'bad/!{firehose:error-output-type}/' }
";

/// An index that goes wrong by dice.
#[derive(Clone)]
struct Index {
    documents: Arc<Mutex<BTreeMap<(String, String), Value>>>,
    /// Documents that came again.
    repeats: Arc<Mutex<u64>>,
    dice: Arc<Mutex<Dice>>,
    connections: Arc<Mutex<JoinSet<()>>>,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Index")
    }
}

#[async_trait]
impl Dial for Index {
    async fn dial(&self, _: &str, _: u16) -> Result<BoxStream, DialError> {
        if self.one_in(12) {
            return Err(DialError::Unreachable("connection refused".to_owned()));
        }
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        self.connections.lock().expect("connections").spawn(self.clone().serve(theirs));
        Ok(Box::new(ours))
    }
}

impl Index {
    fn one_in(&self, of: u64) -> bool {
        self.dice.lock().expect("dice").roll().is_multiple_of(of)
    }

    /// Answers request by request until something breaks.
    async fn serve(self, mut stream: DuplexStream) {
        while let Some((is_bulk, body)) = read(&mut stream).await {
            sleep(Duration::from_millis(50)).await;
            if is_bulk && self.one_in(10) {
                return; // nothing was done
            }
            let busy = is_bulk && self.one_in(5);
            let answer = if is_bulk { self.bulk(&body, busy).to_string() } else { "{}".to_owned() };
            if is_bulk && self.one_in(6) {
                return; // everything was done
            }
            let status = if is_bulk && self.one_in(10) { "503 Away" } else { "200 OK" };
            let text = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
            if stream.write_all(text.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn bulk(&self, body: &[u8], busy: bool) -> Value {
        let mut documents = self.documents.lock().expect("documents");
        let lines: Vec<&[u8]> = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
        let mut items = Vec::new();
        for (number, pair) in lines.chunks(2).enumerate() {
            let action: Value = serde_json::from_slice(pair[0]).expect("an action");
            let document: Value = serde_json::from_slice(pair[1]).expect("a document");
            let text = |name: &str| action["create"][name].as_str().expect("a name").to_owned();
            let key = (text("_index"), text("_id"));
            let status = if busy && number % 3 == 0 {
                429
            } else if document["bad"] == json!(true) {
                400
            } else if let Entry::Vacant(free) = documents.entry(key) {
                free.insert(document);
                201
            } else {
                *self.repeats.lock().expect("a number") += 1;
                409
            };
            let kind = if status == 409 { "version_conflict_engine_exception" } else { "an_exception" };
            let error = json!({ "type": kind, "reason": "as the test wants" });
            let item =
                if status == 201 { json!({ "status": 201 }) } else { json!({ "status": status, "error": error }) };
            items.push(json!({ "create": item }));
        }
        json!({ "errors": false, "items": items })
    }
}

/// A request: whether it is a bulk request, and its body.
async fn read(stream: &mut DuplexStream) -> Option<(bool, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((head.starts_with("post /_bulk"), body))
}

struct World {
    emulator: Arc<Emulator>,
    clock: Arc<SimClock>,
    index: Index,
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
        let index = Index { documents: Arc::default(), repeats: Arc::default(), dice, connections: Arc::default() };
        let (workers, stop, metrics) = (JoinSet::new(), CancellationToken::new(), SharedMetrics::new());
        Self { emulator, clock, index, metrics, workers, stop, produced: 0 }
    }

    fn start(&mut self, name: &str) -> AbortHandle {
        let platform = Platform {
            sdk: platform::embedded(Some(self.emulator.connect(name).http_client()), "http://127.0.0.1:4600"),
            clock: self.clock.clone(),
            random: Arc::new(SimRandom::new(self.produced)),
            offload: Arc::new(Inline),
            heartbeats: None,
            outside: Outside { dial: Some(Arc::new(self.index.clone())), ..Outside::default() },
            metrics: self.metrics.clone(),
        };
        let config = standpipe_config::parse("search.yaml", CONFIG, &|_| None, &standpipe_config::Unchecked);
        let mut config = config.unwrap_or_else(|errors| panic!("{}", errors.render(false)));
        config.worker.id = Some(name.to_owned());
        let (options, stop) = (Options { version: "test".into(), ..Options::default() }, self.stop.clone());
        self.workers.spawn(async move { standpipe_worker::run(&config, &options, platform, stop).await })
    }

    /// Of 20 records one is refused for good.
    fn produce(&mut self, records: u64) {
        let record = |n: u64| (format!("key-{n}"), Bytes::from(format!("{{\"n\":{n},\"bad\":{}}}", n % 20 == 7)));
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
fn numbers(text: &[u8]) -> Vec<u64> {
    let documents = serde_json::Deserializer::from_slice(text).into_iter::<Value>();
    let mut numbers: Vec<u64> = documents.map(|document| document.expect("JSON")["n"].as_u64().expect("n")).collect();
    numbers.sort_unstable();
    numbers
}

#[tokio::test(start_paused = true)]
async fn one_document_a_record_whatever_is_killed_lost_or_refused() {
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
        sleep(30 * SECOND).await;
        world.drain().await;

        let documents = world.index.documents.lock().expect("documents").clone();
        let mut found: Vec<u64> = documents.values().map(|document| document["n"].as_u64().expect("n")).collect();
        found.sort_unstable();
        let (bad, good): (Vec<u64>, Vec<u64>) = (0..world.produced).partition(|n| n % 20 == 7);
        assert_eq!(found, good, "seed {seed}: one document a record");
        assert!(*world.index.repeats.lock().expect("a number") > 0, "seed {seed}: nothing came twice");
        assert!(documents.keys().all(|(index, id)| index.starts_with("events-20") && id.len() == 26));
        let raw: Vec<u8> = String::from_utf8(world.objects("bad/AmazonOpenSearchService-failed/"))
            .expect("text")
            .lines()
            .flat_map(|line| {
                let line: Value = serde_json::from_str(line).expect("an error line");
                assert_eq!(line["errorCode"], json!("400"));
                let data = line["rawData"].as_str().expect("the record").to_owned();
                base64_simd::STANDARD.decode_to_vec(data).expect("base64")
            })
            .collect();
        assert_eq!(numbers(&raw), bad, "seed {seed}: one error line a refused record");
        assert_eq!(numbers(&world.objects("raw/")), (0..world.produced).collect::<Vec<_>>(), "seed {seed}: the backup");
    }
}
