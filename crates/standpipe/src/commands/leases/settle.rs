//! `standpipe leases settle`: a person says what became of a commit that no worker may finish by itself.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use standpipe_lease::mend::{Choice, ReceiptSeen, SettlePlan};

use super::{Consented, cells, consent, outcome};
use crate::args::Output;
use crate::args::leases::Settle;
use crate::exit::Exit;
use crate::terminal::{self, counted};

#[derive(Serialize)]
struct Report {
    outcome: &'static str,
    lease: String,
    cid: String,
    destination: String,
    receipt: &'static str,
    records: Option<u64>,
    choice: &'static str,
    together: Vec<String>,
    others: Vec<String>,
}

pub async fn run(args: Settle) -> Result<Exit> {
    let mend = super::tables(&args.of).await?.mend;
    let choice = match (args.publish, args.replay) {
        (true, _) => Choice::Publish,
        (_, true) => Choice::Replay,
        _ => Choice::Forget,
    };
    let look = mend.look(Duration::ZERO).await?;
    let plan = mend.plan_settle(&look, &args.lease, args.cid, choice).await?;
    let human = args.of.report.output == Output::Human;
    if human {
        terminal::out(&told(&plan))?;
    }
    let go = consent(&args.consent, "Settle?")? == Consented::Go;
    if go {
        mend.settle(&plan).await?;
    }
    if human && go {
        terminal::out("settled; the next worker that looks at the table goes on\n")?;
    }
    if !human {
        super::super::json(&report(&plan, outcome(args.consent.dry_run, go)))?;
    }
    Ok(Exit::Ok)
}

fn told(plan: &SettlePlan) -> String {
    let SettlePlan { lease, cid, destination, .. } = plan;
    let receipt = cells::receipt(Some(&plan.receipt));
    let mut text =
        format!("{lease} carries commit {cid} to {} at {destination}: {receipt}", cells::position(&plan.pending.to));
    if let ReceiptSeen::Unreadable(cause) = &plan.receipt {
        text.push_str(&format!(" ({cause})"));
    }
    text.push('\n');
    let records = plan.records.map_or("an unknown number of records".to_owned(), |records| counted(records, "record"));
    text.push_str(&match plan.choice {
        Choice::Publish => format!("publishes {records}, and goes on after them\n"),
        Choice::Replay => format!("delivers {records} again; they repeat if they were visible\n"),
        Choice::Forget => format!("goes on after {records}; they are lost if they were not visible\n"),
    });
    for other in &plan.together {
        text.push_str(&format!("  {other} is settled with it: the receipt is one\n"));
    }
    for other in &plan.others {
        text.push_str(&format!("  {other} carries it, too, and must be settled by itself\n"));
    }
    text
}

fn report(plan: &SettlePlan, outcome: &'static str) -> Report {
    let names = |leases: &[standpipe_flow::LeaseKey]| leases.iter().map(ToString::to_string).collect();
    Report {
        outcome,
        lease: plan.lease.to_string(),
        cid: plan.cid.to_string(),
        destination: plan.destination.to_string(),
        receipt: cells::receipt(Some(&plan.receipt)),
        records: plan.records,
        choice: match plan.choice {
            Choice::Publish => "publish",
            Choice::Replay => "replay",
            Choice::Forget => "forget",
        },
        together: names(&plan.together),
        others: names(&plan.others),
    }
}
