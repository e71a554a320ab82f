//! `standpipe bench`: what the hot path costs on local data, stage by stage: records and megabytes a second of one core,
//! and CPU seconds a GB of records.
//!
//! Every stage is the one that a worker runs, made of a config as a worker makes it. CPU time is what the process used, not
//! what a clock on the wall says; the median of rounds after a warm-up.
//! Never: the network, TLS, AWS, a file but the input.

mod catalogue;
mod input;
mod measure;
mod pipeline;
mod records;
mod report;
mod steps;

use anyhow::{Context, Result};

use self::input::Input;
use self::measure::Budget;
use self::report::Report;
use crate::args::{self, Output};
use crate::exit::{Exit, Usage};
use crate::terminal;

pub fn run(args: args::Bench) -> Result<Exit> {
    if cfg!(debug_assertions) {
        let warning = "this is a debug build: its figures say nothing about a release";
        terminal::err(&format!("{} {warning}\n", terminal::red("warning:")));
    }
    let input = args.input.as_deref().map(Input::read).transpose()?;
    let budget = Budget::new(args.seconds);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    // Readers pace themselves: under a paused clock that takes no time.
    let measured = runtime.context("cannot start the runtime")?.block_on(async {
        if args.config.is_empty() {
            catalogue::measure(input.as_ref(), &args.stages, &budget).await
        } else {
            let config = super::load(&args.config)?;
            pipeline::measure(&config, args.pipeline.as_deref(), (input.as_ref(), &args.stages), &budget).await
        }
    })?;
    if measured.rows.is_empty() && measured.left_out.is_empty() {
        let known = measured.known.join(", ");
        return Err(Usage(format!("there is no stage {}, only {known}", args.stages.join(", "))).into());
    }
    let report = Report::new(measured, input.as_ref());
    match args.report.output {
        Output::Json => super::json(&report)?,
        Output::Human => terminal::out(&report.text(terminal::stdout_columns()))?,
    }
    Ok(Exit::Ok)
}
