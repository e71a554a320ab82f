//! Answers with aggregates in them: positions, what is left out, and what it all weighs.

use aws_smithy_types::{Blob, DateTime};
use proptest::prelude::*;
use standpipe_flow::{HashRange, SequenceNumber, ShardId};

use super::*;
use crate::answer::RECORD_BYTES;
use crate::pack::{Pack, hash_key};
use crate::unpack::OutOfRange;

const KPL: Unpack = Unpack { kpl: true, out_of_range: OutOfRange::Deliver, hash_range: None };
const MIB: usize = 1024 * 1024;

fn at(sequence: u64, sub: u64) -> Position {
    Position::at(SequenceNumber::from(sequence), sub)
}

fn chunks(position: Position, unpack: Unpack) -> Chunks {
    let shard = ShardId::new("shardId-000000000000");
    let (lease, tenure) = (LeaseKey::of(&shard), Tenure([7; 16]));
    Chunks::new(&ReadFrom { shard, lease, tenure, position, pinned: None, unpack })
}

fn plain(sequence: u64, data: &[u8]) -> types::Record {
    let record = types::Record::builder().sequence_number(sequence.to_string()).data(Blob::new(data));
    record.partition_key("whole").approximate_arrival_timestamp(DateTime::from_millis(5)).build().expect("complete")
}

/// An aggregate of so many user records, `<sequence>.<sub>` each, of keys `key 0` to `key 2`.
fn aggregate(sequence: u64, user_records: u64) -> types::Record {
    let mut pack = Pack::new(usize::MAX);
    for sub in 0..user_records {
        pack.add(format!("{sequence}.{sub}").into_bytes(), format!("key {}", sub % 3));
    }
    plain(sequence, &pack.take().expect("not empty").data)
}

/// `count` user records in bytes that are few.
fn dense(sequence: u64, count: usize) -> types::Record {
    let mut pack = Pack::new(usize::MAX);
    for _ in 0..count {
        pack.add(Vec::new(), "k".to_owned());
    }
    plain(sequence, &pack.take().expect("not empty").data)
}

fn take(chunks: &mut Chunks, answer: Vec<types::Record>) -> Answered {
    chunks.take(answer, Duration::from_secs(1), Millis(9)).expect("a good answer")
}

fn seen(chunk: &Chunk) -> Vec<(String, u64)> {
    chunk.records.iter().map(|record| (record.sequence.to_string(), record.sub)).collect()
}

fn texts(chunk: &Chunk) -> Vec<String> {
    chunk.records.iter().map(|record| String::from_utf8_lossy(&record.data).into_owned()).collect()
}

#[test]
fn user_records_are_numbered_within_their_record_and_the_last_one_is_its_position() {
    let mut chunks = chunks(Position::TrimHorizon, KPL);
    let answered = take(&mut chunks, vec![plain(3, b"plain"), aggregate(5, 3), aggregate(9, 2)]);
    assert_eq!((answered.records, answered.repeated), (3, 0));
    assert_eq!((chunks.taken(), chunks.position()), (&at(9, 1), &Position::TrimHorizon));
    let chunk = chunks.next().expect("a chunk");
    assert_eq!((chunk.from.clone(), chunk.to.clone()), (Position::TrimHorizon, at(9, 1)));
    assert_eq!(texts(&chunk), ["plain", "5.0", "5.1", "5.2", "9.0", "9.1"]);
    assert_eq!(&*chunk.records[2].partition_key, "key 1");
    assert_eq!(chunk.records[2].arrival, Millis(5));
    let expected =
        Taken { stream_records: 3, user_records: 5, stream_bytes: chunk.taken.stream_bytes, ..Taken::default() };
    assert_eq!(chunk.taken, expected);
    assert!(chunks.next().is_none());
    assert_eq!(chunks.next_bytes(), 0);
}

