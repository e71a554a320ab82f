//! One GetRecords answer: its records as ours, and whether it is the end of the shard.
//!
//! I15, no read gap: records must ascend, and none of them lies before what was returned before. One that does was
//! returned before and is dropped and counted; an answer whose own records do not ascend is refused as a whole, for
//! nobody can say what is missing from it. No record's bytes are copied: the buffer that the client decoded into moves
//! into the record.

use std::sync::Arc;

use aws_sdk_kinesis::types;
use bytes::Bytes;
use standpipe_flow::{ChildShard, HashRange, Millis, Position, Record, RejectedRecord, SequenceNumber, ShardId};

/// Bytes of memory that a user record takes beside its texts. It may have to be rejected, by a transform or a format: then
/// its reason, which two lists point to, is held beside it until the commit. So the budget bounds that, too.
pub(crate) const RECORD_BYTES: usize = size_of::<Record>() + size_of::<RejectedRecord>() + 2 * size_of::<usize>();

/// An answer that breaks what the service promises: dropped as a whole and asked for again.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum BadAnswer {
    #[error("{0}")]
    Sequence(String),
    #[error("records do not ascend: {next} comes after {last}")]
    Descends { last: SequenceNumber, next: SequenceNumber },
    #[error("there is nothing to go on with, but no ChildShards are named")]
    NoChildren,
    #[error("there is something to go on with, but ChildShards are named")]
    ChildrenTooEarly,
    #[error("child shard {0} is named without its parents or its hash key range")]
    BadChild(String),
}

/// The records of one answer, as the stream holds them: nothing is taken apart yet.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Ascending, each with the bytes of memory that it holds. The first may have the very sequence number asked for.
    pub(crate) records: Vec<(Record, usize)>,
    /// Bytes that count towards the shard's quota: data and partition keys of everything that came.
    pub(crate) quota_bytes: usize,
    /// Records below the position asked for, dropped.
    pub(crate) repeated: u64,
}

impl Page {
    /// Takes over the records of an answer that was to continue after `after`. `now` stands in for an arrival time that
    /// the service left out.
    pub(crate) fn take(answer: Vec<types::Record>, after: &Position, now: Millis) -> Result<Self, BadAnswer> {
        let mut page = Self { records: Vec::with_capacity(answer.len()), ..Self::default() };
        for theirs in answer {
            let (record, memory_bytes) = take_record(theirs, now)?;
            page.quota_bytes += record.data.len() + record.partition_key.len();
            if let Some((last, _)) = page.records.last()
                && record.sequence <= last.sequence
            {
                return Err(BadAnswer::Descends { last: last.sequence.clone(), next: record.sequence });
            }
            if is_before(&record, after) {
                page.repeated += 1;
                continue;
            }
            page.records.push((record, memory_bytes));
        }
        Ok(page)
    }
}

/// Whether every user record that the record may hold was delivered before.
fn is_before(record: &Record, after: &Position) -> bool {
    match after {
        Position::TrimHorizon => false,
        Position::At { sequence, .. } => record.sequence < *sequence,
        Position::ShardEnd => true,
    }
}

/// A record, and the bytes of memory that it holds.
fn take_record(theirs: types::Record, now: Millis) -> Result<(Record, usize), BadAnswer> {
    let sequence =
        SequenceNumber::parse(theirs.sequence_number).map_err(|error| BadAnswer::Sequence(error.to_string()))?;
    let data = theirs.data.into_inner();
    let partition_key: Arc<str> = theirs.partition_key.unwrap_or_default().into();
    let memory_bytes = data.capacity() + partition_key.len() + sequence.as_str().len() + RECORD_BYTES;
    let arrival = theirs.approximate_arrival_timestamp.and_then(|time| time.to_millis().ok());
    let arrival = arrival.and_then(|millis| u64::try_from(millis).ok()).map_or(now, Millis);
    Ok((
        Record {
            data: Bytes::from(data),
            partition_key,
            sequence,
            sub: 0,
            arrival,
            transformed: None,
            partition: None,
        },
        memory_bytes,
    ))
}

/// Where a shard goes on after an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Onward {
    /// With this iterator, or this continuation of a subscription.
    Next(String),
    /// Nowhere: the shard is closed and this was its last answer.
    End(Vec<ChildShard>),
}

impl Onward {
    /// The KCL's validity check: NextShardIterator is absent if and only if ChildShards are named, each with its parents.
    /// `listed` are the children that ListShards names, for a service that never names them in the answer.
    pub(crate) fn of(
        next: Option<String>,
        children: Option<Vec<types::ChildShard>>,
        listed: Option<&[ChildShard]>,
    ) -> Result<Self, BadAnswer> {
        let children = children.unwrap_or_default();
        match next {
            Some(_) if !children.is_empty() => Err(BadAnswer::ChildrenTooEarly),
            Some(next) => Ok(Self::Next(next)),
            None if !children.is_empty() => Ok(Self::End(children.into_iter().map(child).collect::<Result<_, _>>()?)),
            None => listed.map(|children| Self::End(children.to_vec())).ok_or(BadAnswer::NoChildren),
        }
    }
}

fn child(theirs: types::ChildShard) -> Result<ChildShard, BadAnswer> {
    let range = theirs.hash_key_range.as_ref().and_then(hash_range);
    match range {
        Some(hash_range) if !theirs.parent_shards.is_empty() => Ok(ChildShard {
            id: ShardId::new(theirs.shard_id),
            parents: theirs.parent_shards.into_iter().map(ShardId::new).collect(),
            hash_range,
        }),
        _ => Err(BadAnswer::BadChild(theirs.shard_id)),
    }
}

