//! `batch -> stage`, for destinations of another kind: whole objects that stand under their key at once, because what
//! makes them visible is not S3.
//!
//! Invariants: a key is unique by its commit; nothing is overwritten by other bytes.
//! Never: an object of more than one PUT.

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ServerSideEncryption;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use standpipe_flow::{Checksum, DeliveryError, Millis, Output};

use super::S3;
use super::checksum::Sum;
use super::classify::{classify, status};
use super::requests::{self, DateHeader};

/// Requests under way at once.
const AT_ONCE_MAX: usize = 8;
/// For a request of a small body.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The slowest uplink that is still waited for: 256 KiB/s.
const SLOWEST_BYTES_PER_SECOND: u64 = 256 << 10;

/// A whole object to be written.
#[derive(Clone, Debug)]
pub(crate) struct Whole {
    pub(crate) key: String,
    pub(crate) body: Bytes,
    /// Whether one that stands there already is left as it is.
    pub(crate) once: bool,
}

impl S3 {
    /// The name of its own bucket.
    pub fn bucket_name(&self) -> &str {
        &self.bucket.name
    }

    /// PutObject, with a sum over the whole: the sum, and when S3 said so. With `once` an object that stands there is left,
    /// and that is no error.
    pub(crate) async fn put_whole(&self, whole: Whole) -> Result<(Checksum, Option<Millis>), DeliveryError> {
        let date = DateHeader::default();
        let Whole { key, body, once } = whole;
        let sum = Sum::Crc32;
        let digest = sum.of(&body);
        let seconds = body.len() as u64 / SLOWEST_BYTES_PER_SECOND;
        let kms = self.bucket.kms.as_ref();
        let request = self
            .bucket
            .client
            .put_object()
            .bucket(&self.bucket.name)
            .key(key)
            .content_type("application/octet-stream")
            .set_server_side_encryption(kms.map(|_| ServerSideEncryption::AwsKms))
            .set_ssekms_key_id(kms.cloned())
            .set_if_none_match(once.then(|| "*".to_owned()))
            .checksum_crc32(sum.header(&digest))
            .body(ByteStream::from(body));
        let timeout = TIMEOUT + Duration::from_secs(seconds);
        let request = request.customize().config_override(requests::lasting_at_most(timeout)).interceptor(date.clone());
        let request = if self.unsigned { request.disable_payload_signing() } else { request };
        match request.send().await {
            Ok(_) => {}
            Err(error) if once && status(&error) == Some(412) => {}
            // A server from before conditional writes: the key is unique and the bytes are the same every time.
            Err(error) => return Err(classify("PutObject", &error)),
        }
        Ok((sum.checksum(&digest), date.get()))
    }

    /// Which of these objects do not stand under their key, in their size.
    pub(crate) async fn missing_wholes(&self, outputs: &[Output]) -> Result<Vec<Output>, DeliveryError> {
        self.known_buckets(outputs)?;
        let mut missing = Vec::new();
        let look = |output: Output| async move {
            let found = requests::head(&self.bucket.client, &output).await?.0;
            let size = found.and_then(|object| object.content_length()).and_then(|size| u64::try_from(size).ok());
            Ok::<_, DeliveryError>((size != Some(output.size)).then_some(output))
        };
        let mut looked = std::pin::pin!(stream::iter(outputs.to_vec()).map(look).buffered(AT_ONCE_MAX));
        while let Some(found) = looked.next().await {
            missing.extend(found?);
        }
        Ok(missing)
    }
}
