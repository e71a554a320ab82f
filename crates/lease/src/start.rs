//! `lease ->`: start-up, as a list of steps: the lease table; what it holds; the commit table; the stream; the
//! destinations; the start; the leases of the stream's shards.
//!
//! A step that DynamoDB does not answer is tried again for a while. A step that finds something other than the config
//! says ends the start: nothing was taken, nothing is read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use standpipe_flow::{Clock, CommitError, DestinationId, Holdings, LeaseKey, Millis, Random, WorkerId};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::client::Dynamo;
use crate::commits::CommitTable;
use crate::coordinator::{Coordinator, LeaseEvent, LeaseHandle, ShardCatalog, State};
use crate::hierarchy::{self, Start};
use crate::identity::{PinError, StreamIdentity};
use crate::java;
use crate::kcl::RowError;
use crate::moves::{self, Beginning, Context};
use crate::renew::Heartbeats;
use crate::table::{LeaseTable, Rows, TableError};
use crate::upkeep;
use crate::workers::{self, HeartbeatMode, WorkerTable};

/// How often a step is tried before the start has failed: about a minute at a failover time of ten seconds.
const TRIES: u32 = 60;

/// How often the leases of a Java fleet are looked at within a failover time: its renewals come three times in one.
const JAVA_LOOKS: u32 = 5;

/// Where a pipeline begins that has no leases yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartPosition {
    /// With the oldest record.
    TrimHorizon,
    /// With what comes from now on.
    Latest,
    /// With what came from this instant on.
    At(Millis),
}

/// What the config says about a pipeline's leases.
#[derive(Debug, Clone)]
pub struct LeaseSettings {
    /// This process.
    pub worker: WorkerId,
    /// The lease table's name.
    pub table: String,
    /// A worker that is silent for so long has lost its leases.
    pub failover: Duration,
    /// How it shows that it is not.
    pub heartbeat: HeartbeatMode,
    /// How many leases this worker may hold.
    pub leases_max: usize,
    /// Whether missing tables are made.
    pub create: bool,
    /// Where a first start begins.
    pub start: StartPosition,
    /// The stream.
    pub stream: StreamIdentity,
    /// The destinations, with what each id stands for (kind, bucket, table, endpoint).
    pub destinations: BTreeMap<DestinationId, String>,
    /// The destinations that the config lists as retired.
    pub retired: BTreeSet<DestinationId>,
    /// Whether an id that stands for something else is taken over.
    pub adopt_destinations: bool,
}

/// What leases stand on.
#[derive(Debug, Clone)]
pub struct Seams {
    /// The heartbeats' client; nothing else may use it.
    pub heartbeats: Dynamo,
    /// The client of everything else.
    pub dynamo: Dynamo,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// The shards.
    pub catalog: Arc<dyn ShardCatalog>,
}

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A table, the stream or a destination is not what the config says: change one or the other.
    #[error("{cause}")]
    Unfit {
        /// What is not as it should be.
        cause: String,
    },
    /// A Java KCL stands in the way; the cause says what to do.
    #[error("{cause}")]
    Java {
        /// What was seen, and what to do.
        cause: String,
    },
    /// Not permitted.
    #[error("not permitted: {cause}")]
    Denied {
        /// What the service said.
        cause: String,
    },
    /// DynamoDB, or the stream, did not answer: start again later.
    #[error("{cause}")]
    Unavailable {
        /// What was seen last.
        cause: String,
    },
}

/// A pipeline's leases, ready to run.
#[derive(Debug)]
pub struct Leases {
    /// To command them.
    pub handle: LeaseHandle,
    /// What happens to them.
    pub events: mpsc::UnboundedReceiver<LeaseEvent>,
    /// What is held; shared with delivery.
    pub holdings: Arc<Holdings>,
    /// The commit log.
    pub commits: CommitTable,
    /// The deployment's fingerprint, for commit ids.
    pub fingerprint: u32,
    /// To be run; ends on [`LeaseHandle::stop`].
    pub coordinator: Coordinator,
    /// To be run in a task of its own; ends after the coordinator.
    pub heartbeats: Heartbeats,
}

