//! Implements, of the arrow `what the user wrote -> what it means`: the step itself, from `file.rs` to `config.rs`.
//!
//! Defaults are filled in here and nowhere else. Every finding is collected; a field that is wrong is given its default
//! so that the others are looked at too, and the result is then thrown away.
//! Never: reads a file, the environment or a clock; shows a value that came from the environment.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use standpipe_flow::DestinationId;

use crate::checks::{Checks, TextError};
use crate::config::{
    Aws, CONSUMER_DEFAULT, Config, Deaggregate, Kinesis, Lease, Logs, OutOfRange, Pipeline, ReadMode, Stream,
    Transform, Worker,
};
use crate::decode::Located;
use crate::errors::Finding;
use crate::file::{AwsFile, File, HttpFile, KinesisFile, LeaseFile, PipelineFile, ReadFile, SourceFile, WorkerFile};
use crate::limits::{self, Bounds};
use crate::names::{self, NameError};
use crate::source::{At, Sources};
use crate::template::TemplateError;
use crate::text::{DestinationIdText, DurationText, SizeText};
use crate::units::{self, StartPosition, UnitError};

/// The port of health, metrics and the status page. 9464 is the port that OpenTelemetry gives to Prometheus exporters.
const LISTEN_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9464);

/// Reads the meaning out of the files of one configuration.
pub(crate) fn resolve(
    files: Vec<File>,
    sources: &Sources,
    checks: &dyn Checks,
    findings: &mut Vec<Finding>,
) -> Option<Config> {
    let before = findings.len();
    let config = Resolver { sources, checks, findings }.config(files);
    findings[before..].iter().all(Finding::is_warning).then_some(config)
}

pub(crate) struct Resolver<'a> {
    pub(crate) sources: &'a Sources,
    pub(crate) checks: &'a dyn Checks,
    pub(crate) findings: &'a mut Vec<Finding>,
}

/// Why a text is refused, by whichever parser refused it.
pub(crate) struct Refusal {
    reason: String,
    hint: Option<String>,
    /// The bytes of the text that are meant.
    part: Option<Range<usize>>,
    not_built: bool,
}

impl From<UnitError> for Refusal {
    fn from(e: UnitError) -> Self {
        Self { reason: e.reason.to_owned(), hint: Some(e.hint), part: None, not_built: false }
    }
}
impl From<NameError> for Refusal {
    fn from(e: NameError) -> Self {
        Self { reason: e.reason, hint: e.hint, part: None, not_built: false }
    }
}
impl From<TemplateError> for Refusal {
    fn from(e: TemplateError) -> Self {
        Self { reason: e.message, hint: e.hint, part: Some(e.span), not_built: e.not_built }
    }
}
impl From<TextError> for Refusal {
    fn from(e: TextError) -> Self {
        Self { reason: e.reason, hint: e.hint, part: e.part, not_built: false }
    }
}
impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self { reason, hint: None, part: None, not_built: false }
    }
}

