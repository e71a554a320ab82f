//! Rows on their way: what a reader of a format makes, in batches, for PostgreSQL.
//!
//! A batch remembers of each row where it stood, so that one that PostgreSQL refuses can be named.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::columns::{Column, RowError};
use crate::sql::copy::Rules;

/// A batch is handed on when it has so many bytes: large enough that a round trip does not count, small enough to send
/// again.
const BATCH_BYTES: usize = 4 << 20;
/// Most of a raw line that a load error shows (STL_LOAD_ERRORS).
const RAW_BYTES_MAX: usize = 1024;

/// Rows in PostgreSQL's text form.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) text: Vec<u8>,
    pub(crate) rows: Vec<Row>,
    pub(crate) file: Arc<str>,
}

/// One row of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    /// Where its text ends.
    pub(crate) end: usize,
    /// Its line in the object; of JSON, the last line of its object.
    pub(crate) line: u64,
}

/// A row that could not be made.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) file: Arc<str>,
    pub(crate) line: u64,
    pub(crate) raw: String,
    pub(crate) error: RowError,
}

/// What a reader hands on.
#[derive(Debug)]
pub(crate) enum Piece {
    Batch(Batch),
    Refused(Refusal),
}

/// Why a reader ended early.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Nobody wants more.
    Unwanted,
    /// The object cannot be read as what it should be, in the words of Redshift.
    Broken(String),
}

/// Gathers the rows of one object.
pub(crate) struct Rows<'a> {
    pub(crate) columns: &'a [Column],
    pub(crate) rules: &'a Rules,
    batch: Batch,
    out: &'a mpsc::Sender<Piece>,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(columns: &'a [Column], rules: &'a Rules, file: Arc<str>, out: &'a mpsc::Sender<Piece>) -> Self {
        Self { columns, rules, batch: Batch { file, ..Batch::default() }, out }
    }

    /// Adds a row that `make` writes, with its fields separated by tabs and without an end; what it refuses is handed on
    /// as a load error with `raw`.
    ///
    /// # Errors
    /// Nobody wants more.
    pub(crate) fn add(
        &mut self,
        line: u64,
        raw: impl FnOnce() -> String,
        make: impl FnOnce(&mut Vec<u8>, &[Column], &Rules) -> Result<(), RowError>,
    ) -> Result<(), Ended> {
        let begin = self.batch.text.len();
        match make(&mut self.batch.text, self.columns, self.rules) {
            Ok(()) => {
                self.batch.text.push(b'\n');
                self.batch.rows.push(Row { end: self.batch.text.len(), line });
                if self.batch.text.len() >= BATCH_BYTES { self.flush() } else { Ok(()) }
            }
            Err(error) => {
                self.batch.text.truncate(begin);
                let mut raw = raw();
                raw.truncate(raw.floor_char_boundary(RAW_BYTES_MAX));
                let file = self.batch.file.clone();
                let refusal = Refusal { file, line, raw, error };
                self.out.blocking_send(Piece::Refused(refusal)).map_err(|_| Ended::Unwanted)
            }
        }
    }

    /// Hands on what is gathered.
    ///
    /// # Errors
    /// Nobody wants it.
    pub(crate) fn flush(&mut self) -> Result<(), Ended> {
        if self.batch.rows.is_empty() {
            return Ok(());
        }
        let next = Batch { file: self.batch.file.clone(), ..Batch::default() };
        let batch = std::mem::replace(&mut self.batch, next);
        self.out.blocking_send(Piece::Batch(batch)).map_err(|_| Ended::Unwanted)
    }
}

/// Text of bytes that should be UTF-8; with ACCEPTINVCHARS, each byte that is none becomes its character.
///
/// # Errors
/// Bytes that are no UTF-8, and nothing may stand for them.
pub(crate) fn text<'a>(bytes: &'a [u8], rules: &Rules) -> Result<std::borrow::Cow<'a, str>, RowError> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Ok(text.into());
    }
    let Some(stands_for) = rules.replace_invalid else {
        return Err(RowError::row(1220, "String contains invalid or unsupported UTF8 codepoints."));
    };
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().map(|_| stands_for));
    }
    Ok(out.into())
}
