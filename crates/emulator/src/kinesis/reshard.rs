//! SplitShard, MergeShards and UpdateShardCount: closed parents, children in their place.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::error::KinesisError;
use super::sequence;
use super::stream::{Stream, StreamState};
use super::{Kinesis, StreamRef};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SplitShard {
    #[serde(flatten)]
    stream: StreamRef,
    shard_to_split: String,
    new_starting_hash_key: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MergeShards {
    #[serde(flatten)]
    stream: StreamRef,
    shard_to_merge: String,
    adjacent_shard_to_merge: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UpdateShardCount {
    #[serde(flatten)]
    stream: StreamRef,
    target_shard_count: usize,
    scaling_type: Option<String>,
}

/// StreamModeDetails of a request.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ModeDetails {
    stream_mode: Option<String>,
}

impl ModeDetails {
    /// Whether the stream is to be on demand.
    pub(super) fn on_demand(&self) -> Result<bool, KinesisError> {
        match self.stream_mode.as_deref() {
            None | Some("PROVISIONED") => Ok(false),
            Some("ON_DEMAND") => Ok(true),
            Some(other) => Err(KinesisError::validation(format!("{other} is not a StreamMode"))),
        }
    }
}

/// UpdateShardCount may be called so often in any 24 hours, and shards may be so many (API reference).
const SCALINGS_MAX: usize = 10;
const DAY_MILLIS: u64 = 24 * 3_600_000;
const SHARDS_MAX: usize = 10_000;

impl Kinesis {
    pub(super) fn split_shard(&self, body: &[u8]) -> Result<Bytes, KinesisError> {
        let request: SplitShard = super::parse(body)?;
        let stream = self.stream(&request.stream)?;
        let key = request
            .new_starting_hash_key
            .parse()
            .map_err(|_| KinesisError::argument("NewStartingHashKey is not a hash key"))?;
        self.split(&stream, &request.shard_to_split, Some(key))?;
        Ok(Bytes::from_static(b"{}"))
    }

    pub(super) fn merge_shards(&self, body: &[u8]) -> Result<Bytes, KinesisError> {
        let request: MergeShards = super::parse(body)?;
        let stream = self.stream(&request.stream)?;
        self.merge(&stream, &request.shard_to_merge, &request.adjacent_shard_to_merge)?;
        Ok(Bytes::from_static(b"{}"))
    }

    pub(super) fn update_shard_count(&self, body: &[u8]) -> Result<Bytes, KinesisError> {
        let request: UpdateShardCount = super::parse(body)?;
        let stream = self.stream(&request.stream)?;
        if request.scaling_type.as_deref() != Some("UNIFORM_SCALING") {
            return Err(KinesisError::validation("ScalingType must be UNIFORM_SCALING"));
        }
        let before = self.scale_to(&stream, request.target_shard_count, self.limits)?;
        let target = request.target_shard_count;
        Ok(json!({
            "StreamName": stream.name,
            "CurrentShardCount": before,
            "TargetShardCount": target,
            "StreamARN": stream.arn(),
        })
        .to_string()
        .into())
    }

    /// The checks of UpdateShardCount, then the scaling; how many shards there were.
    fn scale_to(&self, stream: &Stream, target: usize, limits: bool) -> Result<usize, KinesisError> {
        let now = self.now();
        let mut state = self.provisioned(stream)?;
        let before = state.open().len();
        if target == 0 || target > before * 2 || target * 2 < before {
            return Err(KinesisError::argument("TargetShardCount must be between a half and the double of the shards"));
        }
        if target > SHARDS_MAX {
            return Err(KinesisError::new("LimitExceededException", "a stream has at most 10000 shards"));
        }
        state.scalings.retain(|at| at + DAY_MILLIS > now);
        if limits && state.scalings.len() >= SCALINGS_MAX {
            let message = format!("Stream {} was scaled {SCALINGS_MAX} times in the last 24 hours", stream.name);
            return Err(KinesisError::new("LimitExceededException", message));
        }
        state.scalings.push(now);
        if target != before {
            scale(stream, &mut state, target, now)?;
        }
        state.busy_until_millis = now + self.change_millis;
        Ok(before)
    }

    /// UpdateShardCount without HTTP and without its daily limit.
    pub(crate) fn scale_named(&self, stream: &str, target: usize) -> Result<(), KinesisError> {
        self.scale_to(&*self.named(stream)?, target, false).map(|_| ())
    }

    pub(super) fn update_stream_mode(&self, body: &[u8]) -> Result<Bytes, KinesisError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Request {
            #[serde(flatten)]
            stream: StreamRef,
            stream_mode_details: ModeDetails,
        }
        let request: Request = super::parse(body)?;
        let stream = self.stream(&request.stream)?;
        self.set_mode(&stream, request.stream_mode_details.on_demand()?)?;
        Ok(Bytes::new())
    }

    /// Lets the service decide how many shards there are, or not any more.
    pub(super) fn set_mode(&self, stream: &Stream, on_demand: bool) -> Result<(), KinesisError> {
        let mut state = crate::trace::lock(&stream.state);
        state.on_demand = on_demand;
        stream.save(&state).map_err(KinesisError::storage)
    }

    /// An on-demand stream that is written to beyond its capacity doubles it, every shard split in the middle; nothing
    /// while an earlier change is under way.
    pub(super) fn grow(&self, stream: &Stream, state: &mut StreamState) -> Result<(), KinesisError> {
        let now = self.now();
        if !state.on_demand || now < state.busy_until_millis || state.open().len() * 2 > SHARDS_MAX {
            return Ok(());
        }
        for index in state.open().to_vec() {
            let meta = &state.shards[index].meta;
            let (start, end) = (meta.hash_start, meta.hash_end);
            if start < end {
                let key = start + (end - start) / 2 + 1;
                stream.replace(state, &[index], &[(start, key - 1), (key, end)], now)?;
            }
        }
        state.busy_until_millis = now + self.change_millis;
        Ok(())
    }

    /// Doubles a stream at once, as an on-demand stream is doubled by its load. Its mode stays what it was.
    pub(crate) fn double_named(&self, stream: &str) -> Result<(), KinesisError> {
        let stream = self.named(stream)?;
        let mut state = crate::trace::lock(&stream.state);
        let on_demand = std::mem::replace(&mut state.on_demand, true);
        let grown = self.grow(&stream, &mut state);
        state.on_demand = on_demand;
        grown
    }

    /// Splits an open shard, in the middle where no key is given.
    pub(crate) fn split_named(&self, stream: &str, shard: &str) -> Result<(), KinesisError> {
        self.split(&*self.named(stream)?, shard, None)
    }

    /// Merges two adjacent open shards.
    pub(crate) fn merge_named(&self, stream: &str, shard: &str, adjacent: &str) -> Result<(), KinesisError> {
        self.merge(&*self.named(stream)?, shard, adjacent)
    }

    fn split(&self, stream: &Stream, shard: &str, key: Option<u128>) -> Result<(), KinesisError> {
        let mut state = self.provisioned(stream)?;
        let index = open_shard(stream, &state, shard)?;
        let meta = &state.shards[index].meta;
        let (start, end) = (meta.hash_start, meta.hash_end);
        let key = key.unwrap_or(start + (end - start) / 2 + 1);
        if key <= start || key > end {
            let message = format!(
                "NewStartingHashKey {key} used in SplitShard() on shard {shard} in stream {} is not both greater than one plus the shard's StartingHashKey {start} and less than the shard's EndingHashKey {end}.",
                stream.name
            );
            return Err(KinesisError::argument(message));
        }
        stream.replace(&mut state, &[index], &[(start, key - 1), (key, end)], self.now())?;
        state.busy_until_millis = self.now() + self.change_millis;
        Ok(())
    }

    fn merge(&self, stream: &Stream, shard: &str, adjacent: &str) -> Result<(), KinesisError> {
        let mut state = self.provisioned(stream)?;
        let (one, other) = (open_shard(stream, &state, shard)?, open_shard(stream, &state, adjacent)?);
        let range = |index: usize| (state.shards[index].meta.hash_start, state.shards[index].meta.hash_end);
        let (low, high) = (range(one).min(range(other)), range(one).max(range(other)));
        if one == other || low.1.checked_add(1) != Some(high.0) {
            let message = format!(
                "Shards {shard} and {adjacent} in stream {} are not an adjacent pair of shards eligible for merging",
                stream.name
            );
            return Err(KinesisError::argument(message));
        }
        stream.replace(&mut state, &[one, other], &[(low.0, high.1)], self.now())?;
        state.busy_until_millis = self.now() + self.change_millis;
        Ok(())
    }

    /// The stream's state, unless it is being changed, or is for the service alone to reshard.
    fn provisioned<'a>(&self, stream: &'a Stream) -> Result<std::sync::MutexGuard<'a, StreamState>, KinesisError> {
        let state = self.idle(stream)?;
        if state.on_demand {
            let message = format!("Stream {} is in ON_DEMAND mode: it cannot be resharded by a request", stream.name);
            return Err(KinesisError::validation(message));
        }
        Ok(state)
    }

    /// The stream's state, unless it is still being made or changed.
    fn idle<'a>(&self, stream: &'a Stream) -> Result<std::sync::MutexGuard<'a, StreamState>, KinesisError> {
        let state = crate::trace::lock(&stream.state);
        if self.now() < state.busy_until_millis {
            let message =
                format!("Stream {} under account 000000000000 not ACTIVE, instead in state UPDATING", stream.name);
            return Err(KinesisError::new("ResourceInUseException", message));
        }
        Ok(state)
    }
}

