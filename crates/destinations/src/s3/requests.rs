//! The requests that are made of S3, one function each: what goes into them, how long they may take.
//!
//! One call is one request: the SDK's retries are off, because the pipeline owns time. The SDK's types end here and in
//! `classify`.
//! Never: decides what an answer means for a batch.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::interceptors::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextMut,
};
use aws_sdk_s3::config::{
    ConfigBag, Intercept, RequestChecksumCalculation, ResponseChecksumValidation, RuntimeComponents,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::complete_multipart_upload::CompleteMultipartUploadError;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::{ByteStream, DateTime, DateTimeFormat};
use aws_sdk_s3::types::{ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart, ServerSideEncryption};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::service_config::ServiceConfigKey;
use bytes::Bytes;
use standpipe_flow::{Checksum, DeliveryError, Millis, Output};

use super::checksum::Sum;
use super::classify::{answered, classify, status, unsupported};
use super::sweep::{Leftover, Page};
use crate::object_key;

/// To be connected: a host that does not answer must not hold a batch for longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// For a request without a body of ours: S3's own tail is far below.
const SMALL_TIMEOUT: Duration = Duration::from_secs(10);
/// S3 may work on a completion for minutes and keeps the connection alive meanwhile; a repeat is harmless.
const COMPLETE_TIMEOUT: Duration = Duration::from_secs(180);
/// The slowest uplink that is still waited for: 256 KiB/s.
const SLOWEST_BYTES_PER_SECOND: u64 = 256 << 10;
/// The type of every object of records.
pub(super) const CONTENT_TYPE: &str = "application/octet-stream";
/// Uploads on one page of a listing: S3's own maximum.
const PAGE_UPLOADS: i32 = 1000;

/// The endpoint that was chosen instead of AWS's own, as the SDK finds it: the service's (`AWS_ENDPOINT_URL_S3`, the
/// profile), then the general one.
fn endpoint(config: &aws_types::SdkConfig) -> Option<String> {
    let key = ServiceConfigKey::builder().service_id("S3").env("AWS_ENDPOINT_URL").profile("endpoint_url").build();
    let of_service = config.service_config().and_then(|service| service.load_config(key.ok()?));
    of_service.or_else(|| config.endpoint_url().map(str::to_owned))
}

/// Whether the payload of a part is left out of the signature: TLS and the part's sum guard it, and SHA-256 would be most
/// of an upload's CPU. Without TLS it is signed.
pub(super) fn unsigned_payload(config: &aws_types::SdkConfig) -> bool {
    endpoint(config).is_none_or(|url| url.starts_with("https://"))
}

/// A bucket, and the client that speaks of it.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    pub(super) name: String,
    pub(super) client: Client,
    /// SSE-KMS with this key.
    pub(super) kms: Option<String>,
}

/// Names the account that must own the bucket in every request: S3 refuses those to a bucket of another's.
#[derive(Debug)]
struct ExpectedOwner(String);

impl Intercept for ExpectedOwner {
    fn name(&self) -> &'static str {
        "ExpectedOwner"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        context.request_mut().headers_mut().insert("x-amz-expected-bucket-owner", self.0.clone());
        Ok(())
    }
}

/// A client for this use: no retries, explicit timeouts, checksums only where we give them; path style where the endpoint
/// is not AWS's own, because such servers seldom have a name for every bucket.
pub(super) fn client(config: &aws_types::SdkConfig, expected_owner: Option<&str>) -> Client {
    let path_style = endpoint(config).is_some();
    let timeouts =
        TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_attempt_timeout(SMALL_TIMEOUT).build();
    let mut config = aws_sdk_s3::config::Builder::from(config)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .force_path_style(path_style)
        // Every body carries a sum of ours, and what is read goes back under the same sum.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        // The timeouts above bound a stalled request; a second clock would only blame a busy process.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    if let Some(owner) = expected_owner {
        config = config.interceptor(ExpectedOwner(owner.to_owned()));
    }
    Client::from_conf(config.build())
}

pub(super) fn lasting_at_most(timeout: Duration) -> aws_sdk_s3::config::Builder {
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(timeout).build();
    aws_sdk_s3::config::Builder::new().timeout_config(timeouts)
}

