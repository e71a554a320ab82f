//! `standpipe put`: the lines of files into a stream, one record a line, byte for byte.
//!
//! Reading -> `key` -> `lanes` -> the stream; `progress` and `trouble` meanwhile; then how many lines and bytes, and how
//! long it took.
//! Never: a record in a message.

mod key;
mod lanes;
mod progress;
mod trouble;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use standpipe_config::config::{Aws, Logs};
use standpipe_flow::{Clock, HashRange, Random};
use standpipe_source::{ShardFilter, Stream, StreamRef};
use standpipe_worker::platform::{SystemClock, SystemRandom, sdk_config};
use tokio::time::{Instant, sleep_until};

use self::key::Keys;
use self::lanes::Lanes;
use self::progress::Progress;
use crate::args::parse::Rate;
use crate::args::{self, Output};
use crate::exit::Exit;
use crate::lines::Lines;
use crate::terminal::counted;
use crate::{logs, terminal};

#[derive(Serialize)]
struct Report {
    stream: String,
    lines: u64,
    records: u64,
    bytes: u64,
    seconds: f64,
    throttled: u64,
    maybe_twice: u64,
    without_key: u64,
}

pub fn run(args: args::Put) -> Result<Exit> {
    logs::to_stderr(Logs::Text)?;
    super::runtime()?.block_on(put(args))
}

async fn put(args: args::Put) -> Result<Exit> {
    let region = args.region.clone().or_else(|| region_of(&args.stream));
    let sdk = sdk_config(&Aws { region, ..Aws::default() }).await;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let random: Arc<dyn Random> = Arc::new(SystemRandom);
    let stream = Stream::new(&sdk, StreamRef::parse(&args.stream), clock, random.clone());
    let bytes_per_second = match args.rate {
        Some(Rate::Bytes(bytes)) => Some(bytes),
        Some(Rate::Records(_)) | None => None,
    };
    let shards = if args.aggregate { Some(open_shards(&stream).await?) } else { None };
    let lanes = Lanes::open(&stream, bytes_per_second, shards);
    let _watched = trouble::watch(lanes.written().clone(), lanes.troubles());
    let mut keys = Keys::new(args.partition_key, random);
    let mut pace = Pace::new(args.rate);
    let begin = Instant::now();
    let read = read(&args.files, &lanes, &mut keys, &mut pace).await;
    // Whatever stopped the reading, what was read before goes into the stream.
    let closed = lanes.close().await.with_context(|| format!("cannot put into {}", args.stream));
    let counts = closed?;
    read.with_context(|| format!("{} put, then", counted(counts.records, "line")))?;
    let report = Report {
        stream: args.stream,
        lines: counts.records,
        records: counts.stream_records,
        bytes: counts.bytes,
        seconds: begin.elapsed().as_secs_f64(),
        throttled: counts.throttled,
        maybe_twice: counts.maybe_twice,
        without_key: keys.without,
    };
    match args.report.output {
        Output::Json => super::json(&report)?,
        Output::Human => terminal::out(&report.text())?,
    }
    Ok(Exit::Ok)
}

/// Reads all files into the lanes, until the end or until a lane has failed.
async fn read(files: &[PathBuf], lanes: &Lanes, keys: &mut Keys, pace: &mut Pace) -> Result<()> {
    let mut progress = Progress::new(files, Instant::now());
    let mut read_before = 0;
    for file in files {
        let mut lines = Lines::open(file)?;
        // Reading blocks this thread; the lanes have theirs.
        while let Some(line) = lines.next()? {
            if let Some(at) = pace.next() {
                sleep_until(at).await;
            }
            let key = keys.of(&line);
            if !lanes.put(line, key, lines.place()).await {
                return Ok(());
            }
            progress.tell(read_before + lines.read_bytes(), lanes.written());
        }
        read_before += lines.read_bytes();
    }
    Ok(())
}

/// The hash keys of the shards that take records. An aggregate is for one of them.
async fn open_shards(stream: &Stream) -> Result<Vec<HashRange>> {
    let shards = stream.catalog().shards(ShardFilter::AtLatest).await;
    let shards = shards.with_context(|| format!("cannot list the shards of {}", stream.reference()))?;
    Ok(shards.into_iter().filter(|shard| !shard.closed).map(|shard| shard.hash_range).collect())
}

/// The fourth part of an ARN.
fn region_of(stream: &str) -> Option<String> {
    let region = stream.strip_prefix("arn:")?.split(':').nth(2)?;
    (!region.is_empty()).then(|| region.to_owned())
}

impl Report {
    fn text(&self) -> String {
        let rate = self.bytes as f64 / self.seconds.max(0.001) / 1e6;
        let lines = counted(self.lines, "line");
        let bytes = counted(self.bytes, "byte");
        let packed = if self.records == self.lines { String::new() } else { counted(self.records, "record") + ", " };
        let (stream, seconds) = (&self.stream, self.seconds);
        let mut text = format!("{lines}, {packed}{bytes} into {stream} in {seconds:.1} s ({rate:.1} MB/s)\n");
        let mut also = |count: u64, what: &str| {
            if count > 0 {
                text.push_str(&format!("  {} {what}\n", terminal::grouped(count)));
            }
        };
        also(self.throttled, "were throttled and sent again");
        also(self.maybe_twice, "were sent again after a call without an answer, and may be there twice");
        also(self.without_key, "had no such field and got a random partition key");
        text
    }
}

/// Records a second: when the next record may go.
struct Pace {
    every: Option<Duration>,
    next: Instant,
}

impl Pace {
    fn new(rate: Option<Rate>) -> Self {
        let every = match rate {
            Some(Rate::Records(records)) => Some(Duration::from_secs(1) / u32::try_from(records).unwrap_or(u32::MAX)),
            Some(Rate::Bytes(_)) | None => None,
        };
        Self { every, next: Instant::now() }
    }

    /// Counts a record, and says when it may go if that is not yet.
    fn next(&mut self) -> Option<Instant> {
        let now = Instant::now();
        // What was not used for more than a second is forgone.
        self.next = self.next.max(now.checked_sub(Duration::from_secs(1)).unwrap_or(now)) + self.every?;
        (self.next > now).then_some(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_names_its_region() {
        assert_eq!(region_of("arn:aws:kinesis:eu-west-1:1:stream/o").as_deref(), Some("eu-west-1"));
        assert_eq!(region_of("orders"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn records_keep_their_pace() {
        let mut pace = Pace::new(Some(Rate::Records(100)));
        let begin = Instant::now();
        for _ in 0..200 {
            if let Some(at) = pace.next() {
                sleep_until(at).await;
            }
        }
        assert!((1_990..=2_010).contains(&begin.elapsed().as_millis()), "{:?}", begin.elapsed());
        assert_eq!(Pace::new(Some(Rate::Bytes(1))).next(), None);
    }
}
