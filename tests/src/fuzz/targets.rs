//! The table of targets. To add one, add a line to [`targets`].

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use md5::{Digest, Md5};
use serde::de::IgnoredAny;
use serde_json::Value;
use standpipe_convert::{
    Columns, Compression, Deserializer, Encode, Format, Hive, OpenX, OrcOptions, ParquetOptions, RowFormat,
};
use standpipe_destinations::object_key::value_text;
use standpipe_destinations::opensearch::append_document;
use standpipe_flow::{LeaseKey, Millis};
use standpipe_source::{Pack, Unpack, user_records};
use standpipe_transform::{
    Apache, ApacheFormat, Csv, CsvColumns, CsvSettings, JsonToCsv, JsonToCsvSettings, Regex, Syslog, SyslogFormat, Xml,
};

use super::stages::{self, json_stage, record, stage};
use super::{Answer, Check, Target, jq, words};

const JSON: &[&[u8]] =
    &[b"{", b"}", b"[", b"]", b"{\"a\":", b"\"a\"", b",", b":", b"null", b"true", b"1.5e3", b"\\n", b"{}"];
const DOCUMENT: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"a\":",
    b"\"@timestamp\":",
    b"\"\\u0040timestamp\":",
    b"\n{\"delete\":{\"_id\":\"1\"}}\n",
    b"\r\n",
    b"\\n",
    b"\\\"",
    b"\\\\",
    b"\xe2\x80\xa8",
    b"\x00",
    b"1e999999",
    b"\\ud800",
    b",",
    b"null",
];
const LOG: &[&[u8]] =
    &[b" - - [", b"[10/Oct/2000:13:55:36 -0700]", b"\"GET / HTTP/1.1\"", b"] \"", b"\" 200 ", b"-", b"\\\""];
const SYSLOG: &[&[u8]] = &[
    b"<34>",
    b"<191>1 ",
    b"Oct 11 22:14:15 ",
    b"2003-10-11T22:14:15.003Z ",
    b"su[231]: ",
    b"[id a=\"b\"]",
    b"\\]",
    b" - ",
];
const XML: &[&[u8]] = &[
    b"<a>",
    b"</a>",
    b"<a",
    b"/>",
    b" b='c'",
    b"<![CDATA[",
    b"]]>",
    b"<!--",
    b"-->",
    b"<?xml",
    b"?>",
    b"<!DOCTYPE a [",
    b"<!ENTITY a \"&b;\">",
    b"]>",
    b"&amp;",
    b"&#x41;",
    b"&a;",
];
const CSV: &[&[u8]] = &[b",", b"\"", b"\"\"", b"\r\n", b"a,b,c\n", b";"];
const CLOUDWATCH: &[&[u8]] = &[
    b"\"messageType\":",
    b"\"DATA_MESSAGE\"",
    b"\"CONTROL_MESSAGE\"",
    b"\"logEvents\":[",
    b"{\"message\":\"m\"}",
    b"]",
    b"}",
    b",",
];
const PROTOBUF: &[&[u8]] = &[
    b"\x0a",
    b"\x12",
    b"\x1a",
    b"\x08",
    b"\x10",
    b"\x0a\x01a",
    b"\x1a\x06\x08\x00\x1a\x02xy",
    b"\xff\xff\xff\xff\x0f",
];

const MIB: usize = 1 << 20;