/// For a request or an answer with so many bytes of ours.
pub(super) fn timeout_of(bytes: u64) -> Duration {
    SMALL_TIMEOUT + Duration::from_secs(bytes / SLOWEST_BYTES_PER_SECOND)
}

/// Keeps the Date header of an answer, whatever the answer is: S3's own time, which the 24 h rules compare (I12).
#[derive(Clone, Debug, Default)]
pub(super) struct DateHeader(Arc<Mutex<Option<Millis>>>);

impl DateHeader {
    pub(super) fn get(&self) -> Option<Millis> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intercept for DateHeader {
    fn name(&self) -> &'static str {
        "DateHeader"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|text| DateTime::from_str(text, DateTimeFormat::HttpDate).ok());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date.and_then(|date| millis(&date));
        Ok(())
    }
}

pub(super) fn millis(time: &DateTime) -> Option<Millis> {
    time.to_millis().ok().and_then(|millis| u64::try_from(millis).ok()).map(Millis)
}

/// Everything about an object that is said when its upload is opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewObject<'a> {
    pub(super) bucket: &'a Bucket,
    pub(super) key: &'a str,
    pub(super) content_encoding: Option<&'a str>,
    /// [`unsigned_payload`].
    pub(super) unsigned: bool,
}

/// An upload that is open.
#[derive(Clone, Debug)]
pub(super) struct Opened {
    pub(super) upload_id: String,
    pub(super) sum: Sum,
    pub(super) date: Option<Millis>,
}

/// CreateMultipartUpload. `Err(None)` means that the server does not know the sum.
pub(super) async fn open(object: NewObject<'_>, sum: Sum) -> Result<Opened, Option<DeliveryError>> {
    let date = DateHeader::default();
    let kms = object.bucket.kms.as_ref();
    let sent = object
        .bucket
        .client
        .create_multipart_upload()
        .bucket(&object.bucket.name)
        .key(object.key)
        .content_type(CONTENT_TYPE)
        .set_content_encoding(object.content_encoding.map(str::to_owned))
        .set_server_side_encryption(kms.map(|_| ServerSideEncryption::AwsKms))
        .set_ssekms_key_id(kms.cloned())
        .checksum_algorithm(sum.name())
        .set_checksum_type((sum == Sum::Crc64Nvme).then_some(ChecksumType::FullObject))
        .customize()
        .interceptor(date.clone())
        .send()
        .await;
    match sent {
        Ok(answer) => match answer.upload_id {
            Some(upload_id) => Ok(Opened { upload_id, sum, date: date.get() }),
            None => Err(Some(unreadable("CreateMultipartUpload: no upload id"))),
        },
        Err(error) if sum == Sum::Crc64Nvme && refuses_sum(&error) => Err(None),
        Err(error) => Err(Some(classify("CreateMultipartUpload", &error))),
    }
}

/// What servers from before CRC-64/NVME (end of 2024) say to it.
pub(super) fn refuses_sum<E>(error: &SdkError<E, HttpResponse>) -> bool
where
    E: ProvideErrorMetadata,
{
    let named = error.message().is_some_and(|message| message.to_ascii_lowercase().contains("checksum"));
    match error.code() {
        Some("InvalidRequest" | "InvalidArgument" | "InvalidChecksum") => named,
        _ => unsupported(error),
    }
}

pub(super) fn unreadable(cause: &str) -> DeliveryError {
    DeliveryError::Retry { after: None, cause: cause.to_owned() }
}

/// One part on its way.
#[derive(Clone, Debug)]
pub(super) struct NewPart {
    pub(super) number: u32,
    pub(super) bytes: Bytes,
    /// Its sum, as the header carries it.
    pub(super) sum: String,
}

