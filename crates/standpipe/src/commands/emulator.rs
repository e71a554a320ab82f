//! `standpipe emulator`: the embedded endpoints on a port, for people's own tests.
//!
//! stdout has the variables to set, then "ready"; with `--output json` one object. It ends with 0 at SIGTERM or Ctrl-C.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use standpipe_emulator::{Clock, Emulator, Options, serve};
use standpipe_flow::Clock as _;
use standpipe_worker::platform::SystemClock;
use tokio::net::TcpListener;

use super::stop::Signals;
use crate::args::{self, Output};
use crate::exit::Exit;
use crate::terminal;

/// The emulator's only region.
pub const REGION: &str = "us-east-1";
/// Any credentials are taken; these say what they are for.
pub const CREDENTIAL: &str = "standpipe";

#[derive(Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Environment {
    aws_endpoint_url: String,
    aws_region: &'static str,
    aws_default_region: &'static str,
    aws_access_key_id: &'static str,
    aws_secret_access_key: &'static str,
}

pub fn run(args: args::Emulator) -> Result<Exit> {
    super::runtime()?.block_on(serve_until_stopped(args))
}

async fn serve_until_stopped(args: args::Emulator) -> Result<Exit> {
    let signals = Signals::listen("")?;
    let emulator =
        Emulator::new(Options { data_dir: args.data.clone(), limits: !args.no_limits, ..Options::new(clock()) })
            .context("cannot open the data directory")?;
    for stream in &args.streams {
        // With a data directory an earlier run may have made it; its shards are then what they were.
        if emulator.open_shards(&stream.name).is_err() {
            let made = emulator.create_stream(&stream.name, stream.shards);
            made.with_context(|| format!("cannot make the stream {}", stream.name))?;
        }
    }
    for bucket in &args.buckets {
        emulator.create_bucket(bucket).with_context(|| format!("cannot make the bucket {bucket}"))?;
    }
    for function in args.functions {
        emulator.forward_function(&function.name, function.address);
    }
    let listener = TcpListener::bind(args.listen).await.with_context(|| format!("cannot listen on {}", args.listen))?;
    let address = listener.local_addr().context("cannot tell the port")?;
    announce(&format!("http://{address}"), args.report.output)?;
    serve(emulator, listener, signals.stop.cancelled()).await.context("cannot serve any longer")?;
    Ok(Exit::Ok)
}

fn announce(url: &str, output: Output) -> Result<()> {
    let environment = Environment {
        aws_endpoint_url: url.to_owned(),
        aws_region: REGION,
        aws_default_region: REGION,
        aws_access_key_id: CREDENTIAL,
        aws_secret_access_key: CREDENTIAL,
    };
    match output {
        Output::Json => super::json(&environment),
        Output::Human => Ok(terminal::out(&format!(
            "export AWS_ENDPOINT_URL={url}\n\
             export AWS_REGION={REGION}\n\
             export AWS_DEFAULT_REGION={REGION}\n\
             export AWS_ACCESS_KEY_ID={CREDENTIAL}\n\
             export AWS_SECRET_ACCESS_KEY={CREDENTIAL}\n\
             ready\n"
        ))?),
    }
}

/// The time of day at the start, and from there on a clock that never runs backwards.
pub fn clock() -> Clock {
    let system = SystemClock::start();
    let start = Duration::from_millis(system.wall().0);
    Arc::new(move || u64::try_from((start + system.elapsed()).as_millis()).unwrap_or(u64::MAX))
}
