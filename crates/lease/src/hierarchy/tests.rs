use proptest::prelude::*;

use super::*;
use crate::RowError;
use crate::testing::{ids, rows};

/// A shard `n` with parents, covering `[start, end)` of ten parts of the hash keys.
fn shard(n: u64, parents: &[u64], open: bool) -> ShardInfo {
    ShardInfo {
        id: id(n),
        parents: parents.iter().copied().map(id).collect(),
        hash_range: HashRange { start: 0, end: u128::MAX },
        starting_sequence: SequenceNumber::from(n),
        open,
    }
}

fn id(n: u64) -> ShardId {
    ShardId::new(format!("shardId-{n:012}"))
}

fn lease(n: u64) -> LeaseRow {
    LeaseRow::new(LeaseKey::of(&id(n)))
}

fn numbers(levels: &[Vec<LeaseRow>]) -> Vec<u64> {
    let number = |row: &LeaseRow| row.key.as_str()["shardId-".len()..].parse().expect("a number");
    levels.iter().flatten().map(number).collect()
}

/// The example of the KCL's `HierarchicalShardSyncer`:
/// ```text
/// 0 1 2 3 4   5   - shards till epoch 102
/// \ / \ / |   |
///  6   7  4   5   - shards from epoch 103 - 205
///   \ /   |  / \
///    8    4 9  10 - shards from epoch 206 (open)
/// ```
fn kcl_example() -> Vec<ShardInfo> {
    vec![
        shard(0, &[], false),
        shard(1, &[], false),
        shard(2, &[], false),
        shard(3, &[], false),
        shard(4, &[], true),
        shard(5, &[], false),
        shard(6, &[0, 1], false),
        shard(7, &[2, 3], false),
        shard(8, &[6, 7], true),
        shard(9, &[5], true),
        shard(10, &[5], true),
    ]
}

fn missing_in(leases: &[u64], start: Start) -> Vec<u64> {
    numbers(&missing(&kcl_example(), &rows(leases.iter().copied().map(lease)), start, &[]))
}

const NOW: Millis = Millis(206_000);

