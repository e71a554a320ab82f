//! `lease ->`: the right to read a shard, kept in a lease table that a Java KCL could take over at any moment, and the
//! commit table beside it.
//!
//! [`kcl`] is the row as DynamoDB holds it, `expression` renders the protocol's conditional writes, [`table`] and
//! [`commits`] send them, one request a call. [`hierarchy`] and [`plan`] are pure: which leases must exist, and which
//! of them this worker should take. [`mod@start`] makes everything ready, [`renew`] keeps what is held, [`coordinator`]
//! takes and gives back. [`mend`] is for people.
//!
//! Never here: Kinesis (shards come through [`coordinator::ShardCatalog`]), records, destinations.

mod admin;
pub mod client;
pub mod commits;
pub mod coordinator;
pub mod cost;
mod event;
mod expression;
mod frozen;
pub mod hierarchy;
pub mod identity;
mod java;
pub mod kcl;
pub mod look;
pub mod mend;
mod moves;
pub mod plan;
mod receipts;
pub mod renew;
pub mod start;
pub mod table;
pub mod upkeep;
mod workers;

pub use client::Dynamo;
pub use commits::CommitTable;
pub use coordinator::{Command, LeaseEvent, LeaseHandle, LostReason, ShardCatalog};
pub use frozen::Frozen;
pub use hierarchy::{ShardInfo, Start, may_read};
pub use identity::StreamIdentity;
pub use kcl::RowError;
pub use start::{LeaseSettings, Leases, Seams, StartError, StartPosition, start};
pub use table::{LeaseTable, Rows, TableError};
pub use upkeep::Upkept;
pub use workers::{HeartbeatMode, WorkerTable};

#[cfg(test)]
mod emulated;
#[cfg(test)]
mod testing;