fn open_shard(stream: &Stream, state: &StreamState, id: &str) -> Result<usize, KinesisError> {
    let index = state.find(id).ok_or_else(|| KinesisError::shard_not_found(&stream.name, id))?;
    if state.shards[index].meta.is_open() {
        Ok(index)
    } else {
        let message = format!("Shard {id} in stream {} under account 000000000000 is not ACTIVE", stream.name);
        Err(KinesisError::argument(message))
    }
}

/// Uniform scaling: splits at every new boundary, then merges what lies within one new range.
fn scale(stream: &Stream, state: &mut StreamState, target: usize, now: u64) -> Result<(), KinesisError> {
    for place in 0..target {
        let (start, _) = sequence::even_range(place, target);
        let index = state.route(start);
        let (low, high) = (state.shards[index].meta.hash_start, state.shards[index].meta.hash_end);
        if low != start {
            stream.replace(state, &[index], &[(low, start - 1), (start, high)], now)?;
        }
    }
    for place in 0..target {
        let (start, end) = sequence::even_range(place, target);
        loop {
            let first = state.route(start);
            let reached = state.shards[first].meta.hash_end;
            if reached == end {
                break;
            }
            let second = state.route(reached + 1);
            let high = state.shards[second].meta.hash_end;
            stream.replace(state, &[first, second], &[(start, high)], now)?;
        }
    }
    Ok(())
}
