//! The servers of a destination: which one is asked, as whom.
//!
//! They take turns; one that cannot be reached is left out for a while, and another is asked at once: it has not seen the
//! request. Never here: a second try of a request that a server may have seen; what an answer means.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use secrecy::{ExposeSecret, SecretString};
use standpipe_flow::offload::Offload;
use standpipe_flow::{Clock, DeliveryError};
use standpipe_signed::{CallError, Signable, Signer};

use crate::http::{Answer, Bounds, Http, HttpError, Origin, Request};
use crate::offloaded::offloaded;

/// How long a server that could not be reached is left out while there are others.
const LEFT_OUT: Duration = Duration::from_secs(10);
/// OpenSearch waits a minute for a shard before it answers.
const WHOLE_MAX: Duration = Duration::from_secs(90);

/// As whom requests are made.
#[derive(Clone, Debug)]
pub enum Auth {
    /// As nobody.
    None,
    /// User and password.
    Basic {
        /// The user.
        user: String,
        /// The password, asked for anew for every request.
        password: Password,
    },
    /// An identity of AWS.
    SigV4(Signer),
}

/// Where a password is; it may change. Never shown.
#[derive(Clone)]
pub struct Password(Arc<dyn Fn() -> Result<SecretString, String> + Send + Sync>);

impl Password {
    /// Reads the password by this, each time it is used.
    pub fn new(read: impl Fn() -> Result<SecretString, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// The servers.
pub(super) struct Nodes {
    http: Http,
    origins: Vec<Origin>,
    /// Of each, until when it is left out: milliseconds of [`Clock::elapsed`].
    left_out: Vec<AtomicU64>,
    turn: AtomicUsize,
    auth: Auth,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.origins.iter().map(Origin::to_string)).finish()
    }
}

/// A request that has no answer of its own.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// The answer says yes and is larger than any that is read: the documents are too many.
    TooLarge,
    /// The connection broke while the request was sent, or before its answer came.
    Broken(String),
    /// Anything else.
    Other(DeliveryError),
}

impl From<DeliveryError> for Unanswered {
    fn from(error: DeliveryError) -> Self {
        Self::Other(error)
    }
}

impl Nodes {
    pub(super) fn new(http: Http, origins: Vec<Origin>, auth: Auth, clock: Arc<dyn Clock>) -> Self {
        let left_out = origins.iter().map(|_| AtomicU64::new(0)).collect();
        Self { http, origins, left_out, turn: AtomicUsize::new(0), auth, clock }
    }

    /// Sends lines to one of the servers. An answer may be no longer than `answer_bytes_max`.
    pub(super) async fn send(
        &self,
        path: &str,
        (body, gzip): (Bytes, bool),
        answer_bytes_max: usize,
        offload: &dyn Offload,
    ) -> Result<Answer, Unanswered> {
        let mut headers = vec![("content-type".to_owned(), "application/x-ndjson".to_owned())];
        if gzip {
            headers.push(("content-encoding".to_owned(), "gzip".to_owned()));
        }
        let request = Request { method: Method::POST, path: path.to_owned(), headers, body };
        self.ask(request, Bounds { whole_max: WHOLE_MAX, answer_bytes_max }, Some(offload)).await
    }

    /// Asks one of the servers without a body.
    pub(super) async fn look(&self, path: &str) -> Result<Answer, DeliveryError> {
        self.look_at(self.in_turn(), path).await
    }

    /// Asks the first of these servers that can be reached, without a body.
    pub(super) async fn look_at(&self, nodes: Vec<usize>, path: &str) -> Result<Answer, DeliveryError> {
        let request = Request { method: Method::GET, path: path.to_owned(), headers: Vec::new(), body: Bytes::new() };
        let bounds = Bounds { whole_max: Duration::from_secs(10), answer_bytes_max: 1 << 20 };
        self.ask_of(nodes, request, bounds, None).await.map_err(|error| match error {
            Unanswered::Other(error) => error,
            Unanswered::Broken(cause) => retry(cause),
            Unanswered::TooLarge => retry("the answer is too large".to_owned()),
        })
    }

