//! `lease ->`: PURE. Which leases this worker should take, ask for or steal, from what it last saw of the lease table.
//!
//! Every worker plans alike and for itself; plans may differ for a round, and the conditional write decides. A lease is
//! up for taking when nobody owns it, or when its counter has not moved for longer than the failover time on this
//! worker's own monotonic clock (the KCL's rule; no wall clock, I12). Each such lease is for one worker
//! ([`fleet`]: rendezvous hashing with bounded load); what that worker leaves is for everybody. A live lease of one of our
//! workers only moves when its owner gives it up: whoever has too little asks. A live lease of a Java worker is stolen, as
//! the KCL 2 does it: one a round, and only to come by one's fair share.
//!
//! Never here: a request, a clock; a lease whose attributes have a form that this program does not know (I13).

mod fleet;
mod watch;

use std::collections::BTreeSet;
use std::time::Duration;

use standpipe_flow::hash::hash64;
use standpipe_flow::{LeaseKey, LeaseRow, PendingMode, Tenure, WorkerId};

use fleet::Fleet;
pub use watch::Watch;

/// How long a lease without an owner is left to the worker that waits for it (`spNext`), which looks every half failover
/// time: three quarters of one at most, or a worker that died would hold a lease up for longer than one that holds it.
pub const RESERVED: Duration = Duration::from_secs(3);
/// How long a lease that has changed hands stays where it is, unless its owner gives it up or dies.
pub const COOL_DOWN: Duration = Duration::from_secs(60);
/// Between two moves of live leases for the sake of load, in the whole fleet: what a membership change moves is not to be
/// added to.
pub const REST: Duration = Duration::from_secs(300);
/// Leases that a worker waits for at most. One more is asked for in a round.
const ASKS_MAX: usize = 2;
/// A lease that was asked for, and has not come by then, holds up no others: its owner may be unable to drain it.
const ASK_PATIENCE: Duration = Duration::from_secs(45);
/// A lease that nobody has taken for this many failover times is taken beyond the fair share (the KCL's
/// `veryOldLeaseDurationNanosMultiplier`): whoever could have taken it is full, or was not there after all.
const VERY_OLD_FAILOVERS: u32 = 3;
/// Between two thefts of one worker: the KCL's taker runs every two failover times and steals one lease.
const STEAL_FAILOVERS: u32 = 2;
/// What is taken in one round at least; beyond it half of what is up, so that workers that start together see each
/// other before everything is gone.
const TAKES_MIN: usize = 4;

/// A row, with how long it has been what it is. Instants are on [`standpipe_flow::Clock::elapsed`]'s axis.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The row as the last scan saw it.
    pub row: LeaseRow,
    /// When its counter was first seen to be what it is.
    pub unchanged_since: Duration,
    /// Who owned it before nobody did, where that was seen.
    pub left_by: Option<WorkerId>,
    /// When it was last seen to pass from one worker to another.
    pub moved_at: Option<Duration>,
    /// When `spNext` was first seen to be what it is.
    pub waited_since: Duration,
    /// It has no position yet: it is left to its owner while that lives.
    pub unpinned: bool,
}

/// What a worker knows.
#[derive(Debug, Clone)]
pub struct View<'a> {
    /// This worker.
    pub me: &'a WorkerId,
    /// Now, on the axis of `unchanged_since`.
    pub now: Duration,
    /// After how long without a heartbeat a lease has expired.
    pub failover: Duration,
    /// How many leases this worker may hold.
    pub leases_max: usize,
    /// The rows.
    pub observed: &'a [Observed],
    /// What this worker holds.
    pub held: &'a BTreeSet<LeaseKey>,
    /// Rows that still name this very process as their owner although it holds them no more: it walked away, or its
    /// deadline passed. No other waits for their expiry, so they are taken again at once.
    pub ours: &'a BTreeSet<LeaseKey>,
    /// Leases with a take or a release under way.
    pub busy: &'a BTreeSet<LeaseKey>,
    /// When this worker last stole a lease.
    pub stole_at: Option<Duration>,
    /// Whether it is still coming by its share for the first time. Then it does not wait for a rest.
    pub fresh: bool,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Take the lease: nobody has it.
    Take(LeaseKey),
    /// Ask its owner, one of our workers, for the lease.
    Ask {
        /// The lease.
        lease: LeaseKey,
        /// Whom the row named as its owner.
        owner: WorkerId,
    },
    /// Take the lease from a live Java worker.
    Steal(LeaseKey),
}

