//! `standpipe schema`: the JSON Schema of a config, of what is built alone.

use anyhow::Result;

use crate::exit::Exit;
use crate::terminal;

pub fn run() -> Result<Exit> {
    terminal::out(&standpipe_config::schema::schema_text())?;
    Ok(Exit::Ok)
}
