//! A lease: the right to read and deliver one shard. The row is the Java KCL's, with attributes of ours beside it.
//! Names are the KCL's (`DynamoDBLeaseSerializer`); ours begin with `sp`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Millis;
use crate::receipt::CommitId;
use crate::sequence::Position;
use crate::shard::{HashRange, ShardId};

macro_rules! text_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes the text as it is.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into().into())
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_name! {
    /// `leaseKey`: for a single stream, the shard's id.
    LeaseKey
}
text_name! {
    /// `leaseOwner`: names one process; never used again by another.
    WorkerId
}
text_name! {
    /// A destination's id within its pipeline: `[a-z][a-z0-9_]{0,15}`.
    DestinationId
}

impl LeaseKey {
    /// The lease of a shard.
    pub fn of(shard: &ShardId) -> Self {
        Self::new(shard.as_str())
    }

    /// The shard that the lease is for.
    pub fn shard(&self) -> ShardId {
        ShardId::new(self.as_str())
    }
}

/// `spTenure`: one acquisition of a lease by one process (I9).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenure(pub [u8; 16]);

impl fmt::Debug for Tenure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// `spGen`: the replay generation; a rewind bumps it. Absent is 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Generation(pub u64);

/// `throughputKBps`: how much is read of a shard, as the KCL >= 3.0 keeps it with the heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Throughput {
    /// Millionths of a KB (1024 bytes) a second: the attribute has six decimals.
    pub millionths: u64,
}

impl Throughput {
    /// What a span in which so much was read makes of it: half the old, half the new (the KCL's alpha of 0.5). A span of
    /// no time says nothing.
    pub fn after(self, bytes: u64, span: Duration) -> Self {
        let fresh = u128::from(bytes) * 1_000_000_000_000 / 1024;
        let Some(fresh) = fresh.checked_div(span.as_micros()) else { return self };
        let half = u128::midpoint(u128::from(self.millionths), fresh);
        Self { millionths: u64::try_from(half).unwrap_or(u64::MAX) }
    }

    /// Whole KB a second.
    pub fn kb(self) -> u64 {
        self.millionths / 1_000_000
    }
}

/// How a pending commit is brought to its end by whoever finds it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PendingMode {
    /// A receipt names staged outputs: publish them.
    Staged,
    /// The range was declared before it was sent: send it again under the same id.
    Declared,
    /// Written by a version that this one does not know: hands off (I13).
    Unknown,
}

/// The outstanding commit of a shard at a destination (I7: at most one).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Pending {
    /// `to`, `toSub`: where the commit ends.
    pub to: Position,
    /// `cid`.
    pub cid: CommitId,
    /// `mode`.
    pub mode: PendingMode,
}

/// `sp_<id>`: how far one destination has come in one shard.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct DestinationPosition {
    /// `at`, `sub`: finalized.
    pub at: Position,
    /// `t`: when the record at `at` arrived.
    pub arrival: Option<Millis>,
    /// `to`, `toSub`, `cid`, `mode`, while a commit is outstanding.
    pub pending: Option<Pending>,
}

impl DestinationPosition {
    /// A destination that has finalized everything up to `at`.
    pub fn finalized(at: Position, arrival: Option<Millis>) -> Self {
        Self { at, arrival, pending: None }
    }

    /// Where the committed ranges end: `to` of the pending commit, else `at`. What is only declared is not committed.
    pub fn reached(&self) -> &Position {
        let committed = self.pending.as_ref().filter(|pending| pending.mode != PendingMode::Declared);
        committed.map_or(&self.at, |pending| &pending.to)
    }
}

/// A row of the lease table.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct LeaseRow {
    /// `leaseKey`.
    pub key: LeaseKey,
    /// `leaseOwner`; absent while nobody holds it.
    pub owner: Option<WorkerId>,
    /// `checkpointOwner`: during a KCL 3 hand-off, the worker that may still checkpoint.
    pub checkpoint_owner: Option<WorkerId>,
    /// `leaseCounter`.
    pub counter: u64,
    /// `checkpoint`, `checkpointSubSequenceNumber`.
    pub checkpoint: Position,
    /// `ownerSwitchesSinceCheckpoint`.
    pub owner_switches: u64,
    /// `parentShardId`.
    pub parents: BTreeSet<ShardId>,
    /// `childShardIds`.
    pub children: BTreeSet<ShardId>,
    /// `startingHashKey`, `endingHashKey`.
    pub hash_range: Option<HashRange>,
    /// `throughputKBps`; absent before its holder has written it.
    pub throughput: Option<Throughput>,
    /// `spTenure`.
    pub tenure: Option<Tenure>,
    /// `spCheckpoint`, `spSub`: our copy of `checkpoint`.
    pub own_checkpoint: Option<Position>,
    /// `spGen`.
    pub generation: Generation,
    /// `spStart`: the instant that LATEST or a time was pinned to.
    pub start: Option<Millis>,
    /// `spStream`: hash of the stream's ARN and creation time.
    pub stream: Option<Vec<u8>>,
    /// `spNext`: the worker that waits for this lease.
    pub next: Option<WorkerId>,
    /// `sp_<id>`.
    pub destinations: BTreeMap<DestinationId, DestinationPosition>,
    /// `spOff`: destinations that the config has retired.
    pub off: BTreeSet<DestinationId>,
    /// `spVersion`: the form of our attributes; 1, or absent before our first take.
    pub version: Option<u64>,
}

impl LeaseRow {
    /// The form of our attributes that this program knows.
    pub const VERSION: u64 = 1;

    /// A new lease that nobody holds: nothing delivered, no owner, counter 0.
    pub fn new(key: LeaseKey) -> Self {
        Self {
            key,
            owner: None,
            checkpoint_owner: None,
            counter: 0,
            checkpoint: Position::TrimHorizon,
            owner_switches: 0,
            parents: BTreeSet::new(),
            children: BTreeSet::new(),
            hash_range: None,
            throughput: None,
            tenure: None,
            own_checkpoint: None,
            generation: Generation(0),
            start: None,
            stream: None,
            next: None,
            destinations: BTreeMap::new(),
            off: BTreeSet::new(),
            version: None,
        }
    }

    /// Whether our attributes have a form that this program knows (I13).
    pub fn version_known(&self) -> bool {
        self.version.is_none_or(|version| version == Self::VERSION)
    }

    /// The smallest finalized position over the destinations in the ROW that are not retired (I18): what `checkpoint`
    /// may be moved to. `None` while the row has no destination.
    pub fn smallest_position(&self) -> Option<&Position> {
        self.destinations.iter().filter(|(id, _)| !self.off.contains(*id)).map(|(_, position)| &position.at).min()
    }

    /// Whether the shard is finished for everybody: a Java KCL may go on with the children.
    pub fn ended(&self) -> bool {
        self.checkpoint == Position::ShardEnd
    }
}

/// What a write of ours must still find in the row to take effect: one acquisition of one lease.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Fence {
    /// The lease.
    pub lease: LeaseKey,
    /// The holder.
    pub owner: WorkerId,
    /// The acquisition.
    pub tenure: Tenure,
    /// The replay generation it was acquired in.
    pub generation: Generation,
}
