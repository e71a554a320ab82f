//! The start of a pipeline, as a list of steps, each with a log line. Whatever is refused is refused before the first
//! read: a table that is missing, a stream that is another one, a destination whose id stands for something else.
//!
//! 1. columns that are in Glue are read; 2. the stream is asked who it is; 3. the leases start (tables, pins, the leases of
//!    the shards: `standpipe_lease`), and columns that are frozen are read; 4. each destination is probed; 5. the consumer of
//!    enhanced fan-out is found, or registered; 6. coordinator, heartbeats, a delivery loop and a sweeper for each
//!    destination, and the worker start.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use standpipe_config::config::{self, Config, StartPosition};
use standpipe_destinations::opensearch::From;
use standpipe_flow::{CommitLog, DeliveryError, DestinationId, Millis, WorkerId};
use standpipe_lease::renew::Heartbeats;
use standpipe_lease::{LeaseSettings, Leases, LostReason, Seams, StartError, StreamIdentity};
use standpipe_pipeline::budget::Budget;
use standpipe_pipeline::deliver::{Delivery, Order};
use standpipe_pipeline::feed::Outlet;
use standpipe_pipeline::metrics::{At, Metrics};
use standpipe_pipeline::progress::Progress;
use standpipe_pipeline::shard::ReadContext;
use standpipe_source::StreamError;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::Options;
use crate::admin::Health;
use crate::assemble::{self, Assembled, Parts};
use crate::catalog::Shards;
use crate::errors::WorkerError;
use crate::glue::{self, Follower};
use crate::incarnation::Identity;
use crate::platform::Platform;
use crate::reader::Readers;
use crate::sweep::Sweeper;
use crate::transforms;
use crate::turns;
use crate::watchdog::Watchdog;
use crate::worker::{Ending, PipelineWorker, ToLoop};

/// Between tries of a step whose service does not answer, and how many there are: about a minute.
const AGAIN: Duration = Duration::from_secs(2);
const TRIES: u32 = 30;
/// Chunks on their way to a delivery loop. Each holds its share of the budget, which is the real bound.
const CHUNKS_MAX: usize = 64;

/// A pipeline that is ready to run, and the tasks beside it, which end when this is dropped.
pub(crate) struct Started {
    worker: PipelineWorker,
    beside: JoinSet<&'static str>,
}

impl Started {
    fn follow(&mut self, follower: Follower) {
        self.beside.spawn(async move {
            follower.run().await;
            GLUE
        });
    }
}

/// What all pipelines of a process share.
pub(crate) struct Shared {
    pub worker_id: WorkerId,
    pub budget: Arc<Budget>,
    pub health: Health,
    pub grace: Duration,
}

pub(crate) async fn start(
    config: &Config,
    pipeline: &config::Pipeline,
    options: &Options,
    platform: &Platform,
    shared: &Shared,
) -> Result<Started, WorkerError> {
    let tables = glue::tables(config, pipeline, platform).await?;
    let mut parts = assemble::parts(config, pipeline, platform, &tables)?;
    let stream = identity(&parts).await?;
    info!(pipeline = pipeline.name, stream = stream.arn, shards = stream.open_shards, "the stream is there");
    parts.transform = transforms::of_pipeline(config, pipeline, &stream.arn, platform)?;
    for (one, opensearch) in parts.destinations.iter().filter_map(|one| Some((one, one.opensearch.as_ref()?))) {
        let known_by = crate::opensearch::known_by(pipeline, &one.id, &stream);
        opensearch.reads_from(From { stream: known_by.into(), retention: stream.retention });
    }
    for (one, endpoint) in parts.destinations.iter().filter_map(|one| Some((one, one.endpoint.as_ref()?))) {
        endpoint.reads_from(crate::endpoint::source(pipeline, &one.id, &stream));
    }
    let begin = platform.clock.wall();
    parts.stream.pin(stream.created);
    let identity = Identity::new(parts.stream.catalog(), &stream);
    let base = Base { identity, pipeline, options, platform, shared, parts, stream, begin };
    let seams = Seams {
        heartbeats: base.parts.heartbeat.clone(),
        dynamo: base.parts.delivery.clone(),
        clock: platform.clock.clone(),
        random: platform.random.clone(),
        catalog: Arc::new(Shards(base.parts.stream.catalog(), base.identity.clone())),
    };
    let leases = standpipe_lease::start(base.lease_settings(), seams).await.map_err(start_error)?;
    for inferred in base.parts.destinations.iter().filter_map(|one| one.inferred.as_ref()) {
        inferred.look().await?;
    }
    futures_util::future::join_all(base.parts.destinations.iter().map(probe)).await;
    let readers = base.readers().await?;
    let mut started = base.compose(leases, readers);
    for follower in tables.followers {
        started.follow(follower);
    }
    Ok(started)
}

