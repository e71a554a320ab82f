//! Implements, of the arrow `what the user wrote -> what it means`: what an object holds, and the columns of tables.
//!
//! Never: asks Glue.

use std::path::Path;

use crate::config::{Deserializer, Format, Glue, Orc, Parquet, Table, TableColumns};
use crate::decode::Located;
use crate::errors::Finding;
use crate::file::s3::{DeserializerFile, FormatFile, GlueFile, OrcFile, ParquetFile, SchemaFile};
use crate::limits;
use crate::load;
use crate::names;
use crate::resolve::Resolver;
use crate::source::At;
use crate::text::{ColumnsText, NameText, PathText};

impl Resolver<'_> {
    /// What an object holds; `at` is where that is said.
    pub(crate) fn format(
        &mut self,
        path: &str,
        (written, at): (FormatFile, At),
        schema: Option<Located<SchemaFile>>,
        deserializer: Option<Located<DeserializerFile>>,
    ) -> Format {
        let word = match &written {
            FormatFile::Raw => "raw",
            FormatFile::JsonLines => "json_lines",
            FormatFile::Parquet(_) => "parquet",
            FormatFile::Orc(_) => "orc",
        };
        let path_of = |key: &str| format!("{path}.{key}");
        let of_tables =
            [("schema", schema.as_ref().map(|s| s.at)), ("deserializer", deserializer.as_ref().map(|d| d.at))];
        match written {
            FormatFile::Parquet(file) => {
                let table = self.table(path, (word, at), schema, deserializer);
                self.parquet(&path_of("format"), *file.unwrap_or_default(), table)
            }
            FormatFile::Orc(file) => {
                let table = self.table(path, (word, at), schema, deserializer);
                self.orc(&path_of("format"), (file.unwrap_or_default(), at), table)
            }
            lines => {
                for (key, at) in of_tables.into_iter().filter_map(|(key, at)| Some((key, at?))) {
                    let hint = "it is for `format: parquet` and `format: orc`".to_owned();
                    let message = format!("a {key} has no meaning for {word}");
                    self.findings.push(Finding::new(at, &path_of(key), message).hint(hint));
                }
                if matches!(lines, FormatFile::Raw) { Format::Raw } else { Format::JsonLines }
            }
        }
    }

    fn parquet(&mut self, path: &str, file: ParquetFile, table: Table) -> Format {
        let page = file.page_size.and_then(|text| self.size(&format!("{path}.page_size"), &text, &limits::PAGE_BYTES));
        let group = file
            .row_group_size
            .and_then(|text| self.size(&format!("{path}.row_group_size"), &text, &limits::ROW_GROUP_BYTES));
        Format::Parquet(Box::new(Parquet {
            table,
            compression: file.compression.unwrap_or_default(),
            dictionary: file.dictionary.unwrap_or(true),
            page_bytes: page.unwrap_or(limits::PAGE_BYTES_DEFAULT),
            row_group_bytes: group.unwrap_or(limits::ROW_GROUP_BYTES_DEFAULT),
            version: file.version.unwrap_or_default(),
            timestamps: file.timestamps.unwrap_or_default(),
        }))
    }

    fn orc(&mut self, path: &str, (file, at): (OrcFile, At), table: Table) -> Format {
        let stripe =
            file.stripe_size.and_then(|text| self.size(&format!("{path}.stripe_size"), &text, &limits::STRIPE_BYTES));
        if let TableColumns::Written(schema) = &table.columns
            && !schema.is_empty()
            && let Err(e) = self.checks.orc(schema)
        {
            let message = format!("ORC cannot hold these columns: {}", e.reason);
            self.findings.push(Finding::new(at, path, message).hint("`format: parquet` can".to_owned()));
        }
        let stride = file
            .row_index_stride
            .and_then(|text| self.text(&format!("{path}.row_index_stride"), &text, "a number of rows", names::stride));
        let threshold = file
            .dictionary_threshold
            .and_then(|text| self.text(&format!("{path}.dictionary_threshold"), &text, "a share", names::percent));
        Format::Orc(Box::new(Orc {
            table,
            compression: file.compression.unwrap_or_default(),
            stripe_bytes: stripe.unwrap_or(limits::STRIPE_BYTES_DEFAULT),
            row_index_stride: stride.unwrap_or(limits::STRIDE_DEFAULT),
            dictionary_threshold: threshold.unwrap_or(limits::DICTIONARY_THRESHOLD_DEFAULT),
        }))
    }

    fn table(
        &mut self,
        path: &str,
        (word, at): (&str, At),
        schema: Option<Located<SchemaFile>>,
        deserializer: Option<Located<DeserializerFile>>,
    ) -> Table {
        let schema_path = format!("{path}.schema");
        let columns = match schema.map(|schema| schema.value) {
            Some(SchemaFile::Columns(text)) => self.written(&format!("{schema_path}.columns"), &text),
            Some(SchemaFile::File(text)) => self.schema_file(&format!("{schema_path}.file"), &text),
            Some(SchemaFile::Glue(file)) => TableColumns::Glue(self.glue(&format!("{schema_path}.glue"), *file)),
            Some(SchemaFile::Infer(file)) => {
                let path = format!("{schema_path}.infer.sample");
                let sample = file.sample.and_then(|text| self.text(&path, &text, "a number of records", names::sample));
                TableColumns::Inferred { sample: sample.unwrap_or(limits::SAMPLE_DEFAULT) }
            }
            None => {
                self.findings.push(
                    Finding::new(at, &schema_path, format!("{word} needs a `schema` beside it"))
                        .label("a table has columns")
                        .hint(
                            "for example `schema: { columns: \"id bigint, total double\" }`; `standpipe infer FILE` \
                             prints one"
                                .to_owned(),
                        ),
                );
                TableColumns::Written(String::new())
            }
        };
        let path = format!("{path}.deserializer");
        let deserializer_at = deserializer.as_ref().map_or(at, |found| found.at);
        let deserializer = self.deserializer(&path, deserializer.map(|found| found.value));
        if let TableColumns::Written(schema) = &columns
            && !schema.is_empty()
            && let Err(e) = self.checks.rows(schema, &deserializer)
        {
            let finding = Finding::new(deserializer_at, &path, format!("it does not fit the columns: {}", e.reason));
            self.findings.push(finding.hint(e.hint));
        }
        if let (TableColumns::Inferred { .. }, Deserializer::Openx { column_keys, .. }) = (&columns, &deserializer)
            && !column_keys.is_empty()
        {
            let message = "`column_keys` renames columns, and inferred ones have the names of their keys";
            let hint = "`standpipe infer FILE` prints columns for `schema: { columns: ... }`".to_owned();
            self.findings.push(Finding::new(deserializer_at, &path, message).hint(hint));
        }
        Table { columns, deserializer }
    }

    fn written(&mut self, path: &str, text: &Located<ColumnsText>) -> TableColumns {
        let checks = self.checks;
        let check = |text: &str| {
            if text.len() > limits::COLUMNS_BYTES_MAX {
                return Err(format!("it has more than {} bytes", limits::COLUMNS_BYTES_MAX).into());
            }
            checks.columns(text)
        };
        self.text(path, text, "a column list", check);
        TableColumns::Written(text.value.0.clone())
    }

    /// The content of a file; a relative path begins where the config stands.
    fn schema_file(&mut self, path: &str, text: &Located<PathText>) -> TableColumns {
        let folder = Path::new(self.sources.name(text.at.file)).parent().unwrap_or(Path::new(""));
        let file = folder.join(&text.value.0);
        let found = load::read(&file, &file.display().to_string());
        let content = match found {
            Ok(content) => content,
            Err(errors) => {
                let reason = errors.errors.first().map_or_else(String::new, |e| e.message.clone());
                let shown = if text.from_env { "the file".to_owned() } else { format!("`{}`", file.display()) };
                let finding = Finding::new(text.at, path, format!("{shown} cannot be read: {reason}"));
                self.findings.push(finding.hint("a relative path begins at the folder of this file".to_owned()));
                return TableColumns::Written(String::new());
            }
        };
        if let Err(e) = self.checks.schema(&content) {
            let shown = if text.from_env { "the file".to_owned() } else { format!("`{}`", file.display()) };
            let message = format!("{shown} does not describe a table: {}", e.reason);
            self.findings.push(Finding::new(text.at, path, message).hint(e.hint));
        }
        TableColumns::Written(content)
    }

    fn glue(&mut self, path: &str, file: GlueFile) -> Glue {
        let catalog =
            file.catalog.and_then(|text| self.text(&format!("{path}.catalog"), &text, "an account", names::account));
        let region =
            file.region.and_then(|text| self.text(&format!("{path}.region"), &text, "a region", names::region));
        let version = file.version.map(|text| text.value.0).filter(|version| !version.eq_ignore_ascii_case("latest"));
        Glue { database: file.database.value.0, table: file.table.value.0, catalog, region, version }
    }

    fn deserializer(&mut self, path: &str, file: Option<DeserializerFile>) -> Deserializer {
        match file.unwrap_or(DeserializerFile::Openx(None)) {
            DeserializerFile::Openx(file) => {
                let file = file.unwrap_or_default();
                let keys = file.column_keys.map(|named| named.0).unwrap_or_default();
                Deserializer::Openx {
                    case_insensitive: file.case_insensitive.unwrap_or(true),
                    convert_dots_in_keys: file.convert_dots_in_keys.unwrap_or(false),
                    column_keys: keys.into_iter().map(|(column, key)| (column.value, key.value.0)).collect(),
                }
            }
            DeserializerFile::Hive(file) => {
                let formats = file.unwrap_or_default().timestamp_formats.unwrap_or_default();
                let formats = formats.iter().enumerate().filter_map(|(i, text)| self.joda(path, i, text));
                Deserializer::Hive { timestamp_formats: formats.collect() }
            }
        }
    }

    fn joda(&mut self, path: &str, index: usize, text: &Located<NameText>) -> Option<String> {
        let path = format!("{path}.hive.timestamp_formats[{index}]");
        let checks = self.checks;
        let check = |text: &str| checks.joda(text).map(|()| text.to_owned());
        self.text(&path, text, "a pattern of times", check)
    }
}
