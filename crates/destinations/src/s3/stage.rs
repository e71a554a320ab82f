//! `batch -> stage`: records are encoded, parts go up while the next are being encoded, the uploads are left open.
//!
//! One object for each partition, and one for the backup. Encoding runs through the `Offload` seam, in jobs of a few MiB of
//! records each, so that a job never waits and runs as well inline. A large object is made alone; of small ones as many are
//! under way as have 16 MiB of records together, so that thousands do not wait for one another.
//! Many small objects go up together instead ([`staging`]).
//! Whatever fails, the uploads that were opened are aborted: their maker may, until its commit was first sent. Of a batch
//! of many objects one is tried again by itself: a chance of failure that does not harm one object would else let no batch
//! of thousands through.
//! Never: a task of its own; a dropped call stops at once and leaves only open uploads.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use standpipe_convert::{Compression, Encode, EncodeError, Format};
use standpipe_flow::deliver::ExtraObject;
use standpipe_flow::{Batch, CommitId, DeliveryError, Held, Millis, Output, OutputKind, RejectedRecord, Staged};
use tokio::sync::{Semaphore, mpsc};

use super::objects::{self, Job, Object};
use super::publish;
use super::requests::NewObject;
use super::staging::{self, Packer};
use super::upload::Upload;
use super::{Publish, S3};
use crate::object_key::{ObjectName, Of};
use crate::offloaded::offloaded;

/// Objects of one batch under way at once.
const OBJECTS_MAX: usize = 32;
/// Record data of the objects under way, in units: a larger one is under way alone.
const UNITS_MAX: u32 = 256;
/// Bytes in a unit.
const UNIT_BYTES: u64 = 64 << 10;
/// Encoders of one batch at once: each holds a buffer or a row group, whatever the object.
const ENCODERS_MAX: usize = 4;
/// Columns of the encoders of a destination at once, over all batches: one with more is alone. The buffers of a column, empty
/// or not, are about 32 KiB, so that these are 128 MiB, or those of one object.
pub(super) const COLUMNS_MAX: u32 = 4096;
/// Tries of one object of a batch that has several.
const TRIES: u32 = 4;
/// Partitions of one batch, or `partitions.max_active` if that is more. A read has no more plain records; of an aggregate
/// of small ones, which no batch divides, the records of further partitions are rejected, as Firehose does.
const PARTITIONS_MAX: usize = 10_000;

/// What became of the records of an object.
struct EncodedRecords {
    records: u64,
    rejected: Vec<RejectedRecord>,
}

/// What the objects of a batch share while they are staged.
struct Room<'a> {
    tries: u32,
    units: Semaphore,
    encoders: Semaphore,
    /// Columns of an encoder of data.
    columns: u32,
    /// One has failed: no other begins.
    stop: AtomicBool,
    /// Where small objects go, if there are many of them.
    packer: Option<Packer<'a>>,
}

/// An object that is to be staged.
struct Planned {
    object: Object,
    kind: OutputKind,
    key: String,
    /// Few enough record data that the object may be small.
    small: bool,
}

/// What became of one.
#[derive(Default)]
pub(crate) struct StagedObject {
    /// It, and when S3 saw it; none if no record was fit for it.
    pub(crate) output: Option<(Output, Option<Millis>)>,
    pub(crate) rejected: Vec<RejectedRecord>,
}

impl StagedObject {
    /// Adds it to what is staged of its batch.
    pub(crate) fn join(mut self, staged: &mut Staged) {
        staged.rejected.append(&mut self.rejected);
        if let Some((output, created_at)) = self.output {
            staged.outputs.push(output);
            staged.created_at = staged.created_at.into_iter().chain(created_at).min();
        }
    }
}

