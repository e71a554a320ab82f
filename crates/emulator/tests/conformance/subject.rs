//! What the checks look at: an emulator of ours, or servers that others wrote, at the URLs in STANDPIPE_CHECK_KINESIS,
//! STANDPIPE_CHECK_DYNAMODB and STANDPIPE_CHECK_S3 (all three, and one check at a time: each begins with nothing there).
//!
//! What the emulator's own functions do for a check, the API does there. A check that makes the emulator fail, or that
//! needs a clock which can be moved on by minutes, is ours alone and fails there; time passes at a fifth of what is said.

#![allow(
    clippy::disallowed_methods,
    reason = "foreign servers know the real time alone, and are named by the environment"
)]

use std::cell::Cell;
use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_sdk_dynamodb::config::Credentials;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, StreamStatus};
use bytes::Bytes;
use standpipe_emulator::{BucketError, Emulator, KinesisError, ObjectSummary, Placed, UploadSummary};

use crate::support::{BASE_MILLIS, builder, services};

type Services = (aws_sdk_kinesis::Client, aws_sdk_dynamodb::Client, aws_sdk_s3::Client);

/// A clock that stands still for a check may be moved on by so much; a real one may not.
const PASS_MILLIS_MAX: u64 = 60_000;
/// Real time for what is said.
const SLOWER: u64 = 5;

thread_local! {
    /// When the check began on a foreign server, epoch milliseconds. Each check has a thread of its own.
    static BEGAN: Cell<Option<u64>> = const { Cell::new(None) };
}

fn urls() -> Option<[String; 3]> {
    let url = |service: &str| std::env::var(format!("STANDPIPE_CHECK_{service}")).ok();
    Some([url("KINESIS")?, url("DYNAMODB")?, url("S3")?])
}

/// An emulator, or servers that others wrote.
pub struct Subject(Option<Arc<Emulator>>);

impl Deref for Subject {
    type Target = Arc<Emulator>;

    fn deref(&self) -> &Arc<Emulator> {
        self.0.as_ref().expect("ours alone: the check looks into the emulator or makes it fail")
    }
}

fn now_millis() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    u64::try_from(now.as_millis()).expect("not that late")
}

/// An instant of a check, so many milliseconds after it began, as epoch milliseconds.
pub fn moment(millis: u64) -> u64 {
    BEGAN.get().map_or(BASE_MILLIS + millis, |began| began + millis / SLOWER)
}

/// Whether something happened, as a server says in epoch milliseconds, so long after the check began; to the second or
/// to the millisecond. A real clock is within some seconds of that.
pub fn happened(found: u64, millis: u64) -> bool {
    match BEGAN.get() {
        None => found == BASE_MILLIS + millis || found == (BASE_MILLIS + millis) / 1000 * 1000,
        Some(began) => (began.saturating_sub(2_000)..=now_millis() + 2_000).contains(&found),
    }
}

/// Lets so much time pass.
pub async fn pass(millis: u64) {
    let millis = if BEGAN.get().is_some() {
        assert!(millis <= PASS_MILLIS_MAX, "ours alone: the clock is moved on by {millis} ms");
        millis / SLOWER
    } else {
        millis
    };
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// A client of each of the foreign servers, if there are any.
pub async fn foreign() -> Option<Services> {
    let urls = urls()?;
    let mut configs = Vec::new();
    for url in urls {
        let key = std::env::var("AWS_ACCESS_KEY_ID").unwrap_or_else(|_| "standpipe".to_owned());
        let secret = std::env::var("AWS_SECRET_ACCESS_KEY").unwrap_or_else(|_| "standpipe".to_owned());
        let builder =
            builder().endpoint_url(url).credentials_provider(Credentials::new(key, secret, None, None, "test"));
        configs.push(builder.load().await);
    }
    let (kinesis, _, _) = services(&configs[0]);
    let (_, dynamodb, _) = services(&configs[1]);
    let (_, _, s3) = services(&configs[2]);
    Some((kinesis, dynamodb, s3))
}

/// Does something by the API while the check stands still: in a runtime and with connections of its own.
fn meanwhile<T: Send, F: Future<Output = T>>(work: impl FnOnce(Services) -> F + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async { work(foreign().await.expect("foreign servers")).await })
        });
        thread.join().expect("the server does it")
    })
}