/// Two decimal 128-bit numbers, the first not above the second.
pub(crate) fn hash_range(theirs: &types::HashKeyRange) -> Option<HashRange> {
    let start = theirs.starting_hash_key.parse().ok()?;
    let end = theirs.ending_hash_key.parse().ok()?;
    (start <= end).then_some(HashRange { start, end })
}

#[cfg(test)]
mod tests {
    use aws_smithy_types::{Blob, DateTime};

    use super::*;

    fn record(sequence: &str, data: &[u8]) -> types::Record {
        types::Record::builder()
            .sequence_number(sequence)
            .data(Blob::new(data))
            .partition_key("key")
            .approximate_arrival_timestamp(DateTime::from_millis(1_500))
            .build()
            .expect("required fields are set")
    }

    fn at(sequence: u64, sub: u64) -> Position {
        Position::at(SequenceNumber::from(sequence), sub)
    }

    fn take(records: Vec<types::Record>, after: &Position) -> Result<Page, BadAnswer> {
        Page::take(records, after, Millis(7))
    }

    fn positions(page: &Page) -> Vec<String> {
        page.records.iter().map(|(record, _)| record.sequence.to_string()).collect()
    }

    fn children(parents: &[&str], end: &str) -> Option<Vec<types::ChildShard>> {
        let range = types::HashKeyRange::builder().starting_hash_key("0").ending_hash_key(end).build();
        let child = types::ChildShard::builder()
            .shard_id("shardId-000000000001")
            .set_parent_shards(Some(parents.iter().map(|parent| (*parent).to_owned()).collect()))
            .hash_key_range(range.expect("both ends are set"))
            .build();
        Some(vec![child.expect("required fields are set")])
    }

    /// Regression, seen elsewhere: a page whose last record is empty lost the position of its good records.
    #[test]
    fn an_empty_record_at_the_end_of_a_page_is_a_record() {
        let page = take(vec![record("5", b"x"), record("6", b"")], &Position::TrimHorizon).expect("a good answer");
        assert_eq!(positions(&page), ["5", "6"]);
        assert_eq!(page.records[1].0.data.len(), 0);
        assert_eq!(page.records[1].0.arrival, Millis(1_500));
    }

    #[test]
    fn what_lies_before_the_position_is_dropped_and_counted() {
        let page = take(vec![record("9", b"a"), record("10", b"b"), record("11", b"c")], &at(10, 0));
        let page = page.expect("a good answer");
        assert_eq!((positions(&page), page.repeated), (vec!["10".to_owned(), "11".to_owned()], 1));
        assert_eq!(page.quota_bytes, 3 * 4, "what was dropped has used the quota too");
    }

    #[test]
    fn an_answer_out_of_order_is_refused_as_a_whole() {
        for second in ["9", "10"] {
            let answer = take(vec![record("10", b"a"), record(second, b"b")], &Position::TrimHorizon);
            assert!(matches!(answer, Err(BadAnswer::Descends { .. })), "{second} after 10");
        }
        assert!(matches!(take(vec![record("-1", b"")], &Position::TrimHorizon), Err(BadAnswer::Sequence(_))));
    }

    #[test]
    fn data_moves_without_a_copy_and_its_memory_is_counted() {
        let mut data = Vec::with_capacity(100);
        data.extend_from_slice(b"abc");
        let before = data.as_ptr();
        let theirs = types::Record::builder().sequence_number("1").data(Blob::new(data)).build();
        let page = take(vec![theirs.expect("required fields are set")], &Position::TrimHorizon).expect("a good answer");
        assert_eq!(page.records[0].0.data.as_ptr(), before);
        assert_eq!(page.records[0].1, 100 + 1 + RECORD_BYTES);
        assert_eq!(page.records[0].0.partition_key.len(), 0, "AUTO streams may leave it out");
        assert_eq!(page.records[0].0.arrival, Millis(7));
    }

    #[test]
    fn the_end_needs_children_with_parents_and_nothing_else_does() {
        let next = || Some("next".to_owned());
        let good = || children(&["shardId-000000000000"], "9");
        assert_eq!(Onward::of(next(), None, None), Ok(Onward::Next("next".to_owned())));
        assert_eq!(Onward::of(next(), Some(vec![]), None), Ok(Onward::Next("next".to_owned())));
        let Ok(Onward::End(ended)) = Onward::of(None, good(), None) else { panic!("an end") };
        assert_eq!(ended[0].parents, [ShardId::new("shardId-000000000000")]);
        assert_eq!(ended[0].hash_range, HashRange { start: 0, end: 9 });
        assert_eq!(Onward::of(None, None, None), Err(BadAnswer::NoChildren));
        assert_eq!(Onward::of(next(), good(), None), Err(BadAnswer::ChildrenTooEarly));
        assert!(matches!(Onward::of(None, children(&[], "9"), None), Err(BadAnswer::BadChild(_))));
        assert!(matches!(Onward::of(None, children(&["p"], "x"), None), Err(BadAnswer::BadChild(_))));
        assert_eq!(Onward::of(None, None, Some(&ended)), Ok(Onward::End(ended.clone())));
    }
}
