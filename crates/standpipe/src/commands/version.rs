//! `standpipe version`: which program this is, and whether the emulator is in it.

use anyhow::Result;
use serde::Serialize;

use crate::args::Output;
use crate::exit::Exit;
use crate::terminal;

pub const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Serialize)]
struct Version {
    version: &'static str,
    emulator: bool,
}

pub fn run(output: Output) -> Result<Exit> {
    let version = Version { version: VERSION, emulator: cfg!(feature = "emulator") };
    match output {
        Output::Json => super::json(&version)?,
        Output::Human => {
            let without = if version.emulator { "" } else { " (without the emulator)" };
            terminal::out(&format!("standpipe {VERSION}{without}\n"))?;
        }
    }
    Ok(Exit::Ok)
}
