//! Partitions, error objects and the backup of source records through a whole worker whose S3 fails now and then: whatever
//! becomes of a record, it becomes of it exactly once, and the backup has all of them as they were read.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use standpipe_emulator::{Emulator, Fault, Options as EmulatorOptions, Rule, Service};
use standpipe_flow::Clock;
use standpipe_tests::simulation::{Dice, Inline, SimClock, SimRandom};
use standpipe_worker::{Ending, Options, Platform, SharedMetrics, platform};
use tokio_util::sync::CancellationToken;

const STREAM: &str = "events";
const RECORDS: u64 = 400;

const CONFIG: &str = "version: 1
http: \"off\"
worker: { memory: 64MiB, shutdown_grace: 60s }
pipelines:
  orders:
    lease: { table: standpipe-orders, failover: 5s }
    source: { kinesis: { stream: events, start: trim_horizon } }
    transforms:
      - jq: 'select(.keep)'
    destinations:
      - s3:
          bucket: lake
          prefix: \"out/customer=!{partitionKeyFromQuery:customer}/\"
          error_prefix: \"errors/!{firehose:error-output-type}/\"
          partition_by: { customer: .customer }
          partitions: { max_active: 20 }
          buffer: { size: 64MiB, interval: 60s }
          backup: { mode: all, bucket: raw, prefix: \"all/\" }
";

/// What a record becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    /// A line in the objects of this customer.
    Delivered(&'static str),
    /// An error line: it is no JSON, or names no customer.
    Error,
    /// Filtered.
    Dropped,
}

/// Names as they are, and as they stand in a key.
const CUSTOMERS: [(&str, &str); 5] =
    [("acme", "acme"), ("..", "%2E%2E"), ("a/b", "a%2Fb"), ("../../etc", "..%2F..%2Fetc"), ("x\\u0000y", "x%00y")];

fn record(dice: &mut Dice, n: u64) -> (String, Fate) {
    let (name, key) = CUSTOMERS[dice.within(0, 4) as usize];
    match dice.within(0, 9) {
        0 => (format!("{{\"n\":{n},"), Fate::Error),
        1 => (format!("{{\"n\":{n},\"keep\":true}}"), Fate::Error),
        2 => (format!("{{\"n\":{n},\"keep\":true,\"customer\":\"\"}}"), Fate::Error),
        3 | 4 => (format!("{{\"n\":{n},\"keep\":false,\"customer\":\"{name}\"}}"), Fate::Dropped),
        _ => (format!("{{\"n\":{n},\"keep\":true,\"customer\":\"{name}\"}}"), Fate::Delivered(key)),
    }
}

async fn deliver(seed: u64, records: &[(String, Fate)]) -> Arc<Emulator> {
    let clock = Arc::new(SimClock::start());
    let of_emulator = clock.clone();
    let options = EmulatorOptions { seed, ..EmulatorOptions::new(Arc::new(move || of_emulator.wall().0)) };
    let emulator = Emulator::new(options).expect("an emulator in memory opens");
    emulator.create_stream(STREAM, 3).expect("a new stream");
    for bucket in ["lake", "raw"] {
        emulator.create_bucket(bucket).expect("a bucket in memory");
    }
    for (n, (data, _)) in records.iter().enumerate() {
        emulator.put_records(STREAM, &[(n.to_string(), Bytes::from(data.clone()))]).expect("the stream takes it");
    }
    for (fault, operation) in [
        (Fault::Throttle, "CreateMultipartUpload"),
        (Fault::InternalError, "UploadPart"),
        (Fault::DropAnswer, "UploadPart"),
        (Fault::DropAnswer, "CompleteMultipartUpload"),
        (Fault::OkWithError, "CompleteMultipartUpload"),
    ] {
        emulator.faults().add(Rule::new(Service::S3, fault).operation(operation).probability(0.08));
    }
    let config = standpipe_config::parse("partitions.yaml", CONFIG, &|_| None, &standpipe_config::Unchecked);
    let config = config.unwrap_or_else(|errors| panic!("the config is refused:\n{}", errors.render(false)));
    let platform = Platform {
        sdk: platform::embedded(Some(emulator.connect("worker").http_client()), "http://127.0.0.1:4600"),
        clock,
        random: Arc::new(SimRandom::new(seed)),
        offload: Arc::new(Inline),
        heartbeats: None,
        outside: Default::default(),
        metrics: SharedMetrics::new(),
    };
    let options = Options { until_caught_up: true, version: "test".into(), ..Options::default() };
    let ending = standpipe_worker::run(&config, &options, platform, CancellationToken::new()).await;
    assert!(matches!(ending, Ok(Ending::CaughtUp)), "{ending:?}");
    emulator
}

/// Every object of a bucket.
fn objects(emulator: &Emulator, bucket: &str) -> Vec<(String, String)> {
    let keys = emulator.objects(bucket).into_iter().map(|object| object.key);
    let body = |key: &str| emulator.object(bucket, key).expect("it was just listed");
    keys.map(|key| (String::from_utf8(body(&key).to_vec()).expect("text"), key))
        .map(|(body, key)| (key, body))
        .collect()
}

/// Counts up.
fn add<K: Ord>(found: &mut BTreeMap<K, u32>, key: K) {
    *found.entry(key).or_default() += 1;
}

#[tokio::test(start_paused = true)]
async fn delivered_rejected_and_filtered_are_what_came_in_and_the_backup_has_it_all() {
    for seed in 1..=4 {
        let mut dice = Dice::new(seed);
        let records: Vec<(String, Fate)> = (0..RECORDS).map(|n| record(&mut dice, n)).collect();
        let emulator = deliver(seed, &records).await;
        let (mut delivered, mut errors) = (BTreeMap::new(), BTreeMap::new());
        for (key, body) in objects(&emulator, "lake") {
            if let Some(rest) = key.strip_prefix("out/customer=") {
                let customer = rest.split('/').next().expect("a segment").to_owned();
                body.lines().for_each(|line| add(&mut delivered, (customer.clone(), line.to_owned())));
            } else {
                assert!(key.starts_with("errors/processing-failed/"), "{key}");
                for line in body.lines() {
                    let line: serde_json::Value = serde_json::from_str(line).expect("an error line is JSON");
                    let raw = line["rawData"].as_str().expect("the record");
                    let raw = base64_simd::STANDARD.decode_to_vec(raw).expect("base64");
                    add(&mut errors, String::from_utf8(raw).expect("text"));
                }
            }
        }
        let (mut expected, mut failed) = (BTreeMap::new(), BTreeMap::new());
        for (data, fate) in &records {
            match fate {
                Fate::Delivered(key) => add(&mut expected, ((*key).to_owned(), data.clone())),
                Fate::Error => add(&mut failed, data.clone()),
                Fate::Dropped => {}
            }
        }
        assert_eq!(delivered, expected, "seed {seed}");
        assert_eq!(errors, failed, "seed {seed}");
        let kept: usize = objects(&emulator, "raw").iter().map(|(_, body)| body.len()).sum();
        assert_eq!(kept, records.iter().map(|(data, _)| data.len()).sum::<usize>(), "seed {seed}");
        let kept: String = objects(&emulator, "raw").into_iter().map(|(_, body)| body).collect();
        assert!(records.iter().all(|(data, _)| kept.contains(data)), "seed {seed}");
    }
}
