//! `lease ->`: PURE. Who has how much, whom a lease is for that nobody has, and which live lease should move next.
//!
//! A lease weighs what is read of its shard, and a constant. A worker's capacity is a tenth above the mean; a lease that
//! nobody has goes to the highest rank (rendezvous hashing) that has room for it. Live leases stay where they are while
//! nobody has 15% too much or too little. Nobody holds more than one lease beyond its share of them, whatever they
//! weigh: so a worker that dies moves that many and no more. Beside Java workers, which write no throughput before
//! KCL 3, leases are counted as the KCL 2 counts them.
//!
//! Never here: a request, a clock, the state of a lease.

use std::collections::{BTreeMap, BTreeSet};

use standpipe_flow::WorkerId;

use super::{Observed, View, foreign, rank};

/// What a lease weighs beside its throughput, in KB a second: an empty shard is polled and heartbeats are written.
const LEASE_KB: u64 = 64;
/// More is read of a shard only while it catches up: that passes.
const SHARD_KB_MAX: u64 = 1024;
/// A worker's capacity, in percent of the mean.
const CAPACITY_PERCENT: u64 = 110;
/// Above this, in percent of the mean, a worker has too much; below that, too little.
const OVER_PERCENT: u64 = 115;
const UNDER_PERCENT: u64 = 85;

#[derive(Debug, Default)]
struct Member<'a> {
    load: u64,
    leases: Vec<&'a Observed>,
    foreign: bool,
    /// It releases what it has for nobody in particular: it is shutting down.
    draining: bool,
}

/// The workers, with what they have or are about to have.
pub(super) struct Fleet<'a> {
    me: &'a WorkerId,
    members: BTreeMap<&'a WorkerId, Member<'a>>,
    leases: usize,
    total: u64,
    leases_max: usize,
    mixed: bool,
}

