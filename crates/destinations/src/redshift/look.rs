//! Beside `commit -> publish`: what a person is told of the table and its ledger before anything runs.
//!
//! Asked of the catalog alone, so that nothing waits for a load and no load waits for it. The ledger is made where that is
//! asked for, and only beside a table that is there.
//! Never: locks anything; a statement whose text is not a question, but for the ledger's own.

use standpipe_flow::{DeliveryError, Found, Look};

use super::sql::{CopyInto, quoted, text};
use super::{Redshift, data_api};

/// What the ledger has, in the order in which it is made.
const LEDGER_COLUMNS: [&str; 9] =
    ["cid", "shard", "from_position", "to_position", "stream", "table_name", "records", "loaded_at", "manifest"];
/// Names that are shown of a list.
const SHOWN_MAX: usize = 8;

/// A column of the table or its ledger, as the catalog has it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Column {
    /// In small letters.
    table: String,
    name: String,
    /// It must have a value, and nothing gives it one but a load.
    needed: bool,
}

/// As whom, the table, its columns, the ledger, the role.
pub(super) async fn table(redshift: &Redshift, make: bool, seen: &mut Vec<Look>) {
    let copy = &redshift.settings.copy;
    let Some(user) = user(redshift, seen).await else { return };
    let what = format!("table {}", copy.shown());
    let columns = match columns(redshift).await {
        Ok(columns) => columns,
        Err(error) => return seen.push(failed(what, error)),
    };
    let of = |name: &str| -> Vec<Column> {
        columns.iter().filter(|column| column.table == name.to_lowercase()).cloned().collect()
    };
    let target = of(&copy.table);
    if target.is_empty() {
        let says =
            format!("there is none in database {}, or {user} may not see it", redshift.settings.warehouse.database);
        let hint = format!("make it, or `{}`", grant(copy, &user, "INSERT", &copy.target()));
        return seen.push(Look::wrong(what, says).hint(hint));
    }
    let delivered = delivered(redshift);
    seen.push(match misfit(copy, &target, delivered.as_deref()) {
        Some((says, hint)) => Look::wrong(&what, says).hint(hint),
        None => Look::fine(&what, fits(copy, &target)),
    });
    if let Some(says) = delivered.as_deref().and_then(|delivered| other_names(copy, &target, delivered)) {
        seen.push(Look::note(&what, says).hint("COPY takes the columns of a Parquet file by their order"));
    }
    rights(redshift, (&what, &user), &[("INSERT", &["insert"])], &copy.target(), seen).await;
    ledger(redshift, (make, &user), &of(&copy.ledger_name()), seen).await;
    let role = copy.role.as_deref().unwrap_or("default");
    let look = Look::note("role of COPY", format!("{role} reads the bucket with the first load, and was not tried"));
    seen.push(look.hint("attached to the warehouse, with `s3:GetObject` and `s3:ListBucket` on the staging bucket"));
}

/// As whom statements run; `None`: none do, and that was said.
async fn user(redshift: &Redshift, seen: &mut Vec<Look>) -> Option<String> {
    let of = &redshift.settings.warehouse;
    let name = match (&of.workgroup, &of.cluster) {
        (Some(workgroup), _) => format!("workgroup {workgroup}"),
        (None, cluster) => format!("cluster {}", cluster.as_deref().unwrap_or_default()),
    };
    match ask(redshift, "SELECT CURRENT_USER").await {
        Ok(rows) => {
            let user = rows.into_iter().flatten().next().flatten().unwrap_or_default();
            seen.push(Look::fine(name, format!("statements run in database {} as {user}", of.database)));
            Some(user)
        }
        Err(error) => {
            seen.push(failed(name, error));
            None
        }
    }
}

/// A failure of a statement: one that is not permitted is told from what is wrong by its name.
fn failed(what: impl Into<String>, error: DeliveryError) -> Look {
    const DENIED: [&str; 4] = ["AccessDenied", "not authorized", "UnrecognizedClient", "InvalidClientTokenId"];
    match error {
        DeliveryError::Halt { cause } if DENIED.iter().any(|word| cause.contains(word)) => Look::denied(what, cause).hint(
            "`redshift-data:BatchExecuteStatement`, `DescribeStatement` and `GetStatementResult`, and the credentials of `auth`: \
             deploy/iam/kinesis-to-redshift.json",
        ),
        error => Look::failed(what, error),
    }
}

async fn ask(redshift: &Redshift, sql: &str) -> Result<Vec<Vec<Option<String>>>, DeliveryError> {
    redshift.ask(sql).await?.map_err(|text| DeliveryError::Halt { cause: data_api::bounded(&text) })
}

