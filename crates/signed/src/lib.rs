//! One signed request to an AWS service that has no SDK crate here, and its answer.
//!
//! Built on the SDK's own orchestrator, HTTP client, credentials and signer, so that one `SdkConfig` serves AWS, an
//! endpoint of one's own and the emulator in process: the SDK of Lambda is as large as all others together, for one call.
//! Never here: a second try, and what an answer means.

mod signer;

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
use aws_types::service_config::ServiceConfigKey;
use bytes::Bytes;
use standpipe_flow::Clock;

pub use signer::{Signable, Signer};

const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Credentials are asked for anew so long before they end.
pub(crate) const CREDENTIALS_SPARE: Duration = Duration::from_secs(60);
/// Of what a service says about a refusal, so much is shown.
const SAID_CHARS_MAX: usize = 300;

/// A service, and the bounds of a request to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Service {
    /// The name in `AWS_ENDPOINT_URL_<ID>`: `Lambda`.
    pub id: &'static str,
    /// The name in addresses and signatures: `lambda`.
    pub name: &'static str,
    /// The operation, for the SDK's own records.
    pub operation: &'static str,
    /// An attempt takes no longer.
    pub attempt_max: Duration,
    /// An answer has no more bytes.
    pub answer_bytes_max: usize,
}

/// A POST, before it is signed.
#[derive(Clone, Debug)]
pub struct Call {
    /// Path and query, percent-encoded.
    pub path: String,
    /// Headers beside those of the signature.
    pub headers: Vec<(&'static str, &'static str)>,
    /// The body.
    pub body: Vec<u8>,
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Headers, with their names in small letters.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// What a refusal says, for a log: status, name, message.
    pub fn refusal(&self) -> String {
        #[derive(serde::Deserialize)]
        struct Refusal {
            #[serde(default, rename = "__type")]
            kind: String,
            #[serde(default, alias = "Message")]
            message: String,
        }
        let said =
            serde_json::from_slice(&self.body).unwrap_or(Refusal { kind: String::new(), message: String::new() });
        // After a colon there may be more.
        let kind = self.header("x-amzn-errortype").and_then(|kind| kind.split(':').next());
        let kind = kind.or(said.kind.rsplit('#').next()).filter(|kind| !kind.is_empty()).unwrap_or("without a name");
        let message: String = said.message.chars().filter(|c| !c.is_control()).take(SAID_CHARS_MAX).collect();
        format!("{} {kind}: {message}", self.status)
    }
}

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CallError {
    /// Nobody gives credentials.
    NoCredentials(String),
    /// The address or a key cannot be what a request needs.
    Unsignable(String),
    /// No answer within the time.
    TimedOut,
    /// No connection, or it broke.
    Unreachable(String),
    /// The answer is larger than any of the service.
    TooLarge,
}

/// The way to one service in one region. Clones share connections and credentials.
#[derive(Clone, Debug)]
pub struct Caller {
    operation: Operation<Signed, Reply, Infallible>,
    provider: Option<SharedCredentialsProvider>,
    kept: Arc<Mutex<Option<Credentials>>>,
    clock: Arc<dyn Clock>,
    service: Service,
    endpoint: String,
    region: String,
}

