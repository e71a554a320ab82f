//! `lease ->`: start-up: whether workers of the Java KCL 3 live at this lease table.
//!
//! Beside KCL 2 our workers take their share by its own rules. KCL 3 has a leader that assigns the leases: it counts
//! workers by their metrics rows, which we do not write, so it would leave us what we hold and hand everything else to its
//! own. That is no way to share: a start beside a live KCL 3 is refused, with what to do. A stopped one is taken over.
//!
//! KCL 3.0 to 3.4 keep the metrics rows in a table of their own, 3.5 and later among the leases; both are looked at, so
//! it does not matter how far a migration has come. A row that was written lately is only a hint (clocks differ); the proof
//! is a lease of a Java worker whose counter moves.
//!
//! Never here: a write.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use standpipe_flow::{CommitError, LeaseKey, LeaseRow, Millis, WorkerId};
use tracing::warn;

use crate::client::{Dynamo, classify};
use crate::kcl::Item;
use crate::plan::foreign;
use crate::table::Rows;

/// A worker whose metrics row is older is gone (the KCL reports every 30 s and forgets after 60 s; clocks may differ).
const REPORT_AGE_MAX_SECONDS: u64 = 120;
/// `WorkerMetricStats` of KCL 3.0 to 3.4: the table's suffix, its key, and when the row was written, in seconds.
const REPORTS_SUFFIX: &str = "-WorkerMetricStats";
const REPORT_KEY: &str = "wid";
const REPORT_TIME: &str = "lut";
/// The same row in the lease table of KCL >= 3.5, by its `entityType`; its key is `leaseKey`.
const REPORT_ENTITY: &str = "WORKER_METRIC_STATS";

/// When the workers of a KCL 3 reported last, in seconds since 1970.
pub(crate) type Reports = BTreeMap<String, u64>;

/// The report in a row that is no lease.
pub(crate) fn report(item: &Item) -> Option<(String, u64)> {
    let text = |name: &str| item.get(name)?.as_s().ok();
    text(crate::kcl::name::ENTITY).filter(|entity| *entity == REPORT_ENTITY)?;
    Some((text(crate::kcl::name::KEY)?.clone(), seconds(item)?))
}

fn seconds(item: &Item) -> Option<u64> {
    item.get(REPORT_TIME)?.as_n().ok()?.parse().ok()
}

/// The reports in the table of their own, if there is one.
pub(crate) async fn reports(dynamo: &Dynamo, lease_table: &str) -> Result<Reports, CommitError> {
    let table = format!("{lease_table}{REPORTS_SUFFIX}");
    let mut reports = Reports::new();
    let mut from = None;
    loop {
        let request = dynamo.patient.scan().table_name(&table).set_exclusive_start_key(from);
        let page = match request.send().await {
            Ok(page) => page,
            Err(error) if error.code() == Some("ResourceNotFoundException") => return Ok(reports),
            Err(error) => match classify(&error) {
                CommitError::Denied { cause } => {
                    warn!(table, cause, "whether workers of the Java KCL 3 live could not be looked up");
                    return Ok(reports);
                }
                error => return Err(error),
            },
        };
        for item in page.items.unwrap_or_default() {
            let item: Item = item.into_iter().collect();
            let worker = item.get(REPORT_KEY).and_then(|key| key.as_s().ok()).cloned();
            reports.extend(worker.zip(seconds(&item)));
        }
        match page.last_evaluated_key {
            Some(last) if !last.is_empty() => from = Some(last),
            _ => return Ok(reports),
        }
    }
}

/// The worker that reported last, if that was lately.
pub(crate) fn lately(reports: &Reports, now: Millis) -> Option<&str> {
    let (worker, at) = reports.iter().max_by_key(|(_, at)| **at)?;
    (at.saturating_add(REPORT_AGE_MAX_SECONDS) >= now.0 / 1000).then_some(worker)
}

/// The counters of the leases that Java workers own.
pub(crate) fn counters(rows: &Rows) -> BTreeMap<LeaseKey, (WorkerId, u64)> {
    let all = rows.leases.values().chain(rows.unpinned.values().map(|unpinned| &unpinned.row));
    let counter = |row: &LeaseRow| Some((row.key.clone(), (row.owner.clone()?, row.counter)));
    all.filter(|row| foreign(row)).filter_map(counter).collect()
}

/// A Java worker whose counter has moved between two scans.
pub(crate) fn alive(before: &BTreeMap<LeaseKey, (WorkerId, u64)>, now: &Rows) -> Option<WorkerId> {
    let moved = |(key, (owner, counter)): (LeaseKey, (WorkerId, u64))| {
        let (was, count) = before.get(&key)?;
        (*was == owner && *count != counter).then_some(owner)
    };
    counters(now).into_iter().find_map(moved)
}

#[cfg(test)]
mod tests;
