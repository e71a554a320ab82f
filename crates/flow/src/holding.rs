//! What this process holds: the one thing that heartbeats and delivery share.
//!
//! A heartbeat reads positions here to move `checkpoint`; a commit reads the deadline here before it is sent. Neither
//! ever waits for the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::lease::{DestinationId, DestinationPosition, Fence, LeaseKey, LeaseRow, Tenure, Throughput};
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
    /// `throughputKBps`, as of the last heartbeat.
    pub throughput: Throughput,
    /// Bytes of record data read since then.
    pub read_bytes: u64,
    /// When that was, on [`crate::Clock::elapsed`]'s axis.
    pub measured_at: Option<Duration>,
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
            throughput: row.throughput.unwrap_or_default(),
            read_bytes: 0,
            measured_at: None,
        }
    }

    /// Brings the throughput up to now, for a heartbeat to write.
    pub fn measure(&mut self, now: Duration) {
        if let Some(before) = self.measured_at {
            self.throughput = self.throughput.after(self.read_bytes, now.saturating_sub(before));
        }
        (self.read_bytes, self.measured_at) = (0, Some(now));
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

    /// Notes that so much was read of a shard, whatever the acquisition: it makes the shard's throughput.
    pub fn read(&self, lease: &LeaseKey, bytes: u64) {
        self.with(|all| {
            if let Some(holding) = all.get_mut(lease) {
                holding.read_bytes = holding.read_bytes.saturating_add(bytes);
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::{Generation, WorkerId};

    #[test]
    fn throughput_is_half_the_old_and_half_the_new_at_every_heartbeat() {
        let row = LeaseRow::new(LeaseKey::new("shardId-0"));
        let (lease, owner) = (row.key.clone(), WorkerId::new("me"));
        let fence = Fence { lease: lease.clone(), owner, tenure: Tenure([1; 16]), generation: Generation(0) };
        let holdings = Holdings::default();
        holdings.insert(Holding::of(&row, fence, Duration::ZERO));
        let beat = |second| {
            holdings.change(&lease, Tenure([1; 16]), |held| held.measure(Duration::from_secs(second)));
            holdings.get(&lease).expect("held").throughput
        };
        holdings.read(&lease, 1 << 20);
        assert_eq!(beat(10).kb(), 0, "the first heartbeat only begins to measure");
        holdings.read(&lease, 100 * 1024);
        assert_eq!(beat(12), Throughput { millionths: 25_000_000 }, "50 KB/s, half of it");
        assert_eq!(beat(14), Throughput { millionths: 12_500_000 });
        assert_eq!(beat(14), Throughput { millionths: 12_500_000 }, "no time, no news");
        holdings.read(&lease, u64::MAX);
        holdings.read(&lease, u64::MAX);
        assert_eq!(beat(15).millionths, u64::MAX, "nonsense is bounded");
    }
}
