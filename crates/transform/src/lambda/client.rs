//! One attempt of an invocation: a signed POST (Invoke, API version 2015-03-31, `RequestResponse`), and what came of it.
//!
//! Never here: a second try, and what a record's fate is.

use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_types::SdkConfig;
use bytes::Bytes;
use standpipe_flow::Clock;
use standpipe_signed::{Answer, Call, CallError, Caller, Service, Signed};

use super::answer::says_too_large;
use super::function::Function;

/// Firehose lets a function work for five minutes; what is added covers the way there and back. Lambda answers with at most
/// 6 MiB and a little ("exceeded maximum allowed payload size (6291556 bytes)").
pub(super) const LAMBDA: Service = Service {
    id: "Lambda",
    name: "lambda",
    operation: "Invoke",
    attempt_max: Duration::from_secs(300 + 10),
    answer_bytes_max: 6_291_556,
};

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
}

impl From<CallError> for Attempt {
    fn from(error: CallError) -> Self {
        let (code, label, cause) = match error {
            CallError::TimedOut => return Self::TimedOut,
            CallError::TooLarge => return Self::TooLarge { answer: true },
            CallError::NoCredentials(cause) => ("Lambda.NoCredentials", "no_credentials", cause),
            // What is wrong with an address or a key does not end by itself, but somebody may mend it.
            CallError::Unsignable(cause) => ("Lambda.InvalidRequest", "refused", cause),
            CallError::Unreachable(cause) => ("Lambda.Unreachable", "unreachable", cause),
        };
        Self::Unavailable(Unavailable { code, label, cause })
    }
}

/// The way to one function. Clones share connections and credentials.
#[derive(Clone, Debug)]
pub(super) struct Client {
    caller: Caller,
    path: String,
}

impl Client {
    pub(super) fn new(sdk: &SdkConfig, function: &Function, region: &str, clock: Arc<dyn Clock>) -> Self {
        Self { caller: Caller::new(sdk, LAMBDA, region, clock), path: function.path() }
    }

    /// Credentials, as long as they last.
    pub(super) async fn credentials(&self) -> Result<Credentials, Attempt> {
        Ok(self.caller.credentials().await?)
    }

    /// The request that carries an event. Long work for a large one: it is hashed.
    pub(super) fn request(&self, credentials: Credentials, event: Vec<u8>) -> Result<Signed, Attempt> {
        let headers = vec![("content-type", "application/octet-stream"), ("x-amz-invocation-type", "RequestResponse")];
        Ok(self.caller.sign(credentials, Call { path: self.path.clone(), headers, body: event })?)
    }

    /// Sends a request once. Cancel-safe, but for the function, which goes on with what it got.
    pub(super) async fn send(&self, request: Signed) -> Attempt {
        match self.caller.send(request).await {
            Ok(answer) => meaning(answer),
            Err(error) => error.into(),
        }
    }
}

fn meaning(answer: Answer) -> Attempt {
    let function_error = answer.header("x-amz-function-error").is_some();
    let (code, label) = match answer.status {
        200 if function_error && says_too_large(&answer.body) => return Attempt::TooLarge { answer: true },
        200 if function_error => return Attempt::FunctionError,
        200 => return Attempt::Answered(answer.body),
        413 => return Attempt::TooLarge { answer: false },
        429 => ("Lambda.InvokeLimitExceeded", "throttled"),
        403 => ("Lambda.InvokeAccessDenied", "access_denied"),
        404 => ("Lambda.ResourceNotFound", "not_found"),
        500.. => ("Lambda.ServiceUnavailable", "unavailable"),
        _ => ("Lambda.InvalidRequest", "refused"),
    };
    Attempt::Unavailable(Unavailable { code, label, cause: answer.refusal() })
}
