//! How records of the stream become user records: the settings, which every reader of a shard takes alike.
//!
//! Never here: bytes (`aggregate.rs`), positions (`chunks.rs`).

use standpipe_flow::HashRange;

/// How records of the stream become user records.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Unpack {
    /// Whether the KPL's aggregates are taken apart; otherwise a record is delivered as it is.
    pub kpl: bool,
    /// What happens to user records of an aggregate whose hash key lies outside the shard.
    pub out_of_range: OutOfRange,
    /// The shard's hash keys. While they are unknown, nothing is out of range.
    pub hash_range: Option<HashRange>,
}

/// What happens to user records of an aggregate whose hash key lies outside the shard. The KPL writes such a record a
/// second time, to the shard that it belongs to; other producers do not.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum OutOfRange {
    /// They are delivered like the others.
    #[default]
    Deliver,
    /// They are left out, each by itself. (The KCL leaves out the whole aggregate.)
    Drop,
}
