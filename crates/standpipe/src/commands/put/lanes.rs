//! Several producers beside each other, so that one call on its way does not hold up the next.
//!
//! All lines with one partition key go through one lane, in their order; packed, all lines of one shard.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use standpipe_flow::HashRange;
use standpipe_source::{PACK_BYTES, Pack, PutCounts, PutError, PutSettings, Putter, Stream, Trouble, hash_key};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// Enough to keep a stream of a dozen shards busy.
const LANES: usize = 4;
/// Lines that wait for a lane. Few, as each may be 10 MiB.
const WAITING_MAX: usize = 16;
/// How long a lane keeps lines back, so that one call can take more of them.
const LINGER: Duration = Duration::from_millis(200);

/// What is in the stream so far.
#[derive(Debug, Default)]
pub struct Written {
    handed_over: AtomicU64,
    lines: AtomicU64,
    bytes: AtomicU64,
}

impl Written {
    /// Lines.
    pub fn lines(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
    }

    /// Whether lines were handed over that are not in the stream yet.
    pub fn is_behind(&self) -> bool {
        self.handed_over.load(Ordering::Relaxed) > self.lines()
    }

    /// Bytes of them.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

struct Line {
    data: Vec<u8>,
    key: String,
    /// For messages: where it stood.
    place: String,
    /// The shard that it belongs to, if lines are packed.
    shard: Option<usize>,
}

/// The lanes.
pub struct Lanes {
    lanes: Vec<Sender<Line>>,
    tasks: JoinSet<Result<PutCounts>>,
    written: Arc<Written>,
    troubles: Vec<Arc<Trouble>>,
    /// The shards, if lines are packed.
    shards: Option<Vec<HashRange>>,
}

impl Lanes {
    /// Lanes into a stream, with so many bytes a second together. With `shards`, lines are packed, each pack for one.
    pub fn open(stream: &Stream, bytes_per_second: Option<u64>, shards: Option<Vec<HashRange>>) -> Self {
        let settings = PutSettings {
            bytes_per_second: bytes_per_second.map(|rate| rate.div_ceil(LANES as u64)),
            ..PutSettings::default()
        };
        let written = Arc::new(Written::default());
        let (mut tasks, mut troubles) = (JoinSet::new(), Vec::new());
        let mut lane = || {
            let (sender, receiver) = channel(WAITING_MAX);
            let putter = stream.putter(settings);
            troubles.push(putter.trouble());
            tasks.spawn(drive(putter, receiver, written.clone()));
            sender
        };
        let lanes = (0..LANES).map(|_| lane()).collect();
        Self { lanes, tasks, written, troubles, shards }
    }

    /// What is in the stream so far.
    pub fn written(&self) -> &Arc<Written> {
        &self.written
    }

    /// What keeps the producers from writing.
    pub fn troubles(&self) -> Vec<Arc<Trouble>> {
        self.troubles.clone()
    }

    /// Hands a line over. `false`: its lane has failed, and `close` says why.
    pub async fn put(&self, data: Vec<u8>, key: String, place: String) -> bool {
        let shard = self.shards.as_ref().map(|shards| {
            let hash = hash_key(&key);
            shards.iter().position(|shard| (shard.start..=shard.end).contains(&hash)).unwrap_or_default()
        });
        let lane = match shard {
            Some(shard) => shard % LANES,
            None => {
                let mut hasher = DefaultHasher::new();
                key.hash(&mut hasher);
                (hasher.finish() % LANES as u64) as usize
            }
        };
        self.written.handed_over.fetch_add(1, Ordering::Relaxed);
        self.lanes[lane].send(Line { data, key, place, shard }).await.is_ok()
    }

    /// Waits until everything is in the stream; what failed first, otherwise all counts together.
    pub async fn close(self) -> Result<PutCounts> {
        drop(self.lanes);
        let mut tasks = self.tasks;
        let mut all = PutCounts::default();
        while let Some(ended) = tasks.join_next().await {
            // The first error ends it: dropping the set stops the others.
            let counts = ended.context("a producer broke off")??;
            all.records += counts.records;
            all.bytes += counts.bytes;
            all.stream_records += counts.stream_records;
            all.calls += counts.calls;
            all.throttled += counts.throttled;
            all.failed += counts.failed;
            all.maybe_twice += counts.maybe_twice;
        }
        Ok(all)
    }
}

async fn drive(mut putter: Putter, mut lines: Receiver<Line>, written: Arc<Written>) -> Result<PutCounts> {
    let mut before = PutCounts::default();
    let mut packs: BTreeMap<usize, Pack> = BTreeMap::new();
    let mut flush_at = None;
    loop {
        let line = match flush_at {
            Some(at) => timeout_at(at, lines.recv()).await,
            None => Ok(lines.recv().await),
        };
        match line {
            Ok(Some(line)) => {
                add(&mut putter, &mut packs, line).await?;
                flush_at.get_or_insert_with(|| Instant::now() + LINGER);
            }
            Ok(None) => break,
            Err(_) => {
                flush(&mut putter, &mut packs).await?;
                flush_at = None;
            }
        }
        tell(&written, &mut before, putter.counts());
    }
    flush(&mut putter, &mut packs).await?;
    tell(&written, &mut before, putter.counts());
    Ok(putter.counts())
}

/// A line goes into its shard's pack, or, if it has none or is too long for one, by itself.
async fn add(putter: &mut Putter, packs: &mut BTreeMap<usize, Pack>, line: Line) -> Result<()> {
    let Line { data, key, place, shard } = line;
    let full = match shard.map(|shard| packs.entry(shard).or_insert_with(|| Pack::new(PACK_BYTES))) {
        Some(pack) if data.len() < PACK_BYTES => pack.add(data, key),
        pack => {
            // What came before it goes before it.
            if let Some(before) = pack.and_then(Pack::take) {
                putter.push_packed(before).await?;
            }
            return putter.push(data, key).await.map_err(|error| at(error, place));
        }
    };
    match full {
        Some(full) => Ok(putter.push_packed(full).await?),
        None => Ok(()),
    }
}

async fn flush(putter: &mut Putter, packs: &mut BTreeMap<usize, Pack>) -> Result<()> {
    for pack in packs.values_mut() {
        if let Some(packed) = pack.take() {
            putter.push_packed(packed).await?;
        }
    }
    Ok(putter.flush().await?)
}

/// Only what is wrong with a record has to do with where it stood.
fn at(error: PutError, place: String) -> anyhow::Error {
    match error {
        PutError::Record { .. } => anyhow::Error::new(error).context(place),
        PutError::Denied { .. } | PutError::Refused { .. } | PutError::GaveUp { .. } => error.into(),
    }
}

fn tell(written: &Written, before: &mut PutCounts, now: PutCounts) {
    written.lines.fetch_add(now.records - before.records, Ordering::Relaxed);
    written.bytes.fetch_add(now.bytes - before.bytes, Ordering::Relaxed);
    *before = now;
}
