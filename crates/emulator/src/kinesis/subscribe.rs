//! SubscribeToShard: the records of one shard as events, for five minutes.
//!
//! A subscription is a stream that makes an event when its reader asks for one: nothing is buffered. It waits for
//! records, for the next heartbeat or for its end on tokio's timer, so it lives in virtual time as well. A later
//! subscription of the same consumer takes the shard over, and the older one ends with ResourceInUseException.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::sleep;

use super::consumer::{Arn, parse_arn};
use super::error::KinesisError;
use super::iterator::Start;
use super::quota::EventBytes;
use super::read::{Run, child_shards};
use super::stream::{Stream, StreamState, shard_id};
use super::{Kinesis, frame};
use crate::Clock;
use crate::fault::{EventsFault, EventsTrouble};
use crate::http::{Events, Lost};
use crate::trace::lock;

/// A second subscription this soon after a successful one is refused; a later one takes over (API reference).
const TAKE_OVER_MILLIS: u64 = 5000;
/// One call a second for each consumer and shard (API reference).
const CALL_MILLIS: u64 = 1000;
/// An idle stream gives an empty event this often.
const HEARTBEAT_MILLIS: u64 = 5000;
/// An event holds so many bytes of records, or one record.
const EVENT_BYTES_MAX: usize = 1 << 20;
/// Between two events that hold records: the service gathers what arrives meanwhile.
const EVENT_SPACING_MILLIS: u64 = 50;

/// The subscriptions of one consumer to one shard so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Subscribed {
    called_millis: Option<u64>,
    succeeded_millis: Option<u64>,
    /// Goes up with each success; a stream of a lower number was taken over.
    number: u64,
}

#[derive(Deserialize)]
struct SubscribeToShard {
    #[serde(rename = "ConsumerARN")]
    consumer_arn: String,
    #[serde(rename = "ShardId")]
    shard_id: String,
    #[serde(rename = "StartingPosition")]
    starting_position: StartingPosition,
}

/// Where a subscription begins.
#[derive(Debug, Default, Deserialize)]
pub(super) struct StartingPosition {
    #[serde(rename = "Type")]
    pub(super) kind: Option<String>,
    #[serde(rename = "SequenceNumber")]
    pub(super) sequence_number: Option<String>,
    #[serde(rename = "Timestamp")]
    timestamp: Option<f64>,
}

impl Kinesis {
    pub(super) fn subscribe_to_shard(&self, body: &[u8], fault: Option<EventsFault>) -> Result<Events, KinesisError> {
        let request: SubscribeToShard = super::parse(body)?;
        let arn = parse_arn(&request.consumer_arn)
            .ok_or_else(|| KinesisError::argument("ConsumerARN is no ARN of a consumer"))?;
        let now = self.now();
        let stream = self.named(arn.stream)?;
        let mut state = lock(&stream.state);
        let shard = state
            .find(&request.shard_id)
            .ok_or_else(|| KinesisError::shard_not_found(&stream.name, &request.shard_id))?;
        let number = self.admit(&mut state, &arn, shard, now)?;
        let start = Start {
            kind: request.starting_position.kind.as_deref().unwrap_or_default(),
            number: request.starting_position.sequence_number.as_deref(),
            timestamp: request.starting_position.timestamp,
        };
        let (counter, arrival_millis) = start.position(&stream, &state, shard, now)?;
        let last = state.shards[shard].subscriptions.entry(arn.name.to_owned()).or_default();
        (last.number, last.succeeded_millis) = (number, Some(now));
        // The subscription that was there before learns that it was taken over.
        state.shards[shard].changed.notify_waiters();
        drop(state);
        let subscription = Subscription {
            clock: self.clock.clone(),
            retention_millis: self.retention_millis,
            bytes: self.limits.then(EventBytes::default),
            stream,
            consumer: arn.name.to_owned(),
            number,
            shard,
            counter,
            arrival_millis,
            ends_millis: now + self.subscription_millis,
            event_millis: None,
            events: 0,
            fault,
            phase: Phase::Opened,
        };
        let parts = stream::unfold(subscription, |mut subscription| async move {
            let part = subscription.next().await?;
            Some((part, subscription))
        });
        // The SDK asks once more behind the end, for trailers.
        Ok(Box::pin(parts.fuse()))
    }

