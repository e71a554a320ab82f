//! S3: `batch -> stage -> commit -> publish` with multipart uploads that stay open until the commit.
//!
//! An open upload is durable and no reader sees it: that is the staging. Completing it is the publishing, idempotent by
//! the key, which holds the commit's id. Many small objects may be staged and published otherwise ([`staging`]).
//! What an answer means is decided in one file, [`classify`].
//! Invariants: no object is ever overwritten; nothing is visible before its commit; an output of another bucket than the
//! destination's own and its backup's is never touched (a receipt is data from outside).
//! Never: a retry of a whole batch, a wall clock, an abort of an upload that was committed.

mod checksum;
mod classify;
mod look;
mod objects;
mod plain;
mod publish;
mod read;
mod requests;
mod stage;
mod staging;
pub mod sweep;
mod upload;
mod whole;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::tz::TimeZone;
use standpipe_config::template::Template;
use standpipe_convert::{Compression, Format};
use standpipe_flow::deliver::ExtraObject;
use standpipe_flow::offload::Offload;
use standpipe_flow::{
    Batch, BatchLimits, CommitId, DeliveryError, Destination, Look, Millis, Mode, Output, Published, Random, Receipt,
    Staged,
};
use tokio::sync::Semaphore;

use crate::object_key::KeyPrefix;
use checksum::Sum;
pub(crate) use read::Listed;
use requests::Bucket;
pub(crate) use stage::StagedObject;
use sweep::{Leftovers, Page};
pub(crate) use whole::Whole;

/// What publishing does with an output whose upload is gone while nothing proves that it was ever visible.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LostObject {
    /// Deliver its records again: a repeat is better than a loss.
    #[default]
    Replay,
    /// Take it for published and deleted by its reader, within 24 h of the commit by S3's own time.
    AssumePublished,
}

/// How the small objects of a commit that has many become visible.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Publish {
    /// By completing an upload each, as all others: three requests an object.
    #[default]
    Multipart,
    /// By writing each from a staging object that holds many: one request an object. A reader that deletes one may see it
    /// again after a crash.
    Put,
}

/// What one S3 destination is configured to do.
#[derive(Clone, Debug)]
pub struct S3Settings {
    /// The bucket of all its objects.
    pub bucket: String,
    /// Prefix of data objects.
    pub prefix: Template,
    /// Prefix of error objects.
    pub error_prefix: Template,
    /// The pipeline's name: the first part of object names.
    pub pipeline: String,
    /// The zone of times in keys; Firehose's default is UTC.
    pub time_zone: TimeZone,
    /// What an object holds.
    pub format: Format,
    /// How objects of lines are compressed.
    pub compression: Compression,
    /// Replaces the format's extension, with its dot.
    pub file_extension: Option<String>,
    /// What one batch may weigh.
    pub limits: BatchLimits,
    /// SSE-KMS with this key; `None` leaves it to the bucket.
    pub kms: Option<String>,
    /// The account (12 digits) that must own the bucket: named in every request, which S3 then refuses of any other's.
    pub expected_owner: Option<String>,
    /// Where every record as it was read is kept too (`backup: { mode: all }`).
    pub backup: Option<BackupSettings>,
    /// What becomes of a lost output.
    pub lost_object: LostObject,
    /// How many small objects become visible.
    pub publish: Publish,
}

/// The backup of source records: objects of [`Batch::originals`] in the commit that delivers them, as they were read,
/// one after the other without a delimiter. Firehose knows only "all" for S3: what fails lies under `error_prefix`.
#[derive(Clone, Debug)]
pub struct BackupSettings {
    /// Its bucket; may be the destination's own.
    pub bucket: String,
    /// Prefix of its objects: no partition keys, no error output type.
    pub prefix: Template,
    /// How they are compressed.
    pub compression: Compression,
    /// Replaces the compression's extension, with its dot.
    pub file_extension: Option<String>,
    /// SSE-KMS with this key; `None` leaves it to the bucket.
    pub kms: Option<String>,
    /// The account that must own this bucket.
    pub expected_owner: Option<String>,
}

