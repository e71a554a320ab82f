//! One pipeline in one process: leases come and go, delivery loops say what they need. Readers start and stop in `reads`.
//!
//! A shell of one `select!`; every task it starts stands in the table below.
//!
//! | task | ends when | its error means | cancelled by |
//! |---|---|---|---|
//! | coordinator, heartbeats | told to stop, after everything is released | the pipeline ends | the end of the process |
//! | delivery loop, one a destination | its notices are closed | never fails | the end of the pipeline |
//! | reader, one a lease; one more while a destination catches up | the shard ends, or it has caught up | the shard is gone: confirmed, then its end | loss, hand-over, rewind, watchdog |
//! | drain, one a lease | everything is finalized | the lease is lost | loss |
//! | children, one a closed shard | their leases exist | tried again | loss |
//! | sweeper | never | logged | the end of the pipeline |
//!
//! Never here: what a commit means, which lease to take, how a record is encoded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use standpipe_flow::{DestinationId, Fence, LeaseKey, LeaseRow, Millis, Position, Tenure};
use standpipe_lease::{Command, LeaseEvent, LeaseHandle, LostReason};
use standpipe_pipeline::deliver::{Notice, Order};
use standpipe_pipeline::feed::{Feeds, Outlet, Subscriber};
use standpipe_pipeline::metrics::{At, Metrics};
use standpipe_pipeline::shard::{ReadContext, ReadEnd};
use standpipe_source::{Stream, Unpack};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::admin::Health;
use crate::caught_up;
use crate::errors::WorkerError;
use crate::incarnation::Identity;
use crate::quarantine::Quarantine;
use crate::reader::Readers;
use crate::shutdown;
use crate::watchdog::Watchdog;

/// How a pipeline ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Ending {
    /// Everything that was there at the start is delivered (`run --until caught-up`).
    CaughtUp,
    /// Stopped; everything that was read is delivered and every lease is released.
    Drained,
    /// Stopped; the grace was over before everything was delivered. The rest is read again by whoever takes the leases.
    DrainUnfinished,
}

/// A lease that this process holds.
pub(crate) struct Held {
    pub row: LeaseRow,
    pub fence: Fence,
    /// Which reader feeds which destination.
    pub feeds: Arc<Feeds>,
    /// The tasks that read the shard, by number.
    pub readers: BTreeMap<u64, AbortHandle>,
    /// Where a destination wants to be read for, and its epoch, until the parents allow it (I11).
    pub wanted: BTreeMap<DestinationId, (Position, u64)>,
    /// Destinations for which the shard is read to its end.
    pub read_to_end: BTreeSet<DestinationId>,
    /// On its way out: nothing is read any more.
    pub leaving: bool,
    /// On its way out because it cannot be read here.
    pub let_go: bool,
}

impl Held {
    fn new(row: LeaseRow, fence: Fence) -> Self {
        Self {
            row,
            fence,
            feeds: Arc::default(),
            readers: BTreeMap::new(),
            wanted: BTreeMap::new(),
            read_to_end: BTreeSet::new(),
            leaving: false,
            let_go: false,
        }
    }
}

/// The ways to the loop of one destination.
pub(crate) struct ToLoop {
    pub notices: mpsc::UnboundedSender<Notice>,
    pub outlet: Outlet,
}

/// What tasks that end tell the loop.
pub(crate) enum Ended {
    Reader {
        lease: LeaseKey,
        tenure: Tenure,
        reader: u64,
        end: ReadEnd,
    },
    Children {
        lease: LeaseKey,
        tenure: Tenure,
        /// Whom the reader fed that came to the end.
        fed: Vec<Subscriber>,
    },
    /// Reads say that the shard is gone, the stream says that it is not.
    StillThere {
        lease: LeaseKey,
        tenure: Tenure,
    },
    Drain {
        lease: LeaseKey,
        tenure: Tenure,
        delivered: bool,
    },
    Look {
        caught_up: bool,
    },
}

