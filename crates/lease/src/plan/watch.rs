//! `lease ->`: PURE. What becomes of each row from scan to scan: since when its counter stands still, whom it passed from.
//!
//! Never here: what to do about it.

use std::collections::BTreeMap;
use std::time::Duration;

use standpipe_flow::{LeaseKey, LeaseRow, WorkerId};

use super::Observed;

/// The watch over all rows of a table.
#[derive(Debug, Default)]
pub struct Watch(BTreeMap<LeaseKey, Seen>);

#[derive(Debug)]
struct Seen {
    counter: u64,
    unchanged_since: Duration,
    owner: Option<WorkerId>,
    left_by: Option<WorkerId>,
    moved_at: Option<Duration>,
    next: Option<WorkerId>,
    waited_since: Duration,
}

impl Watch {
    /// Forgets the rows that are gone.
    pub fn keep(&mut self, there: impl Fn(&LeaseKey) -> bool) {
        self.0.retain(|key, _| there(key));
    }

    /// Looks at a row of a scan that ended at an instant.
    pub fn see(&mut self, row: &LeaseRow, at: Duration) -> Observed {
        let seen = self.0.entry(row.key.clone()).or_insert_with(|| Seen {
            counter: row.counter,
            unchanged_since: at,
            owner: row.owner.clone(),
            left_by: None,
            moved_at: None,
            next: row.next.clone(),
            waited_since: at,
        });
        if seen.counter != row.counter {
            (seen.counter, seen.unchanged_since) = (row.counter, at);
        }
        if seen.next != row.next {
            (seen.next, seen.waited_since) = (row.next.clone(), at);
        }
        if seen.owner != row.owner {
            seen.left_by = seen.owner.take().or(seen.left_by.take());
            seen.owner.clone_from(&row.owner);
            // Coming back to whom it was before is no move.
            if row.owner.is_some() {
                let before = seen.left_by.take();
                if before.is_some() && before != row.owner {
                    seen.moved_at = Some(at);
                }
            }
        }
        Observed {
            row: row.clone(),
            unchanged_since: seen.unchanged_since,
            left_by: seen.left_by.clone(),
            moved_at: seen.moved_at,
            waited_since: seen.waited_since,
            unpinned: false,
        }
    }
}
