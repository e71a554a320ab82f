//! Multipart uploads: parts, and the object that they become.
//!
//! Invariants: an upload is invisible until it is completed; a complete is atomic; after a complete or an abort the
//! upload is gone. A complete that fails leaves the upload as it was.

use std::collections::BTreeMap;
use std::io::Write;

use bytes::{Bytes, BytesMut};
use s3s::dto::CompletedPart;
use s3s::{S3Error, S3Result, s3_error};
use serde::{Deserialize, Serialize};

use super::disk::Blob;
use super::store::{Headers, Object, ObjectMeta, State, Store, Target};
use super::sums::{self, Algorithm, Given, Sum, given, md5_hex, multipart_etag};
use crate::RepeatComplete;

/// Every part but the last must weigh so much (S3 user guide, multipart upload limits).
const PART_BYTES_MIN: u64 = 5 << 20;
/// The highest part number (S3 user guide).
const PART_NUMBER_MAX: i32 = 10_000;

/// One open upload.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) meta: UploadMeta,
    pub(super) parts: BTreeMap<i32, Part>,
}

/// What was said when the upload was created.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct UploadMeta {
    pub(super) initiated_millis: u64,
    pub(super) headers: Headers,
    pub(super) algorithm: Option<Algorithm>,
    /// Whether the object's checksum will be one of the parts' checksums.
    pub(super) composite: bool,
}

/// One part.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) meta: PartMeta,
    pub(super) blob: Blob,
}

/// What is known of a part beside its bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PartMeta {
    pub(super) size: u64,
    pub(super) etag: String,
    pub(super) modified_millis: u64,
    pub(super) sum: Option<Sum>,
}

/// Which part is uploaded.
#[derive(Debug, Clone, Copy)]
pub(super) struct PartPlace<'a> {
    pub(super) bucket: &'a str,
    pub(super) key: &'a str,
    pub(super) upload_id: &'a str,
    pub(super) number: i32,
}

/// What became of an upload.
#[derive(Debug, Clone)]
pub(super) struct Finished {
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) meta: ObjectMeta,
}

/// What a CompleteMultipartUpload says.
#[derive(Debug)]
pub(super) struct Complete<'a> {
    pub(super) target: Target<'a>,
    pub(super) upload_id: &'a str,
    pub(super) parts: &'a [CompletedPart],
    pub(super) given: Given,
    pub(super) size: Option<i64>,
}

fn no_such_upload() -> S3Error {
    s3_error!(
        NoSuchUpload,
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."
    )
}

impl Store {
    pub(super) fn create_upload(&self, bucket: &str, key: &str, meta: UploadMeta) -> S3Result<String> {
        let mut state = self.state();
        state.bucket(bucket)?;
        state.uploads_made += 1;
        // Ids ascend in the order of creation, so uploads of one key are listed in that order.
        let id = format!("{:012x}{:08x}", meta.initiated_millis, state.uploads_made);
        if let Some(disk) = &self.disk {
            disk.create_upload(bucket, key, &id, &meta).map_err(S3Error::internal_error)?;
        }
        let upload = Upload { meta, parts: BTreeMap::new() };
        state.bucket(bucket)?.uploads.insert((key.to_owned(), id.clone()), upload);
        Ok(id)
    }

    pub(super) fn upload_part(&self, place: PartPlace<'_>, data: Bytes, given: &Given) -> S3Result<PartMeta> {
        let PartPlace { bucket, key, upload_id: id, number } = place;
        if !(1..=PART_NUMBER_MAX).contains(&number) {
            return Err(s3_error!(InvalidArgument, "Part number must be an integer between 1 and 10000, inclusive"));
        }
        let mut state = self.state();
        let upload = state.upload(bucket, key, id)?;
        let sum = match (upload.meta.algorithm, given.one()) {
            (Some(wanted), Some(found)) if found.algorithm != wanted => {
                let (wanted, found) = (wanted.name(), found.algorithm.name());
                return Err(s3_error!(
                    InvalidRequest,
                    "Checksum Type mismatch occurred, expected checksum Type: {wanted}, actual checksum Type: {found}"
                ));
            }
            (Some(wanted), None) if upload.meta.composite => {
                return Err(s3_error!(
                    InvalidRequest,
                    "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: null",
                    wanted.name()
                ));
            }
            (Some(wanted), None) => Some(wanted.of([&data[..]])),
            (_, Some(_)) => given.verify(&data)?,
            (None, None) => None,
        };
        let meta = PartMeta { size: data.len() as u64, etag: md5_hex(&data), modified_millis: self.now(), sum };
        let blob = match &self.disk {
            None => Blob::Memory(data),
            Some(disk) => {
                let (path, mut file) = disk.temporary().map_err(S3Error::internal_error)?;
                file.write_all(&data).map_err(S3Error::internal_error)?;
                disk.place_part(place, &path, &meta).map_err(S3Error::internal_error)?
            }
        };
        upload.parts.insert(number, Part { meta: meta.clone(), blob });
        Ok(meta)
    }

