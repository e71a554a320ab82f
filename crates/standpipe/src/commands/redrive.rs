//! `standpipe redrive`: loads that a Redshift destination gave up are made after all, each under its own commit id, so
//! that the ledger counts it once however often this is asked.
//!
//! What was decided about a commit is read from its receipt. One that fails is said, and does not keep the others from going. `--dry-run` shows what would be loaded.

use anyhow::Result;
use serde::Serialize;
use standpipe_destinations::redshift::{Decided, ErrorManifest, GivenUp, Redriven, Redshift};
use standpipe_flow::{CommitId, CommitLog, Millis, ReceiptState};
use standpipe_lease::CommitTable;
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
    /// Why it was given up.
    why: Option<String>,
    /// `loaded`, `already`, `delivered` (under another id), `taken_back` (as the ledger alone says); none where nothing was tried or it failed.
    redriven: Option<&'static str>,
    /// Where the rows are named that COPY left out.
    left_out: Option<String>,
    /// Why it is left alone: of another table, too old, not understood.
    skipped: Option<String>,
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
    let receipts = standpipe_worker::receipts(&config, pipeline, &platform);
    let (found, now) = redshift.given_up().await?;
    let human = args.of.report.output == Output::Human;
    if human {
        terminal::out(&told(&redshift, &found, now))?;
    }
    let some = found.iter().any(|given_up| skipped(&redshift, given_up, now).is_none());
    let go = some && consent(&args.consent, "Load them?")? == Consented::Go;
    let mut lines = Vec::new();
    for manifest in &found {
        let mut line = line(&redshift, manifest, now);
        if go && line.skipped.is_none() {
            one((&redshift, &receipts), manifest, (now, args.keep), &mut line).await;
        }
        if human && go {
            terminal::out(&format!("{}: {}\n", line.manifest, became(&line)))?;
        }
        lines.push(line);
    }
    let failed = lines.iter().filter(|line| line.failed.is_some()).count();
    let all = lines.iter().filter(|line| line.skipped.is_none()).count();
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
fn told(redshift: &Redshift, found: &[GivenUp], now: Millis) -> String {
    if found.is_empty() {
        let (bucket, prefix) = (redshift.objects().bucket_name(), redshift.given_up_prefix());
        return format!("nothing was given up: no manifest under s3://{bucket}/{prefix}\n");
    }
    let told = |given_up: &GivenUp| match (&given_up.manifest, skipped(redshift, given_up, now)) {
        (Ok(ErrorManifest { cid, table, records, objects, why, .. }), None) => {
            let (records, objects) =
                (terminal::counted(*records, "record"), terminal::counted(objects.len() as u64, "object"));
            format!("{}\n  commit {cid}: {records} in {objects} for {table}\n  given up: {why}\n", given_up.url)
        }
        (_, skipped) => format!("{}\n  left alone: {}\n", given_up.url, skipped.unwrap_or_default()),
    };
    found.iter().map(told).collect()
}

/// Why a manifest is none that this destination loads.
fn skipped(redshift: &Redshift, given_up: &GivenUp, now: Millis) -> Option<String> {
    match &given_up.manifest {
        Ok(manifest) => redshift.refuses(manifest, now),
        Err(why) => Some(why.clone()),
    }
}

fn line(redshift: &Redshift, given_up: &GivenUp, now: Millis) -> Line {
    let manifest = given_up.manifest.as_ref().ok();
    Line {
        manifest: given_up.url.clone(),
        cid: manifest.map(|manifest| manifest.cid.to_string()),
        table: manifest.map(|manifest| manifest.table.clone()),
        records: manifest.map(|manifest| manifest.records),
        why: manifest.map(|manifest| manifest.why.clone()),
        redriven: None,
        left_out: None,
        skipped: skipped(redshift, given_up, now),
        failed: None,
    }
}

/// What the commit table says of a commit. Where it cannot be asked the ledger alone is believed, which is the more careful.
async fn decided(receipts: &CommitTable, cid: CommitId) -> Decided {
    match receipts.receipt(cid).await {
        Ok(Some(receipt)) => match receipt.state {
            ReceiptState::Done if receipt.gave_up => Decided::GivenUp,
            ReceiptState::Retracted => Decided::TakenBack,
            ReceiptState::Committed | ReceiptState::Done => Decided::Unknown,
        },
        Ok(None) => Decided::Unknown,
        Err(error) => {
            terminal::err(&format!("the receipt of commit {cid} cannot be read: {error}\n"));
            Decided::Unknown
        }
    }
}

/// Loads one; once its records are in the table, or come by another way, its manifest is deleted.
async fn one(
    (redshift, receipts): (&Redshift, &CommitTable),
    given_up: &GivenUp,
    (now, keep): (Millis, bool),
    line: &mut Line,
) {
    let Ok(manifest) = &given_up.manifest else { return };
    let decided = decided(receipts, manifest.cid).await;
    let redriven = match redshift.redrive(manifest, (&given_up.url, now), decided).await {
        // Taken back, as the ledger alone says: nobody here has seen its records come under another id.
        Ok(Redriven::TakenBack) if decided != Decided::TakenBack => Ok(Redriven::TakenBack),
        Ok(redriven) if keep => Ok(redriven),
        Ok(redriven) => redshift.forget(given_up).await.map(|()| redriven),
        Err(error) => Err(error),
    };
    match redriven {
        Ok(Redriven::Loaded { left_out }) => (line.redriven, line.left_out) = (Some("loaded"), left_out),
        Ok(Redriven::Already) => line.redriven = Some("already"),
        Ok(Redriven::TakenBack) if decided == Decided::TakenBack => line.redriven = Some("delivered"),
        Ok(Redriven::TakenBack) => line.redriven = Some("taken_back"),
        Err(error) => line.failed = Some(error.to_string()),
    }
}

fn became(line: &Line) -> String {
    match (line.redriven, &line.failed, &line.skipped) {
        (_, _, Some(why)) => format!("left alone: {why}"),
        (_, Some(why), _) => format!("not loaded: {why}"),
        (Some("loaded"), ..) => {
            let records = terminal::counted(line.records.unwrap_or(0), "record");
            match &line.left_out {
                None => format!("loaded, {records}"),
                Some(place) => format!("loaded, {records} but for rows that COPY left out: {place}"),
            }
        }
        (Some("already"), ..) => "was loaded before: the ledger has it".to_owned(),
        (Some("delivered"), ..) => "was taken back: its records were delivered under another id".to_owned(),
        (Some(_), ..) => {
            "was taken back, as the ledger says, and its receipt does not say so: look whether its records \
                          are in the table before you delete the manifest"
                .to_owned()
        }
        (None, None, None) => "nothing was tried".to_owned(),
    }
}
