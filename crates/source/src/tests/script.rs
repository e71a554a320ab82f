//! A Kinesis that says what the test wants: for what no well-behaved service says.

use std::fmt;
use std::sync::{Arc, Mutex};

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_kinesis::config::{BehaviorVersion, Region};
use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use aws_types::SdkConfig;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use serde_json::{Value, json};

use super::{Seeded, TestClock};
use crate::{Stream, StreamRef};

/// An answer of the script.
pub(super) enum Say {
    /// Status 200 with this body.
    Ok(Value),
    /// This exception with status 400.
    Error(&'static str),
    /// This status, without a code.
    Status(u16),
    /// The connection breaks.
    Reset,
    /// No answer ever.
    Silence,
    /// An event stream of these parts.
    Events(Vec<Part>),
}

/// A part of an event stream.
#[derive(Debug, Clone)]
pub(super) enum Part {
    /// A SubscribeToShardEvent.
    Event(Value),
    /// An exception.
    Exception(&'static str),
    /// A frame of a kind that nobody knows.
    Unknown,
    /// Nothing for so many seconds.
    Wait(u64),
    /// The connection breaks in the middle of a frame.
    Cut,
    /// Nothing ever again.
    Silence,
}

impl Part {
    /// The bytes of the frame; `Err` where the connection breaks.
    async fn bytes(self) -> Result<Bytes, std::io::Error> {
        let frame = match self {
            Part::Event(body) => frame("event", "SubscribeToShardEvent", &body),
            Part::Exception(name) => frame("exception", name, &json!({ "message": "as the script says" })),
            Part::Unknown => frame("event", "SomethingNew", &json!({})),
            Part::Wait(seconds) => {
                tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
                Bytes::new()
            }
            Part::Cut => return Err(std::io::Error::other("reset")),
            Part::Silence => std::future::pending().await,
        };
        Ok(frame)
    }
}

fn frame(kind: &'static str, name: &'static str, body: &Value) -> Bytes {
    let type_header = if kind == "event" { ":event-type" } else { ":exception-type" };
    let message = Message::new(body.to_string())
        .add_header(Header::new(":message-type", HeaderValue::String(kind.into())))
        .add_header(Header::new(type_header, HeaderValue::String(name.into())))
        .add_header(Header::new(":content-type", HeaderValue::String("application/json".into())));
    let mut bytes = Vec::new();
    write_message_to(&message, &mut bytes).expect("a small frame");
    bytes.into()
}

/// The initial response, then the parts, then the end.
fn events(parts: Vec<Part>) -> SdkBody {
    let first = frame("event", "initial-response", &json!({}));
    // Half of a frame before the connection breaks.
    let parts = parts.into_iter().flat_map(|part| match part {
        Part::Cut => vec![None, Some(Part::Cut)],
        part => vec![Some(part)],
    });
    let parts = stream::iter(parts).then(move |part| {
        let half = first.slice(..first.len() / 2);
        async move {
            match part {
                Some(part) => part.bytes().await.map(Frame::data),
                None => Ok(Frame::data(half)),
            }
        }
    });
    let first = frame("event", "initial-response", &json!({}));
    let opened = stream::iter([Ok(Frame::data(first))]);
    SdkBody::from_body_1_x(StreamBody::new(opened.chain(parts).fuse()))
}

/// A call that arrived.
#[derive(Debug, Clone)]
pub(super) struct Arrived {
    pub(super) operation: String,
    pub(super) body: Value,
    pub(super) at: tokio::time::Instant,
}

type Answer = Box<dyn FnMut(&Arrived) -> Say + Send>;

/// The scripted service.
#[derive(Clone)]
pub(super) struct Script {
    calls: Arc<Mutex<Vec<Arrived>>>,
    answer: Arc<Mutex<Answer>>,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

impl Script {
    /// GetShardIterator is answered with `it-<number of the call>`; everything else by `answer`.
    pub(super) fn new(mut answer: impl FnMut(&Arrived) -> Say + Send + 'static) -> Self {
        let mut iterators = 0;
        Self::raw(move |call| {
            if call.operation == "GetShardIterator" {
                iterators += 1;
                return Say::Ok(json!({ "ShardIterator": format!("it-{iterators}") }));
            }
            answer(call)
        })
    }

    /// Everything is answered by `answer`.
    pub(super) fn raw(answer: impl FnMut(&Arrived) -> Say + Send + 'static) -> Self {
        Self { calls: Arc::default(), answer: Arc::new(Mutex::new(Box::new(answer))) }
    }

    /// These answers to everything but GetShardIterator, one after the other, the last one for ever.
    pub(super) fn of(answers: impl IntoIterator<Item = Value>) -> Self {
        let answers: Vec<_> = answers.into_iter().collect();
        let mut next = 0;
        Self::new(move |_| {
            let answer = answers[next.min(answers.len() - 1)].clone();
            next += 1;
            Say::Ok(answer)
        })
    }

    pub(super) fn stream(&self) -> Stream {
        self.stream_named(StreamRef::Name("orders".to_owned()))
    }

    pub(super) fn stream_named(&self, reference: StreamRef) -> Stream {
        let credentials = Credentials::from_keys("id", "secret", None);
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .endpoint_url("http://kinesis.test")
            .http_client(self.clone())
            .build();
        Stream::new(&config, reference, Arc::new(TestClock::new()), Arc::new(Seeded::new(11)))
    }

    /// Every call that arrived.
    pub(super) fn calls(&self) -> Vec<Arrived> {
        self.calls.lock().expect("no test panics with the lock held").clone()
    }

    /// The bodies of the calls of one operation.
    pub(super) fn bodies(&self, operation: &str) -> Vec<Value> {
        self.calls().into_iter().filter(|call| call.operation == operation).map(|call| call.body).collect()
    }
}

impl HttpClient for Script {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Script {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let body = request.body().bytes().unwrap_or_default();
        let call = Arrived {
            operation: target.rsplit('.').next().unwrap_or_default().to_owned(),
            body: serde_json::from_slice(body).unwrap_or_default(),
            at: tokio::time::Instant::now(),
        };
        self.calls.lock().expect("no test panics with the lock held").push(call.clone());
        let said = (self.answer.lock().expect("no test panics with the lock held"))(&call);
        let (status, body) = match said {
            Say::Ok(body) => (200, body.to_string()),
            Say::Error(code) => (400, json!({ "__type": code, "message": "as the script says" }).to_string()),
            Say::Status(status) => (status, String::new()),
            Say::Reset => return HttpConnectorFuture::ready(Err(ConnectorError::io("reset".into()))),
            Say::Silence => return HttpConnectorFuture::new(std::future::pending()),
            Say::Events(parts) => {
                let mut response = HttpResponse::new(200.try_into().expect("a status"), events(parts));
                response.headers_mut().insert("content-type", "application/vnd.amazon.eventstream");
                return HttpConnectorFuture::ready(Ok(response));
            }
        };
        let mut response = HttpResponse::new(status.try_into().expect("a status"), SdkBody::from(body));
        response.headers_mut().insert("content-type", "application/x-amz-json-1.1");
        HttpConnectorFuture::ready(Ok(response))
    }
}
