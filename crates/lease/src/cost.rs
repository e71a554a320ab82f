//! `lease ->` and `-> commit`, reckoned: how many DynamoDB units a fleet uses in a second. Pure arithmetic over what the
//! loops do; sizes of items are those that [`kcl`](crate::kcl) and the receipts come to, which a test compares.
//!
//! Units are DynamoDB's: a write unit is 1 KB written, twice that in a transaction; a read unit is 4 KB read
//! consistently (DynamoDB Developer Guide, "Read/write capacity mode").
//! Never here: a price, a request.

use std::time::Duration;

use crate::coordinator;
use crate::renew::BEATS_A_FAILOVER;
use crate::workers::{CHECKPOINT_INTERVAL, HeartbeatMode};

/// Bytes of a lease row with no destination in it.
const ROW_BYTES: f64 = 560.0;
/// Bytes that each destination adds while a commit is outstanding.
const ROW_BYTES_A_DESTINATION: f64 = 230.0;
/// Bytes of a receipt with one output and no shard.
const RECEIPT_BYTES: f64 = 700.0;
/// Bytes that each shard adds to a receipt.
const RECEIPT_BYTES_A_SHARD: f64 = 240.0;
/// Shards in one commit at most (protocol 2.2).
const LANE_SHARDS_MAX: f64 = 32.0;
/// Heartbeat items that one read unit holds.
const WORKERS_A_UNIT: f64 = 16.0;

/// What is reckoned with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fleet {
    /// Open shards.
    pub shards: u32,
    /// Workers; at least one counts.
    pub workers: u32,
    /// Destinations of the pipeline; at least one counts.
    pub destinations: u32,
    /// `lease.failover`.
    pub failover: Duration,
    /// From one commit of a lane to the next, while records come; a second at least counts.
    pub commit_every: Duration,
}

/// Units in a second.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Units {
    /// Write units.
    pub writes: f64,
    /// Read units.
    pub reads: f64,
}

/// Units in a second, by what they are for.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cost {
    /// Keeping the leases.
    pub heartbeats: Units,
    /// Checkpoints that no heartbeat carries.
    pub checkpoints: Units,
    /// Looking at the table.
    pub scans: Units,
    /// Commits, with what finalizes them; as many as can be, while records come on every shard.
    pub commits: Units,
}

impl Cost {
    /// All of it.
    pub fn total(&self) -> Units {
        let parts = [self.heartbeats, self.checkpoints, self.scans, self.commits];
        parts.iter().fold(Units::default(), |sum, part| Units {
            writes: sum.writes + part.writes,
            reads: sum.reads + part.reads,
        })
    }
}

/// What a fleet uses.
pub fn cost(fleet: &Fleet, heartbeat: HeartbeatMode) -> Cost {
    let shards = f64::from(fleet.shards);
    let workers = f64::from(fleet.workers.max(1));
    let destinations = f64::from(fleet.destinations.max(1));
    let row_bytes = ROW_BYTES + ROW_BYTES_A_DESTINATION * destinations;
    let row = (row_bytes / 1024.0).ceil();
    let beats = f64::from(BEATS_A_FAILOVER) / seconds(fleet.failover);
    let commit_every = seconds(fleet.commit_every.max(Duration::from_secs(1)));
    let (heartbeats, checkpoints) = match heartbeat {
        HeartbeatMode::PerLease => (shards * beats * row, 0.0),
        HeartbeatMode::PerWorker => (workers * beats, shards * row / commit_every.max(seconds(CHECKPOINT_INTERVAL))),
    };
    let heavy = coordinator::is_heavy(fleet.shards as usize, fleet.workers as usize);
    let looks = workers / seconds(coordinator::scan_interval(heavy, fleet.failover));
    let workers_read = match heartbeat {
        HeartbeatMode::PerLease => 0.0,
        HeartbeatMode::PerWorker => (workers / WORKERS_A_UNIT).ceil(),
    };
    let look = (shards * row_bytes / 4096.0).ceil() + workers_read;
    Cost {
        heartbeats: Units { writes: heartbeats, reads: 0.0 },
        checkpoints: Units { writes: checkpoints, reads: 0.0 },
        scans: Units { writes: 0.0, reads: look * looks },
        commits: Units { writes: destinations * commits(shards, workers, row) / commit_every, reads: 0.0 },
    }
}

/// Write units of one commit of every lane of the fleet: rows and receipt in a transaction, DONE, and the finalizing of
/// each row.
fn commits(shards: f64, workers: f64, row: f64) -> f64 {
    if shards == 0.0 {
        return 0.0;
    }
    let busy = workers.min(shards);
    let lanes = busy * (shards / busy / LANE_SHARDS_MAX).ceil();
    let receipt = ((RECEIPT_BYTES + RECEIPT_BYTES_A_SHARD * shards / lanes) / 1024.0).ceil();
    2.0 * (shards * row + lanes * receipt) + lanes * receipt + shards * row
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64().max(0.001)
}

#[cfg(test)]
mod tests;
