//! Redshift: `batch -> stage -> commit -> publish` by objects in a bucket and one guarded COPY.
//!
//! Staged objects are durable and nobody's rows: that is the staging. What publishes them is one transaction of the
//! warehouse ([`sql`]): the ledger's guard, COPY, the ledger's rows. So a commit is loaded once, whoever asks for it, and
//! however often. What became of a load whose answer was lost is asked of the ledger, never guessed ([`load`]).
//! Error and backup objects are those of an S3 destination of its own, and become visible BEFORE the load: a commit of
//! which one is lost can then be taken back, because nothing of it is in the table.
//! Invariants: no object is overwritten by other bytes; no load is given up that the ledger has, or that may still run here.
//! Never: a retry of a whole batch, a wall clock, a record's content in SQL or in a log.

mod attempts;
mod data_api;
mod give_up;
mod load;
mod look;
mod manifest;
mod outcome;
mod redrive;
mod sql;
mod stage;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::tz::TimeZone;
use standpipe_config::template::Template;
use standpipe_convert::{Compression, Format};
use standpipe_flow::deliver::ExtraObject;
use standpipe_flow::offload::Offload;
use standpipe_flow::{
    Batch, BatchLimits, CommitId, DeliveryError, Destination, Held, Look, Millis, Mode, Output, OutputKind, Published,
    Random, Receipt, Staged,
};

use crate::object_key::KeyPrefix;
use crate::s3::S3;
use attempts::Attempts;
pub use data_api::Warehouse;
use data_api::{DataApi, Status};
pub use give_up::{Decided, Redriven};
pub use manifest::ErrorManifest;
use manifest::RefusedRow;
use outcome::Failure;
pub use redrive::GivenUp;
pub use sql::{CopyInto, ShardRange};

/// What one Redshift destination is configured to do.
#[derive(Clone, Debug)]
pub struct RedshiftSettings {
    /// Which warehouse, and as whom.
    pub warehouse: Warehouse,
    /// The table, and how COPY loads it.
    pub copy: CopyInto,
    /// What the keys of staged objects begin with, in the bucket of the destination's own S3; no expression.
    pub prefix: String,
    /// The pipeline's name: the first part of object names.
    pub pipeline: String,
    /// The stream, for the ledger.
    pub stream: String,
    /// What a staged object holds.
    pub format: Format,
    /// How objects of lines are compressed.
    pub compression: Compression,
    /// Records must be JSON objects; others would fail the load of all.
    pub json: bool,
    /// What one batch may weigh.
    pub limits: BatchLimits,
    /// How long one load may be refused before it is given up.
    pub retry: Duration,
}

/// Why the last load of a commit failed.
#[derive(Clone, Debug)]
struct LastFailure {
    failure: Failure,
    message: String,
    rows: Vec<RefusedRow>,
}

/// A table of a warehouse.
pub struct Redshift {
    api: DataApi,
    /// The staging bucket: staged objects, manifests, error and backup objects.
    s3: Arc<S3>,
    settings: RedshiftSettings,
    prefix: KeyPrefix,
    extension: &'static str,
    /// The ledger has been made, or was there.
    ledger: AtomicBool,
    attempts: Attempts,
    failures: Mutex<BTreeMap<CommitId, LastFailure>>,
    offload: Arc<dyn Offload>,
    random: Arc<dyn Random>,
}

impl fmt::Debug for Redshift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pipeline, table) = (&self.settings.pipeline, self.settings.copy.shown());
        f.debug_struct("Redshift").field("pipeline", pipeline).field("table", &table).finish()
    }
}

impl Redshift {
    /// A destination over a client of its own. `config` must have what every SDK client needs. `s3` is the staging bucket,
    /// with the prefixes of error and backup objects.
    pub fn new(
        config: &aws_types::SdkConfig,
        settings: RedshiftSettings,
        s3: Arc<S3>,
        (offload, random): (Arc<dyn Offload>, Arc<dyn Random>),
    ) -> Self {
        // The config has refused whatever is no literal; by hand, an expression would stand in keys as it is written.
        let template = Template::prefix(Some(&settings.prefix)).unwrap_or_default();
        Self {
            api: DataApi::new(config, settings.warehouse.clone()),
            s3,
            prefix: KeyPrefix::new(&template, TimeZone::UTC),
            extension: settings.format.extension(settings.compression),
            settings,
            ledger: AtomicBool::new(false),
            attempts: Attempts::default(),
            failures: Mutex::default(),
            offload,
            random,
        }
    }

