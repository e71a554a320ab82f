//! `transform` by a Lambda function: the records of a chunk go out in a few invocations, as Firehose makes them, and come
//! back in their order. `docs/reference/lambda.md` says what is sent, what may be answered, and where this is not Firehose.
//!
//! What is known about the records decides their fate: what the function says of one, that it fails, that it does not
//! answer in time. Of a function that cannot be asked (not there, not permitted, throttled, a service that is away)
//! nothing follows for the records, and they wait; so does the shard.
//! Invariants: as many records pass, are dropped and rejected as came in; order stays.
//! Never here: which records are asked about together for longer than a chunk (`standpipe_flow::Gather`).

mod answer;
mod attempts;
mod client;
mod event;
mod function;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_types::SdkConfig;
use futures_util::{StreamExt, stream};
use standpipe_flow::{Chunk, Clock, Detail, Offload, Random, Record, RejectedRecord, Transform};
use tokio::sync::Semaphore;

pub use self::function::{Function, NoFunction};

use self::answer::Verdict;
use self::attempts::Settled;
use self::client::Client;
use self::event::Head;
use self::function::Place;
use crate::stage::{Fate, PROCESSING_FAILED};
use crate::transforms::{Counts, number_parts};

/// What the config says of `lambda`, and whose records they are.
#[derive(Clone, Debug)]
pub struct LambdaSettings {
    /// `function`: which one.
    pub function: Function,
    /// The ARN of the stream: `sourceKinesisStreamArn`; its region and account are those of a function without an ARN.
    pub stream_arn: String,
    /// The name of the pipeline, which stands for the delivery stream.
    pub pipeline: String,
    /// `retries`: how often an invocation is tried again after the function failed, or did not answer in time.
    pub retries: u32,
    /// `buffer.size`: an invocation has all its records when it has so many bytes of data, before base64; or when no more
    /// fit into a request (6 MiB).
    pub buffer_bytes: usize,
    /// `buffer.interval`: how long records wait for others to go with.
    pub buffer_wait: Duration,
    /// Invocations that are under way at the same time for one shard. Firehose: 5.
    pub concurrency: usize,
    /// Invocations that are under way at the same time for all shards of the process. Each holds about three times its
    /// data, and what its answer has, beside the memory budget.
    pub concurrency_of_process: usize,
}

impl LambdaSettings {
    /// Firehose's values for the rest: 3 retries, 1 MiB, 60 s, 5 invocations a shard; and 64 a process.
    pub fn new(function: Function, stream_arn: impl Into<String>, pipeline: impl Into<String>) -> Self {
        Self {
            function,
            stream_arn: stream_arn.into(),
            pipeline: pipeline.into(),
            retries: 3,
            buffer_bytes: 1 << 20,
            buffer_wait: Duration::from_secs(60),
            concurrency: 5,
            concurrency_of_process: 64,
        }
    }

    /// Bytes of data that one invocation can carry, at most.
    fn invocation_bytes(&self) -> usize {
        self.buffer_bytes.min(event::REQUEST_BYTES_MAX / 4 * 3)
    }
}

/// The stream's ARN is none: nothing could be said about where the function is.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is not the ARN of a Kinesis stream")]
pub struct NoStream(String);

/// Told what becomes of invocations, beside [`Counts`] of records; the metrics behind it are the caller's.
pub trait Observer: Counts {
    /// An attempt of an invocation took so long and ended like this: `answered`, `function_error`, `timeout`, `too_large`;
    /// or the function could not be asked: `throttled`, `access_denied`, `not_found`, `unavailable`, `unreachable`,
    /// `no_credentials`, `refused`.
    fn attempt(&self, result: &'static str, took: Duration);

    /// So many more (or fewer) invocations wait for a function that cannot be asked: an operator must act.
    fn waiting(&self, change: i64);
}

/// What a [`Lambda`] stands on.
#[derive(Clone, Debug)]
pub struct Seams {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// For the ids of invocations and the pauses between attempts.
    pub random: Arc<dyn Random>,
    /// Where events are written and answers are read.
    pub offload: Arc<dyn Offload>,
    /// Who is told.
    pub observer: Arc<dyn Observer>,
}

/// The label `stage` of its records: the key in the config.
const STAGE: &str = "lambda";

/// A transform by a Lambda function.
#[derive(Clone, Debug)]
pub struct Lambda {
    settings: LambdaSettings,
    head: Arc<Head>,
    /// Of the function, as error records name it.
    arn: Arc<str>,
    client: Client,
    seams: Seams,
    under_way: Arc<Semaphore>,
    trouble: Arc<attempts::Trouble>,
}

impl Lambda {
    /// A function reached with this configuration: credentials, endpoint (of Lambda, else of all services), HTTP client
    /// and sleep implementation are taken from it; the region from the function's ARN, else the stream's.
    ///
    /// # Errors
    /// When the stream's ARN is none.
    pub fn new(settings: LambdaSettings, sdk: &SdkConfig, seams: Seams) -> Result<Self, NoStream> {
        let stream = Place::of("kinesis", &settings.stream_arn);
        let (near, _) = stream.ok_or_else(|| NoStream(settings.stream_arn.clone()))?;
        let Place { partition, region, account } = &near;
        let head = Head {
            delivery_stream_arn: format!(
                "arn:{partition}:firehose:{region}:{account}:deliverystream/{}",
                settings.pipeline
            ),
            stream_arn: settings.stream_arn.clone(),
            region: region.clone(),
        };
        let function = &settings.function;
        let client = Client::new(sdk, function, function.region().unwrap_or(region), seams.clock.clone());
        let under_way = Arc::new(Semaphore::new(settings.concurrency_of_process.clamp(1, Semaphore::MAX_PERMITS)));
        let (arn, trouble) = (function.arn(&near).into(), Arc::default());
        Ok(Self { settings, head: Arc::new(head), arn, client, seams, under_way, trouble })
    }

