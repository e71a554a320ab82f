//! One pipeline in one process: leases come and go, readers start and stop, delivery loops say what they need.
//!
//! A shell of one `select!`; every task it starts stands in the table below.
//!
//! | task | ends when | its error means | cancelled by |
//! |---|---|---|---|
//! | coordinator, heartbeats | told to stop, after everything is released | the pipeline ends | the end of the process |
//! | delivery loop, one a destination | its notices are closed | never fails | the end of the pipeline |
//! | reader, one a lease | the shard ends | the shard is gone: confirmed, then its end | loss, hand-over, rewind, watchdog |
//! | drain, one a lease | everything is finalized | the lease is lost | loss |
//! | children, one a closed shard | their leases exist | tried again | loss |
//! | sweeper | never | logged | the end of the pipeline |
//!
//! Never here: what a commit means, which lease to take, how a record is encoded.

use std::collections::BTreeMap;
use std::time::Duration;

use standpipe_flow::{ChildShard, DestinationId, Fence, LeaseKey, LeaseRow, Millis, Position, Tenure};
use standpipe_lease::may_read;
use standpipe_lease::{Command, LeaseEvent, LeaseHandle, LostReason};
use standpipe_pipeline::deliver::{Notice, Order};
use standpipe_pipeline::metrics::{At, Metrics};
use standpipe_pipeline::shard::{self, Arrived, ReadContext, ReadEnd, Reading};
use standpipe_source::{ReadFrom, Stream, Unpack};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::admin::Health;
use crate::caught_up;
use crate::errors::WorkerError;
use crate::incarnation::{Identity, Incarnation};
use crate::quarantine::Quarantine;
use crate::reader::Readers;
use crate::shutdown;
use crate::watchdog::{Verdict, Watchdog};

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
    row: LeaseRow,
    fence: Fence,
    reader: Option<Reader>,
    /// Where the delivery loop wants to be read from, until the parents allow it (I11).
    wanted: Option<(Position, u64)>,
    /// On its way out: nothing is read any more.
    leaving: bool,
    /// On its way out because it cannot be read here.
    let_go: bool,
}

impl Held {
    fn new(row: LeaseRow, fence: Fence) -> Self {
        Self { row, fence, reader: None, wanted: None, leaving: false, let_go: false }
    }
}

/// The task that reads a shard, and which start of the reader it is.
struct Reader {
    task: AbortHandle,
    epoch: u64,
}

