//! Bad records through a whole worker, one destination that takes them as they are and one that converts: each is delivered
//! or becomes a line of an error object, exactly once, and nothing ever stops.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use standpipe_emulator::{Emulator, Options as EmulatorOptions};
use standpipe_flow::Clock;
use standpipe_tests::simulation::{Inline, SimClock, SimRandom};
use standpipe_worker::{Ending, Options, Platform, SharedMetrics, platform};
use tokio_util::sync::CancellationToken;

const STREAM: &str = "events";
const BUCKET: &str = "lake";
const MIB: usize = 1 << 20;
const LEVELS: usize = 200_000;

/// What becomes of a record whose destination is Parquet with `id bigint, name string`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// A row with this id.
    Row(i64),
    /// A row without an id.
    RowWithoutId,
    /// An error line with this code.
    Error(&'static str),
}

const PARSE: Fate = Fate::Error("DataFormatConversion.ParseError");
const MALFORMED: Fate = Fate::Error("DataFormatConversion.MalformedData");

fn bad() -> Vec<(Vec<u8>, Fate)> {
    let text = |text: &str, fate| (text.as_bytes().to_vec(), fate);
    let name_of =
        |id: i64, letters: usize| format!("{{\"id\":{id},\"name\":\"{}\"}}", "x".repeat(letters)).into_bytes();
    let deep = format!("{{\"id\":1,\"other\":{}{}}}", "[".repeat(LEVELS), "]".repeat(LEVELS)).into_bytes();
    let open = format!("{{\"id\":1,\"name\":{}", "[".repeat(LEVELS)).into_bytes();
    vec![
        // broken JSON
        text("{\"id\":", PARSE),
        text("{\"id\":1,}", PARSE),
        text("{\"id\":NaN}", PARSE),
        text("{'id':1}", PARSE),
        text("{\"id\":1", PARSE),
        text("}", PARSE),
        // empty
        text("", MALFORMED),
        text(" \t", MALFORMED),
        // binary
        ((0..=255).collect(), MALFORMED),
        (b"{\"id\":1,\"name\":\"\xFF\xFE\"}".to_vec(), MALFORMED),
        (vec![0; 1000], PARSE),
        // 1 MiB, and the most that a stream takes
        (name_of(1_000, MIB - 40), Fate::Row(1_000)),
        (name_of(1_001, 10 * MIB - 100), Fate::Row(1_001)),
        (vec![b'x'; MIB], PARSE),
        (vec![b'['; MIB], PARSE),
        // deep nesting
        (deep, MALFORMED),
        (open, PARSE),
        // wrong types
        text("{\"id\":\"abc\"}", MALFORMED),
        text("{\"id\":{\"a\":1}}", MALFORMED),
        text("{\"id\":[1]}", MALFORMED),
        text("{\"id\":true}", MALFORMED),
        text("{\"id\":1e999}", MALFORMED),
        text("{\"id\":9223372036854775808}", MALFORMED),
        text("42", MALFORMED),
        text("null", MALFORMED),
        text("\"text\"", MALFORMED),
        text("[{\"id\":1}]", MALFORMED),
        // odd and good
        text("{}", Fate::RowWithoutId),
        text("{\"id\":null}", Fate::RowWithoutId),
        text("{\"id\":1002,\"other\":{\"a\":[1,2]}}", Fate::Row(1_002)),
        text("{\"id\":-9223372036854775808}", Fate::Row(i64::MIN)),
    ]
}

fn records() -> Vec<(Vec<u8>, Fate)> {
    let mut records = Vec::new();
    for (number, bad) in (0..).zip(bad()) {
        records.push((format!("{{\"id\":{number},\"name\":\"good\"}}").into_bytes(), Fate::Row(number)));
        records.push(bad);
    }
    records
}

