//! `standpipe test`: cases of a config. A case is a folder with records in `input` and the objects that they become in
//! `expected`; what differs is shown, and with `--update` written down.
//!
//! Time stands at one instant in a case, so that the same records become the same objects. Names of objects lose their
//! commit's id and time; gzip and zstd are unpacked, and Parquet files become a line a row, so that people can read a case.
//! Never: asks AWS.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde::Serialize;
use standpipe_config::Config;
use standpipe_flow::Millis;

use crate::args::{Output, Test};
use crate::commands::local::{self, Delivered, Input};
use crate::commands::trial;
use crate::exit::Exit;
use crate::terminal;

/// When records arrive: 2026-01-31 12:00 UTC.
const AT: Millis = Millis(1_769_860_800_000);
/// Lines of a difference that are shown.
const DIFFERENCE_LINES: usize = 12;

#[derive(Serialize)]
struct Report {
    passed: usize,
    failed: Vec<Failure>,
    updated: Vec<String>,
}

#[derive(Serialize)]
struct Failure {
    case: String,
    differences: Vec<String>,
}

/// Objects by their names, as people can read them.
type Objects = BTreeMap<String, Vec<u8>>;

pub fn run(args: Test) -> Result<Exit> {
    let config = super::load(&args.config.files)?;
    let pipeline = local::chosen(&config, args.pipeline.as_deref())?.name.clone();
    let mut report = Report { passed: 0, failed: Vec::new(), updated: Vec::new() };
    for case in &args.cases {
        let name = case.display().to_string();
        let ran = found_and_wanted(&config, &pipeline, case, &args);
        let (found, wanted) = match ran {
            Ok(both) => both,
            Err(error) => {
                report.failed.push(Failure { case: name, differences: vec![format!("{error:#}")] });
                continue;
            }
        };
        if found == wanted {
            report.passed += 1;
        } else if args.update {
            update(&case.join("expected"), &wanted, &found)?;
            report.updated.push(name);
        } else {
            report.failed.push(Failure { case: name, differences: differences(&wanted, &found) });
        }
    }
    let ended = if report.failed.is_empty() { Exit::Ok } else { Exit::Failed };
    match args.report.output {
        Output::Json => super::json(&report)?,
        Output::Human => terminal::out(&text(&report))?,
    }
    Ok(ended)
}

/// What a case becomes now, and what it is to become.
fn found_and_wanted(config: &Config, pipeline: &str, case: &Path, args: &Test) -> Result<(Objects, Objects)> {
    let records = trial::records(&inputs(case)?, args.whole)?;
    let input = Input { records, at: args.at.unwrap_or(AT), functions: args.functions.clone() };
    let delivered = local::deliver(config, Some(pipeline), input)?;
    Ok((readable(pipeline, &delivered.objects)?, read(&case.join("expected"))?))
}

/// The files of a case whose name begins with `input`, in their order; a folder `input` means all its files.
fn inputs(case: &Path) -> Result<Vec<PathBuf>> {
    let listed = |folder: &Path| -> Result<Vec<PathBuf>> {
        let entries =
            std::fs::read_dir(folder).with_context(|| format!("cannot read the case {}", folder.display()))?;
        let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
        paths.sort();
        Ok(paths)
    };
    let is_input = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("input"));
    let mut inputs = Vec::new();
    for path in listed(case)?.into_iter().filter(is_input) {
        if path.is_dir() { inputs.extend(listed(&path)?) } else { inputs.push(path) }
    }
    if inputs.is_empty() {
        bail!("{} holds no records: expected a file or folder whose name begins with `input`", case.display());
    }
    Ok(inputs)
}

/// The objects of a run. Those of one name, which differ in the commit alone, follow each other.
fn readable(pipeline: &str, delivered: &[Delivered]) -> Result<Objects> {
    let mut objects = Objects::new();
    for object in delivered {
        let name = format!("{}/{}", object.bucket, settled(pipeline, &object.key));
        let (name, mut text) = unpacked(&name, &object.body).with_context(|| format!("cannot read {}", object.key))?;
        objects.entry(name).or_default().append(&mut text);
    }
    Ok(objects)
}

