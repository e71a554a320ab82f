//! `standpipe leases`: the lease table, looked at and mended. What each verb does is in `standpipe_lease::mend`; here it
//! is shown, asked about, and reported.
//!
//! Nothing is changed without `--yes`, or a yes on the terminal; `--dry-run` shows what would be done.

mod cells;
mod list;
mod release;
mod reset;
mod settle;
mod thaw;

use anyhow::Result;
use standpipe_flow::Millis;
use standpipe_lease::mend::Mend;
use standpipe_source::Stream;
use standpipe_worker::Platform;

use super::consent::{Consented, consent, outcome};
use crate::args::Output;
use crate::args::leases::{Leases, Of};
use crate::exit::Exit;
use crate::terminal;

/// Does what the verb says.
pub fn run(verb: Leases) -> Result<Exit> {
    super::runtime()?.block_on(async {
        match verb {
            Leases::List(args) => list::run(args).await,
            Leases::Release(args) => release::run(args).await,
            Leases::Reset(args) => reset::run(args).await,
            Leases::Settle(args) => settle::run(args).await,
            Leases::Thaw(args) => thaw::run(args).await,
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
    let pipeline = super::pipeline(&config, of.pipeline.as_deref())?;
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
