//! Leases that were given up for a person to look at, until somebody has settled them: what the alarm counts.
//!
//! Settled means that the row's positions are no longer what they were. Only a scan that ended after the lease was given
//! up can tell.

use std::collections::BTreeMap;
use std::time::Duration;

use standpipe_flow::{DestinationId, DestinationPosition, LeaseKey};
use standpipe_lease::Rows;

type Positions = BTreeMap<DestinationId, DestinationPosition>;

/// The leases, with when each was given up and what its row then said.
#[derive(Debug, Default)]
pub(crate) struct Quarantine(BTreeMap<LeaseKey, (Duration, Positions)>);

impl Quarantine {
    /// A lease is given up, whose row said this when it was taken. A person may be quicker than the next scan.
    pub(crate) fn enter(&mut self, lease: LeaseKey, now: Duration, positions: Positions) {
        self.0.insert(lease, (now, positions));
    }

    /// How many are still waiting for somebody.
    pub(crate) fn waiting(&mut self, rows: &Rows) -> usize {
        self.0.retain(|lease, (entered, positions)| {
            if rows.at <= *entered {
                return true;
            }
            match rows.get(lease) {
                Some(row) => row.destinations == *positions,
                // A row that cannot be read is nobody's until it can.
                None => rows.has(lease),
            }
        });
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use standpipe_flow::{LeaseRow, Position};

    use super::*;

    #[test]
    fn the_alarm_ends_when_the_row_has_changed_and_not_by_an_older_scan() {
        let lake = DestinationId::new("lake");
        let rows = |second: u64, at: Position| {
            let mut row = LeaseRow::new(LeaseKey::new("shardId-0"));
            row.destinations.insert(lake.clone(), DestinationPosition::finalized(at, None));
            let mut rows = Rows { at: Duration::from_secs(second), ..Rows::default() };
            rows.leases.insert(row.key.clone(), row);
            rows
        };
        let mut quarantine = Quarantine::default();
        let taken = BTreeMap::from([(lake.clone(), DestinationPosition::finalized(Position::TrimHorizon, None))]);
        quarantine.enter(LeaseKey::new("shardId-0"), Duration::from_secs(5), taken.clone());
        assert_eq!(quarantine.waiting(&rows(4, Position::ShardEnd)), 1, "a scan from before");
        assert_eq!(quarantine.waiting(&rows(6, Position::TrimHorizon)), 1);
        assert_eq!(quarantine.waiting(&rows(8, Position::TrimHorizon)), 1);
        assert_eq!(quarantine.waiting(&rows(10, Position::ShardEnd)), 0);
        quarantine.enter(LeaseKey::new("shardId-0"), Duration::from_secs(11), taken);
        assert_eq!(quarantine.waiting(&rows(12, Position::ShardEnd)), 0, "settled before the next scan");
    }
}