    /// The number of a new subscription, if there may be one.
    fn admit(&self, state: &mut StreamState, arn: &Arn<'_>, shard: usize, now: u64) -> Result<u64, KinesisError> {
        let consumer = arn.find(state).ok_or_else(|| arn.not_found())?;
        let last = state.shards[shard].subscriptions.entry(arn.name.to_owned()).or_default();
        if self.limits && last.called_millis.is_some_and(|called| now < called + CALL_MILLIS) {
            let message = format!("Rate exceeded for consumer {} and shard {}", arn.name, shard_id(shard));
            return Err(KinesisError::new("LimitExceededException", message));
        }
        last.called_millis = Some(now);
        if !consumer.is_active(now) {
            let message = format!("Consumer {} is not ACTIVE", arn.name);
            return Err(KinesisError::new("ResourceInUseException", message));
        }
        if last.succeeded_millis.is_some_and(|succeeded| now < succeeded + TAKE_OVER_MILLIS) {
            let message = format!("Another active subscription exists for consumer {}: {}", arn.name, shard_id(shard));
            return Err(KinesisError::new("ResourceInUseException", message));
        }
        Ok(last.number + 1)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opened,
    Running,
    /// Half of a frame was given; the next part is the break.
    Broken,
    Over,
}

/// One stream of events.
struct Subscription {
    clock: Clock,
    retention_millis: u64,
    bytes: Option<EventBytes>,
    stream: Arc<Stream>,
    consumer: String,
    number: u64,
    shard: usize,
    counter: u64,
    arrival_millis: u64,
    ends_millis: u64,
    /// When the last event was made.
    event_millis: Option<u64>,
    events: u32,
    fault: Option<EventsFault>,
    phase: Phase,
}

/// What there is to say.
enum Look {
    Event(Vec<u8>),
    /// The last event: the shard is closed.
    End(Vec<u8>),
    Exception(&'static str, &'static str),
    /// The five minutes are over.
    Over,
    /// Nothing before so many milliseconds have passed or something has changed.
    Wait(u64),
}

impl Subscription {
    /// The next part of the stream; `None` is its end in order.
    async fn next(&mut self) -> Option<Result<Bytes, Lost>> {
        match self.phase {
            Phase::Opened => {
                self.phase = Phase::Running;
                return Some(Ok(frame::initial_response()));
            }
            Phase::Running => {}
            Phase::Broken => {
                self.phase = Phase::Over;
                return Some(Err(Lost::Reset));
            }
            Phase::Over => return None,
        }
        loop {
            let changed = lock(&self.stream.state).shards[self.shard].changed.clone();
            let mut changed = std::pin::pin!(changed.notified());
            // Before the look, so that no change after it is missed.
            changed.as_mut().enable();
            match self.look() {
                Look::Wait(millis) => tokio::select! {
                    () = changed => {}
                    () = sleep(Duration::from_millis(millis)) => {}
                },
                Look::Event(body) => return Some(Ok(self.send(body).await)),
                Look::End(body) => {
                    self.phase = Phase::Over;
                    return Some(Ok(self.send(body).await));
                }
                Look::Exception(name, message) => {
                    self.phase = Phase::Over;
                    return Some(Ok(frame::exception(name, message)));
                }
                Look::Over => {
                    self.phase = Phase::Over;
                    return None;
                }
            }
        }
    }