impl Resolver<'_> {
    fn config(&mut self, files: Vec<File>) -> Config {
        let (mut aws, mut worker, mut http, mut telemetry) = (None, None, None, None);
        let mut pipelines = Vec::new();
        let last_file = files.len().saturating_sub(1);
        for file in files {
            self.once("aws", &mut aws, file.aws);
            self.once("worker", &mut worker, file.worker);
            self.once("http", &mut http, file.http);
            self.once("telemetry", &mut telemetry, file.telemetry);
            pipelines.extend(file.pipelines.into_iter().flat_map(|named| named.0));
        }
        if pipelines.is_empty() {
            let at = At { file: last_file, start: 0, end: 0 };
            self.findings.push(
                Finding::new(at, "pipelines", "there is no pipeline")
                    .label("`pipelines` is missing or empty")
                    .hint("the smallest file is in docs/examples/smallest.yaml".to_owned()),
            );
        }
        let pipelines = self.pipelines(pipelines);
        Config {
            aws: aws.map_or_else(Aws::default, |aws| self.aws(aws.value)),
            worker: self.worker(worker.map(|w| w.value)),
            http: http.map_or(Some(LISTEN_DEFAULT), |http| self.http(http.value)),
            logs: telemetry.and_then(|t| t.value.logs).unwrap_or(Logs::default()),
            pipelines,
            warnings: None,
        }
    }

    /// A section that may stand in one of the files.
    fn once<T>(&mut self, name: &str, slot: &mut Option<Located<T>>, found: Option<Located<T>>) {
        match (&slot, found) {
            (Some(first), Some(second)) => self.findings.push(
                Finding::new(second.at, name, format!("`{name}` stands in two files"))
                    .label("again here")
                    .also(first.at, "first here"),
            ),
            (None, found) => *slot = found,
            (Some(_), None) => {}
        }
    }

    fn aws(&mut self, file: AwsFile) -> Aws {
        let endpoints = file.endpoints.unwrap_or_default();
        let mut endpoint = |name: &str, text: Option<_>| {
            let path = format!("aws.endpoints.{name}");
            text.and_then(|text| self.text(&path, &text, "an endpoint", names::endpoint))
        };
        let kinesis_endpoint = endpoint("kinesis", endpoints.kinesis);
        let dynamodb_endpoint = endpoint("dynamodb", endpoints.dynamodb);
        let s3_endpoint = endpoint("s3", endpoints.s3);
        let lambda_endpoint = endpoint("lambda", endpoints.lambda);
        let glue_endpoint = endpoint("glue", endpoints.glue);
        let redshift_data_endpoint = endpoint("redshift_data", endpoints.redshift_data);
        let region = file.region.and_then(|text| self.text("aws.region", &text, "a region", names::region));
        Aws {
            region,
            kinesis_endpoint,
            dynamodb_endpoint,
            s3_endpoint,
            lambda_endpoint,
            glue_endpoint,
            redshift_data_endpoint,
        }
    }

    fn worker(&mut self, file: Option<WorkerFile>) -> Worker {
        let (id, memory, grace) = file.map_or((None, None, None), |f| (f.id, f.memory, f.shutdown_grace));
        Worker {
            id: id.and_then(|text| self.text("worker.id", &text, "a worker's id", names::worker_id)).flatten(),
            memory_bytes: memory.and_then(|text| self.size("worker.memory", &text, &limits::MEMORY_BYTES)),
            shutdown_grace: grace
                .and_then(|text| self.duration("worker.shutdown_grace", &text, &limits::SHUTDOWN_GRACE))
                .unwrap_or(limits::SHUTDOWN_GRACE_DEFAULT),
        }
    }

    fn http(&mut self, file: HttpFile) -> Option<SocketAddr> {
        match file {
            HttpFile::Off => None,
            HttpFile::On(listen) => match listen.listen {
                Some(text) => self.text("http.listen", &text, "an address to listen on", names::listen),
                None => Some(LISTEN_DEFAULT),
            },
        }
    }

    fn pipelines(&mut self, files: Vec<(Located<String>, PipelineFile)>) -> Vec<Pipeline> {
        let mut pipelines = Vec::new();
        let mut names: BTreeMap<String, At> = BTreeMap::new();
        let mut tables: BTreeMap<String, At> = BTreeMap::new();
        let mut consumers: BTreeMap<(String, String), At> = BTreeMap::new();
        for (name, file) in files {
            let path = format!("pipelines.{}", name.value);
            if let Some(first) = names.insert(name.value.clone(), name.at) {
                let message = format!("two pipelines have the name `{}`", name.value);
                self.findings
                    .push(Finding::new(name.at, &path, message).label("the second one").also(first, "the first one"));
                continue;
            }
            if let Err(e) = names::pipeline(&name.value) {
                let message = format!("`{}` is not a pipeline's name: {}", name.value, e.reason);
                self.findings.push(Finding::new(name.at, &path, message).hint(e.hint));
            }
            let table_at = file.lease.as_ref().and_then(|l| l.table.as_ref()).map_or(name.at, |table| table.at);
            let SourceFile::Kinesis(kinesis) = &file.source;
            let read_at = kinesis.read.as_ref().map_or(name.at, |read| read.at);
            let pipeline = self.pipeline(&path, name.value, file);
            if let ReadMode::EnhancedFanOut { consumer } = &pipeline.source.read
                && let Some(first) =
                    consumers.insert((pipeline.source.stream.shown().to_owned(), consumer.clone()), read_at)
            {
                let path = format!("{path}.source.kinesis.read");
                self.findings.push(
                    Finding::new(read_at, &path, "two pipelines share a consumer of a stream")
                        .label("a second pipeline")
                        .also(first, "the first one")
                        .hint("each needs its own: they would take the shards from each other".to_owned()),
                );
            }
            if let Some(first) = tables.insert(pipeline.lease.table.clone(), table_at) {
                self.findings.push(
                    Finding::new(table_at, &format!("{path}.lease.table"), "two pipelines share a lease table")
                        .label("a second pipeline")
                        .also(first, "the first one")
                        .hint("each needs its own: both would take the other's positions for theirs".to_owned()),
                );
            }
            pipelines.push(pipeline);
            if pipelines.len() == limits::PIPELINES_MAX + 1 {
                let message = format!("more than {} pipelines", limits::PIPELINES_MAX);
                self.findings.push(Finding::new(name.at, &path, message));
                break;
            }
        }
        pipelines
    }

    fn pipeline(&mut self, path: &str, name: String, file: PipelineFile) -> Pipeline {
        let SourceFile::Kinesis(kinesis) = file.source;
        let lease = self.lease(&format!("{path}.lease"), &name, file.lease.unwrap_or_default());
        let source = self.kinesis(&format!("{path}.source.kinesis"), *kinesis);
        let transforms = self.transforms(&format!("{path}.transforms"), file.transforms.unwrap_or_default());
        let asks_lambda = transforms.iter().any(|transform| matches!(transform, Transform::Lambda(_)));
        let destinations = self.destinations(&format!("{path}.destinations"), file.destinations, asks_lambda);
        let used: Vec<&DestinationId> = destinations.iter().map(|d| d.id()).collect();
        let retired = self.retired(&format!("{path}.retired"), file.retired.unwrap_or_default(), &used);
        let on_destination_failure = file.on_destination_failure.unwrap_or_default();
        Pipeline { name, lease, source, transforms, destinations, on_destination_failure, retired }
    }

    fn lease(&mut self, path: &str, pipeline: &str, file: LeaseFile) -> Lease {
        let table =
            file.table.and_then(|text| self.text(&format!("{path}.table"), &text, "a table's name", names::table));
        let max =
            file.max.and_then(|text| self.text(&format!("{path}.max"), &text, "a number of leases", names::leases));
        let failover =
            file.failover.and_then(|text| self.duration(&format!("{path}.failover"), &text, &limits::FAILOVER));
        Lease {
            table: table.unwrap_or_else(|| format!("standpipe-{pipeline}")),
            failover: failover.unwrap_or(limits::FAILOVER_DEFAULT),
            heartbeat: file.heartbeat.unwrap_or_default(),
            leases_max: max.flatten(),
            create: file.create.unwrap_or(true),
        }
    }

    fn kinesis(&mut self, path: &str, file: KinesisFile) -> Kinesis {
        let stream = self.text(&format!("{path}.stream"), &file.stream, "a stream", names::stream);
        let start = self.text(&format!("{path}.start"), &file.start, "a start", units::parse_start);
        let poll = file.poll.and_then(|text| self.duration(&format!("{path}.poll"), &text, &limits::POLL));
        let out_of_range = file.out_of_range.map(|located| {
            if located.value == OutOfRange::Drop && file.deaggregate == Some(Deaggregate::None) {
                let path = format!("{path}.out_of_range");
                let finding =
                    Finding::new(located.at, &path, "`out_of_range: drop` does nothing with `deaggregate: none`");
                let hint = "only the user records of aggregates that are taken apart can be out of range".to_owned();
                self.findings.push(finding.label("nothing is dropped").hint(hint).warning());
            }
            located.value
        });
        let nameless = || Stream { name: String::new(), arn: None, region: None, account: None };
        Kinesis {
            stream: stream.unwrap_or_else(nameless),
            start: start.unwrap_or(StartPosition::TrimHorizon),
            read: file.read.map_or(ReadMode::Auto, |read| self.read(&format!("{path}.read"), read.value)),
            poll: poll.unwrap_or(limits::POLL_DEFAULT),
            deaggregate: file.deaggregate.unwrap_or_default(),
            out_of_range: out_of_range.unwrap_or_default(),
        }
    }

    fn read(&mut self, path: &str, file: ReadFile) -> ReadMode {
        match file {
            ReadFile::Auto => ReadMode::Auto,
            ReadFile::Polling => ReadMode::Polling,
            ReadFile::EnhancedFanOut(settings) => {
                let consumer = settings.unwrap_or_default().consumer.and_then(|text| {
                    let path = format!("{path}.enhanced_fan_out.consumer");
                    self.text(&path, &text, "a consumer's name", names::consumer)
                });
                ReadMode::EnhancedFanOut { consumer: consumer.unwrap_or_else(|| CONSUMER_DEFAULT.to_owned()) }
            }
        }
    }

    fn retired(
        &mut self,
        path: &str,
        ids: Vec<Located<DestinationIdText>>,
        used: &[&DestinationId],
    ) -> Vec<DestinationId> {
        let mut retired: BTreeMap<DestinationId, At> = BTreeMap::new();
        for (i, text) in ids.iter().enumerate() {
            let path = format!("{path}[{i}]");
            let Some(id) = self.text(&path, text, "a destination's id", names::destination_id) else { continue };
            let id = DestinationId::new(id);
            if used.contains(&&id) {
                let shown = if text.from_env { "this destination".to_owned() } else { format!("`{id}`") };
                let message = format!("{shown} is both retired and in use");
                self.findings.push(
                    Finding::new(text.at, &path, message)
                        .hint("a destination that comes back is taken off this list".to_owned()),
                );
            }
            if let Some(first) = retired.insert(id, text.at) {
                self.findings
                    .push(Finding::new(text.at, &path, "retired twice").label("again here").also(first, "first here"));
            }
        }
        if let Some(beyond) = ids.get(limits::RETIRED_MAX) {
            let message = format!("more than {} retired destinations", limits::RETIRED_MAX);
            self.findings.push(
                Finding::new(beyond.at, path, message)
                    .hint("one whose place every checkpoint has passed can leave the list".to_owned()),
            );
        }
        retired.into_keys().collect()
    }

    /// A text through its parser. What is refused is a finding, and `None`.
    pub(crate) fn text<S: AsRef<str>, T, E: Into<Refusal>>(
        &mut self,
        path: &str,
        text: &Located<S>,
        what: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        match parse(text.value.as_ref()) {
            Ok(value) => Some(value),
            Err(e) => {
                self.refuse(path, text, what, e.into());
                None
            }
        }
    }

    fn refuse<S: AsRef<str>>(&mut self, path: &str, text: &Located<S>, what: &str, refusal: Refusal) {
        let value = text.value.as_ref();
        if text.from_env {
            let message = format!("the value that the environment gives `{path}` is not {what}");
            let label = "the value is not shown";
            self.findings.push(Finding::new(text.at, path, message).label(label));
            return;
        }
        let finding = match refusal.part {
            Some(part) if !part.is_empty() => {
                let at = self.sources.part(text.at, value, &part);
                Finding::new(at, path, format!("this is not {what}: {}", refusal.reason))
            }
            _ => Finding::new(text.at, path, format!("`{}` is not {what}: {}", short(value), refusal.reason)),
        };
        let finding = finding.hint(refusal.hint);
        self.findings.push(if refusal.not_built { finding.not_built() } else { finding });
    }

    pub(crate) fn duration(
        &mut self,
        path: &str,
        text: &Located<DurationText>,
        bounds: &Bounds<Duration>,
    ) -> Option<Duration> {
        let duration = self.text(path, text, "a duration", units::parse_duration)?;
        self.within(path, text, duration, bounds)
    }

    pub(crate) fn size(&mut self, path: &str, text: &Located<SizeText>, bounds: &Bounds<u64>) -> Option<u64> {
        let size = self.text(path, text, "a size", units::parse_size)?;
        self.within(path, text, size, bounds)
    }

    pub(crate) fn within<S, T: PartialOrd + Show>(
        &mut self,
        path: &str,
        text: &Located<S>,
        value: T,
        bounds: &Bounds<T>,
    ) -> Option<T> {
        let limit = if value < bounds.least {
            format!("too little: at least {}", bounds.least.show())
        } else if value > bounds.most {
            format!("too much: at most {}", bounds.most.show())
        } else {
            return Some(value);
        };
        let shown = if text.from_env { "the value".to_owned() } else { format!("`{}`", value.show()) };
        self.findings.push(Finding::new(text.at, path, format!("{shown} is {limit}")).hint(bounds.why.to_owned()));
        None
    }
}

/// A quantity as a user would write it.
pub(crate) trait Show {
    fn show(&self) -> String;
}

impl Show for Duration {
    fn show(&self) -> String {
        units::format_duration(*self)
    }
}

impl Show for u64 {
    fn show(&self) -> String {
        units::format_size(*self)
    }
}

/// A value as it may stand in a message.
pub(crate) fn short(value: &str) -> String {
    const MOST: usize = 60;
    match value.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &value[..end]),
        None => value.to_owned(),
    }
}
