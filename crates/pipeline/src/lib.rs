//! The heart: `read -> batch -> stage -> commit -> publish`, for every destination alike. No AWS here.
//!
//! Two halves meet in one bounded channel a destination: [`shard`] reads one shard each, in order, and dies with its
//! lease; [`deliver`] is one loop per destination, shared by all shards of the worker.
//!
//! - [`feed`]: which reader of a shard feeds which destination; normally one feeds them all.
//! - [`budget`]: the bytes that all buffers may hold; a reader takes its share before it reads.
//! - [`batcher`] (pure): when a batch is cut, and of what.
//! - [`protocol`] (pure): the commit protocol with every recovery.
//! - [`failed`]: records that cannot be delivered become error objects of the same commit.
//! - [`invariant`]: what must always hold, by id.

pub mod batcher;
pub mod budget;
mod copies;
pub mod deliver;
mod effects;
pub mod failed;
pub mod feed;
pub mod invariant;
pub mod metrics;
pub mod progress;
pub mod protocol;
pub mod shard;