impl Caller {
    /// A way to the service with this configuration: credentials, endpoint (of the service, else of all), HTTP client and
    /// sleep implementation are taken from it.
    pub fn new(sdk: &SdkConfig, service: Service, region: &str, clock: Arc<dyn Clock>) -> Self {
        let endpoint = endpoint(sdk, service, region);
        let mut operation = Operation::builder()
            .service_name(service.id)
            .operation_name(service.operation)
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(&endpoint)
            .no_auth()
            .no_retry()
            .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT_MAX).build())
            // A service at work may send nothing for minutes; the attempt as a whole has its limit.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .serializer(|request: Signed| Ok(request.0))
            .deserializer_impl(ReadReply);
        if let Some(http) = sdk.http_client() {
            operation = operation.http_client(http);
        }
        if let Some(sleep) = sdk.sleep_impl() {
            operation = operation.sleep_impl(sleep);
        }
        let (provider, region) = (sdk.credentials_provider(), region.to_owned());
        Self { operation: operation.build(), provider, kept: Arc::default(), clock, service, endpoint, region }
    }

    /// Credentials, signature, attempt.
    ///
    /// # Errors
    /// When there is no answer; one that refuses is an answer.
    pub async fn call(&self, call: Call) -> Result<Answer, CallError> {
        let credentials = self.credentials().await?;
        self.send(self.sign(credentials, call)?).await
    }

    /// Credentials, as long as they last: a provider asks somebody each time.
    ///
    /// # Errors
    /// When nobody gives any.
    pub async fn credentials(&self) -> Result<Credentials, CallError> {
        let soon = UNIX_EPOCH + Duration::from_millis(self.clock.wall().0) + CREDENTIALS_SPARE;
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(kept) = kept.filter(|kept| kept.expiry().is_none_or(|expiry| expiry > soon)) {
            return Ok(kept);
        }
        let nobody = || CallError::NoCredentials("nobody gives credentials".to_owned());
        let provider = self.provider.as_ref().ok_or_else(nobody)?;
        let asked = provider.provide_credentials().await;
        let credentials = asked.map_err(|error| CallError::NoCredentials(causes(&error)))?;
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(credentials.clone());
        Ok(credentials)
    }

    /// Signs a call, to be sent soon: signatures age. Long work for a large body: it is hashed.
    ///
    /// # Errors
    /// When the address or a key cannot be what a request needs.
    pub fn sign(&self, credentials: Credentials, call: Call) -> Result<Signed, CallError> {
        self.signed(credentials, call).map(Signed).map_err(|error| CallError::Unsignable(causes(error.as_ref())))
    }

    fn signed(&self, credentials: Credentials, call: Call) -> Result<HttpRequest, BoxError> {
        let url = format!("{}{}", self.endpoint, call.path);
        let identity = credentials.into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(self.service.name)
            .time(UNIX_EPOCH + Duration::from_millis(self.clock.wall().0))
            .settings(SigningSettings::default())
            .build()?
            .into();
        let headers = call.headers.iter().copied();
        let signable = SignableRequest::new("POST", url, headers, SignableBody::Bytes(&call.body))?;
        let (signature, _) = sign(signable, &params)?.into_parts();
        let mut request = http::Request::post(&call.path);
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        let mut request = request.body(SdkBody::from(call.body))?;
        signature.apply_to_request_http1x(&mut request);
        Ok(HttpRequest::try_from(request)?)
    }

    /// Sends a request once. Cancel-safe, but for the service, which goes on with what it got.
    ///
    /// # Errors
    /// When there is no answer; one that refuses is an answer.
    pub async fn send(&self, request: Signed) -> Result<Answer, CallError> {
        let attempt = async {
            let unreachable = |error: &dyn std::error::Error| CallError::Unreachable(causes(error));
            let reply = self.operation.invoke(request).await.map_err(|error| unreachable(&error))?;
            let body = whole(reply.body, self.service.answer_bytes_max).await?;
            Ok(Answer { status: reply.status, headers: reply.headers, body })
        };
        let answer = tokio::time::timeout(self.service.attempt_max, attempt).await.unwrap_or(Err(CallError::TimedOut));
        if answer.as_ref().is_ok_and(|answer| answer.status == 403) {
            // They may have been taken back.
            *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        answer
    }
}

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request that is signed.
pub struct Signed(HttpRequest);

/// Shows nothing: it carries a signature, and records.
impl std::fmt::Debug for Signed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signed")
    }
}

/// The head of an answer, and its body, still to be read.
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
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
        let headers = response.headers().iter().map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
        let reply =
            Reply { status: response.status().as_u16(), headers: headers.collect(), body: response.take_body() };
        Some(Ok(Output::erase(reply)))
    }
}