/// UploadPart.
pub(super) async fn upload_part(
    object: NewObject<'_>,
    opened: &Opened,
    part: NewPart,
) -> Result<standpipe_flow::Part, DeliveryError> {
    let timeout = timeout_of(part.bytes.len() as u64);
    let bucket = object.bucket;
    let request = bucket
        .client
        .upload_part()
        .bucket(&bucket.name)
        .key(object.key)
        .upload_id(&opened.upload_id)
        .part_number(part_number(part.number))
        .content_length(i64::try_from(part.bytes.len()).unwrap_or(i64::MAX))
        .body(ByteStream::from(part.bytes));
    let request = match opened.sum {
        Sum::Crc64Nvme => request.checksum_crc64_nvme(part.sum),
        Sum::Crc32 => request.checksum_crc32(part.sum),
    };
    let request = request.customize().config_override(lasting_at_most(timeout));
    let request = if object.unsigned { request.disable_payload_signing() } else { request };
    let answer = request.send().await;
    let answer = answer.map_err(|error| classify("UploadPart", &error))?;
    let etag = answer.e_tag.ok_or_else(|| unreadable("UploadPart: no ETag"))?;
    Ok(standpipe_flow::Part { number: part.number, etag })
}

fn part_number(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Why an upload was not completed, or not known to be.
#[derive(Debug)]
pub(super) enum NotCompleted {
    /// There is no such upload.
    NoUpload,
    /// A 200 that is not the answer of a completion: an error, or nothing that can be read. It proves nothing.
    Unproven(DeliveryError),
    /// The server wants the sum of every part and got none.
    WithoutSums,
    /// Everything else, as the caller must take it.
    Failed(DeliveryError),
}

/// Sums of parts, by number, as the header carries them.
pub(super) type PartSums = BTreeMap<u32, String>;

/// An output that is held by an open upload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Uploaded<'a> {
    pub(super) output: &'a Output,
    pub(super) id: &'a str,
    pub(super) parts: &'a [standpipe_flow::Part],
}

/// CompleteMultipartUpload. No If-None-Match: a 409 to it would make every part go up again, and the key is unique.
pub(super) async fn complete(client: &Client, upload: Uploaded<'_>, sums: &PartSums) -> Result<(), NotCompleted> {
    let output = upload.output;
    let part = |part: &standpipe_flow::Part| {
        let completed = CompletedPart::builder().part_number(part_number(part.number)).e_tag(&part.etag);
        let sum = sums.get(&part.number).cloned();
        match output.checksum {
            Checksum::Crc64Nvme(_) => completed.set_checksum_crc64_nvme(sum).build(),
            Checksum::Crc32(_) => completed.set_checksum_crc32(sum).build(),
        }
    };
    let parts = upload.parts.iter().map(part).collect();
    let request = client
        .complete_multipart_upload()
        .bucket(&output.bucket)
        .key(&output.key)
        .upload_id(upload.id)
        .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build());
    let request = match &output.checksum {
        Checksum::Crc64Nvme(sum) => request
            .checksum_crc64_nvme(sum)
            .checksum_type(ChecksumType::FullObject)
            .mpu_object_size(i64::try_from(output.size).unwrap_or(i64::MAX)),
        Checksum::Crc32(_) => request,
    };
    match request.customize().config_override(lasting_at_most(COMPLETE_TIMEOUT)).send().await {
        // A 200 is sent before the work is done; only a whole answer says that it was.
        Ok(answer) if answer.e_tag.is_some() => Ok(()),
        Ok(_) => Err(NotCompleted::Unproven(unreadable("CompleteMultipartUpload: 200 without an ETag"))),
        Err(error) => Err(not_completed(&error, sums)),
    }
}

fn not_completed(error: &SdkError<CompleteMultipartUploadError, HttpResponse>, sums: &PartSums) -> NotCompleted {
    let meaning = classify("CompleteMultipartUpload", error);
    if status(error).is_some_and(|status| (200..300).contains(&status)) {
        return NotCompleted::Unproven(meaning);
    }
    match (error.code(), meaning) {
        (Some("NoSuchUpload"), _) => NotCompleted::NoUpload,
        (Some("InvalidRequest" | "InvalidPart"), _) if sums.is_empty() => NotCompleted::WithoutSums,
        // The sum of every part was right when it went up: asking again would give the same answer for ever.
        (Some("BadDigest"), DeliveryError::Retry { cause, .. }) => NotCompleted::Failed(DeliveryError::Halt { cause }),
        (_, meaning) => NotCompleted::Failed(meaning),
    }
}

