//! `standpipe put`: the lines of files into a stream, one record a line, byte for byte.
//!
//! A bar on a terminal, a line every 10 s elsewhere; then how many lines and bytes, and how long it took.
//! Never: a record in a message.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use standpipe_config::config::Aws;
use standpipe_flow::{Clock, Random};
use standpipe_source::{PutSettings, Putter, Stream, StreamRef};
use standpipe_worker::platform::{SystemClock, SystemRandom, sdk_config};
use tokio::time::{Instant, sleep_until};

use crate::args::parse::{PartitionKey, Rate};
use crate::args::{self, Output};
use crate::exit::Exit;
use crate::lines::Lines;
use crate::{logs, terminal};

/// How often progress is told where there is no terminal.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// How long a slow rate keeps a record back, so that one call can take more of them.
const LINGER: Duration = Duration::from_millis(500);

#[derive(Serialize)]
struct Report {
    stream: String,
    lines: u64,
    bytes: u64,
    seconds: f64,
    throttled: u64,
    maybe_twice: u64,
    without_key: u64,
}

pub fn run(args: args::Put) -> Result<Exit> {
    logs::to_stderr(standpipe_config::config::Logs::Auto)?;
    super::runtime()?.block_on(put(args))
}

async fn put(args: args::Put) -> Result<Exit> {
    let reference = StreamRef::parse(&args.stream);
    let region = args.region.clone().or_else(|| region_of(&args.stream));
    let sdk = sdk_config(&Aws { region, ..Aws::default() }).await;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let random: Arc<dyn Random> = Arc::new(SystemRandom);
    let bytes_per_second = match args.rate {
        Some(Rate::Bytes(bytes)) => Some(bytes),
        Some(Rate::Records(_)) | None => None,
    };
    let settings = PutSettings { bytes_per_second, ..PutSettings::default() };
    let putter = Stream::new(&sdk, reference, clock, random.clone()).putter(settings);
    let mut load = Load { putter, random, pace: Pace::new(args.rate), key: args.partition_key, without_key: 0 };
    let begin = Instant::now();
    let progress = Progress::new(total_bytes(&args.files), begin);
    let loaded = load.files(&args.files, progress).await;
    let counts = load.putter.counts();
    let told = format!("{} put so far", terminal::counted(counts.records, "line"));
    loaded.with_context(|| format!("put into {} ended early: {told}", args.stream))?;
    let report = Report {
        stream: args.stream,
        lines: counts.records,
        bytes: counts.bytes,
        seconds: begin.elapsed().as_secs_f64(),
        throttled: counts.throttled,
        maybe_twice: counts.maybe_twice,
        without_key: load.without_key,
    };
    match args.report.output {
        Output::Json => super::json(&report)?,
        Output::Human => terminal::out(&report.text())?,
    }
    Ok(Exit::Ok)
}

/// The fourth part of an ARN.
fn region_of(stream: &str) -> Option<String> {
    let region = stream.strip_prefix("arn:")?.split(':').nth(2)?;
    (!region.is_empty()).then(|| region.to_owned())
}

impl Report {
    fn text(&self) -> String {
        let rate = self.bytes as f64 / self.seconds.max(0.001) / 1e6;
        let lines = terminal::grouped(self.lines);
        let bytes = terminal::grouped(self.bytes);
        let mut text =
            format!("{lines} lines, {bytes} bytes into {} in {:.1} s ({rate:.1} MB/s)\n", self.stream, self.seconds);
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

struct Load {
    putter: Putter,
    random: Arc<dyn Random>,
    pace: Pace,
    key: PartitionKey,
    without_key: u64,
}

impl Load {
    async fn files(&mut self, files: &[std::path::PathBuf], mut progress: Progress) -> Result<()> {
        let mut read_before = 0;
        for file in files {
            let mut lines = Lines::open(file)?;
            while let Some(line) = lines.next()? {
                if self.pace.must_wait() {
                    self.pace.wait(&mut self.putter).await?;
                }
                let key = self.key(&line);
                self.putter.push(line, key).await.with_context(|| lines.place())?;
                progress.tell(read_before + lines.read_bytes(), &self.putter);
            }
            read_before += lines.read_bytes();
        }
        self.putter.flush().await?;
        Ok(())
    }

    /// The record's partition key.
    fn key(&mut self, line: &[u8]) -> String {
        let found = match &self.key {
            PartitionKey::Random => None,
            PartitionKey::Field(names) => {
                let found = field(line, names);
                self.without_key += u64::from(found.is_none());
                found
            }
        };
        found.unwrap_or_else(|| format!("{:016x}", self.random.next()))
    }
}

/// The text of a field, if it is a string, a number or a boolean, cut to what Kinesis takes.
fn field(line: &[u8], names: &[String]) -> Option<String> {
    const KEY_CHARS_MAX: usize = 256;
    let document: serde_json::Value = serde_json::from_slice(line).ok()?;
    let value = names.iter().try_fold(&document, |value, name| value.get(name))?;
    let text = match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Number(number) => number.to_string(),
        serde_json::Value::Bool(yes) => yes.to_string(),
        serde_json::Value::Null | serde_json::Value::Array(_) | serde_json::Value::Object(_) => return None,
    };
    let text: String = text.chars().take(KEY_CHARS_MAX).collect();
    (!text.is_empty()).then_some(text)
}

/// Records a second: when the next record may go.
struct Pace {
    every: Option<Duration>,
    next: Instant,
    sent: Instant,
}

impl Pace {
    fn new(rate: Option<Rate>) -> Self {
        let every = match rate {
            Some(Rate::Records(records)) => Some(Duration::from_secs(1) / u32::try_from(records).unwrap_or(u32::MAX)),
            Some(Rate::Bytes(_)) | None => None,
        };
        Self { every, next: Instant::now(), sent: Instant::now() }
    }

