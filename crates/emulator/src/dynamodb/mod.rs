//! DynamoDB: an embedded engine behind our dispatch, with conflicts of transactions in front of it.
//!
//! Invariants: a conditional write is atomic; a cancelled transaction writes nothing; a call that conflicts has no
//! effect. The engine has no throughput limits: throttling comes as a fault.

mod overlap;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use dynoxide::actions::describe_table::DescribeTableRequest;
use dynoxide::{Database, DynoxideError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub(crate) use self::overlap::{Hold, Items};

use self::overlap::Holds;
use crate::Clock;
use crate::http::{Answer, json as json_answer, json_error};
use crate::trace::lock;

const VERSION: &str = "1.0";

/// The endpoint.
pub(crate) struct DynamoDb {
    database: Database,
    holds: Holds,
    /// Key attributes by table, as CreateTable declared them.
    key_names: Mutex<BTreeMap<String, Vec<String>>>,
    /// Tables with point-in-time recovery.
    recoverable: Mutex<BTreeMap<String, bool>>,
}

struct EngineClock(Clock);

impl dynoxide::storage_backend::Clock for EngineClock {
    fn now_unix_secs(&self) -> u64 {
        (self.0)() / 1000
    }

    fn now_unix_secs_f64(&self) -> f64 {
        (self.0)() as f64 / 1000.0
    }
}

impl DynamoDb {
    /// Opens the tables in this SQLite file, or empty ones in memory.
    pub(crate) fn open(clock: Clock, file: Option<PathBuf>) -> io::Result<Self> {
        let database = match &file {
            Some(file) => Database::new(&file.to_string_lossy()),
            None => Database::memory_with_clock(Arc::new(EngineClock(clock))),
        };
        let database = database.map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self { database, holds: Holds::default(), key_names: Mutex::default(), recoverable: Mutex::default() })
    }

    /// The items that a call is about.
    pub(crate) fn items(&self, operation: &str, body: &[u8]) -> Items {
        let touches = matches!(
            operation,
            "PutItem" | "UpdateItem" | "DeleteItem" | "GetItem" | "TransactWriteItems" | "TransactGetItems"
        );
        if !touches {
            return Items::default();
        }
        let request: Value = serde_json::from_slice(body).unwrap_or_default();
        overlap::items(operation, &request, |table| self.key_names(table))
    }

    /// What a call is about, for faults and the trace: its items, or its table.
    pub(crate) fn detail(&self, body: &[u8], items: &Items) -> String {
        if !items.keys.is_empty() {
            return items.keys.join(" ");
        }
        let request: Value = serde_json::from_slice(body).unwrap_or_default();
        request["TableName"].as_str().unwrap_or_default().to_owned()
    }

    /// The refusal of a call that overlaps with a transaction, if it does.
    pub(crate) fn conflict(&self, items: &Items) -> Option<Answer> {
        if !items.writes && !items.transaction {
            return None;
        }
        let hits = self.holds.conflicts(items)?;
        Some(if items.transaction { cancelled(&hits, "TransactionConflict") } else { conflict() })
    }

    /// Holds the items of a call that takes time.
    pub(crate) fn hold(&self, items: &Items) -> Option<Hold> {
        items.writes.then(|| self.holds.hold(items.clone()))
    }

    /// Gives them back.
    pub(crate) fn release(&self, hold: Hold) {
        self.holds.release(hold);
    }

    /// Runs one call.
    pub(crate) fn call(&self, operation: &str, body: &[u8]) -> Answer {
        match self.run(operation, body) {
            Ok(body) => json_answer(200, VERSION, body),
            Err(error) => json_answer(error.status_code(), VERSION, error.to_json()),
        }
    }

    fn run(&self, operation: &str, body: &[u8]) -> Result<Bytes, DynoxideError> {
        let db = &self.database;
        match operation {
            "PutItem" => write(&db.put_item(read(body)?)?),
            "GetItem" => write(&db.get_item(read(body)?)?),
            "UpdateItem" => write(&db.update_item(read(body)?)?),
            "DeleteItem" => write(&db.delete_item(read(body)?)?),
            "Query" => write(&db.query(read(body)?)?),
            "Scan" => write(&db.scan(read(body)?)?),
            "TransactWriteItems" => write(&db.transact_write_items(read(body)?)?),
            "TransactGetItems" => write(&db.transact_get_items(read(body)?)?),
            "BatchGetItem" => write(&db.batch_get_item(read(body)?)?),
            "BatchWriteItem" => write(&db.batch_write_item(read(body)?)?),
            "CreateTable" => write(&db.create_table(read(body)?)?),
            "DescribeTable" => write(&db.describe_table(read(body)?)?),
            "UpdateTable" => write(&db.update_table(read(body)?)?),
            "ListTables" => write(&db.list_tables(read(body)?)?),
            "DeleteTable" => {
                let response = db.delete_table(read(body)?)?;
                let table = table_name(body);
                lock(&self.key_names).remove(&table);
                lock(&self.recoverable).remove(&table);
                write(&response)
            }
            "UpdateTimeToLive" => write(&db.update_time_to_live(read(body)?)?),
            "DescribeTimeToLive" => write(&db.describe_time_to_live(read(body)?)?),
            "TagResource" => write(&db.tag_resource(read(body)?)?),
            "UntagResource" => write(&db.untag_resource(read(body)?)?),
            "ListTagsOfResource" => write(&db.list_tags_of_resource(read(body)?)?),
            "UpdateContinuousBackups" | "DescribeContinuousBackups" => self.continuous_backups(body),
            other => Err(DynoxideError::ValidationException(format!("{other} is not emulated"))),
        }
    }

    /// Point-in-time recovery is accepted and remembered, no more.
    fn continuous_backups(&self, body: &[u8]) -> Result<Bytes, DynoxideError> {
        let table = table_name(body);
        self.database.describe_table(describe(&table)?)?;
        let request: Value = serde_json::from_slice(body).unwrap_or_default();
        let wanted = request["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"].as_bool();
        let mut recoverable = lock(&self.recoverable);
        let enabled = recoverable.entry(table).or_insert(false);
        *enabled = wanted.unwrap_or(*enabled);
        let status = if *enabled { "ENABLED" } else { "DISABLED" };
        write(&json!({ "ContinuousBackupsDescription": {
            "ContinuousBackupsStatus": "ENABLED",
            "PointInTimeRecoveryDescription": { "PointInTimeRecoveryStatus": status },
        } }))
    }

    fn key_names(&self, table: &str) -> Vec<String> {
        let mut known = lock(&self.key_names);
        if let Some(names) = known.get(table) {
            return names.clone();
        }
        let described = describe(table).and_then(|request| self.database.describe_table(request)).ok();
        let described = described.and_then(|response| serde_json::to_value(response).ok()).unwrap_or_default();
        let schema = described["Table"]["KeySchema"].as_array().map(Vec::as_slice).unwrap_or_default();
        let names: Vec<_> = schema.iter().filter_map(|key| key["AttributeName"].as_str().map(str::to_owned)).collect();
        if !names.is_empty() {
            known.insert(table.to_owned(), names.clone());
        }
        names
    }
}