/// Runs a started pipeline. A task beside it that ends before it, ends it.
pub(crate) async fn supervise(started: Started, stop: CancellationToken) -> Result<Ending, WorkerError> {
    let Started { worker, mut beside } = started;
    let work = worker.run(stop);
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            ending = &mut work => return ending,
            Some(ended) = beside.join_next() => match ended {
                Ok(name) if name == HEARTBEATS || name == COORDINATOR => {} // the worker sees their end by itself
                Ok(name) => return Err(WorkerError::Failed(format!("{name} has ended"))),
                Err(error) => return Err(WorkerError::Failed(format!("a task of the pipeline failed: {error}"))),
            },
        }
    }
}

const HEARTBEATS: &str = "heartbeats";
const COORDINATOR: &str = "coordinator";
const DELIVERY: &str = "delivery";
const SWEEPER: &str = "sweeper";
const GLUE: &str = "glue";

async fn identity(parts: &Parts) -> Result<standpipe_source::StreamIdentity, WorkerError> {
    let catalog = parts.stream.catalog();
    let mut tries = 0;
    loop {
        match catalog.identity().await {
            Ok(identity) => return Ok(identity),
            Err(StreamError::Denied { cause }) => return Err(WorkerError::Permission(cause)),
            Err(StreamError::Gone { cause }) => {
                let name = parts.stream.reference();
                return Err(WorkerError::Findings(format!("there is no stream {name}: {cause}")));
            }
            Err(error) if tries == TRIES => return Err(WorkerError::Failed(error.to_string())),
            Err(error) => warn!(%error, "the stream does not answer, will be asked again"),
        }
        tries += 1;
        tokio::time::sleep(AGAIN).await;
    }
}

fn start_error(error: StartError) -> WorkerError {
    match error {
        StartError::Unfit { cause } | StartError::Java { cause } => WorkerError::Findings(cause),
        StartError::Denied { cause } => WorkerError::Permission(cause),
        StartError::Unavailable { cause } => WorkerError::Failed(cause),
    }
}

/// A destination that is down is no reason not to start: its records wait in the stream.
async fn probe(assembled: &Assembled) {
    let id = &assembled.id;
    match assembled.destination.probe().await {
        Ok(()) => info!(destination = %id, "the destination is there"),
        Err(error @ DeliveryError::Retry { .. }) => {
            warn!(destination = %id, %error, "the destination does not answer; records wait in the stream");
        }
        // Only time in which it answers and refuses counts, as it does now.
        Err(error) => match assembled.destination.refused_max() {
            None => warn!(destination = %id, %error, "the destination refuses us; records wait in the stream"),
            Some(longest) => warn!(
                destination = %id, %error, given_up_after_seconds = longest.as_secs(),
                "the destination refuses us; a batch that it goes on refusing is given up, others wait in the stream"
            ),
        },
    }
}

fn start_position(start: StartPosition, now: Millis) -> standpipe_lease::StartPosition {
    use standpipe_lease::StartPosition as To;
    match start {
        StartPosition::TrimHorizon => To::TrimHorizon,
        StartPosition::Latest => To::Latest,
        StartPosition::At(at) => To::At(Millis(u64::try_from(at).unwrap_or(0))),
        StartPosition::Ago(ago) => {
            To::At(Millis(now.0.saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX))))
        }
    }
}

