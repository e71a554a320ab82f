//! `standpipe leases` on a running fleet: a quarantine that a person makes and ends, and a stream that is delivered again.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use super::{Emulator, Running, config, delivered, free_port, lines, put, wait_until};

/// Calls the embedded DynamoDB as no verb of ours would.
fn dynamodb(emulator: &Emulator, operation: &str, request: &Value) -> Value {
    let address = emulator.variables["AWS_ENDPOINT_URL"].trim_start_matches("http://").to_owned();
    let body = request.to_string();
    let mut stream = TcpStream::connect(&address).expect("it listens");
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {address}\r\nX-Amz-Target: DynamoDB_20120810.{operation}\r\n\
         Content-Type: application/x-amz-json-1.0\r\nContent-Length: {}\r\nConnection: close\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=x/20260131/us-east-1/dynamodb/aws4_request, SignedHeaders=host, \
         Signature=0\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let body = answer.split_once("\r\n\r\n").expect("a body").1;
    serde_json::from_str(body).expect("JSON")
}

/// A commit in the row of a lease, of which there is no receipt: as if the commit table had been restored from too early.
fn quarantine(emulator: &Emulator, lease: &str) {
    let key = json!({ "leaseKey": { "S": lease } });
    let get = json!({ "TableName": "standpipe-orders", "Key": key, "ConsistentRead": true });
    let row = dynamodb(emulator, "GetItem", &get);
    let at = row["Item"]["sp_s3"]["M"]["at"]["S"].as_str().expect("a position").to_owned();
    let update = json!({
        "TableName": "standpipe-orders",
        "Key": key,
        "UpdateExpression": "SET #d.#to = :to, #d.#sub = :sub, #d.#cid = :cid, #d.#mode = :mode",
        "ExpressionAttributeNames": { "#d": "sp_s3", "#to": "to", "#sub": "toSub", "#cid": "cid", "#mode": "mode" },
        "ExpressionAttributeValues": {
            ":to": { "S": format!("{at}0") }, ":sub": { "N": "0" },
            ":cid": { "B": CID_BASE64 }, ":mode": { "S": "staged" }
        },
    });
    dynamodb(emulator, "UpdateItem", &update);
}

fn leases(emulator: &Emulator, dir: &Path, args: &[&str]) -> Output {
    let mut command = emulator.standpipe(dir);
    command.arg("leases").arg(args[0]).args(["-c", "standpipe.yaml", "--output", "json"]).args(&args[1..]);
    command.output().expect("it ends")
}