/// A key without the time, the id and the number that its commit gave it: `in/orders-1-2026-01-31-12-05-00-01K...-7.gz` is
/// `in/orders.gz`.
fn settled(pipeline: &str, key: &str) -> String {
    let (folder, name) = key.rsplit_once('/').map_or(("", key), |(folder, name)| (folder, name));
    let slash = if folder.is_empty() && !key.starts_with('/') { "" } else { "/" };
    // Version, time (19 characters), id (26 characters), with a dash before each.
    const LENGTH: usize = 2 + 20 + 27;
    let start = name.rfind(&format!("{pipeline}-1-")).map(|at| at + pipeline.len());
    let Some((front, end)) = start.and_then(|start| Some((name.get(..start)?, name.get(start + LENGTH..)?))) else {
        return key.to_owned();
    };
    // Which object of its commit it is says how many others there were.
    let digits = end.strip_prefix('-').map_or(0, |end| end.bytes().take_while(u8::is_ascii_digit).count());
    let end = if digits > 0 { &end[1 + digits..] } else { end };
    format!("{folder}{slash}{front}{end}")
}

/// What people can read, with a name that says so.
fn unpacked(name: &str, body: &[u8]) -> Result<(String, Vec<u8>)> {
    let mut text = Vec::new();
    if let Some(plain) = name.strip_suffix(".gz") {
        flate2::read::MultiGzDecoder::new(body).read_to_end(&mut text)?;
        return Ok((plain.to_owned(), text));
    }
    if let Some(plain) = name.strip_suffix(".zst") {
        zstd::Decoder::new(body)?.read_to_end(&mut text)?;
        return Ok((plain.to_owned(), text));
    }
    if name.ends_with(".parquet") {
        let file = SerializedFileReader::new(bytes::Bytes::copy_from_slice(body))?;
        for row in file.get_row_iter(None)? {
            text.extend_from_slice(format!("{}\n", row?).as_bytes());
        }
        return Ok((format!("{name}.txt"), text));
    }
    Ok((name.to_owned(), body.to_owned()))
}

/// The files under a folder, by their paths in it; none if there is no such folder.
fn read(folder: &Path) -> Result<Objects> {
    let mut objects = Objects::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let entries = match std::fs::read_dir(&next) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", next.display())),
        };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            objects.insert(name, std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?);
        }
    }
    Ok(objects)
}

fn update(folder: &Path, wanted: &Objects, found: &Objects) -> Result<()> {
    for name in wanted.keys().filter(|name| !found.contains_key(*name)) {
        let path = folder.join(name);
        std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    found.iter().try_for_each(|(name, body)| trial::write(folder, name, body))
}

/// What is missing, new or other, in words.
fn differences(wanted: &Objects, found: &Objects) -> Vec<String> {
    let mut differences = Vec::new();
    for (name, body) in wanted {
        match found.get(name) {
            None => differences.push(format!("missing: {name}")),
            Some(now) if now != body => differences.push(format!("other: {name}\n{}", lines(body, now))),
            Some(_) => {}
        }
    }
    differences.extend(found.keys().filter(|name| !wanted.contains_key(*name)).map(|name| format!("new: {name}")));
    differences
}

/// The first lines in which two texts differ.
fn lines(wanted: &[u8], found: &[u8]) -> String {
    let (Ok(wanted), Ok(found)) = (std::str::from_utf8(wanted), std::str::from_utf8(found)) else {
        return format!("    {} bytes were expected, {} bytes came", wanted.len(), found.len());
    };
    let (wanted, found): (Vec<&str>, Vec<&str>) = (wanted.lines().collect(), found.lines().collect());
    let first = wanted.iter().zip(&found).take_while(|(a, b)| a == b).count();
    let some = |mark: &str, lines: &[&str]| -> String {
        lines.iter().skip(first).take(DIFFERENCE_LINES / 2).map(|line| format!("    {mark} {line}\n")).collect()
    };
    let text = format!("    line {}\n{}{}", first + 1, some("-", &wanted), some("+", &found));
    text.trim_end().to_owned()
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for failure in &report.failed {
        text.push_str(&format!("{}: failed\n", failure.case));
        failure.differences.iter().for_each(|difference| text.push_str(&format!("  {difference}\n")));
    }
    report.updated.iter().for_each(|case| text.push_str(&format!("{case}: updated\n")));
    let failed = report.failed.len();
    text.push_str(&format!("{} passed, {failed} failed, {} updated\n", report.passed, report.updated.len()));
    if failed > 0 {
        text.push_str("--update writes down what came, where that is what is wanted\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_loses_what_every_run_has_anew() {
        let key = "in/dt=2026/orders-1-2026-01-31-12-05-00-01KABCDEFGHJKMNPQRSTVWXYZ0";
        assert_eq!(settled("orders", &format!("{key}.gz")), "in/dt=2026/orders.gz");
        assert_eq!(settled("orders", &format!("{key}-3")), "in/dt=2026/orders");
        assert_eq!(settled("orders", "orders-1-2026"), "orders-1-2026");
    }
}
