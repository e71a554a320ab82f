//! `standpipe leases reset`: what will repeat and what will be skipped is said first, then the leases move.

use std::collections::BTreeSet;

use anyhow::Result;
use serde::Serialize;
use standpipe_config::units::StartPosition;
use standpipe_flow::Millis;
use standpipe_lease::mend::{Count, LeaseReset, MendError, Moves, ResetPlan, To, Wanted};
use standpipe_source::{Stream, StreamError};

use super::{Consented, cells, consent, outcome};
use crate::args::Output;
use crate::args::leases::{Place, Reset};
use crate::exit::Exit;
use crate::terminal::{self, counted, grouped};

/// As for `release`.
const FAILOVERS: f64 = 1.1;

#[derive(Serialize)]
struct Report {
    outcome: &'static str,
    to: String,
    /// Records that are delivered again; `at_most` is null where nobody knows.
    repeats: Repeats,
    /// Whether records are skipped; how many is in the stream alone.
    skips: bool,
    leases: Vec<Lease>,
    left: Vec<Left>,
}

#[derive(Serialize)]
struct Repeats {
    at_least: u64,
    at_most: Option<u64>,
}

#[derive(Serialize)]
struct Lease {
    lease: String,
    owner: Option<String>,
    /// Whether the owner may be alive: then it is reset with --force only.
    held: bool,
    retired: Vec<String>,
    destinations: std::collections::BTreeMap<String, &'static str>,
    finished_first: Vec<String>,
    generation: Option<u64>,
    failed: Option<String>,
}

#[derive(Serialize)]
struct Left {
    lease: String,
    reason: String,
}

pub async fn run(args: Reset) -> Result<Exit> {
    let super::Tables { mend, stream, now } = super::tables(&args.of).await?;
    let to = to(&args.to, now);
    super::say_watching(&args.of, &mend, "whether workers hold the leases");
    let look = mend.look(mend.failover.mul_f64(FAILOVERS)).await?;
    let leases: BTreeSet<_> = args.leases.iter().cloned().collect();
    let wanted = Wanted {
        leases: (!args.all).then_some(&leases),
        destination: args.destination.as_ref(),
        to: &to,
        // What is only shown takes nothing from anybody.
        force: args.force || args.consent.dry_run,
    };
    let plan = mend.plan_reset(&look, &wanted).await?;
    for reset in &plan.leases {
        has(&stream, reset).await?;
    }
    let human = args.of.report.output == Output::Human;
    if human {
        terminal::out(&told(&plan, &to))?;
        terminal::out(&held(&plan, args.force))?;
    }
    let go = !plan.leases.is_empty() && consent(&args.consent, "Reset?")? == Consented::Go;
    let mut leases = Vec::new();
    let mut failed = 0;
    for reset in &plan.leases {
        let mut lease = lease(reset);
        if go {
            match mend.reset(reset).await {
                Ok(row) => lease.generation = Some(row.generation.0),
                Err(error) => {
                    terminal::err(&format!("{}: {error}\n", reset.lease));
                    lease.failed = Some(error.to_string());
                    failed += 1;
                }
            }
        }
        leases.push(lease);
    }
    let done = leases.len() - failed;
    if human && go {
        terminal::out(&format!("reset {}\n", counted(done as u64, "lease")))?;
    }
    if !human {
        let left = plan.left.iter().map(|(lease, why)| Left { lease: lease.to_string(), reason: why.clone() });
        let Count { at_least, at_most } = plan.repeats;
        super::super::json(&Report {
            outcome: outcome(args.consent.dry_run, go),
            to: place(&to),
            repeats: Repeats { at_least, at_most },
            skips: any(&plan, &[Moves::Ahead, Moves::Unclear]),
            leases,
            left: left.collect(),
        })?;
    }
    Ok(match (failed, done) {
        (0, _) => Exit::Ok,
        (_, 0) => Exit::Failed,
        _ => Exit::Partly,
    })
}

/// Refuses a place that the shard does not have: its reader would be refused for ever.
async fn has(stream: &Stream, reset: &LeaseReset) -> Result<()> {
    let (lease, to) = (&reset.lease, reset.to.checkpoint());
    let cause = match stream.catalog().has(&lease.shard(), &reset.to).await {
        Ok(()) => return Ok(()),
        Err(StreamError::Refused { cause }) => {
            format!("shard {lease} does not have sequence number {to}, so nothing was changed: {cause}")
        }
        Err(StreamError::Gone { cause }) => {
            format!("the stream does not have shard {lease} any more, so nothing was changed: {cause}")
        }
        Err(error) => return Err(error.into()),
    };
    Err(MendError::Refused { cause }.into())
}

/// `now` is when the command began.
fn to(place: &Place, now: Millis) -> To {
    match place {
        Place::After(position) => To::At(position.clone()),
        Place::Start(StartPosition::TrimHorizon) => To::Horizon,
        Place::Start(StartPosition::Latest) => To::Latest(now),
        Place::Start(StartPosition::At(at)) => To::Since(Millis(u64::try_from(*at).unwrap_or(0))),
        Place::Start(StartPosition::Ago(ago)) => {
            let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
            To::Since(Millis(now.0.saturating_sub(ago)))
        }
    }
}

