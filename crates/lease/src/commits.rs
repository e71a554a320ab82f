//! `-> commit`: the commit table beside the lease table, and both together as the [`CommitLog`] of the protocol.
//!
//! A commit is one TransactWriteItems: the receipt and every shard's range, or nothing (I2, I3). One call is one
//! request. Why a transaction was cancelled is read from all its reasons: a condition that failed outweighs a
//! conflict, because the conflict would be retried only to meet the same condition.
//!
//! Never here: what an unclear answer means, a wall clock in a decision (it dates the expiry of receipts that no longer
//! matter).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    CancellationReason, Put, ReturnValue, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};
use standpipe_flow::hash::hash64;
use standpipe_flow::write::{self, RowWrite};
use standpipe_flow::{
    Advance, Clock, Commit, CommitError, CommitId, CommitLog, Declare, Finalize, LeaseKey, LeaseRow, Output, Receipt,
    ReceiptState,
};

use crate::admin::{self, Spec};
use crate::client::{Dynamo, classify};
use crate::expression::{self, Expression};
use crate::kcl::{self, Item, number, text};
use crate::receipts::pages::{self, Paged};
use crate::receipts::{self, OnPages, name};
use crate::table::{LeaseTable, Rows, TableError, row_of};

/// How long a receipt that no longer matters is kept.
const KEEP: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// `<lease table>-standpipe-commits`, with the lease table that it belongs to.
#[derive(Debug, Clone)]
pub struct CommitTable {
    pub(crate) dynamo: Dynamo,
    pub(crate) table: String,
    leases: LeaseTable,
    clock: Arc<dyn Clock>,
}

impl CommitTable {
    /// The commit table of a lease table. Both are written through `dynamo`.
    pub fn new(dynamo: Dynamo, lease_table: &str, clock: Arc<dyn Clock>) -> Self {
        let leases = LeaseTable::new(dynamo.clone(), lease_table);
        Self { dynamo, table: Self::name_of(lease_table), leases, clock }
    }

    /// The name that belongs to a lease table's name.
    pub fn name_of(lease_table: &str) -> String {
        format!("{lease_table}-standpipe-commits")
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.table
    }

    /// Waits until the table is there; made if it is missing and `create`, but never while a lease in `rows` names a
    /// commit in it. The answer is the deployment's fingerprint ([`fingerprint`] of the table's ARN).
    pub async fn open(&self, create: bool, rows: &Rows) -> Result<u32, TableError> {
        let spec = Spec { table: &self.table, key: name::CID, ttl: Some(name::EXPIRES_AT) };
        let carrier = rows.carrier();
        match admin::open(&self.dynamo.patient, &spec, create && carrier.is_none()).await {
            Ok(arn) => Ok(fingerprint(&arn)),
            Err(TableError::Missing { table }) => Err(match carrier {
                Some(row) => TableError::Lost { table, lease: row.key.to_string() },
                None => TableError::Missing { table },
            }),
            Err(error) => Err(error),
        }
    }

    fn expires_at(&self) -> u64 {
        self.clock.wall().0 / 1000 + KEEP.as_secs()
    }

    /// The end of a receipt: `state` and its expiry IF it is COMMITTED.
    fn settle(&self, state: ReceiptState) -> Expression {
        let names = [("#state", name::STATE), ("#expires", name::EXPIRES_AT)];
        let values = [
            (":committed", text(receipts::state_word(ReceiptState::Committed))),
            (":state", text(receipts::state_word(state))),
            (":expires", number(self.expires_at())),
        ];
        Expression {
            condition: "#state = :committed".to_owned(),
            update: Some("SET #state = :state, #expires = :expires".to_owned()),
            names: names.map(|(placeholder, name)| (placeholder.to_owned(), name.to_owned())).into(),
            values: values.map(|(placeholder, value)| (placeholder.to_owned(), value)).into(),
        }
    }

