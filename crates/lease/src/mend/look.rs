//! `lease ->`: what stands in the two tables, and which owners are alive.
//!
//! Alive is what a worker would call alive: a counter, or a worker's heartbeat, that moves between two looks on our own
//! monotonic clock (I12).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use standpipe_flow::{CommitError, CommitId, CommitLog, LeaseKey, LeaseRow, Millis, Receipt, WorkerId};

use super::{Mend, MendError, no_table};
use crate::table::Rows;
use crate::workers::by_worker;

/// Between two scans while counters are watched.
const STEP: Duration = Duration::from_secs(1);

/// The lease table, watched for a while.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// The rows at the end.
    pub rows: Rows,
    /// Leases whose owner has shown that it is alive.
    pub moving: BTreeSet<LeaseKey>,
    /// For how long counters were watched.
    pub watched: Duration,
}

impl Look {
    /// Whether the lease has an owner that was silent for a whole failover time: anybody may take it.
    pub fn expired(&self, row: &LeaseRow, failover: Duration) -> bool {
        row.owner.is_some() && !self.moving.contains(&row.key) && self.watched > failover
    }

    /// A lease of that key, or why it cannot be worked with.
    pub fn lease(&self, key: &LeaseKey) -> Result<&LeaseRow, MendError> {
        if self.rows.unpinned.contains_key(key) {
            return Err(MendError::refused(format!(
                "lease {key} has no position yet: it begins where the config's start says, once it is free"
            )));
        }
        if let Some(reason) = self.rows.unreadable.get(key) {
            return Err(MendError::refused(reason.to_string()));
        }
        let row = self.rows.get(key).ok_or_else(|| MendError::refused(no_lease(key, &self.rows)))?;
        if row.version_known() { Ok(row) } else { Err(super::unknown_form(row)) }
    }

    /// Every lease that a worker may take, now or later: those without a position, too, which read as if they began at
    /// the oldest record.
    pub fn leases(&self) -> impl Iterator<Item = &LeaseRow> {
        every(&self.rows)
    }

    fn owned(&self, key: &LeaseKey) -> bool {
        one(&self.rows, key).is_some_and(|row| row.owner.is_some())
    }
}

/// What a commit id in a row leads to.
#[derive(Debug, Clone, PartialEq)]
pub enum ReceiptSeen {
    /// Nothing: the commit table was deleted or restored, or the batch was only declared.
    Missing,
    /// Something that this program cannot read.
    Unreadable(String),
    /// The receipt.
    There(Box<Receipt>),
}

/// Everything that `leases list` shows.
#[derive(Debug, Clone)]
pub struct Listing {
    /// The rows, and who is alive.
    pub look: Look,
    /// The receipts of all pending commits.
    pub receipts: BTreeMap<CommitId, ReceiptSeen>,
    /// Now, for people.
    pub now: Millis,
}

impl Mend {
    /// Looks at the table for so long, or until every owner has shown that it is alive. With no time at all it is looked
    /// at once, and nobody is known to be alive.
    pub async fn look(&self, span: Duration) -> Result<Look, MendError> {
        let begun = self.clock.elapsed();
        let first = self.ask(|| self.table.scan()).await?;
        let first_beats = self.beats(&first).await?;
        let mut look = Look { rows: first.clone(), ..Look::default() };
        loop {
            look.watched = if span.is_zero() { span } else { self.clock.elapsed().saturating_sub(begun) };
            let left = span.saturating_sub(look.watched);
            if left.is_zero() || look.all_known() {
                return Ok(look);
            }
            tokio::time::sleep(left.min(STEP).min(self.failover / 3)).await;
            look.rows = self.ask(|| self.table.scan()).await?;
            let beats = self.beats(&look.rows).await?;
            let beats_moved = |owner: &WorkerId| beats.get(owner) != first_beats.get(owner);
            let moved = |row: &&LeaseRow| {
                let by_worker = by_worker(row) && row.owner.as_ref().is_some_and(beats_moved);
                by_worker || one(&first, &row.key).is_none_or(|before| before.counter != row.counter)
            };
            let moving = look.leases().filter(|row| row.owner.is_some()).filter(moved);
            let moving: Vec<LeaseKey> = moving.map(|row| row.key.clone()).collect();
            look.moving.extend(moving);
            look.moving = look.moving.iter().filter(|key| look.owned(key)).cloned().collect();
        }
    }

    /// The workers' heartbeats, where leases are held by them.
    async fn beats(&self, rows: &Rows) -> Result<BTreeMap<WorkerId, u64>, MendError> {
        if !rows.leases.values().any(by_worker) {
            return Ok(BTreeMap::new());
        }
        Ok(self.ask(|| self.workers.scan()).await?)
    }

    /// The table, watched for so long, and the receipt of every pending commit.
    pub async fn list(&self, span: Duration) -> Result<Listing, MendError> {
        let look = self.look(span).await?;
        let mut receipts = BTreeMap::new();
        let positions = look.rows.leases.values().flat_map(|row| row.destinations.values());
        let pending = positions.filter_map(|position| position.pending.as_ref());
        let cids: BTreeSet<CommitId> = pending.map(|pending| pending.cid).collect();
        for cid in cids {
            receipts.insert(cid, self.receipt(cid).await?);
        }
        Ok(Listing { look, receipts, now: self.clock.wall() })
    }

    /// What a commit id leads to.
    pub(super) async fn receipt(&self, cid: CommitId) -> Result<ReceiptSeen, MendError> {
        match self.ask(|| self.commits.receipt(cid)).await {
            Ok(Some(receipt)) => Ok(ReceiptSeen::There(Box::new(receipt))),
            Ok(None) => Ok(ReceiptSeen::Missing),
            Err(CommitError::Unreadable { cause }) => Ok(ReceiptSeen::Unreadable(cause)),
            Err(CommitError::Denied { cause }) if no_table(&cause) => Ok(ReceiptSeen::Missing),
            Err(error) => Err(error.into()),
        }
    }
}

impl Look {
    fn all_known(&self) -> bool {
        self.leases().all(|row| row.owner.is_none() || row.ended() || self.moving.contains(&row.key))
    }
}

fn every(rows: &Rows) -> impl Iterator<Item = &LeaseRow> {
    rows.leases.values().chain(rows.unpinned.values().map(|unpinned| &unpinned.row))
}

fn one<'a>(rows: &'a Rows, key: &LeaseKey) -> Option<&'a LeaseRow> {
    rows.get(key).or_else(|| rows.unpinned.get(key).map(|unpinned| &unpinned.row))
}

/// That there is no such lease, and which may be meant. `1` is how people call `shardId-000000000001`.
fn no_lease(key: &LeaseKey, rows: &Rows) -> String {
    let written = key.as_str();
    let number = written.strip_prefix("shardId-").unwrap_or(written);
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let whole = if digits { format!("shardId-{number:0>12}") } else { written.to_owned() };
    let there = rows.leases.keys().chain(rows.unreadable.keys());
    let near = there.map(|lease| (strsim::osa_distance(&whole, lease.as_str()), lease));
    let near = near.filter(|(edits, lease)| *edits <= lease.as_str().len() / 3).min();
    match near {
        Some((_, lease)) => format!("there is no lease {key}; did you mean {lease}?"),
        None => format!("there is no lease {key}"),
    }
}
