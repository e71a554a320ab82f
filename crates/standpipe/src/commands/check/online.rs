//! `standpipe check --online`: what the services say, a line a question, for people or as objects.
//!
//! The exit code is that of the worst line: 3 where something must change, 4 where a right is missing, 1 where nobody
//! answered.

use anyhow::Result;
use serde::Serialize;
use standpipe_config::Config;
use standpipe_flow::{Found, Look};
use standpipe_worker::{Asked, Platform};

use crate::exit::Exit;
use crate::{environment, terminal};

/// One question, and what was found.
#[derive(Serialize)]
pub(super) struct Line {
    pipeline: String,
    destination: Option<String>,
    what: String,
    /// `ok`, `note`, `wrong`, `denied`, `silent`.
    found: &'static str,
    says: String,
    hint: Option<String>,
}

/// Asks, and shows each pipeline as soon as it is known.
pub(super) fn human(config: &Config, create: bool) -> Result<Exit> {
    let mut found = Vec::new();
    let columns = terminal::stdout_columns();
    if terminal::stderr_is_terminal() {
        terminal::err("asking the services, for a minute at most ...\n");
    }
    let mut shown = Ok(());
    ask(config, create, &mut |asked| {
        let mut text = String::new();
        for one in &asked {
            if found.is_empty() || one.pipeline != *last(&found) {
                text.push_str(&format!("\n{}\n", one.pipeline));
            }
            text.push_str(&line(one));
            found.push((one.pipeline.clone(), one.look.found));
        }
        if shown.is_ok() {
            shown = terminal::out(&terminal::wrapped(&text, columns, 8));
        }
    })?;
    shown?;
    let found: Vec<Found> = found.into_iter().map(|(_, found)| found).collect();
    terminal::out(&format!("\n{}\n", sum(&found)))?;
    Ok(exit(&found))
}

fn last(found: &[(String, Found)]) -> &String {
    &found.last().expect("looked at only where there is one").0
}

/// Asks.
pub(super) fn lines(config: &Config, create: bool) -> Result<(Vec<Line>, Exit)> {
    let mut all = Vec::new();
    ask(config, create, &mut |asked| all.extend(asked))?;
    let found: Vec<Found> = all.iter().map(|one| one.look.found).collect();
    let line = |Asked { pipeline, destination, look: Look { what, found, says, hint } }| Line {
        pipeline,
        destination,
        what,
        found: word(found),
        says,
        hint,
    };
    Ok((all.into_iter().map(line).collect(), exit(&found)))
}

fn ask(config: &Config, create: bool, tell: &mut dyn FnMut(Vec<Asked>)) -> Result<()> {
    super::super::runtime()?.block_on(async {
        let mut platform = Platform::system(&config.aws).await;
        platform.outside.env = environment::get;
        standpipe_worker::online(config, &platform, create, tell).await
    })?;
    Ok(())
}

fn line(asked: &Asked) -> String {
    let Asked { destination, look, .. } = asked;
    let of = destination.as_ref().map(|id| format!("{id}: ")).unwrap_or_default();
    let mut text = format!("  {:<6}  {of}{}: {}\n", word(look.found), look.what, terminal::visible(&look.says));
    if let Some(hint) = &look.hint {
        text.push_str(&format!(
            "          {} {}\n",
            if look.found <= Found::Note { "know:" } else { "help:" },
            terminal::visible(hint)
        ));
    }
    text
}

fn word(found: Found) -> &'static str {
    match found {
        Found::Fine => "ok",
        Found::Note => "note",
        Found::Silent => "silent",
        Found::Denied => "denied",
        Found::Wrong => "wrong",
    }
}

/// The last line.
fn sum(found: &[Found]) -> String {
    let count = |kind: Found| found.iter().filter(|found| **found == kind).count() as u64;
    let parts: Vec<String> = [
        (count(Found::Wrong), "wrong"),
        (count(Found::Denied), "not permitted"),
        (count(Found::Silent), "not answered"),
        (count(Found::Fine), "ok"),
        (count(Found::Note), "to be known"),
    ]
    .into_iter()
    .filter(|(number, _)| *number > 0)
    .map(|(number, word)| format!("{} {word}", terminal::grouped(number)))
    .collect();
    format!("{}; rights to write were not tried", parts.join(", "))
}

fn exit(found: &[Found]) -> Exit {
    match found.iter().max() {
        Some(Found::Wrong) => Exit::Config,
        Some(Found::Denied) => Exit::Permission,
        Some(Found::Silent) => Exit::Failed,
        Some(Found::Fine | Found::Note) | None => Exit::Ok,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_line_is_the_exit_code() {
        assert_eq!(exit(&[Found::Fine, Found::Note]), Exit::Ok);
        assert_eq!(exit(&[Found::Silent, Found::Note]), Exit::Failed);
        assert_eq!(exit(&[Found::Denied, Found::Silent]), Exit::Permission);
        assert_eq!(exit(&[Found::Denied, Found::Wrong, Found::Silent]), Exit::Config);
        assert_eq!(sum(&[Found::Fine, Found::Wrong, Found::Fine]), "1 wrong, 2 ok; rights to write were not tried");
    }
}
