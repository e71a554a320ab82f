//! What one delivery sends.

use crate::chunk::Chunk;
use crate::clock::Millis;
use crate::lease::{DestinationId, Fence};
use crate::receipt::CommitId;
use crate::record::Record;
use crate::rejected::RejectedRecord;
use crate::sequence::Position;

/// The part of one shard that a batch covers: the records in `(from, to]`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Range {
    /// The lease, and the right to commit under it.
    pub fence: Fence,
    /// The position that the destination had reached.
    pub from: Position,
    /// The position that it reaches with this batch; SHARD_END for the last one, with or without records.
    pub to: Position,
    /// When the last record of the range arrived; of the position before, if the range has no record.
    pub arrival: Option<Millis>,
}

/// One shard's share of a batch.
#[derive(Clone, Debug)]
pub struct BatchShard {
    /// What is covered.
    pub range: Range,
    /// The records in it, in order; the chunks continue each other (I15).
    pub chunks: Vec<Chunk>,
}

/// The records of one destination that are delivered together, cut by size, interval, memory or hand-over.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Where it goes.
    pub destination: DestinationId,
    /// When it was cut: the time in an object's name.
    pub cut_at: Millis,
    /// The id that it was declared under ([`crate::Mode::Declared`]): what is sent carries it, every time. The id that staging
    /// is given is another one then, for what the batch leaves in S3.
    pub declared: Option<CommitId>,
    /// The shards it covers, in shard order; at most 32 (a lane).
    pub shards: Vec<BatchShard>,
}

impl Batch {
    /// Every record, shard by shard, ascending within a shard.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.shards.iter().flat_map(|shard| &shard.chunks).flat_map(|chunk| &chunk.records)
    }

    /// Every record with the lease it was read under.
    pub fn records_with_lease(&self) -> impl Iterator<Item = (&crate::LeaseKey, &Record)> {
        self.shards
            .iter()
            .flat_map(|shard| shard.chunks.iter().map(move |chunk| (&shard.range.fence.lease, chunk)))
            .flat_map(|(lease, chunk)| chunk.records.iter().map(move |record| (lease, record)))
    }

    /// Every record that a transform rejected, shard by shard, ascending within a shard.
    pub fn rejected(&self) -> impl Iterator<Item = &RejectedRecord> {
        self.shards.iter().flat_map(|shard| &shard.chunks).flat_map(|chunk| &chunk.rejected)
    }

    /// Records that its commit covers: those to be delivered, and those that a transform rejected.
    pub fn covered(&self) -> u64 {
        (self.records().count() + self.rejected().count()) as u64
    }

    /// Every user record as it was read, if that was kept: for a backup of all.
    pub fn originals(&self) -> impl Iterator<Item = &Record> {
        self.shards.iter().flat_map(|shard| &shard.chunks).flat_map(|chunk| chunk.originals.iter())
    }

    /// The ranges it covers.
    pub fn ranges(&self) -> Vec<Range> {
        self.shards.iter().map(|shard| shard.range.clone()).collect()
    }

    /// The arrival of the oldest record to be delivered.
    pub fn oldest_arrival(&self) -> Option<Millis> {
        self.records().map(|record| record.arrival).min()
    }
}
