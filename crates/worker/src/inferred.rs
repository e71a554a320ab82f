//! `batch -> stage`, for a table whose columns are inferred: the first batch that any worker stages decides, once for all of
//! them and for good (`standpipe_lease::Frozen`).
//!
//! Nothing is encoded before the columns are frozen: until then the rows of the table are unknown, and whoever encodes
//! refuses every record. A batch waits for the answer of the commit table, as it waits for any other; its records are
//! the sample, and are delivered with what it gave, or with what another worker froze first. It waits for no more
//! records: a quiet stream is not held up.
//! Never here: another schema than the frozen one, a write of the item once it is there.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use standpipe_config::config::{self, TableColumns};
use standpipe_convert::{
    Columns, CurrentRows, Deserializer, Format, RowFormat, SampleError, Sampled, orc_supports, sample,
};
use standpipe_flow::deliver::ExtraObject;
use standpipe_flow::offload::Offload;
use standpipe_flow::{
    Batch, BatchLimits, Clock, CommitError, CommitId, DeliveryError, Destination, DestinationId, Look, Millis, Mode,
    Output, Published, Receipt, Staged,
};
use standpipe_lease::{CommitTable, Frozen};
use tokio::sync::{Mutex, oneshot};
use tracing::{info, warn};

use crate::errors::WorkerError;
use crate::formats;
use crate::platform::Platform;

/// The table of a destination whose columns are inferred.
#[derive(Debug)]
pub(crate) struct InferredTable {
    id: DestinationId,
    /// What the format makes objects of.
    rows: CurrentRows,
    deserializer: Deserializer,
    is_orc: bool,
    /// The most records that are looked at.
    records_max: usize,
}

impl InferredTable {
    /// That of the config; `None` where columns are not inferred.
    pub(crate) fn of(s3: &config::S3, format: &Format) -> Result<Option<Self>, String> {
        let table = match &s3.format {
            config::Format::Parquet(file) => &file.table,
            config::Format::Orc(file) => &file.table,
            config::Format::Raw | config::Format::JsonLines => return Ok(None),
        };
        let (TableColumns::Inferred { sample }, Some(rows)) = (&table.columns, format.rows()) else { return Ok(None) };
        Ok(Some(Self {
            id: s3.id.clone(),
            rows: rows.clone(),
            deserializer: formats::deserializer(&table.deserializer)?,
            is_orc: matches!(format, Format::Orc { .. }),
            records_max: *sample,
        }))
    }

    /// What frozen columns are here.
    fn rows_of(&self, frozen: &Frozen) -> Result<RowFormat, DeliveryError> {
        let unusable =
            |cause: String| DeliveryError::Halt { cause: format!("the frozen columns cannot be used: {cause}") };
        let columns = Columns::parse(&frozen.columns).map_err(|error| unusable(error.to_string()))?;
        if self.is_orc {
            orc_supports(&columns).map_err(unusable)?;
        }
        RowFormat::new(columns, self.deserializer.clone()).map_err(|error| unusable(error.to_string()))
    }
}

/// A destination that learns its columns from the first batch.
#[derive(Debug)]
pub(crate) struct Inferred {
    table: InferredTable,
    destination: Arc<dyn Destination>,
    commits: CommitTable,
    clock: Arc<dyn Clock>,
    offload: Arc<dyn Offload>,
    /// Of the batches of this process one at a time looks, and the others find what it found.
    turn: Mutex<()>,
}

impl Inferred {
    pub(crate) fn new(
        table: InferredTable,
        destination: Arc<dyn Destination>,
        commits: CommitTable,
        platform: &Platform,
    ) -> Self {
        let (clock, offload) = (platform.clock.clone(), platform.offload.clone());
        Self { table, destination, commits, clock, offload, turn: Mutex::new(()) }
    }

    /// Looks at the start whether columns are frozen: what cannot be used ends the start, and nobody reads in vain.
    pub(crate) async fn look(&self) -> Result<(), WorkerError> {
        let id = &self.table.id;
        let unusable = |error: DeliveryError| WorkerError::Findings(format!("destination {id}: {error}"));
        match self.commits.frozen(id).await {
            Ok(Some(frozen)) => self.adopt(&frozen).map_err(unusable),
            Ok(None) => {
                info!(destination = %id, "no columns are frozen yet: they are inferred from the first batch");
                Ok(())
            }
            Err(error @ CommitError::Unreadable { .. }) => Err(unusable(failed(error))),
            Err(error) => {
                warn!(destination = %id, %error, "the frozen columns cannot be read yet, the first batch asks again");
                Ok(())
            }
        }
    }

