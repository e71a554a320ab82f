//! `batch -> stage` and `commit -> publish` of many small objects: their bytes go up together in a few staging objects,
//! and from there each under its key.
//!
//! A staging object holds 8 MiB at most, is written once under a name that no other attempt has, and lies where nobody
//! looks for records ([`PREFIX`]). To publish, ranges of it are read and each object is written where nothing stands yet:
//! what stands there is ours, as the key holds the commit's id. At most two reads of a receipt are in memory.
//! Invariants: a slice is the bytes that were encoded; a staging object of a COMMITTED receipt is never deleted by us.
//! Never: overwrites anything; reads or deletes an object that is no staging object, whatever a receipt says.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use standpipe_flow::{CommitId, DeliveryError, Held, Millis, Output, OutputKind, Receipt};
use tokio::sync::Semaphore;

use super::S3;
use super::checksum::Sum;
use super::plain;
use super::publish::{self, Found};
use super::requests::{Bucket, NewObject};
use super::stage::again;

/// Where staging objects lie, in the bucket of the objects that they become.
pub(super) const PREFIX: &str = "standpipe-staging/";
/// An object of fewer bytes is small: S3's own minimum of a part.
pub(super) const SMALL_BYTES: usize = 5 << 20;
/// So many small objects of one commit have an upload each, and more of them are staged together.
pub(super) const FEW: usize = 16;
/// Bytes of a staging object, and of one read.
const OBJECT_BYTES: usize = 8 << 20;
/// Tries of writing one.
const TRIES: u32 = 4;
/// Reads of one receipt that are in memory at once.
pub(super) const READS_MAX: usize = 2;
/// Writes under way at once for one read.
const WRITES_MAX: usize = 16;
/// Letters of a commit id.
const CID_CHARS: usize = 26;

/// The commit whose staging object this is; `None` for any other key.
pub(super) fn cid_of(key: &str) -> Option<CommitId> {
    let name = key.strip_prefix(PREFIX)?;
    if name.get(CID_CHARS..)?.starts_with('-') { CommitId::parse(name.get(..CID_CHARS)?) } else { None }
}

/// Fills the staging objects of one attempt.
pub(super) struct Packer<'a> {
    s3: &'a S3,
    /// What their keys begin with.
    name: String,
    /// The same for the staging objects and all that is in them: a server that takes it of those takes it of these.
    sum: Sum,
    packing: Mutex<Packing>,
}

#[derive(Default)]
struct Packing {
    /// What is in the staging object that is being filled.
    bytes: BytesMut,
    number: u32,
    /// Those that were sent, whatever was answered.
    sent: Vec<String>,
    created_at: Option<Millis>,
    failed: Option<DeliveryError>,
}

impl<'a> Packer<'a> {
    /// `nonce` tells apart the attempts of one commit.
    pub(super) fn new(s3: &'a S3, cid: CommitId, nonce: u64) -> Self {
        let name = format!("{PREFIX}{cid}-{nonce:016x}");
        Self { s3, name, sum: s3.sum(), packing: Mutex::default() }
    }

    fn packing(&self) -> MutexGuard<'_, Packing> {
        self.packing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, number: u32) -> String {
        format!("{}-{number}", self.name)
    }

    /// Puts an object into a staging object, and sends the one before if that is full. Whether that went well is said at the
    /// end, as what fails then are other objects than this one.
    pub(super) async fn add(&self, new: NewObject<'_>, body: &Bytes, records: u64) -> Output {
        let (object, offset, full) = {
            let mut packing = self.packing();
            let full = packing.bytes.len() + body.len() > OBJECT_BYTES;
            let full = full.then(|| self.next(&mut packing));
            let offset = packing.bytes.len() as u64;
            packing.bytes.extend_from_slice(body);
            (self.key(packing.number), offset, full)
        };
        if let Some((key, bytes)) = full {
            self.send(&key, bytes).await;
        }
        Output {
            kind: OutputKind::Data,
            bucket: new.bucket.name.clone(),
            key: new.key.to_owned(),
            held: Held::Slice { object, offset, encoding: new.content_encoding.map(str::to_owned) },
            size: body.len() as u64,
            checksum: self.sum.checksum(&self.sum.of(body)),
            records,
        }
    }

    /// The staging object that was being filled; the next one begins.
    fn next(&self, packing: &mut Packing) -> (String, Bytes) {
        let bytes = std::mem::take(&mut packing.bytes).freeze();
        let key = self.key(packing.number);
        packing.number += 1;
        packing.sent.push(key.clone());
        (key, bytes)
    }

    async fn send(&self, key: &str, bytes: Bytes) {
        let sent = self.try_to_send(key, bytes).await;
        let mut packing = self.packing();
        match sent {
            Ok(date) => packing.created_at = packing.created_at.into_iter().chain(date).min(),
            Err(error) => packing.failed = Some(publish::graver(packing.failed.take(), error)),
        }
    }

    async fn try_to_send(&self, key: &str, bytes: Bytes) -> Result<Option<Millis>, DeliveryError> {
        let new = NewObject { bucket: &self.s3.bucket, key, content_encoding: None, unsigned: self.s3.unsigned };
        let checksum = self.sum.checksum(&self.sum.of(&bytes));
        let mut tried = 0;
        loop {
            tried += 1;
            match plain::put_new(new, bytes.clone(), &checksum).await {
                Ok(date) => return Ok(date),
                // Every sum of the attempt is of the other kind: the next attempt has this one.
                Err(None) => return Err(self.s3.fall_back(new.bucket)),
                Err(Some(DeliveryError::Retry { after, cause })) if tried < TRIES => {
                    tracing::debug!(key, tried, cause, "a staging object could not be written, will be tried again");
                    tokio::time::sleep(self.s3.pause(tried).max(after.unwrap_or_default())).await;
                }
                Err(Some(error)) => return Err(error),
            }
        }
    }

    /// Whether one could not be written: the attempt has failed.
    pub(super) fn failed(&self) -> bool {
        self.packing().failed.is_some()
    }

    /// Sends the last one. When the first was written, or why they are not all there.
    pub(super) async fn finish(&self) -> Result<Option<Millis>, DeliveryError> {
        let last = {
            let mut packing = self.packing();
            let needed = packing.failed.is_none() && !packing.bytes.is_empty();
            needed.then(|| self.next(&mut packing))
        };
        if let Some((key, bytes)) = last {
            self.send(&key, bytes).await;
        }
        let mut packing = self.packing();
        packing.failed.take().map_or(Ok(packing.created_at), Err)
    }

    /// Deletes what was sent, as far as the server answers; what is left the sweeper finds.
    pub(super) async fn abandon(&self) {
        let sent = std::mem::take(&mut self.packing().sent);
        for key in sent {
            if let Err(error) = plain::delete(&self.s3.bucket, &key).await {
                tracing::warn!(key, error = %error, "a staging object is left, the sweeper ends it");
            }
        }
    }
}