    pub(super) fn abort_upload(&self, bucket: &str, key: &str, id: &str) -> S3Result<()> {
        let mut state = self.state();
        state.upload(bucket, key, id)?;
        state.bucket(bucket)?.uploads.remove(&(key.to_owned(), id.to_owned()));
        self.forget_parts(bucket, id)
    }

    /// Makes the object of its parts.
    pub(super) fn complete_upload(&self, complete: &Complete<'_>) -> S3Result<ObjectMeta> {
        let Target { bucket, key, .. } = complete.target;
        let mut state = self.state();
        if let Some(meta) = self.repeated(&mut state, complete)? {
            return Ok(meta);
        }
        let upload = state.upload(bucket, key, complete.upload_id)?;
        let chosen = choose(upload, complete)?;
        let meta_of_upload = upload.meta.clone();
        state.check(&complete.target)?;

        let algorithm = meta_of_upload.algorithm.unwrap_or(Algorithm::Crc64Nvme);
        let (source, full) = self.join(&chosen, algorithm)?;
        let sum = if meta_of_upload.composite {
            let values = chosen.iter().map(|part| part.meta.sum.as_ref().map_or("", |sum| sum.value.as_str()));
            algorithm.of_parts(values)
        } else {
            full
        };
        if let Err(error) = verify_whole(&complete.given, &sum) {
            if let Blob::File(path) = &source {
                std::fs::remove_file(path).map_err(S3Error::internal_error)?;
            }
            return Err(error);
        }
        let meta = ObjectMeta {
            size: chosen.iter().map(|part| part.meta.size).sum(),
            etag: multipart_etag(chosen.iter().map(|part| part.meta.etag.as_str())),
            modified_millis: self.now(),
            headers: meta_of_upload.headers,
            sum: Some(sum),
            composite: meta_of_upload.composite,
        };
        let blob = match (&self.disk, source) {
            (Some(disk), Blob::File(path)) => disk.place(bucket, key, &path, &meta).map_err(S3Error::internal_error)?,
            (_, blob) => blob,
        };
        let home = state.bucket(bucket)?;
        home.uploads.remove(&(key.to_owned(), complete.upload_id.to_owned()));
        home.objects.insert(key.to_owned(), Object { meta: meta.clone(), blob });
        let finished = Finished { bucket: bucket.to_owned(), key: key.to_owned(), meta: meta.clone() };
        state.finished.insert(complete.upload_id.to_owned(), finished);
        self.forget_parts(bucket, complete.upload_id)?;
        Ok(meta)
    }

    /// The answer to a complete that already succeeded, where the emulator is told to give one.
    fn repeated(&self, state: &mut State, complete: &Complete<'_>) -> S3Result<Option<ObjectMeta>> {
        let Target { bucket, key, .. } = complete.target;
        state.bucket(bucket)?;
        let finished = state.finished.get(complete.upload_id).filter(|done| done.bucket == bucket && done.key == key);
        match (finished, self.repeat_complete) {
            (Some(finished), RepeatComplete::Succeeds) => Ok(Some(finished.meta.clone())),
            _ => Ok(None),
        }
    }

