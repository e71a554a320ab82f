//! `standpipe infer`: the column list of a file of JSON lines, for `schema: { columns: ... }`.
//!
//! Never: holds more than one line of the file.

use anyhow::{Result, bail};
use serde::Serialize;
use standpipe_convert::{Inference, Inferring, Widening};

use crate::args::{self, Output};
use crate::exit::Exit;
use crate::lines::Lines;
use crate::terminal;

/// Notes that are shown; a file that needs more is looked at anyway.
const NOTES_MAX: usize = 10;

#[derive(Serialize)]
struct Report {
    columns: String,
    lines: u64,
    rejected: u64,
    widened: Vec<Widened>,
}

/// A line that made a column's type another.
#[derive(Serialize)]
struct Widened {
    line: u64,
    column: String,
    from: &'static str,
    to: &'static str,
}

pub fn run(args: args::Infer) -> Result<Exit> {
    let mut file = Lines::open(&args.file)?;
    let mut inferring = Inferring::default();
    while args.rows == 0 || inferring.lines() < args.rows {
        let Some(line) = file.next()? else { break };
        if !line.trim_ascii().is_empty() {
            inferring.line(file.number(), &line);
        }
    }
    let Inference { columns, lines, rejected, widened } = inferring.finish();
    let Some(columns) = columns else {
        let lines = terminal::counted(lines, "line");
        bail!("{}: no column in {lines}: expected a JSON object with fields on each", args.file.display());
    };
    let columns = columns.to_string();
    match args.report.output {
        Output::Json => {
            let widened =
                widened.into_iter().map(|Widening { line, column, from, to }| Widened { line, column, from, to });
            super::json(&Report { columns, lines, rejected, widened: widened.collect() })?;
        }
        Output::Human => {
            let shown = terminal::visible(&columns);
            terminal::out(&format!("{shown}\n"))?;
            if shown != columns {
                terminal::err(
                    "note: names hold control characters, shown as \u{fffd}; --output json has them as they are\n",
                );
            }
            let refused = if rejected == 0 { String::new() } else { format!(", {rejected} of them no JSON object") };
            terminal::err(&format!("from {}{refused}\n{}", terminal::counted(lines, "line"), notes(&widened)));
        }
    }
    Ok(Exit::Ok)
}

/// Which line made a column what it is: one odd line in a million may be a mistake.
fn notes(widened: &[Widening]) -> String {
    let note = |w: &Widening| {
        let column = terminal::visible(&w.column);
        format!("note: line {} made `{column}` {}; until then it was {}\n", w.line, w.to, w.from)
    };
    let mut text: String = widened.iter().take(NOTES_MAX).map(note).collect();
    if widened.len() > NOTES_MAX {
        text.push_str("note: further lines did so too; --output json names more\n");
    }
    text
}
