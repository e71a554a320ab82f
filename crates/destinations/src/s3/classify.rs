//! What an answer of S3 means for the caller: the one place where error codes are read.
//!
//! A code decides, then the status. What the service may stop saying by itself is [`DeliveryError::Retry`]; what a human
//! must change is [`DeliveryError::Halt`]; nothing is ever [`DeliveryError::Reject`]: no batch is to blame for what S3
//! answers, and Firehose retries S3 for ever too.
//! Never: puts a record's content in a message. Codes: Amazon S3 API reference, "Error responses".

use std::error::Error;
use std::time::Duration;

use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use standpipe_flow::DeliveryError;

/// Characters of a message from outside that are kept.
const CAUSE_CHARS_MAX: usize = 400;

/// Codes that pass by themselves whatever the status is: busy, restarting, or a signature of credentials or a clock that
/// the SDK is about to renew.
const PASSING: [&str; 20] = [
    "BadDigest",
    "ConditionalRequestConflict",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteBody",
    "InternalError",
    "InternalFailure",
    "NoSuchUpload",
    "OperationAborted",
    "RequestExpired",
    "RequestLimitExceeded",
    "RequestTimeTooSkewed",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "SignatureDoesNotMatch",
    "SlowDown",
    "TemporaryRedirect",
    "TokenRefreshRequired",
    "XAmzContentSHA256Mismatch",
];

/// What the caller must do after `operation` failed with `error`.
pub(super) fn classify<E>(operation: &str, error: &SdkError<E, HttpResponse>) -> DeliveryError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let cause = cause(operation, error);
    match error {
        SdkError::ConstructionFailure(_) => DeliveryError::Halt { cause },
        SdkError::ServiceError(answer) => {
            let status = answer.raw().status().as_u16();
            match verdict(error.code(), status) {
                Meaning::Passing => DeliveryError::Retry { after: retry_after(answer.raw()), cause },
                Meaning::Lasting => DeliveryError::Halt { cause },
            }
        }
        // No answer, a cut one, or one that cannot be read.
        _ => DeliveryError::Retry { after: None, cause },
    }
}

/// Whether S3 answered with this code, with the status of an error: an error inside a 200 proves nothing (it counts as
/// a 5xx).
pub(super) fn answered<E>(error: &SdkError<E, HttpResponse>, code: &str) -> bool
where
    E: ProvideErrorMetadata,
{
    error.code() == Some(code) && error.raw_response().is_some_and(|response| !response.status().is_success())
}

/// The status of the answer, if there was one.
pub(super) fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Meaning {
    Passing,
    Lasting,
}

fn verdict(code: Option<&str>, status: u16) -> Meaning {
    let by_code = code.is_some_and(|code| PASSING.contains(&code) || code.contains("Throttl"));
    if by_code || matches!(status, 200..=299 | 408 | 409 | 429 | 500..=599) && !not_built(code, status) {
        Meaning::Passing
    } else {
        Meaning::Lasting
    }
}

/// 501 is no outage: the server will never do it.
fn not_built(code: Option<&str>, status: u16) -> bool {
    status == 501 || code == Some("NotImplemented")
}

/// Whether the server says that it does not know what was asked for, rather than that it may not be done.
pub(super) fn unsupported<E>(error: &SdkError<E, HttpResponse>) -> bool
where
    E: ProvideErrorMetadata,
{
    matches!(status(error), Some(405 | 501)) || error.code() == Some("NotImplemented")
}

/// `Retry-After` in seconds; the form with a date is not used by S3.
fn retry_after(response: &HttpResponse) -> Option<Duration> {
    let seconds: u64 = response.headers().get("retry-after")?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(3600)))
}

