//! What the tests of every destination stand on: computations in place, numbers that count up, the runtime's paused clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use standpipe_flow::{Clock, Job, Millis, Offload, Random};

/// Runs a job where it stands, as a simulation does.
#[derive(Debug)]
pub(crate) struct Inline;

impl Offload for Inline {
    fn run(&self, job: Job) {
        job();
    }
}

/// Counts up: every name is another.
#[derive(Debug, Default)]
pub(crate) struct Counting(pub(crate) AtomicU64);

impl Random for Counting {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// The runtime's clock, from the instant it was made at.
#[derive(Debug)]
pub(crate) struct Paused(tokio::time::Instant);

impl Paused {
    pub(crate) fn now() -> Self {
        Self(tokio::time::Instant::now())
    }
}

impl Clock for Paused {
    /// 2026-09-21T14:13:20Z.
    fn wall(&self) -> Millis {
        Millis(1_790_000_000_000)
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
