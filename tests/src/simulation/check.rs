//! Whether everything is right after a run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use standpipe_emulator::{Emulator, Service, TraceEntry};
use standpipe_flow::hash::hash64;
use standpipe_flow::{LeaseKey, Position, SequenceNumber};
use standpipe_lease::{LeaseTable, Rows};
use standpipe_worker::SharedMetrics;

use super::Outcome;
use super::world::{BUCKET, TABLE};

/// What was produced: the id of a record is its place in this list.
#[derive(Debug, Default)]
pub struct Ledger {
    given: usize,
    placed: Vec<(String, String)>,
}

impl Ledger {
    /// The id of the next record.
    pub fn next_id(&mut self) -> usize {
        self.given += 1;
        self.given - 1
    }

    /// Where the next record in order of ids was put.
    pub fn produced(&mut self, shard: String, sequence: String) {
        self.placed.push((shard, sequence));
    }

    /// Records produced.
    pub fn len(&self) -> usize {
        self.placed.len()
    }
}

/// Different records in all objects.
pub fn found(emulator: &Emulator) -> usize {
    let objects = objects(emulator);
    objects.iter().flat_map(|(_, lines)| lines).filter_map(|line| id(line)).collect::<BTreeSet<usize>>().len()
}

fn id(line: &str) -> Option<usize> {
    line.strip_prefix("{\"id\":")?.split(',').next()?.parse().ok()
}

fn objects(emulator: &Emulator) -> Vec<(String, Vec<String>)> {
    let read = |key: String| {
        let body = emulator.object(BUCKET, &key).unwrap_or_default();
        let lines = String::from_utf8_lossy(&body).lines().map(str::to_owned).collect();
        (key, lines)
    };
    emulator.objects(BUCKET).into_iter().map(|object| read(object.key)).collect()
}

/// Every record is there exactly once; within an object, and from object to object, a shard's records ascend.
pub fn records(emulator: &Emulator, ledger: &Ledger, outcome: &mut Outcome) {
    let mut seen: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for (key, lines) in objects(emulator) {
        let mut last: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
        for line in lines {
            let Some((id, (shard, sequence))) = id(&line).and_then(|id| Some((id, ledger.placed.get(id)?))) else {
                outcome.wrong.push(format!("{key} holds a line that was never produced"));
                continue;
            };
            seen.entry(id).or_default().push(key.clone());
            let at = (sequence.len(), sequence.as_str());
            if last.insert(shard, at).is_some_and(|before| before >= at) {
                outcome.wrong.push(format!("{key}: records of {shard} do not ascend"));
            }
        }
    }
    outcome.produced = ledger.len();
    outcome.found = seen.values().map(Vec::len).sum();
    let lost: Vec<usize> = (0..ledger.len()).filter(|id| !seen.contains_key(id)).collect();
    let repeated: Vec<(&usize, &Vec<String>)> = seen.iter().filter(|(_, keys)| keys.len() > 1).collect();
    if !lost.is_empty() {
        outcome.wrong.push(format!("{} lost, first {:?} of {:?}", lost.len(), lost[0], ledger.placed[lost[0]]));
    }
    if !repeated.is_empty() {
        outcome.wrong.push(format!(
            "{} repeated, first {:?} of {:?}",
            repeated.len(),
            repeated[0],
            ledger.placed[*repeated[0].0]
        ));
    }
}

/// The lease table after a clean end: nobody holds a lease, nothing is pending, `checkpoint` is what is delivered.
pub async fn rows(sdk: &standpipe_worker::platform::SdkConfig, outcome: &mut Outcome) {
    let table = LeaseTable::new(Dynamo::new(sdk, Duration::from_secs(10)), TABLE);
    let rows = match table.scan().await {
        Ok(rows) => rows,
        Err(error) => return outcome.wrong.push(format!("the lease table cannot be read: {error}")),
    };
    for row in rows.leases.values() {
        let smallest = row.smallest_position().cloned().unwrap_or(Position::TrimHorizon);
        if row.checkpoint > smallest {
            outcome.wrong.push(format!("I8: checkpoint of {} is {} past {smallest}", row.key, row.checkpoint));
        }
        for (id, position) in &row.destinations {
            if position.pending.is_some() {
                outcome.wrong.push(format!("{} still carries a commit at {id}", row.key));
            }
        }
        if row.checkpoint != smallest {
            outcome.wrong.push(format!("checkpoint of {} is {}, delivered is {smallest}", row.key, row.checkpoint));
        }
    }
}

/// Counters that must be zero, and those that say what was recovered.
pub fn metrics(metrics: &SharedMetrics, outcome: &mut Outcome) {
    for line in metrics.encode().lines() {
        let Some((name, value)) = line.rsplit_once(' ') else { continue };
        let count = value.parse::<f64>().unwrap_or_default() as u64;
        let reason = || name.split("reason=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or("").to_owned();
        if name.starts_with("standpipe_invariant_violations_total{") && count > 0 {
            outcome.wrong.push(format!("invariant {} was broken", reason()));
        } else if name.starts_with("standpipe_recoveries_total{") {
            *outcome.events.entry(format!("recovered: {}", reason())).or_default() += count;
        } else if name.starts_with("standpipe_commits_total{") {
            *outcome.events.entry(format!("commits: {}", reason())).or_default() += count;
        }
    }
}

/// A hash of the list of requests and effects.
pub fn hash(trace: &[TraceEntry]) -> u64 {
    let lines: Vec<String> = trace.iter().map(TraceEntry::to_string).collect();
    hash64(&lines.iter().map(|line| line.as_bytes()).collect::<Vec<_>>())
}
