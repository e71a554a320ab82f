//! The client on the wire: answers of every kind over connections in memory, TLS with certificates of its own.

use std::sync::Mutex;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, SupportedProtocolVersion, crypto::aws_lc_rs, version};

use super::dial::DialError;
use super::*;
use crate::fixtures::Paused;

/// What a server does with a connection, request by request; the text is what it has read.
type Serve = dyn Fn(&mut Vec<u8>, usize) -> Reply + Send + Sync;

/// Bytes to be sent, and whether the connection is closed behind them.
struct Reply(Vec<u8>, bool);

fn keep(text: &str) -> Reply {
    Reply(text.as_bytes().to_vec(), false)
}

/// A server in memory.
#[derive(Clone)]
struct Host {
    serve: Arc<Serve>,
    tls: Option<TlsAcceptor>,
    dialled: Arc<Mutex<usize>>,
    tasks: Arc<Mutex<JoinSet<()>>>,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Host")
    }
}

impl Host {
    fn new(serve: impl Fn(&mut Vec<u8>, usize) -> Reply + Send + Sync + 'static) -> Self {
        Self { serve: Arc::new(serve), tls: None, dialled: Arc::default(), tasks: Arc::default() }
    }

    fn dialled(&self) -> usize {
        *self.dialled.lock().expect("a number")
    }

    async fn serve(self, stream: DuplexStream) {
        let mut stream: BoxStream = match &self.tls {
            None => Box::new(stream),
            Some(tls) => match tls.accept(stream).await {
                Ok(stream) => Box::new(stream),
                Err(_) => return,
            },
        };
        let mut number = 0;
        let mut read = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(bytes @ 1..) = stream.read(&mut buffer).await {
            read.extend_from_slice(&buffer[..bytes]);
            // All requests of these tests end in this way.
            if !read.ends_with(b"end of request") {
                continue;
            }
            let Reply(reply, close) = (self.serve)(&mut read, number);
            read.clear();
            number += 1;
            let _ = stream.write_all(&reply).await;
            let _ = stream.flush().await;
            if close {
                return;
            }
        }
    }
}

#[async_trait]
impl Dial for Host {
    async fn dial(&self, _: &str, _: u16) -> Result<BoxStream, DialError> {
        *self.dialled.lock().expect("a number") += 1;
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        self.tasks.lock().expect("tasks").spawn(self.clone().serve(theirs));
        Ok(Box::new(ours))
    }
}

fn client(host: &Host, trust: Trust) -> Http {
    Http::new(Arc::new(host.clone()), trust, Duration::from_secs(5), Arc::new(Paused::now()))
}

fn nobody() -> Trust {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/tests/");
    Trust::new(Some(std::path::Path::new(&format!("{folder}ca.pem")))).expect("a CA")
}

const BOUNDS: Bounds = Bounds { whole_max: Duration::from_secs(10), answer_bytes_max: 1 << 20 };

fn request() -> Request {
    Request {
        method: http::Method::POST,
        path: "/_bulk".to_owned(),
        headers: vec![("authorization".to_owned(), "Basic c2VjcmV0".to_owned())],
        body: Bytes::from_static(b"a record, end of request"),
    }
}

