//! PutRecord and PutRecords: routed by hash key, numbered, encoded once and for all.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::error::KinesisError;
use super::sequence;
use super::stream::{Stream, StreamState, shard_id};
use super::{Kinesis, StreamRef};

/// PutRecords takes so many records (API reference).
const RECORDS_MAX: usize = 500;
/// PutRecords takes so many bytes, partition keys included (API reference).
const REQUEST_BYTES_MAX: usize = 10 << 20;
/// One record may weigh so much since the limit was raised from 1 MiB (API reference, UpdateMaxRecordSize).
const RECORD_BYTES_MAX: usize = 10 << 20;

/// A record ready to be written: its fragment up to the fields that the shard decides.
pub(super) struct Prepared {
    head: Vec<u8>,
    counted_bytes: usize,
    hash: u128,
}

/// Where a record was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The shard's id.
    pub shard_id: String,
    /// The record's sequence number, 56 digits.
    pub sequence_number: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutRecord<'a> {
    #[serde(flatten)]
    stream: StreamRef,
    #[serde(flatten, borrow)]
    record: Entry<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutRecords<'a> {
    #[serde(rename = "StreamName")]
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    #[serde(borrow)]
    records: Vec<Entry<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry<'a> {
    #[serde(borrow)]
    data: Cow<'a, str>,
    #[serde(borrow)]
    partition_key: Cow<'a, str>,
    explicit_hash_key: Option<Cow<'a, str>>,
}

impl Entry<'_> {
    fn prepare(&self) -> Result<Prepared, KinesisError> {
        let raw = self.data.as_bytes();
        if base64_simd::STANDARD.check(raw).is_err() {
            return Err(KinesisError::new("SerializationException", "Data is not valid base64"));
        }
        let hash = match &self.explicit_hash_key {
            Some(text) => text.parse().map_err(|_| {
                KinesisError::argument(format!("Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was {text}"))
            })?,
            None => sequence::hash_key(&self.partition_key),
        };
        prepare(raw, decoded_length(&self.data), &self.partition_key, hash)
    }
}

/// How many bytes this base64 text stands for.
pub(super) fn decoded_length(base64: &str) -> usize {
    let padding = base64.bytes().rev().take_while(|byte| *byte == b'=').count();
    (base64.len() / 4 * 3).saturating_sub(padding)
}

fn prepare(base64: &[u8], data_bytes: usize, key: &str, hash: u128) -> Result<Prepared, KinesisError> {
    let characters = key.chars().count();
    if characters == 0 || characters > 256 {
        return Err(KinesisError::validation("PartitionKey must have 1 to 256 characters"));
    }
    if data_bytes + key.len() > RECORD_BYTES_MAX {
        return Err(KinesisError::validation("a record with its partition key must not exceed 10 MiB"));
    }
    let mut head = Vec::with_capacity(base64.len() + key.len() + 80);
    head.extend_from_slice(b"{\"Data\":\"");
    head.extend_from_slice(base64);
    head.extend_from_slice(b"\",\"PartitionKey\":");
    serde_json::to_writer(&mut head, key).expect("a string is written to a vector");
    head.extend_from_slice(b",\"ApproximateArrivalTimestamp\":");
    Ok(Prepared { head, counted_bytes: data_bytes + key.len(), hash })
}

impl Kinesis {
    pub(super) fn put_record(&self, body: &[u8]) -> Result<Bytes, KinesisError> {
        let request: PutRecord<'_> = super::parse(body)?;
        let stream = self.stream(&request.stream)?;
        let placed = self.write(&stream, &[request.record.prepare()?]).pop().expect("one record, one answer")?;
        Ok(json!({
            "ShardId": placed.shard_id,
            "SequenceNumber": placed.sequence_number,
            "EncryptionType": "NONE",
        })
        .to_string()
        .into())
    }

