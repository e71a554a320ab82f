//! `standpipe leases list`: one line a lease, then the sums; rows that cannot be read are named with the reason.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use standpipe_flow::{DestinationId, DestinationPosition, LeaseKey, LeaseRow, PendingMode, Position};
use standpipe_lease::RowError;
use standpipe_lease::mend::{Listing, ReceiptSeen};

use super::cells::{self, Line};
use crate::args::Output;
use crate::args::leases::List;
use crate::exit::Exit;
use crate::terminal::{self, counted};

#[derive(Serialize)]
struct Report {
    table: String,
    watched_seconds: f64,
    leases: Vec<Lease>,
    unreadable: Vec<Unreadable>,
    sums: Sums,
}

#[derive(Serialize)]
struct Lease {
    lease: String,
    owner: Option<String>,
    checkpoint_owner: Option<String>,
    counter: u64,
    /// Whether the owner has shown that it is alive; null if nobody looked, or nobody owns it.
    alive: Option<bool>,
    /// Of one without a position: the word that stands there, LATEST or AT_TIMESTAMP.
    checkpoint: Place,
    /// Whether it has no position yet: it begins where the config's start says, once it is free.
    unpinned: bool,
    owner_switches: u64,
    ended: bool,
    generation: u64,
    version: Option<u64>,
    start_millis: Option<u64>,
    next: Option<String>,
    parents: Vec<String>,
    children: Vec<String>,
    retired: Vec<String>,
    destinations: BTreeMap<String, Destination>,
}

#[derive(Serialize)]
struct Place {
    sequence: String,
    sub: u64,
}

#[derive(Serialize)]
struct Destination {
    at: Place,
    arrival_millis: Option<u64>,
    lag_seconds: Option<f64>,
    pending: Option<Pending>,
}

#[derive(Serialize)]
struct Pending {
    cid: String,
    to: Place,
    mode: &'static str,
    receipt: &'static str,
    records: Option<u64>,
    unreadable: Option<String>,
}

#[derive(Serialize)]
struct Unreadable {
    lease: String,
    reason: String,
}

#[derive(Serialize, Default)]
struct Sums {
    leases: u64,
    owned: u64,
    /// Owners that are alive.
    workers: u64,
    unowned: u64,
    ended: u64,
    waited_for: u64,
    /// Leases that a Java KCL made and has never checkpointed.
    unpinned: u64,
    pending: u64,
    /// Commits that no worker may finish by itself.
    quarantined: u64,
    unreadable: u64,
}

pub async fn run(args: List) -> Result<Exit> {
    let mend = super::tables(&args.of).await?.mend;
    let span = if args.once { Duration::ZERO } else { mend.failover / 2 };
    if !span.is_zero() {
        super::say_watching(&args.of, &mend, "which owners are alive");
    }
    let listing = mend.list(span).await?;
    let sums = sums(&listing);
    match args.of.report.output {
        Output::Json => super::super::json(&report(mend.table.name(), &listing, sums))?,
        Output::Human => terminal::out(&text(mend.table.name(), &listing, &sums))?,
    }
    Ok(Exit::Ok)
}

/// Whether a pending commit waits for a person.
fn quarantined(listing: &Listing, position: &DestinationPosition) -> bool {
    position.pending.as_ref().is_some_and(|pending| {
        let known = matches!(listing.receipts.get(&pending.cid), Some(ReceiptSeen::There(_)) | None);
        // A declared range has no receipt: whoever takes the lease sends it again.
        pending.mode != PendingMode::Declared && (pending.mode != PendingMode::Staged || !known)
    })
}

fn sums(listing: &Listing) -> Sums {
    let rows = &listing.look.rows;
    let count = |test: &dyn Fn(&LeaseRow) -> bool| listing.look.leases().filter(|row| test(row)).count() as u64;
    let positions = || rows.leases.values().flat_map(|row| row.destinations.values());
    let moving = listing.look.leases().filter(|row| listing.look.moving.contains(&row.key));
    let alive: BTreeSet<_> = moving.filter_map(|row| row.owner.as_ref()).collect();
    Sums {
        leases: count(&|_| true),
        owned: count(&|row| row.owner.is_some() && !row.ended()),
        workers: alive.len() as u64,
        unowned: count(&|row| row.owner.is_none() && !row.ended()),
        ended: count(&LeaseRow::ended),
        waited_for: count(&|row| row.next.is_some()),
        unpinned: rows.unpinned.len() as u64,
        pending: positions().filter(|position| position.pending.is_some()).count() as u64,
        quarantined: positions().filter(|position| quarantined(listing, position)).count() as u64,
        unreadable: unreadable(listing).count() as u64,
    }
}