/// Whether a lease is for workers of this kind: its shard is not finished, and its attributes are understood.
pub fn eligible(row: &LeaseRow) -> bool {
    let unknown = |mode: PendingMode| mode == PendingMode::Unknown;
    let pending = row.destinations.values().filter_map(|position| position.pending.as_ref());
    !row.ended() && row.version_known() && !pending.into_iter().any(|pending| unknown(pending.mode))
}

/// A tenure for a take by this worker: its first half says whose it is, the second is `random`.
pub fn tenure(worker: &WorkerId, random: u64) -> Tenure {
    let bits = u128::from(hash64(&[worker.as_str().as_bytes()])) << 64 | u128::from(random);
    Tenure(bits.to_be_bytes())
}

/// Whether a Java worker owns the lease: it writes its name and knows nothing of tenures, so the tenure is another's.
pub fn foreign(row: &LeaseRow) -> bool {
    let Some(owner) = &row.owner else { return false };
    let half = |tenure: Tenure| u128::from_be_bytes(tenure.0) >> 64;
    row.tenure.map(half) != Some(half(tenure(owner, 0)))
}

/// What to do, and whether there is more to come by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What to do now: takes first; if there are none, at most one ask or theft.
    pub actions: Vec<Action>,
    /// Nothing is up for taking, nothing is waited for, and nobody has anything for this worker.
    pub content: bool,
}

/// The plan.
pub fn plan(view: &View<'_>) -> Plan {
    let leases: Vec<&Observed> = view.observed.iter().filter(|seen| eligible(&seen.row)).collect();
    let mut takes: Vec<&Observed> = Vec::new();
    takes.extend(leases.iter().filter(|seen| view.ours.contains(&seen.row.key) && view.free(&seen.row.key)));

    let mut fleet = Fleet::of(view, &leases);
    let mut available: Vec<&Observed> = leases.iter().copied().filter(|seen| view.available(seen)).collect();
    available.sort_by_key(|seen| (seen.row.next.as_ref() != Some(view.me), view.order(&seen.row.key)));
    let for_me = fleet.assign(view, &available);
    let mine = leases.iter().filter(|seen| view.is_mine(seen)).count();
    let room = fleet.share().min(view.leases_max).saturating_sub(mine);
    let up = view.takes(&available, &for_me, (mine, room));
    let quiet = takes.is_empty() && up.is_empty() && for_me.is_empty();
    takes.extend(up);

    let mut actions: Vec<Action> = takes.iter().map(|seen| Action::Take(seen.row.key.clone())).collect();
    let quiet = quiet && available.is_empty();
    if quiet {
        actions.extend(view.of_the_living(&fleet));
    }
    let content = quiet && actions.is_empty() && view.waited_for() == 0;
    Plan { actions, content }
}

impl<'v> View<'v> {
    fn age(&self, seen: &Observed) -> Duration {
        self.now.saturating_sub(seen.unchanged_since)
    }

    fn free(&self, key: &LeaseKey) -> bool {
        !self.held.contains(key) && !self.busy.contains(key)
    }

    /// Whether the owner of an owned lease is alive, as far as can be seen.
    fn live(&self, seen: &Observed) -> bool {
        self.age(seen) <= self.failover
    }

    fn is_mine(&self, seen: &Observed) -> bool {
        let key = &seen.row.key;
        let named = seen.row.owner.as_ref() == Some(self.me) && self.live(seen);
        named || [self.held, self.ours, self.busy].iter().any(|leases| leases.contains(key))
    }

    fn reserved(&self) -> Duration {
        RESERVED.min(self.failover / 4 * 3)
    }