/// The refusal of a plain write whose item a transaction holds.
pub(crate) fn conflict() -> Answer {
    json_error(
        400,
        VERSION,
        "com.amazonaws.dynamodb.v20120810#TransactionConflictException",
        "Transaction is ongoing for the item",
    )
}

/// The refusal of a call for throughput.
pub(crate) fn throttled(items: &Items) -> Answer {
    if items.transaction {
        let hits: Vec<_> = items.keys.iter().enumerate().map(|(index, _)| index == 0).collect();
        return cancelled(&hits, "ProvisionedThroughputExceeded");
    }
    json_error(
        400,
        VERSION,
        "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
        "The level of configured provisioned throughput for the table was exceeded.",
    )
}

/// The refusal of a transaction, with this reason for the items that were hit.
pub(crate) fn cancelled(hits: &[bool], reason: &str) -> Answer {
    let code = |hit: &bool| if *hit { reason } else { "None" };
    let codes: Vec<_> = hits.iter().map(code).collect();
    let message =
        format!("Transaction cancelled, please refer cancellation reasons for specific reasons [{}]", codes.join(", "));
    let reasons: Vec<_> = codes
        .iter()
        .map(|code| match *code {
            "None" => json!({ "Code": "None" }),
            "TransactionConflict" => json!({ "Code": code, "Message": "Transaction is ongoing for the item" }),
            code => json!({ "Code": code, "Message": "Throughput exceeds the current capacity of your table" }),
        })
        .collect();
    let body = json!({
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": message,
        "CancellationReasons": reasons,
    });
    json_answer(400, VERSION, body.to_string())
}

fn table_name(body: &[u8]) -> String {
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    request["TableName"].as_str().unwrap_or_default().to_owned()
}

fn describe(table: &str) -> Result<DescribeTableRequest, DynoxideError> {
    read(json!({ "TableName": table }).to_string().as_bytes())
}

/// Reads a request; the engine's types mark with a prefix which exception a bad value is.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, DynoxideError> {
    serde_json::from_slice(body).map_err(|error| {
        let text = error.to_string();
        let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
        for marker in ["VALIDATION_REQUEST:", "VALIDATION:", "VALIDATION_AS_READ:"] {
            if let Some(message) = text.strip_prefix(marker) {
                return DynoxideError::ValidationException(message.to_owned());
            }
        }
        for marker in ["SERIALIZATION:", "SERIALIZATION_AS_READ:"] {
            if let Some(message) = text.strip_prefix(marker) {
                return DynoxideError::SerializationException(message.to_owned());
            }
        }
        DynoxideError::ValidationException(text.to_owned())
    })
}

fn write<T: Serialize>(response: &T) -> Result<Bytes, DynoxideError> {
    serde_json::to_vec(response).map(Bytes::from).map_err(|error| DynoxideError::InternalServerError(error.to_string()))
}
