//! Columns from the Glue Data Catalog: read before anything is delivered, and again while the pipeline runs.
//!
//! What cannot be read at the start ends the start, with the reason; later the last good columns stay. An object is made of
//! the columns that were current when it was begun.
//! Never here: what a type means.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use standpipe_config::config::{self, Config, Destination, Format, Glue, TableColumns};
use standpipe_convert::{CurrentRows, GlueTable, RowFormat};
use standpipe_flow::{CatalogTable, Clock, DestinationId};
use standpipe_signed::{Call, CallError, Caller, Service};
use tracing::{info, warn};

use crate::errors::WorkerError;
use crate::formats;
use crate::platform::{Platform, service};

/// AWS Glue, JSON 1.1. A table has at most 400 KB in the catalog; with names and escapes an answer stays below this.
const GLUE: Service = Service {
    id: "Glue",
    name: "glue",
    operation: "GetTable",
    attempt_max: Duration::from_secs(20),
    answer_bytes_max: 16 << 20,
};
/// Between two looks at a table whose latest version is followed.
const FOLLOW: Duration = Duration::from_secs(300);
/// Between tries at the start, and how many there are: about a minute.
const AGAIN: Duration = Duration::from_secs(2);
const TRIES: u32 = 30;

/// The rows of the destinations whose columns are in Glue, and who keeps them current.
#[derive(Default)]
pub(crate) struct Tables {
    pub rows: BTreeMap<DestinationId, CurrentRows>,
    pub followers: Vec<Follower>,
}

impl Tables {
    /// For whoever encodes nothing: the columns are not asked for.
    pub(crate) fn unread(pipeline: &config::Pipeline) -> Self {
        let rows = pipeline.destinations.iter().map(|one| (one.id().clone(), CurrentRows::unknown()));
        Self { rows: rows.collect(), followers: Vec::new() }
    }
}

/// Reads the tables of a pipeline.
pub(crate) async fn tables(
    config: &Config,
    pipeline: &config::Pipeline,
    platform: &Platform,
) -> Result<Tables, WorkerError> {
    let mut tables = Tables::default();
    for destination in &pipeline.destinations {
        let Some(table) = destination.table() else { continue };
        let TableColumns::Glue(glue) = &table.columns else { continue };
        let sdk = service(&platform.sdk, config.aws.glue_endpoint.as_ref(), glue.region.as_ref());
        let is_orc = matches!(destination, Destination::S3(s3) if matches!(s3.format, Format::Orc(_)));
        let source = Source::new(glue, &sdk, is_orc, platform.clock.clone())?;
        let found = source.read_at_start().await?;
        let version = found.table.version_id.clone();
        info!(database = glue.database, table = glue.table, version, "the columns are read from Glue");
        let deserializer = formats::deserializer(&table.deserializer).map_err(WorkerError::Findings)?;
        let rows = RowFormat::new(found.columns, deserializer)
            .map_err(|error| WorkerError::Findings(format!("{}: {error}", source.name())))?
            .of_table(found.table);
        let rows = CurrentRows::from(rows);
        if glue.version.is_none() {
            tables.followers.push(Follower { source, rows: rows.clone(), version });
        }
        tables.rows.insert(destination.id().clone(), rows);
    }
    Ok(tables)
}

/// Keeps the columns of a table current.
pub(crate) struct Follower {
    source: Source,
    rows: CurrentRows,
    version: String,
}

impl Follower {
    /// Never ends.
    pub(crate) async fn run(mut self) {
        loop {
            tokio::time::sleep(FOLLOW).await;
            self.look().await;
        }
    }

    async fn look(&mut self) {
        let found = match self.source.read().await {
            Ok(found) if found.table.version_id == self.version => return,
            Ok(found) => found,
            Err(error) => {
                warn!(table = self.source.name(), %error, "Glue cannot be read, the last columns stay");
                return;
            }
        };
        let Some(rows) = self.rows.current() else { return };
        let version = found.table.version_id.clone();
        match rows.with_columns(found.columns, Some(found.table)) {
            Ok(rows) => {
                info!(table = self.source.name(), version, "the table has changed, its new columns are used");
                self.rows.replace(rows);
            }
            Err(error) => warn!(table = self.source.name(), version, %error, "the new columns cannot be used"),
        }
        // What cannot be used is said once.
        self.version = version;
    }
}

