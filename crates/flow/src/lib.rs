//! The nouns and the contracts of Standpipe: what flows, and what each stage promises the next.
//!
//! `Record -> Chunk -> Batch -> Staged -> Receipt -> Position`: every stage of
//! `lease -> read -> transform -> batch -> stage -> commit -> publish` is one of these arrows.
//!
//! Two things live here besides the nouns, because both the real lease table and the model that explores the
//! protocol must use the very same ones: the conditional writes of the protocol as data ([`write`]), and what a
//! worker knows of the leases it holds ([`holding`]).
//!
//! Never here: I/O, tokio, a clock, an AWS type.

pub mod batch;
pub mod chunk;
pub mod clock;
pub mod commit;
pub mod conformance;
pub mod deliver;
pub mod gather;
pub mod hash;
pub mod holding;
pub mod lease;
pub mod look;
pub mod offload;
pub mod reach;
pub mod read;
pub mod receipt;
pub mod record;
pub mod rejected;
pub mod sequence;
pub mod shard;
pub mod transform;
pub mod write;

pub use batch::{Batch, BatchShard, Range};
pub use chunk::{Chunk, Taken};
pub use clock::{Clock, Millis, Random};
pub use commit::{Advance, Commit, CommitError, CommitLog, CommitShard, Declare, Finalize};
pub use deliver::{BatchLimits, DeliveryError, Destination, Mode, Published, Staged};
pub use gather::Gather;
pub use holding::{Holding, Holdings};
pub use lease::{
    DestinationId, DestinationPosition, Fence, Generation, LeaseKey, LeaseRow, Pending, PendingMode, Tenure,
    Throughput, WorkerId,
};
pub use look::{Found, Look};
pub use offload::{Job, Offload};
pub use read::{Read, ReadError, ShardReader};
pub use receipt::{Checksum, CommitId, Held, Output, OutputKind, Part, Receipt, ReceiptShard, ReceiptState};
pub use record::{Partition, Record, Transformed};
pub use rejected::{CatalogTable, Detail, Document, RejectedRecord};
pub use sequence::{Position, SequenceNumber};
pub use shard::{ChildShard, HashRange, ShardId};
pub use transform::Transform;
