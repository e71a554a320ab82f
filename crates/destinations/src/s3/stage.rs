//! `batch -> stage`: records are encoded, parts go up while the next are being encoded, the upload is left open.
//!
//! Encoding runs through the `Offload` seam, in jobs of a few MiB of records each, so that a job never waits and runs as
//! well inline. At most four parts are in memory: one in the making, one waiting, two on their way. The upload is opened
//! when its first part is there: a batch of which nothing can be encoded opens none.
//! Whatever fails, the upload that was opened is aborted: its maker may, until its commit was first sent.
//! Never: a task of its own; a dropped call stops at once and leaves only an open upload.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use crc_fast::Digest;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use standpipe_convert::{Encode, EncodeError, PART_BYTES};
use standpipe_flow::deliver::ExtraObject;
use standpipe_flow::offload::Offload;
use standpipe_flow::{
    Batch, BatchShard, CommitId, DeliveryError, LeaseKey, Millis, Output, OutputKind, Part, Record, RejectedRecord,
    Staged,
};
use tokio::sync::{mpsc, oneshot};

use super::S3;
use super::checksum::Sum;
use super::requests::{self, NewObject, NewPart, Opened};
use crate::object_key::ObjectName;

/// Record data of one encoding job: large enough that handing it over costs nothing, small enough to yield few parts.
const JOB_BYTES: usize = 4 << 20;
/// Records of one encoding job, for those with little data.
const JOB_RECORDS: usize = 16 << 10;
/// Parts on their way at once: one is sent while the other's answer is awaited.
const UPLOADS_MAX: usize = 2;

/// A part with its sum.
struct SummedPart {
    bytes: Bytes,
    digest: Digest,
}

impl SummedPart {
    fn new(sum: Sum, bytes: Bytes) -> Self {
        Self { digest: sum.of(&bytes), bytes }
    }
}

/// What became of the records of a batch.
struct EncodedBatch {
    records: u64,
    rejected: Vec<RejectedRecord>,
}

/// Stages the one data object of a batch.
pub(super) async fn batch(s3: &S3, cid: CommitId, batch: &Arc<Batch>) -> Result<Staged, DeliveryError> {
    let Some(oldest_arrival) = batch.oldest_arrival() else {
        return Ok(Staged::default());
    };
    let prefix = s3.prefix.evaluate(oldest_arrival, "", s3.random.as_ref());
    let name =
        ObjectName { pipeline: &s3.settings.pipeline, cut_at: batch.cut_at, cid, ordinal: 0, extension: &s3.extension };
    let key = name.key(&s3.prefix, prefix);
    let object =
        NewObject { content_encoding: s3.settings.format.content_encoding(s3.settings.compression), ..s3.object(&key) };
    let mut upload = Upload::new(s3, object);
    let staged = upload_batch(s3, &mut upload, batch).await;
    match staged {
        Ok(encoded) if encoded.records > 0 => {
            let (output, created_at) = upload.output(OutputKind::Data, encoded.records)?;
            Ok(Staged { outputs: vec![output], rejected: encoded.rejected, created_at })
        }
        Ok(encoded) => {
            upload.abandon().await;
            Ok(Staged { rejected: encoded.rejected, ..Staged::default() })
        }
        Err(error) => {
            upload.abandon().await;
            Err(error)
        }
    }
}

/// Stages one whole object beside it.
pub(super) async fn extra(
    s3: &S3,
    cid: CommitId,
    extra: &ExtraObject,
) -> Result<(Output, Option<Millis>), DeliveryError> {
    let (prefix, extension) = match extra.kind {
        OutputKind::Error => (&s3.error_prefix, ""),
        OutputKind::Data | OutputKind::Backup => (&s3.prefix, s3.extension.as_str()),
    };
    let evaluated = prefix.evaluate(extra.oldest_arrival, extra.output_type, s3.random.as_ref());
    let (cut_at, ordinal) = (extra.cut_at, extra.ordinal);
    let name = ObjectName { pipeline: &s3.settings.pipeline, cut_at, cid, ordinal, extension };
    let key = name.key(prefix, evaluated);
    let mut upload = Upload::new(s3, s3.object(&key));
    match upload_body(&mut upload, extra.body.clone()).await {
        Ok(()) => upload.output(extra.kind, extra.records),
        Err(error) => {
            upload.abandon().await;
            Err(error)
        }
    }
}