/// A table in the catalog, and the way to it.
struct Source {
    caller: Caller,
    glue: Glue,
    region: String,
    is_orc: bool,
}

/// Why a table was not read.
#[derive(Debug, thiserror::Error)]
enum GlueError {
    /// Not permitted: an operator must act.
    #[error("{0}")]
    Denied(String),
    /// It is not there, or is no table that can be used.
    #[error("{0}")]
    Unfit(String),
    /// No answer, or one that says nothing about the table.
    #[error("{0}")]
    Away(String),
}

impl Source {
    fn new(glue: &Glue, sdk: &aws_types::SdkConfig, is_orc: bool, clock: Arc<dyn Clock>) -> Result<Self, WorkerError> {
        let Some(region) = sdk.region().map(ToString::to_string) else {
            return Err(WorkerError::Findings("no region is known for Glue: set `aws.region` in the config".into()));
        };
        let caller = Caller::new(sdk, GLUE, &region, clock);
        Ok(Self { caller, glue: glue.clone(), region, is_orc })
    }

    fn name(&self) -> String {
        format!("{}.{}", self.glue.database, self.glue.table)
    }

    async fn read_at_start(&self) -> Result<GlueTable, WorkerError> {
        let mut tries = 0;
        loop {
            let error = match self.read().await {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            let cause = format!("the columns of {} cannot be read from Glue: {error}", self.name());
            match error {
                GlueError::Denied(_) => return Err(WorkerError::Permission(cause)),
                GlueError::Unfit(_) => return Err(WorkerError::Findings(cause)),
                GlueError::Away(_) if tries == TRIES => return Err(WorkerError::Failed(cause)),
                GlueError::Away(_) => warn!(cause, "will be tried again"),
            }
            tries += 1;
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// One attempt.
    async fn read(&self) -> Result<GlueTable, GlueError> {
        let (database, table) = (&self.glue.database, &self.glue.table);
        let (target, mut body) = match &self.glue.version {
            None => ("AWSGlue.GetTable", serde_json::json!({ "DatabaseName": database, "Name": table })),
            Some(version) => (
                "AWSGlue.GetTableVersion",
                serde_json::json!({ "DatabaseName": database, "TableName": table, "VersionId": version }),
            ),
        };
        if let Some(catalog) = &self.glue.catalog {
            body["CatalogId"] = catalog.as_str().into();
        }
        let headers = vec![("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target)];
        let call = Call { path: "/".to_owned(), headers, body: body.to_string().into_bytes() };
        let answer = self.caller.call(call).await.map_err(|error| match error {
            CallError::NoCredentials(cause) => GlueError::Denied(cause),
            CallError::Unsignable(cause) => GlueError::Unfit(cause),
            CallError::TimedOut => GlueError::Away("no answer in time".to_owned()),
            CallError::Unreachable(cause) => GlueError::Away(cause),
            CallError::TooLarge => GlueError::Unfit("its description is larger than any table's".to_owned()),
        })?;
        let refusal = answer.refusal();
        match answer.status {
            200 => {}
            403 => return Err(GlueError::Denied(refusal)),
            400 if refusal.contains("AccessDenied") => return Err(GlueError::Denied(refusal)),
            400 if refusal.contains("EntityNotFound") || refusal.contains("InvalidInput") => {
                return Err(GlueError::Unfit(refusal));
            }
            _ => return Err(GlueError::Away(refusal)),
        }
        let mut found = GlueTable::from_answer(&answer.body).map_err(|error| GlueError::Unfit(error.to_string()))?;
        if self.is_orc {
            standpipe_convert::orc_supports(&found.columns).map_err(GlueError::Unfit)?;
        }
        found.table = CatalogTable { region: self.region.clone(), ..found.table };
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
