//! Load errors in Redshift's tables of them, written over a connection of their own, so that they outlive a rollback.

use crate::session::{Session, Settings, Trouble};
use crate::sql::token::literal;

use super::columns::Column;
use super::rows::Refusal;

/// Which COPY the errors belong to.
pub(crate) struct Load<'a> {
    pub(crate) query_id: i64,
    pub(crate) pid: i32,
    pub(crate) table_id: i64,
    pub(crate) columns: &'a [Column],
}

/// Writes errors to `sys_load_error_detail` and `stl_load_errors`.
///
/// # Errors
/// Those of PostgreSQL.
pub(crate) async fn record(settings: &Settings, load: &Load<'_>, refusals: &[Refusal]) -> Result<(), Trouble> {
    if refusals.is_empty() {
        return Ok(());
    }
    let session = Session::open(settings).await?;
    for some in refusals.chunks(1000) {
        let (mut details, mut lines) = (Vec::new(), Vec::new());
        for refusal in some {
            let (detail, line) = values(load, refusal);
            details.push(detail);
            lines.push(line);
        }
        session.run(&format!("INSERT INTO sys_load_error_detail VALUES {}", details.join(","))).await?;
        session.run(&format!("INSERT INTO stl_load_errors VALUES {}", lines.join(","))).await?;
    }
    Ok(())
}

/// A row of each table.
fn values(load: &Load<'_>, refusal: &Refusal) -> (String, String) {
    let column = refusal.error.column.and_then(|place| load.columns.get(place));
    // PostgreSQL holds no NUL.
    let text = |value: &str, most: usize| literal(&value.replace('\0', "?").chars().take(most).collect::<String>());
    let name = text(column.map_or("", |column| &column.name), 127);
    let kind = text(column.map_or("", |column| &column.kind), 10);
    let length = text(&column.map(Column::length).unwrap_or_default(), 10);
    let file = text(&refusal.file, 256);
    let reason = text(&refusal.error.reason, 100);
    let (query, pid, table, line, code) = (load.query_id, load.pid, load.table_id, refusal.line, refusal.error.code);
    let detail = format!(
        "(100, {query}, txid_current(), {pid}, current_database(), {table}, sysdate(), {file}, {line}, {name}, {kind}, \
         {length}, 0, {code}, {reason})"
    );
    let raw = text(&refusal.raw, 1024);
    let value = text(&refusal.error.value, 1024);
    let old = format!(
        "(100, 0, {table}, sysdate(), {pid}, {query}, {file}, {line}, {name}, {kind}, {length}, 0, {raw}, {value}, {code}, \
         {reason})"
    );
    (detail, old)
}
