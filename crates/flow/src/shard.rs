//! A shard of a Kinesis data stream, as ListShards and ChildShards describe it.

use std::fmt;

/// A shard's id, e.g. `shardId-000000000003`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(Box<str>);

impl ShardId {
    /// Takes the id as Kinesis gives it.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into().into_boxed_str())
    }

    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The hash keys `start..=end` that a shard covers, of `0..=2^128 - 1`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct HashRange {
    /// The smallest hash key.
    pub start: u128,
    /// The largest hash key.
    pub end: u128,
}

/// A shard that a reshard made out of one or two others (GetRecords' `ChildShards`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChildShard {
    /// The child's own id.
    pub id: ShardId,
    /// Every parent: one after a split, two after a merge.
    pub parents: Vec<ShardId>,
    /// The hash keys it covers.
    pub hash_range: HashRange,
}
