//! A statement of Redshift to one that PostgreSQL runs alike: parameters become strings, what Redshift does not know is
//! refused although PostgreSQL would take it, and what it does not enforce (keys) is taken out of tables.
//!
//! Never changes what a string or a quoted name holds, but for the case of names.

use std::collections::{BTreeMap, BTreeSet};

use super::Refused;
use super::copy::{self, Copy};
use super::token::{Kind, Token, literal, quoted, tokens};

/// What a statement is, and the text for PostgreSQL.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Statement {
    /// Loads from S3.
    Copy(Box<Copy>),
    /// Has a result set.
    Rows(String),
    /// TRUNCATE: it commits what stands before it in the transaction.
    Truncate(String),
    /// Cannot run within a transaction.
    Alone(String),
    /// Anything else.
    Plain(String),
}

/// Reads one statement, with its parameters put in.
///
/// # Errors
/// Text that is no statement of Redshift's.
pub(crate) fn read(sql: &str, parameters: &BTreeMap<String, String>) -> Result<Statement, Refused> {
    let mut all = tokens(sql)?;
    while all.last().is_some_and(|last| last.is(";")) {
        all.pop();
    }
    if let Some(second) = all.iter().position(|token| token.is(";")) {
        let next = all.get(second + 1).map_or_else(String::new, Token::value);
        return Err(Refused(format!(
            "cannot insert multiple commands into a prepared statement at or near \"{next}\""
        )));
    }
    let Some(first) = all.first() else { return Err(Refused::near(None)) };
    if first.is("copy") {
        return Ok(Statement::Copy(Box::new(copy::read(&all, parameters)?)));
    }
    foreign(&all)?;
    let mut edits = Edits::default();
    for (place, token) in all.iter().enumerate() {
        words(&all, place, token, parameters, &mut edits)?;
    }
    if first.is("create") && all.iter().take(5).any(|token| token.is("table")) {
        tables(&all, &mut edits);
    }
    let end = all.last().map_or(0, Token::end);
    let text = edits.apply(&sql[..end]);
    Ok(match first.value().as_str() {
        "select" | "with" | "values" | "show" | "explain" | "(" => Statement::Rows(text),
        "truncate" => Statement::Truncate(text),
        "vacuum" => Statement::Alone(text),
        _ => Statement::Plain(text),
    })
}

/// The names of parameters that a statement uses.
pub(crate) fn parameters_of(sql: &str) -> BTreeSet<String> {
    let all = tokens(sql).unwrap_or_default();
    all.iter().filter(|token| token.kind == Kind::Parameter).map(Token::value).collect()
}

/// Replacements by place; a later one that overlaps an earlier one is left out.
#[derive(Default)]
struct Edits(BTreeMap<usize, (usize, String)>);

impl Edits {
    fn replace(&mut self, from: &Token<'_>, to: &Token<'_>, with: impl Into<String>) {
        self.0.insert(from.at, (to.end(), with.into()));
    }

    fn apply(&self, sql: &str) -> String {
        let mut out = String::with_capacity(sql.len());
        let mut at = 0;
        for (from, (to, with)) in &self.0 {
            if *from >= at {
                out.push_str(&sql[at..*from]);
                out.push_str(with);
                at = *to;
            }
        }
        out.push_str(&sql[at.min(sql.len())..]);
        out
    }
}

