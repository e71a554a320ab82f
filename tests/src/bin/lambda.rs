//! The transform by a Lambda function over TCP, with functions that others' libraries read the event for.
//!
//! `lambda URL FUNCTION... [--records 5000]` asks each function about records whose fate is written in them, and looks at
//! every one that comes back: its fate, its bytes, and what the function's library said of its shard, keys, numbers and
//! time. A function whose name begins with `raises` must fail them all. Exits 1 if anything is wrong.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use standpipe_flow::{Chunk, LeaseKey, Millis, Position, Record, SequenceNumber, Taken, Tenure, Transform};
use standpipe_transform::lambda::{Observer, Seams};
use standpipe_transform::{Counts, Fate, Lambda, LambdaSettings};
use standpipe_worker::platform::{SystemClock, SystemRandom, Threads, embedded};

const SHARD: &str = "shardId-000000000003";
const STREAM: &str = "arn:aws:kinesis:us-east-1:111122223333:stream/orders";
/// Small, so that there are many invocations.
const BUFFER_BYTES: usize = 32 << 10;
const ARRIVAL: u64 = 1_700_000_000_123;

fn main() -> ExitCode {
    let mut functions: Vec<String> = std::env::args().skip(1).collect();
    let mut count = 5_000;
    if let Some(at) = functions.iter().position(|argument| argument == "--records") {
        count = functions.get(at + 1).and_then(|count| count.parse().ok()).unwrap_or(count);
        functions.truncate(at);
    }
    if functions.len() < 2 {
        eprintln!("usage: lambda URL FUNCTION... [--records N]");
        return ExitCode::from(2);
    }
    let url = functions.remove(0);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be built");
    let wrong: usize = functions.iter().map(|function| runtime.block_on(ask(&url, function, count))).sum();
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Debug, Default)]
struct Seen {
    invocations: AtomicU64,
    longest_millis: AtomicU64,
}

impl Counts for Seen {
    fn records(&self, _: &str, _: Fate, _: u64) {}
}

impl Observer for Seen {
    fn attempt(&self, _: &'static str, took: Duration) {
        self.invocations.fetch_add(1, Ordering::Relaxed);
        self.longest_millis.fetch_max(u64::try_from(took.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn waiting(&self, change: i64) {
        if change > 0 {
            eprintln!("the function cannot be asked, and records wait");
        }
    }
}

/// Asks one function, prints the figures, and gives how many records came to something else than they should.
async fn ask(url: &str, function: &str, count: u64) -> usize {
    let seen = Arc::new(Seen::default());
    let clock = Arc::new(SystemClock::start());
    let seams = Seams { clock, random: Arc::new(SystemRandom), offload: Arc::new(Threads), observer: seen.clone() };
    let name = function.parse().expect("the name of a function");
    let settings = LambdaSettings { buffer_bytes: BUFFER_BYTES, ..LambdaSettings::new(name, STREAM, "lake") };
    let lambda = Lambda::new(settings, &embedded(None, url), seams).expect("a stream");
    let read = chunk(count);
    let begun = tokio::time::Instant::now();
    let made = lambda.apply(read.clone()).await;
    let took = begun.elapsed();
    let wrong = check(&read, &made, function.starts_with("raises"));
    println!(
        "{function}: {count} records in, {} passed, {} dropped, {} failed, {} wrong; {} attempts, the longest {} ms; {:.2} s",
        made.records.len(),
        read.records.len() - made.records.len() - made.rejected.len(),
        made.rejected.len(),
        wrong.len(),
        seen.invocations.load(Ordering::Relaxed),
        seen.longest_millis.load(Ordering::Relaxed),
        took.as_secs_f64(),
    );
    wrong.iter().take(5).for_each(|wrong| println!("  {wrong}"));
    wrong.len()
}

/// Records with text of every kind; some come from aggregates, some are parts of one record.
fn chunk(count: u64) -> Chunk {
    let texts = ["plain", "", "\u{1f9c2} süß", "quote \" and \\ and \n", "\u{0}\u{1f}"];
    let record = |i: u64| {
        let kind = ["ok", "ok", "drop", "ok", "fail", "ok", "ok"][i as usize % 7];
        let data = json!({ "n": i, "kind": kind, "text": texts[i as usize % texts.len()].repeat(i as usize % 40) });
        let mut record = Record {
            data: Bytes::from(data.to_string()),
            partition_key: format!("key-{} ü\"", i % 17).into(),
            sequence: SequenceNumber::parse(format!("496559620666014630325225895435351130561086993314516{:05}", i / 3))
                .expect("digits"),
            sub: i % 3,
            arrival: Millis(ARRIVAL + i),
            transformed: None,
            partition: None,
        };
        if i % 3 == 2 {
            // Two parts of the user record before it.
            record.sub = 1;
            record.transformed.get_or_insert_default().part = 1;
        }
        record
    };
    let records: Vec<Record> = (0..count).map(record).collect();
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

/// What is wrong, a line each.
fn check(read: &Chunk, made: &Chunk, raises: bool) -> Vec<String> {
    let name = |record: &Record| (record.sequence.clone(), record.sub, record.part());
    let mut passed: BTreeMap<_, &Record> = made.records.iter().map(|record| (name(record), record)).collect();
    let mut failed: BTreeMap<&[u8], _> = made.rejected.iter().map(|record| (&record.data[..], record)).collect();
    let mut wrong = Vec::new();
    if !made.records.is_sorted_by_key(name) {
        wrong.push("records came back out of order".to_owned());
    }
    for record in &read.records {
        let data: Value = serde_json::from_slice(&record.data).expect("it was JSON");
        let (passed, failed) = (passed.remove(&name(record)), failed.remove(&record.data[..]));
        let as_it_should = match (data["kind"].as_str(), passed, failed) {
            (_, None, Some(failed)) if raises => failed.code == "Lambda.FunctionError" && failed.attempts == 4,
            (Some("drop"), None, None) => !raises,
            (Some("fail"), None, Some(failed)) => {
                failed.code == "Lambda.ProcessingFailedStatus" && failed.attempts == 1
            }
            (Some("ok"), Some(passed), None) => !raises && is_enriched(record, &data, passed),
            _ => false,
        };
        if !as_it_should {
            let failed = failed.map(|failed| (failed.code, failed.attempts));
            wrong.push(format!("record {} ({}): passed {passed:?}, failed {failed:?}", data["n"], data["kind"]));
        }
    }
    wrong.extend(passed.into_values().map(|record| format!("nobody sent {record:?}")));
    wrong
}

/// Whether a record came back as the functions make them.
fn is_enriched(read: &Record, data: &Value, passed: &Record) -> bool {
    let expected = json!({
        "n": data["n"],
        "text": data["text"],
        "shard": SHARD,
        "key": *read.partition_key,
        "sequence": read.sequence.as_str(),
        "sub": read.sub,
        "arrival": read.arrival.0,
        "stream": STREAM,
    });
    let keys = passed.transformed.as_ref().map(|transformed| &transformed.keys);
    serde_json::from_slice::<Value>(&passed.data).is_ok_and(|made| made == expected)
        && keys.is_some_and(|keys| keys.len() == 1 && keys["kind"] == "ok")
}
