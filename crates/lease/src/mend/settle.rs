//! `commit -> publish -> finalize`: a quarantine ends by a human's word. The row carries a commit that no worker may
//! finish by itself; a person knows, or decides, what became of its records.
//!
//! I3, I4, I10: a receipt that is there moves on with the rows, in one transaction, so that nobody publishes later what
//! was taken back here. I13: a form that is not known is only ever cleared, never published.

use standpipe_flow::write::{self, RowWrite};
use standpipe_flow::{
    CommitError, CommitId, DestinationId, LeaseKey, LeaseRow, Pending, PendingMode, Receipt, ReceiptState,
};

use super::look::{Look, ReceiptSeen};
use super::{Mend, MendError};

/// What a person says about the commit's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// They shall be visible: what the receipt names is published.
    Publish,
    /// They shall be read and delivered again.
    Replay,
    /// They are done with: delivery goes on after them.
    Forget,
}

/// What settling does.
#[derive(Debug, Clone)]
pub struct SettlePlan {
    /// The lease that was named.
    pub lease: LeaseKey,
    /// The commit.
    pub cid: CommitId,
    /// The destination.
    pub destination: DestinationId,
    /// What was chosen.
    pub choice: Choice,
    /// What is pending on the named lease.
    pub pending: Pending,
    /// The receipt.
    pub receipt: ReceiptSeen,
    /// Further leases that are settled with it, because the receipt is one.
    pub together: Vec<LeaseKey>,
    /// Further leases that carry the commit and stay as they are: each is settled by itself.
    pub others: Vec<LeaseKey>,
    /// Records of the commit, by its receipt.
    pub records: Option<u64>,
}

impl Mend {
    /// What settling a commit would do. Refused where another choice is the right one.
    pub async fn plan_settle(
        &self,
        look: &Look,
        lease: &LeaseKey,
        cid: CommitId,
        choice: Choice,
    ) -> Result<SettlePlan, MendError> {
        let row = look.lease(lease)?;
        let Some((destination, pending)) = carried(row, cid) else {
            return Err(MendError::refused(format!("lease {lease} does not carry commit {cid}")));
        };
        let receipt = self.receipt(cid).await?;
        allowed(&receipt, &pending, choice).map_err(|why| MendError::refused(format!("commit {cid} {why}")))?;
        let carriers = look.rows.leases.values().filter(|other| other.key != *lease && carried(other, cid).is_some());
        let carriers: Vec<LeaseKey> = carriers.map(|row| row.key.clone()).collect();
        // A receipt speaks for all its leases; without one each lease is a matter of its own.
        let (together, others) = if one_end(&receipt) { (carriers, Vec::new()) } else { (Vec::new(), carriers) };
        let records = if let ReceiptSeen::There(receipt) = &receipt { Some(receipt.records) } else { None };
        let (lease, destination) = (lease.clone(), destination.clone());
        Ok(SettlePlan { lease, cid, destination, choice, pending, receipt, together, others, records })
    }

    /// Does it.
    pub async fn settle(&self, plan: &SettlePlan) -> Result<(), MendError> {
        let seen = self.receipt(plan.cid).await?;
        if std::mem::discriminant(&seen) != std::mem::discriminant(&plan.receipt) {
            return Err(MendError::refused("its receipt has changed meanwhile: look at it again"));
        }
        match (&seen, plan.choice) {
            (ReceiptSeen::There(receipt), Choice::Publish) => self.settle_published(plan, receipt).await,
            (ReceiptSeen::There(receipt), _) if receipt.state == ReceiptState::Done => {
                self.finalize_carriers(plan, receipt).await
            }
            (ReceiptSeen::There(receipt), _) if receipt.state == ReceiptState::Committed => {
                self.end_all(plan, Some(receipt)).await
            }
            (ReceiptSeen::Unreadable(_), _) => self.end_all(plan, None).await,
            _ => self.end_one(plan).await,
        }
    }