/// Starts: every step of the list, then the parts to be run.
pub async fn start(settings: LeaseSettings, seams: Seams) -> Result<Leases, StartError> {
    let starter = Starter { settings, seams };
    let table = LeaseTable::new(starter.seams.dynamo.clone(), &starter.settings.table);
    let commits =
        CommitTable::new(starter.seams.dynamo.clone(), &starter.settings.table, Arc::clone(&starter.seams.clock));
    let create = starter.settings.create;
    starter.step("lease table", || table.open(create)).await?;
    let rows = starter.step("leases", || table.scan()).await?;
    starter.check_stream(&rows)?;
    starter.check_one_stream(&rows)?;
    starter.open_workers(&table, &rows).await?;
    starter.check_unpinned(&rows)?;
    starter.check_java(&table, &rows).await?;
    let fingerprint = starter.step("commit table", || commits.open(create, &rows)).await?;
    starter.step("stream", || commits.pin_stream(&starter.settings.stream)).await?;
    for (id, identity) in &starter.settings.destinations {
        let adopt = starter.settings.adopt_destinations;
        starter.step("destination", || commits.pin_destination(id, identity, adopt)).await?;
    }
    let first = starter.pin_start(&commits).await?;
    let (context, events) = starter.context(table, first);
    let missing = starter.make_first_leases(&context, first, rows).await?;
    info!(table = starter.settings.table, worker = %starter.settings.worker, "leases ready");
    let mut leases = starter.assemble(context, events, commits, fingerprint);
    leases.coordinator.state.missing = missing;
    Ok(leases)
}

struct Starter {
    settings: LeaseSettings,
    seams: Seams,
}

/// Where the first leases begin, and whether this start said so.
#[derive(Debug, Clone, Copy)]
struct FirstStart {
    start: Start,
    fresh: bool,
}

impl Starter {
    /// Tries a step until its answer is clear.
    async fn step<T, E, F>(&self, name: &str, step: impl Fn() -> F) -> Result<T, StartError>
    where
        E: Into<Problem>,
        F: Future<Output = Result<T, E>>,
    {
        let mut tries = 0;
        loop {
            tries += 1;
            match step().await.map_err(Into::into) {
                Ok(value) => return Ok(value),
                Err(Problem::Passing(cause)) if tries < TRIES => {
                    warn!(step = name, cause, "start-up waits");
                    let millis = 500 + self.seams.random.below(1000);
                    tokio::time::sleep(Duration::from_millis(millis)).await;
                }
                Err(Problem::Passing(cause)) => {
                    return Err(StartError::Unavailable { cause: format!("{name}: {cause}") });
                }
                Err(Problem::Lasting(error)) => return Err(error),
            }
        }
    }

    fn check_stream(&self, rows: &Rows) -> Result<(), StartError> {
        let ours = self.settings.stream.hash();
        let foreign = rows.leases.values().find(|row| row.stream.as_ref().is_some_and(|stream| *stream != ours));
        match foreign {
            None => Ok(()),
            Some(row) => Err(StartError::Unfit {
                cause: format!(
                    "lease {:?} in table {:?} belongs to another stream than {}; one that was made anew under the same \
                     name is another",
                    row.key, self.settings.table, self.settings.stream.arn
                ),
            }),
        }
    }

    /// The KCL's multi-stream mode: its rows have other keys, so ours would begin anew beside them, and its own workers
    /// could not read ours.
    fn check_one_stream(&self, rows: &Rows) -> Result<(), StartError> {
        let several = rows.unreadable.values().find(|error| matches!(error, RowError::MultiStream { .. }));
        match several {
            None => Ok(()),
            Some(error) => Err(StartError::Java {
                cause: format!(
                    "{error}: table {:?} cannot be taken over. Use another `lease.table` and begin at a time (`start`)",
                    self.settings.table
                ),
            }),
        }
    }