const CONFIG: &str = "version: 1
http: \"off\"
worker: { memory: 64MiB, shutdown_grace: 60s }
pipelines:
  lines:
    lease: { table: standpipe-lines, failover: 5s }
    source: { kinesis: { stream: events, start: trim_horizon } }
    destinations:
      - s3: { bucket: lake, prefix: \"lines/\", buffer: { size: 1MiB, interval: 1s } }
  rows:
    lease: { table: standpipe-rows, failover: 5s }
    source: { kinesis: { stream: events, start: trim_horizon } }
    destinations:
      - s3:
          bucket: lake
          prefix: \"rows/\"
          error_prefix: \"errors/!{firehose:error-output-type}/\"
          format: { parquet: {} }
          schema: { columns: \"id bigint, name string\" }
          buffer: { size: 64MiB, interval: 1s }
";

/// Runs a worker over both pipelines until it has caught up.
async fn deliver(records: &[(Vec<u8>, Fate)]) -> Arc<Emulator> {
    let clock = Arc::new(SimClock::start());
    let of_emulator = clock.clone();
    let options = EmulatorOptions::new(Arc::new(move || of_emulator.wall().0));
    let emulator = Emulator::new(options).expect("an emulator in memory opens");
    emulator.create_stream(STREAM, 1).expect("a new stream");
    emulator.create_bucket(BUCKET).expect("a bucket in memory");
    for (data, _) in records {
        emulator.put_records(STREAM, &[("key".to_owned(), Bytes::from(data.clone()))]).expect("the stream takes it");
    }
    let checks = standpipe_config::Unchecked;
    let config = match standpipe_config::parse("bad.yaml", CONFIG, &|_| None, &checks) {
        Ok(config) => config,
        Err(errors) => panic!("the config is refused:\n{}", errors.render(false)),
    };
    let platform = Platform {
        sdk: platform::embedded(Some(emulator.connect("worker").http_client()), "http://127.0.0.1:4600"),
        clock,
        random: Arc::new(SimRandom::new(1)),
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

/// The objects below a prefix, in the order of the commits that wrote them: the commit id ends the key.
fn objects(emulator: &Emulator, prefix: &str) -> Vec<Bytes> {
    let keys = emulator.objects(BUCKET).into_iter().map(|object| object.key);
    let mut keys: Vec<String> = keys.filter(|key| key.starts_with(prefix)).collect();
    keys.sort();
    keys.iter().map(|key| emulator.object(BUCKET, key).expect("it was just listed")).collect()
}

fn ids(object: Bytes) -> Vec<Option<i64>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(object).expect("a Parquet file").build().expect("a reader");
    let mut ids = Vec::new();
    for rows in reader {
        let rows = rows.expect("rows");
        ids.extend(rows.column_by_name("id").expect("the column").as_primitive::<Int64Type>());
    }
    ids
}

#[tokio::test(start_paused = true)]
async fn every_bad_record_is_delivered_or_becomes_an_error_line_and_nothing_stops() {
    let records = records();
    let emulator = deliver(&records).await;

    let lines = objects(&emulator, "lines/").concat();
    let expected: Vec<u8> = records.iter().flat_map(|(data, _)| data.iter().chain(b"\n")).copied().collect();
    assert!(lines == expected, "lines are the records byte for byte, in order");

    let mut rows: Vec<Option<i64>> = objects(&emulator, "rows/").into_iter().flat_map(ids).collect();
    let row = |(_, fate): &(Vec<u8>, Fate)| match fate {
        Fate::Row(id) => Some(Some(*id)),
        Fate::RowWithoutId => Some(None),
        Fate::Error(_) => None,
    };
    let mut expected: Vec<Option<i64>> = records.iter().filter_map(row).collect();
    rows.sort_unstable();
    expected.sort_unstable();
    assert_eq!(rows, expected);

    let mut errors: BTreeMap<Vec<u8>, (String, u32)> = BTreeMap::new();
    for line in objects(&emulator, "errors/format-conversion-failed/").concat().split(|byte| *byte == b'\n') {
        if line.is_empty() {
            continue;
        }
        let line: serde_json::Value = serde_json::from_slice(line).expect("an error line is JSON");
        let data = base64_simd::STANDARD.decode_to_vec(line["rawData"].as_str().expect("text")).expect("base64");
        let members: Vec<&String> = line.as_object().expect("an object").keys().collect();
        assert_eq!(members.len(), 9, "{members:?}");
        assert_eq!((line["attemptsMade"].as_u64(), &line["dataCatalogTable"]), (Some(1), &serde_json::Value::Null));
        assert_eq!(line["sequenceNumber"].as_str().map(str::len), Some(56));
        let code = line["lastErrorCode"].as_str().expect("a code").to_owned();
        errors.entry(data).or_insert((code, 0)).1 += 1;
    }
    for (data, fate) in &records {
        let found = errors.remove(data);
        let start = String::from_utf8_lossy(&data[..data.len().min(40)]).into_owned();
        match fate {
            Fate::Error(code) => assert_eq!(found, Some(((*code).to_owned(), 1)), "{start}"),
            Fate::Row(_) | Fate::RowWithoutId => assert_eq!(found, None, "{start}"),
        }
    }
    assert!(errors.is_empty(), "error lines of no record: {}", errors.len());
    assert!(objects(&emulator, "").len() >= 3);
    assert_eq!(emulator.open_uploads(BUCKET), Vec::new());
}