/// Rows that no worker may take as they are.
fn unreadable(listing: &Listing) -> impl Iterator<Item = (&LeaseKey, &RowError)> {
    let rows = &listing.look.rows;
    rows.unreadable.iter().filter(|(key, _)| !rows.unpinned.contains_key(*key))
}

/// The word that stands where a lease without a position has its checkpoint.
fn unpinned(listing: &Listing, row: &LeaseRow) -> Option<&'static str> {
    let at_timestamp = listing.look.rows.unpinned.get(&row.key)?.at_timestamp;
    Some(if at_timestamp { "AT_TIMESTAMP" } else { "LATEST" })
}

/// `None`: nobody owns it, or nobody watched.
fn alive(listing: &Listing, row: &LeaseRow) -> Option<bool> {
    let watched = row.owner.is_some() && !listing.look.watched.is_zero();
    watched.then(|| listing.look.moving.contains(&row.key))
}

fn text(table: &str, listing: &Listing, sums: &Sums) -> String {
    let ids: BTreeSet<&DestinationId> =
        listing.look.rows.leases.values().flat_map(|row| row.destinations.keys()).collect();
    let mut header: Vec<String> = ["LEASE", "OWNER", "HEARTBEAT", "CHECKPOINT"].map(str::to_owned).into();
    header.extend(ids.iter().map(|id| id.as_str().to_uppercase()));
    let mut rows: Vec<&LeaseRow> = listing.look.leases().collect();
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    let mut lines: Vec<Line> = rows.into_iter().map(|row| line(listing, row, &ids)).collect();
    for (lease, reason) in unreadable(listing) {
        let (cells, notes) = (vec![lease.to_string()], vec![format!("left alone: {reason}")]);
        lines.push(Line { cells, notes, alarming: true });
    }
    let mut text = if lines.is_empty() { String::new() } else { cells::table(&header, &lines) };
    text.push_str(&format!("{table}: {}", counted(sums.leases, "lease")));
    let watched = !listing.look.watched.is_zero();
    let mut parts = vec![format!("{} owned", sums.owned)];
    if watched && sums.owned > 0 {
        parts.push(format!("{} alive", counted(sums.workers, "worker")));
    }
    let some = [
        (sums.unowned, "unowned"),
        (sums.ended, "ended"),
        (sums.waited_for, "waited for"),
        (sums.unpinned, "without a position"),
        (sums.pending, "with a commit pending"),
        (sums.quarantined, "quarantined"),
        (sums.unreadable, "unreadable"),
    ];
    parts.extend(some.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")));
    text.push_str(&format!("; {}\n", parts.join(", ")));
    text
}

fn line(listing: &Listing, row: &LeaseRow, ids: &BTreeSet<&DestinationId>) -> Line {
    let owner = row.owner.as_ref().map_or("-".to_owned(), |owner| cells::owner(owner.as_str()));
    let heartbeat = match alive(listing, row) {
        Some(true) => "moves",
        Some(false) => "still",
        None if row.owner.is_some() => "?",
        None => "-",
    };
    let unpinned = unpinned(listing, row);
    let checkpoint = unpinned.map_or_else(|| cells::position(&row.checkpoint), str::to_owned);
    let mut cells = vec![row.key.to_string(), owner, heartbeat.to_owned(), checkpoint];
    for id in ids {
        let position = row.destinations.get(*id);
        cells.push(position.map_or("-".to_owned(), |at| cells::destination(row, at, listing.now)));
    }
    let mut notes = Vec::new();
    for (id, position) in &row.destinations {
        let Some(pending) = &position.pending else { continue };
        let receipt = listing.receipts.get(&pending.cid);
        let mut note = format!("{id}: commit {} to {}, ", pending.cid, cells::position(&pending.to));
        note.push_str(match pending.mode {
            PendingMode::Staged => cells::receipt(receipt),
            PendingMode::Declared => "declared, being sent",
            PendingMode::Unknown => "form not known here",
        });
        if let Some(ReceiptSeen::There(receipt)) = receipt {
            note.push_str(&format!(", {}", counted(receipt.records, "record")));
        }
        notes.push(note);
    }
    notes.extend(row.next.as_ref().map(|next| format!("waited for by {}", cells::owner(next.as_str()))));
    if unpinned.is_some() {
        notes.push("begins where the config's start says, once it is free".to_owned());
    }
    if row.ended() {
        notes.push("finished".to_owned());
    }
    let related = [("parents", &row.parents), ("children", &row.children)];
    for (word, shards) in related.into_iter().filter(|(_, shards)| !shards.is_empty()) {
        let shards: Vec<&str> = shards.iter().map(|shard| short(shard.as_str())).collect();
        notes.push(format!("{word} {}", shards.join(" ")));
    }
    if row.generation.0 > 0 {
        notes.push(format!("reset {}", times(row.generation.0)));
    }
    if !row.version_known() {
        notes.push(format!("form {} of our attributes: a newer version wrote it", row.version.unwrap_or_default()));
    }
    let alarming = heartbeat == "still"
        || !row.version_known()
        || row.destinations.values().any(|position| quarantined(listing, position));
    Line { cells, notes, alarming }
}

/// `shardId-000000000012` as `12`.
fn short(shard: &str) -> &str {
    let digits = shard.strip_prefix("shardId-").filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.map(|digits| digits.trim_start_matches('0')) {
        None => shard,
        Some("") => "0",
        Some(digits) => digits,
    }
}

fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

fn report(table: &str, listing: &Listing, sums: Sums) -> Report {
    Report {
        table: table.to_owned(),
        watched_seconds: listing.look.watched.as_secs_f64(),
        leases: listing.look.leases().map(|row| lease(listing, row)).collect(),
        unreadable: unreadable(listing)
            .map(|(lease, reason)| Unreadable { lease: lease.to_string(), reason: reason.to_string() })
            .collect(),
        sums,
    }
}

fn place(position: &Position) -> Place {
    Place { sequence: position.checkpoint().to_owned(), sub: position.sub() }
}

fn lease(listing: &Listing, row: &LeaseRow) -> Lease {
    let destinations = row.destinations.iter();
    let unpinned = unpinned(listing, row);
    Lease {
        lease: row.key.to_string(),
        owner: row.owner.as_ref().map(ToString::to_string),
        checkpoint_owner: row.checkpoint_owner.as_ref().map(ToString::to_string),
        counter: row.counter,
        alive: alive(listing, row),
        checkpoint: unpinned.map_or_else(|| place(&row.checkpoint), |word| Place { sequence: word.to_owned(), sub: 0 }),
        unpinned: unpinned.is_some(),
        owner_switches: row.owner_switches,
        ended: row.ended(),
        generation: row.generation.0,
        version: row.version,
        start_millis: row.start.map(|start| start.0),
        next: row.next.as_ref().map(ToString::to_string),
        parents: row.parents.iter().map(|shard| shard.as_str().to_owned()).collect(),
        children: row.children.iter().map(|shard| shard.as_str().to_owned()).collect(),
        retired: row.off.iter().map(ToString::to_string).collect(),
        destinations: destinations.map(|(id, position)| (id.to_string(), destination(listing, position))).collect(),
    }
}

fn destination(listing: &Listing, position: &DestinationPosition) -> Destination {
    let pending = position.pending.as_ref().map(|pending| {
        let receipt = listing.receipts.get(&pending.cid);
        Pending {
            cid: pending.cid.to_string(),
            to: place(&pending.to),
            mode: match pending.mode {
                PendingMode::Staged => "staged",
                PendingMode::Declared => "declared",
                PendingMode::Unknown => "unknown",
            },
            receipt: cells::receipt(receipt),
            records: match receipt {
                Some(ReceiptSeen::There(receipt)) => Some(receipt.records),
                _ => None,
            },
            unreadable: match receipt {
                Some(ReceiptSeen::Unreadable(cause)) => Some(cause.clone()),
                _ => None,
            },
        }
    });
    Destination {
        at: place(&position.at),
        arrival_millis: position.arrival.map(|arrival| arrival.0),
        lag_seconds: position.arrival.map(|arrival| listing.now.since(arrival).as_secs_f64()),
        pending,
    }
}
