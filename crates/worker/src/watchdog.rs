//! `read`, seen from outside: PURE. What becomes of a shard whose reader is stuck, or has died.
//!
//! Every call to the service has a timeout, so a read that lasts for minutes is a defect: a timer that never fires, a
//! connection pool that never answers. Once, another reader is started where the first stood; if it happens again, the
//! lease is let go after a clean drain, so that another process may try.
//!
//! Never here: a reader that waits for memory, or for delivery to take what it read: that is held back, not stuck. A read
//! that fails is over, and its reader tries again by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use standpipe_flow::LeaseKey;

/// No read lasts so long: four throttles waited out in silence, each of at most 12 s, and five calls of at most 10 s.
const READ_LONGEST: Duration = Duration::from_secs(120);
/// A second time within this span is one time too many.
const MEMORY: Duration = Duration::from_secs(1800);

/// What to do about a reader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Start another where it stood.
    ReadOn,
    /// Let the lease go.
    LetGo,
}

/// What readers did lately.
#[derive(Debug)]
pub(crate) struct Watchdog {
    /// A read that is under way for so long is stuck.
    pub limit: Duration,
    stumbled: BTreeMap<LeaseKey, Duration>,
}

impl Watchdog {
    /// For readers that wait `poll` between two calls.
    pub(crate) fn new(poll: Duration) -> Self {
        Self { limit: READ_LONGEST + poll, stumbled: BTreeMap::new() }
    }

    /// The reader of a held lease is stuck, or has died, at `now`.
    pub(crate) fn stumbled(&mut self, lease: &LeaseKey, now: Duration) -> Verdict {
        match self.stumbled.insert(lease.clone(), now) {
            Some(before) if now.saturating_sub(before) < MEMORY => Verdict::LetGo,
            _ => Verdict::ReadOn,
        }
    }

    /// The lease is not held any more.
    pub(crate) fn forget(&mut self, lease: &LeaseKey) {
        self.stumbled.remove(lease);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_time_lets_the_lease_go_but_not_if_the_first_is_long_ago_or_was_another_tenure() {
        let (mut dog, lease) = (Watchdog::new(Duration::ZERO), LeaseKey::new("shardId-000000000001"));
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        assert_eq!(dog.stumbled(&lease, minutes(1)), Verdict::ReadOn);
        assert_eq!(dog.stumbled(&LeaseKey::new("another"), minutes(2)), Verdict::ReadOn);
        assert_eq!(dog.stumbled(&lease, minutes(31)), Verdict::ReadOn);
        assert_eq!(dog.stumbled(&lease, minutes(33)), Verdict::LetGo);
        dog.forget(&lease);
        assert_eq!(dog.stumbled(&lease, minutes(34)), Verdict::ReadOn);
    }
}
