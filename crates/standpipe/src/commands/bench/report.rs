//! Figures -> a table for people, or one JSON object.

use serde::Serialize;

use super::input::Input;
use super::measure::Figures;
use crate::terminal::{self, counted, grouped};

/// What was measured.
#[derive(Debug, Default)]
pub struct Measured {
    /// The stages.
    pub rows: Vec<Row>,
    /// Those that the records are not for, and functions outside.
    pub left_out: Vec<String>,
    /// The names of all stages that there are.
    pub known: Vec<String>,
    /// Whether the stages follow each other, so that their costs add up.
    pub sums: bool,
}

impl Measured {
    /// Whether a stage of this name was met.
    pub fn knows(&self, name: &str) -> bool {
        self.known.iter().any(|known| known == name)
    }
}

/// One stage.
#[derive(Debug)]
pub struct Row {
    /// Its name.
    pub stage: String,
    /// Where its records are from.
    pub input: String,
    /// Lines that went in.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What it cost.
    pub figures: Figures,
}

impl Row {
    /// A stage that was given the lines of an input, in whatever form.
    pub fn new(stage: &str, input: &Input, figures: Figures) -> Self {
        let (records, bytes) = (input.lines.len() as u64, input.bytes());
        Self { stage: stage.to_owned(), input: input.name.clone(), records, bytes, figures }
    }

    fn cpu_seconds(&self) -> f64 {
        self.figures.cpu.as_secs_f64().max(1e-9)
    }
}

/// The report.
#[derive(Debug, Serialize)]
pub struct Report {
    version: &'static str,
    build: &'static str,
    stages: Vec<Stage>,
    /// Of stages that follow each other.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_seconds_per_gigabyte: Option<f64>,
    left_out: Vec<String>,
    #[serde(skip)]
    note: String,
}

#[derive(Debug, Serialize)]
struct Stage {
    stage: String,
    input: String,
    records: u64,
    bytes: u64,
    rounds: usize,
    records_per_second: f64,
    megabytes_per_second: f64,
    cpu_seconds_per_gigabyte: f64,
    records_out: u64,
    rejected: u64,
    bytes_out: u64,
}

impl Report {
    /// The report of what was measured on an input, or on records that were made up.
    pub fn new(measured: Measured, given: Option<&Input>) -> Self {
        finished();
        let stages: Vec<Stage> = measured.rows.into_iter().map(Stage::of).collect();
        let sum = stages.iter().map(|stage| stage.cpu_seconds_per_gigabyte).sum::<f64>();
        let note = match given {
            None => "records: made up; --input FILE measures yours".to_owned(),
            Some(input) => {
                let bytes = input.bytes() as f64 / 1e6;
                let cut = if input.cut { ", the first of the file" } else { "" };
                format!("records: {} of {bytes:.1} MB{cut}", counted(input.lines.len() as u64, "line"))
            }
        };
        Self {
            version: env!("CARGO_PKG_VERSION"),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            stages,
            cpu_seconds_per_gigabyte: measured.sums.then(|| rounded(sum)),
            left_out: measured.left_out,
            note,
        }
    }

    /// The table, at most 79 columns wide where names are short.
    pub fn text(&self, columns: Option<usize>) -> String {
        let note = format!(
            "standpipe {}, {} build; CPU time of one core, without network and TLS\n{}\n\n",
            self.version, self.build, self.note
        );
        let mut text = terminal::wrapped(&note, columns, 2);
        let width = self.stages.iter().map(|stage| stage.stage.chars().count()).max().unwrap_or(0).max(5);
        let one_input = self.stages.windows(2).all(|two| two[0].input == two[1].input);
        let named = |input: &str| if one_input { String::new() } else { format!("  {input:<8}") };
        let head = format!(
            "{:<width$}{}  {:>10}  {:>7}  {:>8}  {:>7}",
            "stage",
            named("records"),
            "records/s",
            "MB/s",
            "CPU s/GB",
            "out"
        );
        text.push_str(&format!("{head}\n"));
        for stage in &self.stages {
            let Stage { stage: name, input, records_per_second, megabytes_per_second, .. } = stage;
            text.push_str(&format!(
                "{name:<width$}{}  {:>10}  {megabytes_per_second:>7.0}  {:>8.2}  {:>7}",
                named(input),
                grouped(*records_per_second as u64),
                stage.cpu_seconds_per_gigabyte,
                stage.out(),
            ));
            if stage.rejected > 0 {
                text.push_str(&format!("  {} rejected", grouped(stage.rejected)));
            }
            text.push('\n');
        }
        if let Some(sum) = self.cpu_seconds_per_gigabyte {
            let before = width + named("").chars().count() + 2 + 10 + 2 + 7 + 2;
            text.push_str(&format!("{:<before$}{sum:>8.2}\n", "sum"));
        }
        if !self.left_out.is_empty() {
            let names = self.left_out.join(", ");
            text.push_str(&terminal::wrapped(&format!("\nleft out: {names}\n"), columns, 2));
        }
        text.push_str(
            "\na GB is 1,000,000,000 bytes of records as lines; out: bytes that come out of one that goes in\n",
        );
        text
    }
}

impl Stage {
    fn of(row: Row) -> Self {
        let seconds = row.cpu_seconds();
        let Row { stage, input, records, bytes, figures } = row;
        Self {
            stage,
            input,
            records,
            bytes,
            rounds: figures.rounds,
            records_per_second: rounded(records as f64 / seconds),
            megabytes_per_second: rounded(bytes as f64 / seconds / 1e6),
            cpu_seconds_per_gigabyte: rounded(seconds / bytes.max(1) as f64 * 1e9),
            records_out: figures.done.records,
            rejected: figures.done.rejected,
            bytes_out: figures.done.bytes,
        }
    }

    fn out(&self) -> String {
        if self.bytes_out == 0 {
            "-".to_owned()
        } else {
            format!("{:.3}", self.bytes_out as f64 / self.bytes.max(1) as f64)
        }
    }
}

/// To three digits after the point.
fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

/// Says on a terminal what is measured now.
pub fn progress(stage: &str) {
    if terminal::stderr_is_terminal() {
        terminal::err(&format!("\r\x1b[Kmeasuring {stage} ..."));
    }
}

fn finished() {
    if terminal::stderr_is_terminal() {
        terminal::err("\r\x1b[K");
    }
}
