//! The log: lines on stderr, JSON when stderr is no terminal.
//!
//! Which lines is said by `STANDPIPE_LOG`, or else `RUST_LOG`: `debug`, `standpipe_worker=debug,warn`, ...; without
//! them it is `info` of Standpipe and `warn` of everything else, but for what tells its errors as dumps of its own state.
//! Never: record content, or a secret.

#[cfg(feature = "emulator")]
use std::fs::File;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, anyhow};
use standpipe_config::config::Logs;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::exit::Usage;
use crate::{environment, terminal};

/// What writes whole requests and answers at its lowest levels: record content must not reach a log, whatever is asked for.
const BODIES: [&str; 6] = [
    "aws_smithy_runtime",
    "aws_smithy_runtime_api",
    "aws_smithy_http_client",
    "aws_sdk_kinesis",
    "hyper",
    "hyper_util",
];

/// `aws_config` warns of each try to have credentials, with whole answers; the request that failed says it in a line.
const DEFAULT: &str = "warn,standpipe=info,aws_config=error";

/// Whether stderr holds JSON, so that everything else on it must be JSON as well.
static JSON: AtomicBool = AtomicBool::new(false);

/// Begins to log to stderr.
///
/// # Errors
/// When the filter in the environment is none.
pub fn to_stderr(form: Logs) -> Result<()> {
    let json = match form {
        Logs::Auto => !std::io::stderr().is_terminal(),
        Logs::Json => true,
        Logs::Text => false,
    };
    JSON.store(json, Ordering::Relaxed);
    begin(json, terminal::stderr_has_color(), std::io::stderr)
}

/// Begins to log into a file, as text.
///
/// # Errors
/// When the filter in the environment is none.
#[cfg(feature = "emulator")]
pub fn to_file(file: File) -> Result<()> {
    begin(false, false, file)
}

/// Tells people something, in the form that stderr has.
pub fn say(text: &str) {
    if JSON.load(Ordering::Relaxed) {
        tracing::warn!("{text}");
    } else {
        terminal::err(&format!("{text}\n"));
    }
}

/// Tells people why the program ends, in the form that stderr has.
pub fn say_error(error: &anyhow::Error) {
    if JSON.load(Ordering::Relaxed) {
        tracing::error!("{error:#}");
    } else {
        terminal::err(&format!("{} {error:#}\n", terminal::red("error:")));
    }
}

fn begin(json: bool, color: bool, writer: impl for<'w> MakeWriter<'w> + Send + Sync + 'static) -> Result<()> {
    let builder = tracing_subscriber::fmt().with_env_filter(filter()?).with_writer(writer);
    let begun = if json {
        builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
    } else {
        builder.with_ansi(color).try_init()
    };
    begun.map_err(|error| anyhow!("cannot begin to log: {error}"))
}

fn filter() -> Result<EnvFilter> {
    let set = |name: &'static str| environment::get(name).filter(|text| !text.is_empty()).map(|text| (name, text));
    let (name, text) = set("STANDPIPE_LOG").or_else(|| set("RUST_LOG")).unwrap_or(("", DEFAULT.to_owned()));
    let mut filter = EnvFilter::try_new(&text).map_err(|error| Usage(format!("{name} is no log filter: {error}")))?;
    for target in BODIES {
        let quiet = format!("{target}=info").parse().map_err(|error| anyhow!("{target} is no log target: {error}"))?;
        filter = filter.add_directive(quiet);
    }
    Ok(filter)
}
