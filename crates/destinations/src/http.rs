//! One HTTP request and its answer: the client of every destination that is no service of AWS's SDK.
//!
//! HTTP/1.1 over connections that are kept, TLS 1.2 and up with every check on, no redirects, an answer of bounded size
//! within a bounded time, addresses looked at when the connection stands ([`dial`]). A connection is driven by the call
//! that uses it, so that a dropped call leaves nothing behind. What OpenSearch and the HTTP endpoints share is all of this;
//! Splunk's collector will come by it too. What they choose for themselves:
//!
//! | | OpenSearch | HTTP endpoints, Splunk |
//! |---|---|---|
//! | private addresses | allowed unless a config refuses them: a domain in a VPC has no others | refused unless a config allows them |
//! | bytes of an answer | with the documents of a request, at most 8 MiB | 1 MiB |
//! | a path | put behind the origin's | as it was written, with its query |
//!
//! Never here: a second try of a request that may have been seen, what an answer means, a task. No error or log shows a
//! header, a path or a body.

pub mod dial;
mod origin;
mod race;
mod retry_after;
mod tls;

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{Connection, SendRequest, handshake};
use hyper_util::rt::TokioIo;
use standpipe_flow::Clock;

use dial::{BoxStream, Dial};
pub use http::Method;
pub use origin::Origin;
pub use tls::{Trust, TrustError};

/// Connections to one origin that are kept while nobody uses them.
const IDLE_MAX: usize = 16;
/// How long: below the 60 s after which AWS's load balancers, and most proxies, close one.
const IDLE_FOR: Duration = Duration::from_secs(50);

/// Bytes of an answer's body that are read, where nothing else is said: partners' answers are short, and Firehose reads no more.
pub const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What is asked. `Debug` shows neither path, headers nor body.
#[derive(Clone)]
pub struct Request {
    /// `GET`, `POST`.
    pub method: Method,
    /// Path and query behind the origin's base, percent-encoded.
    pub path: String,
    /// Beside `host` and `content-length`.
    pub headers: Vec<(String, String)>,
    /// The body; may be empty.
    pub body: Bytes,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.method, self.body.len())
    }
}

/// What a request may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// From the first byte sent to the last one read, without the connection.
    pub whole_max: Duration,
    /// Bytes of the answer's body.
    pub answer_bytes_max: usize,
}

impl Bounds {
    /// So long, for an answer of at most [`ANSWER_BYTES_MAX`].
    pub fn within(whole_max: Duration) -> Self {
        Self { whole_max, answer_bytes_max: ANSWER_BYTES_MAX }
    }
}

/// An answer, whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// `Retry-After`, in seconds or as a date, at most an hour.
    pub retry_after: Option<Duration>,
    /// `Content-Type`.
    pub content_type: String,
    /// `Content-Encoding`; empty without one. None was asked for, and none is taken off.
    pub content_encoding: String,
    /// It came with a `Content-Length`.
    pub has_length: bool,
    /// The body as it came: no encoding was asked for, and one that a server has put there all the same is left alone.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HttpError {
    /// No connection: the server has not seen the request.
    #[error("no connection to {to}: {cause}")]
    Unreachable {
        /// Host and port.
        to: String,
        /// Why.
        cause: String,
    },
    /// The connection stands and is not to be trusted, or leads where it must not: somebody must act. Nothing was sent.
    #[error("no connection to {to}: {cause}")]
    Refused {
        /// Host and port.
        to: String,
        /// Why.
        cause: String,
    },
    /// It broke in the middle: the server may have seen the request, and acted on it.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// Not within the time: as above.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The answer is larger than allowed: as above.
    #[error("the answer, of status {status}, has more than {most} bytes")]
    TooLarge {
        /// Its status.
        status: u16,
        /// What is allowed.
        most: usize,
    },
    /// The request cannot be written down.
    #[error("the request is malformed: {0}")]
    Malformed(String),
}

