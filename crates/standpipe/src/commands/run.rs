//! `standpipe run`: the worker, until it is told to stop, or has caught up.

use anyhow::Result;
use standpipe_worker::{Ending, Options, Platform};

use super::stop::Signals;
use super::version::VERSION;
use crate::args::Run;
use crate::exit::Exit;
use crate::logs;

pub fn run(args: Run) -> Result<Exit> {
    let config = super::load(&args.config.files)?;
    logs::to_stderr(config.logs)?;
    let options = Options {
        pipelines: args.pipelines,
        until_caught_up: args.until.is_some(),
        adopt_destinations: args.adopt_destinations,
        version: VERSION.to_owned(),
    };
    super::runtime()?.block_on(async {
        let signals = Signals::listen("told to stop; once more to end at once")?;
        let platform = Platform::system(&config.aws).await;
        let ending = standpipe_worker::run(&config, &options, platform, signals.stop.clone()).await?;
        Ok(match ending {
            Ending::Drained | Ending::CaughtUp => Exit::Ok,
            Ending::DrainUnfinished => {
                logs::say("the drain did not finish in time; what was not delivered is read again");
                Exit::DrainUnfinished
            }
        })
    })
}
