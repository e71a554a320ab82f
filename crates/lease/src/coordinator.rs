//! `lease ->`: the loop that looks at the lease table, plans, and moves leases, and that does what the worker commands.
//!
//! A shell: what to do is [`crate::plan`]'s, how a lease moves is `moves`'. Every request is a future that the loop
//! polls, so that a slow one holds up nothing; no task is started here. Counters are watched on the monotonic clock from
//! the END of the scan that saw them, so an expiry is never seen too early.
//!
//! Never here: a heartbeat, a record, a wall clock.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use standpipe_flow::{CommitError, DestinationId, DestinationPosition, LeaseKey, LeaseRow, Position, Tenure};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

pub use crate::event::{Command, LeaseEvent, LeaseHandle, LostReason};
use crate::hierarchy::ShardInfo;
use crate::moves::{self, Context};
use crate::plan::{self, Action, Observed, Plan, View, Watch};
use crate::table::Rows;
use crate::upkeep::{self, Audit};
use crate::workers::{self, Beats, Beside};

/// The table is scanned this often, or every half failover time if that is less, or if the fleet's scans would cost
/// more than [`SCAN_UNITS_A_SECOND_MAX`].
const SCAN_INTERVAL: Duration = Duration::from_secs(2);
/// Read units a second that the scans of the whole fleet may cost before they become rarer.
const SCAN_UNITS_A_SECOND_MAX: usize = 20;
/// Rows that one consistently read unit of 4 KB holds: one of ours is about 1 KB.
const ROWS_A_UNIT: usize = 4;
/// The shards are listed this often (KCL: `shardSyncIntervalMillis`), a tenth of it more or less.
const LIST_INTERVAL: Duration = Duration::from_secs(60);
/// By one worker of the fleet; by the others so many times more seldom.
const SELDOM: u32 = 5;
/// A lease that was let go is left to others for so many failover times.
const LET_GO_FAILOVERS: u32 = 5;

/// What shards a stream has.
#[async_trait]
pub trait ShardCatalog: std::fmt::Debug + Send + Sync + 'static {
    /// Every shard that ListShards gives without a filter, open and closed. The error is for people.
    async fn list(&self) -> Result<Vec<ShardInfo>, String>;
}

/// The loop. See [`crate::start()`].
#[derive(Debug)]
pub struct Coordinator {
    pub(crate) context: Arc<Context>,
    pub(crate) leases_max: usize,
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
    pub(crate) rows: watch::Sender<Arc<Rows>>,
    /// Stops the heartbeats.
    pub(crate) stop: CancellationToken,
    pub(crate) state: State,
}

/// What the loop knows.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// What becomes of each row from scan to scan.
    watch: Watch,
    /// What the workers' heartbeats show.
    beats: Beats,
    /// Whether this worker has once come by its share.
    content: bool,
    /// When this worker last took a lease from a live Java worker.
    stole_at: Option<Duration>,
    /// The tenures that a row which still names this process may be under.
    tenures: BTreeMap<LeaseKey, BTreeSet<Tenure>>,
    /// Parents that the scan before did not find.
    pub(crate) missing: BTreeSet<LeaseKey>,
    /// Leases with a move under way.
    busy: BTreeSet<LeaseKey>,
    /// Leases that are not taken while their positions are these.
    hands_off: BTreeMap<LeaseKey, BTreeMap<DestinationId, DestinationPosition>>,
    /// Leases that are left to others until then.
    let_go: BTreeMap<LeaseKey, Duration>,
    /// No more takes.
    take_no_more: bool,
    /// The table is so large, or the workers so many, that scans are rarer.
    heavy: bool,
    scanning: bool,
    listing: bool,
    /// Whether it is this worker's turn to list the shards.
    lister: bool,
    /// The shards have to be listed now.
    list_now: bool,
    /// Watches for hash keys without a lease.
    audit: Audit,
    ended: Option<oneshot::Sender<()>>,
}

/// A request that is over.
enum Done {
    Scanned(Result<(Rows, Beside), CommitError>),
    Listed(Result<usize, CommitError>),
    Moved(LeaseKey),
    Asked,
}

type Work = FuturesUnordered<Pin<Box<dyn Future<Output = Done> + Send>>>;

