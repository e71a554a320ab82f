//! One stream: its shards with their hash ranges, lineage and records.
//!
//! Invariant: the open shards tile the hash key space. A closed shard keeps its records and knows its children.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::consumer::Consumer;
use super::error::KinesisError;
use super::log::Log;
use super::quota::Quota;
use super::sequence::{self, Parts};
use super::subscribe::Subscribed;

/// One stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) name: String,
    pub(super) created_millis: u64,
    pub(super) state: Mutex<StreamState>,
    dir: Option<PathBuf>,
}

/// What changes in a stream.
#[derive(Debug)]
pub(super) struct StreamState {
    pub(super) shards: Vec<Shard>,
    /// Indexes of the open shards, by hash key.
    open: Vec<usize>,
    /// The counter that the next record or shard boundary takes.
    pub(super) next_counter: u64,
    /// Until then the stream is CREATING or UPDATING.
    pub(super) busy_until_millis: u64,
    /// Registered consumers by name.
    pub(super) consumers: BTreeMap<String, Consumer>,
    /// The stream is gone: its subscriptions end.
    pub(super) deleted: bool,
    /// The service decides how many shards there are.
    pub(super) on_demand: bool,
    /// When UpdateShardCount was called in the last 24 hours.
    pub(super) scalings: Vec<u64>,
}

/// One shard.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) meta: ShardMeta,
    pub(super) children: Vec<usize>,
    pub(super) log: Log,
    pub(super) quota: Quota,
    /// Wakes subscriptions: something about the shard has changed.
    pub(super) changed: Arc<Notify>,
    /// The last subscription of each consumer, by its name.
    pub(super) subscriptions: BTreeMap<String, Subscribed>,
}

impl Shard {
    fn new(meta: ShardMeta, log: Log) -> Self {
        Self {
            meta,
            children: Vec::new(),
            log,
            quota: Quota::default(),
            changed: Arc::default(),
            subscriptions: BTreeMap::new(),
        }
    }
}

/// What is kept of a shard beside its records.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ShardMeta {
    pub(super) index: usize,
    #[serde(with = "decimal")]
    pub(super) hash_start: u128,
    #[serde(with = "decimal")]
    pub(super) hash_end: u128,
    pub(super) parents: Vec<usize>,
    pub(super) created_millis: u64,
    pub(super) starting_counter: u64,
    pub(super) closed: Option<Closed>,
}

/// When and where a shard ended.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Closed {
    pub(super) at_millis: u64,
    pub(super) ending_counter: u64,
}

#[derive(Serialize, Deserialize)]
struct StreamFile {
    created_millis: u64,
    shards: Vec<ShardMeta>,
    #[serde(default)]
    consumers: BTreeMap<String, Consumer>,
    #[serde(default)]
    on_demand: bool,
}

mod decimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &u128, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&value.to_string())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u128, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

impl ShardMeta {
    /// The shard's id, `shardId-` and twelve digits.
    pub(super) fn id(&self) -> String {
        shard_id(self.index)
    }

    pub(super) fn is_open(&self) -> bool {
        self.closed.is_none()
    }
}

/// The id of the shard with this index.
pub(super) fn shard_id(index: usize) -> String {
    format!("shardId-{index:012}")
}

/// The index in a shard id; ids shorter than twelve digits are accepted as the service accepts them.
pub(super) fn shard_index(id: &str) -> Option<usize> {
    id.strip_prefix("shardId-")?.parse().ok()
}

impl Stream {
    /// Makes a stream of equal shards, with its files where there is a directory.
    pub(super) fn create(name: &str, shards: usize, now: u64, dir: Option<PathBuf>) -> io::Result<Self> {
        if let Some(dir) = &dir {
            std::fs::create_dir_all(dir)?;
        }
        let state = StreamState::new(Vec::new(), 1, BTreeMap::new());
        let stream = Self { name: name.to_owned(), created_millis: now, state: Mutex::new(state), dir };
        {
            let mut state = crate::trace::lock(&stream.state);
            for index in 0..shards {
                let range = sequence::even_range(index, shards);
                stream.add_shard(&mut state, range, Vec::new(), now)?;
            }
            stream.save(&state)?;
        }
        Ok(stream)
    }

