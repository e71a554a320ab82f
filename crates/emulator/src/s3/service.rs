//! The operations of S3 in s3s's terms: inputs to the store's arguments, the store's answers to outputs.

use bytes::Bytes;
use futures_util::StreamExt;
use md5::{Digest, Md5};
use s3s::dto::*;
use s3s::{Body, S3, S3Error, S3Request, S3Response, S3Result, s3_error};

use super::store::{Ask, Headers, ObjectMeta, Store, Target, names, timestamp};
use super::sums::{Algorithm, Sum, given, set_sum};
use super::uploads::{Complete, PartPlace, UploadMeta};

/// A page of any listing (API reference).
const PAGE_MAX: i32 = 1000;

/// The store behind s3s's trait.
pub(super) struct Service(pub(super) std::sync::Arc<Store>);

/// Collects what PutObject and CreateMultipartUpload say of the object.
macro_rules! headers {
    ($input:expr) => {
        Headers {
            content_type: $input.content_type.clone(),
            content_encoding: $input.content_encoding.clone(),
            content_disposition: $input.content_disposition.clone(),
            content_language: $input.content_language.clone(),
            cache_control: $input.cache_control.clone(),
            encryption: $input.server_side_encryption.as_ref().map(|kind| kind.as_str().to_owned()),
            kms_key_id: $input.ssekms_key_id.clone(),
            bucket_key: $input.bucket_key_enabled,
            storage_class: $input.storage_class.as_ref().map(|class| class.as_str().to_owned()),
            metadata: $input.metadata.clone().unwrap_or_default().into_iter().collect(),
        }
    };
}

/// Says how an object is encrypted; S3 encrypts with AES256 where nothing else was asked.
macro_rules! set_encryption {
    ($output:expr, $headers:expr) => {
        let kind = $headers.encryption.clone().unwrap_or_else(|| ServerSideEncryption::AES256.to_owned());
        $output.server_side_encryption = Some(kind.into());
        $output.ssekms_key_id = $headers.kms_key_id.clone();
        $output.bucket_key_enabled = $headers.bucket_key;
    };
}

/// Says what GetObject and HeadObject say alike.
macro_rules! describe {
    ($output:expr, $meta:expr, $sums:expr) => {
        let headers = &$meta.headers;
        $output.accept_ranges = Some("bytes".to_owned());
        $output.e_tag = Some(etag(&$meta.etag));
        $output.last_modified = Some(timestamp($meta.modified_millis));
        $output.content_type = Some(headers.content_type.clone().unwrap_or_else(|| "binary/octet-stream".to_owned()));
        $output.content_encoding = headers.content_encoding.clone();
        $output.content_disposition = headers.content_disposition.clone();
        $output.content_language = headers.content_language.clone();
        $output.cache_control = headers.cache_control.clone();
        $output.metadata = (!headers.metadata.is_empty()).then(|| headers.metadata.clone().into_iter().collect());
        $output.storage_class = headers.storage_class.clone().map(StorageClass::from);
        set_encryption!($output, headers);
        if $sums {
            set_sum!($output, &$meta.sum);
            $output.checksum_type = Some(checksum_type($meta.composite));
        }
    };
}

fn etag(value: &str) -> ETag {
    ETag::Strong(value.to_owned())
}

fn checksum_type(composite: bool) -> ChecksumType {
    ChecksumType::from_static(if composite { ChecksumType::COMPOSITE } else { ChecksumType::FULL_OBJECT })
}

fn algorithm_name(sum: &Sum) -> ChecksumAlgorithm {
    ChecksumAlgorithm::from(sum.algorithm.name().to_owned())
}

fn wants_sums(mode: Option<&ChecksumMode>) -> bool {
    mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED)
}

async fn bytes_of(body: Option<StreamingBlob>) -> S3Result<Bytes> {
    let Some(mut body) = body else { return Ok(Bytes::new()) };
    let mut whole = match body.next().await {
        None => return Ok(Bytes::new()),
        Some(first) => first.map_err(|error| S3Error::internal_error(std::io::Error::other(error.to_string())))?,
    };
    while let Some(next) = body.next().await {
        let next = next.map_err(|error| S3Error::internal_error(std::io::Error::other(error.to_string())))?;
        whole = [whole, next].concat().into();
    }
    Ok(whole)
}