    /// The servers, as they are named in the config.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        self.origins.iter().map(Origin::to_string)
    }

    /// As whom requests are made.
    pub(super) fn auth(&self) -> &Auth {
        &self.auth
    }

    async fn ask(&self, request: Request, bounds: Bounds, offload: Option<&dyn Offload>) -> Result<Answer, Unanswered> {
        self.ask_of(self.in_turn(), request, bounds, offload).await
    }

    async fn ask_of(
        &self,
        nodes: Vec<usize>,
        request: Request,
        bounds: Bounds,
        offload: Option<&dyn Offload>,
    ) -> Result<Answer, Unanswered> {
        let mut last = retry("there is no server to ask".to_owned());
        for node in nodes {
            let origin = &self.origins[node];
            let request = self.with_auth(request.clone(), origin, offload).await?;
            match self.http.send(origin, &request, bounds).await {
                Ok(answer) => {
                    if let (401 | 403, Auth::SigV4(signer)) = (answer.status, &self.auth) {
                        signer.forget();
                    }
                    return Ok(answer);
                }
                Err(error @ HttpError::Unreachable { .. }) => {
                    let until = self.clock.elapsed() + LEFT_OUT;
                    self.left_out[node].store(millis(until), Ordering::Relaxed);
                    last = retry(error.to_string());
                }
                Err(error @ (HttpError::Refused { .. } | HttpError::Malformed(_))) => {
                    return Err(DeliveryError::Halt { cause: error.to_string() }.into());
                }
                Err(error @ HttpError::TimedOut(_)) => return Err(retry(error.to_string()).into()),
                Err(HttpError::Broken(cause)) => {
                    return Err(Unanswered::Broken(format!("the connection broke: {cause}")));
                }
                Err(HttpError::TooLarge { status: 200..=299, .. }) => return Err(Unanswered::TooLarge),
                // A page of somebody in between: it says nothing of the documents.
                Err(HttpError::TooLarge { status, .. }) => {
                    return Err(retry(format!("answered {status} with a body that is too large to read")).into());
                }
            }
        }
        Err(last.into())
    }

    /// The servers in the order in which they are tried: those that were reached last time before the others.
    fn in_turn(&self) -> Vec<usize> {
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let now = millis(self.clock.elapsed());
        let mut nodes: Vec<usize> =
            (0..self.origins.len()).map(|n| (first.wrapping_add(n)) % self.origins.len()).collect();
        nodes.sort_by_key(|node| self.left_out[*node].load(Ordering::Relaxed) > now);
        nodes
    }

    async fn with_auth(
        &self,
        mut request: Request,
        origin: &Origin,
        offload: Option<&dyn Offload>,
    ) -> Result<Request, DeliveryError> {
        match &self.auth {
            Auth::None => {}
            Auth::Basic { user, password } => {
                // A secret that cannot be read is mended by somebody.
                let secret = (password.0)().map_err(|cause| DeliveryError::Halt { cause })?;
                let pair = format!("{user}:{}", secret.expose_secret());
                let value = format!("Basic {}", base64_simd::STANDARD.encode_to_string(pair));
                request.headers.push(("authorization".to_owned(), value));
            }
            Auth::SigV4(signer) => {
                let credentials = signer.credentials().await.map_err(unsigned)?;
                let (signer, url) = (signer.clone(), origin.url(&request.path));
                let of = request.clone();
                let sign = move || {
                    let (method, headers, body) = (of.method.as_str(), of.headers.as_slice(), &of.body[..]);
                    signer.headers(credentials, Signable { method, url: &url, headers, body })
                };
                // A body of some size is hashed elsewhere.
                let signed = match offload {
                    Some(offload) => offloaded(offload, sign).await?,
                    None => sign(),
                };
                request.headers.extend(signed.map_err(unsigned)?);
            }
        }
        Ok(request)
    }
}

fn unsigned(error: CallError) -> DeliveryError {
    match error {
        CallError::Unsignable(cause) => DeliveryError::Halt { cause: format!("the request cannot be signed: {cause}") },
        CallError::NoCredentials(cause) => retry(format!("there are no credentials: {cause}")),
        _ => retry("there are no credentials".to_owned()),
    }
}

fn retry(cause: String) -> DeliveryError {
    DeliveryError::Retry { after: None, cause }
}

fn millis(of: Duration) -> u64 {
    u64::try_from(of.as_millis()).unwrap_or(u64::MAX)
}
