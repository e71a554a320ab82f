//! The failure matrix: which of its rows a run met, counted from what happened (the list of requests with their effects,
//! and the deeds of the world), not from what was meant to happen. [`ROWS`] says of each row who counts it; a full run
//! ([`Report`]) fails if a row that is counted here was never met.
//!
//! Never here: whether what happened was right ([`super::check`]).

use std::collections::BTreeMap;

use standpipe_emulator::{Service, TraceEntry};

use super::moments::{Deed, Moments};

/// Who counts a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// This ring.
    Here,
    /// The first ring, by this event.
    FirstRing(&'static str),
    /// Not here, and why.
    Not(&'static str),
}

use Counted::{FirstRing, Here, Not};

const RESTORE: &str = "a table restored to an older time: start-up checks, tested there";

/// Every row, what happens, and who counts it.
pub const ROWS: [(u8, &str, Counted); 49] = [
    (1, "crash while buffering", Here),
    (2, "crash with parts uploaded, before the transaction", Here),
    (3, "transaction's request lost", Here),
    (4, "transaction's answer lost, worker alive", Here),
    (5, "transaction took effect, worker dies before the publication", Here),
    (6, "transaction late, its sender has given it up", Here),
    (7, "transaction arrives twice", Here),
    (8, "a failover between STAGED and the transaction's arrival", Here),
    (9, "a late Complete, after another's", Here),
    (10, "lease taken between stage and commit", Here),
    (11, "lease taken between commit and publication", Here),
    (12, "two workers believe that they own a lease", Here),
    (13, "the same worker loses a lease and takes it again", Here),
    (14, "transaction and heartbeat in conflict", Here),
    (15, "DynamoDB away", Here),
    (16, "S3 refuses after the commit", Here),
    (17, "Complete answers 200 with an error", Here),
    (18, "Complete was done, then answers NoSuchUpload", Here),
    (19, "as 18, and the object's consumer has deleted it", Here),
    (20, "upload aborted by others before the transaction", Here),
    (21, "upload aborted by others after the commit", Here),
    (22, "as 21, and another output is visible", FirstRing("incidents")),
    (23, "abort meets an UploadPart", Here),
    (24, "If-None-Match conflicts on Complete", Not("cannot happen: the header is never sent")),
    (25, "fleet down beyond the retention, uploads alive", Here),
    (26, "as 25, uploads gone", Here),
    (27, "split of a shard that is being read", Here),
    (28, "merge of shards of two workers", Here),
    (
        29,
        "lease deleted with a commit pending",
        Not("refused by the clean-up's condition: tests of crates/lease/src/upkeep"),
    ),
    (30, "Java takes over in mid-batch", FirstRing("checkpoints that Java moved")),
    (31, "everything drained, nothing to repeat", Here),
    (32, "a receipt of a newer version", Not("hands off (I13): tests of the protocol")),
    (33, "config changed in mid-batch", Here),
    (34, "a receipt too large for its row", Not("manifests are not built: one output a commit fits")),
    (35, "a manifest that is gone or forged", Not("tests of the commit table")),
    (36, "commit table restored to an older time", Not(RESTORE)),
    (37, "lease table restored to an older time", Not(RESTORE)),
    (38, "wall clock wrong by up to an hour", Here),
    (39, "iterator expired in mid-shard", Here),
    (40, "cut at an aggregate", FirstRing("commits that end with an aggregate")),
    (41, "start at LATEST, crash before the first commit", Here),
    (42, "a transform answers otherwise when asked again", Not("there are no transforms yet")),
    (50, "poison record", Not("there are no transforms yet that could crash")),
    (51, "SIGTERM", Here),
    (52, "disk full for spill", Not("nothing is spilled to disk")),
    (60, "objects staged by put: crash before the transaction", Here),
    (61, "objects staged by put: crash before all of them are published", Here),
    (62, "objects that are put: written again by another", Here),
    (63, "one of several destinations down", Here),
];

/// How often each row was met.
pub type Rows = BTreeMap<u8, u64>;

/// A run with so many seeds must have met every row that is counted here.
pub const FULL_RUN: u64 = 300;

/// The table over all seeds, and the rows that were never met although they are ours.
pub fn report(rows: &Rows) -> (String, Vec<u8>) {
    let mut text = String::from("failure matrix (row, times met, what happens)\n");
    let mut unmet = Vec::new();
    for (row, what, counted) in ROWS {
        let met = rows.get(&row).copied().unwrap_or_default();
        match counted {
            Here => {
                text += &format!("{row:4} {met:8}  {what}\n");
                if met == 0 {
                    unmet.push(row);
                }
            }
            FirstRing(_) => text += &format!("{row:4}        -  {what} (first ring)\n"),
            Not(why) => text += &format!("{row:4}        -  {what} ({why})\n"),
        }
    }
    (text, unmet)
}

/// The table of the first ring, and the rows that were never met although they are its own.
pub fn report_first_ring(events: &BTreeMap<String, u64>) -> (String, Vec<u8>) {
    let mut text = String::from("failure matrix, rows of this ring (row, times met, what happens)\n");
    let mut unmet = Vec::new();
    for (row, what, counted) in ROWS {
        let FirstRing(event) = counted else { continue };
        let met = events.get(event).copied().unwrap_or_default();
        text += &format!("{row:4} {met:8}  {what}\n");
        if met == 0 {
            unmet.push(row);
        }
    }
    (text, unmet)
}

/// One request with its effect.
struct Seen<'a> {
    sent: u64,
    acted: u64,
    who: &'a str,
    operation: &'a str,
    detail: &'a str,
    outcome: &'a str,
}