/// Every parser that sees record bytes.
pub fn targets() -> Vec<Target> {
    fn target(
        name: &'static str,
        seeds: Vec<Vec<u8>>,
        tokens: &'static [&'static [u8]],
        make: fn() -> Check,
    ) -> Target {
        Target { name, seeds, tokens, memory_max: 256 * MIB, make }
    }
    vec![
        // Once for what comes out, and once where the counting allocator shrinks by a copy, which the system's does not.
        Target {
            memory_max: 2 * stages::DECOMPRESS_BYTES_MAX + MIB / 4,
            ..target("decompress", compressed(), &[], stages::decompress)
        },
        target("cloudwatch_logs", texts(ENVELOPES), CLOUDWATCH, stages::cloudwatch_logs),
        target("split_json", texts(OBJECTS), JSON, stages::split_json),
        target("split_delimited", texts(&["a##b####c", "{}"]), &[b"#", b"##", b"###"], stages::split_delimited),
        target("apache_common", texts(LOG_LINES), LOG, || json_stage(Apache::new(ApacheFormat::Common))),
        target("apache_combined", texts(LOG_LINES), LOG, || json_stage(Apache::new(ApacheFormat::Combined))),
        target("syslog_rfc3164", texts(SYSLOG_LINES), SYSLOG, || json_stage(Syslog::new(SyslogFormat::Rfc3164))),
        target("syslog_rfc5424", texts(SYSLOG_LINES), SYSLOG, || json_stage(Syslog::new(SyslogFormat::Rfc5424))),
        target("csv", texts(ROWS), CSV, || {
            json_stage(csv(CsvColumns::Named(["a", "b", "c"].map(String::from).into())))
        }),
        // A long name stands in every row's object: until they are as much as a record may become, with one more.
        Target {
            memory_max: 288 * MIB,
            ..target("csv_header", texts(ROWS), CSV, || json_stage(csv(CsvColumns::Header)))
        },
        target("xml", texts(DOCUMENTS), XML, || json_stage(Xml)),
        target("json_to_csv", texts(OBJECTS), JSON, || stage(json_to_csv())),
        target("regex", texts(LOG_LINES), LOG, || json_stage(regex())),
        target("jq_input", texts(OBJECTS), JSON, jq::input),
        target("jq_program", texts(jq::PROGRAMS), jq::TOKENS, || Box::new(jq::program)),
        target("partition_by", texts(OBJECTS), JSON, jq::partition_by),
        target("kpl", aggregates(), PROTOBUF, || Box::new(kpl)),
        target("parquet_openx", texts(OBJECTS), JSON, || rows(Deserializer::OpenX(OpenX::default()), false)),
        target("parquet_hive", texts(OBJECTS), JSON, || rows(Deserializer::Hive(Hive::default()), false)),
        target("orc_openx", texts(OBJECTS), JSON, || rows(Deserializer::OpenX(OpenX::default()), true)),
        target("document", texts(DOCUMENT_OBJECTS), DOCUMENT, || Box::new(|data: &Bytes| document(data, None))),
        target("document_stamped", texts(DOCUMENT_OBJECTS), DOCUMENT, || {
            Box::new(|data: &Bytes| document(data, Some(Millis(1_790_000_000_000))))
        }),
        target("partition_value", texts(VALUES), &[b"/", b"%", b"..", b"="], || Box::new(partition_value)),
    ]
}

