//! The workers' logs: what they recovered, which leases they took, and whether anything is there that must not be.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use serde_json::Value;

/// One take of a lease.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Take {
    /// When, RFC 3339 in UTC: sorts as text.
    pub at: String,
    /// The lease.
    pub shard: String,
    /// By whom.
    pub worker: String,
}

/// What the logs of all workers say.
#[derive(Debug, Default)]
pub struct Logs {
    /// Recoveries by kind.
    pub recoveries: BTreeMap<String, u64>,
    /// Takes in the order of time.
    pub takes: BTreeSet<Take>,
    /// Batches that a worker itself knew would not be committed.
    pub dead: BTreeSet<String>,
    /// Lines by level.
    pub levels: BTreeMap<String, u64>,
    /// Errors, panics and lines that are no JSON.
    pub wrong: BTreeSet<String>,
}

impl Logs {
    /// Reads every `*.log` in the directory.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read(dir: &Path) -> io::Result<Self> {
        let mut logs = Self::default();
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            if path.extension().is_some_and(|extension| extension == "log") {
                // A killed worker may have left half a line, and half a letter.
                let text = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
                let whole = text.rfind('\n').map_or("", |end| &text[..end]);
                whole.lines().for_each(|line| logs.line(&name, line));
            }
        }
        Ok(logs)
    }

    fn line(&mut self, worker: &str, line: &str) {
        let Ok(line_read) = serde_json::from_str::<Value>(line) else {
            // What people are told stands beside the log.
            if !line.starts_with("stopping: ") {
                self.wrong.insert(format!("{worker}: {line}"));
            }
            return;
        };
        let text = |name: &str| line_read[name].as_str().unwrap_or_default().to_owned();
        *self.levels.entry(text("level")).or_default() += 1;
        match text("message").as_str() {
            "recovered" => *self.recoveries.entry(text("recovery")).or_default() += 1,
            "lease taken" => {
                let take = Take { at: text("timestamp"), shard: text("shard"), worker: worker.to_owned() };
                self.takes.insert(take);
            }
            "a batch will not be committed" => {
                self.dead.insert(text("cid"));
            }
            _ => {}
        }
        if text("level") == "ERROR" {
            self.wrong.insert(format!("{worker}: {line}"));
        }
    }

    /// Takes of a lease that another worker had before.
    pub fn take_overs(&self) -> usize {
        let mut holders: BTreeMap<&str, &str> = BTreeMap::new();
        let mut over = 0;
        for take in &self.takes {
            over += usize::from(holders.insert(&take.shard, &take.worker).is_some_and(|before| before != take.worker));
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recoveries_take_overs_and_errors_are_found() {
        let mut logs = Logs::default();
        let take = |at: u32| {
            format!(r#"{{"timestamp":"2026-01-01T00:00:0{at}Z","level":"INFO","message":"lease taken","shard":"s"}}"#)
        };
        logs.line("w1", &take(1));
        logs.line("w2", &take(3));
        logs.line("w1", &take(2));
        logs.line("w2", r#"{"level":"INFO","message":"recovered","recovery":"done"}"#);
        logs.line("w2", "thread 'main' panicked");
        assert_eq!((logs.take_overs(), logs.recoveries["done"], logs.wrong.len()), (1, 1, 1));
    }
}
