//! A shard whose answers are ready in memory: what it costs to read is then what it costs the reader.
//!
//! [`Canned`] is the HTTP client of a [`crate::Stream`]: it knows GetShardIterator and GetRecords, and gives the bodies
//! of the service's JSON one after the other, whatever `Limit` was asked for. After the last one the shard ends.
//! Never here: anything but measurements; the emulator is what behaves like the service.

use std::sync::Arc;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::base64;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use standpipe_flow::Record;

/// Of one answer: what a shard gives in a second.
const ANSWER_BYTES: usize = 2 << 20;

/// The answers of one shard.
#[derive(Clone, Debug)]
pub struct Canned {
    /// What answers GetRecords with the iterator of this number.
    bodies: Arc<[Bytes]>,
}

impl Canned {
    /// The answers that hold these records, which ascend.
    pub fn new(records: &[Record]) -> Self {
        let mut answers: Vec<&[Record]> = Vec::new();
        let (mut start, mut bytes) = (0, 0);
        for (index, record) in records.iter().enumerate() {
            if bytes >= ANSWER_BYTES {
                answers.push(&records[start..index]);
                (start, bytes) = (index, 0);
            }
            bytes += record.data.len();
        }
        answers.push(&records[start..]);
        let count = answers.len();
        let bodies = answers.into_iter().zip(1..).map(|(records, next)| body(records, next, count)).collect();
        Self { bodies }
    }

    /// The client to give to the SDK's configuration.
    pub fn http_client(&self) -> SharedHttpClient {
        SharedHttpClient::new(self.clone())
    }

    fn answer(&self, request: &HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let asks_for = |operation: &str| {
            let target = request.headers().get("x-amz-target");
            target.is_some_and(|target| target.strip_suffix(operation).is_some_and(|service| service.ends_with('.')))
        };
        let body = if asks_for("GetShardIterator") {
            Bytes::from_static(br#"{"ShardIterator":"iterator-0"}"#)
        } else {
            let asked = String::from_utf8_lossy(request.body().bytes().unwrap_or_default());
            let number = asked.split("iterator-").nth(1).and_then(|rest| rest.split('"').next()?.parse::<usize>().ok());
            let known = asks_for("GetRecords").then_some(number).flatten().and_then(|number| self.bodies.get(number));
            known.cloned().ok_or_else(|| ConnectorError::user("no answer was made for this request".into()))?
        };
        let status = 200u16.try_into().map_err(|error| ConnectorError::other(Box::new(error), None))?;
        Ok(HttpResponse::new(status, SdkBody::from(body)))
    }
}

/// GetRecords' answer with these records, before the one of number `next`.
fn body(records: &[Record], next: usize, count: usize) -> Bytes {
    let mut body = String::from(r#"{"MillisBehindLatest":60000,"#);
    if next < count {
        body.push_str(&format!(r#""NextShardIterator":"iterator-{next}","#));
    } else {
        let range = r#"{"StartingHashKey":"0","EndingHashKey":"1"}"#;
        let child = format!(r#"{{"ShardId":"shard-1","ParentShards":["shard-0"],"HashKeyRange":{range}}}"#);
        body.push_str(&format!(r#""ChildShards":[{child}],"#));
    }
    body.push_str(r#""Records":["#);
    for (index, record) in records.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let (seconds, millis) = (record.arrival.0 / 1000, record.arrival.0 % 1000);
        let (key, sequence) = (&record.partition_key, record.sequence.as_str());
        body.push_str(&format!(
            r#"{comma}{{"ApproximateArrivalTimestamp":{seconds}.{millis:03},"Data":"{}","PartitionKey":"{key}","SequenceNumber":"{sequence}"}}"#,
            base64::encode(&record.data),
        ));
    }
    body.push_str("]}");
    body.into()
}

impl HttpConnector for Canned {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::ready(self.answer(&request))
    }
}

impl HttpClient for Canned {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}
