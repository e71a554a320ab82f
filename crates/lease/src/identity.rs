//! `lease ->`: what this table's leases belong to: one stream, one start, one set of destinations. Three items of the
//! commit table, written once and compared ever after: `stream`, `start`, `fleet`.
//!
//! A stream that was made anew under the same name is another stream: its sequence numbers say nothing about the old
//! one's (`spStream` on the leases says the same). LATEST and a time are pinned to one instant for all workers, so that
//! two that start together, or one after the other's crash, leave no gap between them.
//!
//! Never here: a decision that reads a clock.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_dynamodb::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{ReturnValue, ReturnValuesOnConditionCheckFailure};
use aws_smithy_types::date_time::{DateTime, Format};
use standpipe_flow::hash::hash128;
use standpipe_flow::{CommitError, DestinationId, Millis};

use crate::client::classify;
use crate::commits::CommitTable;
use crate::kcl::{Fields, Item, number, text};
use crate::receipts::name::CID;

pub(crate) const STREAM: &str = "stream";
const START: &str = "start";
pub(crate) const FLEET: &str = "fleet";
pub(crate) const ARN: &str = "arn";
pub(crate) const CREATED_AT: &str = "createdAt";
const INSTANT: &str = "instant";
pub(crate) const DESTINATION_PREFIX: &str = "d_";

/// One Kinesis data stream, told from a later one of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamIdentity {
    /// StreamARN.
    pub arn: String,
    /// StreamCreationTimestamp.
    pub created_at: Millis,
}

impl StreamIdentity {
    /// `spStream`: 16 bytes over both.
    pub fn hash(&self) -> Vec<u8> {
        hash128(&[self.arn.as_bytes(), &self.created_at.0.to_be_bytes()]).to_be_bytes().to_vec()
    }
}

/// Why something could not be pinned.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The leases belong to another stream: use another lease table.
    #[error(
        "the lease table belongs to {} made at {:?}, not to {} made at {:?}",
        pinned.arn, pinned.created_at, given.arn, given.created_at
    )]
    Stream {
        /// What the table belongs to.
        pinned: Box<StreamIdentity>,
        /// What this worker was told to read.
        given: Box<StreamIdentity>,
    },
    /// The fleet knows the destination's id as something else: choose another id, or adopt.
    #[error(
        "destination {id:?} is {pinned:?} for the fleet, not {given:?}; if its place really has changed, start once with \
         --adopt-destinations"
    )]
    Destination {
        /// The id.
        id: DestinationId,
        /// What the fleet delivers to under that id.
        pinned: String,
        /// What this worker's config says.
        given: String,
    },
    /// DynamoDB did not answer as hoped.
    #[error(transparent)]
    Log(#[from] CommitError),
}

impl CommitTable {
    /// Pins the stream, or compares it with the one pinned.
    pub async fn pin_stream(&self, given: &StreamIdentity) -> Result<(), PinError> {
        let values = [(ARN, text(&given.arn)), (CREATED_AT, number(given.created_at.0))];
        let item = self.pin(STREAM, &values).await?;
        let fields = Fields::of(STREAM, String::new(), &item);
        let unreadable = |error: crate::RowError| CommitError::Denied { cause: error.to_string() };
        let arn = fields.text(ARN).map_err(unreadable)?.unwrap_or_default().to_owned();
        let created_at = Millis(fields.number(CREATED_AT).map_err(unreadable)?.unwrap_or_default());
        let pinned = StreamIdentity { arn, created_at };
        if pinned == *given {
            return Ok(());
        }
        Err(PinError::Stream { pinned: Box::new(pinned), given: Box::new(given.clone()) })
    }

