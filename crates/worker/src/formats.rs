//! From the config to what objects hold: formats, compressions, and how records become rows.
//!
//! Never here: where objects lie, or asking Glue.

use standpipe_config::config::{self, TableColumns};
use standpipe_convert::{
    Columns, Compression, CurrentRows, Delimiter, Deserializer, Format, Hive, Joda, OpenX, OrcCompression, OrcOptions,
    ParquetCompression, ParquetOptions, ParquetTimestamps, ParquetVersion, RowFormat,
};

/// What the objects of a destination hold. `glue` gives the rows of a table whose columns are in the Glue Data Catalog.
pub(crate) fn format(s3: &config::S3, glue: Option<CurrentRows>) -> Result<Format, String> {
    Ok(match &s3.format {
        config::Format::Raw => Format::Raw,
        config::Format::JsonLines => Format::JsonLines {
            delimiter: match s3.record_delimiter {
                config::RecordDelimiter::Newline => Delimiter::Newline,
                config::RecordDelimiter::None => Delimiter::None,
            },
        },
        config::Format::Parquet(file) => parquet(file, glue)?,
        config::Format::Orc(file) => Format::Orc {
            rows: rows(&file.table, glue)?,
            options: OrcOptions {
                compression: match file.compression {
                    config::OrcCompression::Snappy => OrcCompression::Snappy,
                    config::OrcCompression::Zlib => OrcCompression::Zlib,
                    config::OrcCompression::Zstd => OrcCompression::Zstd,
                    config::OrcCompression::None => OrcCompression::None,
                },
                stripe_bytes: bytes(file.stripe_bytes),
                row_index_stride: file.row_index_stride,
                dictionary_threshold_percent: file.dictionary_threshold,
            },
        },
    })
}

/// A table as Parquet files.
pub(crate) fn parquet(file: &config::Parquet, glue: Option<CurrentRows>) -> Result<Format, String> {
    Ok(Format::Parquet {
        rows: rows(&file.table, glue)?,
        options: ParquetOptions {
            compression: match file.compression {
                config::ParquetCompression::Snappy => ParquetCompression::Snappy,
                config::ParquetCompression::Gzip => ParquetCompression::Gzip,
                config::ParquetCompression::Zstd => ParquetCompression::Zstd,
                config::ParquetCompression::None => ParquetCompression::None,
            },
            dictionary: file.dictionary,
            page_bytes: bytes(file.page_bytes),
            row_group_bytes: bytes(file.row_group_bytes),
            version: match file.version {
                config::ParquetVersion::V1 => ParquetVersion::V1,
                config::ParquetVersion::V2 => ParquetVersion::V2,
            },
            timestamps: match file.timestamps {
                config::ParquetTimestamps::Micros => ParquetTimestamps::Micros,
                config::ParquetTimestamps::Millis => ParquetTimestamps::Millis,
                config::ParquetTimestamps::Int96 => ParquetTimestamps::Int96,
            },
        },
    })
}

fn bytes(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn rows(table: &config::Table, glue: Option<CurrentRows>) -> Result<CurrentRows, String> {
    match (&table.columns, glue) {
        (TableColumns::Written(schema), _) => row_format(schema, &table.deserializer).map(CurrentRows::from),
        (TableColumns::Inferred { .. }, rows) => Ok(rows.unwrap_or_else(CurrentRows::unknown)),
        (TableColumns::Glue(_), Some(rows)) => Ok(rows),
        (TableColumns::Glue(glue), None) => {
            Err(format!("the columns of {}.{} are not known", glue.database, glue.table))
        }
    }
}

/// The rows of a schema that stands in the config or in a file.
fn row_format(schema: &str, written: &config::Deserializer) -> Result<RowFormat, String> {
    let columns = Columns::from_schema(schema).map_err(|error| error.to_string())?;
    RowFormat::new(columns, deserializer(written)?).map_err(|error| error.to_string())
}

/// How records become rows.
pub(crate) fn deserializer(written: &config::Deserializer) -> Result<Deserializer, String> {
    Ok(match written {
        config::Deserializer::Openx { case_insensitive, convert_dots_in_keys, column_keys } => {
            Deserializer::OpenX(OpenX {
                case_insensitive: *case_insensitive,
                convert_dots_in_keys: *convert_dots_in_keys,
                column_to_json_key: column_keys.iter().cloned().collect(),
            })
        }
        config::Deserializer::Hive { timestamp_formats } => {
            let formats = timestamp_formats.iter().map(|pattern| pattern.parse::<Joda>());
            let timestamp_formats = formats.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
            Deserializer::Hive(Hive { timestamp_formats })
        }
    })
}

/// How objects of lines are compressed.
pub(crate) fn compression(written: config::Compression) -> Compression {
    match written {
        config::Compression::None => Compression::None,
        config::Compression::Gzip => Compression::Gzip,
        config::Compression::Zip => Compression::Zip,
        config::Compression::Snappy => Compression::Snappy,
        config::Compression::HadoopSnappy => Compression::HadoopSnappy,
        config::Compression::Zstd => Compression::Zstd,
    }
}
