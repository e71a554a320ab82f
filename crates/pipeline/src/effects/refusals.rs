//! For how long a destination has refused what is committed. PURE: the time comes in.
//!
//! Only time between refusals counts: one that is away refuses nothing. A commit that is taken back leaves its time to the
//! commits that its records come in next, or refusals would never be enough.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use standpipe_flow::{LeaseKey, Receipt};

/// How long a destination has refused one commit while it answered.
pub(super) struct Refusals {
    max: Option<Duration>,
    refused: Duration,
    last: Option<Duration>,
}

impl Refusals {
    /// Of a commit whose records were refused for so long before, in others.
    pub(super) fn new(max: Option<Duration>, before: Duration) -> Self {
        Self { max, refused: before, last: None }
    }

    /// Another refusal; whether they have lasted long enough.
    pub(super) fn are_enough(&mut self, now: Duration) -> bool {
        self.refused += self.last.map_or(Duration::ZERO, |last| now.saturating_sub(last));
        self.last = Some(now);
        self.max.is_some_and(|max| self.refused >= max)
    }

    /// An answer of another kind: the time until the next refusal does not count.
    pub(super) fn interrupt(&mut self) {
        self.last = None;
    }

    /// So far.
    pub(super) fn lasted(&self) -> Duration {
        self.refused
    }
}

/// What commits that were taken back have left, by shard; shared by all effects of a destination.
#[derive(Clone, Debug, Default)]
pub(crate) struct Carried(Arc<Mutex<BTreeMap<LeaseKey, Duration>>>);

impl Carried {
    fn map(&self) -> MutexGuard<'_, BTreeMap<LeaseKey, Duration>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For how long records of these shards were refused before.
    pub(super) fn of(&self, receipt: &Receipt) -> Duration {
        let map = self.map();
        receipt.shards.iter().filter_map(|shard| map.get(&shard.lease).copied()).max().unwrap_or_default()
    }

    /// The commit was lost: its records come again.
    pub(super) fn keep(&self, receipt: &Receipt, refused: Duration) {
        if !refused.is_zero() {
            self.map().extend(receipt.shards.iter().map(|shard| (shard.lease.clone(), refused)));
        }
    }

    /// The commit is delivered, or given up.
    pub(super) fn forget(&self, receipt: &Receipt) {
        self.map().retain(|lease, _| receipt.shards.iter().all(|shard| shard.lease != *lease));
    }
}
