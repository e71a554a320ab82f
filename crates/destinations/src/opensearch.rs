//! OpenSearch and Elasticsearch: `batch -> stage`, where staging is the delivery, by bulk requests.
//!
//! Invariants: a document's id (`document_id: generated`) and its index depend on its record alone, so that a record that is
//! delivered again by whomever is there once; an answer acknowledges what it says of each document and nothing else
//! ([`answer`]); a record never becomes more than one document ([`document`]); trouble of the whole service is never held
//! against a record. Records that are refused, and the backup, become objects of an S3 destination of its own.
//! Never: publishes anything; a log of what a record holds, or of what the server says of one.

mod action;
mod answer;
mod document;
mod look;
mod nodes;
mod plan;
mod progress;
mod send;
mod size;
mod window;

use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use standpipe_flow::deliver::ExtraObject;
use standpipe_flow::offload::Offload;
use standpipe_flow::{
    Batch, BatchLimits, Clock, CommitId, DeliveryError, Destination, Detail, Document, Look, Millis, Mode, Output,
    Published, Random, Receipt, RejectedRecord, Staged,
};

use crate::http::Http;
use crate::s3::S3;
pub use action::Rotation;
pub use document::append as append_document;
use nodes::Nodes;
pub use nodes::{Auth, Password};
pub(crate) use plan::gzip;
use progress::{Kept, Progress, locked};
use size::Size;
use window::Window;

/// `error-output-type` of documents that were refused: Firehose's.
pub const OPENSEARCH_FAILED: &str = "AmazonOpenSearchService-failed";
/// A record that is no document; the code that Firehose has for it.
const MALFORMED: &str = "OS.MalformedData";
/// A document of this id was there before, and `action: create` says that it stays.
const DOCUMENT_EXISTS: &str = "document-exists";
/// The expression of the id, or of the routing, gave nothing that can be one.
const NO_ID: &str = "OS.InvalidDocumentId";

/// What the id of a document is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DocumentId {
    /// A function of the record's place in its stream: it is there once, however often it was sent.
    #[default]
    Generated,
    /// The server's: cheaper, and a record that is sent again is there twice.
    None,
    /// What the first of the [`Expressions`] gives.
    Expression {
        /// The first document of an id stays, and another is an error record; otherwise the last one stays.
        create: bool,
    },
}

/// Texts of a record: the id of its document and its routing. What runs them is not known here.
pub trait Expressions: fmt::Debug + Send + Sync + 'static {
    /// The first output of each expression over a record, as text; none for null.
    ///
    /// # Errors
    /// What is wrong with the record, without its content.
    fn texts(&self, data: &[u8]) -> Result<Vec<Option<String>>, String>;
}

/// What one destination is configured to do.
#[derive(Clone, Debug)]
pub struct OpenSearchSettings {
    /// The index, or what its name begins with; or the data stream.
    pub index: String,
    /// What is put behind it.
    pub rotation: Rotation,
    /// What the ids of documents are.
    pub document_id: DocumentId,
    /// The index is a data stream: documents are only ever created, and have a `@timestamp`.
    pub data_stream: bool,
    /// The last of the [`Expressions`] gives the routing.
    pub routing: bool,
    /// A collection of OpenSearch Serverless.
    pub serverless: bool,
    /// Requests are compressed.
    pub gzip: bool,
    /// What one batch may weigh.
    pub limits: BatchLimits,
    /// How long one batch may be refused by a server that answers.
    pub retry_for: RetryFor,
}

/// How long one batch may be refused by a server that answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RetryFor {
    /// Half of the time that the stream keeps records.
    #[default]
    UntilRetention,
    /// So long.
    Time(Duration),
    /// Without end.
    Forever,
}

impl RetryFor {
    /// That time, for a stream that keeps records for so long (zero: not known); `None`: without end.
    pub(crate) fn most(self, retention: Duration) -> Option<Duration> {
        /// Half of the least that a stream keeps.
        const UNKNOWN: Duration = Duration::from_secs(12 * 3600);
        match self {
            Self::Time(time) => Some(time),
            Self::Forever => None,
            Self::UntilRetention => Some(if retention.is_zero() { UNKNOWN } else { retention / 2 }),
        }
    }
}

/// The stream that the records come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct From {
    /// What tells it from every other one: part of the ids.
    pub stream: Arc<str>,
    /// How long it keeps records; zero if that is not known.
    pub retention: Duration,
}

/// What it stands on.
pub struct Seams {
    /// The client.
    pub http: Http,
    /// Where the servers are, and as whom we come.
    pub servers: (Vec<crate::http::Origin>, Auth),
    /// Id and routing, where they come from expressions, in this order.
    pub expressions: Option<Arc<dyn Expressions>>,
    /// Error and backup objects; without it there are none, and nothing is ever given up.
    pub objects: Option<Arc<S3>>,
    /// Deadlines and pauses.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub random: Arc<dyn Random>,
    /// Where requests are built.
    pub offload: Arc<dyn Offload>,
}

/// A cluster, a domain or a collection.
pub struct OpenSearch {
    settings: Arc<OpenSearchSettings>,
    nodes: Nodes,
    expressions: Option<Arc<dyn Expressions>>,
    objects: Option<Arc<S3>>,
    window: Window,
    kept: Kept,
    from: OnceLock<From>,
    size: Mutex<Size>,
    /// Large requests in a row that broke without an answer.
    broken: AtomicUsize,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    offload: Arc<dyn Offload>,
}

