//! Against the emulator: its limits, its faults, its shards that split and merge.

use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_kinesis::config::{BehaviorVersion, Region};
use aws_types::SdkConfig;
use bytes::Bytes;
use standpipe_emulator::{Emulator, Fault, Latency, Options, Rule, Service};
use standpipe_flow::{
    ChildShard, Clock, LeaseKey, Millis, Position, Random, Read, ReadError, Record, ShardId, ShardReader, Tenure,
};

use super::{Seeded, TestClock};
use crate::{
    FanOut, PACK_BYTES, Pack, Polling, PollingSettings, PutSettings, ReadFrom, ShardFilter, Stream, StreamError,
    StreamRef, StreamStatus, Tip, Unpack,
};

const SEC: Duration = Duration::from_secs(1);

pub(super) struct World {
    pub(super) emulator: Arc<Emulator>,
    pub(super) clock: Arc<TestClock>,
    pub(super) stream: Stream,
}

impl World {
    /// One stream, `orders`, with so many shards.
    pub(super) fn new(shards: usize) -> Self {
        Self::with(shards, |_| {})
    }

    pub(super) fn with(shards: usize, change: impl FnOnce(&mut Options)) -> Self {
        let clock = Arc::new(TestClock::new());
        let time = clock.clone();
        let mut options = Options::new(Arc::new(move || time.wall().0));
        options.trace = true;
        change(&mut options);
        let emulator = Emulator::new(options).expect("an emulator in memory");
        emulator.create_stream("orders", shards).expect("a stream");
        let stream = connect(&emulator, &clock, "reader", 1);
        Self { emulator, clock, stream }
    }

    pub(super) fn load(&self, records: impl IntoIterator<Item = String>) {
        let keyed = |data: String| (format!("key {}", &data[..data.len().min(30)]), Bytes::from(data));
        let records: Vec<_> = records.into_iter().map(keyed).collect();
        self.emulator.put_records("orders", &records).expect("records");
    }

    fn reader(&self, shard: &str, position: Position) -> Polling {
        self.reader_of(&self.stream, shard, position)
    }

    fn reader_of(&self, stream: &Stream, shard: &str, position: Position) -> Polling {
        stream.reader(from(shard, position, None), PollingSettings::default())
    }

    pub(super) fn shards(&self) -> Vec<String> {
        self.emulator.open_shards("orders").expect("a stream")
    }

    pub(super) fn fault(&self, fault: Fault, operation: &str, probability: f64) {
        self.emulator.faults().add(Rule::new(Service::Kinesis, fault).operation(operation).probability(probability));
    }
}

pub(super) fn connect(emulator: &Arc<Emulator>, clock: &Arc<TestClock>, name: &str, seed: u64) -> Stream {
    let credentials = Credentials::from_keys("id", "secret", None);
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url("http://emulator.test")
        .http_client(emulator.connect(name).http_client())
        .build();
    Stream::new(&config, StreamRef::Name("orders".to_owned()), clock.clone(), Arc::new(Seeded::new(seed)))
}

pub(super) fn from(shard: &str, position: Position, pinned: Option<Millis>) -> ReadFrom {
    let shard = ShardId::new(shard);
    ReadFrom {
        lease: LeaseKey::of(&shard),
        shard,
        tenure: Tenure([1; 16]),
        position,
        pinned,
        unpack: Unpack::default(),
    }
}

/// A reader that says where it is.
pub(super) trait Placed: ShardReader {
    fn place(&self) -> Position;
}

impl Placed for Polling {
    fn place(&self) -> Position {
        self.position().clone()
    }
}

impl Placed for FanOut {
    fn place(&self) -> Position {
        self.position().clone()
    }
}

