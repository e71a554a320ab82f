//! The whole destination against a server in memory: the real client on the wire, under the paused clock.

mod cluster;
mod elasticsearch;
mod faults;
mod requests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use standpipe_flow::conformance::{self, Witness};
use standpipe_flow::{BatchShard, Record, SequenceNumber};

use super::*;
use crate::fixtures::{Counting, Inline, Paused};
use crate::http::{Http, Origin, Trust};
use cluster::Cluster;

fn settings() -> OpenSearchSettings {
    OpenSearchSettings {
        index: "logs".to_owned(),
        rotation: Rotation::Daily,
        document_id: DocumentId::Generated,
        data_stream: false,
        routing: false,
        serverless: false,
        gzip: false,
        limits: BatchLimits {
            size_bytes: 5 << 20,
            interval: Duration::from_secs(60),
            shards_max: 32,
            partitions_max: None,
        },
        retry_for: RetryFor::UntilRetention,
    }
}

/// A destination of the cluster, with what a test changes.
struct Made {
    settings: OpenSearchSettings,
    auth: Auth,
    nodes: Vec<&'static str>,
    expressions: Option<Arc<dyn Expressions>>,
}

impl Default for Made {
    fn default() -> Self {
        Self { settings: settings(), auth: Auth::None, nodes: vec!["http://one:9200"], expressions: None }
    }
}

impl Made {
    fn of(settings: OpenSearchSettings) -> Self {
        Self { settings, ..Self::default() }
    }

    fn at(self, cluster: &Cluster) -> OpenSearch {
        let clock: Arc<dyn Clock> = Arc::new(Paused::now());
        let trust = Trust::new(None).expect("no file");
        let origins = self.nodes.iter().map(|node| Origin::parse(node).expect("an address")).collect();
        let seams = Seams {
            http: Http::new(Arc::new(cluster.clone()), trust, Duration::from_secs(5), clock.clone()),
            servers: (origins, self.auth),
            expressions: self.expressions,
            objects: None,
            clock,
            random: Arc::new(Counting::default()),
            offload: Arc::new(Inline),
        };
        let made = OpenSearch::new(self.settings, seams);
        made.reads_from(From { stream: "arn 1".into(), retention: Duration::from_secs(24 * 3600) });
        made
    }
}

fn cid(number: u64) -> CommitId {
    CommitId::new(Millis(1_790_000_000_000), 0xABCDE, number << 4)
}

/// The suite's batch with these records instead, all in its first shard.
fn batch_of(records: impl IntoIterator<Item = impl Into<Bytes>>) -> Arc<Batch> {
    let mut batch = Arc::unwrap_or_clone(conformance::batch(1));
    let shard: &mut BatchShard = &mut batch.shards[0];
    let record = |(n, data): (usize, Bytes)| Record {
        data,
        partition_key: "k".into(),
        sequence: SequenceNumber::from(n as u64 + 1),
        sub: 0,
        arrival: Millis(batch.cut_at.0 - 1000),
        transformed: None,
        partition: None,
    };
    shard.chunks[0].records = records.into_iter().map(Into::into).enumerate().map(record).collect();
    batch.shards.truncate(1);
    Arc::new(batch)
}

fn numbered(count: usize) -> Arc<Batch> {
    batch_of((0..count).map(|n| format!("{{\"n\":{n}}}")))
}

/// What was rejected, as code and number of the record.
fn codes(staged: &Staged) -> Vec<(&'static str, String)> {
    staged.rejected.iter().map(|record| (record.code, record.sequence.to_string())).collect()
}

fn retried(staged: Result<Staged, DeliveryError>) -> String {
    match staged {
        Err(DeliveryError::Retry { cause, .. }) => cause,
        other => panic!("not told to ask again: {other:?}"),
    }
}

fn halted(staged: Result<Staged, DeliveryError>) -> String {
    match staged {
        Err(DeliveryError::Halt { cause }) => cause,
        other => panic!("not halted: {other:?}"),
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
async fn it_is_a_destination_as_the_pipeline_relies_on_it() {
    let cluster = Cluster::default();
    let made = Made::default().at(&cluster);
    if let Err(violation) = conformance::check(&made, &NoObjects).await {
        panic!("{violation}");
    }
    assert_eq!(cluster.documents().len(), 0);
}