impl<'a> Seen<'a> {
    fn of(entry: &'a TraceEntry) -> Self {
        let call = &entry.call;
        Self {
            sent: call.at_millis,
            acted: entry.acted_millis,
            who: &call.connection,
            operation: &call.operation,
            detail: &call.detail,
            outcome: &entry.outcome,
        }
    }

    /// Whether the service did what it was asked, whatever the answer.
    fn effect(&self) -> bool {
        self.outcome.starts_with("200") || self.outcome.starts_with("204") || self.outcome.starts_with("500 InternalS")
    }

    fn reached(&self) -> bool {
        !self.outcome.starts_with("connection")
    }

    fn answer_lost(&self) -> bool {
        self.outcome.ends_with("answer lost") || self.outcome.starts_with("500 InternalS")
    }
}

/// Everything about one commit id.
#[derive(Default)]
struct Life<'a> {
    leases: Vec<&'a str>,
    creates: Vec<Seen<'a>>,
    parts: Vec<Seen<'a>>,
    transactions: Vec<Seen<'a>>,
    completes: Vec<Seen<'a>>,
    /// Staging objects, and the objects that are made of them.
    staged: Vec<Seen<'a>>,
    puts: Vec<Seen<'a>>,
    heads: Vec<Seen<'a>>,
    /// Requests about its receipt.
    receipts: Vec<Seen<'a>>,
    keys: Vec<&'a str>,
}

impl Life<'_> {
    fn committed(&self) -> Option<&Seen<'_>> {
        self.transactions.iter().find(|seen| seen.effect())
    }

    /// Whether a staging object was written, and the transaction had no effect yet or objects were still to be put.
    fn put_open(&self, who: &str, at: u64) -> Option<bool> {
        let staged = self.staged.iter().any(|seen| seen.who == who && seen.effect() && seen.acted <= at);
        let committed = self.committed().is_some_and(|seen| seen.acted <= at);
        let left = self.puts.iter().any(|seen| seen.effect() && seen.acted > at);
        (staged && (!committed || left)).then_some(committed)
    }

    fn published_before(&self, at: u64) -> bool {
        self.completes.iter().any(|seen| seen.effect() && seen.acted <= at)
    }

    /// Whether the worker has staged it, or is about to, at this instant.
    fn open(&self, who: &str, at: u64) -> bool {
        self.creates.iter().any(|seen| seen.who == who && seen.sent <= at) && !self.published_before(at)
    }
}

