//! Buckets and objects: what is there, conditional writes, listing.
//!
//! Invariants: a write is seen whole or not at all; of several writes with If-None-Match one succeeds; a listing is in
//! the order of the keys' bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use s3s::dto::{ETagCondition, Timestamp};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};
use serde::{Deserialize, Serialize};

use super::disk::{Blob, Disk};
use super::sums::{Algorithm, Given, Sum, md5_hex};
use super::uploads::{Finished, Upload};
use crate::trace::lock;
use crate::{Clock, RepeatComplete};

/// Everything that S3 holds.
pub(super) struct Store {
    pub(super) clock: Clock,
    pub(super) disk: Option<Disk>,
    pub(super) repeat_complete: RepeatComplete,
    state: Mutex<State>,
}

/// What changes.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) buckets: BTreeMap<String, Bucket>,
    /// Completed uploads, for a repeated CompleteMultipartUpload.
    pub(super) finished: BTreeMap<String, Finished>,
    pub(super) uploads_made: u64,
}

/// One bucket.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    pub(super) created_millis: u64,
    pub(super) objects: BTreeMap<String, Object>,
    /// Open uploads by key and id, the order in which they are listed.
    pub(super) uploads: BTreeMap<(String, String), Upload>,
}

/// One object.
#[derive(Debug, Clone)]
pub(super) struct Object {
    pub(super) meta: ObjectMeta,
    pub(super) blob: Blob,
}

/// What is known of an object beside its bytes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct ObjectMeta {
    pub(super) size: u64,
    pub(super) etag: String,
    pub(super) modified_millis: u64,
    pub(super) headers: Headers,
    pub(super) sum: Option<Sum>,
    /// Whether the checksum is one of the parts' checksums.
    pub(super) composite: bool,
}

/// What the writer said of an object, given back as it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Headers {
    pub(super) content_type: Option<String>,
    pub(super) content_encoding: Option<String>,
    pub(super) content_disposition: Option<String>,
    pub(super) content_language: Option<String>,
    pub(super) cache_control: Option<String>,
    pub(super) encryption: Option<String>,
    pub(super) kms_key_id: Option<String>,
    pub(super) bucket_key: Option<bool>,
    pub(super) storage_class: Option<String>,
    pub(super) metadata: BTreeMap<String, String>,
}

/// A page of a listing.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) objects: Vec<(String, ObjectMeta)>,
    pub(super) prefixes: Vec<String>,
    pub(super) truncated: bool,
    /// The last key or common prefix on the page.
    pub(super) last: Option<String>,
}

/// What is asked of a listing.
#[derive(Debug, Default)]
pub(super) struct Ask<'a> {
    pub(super) prefix: &'a str,
    pub(super) delimiter: Option<&'a str>,
    pub(super) after: &'a str,
    pub(super) most: usize,
}

impl Store {
    pub(super) fn open(clock: Clock, disk: Option<Disk>, repeat_complete: RepeatComplete) -> std::io::Result<Self> {
        let buckets = disk.as_ref().map_or(Ok(BTreeMap::new()), Disk::load)?;
        let state = Mutex::new(State { buckets, ..State::default() });
        Ok(Self { clock, disk, repeat_complete, state })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(super) fn now(&self) -> u64 {
        (self.clock)()
    }

    pub(super) fn create_bucket(&self, name: &str) -> S3Result<()> {
        let mut state = self.state();
        if state.buckets.contains_key(name) {
            let message = "Your previous request to create the named bucket succeeded and you already own it.";
            return Err(S3Error::with_message(S3ErrorCode::BucketAlreadyOwnedByYou, message));
        }
        let created_millis = self.now();
        if let Some(disk) = &self.disk {
            disk.create_bucket(name, created_millis).map_err(S3Error::internal_error)?;
        }
        state.buckets.insert(name.to_owned(), Bucket { created_millis, ..Bucket::default() });
        Ok(())
    }

    pub(super) fn delete_bucket(&self, name: &str) -> S3Result<()> {
        let mut state = self.state();
        if !state.bucket(name)?.objects.is_empty() {
            return Err(s3_error!(BucketNotEmpty, "The bucket you tried to delete is not empty"));
        }
        if let Some(disk) = &self.disk {
            disk.remove_bucket(name).map_err(S3Error::internal_error)?;
        }
        state.buckets.remove(name);
        Ok(())
    }

    /// Writes one object in one piece.
    pub(super) fn put(&self, target: Target<'_>, data: Bytes, headers: Headers, given: &Given) -> S3Result<ObjectMeta> {
        let sum = match given.verify(&data)? {
            Some(sum) => sum,
            None => Algorithm::Crc64Nvme.of([&data[..]]),
        };
        let meta = ObjectMeta {
            size: data.len() as u64,
            etag: md5_hex(&data),
            modified_millis: self.now(),
            headers,
            sum: Some(sum),
            composite: false,
        };
        let mut state = self.state();
        state.check(&target)?;
        let blob = match &self.disk {
            None => Blob::Memory(data),
            Some(disk) => {
                let (path, mut file) = disk.temporary().map_err(S3Error::internal_error)?;
                file.write_all(&data).map_err(S3Error::internal_error)?;
                disk.place(target.bucket, target.key, &path, &meta).map_err(S3Error::internal_error)?
            }
        };
        let bucket = state.bucket(target.bucket)?;
        bucket.objects.insert(target.key.to_owned(), Object { meta: meta.clone(), blob });
        Ok(meta)
    }

    pub(super) fn get(&self, bucket: &str, key: &str) -> S3Result<Object> {
        let mut state = self.state();
        let found = state.bucket(bucket)?.objects.get(key).cloned();
        found.ok_or_else(|| s3_error!(NoSuchKey, "The specified key does not exist."))
    }

    pub(super) fn delete(&self, bucket: &str, key: &str) -> S3Result<()> {
        let mut state = self.state();
        let removed = state.bucket(bucket)?.objects.remove(key);
        if let (Some(object), Some(disk)) = (removed, &self.disk) {
            disk.remove_object(bucket, key, &object.blob).map_err(S3Error::internal_error)?;
        }
        Ok(())
    }

    /// One page of the bucket's keys.
    pub(super) fn list(&self, bucket: &str, ask: &Ask<'_>) -> S3Result<Listing> {
        let mut state = self.state();
        let bucket = state.bucket(bucket)?;
        let mut listing = Listing::default();
        let mut prefixes = BTreeSet::new();
        let first = if ask.after > ask.prefix { ask.after } else { ask.prefix };
        let keys = bucket.objects.range(first.to_owned()..).take_while(|(key, _)| key.starts_with(ask.prefix));
        for (key, object) in keys.filter(|(key, _)| key.as_str() > ask.after) {
            let group = common_prefix(key, ask);
            // A page that ended with a common prefix has told everything below it.
            if group.is_some_and(|group| group == ask.after || prefixes.contains(group)) {
                continue;
            }
            if listing.objects.len() + prefixes.len() >= ask.most {
                listing.truncated = true;
                break;
            }
            match group {
                Some(group) => {
                    prefixes.insert(group.to_owned());
                    listing.last = Some(group.to_owned());
                }
                None => {
                    listing.objects.push((key.clone(), object.meta.clone()));
                    listing.last = Some(key.clone());
                }
            }
        }
        listing.prefixes = prefixes.into_iter().collect();
        Ok(listing)
    }
}

fn common_prefix<'a>(key: &'a str, ask: &Ask<'_>) -> Option<&'a str> {
    let delimiter = ask.delimiter.filter(|delimiter| !delimiter.is_empty())?;
    let at = key[ask.prefix.len()..].find(delimiter)?;
    Some(&key[..ask.prefix.len() + at + delimiter.len()])
}

/// Which object is written, and under what condition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) bucket: &'a str,
    pub(super) key: &'a str,
    pub(super) if_match: Option<&'a ETagCondition>,
    pub(super) if_none_match: Option<&'a ETagCondition>,
}

