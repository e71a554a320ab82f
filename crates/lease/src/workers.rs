//! `lease ->`: cheap heartbeats (`lease.heartbeat: per_worker`): one item a worker in a table of its own, instead of one
//! write a lease. Never in the lease table: a foreign row kills a KCL 2.x fleet.
//!
//! A lease has expired when neither its counter nor its owner's item has changed for a failover time, on the judge's own
//! monotonic clock (I12), whichever kind the judge is. Who holds a lease in this way says so in the last bit of the
//! tenure, so that a worker with heartbeats a lease knows that it must look, and one whose fleet has none of this
//! reads nothing. What a take's condition is, and what fences a commit, stays as it is.
//!
//! If the table is deleted under a worker, it is made anew, and leases are renewed one by one meanwhile.
//!
//! The local deadline counts from the start of the last written heartbeat. A lease that is past its deadline when one is
//! sent stays lost: nothing is revived. That a lease is another's, or is waited for, is seen by the scan.
//!
//! Never here: a decision by the item's time; that is for DynamoDB, which throws away what dead workers left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use standpipe_flow::{CommitError, Fence, Holding, LeaseKey, LeaseRow, Tenure, WorkerId};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use crate::admin::{self, Spec, TableError};
use crate::client::{Dynamo, classify};
use crate::event::{LeaseEvent, LostReason};
use crate::kcl::{number, text};
use crate::moves::{self, Context};
use crate::plan;
use crate::renew::{Attempt, BEATS_A_FAILOVER, Verdict, judge, term};
use crate::table::{LeaseTable, Rows};

/// How a worker shows that it is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HeartbeatMode {
    /// A write a lease: the Java KCL sees it.
    #[default]
    PerLease,
    /// A write a worker: only workers of this kind see it.
    PerWorker,
}

/// Where heartbeats are not on the lease row, the checkpoint is a write of its own, at most this often (protocol 2.5).
pub(crate) const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(10);
/// How long DynamoDB keeps the item of a worker that died.
const KEEP: Duration = Duration::from_secs(24 * 60 * 60);
/// A table is there after some ten seconds. One that is on its way out is asked for again after this.
const MAKE_MAX: Duration = Duration::from_secs(30);
/// Looks within a failover time at counters that should stand still.
const LOOKS: u32 = 5;

pub(crate) mod name {
    pub(crate) const WORKER: &str = "worker";
    pub(super) const BEAT: &str = "beat";
    pub(crate) const EXPIRES_AT: &str = "expiresAt";
}

impl HeartbeatMode {
    /// The random half of a tenure, with the mark in its last bit.
    pub(crate) fn mark(self, random: u64) -> u64 {
        random & !1 | u64::from(self == Self::PerWorker)
    }
}

/// Whether the row's owner shows by an item of its own that it is alive. A Java worker knows nothing of tenures.
pub(crate) fn by_worker(row: &LeaseRow) -> bool {
    !plan::foreign(row) && row.tenure.is_some_and(|tenure| tenure.0[15] & 1 == 1)
}

/// `<lease table>-standpipe-workers`.
#[derive(Debug, Clone)]
pub struct WorkerTable {
    dynamo: Dynamo,
    table: String,
}

impl WorkerTable {
    /// The heartbeats that belong to a lease table.
    pub fn new(dynamo: Dynamo, lease_table: &str) -> Self {
        Self { dynamo, table: Self::name_of(lease_table) }
    }

    /// The name that belongs to a lease table's name.
    pub fn name_of(lease_table: &str) -> String {
        format!("{lease_table}-standpipe-workers")
    }

    /// Waits until the table is there, and makes it if it is missing and `create`.
    pub async fn open(&self, create: bool) -> Result<(), TableError> {
        let spec = Spec { table: &self.table, key: name::WORKER, ttl: Some(name::EXPIRES_AT) };
        admin::open(&self.dynamo.patient, &spec, create).await.map(|_arn| ())
    }

    /// Writes a heartbeat. `beat` is another number each time.
    async fn beat(&self, worker: &WorkerId, beat: u64, expires_at: u64) -> Result<(), CommitError> {
        let request = self.dynamo.quick.update_item().table_name(&self.table);
        let request = request
            .key(name::WORKER, text(worker.as_str()))
            .update_expression("SET #beat = :beat, #expires = :expires")
            .expression_attribute_names("#beat", name::BEAT)
            .expression_attribute_names("#expires", name::EXPIRES_AT)
            .expression_attribute_values(":beat", number(beat))
            .expression_attribute_values(":expires", number(expires_at));
        request.send().await.map(|_| ()).map_err(|error| classify(&error))
    }

    /// Takes a worker's item out, at its orderly end.
    async fn remove(&self, worker: &WorkerId) -> Result<(), CommitError> {
        let request = self.dynamo.quick.delete_item().table_name(&self.table);
        let request = request.key(name::WORKER, text(worker.as_str()));
        request.send().await.map(|_| ()).map_err(|error| classify(&error))
    }