/// What a run has seen, sorted by what it is about.
struct Story<'a> {
    lives: BTreeMap<&'a str, Life<'a>>,
    /// UpdateItems of each lease row.
    leases: BTreeMap<&'a str, Vec<Seen<'a>>>,
    reads: Vec<Seen<'a>>,
    deeds: &'a [(u64, Deed)],
    failover: u64,
}

/// The rows that a run met; the failover time is in milliseconds.
pub(super) fn count(trace: &[TraceEntry], moments: &Moments, (failover, latest): (u64, bool)) -> Rows {
    let story = Story::of(trace, &moments.deeds, failover);
    let mut rows = Rows::new();
    story.crashes(&mut rows);
    story.lives.values().for_each(|life| story.life(life, &mut rows));
    story.leases.values().for_each(|updates| story.lease(updates, &mut rows));
    story.deeds(&mut rows);
    story.iterators(&mut rows);
    let first =
        story.lives.values().filter_map(|life| life.committed()).map(|seen| seen.acted).min().unwrap_or(u64::MAX);
    let early = moments.deeds.iter().filter(|(at, deed)| matches!(deed, Deed::Kill(_)) && *at < first);
    rows.insert(41, if latest { early.count() as u64 } else { 0 });
    rows
}

fn met(rows: &mut Rows, row: u8, when: bool) {
    *rows.entry(row).or_default() += u64::from(when);
}

/// The commit id in an object's key, or in the key of a receipt.
fn cid(text: &str) -> Option<&str> {
    let ulid = |part: &&str| part.len() == 26 && part.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    text.rsplit(['-', '/', ':', '#', '.', ' ']).find(ulid)
}

/// The stream and the shard that a read is about.
fn shard_of(detail: &str) -> &str {
    detail.split(['@', ' ']).next().unwrap_or_default()
}

impl<'a> Story<'a> {
    fn of(trace: &'a [TraceEntry], deeds: &'a [(u64, Deed)], failover: u64) -> Self {
        let (lives, leases) = (BTreeMap::new(), BTreeMap::new());
        let mut story = Self { lives, leases, reads: Vec::new(), deeds, failover };
        for entry in trace {
            story.sort_in(entry.call.service, Seen::of(entry));
        }
        story
    }

    fn sort_in(&mut self, service: Service, seen: Seen<'a>) {
        match service {
            Service::Kinesis => self.reads.push(seen),
            Service::Lambda => {}
            Service::S3 => {
                let Some(cid) = cid(seen.detail) else { return };
                let life = self.lives.entry(cid).or_default();
                let key = seen.detail.split('#').next().unwrap_or_default();
                if !life.keys.contains(&key) {
                    life.keys.push(key);
                }
                match seen.operation {
                    "CreateMultipartUpload" => life.creates.push(seen),
                    "UploadPart" => life.parts.push(seen),
                    "CompleteMultipartUpload" => life.completes.push(seen),
                    "PutObject" if key.contains("standpipe-staging/") => life.staged.push(seen),
                    "PutObject" => life.puts.push(seen),
                    "HeadObject" => life.heads.push(seen),
                    _ => {}
                }
            }
            Service::DynamoDb => {
                let lease = |part: &'a str| part.split_once("leaseKey=S:").map(|(_, lease)| lease);
                if let Some(cid) = cid(seen.detail) {
                    let life = self.lives.entry(cid).or_default();
                    if seen.operation == "TransactWriteItems" {
                        life.leases = seen.detail.split(' ').filter_map(lease).collect();
                        life.transactions.push(seen);
                    } else {
                        life.receipts.push(seen);
                    }
                } else if let Some(lease) = lease(seen.detail).filter(|_| seen.operation == "UpdateItem") {
                    self.leases.entry(lease).or_default().push(seen);
                }
            }
        }
    }

    fn death(&self, who: &str) -> Option<u64> {
        self.deeds.iter().find(|(_, deed)| matches!(deed, Deed::Kill(name) if name == who)).map(|(at, _)| *at)
    }

