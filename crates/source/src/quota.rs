//! When a shard may be read next: pure, no runtime, no clock of its own.
//!
//! The service gives a shard 5 GetRecords and 2 MiB a second, shared by all its readers (API reference, GetRecords).
//! Calls are spaced, bytes are a bucket that may go into debt, a throttle halves the rate and every answer raises it a
//! little (AIMD), so that foreign readers get their share. At the tip the next call waits for the poll interval.
//!
//! Every instant is one of [`standpipe_flow::Clock::elapsed`], and is counted from the start of a call, not from the
//! end of its answer: a reader that is behind makes its 4.5 calls a second however slow the answers are.

use std::time::Duration;

use standpipe_flow::Random;

use crate::backoff::Backoff;

/// Calls a second at best: 5 by the API, less what jitter of the network may push together.
const CALLS_PER_SECOND: f64 = 4.5;
/// Calls a second at worst, after many throttles.
const CALLS_PER_SECOND_MIN: f64 = 0.5;
/// What one answer without a throttle gives back.
const CALLS_PER_SECOND_STEP: f64 = 0.25;
/// What a shard gives, in bytes a second (API reference).
const BYTES_PER_SECOND: f64 = 2.0 * 1024.0 * 1024.0;
/// An answer above a second's worth is paid in full: the service refuses every call for bytes / 2 MiB seconds (10 MiB:
/// 5 s; API reference), whatever was left unused before.
const BIG_ANSWER_BYTES: usize = 2 * 1024 * 1024;
/// After a shortage of throughput, calls within the next second are refused (API reference).
const THROTTLE_FIRST: Duration = Duration::from_secs(1);
const THROTTLE_LONGEST: Duration = Duration::from_secs(10);
/// After any other failure: doubled from here up to [`Pace::new`]'s `failure_longest`.
const FAILURE_FIRST: Duration = Duration::from_millis(200);
/// GetShardIterator has 5 calls a second of its own.
const ITERATOR_SPACING: Duration = Duration::from_millis(222);

/// What to do after a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum After {
    /// Try again now: once in a row.
    Now,
    /// The pace holds the next call back.
    Later,
}

/// The pace of one shard.
#[derive(Debug)]
pub(crate) struct Pace {
    poll: Duration,
    calls_per_second: f64,
    next_call: Duration,
    next_iterator: Duration,
    not_before: Duration,
    last_call: Duration,
    bytes: f64,
    bytes_at: Duration,
    throttles: Backoff,
    failures: Backoff,
    free_retry: bool,
}

impl Pace {
    /// A shard that has not been read yet; `poll` is the interval between calls at the tip, `failure_longest` the pause
    /// after many failures.
    pub(crate) fn new(poll: Duration, failure_longest: Duration) -> Self {
        Self {
            poll,
            calls_per_second: CALLS_PER_SECOND,
            next_call: Duration::ZERO,
            next_iterator: Duration::ZERO,
            not_before: Duration::ZERO,
            last_call: Duration::ZERO,
            bytes: BYTES_PER_SECOND,
            bytes_at: Duration::ZERO,
            throttles: Backoff::new(THROTTLE_FIRST, THROTTLE_LONGEST),
            failures: Backoff::new(FAILURE_FIRST, failure_longest),
            free_retry: true,
        }
    }

    /// When GetRecords may be called next.
    pub(crate) fn next_call(&self) -> Duration {
        self.next_call.max(self.not_before).max(self.bytes_ready())
    }

    /// When GetShardIterator may be called next.
    pub(crate) fn next_iterator(&self) -> Duration {
        self.next_iterator.max(self.not_before)
    }

    /// A GetRecords goes out. Counted before the answer: a call whose future is dropped was made all the same.
    pub(crate) fn called(&mut self, now: Duration) {
        self.last_call = now;
        self.next_call = now + Duration::from_secs_f64(1.0 / self.calls_per_second);
    }

    /// A GetShardIterator goes out.
    pub(crate) fn iterator_called(&mut self, now: Duration) {
        self.next_iterator = now + ITERATOR_SPACING;
    }

