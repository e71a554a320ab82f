//! The contract of `read`: one shard's records, in order, each once.

use std::future::Future;
use std::time::Duration;

use crate::chunk::Chunk;
use crate::shard::ChildShard;

/// What a read gave.
#[derive(Debug)]
pub enum Read {
    /// Records, continuing exactly where the last chunk ended (I15).
    Chunk(Chunk),
    /// What came needs more memory than was reserved, because its records expand: nothing moved. Give the share back, and
    /// call again with one of [`ShardReader::expected_bytes`].
    Heavy,
    /// No records this time; `behind` is MillisBehindLatest: zero means that the reader has seen everything.
    Empty {
        /// MillisBehindLatest.
        behind: Duration,
    },
    /// The shard is closed and read to its end; nothing follows.
    End {
        /// The shards that go on from here, as ChildShards names them.
        children: Vec<ChildShard>,
    },
}

/// Why a read failed; named by what the caller must do.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Call `next` again: nothing was lost, the reader waits by itself as long as it must.
    #[error("read failed, will be tried again: {cause}")]
    Again {
        /// What the service or the network said.
        cause: String,
    },
    /// The shard is gone (ResourceNotFound). To be confirmed before it counts as ended.
    #[error("the shard or its stream does not exist: {cause}")]
    Gone {
        /// What the service said.
        cause: String,
    },
    /// Not permitted: waited for, with an alarm.
    #[error("reading is not permitted: {cause}")]
    Denied {
        /// What the service said.
        cause: String,
    },
}

/// Reads one shard from one position on.
pub trait ShardReader: Send {
    /// The next records. Paces itself within the shard's quota (5 calls and 2 MiB a second).
    ///
    /// Cancel-safe: a future dropped before it is ready has moved nothing; the next call goes on from the last chunk
    /// that was returned.
    fn next(&mut self) -> impl Future<Output = Result<Read, ReadError>> + Send;

    /// Bytes that the next answer may hold: what the caller reserves of the memory budget before it calls `next`.
    fn expected_bytes(&self) -> usize;
}
