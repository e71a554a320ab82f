//! One user record, and what transforms made of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Millis;
use crate::sequence::{Position, SequenceNumber};

/// One user record, after deaggregation. Its bytes are the producer's, or what a transform made of them: anything at all.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// The bytes to be delivered.
    pub data: Bytes,
    /// The producer's partition key; user records of an aggregate share it.
    pub partition_key: Arc<str>,
    /// The sequence number that Kinesis gave the record (all user records of an aggregate share it).
    pub sequence: SequenceNumber,
    /// The index within a KPL aggregate; 0 for a plain record.
    pub sub: u64,
    /// ApproximateArrivalTimestamp.
    pub arrival: Millis,
    /// What transforms added to it; `None` for a record as it was read.
    pub transformed: Option<Box<Transformed>>,
    /// The partition that it belongs to at its destination; `None` without `partition_by`. Records of a partition share it.
    pub partition: Option<Arc<Partition>>,
}

/// What transforms added to a record.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Transformed {
    /// The index among the records that were made of one user record: ascending in the order in which they came out, 0
    /// for the first. With sequence number and sub-sequence number it names the record for ever.
    pub part: u32,
    /// The bytes as they were read, where `data` differs: what an error object shows. A record that was made of a part of
    /// another (`split`, several outputs of jq) has none: its own bytes are what can be sent again.
    pub original: Option<Bytes>,
    /// `metadata.partitionKeys` of a Lambda function's answer.
    pub keys: BTreeMap<String, String>,
}

/// The values that name a partition, by key, as they came out: not yet fit for an object's key. Equal values are one
/// partition.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Partition {
    /// `!{partitionKeyFromQuery:KEY}`.
    pub query: BTreeMap<String, String>,
    /// `!{partitionKeyFromLambda:KEY}`; only keys that the prefix names.
    pub lambda: BTreeMap<String, String>,
}

impl Record {
    /// The position of a shard of which this record is the last one delivered.
    pub fn position(&self) -> Position {
        Position::at(self.sequence.clone(), self.sub)
    }

    /// The bytes that an error object shows: those that were read.
    pub fn original(&self) -> &Bytes {
        self.transformed.as_ref().and_then(|transformed| transformed.original.as_ref()).unwrap_or(&self.data)
    }

    /// The index among the records that were made of one user record; 0 for a record as it was read.
    pub fn part(&self) -> u32 {
        self.transformed.as_ref().map_or(0, |transformed| transformed.part)
    }

    /// The same record with other bytes; it remembers those that were read.
    pub fn with_data(&self, data: Bytes) -> Self {
        let mut transformed = self.transformed.clone().unwrap_or_default();
        transformed.original.get_or_insert_with(|| self.data.clone());
        Self { data, transformed: Some(transformed), ..self.clone() }
    }
}

/// Never shows the producer's bytes: they must not reach a log.
impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Record({}.{}.{}, {} bytes)", self.sequence, self.sub, self.part(), self.data.len())
    }
}
