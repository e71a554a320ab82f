//! The first ring of the simulation: the real delivery half (batcher, commit protocol, effects) of two or three workers
//! over scripted stores, without any SDK, under tokio's paused clock.
//!
//! The lease table's rows change only through the protocol's own conditional writes ([`standpipe_flow::write`]), so what
//! is explored here is what runs. A seed decides the records, the workers and everything that goes wrong: requests that
//! are lost, late, repeated or refused, answers that are lost after the effect, stolen leases, crashed and frozen workers,
//! a Java worker that moves `checkpoint`, uploads that somebody aborts, destinations that halt. Every write is judged as
//! it happens ([`store`]: I2, I4, I5, I8, I9, I16, I17), and after the faults one healthy worker drains alone.
//!
//! `ignored` makes the scripted table skip a clause: the checks must then fail, which shows that they would.

mod check;
mod destination;
mod java;
mod leases;
mod log;
mod reader;
mod store;
mod wire;
mod worker;
mod world;

use standpipe_flow::write::Clause;

use crate::simulation::Outcome;

/// Which clauses the scripted lease table skips.
pub type Ignored = fn(&Clause) -> bool;

/// The clauses that can be skipped, by name.
pub const SKIPPED: [(&str, Ignored); 6] = [
    ("none", |_| false),
    ("tenure", |clause| matches!(clause, Clause::TenureIs(_))),
    ("position", |clause| matches!(clause, Clause::PositionIs(..) | Clause::PositionOrCommitIs(..))),
    ("checkpoint", |clause| matches!(clause, Clause::CheckpointUntouched)),
    ("counter", |clause| matches!(clause, Clause::CounterIs(_))),
    ("commit", |clause| matches!(clause, Clause::CommitIs(..))),
];

/// Runs a seed. Deterministic: the same seed gives the same outcome.
pub fn run(seed: u64) -> Outcome {
    run_ignoring(seed, SKIPPED[0].1).0
}

/// Runs a seed over a lease table that skips some clauses; with the list of everything that was written.
pub fn run_ignoring(seed: u64, ignored: Ignored) -> (Outcome, Vec<String>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime can be built").block_on(world::World::play(seed, ignored))
}