impl State {
    pub(super) fn bucket(&mut self, name: &str) -> S3Result<&mut Bucket> {
        self.buckets.get_mut(name).ok_or_else(|| s3_error!(NoSuchBucket, "The specified bucket does not exist"))
    }

    /// Whether the conditions of a write hold.
    pub(super) fn check(&mut self, target: &Target<'_>) -> S3Result<()> {
        let found = self.bucket(target.bucket)?.objects.get(target.key);
        let failed = || s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold");
        if let Some(condition) = target.if_none_match {
            let hit = found.is_some_and(|object| names(condition, &object.meta.etag));
            if hit {
                return Err(failed());
            }
        }
        if let Some(condition) = target.if_match {
            match found {
                None => return Err(s3_error!(NoSuchKey, "The specified key does not exist.")),
                Some(object) if !names(condition, &object.meta.etag) => return Err(failed()),
                Some(_) => {}
            }
        }
        Ok(())
    }
}

/// Whether an If-Match or If-None-Match names this ETag.
pub(super) fn names(condition: &ETagCondition, etag: &str) -> bool {
    condition.is_any() || condition.as_etag().is_some_and(|named| named.value() == etag)
}

/// An instant as s3s writes it.
pub(super) fn timestamp(epoch_millis: u64) -> Timestamp {
    (std::time::UNIX_EPOCH + std::time::Duration::from_millis(epoch_millis)).into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    fn store(keys: &BTreeSet<String>) -> Store {
        let store = Store::open(Arc::new(|| 0), None, RepeatComplete::default()).expect("memory");
        store.create_bucket("bkt").expect("made");
        for key in keys {
            let target = Target { bucket: "bkt", key, if_match: None, if_none_match: None };
            store.put(target, Bytes::new(), Headers::default(), &Given::default()).expect("put");
        }
        store
    }

    /// Keys and common prefixes in one list, by the words of the API reference and nothing else.
    fn naive(keys: &BTreeSet<String>, prefix: &str, delimiter: Option<&str>) -> Vec<String> {
        let listed = keys.iter().filter(|key| key.starts_with(prefix)).map(|key| {
            let rest = &key[prefix.len()..];
            match delimiter.and_then(|delimiter| rest.split_once(delimiter)) {
                Some((group, _)) => format!("{prefix}{group}{}", delimiter.unwrap_or_default()),
                None => key.clone(),
            }
        });
        listed.collect::<BTreeSet<_>>().into_iter().collect()
    }

    proptest! {
        #[test]
        fn pages_are_the_listing_cut_in_pieces(
            keys in proptest::collection::btree_set("[ab/]{1,5}", 0..20),
            prefix in "[ab/]{0,2}",
            grouped: bool,
            most in 1usize..5,
        ) {
            let store = store(&keys);
            let delimiter = grouped.then_some("/");
            let mut seen = Vec::new();
            let mut after = String::new();
            loop {
                let ask = Ask { prefix: &prefix, delimiter, after: &after, most };
                let page = store.list("bkt", &ask).expect("listed");
                let mut names: Vec<_> = page.objects.into_iter().map(|(key, _)| key).chain(page.prefixes).collect();
                names.sort();
                prop_assert!(names.len() <= most);
                seen.extend(names);
                let Some(last) = page.last.filter(|_| page.truncated) else { break };
                after = last;
            }
            prop_assert_eq!(seen, naive(&keys, &prefix, delimiter));
        }
    }
}
