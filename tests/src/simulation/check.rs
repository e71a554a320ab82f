//! Whether everything is right after a run.

use std::collections::{BTreeMap, BTreeSet};

use standpipe_destinations::object_key::cid_of;
use standpipe_emulator::{Emulator, ObjectSummary, Service, TraceEntry};
use standpipe_flow::hash::hash64;
use standpipe_flow::{DestinationId, DestinationPosition, LeaseKey, LeaseRow, Position, SequenceNumber, WorkerId};
use standpipe_lease::{LeaseTable, Rows};
use standpipe_worker::SharedMetrics;

use super::Outcome;
use super::world::THIEF;

/// What was produced: the id of a record is its place in this list.
#[derive(Debug, Default)]
pub struct Ledger {
    given: usize,
    /// Shard, sequence number, and place within an aggregate.
    placed: Vec<(String, String, u64)>,
    /// The last place within it of each record of the stream.
    last: BTreeMap<(String, String), u64>,
    buckets: BTreeMap<&'static str, Bucket>,
    /// Whether a position says how old it was when reading went on.
    must_be_told: bool,
}

/// What is known of the bucket of a destination, which is named as its destination.
#[derive(Debug, Default)]
struct Bucket {
    /// Objects that a consumer has read and deleted.
    consumed: Vec<(String, Vec<String>)>,
    /// Records that the stream dropped while nobody was there: they may be lost, if that is said aloud.
    expirable: BTreeSet<usize>,
}

