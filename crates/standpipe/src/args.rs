//! What may stand on the command line: verbs, flags, their environment twins and defaults.
//!
//! Every flag has a twin `STANDPIPE_...` in the environment, and every help begins with examples.
//! Never here: what a flag means; that is in the verb's own file.

use std::ffi::OsStr;
#[cfg(feature = "emulator")]
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::{FalseyValueParser, Resettable};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use standpipe_flow::DestinationId;

use crate::environment;

/// Delivers Kinesis data streams to S3, every record once.
#[derive(Debug, Parser)]
#[command(name = "standpipe", version, disable_help_subcommand = true, before_help = examples::PROGRAM)]
pub struct Program {
    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run a worker: read the shards it holds and deliver their records
    #[command(before_help = examples::RUN)]
    Run(Run),
    /// See it work: a stream, three workers, one killed, one shard split; no AWS, no network, no config
    #[cfg(feature = "emulator")]
    #[command(before_help = examples::DEMO)]
    Demo(Demo),
    /// Serve Kinesis, DynamoDB, S3 and Lambda endpoints on this machine, for tests
    #[cfg(feature = "emulator")]
    #[command(before_help = examples::EMULATOR)]
    Emulator(Emulator),
    /// Put the lines of files into a stream
    #[command(before_help = examples::PUT)]
    Put(Put),
    /// Look at the lease table, and mend it
    #[command(before_help = examples::LEASES, subcommand)]
    Leases(leases::Leases),
    /// Load into Redshift what was given up, each load once
    #[command(before_help = examples::REDRIVE)]
    Redrive(Redrive),
    /// Print what a config uses of DynamoDB, and what that costs a month
    #[command(before_help = examples::PLAN)]
    Plan(Plan),
    /// Print the column list of a file of JSON lines
    #[command(before_help = examples::INFER)]
    Infer(Infer),
    /// Check a config by itself, or, with --online, beside the services that it names
    #[command(before_help = examples::CHECK)]
    Check(Check),
    /// Deliver a local file with a config, on this machine alone, and show what becomes of it
    #[cfg(feature = "emulator")]
    #[command(before_help = examples::TRY)]
    Try(Try),
    /// Compare what a config makes of records with what it made of them before
    #[cfg(feature = "emulator")]
    #[command(before_help = examples::TEST)]
    Test(Test),
    /// Measure what each stage costs on this machine, on records of yours or made up
    #[command(before_help = examples::BENCH)]
    Bench(Bench),
    /// Print the JSON Schema of a config
    #[command(before_help = examples::SCHEMA)]
    Schema,
    /// Print the version
    #[command(before_help = examples::VERSION)]
    Version(Report),
    /// Ask a worker on this machine whether it is alive
    #[command(before_help = examples::HEALTHCHECK)]
    Healthcheck(Healthcheck),
}

/// How a verb reports.
#[derive(Debug, Args)]
pub struct Report {
    /// How to report
    #[arg(long, value_name = "FORM", env = "STANDPIPE_OUTPUT", default_value = "human")]
    pub output: Output,
}

/// The form of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    // Text for people.
    Human,
    // One JSON object.
    Json,
}

/// Where the config is.
#[derive(Debug, Args)]
pub struct Config {
    /// The config, a file or a folder of *.yaml; may be given more than once
    #[arg(short = 'c', long = "config", value_name = "FILE", env = "STANDPIPE_CONFIG", required = true)]
    pub files: Vec<PathBuf>,
}

/// `standpipe run`.
#[derive(Debug, Args)]
pub struct Run {
    /// The config.
    #[command(flatten)]
    pub config: Config,
    /// Run this pipeline alone; may be given more than once [default: all]
    #[arg(long = "pipeline", value_name = "NAME", env = "STANDPIPE_PIPELINE", value_delimiter = ',')]
    pub pipelines: Vec<String>,
    /// When to end: `caught-up` is when all that was in the stream at the start is delivered [default: at SIGTERM or Ctrl-C]
    #[arg(long, value_name = "WHEN", env = "STANDPIPE_UNTIL")]
    pub until: Option<Until>,
    /// Go on although a destination points elsewhere than the lease table says [default: refuse]
    #[arg(long, env = "STANDPIPE_ADOPT_DESTINATIONS", value_parser = FalseyValueParser::new())]
    pub adopt_destinations: bool,
}

