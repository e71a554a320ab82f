//! The sweeper: open uploads of workers that crashed before their commit (protocol 3).
//!
//! Looks only at uploads whose commit id carries our own fingerprint and that are 24 h old by S3's own clock. The
//! receipt decides; what may still be published is kept. A live batch refuses to commit when older than 6 h, so none
//! that could still commit is ever met.

use std::sync::Arc;
use std::time::Duration;

use standpipe_destinations::{OpenUpload, Page, S3, Verdict, due, verdict};
use standpipe_flow::{CommitError, CommitLog};
use standpipe_lease::LeaseTable;
use tracing::{debug, info, warn};

/// Orphans cost storage, not safety: once an hour is soon enough.
pub(crate) const INTERVAL: Duration = Duration::from_secs(3600);

/// What sweeping found.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Swept {
    /// Open uploads of this deployment, young ones included.
    pub seen: u64,
    /// Uploads that were aborted.
    pub aborted: u64,
}

/// One deployment's open uploads at one destination.
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
                Ok(swept) => debug!(seen = swept.seen, aborted = swept.aborted, "swept"),
                Err(cause) => warn!(cause, "sweeping failed; orphaned uploads stay until the next time"),
            }
        }
    }

    /// Looks at every open upload once.
    pub async fn sweep(&self) -> Result<Swept, String> {
        let mut swept = Swept::default();
        let mut page = Page::default();
        loop {
            let found = self.s3.open_uploads(&page).await.map_err(|error| error.to_string())?;
            for upload in found.uploads.iter().filter(|upload| upload.cid.fingerprint() == self.fingerprint) {
                swept.seen += 1;
                if due(upload) && self.end(upload).await? {
                    swept.aborted += 1;
                }
            }
            match found.next {
                Some(next) => page = next,
                None => return Ok(swept),
            }
        }
    }

    /// Ends one old upload if nothing can publish it any more.
    async fn end(&self, upload: &OpenUpload) -> Result<bool, String> {
        let receipt = self.log.receipt(upload.cid).await.map_err(|error| error.to_string())?;
        let rows = self.table.scan().await.map_err(|error| error.to_string())?;
        let pending = |row: &standpipe_flow::LeaseRow| {
            let of =
                |position: &standpipe_flow::DestinationPosition| position.pending.as_ref().map(|pending| pending.cid);
            row.destinations.values().filter_map(of).any(|cid| cid == upload.cid)
        };
        let carried = !rows.unreadable.is_empty() || rows.leases.values().any(pending);
        match verdict(receipt.as_ref(), &upload.upload_id, carried) {
            Verdict::Keep => return Ok(false),
            Verdict::Abort => {}
            Verdict::RetractThenAbort => {
                let Some(receipt) = receipt else { return Ok(false) };
                match self.log.retract(&receipt, &[]).await {
                    Ok(()) => {}
                    Err(CommitError::Refused { .. }) => return Ok(false), // somebody has moved it on; next time
                    Err(error) => return Err(error.to_string()),
                }
            }
        }
        info!(key = upload.key, cid = %upload.cid, "aborting an upload that a crashed worker left");
        self.s3.abort_dead(upload).await.map_err(|error| error.to_string())?;
        Ok(true)
    }
}
