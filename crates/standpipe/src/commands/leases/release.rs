//! `standpipe leases release`: leases are let go, one after the other; what cannot go is said, and the others go on.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use standpipe_flow::{LeaseKey, WorkerId};
use standpipe_lease::mend::{Mend, MendError, Release};

use super::{Consented, consent, outcome};
use crate::args::{self, Output};
use crate::exit::Exit;
use crate::terminal;

/// A look that is longer than a failover time tells the dead from the living.
const FAILOVERS: f64 = 1.1;

#[derive(Serialize)]
struct Report {
    outcome: &'static str,
    leases: Vec<Lease>,
}

#[derive(Serialize)]
struct Lease {
    lease: String,
    owner: Option<String>,
    action: &'static str,
    released: Option<bool>,
    failed: Option<String>,
}

/// One that fails is said, and does not keep the others from going.
pub async fn run(args: args::leases::Release) -> Result<Exit> {
    let mend = super::tables(&args.of).await?.mend;
    super::say_watching(&args.of, &mend, "whether the owners are alive");
    let look = mend.look(mend.failover.mul_f64(FAILOVERS)).await?;
    let human = args.of.report.output == Output::Human;
    let (mut plans, mut leases, mut failures) = (Vec::new(), Vec::new(), Vec::new());
    for lease in &args.leases {
        match mend.plan_release(&look, lease, args.force) {
            Ok(plan) => plans.push((lease, plan)),
            Err(error) => {
                leases.push(report(lease, None, Some(&error)));
                failures.push((lease, error));
            }
        }
    }
    if human {
        let told: String = plans.iter().map(|(lease, plan)| format!("{lease}: {}\n", told(plan))).collect();
        terminal::out(&told)?;
    }
    let idle = plans.iter().all(|(_, plan)| *plan == Release::Unowned);
    let go = !idle && consent(&args.consent, "Let go?")? == Consented::Go;
    let mut held = 0;
    for (lease, plan) in &plans {
        let released = if go { Some(release(&mend, lease, plan, args.wait).await) } else { None };
        held += usize::from(matches!(released, Some(Ok(false))));
        if human
            && let Some(Ok(released)) = released
            && let Some(owner) = owner(plan)
        {
            terminal::out(&format!("{lease}: {}\n", ended(plan, released, owner, args.wait)))?;
        }
        let failed = released.as_ref().and_then(|released| released.as_ref().err());
        leases.push(Lease {
            released: released.as_ref().map(|released| matches!(released, Ok(true))),
            ..report(lease, Some(plan), failed)
        });
        failures.extend(released.and_then(Result::err).map(|error| (*lease, error)));
    }
    if !human {
        super::super::json(&Report { outcome: outcome(args.consent.dry_run, go), leases })?;
    }
    // Where nothing went, the exit code says why.
    if failures.len() == args.leases.len()
        && let Some((_, error)) = failures.pop()
    {
        say(&failures);
        return Err(error.into());
    }
    say(&failures);
    Ok(if held + failures.len() > 0 { Exit::Partly } else { Exit::Ok })
}

fn say(failures: &[(&LeaseKey, MendError)]) {
    for (lease, error) in failures {
        terminal::err(&format!("{lease}: {error}\n"));
    }
}

fn report(lease: &LeaseKey, plan: Option<&Release>, failed: Option<&MendError>) -> Lease {
    Lease {
        lease: lease.to_string(),
        owner: plan.and_then(owner).map(ToString::to_string),
        action: plan.map_or("refused", action),
        released: None,
        failed: failed.map(ToString::to_string),
    }
}

/// Whether the owner has let it go.
async fn release(mend: &Mend, lease: &LeaseKey, plan: &Release, wait: Duration) -> Result<bool, MendError> {
    let me = WorkerId::new(format!("standpipe-leases-{}", mend.clock.wall().0));
    mend.release(lease, plan, &me).await?;
    Ok(match owner(plan) {
        Some(owner) => mend.await_release(lease, owner, wait).await?,
        None => true,
    })
}

fn owner(plan: &Release) -> Option<&WorkerId> {
    match plan {
        Release::Unowned => None,
        Release::Asked { owner, .. }
        | Release::Ask { owner, .. }
        | Release::Free { owner }
        | Release::TakeAway { owner } => Some(owner),
    }
}

fn action(plan: &Release) -> &'static str {
    match plan {
        Release::Unowned => "none",
        Release::Asked { .. } => "wait",
        Release::Ask { .. } => "ask",
        Release::Free { .. } => "free",
        Release::TakeAway { .. } => "take_away",
    }
}

fn told(plan: &Release) -> String {
    match plan {
        Release::Unowned => "nobody holds it".to_owned(),
        Release::Asked { owner, next } => format!("{owner} was asked for it by {next} already"),
        Release::Ask { owner, next: Some(next) } => {
            format!("{owner} delivers what it has read and lets it go; {next} may take it first")
        }
        Release::Ask { owner, next: None } => format!(
            "{owner} delivers what it has read and lets it go; no other worker holds a lease, so after 3 s whoever is \
             first takes it, {owner} too"
        ),
        Release::Free { owner } => format!("{owner} is dead; anybody may take it at once"),
        Release::TakeAway { owner } => {
            format!("taken from {owner}, which is alive: what it has read and not delivered is read again")
        }
    }
}

fn ended(plan: &Release, released: bool, owner: &WorkerId, wait: Duration) -> String {
    match plan {
        Release::TakeAway { .. } | Release::Free { .. } if released => return format!("taken from {owner}"),
        _ if released => return format!("let go by {owner}"),
        _ => {}
    }
    let wait = standpipe_config::units::format_duration(wait);
    format!("{owner} has not let it go within {wait}; a Java worker never does: --force takes it away")
}
