//! What one read returned.

use std::time::Duration;

use crate::lease::{LeaseKey, Tenure};
use crate::record::Record;
use crate::sequence::Position;

/// The records of one shard that one read returned, in order; never empty.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// The lease that the shard was read under.
    pub lease: LeaseKey,
    /// The acquisition it was read under; the chunk dies with it (I9).
    pub tenure: Tenure,
    /// Where the read went on from: nothing lies between this and the first record (I15).
    pub from: Position,
    /// The position of the last record.
    pub to: Position,
    /// The records, ascending by position.
    pub records: Vec<Record>,
    /// MillisBehindLatest of the answer.
    pub behind: Duration,
    /// Bytes of memory that the records hold: what the budget is charged.
    pub memory_bytes: usize,
}

impl Chunk {
    /// Bytes of record data, before any encoding: what `buffer.size` counts.
    pub fn data_bytes(&self) -> usize {
        self.records.iter().map(|record| record.data.len()).sum()
    }
}
