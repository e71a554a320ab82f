//! `standpipe`: the program. One file a verb under `commands/`; `exit.rs` says how each may end.
//!
//! stdout is data, stderr is for people. Features live here and nowhere else.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod environment;
mod exit;
mod lines;
mod logs;
mod terminal;

use std::process::ExitCode;

fn main() -> ExitCode {
    let program = args::read();
    commands::dispatch(program.verb).unwrap_or_else(|error| exit::failed(&error)).into()
}
