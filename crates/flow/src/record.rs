//! One user record.

use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Millis;
use crate::sequence::{Position, SequenceNumber};

/// One user record, after deaggregation. Its bytes are the producer's: anything at all.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// The producer's bytes.
    pub data: Bytes,
    /// The producer's partition key; user records of an aggregate share it.
    pub partition_key: Arc<str>,
    /// The sequence number that Kinesis gave the record (all user records of an aggregate share it).
    pub sequence: SequenceNumber,
    /// The index within a KPL aggregate; 0 for a plain record.
    pub sub: u64,
    /// ApproximateArrivalTimestamp.
    pub arrival: Millis,
}

impl Record {
    /// The position of a shard of which this record is the last one delivered.
    pub fn position(&self) -> Position {
        Position::at(self.sequence.clone(), self.sub)
    }
}

/// Never shows the producer's bytes: they must not reach a log.
impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Record({}.{}, {} bytes)", self.sequence, self.sub, self.data.len())
    }
}