fn report(output: &Output) -> Value {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn metrics(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

fn quarantined(port: u16) -> Option<String> {
    let text = metrics(port);
    let line = text.lines().find(|line| line.starts_with("standpipe_commit_quarantined{"))?;
    line.rsplit(' ').next().map(str::to_owned)
}

fn more_lines() -> Vec<String> {
    (2000..4000).map(|id| format!("{{\"id\":{id},\"text\":\"line {id} äöü\"}}")).collect()
}

fn caught_up(emulator: &Emulator, dir: &Path) {
    let run = emulator.standpipe(dir).args(["run", "-c", "standpipe.yaml", "--until", "caught-up"]).output();
    let run = run.expect("it runs");
    assert_eq!(run.status.code(), Some(0), "{}", String::from_utf8_lossy(&run.stderr));
}

const LEASE: &str = "shardId-000000000000";
const CID: &str = "00000000000000000000000001";
/// The same as 16 bytes.
const CID_BASE64: &str = "AAAAAAAAAAAAAAAAAAAAAQ==";

#[test]
fn a_quarantine_is_seen_settled_and_over_and_every_record_is_delivered_once() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let dir = place.path();
    let emulator = Emulator::start(dir);
    let port = free_port();
    std::fs::write(dir.join("standpipe.yaml"), config(&format!("{{ listen: 127.0.0.1:{port} }}"))).expect("written");
    assert!(put(&emulator, dir, &lines()).status.success());
    caught_up(&emulator, dir);
    quarantine(&emulator, LEASE);
    assert!(put(&emulator, dir, &more_lines()).status.success());
    let mut expected = [lines(), more_lines()].concat();
    expected.sort();

    let log = std::fs::File::create(dir.join("log")).expect("made");
    let mut command = emulator.standpipe(dir);
    let mut worker = Running(command.args(["run", "-c", "standpipe.yaml"]).stderr(log).spawn().expect("it starts"));
    wait_until(|| std::fs::read_to_string(dir.join("log")).is_ok_and(|log| log.contains("hands off: a human")));
    wait_until(|| quarantined(port).as_deref() == Some("1"));

    let seen = report(&leases(&emulator, dir, &["list"]));
    assert_eq!((&seen["sums"]["quarantined"], &seen["sums"]["leases"]), (&json!(1), &json!(2)), "{seen}");
    let pending = &seen["leases"][0]["destinations"]["s3"]["pending"];
    assert_eq!((&pending["cid"], &pending["receipt"]), (&json!(CID), &json!("no receipt")), "{seen}");

    let settle = |how: &[&str]| leases(&emulator, dir, &[&["settle", "--lease", LEASE, "--cid", CID], how].concat());
    assert_eq!(settle(&["--publish", "--yes"]).status.code(), Some(3), "there is nothing to publish it by");
    assert_eq!(settle(&["--replay"]).status.code(), Some(2), "nobody is there to say yes");
    assert_eq!(report(&settle(&["--replay", "--dry-run"]))["outcome"], "dry_run");
    assert_eq!(report(&leases(&emulator, dir, &["list", "--once"]))["sums"]["quarantined"], 1, "nothing was changed");
    assert!(delivered(dir).len() < expected.len(), "its shard stands still");
    assert_eq!(report(&settle(&["--replay", "--yes"]))["outcome"], "done");

    wait_until(|| delivered(dir).len() >= expected.len());
    wait_until(|| quarantined(port).as_deref() == Some("0"));
    worker.signal("TERM");
    assert_eq!(worker.code(), Some(0));
    assert_eq!(delivered(dir), expected, "every record once, by the objects");
}

#[test]
fn what_a_reset_says_will_repeat_is_what_repeats() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let dir = place.path();
    let emulator = Emulator::start(dir);
    std::fs::write(dir.join("standpipe.yaml"), config("off")).expect("written");
    assert!(put(&emulator, dir, &lines()).status.success());
    caught_up(&emulator, dir);
    let done = report(&leases(&emulator, dir, &["reset", "--all", "--to", "trim_horizon", "--yes"]));
    let repeats = &done["repeats"];
    assert_eq!(
        (&done["outcome"], &repeats["at_least"], &repeats["at_most"]),
        (&json!("done"), &json!(2000), &json!(2000))
    );
    let seen = report(&leases(&emulator, dir, &["list", "--once"]));
    for lease in seen["leases"].as_array().expect("leases") {
        assert_eq!((&lease["generation"], &lease["checkpoint"]["sequence"]), (&json!(1), &json!("TRIM_HORIZON")));
    }
    caught_up(&emulator, dir);
    let mut twice = [lines(), lines()].concat();
    twice.sort();
    assert_eq!(delivered(dir), twice);

    let latest = report(&leases(&emulator, dir, &["reset", "--all", "--to", "latest", "--yes"]));
    assert_eq!((&latest["skips"], &latest["repeats"]["at_most"]), (&json!(true), &json!(0)));
    assert!(put(&emulator, dir, &more_lines()).status.success());
    caught_up(&emulator, dir);
    let mut all = [twice, more_lines()].concat();
    all.sort();
    assert_eq!(delivered(dir), all, "what came after the reset, once");
}

/// Regression: the lease moved, and its reader was refused for ever.
#[test]
fn a_sequence_number_that_the_shard_does_not_have_is_refused_before_anything_is_written() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let dir = place.path();
    let emulator = Emulator::start(dir);
    std::fs::write(dir.join("standpipe.yaml"), config("off")).expect("written");
    assert!(put(&emulator, dir, &lines()).status.success());
    caught_up(&emulator, dir);
    let seen = report(&leases(&emulator, dir, &["list", "--once"]));
    let at = |shard: usize| seen["leases"][shard]["checkpoint"]["sequence"].as_str().expect("a number").to_owned();
    let reset = |to: &str| leases(&emulator, dir, &["reset", "--lease", LEASE, "--to", to, "--yes"]);
    for to in [at(1).as_str(), "12345"] {
        let refused = reset(to);
        let told = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(3), "{told}");
        assert!(told.contains(&format!("{LEASE} does not have sequence number {to}")), "{told}");
    }
    let now = report(&leases(&emulator, dir, &["list", "--once"]));
    for field in ["checkpoint", "counter", "generation"] {
        assert_eq!(now["leases"][0][field], seen["leases"][0][field], "nothing was changed");
    }
    assert_eq!(report(&reset(&at(0)))["leases"][0]["generation"], 1);
}

