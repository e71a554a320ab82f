//! S3: REST XML by s3s over a store of our own.
//!
//! Any credentials are accepted. Invariants are those of `store` and `uploads`.

mod disk;
mod listing;
mod plain;
mod service;
mod store;
mod sums;
mod uploads;

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http_body_util::BodyExt;
use s3s::service::{S3Service, S3ServiceBuilder};
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

use self::disk::Disk;
use self::service::Service;
use self::store::Store;
use crate::http::{Answer, Request, xml_error};
use crate::{Clock, RepeatComplete};

/// The endpoint.
pub(crate) struct S3 {
    store: Arc<Store>,
    service: S3Service,
}

/// A bucket cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// Give it another name.
    #[error("{0:?} is no bucket name: 3 to 63 lower-case letters, digits, dots and hyphens")]
    Name(String),
    /// The data directory failed.
    #[error("the data directory failed: {0}")]
    Storage(String),
}

/// One object of a bucket, as the checks of a test want it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectSummary {
    /// The key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// The ETag without quotes.
    pub etag: String,
    /// When it appeared, epoch milliseconds.
    pub modified_millis: u64,
    /// The metadata that the writer gave, names in lower case.
    pub metadata: std::collections::BTreeMap<String, String>,
    /// The Content-Encoding that the writer gave.
    pub content_encoding: Option<String>,
}

/// One open upload of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadSummary {
    /// The key of the object that it would become.
    pub key: String,
    /// The upload's id.
    pub upload_id: String,
    /// When it was created, epoch milliseconds.
    pub initiated_millis: u64,
    /// How many parts it has.
    pub parts: usize,
}

impl S3 {
    pub(crate) fn open(clock: Clock, dir: Option<&Path>, repeat_complete: RepeatComplete) -> io::Result<Self> {
        let disk = dir.map(Disk::open).transpose()?;
        let store = Arc::new(Store::open(clock, disk, repeat_complete)?);
        let service = S3ServiceBuilder::new(Service(store.clone())).build();
        Ok(Self { store, service })
    }

    /// Answers one call. It never waits: every body is whole.
    pub(crate) async fn call(&self, request: Request) -> Answer {
        let Ok(mut request) = plain::plain(request) else {
            return xml_error(400, "IncompleteBody", "The request body is not aws-chunked as it says");
        };
        if !request.headers().contains_key(HOST) {
            request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
        }
        // s3s logs every NoSuchUpload as an error; to a client it is an answer like any other.
        let answered = self.service.call(request.map(s3s::Body::from)).with_subscriber(NoSubscriber::default()).await;
        let Ok(answered) = answered else {
            return xml_error(500, "InternalError", "We encountered an internal error. Please try again.");
        };
        let (parts, body) = answered.into_parts();
        match body.collect().await {
            Ok(body) => Answer::from_parts(parts, body.to_bytes().into()),
            Err(_) => xml_error(500, "InternalError", "We encountered an internal error. Please try again."),
        }
    }

    /// Makes a bucket unless it is there.
    pub(crate) fn ensure_bucket(&self, name: &str) -> Result<(), BucketError> {
        if !s3s::path::check_bucket_name(name) {
            return Err(BucketError::Name(name.to_owned()));
        }
        match self.store.create_bucket(name) {
            Err(error) if *error.code() != s3s::S3ErrorCode::BucketAlreadyOwnedByYou => {
                Err(BucketError::Storage(error.to_string()))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn objects(&self, bucket: &str) -> Vec<ObjectSummary> {
        let state = self.store.state();
        let objects = state.buckets.get(bucket).into_iter().flat_map(|bucket| &bucket.objects);
        let summary = |(key, object): (&String, &store::Object)| ObjectSummary {
            key: key.clone(),
            size: object.meta.size,
            etag: object.meta.etag.clone(),
            modified_millis: object.meta.modified_millis,
            metadata: object.meta.headers.metadata.clone(),
            content_encoding: object.meta.headers.content_encoding.clone(),
        };
        objects.map(summary).collect()
    }

    pub(crate) fn object(&self, bucket: &str, key: &str) -> Option<Bytes> {
        self.store.get(bucket, key).ok()?.blob.read().ok()
    }

    /// Whether there was such an object to delete.
    pub(crate) fn delete_object(&self, bucket: &str, key: &str) -> bool {
        self.store.get(bucket, key).is_ok() && self.store.delete(bucket, key).is_ok()
    }

    /// Whether there was such an upload to abort.
    pub(crate) fn abort_upload(&self, bucket: &str, key: &str, upload_id: &str) -> bool {
        self.store.abort_upload(bucket, key, upload_id).is_ok()
    }

    pub(crate) fn open_uploads(&self, bucket: &str) -> Vec<UploadSummary> {
        let state = self.store.state();
        let uploads = state.buckets.get(bucket).into_iter().flat_map(|bucket| &bucket.uploads);
        let summary = |((key, id), upload): (&(String, String), &uploads::Upload)| UploadSummary {
            key: key.clone(),
            upload_id: id.clone(),
            initiated_millis: upload.meta.initiated_millis,
            parts: upload.parts.len(),
        };
        uploads.map(summary).collect()
    }
}
