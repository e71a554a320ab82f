//! The core: which endpoint a request is for, what fate it meets, and the helpers of tests and load generators.
//!
//! A call that takes time runs in a task of its own, so that a request which has been sent arrives even if its sender
//! is gone, as it would on a network. A call that takes none runs in its caller.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::http::HeaderValue;
use ::http::header::DATE;
use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::call::{Call, Service, classify, s3_detail};
use crate::dynamodb::{self, DynamoDb, Items};
use crate::fault::{Fate, Faults, Instead, Latency};
use crate::http::{Answer, Lost, Request, http_date, json_error, xml_error};
use crate::in_process::Connection;
use crate::kinesis::{Kinesis, KinesisError, Placed, Settings};
use crate::lambda::{self, Lambda, Reply};
use crate::s3::{BucketError, ObjectSummary, S3, UploadSummary};
use crate::trace::{Trace, TraceEntry, lock};

/// The time, epoch milliseconds. It must not run backwards.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What a CompleteMultipartUpload answers when the upload has been completed already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RepeatComplete {
    /// NoSuchUpload: the harsher of the two that are seen in the field.
    #[default]
    NoSuchUpload,
    /// The first answer once more.
    Succeeds,
}

/// How an emulator is set up.
#[derive(Clone)]
pub struct Options {
    /// Where everything is kept; in memory without it.
    pub data_dir: Option<PathBuf>,
    /// The time.
    pub clock: Clock,
    /// Whether the limits of Kinesis shards hold.
    pub limits: bool,
    /// Seed of the faults' probabilities and of the latency.
    pub seed: u64,
    /// How long requests travel in process; nothing by default.
    pub latency: Latency,
    /// Whether every call is recorded.
    pub trace: bool,
    /// What a repeated complete answers.
    pub repeat_complete: RepeatComplete,
    /// How long a stream keeps its records, milliseconds: 24 hours by default.
    pub retention_millis: u64,
    /// How long a stream is CREATING or UPDATING after a change, milliseconds: nothing by default.
    pub stream_change_millis: u64,
    /// How long a consumer of a stream is CREATING, milliseconds: nothing by default.
    pub consumer_change_millis: u64,
    /// How long a subscription to a shard lives, milliseconds: five minutes by default, as in the API reference.
    pub subscription_millis: u64,
}

impl Options {
    /// In memory, with limits, without faults, latency and trace.
    pub fn new(clock: Clock) -> Self {
        Self {
            data_dir: None,
            clock,
            limits: true,
            seed: 0,
            latency: Latency::default(),
            trace: false,
            repeat_complete: RepeatComplete::default(),
            retention_millis: 24 * 3_600_000,
            stream_change_millis: 0,
            consumer_change_millis: 0,
            subscription_millis: 300_000,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("data_dir", &self.data_dir)
            .field("limits", &self.limits)
            .field("seed", &self.seed)
            .field("latency", &self.latency)
            .field("trace", &self.trace)
            .finish_non_exhaustive()
    }
}

/// The data directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the emulator's data of {service}")]
pub struct OpenError {
    service: Service,
    source: io::Error,
}

/// The endpoints.
pub struct Emulator {
    clock: Clock,
    kinesis: Kinesis,
    dynamodb: DynamoDb,
    s3: S3,
    lambda: Lambda,
    faults: Faults,
    trace: Trace,
    under_way: Mutex<JoinSet<()>>,
    answers: AtomicU64,
}

impl fmt::Debug for Emulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emulator").field("faults", &self.faults).finish_non_exhaustive()
    }
}

