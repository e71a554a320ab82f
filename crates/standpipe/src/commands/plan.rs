//! `standpipe plan`: what a config uses of DynamoDB, and what that costs a month, with heartbeats either way. It asks
//! nobody: shards and workers are arguments.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use standpipe_config::config::{Destination, Pipeline, TableColumns};
use standpipe_config::units;
use standpipe_lease::HeartbeatMode;
use standpipe_lease::cost::{self, Cost, Fleet, Units};

use crate::args::{Output, Plan};
use crate::exit::Exit;
use crate::terminal;

/// Dollars for a million units, on demand, in us-east-1 (DynamoDB's price list since November 2024).
const DOLLARS_A_MILLION_WRITES: f64 = 0.625;
const DOLLARS_A_MILLION_READS: f64 = 0.125;
/// AWS's own month of 730 hours.
const SECONDS_A_MONTH: f64 = 730.0 * 3600.0;

#[derive(Serialize)]
struct Report {
    prices: &'static str,
    pipelines: Vec<Planned>,
}

#[derive(Serialize)]
struct Planned {
    name: String,
    lease_table: String,
    shards: u32,
    workers: u32,
    /// The heartbeat that the config says.
    heartbeat: &'static str,
    per_lease: Bill,
    per_worker: Bill,
    /// Destinations whose columns are inferred, and frozen in the table of commits.
    inferred: Vec<Inferred>,
    /// What will not keep up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Inferred {
    destination: String,
    sample: usize,
}

#[derive(Serialize)]
struct Bill {
    heartbeats: Line,
    checkpoints: Line,
    scans: Line,
    commits: Line,
    total: Line,
}

#[derive(Serialize)]
struct Line {
    writes_a_second: f64,
    reads_a_second: f64,
    dollars_a_month: f64,
}

pub fn run(args: Plan) -> Result<Exit> {
    let config = super::load(&args.config.files)?;
    let pipelines: Vec<_> = config.pipelines.iter().map(|pipeline| plan(pipeline, &args)).collect();
    match args.report.output {
        Output::Human => terminal::out(&text(&config.pipelines, &pipelines))?,
        Output::Json => super::json(&Report { prices: "us-east-1, on demand", pipelines })?,
    }
    Ok(Exit::Ok)
}

fn plan(pipeline: &Pipeline, args: &Plan) -> Planned {
    let fleet = Fleet {
        shards: args.shards,
        workers: args.workers,
        destinations: pipeline.destinations.len().try_into().unwrap_or(u32::MAX),
        failover: pipeline.lease.failover,
        commit_every: interval(pipeline),
    };
    let bill = |heartbeat| Bill::of(&cost::cost(&fleet, heartbeat));
    Planned {
        name: pipeline.name.clone(),
        lease_table: pipeline.lease.table.clone(),
        shards: args.shards,
        workers: args.workers,
        heartbeat: word(pipeline),
        per_lease: bill(HeartbeatMode::PerLease),
        per_worker: bill(HeartbeatMode::PerWorker),
        inferred: pipeline.destinations.iter().filter_map(inferred).collect(),
        warnings: pipeline.destinations.iter().filter_map(|destination| queued_loads(destination, args)).collect(),
    }
}

/// A load of a table of Redshift takes about so long at the least; those of one table follow each other.
const LOAD_SECONDS: f64 = 5.0;
/// Shards in one load.
const LANE_SHARDS: u32 = 32;

/// Loads into one table queue on its ledger: whether more of them come than can be made.
fn queued_loads(destination: &Destination, args: &Plan) -> Option<String> {
    let Destination::Redshift(redshift) = destination else { return None };
    // Each worker loads its own shards, a lane at a time.
    let workers = args.workers.clamp(1, args.shards.max(1));
    let lanes = workers * args.shards.div_ceil(workers).div_ceil(LANE_SHARDS).max(1);
    let interval = redshift.buffer_interval.as_secs_f64();
    let needed = f64::from(lanes) * LOAD_SECONDS;
    (interval < needed).then(|| {
        format!(
            "{}: {} every {} into one table, which makes one in about {LOAD_SECONDS} s: buffer.interval of at least {}",
            redshift.id,
            terminal::counted(lanes.into(), "load"),
            units::format_duration(redshift.buffer_interval),
            units::format_duration(Duration::from_secs_f64(needed)),
        )
    })
}

