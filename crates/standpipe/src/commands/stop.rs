//! SIGTERM and Ctrl-C: the first asks for an orderly end, the second ends the process at once with 130.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;
use crate::logs;

/// Signals within this time are one.
const SAME_SIGNAL: Duration = Duration::from_millis(500);

/// Listens to signals until it is dropped.
#[derive(Debug)]
pub struct Signals {
    /// Cancelled by the first signal.
    pub stop: CancellationToken,
    _listener: JoinSet<()>,
}

impl Signals {
    /// Begins to listen; `said` is told to people at the first signal, unless it is empty.
    pub fn listen(said: &'static str) -> Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen to SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen to SIGTERM")?;
        let stop = CancellationToken::new();
        let first = stop.clone();
        let mut listener = JoinSet::new();
        listener.spawn(async move {
            next(&mut interrupt, &mut terminate).await;
            if !said.is_empty() {
                logs::say(said);
            }
            first.cancel();
            // A platform that signals a process and then its group means one signal by it.
            let one = tokio::time::sleep(SAME_SIGNAL);
            tokio::pin!(one);
            loop {
                tokio::select! {
                    biased;
                    () = next(&mut interrupt, &mut terminate), if !one.is_elapsed() => {}
                    () = &mut one => break,
                }
            }
            next(&mut interrupt, &mut terminate).await;
            logs::say("interrupted again: ending at once");
            std::process::exit(Exit::Interrupted as i32);
        });
        Ok(Self { stop, _listener: listener })
    }
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