/// When a worker ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Until {
    // When everything that was in the stream at the start is delivered.
    CaughtUp,
}

/// `standpipe demo`.
#[cfg(feature = "emulator")]
#[derive(Debug, Args)]
pub struct Demo {
    /// How long records are produced
    #[arg(long, value_name = "TIME", env = "STANDPIPE_DEMO_DURATION", default_value = "20s", value_parser = parse::duration)]
    pub duration: std::time::Duration,
    /// Records a second
    #[arg(long, value_name = "RECORDS", env = "STANDPIPE_DEMO_RATE", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    pub rate: u32,
    /// How many workers share the stream
    #[arg(long, value_name = "COUNT", env = "STANDPIPE_DEMO_WORKERS", default_value_t = 3, value_parser = clap::value_parser!(u16).range(2..=16))]
    pub workers: u16,
    /// Where everything is written; emptied first if an earlier demo made it
    #[arg(long, value_name = "DIR", env = "STANDPIPE_DEMO_DIR", default_value = "standpipe-demo")]
    pub dir: PathBuf,
    /// Where records are delivered to
    #[arg(long, value_name = "KIND", env = "STANDPIPE_DEMO_DESTINATION", default_value = "s3")]
    pub destination: DemoDestination,
    /// Stay up afterwards, with the endpoints and /metrics, until Ctrl-C [default: end]
    #[arg(long, env = "STANDPIPE_DEMO_KEEP", value_parser = FalseyValueParser::new())]
    pub keep: bool,
    /// How to report.
    #[command(flatten)]
    pub report: Report,
}

/// Where the demo delivers to.
#[cfg(feature = "emulator")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DemoDestination {
    // Parquet in an S3 bucket, which is a folder of the demo's directory.
    S3,
    // A table behind a Redshift Data API endpoint of this machine.
    Redshift,
    // An index of an OpenSearch or Elasticsearch of this machine.
    Opensearch,
}

/// `standpipe emulator`.
#[cfg(feature = "emulator")]
#[derive(Debug, Args)]
pub struct Emulator {
    /// Address and port; it takes any credentials, so keep it on this machine
    #[arg(long, value_name = "ADDRESS", env = "STANDPIPE_EMULATOR_LISTEN", default_value = "127.0.0.1:4600")]
    pub listen: SocketAddr,
    /// Make a stream of so many shards; may be given more than once [default: none]
    #[arg(long = "stream", value_name = "NAME:SHARDS", env = "STANDPIPE_EMULATOR_STREAM", value_delimiter = ',', value_parser = parse::stream)]
    pub streams: Vec<parse::NewStream>,
    /// Make a bucket; may be given more than once [default: none]
    #[arg(long = "bucket", value_name = "NAME", env = "STANDPIPE_EMULATOR_BUCKET", value_delimiter = ',')]
    pub buckets: Vec<String>,
    /// Make a Lambda function whose events are POSTed to an address; may be given more than once [default: none]
    #[arg(long = "function", value_name = "NAME=URL", env = "STANDPIPE_EMULATOR_FUNCTION", value_delimiter = ',', value_parser = parse::function)]
    pub functions: Vec<parse::NewFunction>,
    /// Keep everything here, objects as plain files under DIR/s3/BUCKET/KEY [default: in memory]
    #[arg(long, value_name = "DIR", env = "STANDPIPE_EMULATOR_DATA")]
    pub data: Option<PathBuf>,
    /// Take more than the 1 MiB and 1,000 records a second that a shard allows [default: refuse, as Kinesis does]
    #[arg(long, env = "STANDPIPE_EMULATOR_NO_LIMITS", value_parser = FalseyValueParser::new())]
    pub no_limits: bool,
    /// How to report.
    #[command(flatten)]
    pub report: Report,
}

