//! Heartbeats, takes and releases of one scripted worker: the protocol's writes, and what their answers mean
//! (`standpipe_lease` says the same over DynamoDB).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use standpipe_flow::write::{self, Clause, Take};
use standpipe_flow::{
    Clock, CommitError, DestinationId, Fence, Holding, Holdings, LeaseKey, LeaseRow, Position, Random, Tenure, WorkerId,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::log;
use super::wire::Wire;

/// What everything that moves leases needs.
pub struct Leases {
    pub wire: Arc<Wire>,
    pub worker: WorkerId,
    pub destination: DestinationId,
    pub holdings: Arc<Holdings>,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub failover: Duration,
    /// No heartbeat before this instant.
    pub frozen: Mutex<Instant>,
}

/// A lease that is not held any more.
pub type Lost = (LeaseKey, Tenure);

/// One heartbeat, sent again as it is until its end is known.
struct Beat {
    counter: u64,
    checkpoint: Option<Position>,
    after: Position,
    start: Duration,
}

impl Beat {
    fn of(holding: &Holding, start: Duration) -> Self {
        let checkpoint = holding.next_checkpoint();
        let after = checkpoint.clone().unwrap_or_else(|| holding.checkpoint.clone());
        Self { counter: holding.counter, checkpoint, after, start }
    }
}

/// What a row that refused a heartbeat says.
enum Verdict {
    Ours,
    Counter,
    Lost,
}

fn judge(row: &LeaseRow, fence: &Fence, beat: &Beat) -> Verdict {
    let held = row.tenure == Some(fence.tenure) && Clause::HeldBy(fence.owner.clone()).holds(row);
    if !held || row.generation != fence.generation || !Clause::CheckpointUntouched.holds(row) {
        Verdict::Lost
    } else if row.counter == beat.counter + 1 && row.checkpoint == beat.after {
        Verdict::Ours
    } else {
        Verdict::Counter
    }
}

impl Leases {
    fn term(&self) -> Duration {
        self.failover.saturating_sub((self.failover / 10).max(Duration::from_millis(200)))
    }

    /// Renews every lease three times a failover time; tells what is lost.
    pub async fn heartbeats(self: Arc<Self>, lost: mpsc::UnboundedSender<Lost>) {
        let mut beats: JoinSet<Lost> = JoinSet::new();
        let mut busy: BTreeSet<Lost> = BTreeSet::new();
        let mut next = Instant::now();
        loop {
            tokio::select! {
                biased;
                Some(done) = beats.join_next() => {
                    if let Ok(done) = done { busy.remove(&done); }
                }
                () = sleep_until(next) => {
                    let frozen = *self.frozen.lock().unwrap_or_else(PoisonError::into_inner);
                    next = Instant::now() + self.failover / 3;
                    if frozen > Instant::now() && !self.wire.is_calm() {
                        next = frozen;
                        continue;
                    }
                    for holding in self.holdings.all() {
                        let key = (holding.fence.lease.clone(), holding.fence.tenure);
                        if busy.insert(key.clone()) {
                            let (leases, lost) = (self.clone(), lost.clone());
                            beats.spawn(async move {
                                if !leases.renew(&holding.fence).await
                                    && leases.holdings.remove(&key.0, key.1).is_some()
                                {
                                    let _ = lost.send(key.clone());
                                }
                                key
                            });
                        }
                    }
                }
            }
        }
    }

    /// Whether the lease is still held.
    async fn renew(&self, fence: &Fence) -> bool {
        let mut sent: Option<Beat> = None;
        loop {
            let Some(holding) = self.holdings.get(&fence.lease).filter(|held| held.fence.tenure == fence.tenure) else {
                return true; // released meanwhile: lost to nobody
            };
            let now = self.clock.elapsed();
            if now >= holding.deadline {
                return false;
            }
            let beat = sent.get_or_insert_with(|| Beat::of(&holding, now));
            let write = write::heartbeat(fence, beat.counter, beat.checkpoint.as_ref());
            let request = log::write(&self.wire, &self.worker, "heartbeat", write);
            let row = match timeout(holding.deadline - now, request).await {
                Ok(Ok(row)) => row,
                Ok(Err(CommitError::Refused { now: Some(row), .. })) => match judge(&row, fence, beat) {
                    Verdict::Ours => *row,
                    Verdict::Counter => {
                        self.catch_up(fence, &row);
                        sent = None;
                        continue;
                    }
                    Verdict::Lost => return false,
                },
                Ok(Err(_)) => {
                    sleep(Duration::from_millis(40)).await;
                    continue;
                }
                Err(_) => continue, // the deadline is here
            };
            let deadline = beat.start + self.term();
            self.catch_up(fence, &row);
            self.holdings.change(&fence.lease, fence.tenure, |held| held.deadline = held.deadline.max(deadline));
            return true;
        }
    }

    fn catch_up(&self, fence: &Fence, row: &LeaseRow) {
        self.holdings.change(&fence.lease, fence.tenure, |held| {
            held.counter = row.counter;
            held.checkpoint = row.checkpoint.clone();
        });
    }

    /// Takes a lease as the row shows it, under a new tenure; the answer is the row after it.
    pub async fn take(&self, row: LeaseRow) -> Option<(LeaseRow, Fence)> {
        let bits = u128::from(self.random.next()) << 64 | u128::from(self.random.next());
        let tenure = Tenure(bits.to_be_bytes());
        let destinations = BTreeSet::from([self.destination.clone()]);
        let retired = BTreeSet::new();
        let (worker, start) = (&self.worker, self.clock.elapsed());
        let take = write::take(&Take { row: &row, worker, tenure, destinations: &destinations, retired: &retired });
        for _ in 0..4 {
            let taken = match log::write(&self.wire, worker, "take", take.clone()).await {
                Ok(taken) => taken,
                Err(CommitError::Refused { now: Some(now), .. }) => {
                    let ours = now.tenure == Some(tenure) && now.counter == row.counter + 1;
                    if !ours || now.owner.as_ref() != Some(worker) {
                        return None;
                    }
                    *now
                }
                Err(_) => {
                    sleep(Duration::from_millis(40)).await;
                    continue;
                }
            };
            let deadline = start + self.term();
            if self.clock.elapsed() >= deadline {
                return None; // the row names this worker: the next look takes it again
            }
            let (lease, owner) = (taken.key.clone(), worker.clone());
            let fence = Fence { lease, owner, tenure, generation: taken.generation };
            self.holdings.insert(Holding::of(&taken, fence.clone(), deadline));
            return Some((taken, fence));
        }
        None
    }

    /// Gives back what was just taken out of the holdings: first the checkpoint, then the lease, until its deadline.
    pub async fn give_back(&self, mut held: Holding) {
        let fence = held.fence.clone();
        let mut beat = Beat::of(&held, self.clock.elapsed());
        while self.clock.elapsed() < held.deadline {
            let last = beat.checkpoint.is_none();
            let (name, write) = match &beat.checkpoint {
                Some(to) => ("last heartbeat", write::heartbeat(&fence, beat.counter, Some(to))),
                None => ("release", write::release(&fence, beat.counter)),
            };
            let row = match log::write(&self.wire, &self.worker, name, write).await {
                Ok(_) if last => return,
                Ok(row) => row,
                Err(CommitError::Refused { now: Some(row), .. }) => match judge(&row, &fence, &beat) {
                    Verdict::Lost => return,
                    Verdict::Ours | Verdict::Counter => *row,
                },
                Err(_) => {
                    sleep(Duration::from_millis(40)).await;
                    continue;
                }
            };
            held.counter = row.counter;
            held.checkpoint = row.checkpoint;
            beat = Beat::of(&held, self.clock.elapsed());
        }
    }
}

/// When each counter was first seen: a lease whose counter stands still for a failover time is anybody's.
#[derive(Default)]
pub struct Seen(BTreeMap<LeaseKey, (u64, Instant)>);

impl Seen {
    pub fn expired(&mut self, row: &LeaseRow, failover: Duration) -> bool {
        let now = Instant::now();
        let seen = self.0.entry(row.key.clone()).or_insert((row.counter, now));
        if seen.0 != row.counter {
            *seen = (row.counter, now);
        }
        now - seen.1 >= failover
    }
}
