//! Objects that stand in a bucket already: listed, read whole, deleted. For what people redrive.
//!
//! Never: reads an object larger than it was asked for; touches a bucket that is not this destination's own.

use bytes::Bytes;
use standpipe_flow::{DeliveryError, Millis};

use super::S3;
use super::classify::classify;
use super::plain;
use super::requests::{self, DateHeader};

/// One object of a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Listed {
    pub(crate) key: String,
    pub(crate) size: u64,
}

impl S3 {
    /// Every object of its own bucket whose key begins so, in the order of keys, and S3's time. `max` bounds them: what is
    /// beyond is not asked for.
    pub(crate) async fn list(&self, prefix: &str, max: usize) -> Result<(Vec<Listed>, Millis), DeliveryError> {
        let (mut found, mut now, mut after) = (Vec::new(), Millis(0), None);
        loop {
            let date = DateHeader::default();
            let request = self.bucket.client.list_objects_v2().bucket(&self.bucket.name).prefix(prefix);
            let request = request.set_start_after(after.take());
            let answer = request.customize().interceptor(date.clone()).send().await;
            let answer = answer.map_err(|error| classify("ListObjectsV2", &error))?;
            now = date.get().unwrap_or(now);
            let objects = answer.contents().iter().filter_map(|object| {
                let size = object.size().and_then(|size| u64::try_from(size).ok())?;
                Some(Listed { key: object.key()?.to_owned(), size })
            });
            found.extend(objects);
            after = answer.contents().last().and_then(|object| object.key()).map(str::to_owned);
            if answer.is_truncated != Some(true) || after.is_none() || found.len() >= max {
                break;
            }
        }
        if now == Millis(0) {
            return Err(requests::unreadable("ListObjectsV2: no Date header"));
        }
        found.truncate(max);
        Ok((found, now))
    }

    /// The bytes of an object; `None` if it is gone.
    pub(crate) async fn read(&self, object: &Listed) -> Result<Option<Bytes>, DeliveryError> {
        if object.size == 0 {
            return Ok(Some(Bytes::new()));
        }
        plain::get(&self.bucket, &object.key, 0..object.size).await
    }

    /// Deletes an object of its own bucket; one that is not there is fine.
    pub(crate) async fn delete(&self, key: &str) -> Result<(), DeliveryError> {
        plain::delete(&self.bucket, key).await
    }
}
