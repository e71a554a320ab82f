//! Time and randomness as arguments. Library code never reads a clock or a random source by itself, so that a
//! simulation can give both and every run of a seed is the same.

use std::fmt::{self, Debug};
use std::time::Duration;

/// Milliseconds since 1970-01-01T00:00:00Z, as Kinesis's ApproximateArrivalTimestamp and DynamoDB attributes carry them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(pub u64);

impl Debug for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

impl Millis {
    /// How long `self` is after `earlier`; zero if it is not.
    pub fn since(self, earlier: Millis) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// The two clocks a worker may read. No safety decision reads [`Clock::wall`] (I12).
pub trait Clock: Debug + Send + Sync + 'static {
    /// The time of day: for object names, log lines and lag only.
    fn wall(&self) -> Millis;
    /// Time since an arbitrary start that never goes back and goes on while the process is suspended or not, as the
    /// platform's monotonic clock does. Deadlines of leases are instants on this axis.
    fn elapsed(&self) -> Duration;
}

/// A source of randomness: the system's in production, seeded in a simulation.
pub trait Random: Debug + Send + Sync + 'static {
    /// The next 64 random bits.
    fn next(&self) -> u64;

    /// A number in `0..bound`; 0 when `bound` is 0.
    fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next() % bound }
    }
}
