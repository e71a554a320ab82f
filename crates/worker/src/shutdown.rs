//! The end of a pipeline, as a list of steps, each with a deadline and a log line.
//!
//! - not ready any more, no new leases;
//! - reading stops; what is buffered is delivered and finalized, lease by lease;
//! - each lease is released as soon as it is drained;
//! - coordinator and loops end.

use std::time::Duration;

use standpipe_flow::LeaseKey;
use standpipe_lease::Command;
use tracing::{info, warn};

use crate::errors::WorkerError;
use crate::worker::{Ending, PipelineWorker};

/// For the last releases to be written.
const LAST_RELEASES: Duration = Duration::from_secs(5);

pub(crate) async fn drain(mut worker: PipelineWorker, ending: Ending) -> Result<Ending, WorkerError> {
    worker.health.drain();
    worker.undelivered = false;
    worker.leases.send(Command::TakeNoMore);
    let leases: Vec<LeaseKey> = worker.held.keys().cloned().collect();
    info!(pipeline = worker.name, leases = leases.len(), "stopping: delivering what is buffered");
    for lease in &leases {
        worker.leave(lease);
    }
    let drained = tokio::time::timeout(worker.grace, empty(&mut worker)).await.is_ok();
    if !drained {
        warn!(
            pipeline = worker.name,
            left = worker.held.len(),
            "the grace is over; what is left is read again elsewhere"
        );
    }
    if tokio::time::timeout(LAST_RELEASES, worker.leases.stop()).await.is_err() {
        warn!(pipeline = worker.name, "not every lease could be released; they pass on by expiry");
    }
    if worker.undelivered {
        warn!(
            pipeline = worker.name,
            "leases were lost while they were drained; their records are read again elsewhere"
        );
    }
    info!(pipeline = worker.name, drained, "stopped");
    let whole = drained && !worker.undelivered;
    Ok(if whole { ending } else { Ending::DrainUnfinished })
}

/// Goes on with the worker's events until no lease is held.
async fn empty(worker: &mut PipelineWorker) {
    while !worker.held.is_empty() {
        tokio::select! {
            biased;
            Some(event) = worker.events.recv() => {
                worker.lease_event(event);
                // One that was taken while the stop came.
                for lease in worker.held.keys().cloned().collect::<Vec<_>>() { worker.leave(&lease) }
            }
            Some((destination, order)) = worker.orders.recv() => worker.order(&destination, order),
            Some(ended) = worker.tasks.join_next(), if !worker.tasks.is_empty() => {
                if let Ok(ended) = ended { worker.ended(ended) }
            }
            else => return,
        }
    }
}
