//! Delays that grow: doubled from failure to failure, up to a bound, half of each drawn at random so that readers which
//! failed together do not come back together.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use standpipe_flow::Random;

/// The delays of one row of failures.
#[derive(Debug)]
pub(crate) struct Backoff {
    builder: ExponentialBuilder,
    delays: ExponentialBackoff,
    failures: u32,
}

impl Backoff {
    /// Delays from `first` on, doubled up to `longest`.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        // No jitter of backon's: its generator is not the one that a simulation seeds.
        let builder = ExponentialBuilder::new()
            .with_min_delay(first)
            .with_max_delay(longest)
            .with_factor(2.0)
            .without_max_times();
        Self { builder, delays: builder.build(), failures: 0 }
    }

    /// The delay after one more failure: between a half and the whole of the present step.
    pub(crate) fn failed(&mut self, random: &dyn Random) -> Duration {
        self.failures = self.failures.saturating_add(1);
        // `None` cannot come: neither the number of delays nor their sum is bounded.
        let whole = self.delays.next().unwrap_or_default();
        let half = whole / 2;
        let share = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
        half + Duration::from_micros(random.below(share.saturating_add(1)))
    }

    /// It worked: the next failure is a first one again.
    pub(crate) fn worked(&mut self) {
        if self.failures > 0 {
            self.failures = 0;
            self.delays = self.builder.build();
        }
    }

    /// Failures in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Seeded;

    #[test]
    fn delays_double_up_to_the_bound_and_start_over() {
        let random = Seeded::new(3);
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for whole in [100, 200, 400, 800, 1000, 1000] {
            let delay = backoff.failed(&random).as_millis();
            assert!((whole / 2..=whole).contains(&delay), "{delay} of {whole}");
        }
        assert_eq!(backoff.failures(), 6);
        backoff.worked();
        assert!(backoff.failed(&random).as_millis() <= 100);
    }

    #[test]
    fn readers_that_fail_together_come_back_apart() {
        let random = Seeded::new(5);
        let first = || Backoff::new(Duration::from_secs(1), Duration::from_secs(8)).failed(&random);
        assert_ne!(first(), first());
    }
}
