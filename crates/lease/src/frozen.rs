//! `batch -> stage`: the columns of a table that are inferred, frozen once for all workers. One item of the commit table a
//! destination, `schema-<id>`, written by whoever infers first and never changed; it does not expire.
//!
//! One call is one request. An answer that proves nothing is no harm: whoever asks again reads what was written.
//! I13: an item of an unknown form is not touched, and nothing is written beside it.
//! Never here: what columns mean, or how they are inferred.

use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use standpipe_flow::{CommitError, DestinationId, Millis};

use crate::client::classify;
use crate::commits::CommitTable;
use crate::kcl::{Fields, Item, number, text};
use crate::receipts::name::CID;

const FORM: &str = "form";
const COLUMNS: &str = "columns";
const RECORDS: &str = "records";
const CREATED_AT: &str = "createdAt";

/// The form of the item that is written here, and the only one that is read.
const FORM_KNOWN: u64 = 1;

/// Columns that hold for every worker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frozen {
    /// The column list.
    pub columns: String,
    /// Records that they were inferred from.
    pub records: u64,
    /// When, by the clock of the worker that did it: for people.
    pub at: Millis,
}

impl CommitTable {
    /// The frozen columns of a destination, consistently; `None` if there are none yet.
    pub async fn frozen(&self, id: &DestinationId) -> Result<Option<Frozen>, CommitError> {
        let request = self.dynamo.quick.get_item().table_name(&self.table).consistent_read(true);
        let output = request.key(CID, text(key(id))).send().await.map_err(|error| classify(&error))?;
        output.item.map(|item| read(id, &item.into_iter().collect())).transpose()
    }

    /// Freezes these columns, unless others are frozen. The answer is what holds.
    pub async fn freeze(&self, id: &DestinationId, given: &Frozen) -> Result<Frozen, CommitError> {
        let request = self
            .dynamo
            .quick
            .put_item()
            .table_name(&self.table)
            .set_item(Some(encode(id, given).into_iter().collect()))
            .condition_expression("attribute_not_exists(#cid)")
            .expression_attribute_names("#cid", CID)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let Err(error) = request.send().await else { return Ok(given.clone()) };
        match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(refusal)) => match refusal.item.clone() {
                Some(item) => read(id, &item.into_iter().collect()),
                // A server that does not show it: it is read by whoever asks again.
                None => Err(CommitError::Conflict),
            },
            _ => Err(classify(&error)),
        }
    }

    /// Forgets the frozen columns IF they are those that were seen. Refused: they are others, or gone.
    pub async fn thaw(&self, id: &DestinationId, seen: &Frozen) -> Result<(), CommitError> {
        let request = self
            .dynamo
            .quick
            .delete_item()
            .table_name(&self.table)
            .key(CID, text(key(id)))
            .condition_expression("#form = :form AND #columns = :columns")
            .expression_attribute_names("#form", FORM)
            .expression_attribute_names("#columns", COLUMNS)
            .expression_attribute_values(":form", number(FORM_KNOWN))
            .expression_attribute_values(":columns", text(&seen.columns));
        request.send().await.map(drop).map_err(|error| classify(&error))
    }
}

/// The key of a destination's item; no commit id has this form.
fn key(id: &DestinationId) -> String {
    format!("schema-{id}")
}

fn encode(id: &DestinationId, frozen: &Frozen) -> Item {
    let attributes: [(&str, AttributeValue); 5] = [
        (CID, text(key(id))),
        (FORM, number(FORM_KNOWN)),
        (COLUMNS, text(&frozen.columns)),
        (RECORDS, number(frozen.records)),
        (CREATED_AT, number(frozen.at.0)),
    ];
    attributes.map(|(name, value)| (name.to_owned(), value)).into()
}

fn read(id: &DestinationId, item: &Item) -> Result<Frozen, CommitError> {
    let key = key(id);
    let fields = Fields::of(&key, String::new(), item);
    let unreadable = |what: &str| CommitError::Unreadable { cause: format!("item {key} of the commit table {what}") };
    match fields.number(FORM) {
        Ok(Some(FORM_KNOWN)) => {}
        Ok(Some(form)) => {
            return Err(unreadable(&format!(
                "has form {form}: a newer version wrote it, and this one leaves it alone"
            )));
        }
        Ok(None) | Err(_) => return Err(unreadable("is none that this program wrote")),
    }
    let columns = fields.text(COLUMNS).ok().flatten().ok_or_else(|| unreadable("has no columns"))?;
    let number = |attribute| fields.number(attribute).ok().flatten().unwrap_or_default();
    Ok(Frozen { columns: columns.to_owned(), records: number(RECORDS), at: Millis(number(CREATED_AT)) })
}

#[cfg(test)]
mod tests;
