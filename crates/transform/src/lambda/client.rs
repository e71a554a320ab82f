//! One attempt of an invocation: a signed POST (Invoke, API version 2015-03-31, `RequestResponse`), and what came of it.
//!
//! Built by hand on the SDK's own orchestrator, HTTP client and credentials: the SDK of Lambda is as large as all others
//! together, for one call. Never here: a second try, and what a record's fate is.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime_api::client::behavior_version::BehaviorVersion;
use aws_smithy_runtime_api::client::interceptors::context::{Error, Output};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse, OrchestratorError};
use aws_smithy_runtime_api::client::ser_de::DeserializeResponse;
use aws_smithy_runtime_api::client::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::SdkConfig;
use bytes::Bytes;
use standpipe_flow::Clock;

use super::answer::says_too_large;
use super::function::{Function, endpoint};

/// Firehose lets a function work for so long; what is added covers the way there and back.
const ATTEMPT_MAX: Duration = Duration::from_secs(300 + 10);
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Lambda answers with at most 6 MiB and a little ("exceeded maximum allowed payload size (6291556 bytes)").
const ANSWER_BYTES_MAX: usize = 6_291_556;
/// Credentials are asked for anew so long before they end.
const CREDENTIALS_SPARE: Duration = Duration::from_secs(60);
/// Of what a service says about a refusal, so much is shown.
const SAID_CHARS_MAX: usize = 300;

/// What came of an attempt.
#[derive(Debug)]
pub(super) enum Attempt {
    /// The function answered.
    Answered(Bytes),
    /// The function failed.
    FunctionError,
    /// The function did not answer in time.
    TimedOut,
    /// The request, or the answer, is more than Lambda lets through.
    TooLarge { answer: bool },
    /// The function was not asked, or its answer was lost: nothing is known against the records.
    Unavailable(Unavailable),
}

/// Why a function could not be asked.
#[derive(Debug)]
pub(super) struct Unavailable {
    /// The code that Firehose has for it, or one like it.
    pub(super) code: &'static str,
    /// The label of its metric.
    pub(super) label: &'static str,
    pub(super) cause: String,
}

impl Attempt {
    /// The label `result` of its metric.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Answered(_) => "answered",
            Self::FunctionError => "function_error",
            Self::TimedOut => "timeout",
            Self::TooLarge { .. } => "too_large",
            Self::Unavailable(why) => why.label,
        }
    }

    fn unreachable(cause: String) -> Self {
        Self::Unavailable(Unavailable { code: "Lambda.Unreachable", label: "unreachable", cause })
    }
}

/// The way to one function. Clones share connections and credentials.
#[derive(Clone, Debug)]
pub(super) struct Client {
    operation: Operation<Request, Reply, Infallible>,
    credentials: Option<SharedCredentialsProvider>,
    kept: Arc<Mutex<Option<Credentials>>>,
    clock: Arc<dyn Clock>,
    endpoint: String,
    path: String,
    region: String,
}

