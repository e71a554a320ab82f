//! `batch -> stage`: records become objects in the staging bucket, several of them where there are many, so that the
//! slices of the warehouse load at the same time.
//!
//! An object is encoded in one job and written in one PUT, two at a time: each is in memory whole, and is no larger than 16
//! MiB of records. A record that COPY could not read at all is rejected here, one by one: in an object it would fail the
//! load of all.
//! Never: an object that COPY would find by itself; only a manifest names them.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use serde::de::IgnoredAny;
use standpipe_convert::{EncodeError, encode_all};
use standpipe_flow::{
    Batch, CommitId, DeliveryError, Destination, Held, Millis, Output, OutputKind, Record, RejectedRecord, Staged,
};

use super::Redshift;
use crate::object_key::{ObjectName, Of};
use crate::offloaded::offloaded;
use crate::s3::{StagedObject, Whole};

/// Record data of one object.
const OBJECT_BYTES: u64 = 16 << 20;
/// Objects of one batch under way at once.
const OBJECTS_MAX: usize = 2;
/// Tries of one object's PUT.
const TRIES: u32 = 4;
/// Bytes of one JSON object: Amazon Redshift, "COPY from JSON and Avro".
const JSON_BYTES_MAX: usize = 4 << 20;
/// `error-output-type` of records that are no rows. Firehose has none for Redshift.
const REDSHIFT_FAILED: &str = "redshift-failed";
/// A record that COPY cannot read.
const INVALID: &str = "Redshift.InvalidRecord";