/// The columns of the table and its ledger, each in its order.
async fn columns(redshift: &Redshift) -> Result<Vec<Column>, DeliveryError> {
    let copy = &redshift.settings.copy;
    let small = |name: &str| text(&name.to_lowercase());
    let sql = format!(
        "SELECT LOWER(table_name), column_name, is_nullable, column_default FROM information_schema.columns WHERE \
         LOWER(table_schema) = {} AND LOWER(table_name) IN ({}, {}) ORDER BY table_name, ordinal_position",
        small(&copy.schema),
        small(&copy.table),
        small(&copy.ledger_name())
    );
    let column = |row: Vec<Option<String>>| {
        let mut cells = row.into_iter();
        let mut next = || cells.next().flatten();
        let (table, name) = (next().unwrap_or_default(), next().unwrap_or_default());
        let (nullable, default) = (next(), next());
        Column { table, name, needed: nullable.as_deref() == Some("NO") && default.is_none() }
    };
    Ok(ask(redshift, &sql).await?.into_iter().map(column).collect())
}

/// The columns that a table's file has, in their order; `None` where objects hold lines, or they are not known.
fn delivered(redshift: &Redshift) -> Option<Vec<String>> {
    let rows = redshift.settings.format.rows()?.current()?;
    Some(rows.columns().as_slice().iter().map(|column| column.name.clone()).collect())
}

fn same(left: &str, right: &str) -> bool {
    left.to_lowercase() == right.to_lowercase()
}

/// What keeps COPY from loading what the config delivers, and what to change.
fn misfit(copy: &CopyInto, table: &[Column], delivered: Option<&[String]>) -> Option<(String, String)> {
    let loaded = |column: &Column| copy.columns.is_empty() || copy.columns.iter().any(|name| same(name, &column.name));
    let unknown: Vec<&str> = copy
        .columns
        .iter()
        .filter(|name| !table.iter().any(|column| same(&column.name, name)))
        .map(String::as_str)
        .collect();
    if !unknown.is_empty() {
        let names: Vec<&str> = table.iter().map(|column| column.name.as_str()).collect();
        return Some((format!("it has no column {}", list(&unknown)), format!("it has {}", list(&names))));
    }
    let empty: Vec<&str> =
        table.iter().filter(|column| column.needed && !loaded(column)).map(|column| column.name.as_str()).collect();
    if !empty.is_empty() {
        let says = format!("{} may not be null, has no default, and is not loaded", list(&empty));
        return Some((says, "put it into `copy.columns`, or give it a default".to_owned()));
    }
    let into = if copy.columns.is_empty() { table.len() } else { copy.columns.len() };
    let delivered = delivered.filter(|delivered| delivered.len() != into)?;
    let says = format!("{into} columns are loaded, and a file has {}", delivered.len());
    let hint = "`copy.columns` names the columns of `schema`, in the same order".to_owned();
    Some((says, hint))
}

/// Where a file's column goes into one of another name.
fn other_names(copy: &CopyInto, table: &[Column], delivered: &[String]) -> Option<String> {
    let into: Vec<&str> = if copy.columns.is_empty() {
        table.iter().map(|column| column.name.as_str()).collect()
    } else {
        copy.columns.iter().map(String::as_str).collect()
    };
    let other: Vec<String> = delivered
        .iter()
        .zip(&into)
        .filter(|(from, to)| !same(from, to))
        .map(|(from, to)| format!("{from} -> {to}"))
        .collect();
    let other: Vec<&str> = other.iter().map(String::as_str).collect();
    (!other.is_empty() && delivered.len() == into.len()).then(|| format!("names differ: {}", list(&other)))
}

fn fits(copy: &CopyInto, table: &[Column]) -> String {
    match copy.columns.len() {
        0 => format!("there, {} columns", table.len()),
        loaded => format!("there, {loaded} of its {} columns are loaded", table.len()),
    }
}

fn list(names: &[&str]) -> String {
    let shown: Vec<String> = names.iter().take(SHOWN_MAX).map(|name| data_api::bounded(name)).collect();
    let more = if names.len() > SHOWN_MAX { ", ..." } else { "" };
    format!("{}{more}", shown.join(", "))
}

fn grant(copy: &CopyInto, user: &str, right: &str, on: &str) -> String {
    format!(
        "GRANT USAGE ON SCHEMA {} TO {user}; GRANT {right} ON {on} TO {user}",
        quoted(&copy.schema),
        user = quoted(user)
    )
}

/// Says which of the rights are missing: each is had by any of several privileges.
async fn rights(
    redshift: &Redshift,
    (what, user): (&str, &str),
    wanted: &[(&str, &[&str])],
    on: &str,
    seen: &mut Vec<Look>,
) {
    let copy = &redshift.settings.copy;
    let of_table = |right: &str| format!("HAS_TABLE_PRIVILEGE({}, {})", text(on), text(right));
    let any = |rights: &&[&str]| rights.iter().map(|right| of_table(right)).collect::<Vec<_>>().join(" OR ");
    let questions: Vec<String> = wanted.iter().map(|(_, rights)| any(rights)).collect();
    let answer = match ask(redshift, &format!("SELECT {}", questions.join(", "))).await {
        Ok(rows) => rows.into_iter().next().unwrap_or_default(),
        Err(error) => return seen.push(failed(what, error)),
    };
    let denied = |cell: &Option<String>| matches!(cell.as_deref(), Some("false" | "f" | "0"));
    let missing: Vec<&str> =
        wanted.iter().zip(&answer).filter(|(_, cell)| denied(cell)).map(|((name, _), _)| *name).collect();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        let look = Look::denied(what, format!("{user} has no right to {missing}"));
        seen.push(look.hint(grant(copy, user, &missing, on)));
    }
}

