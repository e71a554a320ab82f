//! A server in memory that keeps documents as OpenSearch does, and does wrong what a test wants.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::Read;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::answer;
use crate::http::dial::{BoxStream, Dial, DialError};

/// What goes wrong with a request.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// This status, with this body, and nothing is done.
    Answer(u16, &'static str),
    /// Everything is done, and the connection breaks before the answer.
    Lost,
    /// The connection breaks, and nothing is done.
    Cut,
    /// Every second document gets this status, and is not kept; so does one that is alone.
    Items(u16),
    /// Everything is done, and the answer leaves the last item out.
    Short,
    /// Nothing ever comes back.
    Silence,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub node: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    /// As it was sent.
    pub body: Bytes,
    /// Without its compression.
    pub text: String,
}

impl Seen {
    fn is_nothing(&self) -> bool {
        self.text.as_bytes() == answer::NOTHING
    }
}

#[derive(Default)]
struct State {
    documents: BTreeMap<(String, String), String>,
    faults: VecDeque<Fault>,
    seen: Vec<Seen>,
    next_id: u64,
    bytes_max: Option<usize>,
    /// A firewall in front refuses what holds this.
    disliked: Option<&'static str>,
    /// Whoever asks for nothing right behind a whole answer gets the same one.
    last_answer: Option<(u16, &'static str)>,
    unreachable: Vec<String>,
    under_way: usize,
    most_under_way: usize,
}

#[derive(Clone, Default)]
pub(super) struct Cluster {
    state: Arc<Mutex<State>>,
    connections: Arc<Mutex<JoinSet<()>>>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cluster")
    }
}

#[async_trait]
impl Dial for Cluster {
    async fn dial(&self, host: &str, _: u16) -> Result<BoxStream, DialError> {
        if self.state.lock().expect("state").unreachable.iter().any(|one| one == host) {
            return Err(DialError::Unreachable("connection refused".to_owned()));
        }
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let (cluster, host) = (self.clone(), host.to_owned());
        self.connections.lock().expect("connections").spawn(async move {
            let service = service_fn(move |request| cluster.clone().answer(host.clone(), request));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(theirs), service).await;
        });
        Ok(Box::new(ours))
    }
}

impl Cluster {
    /// The next requests go wrong so.
    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.lock().expect("state").faults.extend(faults);
    }

    /// A larger request gets 413.
    pub fn take_at_most(&self, bytes: usize) {
        self.state.lock().expect("state").bytes_max = Some(bytes);
    }

    /// A firewall in front refuses every request that holds this text.
    pub fn dislike(&self, text: &'static str) {
        self.state.lock().expect("state").disliked = Some(text);
    }

    /// Nobody gets there any more, or again.
    pub fn unreachable(&self, hosts: &[&str]) {
        self.state.lock().expect("state").unreachable = hosts.iter().map(|host| (*host).to_owned()).collect();
    }

    pub fn documents(&self) -> BTreeMap<(String, String), String> {
        self.state.lock().expect("state").documents.clone()
    }

    /// The bulk requests so far, but for those that do nothing.
    pub fn seen(&self) -> Vec<Seen> {
        let seen = self.state.lock().expect("state").seen.clone();
        seen.into_iter().filter(|seen| seen.path.starts_with("/_bulk") && !seen.is_nothing()).collect()
    }

    /// The bulk requests that do nothing.
    pub fn asked(&self) -> usize {
        self.state.lock().expect("state").seen.iter().filter(|seen| seen.is_nothing()).count()
    }

    pub fn most_under_way(&self) -> usize {
        self.state.lock().expect("state").most_under_way
    }

    async fn answer(
        self,
        node: String,
        request: http::Request<Incoming>,
    ) -> Result<http::Response<Full<Bytes>>, &'static str> {
        let path = request.uri().to_string();
        let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (name.to_string(), value.to_str().expect("text").to_owned())
        };
        let headers: BTreeMap<String, String> = request.headers().iter().map(header).collect();
        let body = request.into_body().collect().await.map_err(|_| "cut")?.to_bytes();
        let mut text = String::new();
        if headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip") {
            flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut text).expect("gzip");
        } else {
            text = String::from_utf8(body.to_vec()).expect("text");
        }
        let seen = Seen { node, path, headers, body, text };
        let fault = {
            let mut state = self.state.lock().expect("state");
            state.seen.push(seen.clone());
            state.under_way += 1;
            state.most_under_way = state.most_under_way.max(state.under_way);
            state.fault(&seen)
        };
        // As long as a write takes: requests overlap.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        if let Some(Fault::Silence) = fault {
            std::future::pending::<()>().await;
        }
        let mut state = self.state.lock().expect("state");
        state.under_way -= 1;
        let (status, text) = state.reply(&seen, fault)?;
        let response = http::Response::builder().status(status).header("content-type", "application/json");
        let response = if status == 429 { response.header("retry-after", "3") } else { response };
        Ok(response.body(Full::new(text.into())).expect("an answer"))
    }
}