fn place(to: &To) -> String {
    match to {
        To::Horizon => "the oldest record that the stream holds".to_owned(),
        To::Latest(now) => format!("what arrives after {}", cells::instant(*now)),
        To::Since(instant) => format!("what arrived since {}", cells::instant(*instant)),
        To::At(position) => format!("the record after {position}"),
    }
}

fn any(plan: &ResetPlan, ways: &[Moves]) -> bool {
    let moves =
        |reset: &LeaseReset| reset.moves.iter().any(|(id, moves)| ways.contains(moves) && !reset.retired.contains(id));
    plan.leases.iter().any(moves)
}

/// What stands against a plan that is only shown.
fn held(plan: &ResetPlan, force: bool) -> String {
    match plan.leases.iter().filter(|reset| reset.held).count() {
        held if held > 0 && !force => format!(
            "workers hold {}: stop them, or add --force, which takes the leases from them\n",
            if held == plan.leases.len() { "these".to_owned() } else { format!("{held} of these") }
        ),
        _ => String::new(),
    }
}

fn told(plan: &ResetPlan, to: &To) -> String {
    let mut text = format!("{} to {}\n", counted(plan.leases.len() as u64, "lease"), place(to));
    for reset in &plan.leases {
        let moves = reset.moves.iter().map(|(id, moves)| match reset.retired.contains(id) {
            true => format!("{id} is retired: its place goes along, nothing is delivered there"),
            false => format!("{id} {}", way(*moves)),
        });
        let moves: Vec<String> = moves.collect();
        text.push_str(&format!(
            "  {}: {}",
            reset.lease,
            if moves.is_empty() { "begins there".into() } else { moves.join(", ") }
        ));
        if let Some(owner) = &reset.owner {
            text.push_str(&format!("; {owner} loses it"));
        }
        if !reset.pending.is_empty() {
            let cids: Vec<String> = reset.pending.iter().map(ToString::to_string).collect();
            text.push_str(&format!("; commit {} is published first", cids.join(", ")));
        }
        text.push('\n');
    }
    for (lease, why) in &plan.left {
        text.push_str(&format!("  {lease}: left as it is: {why}\n"));
    }
    if any(plan, &[Moves::Back, Moves::Unclear]) {
        text.push_str(&format!("repeats {}, as far as the stream still holds them\n", records(&plan.repeats)));
    }
    if any(plan, &[Moves::Ahead]) {
        text.push_str("skips an unknown number of records: what lies between is delivered to nobody\n");
    }
    if any(plan, &[Moves::Unclear]) {
        text.push_str(
            "may skip records that were not delivered: when the last delivered one arrived is not known everywhere\n",
        );
    }
    text
}

fn way(moves: Moves) -> &'static str {
    match moves {
        Moves::Stays => "stays",
        Moves::Back => "goes back",
        Moves::Ahead => "skips ahead",
        Moves::Unclear => "goes there",
    }
}

fn records(count: &Count) -> String {
    match (count.at_least, count.at_most) {
        (least, Some(most)) if least == most => counted(least, "record"),
        (least, Some(most)) => format!("{} to {}", grouped(least), counted(most, "record")),
        (0, None) => "an unknown number of records".to_owned(),
        (least, None) => format!("at least {}", counted(least, "record")),
    }
}

fn lease(reset: &LeaseReset) -> Lease {
    let word = |moves: Moves| match moves {
        Moves::Stays => "stays",
        Moves::Back => "back",
        Moves::Ahead => "ahead",
        Moves::Unclear => "unclear",
    };
    Lease {
        lease: reset.lease.to_string(),
        owner: reset.owner.as_ref().map(ToString::to_string),
        held: reset.held,
        retired: reset.retired.iter().map(ToString::to_string).collect(),
        destinations: reset.moves.iter().map(|(id, moves)| (id.to_string(), word(*moves))).collect(),
        finished_first: reset.pending.iter().map(ToString::to_string).collect(),
        generation: None,
        failed: None,
    }
}

#[cfg(test)]
mod tests {
    use standpipe_flow::{DestinationId, Generation, LeaseKey, Position};

    use super::*;

    #[test]
    fn what_may_be_skipped_is_said() {
        let to = To::Since(Millis(1_790_000_000_000));
        let told_of = |moves: Moves| {
            let lake = DestinationId::new("lake");
            let reset = LeaseReset {
                lease: LeaseKey::new("shardId-000000000000"),
                owner: None,
                destination: None,
                to: Position::TrimHorizon,
                start: None,
                held: false,
                force: false,
                tenure: None,
                generation: Generation(0),
                moves: [(lake, moves)].into(),
                retired: BTreeSet::new(),
                pending: BTreeSet::new(),
            };
            let repeats = Count { at_least: 0, at_most: Some(0) };
            told(&ResetPlan { leases: vec![reset], left: Default::default(), repeats }, &to)
        };
        assert!(told_of(Moves::Unclear).contains("may skip records that were not delivered"));
        assert!(told_of(Moves::Ahead).contains("skips an unknown number of records"));
        assert!(!told_of(Moves::Back).contains("skip"));
    }
}
