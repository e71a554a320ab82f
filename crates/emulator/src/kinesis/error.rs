//! The errors of the Kinesis API, by the names of its reference.

use std::io;

use crate::http::{Answer, json_error};

/// One exception of the Kinesis API.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct KinesisError {
    kind: &'static str,
    message: String,
}

impl KinesisError {
    pub(super) fn new(kind: &'static str, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(super) fn argument(message: impl Into<String>) -> Self {
        Self::new("InvalidArgumentException", message)
    }

    pub(super) fn validation(message: impl Into<String>) -> Self {
        Self::new("ValidationException", message)
    }

    pub(super) fn stream_not_found(name: &str) -> Self {
        Self::new("ResourceNotFoundException", format!("Stream {name} under account 000000000000 not found."))
    }

    pub(super) fn shard_not_found(stream: &str, shard: &str) -> Self {
        let message = format!("Could not find shard {shard} in stream {stream} under account 000000000000.");
        Self::new("ResourceNotFoundException", message)
    }

    pub(super) fn throttled(shard: &str, stream: &str) -> Self {
        let message = format!("Rate exceeded for shard {shard} in stream {stream} under account 000000000000.");
        Self::new("ProvisionedThroughputExceededException", message)
    }

    pub(super) fn storage(error: io::Error) -> Self {
        Self::new("InternalFailure", format!("the data directory failed: {error}"))
    }

    /// The API's name of the exception.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// What went wrong, in words.
    pub fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn answer(&self) -> Answer {
        let status = if self.kind == "InternalFailure" { 500 } else { 400 };
        json_error(status, "1.1", self.kind, &self.message)
    }
}
