//! `chunk -> batch`: what buffered chunks come to, by partition where records have one. PURE.
//!
//! A partition is counted under a hash of its values: two that share one would only make a batch be cut early.
//! Never here: when a batch is cut, where a partition's object lies.

use std::collections::BTreeMap;
use std::sync::Arc;

use standpipe_flow::hash::hash64;
use standpipe_flow::{BatchLimits, Chunk, Partition};

/// Records in one batch, whatever they weigh: if all of them are rejected, each becomes a line of some hundred bytes in the
/// error objects of one commit. Reached by records of less than 128 bytes in batches of 128 MiB.
pub(super) const RECORDS_MAX: usize = 1 << 20;

/// What one chunk comes to.
#[derive(Clone, Debug, Default)]
pub(super) struct Weight {
    bytes: u64,
    records: usize,
    /// Bytes of records by the hash of their partition, each once; empty where records have none.
    partitions: Vec<(u64, u64)>,
}

impl Weight {
    pub(super) fn of(chunk: &Chunk, limits: &BatchLimits) -> Self {
        let mut partitions = BTreeMap::new();
        if limits.partitions_max.is_some() {
            // Records of a partition share it, so that few are hashed.
            let mut hashes = BTreeMap::new();
            for record in &chunk.records {
                let place = record.partition.as_ref().map(Arc::as_ptr);
                let hash = *hashes.entry(place).or_insert_with(|| hash_of(record.partition.as_deref()));
                *partitions.entry(hash).or_default() += record.data.len() as u64;
            }
        }
        Self {
            bytes: chunk.data_bytes() as u64,
            records: chunk.records.len() + chunk.rejected.len(),
            partitions: partitions.into_iter().collect(),
        }
    }
}

fn hash_of(partition: Option<&Partition>) -> u64 {
    let Some(partition) = partition else { return 0 };
    let query = partition.query.iter().map(|pair| (&b"query"[..], pair));
    let lambda = partition.lambda.iter().map(|pair| (&b"lambda"[..], pair));
    let parts: Vec<&[u8]> =
        query.chain(lambda).flat_map(|(kind, (key, value))| [kind, key.as_bytes(), value.as_bytes()]).collect();
    hash64(&parts)
}

/// What several chunks come to together.
#[derive(Debug, Default)]
pub(super) struct Total {
    chunks: usize,
    bytes: u64,
    records: usize,
    partitions: BTreeMap<u64, OfPartition>,
    /// Bytes of the largest partition. After something was taken away it may be less, until it is looked for.
    largest: u64,
}

#[derive(Debug, Default)]
struct OfPartition {
    bytes: u64,
    chunks: usize,
}

impl Total {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks == 0
    }

    pub(super) fn add(&mut self, weight: &Weight) {
        self.chunks += 1;
        self.bytes += weight.bytes;
        self.records += weight.records;
        for (hash, bytes) in &weight.partitions {
            let of = self.partitions.entry(*hash).or_default();
            of.bytes += bytes;
            of.chunks += 1;
            self.largest = self.largest.max(of.bytes);
        }
    }

    /// Takes away what was added before.
    pub(super) fn remove<'a>(&mut self, weights: impl Iterator<Item = &'a Weight>) {
        for weight in weights {
            self.chunks -= 1;
            self.bytes -= weight.bytes;
            self.records -= weight.records;
            for (hash, bytes) in &weight.partitions {
                let Some(of) = self.partitions.get_mut(hash) else { continue };
                of.bytes -= bytes;
                of.chunks -= 1;
                if of.chunks == 0 {
                    self.partitions.remove(hash);
                }
            }
        }
        self.largest = self.partitions.values().map(|of| of.bytes).max().unwrap_or_default();
    }

    /// Whether an object is full, or the batch: nothing more goes in.
    pub(super) fn is_full(&self, limits: &BatchLimits) -> bool {
        let object = if limits.partitions_max.is_some() { self.largest } else { self.bytes };
        object >= limits.size_bytes || self.records >= RECORDS_MAX
    }

    /// Whether there are more partitions than one batch may have.
    pub(super) fn has_too_many(&self, limits: &BatchLimits) -> bool {
        limits.partitions_max.is_some_and(|most| self.partitions.len() > most)
    }

    /// Whether a chunk may join without there being too many partitions.
    pub(super) fn has_room_for(&self, weight: &Weight, limits: &BatchLimits) -> bool {
        let Some(most) = limits.partitions_max else { return true };
        let new = weight.partitions.iter().filter(|(hash, _)| !self.partitions.contains_key(hash)).count();
        self.partitions.len() + new <= most
    }
}
