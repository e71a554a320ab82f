//! The batcher against hand-made chunks, and against a naive account of every record.

use proptest::prelude::*;
use standpipe_flow::{Millis, Record, SequenceNumber};

use super::*;

const T: Tenure = Tenure([1; 16]);

fn lease(n: u64) -> LeaseKey {
    LeaseKey::new(format!("shardId-{n:012}"))
}

fn at(n: u64) -> Position {
    if n == 0 { Position::TrimHorizon } else { Position::at(SequenceNumber::from(n), 0) }
}

/// Records `from + 1 ..= to` of `size` bytes each.
fn chunk(shard: u64, from: u64, to: u64, size: usize) -> Chunk {
    let record = |n: u64| Record {
        data: vec![b'x'; size].into(),
        partition_key: "k".into(),
        sequence: SequenceNumber::from(n),
        sub: 0,
        arrival: Millis(n),
        transformed: None,
        partition: None,
    };
    let records: Vec<Record> = (from + 1..=to).map(record).collect();
    Chunk {
        lease: lease(shard),
        tenure: T,
        from: at(from),
        to: at(to),
        memory_bytes: size * records.len(),
        records,
        rejected: Vec::new(),
        originals: Default::default(),
        behind: Duration::ZERO,
        taken: standpipe_flow::Taken::default(),
    }
}