    /// Who wrote a lease last before an instant, if that was within a failover.
    fn holder(&self, lease: &str, at: u64) -> Option<&str> {
        let mut updates = self.leases.get(lease)?.iter().filter(|seen| seen.effect() && seen.acted <= at);
        updates.next_back().filter(|seen| seen.acted + self.failover >= at).map(|seen| seen.who)
    }

    /// Whether somebody else wrote one of the leases between two instants.
    fn taken_between(&self, life: &Life<'_>, who: &str, from: u64, to: u64) -> bool {
        let updates = life.leases.iter().filter_map(|lease| self.leases.get(lease)).flatten();
        updates.into_iter().any(|seen| seen.effect() && seen.who != who && seen.acted >= from && seen.acted <= to)
    }

    fn crashes(&self, rows: &mut Rows) {
        for (at, deed) in self.deeds {
            let Deed::Kill(who) = deed else { continue };
            let open: Vec<&Life<'_>> = self.lives.values().filter(|life| life.open(who, *at)).collect();
            let holds = self.leases.keys().any(|lease| self.holder(lease, *at) == Some(who));
            met(rows, 1, holds && open.is_empty());
            let sent = |life: &&Life<'_>| life.transactions.iter().any(|seen| seen.who == who && seen.sent <= *at);
            met(rows, 2, open.iter().any(|life| !sent(life) && !life.parts.is_empty()));
            met(rows, 5, open.iter().any(|life| life.committed().is_some() && !life.published_before(*at)));
            let put = |committed: bool| self.lives.values().any(|life| life.put_open(who, *at) == Some(committed));
            met(rows, 60, put(false));
            met(rows, 61, put(true));
        }
    }

    fn life(&self, life: &Life<'_>, rows: &mut Rows) {
        let transactions = &life.transactions;
        met(rows, 3, transactions.iter().any(|seen| !seen.reached()) && transactions.iter().any(Seen::reached));
        let alive = |who: &str, at: u64| self.death(who).is_none_or(|death| death > at);
        let unheard = transactions.iter().find(|seen| seen.effect() && seen.answer_lost());
        met(rows, 4, unheard.is_some_and(|seen| alive(seen.who, seen.acted)));
        let late = |seen: &&Seen<'_>| seen.acted - seen.sent > self.failover / 4 && alive(seen.who, seen.acted);
        met(rows, 6, transactions.iter().any(|seen| late(&seen)));
        met(rows, 7, transactions.iter().filter(|seen| seen.reached()).count() > 1 && life.committed().is_some());
        met(rows, 8, transactions.iter().any(|seen| seen.acted - seen.sent > self.failover));
        self.publication(life, rows);
        let by_others = |seen: &Seen<'_>| life.puts.iter().any(|put| put.who != seen.who && put.detail == seen.detail);
        met(rows, 62, life.puts.iter().any(|seen| seen.effect() && by_others(seen)));
        let Some(staged) = life.creates.iter().find(|seen| seen.effect()) else { return };
        let refused = transactions.iter().find(|seen| seen.outcome.contains("TransactionCanceled"));
        met(rows, 10, refused.is_some_and(|seen| self.taken_between(life, seen.who, staged.acted, seen.acted)));
        met(rows, 23, life.parts.iter().any(|seen| seen.outcome.contains("NoSuchUpload")));
    }

