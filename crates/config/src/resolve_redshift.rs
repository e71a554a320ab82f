//! Implements, of the arrow `what the user wrote -> what it means`: a `redshift` destination.
//!
//! The rules between fields are here: a workgroup or a cluster, a user only of a cluster, a literal staging prefix
//! (Firehose's rule), options of COPY that fit the format and the compression.
//! Never: asks whether a table exists.

use standpipe_flow::DestinationId;

use crate::config::{Copy, Format, Redshift, RedshiftAuth, RedshiftFormat, RedshiftTarget, Staging, TableColumns};
use crate::copy_options::{self, CopyOptions, LoadKind};
use crate::decode::Located;
use crate::errors::Finding;
use crate::file::redshift::{
    AuthFile, CopyFile, LoadFormatFile, RedshiftFile, RetryFile, StagingCompression, StagingFile,
};
use crate::file::s3::{DeserializerFile, FormatFile, SchemaFile};
use crate::limits;
use crate::names;
use crate::resolve::{Refusal, Resolver};
use crate::source::At;
use crate::sql_names;
use crate::template::Template;
use crate::text::NameText;

impl Resolver<'_> {
    pub(crate) fn redshift(&mut self, path: &str, file: RedshiftFile, at: At) -> Redshift {
        let field = |name: &str| format!("{path}.{name}");
        let id = file.id.and_then(|text| self.text(&field("id"), &text, "a destination's id", names::destination_id));
        let target = self.target(path, (file.workgroup, file.cluster), at);
        let auth = self.redshift_auth(&field("auth"), file.auth, &target);
        let (staging, prefix) = self.staging(&field("staging"), file.staging);
        let format_at = file.format.as_ref().map_or(at, |format| format.at);
        let written = file.format.map_or(LoadFormatFile::JsonLines, |format| format.value);
        let (format, kind) = self.load_format(path, (written, format_at), file.schema, file.deserializer);
        self.check_staging(path, &staging, kind);
        let compression = staging.compression.as_ref().map(|c| c.value).unwrap_or_default();
        let copy = self.copy(&field("copy"), file.copy, kind, compression);
        let error_prefix = match &file.error_prefix {
            Some(text) => self
                .text(&field("error_prefix"), text, "an error prefix", |text| Template::error_prefix(Some(text), None)),
            None => Template::error_prefix(None, Some(&format!("{prefix}errors/"))).ok(),
        };
        let buffer = file.buffer.unwrap_or_default();
        let size = buffer.size.and_then(|text| self.size(&field("buffer.size"), &text, &limits::BUFFER_BYTES));
        let interval =
            buffer.interval.and_then(|text| self.duration(&field("buffer.interval"), &text, &limits::BUFFER_INTERVAL));
        Redshift {
            id: DestinationId::new(id.unwrap_or_else(|| "redshift".to_owned())),
            target,
            database: self.name(&field("database"), &file.database),
            auth,
            staging: Staging {
                bucket: staging.bucket,
                prefix,
                compression,
                region: staging.region.map(|(region, _)| region),
                kms_key: staging.kms_key,
                bucket_owner: staging.bucket_owner,
            },
            copy,
            format,
            error_prefix: error_prefix.unwrap_or_default(),
            buffer_bytes: size.unwrap_or(limits::BUFFER_BYTES_LARGE_DEFAULT),
            buffer_interval: interval.unwrap_or(limits::BUFFER_INTERVAL_DEFAULT),
            retry: self.retry(&field("retry"), file.retry),
            when: file.when.and_then(|program| self.jq(&field("when"), &program)),
            backup: file.backup.and_then(|backup| self.backup(&field("backup"), backup)),
        }
    }

    /// A name that is passed on as it is.
    fn name(&mut self, path: &str, text: &Located<NameText>) -> String {
        self.text(path, text, "a name", names::not_empty).unwrap_or_default()
    }

    fn target(
        &mut self,
        path: &str,
        written: (Option<Located<NameText>>, Option<Located<NameText>>),
        at: At,
    ) -> RedshiftTarget {
        match written {
            (Some(workgroup), None) => RedshiftTarget::Workgroup(self.name(&format!("{path}.workgroup"), &workgroup)),
            (None, Some(cluster)) => RedshiftTarget::Cluster(self.name(&format!("{path}.cluster"), &cluster)),
            (Some(workgroup), Some(cluster)) => {
                let finding = Finding::new(cluster.at, &format!("{path}.cluster"), "both a workgroup and a cluster");
                self.findings.push(finding.label("a cluster").also(workgroup.at, "a workgroup"));
                RedshiftTarget::Workgroup(String::new())
            }
            (None, None) => {
                let finding = Finding::new(at, path, "neither a workgroup nor a cluster");
                let hint = "`workgroup: NAME` of Redshift Serverless, or `cluster: NAME`".to_owned();
                self.findings.push(finding.hint(hint));
                RedshiftTarget::Workgroup(String::new())
            }
        }
    }

    fn redshift_auth(&mut self, path: &str, file: Option<Located<AuthFile>>, target: &RedshiftTarget) -> RedshiftAuth {
        let Some(Located { value: file, at, .. }) = file else { return RedshiftAuth::Identity };
        match file {
            AuthFile::Secretsmanager(secret) => {
                RedshiftAuth::Secret(self.name(&format!("{path}.secretsmanager"), &secret))
            }
            AuthFile::Iam(iam) => {
                if matches!(target, RedshiftTarget::Workgroup(_)) {
                    let finding = Finding::new(at, path, "a workgroup gives no credentials of a database user");
                    let hint =
                        "without `auth` the user is that of the IAM identity; or `auth: { secretsmanager: NAME }`";
                    self.findings.push(finding.hint(hint.to_owned()));
                }
                RedshiftAuth::User(self.name(&format!("{path}.iam.db_user"), &iam.db_user))
            }
        }
    }

    /// What is written of staging, and its prefix, in which there is no expression.
    fn staging(&mut self, path: &str, file: StagingFile) -> (WrittenStaging, String) {
        let field = |name: &str| format!("{path}.{name}");
        let prefix = file.prefix.and_then(|text| self.text(&field("prefix"), &text, "a staging prefix", literal));
        let region = file
            .region
            .and_then(|text| Some((self.text(&field("region"), &text, "a region", names::region)?, text.at)));
        let staging = WrittenStaging {
            bucket: self.text(&field("bucket"), &file.bucket, "a bucket", names::bucket).unwrap_or_default(),
            compression: file.compression,
            region,
            kms_key: self.kms_key(path, file.encryption),
            bucket_owner: self.bucket_owner(path, file.bucket_owner),
        };
        (staging, prefix.unwrap_or_default())
    }

    fn check_staging(&mut self, path: &str, staging: &WrittenStaging, kind: LoadKind) {
        if kind != LoadKind::Parquet {
            return;
        }
        if let Some(compression) = staging.compression.as_ref().filter(|c| c.value != StagingCompression::None) {
            let path = format!("{path}.staging.compression");
            let finding = Finding::new(compression.at, &path, "a table is compressed inside, not as a whole");
            self.findings.push(finding.hint("for example `format: { parquet: { compression: zstd } }`".to_owned()));
        }
        if let Some((_, at)) = &staging.region {
            let finding = Finding::new(
                *at,
                &format!("{path}.staging.region"),
                "COPY reads columnar files of its own region alone",
            );
            self.findings.push(finding.hint("a bucket in the region of the table".to_owned()));
        }
    }

    fn load_format(
        &mut self,
        path: &str,
        (written, at): (LoadFormatFile, At),
        schema: Option<Located<SchemaFile>>,
        deserializer: Option<Located<DeserializerFile>>,
    ) -> (RedshiftFormat, LoadKind) {
        let (written, kind) = match written {
            LoadFormatFile::JsonLines => (FormatFile::JsonLines, LoadKind::Json),
            LoadFormatFile::Csv => (FormatFile::JsonLines, LoadKind::Csv),
            LoadFormatFile::Parquet(file) => (FormatFile::Parquet(file), LoadKind::Parquet),
        };
        let format = self.format(path, (written, at), schema, deserializer);
        if let Some(TableColumns::Inferred { .. }) = format.table().map(|table| &table.columns) {
            let finding = Finding::new(at, &format!("{path}.schema"), "columns of a load cannot be inferred");
            self.findings.push(finding.hint("COPY takes the columns of a Parquet file by their order".to_owned()));
        }
        match (format, kind) {
            (Format::Parquet(parquet), _) => (RedshiftFormat::Parquet(parquet), kind),
            (_, LoadKind::Csv) => (RedshiftFormat::Csv, kind),
            _ => (RedshiftFormat::JsonLines, kind),
        }
    }

    fn copy(&mut self, path: &str, file: CopyFile, kind: LoadKind, compression: StagingCompression) -> Copy {
        let table = self.text(&format!("{path}.table"), &file.table, "a table", sql_names::table);
        let (schema, table) = table.unwrap_or_default();
        let mut columns: Vec<String> = Vec::new();
        for (i, text) in file.columns.iter().flatten().enumerate() {
            let path = format!("{path}.columns[{i}]");
            let Some(column) = self.text(&path, text, "a column", sql_names::column) else { continue };
            if columns.contains(&column) {
                self.findings.push(Finding::new(text.at, &path, "a column is named twice"));
            }
            columns.push(column);
            if columns.len() == limits::TABLE_COLUMNS_MAX + 1 {
                let message = format!("more than {} columns", limits::TABLE_COLUMNS_MAX);
                self.findings.push(Finding::new(text.at, &path, message));
            }
        }
        let options = match &file.options {
            Some(text) => self.text(&format!("{path}.options"), text, "a list of options of COPY", |text| {
                copy_options::parse(text, kind, compression)
            }),
            None => copy_options::parse("", kind, compression).ok(),
        };
        let role = file.role.and_then(|text| self.text(&format!("{path}.role"), &text, "a role", names::roles));
        let CopyOptions { sql: options, errors_max } = options.unwrap_or_default();
        Copy { schema, table, columns, role, options, errors_max }
    }

    fn retry(&mut self, path: &str, file: Option<RetryFile>) -> std::time::Duration {
        let written = file.unwrap_or_default().duration;
        let written = written.and_then(|text| self.duration(&format!("{path}.for"), &text, &limits::RETRY));
        written.unwrap_or(limits::RETRY_DEFAULT)
    }
}

struct WrittenStaging {
    bucket: String,
    compression: Option<Located<StagingCompression>>,
    region: Option<(String, At)>,
    kms_key: Option<String>,
    bucket_owner: Option<String>,
}

/// A prefix without an expression, of characters that a literal of SQL holds as they are.
fn literal(text: &str) -> Result<String, Refusal> {
    if text.contains("!{") {
        return Err("an expression has no place in it, as with Firehose".to_owned().into());
    }
    if text.contains(['\'', '"', '\\']) || text.chars().any(char::is_control) {
        return Err("a quote, a backslash or a control character".to_owned().into());
    }
    Template::prefix(Some(text)).map_err(Refusal::from)?;
    Ok(text.to_owned())
}