pub(crate) struct PipelineWorker {
    pub name: String,
    pub destinations: BTreeMap<DestinationId, ToLoop>,
    pub stream: Stream,
    /// How shards are read.
    pub readers: Readers,
    /// How records become user records; the hash range is each shard's own.
    pub unpack: Unpack,
    pub retention: Duration,
    /// Whether the stream is still the same, and word of it when it is not.
    pub identity: Identity,
    pub replaced: watch::Receiver<Option<String>>,
    pub leases: LeaseHandle,
    pub events: mpsc::UnboundedReceiver<LeaseEvent>,
    pub orders: mpsc::UnboundedReceiver<(DestinationId, Order)>,
    /// The number of the last reader that was started.
    pub last_reader: u64,
    pub context: ReadContext,
    pub health: Health,
    pub metrics: Metrics,
    pub at: At,
    pub until: Option<Millis>,
    /// Whether somebody is looking whether everything is caught up.
    pub looking: bool,
    /// Whether something that was read could not be delivered while its lease was drained.
    pub undelivered: bool,
    pub grace: Duration,
    pub held: BTreeMap<LeaseKey, Held>,
    /// Leases that wait for a person.
    pub quarantine: BTreeMap<DestinationId, Quarantine>,
    pub watchdog: Watchdog,
    pub tasks: JoinSet<Ended>,
}

/// Between two looks at whether everything is caught up, and at children that wait for their parents.
const LOOK: Duration = Duration::from_secs(1);
/// How long a drain for another worker may take: the KCL's `gracefulLeaseHandoffTimeoutMillis`.
const HAND_OVER_MAX: Duration = Duration::from_secs(30);
/// A shard without an answer for so long counts as falling behind.
const SILENCE: Duration = Duration::from_secs(5);

