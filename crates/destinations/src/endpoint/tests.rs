//! The whole destination against a receiver in memory, under the paused clock, and over loopback with TLS.

mod outcomes;
mod receiver;
mod requests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use standpipe_flow::conformance::{self, Witness};
use standpipe_flow::{Record, SequenceNumber};

use super::*;
use crate::fixtures::{Counting, Inline, Paused};
use crate::http::Trust;
use crate::http::dial::Dial;
use receiver::{Fault, Receiver};

fn settings() -> EndpointSettings {
    EndpointSettings {
        url: Url::parse("http://ingest.test/secret-path/input?api=secret-query").expect("an address"),
        access_key: Some(HeaderSecret::new(|| Ok("secret-key".to_owned().into()))),
        gzip: false,
        common_attributes: vec![("env".to_owned(), "prod".to_owned())],
        headers: Vec::new(),
        any_2xx: false,
        request_data_bytes: 5 << 20,
        limits: BatchLimits {
            size_bytes: 5 << 20,
            interval: Duration::from_secs(60),
            shards_max: 32,
            partitions_max: None,
        },
        retry_for: RetryFor::UntilRetention,
    }
}

/// A worker's destination, over these connections.
fn made_over(settings: EndpointSettings, dial: Arc<dyn Dial>, trust: Trust) -> Endpoint {
    let clock: Arc<dyn Clock> = Arc::new(Paused::now());
    let seams = Seams {
        http: Http::new(dial, trust, Duration::from_secs(5), clock.clone()),
        objects: None,
        clock,
        random: Arc::new(Counting::default()),
        offload: Arc::new(Inline),
    };
    let made = Endpoint::new(settings, seams);
    made.reads_from(Source {
        arn: "arn:aws:firehose:eu-west-1:111122223333:deliverystream/orders".to_owned(),
        retention: Duration::from_secs(24 * 3600),
    });
    made
}

fn made(settings: EndpointSettings, receiver: &Receiver) -> Endpoint {
    made_over(settings, Arc::new(receiver.clone()), Trust::new(None).expect("no file"))
}

fn cid(number: u64) -> CommitId {
    CommitId::new(Millis(1_790_000_000_000), 0xABCDE, number << 4)
}

/// The suite's batch with these records instead, all in its first shard.
fn batch_of(records: impl IntoIterator<Item = impl Into<Bytes>>) -> Arc<Batch> {
    let mut batch = Arc::unwrap_or_clone(conformance::batch(1));
    let like = batch.shards[0].chunks[0].records[0].clone();
    let record = |(n, data): (usize, Bytes)| {
        let sequence = SequenceNumber::from(n as u64 + 1);
        Record { data, sequence, sub: n as u64 % 3, ..like.clone() }
    };
    batch.shards[0].chunks[0].records = records.into_iter().map(Into::into).enumerate().map(record).collect();
    batch.shards.truncate(1);
    Arc::new(batch)
}

fn numbered(count: usize) -> Arc<Batch> {
    batch_of((0..count).map(|n| format!("record {n:05}")))
}

fn all(batch: &Batch) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = batch.records().map(|record| record.data.to_vec()).collect();
    all.sort();
    all
}

fn refused_in_vain(staged: Result<Staged, DeliveryError>) -> (String, Option<Duration>) {
    match staged {
        Err(DeliveryError::Retry { cause, after }) => (cause, after),
        other => panic!("not told to ask again: {other:?}"),
    }
}

struct NoObjects;

#[async_trait]
impl Witness for NoObjects {
    async fn visible(&self, _: &str) -> Option<Bytes> {
        None
    }
    async fn open_uploads(&self) -> usize {
        0
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_is_a_destination_as_the_pipeline_relies_on_it() {
    let receiver = Receiver::default();
    let made = made(settings(), &receiver);
    if let Err(violation) = conformance::check(&made, &NoObjects).await {
        panic!("{violation}");
    }
    assert_eq!(receiver.seen().len(), 0, "no request without records, not even by the probe");
}
