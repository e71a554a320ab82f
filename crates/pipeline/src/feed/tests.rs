//! Who feeds whom, and when readers of a shard become one.

use bytes::Bytes;
use standpipe_flow::{LeaseKey, Record, RejectedRecord, SequenceNumber, Tenure};

use super::*;

fn at(number: u64) -> Position {
    Position::at(SequenceNumber::from(number), 0)
}

fn wants(destination: &str, from: u64) -> Subscriber {
    let (chunks, _) = mpsc::channel(1);
    let outlet = Outlet { chunks, transform: None };
    Subscriber { destination: DestinationId::new(destination), epoch: from, from: at(from), outlet }
}

fn names(subscribers: &[Subscriber]) -> Vec<(&str, Position)> {
    subscribers.iter().map(|one| (one.destination.as_str(), one.from.clone())).collect()
}

fn start(reader: u64, from: u64, first: bool) -> Option<Start> {
    Some(Start { reader, from: at(from), first })
}

#[test]
fn one_reader_feeds_all_that_stand_where_it_stands_and_the_others_catch_up() {
    let feeds = Feeds::default();
    assert_eq!(feeds.subscribe(wants("a", 10), 1), start(1, 10, true));
    assert_eq!(feeds.subscribe(wants("b", 10), 2), None);
    assert_eq!(feeds.subscribe(wants("d", 100), 2), start(2, 100, false), "d does not wait for the others");
    assert_eq!(feeds.hand(1, &at(15)).map(|fed| fed.len()), Some(2));
    assert!(feeds.goes_on(1, &at(10)));
    assert_eq!(feeds.subscribe(wants("c", 12), 3), start(3, 12, false));
    // The one before never goes over to the one behind.
    feeds.hand(1, &at(30));
    assert!(feeds.goes_on(1, &at(15)));
    feeds.hand(3, &at(29));
    assert!(feeds.goes_on(3, &at(12)), "not there yet");
    feeds.hand(3, &at(32));
    assert!(!feeds.goes_on(3, &at(29)), "it has reached the other, whose next chunk is cut for c");
    assert_eq!(names(&feeds.hand(1, &at(40)).expect("it goes on")), [("a", at(10)), ("b", at(10)), ("c", at(32))]);
    assert_eq!(names(&feeds.end(1)), [("a", at(40)), ("b", at(40)), ("c", at(40))]);
    assert_eq!(feeds.hand(1, &at(50)).map(|fed| fed.len()), None);
    assert!(feeds.is_left_alone(2));
}

#[test]
fn a_destination_begins_anew_and_a_reader_without_anybody_ends() {
    let feeds = Feeds::default();
    feeds.subscribe(wants("a", 10), 1);
    feeds.hand(1, &at(20));
    assert_eq!(feeds.unsubscribe(&DestinationId::new("a")), Some(1), "it feeds nobody any more");
    assert_eq!(feeds.subscribe(wants("a", 10), 2), start(2, 10, true));
    feeds.hand(2, &at(20));
    feeds.subscribe(wants("b", 5), 3);
    assert_eq!((feeds.of(&DestinationId::new("a")), feeds.of(&DestinationId::new("b"))), (Some(2), Some(3)));
    assert_eq!(feeds.unsubscribe(&DestinationId::new("a")), Some(2));
    assert_eq!(feeds.unsubscribe(&DestinationId::new("a")), None);
    assert!(!feeds.goes_on(2, &at(20)));
    assert!(feeds.is_left_alone(3), "it only caught up");
    assert_eq!(feeds.lead(3, 4), Some(Start { reader: 4, from: at(5), first: true }));
    assert!(!feeds.is_left_alone(4) && !feeds.goes_on(3, &at(5)) && feeds.goes_on(4, &at(5)));
}

#[test]
fn a_reader_that_is_overtaken_while_it_stands_still_is_joined() {
    let feeds = Feeds::default();
    feeds.subscribe(wants("a", 30), 1);
    feeds.subscribe(wants("b", 10), 2);
    feeds.hand(2, &at(30));
    assert!(feeds.goes_on(1, &at(30)), "the first one stays");
    assert!(!feeds.goes_on(2, &at(10)), "where the other stands");
    assert_eq!(names(&feeds.end(1)), [("a", at(30)), ("b", at(30))]);
}

#[test]
fn a_chunk_is_cut_at_the_position_of_who_gets_it() {
    let record = |number: u64, sub| Record {
        data: Bytes::from_static(b"x"),
        partition_key: "k".into(),
        sequence: number.into(),
        sub,
        arrival: Millis(0),
        transformed: None,
        partition: None,
    };
    let lease = LeaseKey::new("shardId-000000000000");
    let records: Vec<Record> = [(11, 0), (12, 0), (12, 1), (13, 0), (14, 0)].map(|(n, s)| record(n, s)).into();
    let reject = |record: &Record| RejectedRecord::of((&lease, record), "x", "y", "z");
    let chunk = Chunk {
        lease: lease.clone(),
        tenure: Tenure([1; 16]),
        from: at(10),
        to: at(15),
        rejected: records.iter().map(reject).collect(),
        originals: records.clone().into(),
        records,
        behind: Default::default(),
        memory_bytes: 5,
        taken: Default::default(),
    };
    assert_eq!(after(chunk.clone(), &at(9)), Some(chunk.clone()));
    assert_eq!(after(chunk.clone(), &at(10)), Some(chunk.clone()));
    assert_eq!(after(chunk.clone(), &at(15)), None);
    let end_of_aggregate = Position::at(12.into(), 1);
    let cut = after(chunk, &end_of_aggregate).expect("something lies after it");
    assert_eq!((&cut.from, &cut.to), (&end_of_aggregate, &at(15)));
    assert_eq!((cut.records.len(), cut.rejected.len(), cut.originals.len()), (2, 2, 2));
}
