//! What one read returned.

use std::time::Duration;

use crate::lease::{LeaseKey, Tenure};
use crate::record::Record;
use crate::sequence::Position;

/// The records of one shard that one read returned, in order. A KPL aggregate is in one chunk as a whole, and nothing
/// after this splits a chunk; so no commit ends within an aggregate.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// The lease that the shard was read under.
    pub lease: LeaseKey,
    /// The acquisition it was read under; the chunk dies with it (I9).
    pub tenure: Tenure,
    /// Where the read went on from: nothing lies between this and the first record (I15).
    pub from: Position,
    /// The position of the last record that was read: of the last user record of its aggregate, dropped or not.
    pub to: Position,
    /// The records, ascending by position. Empty only if everything that was read was dropped (`out_of_range: drop`).
    pub records: Vec<Record>,
    /// MillisBehindLatest of the answer.
    pub behind: Duration,
    /// Bytes of memory that the records hold: what the budget is charged.
    pub memory_bytes: usize,
    /// What the stream gave for it.
    pub taken: Taken,
}

/// What the stream gave for a chunk, before aggregates were taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Taken {
    /// Records of the stream.
    pub stream_records: u64,
    /// Bytes of their data.
    pub stream_bytes: u64,
    /// User records that came in aggregates, those out of range included.
    pub user_records: u64,
    /// User records of aggregates whose hash key lies outside the shard; whether they are among the records is for
    /// `out_of_range` to say.
    pub out_of_range: u64,
    /// Records that began like an aggregate and are none: delivered as they are.
    pub no_aggregates: u64,
}

impl Chunk {
    /// Bytes of record data, before any encoding: what `buffer.size` counts.
    pub fn data_bytes(&self) -> usize {
        self.records.iter().map(|record| record.data.len()).sum()
    }
}
