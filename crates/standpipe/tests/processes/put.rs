//! `put`: packed lines, and what it says when it cannot put.

use std::net::TcpListener;

use super::*;

#[test]
fn lines_that_were_packed_are_delivered_one_by_one() {
    let place = tempfile::tempdir().expect("a folder");
    let dir = place.path();
    let emulator = Emulator::start(dir);
    let mut expected = lines();
    expected.push(format!("{{\"id\":9999,\"text\":\"{}\"}}", "too long to be packed ".repeat(4000)));
    let input = dir.join("orders.jsonl");
    std::fs::write(&input, expected.join("\n")).expect("written");
    let mut command = emulator.standpipe(dir);
    command.args(["put", "orders", "orders.jsonl", "--partition-key", ".id", "--aggregate", "--output", "json"]);
    let put = command.output().expect("it ends");
    assert!(put.status.success(), "{}", String::from_utf8_lossy(&put.stderr));
    let report: serde_json::Value = serde_json::from_slice(&put.stdout).expect("JSON");
    assert_eq!(report["lines"], 2001);
    assert!(report["records"].as_u64().is_some_and(|records| (2..20).contains(&records)), "{report}");
    std::fs::write(dir.join("standpipe.yaml"), config("\"off\"")).expect("written");
    let run = emulator.standpipe(dir).args(["run", "-c", "standpipe.yaml", "--until", "caught-up"]).output();
    let run = run.expect("it ends");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    expected.sort();
    assert!(delivered(dir) == expected, "every line once");
}

/// A Kinesis that refuses everybody: each connection gets one answer.
fn refuses_everybody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    #[expect(clippy::disallowed_methods, reason = "a server beside the program under test")]
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut request = [0; 4096];
            let read = stream.read(&mut request).expect("a request");
            assert!(read > 0);
            let body = r#"{"__type":"AccessDeniedException","message":"User: nobody is not authorized"}"#;
            let head = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/x-amz-json-1.1\r\nconnection: close\r\n";
            // The client may have gone already.
            let _ = stream.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes());
        }
    });
    format!("http://{address}")
}

fn put_to(endpoint: &str, dir: &Path) -> Command {
    let mut command = standpipe(dir);
    command.env("AWS_ENDPOINT_URL", endpoint).env("AWS_REGION", "us-east-1");
    command.env("AWS_ACCESS_KEY_ID", "id").env("AWS_SECRET_ACCESS_KEY", "secret");
    std::fs::write(dir.join("x.jsonl"), "{}\n").expect("written");
    command.args(["put", "orders", "x.jsonl"]);
    command
}

#[test]
fn a_put_that_is_not_permitted_has_an_exit_code_of_its_own() {
    let place = tempfile::tempdir().expect("a folder");
    let endpoint = refuses_everybody();
    for also in [&[][..], &["--aggregate"]] {
        let put = put_to(&endpoint, place.path()).args(also).output().expect("it ends");
        let told = String::from_utf8_lossy(&put.stderr).into_owned();
        assert_eq!(put.status.code(), Some(4), "{told}");
        assert!(told.contains("not permitted") && told.contains("AccessDeniedException"), "{told}");
    }
}

#[test]
fn a_put_that_gets_no_answer_says_so_while_it_tries_on() {
    let place = tempfile::tempdir().expect("a folder");
    // Bound and let go: nobody listens there.
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let child = put_to(&format!("http://{free}"), place.path()).stderr(Stdio::piped()).spawn();
    let mut child = Running(child.expect("it starts"));
    let mut lines = BufReader::new(child.0.stderr.take().expect("piped")).lines();
    let told = lines.find_map(|line| line.ok().filter(|line| line.contains("still trying")));
    let told = told.expect("it says something before it gives up");
    assert!(told.starts_with("nothing was put for "), "{told}");
}
