//! `run --until caught-up`: whether everything that was in the stream at the start is read, here and elsewhere.
//!
//! With T the instant of the start, a shard is caught up when it has ended, or gave a record that arrived after T, or
//! answered empty with nothing behind twice, at least a second apart. Every shard of the stream must be, parents
//! included, whoever holds it; of one that another worker holds, the row must carry no commit, and the stream itself is asked for what
//! follows the row's position. What is read here is then delivered by the drain.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use standpipe_flow::{DestinationId, LeaseKey, Millis, ShardId, Tenure};
use standpipe_lease::Rows;
use standpipe_source::{Catalog, ReadFrom, ShardFilter, ShardInfo, Stream, Unpack};
use tracing::debug;

pub(crate) struct Seen {
    /// Whether everything that came before the start is read of what this worker holds.
    pub read_here: bool,
    pub rows: Arc<Rows>,
    pub held: BTreeSet<LeaseKey>,
    pub destinations: BTreeSet<DestinationId>,
    pub unpack: Unpack,
}

/// The stream may take so long to say what it has; then it is asked anew.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Whether the program may end. Asks the stream only when nothing that is held here is left to read.
pub(crate) async fn reached(until: Millis, seen: &Seen, stream: &Stream) -> bool {
    if seen.rows.leases.is_empty() || !seen.read_here {
        return false;
    }
    match tokio::time::timeout(ANSWER_MAX, elsewhere(&stream.catalog(), seen, until)).await {
        Ok(Ok(reached)) => reached,
        Ok(Err(error)) => {
            debug!(error, "cannot tell yet whether everything is caught up");
            false
        }
        Err(_) => false,
    }
}

async fn elsewhere(catalog: &Catalog, seen: &Seen, until: Millis) -> Result<bool, String> {
    let shards = catalog.shards(ShardFilter::All).await.map_err(|error| error.to_string())?;
    for shard in &shards {
        let lease = LeaseKey::of(&shard.id);
        if seen.held.contains(&lease) {
            continue;
        }
        let Some(row) = seen.rows.get(&lease) else {
            // A lease that was cleaned away is finished; one that was never made is not.
            if descends(&shards, &shard.id, seen) { continue } else { return Ok(false) }
        };
        if row.ended() {
            continue;
        }
        let mut positions = seen.destinations.iter().map(|id| row.destinations.get(id));
        if positions.any(|position| position.is_none_or(|position| position.pending.is_some())) {
            return Ok(false);
        }
        let positions = seen.destinations.iter().filter_map(|id| row.destinations.get(id));
        let Some(smallest) = positions.map(|position| &position.at).min() else { continue };
        let from = ReadFrom {
            shard: shard.id.clone(),
            lease,
            tenure: row.tenure.unwrap_or(Tenure([0; 16])),
            position: smallest.clone(),
            pinned: row.start,
            unpack: seen.unpack,
        };
        let tip = catalog.tip(&from, until).await.map_err(|error| error.to_string())?;
        if !tip.caught_up() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether something that came of the shard has a lease.
fn descends(shards: &[ShardInfo], shard: &ShardId, seen: &Seen) -> bool {
    let children = shards.iter().filter(|listed| listed.parents.contains(shard));
    children.into_iter().any(|child| seen.rows.has(&LeaseKey::of(&child.id)) || descends(shards, &child.id, seen))
}
