//! `read`: the records of a Kinesis data stream, and what is asked of the stream around them.
//!
//! [`Polling`] is the arrow itself: one shard, from a position on, as chunks. Beside it stand the stream's shards and
//! identity ([`Catalog`]) and a producer for the demo and for `put` ([`Putter`]). All three come from a [`Stream`].
//!
//! The only crate that knows the Kinesis client; no type of it is seen outside. It never writes a position, knows no
//! lease table and spawns no task. Retries are ours, not the SDK's: its shared token bucket starves a shard reader,
//! and its jitter is not seeded.

mod answer;
mod aggregate;
mod backoff;
mod catalog;
mod chunks;
mod errors;
mod polling;
mod put;
mod fan_out;
mod pack;
mod quota;
mod size;
mod stream;
mod tip;
mod unpack;

pub use catalog::{Catalog, ShardFilter, ShardInfo, StreamIdentity, StreamStatus};
pub use errors::StreamError;
mod wire;
pub use polling::{Polling, PollingSettings, ReadCounts, ReadFrom};
pub use put::{PutCounts, PutError, PutSettings, Putter, Trouble};
pub use stream::{Stream, StreamRef};
pub use tip::Tip;
pub use fan_out::{FanOut, Watch};
pub use pack::{PACK_BYTES, Pack, Packed, hash_key};
pub use unpack::{OutOfRange, Unpack};

#[cfg(test)]
mod tests;