/// What PostgreSQL takes and Redshift does not.
fn foreign(all: &[Token<'_>]) -> Result<(), Refused> {
    let first = &all[0];
    for word in ["begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release", "prepare"] {
        if first.is(word) {
            let word = word.to_uppercase();
            return Err(Refused(format!(
                "{word} cannot be run through the Data API, which opens and ends transactions"
            )));
        }
    }
    for (place, token) in all.iter().enumerate() {
        let follows = |word: &str| all.get(place + 1).is_some_and(|next| next.is(word));
        let two = (token.is("on") && follows("conflict"))
            || (token.is("for") && (follows("update") || follows("share")))
            || (token.is("skip") && follows("locked"))
            || (token.is("create") && (follows("index") || follows("domain") || follows("trigger")));
        if two {
            return Err(Refused::near(all.get(place + 1)));
        }
        if token.is("returning") {
            return Err(Refused::near(Some(token)));
        }
        if token.kind == Kind::Word && token.value().starts_with("pg_advisory") {
            return Err(Refused(format!("function {}() does not exist", token.value())));
        }
    }
    Ok(())
}

/// Changes that apply wherever the word stands.
fn words(
    all: &[Token<'_>],
    place: usize,
    token: &Token<'_>,
    parameters: &BTreeMap<String, String>,
    edits: &mut Edits,
) -> Result<(), Refused> {
    let next = all.get(place + 1);
    let opens = next.is_some_and(|next| next.is("("));
    match token.kind {
        Kind::Parameter => {
            let Some(value) = parameters.get(&token.value()) else { return Err(Refused::near(Some(token))) };
            edits.replace(token, token, literal(value));
        }
        Kind::Quoted => edits.replace(token, token, quoted(&token.value())),
        Kind::Word if token.is("sysdate") && !opens => edits.replace(token, token, "sysdate()"),
        Kind::Word if token.is("nvl") && opens => edits.replace(token, token, "COALESCE"),
        Kind::Word if opens && ["dateadd", "datediff", "date_add", "date_diff"].iter().any(|name| token.is(name)) => {
            // The part of a date is a bare word: `DATEADD(day, ...)`.
            if let Some(part) = all.get(place + 2).filter(|part| part.kind == Kind::Word) {
                edits.replace(part, part, literal(&part.value()));
            }
        }
        Kind::Word if opens && (token.is("varchar") || token.is("varying")) => {
            if let Some(max) = all.get(place + 2).filter(|max| max.is("max")) {
                edits.replace(max, max, "65535");
            }
        }
        _ => {}
    }
    Ok(())
}

/// The index after the parenthesis that closes the one at `open`, or `open` when none stands there.
fn after_group(all: &[Token<'_>], open: usize) -> usize {
    if !all.get(open).is_some_and(|token| token.is("(")) {
        return open;
    }
    let mut depth = 0_usize;
    for (place, token) in all.iter().enumerate().skip(open) {
        if token.is("(") {
            depth += 1;
        } else if token.is(")") {
            depth -= 1;
            if depth == 0 {
                return place + 1;
            }
        }
    }
    all.len()
}

/// Takes out of CREATE TABLE what says where rows lie, and turns the keys that Redshift does not enforce into what it
/// does: a primary key holds no NULL, a unique one may repeat.
fn tables(all: &[Token<'_>], edits: &mut Edits) {
    let mut place = 0;
    while place < all.len() {
        let from = place;
        let token = &all[place];
        let is = |at: usize, word: &str| all.get(at).is_some_and(|token| token.is(word));
        let (end, with) = if token.is("encode") || token.is("diststyle") || token.is("backup") {
            (place + 2, String::new())
        } else if token.is("distkey") {
            (after_group(all, place + 1), String::new())
        } else if token.is("compound") || token.is("interleaved") || token.is("sortkey") {
            let key = if token.is("sortkey") { place } else { place + 1 };
            let after = if is(key + 1, "auto") { key + 2 } else { after_group(all, key + 1) };
            (after, String::new())
        } else if token.is("identity") && is(place + 1, "(") {
            (after_group(all, place + 1), "GENERATED BY DEFAULT AS IDENTITY".to_owned())
        } else if token.is("primary") && is(place + 1, "key") {
            let end = after_group(all, place + 2);
            let names: Vec<String> = all[place + 2..end]
                .iter()
                .filter(|token| matches!(token.kind, Kind::Word | Kind::Quoted))
                .map(|token| format!("{} IS NOT NULL", quoted(&token.value())))
                .collect();
            (end, if names.is_empty() { "NOT NULL".to_owned() } else { format!("CHECK ({})", names.join(" AND ")) })
        } else if token.is("unique") {
            let end = after_group(all, place + 1);
            (end, if end == place + 1 { String::new() } else { "CHECK (true)".to_owned() })
        } else if token.is("foreign") && is(place + 1, "key") {
            let references = after_group(all, place + 2);
            (after_group(all, references + 2), "CHECK (true)".to_owned())
        } else if token.is("references") {
            (after_group(all, place + 2), String::new())
        } else {
            place += 1;
            continue;
        };
        place = end.clamp(from + 1, all.len());
        edits.replace(token, &all[place - 1], with);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(sql: &str) -> String {
        let parameters = BTreeMap::from([("cid".to_owned(), "it's \\".to_owned())]);
        match read(sql, &parameters) {
            Ok(Statement::Rows(text) | Statement::Plain(text) | Statement::Truncate(text) | Statement::Alone(text)) => {
                text.split_whitespace().collect::<Vec<_>>().join(" ")
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn the_statements_of_a_guarded_load_pass() {
        assert_eq!(plain("LOCK public.ledger;"), "LOCK public.ledger");
        let guard = "SELECT 1/(1-LEAST(COUNT(*),1)) FROM ledger WHERE cid = '01H'";
        assert_eq!(plain(guard), guard);
        assert_eq!(
            plain("DELETE FROM l WHERE loaded_at < DATEADD(day, -90, SYSDATE)"),
            "DELETE FROM l WHERE loaded_at < DATEADD('day', -90, sysdate())"
        );
        assert_eq!(plain("SELECT :cid, a::int"), "SELECT 'it''s \\\\', a::int");
        assert_eq!(plain("SELECT \"Col\" FROM \"T\""), "SELECT \"col\" FROM \"t\"");
    }

    #[test]
    fn keys_and_places_are_taken_out_of_tables() {
        assert_eq!(
            plain(
                "CREATE TABLE IF NOT EXISTS l (cid CHAR(26) NOT NULL ENCODE RAW, a VARCHAR(MAX) DISTKEY, b INT UNIQUE, \
                 at TIMESTAMP DEFAULT SYSDATE SORTKEY, PRIMARY KEY (cid, a), UNIQUE(b), \
                 FOREIGN KEY (b) REFERENCES other (b)) DISTSTYLE KEY COMPOUND SORTKEY (cid, at)"
            ),
            "CREATE TABLE IF NOT EXISTS l (cid CHAR(26) NOT NULL , a VARCHAR(65535) , b INT , \
             at TIMESTAMP DEFAULT sysdate() , CHECK (\"cid\" IS NOT NULL AND \"a\" IS NOT NULL), CHECK (true), \
             CHECK (true))"
        );
        assert_eq!(
            plain("CREATE TABLE t (id BIGINT IDENTITY(1,1) PRIMARY KEY) DISTSTYLE AUTO SORTKEY AUTO"),
            "CREATE TABLE t (id BIGINT GENERATED BY DEFAULT AS IDENTITY NOT NULL)"
        );
    }

    #[test]
    fn what_redshift_does_not_know_is_refused() {
        for sql in [
            "INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING",
            "DELETE FROM t RETURNING id",
            "SELECT * FROM t FOR UPDATE",
            "SELECT pg_advisory_lock(1)",
            "CREATE INDEX i ON t (a)",
            "BEGIN",
            "SELECT 1; SELECT 2",
            "",
            "SELECT :unknown",
        ] {
            assert!(read(sql, &BTreeMap::new()).is_err(), "{sql}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(sql in "(CREATE TABLE |SELECT |)([a-zé,()'\":; ]|PRIMARY KEY|UNIQUE|SORTKEY|IDENTITY|REFERENCES|ENCODE){0,30}") {
            let _ = read(&sql, &BTreeMap::new());
        }
    }
}