    /// The S3 destination of its error and backup objects.
    pub fn objects(&self) -> &Arc<S3> {
        &self.s3
    }

    /// Makes the ledger, if it is not there. Needs the right to create tables in the schema of the target.
    pub async fn create_ledger(&self) -> Result<(), DeliveryError> {
        if self.ledger.load(Ordering::Relaxed) {
            return Ok(());
        }
        match self.ask(&self.settings.copy.create_ledger()).await? {
            Ok(_) => self.ledger.store(true, Ordering::Relaxed),
            Err(text) => {
                // Two that make it at once may fail over each other's rows in the catalog.
                let there = self.tables().await?.contains(&self.settings.copy.ledger_name().to_lowercase());
                if !there {
                    let cause = format!("the ledger cannot be made: {}", data_api::bounded(&text));
                    return Err(DeliveryError::Halt { cause });
                }
                self.ledger.store(true, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Which of the target and its ledger are there, by name, in small letters.
    async fn tables(&self) -> Result<Vec<String>, DeliveryError> {
        let rows = self.query(&self.settings.copy.find_tables()).await?;
        Ok(rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
    }

    /// Runs one statement, whose rows are text; for people and their tools.
    ///
    /// # Errors
    /// Halt: the warehouse says no to it. Retry: ask again.
    pub async fn query(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, DeliveryError> {
        self.ask(sql).await?.map_err(|text| DeliveryError::Halt { cause: data_api::bounded(&text) })
    }

    fn failures(&self) -> MutexGuard<'_, BTreeMap<CommitId, LastFailure>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn name(&self, cid: CommitId) -> String {
        format!("standpipe {} {cid}", self.settings.pipeline)
    }
}

/// Staged objects of a receipt, which COPY loads; and its other outputs, which are S3's to publish.
fn parted(outputs: &[Output]) -> (Vec<Output>, Vec<Output>) {
    outputs.iter().cloned().partition(|output| output.kind == OutputKind::Data && output.held == Held::Object)
}

#[async_trait]
impl Destination for Redshift {
    fn mode(&self) -> Mode {
        Mode::Staged
    }

    fn limits(&self) -> BatchLimits {
        self.settings.limits
    }

    /// Whether statements run, the table is there, and the bucket lets us in. A ledger that is missing is made with the
    /// first load.
    async fn probe(&self) -> Result<(), DeliveryError> {
        self.s3.probe().await?;
        let tables = self.tables().await?;
        if !tables.contains(&self.settings.copy.table.to_lowercase()) {
            let cause = format!("there is no table {}, or it is not ours to see", self.settings.copy.shown());
            return Err(DeliveryError::Halt { cause });
        }
        if !tables.contains(&self.settings.copy.ledger_name().to_lowercase()) {
            let ledger = self.settings.copy.ledger_name();
            tracing::info!(ledger, "there is no ledger yet: the first load makes it");
        }
        Ok(())
    }

    async fn look(&self, make: bool, seen: &mut Vec<Look>) {
        self.s3.look(make, seen).await;
        look::table(self, make, seen).await;
    }

    async fn stage(&self, cid: CommitId, batch: &Arc<Batch>) -> Result<Staged, DeliveryError> {
        stage::batch(self, cid, batch).await
    }

    async fn stage_extra(
        &self,
        cid: CommitId,
        object: &ExtraObject,
    ) -> Result<(Output, Option<Millis>), DeliveryError> {
        self.s3.stage_extra(cid, object).await
    }

    async fn publish(&self, receipt: &Receipt) -> Result<Published, DeliveryError> {
        load::receipt(self, receipt).await
    }

    fn refused_max(&self) -> Option<Duration> {
        Some(self.settings.retry)
    }

    async fn give_up(&self, receipt: &Receipt) -> Result<Published, DeliveryError> {
        give_up::receipt(self, receipt).await
    }

    async fn discard(&self, dead: &[Output]) -> Result<(), DeliveryError> {
        self.s3.discard(dead).await
    }

    async fn write_incident(&self, cid: CommitId, body: Bytes) -> Result<(), DeliveryError> {
        self.s3.write_incident(cid, body).await
    }
}

#[cfg(test)]
mod tests;
