//! The exit codes, and which error ends in which.

use std::process::ExitCode;

use standpipe_config::ConfigErrors;
use standpipe_lease::mend::MendError;
use standpipe_source::{PutError, StreamError};
use standpipe_worker::WorkerError;

use crate::{logs, terminal};

/// How the program ended. The numbers are part of its interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done; also a worker that was told to stop and drained.
    Ok = 0,
    /// Failed while running.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The config is wrong, or there are findings.
    Config = 3,
    /// The present identity may not do what is needed.
    Permission = 4,
    /// Done in part.
    Partly = 5,
    /// A drain did not finish in time.
    DrainUnfinished = 7,
    /// Interrupted a second time.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// The command line asks for something that cannot be; exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Tells people what went wrong, and gives the code of it.
pub fn failed(error: &anyhow::Error) -> Exit {
    if let Some(errors) = error.downcast_ref::<ConfigErrors>() {
        terminal::err(&errors.render(terminal::stderr_has_color()));
        let count = terminal::counted(errors.errors.iter().filter(|error| !error.warning).count() as u64, "error");
        terminal::err(&format!("\n{count} in the config\n"));
        return Exit::Config;
    }
    logs::say_error(error);
    if let Some(error) = error.downcast_ref::<WorkerError>() {
        return match error {
            WorkerError::Findings(_) => Exit::Config,
            WorkerError::Permission(_) => Exit::Permission,
            WorkerError::Failed(_) => Exit::Failed,
        };
    }
    if let Some(error) = error.downcast_ref::<MendError>() {
        return match error {
            MendError::Refused { .. } => Exit::Config,
            MendError::Denied { .. } => Exit::Permission,
            MendError::Unavailable { .. } => Exit::Failed,
        };
    }
    let put = matches!(error.downcast_ref::<PutError>(), Some(PutError::Denied { .. }));
    if put || matches!(error.downcast_ref::<StreamError>(), Some(StreamError::Denied { .. })) {
        return Exit::Permission;
    }
    if error.downcast_ref::<Usage>().is_some() { Exit::Usage } else { Exit::Failed }
}