    /// Pins the instant that LATEST or a time means for the leases of the first start. The answer is the instant that
    /// holds, and whether this call pinned it.
    pub async fn pin_start(&self, given: Millis) -> Result<(Millis, bool), CommitError> {
        if let Some(pinned) = self.pinned_start().await? {
            return Ok((pinned, false));
        }
        let item = self.pin(START, &[(INSTANT, number(given.0))]).await?;
        let pinned = Fields::of(START, String::new(), &item).number(INSTANT);
        let pinned = pinned.map_err(|error| CommitError::Denied { cause: error.to_string() })?;
        // Another worker with the same instant pinned the same: who was first does not matter then.
        Ok((Millis(pinned.unwrap_or(given.0)), pinned == Some(given.0)))
    }

    /// DynamoDB's own time, to the second, rounded down. LATEST is pinned to it: the wall clock of the worker that happens
    /// to be first may be wrong, and what came between now and a wrong now would be read by nobody (I12).
    pub async fn now(&self) -> Result<Option<Millis>, CommitError> {
        let date = DateHeader::default();
        let request = self.dynamo.quick.get_item().table_name(&self.table).key(CID, text(START));
        request.customize().interceptor(date.clone()).send().await.map_err(|error| classify(&error))?;
        Ok(*date.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn pinned_start(&self) -> Result<Option<Millis>, CommitError> {
        let request = self.dynamo.quick.get_item().table_name(&self.table).consistent_read(true);
        let output = request.key(CID, text(START)).send().await.map_err(|error| classify(&error))?;
        let item: Item = output.item.into_iter().flatten().collect();
        let instant = Fields::of(START, String::new(), &item).number(INSTANT);
        instant.map(|instant| instant.map(Millis)).map_err(|error| CommitError::Denied { cause: error.to_string() })
    }

    /// Pins what a destination's id stands for (kind, bucket, table, endpoint), or compares it with what is pinned.
    /// With `adopt` it is pinned anew.
    pub async fn pin_destination(&self, id: &DestinationId, given: &str, adopt: bool) -> Result<(), PinError> {
        let attribute = format!("{DESTINATION_PREFIX}{id}");
        let request = self
            .dynamo
            .quick
            .update_item()
            .table_name(&self.table)
            .key(CID, text(FLEET))
            .update_expression("SET #d = :d")
            .expression_attribute_names("#d", &attribute)
            .expression_attribute_values(":d", text(given))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let request = if adopt { request } else { request.condition_expression("attribute_not_exists(#d) OR #d = :d") };
        let Err(error) = request.send().await else { return Ok(()) };
        match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(refusal)) => {
                let pinned = refusal.item().and_then(|item| item.get(&attribute)?.as_s().ok());
                let pinned = pinned.cloned().unwrap_or_default();
                Err(PinError::Destination { id: id.clone(), pinned, given: given.to_owned() })
            }
            _ => Err(classify(&error).into()),
        }
    }

    /// Writes an item unless it has been written before; the answer is what it holds now. Safe to send again.
    async fn pin(
        &self,
        key: &str,
        values: &[(&str, aws_sdk_dynamodb::types::AttributeValue)],
    ) -> Result<Item, CommitError> {
        let mut request = self
            .dynamo
            .quick
            .update_item()
            .table_name(&self.table)
            .key(CID, text(key))
            .return_values(ReturnValue::AllNew);
        let mut sets = Vec::new();
        for (index, (attribute, value)) in values.iter().enumerate() {
            sets.push(format!("#n{index} = if_not_exists(#n{index}, :v{index})"));
            request = request
                .expression_attribute_names(format!("#n{index}"), *attribute)
                .expression_attribute_values(format!(":v{index}"), value.clone());
        }
        let request = request.update_expression(format!("SET {}", sets.join(", ")));
        let output = request.send().await.map_err(|error| classify(&error))?;
        Ok(output.attributes.into_iter().flatten().collect())
    }
}

/// Keeps the Date header of an answer.
#[derive(Debug, Clone, Default)]
struct DateHeader(Arc<Mutex<Option<Millis>>>);

impl Intercept for DateHeader {
    fn name(&self) -> &'static str {
        "DateHeader"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|text| DateTime::from_str(text, Format::HttpDate).ok());
        let millis = date.and_then(|date| u64::try_from(date.to_millis().ok()?).ok());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = millis.map(Millis);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
