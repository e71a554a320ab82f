//! From the config to the transforms of a pipeline, and to those of one destination.
//!
//! Never here: what a transform does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use standpipe_config::config::{self, Config, Decompress, Parse, Transform as Written};
use standpipe_flow::{Clock, Millis, Transform};
use standpipe_pipeline::metrics::{At, Metrics, OfStage};
use standpipe_transform::jq::Limits;
use standpipe_transform::lambda::{Function, Observer, Seams};
use standpipe_transform::{
    Apache, ApacheFormat, CloudWatchLogs, CloudWatchLogsSettings, Codec, Counts, Csv, CsvColumns, CsvSettings,
    DecompressSettings, Fate, Jq, JsonToCsv, JsonToCsvSettings, Lambda, LambdaSettings, OnMissing, Regex, Route,
    RouteSettings, Split, SplitBy, SplitSettings, Stage, Step, Syslog, SyslogFormat, Transforms, When, Xml, numbered,
};

use crate::errors::WorkerError;
use crate::platform::{Platform, service};
use crate::stages::OneTransform;

/// The transforms of a pipeline; `None` where every record passes as it is. `stream_arn` stands in what functions are asked.
pub(crate) fn of_pipeline(
    config: &Config,
    pipeline: &config::Pipeline,
    stream_arn: &str,
    platform: &Platform,
) -> Result<Option<Arc<dyn Transform>>, WorkerError> {
    let counted = || Counted::new(platform, &pipeline.name, "");
    let mut functions = 0;
    let step = |written: &Written| match written {
        Written::Lambda(lambda) => {
            functions += 1;
            let sdk = service(&platform.sdk, config.aws.lambda_endpoint.as_ref(), None);
            let seams = Seams {
                clock: platform.clock.clone(),
                random: platform.random.clone(),
                offload: platform.offload.clone(),
                observer: Arc::new(Counted { nth: functions, ..counted() }),
            };
            let function: Function = lambda.function.parse().map_err(findings)?;
            let settings = LambdaSettings {
                retries: lambda.retries,
                buffer_bytes: usize::try_from(lambda.buffer_bytes).unwrap_or(usize::MAX),
                buffer_wait: lambda.buffer_interval,
                ..LambdaSettings::new(function, stream_arn, &pipeline.name)
            };
            Ok(Step::All(Arc::new(Lambda::new(settings, &sdk, seams).map_err(findings)?)))
        }
        one => stage(one).map(Step::Each).map_err(WorkerError::Findings),
    };
    let steps = pipeline.transforms.iter().map(step).collect::<Result<Vec<_>, WorkerError>>()?;
    let keeps = pipeline.destinations.iter().any(|destination| destination.backup().is_some());
    Ok(transforms(steps, keeps, platform, Arc::new(counted())))
}

/// The transforms of a pipeline, each alone. A function outside is named only.
pub(crate) fn one_by_one(pipeline: &config::Pipeline, platform: &Platform) -> Result<Vec<OneTransform>, WorkerError> {
    let one = |written: &Written| {
        if let Written::Lambda(_) = written {
            return Ok(OneTransform { name: "lambda", transform: None });
        }
        let stage = stage(written).map_err(WorkerError::Findings)?;
        let name = stage.name();
        let counted = Arc::new(Counted::new(platform, &pipeline.name, ""));
        Ok(OneTransform { name, transform: transforms(vec![Step::Each(stage)], false, platform, counted) })
    };
    pipeline.transforms.iter().map(one).collect()
}

/// The transforms of one destination: which records it gets, and which partition each belongs to.
pub(crate) fn of_destination(
    pipeline: &config::Pipeline,
    destination: &config::Destination,
    platform: &Platform,
) -> Result<Option<Arc<dyn Transform>>, WorkerError> {
    let counted = Arc::new(Counted::new(platform, &pipeline.name, destination.id().as_str()));
    let mut steps = Vec::new();
    if let Some(when) = destination.when() {
        steps.push(Step::Each(Arc::new(When::new(when, limits()).map_err(findings)?)));
    }
    if let Some(partitions) = destination.partitions() {
        let settings = RouteSettings {
            query: partitions.query.iter().cloned().collect(),
            lambda: partitions.lambda.clone(),
            on_missing: partitions.default.clone().map_or(OnMissing::Error, OnMissing::Default),
            limits: limits(),
        };
        steps.push(Step::Each(Arc::new(Route::new(settings).map_err(findings)?)));
    }
    Ok(transforms(steps, false, platform, counted))
}

fn transforms(
    steps: Vec<Step>,
    keeps_originals: bool,
    platform: &Platform,
    counted: Arc<Counted>,
) -> Option<Arc<dyn Transform>> {
    let transforms = Transforms::new(steps, keeps_originals, platform.offload.clone(), counted);
    if transforms.is_empty() { None } else { Some(Arc::new(transforms)) }
}