/// The client. Shared by reference; a call that is dropped closes its connection.
pub struct Http {
    dial: Arc<dyn Dial>,
    trust: Trust,
    connect_max: Duration,
    clock: Arc<dyn Clock>,
    idle: Mutex<BTreeMap<Origin, Vec<Idle>>>,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("dial", &self.dial).finish_non_exhaustive()
    }
}

struct Idle {
    connection: Open,
    since: Duration,
}

/// A connection and its engine, which does nothing unless it is polled.
struct Open {
    sender: SendRequest<Full<Bytes>>,
    /// None once it has ended.
    engine: Option<Engine>,
}

type Engine = Pin<Box<Connection<TokioIo<BoxStream>, Full<Bytes>>>>;

impl Http {
    /// A client that makes its connections by `dial`, and trusts whom `trust` says.
    pub fn new(dial: Arc<dyn Dial>, trust: Trust, connect_max: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { dial, trust, connect_max, clock, idle: Mutex::default() }
    }

    /// Sends a request once. On a kept connection that turns out to be closed before anything was sent, a new one is made.
    ///
    /// # Errors
    /// When there is no answer; one that refuses is an answer.
    pub async fn send(&self, to: &Origin, request: &Request, bounds: Bounds) -> Result<Answer, HttpError> {
        while let Some(mut open) = self.kept(to).await {
            let sent = exchange(&mut open, built(to, request)?, bounds, self.clock.as_ref()).await;
            match sent {
                Err(Failed::Unsent) => continue,
                Err(Failed::Http(error)) => return Err(error),
                Ok(answer) => {
                    self.keep(to, open).await;
                    return Ok(answer);
                }
            }
        }
        let mut open = self.connect(to).await?;
        match exchange(&mut open, built(to, request)?, bounds, self.clock.as_ref()).await {
            Ok(answer) => {
                self.keep(to, open).await;
                Ok(answer)
            }
            Err(Failed::Http(error)) => Err(error),
            Err(Failed::Unsent) => {
                Err(HttpError::Unreachable { to: to.host_header(), cause: "it was closed at once".to_owned() })
            }
        }
    }

    /// A kept connection that is still open.
    async fn kept(&self, to: &Origin) -> Option<Open> {
        loop {
            // A poisoned lock holds a list that is whole.
            let found = self.idle.lock().unwrap_or_else(PoisonError::into_inner).get_mut(to)?.pop()?;
            if self.clock.elapsed().saturating_sub(found.since) > IDLE_FOR {
                continue;
            }
            let mut open = found.connection;
            if open.is_ready().await {
                return Some(open);
            }
        }
    }

    async fn keep(&self, to: &Origin, mut open: Open) {
        if !open.is_ready().await {
            return;
        }
        let idle = Idle { connection: open, since: self.clock.elapsed() };
        let mut kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let of_origin = kept.entry(to.clone()).or_default();
        if of_origin.len() < IDLE_MAX {
            of_origin.push(idle);
        }
    }

    async fn connect(&self, to: &Origin) -> Result<Open, HttpError> {
        let shown = to.host_header();
        let unreachable = |cause: String| HttpError::Unreachable { to: shown.clone(), cause };
        let connecting = async {
            let stream = self.dial.dial(&to.host, to.port).await.map_err(|error| match error {
                dial::DialError::Unreachable(cause) => unreachable(cause),
                dial::DialError::Forbidden(cause) => HttpError::Refused { to: shown.clone(), cause },
            })?;
            let stream = if to.secure {
                self.trust.secured(&to.host, stream).await.map_err(|error| match error {
                    TrustError::Broken(cause) => unreachable(cause),
                    TrustError::Distrusted(cause) => HttpError::Refused { to: shown.clone(), cause },
                })?
            } else {
                stream
            };
            let (sender, engine) =
                handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(causes(&error)))?;
            Ok(Open { sender, engine: Some(Box::pin(engine)) })
        };
        let late = || unreachable(format!("not within {:?}", self.connect_max));
        tokio::time::timeout(self.connect_max, connecting).await.unwrap_or_else(|_| Err(late()))
    }
}

