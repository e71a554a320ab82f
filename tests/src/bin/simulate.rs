//! Runs seeds of the simulation: `simulate 1..1000 --jobs 2`. Prints a line a seed, what was recovered, the failure
//! matrix over all seeds, and seeds a second; exits 1 if any seed is wrong, if the first one is not the same twice, or if
//! a full run (300 seeds) has not met a row of the matrix that is ours, or no tree three levels deep.

use std::collections::{BTreeMap, VecDeque};
use std::process::ExitCode;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use standpipe_tests::simulation::matrix;
use standpipe_tests::simulation::{Outcome, run};

const USAGE: &str = "usage: simulate [--seeds] FROM..TO (both included) [--jobs THREADS]";

struct Asked {
    from: u64,
    to: u64,
    jobs: usize,
}

fn asked() -> Option<Asked> {
    let mut asked = Asked { from: 1, to: 30, jobs: 1 };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--jobs" => asked.jobs = args.next()?.parse().ok()?,
            "--seeds" => {}
            span => {
                let (from, to) = span.split_once("..")?;
                (asked.from, asked.to) = (from.parse().ok()?, to.parse().ok()?);
            }
        }
    }
    (asked.jobs > 0 && asked.from <= asked.to).then_some(asked)
}

/// What all seeds together came to.
#[derive(Default)]
struct Total {
    passed: u64,
    failed: Vec<u64>,
    records: usize,
    found: usize,
    excused: usize,
    expired: usize,
    deep: u64,
    deepest: usize,
    /// The slowest read after the faults, and the most failover times that one took, in hundredths.
    slowest: (u64, u64),
    events: BTreeMap<String, u64>,
    rows: matrix::Rows,
}

impl Total {
    fn add(&mut self, outcome: Outcome) {
        if outcome.wrong.is_empty() {
            self.passed += 1
        } else {
            self.failed.push(outcome.seed)
        }
        self.records += outcome.produced;
        self.found += outcome.found;
        self.excused += outcome.excused;
        self.expired += outcome.expired;
        self.deep += u64::from(outcome.depth >= 3);
        self.deepest = self.deepest.max(outcome.depth);
        self.slowest = (self.slowest.0.max(outcome.read_again.0), self.slowest.1.max(outcome.read_again.1));
        for (event, count) in outcome.events {
            let all = self.events.entry(event).or_default();
            *all += count;
        }
        for (row, count) in outcome.rows {
            *self.rows.entry(row).or_default() += count;
        }
    }
}

fn main() -> ExitCode {
    let Some(asked) = asked() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    if std::env::var_os("STANDPIPE_SIM_LOG").is_some() {
        tracing_subscriber::fmt().with_env_filter("debug").without_time().with_ansi(false).init();
    }
    #[allow(clippy::disallowed_methods)] // the wall time of the runs themselves
    let begin = Instant::now();
    let seeds: Arc<Mutex<VecDeque<u64>>> = Arc::new(Mutex::new((asked.from..=asked.to).collect()));
    let (outcomes, all) = mpsc::channel();
    for _ in 0..asked.jobs {
        let (seeds, outcomes) = (Arc::clone(&seeds), outcomes.clone());
        #[allow(clippy::disallowed_methods)] // a thread of the program that runs the seeds
        std::thread::spawn(move || {
            let next = || seeds.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            while let Some(seed) = next() {
                if outcomes.send(run(seed)).is_err() {
                    return;
                }
            }
        });
    }
    drop(outcomes);
    let mut total = Total::default();
    for outcome in all {
        print(&outcome);
        total.add(outcome);
    }
    let seconds = begin.elapsed().as_secs_f64();
    finish(&asked, &total, seconds)
}

fn finish(asked: &Asked, total: &Total, seconds: f64) -> ExitCode {
    let same = run(asked.from) == run(asked.from);
    println!("seed {} twice: {}", asked.from, if same { "the same list of requests" } else { "NOT THE SAME" });
    for (event, count) in &total.events {
        println!("{count:8}  {event}");
    }
    let (table, unmet) = matrix::report(&total.rows);
    print!("{table}");
    let seeds = asked.to - asked.from + 1;
    let full = seeds >= matrix::FULL_RUN;
    let thin = full && (!unmet.is_empty() || total.deep == 0);
    if !unmet.is_empty() {
        println!("rows never met: {unmet:?}{}", if full { "" } else { " (not a full run)" });
    }
    println!("reshards three levels deep or more in {} seeds, the deepest {}", total.deep, total.deepest);
    let Total { records, found, excused, expired, .. } = total;
    println!(
        "{records} records, found {found} times; {excused} of them again after a consumer's delete, {expired} expired"
    );
    let (millis, hundredths) = total.slowest;
    println!("slowest shard read again after {millis} ms; at most {}% of a failover time", hundredths);
    println!("{:.2} seeds a second", seeds as f64 / seconds);
    let reported = seeds - total.passed - total.failed.len() as u64;
    println!("{} passed, {} failed {:?}", total.passed, total.failed.len(), total.failed);
    if reported > 0 {
        println!("{reported} seeds panicked outside of their workers");
    }
    ExitCode::from(u8::from(!total.failed.is_empty() || !same || thin || reported > 0))
}

fn print(outcome: &Outcome) {
    let Outcome { seed, produced, found, requests, seconds, trace, depth, .. } = outcome;
    println!(
        "seed {seed}: {produced} produced, {found} found, {requests} requests, {seconds} virtual s, depth {depth}, trace {trace:016x}"
    );
    for wrong in &outcome.wrong {
        println!("seed {seed}: WRONG: {wrong}");
    }
}
