//! `read`, by enhanced fan-out: one shard, from a position on, as the events of SubscribeToShard.
//!
//! I15, no read gap: a subscription begins where the last answer ended, and an event counts as a whole or not at all.
//! What an event repeats is dropped, so a subscription may begin too early, and the shard may be polled for a while in
//! between. An empty continuation with children is the end of the shard; without them the event is void, and reading
//! goes on from the last good one.
//!
//! An event is taken from the connection only inside of `next`, for which the caller holds a share of the memory budget:
//! a reader that is not called buffers nothing but the window of its connection. A future dropped on its way has moved
//! nothing. It never registers a consumer, and never gives up: what a subscription does not give, polling does.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::operation::subscribe_to_shard::SubscribeToShardOutput;
use aws_sdk_kinesis::types::{ShardIteratorType, StartingPosition, SubscribeToShardEvent, SubscribeToShardEventStream};
use standpipe_flow::{Position, Read, ReadError, SequenceNumber, ShardReader};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::answer::{BadAnswer, Onward};
use crate::catalog::date_time;
use crate::consumer::{Consumer, Seat};
use crate::errors::{Failure, Kind, StreamError};
use crate::polling::{Polling, PollingSettings, ReadCounts, ReadFrom};
use crate::stream::Stream;
use crate::turns::{Turns, Way};

/// An idle subscription gives an empty event about every 5 s; one that is silent for so long is dead.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// One that was not listened to for a while says something within so much: its heartbeats go on, or wait.
const GRACE: Duration = Duration::from_secs(6);
/// From the call to the first frame of its answer.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(10);

/// Hears how shards are read, for metrics. Must not block.
pub trait Watch: fmt::Debug + Send + Sync + 'static {
    /// A shard is read this way from now on.
    fn begins(&self, way: Way);
    /// A shard is not read this way any more.
    fn ends(&self, way: Way);
    /// A subscription ended, or was not granted: `renewed`, or why.
    fn reconnects(&self, why: &'static str);
}

/// Reads one shard by subscription, and by polling while it cannot be subscribed to.
#[derive(Debug)]
pub struct FanOut {
    stream: Stream,
    consumer: Consumer,
    seat: Seat,
    from: ReadFrom,
    /// Holds what was read and is not returned yet, whichever way it was read.
    polling: Polling,
    subscription: Option<SubscribeToShardOutput>,
    /// When the subscription was made, or last said something.
    heard: Duration,
    /// Of the last good event: everything up to it was given to us.
    continuation: Option<SequenceNumber>,
    turns: Turns,
    way: Option<Way>,
    watch: Arc<dyn Watch>,
}

/// What a subscription gave.
enum Heard {
    Event(SubscribeToShardEvent),
    Unknown,
    /// It ended in order.
    Over,
    Failed(&'static str, Failure),
}

impl ShardReader for FanOut {
    async fn next(&mut self) -> Result<Read, ReadError> {
        let reserved_bytes = self.expected_bytes();
        loop {
            if let Some(read) = self.polling.at_hand(reserved_bytes) {
                return Ok(read);
            }
            if self.subscription.is_none() {
                let way = self.turns.way(self.now());
                self.reads(way);
                if way == Way::Polling {
                    return self.polling.next().await;
                }
                self.subscribe().await?;
                continue;
            }
            match self.listen().await {
                Heard::Event(event) => {
                    if let Some(read) = self.accept(event)? {
                        return Ok(read);
                    }
                }
                Heard::Unknown => {}
                Heard::Over => {
                    self.subscription = None;
                    self.turns.over(self.now(), self.stream.random());
                    self.watch.reconnects("renewed");
                }
                Heard::Failed(why, failure) => self.failed(why, failure)?,
            }
        }
    }

    fn expected_bytes(&self) -> usize {
        self.polling.expected_bytes()
    }
}

impl FanOut {
    pub(crate) fn new(
        stream: Stream,
        from: ReadFrom,
        settings: PollingSettings,
        (consumer, watch): (Consumer, Arc<dyn Watch>),
    ) -> Self {
        Self {
            polling: Polling::new(stream.clone(), from.clone(), settings),
            stream,
            seat: consumer.seat(),
            consumer,
            from,
            subscription: None,
            heard: Duration::ZERO,
            continuation: None,
            turns: Turns::new(),
            way: None,
            watch,
        }
    }

    /// Where the next chunk goes on from.
    pub fn position(&self) -> &Position {
        self.polling.position()
    }

    /// What was seen so far. Calls are those of polling.
    pub fn counts(&self) -> ReadCounts {
        self.polling.counts()
    }

    /// How the shard is read now; `None` before the first call.
    pub fn way(&self) -> Option<Way> {
        self.way
    }

    fn now(&self) -> Duration {
        self.stream.clock().elapsed()
    }

    /// Notes how the shard is read from now on.
    fn reads(&mut self, way: Way) {
        if self.way == Some(way) {
            return;
        }
        if let Some(before) = self.way.replace(way) {
            info!(shard = %self.from.shard, way = way.as_str(), "the shard is read another way from now on");
            self.watch.ends(before);
        }
        self.watch.begins(way);
        self.polling.forget_iterator();
    }

