//! Composition: from a config to running pipelines.
//!
//! - [`platform`]: clocks, randomness, threads, the SDK's configuration.
//! - `startup`, `shutdown`: lists of steps. `worker`: one `select!` a pipeline, with the table of its tasks.
//! - `watchdog`: a read that is stuck is seen.
//! - `assemble`: the only match over destination kinds. `sweep`: what crashed workers left open.
//! - `inferred`: columns that the first batch decides for all workers.
//! - `admin`, [`metrics`]: what is seen from outside. `mend`: for `standpipe leases`. `stages`: for `standpipe bench`.
//! - `online`: for `standpipe check --online`.

mod admin;
mod assemble;
mod catalog;
mod caught_up;
mod endpoint;
mod errors;
mod formats;
mod glue;
mod gone;
mod incarnation;
mod inferred;
mod known;
mod mend;
pub mod metrics;
mod online;
mod opensearch;
pub mod platform;
mod quarantine;
mod reader;
mod reads;
mod redshift;
mod shutdown;
mod stages;
mod startup;
mod sweep;
mod transforms;
mod turns;
mod upkeep;
mod watchdog;
mod worker;

use std::sync::Arc;

use standpipe_config::Config;
use standpipe_flow::WorkerId;
use standpipe_pipeline::budget::Budget;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use admin::Health;
pub use errors::WorkerError;
pub use known::Known;
pub use mend::mend;
pub use metrics::SharedMetrics;
pub use online::{Asked, online};
pub use platform::Platform;
pub use redshift::{receipts, redshift};
pub use stages::{OneDestination, OneTransform, Stages, stages};
pub use sweep::{Sweeper, Swept};
pub use worker::Ending;

/// How `standpipe run` was called.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Only these pipelines; empty: all.
    pub pipelines: Vec<String>,
    /// Deliver what is there, then end.
    pub until_caught_up: bool,
    /// Take destinations for the same although their place has changed.
    pub adopt_destinations: bool,
    /// The program's version, for receipts.
    pub version: String,
}

/// Runs the config's pipelines until `stop`, or until everything is caught up, and drains them.
/// Dropping the future is a crash: nothing more is sent, other workers take over.
pub async fn run(
    config: &Config,
    options: &Options,
    platform: Platform,
    stop: CancellationToken,
) -> Result<Ending, WorkerError> {
    let chosen: Vec<_> = config
        .pipelines
        .iter()
        .filter(|pipeline| options.pipelines.is_empty() || options.pipelines.contains(&pipeline.name))
        .collect();
    if let Some(unknown) = options.pipelines.iter().find(|name| !chosen.iter().any(|pipeline| pipeline.name == **name))
    {
        return Err(WorkerError::Findings(format!("there is no pipeline {unknown:?} in the config")));
    }
    tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(Ending::Drained),
        known = platform::check_identity(&platform.sdk) => known?,
    }
    let budget = Budget::new(config.worker.memory_bytes.unwrap_or_else(platform::default_memory_bytes));
    platform.metrics.memory_budget_bytes.set(i64::try_from(budget.total_bytes()).unwrap_or(i64::MAX));
    let worker_id = worker_id(config, &platform);
    let health = Health::new(platform.clock.clone(), platform.metrics.clone(), chosen.len());
    info!(worker = %worker_id, pipelines = chosen.len(), memory_bytes = budget.total_bytes(), "starting");
    let shared = startup::Shared { worker_id, budget: budget.clone(), health, grace: config.worker.shutdown_grace };

    let mut beside: JoinSet<()> = JoinSet::new();
    if let Some(listen) = config.http {
        beside.spawn(admin::serve(listen, shared.health.clone()));
    }
    beside.spawn(watch_memory(budget, platform.metrics.clone()));

    // One that fails stops the others in order: what they have read is delivered first.
    let stop = stop.child_token();
    let pipelines = chosen.into_iter().map(|pipeline| {
        let (platform, shared, stop) = (&platform, &shared, stop.clone());
        async move {
            let ended = run_pipeline(config, pipeline, options, (platform, shared), stop.clone()).await;
            if ended.is_err() {
                stop.cancel();
            }
            ended
        }
    });
    let ended = futures_util::future::join_all(pipelines).await;
    let endings: Vec<Ending> = ended.into_iter().collect::<Result<_, _>>()?;
    Ok(endings.into_iter().max().unwrap_or(Ending::Drained))
}

async fn run_pipeline(
    config: &Config,
    pipeline: &standpipe_config::config::Pipeline,
    options: &Options,
    (platform, shared): (&Platform, &startup::Shared),
    stop: CancellationToken,
) -> Result<Ending, WorkerError> {
    let started = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(Ending::Drained),
        started = startup::start(config, pipeline, options, platform, shared) => started?,
    };
    shared.health.pipeline_ready();
    startup::supervise(started, stop).await
}

/// `worker.id`, or the host's name, and a ULID: new for every process, because a name that comes back (a pod of a
/// StatefulSet) must not be taken for the process that had it before.
fn worker_id(config: &Config, platform: &Platform) -> WorkerId {
    let host = || std::fs::read_to_string("/etc/hostname").ok().filter(|host| !host.trim().is_empty());
    let name = config.worker.id.clone().or_else(host).unwrap_or_else(|| "worker".into());
    let name = name.trim();
    let random = (u128::from(platform.random.next()) << 64) | u128::from(platform.random.next());
    WorkerId::new(format!("{name}-{}", ulid::Ulid::from_parts(platform.clock.wall().0, random)))
}

async fn watch_memory(budget: Arc<Budget>, metrics: SharedMetrics) {
    loop {
        metrics.memory_used_bytes.set(i64::try_from(budget.used_bytes()).unwrap_or(i64::MAX));
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
}
