//! One COPY in the transaction that is open: columns, manifest, batches, and what MAXERROR makes of rows that do not fit.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_postgres::error::DbError;

use super::columns::{Column, RowError};
use super::errors::{self, Load};
use super::manifest::{self, Address};
use super::object::read_all;
use super::rows::{Batch, Piece, Refusal};
use super::s3::S3;
use crate::session::{Session, Settings, Trouble};
use crate::sql::copy::Copy;
use crate::sql::token::{literal, quoted};

/// After a row that PostgreSQL refuses so many are tried at once, twice as many each time that it goes well.
const STEP: usize = 1024;
/// Batches between the reader and PostgreSQL.
const AHEAD: usize = 2;

/// What a COPY needs to know beside its own text.
#[derive(Debug, Clone)]
pub(crate) struct Origin<'a> {
    pub(crate) s3: &'a S3,
    pub(crate) settings: &'a Settings,
    /// Under which its load errors are found.
    pub(crate) query_id: i64,
}

/// What a COPY did.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Loaded {
    pub(crate) rows: u64,
    pub(crate) errors: u64,
}

/// Runs a COPY. Its load errors are written whether it fails or not.
///
/// # Errors
/// What fails the transaction.
pub(crate) async fn load(session: &Session, copy: &Copy, origin: &Origin<'_>) -> Result<Loaded, Trouble> {
    let (table_id, columns) = columns(session, copy).await?;
    let columns: Arc<[Column]> = columns.into();
    let address = Address::parse(&copy.from)
        .ok_or_else(|| Trouble::said("The S3 path of the manifest must be that of an object (8001)"))?;
    let text = origin.s3.whole(&address).await.map_err(|error| Trouble::said(&error.to_string()))?;
    let entries = manifest::read(&text).map_err(|error| Trouble::said(&error))?;
    let (out, pieces) = mpsc::channel(AHEAD);
    let mut reading = JoinSet::new();
    reading.spawn(read_all(origin.s3.clone(), entries, Arc::new(copy.clone()), columns.clone(), out));
    let mut target = Target::new(session, copy, &columns);
    let mut ended = target.take(pieces).await;
    if ended.is_ok() {
        ended = match reading.join_next().await {
            Some(Ok(read)) => read.map_err(|text| Trouble::said(&text)),
            Some(Err(_)) | None => Err(Trouble::said("the reader of the objects failed")),
        };
    }
    let load = Load { query_id: origin.query_id, pid: session.pid, table_id, columns: &columns };
    let recorded = errors::record(origin.settings, &load, &target.refusals).await;
    ended?;
    recorded?;
    Ok(Loaded { rows: target.rows, errors: target.refusals.len() as u64 })
}

/// The table's id, and the columns of the load in their order.
async fn columns(session: &Session, copy: &Copy) -> Result<(i64, Vec<Column>), Trouble> {
    let name = full_name(copy);
    let found = session
        .texts(&format!(
            "SELECT a.attname, t.typname, a.atttypmod, a.attnotnull, a.attrelid, a.attidentity FROM pg_attribute a \
             JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = to_regclass({}) AND a.attnum > 0 \
             AND NOT a.attisdropped ORDER BY a.attnum",
            literal(&name)
        ))
        .await?;
    let table = &copy.table;
    if found.is_empty() {
        return Err(Trouble::said(&format!("Cannot COPY into nonexistent table {table}")));
    }
    let cell = |row: &[Option<String>], place: usize| row.get(place).cloned().flatten().unwrap_or_default();
    let table_id = cell(&found[0], 4).parse().unwrap_or_default();
    let column = |row: &Vec<Option<String>>| {
        Column::new(&cell(row, 0), &cell(row, 1), cell(row, 2).parse().unwrap_or(-1), cell(row, 3) == "t")
    };
    let Some(listed) = &copy.columns else {
        let columns = found.iter().filter(|row| cell(row, 5).is_empty()).map(column).collect();
        return Ok((table_id, columns));
    };
    let mut columns = Vec::new();
    for name in listed {
        let row = found.iter().find(|row| cell(row, 0) == *name);
        let missing = || Trouble::said(&format!("column \"{name}\" of relation \"{table}\" does not exist"));
        columns.push(column(row.ok_or_else(missing)?));
    }
    Ok((table_id, columns))
}

fn full_name(copy: &Copy) -> String {
    match &copy.schema {
        Some(schema) => format!("{}.{}", quoted(schema), quoted(&copy.table)),
        None => quoted(&copy.table),
    }
}

/// The table that rows go into.
struct Target<'a> {
    session: &'a Session,
    copy: &'a Copy,
    columns: &'a [Column],
    into: String,
    rows: u64,
    refusals: Vec<Refusal>,
}

