//! `lease ->`: the two tables themselves: described, made, waited for.
//!
//! A table is made on demand, with deletion protection and point-in-time recovery: it holds what proves that every
//! record was delivered once. Never here: an item.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, PointInTimeRecoverySpecification, ScalarAttributeType,
    TableDescription, TableStatus, TimeToLiveSpecification,
};
use standpipe_flow::CommitError;
use tracing::{info, warn};

use crate::client::classify;

/// Between two looks at a table that is being made.
const WAIT_STEP: Duration = Duration::from_millis(500);
/// How long a table may take to become ACTIVE (the KCL waits as long).
const WAIT_MAX: Duration = Duration::from_secs(600);

/// Why a table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// It does not exist, and must not be made.
    #[error("table {table:?} does not exist")]
    Missing {
        /// The table.
        table: String,
    },
    /// The commit table is gone while leases name commits in it: nobody could tell what was delivered.
    #[error("table {table:?} does not exist, but lease {lease:?} names a commit in it; restore it")]
    Lost {
        /// The table.
        table: String,
        /// A lease that carries a commit.
        lease: String,
    },
    /// It is some other table.
    #[error("table {table:?} has another key than the string {key:?}")]
    Foreign {
        /// The table.
        table: String,
        /// The key it should have.
        key: &'static str,
    },
    /// DynamoDB did not answer as hoped: try again, or wait for the permission.
    #[error("table {table:?}: {cause}")]
    Unavailable {
        /// The table.
        table: String,
        /// What the answer means.
        cause: CommitError,
    },
}

/// A table that this program may make.
#[derive(Debug, Clone)]
pub(crate) struct Spec<'a> {
    /// Its name.
    pub(crate) table: &'a str,
    /// Its partition key, a string.
    pub(crate) key: &'static str,
    /// The attribute by which DynamoDB expires items.
    pub(crate) ttl: Option<&'static str>,
}

impl Spec<'_> {
    fn unavailable(&self, cause: CommitError) -> TableError {
        TableError::Unavailable { table: self.table.to_owned(), cause }
    }
}

/// The table's ARN, once it is ACTIVE. A missing one is made if `create`.
pub(crate) async fn open(client: &Client, spec: &Spec<'_>, create: bool) -> Result<String, TableError> {
    let found = describe(client, spec).await?;
    let made = found.is_none();
    if made && !create {
        return Err(TableError::Missing { table: spec.table.to_owned() });
    }
    if made {
        make(client, spec).await?;
    }
    let description = wait_active(client, spec, found).await?;
    check_key(&description, spec)?;
    if made {
        protect(client, spec).await;
        info!(table = spec.table, "table made");
    }
    Ok(description.table_arn().unwrap_or(spec.table).to_owned())
}

/// The table's description; `None` if there is no such table.
pub(crate) async fn describe(client: &Client, spec: &Spec<'_>) -> Result<Option<TableDescription>, TableError> {
    match client.describe_table().table_name(spec.table).send().await {
        Ok(output) => Ok(output.table),
        Err(error) if error.code() == Some("ResourceNotFoundException") => Ok(None),
        Err(error) => Err(spec.unavailable(classify(&error))),
    }
}

async fn make(client: &Client, spec: &Spec<'_>) -> Result<(), TableError> {
    let key = KeySchemaElement::builder().attribute_name(spec.key).key_type(KeyType::Hash).build();
    let definition =
        AttributeDefinition::builder().attribute_name(spec.key).attribute_type(ScalarAttributeType::S).build();
    let request = client
        .create_table()
        .table_name(spec.table)
        .key_schema(key.expect("name and type are set"))
        .attribute_definitions(definition.expect("name and type are set"))
        .billing_mode(BillingMode::PayPerRequest)
        .deletion_protection_enabled(true);
    match request.send().await {
        Ok(_) => Ok(()),
        // Another worker makes it at this moment.
        Err(error) if error.code() == Some("ResourceInUseException") => Ok(()),
        Err(error) => Err(spec.unavailable(classify(&error))),
    }
}

async fn wait_active(
    client: &Client,
    spec: &Spec<'_>,
    found: Option<TableDescription>,
) -> Result<TableDescription, TableError> {
    let mut found = found;
    let mut waited = Duration::ZERO;
    loop {
        match found {
            Some(description) if usable(&description) => return Ok(description),
            _ if waited >= WAIT_MAX => {
                let cause = CommitError::Unknown { cause: format!("not active after {} s", WAIT_MAX.as_secs()) };
                return Err(spec.unavailable(cause));
            }
            Some(_) => {
                tokio::time::sleep(WAIT_STEP).await;
                waited += WAIT_STEP;
            }
            None => {}
        }
        found = describe(client, spec).await?;
        if found.is_none() {
            tokio::time::sleep(WAIT_STEP).await;
            waited += WAIT_STEP;
        }
    }
}

/// UPDATING: its settings are being changed; reads and writes go on.
pub(crate) fn usable(description: &TableDescription) -> bool {
    matches!(description.table_status(), Some(TableStatus::Active | TableStatus::Updating))
}

pub(crate) fn check_key(description: &TableDescription, spec: &Spec<'_>) -> Result<(), TableError> {
    let ours = match description.key_schema() {
        [key] => key.attribute_name() == spec.key,
        _ => false,
    };
    if ours { Ok(()) } else { Err(TableError::Foreign { table: spec.table.to_owned(), key: spec.key }) }
}

/// Point-in-time recovery and expiry. A table without them works: a refusal is told, not suffered.
async fn protect(client: &Client, spec: &Spec<'_>) {
    let recovery = PointInTimeRecoverySpecification::builder().point_in_time_recovery_enabled(true).build();
    let recovery = recovery.expect("the one member is set");
    let request = client.update_continuous_backups().table_name(spec.table);
    if let Err(error) = request.point_in_time_recovery_specification(recovery).send().await {
        warn!(table = spec.table, error = %classify(&error), "point-in-time recovery could not be turned on");
    }
    let Some(attribute) = spec.ttl else { return };
    let expiry = TimeToLiveSpecification::builder().attribute_name(attribute).enabled(true).build();
    let expiry = expiry.expect("both members are set");
    let request = client.update_time_to_live().table_name(spec.table).time_to_live_specification(expiry);
    if let Err(error) = request.send().await {
        warn!(table = spec.table, error = %classify(&error), "expiry of old receipts could not be turned on");
    }
}
