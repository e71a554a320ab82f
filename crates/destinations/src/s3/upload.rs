//! `batch -> stage`: one object on its way, as a multipart upload that is left open.
//!
//! The upload is opened when its first part is there: an object of which nothing can be encoded opens none. At most four
//! parts are in memory: one in the making, one waiting, two on their way.
//! Never: completes what it has opened.

use std::collections::VecDeque;

use bytes::Bytes;
use crc_fast::Digest;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use standpipe_convert::PART_BYTES;
use standpipe_flow::{DeliveryError, Held, Millis, Output, OutputKind, Part};
use tokio::sync::mpsc;

use super::S3;
use super::checksum::Sum;
use super::requests::{self, NewObject, NewPart, Opened};
use super::stage::again;

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

async fn next_of(first: &mut VecDeque<Bytes>, parts: &mut mpsc::Receiver<Bytes>) -> Option<Bytes> {
    match first.pop_front() {
        Some(part) => Some(part),
        None => parts.recv().await,
    }
}

/// What is known of an upload.
pub(super) struct Upload<'a> {
    s3: &'a S3,
    object: NewObject<'a>,
    opened: Option<Opened>,
    parts: Vec<Part>,
    numbered: u32,
    size: u64,
    digest: Option<Digest>,
}

impl<'a> Upload<'a> {
    pub(super) fn new(s3: &'a S3, object: NewObject<'a>) -> Self {
        Self { s3, object, opened: None, parts: Vec::new(), numbered: 0, size: 0, digest: None }
    }

    /// Opens the upload; with CRC-32 when the server refuses the better sum.
    async fn open(&mut self) -> Result<(), DeliveryError> {
        let opened = match requests::open(self.object, self.s3.sum()).await {
            Err(None) => {
                self.s3.fall_back(self.object.bucket);
                requests::open(self.object, Sum::Crc32).await
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
        let (object, opened) = (self.object, opened.clone());
        Ok(async move { requests::upload_part(object, &opened, part).await })
    }

    /// Uploads a whole body, which may be empty.
    pub(super) async fn take_whole(&mut self, mut body: Bytes) -> Result<(), DeliveryError> {
        self.open().await?;
        loop {
            let part = body.split_to(body.len().min(PART_BYTES));
            let part = SummedPart::new(self.sum()?, part);
            let sent = self.next_part(part)?.await?;
            self.parts.push(sent);
            if body.is_empty() {
                return Ok(());
            }
        }
    }

    /// The whole object, if that has fewer bytes than these: nothing is opened for it. Otherwise uploads it.
    pub(super) async fn take_unless_below(
        &mut self,
        small: usize,
        mut parts: mpsc::Receiver<Bytes>,
    ) -> Result<Option<Bytes>, DeliveryError> {
        match (parts.recv().await, parts.recv().await) {
            (Some(whole), None) if whole.len() < small => Ok(Some(whole)),
            (first, second) => {
                self.take_parts(first.into_iter().chain(second).collect(), parts).await?;
                Ok(None)
            }
        }
    }

    /// Uploads these parts, and others as they come, a few at a time, until there are no more.
    pub(super) async fn take_parts(
        &mut self,
        mut first: VecDeque<Bytes>,
        mut parts: mpsc::Receiver<Bytes>,
    ) -> Result<(), DeliveryError> {
        let mut on_their_way = FuturesOrdered::new();
        let mut more = true;
        loop {
            tokio::select! {
                // Answers first: they make room, and an error ends everything.
                biased;
                Some(sent) = on_their_way.next(), if !on_their_way.is_empty() => self.parts.push(sent?),
                part = next_of(&mut first, &mut parts), if more && on_their_way.len() < UPLOADS_MAX => {
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
    pub(super) fn output(self, kind: OutputKind, records: u64) -> Result<(Output, Option<Millis>), DeliveryError> {
        let (Some(opened), Some(digest)) = (self.opened, self.digest) else {
            return Err(again("no upload is open"));
        };
        let output = Output {
            kind,
            bucket: self.object.bucket.name.clone(),
            key: self.object.key.to_owned(),
            held: Held::Upload { id: opened.upload_id, parts: self.parts },
            size: self.size,
            checksum: opened.sum.checksum(&digest),
            records,
        };
        Ok((output, opened.date))
    }

    /// Throws it away, as far as the server answers; what is left the sweeper finds.
    pub(super) async fn abandon(&self) {
        let Some(opened) = &self.opened else { return };
        let (bucket, key) = (self.object.bucket, self.object.key);
        if let Err(error) = requests::abort(bucket, key, &opened.upload_id).await {
            tracing::warn!(bucket = bucket.name, key, error = %error, "an upload is left open, the sweeper ends it");
        }
    }
}