    /// Counts a record, and says whether it comes too early.
    fn must_wait(&mut self) -> bool {
        let Some(every) = self.every else { return false };
        self.next += every;
        self.next > Instant::now()
    }

    /// Waits until it may go, and sends what was kept back for long enough.
    async fn wait(&mut self, putter: &mut Putter) -> Result<()> {
        if self.sent.elapsed() >= LINGER || self.next - Instant::now() >= LINGER {
            putter.flush().await?;
            self.sent = Instant::now();
        }
        sleep_until(self.next).await;
        Ok(())
    }
}

/// The bytes of all files; `None` when one of them is no plain file.
fn total_bytes(files: &[std::path::PathBuf]) -> Option<u64> {
    let size = |path| std::fs::metadata(path).ok().filter(|metadata| metadata.is_file()).map(|metadata| metadata.len());
    files.iter().map(size).sum()
}

/// What people see meanwhile.
struct Progress {
    bar: Option<ProgressBar>,
    begin: Instant,
    told: Instant,
}

impl Progress {
    fn new(total_bytes: Option<u64>, begin: Instant) -> Self {
        let bar = terminal::stderr_is_terminal().then(|| {
            let (bar, template) = match total_bytes {
                Some(total) => (ProgressBar::new(total), "{wide_bar} {percent:>3}%  {msg}  {eta} left"),
                None => (ProgressBar::no_length(), "{spinner} {msg}  {elapsed}"),
            };
            bar.with_style(ProgressStyle::with_template(template).expect("the template is sound"))
        });
        Self { bar, begin, told: begin }
    }

    fn tell(&mut self, read_bytes: u64, putter: &Putter) {
        let every = if self.bar.is_some() { Duration::from_millis(100) } else { TELL_EVERY };
        if self.told.elapsed() < every {
            return;
        }
        self.told = Instant::now();
        let counts = putter.counts();
        let rate = counts.bytes as f64 / self.begin.elapsed().as_secs_f64().max(0.001) / 1e6;
        let text = format!("{}, {rate:.1} MB/s", terminal::counted(counts.records, "line"));
        match &self.bar {
            Some(bar) => {
                bar.set_position(read_bytes);
                bar.set_message(text);
            }
            None => terminal::err(&format!("{text}\n")),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_along_its_path() {
        let names = |path: &[&str]| path.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let line = br#"{"user":{"id":7,"name":"","on":true,"tags":[]},"n":1.50}"#;
        assert_eq!(field(line, &names(&["user", "id"])).as_deref(), Some("7"));
        assert_eq!(field(line, &names(&["user", "on"])).as_deref(), Some("true"));
        for none in [&["user", "name"][..], &["user"], &["user", "tags"], &["x"], &["n", "x"]] {
            assert_eq!(field(line, &names(none)), None, "{none:?}");
        }
        assert_eq!(field(b"no json", &names(&["a"])), None);
        let long = format!("{{\"a\":\"{}\"}}", "é".repeat(300));
        assert_eq!(field(long.as_bytes(), &names(&["a"])).map(|key| key.chars().count()), Some(256));
    }

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
            if pace.must_wait() {
                sleep_until(pace.next).await;
            }
        }
        assert!((1_990..=2_010).contains(&begin.elapsed().as_millis()), "{:?}", begin.elapsed());
        assert!(!Pace::new(Some(Rate::Bytes(1))).must_wait());
    }
}
