//! Implements, of the arrow `what the user wrote -> what it means`: the transforms of a pipeline.
//!
//! Never: runs a program or a pattern; whoever will run it says whether it compiles (`checks.rs`).

use std::time::Duration;

use crate::checks::TextError;
use crate::config::{Decompress, Lambda, Parse, Transform};
use crate::decode::Located;
use crate::errors::Finding;
use crate::file::transforms::{LambdaFile, ParseCsvFile, ParseFile, SplitFile, TransformFile};
use crate::limits;
use crate::names;
use crate::nearest::nearest;
use crate::resolve::Resolver;
use crate::source::At;
use crate::text::{CharText, NameText};

/// What a program that is only names was probably meant to be: `order.id` for `.order.id`.
fn field_of_record(text: &str) -> Option<String> {
    let name = |part: &str| {
        let mut letters = part.chars();
        letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && letters.all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    text.split('.').all(name).then(|| format!("a field of the record is `.{text}`"))
}

impl Resolver<'_> {
    pub(crate) fn transforms(&mut self, path: &str, files: Vec<Located<TransformFile>>) -> Vec<Transform> {
        let mut unpacked = false;
        let mut transforms = Vec::new();
        for (i, file) in files.into_iter().enumerate() {
            let (path, at) = (format!("{path}[{i}]"), file.at);
            let Some(transform) = self.transform(&path, file.value) else { continue };
            unpacked |= matches!(transform, Transform::Decompress(how) if how != Decompress::None);
            if matches!(transform, Transform::CloudwatchLogs { .. }) && !unpacked {
                let finding = Finding::new(at, &path, "envelopes of CloudWatch Logs come as gzip");
                let hint = "`- decompress: gzip` before it, unless somebody has unpacked them".to_owned();
                self.findings.push(finding.hint(hint).warning());
            }
            transforms.push(transform);
        }
        transforms
    }

    fn transform(&mut self, path: &str, file: TransformFile) -> Option<Transform> {
        let transform = match file {
            TransformFile::Decompress(how) => Transform::Decompress(how),
            TransformFile::CloudwatchLogs(file) => {
                Transform::CloudwatchLogs { extract_message: file.extract_message.unwrap_or(false) }
            }
            TransformFile::Split(SplitFile::Json(file)) => {
                let max = file.unwrap_or_default().max;
                let max =
                    max.and_then(|text| self.text(&format!("{path}.split.json.max"), &text, "a number", names::pieces));
                Transform::SplitJson { max: max.unwrap_or(limits::PIECES_DEFAULT) }
            }
            TransformFile::Split(SplitFile::Delimited(text)) => {
                let path = format!("{path}.split.delimited");
                Transform::SplitDelimited(self.text(&path, &text, "a delimiter", names::not_empty)?)
            }
            TransformFile::Parse(file) => Transform::Parse(self.parse(&format!("{path}.parse"), file)?),
            TransformFile::JsonToCsv(file) => {
                let path = format!("{path}.json_to_csv");
                let delimiter = self.character(&format!("{path}.delimiter"), file.delimiter, b',');
                Transform::JsonToCsv {
                    columns: self.columns(&format!("{path}.columns"), file.columns.at, file.columns.value),
                    delimiter,
                }
            }
            TransformFile::Jq(program) => Transform::Jq(self.jq(&format!("{path}.jq"), &program)?),
            TransformFile::Lambda(file) => Transform::Lambda(self.lambda(&format!("{path}.lambda"), file)),
        };
        Some(transform)
    }

    /// A program that compiles.
    pub(crate) fn jq<S: AsRef<str>>(&mut self, path: &str, program: &Located<S>) -> Option<String> {
        self.jq_or_word(path, program, &[])
    }

    /// A program where one of some words could stand in its place.
    pub(crate) fn jq_or_word<S: AsRef<str>>(
        &mut self,
        path: &str,
        program: &Located<S>,
        words: &[&str],
    ) -> Option<String> {
        let checks = self.checks;
        let hint = |text: &str| {
            let near = nearest(text, words.iter().copied()).map(|word| format!("did you mean `{word}`?"));
            near.or_else(|| field_of_record(text))
        };
        self.text(path, program, "a jq program", |text| {
            let checked = checks.jq(text).map(|()| text.to_owned());
            checked.map_err(|error| TextError { hint: error.hint.or_else(|| hint(text)), ..error })
        })
    }

    fn parse(&mut self, path: &str, file: ParseFile) -> Option<Parse> {
        Some(match file {
            ParseFile::ApacheCommon => Parse::ApacheCommon,
            ParseFile::ApacheCombined => Parse::ApacheCombined,
            ParseFile::SyslogRfc3164 => Parse::SyslogRfc3164,
            ParseFile::SyslogRfc5424 => Parse::SyslogRfc5424,
            ParseFile::Xml => Parse::Xml,
            ParseFile::Csv(file) => self.csv(&format!("{path}.csv"), file.unwrap_or_default()),
            ParseFile::Regex(file) => {
                let (path, checks) = (format!("{path}.regex.pattern"), self.checks);
                let check = |text: &str| checks.regex(text).map(|()| text.to_owned());
                Parse::Regex(self.text(&path, &file.pattern, "a pattern", check)?)
            }
        })
    }

    fn csv(&mut self, path: &str, file: ParseCsvFile) -> Parse {
        let delimiter = self.character(&format!("{path}.delimiter"), file.delimiter, b',');
        let quote = self.character(&format!("{path}.quote"), file.quote, b'"');
        let columns = file.columns.map(|columns| self.columns(&format!("{path}.columns"), columns.at, columns.value));
        Parse::Csv { columns, delimiter, quote }
    }

    /// Names of columns, each once.
    fn columns(&mut self, path: &str, at: At, names: Vec<Located<NameText>>) -> Vec<String> {
        if names.is_empty() {
            self.findings
                .push(Finding::new(at, path, format!("`{path}` is empty")).label("at least one column is expected"));
        }
        for (i, name) in names.iter().enumerate() {
            if let Some(first) = names[..i].iter().find(|first| first.value.0 == name.value.0) {
                let finding = Finding::new(name.at, &format!("{path}[{i}]"), "two columns have the same name");
                self.findings.push(finding.label("the second one").also(first.at, "the first one"));
            }
        }
        names.into_iter().map(|name| name.value.0).collect()
    }

    fn character(&mut self, path: &str, text: Option<Located<CharText>>, default: u8) -> u8 {
        let found = text.and_then(|text| self.text(path, &text, "one character", names::character));
        found.unwrap_or(default)
    }

    fn lambda(&mut self, path: &str, file: LambdaFile) -> Lambda {
        let function = self.text(&format!("{path}.function"), &file.function, "a function", names::function);
        let retries = file
            .retries
            .and_then(|text| self.text(&format!("{path}.retries"), &text, "a number of retries", names::retries));
        let buffer = file.buffer.unwrap_or_default();
        let size =
            buffer.size.and_then(|text| self.size(&format!("{path}.buffer.size"), &text, &limits::LAMBDA_BUFFER_BYTES));
        let interval = buffer
            .interval
            .and_then(|text| self.duration(&format!("{path}.buffer.interval"), &text, &limits::LAMBDA_BUFFER_INTERVAL));
        Lambda {
            function: function.unwrap_or_default(),
            retries: retries.unwrap_or(limits::LAMBDA_RETRIES_DEFAULT),
            buffer_bytes: size.unwrap_or(limits::LAMBDA_BUFFER_BYTES_DEFAULT),
            buffer_interval: interval.unwrap_or(Duration::from_secs(60)),
        }
    }
}
