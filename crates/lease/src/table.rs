//! `lease ->`: the lease table: rows read, made once, and changed by the protocol's conditional writes.
//!
//! One call is one request (a scan: one a page); nothing is sent twice. Reads are consistent. A row is made whole by
//! PutItem if it does not exist, and afterwards only changed by UpdateItem, so that attributes of others survive.
//!
//! Never here: an unconditional write or delete, a retry.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{ReturnValue, ReturnValuesOnConditionCheckFailure};
use standpipe_flow::write::RowWrite;
use standpipe_flow::{CommitError, LeaseKey, LeaseRow, Position};
use tracing::warn;

use crate::admin::{self, Spec};
use crate::client::{Dynamo, classify};
use crate::expression::{self, Expression};
use crate::java;
use crate::kcl::{self, Item, RowError, name};

pub use crate::admin::TableError;

/// Items a page of a scan may hold at most: 1 MB of rows is what ends a page, this only bounds an emulator.
const SCAN_PAGE_ITEMS: i32 = 5_000;

/// Everything a scan of the lease table found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    /// The leases.
    pub leases: BTreeMap<LeaseKey, LeaseRow>,
    /// Rows that this program keeps its hands off. They are not gone: their children wait.
    pub unreadable: BTreeMap<LeaseKey, RowError>,
    /// Those of them that a Java KCL made at LATEST or at a time and has never checkpointed: a take can pin them.
    pub unpinned: BTreeMap<LeaseKey, Unpinned>,
    /// Leases of unfinished shards that no living worker owns, and for how long, as far as this worker has seen.
    pub alone: BTreeMap<LeaseKey, Duration>,
    /// When workers of a KCL >= 3.5 reported last, in seconds since 1970; it keeps that among the leases.
    pub reports: BTreeMap<String, u64>,
    /// Parents that a row names and this scan did not find, though the scan before did not miss them. A scan is no
    /// snapshot: it may have passed a parent's place before the parent was made. They do not count as gone.
    pub unconfirmed: BTreeSet<LeaseKey>,
    /// When the scan ended, on [`standpipe_flow::Clock::elapsed`]'s axis; every row is at least as new as its begin.
    pub at: Duration,
}

impl Rows {
    /// One lease.
    pub fn get(&self, key: &LeaseKey) -> Option<&LeaseRow> {
        self.leases.get(key)
    }

    /// Whether the table has a row of that key, readable or not.
    pub fn has(&self, key: &LeaseKey) -> bool {
        self.leases.contains_key(key) || self.unreadable.contains_key(key)
    }

    /// Whether a lease is gone for certain.
    pub fn gone(&self, key: &LeaseKey) -> bool {
        !self.has(key) && !self.unconfirmed.contains(key)
    }

    /// Parents that rows name and the table does not have.
    pub(crate) fn missing_parents(&self) -> BTreeSet<LeaseKey> {
        let parents = self.leases.values().flat_map(|row| &row.parents).map(LeaseKey::of);
        parents.filter(|parent| !self.has(parent)).collect()
    }

    /// A lease that names a commit, if there is one.
    pub fn carrier(&self) -> Option<&LeaseRow> {
        self.leases.values().find(|row| row.destinations.values().any(|position| position.pending.is_some()))
    }
}

/// A lease without a position: where it begins was in the Java application's configuration, not in its row.
#[derive(Debug, Clone, PartialEq)]
pub struct Unpinned {
    /// The row, with TRIM_HORIZON where it has LATEST or AT_TIMESTAMP.
    pub row: LeaseRow,
    /// Whether it is AT_TIMESTAMP: what came before now is wanted, too.
    pub at_timestamp: bool,
}

/// The lease table.
#[derive(Debug, Clone)]
pub struct LeaseTable {
    dynamo: Dynamo,
    table: String,
}

