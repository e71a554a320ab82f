//! The requests for staging objects, and for what is published from them.
//!
//! As in `requests`, one function is one request, and the SDK's types end here.
//! Never: overwrites anything (`If-None-Match: *`); decides what an answer means for a batch.

use std::ops::Range;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ServerSideEncryption;
use bytes::Bytes;
use standpipe_flow::{Checksum, DeliveryError, Millis};

use super::classify::{answered, classify, status};
use super::requests::{self, Bucket, DateHeader, NewObject};
use super::staging;
use super::sweep::{Leftover, Page};

/// Objects on one page of a listing: S3's own maximum.
const PAGE_OBJECTS: i32 = 1000;

/// PutObject where nothing stands yet; when S3 answered. 412 is success: the key is one of a commit's own, or of an
/// attempt's own, so that what stands there are these bytes. `Err(None)` means that the server does not know the sum.
pub(super) async fn put_new(
    object: NewObject<'_>,
    body: Bytes,
    checksum: &Checksum,
) -> Result<Option<Millis>, Option<DeliveryError>> {
    let date = DateHeader::default();
    let kms = object.bucket.kms.as_ref();
    let timeout = requests::timeout_of(body.len() as u64);
    let request = object
        .bucket
        .client
        .put_object()
        .bucket(&object.bucket.name)
        .key(object.key)
        .content_type(requests::CONTENT_TYPE)
        .set_content_encoding(object.content_encoding.map(str::to_owned))
        .set_server_side_encryption(kms.map(|_| ServerSideEncryption::AwsKms))
        .set_ssekms_key_id(kms.cloned())
        .if_none_match("*")
        .content_length(i64::try_from(body.len()).unwrap_or(i64::MAX))
        .body(ByteStream::from(body));
    let request = match checksum {
        Checksum::Crc64Nvme(sum) => request.checksum_crc64_nvme(sum),
        Checksum::Crc32(sum) => request.checksum_crc32(sum),
    };
    let request = request.customize().config_override(requests::lasting_at_most(timeout)).interceptor(date.clone());
    let request = if object.unsigned { request.disable_payload_signing() } else { request };
    match request.send().await {
        Ok(_) => Ok(date.get()),
        Err(error) if status(&error) == Some(412) => Ok(date.get()),
        Err(error) if matches!(checksum, Checksum::Crc64Nvme(_)) && requests::refuses_sum(&error) => Err(None),
        Err(error) => Err(Some(classify("PutObject", &error))),
    }
}

/// GetObject of these bytes, of which there is one at least; `None` if there is no such object.
pub(super) async fn get(bucket: &Bucket, key: &str, range: Range<u64>) -> Result<Option<Bytes>, DeliveryError> {
    let bytes = range.end.saturating_sub(range.start);
    let asked = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
    let answer = match bucket.client.get_object().bucket(&bucket.name).key(key).range(asked).send().await {
        Ok(answer) => answer,
        Err(error) if answered(&error, "NoSuchKey") => return Ok(None),
        Err(error) => return Err(classify("GetObject", &error)),
    };
    // A server that knows no ranges sends the whole.
    let wanted = if answer.content_range.is_some() { 0..bytes } else { range };
    let body = tokio::time::timeout(requests::timeout_of(bytes), answer.body.collect()).await;
    let body = body.map_err(|_| requests::unreadable("GetObject: its body does not end"))?;
    let body = body.map_err(|error| requests::unreadable(&format!("GetObject: {error}")))?.into_bytes();
    if (body.len() as u64) < wanted.end {
        return Err(requests::unreadable("GetObject: fewer bytes than were asked for"));
    }
    Ok(Some(body.slice(wanted.start as usize..wanted.end as usize)))
}

/// DeleteObject. One that is not there is as good as deleted.
pub(super) async fn delete(bucket: &Bucket, key: &str) -> Result<(), DeliveryError> {
    match bucket.client.delete_object().bucket(&bucket.name).key(key).send().await {
        Ok(_) => Ok(()),
        Err(error) if answered(&error, "NoSuchKey") => Ok(()),
        Err(error) => Err(classify("DeleteObject", &error)),
    }
}

/// One page of ListObjectsV2 over the staging objects: those that are ours by form, and the place after it.
pub(super) async fn list_staging(bucket: &Bucket, page: &Page) -> Result<(Vec<Leftover>, Option<Page>), DeliveryError> {
    let date = DateHeader::default();
    let request = bucket
        .client
        .list_objects_v2()
        .bucket(&bucket.name)
        .prefix(staging::PREFIX)
        .max_keys(PAGE_OBJECTS)
        .set_start_after(page.key_marker.clone());
    let answer = request.customize().interceptor(date.clone()).send().await;
    let answer = answer.map_err(|error| classify("ListObjectsV2", &error))?;
    let now = date.get().ok_or_else(|| requests::unreadable("ListObjectsV2: no Date header"))?;
    let ours = answer.contents().iter().filter_map(|object| {
        let key = object.key()?;
        Some(Leftover {
            bucket: bucket.name.clone(),
            key: key.to_owned(),
            upload_id: None,
            cid: staging::cid_of(key)?,
            initiated: requests::millis(object.last_modified()?)?,
            now,
        })
    });
    let last = answer.contents().last().and_then(|object| object.key()).map(str::to_owned);
    let truncated = answer.is_truncated == Some(true) && last.is_some();
    let next = truncated.then_some(Page { place: page.place, key_marker: last, upload_id_marker: None });
    Ok((ours.collect(), next))
}
