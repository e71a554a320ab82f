//! Whether a shard is read by subscription or by polling, and when it may be subscribed to: pure, no runtime, no clock.
//!
//! The service allows one SubscribeToShard a second for a consumer and a shard, and refuses a second one within 5 s of a
//! successful one (API reference). A subscription that ended is made anew after 1 to 2 s; one that broke off soon after
//! it was made, not before those 5 s are over. While somebody else has the shard, or after several failures in a row, or
//! when subscribing is refused, the shard is polled for a while: reading goes on, at the cost of the shared quota.
//!
//! Every instant is one of [`standpipe_flow::Clock::elapsed`].

use std::time::Duration;

use standpipe_flow::Random;

use crate::backoff::Backoff;
use crate::errors::Kind;

/// From the end of a subscription to the next, and as much again at random: subscriptions that began together must not
/// be renewed together.
const RENEW: Duration = Duration::from_secs(1);
/// A subscription within this time of a successful one is refused (API reference), and the clocks may differ a little.
const REFUSED: Duration = Duration::from_millis(5_200);
/// A subscription that gave events for so long was a good one: a failure after it is a first one again.
const STEADY: Duration = Duration::from_secs(30);
/// So many failures in a row, and the shard is polled.
const FAILURES_MAX: u32 = 3;
/// How long it is polled then, doubled from time to time.
const POLL_FIRST: Duration = Duration::from_secs(60);
const POLL_LONGEST: Duration = Duration::from_secs(600);

/// How a shard is read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Way {
    /// GetRecords.
    Polling,
    /// SubscribeToShard.
    FanOut,
}

impl Way {
    /// As a label of a metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Polling => "polling",
            Self::FanOut => "fan_out",
        }
    }
}

/// What the reader of one shard knows about its subscriptions.
#[derive(Debug)]
pub(crate) struct Turns {
    not_before: Duration,
    succeeded: Option<Duration>,
    polling_until: Option<Duration>,
    failures: u32,
    polling: Backoff,
}

impl Turns {
    pub(crate) fn new() -> Self {
        Self {
            not_before: Duration::ZERO,
            succeeded: None,
            polling_until: None,
            failures: 0,
            polling: Backoff::new(POLL_FIRST, POLL_LONGEST),
        }
    }

    /// How the shard is to be read now.
    pub(crate) fn way(&self, now: Duration) -> Way {
        if self.polling_until.is_some_and(|until| now < until) { Way::Polling } else { Way::FanOut }
    }

    /// When SubscribeToShard may be called next.
    pub(crate) fn next_call(&self) -> Duration {
        self.not_before
    }

    /// A SubscribeToShard goes out. Counted before the answer: a call whose future is dropped was made all the same.
    pub(crate) fn called(&mut self, now: Duration) {
        self.not_before = now + RENEW;
    }

    /// It succeeded.
    pub(crate) fn subscribed(&mut self, now: Duration) {
        self.succeeded = Some(now);
        self.polling_until = None;
    }

    /// The subscription ended in order.
    pub(crate) fn over(&mut self, now: Duration, random: &dyn Random) {
        self.worked();
        self.not_before = now + jittered(RENEW, random);
    }

    /// A call failed, or a subscription broke off.
    pub(crate) fn failed(&mut self, now: Duration, kind: Kind, random: &dyn Random) {
        if self.succeeded.is_some_and(|at| now.saturating_sub(at) >= STEADY && self.polling_until.is_none()) {
            self.worked();
        }
        self.failures = self.failures.saturating_add(1);
        let free = self.succeeded.map_or(Duration::ZERO, |at| at + REFUSED);
        self.not_before = free.max(now + jittered(RENEW, random));
        match kind {
            // Nobody knows since when somebody else has it.
            Kind::InUse => self.poll_until(now + jittered(REFUSED, random)),
            Kind::Gone | Kind::Denied | Kind::Refused => self.poll_for_a_while(now, random),
            Kind::Throttled | Kind::Iterator | Kind::Transient => {}
        }
        if self.failures >= FAILURES_MAX {
            self.poll_for_a_while(now, random);
        }
        // A failure after this one is no failure of the subscription that was good.
        self.succeeded = self.succeeded.filter(|at| now < *at + REFUSED);
    }