    /// One transaction: the receipt becomes RETRACTED IF COMMITTED, beside these writes of rows that carry the commit.
    pub(crate) async fn retract_with(&self, cid: CommitId, rows: &[RowWrite]) -> Result<(), CommitError> {
        // Another instant or other writes make another request, which must not pass for the same one (the receipt's
        // expiry moves with the clock).
        let now = self.clock.wall().0.to_be_bytes();
        let token = format!("{cid}-{:08x}", hash64(&[format!("{rows:?}").as_bytes(), &now]) as u32);
        let key = (name::CID, text(cid.to_string()));
        let receipt = update(&self.table, key, self.settle(ReceiptState::Retracted));
        self.transact(Transaction { cid, token, rows, receipt }).await
    }

    /// The Update of a lease row within a transaction.
    fn row_update(&self, write: &RowWrite) -> TransactWriteItem {
        let key = (kcl::name::KEY, kcl::text(write.lease.as_str()));
        update(self.leases.name(), key, expression::render(write))
    }

    /// Sends a transaction whose items are these row writes and one write of the receipt, in this order.
    async fn transact(&self, transaction: Transaction<'_>) -> Result<(), CommitError> {
        let Transaction { cid, token, rows, receipt } = transaction;
        let mut items: Vec<_> = rows.iter().map(|write| self.row_update(write)).collect();
        items.push(receipt);
        let request = self.dynamo.quick.transact_write_items().client_request_token(token);
        match request.set_transact_items(Some(items)).send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(refusal(cid, rows, &error)),
        }
    }
}

/// What one transaction writes.
struct Transaction<'a> {
    cid: CommitId,
    /// Client request token: at most 36 letters.
    token: String,
    rows: &'a [RowWrite],
    receipt: TransactWriteItem,
}

fn update(
    table: &str,
    key: (&str, aws_sdk_dynamodb::types::AttributeValue),
    expression: Expression,
) -> TransactWriteItem {
    let Expression { condition, update, names, values } = expression;
    let update = Update::builder()
        .table_name(table)
        .key(key.0, key.1)
        .update_expression(update.unwrap_or_default())
        .condition_expression(condition)
        .set_expression_attribute_names(Some(names.into_iter().collect()))
        .set_expression_attribute_values((!values.is_empty()).then(|| values.into_iter().collect()))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .build()
        .expect("table, key and expression are set");
    TransactWriteItem::builder().update(update).build()
}

/// Why a transaction failed.
fn refusal(cid: CommitId, rows: &[RowWrite], error: &SdkError<TransactWriteItemsError>) -> CommitError {
    match error.as_service_error() {
        Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
            cancellation(cid, rows, cancelled.cancellation_reasons())
        }
        _ => classify(error),
    }
}

/// A cancelled transaction wrote nothing. Its reasons stand in the order of its items.
fn cancellation(cid: CommitId, rows: &[RowWrite], reasons: &[CancellationReason]) -> CommitError {
    let code = |reason: &CancellationReason| reason.code().unwrap_or("None").to_owned();
    let codes: Vec<_> = reasons.iter().map(code).collect();
    let any = |wanted: &[&str]| codes.iter().any(|code| wanted.contains(&code.as_str()));
    if any(&["ConditionalCheckFailed"]) {
        return refused(cid, rows, reasons);
    }
    if any(&["TransactionConflict"]) {
        return CommitError::Conflict;
    }
    if any(&["ThrottlingError", "ProvisionedThroughputExceeded", "RequestLimitExceeded"]) {
        return CommitError::Throttled;
    }
    let messages: Vec<_> = reasons.iter().filter_map(CancellationReason::message).collect();
    CommitError::Denied { cause: format!("transaction cancelled: {}: {}", codes.join(", "), messages.join("; ")) }
}

