//! What an error of the Kinesis client means for the caller: by the error's code, the same for every operation.

use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::types::error::SubscribeToShardEventStreamError as EventError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use standpipe_flow::ReadError;

/// Why something asked of a stream failed; named by what the caller must do.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StreamError {
    /// Ask again later: it was tried several times with growing pauses.
    #[error("the stream did not answer: {cause}")]
    Again {
        /// What the service or the network said.
        cause: String,
    },
    /// The stream or the shard does not exist.
    #[error("the stream or shard does not exist: {cause}")]
    Gone {
        /// What the service said.
        cause: String,
    },
    /// Not permitted: somebody must change a policy, a key or the credentials.
    #[error("not permitted: {cause}")]
    Denied {
        /// What the service said.
        cause: String,
    },
    /// The request itself is wrong; asking again gives the same.
    #[error("the request was refused: {cause}")]
    Refused {
        /// What the service said.
        cause: String,
    },
}

impl From<StreamError> for ReadError {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Again { cause } | StreamError::Refused { cause } => ReadError::Again { cause },
            StreamError::Gone { cause } => ReadError::Gone { cause },
            StreamError::Denied { cause } => ReadError::Denied { cause },
        }
    }
}

/// What kind of failure it was: decides how soon to try again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Throughput or request rate spent: slow down.
    Throttled,
    /// The iterator is too old or no longer taken: get a new one.
    Iterator,
    /// A broken connection, a timeout, a 5xx, stale credentials or a skewed clock: one retry at once may cure it. Whether
    /// the request had its effect is unknown.
    Transient,
    /// ResourceNotFound.
    Gone,
    /// Not permitted.
    Denied,
    /// ResourceInUse: somebody else has it, or it is not ready yet.
    InUse,
    /// Any other 4xx.
    Refused,
}

/// A failed call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) cause: String,
}

impl Failure {
    pub(crate) fn new(kind: Kind, cause: impl Into<String>) -> Self {
        Self { kind, cause: cause.into() }
    }

    /// Reads an error of the SDK.
    pub(crate) fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let SdkError::ServiceError(context) = error else { return Self::new(Kind::Transient, chain(error)) };
        let code = context.err().code().unwrap_or("an error without a code");
        let status = context.raw().status().as_u16();
        let kind = kind_of(code, status);
        let cause = match context.err().message() {
            // The message of a refused signature may repeat the signed headers, the session token among them.
            Some(message) if !code.contains("Signature") => format!("{code}: {}", first_line(message)),
            _ => format!("{code} (status {status})"),
        };
        Self { kind, cause }
    }

    /// Reads an error that came in the middle of an event stream: there it has a name, and no status.
    pub(crate) fn of_event<R: std::fmt::Debug>(error: &SdkError<EventError, R>) -> Self {
        let SdkError::ServiceError(context) = error else { return Self::new(Kind::Transient, event_chain(error)) };
        let code = match context.err() {
            EventError::ResourceNotFoundException(_) => "ResourceNotFoundException",
            EventError::ResourceInUseException(_) => "ResourceInUseException",
            EventError::InternalFailureException(_) => "InternalFailureException",
            EventError::KmsThrottlingException(_) => "KMSThrottlingException",
            EventError::KmsAccessDeniedException(_) => "KMSAccessDeniedException",
            EventError::KmsDisabledException(_) => "KMSDisabledException",
            EventError::KmsInvalidStateException(_) => "KMSInvalidStateException",
            EventError::KmsNotFoundException(_) => "KMSNotFoundException",
            EventError::KmsOptInRequired(_) => "KMSOptInRequired",
            other => other.code().unwrap_or("InternalFailure"),
        };
        let message = context.err().message().map(|message| format!(": {}", first_line(message))).unwrap_or_default();
        Self { kind: kind_of(code, 500), cause: format!("{code}{message}") }
    }

    /// The error that a caller sees.
    pub(crate) fn into_error(self) -> StreamError {
        let cause = self.cause;
        match self.kind {
            Kind::Throttled | Kind::Iterator | Kind::Transient | Kind::InUse => StreamError::Again { cause },
            Kind::Gone => StreamError::Gone { cause },
            Kind::Denied => StreamError::Denied { cause },
            Kind::Refused => StreamError::Refused { cause },
        }
    }
}

/// The kind of a code of the Kinesis API, or of the common errors of AWS's JSON services.
pub(crate) fn kind_of(code: &str, status: u16) -> Kind {
    match code {
        "ProvisionedThroughputExceededException"
        | "LimitExceededException"
        | "KMSThrottlingException"
        | "ThrottlingException"
        | "Throttling"
        | "ThrottledException"
        | "RequestThrottledException"
        | "RequestThrottled"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "SlowDown" => Kind::Throttled,
        "ExpiredIteratorException" | "ExpiredNextTokenException" => Kind::Iterator,
        "ResourceNotFoundException" => Kind::Gone,
        "ResourceInUseException" => Kind::InUse,
        "AccessDeniedException"
        | "AccessDenied"
        | "UnauthorizedOperation"
        | "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "NotAuthorized"
        | "OptInRequired"
        | "KMSAccessDeniedException"
        | "KMSDisabledException"
        | "KMSInvalidStateException"
        | "KMSNotFoundException"
        | "KMSOptInRequired" => Kind::Denied,
        "ExpiredToken"
        | "ExpiredTokenException"
        | "RequestExpired"
        | "RequestTimeTooSkewed"
        | "RequestTimeout"
        | "RequestTimeoutException"
        | "SignatureDoesNotMatch"
        | "InvalidSignatureException"
        | "InternalFailure"
        | "InternalFailureException"
        | "ServiceUnavailable"
        | "ServiceUnavailableException" => Kind::Transient,
        _ if status == 429 => Kind::Throttled,
        _ if status >= 500 => Kind::Transient,
        _ => Kind::Refused,
    }
}

/// An error of an event stream that is none of the service's.
fn event_chain<R: std::fmt::Debug>(error: &SdkError<EventError, R>) -> String {
    match error {
        SdkError::DispatchFailure(failure) => {
            failure.as_connector_error().map_or_else(|| error.to_string(), |e| chain(e))
        }
        other => other.to_string(),
    }
}

/// The error with its sources, in one short line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(next) = source {
        let more = next.to_string();
        // A wrapper often repeats its source.
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = next.source();
    }
    first_line(&text)
}

/// The first line of a message, at most 300 characters: it goes into a log line.
fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_what_to_do() {
        let table = [
            ("ProvisionedThroughputExceededException", 400, Kind::Throttled),
            ("Whatever", 429, Kind::Throttled),
            ("ExpiredIteratorException", 400, Kind::Iterator),
            ("ResourceNotFoundException", 400, Kind::Gone),
            ("ResourceInUseException", 400, Kind::InUse),
            ("AccessDeniedException", 400, Kind::Denied),
            ("KMSDisabledException", 400, Kind::Denied),
            ("ExpiredTokenException", 400, Kind::Transient),
            ("RequestTimeTooSkewed", 403, Kind::Transient),
            ("SignatureDoesNotMatch", 403, Kind::Transient),
            ("Whatever", 503, Kind::Transient),
            ("InvalidArgumentException", 400, Kind::Refused),
        ];
        for (code, status, kind) in table {
            assert_eq!(kind_of(code, status), kind, "{code}");
        }
    }

    #[test]
    fn long_messages_are_cut() {
        assert_eq!(first_line("one\ntwo"), "one");
        assert_eq!(first_line(&"x".repeat(1000)).len(), 300);
    }
}