/// The body, or an error if there is more than the service ever sends.
async fn whole(body: SdkBody, most: usize) -> Result<Bytes, CallError> {
    let mut body = ByteStream::new(body);
    let mut read: Vec<u8> = Vec::new();
    while let Some(part) = body.next().await {
        let part = part.map_err(|error| CallError::Unreachable(causes(&error)))?;
        if read.len() + part.len() > most {
            return Err(CallError::TooLarge);
        }
        read.extend_from_slice(&part);
    }
    Ok(read.into())
}

/// Where the service is: as the configuration says, of this service before all, else its address in the region.
pub fn endpoint(sdk: &SdkConfig, service: Service, region: &str) -> String {
    let key =
        ServiceConfigKey::builder().service_id(service.id).env("AWS_ENDPOINT_URL").profile("endpoint_url").build();
    let of_service = key.ok().and_then(|key| sdk.service_config()?.load_config(key));
    if let Some(given) = of_service.as_deref().or(sdk.endpoint_url()) {
        return given.trim_end_matches('/').to_owned();
    }
    let fips = if sdk.use_fips() == Some(true) { "-fips" } else { "" };
    let dual = sdk.use_dual_stack() == Some(true);
    let domain = match region {
        _ if region.starts_with("cn-") && dual => "api.amazonwebservices.com.cn",
        _ if region.starts_with("cn-") => "amazonaws.com.cn",
        _ if region.starts_with("eusc-") => "amazonaws.eu",
        _ if region.starts_with("us-isob-") => "sc2s.sgov.gov",
        _ if region.starts_with("us-iso-") => "c2s.ic.gov",
        _ if dual => "api.aws",
        _ => "amazonaws.com",
    };
    format!("https://{}{fips}.{region}.{domain}", service.name)
}

/// An error and what is behind it, in a line. The SDK's own text of an error is its outermost half-sentence.
pub fn causes(error: &dyn std::error::Error) -> String {
    let texts = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    let mut texts: Vec<String> = texts.collect();
    texts.dedup();
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAMBDA: Service = Service {
        id: "Lambda",
        name: "lambda",
        operation: "Invoke",
        attempt_max: Duration::from_secs(1),
        answer_bytes_max: 1,
    };

    #[test]
    fn the_endpoint_is_what_the_configuration_says_or_that_of_the_region() {
        let at = |sdk: &SdkConfig, region| endpoint(sdk, LAMBDA, region);
        let sdk = SdkConfig::builder().endpoint_url("http://127.0.0.1:4600/").build();
        assert_eq!(at(&sdk, "eu-west-1"), "http://127.0.0.1:4600");
        let sdk = SdkConfig::builder().build();
        assert_eq!(at(&sdk, "eu-west-1"), "https://lambda.eu-west-1.amazonaws.com");
        assert_eq!(at(&sdk, "cn-north-1"), "https://lambda.cn-north-1.amazonaws.com.cn");
        let sdk = SdkConfig::builder().use_fips(true).build();
        assert_eq!(at(&sdk, "us-gov-west-1"), "https://lambda-fips.us-gov-west-1.amazonaws.com");
    }

    #[test]
    fn a_refusal_is_one_line_whatever_it_says() {
        let answer = |headers: &[(&str, &str)], body: &str| Answer {
            status: 400,
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        };
        let named = answer(&[("x-amzn-errortype", "ResourceNotFoundException:http://x")], r#"{"Message":"no\nsuch"}"#);
        assert_eq!(named.refusal(), "400 ResourceNotFoundException: nosuch");
        let typed = answer(&[], r#"{"__type":"com.amazonaws.glue#EntityNotFoundException","message":"no table"}"#);
        assert_eq!(typed.refusal(), "400 EntityNotFoundException: no table");
        assert_eq!(answer(&[], "<html>").refusal(), "400 without a name: ");
    }
}