/// Where incidents are written down, in the destination's own bucket.
const INCIDENTS: &str = "standpipe-incidents/";

/// An S3 bucket, or one of another server that speaks its API.
pub struct S3 {
    bucket: Bucket,
    settings: S3Settings,
    backup: Option<Backup>,
    prefix: KeyPrefix,
    error_prefix: KeyPrefix,
    extension: String,
    unsigned: bool,
    /// Set when the server has refused CRC-64/NVME.
    crc32: AtomicBool,
    /// Set when the server has refused a completion that named no sums of parts.
    part_sums: AtomicBool,
    /// Columns that encoders may have, over all batches.
    columns: Semaphore,
    offload: Arc<dyn Offload>,
    random: Arc<dyn Random>,
}

/// Where source records are kept.
struct Backup {
    bucket: Bucket,
    prefix: KeyPrefix,
    extension: String,
    compression: Compression,
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3").field("pipeline", &self.settings.pipeline).field("bucket", &self.settings.bucket).finish()
    }
}

impl S3 {
    /// A destination over a client of its own. `config` must have what every SDK client needs: a behaviour version, a
    /// sleep implementation, credentials; its retry settings are not used. With an endpoint of its own (in `config`, or
    /// `AWS_ENDPOINT_URL_S3` where that was loaded from the environment) path-style addressing is used.
    pub fn new(
        config: &aws_types::SdkConfig,
        settings: S3Settings,
        offload: Arc<dyn Offload>,
        random: Arc<dyn Random>,
    ) -> Self {
        let default_extension = || settings.format.extension(settings.compression).to_owned();
        let bucket = |name: &str, kms: &Option<String>, owner: &Option<String>| Bucket {
            name: name.to_owned(),
            client: requests::client(config, owner.as_deref()),
            kms: kms.clone(),
        };
        let backup = |backup: &BackupSettings| Backup {
            bucket: bucket(&backup.bucket, &backup.kms, &backup.expected_owner),
            prefix: KeyPrefix::new(&backup.prefix, settings.time_zone.clone()),
            extension: backup.file_extension.clone().unwrap_or_else(|| backup.compression.extension().to_owned()),
            compression: backup.compression,
        };
        Self {
            bucket: bucket(&settings.bucket, &settings.kms, &settings.expected_owner),
            backup: settings.backup.as_ref().map(backup),
            prefix: KeyPrefix::new(&settings.prefix, settings.time_zone.clone()),
            error_prefix: KeyPrefix::new(&settings.error_prefix, settings.time_zone.clone()),
            extension: settings.file_extension.clone().unwrap_or_else(default_extension),
            unsigned: requests::unsigned_payload(config),
            crc32: AtomicBool::new(false),
            part_sums: AtomicBool::new(false),
            columns: Semaphore::new(stage::COLUMNS_MAX as usize),
            settings,
            offload,
            random,
        }
    }

    /// One page of the open uploads under this destination's prefixes, and behind them of the staging objects where it
    /// makes any: those with keys of our form, whosever they are. `page` is the `next` of the page before, or the default
    /// for the first. Safe to drop at any time.
    pub async fn leftovers(&self, page: &Page) -> Result<Leftovers, DeliveryError> {
        let uploads = self.places();
        let places = uploads.len() + usize::from(self.settings.publish == Publish::Put);
        if page.place >= places {
            return Ok(Leftovers::default());
        }
        let (found, next) = match uploads.get(page.place) {
            Some((bucket, prefix)) => requests::list_uploads(bucket, prefix, page).await?,
            None => plain::list_staging(&self.bucket, page).await?,
        };
        let following = || Page { place: page.place + 1, ..Page::default() };
        let next = next.or_else(|| (page.place + 1 < places).then(following));
        Ok(Leftovers { found, next })
    }

