//! The exceptions of the Data API, by name and status.

/// What is answered instead of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exception {
    pub(crate) status: u16,
    pub(crate) kind: &'static str,
    pub(crate) message: String,
}

impl Exception {
    pub(crate) fn validation(message: impl Into<String>) -> Self {
        Self { status: 400, kind: "ValidationException", message: message.into() }
    }

    pub(crate) fn not_found(message: &str) -> Self {
        Self { status: 400, kind: "ResourceNotFoundException", message: message.to_owned() }
    }

    pub(crate) fn active_statements() -> Self {
        let message = "Active statements exceeded the allowed quota (500)".to_owned();
        Self { status: 400, kind: "ActiveStatementsExceededException", message }
    }

    pub(crate) fn throttled() -> Self {
        Self { status: 400, kind: "ThrottlingException", message: "Rate exceeded".to_owned() }
    }

    pub(crate) fn internal() -> Self {
        Self { status: 500, kind: "InternalServerException", message: "Internal server error".to_owned() }
    }

    pub(crate) fn database_connection() -> Self {
        let message = "Connection to the database could not be established".to_owned();
        Self { status: 500, kind: "DatabaseConnectionException", message }
    }

    pub(crate) fn unknown(operation: &str) -> Self {
        Self { status: 400, kind: "UnknownOperationException", message: format!("unknown operation {operation}") }
    }

    /// The body of the answer.
    pub(crate) fn body(&self) -> Vec<u8> {
        serde_json::json!({ "__type": self.kind, "Message": self.message }).to_string().into_bytes()
    }
}