fn batcher(size_bytes: u64, seconds: u64, shards_max: usize) -> Batcher<()> {
    Batcher::new(BatchLimits { size_bytes, interval: Duration::from_secs(seconds), shards_max, partitions_max: None })
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_batch_is_cut_by_size_and_by_the_age_of_its_oldest_record() {
    let mut batcher = batcher(100, 10, 32);
    batcher.open(lease(1), T, at(0), None);
    batcher.push(chunk(1, 0, 3, 10), (), s(5)).expect("continues");
    assert!(batcher.cut(s(14), false, |_| true).is_none());
    assert_eq!(batcher.due(|_| true), Some(s(15)));
    let cut = batcher.cut(s(15), false, |_| true).expect("due");
    assert_eq!((cut.reason, cut.shards[0].to.clone()), (CutReason::Interval, at(3)));
    batcher.push(chunk(1, 3, 13, 10), (), s(16)).expect("continues");
    assert_eq!(batcher.cut(s(16), false, |_| true).expect("full").reason, CutReason::Size);
}

#[test]
fn a_declared_range_is_cut_exactly_as_soon_as_it_is_whole_and_never_before() {
    let mut batcher = batcher(25, 10, 1);
    batcher.open(lease(1), T, at(0), Some(at(6)));
    batcher.push(chunk(1, 0, 4, 10), (), s(0)).expect("continues");
    batcher.flush(&lease(1));
    assert!(batcher.cut(s(99), true, |_| true).is_none(), "neither size nor age nor memory nor hand-over cuts it");
    assert_eq!(batcher.due(|_| true), None);
    batcher.push(chunk(1, 4, 6, 10), (), s(1)).expect("continues");
    batcher.push(chunk(1, 6, 7, 10), (), s(1)).expect("continues");
    let cut = batcher.cut(s(1), false, |_| true).expect("whole");
    assert_eq!((cut.reason, cut.shards[0].to.clone(), cut.shards[0].chunks.len()), (CutReason::Declared, at(6), 2));
    let rest = batcher.cut(s(1), false, |_| true).expect("it is flushed");
    assert_eq!((rest.reason, rest.shards[0].to.clone()), (CutReason::HandOver, at(7)));
}

#[test]
fn a_declared_range_to_the_end_of_its_shard_waits_for_that_and_one_before_it_does_not_reach_it() {
    let mut ends = batcher(1_000, 10, 1);
    ends.open(lease(1), T, at(0), Some(Position::ShardEnd));
    ends.push(chunk(1, 0, 4, 10), (), s(0)).expect("continues");
    assert!(ends.cut(s(99), false, |_| true).is_none());
    ends.end(&lease(1), T, &at(4)).expect("everything came");
    assert_eq!(ends.cut(s(99), false, |_| true).expect("whole").shards[0].to, Position::ShardEnd);

    let mut before = batcher(1_000, 10, 1);
    before.open(lease(1), T, at(0), Some(at(4)));
    before.push(chunk(1, 0, 4, 10), (), s(0)).expect("continues");
    before.end(&lease(1), T, &at(4)).expect("everything came");
    assert_eq!(before.cut(s(0), false, |_| true).expect("whole").shards[0].to, at(4));
    let last = before.cut(s(0), false, |_| true).expect("the end is left");
    assert_eq!((last.reason, last.shards[0].to.clone()), (CutReason::ShardEnd, Position::ShardEnd));
}

#[test]
fn a_declared_range_whose_records_have_expired_is_whole_when_its_shard_has_ended() {
    for (read, chunks) in [(0, 0), (2, 1)] {
        let mut batcher = batcher(1_000, 10, 1);
        batcher.open(lease(1), T, at(0), Some(at(4)));
        if read > 0 {
            batcher.push(chunk(1, 0, read, 10), (), s(0)).expect("continues");
        }
        batcher.end(&lease(1), T, &at(read)).expect("everything came that there is");
        let cut = batcher.cut(s(0), false, |_| true).expect("nothing more will come");
        assert_eq!(
            (cut.reason, cut.shards[0].to.clone(), cut.shards[0].chunks.len()),
            (CutReason::Declared, at(4), chunks)
        );
        let last = batcher.cut(s(0), false, |_| true).expect("the end is left");
        assert_eq!((last.reason, last.shards[0].to.clone()), (CutReason::ShardEnd, Position::ShardEnd));
    }
}

#[test]
fn where_a_batch_is_one_shard_each_is_due_by_itself_and_the_oldest_goes_first() {
    let mut batcher = batcher(100, 10, 1);
    for (n, since) in [(1, 5), (2, 0)] {
        batcher.open(lease(n), T, at(0), None);
        batcher.push(chunk(n, 0, 6, 10), (), s(since)).expect("continues");
    }
    assert!(batcher.cut(s(5), false, |_| true).is_none(), "together they are an object, none of them is");
    let cut = batcher.cut(s(10), false, |_| true).expect("due");
    assert_eq!((cut.reason, cut.shards.len(), &cut.shards[0].lease), (CutReason::Interval, 1, &lease(2)));
    assert!(batcher.cut(s(10), false, |_| true).is_none());
    batcher.push(chunk(1, 6, 11, 10), (), s(11)).expect("continues");
    assert_eq!(batcher.cut(s(11), false, |_| true).expect("full").reason, CutReason::Size);
}

#[test]
fn a_shard_that_is_not_published_yet_is_left_out_and_kept() {
    let mut batcher = batcher(1, 10, 32);
    for n in [1, 2] {
        batcher.open(lease(n), T, at(0), None);
        batcher.push(chunk(n, 0, 1, 10), (), s(0)).expect("continues");
    }
    let cut = batcher.cut(s(0), false, |key| *key == lease(2)).expect("full");
    assert_eq!(cut.shards.iter().map(|part| part.lease.clone()).collect::<Vec<_>>(), [lease(2)]);
    assert!(!batcher.is_drained(&lease(1)));
}

#[test]
fn a_batch_is_cut_by_the_number_of_its_records_however_small_they_are() {
    let mut batcher = batcher(1 << 40, 1_000, 32);
    for n in [1, 2] {
        batcher.open(lease(n), T, at(0), None);
        batcher.push(chunk(n, 0, 300_000, 0), (), s(0)).expect("continues");
    }
    assert!(batcher.cut(s(0), false, |_| true).is_none());
    batcher.push(chunk(1, 300_000, 800_000, 0), (), s(0)).expect("continues");
    let cut = batcher.cut(s(0), false, |_| true).expect("a million records");
    let records: usize = cut.shards.iter().flat_map(|part| &part.chunks).map(|(chunk, ())| chunk.records.len()).sum();
    assert_eq!((cut.reason, records), (CutReason::Size, 1_100_000));
}

#[test]
fn an_end_before_everything_has_come_is_refused_and_reading_goes_on_where_it_stood() {
    let mut batcher = batcher(1000, 10, 32);
    batcher.open(lease(1), T, at(0), None);
    batcher.push(chunk(1, 0, 3, 10), (), s(0)).expect("continues");
    assert_eq!(batcher.end(&lease(1), T, &at(5)), Err(Invariant::I15), "records 4 and 5 never came");
    assert!(batcher.cut(s(0), false, |_| true).is_none(), "nothing says that the shard has ended");
    assert_eq!(batcher.next(&lease(1), T), Some(&at(3)));
    batcher.push(chunk(1, 3, 5, 10), (), s(1)).expect("continues");
    batcher.end(&lease(1), T, &at(5)).expect("nothing is missing");
    assert_eq!(batcher.next(&lease(1), T), None);
    assert_eq!(batcher.cut(s(1), false, |_| true).expect("due").shards[0].to, Position::ShardEnd);
}

#[test]
fn a_shard_end_is_cut_at_once_even_without_a_record_and_only_once() {
    let mut batcher = batcher(1000, 10, 32);
    batcher.open(lease(1), T, at(7), None);
    batcher.end(&lease(1), T, &at(7)).expect("nothing is missing");
    let cut = batcher.cut(s(0), false, |_| true).expect("due");
    assert_eq!(
        (cut.reason, cut.shards[0].to.clone(), cut.shards[0].chunks.len()),
        (CutReason::ShardEnd, Position::ShardEnd, 0)
    );
    assert!(batcher.cut(s(99), true, |_| true).is_none());
}

#[test]
fn what_does_not_continue_or_belongs_to_another_acquisition_is_refused() {
    let mut batcher = batcher(1000, 10, 32);
    batcher.open(lease(1), T, at(5), None);
    assert_eq!(batcher.push(chunk(1, 4, 6, 1), (), s(0)), Err(Invariant::I15));
    assert_eq!(batcher.push(chunk(1, 6, 7, 1), (), s(0)), Err(Invariant::I15));
    assert_eq!(batcher.push(chunk(2, 0, 1, 1), (), s(0)), Err(Invariant::I9));
    let mut other = chunk(1, 5, 6, 1);
    other.tenure = Tenure([2; 16]);
    assert_eq!(batcher.push(other, (), s(0)), Err(Invariant::I9));
    assert_eq!(batcher.push(chunk(1, 5, 6, 1), (), s(0)), Ok(()));
}

#[test]
fn a_lane_holds_so_many_shards_and_a_hand_over_goes_first() {
    let mut batcher = batcher(1 << 20, 10, 2);
    for n in 1..=5 {
        batcher.open(lease(n), T, at(0), None);
        batcher.push(chunk(n, 0, 1, 10), (), s(0)).expect("continues");
    }
    batcher.flush(&lease(5));
    let cut = batcher.cut(s(0), false, |_| true).expect("due");
    assert_eq!(cut.reason, CutReason::HandOver);
    assert_eq!(cut.shards.iter().map(|part| part.lease.clone()).collect::<Vec<_>>(), [lease(1), lease(5)]);
}

#[test]
fn memory_pressure_cuts_what_there_is() {
    let mut batcher = batcher(1 << 20, 1000, 32);
    batcher.open(lease(1), T, at(0), None);
    assert!(batcher.cut(s(0), true, |_| true).is_none(), "nothing buffered");
    batcher.push(chunk(1, 0, 1, 10), (), s(0)).expect("continues");
    assert_eq!(batcher.cut(s(0), true, |_| true).expect("due").reason, CutReason::Memory);
}

/// A KPL aggregate may hold a quarter of a million records without a byte of data.
#[test]
fn memory_pressure_cuts_records_without_data() {
    let mut batcher = batcher(1 << 20, 1000, 32);
    batcher.open(lease(1), T, at(0), None);
    batcher.push(Chunk { records: Vec::new(), ..chunk(1, 0, 1, 0) }, (), s(0)).expect("continues");
    assert!(batcher.cut(s(0), true, |_| true).is_none(), "what was dropped holds nothing");
    batcher.push(chunk(1, 1, 2, 0), (), s(0)).expect("continues");
    assert_eq!(batcher.cut(s(0), true, |_| true).expect("due").shards[0].to, at(2));
}

/// Whatever the size of a batch is to be, it ends where a chunk ends; so an aggregate is never in two.
#[test]
fn a_batch_ends_where_a_chunk_ends() {
    let mut batcher = batcher(1, 1000, 32);
    batcher.open(lease(1), T, at(0), None);
    batcher.push(chunk(1, 0, 500, 100), (), s(0)).expect("continues");
    let cut = batcher.cut(s(0), false, |_| true).expect("full");
    assert_eq!((cut.reason, cut.shards[0].to.clone()), (CutReason::Size, at(500)));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    /// Whatever comes in whatever order, the cuts of a shard chain, and every record is in exactly one.
    #[test]
    fn every_record_is_cut_once_in_order(steps in proptest::collection::vec((0u64..4, 1u64..5, 1usize..40, any::<bool>(), any::<bool>()), 1..80)) {
        let mut batcher = batcher(200, 3, 2);
        let mut pushed = [0u64; 4];
        let mut cut_to = [0u64; 4];
        for n in 0..4 { batcher.open(lease(n), T, at(0), None); }
        let mut now = 0;
        let mut take = |batcher: &mut Batcher<()>, now: u64, memory: bool, all: bool| {
            while let Some(cut) = batcher.cut(s(now), memory, |key| all || *key != lease(3)) {
                prop_assert!(cut.shards.len() <= 2);
                for part in cut.shards {
                    let n: u64 = part.lease.as_str()[8..].parse().expect("number");
                    for (chunk, ()) in part.chunks {
                        prop_assert_eq!(&chunk.from, &at(cut_to[n as usize]));
                        cut_to[n as usize] += chunk.records.len() as u64;
                    }
                    prop_assert_eq!(part.to, at(cut_to[n as usize]));
                }
            }
            Ok(())
        };
        for (n, count, size, memory, tick) in steps {
            let from = pushed[n as usize];
            batcher.push(chunk(n, from, from + count, size), (), s(now)).expect("continues");
            pushed[n as usize] += count;
            now += u64::from(tick);
            take(&mut batcher, now, memory, false)?;
        }
        for n in 0..4 { batcher.flush(&lease(n)); }
        take(&mut batcher, now, false, true)?;
        prop_assert_eq!(pushed, cut_to);
        prop_assert_eq!(batcher.bytes(), 0);
    }
}

/// A chunk of records of ten bytes each, of these partitions.
fn partitioned(from: u64, partitions: &[u64]) -> Chunk {
    let mut chunk = chunk(1, from, from + partitions.len() as u64, 10);
    for (record, n) in chunk.records.iter_mut().zip(partitions) {
        let query = [("k".to_owned(), n.to_string())].into();
        record.partition = Some(standpipe_flow::Partition { query, lambda: Default::default() }.into());
    }
    chunk
}

fn partitioning(size_bytes: u64, partitions_max: usize) -> Batcher<()> {
    let interval = Duration::from_secs(10);
    let mut batcher =
        Batcher::new(BatchLimits { size_bytes, interval, shards_max: 32, partitions_max: Some(partitions_max) });
    batcher.open(lease(1), T, at(0), None);
    batcher
}

fn records(cut: &Cut<()>) -> usize {
    cut.shards.iter().flat_map(|part| &part.chunks).map(|(chunk, ())| chunk.records.len()).sum()
}

#[test]
fn with_partitions_the_size_is_that_of_one_of_them() {
    let mut batcher = partitioning(50, 1_000);
    batcher.push(partitioned(0, &[1, 2, 3, 4, 5, 6, 7, 1, 1, 1]), (), s(0)).expect("continues");
    assert!(batcher.cut(s(0), false, |_| true).is_none(), "a hundred bytes, forty of them of one partition");
    batcher.push(partitioned(10, &[8, 1]), (), s(1)).expect("continues");
    let cut = batcher.cut(s(1), false, |_| true).expect("fifty");
    assert_eq!((cut.reason, records(&cut)), (CutReason::Size, 12));
    batcher.push(partitioned(12, &[1, 1, 1, 1]), (), s(1)).expect("continues");
    assert!(batcher.cut(s(1), false, |_| true).is_none(), "what was cut counts no more");
    assert_eq!(batcher.cut(s(11), false, |_| true).expect("due").reason, CutReason::Interval);
}

#[test]
fn with_one_partition_more_than_there_may_be_the_others_are_cut() {
    let mut batcher = partitioning(1 << 20, 3);
    batcher.push(partitioned(0, &[1, 2]), (), s(0)).expect("continues");
    batcher.push(partitioned(2, &[2, 3]), (), s(0)).expect("continues");
    assert!(batcher.cut(s(0), false, |_| true).is_none(), "three may be");
    batcher.push(partitioned(4, &[4]), (), s(0)).expect("continues");
    let cut = batcher.cut(s(0), false, |_| true).expect("a fourth");
    assert_eq!((cut.reason, records(&cut)), (CutReason::Partitions, 4));
    assert!(batcher.cut(s(0), false, |_| true).is_none(), "one is left");
    batcher.push(partitioned(5, &[5, 6, 7, 8]), (), s(0)).expect("continues");
    assert_eq!(records(&batcher.cut(s(0), false, |_| true).expect("five")), 1);
    let cut = batcher.cut(s(0), false, |_| true).expect("a chunk that alone has too many is taken whole");
    assert_eq!((cut.reason, records(&cut)), (CutReason::Partitions, 4));
}

#[test]
fn only_shards_that_may_be_cut_are_weighed() {
    let mut batcher = partitioning(50, 3);
    batcher.open(lease(2), T, at(0), None);
    batcher.push(partitioned(0, &[1, 2, 3, 4, 5]), (), s(0)).expect("continues");
    batcher.push(Chunk { lease: lease(2), ..partitioned(0, &[1, 1, 1, 1]) }, (), s(0)).expect("continues");
    assert!(batcher.cut(s(0), false, |key| *key == lease(2)).is_none(), "forty bytes of one partition");
    batcher.close(&lease(1));
    assert!(batcher.cut(s(0), false, |_| true).is_none(), "what was dropped counts no more");
    assert_eq!(batcher.bytes(), 40);
}

/// Records that a transform rejected are bounded like others: each becomes a line of an error object.
#[test]
fn what_is_rejected_counts_among_the_records_and_holds_memory() {
    let mut batcher = batcher(1 << 40, 1_000, 32);
    batcher.open(lease(1), T, at(0), None);
    let mut all_rejected = chunk(1, 0, 600_000, 0);
    let records = std::mem::take(&mut all_rejected.records);
    let reject = |record: &Record| standpipe_flow::RejectedRecord::of((&lease(1), record), "type", "Code", "why");
    all_rejected.rejected = records.iter().map(reject).collect();
    batcher.push(all_rejected, (), s(0)).expect("continues");
    assert!(batcher.cut(s(0), false, |_| true).is_none());
    batcher.push(chunk(1, 600_000, 1_050_000, 0), (), s(0)).expect("continues");
    assert_eq!(batcher.cut(s(0), false, |_| true).expect("a million").reason, CutReason::Size);
    let mut rejected = chunk(1, 1_050_000, 1_050_001, 0);
    rejected.rejected = rejected.records.drain(..).map(|record| reject(&record)).collect();
    batcher.push(rejected, (), s(0)).expect("continues");
    assert_eq!(batcher.cut(s(0), true, |_| true).expect("due").reason, CutReason::Memory);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    /// The account kept at each push is that of a count over everything, and no batch goes beyond its bounds but by its
    /// first chunk.
    #[test]
    fn the_account_of_partitions_is_exact(chunks in proptest::collection::vec(proptest::collection::vec(0..12u64, 1..8), 1..40)) {
        let mut batcher = partitioning(60, 5);
        let (mut pushed, mut cut_records) = (0, 0);
        let bounds = |chunks: &[(Chunk, ())]| {
            let mut bytes: BTreeMap<_, u64> = BTreeMap::new();
            for record in chunks.iter().flat_map(|(chunk, ())| &chunk.records) {
                *bytes.entry(record.partition.clone()).or_default() += 10;
            }
            (bytes.len(), bytes.into_values().max().unwrap_or_default())
        };
        for partitions in chunks {
            batcher.push(partitioned(pushed, &partitions), (), s(0)).expect("continues");
            pushed += partitions.len() as u64;
            while let Some(cut) = batcher.cut(s(0), false, |_| true) {
                let chunks = &cut.shards[0].chunks;
                let (count, largest) = bounds(chunks);
                prop_assert!(count <= 5 || chunks.len() == 1, "{count} partitions");
                prop_assert!(bounds(&chunks[..chunks.len() - 1]).1 < 60, "full before its last chunk");
                match cut.reason {
                    CutReason::Size => prop_assert!(largest >= 60 || count <= 5),
                    reason => prop_assert_eq!(reason, CutReason::Partitions),
                }
                cut_records += records(&cut) as u64;
            }
        }
        batcher.flush(&lease(1));
        while let Some(cut) = batcher.cut(s(0), false, |_| true) {
            cut_records += records(&cut) as u64;
        }
        prop_assert_eq!((cut_records, batcher.bytes()), (pushed, 0));
        prop_assert!(batcher.total.is_empty());
    }
}
