//! What must always hold, by the ids of `docs/decisions/commit-protocol.md`. A breach is
//! counted (`standpipe_invariant_violations_total`) and logged, and the caller refuses the step; both rings of the
//! simulation demand that the count is 0.

/// The invariants that are checked while running. The others are asserted in the pure protocol, or checked from
/// outside by the simulation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Invariant {
    /// A chunk was read under another acquisition than the one that buffers it.
    I9,
    /// What is buffered does not continue what was buffered.
    I15,
}

impl Invariant {
    /// Its id.
    pub fn id(self) -> &'static str {
        match self {
            Self::I9 => "I9",
            Self::I15 => "I15",
        }
    }
}
