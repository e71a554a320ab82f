//! `batch -> stage -> commit -> publish`: one loop per destination of a pipeline, shared by all shards of the worker.
//!
//! A thin shell: the batcher says when to cut, the protocol says what to do, effects are futures in one set whose
//! results are the protocol's next events. The loop itself never waits for a service.
//! Invariants: I4, I5, I17 by the protocol; I9, I15 at the door (the batcher).
//! Never here: retries inside a destination, `checkpoint`, leases.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use standpipe_flow::{
    Batch, BatchShard, Clock, CommitId, CommitLog, Destination, DestinationId, Fence, Holdings, LeaseKey, LeaseRow,
    Position, Random, Range, Receipt, Tenure, WorkerId,
};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::{debug, error, info, warn};

use crate::batcher::{Batcher, Cut};
use crate::budget::{Budget, Share};
use crate::effects::Context;
use crate::invariant::Invariant;
use crate::metrics::{At, Metrics};
use crate::protocol::{Effect, Event, Note, Protocol};
use crate::shard::Arrived;

/// What the worker tells a delivery loop.
#[derive(Debug)]
pub enum Notice {
    /// A lease was taken; the row is the answer of that write.
    Taken {
        /// The row.
        row: Box<LeaseRow>,
        /// The acquisition.
        fence: Fence,
    },
    /// A lease is no longer ours.
    Lost {
        /// The lease.
        lease: LeaseKey,
        /// The acquisition.
        tenure: Tenure,
    },
    /// The shard is read to its end, and its children have leases.
    ShardEnd {
        /// The lease.
        lease: LeaseKey,
        /// The acquisition.
        tenure: Tenure,
        /// Which start of the reader ended.
        epoch: u64,
        /// Where the last chunk ended that it handed on: what has not come by then is missing (I15).
        at: Position,
    },
    /// The reader was stopped, because it was stuck or had died: answered by an order to read on from where its chunks
    /// end, unless there is a newer one.
    Stumbled {
        /// The lease.
        lease: LeaseKey,
        /// The acquisition.
        tenure: Tenure,
        /// Which start of the reader it was.
        epoch: u64,
    },
    /// Reading has stopped: deliver what is buffered, finalize, then answer. The answer is dropped if the lease is lost.
    Drain {
        /// The lease.
        lease: LeaseKey,
        /// The acquisition.
        tenure: Tenure,
        /// Answered once nothing is left to do: whether everything that was read is delivered. A batch that could not be
        /// committed is not; it is read again by whoever takes the lease.
        drained: oneshot::Sender<bool>,
    },
}

/// What a delivery loop asks of the worker.
#[derive(Debug)]
pub enum Order {
    /// (Re)start reading after `from`; chunks of an older epoch are void.
    Read {
        /// The lease.
        lease: LeaseKey,
        /// The acquisition.
        tenure: Tenure,
        /// Where to go on from.
        from: Position,
        /// To be sent with each chunk.
        epoch: u64,
    },
    /// Drop the lease and take it again under a new tenure.
    WalkAway {
        /// The lease.
        lease: LeaseKey,
        /// The acquisition.
        tenure: Tenure,
    },
    /// Release the lease and raise the alarm.
    HandsOff {
        /// The lease.
        lease: LeaseKey,
        /// The acquisition.
        tenure: Tenure,
    },
    /// Everything of the shard is delivered and finalized, up to its end.
    Ended {
        /// The lease.
        lease: LeaseKey,
        /// The acquisition.
        tenure: Tenure,
    },
}

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
}

/// Batches that are staged or committed at once at one destination; more would only hold memory. Commits that are
/// published or recovered hold none, and must not hold up the others.
const ATTEMPTS_MAX: usize = 16;

struct Attempt {
    made_at: Duration,
    batch: Option<Arc<Batch>>,
    /// Given back when the batch is staged, or dead.
    shares: Vec<Share>,
    sent: bool,
}

struct Loop {
    context: Context,
    budget: Arc<Budget>,
    fingerprint: u32,
    id: DestinationId,
    protocol: Protocol,
    batcher: Batcher<Share>,
    attempts: BTreeMap<CommitId, Attempt>,
    effects: JoinSet<Event>,
    orders: mpsc::UnboundedSender<Order>,
    /// The epoch that chunks of a lease must carry.
    epochs: BTreeMap<LeaseKey, (Tenure, u64)>,
    next_epoch: u64,
    drains: BTreeMap<LeaseKey, (Tenure, oneshot::Sender<bool>)>,
    /// Leases of which the last batch ends at SHARD_END.
    ending: BTreeSet<LeaseKey>,
}