/// What a reader gives until it is at the tip or at the end. The chunks must continue each other.
pub(super) async fn drain(reader: &mut impl Placed) -> (Vec<Record>, Option<Vec<ChildShard>>) {
    let mut records: Vec<Record> = Vec::new();
    let mut position = reader.place();
    loop {
        match reader.next().await {
            Ok(Read::Chunk(chunk)) => {
                assert_eq!(chunk.from, position, "no read gap (I15)");
                assert_eq!(Some(&chunk.to), chunk.records.last().map(Record::position).as_ref());
                position = chunk.to;
                records.extend(chunk.records);
            }
            Ok(Read::Empty { behind }) if behind.is_zero() => return (records, None),
            Ok(Read::End { children }) => return (records, Some(children)),
            Ok(Read::Empty { .. } | Read::Heavy) | Err(ReadError::Again { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

pub(super) fn texts(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8(record.data.to_vec()).expect("text")).collect()
}

pub(super) fn lines(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("line {number}")).collect()
}

#[tokio::test(start_paused = true)]
async fn every_record_comes_once_in_order_with_its_bytes() {
    let world = World::new(1);
    world.load(lines(25_000));
    let (records, end) = drain(&mut world.reader(&world.shards()[0], Position::TrimHorizon)).await;
    assert_eq!(texts(&records), lines(25_000));
    assert!(end.is_none());
    assert_eq!(&*records[7].partition_key, "key line 7");
    assert!(records.iter().all(|record| record.arrival.0 >= 1_700_000_000_000));
}

/// Regression, seen elsewhere: the position of a page was lost when its last record was empty.
#[tokio::test(start_paused = true)]
async fn a_page_whose_last_record_is_empty_is_read_to_its_end() {
    let world = World::new(1);
    world.load(["one".to_owned(), String::new()]);
    let mut reader = world.reader(&world.shards()[0], Position::TrimHorizon);
    let (records, _) = drain(&mut reader).await;
    assert_eq!(texts(&records), ["one", ""]);
    assert_eq!(reader.position(), &records[1].position());
    world.load(["two".to_owned()]);
    assert_eq!(texts(&drain(&mut reader).await.0), ["two"]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_goes_on_from_any_position_and_from_any_instant() {
    let world = World::new(1);
    let shard = world.shards().remove(0);
    world.load(lines(50));
    tokio::time::sleep(10 * SEC).await;
    let pinned = world.clock.wall();
    world.load((50..100).map(|number| format!("line {number}")));
    let (all, _) = drain(&mut world.reader(&shard, Position::TrimHorizon)).await;
    for start in [0, 48, 49, 98] {
        let mut reader = world.reader(&shard, all[start].position());
        assert_eq!(texts(&drain(&mut reader).await.0), lines(100)[start + 1..], "after {start}");
        assert_eq!(reader.counts().repeated, 1);
    }
    let from = from(&shard, Position::TrimHorizon, Some(pinned));
    let mut reader = world.stream.reader(from, PollingSettings::default());
    assert_eq!(texts(&drain(&mut reader).await.0), lines(100)[50..]);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_reader_keeps_its_iterator_alive_for_hours() {
    let world = World::new(1);
    let mut reader = world.reader(&world.shards()[0], Position::TrimHorizon);
    for hour in 0..3 {
        tokio::time::sleep(3600 * SEC).await;
        world.load([format!("hour {hour}")]);
        assert_eq!(texts(&drain(&mut reader).await.0), [format!("hour {hour}")]);
    }
    assert_eq!((reader.counts().expired, reader.counts().failures), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_split_shard_is_read_to_its_end_and_then_its_children() {
    let world = World::new(1);
    let parent = world.shards().remove(0);
    world.load(lines(2_000));
    world.emulator.split_shard("orders", &parent).expect("a split");
    world.load((2_000..3_000).map(|number| format!("line {number}")));
    let mut reader = world.reader(&parent, Position::TrimHorizon);
    let (records, end) = drain(&mut reader).await;
    assert_eq!(texts(&records), lines(2_000));
    let children = end.expect("a closed shard ends");
    assert_eq!(children.len(), 2);
    assert_eq!((children[0].hash_range.start, children[1].hash_range.end), (0, u128::MAX));
    assert!(children.iter().all(|child| child.parents == [ShardId::new(parent.as_str())]));

    // A reader that starts after the last record, and one of a finished shard, find the end as well.
    for position in [records[1_999].position(), Position::ShardEnd] {
        let (none, end) = drain(&mut world.reader(&parent, position)).await;
        assert_eq!((none.len(), end.as_ref()), (0, Some(&children)));
    }
    assert_eq!(world.stream.catalog().children(&ShardId::new(parent.as_str())).await, Ok(Some(children.clone())));

    let mut rest = Vec::new();
    for child in &children {
        let (records, end) = drain(&mut world.reader(child.id.as_str(), Position::TrimHorizon)).await;
        assert!(end.is_none());
        rest.extend(texts(&records));
    }
    rest.sort_unstable();
    let mut sent: Vec<_> = (2_000..3_000).map(|number| format!("line {number}")).collect();
    sent.sort_unstable();
    assert_eq!(rest, sent);
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_is_closed_while_it_is_read_ends() {
    let world = World::new(2);
    let shards = world.shards();
    let mut readers: Vec<_> = shards.iter().map(|shard| world.reader(shard, Position::TrimHorizon)).collect();
    world.load(lines(100));
    let mut read = 0;
    for reader in &mut readers {
        read += drain(reader).await.0.len();
    }
    assert_eq!(read, 100);
    world.emulator.merge_shards("orders", &shards[0], &shards[1]).expect("a merge");
    for reader in &mut readers {
        let (records, end) = drain(reader).await;
        let children = end.expect("a merged shard ends");
        assert_eq!((records.len(), children.len(), children[0].parents.len()), (0, 1, 2));
    }
}

/// A shard of 3,000 records that is split at once; everything goes wrong now and then, answers are slow.
fn stormy_world(seed: u64) -> (World, String) {
    let world = World::with(1, |options| {
        options.seed = seed;
        options.latency = Latency { request: (1, 40), answer: (1, 200), ..Latency::default() };
    });
    let shard = world.shards().remove(0);
    world.load(lines(3_000));
    world.emulator.split_shard("orders", &shard).expect("a split");
    let faults = [
        Fault::Throttle,
        Fault::DropAnswer,
        Fault::DropRequest,
        Fault::ExpiredIterator,
        Fault::InternalErrorAfterEffect,
        Fault::Delay(15_000),
        Fault::Repeat(300),
    ];
    for fault in faults {
        world.fault(fault, "GetRecords", 0.06);
    }
    for fault in [Fault::Throttle, Fault::DropAnswer, Fault::InternalError] {
        world.fault(fault, "GetShardIterator", 0.1);
    }
    (world, shard)
}

/// Reads that shard with futures that are dropped now and then; gives what was read and the list of calls.
async fn read_in_a_storm(seed: u64) -> (Vec<String>, Vec<String>) {
    let (world, shard) = stormy_world(seed);
    let random = Seeded::new(seed);
    let settings = PollingSettings { answer_bytes_max: 64 * 1024, ..PollingSettings::default() };
    let mut reader = world.stream.reader(from(&shard, Position::TrimHorizon, None), settings);
    let (mut records, mut position) = (Vec::new(), Position::TrimHorizon);
    loop {
        let patience = Duration::from_millis(100 + random.below(3_000));
        match tokio::time::timeout(patience, reader.next()).await {
            Ok(Ok(Read::Chunk(chunk))) => {
                assert_eq!(chunk.from, position);
                position = chunk.to;
                records.extend(chunk.records);
            }
            Ok(Ok(Read::End { .. })) => break,
            Ok(Ok(Read::Empty { .. } | Read::Heavy)) | Ok(Err(ReadError::Again { .. })) | Err(_) => {}
            Ok(Err(error)) => panic!("{error}"),
        }
    }
    (texts(&records), world.emulator.take_trace().iter().map(ToString::to_string).collect())
}

#[tokio::test(start_paused = true)]
async fn faults_and_dropped_futures_lose_and_repeat_nothing() {
    for seed in 0..20 {
        assert_eq!(read_in_a_storm(seed).await.0, lines(3_000), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_seed_gives_one_list_of_calls() {
    let (first, second, other) = (read_in_a_storm(1).await.1, read_in_a_storm(1).await.1, read_in_a_storm(2).await.1);
    assert_eq!(first, second);
    assert_ne!(first, other);
}

#[tokio::test(start_paused = true)]
async fn a_reader_alone_keeps_within_the_limits_and_uses_them() {
    for record_bytes in [300, 20_000, 900_000] {
        let world = World::new(1);
        let count = (24 << 20) / record_bytes;
        world.load((0..count).map(|_| "x".repeat(record_bytes)));
        let mut reader = world.reader(&world.shards()[0], Position::TrimHorizon);
        let start = world.clock.elapsed();
        let (records, _) = drain(&mut reader).await;
        let took = world.clock.elapsed() - start;
        assert_eq!(records.len(), count);
        assert_eq!(reader.counts().throttles, 0, "{record_bytes} bytes a record");
        assert!((11..=18).contains(&took.as_secs()), "{took:?} for 24 MiB of {record_bytes} bytes each");
    }
}

#[tokio::test(start_paused = true)]
async fn readers_that_share_a_shard_share_its_throughput() {
    let world = World::new(1);
    let shard = world.shards().remove(0);
    world.load((0..20_000).map(|number| format!("{number:01000}")));
    let second = connect(&world.emulator, &world.clock, "foreign", 2);
    let mut mine = world.reader(&shard, Position::TrimHorizon);
    let mut theirs = world.reader_of(&second, &shard, Position::TrimHorizon);
    let (mine_read, theirs_read) = tokio::join!(drain(&mut mine), drain(&mut theirs));
    assert_eq!((mine_read.0.len(), theirs_read.0.len()), (20_000, 20_000));
    assert!(mine.counts().throttles + theirs.counts().throttles > 0, "together they ask for more than there is");
    let took = world.clock.elapsed();
    assert!(took < 120 * SEC, "{took:?} for 40 MB through one shard");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_away_for_a_minute_is_read_on_when_it_is_back() {
    let world = World::new(1);
    let now = world.clock.wall().0;
    let away = Rule::new(Service::Kinesis, Fault::Away).between(now + 5_000, now + 65_000);
    world.emulator.faults().add(away);
    let mut reader = world.reader(&world.shards()[0], Position::TrimHorizon);
    world.load(lines(10));
    drain(&mut reader).await;
    tokio::time::sleep(10 * SEC).await;
    world.load(["after".to_owned()]);
    world.emulator.take_trace();
    assert_eq!(texts(&drain(&mut reader).await.0), ["after"]);
    assert!(world.clock.elapsed() < 100 * SEC, "{:?}", world.clock.elapsed());
    let calls = world.emulator.take_trace().len();
    assert!(calls < 20, "{calls} calls in a minute");
}

#[tokio::test(start_paused = true)]
async fn the_catalog_tells_shards_and_identity() {
    let world = World::new(2);
    let shards = world.shards();
    let catalog = world.stream.catalog();
    let created = catalog.identity().await.expect("an identity");
    assert_eq!((created.status, created.open_shards), (StreamStatus::Active, 2));
    assert_eq!((created.created, created.retention), (Millis(1_700_000_000_000), Duration::from_secs(86_400)));
    tokio::time::sleep(60 * SEC).await;
    world.emulator.split_shard("orders", &shards[0]).expect("a split");
    let list = async |filter| {
        let shards = catalog.shards(filter).await.expect("a list");
        shards.into_iter().map(|shard| (shard.id.as_str()[18..].to_owned(), shard.closed)).collect::<Vec<_>>()
    };
    let named = |list: &[(&str, bool)]| list.iter().map(|(id, closed)| ((*id).to_owned(), *closed)).collect::<Vec<_>>();
    let all = [("00", true), ("01", false), ("02", false), ("03", false)];
    assert_eq!(list(ShardFilter::All).await, named(&all));
    assert_eq!(list(ShardFilter::AtLatest).await, named(&all[1..]));
    assert_eq!(list(ShardFilter::AtTrimHorizon).await, named(&all[..2]));
    assert_eq!(list(ShardFilter::AtTimestamp(Millis(1_700_000_030_000))).await, named(&all[..2]));
    let gone = catalog.children(&ShardId::new("shardId-000000000009")).await;
    assert!(matches!(gone, Err(crate::StreamError::Gone { .. })));
}

#[tokio::test(start_paused = true)]
async fn the_tip_of_a_shard_that_another_worker_reads() {
    let world = World::new(1);
    let shard = world.shards().remove(0);
    let catalog = world.stream.catalog();
    world.load(lines(3));
    let (records, _) = drain(&mut world.reader(&shard, Position::TrimHorizon)).await;
    let until = world.clock.wall();
    let last = records[2].position();
    assert_eq!(catalog.tip(&from(&shard, records[1].position(), None), until).await, Ok(Tip::Waiting));
    assert_eq!(catalog.tip(&from(&shard, last.clone(), None), until).await, Ok(Tip::Empty));
    tokio::time::sleep(SEC).await;
    world.load(["later".to_owned()]);
    assert_eq!(catalog.tip(&from(&shard, last.clone(), None), until).await, Ok(Tip::Later));
    assert_eq!(catalog.tip(&from(&shard, Position::TrimHorizon, Some(until)), until).await, Ok(Tip::Later));
    world.emulator.split_shard("orders", &shard).expect("a split");
    let (records, _) = drain(&mut world.reader(&shard, last)).await;
    assert_eq!(catalog.tip(&from(&shard, records[0].position(), None), until).await, Ok(Tip::Ended));
}

/// Regression: the rest of an aggregate, of which a Java worker had delivered the first records, was taken for delivered.
#[tokio::test(start_paused = true)]
async fn the_rest_of_an_aggregate_lies_before_the_tip() {
    let world = World::new(1);
    let shard = world.shards().remove(0);
    let mut pack = Pack::new(PACK_BYTES);
    lines(3).into_iter().for_each(|line| drop(pack.add(line.into_bytes(), "key".to_owned())));
    let whole = pack.take().expect("three records");
    world.emulator.put_records("orders", &[(whole.partition_key, whole.data.into())]).expect("records");
    let unpack = Unpack { kpl: true, ..Unpack::default() };
    let start = ReadFrom { unpack, ..from(&shard, Position::TrimHorizon, None) };
    let (records, _) = drain(&mut world.stream.reader(start.clone(), PollingSettings::default())).await;
    let until = world.clock.wall();
    for (record, tip) in records.iter().zip([Tip::Waiting, Tip::Waiting, Tip::Empty]) {
        let from = ReadFrom { position: record.position(), ..start.clone() };
        assert_eq!(world.stream.catalog().tip(&from, until).await, Ok(tip), "{record:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_does_not_have_the_sequence_numbers_of_another() {
    let world = World::new(2);
    world.load(lines(50));
    let shards = world.shards();
    let (records, _) = drain(&mut world.reader(&shards[0], Position::TrimHorizon)).await;
    let catalog = world.stream.catalog();
    let its = records[0].position();
    assert_eq!(catalog.has(&ShardId::new(shards[0].as_str()), &its).await, Ok(()));
    for position in [its, Position::at(5_u64.into(), 0)] {
        let refused = catalog.has(&ShardId::new(shards[1].as_str()), &position).await;
        assert!(matches!(&refused, Err(StreamError::Refused { .. })), "{refused:?}");
    }
}

/// The producer runs into the limits of the shards and into lost answers; what it counts is what is there.
#[tokio::test(start_paused = true)]
async fn a_producer_gets_everything_in_and_knows_what_may_be_twice() {
    let world = World::new(2);
    world.fault(Fault::DropAnswer, "PutRecords", 0.2);
    let mut putter = world.stream.putter(PutSettings::default());
    for line in lines(8_000) {
        putter.push(line.clone().into_bytes(), line).await.expect("put");
    }
    putter.flush().await.expect("put");
    let counts = putter.counts();
    assert_eq!(counts.records, 8_000);
    assert!(counts.throttled > 0 && counts.maybe_twice > 0, "{counts:?}");
    let mut read = Vec::new();
    for shard in world.shards() {
        read.extend(texts(&drain(&mut world.reader(&shard, Position::TrimHorizon)).await.0));
    }
    let extra = read.len() as u64 - 8_000;
    assert!(extra <= counts.maybe_twice, "{extra} twice, {} feared", counts.maybe_twice);
    read.sort_unstable();
    read.dedup();
    assert_eq!(read.len(), 8_000);
}