    /// Asks the function about all records: a verdict on each, in their order.
    async fn ask(&self, shard: &Arc<str>, records: &Arc<[Record]>) -> Vec<Settled> {
        let cuts = event::cut(records, &self.head, shard, self.settings.buffer_bytes);
        let asked: Vec<_> = cuts.into_iter().map(|run| self.invoke(Asked::new(shard, records, run))).collect();
        let runs = stream::iter(asked).buffered(self.settings.concurrency.max(1));
        runs.collect::<Vec<_>>().await.into_iter().flatten().collect()
    }
}

/// Records that one invocation is about.
#[derive(Clone, Debug)]
struct Asked {
    shard: Arc<str>,
    all: Arc<[Record]>,
    run: Range<usize>,
}

impl Asked {
    fn new(shard: &Arc<str>, all: &Arc<[Record]>, run: Range<usize>) -> Self {
        Self { shard: shard.clone(), all: all.clone(), run }
    }

    fn records(&self) -> &[Record] {
        &self.all[self.run.clone()]
    }

    /// Two halves of several records.
    fn halves(self) -> [Self; 2] {
        let Range { start, end } = self.run;
        let middle = start + (end - start) / 2;
        [Self { run: start..middle, ..self.clone() }, Self { run: middle..end, ..self }]
    }
}

#[async_trait]
impl Transform for Lambda {
    async fn apply(&self, mut chunk: Chunk) -> Chunk {
        // Their ids must differ, and stages before this one give several records of one no numbers.
        number_parts(&mut chunk.records);
        let shard: Arc<str> = chunk.lease.as_str().into();
        let records: Arc<[Record]> = std::mem::take(&mut chunk.records).into();
        let settled = self.ask(&shard, &records).await;
        let mut fates = [(Fate::Passed, 0), (Fate::Dropped, 0), (Fate::Failed, 0)];
        let mut messages: BTreeMap<&str, Arc<str>> = BTreeMap::new();
        for (record, Settled { verdict, attempts }) in records.iter().zip(settled) {
            let fate = match verdict {
                Verdict::Passed { data, keys } => {
                    chunk.records.push(passed(record, data, keys));
                    Fate::Passed
                }
                Verdict::Dropped => Fate::Dropped,
                Verdict::Failed(failure) => {
                    let message = messages.entry(failure.message).or_insert_with(|| failure.message.into()).clone();
                    let of = RejectedRecord::of((&chunk.lease, record), PROCESSING_FAILED, failure.code, message);
                    chunk.rejected.push(RejectedRecord { attempts, detail: Detail::Lambda(self.arn.clone()), ..of });
                    Fate::Failed
                }
            };
            fates.iter_mut().filter(|(of, _)| *of == fate).for_each(|(_, records)| *records += 1);
        }
        for (fate, records) in fates.into_iter().filter(|(_, records)| *records > 0) {
            self.seams.observer.records(STAGE, fate, records);
        }
        chunk
    }

    fn gathers(&self) -> Option<(usize, Duration)> {
        Some((self.settings.invocation_bytes(), self.settings.buffer_wait))
    }

    /// As many invocations as may be under way for a shard.
    fn at_once(&self) -> Option<usize> {
        Some(self.settings.invocation_bytes().saturating_mul(self.settings.concurrency.max(1)))
    }
}

/// The record as the function gave it back; the same bytes are no change.
fn passed(record: &Record, data: bytes::Bytes, keys: BTreeMap<String, String>) -> Record {
    let mut record = if record.data == data { record.clone() } else { record.with_data(data) };
    if !keys.is_empty() {
        record.transformed.get_or_insert_default().keys.extend(keys);
    }
    record
}

#[cfg(test)]
mod tests;
