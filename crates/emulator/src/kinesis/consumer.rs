//! The consumers of a stream: registered by name, CREATING for a while, then ACTIVE, until they are deregistered.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::KinesisError;
use super::stream::{Stream, StreamState};
use super::{Kinesis, StreamRef};

/// A stream has so many consumers at most (quota page, outside of On-demand Advantage).
const CONSUMERS_MAX: usize = 20;
/// So many may be CREATING at once (API reference, RegisterStreamConsumer).
const CREATING_MAX: usize = 5;

/// A consumer as it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Consumer {
    pub(super) created_millis: u64,
    pub(super) active_millis: u64,
}

impl Consumer {
    pub(super) fn is_active(&self, now: u64) -> bool {
        now >= self.active_millis
    }

    fn arn(&self, stream: &Stream, name: &str) -> String {
        format!("{}/consumer/{name}:{}", stream.arn(), self.created_millis / 1000)
    }

    fn describe(&self, stream: &Stream, name: &str, now: u64) -> Value {
        json!({
            "ConsumerName": name,
            "ConsumerARN": self.arn(stream, name),
            "ConsumerStatus": if self.is_active(now) { "ACTIVE" } else { "CREATING" },
            "ConsumerCreationTimestamp": self.created_millis as f64 / 1000.0,
        })
    }
}

/// The parts of a consumer's ARN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arn<'a> {
    pub(super) stream: &'a str,
    pub(super) name: &'a str,
    created_secs: u64,
}

/// Reads `arn:...:stream/STREAM/consumer/NAME:SECONDS`.
pub(super) fn parse_arn(arn: &str) -> Option<Arn<'_>> {
    let (stream, consumer) = arn.split_once(":stream/")?.1.split_once("/consumer/")?;
    let (name, created) = consumer.split_once(':')?;
    Some(Arn { stream, name, created_secs: created.parse().ok()? })
}

impl Arn<'_> {
    /// The consumer that it means: one that was registered anew under the name has another ARN.
    pub(super) fn find(&self, state: &StreamState) -> Option<Consumer> {
        let consumer = state.consumers.get(self.name).copied()?;
        (consumer.created_millis / 1000 == self.created_secs).then_some(consumer)
    }

    pub(super) fn not_found(&self) -> KinesisError {
        not_found(self.stream, self.name)
    }
}

fn not_found(stream: &str, name: &str) -> KinesisError {
    let message = format!("Consumer {name} of stream {stream} under account 000000000000 not found.");
    KinesisError::new("ResourceNotFoundException", message)
}

#[derive(Deserialize)]
struct Which {
    #[serde(flatten)]
    stream: StreamRef,
    #[serde(rename = "ConsumerName")]
    name: Option<String>,
    #[serde(rename = "ConsumerARN")]
    arn: Option<String>,
}

impl Kinesis {
    pub(super) fn register_stream_consumer(&self, body: &[u8]) -> Result<Bytes, KinesisError> {
        let request: Which = super::parse(body)?;
        let now = self.now();
        let stream = self.stream(&request.stream)?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let name = request.name.filter(|name| (1..=128).contains(&name.len()) && name.chars().all(allowed));
        let name = name.ok_or_else(|| {
            KinesisError::validation("ConsumerName must match [a-zA-Z0-9_.-]+ and have 1 to 128 characters")
        })?;
        let mut state = crate::trace::lock(&stream.state);
        if self.limits && !crate::trace::lock(&self.registrations).admit(now) {
            return Err(KinesisError::new("LimitExceededException", "Rate exceeded for RegisterStreamConsumer"));
        }
        if state.consumers.contains_key(&name) {
            let message = format!("Consumer {name} of stream {} already exists.", stream.name);
            return Err(KinesisError::new("ResourceInUseException", message));
        }
        let creating = state.consumers.values().filter(|consumer| !consumer.is_active(now)).count();
        if self.limits && (state.consumers.len() >= CONSUMERS_MAX || creating >= CREATING_MAX) {
            let message = format!("Stream {} has too many consumers, or too many are CREATING", stream.name);
            return Err(KinesisError::new("LimitExceededException", message));
        }
        let consumer = Consumer { created_millis: now, active_millis: now + self.consumer_change_millis };
        state.consumers.insert(name.clone(), consumer);
        stream.save(&state).map_err(KinesisError::storage)?;
        let mut described = consumer.describe(&stream, &name, now);
        // The answer to a registration always says CREATING (API reference).
        described["ConsumerStatus"] = "CREATING".into();
        Ok(json!({ "Consumer": described }).to_string().into())
    }

    pub(super) fn describe_stream_consumer(&self, body: &[u8]) -> Result<Bytes, KinesisError> {
        let (stream, name) = self.which(&super::parse(body)?)?;
        let state = crate::trace::lock(&stream.state);
        let consumer = state.consumers.get(&name).ok_or_else(|| not_found(&stream.name, &name))?;
        let mut described = consumer.describe(&stream, &name, self.now());
        described["StreamARN"] = stream.arn().into();
        Ok(json!({ "ConsumerDescription": described }).to_string().into())
    }

    pub(super) fn list_stream_consumers(&self, body: &[u8]) -> Result<Bytes, KinesisError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Request {
            #[serde(flatten)]
            stream: StreamRef,
            next_token: Option<String>,
            max_results: Option<usize>,
        }
        let request: Request = super::parse(body)?;
        let stream = self.stream(&request.stream)?;
        let state = crate::trace::lock(&stream.state);
        let after = request.next_token.unwrap_or_default();
        let mut listed = state.consumers.iter().filter(|(name, _)| **name > after);
        let page: Vec<_> = listed.by_ref().take(request.max_results.unwrap_or(100).clamp(1, 100)).collect();
        let more = listed.next().is_some();
        let now = self.now();
        let described: Vec<_> = page.iter().map(|(name, consumer)| consumer.describe(&stream, name, now)).collect();
        let mut answer = json!({ "Consumers": described });
        if let (true, Some((last, _))) = (more, page.last()) {
            answer["NextToken"] = last.as_str().into();
        }
        Ok(answer.to_string().into())
    }

    pub(super) fn deregister_stream_consumer(&self, body: &[u8]) -> Result<Bytes, KinesisError> {
        let (stream, name) = self.which(&super::parse(body)?)?;
        let mut state = crate::trace::lock(&stream.state);
        state.consumers.remove(&name).ok_or_else(|| not_found(&stream.name, &name))?;
        for shard in &mut state.shards {
            shard.subscriptions.remove(&name);
            shard.changed.notify_waiters();
        }
        stream.save(&state).map_err(KinesisError::storage)?;
        Ok(Bytes::new())
    }

    /// The stream and the name that a request means.
    fn which(&self, request: &Which) -> Result<(std::sync::Arc<Stream>, String), KinesisError> {
        if let Some(arn) = &request.arn {
            let arn = parse_arn(arn).ok_or_else(|| KinesisError::argument("ConsumerARN is no ARN of a consumer"))?;
            let stream = self.named(arn.stream)?;
            arn.find(&crate::trace::lock(&stream.state)).ok_or_else(|| arn.not_found())?;
            return Ok((stream, arn.name.to_owned()));
        }
        let name = request.name.clone();
        let name = name.ok_or_else(|| KinesisError::argument("Either ConsumerARN or ConsumerName must be given"))?;
        Ok((self.stream(&request.stream)?, name))
    }
}
