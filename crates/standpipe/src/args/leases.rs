//! `standpipe leases` on the command line.

use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Args, Subcommand};
use standpipe_config::units::{self, StartPosition};
use standpipe_flow::{CommitId, DestinationId, LeaseKey, Position};

use super::{Config, Report, examples, parse};

/// What is done with the leases.
#[derive(Debug, Subcommand)]
pub enum Leases {
    /// Show every lease: who holds it, how far each destination has come, what is pending
    #[command(before_help = examples::LEASES_LIST)]
    List(List),
    /// Let a lease go: its owner delivers what it has read, then another worker goes on
    #[command(before_help = examples::LEASES_RELEASE)]
    Release(Release),
    /// Deliver again from an earlier place in the stream, or skip to a later one
    #[command(before_help = examples::LEASES_RESET)]
    Reset(Reset),
    /// End a quarantine: say what became of a commit that no worker may finish by itself
    #[command(before_help = examples::LEASES_SETTLE)]
    Settle(Settle),
    /// Show the columns that were inferred and frozen for a destination, and forget them
    #[command(before_help = examples::LEASES_THAW)]
    Thaw(Thaw),
}

/// Whose leases.
#[derive(Debug, Args)]
pub struct Of {
    /// The config.
    #[command(flatten)]
    pub config: Config,
    /// Whose leases [default: those of the only pipeline]
    #[arg(long, value_name = "NAME", env = "STANDPIPE_PIPELINE")]
    pub pipeline: Option<String>,
    /// How to report.
    #[command(flatten)]
    pub report: Report,
}

/// Whether something may be changed.
#[derive(Debug, Args)]
pub struct Consent {
    /// Say what would be done, and do nothing [default: ask, then do it]
    #[arg(long, env = "STANDPIPE_DRY_RUN", value_parser = FalseyValueParser::new())]
    pub dry_run: bool,
    /// Do not ask; needed where there is no terminal [default: ask]
    #[arg(long, env = "STANDPIPE_YES", value_parser = FalseyValueParser::new())]
    pub yes: bool,
}

/// `standpipe leases list`.
#[derive(Debug, Args)]
pub struct List {
    /// Whose.
    #[command(flatten)]
    pub of: Of,
    /// Look once, without waiting to see which owners are alive [default: watch for half of lease.failover]
    #[arg(long, env = "STANDPIPE_ONCE", value_parser = FalseyValueParser::new())]
    pub once: bool,
}

/// `standpipe leases release`.
#[derive(Debug, Args)]
pub struct Release {
    /// Whose.
    #[command(flatten)]
    pub of: Of,
    /// The lease; may be given more than once
    #[arg(long = "lease", value_name = "SHARD", env = "STANDPIPE_LEASE", value_delimiter = ',', required = true, value_parser = lease)]
    pub leases: Vec<LeaseKey>,
    /// Take the lease from an owner that is alive, too; it drops what it has read, which is read again [default: ask it]
    #[arg(long, env = "STANDPIPE_FORCE", value_parser = FalseyValueParser::new())]
    pub force: bool,
    /// How long to wait for the owner to deliver what it has read
    #[arg(long, value_name = "TIME", env = "STANDPIPE_WAIT", default_value = "60s", value_parser = parse::duration)]
    pub wait: Duration,
    /// Whether.
    #[command(flatten)]
    pub consent: Consent,
}

/// `standpipe leases reset`.
#[derive(Debug, Args)]
pub struct Reset {
    /// Whose.
    #[command(flatten)]
    pub of: Of,
    /// Where to: trim_horizon, latest, a time such as 2026-01-31T12:00:00Z, -6h, or a sequence number (the record after it; with .N after user record N, from 0, of a KPL aggregate)
    #[arg(long, value_name = "PLACE", env = "STANDPIPE_TO", required = true, allow_hyphen_values = true, value_parser = place)]
    pub to: Place,
    /// The lease; may be given more than once [default: every lease, with --all]
    #[arg(long = "lease", value_name = "SHARD", env = "STANDPIPE_LEASE", value_delimiter = ',', required_unless_present = "all", value_parser = lease)]
    pub leases: Vec<LeaseKey>,
    /// Every lease [default: those named by --lease]
    #[arg(long, env = "STANDPIPE_ALL", conflicts_with = "leases", value_parser = FalseyValueParser::new())]
    pub all: bool,
    /// This destination alone [default: all]
    #[arg(long, value_name = "ID", env = "STANDPIPE_DESTINATION", value_parser = destination)]
    pub destination: Option<DestinationId>,
    /// Although workers hold the leases: they lose them, and what they have read [default: refuse, but for --dry-run]
    #[arg(long, env = "STANDPIPE_FORCE", value_parser = FalseyValueParser::new())]
    pub force: bool,
    /// Whether.
    #[command(flatten)]
    pub consent: Consent,
}

