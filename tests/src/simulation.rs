//! One seed, one run: whole workers over the real SDK clients and the emulator in process, under tokio's paused clock.
//!
//! The seed decides the shards, the workers, what is produced when, and everything that goes wrong: crashes, cut and slow
//! connections (zombies whose requests arrive late), lost and repeated answers, throttles, services that are away,
//! splits and merges, three and more levels deep, workers that join and leave, several destinations of one read of which
//! now and then one is down, many small objects that are put. Then the faults stop, and everything that was produced must be
//! there exactly once at each destination, in order.
//! The list of requests and effects is hashed: the same seed must give the same list.

mod check;
mod faults;
pub mod matrix;
mod moments;
mod scene;
mod strikes;
mod world;

use std::collections::BTreeMap;

pub use world::{Inline, SimClock, SimRandom, run};

/// SplitMix64: small, seeded, good enough to choose faults.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Dice of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.roll() % (high - low + 1)
    }

    /// Yes, so many times out of a hundred.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.roll() % 100 < percent
    }
}

/// What came of a seed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Records put into the stream, each counted once for each destination.
    pub produced: usize,
    /// Records found in objects, each counted as often as it was found.
    pub found: usize,
    /// What is wrong: lost, repeated or disordered records, broken invariants. Empty is right.
    pub wrong: Vec<String>,
    /// Requests that the services saw.
    pub requests: usize,
    /// Hash over the list of requests and effects.
    pub trace: u64,
    /// Virtual seconds from the start to the end of the drain.
    pub seconds: u64,
    /// What happened, by name: kills, splits, recoveries by kind.
    pub events: BTreeMap<String, u64>,
    /// How often each row of the failure matrix was met.
    pub rows: matrix::Rows,
    /// The longest line from a shard that the stream began with to one that came of it.
    pub depth: usize,
    /// Records that the stream dropped while nobody was there, and whether that had to be said.
    pub expired: usize,
    /// Whether a position was there to tell how old it was.
    pub must_be_told: bool,
    /// How long the slowest shard waited for a read after the faults: milliseconds, and hundredths of a failover time.
    pub read_again: (u64, u64),
    /// Repeats that a consumer's delete made necessary.
    pub excused: usize,
}
