//! The end of a run: everything that was left behind is checked and counted, and told.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::time::Duration;

use super::endpoints::Endpoints;
use super::logs::Logs;
use super::objects::Found;
use super::producer::{Shared, lock};
use super::tables::{self, Receipt};
use super::{BUCKET, STREAM};

/// What was seen while it went on.
#[derive(Debug, Default)]
pub struct Seen {
    events: BTreeMap<&'static str, u64>,
    /// How long it went on.
    pub seconds: f64,
    /// Receipts at its end.
    pub commits: usize,
    /// Records that were in the stream and not yet in the bucket then.
    pub behind: usize,
    /// From there until everything was found.
    pub drained_seconds: f64,
    /// From SIGTERM until the last worker had ended.
    pub stopped_seconds: f64,
    /// What is wrong already.
    pub wrong: Vec<String>,
}

impl Seen {
    /// Counts something that was done.
    pub fn count(&mut self, event: &'static str) {
        self.add(event, 1);
    }

    /// Counts something that was done several times.
    pub fn add(&mut self, event: &'static str, times: u64) {
        *self.events.entry(event).or_default() += times;
    }

    /// How often it was done.
    pub fn of(&self, event: &str) -> u64 {
        self.events.get(event).copied().unwrap_or(0)
    }
}

/// Everything that is needed for it.
#[derive(Debug)]
pub struct Report {
    /// What was seen.
    pub seen: Seen,
    /// What lies in the bucket.
    pub found: Found,
    /// Faults by kind.
    pub struck: BTreeMap<&'static str, u64>,
    /// The most memory that a worker had, KiB.
    pub peak_kib: u64,
    /// CPU time of all workers.
    pub cpu: Duration,
    /// Recoveries that must have been seen, by kind.
    pub least: Vec<(&'static str, u64)>,
}

impl Report {
    /// Checks everything and prints it. Whether all is right. `dir` holds the logs; all workers must have ended.
    ///
    /// # Errors
    /// When something cannot be read.
    pub async fn tell(mut self, endpoints: &Endpoints, ledger: &Shared, dir: &Path) -> io::Result<bool> {
        let receipts = tables::receipts(&endpoints.address).await?;
        let leases = tables::leases(&endpoints.address).await?;
        let open = endpoints.emulator.open_shards(STREAM).unwrap_or_default().into_iter().collect();
        let mut logs = Logs::read(dir)?;
        let mut wrong = std::mem::take(&mut self.seen.wrong);
        wrong.extend(self.records(ledger));
        wrong.extend(objects(&self.found, &receipts));
        wrong.extend(tables::check(&receipts, &leases, &open));
        wrong.extend(logs.wrong.iter().cloned());
        let uploads = Uploads::look(endpoints, &receipts, &logs);
        logs.recoveries.insert("staged".to_owned(), uploads.orphans);
        for (kind, least) in &self.least {
            let seen = logs.recoveries.get(*kind).copied().unwrap_or(0);
            if seen < *least {
                wrong.push(format!("only {seen} recoveries of {kind}: {least} are the least that proves anything"));
            }
        }
        self.print(&receipts, &logs, &uploads);
        wrong.iter().for_each(|wrong| println!("WRONG: {wrong}"));
        println!("{}", if wrong.is_empty() { "all is right" } else { "NOT RIGHT" });
        Ok(wrong.is_empty())
    }

    fn records(&self, ledger: &Shared) -> Vec<String> {
        let ledger = lock(ledger);
        let (lost, repeated) = (self.found.lost(&ledger), self.found.repeated());
        let megabytes = ledger.bytes as f64 / 1e6;
        println!("{:10} records produced, {megabytes:.1} MB into {} shards", ledger.len(), ledger.shards());
        println!("{:10} records found in {} objects", self.found.records, self.found.lines.len());
        println!("{:10} lost", lost.len());
        println!("{repeated:10} repeated");
        let mut wrong: Vec<String> = self.found.wrong.iter().cloned().collect();
        if let Some(first) = lost.first() {
            wrong.push(format!("{} lost, the first is {first} at {:?}", lost.len(), ledger.place(*first)));
        }
        if repeated > 0 {
            wrong.push(format!("{repeated} repeated"));
        }
        wrong
    }

