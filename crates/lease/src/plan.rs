//! `lease ->`: PURE. Which leases this worker should take or ask for, from what it last saw of the lease table.
//!
//! Every worker plans alike and for itself; plans may differ for a round, and the conditional write decides. A lease is
//! up for taking when nobody owns it, or when its counter has not moved for longer than the failover time on this
//! worker's own monotonic clock (the KCL's rule; no wall clock, I12). Each takes its fair share: leases by members,
//! rounded up. A live lease only moves when its owner gives it up: a worker without any asks one owner for one lease.
//!
//! Never here: a request, a clock; a lease whose attributes have a form that this program does not know (I13).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use standpipe_flow::{LeaseKey, LeaseRow, PendingMode, WorkerId};

use crate::identity::hash64;

/// How long a lease without an owner is left to the worker that waits for it (`spNext`).
pub const RESERVED: Duration = Duration::from_secs(3);
/// A lease that nobody has taken for this many failover times is taken beyond the fair share (the KCL's
/// `veryOldLeaseDurationNanosMultiplier`): whoever could have taken it is full, or was not there after all.
const VERY_OLD_FAILOVERS: u32 = 3;
/// What is taken in one round at least; beyond it half of what is up, so that workers that start together see each
/// other before everything is gone.
const TAKES_MIN: usize = 4;

/// A row, with how long it has been what it is.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The row as the last scan saw it.
    pub row: LeaseRow,
    /// When its counter was first seen to be what it is, on [`standpipe_flow::Clock::elapsed`]'s axis.
    pub unchanged_since: Duration,
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
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Take the lease.
    Take(LeaseKey),
    /// Ask its owner for the lease.
    Ask {
        /// The lease.
        lease: LeaseKey,
        /// Whom the row named as its owner.
        owner: WorkerId,
    },
}

/// Whether a lease is for workers of this kind: its shard is not finished, and its attributes are understood.
pub fn eligible(row: &LeaseRow) -> bool {
    let unknown = |mode: PendingMode| mode == PendingMode::Unknown;
    let pending = row.destinations.values().filter_map(|position| position.pending.as_ref());
    !row.ended() && row.version_known() && !pending.into_iter().any(|pending| unknown(pending.mode))
}

/// The plan: takes first, at most one ask.
pub fn plan(view: &View<'_>) -> Vec<Action> {
    let leases: Vec<&Observed> = view.observed.iter().filter(|seen| eligible(&seen.row)).collect();
    let mut actions: Vec<Action> = Vec::new();
    let again = leases.iter().filter(|seen| view.ours.contains(&seen.row.key) && view.free(&seen.row.key));
    actions.extend(again.map(|seen| Action::Take(seen.row.key.clone())));

    let mine = leases.iter().filter(|seen| view.is_mine(seen)).count();
    let target = view.target(&leases);
    let mut available: Vec<&Observed> = leases.iter().copied().filter(|seen| view.available(seen)).collect();
    available.sort_by_key(|seen| (seen.row.next.as_ref() != Some(view.me), view.order(&seen.row.key)));
    let takes = view.takes(&available, target.saturating_sub(mine), mine);
    actions.extend(takes.iter().map(|seen| Action::Take(seen.row.key.clone())));

    if mine == 0 && actions.is_empty() && view.busy.is_empty() {
        actions.extend(view.ask(&leases));
    }
    actions
}

impl View<'_> {
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

    fn available(&self, seen: &Observed) -> bool {
        let row = &seen.row;
        if !self.free(&row.key) || self.ours.contains(&row.key) {
            return false;
        }
        match (&row.owner, &row.next) {
            (Some(_), _) => !self.live(seen),
            (None, Some(next)) => next == self.me || self.age(seen) >= RESERVED,
            (None, None) => true,
        }
    }

    /// Everybody who has leases, or waits for one: owners whose counters move, this worker, and every `spNext` that
    /// still has a reason to wait.
    fn members(&self, leases: &[&Observed]) -> BTreeSet<WorkerId> {
        let mut members = BTreeSet::from([self.me.clone()]);
        for seen in leases {
            let owner = seen.row.owner.as_ref().filter(|_| self.live(seen));
            members.extend(owner.cloned());
            let waits = if seen.row.owner.is_some() { self.failover + RESERVED } else { RESERVED };
            members.extend(seen.row.next.iter().filter(|_| self.age(seen) < waits).cloned());
        }
        members
    }

    /// The fair share, rounded up.
    fn target(&self, leases: &[&Observed]) -> usize {
        leases.len().div_ceil(self.members(leases).len()).min(self.leases_max)
    }

    fn takes<'a>(&self, available: &[&'a Observed], need: usize, mine: usize) -> Vec<&'a Observed> {
        let at_once = available.len().div_ceil(2).max(TAKES_MIN);
        let mut takes: Vec<_> = available.iter().copied().take(need.min(at_once)).collect();
        let full = mine + takes.len() >= self.leases_max;
        let very_old = |seen: &&&Observed| self.age(seen) > self.failover * VERY_OLD_FAILOVERS;
        if takes.is_empty() && !full {
            takes.extend(available.iter().find(very_old).copied());
        }
        takes
    }

    /// One lease of the worker that has most: never a worker's only one, never one that another waits for, and only
    /// while this worker waits for none.
    fn ask(&self, leases: &[&Observed]) -> Option<Action> {
        let waiting = leases.iter().any(|seen| seen.row.next.as_ref() == Some(self.me));
        if waiting || self.leases_max == 0 {
            return None;
        }
        let mut by_owner: BTreeMap<&WorkerId, Vec<&Observed>> = BTreeMap::new();
        for seen in leases.iter().filter(|seen| self.live(seen)) {
            if let Some(owner) = seen.row.owner.as_ref().filter(|owner| *owner != self.me) {
                by_owner.entry(owner).or_default().push(seen);
            }
        }
        // What an owner was asked for already is as good as gone.
        let unasked = |all: &Vec<&Observed>| all.iter().filter(|seen| seen.row.next.is_none()).count();
        let most = by_owner.iter().filter(|(_, all)| unasked(all) > 1);
        let (owner, all) = most.max_by_key(|(owner, all)| (unasked(all), self.order_of_worker(owner)))?;
        let unasked = all.iter().filter(|seen| seen.row.next.is_none());
        let lease = unasked.min_by_key(|seen| self.order(&seen.row.key))?;
        Some(Action::Ask { lease: lease.row.key.clone(), owner: (*owner).clone() })
    }

    /// Spreads the workers over the leases, each in an order of its own.
    fn order(&self, key: &LeaseKey) -> u64 {
        hash64(&[self.me.as_str().as_bytes(), key.as_str().as_bytes()])
    }

    fn order_of_worker(&self, worker: &WorkerId) -> u64 {
        hash64(&[self.me.as_str().as_bytes(), worker.as_str().as_bytes()])
    }
}

#[cfg(test)]
mod tests;
