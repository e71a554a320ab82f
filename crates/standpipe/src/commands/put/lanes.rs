//! Several producers beside each other, so that one call on its way does not hold up the next.
//!
//! All lines with one partition key go through one lane, in their order.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use standpipe_source::{PutCounts, PutError, PutSettings, Putter, Stream};
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
    lines: AtomicU64,
    bytes: AtomicU64,
}

impl Written {
    /// Lines.
    pub fn lines(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
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
}

/// The lanes.
pub struct Lanes {
    lanes: Vec<Sender<Line>>,
    tasks: JoinSet<Result<PutCounts>>,
    written: Arc<Written>,
}

impl Lanes {
    /// Lanes into a stream, with so many bytes a second together.
    pub fn open(stream: &Stream, bytes_per_second: Option<u64>) -> Self {
        let settings = PutSettings {
            bytes_per_second: bytes_per_second.map(|rate| rate.div_ceil(LANES as u64)),
            ..PutSettings::default()
        };
        let written = Arc::new(Written::default());
        let mut tasks = JoinSet::new();
        let mut lane = || {
            let (sender, receiver) = channel(WAITING_MAX);
            tasks.spawn(drive(stream.putter(settings), receiver, written.clone()));
            sender
        };
        let lanes = (0..LANES).map(|_| lane()).collect();
        Self { lanes, tasks, written }
    }

    /// What is in the stream so far.
    pub fn written(&self) -> &Written {
        &self.written
    }

    /// Hands a line over. `false`: its lane has failed, and `close` says why.
    pub async fn put(&self, data: Vec<u8>, key: String, place: String) -> bool {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let lane = (hasher.finish() % LANES as u64) as usize;
        self.lanes[lane].send(Line { data, key, place }).await.is_ok()
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
    let mut flush_at = None;
    loop {
        let line = match flush_at {
            Some(at) => timeout_at(at, lines.recv()).await,
            None => Ok(lines.recv().await),
        };
        match line {
            Ok(Some(Line { data, key, place })) => {
                putter.push(data, key).await.map_err(|error| at(error, place))?;
                flush_at.get_or_insert_with(|| Instant::now() + LINGER);
            }
            Ok(None) => break,
            Err(_) => {
                putter.flush().await?;
                flush_at = None;
            }
        }
        tell(&written, &mut before, putter.counts());
    }
    putter.flush().await?;
    tell(&written, &mut before, putter.counts());
    Ok(putter.counts())
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