    /// Every worker's last heartbeat, read consistently. A table that is not there holds none.
    pub async fn scan(&self) -> Result<BTreeMap<WorkerId, u64>, CommitError> {
        let mut beats = BTreeMap::new();
        let mut from = None;
        loop {
            let request = self.dynamo.patient.scan().table_name(&self.table).consistent_read(true);
            let page = match request.set_exclusive_start_key(from).send().await {
                Ok(page) => page,
                Err(error) => match classify(&error) {
                    error if is_gone(&error) => return Ok(beats),
                    error => return Err(error),
                },
            };
            for item in page.items.unwrap_or_default() {
                let worker = item.get(name::WORKER).and_then(|value| value.as_s().ok());
                let beat = item.get(name::BEAT).and_then(|value| value.as_n().ok()?.parse().ok());
                if let Some((worker, beat)) = worker.zip(beat) {
                    beats.insert(WorkerId::new(worker), beat);
                }
            }
            match page.last_evaluated_key {
                Some(last) if !last.is_empty() => from = Some(last),
                _ => return Ok(beats),
            }
        }
    }
}

/// What stands beside the rows of a scan.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    /// What this process held before the scan began: of these the rows tell the present.
    held: Vec<Holding>,
    /// The workers' heartbeats; `None` where no row asks for them.
    beats: Option<BTreeMap<WorkerId, u64>>,
}

/// Scans the leases, and the workers where leases are held by their heartbeats. Both or neither: an expiry is never seen
/// by half.
pub(crate) async fn scan(context: &Context) -> Result<(Rows, Beside), CommitError> {
    let held = context.holdings.all();
    let rows = context.table.scan().await?;
    let wanted = context.heartbeat == HeartbeatMode::PerWorker || rows.leases.values().any(by_worker);
    let beats = if wanted { Some(context.workers.scan().await?) } else { None };
    Ok((Rows { at: context.clock.elapsed(), ..rows }, Beside { held, beats }))
}

/// The watch over the workers' heartbeats. PURE.
#[derive(Debug, Default)]
pub(crate) struct Beats {
    /// Each worker's last number, `None` while it has none, and since when it was seen to be that.
    seen: BTreeMap<WorkerId, (Option<u64>, Duration)>,
    /// Leases whose owner was told to hand them over.
    told: BTreeSet<(LeaseKey, Tenure)>,
    /// Whether it was said that a Java worker takes leases.
    warned: bool,
}

impl Beats {
    /// Takes in what a scan saw.
    pub(crate) fn see(&mut self, rows: &Rows, beside: &Beside) {
        let Some(beats) = &beside.beats else { return self.seen.clear() };
        let owners: BTreeSet<&WorkerId> = rows.leases.values().filter_map(|row| row.owner.as_ref()).collect();
        self.seen.retain(|worker, _| beats.contains_key(worker) || owners.contains(worker));
        for worker in owners.into_iter().chain(beats.keys()) {
            // An item that is gone has changed, too: its owner may have until then what it last wrote.
            let beat = beats.get(worker).copied();
            let seen = self.seen.entry(worker.clone()).or_insert((beat, rows.at));
            if seen.0 != beat {
                *seen = (beat, rows.at);
            }
        }
    }

    /// Since when nothing was heard of a lease's owner, by whichever it shows last.
    pub(crate) fn unchanged_since(&self, row: &LeaseRow, counter: Duration) -> Duration {
        let owner = row.owner.as_ref().filter(|_| by_worker(row));
        owner.and_then(|owner| self.seen.get(owner)).map_or(counter, |(_, since)| counter.max(*since))
    }

    /// What the rows say about the leases that this process held when the scan began: a heartbeat a lease would have
    /// seen the same.
    pub(crate) fn notice(&mut self, context: &Context, rows: &Rows, beside: &Beside) {
        if context.heartbeat == HeartbeatMode::PerLease {
            return;
        }
        for held in &beside.held {
            let (lease, tenure) = (&held.fence.lease, held.fence.tenure);
            let row = rows.get(lease);
            match judge(row, &held.fence, &Attempt::of(held, rows.at)) {
                Verdict::Lost(reason) => {
                    self.warn_of_java(row);
                    lose(context, &held.fence, reason);
                }
                Verdict::Ours(row) | Verdict::Counter(row) => {
                    let waits = row.next.as_ref().is_some_and(|next| *next != context.worker);
                    if waits && self.told.insert((lease.clone(), tenure)) {
                        context.tell(LeaseEvent::HandOver { lease: lease.clone(), tenure });
                    }
                }
            }
        }
        let held = |told: &(LeaseKey, Tenure)| {
            beside.held.iter().any(|held| held.fence.lease == told.0 && held.fence.tenure == told.1)
        };
        self.told.retain(held);
    }

    fn warn_of_java(&mut self, row: Option<&LeaseRow>) {
        if row.is_some_and(plan::foreign) && !std::mem::replace(&mut self.warned, true) {
            warn!("a worker of the Java KCL takes leases, and cannot see heartbeats: per_worker; run with per_lease");
        }
    }
}

