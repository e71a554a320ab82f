//! From the config to an OpenSearch destination.
//!
//! Never here: a request.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use standpipe_config::config::{self, Config};
use standpipe_convert::{Compression, Delimiter, Format};
use standpipe_destinations::http::dial::{Dial, Tcp};
use standpipe_destinations::http::{Http, Origin, Trust};
use standpipe_destinations::opensearch::{
    Auth, DocumentId, Expressions, OpenSearch, OpenSearchSettings, Password, RetryFor, Rotation, Seams,
};
use standpipe_destinations::{LostObject, Publish, S3, S3Settings};
use standpipe_flow::hash::hash64;
use standpipe_flow::{BatchLimits, DestinationId};
use standpipe_signed::Signer;
use standpipe_source::StreamIdentity;
use standpipe_transform::Texts;

use crate::assemble::{Assembled, LANE_SHARDS_MAX, backup};
use crate::errors::WorkerError;
use crate::platform::{Platform, service};
use crate::transforms;

/// A connection, TLS included.
const CONNECT_MAX: Duration = Duration::from_secs(5);

pub(crate) fn assemble(
    (config, pipeline): (&Config, &config::Pipeline),
    (destination, file): (&config::Destination, &config::OpenSearch),
    platform: &Platform,
) -> Result<Assembled, WorkerError> {
    let unusable = |endpoint: &String| WorkerError::Findings(format!("{endpoint} is no address"));
    let origins = file.endpoints.iter().map(|endpoint| Origin::parse(endpoint).ok_or_else(|| unusable(endpoint)));
    let origins: Vec<Origin> = origins.collect::<Result<_, _>>()?;
    let identity = identity(&file.index, &origins);
    let trust = Trust::new(file.ca_file.as_deref()).map_err(WorkerError::Findings)?;
    let tcp = || Arc::new(Tcp { allow_private: file.allow_private }) as Arc<dyn Dial>;
    let dial = platform.outside.dial.clone().unwrap_or_else(tcp);
    let refused = file.refused.as_ref().map(|refused| (refused, file.backup.as_ref()));
    let objects = refused.map(|refused| Arc::new(objects((config, pipeline), refused, limits(file), platform)));
    let seams = Seams {
        http: Http::new(dial, trust, CONNECT_MAX, platform.clock.clone()),
        servers: (origins, auth(config, file, platform)?),
        expressions: expressions(file)?,
        objects: objects.clone(),
        clock: platform.clock.clone(),
        random: platform.random.clone(),
        offload: platform.offload.clone(),
    };
    let built = Arc::new(OpenSearch::new(settings(file), seams));
    let text = format!("{:?} {:?} {:?} {}", file.rotation, file.document_id, file.routing, file.data_stream);
    Ok(Assembled {
        id: file.id.clone(),
        destination: built.clone(),
        s3: objects,
        opensearch: Some(built),
        endpoint: None,
        inferred: None,
        identity,
        config: format!("{:016x}", hash64(&[text.as_bytes()])),
        transform: transforms::of_destination(pipeline, destination, platform)?,
    })
}

/// What tells this destination from every other one, for all workers of a fleet: the index and the servers, whatever order a
/// worker's config has them in.
fn identity(index: &str, origins: &[Origin]) -> String {
    let mut servers: Vec<String> = origins.iter().map(|origin| origin.url("")).collect();
    servers.sort();
    servers.dedup();
    format!("opensearch {index} {}", servers.join(" "))
}

fn settings(file: &config::OpenSearch) -> OpenSearchSettings {
    OpenSearchSettings {
        index: file.index.clone(),
        rotation: match file.rotation {
            config::Rotation::None => Rotation::None,
            config::Rotation::Hourly => Rotation::Hourly,
            config::Rotation::Daily => Rotation::Daily,
            config::Rotation::Weekly => Rotation::Weekly,
            config::Rotation::Monthly => Rotation::Monthly,
        },
        document_id: match &file.document_id {
            config::DocumentId::Generated => DocumentId::Generated,
            config::DocumentId::None => DocumentId::None,
            config::DocumentId::Expression { create, .. } => DocumentId::Expression { create: *create },
        },
        data_stream: file.data_stream,
        routing: file.routing.is_some(),
        serverless: matches!(file.auth, config::OpenSearchAuth::SigV4 { serverless: true, .. }),
        gzip: file.gzip,
        limits: limits(file),
        retry_for: retry_for(file.retry),
    }
}

pub(crate) fn retry_for(retry: config::RetryFor) -> RetryFor {
    match retry {
        config::RetryFor::UntilRetention => RetryFor::UntilRetention,
        config::RetryFor::Time(time) => RetryFor::Time(time),
        config::RetryFor::Forever => RetryFor::Forever,
    }
}