/// Stages the objects of a batch: all of them, or none that is left open.
pub(super) async fn batch(s3: &S3, cid: CommitId, batch: &Arc<Batch>) -> Result<Staged, DeliveryError> {
    let (planned, rejected) = plan(s3, cid, batch).await?;
    let mut staged = Staged { next_ordinal: planned.len() as u32, rejected, ..Staged::default() };
    let room = Room {
        tries: if planned.len() > 1 { TRIES } else { 1 },
        units: Semaphore::new(UNITS_MAX as usize),
        encoders: Semaphore::new(ENCODERS_MAX),
        columns: columns(s3).await?,
        stop: AtomicBool::new(false),
        packer: packer(s3, cid, &planned),
    };
    let mut failed = None;
    let objects = stream::iter(0..planned.len()).map(|n| try_object(s3, batch, &planned[n], &room));
    let mut objects = std::pin::pin!(objects.buffered(OBJECTS_MAX));
    while let Some(object) = objects.next().await {
        match object {
            Ok(object) => object.join(&mut staged),
            // Those under way go on to their end, so that nothing of them is forgotten; no other begins.
            Err(error) => {
                room.stop.store(true, Ordering::Relaxed);
                failed = Some(publish::graver(failed, error));
            }
        }
    }
    if let Some(packer) = room.packer.as_ref().filter(|_| failed.is_none()) {
        match packer.finish().await {
            Ok(created_at) => staged.created_at = staged.created_at.into_iter().chain(created_at).min(),
            Err(error) => failed = Some(publish::graver(failed, error)),
        }
    }
    let Some(error) = failed else { return Ok(staged) };
    if let Some(packer) = &room.packer {
        staged.outputs.retain(|output| matches!(output.held, Held::Upload { .. }));
        packer.abandon().await;
    }
    if let Err(left) = publish::discard(s3, &staged.outputs).await {
        tracing::warn!(cid = %cid, error = %left, "uploads are left open, the sweeper ends them");
    }
    Err(error)
}

/// The columns that an encoder of data takes of those that there may be.
async fn columns(s3: &S3) -> Result<u32, DeliveryError> {
    let format = s3.settings.format.clone();
    if format.rows().is_none() {
        return Ok(1);
    }
    let columns = offloaded(s3.offload.as_ref(), move || format.width()).await?;
    Ok(columns.clamp(1, COLUMNS_MAX as usize) as u32)
}

/// Small objects are staged together where that is asked for and there are many of them.
fn packer<'a>(s3: &'a S3, cid: CommitId, planned: &[Planned]) -> Option<Packer<'a>> {
    let many = planned.iter().filter(|planned| planned.small).count() > staging::FEW;
    (many && s3.settings.publish == Publish::Put).then(|| Packer::new(s3, cid, s3.random.next()))
}

/// The objects of a batch, with their keys; and the records of partitions that are too many.
async fn plan(
    s3: &S3,
    cid: CommitId,
    batch: &Arc<Batch>,
) -> Result<(Vec<Planned>, Vec<RejectedRecord>), DeliveryError> {
    let (of, limits, backup) = (batch.clone(), s3.settings.limits, s3.backup.is_some());
    let grouped = move || {
        let mut data = objects::of_records(&of, limits.size_bytes);
        let most = PARTITIONS_MAX.max(limits.partitions_max.unwrap_or_default());
        let rejected = objects::reject_beyond(most, &mut data, &of);
        (data, rejected, if backup { objects::of_originals(&of) } else { None })
    };
    let (data, rejected, originals) = offloaded(s3.offload.as_ref(), grouped).await?;
    let data = data.into_iter().map(|object| (object, OutputKind::Data));
    let objects = data.chain(originals.map(|object| (object, OutputKind::Backup)));
    let key = |(ordinal, (object, kind)): (u32, (Object, OutputKind))| {
        let of = Of { oldest_arrival: object.oldest_arrival, output_type: "", partition: object.partition.as_deref() };
        let key = s3.key(cid, kind, (batch.cut_at, ordinal), &of);
        let small = kind == OutputKind::Data && object.bytes < staging::SMALL_BYTES as u64;
        Planned { object, kind, key, small }
    };
    Ok(((0..).zip(objects).map(key).collect(), rejected))
}

