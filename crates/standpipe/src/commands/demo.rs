//! `standpipe demo`: the whole program on this machine: endpoints, a stream with 4 shards, workers, one of them killed,
//! one shard split; then a report that counts by reading back what arrived (`target.rs`: Parquet in S3, or a server that
//! runs on this machine).
//!
//! Never: AWS, the network beyond 127.0.0.1, or a directory that no demo made.

mod count;
mod directory;
mod display;
mod fleet;
mod lake;
mod orders;
mod play;
mod producer;
mod redshift;
mod report;
mod scene;
mod search;
mod target;

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};

use self::fleet::Fleet;
use self::play::Play;
use self::report::{Facts, Report};
use self::scene::Scene;
use self::target::Target;
use super::stop::Signals;
use crate::args::{Demo, Output};
use crate::exit::Exit;
use crate::{logs, terminal};

/// Health and metrics of the first worker with `--keep`: the config's default port, on this machine alone.
const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);

pub fn run(args: Demo) -> Result<Exit> {
    let target = target::of(args.destination)?;
    directory::prepare(&args.dir)?;
    logs::to_file(directory::log_file(&args.dir)?)?;
    super::runtime()?.block_on(demo(args, target))
}

async fn demo(args: Demo, mut target: Box<dyn Target>) -> Result<Exit> {
    // The display tells of the first signal, in its own place.
    let signals = Signals::listen("")?;
    terminal::err(&terminal::wrapped(&opening(&args, target.as_ref()), terminal::stderr_columns(), 0));
    let scene = Scene::set(&args.dir, target.as_ref()).await?;
    target.prepare(&scene).await?;
    let fleet = Fleet::start(&scene, args.workers, args.keep.then_some(METRICS)).await?;
    let mut play = Play::new(&args, &scene, fleet, target);
    let told = play.perform(&signals.stop).await;
    // However it went, workers are told to stop before what arrived is counted, unless they are to stay.
    let kept = args.keep && told.is_ok() && !signals.stop.is_cancelled();
    let drained = if kept { Ok(()) } else { play.drain().await };
    play.display.clear();
    let played = told.with_context(|| format!("the log is {}/standpipe.log", args.dir.display()))?;
    drained?;
    let count = play.target.count(&scene, &played.produced).await?;
    let facts = Facts {
        produced: played.produced.shard_of.len() as u64,
        produced_bytes: played.produced.bytes,
        error_objects: scene.error_objects() as u64,
        take_overs: played.take_overs,
        splits: played.splits,
        took: played.took,
        cpu: played.cpu,
        told: play.target.told(&scene, &count),
    };
    let report = Report::new(&count, facts);
    match args.report.output {
        Output::Json => super::json(&report)?,
        Output::Human => terminal::out(&report.text(&args.dir, terminal::stdout_columns()))?,
    }
    let broken = report.broken();
    for promise in &broken {
        terminal::err(&format!("{} {promise}\n", terminal::red("error:")));
    }
    if kept {
        stay(&scene);
        signals.stop.cancelled().await;
        play.drain().await?;
    }
    Ok(if broken.is_empty() { Exit::Ok } else { Exit::Failed })
}

/// Says what is about to happen.
fn opening(args: &Demo, target: &dyn Target) -> String {
    format!(
        "A stream with {} shards, {} workers, {} orders a second for {}, {}.\n\
         On the way a worker is killed and a shard is split; nothing may be lost, or be there twice.\n\n",
        scene::SHARDS,
        args.workers,
        terminal::grouped(args.rate.into()),
        standpipe_config::units::format_duration(args.duration),
        target.opening(&args.dir),
    )
}

/// Tells what is up, and how to use it.
fn stay(scene: &Scene) {
    terminal::err(&format!(
        "\nStill up, until Ctrl-C:\n  \
         metrics    http://{METRICS}/metrics\n  \
         endpoints  {}\n  \
         try        AWS_ENDPOINT_URL={} AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x standpipe put {} FILE --region {}\n",
        scene.url,
        scene.url,
        scene::STREAM,
        super::emulator::REGION,
    ));
}