impl<'a> Fleet<'a> {
    /// Everybody who has leases, or waits for one: owners whose counters move, this worker, and every `spNext` that
    /// still has a reason to wait.
    pub(super) fn of(view: &View<'a>, leases: &[&'a Observed]) -> Self {
        let live_foreign = |seen: &&&Observed| view.live(seen) && !view.is_mine(seen) && foreign(&seen.row);
        let mixed = leases.iter().any(|seen| live_foreign(&seen));
        let mut fleet = Self {
            me: view.me,
            members: BTreeMap::from([(view.me, Member::default())]),
            leases: leases.len(),
            total: 0,
            leases_max: view.leases_max,
            mixed,
        };
        for seen in leases.iter().copied() {
            fleet.total += fleet.weight(seen);
            if let Some(owner) = fleet.owner(view, seen) {
                fleet.give(owner, seen);
            }
            if live_foreign(&&seen)
                && let Some(owner) = &seen.row.owner
            {
                fleet.members.entry(owner).or_default().foreign = true;
            }
        }
        let left: BTreeSet<&WorkerId> = leases
            .iter()
            .filter(|seen| seen.row.owner.is_none() && seen.row.next.is_none())
            .filter_map(|seen| seen.left_by.as_ref())
            .collect();
        for (worker, member) in &mut fleet.members {
            member.draining = *worker != view.me && left.contains(worker);
        }
        fleet
    }

    /// Who has a lease, or is about to.
    fn owner(&self, view: &View<'a>, seen: &'a Observed) -> Option<&'a WorkerId> {
        let waits = view.waits(seen);
        if view.is_mine(seen) {
            return Some(waits.unwrap_or(view.me));
        }
        waits.or_else(|| seen.row.owner.as_ref().filter(|_| view.live(seen)))
    }

    fn give(&mut self, worker: &'a WorkerId, seen: &'a Observed) {
        let weight = self.weight(seen);
        let member = self.members.entry(worker).or_default();
        member.load += weight;
        member.leases.push(seen);
    }

    fn weight(&self, seen: &Observed) -> u64 {
        let throughput = seen.row.throughput.unwrap_or_default().kb().min(SHARD_KB_MAX);
        if self.mixed { LEASE_KB } else { LEASE_KB + throughput }
    }

    /// Whether live Java workers are among them.
    pub(super) fn mixed(&self) -> bool {
        self.mixed
    }

    /// How many leases this worker has.
    pub(super) fn mine(&self) -> usize {
        self.members.get(self.me).map_or(0, |member| member.leases.len())
    }

    fn workers(&self) -> usize {
        self.members.values().filter(|member| !member.draining).count().max(1)
    }

    /// How many leases a worker may have: the KCL's target, and one more where there is no KCL, for the sake of weights.
    pub(super) fn share(&self) -> usize {
        self.leases.div_ceil(self.workers()) + usize::from(!self.mixed)
    }

    fn mean(&self) -> u64 {
        self.total / self.workers() as u64
    }

    fn has_room(&self, worker: &WorkerId, member: &Member<'_>) -> bool {
        let most = if worker == self.me { self.share().min(self.leases_max) } else { self.share() };
        !member.draining && member.leases.len() < most
    }

    /// Distributes what nobody has, the heaviest first. The answer is what this worker gets.
    pub(super) fn assign(&mut self, view: &View<'a>, available: &[&'a Observed]) -> Vec<&'a Observed> {
        let mut in_order: Vec<&Observed> = available.to_vec();
        in_order.sort_by_key(|seen| (std::cmp::Reverse(self.weight(seen)), &seen.row.key));
        let capacity = self.mean() * CAPACITY_PERCENT / 100;
        let mut mine = BTreeSet::new();
        for seen in in_order {
            let (key, weight) = (&seen.row.key, self.weight(seen));
            // It is in this worker's load already.
            if view.waits(seen) == Some(self.me) {
                mine.insert(key);
                continue;
            }
            let may = |(worker, member): &(&&'a WorkerId, &Member<'a>)| {
                let left_it = seen.left_by.as_ref() == Some(**worker) && **worker != self.me;
                member.leases.len() < self.share() && !member.draining && !member.foreign && !left_it
            };
            let fits = |(_, member): &(&&'a WorkerId, &Member<'a>)| member.load + weight <= capacity;
            let ranked = |(worker, _): &(&&'a WorkerId, &Member<'a>)| rank(worker, key);
            let candidates = || self.members.iter().filter(may);
            let chosen = candidates().filter(fits).max_by_key(ranked);
            let lightest = || candidates().min_by_key(|(worker, member)| (member.load, !rank(worker, key)));
            let Some(worker) = chosen.or_else(lightest).map(|(worker, _)| *worker) else { continue };
            self.give(worker, seen);
            if worker == self.me {
                mine.insert(key);
            }
        }
        available.iter().copied().filter(|seen| mine.contains(&seen.row.key)).collect()
    }

    /// The next live lease that should move for the sake of load, if it is for this worker. All see the same one, the one
    /// for whoever has least: so nobody takes what is another's to take.
    pub(super) fn next_by_weight(&self, view: &View<'a>) -> Option<&'a Observed> {
        let room = self.members.iter().filter(|(worker, member)| self.has_room(worker, member));
        let (to, _) = room.min_by_key(|(worker, member)| (member.load, **worker))?;
        if *to == self.me { self.next_for(view, to) } else { None }
    }

    /// The next live lease for a worker that has just begun, whoever else has too little: it comes by its share at once.
    pub(super) fn next_for_me(&self, view: &View<'a>) -> Option<&'a Observed> {
        self.next_for(view, self.me)
    }

    fn next_for(&self, view: &View<'a>, to: &WorkerId) -> Option<&'a Observed> {
        let least = self.members.get(to).filter(|member| self.has_room(to, member))?;
        let mut donors: Vec<_> = self.members.iter().filter(|(from, has)| **from != to && !has.draining).collect();
        let too_many = |member: &Member<'_>| member.leases.len() > self.share();
        donors.sort_by_key(|(worker, member)| std::cmp::Reverse((too_many(member), member.load, **worker)));
        donors.into_iter().find_map(|(_, most)| self.offer(view, most, least, to))
    }

    /// What the one should give the other: what evens them out best.
    fn offer(&self, view: &View<'a>, most: &Member<'a>, least: &Member<'a>, to: &WorkerId) -> Option<&'a Observed> {
        let mean = self.mean();
        let over = most.load * 100 > mean * OVER_PERCENT;
        let under = least.load * 100 < mean * UNDER_PERCENT && most.load > mean;
        let must = most.leases.len() > self.share() || (least.leases.is_empty() && most.leases.len() > 1);
        if !(must || over || under) {
            return None;
        }
        let after = |seen: &Observed| {
            let weight = self.weight(seen);
            most.load.saturating_sub(weight).max(least.load + weight)
        };
        let better = |seen: &&Observed| must || after(seen) + mean / 20 < most.load;
        let movable = most.leases.iter().copied().filter(|seen| view.movable(seen)).filter(better);
        movable.min_by_key(|seen| (after(seen), !rank(to, &seen.row.key)))
    }

    /// The next live lease for this worker as the KCL 2 counts them (`DynamoDBLeaseTaker`): from the worker that has most,
    /// if that is more than the fair share, or if more than one is wanting.
    pub(super) fn next_by_count(&self, view: &View<'a>) -> Option<&'a Observed> {
        let share = self.share();
        let wanting = share.min(self.leases_max).saturating_sub(self.mine());
        let others = self.members.iter().filter(|(worker, member)| **worker != self.me && !member.draining);
        let (_, most) = others.max_by_key(|(worker, member)| (member.leases.len(), **worker))?;
        let count = most.leases.len();
        if wanting == 0 || count < share || (wanting == 1 && count == share) {
            return None;
        }
        let movable = most.leases.iter().copied().filter(|seen| view.movable(seen));
        movable.min_by_key(|seen| !view.order(&seen.row.key))
    }
}