    async fn settle_published(&self, plan: &SettlePlan, receipt: &Receipt) -> Result<(), MendError> {
        if receipt.state == ReceiptState::Committed && !self.publish(receipt).await? {
            // Taken back in the same step, and the rows with it: its records are delivered again.
            return Err(MendError::refused(
                "nothing of the commit can be published any more: it was taken back, and its records are delivered again",
            ));
        }
        self.finalize_carriers(plan, receipt).await
    }

    async fn finalize_carriers(&self, plan: &SettlePlan, receipt: &Receipt) -> Result<(), MendError> {
        for lease in std::iter::once(&plan.lease).chain(&plan.together) {
            let row = self.row(lease).await?;
            self.finalize(&row, &plan.destination, receipt).await?;
        }
        Ok(())
    }

    /// One transaction over the receipt and every row that carries the commit.
    async fn end_all(&self, plan: &SettlePlan, receipt: Option<&Receipt>) -> Result<(), MendError> {
        let mut rows = Vec::new();
        for lease in std::iter::once(&plan.lease).chain(&plan.together) {
            let row = self.row(lease).await?;
            rows.extend(ending(&row, plan, receipt));
        }
        match self.commits.retract_with(plan.cid, &rows).await {
            Ok(()) => Ok(()),
            // A receipt that cannot be read may have any state: then the rows alone tell.
            Err(CommitError::Refused { lease: None, .. }) if receipt.is_none() => {
                for write in rows {
                    self.ask(|| self.table.write(&write)).await?;
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The named row alone.
    async fn end_one(&self, plan: &SettlePlan) -> Result<(), MendError> {
        let row = self.row(&plan.lease).await?;
        let at = (plan.choice == Choice::Forget).then_some((&plan.pending.to, None));
        self.end_pending(&row, &plan.destination, plan.cid, at).await
    }
}

/// The destination at which a row carries a commit.
fn carried(row: &LeaseRow, cid: CommitId) -> Option<(&DestinationId, Pending)> {
    let pending = |(id, position): (&'_ DestinationId, &standpipe_flow::DestinationPosition)| {
        position.pending.clone().filter(|pending| pending.cid == cid).map(|pending| (id.clone(), pending))
    };
    let (found, pending) = row.destinations.iter().find_map(pending)?;
    row.destinations.get_key_value(&found).map(|(id, _)| (id, pending))
}

/// The end of the commit in one row.
fn ending(row: &LeaseRow, plan: &SettlePlan, receipt: Option<&Receipt>) -> Option<RowWrite> {
    let position = row.destinations.get(&plan.destination)?;
    let pending = position.pending.as_ref().filter(|pending| pending.cid == plan.cid)?;
    let at = if plan.choice == Choice::Forget {
        let listed = receipt.and_then(|receipt| receipt.shards.iter().find(|shard| shard.lease == row.key));
        (&pending.to, listed.and_then(|shard| shard.arrival))
    } else {
        (&position.at, position.arrival)
    };
    Some(write::finalize(&row.key, &plan.destination, plan.cid, at))
}

/// Whether the receipt and its rows have one end.
fn one_end(receipt: &ReceiptSeen) -> bool {
    match receipt {
        ReceiptSeen::There(receipt) => receipt.state != ReceiptState::Retracted,
        ReceiptSeen::Unreadable(_) => true,
        ReceiptSeen::Missing => false,
    }
}

/// Why a choice is not open.
fn allowed(receipt: &ReceiptSeen, pending: &Pending, choice: Choice) -> Result<(), String> {
    match (receipt, choice) {
        (ReceiptSeen::There(receipt), Choice::Publish) if receipt.state == ReceiptState::Retracted => {
            Err("was taken back, and nothing of it is visible: use --replay".to_owned())
        }
        (ReceiptSeen::There(receipt), Choice::Replay) if receipt.state == ReceiptState::Done => {
            Err("is published: use --publish, which goes on after it; `leases reset` delivers a range again".to_owned())
        }
        (ReceiptSeen::There(_), _) if pending.mode == PendingMode::Staged => Ok(()),
        (ReceiptSeen::Missing | ReceiptSeen::Unreadable(_), Choice::Publish) => {
            Err("cannot be published without its receipt: restore the commit table, or choose --replay or --forget"
                .to_owned())
        }
        _ => Ok(()),
    }
}
