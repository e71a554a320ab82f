//! `lease ->`: how a lease changes hands by this process: taken, asked for, given back; and how a closed shard's
//! children get theirs.
//!
//! Every move is the protocol's conditional write, sent again as it is where the answer is unclear: the row that
//! refuses the second copy shows whether the first was written. I9: every take has a tenure of its own.
//!
//! Never here: which lease to move.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use standpipe_flow::write::{self, Take};
use standpipe_flow::{
    ChildShard, Clock, CommitError, DestinationId, Fence, Holding, Holdings, LeaseKey, LeaseRow, Random, ShardId,
    Tenure, WorkerId,
};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use crate::coordinator::ShardCatalog;
use crate::event::LeaseEvent;
use crate::hierarchy::{self, Start};
use crate::plan;
use crate::renew::{Attempt, Verdict, judge, term};
use crate::table::{LeaseTable, Rows, Unpinned};
use crate::upkeep;
use crate::workers::{HeartbeatMode, WorkerTable};

/// How often a take is sent before the next scan has to tell.
const TAKE_TRIES: u32 = 4;
const PAUSE_FIRST_MILLIS: u64 = 50;
const PAUSE_MAX_MILLIS: u64 = 2_000;
/// Leases that are made at once.
const CREATIONS_AT_ONCE: usize = 16;
/// A conflict is over as soon as the other write is: 5 to 50 ms.
const CONFLICT_MILLIS: (u64, u64) = (5, 50);

/// What everything that moves leases needs.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) worker: WorkerId,
    pub(crate) failover: Duration,
    pub(crate) heartbeat: HeartbeatMode,
    /// The workers' heartbeats, where there are any.
    pub(crate) workers: WorkerTable,
    pub(crate) table: LeaseTable,
    pub(crate) catalog: Arc<dyn ShardCatalog>,
    pub(crate) holdings: Arc<Holdings>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    /// Unbounded, because a heartbeat must never wait for the worker. A tenure has at most three events.
    pub(crate) events: mpsc::UnboundedSender<LeaseEvent>,
    pub(crate) destinations: BTreeSet<DestinationId>,
    pub(crate) retired: BTreeSet<DestinationId>,
    /// `spStream` of new leases.
    pub(crate) stream: Vec<u8>,
    /// Where leases begin.
    pub(crate) start: Beginning,
    /// What was done for the table as a whole.
    pub(crate) upkeep: upkeep::Counts,
}

impl Context {
    pub(crate) fn tell(&self, event: LeaseEvent) {
        // A worker that is gone needs no news.
        let _ = self.events.send(event);
    }

    /// A tenure that was never used before.
    pub(crate) fn new_tenure(&self) -> Tenure {
        plan::tenure(&self.worker, self.heartbeat.mark(self.random.next()))
    }
}

/// Waits before the next try: from 50 ms, doubling up to 2 s but never beyond a tenth of the failover time, the upper
/// half of it at random.
pub(crate) async fn pause(context: &Context, tries: &mut u32) {
    let most = (context.failover.as_millis() as u64 / 10).clamp(PAUSE_FIRST_MILLIS, PAUSE_MAX_MILLIS);
    let millis = PAUSE_FIRST_MILLIS.saturating_mul(1 << (*tries).min(10)).min(most);
    *tries += 1;
    tokio::time::sleep(Duration::from_millis(millis / 2 + context.random.below(millis / 2 + 1))).await;
}

/// Waits for another write of the same item to be over.
pub(crate) async fn step_aside(context: &Context) {
    let (least, most) = CONFLICT_MILLIS;
    tokio::time::sleep(Duration::from_millis(least + context.random.below(most - least + 1))).await;
}

/// Where leases begin that came of no other, and those of a Java KCL that have no position.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Beginning {
    /// For leases that are made.
    pub(crate) start: Start,
    /// Whether the instant is that of the first start itself, and nobody's choice.
    pub(crate) latest: bool,
}

impl Beginning {
    /// Whether the config says where a lease without a position begins. One at a time does not begin now.
    pub(crate) fn may_pin(&self, unpinned: &Unpinned) -> bool {
        !(unpinned.at_timestamp && self.latest)
    }
}

