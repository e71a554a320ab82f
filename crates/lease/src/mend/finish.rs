//! `commit -> publish -> finalize`: what is pending on a lease is brought to its end before the lease is reset
//! (protocol 4.3 to 4.7), exactly as a worker that takes the lease would do it.
//!
//! I4: nothing is published but what a receipt names. I17: nothing is finalized before DONE. What a worker would leave to
//! a human is refused with the command that settles it.

use standpipe_flow::write;
use standpipe_flow::{
    CommitError, CommitLog, DeliveryError, DestinationId, LeaseRow, Pending, PendingMode, Position, Published, Receipt,
    ReceiptState,
};

use super::look::ReceiptSeen;
use super::{Mend, MendError, TRIES, pause};

impl Mend {
    /// The row with nothing pending at any destination.
    pub(super) async fn finish(&self, row: LeaseRow) -> Result<LeaseRow, MendError> {
        let mut row = row;
        for tries in 1..=TRIES {
            let pending = row.destinations.iter().find_map(|(id, at)| Some((id.clone(), at.pending.clone()?)));
            let Some((id, pending)) = pending else { return Ok(row) };
            self.bring_to_end(&row, &id, &pending).await?;
            row = self.row(&row.key).await?;
            // A live worker may have committed anew.
            pause(tries).await;
        }
        Err(MendError::Unavailable { cause: format!("lease {} always carries another commit", row.key) })
    }

    async fn bring_to_end(&self, row: &LeaseRow, id: &DestinationId, pending: &Pending) -> Result<(), MendError> {
        let (lease, cid) = (&row.key, pending.cid);
        let settle = || format!("`leases settle --lease {lease} --cid {cid}` can end it");
        if pending.mode == PendingMode::Declared {
            // Nothing to publish: it was sent, or was about to be. It is cleared, `at` as it was.
            return self.end_pending(row, id, cid, None).await;
        }
        if pending.mode != PendingMode::Staged {
            return Err(MendError::refused(format!("lease {lease} carries {cid}, which has no receipt; {}", settle())));
        }
        let receipt = match self.receipt(cid).await? {
            ReceiptSeen::There(receipt) => receipt,
            ReceiptSeen::Missing => {
                let cause = format!("lease {lease} carries commit {cid}, of which there is no receipt; {}", settle());
                return Err(MendError::refused(cause));
            }
            ReceiptSeen::Unreadable(cause) => return Err(MendError::refused(format!("{cause}; {}", settle()))),
        };
        match receipt.state {
            ReceiptState::Done => self.finalize(row, id, &receipt).await,
            ReceiptState::Retracted => self.end_pending(row, id, cid, None).await,
            ReceiptState::Committed => self.publish(&receipt).await.map(|_| ()),
        }
    }

    /// Publishes a committed receipt and marks it DONE, or retracts it if nothing of it can be published. The rows are
    /// for the next look. `false`: it was retracted.
    pub(super) async fn publish(&self, receipt: &Receipt) -> Result<bool, MendError> {
        let (cid, id) = (receipt.cid, &receipt.destination);
        let missing = || MendError::refused(format!("commit {cid} is {id}'s, which the config does not have"));
        let destination = self.destinations.get(id).ok_or_else(missing)?;
        let mut tries = 0;
        let published = loop {
            tries += 1;
            match destination.publish(receipt).await {
                Ok(published) => break published,
                Err(DeliveryError::Retry { .. }) if tries < TRIES => pause(tries).await,
                Err(error) => {
                    let cause = format!("commit {cid} cannot be published at {id}: {error}");
                    return Err(MendError::Unavailable { cause });
                }
            }
        };
        let moved = match published {
            Published::All => self.ask(|| self.commits.done(cid, false)).await,
            Published::GaveUp => self.ask(|| self.commits.done(cid, true)).await,
            Published::Gone { published: false, outputs } if outputs.len() == receipt.outputs.len() => {
                let rows = self.ask(|| self.table.scan()).await?;
                let carriers: Vec<_> = rows.leases.into_values().collect();
                return match self.commits.retract(receipt, &carriers).await {
                    Ok(()) => Ok(false),
                    Err(error) => Err(error.into()),
                };
            }
            Published::Gone { .. } => {
                return Err(MendError::refused(format!(
                    "commit {cid} is visible in part, and the rest of it is lost: start a worker, which writes that \
                     down and delivers the records again"
                )));
            }
        };
        match moved {
            Ok(()) => {
                // What is left costs storage until the sweeper comes.
                let _ = destination.clear(receipt).await;
                Ok(true)
            }
            // Refused: somebody else has moved it on, which the next look sees.
            Err(CommitError::Refused { .. }) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Finalizes one lease of a published commit.
    pub(super) async fn finalize(
        &self,
        row: &LeaseRow,
        id: &DestinationId,
        receipt: &Receipt,
    ) -> Result<(), MendError> {
        let Some(listed) = receipt.shards.iter().find(|shard| shard.lease == row.key) else {
            return Err(MendError::refused(format!("the receipt of {} does not name lease {}", receipt.cid, row.key)));
        };
        self.end_pending(row, id, receipt.cid, Some((&listed.to, listed.arrival))).await
    }

    /// The row no longer carries the commit: it stands at `at`, or where it was before the commit.
    pub(super) async fn end_pending(
        &self,
        row: &LeaseRow,
        id: &DestinationId,
        cid: standpipe_flow::CommitId,
        at: Option<(&Position, Option<standpipe_flow::Millis>)>,
    ) -> Result<(), MendError> {
        let Some(position) = row.destinations.get(id) else { return Ok(()) };
        let at = at.unwrap_or((&position.at, position.arrival));
        let write = write::finalize(&row.key, id, cid, at);
        match self.ask(|| self.table.write(&write)).await {
            // Refused: it no longer carries it.
            Ok(_) | Err(CommitError::Refused { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