    fn print(&self, receipts: &BTreeMap<String, Receipt>, logs: &Logs, uploads: &Uploads) {
        let seen = &self.seen;
        println!("{:10} commits within {:.0} s, {} in all", seen.commits, seen.seconds, receipts.len());
        println!("{:10} records behind at the end of it, found {:.1} s later", seen.behind, seen.drained_seconds);
        println!("{:10.1} s from SIGTERM to the end of the last worker", seen.stopped_seconds);
        println!("{:10} take-overs, {} takes in all", logs.take_overs(), logs.takes.len());
        seen.events.iter().for_each(|(event, count)| println!("{count:10} {event}"));
        logs.recoveries.iter().for_each(|(kind, count)| println!("{count:10} recovered: {kind}"));
        println!(
            "{:10} open uploads: {} of no commit, {} beside one",
            uploads.all,
            uploads.unnamed,
            uploads.all - uploads.unnamed
        );
        self.struck.iter().for_each(|(fault, count)| println!("{count:10} fault: {fault}"));
        logs.levels.iter().for_each(|(level, count)| println!("{count:10} lines of level {level}"));
        println!("{:10.1} MB resident at most in a worker", self.peak_kib as f64 * 1024.0 / 1e6);
        println!("{:10.1} CPU seconds of all workers", self.cpu.as_secs_f64());
    }
}

/// Every object is named by one receipt, which is DONE and covers as many records as it has lines; and the other way round.
fn objects(found: &Found, receipts: &BTreeMap<String, Receipt>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut named: BTreeMap<&str, &Receipt> = BTreeMap::new();
    for receipt in receipts.values() {
        for key in &receipt.keys {
            if named.insert(key, receipt).is_some() {
                wrong.push(format!("{key} is named by two receipts"));
            }
        }
        let lines = receipt.keys.iter().filter_map(|key| found.lines.get(key)).sum::<u64>();
        match receipt.state.as_str() {
            "RETRACTED" if lines > 0 => wrong.push(format!("commit {} is retracted and visible", receipt.cid)),
            "RETRACTED" => {}
            _ if lines != receipt.records => {
                wrong.push(format!("commit {} covers {} records and has {lines} lines", receipt.cid, receipt.records));
            }
            _ => {}
        }
    }
    let unnamed = found.lines.keys().filter(|key| !named.contains_key(key.as_str()));
    wrong.extend(unnamed.map(|key| format!("I4: {key} is named by no receipt")));
    wrong
}

/// Uploads that were left open.
struct Uploads {
    all: usize,
    /// Of no commit that happened.
    unnamed: usize,
    /// Batches that a worker had staged, and whose commit it did not live to send, or to see refused: their records are
    /// elsewhere.
    orphans: u64,
}

impl Uploads {
    fn look(endpoints: &Endpoints, receipts: &BTreeMap<String, Receipt>, logs: &Logs) -> Self {
        let open = endpoints.emulator.open_uploads(BUCKET);
        let cid = |key: &str| key.rsplit('-').next().map(|end| end.split('.').next().unwrap_or_default().to_owned());
        let cids: Vec<String> = open.iter().filter_map(|upload| cid(&upload.key)).collect();
        let unnamed: Vec<&String> = cids.iter().filter(|cid| !receipts.contains_key(*cid)).collect();
        let orphans: BTreeSet<&&String> = unnamed.iter().filter(|cid| !logs.dead.contains(**cid)).collect();
        Self { all: open.len(), unnamed: unnamed.len(), orphans: orphans.len() as u64 }
    }
}