    /// Leases without a position whose beginning only the Java application's configuration knows.
    fn check_unpinned(&self, rows: &Rows) -> Result<(), StartError> {
        let at_timestamp = rows.unpinned.values().find(|unpinned| unpinned.at_timestamp);
        match at_timestamp {
            Some(unpinned) if self.settings.start == StartPosition::Latest => Err(StartError::Java {
                cause: format!(
                    "lease {:?} in table {:?} begins at an instant (AT_TIMESTAMP) that only the Java application's \
                     configuration knows, and has no checkpoint yet. `start: latest` would skip what came since: write \
                     that instant, or trim_horizon, as `start`",
                    unpinned.row.key, self.settings.table
                ),
            }),
            _ => Ok(()),
        }
    }

    /// Refuses to start beside a live KCL 3. That one reported lately is only a hint; then its leases are watched for a
    /// failover time.
    async fn check_java(&self, table: &LeaseTable, rows: &Rows) -> Result<(), StartError> {
        let before = java::counters(rows);
        if before.is_empty() {
            return Ok(());
        }
        let lease_table = &self.settings.table;
        let mut reports = self.step("workers of the KCL", || java::reports(&self.seams.dynamo, lease_table)).await?;
        reports.extend(rows.reports.clone());
        let Some(worker) = java::lately(&reports, self.seams.clock.wall()) else { return Ok(()) };
        info!(
            table = lease_table,
            java = worker,
            "a worker of the Java KCL 3 reported lately: looking whether it lives"
        );
        for _ in 0..JAVA_LOOKS {
            tokio::time::sleep(self.settings.failover / JAVA_LOOKS).await;
            let now = self.step("leases", || table.scan()).await?;
            if let Some(alive) = java::alive(&before, &now) {
                return Err(StartError::Java {
                    cause: format!(
                        "worker {:?} of a Java KCL 3 lives at lease table {lease_table:?}. Its leader would share the leases \
                         without this worker. Stop the Java application, then start this: its leases are taken over at \
                         once, nothing is lost (docs/guide/kcl.md)",
                        alive.as_str()
                    ),
                });
            }
        }
        Ok(())
    }

    /// One heartbeat a worker is not for a fleet that does not see it.
    async fn open_workers(&self, table: &LeaseTable, rows: &Rows) -> Result<(), StartError> {
        let LeaseSettings { heartbeat, create, failover, .. } = self.settings;
        if heartbeat == HeartbeatMode::PerLease {
            return Ok(());
        }
        let mover = self.step("leases", || workers::mover(table, rows, failover)).await?;
        let Some(row) = mover else {
            let workers = WorkerTable::new(self.seams.dynamo.clone(), &self.settings.table);
            return self.step("table of workers", || workers.open(create)).await.map(drop);
        };
        let owner = row.owner.map(|owner| owner.to_string()).unwrap_or_default();
        Err(StartError::Unfit {
            cause: format!(
                "lease {} is renewed by {owner}, which sees no `lease.heartbeat: per_worker` and would take every lease: \
                 stop the workers that renew lease by lease first (a Java KCL, or `per_lease`), or run with `per_lease`",
                row.key
            ),
        })
    }

    async fn pin_start(&self, commits: &CommitTable) -> Result<FirstStart, StartError> {
        let given = match self.settings.start {
            StartPosition::TrimHorizon => return Ok(FirstStart { start: Start::TrimHorizon, fresh: true }),
            StartPosition::Latest => {
                self.step("time", || commits.now()).await?.unwrap_or_else(|| self.seams.clock.wall())
            }
            StartPosition::At(instant) => instant,
        };
        let (pinned, fresh) = self.step("start position", || commits.pin_start(given)).await?;
        let latest = fresh && self.settings.start == StartPosition::Latest;
        Ok(FirstStart { start: if latest { Start::Latest(pinned) } else { Start::Since(pinned) }, fresh })
    }

