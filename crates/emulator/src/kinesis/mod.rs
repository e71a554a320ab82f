//! Kinesis Data Streams: the data plane and the control plane that a reader and its tests need.
//!
//! Invariants: sequence numbers ascend within a shard; the open shards of a stream tile the hash key space; what an
//! iterator has passed it never sees again. Records are encoded once, at the put.
//! It never reads a wall clock and never blocks on anything but its own files.

mod consumer;
mod error;
mod frame;
mod iterator;
mod list;
mod log;
mod put;
mod quota;
mod read;
mod reshard;
mod sequence;
mod stream;
mod subscribe;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde::Deserialize;

pub use self::error::KinesisError;
pub use self::put::Placed;

use self::stream::Stream;
use crate::Clock;
use crate::fault::EventsFault;
use crate::http::{Answer, events, json};
use crate::trace::lock;

/// A stream's ARN in the emulator's only region and account.
pub(crate) fn arn(name: &str) -> String {
    format!("arn:aws:kinesis:us-east-1:000000000000:stream/{name}")
}

/// How the endpoint is set up.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) limits: bool,
    pub(crate) retention_millis: u64,
    pub(crate) change_millis: u64,
    pub(crate) consumer_change_millis: u64,
    pub(crate) subscription_millis: u64,
    pub(crate) dir: Option<PathBuf>,
}

/// The endpoint.
pub(crate) struct Kinesis {
    clock: Clock,
    limits: bool,
    retention_millis: u64,
    change_millis: u64,
    consumer_change_millis: u64,
    subscription_millis: u64,
    registrations: Mutex<quota::Calls>,
    dir: Option<PathBuf>,
    streams: Mutex<BTreeMap<String, Arc<Stream>>>,
}

/// A stream by name or ARN.
#[derive(Debug, Default, Deserialize)]
struct StreamRef {
    #[serde(rename = "StreamName")]
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
}

impl StreamRef {
    fn is_given(&self) -> bool {
        self.stream_name.is_some() || self.stream_arn.is_some()
    }

    fn name(&self) -> Result<&str, KinesisError> {
        let by_arn = self.stream_arn.as_deref().and_then(|arn| arn.split_once(":stream/")).map(|(_, name)| name);
        by_arn
            .or(self.stream_name.as_deref())
            .ok_or_else(|| KinesisError::argument("Either StreamName or StreamARN must be given"))
    }
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, KinesisError> {
    serde_json::from_slice(body).map_err(|error| KinesisError::new("SerializationException", error.to_string()))
}

impl Kinesis {
    pub(crate) fn open(clock: Clock, settings: Settings) -> io::Result<Self> {
        let Settings { limits, retention_millis, change_millis, consumer_change_millis, subscription_millis, dir } =
            settings;
        let mut streams = BTreeMap::new();
        if let Some(dir) = &dir {
            std::fs::create_dir_all(dir)?;
            for entry in std::fs::read_dir(dir)? {
                let path = entry?.path();
                let name = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
                if let Some(name) = name.filter(|_| path.join("stream.json").exists()) {
                    streams.insert(name.clone(), Arc::new(Stream::open(&name, path)?));
                }
            }
        }
        Ok(Self {
            clock,
            limits,
            retention_millis,
            change_millis,
            consumer_change_millis,
            subscription_millis,
            registrations: Mutex::default(),
            dir,
            streams: Mutex::new(streams),
        })
    }

    /// Answers one call.
    pub(crate) fn call(&self, operation: &str, body: &[u8], fault: Option<EventsFault>) -> Answer {
        let result = match operation {
            "SubscribeToShard" => {
                return self.subscribe_to_shard(body, fault).map_or_else(|error| error.answer(), events);
            }
            "CreateStream" => self.create(body),
            "DeleteStream" => self.delete(body),
            "DescribeStream" => self.describe_stream(body),
            "DescribeStreamSummary" => self.describe_stream_summary(body),
            "ListStreams" => self.list_streams(body),
            "ListShards" => self.list_shards(body),
            "PutRecord" => self.put_record(body),
            "PutRecords" => self.put_records(body),
            "GetShardIterator" => self.get_shard_iterator(body),
            "GetRecords" => self.get_records(body),
            "SplitShard" => self.split_shard(body),
            "MergeShards" => self.merge_shards(body),
            "UpdateShardCount" => self.update_shard_count(body),
            "UpdateStreamMode" => self.update_stream_mode(body),
            "RegisterStreamConsumer" => self.register_stream_consumer(body),
            "DescribeStreamConsumer" => self.describe_stream_consumer(body),
            "ListStreamConsumers" => self.list_stream_consumers(body),
            "DeregisterStreamConsumer" => self.deregister_stream_consumer(body),
            _ => Err(KinesisError::new("UnknownOperationException", format!("{operation} is not emulated"))),
        };
        match result {
            Ok(body) => json(200, "1.1", body),
            Err(error) => error.answer(),
        }
    }

