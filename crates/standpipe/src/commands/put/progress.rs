//! What people see while lines are put: a bar on a terminal, a line every 10 s elsewhere.

use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::lanes::Written;
use crate::terminal::{self, counted};

/// How often progress is told where there is no terminal.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// How often a bar moves.
const MOVE_EVERY: Duration = Duration::from_millis(100);

/// Shows how far it is.
pub struct Progress {
    bar: Option<ProgressBar>,
    begin: Instant,
    told: Instant,
}

impl Progress {
    /// Before the first line.
    pub fn new(files: &[PathBuf], begin: Instant) -> Self {
        let bar = terminal::stderr_is_terminal().then(|| {
            let (bar, template) = match total_bytes(files) {
                Some(total) => (ProgressBar::new(total), "{wide_bar} {percent:>3}%  {msg}  {eta} left"),
                None => (ProgressBar::no_length(), "{spinner} {msg}  {elapsed}"),
            };
            bar.with_style(ProgressStyle::with_template(template).expect("the template is sound"))
        });
        Self { bar, begin, told: begin }
    }

    /// Tells it, unless it was told just now. `read_bytes` is of the files, before unpacking.
    pub fn tell(&mut self, read_bytes: u64, written: &Written) {
        let every = if self.bar.is_some() { MOVE_EVERY } else { TELL_EVERY };
        if self.told.elapsed() < every {
            return;
        }
        self.told = Instant::now();
        let rate = written.bytes() as f64 / self.begin.elapsed().as_secs_f64().max(0.001) / 1e6;
        let text = format!("{}, {rate:.1} MB/s", counted(written.lines(), "line"));
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

/// The bytes of all files; `None` when one of them is no plain file.
fn total_bytes(files: &[PathBuf]) -> Option<u64> {
    let size = |path| std::fs::metadata(path).ok().filter(|metadata| metadata.is_file()).map(|metadata| metadata.len());
    files.iter().map(size).sum()
}