impl Emulator {
    /// Opens the endpoints, with what an earlier run left in the data directory.
    ///
    /// # Errors
    /// When the data directory cannot be read or written.
    pub fn new(options: Options) -> Result<Arc<Self>, OpenError> {
        let Options { data_dir, clock, limits, seed, latency, trace, .. } = options;
        let failed = |service| move |source| OpenError { service, source };
        if let Some(dir) = &data_dir {
            std::fs::create_dir_all(dir).map_err(failed(Service::S3))?;
        }
        let settings = Settings {
            limits,
            retention_millis: options.retention_millis,
            change_millis: options.stream_change_millis,
            consumer_change_millis: options.consumer_change_millis,
            subscription_millis: options.subscription_millis,
            dir: data_dir.as_ref().map(|dir| dir.join("kinesis")),
        };
        let tables = data_dir.as_ref().map(|dir| dir.join("dynamodb.sqlite"));
        let kinesis = Kinesis::open(clock.clone(), settings).map_err(failed(Service::Kinesis))?;
        let dynamodb = DynamoDb::open(clock.clone(), tables).map_err(failed(Service::DynamoDb))?;
        let s3 = S3::open(clock.clone(), data_dir.as_deref(), options.repeat_complete).map_err(failed(Service::S3))?;
        Ok(Arc::new(Self {
            clock,
            kinesis,
            dynamodb,
            s3,
            lambda: Lambda::default(),
            faults: Faults::new(seed, latency),
            trace: Trace::new(trace),
            under_way: Mutex::default(),
            answers: AtomicU64::new(1),
        }))
    }

    /// A client's way to the endpoints, with a name of its own.
    pub fn connect(self: &Arc<Self>, name: &str) -> Connection {
        Connection::new(name, self.clone())
    }

    /// The faults, to add to.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The calls recorded since the last time it was asked, in the order of their effects.
    pub fn take_trace(&self) -> Vec<TraceEntry> {
        self.trace.take()
    }

    /// The time by the emulator's clock, epoch milliseconds.
    pub fn now_millis(&self) -> u64 {
        (self.clock)()
    }

    /// Makes a stream of equal shards.
    ///
    /// # Errors
    /// Those of CreateStream.
    pub fn create_stream(&self, name: &str, shards: usize) -> Result<(), KinesisError> {
        self.kinesis.create_named(name, shards)
    }

    /// Deletes a stream, at once and whatever it holds.
    ///
    /// # Errors
    /// ResourceNotFoundException.
    pub fn delete_stream(&self, name: &str) -> Result<(), KinesisError> {
        self.kinesis.delete_named(name)
    }

    /// The ids of the open shards, by hash key.
    ///
    /// # Errors
    /// ResourceNotFoundException.
    pub fn open_shards(&self, stream: &str) -> Result<Vec<String>, KinesisError> {
        self.kinesis.open_shards(stream)
    }

    /// Writes records (partition key and data) without HTTP and without the limits of a shard.
    ///
    /// # Errors
    /// Those of PutRecords that concern the whole request.
    pub fn put_records(&self, stream: &str, records: &[(String, Bytes)]) -> Result<Vec<Placed>, KinesisError> {
        self.kinesis.load(stream, records)
    }

    /// Splits an open shard in the middle of its hash range.
    ///
    /// # Errors
    /// Those of SplitShard.
    pub fn split_shard(&self, stream: &str, shard_id: &str) -> Result<(), KinesisError> {
        self.kinesis.split_named(stream, shard_id)
    }

    /// Merges two adjacent open shards.
    ///
    /// # Errors
    /// Those of MergeShards.
    pub fn merge_shards(&self, stream: &str, shard_id: &str, adjacent: &str) -> Result<(), KinesisError> {
        self.kinesis.merge_named(stream, shard_id, adjacent)
    }

    /// Scales a stream uniformly, without the daily limit.
    ///
    /// # Errors
    /// Those of UpdateShardCount.
    pub fn update_shard_count(&self, stream: &str, target: usize) -> Result<(), KinesisError> {
        self.kinesis.scale_named(stream, target)
    }

    /// Doubles a stream at once, as an on-demand stream is doubled by its load. Its mode stays what it was.
    ///
    /// # Errors
    /// ResourceNotFoundException.
    pub fn double_as_on_demand(&self, stream: &str) -> Result<(), KinesisError> {
        self.kinesis.double_named(stream)
    }

