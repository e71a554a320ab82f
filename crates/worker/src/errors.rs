//! Why a worker does not start, or ends; named by the exit code.

/// Why a worker did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// What the config says cannot be done as it stands: a table is missing, the stream is another one, a destination's
    /// id stands for something else. Exit code 3.
    #[error("{0}")]
    Findings(String),
    /// The present identity may not do what is needed. Exit code 4.
    #[error("not permitted: {0}")]
    Permission(String),
    /// It failed while running. Exit code 1.
    #[error("{0}")]
    Failed(String),
}

impl WorkerError {
    /// The program's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Findings(_) => 3,
            Self::Permission(_) => 4,
            Self::Failed(_) => 1,
        }
    }
}
