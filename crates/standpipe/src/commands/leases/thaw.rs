//! `standpipe leases thaw`: the columns that were frozen for a destination are shown, and forgotten.

use anyhow::Result;
use serde::Serialize;
use standpipe_flow::Millis;
use standpipe_lease::Frozen;

use super::{Consented, cells, consent, outcome};
use crate::args::Output;
use crate::args::leases::Thaw;
use crate::exit::Exit;
use crate::terminal::{self, counted};

#[derive(Serialize)]
struct Report {
    outcome: &'static str,
    destination: String,
    columns: String,
    records: u64,
    frozen_millis: u64,
}

pub async fn run(args: Thaw) -> Result<Exit> {
    let mend = super::tables(&args.of).await?.mend;
    let frozen = mend.plan_thaw(&args.destination).await?;
    let Frozen { columns, records, at } = &frozen;
    let human = args.of.report.output == Output::Human;
    if human {
        terminal::out(&format!(
            "frozen for {} since {}, from {}:\n{}\n",
            args.destination,
            cells::instant(Millis(at.0 / 1000 * 1000)),
            counted(*records, "record"),
            visible(columns),
        ))?;
    }
    let go = consent(&args.consent, "Forget them?")? == Consented::Go;
    if go {
        mend.thaw(&args.destination, &frozen).await?;
    }
    if human && go {
        terminal::out(
            "forgotten: the next worker that starts infers them anew; those that run keep them until they are restarted\n",
        )?;
    }
    if !human {
        super::super::json(&Report {
            outcome: outcome(args.consent.dry_run, go),
            destination: args.destination.to_string(),
            columns: columns.clone(),
            records: *records,
            frozen_millis: at.0,
        })?;
    }
    Ok(Exit::Ok)
}

/// Names are keys of records: what a terminal would act upon is not shown to it.
fn visible(columns: &str) -> String {
    columns.chars().map(|letter| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter }).collect()
}