/// Stages one object, a few times if it fails for the moment.
async fn try_object(
    s3: &S3,
    batch: &Arc<Batch>,
    planned: &Planned,
    room: &Room<'_>,
) -> Result<StagedObject, DeliveryError> {
    let share = planned.object.bytes.div_ceil(UNIT_BYTES).clamp(1, u64::from(UNITS_MAX)) as u32;
    // It is never closed.
    let _share = room.units.acquire_many(share).await.map_err(|_| again("no room to stage an object"))?;
    let mut tried = 0;
    loop {
        if room.stop.load(Ordering::Relaxed) {
            return Ok(StagedObject::default());
        }
        tried += 1;
        match object(s3, batch, planned, room).await {
            Err(DeliveryError::Retry { after, cause }) if tried < room.tries => {
                tracing::debug!(key = planned.key, tried, cause, "an object could not be staged, will be tried again");
                tokio::time::sleep(s3.pause(tried).max(after.unwrap_or_default())).await;
            }
            staged => return staged,
        }
    }
}

/// Stages one object, once.
async fn object(
    s3: &S3,
    batch: &Arc<Batch>,
    planned: &Planned,
    room: &Room<'_>,
) -> Result<StagedObject, DeliveryError> {
    let (format, compression) = match (planned.kind, &s3.backup) {
        (OutputKind::Backup, Some(backup)) => (&Format::Raw, backup.compression),
        _ => (&s3.settings.format, s3.settings.compression),
    };
    let new = s3.object(planned.kind, &planned.key, format.content_encoding(compression));
    let mut upload = Upload::new(s3, new);
    let (sender, receiver) = mpsc::channel(1);
    // Encoded and uploaded at the same time, in this one task.
    let encoding = async {
        let _encoder = room.encoders.acquire().await.map_err(|_| again("no room to encode an object"))?;
        let columns = if planned.kind == OutputKind::Data { room.columns } else { 1 };
        let _columns = s3.columns.acquire_many(columns).await.map_err(|_| again("no room to encode an object"))?;
        encode(s3, batch, &planned.object, (format, compression, sender)).await
    };
    let packer = room.packer.as_ref().filter(|_| planned.small);
    let taking = async {
        match packer {
            Some(_) => upload.take_unless_below(staging::SMALL_BYTES, receiver).await,
            None => upload.take_parts(VecDeque::new(), receiver).await.map(|()| None),
        }
    };
    match tokio::try_join!(encoding, taking) {
        Ok((encoded, whole)) if encoded.records > 0 => {
            let output = match (packer, whole) {
                (Some(packer), Some(whole)) => (packer.add(new, &whole, encoded.records).await, None),
                _ => upload.output(planned.kind, encoded.records)?,
            };
            if packer.is_some_and(Packer::failed) {
                room.stop.store(true, Ordering::Relaxed);
            }
            Ok(StagedObject { output: Some(output), rejected: encoded.rejected })
        }
        Ok((encoded, _)) => {
            upload.abandon().await;
            Ok(StagedObject { output: None, rejected: encoded.rejected })
        }
        Err(error) => {
            upload.abandon().await;
            Err(error)
        }
    }
}

/// Stages one whole object beside a batch.
pub(super) async fn extra(
    s3: &S3,
    cid: CommitId,
    extra: &ExtraObject,
) -> Result<(Output, Option<Millis>), DeliveryError> {
    let of = Of { oldest_arrival: extra.oldest_arrival, output_type: extra.output_type, partition: None };
    let key = s3.key(cid, extra.kind, (extra.cut_at, extra.ordinal), &of);
    let mut upload = Upload::new(s3, s3.object(extra.kind, &key, None));
    match upload.take_whole(extra.body.clone()).await {
        Ok(()) => upload.output(extra.kind, extra.records),
        Err(error) => {
            upload.abandon().await;
            Err(error)
        }
    }
}