fn inferred(destination: &Destination) -> Option<Inferred> {
    let TableColumns::Inferred { sample } = destination.table()?.columns else { return None };
    Some(Inferred { destination: destination.id().to_string(), sample })
}

/// The shortest interval of the destinations: it decides how often there is a commit.
fn interval(pipeline: &Pipeline) -> Duration {
    let intervals = pipeline.destinations.iter().map(Destination::buffer_interval);
    intervals.min().unwrap_or_default()
}

fn word(pipeline: &Pipeline) -> &'static str {
    use standpipe_config::config::HeartbeatMode as Said;
    match pipeline.lease.heartbeat {
        Said::PerLease => "per_lease",
        Said::PerWorker => "per_worker",
    }
}

impl Bill {
    fn of(cost: &Cost) -> Self {
        Self {
            heartbeats: Line::of(cost.heartbeats),
            checkpoints: Line::of(cost.checkpoints),
            scans: Line::of(cost.scans),
            commits: Line::of(cost.commits),
            total: Line::of(cost.total()),
        }
    }
}

impl Line {
    fn of(units: Units) -> Self {
        let second = units.writes * DOLLARS_A_MILLION_WRITES + units.reads * DOLLARS_A_MILLION_READS;
        Self {
            writes_a_second: hundredths(units.writes),
            reads_a_second: hundredths(units.reads),
            dollars_a_month: hundredths(second * SECONDS_A_MONTH / 1e6),
        }
    }

    /// `4.80 W  0.10 R      $7.88`, right-aligned.
    fn text(&self) -> String {
        format!(
            "{:>9.2} {:>9.2} {:>11}",
            self.writes_a_second,
            self.reads_a_second,
            format!("${:.2}", self.dollars_a_month)
        )
    }
}

fn hundredths(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

fn text(configs: &[Pipeline], pipelines: &[Planned]) -> String {
    let mut text = String::new();
    for (config, planned) in configs.iter().zip(pipelines) {
        let of = |number: u32, noun: &str| terminal::counted(number.into(), noun);
        text.push_str(&format!(
            "{}: {}, {}, failover {}, a commit every {}\n",
            planned.name,
            of(planned.shards, "shard"),
            of(planned.workers, "worker"),
            units::format_duration(config.lease.failover),
            units::format_duration(interval(config)),
        ));
        text.push_str(&format!("DynamoDB, table {} and the one of its commits\n\n", planned.lease_table));
        text.push_str(&format!("{:<12}{:>31}{:>33}\n", "", title(planned, "per_lease"), title(planned, "per_worker")));
        let units = format!("{:>9} {:>9} {:>11}", "writes/s", "reads/s", "a month");
        text.push_str(&format!("{:<12}{units}  {units}\n", ""));
        let (lease, worker) = (&planned.per_lease, &planned.per_worker);
        let lines = [
            ("heartbeats", &lease.heartbeats, &worker.heartbeats),
            ("checkpoints", &lease.checkpoints, &worker.checkpoints),
            ("scans", &lease.scans, &worker.scans),
            ("commits", &lease.commits, &worker.commits),
            ("total", &lease.total, &worker.total),
        ];
        for (name, lease, worker) in lines {
            text.push_str(&format!("{name:<12}{}  {}\n", lease.text(), worker.text()));
        }
        text.push('\n');
        for Inferred { destination, sample } in &planned.inferred {
            text.push_str(&format!(
                "{destination}: its columns are inferred from at most {} of its first batch, and frozen in the table of \
                 commits\n\n",
                terminal::counted(*sample as u64, "record"),
            ));
        }
    }
    for warning in pipelines.iter().flat_map(|planned| &planned.warnings) {
        text.push_str(&format!("warning: {warning}\n\n"));
    }
    text.push_str("units on demand at the prices of us-east-1: $0.625 a million writes, $0.125 a million reads;\n");
    text.push_str("commits are reckoned as if every shard always had records\n");
    text
}

fn title(planned: &Planned, heartbeat: &str) -> String {
    let mark = if planned.heartbeat == heartbeat { " (yours)" } else { "" };
    format!("heartbeat {heartbeat}{mark}")
}
