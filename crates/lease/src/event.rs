//! `lease ->`: what the leases tell the worker, and what the worker tells the leases.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use standpipe_flow::{
    ChildShard, DestinationId, DestinationPosition, Fence, LeaseKey, LeaseRow, Millis, Position, Tenure,
};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::warn;

use crate::moves::{self, Context};
use crate::table::Rows;
use crate::upkeep::Upkept;

/// What has happened to a lease. Of one lease, events come in the order in which things happened to the row; an event
/// of a tenure that is over already means nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseEvent {
    /// This process holds the lease.
    Taken {
        /// The row as the take left it (ALL_NEW).
        row: Box<LeaseRow>,
        /// The right to write.
        fence: Fence,
        /// The instant ([`standpipe_flow::Clock::elapsed`]) until which nobody else may take it; heartbeats move it on
        /// in the [`standpipe_flow::Holdings`].
        deadline: Duration,
    },
    /// This process holds the lease no more. Everything local of that tenure is void.
    Lost {
        /// The lease.
        lease: LeaseKey,
        /// The acquisition that is over.
        tenure: Tenure,
        /// Why.
        reason: LostReason,
    },
    /// Another worker waits for the lease: drain it, then release it. Once a tenure.
    HandOver {
        /// The lease.
        lease: LeaseKey,
        /// The acquisition.
        tenure: Tenure,
    },
}

/// Why a lease is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LostReason {
    /// No heartbeat was written in time: anybody may take it.
    Deadline,
    /// Another worker has it.
    Taken,
    /// A Java worker has moved the checkpoint: it is taken again, and its progress adopted.
    CheckpointMoved,
    /// The generation was bumped: somebody has reset the lease.
    Reset,
    /// The row is gone, or cannot be read any more.
    Gone,
    /// Nothing was lost: the shard is finished for everybody, and the lease was given back.
    Ended,
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deadline => "deadline",
            Self::Taken => "taken",
            Self::CheckpointMoved => "checkpoint_moved",
            Self::Reset => "reset",
            Self::Gone => "gone",
            Self::Ended => "ended",
        })
    }
}

/// What the worker wants done.
#[derive(Debug)]
pub enum Command {
    /// Give a drained lease back, with its last checkpoint. Nothing is said in answer.
    Release {
        /// The lease.
        lease: LeaseKey,
        /// The acquisition.
        tenure: Tenure,
    },
    /// As `Release`, and leave the lease to others for five failover times: it cannot be read here.
    LetGo {
        /// The lease.
        lease: LeaseKey,
        /// The acquisition.
        tenure: Tenure,
    },
    /// Every record of the shard is finalized at SHARD_END at a destination. If that is so at all of them, the
    /// checkpoint is moved at once, the lease given back, and [`LostReason::Ended`] told.
    Ended {
        /// The lease.
        lease: LeaseKey,
        /// The acquisition.
        tenure: Tenure,
    },
    /// Forget the lease WITHOUT giving it back, and take it again by a new tenure at once: an answer stayed unclear,
    /// and the new tenure fences whatever may still be under way.
    WalkAway {
        /// The lease.
        lease: LeaseKey,
        /// The acquisition.
        tenure: Tenure,
    },
    /// Give the lease back and do not take it again before somebody has changed it: it holds what this program does not
    /// understand (I13).
    HandsOff {
        /// The lease.
        lease: LeaseKey,
        /// The acquisition.
        tenure: Tenure,
        /// What the row said of the destinations when it was taken: it is settled once it says something else. A person
        /// may be quicker than the next scan.
        positions: BTreeMap<DestinationId, DestinationPosition>,
    },
    /// List the shards and scan the table now.
    Sync,
    /// Take no more leases and ask for none.
    TakeNoMore,
    /// Finish what is under way, stop the heartbeats, end; then answer.
    Shutdown {
        /// Answered at the end.
        ended: oneshot::Sender<()>,
    },
}

/// The worker's side of the leases.
#[derive(Debug, Clone)]
pub struct LeaseHandle {
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    pub(crate) rows: watch::Receiver<Arc<Rows>>,
    pub(crate) context: Arc<Context>,
}

impl LeaseHandle {
    /// Says what is wanted. After the end of the coordinator nobody listens, which is as good: the leases pass on by
    /// expiry.
    pub fn send(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    /// What the last scan saw.
    pub fn rows(&self) -> Arc<Rows> {
        self.rows.borrow().clone()
    }

    /// When the last record arrived that a destination has finalized at this position, as far as this process knows.
    pub fn arrival(&self, lease: &LeaseKey, destination: &DestinationId, at: &Position) -> Option<Millis> {
        let held = self.context.holdings.get(lease)?;
        held.positions.get(destination).filter(|position| position.at == *at)?.arrival
    }

    /// What has been done for the table as a whole since this was last asked.
    pub fn take_upkept(&self) -> Upkept {
        self.context.upkeep.take()
    }

    /// To wait for the next scan: the one that [`LeaseHandle::rows`] gives has been seen.
    pub fn scans(&self) -> watch::Receiver<Arc<Rows>> {
        let mut rows = self.rows.clone();
        rows.mark_unchanged();
        rows
    }

    /// Makes the leases of a closed shard's children, which must exist before its end is committed. Tries until it has
    /// worked. Cancel-safe.
    pub async fn make_children(&self, parent: LeaseRow, children: Vec<ChildShard>) {
        let mut tries = 0;
        while let Err(error) = moves::make_children(&self.context, &parent, &children).await {
            warn!(shard = %parent.key, %error, "the children's leases could not be made, will try again");
            moves::pause(&self.context, &mut tries).await;
        }
        self.send(Command::Sync);
    }

    /// Ends the coordinator and the heartbeats, once every release that was commanded before is done.
    pub async fn stop(&self) {
        let (ended, answer) = oneshot::channel();
        self.send(Command::Shutdown { ended });
        // No answer: the coordinator has ended already.
        let _ = answer.await;
    }
}
