//! The real client on the wire: against the emulator in process, and against a server that says what a test wants.

mod emulated;
mod partitioned;
mod scripted;
mod staged_together;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::config::{BehaviorVersion, HttpClient, Region};
use aws_types::SdkConfig;
use bytes::Bytes;
use standpipe_convert::Delimiter;
use standpipe_flow::{BatchShard, Chunk, Held, Job, Part, Record, SequenceNumber, conformance};

use super::*;
use crate::fixtures::{Counting, Inline};

fn settings() -> S3Settings {
    S3Settings {
        bucket: "lake".to_owned(),
        prefix: Template::prefix(Some("in/!{timestamp:yyyy/MM/dd}/")).expect("a prefix"),
        error_prefix: Template::error_prefix(Some("bad/!{firehose:error-output-type}/"), None).expect("a prefix"),
        pipeline: "orders".to_owned(),
        time_zone: TimeZone::UTC,
        format: Format::JsonLines { delimiter: Delimiter::Newline },
        compression: Compression::None,
        file_extension: None,
        limits: BatchLimits {
            size_bytes: 1 << 20,
            interval: Duration::from_secs(60),
            shards_max: 32,
            partitions_max: None,
        },
        kms: None,
        expected_owner: None,
        backup: None,
        lost_object: LostObject::Replay,
        publish: Publish::Multipart,
    }
}

fn destination(endpoint: &str, http_client: impl HttpClient + 'static, settings: S3Settings) -> S3 {
    let credentials = Credentials::from_keys("id", "secret", None);
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url(endpoint)
        .http_client(http_client)
        .build();
    S3::new(&config, settings, Arc::new(Inline), Arc::new(Counting::default()))
}

fn cid(number: u64) -> CommitId {
    CommitId::new(Millis(1_790_000_000_000), 0xABCDE, number << 4)
}

/// The suite's batch with these records instead, all in its first shard.
fn batch_of(records: impl IntoIterator<Item = Bytes>) -> Arc<Batch> {
    let mut batch = Arc::unwrap_or_clone(conformance::batch(1));
    let shard: &mut BatchShard = &mut batch.shards[0];
    let record = |(n, data)| Record {
        data,
        partition_key: "k".into(),
        sequence: SequenceNumber::from(n as u64 + 1),
        sub: 0,
        arrival: Millis(batch.cut_at.0 - 1000),
        transformed: None,
        partition: None,
    };
    let records: Vec<Record> = records.into_iter().enumerate().map(record).collect();
    let first: &mut Chunk = &mut shard.chunks[0];
    first.records = records;
    batch.shards.truncate(1);
    Arc::new(batch)
}

/// The id and the parts of the upload that holds an output.
fn upload_of(held: &Held) -> (String, Vec<Part>) {
    let Held::Upload { id, parts } = held else { panic!("no upload: {held:?}") };
    (id.clone(), parts.clone())
}

fn why(error: &DeliveryError) -> &'static str {
    match error {
        DeliveryError::Retry { .. } => "retry",
        DeliveryError::Reject { .. } => "reject",
        DeliveryError::Halt { .. } => "halt",
    }
}
