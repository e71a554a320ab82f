//! The sweeper: open uploads and staging objects of workers that crashed (protocol 3).
//!
//! Looks only at those whose commit id carries our own fingerprint and that are 24 h old by S3's own clock. The
//! receipt decides; what may still be published is kept. A live batch refuses to commit when older than 6 h, so none
//! that could still commit is ever met.

use std::sync::Arc;
use std::time::Duration;

use standpipe_destinations::{Leftover, Page, S3, Verdict, due, verdict};
use standpipe_flow::{CommitError, CommitLog};
use standpipe_lease::LeaseTable;
use tracing::{debug, info, warn};

/// Orphans cost storage, not safety: once an hour is soon enough.
pub(crate) const INTERVAL: Duration = Duration::from_secs(3600);

/// What sweeping found.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Swept {
    /// Open uploads and staging objects of this deployment, young ones included.
    pub seen: u64,
    /// Those that were ended.
    pub ended: u64,
}

/// What one deployment has left at one destination.
pub struct Sweeper {
    /// The destination.
    pub s3: Arc<S3>,
    /// The receipts.
    pub log: Arc<dyn CommitLog>,
    /// The rows.
    pub table: LeaseTable,
    /// The deployment.
    pub fingerprint: u32,
}

impl Sweeper {
    /// Sweeps once an hour, for ever.
    pub(crate) async fn run(self) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            match self.sweep().await {
                Ok(swept) => debug!(seen = swept.seen, ended = swept.ended, "swept"),
                Err(cause) => warn!(cause, "sweeping failed; what crashed workers left stays until the next time"),
            }
        }
    }

    /// Looks at every leftover once.
    pub async fn sweep(&self) -> Result<Swept, String> {
        let mut swept = Swept::default();
        let mut page = Page::default();
        loop {
            let page_of = self.s3.leftovers(&page).await.map_err(|error| error.to_string())?;
            for leftover in page_of.found.iter().filter(|leftover| leftover.cid.fingerprint() == self.fingerprint) {
                swept.seen += 1;
                if due(leftover) && self.end(leftover).await? {
                    swept.ended += 1;
                }
            }
            match page_of.next {
                Some(next) => page = next,
                None => return Ok(swept),
            }
        }
    }

    /// Ends one old leftover if nothing can publish it any more, or needs it.
    async fn end(&self, leftover: &Leftover) -> Result<bool, String> {
        let receipt = self.log.receipt(leftover.cid).await.map_err(|error| error.to_string())?;
        let rows = self.table.scan().await.map_err(|error| error.to_string())?;
        let pending = |row: &standpipe_flow::LeaseRow| {
            let of =
                |position: &standpipe_flow::DestinationPosition| position.pending.as_ref().map(|pending| pending.cid);
            row.destinations.values().filter_map(of).any(|cid| cid == leftover.cid)
        };
        let carried = !rows.unreadable.is_empty() || rows.leases.values().any(pending);
        match verdict(receipt.as_ref(), leftover.upload_id.as_deref(), carried) {
            Verdict::Keep => return Ok(false),
            Verdict::End => {}
            Verdict::RetractThenEnd => {
                let Some(receipt) = receipt else { return Ok(false) };
                match self.log.retract(&receipt, &[]).await {
                    Ok(()) => {}
                    Err(CommitError::Refused { .. }) => return Ok(false), // somebody has moved it on; next time
                    Err(error) => return Err(error.to_string()),
                }
            }
        }
        info!(key = leftover.key, cid = %leftover.cid, "ending what a crashed worker left");
        self.s3.end(leftover).await.map_err(|error| error.to_string())?;
        Ok(true)
    }
}
