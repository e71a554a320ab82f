//! Fuzzes the parsers that see record bytes: `fuzz --target all --seconds 60 --seed 1`. Prints a line a target; an input
//! that does what it must not is saved to `--out`, and the program exits 1. `--input FILE` tries one input again.
//!
//! A stack that overflows ends the process before it can say anything: `--last FILE` writes every input down before it
//! is tried (slow), and the same seed gives the same inputs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use peak_alloc::PeakAlloc;
use standpipe_tests::fuzz::{DEADLINE, Target, Until, Watch, run, targets};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const USAGE: &str = "usage: fuzz [--target NAME|all] [--seconds N] [--seed S] [--corpus FILE-OF-LINES] [--out FOLDER] \
                     [--input FILE] [--last FILE]";

struct Asked {
    target: String,
    seconds: u64,
    seed: u64,
    corpus: Option<PathBuf>,
    out: PathBuf,
    input: Option<PathBuf>,
    last: Option<PathBuf>,
}

fn asked() -> Option<Asked> {
    let out = std::env::temp_dir().join("standpipe-fuzz");
    let mut asked = Asked { target: "all".into(), seconds: 10, seed: 1, corpus: None, out, input: None, last: None };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next()?;
        match arg.as_str() {
            "--target" => asked.target = value,
            "--seconds" => asked.seconds = value.parse().ok()?,
            "--seed" => asked.seed = value.parse().ok()?,
            "--corpus" => asked.corpus = Some(value.into()),
            "--out" => asked.out = value.into(),
            "--input" => asked.input = Some(value.into()),
            "--last" => asked.last = Some(value.into()),
            _ => return None,
        }
    }
    Some(asked)
}

fn main() -> ExitCode {
    let Some(asked) = asked() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let mut chosen: Vec<Target> = targets();
    let names: Vec<&str> = chosen.iter().map(|target| target.name).collect();
    if asked.target != "all" && !names.contains(&asked.target.as_str()) {
        eprintln!("{USAGE}\ntargets: {}", names.join(", "));
        return ExitCode::from(2);
    }
    chosen.retain(|target| asked.target == "all" || target.name == asked.target);
    match fuzz(chosen, &asked) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Whether nothing was found.
fn fuzz(chosen: Vec<Target>, asked: &Asked) -> std::io::Result<bool> {
    std::fs::create_dir_all(&asked.out)?;
    if let Some(input) = &asked.input {
        let input = Bytes::from(std::fs::read(input)?);
        for target in chosen {
            println!("{}: {:?}", target.name, (target.make)()(&input));
        }
        return Ok(true);
    }
    let lines = match &asked.corpus {
        Some(path) => std::fs::read(path)?.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).take(1_000).collect(),
        None => Vec::new(),
    };
    // A panic is a find, told below with its input.
    std::panic::set_hook(Box::new(|_| {}));
    let watch = Arc::new(Watch::writing(asked.last.clone()));
    watch_for_hangs(watch.clone(), asked.out.clone());
    println!(
        "{:<16} {:>12} {:>9} {:>8} {:>10} {:>8}",
        "target", "executions", "a second", "answers", "slowest ms", "MiB"
    );
    let mut clean = true;
    for mut target in chosen {
        target.seeds.extend(lines.iter().cloned());
        let report = run(&target, asked.seed, Until::Time(Duration::from_secs(asked.seconds)), &watch);
        println!(
            "{:<16} {:>12} {:>9} {:>8} {:>10} {:>8.1}",
            target.name,
            report.executions,
            report.executions / asked.seconds.max(1),
            report.answers,
            report.slowest.as_millis(),
            report.memory as f64 / f64::from(1 << 20),
        );
        for (i, find) in report.finds.iter().enumerate() {
            let path = save(&asked.out, &format!("{}-{}-{i}", target.name, asked.seed), &find.input)?;
            println!("  FOUND: {} ({})", find.what, path.display());
        }
        clean &= report.finds.is_empty();
    }
    Ok(clean)
}

fn save(out: &Path, name: &str, input: &[u8]) -> std::io::Result<PathBuf> {
    let path = out.join(name);
    std::fs::write(&path, input)?;
    Ok(path)
}

/// Ends the program if an input does not end.
#[allow(clippy::disallowed_methods)] // a thread of the program that runs the targets
fn watch_for_hangs(watch: Arc<Watch>, out: PathBuf) {
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_millis(500));
            if let Some(input) = watch.overdue(10 * DEADLINE) {
                let path = save(&out, "hang", &input);
                eprintln!("  FOUND: it does not end ({path:?})");
                std::process::exit(1);
            }
        }
    });
}
