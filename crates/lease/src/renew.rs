//! `lease ->`: heartbeats. Every held lease is renewed three times a failover time, over a client that nothing else
//! uses, never behind delivery; the checkpoint moves with the heartbeat (protocol 2.5, I8, I18).
//!
//! A heartbeat moves the lease's local deadline to `start of the write + failover - margin`: commits stop before
//! anybody may take the lease. The time is that of the FIRST request that may have been written, on the monotonic
//! clock. A refusal that shows our own write is a success; a conflict, a throttle and silence are neither success nor
//! loss, and are tried again until the deadline.
//!
//! Never here: a position of a destination, a wall clock (I12).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use standpipe_flow::write::{self, Change, Clause, RowWrite};
use standpipe_flow::{CommitError, Fence, Holding, LeaseKey, LeaseRow, Position, Tenure, Throughput};
use tokio::sync::{Semaphore, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::event::{LeaseEvent, LostReason};
use crate::moves::{self, Context};
use crate::table::LeaseTable;
use crate::workers::{self, CHECKPOINT_INTERVAL, HeartbeatMode, WorkerBeats, WorkerTable};

/// Heartbeats a failover time.
pub(crate) const BEATS_A_FAILOVER: u32 = 3;
/// Heartbeats under way at once (the KCL has 20 threads).
const UNDER_WAY_MAX: usize = 32;
/// The margin between the local deadline and the expiry is a tenth of the failover time, at least this.
const MARGIN_MIN: Duration = Duration::from_millis(200);

/// How long a written heartbeat keeps a lease for its owner.
pub fn term(failover: Duration) -> Duration {
    failover.saturating_sub((failover / 10).max(MARGIN_MIN))
}

/// The heartbeats of everything this process holds.
#[derive(Debug)]
pub struct Heartbeats {
    pub(crate) context: Arc<Context>,
    /// The lease table over the heartbeats' own client.
    pub(crate) table: LeaseTable,
    /// The workers' heartbeats over it.
    pub(crate) workers: WorkerTable,
    /// Whether a table of workers that is gone may be made anew.
    pub(crate) create: bool,
    pub(crate) stop: CancellationToken,
}

impl Heartbeats {
    /// Renews until the coordinator has ended. Leases that are held then expire.
    pub async fn run(self) {
        let often = self.context.failover / BEATS_A_FAILOVER;
        match self.context.heartbeat {
            HeartbeatMode::PerLease => self.renew_all(often, HeartbeatMode::PerLease).await,
            HeartbeatMode::PerWorker => {
                let (mut beats, tableless) =
                    WorkerBeats::new(Arc::clone(&self.context), self.workers.clone(), self.create);
                // In this order: the same seed of a simulation gives the same requests.
                tokio::select! {
                    biased;
                    () = beats.run() => {}
                    () = self.renew_all(CHECKPOINT_INTERVAL, HeartbeatMode::PerWorker) => {}
                    () = self.stand_in(tableless, often) => {}
                }
            }
        }
    }

    /// Renews lease by lease while the table of workers is gone: a counter that moves keeps a lease, too.
    async fn stand_in(&self, mut tableless: watch::Receiver<bool>, often: Duration) {
        while tableless.wait_for(|gone| *gone).await.is_ok() {
            tokio::select! {
                biased;
                _ = tableless.wait_for(|gone| !*gone) => {}
                () = self.renew_all(often, HeartbeatMode::PerLease) => return,
            }
        }
    }

    /// Renews every lease this often; with a heartbeat a worker only those whose checkpoint moves.
    async fn renew_all(&self, interval: Duration, mode: HeartbeatMode) {
        let per_lease = mode == HeartbeatMode::PerLease;
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let permits = Semaphore::new(UNDER_WAY_MAX);
        let mut under_way = FuturesUnordered::new();
        let mut busy: BTreeSet<(LeaseKey, Tenure)> = BTreeSet::new();
        let mut told: BTreeSet<(LeaseKey, Tenure)> = BTreeSet::new();
        loop {
            // In this order: the end, what is done, what is due.
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                Some(beat) = under_way.next(), if !under_way.is_empty() => {
                    let Beat { lease, tenure, waited_for } = beat;
                    busy.remove(&(lease.clone(), tenure));
                    if waited_for && self.context.heartbeat == HeartbeatMode::PerLease && told.insert((lease.clone(), tenure)) {
                        self.context.tell(LeaseEvent::HandOver { lease, tenure });
                    }
                }
                _ = ticks.tick() => {
                    let all = self.context.holdings.all();
                    told.retain(|(lease, tenure)| all.iter().any(|held| held.fence.lease == *lease && held.fence.tenure == *tenure));
                    for holding in all.into_iter().filter(|held| per_lease || held.next_checkpoint().is_some()) {
                        if busy.insert((holding.fence.lease.clone(), holding.fence.tenure)) {
                            under_way.push(self.beat(holding.fence, &permits));
                        }
                    }
                }
            }
        }
    }

    /// One heartbeat of one lease, until it is written, or the lease is lost.
    async fn beat(&self, fence: Fence, permits: &Semaphore) -> Beat {
        let permit = permits.acquire().await;
        let waited_for = self.renew(&fence).await.is_some_and(|row| row.next.is_some_and(|next| next != fence.owner));
        drop(permit);
        Beat { lease: fence.lease, tenure: fence.tenure, waited_for }
    }

    /// The row after the heartbeat; `None` if the lease is not held any more.
    async fn renew(&self, fence: &Fence) -> Option<LeaseRow> {
        let context = &self.context;
        let mut sent: Option<Attempt> = None;
        let mut tries = 0;
        loop {
            // Released meanwhile, by the coordinator: that is for it to tell.
            let holding = context.holdings.get(&fence.lease).filter(|held| held.fence.tenure == fence.tenure)?;
            let now = context.clock.elapsed();
            if now >= holding.deadline {
                self.lose(fence, LostReason::Deadline);
                return None;
            }
            let attempt = sent.get_or_insert_with(|| self.measure(fence, &holding, now));
            let write = attempt.heartbeat(fence);
            let answer = tokio::time::timeout(holding.deadline - now, self.table.write(&write)).await;
            let row = match answer {
                Ok(Ok(row)) => row,
                Ok(Err(CommitError::Refused { now, .. })) => match judge(now.as_deref(), fence, attempt) {
                    Verdict::Ours(row) => row.clone(),
                    Verdict::Counter(row) => {
                        debug!(shard = %fence.lease, "the counter is elsewhere, under the same tenure");
                        self.catch_up(fence, row);
                        sent = None;
                        moves::pause(context, &mut tries).await;
                        continue;
                    }
                    Verdict::Lost(reason) => {
                        self.lose(fence, reason);
                        return None;
                    }
                },
                Ok(Err(CommitError::Conflict)) => {
                    moves::step_aside(context).await;
                    continue;
                }
                Ok(Err(error)) => {
                    warn!(shard = %fence.lease, %error, "heartbeat failed, will try again until the deadline");
                    moves::pause(context, &mut tries).await;
                    continue;
                }
                // The deadline is here.
                Err(_) => continue,
            };
            let deadline = attempt.start + term(context.failover);
            context.holdings.change(&fence.lease, fence.tenure, |held| {
                held.counter = row.counter;
                held.checkpoint = row.checkpoint.clone();
                held.deadline = held.deadline.max(deadline);
            });
            return Some(row);
        }
    }

    /// A fresh attempt, with the throughput up to now.
    fn measure(&self, fence: &Fence, holding: &Holding, now: Duration) -> Attempt {
        self.context.holdings.change(&fence.lease, fence.tenure, |held| held.measure(now));
        let held = self.context.holdings.get(&fence.lease).filter(|held| held.fence.tenure == fence.tenure);
        Attempt::of(held.as_ref().unwrap_or(holding), now)
    }

    /// Takes over a counter that a write of this process has moved.
    fn catch_up(&self, fence: &Fence, row: &LeaseRow) {
        self.context.holdings.change(&fence.lease, fence.tenure, |held| {
            held.counter = row.counter;
            held.checkpoint = row.checkpoint.clone();
        });
    }

    fn lose(&self, fence: &Fence, reason: LostReason) {
        workers::lose(&self.context, fence, reason);
    }
}

