//! Whole workers under a paused clock, with seeded faults: the second ring of the simulation.

pub mod ring1;
pub mod simulation;
pub mod storm;
