//! From the config to the parts of a pipeline: the ONLY match over destination kinds.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::tz::TimeZone;
use standpipe_config::config::{self, Config};
use standpipe_convert::Format;
use standpipe_destinations::endpoint::Endpoint;
use standpipe_destinations::opensearch::OpenSearch;
use standpipe_destinations::{BackupSettings, LostObject, Publish, S3, S3Settings};
use standpipe_flow::hash::hash64;
use standpipe_flow::{BatchLimits, Destination, DestinationId, Transform};
use standpipe_lease::{CommitTable, Dynamo, LeaseTable};
use standpipe_source::{OutOfRange, PollingSettings, Stream, StreamRef, Unpack};

use crate::endpoint;
use crate::errors::WorkerError;
use crate::formats;
use crate::glue::Tables;
use crate::inferred::{Inferred, InferredTable};
use crate::opensearch;
use crate::platform::{Platform, service};
use crate::redshift;
use crate::transforms;

/// Shards in one commit (protocol 2.2): 32 lease rows and the receipt stay well below the 100 items of a transaction.
pub(crate) const LANE_SHARDS_MAX: usize = 32;

/// One destination, with what the fleet knows it by.
#[derive(Clone)]
pub(crate) struct Assembled {
    pub id: DestinationId,
    pub destination: Arc<dyn Destination>,
    /// For S3 destinations: the same object, which the sweeper lists uploads with.
    pub s3: Option<Arc<S3>>,
    /// For OpenSearch: the same destination, which is told the stream once that is known.
    pub opensearch: Option<Arc<OpenSearch>>,
    /// For HTTP endpoints: as above.
    pub endpoint: Option<Arc<Endpoint>>,
    /// Where columns are inferred: what knows them, around the destination.
    pub inferred: Option<Arc<Inferred>>,
    /// Kind and place: what must not change under the id (`--adopt-destinations`).
    pub identity: String,
    /// Hash of what shapes the bytes, for receipts.
    pub config: String,
    /// What is its own, after the pipeline's: `when`, `partition_by`.
    pub transform: Option<Arc<dyn Transform>>,
}

/// What a pipeline is made of, before anything was asked of a service.
pub(crate) struct Parts {
    pub stream: Stream,
    pub polling: PollingSettings,
    pub unpack: Unpack,
    /// Heartbeats have a client of their own, so that nothing ever queues before them.
    pub heartbeat: Dynamo,
    pub delivery: Dynamo,
    pub destinations: Vec<Assembled>,
    pub retired: BTreeSet<DestinationId>,
    /// What the pipeline makes of its records.
    pub transform: Option<Arc<dyn Transform>>,
    /// `on_destination_failure: isolate`.
    pub isolate: bool,
}

/// `tables`: the rows of destinations whose columns are in Glue.
pub(crate) fn parts(
    config: &Config,
    pipeline: &config::Pipeline,
    platform: &Platform,
    tables: &Tables,
) -> Result<Parts, WorkerError> {
    let source = &pipeline.source;
    let named = source.stream.arn.clone().unwrap_or_else(|| source.stream.name.clone());
    let kinesis = service(&platform.sdk, config.aws.kinesis_endpoint.as_ref(), source.stream.region.as_ref());
    let dynamodb = service(&platform.sdk, config.aws.dynamodb_endpoint.as_ref(), None);
    let polling = PollingSettings::default();
    let delivery = Dynamo::new(&dynamodb, pipeline.lease.failover);
    let commits = CommitTable::new(delivery.clone(), &pipeline.lease.table, platform.clock.clone());
    let destinations = pipeline
        .destinations
        .iter()
        .map(|destination| assemble((config, pipeline), destination, platform, (tables, &commits)));
    Ok(Parts {
        stream: Stream::new(&kinesis, StreamRef::parse(&named), platform.clock.clone(), platform.random.clone()),
        polling: PollingSettings {
            poll: source.poll,
            failure_longest: polling.failure_longest.min(pipeline.lease.failover),
            ..polling
        },
        unpack: unpack(source),
        heartbeat: Dynamo::new(&dynamodb, pipeline.lease.failover),
        delivery,
        destinations: destinations.collect::<Result<_, _>>()?,
        retired: pipeline.retired.iter().cloned().collect(),
        transform: None,
        isolate: pipeline.on_destination_failure == config::OnDestinationFailure::Isolate,
    })
}