/// Pins where a lease begins that a Java KCL made and never checkpointed, then takes it. A copy of the first write that
/// is refused by its own effect is left to the next scan, which finds an ordinary row.
pub(crate) async fn pin_and_take(context: &Context, unpinned: &Unpinned, tenure: Tenure) {
    let row = &unpinned.row;
    match context.table.write(&write::pin(&row.key, row.counter, context.start.start.instant())).await {
        Ok(row) => {
            info!(shard = %row.key, "a lease without a position begins where the config says");
            take(context, &row, tenure).await;
        }
        Err(CommitError::Refused { .. }) => debug!(shard = %row.key, "another worker was faster"),
        Err(error) => warn!(shard = %row.key, %error, "the start of the lease could not be pinned"),
    }
}

/// Takes a lease as the scan saw it. The worker is told if that worked.
pub(crate) async fn take(context: &Context, row: &LeaseRow, tenure: Tenure) {
    let write = write::take(&Take {
        row,
        worker: &context.worker,
        tenure,
        destinations: &context.destinations,
        retired: &context.retired,
    });
    let start = context.clock.elapsed();
    let mut tries = 0;
    while tries < TAKE_TRIES {
        match context.table.write(&write).await {
            Ok(taken) => return enter(context, taken, tenure, start),
            Err(CommitError::Refused { now: Some(now), .. }) if is_our_take(context, &now, row, tenure) => {
                return enter(context, *now, tenure, start);
            }
            Err(CommitError::Refused { .. }) => {
                debug!(shard = %row.key, "another worker was faster");
                return;
            }
            Err(CommitError::Conflict) => {
                tries += 1;
                step_aside(context).await;
            }
            Err(error) => {
                warn!(shard = %row.key, %error, "the lease could not be taken");
                pause(context, &mut tries).await;
            }
        }
    }
}

fn is_our_take(context: &Context, now: &LeaseRow, seen: &LeaseRow, tenure: Tenure) -> bool {
    now.tenure == Some(tenure) && now.owner.as_ref() == Some(&context.worker) && now.counter == seen.counter + 1
}

fn enter(context: &Context, row: LeaseRow, tenure: Tenure, start: Duration) {
    let deadline = start + term(context.failover);
    if context.clock.elapsed() >= deadline {
        // Too slow to be of use; the row still names this process, so the next scan takes it again.
        warn!(shard = %row.key, "the take was answered after its deadline");
        return;
    }
    let (lease, owner) = (row.key.clone(), context.worker.clone());
    let fence = Fence { lease, owner, tenure, generation: row.generation };
    context.holdings.insert(Holding::of(&row, fence.clone(), deadline));
    context.tell(LeaseEvent::Taken { row: Box::new(row), fence, deadline });
}

/// Asks an owner for its lease. Refused: it has another owner, or another worker was first.
pub(crate) async fn ask(context: &Context, lease: &LeaseKey, owner: &WorkerId) {
    match context.table.write(&write::ask(lease, owner, &context.worker)).await {
        Ok(_) => info!(shard = %lease, %owner, "asked for the lease"),
        Err(error) => debug!(shard = %lease, %owner, %error, "could not ask for the lease"),
    }
}

/// Gives back what was just taken out of the holdings: first the checkpoint, if it can move, then the lease. Until its
/// deadline; after it the lease passes on by expiry.
pub(crate) async fn give_back(context: &Context, mut held: Holding) {
    let fence = held.fence.clone();
    let mut attempt = Attempt::of(&held, context.clock.elapsed());
    let mut tries = 0;
    while context.clock.elapsed() < held.deadline {
        let last = attempt.checkpoint.is_none();
        let write = match &attempt.checkpoint {
            Some(checkpoint) => write::heartbeat(&fence, attempt.counter, Some(checkpoint)),
            None => write::release(&fence, attempt.counter),
        };
        match context.table.write(&write).await {
            Ok(_) if last => return info!(shard = %fence.lease, "lease released"),
            Ok(row) => catch_up(&mut held, &row),
            Err(CommitError::Refused { now, .. }) => match judge(now.as_deref(), &fence, &attempt) {
                Verdict::Ours(row) | Verdict::Counter(row) => catch_up(&mut held, row),
                // Released by an earlier copy of this request, or taken over by somebody.
                Verdict::Lost(_) => return debug!(shard = %fence.lease, "the lease is another's already"),
            },
            Err(CommitError::Conflict) => {
                step_aside(context).await;
                continue;
            }
            Err(error) => {
                warn!(shard = %fence.lease, %error, "the lease could not be released, will try again");
                pause(context, &mut tries).await;
                continue;
            }
        }
        attempt = Attempt::of(&held, context.clock.elapsed());
    }
    warn!(shard = %fence.lease, "the lease could not be released in time; it passes on by expiry");
}