async fn active(kinesis: &aws_sdk_kinesis::Client, stream: &str) {
    loop {
        let summary = kinesis.describe_stream_summary().stream_name(stream).send().await.expect("described");
        if summary.stream_description_summary().expect("a summary").stream_status() == &StreamStatus::Active {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Nothing is there: no stream, no table, no bucket.
async fn clean((kinesis, dynamodb, s3): &Services) {
    for stream in kinesis.list_streams().send().await.expect("listed").stream_names() {
        // One that is still changing is not deleted.
        for _ in 0..1_000 {
            if kinesis.describe_stream_summary().stream_name(stream).send().await.is_err() {
                break;
            }
            let _ = kinesis.delete_stream().stream_name(stream).enforce_consumer_deletion(true).send().await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    for table in dynamodb.list_tables().send().await.expect("listed").table_names() {
        dynamodb.delete_table().table_name(table).send().await.expect("deleted");
    }
    for bucket in s3.list_buckets().send().await.expect("listed").buckets() {
        let name = bucket.name().expect("a name");
        for upload in s3.list_multipart_uploads().bucket(name).send().await.expect("listed").uploads() {
            let abort = s3.abort_multipart_upload().bucket(name).key(upload.key().expect("a key"));
            abort.set_upload_id(upload.upload_id().map(str::to_owned)).send().await.expect("aborted");
        }
        for object in s3.list_objects_v2().bucket(name).send().await.expect("listed").contents() {
            s3.delete_object().bucket(name).key(object.key().expect("a key")).send().await.expect("deleted");
        }
        s3.delete_bucket().bucket(name).send().await.expect("deleted");
    }
}

impl Subject {
    /// The emulator, if it is ours.
    pub fn inside(&self) -> Option<&Arc<Emulator>> {
        self.0.as_ref()
    }

    /// An emulator of ours.
    pub fn ours(emulator: Arc<Emulator>) -> Self {
        Self(Some(emulator))
    }

    /// The foreign servers, emptied. Their clock is the real one.
    pub async fn theirs(services: &Services) -> Self {
        if BEGAN.get().is_none() {
            tokio::time::resume();
        }
        clean(services).await;
        BEGAN.set(Some(now_millis()));
        Self(None)
    }

    pub fn create_stream(&self, name: &str, shards: usize) -> Result<(), KinesisError> {
        let Some(emulator) = &self.0 else {
            meanwhile(async |(kinesis, _, _)| {
                let create = kinesis.create_stream().stream_name(name);
                create.shard_count(i32::try_from(shards).expect("few")).send().await.expect("made");
                active(&kinesis, name).await;
            });
            BEGAN.set(Some(now_millis()));
            return Ok(());
        };
        emulator.create_stream(name, shards)
    }

    pub fn open_shards(&self, stream: &str) -> Result<Vec<String>, KinesisError> {
        let Some(emulator) = &self.0 else {
            return Ok(meanwhile(async |(kinesis, _, _)| {
                let listed = kinesis.list_shards().stream_name(stream).send().await.expect("listed");
                let mut open: Vec<_> = listed.shards().to_vec();
                open.retain(|shard| {
                    shard.sequence_number_range().is_some_and(|range| range.ending_sequence_number().is_none())
                });
                let start = |shard: &aws_sdk_kinesis::types::Shard| {
                    shard.hash_key_range().and_then(|range| range.starting_hash_key().parse::<u128>().ok())
                };
                open.sort_by_key(start);
                open.iter().map(|shard| shard.shard_id().to_owned()).collect()
            }));
        };
        emulator.open_shards(stream)
    }

    pub fn put_records(&self, stream: &str, records: &[(String, Bytes)]) -> Result<Vec<Placed>, KinesisError> {
        let Some(emulator) = &self.0 else {
            return Ok(meanwhile(async |(kinesis, _, _)| {
                let mut placed = Vec::new();
                let heavy = records.iter().any(|(_, data)| data.len() > 10_000);
                for records in records.chunks(if heavy { 4 } else { 500 }) {
                    let entries = records.iter().map(|(key, data)| {
                        let entry = PutRecordsRequestEntry::builder().partition_key(key).data(Blob::new(data.to_vec()));
                        entry.build().expect("complete")
                    });
                    let put = kinesis.put_records().stream_name(stream).set_records(Some(entries.collect()));
                    let put = put.send().await.expect("put");
                    placed.extend(put.records().iter().map(|record| Placed {
                        shard_id: record.shard_id().expect("placed").to_owned(),
                        sequence_number: record.sequence_number().expect("placed").to_owned(),
                    }));
                }
                placed
            }));
        };
        emulator.put_records(stream, records)
    }

    pub fn split_shard(&self, stream: &str, shard_id: &str) -> Result<(), KinesisError> {
        let Some(emulator) = &self.0 else {
            meanwhile(async |(kinesis, _, _)| {
                let listed = kinesis.list_shards().stream_name(stream).send().await.expect("listed");
                let shard = listed.shards().iter().find(|shard| shard.shard_id() == shard_id).expect("there");
                let range = shard.hash_key_range().expect("a range");
                let key = |text: &str| text.parse::<u128>().expect("a number");
                let (low, high) = (key(range.starting_hash_key()), key(range.ending_hash_key()));
                let split = kinesis.split_shard().stream_name(stream).shard_to_split(shard_id);
                let middle = (low + (high - low) / 2 + 1).to_string();
                split.new_starting_hash_key(middle).send().await.expect("split");
                active(&kinesis, stream).await;
            });
            return Ok(());
        };
        emulator.split_shard(stream, shard_id)
    }

    pub fn merge_shards(&self, stream: &str, shard_id: &str, adjacent: &str) -> Result<(), KinesisError> {
        let Some(emulator) = &self.0 else {
            meanwhile(async |(kinesis, _, _)| {
                let merge = kinesis.merge_shards().stream_name(stream).shard_to_merge(shard_id);
                merge.adjacent_shard_to_merge(adjacent).send().await.expect("merged");
                active(&kinesis, stream).await;
            });
            return Ok(());
        };
        emulator.merge_shards(stream, shard_id, adjacent)
    }

    pub fn create_bucket(&self, name: &str) -> Result<(), BucketError> {
        let Some(emulator) = &self.0 else {
            meanwhile(async |(_, _, s3)| s3.create_bucket().bucket(name).send().await.map(drop)).expect("made");
            return Ok(());
        };
        emulator.create_bucket(name)
    }

    pub fn objects(&self, bucket: &str) -> Vec<ObjectSummary> {
        let Some(emulator) = &self.0 else {
            return meanwhile(async |(_, _, s3)| {
                let listed = s3.list_objects_v2().bucket(bucket).send().await.expect("listed");
                let object = |object: &aws_sdk_s3::types::Object| ObjectSummary {
                    key: object.key().expect("a key").to_owned(),
                    size: object.size().unwrap_or_default().unsigned_abs(),
                    etag: object.e_tag().unwrap_or_default().trim_matches('"').to_owned(),
                    modified_millis: 0,
                    metadata: [].into(),
                    content_encoding: None,
                };
                listed.contents().iter().map(object).collect()
            });
        };
        emulator.objects(bucket)
    }

    pub fn object(&self, bucket: &str, key: &str) -> Option<Bytes> {
        let Some(emulator) = &self.0 else {
            return meanwhile(async |(_, _, s3)| {
                let object = s3.get_object().bucket(bucket).key(key).send().await.ok()?;
                Some(object.body.collect().await.expect("read").into_bytes())
            });
        };
        emulator.object(bucket, key)
    }

    pub fn open_uploads(&self, bucket: &str) -> Vec<UploadSummary> {
        let Some(emulator) = &self.0 else {
            return meanwhile(async |(_, _, s3)| {
                let listed = s3.list_multipart_uploads().bucket(bucket).send().await.expect("listed");
                let upload = |upload: &aws_sdk_s3::types::MultipartUpload| UploadSummary {
                    key: upload.key().expect("a key").to_owned(),
                    upload_id: upload.upload_id().expect("an id").to_owned(),
                    initiated_millis: 0,
                    parts: 0,
                };
                listed.uploads().iter().map(upload).collect()
            });
        };
        emulator.open_uploads(bucket)
    }
}