/// Stages a batch: all of it, or nothing that is left behind.
pub(super) async fn batch(redshift: &Redshift, cid: CommitId, batch: &Arc<Batch>) -> Result<Staged, DeliveryError> {
    let pieces = pieces(batch);
    let mut staged = Staged { next_ordinal: pieces.len() as u32 + 1, ..Staged::default() };
    let mut failed = None;
    let objects = (1..).zip(pieces).map(|(ordinal, piece)| object(redshift, (cid, ordinal), batch, piece));
    let mut objects = std::pin::pin!(stream::iter(objects).buffered(OBJECTS_MAX));
    while let Some(object) = objects.next().await {
        match object {
            Ok(object) => object.join(&mut staged),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    if failed.is_none() {
        match back_up(redshift, cid, batch).await {
            Ok(backup) => {
                staged.outputs.extend(backup.outputs);
                staged.created_at = staged.created_at.into_iter().chain(backup.created_at).min();
            }
            Err(error) => failed = Some(error),
        }
    }
    if staged.outputs.is_empty() && staged.rejected.is_empty() {
        staged.next_ordinal = 0;
    }
    let Some(error) = failed else { return Ok(staged) };
    if let Err(left) = redshift.discard(&staged.outputs).await {
        tracing::warn!(cid = %cid, error = %left, "staged objects are left in the bucket");
    }
    Err(error)
}

/// Which records are in which object: ranges of the batch's records, in order.
fn pieces(batch: &Batch) -> Vec<Range<usize>> {
    let mut pieces: Vec<Range<usize>> = Vec::new();
    let mut bytes = OBJECT_BYTES;
    for (index, record) in batch.records().enumerate() {
        if bytes >= OBJECT_BYTES {
            pieces.push(index..index);
            bytes = 0;
        }
        bytes += record.data.len() as u64;
        if let Some(piece) = pieces.last_mut() {
            piece.end = index + 1;
        }
    }
    pieces
}

/// The source records as they were read, if they were kept: an object of the destination's own S3.
async fn back_up(redshift: &Redshift, cid: CommitId, batch: &Arc<Batch>) -> Result<Staged, DeliveryError> {
    if batch.originals().next().is_none() {
        return Ok(Staged::default());
    }
    let mut kept = Batch::clone(batch);
    kept.shards.iter_mut().flat_map(|shard| &mut shard.chunks).for_each(|chunk| chunk.records = Vec::new());
    redshift.s3.stage(cid, &Arc::new(kept)).await
}

/// Encodes and writes one object.
async fn object(
    redshift: &Redshift,
    (cid, ordinal): (CommitId, u32),
    batch: &Arc<Batch>,
    piece: Range<usize>,
) -> Result<StagedObject, DeliveryError> {
    let encoded = encoded(redshift, batch, piece).await?;
    let Encoded { body, records, oldest_arrival, rejected } = encoded;
    if records == 0 {
        return Ok(StagedObject { output: None, rejected });
    }
    let of = Of { oldest_arrival, output_type: "", partition: None };
    let name = ObjectName {
        pipeline: &redshift.settings.pipeline,
        cut_at: batch.cut_at,
        cid,
        ordinal,
        extension: redshift.extension,
    };
    let key = name.key(&redshift.prefix, redshift.prefix.evaluate(&of, redshift.random.as_ref()));
    let size = body.len() as u64;
    let (checksum, created_at) = put(redshift, Whole { key: key.clone(), body, once: false }).await?;
    let output = Output {
        kind: OutputKind::Data,
        bucket: redshift.s3.bucket_name().to_owned(),
        key,
        held: Held::Object,
        size,
        checksum,
        records,
    };
    Ok(StagedObject { output: Some((output, created_at)), rejected })
}

/// One PUT, a few times if it fails for the moment: the others of the batch would else go up again too.
async fn put(redshift: &Redshift, whole: Whole) -> Result<(standpipe_flow::Checksum, Option<Millis>), DeliveryError> {
    let mut tried = 0;
    loop {
        tried += 1;
        match redshift.s3.put_whole(whole.clone()).await {
            Err(DeliveryError::Retry { after, .. }) if tried < TRIES => {
                tokio::time::sleep(redshift.s3.pause(tried).max(after.unwrap_or_default())).await;
            }
            put => return put,
        }
    }
}

/// The bytes of an object.
struct Encoded {
    body: Bytes,
    records: u64,
    oldest_arrival: Millis,
    rejected: Vec<RejectedRecord>,
}

async fn encoded(redshift: &Redshift, batch: &Arc<Batch>, piece: Range<usize>) -> Result<Encoded, DeliveryError> {
    let (batch, format, compression) = (batch.clone(), redshift.settings.format.clone(), redshift.settings.compression);
    let json = redshift.settings.json.then_some(!redshift.settings.copy.options.contains("ACCEPTINVCHARS"));
    let encode = move || {
        let mut rejected = Vec::new();
        let mut oldest_arrival = Millis(u64::MAX);
        let mut body = BytesMut::new();
        let records = batch.records_with_lease().skip(piece.start).take(piece.len());
        let fit = records.filter(|(lease, record)| {
            let reason = json.and_then(|strict| unfit(record, strict));
            if let Some(reason) = reason {
                rejected.push(RejectedRecord::of((lease, record), REDSHIFT_FAILED, INVALID, reason));
                return false;
            }
            oldest_arrival = oldest_arrival.min(record.arrival);
            true
        });
        let encoder = format.encoder(compression);
        let object = encode_all(encoder, fit, |part| {
            body.extend_from_slice(&part);
            Ok::<_, EncodeError>(())
        });
        let object = object.map_err(|error| error.to_string())?;
        rejected.extend(object.rejected);
        Ok::<_, String>(Encoded { body: body.freeze(), records: object.records, oldest_arrival, rejected })
    };
    let encoded = offloaded(redshift.offload.as_ref(), encode).await?;
    encoded.map_err(|cause| DeliveryError::Retry { after: None, cause })
}

/// Why COPY could not read a record as JSON; `strict`: bytes that are no UTF-8 are not replaced either.
fn unfit(record: &Record, strict: bool) -> Option<&'static str> {
    const NO_OBJECT: &str = "not a JSON object";
    let data = &record.data[..];
    if strict && std::str::from_utf8(data).is_err() {
        return Some("not UTF-8, and COPY is not told to replace such bytes (ACCEPTINVCHARS)");
    }
    let mut values = serde_json::Deserializer::from_slice(data).into_iter::<IgnoredAny>();
    let (mut start, mut found) = (0, false);
    while let Some(value) = values.next() {
        let end = values.byte_offset();
        let text = data.get(start..end).unwrap_or_default();
        let begins = text.iter().find(|byte| !byte.is_ascii_whitespace());
        if value.is_err() || begins != Some(&b'{') {
            return Some(NO_OBJECT);
        }
        if text.len() > JSON_BYTES_MAX {
            return Some("a JSON object of more than 4 MB, which COPY does not read");
        }
        (start, found) = (end, true);
    }
    (!found).then_some(NO_OBJECT)
}

#[cfg(test)]
mod tests {
    use standpipe_flow::conformance;

    use super::*;

    fn why(data: &[u8], strict: bool) -> Option<&'static str> {
        let mut record = conformance::batch(1).records().next().expect("a record").clone();
        record.data = Bytes::copy_from_slice(data);
        unfit(&record, strict)
    }

    #[test]
    fn what_copy_cannot_read_is_told_apart() {
        for fit in [&b"{}"[..], b"{\"a\":[1,{}]}\n", b"{\"a\":1}{\"b\":2}", b" {\n} "] {
            assert_eq!(why(fit, true), None, "{fit:?}");
        }
        for unfit in [&b""[..], b"  ", b"[]", b"1", b"{\"a\":1", b"{}x", b"{} []", b"not json", b"null"] {
            assert_eq!(why(unfit, true), Some("not a JSON object"), "{unfit:?}");
        }
        assert!(why(b"{\"a\":\"\xFF\"}", true).is_some() && why(b"{\"a\":\"\xFF\"}", false).is_none());
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(JSON_BYTES_MAX));
        assert!(why(large.as_bytes(), true).is_some_and(|reason| reason.contains("4 MB")));
    }

    #[test]
    fn a_batch_is_parted_into_objects_in_order() {
        let mut batch = Arc::unwrap_or_clone(conformance::batch(3));
        assert_eq!(pieces(&batch), std::slice::from_ref(&(0..6)));
        for record in batch.shards.iter_mut().flat_map(|shard| &mut shard.chunks).flat_map(|chunk| &mut chunk.records) {
            record.data = Bytes::from(vec![b'x'; OBJECT_BYTES as usize / 2]);
        }
        assert_eq!(pieces(&batch), [0..2, 2..4, 4..6]);
        assert!(pieces(&conformance::batch(0)).is_empty());
    }
}