impl LeaseTable {
    /// The table of that name, as it is.
    pub fn new(dynamo: Dynamo, table: impl Into<String>) -> Self {
        Self { dynamo, table: table.into() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.table
    }

    /// Waits until the table is there, and makes it if it is missing and `create`.
    pub async fn open(&self, create: bool) -> Result<(), TableError> {
        let spec = Spec { table: &self.table, key: name::KEY, ttl: None };
        admin::open(&self.dynamo.patient, &spec, create).await.map(|_arn| ())
    }

    /// Reads every row, consistently, page by page. [`Rows::at`] is left at zero: the caller has the clock.
    pub async fn scan(&self) -> Result<Rows, CommitError> {
        let mut rows = Rows::default();
        let mut from = None;
        loop {
            let request = self.dynamo.patient.scan().table_name(&self.table).consistent_read(true);
            let request = request.limit(SCAN_PAGE_ITEMS).set_exclusive_start_key(from);
            let page = request.send().await.map_err(|error| classify(&error))?;
            for item in page.items.unwrap_or_default() {
                sort_in(&mut rows, item.into_iter().collect());
            }
            match page.last_evaluated_key {
                Some(last) if !last.is_empty() => from = Some(last),
                _ => return Ok(rows),
            }
        }
    }

    /// Reads one row, consistently. A row that cannot be worked with is [`CommitError::Denied`].
    pub async fn get(&self, lease: &LeaseKey) -> Result<Option<LeaseRow>, CommitError> {
        let request = self.dynamo.quick.get_item().table_name(&self.table).consistent_read(true);
        let request = request.key(name::KEY, kcl::text(lease.as_str()));
        let output = request.send().await.map_err(|error| classify(&error))?;
        let Some(item) = output.item else { return Ok(None) };
        let row = kcl::decode(&item.into_iter().collect());
        row.map_err(|error| CommitError::Denied { cause: error.to_string() })
    }

    /// Makes a row if there is none of its key. `false`: there is one, left as it is.
    pub async fn create(&self, row: &LeaseRow) -> Result<bool, CommitError> {
        let item = kcl::encode(row);
        let request = self.dynamo.quick.put_item().table_name(&self.table).set_item(Some(item.into_iter().collect()));
        let request =
            request.condition_expression("attribute_not_exists(#k)").expression_attribute_names("#k", name::KEY);
        match request.send().await {
            Ok(_) => Ok(true),
            Err(error) => match classify(&error) {
                CommitError::Refused { .. } => Ok(false),
                other => Err(other),
            },
        }
    }

    /// Deletes the row of a shard that is finished for everybody, IF `leaseCounter` is what it was, `checkpoint` is
    /// SHARD_END and no destination of the row carries a commit. [`CommitError::Refused`]: it has changed, or is gone.
    pub async fn delete_ended(&self, row: &LeaseRow) -> Result<(), CommitError> {
        let mut request = self
            .dynamo
            .quick
            .delete_item()
            .table_name(&self.table)
            .key(name::KEY, kcl::text(row.key.as_str()))
            .expression_attribute_names("#n", name::COUNTER)
            .expression_attribute_names("#c", name::CHECKPOINT)
            .expression_attribute_values(":n", kcl::number(row.counter))
            .expression_attribute_values(":c", kcl::text(Position::ShardEnd.checkpoint()));
        let mut condition = "#n = :n AND #c = :c".to_owned();
        for (place, id) in row.destinations.keys().enumerate() {
            condition += &format!(" AND attribute_not_exists(#d{place}.#i)");
            request =
                request.expression_attribute_names(format!("#d{place}"), format!("{}{id}", name::DESTINATION_PREFIX));
        }
        if !row.destinations.is_empty() {
            request = request.expression_attribute_names("#i", name::CID);
        }
        let answer = request.condition_expression(condition).send().await;
        answer.map(|_| ()).map_err(|error| classify(&error))
    }

    /// Sends one conditional write. The answer is the row as it is now (ALL_NEW); refused, it is the row that refused.
    pub async fn write(&self, write: &RowWrite) -> Result<LeaseRow, CommitError> {
        let Expression { condition, update, names, values } = expression::render(write);
        let request = self
            .dynamo
            .quick
            .update_item()
            .table_name(&self.table)
            .key(name::KEY, kcl::text(write.lease.as_str()))
            .condition_expression(condition)
            .set_update_expression(update)
            .set_expression_attribute_names(Some(names.into_iter().collect()))
            .set_expression_attribute_values((!values.is_empty()).then(|| values.into_iter().collect()))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let error = match request.send().await {
            Ok(output) => {
                let item: Item = output.attributes.into_iter().flatten().collect();
                let row = kcl::decode(&item).map_err(|error| CommitError::Unknown { cause: error.to_string() })?;
                return row.ok_or_else(|| CommitError::Unknown { cause: "the answer holds no lease".to_owned() });
            }
            Err(error) => error,
        };
        if let Some(UpdateItemError::ConditionalCheckFailedException(refusal)) = error.as_service_error() {
            let now = refusal.item.clone().and_then(|item| row_of(item.into_iter().collect()));
            return Err(CommitError::Refused { lease: Some(write.lease.clone()), now });
        }
        Err(classify(&error))
    }
}

/// The row that refused a write. One that cannot be worked with is as good as gone to whoever wanted to write it.
pub(crate) fn row_of(item: Item) -> Option<Box<LeaseRow>> {
    match kcl::decode(&item) {
        Ok(row) => row.map(Box::new),
        Err(error) => {
            warn!(%error, "a lease row is left alone");
            None
        }
    }
}

fn sort_in(rows: &mut Rows, item: Item) {
    match kcl::decode(&item) {
        Ok(Some(row)) => {
            rows.leases.insert(row.key.clone(), row);
        }
        Ok(None) => rows.reports.extend(java::report(&item)),
        Err(error) => {
            let key = LeaseKey::new(error.key());
            if let RowError::NoPosition { checkpoint, .. } = &error
                && let Some(row) = kcl::decode_unpinned(&item)
            {
                rows.unpinned.insert(key.clone(), Unpinned { row, at_timestamp: checkpoint != kcl::LATEST });
            }
            rows.unreadable.insert(key, error);
        }
    }
}

#[cfg(test)]
mod tests;
