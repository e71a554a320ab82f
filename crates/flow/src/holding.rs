//! What this process holds: the one thing that heartbeats and delivery share.
//!
//! A heartbeat reads positions here to move `checkpoint`; a commit reads the deadline here before it is sent. Neither
//! ever waits for the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::lease::{DestinationId, DestinationPosition, Fence, LeaseKey, LeaseRow, Tenure};
use crate::sequence::Position;

/// One held lease.
#[derive(Clone, Debug)]
pub struct Holding {
    /// The acquisition.
    pub fence: Fence,
    /// `leaseCounter` after our last write.
    pub counter: u64,
    /// The instant ([`crate::Clock::elapsed`]) until which nobody else may take the lease: no commit is sent after it.
    pub deadline: Duration,
    /// `checkpoint` as we last wrote or read it.
    pub checkpoint: Position,
    /// `sp_<id>` as this process last saw them. Positions only grow, so an old view is only too low.
    pub positions: BTreeMap<DestinationId, DestinationPosition>,
    /// `spOff`.
    pub off: BTreeSet<DestinationId>,
}

impl Holding {
    /// What a take's answer (ALL_NEW) says.
    pub fn of(row: &LeaseRow, fence: Fence, deadline: Duration) -> Self {
        Self {
            fence,
            counter: row.counter,
            deadline,
            checkpoint: row.checkpoint.clone(),
            positions: row.destinations.clone(),
            off: row.off.clone(),
        }
    }

    /// Where the next heartbeat may move `checkpoint`: the smallest finalized position over the row's destinations
    /// that are not retired (I18), if that is past the present one (I8).
    pub fn next_checkpoint(&self) -> Option<Position> {
        let active = self.positions.iter().filter(|(id, _)| !self.off.contains(*id));
        active.map(|(_, position)| &position.at).min().filter(|at| **at > self.checkpoint).cloned()
    }
}

/// The leases that this process holds, by key.
#[derive(Debug, Default)]
pub struct Holdings(Mutex<BTreeMap<LeaseKey, Holding>>);

impl Holdings {
    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<LeaseKey, Holding>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Enters a lease just taken.
    pub fn insert(&self, holding: Holding) {
        self.with(|all| all.insert(holding.fence.lease.clone(), holding));
    }

    /// Forgets a lease, if it is still held under this acquisition.
    pub fn remove(&self, lease: &LeaseKey, tenure: Tenure) -> Option<Holding> {
        self.with(|all| match all.get(lease) {
            Some(holding) if holding.fence.tenure == tenure => all.remove(lease),
            _ => None,
        })
    }

    /// A copy of one holding.
    pub fn get(&self, lease: &LeaseKey) -> Option<Holding> {
        self.with(|all| all.get(lease).cloned())
    }

    /// A copy of all holdings, in lease order.
    pub fn all(&self) -> Vec<Holding> {
        self.with(|all| all.values().cloned().collect())
    }

    /// How many leases are held.
    pub fn len(&self) -> usize {
        self.with(|all| all.len())
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The instant until which a commit under this acquisition may be sent; `None` once it is over.
    pub fn deadline(&self, lease: &LeaseKey, tenure: Tenure) -> Option<Duration> {
        self.with(|all| all.get(lease).filter(|holding| holding.fence.tenure == tenure).map(|holding| holding.deadline))
    }

    /// Notes what a destination's position in the row is now known to be.
    pub fn settle(&self, lease: &LeaseKey, tenure: Tenure, destination: &DestinationId, position: DestinationPosition) {
        self.change(lease, tenure, |holding| {
            holding.positions.insert(destination.clone(), position);
        });
    }

    /// Changes a holding, if it is still held under this acquisition.
    pub fn change(&self, lease: &LeaseKey, tenure: Tenure, change: impl FnOnce(&mut Holding)) {
        self.with(|all| {
            if let Some(holding) = all.get_mut(lease).filter(|holding| holding.fence.tenure == tenure) {
                change(holding);
            }
        });
    }
}