/// What alarms look at is there from the start: a counter that appears with its first event has no rate for it.
fn begin_at_zero(metrics: &Metrics, at: &At) {
    drop(metrics.records_possibly_expired.get_or_create(at));
    drop(metrics.leases_held.get_or_create(at));
    ["stuck", "died"].iter().for_each(|why| drop(metrics.read_restarts.get_or_create(&at.why(why))));
    let lost =
        [LostReason::Deadline, LostReason::Taken, LostReason::CheckpointMoved, LostReason::Reset, LostReason::Gone];
    for why in lost {
        drop(metrics.lease_lost.get_or_create(&at.why(&why.to_string())));
    }
}

/// A task on other threads that ends when this is dropped.
struct Running(JoinHandle<()>);

impl Running {
    /// Its name, once it has ended. A panic in it is one of the caller's.
    async fn ended(mut self, name: &'static str) -> &'static str {
        if let Err(error) = (&mut self.0).await {
            assert!(!error.is_panic(), "{name} panicked: {error}");
        }
        name
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a pipeline is put together from.
struct Base<'a> {
    pipeline: &'a config::Pipeline,
    options: &'a Options,
    platform: &'a Platform,
    shared: &'a Shared,
    parts: Parts,
    stream: standpipe_source::StreamIdentity,
    identity: Identity,
    /// The instant of the start.
    begin: Millis,
}

impl Base<'_> {
    fn lease_settings(&self) -> LeaseSettings {
        let named = |one: &Assembled| (one.id.clone(), one.identity.clone());
        let lease = &self.pipeline.lease;
        LeaseSettings {
            worker: self.shared.worker_id.clone(),
            table: lease.table.clone(),
            failover: lease.failover,
            heartbeat: match lease.heartbeat {
                config::HeartbeatMode::PerLease => standpipe_lease::HeartbeatMode::PerLease,
                config::HeartbeatMode::PerWorker => standpipe_lease::HeartbeatMode::PerWorker,
            },
            leases_max: lease.leases_max.map_or(usize::MAX, |max| max as usize),
            create: lease.create,
            start: start_position(self.pipeline.source.start, self.begin),
            stream: StreamIdentity { arn: self.stream.arn.clone(), created_at: self.stream.created },
            destinations: self.parts.destinations.iter().map(named).collect(),
            retired: self.parts.retired.clone(),
            adopt_destinations: self.options.adopt_destinations,
        }
    }

    /// How the shards will be read: asked for last, so that nothing is registered for a pipeline that cannot start.
    async fn readers(&self) -> Result<Readers, WorkerError> {
        let at = At { pipeline: self.pipeline.name.clone(), destination: String::new() };
        let mode = (&self.pipeline.source.read, self.stream.arn.as_str());
        let metrics = &self.platform.metrics.pipeline;
        let mut tries = 0;
        loop {
            match Readers::find(&self.parts.stream, self.parts.polling, mode, (metrics, &at)).await {
                Ok(readers) => return Ok(readers),
                Err(StreamError::Denied { cause }) => return Err(WorkerError::Permission(cause)),
                Err(StreamError::Refused { cause }) => return Err(WorkerError::Findings(cause)),
                Err(error) if tries == TRIES => return Err(WorkerError::Failed(error.to_string())),
                Err(error) => warn!(%error, "there is no consumer yet, will be tried again"),
            }
            tries += 1;
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Puts the parts together and starts the tasks beside the worker.
    fn compose(mut self, leases: Leases, readers: Readers) -> Started {
        let Leases { handle, events, holdings, commits, fingerprint, coordinator, heartbeats } = leases;
        let (orders_out, orders) = mpsc::unbounded_channel();
        let mut beside = JoinSet::new();
        let held = (holdings.clone(), fingerprint);
        let destinations = self.destinations(Arc::new(commits), held, orders_out, &mut beside);
        beside.spawn(async move {
            coordinator.run().await;
            COORDINATOR
        });
        self.beat(&mut beside, heartbeats);
        let metrics = self.platform.metrics.pipeline.clone();
        let at = At { pipeline: self.pipeline.name.clone(), destination: String::new() };
        begin_at_zero(&metrics, &at);
        let context = ReadContext {
            budget: self.shared.budget.clone(),
            progress: Arc::new(Progress::default()),
            holdings,
            transform: self.parts.transform,
            clock: self.platform.clock.clone(),
            metrics: metrics.clone(),
            at: at.clone(),
        };
        let worker = PipelineWorker {
            name: self.pipeline.name.clone(),
            destinations,
            stream: self.parts.stream,
            readers,
            unpack: self.parts.unpack,
            retention: self.stream.retention,
            replaced: self.identity.replaced(),
            identity: self.identity,
            leases: handle,
            events,
            orders,
            last_reader: 0,
            context,
            health: self.shared.health.clone(),
            metrics,
            at,
            until: self.options.until_caught_up.then_some(self.begin),
            looking: false,
            undelivered: false,
            grace: self.shared.grace,
            held: BTreeMap::new(),
            quarantine: BTreeMap::new(),
            watchdog: Watchdog::new(self.parts.polling.poll),
            tasks: JoinSet::new(),
        };
        Started { worker, beside }
    }

    /// Starts what each destination has beside the worker: its loop, and its sweeper.
    fn destinations(
        &mut self,
        log: Arc<dyn CommitLog>,
        (holdings, fingerprint): (Arc<standpipe_flow::Holdings>, u32),
        orders: mpsc::UnboundedSender<(DestinationId, Order)>,
        beside: &mut JoinSet<&'static str>,
    ) -> BTreeMap<DestinationId, ToLoop> {
        let mut destinations = BTreeMap::new();
        let queued = turns::queued(log.clone(), self.parts.destinations.len());
        for one in std::mem::take(&mut self.parts.destinations) {
            let (notices, notices_in) = mpsc::unbounded_channel();
            let (chunks, chunks_in) = mpsc::channel(CHUNKS_MAX);
            let delivery = self.delivery(&one, queued.clone(), holdings.clone(), fingerprint);
            let orders = orders.clone();
            beside.spawn(async move {
                delivery.run(notices_in, chunks_in, orders).await;
                DELIVERY
            });
            if let Some(s3) = one.s3 {
                let table = assemble::lease_table(&self.parts.delivery, self.pipeline);
                let sweeper = Sweeper { s3, log: log.clone(), table, fingerprint };
                beside.spawn(async move {
                    sweeper.run().await;
                    SWEEPER
                });
            }
            let outlet = Outlet { chunks, transform: one.transform };
            destinations.insert(one.id, ToLoop { notices, outlet });
        }
        destinations
    }

    /// Starts the heartbeats, on threads of their own where the platform has them.
    fn beat(&self, beside: &mut JoinSet<&'static str>, heartbeats: Heartbeats) {
        match &self.platform.heartbeats {
            // Ends with the set: the guard aborts it.
            Some(threads) => beside.spawn(Running(threads.spawn(heartbeats.run())).ended(HEARTBEATS)),
            None => beside.spawn(async move {
                heartbeats.run().await;
                HEARTBEATS
            }),
        };
    }

    fn delivery(
        &self,
        one: &Assembled,
        log: Arc<dyn CommitLog>,
        holdings: Arc<standpipe_flow::Holdings>,
        fingerprint: u32,
    ) -> Delivery {
        Delivery {
            worker: self.shared.worker_id.clone(),
            id: one.id.clone(),
            destination: one.destination.clone(),
            log,
            holdings,
            budget: self.shared.budget.clone(),
            clock: self.platform.clock.clone(),
            random: self.platform.random.clone(),
            fingerprint,
            config: one.config.clone(),
            version: self.options.version.clone(),
            metrics: self.platform.metrics.pipeline.clone(),
            pipeline: self.pipeline.name.clone(),
            retention: self.stream.retention,
            isolate: self.parts.isolate,
        }
    }
}