    /// Opens what `create` left in a directory.
    pub(super) fn open(name: &str, dir: PathBuf) -> io::Result<Self> {
        let file: StreamFile = serde_json::from_slice(&std::fs::read(dir.join("stream.json"))?)?;
        let mut shards: Vec<Shard> = Vec::new();
        let mut next_counter = 1;
        for meta in file.shards {
            let log = Log::open(&log_path(&dir, meta.index))?;
            let last = log.entries().last().map_or(0, |entry| entry.counter);
            let ending = meta.closed.map_or(0, |closed| closed.ending_counter);
            next_counter = next_counter.max(last + 1).max(meta.starting_counter + 1).max(ending + 1);
            for parent in &meta.parents {
                if let Some(parent) = shards.get_mut(*parent) {
                    parent.children.push(meta.index);
                }
            }
            shards.push(Shard::new(meta, log));
        }
        let mut state = StreamState::new(shards, next_counter, file.consumers);
        state.on_demand = file.on_demand;
        state.index_open();
        let created_millis = file.created_millis;
        Ok(Self { name: name.to_owned(), created_millis, state: Mutex::new(state), dir: Some(dir) })
    }

    /// Removes the stream's files.
    pub(super) fn delete_files(&self) -> io::Result<()> {
        self.dir.as_ref().map_or(Ok(()), std::fs::remove_dir_all)
    }

    /// The stream's ARN in the emulator's only region and account.
    pub(super) fn arn(&self) -> String {
        super::arn(&self.name)
    }

    /// The sequence number of this counter in this shard.
    pub(super) fn number(&self, shard: usize, counter: u64) -> String {
        sequence::format(Parts { created_secs: self.created_millis / 1000, shard, counter })
    }

    /// Closes these shards and puts children with these hash ranges in their place.
    pub(super) fn replace(
        &self,
        state: &mut StreamState,
        parents: &[usize],
        ranges: &[(u128, u128)],
        now: u64,
    ) -> Result<(), KinesisError> {
        let ending_counter = state.take_counter();
        for parent in parents {
            state.shards[*parent].meta.closed = Some(Closed { at_millis: now, ending_counter });
        }
        for range in ranges {
            self.add_shard(state, *range, parents.to_vec(), now).map_err(KinesisError::storage)?;
        }
        for parent in parents {
            state.shards[*parent].changed.notify_waiters();
        }
        self.save(state).map_err(KinesisError::storage)
    }

    fn add_shard(
        &self,
        state: &mut StreamState,
        (hash_start, hash_end): (u128, u128),
        parents: Vec<usize>,
        now: u64,
    ) -> io::Result<()> {
        let index = state.shards.len();
        let log = match &self.dir {
            Some(dir) => Log::open(&log_path(dir, index))?,
            None => Log::in_memory(),
        };
        for parent in &parents {
            state.shards[*parent].children.push(index);
        }
        let starting_counter = state.take_counter();
        let created_millis = now;
        let meta = ShardMeta { index, hash_start, hash_end, parents, created_millis, starting_counter, closed: None };
        state.shards.push(Shard::new(meta, log));
        state.index_open();
        Ok(())
    }

    /// Writes what is kept of the stream beside its records, where there is a directory.
    pub(super) fn save(&self, state: &StreamState) -> io::Result<()> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let shards = state.shards.iter().map(|shard| shard.meta.clone()).collect();
        let bytes = serde_json::to_vec_pretty(&StreamFile {
            created_millis: self.created_millis,
            shards,
            consumers: state.consumers.clone(),
            on_demand: state.on_demand,
        })?;
        let temporary = dir.join("stream.json.new");
        std::fs::write(&temporary, bytes)?;
        std::fs::rename(temporary, dir.join("stream.json"))
    }
}

impl StreamState {
    fn new(shards: Vec<Shard>, next_counter: u64, consumers: BTreeMap<String, Consumer>) -> Self {
        Self {
            shards,
            open: Vec::new(),
            next_counter,
            busy_until_millis: 0,
            consumers,
            deleted: false,
            on_demand: false,
            scalings: Vec::new(),
        }
    }

    /// The open shard that takes this hash key.
    pub(super) fn route(&self, hash: u128) -> usize {
        let place = self.open.partition_point(|index| self.shards[*index].meta.hash_start <= hash);
        self.open[place - 1]
    }

    /// Indexes of the open shards, by hash key.
    pub(super) fn open(&self) -> &[usize] {
        &self.open
    }

    /// The shard with this id.
    pub(super) fn find(&self, id: &str) -> Option<usize> {
        shard_index(id).filter(|index| *index < self.shards.len())
    }

    pub(super) fn take_counter(&mut self) -> u64 {
        let counter = self.next_counter;
        self.next_counter += 1;
        counter
    }

    fn index_open(&mut self) {
        self.open = (0..self.shards.len()).filter(|index| self.shards[*index].meta.is_open()).collect();
        self.open.sort_by_key(|index| self.shards[*index].meta.hash_start);
    }
}

fn log_path(dir: &Path, index: usize) -> PathBuf {
    dir.join(format!("{}.log", shard_id(index)))
}
