//! `lease ->`: what any worker does for the lease table as a whole: leases of shards that are over are deleted, and a
//! hole in the hash ranges is seen. [`over`] and [`Audit`] are pure.
//!
//! A table of a stream that is resharded for years must not grow for ever; the KCL deletes an ended lease once its
//! children are begun and its parents' leases are gone, and finds nothing here that it would not have left itself. One
//! condition is added to the KCL's: the stream does not list the shard any more. A worker that has slept over everything
//! may still make the lease that it found missing before, and a lease that is made again begins at TRIM_HORIZON: for a
//! listed shard that would deliver its records once more, for one that is past the retention there is nothing to read.
//! So the row of a listed shard is never deleted here, and no row comes back to life.
//!
//! Deleting is conditional (`leaseCounter`, SHARD_END, nothing pending) and may be done twice, by anybody.
//! Never here: a clock; the deletion of anything that is not finished for everybody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use standpipe_flow::{CommitError, HashRange, LeaseKey, LeaseRow, Position, ShardId};
use tracing::{debug, info, warn};

use crate::hierarchy::{self, ShardInfo};
use crate::moves::{self, Context};
use crate::table::Rows;

/// A hole is mended when it was seen so often in a row (KCL: `leasesRecoveryAuditorInconsistencyConfidenceThreshold`).
/// A scan is no snapshot: one may see a parent after its end and its children from before they were made.
const SEEN_BEFORE_MENDED: u32 = 3;

/// What has been done, counted since it was last asked.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Upkept {
    /// Leases made for shards that had none.
    pub made: u64,
    /// Leases deleted because their shards are over.
    pub deleted: u64,
    /// Holes in the hash ranges that were seen often enough to be real.
    pub holes: u64,
    /// Whether there is such a hole now.
    pub hole: bool,
}

/// Where the loop counts, and the worker reads.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    made: AtomicU64,
    deleted: AtomicU64,
    holes: AtomicU64,
    hole: AtomicU64,
}

impl Counts {
    /// What has been done since the last call.
    pub(crate) fn take(&self) -> Upkept {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        Upkept {
            made: take(&self.made),
            deleted: take(&self.deleted),
            holes: take(&self.holes),
            hole: self.hole.load(Ordering::Relaxed) > 0,
        }
    }

    pub(crate) fn made(&self, leases: usize) {
        self.made.fetch_add(leases as u64, Ordering::Relaxed);
    }
}

/// The ended leases that nobody needs any more: every condition of the KCL's `LeaseCleanupManager`, and the shard is not
/// listed.
/// - nothing is pending at any destination, and the row has a form that is known (I13);
/// - its own parents' leases are gone;
/// - the leases of all its children are there, and begun: their checkpoints are past TRIM_HORIZON. All are those that
///   its row names, and as many as cover its hash range.
pub fn over<'a>(rows: &'a Rows, shards: &[ShardInfo]) -> Vec<&'a LeaseRow> {
    let listed: BTreeSet<&ShardId> = shards.iter().map(|shard| &shard.id).collect();
    // A list that knows none of the leased shards is of another stream, or none at all.
    if !rows.leases.keys().any(|key| listed.contains(&key.shard())) {
        return Vec::new();
    }
    let mut children: BTreeMap<&ShardId, Vec<&LeaseRow>> = BTreeMap::new();
    for row in rows.leases.values() {
        for parent in &row.parents {
            children.entry(parent).or_default().push(row);
        }
    }
    let over = |row: &&LeaseRow| {
        let shard = row.key.shard();
        let named: Vec<Option<&LeaseRow>> = row.children.iter().map(|child| rows.get(&LeaseKey::of(child))).collect();
        let all = children.get(&shard).map(Vec::as_slice).unwrap_or_default();
        row.ended()
            && row.version_known()
            && row.destinations.values().all(|position| position.pending.is_none())
            && !listed.contains(&shard)
            && row.parents.iter().all(|parent| rows.gone(&LeaseKey::of(parent)))
            && !all.is_empty()
            && all.iter().copied().map(Some).chain(named).all(|child| child.is_some_and(begun))
            && (row.hash_range.map_or(!row.children.is_empty(), |range| covers(all, range)))
    };
    rows.leases.values().filter(over).collect()
}

fn begun(row: &LeaseRow) -> bool {
    row.checkpoint > Position::TrimHorizon
}

/// Whether the ranges of these leases leave no hash key of the range out.
fn covers(rows: &[&LeaseRow], range: HashRange) -> bool {
    first_gap(rows.iter().filter_map(|row| row.hash_range).collect(), range).is_none()
}

