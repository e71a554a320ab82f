//! `commit -> publish`, the other way: a load that was refused for too long is given up, and may be made later.
//!
//! Cancelled, a final state awaited, the ledger asked; only if the commit is absent there, its manifest is written where
//! people find it. Whoever else still runs a copy of the load may finish it: then a later one finds it in the ledger.
//! Never: gives up what is loaded; deletes staged objects.

use std::time::Duration;

use bytes::Bytes;
use standpipe_flow::{DeliveryError, Millis, Published, Receipt};

use super::attempts::Task;
use super::load::{Ended, Ledger, gone, query_of_copy};
use super::manifest::{self, ErrorManifest};
use super::outcome::{Failure, Meaning};
use super::sql::Load;
use super::{LastFailure, Redshift, data_api, parted};
use crate::s3::Whole;

/// Where manifests of loads that were given up lie, behind the staging prefix: Firehose's place.
const GIVEN_UP: &str = "errors/manifests/";
/// How old a manifest may be that is loaded: the ledger, which makes that safe, keeps 90 days.
const REDRIVE_MAX: Duration = Duration::from_secs(60 * 24 * 3600);

/// What the commit table says of a commit that was given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decided {
    /// DONE because it was given up: its records come by no other way.
    GivenUp,
    /// RETRACTED: its records were delivered under another id.
    TakenBack,
    /// Nothing that is final, or nobody could be asked.
    Unknown,
}

/// What loading a manifest later found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Redriven {
    /// Its objects are loaded now.
    Loaded {
        /// Where the rows are named that COPY left out (`MAXERROR`), if it left any out: `s3://BUCKET/KEY`.
        left_out: Option<String>,
    },
    /// They had been loaded before.
    Already,
    /// The commit was taken back, and its records delivered under another id.
    TakenBack,
}

pub(super) async fn receipt(redshift: &Redshift, receipt: &Receipt) -> Result<Published, DeliveryError> {
    let (objects, _) = parted(&receipt.outputs);
    if let Some(attempt) = redshift.attempts.under_way(receipt.cid, Task::Load) {
        // One whose id was lost is found by its token when it is published again.
        let Some(id) = attempt.id else {
            return Err(DeliveryError::Retry { after: None, cause: "a load may be running".to_owned() });
        };
        redshift.api.cancel(&id).await?;
        let ended = redshift.end_of(&id).await?;
        redshift.attempts.ended(receipt.cid, Task::Load, &attempt.token);
        if let Some(Ended::Finished(queries)) = ended {
            return redshift.loaded(receipt, query_of_copy(&queries)).await;
        }
    }
    match redshift.ledger_of(receipt.cid).await? {
        Ledger::Loaded => return redshift.loaded(receipt, None).await,
        Ledger::Retracted => return Ok(gone(receipt, &[], receipt.outputs.len() > objects.len())),
        Ledger::Absent => {}
    }
    let unknown = || LastFailure {
        failure: Failure { code: "Redshift.LoadFailed", meaning: Meaning::Refused },
        message: "the load was refused for too long".to_owned(),
        rows: Vec::new(),
    };
    let last = redshift.failures().get(&receipt.cid).cloned().unwrap_or_else(unknown);
    let key = manifest::key(&redshift.settings.prefix, GIVEN_UP, manifest::named(receipt));
    let failed = (last.failure, last.message.as_str(), last.rows.as_slice());
    let body = Bytes::from(manifest::given_up(receipt, &objects, &redshift.settings, failed));
    redshift.s3.put_whole(Whole { key: key.clone(), body, once: true }).await?;
    redshift.failures().remove(&receipt.cid);
    let (bucket, code) = (redshift.s3.bucket_name(), last.failure.code);
    tracing::error!(cid = %receipt.cid, bucket, key, code, "a load is given up: its manifest can be loaded later");
    Ok(Published::GaveUp)
}

impl Redshift {
    /// What the keys of manifests of loads that were given up begin with, in the staging bucket.
    pub fn given_up_prefix(&self) -> String {
        format!("{}{GIVEN_UP}", self.settings.prefix)
    }

    /// Why this destination does not load such a manifest, whatever Redshift would say; `now` is S3's own time.
    pub fn refuses(&self, manifest: &ErrorManifest, now: Millis) -> Option<String> {
        let (table, here) = (self.settings.copy.shown(), self.settings.warehouse.shown());
        if manifest.table != table {
            return Some(format!("it is of table {}, not {table}", manifest.table));
        }
        if let Some(there) = manifest.warehouse.as_ref().filter(|there| **there != here) {
            return Some(format!("it is of {there}, not {here}, whose ledger would not know its load"));
        }
        let old = now.since(manifest.created_at) > REDRIVE_MAX;
        old.then(|| "it is older than 60 days: whether it was loaded is not known for certain".to_owned())
    }

    /// Loads a manifest that was given up: the same guarded batch under the same commit id, so that it is loaded once
    /// however often this is asked. `url` is where the manifest is (`s3://BUCKET/KEY`), `now` S3's own time.
    ///
    /// A worker that had lost its leases may have written into the ledger that the commit is taken back, after another had
    /// given it up. What was `decided` is told by the commit table alone.
    ///
    /// # Errors
    /// Halt: it is older than 60 days, or of another table. Reject: Redshift refuses the load. Retry: ask again.
    pub async fn redrive(
        &self,
        manifest: &ErrorManifest,
        (url, now): (&str, Millis),
        decided: Decided,
    ) -> Result<Redriven, DeliveryError> {
        if let Some(cause) = self.refuses(manifest, now) {
            return Err(DeliveryError::Halt { cause });
        }
        let into = &self.settings.copy;
        self.create_ledger().await?;
        let (cid, stream) = (manifest.cid, manifest.stream.as_str());
        let load = Load { cid, manifest_url: url, shards: &manifest.shards, stream, records: manifest.records };
        let batch = match decided {
            Decided::GivenUp => into.load_in_spite(&load),
            Decided::Unknown => into.load(&load),
            Decided::TakenBack => return Ok(Redriven::TakenBack),
        };
        match self.run(cid, Task::Load, &batch).await? {
            Ended::Finished(queries) => {
                let mut left_out = None;
                if into.errors_max > 0 {
                    let named = (cid, manifest.created_at);
                    left_out = self.tell_refused_rows(named, query_of_copy(&queries)).await?;
                }
                Ok(Redriven::Loaded { left_out })
            }
            Ended::Failed(text) => match self.ledger_of(cid).await? {
                Ledger::Loaded => Ok(Redriven::Already),
                Ledger::Retracted => Ok(Redriven::TakenBack),
                Ledger::Absent => {
                    let failure = super::outcome::failure(&text);
                    let cause = format!("{}: {}", failure.code, data_api::bounded(&text));
                    match failure.meaning {
                        Meaning::Refused | Meaning::Missing => Err(DeliveryError::Reject { cause }),
                        Meaning::Guard | Meaning::Passing => Err(DeliveryError::Retry { after: None, cause }),
                    }
                }
            },
        }
    }
}
