//! The contract of `read -> transform`: what becomes of the records of a chunk before they are batched.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;

use crate::chunk::Chunk;

/// Drops, changes, multiplies or rejects the records of a chunk.
///
/// What it promises: `lease`, `tenure`, `from`, `to`, `behind` and `taken` stay as they are; records stay in order; every
/// user record is found again in `records`, in `rejected`, or was dropped by a transform whose business that is;
/// `memory_bytes` says what the chunk holds now. The same chunk gives the same records, unless a function outside says
/// otherwise.
#[async_trait]
pub trait Transform: Debug + Send + Sync + 'static {
    /// Transforms a chunk. Never fails: what cannot be transformed is rejected. Dropping the future loses nothing: the
    /// chunk is read again.
    async fn apply(&self, chunk: Chunk) -> Chunk;

    /// As `apply`, of as much of the chunk as makes about so many bytes; what is left comes back as it was, continuing the
    /// other. Never within an aggregate, and at least one record.
    async fn apply_some(&self, chunk: Chunk, bytes: usize) -> (Chunk, Option<Chunk>) {
        let _ = bytes;
        (self.apply(chunk).await, None)
    }

    /// How much of a shard is gathered before it is transformed ([`crate::Gather`]): bytes of data, and how long the first
    /// chunk may wait. `None`: each chunk as it was read.
    fn gathers(&self) -> Option<(usize, Duration)> {
        None
    }

    /// Bytes of data that it works on at the same time; a larger chunk comes in pieces. `None`: a little at a time.
    fn at_once(&self) -> Option<usize> {
        None
    }
}
