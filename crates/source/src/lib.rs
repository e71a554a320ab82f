//! `read`: the records of a Kinesis data stream, and what is asked of the stream around them.
//!
//! [`Polling`] and [`FanOut`] are the arrow itself: one shard, from a position on, as chunks. Beside them stand the
//! stream's shards and identity ([`Catalog`]) and a producer for the demo and for `put` ([`Putter`]). All of them come
//! from a [`Stream`].
//!
//! The only crate that knows the Kinesis client; no type of it is seen outside. It never writes a position, knows no
//! lease table and spawns no task. Retries are ours, not the SDK's: its shared token bucket starves a shard reader,
//! and its jitter is not seeded.

mod aggregate;
mod answer;
mod backoff;
mod canned;
mod catalog;
mod chunks;
mod consumer;
mod errors;
mod fan_out;
mod pack;
mod polling;
mod put;
mod quota;
mod size;
mod stream;
mod tip;
mod turns;
mod unpack;
mod wire;

pub use aggregate::user_records;
pub use canned::Canned;
pub use catalog::{Catalog, ShardFilter, ShardInfo, StreamIdentity, StreamStatus};
pub use consumer::Consumer;
pub use errors::StreamError;
pub use fan_out::{FanOut, Watch};
pub use pack::{PACK_BYTES, Pack, Packed, hash_key};
pub use polling::{Polling, PollingSettings, ReadCounts, ReadFrom};
pub use put::{PutCounts, PutError, PutSettings, Putter, Trouble};
pub use stream::{Stream, StreamRef};
pub use tip::Tip;
pub use turns::Way;
pub use unpack::{OutOfRange, Unpack};

#[cfg(test)]
mod tests;
