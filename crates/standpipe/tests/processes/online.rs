//! `standpipe check --online`: what the services say, and that nothing was written to find it out.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{Emulator, config, lines, put};

/// The report, and the exit code.
fn check(emulator: &Emulator, dir: &Path, args: &[&str]) -> (Value, Option<i32>) {
    checked(emulator.standpipe(dir), args)
}

fn checked(mut command: Command, args: &[&str]) -> (Value, Option<i32>) {
    let output = command.args(["check", "-c", "standpipe.yaml", "--online", "--output", "json"]).args(args).output();
    let output = output.expect("it ends");
    let report = serde_json::from_slice(&output.stdout);
    (report.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr))), output.status.code())
}

/// What was found of a thing.
fn found<'a>(report: &'a Value, what: &str) -> &'a Value {
    let lines = report["online"].as_array().expect("a list");
    lines.iter().find(|line| line["what"] == what).unwrap_or_else(|| panic!("nothing is said of {what}: {report}"))
}

fn write(dir: &Path, text: &str) {
    std::fs::write(dir.join("standpipe.yaml"), text).expect("written");
}

#[test]
fn everything_is_asked_for_and_nothing_is_made() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let dir = place.path();
    let emulator = Emulator::start(dir);
    write(dir, &config("off"));
    for _ in 0..2 {
        let (report, code) = check(&emulator, dir, &[]);
        assert_eq!((code, &report["ok"]), (Some(0), &json!(true)), "{report}");
        let stream = found(&report, "stream orders");
        assert_eq!(
            (&stream["found"], &stream["says"]),
            (&json!("ok"), &json!("ACTIVE, 2 shards open, keeps records for 1d"))
        );
        for table in ["table standpipe-orders", "table standpipe-orders-standpipe-commits"] {
            assert_eq!(found(&report, table)["found"], "note", "the first look has not made it");
        }
        let bucket = found(&report, "bucket lake");
        assert_eq!((&bucket["found"], &bucket["destination"]), (&json!("ok"), &json!("s3")));
    }
    assert!(put(&emulator, dir, &lines()).status.success());
    let run = emulator.standpipe(dir).args(["run", "-c", "standpipe.yaml", "--until", "caught-up"]).status();
    assert!(run.expect("it runs").success());
    let (report, code) = check(&emulator, dir, &[]);
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(found(&report, "table standpipe-orders")["found"], "ok");
    // The fleet knows this id as another bucket's.
    write(dir, &config("off").replace("bucket: lake", "bucket: pond"));
    let (report, code) = check(&emulator, dir, &[]);
    assert_eq!(code, Some(3), "{report}");
    assert_eq!(found(&report, "bucket pond")["found"], "wrong");
    let commits = report["online"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|line| line["what"] == "table standpipe-orders-standpipe-commits" && line["found"] == "wrong");
    let says: Vec<&str> = commits.filter_map(|line| line["says"].as_str()).collect();
    assert!(matches!(says[..], [one] if one.contains("--adopt-destinations")), "{report}");
}

#[test]
fn what_is_missing_is_said_with_what_to_do() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let dir = place.path();
    let emulator = Emulator::start(dir);
    let absent = config("off").replace("stream: orders", "stream: absent").replace("failover: 2s", "create: false");
    write(dir, &absent);
    let (report, code) = check(&emulator, dir, &[]);
    assert_eq!(code, Some(3), "{report}");
    assert_eq!(found(&report, "stream absent")["found"], "wrong");
    let table = found(&report, "table standpipe-orders");
    assert!(
        table["found"] == "wrong" && table["hint"].as_str().is_some_and(|hint| hint.contains("leaseKey")),
        "{table}"
    );
    // A service that is away is told from one that says no.
    let away = "aws: { endpoints: { s3: \"http://127.0.0.1:1\" } }\n";
    write(dir, &format!("{}{away}", config("off")));
    let (report, code) = check(&emulator, dir, &[]);
    assert_eq!((code, &found(&report, "bucket lake")["found"]), (Some(1), &json!("silent")), "{report}");
}

