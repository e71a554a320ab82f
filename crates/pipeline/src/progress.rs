//! What readers have seen: for the lag, for the watchdog, and for `run --until caught-up`.
//!
//! Never here: what becomes of it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use standpipe_flow::{LeaseKey, Millis};

/// What one reader of a shard has seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// When a read last answered ([`standpipe_flow::Clock::elapsed`]).
    pub read_at: Option<Duration>,
    /// Since when the present read is under way; `None` while the reader waits for memory, for a transform, or for
    /// delivery to take what it read.
    pub reading_since: Option<Duration>,
    /// MillisBehindLatest of the last answer.
    pub behind: Duration,
    /// Arrival of the newest record read.
    pub newest: Option<Millis>,
    /// When an answer was first empty with nothing behind, with only such answers since.
    pub at_tip_since: Option<Duration>,
    /// Whether the tip was confirmed by a second such answer at least a second after the first.
    pub at_tip: bool,
    /// Read to the end.
    pub ended: bool,
}

/// What all readers of a pipeline have seen, by lease and by the reader's number ([`crate::feed`]).
#[derive(Debug, Default)]
pub struct Progress(Mutex<BTreeMap<(LeaseKey, u64), Seen>>);

impl Progress {
    /// A copy for one reader.
    pub fn get(&self, lease: &LeaseKey, reader: u64) -> Option<Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&(lease.clone(), reader)).cloned()
    }

    /// Forgets a reader.
    pub fn forget(&self, lease: &LeaseKey, reader: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(lease.clone(), reader));
    }

    /// How long the present read of a reader has been under way: zero while it is held back by the budget, `None`
    /// for one that has not begun. A read that fails is over; the next one begins anew.
    pub fn read_age(&self, lease: &LeaseKey, reader: u64, now: Duration) -> Option<Duration> {
        let seen = self.get(lease, reader).filter(|seen| !seen.ended)?;
        Some(seen.reading_since.map_or(Duration::ZERO, |since| now.saturating_sub(since)))
    }

    pub(crate) fn note(&self, of: &(LeaseKey, u64), note: impl FnOnce(&mut Seen)) {
        note(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(of.clone()).or_default());
    }

    pub(crate) fn begins(&self, of: &(LeaseKey, u64), now: Duration) {
        self.note(of, |seen| seen.reading_since = Some(now));
    }

    pub(crate) fn is_over(&self, of: &(LeaseKey, u64)) {
        self.note(of, |seen| seen.reading_since = None);
    }

    /// The present read, if there is one, is not looked at for a while: since when it was under way.
    pub(crate) fn suspend(&self, of: &(LeaseKey, u64)) -> Option<Duration> {
        let mut since = None;
        self.note(of, |seen| since = seen.reading_since.take());
        since
    }

    /// It is looked at again from `now` on.
    pub(crate) fn resume(&self, of: &(LeaseKey, u64), since: Option<Duration>, now: Duration) {
        self.note(of, |seen| seen.reading_since = since.map(|_| now));
    }

    pub(crate) fn chunk(&self, of: &(LeaseKey, u64), (behind, newest): (Duration, Option<Millis>), now: Duration) {
        self.note(of, |seen| {
            seen.read_at = Some(now);
            seen.behind = behind;
            // Of a chunk of which everything was left out nobody knows it.
            seen.newest = newest.or(seen.newest);
            (seen.at_tip_since, seen.at_tip) = (None, false);
        });
    }

    pub(crate) fn empty(&self, of: &(LeaseKey, u64), behind: Duration, now: Duration) {
        self.note(of, |seen| {
            seen.read_at = Some(now);
            seen.behind = behind;
            if !behind.is_zero() {
                (seen.at_tip_since, seen.at_tip) = (None, false);
            } else if let Some(since) = seen.at_tip_since {
                seen.at_tip |= now.saturating_sub(since) >= Duration::from_secs(1);
            } else {
                seen.at_tip_since = Some(now);
            }
        });
    }
}