    /// The parts as one, with the checksum of the whole.
    fn join(&self, parts: &[Part], algorithm: Algorithm) -> S3Result<(Blob, Sum)> {
        let mut sum = sums::Running::new(algorithm);
        let Some(disk) = &self.disk else {
            let mut whole = BytesMut::with_capacity(parts.iter().map(|part| part.meta.size as usize).sum());
            for part in parts {
                let bytes = part.blob.read().map_err(S3Error::internal_error)?;
                sum.update(&bytes);
                whole.extend_from_slice(&bytes);
            }
            return Ok((Blob::Memory(whole.freeze()), sum.finish()));
        };
        let (path, mut file) = disk.temporary().map_err(S3Error::internal_error)?;
        for part in parts {
            let bytes = part.blob.read().map_err(S3Error::internal_error)?;
            sum.update(&bytes);
            file.write_all(&bytes).map_err(S3Error::internal_error)?;
        }
        Ok((Blob::File(path), sum.finish()))
    }

    fn forget_parts(&self, bucket: &str, id: &str) -> S3Result<()> {
        self.disk.as_ref().map_or(Ok(()), |disk| disk.remove_upload(bucket, id)).map_err(S3Error::internal_error)
    }
}

impl State {
    /// The open upload with this id.
    pub(super) fn upload(&mut self, bucket: &str, key: &str, id: &str) -> S3Result<&mut Upload> {
        let upload = self.bucket(bucket)?.uploads.get_mut(&(key.to_owned(), id.to_owned()));
        upload.ok_or_else(no_such_upload)
    }
}

/// The parts that a complete names, checked as S3 checks them.
fn choose(upload: &Upload, complete: &Complete<'_>) -> S3Result<Vec<Part>> {
    let named = complete.parts;
    let numbers: Vec<i32> = named.iter().map(|part| part.part_number.unwrap_or_default()).collect();
    if named.is_empty() {
        return Err(s3_error!(MalformedXML, "You must specify at least one part"));
    }
    if numbers.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err(s3_error!(
            InvalidPartOrder,
            "The list of parts was not in ascending order. Parts must be ordered by part number."
        ));
    }
    let mut chosen = Vec::with_capacity(named.len());
    for (part, number) in named.iter().zip(&numbers) {
        let found = upload.parts.get(number).filter(|found| fits(found, part, &upload.meta));
        let found = found.ok_or_else(|| {
            s3_error!(
                InvalidPart,
                "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified entity tag may not match the part's entity tag."
            )
        })?;
        if upload.meta.composite && given!(part).one().is_none() {
            let name = upload.meta.algorithm.map_or("", Algorithm::name);
            return Err(s3_error!(
                InvalidRequest,
                "The upload was created using a {name} checksum. The complete request must include the checksum for each part. It was missing for part {number} in the request."
            ));
        }
        chosen.push(found.clone());
    }
    let small =
        chosen.split_last().is_some_and(|(_, before)| before.iter().any(|part| part.meta.size < PART_BYTES_MIN));
    if small {
        return Err(s3_error!(EntityTooSmall, "Your proposed upload is smaller than the minimum allowed size"));
    }
    let size: u64 = chosen.iter().map(|part| part.meta.size).sum();
    if complete.size.is_some_and(|declared| u64::try_from(declared) != Ok(size)) {
        return Err(s3_error!(
            InvalidRequest,
            "The provided 'x-amz-mp-object-size' header does not match what was computed"
        ));
    }
    Ok(chosen)
}

/// Whether the part that was uploaded is the one that the complete names. A checksum that the upload was not created
/// for does not fit: S3 answers InvalidPart.
fn fits(found: &Part, named: &CompletedPart, upload: &UploadMeta) -> bool {
    let etag = named.e_tag.as_ref().is_some_and(|etag| etag.value() == found.meta.etag);
    let sum = match given!(named).one() {
        None => true,
        Some(sum) => upload.algorithm == Some(sum.algorithm) && found.meta.sum.as_ref() == Some(&sum),
    };
    etag && sum
}

fn verify_whole(given: &Given, computed: &Sum) -> S3Result<()> {
    match given.one() {
        Some(sum) if sum != *computed => {
            let name = sum.algorithm.name();
            Err(s3_error!(BadDigest, "The {name} you specified did not match the calculated checksum."))
        }
        _ => Ok(()),
    }
}
