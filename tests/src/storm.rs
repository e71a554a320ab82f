//! Proofs with real processes over TCP: worker processes that are killed, frozen and told to stop, against the embedded
//! endpoints in this process, each worker with an access key of its own, so that faults can strike one of them.
//!
//! [`endpoints`], [`proxy`] and [`fleet`] are the scene, [`producer`] fills the stream and keeps the [`ledger`],
//! [`weather`] is what goes wrong, [`objects`], [`tables`] and [`logs`] look at what came of it. What is checked is read from outside: bytes
//! of objects, items of tables, lines of logs. Nothing that a worker counts is believed.

pub mod endpoints;
pub mod fleet;
pub mod http;
pub mod ledger;
pub mod logs;
pub mod objects;
pub mod plan;
pub mod producer;
pub mod proxy;
pub mod report;
pub mod tables;
pub mod weather;

/// The stream.
pub const STREAM: &str = "events";
/// The bucket.
pub const BUCKET: &str = "lake";
/// The lease table.
pub const TABLE: &str = "standpipe-storm";
/// The attribute of the lease rows that holds the destination's position: `sp_` and the id, by default the kind.
pub const POSITION: &str = "sp_s3";
/// Where the data objects lie.
pub const PREFIX: &str = "out/";

/// How the workers read.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The config's `read`.
    pub read: String,
    /// Whether records are packed as the KPL does, and taken apart again.
    pub aggregates: bool,
}

impl Default for Reading {
    fn default() -> Self {
        Self { read: "polling".to_owned(), aggregates: false }
    }
}

/// The config of every worker. `failover` and `interval` in seconds, `memory` in MiB; names come from the environment.
pub fn config(failover: u64, interval: u64, memory: u64, reading: &Reading) -> String {
    let Reading { read, aggregates } = reading;
    let deaggregate = if *aggregates { "kpl" } else { "none" };
    format!(
        "version: 1
worker:
  id: ${{STANDPIPE_WORKER}}
  memory: {memory}MiB
  shutdown_grace: 60s
http: \"off\"
telemetry: {{ logs: json }}
pipelines:
  storm:
    lease: {{ table: {TABLE}, failover: {failover}s }}
    source: {{ kinesis: {{ stream: {STREAM}, start: trim_horizon, read: {read}, deaggregate: {deaggregate} }} }}
    destinations:
      - s3: {{ bucket: {BUCKET}, prefix: \"{PREFIX}\", buffer: {{ size: 1MiB, interval: {interval}s }} }}
"
    )
}

/// The value after a flag on the command line, as a number.
///
/// # Errors
/// A text for people, when it is none.
pub fn number(arguments: &[String], flag: &str, default: f64) -> Result<f64, String> {
    let Some(at) = arguments.iter().position(|argument| argument == flag) else { return Ok(default) };
    let text = arguments.get(at + 1).ok_or_else(|| format!("{flag} wants a number"))?;
    text.parse().map_err(|_| format!("{flag} wants a number, not {text:?}"))
}