/// The lease whose condition failed: one that already carries the commit if there is one (then the transaction was
/// written before), else the first; the receipt's own condition only if no lease's failed.
fn refused(cid: CommitId, rows: &[RowWrite], reasons: &[CancellationReason]) -> CommitError {
    let mut refusals = Vec::new();
    for (write, reason) in rows.iter().zip(reasons) {
        if reason.code() == Some("ConditionalCheckFailed") {
            let now = reason.item.clone().and_then(|item| row_of(item.into_iter().collect()));
            refusals.push((write.lease.clone(), now));
        }
    }
    let carries = |row: &LeaseRow| {
        row.destinations.values().any(|position| position.pending.as_ref().is_some_and(|pending| pending.cid == cid))
    };
    let carrier = refusals.iter().position(|(_, now)| now.as_deref().is_some_and(carries));
    match refusals.into_iter().nth(carrier.unwrap_or(0)) {
        Some((lease, now)) => CommitError::Refused { lease: Some(lease), now },
        None => CommitError::Refused { lease: None, now: None },
    }
}

/// 20 bits that tell one deployment's uploads from another's on the same bucket: of the commit table's ARN.
pub fn fingerprint(arn: &str) -> u32 {
    let hash = hash64(&[arn.as_bytes()]);
    (hash ^ (hash >> 20) ^ (hash >> 40)) as u32 & 0xF_FFFF
}

/// Outputs of a receipt that stand beside it.
impl CommitTable {
    /// One page, consistently.
    async fn page_of(&self, cid: CommitId, page: u64) -> Result<Option<Vec<u8>>, CommitError> {
        let request = self.dynamo.quick.get_item().table_name(&self.table).consistent_read(true);
        let request = request.key(name::CID, pages::key(cid, page));
        let output = request.send().await.map_err(|error| classify(&error))?;
        Ok(output.item.and_then(|item| pages::body(&item.into_iter().collect())))
    }

    /// The outputs that a receipt names. They outlive every receipt that is COMMITTED; of others they may have expired.
    async fn outputs(&self, receipt: &Receipt, on_pages: OnPages) -> Result<Vec<Output>, CommitError> {
        let unreadable = |cause: String| CommitError::Unreadable { cause: format!("receipt {}: {cause}", receipt.cid) };
        let mut paged = Paged { pages: Vec::new() };
        for page in 0..on_pages.pages {
            match self.page_of(receipt.cid, page).await? {
                Some(body) => paged.pages.push(body),
                None if receipt.state == ReceiptState::Committed => {
                    return Err(unreadable(format!("page {page} is missing")));
                }
                None => return Ok(Vec::new()),
            }
        }
        if paged.hash() != on_pages.hash {
            return Err(unreadable("its pages are not those that were written".to_owned()));
        }
        paged.outputs().map_err(unreadable)
    }

    /// The pages of a receipt that is DONE expire with it. What is not told so expires later.
    async fn expire_pages(&self, cid: CommitId, pages: u64) {
        for page in 0..pages {
            let request = self.dynamo.quick.update_item().table_name(&self.table).key(name::CID, pages::key(cid, page));
            let request = request
                .condition_expression("attribute_exists(#cid)")
                .update_expression("SET #expires = :expires")
                .expression_attribute_names("#cid", name::CID)
                .expression_attribute_names("#expires", name::EXPIRES_AT)
                .expression_attribute_values(":expires", number(self.expires_at()));
            if let Err(error) = request.send().await.map_err(|error| classify(&error)) {
                tracing::debug!(cid = %cid, page, %error, "a page keeps its first expiry");
            }
        }
    }
}

#[async_trait]
impl CommitLog for CommitTable {
    async fn prepare(&self, receipt: &Receipt) -> Result<(), CommitError> {
        let Some(paged) = Paged::of(&receipt.outputs) else { return Ok(()) };
        let created_at = receipt.created_at.map(|at| at.0 / 1000);
        for (page, body) in (0..).zip(&paged.pages) {
            let item = pages::item(receipt.cid, page, body, created_at);
            let request = self.dynamo.quick.put_item().table_name(&self.table);
            let request = request.set_item(Some(item.into_iter().collect()));
            request.send().await.map_err(|error| classify(&error))?;
        }
        Ok(())
    }

