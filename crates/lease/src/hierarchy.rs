//! `lease ->`: PURE. Which leases must exist for the shards of a stream, and when a shard may be read.
//!
//! A shard's records end where its children's begin, so the graph of shards is what keeps reshards free of gaps: every
//! hash key is covered at every time by a lease that is not ended, or by one whose end will make its children (the KCL's
//! `HierarchicalShardSyncer`). I11: a destination reads a child only after every parent is finalized at SHARD_END for
//! it.
//!
//! Never here: a request, a clock.

use std::collections::{BTreeMap, BTreeSet};

use standpipe_flow::{
    ChildShard, DestinationId, DestinationPosition, HashRange, LeaseKey, LeaseRow, Millis, Position, SequenceNumber,
    ShardId,
};

use crate::table::Rows;

/// A shard as ListShards describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardInfo {
    /// ShardId.
    pub id: ShardId,
    /// ParentShardId and AdjacentParentShardId, where given. They may be older than anything that is still listed.
    pub parents: Vec<ShardId>,
    /// HashKeyRange.
    pub hash_range: HashRange,
    /// SequenceNumberRange.StartingSequenceNumber.
    pub starting_sequence: SequenceNumber,
    /// Whether SequenceNumberRange has no ending number: the shard takes records.
    pub open: bool,
}

/// Where the leases of the first start begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the oldest record of the stream.
    TrimHorizon,
    /// With what comes from this instant on, which this very start has pinned: open shards are enough.
    Latest(Millis),
    /// With this instant, pinned by whoever started first: any listed shard may hold records from it on.
    Since(Millis),
}

impl Start {
    pub(crate) fn instant(self) -> Option<Millis> {
        match self {
            Self::TrimHorizon => None,
            Self::Latest(instant) | Self::Since(instant) => Some(instant),
        }
    }
}

/// The leases to make, level by level: a level may be made only when the one before it is, so that nobody takes a
/// missing parent for one that is finished. Within a level they ascend by starting sequence number.
///
/// An unleased shard is
/// - left alone if something that came of it has a lease: it is finished and its lease was cleaned away;
/// - made at TRIM_HORIZON if it came of a leased shard, once all its parents are finished;
/// - made at the start position otherwise: the oldest one, for LATEST the open one, since an instant all of them. A
///   closed one whose child also came of a leased shard is needed for that child in any case.
pub fn missing(shards: &[ShardInfo], rows: &Rows, start: Start, stream: &[u8]) -> Vec<Vec<LeaseRow>> {
    let graph = Graph::of(shards, rows);
    let mut wanted: Vec<&ShardInfo> = shards.iter().filter(|shard| graph.wanted(shard, start)).collect();
    wanted.sort_by_key(|shard| (&shard.starting_sequence, &shard.id));
    let mut levels: Vec<Vec<LeaseRow>> = Vec::new();
    let mut level_of: BTreeMap<&ShardId, usize> = BTreeMap::new();
    for shard in wanted {
        // Parents start before their children, so they are placed already.
        let level = shard.parents.iter().filter_map(|parent| level_of.get(parent)).max().map_or(0, |level| level + 1);
        level_of.insert(&shard.id, level);
        levels.resize_with(levels.len().max(level + 1), Vec::new);
        levels[level].push(graph.lease(shard, start, stream));
    }
    levels
}

/// The lease of a child that a reshard made: at TRIM_HORIZON, for every destination that a parent's row has.
pub fn child_lease<'a>(child: &ChildShard, parents: impl IntoIterator<Item = &'a LeaseRow>, stream: &[u8]) -> LeaseRow {
    let mut row = LeaseRow::new(LeaseKey::of(&child.id));
    row.parents = child.parents.iter().cloned().collect();
    row.hash_range = Some(child.hash_range);
    row.stream = Some(stream.to_vec());
    for id in parents.into_iter().flat_map(|parent| parent.destinations.keys()) {
        row.destinations.insert(id.clone(), DestinationPosition::finalized(Position::TrimHorizon, None));
    }
    row
}

/// Whether a destination may read a shard (I11): every parent is at SHARD_END for it, or for everybody, or its lease is
/// gone. One that cannot be read, or that only one scan has missed, is not gone.
pub fn may_read(row: &LeaseRow, rows: &Rows, destination: &DestinationId) -> bool {
    row.parents.iter().all(|parent| {
        let key = LeaseKey::of(parent);
        match rows.get(&key) {
            Some(parent) => finished(parent, destination),
            None => rows.gone(&key),
        }
    })
}