/// A Java checkpoint may lie in the middle of an aggregate; `checkpoint(sequence)` of the KCL writes the sub-sequence
/// number 0 wherever it stands. What lies after it was not delivered.
#[test]
fn of_an_aggregate_that_was_delivered_in_part_the_rest_comes() {
    for (sub, expected) in [(0, &["5.1", "5.2", "6.0", "6.1"][..]), (1, &["5.2", "6.0", "6.1"]), (2, &["6.0", "6.1"])] {
        let mut chunks = chunks(at(5, sub), KPL);
        assert!(!chunks.is_whole(), "the record is read again");
        let answered = take(&mut chunks, vec![aggregate(5, 3), aggregate(6, 2)]);
        assert_eq!(answered.repeated, u64::from(sub == 2));
        assert!(chunks.is_whole());
        let chunk = chunks.next().expect("a chunk");
        assert_eq!(
            (texts(&chunk), chunk.from, chunk.to),
            (expected.iter().map(|text| (*text).to_owned()).collect(), at(5, sub), at(6, 1))
        );
    }
    let mut nothing = chunks(at(5, 2), KPL);
    assert_eq!(take(&mut nothing, vec![aggregate(5, 3)]).repeated, 1);
    assert!(nothing.next().is_none() && !nothing.is_whole());
    let mut beyond = chunks(at(5, 700), KPL);
    assert_eq!(take(&mut beyond, vec![aggregate(5, 3)]).repeated, 1, "a position that no record has");
    let mut plain_record = chunks(at(5, 2), KPL);
    assert_eq!(take(&mut plain_record, vec![plain(5, b"x")]).repeated, 1);
}

#[test]
fn an_aggregate_is_delivered_as_it_is_without_kpl_but_for_one_begun_by_somebody_else() {
    let none = Unpack::default();
    let mut whole = chunks(Position::TrimHorizon, none);
    take(&mut whole, vec![aggregate(5, 3)]);
    assert_eq!(seen(&whole.next().expect("a chunk")), [("5".to_owned(), 0)]);
    let mut begun = chunks(at(5, 1), none);
    take(&mut begun, vec![aggregate(5, 3), aggregate(6, 3)]);
    assert_eq!(seen(&begun.next().expect("a chunk")), [("5".to_owned(), 2), ("6".to_owned(), 0)]);
    let mut done = chunks(at(5, 0), none);
    assert_eq!(
        take(&mut done, vec![aggregate(5, 3)]).repeated,
        1,
        "our own position after a record that was not opened"
    );
}

#[test]
fn what_begins_like_an_aggregate_and_is_none_is_delivered_as_it_is_and_counted() {
    let mut forged = aggregate(5, 3).data.into_inner();
    forged[9] ^= 1;
    let mut chunks = chunks(Position::TrimHorizon, KPL);
    take(&mut chunks, vec![plain(5, &forged), plain(6, b"x")]);
    let chunk = chunks.next().expect("a chunk");
    assert_eq!((seen(&chunk), chunk.taken.no_aggregates), (vec![("5".to_owned(), 0), ("6".to_owned(), 0)], 1));
    assert_eq!(chunk.records[0].data, forged);
}

#[test]
fn a_chunk_of_which_everything_is_left_out_still_moves_on() {
    let elsewhere = Some(HashRange { start: 0, end: 0 });
    let unpack = Unpack { kpl: true, out_of_range: OutOfRange::Drop, hash_range: elsewhere };
    let mut chunks = chunks(at(1, 0), unpack);
    take(&mut chunks, vec![aggregate(5, 3)]);
    let chunk = chunks.next().expect("a chunk");
    assert_eq!((chunk.records.len(), chunk.from, chunk.to), (0, at(1, 0), at(5, 2)));
    assert_eq!((chunk.taken.user_records, chunk.taken.out_of_range), (3, 3));
}

#[test]
fn of_an_aggregate_with_a_record_out_of_range_the_others_are_delivered() {
    let edge = hash_key("key 1");
    let unpack =
        Unpack { kpl: true, out_of_range: OutOfRange::Drop, hash_range: Some(HashRange { start: edge, end: edge }) };
    let mut chunks = chunks(Position::TrimHorizon, unpack);
    take(&mut chunks, vec![aggregate(5, 6)]);
    let chunk = chunks.next().expect("a chunk");
    assert_eq!((texts(&chunk), chunk.to, chunk.taken.out_of_range), (vec!["5.1".into(), "5.4".into()], at(5, 5), 4));
}