    /// Makes the columns known, unless the batch has no record that columns could be made of: then whoever encodes refuses
    /// all its records.
    async fn know(&self, batch: &Arc<Batch>) -> Result<(), DeliveryError> {
        let _turn = self.turn.lock().await;
        if self.table.rows.current().is_some() {
            return Ok(());
        }
        let id = &self.table.id;
        let frozen = match self.commits.frozen(id).await.map_err(failed)? {
            Some(frozen) => frozen,
            None => {
                let Some(sampled) = self.sample(batch).await? else { return Ok(()) };
                let (columns, records) = (sampled.columns.to_string(), sampled.records);
                let given = Frozen { columns, records, at: self.clock.wall() };
                // What cannot be used is not frozen.
                self.table.rows_of(&given)?;
                let frozen = self.commits.freeze(id, &given).await.map_err(failed)?;
                if frozen == given && batch.records().count() < self.table.records_max {
                    warn!(
                        destination = %id, records, sample = self.table.records_max,
                        "the columns are frozen from fewer records than asked for: fields that none of them had are left out \
                         from now on"
                    );
                }
                frozen
            }
        };
        self.adopt(&frozen)
    }

    fn adopt(&self, frozen: &Frozen) -> Result<(), DeliveryError> {
        let rows = self.table.rows_of(frozen)?;
        let count = rows.columns().as_slice().len();
        self.table.rows.replace(rows);
        info!(
            destination = %self.table.id, columns = count, records = frozen.records, frozen_at = frozen.at.0,
            "the columns are frozen"
        );
        Ok(())
    }

    /// Infers columns from records of the batch, spread over it evenly; from all of them if those have no field.
    async fn sample(&self, batch: &Arc<Batch>) -> Result<Option<Sampled>, DeliveryError> {
        let (batch, deserializer, most) = (batch.clone(), self.table.deserializer.clone(), self.table.records_max);
        let (sender, receiver) = oneshot::channel();
        self.offload.run(Box::new(move || {
            // Nobody waits any more when the call was dropped.
            let _ = sender.send(sample_of(&batch, &deserializer, most));
        }));
        let sampled = receiver.await.map_err(|_| DeliveryError::Retry {
            after: None,
            cause: "the columns were not inferred to the end".to_owned(),
        })?;
        // A person has to say what the columns are; the records wait in the stream.
        sampled.map_err(|error| DeliveryError::Halt { cause: error.to_string() })
    }
}

fn sample_of(batch: &Batch, deserializer: &Deserializer, most: usize) -> Result<Option<Sampled>, SampleError> {
    let records = || batch.records().map(|record| &record.data[..]);
    let step = batch.records().count().div_ceil(most.max(1)).max(1);
    match sample(records().step_by(step), deserializer)? {
        None if step > 1 => sample(records(), deserializer),
        sampled => Ok(sampled),
    }
}

/// Why the frozen columns are not known, by what is to be done.
fn failed(error: CommitError) -> DeliveryError {
    let cause = format!("the frozen columns: {error}");
    match error {
        CommitError::Denied { .. } | CommitError::Unreadable { .. } => DeliveryError::Halt { cause },
        CommitError::Refused { .. } | CommitError::Conflict | CommitError::Throttled | CommitError::Unknown { .. } => {
            DeliveryError::Retry { after: None, cause }
        }
    }
}

/// All but `stage` is passed on, what has a default too.
#[async_trait]
impl Destination for Inferred {
    fn mode(&self) -> Mode {
        self.destination.mode()
    }

    fn limits(&self) -> BatchLimits {
        self.destination.limits()
    }

    async fn probe(&self) -> Result<(), DeliveryError> {
        self.destination.probe().await
    }

    async fn look(&self, make: bool, seen: &mut Vec<Look>) {
        self.destination.look(make, seen).await;
    }

    async fn stage(&self, cid: CommitId, batch: &Arc<Batch>) -> Result<Staged, DeliveryError> {
        // A batch without records to encode needs no columns, and has none to show.
        if self.table.rows.current().is_none() && batch.records().next().is_some() {
            self.know(batch).await?;
        }
        self.destination.stage(cid, batch).await
    }

    async fn stage_extra(
        &self,
        cid: CommitId,
        object: &ExtraObject,
    ) -> Result<(Output, Option<Millis>), DeliveryError> {
        self.destination.stage_extra(cid, object).await
    }

    async fn publish(&self, receipt: &Receipt) -> Result<Published, DeliveryError> {
        self.destination.publish(receipt).await
    }

    fn refused_max(&self) -> Option<Duration> {
        self.destination.refused_max()
    }

    async fn give_up(&self, receipt: &Receipt) -> Result<Published, DeliveryError> {
        self.destination.give_up(receipt).await
    }

    async fn discard(&self, dead: &[Output]) -> Result<(), DeliveryError> {
        self.destination.discard(dead).await
    }

    async fn clear(&self, done: &Receipt) -> Result<(), DeliveryError> {
        self.destination.clear(done).await
    }

    async fn write_incident(&self, cid: CommitId, body: Bytes) -> Result<(), DeliveryError> {
        self.destination.write_incident(cid, body).await
    }
}

#[cfg(test)]
mod tests;
