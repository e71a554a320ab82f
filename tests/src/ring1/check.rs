//! Whether everything is right after a run.

use std::collections::{BTreeMap, BTreeSet};

use standpipe_flow::hash::hash64;
use standpipe_flow::{LeaseKey, Position, Receipt, ReceiptState};

use super::store::{Store, UploadState, upload_of};
use super::worker::Common;
use crate::simulation::Outcome;

/// Every record is there once; commits chain; nothing is left over.
pub fn all(store: &mut Store, common: &Common, outcome: &mut Outcome) {
    let incidents = common.metrics.incidents.get_or_create(&common.at()).get();
    records(store, incidents, outcome);
    for lease in store.rows.keys().cloned().collect::<Vec<_>>() {
        chain(store, &lease, outcome);
    }
    for receipt in store.receipts.values().filter(|receipt| receipt.state == ReceiptState::Committed) {
        outcome.wrong.push(format!("{} is still only committed", receipt.cid));
    }
    for why in ["I9", "I15"] {
        if common.metrics.invariant_violations.get_or_create(&common.at().why(why)).get() > 0 {
            outcome.wrong.push(format!("{why} was broken"));
        }
    }
    for (family, counter, reasons) in [
        ("commits", &common.metrics.commits, &["done", "dead", "unclear"][..]),
        (
            "recovered",
            &common.metrics.recoveries,
            &["nothing", "committed", "done", "found_retracted", "retracted", "recognised", "adopted", "declared"][..],
        ),
        (
            "cut",
            &common.metrics.buffer_flush,
            &["size", "interval", "memory", "shard_end", "hand_over", "declared"][..],
        ),
    ] {
        for reason in reasons {
            let count = counter.get_or_create(&common.at().why(reason)).get();
            *outcome.events.entry(format!("{family}: {reason}")).or_default() += count;
        }
    }
    *outcome.events.entry("incidents".into()).or_default() += incidents;
}

fn records(store: &Store, incidents: u64, outcome: &mut Outcome) {
    let mut where_it_is: Vec<(LeaseKey, Position)> = Vec::new();
    for (lease, shard) in &store.shards {
        where_it_is.extend(shard.records.iter().map(|made| (lease.clone(), made.record.position())));
    }
    let mut found: BTreeMap<usize, u64> = BTreeMap::new();
    let mut keys = BTreeSet::new();
    let mut partly = BTreeSet::new();
    for upload in store.uploads.values().filter(|upload| upload.state == UploadState::Visible) {
        if !keys.insert(&upload.key) {
            outcome.wrong.push(format!("{} was overwritten", upload.key));
        }
        let Some(receipt) = store.receipts.get(&upload.cid) else { continue };
        inside(receipt, &upload.records, &where_it_is, outcome);
        outcome.found += upload.records.len();
        if receipt.state == ReceiptState::Retracted {
            partly.insert(upload.cid);
        } else {
            upload.records.iter().for_each(|id| *found.entry(*id).or_default() += 1);
        }
    }
    outcome.found += store.taken_in.len();
    store.taken_in.iter().for_each(|id| *found.entry(*id).or_default() += 1);
    for cid in &partly {
        let visible = |id: &String| store.uploads[id].state == UploadState::Visible;
        if store.receipts[cid].outputs.iter().all(|output| visible(upload_of(output))) {
            outcome.wrong.push(format!("{cid} is retracted and wholly visible"));
        }
    }
    if (partly.len() as u64) > incidents {
        outcome.wrong.push(format!("{} commits are retracted and partly visible, {incidents} named", partly.len()));
    }
    outcome.produced = where_it_is.len();
    let by_java =
        |lease: &LeaseKey, at: &Position| store.java.iter().any(|(of, from, to)| of == lease && from < at && at <= to);
    for (id, (lease, at)) in where_it_is.iter().enumerate() {
        match found.get(&id).copied().unwrap_or(0) {
            0 if by_java(lease, at) => {}
            0 => outcome.wrong.push(format!("lost: record {id} of {lease} at {at}")),
            1 => {}
            times => outcome.wrong.push(format!("repeated {times} times: record {id} of {lease} at {at}")),
        }
    }
}

/// An object holds records of its commit's ranges, ascending within a shard.
fn inside(receipt: &Receipt, records: &[usize], placed: &[(LeaseKey, Position)], outcome: &mut Outcome) {
    let mut last: BTreeMap<&LeaseKey, &Position> = BTreeMap::new();
    for id in records {
        let (lease, at) = &placed[*id];
        let range = receipt.shards.iter().find(|listed| listed.lease == *lease);
        if range.is_none_or(|range| *at <= range.from || *at > range.to) {
            outcome.wrong.push(format!("{} holds record {id}, which is in none of its ranges", receipt.cid));
        }
        if last.insert(lease, at).is_some_and(|before| before >= at) {
            outcome.wrong.push(format!("order: within {} record {id} of {lease} comes late", receipt.cid));
        }
    }
}

/// I2: the ranges of a shard chain, but for what a Java worker delivered; the row is at the end of them.
fn chain(store: &Store, lease: &LeaseKey, outcome: &mut Outcome) {
    let standing = store.receipts.values().filter(|receipt| receipt.state != ReceiptState::Retracted);
    let listed = standing.flat_map(|receipt| &receipt.shards).filter(|listed| listed.lease == *lease);
    let advanced = store.advanced.iter().filter(|(of, ..)| of == lease).map(|(_, from, to)| (from, to));
    let mut ranges: Vec<_> = listed.map(|listed| (&listed.from, &listed.to)).chain(advanced).collect();
    ranges.sort();
    let java = |at: &Position| store.java.iter().any(|(of, _, to)| of == lease && to == at);
    let mut reached = Position::TrimHorizon;
    for (from, to) in ranges {
        if *from < reached || (*from > reached && !java(from)) {
            let wrong = format!("I2: of {lease} a commit begins at {from}, the one before ends at {reached}");
            outcome.wrong.push(wrong);
        }
        reached = to.clone();
    }
    let row = &store.rows[lease];
    let end = store.shards[lease].end();
    if reached < end && !java(&end) {
        outcome.wrong.push(format!("I1: commits of {lease} end at {reached}, the shard at {end}"));
    }
    if row.checkpoint != end {
        outcome.wrong.push(format!("checkpoint of {lease} is {}, the end is {end}", row.checkpoint));
    }
    if store.pending(row).is_some() {
        outcome.wrong.push(format!("{lease} still carries a commit"));
    }
}

/// A hash of the list of what happened.
pub fn hash(trace: &[String]) -> u64 {
    hash64(&trace.iter().map(|line| line.as_bytes()).collect::<Vec<_>>())
}
