//! `standpipe try`: what a config makes of a local file, on embedded endpoints: the keys, the records, what is rejected.
//!
//! Never: asks AWS.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use serde::Serialize;
use standpipe_flow::{Millis, OutputKind};

use crate::args::{Output, Try};
use crate::commands::local::{self, Delivered, Input, Outcome};
use crate::exit::Exit;
use crate::lines::Lines;
use crate::terminal;

/// Reasons of rejected records that are shown.
const REASONS_MAX: usize = 20;

#[derive(Serialize)]
struct Report {
    records: usize,
    stages: Vec<String>,
    objects: Vec<Object>,
    rejected: Vec<Reason>,
}

#[derive(Serialize)]
struct Object {
    destination: String,
    kind: &'static str,
    bucket: String,
    key: String,
    records: u64,
    bytes: usize,
    /// Of documents: the first lines that are sent, an action and its document by turns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lines: Vec<String>,
}

/// Why records were rejected, and how many.
#[derive(Serialize)]
struct Reason {
    destination: String,
    code: String,
    message: String,
    records: u64,
}

pub fn run(args: Try) -> Result<Exit> {
    let config = super::load(&args.config.files)?;
    let pipeline = local::chosen(&config, args.pipeline.as_deref())?.name.clone();
    let records = records(&args.inputs, args.whole)?;
    let count = records.len();
    let at = args.at.unwrap_or_else(now);
    let input = Input { records, at, functions: args.functions };
    let Outcome { objects: delivered, stages } = local::deliver(&config, Some(&pipeline), input)?;
    let objects = delivered.iter().map(object).collect();
    let report = Report { records: count, stages, objects, rejected: reasons(&delivered) };
    match args.report.output {
        Output::Json => super::json(&report)?,
        Output::Human => terminal::out(&text(&report))?,
    }
    if let Some(dir) = args.out.filter(|_| !delivered.is_empty()) {
        for object in &delivered {
            write(&dir.join(&object.bucket), &object.key, &object.body)?;
        }
        terminal::err(&format!("the objects are in {}\n", dir.display()));
    }
    Ok(Exit::Ok)
}

/// The records of files: a line each, or a file each.
pub(super) fn records(files: &[std::path::PathBuf], whole: bool) -> Result<Vec<Bytes>> {
    let mut records = Vec::new();
    for path in files {
        if whole {
            records.push(std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?.into());
            continue;
        }
        let mut lines = Lines::open(path)?;
        while let Some(line) = lines.next()? {
            records.push(line.into());
        }
    }
    if records.is_empty() {
        bail!("there is no record in the input");
    }
    Ok(records)
}

/// What a file system takes as a name.
const NAME_BYTES_MAX: usize = 255;

/// Writes an object under a folder. Its key cannot lead out of there; what is too long for a name is cut.
pub(super) fn write(folder: &Path, key: &str, body: &[u8]) -> Result<()> {
    let parts = key.split('/').filter(|part| !matches!(*part, "" | "." | ".."));
    let cut = |part: &str| part[..part.floor_char_boundary(NAME_BYTES_MAX)].to_owned();
    let path = parts.fold(folder.to_owned(), |path, part| path.join(cut(part)));
    let parent = path.parent().unwrap_or(folder);
    std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    std::fs::write(&path, body).with_context(|| format!("cannot write {}", path.display()))
}

#[allow(clippy::disallowed_methods, reason = "the arrival time of records that arrive now")]
fn now() -> Millis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(0))
}

fn object(delivered: &Delivered) -> Object {
    Object {
        destination: delivered.destination.to_string(),
        kind: kind(delivered.kind),
        bucket: delivered.bucket.clone(),
        key: delivered.key.clone(),
        records: delivered.records,
        bytes: delivered.body.len(),
        lines: if delivered.is_bulk { first_lines(&delivered.body) } else { Vec::new() },
    }
}

/// The first lines, of which each is cut where it becomes long.
fn first_lines(body: &[u8]) -> Vec<String> {
    const LINES: usize = 6;
    const CHARS: usize = 160;
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).take(LINES);
    lines.map(|line| String::from_utf8_lossy(line).chars().take(CHARS).collect()).collect()
}

fn kind(kind: OutputKind) -> &'static str {
    match kind {
        OutputKind::Data => "data",
        OutputKind::Error => "error",
        OutputKind::Backup => "backup",
    }
}

/// What the lines of error objects say.
fn reasons(delivered: &[Delivered]) -> Vec<Reason> {
    let mut counts: BTreeMap<(String, String, String), u64> = BTreeMap::new();
    for object in delivered.iter().filter(|object| object.kind == OutputKind::Error) {
        for line in object.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line: serde_json::Value = serde_json::from_slice(line).unwrap_or_default();
            let member = |names: [&str; 2]| {
                let found = names.iter().find_map(|name| line[*name].as_str());
                found.unwrap_or_default().to_owned()
            };
            let code = member(["errorCode", "lastErrorCode"]);
            let message = member(["errorMessage", "lastErrorMessage"]);
            *counts.entry((object.destination.to_string(), code, message)).or_default() += 1;
        }
    }
    let reason = |((destination, code, message), records)| Reason { destination, code, message, records };
    counts.into_iter().map(reason).collect()
}

fn text(report: &Report) -> String {
    let of = |number: u64, noun: &str| terminal::counted(number, noun);
    let mut text = format!("{} read\n", of(report.records as u64, "record"));
    report.stages.iter().for_each(|stage| text.push_str(&format!("  {stage}\n")));
    let mut destination = None;
    for object in &report.objects {
        if destination != Some(&object.destination) {
            text.push_str(&format!("\n{}\n", object.destination));
            destination = Some(&object.destination);
        }
        let what = if object.kind == "data" { String::new() } else { format!(", {}", object.kind) };
        let (records, bytes) = (of(object.records, "record"), of(object.bytes as u64, "byte"));
        if object.lines.is_empty() {
            text.push_str(&format!("  s3://{}/{}\n    {records}, {bytes}{what}\n", object.bucket, object.key));
        } else {
            let index = object.key.trim_end_matches(".ndjson");
            text.push_str(&format!("  index {index}\n    {records}, {bytes} of bulk requests\n"));
            object.lines.iter().for_each(|line| text.push_str(&format!("    {line}\n")));
        }
    }
    if report.objects.is_empty() {
        text.push_str("\nnothing is delivered: every record was dropped\n");
    }
    if !report.rejected.is_empty() {
        text.push_str("\nrejected\n");
    }
    for reason in report.rejected.iter().take(REASONS_MAX) {
        let Reason { destination, code, message, records } = reason;
        text.push_str(&format!("  {destination}: {}: {code}: {message}\n", of(*records, "record")));
    }
    if report.rejected.len() > REASONS_MAX {
        text.push_str(&format!("  and {} more reasons\n", report.rejected.len() - REASONS_MAX));
    }
    text
}