/// 1:1000 and worse: an answer that expands is handed on in chunks, each with its price known before.
#[test]
fn an_answer_that_expands_beyond_measure_is_cut_between_aggregates() {
    let mut chunks = chunks(Position::TrimHorizon, KPL);
    let answer: Vec<_> = (1..=20).map(|sequence| dense(sequence, 5_000)).collect();
    let came: usize = answer.iter().map(|record| record.data.as_ref().len()).sum();
    let answered = take(&mut chunks, answer);
    let least = 20 * 5_000 * RECORD_BYTES;
    assert!(answered.memory_bytes >= least, "{} for {least}", answered.memory_bytes);
    let (mut records, mut cut, mut position) = (0, 0, Position::TrimHorizon);
    while chunks.next_bytes() > 0 {
        let said = chunks.next_bytes();
        let chunk = chunks.next().expect("something waits");
        let held = chunk.records.capacity() * size_of::<Record>();
        assert!(chunk.memory_bytes <= said && held <= said, "{} and {held} of {said}", chunk.memory_bytes);
        assert!(said <= CHUNK_BYTES_MAX + came + 20 * RECORD_BYTES, "{said} at once");
        assert_eq!(std::mem::replace(&mut position, chunk.to.clone()), chunk.from);
        assert_eq!(chunk.records.last().map(Record::position), Some(chunk.to));
        assert_eq!(position.sub(), 4_999, "never within an aggregate");
        records += chunk.records.len();
        cut += 1;
    }
    assert_eq!((records, cut), (100_000, 7));
}

/// One aggregate is never cut, whatever it weighs.
#[test]
fn an_aggregate_heavier_than_a_chunk_is_a_chunk_by_itself() {
    let mut chunks = chunks(Position::TrimHorizon, KPL);
    take(&mut chunks, vec![plain(1, b"x"), dense(2, 170_000), plain(3, b"y")]);
    let counts: Vec<_> = std::iter::from_fn(|| chunks.next()).map(|chunk| chunk.records.len()).collect();
    assert_eq!(counts, [1, 170_000, 1]);
    let mut chunks = self::chunks(Position::TrimHorizon, KPL);
    take(&mut chunks, vec![dense(2, 170_000)]);
    assert!(chunks.next_bytes() < 46 * MIB, "{}", chunks.next_bytes());
}

#[test]
fn a_bad_answer_changes_nothing() {
    let mut chunks = chunks(Position::TrimHorizon, KPL);
    take(&mut chunks, vec![aggregate(5, 3)]);
    assert!(chunks.take(vec![plain(7, b"x"), plain(6, b"y")], Duration::ZERO, Millis(9)).is_err());
    assert_eq!(chunks.taken(), &at(5, 2));
    assert_eq!(take(&mut chunks, vec![aggregate(5, 3), plain(6, b"x")]).repeated, 1);
    assert_eq!(
        texts(&chunks.next().expect("a chunk")),
        ["5.0", "5.1", "5.2", "6"].map(|text| { if text == "6" { "x".to_owned() } else { text.to_owned() } })
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Wherever reading was broken off, and however the records come in answers: nothing twice, nothing left out.
    #[test]
    fn reading_goes_on_where_it_was_broken_off(
        sizes in proptest::collection::vec(1..6_u64, 1..30),
        broken_off in any::<prop::sample::Index>(),
        answers in proptest::collection::vec(1..8_usize, 1..10),
    ) {
        let all: Vec<(u64, u64)> =
            sizes.iter().zip(1..).flat_map(|(size, sequence)| (0..*size).map(move |sub| (sequence * 10, sub))).collect();
        let broken_off = broken_off.index(all.len());
        let (sequence, sub) = all[broken_off];
        let mut chunks = chunks(at(sequence, sub), KPL);
        let mut position = at(sequence, sub);
        // AT_SEQUENCE_NUMBER: from the record of the position on.
        let mut left: VecDeque<types::Record> =
            sizes.iter().zip(1..).map(|(size, n)| aggregate(n * 10, *size)).skip(sequence as usize / 10 - 1).collect();
        let mut got = Vec::new();
        for count in answers.iter().cycle() {
            if left.is_empty() {
                break;
            }
            let count = (*count).min(left.len());
            take(&mut chunks, left.drain(..count).collect());
            while let Some(chunk) = chunks.next() {
                prop_assert_eq!(std::mem::replace(&mut position, chunk.to.clone()), chunk.from);
                got.extend(chunk.records.iter().map(|record| {
                    (record.sequence.as_str().parse::<u64>().expect("small"), record.sub)
                }));
            }
        }
        prop_assert_eq!(got, &all[broken_off + 1..]);
    }
}
