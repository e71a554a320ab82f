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
    batcher.open(lease(1), T, at(0));
    batcher.push(chunk(1, 0, 3, 10), (), s(5)).expect("continues");
    assert!(batcher.cut(s(14), false, |_| true).is_none());
    assert_eq!(batcher.due(|_| true), Some(s(15)));
    let cut = batcher.cut(s(15), false, |_| true).expect("due");
    assert_eq!((cut.reason, cut.shards[0].to.clone()), (CutReason::Interval, at(3)));
    batcher.push(chunk(1, 3, 13, 10), (), s(16)).expect("continues");
    assert_eq!(batcher.cut(s(16), false, |_| true).expect("full").reason, CutReason::Size);
}

#[test]
fn a_shard_that_is_not_published_yet_is_left_out_and_kept() {
    let mut batcher = batcher(1, 10, 32);
    for n in [1, 2] {
        batcher.open(lease(n), T, at(0));
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
        batcher.open(lease(n), T, at(0));
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
    batcher.open(lease(1), T, at(0));
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
    batcher.open(lease(1), T, at(7));
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
    batcher.open(lease(1), T, at(5));
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
        batcher.open(lease(n), T, at(0));
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
    batcher.open(lease(1), T, at(0));
    assert!(batcher.cut(s(0), true, |_| true).is_none(), "nothing buffered");
    batcher.push(chunk(1, 0, 1, 10), (), s(0)).expect("continues");
    assert_eq!(batcher.cut(s(0), true, |_| true).expect("due").reason, CutReason::Memory);
}

/// A KPL aggregate may hold a quarter of a million records without a byte of data.
#[test]
fn memory_pressure_cuts_records_without_data() {
    let mut batcher = batcher(1 << 20, 1000, 32);
    batcher.open(lease(1), T, at(0));
    batcher.push(Chunk { records: Vec::new(), ..chunk(1, 0, 1, 0) }, (), s(0)).expect("continues");
    assert!(batcher.cut(s(0), true, |_| true).is_none(), "what was dropped holds nothing");
    batcher.push(chunk(1, 1, 2, 0), (), s(0)).expect("continues");
    assert_eq!(batcher.cut(s(0), true, |_| true).expect("due").shards[0].to, at(2));
}

/// Whatever the size of a batch is to be, it ends where a chunk ends; so an aggregate is never in two.
#[test]
fn a_batch_ends_where_a_chunk_ends() {
    let mut batcher = batcher(1, 1000, 32);
    batcher.open(lease(1), T, at(0));
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
        for n in 0..4 { batcher.open(lease(n), T, at(0)); }
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