fn limits(file: &config::OpenSearch) -> BatchLimits {
    BatchLimits {
        size_bytes: file.buffer_bytes,
        interval: file.buffer_interval,
        shards_max: LANE_SHARDS_MAX,
        partitions_max: None,
    }
}

fn auth(config: &Config, file: &config::OpenSearch, platform: &Platform) -> Result<Auth, WorkerError> {
    Ok(match &file.auth {
        config::OpenSearchAuth::None => Auth::None,
        config::OpenSearchAuth::Basic { user, password } => {
            let (password, env) = (password.clone(), platform.outside.env);
            Auth::Basic {
                user: user.clone(),
                password: Password::new(move || password.read(&env).map_err(|error| error.to_string())),
            }
        }
        config::OpenSearchAuth::SigV4 { serverless, region } => {
            let known = platform.sdk.region().map(ToString::to_string);
            let region = region.clone().or_else(|| config.aws.region.clone()).or(known);
            let unknown = || WorkerError::Findings("no region is known for the signatures of OpenSearch".to_owned());
            let name = if *serverless { "aoss" } else { "es" };
            Auth::SigV4(Signer::new(&platform.sdk, name, &region.ok_or_else(unknown)?, platform.clock.clone()))
        }
    })
}

/// What ids of documents are made of beside the record's place: the stream, whose leases and which destination it is, and
/// what makes its documents. Two destinations that share an index have ids of their own; so has what a record becomes
/// after its transforms were changed: a document may then be there twice, and none is taken for another that is there.
pub(crate) fn known_by(pipeline: &config::Pipeline, id: &DestinationId, stream: &StreamIdentity) -> String {
    let when = pipeline.destinations.iter().find(|one| one.id() == id).and_then(config::Destination::when);
    let made_by = hash64(&[format!("{:?} {when:?}", pipeline.transforms).as_bytes()]);
    format!("{} {} {} {id} {made_by:016x}", stream.arn, stream.created.0, pipeline.lease.table)
}

/// The programs of id and routing, in this order.
fn expressions(file: &config::OpenSearch) -> Result<Option<Arc<dyn Expressions>>, WorkerError> {
    let id = match &file.document_id {
        config::DocumentId::Expression { program, .. } => Some(program.as_str()),
        config::DocumentId::Generated | config::DocumentId::None => None,
    };
    let programs: Vec<&str> = id.into_iter().chain(file.routing.as_deref()).collect();
    if programs.is_empty() {
        return Ok(None);
    }
    let texts = Texts::new(&programs, transforms::limits());
    let texts = texts.map_err(|error| WorkerError::Findings(error.to_string()))?;
    Ok(Some(Arc::new(Programs(texts))))
}

#[derive(Debug)]
struct Programs(Texts);

impl Expressions for Programs {
    fn texts(&self, data: &[u8]) -> Result<Vec<Option<String>>, String> {
        self.0.of(data).map_err(|fault| format!("{}: {}", fault.code, fault.message))
    }
}

/// Where refused records lie, and the backup.
pub(crate) fn objects(
    (config, pipeline): (&Config, &config::Pipeline),
    (refused, kept): (&config::Refused, Option<&config::Backup>),
    limits: BatchLimits,
    platform: &Platform,
) -> S3 {
    let settings = S3Settings {
        bucket: refused.bucket.clone(),
        // There are no data objects.
        prefix: refused.error_prefix.clone(),
        error_prefix: refused.error_prefix.clone(),
        pipeline: pipeline.name.clone(),
        time_zone: TimeZone::UTC,
        format: Format::JsonLines { delimiter: Delimiter::Newline },
        compression: Compression::None,
        file_extension: None,
        limits,
        kms: refused.kms_key.clone(),
        expected_owner: refused.bucket_owner.clone(),
        backup: kept.map(backup),
        lost_object: LostObject::Replay,
        publish: Publish::default(),
    };
    let sdk = service(&platform.sdk, config.aws.s3_endpoint.as_ref(), None);
    S3::new(&sdk, settings, platform.offload.clone(), platform.random.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_knows_its_servers_in_any_order() {
        let origins =
            |urls: &[&str]| urls.iter().map(|url| Origin::parse(url).expect("an address")).collect::<Vec<_>>();
        let one = identity("logs", &origins(&["https://b:9200", "https://a:9200", "https://b:9200/"]));
        assert_eq!(one, "opensearch logs https://a:9200 https://b:9200");
        assert_eq!(identity("logs", &origins(&["https://a:9200", "https://b:9200"])), one);
        assert_ne!(identity("logs", &origins(&["https://a:9200/tenant", "https://b:9200"])), one);
        assert_eq!(identity("logs", &origins(&["https://a"])), "opensearch logs https://a", "as it always was");
    }
}