async fn upload_body(upload: &mut Upload<'_>, mut body: Bytes) -> Result<(), DeliveryError> {
    upload.open().await?;
    loop {
        let part = body.split_to(body.len().min(PART_BYTES));
        let part = SummedPart::new(upload.sum()?, part);
        let sent = upload.next_part(part)?.await?;
        upload.parts.push(sent);
        if body.is_empty() {
            return Ok(());
        }
    }
}

/// Encodes and uploads at the same time, in this one task.
async fn upload_batch(s3: &S3, upload: &mut Upload<'_>, batch: &Arc<Batch>) -> Result<EncodedBatch, DeliveryError> {
    let (sender, receiver) = mpsc::channel(1);
    let (encoded, ()) = tokio::try_join!(encode(s3, batch, sender), upload.take_parts(receiver))?;
    Ok(encoded)
}

/// Runs the jobs one after the other and passes their parts on. The channel is closed when this ends.
async fn encode(s3: &S3, batch: &Arc<Batch>, parts: mpsc::Sender<Bytes>) -> Result<EncodedBatch, DeliveryError> {
    let mut rejected = Vec::new();
    let mut encoder = s3.settings.format.encoder(s3.settings.compression);
    let mut jobs = Jobs::new(batch);
    while let Some(job) = jobs.next() {
        let records = batch.clone();
        let done = offloaded(s3.offload.as_ref(), move || encode_job(encoder, &records, &job)).await?;
        let (returned, whole, mut unfit) = done.map_err(abandoned)?;
        encoder = returned;
        rejected.append(&mut unfit);
        pass_on(&parts, whole).await?;
    }
    let encoded = offloaded(s3.offload.as_ref(), move || encoder.finish()).await?.map_err(abandoned)?;
    if encoded.records > 0 {
        pass_on(&parts, encoded.tail).await?;
    }
    Ok(EncodedBatch { records: encoded.records, rejected })
}

async fn pass_on(parts: &mpsc::Sender<Bytes>, whole: Vec<Bytes>) -> Result<(), DeliveryError> {
    for part in whole {
        // The other half of the join ends first only with an error, which is the one reported.
        parts.send(part).await.map_err(|_| again("the upload has ended before its parts"))?;
    }
    Ok(())
}

type JobDone = (Box<dyn Encode>, Vec<Bytes>, Vec<RejectedRecord>);

fn encode_job(mut encoder: Box<dyn Encode>, batch: &Batch, job: &[Piece]) -> Result<JobDone, EncodeError> {
    let mut parts = Vec::new();
    let mut rejected = Vec::new();
    for (lease, record) in job.iter().flat_map(|piece| piece.records(batch)) {
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

fn again(cause: &str) -> DeliveryError {
    DeliveryError::Retry { after: None, cause: cause.to_owned() }
}

/// Runs `work` through the seam and waits for it.
async fn offloaded<T: Send + 'static>(
    offload: &dyn Offload,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, DeliveryError> {
    let (sender, receiver) = oneshot::channel();
    offload.run(Box::new(move || {
        // Nobody waits any more when the call was dropped.
        let _ = sender.send(work());
    }));
    receiver.await.map_err(|_| again("an encoding job ended without its result"))
}

/// Records that follow each other in one chunk of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Piece {
    shard: usize,
    chunk: usize,
    records: Range<usize>,
}

impl Piece {
    fn records<'a>(&self, batch: &'a Batch) -> impl Iterator<Item = (&'a LeaseKey, &'a Record)> + use<'a> {
        let shard = &batch.shards[self.shard];
        let lease = &shard.range.fence.lease;
        shard.chunks[self.chunk].records[self.records.clone()].iter().map(move |record| (lease, record))
    }
}

/// Cuts a batch's records into jobs, in order. A job names its records; the batch is shared, and nothing of it copied.
struct Jobs<'a> {
    shards: &'a [BatchShard],
    shard: usize,
    chunk: usize,
    record: usize,
}

