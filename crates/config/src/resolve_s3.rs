//! Implements, of the arrow `what the user wrote -> what it means`: the destinations of a pipeline.
//!
//! The rules between fields are here: Parquet needs columns and compresses inside, an expression in `prefix` needs an
//! `error_prefix`.
//! Never: asks whether a bucket exists.

use standpipe_flow::DestinationId;

use crate::config::{Compression, Destination, Format, RecordDelimiter, S3};
use crate::decode::Located;
use crate::errors::Finding;
use crate::file::{DestinationFile, FormatFile, ParquetFile, S3File, SchemaFile};
use crate::limits;
use crate::names;
use crate::resolve::Resolver;
use crate::source::At;
use crate::template::Template;

impl Resolver<'_> {
    pub(crate) fn destinations(
        &mut self,
        path: &str,
        files: Located<Vec<Located<DestinationFile>>>,
    ) -> Vec<Destination> {
        if files.value.is_empty() {
            let message = format!("`{path}` is empty");
            self.findings.push(Finding::new(files.at, path, message).label("at least one destination is expected"));
        }
        if let Some(second) = files.value.get(limits::DESTINATIONS_MAX) {
            self.findings.push(
                Finding::new(second.at, path, "several destinations of one pipeline are not built yet")
                    .label("a second destination")
                    .hint("two pipelines may read the same stream, each under a name of its own".to_owned())
                    .not_built(),
            );
        }
        let files = files.value.into_iter().enumerate();
        files
            .map(|(i, file)| match file.value {
                DestinationFile::S3(s3) => Destination::S3(Box::new(self.s3(&format!("{path}[{i}].s3"), *s3, file.at))),
            })
            .collect()
    }

    fn s3(&mut self, path: &str, file: S3File, at: At) -> S3 {
        let field = |name: &str| format!("{path}.{name}");
        let id = file.id.and_then(|text| self.text(&field("id"), &text, "a destination's id", names::destination_id));
        let bucket = self.text(&field("bucket"), &file.bucket, "a bucket", names::bucket);
        let (prefix, error_prefix) = self.prefixes(path, file.prefix.as_ref(), file.error_prefix.as_ref());
        let format_at = file.format.as_ref().map_or(at, |format| format.at);
        let written = file.format.map_or(FormatFile::JsonLines, |format| format.value);
        let parquet = matches!(written, FormatFile::Parquet(_));
        let format = self.format(path, written, format_at, file.schema);
        let compression = file.compression.as_ref();
        if let Some(compression) = compression.filter(|c| parquet && c.value != Compression::None) {
            self.findings.push(
                Finding::new(compression.at, &field("compression"), "parquet is compressed inside, not as a whole")
                    .hint("for example `format: { parquet: { compression: zstd } }`".to_owned()),
            );
        }
        if let Some(delimiter) = file.record_delimiter.as_ref().filter(|d| parquet && d.value != RecordDelimiter::None)
        {
            let message = "a record of parquet has no delimiter";
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
        let kms =
            file.encryption.and_then(|e| self.text(&field("encryption.kms"), &e.kms, "a KMS key", names::kms_key));
        let size_default = if parquet { limits::BUFFER_BYTES_PARQUET_DEFAULT } else { limits::BUFFER_BYTES_DEFAULT };
        S3 {
            id: DestinationId::new(id.unwrap_or_else(|| "s3".to_owned())),
            bucket: bucket.unwrap_or_default(),
            prefix,
            error_prefix,
            extension: extension.unwrap_or_else(|| extension_of(&format, compression).to_owned()),
            format,
            compression,
            record_delimiter: file.record_delimiter.map_or(own, |d| d.value),
            buffer_bytes: size.unwrap_or(size_default),
            buffer_interval: interval.unwrap_or(limits::BUFFER_INTERVAL_DEFAULT),
            kms_key: kms,
            lost_object: file.lost_object.unwrap_or_default(),
        }
    }

    /// Both prefixes; a trouble of the second that lies in the first is shown there.
    fn prefixes<S: AsRef<str>>(
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

    fn format(&mut self, path: &str, written: FormatFile, at: At, schema: Option<Located<SchemaFile>>) -> Format {
        let schema_path = format!("{path}.schema");
        let word = match written {
            FormatFile::Parquet(settings) => {
                return self.parquet(&schema_path, settings.unwrap_or_default(), at, schema);
            }
            FormatFile::Raw => "raw",
            FormatFile::JsonLines => "json_lines",
        };
        if let Some(schema) = schema {
            let message = format!("a schema has no meaning for {word}");
            let hint = "it is for `format: parquet`".to_owned();
            self.findings.push(Finding::new(schema.at, &schema_path, message).hint(hint));
        }
        if word == "raw" { Format::Raw } else { Format::JsonLines }
    }

    fn parquet(&mut self, path: &str, settings: ParquetFile, at: At, schema: Option<Located<SchemaFile>>) -> Format {
        let compression = settings.compression.unwrap_or_default();
        let Some(schema) = schema else {
            self.findings.push(
                Finding::new(at, path, "parquet needs a `schema` beside it").label("a table has columns").hint(
                    "for example `schema: { columns: \"id bigint, total double\" }`; `standpipe infer FILE` prints one"
                        .to_owned(),
                ),
            );
            return Format::Parquet { compression, columns: String::new() };
        };
        let columns = schema.value.columns;
        let check = |text: &str| {
            if text.len() > limits::COLUMNS_BYTES_MAX {
                return Err(format!("it has more than {} bytes", limits::COLUMNS_BYTES_MAX));
            }
            (self.checks.columns)(text)
        };
        let checked = check(&columns.value.0);
        self.text(&format!("{path}.columns"), &columns, "a column list", |_| checked);
        Format::Parquet { compression, columns: columns.value.0 }
    }
}

/// The end of object keys: that of the format, or of the compression.
fn extension_of(format: &Format, compression: Compression) -> &'static str {
    match (format, compression) {
        (Format::Parquet { .. }, _) => ".parquet",
        (_, Compression::Gzip) => ".gz",
        (_, Compression::Zstd) => ".zst",
        (_, Compression::None) => "",
    }
}