    /// What a call is about, for faults and the trace: stream, shard, position.
    pub(crate) fn detail(&self, operation: &str, body: &[u8]) -> String {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        struct Head {
            #[serde(flatten)]
            stream: StreamRef,
            shard_id: Option<String>,
            shard_to_split: Option<String>,
            shard_iterator: Option<String>,
            shard_iterator_type: Option<String>,
            starting_sequence_number: Option<String>,
            #[serde(rename = "ConsumerARN")]
            consumer_arn: Option<String>,
            consumer_name: Option<String>,
            starting_position: Option<subscribe::StartingPosition>,
        }
        if operation.starts_with("PutRecord") {
            return format!("{} bytes", body.len());
        }
        let head: Head = serde_json::from_slice(body).unwrap_or_default();
        if let Some(token) = head.shard_iterator {
            return iterator::Token::decode(&token).map_or_else(
                || "?".to_owned(),
                |token| format!("{}/{}@{}", token.stream, stream::shard_id(token.shard), token.counter),
            );
        }
        let consumer = head.consumer_arn.as_deref().and_then(consumer::parse_arn);
        let stream = consumer.map_or_else(|| head.stream.name().unwrap_or_default(), |of| of.stream);
        let consumer = consumer.map(|of| of.name).or(head.consumer_name.as_deref());
        let consumer = consumer.map(|name| format!(" by {name}")).unwrap_or_default();
        let start = head.starting_position.unwrap_or_default();
        let shard = head.shard_id.or(head.shard_to_split).map(|id| format!("/{id}")).unwrap_or_default();
        let kind = head.shard_iterator_type.or(start.kind).map(|kind| format!(" {kind}")).unwrap_or_default();
        let number = head.starting_sequence_number.or(start.sequence_number);
        let number = number.map(|number| format!(" {number}")).unwrap_or_default();
        format!("{stream}{shard}{consumer}{kind}{number}")
    }

    /// Makes a stream of equal shards.
    pub(crate) fn create_named(&self, name: &str, shards: usize) -> Result<(), KinesisError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if name.is_empty() || name.len() > 128 || !name.chars().all(allowed) || name.starts_with('.') {
            return Err(KinesisError::validation("StreamName must match [a-zA-Z0-9_.-]+ and have 1 to 128 characters"));
        }
        if shards == 0 || shards > 10_000 {
            return Err(KinesisError::argument("ShardCount must be between 1 and 10000"));
        }
        let mut streams = lock(&self.streams);
        if streams.contains_key(name) {
            let message = format!("Stream {name} under account 000000000000 already exists.");
            return Err(KinesisError::new("ResourceInUseException", message));
        }
        let dir = self.dir.as_ref().map(|dir| dir.join(name));
        let now = self.now();
        let stream = Stream::create(name, shards, now, dir).map_err(KinesisError::storage)?;
        if self.change_millis > 0 {
            lock(&stream.state).busy_until_millis = now + self.change_millis;
        }
        streams.insert(name.to_owned(), Arc::new(stream));
        Ok(())
    }

    fn create(&self, body: &[u8]) -> Result<Bytes, KinesisError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Request {
            stream_name: String,
            shard_count: Option<usize>,
            #[serde(default)]
            stream_mode_details: reshard::ModeDetails,
        }
        let request: Request = parse(body)?;
        let on_demand = request.stream_mode_details.on_demand()?;
        if on_demand && request.shard_count.is_some() {
            return Err(KinesisError::validation("ShardCount cannot be given for a stream in ON_DEMAND mode"));
        }
        // An on-demand stream begins with four shards (developer guide).
        self.create_named(&request.stream_name, request.shard_count.unwrap_or(4))?;
        if on_demand {
            self.set_mode(&*self.named(&request.stream_name)?, true)?;
        }
        Ok(Bytes::new())
    }

    fn delete(&self, body: &[u8]) -> Result<Bytes, KinesisError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Request {
            #[serde(flatten)]
            stream: StreamRef,
            enforce_consumer_deletion: Option<bool>,
        }
        let request: Request = parse(body)?;
        let stream = self.stream(&request.stream)?;
        if !lock(&stream.state).consumers.is_empty() && request.enforce_consumer_deletion != Some(true) {
            let message = format!("Stream {} has registered consumers", stream.name);
            return Err(KinesisError::new("ResourceInUseException", message));
        }
        self.delete_named(&stream.name)?;
        Ok(Bytes::new())
    }

    /// Deletes a stream with everything in it; its subscriptions end.
    pub(crate) fn delete_named(&self, name: &str) -> Result<(), KinesisError> {
        let stream = self.named(name)?;
        {
            let mut state = lock(&stream.state);
            state.deleted = true;
            state.shards.iter().for_each(|shard| shard.changed.notify_waiters());
        }
        lock(&self.streams).remove(&stream.name);
        stream.delete_files().map_err(KinesisError::storage)
    }

    /// The ids of the open shards, by hash key.
    pub(crate) fn open_shards(&self, name: &str) -> Result<Vec<String>, KinesisError> {
        let stream = self.named(name)?;
        let state = lock(&stream.state);
        Ok(state.open().iter().map(|index| stream::shard_id(*index)).collect())
    }

    /// Every shard with its parents, as they were made.
    pub(crate) fn lineage(&self, name: &str) -> Result<Vec<(String, Vec<String>)>, KinesisError> {
        let stream = self.named(name)?;
        let state = lock(&stream.state);
        let ids = |indexes: &[usize]| indexes.iter().map(|index| stream::shard_id(*index)).collect();
        Ok(state.shards.iter().map(|shard| (shard.meta.id(), ids(&shard.meta.parents))).collect())
    }

    fn now(&self) -> u64 {
        (self.clock)()
    }

    fn all(&self) -> Vec<Arc<Stream>> {
        lock(&self.streams).values().cloned().collect()
    }

    fn named(&self, name: &str) -> Result<Arc<Stream>, KinesisError> {
        lock(&self.streams).get(name).cloned().ok_or_else(|| KinesisError::stream_not_found(name))
    }

    fn stream(&self, stream: &StreamRef) -> Result<Arc<Stream>, KinesisError> {
        self.named(stream.name()?)
    }
}
