//! `batch -> stage -> commit -> publish`: one loop per destination of a pipeline, shared by all shards of the worker.
//!
//! A thin shell: the batcher says when to cut, the protocol says what to do, effects are futures in one set whose
//! results are the protocol's next events. The loop itself never waits for a service.
//! Invariants: I4, I5, I17 by the protocol; I9, I15 at the door (the batcher).
//! Never here: retries inside a destination, `checkpoint`, leases, other destinations (but for what all hold: `detach`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use standpipe_flow::{
    Batch, BatchShard, Clock, CommitId, CommitLog, Destination, DestinationId, Holdings, LeaseKey, Millis, Mode,
    Position, Random, Range, Tenure, WorkerId,
};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::error;

use crate::batcher::{Batcher, Cut};
use crate::budget::{Budget, Hold, Holder};
use crate::effects::{Carried, Context};
use crate::feed::{self, Arrived};
use crate::metrics::{At, Metrics};
use crate::protocol::{Effect, Event, Protocol};

mod detach;
mod notice;
mod tell;

pub use notice::{Notice, Order};

/// What a delivery loop is made of.
pub struct Delivery {
    /// Who we are.
    pub worker: WorkerId,
    /// The destination's id.
    pub id: DestinationId,
    /// The destination.
    pub destination: Arc<dyn Destination>,
    /// The lease table and the commit table.
    pub log: Arc<dyn CommitLog>,
    /// The leases held by this process.
    pub holdings: Arc<Holdings>,
    /// The memory budget of the process.
    pub budget: Arc<Budget>,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for commit ids and jitter.
    pub random: Arc<dyn Random>,
    /// The deployment's fingerprint in commit ids.
    pub fingerprint: u32,
    /// Hash of the config that shapes the bytes.
    pub config: String,
    /// The program's version.
    pub version: String,
    /// Counters.
    pub metrics: Metrics,
    /// The pipeline's name.
    pub pipeline: String,
    /// How long the stream keeps a record; zero when that is not known.
    pub retention: Duration,
    /// `on_destination_failure: isolate`: rather than hold up the others, the destination is detached.
    pub isolate: bool,
}

/// Batches that are staged or committed at once at one destination; more would only hold memory. Commits that are
/// published or recovered hold none, and must not hold up the others.
const ATTEMPTS_MAX: usize = 16;

/// Declared ranges that are read again at once, at most: how large one is was another worker's to say.
const COLLECTING_MAX: usize = 4;

struct Attempt {
    /// The id that its outputs are staged under.
    outputs: CommitId,
    made_at: Duration,
    batch: Option<Arc<Batch>>,
    /// Its chunks' shares: given back when the batch is staged, or dead.
    holds: Vec<Hold>,
    sent: bool,
}

/// What rides on a buffered chunk.
#[derive(Debug)]
struct Rider {
    /// `None`: it is charged to nobody any more.
    hold: Option<Hold>,
    newest: Option<Millis>,
}

struct Loop {
    context: Context,
    budget: Arc<Budget>,
    fingerprint: u32,
    id: DestinationId,
    protocol: Protocol,
    batcher: Batcher<Rider>,
    size_bytes: u64,
    holder: Arc<Holder>,
    attempts: BTreeMap<CommitId, Attempt>,
    effects: JoinSet<Event>,
    orders: mpsc::UnboundedSender<(DestinationId, Order)>,
    /// The epoch that chunks of a lease must carry.
    epochs: BTreeMap<LeaseKey, (Tenure, u64)>,
    next_epoch: u64,
    drains: BTreeMap<LeaseKey, (Tenure, oneshot::Sender<bool>)>,
    /// Leases of which the last batch ends at SHARD_END.
    ending: BTreeSet<LeaseKey>,
    isolate: bool,
    /// Leases that owe a declared range, to be read once there is memory for it.
    waiting: BTreeSet<LeaseKey>,
    /// While it is detached: the leases to be read again, once its batches are staged.
    detached: Option<BTreeSet<LeaseKey>>,
}