#[test]
fn an_empty_table_gets_what_was_open_at_the_trim_horizon() {
    assert_eq!(missing_in(&[], Start::TrimHorizon), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn an_empty_table_gets_the_open_shards_for_latest_pinned_to_the_instant() {
    let levels = missing(&kcl_example(), &rows([]), Start::Latest(NOW), b"stream");
    assert_eq!(numbers(&levels), [4, 8, 9, 10]);
    for row in levels.iter().flatten() {
        assert_eq!((row.start, row.checkpoint.clone()), (Some(NOW), Position::TrimHorizon));
        assert_eq!(row.stream.as_deref(), Some(&b"stream"[..]));
        assert!(row.destinations.is_empty(), "the take gives it those of the config");
    }
}

#[test]
fn an_empty_table_gets_every_shard_since_an_instant_parents_first() {
    let levels = missing(&kcl_example(), &rows([]), Start::Since(NOW), &[]);
    let levels: Vec<_> = levels.iter().map(|level| numbers(std::slice::from_ref(level))).collect();
    assert_eq!(levels, [vec![0, 1, 2, 3, 4, 5], vec![6, 7, 9, 10], vec![8]]);
}

#[test]
fn determine_new_leases_with_leases_4_5_7_as_the_kcl_says() {
    assert_eq!(missing_in(&[4, 5, 7], Start::Latest(NOW)), [6]);
    assert_eq!(missing_in(&[4, 5, 7], Start::TrimHorizon), [0, 1]);
    // The KCL makes 0 and 1 at AT_TIMESTAMP and their child in the same way later; here the child is made with them.
    assert_eq!(missing_in(&[4, 5, 7], Start::Since(NOW)), [0, 1, 6]);
}

#[test]
fn determine_new_leases_with_other_leases() {
    assert_eq!(missing_in(&[4, 5, 8], Start::TrimHorizon), [] as [u64; 0]);
    assert_eq!(missing_in(&[4, 5, 6, 7], Start::TrimHorizon), [] as [u64; 0], "8 is made when 6 and 7 end");
    assert_eq!(missing_in(&[4, 8, 9, 10], Start::TrimHorizon), [] as [u64; 0]);
    assert_eq!(missing_in(&[4, 8, 9], Start::TrimHorizon), [10], "its parent is finished and cleaned away");
    assert_eq!(missing_in(&[0, 4, 5], Start::TrimHorizon), [1, 2, 3]);
    assert_eq!(missing_in(&[4, 5, 6, 7, 8, 9, 10], Start::Latest(NOW)), [] as [u64; 0]);
}

#[test]
fn children_of_finished_parents_are_made_at_trim_horizon_with_their_parents_destinations() {
    let mut seven = lease(7);
    seven.checkpoint = Position::ShardEnd;
    let mut six = lease(6);
    for id in ids(&["lake", "dw"]) {
        six.destinations.insert(id, DestinationPosition::finalized(Position::TrimHorizon, None));
    }
    let all = |six: &LeaseRow| rows([lease(4), lease(5), six.clone(), seven.clone()]);
    assert_eq!(numbers(&missing(&kcl_example(), &all(&six), Start::Latest(NOW), &[])), [] as [u64; 0]);

    let lake = DestinationId::new("lake");
    six.destinations.insert(lake.clone(), DestinationPosition::finalized(Position::ShardEnd, None));
    let levels = missing(&kcl_example(), &all(&six), Start::Latest(NOW), b"stream");
    assert_eq!(numbers(&levels), [8], "one destination is ready for it");
    let child = &levels[0][0];
    assert_eq!(child.start, None, "only the leases of the first start are pinned");
    assert_eq!(child.parents, [id(6), id(7)].into());
    assert_eq!(child.destinations.keys().cloned().collect::<Vec<_>>(), [DestinationId::new("dw"), lake]);
    assert!(child.destinations.values().all(|position| position.at == Position::TrimHorizon));
}

#[test]
fn an_open_child_of_an_open_parent_waits_for_a_list_that_makes_sense() {
    let shards = [shard(0, &[], true), shard(1, &[0], true), shard(2, &[0], true)];
    assert_eq!(numbers(&missing(&shards, &rows([]), Start::Latest(NOW), &[])), [0]);
}

#[test]
fn a_list_that_goes_round_in_a_circle_ends() {
    let shards = [shard(0, &[1], false), shard(1, &[0], false), shard(2, &[2], true)];
    for start in [Start::TrimHorizon, Start::Latest(NOW), Start::Since(NOW)] {
        missing(&shards, &rows([]), start, &[]);
        missing(&shards, &rows([lease(1)]), start, &[]);
    }
}

#[test]
fn a_lease_of_a_shard_that_is_no_longer_listed_still_vouches_for_its_parents() {
    let mut child = lease(3);
    child.parents = [id(1)].into();
    let shards = [shard(0, &[], false), shard(1, &[0], false)];
    assert_eq!(numbers(&missing(&shards, &rows([child]), Start::TrimHorizon, &[])), [] as [u64; 0]);
}

#[test]
fn a_destination_reads_a_child_only_after_every_parent_is_finished_for_it() {
    let (lake, dw) = (DestinationId::new("lake"), DestinationId::new("dw"));
    let mut child = lease(8);
    child.parents = [id(6), id(7)].into();
    let mut six = lease(6);
    six.destinations.insert(lake.clone(), DestinationPosition::finalized(Position::ShardEnd, None));
    six.destinations.insert(dw.clone(), DestinationPosition::finalized(crate::testing::at(5), None));
    let mut seven = lease(7);

    let open = rows([six.clone(), seven.clone(), child.clone()]);
    assert!(!may_read(&child, &open, &lake), "7 is not finished");
    seven.checkpoint = Position::ShardEnd;
    let ended = rows([six.clone(), seven, child.clone()]);
    assert!(may_read(&child, &ended, &lake));
    assert!(!may_read(&child, &ended, &dw), "6 is not finished for the other");
    let gone = rows([six.clone(), child.clone()]);
    assert!(may_read(&child, &gone, &lake), "7 was cleaned away");

    let mut unreadable = gone;
    let error = RowError::Half { key: id(7).to_string(), attribute: "leaseCounter".to_owned() };
    unreadable.unreadable.insert(LeaseKey::of(&id(7)), error);
    assert!(!may_read(&child, &unreadable, &lake), "what cannot be read is not gone");
}

#[test]
fn a_pending_shard_end_is_not_finished() {
    let lake = DestinationId::new("lake");
    let mut child = lease(9);
    child.parents = [id(5)].into();
    let mut five = lease(5);
    let pending = standpipe_flow::Pending {
        to: Position::ShardEnd,
        cid: standpipe_flow::CommitId([1; 16]),
        mode: standpipe_flow::PendingMode::Staged,
    };
    let position = DestinationPosition { at: crate::testing::at(5), arrival: None, pending: Some(pending) };
    five.destinations.insert(lake.clone(), position);
    assert!(!may_read(&child, &rows([five, child.clone()]), &lake));
}

/// A stream that is resharded at random.
#[derive(Debug, Clone)]
struct Stream {
    shards: Vec<ShardInfo>,
}

impl Stream {
    fn new(open: u128) -> Self {
        let part = u128::MAX / open;
        let shard = |n: u128| ShardInfo {
            id: id(n as u64),
            parents: Vec::new(),
            hash_range: HashRange { start: n * part, end: if n + 1 == open { u128::MAX } else { (n + 1) * part - 1 } },
            starting_sequence: SequenceNumber::from(n as u64),
            open: true,
        };
        Self { shards: (0..open).map(shard).collect() }
    }

    fn add(&mut self, parents: &[usize], hash_range: HashRange) {
        let n = self.shards.len() as u64;
        let parents = parents.iter().map(|parent| self.shards[*parent].id.clone()).collect();
        self.shards.push(ShardInfo {
            id: id(n),
            parents,
            hash_range,
            starting_sequence: SequenceNumber::from(n),
            open: true,
        });
    }

    fn split(&mut self, at: usize) {
        let HashRange { start, end } = self.shards[at].hash_range;
        if self.shards[at].open && start < end {
            let middle = start + (end - start) / 2;
            self.shards[at].open = false;
            self.add(&[at], HashRange { start, end: middle });
            self.add(&[at], HashRange { start: middle + 1, end });
        }
    }

    fn merge(&mut self, at: usize) {
        let HashRange { start, end } = self.shards[at].hash_range;
        let adjacent = |shard: &ShardInfo| shard.open && shard.hash_range.start.checked_sub(1) == Some(end);
        let Some(other) = self.shards.iter().position(adjacent).filter(|_| self.shards[at].open) else { return };
        let end = self.shards[other].hash_range.end;
        self.shards[at].open = false;
        self.shards[other].open = false;
        self.add(&[at, other], HashRange { start, end });
    }
}

fn covered(table: &Rows) -> bool {
    let active = table.leases.values().filter(|row| !row.ended());
    let mut ranges: Vec<_> = active.map(|row| row.hash_range.expect("a range")).collect();
    ranges.sort_by_key(|range| range.start);
    let mut end: Option<u128> = None;
    for range in ranges {
        if range.start > end.map_or(0, |end| end.saturating_add(1)) {
            return false;
        }
        end = end.max(Some(range.end));
    }
    end == Some(u128::MAX)
}

fn make_missing(stream: &Stream, table: &mut Rows, start: Start) {
    for row in missing(&stream.shards, table, start, &[]).into_iter().flatten() {
        table.leases.entry(row.key.clone()).or_insert(row);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// Whatever happens to the stream and to the leases, no hash key is ever without a lease that is not ended, and in
    /// the end every open shard has one.
    #[test]
    fn hash_ranges_are_always_complete(
        open in 1_u128..6,
        before in proptest::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..12),
        after in proptest::collection::vec((0_u8..4, any::<prop::sample::Index>()), 0..60),
        start in 0_u8..3,
    ) {
        let start = [Start::TrimHorizon, Start::Latest(NOW), Start::Since(NOW)][usize::from(start)];
        let later = if let Start::Latest(instant) = start { Start::Since(instant) } else { start };
        let mut stream = Stream::new(open);
        for (split, at) in before {
            let at = at.index(stream.shards.len());
            if split { stream.split(at) } else { stream.merge(at) }
        }
        let mut table = Rows::default();
        make_missing(&stream, &mut table, start);
        prop_assert!(covered(&table), "at the start");
        for (step, at) in after {
            match step {
                0 => stream.split(at.index(stream.shards.len())),
                1 => stream.merge(at.index(stream.shards.len())),
                2 => make_missing(&stream, &mut table, later),
                _ => {
                    let key = table.leases.keys().nth(at.index(table.leases.len())).expect("a lease").clone();
                    end(&stream, &mut table, &key, later);
                    prop_assert!(covered(&table), "after the end of {key}");
                }
            }
        }
        // Everything ends in its turn: then the open shards are what is left.
        for _ in 0..stream.shards.len() {
            for key in table.leases.keys().cloned().collect::<Vec<_>>() {
                end(&stream, &mut table, &key, later);
                prop_assert!(covered(&table), "after the end of {key}");
            }
        }
        let left: Vec<_> = table.leases.values().filter(|row| !row.ended()).map(|row| row.key.shard()).collect();
        let mut open: Vec<_> = stream.shards.iter().filter(|shard| shard.open).map(|shard| shard.id.clone()).collect();
        open.sort();
        prop_assert_eq!(left, open);
    }
}

/// A reader comes to the end of a closed shard that it may read: its destinations are at SHARD_END, the children are
/// made, then the checkpoint moves.
fn end(stream: &Stream, table: &mut Rows, key: &LeaseKey, start: Start) {
    let lake = DestinationId::new("lake");
    let row = table.leases[key].clone();
    let closed = stream.shards.iter().any(|shard| shard.id == key.shard() && !shard.open);
    if !closed || row.ended() || !may_read(&row, table, &lake) {
        return;
    }
    let row = table.leases.get_mut(key).expect("the lease");
    row.destinations.insert(lake, DestinationPosition::finalized(Position::ShardEnd, None));
    make_missing(stream, table, start);
    let waits = |shard: &ShardInfo| shard.parents.contains(&key.shard()) && !table.has(&LeaseKey::of(&shard.id));
    // A merged child waits for its other parent; whoever ends last makes it, so this one's range stays its parent's.
    if !stream.shards.iter().any(waits) {
        table.leases.get_mut(key).expect("the lease").checkpoint = Position::ShardEnd;
    }
}
