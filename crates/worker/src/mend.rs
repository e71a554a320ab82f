//! A pipeline's tables and destinations for `standpipe leases`: put together as a worker's, without a worker.
//!
//! Never here: a request.

use standpipe_config::Config;
use standpipe_config::config::Pipeline;
use standpipe_lease::mend::Mend;
use standpipe_lease::{CommitTable, LeaseTable, WorkerTable};
use standpipe_source::Stream;

use crate::assemble;
use crate::errors::WorkerError;
use crate::glue::Tables;
use crate::platform::Platform;

/// What mends the pipeline's leases, and its stream, to be asked which positions it has.
pub fn mend(config: &Config, pipeline: &Pipeline, platform: &Platform) -> Result<(Mend, Stream), WorkerError> {
    let parts = assemble::parts(config, pipeline, platform, &Tables::unread(pipeline))?;
    let table = &pipeline.lease.table;
    let mend = Mend {
        table: LeaseTable::new(parts.delivery.clone(), table.clone()),
        workers: WorkerTable::new(parts.delivery.clone(), table),
        commits: CommitTable::new(parts.delivery, table, platform.clock.clone()),
        destinations: parts.destinations.into_iter().map(|one| (one.id, one.destination)).collect(),
        clock: platform.clock.clone(),
        failover: pipeline.lease.failover,
    };
    Ok((mend, parts.stream))
}