impl Ledger {
    /// Of these buckets.
    pub fn of(buckets: &[&'static str]) -> Self {
        Self { buckets: buckets.iter().map(|bucket| (*bucket, Bucket::default())).collect(), ..Self::default() }
    }

    /// The id of the next record.
    pub fn next_id(&mut self) -> usize {
        self.given += 1;
        self.given - 1
    }

    /// Where the next records in order of ids were put, together.
    pub fn produced(&mut self, shard: &str, sequence: &str, records: u64) {
        self.placed.extend((0..records).map(|sub| (shard.to_owned(), sequence.to_owned(), sub)));
        self.last.insert((shard.to_owned(), sequence.to_owned()), records - 1);
    }

    /// Whether a position lies within an aggregate.
    fn within(&self, lease: &LeaseKey, position: &Position) -> bool {
        let Position::At { sequence, sub } = position else { return false };
        let last = self.last.get(&(lease.to_string(), sequence.to_string()));
        last.is_some_and(|last| sub != last)
    }

    /// Records produced.
    pub fn len(&self) -> usize {
        self.placed.len()
    }

    /// Records that must be found, those of all buckets together.
    pub fn expected(&self) -> usize {
        self.buckets.values().map(|bucket| self.len() - bucket.expirable.len()).sum()
    }

    /// A consumer has this object, and nobody else has it any more.
    pub fn consumed(&mut self, bucket: &'static str, key: String, body: &[u8]) {
        self.buckets.entry(bucket).or_default().consumed.push((key, lines(body)));
    }

    /// From now on the stream may drop what no row covers; what is only committed is covered while its upload lives.
    pub fn may_expire(&mut self, rows: &Rows, upload_gone: impl Fn(&str) -> bool) {
        for (name, bucket) in &mut self.buckets {
            let destination = DestinationId::new(*name);
            for (id, (shard, sequence, sub)) in self.placed.iter().enumerate() {
                let row = rows.get(&LeaseKey::new(shard.as_str()));
                let position = row.and_then(|row| row.destinations.get(&destination));
                let gone = |position: &DestinationPosition| {
                    position.pending.as_ref().is_some_and(|pending| upload_gone(&pending.cid.to_string()))
                };
                let at = position.map(|position| if gone(position) { &position.at } else { position.reached() });
                let record = SequenceNumber::parse(sequence.as_str()).map(|sequence| Position::at(sequence, *sub));
                if at.is_none_or(|at| record.is_ok_and(|record| record > *at)) {
                    bucket.expirable.insert(id);
                    self.must_be_told |= position.is_some_and(|position| position.arrival.is_some());
                }
            }
        }
    }
}

/// Different records in all objects of each bucket, of those that must be found.
pub fn found(emulator: &Emulator, ledger: &Ledger) -> usize {
    let in_bucket = |(name, bucket): (&&'static str, &Bucket)| {
        let objects = objects(emulator, name, bucket);
        let ids = objects.iter().flat_map(|(_, lines)| lines).filter_map(|line| id(line));
        ids.filter(|id| !bucket.expirable.contains(id)).collect::<BTreeSet<usize>>().len()
    };
    ledger.buckets.iter().map(in_bucket).sum()
}

/// What the keys of objects begin with that are no records: those that are staged, and what is written of incidents.
const STAGING: &str = "standpipe-staging/";
const INCIDENTS: &str = "standpipe-incidents/";

fn id(line: &str) -> Option<usize> {
    line.strip_prefix("{\"id\":")?.split(',').next()?.parse().ok()
}

fn lines(body: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(body).lines().map(str::to_owned).collect()
}

/// What lies in a bucket for readers.
pub fn delivered(emulator: &Emulator, bucket: &str) -> Vec<ObjectSummary> {
    let mut objects = emulator.objects(bucket);
    objects.retain(|object| !object.key.starts_with(STAGING) && !object.key.starts_with(INCIDENTS));
    objects
}

fn objects(emulator: &Emulator, name: &str, bucket: &Bucket) -> Vec<(String, Vec<String>)> {
    let read = |key: String| {
        let body = emulator.object(name, &key).unwrap_or_default();
        (key, lines(&body))
    };
    let there = delivered(emulator, name).into_iter().map(|object| read(object.key));
    there.chain(bucket.consumed.iter().cloned()).collect()
}

/// Every record is there exactly once at each destination; within an object, and from object to object, a shard's records
/// ascend.
pub fn records(emulator: &Emulator, ledger: &Ledger, outcome: &mut Outcome) {
    for name in ledger.buckets.keys() {
        in_bucket(emulator, ledger, name, outcome);
    }
}

fn in_bucket(emulator: &Emulator, ledger: &Ledger, name: &str, outcome: &mut Outcome) {
    let bucket = &ledger.buckets[name];
    let incidents = emulator.objects(name).iter().filter(|object| object.key.starts_with(INCIDENTS)).count();
    if incidents > 0 {
        *outcome.events.entry("incidents: outputs gone beside visible ones".into()).or_default() += incidents as u64;
    }
    // Of many outputs of one commit a consumer may have taken some when it is looked whether all are there.
    if incidents > 0 && bucket.consumed.is_empty() {
        outcome.wrong.push(format!("{name}: {incidents} incidents, and nobody deletes an object"));
    }
    let mut seen: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for (key, lines) in objects(emulator, name, bucket) {
        let mut last: BTreeMap<&str, (usize, &str, u64)> = BTreeMap::new();
        for line in lines {
            let Some((id, (shard, sequence, sub))) = id(&line).and_then(|id| Some((id, ledger.placed.get(id)?))) else {
                outcome.wrong.push(format!("{key} holds a line that was never produced"));
                continue;
            };
            seen.entry(id).or_default().push(key.clone());
            let at = (sequence.len(), sequence.as_str(), *sub);
            if last.insert(shard, at).is_some_and(|before| before >= at) {
                outcome.wrong.push(format!("{key}: records of {shard} do not ascend"));
            }
        }
    }
    outcome.produced += ledger.len();
    outcome.found += seen.values().map(Vec::len).sum::<usize>();
    let (expired, lost): (Vec<usize>, Vec<usize>) =
        (0..ledger.len()).filter(|id| !seen.contains_key(id)).partition(|id| bucket.expirable.contains(id));
    if !expired.is_empty() {
        *outcome.events.entry("expired records".into()).or_default() += expired.len() as u64;
        outcome.expired += expired.len();
        outcome.must_be_told = ledger.must_be_told;
    }
    // Where a consumer deletes what it has read, an object that is gone cannot be told from one that never was: a repeat
    // is better than a loss (protocol 4.5), of all outputs of its commit.
    let consumed: BTreeSet<_> = bucket.consumed.iter().filter_map(|(key, _)| cid_of(key)).collect();
    let deleted = |keys: &Vec<String>| keys.iter().filter_map(|key| cid_of(key)).any(|cid| consumed.contains(&cid));
    let repeated = seen.iter().filter(|(_, keys)| keys.len() > 1);
    let (excused, repeated): (Vec<_>, Vec<(&usize, &Vec<String>)>) = repeated.partition(|(_, keys)| deleted(keys));
    if !excused.is_empty() {
        *outcome.events.entry("repeated after a consumer's delete".into()).or_default() += excused.len() as u64;
        outcome.excused += excused.iter().map(|(_, keys)| keys.len() - 1).sum::<usize>();
    }
    if !lost.is_empty() {
        let first = &ledger.placed[lost[0]];
        outcome.wrong.push(format!("{name}: {} lost, first {:?} of {first:?}", lost.len(), lost[0]));
    }
    if !repeated.is_empty() {
        let first = &ledger.placed[*repeated[0].0];
        outcome.wrong.push(format!("{name}: {} repeated, first {:?} of {first:?}", repeated.len(), repeated[0]));
    }
}

/// The open shards that a worker could read when the faults stopped: every parent of them is finished, and their owner
/// was not told to stop. Such an owner delivers first what it has, within its grace.
pub fn readable(open: &[String], rows: &Rows, stops: impl Fn(&WorkerId) -> bool) -> BTreeSet<String> {
    let finished = |parent: &standpipe_flow::ShardId| {
        rows.get(&LeaseKey::of(parent)).is_none_or(|row| {
            row.ended() || row.destinations.values().all(|position| position.at == Position::ShardEnd)
        })
    };
    let ready = |shard: &&String| {
        let row = rows.get(&LeaseKey::new(shard.as_str()));
        row.is_some_and(|row| row.parents.iter().all(finished) && !row.owner.as_ref().is_some_and(&stops))
    };
    open.iter().filter(ready).cloned().collect()
}

/// The shards whose rows carry a commit.
pub fn carrying(rows: &Rows) -> BTreeSet<String> {
    let carries = |row: &&LeaseRow| row.destinations.values().any(|position| position.pending.is_some());
    rows.leases.values().filter(carries).map(|row| row.key.to_string()).collect()
}

/// When each shard was first read after an instant.
pub fn first_reads(trace: &[TraceEntry], after: u64) -> BTreeMap<String, u64> {
    let mut first = BTreeMap::new();
    for entry in trace.iter().filter(|entry| entry.call.service == Service::Kinesis && entry.acted_millis >= after) {
        let reads = matches!(entry.call.operation.as_str(), "GetRecords" | "SubscribeToShard");
        if reads && entry.call.at_millis >= after && entry.outcome.starts_with("200") {
            let shard = entry.call.detail.split(['@', ' ']).next().and_then(|detail| detail.split('/').next_back());
            first.entry(shard.unwrap_or_default().to_owned()).or_insert(entry.acted_millis);
        }
    }
    first
}

/// The lease table after a clean end: nobody holds a lease, nothing is pending, `checkpoint` is what is delivered, and no
/// aggregate is delivered in part.
pub async fn rows(table: &LeaseTable, ledger: &Ledger, outcome: &mut Outcome) {
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
            if ledger.within(&row.key, &position.at) {
                outcome.wrong.push(format!("{} ends within an aggregate at {id}: {}", row.key, position.at));
            }
        }
        // Under the thief's name nobody moves it: whoever takes the lease will.
        if row.checkpoint != smallest && row.owner.as_ref().is_none_or(|owner| owner.as_str() != THIEF) {
            outcome.wrong.push(format!("checkpoint of {} is {}, delivered is {smallest}", row.key, row.checkpoint));
        }
    }
}

/// Whether `checkpoint` is at the end of every shard that is delivered to its end.
pub async fn ended(table: &LeaseTable) -> bool {
    let Ok(rows) = table.scan().await else { return false };
    let delivered = |row: &&LeaseRow| row.smallest_position() == Some(&Position::ShardEnd);
    rows.leases.values().filter(delivered).all(|row| row.checkpoint == Position::ShardEnd)
}

/// Counters that must be zero, and those that say what was recovered.
pub fn metrics(metrics: &SharedMetrics, outcome: &mut Outcome) {
    for line in metrics.encode().lines() {
        let Some((name, value)) = line.rsplit_once(' ') else { continue };
        let count = value.parse::<f64>().unwrap_or_default() as u64;
        let reason = || name.split("reason=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or("").to_owned();
        if name.starts_with("standpipe_invariant_violations_total{") && count > 0 {
            outcome.wrong.push(format!("invariant {} was broken", reason()));
        } else if name.starts_with("standpipe_records_possibly_expired_total{") && count == 0 && outcome.must_be_told {
            outcome.wrong.push(format!("{} records expired, and nobody said so", outcome.expired));
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