/// Whoever takes it out of the holdings tells: a lease that is being released is lost to nobody.
pub(crate) fn lose(context: &Context, fence: &Fence, reason: LostReason) {
    if context.holdings.remove(&fence.lease, fence.tenure).is_some() {
        context.tell(LeaseEvent::Lost { lease: fence.lease.clone(), tenure: fence.tenure, reason });
    }
}

/// The heartbeats of this worker.
#[derive(Debug)]
pub(crate) struct WorkerBeats {
    context: Arc<Context>,
    /// Over the heartbeats' own client.
    workers: WorkerTable,
    /// Whether the table may be made.
    create: bool,
    number: u64,
    /// Whether the table is gone.
    tableless: watch::Sender<bool>,
}

impl WorkerBeats {
    /// With it: whether the table is gone, so that leases have to be renewed one by one.
    pub(crate) fn new(context: Arc<Context>, workers: WorkerTable, create: bool) -> (Self, watch::Receiver<bool>) {
        let (tableless, receiver) = watch::channel(false);
        (Self { context, workers, create, number: 0, tableless }, receiver)
    }

    /// Beats three times a failover time, for ever.
    pub(crate) async fn run(&mut self) {
        let mut ticks = tokio::time::interval(self.context.failover / BEATS_A_FAILOVER);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.beat().await;
        }
    }

    /// One heartbeat, until it is written. Each try is a number of its own, so that the one that is answered is known to
    /// be a change that was made after it began.
    async fn beat(&mut self) {
        let context = Arc::clone(&self.context);
        let mut tries = 0;
        loop {
            let start = context.clock.elapsed();
            lose_expired(&context, start);
            self.number += 1;
            let expires_at = (context.clock.wall().0 / 1000) + KEEP.as_secs();
            match self.workers.beat(&context.worker, self.number, expires_at).await {
                Ok(()) => {
                    if self.tableless.send_replace(false) {
                        info!(
                            table = self.workers.table,
                            "the table of workers is there again: one heartbeat a worker"
                        );
                    }
                    return extend(&context, start);
                }
                Err(error) if is_gone(&error) => self.do_without().await,
                Err(error) => warn!(%error, "the worker's heartbeat failed, will try again"),
            }
            moves::pause(&context, &mut tries).await;
        }
    }

    /// The table was deleted under us. Leases are renewed one by one until it is back, which costs more and loses none.
    async fn do_without(&self) {
        let table = self.workers.table.as_str();
        if !self.tableless.send_replace(true) {
            error!(
                table,
                create = self.create,
                "the table of workers is gone: renewing lease by lease until it is back"
            );
        }
        if self.create
            && let Ok(Err(error)) = tokio::time::timeout(MAKE_MAX, self.workers.open(true)).await
        {
            warn!(table, %error, "the table of workers could not be made, will try again");
        }
    }
}

/// DynamoDB's code for a table that is not there, as `classify` puts it.
fn is_gone(error: &CommitError) -> bool {
    matches!(error, CommitError::Denied { cause } if cause.starts_with("ResourceNotFoundException"))
}

/// The orderly end: a worker that has let everything go leaves nothing behind.
pub(crate) async fn end(context: &Context) {
    if context.heartbeat == HeartbeatMode::PerLease {
        return;
    }
    if let Err(error) = context.workers.remove(&context.worker).await {
        warn!(%error, "the worker's heartbeat stays behind; it expires by itself");
    }
}

fn lose_expired(context: &Context, now: Duration) {
    for held in context.holdings.all().iter().filter(|held| now >= held.deadline) {
        lose(context, &held.fence, LostReason::Deadline);
    }
}

/// A heartbeat that began at `start` is written: whatever had not run out by then is held on.
fn extend(context: &Context, start: Duration) {
    let deadline = start + term(context.failover);
    for held in context.holdings.all() {
        if start >= held.deadline {
            lose(context, &held.fence, LostReason::Deadline);
        } else {
            context.holdings.change(&held.fence.lease, held.fence.tenure, |held| {
                held.deadline = held.deadline.max(deadline);
            });
        }
    }
}

/// A lease whose counter moves although no worker's heartbeat stands for it: somebody there renews lease by lease, sees no
/// heartbeat of ours, and would take everything. Watched for a failover time; with nothing to watch it takes no time.
pub(crate) async fn mover(
    table: &LeaseTable,
    rows: &Rows,
    failover: Duration,
) -> Result<Option<LeaseRow>, CommitError> {
    let renewed = |row: &&LeaseRow| row.owner.is_some() && !row.ended() && !by_worker(row);
    let watched: Vec<&LeaseRow> = rows.leases.values().filter(renewed).collect();
    if watched.is_empty() {
        return Ok(None);
    }
    for _ in 0..LOOKS {
        tokio::time::sleep(failover / (LOOKS - 1)).await;
        let now = table.scan().await?;
        let moved = |before: &&&LeaseRow| {
            now.get(&before.key).is_some_and(|row| renewed(&row) && row.counter != before.counter)
        };
        if let Some(moved) = watched.iter().find(moved) {
            return Ok(now.get(&moved.key).cloned());
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
