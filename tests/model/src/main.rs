//! `standpipe-model [quick|full|walk N|mutant [S1 ...]] [--seconds S]`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    standpipe_model::run(&arguments)
}