impl State {
    fn fault(&mut self, seen: &Seen) -> Option<Fault> {
        if seen.is_nothing() {
            return self.last_answer.take().map(|(status, body)| Fault::Answer(status, body));
        }
        let fault = if seen.path.starts_with("/_bulk") { self.faults.pop_front() } else { None };
        self.last_answer = match fault {
            Some(Fault::Answer(status, body)) => Some((status, body)),
            _ => None,
        };
        fault
    }

    fn reply(&mut self, seen: &Seen, fault: Option<Fault>) -> Result<(u16, String), &'static str> {
        if !seen.path.starts_with("/_bulk") {
            return Ok((200, r#"{"version":{"number":"2.19.3"}}"#.to_owned()));
        }
        if self.bytes_max.is_some_and(|most| seen.text.len() > most) {
            return Ok((413, String::new()));
        }
        if self.disliked.is_some_and(|text| seen.text.contains(text)) {
            return Ok((403, "<html>403 Forbidden</html>".to_owned()));
        }
        match fault {
            Some(Fault::Answer(status, body)) => Ok((status, body.to_owned())),
            Some(Fault::Cut) => Err("cut"),
            Some(Fault::Lost) => {
                self.bulk(&seen.text, None);
                Err("lost")
            }
            Some(Fault::Short) => {
                let mut items = self.bulk(&seen.text, None);
                items.pop();
                Ok((200, json!({ "errors": false, "items": items }).to_string()))
            }
            Some(Fault::Items(status)) => {
                Ok((200, json!({ "errors": true, "items": self.bulk(&seen.text, Some(status)) }).to_string()))
            }
            Some(Fault::Silence) | None => {
                Ok((200, json!({ "errors": false, "items": self.bulk(&seen.text, None) }).to_string()))
            }
        }
    }

    /// Does what the lines say; every second document, or the only one, gets `status` where that is given.
    fn bulk(&mut self, text: &str, status: Option<u16>) -> Vec<Value> {
        assert!(text.ends_with('\n'), "the last line ends too");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len() % 2, 0, "two lines a document");
        let mut items = Vec::new();
        for (number, pair) in lines.chunks(2).enumerate() {
            let action: Value = serde_json::from_str(pair[0]).expect("an action");
            let (name, about) = action.as_object().expect("an object").iter().next().expect("an action");
            let index = about["_index"].as_str().expect("an index").to_owned();
            let id = about["_id"].as_str().map(str::to_owned).unwrap_or_else(|| {
                self.next_id += 1;
                format!("server-{}", self.next_id)
            });
            let (status, error) = match status.filter(|_| number % 2 == 1 || lines.len() == 2) {
                Some(status) => (status, json!({ "type": "some_exception", "reason": "as the test wants" })),
                None => self.one(name, (index, id), pair[1]),
            };
            let mut item = json!({ "status": status });
            if !error.is_null() {
                item["error"] = error;
            }
            items.push(json!({ name: item }));
        }
        items
    }

    fn one(&mut self, action: &str, key: (String, String), document: &str) -> (u16, Value) {
        let parsed: Value = serde_json::from_str(document).expect("a document");
        if key.0.chars().any(char::is_uppercase) {
            return (400, json!({ "type": "invalid_index_name_exception", "reason": "must be lowercase" }));
        }
        if !parsed["n"].is_number() {
            return (400, json!({ "type": "mapper_parsing_exception", "reason": "failed to parse field [n]" }));
        }
        if action == "create" && self.documents.contains_key(&key) {
            return (409, json!({ "type": "version_conflict_engine_exception", "reason": "document already exists" }));
        }
        self.documents.insert(key, document.to_owned());
        (201, Value::Null)
    }
}