impl Open {
    /// Whether another request can be sent. Lets the engine see what the server has sent since: its goodbye.
    async fn is_ready(&mut self) -> bool {
        let Some(engine) = &mut self.engine else { return false };
        let ended = poll_fn(|context| Poll::Ready(engine.as_mut().poll(context).is_ready())).await;
        if ended {
            self.engine = None;
        }
        !ended && self.sender.is_ready()
    }
}

/// Why an exchange gave no answer.
enum Failed {
    /// The connection was closed before anything was written.
    Unsent,
    Http(HttpError),
}

impl From<HttpError> for Failed {
    fn from(error: HttpError) -> Self {
        Self::Http(error)
    }
}

fn built(to: &Origin, request: &Request) -> Result<http::Request<Full<Bytes>>, HttpError> {
    let mut builder = http::Request::builder()
        .method(request.method.clone())
        .uri(format!("{}{}", to.base, request.path))
        .header(http::header::HOST, to.host_header());
    for (name, value) in &request.headers {
        let mut value = http::HeaderValue::try_from(value.as_str())
            .map_err(|_| HttpError::Malformed(format!("the header {name:?} cannot have its value")))?;
        // A key stands under many names.
        value.set_sensitive(true);
        builder = builder.header(name, value);
    }
    builder.body(Full::new(request.body.clone())).map_err(|error| HttpError::Malformed(error.to_string()))
}

/// One request and its answer over an open connection, which this drives meanwhile.
async fn exchange(
    open: &mut Open,
    request: http::Request<Full<Bytes>>,
    bounds: Bounds,
    clock: &dyn Clock,
) -> Result<Answer, Failed> {
    let Open { sender, engine } = open;
    let asked = async {
        let response = match sender.try_send_request(request).await {
            Ok(response) => response,
            Err(mut error) => {
                if error.take_message().is_some() {
                    return Err(Failed::Unsent);
                }
                return Err(HttpError::Broken(causes(error.error())).into());
            }
        };
        let (head, mut body) = response.into_parts();
        let status = head.status.as_u16();
        let text = |name| head.headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
        let retry_after = text(http::header::RETRY_AFTER)
            .and_then(|after| retry_after::retry_after(after, text(http::header::DATE), clock.wall()));
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| HttpError::Broken(causes(&error)))?;
            let Ok(data) = frame.into_data() else { continue };
            if whole.len() + data.len() > bounds.answer_bytes_max {
                return Err(HttpError::TooLarge { status, most: bounds.answer_bytes_max }.into());
            }
            whole.extend_from_slice(&data);
        }
        Ok(Answer {
            status,
            retry_after,
            content_type: text(http::header::CONTENT_TYPE).unwrap_or_default().to_owned(),
            content_encoding: text(http::header::CONTENT_ENCODING).unwrap_or_default().to_owned(),
            has_length: head.headers.contains_key(http::header::CONTENT_LENGTH),
            body: whole.freeze(),
        })
    };
    let mut asked = std::pin::pin!(asked);
    let driven = poll_fn(|context| {
        if let Poll::Ready(answer) = asked.as_mut().poll(context) {
            return Poll::Ready(answer);
        }
        if engine.as_mut().is_some_and(|running| running.as_mut().poll(context).is_ready()) {
            // What was read before the end is still to be taken.
            *engine = None;
            return asked.as_mut().poll(context);
        }
        Poll::Pending
    });
    let late = || Err(HttpError::TimedOut(bounds.whole_max).into());
    tokio::time::timeout(bounds.whole_max, driven).await.unwrap_or_else(|_| late())
}

/// An error and what is behind it, in a line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut texts: Vec<String> =
        std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect();
    texts.dedup();
    texts.join(": ")
}

#[cfg(test)]
mod tests;