impl<'a> Jobs<'a> {
    fn new(batch: &'a Batch) -> Self {
        Self { shards: &batch.shards, shard: 0, chunk: 0, record: 0 }
    }

    fn next(&mut self) -> Option<Vec<Piece>> {
        let mut job = Vec::new();
        let (mut bytes, mut records) = (0, 0);
        while bytes < JOB_BYTES && records < JOB_RECORDS {
            let Some(shard) = self.shards.get(self.shard) else { break };
            let Some(chunk) = shard.chunks.get(self.chunk) else {
                (self.shard, self.chunk, self.record) = (self.shard + 1, 0, 0);
                continue;
            };
            let rest = &chunk.records[self.record..];
            let fits = |record: &&Record| {
                let fits = bytes < JOB_BYTES && records < JOB_RECORDS;
                bytes += record.data.len();
                records += usize::from(fits);
                fits
            };
            let end = self.record + rest.iter().take_while(fits).count();
            if end > self.record {
                job.push(Piece { shard: self.shard, chunk: self.chunk, records: self.record..end });
            }
            self.record = end;
            if end == chunk.records.len() {
                (self.chunk, self.record) = (self.chunk + 1, 0);
            }
        }
        (!job.is_empty()).then_some(job)
    }
}

/// One object on its way: what is known of its upload.
struct Upload<'a> {
    s3: &'a S3,
    object: NewObject<'a>,
    opened: Option<Opened>,
    parts: Vec<Part>,
    numbered: u32,
    size: u64,
    digest: Option<Digest>,
}

impl<'a> Upload<'a> {
    fn new(s3: &'a S3, object: NewObject<'a>) -> Self {
        Self { s3, object, opened: None, parts: Vec::new(), numbered: 0, size: 0, digest: None }
    }

    /// Opens the upload; with CRC-32 when the server refuses the better sum.
    async fn open(&mut self) -> Result<(), DeliveryError> {
        let client = &self.s3.client;
        let opened = match requests::open(client, self.object, self.s3.sum()).await {
            Err(None) => {
                self.s3.crc32.store(true, Ordering::Relaxed);
                tracing::info!(bucket = self.object.bucket, "the server refuses CRC-64/NVME, falling back to CRC-32");
                requests::open(client, self.object, Sum::Crc32).await
            }
            opened => opened,
        };
        let opened = opened.map_err(|error| error.unwrap_or_else(|| again("CreateMultipartUpload: no known sum")))?;
        self.digest = Some(opened.sum.start());
        self.opened = Some(opened);
        Ok(())
    }

    fn sum(&self) -> Result<Sum, DeliveryError> {
        self.opened.as_ref().map(|opened| opened.sum).ok_or_else(|| again("no upload is open"))
    }

    /// Counts a part in and makes its request.
    fn next_part(
        &mut self,
        part: SummedPart,
    ) -> Result<impl Future<Output = Result<Part, DeliveryError>> + Send + use<'a>, DeliveryError> {
        let (Some(opened), Some(digest)) = (&self.opened, &mut self.digest) else {
            return Err(again("no upload is open"));
        };
        digest.combine(&part.digest);
        self.numbered += 1;
        self.size += part.bytes.len() as u64;
        let sum = opened.sum.header(&part.digest);
        let part = NewPart { number: self.numbered, bytes: part.bytes, sum };
        let (client, object, opened) = (&self.s3.client, self.object, opened.clone());
        Ok(async move { requests::upload_part(client, object, &opened, part).await })
    }

    /// Uploads parts as they come, a few at a time, until there are no more.
    async fn take_parts(&mut self, mut parts: mpsc::Receiver<Bytes>) -> Result<(), DeliveryError> {
        let mut on_their_way = FuturesOrdered::new();
        let mut more = true;
        loop {
            tokio::select! {
                // Answers first: they make room, and an error ends everything.
                biased;
                Some(sent) = on_their_way.next(), if !on_their_way.is_empty() => self.parts.push(sent?),
                part = parts.recv(), if more && on_their_way.len() < UPLOADS_MAX => {
                    let Some(bytes) = part else {
                        more = false;
                        continue;
                    };
                    if self.opened.is_none() {
                        self.open().await?;
                    }
                    let part = SummedPart::new(self.sum()?, bytes);
                    on_their_way.push_back(self.next_part(part)?);
                }
                else => return Ok(()),
            }
        }
    }

    /// What the receipt says of it.
    fn output(self, kind: OutputKind, records: u64) -> Result<(Output, Option<Millis>), DeliveryError> {
        let (Some(opened), Some(digest)) = (self.opened, self.digest) else {
            return Err(again("no upload is open"));
        };
        let output = Output {
            kind,
            bucket: self.object.bucket.to_owned(),
            key: self.object.key.to_owned(),
            upload_id: opened.upload_id,
            parts: self.parts,
            size: self.size,
            checksum: opened.sum.checksum(&digest),
            records,
        };
        Ok((output, opened.date))
    }

    /// Throws it away, as far as the server answers; what is left the sweeper finds.
    async fn abandon(&self) {
        let Some(opened) = &self.opened else { return };
        let (bucket, key) = (self.object.bucket, self.object.key);
        if let Err(error) = requests::abort(&self.s3.client, bucket, key, &opened.upload_id).await {
            tracing::warn!(bucket, key, error = %error, "an upload is left open, the sweeper ends it");
        }
    }
}