/// How records become user records; the hash range is known of each shard only.
pub(crate) fn unpack(source: &config::Kinesis) -> Unpack {
    Unpack {
        kpl: source.deaggregate == config::Deaggregate::Kpl,
        out_of_range: match source.out_of_range {
            config::OutOfRange::Deliver => OutOfRange::Deliver,
            config::OutOfRange::Drop => OutOfRange::Drop,
        },
        hash_range: None,
    }
}

/// The lease table over a client.
pub(crate) fn lease_table(dynamo: &Dynamo, pipeline: &config::Pipeline) -> LeaseTable {
    LeaseTable::new(dynamo.clone(), pipeline.lease.table.clone())
}

fn assemble(
    (config, pipeline): (&Config, &config::Pipeline),
    destination: &config::Destination,
    platform: &Platform,
    (tables, commits): (&Tables, &CommitTable),
) -> Result<Assembled, WorkerError> {
    match destination {
        config::Destination::S3(s3) => {
            let format = formats::format(s3, tables.rows.get(&s3.id).cloned()).map_err(WorkerError::Findings)?;
            let table = InferredTable::of(s3, &format).map_err(WorkerError::Findings)?;
            let settings = s3_settings(pipeline, s3, format)?;
            let sdk = service(&platform.sdk, config.aws.s3_endpoint.as_ref(), None);
            let place = sdk.endpoint_url().unwrap_or_default().to_owned();
            let built = Arc::new(S3::new(&sdk, settings, platform.offload.clone(), platform.random.clone()));
            let inferred = table.map(|table| Arc::new(Inferred::new(table, built.clone(), commits.clone(), platform)));
            Ok(Assembled {
                id: s3.id.clone(),
                destination: match &inferred {
                    Some(inferred) => inferred.clone(),
                    None => built.clone(),
                },
                s3: Some(built),
                opensearch: None,
                endpoint: None,
                inferred,
                identity: format!("s3 {} {place}", s3.bucket).trim_end().to_owned(),
                config: shape(s3),
                transform: transforms::of_destination(pipeline, destination, platform)?,
            })
        }
        config::Destination::OpenSearch(file) => {
            opensearch::assemble((config, pipeline), (destination, file), platform)
        }
        config::Destination::Http(file) => endpoint::assemble((config, pipeline), (destination, file), platform),
        config::Destination::Redshift(file) => {
            redshift::assemble((config, pipeline), (destination, file), platform, tables)
        }
    }
}

/// What shapes the bytes, as a short text: receipts say under which shape they were written.
fn shape(s3: &config::S3) -> String {
    let text = format!("{:?} {:?} {:?} {}", s3.format, s3.compression, s3.record_delimiter, s3.extension);
    format!("{:016x}", hash64(&[text.as_bytes()]))
}

fn s3_settings(pipeline: &config::Pipeline, s3: &config::S3, format: Format) -> Result<S3Settings, WorkerError> {
    let zone = s3.time_zone.as_deref().map_or(Ok(TimeZone::UTC), TimeZone::get);
    Ok(S3Settings {
        bucket: s3.bucket.clone(),
        prefix: s3.prefix.clone(),
        error_prefix: s3.error_prefix.clone(),
        pipeline: pipeline.name.clone(),
        time_zone: zone.map_err(|error| WorkerError::Findings(error.to_string()))?,
        format,
        compression: formats::compression(s3.compression),
        file_extension: Some(s3.extension.clone()),
        limits: BatchLimits {
            size_bytes: s3.buffer_bytes,
            interval: s3.buffer_interval,
            shards_max: LANE_SHARDS_MAX,
            partitions_max: s3.partitions.as_ref().map(|partitions| partitions.max_active),
        },
        kms: s3.kms_key.clone(),
        expected_owner: s3.bucket_owner.clone(),
        backup: s3.backup.as_ref().map(backup),
        lost_object: match s3.lost_object {
            config::LostObject::Replay => LostObject::Replay,
            config::LostObject::AssumePublished => LostObject::AssumePublished,
        },
        publish: match s3.partitions.as_ref().map(|partitions| partitions.publish) {
            None | Some(config::Publish::Multipart) => Publish::Multipart,
            Some(config::Publish::Put) => Publish::Put,
        },
    })
}

pub(crate) fn backup(backup: &config::Backup) -> BackupSettings {
    BackupSettings {
        bucket: backup.bucket.clone(),
        prefix: backup.prefix.clone(),
        compression: formats::compression(backup.compression),
        file_extension: None,
        kms: backup.kms_key.clone(),
        expected_owner: backup.bucket_owner.clone(),
    }
}
