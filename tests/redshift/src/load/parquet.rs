//! Rows of a Parquet file, its columns taken by position.
//!
//! A file whose columns are not those of the load, or of another kind, fails the COPY whole: there is no MAXERROR here.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, Field, TimeUnit};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};

use super::columns::{Class, Column, write};
use super::rows::{Ended, Rows};

/// Rows that are decoded at once.
const ROWS: usize = 4096;

/// Reads every row of the file.
///
/// # Errors
/// A file that does not fit the table, or nobody wants more.
pub(super) fn read(file: Bytes, url: &str, nested: bool, rows: &mut Rows<'_>) -> Result<(), Ended> {
    let broken = |error: &dyn std::fmt::Display| {
        Ended::Broken(format!("Spectrum Scan Error. File '{url}' has an invalid Parquet format: {error}"))
    };
    // The file's own types alone: what an Arrow writer noted beside them Redshift does not read.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder =
        ParquetRecordBatchReaderBuilder::try_new_with_options(file, options).map_err(|error| broken(&error))?;
    let fields = builder.schema().fields().clone();
    let (table, data) = (rows.columns.len(), fields.len());
    if table < data || (table > data && !rows.rules.fill_record) {
        return Err(Ended::Broken(format!(
            "Unmatched number of columns between table and file. Table columns: {table}, Data columns: {data}, \
             File name: {url}"
        )));
    }
    for (field, column) in fields.iter().zip(rows.columns) {
        if !fits(field, column, nested) {
            return Err(Ended::Broken(format!(
                "Spectrum Scan Error. File '{url}' has an incompatible Parquet schema for column '{}'. Column type: {}, \
                 Parquet schema: {}",
                column.name,
                column.kind.to_uppercase(),
                field.data_type()
            )));
        }
    }
    let reader = builder.with_batch_size(ROWS).build().map_err(|error| broken(&error))?;
    let mut line = 0;
    for batch in reader {
        let batch = batch.map_err(|error| broken(&error))?;
        add(&batch, &mut line, rows).map_err(|error| match error {
            Ended::Broken(text) => broken(&text),
            Ended::Unwanted => Ended::Unwanted,
        })?;
    }
    rows.flush()
}

fn add(batch: &RecordBatch, line: &mut u64, rows: &mut Rows<'_>) -> Result<(), Ended> {
    let options = FormatOptions::default().with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.6f"));
    let arrays: Vec<ArrayRef> = batch.columns().iter().map(in_utc).collect();
    let formatters: Result<Vec<_>, _> =
        arrays.iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options)).collect();
    let formatters = formatters.map_err(|error| Ended::Broken(error.to_string()))?;
    let mut failed = None;
    for row in 0..batch.num_rows() {
        *line += 1;
        rows.add(*line, String::new, |out, columns, rules| {
            for (place, column) in columns.iter().enumerate() {
                if place > 0 {
                    out.push(b'\t');
                }
                let there = batch.columns().get(place).is_some_and(|values| !values.is_null(row));
                let text = match formatters.get(place).filter(|_| there) {
                    Some(formatter) => match formatter.value(row).try_to_string() {
                        Ok(text) => Some(text),
                        Err(error) => {
                            failed = Some(error.to_string());
                            None
                        }
                    },
                    None => None,
                };
                write(out, place, column, text.as_deref(), rules)?;
            }
            Ok(())
        })?;
    }
    failed.map_or(Ok(()), |error| Err(Ended::Broken(error)))
}

/// Timestamps without their zone, which is UTC in every file.
fn in_utc(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Timestamp(TimeUnit::Millisecond, Some(_)) => {
            Arc::new(array.as_primitive::<TimestampMillisecondType>().clone().with_timezone_opt(None::<Arc<str>>))
        }
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {
            Arc::new(array.as_primitive::<TimestampMicrosecondType>().clone().with_timezone_opt(None::<Arc<str>>))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, Some(_)) => {
            Arc::new(array.as_primitive::<TimestampNanosecondType>().clone().with_timezone_opt(None::<Arc<str>>))
        }
        _ => array.clone(),
    }
}

/// Whether a column of the table takes a column of the file.
fn fits(field: &Field, column: &Column, nested: bool) -> bool {
    let kind = field.data_type();
    match column.class {
        Class::Text(_) => matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Binary),
        Class::Integer => kind.is_integer(),
        Class::Float => kind.is_floating(),
        Class::Decimal => matches!(kind, DataType::Decimal128(..) | DataType::Decimal256(..)),
        Class::Boolean => *kind == DataType::Boolean,
        Class::Date => matches!(kind, DataType::Date32),
        Class::Timestamp => {
            matches!(kind, DataType::Timestamp(TimeUnit::Millisecond | TimeUnit::Microsecond | TimeUnit::Nanosecond, _))
        }
        // A string that holds JSON; lists and structs are not put into SUPER here.
        Class::Super => nested && matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View),
        Class::Other => true,
    }
}
