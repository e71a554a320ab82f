//! The contract of a destination: `batch -> stage -> commit -> publish`.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::batch::Batch;
use crate::clock::Millis;
use crate::look::Look;
use crate::receipt::{CommitId, Output, OutputKind, Receipt};
use crate::rejected::RejectedRecord;

/// How a destination is brought to exactly once, or as near as it allows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    /// Stage invisibly, commit, then publish.
    Staged,
    /// Declare the range, then deliver it under that id.
    Declared,
    /// Deliver (a repeat changes nothing), then finalize.
    Idempotent,
}

/// What one batch may weigh. A batch is cut when any of them is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchLimits {
    /// `buffer.size`: bytes of record data, before encoding; with partitions, those of one partition.
    pub size_bytes: u64,
    /// `buffer.interval`: age of the oldest buffered record.
    pub interval: Duration,
    /// Shards in one commit: 32, a lane.
    pub shards_max: usize,
    /// `partitions.max_active`: partitions of one batch, and so objects of one commit; a chunk that alone has more is a
    /// batch of its own. `None` where records have no partition.
    pub partitions_max: Option<usize>,
}

/// Outputs that are durable and invisible, and the records that are in none of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Staged {
    /// One object or load each.
    pub outputs: Vec<Output>,
    /// Records that could not be encoded.
    pub rejected: Vec<RejectedRecord>,
    /// Date header of the answer that opened the first upload.
    pub created_at: Option<Millis>,
    /// Bytes that an idempotent destination has taken, as they went out.
    pub delivered_bytes: u64,
    /// The first `-<n>` that no object of the commit has, or would have had: further ones begin there.
    pub next_ordinal: u32,
}

/// What publishing found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Published {
    /// Every output is visible.
    All,
    /// These outputs are neither visible nor can they be made so: what held them is gone. `published` says whether at
    /// least one other output of the commit is visible.
    Gone {
        /// What is lost.
        outputs: Vec<Output>,
        /// Whether some other output is visible.
        published: bool,
    },
    /// Its data outputs will not become visible by themselves: what they are is written down where people find it, and
    /// how they are made visible later. Every other output is visible.
    GaveUp,
}

/// Why a destination did not do what was asked; named by what the caller must do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DeliveryError {
    /// Try again, not before `after`. Unreachable, throttled, 5xx.
    #[error("{cause}")]
    Retry {
        /// What the destination asked for (Retry-After).
        after: Option<Duration>,
        /// What it said.
        cause: String,
    },
    /// `stage`: this batch, as a whole, will never be taken: it becomes error records. `publish`: the destination answers
    /// and refuses this commit; it is tried again, and given up after [`Destination::refused_max`] of that.
    #[error("refused: {cause}")]
    Reject {
        /// What it said.
        cause: String,
    },
    /// Wait for a human, with an alarm: not permitted, no such bucket, key disabled. The data is safe.
    #[error("halted: {cause}")]
    Halt {
        /// What it said.
        cause: String,
    },
}

/// A whole small object to be staged beside a batch: error and backup objects.
#[derive(Clone, Debug)]
pub struct ExtraObject {
    /// What it holds.
    pub kind: OutputKind,
    /// `!{firehose:error-output-type}` of its prefix.
    pub output_type: &'static str,
    /// `-<n>` in its name: further objects of one commit.
    pub ordinal: u32,
    /// When the batch was cut.
    pub cut_at: Millis,
    /// Arrival of the oldest record in it.
    pub oldest_arrival: Millis,
    /// The bytes.
    pub body: Bytes,
    /// Records in it.
    pub records: u64,
}

/// Where records go. One file a kind; every method is one attempt, the pipeline owns time.
#[async_trait]
pub trait Destination: Debug + Send + Sync + 'static {
    /// How it is brought to exactly once.
    fn mode(&self) -> Mode;

    /// What one batch may weigh.
    fn limits(&self) -> BatchLimits;

    /// Asks whether the destination is there and lets us in. Writes no data.
    async fn probe(&self) -> Result<(), DeliveryError>;

    /// Looks at everything that delivery will need, for a person who asks before it begins: a line a question, in `seen` as
    /// soon as it is answered. Writes nothing; with `make` it makes what the first batch would make by itself, and no more.
    async fn look(&self, _make: bool, seen: &mut Vec<Look>) {
        seen.push(match self.probe().await {
            Ok(()) => Look::fine("destination", "it is there"),
            Err(error) => Look::failed("destination", error),
        });
    }

    /// [`Mode::Idempotent`] and [`Mode::Declared`]: delivers the batch, and answers when the destination has taken every
    /// record for good or is known to refuse it for good (`rejected`); no data outputs. The same records may come again:
    /// under another `cid` if it is idempotent; if it is declared, always together and under the same [`Batch::declared`], also
    /// from another worker.
    /// Otherwise: encodes the batch and puts it where no reader sees it. On an error nothing of it may remain that costs money,
    /// as far as the destination answers. Cancel-safe in that a dropped call leaves only invisible outputs. The batch is
    /// shared: what encodes it on other threads copies no record.
    async fn stage(&self, cid: CommitId, batch: &Arc<Batch>) -> Result<Staged, DeliveryError>;

    /// Stages one further object of the same commit: error and backup objects, for every kind of destination.
    async fn stage_extra(&self, cid: CommitId, object: &ExtraObject)
    -> Result<(Output, Option<Millis>), DeliveryError>;

    /// Makes every output of a committed receipt visible. Idempotent by its commit id, by anyone, at any time.
    async fn publish(&self, receipt: &Receipt) -> Result<Published, DeliveryError>;

    /// How long a committed batch may be refused by a destination that answers before it is given up; `None`: for ever.
    fn refused_max(&self) -> Option<Duration> {
        None
    }

    /// Gives a committed batch up, after it was refused for so long: makes sure that nothing of it is under way, writes down
    /// where its outputs are, and answers GaveUp; or what publishing found after all. Asked again after an error.
    async fn give_up(&self, receipt: &Receipt) -> Result<Published, DeliveryError> {
        self.publish(receipt).await
    }

    /// Throws outputs away. The caller has proven that no receipt will ever name them.
    async fn discard(&self, dead: &[Output]) -> Result<(), DeliveryError>;

    /// Throws away what only publishing needed, once a receipt is DONE: what is read no more. Whatever it misses costs
    /// storage, and the sweeper finds it.
    async fn clear(&self, _done: &Receipt) -> Result<(), DeliveryError> {
        Ok(())
    }

    /// Writes down, where people will find it (S3: `standpipe-incidents/<cid>.json`), that part of a commit was visible
    /// when the rest was lost. Writing it again changes nothing.
    async fn write_incident(&self, cid: CommitId, body: Bytes) -> Result<(), DeliveryError>;
}