/// `standpipe put`.
#[derive(Debug, Args)]
pub struct Put {
    /// The stream, by name or ARN
    #[arg(value_name = "STREAM")]
    pub stream: String,
    /// The files, one record a line; gzip and zstd are unpacked; `-` is stdin
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Records or bytes a second, such as 500 or 20MB [default: as fast as the stream takes them]
    #[arg(long, value_name = "RATE", env = "STANDPIPE_PUT_RATE", value_parser = parse::rate)]
    pub rate: Option<parse::Rate>,
    /// The partition key: `random`, or the path of a field of the record, such as .user.id
    #[arg(long, value_name = "KEY", env = "STANDPIPE_PUT_PARTITION_KEY", default_value = "random", value_parser = parse::partition_key)]
    pub partition_key: parse::PartitionKey,
    /// Pack many lines into one record, as the Kinesis Producer Library does (50 KiB, each for one of the shards that are there at the start; after a reshard some lie outside their shard, and a reader with `out_of_range: drop` leaves those out) [default: one record a line]
    #[arg(long, env = "STANDPIPE_PUT_AGGREGATE", value_parser = FalseyValueParser::new())]
    pub aggregate: bool,
    /// The stream's region [default: that of the ARN, else what the AWS SDK finds]
    #[arg(long, value_name = "REGION", env = "STANDPIPE_PUT_REGION")]
    pub region: Option<String>,
    /// How to report.
    #[command(flatten)]
    pub report: Report,
}

/// `standpipe plan`.
#[derive(Debug, Args)]
pub struct Plan {
    /// The config.
    #[command(flatten)]
    pub config: Config,
    /// How many open shards the stream has
    #[arg(long, value_name = "COUNT", env = "STANDPIPE_PLAN_SHARDS", default_value_t = 16)]
    pub shards: u32,
    /// How many workers share them
    #[arg(long, value_name = "COUNT", env = "STANDPIPE_PLAN_WORKERS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    pub workers: u32,
    /// How to report.
    #[command(flatten)]
    pub report: Report,
}

/// `standpipe infer`.
#[derive(Debug, Args)]
pub struct Infer {
    /// The file, one JSON object a line; gzip and zstd are unpacked; `-` is stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Look at so many lines; 0 is all of them
    #[arg(long, value_name = "LINES", env = "STANDPIPE_INFER_ROWS", default_value_t = 10_000)]
    pub rows: u64,
    /// How to report.
    #[command(flatten)]
    pub report: Report,
}

/// `standpipe check`.
#[derive(Debug, Args)]
pub struct Check {
    /// The config.
    #[command(flatten)]
    pub config: Config,
    /// Also ask the services, as the present identity and without writing anything, whether all is there [default: ask nobody]
    #[arg(long, env = "STANDPIPE_CHECK_ONLINE", value_parser = FalseyValueParser::new())]
    pub online: bool,
    /// With --online: make the ledgers of Redshift destinations that are not there yet, and nothing else [default: make nothing]
    #[arg(long, env = "STANDPIPE_CHECK_CREATE", value_parser = FalseyValueParser::new())]
    pub create: bool,
    /// How to report.
    #[command(flatten)]
    pub report: Report,
}

/// `standpipe try`.
#[cfg(feature = "emulator")]
#[derive(Debug, Args)]
pub struct Try {
    /// The config.
    #[command(flatten)]
    pub config: Config,
    /// The file, one record a line; gzip and zstd are unpacked; `-` is stdin; may be given more than once
    #[arg(short = 'i', long = "input", value_name = "FILE", env = "STANDPIPE_TRY_INPUT", required = true)]
    pub inputs: Vec<PathBuf>,
    /// Each file is one record [default: each line]
    #[arg(long, env = "STANDPIPE_TRY_WHOLE", value_parser = FalseyValueParser::new())]
    pub whole: bool,
    /// The pipeline [default: the only one]
    #[arg(long, value_name = "NAME", env = "STANDPIPE_TRY_PIPELINE")]
    pub pipeline: Option<String>,
    /// When the records arrive, which shows in the keys [default: now]
    #[arg(long, value_name = "TIME", env = "STANDPIPE_TRY_AT", value_parser = parse::instant)]
    pub at: Option<standpipe_flow::Millis>,
    /// Where a Lambda function of the pipeline answers: it gets each event as a POST; may be given more than once [default: nowhere]
    #[arg(long = "function", value_name = "NAME=URL", env = "STANDPIPE_TRY_FUNCTION", value_delimiter = ',', value_parser = parse::function)]
    pub functions: Vec<parse::NewFunction>,
    /// Write the objects under this folder, each at BUCKET/KEY [default: nowhere]
    #[arg(long, value_name = "DIR", env = "STANDPIPE_TRY_OUT")]
    pub out: Option<PathBuf>,
    /// How to report.
    #[command(flatten)]
    pub report: Report,
}

