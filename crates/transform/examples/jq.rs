//! Runs jq programs outside of a pipeline, for the runs beside the `jq` program.
//!
//! `jq PROGRAM` reads records from its input, one a line, and writes the outputs, as `jq -c` does.
//! `jq --cases` reads lines `{"program": ..., "input": ...}` and writes a line for each: `{"outputs": [...]}`,
//! `{"fault": ...}` or `{"refused": ...}`.
//! `jq --hostile FILE` runs each line of a file over one record and tells the time that it took.
#![allow(clippy::disallowed_methods, reason = "it measures real time, and nothing else")]

use std::io::{BufRead, Write};
use std::time::Instant;

use standpipe_transform::Jq;
use standpipe_transform::jq::Limits;

const RECORD: &[u8] = br#"{"a":[1,"x",null]}"#;

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--cases"] => cases(),
        ["--hostile", file] => hostile(file),
        [program] => filter(program),
        _ => Err(std::io::Error::other("one argument: a program, --cases, or --hostile FILE")),
    }
}

fn filter(program: &str) -> std::io::Result<()> {
    let jq = Jq::new(program, Limits::default()).map_err(std::io::Error::other)?;
    let mut input = std::io::stdin().lock();
    let mut output = std::io::BufWriter::new(std::io::stdout().lock());
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line)? > 0 {
        match jq.run(&line) {
            Ok(outputs) => {
                for output_of in outputs {
                    output.write_all(&output_of)?;
                    output.write_all(b"\n")?;
                }
            }
            Err(fault) => eprintln!("{}: {}", fault.code, fault.message),
        }
        line.clear();
    }
    output.flush()
}

fn cases() -> std::io::Result<()> {
    let mut last = (String::new(), Jq::new(".", Limits::default()));
    for line in std::io::stdin().lock().lines() {
        let case: serde_json::Value = serde_json::from_str(&line?)?;
        let text = |field: &str| case[field].as_str().unwrap_or_default().to_owned();
        if last.0 != text("program") {
            last = (text("program"), Jq::new(&text("program"), Limits::default()));
        }
        let result = match &last.1 {
            Err(error) => serde_json::json!({ "refused": error.to_string() }),
            Ok(jq) => match jq.run(text("input").as_bytes()) {
                Ok(outputs) => {
                    let outputs = outputs.iter().map(|output| String::from_utf8_lossy(output).into_owned());
                    serde_json::json!({ "outputs": outputs.collect::<Vec<_>>() })
                }
                Err(fault) => serde_json::json!({ "fault": format!("{}: {}", fault.code, fault.message) }),
            },
        };
        println!("{result}");
    }
    Ok(())
}

fn hostile(file: &str) -> std::io::Result<()> {
    let programs = std::fs::read_to_string(file)?;
    let (mut count, mut slowest) = (0, std::time::Duration::ZERO);
    for program in programs.lines().filter(|line| !line.starts_with('#')) {
        let begin = Instant::now();
        let result = match Jq::new(program, Limits::default()) {
            Err(error) => format!("refused: {error}"),
            Ok(jq) => match jq.run(RECORD) {
                Ok(outputs) => {
                    format!("{} outputs, {} bytes", outputs.len(), outputs.iter().map(|o| o.len()).sum::<usize>())
                }
                Err(fault) => format!("{}: {}", fault.code, fault.message),
            },
        };
        let took = begin.elapsed();
        (count, slowest) = (count + 1, slowest.max(took));
        println!("{:8.1} ms  {program}  =>  {result}", took.as_secs_f64() * 1e3);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM: unknown").to_owned();
    println!("{count} programs, the slowest {:.1} ms, {peak}", slowest.as_secs_f64() * 1e3);
    Ok(())
}