fn finished(row: &LeaseRow, destination: &DestinationId) -> bool {
    row.ended() || row.destinations.get(destination).is_some_and(|position| position.at == Position::ShardEnd)
}

/// The shards, with what the lease table says about them.
struct Graph<'a> {
    listed: BTreeMap<&'a ShardId, &'a ShardInfo>,
    rows: &'a Rows,
    children: BTreeMap<&'a ShardId, BTreeSet<&'a ShardId>>,
    /// Shards that something with a lease came of.
    above: BTreeSet<&'a ShardId>,
    /// Shards that came of something with a lease.
    below: BTreeSet<&'a ShardId>,
}

impl<'a> Graph<'a> {
    fn of(shards: &'a [ShardInfo], rows: &'a Rows) -> Self {
        let listed: BTreeMap<_, _> = shards.iter().map(|shard| (&shard.id, shard)).collect();
        let keys: Vec<ShardId> = rows.leases.keys().chain(rows.unreadable.keys()).map(LeaseKey::shard).collect();
        let mut parents: BTreeMap<&ShardId, BTreeSet<&ShardId>> = BTreeMap::new();
        for shard in shards {
            parents.entry(&shard.id).or_default().extend(&shard.parents);
        }
        let mut children: BTreeMap<&ShardId, BTreeSet<&ShardId>> = BTreeMap::new();
        for (child, parents) in &parents {
            for parent in parents {
                children.entry(parent).or_default().insert(child);
            }
        }
        let leased: Vec<&ShardId> = listed.keys().copied().filter(|id| keys.contains(id)).collect();
        // A lease of a shard that is not listed (any more, or yet) still names its parents.
        let named = rows.leases.values().flat_map(|row| &row.parents);
        let mut above = reach(&leased, &parents);
        above.extend(reach(&named.clone().collect::<Vec<_>>(), &parents));
        above.extend(named);
        let below = reach(&leased, &children);
        Self { listed, rows, children, above, below }
    }

    fn leased(&self, id: &ShardId) -> bool {
        self.rows.has(&LeaseKey::of(id))
    }

    /// A listed parent without a lease that nothing leased came of: it has to be read first.
    fn unread(&self, id: &ShardId) -> bool {
        self.listed.contains_key(id) && !self.leased(id) && !self.above.contains(id)
    }

    fn wanted(&self, shard: &ShardInfo, start: Start) -> bool {
        if self.leased(&shard.id) || self.above.contains(&shard.id) {
            return false;
        }
        if self.below.contains(&shard.id) {
            return shard.parents.iter().all(|parent| self.parent_done(parent));
        }
        // An open parent of an open child: the list was read while the shards changed; the next one will tell.
        let parent_open = |parent: &ShardId| self.listed.get(parent).is_some_and(|parent| parent.open);
        if shard.parents.iter().any(parent_open) {
            return false;
        }
        match start {
            Start::TrimHorizon => !shard.parents.iter().any(|parent| self.unread(parent)),
            Start::Latest(_) => shard.open || self.needed_by_a_child(shard),
            Start::Since(_) => true,
        }
    }

    fn needed_by_a_child(&self, shard: &ShardInfo) -> bool {
        let children = self.children.get(&shard.id).into_iter().flatten();
        children.into_iter().any(|child| self.below.contains(child) && !self.leased(child))
    }

    fn parent_done(&self, id: &ShardId) -> bool {
        let key = LeaseKey::of(id);
        match self.rows.get(&key) {
            Some(row) => row.ended() || row.destinations.values().any(|position| position.at == Position::ShardEnd),
            None => !self.rows.has(&key) && !self.unread(id),
        }
    }

    fn lease(&self, shard: &ShardInfo, start: Start, stream: &[u8]) -> LeaseRow {
        let parents = shard.parents.iter().filter_map(|parent| self.rows.get(&LeaseKey::of(parent)));
        let child = ChildShard { id: shard.id.clone(), parents: shard.parents.clone(), hash_range: shard.hash_range };
        let mut row = child_lease(&child, parents, stream);
        if !self.below.contains(&shard.id) {
            row.start = start.instant();
        }
        row
    }
}

/// What can be reached over `edges` from any of `from`, which are not part of it unless reached. Ends even if a list
/// that makes no sense goes round in a circle.
fn reach<'a>(from: &[&'a ShardId], edges: &BTreeMap<&'a ShardId, BTreeSet<&'a ShardId>>) -> BTreeSet<&'a ShardId> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&ShardId> = from.to_vec();
    while let Some(id) = next.pop() {
        for neighbour in edges.get(id).into_iter().flatten() {
            if reached.insert(*neighbour) {
                next.push(neighbour);
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests;
