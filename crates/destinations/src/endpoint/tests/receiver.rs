//! A receiver that is strict about the protocol, keeps what it takes by request id, and answers as a test wants.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

use crate::http::dial::{BoxStream, Dial, DialError};

/// How a request is answered in another way than with an acknowledgement.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// This status with this body, and nothing is kept.
    Status(u16, &'static str),
    /// 429, and to come again after so many seconds.
    Busy(u64),
    /// Everything is kept, and the acknowledgement is of another request.
    WrongId,
    /// Everything is kept, and 200 comes with a page.
    Page,
    /// Everything is kept, and the acknowledgement comes in chunks, without a length.
    Chunked,
    /// Everything is kept, and the acknowledgement is compressed; it would be a gigabyte.
    Bomb,
    /// 200, and a body without end.
    Endless,
    /// 200, and a byte a second.
    Drip,
    /// To somewhere else.
    Redirect,
    /// Everything is kept, and the connection breaks before the answer.
    Cut,
    /// Nothing ever comes back.
    Silence,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub id: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    /// Without its compression.
    pub body: String,
    /// Its records.
    pub records: Vec<Vec<u8>>,
}

#[derive(Default)]
struct State {
    /// What each id stands for.
    taken: BTreeMap<String, Vec<Vec<u8>>>,
    /// Requests whose sender was told that they were taken.
    acknowledged: Vec<String>,
    faults: VecDeque<Fault>,
    seen: Vec<Seen>,
    records_max: Option<usize>,
    poison: Option<Vec<u8>>,
    unreachable: bool,
    under_way: usize,
    most_under_way: usize,
    endless_bytes: usize,
}

#[derive(Clone, Default)]
pub(super) struct Receiver {
    state: Arc<Mutex<State>>,
    connections: Arc<Mutex<JoinSet<()>>>,
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver")
    }
}

#[async_trait]
impl Dial for Receiver {
    async fn dial(&self, _: &str, _: u16) -> Result<BoxStream, DialError> {
        if self.state.lock().expect("state").unreachable {
            return Err(DialError::Unreachable("connection refused".to_owned()));
        }
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        self.serve(theirs);
        Ok(Box::new(ours))
    }
}

type Answer = http::Response<BoxBody<Bytes, Infallible>>;

impl Receiver {
    pub fn serve(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let receiver = self.clone();
        self.connections.lock().expect("connections").spawn(async move {
            let service = service_fn(move |request| receiver.clone().answer(request));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }

    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.lock().expect("state").faults.extend(faults);
    }

    /// 413 for more records than these.
    pub fn take_at_most(&self, records: usize) {
        self.state.lock().expect("state").records_max = Some(records);
    }

    /// 400 for whatever holds this record.
    pub fn refuse(&self, record: &[u8]) {
        self.state.lock().expect("state").poison = Some(record.to_vec());
    }

    pub fn unreachable(&self, whether: bool) {
        self.state.lock().expect("state").unreachable = whether;
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().expect("state").seen.clone()
    }

    /// What is there, as somebody has it who takes each id once.
    pub fn records(&self) -> Vec<Vec<u8>> {
        let mut all: Vec<Vec<u8>> = self.state.lock().expect("state").taken.values().flatten().cloned().collect();
        all.sort();
        all
    }

    /// What was acknowledged to its sender.
    pub fn acknowledged(&self) -> Vec<Vec<u8>> {
        let state = self.state.lock().expect("state");
        let mut ids = state.acknowledged.clone();
        ids.sort();
        ids.dedup();
        let mut all: Vec<Vec<u8>> = ids.iter().flat_map(|id| state.taken[id].clone()).collect();
        all.sort();
        all
    }

    pub fn most_under_way(&self) -> usize {
        self.state.lock().expect("state").most_under_way
    }

    pub fn endless_bytes(&self) -> usize {
        self.state.lock().expect("state").endless_bytes
    }

    async fn answer(self, request: http::Request<Incoming>) -> Result<Answer, &'static str> {
        if request.method() == http::Method::HEAD {
            return Ok(answer(405, "text/plain", ""));
        }
        let path = request.uri().to_string();
        let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (name.to_string(), value.to_str().expect("text").to_owned())
        };
        let headers: BTreeMap<String, String> = request.headers().iter().map(header).collect();
        let body = request.into_body().collect().await.map_err(|_| "cut")?.to_bytes();
        let seen = read(path, headers, &body);
        let fault = self.state.lock().expect("state").begin(&seen);
        // As long as a write takes: requests overlap.
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.state.lock().expect("state").under_way -= 1;
        match fault {
            Some(Fault::Silence) => std::future::pending().await,
            Some(Fault::Drip) => {
                let drip = stream::unfold((), async |()| {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    Some((Ok(Frame::data(Bytes::from_static(b" "))), ()))
                });
                Ok(streamed(drip))
            }
            Some(Fault::Endless) => {
                let endless = stream::unfold(self.clone(), async |receiver| {
                    receiver.state.lock().expect("state").endless_bytes += 64 << 10;
                    Some((Ok(Frame::data(Bytes::from(vec![b' '; 64 << 10]))), receiver))
                });
                Ok(streamed(endless))
            }
            fault => self.state.lock().expect("state").reply(&seen, fault),
        }
    }
}