fn check_md5(given: Option<&String>, data: &[u8]) -> S3Result<()> {
    let Some(given) = given else { return Ok(()) };
    let computed = base64_simd::STANDARD.encode_to_string(Md5::digest(data).as_slice());
    if computed == *given {
        Ok(())
    } else {
        Err(s3_error!(BadDigest, "The Content-MD5 you specified did not match what we received."))
    }
}

/// GetObject and HeadObject under a condition.
fn check_read(meta: &ObjectMeta, if_match: Option<&IfMatch>, if_none_match: Option<&IfNoneMatch>) -> S3Result<()> {
    if if_match.is_some_and(|condition| !names(condition, &meta.etag)) {
        return Err(s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold"));
    }
    if if_none_match.is_some_and(|condition| names(condition, &meta.etag)) {
        return Err(s3_error!(NotModified, "Not Modified"));
    }
    Ok(())
}

fn page(most: Option<i32>) -> S3Result<(i32, usize)> {
    let most = most.unwrap_or(PAGE_MAX);
    let size = usize::try_from(most).map_err(|_| s3_error!(InvalidArgument, "a page cannot have a negative size"))?;
    Ok((most, size.min(PAGE_MAX as usize)))
}

fn object(key: String, meta: &ObjectMeta) -> Object {
    Object {
        key: Some(key),
        size: i64::try_from(meta.size).ok(),
        e_tag: Some(etag(&meta.etag)),
        last_modified: Some(timestamp(meta.modified_millis)),
        checksum_algorithm: meta.sum.as_ref().map(|sum| vec![algorithm_name(sum)]),
        checksum_type: meta.sum.as_ref().map(|_| checksum_type(meta.composite)),
        storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
        ..Object::default()
    }
}

fn prefixes(listed: Vec<String>) -> Option<CommonPrefixList> {
    let prefixes: Vec<_> = listed.into_iter().map(|prefix| CommonPrefix { prefix: Some(prefix) }).collect();
    (!prefixes.is_empty()).then_some(prefixes)
}

/// Which checksum an upload will have, and whether it is one of the parts' (S3 user guide, "checking object integrity").
fn upload_checksum(input: &CreateMultipartUploadInput) -> S3Result<(Option<Algorithm>, bool)> {
    let algorithm = input.checksum_algorithm.as_ref().map(|name| Algorithm::parse(name.as_str())).transpose()?;
    let kind = input.checksum_type.as_ref().map(ChecksumType::as_str);
    let composite = match (algorithm, kind) {
        (None, _) => false,
        (Some(Algorithm::Crc64Nvme), Some(ChecksumType::COMPOSITE)) => {
            return Err(s3_error!(
                InvalidRequest,
                "The COMPOSITE checksum type cannot be used with the crc64nvme checksum algorithm."
            ));
        }
        (Some(Algorithm::Sha1 | Algorithm::Sha256), Some(ChecksumType::FULL_OBJECT)) => {
            return Err(s3_error!(
                InvalidRequest,
                "The FULL_OBJECT checksum type cannot be used with the sha checksum algorithms."
            ));
        }
        (Some(Algorithm::Crc64Nvme), _) => false,
        (Some(_), kind) => kind != Some(ChecksumType::FULL_OBJECT),
    };
    Ok((algorithm, composite))
}

#[async_trait::async_trait]
impl S3 for Service {
    async fn create_bucket(&self, req: S3Request<CreateBucketInput>) -> S3Result<S3Response<CreateBucketOutput>> {
        self.0.create_bucket(&req.input.bucket)?;
        let location = Some(format!("/{}", req.input.bucket));
        Ok(S3Response::new(CreateBucketOutput { location }))
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.0.state().bucket(&req.input.bucket)?;
        let bucket_region = Some("us-east-1".to_owned());
        Ok(S3Response::new(HeadBucketOutput { bucket_region, ..HeadBucketOutput::default() }))
    }

    async fn delete_bucket(&self, req: S3Request<DeleteBucketInput>) -> S3Result<S3Response<DeleteBucketOutput>> {
        self.0.delete_bucket(&req.input.bucket)?;
        Ok(S3Response::new(DeleteBucketOutput::default()))
    }

    async fn list_buckets(&self, _: S3Request<ListBucketsInput>) -> S3Result<S3Response<ListBucketsOutput>> {
        let state = self.0.state();
        let bucket = |(name, bucket): (&String, &super::store::Bucket)| Bucket {
            name: Some(name.clone()),
            creation_date: Some(timestamp(bucket.created_millis)),
            ..Bucket::default()
        };
        let buckets = Some(state.buckets.iter().map(bucket).collect());
        Ok(S3Response::new(ListBucketsOutput { buckets, ..ListBucketsOutput::default() }))
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.0.state().bucket(&req.input.bucket)?;
        Ok(S3Response::new(GetBucketLocationOutput::default()))
    }

    async fn get_bucket_versioning(
        &self,
        req: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        self.0.state().bucket(&req.input.bucket)?;
        Ok(S3Response::new(GetBucketVersioningOutput::default()))
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let mut input = req.input;
        let data = bytes_of(input.body.take()).await?;
        check_md5(input.content_md5.as_ref(), &data)?;
        let target = Target {
            bucket: &input.bucket,
            key: &input.key,
            if_match: input.if_match.as_ref(),
            if_none_match: input.if_none_match.as_ref(),
        };
        let meta = self.0.put(target, data, headers!(input), &given!(input))?;
        let mut output = PutObjectOutput { e_tag: Some(etag(&meta.etag)), ..PutObjectOutput::default() };
        set_sum!(output, &meta.sum);
        output.checksum_type = Some(checksum_type(false));
        set_encryption!(output, meta.headers);
        Ok(S3Response::new(output))
    }

    async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let input = req.input;
        let CopySource::Bucket { bucket, key, .. } = &input.copy_source else {
            return Err(s3_error!(NotImplemented, "only a bucket can be copied from"));
        };
        let source = self.0.get(bucket, key)?;
        let data = source.blob.read().map_err(S3Error::internal_error)?;
        let replace = input.metadata_directive.as_ref().is_some_and(|directive| directive.as_str() == "REPLACE");
        let headers = if replace { headers!(input) } else { source.meta.headers };
        let target = Target { bucket: &input.bucket, key: &input.key, if_match: None, if_none_match: None };
        let meta = self.0.put(target, data, headers, &super::sums::Given::default())?;
        let result = CopyObjectResult {
            e_tag: Some(etag(&meta.etag)),
            last_modified: Some(timestamp(meta.modified_millis)),
            ..CopyObjectResult::default()
        };
        let mut output = CopyObjectOutput { copy_object_result: Some(result), ..CopyObjectOutput::default() };
        set_encryption!(output, meta.headers);
        Ok(S3Response::new(output))
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = req.input;
        let found = self.0.get(&input.bucket, &input.key)?;
        check_read(&found.meta, input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let size = found.meta.size;
        let mut output = GetObjectOutput::default();
        let range = input.range.map(|range| range.check(size)).transpose()?;
        // The checksum is that of the whole object, so a range has none.
        let sums = wants_sums(input.checksum_mode.as_ref()) && range.is_none();
        describe!(output, found.meta, sums);
        let data = match &range {
            Some(range) => {
                output.content_range = Some(format!("bytes {}-{}/{size}", range.start, range.end - 1));
                found.blob.read_range(range.clone())
            }
            None => found.blob.read(),
        };
        let data = data.map_err(S3Error::internal_error)?;
        output.content_length = i64::try_from(data.len()).ok();
        output.body = Some(StreamingBlob::from(Body::from(data)));
        let status = if range.is_some() { http::StatusCode::PARTIAL_CONTENT } else { http::StatusCode::OK };
        Ok(S3Response::with_status(output, status))
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = req.input;
        let found = self.0.get(&input.bucket, &input.key)?;
        check_read(&found.meta, input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let mut output = HeadObjectOutput::default();
        describe!(output, found.meta, wants_sums(input.checksum_mode.as_ref()));
        output.content_length = i64::try_from(found.meta.size).ok();
        Ok(S3Response::new(output))
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.0.delete(&req.input.bucket, &req.input.key)?;
        Ok(S3Response::with_status(DeleteObjectOutput::default(), http::StatusCode::NO_CONTENT))
    }

    async fn delete_objects(&self, req: S3Request<DeleteObjectsInput>) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let DeleteObjectsInput { bucket, delete, .. } = req.input;
        let mut deleted = Vec::new();
        for object in delete.objects {
            self.0.delete(&bucket, &object.key)?;
            deleted.push(DeletedObject { key: Some(object.key), ..DeletedObject::default() });
        }
        let quiet = delete.quiet.unwrap_or(false);
        let deleted = (!quiet).then_some(deleted);
        Ok(S3Response::new(DeleteObjectsOutput { deleted, ..DeleteObjectsOutput::default() }))
    }

    async fn list_objects_v2(&self, req: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = req.input;
        let (max_keys, most) = page(input.max_keys)?;
        let token = input.continuation_token.as_deref().map(decode_token).transpose()?;
        let after = token.as_deref().or(input.start_after.as_deref()).unwrap_or_default();
        let prefix = input.prefix.as_deref().unwrap_or_default();
        let listing =
            self.0.list(&input.bucket, &Ask { prefix, delimiter: input.delimiter.as_deref(), after, most })?;
        let next = listing.last.as_ref().filter(|_| listing.truncated);
        let next_continuation_token = next.map(|last| base64_simd::STANDARD.encode_to_string(last));
        let contents: Vec<_> = listing.objects.into_iter().map(|(key, meta)| object(key, &meta)).collect();
        Ok(S3Response::new(ListObjectsV2Output {
            key_count: i32::try_from(contents.len() + listing.prefixes.len()).ok(),
            contents: Some(contents),
            common_prefixes: prefixes(listing.prefixes),
            max_keys: Some(max_keys),
            is_truncated: Some(listing.truncated),
            next_continuation_token,
            name: Some(input.bucket),
            prefix: input.prefix,
            delimiter: input.delimiter,
            start_after: input.start_after,
            continuation_token: input.continuation_token,
            ..ListObjectsV2Output::default()
        }))
    }

    async fn list_objects(&self, req: S3Request<ListObjectsInput>) -> S3Result<S3Response<ListObjectsOutput>> {
        let input = req.input;
        let (max_keys, most) = page(input.max_keys)?;
        let prefix = input.prefix.as_deref().unwrap_or_default();
        let after = input.marker.as_deref().unwrap_or_default();
        let listing =
            self.0.list(&input.bucket, &Ask { prefix, delimiter: input.delimiter.as_deref(), after, most })?;
        Ok(S3Response::new(ListObjectsOutput {
            next_marker: listing.last.filter(|_| listing.truncated),
            contents: Some(listing.objects.into_iter().map(|(key, meta)| object(key, &meta)).collect()),
            common_prefixes: prefixes(listing.prefixes),
            max_keys: Some(max_keys),
            is_truncated: Some(listing.truncated),
            name: Some(input.bucket),
            prefix: input.prefix,
            delimiter: input.delimiter,
            marker: input.marker,
            ..ListObjectsOutput::default()
        }))
    }

    async fn list_object_versions(
        &self,
        req: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        let input = req.input;
        let (max_keys, most) = page(input.max_keys)?;
        let prefix = input.prefix.as_deref().unwrap_or_default();
        let after = input.key_marker.as_deref().unwrap_or_default();
        let listing =
            self.0.list(&input.bucket, &Ask { prefix, delimiter: input.delimiter.as_deref(), after, most })?;
        // A bucket without versioning lists every object as the version "null".
        let version = |(key, meta): (String, ObjectMeta)| ObjectVersion {
            key: Some(key),
            version_id: Some("null".to_owned()),
            is_latest: Some(true),
            size: i64::try_from(meta.size).ok(),
            e_tag: Some(etag(&meta.etag)),
            last_modified: Some(timestamp(meta.modified_millis)),
            ..ObjectVersion::default()
        };
        Ok(S3Response::new(ListObjectVersionsOutput {
            next_key_marker: listing.last.filter(|_| listing.truncated),
            versions: Some(listing.objects.into_iter().map(version).collect()),
            common_prefixes: prefixes(listing.prefixes),
            max_keys: Some(max_keys),
            is_truncated: Some(listing.truncated),
            name: Some(input.bucket),
            prefix: input.prefix,
            delimiter: input.delimiter,
            key_marker: input.key_marker,
            ..ListObjectVersionsOutput::default()
        }))
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = req.input;
        let (algorithm, composite) = upload_checksum(&input)?;
        let meta = UploadMeta { initiated_millis: self.0.now(), headers: headers!(input), algorithm, composite };
        let upload_id = self.0.create_upload(&input.bucket, &input.key, meta)?;
        let mut output = CreateMultipartUploadOutput {
            checksum_type: algorithm.map(|_| checksum_type(composite)),
            checksum_algorithm: input.checksum_algorithm.clone(),
            upload_id: Some(upload_id),
            ..CreateMultipartUploadOutput::default()
        };
        set_encryption!(output, headers!(input));
        output.bucket = Some(input.bucket);
        output.key = Some(input.key);
        Ok(S3Response::new(output))
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let mut input = req.input;
        let data = bytes_of(input.body.take()).await?;
        check_md5(input.content_md5.as_ref(), &data)?;
        let place = PartPlace {
            bucket: &input.bucket,
            key: &input.key,
            upload_id: &input.upload_id,
            number: input.part_number,
        };
        let meta = self.0.upload_part(place, data, &given!(input))?;
        let mut output = UploadPartOutput { e_tag: Some(etag(&meta.etag)), ..UploadPartOutput::default() };
        set_sum!(output, &meta.sum);
        let mut state = self.0.state();
        let headers = &state.upload(&input.bucket, &input.key, &input.upload_id)?.meta.headers;
        set_encryption!(output, headers);
        Ok(S3Response::new(output))
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = req.input;
        let parts = input.multipart_upload.as_ref().and_then(|upload| upload.parts.as_deref()).unwrap_or_default();
        let complete = Complete {
            target: Target {
                bucket: &input.bucket,
                key: &input.key,
                if_match: input.if_match.as_ref(),
                if_none_match: input.if_none_match.as_ref(),
            },
            upload_id: &input.upload_id,
            parts,
            given: given!(input),
            size: input.mpu_object_size,
        };
        let meta = self.0.complete_upload(&complete)?;
        let mut output = CompleteMultipartUploadOutput {
            e_tag: Some(etag(&meta.etag)),
            location: Some(format!("/{}/{}", input.bucket, input.key)),
            checksum_type: Some(checksum_type(meta.composite)),
            ..CompleteMultipartUploadOutput::default()
        };
        set_sum!(output, &meta.sum);
        set_encryption!(output, meta.headers);
        output.bucket = Some(input.bucket);
        output.key = Some(input.key);
        Ok(S3Response::new(output))
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let AbortMultipartUploadInput { bucket, key, upload_id, .. } = req.input;
        self.0.abort_upload(&bucket, &key, &upload_id)?;
        Ok(S3Response::with_status(AbortMultipartUploadOutput::default(), http::StatusCode::NO_CONTENT))
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let input = req.input;
        let (max_parts, most) = page(input.max_parts)?;
        let after = input.part_number_marker.unwrap_or(0);
        let mut state = self.0.state();
        let upload = state.upload(&input.bucket, &input.key, &input.upload_id)?;
        let mut numbered = upload.parts.range(after.saturating_add(1)..);
        let part = |(number, part): (&i32, &super::uploads::Part)| {
            let mut output = Part {
                part_number: Some(*number),
                size: i64::try_from(part.meta.size).ok(),
                e_tag: Some(etag(&part.meta.etag)),
                last_modified: Some(timestamp(part.meta.modified_millis)),
                ..Part::default()
            };
            set_sum!(output, &part.meta.sum);
            output
        };
        let parts: Vec<_> = numbered.by_ref().take(most).map(part).collect();
        let truncated = numbered.next().is_some();
        let algorithm = upload.meta.algorithm;
        Ok(S3Response::new(ListPartsOutput {
            next_part_number_marker: parts.last().and_then(|part| part.part_number),
            parts: Some(parts),
            is_truncated: Some(truncated),
            max_parts: Some(max_parts),
            part_number_marker: input.part_number_marker,
            checksum_algorithm: algorithm.map(|algorithm| algorithm.name().to_owned().into()),
            checksum_type: algorithm.map(|_| checksum_type(upload.meta.composite)),
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            ..ListPartsOutput::default()
        }))
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        super::listing::uploads(&self.0, req.input).map(S3Response::new)
    }
}

fn decode_token(token: &str) -> S3Result<String> {
    let bytes = base64_simd::STANDARD.decode_to_vec(token).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    text.ok_or_else(|| s3_error!(InvalidArgument, "The continuation token provided is incorrect"))
}