fn plain() -> Origin {
    Origin::parse("http://search.test:9200/base").expect("an address")
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_used_again_and_replaced_when_it_was_closed() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let requests = seen.clone();
    let host = Host::new(move |read, number| {
        requests.lock().expect("requests").push(String::from_utf8_lossy(read).into_owned());
        let text = "HTTP/1.1 201 Created\r\ncontent-length: 2\r\ncontent-type: text/plain\r\n\r\nok";
        // Every second answer is the connection's last.
        Reply(text.as_bytes().to_vec(), number == 1)
    });
    let http = client(&host, nobody());
    for _ in 0..5 {
        let answer = http.send(&plain(), &request(), BOUNDS).await.expect("an answer");
        assert_eq!(
            (answer.status, answer.body.as_ref(), answer.content_type.as_str()),
            (201, &b"ok"[..], "text/plain")
        );
    }
    assert_eq!(host.dialled(), 3);
    tokio::time::sleep(Duration::from_secs(60)).await;
    http.send(&plain(), &request(), BOUNDS).await.expect("an answer");
    assert_eq!(host.dialled(), 4, "what nobody used for a while is not used again");
    let seen = seen.lock().expect("requests");
    assert!(seen[0].starts_with("POST /base/_bulk HTTP/1.1\r\nhost: search.test:9200\r\n"), "{}", seen[0]);
    assert!(seen[0].contains("content-length: 24\r\n"), "{}", seen[0]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_any_status_is_an_answer_and_no_redirect_is_followed() {
    let host = Host::new(|_, number| match number {
        0 => keep("HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n"),
        1 => keep("HTTP/1.1 429 Too Many\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n"),
        2 => {
            keep("HTTP/1.1 503 Away\r\nretry-after: 999999\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        }
        3 => keep(
            "HTTP/1.1 503 Away\r\ndate: Thu, 26 Nov 2026 09:00:00 GMT\r\nretry-after: Thu, 26 Nov 2026 09:00:20 GMT\r\ncontent-length: 0\r\n\r\n",
        ),
        _ => Reply(b"HTTP/1.0 200 OK\r\n\r\nuntil the end".to_vec(), true),
    });
    let http = client(&host, nobody());
    let mut statuses = Vec::new();
    for _ in 0..5 {
        let answer = http.send(&plain(), &request(), BOUNDS).await.expect("an answer");
        statuses.push((answer.status, answer.retry_after.map(|after| after.as_secs()), answer.body));
    }
    let expected = [
        (302, None, Bytes::new()),
        (429, Some(7), Bytes::new()),
        (503, Some(3600), Bytes::from_static(b"abc")),
        (503, Some(20), Bytes::new()),
        (200, None, Bytes::from_static(b"until the end")),
    ];
    assert_eq!(statuses, expected);
    assert_eq!(host.dialled(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_answer_is_told_by_what_the_server_may_have_seen_and_shows_no_secret() {
    let of = async |serve: fn(&mut Vec<u8>, usize) -> Reply| {
        let host = Host::new(serve);
        let error = client(&host, nobody()).send(&plain(), &request(), BOUNDS).await.expect_err("no answer");
        let text = format!("{error} {error:?} {:?} {:?} {}", request(), plain(), plain());
        assert!(!["c2VjcmV0", "a record", "/_bulk", "/base"].iter().any(|secret| text.contains(secret)), "{text}");
        error
    };
    assert!(matches!(of(|_, _| Reply(Vec::new(), true)).await, HttpError::Broken(_)));
    assert!(matches!(of(|_, _| Reply(b"HTTP/1.1 200 OK\r\ncontent-le".to_vec(), true)).await, HttpError::Broken(_)));
    let short = |_: &mut Vec<u8>, _| Reply(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort".to_vec(), true);
    assert!(matches!(of(short).await, HttpError::Broken(_)));
    assert!(matches!(of(|_, _| Reply(b"SSH-2.0-OpenSSH\r\n".to_vec(), true)).await, HttpError::Broken(_)));
    assert_eq!(of(|_, _| Reply(Vec::new(), false)).await, HttpError::TimedOut(BOUNDS.whole_max));
    let drip = |_: &mut Vec<u8>, _| keep("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nx");
    assert_eq!(of(drip).await, HttpError::TimedOut(BOUNDS.whole_max));
    let huge = |_: &mut Vec<u8>, _| {
        let mut text = b"HTTP/1.1 500 Oh\r\ncontent-length: 10000000000\r\n\r\n".to_vec();
        text.resize(3 << 20, b'x');
        Reply(text, false)
    };
    assert_eq!(of(huge).await, HttpError::TooLarge { status: 500, most: 1 << 20 });
    let malformed = Request { headers: vec![("x".to_owned(), "a\nb".to_owned())], ..request() };
    let host = Host::new(|_, _| keep(""));
    let error = client(&host, nobody()).send(&plain(), &malformed, BOUNDS).await;
    assert!(matches!(error, Err(HttpError::Malformed(_))));
}

fn pem(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/tests/");
    std::fs::read(format!("{folder}{name}")).expect("a file of the tests")
}

fn acceptor(certificate: &str, versions: &[&'static SupportedProtocolVersion]) -> TlsAcceptor {
    let chain = CertificateDer::pem_slice_iter(&pem(certificate)).collect::<Result<_, _>>().expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(&pem("server.key")).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate and its key");
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn a_server_must_prove_who_it_is() {
    let asked = async |certificate: &str, versions: &[&'static SupportedProtocolVersion], trust: Trust| {
        let host = Host::new(|_, _| keep("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
        let host = Host { tls: Some(acceptor(certificate, versions)), ..host };
        let origin = Origin::parse("https://search.test").expect("an address");
        client(&host, trust).send(&origin, &request(), BOUNDS).await.map(|answer| answer.status)
    };
    let both = [&version::TLS13, &version::TLS12];
    assert_eq!(asked("good.pem", &both, nobody()).await, Ok(200));
    assert_eq!(asked("good.pem", &[&version::TLS12], nobody()).await, Ok(200));
    for bad in ["other.pem", "expired.pem"] {
        let error = asked(bad, &both, nobody()).await.expect_err("distrusted");
        assert!(matches!(error, HttpError::Refused { .. }), "{bad}: {error}");
    }
    // By a CA that nobody knows: the machine's own, which may be none.
    let own = Trust::new(None).expect("no file");
    assert!(matches!(asked("good.pem", &both, own).await, Err(HttpError::Refused { .. })));
}

#[test]
fn a_file_that_holds_no_ca_is_refused() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/tests/");
    let told = |name: &str| Trust::new(Some(std::path::Path::new(&format!("{folder}{name}")))).expect_err("refused");
    assert!(told("server.key").contains("holds no certificate"));
    assert!(told("there-is-none.pem").contains("cannot read"));
}

/// The only tests that open a port, of the machine itself.
#[tokio::test]
async fn loopback_is_connected_to_where_that_is_allowed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let dialled = dial::Tcp { allow_private: true }.dial("127.0.0.1", port).await;
    assert!(dialled.is_ok());
    let refused = dial::Tcp { allow_private: false }.dial("localhost", port).await;
    assert!(matches!(refused, Err(DialError::Forbidden(_))));
    let refused = dial::Tcp { allow_private: true }.dial("169.254.169.254", 80).await;
    assert!(matches!(refused, Err(DialError::Forbidden(_))));
    drop(listener);
    let gone = dial::Tcp { allow_private: true }.dial("127.0.0.1", port).await;
    assert!(matches!(gone, Err(DialError::Unreachable(_))));
}