impl Delivery {
    /// Runs until every sender of notices is gone. `chunks` is bounded by the budget: each chunk holds its share.
    pub async fn run(
        self,
        mut notices: mpsc::UnboundedReceiver<Notice>,
        mut chunks: mpsc::Receiver<Arrived>,
        orders: mpsc::UnboundedSender<Order>,
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

    fn into_loop(self, orders: mpsc::UnboundedSender<Order>) -> Loop {
        let limits = self.destination.limits();
        let at = At { pipeline: self.pipeline, destination: self.id.to_string() };
        begin_at_zero(&self.metrics, &at);
        Loop {
            protocol: Protocol::new(self.worker, self.id.clone(), self.config, self.version),
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
            },
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
        }
        if self.drains.get(lease).is_some_and(|(held, _)| *held == tenure) {
            self.drains.remove(lease);
        }
    }

    fn arrived(&mut self, Arrived { chunk, epoch, share }: Arrived) {
        if self.epochs.get(&chunk.lease) != Some(&(chunk.tenure, epoch)) {
            return;
        } // void: the reader was started anew
        let lease = chunk.lease.clone();
        self.context.holdings.read(&lease, chunk.data_bytes() as u64);
        if let Err(broken) = self.batcher.push(chunk, share, self.context.clock.elapsed()) {
            self.breach(&lease, broken, "what was read does not continue what is buffered; reading anew");
            if let Some((tenure, _)) = self.epochs.get(&lease).copied() {
                self.step(Event::Lost { lease: lease.clone(), tenure });
                self.close(&lease, tenure);
                self.order(Order::WalkAway { lease, tenure });
            }
        }
    }

    fn breach(&self, lease: &LeaseKey, broken: Invariant, what: &str) {
        self.context.metrics.invariant_violations.get_or_create(&self.context.at.why(broken.id())).inc();
        error!(shard = %lease, invariant = broken.id(), what, "an invariant is broken");
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
        while self.protocol.undecided() < ATTEMPTS_MAX {
            let now = self.context.clock.elapsed();
            let protocol = &self.protocol;
            let ready = |lease: &LeaseKey| protocol.ready(lease).is_some();
            let Some(cut) = self.batcher.cut(now, self.budget.pressure(), ready) else { break };
            self.begin(cut, now);
        }
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
        let full = self.protocol.undecided() >= ATTEMPTS_MAX;
        let due = if full { None } else { self.batcher.due(|lease| self.protocol.ready(lease).is_some()) };
        Self::sleep(due, self.context.clock.elapsed())
    }

    /// A batch was cut: it gets its id, and its staging begins.
    fn begin(&mut self, cut: Cut<Share>, now: Duration) {
        let wall = self.context.clock.wall();
        let cid = CommitId::new(wall, self.fingerprint, self.context.random.next());
        self.context.metrics.buffer_flush.get_or_create(&self.context.at.why(cut.reason.label())).inc();
        let mut shares = Vec::new();
        let mut shards = Vec::new();
        for part in cut.shards {
            let (fence, from, arrival) = self.protocol.ready(&part.lease).expect("only ready shards are cut");
            let (fence, from, before) = (fence.clone(), from.clone(), arrival);
            let (chunks, held): (Vec<_>, Vec<Share>) = part.chunks.into_iter().unzip();
            shares.extend(held);
            let last = chunks.iter().rev().find_map(|chunk| chunk.records.last());
            let arrival = last.map(|record| record.arrival).or(before);
            if part.to == Position::ShardEnd {
                self.ending.insert(part.lease);
            }
            shards.push(BatchShard { range: Range { fence, from, to: part.to, arrival }, chunks });
        }
        let batch = Arc::new(Batch { destination: self.id.clone(), cut_at: wall, shards });
        self.attempts.insert(cid, Attempt { made_at: now, batch: Some(batch.clone()), shares, sent: false });
        self.step(Event::Cut { cid, ranges: batch.ranges() });
        let context = self.context.clone();
        self.effects.spawn(context.stage(cid, batch));
    }

