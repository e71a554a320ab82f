//! The simulation in two rings (the delivery half over scripted stores; whole workers over the SDK and the emulator), the
//! storm of real processes, the fuzzer, and a fleet for tests of whole workers.

pub mod fleet;
pub mod fuzz;
pub mod ring1;
pub mod simulation;
pub mod storm;
