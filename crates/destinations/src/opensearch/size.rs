//! How large a request may be: what the other side was seen to take, found again when that changes.
//!
//! A refused size is halved, or falls back to one that was taken. From there it grows by an eighth after each
//! [`STREAK`] full requests, up to the refused size but not to it; an hour later that is forgotten, and tried again: somebody may
//! have raised the limit, or it was a proxy that is gone. So a limit costs one refused request an hour.
//! Shared by all batches of a destination. Pure: no clock, no request.

use std::time::Duration;

/// Bytes of a request before compression: what OpenSearch advises for one, and half of the least that AWS's instances take.
const BYTES_MAX: usize = 5 << 20;
/// A request is not made smaller than this; below it is parted by number alone.
pub(super) const BYTES_MIN: usize = 64 << 10;
/// Full requests that were taken, before larger ones are made.
const STREAK: u32 = 16;
/// How long a refused size is remembered.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// The size.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Size {
    most: usize,
    /// The largest request that was taken since the last smaller one was refused.
    taken: usize,
    /// The last that was refused, and when.
    refused: Option<(usize, Duration)>,
    streak: u32,
}

impl Default for Size {
    fn default() -> Self {
        Self { most: BYTES_MAX, taken: 0, refused: None, streak: 0 }
    }
}

impl Size {
    /// Bytes of a request at most.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// A request of so many bytes was too large.
    pub(super) fn refused(&mut self, bytes: usize, now: Duration) {
        if self.taken >= bytes {
            self.taken = 0;
        }
        // Requests of one moment are refused together: the least of them says most.
        let least = (bytes / 2).max(self.taken).clamp(BYTES_MIN, BYTES_MAX);
        self.most = self.most.min(least);
        self.refused = Some((bytes, now));
        self.streak = 0;
    }

    /// A request of so many bytes was taken.
    pub(super) fn taken(&mut self, bytes: usize, now: Duration) {
        self.taken = self.taken.max(bytes);
        if self.most >= BYTES_MAX || bytes < self.most / 4 * 3 {
            return;
        }
        self.streak += 1;
        if self.streak < STREAK {
            return;
        }
        self.streak = 0;
        self.refused = self.refused.filter(|(_, at)| now.saturating_sub(*at) < REMEMBERED);
        let more = self.most + self.most / 8;
        match self.refused {
            // The last steps are not worth what they gain.
            Some((bytes, _)) if more >= bytes => {}
            _ => self.most = more.min(BYTES_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Sends as many full requests, one a second, to a server that takes so many bytes; gives how many it refused.
    fn sent(size: &mut Size, limit: usize, requests: u32, now: &mut Duration) -> usize {
        let mut refused = 0;
        for _ in 0..requests {
            *now += SECOND;
            let bytes = size.most();
            if bytes > limit {
                refused += 1;
                size.refused(bytes, *now);
            } else {
                size.taken(bytes, *now);
            }
        }
        refused
    }

    #[test]
    fn a_limit_is_found_and_costs_one_request_an_hour() {
        let (mut size, mut now) = (Size::default(), Duration::ZERO);
        assert_eq!(sent(&mut size, 300 << 10, 1_000, &mut now), 5, "5 MiB is halved five times");
        assert!(((240 << 10)..=(300 << 10)).contains(&size.most()), "{}", size.most());
        assert_eq!(sent(&mut size, 300 << 10, 36_000, &mut now), 10, "in ten hours");
        assert!(((240 << 10)..=(300 << 10)).contains(&size.most()), "{}", size.most());
    }

    #[test]
    fn a_limit_that_is_gone_is_noticed() {
        let (mut size, mut now) = (Size::default(), Duration::ZERO);
        sent(&mut size, 300 << 10, 1_000, &mut now);
        sent(&mut size, usize::MAX, 2 * 3600, &mut now);
        assert_eq!(size.most(), BYTES_MAX);
        assert_eq!(sent(&mut size, 200 << 10, 100, &mut now), 6, "and one that is new");
    }

    #[test]
    fn small_requests_say_nothing_of_large_ones() {
        let (mut size, mut now) = (Size::default(), Duration::ZERO);
        size.refused(1 << 20, now);
        let before = size.most();
        for _ in 0..1_000 {
            now += SECOND;
            size.taken(before / 2, now);
        }
        assert_eq!(size.most(), before);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

        #[test]
        fn whatever_is_said_the_size_stays_within_its_bounds(
            said in proptest::collection::vec((any::<bool>(), 0..(20_usize << 20), 0..5_000_u64), 0..200),
        ) {
            let (mut size, mut now) = (Size::default(), Duration::ZERO);
            for (taken, bytes, seconds) in said {
                now += Duration::from_secs(seconds);
                if taken { size.taken(bytes, now) } else { size.refused(bytes, now) }
                prop_assert!((BYTES_MIN..=BYTES_MAX).contains(&size.most()));
                prop_assert!(taken || size.most() <= (bytes / 2).max(size.taken).max(BYTES_MIN));
            }
        }
    }
}