/// Objects that bring what an action of a bulk request looks like, and a time of their own.
const DOCUMENT_OBJECTS: &[&str] = &[
    r#"{"a":{"index":{"_index":"i"}}}"#,
    "{\r\n\"@timestamp\":\n\"2026-01-01T00:00:00Z\", \"a\" : [1,\t{\"delete\":{}}\r]}\n",
    r#" {"a":"\n{\"delete\":{\"_id\":\"1\"}}\n","\u0040timestamp":1,"":null} "#,
    "{}",
];
const VALUES: &[&str] = &["a", "../..", "a/b%2F"];
const ENVELOPES: &[&str] = &[
    r#"{"messageType":"DATA_MESSAGE","owner":"1","logGroup":"g","logStream":"s","subscriptionFilters":["f"],"logEvents":[{"id":"1","timestamp":1432826855000,"message":"{\"a\":1}"},{"id":"2","timestamp":1,"message":"b\n"}]}"#,
    r#"{"messageType":"CONTROL_MESSAGE","owner":"CloudwatchLogs","logGroup":"","logStream":"","subscriptionFilters":[],"logEvents":[{"id":"","timestamp":1,"message":"CWL CONTROL MESSAGE"}]}"#,
];
const OBJECTS: &[&str] = &[
    r#"{"a":1}{"a":2}"#,
    "{\n \"a\": \"x\\u00e9\\n\", \"b\": [1, 2.5e10, null, true], \"c\": {\"d\": \"2024-01-02 03:04:05.6\"}\n}\n",
    r#"{"i":9223372036854775807,"f":-1.5e-300,"d":"12.34","t":1700000000.123,"day":"2024-01-31","l":[[1],[2]],"m":{"k":1},"s":{"x":1,"y":["z"]},"y":"AAEC"}"#,
];
const LOG_LINES: &[&str] = &[
    r#"64.242.88.10 - - [07/Mar/2004:16:10:02 -0800] "GET /mailman/listinfo/hsdivision HTTP/1.1" 200 6291"#,
    r#"::1 - frank [10/Oct/2000:13:55:36 +0000] "GET /a\"b HTTP/1.0" 304 - "http://x/" "Mozilla/4.08 [en] (Win98)""#,
];
const SYSLOG_LINES: &[&str] = &[
    "<34>Oct 11 22:14:15 mymachine su[231]: 'su root' failed",
    "<165>1 2003-10-11T22:14:15.003Z host app 10 ID47 [id@32473 a=\"1\" b=\"x\\]y\"][z] \u{feff}message",
    "2024-01-02T03:04:05.000123+01:00 h postfix/smtpd[1]: a: b",
];
const ROWS: &[&str] = &["1,2,3\n4,\"x, \"\"y\"\"\nz\",6\n", "a,b,c\n1,2,3\n"];
const DOCUMENTS: &[&str] = &[
    "<?xml version=\"1.0\"?><!DOCTYPE a><a b='c &amp; d'><!-- x --><e>1</e><e/>t&#65;<![CDATA[<x>]]></a>",
    "<n:a xmlns:n=\"urn:x\"><n:b><c d=\"\"/></n:b></n:a>\n",
];

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn compressed() -> Vec<Vec<u8>> {
    let text = b"a line of a log, again and again\n".repeat(20);
    let gzip = |data: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(data).expect("a vector takes every byte");
        encoder.finish().expect("a vector takes every byte")
    };
    let zstd = |data: &[u8]| zstd::bulk::compress(data, 3).expect("a text can be compressed");
    let bomb = vec![0; 2 * stages::DECOMPRESS_BYTES_MAX];
    let members = [gzip(b"a"), gzip(&text)].concat();
    vec![gzip(&text), members, gzip(&bomb), zstd(&text), zstd(&bomb), [zstd(b"a"), zstd(&text)].concat(), text]
}

fn csv(columns: CsvColumns) -> Csv {
    Csv::new(CsvSettings { columns, delimiter: ',', quote: Some('"') }).expect("the settings are right")
}

fn json_to_csv() -> JsonToCsv {
    let columns = ["a", "b", "c"].map(String::from).into();
    JsonToCsv::new(JsonToCsvSettings { columns, delimiter: ',' }).expect("the settings are right")
}

