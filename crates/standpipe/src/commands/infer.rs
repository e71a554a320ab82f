//! `standpipe infer`: the column list of a file of JSON lines, for `schema: { columns: ... }`.

use anyhow::{Result, bail};
use serde::Serialize;
use standpipe_convert::{Inference, infer};

use crate::args::{self, Output};
use crate::exit::Exit;
use crate::lines::Lines;
use crate::terminal;

#[derive(Serialize)]
struct Report {
    columns: String,
    lines: u64,
    rejected: u64,
}

pub fn run(args: args::Infer) -> Result<Exit> {
    let mut file = Lines::open(&args.file)?;
    let mut lines = Vec::new();
    while args.rows == 0 || (lines.len() as u64) < args.rows {
        let Some(line) = file.next()? else { break };
        if !line.trim_ascii().is_empty() {
            lines.push(line);
        }
    }
    let Inference { columns, lines, rejected } = infer(lines.iter().map(Vec::as_slice));
    let Some(columns) = columns else {
        let lines = terminal::counted(lines, "line");
        bail!("{}: no column in {lines}: expected a JSON object with fields on each", args.file.display());
    };
    let columns = columns.to_string();
    match args.report.output {
        Output::Json => super::json(&Report { columns, lines, rejected })?,
        Output::Human => {
            terminal::out(&format!("{columns}\n"))?;
            let refused = if rejected == 0 { String::new() } else { format!(", {rejected} of them no JSON object") };
            terminal::err(&format!("from {}{refused}\n", terminal::counted(lines, "line")));
        }
    }
    Ok(Exit::Ok)
}