    async fn commit(&self, commit: &Commit) -> Result<(), CommitError> {
        let cid = commit.receipt.cid;
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(receipts::encode(&commit.receipt).into_iter().collect()))
            .condition_expression("attribute_not_exists(#cid)")
            .expression_attribute_names("#cid", name::CID)
            .build()
            .expect("table and item are set");
        let receipt = TransactWriteItem::builder().put(put).build();
        self.transact(Transaction { cid, token: cid.to_string(), rows: &commit.writes(), receipt }).await
    }

    async fn done(&self, cid: CommitId, gave_up: bool) -> Result<(), CommitError> {
        let Expression { condition, mut update, mut names, mut values } = self.settle(ReceiptState::Done);
        if gave_up {
            update = update.map(|update| format!("{update}, #gaveUp = :gaveUp"));
            names.insert("#gaveUp".to_owned(), name::GAVE_UP.to_owned());
            values.insert(":gaveUp".to_owned(), aws_sdk_dynamodb::types::AttributeValue::Bool(true));
        }
        let request = self
            .dynamo
            .quick
            .update_item()
            .table_name(&self.table)
            .key(name::CID, text(cid.to_string()))
            .condition_expression(condition)
            .set_update_expression(update)
            .set_expression_attribute_names(Some(names.into_iter().collect()))
            .set_expression_attribute_values(Some(values.into_iter().collect()))
            .return_values(ReturnValue::AllNew);
        let done = request.send().await.map_err(|error| classify(&error))?;
        // It is done, whatever is answered to what follows.
        let item: Item = done.attributes.unwrap_or_default().into_iter().collect();
        if let Ok((_, Some(on_pages))) = receipts::decode(&item) {
            self.expire_pages(cid, on_pages.pages).await;
        }
        Ok(())
    }

    async fn receipt(&self, cid: CommitId) -> Result<Option<Receipt>, CommitError> {
        let request = self.dynamo.quick.get_item().table_name(&self.table).consistent_read(true);
        let request = request.key(name::CID, text(cid.to_string()));
        let output = request.send().await.map_err(|error| classify(&error))?;
        let Some(item) = output.item else { return Ok(None) };
        let decoded = receipts::decode(&item.into_iter().collect());
        let (mut receipt, on_pages) = decoded.map_err(|error| CommitError::Unreadable { cause: error.to_string() })?;
        if let Some(on_pages) = on_pages {
            receipt.outputs = self.outputs(&receipt, on_pages).await?;
        }
        Ok(Some(receipt))
    }

    async fn finalize(&self, finalize: &Finalize) -> Result<(), CommitError> {
        self.leases.write(&finalize.write()).await.map(|_| ())
    }

    async fn declare(&self, declare: &Declare) -> Result<(), CommitError> {
        self.leases.write(&declare.write()).await.map(|_| ())
    }

    async fn advance(&self, advance: &Advance) -> Result<(), CommitError> {
        self.leases.write(&advance.write()).await.map(|_| ())
    }

    async fn row(&self, lease: &LeaseKey) -> Result<Option<LeaseRow>, CommitError> {
        self.leases.get(lease).await
    }

    async fn retract(&self, receipt: &Receipt, carriers: &[LeaseRow]) -> Result<(), CommitError> {
        let cid = receipt.cid;
        let mut rows = Vec::new();
        for row in carriers {
            let Some(position) = row.destinations.get(&receipt.destination) else { continue };
            if position.pending.as_ref().is_some_and(|pending| pending.cid == cid) {
                rows.push(write::finalize(&row.key, &receipt.destination, cid, (&position.at, position.arrival)));
            }
        }
        self.retract_with(cid, &rows).await
    }
}

#[cfg(test)]
mod tests;