/// `standpipe test`.
#[cfg(feature = "emulator")]
#[derive(Debug, Args)]
pub struct Test {
    /// The config.
    #[command(flatten)]
    pub config: Config,
    /// The cases: folders, each with a file whose name begins with `input`, and a folder `expected`
    #[arg(value_name = "CASE", required = true)]
    pub cases: Vec<PathBuf>,
    /// Write down what came as what is expected [default: compare]
    #[arg(long, env = "STANDPIPE_TEST_UPDATE", value_parser = FalseyValueParser::new())]
    pub update: bool,
    /// Each file is one record [default: each line]
    #[arg(long, env = "STANDPIPE_TEST_WHOLE", value_parser = FalseyValueParser::new())]
    pub whole: bool,
    /// The pipeline [default: the only one]
    #[arg(long, value_name = "NAME", env = "STANDPIPE_TEST_PIPELINE")]
    pub pipeline: Option<String>,
    /// Where a Lambda function of the pipeline answers: it gets each event as a POST; may be given more than once [default: nowhere]
    #[arg(long = "function", value_name = "NAME=URL", env = "STANDPIPE_TEST_FUNCTION", value_delimiter = ',', value_parser = parse::function)]
    pub functions: Vec<parse::NewFunction>,
    /// When the records arrive, which shows in the keys [default: 2026-01-31T12:00:00Z]
    #[arg(long, value_name = "TIME", env = "STANDPIPE_TEST_AT", value_parser = parse::instant)]
    pub at: Option<standpipe_flow::Millis>,
    /// How to report.
    #[command(flatten)]
    pub report: Report,
}

/// `standpipe redrive`.
#[derive(Debug, Args)]
pub struct Redrive {
    /// Whose, and how to report.
    #[command(flatten)]
    pub of: leases::Of,
    /// The destination [default: the only Redshift destination]
    #[arg(long, value_name = "ID", env = "STANDPIPE_DESTINATION", value_parser = leases::destination)]
    pub destination: Option<DestinationId>,
    /// Leave manifests where they are once they are loaded [default: delete them]
    #[arg(long, env = "STANDPIPE_REDRIVE_KEEP", value_parser = FalseyValueParser::new())]
    pub keep: bool,
    /// Whether something may be changed.
    #[command(flatten)]
    pub consent: leases::Consent,
}

/// `standpipe bench`.
#[derive(Debug, Args)]
pub struct Bench {
    /// The records, one a line, of which the first 64 MiB are taken; gzip and zstd are unpacked; `-` is stdin [default: records that are made up]
    #[arg(short = 'i', long, value_name = "FILE", env = "STANDPIPE_BENCH_INPUT")]
    pub input: Option<PathBuf>,
    /// Measure the stages of a pipeline of this config, a file or a folder of *.yaml; may be given more than once [default: one of each stage]
    #[arg(short = 'c', long, value_name = "FILE", env = "STANDPIPE_BENCH_CONFIG")]
    pub config: Vec<PathBuf>,
    /// The pipeline of the config [default: the only one]
    #[arg(long, value_name = "NAME", env = "STANDPIPE_BENCH_PIPELINE")]
    pub pipeline: Option<String>,
    /// Measure the stages whose names begin like this; may be given more than once [default: all]
    #[arg(long = "stage", value_name = "NAME", env = "STANDPIPE_BENCH_STAGE", value_delimiter = ',')]
    pub stages: Vec<String>,
    /// CPU seconds for each stage
    #[arg(long, value_name = "SECONDS", env = "STANDPIPE_BENCH_SECONDS", default_value = "0.5", value_parser = parse::seconds)]
    pub seconds: f64,
    /// How to report.
    #[command(flatten)]
    pub report: Report,
}