/// What tasks that end tell the loop.
pub(crate) enum Ended {
    Reader {
        lease: LeaseKey,
        tenure: Tenure,
        epoch: u64,
        end: ReadEnd,
    },
    Children {
        lease: LeaseKey,
        tenure: Tenure,
        epoch: u64,
        at: Position,
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
    pub destination: DestinationId,
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
    pub notices: mpsc::UnboundedSender<Notice>,
    pub orders: mpsc::UnboundedReceiver<Order>,
    pub chunks: mpsc::Sender<Arrived>,
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
    pub quarantine: Quarantine,
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
                Some(order) = self.orders.recv() => self.order(order),
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
                for id in row.destinations.keys().filter(|id| **id != self.destination && !row.off.contains(*id)) {
                    warn!(shard = %row.key, destination = %id, "the row names a destination that the config lacks: \
                        its checkpoint stands still until it is back, or listed under `retired`");
                }
                self.metrics.leases_taken.get_or_create(&self.at).inc();
                if let Some(alone) = self.leases.rows().alone.get(&row.key) {
                    self.metrics.lease_takeover_seconds.get_or_create(&self.at).set(alone.as_secs_f64());
                }
                let held = Held::new((*row).clone(), fence.clone());
                if let Some(old) = self.held.insert(row.key.clone(), held) {
                    stop_reader(&old);
                    self.notify(Notice::Lost { lease: row.key.clone(), tenure: old.fence.tenure });
                }
                self.notify(Notice::Taken { row, fence });
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

    fn is_held(&self, lease: &LeaseKey, tenure: Tenure) -> bool {
        self.held.get(lease).is_some_and(|held| held.fence.tenure == tenure)
    }

    /// A lease that ends while it is drained takes what was not delivered with it.
    fn note_if_leaving(&mut self, lease: &LeaseKey, tenure: Tenure) {
        let leaving = self.held.get(lease).is_some_and(|held| held.leaving && held.fence.tenure == tenure);
        self.undelivered |= leaving;
    }

    /// Drops everything local of a lease.
    fn forget(&mut self, lease: &LeaseKey, tenure: Tenure) {
        if !self.is_held(lease, tenure) {
            return;
        }
        if let Some(held) = self.held.remove(lease) {
            stop_reader(&held);
            self.context.progress.forget(lease);
            self.watchdog.forget(lease);
            self.metrics.source_lag_seconds.remove(&self.at.shard(lease.as_str()));
            self.metrics.shard_read_age_seconds.remove(&self.at.shard(lease.as_str()));
            self.notify(Notice::Lost { lease: lease.clone(), tenure });
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
        held.wanted = None;
        stop_reader(held);
        let tenure = held.fence.tenure;
        let (drained, answer) = oneshot::channel();
        self.notify(Notice::Drain { lease: lease.clone(), tenure, drained });
        let lease = lease.clone();
        self.tasks.spawn(async move {
            let delivered = matches!(tokio::time::timeout(most, answer).await, Ok(Ok(true)));
            Ended::Drain { lease, tenure, delivered }
        });
    }

    pub(crate) fn order(&mut self, order: Order) {
        match order {
            Order::Read { lease, tenure, from, epoch } => {
                let Some(held) = self.held.get_mut(&lease).filter(|held| held.fence.tenure == tenure && !held.leaving)
                else {
                    return;
                };
                stop_reader(held);
                self.context.progress.forget(&lease);
                held.wanted = Some((from, epoch));
                self.start_reader(&lease);
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
                    self.quarantine.enter(lease.clone(), self.context.clock.elapsed(), positions.clone());
                    self.leases.send(Command::HandsOff { lease, tenure, positions });
                }
            }
            Order::Ended { lease, tenure } => {
                info!(shard = %lease, "shard delivered to its end");
                self.leases.send(Command::Ended { lease, tenure });
            }
        }
    }

    /// A shard that cannot be read falls behind all the same.
    fn show_lag(&self) {
        let now = self.context.clock.elapsed();
        for lease in self.held.keys() {
            let Some(seen) = self.context.progress.get(lease).filter(|seen| !seen.ended) else { continue };
            let Some(silent) = seen.read_at.map(|at| now.saturating_sub(at)).filter(|silent| *silent > SILENCE) else {
                continue;
            };
            let lag = (seen.behind + silent).as_secs_f64();
            self.metrics.source_lag_seconds.get_or_create(&self.at.shard(lease.as_str())).set(lag);
        }
        let held_back =
            |held: &&Held| held.row.destinations.keys().any(|id| *id != self.destination && !held.row.off.contains(id));
        let held_back = self.held.values().filter(held_back).count() as i64;
        self.metrics.checkpoint_held_back.get_or_create(&self.at).set(held_back);
    }

    /// A read that does not come back is given up, and begun anew; see [`crate::watchdog`].
    fn watch_reads(&mut self) {
        let now = self.context.clock.elapsed();
        let mut stuck = Vec::new();
        for (lease, held) in &self.held {
            let Some(reader) = &held.reader else { continue };
            let age = self.context.progress.read_age(lease, now).unwrap_or_default();
            self.metrics.shard_read_age_seconds.get_or_create(&self.at.shard(lease.as_str())).set(age.as_secs_f64());
            if age >= self.watchdog.limit {
                stuck.push((lease.clone(), held.fence.tenure, reader.epoch));
            }
        }
        for (lease, tenure, epoch) in stuck {
            self.stumbled(lease, tenure, epoch, "stuck");
        }
        let rows = self.leases.rows();
        let unfinished = rows.leases.values().filter(|row| !row.ended()).count();
        let oldest = rows.alone.values().max().copied().unwrap_or_default();
        self.metrics.leases.get_or_create(&self.at).set(unfinished as i64);
        self.metrics.leases_unassigned.get_or_create(&self.at).set(rows.alone.len() as i64);
        self.metrics.lease_unassigned_age_seconds.get_or_create(&self.at).set(oldest.as_secs_f64());
    }

    /// A reader is stuck, or has died: another is started where it stood, or its lease is let go.
    fn stumbled(&mut self, lease: LeaseKey, tenure: Tenure, epoch: u64, why: &'static str) {
        let Some(held) = self.held.get_mut(&lease).filter(|held| !held.leaving) else { return };
        stop_reader(held);
        held.reader = None;
        self.metrics.read_restarts.get_or_create(&self.at.why(why)).inc();
        match self.watchdog.stumbled(&lease, self.context.clock.elapsed()) {
            Verdict::ReadOn => {
                warn!(shard = %lease, why, "a read did not come to its end: reading on with a new reader");
                self.context.progress.forget(&lease);
                self.notify(Notice::Stumbled { lease, tenure, epoch });
            }
            Verdict::LetGo => {
                error!(shard = %lease, why, "a read did not come to its end again: letting the lease go, for another worker to try");
                self.leave(&lease);
                if let Some(held) = self.held.get_mut(&lease) {
                    held.let_go = true;
                }
            }
        }
    }

    /// The alarm ends when somebody has settled the lease.
    fn show_quarantine(&mut self) {
        let waiting = self.quarantine.waiting(&self.leases.rows()) as i64;
        let at = At { pipeline: self.name.clone(), destination: self.destination.to_string() };
        self.metrics.commit_quarantined.get_or_create(&at).set(waiting);
    }

    /// `run --until caught-up`: asks, beside everything else, whether the end has come.
    fn look_whether_caught_up(&mut self) {
        let Some(until) = self.until.filter(|_| !self.looking) else { return };
        self.looking = true;
        let seen = caught_up::Seen {
            progress: self.context.progress.clone(),
            rows: self.leases.rows(),
            held: self.held.keys().cloned().collect(),
            destination: self.destination.clone(),
        };
        let stream = self.stream.clone();
        self.tasks.spawn(async move { Ended::Look { caught_up: caught_up::reached(until, &seen, &stream).await } });
    }

    fn start_waiting_readers(&mut self) {
        let waiting: Vec<LeaseKey> =
            self.held.iter().filter(|(_, held)| held.wanted.is_some()).map(|(lease, _)| lease.clone()).collect();
        for lease in waiting {
            self.start_reader(&lease);
        }
    }

    /// Starts the reader that delivery asked for, once every parent is finalized at SHARD_END (I11).
    fn start_reader(&mut self, lease: &LeaseKey) {
        let rows = self.leases.rows();
        let Some(held) = self.held.get_mut(lease) else { return };
        if !may_read(&held.row, &rows, &self.destination) {
            return;
        }
        let Some((position, epoch)) = held.wanted.take() else { return };
        // Not from the row as it was taken: a commit that the take found is finalized by now, and has moved the position.
        let arrival = self.leases.arrival(lease, &self.destination, &position);
        warn_if_expired(lease, arrival, self.retention, &self.context);
        let tenure = held.fence.tenure;
        let of = Reading { lease: lease.clone(), epoch, from: position.clone() };
        let unpack = Unpack { hash_range: held.row.hash_range, ..self.unpack };
        let (shard, pinned) = (lease.shard(), held.row.start);
        let from = ReadFrom { shard, lease: lease.clone(), tenure, position, pinned, unpack };
        let reader = self.readers.reader(from);
        let (context, chunks, lease) = (self.context.clone(), self.chunks.clone(), lease.clone());
        let task = self.tasks.spawn(async move {
            let end = shard::read(reader, of, context, chunks).await;
            Ended::Reader { lease, tenure, epoch, end }
        });
        held.reader = Some(Reader { task, epoch });
    }

    pub(crate) fn ended(&mut self, ended: Ended) {
        match ended {
            Ended::Reader { lease, tenure, epoch, end } if self.is_held(&lease, tenure) => {
                let current = |held: &&mut Held| held.reader.as_ref().is_some_and(|reader| reader.epoch == epoch);
                if let Some(held) = self.held.get_mut(&lease).filter(current) {
                    held.reader = None;
                }
                match end {
                    ReadEnd::ShardEnd { children, at } => {
                        self.make_children((lease, tenure, epoch, at), Some(children));
                    }
                    ReadEnd::Gone { at } => self.make_children((lease, tenure, epoch, at), None),
                    ReadEnd::Died => self.stumbled(lease, tenure, epoch, "died"),
                    ReadEnd::Stopped => {}
                }
            }
            Ended::Children { lease, tenure, epoch, at } if self.is_held(&lease, tenure) => {
                self.notify(Notice::ShardEnd { lease, tenure, epoch, at });
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

    /// The children's leases exist before the parent's end is committed. Without word of the children (reads say that the
    /// shard is gone) the stream itself is asked: only a shard that it does not list any more has ended.
    fn make_children(
        &mut self,
        (lease, tenure, epoch, at): (LeaseKey, Tenure, u64, Position),
        known: Option<Vec<ChildShard>>,
    ) {
        let Some(parent) = self.held.get(&lease).map(|held| held.row.clone()) else { return };
        let (leases, context) = (self.leases.clone(), self.context.clone());
        let gone = Gone { catalog: self.stream.catalog(), identity: self.identity.clone(), lease: lease.clone() };
        self.tasks.spawn(async move {
            let children = match known {
                Some(children) => children,
                None => match gone.confirm().await {
                    Some(children) => {
                        context.metrics.records_possibly_expired.get_or_create(&context.at).inc();
                        error!(shard = %lease, "the stream does not keep the shard any more: what was left of it is lost");
                        children
                    }
                    None => return Ended::StillThere { lease, tenure },
                },
            };
            leases.make_children(parent, children).await;
            Ended::Children { lease, tenure, epoch, at }
        });
    }

    pub(crate) fn notify(&self, notice: Notice) {
        // The delivery loop ends only after this sender is gone.
        let _ = self.notices.send(notice);
    }
}

/// A shard of which reads say that it is gone. One answer proves nothing: an endpoint that restarts says so too.
struct Gone {
    catalog: standpipe_source::Catalog,
    identity: Identity,
    lease: LeaseKey,
}

impl Gone {
    /// The children of a shard that its stream, the same as at the start, does not list any more; `None` if it is listed.
    /// Asked until there is an answer: a stream that is gone, or another one, is an alarm and never a finished shard.
    async fn confirm(&self) -> Option<Vec<ChildShard>> {
        let shard = self.lease.shard();
        loop {
            tokio::time::sleep(GONE_PAUSE).await;
            let shards = self.catalog.shards(standpipe_source::ShardFilter::All).await;
            // Asked after the list. Another stream of the name may well list a shard of this id.
            let same = match self.identity.ask().await {
                Incarnation::Same => true,
                Incarnation::Another => std::future::pending().await, // the pipeline has been told, and ends
                Incarnation::Unknown => false,
            };
            match shards {
                Ok(shards) if same && shards.iter().any(|listed| listed.id == shard) => return None,
                Ok(shards) if same && !shards.is_empty() => {
                    let children = shards.into_iter().filter(|listed| listed.parents.contains(&shard));
                    let child = |listed: standpipe_source::ShardInfo| ChildShard {
                        id: listed.id,
                        parents: listed.parents,
                        hash_range: listed.hash_range,
                    };
                    return Some(children.map(child).collect());
                }
                Ok(_) => warn!(shard = %shard, "the stream does not say which one it is; waiting"),
                Err(error) => warn!(shard = %shard, %error, "the stream does not say what became of the shard"),
            }
        }
    }
}

/// Before the stream is asked about a shard that reads say is gone, and between two such questions.
const GONE_PAUSE: Duration = Duration::from_secs(2);

fn stop_reader(held: &Held) {
    if let Some(reader) = &held.reader {
        reader.task.abort();
    }
}

/// Protocol 4.9: records between the position and the trim horizon may be gone. Counted and alarmed before going on.
fn warn_if_expired(shard: &LeaseKey, arrival: Option<Millis>, retention: Duration, context: &ReadContext) {
    let Some(arrival) = arrival.filter(|_| !retention.is_zero()) else { return };
    let now = context.clock.wall();
    if now.since(arrival) > retention {
        context.metrics.records_possibly_expired.get_or_create(&context.at).inc();
        error!(shard = %shard, position_arrived_ms = arrival.0, now_ms = now.0,
            "the position is older than the stream keeps records: some may be lost");
    }
}
