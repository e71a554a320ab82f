//! `lease ->`: leases mended by a human's hand (`standpipe leases`): looked at, let go, reset, settled.
//!
//! Every change is one of the protocol's conditional writes, so a fleet that is running survives it: whoever holds the
//! lease is fenced by the owner or the generation, whoever publishes the commit meets a receipt that has moved on. What
//! is planned says what it will do before anything is written; the verb shows it and asks.
//!
//! Never here: an unconditional write or delete, a question to a person. I13: a row of an unknown form is not touched.
//! Anchor: `mend/tests.rs`.

mod count;
mod finish;
mod look;
mod release;
mod reset;
mod settle;
mod thaw;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use standpipe_flow::{Clock, CommitError, CommitLog, Destination, DestinationId, LeaseKey, LeaseRow};

pub use count::Count;
pub use look::{Listing, Look, ReceiptSeen};
pub use release::Release;
pub use reset::{LeaseReset, Moves, ResetPlan, To, Wanted};
pub use settle::{Choice, SettlePlan};

use crate::{CommitTable, LeaseTable, WorkerTable};

/// How often a request is sent before it has failed.
const TRIES: u32 = 8;
/// Before the second try; each further one waits longer by this.
const PAUSE: Duration = Duration::from_millis(200);

/// A pipeline's two tables and its destinations, to be mended.
#[derive(Debug, Clone)]
pub struct Mend {
    /// The leases.
    pub table: LeaseTable,
    /// The receipts.
    pub commits: CommitTable,
    /// The workers' heartbeats.
    pub workers: WorkerTable,
    /// The destinations of the config, to publish what is pending.
    pub destinations: BTreeMap<DestinationId, Arc<dyn Destination>>,
    /// The clocks. The wall clock is for people: ages, and what `latest` means.
    pub clock: Arc<dyn Clock>,
    /// `lease.failover` of the fleet.
    pub failover: Duration,
}

/// Why something was not mended.
#[derive(Debug, thiserror::Error)]
pub enum MendError {
    /// The table does not allow it as it stands: nothing was written.
    #[error("{cause}")]
    Refused {
        /// Why, and what would help.
        cause: String,
    },
    /// The present identity may not do it.
    #[error("not permitted: {cause}")]
    Denied {
        /// What the service said.
        cause: String,
    },
    /// A service did not answer, or the lease changes too fast. What was written before stands.
    #[error("{cause}")]
    Unavailable {
        /// What was seen last.
        cause: String,
    },
}

impl MendError {
    fn refused(cause: impl Into<String>) -> Self {
        Self::Refused { cause: cause.into() }
    }
}

impl From<CommitError> for MendError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Denied { cause } if no_table(&cause) => {
                Self::refused(format!("a table does not exist: {cause}"))
            }
            CommitError::Denied { cause } => Self::Denied { cause },
            CommitError::Unreadable { cause } => Self::refused(cause),
            CommitError::Refused { .. } => Self::refused("it has changed meanwhile: look at it again"),
            other => Self::Unavailable { cause: other.to_string() },
        }
    }
}

/// DynamoDB's code for a table that is not there, as `classify` puts it.
fn no_table(cause: &str) -> bool {
    cause.starts_with("ResourceNotFoundException")
}

/// Whether the same request may have another answer soon.
fn passes(error: &CommitError) -> bool {
    matches!(error, CommitError::Conflict | CommitError::Throttled | CommitError::Unknown { .. })
}

impl Mend {
    /// Sends something that may be sent again, until it is answered.
    async fn ask<T, F>(&self, request: impl Fn() -> F) -> Result<T, CommitError>
    where
        F: Future<Output = Result<T, CommitError>>,
    {
        let mut tries = 0;
        loop {
            tries += 1;
            match request().await {
                Err(error) if passes(&error) && tries < TRIES => pause(tries).await,
                answer => return answer,
            }
        }
    }

    /// One row as it is now.
    async fn row(&self, lease: &LeaseKey) -> Result<LeaseRow, MendError> {
        let row = self.ask(|| self.commits.row(lease)).await?;
        let row = row.ok_or_else(|| MendError::refused(format!("there is no lease {lease}")))?;
        if row.version_known() { Ok(row) } else { Err(unknown_form(&row)) }
    }
}

async fn pause(tries: u32) {
    tokio::time::sleep(PAUSE * tries).await;
}

fn unknown_form(row: &LeaseRow) -> MendError {
    MendError::refused(format!(
        "lease {} has form {} of our attributes: a newer version wrote it, and must mend it",
        row.key,
        row.version.unwrap_or_default()
    ))
}

#[cfg(test)]
mod tests;
