//! Without a config: one of each stage that there is, each made of a config of one line or two.
//!
//! Every stage has records of the shape that it is for; with a file every stage is tried on its lines, and those that they
//! are not for are left out and named.

use anyhow::{Context, Result};
use bytes::Bytes;
use standpipe_flow::Record;
use standpipe_source::Unpack;
use standpipe_worker::Stages;

use super::input::{self, Input};
use super::measure::{Budget, Done, Figures};
use super::records::{CSV_COLUMNS, Shape};
use super::report::{Measured, Row, progress};
use super::steps;

/// Lines of a record that holds several.
const LINES: usize = 20;

struct Entry {
    name: &'static str,
    shape: Shape,
    what: What,
}

/// What is measured. `$A` and `$B` stand for the paths of two members of the records.
enum What {
    Read,
    Deaggregate,
    /// A transform of a pipeline.
    Transform(Feed, &'static str),
    /// A jq program as a transform.
    Jq(&'static str),
    JsonToCsv,
    Csv,
    /// A destination's condition.
    When(&'static str),
    /// A destination's partition key.
    Partition(&'static str),
    /// Settings of a destination of lines.
    Lines(&'static str),
    /// A destination with columns.
    Rows(&'static str),
    ErrorLines,
}

/// How lines become records.
enum Feed {
    /// One each.
    Lines,
    Joined,
    Gzip,
    Envelopes,
}

const fn entry(name: &'static str, shape: Shape, what: What) -> Entry {
    Entry { name, shape, what }
}

const REGEX: &str = r#"parse: { regex: { pattern: '^(?P<host>\S+) \S+ \S+ \[(?P<time>[^\]]+)\] "(?P<request>[^"]*)" (?P<status>\d+) (?P<bytes>\d+)' } }"#;

const CATALOGUE: [Entry; 30] = [
    entry("read", Shape::Orders, What::Read),
    entry("deaggregate", Shape::Orders, What::Deaggregate),
    entry("decompress", Shape::Orders, What::Transform(Feed::Gzip, "decompress: gzip")),
    entry(
        "cloudwatch-logs",
        Shape::Web,
        What::Transform(Feed::Envelopes, "cloudwatch_logs: { extract_message: true }"),
    ),
    entry("split-json", Shape::Orders, What::Transform(Feed::Joined, "split: json")),
    entry("split-lines", Shape::Orders, What::Transform(Feed::Joined, r#"split: { delimited: "\n" }"#)),
    entry("apache-common", Shape::Common, What::Transform(Feed::Lines, "parse: apache_common")),
    entry("apache-combined", Shape::Web, What::Transform(Feed::Lines, "parse: apache_combined")),
    entry("syslog-rfc3164", Shape::Syslog3164, What::Transform(Feed::Lines, "parse: syslog_rfc3164")),
    entry("syslog-rfc5424", Shape::Syslog5424, What::Transform(Feed::Lines, "parse: syslog_rfc5424")),
    entry("csv", Shape::Csv, What::Csv),
    entry("xml", Shape::Xml, What::Transform(Feed::Lines, "parse: xml")),
    entry("regex", Shape::Web, What::Transform(Feed::Lines, REGEX)),
    entry("json-to-csv", Shape::Orders, What::JsonToCsv),
    entry("jq-identity", Shape::Orders, What::Jq(".")),
    entry("jq-object", Shape::Orders, What::Jq("{a: $A, b: $B}")),
    entry("jq-select", Shape::Orders, What::Jq("select($A != null) | del($B)")),
    entry("when", Shape::Orders, What::When("$A != null")),
    entry("partition-path", Shape::Orders, What::Partition("$A")),
    entry("partition-jq", Shape::Orders, What::Partition("$A | tostring | .[0:3]")),
    entry("lines", Shape::Orders, What::Lines("compression: none")),
    entry("gzip", Shape::Orders, What::Lines("compression: gzip")),
    entry("zip", Shape::Orders, What::Lines("compression: zip")),
    entry("snappy", Shape::Orders, What::Lines("compression: snappy")),
    entry("hadoop-snappy", Shape::Orders, What::Lines("compression: hadoop_snappy")),
    entry("zstd", Shape::Orders, What::Lines("compression: zstd")),
    entry("parquet", Shape::Orders, What::Rows("parquet")),
    entry("parquet", Shape::Events, What::Rows("parquet")),
    entry("orc", Shape::Orders, What::Rows("orc")),
    entry("error-lines", Shape::Orders, What::ErrorLines),
];

/// Measures the stages whose names begin like one of these, or all of them.
pub async fn measure(given: Option<&Input>, wanted: &[String], budget: &Budget) -> Result<Measured> {
    let mut measured = Measured { sums: false, ..Measured::default() };
    let mut made_up: Vec<(Shape, Input)> = Vec::new();
    for Entry { name, shape, what } in &CATALOGUE {
        if measured.knows(name) && given.is_some() {
            continue; // it differs in the shape alone
        }
        if !measured.knows(name) {
            measured.known.push((*name).to_owned());
        }
        if !wanted.is_empty() && !wanted.iter().any(|wanted| name.starts_with(wanted.as_str())) {
            continue;
        }
        progress(name);
        let input = match given {
            Some(given) => given,
            None => {
                if !made_up.iter().any(|(made, _)| made == shape) {
                    made_up.push((*shape, Input::made_up(*shape)));
                }
                let found = made_up.iter().find(|(made, _)| made == shape);
                &found.context("it was just made")?.1
            }
        };
        match what.measure(input, budget).await? {
            Some(figures) if !refuses(&figures.done) => measured.rows.push(Row::new(name, input, figures)),
            _ => measured.left_out.push((*name).to_owned()),
        }
    }
    Ok(measured)
}

/// Whether the stage is for other records than these.
fn refuses(done: &Done) -> bool {
    done.rejected > done.records
}

impl What {
    /// `None`: it needs records of another kind.
    async fn measure(&self, input: &Input, budget: &Budget) -> Result<Option<Figures>> {
        let figures = match self {
            Self::Read => steps::read(&input.records(), Unpack::default(), budget).await?,
            Self::Deaggregate => steps::deaggregate(input, budget).await?,
            Self::ErrorLines => steps::error_lines(&input.records(), budget).await?,
            _ => {
                let Some((transforms, settings)) = self.config(input) else { return Ok(None) };
                let stages = stages(&transforms, &settings)?;
                self.of(&stages, input, budget).await?
            }
        };
        Ok(Some(figures))
    }

    async fn of(&self, stages: &Stages, input: &Input, budget: &Budget) -> Result<Figures> {
        let destination = stages.destinations.first().context("there is a destination")?;
        let transform = match self {
            Self::Lines(_) | Self::Rows(_) => {
                let records = input.records();
                return steps::encode(&records, (&destination.format, destination.compression), budget).await;
            }
            Self::When(_) | Self::Partition(_) => destination.transform.as_ref(),
            _ => stages.transforms.first().and_then(|one| one.transform.as_ref()),
        };
        let records = self.records(input)?;
        Ok(steps::transform(transform.context("there is a transform")?, &records, budget).await?.0)
    }

    fn records(&self, input: &Input) -> Result<Vec<Record>> {
        let data: Vec<Bytes> = match self {
            Self::Transform(Feed::Joined, _) => input.joined(LINES).collect(),
            Self::Transform(Feed::Gzip, _) => input::gzipped(input.joined(LINES))?,
            Self::Transform(Feed::Envelopes, _) => input.envelopes(LINES)?,
            _ => return Ok(input.records()),
        };
        Ok(input::records(data))
    }

    /// The transforms of a pipeline and the settings of its destination, which make this stage.
    fn config(&self, input: &Input) -> Option<(String, String)> {
        let keys = input.keys();
        // Those in front are often ids.
        let key = |at: usize| keys.get(at + 2).or(keys.get(at)).or(keys.first()).copied();
        let program = |text: &str| {
            let uses_keys = text.contains('$');
            let path = |at: usize| if uses_keys { key(at).map(path) } else { Some(String::new()) };
            Some(quoted(&text.replace("$A", &path(0)?).replace("$B", &path(1)?)))
        };
        let lines = || "compression: none".to_owned();
        Some(match self {
            Self::Transform(_, yaml) => ((*yaml).to_owned(), lines()),
            Self::Csv => (format!("parse: {{ csv: {{ columns: [{}] }} }}", CSV_COLUMNS.join(", ")), lines()),
            Self::JsonToCsv => {
                let columns: Vec<String> = keys.iter().map(|key| quoted(key)).collect();
                (!columns.is_empty()).then_some(())?;
                (format!("json_to_csv: {{ columns: [{}] }}", columns.join(", ")), lines())
            }
            Self::Jq(text) => {
                input.columns.as_ref()?;
                (format!("jq: {}", program(text)?), lines())
            }
            Self::When(text) => (String::new(), format!("when: {}", program(text)?)),
            Self::Partition(text) => {
                let key = program(text)?;
                let prefixes =
                    r#"prefix: "k=!{partitionKeyFromQuery:k}/", error_prefix: "errors/!{firehose:error-output-type}/""#;
                let missing = "partitions: { on_missing: { default: none } }";
                (String::new(), format!("{prefixes}, partition_by: {{ k: {key} }}, {missing}"))
            }
            Self::Lines(yaml) => (String::new(), (*yaml).to_owned()),
            Self::Rows(format) => {
                let columns = quoted(&input.columns.as_ref()?.to_string());
                let prefixes = r#"error_prefix: "errors/!{firehose:error-output-type}/""#;
                (String::new(), format!("{prefixes}, format: {format}, schema: {{ columns: {columns} }}"))
            }
            Self::Read | Self::Deaggregate | Self::ErrorLines => return None,
        })
    }
}

/// The stages of a pipeline that is written like this.
fn stages(transforms: &str, settings: &str) -> Result<Stages> {
    let transforms =
        if transforms.is_empty() { String::new() } else { format!("    transforms: [ {{ {transforms} }} ]\n") };
    let text = format!(
        "version: 1\nhttp: \"off\"\npipelines:\n  bench:\n    source: {{ kinesis: {{ stream: bench, start: trim_horizon }} }}\n\
         {transforms}    destinations: [ {{ s3: {{ bucket: bench, {settings} }} }} ]\n"
    );
    let config = standpipe_config::parse("bench", &text, &|_| None, &standpipe_worker::Known)?;
    let pipeline = config.pipelines.first().context("there is a pipeline")?;
    Ok(standpipe_worker::stages(pipeline, &steps::platform(), None)?)
}

/// The path of a member.
fn path(key: &str) -> String {
    let word =
        key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !key.starts_with(|c: char| c.is_ascii_digit());
    if word { format!(".{key}") } else { format!(".[{}]", quoted(key)) }
}

/// A text in double quotes, for YAML and for jq.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn every_stage_takes_the_records_that_are_made_up_for_it() {
        let measured = measure(None, &[], &Budget::new(0.0)).await.expect("measured");
        assert_eq!(measured.left_out, Vec::<String>::new());
        assert_eq!(measured.rows.len(), CATALOGUE.len());
        for row in &measured.rows {
            assert_eq!(row.figures.done.rejected, 0, "{}", row.stage);
            assert!(row.figures.done.records > 0, "{}", row.stage);
        }
        let records =
            |stage: &str| measured.rows.iter().find(|row| row.stage == stage).map(|row| row.figures.done.records);
        for whole in ["read", "deaggregate", "split-json", "split-lines", "lines", "parquet", "orc", "jq-select"] {
            assert_eq!(records(whole), records("error-lines"), "{whole}");
        }
    }

    #[test]
    fn a_path_leads_to_any_member() {
        assert_eq!((path("a_1"), path("a b"), path("1")), (".a_1".into(), r#".["a b"]"#.into(), r#".["1"]"#.into()));
    }
}