impl Delivery {
    /// Runs until every sender of notices is gone. `chunks` is bounded by the budget: each chunk holds its share.
    pub async fn run(
        self,
        mut notices: mpsc::UnboundedReceiver<Notice>,
        mut chunks: mpsc::Receiver<Arrived>,
        orders: mpsc::UnboundedSender<(DestinationId, Order)>,
    ) {
        let mut delivery = self.into_loop(orders);
        let budget = delivery.budget.clone();
        loop {
            delivery.cut_what_is_due();
            let due = delivery.sleep_until_due();
            // In this order: what changes our rights, what was done, what is due, what comes in.
            tokio::select! {
                biased;
                notice = notices.recv() => match notice {
                    Some(notice) => {
                        // What was read before is part of what is drained, and a reader's end must not overtake it (I15).
                        if !matches!(notice, Notice::Taken { .. } | Notice::Lost { .. }) {
                            while let Ok(arrived) = chunks.try_recv() {
                                delivery.arrived(arrived);
                            }
                        }
                        delivery.notice(notice);
                    }
                    None => return,
                },
                Some(event) = delivery.effects.join_next() => match event {
                    Ok(event) => delivery.step(event),
                    // Its shards would wait for ever: end, so that the whole process begins anew.
                    Err(failed) => return error!(error = %failed, "an effect ended without an answer"),
                },
                () = due => {}
                () = budget.pressed() => {}
                Some(arrived) = chunks.recv() => delivery.arrived(arrived),
            }
        }
    }

    fn into_loop(self, orders: mpsc::UnboundedSender<(DestinationId, Order)>) -> Loop {
        let mode = self.destination.mode();
        let mut limits = self.destination.limits();
        if mode == Mode::Declared {
            limits.shards_max = 1; // I14: whoever takes one of several shards over could not send the whole again
        }
        let at = At { pipeline: self.pipeline, destination: self.id.to_string() };
        tell::begin_at_zero(&self.metrics, &at);
        Loop {
            protocol: Protocol::new(self.worker, (self.id.clone(), mode), self.config, self.version),
            size_bytes: limits.size_bytes,
            batcher: Batcher::new(limits),
            context: Context {
                at,
                destination: self.destination,
                log: self.log,
                holdings: self.holdings,
                clock: self.clock,
                random: self.random,
                metrics: self.metrics,
                error_turn: Arc::new(Semaphore::new(1)),
                retention: self.retention,
                refused: Carried::default(),
            },
            holder: self.budget.holder(),
            budget: self.budget,
            fingerprint: self.fingerprint,
            id: self.id,
            attempts: BTreeMap::new(),
            effects: JoinSet::new(),
            orders,
            epochs: BTreeMap::new(),
            next_epoch: 0,
            drains: BTreeMap::new(),
            ending: BTreeSet::new(),
            isolate: self.isolate,
            waiting: BTreeSet::new(),
            detached: None,
        }
    }
}

