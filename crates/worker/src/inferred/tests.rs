//! The sample of a batch, and what each answer about the frozen columns means.

use std::iter::repeat_n;

use standpipe_flow::{
    BatchShard, Chunk, Fence, Generation, LeaseKey, Position, Range, Record, Taken, Tenure, WorkerId,
};

use super::*;

/// A batch of one shard.
fn batch<'a>(records: impl IntoIterator<Item = &'a str>) -> Batch {
    let lease = LeaseKey::new("shardId-000000000000");
    let record = |data: &str| Record {
        data: Bytes::copy_from_slice(data.as_bytes()),
        partition_key: "key".into(),
        sequence: 7_u64.into(),
        sub: 0,
        arrival: Millis(1),
        transformed: None,
        partition: None,
    };
    let chunk = Chunk {
        lease: lease.clone(),
        tenure: Tenure([1; 16]),
        from: Position::TrimHorizon,
        to: Position::at(8_u64.into(), 0),
        records: records.into_iter().map(record).collect(),
        rejected: Vec::new(),
        originals: Arc::default(),
        behind: Duration::ZERO,
        memory_bytes: 0,
        taken: Taken::default(),
    };
    let (owner, tenure) = (WorkerId::new("w"), chunk.tenure);
    let fence = Fence { lease, owner, tenure, generation: Generation(0) };
    let range = Range { fence, from: chunk.from.clone(), to: chunk.to.clone(), arrival: None };
    let shards = vec![BatchShard { range, chunks: vec![chunk] }];
    Batch { destination: DestinationId::new("lake"), cut_at: Millis(2), declared: None, shards }
}

fn sampled(batch: &Batch, most: usize) -> Option<(String, u64)> {
    let sampled = sample_of(batch, &Deserializer::default(), most).expect("a column list");
    sampled.map(|sampled| (sampled.columns.to_string(), sampled.records))
}

#[test]
fn a_sample_is_spread_over_the_batch_and_has_no_more_records_than_asked_for() {
    let late = batch(repeat_n(r#"{"a":1}"#, 900).chain(repeat_n(r#"{"b":1}"#, 100)));
    assert_eq!(sampled(&late, 10), Some(("a bigint, b bigint".to_owned(), 10)));
    assert_eq!(sampled(&late, 999), Some(("a bigint, b bigint".to_owned(), 500)));
    assert_eq!(sampled(&late, 5_000), Some(("a bigint, b bigint".to_owned(), 1_000)));
    assert_eq!(sampled(&late, 1), Some(("a bigint".to_owned(), 1)));
}

#[test]
fn where_the_sample_has_no_field_all_records_are_looked_at() {
    let sparse = batch((0..100).map(|n| if n % 2 == 1 { r#"{"a":1}"# } else { "{}" }));
    assert_eq!(sampled(&sparse, 50), Some(("a bigint".to_owned(), 100)));
    assert_eq!(sampled(&batch(repeat_n("{}", 100)), 50), None);
    assert_eq!(sampled(&batch([]), 50), None);
}

#[test]
fn an_answer_of_the_table_is_waited_for_or_needs_a_person() {
    let waits = |error: CommitError| match failed(error) {
        DeliveryError::Retry { .. } => true,
        DeliveryError::Halt { .. } => false,
        DeliveryError::Reject { cause } => panic!("no record is refused for it: {cause}"),
    };
    let cause = || "it said so".to_owned();
    assert!(waits(CommitError::Unknown { cause: cause() }));
    assert!(waits(CommitError::Throttled) && waits(CommitError::Conflict));
    assert!(waits(CommitError::Refused { lease: None, now: None }));
    assert!(!waits(CommitError::Denied { cause: cause() }));
    assert!(!waits(CommitError::Unreadable { cause: cause() }));
}
