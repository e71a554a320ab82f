//! `standpipe leases`: the lease table, looked at and mended. What each verb does is in `standpipe_lease::mend`; here it
//! is shown, asked about, and reported.
//!
//! Nothing is changed without `--yes`, or a yes on the terminal; `--dry-run` shows what would be done.

mod cells;
mod list;
mod release;
mod reset;
mod settle;

use anyhow::Result;
use standpipe_flow::Millis;
use standpipe_lease::mend::Mend;
use standpipe_source::Stream;
use standpipe_worker::Platform;

use crate::args::Output;
use crate::args::leases::{Consent, Leases, Of};
use crate::exit::{Exit, Usage};
use crate::terminal;

/// Does what the verb says.
pub fn run(verb: Leases) -> Result<Exit> {
    super::runtime()?.block_on(async {
        match verb {
            Leases::List(args) => list::run(args).await,
            Leases::Release(args) => release::run(args).await,
            Leases::Reset(args) => reset::run(args).await,
            Leases::Settle(args) => settle::run(args).await,
        }
    })
}

/// The pipeline's tables and its stream, and when the look at them began.
struct Tables {
    mend: Mend,
    stream: Stream,
    now: Millis,
}

async fn tables(of: &Of) -> Result<Tables> {
    let config = super::load(&of.config.files)?;
    let names = || config.pipelines.iter().map(|pipeline| pipeline.name.as_str()).collect::<Vec<_>>().join(", ");
    let pipeline = match (&of.pipeline, config.pipelines.as_slice()) {
        (None, [only]) => only,
        (None, _) => return Err(Usage(format!("name one with --pipeline: {}", names())).into()),
        (Some(name), all) => {
            let found = all.iter().find(|pipeline| pipeline.name == *name);
            found.ok_or_else(|| Usage(format!("there is no pipeline {name}, only {}", names())))?
        }
    };
    let platform = Platform::system(&config.aws).await;
    let (mend, stream) = standpipe_worker::mend(&config, pipeline, &platform)?;
    Ok(Tables { mend, stream, now: platform.clock.wall() })
}

/// For people, where stderr is looked at: why it takes a while.
fn say_watching(of: &Of, mend: &Mend, what: &str) {
    if of.report.output == Output::Human && terminal::stderr_is_terminal() {
        let table = mend.table.name();
        terminal::err(&format!("watching {table} to see {what} ...\n"));
    }
}

/// What was decided about a plan that was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Consented {
    Go,
    /// `--dry-run`, or no.
    Stop,
}

/// Whether it may be done. Without a terminal there must be `--yes`.
fn consent(consent: &Consent, question: &str) -> Result<Consented> {
    if consent.dry_run {
        return Ok(Consented::Stop);
    }
    if consent.yes {
        return Ok(Consented::Go);
    }
    match terminal::ask(question) {
        Some(true) => Ok(Consented::Go),
        Some(false) => {
            terminal::err("nothing was changed\n");
            Ok(Consented::Stop)
        }
        None => {
            Err(Usage("nothing was changed: there is no terminal to ask on; add --yes, or --dry-run".into()).into())
        }
    }
}

/// How a report says what became of it.
fn outcome(dry_run: bool, done: bool) -> &'static str {
    match (dry_run, done) {
        (true, _) => "dry_run",
        (false, true) => "done",
        (false, false) => "nothing",
    }
}
