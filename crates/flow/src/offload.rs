//! Where long computations run: encoding and compressing must not hold up the threads that heartbeats share.
//!
//! Threads in production, inline in a simulation, where a plain thread would not hold the paused clock.

use std::fmt::Debug;

/// A computation that is handed over whole; it reports through what it captured.
pub type Job = Box<dyn FnOnce() + Send + 'static>;

/// Runs jobs away from the async threads.
pub trait Offload: Debug + Send + Sync + 'static {
    /// Hands a job over. It may run at once, on the calling thread, before this returns (a simulation), or later on
    /// another thread; a job that is never run is dropped, which its receiver must see as a failure. A job may block,
    /// but only on what goes on without the calling task.
    fn run(&self, job: Job);
}
