//! What a storm is to be like, from its command line.

use std::path::PathBuf;

use super::{Reading, number};

/// A storm, long or short.
#[derive(Debug)]
pub struct Plan {
    /// How long it rages.
    pub seconds: u64,
    /// Bytes produced a second.
    pub bytes_per_second: f64,
    /// Shards at the beginning.
    pub shards: usize,
    /// Worker processes.
    pub workers: usize,
    /// Of every choice.
    pub seed: u64,
    /// How the workers read.
    pub reading: Reading,
    /// From one `kill -9` to the next, milliseconds.
    pub kill: (u64, u64),
    /// How long a worker is frozen, milliseconds.
    pub freeze: (u64, u64),
    /// How many are frozen at once, at most.
    pub frozen: usize,
    /// From one split or merge to the next, milliseconds.
    pub reshard: (u64, u64),
    /// From one trouble of the connections to the next, milliseconds.
    pub cut: (u64, u64),
    /// Recoveries that must be seen, by kind, and other events.
    pub least: Vec<(&'static str, u64)>,
    /// Where config and logs go; a temporary folder without it.
    pub dir: Option<PathBuf>,
    /// A program that counts the delivered objects once more: it gets the endpoint, the bucket and the list of records.
    pub reader: Option<PathBuf>,
}

impl Plan {
    /// Reads the command line.
    ///
    /// # Errors
    /// A text for people.
    pub fn read(arguments: &[String]) -> Result<Self, String> {
        let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
        let value = |flag: &str| arguments.iter().position(|argument| argument == flag).map(|at| arguments.get(at + 1));
        let path = |flag: &str| value(flag).map(|path| path.map(PathBuf::from).ok_or(format!("{flag} wants a path")));
        let short = has("--short");
        let (seconds, rate, shards) = if short { (60.0, 2.0, 8.0) } else { (600.0, 3.0, 16.0) };
        let reading = Reading {
            read: value("--read")
                .map_or(Some("polling"), |mode| mode.map(String::as_str))
                .unwrap_or_default()
                .to_owned(),
            aggregates: has("--aggregates"),
        };
        if reading.read.is_empty() {
            return Err("--read wants auto, polling or enhanced_fan_out".to_owned());
        }
        let seconds = number(arguments, "--seconds", seconds)? as u64;
        Ok(Self {
            seconds,
            bytes_per_second: number(arguments, "--rate", rate)? * 1e6,
            shards: number(arguments, "--shards", shards)? as usize,
            workers: number(arguments, "--workers", 4.0)? as usize,
            seed: number(arguments, "--seed", 1.0)? as u64,
            reading,
            kill: (3_000, 8_000),
            freeze: if short { (6_000, 12_000) } else { (15_000, 60_000) },
            frozen: if short { 1 } else { 2 },
            reshard: if short { (5_000, 9_000) } else { (10_000, 20_000) },
            cut: (1_000, 3_500),
            least: least(seconds),
            dir: path("--dir").transpose()?,
            reader: path("--reader").transpose()?,
        })
    }
}

/// A storm in which nothing was recovered proves nothing.
fn least(seconds: u64) -> Vec<(&'static str, u64)> {
    match seconds {
        600.. => ["staged", "committed", "done", "retracted", "recognised"].map(|kind| (kind, 20)).into(),
        120.. => ["staged", "committed", "done", "retracted", "recognised"].map(|kind| (kind, 5)).into(),
        _ => vec![("committed", 1), ("done", 1)],
    }
}
