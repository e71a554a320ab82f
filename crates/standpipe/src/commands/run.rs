//! `standpipe run`: the worker, until it is told to stop, or has caught up.

use anyhow::{Context, Result};
use standpipe_worker::{Ending, Options, Platform};
use tokio::runtime::{Builder, Handle, Runtime};

use super::stop::Signals;
use super::version::VERSION;
use crate::args::Run;
use crate::environment;
use crate::exit::Exit;
use crate::logs;

/// A thread for heartbeats alone: a lease must not be lost because delivery computes.
struct Heartbeats(Option<Runtime>);

impl Heartbeats {
    fn threads() -> Result<Self> {
        let threads = Builder::new_multi_thread().worker_threads(1).thread_name("heartbeats").enable_all().build();
        Ok(Self(Some(threads.context("cannot start a thread for heartbeats")?)))
    }

    fn handle(&self) -> Option<Handle> {
        self.0.as_ref().map(|threads| threads.handle().clone())
    }
}

impl Drop for Heartbeats {
    fn drop(&mut self) {
        if let Some(threads) = self.0.take() {
            threads.shutdown_background();
        }
    }
}

pub fn run(args: Run) -> Result<Exit> {
    let config = super::load(&args.config.files)?;
    logs::to_stderr(config.logs)?;
    for warning in config.warnings.iter().flat_map(|warnings| &warnings.errors) {
        logs::say(&format!("warning: {warning}"));
    }
    let options = Options {
        pipelines: args.pipelines,
        until_caught_up: args.until.is_some(),
        adopt_destinations: args.adopt_destinations,
        version: VERSION.to_owned(),
    };
    let heartbeats = Heartbeats::threads()?;
    let runtime = super::runtime()?;
    let ended = runtime.block_on(async {
        let signals = Signals::listen("told to stop; once more to end at once")?;
        let mut platform = Platform::system(&config.aws).await;
        platform.heartbeats = heartbeats.handle();
        platform.outside.env = environment::get;
        let ending = standpipe_worker::run(&config, &options, platform, signals.stop.clone()).await?;
        Ok(match ending {
            Ending::Drained | Ending::CaughtUp => Exit::Ok,
            Ending::DrainUnfinished => {
                logs::say("the drain did not finish in time; what was not delivered is read again");
                Exit::DrainUnfinished
            }
        })
    });
    // A computation that is still under way is no reason to stay.
    runtime.shutdown_background();
    ended
}