    pub(super) fn put_records(&self, body: &[u8]) -> Result<Bytes, KinesisError> {
        let PutRecords { stream_name, stream_arn, records } = super::parse(body)?;
        let stream = self.stream(&StreamRef { stream_name, stream_arn })?;
        if records.is_empty() || records.len() > RECORDS_MAX {
            return Err(KinesisError::validation("Records must have 1 to 500 members"));
        }
        let prepared = records.iter().map(Entry::prepare).collect::<Result<Vec<_>, _>>()?;
        if prepared.iter().map(|record| record.counted_bytes).sum::<usize>() > REQUEST_BYTES_MAX {
            return Err(KinesisError::argument("Records size exceeds 10 MB limit"));
        }
        let results = self.write(&stream, &prepared);
        let failed = results.iter().filter(|result| result.is_err()).count();
        let records: Vec<_> = results
            .iter()
            .map(|result| match result {
                Ok(placed) => json!({ "ShardId": placed.shard_id, "SequenceNumber": placed.sequence_number }),
                Err(error) => json!({ "ErrorCode": error.kind(), "ErrorMessage": error.message() }),
            })
            .collect();
        let body = json!({ "FailedRecordCount": failed, "Records": records, "EncryptionType": "NONE" });
        Ok(body.to_string().into())
    }

    /// Writes records without HTTP and without limits: the path of load generators.
    ///
    /// # Errors
    /// ResourceNotFoundException for an unknown stream, ValidationException for a bad partition key or record size.
    pub(crate) fn load(&self, stream: &str, records: &[(String, Bytes)]) -> Result<Vec<Placed>, KinesisError> {
        let stream = self.named(stream)?;
        let prepare = |(key, data): &(String, Bytes)| {
            let base64 = base64_simd::STANDARD.encode_type::<Vec<u8>>(data);
            prepare(&base64, data.len(), key, sequence::hash_key(key))
        };
        let prepared = records.iter().map(prepare).collect::<Result<Vec<_>, _>>()?;
        self.append(&stream, &prepared, false).into_iter().collect()
    }

    fn write(&self, stream: &Stream, records: &[Prepared]) -> Vec<Result<Placed, KinesisError>> {
        self.append(stream, records, self.limits)
    }

    fn append(&self, stream: &Stream, records: &[Prepared], limits: bool) -> Vec<Result<Placed, KinesisError>> {
        let now = self.now();
        let mut state = crate::trace::lock(&stream.state);
        let mut results = Vec::with_capacity(records.len());
        for record in records {
            results.push(append_one(stream, &mut state, record, limits.then_some(now), now));
        }
        if results.iter().any(Result::is_err)
            && let Err(error) = self.grow(stream, &mut state)
        {
            return results.iter().map(|_| Err(error.clone())).collect();
        }
        let touched = state.open().to_vec();
        let flushed = touched.iter().try_for_each(|index| state.shards[*index].log.flush());
        if let Err(error) = flushed {
            return results
                .iter()
                .map(|_| Err(KinesisError::storage(std::io::Error::other(error.to_string()))))
                .collect();
        }
        results
    }
}

fn append_one(
    stream: &Stream,
    state: &mut StreamState,
    record: &Prepared,
    limited_at: Option<u64>,
    now: u64,
) -> Result<Placed, KinesisError> {
    let index = state.route(record.hash);
    let throttled = limited_at.is_some_and(|now| !state.shards[index].quota.admit_write(now, record.counted_bytes));
    if throttled {
        return Err(KinesisError::throttled(&shard_id(index), &stream.name));
    }
    let counter = state.take_counter();
    let log = &mut state.shards[index].log;
    // Arrival never descends within a shard, even if the clock given to the emulator does.
    let arrival = log.entries().last().map_or(now, |last| last.arrival_millis.max(now));
    let sequence_number = stream.number(index, counter);
    let tail = format!("{}.{:03},\"SequenceNumber\":\"{sequence_number}\"}}", arrival / 1000, arrival % 1000);
    log.append(counter, arrival, &[&record.head, tail.as_bytes()], record.counted_bytes);
    state.shards[index].changed.notify_waiters();
    Ok(Placed { shard_id: shard_id(index), sequence_number })
}
