//! What the worker tells a delivery loop, and what the loop asks of the worker.

use standpipe_flow::{Fence, LeaseKey, LeaseRow, Position, Tenure};
use tokio::sync::oneshot;

/// What the worker tells a delivery loop.
#[derive(Debug)]
pub enum Notice {
    /// A lease was taken; the row is the answer of that write.
    Taken {
        /// The row.
        row: Box<LeaseRow>,
        /// The acquisition.
        fence: Fence,
    },
    /// A lease is no longer ours.
    Lost {
        /// The lease.
        lease: LeaseKey,
        /// The acquisition.
        tenure: Tenure,
    },
    /// The shard is read to its end, and its children have leases.
    ShardEnd {
        /// The lease.
        lease: LeaseKey,
        /// The acquisition.
        tenure: Tenure,
        /// Which start of the reader ended.
        epoch: u64,
        /// Where the last chunk ended that it handed on: what has not come by then is missing (I15).
        at: Position,
    },
    /// The reader was stopped, because it was stuck or had died: answered by an order to read on from where its chunks
    /// end, unless there is a newer one.
    Stumbled {
        /// The lease.
        lease: LeaseKey,
        /// The acquisition.
        tenure: Tenure,
        /// Which start of the reader it was.
        epoch: u64,
    },
    /// Reading has stopped: deliver what is buffered, finalize, then answer. The answer is dropped if the lease is lost.
    Drain {
        /// The lease.
        lease: LeaseKey,
        /// The acquisition.
        tenure: Tenure,
        /// Answered once nothing is left to do: whether everything that was read is delivered. A batch that could not be
        /// committed is not; it is read again by whoever takes the lease.
        drained: oneshot::Sender<bool>,
    },
}

/// What a delivery loop asks of the worker.
#[derive(Debug)]
pub enum Order {
    /// (Re)start reading after `from`; chunks of an older epoch are void.
    Read {
        /// The lease.
        lease: LeaseKey,
        /// The acquisition.
        tenure: Tenure,
        /// Where to go on from.
        from: Position,
        /// To be sent with each chunk.
        epoch: u64,
    },
    /// The destination is detached: read nothing for it until it orders a read again.
    Detach {
        /// The lease.
        lease: LeaseKey,
        /// The acquisition.
        tenure: Tenure,
    },
    /// Drop the lease, which is every destination's, and take it again under a new tenure.
    WalkAway {
        /// The lease.
        lease: LeaseKey,
        /// The acquisition.
        tenure: Tenure,
    },
    /// Release the lease and raise the alarm.
    HandsOff {
        /// The lease.
        lease: LeaseKey,
        /// The acquisition.
        tenure: Tenure,
    },
    /// Everything of the shard is delivered here and finalized, up to its end.
    Ended {
        /// The lease.
        lease: LeaseKey,
        /// The acquisition.
        tenure: Tenure,
    },
}