impl<'a> Target<'a> {
    fn new(session: &'a Session, copy: &'a Copy, columns: &'a [Column]) -> Self {
        let names: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
        let into = format!("COPY {} ({}) FROM STDIN", full_name(copy), names.join(", "));
        Self { session, copy, columns, into, rows: 0, refusals: Vec::new() }
    }

    async fn take(&mut self, mut pieces: mpsc::Receiver<Piece>) -> Result<(), Trouble> {
        while let Some(piece) = pieces.recv().await {
            match piece {
                Piece::Refused(refusal) => self.refuse(refusal)?,
                Piece::Batch(batch) if self.copy.no_load => self.rows += batch.rows.len() as u64,
                Piece::Batch(batch) => self.batch(batch).await?,
            }
        }
        Ok(())
    }

    fn refuse(&mut self, refusal: Refusal) -> Result<(), Trouble> {
        self.refusals.push(refusal);
        if self.refusals.len() < self.copy.max_errors as usize {
            return Ok(());
        }
        let table = &self.copy.table;
        Err(Trouble::said(&format!(
            "Load into table '{table}' failed.  Check 'sys_load_error_detail' system table for details."
        )))
    }

    /// Puts a batch, without the rows that PostgreSQL does not take.
    async fn batch(&mut self, batch: Batch) -> Result<(), Trouble> {
        let text = Bytes::from(batch.text);
        let rows = &batch.rows;
        let begin = |row: usize| if row == 0 { 0 } else { rows[row - 1].end };
        let guarded = self.copy.max_errors > 1;
        let (mut from, mut step) = (0, rows.len());
        while from < rows.len() {
            let to = (from + step).min(rows.len());
            if guarded {
                self.session.run("SAVEPOINT load").await?;
            }
            match self.session.put(&self.into, text.slice(begin(from)..begin(to))).await {
                Ok(put) => {
                    self.rows += put;
                    from = to;
                    step *= 2;
                    if guarded {
                        self.session.run("RELEASE SAVEPOINT load").await?;
                    }
                }
                Err(error) => {
                    let Some((at, bad)) = self.blame(&error, to - from) else { return Err(Trouble::of(&error)) };
                    let raw =
                        String::from_utf8_lossy(&text[begin(from + at)..begin(from + at + 1)]).trim_end().to_owned();
                    let line = rows[from + at].line;
                    self.refuse(Refusal { file: batch.file.clone(), line, raw, error: bad })?;
                    self.session.run("ROLLBACK TO SAVEPOINT load; RELEASE SAVEPOINT load").await?;
                    if at > 0 {
                        let good = text.slice(begin(from)..begin(from + at));
                        self.rows += self.session.put(&self.into, good).await.map_err(|error| Trouble::of(&error))?;
                    }
                    from += at + 1;
                    step = STEP;
                }
            }
        }
        Ok(())
    }

    /// Which of the rows PostgreSQL refuses and why, if it is a row that it refuses.
    fn blame(&self, error: &tokio_postgres::Error, count: usize) -> Option<(usize, RowError)> {
        let told = error.as_db_error()?;
        let state = told.code().code();
        // Class 22 is "data exception", class 23 "integrity constraint violation".
        if !state.starts_with("22") && !state.starts_with("23") {
            return None;
        }
        let at = line(told)?.checked_sub(1).filter(|at| *at < count)?;
        let name = told.column().map(str::to_owned).or_else(|| column(told));
        let place = name.and_then(|name| self.columns.iter().position(|column| column.name == name));
        let (code, reason) = match place {
            Some(place) => self.columns[place].refused(state),
            None => (1200, "Unknown parse error"),
        };
        let value = told.where_().and_then(|text| Some(text.split_once(": \"")?.1.trim_end_matches('"')));
        let value = value.unwrap_or_default().to_owned();
        Some((at, RowError { column: place, code, reason: reason.to_owned(), value }))
    }
}

/// The line in the context of an error: `COPY t, line 5, column x: "abc"`.
fn line(told: &DbError) -> Option<usize> {
    line_of(told.where_()?)
}

fn line_of(context: &str) -> Option<usize> {
    let (_, rest) = context.split_once(", line ")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn column(told: &DbError) -> Option<String> {
    column_of(told.where_()?)
}

fn column_of(context: &str) -> Option<String> {
    let (_, rest) = context.split_once(", column ")?;
    Some(rest.split(':').next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_to_blame_stands_in_the_context_of_an_error() {
        let context = "COPY t, line 512, column dep_time: \"5x\"";
        assert_eq!(line_of(context), Some(512));
        assert_eq!(column_of(context).as_deref(), Some("dep_time"));
        assert_eq!(line_of("COPY t, line 3: \"a\tb\""), Some(3));
        assert_eq!(line_of("SQL function"), None);
    }
}