fn cause<E>(operation: &str, error: &SdkError<E, HttpResponse>) -> String
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let SdkError::ServiceError(answer) = error else {
        return bounded(&format!("{operation}: {}", DisplayErrorContext(error)));
    };
    let status = answer.raw().status().as_u16();
    let Some(code) = error.code() else {
        let said = answer.err().source().map_or_else(|| "no code".to_owned(), ToString::to_string);
        return bounded(&format!("{operation}: {status}: {said}"));
    };
    let message = error.message().unwrap_or_default();
    let request = answer.err().meta().request_id().unwrap_or("-");
    bounded(&format!("{operation}: {status} {code}: {message} (request {request})"))
}

/// Control characters do not belong in a log line, nor does a body of unknown size.
fn bounded(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(CAUSE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::operation::complete_multipart_upload::CompleteMultipartUploadError;
    use aws_smithy_runtime_api::client::result::ConnectorError;
    use aws_smithy_types::body::SdkBody;
    use aws_smithy_types::error::ErrorMetadata;

    use super::*;

    type CompleteError = SdkError<CompleteMultipartUploadError, HttpResponse>;

    fn error(status: u16, code: &str) -> CompleteError {
        let mut response = HttpResponse::new(status.try_into().expect("a status"), SdkBody::empty());
        response.headers_mut().insert("retry-after", "7");
        let meta = ErrorMetadata::builder().code(code).message("as it\nsaid").build();
        SdkError::service_error(CompleteMultipartUploadError::generic(meta), response)
    }

    fn meaning(error: &CompleteError) -> &'static str {
        match classify("CompleteMultipartUpload", error) {
            DeliveryError::Retry { .. } => "retry",
            DeliveryError::Reject { .. } => "reject",
            DeliveryError::Halt { .. } => "halt",
        }
    }

    #[test]
    fn every_answer_has_its_meaning() {
        let table = [
            (500, "InternalError", "retry"),
            (503, "SlowDown", "retry"),
            (503, "ServiceUnavailable", "retry"),
            (502, "", "retry"),
            (200, "InternalError", "retry"),
            (200, "NoSuchUpload", "retry"),
            (400, "ExpiredToken", "retry"),
            (400, "RequestTimeout", "retry"),
            (400, "BadDigest", "retry"),
            (403, "RequestTimeTooSkewed", "retry"),
            (403, "SignatureDoesNotMatch", "retry"),
            (404, "NoSuchUpload", "retry"),
            (409, "OperationAborted", "retry"),
            (429, "TooManyRequests", "retry"),
            (400, "KMS.ThrottlingException", "retry"),
            (403, "AccessDenied", "halt"),
            (403, "InvalidAccessKeyId", "halt"),
            (404, "NoSuchBucket", "halt"),
            (400, "KMS.DisabledException", "halt"),
            (400, "KMS.NotFoundException", "halt"),
            (400, "AuthorizationHeaderMalformed", "halt"),
            (301, "PermanentRedirect", "halt"),
            (501, "NotImplemented", "halt"),
            (400, "InvalidPart", "halt"),
        ];
        for (status, code, expected) in table {
            assert_eq!(meaning(&error(status, code)), expected, "{status} {code}");
        }
    }

    #[test]
    fn no_answer_is_tried_again_and_a_request_that_cannot_be_made_is_not() {
        assert_eq!(meaning(&SdkError::timeout_error("late")), "retry");
        assert_eq!(meaning(&SdkError::dispatch_failure(ConnectorError::io("reset".into()))), "retry");
        assert_eq!(meaning(&SdkError::construction_failure("no region")), "halt");
    }

    #[test]
    fn an_error_inside_a_200_answers_nothing() {
        assert!(answered(&error(404, "NoSuchUpload"), "NoSuchUpload"));
        assert!(!answered(&error(200, "NoSuchUpload"), "NoSuchUpload"));
    }

    #[test]
    fn the_cause_is_one_line_and_retry_after_is_kept() {
        let DeliveryError::Retry { after, cause } = classify("CompleteMultipartUpload", &error(503, "SlowDown")) else {
            panic!("a throttle is retried");
        };
        assert_eq!(after, Some(Duration::from_secs(7)));
        assert_eq!(cause, "CompleteMultipartUpload: 503 SlowDown: as it said (request -)");
    }
}