    fn step(&mut self, event: Event) {
        if let Event::Staged { cid, .. } | Event::Unstaged { cid } = &event
            && let Some(attempt) = self.attempts.get_mut(cid)
        {
            attempt.batch = None;
            attempt.shares.clear();
        }
        let finalized = if let Event::Finalized { lease, .. } = &event { Some(lease.clone()) } else { None };
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
            Effect::Done { cid, run } => {
                self.effects.spawn(context.done(cid, run));
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
            Effect::Adopt(adopt) => {
                self.effects.spawn(context.adopt(adopt));
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

    /// Effects that ask nothing of a service.
    fn tell(&mut self, effect: Effect) {
        let (metrics, at) = (&self.context.metrics, &self.context.at);
        match effect {
            Effect::Settle { lease, tenure, position } => {
                self.context.holdings.settle(&lease, tenure, &self.id, position);
            }
            Effect::WalkAway { lease, tenure, why } => {
                warn!(shard = %lease, why, "walking away from a lease, to take it again");
                self.close(&lease, tenure);
                self.order(Order::WalkAway { lease, tenure });
            }
            Effect::HandsOff { lease, tenure, why } => {
                error!(shard = %lease, why, "hands off: a human must look at this lease");
                self.order(Order::HandsOff { lease, tenure });
            }
            Effect::Dead { cid, why } => {
                info!(cid = %cid, why, "a batch will not be committed");
                metrics.commits.get_or_create(&at.why("dead")).inc();
            }
            Effect::Delivered { receipt, by_us: true } => self.delivered(&receipt),
            Effect::Delivered { receipt, by_us: false } => {
                debug!(cid = %receipt.cid, "another worker had delivered it already");
            }
            Effect::Incident { receipt, lost } => {
                metrics.incidents.get_or_create(at).inc();
                let keys: Vec<&str> = lost.iter().map(|output| output.key.as_str()).collect();
                error!(cid = %receipt.cid, ?keys, "part of a commit was visible when the rest was lost: records repeat");
                self.effects.spawn(self.context.clone().incident(*receipt, lost));
            }
            Effect::Note(note) => {
                info!(recovery = label(note), "recovered");
                metrics.recoveries.get_or_create(&at.why(label(note))).inc();
            }
            other => unreachable!("carried out elsewhere: {other:?}"),
        }
    }

    fn read(&mut self, lease: LeaseKey, tenure: Tenure, from: Position) {
        let epoch = self.new_epoch(&lease, tenure);
        self.ending.remove(&lease);
        self.batcher.open(lease.clone(), tenure, from.clone());
        if from == Position::ShardEnd {
            self.order(Order::Ended { lease, tenure });
        } else if let Some((_, drained)) = self.drains.remove(&lease) {
            // Rewound while it was drained: what was read is not delivered, and is not read again here.
            let _ = drained.send(false);
        } else {
            self.order(Order::Read { lease, tenure, from, epoch });
        }
    }

    fn delivered(&mut self, receipt: &Receipt) {
        let (metrics, at) = (&self.context.metrics, &self.context.at);
        metrics.commits.get_or_create(&at.why("done")).inc();
        let errors: u64 =
            receipt.outputs.iter().filter(|o| o.kind == standpipe_flow::OutputKind::Error).map(|o| o.records).sum();
        metrics.delivery_records.get_or_create(at).inc_by(receipt.records.saturating_sub(errors));
        metrics.delivery_bytes.get_or_create(at).inc_by(receipt.bytes);
        metrics.delivery_outputs.get_or_create(at).inc_by(receipt.outputs.len() as u64);
        if let Some(oldest) = receipt.shards.iter().filter_map(|shard| shard.arrival).min() {
            let age = self.context.clock.wall().since(oldest).as_secs_f64();
            metrics.delivery_data_freshness_seconds.get_or_create(at).set(age);
        }
        for output in &receipt.outputs {
            let (bucket, key, records, bytes) = (&output.bucket, &output.key, output.records, output.size);
            if output.kind == standpipe_flow::OutputKind::Error {
                warn!(cid = %receipt.cid, bucket, key, records, bytes, "error records delivered");
            } else {
                info!(cid = %receipt.cid, bucket, key, records, bytes, "delivered");
            }
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
        let _ = self.orders.send(order);
    }
}

/// What alerts are made of is there from the start: a series that appears with its first step hides that step.
fn begin_at_zero(metrics: &Metrics, at: &At) {
    let gauges = [&metrics.publish_blocked, &metrics.publish_pending, &metrics.commit_quarantined];
    gauges.into_iter().for_each(|gauge| drop(gauge.get_or_create(at)));
    let counters = [&metrics.incidents, &metrics.delivery_records, &metrics.delivery_bytes, &metrics.delivery_outputs];
    counters.into_iter().for_each(|counter| drop(counter.get_or_create(at)));
    drop(metrics.commits.get_or_create(&at.why("done")));
    for broken in [Invariant::I9, Invariant::I15] {
        drop(metrics.invariant_violations.get_or_create(&at.why(broken.id())));
    }
    Note::ALL.into_iter().for_each(|note| drop(metrics.recoveries.get_or_create(&at.why(label(note)))));
}

fn label(note: Note) -> &'static str {
    match note {
        Note::FoundNothing => "nothing",
        Note::FoundCommitted => "committed",
        Note::FoundDone => "done",
        Note::FoundRetracted => "found_retracted",
        Note::Retracted => "retracted",
        Note::Recognised => "recognised",
        Note::Adopted => "adopted",
    }
}

#[cfg(test)]
mod tests;