    /// Every shard that a stream ever had, with its parents, in the order in which they were made.
    ///
    /// # Errors
    /// ResourceNotFoundException.
    pub fn lineage(&self, stream: &str) -> Result<Vec<(String, Vec<String>)>, KinesisError> {
        self.kinesis.lineage(stream)
    }

    /// Makes a bucket, unless it is there already.
    ///
    /// # Errors
    /// When the name is none that S3 allows, or the data directory fails.
    pub fn create_bucket(&self, name: &str) -> Result<(), BucketError> {
        self.s3.ensure_bucket(name)
    }

    /// Makes a function: it gets each event, and may take its time. One of the same name is replaced.
    pub fn create_function<F>(&self, name: &str, function: impl Fn(Bytes) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        self.lambda.create(name, function);
    }

    /// Makes a function that answers at `host:port/path`: the event is POSTed there.
    pub fn forward_function(&self, name: &str, address: String) {
        self.lambda.forward(name, address);
    }

    /// Deletes a function. `false`: there is none.
    pub fn delete_function(&self, name: &str) -> bool {
        self.lambda.delete(name)
    }

    /// The objects of a bucket by key; none where there is no bucket.
    pub fn objects(&self, bucket: &str) -> Vec<ObjectSummary> {
        self.s3.objects(bucket)
    }

    /// The bytes of an object.
    pub fn object(&self, bucket: &str, key: &str) -> Option<Bytes> {
        self.s3.object(bucket, key)
    }

    /// Deletes an object, as its consumer might. `false`: there is none.
    pub fn delete_object(&self, bucket: &str, key: &str) -> bool {
        self.s3.delete_object(bucket, key)
    }

    /// The open uploads of a bucket by key and age.
    pub fn open_uploads(&self, bucket: &str) -> Vec<UploadSummary> {
        self.s3.open_uploads(bucket)
    }

    /// Aborts an open upload, as a lifecycle rule of the bucket would. `false`: there is none.
    pub fn abort_upload(&self, bucket: &str, key: &str, upload_id: &str) -> bool {
        self.s3.abort_upload(bucket, key, upload_id)
    }

    /// Answers one request.
    pub(crate) async fn call(self: &Arc<Self>, connection: &Arc<str>, request: Request) -> Result<Answer, Lost> {
        let (service, operation) = classify(&request);
        let items = match service {
            Service::DynamoDb => self.dynamodb.items(&operation, request.body()),
            Service::Kinesis | Service::S3 | Service::Lambda => Items::default(),
        };
        let detail = match service {
            Service::Kinesis => self.kinesis.detail(&operation, request.body()),
            Service::DynamoDb => self.dynamodb.detail(request.body(), &items),
            Service::S3 => s3_detail(&request),
            Service::Lambda => lambda::invoked(&request).unwrap_or_default(),
        };
        let call = Call { at_millis: self.now_millis(), connection: connection.clone(), service, operation, detail };
        let fate = self.faults.fate(&call);
        let head = request.method() == ::http::Method::HEAD;
        let sent = Sent { call, items, request, head, fate };
        if fate.is_prompt() {
            // Even a prompt answer lets other tasks run, as every answer from a network does.
            tokio::task::yield_now().await;
            let unanswered = sent.fate.unanswered;
            let answer = self.act(sent).await;
            return if unanswered { std::future::pending().await } else { answer };
        }
        let (answer, answered) = oneshot::channel();
        let emulator = self.clone();
        {
            let mut under_way = lock(&self.under_way);
            while under_way.try_join_next().is_some() {}
            under_way.spawn(async move {
                let repeat = sent.fate.repeat_millis.map(|millis| (millis, sent.again()));
                let after = sent.fate.after_millis;
                let result = emulator.travel(sent).await;
                pause(after).await;
                let _ = answer.send(result);
                if let Some((millis, again)) = repeat {
                    pause(millis).await;
                    let _ = emulator.act(again).await;
                }
            });
        }
        answered.await.unwrap_or(Err(Lost::Reset))
    }

