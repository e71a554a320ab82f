//! `standpipe redrive`: loads that a Redshift destination gave up are made after all, each under its own commit id, so
//! that the ledger counts it once however often this is asked.
//!
//! One that fails is said, and does not keep the others from going. `--dry-run` shows what would be loaded.

use anyhow::Result;
use serde::Serialize;
use standpipe_destinations::redshift::{ErrorManifest, GivenUp, Redriven, Redshift};
use standpipe_flow::Millis;
use standpipe_worker::Platform;

use super::consent::{Consented, consent, outcome};
use crate::args::{self, Output};
use crate::exit::Exit;
use crate::terminal;

#[derive(Serialize)]
struct Report {
    outcome: &'static str,
    manifests: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    manifest: String,
    cid: Option<String>,
    table: Option<String>,
    records: Option<u64>,
    /// `loaded`, `already`, `taken_back`; none where nothing was tried or it failed.
    redriven: Option<&'static str>,
    failed: Option<String>,
}

/// Does it.
pub fn run(args: args::Redrive) -> Result<Exit> {
    super::runtime()?.block_on(redrive(args))
}

async fn redrive(args: args::Redrive) -> Result<Exit> {
    let config = super::load(&args.of.config.files)?;
    let pipeline = super::pipeline(&config, args.of.pipeline.as_deref())?;
    let platform = Platform::system(&config.aws).await;
    let redshift = standpipe_worker::redshift(&config, pipeline, args.destination.as_ref(), &platform)?;
    let (found, now) = redshift.given_up().await?;
    let human = args.of.report.output == Output::Human;
    if human {
        terminal::out(&told(&redshift, &found))?;
    }
    let go = !found.is_empty() && consent(&args.consent, "Load them?")? == Consented::Go;
    let mut lines = Vec::new();
    for manifest in &found {
        let line = if go { one(&redshift, manifest, now, args.keep).await } else { line(manifest) };
        if human && go {
            terminal::out(&format!("{}: {}\n", line.manifest, became(&line)))?;
        }
        lines.push(line);
    }
    let failed = lines.iter().filter(|line| line.failed.is_some()).count();
    let all = lines.len();
    if !human {
        super::json(&Report { outcome: outcome(args.consent.dry_run, go), manifests: lines })?;
    }
    Ok(match failed {
        0 => Exit::Ok,
        failed if failed == all => Exit::Failed,
        _ => Exit::Partly,
    })
}

/// What stands there, for people.
fn told(redshift: &Redshift, found: &[GivenUp]) -> String {
    if found.is_empty() {
        let (bucket, prefix) = (redshift.objects().bucket_name(), redshift.given_up_prefix());
        return format!("nothing was given up: no manifest under s3://{bucket}/{prefix}\n");
    }
    let told = |given_up: &GivenUp| match &given_up.manifest {
        Ok(ErrorManifest { cid, table, records, objects, .. }) => {
            let objects = terminal::counted(objects.len() as u64, "object");
            format!(
                "{}\n  commit {cid}: {} in {objects} for {table}\n",
                given_up.url,
                terminal::counted(*records, "record")
            )
        }
        Err(why) => format!("{}\n  cannot be loaded: {why}\n", given_up.url),
    };
    found.iter().map(told).collect()
}

fn line(given_up: &GivenUp) -> Line {
    let manifest = given_up.manifest.as_ref().ok();
    Line {
        manifest: given_up.url.clone(),
        cid: manifest.map(|manifest| manifest.cid.to_string()),
        table: manifest.map(|manifest| manifest.table.clone()),
        records: manifest.map(|manifest| manifest.records),
        redriven: None,
        failed: given_up.manifest.as_ref().err().cloned(),
    }
}

/// Loads one; once its records are in the table, or come by another way, its manifest is deleted.
async fn one(redshift: &Redshift, given_up: &GivenUp, now: Millis, keep: bool) -> Line {
    let mut line = line(given_up);
    let Ok(manifest) = &given_up.manifest else { return line };
    let redriven = match redshift.redrive(manifest, &given_up.url, now).await {
        Ok(redriven) if keep => Ok(redriven),
        Ok(redriven) => redshift.forget(given_up).await.map(|()| redriven),
        Err(error) => Err(error),
    };
    match redriven {
        Ok(Redriven::Loaded) => line.redriven = Some("loaded"),
        Ok(Redriven::Already) => line.redriven = Some("already"),
        Ok(Redriven::TakenBack) => line.redriven = Some("taken_back"),
        Err(error) => line.failed = Some(error.to_string()),
    }
    line
}

fn became(line: &Line) -> String {
    match (line.redriven, &line.failed) {
        (_, Some(why)) => format!("not loaded: {why}"),
        (Some("loaded"), _) => format!("loaded, {}", terminal::counted(line.records.unwrap_or(0), "record")),
        (Some("already"), _) => "was loaded before: the ledger has it".to_owned(),
        (Some(_), _) => "was taken back: its records were delivered under another id".to_owned(),
        (None, None) => "nothing was tried".to_owned(),
    }
}
