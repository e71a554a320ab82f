//! `standpipe leases thaw`: the columns that were frozen for a destination are shown, and forgotten.

use anyhow::Result;
use serde::Serialize;
use standpipe_config::config::{Pipeline, TableColumns};
use standpipe_flow::{DestinationId, Millis};
use standpipe_lease::Frozen;
use standpipe_lease::mend::MendError;

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
    let frozen = match mend.plan_thaw(&args.destination).await {
        Err(MendError::Refused { cause }) => {
            let config = super::super::load(&args.of.config.files)?;
            let pipeline = super::super::pipeline(&config, args.of.pipeline.as_deref())?;
            let cause = format!("{cause}: {}", why(pipeline, &args.destination));
            return Err(MendError::Refused { cause }.into());
        }
        planned => planned?,
    };
    let Frozen { columns, records, at } = &frozen;
    let human = args.of.report.output == Output::Human;
    if human {
        terminal::out(&format!(
            "frozen for {} since {}, from {}:\n{}\n",
            args.destination,
            cells::instant(Millis(at.0 / 1000 * 1000)),
            counted(*records, "record"),
            terminal::visible(columns),
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

/// Why a destination has no columns that are frozen.
fn why(pipeline: &Pipeline, id: &DestinationId) -> String {
    let Some(destination) = pipeline.destinations.iter().find(|destination| destination.id() == id) else {
        let ids: Vec<&str> = pipeline.destinations.iter().map(|destination| destination.id().as_str()).collect();
        return format!("pipeline {} has no destination {id}, only {}", pipeline.name, ids.join(", "));
    };
    match destination.table().map(|table| &table.columns) {
        Some(TableColumns::Inferred { .. }) => "its first batch freezes them, and there was none yet".to_owned(),
        Some(_) => "its `schema` says which they are, and `infer` alone freezes any".to_owned(),
        None => format!("a destination of this kind and format ({}) has no columns", destination.kind()),
    }
}
