//! HTTP endpoints that speak Firehose's delivery protocol 1.0: `batch -> stage`, where staging is the delivery.
//!
//! Invariants: a batch is cut into requests by itself and the settings alone, and a request's id is made of the commit id
//! and of the records in it ([`request`]): whoever sends a declared batch again sends the same records under the same ids,
//! and no id ever stands for other records. What is no answer by the protocol's rules acknowledges nothing ([`answer`]). A
//! request without records is never sent. Records that are refused for good, and the backup, become objects of an S3
//! destination of its own.
//! Never: publishes anything; a log of the key, of the address behind the host, of what a record holds or a server says.

mod answer;
mod progress;
mod request;
mod send;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use secrecy::{ExposeSecret, SecretString};
use standpipe_flow::deliver::ExtraObject;
use standpipe_flow::offload::Offload;
use standpipe_flow::{
    Batch, BatchLimits, Clock, CommitId, DeliveryError, Destination, Millis, Mode, Output, Published, Random, Receipt,
    RejectedRecord, Staged,
};
use tokio::sync::Semaphore;

use crate::http::{Bounds, Http, HttpError, Origin, Request};
use crate::opensearch::RetryFor;
use crate::s3::S3;
use progress::{Kept, Progress, locked};

/// `error-output-type` of records that were not taken: Firehose's.
pub use standpipe_convert::HTTP_ENDPOINT_FAILED;

/// Bytes of all requests that are being built or under way, before compression, of one destination: two of the largest.
const UNDER_WAY_BYTES: usize = 128 << 20;
/// Bytes of a key: the protocol's.
const KEY_BYTES_MAX: usize = 4_096;
/// How long the probe may take.
const PROBE_MAX: Duration = Duration::from_secs(10);

/// An address, sent as it was written. Shown without what comes behind the host: that may hold a token.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    origin: Origin,
    path: String,
}

impl Url {
    /// Reads `http[s]://host[:port][/path][?query]`; no user, no fragment.
    pub fn parse(url: &str) -> Option<Self> {
        Origin::and_path(url).map(|(origin, path)| Self { origin, path })
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.origin)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.origin)
    }
}

/// The value of a header that may be secret, and may change. Never shown.
#[derive(Clone)]
pub struct HeaderSecret(Arc<dyn Fn() -> Result<SecretString, String> + Send + Sync>);

impl HeaderSecret {
    /// Reads the value by this, for every request.
    pub fn new(read: impl Fn() -> Result<SecretString, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// The value now. Somebody must act when there is none.
    fn value(&self, what: &str, most: usize) -> Result<String, DeliveryError> {
        let halt = |cause: String| DeliveryError::Halt { cause };
        let secret = (self.0)().map_err(halt)?;
        let text = secret.expose_secret();
        if text.len() > most {
            return Err(halt(format!("{what} has more than {most} bytes")));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
            return Err(halt(format!("{what} has characters that no header can have")));
        }
        Ok(text.to_owned())
    }
}

impl fmt::Debug for HeaderSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeaderSecret")
    }
}

/// What one destination is configured to do.
#[derive(Clone, Debug)]
pub struct EndpointSettings {
    /// Where requests go.
    pub url: Url,
    /// `X-Amz-Firehose-Access-Key`; `None`: the header is left out.
    pub access_key: Option<HeaderSecret>,
    /// Requests are compressed.
    pub gzip: bool,
    /// `commonAttributes`, in their order.
    pub common_attributes: Vec<(String, String)>,
    /// Further headers.
    pub headers: Vec<(String, HeaderSecret)>,
    /// Any status of success is an acknowledgement, whatever the body says.
    pub any_2xx: bool,
    /// Bytes of record data in one request; a larger record is alone in its own.
    pub request_data_bytes: u64,
    /// What one batch may weigh.
    pub limits: BatchLimits,
    /// How long one batch may be refused by a server that answers.
    pub retry_for: RetryFor,
}

/// The stream that the records come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// `X-Amz-Firehose-Source-Arn`.
    pub arn: String,
    /// How long the stream keeps records; zero if that is not known.
    pub retention: Duration,
}

/// What it stands on.
pub struct Seams {
    /// The client.
    pub http: Http,
    /// Error and backup objects; without it there are none, and nothing is ever given up.
    pub objects: Option<Arc<S3>>,
    /// Deadlines, pauses and `timestamp`.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub random: Arc<dyn Random>,
    /// Where requests are built.
    pub offload: Arc<dyn Offload>,
}

/// An HTTP endpoint.
pub struct Endpoint {
    settings: Arc<EndpointSettings>,
    /// `X-Amz-Firehose-Common-Attributes`.
    attributes: String,
    http: Http,
    objects: Option<Arc<S3>>,
    kept: Kept,
    source: OnceLock<Source>,
    /// Places for requests, one a MiB.
    places: Semaphore,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    offload: Arc<dyn Offload>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("url", &self.settings.url).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// A destination over a client of its own.
    pub fn new(settings: EndpointSettings, seams: Seams) -> Self {
        let Seams { http, objects, clock, random, offload } = seams;
        Self {
            attributes: request::common_attributes(&settings.common_attributes),
            settings: Arc::new(settings),
            http,
            objects,
            kept: Kept::default(),
            source: OnceLock::new(),
            places: Semaphore::new(UNDER_WAY_BYTES >> 20),
            clock,
            random,
            offload,
        }
    }

    /// The S3 destination of its error and backup objects.
    pub fn objects(&self) -> Option<&Arc<S3>> {
        self.objects.as_ref()
    }

    /// Says which stream the records come from; once, before the first batch.
    pub fn reads_from(&self, source: Source) {
        let _ = self.source.set(source);
    }