/// A heartbeat that is over.
struct Beat {
    lease: LeaseKey,
    tenure: Tenure,
    waited_for: bool,
}

/// One request, sent again as it is until its end is known.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Attempt {
    /// `leaseCounter` that it names.
    pub(crate) counter: u64,
    /// The checkpoint that it writes.
    pub(crate) checkpoint: Option<Position>,
    /// The checkpoint that the row has after it.
    pub(crate) after: Position,
    /// `throughputKBps`.
    pub(crate) throughput: Throughput,
    /// When it was first sent.
    pub(crate) start: Duration,
}

impl Attempt {
    pub(crate) fn of(holding: &Holding, now: Duration) -> Self {
        let checkpoint = holding.next_checkpoint();
        let after = checkpoint.clone().unwrap_or_else(|| holding.checkpoint.clone());
        Self { counter: holding.counter, checkpoint, after, throughput: holding.throughput, start: now }
    }

    /// The request: the same one, however often it is asked for.
    pub(crate) fn heartbeat(&self, fence: &Fence) -> RowWrite {
        let mut write = write::heartbeat(fence, self.counter, self.checkpoint.as_ref());
        write.change.push(Change::Throughput(self.throughput));
        write
    }
}

/// What the row that refused a heartbeat says.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict<'a> {
    /// It was written: an earlier copy of the same request.
    Ours(&'a LeaseRow),
    /// Still held under this tenure, only the counter is another.
    Counter(&'a LeaseRow),
    /// Not held any more.
    Lost(LostReason),
}

/// Reads the row that refused a heartbeat (protocol 3).
pub(crate) fn judge<'a>(now: Option<&'a LeaseRow>, fence: &Fence, attempt: &Attempt) -> Verdict<'a> {
    let Some(row) = now else { return Verdict::Lost(LostReason::Gone) };
    if row.generation != fence.generation {
        return Verdict::Lost(LostReason::Reset);
    }
    if row.tenure != Some(fence.tenure) || !Clause::HeldBy(fence.owner.clone()).holds(row) {
        return Verdict::Lost(LostReason::Taken);
    }
    if !Clause::CheckpointUntouched.holds(row) {
        return Verdict::Lost(LostReason::CheckpointMoved);
    }
    if row.counter == attempt.counter + 1 && row.checkpoint == attempt.after {
        Verdict::Ours(row)
    } else {
        Verdict::Counter(row)
    }
}

#[cfg(test)]
mod tests;
