//! `lease ->`: the DynamoDB client, and what an answer of DynamoDB proves.
//!
//! The SDK's retries are off: a conditional write that the SDK sent twice would be refused by its own first copy, and
//! its back-off draws from a random source of its own. Every failure is named by what it proves ([`CommitError`]):
//! a write that may have happened is never called refused.
//!
//! Never here: a retry.

use std::fmt;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Builder, StalledStreamProtectionConfig};
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_types::SdkConfig;
use standpipe_flow::CommitError;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest that one write or read of an item may take; a quarter of the failover time if that is less, so that a
/// heartbeat can be sent again before its lease runs out.
const OPERATION_TIMEOUT_MAX: Duration = Duration::from_secs(2);
/// How long a page of a scan, or a call about a table, may take.
const PATIENT_TIMEOUT: Duration = Duration::from_secs(10);

/// A DynamoDB client of its own connections, without retries. Heartbeats have one that nothing else uses.
#[derive(Clone)]
pub struct Dynamo {
    /// For single items.
    pub(crate) quick: Client,
    /// For scans and for tables.
    pub(crate) patient: Client,
}

impl fmt::Debug for Dynamo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dynamo")
    }
}

impl Dynamo {
    /// A client for leases that fail over after `failover`.
    pub fn new(config: &SdkConfig, failover: Duration) -> Self {
        let client = |timeout: Duration| {
            let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_timeout(timeout).build();
            let config = Builder::from(config)
                .behavior_version(BehaviorVersion::latest())
                .retry_config(RetryConfig::disabled())
                .timeout_config(timeouts)
                // The timeout of the whole call covers a stalled body as well.
                .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
                .build();
            Client::from_conf(config)
        };
        Self { quick: client(OPERATION_TIMEOUT_MAX.min(failover / 4)), patient: client(PATIENT_TIMEOUT) }
    }
}

/// What a failed call proves, leaving aside conditions and cancelled transactions, whose rows the callers read first.
pub(crate) fn classify<E>(error: &SdkError<E, HttpResponse>) -> CommitError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match error {
        SdkError::ServiceError(service) => {
            let status = service.raw().status().as_u16();
            classify_service(service.err().code(), status, service.err().message())
        }
        SdkError::ConstructionFailure(_) => CommitError::Denied { cause: causes(error) },
        _ => CommitError::Unknown { cause: causes(error) },
    }
}

/// By the code of DynamoDB's error answer, its HTTP status and its message.
fn classify_service(code: Option<&str>, status: u16, message: Option<&str>) -> CommitError {
    let cause = || format!("{}: {}", code.unwrap_or("no error code"), message.unwrap_or("no message"));
    match code.unwrap_or_default() {
        "ConditionalCheckFailedException" => CommitError::Refused { lease: None, now: None },
        "TransactionConflictException" | "TransactionInProgressException" | "ReplicatedWriteConflictException" => {
            CommitError::Conflict
        }
        "ProvisionedThroughputExceededException"
        | "ThrottlingException"
        | "Throttling"
        | "RequestLimitExceeded"
        | "LimitExceededException" => CommitError::Throttled,
        // The same token with another request: an earlier copy may have been written.
        "IdempotentParameterMismatchException" => CommitError::Unknown { cause: cause() },
        _ if status == 429 => CommitError::Throttled,
        _ if (400..500).contains(&status) => CommitError::Denied { cause: cause() },
        _ => CommitError::Unknown { cause: cause() },
    }
}

/// An error with its causes, on one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(code: &str, status: u16) -> &'static str {
        match classify_service(Some(code), status, None) {
            CommitError::Refused { .. } => "refused",
            CommitError::Conflict => "conflict",
            CommitError::Throttled => "throttled",
            CommitError::Unknown { .. } => "unknown",
            CommitError::Denied { .. } => "denied",
            CommitError::Unreadable { .. } => "unreadable",
        }
    }

    #[test]
    fn an_answer_that_does_not_prove_that_nothing_was_written_is_unclear() {
        assert_eq!(kind("InternalServerError", 500), "unknown");
        assert_eq!(kind("ServiceUnavailable", 503), "unknown");
        assert_eq!(kind("IdempotentParameterMismatchException", 400), "unknown");
        assert_eq!(kind("", 502), "unknown");
    }

    #[test]
    fn an_answer_that_proves_it_is_named_by_what_to_do() {
        assert_eq!(kind("ConditionalCheckFailedException", 400), "refused");
        assert_eq!(kind("TransactionConflictException", 400), "conflict");
        assert_eq!(kind("TransactionInProgressException", 400), "conflict");
        assert_eq!(kind("ProvisionedThroughputExceededException", 400), "throttled");
        assert_eq!(kind("ThrottlingException", 400), "throttled");
        assert_eq!(kind("RequestLimitExceeded", 400), "throttled");
        assert_eq!(kind("AccessDeniedException", 400), "denied");
        assert_eq!(kind("ResourceNotFoundException", 400), "denied");
        assert_eq!(kind("ExpiredTokenException", 400), "denied");
    }
}