    /// The way to the service, and its work.
    async fn travel(&self, sent: Sent) -> Result<Answer, Lost> {
        pause(sent.fate.before_millis).await;
        if sent.fate.hold_millis == 0 || !sent.fate.acts {
            return self.act(sent).await;
        }
        if let Some(refusal) = self.dynamodb.conflict(&sent.items) {
            return self.settle(&sent, Ok(refusal));
        }
        let hold = self.dynamodb.hold(&sent.items);
        pause(sent.fate.hold_millis).await;
        if let Some(hold) = hold {
            self.dynamodb.release(hold);
        }
        self.act(sent).await
    }

    /// The effect of a call, and its answer.
    async fn act(&self, mut sent: Sent) -> Result<Answer, Lost> {
        let Fate { acts, instead, refused, .. } = sent.fate;
        if refused {
            return self.settle(&sent, Err(Lost::Refused));
        }
        if !acts {
            let outcome = instead.map(|instead| replacement(instead, &sent)).ok_or(Lost::Reset);
            return self.settle(&sent, outcome);
        }
        let request = std::mem::take(&mut sent.request);
        let answer = match sent.call.service {
            Service::Kinesis if speaks_cbor(&request) => {
                let message = "only JSON is emulated: switch CBOR off (AWS_CBOR_DISABLED=1, aws.cborEnabled=false)";
                json_error(400, "1.1", "SerializationException", message)
            }
            Service::Kinesis => self.kinesis.call(&sent.call.operation, request.body(), sent.fate.events),
            Service::DynamoDb => match self.dynamodb.conflict(&sent.items) {
                Some(refusal) => refusal,
                None => self.dynamodb.call(&sent.call.operation, request.body()),
            },
            Service::S3 => self.s3.call(request).await,
            Service::Lambda => self.lambda.call(request).await,
        };
        let answer = instead.map(|instead| replacement(instead, &sent)).unwrap_or(answer);
        self.settle(&sent, Ok(answer))
    }

    /// Writes the trace, dates the answer, loses it where that is its fate.
    fn settle(&self, sent: &Sent, outcome: Result<Answer, Lost>) -> Result<Answer, Lost> {
        let now = self.now_millis();
        let lost = sent.fate.answer_lost;
        self.trace.record(|| TraceEntry {
            call: sent.call.clone(),
            acted_millis: now,
            outcome: match &outcome {
                Ok(answer) if lost => format!("{}, answer lost", in_short(answer)),
                Ok(answer) => in_short(answer),
                Err(lost) => lost.to_string(),
            },
        });
        let mut answer = outcome?;
        if lost {
            return Err(Lost::Reset);
        }
        if sent.head {
            // RFC 9110: the answer to HEAD has no body, so S3 says what is wrong by the status alone.
            *answer.body_mut() = Bytes::new().into();
        }
        let number = self.answers.fetch_add(1, Ordering::Relaxed);
        let id = HeaderValue::from_str(&format!("{number:016X}")).expect("hexadecimal digits are visible ASCII");
        let id_name = if sent.call.service == Service::S3 { "x-amz-request-id" } else { "x-amzn-requestid" };
        answer.headers_mut().insert(id_name, id);
        let date = HeaderValue::from_str(&http_date(now)).expect("a date has only visible ASCII");
        answer.headers_mut().insert(DATE, date);
        Ok(answer)
    }
}

/// A request with everything that was decided about it.
struct Sent {
    call: Call,
    items: Items,
    request: Request,
    head: bool,
    fate: Fate,
}

impl Sent {
    /// The same request as it will arrive once more.
    fn again(&self) -> Self {
        let mut request = Request::new(self.request.body().clone());
        *request.method_mut() = self.request.method().clone();
        *request.uri_mut() = self.request.uri().clone();
        *request.headers_mut() = self.request.headers().clone();
        let fate = Fate::default();
        Self { call: self.call.clone(), items: self.items.clone(), request, head: self.head, fate }
    }
}

