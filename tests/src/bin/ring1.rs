//! Runs seeds of the simulation's first ring: `ring1 1..20000`. Prints what happened, how often, and seeds a second;
//! exits 1 if any seed is wrong, or if 300 seeds have not met a row of the failure matrix that is this ring's.
//! `ring1 17..17` also prints everything that was written; `ring1 1..400 tenure` lets the lease table skip that clause,
//! which must go wrong.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use standpipe_tests::ring1::{SKIPPED, run_ignoring};
use standpipe_tests::simulation::matrix;

fn main() -> ExitCode {
    let span = std::env::args().nth(1).unwrap_or_else(|| "1..1000".into());
    let Some((from, to)) =
        span.split_once("..").and_then(|(a, b)| Some((a.parse::<u64>().ok()?, b.parse::<u64>().ok()?)))
    else {
        eprintln!("usage: ring1 FROM..TO (both included)");
        return ExitCode::from(2);
    };
    let skipped = std::env::args().nth(2).unwrap_or_else(|| "none".into());
    let Some((_, ignored)) = SKIPPED.into_iter().find(|(name, _)| *name == skipped) else {
        eprintln!("clauses that can be skipped: {}", SKIPPED.map(|(name, _)| name).join(", "));
        return ExitCode::from(2);
    };
    #[allow(clippy::disallowed_methods)] // the wall time of the runs themselves
    let begin = Instant::now();
    let (mut passed, mut failed) = (0, 0);
    let (mut records, mut writes, mut seconds) = (0, 0, 0);
    let mut events: BTreeMap<String, u64> = BTreeMap::new();
    for seed in from..=to {
        let (outcome, trace) = run_ignoring(seed, ignored);
        if from == to {
            trace.iter().for_each(|line| println!("{line}"));
        }
        for wrong in &outcome.wrong {
            println!("seed {seed}: WRONG: {wrong}");
        }
        if outcome.wrong.is_empty() {
            passed += 1
        } else {
            failed += 1
        }
        records += outcome.produced;
        writes += outcome.requests;
        seconds += outcome.seconds;
        for (event, count) in outcome.events {
            *events.entry(event).or_default() += count;
        }
    }
    let real = begin.elapsed().as_secs_f64();
    for (event, count) in &events {
        println!("{count:9}  {event}");
    }
    let (table, unmet) = matrix::report_first_ring(&events);
    print!("{table}");
    let thin = to - from + 1 >= matrix::FULL_RUN && !unmet.is_empty();
    if thin {
        println!("rows never met: {unmet:?}");
    }
    println!("{records} records, {writes} writes and reads, {seconds} virtual s");
    println!("{:.1} seeds a second", f64::from(passed + failed) / real);
    println!("{passed} passed, {failed} failed");
    ExitCode::from(u8::from(failed > 0 || thin))
}
