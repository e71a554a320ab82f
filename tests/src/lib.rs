//! The simulation in two rings (the delivery half over scripted stores; whole workers over the SDK and the emulator), and
//! the storm of real processes.

pub mod ring1;
pub mod simulation;
pub mod storm;
