//! From the config to an HTTP endpoint.
//!
//! Never here: a request.

use std::sync::Arc;
use std::time::Duration;

use standpipe_config::config::{self, Config};
use standpipe_config::secrets::SecretRef;
use standpipe_destinations::endpoint::{Endpoint, EndpointSettings, HeaderSecret, Seams, Source, Url};
use standpipe_destinations::http::dial::{Dial, Tcp};
use standpipe_destinations::http::{Http, Trust};
use standpipe_flow::BatchLimits;
use standpipe_flow::hash::hash64;
use standpipe_source::StreamIdentity;

use crate::assemble::Assembled;
use crate::errors::WorkerError;
use crate::opensearch::{objects, retry_for};
use crate::platform::Platform;
use crate::transforms;

/// A connection, TLS included.
const CONNECT_MAX: Duration = Duration::from_secs(10);

pub(crate) fn assemble(
    (config, pipeline): (&Config, &config::Pipeline),
    (destination, file): (&config::Destination, &config::HttpEndpoint),
    platform: &Platform,
) -> Result<Assembled, WorkerError> {
    // The address may hold a token: what is not its host is told apart, and not shown.
    let unusable = || WorkerError::Findings(format!("{} has an address that cannot be asked", file.id));
    let url = Url::parse(&file.url).ok_or_else(unusable)?;
    let identity = format!("http {url} {:016x}", hash64(&[file.url.as_bytes()]));
    let trust = Trust::new(file.ca_file.as_deref()).map_err(WorkerError::Findings)?;
    let tcp = || Arc::new(Tcp { allow_private: file.allow_private }) as Arc<dyn Dial>;
    let dial = platform.outside.dial.clone().unwrap_or_else(tcp);
    let limits = BatchLimits {
        size_bytes: file.buffer_bytes,
        interval: file.buffer_interval,
        // A range is declared in the row of its own shard.
        shards_max: 1,
        partitions_max: None,
    };
    let refused = file.refused.as_ref();
    let objects =
        refused.map(|refused| Arc::new(objects((config, pipeline), (refused, file.backup.as_ref()), limits, platform)));
    let secret = |secret: &SecretRef| {
        let (secret, env) = (secret.clone(), platform.outside.env);
        HeaderSecret::new(move || secret.read(&env).map_err(|error| error.to_string()))
    };
    let settings = EndpointSettings {
        url,
        access_key: file.access_key.as_ref().map(secret),
        gzip: file.gzip,
        common_attributes: file.common_attributes.clone(),
        headers: file.headers.iter().map(|(name, value)| (name.clone(), secret(value))).collect(),
        any_2xx: file.any_2xx,
        request_data_bytes: file.buffer_bytes,
        limits,
        retry_for: retry_for(file.retry),
    };
    let seams = Seams {
        http: Http::new(dial, trust, CONNECT_MAX, platform.clock.clone()),
        objects: objects.clone(),
        clock: platform.clock.clone(),
        random: platform.random.clone(),
        offload: platform.offload.clone(),
    };
    let built = Arc::new(Endpoint::new(settings, seams));
    let text = format!("{} {:?}", file.gzip, file.common_attributes);
    Ok(Assembled {
        id: file.id.clone(),
        destination: built.clone(),
        s3: objects,
        opensearch: None,
        endpoint: Some(built),
        inferred: None,
        identity,
        config: format!("{:016x}", hash64(&[text.as_bytes()])),
        transform: transforms::of_destination(pipeline, destination, platform)?,
    })
}

/// What requests say of where their records come from: an ARN as a delivery stream of the pipeline's name would have it in
/// the region and account of the stream, or the one that is configured.
pub(crate) fn source(
    pipeline: &config::Pipeline,
    destination: &standpipe_flow::DestinationId,
    stream: &StreamIdentity,
) -> Source {
    let configured = pipeline.destinations.iter().find_map(|one| match one {
        config::Destination::Http(http) if http.id == *destination => http.source_arn.clone(),
        _ => None,
    });
    let of_stream = || {
        let parts: Vec<&str> = stream.arn.split(':').collect();
        let part = |at: usize, otherwise| parts.get(at).copied().filter(|part| !part.is_empty()).unwrap_or(otherwise);
        let (partition, region, account) = (part(1, "aws"), part(3, "us-east-1"), part(4, "000000000000"));
        format!("arn:{partition}:firehose:{region}:{account}:deliverystream/{}", pipeline.name)
    };
    Source { arn: configured.unwrap_or_else(of_stream), retention: stream.retention }
}