impl PipelineWorker {
    /// Works until `stop`, or until everything is caught up, then drains.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<Ending, WorkerError> {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let ending = loop {
            // In this order: the end, what changes our rights, what delivery needs, what has ended.
            tokio::select! {
                biased;
                () = stop.cancelled() => break Ending::Drained,
                Ok(()) = self.replaced.changed() => return self.end_of_the_stream().await,
                event = self.events.recv() => match event {
                    Some(event) => self.lease_event(event),
                    None => return Err(WorkerError::Failed("the lease coordinator has ended".into())),
                },
                Some((destination, order)) = self.orders.recv() => self.order(&destination, order),
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => match ended {
                    Ok(Ended::Look { caught_up: true }) => break Ending::CaughtUp,
                    Ok(ended) => self.ended(ended),
                    Err(error) if error.is_cancelled() => {} // a reader that was stopped
                    Err(error) => return Err(WorkerError::Failed(format!("a task of the pipeline failed: {error}"))),
                },
                _ = look.tick() => {
                    self.health.alive();
                    self.start_waiting_readers();
                    self.show_lag();
                    self.show_quarantine();
                    self.show_upkeep();
                    self.watch_reads();
                    self.show_leases();
                    self.look_whether_caught_up();
                }
            }
        };
        shutdown::drain(self, ending).await
    }

    /// The stream is another one now. Its records are none of ours; what was read before is delivered.
    async fn end_of_the_stream(self) -> Result<Ending, WorkerError> {
        let cause = self.replaced.borrow().clone().unwrap_or_default();
        shutdown::drain(self, Ending::Drained).await?;
        Err(WorkerError::Findings(cause))
    }

    pub(crate) fn lease_event(&mut self, event: LeaseEvent) {
        match event {
            LeaseEvent::Taken { row, fence, .. } => {
                info!(shard = %row.key, "lease taken");
                for id in
                    row.destinations.keys().filter(|id| !self.destinations.contains_key(*id) && !row.off.contains(*id))
                {
                    warn!(shard = %row.key, destination = %id, "the row names a destination that the config lacks: \
                        its checkpoint stands still until it is back, or listed under `retired`");
                }
                self.metrics.leases_taken.get_or_create(&self.at).inc();
                if let Some(alone) = self.leases.rows().alone.get(&row.key) {
                    self.metrics.lease_takeover_seconds.get_or_create(&self.at).set(alone.as_secs_f64());
                }
                let held = Held::new((*row).clone(), fence.clone());
                if let Some(old) = self.held.get(&row.key).map(|old| old.fence.tenure) {
                    self.forget(&row.key, old);
                }
                self.held.insert(row.key.clone(), held);
                for to in self.destinations.values() {
                    to.tell(Notice::Taken { row: row.clone(), fence: fence.clone() });
                }
            }
            LeaseEvent::Lost { lease, tenure, reason: LostReason::Ended } => {
                info!(shard = %lease, "the shard is finished for everybody");
                self.forget(&lease, tenure);
            }
            LeaseEvent::Lost { lease, tenure, reason } => {
                warn!(shard = %lease, reason = %reason, "lease lost");
                self.metrics.lease_lost.get_or_create(&self.at.why(&reason.to_string())).inc();
                self.note_if_leaving(&lease, tenure);
                self.forget(&lease, tenure);
            }
            LeaseEvent::HandOver { lease, tenure } => {
                if self.is_held(&lease, tenure) {
                    info!(shard = %lease, "another worker waits for this lease: handing it over");
                    self.leave_within(&lease, HAND_OVER_MAX);
                }
            }
        }
        self.metrics.leases_held.get_or_create(&self.at).set(self.held.len() as i64);
    }

    pub(crate) fn is_held(&self, lease: &LeaseKey, tenure: Tenure) -> bool {
        self.held.get(lease).is_some_and(|held| held.fence.tenure == tenure)
    }

    /// A lease that ends while it is drained takes what was not delivered with it.
    fn note_if_leaving(&mut self, lease: &LeaseKey, tenure: Tenure) {
        let leaving = self.held.get(lease).is_some_and(|held| held.leaving && held.fence.tenure == tenure);
        self.undelivered |= leaving;
    }

    /// Drops everything local of a lease.
    pub(crate) fn forget(&mut self, lease: &LeaseKey, tenure: Tenure) {
        if !self.is_held(lease, tenure) {
            return;
        }
        if let Some(mut held) = self.held.remove(lease) {
            held.stop_readers(&self.context.progress);
            self.watchdog.forget(lease);
            self.metrics.source_lag_seconds.remove(&self.at.shard(lease.as_str()));
            self.metrics.shard_read_age_seconds.remove(&self.at.shard(lease.as_str()));
            for to in self.destinations.values() {
                to.tell(Notice::Lost { lease: lease.clone(), tenure });
            }
        }
        self.metrics.leases_held.get_or_create(&self.at).set(self.held.len() as i64);
    }

    /// Stops reading, delivers what is buffered, finalizes, and then gives the lease back.
    pub(crate) fn leave(&mut self, lease: &LeaseKey) {
        self.leave_within(lease, Duration::MAX);
    }

    /// As `leave`; but a destination that is down does not hold the lease for ever: then it is given back as it is, and
    /// whoever waits for it finishes what is committed and reads the rest again.
    fn leave_within(&mut self, lease: &LeaseKey, most: Duration) {
        let Some(held) = self.held.get_mut(lease).filter(|held| !held.leaving) else { return };
        held.leaving = true;
        held.wanted.clear();
        held.stop_readers(&self.context.progress);
        let tenure = held.fence.tenure;
        let drain = |to: &ToLoop| {
            let (drained, answer) = oneshot::channel();
            to.tell(Notice::Drain { lease: lease.clone(), tenure, drained });
            answer
        };
        let answers = futures_util::future::join_all(self.destinations.values().map(drain));
        let lease = lease.clone();
        self.tasks.spawn(async move {
            let answers = tokio::time::timeout(most, answers).await;
            let delivered = answers.is_ok_and(|answers| answers.iter().all(|answer| matches!(answer, Ok(true))));
            Ended::Drain { lease, tenure, delivered }
        });
    }

    pub(crate) fn order(&mut self, destination: &DestinationId, order: Order) {
        match order {
            Order::Read { lease, tenure, from, epoch } => {
                let reads = |held: &&mut Held| held.fence.tenure == tenure && !held.leaving;
                if let Some(held) = self.held.get_mut(&lease).filter(reads) {
                    held.read_to_end.remove(destination);
                    held.wanted.insert(destination.clone(), (from, epoch));
                    self.read_no_more(&lease, destination);
                    self.start_readers(&lease);
                }
            }
            Order::Detach { lease, tenure } => {
                if let Some(held) = self.held.get_mut(&lease).filter(|held| held.fence.tenure == tenure) {
                    held.wanted.remove(destination);
                    self.read_no_more(&lease, destination);
                }
            }
            Order::WalkAway { lease, tenure } => {
                self.note_if_leaving(&lease, tenure);
                if self.is_held(&lease, tenure) {
                    self.forget(&lease, tenure);
                    self.leases.send(Command::WalkAway { lease, tenure });
                }
            }
            Order::HandsOff { lease, tenure } => {
                if let Some(held) = self.held.get(&lease).filter(|held| held.fence.tenure == tenure) {
                    let positions = held.row.destinations.clone();
                    self.forget(&lease, tenure);
                    let quarantine = self.quarantine.entry(destination.clone()).or_default();
                    quarantine.enter(lease.clone(), self.context.clock.elapsed(), positions.clone());
                    self.leases.send(Command::HandsOff { lease, tenure, positions });
                }
            }
            Order::Ended { lease, tenure } => {
                info!(shard = %lease, %destination, "shard delivered to its end");
                if let Some(held) = self.held.get_mut(&lease).filter(|held| held.fence.tenure == tenure) {
                    held.read_to_end.insert(destination.clone());
                }
                self.leases.send(Command::Ended { lease, tenure });
            }
        }
    }

    /// A shard that cannot be read falls behind all the same.
    fn show_lag(&self) {
        let now = self.context.clock.elapsed();
        for (lease, held) in &self.held {
            let seen = held.readers.keys().filter_map(|reader| self.context.progress.get(lease, *reader));
            // Of several readers, the one before the others.
            let Some(seen) = seen.filter(|seen| !seen.ended).min_by_key(|seen| seen.behind) else { continue };
            let Some(silent) = seen.read_at.map(|at| now.saturating_sub(at)).filter(|silent| *silent > SILENCE) else {
                continue;
            };
            let lag = (seen.behind + silent).as_secs_f64();
            self.metrics.source_lag_seconds.get_or_create(&self.at.shard(lease.as_str())).set(lag);
        }
        let ours = |id: &DestinationId| self.destinations.contains_key(id);
        let held_back = |held: &&Held| held.row.destinations.keys().any(|id| !ours(id) && !held.row.off.contains(id));
        let held_back = self.held.values().filter(held_back).count() as i64;
        self.metrics.checkpoint_held_back.get_or_create(&self.at).set(held_back);
    }

    fn show_leases(&self) {
        let rows = self.leases.rows();
        let unfinished = rows.leases.values().filter(|row| !row.ended()).count();
        let oldest = rows.alone.values().max().copied().unwrap_or_default();
        self.metrics.leases.get_or_create(&self.at).set(unfinished as i64);
        self.metrics.leases_unassigned.get_or_create(&self.at).set(rows.alone.len() as i64);
        self.metrics.lease_unassigned_age_seconds.get_or_create(&self.at).set(oldest.as_secs_f64());
    }

    /// The alarm ends when somebody has settled the lease.
    fn show_quarantine(&mut self) {
        let rows = self.leases.rows();
        for (destination, quarantine) in &mut self.quarantine {
            let at = At { pipeline: self.name.clone(), destination: destination.to_string() };
            self.metrics.commit_quarantined.get_or_create(&at).set(quarantine.waiting(&rows) as i64);
        }
    }

    /// `run --until caught-up`: asks, beside everything else, whether the end has come.
    fn look_whether_caught_up(&mut self) {
        let Some(until) = self.until.filter(|_| !self.looking) else { return };
        self.looking = true;
        let seen = caught_up::Seen {
            read_here: self.held.iter().all(|(lease, held)| self.is_read(lease, held, until)),
            rows: self.leases.rows(),
            held: self.held.keys().cloned().collect(),
            destinations: self.destinations.keys().cloned().collect(),
            unpack: self.unpack,
        };
        let stream = self.stream.clone();
        self.tasks.spawn(async move { Ended::Look { caught_up: caught_up::reached(until, &seen, &stream).await } });
    }

    pub(crate) fn ended(&mut self, ended: Ended) {
        match ended {
            Ended::Reader { lease, tenure, reader, end } if self.is_held(&lease, tenure) => {
                self.reader_ended((lease, tenure, reader), end);
            }
            Ended::Children { lease, tenure, fed } if self.is_held(&lease, tenure) => {
                for Subscriber { destination, epoch, from: at, .. } in fed {
                    self.notify(&destination, Notice::ShardEnd { lease: lease.clone(), tenure, epoch, at });
                }
            }
            Ended::StillThere { lease, tenure } if self.is_held(&lease, tenure) => {
                // Nothing was skipped: the lease is taken again, and read on from its position.
                self.forget(&lease, tenure);
                self.leases.send(Command::WalkAway { lease, tenure });
            }
            Ended::Look { .. } => self.looking = false,
            Ended::Drain { lease, tenure, delivered } => {
                self.undelivered |= !delivered;
                if self.is_held(&lease, tenure) {
                    let let_go = self.held.get(&lease).is_some_and(|held| held.let_go);
                    self.forget(&lease, tenure);
                    self.leases.send(if let_go {
                        Command::LetGo { lease, tenure }
                    } else {
                        Command::Release { lease, tenure }
                    });
                }
            }
            _ => {}
        }
    }

    pub(crate) fn notify(&self, destination: &DestinationId, notice: Notice) {
        if let Some(to) = self.destinations.get(destination) {
            to.tell(notice);
        }
    }
}

impl ToLoop {
    fn tell(&self, notice: Notice) {
        // The delivery loop ends only after this sender is gone.
        let _ = self.notices.send(notice);
    }
}