impl S3 {
    fn object<'a>(&'a self, key: &'a str) -> NewObject<'a> {
        NewObject {
            bucket: &self.settings.bucket,
            key,
            content_encoding: None,
            kms: self.settings.kms.as_deref(),
            unsigned: self.unsigned,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use standpipe_flow::{Chunk, SequenceNumber, conformance};

    use super::*;

    /// Shards of chunks of records of these sizes, numbered through.
    fn batch(sizes: &[Vec<Vec<usize>>]) -> Batch {
        let template = conformance::batch(1);
        let mut number = 0;
        let mut record = |size: &usize| {
            number += 1;
            let data = Bytes::from(vec![0; *size]);
            Record { data, sequence: SequenceNumber::from(number), ..template.shards[0].chunks[0].records[0].clone() }
        };
        let mut shard = |(index, chunks): (usize, &Vec<Vec<usize>>)| {
            let mut shard = template.shards[0].clone();
            shard.range.fence.lease = LeaseKey::new(format!("shard-{index}"));
            let empty = Chunk { records: Vec::new(), ..shard.chunks[0].clone() };
            let chunk =
                |sizes: &Vec<usize>| Chunk { records: sizes.iter().map(&mut record).collect(), ..empty.clone() };
            shard.chunks = chunks.iter().map(chunk).collect();
            shard
        };
        let shards = sizes.iter().enumerate().map(&mut shard).collect();
        Batch { shards, ..Arc::unwrap_or_clone(conformance::batch(0)) }
    }

    fn sizes() -> impl Strategy<Value = Vec<Vec<Vec<usize>>>> {
        let size = prop_oneof![0..10usize, Just(JOB_BYTES / 3), Just(JOB_BYTES), Just(JOB_BYTES + 1)];
        let chunk = proptest::collection::vec(size, 0..6);
        proptest::collection::vec(proptest::collection::vec(chunk, 0..3), 0..4)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn jobs_hold_every_record_once_in_order_with_its_lease(sizes in sizes()) {
            let batch = batch(&sizes);
            let mut jobs = Jobs::new(&batch);
            let mut found = Vec::new();
            while let Some(job) = jobs.next() {
                let records: Vec<_> = job.iter().flat_map(|piece| piece.records(&batch)).collect();
                let bytes: usize = records.iter().map(|(_, record)| record.data.len()).sum();
                let last = records.last().map_or(0, |(_, record)| record.data.len());
                prop_assert!(bytes - last < JOB_BYTES, "a job ends with the record that fills it");
                found.extend(records);
            }
            prop_assert!(found.into_iter().eq(batch.records_with_lease()));
            prop_assert!(jobs.next().is_none());
        }
    }

    #[test]
    fn records_without_data_are_bounded_by_number() {
        let batch = batch(&[vec![vec![0; JOB_RECORDS + 1]]]);
        let mut jobs = Jobs::new(&batch);
        let lengths: Vec<usize> = std::iter::from_fn(|| jobs.next()).map(|job| job[0].records.len()).collect();
        assert_eq!(lengths, [JOB_RECORDS, 1]);
    }
}
