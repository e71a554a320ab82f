//! From the config to a Redshift destination.
//!
//! Never here: a request.

use std::sync::Arc;

use jiff::tz::TimeZone;
use standpipe_config::config::{self, Config, RedshiftAuth, RedshiftFormat, RedshiftTarget, StagingCompression};
use standpipe_config::template::Template;
use standpipe_convert::{Compression, CurrentRows, Delimiter, Format};
use standpipe_destinations::{CopyInto, LostObject, Publish, Redshift, RedshiftSettings, S3, S3Settings, Warehouse};
use standpipe_flow::hash::hash64;
use standpipe_flow::{BatchLimits, DestinationId};
use standpipe_lease::{CommitTable, Dynamo};

use crate::assemble::{Assembled, LANE_SHARDS_MAX, backup};
use crate::errors::WorkerError;
use crate::formats;
use crate::glue::Tables;
use crate::platform::{Platform, service};
use crate::transforms;

pub(crate) fn assemble(
    (config, pipeline): (&Config, &config::Pipeline),
    (destination, file): (&config::Destination, &config::Redshift),
    platform: &Platform,
    tables: &Tables,
) -> Result<Assembled, WorkerError> {
    let built = build((config, pipeline), file, platform, tables.rows.get(&file.id).cloned())?;
    let (name, copy) = (target(&file.target), &file.copy);
    let identity = format!("redshift {name} {} {}.{}", file.database, copy.schema, copy.table);
    let text = format!("{:?} {:?} {:?}", file.format, file.staging.compression, file.copy);
    Ok(Assembled {
        id: file.id.clone(),
        s3: Some(built.objects().clone()),
        destination: Arc::new(built),
        opensearch: None,
        endpoint: None,
        inferred: None,
        identity,
        config: format!("{:016x}", hash64(&[text.as_bytes()])),
        transform: transforms::of_destination(pipeline, destination, platform)?,
    })
}

/// The receipts of a pipeline's commits: for whoever must know what became of one.
pub fn receipts(config: &Config, pipeline: &config::Pipeline, platform: &Platform) -> CommitTable {
    let dynamodb = service(&platform.sdk, config.aws.dynamodb_endpoint.as_ref(), None);
    let dynamo = Dynamo::new(&dynamodb, pipeline.lease.failover);
    CommitTable::new(dynamo, &pipeline.lease.table, platform.clock.clone())
}

/// The Redshift destination of a pipeline by its id, or the only one: for whoever loads by hand what it gave up.
pub fn redshift(
    config: &Config,
    pipeline: &config::Pipeline,
    id: Option<&DestinationId>,
    platform: &Platform,
) -> Result<Redshift, WorkerError> {
    let those = pipeline.destinations.iter().filter_map(|destination| match destination {
        config::Destination::Redshift(file) => Some(file),
        _ => None,
    });
    let all: Vec<_> = those.collect();
    let found: Vec<_> = all.iter().filter(|file| id.is_none_or(|id| file.id == *id)).collect();
    match found.as_slice() {
        // What has been staged is loaded as it is: nothing is encoded, so its columns are of no interest.
        [file] => build((config, pipeline), file, platform, Some(CurrentRows::unknown())),
        _ => {
            let ids: Vec<&str> = all.iter().map(|file| file.id.as_str()).collect();
            let (name, ids) = (&pipeline.name, ids.join(", "));
            Err(WorkerError::Findings(match (all.is_empty(), id) {
                (true, _) => format!("pipeline {name} has no redshift destination"),
                (false, Some(id)) => format!("pipeline {name} has no redshift destination {id}; it has {ids}"),
                (false, None) => {
                    format!("pipeline {name} has several redshift destinations: {ids}; --destination says which")
                }
            }))
        }
    }
}

fn target(target: &RedshiftTarget) -> String {
    match target {
        RedshiftTarget::Workgroup(name) => format!("workgroup {name}"),
        RedshiftTarget::Cluster(name) => format!("cluster {name}"),
    }
}