fn regex() -> Regex {
    Regex::new(r#"^(?<host>\S+) (?:(?<a>\S+) )*\[(?<time>[^\]]*)\] "(?<request>.*?)"(?<rest>(?: .*)*)$"#)
        .expect("a pattern")
}

/// Messages of aggregates, without what stands before and behind them.
fn aggregates() -> Vec<Vec<u8>> {
    let mut pack = Pack::new(standpipe_source::PACK_BYTES);
    for (data, key) in [("one", "a"), ("", "b"), ("three", "a")] {
        pack.add(data.into(), key.into());
    }
    let packed = pack.take().expect("three records were added");
    vec![packed.data[4..packed.data.len() - 16].to_vec()]
}

/// The input is the message of an aggregate whose digest is right: without that nothing of it would be read.
fn kpl(data: &Bytes) -> Answer {
    let whole = [&b"\xf3\x89\x9a\xc2"[..], data, &Md5::digest(data)].concat();
    let unpack = Unpack { kpl: true, ..Unpack::default() };
    match user_records(&record(&whole.into()), &unpack) {
        None => Ok("none".into()),
        Some(records) => {
            let bytes: usize = records.iter().map(|record| record.data.len()).sum();
            let ascend = records.iter().zip(0..).all(|(record, sub)| record.sub == sub);
            if records.is_empty() || bytes > data.len() || !ascend {
                return Err(format!("{} user records of {bytes} bytes", records.len()));
            }
            Ok(format!("some {}", "x".repeat(records.len().ilog2() as usize)))
        }
    }
}

const COLUMNS: &str = "a string, b array<double>, c struct<d:timestamp,e:int>, i bigint, f float, d decimal(10,2), t timestamp, day date, \
                       l array<array<int>>, m map<string,int>, s struct<x:tinyint,y:array<string>>, y binary, o boolean";

/// Records that one file takes before the next is begun.
const FILE_RECORDS: u64 = 256;

/// JSON to columns and a file of them. A record is in the file or rejected, and the file can be finished.
fn rows(deserializer: Deserializer, orc: bool) -> Check {
    let columns = Columns::parse(COLUMNS).expect("the columns are Hive's");
    let rows = RowFormat::new(columns, deserializer).expect("the columns have keys of their own").into();
    let format = if orc {
        Format::Orc { rows, options: OrcOptions::default() }
    } else {
        Format::Parquet { rows, options: ParquetOptions::default() }
    };
    let file: Mutex<Option<(Box<dyn Encode>, u64)>> = Mutex::new(None);
    let lease = LeaseKey::new("shardId-000000000000");
    Box::new(move |data| {
        let mut held = file.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut encoder, mut taken) = held.take().unwrap_or_else(|| (format.encoder(Compression::None), 0));
        let answer = match encoder.push(&lease, &record(data)) {
            Ok(()) => {
                taken += 1;
                "accepted".to_owned()
            }
            Err(rejected) => format!("{} {}", rejected.code, words(&rejected.message)),
        };
        encoder.take().map_err(|error| error.to_string())?;
        if taken < FILE_RECORDS {
            *held = Some((encoder, taken));
            return Ok(answer);
        }
        let encoded = encoder.finish().map_err(|error| error.to_string())?;
        if encoded.records == taken { Ok(answer) } else { Err(format!("{} records of {taken}", encoded.records)) }
    })
}

/// A document of a bulk request: one line that says what the record says and nothing else, or nothing at all.
fn document(data: &Bytes, timestamp: Option<Millis>) -> Answer {
    let mut line = Vec::new();
    if let Err(wrong) = append_document(data, timestamp, &mut line) {
        return match line.is_empty() && wrong.len() <= 400 {
            true => Ok(words(&wrong).to_owned()),
            false => Err(format!("refused, with {} bytes appended and a message of {}", line.len(), wrong.len())),
        };
    }
    let line_feeds = line.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
    if line_feeds != 1 || line.last() != Some(&b'\n') {
        return Err(format!("{line_feeds} line ends, the last byte is {:?}", line.last()));
    }
    if serde_json::from_slice::<IgnoredAny>(&line).is_err() || !line.starts_with(b"{") {
        return Err("the line is no JSON object".into());
    }
    // What serde_json can hold (not all that it can read) is the same value, but for the time that was put in.
    let Ok(sent) = serde_json::from_slice::<Value>(data) else { return Ok("no value".into()) };
    let mut found: Value = serde_json::from_slice(&line).map_err(|error| error.to_string())?;
    let stamped = sent.get("@timestamp").is_none() && timestamp.is_some();
    if let Some(object) = found.as_object_mut().filter(|_| stamped) {
        let put_in = object.remove("@timestamp").and_then(|value| value.as_u64());
        if put_in != timestamp.map(|at| at.0) {
            return Err("the time of arrival is not there".into());
        }
    }
    let size = sent.as_object().map_or(0, |object| object.len());
    if found != sent {
        return Err("the line says something else than the record".into());
    }
    Ok(format!("stamped {stamped}, members {}", "x".repeat(size.checked_ilog2().map_or(0, |log| 1 + log as usize))))
}

/// A partition value as it stands in a key: one segment, of bounded length, with nothing that controls.
fn partition_value(data: &Bytes) -> Answer {
    let text = value_text(&String::from_utf8_lossy(data));
    let kept =
        text.len() <= 256 && !text.contains('/') && !text.chars().any(char::is_control) && text != "." && text != "..";
    if kept { Ok(format!("long {}", text.len() > 200)) } else { Err("the text of a value is not fit for a key".into()) }
}
