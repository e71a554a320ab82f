//! A Kinesis that says what the test wants: for what no well-behaved service says.

use std::fmt;
use std::sync::{Arc, Mutex};

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_kinesis::config::{BehaviorVersion, Region};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_types::SdkConfig;
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
        };
        let mut response = HttpResponse::new(status.try_into().expect("a status"), SdkBody::from(body));
        response.headers_mut().insert("content-type", "application/x-amz-json-1.1");
        HttpConnectorFuture::ready(Ok(response))
    }
}