impl Loop {
    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Taken { row, fence } => self.step(Event::Taken { row, fence }),
            Notice::Lost { lease, tenure } => {
                self.close(&lease, tenure);
                self.step(Event::Lost { lease, tenure });
            }
            Notice::ShardEnd { lease, tenure, epoch, at } => {
                if self.epochs.get(&lease) == Some(&(tenure, epoch))
                    && let Err(broken) = self.batcher.end(&lease, tenure, &at)
                {
                    self.breach(
                        &lease,
                        broken,
                        "a shard ended before everything of it was buffered; reading on from there",
                    );
                    self.read_on(lease, tenure);
                }
            }
            Notice::Stumbled { lease, tenure, epoch } => {
                if self.epochs.get(&lease) == Some(&(tenure, epoch)) {
                    self.read_on(lease, tenure);
                }
            }
            Notice::Drain { lease, drained, .. } if self.is_collecting(&lease) => {
                // What it owes is not read to its end, and will not be: whoever takes the lease sends it.
                self.waiting.remove(&lease);
                let _ = drained.send(false);
            }
            Notice::Drain { lease, tenure, drained } => {
                self.batcher.flush(&lease);
                self.drains.insert(lease.clone(), (tenure, drained));
                self.step(Event::FinalizeNow { lease });
            }
        }
    }

    /// Forgets everything local of a lease.
    fn close(&mut self, lease: &LeaseKey, tenure: Tenure) {
        if self.epochs.get(lease).is_some_and(|(held, _)| *held == tenure) {
            self.epochs.remove(lease);
            self.batcher.close(lease);
            self.ending.remove(lease);
            self.waiting.remove(lease);
            if let Some(leases) = &mut self.detached {
                leases.remove(lease);
            }
        }
        if self.drains.get(lease).is_some_and(|(held, _)| *held == tenure) {
            self.drains.remove(lease);
        }
    }

    fn arrived(&mut self, Arrived { chunk, epoch, share, newest }: Arrived) {
        if self.epochs.get(&chunk.lease) != Some(&(chunk.tenure, epoch)) {
            return;
        } // void: the reader was started anew
        let lease = chunk.lease.clone();
        let (chunk, crosses) = match self.batcher.owed(&lease).filter(|to| chunk.to > **to && chunk.from < **to) {
            Some(to) => (feed::until(chunk, to), true),
            None => (chunk, false),
        };
        let rider = Rider { hold: Some(self.holder.hold(share)), newest };
        if let Err(broken) = self.batcher.push(chunk, rider, self.context.clock.elapsed()) {
            self.breach(&lease, broken, "what was read does not continue what is buffered; reading anew");
            if let Some((tenure, _)) = self.epochs.get(&lease).copied() {
                self.step(Event::Lost { lease: lease.clone(), tenure });
                self.close(&lease, tenure);
                self.order(Order::WalkAway { lease, tenure });
            }
        } else if crosses && let Some((tenure, _)) = self.epochs.get(&lease).copied() {
            self.read_on(lease, tenure); // what came after it is read again
        }
    }

    /// Whether the lease owes a declared range that is not yet cut again.
    fn is_collecting(&self, lease: &LeaseKey) -> bool {
        self.protocol.owed(lease).is_some() && self.protocol.ready(lease).is_some()
    }

    /// A reader waits for memory that nothing can give back which is not whole: it lets its share go. So the process holds
    /// more than its budget, for as long as that takes, by what was declared of [`COLLECTING_MAX`] shards at most.
    fn let_the_owed_go_uncharged(&mut self) {
        if !self.budget.pressure() {
            return;
        }
        let collecting: Vec<LeaseKey> = self.epochs.keys().filter(|lease| self.is_collecting(lease)).cloned().collect();
        for lease in collecting {
            self.batcher.shares_mut(&lease).for_each(|rider| rider.hold = None);
        }
    }

    /// Whether another declared range may be read. Nothing of one can be cut before the whole is there: together they must
    /// fit into half the memory, those that are cut and charged to nobody included.
    fn may_collect(&self) -> bool {
        let collecting = self.epochs.keys().filter(|lease| self.is_collecting(lease) && !self.waiting.contains(*lease));
        let uncharged = self.attempts.values().filter(|attempt| attempt.batch.is_some() && attempt.holds.is_empty());
        let room = self.budget.total_bytes() / 2 / self.size_bytes.max(1);
        let room = usize::try_from(room).unwrap_or(usize::MAX).clamp(1, COLLECTING_MAX);
        collecting.count() + uncharged.count() < room
    }

    fn collect_what_waits(&mut self) {
        while !self.waiting.is_empty() && self.detached.is_none() && self.may_collect() {
            if let Some(lease) = self.waiting.pop_first()
                && let Some((tenure, _)) = self.epochs.get(&lease).copied()
            {
                self.read_on(lease, tenure);
            }
        }
    }

    /// Starts the reader of a shard anew where what is buffered ends. Nothing that came before is void.
    fn read_on(&mut self, lease: LeaseKey, tenure: Tenure) {
        let Some(from) = self.batcher.next(&lease, tenure).cloned() else { return };
        let epoch = self.new_epoch(&lease, tenure);
        self.order(Order::Read { lease, tenure, from, epoch });
    }

    fn new_epoch(&mut self, lease: &LeaseKey, tenure: Tenure) -> u64 {
        self.next_epoch += 1;
        self.epochs.insert(lease.clone(), (tenure, self.next_epoch));
        self.next_epoch
    }

    fn cut_what_is_due(&mut self) {
        let now = self.context.clock.elapsed();
        self.detach_or_come_back(now);
        self.collect_what_waits();
        while self.protocol.undecided() < ATTEMPTS_MAX && self.may_hold_another_batch() {
            let protocol = &self.protocol;
            let ready = |lease: &LeaseKey| protocol.ready(lease).is_some();
            let short = self.budget.pressure() || self.is_full();
            let Some(cut) = self.batcher.cut(now, short, ready) else { break };
            self.begin(cut, now);
        }
        self.let_the_owed_go_uncharged();
        // Here alone: whatever settles a lease, this runs before the loop waits again.
        self.answer_drains();
        let metrics = &self.context.metrics;
        metrics.buffer_bytes.get_or_create(&self.context.at).set(self.batcher.bytes() as i64);
    }

    async fn sleep(until: Option<Duration>, now: Duration) {
        match until {
            Some(until) => tokio::time::sleep(until.saturating_sub(now)).await,
            None => std::future::pending().await,
        }
    }

    fn sleep_until_due(&self) -> impl Future<Output = ()> + use<> {
        let may_cut = self.protocol.undecided() < ATTEMPTS_MAX && self.may_hold_another_batch();
        let due = may_cut.then(|| self.batcher.due(|lease| self.protocol.ready(lease).is_some())).flatten();
        let now = self.context.clock.elapsed();
        Self::sleep(due.into_iter().chain(self.look_again(now)).min(), now)
    }

    fn new_cid(&self) -> CommitId {
        CommitId::new(self.context.clock.wall(), self.fingerprint, self.context.random.next())
    }

    /// A batch was cut: it gets its id, or has the one that it was declared under before.
    fn begin(&mut self, cut: Cut<Rider>, now: Duration) {
        let outputs = self.new_cid();
        let declares = self.context.destination.mode() == Mode::Declared;
        let declared = declares.then(|| {
            let owed = cut.shards.first().and_then(|part| self.protocol.owed(&part.lease)).map(|(cid, _)| cid);
            owed.unwrap_or_else(|| self.new_cid())
        });
        let cid = declared.unwrap_or(outputs);
        self.context.metrics.buffer_flush.get_or_create(&self.context.at.why(cut.reason.label())).inc();
        let mut holds = Vec::new();
        let mut shards = Vec::new();
        for part in cut.shards {
            let (fence, from, arrival) = self.protocol.ready(&part.lease).expect("only ready shards are cut");
            let (fence, from, before) = (fence.clone(), from.clone(), arrival);
            let (chunks, riders): (Vec<_>, Vec<Rider>) = part.chunks.into_iter().unzip();
            let arrival = riders.iter().rev().find_map(|rider| rider.newest).or(before);
            holds.extend(riders.into_iter().filter_map(|rider| rider.hold));
            if part.to == Position::ShardEnd {
                self.ending.insert(part.lease);
            }
            shards.push(BatchShard { range: Range { fence, from, to: part.to, arrival }, chunks });
        }
        let cut_at = self.context.clock.wall();
        let batch = Batch { destination: self.id.clone(), cut_at, declared, shards };
        let ranges = batch.ranges();
        let batch = Some(Arc::new(batch));
        self.attempts.insert(cid, Attempt { outputs, made_at: now, batch, holds, sent: false });
        self.step(Event::Cut { cid, ranges });
    }

    fn step(&mut self, event: Event) {
        if let Event::Staged { cid, .. } | Event::Unstaged { cid } = &event
            && let Some(attempt) = self.attempts.get_mut(cid)
        {
            attempt.batch = None;
            attempt.holds.clear();
        }
        if let Event::Staged { cid, staged } = &event
            && *cid != staged.cid
            && let Some(attempt) = self.attempts.remove(cid)
        {
            self.attempts.insert(staged.cid, attempt); // as the protocol renames it
        }
        let finalized = match &event {
            Event::Finalized { lease, .. } | Event::Advanced { lease, .. } => Some(lease.clone()),
            _ => None,
        };
        for effect in self.protocol.step(event) {
            self.carry_out(effect);
        }
        self.attempts.retain(|cid, _| self.protocol.knows(*cid));
        if let Some(lease) = finalized {
            self.after_finalized(&lease);
        }
        let pending = self.protocol.attempts() as i64;
        self.context.metrics.publish_pending.get_or_create(&self.context.at).set(pending);
    }

    fn carry_out(&mut self, effect: Effect) {
        let context = self.context.clone();
        match effect {
            Effect::Read { lease, tenure, from } => self.read(lease, tenure, from),
            Effect::Stage { cid } => {
                if let Some(attempt) = self.attempts.get(&cid)
                    && let Some(batch) = attempt.batch.clone()
                {
                    self.effects.spawn(context.stage(cid, attempt.outputs, batch));
                }
            }
            Effect::Declare { run, declare } => {
                self.effects.spawn(context.declare(run, *declare));
            }
            Effect::Commit { run, commit } => {
                let attempt = self.attempts.get_mut(&commit.receipt.cid);
                let (made_at, sent) = attempt.map_or((Duration::ZERO, true), |attempt| {
                    (attempt.made_at, std::mem::replace(&mut attempt.sent, true))
                });
                self.effects.spawn(context.commit(run, *commit, made_at, sent));
            }
            Effect::ReadReceipt { cid, run } => {
                self.effects.spawn(context.receipt(cid, run));
            }
            Effect::Publish { run, receipt } => {
                self.effects.spawn(context.publish(run, *receipt));
            }
            Effect::Done { cid, run, gave_up } => {
                self.effects.spawn(context.done(cid, run, gave_up));
            }
            Effect::FinalizeSoon { finalize, tenure } => {
                if self.drains.contains_key(&finalize.lease) || self.ending.contains(&finalize.lease) {
                    self.effects.spawn(context.finalize(finalize, tenure));
                } else {
                    self.effects.spawn(context.finalize_soon(finalize, tenure));
                }
            }
            Effect::Finalize { finalize, tenure } => {
                self.effects.spawn(context.finalize(finalize, tenure));
            }
            Effect::Retract { run, receipt } => {
                self.effects.spawn(context.retract(run, *receipt));
            }
            Effect::Advance(advance) => {
                self.effects.spawn(context.advance(advance));
            }
            Effect::Discard { cid, outputs } => {
                self.effects.spawn(async move {
                    context.throw_away(cid, &outputs).await;
                    Event::Unstaged { cid } // an attempt that is over: the protocol knows nothing of it any more
                });
            }
            effect => self.tell(effect),
        }
    }

    fn read(&mut self, lease: LeaseKey, tenure: Tenure, from: Position) {
        let epoch = self.new_epoch(&lease, tenure);
        self.ending.remove(&lease);
        let owed = self.protocol.owed(&lease).map(|(_, to)| to.clone());
        let owes = owed.is_some();
        self.batcher.open(lease.clone(), tenure, from.clone(), owed);
        if from == Position::ShardEnd {
            self.order(Order::Ended { lease, tenure });
        } else if let Some((_, drained)) = self.drains.remove(&lease) {
            // Rewound while it was drained: what was read is not delivered, and is not read again here.
            let _ = drained.send(false);
        } else if let Some(leases) = &mut self.detached {
            leases.insert(lease);
        } else if owes {
            self.waiting.insert(lease); // read before the loop waits again, if there is memory for it
        } else {
            self.order(Order::Read { lease, tenure, from, epoch });
        }
    }

    fn after_finalized(&mut self, lease: &LeaseKey) {
        let ended = self.protocol.ready(lease).is_some_and(|(_, at, _)| *at == Position::ShardEnd);
        if ended
            && self.ending.remove(lease)
            && self.protocol.settled(lease)
            && let Some((tenure, _)) = self.epochs.get(lease)
        {
            let tenure = *tenure;
            self.order(Order::Ended { lease: lease.clone(), tenure });
        }
    }

    fn answer_drains(&mut self) {
        let done = |lease: &LeaseKey| self.protocol.settled(lease) && self.batcher.is_drained(lease);
        let drained: Vec<LeaseKey> = self.drains.keys().filter(|lease| done(lease)).cloned().collect();
        for lease in drained {
            if let Some((_, answer)) = self.drains.remove(&lease) {
                let _ = answer.send(true);
            }
        }
    }

    /// The worker outlives its delivery loops; if it does not, everything ends anyway.
    fn order(&self, order: Order) {
        let _ = self.orders.send((self.id.clone(), order));
    }
}

#[cfg(test)]
mod tests;