    /// An answer came with so many bytes of data and partition keys.
    pub(crate) fn answered(&mut self, now: Duration, bytes: usize, at_tip: bool) {
        self.throttles.worked();
        self.failures.worked();
        self.free_retry = true;
        self.calls_per_second = (self.calls_per_second + CALLS_PER_SECOND_STEP).min(CALLS_PER_SECOND);
        let passed = now.saturating_sub(self.bytes_at).as_secs_f64();
        let level = (self.bytes + passed * BYTES_PER_SECOND).min(BYTES_PER_SECOND);
        let level = if bytes > BIG_ANSWER_BYTES { level.min(0.0) } else { level };
        self.bytes = level - bytes as f64;
        self.bytes_at = now;
        if at_tip {
            self.next_call = self.next_call.max(self.last_call + self.poll);
        }
    }

    /// The service said that the shard's throughput is spent.
    pub(crate) fn throttled(&mut self, now: Duration, random: &dyn Random) {
        self.calls_per_second = (self.calls_per_second / 2.0).max(CALLS_PER_SECOND_MIN);
        self.not_before = now + self.throttles.failed(random);
    }

    /// Throttles in a row.
    pub(crate) fn throttles(&self) -> u32 {
        self.throttles.failures()
    }

    /// A call failed in a way that a fresh connection or fresh credentials may cure at once.
    pub(crate) fn failed(&mut self, now: Duration, random: &dyn Random) -> After {
        if std::mem::take(&mut self.free_retry) {
            self.next_call = self.next_call.min(now);
            self.next_iterator = self.next_iterator.min(now);
            return After::Now;
        }
        self.refused(now, random);
        After::Later
    }

    /// A call failed in a way that an immediate retry cannot cure.
    pub(crate) fn refused(&mut self, now: Duration, random: &dyn Random) {
        self.not_before = now + self.failures.failed(random);
    }

