//! What verbs that change something ask first: `--yes`, or a yes on the terminal; `--dry-run` shows what would be done.

use anyhow::Result;

use crate::args::leases::Consent;
use crate::exit::Usage;
use crate::terminal;

/// What was decided about a plan that was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consented {
    Go,
    /// `--dry-run`, or no.
    Stop,
}

/// Whether it may be done. Without a terminal there must be `--yes`.
pub fn consent(consent: &Consent, question: &str) -> Result<Consented> {
    if consent.dry_run {
        return Ok(Consented::Stop);
    }
    if consent.yes {
        return Ok(Consented::Go);
    }
    match terminal::ask(question) {
        Some(true) => Ok(Consented::Go),
        Some(false) => {
            terminal::err("nothing was changed\n");
            Ok(Consented::Stop)
        }
        None => {
            Err(Usage("nothing was changed: there is no terminal to ask on; add --yes, or --dry-run".into()).into())
        }
    }
}

/// How a report says what became of it.
pub fn outcome(dry_run: bool, done: bool) -> &'static str {
    match (dry_run, done) {
        (true, _) => "dry_run",
        (false, true) => "done",
        (false, false) => "nothing",
    }
}