    /// What there is to say now.
    fn look(&mut self) -> Look {
        let now = (self.clock)();
        let stream = self.stream.clone();
        let mut state = lock(&stream.state);
        let last = state.shards[self.shard].subscriptions.get(&self.consumer).copied();
        match last.filter(|_| !state.deleted) {
            None => return Look::Exception("ResourceNotFoundException", "The stream or its consumer is gone."),
            Some(last) if last.number != self.number => return Look::Exception("ResourceInUseException", TAKEN),
            Some(_) if now >= self.ends_millis => return Look::Over,
            Some(_) => {}
        }
        let shard = &mut state.shards[self.shard];
        shard.log.trim(now.saturating_sub(self.retention_millis));
        let run = Run::of(shard, (self.counter, self.arrival_millis), usize::MAX, EVENT_BYTES_MAX);
        let ended = run.reaches_tip(shard) && !shard.meta.is_open();
        let due = match self.event_millis {
            _ if run.bytes > 0 || ended => {
                let spaced = self.event_millis.map_or(now, |last| last + EVENT_SPACING_MILLIS);
                spaced.max(now + self.bytes.as_mut().map_or(0, |bytes| bytes.wait_millis(now)))
            }
            Some(last) => last + HEARTBEAT_MILLIS,
            None => now,
        };
        if due > now {
            return Look::Wait(due.min(self.ends_millis) - now);
        }
        self.event_millis = Some(now);
        match self.body(&mut state, run, now) {
            Ok(body) if ended => Look::End(body),
            Ok(body) => Look::Event(body),
            Err(_) => Look::Exception("InternalFailureException", "The data directory failed."),
        }
    }

    /// The JSON of an event; the position moves behind it.
    fn body(&mut self, state: &mut StreamState, run: Run, now: u64) -> Result<Vec<u8>, io::Error> {
        let next_counter = state.next_counter;
        let shard = &mut state.shards[self.shard];
        let behind = run.behind_millis(shard, now);
        let at_tip = run.reaches_tip(shard);
        let ended = at_tip && !shard.meta.is_open();
        let last = run.last_counter(shard);
        if let Some(bytes) = &mut self.bytes {
            bytes.book(now, run.bytes);
        }
        if last.is_some() {
            self.arrival_millis = 0;
        }
        // Whatever comes next has a counter above every one that was given out, whichever shard it was given in.
        let continuation = if at_tip { next_counter - 1 } else { last.unwrap_or(self.counter) };
        self.counter = continuation + 1;
        let mut body = Vec::with_capacity(run.bytes * 3 / 2 + 512);
        body.extend_from_slice(b"{\"Records\":[");
        shard.log.copy(run.range, &mut body)?;
        body.extend_from_slice(format!("],\"MillisBehindLatest\":{behind}").as_bytes());
        if ended {
            let children = Value::Array(child_shards(state, self.shard));
            body.extend_from_slice(
                format!(",\"ContinuationSequenceNumber\":null,\"ChildShards\":{children}}}").as_bytes(),
            );
        } else {
            let number = self.stream.number(self.shard, continuation);
            body.extend_from_slice(
                format!(",\"ContinuationSequenceNumber\":\"{number}\",\"ChildShards\":[]}}").as_bytes(),
            );
        }
        Ok(body)
    }

    /// The frame of an event, or what a fault makes of it.
    async fn send(&mut self, body: Vec<u8>) -> Bytes {
        self.events += 1;
        let trouble = self.fault.filter(|fault| self.events > fault.after).map(|fault| fault.trouble);
        match trouble {
            None => frame::event(body),
            Some(EventsTrouble::Silent) => std::future::pending().await,
            Some(EventsTrouble::Cut) => {
                self.phase = Phase::Broken;
                let whole = frame::event(body);
                whole.slice(..whole.len() / 2)
            }
            Some(EventsTrouble::Invalid) => {
                self.fault = None;
                frame::event(without_continuation(&body))
            }
            Some(EventsTrouble::Fail) => {
                self.phase = Phase::Over;
                frame::exception("InternalFailureException", "An internal failure, says a fault.")
            }
            Some(EventsTrouble::Taken) => {
                self.phase = Phase::Over;
                frame::exception("ResourceInUseException", TAKEN)
            }
        }
    }
}

const TAKEN: &str = "Another subscription of this consumer has taken the shard over.";

/// An event as it must not be: nothing to continue with, and no children.
fn without_continuation(body: &[u8]) -> Vec<u8> {
    let mut event: Value = serde_json::from_slice(body).unwrap_or_default();
    event["ContinuationSequenceNumber"] = Value::Null;
    event["ChildShards"] = Value::Array(Vec::new());
    event.to_string().into_bytes()
}