/// Runs the jobs one after the other and passes their parts on. The channel is closed when this ends.
async fn encode(
    s3: &S3,
    batch: &Arc<Batch>,
    object: &Object,
    (format, compression, parts): (&Format, Compression, mpsc::Sender<Bytes>),
) -> Result<EncodedRecords, DeliveryError> {
    let mut rejected = Vec::new();
    // Made in the first job: one of thousands of columns takes its time.
    let mut encoder: Option<Box<dyn Encode>> = None;
    let mut jobs = object.jobs();
    while let Some(job) = jobs.next(batch) {
        let (records, format, made) = (batch.clone(), format.clone(), encoder.take());
        let job = move || encode_job(made.unwrap_or_else(|| format.encoder(compression)), &records, &job);
        let (returned, whole, mut unfit) = offloaded(s3.offload.as_ref(), job).await?.map_err(abandoned)?;
        encoder = Some(returned);
        rejected.append(&mut unfit);
        pass_on(&parts, whole).await?;
    }
    let Some(encoder) = encoder else { return Ok(EncodedRecords { records: 0, rejected }) };
    let encoded = offloaded(s3.offload.as_ref(), move || encoder.finish()).await?.map_err(abandoned)?;
    if encoded.records > 0 {
        pass_on(&parts, encoded.tail).await?;
    }
    Ok(EncodedRecords { records: encoded.records, rejected })
}

async fn pass_on(parts: &mpsc::Sender<Bytes>, whole: Vec<Bytes>) -> Result<(), DeliveryError> {
    for part in whole {
        // The other half of the join ends first only with an error, which is the one reported.
        parts.send(part).await.map_err(|_| again("the upload has ended before its parts"))?;
    }
    Ok(())
}

type JobDone = (Box<dyn Encode>, Vec<Bytes>, Vec<RejectedRecord>);

fn encode_job(mut encoder: Box<dyn Encode>, batch: &Batch, job: &Job) -> Result<JobDone, EncodeError> {
    let mut parts = Vec::new();
    let mut rejected = Vec::new();
    for (lease, record) in job.records(batch) {
        if let Err(unfit) = encoder.push(lease, record) {
            rejected.push(*unfit);
        }
        while let Some(part) = encoder.take()? {
            parts.push(part);
        }
    }
    Ok((encoder, parts, rejected))
}

fn abandoned(error: EncodeError) -> DeliveryError {
    again(&error.to_string())
}

pub(super) fn again(cause: &str) -> DeliveryError {
    DeliveryError::Retry { after: None, cause: cause.to_owned() }
}

impl S3 {
    /// The key of an object. `place`: when the batch was cut, and which of the commit's objects it is.
    fn key(&self, cid: CommitId, kind: OutputKind, (cut_at, ordinal): (Millis, u32), of: &Of<'_>) -> String {
        let (prefix, extension) = match (kind, &self.backup) {
            (OutputKind::Error, _) => (&self.error_prefix, ""),
            (OutputKind::Backup, Some(backup)) => (&backup.prefix, backup.extension.as_str()),
            (OutputKind::Data | OutputKind::Backup, _) => (&self.prefix, self.extension.as_str()),
        };
        let name = ObjectName { pipeline: &self.settings.pipeline, cut_at, cid, ordinal, extension };
        name.key(prefix, prefix.evaluate(of, self.random.as_ref()))
    }

    fn object<'a>(&'a self, kind: OutputKind, key: &'a str, content_encoding: Option<&'static str>) -> NewObject<'a> {
        let bucket = match (kind, &self.backup) {
            (OutputKind::Backup, Some(backup)) => &backup.bucket,
            _ => &self.bucket,
        };
        NewObject { bucket, key, content_encoding, unsigned: self.unsigned }
    }

    /// How long to wait after the `tried`th failure: twice as long each time, with up to a quarter more.
    pub(crate) fn pause(&self, tried: u32) -> Duration {
        let pause = 100_u64 << tried.min(6);
        Duration::from_millis(pause + self.random.below(1 + pause / 4))
    }
}