/// Whether the body is CBOR, which the Java SDK speaks to Kinesis unless told otherwise.
fn speaks_cbor(request: &Request) -> bool {
    let kind = request.headers().get(::http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.contains("cbor"))
}

async fn pause(millis: u64) {
    if millis > 0 {
        sleep(Duration::from_millis(millis)).await;
    }
}

/// Status and error name of an answer.
fn in_short(answer: &Answer) -> String {
    let status = answer.status().as_u16();
    if answer.status().is_success() && !answer.body().bytes().windows(6).take(64).any(|part| part == b"<Error") {
        return status.to_string();
    }
    let body = String::from_utf8_lossy(answer.body().bytes());
    let json = body.split("\"__type\":\"").nth(1).and_then(|rest| rest.split('"').next());
    let xml = body.split("<Code>").nth(1).and_then(|rest| rest.split('<').next());
    let header = answer.headers().get("x-amzn-errortype").and_then(|kind| kind.to_str().ok());
    let name = json.or(xml).or(header).unwrap_or_default();
    let name = name.rsplit_once('#').map_or(name, |(_, name)| name);
    format!("{status} {name}")
}

/// The answer that a fault puts in the place of the true one.
fn replacement(instead: Instead, sent: &Sent) -> Answer {
    let message = "injected by a fault";
    match (instead, sent.call.service) {
        (Instead::Throttle, Service::Kinesis) => {
            json_error(400, "1.1", "ProvisionedThroughputExceededException", "Rate exceeded for shard")
        }
        (Instead::Throttle, Service::DynamoDb) => dynamodb::throttled(&sent.items),
        (Instead::Throttle, Service::Lambda) => lambda::refusal(429, "TooManyRequestsException", "Rate Exceeded."),
        (Instead::NotFound, Service::Lambda) => lambda::refusal(404, "ResourceNotFoundException", message),
        (Instead::InternalError, Service::Lambda) => lambda::refusal(500, "ServiceException", message),
        (Instead::Throttle, Service::S3) => xml_error(503, "SlowDown", "Please reduce your request rate."),
        (Instead::TransactionConflict, _) if sent.items.transaction => {
            let hits: Vec<_> = (0..sent.items.keys.len()).map(|index| index == 0).collect();
            dynamodb::cancelled(&hits, "TransactionConflict")
        }
        (Instead::TransactionConflict, _) => dynamodb::conflict(),
        (Instead::OkWithError, _) => {
            xml_error(200, "InternalError", "We encountered an internal error. Please try again.")
        }
        (Instead::NoSuchUpload, _) => xml_error(404, "NoSuchUpload", "The specified upload does not exist."),
        (Instead::ConditionalConflict, _) => xml_error(
            409,
            "ConditionalRequestConflict",
            "The conditional request cannot succeed due to a conflicting operation against this resource.",
        ),
        (Instead::NotFound, _) => {
            json_error(400, "1.1", "ResourceNotFoundException", "Stream or shard not found, says a fault.")
        }
        (Instead::InUse, _) => json_error(400, "1.1", "ResourceInUseException", "In use, says a fault."),
        (Instead::LimitExceeded, _) => json_error(400, "1.1", "LimitExceededException", "Too often, says a fault."),
        (Instead::ExpiredIterator, _) => json_error(400, "1.1", "ExpiredIteratorException", "Iterator expired."),
        (Instead::InternalError, Service::Kinesis) => json_error(500, "1.1", "InternalFailure", message),
        (Instead::InternalError, Service::DynamoDb) => {
            json_error(500, "1.0", "com.amazonaws.dynamodb.v20120810#InternalServerError", message)
        }
        (Instead::InternalError, Service::S3) => xml_error(500, "InternalError", message),
    }
}