/// An OpenSearch that says of itself what a test wants, to whoever asks, until its test ends.
#[allow(clippy::disallowed_methods, reason = "a server beside the program under test, not a part of it")]
fn opensearch(answers: &'static [(&'static str, u16, &'static str)]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let mut request = BufReader::new(&stream);
            let mut first = String::new();
            let mut line = String::new();
            let mut body = Vec::new();
            let _ = request.read_line(&mut first);
            while request.read_line(&mut line).is_ok_and(|read| read > 2) {
                let length = line.to_ascii_lowercase().strip_prefix("content-length:").map(|n| n.trim().parse());
                body.resize(length.and_then(Result::ok).unwrap_or(body.len()), 0);
                line.clear();
            }
            let _ = request.read_exact(&mut body);
            let path = first.split(' ').nth(1).unwrap_or_default();
            let known = answers.iter().find(|(start, ..)| *start == path || *start != "/" && path.starts_with(start));
            let (_, status, body) = known.unwrap_or(&("", 404, "{}"));
            let head = format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nConnection: close\r\n");
            let _ = (&stream).write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
        }
    });
    format!("http://{address}")
}

fn search(endpoint: &str, more: &str) -> String {
    format!(
        "version: 1
pipelines:
  logs:
    source: {{ kinesis: {{ stream: orders, start: latest }} }}
    destinations:
      - opensearch: {{ endpoint: \"{endpoint}\", auth: none, index: logs, backup: {{ bucket: lake }}{more} }}
"
    )
}

const ROOT: (&str, u16, &str) =
    ("/", 200, r#"{"version":{"number":"2.19.3","distribution":"opensearch"},"cluster_uuid":"u"}"#);

#[test]
fn what_stands_in_the_way_of_documents_is_said() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let dir = place.path();
    let emulator = Emulator::start(dir);
    let endpoint = opensearch(&[
        ROOT,
        ("/_resolve/index/logs*", 200, r#"{"indices":[],"aliases":[],"data_streams":[]}"#),
        ("/_index_template", 200, r#"{"index_templates":[{"name":"t","index_template":{"index_patterns":["l*"]}}]}"#),
        ("/_cluster/settings", 200, r#"{"defaults":{"rest":{"action":{"multi":{"allow_explicit_index":"true"}}}}}"#),
    ]);
    write(dir, &search(&endpoint, ", rotation: none"));
    let (report, code) = check(&emulator, dir, &[]);
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(found(&report, &endpoint)["says"], "OpenSearch 2.19.3");
    assert_eq!(found(&report, "index logs")["says"], "made with the first document, by template t");
    write(dir, &search(&endpoint, ", data_stream: true"));
    let (report, code) = check(&emulator, dir, &[]);
    assert_eq!((code, &found(&report, "data stream logs")["found"]), (Some(3), &json!("wrong")), "{report}");

    let endpoint = opensearch(&[("/", 401, "Unauthorized")]);
    write(dir, &search(&endpoint, ""));
    let (report, code) = check(&emulator, dir, &[]);
    assert_eq!((code, &found(&report, &endpoint)["found"]), (Some(4), &json!("denied")), "{report}");

    let endpoint = opensearch(&[("/", 200, r#"{"version":{"number":"6.8.23"}}"#)]);
    write(dir, &search(&endpoint, ""));
    let (report, code) = check(&emulator, dir, &[]);
    assert_eq!((code, &found(&report, &endpoint)["found"]), (Some(3), &json!("wrong")), "{report}");
}

#[test]
fn a_collection_that_takes_no_ids_is_said_to_want_none() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let dir = place.path();
    let emulator = Emulator::start(dir);
    let api = opensearch(&[("/", 200, r#"{"collectionDetails":[{"id":"abc","type":"TIMESERIES"}]}"#)]);
    let serverless = "{ sigv4: { service: aoss, region: eu-west-1 } }";
    for (more, kind) in [("", "wrong"), (", document_id: none", "ok")] {
        let text =
            search("http://abc.eu-west-1.aoss.localhost:1", more).replace("auth: none", &format!("auth: {serverless}"));
        write(dir, &text);
        let mut command = emulator.standpipe(dir);
        command.env("AWS_ENDPOINT_URL_OPENSEARCHSERVERLESS", &api);
        let (report, _) = checked(command, &[]);
        let collection = found(&report, "collection");
        assert_eq!(collection["found"], kind, "{report}");
        assert!(
            kind == "ok" || collection["hint"].as_str().is_some_and(|hint| hint.contains("`document_id: none`")),
            "{report}"
        );
    }
}