#[test]
fn a_worker_lets_a_lease_go_when_it_is_asked() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let dir = place.path();
    let emulator = Emulator::start(dir);
    let cheap = config("off").replace("failover: 2s", "failover: 2s, heartbeat: per_worker");
    std::fs::write(dir.join("standpipe.yaml"), cheap).expect("written");
    let mut command = emulator.standpipe(dir);
    let log = std::fs::File::create(dir.join("log")).expect("made");
    let mut worker = Running(command.args(["run", "-c", "standpipe.yaml"]).stderr(log).spawn().expect("it starts"));
    wait_until(|| std::fs::read_to_string(dir.join("log")).is_ok_and(|log| log.matches("lease taken").count() == 2));
    let seen = report(&leases(&emulator, dir, &["list"]));
    assert_eq!((&seen["leases"][0]["alive"], &seen["leases"][0]["counter"]), (&json!(true), &json!(1)), "{seen}");
    let partly = leases(&emulator, dir, &["release", "--lease", "shardId-7", "--lease", LEASE, "--yes"]);
    let told = String::from_utf8_lossy(&partly.stderr);
    assert_eq!((partly.status.code(), told.contains("shardId-7: there is no lease")), (Some(5), true), "{told}");
    let done: Value = serde_json::from_slice(&partly.stdout).expect("JSON");
    assert_eq!((&done["leases"][0]["action"], &done["leases"][0]["released"]), (&json!("refused"), &json!(null)));
    assert_eq!((&done["leases"][1]["action"], &done["leases"][1]["released"]), (&json!("ask"), &json!(true)), "{done}");
    let none = leases(&emulator, dir, &["release", "--lease", "shardId-7", "--yes"]);
    assert_eq!(none.status.code(), Some(3), "{}", String::from_utf8_lossy(&none.stderr));
    assert!(put(&emulator, dir, &lines()).status.success());
    wait_until(|| delivered(dir).len() >= 2000);
    let refused = leases(&emulator, dir, &["reset", "--all", "--to", "latest", "--yes"]);
    assert_eq!(refused.status.code(), Some(3), "{}", String::from_utf8_lossy(&refused.stderr));
    worker.signal("TERM");
    assert_eq!(worker.code(), Some(0));
    assert_eq!(delivered(dir).len(), 2000);
}

#[test]
fn frozen_columns_are_shown_forgotten_once_and_inferred_anew() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let dir = place.path();
    let emulator = Emulator::start(dir);
    let table = config("\"off\"").replace("compression: gzip", "format: parquet, schema: { infer: { sample: 1000 } }");
    std::fs::write(dir.join("standpipe.yaml"), table).expect("written");
    assert!(put(&emulator, dir, &lines()).status.success());
    caught_up(&emulator, dir);
    let thaw = |args: &[&str]| leases(&emulator, dir, &[&["thaw", "--destination", "s3"], args].concat());
    let shown = report(&thaw(&["--dry-run"]));
    assert_eq!((&shown["outcome"], &shown["columns"]), (&json!("dry_run"), &json!("id bigint, text string")));
    assert!(shown["records"].as_u64().is_some_and(|records| (1..=1000).contains(&records)), "{shown}");
    assert_eq!(thaw(&[]).status.code(), Some(2), "nobody has consented");
    assert_eq!(report(&thaw(&["--yes"]))["outcome"], "done");
    let again = thaw(&["--yes"]);
    assert_eq!(again.status.code(), Some(3), "there is nothing to forget");
    assert!(String::from_utf8_lossy(&again.stderr).contains("no columns are frozen for destination s3"));

    let newer = (0..10).map(|id| format!("{{\"id\":{id},\"new\":true}}")).collect::<Vec<_>>();
    assert!(put(&emulator, dir, &newer).status.success());
    caught_up(&emulator, dir);
    assert_eq!(report(&thaw(&["--dry-run"]))["columns"], "id bigint, new boolean");
}