    fn source(&self) -> Result<&Source, DeliveryError> {
        let cause = || "nobody has said which stream the records come from".to_owned();
        self.source.get().ok_or_else(|| DeliveryError::Halt { cause: cause() })
    }

    /// How long a batch may be refused; `None`: for ever.
    fn retry_max(&self) -> Option<Duration> {
        let retention = self.source.get().map_or(Duration::ZERO, |source| source.retention);
        self.settings.retry_for.most(retention)
    }

    fn objects_or_halt(&self) -> Result<&Arc<S3>, DeliveryError> {
        let cause = || "there is an object to be written, and no `backup` says where".to_owned();
        self.objects.as_ref().ok_or_else(|| DeliveryError::Halt { cause: cause() })
    }

    /// Protocol 1.0: `min(120 s, 1 s x 2^failures)`, times 0.85 to 1.15.
    fn pause(&self, failures: u32) -> Duration {
        let millis = (1_000_u64 << failures.min(7)).min(120_000);
        Duration::from_millis(millis * (850 + self.random.below(301)) / 1_000)
    }

    /// The headers of a request.
    fn headers(&self, id: &str) -> Result<Vec<(String, String)>, DeliveryError> {
        let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut headers = vec![
            own("content-type", "application/json"),
            own("x-amz-firehose-protocol-version", "1.0"),
            own("x-amz-firehose-request-id", id),
            own("x-amz-firehose-source-arn", &self.source()?.arn),
            own("x-amz-firehose-common-attributes", &self.attributes),
        ];
        if let Some(key) = &self.settings.access_key {
            headers.push(own("x-amz-firehose-access-key", &key.value("the access key", KEY_BYTES_MAX)?));
        }
        if self.settings.gzip {
            headers.push(own("content-encoding", "gzip"));
        }
        for (name, value) in &self.settings.headers {
            headers.push(own(name, &value.value(&format!("the header {name:?}"), KEY_BYTES_MAX)?));
        }
        Ok(headers)
    }

    /// The records that were refused for good, with the reasons.
    fn rejected(batch: &Batch, progress: &Progress) -> Vec<RejectedRecord> {
        let index = request::Index::new(batch);
        let mut rejected = Vec::new();
        for part in progress.rejected() {
            for of in index.records(batch, &part.range) {
                let mut record =
                    RejectedRecord::of(of, HTTP_ENDPOINT_FAILED, part.said.code, part.said.message.clone());
                record.attempts = part.attempts;
                rejected.push(record);
            }
        }
        rejected
    }

    /// The backup of a batch: its source records as they were read, if they were kept.
    async fn back_up(&self, cid: CommitId, batch: &Arc<Batch>) -> Result<Staged, DeliveryError> {
        let Some(objects) = self.objects.as_ref().filter(|_| batch.originals().next().is_some()) else {
            return Ok(Staged::default());
        };
        let mut kept = Batch::clone(batch);
        kept.shards.iter_mut().flat_map(|shard| &mut shard.chunks).for_each(|chunk| chunk.records = Vec::new());
        objects.stage(cid, &Arc::new(kept)).await
    }
}

#[async_trait]
impl Destination for Endpoint {
    fn mode(&self) -> Mode {
        Mode::Declared
    }

    fn limits(&self) -> BatchLimits {
        self.settings.limits
    }

    /// The protocol has no request without records, so this asks for nothing but an answer, of any status, and shows no key.
    async fn probe(&self) -> Result<(), DeliveryError> {
        if let Some(key) = &self.settings.access_key {
            key.value("the access key", KEY_BYTES_MAX)?;
        }
        let url = &self.settings.url;
        let request = Request { method: Method::HEAD, path: url.path.clone(), headers: Vec::new(), body: Bytes::new() };
        match self.http.send(&url.origin, &request, Bounds::within(PROBE_MAX)).await {
            Ok(_) | Err(HttpError::TooLarge { .. }) => {}
            Err(error @ (HttpError::Refused { .. } | HttpError::Malformed(_))) => {
                return Err(DeliveryError::Halt { cause: error.to_string() });
            }
            Err(error) => return Err(DeliveryError::Retry { after: None, cause: error.to_string() }),
        }
        match &self.objects {
            Some(objects) => objects.probe().await,
            None => Ok(()),
        }
    }

    async fn stage(&self, cid: CommitId, batch: &Arc<Batch>) -> Result<Staged, DeliveryError> {
        let mut staged = Staged::default();
        if batch.records().next().is_some() {
            let progress = send::deliver(self, cid, batch).await?;
            let progress = locked(&progress);
            staged.delivered_bytes = progress.sent_bytes();
            staged.rejected = Self::rejected(batch, &progress);
        }
        let backup = self.back_up(cid, batch).await?;
        Ok(Staged {
            outputs: backup.outputs,
            created_at: backup.created_at,
            next_ordinal: backup.next_ordinal,
            ..staged
        })
    }

    async fn stage_extra(
        &self,
        cid: CommitId,
        object: &ExtraObject,
    ) -> Result<(Output, Option<Millis>), DeliveryError> {
        self.objects_or_halt()?.stage_extra(cid, object).await
    }

    async fn publish(&self, receipt: &Receipt) -> Result<Published, DeliveryError> {
        if receipt.outputs.is_empty() {
            return Ok(Published::All);
        }
        self.objects_or_halt()?.publish(receipt).await
    }

    async fn discard(&self, dead: &[Output]) -> Result<(), DeliveryError> {
        if dead.is_empty() { Ok(()) } else { self.objects_or_halt()?.discard(dead).await }
    }

    async fn write_incident(&self, cid: CommitId, body: Bytes) -> Result<(), DeliveryError> {
        self.objects_or_halt()?.write_incident(cid, body).await
    }
}

#[cfg(test)]
mod tests;