fn build(
    (config, pipeline): (&Config, &config::Pipeline),
    file: &config::Redshift,
    platform: &Platform,
    rows: Option<CurrentRows>,
) -> Result<Redshift, WorkerError> {
    let (format, json) = match &file.format {
        RedshiftFormat::JsonLines => (Format::JsonLines { delimiter: Delimiter::Newline }, true),
        RedshiftFormat::Csv => (Format::JsonLines { delimiter: Delimiter::Newline }, false),
        RedshiftFormat::Parquet(parquet) => (formats::parquet(parquet, rows).map_err(WorkerError::Findings)?, false),
    };
    let limits = BatchLimits {
        size_bytes: file.buffer_bytes,
        interval: file.buffer_interval,
        shards_max: LANE_SHARDS_MAX,
        partitions_max: None,
    };
    let settings = RedshiftSettings {
        warehouse: warehouse(file),
        copy: copy_into(file),
        prefix: file.staging.prefix.clone(),
        pipeline: pipeline.name.clone(),
        stream: pipeline.source.stream.shown().to_owned(),
        format,
        compression: match file.staging.compression {
            StagingCompression::None => Compression::None,
            StagingCompression::Gzip => Compression::Gzip,
            StagingCompression::Zstd => Compression::Zstd,
        },
        json,
        limits,
        retry: file.retry,
    };
    let objects = Arc::new(objects((config, pipeline), file, platform, limits));
    let sdk = service(&platform.sdk, config.aws.redshift_data_endpoint.as_ref(), None);
    Ok(Redshift::new(&sdk, settings, objects, (platform.offload.clone(), platform.random.clone())))
}

fn warehouse(file: &config::Redshift) -> Warehouse {
    let (workgroup, cluster) = match &file.target {
        RedshiftTarget::Workgroup(name) => (Some(name.clone()), None),
        RedshiftTarget::Cluster(name) => (None, Some(name.clone())),
    };
    let (secret, db_user) = match &file.auth {
        RedshiftAuth::Identity => (None, None),
        RedshiftAuth::Secret(name) => (Some(name.clone()), None),
        RedshiftAuth::User(name) => (None, Some(name.clone())),
    };
    Warehouse { workgroup, cluster, database: file.database.clone(), secret, db_user }
}

fn copy_into(file: &config::Redshift) -> CopyInto {
    let copy = &file.copy;
    CopyInto {
        schema: copy.schema.clone(),
        table: copy.table.clone(),
        columns: copy.columns.clone(),
        role: copy.role.clone(),
        region: file.staging.region.clone(),
        options: copy.options.clone(),
        errors_max: copy.errors_max,
    }
}

/// The staging bucket, with the prefixes of error and backup objects.
fn objects(
    (config, pipeline): (&Config, &config::Pipeline),
    file: &config::Redshift,
    platform: &Platform,
    limits: BatchLimits,
) -> S3 {
    let settings = S3Settings {
        bucket: file.staging.bucket.clone(),
        // Data objects are the loads', not its own.
        prefix: Template::prefix(Some(&file.staging.prefix)).unwrap_or_default(),
        error_prefix: file.error_prefix.clone(),
        pipeline: pipeline.name.clone(),
        time_zone: TimeZone::UTC,
        format: Format::JsonLines { delimiter: Delimiter::Newline },
        compression: Compression::None,
        file_extension: None,
        limits,
        kms: file.staging.kms_key.clone(),
        expected_owner: file.staging.bucket_owner.clone(),
        backup: file.backup.as_ref().map(backup),
        lost_object: LostObject::Replay,
        publish: Publish::default(),
    };
    let sdk = service(&platform.sdk, config.aws.s3_endpoint.as_ref(), file.staging.region.as_ref());
    S3::new(&sdk, settings, platform.offload.clone(), platform.random.clone())
}
