//! GetShardIterator, and the opaque token that a reader carries from call to call.
//!
//! A token holds the whole position, so the emulator keeps nothing for a reader; it lives five minutes.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::error::KinesisError;
use super::sequence;
use super::stream::{Stream, StreamState};
use super::{Kinesis, StreamRef};

/// An iterator lives so long (API reference).
pub(super) const LIFE_MILLIS: u64 = 300_000;
/// A timestamp may lie so far ahead: clocks differ. The service refuses what is in the future.
const AHEAD_MILLIS: u64 = 60_000;

/// A position in a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) stream: String,
    pub(super) created_millis: u64,
    pub(super) shard: usize,
    /// The first counter that may be read.
    pub(super) counter: u64,
    /// Records that arrived before are skipped; of AT_TIMESTAMP.
    pub(super) arrival_millis: u64,
    pub(super) issued_millis: u64,
}

impl Token {
    pub(super) fn encode(&self) -> String {
        let Token { stream, created_millis, shard, counter, arrival_millis, issued_millis } = self;
        let text = format!("1:{created_millis}:{shard}:{counter}:{arrival_millis}:{issued_millis}:{stream}");
        base64_simd::STANDARD.encode_to_string(text)
    }

    pub(super) fn decode(text: &str) -> Option<Self> {
        let bytes = base64_simd::STANDARD.decode_to_vec(text).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let mut fields = text.strip_prefix("1:")?.splitn(6, ':');
        let mut number = || fields.next()?.parse::<u64>().ok();
        Some(Self {
            created_millis: number()?,
            shard: usize::try_from(number()?).ok()?,
            counter: number()?,
            arrival_millis: number()?,
            issued_millis: number()?,
            stream: fields.next()?.to_owned(),
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetShardIterator {
    #[serde(flatten)]
    stream: StreamRef,
    shard_id: String,
    shard_iterator_type: String,
    starting_sequence_number: Option<String>,
    timestamp: Option<f64>,
}

impl Kinesis {
    pub(super) fn get_shard_iterator(&self, body: &[u8]) -> Result<Bytes, KinesisError> {
        let request: GetShardIterator = super::parse(body)?;
        let now = self.now();
        let stream = self.stream(&request.stream)?;
        let mut state = crate::trace::lock(&stream.state);
        let shard = state
            .find(&request.shard_id)
            .ok_or_else(|| KinesisError::shard_not_found(&stream.name, &request.shard_id))?;
        if self.limits && !state.shards[shard].quota.admit_iterator(now) {
            return Err(KinesisError::throttled(&request.shard_id, &stream.name));
        }
        let start = Start {
            kind: &request.shard_iterator_type,
            number: request.starting_sequence_number.as_deref(),
            timestamp: request.timestamp,
        };
        let (counter, arrival_millis) = start.position(&stream, &state, shard, now)?;
        let token = Token {
            stream: stream.name.clone(),
            created_millis: stream.created_millis,
            shard,
            counter,
            arrival_millis,
            issued_millis: now,
        };
        Ok(json!({ "ShardIterator": token.encode() }).to_string().into())
    }
}

/// Where a reader of a shard begins, as it is written in GetShardIterator and SubscribeToShard.
pub(super) struct Start<'a> {
    pub(super) kind: &'a str,
    pub(super) number: Option<&'a str>,
    pub(super) timestamp: Option<f64>,
}

impl Start<'_> {
    /// The first counter and the first arrival that may be read.
    pub(super) fn position(
        &self,
        stream: &Stream,
        state: &StreamState,
        shard: usize,
        now: u64,
    ) -> Result<(u64, u64), KinesisError> {
        position(self, stream, state, shard, now)
    }
}

fn position(
    start: &Start<'_>,
    stream: &Stream,
    state: &StreamState,
    shard: usize,
    now: u64,
) -> Result<(u64, u64), KinesisError> {
    let kind = start.kind;
    match kind {
        "TRIM_HORIZON" => Ok((0, 0)),
        "LATEST" => Ok((state.next_counter, 0)),
        "AT_SEQUENCE_NUMBER" | "AFTER_SEQUENCE_NUMBER" => {
            let text = start.number.ok_or_else(|| {
                KinesisError::argument(format!("Must either specify StartingSequenceNumber for {kind}"))
            })?;
            let counter = counter_of(text, stream, state, shard)?;
            Ok((if kind == "AT_SEQUENCE_NUMBER" { counter } else { counter + 1 }, 0))
        }
        "AT_TIMESTAMP" => {
            let secs = start
                .timestamp
                .filter(|secs| secs.is_finite() && *secs >= 0.0)
                .ok_or_else(|| KinesisError::argument("Must specify timestamp for AT_TIMESTAMP"))?;
            let millis = (secs * 1000.0).round() as u64;
            if millis > now + AHEAD_MILLIS {
                let message = format!(
                    "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. timestampInMillis: {millis}, currentTimestampInMillis: {now}"
                );
                return Err(KinesisError::argument(message));
            }
            Ok((0, millis))
        }
        other => Err(KinesisError::validation(format!("{other} is not a ShardIteratorType"))),
    }
}

fn counter_of(text: &str, stream: &Stream, state: &StreamState, shard: usize) -> Result<u64, KinesisError> {
    let meta = &state.shards[shard].meta;
    let secs = stream.created_millis / 1000 % 1_000_000_000_000;
    sequence::parse(text)
        .filter(|parts| parts.created_secs == secs && parts.shard == shard)
        .map(|parts| parts.counter)
        .filter(|counter| (meta.starting_counter..state.next_counter).contains(counter))
        .ok_or_else(|| {
            KinesisError::argument(format!(
                "StartingSequenceNumber {text} used in GetShardIterator on shard {} in stream {} under account 000000000000 is invalid because it did not come from this stream.",
                meta.id(),
                stream.name
            ))
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tokens_round_trip(stream in "[a-zA-Z0-9_.-]{1,128}", created_millis: u64, shard: u32, counter: u64, issued_millis: u64) {
            let token = Token { stream, created_millis, shard: shard as usize, counter, arrival_millis: 7, issued_millis };
            prop_assert_eq!(Token::decode(&token.encode()), Some(token));
        }

        #[test]
        fn junk_is_no_token(text in ".{0,80}") {
            let _ = Token::decode(&text);
        }
    }
}