/// The sums of the parts, which some servers want back and a receipt does not carry: the one part of a small object has
/// the object's own, those of others are listed. A server that lists none does not ask for them either; that an upload is
/// gone is found out by its completion.
pub(super) async fn part_sums(client: &Client, upload: Uploaded<'_>) -> Result<PartSums, DeliveryError> {
    let output = upload.output;
    let mut sums = PartSums::new();
    let mut marker = None;
    loop {
        let page = client
            .list_parts()
            .bucket(&output.bucket)
            .key(&output.key)
            .upload_id(upload.id)
            .set_part_number_marker(marker)
            .send()
            .await;
        let page = match page {
            Ok(page) => page,
            Err(error) if unsupported(&error) || answered(&error, "NoSuchUpload") => return Ok(sums),
            Err(error) => return Err(classify("ListParts", &error)),
        };
        let listed = page.parts().iter().filter_map(|part| {
            let number = u32::try_from(part.part_number?).ok()?;
            let sum = match output.checksum {
                Checksum::Crc64Nvme(_) => part.checksum_crc64_nvme.clone(),
                Checksum::Crc32(_) => part.checksum_crc32.clone(),
            };
            Some((number, sum?))
        });
        sums.extend(listed);
        marker = page.next_part_number_marker.filter(|_| page.is_truncated == Some(true));
        if marker.is_none() {
            return Ok(sums);
        }
    }
}

/// PutObject of a small JSON document.
pub(super) async fn put_json(bucket: &Bucket, key: &str, body: Bytes) -> Result<(), DeliveryError> {
    let request = bucket.client.put_object().bucket(&bucket.name).key(key).content_type("application/json");
    match request.body(ByteStream::from(body)).send().await {
        Ok(_) => Ok(()),
        Err(error) => Err(classify("PutObject", &error)),
    }
}

/// AbortMultipartUpload. An upload that is not there is as good as aborted.
pub(super) async fn abort(bucket: &Bucket, key: &str, upload_id: &str) -> Result<(), DeliveryError> {
    match bucket.client.abort_multipart_upload().bucket(&bucket.name).key(key).upload_id(upload_id).send().await {
        Ok(_) => Ok(()),
        Err(error) if answered(&error, "NoSuchUpload") => Ok(()),
        Err(error) => Err(classify("AbortMultipartUpload", &error)),
    }
}

/// HeadObject with its sums: the object or `None`, and when S3 said so.
pub(super) async fn head(
    client: &Client,
    output: &Output,
) -> Result<(Option<HeadObjectOutput>, Option<Millis>), DeliveryError> {
    let date = DateHeader::default();
    let request = client.head_object().bucket(&output.bucket).key(&output.key).checksum_mode(ChecksumMode::Enabled);
    match request.customize().interceptor(date.clone()).send().await {
        Ok(object) => Ok((Some(object), date.get())),
        // A HEAD has no body, so most servers name no code; one that names the bucket means that.
        Err(error) if status(&error) == Some(404) && error.code() != Some("NoSuchBucket") => Ok((None, date.get())),
        Err(error) => Err(classify("HeadObject", &error)),
    }
}

/// Whether a bucket that keeps versions has had this object: a version of its size, or a marker of its deletion.
pub(super) async fn had_version(client: &Client, output: &Output) -> Result<bool, DeliveryError> {
    // No other key of ours begins with this one, so one page holds all its versions.
    let listed = client.list_object_versions().bucket(&output.bucket).prefix(&output.key).send().await;
    let listed = match listed {
        Ok(listed) => listed,
        Err(error) if unsupported(&error) => return Ok(false),
        Err(error) => return Err(classify("ListObjectVersions", &error)),
    };
    // An unversioned bucket lists what stands there as version "null"; that was looked at before.
    let version = listed.versions().iter().any(|version| {
        version.key() == Some(&output.key)
            && version.version_id().is_some_and(|id| id != "null")
            && version.size().and_then(|size| u64::try_from(size).ok()) == Some(output.size)
    });
    Ok(version || listed.delete_markers().iter().any(|marker| marker.key() == Some(&output.key)))
}

