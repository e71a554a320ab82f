//! The verbs, one file each: what each does with its arguments, and how it ended.

mod bench;
mod check;
mod consent;
#[cfg(feature = "emulator")]
mod demo;
#[cfg(feature = "emulator")]
mod emulator;
#[cfg(feature = "emulator")]
mod golden;
mod healthcheck;
mod infer;
mod leases;
#[cfg(feature = "emulator")]
mod local;
mod plan;
mod put;
mod redrive;
mod run;
mod schema;
mod stop;
#[cfg(feature = "emulator")]
mod trial;
mod version;

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;
use standpipe_config::config::Pipeline;
use standpipe_config::{Config, ConfigErrors};

use crate::args::Verb;
use crate::exit::{Exit, Usage};
use crate::{environment, terminal};

/// Does what the verb says.
pub fn dispatch(verb: Verb) -> Result<Exit> {
    match verb {
        Verb::Run(args) => run::run(args),
        #[cfg(feature = "emulator")]
        Verb::Demo(args) => demo::run(args),
        #[cfg(feature = "emulator")]
        Verb::Emulator(args) => emulator::run(args),
        Verb::Put(args) => put::run(args),
        Verb::Leases(args) => leases::run(args),
        Verb::Redrive(args) => redrive::run(args),
        Verb::Plan(args) => plan::run(args),
        Verb::Infer(args) => infer::run(args),
        Verb::Check(args) => check::run(args),
        #[cfg(feature = "emulator")]
        Verb::Try(args) => trial::run(args),
        #[cfg(feature = "emulator")]
        Verb::Test(args) => golden::run(args),
        Verb::Bench(args) => bench::run(args),
        Verb::Schema => schema::run(),
        Verb::Version(report) => version::run(report.output),
        Verb::Healthcheck(args) => healthcheck::run(args),
    }
}

/// Reads a config as every verb does.
fn load(files: &[PathBuf]) -> Result<Config, ConfigErrors> {
    standpipe_config::load(files, &environment::get, &standpipe_worker::Known)
}

/// The pipeline of this name, or the only one.
fn pipeline<'a>(config: &'a Config, name: Option<&str>) -> Result<&'a Pipeline, Usage> {
    let names = || config.pipelines.iter().map(|pipeline| pipeline.name.as_str()).collect::<Vec<_>>().join(", ");
    match (name, config.pipelines.as_slice()) {
        (None, [only]) => Ok(only),
        (None, _) => Err(Usage(format!("name one with --pipeline: {}", names()))),
        (Some(name), all) => {
            let found = all.iter().find(|pipeline| pipeline.name == name);
            found.ok_or_else(|| Usage(format!("there is no pipeline {name}, only {}", names())))
        }
    }
}

/// Writes a report as one JSON object.
fn json(report: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string(report).context("the report is no JSON")?;
    text.push('\n');
    Ok(terminal::out(&text)?)
}

/// The threads that tasks run on, one a core.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")
}
