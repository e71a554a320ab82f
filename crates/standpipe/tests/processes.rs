//! The program as processes: endpoints, a producer, workers and the demo, as a newcomer starts them.

#[path = "processes/fan_out.rs"]
mod fan_out;
#[path = "processes/leases.rs"]
mod leases;
#[path = "processes/online.rs"]
mod online;
#[path = "processes/put.rs"]
mod put_lines;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

fn standpipe(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_standpipe"));
    command.current_dir(dir).env_remove("AWS_PROFILE").env_remove("STANDPIPE_LOG").env_remove("RUST_LOG");
    command.env("AWS_CONFIG_FILE", "/dev/null").env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    command
}

/// A process that is not left behind when a test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.0.id().to_string()]).status();
        assert!(sent.expect("kill is there").success());
    }

    fn code(&mut self) -> Option<i32> {
        self.0.wait().expect("it ends").code()
    }
}

/// The endpoints, with the variables that they said to set.
struct Emulator {
    process: Running,
    variables: BTreeMap<String, String>,
    _stdout: BufReader<ChildStdout>,
}

impl Emulator {
    fn start(dir: &Path) -> Self {
        let mut command = standpipe(dir);
        command.args([
            "emulator",
            "--listen",
            "127.0.0.1:0",
            "--stream",
            "orders:2",
            "--bucket",
            "lake",
            "--data",
            "aws",
        ]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let process = Running(child);
        let mut variables = BTreeMap::new();
        loop {
            let mut line = String::new();
            assert!(stdout.read_line(&mut line).expect("it speaks") > 0, "it ended before it was ready");
            match line.trim_end().strip_prefix("export ").and_then(|pair| pair.split_once('=')) {
                Some((name, value)) => drop(variables.insert(name.to_owned(), value.to_owned())),
                None => {
                    assert_eq!(line, "ready\n");
                    return Self { process, variables, _stdout: stdout };
                }
            }
        }
    }

    fn standpipe(&self, dir: &Path) -> Command {
        let mut command = standpipe(dir);
        command.envs(&self.variables);
        command
    }
}

fn lines() -> Vec<String> {
    (0..2000).map(|id| format!("{{\"id\":{id},\"text\":\"line {id} äöü\"}}")).collect()
}

fn config(http: &str) -> String {
    format!(
        "version: 1
worker: {{ memory: 128MiB, shutdown_grace: 20s }}
http: {http}
pipelines:
  orders:
    lease: {{ failover: 2s }}
    source: {{ kinesis: {{ stream: orders, start: trim_horizon, read: polling, poll: 200ms }} }}
    destinations:
      - s3: {{ bucket: lake, compression: gzip, buffer: {{ size: 1MiB, interval: 1s }} }}
"
    )
}

/// Every line of every object in the bucket, sorted.
fn delivered(dir: &Path) -> Vec<String> {
    fn files(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() { files(&path, found) } else { found.push(path) }
        }
    }
    let mut objects = Vec::new();
    files(&dir.join("aws/s3/lake"), &mut objects);
    let mut lines = Vec::new();
    for object in objects {
        let mut text = String::new();
        let file = std::fs::File::open(object).expect("it opens");
        flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text).expect("it is gzip");
        lines.extend(text.lines().map(str::to_owned));
    }
    lines.sort();
    lines
}

