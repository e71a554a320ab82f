//! `standpipe check --online`: every service that a config names is asked, by the present identity, whether it is as the
//! config says. The parts are those of a worker, put together as its start does it.
//!
//! Read-only, and bounded in time: a service that does not answer is a line, not a wait. With `make`, a destination makes
//! what its first batch would make by itself.
//! Never here: what an answer of one kind means; that is in its own crate.

mod collection;
mod stream;

use std::time::Duration;

use futures_util::StreamExt;
use standpipe_config::config::{self, Config, Transform};
use standpipe_flow::Look;
use standpipe_lease::look::Wanted;
use standpipe_lease::{CommitTable, StreamIdentity};

use crate::assemble::{self, Parts};
use crate::errors::WorkerError;
use crate::glue::{self, Tables};
use crate::platform::{self, Platform};

/// For all questions of one part of a pipeline: a paused warehouse needs half a minute to come back.
const TIME_MAX: Duration = Duration::from_secs(60);
/// Pipelines that are asked about at once.
const AT_ONCE: usize = 4;

/// What was asked for a pipeline, of one of its destinations or of what they share.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The pipeline.
    pub pipeline: String,
    /// The destination's id; none for the stream, the tables, the transforms.
    pub destination: Option<String>,
    /// What was found.
    pub look: Look,
}

/// Asks about all pipelines, and tells what was found in the order of the config, a pipeline as soon as it is known.
///
/// # Errors
/// When nothing can be asked: no region, nobody gives credentials.
pub async fn online(
    config: &Config,
    platform: &Platform,
    make: bool,
    tell: &mut dyn FnMut(Vec<Asked>),
) -> Result<(), WorkerError> {
    platform::check_identity(&platform.sdk).await?;
    let pipelines = config.pipelines.iter().map(|one| pipeline(config, one, platform, make));
    let mut found = futures_util::stream::iter(pipelines).buffered(AT_ONCE);
    while let Some(asked) = found.next().await {
        tell(asked);
    }
    Ok(())
}

async fn pipeline(config: &Config, pipeline: &config::Pipeline, platform: &Platform, make: bool) -> Vec<Asked> {
    let mut shared = Vec::new();
    let tables = columns(config, pipeline, platform, &mut shared).await;
    let parts = match assemble::parts(config, pipeline, platform, &tables) {
        Ok(parts) => parts,
        Err(error) => {
            shared.push(failed("the pipeline", &error));
            return asked(pipeline, None, shared);
        }
    };
    let destinations = parts.destinations.iter().zip(&pipeline.destinations).map(async |(one, file)| {
        let mut seen = Vec::new();
        within(&mut seen, "destination", async |seen| {
            one.destination.look(make, seen).await;
            collection::look(file, platform, seen).await;
        })
        .await;
        asked(pipeline, Some(one.id.to_string()), seen)
    });
    let mut sources = Vec::new();
    let source = async {
        within(&mut sources, "stream and tables", async |seen| {
            let known = stream::look(&parts, pipeline, platform, seen).await;
            leases(&parts, pipeline, platform, known, seen).await;
        })
        .await;
    };
    let ((), destinations) = futures_util::join!(source, futures_util::future::join_all(destinations));
    sources.append(&mut shared);
    sources.extend(pipeline.transforms.iter().filter_map(function));
    asked(pipeline, None, sources).into_iter().chain(destinations.into_iter().flatten()).collect()
}

fn asked(pipeline: &config::Pipeline, destination: Option<String>, seen: Vec<Look>) -> Vec<Asked> {
    let one = |look| Asked { pipeline: pipeline.name.clone(), destination: destination.clone(), look };
    seen.into_iter().map(one).collect()
}

/// What was found until the time is over stays, and that it is over is said.
async fn within(seen: &mut Vec<Look>, what: &str, ask: impl AsyncFnOnce(&mut Vec<Look>)) {
    if tokio::time::timeout(TIME_MAX, ask(seen)).await.is_err() {
        let says = format!("not everything was answered within {} s", TIME_MAX.as_secs());
        seen.push(Look::silent(what, says).hint("whether the network lets this machine reach it"));
    }
}

/// The columns that are in Glue; not known where they cannot be read, and then that is said.
async fn columns(config: &Config, pipeline: &config::Pipeline, platform: &Platform, seen: &mut Vec<Look>) -> Tables {
    let what = "columns in Glue";
    let found = tokio::time::timeout(TIME_MAX, glue::tables(config, pipeline, platform)).await;
    match found {
        Ok(Ok(tables)) => {
            for (id, rows) in &tables.rows {
                let columns = rows.current().map_or(0, |rows| rows.columns().as_slice().len());
                seen.push(Look::fine(what, format!("{columns} columns for destination {id}")));
            }
            return tables;
        }
        Ok(Err(error)) => {
            let look = failed(what, &error);
            seen.push(
                look.hint("the table, and `glue:GetTable` or `glue:GetTableVersion` (ReadTheColumns in deploy/iam)"),
            );
        }
        Err(_) => seen.push(Look::silent(what, format!("no answer within {} s", TIME_MAX.as_secs()))),
    }
    Tables::unread(pipeline)
}

fn failed(what: &str, error: &WorkerError) -> Look {
    match error {
        WorkerError::Findings(cause) => Look::wrong(what, cause),
        WorkerError::Permission(cause) => Look::denied(what, cause),
        WorkerError::Failed(cause) => Look::silent(what, cause),
    }
}

/// A function is seen when it is invoked, and not before.
fn function(transform: &Transform) -> Option<Look> {
    let Transform::Lambda(lambda) = transform else { return None };
    let look =
        Look::note(format!("function {}", lambda.function), "it is invoked with the first records, and was not now");
    Some(look.hint("`lambda:InvokeFunction` (AskTheFunction in deploy/iam)"))
}

async fn leases(
    parts: &Parts,
    pipeline: &config::Pipeline,
    platform: &Platform,
    stream: Option<StreamIdentity>,
    seen: &mut Vec<Look>,
) {
    let table = &pipeline.lease.table;
    let wanted = Wanted {
        table: table.clone(),
        create: pipeline.lease.create,
        heartbeat: match pipeline.lease.heartbeat {
            config::HeartbeatMode::PerLease => standpipe_lease::HeartbeatMode::PerLease,
            config::HeartbeatMode::PerWorker => standpipe_lease::HeartbeatMode::PerWorker,
        },
        stream,
        destinations: parts.destinations.iter().map(|one| (one.id.clone(), one.identity.clone())).collect(),
    };
    let commits = CommitTable::new(parts.delivery.clone(), table, platform.clock.clone());
    standpipe_lease::look::look(&wanted, &parts.delivery, &commits, seen).await;
}