/// HeadBucket, and the listing that the sweeper needs.
pub(super) async fn probe(bucket: &Bucket) -> Result<(), DeliveryError> {
    let Bucket { client, name, .. } = bucket;
    client.head_bucket().bucket(name).send().await.map_err(|error| classify("HeadBucket", &error))?;
    if lists_uploads(bucket).await.map_err(|(_, error)| error)?.is_none() {
        tracing::warn!(bucket = name, "the server lists no uploads: those of crashed workers stay until its own rule");
    }
    Ok(())
}

/// What HeadBucket says of a bucket.
pub(super) enum Head {
    /// It is there, in this region as far as it was told.
    There(Option<String>),
    /// There is none of that name.
    Missing,
    /// It lets nobody like us in; what it said.
    Denied(String),
    /// It is in another region, as far as it was told.
    Elsewhere(Option<String>),
    /// No answer, or another one.
    Failed(DeliveryError),
}

pub(super) async fn head_bucket(bucket: &Bucket) -> Head {
    let error = match bucket.client.head_bucket().bucket(&bucket.name).send().await {
        Ok(answer) => return Head::There(answer.bucket_region().map(str::to_owned)),
        Err(error) => error,
    };
    let region = error.raw_response().and_then(|answer| answer.headers().get("x-amz-bucket-region").map(str::to_owned));
    let own = bucket.client.config().region().map(ToString::to_string);
    let why = classify("HeadBucket", &error);
    match (status(&error), why) {
        (Some(404), _) => Head::Missing,
        (Some(301 | 307), _) => Head::Elsewhere(region),
        (Some(400 | 403), _) if region.is_some() && region != own => Head::Elsewhere(region),
        (Some(401 | 403), DeliveryError::Halt { cause }) => Head::Denied(cause),
        (_, why) => Head::Failed(why),
    }
}

/// Whether the open uploads of a bucket may be listed: `None` where the server knows of no such list.
pub(super) async fn lists_uploads(bucket: &Bucket) -> Result<Option<()>, (Option<u16>, DeliveryError)> {
    match bucket.client.list_multipart_uploads().bucket(&bucket.name).max_uploads(1).send().await {
        Ok(_) => Ok(Some(())),
        Err(error) if unsupported(&error) => Ok(None),
        Err(error) => Err((status(&error), classify("ListMultipartUploads", &error))),
    }
}

/// One page of ListMultipartUploads under `prefix`: the uploads that are ours by form, and the place after it.
pub(super) async fn list_uploads(
    bucket: &Bucket,
    prefix: &str,
    page: &Page,
) -> Result<(Vec<Leftover>, Option<Page>), DeliveryError> {
    let date = DateHeader::default();
    let request = bucket
        .client
        .list_multipart_uploads()
        .bucket(&bucket.name)
        .prefix(prefix)
        .max_uploads(PAGE_UPLOADS)
        .set_key_marker(page.key_marker.clone())
        .set_upload_id_marker(page.upload_id_marker.clone());
    let answer = request.customize().interceptor(date.clone()).send().await;
    let answer = answer.map_err(|error| classify("ListMultipartUploads", &error))?;
    let now = date.get().ok_or_else(|| unreadable("ListMultipartUploads: no Date header"))?;
    let ours = answer.uploads().iter().filter_map(|upload| {
        let key = upload.key()?;
        Some(Leftover {
            bucket: bucket.name.clone(),
            key: key.to_owned(),
            upload_id: Some(upload.upload_id()?.to_owned()),
            cid: object_key::cid_of(key)?,
            initiated: millis(upload.initiated()?)?,
            now,
        })
    });
    let uploads = ours.collect();
    let truncated = answer.is_truncated == Some(true) && answer.next_key_marker.is_some();
    let next = truncated.then(|| Page {
        place: page.place,
        key_marker: answer.next_key_marker.clone(),
        upload_id_marker: answer.next_upload_id_marker.clone(),
    });
    Ok((uploads, next))
}