fn catch_up(held: &mut Holding, row: &LeaseRow) {
    held.counter = row.counter;
    held.checkpoint = row.checkpoint.clone();
}

/// Takes a lease again that this process has walked away from, if the row still names that acquisition.
pub(crate) async fn take_again(context: &Context, lease: &LeaseKey, left: Tenure, tenure: Tenure) {
    match context.table.get(lease).await {
        Ok(Some(row)) if row.owner.as_ref() == Some(&context.worker) && row.tenure == Some(left) => {
            take(context, &row, tenure).await;
        }
        Ok(_) => debug!(shard = %lease, "the lease is another's already"),
        Err(error) => warn!(shard = %lease, %error, "the lease could not be read"),
    }
}

/// Makes the leases of a closed shard's children, and names them on its row.
pub(crate) async fn make_children(
    context: &Context,
    parent: &LeaseRow,
    children: &[ChildShard],
) -> Result<(), CommitError> {
    let mut parents: BTreeMap<ShardId, LeaseRow> = BTreeMap::new();
    let named: BTreeSet<&ShardId> = children.iter().flat_map(|child| &child.parents).collect();
    let mut listed = false;
    for id in named {
        let key = LeaseKey::of(id);
        let mut row = context.table.get(&key).await?;
        if row.is_none() && !listed {
            // A merge's other parent has no lease. It may be finished and cleaned away; if it never had one, it must get
            // one before the child has, or its records would be passed over.
            make_missing(context, &context.table.scan().await?).await?;
            listed = true;
            row = context.table.get(&key).await?;
        }
        parents.extend(row.map(|row| (id.clone(), row)));
    }
    for child in children {
        let rows = child.parents.iter().filter_map(|id| parents.get(id)).chain([parent]);
        if context.table.create(&hierarchy::child_lease(child, rows, &context.stream)).await? {
            info!(shard = %child.id, parent = %parent.key, "lease made");
        }
    }
    let Some(held) = context.holdings.get(&parent.key) else { return Ok(()) };
    let ids = children.iter().map(|child| child.id.clone()).collect();
    match context.table.write(&write::children(&held.fence, ids)).await {
        // The lease is another's by now: the children exist, and their names are the KCL's convenience.
        Ok(_) | Err(CommitError::Refused { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Lists the shards and makes the leases that are missing. How many were made.
pub(crate) async fn make_missing(context: &Context, rows: &Rows) -> Result<usize, CommitError> {
    let shards = context.catalog.list().await.map_err(|cause| CommitError::Unknown { cause })?;
    make(context, hierarchy::missing(&shards, rows, context.start.start, &context.stream)).await
}

/// Makes leases level by level, parents first; those of a level side by side. How many were made.
pub(crate) async fn make(context: &Context, levels: Vec<Vec<LeaseRow>>) -> Result<usize, CommitError> {
    let mut made = 0;
    for level in levels {
        let creations = level.into_iter().map(|row| async move {
            let fresh = context.table.create(&row).await?;
            if fresh {
                info!(shard = %row.key, "lease made");
            }
            Ok::<_, CommitError>(usize::from(fresh))
        });
        let creations = stream::iter(creations).buffer_unordered(CREATIONS_AT_ONCE);
        made += creations.try_fold(0, |all, one| async move { Ok(all + one) }).await?;
    }
    context.upkeep.made(made);
    Ok(made)
}