/// `standpipe leases settle`.
#[derive(Debug, Args)]
#[group(id = "choice", required = true, multiple = false, args = ["publish", "replay", "forget"])]
pub struct Settle {
    /// Whose.
    #[command(flatten)]
    pub of: Of,
    /// The lease
    #[arg(long, value_name = "SHARD", env = "STANDPIPE_LEASE", required = true, value_parser = lease)]
    pub lease: LeaseKey,
    /// The commit that it carries, as `leases list` shows it
    #[arg(long, value_name = "CID", env = "STANDPIPE_CID", required = true, value_parser = cid)]
    pub cid: CommitId,
    /// Make what its receipt names visible, and go on after it [default: none of the three]
    #[arg(long, env = "STANDPIPE_PUBLISH", value_parser = FalseyValueParser::new())]
    pub publish: bool,
    /// Read and deliver its records again; they repeat if they were visible [default: none of the three]
    #[arg(long, env = "STANDPIPE_REPLAY", value_parser = FalseyValueParser::new())]
    pub replay: bool,
    /// Go on after its records; they are lost if they were not visible [default: none of the three]
    #[arg(long, env = "STANDPIPE_FORGET", value_parser = FalseyValueParser::new())]
    pub forget: bool,
    /// Whether.
    #[command(flatten)]
    pub consent: Consent,
}

/// `standpipe leases thaw`.
#[derive(Debug, Args)]
pub struct Thaw {
    /// Whose.
    #[command(flatten)]
    pub of: Of,
    /// The destination
    #[arg(long, value_name = "ID", env = "STANDPIPE_DESTINATION", required = true, value_parser = destination)]
    pub destination: DestinationId,
    /// Whether.
    #[command(flatten)]
    pub consent: Consent,
}

/// A place in a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// One that every shard has.
    Start(StartPosition),
    /// After this record of one shard.
    After(Position),
}

/// `trim_horizon`, `latest`, a time, `-6h`, or a sequence number, with `.7` behind it for a record in an aggregate.
fn place(text: &str) -> Result<Place, String> {
    let (digits, sub) = text.split_once('.').unwrap_or((text, "0"));
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let sub = sub.parse().map_err(|_| "expected a sub-sequence number after the dot".to_owned())?;
        return Position::parse(digits, sub).map(Place::After).map_err(|error| error.to_string());
    }
    units::parse_start(text).map(Place::Start).map_err(|error| format!("{error}: {}", error.hint))
}

fn lease(text: &str) -> Result<LeaseKey, String> {
    if text.trim().is_empty() { Err("expected a shard's id".to_owned()) } else { Ok(LeaseKey::new(text)) }
}

pub(super) fn destination(text: &str) -> Result<DestinationId, String> {
    if text.trim().is_empty() { Err("expected a destination's id".to_owned()) } else { Ok(DestinationId::new(text)) }
}

fn cid(text: &str) -> Result<CommitId, String> {
    CommitId::parse(text).ok_or_else(|| "expected a commit id, 26 letters and digits".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_word_a_time_or_a_record() {
        assert_eq!(place("trim_horizon"), Ok(Place::Start(StartPosition::TrimHorizon)));
        assert_eq!(place("-6h"), Ok(Place::Start(StartPosition::Ago(Duration::from_secs(6 * 3600)))));
        assert_eq!(place("1970-01-01T00:00:01Z"), Ok(Place::Start(StartPosition::At(1000))));
        let digits = "49590338271490256608559692538361571095921575989136588898";
        assert_eq!(place(digits), Ok(Place::After(Position::parse(digits, 0).expect("digits"))));
        assert_eq!(place(&format!("{digits}.7")), Ok(Place::After(Position::parse(digits, 7).expect("digits"))));
        for bad in ["", "007", "5.", "5.x", "end", "2026-01-31"] {
            assert!(place(bad).is_err(), "{bad}");
        }
    }
}