fn put(emulator: &Emulator, dir: &Path, lines: &[String]) -> Output {
    let mut command = emulator.standpipe(dir);
    command.args(["put", "orders", "-", "--partition-key", ".id", "--output", "json"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(lines.join("\n").as_bytes()).expect("it reads");
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

#[test]
fn what_is_put_is_delivered_once_and_the_run_ends_by_itself() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let dir = place.path();
    let mut emulator = Emulator::start(dir);
    let mut expected = lines();
    let put = put(&emulator, dir, &expected);
    assert!(put.status.success());
    let report: serde_json::Value = serde_json::from_slice(&put.stdout).expect("JSON");
    assert_eq!((report["lines"].as_u64(), report["without_key"].as_u64()), (Some(2000), Some(0)));
    std::fs::write(dir.join("standpipe.yaml"), config("off")).expect("written");

    let run = emulator.standpipe(dir).args(["run", "-c", "standpipe.yaml", "--until", "caught-up"]).output();
    let run = run.expect("it runs");
    let log = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(0), "{log}");
    assert_eq!(run.stdout, b"", "stdout is data, and a worker has none");
    assert_objects(&log);
    expected.sort();
    assert_eq!(delivered(dir), expected);

    emulator.process.signal("TERM");
    assert_eq!(emulator.process.code(), Some(0));
}

#[test]
fn a_worker_that_is_told_to_stop_delivers_what_it_has_and_ends_well() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let dir = place.path();
    let emulator = Emulator::start(dir);
    let port = free_port();
    std::fs::write(dir.join("standpipe.yaml"), config(&format!("{{ listen: 127.0.0.1:{port} }}"))).expect("written");
    let mut command = emulator.standpipe(dir);
    let log = std::fs::File::create(dir.join("log")).expect("made");
    let mut worker = Running(command.args(["run", "-c", "standpipe.yaml"]).stderr(log).spawn().expect("it starts"));
    wait_until(|| healthcheck(dir, port, "readyz") == Some(0));
    assert_eq!(healthcheck(dir, port, "livez"), Some(0));
    let mut expected = lines();
    assert!(put(&emulator, dir, &expected).status.success());
    expected.sort();
    wait_until(|| delivered(dir).len() == expected.len());
    worker.signal("TERM");
    assert_eq!(worker.code(), Some(0));
    assert_eq!(delivered(dir), expected);
    assert_eq!(healthcheck(dir, port, "livez"), Some(1));
    assert_objects(&std::fs::read_to_string(dir.join("log")).expect("it is there"));
}

#[test]
fn a_worker_without_its_stream_says_why() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let dir = place.path();
    let emulator = Emulator::start(dir);
    let elsewhere = config("off").replace("stream: orders", "stream: absent");
    std::fs::write(dir.join("standpipe.yaml"), elsewhere).expect("written");
    let run = emulator.standpipe(dir).args(["run", "-c", "standpipe.yaml"]).output().expect("it ends");
    let log = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(3), "{log}");
    assert_objects(&log);
    assert!(log.contains("absent"), "{log}");
}

#[test]
fn a_stream_that_is_not_there_ends_a_put() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let dir = place.path();
    let emulator = Emulator::start(dir);
    std::fs::write(dir.join("x.jsonl"), "{}\n").expect("written");
    let put = emulator.standpipe(dir).args(["put", "absent", "x.jsonl"]).output().expect("it ends");
    assert_eq!(put.status.code(), Some(1));
    let told = String::from_utf8_lossy(&put.stderr).into_owned();
    assert!(told.contains("ResourceNotFoundException"), "{told}");
}

#[test]
fn the_demo_loses_nothing_and_repeats_nothing() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let demo =
        standpipe(place.path()).args(["demo", "--duration", "4s", "--output", "json"]).output().expect("it ends");
    let told = String::from_utf8_lossy(&demo.stderr).into_owned();
    assert_eq!(demo.status.code(), Some(0), "{told}");
    let report: serde_json::Value = serde_json::from_slice(&demo.stdout).expect("JSON");
    assert!(report["produced"].as_u64() > Some(0), "{report}");
    assert_eq!(report["delivered"], report["produced"]);
    for name in ["lost", "duplicated", "altered", "out_of_order"] {
        assert_eq!(report[name], 0, "{name}");
    }
    let directory = place.path().join(report["directory"].as_str().expect("a path"));
    assert!(directory.is_dir());
}

/// Where stderr is no terminal, every line of a worker is a JSON object.
fn assert_objects(log: &str) {
    for line in log.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

fn healthcheck(dir: &Path, port: u16, path: &str) -> Option<i32> {
    let url = format!("http://127.0.0.1:{port}/{path}");
    let asked = standpipe(dir).args(["healthcheck", "--url", &url]).output();
    asked.expect("it ends").status.code()
}

/// Looks again and again; a test that waits for longer than this hangs for another reason.
fn wait_until(mut done: impl FnMut() -> bool) {
    for _ in 0..600 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("it did not come about within a minute");
}
