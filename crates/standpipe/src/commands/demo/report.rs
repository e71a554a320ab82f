//! The demo's report, and whether it shows what the demo promises.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::count::Count;
use super::target::Told;
use crate::terminal::{grouped, wrapped};

/// What happened, as counted from what arrived, and from the lease table for take-overs and splits.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Records put into the stream.
    pub produced: u64,
    /// Rows that arrived.
    pub delivered: u64,
    /// Records in no row.
    pub lost: u64,
    /// Rows beyond the first of a record.
    pub duplicated: u64,
    /// Rows that differ from their record.
    pub altered: u64,
    /// Rows after a later one of their shard in a file; none where rows have no order.
    pub out_of_order: Option<u64>,
    /// Objects with records that could not be delivered.
    pub error_objects: u64,
    /// Leases of the killed worker that others took.
    pub take_overs: u64,
    /// Splits whose children were read.
    pub splits: u64,
    /// From the first record until all were delivered.
    pub seconds: f64,
    /// Record data in that time.
    pub megabytes_per_second: f64,
    /// Of the whole process, with producer and endpoints; none where the system does not say.
    pub cpu_seconds_per_gigabyte: Option<f64>,
    /// Parquet files.
    pub files: u64,
    /// Where they lie, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Bytes of record data.
    #[serde(skip)]
    pub produced_bytes: u64,
    #[serde(skip)]
    told: Told,
}

/// What the report is made of, beside the count.
#[derive(Debug)]
pub struct Facts {
    pub produced: u64,
    pub produced_bytes: u64,
    pub error_objects: u64,
    pub take_overs: u64,
    pub splits: u64,
    pub took: Duration,
    pub cpu: Option<Duration>,
    pub told: Told,
}

impl Report {
    /// Puts it together.
    pub fn new(count: &Count, facts: Facts) -> Self {
        let seconds = facts.took.as_secs_f64().max(0.001);
        let gigabytes = facts.produced_bytes as f64 / 1e9;
        let cpu = facts.cpu.filter(|_| facts.produced_bytes > 0).map(|cpu| cpu.as_secs_f64() / gigabytes);
        Self {
            produced: facts.produced,
            delivered: count.delivered,
            lost: count.lost,
            duplicated: count.duplicated,
            altered: count.altered,
            out_of_order: count.out_of_order,
            error_objects: facts.error_objects,
            take_overs: facts.take_overs,
            splits: facts.splits,
            seconds: rounded(seconds),
            megabytes_per_second: rounded(facts.produced_bytes as f64 / 1e6 / seconds),
            cpu_seconds_per_gigabyte: cpu.map(rounded),
            files: count.files,
            directory: facts.told.directory.clone(),
            produced_bytes: facts.produced_bytes,
            told: facts.told,
        }
    }

    /// Every promise that was not kept; none is what the demo is for.
    pub fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let mut none_of = |count: u64, what: &str| {
            if count > 0 {
                broken.push(format!("{} {what}", grouped(count)));
            }
        };
        none_of(self.lost, "records were lost");
        none_of(self.duplicated, "records were delivered more than once");
        none_of(self.altered, "rows differ from what was produced");
        none_of(self.out_of_order.unwrap_or(0), "rows are out of order");
        none_of(self.error_objects, "objects with failed records, and every record was good");
        if self.produced == 0 {
            broken.push("nothing was produced".to_owned());
        }
        if self.take_overs == 0 {
            broken.push("no take-over was seen".to_owned());
        }
        if self.splits == 0 {
            broken.push("no split was seen".to_owned());
        }
        broken
    }

    /// For people.
    pub fn text(&self, dir: &Path, columns: Option<usize>) -> String {
        let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
        let cpu = match self.cpu_seconds_per_gigabyte {
            Some(cpu) => format!("{cpu:.0} CPU seconds per GB, producer and endpoints included"),
            None => "CPU seconds per GB n/a".to_owned(),
        };
        let mut rows = vec![
            ("produced", format!("{} records, {}", grouped(self.produced), megabytes(self.produced_bytes))),
            ("delivered", self.told.delivered.clone()),
            ("lost", grouped(self.lost)),
            ("duplicated", grouped(self.duplicated)),
        ];
        rows.extend(self.out_of_order.map(|number| ("out of order", grouped(number))));
        rows.extend([
            ("take-overs", plural(self.take_overs, "lease of the killed worker", "leases of the killed worker")),
            ("splits", plural(self.splits, "shard", "shards")),
            ("speed", format!("{:.1} MB/s for {:.1} s; {cpu}", self.megabytes_per_second, self.seconds)),
        ]);
        let mut text = format!("\nCounted by reading {} back:\n\n", self.told.what);
        for (name, value) in rows {
            text.push_str(&wrapped(&format!("  {name:<13} {value}\n"), columns, 14));
        }
        text.push_str(&format!("\n{}", self.told.after));
        let shown = dir.display();
        let files = format!("\nThe workers' config is {shown}/standpipe.yaml, their log {shown}/standpipe.log\n");
        text.push_str(&wrapped(&files, columns, 0));
        text
    }
}

fn plural(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(count), if count == 1 { one } else { many })
}

/// To three digits after the point.
fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

/// CPU time of the whole process so far; `None` where the system does not say.
pub fn cpu_time() -> Option<Duration> {
    /// USER_HZ, which is 100 on every Linux (proc(5), times(2)).
    const TICKS_PER_SECOND: u64 = 100;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program stands in parentheses and may hold anything; utime and stime are fields 14 and 15.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).map(|field| field.parse::<u64>().ok());
    let ticks = times.next()?? + times.next()??;
    Some(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(count: &Count, take_overs: u64, splits: u64) -> Report {
        let facts = Facts {
            produced: 100_000,
            produced_bytes: 25_000_000,
            error_objects: 0,
            take_overs,
            splits,
            took: Duration::from_millis(22_500),
            cpu: Some(Duration::from_secs(5)),
            told: Told { what: "the files", delivered: "100,000 records".to_owned(), ..Told::default() },
        };
        Report::new(count, facts)
    }

    #[test]
    fn a_good_run_breaks_no_promise() {
        let count = Count { delivered: 100_000, files: 31, file_bytes: 4_200_000, ..Count::default() };
        let report = report(&count, 2, 1);
        assert_eq!(report.broken(), Vec::<String>::new());
        let text = report.text(Path::new("standpipe-demo"), None);
        for part in
            ["reading the files back", "delivered     100,000 records\n", "1.1 MB/s for 22.5 s; 200 CPU seconds per GB"]
        {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn every_broken_promise_is_told() {
        let bad = Count { lost: 1, duplicated: 2, altered: 3, out_of_order: Some(4), ..Count::default() };
        assert_eq!(report(&bad, 0, 0).broken().len(), 6);
        assert_eq!(report(&Count::default(), 0, 1).broken(), ["no take-over was seen"]);
    }

    #[test]
    fn the_members_of_the_json_report_stand() {
        let json = serde_json::to_value(report(&Count::default(), 1, 1)).expect("JSON");
        for name in [
            "produced",
            "delivered",
            "lost",
            "duplicated",
            "seconds",
            "megabytes_per_second",
            "cpu_seconds_per_gigabyte",
            "files",
        ] {
            assert!(json.get(name).is_some(), "{name}");
        }
    }
}