impl Client {
    pub(super) fn new(sdk: &SdkConfig, function: &Function, region: &str, clock: Arc<dyn Clock>) -> Self {
        let endpoint = endpoint(sdk, region);
        let mut operation = Operation::builder()
            .service_name("Lambda")
            .operation_name("Invoke")
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(&endpoint)
            .no_auth()
            .no_retry()
            .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT_MAX).build())
            // A function at work sends nothing for minutes; the attempt as a whole has its limit.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .serializer(|request: Request| Ok(request.0))
            .deserializer_impl(ReadReply);
        if let Some(http) = sdk.http_client() {
            operation = operation.http_client(http);
        }
        if let Some(sleep) = sdk.sleep_impl() {
            operation = operation.sleep_impl(sleep);
        }
        let (path, region) = (function.path(), region.to_owned());
        let credentials = sdk.credentials_provider();
        Self { operation: operation.build(), credentials, kept: Arc::default(), clock, endpoint, path, region }
    }

    /// Credentials, as long as they last: a provider asks somebody each time.
    pub(super) async fn credentials(&self) -> Result<Credentials, Attempt> {
        let soon = UNIX_EPOCH + Duration::from_millis(self.clock.wall().0) + CREDENTIALS_SPARE;
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(kept) = kept.filter(|kept| kept.expiry().is_none_or(|expiry| expiry > soon)) {
            return Ok(kept);
        }
        let none =
            |cause| Attempt::Unavailable(Unavailable { code: "Lambda.NoCredentials", label: "no_credentials", cause });
        let provider = self.credentials.as_ref().ok_or_else(|| none("nobody gives credentials".to_owned()))?;
        let credentials = provider.provide_credentials().await.map_err(|error| none(causes(&error)))?;
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(credentials.clone());
        Ok(credentials)
    }

    /// The request that carries an event. Long work for a large one: it is hashed.
    pub(super) fn request(&self, credentials: Credentials, event: Vec<u8>) -> Result<Request, Attempt> {
        // What is wrong with an address or a key does not end by itself, but somebody may mend it.
        self.signed(credentials, event).map(Request).map_err(|error| {
            let (code, label) = ("Lambda.InvalidRequest", "refused");
            Attempt::Unavailable(Unavailable { code, label, cause: causes(error.as_ref()) })
        })
    }

    fn signed(&self, credentials: Credentials, event: Vec<u8>) -> Result<HttpRequest, BoxError> {
        const HEADERS: [(&str, &str); 2] =
            [("content-type", "application/octet-stream"), ("x-amz-invocation-type", "RequestResponse")];
        let url = format!("{}{}", self.endpoint, self.path);
        let identity = credentials.into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("lambda")
            .time(UNIX_EPOCH + Duration::from_millis(self.clock.wall().0))
            .settings(SigningSettings::default())
            .build()?
            .into();
        let signable = SignableRequest::new("POST", url, HEADERS.into_iter(), SignableBody::Bytes(&event))?;
        let (signature, _) = sign(signable, &params)?.into_parts();
        let mut request = http::Request::post(&self.path);
        for (name, value) in HEADERS {
            request = request.header(name, value);
        }
        let mut request = request.body(SdkBody::from(event))?;
        signature.apply_to_request_http1x(&mut request);
        Ok(HttpRequest::try_from(request)?)
    }

    /// Sends a request once. Cancel-safe, but for the function, which goes on with what it got.
    pub(super) async fn send(&self, request: Request) -> Attempt {
        let attempt = async {
            match self.operation.invoke(request).await {
                Ok(reply) => self.read(reply).await,
                Err(error) => Attempt::unreachable(causes(&error)),
            }
        };
        tokio::time::timeout(ATTEMPT_MAX, attempt).await.unwrap_or(Attempt::TimedOut)
    }

    async fn read(&self, reply: Reply) -> Attempt {
        let Reply { status, function_error, kind, body } = reply;
        let body = match whole(body).await {
            Ok(Some(body)) => body,
            Ok(None) => return Attempt::TooLarge { answer: true },
            Err(cause) => return Attempt::unreachable(cause),
        };
        let (code, label) = match status {
            200 if function_error && says_too_large(&body) => return Attempt::TooLarge { answer: true },
            200 if function_error => return Attempt::FunctionError,
            200 => return Attempt::Answered(body),
            413 => return Attempt::TooLarge { answer: false },
            429 => ("Lambda.InvokeLimitExceeded", "throttled"),
            403 => ("Lambda.InvokeAccessDenied", "access_denied"),
            404 => ("Lambda.ResourceNotFound", "not_found"),
            500.. => ("Lambda.ServiceUnavailable", "unavailable"),
            _ => ("Lambda.InvalidRequest", "refused"),
        };
        if status == 403 {
            // They may have been taken back.
            *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        let cause = format!("{status} {}: {}", kind.as_deref().unwrap_or("without a name"), said(&body));
        Attempt::Unavailable(Unavailable { code, label, cause })
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request that is signed, to be sent soon: signatures age.
pub(super) struct Request(HttpRequest);

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Request")
    }
}

/// The head of an answer, and its body, still to be read.
struct Reply {
    status: u16,
    function_error: bool,
    /// The name of the exception.
    kind: Option<String>,
    body: SdkBody,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reply({})", self.status)
    }
}

/// Hands the body on unread, so that only as much of it is read as may be.
#[derive(Debug)]
struct ReadReply;

impl DeserializeResponse for ReadReply {
    fn deserialize_streaming_with_config(
        &self,
        response: &mut HttpResponse,
        _: &ConfigBag,
    ) -> Option<Result<Output, OrchestratorError<Error>>> {
        let reply = Reply {
            status: response.status().as_u16(),
            function_error: response.headers().get("x-amz-function-error").is_some(),
            // After a colon there may be more.
            kind: response.headers().get("x-amzn-errortype").and_then(|kind| Some(kind.split(':').next()?.to_owned())),
            body: response.take_body(),
        };
        Some(Ok(Output::erase(reply)))
    }
}

/// The body, or nothing if there is more than Lambda ever sends.
async fn whole(body: SdkBody) -> Result<Option<Bytes>, String> {
    let mut body = ByteStream::new(body);
    let mut read: Vec<u8> = Vec::new();
    while let Some(part) = body.next().await {
        let part = part.map_err(|error| causes(&error))?;
        if read.len() + part.len() > ANSWER_BYTES_MAX {
            return Ok(None);
        }
        read.extend_from_slice(&part);
    }
    Ok(Some(read.into()))
}

/// What a service says about a refusal, for the log.
fn said(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Refusal {
        #[serde(alias = "Message")]
        message: String,
    }
    let message = serde_json::from_slice::<Refusal>(body).map(|refusal| refusal.message).unwrap_or_default();
    message.chars().filter(|c| !c.is_control()).take(SAID_CHARS_MAX).collect()
}

/// An error and what is behind it, in a line.
fn causes(error: &dyn std::error::Error) -> String {
    let texts = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    let mut texts: Vec<String> = texts.collect();
    texts.dedup();
    texts.join(": ")
}