    async fn subscribe(&mut self) -> Result<(), ReadError> {
        self.stream.wait_until(self.turns.next_call()).await;
        self.turns.called(self.now());
        let call = self.seat.client().subscribe_to_shard();
        let call = call.consumer_arn(self.consumer.arn()).shard_id(self.from.shard.as_str());
        let call = call.starting_position(self.start());
        // The SDK's own timeout ends with the head of the answer; its first frame may keep silent for ever.
        match timeout(SUBSCRIBE_TIMEOUT, call.send()).await {
            Ok(Ok(subscription)) => {
                self.heard = self.now();
                self.turns.subscribed(self.heard);
                self.subscription = Some(subscription);
                Ok(())
            }
            Ok(Err(error)) => self.failed("refused", Failure::of(&error)),
            Err(_) => self.failed("silent", Failure::new(Kind::Transient, "SubscribeToShard was not answered")),
        }
    }

    /// Where a subscription begins: after the last continuation, unless records behind it were polled since.
    fn start(&self) -> StartingPosition {
        let (kind, number, time) = match (&self.continuation, self.polling.taken()) {
            (Some(continuation), taken) if is_behind(continuation, taken) => {
                (ShardIteratorType::AfterSequenceNumber, Some(continuation.as_str()), None)
            }
            (_, Position::At { sequence, .. }) => (self.polling.start_kind(), Some(sequence.as_str()), None),
            (_, Position::TrimHorizon) => (self.polling.start_kind(), None, self.from.pinned.map(date_time)),
            (_, Position::ShardEnd) => (self.polling.start_kind(), None, None),
        };
        let position = StartingPosition::builder().r#type(kind);
        let position = position.set_sequence_number(number.map(str::to_owned)).set_timestamp(time);
        position.build().expect("the type is set")
    }

    /// The next event. What a subscription said while nobody listened waits in the connection, and comes first.
    async fn listen(&mut self) -> Heard {
        let now = self.now();
        let patience = (self.heard + SILENCE_MAX).saturating_sub(now).max(GRACE);
        let Some(subscription) = &mut self.subscription else { return Heard::Over };
        let heard = timeout(patience, subscription.event_stream.recv()).await;
        let Ok(heard) = heard else {
            return Heard::Failed("silent", Failure::new(Kind::Transient, "no event for 15 s"));
        };
        self.heard = self.now();
        match heard {
            Ok(Some(SubscribeToShardEventStream::SubscribeToShardEvent(event))) => Heard::Event(event),
            // A kind of event that this program does not know.
            Ok(Some(_)) => Heard::Unknown,
            Ok(None) => Heard::Over,
            Err(error) => Heard::Failed("broken", Failure::of_event(&error)),
        }
    }

    /// Takes an event. Nothing here waits: either the whole event counts or none of it.
    fn accept(&mut self, event: SubscribeToShardEvent) -> Result<Option<Read>, ReadError> {
        let behind = Duration::from_millis(event.millis_behind_latest.try_into().unwrap_or(0));
        let continuation = Some(event.continuation_sequence_number).filter(|number| !number.is_empty());
        let onward = Onward::of(continuation, event.child_shards, None);
        let onward = onward.and_then(|onward| Ok((number_of(&onward)?, onward)));
        let taken = onward.and_then(|(number, onward)| {
            let (_, answered) = self.polling.take(event.records, behind, onward)?;
            Ok((number, answered))
        });
        match taken {
            Ok((Some(number), answered)) => {
                self.continuation = Some(number);
                Ok((answered.records == 0).then_some(Read::Empty { behind }))
            }
            // The end: the loop returns it after what waits.
            Ok((None, _)) => {
                self.subscription = None;
                Ok(None)
            }
            Err(bad) => {
                self.polling.count_bad();
                self.failed("invalid", Failure::new(Kind::Transient, bad.to_string())).map(|()| None)
            }
        }
    }

    /// A subscription was not granted, or broke off. `Ok` polls in this very call of `next`.
    fn failed(&mut self, why: &'static str, failure: Failure) -> Result<(), ReadError> {
        let now = self.now();
        self.subscription = None;
        self.turns.failed(now, failure.kind, self.stream.random());
        let why = if failure.kind == Kind::InUse { "in_use" } else { why };
        self.watch.reconnects(why);
        if self.turns.way(now) == Way::Polling {
            warn!(shard = %self.from.shard, why, error = failure.cause, "no subscription, polling meanwhile");
            return Ok(());
        }
        debug!(shard = %self.from.shard, why, error = failure.cause, "subscription ended, will be made anew");
        Err(StreamError::Again { cause: failure.cause }.into())
    }
}

impl Drop for FanOut {
    fn drop(&mut self) {
        if let Some(way) = self.way {
            self.watch.ends(way);
        }
    }
}

/// Whether a continuation lies behind what was taken. At the same number the reader knows better: it may be within the
/// aggregate of that number.
fn is_behind(continuation: &SequenceNumber, taken: &Position) -> bool {
    match taken {
        Position::TrimHorizon => true,
        Position::At { sequence, .. } => continuation > sequence,
        Position::ShardEnd => false,
    }
}

/// The number of a continuation; `None` at the end.
fn number_of(onward: &Onward) -> Result<Option<SequenceNumber>, BadAnswer> {
    match onward {
        Onward::Next(number) => {
            let number = SequenceNumber::parse(number.as_str());
            number.map(Some).map_err(|error| BadAnswer::Sequence(error.to_string()))
        }
        Onward::End(_) => Ok(None),
    }
}
