//! Runs seeds of the simulation: `simulate 1..30`. Prints a line a seed, what was recovered, and seeds a second; exits 1
//! if any seed is wrong or the first one is not the same twice.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use standpipe_tests::simulation::{Outcome, run};

fn main() -> ExitCode {
    let span = std::env::args().nth(1).unwrap_or_else(|| "1..30".into());
    let Some((from, to)) =
        span.split_once("..").and_then(|(a, b)| Some((a.parse::<u64>().ok()?, b.parse::<u64>().ok()?)))
    else {
        eprintln!("usage: simulate FROM..TO (both included)");
        return ExitCode::from(2);
    };
    if std::env::var_os("STANDPIPE_SIM_LOG").is_some() {
        tracing_subscriber::fmt().with_env_filter("debug").without_time().with_ansi(false).init();
    }
    #[allow(clippy::disallowed_methods)] // the wall time of the runs themselves
    let begin = Instant::now();
    let (mut passed, mut failed) = (0, 0);
    let mut events: BTreeMap<String, u64> = BTreeMap::new();
    for seed in from..=to {
        let outcome = run(seed);
        print(&outcome);
        if outcome.wrong.is_empty() {
            passed += 1
        } else {
            failed += 1
        }
        for (event, count) in outcome.events {
            *events.entry(event).or_default() += count;
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    let twice = run(from);
    let same = twice == run(from);
    println!("seed {from} twice: {}", if same { "the same list of requests" } else { "NOT THE SAME" });
    for (event, count) in events {
        println!("{count:8}  {event}");
    }
    println!("{:.2} seeds a second", (passed + failed) as f64 / seconds);
    println!("{passed} passed, {failed} failed");
    ExitCode::from(u8::from(failed > 0 || !same))
}

fn print(outcome: &Outcome) {
    let Outcome { seed, produced, found, requests, seconds, trace, .. } = outcome;
    println!(
        "seed {seed}: {produced} produced, {found} found, {requests} requests, {seconds} virtual s, trace {trace:016x}"
    );
    for wrong in &outcome.wrong {
        println!("seed {seed}: WRONG: {wrong}");
    }
}