/// `standpipe healthcheck`.
#[derive(Debug, Args)]
pub struct Healthcheck {
    /// What to ask
    #[arg(long, value_name = "URL", env = "STANDPIPE_HEALTHCHECK_URL", default_value = "http://127.0.0.1:9464/livez")]
    pub url: String,
    /// How long to wait for the answer
    #[arg(long, value_name = "TIME", env = "STANDPIPE_HEALTHCHECK_TIMEOUT", default_value = "3s", value_parser = parse::duration)]
    pub timeout: std::time::Duration,
}

/// The program's command line as clap has it. Help shows the names of environment twins and never their values.
pub fn command() -> clap::Command {
    fn hide(command: clap::Command) -> clap::Command {
        command.mut_args(|arg| arg.hide_env_values(true))
    }
    let flags = |verb: clap::Command| hide(verb).next_line_help(true);
    hide(Program::command())
        .mut_subcommands(|verb| if verb.has_subcommands() { hide(verb).mut_subcommands(flags) } else { flags(verb) })
}

/// A twin that is set to nothing counts as not set, as files of variables and charts often have it.
fn without_empty_twins(command: clap::Command) -> clap::Command {
    let is_empty = |name: &OsStr| name.to_str().and_then(environment::get).is_some_and(|value| value.is_empty());
    let command =
        command.mut_args(|arg| if arg.get_env().is_some_and(is_empty) { arg.env(Resettable::Reset) } else { arg });
    command.mut_subcommands(without_empty_twins)
}

/// Reads the command line; prints help, or what is wrong with it (exit 2), and ends the process.
pub fn read() -> Program {
    let matches = command().mut_subcommands(without_empty_twins).get_matches();
    Program::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

pub mod leases;
pub mod parse;

mod examples;

#[cfg(test)]
mod tests {
    use super::*;

    /// Every argument of every verb, with the verb's name.
    fn arguments() -> Vec<(String, clap::Arg)> {
        let command = command();
        let verbs = command.get_subcommands().flat_map(|verb| std::iter::once(verb).chain(verb.get_subcommands()));
        verbs.flat_map(|verb| verb.get_arguments().map(|arg| (verb.get_name().to_owned(), arg.clone()))).collect()
    }

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn every_flag_has_its_twin_in_the_environment() {
        for (verb, arg) in arguments() {
            if arg.is_positional() || arg.get_id() == "help" {
                continue;
            }
            let twin = arg.get_env().and_then(OsStr::to_str).unwrap_or_default();
            assert!(twin.starts_with("STANDPIPE_"), "{verb} --{:?} has the twin {twin:?}", arg.get_long());
        }
    }

    #[test]
    fn every_flag_tells_its_default() {
        for (verb, arg) in arguments() {
            if arg.is_positional() || arg.is_required_set() || arg.get_id() == "help" {
                continue;
            }
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let told = !arg.get_default_values().is_empty() && arg.get_num_args().is_none_or(|n| n.takes_values());
            assert!(told || help.contains("[default: "), "{verb} {} tells no default", arg.get_id());
        }
    }

    #[test]
    fn every_help_begins_with_examples() {
        let mut command = command();
        let names: Vec<String> = command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
        assert!(command.render_help().to_string().starts_with("Examples:\n"));
        for name in names {
            let verb = command.find_subcommand_mut(&name).expect("it was just listed");
            assert!(verb.render_help().to_string().starts_with("Examples:\n"), "{name}");
            for verb in verb.get_subcommands_mut() {
                assert!(verb.render_help().to_string().starts_with("Examples:\n"), "{name} {}", verb.get_name());
            }
        }
    }
}
