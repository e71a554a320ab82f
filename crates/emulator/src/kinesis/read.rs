//! GetRecords: a run of pre-encoded fragments, how far behind it is, and the end of a shard.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Kinesis;
use super::error::KinesisError;
use super::iterator::{LIFE_MILLIS, Token};
use super::stream::{Shard, StreamState, shard_id};

/// One call returns so many records at most (API reference).
const RECORDS_MAX: usize = 10_000;
/// One call returns so many bytes at most (API reference).
const BYTES_MAX: usize = 10 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetRecords {
    shard_iterator: String,
    limit: Option<usize>,
}

/// A run of records: entries of the log and what they count.
pub(super) struct Run {
    pub(super) range: std::ops::Range<usize>,
    pub(super) bytes: usize,
}

impl Kinesis {
    pub(super) fn get_records(&self, body: &[u8]) -> Result<Bytes, KinesisError> {
        let request: GetRecords = super::parse(body)?;
        let limit = request.limit.unwrap_or(RECORDS_MAX);
        if limit == 0 || limit > RECORDS_MAX {
            return Err(KinesisError::validation("Limit must be between 1 and 10000"));
        }
        let token =
            Token::decode(&request.shard_iterator).ok_or_else(|| KinesisError::argument("Invalid ShardIterator."))?;
        let now = self.now();
        let stream = self.named(&token.stream)?;
        if stream.created_millis != token.created_millis {
            return Err(KinesisError::argument("the ShardIterator is of an earlier stream of this name"));
        }
        let age = now.saturating_sub(token.issued_millis);
        if age > LIFE_MILLIS {
            let message = format!(
                "Iterator expired. The iterator was created {age} ms ago, which is more than {LIFE_MILLIS} ms."
            );
            return Err(KinesisError::new("ExpiredIteratorException", message));
        }
        let mut state = crate::trace::lock(&stream.state);
        let id = shard_id(token.shard);
        if token.shard >= state.shards.len() {
            return Err(KinesisError::shard_not_found(&stream.name, &id));
        }
        if self.limits && !state.shards[token.shard].quota.admit_read(now) {
            return Err(KinesisError::throttled(&id, &stream.name));
        }
        state.shards[token.shard].log.trim(now.saturating_sub(self.retention_millis));
        let run = Run::of(&state.shards[token.shard], (token.counter, token.arrival_millis), limit, BYTES_MAX);
        if self.limits {
            state.shards[token.shard].quota.book_read(now, run.bytes);
        }
        answer(&mut state, token, run, now)
    }
}

impl Run {
    /// The records of a shard from this counter and arrival on, as many as fit, and one at least.
    pub(super) fn of(shard: &Shard, (counter, arrival_millis): (u64, u64), limit: usize, bytes_max: usize) -> Self {
        let entries = shard.log.entries();
        let by_counter = entries.partition_point(|entry| entry.counter < counter);
        let by_arrival = entries.partition_point(|entry| entry.arrival_millis < arrival_millis);
        let start = by_counter.max(by_arrival);
        let mut run = Run { range: start..start, bytes: 0 };
        for entry in entries[start..].iter().take(limit) {
            let bytes = run.bytes + entry.counted_bytes as usize;
            if bytes > bytes_max && !run.range.is_empty() {
                break;
            }
            run.bytes = bytes;
            run.range.end += 1;
        }
        run
    }

    /// Whether nothing follows that is written already.
    pub(super) fn reaches_tip(&self, shard: &Shard) -> bool {
        self.range.end == shard.log.entries().len()
    }

    /// MillisBehindLatest.
    pub(super) fn behind_millis(&self, shard: &Shard, now: u64) -> u64 {
        if self.reaches_tip(shard) {
            return 0;
        }
        now.saturating_sub(shard.log.entries()[self.range.end - 1].arrival_millis).max(1)
    }

    /// The counter of the last record.
    pub(super) fn last_counter(&self, shard: &Shard) -> Option<u64> {
        self.range.clone().last().map(|index| shard.log.entries()[index].counter)
    }
}

fn answer(state: &mut StreamState, token: Token, run: Run, now: u64) -> Result<Bytes, KinesisError> {
    let shard = &mut state.shards[token.shard];
    let behind = run.behind_millis(shard, now);
    let last = run.last_counter(shard);
    let ended = run.reaches_tip(shard) && !shard.meta.is_open();

    let mut body = Vec::with_capacity(run.bytes * 3 / 2 + 512);
    body.extend_from_slice(b"{\"Records\":[");
    shard.log.copy(run.range, &mut body).map_err(KinesisError::storage)?;
    body.extend_from_slice(format!("],\"MillisBehindLatest\":{behind}").as_bytes());
    if ended {
        let children = Value::Array(child_shards(state, token.shard));
        body.extend_from_slice(format!(",\"ChildShards\":{children}}}").as_bytes());
    } else {
        let next = Token {
            counter: last.map_or(token.counter, |counter| counter + 1),
            // Once a record is past, the counter alone is the position.
            arrival_millis: if last.is_some() { 0 } else { token.arrival_millis },
            issued_millis: now,
            ..token
        };
        body.extend_from_slice(format!(",\"NextShardIterator\":\"{}\"}}", next.encode()).as_bytes());
    }
    Ok(body.into())
}

/// ChildShards of a shard.
pub(super) fn child_shards(state: &StreamState, parent: usize) -> Vec<Value> {
    let child = |index: &usize| {
        let meta = &state.shards[*index].meta;
        json!({
            "ShardId": meta.id(),
            "ParentShards": meta.parents.iter().map(|parent| shard_id(*parent)).collect::<Vec<_>>(),
            "HashKeyRange": {
                "StartingHashKey": meta.hash_start.to_string(),
                "EndingHashKey": meta.hash_end.to_string(),
            },
        })
    };
    state.shards[parent].children.iter().map(child).collect()
}