    /// Who waits for the lease, while there is a reason to: its owner lives, or has just released it.
    fn waits<'a>(&self, seen: &'a Observed) -> Option<&'a WorkerId> {
        let age = self.age(seen);
        let credible = if seen.row.owner.is_some() { age <= self.failover } else { age < self.reserved() };
        seen.row.next.as_ref().filter(|_| credible)
    }

    fn available(&self, seen: &Observed) -> bool {
        let row = &seen.row;
        if !self.free(&row.key) || self.ours.contains(&row.key) {
            return false;
        }
        match &row.owner {
            Some(_) => !self.live(seen),
            None => self.waits(seen).is_none_or(|next| next == self.me),
        }
    }

    /// Whether an available lease has been left by the worker that it is for.
    fn free_for_all(&self, seen: &Observed) -> bool {
        let since = if seen.row.owner.is_some() { self.failover } else { Duration::ZERO };
        // One or two scans after the time that it was left to that worker.
        self.age(seen).saturating_sub(since) >= self.reserved() * 2
    }

    /// What is for this worker, and what others should have taken by now, as far as there is room.
    fn takes<'a>(
        &self,
        available: &[&'a Observed],
        for_me: &[&'a Observed],
        (mine, room): (usize, usize),
    ) -> Vec<&'a Observed> {
        let at_once = available.len().div_ceil(2).max(TAKES_MIN);
        let at_once = at_once.min(self.leases_max.saturating_sub(mine));
        let mut takes: Vec<&Observed> = for_me.iter().copied().take(at_once).collect();
        let left = available.iter().copied().filter(|seen| self.free_for_all(seen));
        for seen in left {
            if takes.len() < room.min(at_once) && !takes.iter().any(|take| take.row.key == seen.row.key) {
                takes.push(seen);
            }
        }
        let very_old = |seen: &&&Observed| self.age(seen) > self.failover * VERY_OLD_FAILOVERS;
        if takes.is_empty() && mine < self.leases_max {
            takes.extend(available.iter().find(very_old).copied());
        }
        takes
    }

    /// A live lease: of a Java worker by theft, of one of ours by asking for it. A lease that has just moved stays.
    fn of_the_living(&self, fleet: &Fleet<'v>) -> Option<Action> {
        if self.waited_for() >= ASKS_MAX {
            return None;
        }
        let seen = match fleet.mixed() {
            true => fleet.next_by_count(self)?,
            false if self.fresh || fleet.mine() == 0 => fleet.next_for_me(self)?,
            false if self.at_rest() => fleet.next_by_weight(self)?,
            false => return None,
        };
        let lease = seen.row.key.clone();
        if foreign(&seen.row) {
            let again = self.failover * STEAL_FAILOVERS;
            let rested = self.stole_at.is_none_or(|at| self.now.saturating_sub(at) >= again);
            return rested.then_some(Action::Steal(lease));
        }
        let owner = seen.row.owner.clone()?;
        Some(Action::Ask { lease, owner })
    }

    /// How many leases this worker has asked for and may still get.
    fn waited_for(&self) -> usize {
        let waiting = |seen: &&Observed| {
            seen.row.next.as_ref() == Some(self.me) && self.now.saturating_sub(seen.waited_since) < ASK_PATIENCE
        };
        self.observed.iter().filter(waiting).count()
    }

    /// Whether no lease has moved for a while.
    fn at_rest(&self) -> bool {
        let moved = |seen: &Observed| seen.moved_at.is_some_and(|at| self.now.saturating_sub(at) < REST);
        !self.observed.iter().any(|seen| moved(seen) || self.waits(seen).is_some())
    }

    /// Whether a live lease may be asked for, or stolen: not in the middle of another hand-over.
    fn movable(&self, seen: &Observed) -> bool {
        let rested = seen.moved_at.is_none_or(|at| self.now.saturating_sub(at) >= COOL_DOWN);
        let settled = seen.row.next.is_none() && seen.row.checkpoint_owner.is_none() && seen.row.owner.is_some();
        rested && settled && !seen.unpinned && self.live(seen)
    }

    /// Spreads the workers over the leases, each in an order of its own.
    fn order(&self, key: &LeaseKey) -> u64 {
        rank(self.me, key)
    }
}

/// Rendezvous hashing: the worker with the highest rank is the one that a lease is for.
fn rank(worker: &WorkerId, key: &LeaseKey) -> u64 {
    hash64(&[worker.as_str().as_bytes(), key.as_str().as_bytes()])
}

#[cfg(test)]
mod rolling;
#[cfg(test)]
mod tests;