async fn ledger(redshift: &Redshift, (make, user): (bool, &str), columns: &[Column], seen: &mut Vec<Look>) {
    let copy = &redshift.settings.copy;
    let what = format!("ledger {}.{}", copy.schema, copy.ledger_name());
    if columns.is_empty() {
        seen.push(if make { made(redshift, &what, user).await } else { not_there(redshift, &what, user).await });
        return;
    }
    let missing: Vec<&str> =
        LEDGER_COLUMNS.into_iter().filter(|name| !columns.iter().any(|column| same(&column.name, name))).collect();
    if !missing.is_empty() {
        let look = Look::wrong(what, format!("it is another table: it has no column {}", list(&missing)));
        return seen.push(look.hint("rename that table; Standpipe makes its own, or docs/guide/redshift.md says how"));
    }
    let before = seen.len();
    // What locks a table is one of these two rights.
    let wanted: [(&str, &[&str]); 3] =
        [("SELECT", &["select"]), ("INSERT", &["insert"]), ("UPDATE, DELETE", &["update", "delete"])];
    rights(redshift, (&what, user), &wanted, &copy.ledger(), seen).await;
    if seen.len() == before {
        seen.push(Look::fine(what, "there, to be read, written and locked"));
    }
}

async fn made(redshift: &Redshift, what: &str, user: &str) -> Look {
    match redshift.create_ledger().await {
        Ok(()) => Look::fine(what, format!("made, and belongs to {user}")),
        Err(error) => {
            let look = failed(what, error);
            let denied = look.says.contains("permission denied");
            let found = if denied { Found::Denied } else { look.found };
            with_statements(redshift, Look { found, ..look }, user)
        }
    }
}

async fn not_there(redshift: &Redshift, what: &str, user: &str) -> Look {
    let schema = text(&redshift.settings.copy.schema.to_lowercase());
    let may = ask(redshift, &format!("SELECT HAS_SCHEMA_PRIVILEGE({schema}, 'create')")).await;
    let may = may.ok().and_then(|rows| rows.into_iter().flatten().next().flatten());
    match may.as_deref() {
        Some("false" | "f" | "0") => {
            let look =
                Look::denied(what, format!("it is not there, or not for {user} to see, who may not make it either"));
            with_statements(redshift, look, user)
        }
        _ => Look::note(what, "it is not there: the first load makes it").hint("or now: `check --online --create`"),
    }
}

fn with_statements(redshift: &Redshift, look: Look, user: &str) -> Look {
    let copy = &redshift.settings.copy;
    let user = quoted(user);
    look.hint(format!(
        "GRANT CREATE ON SCHEMA {} TO {user}; or somebody who may makes it (docs/guide/redshift.md), and then: GRANT SELECT, \
         INSERT, UPDATE, DELETE ON {} TO {user}",
        quoted(&copy.schema),
        copy.ledger()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(columns: &[&str]) -> CopyInto {
        CopyInto {
            schema: "public".to_owned(),
            table: "orders".to_owned(),
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
            role: None,
            region: None,
            options: String::new(),
            errors_max: 0,
        }
    }

    fn table() -> Vec<Column> {
        let column = |name: &str, needed| Column { table: "orders".to_owned(), name: name.to_owned(), needed };
        vec![column("id", true), column("total", false), column("ts", false)]
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn columns_that_do_not_fit_are_said() {
        let says = |columns: &[&str], delivered: Option<&[&str]>| {
            let delivered = delivered.map(names);
            misfit(&copy(columns), &table(), delivered.as_deref()).map(|(says, _)| says)
        };
        assert_eq!(says(&[], None), None);
        assert_eq!(says(&["ID", "total"], None), None, "names are those of SQL");
        assert_eq!(says(&["id", "sum"], None).as_deref(), Some("it has no column sum"));
        let empty = says(&["total"], None).expect("id is left out");
        assert!(empty.starts_with("id may not be null"), "{empty}");
        assert_eq!(says(&[], Some(&["a", "b", "c"])), None);
        let fewer = says(&["id", "ts"], Some(&["a", "b", "c"]));
        assert_eq!(fewer.as_deref(), Some("2 columns are loaded, and a file has 3"));
    }

    #[test]
    fn a_file_whose_columns_go_into_others_is_said() {
        let says = |columns: &[&str], delivered: &[&str]| other_names(&copy(columns), &table(), &names(delivered));
        assert_eq!(says(&[], &["id", "Total", "ts"]), None);
        assert_eq!(says(&[], &["id", "ts", "total"]).as_deref(), Some("names differ: ts -> total, total -> ts"));
        assert_eq!(says(&["ts", "id"], &["ts", "id"]), None);
    }
}
