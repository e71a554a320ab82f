//! One stage, as a worker runs it -> its figures.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use standpipe_convert::{Compression, Format, encode_all, error_line};
use standpipe_flow::{
    Chunk, Clock, Job, Millis, Offload, Partition, Position, Random, Read, Record, RejectedRecord, ShardId,
    ShardReader, Tenure, Transform,
};
use standpipe_source::{Canned, PACK_BYTES, Pack, PollingSettings, ReadFrom, Stream, StreamRef, Unpack, user_records};
use standpipe_worker::SharedMetrics;
use standpipe_worker::platform::{self, Platform, SystemClock, SystemRandom};

use super::input::{self, Input};
use super::measure::{Budget, Done, Figures};

/// Records are transformed so many bytes at a time, as a worker does.
const PIECE_BYTES: usize = 1 << 20;

/// What stages are made on.
pub fn platform() -> Platform {
    Platform {
        sdk: platform::embedded(None, "http://nowhere"),
        clock: Arc::new(SystemClock::start()),
        random: Arc::new(SystemRandom),
        offload: Arc::new(Inline),
        heartbeats: None,
        outside: Default::default(),
        metrics: SharedMetrics::new(),
    }
}

/// On the thread that is measured.
#[derive(Debug)]
struct Inline;

impl Offload for Inline {
    fn run(&self, job: Job) {
        job();
    }
}

/// GetRecords: the SDK's request and its answer, which becomes records.
pub async fn read(records: &[Record], unpack: Unpack, budget: &Budget) -> Result<Figures> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let random: Arc<dyn Random> = Arc::new(SystemRandom);
    let sdk = platform::embedded(Some(Canned::new(records).http_client()), "http://nowhere");
    let stream = Stream::new(&sdk, StreamRef::Name("bench".to_owned()), clock, random);
    let from = ReadFrom {
        shard: ShardId::new("shardId-000000000000"),
        lease: input::lease(),
        tenure: Tenure([0; 16]),
        position: Position::TrimHorizon,
        pinned: None,
        unpack,
    };
    let reader = || stream.reader(from.clone(), PollingSettings::default());
    let run = async |mut reader: standpipe_source::Polling| {
        let mut done = Done::default();
        loop {
            match reader.next().await? {
                Read::Chunk(chunk) => {
                    done.records += chunk.records.len() as u64;
                    done.bytes += chunk.data_bytes() as u64;
                }
                Read::Heavy | Read::Empty { .. } => {}
                Read::End { .. } => return Ok(done),
            }
        }
    };
    budget.rounds(reader, run).await
}

/// Aggregates of the KPL -> user records.
pub async fn deaggregate(input: &Input, budget: &Budget) -> Result<Figures> {
    let unpack = Unpack { kpl: true, ..Unpack::default() };
    let mut pack = Pack::new(PACK_BYTES);
    let mut packed: Vec<Bytes> = Vec::new();
    for record in input.records() {
        packed.extend(pack.add(record.data.to_vec(), record.partition_key.to_string()).map(|full| full.data.into()));
    }
    packed.extend(pack.take().map(|rest| rest.data.into()));
    let aggregates = input::records(packed);
    let run = async |()| {
        let mut done = Done::default();
        for aggregate in &aggregates {
            // The last one may be a record alone.
            let records = user_records(aggregate, &unpack).map_or(1, |records| records.len());
            done.records += records as u64;
        }
        Ok(done)
    };
    budget.rounds(|| (), run).await
}

/// A transform; also what it makes of the records.
pub async fn transform(
    transform: &Arc<dyn Transform>,
    records: &[Record],
    budget: &Budget,
) -> Result<(Figures, Vec<Record>)> {
    let pieces = || input::chunk(records.to_vec()).pieces(PIECE_BYTES);
    let run = async |pieces: Vec<Chunk>| {
        let mut done = Done::default();
        for piece in pieces {
            let made = transform.apply(piece).await;
            done.records += made.records.len() as u64;
            done.rejected += made.rejected.len() as u64;
            done.bytes += made.data_bytes() as u64;
        }
        Ok(done)
    };
    let figures = budget.rounds(pieces, run).await?;
    let mut made = Vec::new();
    for piece in pieces() {
        made.extend(transform.apply(piece).await.records);
    }
    Ok((figures, made))
}

/// Records -> the bytes of objects, one of each partition.
pub async fn encode(
    records: &[Record],
    (format, compression): (&Format, Compression),
    budget: &Budget,
) -> Result<Figures> {
    let lease = input::lease();
    let mut partitions: BTreeMap<Option<Arc<Partition>>, Vec<&Record>> = BTreeMap::new();
    for record in records {
        partitions.entry(record.partition.clone()).or_default().push(record);
    }
    let run = async |()| {
        let mut done = Done::default();
        for records in partitions.values() {
            let encoder = format.encoder(compression);
            let records = records.iter().map(|record| (&lease, *record));
            let object = encode_all(encoder, records, |part| {
                drop(part);
                Ok::<_, std::convert::Infallible>(())
            });
            let object = object.context("a batch cannot be encoded")?;
            done.records += object.records;
            done.rejected += object.rejected.len() as u64;
            done.bytes += object.bytes;
        }
        Ok(done)
    };
    budget.rounds(|| (), run).await
}

/// Records that were refused -> lines of an error object.
pub async fn error_lines(records: &[Record], budget: &Budget) -> Result<Figures> {
    let lease = input::lease();
    let refused =
        |record| RejectedRecord::of((&lease, record), "processing-failed", "Parse.Csv", "what was wrong with it");
    let rejected: Vec<RejectedRecord> = records.iter().map(refused).collect();
    let run = async |()| {
        let mut body = Vec::new();
        rejected.iter().for_each(|record| error_line(record, Millis(0), &mut body));
        Ok(Done { records: rejected.len() as u64, rejected: 0, bytes: body.len() as u64 })
    };
    budget.rounds(|| (), run).await
}
