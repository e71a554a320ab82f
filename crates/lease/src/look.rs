//! Beside `lease ->`: what a person is told of a pipeline's tables before anything runs.
//!
//! The tables are described, the leases and what the fleet knows are read and compared with the config.
//! Never: writes, makes a table, pins anything.

use std::collections::BTreeMap;

use standpipe_flow::{CommitError, DestinationId, Found, Look, Millis};

use crate::admin::{self, Spec, TableError};
use crate::client::{Dynamo, classify};
use crate::commits::CommitTable;
use crate::identity::{PinError, StreamIdentity};
use crate::kcl::{Item, name as of_lease};
use crate::receipts::name;
use crate::table::{LeaseTable, Rows};
use crate::workers::{HeartbeatMode, WorkerTable, name as of_worker};

/// What is compared with the tables.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The lease table's name.
    pub table: String,
    /// Whether missing tables are made at the start.
    pub create: bool,
    /// How workers show that they are alive.
    pub heartbeat: HeartbeatMode,
    /// The stream, if it has said who it is.
    pub stream: Option<StreamIdentity>,
    /// The destinations, with what each id stands for.
    pub destinations: BTreeMap<DestinationId, String>,
}

/// A line a table, and what in them contradicts the config.
pub async fn look(wanted: &Wanted, dynamo: &Dynamo, commits: &CommitTable, seen: &mut Vec<Look>) {
    let leases = Spec { table: &wanted.table, key: of_lease::KEY, ttl: None };
    let mut rows = Rows::default();
    if table(wanted, dynamo, &leases, seen).await {
        let what = format!("leases of {}", wanted.table);
        match LeaseTable::new(dynamo.clone(), wanted.table.clone()).scan().await {
            Ok(found) => rows = found,
            Err(error) => seen.push(failed(&what, error, "dynamodb:Scan", &wanted.table)),
        }
        for error in rows.unreadable.values().take(3) {
            seen.push(Look::note(&what, format!("one is left alone: {error}")));
        }
    }
    let spec = Spec { table: commits.name(), key: name::CID, ttl: Some(name::EXPIRES_AT) };
    let before = seen.len();
    if table(wanted, dynamo, &spec, seen).await {
        pinned(wanted, dynamo, commits, seen).await;
    } else if let Some(row) = rows.carrier() {
        seen.truncate(before);
        let lost = TableError::Lost { table: commits.name().to_owned(), lease: row.key.to_string() };
        seen.push(Look::wrong(format!("table {}", commits.name()), lost.to_string()));
    }
    if wanted.heartbeat == HeartbeatMode::PerWorker {
        let workers = WorkerTable::name_of(&wanted.table);
        let spec = Spec { table: &workers, key: of_worker::WORKER, ttl: Some(of_worker::EXPIRES_AT) };
        table(wanted, dynamo, &spec, seen).await;
    }
}

/// Whether a table is there, and can be read.
async fn table(wanted: &Wanted, dynamo: &Dynamo, spec: &Spec<'_>, seen: &mut Vec<Look>) -> bool {
    let what = format!("table {}", spec.table);
    let description = match admin::describe(&dynamo.patient, spec).await {
        Ok(Some(description)) => description,
        Ok(None) if wanted.create => {
            let look = Look::note(what, "it is not there: the first worker makes it");
            // Said once for all of them.
            let first = !seen.iter().any(|before| before.found == Found::Note && before.says == look.says);
            let hint = "`dynamodb:CreateTable` and the rights beside it (MakeTheTablesOnce in deploy/iam)";
            seen.push(if first { look.hint(hint) } else { look });
            return false;
        }
        Ok(None) => {
            let look = Look::wrong(what, "it is not there, and `lease: { create: false }` says not to make it");
            seen.push(look.hint(format!("make it, with the string {:?} as its only key", spec.key)));
            return false;
        }
        Err(TableError::Unavailable { cause, .. }) => {
            seen.push(failed(&what, cause, "dynamodb:DescribeTable", spec.table));
            return false;
        }
        Err(error) => {
            seen.push(Look::wrong(what, error.to_string()));
            return false;
        }
    };
    if let Err(error) = admin::check_key(&description, spec) {
        seen.push(Look::wrong(what, error.to_string()).hint("another name under `lease.table`"));
        return false;
    }
    let usable = admin::usable(&description);
    let status = description.table_status().map_or("there", |status| status.as_str());
    seen.push(if usable {
        Look::fine(what, status)
    } else {
        Look::note(what, format!("{status}: a start waits for it"))
    });
    usable
}

fn failed(what: &str, error: CommitError, right: &str, table: &str) -> Look {
    match error {
        CommitError::Denied { cause } if denied(&cause) => {
            Look::denied(what, cause).hint(format!("`{right}` on table {table} (LeasesAndCommits in deploy/iam)"))
        }
        CommitError::Denied { cause } => Look::wrong(what, cause),
        error => Look::silent(what, error.to_string()),
    }
}

fn denied(cause: &str) -> bool {
    ["AccessDenied", "UnrecognizedClient", "not authorized", "InvalidClientTokenId"]
        .iter()
        .any(|word| cause.contains(word))
}

/// What the fleet has written down of its stream and its destinations, beside what the config says now.
async fn pinned(wanted: &Wanted, dynamo: &Dynamo, commits: &CommitTable, seen: &mut Vec<Look>) {
    let what = format!("table {}", commits.name());
    let (stream, fleet) = match commits.pinned(dynamo).await {
        Ok(pinned) => pinned,
        Err(error) => return seen.push(failed(&what, error, "dynamodb:GetItem", commits.name())),
    };
    if let (Some(pinned), Some(given)) = (stream, &wanted.stream)
        && pinned != *given
    {
        let error = PinError::Stream { pinned: Box::new(pinned), given: Box::new(given.clone()) };
        seen.push(
            Look::wrong(&what, error.to_string())
                .hint("another `lease.table`: its positions are those of another stream"),
        );
    }
    for (id, given) in &wanted.destinations {
        let Some(pinned) = fleet.get(id).filter(|pinned| *pinned != given) else { continue };
        let error = PinError::Destination { id: id.clone(), pinned: pinned.clone(), given: given.clone() };
        seen.push(Look::wrong(&what, error.to_string()).hint("another `id` for what is another destination"));
    }
}

impl CommitTable {
    /// What is pinned: the stream, and what the ids of destinations stand for. Read, not written.
    async fn pinned(
        &self,
        dynamo: &Dynamo,
    ) -> Result<(Option<StreamIdentity>, BTreeMap<DestinationId, String>), CommitError> {
        let item = async |key: &str| -> Result<Item, CommitError> {
            let request = dynamo.quick.get_item().table_name(self.name()).consistent_read(true);
            let request = request.key(name::CID, crate::kcl::text(key));
            let output = request.send().await.map_err(|error| classify(&error))?;
            Ok(output.item.into_iter().flatten().collect())
        };
        let stream = item(crate::identity::STREAM).await?;
        let arn = stream.get(crate::identity::ARN).and_then(|value| value.as_s().ok());
        let created = stream.get(crate::identity::CREATED_AT).and_then(|value| value.as_n().ok()?.parse().ok());
        let stream = arn.zip(created).map(|(arn, at)| StreamIdentity { arn: arn.clone(), created_at: Millis(at) });
        let fleet = item(crate::identity::FLEET).await?;
        let ids = fleet.iter().filter_map(|(attribute, value)| {
            let id = attribute.strip_prefix(crate::identity::DESTINATION_PREFIX)?;
            Some((DestinationId::new(id), value.as_s().ok()?.clone()))
        });
        Ok((stream, ids.collect()))
    }
}
