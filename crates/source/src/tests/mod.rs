//! The crate on the wire: the real client, answers from a script or from the emulator, a paused clock.

mod emulated;
mod fan_out;
mod fan_out_emulated;
mod script;
mod scripted;

use std::sync::Mutex;
use std::time::Duration;

use standpipe_flow::{Clock, Millis, Random};
use tokio::time::Instant;

/// SplitMix64: the same numbers for the same seed.
#[derive(Debug)]
pub(crate) struct Seeded(Mutex<u64>);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }
}

impl Random for Seeded {
    fn next(&self) -> u64 {
        let mut state = self.0.lock().expect("no test panics with the lock held");
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// The tokio clock, so that it stands still while a test thinks and jumps while it sleeps.
#[derive(Debug)]
pub(crate) struct TestClock(Instant);

impl TestClock {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }
}

impl Clock for TestClock {
    fn wall(&self) -> Millis {
        Millis(1_700_000_000_000 + u64::try_from(self.0.elapsed().as_millis()).expect("a short test"))
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