    /// Ends a leftover that [`sweep::verdict`] found dead. One that is gone is as good as ended.
    pub async fn end(&self, leftover: &sweep::Leftover) -> Result<(), DeliveryError> {
        publish::end(self, &leftover.bucket, &leftover.key, leftover.upload_id.as_deref()).await
    }

    /// Where objects lie: the buckets, each with what keys in it begin with.
    fn places(&self) -> Vec<(&Bucket, &str)> {
        let own = [self.prefix.literal_start(), self.error_prefix.literal_start()];
        let of_backup = self.backup.as_ref().map(|backup| (&backup.bucket, backup.prefix.literal_start()));
        let (same, other): (Vec<_>, Vec<_>) =
            of_backup.into_iter().partition(|(bucket, _)| bucket.name == self.bucket.name);
        let own: Vec<&str> = own.into_iter().chain(same.into_iter().map(|(_, start)| start)).collect();
        sweep::distinct(&own).into_iter().map(|start| (&self.bucket, start)).chain(other).collect()
    }

    /// From now on the older sum. The error of an attempt that began with the better one.
    fn fall_back(&self, bucket: &Bucket) -> DeliveryError {
        self.crc32.store(true, Ordering::Relaxed);
        tracing::info!(bucket = bucket.name, "the server refuses CRC-64/NVME, falling back to CRC-32");
        stage::again("the server refuses CRC-64/NVME")
    }

    fn sum(&self) -> Sum {
        if self.crc32.load(Ordering::Relaxed) { Sum::Crc32 } else { Sum::Crc64Nvme }
    }

    /// Refuses outputs of which one lies elsewhere, or is held where none of ours is, before anything is asked of any.
    fn known_buckets(&self, outputs: &[Output]) -> Result<(), DeliveryError> {
        outputs.iter().try_for_each(|output| self.bucket_of(&output.bucket).and_then(|_| staging::known(output)))
    }

    /// The bucket of this name; refused if it is neither this destination's own nor its backup's.
    fn bucket_of(&self, name: &str) -> Result<&Bucket, DeliveryError> {
        let known = [Some(&self.bucket), self.backup.as_ref().map(|backup| &backup.bucket)];
        known.into_iter().flatten().find(|bucket| bucket.name == name).ok_or_else(|| DeliveryError::Halt {
            cause: format!("an output in bucket {name:?}, which is not this destination's"),
        })
    }
}

#[async_trait]
impl Destination for S3 {
    fn mode(&self) -> Mode {
        Mode::Staged
    }

    fn limits(&self) -> BatchLimits {
        self.settings.limits
    }

    async fn probe(&self) -> Result<(), DeliveryError> {
        requests::probe(&self.bucket).await?;
        match &self.backup {
            Some(backup) if backup.bucket.name != self.bucket.name => requests::probe(&backup.bucket).await,
            _ => Ok(()),
        }
    }

    async fn look(&self, _make: bool, seen: &mut Vec<Look>) {
        look::buckets(self, seen).await;
    }

    async fn stage(&self, cid: CommitId, batch: &Arc<Batch>) -> Result<Staged, DeliveryError> {
        stage::batch(self, cid, batch).await
    }

    async fn stage_extra(
        &self,
        cid: CommitId,
        object: &ExtraObject,
    ) -> Result<(Output, Option<Millis>), DeliveryError> {
        stage::extra(self, cid, object).await
    }

    async fn publish(&self, receipt: &Receipt) -> Result<Published, DeliveryError> {
        publish::receipt(self, receipt).await
    }

    async fn discard(&self, dead: &[Output]) -> Result<(), DeliveryError> {
        publish::discard(self, dead).await
    }

    async fn clear(&self, done: &Receipt) -> Result<(), DeliveryError> {
        publish::clear(self, done).await
    }

    async fn write_incident(&self, cid: CommitId, body: Bytes) -> Result<(), DeliveryError> {
        requests::put_json(&self.bucket, &format!("{INCIDENTS}{cid}.json"), body).await
    }
}

#[cfg(test)]
mod tests;