fn streamed(frames: impl stream::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + Sync + 'static) -> Answer {
    let answer = http::Response::builder().header("content-type", "application/json");
    answer.body(BodyExt::boxed(StreamBody::new(frames))).expect("an answer")
}

fn answer(status: u16, content_type: &str, body: impl Into<Bytes>) -> Answer {
    let answer = http::Response::builder().status(status).header("content-type", content_type);
    answer.body(Full::new(body.into()).boxed()).expect("an answer")
}

/// Reads a request as the protocol has it; what is wrong with it panics.
fn read(path: String, headers: BTreeMap<String, String>, body: &[u8]) -> Seen {
    let text = match headers.get("content-encoding").map(String::as_str) {
        Some("gzip") => {
            let mut text = String::new();
            flate2::read::GzDecoder::new(body).read_to_string(&mut text).expect("gzip");
            text
        }
        None => String::from_utf8(body.to_vec()).expect("text"),
        Some(other) => panic!("an encoding that the protocol has not: {other}"),
    };
    let header = |name: &str| headers.get(name).unwrap_or_else(|| panic!("no {name}")).as_str();
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("x-amz-firehose-protocol-version"), "1.0");
    assert!(header("x-amz-firehose-source-arn").starts_with("arn:aws:firehose:"));
    let attributes: Value = serde_json::from_str(header("x-amz-firehose-common-attributes")).expect("JSON");
    assert!(attributes["commonAttributes"].is_object());
    assert_eq!(header("content-length"), body.len().to_string());
    let request: Value = serde_json::from_str(&text).expect("JSON");
    let id = header("x-amz-firehose-request-id").to_owned();
    assert_eq!(request["requestId"].as_str(), Some(id.as_str()));
    assert!(request["timestamp"].is_u64());
    let records = request["records"].as_array().expect("records");
    assert!((1..=10_000).contains(&records.len()), "{} records", records.len());
    let data = |record: &Value| {
        base64_simd::STANDARD.decode_to_vec(record["data"].as_str().expect("data")).expect("standard base64")
    };
    let records = records.iter().map(data).collect();
    Seen { id, path, headers, body: text, records }
}

impl State {
    fn begin(&mut self, seen: &Seen) -> Option<Fault> {
        self.seen.push(seen.clone());
        self.under_way += 1;
        self.most_under_way = self.most_under_way.max(self.under_way);
        self.faults.pop_front()
    }

    /// Keeps a request's records; an id that stood for others before is what must never be.
    fn keep(&mut self, seen: &Seen) {
        let known = self.taken.entry(seen.id.clone()).or_insert_with(|| seen.records.clone());
        assert_eq!(*known, seen.records, "{} stands for two sets of records", seen.id);
    }

    fn reply(&mut self, seen: &Seen, fault: Option<Fault>) -> Result<Answer, &'static str> {
        if self.records_max.is_some_and(|most| seen.records.len() > most) {
            return Ok(answer(413, "text/html", "<html>too large</html>"));
        }
        if self.poison.as_ref().is_some_and(|poison| seen.records.contains(poison)) {
            return Ok(answer(400, "application/json", r#"{"errorMessage":"cannot parse"}"#));
        }
        let acknowledgement = format!(r#"{{"requestId":"{}","timestamp":1790000000000}}"#, seen.id);
        let Some(fault) = fault else {
            self.keep(seen);
            self.acknowledged.push(seen.id.clone());
            return Ok(answer(200, "application/json", acknowledgement));
        };
        match fault {
            Fault::Status(status, body) => return Ok(answer(status, "application/json", body)),
            Fault::Busy(seconds) => {
                let mut busy = answer(429, "application/json", "");
                busy.headers_mut().insert("retry-after", seconds.into());
                return Ok(busy);
            }
            Fault::Redirect => {
                let mut moved = answer(302, "text/plain", "");
                let to = http::HeaderValue::from_static("http://169.254.169.254/latest/meta-data/");
                moved.headers_mut().insert("location", to);
                return Ok(moved);
            }
            _ => self.keep(seen),
        }
        match fault {
            Fault::WrongId => {
                let other = r#"{"requestId":"00000000-0000-4000-8000-000000000000","timestamp":1}"#;
                Ok(answer(200, "application/json", other))
            }
            Fault::Page => Ok(answer(200, "text/html", "<html>Sign in</html>")),
            Fault::Chunked => Ok(streamed(stream::iter([Ok(Frame::data(Bytes::from(acknowledgement)))]))),
            Fault::Bomb => {
                let mut bomb = answer(200, "application/json", bomb());
                bomb.headers_mut().insert("content-encoding", http::HeaderValue::from_static("gzip"));
                Ok(bomb)
            }
            _ => Err("cut"),
        }
    }
}

/// A small body that unpacks to 256 MiB.
fn bomb() -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..256 {
        std::io::Write::write_all(&mut packed, &vec![b' '; 1 << 20]).expect("a vector");
    }
    packed.finish().expect("a vector")
}