impl fmt::Debug for OpenSearch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenSearch").field("index", &self.settings.index).field("nodes", &self.nodes).finish()
    }
}

impl OpenSearch {
    /// A destination over a client of its own.
    pub fn new(settings: OpenSearchSettings, seams: Seams) -> Self {
        let Seams { http, servers: (origins, auth), expressions, objects, clock, random, offload } = seams;
        Self {
            settings: Arc::new(settings),
            nodes: Nodes::new(http, origins, auth, clock.clone()),
            expressions,
            objects,
            window: Window::default(),
            kept: Kept::default(),
            from: OnceLock::new(),
            size: Mutex::default(),
            broken: AtomicUsize::new(0),
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
    pub fn reads_from(&self, from: From) {
        let _ = self.from.set(from);
    }

    fn from(&self) -> Result<&From, DeliveryError> {
        let cause = || "nobody has said which stream the records come from".to_owned();
        self.from.get().ok_or_else(|| DeliveryError::Halt { cause: cause() })
    }

    /// How long a batch may be refused; `None`: for ever.
    fn retry_max(&self) -> Option<Duration> {
        self.settings.retry_for.most(self.from.get().map_or(Duration::ZERO, |from| from.retention))
    }

    /// How large a request may be. Not held over a wait.
    fn size(&self) -> MutexGuard<'_, Size> {
        // A poisoned lock holds one that is whole: each change is a few assignments of numbers.
        self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of a request at most.
    fn request_bytes(&self) -> usize {
        self.size().most()
    }

    fn objects_or_halt(&self) -> Result<&Arc<S3>, DeliveryError> {
        let cause = || "there is an object to be written, and no `backup` says where".to_owned();
        self.objects.as_ref().ok_or_else(|| DeliveryError::Halt { cause: cause() })
    }

    /// The records that were refused for good, with the reasons.
    fn rejected(&self, batch: &Batch, progress: &Progress, stream: &str) -> Vec<RejectedRecord> {
        let mut rejected = Vec::new();
        let mut refused = progress.rejected().peekable();
        for (number, of) in (0_u32..).zip(batch.records_with_lease()) {
            let Some((_, refusal)) = refused.next_if(|(record, _)| *record == number) else { continue };
            let said = &refusal.said;
            let mut record = RejectedRecord::of(of, OPENSEARCH_FAILED, said.code, said.message.clone());
            record.attempts = refusal.attempts;
            let id = match (&refusal.id, self.settings.document_id) {
                (Some(id), _) => id.to_string(),
                (None, DocumentId::Generated) => action::generated_id(stream, of.0, of.1),
                (None, _) => String::new(),
            };
            let index = self.settings.index_of(of.1.arrival);
            record.detail = Detail::Document(Arc::new(Document { id, index, serverless: self.settings.serverless }));
            rejected.push(record);
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

    /// How long to wait after the `tried`th time that nothing was taken: twice as long each time, up to a quarter more.
    fn pause(&self, tried: u32) -> Duration {
        let pause = 100_u64 << tried.min(5);
        Duration::from_millis(pause + self.random.below(1 + pause / 4))
    }
}

impl OpenSearchSettings {
    fn index_of(&self, arrival: Millis) -> String {
        format!("{}{}", self.index, self.rotation.suffix(arrival))
    }

    fn operation(&self) -> action::Operation {
        match self.document_id {
            _ if self.data_stream => action::Operation::Create,
            DocumentId::Generated | DocumentId::Expression { create: true } => action::Operation::Create,
            DocumentId::None | DocumentId::Expression { create: false } => action::Operation::Index,
        }
    }
}

#[async_trait]
impl Destination for OpenSearch {
    fn mode(&self) -> Mode {
        Mode::Idempotent
    }

    fn limits(&self) -> BatchLimits {
        self.settings.limits
    }

    async fn probe(&self) -> Result<(), DeliveryError> {
        // A collection has no root, and no cluster; one without an index of that name is there all the same.
        let path =
            if self.settings.serverless { format!("/_cat/indices/{}*", self.settings.index) } else { "/".to_owned() };
        let answer = self.nodes.look(&path).await?;
        if answer.status != 404 || !self.settings.serverless {
            answer::plain(&answer)?;
        }
        match &self.objects {
            Some(objects) => objects.probe().await,
            None => Ok(()),
        }
    }

    async fn look(&self, make: bool, seen: &mut Vec<Look>) {
        look::all(self, seen).await;
        if let Some(objects) = &self.objects {
            objects.look(make, seen).await;
        }
    }

    async fn stage(&self, cid: CommitId, batch: &Arc<Batch>) -> Result<Staged, DeliveryError> {
        let records = batch.records().count();
        let mut staged = Staged::default();
        if records > 0 {
            let stream = &self.from()?.stream;
            let progress = self.kept.of(cid, records);
            send::deliver(self, batch, &progress, stream).await?;
            let progress = locked(&progress);
            staged.delivered_bytes = progress.sent_bytes();
            staged.rejected = self.rejected(batch, &progress, stream);
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