/// The first part of `whole` that none of the ranges covers.
fn first_gap(mut ranges: Vec<HashRange>, whole: HashRange) -> Option<HashRange> {
    ranges.sort_by_key(|range| range.start);
    let mut next = whole.start;
    for range in ranges.into_iter().filter(|range| range.end >= whole.start) {
        if range.start > next {
            return Some(HashRange { start: next, end: (range.start - 1).min(whole.end) });
        }
        match range.end.checked_add(1).filter(|after| *after <= whole.end) {
            Some(after) => next = next.max(after),
            None => return None,
        }
    }
    Some(HashRange { start: next, end: whole.end })
}

/// The hash keys that no active lease covers, the first such range; `None` where every key is covered, or where rows
/// that cannot be read, or have no range, leave it open. A lease of Java without a position covers its range all the same.
pub fn hole(rows: &Rows) -> Option<HashRange> {
    if rows.leases.is_empty() || rows.unreadable.keys().any(|key| !rows.unpinned.contains_key(key)) {
        return None;
    }
    let unpinned = rows.unpinned.values().map(|unpinned| &unpinned.row);
    let active = rows.leases.values().filter(|row| !row.ended()).chain(unpinned);
    let ranges: Option<Vec<HashRange>> = active.map(|row| row.hash_range).collect();
    first_gap(ranges?, HashRange { start: 0, end: u128::MAX })
}

/// Watches for holes from scan to scan.
#[derive(Debug, Default)]
pub struct Audit {
    seen: Option<(HashRange, u32)>,
}

impl Audit {
    /// Looks at a scan. `true`: the same hole for the third time, and every third time after it; list the shards and make
    /// what is missing. A hole that shifts is leases that are being made.
    pub fn look(&mut self, rows: &Rows) -> bool {
        let times = match (hole(rows), self.seen) {
            (None, _) => {
                self.seen = None;
                return false;
            }
            (Some(now), Some((before, times))) if now == before => {
                self.seen = Some((now, times + 1));
                times + 1
            }
            (Some(now), _) => {
                self.seen = Some((now, 1));
                1
            }
        };
        times.is_multiple_of(SEEN_BEFORE_MENDED)
    }

    /// The hole that is believed to be one.
    pub fn found(&self) -> Option<HashRange> {
        self.seen.filter(|(_, times)| *times >= SEEN_BEFORE_MENDED).map(|(range, _)| range)
    }
}

/// Audits a scan, counts and says what it found. Whether the shards have to be listed now.
pub(crate) fn audit(context: &Context, audit: &mut Audit, rows: &Rows) -> bool {
    let before = audit.found();
    let mend = audit.look(rows);
    let found = audit.found();
    context.upkeep.hole.store(u64::from(found.is_some()), Ordering::Relaxed);
    if let Some(HashRange { start, end }) = found.filter(|_| before.is_none()) {
        context.upkeep.holes.fetch_add(1, Ordering::Relaxed);
        warn!(%start, %end, "no lease covers these hash keys: the shards are listed, and what is missing is made");
    } else if before.is_some() && found.is_none() {
        info!("every hash key is covered by a lease again");
    }
    mend
}

/// Whether it is this worker's turn to list the shards more often than seldom: the first by name of those that own
/// leases. Two lists at once do no harm; a fleet that lists as one costs the stream less.
pub(crate) fn is_lister(context: &Context, rows: &Rows) -> bool {
    let owners = rows.leases.values().filter(|row| !row.ended()).filter_map(|row| row.owner.as_ref());
    owners.min().is_none_or(|first| *first == context.worker)
}

/// Lists the shards, makes the leases that are missing, and deletes those that are over. How many were made.
pub(crate) async fn sync(context: &Context) -> Result<usize, CommitError> {
    // Rows read just now: what is missing among older ones may be a lease that has ended since.
    let rows = context.table.scan().await?;
    let shards = context.catalog.list().await.map_err(|cause| CommitError::Unknown { cause })?;
    let made = moves::make(context, hierarchy::missing(&shards, &rows, context.start.start, &context.stream)).await?;
    for row in over(&rows, &shards) {
        match context.table.delete_ended(row).await {
            Ok(()) => {
                context.upkeep.deleted.fetch_add(1, Ordering::Relaxed);
                info!(shard = %row.key, "lease deleted: the stream does not keep the shard any more, its children are begun");
            }
            Err(CommitError::Refused { .. }) => debug!(shard = %row.key, "the lease has changed, or is gone already"),
            Err(error) => {
                // What was made stays made; the next list tries again.
                warn!(shard = %row.key, %error, "the lease of a shard that is over could not be deleted");
                break;
            }
        }
    }
    Ok(made)
}

#[cfg(test)]
mod tests;
