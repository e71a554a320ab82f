//! Rows of fields between delimiters, with quotes (CSV) or without.
//!
//! Empty lines are passed over in any case. A quoted empty field cannot be told from an empty one.

use std::io::{BufRead, BufReader, Read};

use super::columns::{Column, RowError, write};
use super::rows::{Ended, Rows, text};
use crate::sql::copy::Rules;

/// How fields are told apart.
pub(super) struct Shape {
    pub(super) delimiter: u8,
    pub(super) quote: Option<u8>,
    pub(super) skip_lines: u64,
}

/// Reads every row of the input.
///
/// # Errors
/// Bytes that cannot be read, or nobody wants more.
pub(super) fn read(input: impl Read, shape: &Shape, rows: &mut Rows<'_>) -> Result<(), Ended> {
    let broken = |error: &dyn std::fmt::Display| Ended::Broken(error.to_string());
    let mut input = BufReader::with_capacity(256 << 10, input);
    for _ in 0..shape.skip_lines {
        input.skip_until(b'\n').map_err(|error| broken(&error))?;
    }
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(shape.delimiter)
        .quoting(shape.quote.is_some())
        .quote(shape.quote.unwrap_or(b'"'))
        .buffer_capacity(256 << 10)
        .from_reader(input);
    let mut record = csv::ByteRecord::new();
    while reader.read_byte_record(&mut record).map_err(|error| broken(&error))? {
        let line = record.position().map_or(0, csv::Position::line) + shape.skip_lines;
        rows.add(line, || raw(&record, shape.delimiter), |out, columns, rules| row(out, columns, rules, &record))?;
    }
    rows.flush()
}

fn raw(record: &csv::ByteRecord, delimiter: u8) -> String {
    let fields: Vec<&[u8]> = record.iter().collect();
    String::from_utf8_lossy(&fields.join(&delimiter)).into_owned()
}

fn row(out: &mut Vec<u8>, columns: &[Column], rules: &Rules, record: &csv::ByteRecord) -> Result<(), RowError> {
    if record.len() > columns.len() {
        return Err(RowError::row(1202, "Extra column(s) found"));
    }
    if record.len() < columns.len() && !rules.fill_record {
        return Err(RowError { column: Some(record.len()), ..RowError::row(1214, "Delimiter not found") });
    }
    for (place, column) in columns.iter().enumerate() {
        if place > 0 {
            out.push(b'\t');
        }
        let field = match record.get(place) {
            Some(field) => Some(text(field, rules).map_err(|error| RowError { column: Some(place), ..error })?),
            None => None,
        };
        let value = field.as_deref().filter(|text| *text != rules.null_as);
        write(out, place, column, value, rules)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::super::columns::tests::rules;
    use super::super::rows::Piece;
    use super::*;

    fn read_all(input: &str, shape: &Shape, rules: &Rules) -> (String, Vec<(u64, i32)>) {
        let columns = [Column::new("a", "int4", -1, false), Column::new("b", "varchar", -1, false)];
        let (out, mut pieces) = mpsc::channel(100);
        let mut rows = Rows::new(&columns, rules, "s3://b/k".into(), &out);
        read(input.as_bytes(), shape, &mut rows).expect("readable");
        drop(out);
        let (mut text, mut refused) = (String::new(), Vec::new());
        while let Some(piece) = pieces.blocking_recv() {
            match piece {
                Piece::Batch(batch) => text.push_str(std::str::from_utf8(&batch.text).expect("UTF-8")),
                Piece::Refused(refusal) => refused.push((refusal.line, refusal.error.code)),
            }
        }
        (text, refused)
    }

    #[test]
    fn csv_has_quotes_and_headers() {
        let shape = Shape { delimiter: b',', quote: Some(b'"'), skip_lines: 1 };
        let (text, refused) = read_all("a,b\n1,\"x, \"\"y\"\"\nz\"\n,\n2\n3,b,c\n4,d\n", &shape, &rules());
        assert_eq!(text, "1\tx, \"y\"\\nz\n\\N\t\n4\td\n");
        assert_eq!(refused, [(5, 1214), (6, 1202)]);
    }

    #[test]
    fn without_quotes_a_quote_is_a_character() {
        let shape = Shape { delimiter: b'|', quote: None, skip_lines: 0 };
        let fill = Rules { fill_record: true, ..rules() };
        assert_eq!(read_all("1|\"x\"\n2|\\N\n3\n", &shape, &fill).0, "1\t\"x\"\n2\t\\N\n3\t\\N\n");
    }
}
