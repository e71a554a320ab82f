//! `standpipe check`: syntax and meaning of a config, drawn at the line. By itself it asks nobody: no network, no
//! credentials. `--online` asks the services that the config names (`online`).

mod online;

use anyhow::Result;
use serde::Serialize;
use standpipe_config::config::{
    Config, Destination, DocumentId, Format, HttpEndpoint, OpenSearch, Redshift, RedshiftFormat, Rotation,
};
use standpipe_config::{ConfigErrors, units};

use crate::args::{Check, Output};
use crate::exit::{Exit, Usage};
use crate::terminal;

#[derive(Serialize)]
struct Report {
    ok: bool,
    pipelines: Vec<String>,
    errors: Vec<Finding>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Finding>,
    /// What the services said, with `--online`.
    #[serde(skip_serializing_if = "Option::is_none")]
    online: Option<Vec<online::Line>>,
}

#[derive(Serialize)]
struct Finding {
    file: String,
    line: usize,
    column: usize,
    path: String,
    message: String,
    hint: Option<String>,
    not_built: bool,
    #[serde(skip)]
    warning: bool,
}

pub fn run(args: Check) -> Result<Exit> {
    if args.create && !args.online {
        return Err(Usage("--create makes what --online finds missing: add --online".to_owned()).into());
    }
    let checked = super::load(&args.config.files);
    match (args.report.output, checked) {
        (Output::Human, Ok(config)) => {
            if let Some(warnings) = &config.warnings {
                terminal::err(&format!("{}\n", warnings.render(terminal::stderr_has_color())));
            }
            terminal::out(&summary(&config))?;
            if args.online { online::human(&config, args.create) } else { Ok(Exit::Ok) }
        }
        (Output::Human, Err(errors)) => Err(errors.into()),
        (Output::Json, Ok(config)) => {
            let pipelines = config.pipelines.iter().map(|pipeline| pipeline.name.clone()).collect();
            let (lines, exit) = if args.online {
                let (lines, exit) = online::lines(&config, args.create)?;
                (Some(lines), exit)
            } else {
                (None, Exit::Ok)
            };
            let warnings = config.warnings.map(findings).unwrap_or_default();
            super::json(&Report { ok: exit == Exit::Ok, pipelines, errors: Vec::new(), warnings, online: lines })?;
            Ok(exit)
        }
        (Output::Json, Err(errors)) => {
            let (warnings, errors) = findings(errors).into_iter().partition(|finding| finding.warning);
            super::json(&Report { ok: false, pipelines: Vec::new(), errors, warnings, online: None })?;
            Ok(Exit::Config)
        }
    }
}

fn findings(errors: ConfigErrors) -> Vec<Finding> {
    let finding = |error: standpipe_config::ConfigError| Finding {
        file: error.file,
        line: error.line,
        column: error.column,
        path: error.path,
        message: error.message,
        hint: error.hint,
        not_built: error.not_built,
        warning: error.warning,
    };
    errors.errors.into_iter().map(finding).collect()
}

/// One line a pipeline: what goes where, in which form.
fn summary(config: &Config) -> String {
    let mut text = format!("ok: {}\n", terminal::counted(config.pipelines.len() as u64, "pipeline"));
    for pipeline in &config.pipelines {
        for destination in &pipeline.destinations {
            let stream = &pipeline.source.stream.name;
            text.push_str(&format!("  {}: stream {stream} -> {}\n", pipeline.name, destination_line(destination)));
        }
    }
    text
}

fn destination_line(destination: &Destination) -> String {
    let s3 = match destination {
        Destination::S3(s3) => s3,
        Destination::Redshift(redshift) => return redshift_line(redshift),
        Destination::OpenSearch(opensearch) => return opensearch_line(opensearch),
        Destination::Http(http) => return http_line(http),
    };
    let format = match &s3.format {
        Format::Raw => "raw",
        Format::JsonLines => "json_lines",
        Format::Parquet(_) => "parquet",
        Format::Orc(_) => "orc",
    };
    let size = units::format_size(s3.buffer_bytes);
    let interval = units::format_duration(s3.buffer_interval);
    format!("s3 bucket {}, {format}, an object every {interval} or {size}", s3.bucket)
}

fn opensearch_line(opensearch: &OpenSearch) -> String {
    let suffix = match opensearch.rotation {
        Rotation::None => "",
        Rotation::Hourly => "-YYYY-MM-DD-HH",
        Rotation::Daily => "-YYYY-MM-DD",
        Rotation::Weekly => "-YYYY-wWW",
        Rotation::Monthly => "-YYYY-MM",
    };
    let ids = match &opensearch.document_id {
        DocumentId::Generated => "ids generated",
        DocumentId::None => "ids by the server: what is sent again is there twice",
        DocumentId::Expression { create: true, .. } => "ids by jq, the first document of one stays",
        DocumentId::Expression { create: false, .. } => "ids by jq, the last document of one stays",
    };
    let what = if opensearch.data_stream { "data stream" } else { "index" };
    let size = units::format_size(opensearch.buffer_bytes);
    let interval = units::format_duration(opensearch.buffer_interval);
    let (index, endpoint) = (&opensearch.index, opensearch.endpoints.first().map_or("", String::as_str));
    format!("opensearch {what} {index}{suffix} at {endpoint}, {ids}, a batch every {interval} or {size}")
}

fn http_line(http: &HttpEndpoint) -> String {
    let size = units::format_size(http.buffer_bytes);
    let interval = units::format_duration(http.buffer_interval);
    let encoding = if http.gzip { ", gzip" } else { "" };
    let answers = if http.any_2xx { ", any status of success acknowledges" } else { "" };
    format!("http endpoint {}{encoding}{answers}, a batch every {interval} or {size}", http.shown())
}

fn redshift_line(redshift: &Redshift) -> String {
    let format = match redshift.format {
        RedshiftFormat::JsonLines => "json_lines",
        RedshiftFormat::Csv => "csv",
        RedshiftFormat::Parquet(_) => "parquet",
    };
    let size = units::format_size(redshift.buffer_bytes);
    let interval = units::format_duration(redshift.buffer_interval);
    let (copy, bucket) = (&redshift.copy, &redshift.staging.bucket);
    format!(
        "redshift table {}.{} by bucket {bucket}, {format}, a load every {interval} or {size}",
        copy.schema, copy.table
    )
}