    fn worked(&mut self) {
        self.failures = 0;
        self.polling.worked();
    }

    fn poll_for_a_while(&mut self, now: Duration, random: &dyn Random) {
        let pause = self.polling.failed(random);
        self.poll_until(now + pause);
    }

    fn poll_until(&mut self, until: Duration) {
        self.polling_until = Some(self.polling_until.map_or(until, |before| before.max(until)));
        self.not_before = self.not_before.max(until);
    }
}

/// The whole span, and as much again at random.
fn jittered(span: Duration, random: &dyn Random) -> Duration {
    let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    span + Duration::from_micros(random.below(micros))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Seeded;

    const SEC: Duration = Duration::from_secs(1);

    #[test]
    fn a_renewal_waits_one_to_two_seconds() {
        let random = Seeded::new(1);
        let mut turns = Turns::new();
        assert_eq!((turns.way(SEC), turns.next_call()), (Way::FanOut, Duration::ZERO));
        turns.called(SEC);
        assert_eq!(turns.next_call(), 2 * SEC, "one call a second");
        turns.subscribed(SEC);
        turns.over(301 * SEC, &random);
        assert!((302 * SEC..303 * SEC).contains(&turns.next_call()), "{:?}", turns.next_call());
        assert_eq!(turns.way(301 * SEC), Way::FanOut);
    }

    #[test]
    fn a_subscription_that_breaks_at_once_is_not_asked_for_while_it_would_be_refused() {
        let random = Seeded::new(2);
        let mut turns = Turns::new();
        turns.called(10 * SEC);
        turns.subscribed(10 * SEC);
        turns.failed(11 * SEC, Kind::Transient, &random);
        assert_eq!(turns.next_call(), 10 * SEC + REFUSED);
        assert_eq!(turns.way(12 * SEC), Way::FanOut);
    }

    #[test]
    fn what_somebody_else_has_is_polled_for_five_seconds_at_least() {
        let random = Seeded::new(3);
        let mut turns = Turns::new();
        turns.called(SEC);
        turns.failed(SEC, Kind::InUse, &random);
        assert_eq!(turns.way(6 * SEC), Way::Polling);
        assert!(turns.next_call() >= 6 * SEC);
        assert_eq!(turns.way(12 * SEC), Way::FanOut);
        turns.subscribed(12 * SEC);
        assert_eq!(turns.way(12 * SEC), Way::FanOut);
    }

    #[test]
    fn three_failures_in_a_row_are_a_reason_to_poll_and_longer_each_time() {
        let random = Seeded::new(4);
        let mut turns = Turns::new();
        let mut now = SEC;
        for failure in 1..=3 {
            turns.called(now);
            turns.failed(now, Kind::Transient, &random);
            assert_eq!(turns.way(now) == Way::Polling, failure == 3);
            now = turns.next_call();
        }
        let mut pauses = Vec::new();
        for _ in 0..6 {
            assert_eq!(turns.way(now), Way::FanOut, "it is tried again");
            turns.failed(now, Kind::Transient, &random);
            pauses.push(turns.next_call() - now);
            now = turns.next_call();
        }
        assert!(pauses[0] >= 60 * SEC && pauses[5] >= 300 * SEC, "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= POLL_LONGEST), "{pauses:?}");
        turns.subscribed(now);
        turns.failed(now + STEADY, Kind::Transient, &random);
        assert_eq!(turns.way(now + STEADY), Way::FanOut, "a good subscription begins a new count");
    }

    #[test]
    fn what_is_refused_is_polled_at_once() {
        let random = Seeded::new(5);
        for kind in [Kind::Gone, Kind::Denied, Kind::Refused] {
            let mut turns = Turns::new();
            turns.failed(SEC, kind, &random);
            assert_eq!(turns.way(30 * SEC), Way::Polling, "{kind:?}");
        }
    }
}
