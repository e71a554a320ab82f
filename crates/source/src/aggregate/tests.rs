//! The hand decoder against prost's: of valid messages, of mutated ones, and of forged ones.

use proptest::prelude::*;
use prost::Message;
use standpipe_flow::{Millis, SequenceNumber};

use super::*;
use crate::pack::Pack;

/// The KPL's messages (aggregation-format.md). Required fields are optional here, for prost does not insist on them.
#[derive(Clone, PartialEq, Message)]
struct AggregatedRecord {
    #[prost(string, repeated, tag = "1")]
    partition_key_table: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    explicit_hash_key_table: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    records: Vec<TheirRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct TheirRecord {
    #[prost(uint64, optional, tag = "1")]
    partition_key_index: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    explicit_hash_key_index: Option<u64>,
    #[prost(bytes = "vec", optional, tag = "3")]
    data: Option<Vec<u8>>,
    #[prost(message, repeated, tag = "4")]
    tags: Vec<Tag>,
}

#[derive(Clone, PartialEq, Message)]
struct Tag {
    #[prost(string, optional, tag = "1")]
    key: Option<String>,
    #[prost(string, optional, tag = "2")]
    value: Option<String>,
}

fn framed(message: &[u8]) -> Bytes {
    [&MAGIC, message, &Md5::digest(message)[..]].concat().into()
}

fn whole(data: &Bytes) -> Record {
    let (sequence, arrival) = (SequenceNumber::from(7), Millis(9));
    Record {
        data: data.clone(),
        partition_key: "whole".into(),
        sequence,
        sub: 0,
        arrival,
        transformed: None,
        partition: None,
    }
}

fn taken_apart(data: &Bytes, first: usize, unpack: &Unpack) -> Result<Option<(Vec<Record>, u64)>, Broken> {
    let aggregate = Aggregate::of(data)?;
    Ok(aggregate.map(|aggregate| {
        let mut records = Vec::new();
        let outside = aggregate.take_apart(&whole(data), first, unpack, &mut records);
        (records, outside)
    }))
}

fn simple(records: &[(&str, Option<&str>, &[u8])]) -> Bytes {
    let mut message = AggregatedRecord::default();
    for (key, hash_key, data) in records {
        let explicit_hash_key_index = hash_key.map(|_| message.explicit_hash_key_table.len() as u64);
        message.explicit_hash_key_table.extend(hash_key.map(str::to_owned));
        message.records.push(TheirRecord {
            partition_key_index: Some(message.partition_key_table.len() as u64),
            explicit_hash_key_index,
            data: Some(data.to_vec()),
            tags: Vec::new(),
        });
        message.partition_key_table.push((*key).to_owned());
    }
    framed(&message.encode_to_vec())
}

#[test]
fn user_records_share_their_sequence_number_and_the_bytes_that_came() {
    let data = simple(&[("a", None, b"one"), ("b", Some("5"), b""), ("a", None, b"three")]);
    let (records, outside) = taken_apart(&data, 0, &Unpack::default()).expect("good").expect("an aggregate");
    let seen: Vec<_> = records.iter().map(|r| (r.sub, &*r.partition_key, &r.data[..], r.arrival)).collect();
    let expected: Vec<(u64, &str, &[u8], Millis)> =
        vec![(0, "a", b"one", Millis(9)), (1, "b", b"", Millis(9)), (2, "a", b"three", Millis(9))];
    assert_eq!((seen, outside), (expected, 0));
    assert!(records.iter().all(|record| record.sequence == SequenceNumber::from(7)));
    let place = records[2].data.as_ptr() as usize - data.as_ptr() as usize;
    assert_eq!(&data[place..place + 5], b"three", "no copy of the data");
    let (rest, _) = taken_apart(&data, 2, &Unpack::default()).expect("good").expect("an aggregate");
    assert_eq!(rest.iter().map(|record| record.sub).collect::<Vec<_>>(), [2]);
    let (none, _) = taken_apart(&data, 9, &Unpack::default()).expect("good").expect("an aggregate");
    assert_eq!(none.len(), 0);
}

#[test]
fn what_does_not_check_out_is_no_aggregate() {
    let data = simple(&[("a", None, b"one")]);
    let with = |place: usize, byte: u8| {
        let mut data = data.to_vec();
        data[place] ^= byte;
        taken_apart(&data.into(), 0, &Unpack::default()).map(|found| found.is_some())
    };
    assert_eq!(with(0, 1), Ok(false), "another magic");
    assert_eq!(with(5, 1), Err(Broken::Digest));
    assert_eq!(with(data.len() - 1, 0x80), Err(Broken::Digest));
    for length in 0..data.len() {
        let cut = taken_apart(&data.slice(..length), 0, &Unpack::default());
        assert!(matches!(cut, Ok(None) | Err(Broken::Digest)), "{length} bytes: {cut:?}");
    }
    let of = |message: &AggregatedRecord| taken_apart(&framed(&message.encode_to_vec()), 0, &Unpack::default());
    let good = AggregatedRecord {
        partition_key_table: vec!["a".into()],
        explicit_hash_key_table: Vec::new(),
        records: vec![TheirRecord { partition_key_index: Some(0), data: Some(b"x".to_vec()), ..Default::default() }],
    };
    assert!(of(&good).is_ok());
    let mut index = good.clone();
    index.records[0].partition_key_index = Some(1);
    assert_eq!(of(&index), Err(Broken::Index));
    index.records[0].partition_key_index = Some(u64::MAX);
    assert_eq!(of(&index), Err(Broken::Index));
    let mut hash_index = good.clone();
    hash_index.records[0].explicit_hash_key_index = Some(0);
    assert_eq!(of(&hash_index), Err(Broken::Index));
    let mut required = good.clone();
    required.records[0].data = None;
    assert_eq!(of(&required), Err(Broken::Malformed), "data is required");
    let mut empty = good.clone();
    empty.records.clear();
    assert_eq!(of(&empty), Err(Broken::Empty), "what holds nothing would be lost");
    assert_eq!(taken_apart(&framed(b""), 0, &Unpack::default()), Ok(None), "not even a message");
}

#[test]
fn tables_may_come_after_the_records_that_point_into_them() {
    let records = AggregatedRecord {
        records: vec![TheirRecord { partition_key_index: Some(0), data: Some(b"x".to_vec()), ..Default::default() }],
        ..Default::default()
    };
    let table = AggregatedRecord { partition_key_table: vec!["late".into()], ..Default::default() };
    let message = [records.encode_to_vec(), table.encode_to_vec()].concat();
    let (records, _) = taken_apart(&framed(&message), 0, &Unpack::default()).expect("good").expect("an aggregate");
    assert_eq!(&*records[0].partition_key, "late");
}

/// Millions of user records may be claimed by a record of 10 MiB: that many are counted, and none is made.
#[test]
fn a_bomb_of_empty_user_records_is_delivered_as_it_came() {
    let bomb = |count: usize| {
        let mut message = vec![0x0a, 0x01, b'k'];
        message.extend([0x1a, 0x04, 0x08, 0x00, 0x1a, 0x00].repeat(count));
        framed(&message)
    };
    let largest = Aggregate::of(&bomb(ENTRIES_MAX)).expect("good").expect("an aggregate");
    assert_eq!(largest.records(), ENTRIES_MAX);
    assert!(largest.expanded_bytes(0) < ENTRIES_MAX * (RECORD_BYTES + 8), "{}", largest.expanded_bytes(0));
    assert_eq!(Aggregate::of(&bomb(ENTRIES_MAX + 1)).map(|_| ()), Err(Broken::TooMany));
    assert_eq!(Aggregate::of(&bomb(1_700_000)).map(|_| ()), Err(Broken::TooMany));
    let keys = framed(&[0x0a, 0x00].repeat(5_000_000));
    assert_eq!(Aggregate::of(&keys).map(|_| ()), Err(Broken::TooMany));
}

#[test]
fn what_is_made_of_an_aggregate_holds_no_more_than_was_said() {
    let keys: Vec<String> = (0..1000).map(|n| format!("key {n}")).collect();
    let records: Vec<(&str, Option<&str>, &[u8])> = keys.iter().map(|key| (&**key, None, &b"x"[..])).collect();
    let data = simple(&records);
    let aggregate = Aggregate::of(&data).expect("good").expect("an aggregate");
    let mut made = Vec::with_capacity(1000);
    aggregate.take_apart(&whole(&data), 0, &Unpack::default(), &mut made);
    let text: usize = made.iter().map(|record| 16 + record.partition_key.len()).sum();
    let reasons = made.len() * size_of::<standpipe_flow::RejectedRecord>();
    let held = made.capacity() * size_of::<Record>() + reasons + text;
    assert!(held <= aggregate.expanded_bytes(0), "{held} of {}", aggregate.expanded_bytes(0));
    assert!(aggregate.expanded_bytes(500) < aggregate.expanded_bytes(0));
}

/// The KCL's rule: the explicit hash key, else the MD5 of the partition key (known values of `md5sum`).
#[test]
fn user_records_out_of_the_shards_range_are_counted_and_left_out_one_by_one() {
    assert_eq!(hash_of_key("a"), 0x0cc1_75b9_c0f1_b6a8_31c3_99e2_6977_2661);
    let data = simple(&[("a", None, b"0"), ("a", Some("5"), b"1"), ("a", Some("6"), b"2"), ("a", Some("no"), b"3")]);
    let range = |start, end| Some(HashRange { start, end });
    let look = |hash_range, out_of_range| {
        let unpack = Unpack { kpl: true, out_of_range, hash_range };
        let (records, outside) = taken_apart(&data, 0, &unpack).expect("good").expect("an aggregate");
        (records.iter().map(|record| record.sub).collect::<Vec<_>>(), outside)
    };
    assert_eq!(look(range(5, 5), OutOfRange::Deliver), (vec![0, 1, 2, 3], 2));
    assert_eq!(look(range(5, 5), OutOfRange::Drop), (vec![1, 3], 2), "of one without a number nobody can say it");
    assert_eq!(look(range(0, u128::MAX), OutOfRange::Drop), (vec![0, 1, 2, 3], 0));
    assert_eq!(look(None, OutOfRange::Drop), (vec![0, 1, 2, 3], 0), "the range is not known");
    let a = hash_of_key("a");
    assert_eq!(look(range(a, a), OutOfRange::Drop), (vec![0, 3], 2));
}

fn tag_of() -> impl Strategy<Value = Tag> {
    (proptest::option::of(".{0,3}"), proptest::option::of(".{0,3}")).prop_map(|(key, value)| Tag { key, value })
}

/// Mostly good: indices mostly within the tables, required fields mostly there.
fn message() -> impl Strategy<Value = AggregatedRecord> {
    let index = || prop_oneof![8 => 0..3_u64, 1 => any::<u64>()];
    let data = proptest::option::weighted(0.95, proptest::collection::vec(any::<u8>(), 0..20));
    let tags = prop_oneof![4 => Just(Vec::new()), 1 => proptest::collection::vec(tag_of(), 0..3)];
    let hash_key = proptest::option::weighted(0.3, index());
    let record = (proptest::option::weighted(0.95, index()), hash_key, data, tags).prop_map(
        |(partition_key_index, explicit_hash_key_index, data, tags)| TheirRecord {
            partition_key_index,
            explicit_hash_key_index,
            data,
            tags,
        },
    );
    let table = || proptest::collection::vec(".{0,6}", 2..6);
    (table(), table(), proptest::collection::vec(record, 0..6)).prop_map(|(keys, hash_keys, records)| {
        AggregatedRecord { partition_key_table: keys, explicit_hash_key_table: hash_keys, records }
    })
}

/// What prost makes of a message, with the checks that proto2 and the format ask for beside it.
fn by_prost(bytes: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let message = AggregatedRecord::decode(bytes).ok()?;
    let keys = &message.partition_key_table;
    let hash_keys = message.explicit_hash_key_table.len();
    let mut records = Vec::new();
    for record in message.records {
        let key = keys.get(usize::try_from(record.partition_key_index?).ok()?)?;
        let hash_key = record.explicit_hash_key_index;
        if hash_key.is_some_and(|index| index >= hash_keys as u64) || record.tags.iter().any(|tag| tag.key.is_none()) {
            return None;
        }
        records.push((key.clone(), record.data?));
    }
    (!records.is_empty()).then_some(records)
}

fn by_hand(bytes: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let (records, _) = taken_apart(&framed(bytes), 0, &Unpack::default()).ok()??;
    for (index, record) in records.iter().enumerate() {
        assert_eq!(record.sub, index as u64);
    }
    Some(records.into_iter().map(|record| (record.partition_key.to_string(), record.data.to_vec())).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn prost_reads_the_same(message in message()) {
        let bytes = message.encode_to_vec();
        if !bytes.is_empty() {
            prop_assert_eq!(by_hand(&bytes), by_prost(&bytes));
        }
    }

    /// Bytes changed, put in, left out, and doubled: what prost still reads we read alike, and nothing else.
    #[test]
    fn prost_reads_the_same_of_what_was_mutated(
        message in message(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..5),
    ) {
        let mut bytes = message.encode_to_vec();
        for (place, byte, how) in changes {
            let place = place.index(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
            match how {
                0 if !bytes.is_empty() => bytes[place] = byte,
                1 => bytes.insert(place, byte),
                2 if !bytes.is_empty() => { bytes.remove(place); }
                _ => bytes.extend_from_within(place..),
            }
        }
        if !bytes.is_empty() {
            prop_assert_eq!(by_hand(&bytes), by_prost(&bytes));
        }
    }

    /// Bytes that look like fields: tags of every form, small numbers and lengths.
    #[test]
    fn prost_reads_the_same_of_what_was_forged(
        bytes in proptest::collection::vec(
            prop_oneof![
                6 => prop::sample::select(vec![0x0a_u8, 0x12, 0x1a, 0x08, 0x10, 0x22, 0x0b, 0x0c, 0x13, 0x14, 0x2a, 0x28]),
                5 => 0..6_u8,
                1 => any::<u8>(),
            ],
            1..40,
        ),
    ) {
        prop_assert_eq!(by_hand(&bytes), by_prost(&bytes));
    }

    #[test]
    fn nothing_that_comes_is_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), magic: bool) {
        let data: Bytes = if magic { [&MAGIC[..], &bytes].concat().into() } else { bytes.into() };
        prop_assert!(!matches!(taken_apart(&data, 0, &Unpack::default()), Ok(Some(_))));
    }

    /// What we pack, prost and we take apart alike.
    #[test]
    fn what_is_packed_comes_back(
        records in proptest::collection::vec(("[a-d]{1,2}", proptest::collection::vec(any::<u8>(), 0..30)), 2..40),
        limit in 60..400_usize,
    ) {
        let mut pack = Pack::new(limit);
        let mut packed = Vec::new();
        for (key, data) in &records {
            packed.extend(pack.add(data.clone(), key.clone()));
        }
        packed.extend(pack.take());
        let mut back = Vec::new();
        for packed in packed {
            let data = Bytes::from(packed.data);
            match taken_apart(&data, 0, &Unpack::default()) {
                Ok(Some((user_records, _))) => {
                    prop_assert_eq!(user_records.len() as u64, packed.records);
                    prop_assert!(packed.records > 1 && data.len() + packed.partition_key.len() <= limit);
                    let message = &data[MAGIC.len()..data.len() - DIGEST_BYTES];
                    prop_assert_eq!(by_prost(message).map(|read| read.len()), Some(user_records.len()));
                    back.extend(user_records.into_iter().map(|r| (r.partition_key.to_string(), r.data.to_vec())));
                }
                _ => back.push((packed.partition_key, data.to_vec())),
            }
        }
        prop_assert_eq!(back, records);
    }
}
