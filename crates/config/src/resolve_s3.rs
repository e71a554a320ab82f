//! Implements, of the arrow `what the user wrote -> what it means`: the destinations of a pipeline.
//!
//! The rules between fields are here, Firehose's where it has them: tables compress inside, an expression in `prefix` needs
//! an `error_prefix`, the keys of partitions are exactly those that the prefix names.
//! Never: asks whether a bucket exists.

use std::collections::{BTreeMap, BTreeSet};

use standpipe_flow::DestinationId;

use crate::config::{Backup, Compression, Destination, Format, Partitions, RecordDelimiter, S3};
use crate::decode::Located;
use crate::errors::Finding;
use crate::file::DestinationFile;
use crate::file::s3::{
    BackupFile, BackupMode, EncryptionFile, FormatFile, OnMissingFile, PartitionBy, PartitionsFile, S3File,
};
use crate::limits;
use crate::names;
use crate::resolve::Resolver;
use crate::source::At;
use crate::template::{self, Template};
use crate::text::AccountText;

impl Resolver<'_> {
    /// `asks_lambda`: whether a Lambda function may give partition keys.
    pub(crate) fn destinations(
        &mut self,
        path: &str,
        files: Located<Vec<Located<DestinationFile>>>,
        asks_lambda: bool,
    ) -> Vec<Destination> {
        if files.value.is_empty() {
            let message = format!("`{path}` is empty");
            self.findings.push(Finding::new(files.at, path, message).label("at least one destination is expected"));
        }
        if let Some(beyond) = files.value.get(limits::DESTINATIONS_MAX) {
            let message = format!("more than {} destinations", limits::DESTINATIONS_MAX);
            let hint = "several pipelines may read the same stream, each under a name of its own".to_owned();
            self.findings.push(Finding::new(beyond.at, path, message).hint(hint));
        }
        let mut ids: BTreeMap<DestinationId, At> = BTreeMap::new();
        let mut destinations = Vec::new();
        for (i, file) in files.value.into_iter().enumerate() {
            let (id_at, destination) = match file.value {
                DestinationFile::S3(s3) => {
                    let id_at = s3.id.as_ref().map(|id| id.at);
                    let s3 = self.s3(&format!("{path}[{i}].s3"), *s3, file.at, asks_lambda);
                    (id_at, Destination::S3(Box::new(s3)))
                }
                DestinationFile::Redshift(redshift) => {
                    let id_at = redshift.id.as_ref().map(|id| id.at);
                    let redshift = self.redshift(&format!("{path}[{i}].redshift"), *redshift, file.at);
                    (id_at, Destination::Redshift(Box::new(redshift)))
                }
                DestinationFile::OpenSearch(opensearch) => {
                    let id_at = opensearch.id.as_ref().map(|id| id.at);
                    let opensearch = self.opensearch(&format!("{path}[{i}].opensearch"), *opensearch, file.at);
                    (id_at, Destination::OpenSearch(Box::new(opensearch)))
                }
                DestinationFile::Http(http) => {
                    let id_at = http.id.as_ref().map(|id| id.at);
                    let http = self.http_endpoint(&format!("{path}[{i}].http"), *http, file.at);
                    (id_at, Destination::Http(Box::new(http)))
                }
            };
            let path = format!("{path}[{i}].{}", destination.kind());
            let at = id_at.unwrap_or(file.at);
            if let Some(first) = ids.insert(destination.id().clone(), at) {
                let finding = Finding::new(at, &format!("{path}.id"), "two destinations of a pipeline share an id");
                let hint = "an id names the destination's position: each needs its own, as in `id: lake`".to_owned();
                self.findings.push(finding.label("the second one").also(first, "the first one").hint(hint));
            }
            destinations.push(destination);
        }
        destinations
    }

    fn s3(&mut self, path: &str, file: S3File, at: At, asks_lambda: bool) -> S3 {
        let field = |name: &str| format!("{path}.{name}");
        let id = file.id.and_then(|text| self.text(&field("id"), &text, "a destination's id", names::destination_id));
        let bucket = self.text(&field("bucket"), &file.bucket, "a bucket", names::bucket);
        let (prefix, error_prefix) = self.prefixes(path, file.prefix.as_ref(), file.error_prefix.as_ref());
        let prefix_at = file.prefix.as_ref().map_or(at, |prefix| prefix.at);
        if prefix.is_unconfined() && !file.allow_unconfined_prefix.unwrap_or(false) {
            let finding = Finding::new(prefix_at, &field("prefix"), "keys would begin with what a record says");
            let hint = "begin with a text of your own, as in `orders/!{...}`, or set `allow_unconfined_prefix: true`";
            self.findings.push(finding.hint(hint.to_owned()));
        }
        let partitions = self.partitions(path, (&prefix, prefix_at), (file.partition_by, file.partitions), asks_lambda);
        let format_at = file.format.as_ref().map_or(at, |format| format.at);
        let written = file.format.map_or(FormatFile::JsonLines, |format| format.value);
        let format = self.format(path, (written, format_at), file.schema, file.deserializer);
        let compression = file.compression.as_ref();
        if let Some(compression) = compression.filter(|c| format.is_table() && c.value != Compression::None) {
            self.findings.push(
                Finding::new(compression.at, &field("compression"), "a table is compressed inside, not as a whole")
                    .hint("for example `format: { parquet: { compression: zstd } }`".to_owned()),
            );
        }
        let delimiter = file.record_delimiter.as_ref();
        if let Some(delimiter) = delimiter.filter(|d| format.is_table() && d.value != RecordDelimiter::None) {
            let message = "a record of a table has no delimiter";
            self.findings.push(Finding::new(delimiter.at, &field("record_delimiter"), message));
        }
        let compression = compression.map(|c| c.value).unwrap_or_default();
        let own = if format == Format::JsonLines { RecordDelimiter::Newline } else { RecordDelimiter::None };
        let extension = file
            .file_extension
            .and_then(|text| self.text(&field("file_extension"), &text, "a file extension", names::extension));
        let buffer = file.buffer.unwrap_or_default();
        let size = buffer.size.and_then(|text| self.size(&field("buffer.size"), &text, &limits::BUFFER_BYTES));
        let interval =
            buffer.interval.and_then(|text| self.duration(&field("buffer.interval"), &text, &limits::BUFFER_INTERVAL));
        let large = format.is_table() || partitions.is_some();
        S3 {
            id: DestinationId::new(id.unwrap_or_else(|| "s3".to_owned())),
            bucket: bucket.unwrap_or_default(),
            prefix,
            error_prefix,
            extension: extension.unwrap_or_else(|| extension_of(&format, compression).to_owned()),
            format,
            compression,
            record_delimiter: file.record_delimiter.map_or(own, |d| d.value),
            buffer_bytes: size.unwrap_or(if large {
                limits::BUFFER_BYTES_LARGE_DEFAULT
            } else {
                limits::BUFFER_BYTES_DEFAULT
            }),
            buffer_interval: interval.unwrap_or(limits::BUFFER_INTERVAL_DEFAULT),
            kms_key: self.kms_key(path, file.encryption),
            lost_object: file.lost_object.unwrap_or_default(),
            when: file.when.and_then(|program| self.jq(&field("when"), &program)),
            partitions,
            time_zone: file
                .time_zone
                .and_then(|text| self.text(&field("time_zone"), &text, "a time zone", names::time_zone)),
            bucket_owner: self.bucket_owner(path, file.bucket_owner),
            backup: file.backup.and_then(|backup| self.backup(&field("backup"), backup)),
        }
    }

    /// The keys of partitions: those of queries are exactly those that the prefix names, as with Firehose.
    fn partitions(
        &mut self,
        path: &str,
        (prefix, prefix_at): (&Template, At),
        (by, file): (Option<PartitionBy>, Option<Located<PartitionsFile>>),
        asks_lambda: bool,
    ) -> Option<Partitions> {
        let field = |name: &str| format!("{path}.{name}");
        let mut query = Vec::new();
        let mut written: BTreeSet<String> = BTreeSet::new();
        let named = prefix.query_keys();
        for (key, program) in by.into_iter().flat_map(|by| by.value.0) {
            let at = field(&format!("partition_by.{}", key.value));
            if !template::is_key(&key.value) {
                let hint = "letters, digits, `_`, `-` and `.`, at most 128".to_owned();
                self.findings.push(Finding::new(key.at, &at, "this is no partition key").hint(hint));
            } else if !named.contains(key.value.as_str()) {
                let message = format!("the prefix does not name the partition key `{}`", key.value);
                let hint = format!("`!{{partitionKeyFromQuery:{}}}` in `prefix`", key.value);
                self.findings.push(Finding::new(key.at, &at, message).also(prefix_at, "the prefix").hint(hint));
            }
            if let Some(program) = self.jq(&at, &program) {
                query.push((key.value.clone(), program));
            }
            written.insert(key.value);
            if query.len() == limits::PARTITION_KEYS_MAX + 1 {
                let message = format!("more than {} partition keys", limits::PARTITION_KEYS_MAX);
                self.findings.push(Finding::new(key.at, &at, message));
            }
        }
        if let Some(missing) = named.iter().find(|key| !written.contains(**key)) {
            let message = format!("`partition_by` has no key `{missing}`");
            let hint = format!("for example `partition_by: {{ {missing}: .{missing} }}`");
            self.findings.push(Finding::new(prefix_at, &field("prefix"), message).label("named here").hint(hint));
        }
        let lambda: Vec<String> = prefix.lambda_keys().into_iter().map(str::to_owned).collect();
        if !lambda.is_empty() && !asks_lambda {
            let finding = Finding::new(prefix_at, &field("prefix"), "no Lambda function gives a partition key");
            self.findings.push(finding.hint("a `lambda` under `transforms` of the pipeline does".to_owned()));
        }
        if query.is_empty() && lambda.is_empty() {
            if let Some(file) = file {
                let finding = Finding::new(file.at, &field("partitions"), "there are no partitions");
                self.findings.push(finding.hint("`partition_by: { KEY: JQ }` makes them".to_owned()));
            }
            return None;
        }
        let file = file.map(|file| file.value).unwrap_or_default();
        let max = file
            .max_active
            .and_then(|text| self.text(&field("partitions.max_active"), &text, "a number", names::partitions));
        Some(Partitions {
            query,
            lambda,
            max_active: max.unwrap_or(limits::PARTITIONS_DEFAULT),
            publish: file.publish.unwrap_or_default(),
            default: match file.on_missing.unwrap_or_default() {
                OnMissingFile::Error => None,
                OnMissingFile::Default(value) => {
                    self.text(&field("partitions.on_missing.default"), &value, "a value", names::not_empty)
                }
            },
        })
    }

    pub(crate) fn backup(
        &mut self,
        path: &str,
        Located { value: file, at, .. }: Located<BackupFile>,
    ) -> Option<Backup> {
        if file.mode.unwrap_or_default() != BackupMode::All {
            return None;
        }
        let Some(bucket) = file.bucket else {
            let finding = Finding::new(at, path, "a backup of all records needs a `bucket`");
            self.findings.push(finding.hint("for example `backup: { bucket: acme-raw, prefix: orders/ }`".to_owned()));
            return None;
        };
        let bucket = self.text(&format!("{path}.bucket"), &bucket, "a bucket", names::bucket);
        let prefix_path = format!("{path}.prefix");
        let prefix = match &file.prefix {
            Some(text) => self.text(&prefix_path, text, "a prefix", |text| Template::prefix(Some(text))),
            None => Template::prefix(None).ok(),
        };
        let prefix = prefix.unwrap_or_default();
        if let Some(text) = file.prefix.filter(|_| !prefix.query_keys().is_empty() || !prefix.lambda_keys().is_empty())
        {
            let message = "records as they were read have no partition keys";
            self.findings.push(Finding::new(text.at, &prefix_path, message));
        }
        Some(Backup {
            bucket: bucket.unwrap_or_default(),
            prefix,
            compression: file.compression.unwrap_or_default(),
            kms_key: self.kms_key(path, file.encryption),
            bucket_owner: self.bucket_owner(path, file.bucket_owner),
        })
    }

    pub(crate) fn kms_key(&mut self, path: &str, file: Option<EncryptionFile>) -> Option<String> {
        file.and_then(|file| self.text(&format!("{path}.encryption.kms"), &file.kms, "a KMS key", names::kms_key))
    }

    pub(crate) fn bucket_owner(&mut self, path: &str, text: Option<Located<AccountText>>) -> Option<String> {
        text.and_then(|text| self.text(&format!("{path}.bucket_owner"), &text, "an account", names::account))
    }

    /// Both prefixes; a trouble of the second that lies in the first is shown there.
    pub(crate) fn prefixes<S: AsRef<str>>(
        &mut self,
        path: &str,
        prefix: Option<&Located<S>>,
        error_prefix: Option<&Located<S>>,
    ) -> (Template, Template) {
        let prefix_path = format!("{path}.prefix");
        let prefix_text = prefix.map(|text| text.value.as_ref());
        let data = match prefix {
            Some(text) => self.text(&prefix_path, text, "a prefix", |text| Template::prefix(Some(text))),
            None => Template::prefix(None).ok(),
        };
        let error = match (error_prefix, prefix) {
            (Some(text), _) => {
                let path = format!("{path}.error_prefix");
                self.text(&path, text, "an error prefix", |text| Template::error_prefix(Some(text), prefix_text))
            }
            // A prefix that is wrong by itself has its finding already.
            (None, Some(text)) if data.is_some() => match Template::error_prefix(None, prefix_text) {
                Ok(template) => Some(template),
                Err(e) => {
                    self.findings.push(Finding::new(text.at, &prefix_path, e.message).hint(e.hint));
                    None
                }
            },
            _ => Template::error_prefix(None, None).ok(),
        };
        (data.unwrap_or_default(), error.unwrap_or_default())
    }
}

/// The end of object keys: that of the format, or of the compression.
fn extension_of(format: &Format, compression: Compression) -> &'static str {
    match (format, compression) {
        (Format::Parquet(_), _) => ".parquet",
        (Format::Orc(_), _) => ".orc",
        (_, Compression::Gzip) => ".gz",
        (_, Compression::Zip) => ".zip",
        (_, Compression::Snappy | Compression::HadoopSnappy) => ".snappy",
        (_, Compression::Zstd) => ".zst",
        (_, Compression::None) => "",
    }
}
