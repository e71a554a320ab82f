//! `run --until caught-up`: whether everything that was in the stream at the start is read, here and elsewhere.
//!
//! With T the instant of the start, a shard is caught up when it has ended, or gave a record that arrived after T, or
//! answered empty with nothing behind twice, at least a second apart. Every shard of the stream must be, parents
//! included, whoever holds it; of one that another worker holds, the row must carry no commit, and the stream itself is asked for what
//! follows the row's position. What is read here is then delivered by the drain.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use standpipe_flow::{DestinationId, LeaseKey, Millis, ShardId};
use standpipe_lease::Rows;
use standpipe_pipeline::shard::Progress;
use standpipe_source::{Catalog, ShardFilter, ShardInfo, Stream};
use tracing::debug;

pub(crate) struct Seen {
    pub progress: Arc<Progress>,
    pub rows: Arc<Rows>,
    pub held: BTreeSet<LeaseKey>,
    pub destination: DestinationId,
}

/// The stream may take so long to say what it has; then it is asked anew.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Whether the program may end. Asks the stream only when nothing that is held here is left to read.
pub(crate) async fn reached(until: Millis, seen: &Seen, stream: &Stream) -> bool {
    let read = |lease: &LeaseKey| {
        let progress = seen.progress.get(lease);
        let finished = seen.rows.get(lease).is_some_and(|row| row.ended());
        finished || progress.is_some_and(|p| p.ended || p.at_tip || p.newest.is_some_and(|newest| newest > until))
    };
    if seen.rows.leases.is_empty() || !seen.held.iter().all(read) {
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
        let Some(position) = row.destinations.get(&seen.destination) else { return Ok(false) };
        if position.pending.is_some() {
            return Ok(false);
        }
        let tip = catalog.tip(&shard.id, &position.at, row.start, until).await.map_err(|error| error.to_string())?;
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
