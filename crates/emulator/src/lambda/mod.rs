//! Lambda: Invoke (`RequestResponse`) of functions that are closures, or that answer at an address.
//!
//! Names are taken with and without ARN, version or alias; all versions are one. The limits of a synchronous invocation
//! hold. Never here: a clock; a function that is slow sleeps by itself.

mod forward;
mod functions;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::HeaderValue;

use crate::http::{Answer, Request, json};
use crate::trace::lock;

pub use self::functions::{Fate, each};

/// A request must be smaller.
const REQUEST_BYTES: usize = 6_291_456;
/// An answer may be as large.
const ANSWER_BYTES_MAX: usize = 6_291_556;

/// What becomes of an invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The function returned this.
    Returned(Bytes),
    /// The function failed with this: `X-Amz-Function-Error: Unhandled`.
    Failed(Bytes),
    /// Lambda refused to run it: a status and the name of an exception.
    Refused(u16, &'static str),
}

impl Reply {
    /// A failure with a type and a message, as the runtimes report one.
    pub fn failed(kind: &str, message: &str) -> Self {
        Self::Failed(serde_json::json!({ "errorType": kind, "errorMessage": message }).to_string().into())
    }
}

type Running = Pin<Box<dyn Future<Output = Reply> + Send>>;
type Function = Arc<dyn Fn(Bytes) -> Running + Send + Sync>;

/// The functions of one emulator.
#[derive(Default)]
pub(crate) struct Lambda(Mutex<BTreeMap<String, Function>>);

impl fmt::Debug for Lambda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(lock(&self.0).keys()).finish()
    }
}

impl Lambda {
    pub(crate) fn create<F>(&self, name: &str, function: impl Fn(Bytes) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        let function: Function = Arc::new(move |event| Box::pin(function(event)));
        lock(&self.0).insert(name.to_owned(), function);
    }

    /// `host:port/path` answers a POST of the event, as the runtime interface emulator of the base images does.
    pub(crate) fn forward(&self, name: &str, address: String) {
        let address: Arc<str> = address.into();
        self.create(name, move |event| forward::forward(address.clone(), event));
    }

    pub(crate) fn delete(&self, name: &str) -> bool {
        lock(&self.0).remove(name).is_some()
    }

    pub(crate) async fn call(&self, request: Request) -> Answer {
        let Some(name) = invoked(&request) else {
            return refusal(404, "ResourceNotFoundException", "only Invoke is emulated");
        };
        let kind = request.headers().get("x-amz-invocation-type").and_then(|kind| kind.to_str().ok());
        if kind.is_some_and(|kind| kind != "RequestResponse") {
            return refusal(400, "InvalidParameterValueException", "only RequestResponse is emulated");
        }
        let event = request.into_body();
        if event.len() >= REQUEST_BYTES {
            let message =
                format!("Request must be smaller than {REQUEST_BYTES} bytes for the InvokeFunction operation");
            return refusal(413, "RequestTooLargeException", &message);
        }
        if serde_json::from_slice::<serde::de::IgnoredAny>(&event).is_err() {
            return refusal(400, "InvalidRequestContentException", "Could not parse request body into json");
        }
        let function = lock(&self.0).get(&name).cloned();
        let Some(function) = function else {
            return refusal(404, "ResourceNotFoundException", &format!("Function not found: {name}"));
        };
        match function(event).await {
            Reply::Returned(payload) if payload.len() > ANSWER_BYTES_MAX => {
                let message =
                    format!("Response payload size exceeded maximum allowed payload size ({ANSWER_BYTES_MAX} bytes).");
                answered(Reply::failed("Function.ResponseSizeTooLarge", &message))
            }
            reply => answered(reply),
        }
    }
}

fn answered(reply: Reply) -> Answer {
    match reply {
        Reply::Returned(payload) => json(200, "1.1", payload),
        Reply::Failed(payload) => {
            let mut answer = json(200, "1.1", payload);
            answer.headers_mut().insert("x-amz-function-error", HeaderValue::from_static("Unhandled"));
            answer
        }
        Reply::Refused(status, kind) => refusal(status, kind, "refused by the function's double"),
    }
}

/// An error of the REST JSON protocol, as Lambda writes it.
pub(crate) fn refusal(status: u16, kind: &'static str, message: &str) -> Answer {
    let body = serde_json::json!({ "Type": if status < 500 { "User" } else { "Service" }, "Message": message });
    let mut answer = json(status, "1.1", body.to_string());
    answer.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(kind));
    answer
}

/// The name of the function that a request invokes; `None`: it is no invocation.
pub(crate) fn invoked(request: &Request) -> Option<String> {
    let path = request.uri().path().strip_prefix("/2015-03-31/functions/")?;
    let name = path.strip_suffix("/invocations").filter(|name| !name.contains('/'))?;
    let name = name.replace("%3A", ":").replace("%3a", ":");
    let name = name.split_once(":function:").map_or(name.as_str(), |(_, name)| name);
    Some(name.split(':').next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests;