    fn context(&self, table: LeaseTable, first: FirstStart) -> (Arc<Context>, mpsc::UnboundedReceiver<LeaseEvent>) {
        let (events, receiver) = mpsc::unbounded_channel();
        let settings = &self.settings;
        // After the first leases are made, every listed shard may hold records from the pinned instant on.
        let start = if let Start::Latest(instant) = first.start { Start::Since(instant) } else { first.start };
        let start = Beginning { start, latest: settings.start == StartPosition::Latest };
        let context = Context {
            worker: settings.worker.clone(),
            failover: settings.failover,
            heartbeat: settings.heartbeat,
            workers: WorkerTable::new(self.seams.dynamo.clone(), &settings.table),
            table,
            catalog: Arc::clone(&self.seams.catalog),
            holdings: Arc::new(Holdings::default()),
            clock: Arc::clone(&self.seams.clock),
            random: Arc::clone(&self.seams.random),
            events,
            destinations: settings.destinations.keys().cloned().collect(),
            retired: settings.retired.clone(),
            stream: settings.stream.hash(),
            start,
            upkeep: upkeep::Counts::default(),
        };
        (Arc::new(context), receiver)
    }

    /// Makes what is missing. The answer: parents that the table does not have.
    async fn make_first_leases(
        &self,
        context: &Context,
        first: FirstStart,
        rows: Rows,
    ) -> Result<BTreeSet<LeaseKey>, StartError> {
        let mut rows = rows;
        if rows.leases.is_empty() && !first.fresh {
            // Whoever pinned the start is making the leases at this moment, or has died over it.
            tokio::time::sleep((self.settings.failover / 2).min(Duration::from_secs(2))).await;
            rows = self.step("leases", || context.table.scan()).await?;
        }
        let list = || async { context.catalog.list().await.map_err(|cause| CommitError::Unknown { cause }) };
        let shards = self.step("shards of the stream", list).await?;
        let levels = hierarchy::missing(&shards, &rows, first.start, &context.stream);
        self.step("leases of the shards", || moves::make(context, levels.clone())).await?;
        Ok(self.step("leases", || context.table.scan()).await?.missing_parents())
    }

    fn assemble(
        self,
        context: Arc<Context>,
        events: mpsc::UnboundedReceiver<LeaseEvent>,
        commits: CommitTable,
        fingerprint: u32,
    ) -> Leases {
        let (commands, command_receiver) = mpsc::unbounded_channel();
        let (rows, row_receiver) = watch::channel(Arc::new(Rows::default()));
        let stop = CancellationToken::new();
        let coordinator = Coordinator {
            context: Arc::clone(&context),
            leases_max: self.settings.leases_max,
            commands: command_receiver,
            rows,
            stop: stop.clone(),
            state: State::default(),
        };
        let heartbeats = Heartbeats {
            context: Arc::clone(&context),
            table: LeaseTable::new(self.seams.heartbeats.clone(), &self.settings.table),
            workers: WorkerTable::new(self.seams.heartbeats, &self.settings.table),
            create: self.settings.create,
            stop,
        };
        let holdings = Arc::clone(&context.holdings);
        let handle = LeaseHandle { commands, rows: row_receiver, context };
        Leases { handle, events, holdings, commits, fingerprint, coordinator, heartbeats }
    }
}

/// What a failed step means.
enum Problem {
    Passing(String),
    Lasting(StartError),
}

impl From<CommitError> for Problem {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Denied { cause } => Self::Lasting(StartError::Denied { cause }),
            other => Self::Passing(other.to_string()),
        }
    }
}

impl From<TableError> for Problem {
    fn from(error: TableError) -> Self {
        let text = error.to_string();
        match error {
            TableError::Unavailable { cause: CommitError::Denied { .. }, .. } => {
                Self::Lasting(StartError::Denied { cause: text })
            }
            TableError::Unavailable { .. } => Self::Passing(text),
            _ => Self::Lasting(StartError::Unfit { cause: text }),
        }
    }
}

impl From<PinError> for Problem {
    fn from(error: PinError) -> Self {
        match error {
            PinError::Log(error) => error.into(),
            other => Self::Lasting(StartError::Unfit { cause: other.to_string() }),
        }
    }
}

#[cfg(test)]
mod tests;