    fn publication(&self, life: &Life<'_>, rows: &mut Rows) {
        let completes = &life.completes;
        let seen_after = |at: u64| completes.iter().any(|seen| seen.effect() && seen.acted > at);
        let Some(committed) = life.committed() else { return };
        let first = completes.iter().find(|seen| seen.effect());
        let overtaken = |seen: &Seen<'_>| first.is_some_and(|first| first.who != seen.who && first.acted < seen.acted);
        met(rows, 9, completes.iter().any(|seen| overtaken(seen) && seen.acted - seen.sent > 400));
        let published = first.map_or(u64::MAX, |first| first.acted);
        met(rows, 11, self.taken_between(life, committed.who, committed.acted, published));
        let refused = |seen: &Seen<'_>| seen.outcome.contains("refused") || seen.outcome.contains("SlowDown");
        met(rows, 16, completes.iter().any(|seen| refused(seen) && seen_after(seen.acted)));
        met(rows, 17, completes.iter().any(|seen| seen.outcome.starts_with("200 Internal")));
        let missing = completes.iter().find(|seen| seen.outcome.contains("NoSuchUpload"));
        let head = |status: &str| {
            missing.is_some_and(|at| {
                life.heads.iter().any(|seen| seen.sent >= at.acted && seen.outcome.starts_with(status))
            })
        };
        met(rows, 18, head("200"));
        let consumed = |(_, deed): &(u64, Deed)| matches!(deed, Deed::Consume(key) if life.keys.iter().any(|k| k.ends_with(key.as_str())));
        met(rows, 19, head("404") && self.deeds.iter().any(consumed));
        let configs = |who: &str| {
            self.deeds.iter().find_map(|(_, deed)| match deed {
                Deed::Start { who: name, interval, .. } if name == who => Some(*interval),
                _ => None,
            })
        };
        met(rows, 33, first.is_some_and(|first| configs(first.who) != configs(committed.who)));
    }

    fn lease(&self, updates: &[Seen<'_>], rows: &mut Rows) {
        let mut owners: Vec<&str> = Vec::new();
        for seen in updates {
            met(rows, 14, seen.outcome.contains("TransactionConflict"));
            if seen.effect() && owners.last() != Some(&seen.who) {
                met(rows, 13, owners.contains(&seen.who));
                owners.push(seen.who);
            } else if seen.outcome.contains("ConditionalCheckFailed") && owners.last() != Some(&seen.who) {
                met(rows, 12, owners.iter().rev().nth(1) == Some(&seen.who));
            }
        }
    }

    fn deeds(&self, rows: &mut Rows) {
        for (at, deed) in self.deeds {
            match deed {
                Deed::Stop(_) => met(rows, 51, true),
                Deed::Start { skewed, .. } => met(rows, 38, *skewed),
                Deed::Away(service) => met(rows, 15, service.starts_with("dynamodb")),
                Deed::Split(shard) => met(rows, 27, self.holder(shard, *at).is_some()),
                Deed::Merge(one, other) => {
                    let (one, other) = (self.holder(one, *at), self.holder(other, *at));
                    met(rows, 28, one.is_some() && other.is_some() && one != other);
                }
                Deed::Abort(key) => self.aborted(key, *at, rows),
                Deed::Down(_) => met(rows, 63, true),
                Deed::FleetDown { uploads_gone } => {
                    let waits = |life: &&Life<'_>| {
                        life.committed().is_some_and(|seen| seen.acted <= *at) && !life.published_before(*at)
                    };
                    let waiting = self.lives.values().filter(waits).count() as u64;
                    *rows.entry(if *uploads_gone { 26 } else { 25 }).or_default() += waiting;
                }
                Deed::Kill(_) | Deed::Consume(_) | Deed::Scale { .. } => {}
            }
        }
    }

    fn aborted(&self, key: &str, at: u64, rows: &mut Rows) {
        let Some(life) = cid(key).and_then(|cid| self.lives.get(cid)) else { return };
        match life.committed().filter(|seen| seen.acted <= at) {
            None => met(rows, 20, true),
            Some(_) => met(rows, 21, !life.published_before(at)),
        }
    }

    fn iterators(&self, rows: &mut Rows) {
        for (place, seen) in self.reads.iter().enumerate().filter(|(_, seen)| seen.outcome.contains("ExpiredIterator"))
        {
            let renewed = |next: &Seen<'_>| {
                next.operation == "GetShardIterator"
                    && next.who == seen.who
                    && shard_of(next.detail) == shard_of(seen.detail)
            };
            met(rows, 39, self.reads[place..].iter().any(renewed));
        }
    }
}