impl Coordinator {
    /// Works until it is told to shut down, or until nobody can command it any more. Then the heartbeats end too.
    pub async fn run(mut self) {
        let mut work = Work::new();
        let mut next_scan = Instant::now();
        let mut next_list = Instant::now() + self.list_interval();
        while !self.finished() {
            // In this order: what the worker wants, what is done, what is due.
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(Command::Sync) => {
                        next_scan = Instant::now();
                        next_list = next_scan;
                    }
                    Some(command) => self.obey(command, &work),
                    None => break,
                },
                Some(done) = work.next(), if !work.is_empty() => {
                    if let Some(soon) = self.done(done, &work) {
                        next_scan = next_scan.min(Instant::now() + soon);
                    }
                    if std::mem::take(&mut self.state.list_now) {
                        next_list = Instant::now();
                    }
                }
                () = tokio::time::sleep_until(next_scan), if !self.state.scanning && self.state.ended.is_none() => {
                    next_scan = Instant::now() + self.scan_interval();
                    self.scan(&work);
                }
                () = tokio::time::sleep_until(next_list), if !self.state.listing && self.state.ended.is_none() => {
                    next_list = Instant::now() + self.list_interval();
                    self.list(&work);
                }
            }
        }
        self.stop.cancel();
        if let Some(ended) = self.state.ended {
            workers::end(&self.context).await;
            let _ = ended.send(());
        }
    }

    /// Told to shut down, and every move is over. A scan is cut off.
    fn finished(&self) -> bool {
        self.state.ended.is_some() && self.state.busy.is_empty()
    }

    fn scan_interval(&self) -> Duration {
        scan_interval(self.state.heavy, self.context.failover)
    }

    fn list_interval(&self) -> Duration {
        let interval = if self.state.lister { LIST_INTERVAL } else { LIST_INTERVAL * SELDOM };
        let tenth = interval.as_millis() as u64 / 10;
        interval - Duration::from_millis(tenth) + Duration::from_millis(self.context.random.below(2 * tenth))
    }

    fn scan(&mut self, work: &Work) {
        self.state.scanning = true;
        let context = Arc::clone(&self.context);
        work.push(Box::pin(async move { Done::Scanned(workers::scan(&context).await) }));
    }

    fn list(&mut self, work: &Work) {
        self.state.listing = true;
        let context = Arc::clone(&self.context);
        work.push(Box::pin(async move { Done::Listed(upkeep::sync(&context).await) }));
    }

    /// What a finished request means, and how soon the table should be looked at again because of it.
    fn done(&mut self, done: Done, work: &Work) -> Option<Duration> {
        match done {
            Done::Scanned(Ok((rows, beside))) => {
                self.state.scanning = false;
                self.state.beats.see(&rows, &beside);
                self.state.beats.notice(&self.context, &rows, &beside);
                let took = self.look(rows, work);
                // There may be more to take than the first round dared to.
                took.then(|| self.scan_interval() / 4)
            }
            Done::Scanned(Err(error)) => {
                self.state.scanning = false;
                warn!(%error, "the lease table could not be scanned");
                None
            }
            Done::Listed(result) => {
                self.state.listing = false;
                match result {
                    Ok(0) => None,
                    Ok(made) => {
                        info!(leases = made, "leases made for new shards");
                        Some(Duration::ZERO)
                    }
                    Err(error) => {
                        warn!(%error, "the shards could not be compared with the leases");
                        None
                    }
                }
            }
            Done::Moved(lease) => {
                self.state.busy.remove(&lease);
                if self.state.ended.is_some() {
                    self.release_all(work);
                }
                None
            }
            Done::Asked => None,
        }
    }

    /// Looks at a scan, tells the worker, and does what the plan says. Whether anything was taken.
    fn look(&mut self, mut rows: Rows, work: &Work) -> bool {
        let missing = rows.missing_parents();
        rows.unconfirmed = missing.difference(&self.state.missing).cloned().collect();
        self.state.missing = missing;
        self.state.heavy = heavy(&rows);
        let lister = upkeep::is_lister(&self.context, &rows);
        self.state.list_now |= lister && !self.state.lister;
        self.state.lister = lister;
        self.state.list_now |= upkeep::audit(&self.context, &mut self.state.audit, &rows);
        let observed = self.observe(&mut rows);
        let rows = Arc::new(rows);
        let before = self.rows.send_replace(Arc::clone(&rows));
        let pinned = |lease| rows.unpinned.get(lease).is_some_and(|row| self.context.start.may_pin(row));
        let new = |lease| !before.unreadable.contains_key(lease) && !pinned(lease);
        for (lease, error) in rows.unreadable.iter().filter(|(lease, _)| new(lease)) {
            warn!(shard = %lease, %error, "a lease is left alone");
        }
        if self.state.take_no_more {
            return false;
        }
        let held = self.context.holdings.all().into_iter().map(|held| held.fence.lease).collect();
        let ours = self.ours(&rows, &held);
        let Plan { actions, content } = plan::plan(&View {
            me: &self.context.worker,
            now: rows.at,
            failover: self.context.failover,
            leases_max: self.leases_max,
            observed: &observed,
            held: &held,
            ours: &ours,
            busy: &self.state.busy,
            stole_at: self.state.stole_at,
            fresh: !self.state.content,
        });
        self.state.content |= content;
        let mut took = false;
        for action in actions {
            match action {
                Action::Take(lease) => {
                    took = true;
                    self.take(&rows, &lease, work);
                }
                Action::Steal(lease) => {
                    info!(shard = %lease, "taking a lease from a worker of the Java KCL that has more than its share");
                    self.state.stole_at = Some(rows.at);
                    self.take(&rows, &lease, work);
                }
                Action::Ask { lease, owner } => {
                    let context = Arc::clone(&self.context);
                    work.push(Box::pin(async move {
                        moves::ask(&context, &lease, &owner).await;
                        Done::Asked
                    }));
                }
            }
        }
        took
    }

    /// Brings the watch over the counters up to date. Leases that hands are off are left out.
    fn observe(&mut self, rows: &mut Rows) -> Vec<Observed> {
        let State { watch, beats, hands_off, let_go, tenures, busy, .. } = &mut self.state;
        let_go.retain(|_, until| rows.at < *until);
        watch.keep(|key| rows.has(key));
        let worker = &self.context.worker;
        tenures
            .retain(|key, _| busy.contains(key) || rows.get(key).is_some_and(|row| row.owner.as_ref() == Some(worker)));
        hands_off.retain(|key, positions| rows.get(key).is_some_and(|row| row.destinations == *positions));
        let (mut observed, mut alone) = (Vec::new(), BTreeMap::new());
        let unpinned = rows.unpinned.values().filter(|row| self.context.start.may_pin(row)).map(|row| &row.row);
        for row in rows.leases.values().chain(unpinned) {
            let mut seen = watch.see(row, rows.at);
            seen.unchanged_since = beats.unchanged_since(row, seen.unchanged_since);
            seen.unpinned = rows.unpinned.contains_key(&row.key);
            let silent = rows.at.saturating_sub(seen.unchanged_since);
            if !row.ended() && (row.owner.is_none() || silent > self.context.failover) {
                alone.insert(row.key.clone(), silent);
            }
            if !hands_off.contains_key(&row.key) && !let_go.contains_key(&row.key) {
                observed.push(seen);
            }
        }
        rows.alone = alone;
        observed
    }

    /// Leases that still name this process and its last tenure, although it holds them no more. With a heartbeat a worker
    /// such a lease never expires, so that whatever names this process is taken again.
    fn ours(&self, rows: &Rows, held: &BTreeSet<LeaseKey>) -> BTreeSet<LeaseKey> {
        let ours = |row: &&LeaseRow| {
            row.owner.as_ref() == Some(&self.context.worker)
                && (row.tenure.is_some_and(|tenure| self.used(&row.key, tenure)) || workers::by_worker(row))
                && !held.contains(&row.key)
        };
        rows.leases.values().filter(ours).map(|row| row.key.clone()).collect()
    }

    fn used(&self, lease: &LeaseKey, tenure: Tenure) -> bool {
        self.state.tenures.get(lease).is_some_and(|tenures| tenures.contains(&tenure))
    }

    /// A tenure for a take.
    fn new_tenure(&mut self, lease: &LeaseKey) -> Tenure {
        let tenure = self.context.new_tenure();
        self.state.tenures.entry(lease.clone()).or_default().insert(tenure);
        tenure
    }

    fn take(&mut self, rows: &Rows, lease: &LeaseKey, work: &Work) {
        let tenure = self.new_tenure(lease);
        let context = Arc::clone(&self.context);
        if let Some(row) = rows.get(lease).cloned() {
            self.push(work, lease.clone(), async move { moves::take(&context, &row, tenure).await });
        } else if let Some(unpinned) = rows.unpinned.get(lease).cloned() {
            self.push(work, lease.clone(), async move { moves::pin_and_take(&context, &unpinned, tenure).await });
        }
    }

    fn push(&mut self, work: &Work, lease: LeaseKey, move_it: impl Future<Output = ()> + Send + 'static) {
        self.state.busy.insert(lease.clone());
        work.push(Box::pin(async move {
            move_it.await;
            Done::Moved(lease)
        }));
    }

    fn obey(&mut self, command: Command, work: &Work) {
        match command {
            Command::Release { lease, tenure } => self.release(&lease, tenure, work),
            Command::LetGo { lease, tenure } => {
                // Long enough for a worker with its fair share to take it all the same (`plan`).
                let until = self.context.clock.elapsed() + self.context.failover * LET_GO_FAILOVERS;
                self.state.let_go.insert(lease.clone(), until);
                self.release(&lease, tenure, work);
            }
            Command::Ended { lease, tenure } => self.end(lease, tenure, work),
            Command::WalkAway { lease, tenure } => self.walk_away(lease, tenure, work),
            Command::HandsOff { lease, tenure, positions } => {
                warn!(shard = %lease, "hands off this lease until somebody has settled it");
                self.state.hands_off.insert(lease.clone(), positions);
                self.release(&lease, tenure, work);
            }
            Command::TakeNoMore => self.state.take_no_more = true,
            Command::Shutdown { ended } => {
                self.state.take_no_more = true;
                self.state.ended = Some(ended);
                self.release_all(work);
            }
            Command::Sync => {}
        }
    }

    fn release(&mut self, lease: &LeaseKey, tenure: Tenure, work: &Work) {
        // What is not among the holdings any more is lost, and told to be.
        let Some(held) = self.context.holdings.remove(lease, tenure) else { return };
        self.state.tenures.remove(lease);
        let context = Arc::clone(&self.context);
        self.push(work, lease.clone(), async move { moves::give_back(&context, held).await });
    }

    /// At the end: what the worker could not drain, or was taken at the last moment. Whoever takes it next goes on from
    /// the row; nothing that is buffered here can be committed any more.
    fn release_all(&mut self, work: &Work) {
        for held in self.context.holdings.all() {
            self.release(&held.fence.lease, held.fence.tenure, work);
        }
    }

    /// Another destination may still be on its way to the end: then the lease stays.
    fn end(&mut self, lease: LeaseKey, tenure: Tenure, work: &Work) {
        let Some(held) = self.context.holdings.get(&lease).filter(|held| held.fence.tenure == tenure) else { return };
        let checkpoint = held.next_checkpoint().unwrap_or(held.checkpoint);
        if checkpoint != Position::ShardEnd {
            debug!(shard = %lease, "not every destination has come to the end of the shard");
            return;
        }
        self.release(&lease, tenure, work);
        self.context.tell(LeaseEvent::Lost { lease, tenure, reason: LostReason::Ended });
    }

    fn walk_away(&mut self, lease: LeaseKey, left: Tenure, work: &Work) {
        if self.state.take_no_more {
            // A lease without an owner fences an old request as well as a new tenure does.
            return self.release(&lease, left, work);
        }
        if self.context.holdings.remove(&lease, left).is_none() {
            return;
        }
        let tenure = self.new_tenure(&lease);
        let context = Arc::clone(&self.context);
        self.push(work, lease.clone(), async move { moves::take_again(&context, &lease, left, tenure).await });
    }
}

/// Whether a scan every [`SCAN_INTERVAL`] by every worker seen in it costs too much.
fn heavy(rows: &Rows) -> bool {
    let workers: BTreeSet<_> = rows.leases.values().filter_map(|row| row.owner.as_ref()).collect();
    is_heavy(rows.leases.len(), workers.len())
}

pub(crate) fn is_heavy(leases: usize, workers: usize) -> bool {
    let units = leases.div_ceil(ROWS_A_UNIT).saturating_mul(workers.max(1));
    units > SCAN_UNITS_A_SECOND_MAX * SCAN_INTERVAL.as_secs() as usize
}

/// From one scan to the next.
pub(crate) fn scan_interval(heavy: bool, failover: Duration) -> Duration {
    if heavy { failover / 2 } else { SCAN_INTERVAL.min(failover / 2) }
}

#[cfg(test)]
mod balance;
#[cfg(test)]
mod storm;
#[cfg(test)]
mod tests;