/// A stage that looks at one record at a time. The config has checked it all; what is wrong anyway is said.
fn stage(written: &Written) -> Result<Arc<dyn Stage>, String> {
    Ok(match written {
        Written::Decompress(how) => {
            let codec = match how {
                Decompress::None => Codec::None,
                Decompress::Gzip => Codec::Gzip,
                Decompress::Zstd => Codec::Zstd,
                Decompress::Auto => Codec::Auto,
            };
            let settings = DecompressSettings { codec, bytes_max: DecompressSettings::BYTES_MAX };
            Arc::new(standpipe_transform::Decompress::new(settings)?)
        }
        Written::CloudwatchLogs { extract_message } => {
            Arc::new(CloudWatchLogs::new(CloudWatchLogsSettings { extract_message: *extract_message }))
        }
        Written::SplitJson { max } => split(SplitBy::Json, *max)?,
        Written::SplitDelimited(delimiter) => split(SplitBy::Delimited(delimiter.clone()), SplitSettings::PIECES_MAX)?,
        Written::Parse(parse) => parser(parse)?,
        Written::JsonToCsv { columns, delimiter } => {
            let (columns, delimiter) = (columns.clone(), char::from(*delimiter));
            Arc::new(JsonToCsv::new(JsonToCsvSettings { columns, delimiter })?)
        }
        Written::Jq(program) => Arc::new(Jq::new(program, limits()).map_err(|error| error.to_string())?),
        Written::Lambda(_) => unreachable!("a function is no stage"),
    })
}

fn split(by: SplitBy, pieces_max: usize) -> Result<Arc<dyn Stage>, String> {
    Ok(Arc::new(Split::new(SplitSettings { by, pieces_max })?))
}

fn parser(parse: &Parse) -> Result<Arc<dyn Stage>, String> {
    Ok(match parse {
        Parse::ApacheCommon => Arc::new(Apache::new(ApacheFormat::Common)),
        Parse::ApacheCombined => Arc::new(Apache::new(ApacheFormat::Combined)),
        Parse::SyslogRfc3164 => Arc::new(Syslog::new(SyslogFormat::Rfc3164)),
        Parse::SyslogRfc5424 => Arc::new(Syslog::new(SyslogFormat::Rfc5424)),
        Parse::Xml => Arc::new(Xml),
        Parse::Csv { columns, delimiter, quote } => Arc::new(Csv::new(CsvSettings {
            columns: columns.clone().map_or(CsvColumns::Header, CsvColumns::Named),
            delimiter: char::from(*delimiter),
            quote: Some(char::from(*quote)),
        })?),
        Parse::Regex(pattern) => Arc::new(Regex::new(pattern)?),
    })
}

fn findings(error: impl std::fmt::Display) -> WorkerError {
    WorkerError::Findings(error.to_string())
}

/// The limits of jq programs: those that are counted, and time for what cannot be.
#[allow(clippy::disallowed_methods, reason = "real time, and nothing else, ends a search")]
pub(crate) fn limits() -> Limits {
    Limits { clock: Some(Arc::new(RealTime(Instant::now()))), ..Limits::default() }
}

/// Time as it passes, under a paused clock too: a search that does not end is to be ended there as well.
#[derive(Debug)]
struct RealTime(Instant);

impl Clock for RealTime {
    fn wall(&self) -> Millis {
        Millis(0) // nobody asks
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Tells the metrics what became of records.
#[derive(Debug)]
struct Counted {
    metrics: Metrics,
    at: At,
    /// Which function of the pipeline it is; stages of single records have their numbers already.
    nth: usize,
}

impl Counted {
    fn new(platform: &Platform, pipeline: &str, destination: &str) -> Self {
        let at = At { pipeline: pipeline.to_owned(), destination: destination.to_owned() };
        Self { metrics: platform.metrics.pipeline.clone(), at, nth: 1 }
    }
}

impl Counts for Counted {
    fn records(&self, stage: &str, fate: Fate, records: u64) {
        let (pipeline, destination) = (self.at.pipeline.clone(), self.at.destination.clone());
        let stage = numbered(stage, self.nth);
        let of = OfStage { pipeline, destination, stage, result: fate.label().to_owned() };
        self.metrics.transform_records.get_or_create(&of).inc_by(records);
    }
}

impl Observer for Counted {
    fn attempt(&self, result: &'static str, took: Duration) {
        self.metrics.lambda_attempts.get_or_create(&self.at.why(result)).inc();
        self.metrics.lambda_seconds.get_or_create(&self.at).inc_by(took.as_secs_f64());
    }

    fn waiting(&self, change: i64) {
        self.metrics.lambda_waiting.get_or_create(&self.at).inc_by(change);
    }
}