    /// When the bucket of bytes is above zero again.
    fn bytes_ready(&self) -> Duration {
        if self.bytes > 0.0 {
            Duration::ZERO
        } else {
            self.bytes_at + Duration::from_secs_f64(-self.bytes / BYTES_PER_SECOND)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Seeded;

    const MIB: usize = 1024 * 1024;
    const SEC: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(10);

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Reads from `start` for `span`, each answer taking `latency`; gives the instants of the calls.
    fn run(pace: &mut Pace, span: Duration, latency: Duration, bytes: usize, at_tip: bool) -> Vec<Duration> {
        let (mut now, mut calls) = (Duration::ZERO, Vec::new());
        loop {
            now = now.max(pace.next_call());
            if now >= span {
                return calls;
            }
            pace.called(now);
            calls.push(now);
            now += latency;
            pace.answered(now, bytes, at_tip);
        }
    }

    /// Regression, seen elsewhere: a fixed pause after every answer makes slow answers slow the reader down.
    #[test]
    fn a_reader_that_is_behind_makes_its_calls_however_slow_the_answers_are() {
        for latency in [1, 50, 200] {
            let calls = run(&mut Pace::new(SEC, LONGEST), 10 * SEC, millis(latency), 1000, false);
            assert!((44..=46).contains(&calls.len()), "{} calls with {latency} ms answers", calls.len());
        }
    }

    #[test]
    fn never_more_than_five_calls_in_a_second() {
        let calls = run(&mut Pace::new(Duration::ZERO, LONGEST), 20 * SEC, Duration::ZERO, 0, true);
        for six in calls.windows(6) {
            assert!(six[5] - six[0] > SEC, "six calls within {:?}", six[5] - six[0]);
        }
    }

    #[test]
    fn at_the_tip_the_poll_interval_counts_from_call_to_call() {
        let calls = run(&mut Pace::new(SEC, LONGEST), 10 * SEC, millis(300), 100, true);
        assert_eq!(calls, (0..10).map(|at| at * SEC).collect::<Vec<_>>());
    }

    #[test]
    fn two_mebibytes_a_second_over_time() {
        let calls = run(&mut Pace::new(SEC, LONGEST), 60 * SEC, millis(20), MIB, false);
        assert!((118..=123).contains(&calls.len()), "{} MiB in 60 s", calls.len());
    }

    #[test]
    fn a_big_answer_costs_its_whole_time() {
        let mut pace = Pace::new(SEC, LONGEST);
        pace.called(10 * SEC);
        pace.answered(10 * SEC, 10 * MIB, false);
        assert_eq!(pace.next_call(), 15 * SEC);
        let mut pace = Pace::new(SEC, LONGEST);
        pace.called(10 * SEC);
        pace.answered(10 * SEC, 3 * MIB / 2, false);
        assert!(pace.next_call() < 11 * SEC, "a second's worth was in the bucket");
    }

    #[test]
    fn a_throttle_waits_and_halves_the_rate_and_answers_bring_it_back() {
        let (mut pace, random) = (Pace::new(SEC, LONGEST), Seeded::new(1));
        pace.called(SEC);
        pace.throttled(SEC, &random);
        assert!((millis(1500)..=2 * SEC).contains(&pace.next_call()), "{:?}", pace.next_call());
        pace.called(3 * SEC);
        assert_eq!(pace.next_call(), 3 * SEC + Duration::from_secs_f64(1.0 / 2.25));
        for _ in 0..9 {
            pace.answered(4 * SEC, 0, false);
        }
        pace.called(5 * SEC);
        assert_eq!(pace.next_call(), 5 * SEC + Duration::from_secs_f64(1.0 / 4.5));
    }

    /// A shard's five calls a second, taken by whoever asks.
    #[derive(Default)]
    struct Calls(std::collections::VecDeque<Duration>);

    impl Calls {
        fn admit(&mut self, now: Duration) -> bool {
            while self.0.front().is_some_and(|at| *at + SEC <= now) {
                self.0.pop_front();
            }
            let free = self.0.len() < 5;
            if free {
                self.0.push_back(now);
            }
            free
        }
    }

    #[test]
    fn readers_of_one_shard_come_to_share_its_calls() {
        for readers in [2, 3] {
            let random = Seeded::new(7);
            let (mut calls, mut paces) =
                (Calls::default(), (0..readers).map(|_| Pace::new(SEC, LONGEST)).collect::<Vec<_>>());
            let (mut answers, mut throttles) = (vec![0_u32; readers], 0);
            loop {
                let turn = (0..readers).min_by_key(|reader| paces[*reader].next_call()).expect("a reader");
                let pace = &mut paces[turn];
                let now = pace.next_call();
                if now >= 120 * SEC {
                    break;
                }
                pace.called(now);
                if calls.admit(now) {
                    pace.answered(now, 1000, false);
                    answers[turn] += 1;
                } else {
                    pace.throttled(now, &random);
                    throttles += 1;
                }
            }
            let all: u32 = answers.iter().sum();
            assert!(all > 300, "{answers:?}: most of the 600 calls are used");
            assert!(throttles * 4 < all, "{throttles} throttles, {answers:?}");
            let fair = all / readers as u32;
            assert!(answers.iter().all(|got| *got * 2 > fair && *got < fair * 2), "{answers:?}");
        }
    }

    #[test]
    fn the_rate_stays_between_its_limits_whatever_happens() {
        let (mut pace, random) = (Pace::new(SEC, LONGEST), Seeded::new(3));
        let mut now = SEC;
        for step in 0..5_000 {
            pace.called(now);
            match random.below(3) {
                0 => pace.throttled(now, &random),
                1 => pace.answered(now, random.below(11 * MIB as u64) as usize, step % 2 == 0),
                _ => drop(pace.failed(now, &random)),
            }
            assert!((CALLS_PER_SECOND_MIN..=CALLS_PER_SECOND).contains(&pace.calls_per_second));
            let wait = pace.next_call().saturating_sub(now);
            assert!(wait <= LONGEST.max(THROTTLE_LONGEST), "{wait:?}");
            now = now.max(pace.next_call());
        }
    }

    #[test]
    fn throttles_never_stop_a_reader_for_good() {
        let (mut pace, random) = (Pace::new(SEC, LONGEST), Seeded::new(1));
        let mut now = SEC;
        for _ in 0..100 {
            pace.called(now);
            pace.throttled(now, &random);
            assert!(pace.next_call() - now <= THROTTLE_LONGEST);
            now = pace.next_call();
        }
        assert_eq!(pace.throttles(), 100);
    }

    #[test]
    fn one_free_retry_then_growing_waits_until_it_works() {
        let (mut pace, random) = (Pace::new(SEC, LONGEST), Seeded::new(1));
        pace.called(SEC);
        assert_eq!(pace.failed(SEC, &random), After::Now);
        assert!(pace.next_call() <= SEC, "the free retry waits for nothing");
        let mut now = SEC;
        let mut waits = Vec::new();
        for _ in 0..12 {
            pace.called(now);
            assert_eq!(pace.failed(now, &random), After::Later);
            waits.push(pace.next_call() - now);
            now = pace.next_call();
        }
        assert!(waits[0] >= millis(100) && waits[11] >= 5 * SEC, "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= LONGEST));
        pace.answered(now, 0, false);
        assert_eq!(pace.failed(now, &random), After::Now);
    }
}
