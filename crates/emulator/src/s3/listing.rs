//! ListMultipartUploads: open uploads by key and age, in pages, grouped by a delimiter.

use std::collections::BTreeSet;

use s3s::S3Result;
use s3s::dto::{
    ChecksumType, CommonPrefix, ListMultipartUploadsInput, ListMultipartUploadsOutput, MultipartUpload, StorageClass,
};

use super::store::{Store, timestamp};
use super::uploads::Upload;

/// A page has so many uploads at most (API reference).
const PAGE_MAX: i32 = 1000;

pub(super) fn uploads(store: &Store, input: ListMultipartUploadsInput) -> S3Result<ListMultipartUploadsOutput> {
    let max_uploads = input.max_uploads.unwrap_or(PAGE_MAX).clamp(0, PAGE_MAX);
    let prefix = input.prefix.clone().unwrap_or_default();
    let mut state = store.state();
    let bucket = state.bucket(&input.bucket)?;

    let mut listed = Vec::new();
    let mut prefixes = BTreeSet::new();
    let mut last: Option<(String, String)> = None;
    let mut truncated = false;
    let candidates =
        bucket.uploads.iter().filter(|((key, id), _)| key.starts_with(&prefix) && is_after(key, id, &input));
    for ((key, id), upload) in candidates {
        let group = group(key, &prefix, input.delimiter.as_deref());
        if group.as_ref().is_some_and(|group| prefixes.contains(group)) {
            last = Some((key.clone(), id.clone()));
            continue;
        }
        if listed.len() + prefixes.len() >= max_uploads as usize {
            truncated = true;
            break;
        }
        match group {
            Some(group) => {
                prefixes.insert(group);
            }
            None => listed.push(describe(key, id, upload)),
        }
        last = Some((key.clone(), id.clone()));
    }
    let (next_key_marker, next_upload_id_marker) = last.filter(|_| truncated).unzip();
    let common = prefixes.into_iter().map(|prefix| CommonPrefix { prefix: Some(prefix) }).collect::<Vec<_>>();
    Ok(ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        common_prefixes: (!common.is_empty()).then_some(common),
        delimiter: input.delimiter,
        is_truncated: Some(truncated),
        key_marker: input.key_marker,
        max_uploads: Some(max_uploads),
        next_key_marker,
        next_upload_id_marker,
        prefix: input.prefix,
        upload_id_marker: input.upload_id_marker,
        uploads: Some(listed),
        ..ListMultipartUploadsOutput::default()
    })
}

/// Without an id marker the key marker excludes its key; with one, uploads of that key with a greater id follow.
fn is_after(key: &str, id: &str, input: &ListMultipartUploadsInput) -> bool {
    let key_marker = input.key_marker.as_deref().unwrap_or_default();
    match input.upload_id_marker.as_deref().filter(|marker| !marker.is_empty()) {
        Some(id_marker) if !key_marker.is_empty() => key > key_marker || (key == key_marker && id > id_marker),
        _ => key_marker.is_empty() || key > key_marker,
    }
}

fn group(key: &str, prefix: &str, delimiter: Option<&str>) -> Option<String> {
    let delimiter = delimiter.filter(|delimiter| !delimiter.is_empty())?;
    let at = key[prefix.len()..].find(delimiter)?;
    Some(key[..prefix.len() + at + delimiter.len()].to_owned())
}

fn describe(key: &str, id: &str, upload: &Upload) -> MultipartUpload {
    let kind = if upload.meta.composite { ChecksumType::COMPOSITE } else { ChecksumType::FULL_OBJECT };
    MultipartUpload {
        key: Some(key.to_owned()),
        upload_id: Some(id.to_owned()),
        initiated: Some(timestamp(upload.meta.initiated_millis)),
        checksum_algorithm: upload.meta.algorithm.map(|algorithm| algorithm.name().to_owned().into()),
        checksum_type: upload.meta.algorithm.map(|_| ChecksumType::from_static(kind)),
        storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
        ..MultipartUpload::default()
    }
}
