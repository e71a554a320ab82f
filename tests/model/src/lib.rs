//! The model of the commit protocol: every state that workers, services and a foreign Java worker can reach within
//! bounds, or random walks beyond them.
//!
//! Its workers run the REAL `standpipe_pipeline::protocol::Protocol`, its rows change by the REAL writes of
//! `standpipe_flow::write`. Invented here is only what surrounds them: the services, the network, and everything that
//! may go wrong. Checked in every state: I1 to I8, I11, I16 to I18, no record visible twice, and that from there one
//! healthy worker can finish alone with every record delivered once. A repeat of records is forgiven only where an
//! incident has named their object (protocol 4.7).
//!
//! Not in it: the bytes, sub-sequences, generations, clocks.

mod adversary;
mod carry;
mod check;
mod drain;
mod explore;
mod moves;
mod requests;
mod scenarios;
mod scene;
mod shared;
mod worker;
mod world;

use std::process::ExitCode;
use std::time::Duration;

use explore::{Bounds, Report, breadth, walk};
use scenarios::Size;

/// Steps of a random walk.
const WALK_LENGTH: usize = 200;

/// `[quick|full|walk N|mutant [S1 ...]] [--seconds S]`: prints what was explored, and the shortest trace of a
/// violation. Fails on any.
pub fn run(arguments: &[String]) -> ExitCode {
    quiet_panics();
    let seconds = arguments.iter().position(|a| a == "--seconds").and_then(|n| arguments.get(n + 1));
    let seconds: Option<u64> = seconds.and_then(|text| text.parse().ok());
    let time = Duration::from_secs(seconds.unwrap_or(u64::MAX / 2));
    let named: Vec<&str> = arguments.iter().map(String::as_str).filter(|a| a.starts_with(['S', 'W'])).collect();
    let wanted = |name: &str| named.is_empty() || named.contains(&name);
    let sound = match arguments.first().map_or("quick", String::as_str) {
        "quick" => explore_all(Size::Quick, time, &wanted),
        "mutant" => explore_all(Size::Quick, time, &wanted),
        "full" => explore_all(Size::Full, time, &wanted),
        "small" => explore_all(Size::Small, time, &wanted),
        "walk" => walk_all(arguments.get(1).and_then(|n| n.parse().ok()).unwrap_or(1000), time, &wanted),
        other => {
            println!("{other:?}: expected quick, full, walk N or mutant");
            false
        }
    };
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A panic of the core is a violation, and is printed as one; any other is the model's own.
fn quiet_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !worker::in_core() {
            print(panic);
        }
    }));
}

fn explore_all(size: Size, time: Duration, wanted: &dyn Fn(&str) -> bool) -> bool {
    let mut total = (0, 0, 0.0);
    for scenario in scenarios::all(size).into_iter().filter(|scenario| wanted(scenario.name)) {
        let (name, what) = (scenario.name, scenario.what);
        let report = breadth(scenario, Bounds { states: 40_000_000, time });
        let extent = if report.whole { "whole" } else { "in part" };
        if !print(name, what, extent, &report) {
            return false;
        }
        total = (total.0 + report.states, total.1 + report.transitions, total.2 + report.took.as_secs_f64());
    }
    println!("met: {}", met().join(", "));
    println!("all: {} states, {} transitions, {:.1} s: no violation", total.0, total.1, total.2);
    true
}

/// The recoveries that were met on the way.
fn met() -> Vec<&'static str> {
    worker::KINDS.iter().enumerate().filter(|(n, _)| worker::reached() & 1 << n != 0).map(|(_, kind)| *kind).collect()
}

fn walk_all(walks: u64, time: Duration, wanted: &dyn Fn(&str) -> bool) -> bool {
    for scenario in scenarios::walks().into_iter().filter(|scenario| wanted(scenario.name)) {
        let (name, what) = (scenario.name, scenario.what);
        let (report, walked) = walk(scenario, walks, WALK_LENGTH, time);
        if !print(name, what, &format!("{walked} walks"), &report) {
            return false;
        }
    }
    true
}

/// One line a scenario, and the trace if there is one.
fn print(name: &str, what: &str, extent: &str, report: &Report) -> bool {
    let seconds = report.took.as_secs_f64();
    let rate = report.states as f64 / seconds.max(0.001);
    println!(
        "{name:<4} {:>9} states {:>10} transitions {seconds:>7.1} s {rate:>8.0} states/s  {extent}: {what}",
        report.states, report.transitions
    );
    let Some(violation) = &report.violation else { return true };
    let steps = violation.steps.iter().chain(&violation.drain);
    println!("VIOLATION {name} after {} steps: {}", steps.clone().count(), violation.what);
    for (n, step) in steps.enumerate() {
        println!("  {:>3}. {step}", n + 1);
    }
    false
}

#[cfg(test)]
mod tests;