/// What one read of a staging object is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Load<'a> {
    bucket: &'a str,
    pub(super) object: &'a str,
    pub(super) range: Range<u64>,
    /// Each with where it begins in the staging object.
    pub(super) slices: Vec<(&'a Output, u64)>,
}

/// The reads that bring all slices among these outputs: few, and none much longer than a staging object of ours.
pub(super) fn loads<'a>(outputs: impl IntoIterator<Item = &'a Output>) -> Vec<Load<'a>> {
    let mut slices: BTreeMap<(&str, &str, u64, &str), &Output> = BTreeMap::new();
    for output in outputs {
        if let Held::Slice { object, offset, .. } = &output.held {
            slices.insert((&output.bucket, object, *offset, &output.key), output);
        }
    }
    let mut loads: Vec<Load<'a>> = Vec::new();
    for ((bucket, object, offset, _), output) in slices {
        let end = offset.saturating_add(output.size);
        let same = |load: &&mut Load<'a>| (load.bucket, load.object) == (bucket, object);
        let fits = |load: &&mut Load<'a>| end.max(load.range.end) - load.range.start <= OBJECT_BYTES as u64;
        match loads.last_mut().filter(same).filter(fits) {
            Some(load) => {
                load.range.end = end.max(load.range.end);
                load.slices.push((output, offset));
            }
            None => loads.push(Load { bucket, object, range: offset..end, slices: vec![(output, offset)] }),
        }
    }
    loads
}

/// Publishes what one read brings. `reads` bounds the reads of the receipt.
pub(super) async fn publish<'a>(
    s3: &S3,
    receipt: &Receipt,
    load: &Load<'a>,
    reads: &Semaphore,
) -> Vec<(&'a Output, Result<Found, DeliveryError>)> {
    let failed = |error: DeliveryError| load.slices.iter().map(|(output, _)| (*output, Err(error.clone()))).collect();
    // It is never closed.
    let Ok(_read) = reads.acquire().await else { return failed(again("no room to read a staging object")) };
    let bucket = match s3.bucket_of(load.bucket) {
        Ok(bucket) => bucket,
        Err(error) => return failed(error),
    };
    let read = if load.range.is_empty() {
        Ok(Some(Bytes::new()))
    } else {
        plain::get(bucket, load.object, load.range.clone()).await
    };
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(error) => return failed(error),
    };
    let each = stream::iter(0..load.slices.len()).map(|n| {
        let (output, offset) = load.slices[n];
        let start = (offset - load.range.start) as usize;
        let bytes = bytes.as_ref().map(|bytes| bytes.slice(start..start + output.size as usize));
        async move {
            let found = match bytes {
                Some(bytes) => write(s3, bucket, output, bytes).await,
                None => publish::look_for(s3, &bucket.client, receipt, output).await,
            };
            (output, found)
        }
    });
    each.buffered(WRITES_MAX).collect().await
}

async fn write(s3: &S3, bucket: &Bucket, output: &Output, bytes: Bytes) -> Result<Found, DeliveryError> {
    let Held::Slice { encoding, .. } = &output.held else { return Err(again("no slice of a staging object")) };
    let new = NewObject { bucket, key: &output.key, content_encoding: encoding.as_deref(), unsigned: s3.unsigned };
    match plain::put_new(new, bytes, &output.checksum).await {
        Ok(_) => Ok(Found::Visible),
        Err(error) => Err(error.unwrap_or_else(|| DeliveryError::Halt {
            cause: "PutObject: the server refuses the sum that it took when the object was staged".to_owned(),
        })),
    }
}

/// Refuses a slice of what is no staging object: a receipt is data from outside, and what it names would be deleted.
pub(super) fn known(output: &Output) -> Result<(), DeliveryError> {
    match &output.held {
        Held::Slice { object, .. } if cid_of(object).is_none() => {
            Err(DeliveryError::Halt { cause: format!("a slice of {object:?}, which is no staging object") })
        }
        _ => Ok(()),
    }
}
