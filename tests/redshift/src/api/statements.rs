//! Statements that were accepted: their states, results and tokens.
//!
//! A token names one statement for 8 hours. States go forward only: SUBMITTED, PICKED, STARTED, and then one of the final
//! ones. Kept in memory: a restart of the endpoint forgets them, as the service does after 24 hours.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::exception::Exception;
use super::request::Execute;
use crate::session::Table;

/// How long a token names its statement (Data API, "Idempotency").
const TOKEN_LIVES: Duration = Duration::from_secs(8 * 3600);

/// Where a statement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Status {
    Submitted,
    Picked,
    Started,
    Finished,
    Failed,
    Aborted,
}

impl Status {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Status::Submitted => "SUBMITTED",
            Status::Picked => "PICKED",
            Status::Started => "STARTED",
            Status::Finished => "FINISHED",
            Status::Failed => "FAILED",
            Status::Aborted => "ABORTED",
        }
    }

    pub(crate) fn is_final(self) -> bool {
        self >= Status::Finished
    }
}

/// One statement of a batch, or the only one.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) sql: String,
    pub(crate) status: Status,
    pub(crate) error: Option<String>,
    pub(crate) query_id: i64,
    /// Rows returned or touched; -1 where there are none to tell.
    pub(crate) rows: i64,
    pub(crate) table: Option<Arc<Table>>,
    pub(crate) updated: f64,
    pub(crate) nanos: i64,
}

/// What was accepted.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    pub(crate) id: String,
    pub(crate) request: Arc<Execute>,
    pub(crate) status: Status,
    pub(crate) error: Option<String>,
    pub(crate) pid: i32,
    /// Seconds since 1970.
    pub(crate) created: f64,
    pub(crate) updated: f64,
    pub(crate) nanos: i64,
    pub(crate) parts: Vec<Part>,
    pub(crate) cancel: CancellationToken,
    /// In the order of arrival.
    pub(crate) number: u64,
}

impl Statement {
    pub(crate) fn is_batch(&self) -> bool {
        self.request.sql.is_none()
    }

    /// The name of its operation.
    pub(crate) fn operation(&self) -> &'static str {
        if self.is_batch() { "BatchExecuteStatement" } else { "ExecuteStatement" }
    }
}

struct Entry {
    statement: Statement,
    changed: watch::Sender<Status>,
    /// Nobody is told of it any more.
    forgotten: bool,
}

struct Token {
    fingerprint: String,
    id: String,
    at: Instant,
}

#[derive(Default)]
struct Kept {
    entries: BTreeMap<String, Entry>,
    tokens: BTreeMap<String, Token>,
    number: u64,
}

/// All of them.
pub(crate) struct Statements {
    kept: Mutex<Kept>,
    active_max: usize,
}

/// What became of a submission.
pub(crate) enum Accepted {
    New(Statement),
    /// The token had named it before.
    Known(Statement),
}

impl Statements {
    pub(crate) fn new(active_max: usize) -> Self {
        Self { kept: Mutex::default(), active_max }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a statement in, or finds the one that its token names. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// Another request has the token, or too many statements are active.
    pub(crate) fn accept(&self, request: Execute, id: String, now: f64) -> Result<Accepted, Exception> {
        let mut kept = self.lock();
        let kept = &mut *kept;
        let fingerprint = request.fingerprint();
        kept.tokens.retain(|_, token| token.at.elapsed() < TOKEN_LIVES);
        if let Some(token) = request.client_token.as_ref().and_then(|name| kept.tokens.get(name)) {
            if token.fingerprint != fingerprint {
                let message = "The ClientToken was used before with other parameters";
                return Err(Exception::validation(message));
            }
            if let Some(entry) = kept.entries.get(&token.id) {
                return Ok(Accepted::Known(entry.statement.clone()));
            }
        }
        let active = kept.entries.values().filter(|entry| !entry.statement.status.is_final()).count();
        if active >= self.active_max {
            return Err(Exception::active_statements());
        }
        if let Some(name) = request.client_token.clone() {
            kept.tokens.insert(name, Token { fingerprint, id: id.clone(), at: Instant::now() });
        }
        let part = |sql: &String| Part {
            sql: sql.clone(),
            status: Status::Submitted,
            error: None,
            query_id: 0,
            rows: -1,
            table: None,
            updated: now,
            nanos: -1,
        };
        kept.number += 1;
        let statement = Statement {
            id: id.clone(),
            status: Status::Submitted,
            error: None,
            pid: 0,
            created: now,
            updated: now,
            nanos: -1,
            parts: request.statements().iter().map(part).collect(),
            cancel: CancellationToken::new(),
            number: kept.number,
            request: Arc::new(request),
        };
        let (changed, _) = watch::channel(Status::Submitted);
        kept.entries.insert(id, Entry { statement: statement.clone(), changed, forgotten: false });
        Ok(Accepted::New(statement))
    }

    /// A statement as it is now.
    pub(crate) fn get(&self, id: &str) -> Option<Statement> {
        let kept = self.lock();
        let entry = kept.entries.get(id).filter(|entry| !entry.forgotten)?;
        Some(entry.statement.clone())
    }

    /// All of them, the newest first.
    pub(crate) fn all(&self) -> Vec<Statement> {
        let kept = self.lock();
        let known = kept.entries.values().filter(|entry| !entry.forgotten);
        let mut all: Vec<Statement> = known.map(|entry| entry.statement.clone()).collect();
        all.sort_by_key(|statement| std::cmp::Reverse(statement.number));
        all
    }

    /// Changes a statement; whoever waits for its state is told.
    pub(crate) fn change(&self, id: &str, now: f64, change: impl FnOnce(&mut Statement)) {
        let mut kept = self.lock();
        let Some(entry) = kept.entries.get_mut(id) else { return };
        change(&mut entry.statement);
        entry.statement.updated = now;
        let status = entry.statement.status;
        entry.changed.send_replace(status);
    }

    /// Tells nobody of a statement any more. What runs goes on, and its token still names it: it never runs twice.
    pub(crate) fn forget(&self, id: &str) {
        if let Some(entry) = self.lock().entries.get_mut(id) {
            entry.forgotten = true;
        }
    }

    /// Waits until a statement has ended, so long at most.
    pub(crate) async fn ended(&self, id: &str, most: Duration) {
        let Some(mut changed) = self.lock().entries.get(id).map(|entry| entry.changed.subscribe()) else { return };
        let _ = tokio::time::timeout(most, changed.wait_for(|status| status.is_final())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(sql: &str, token: Option<&str>) -> Execute {
        Execute { sql: Some(sql.to_owned()), client_token: token.map(str::to_owned), ..Execute::default() }
    }

    fn id(accepted: Result<Accepted, Exception>) -> Result<(bool, String), &'static str> {
        match accepted {
            Ok(Accepted::New(statement)) => Ok((true, statement.id)),
            Ok(Accepted::Known(statement)) => Ok((false, statement.id)),
            Err(exception) => Err(exception.kind),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_names_one_statement_for_eight_hours() {
        let statements = Statements::new(10);
        let accept = |sql, new: &str| id(statements.accept(request(sql, Some("t")), new.to_owned(), 0.0));
        assert_eq!(accept("SELECT 1", "a"), Ok((true, "a".to_owned())));
        assert_eq!(accept("SELECT 1", "b"), Ok((false, "a".to_owned())));
        assert_eq!(accept("SELECT 2", "c"), Err("ValidationException"));
        statements.forget("a");
        assert!(statements.get("a").is_none() && statements.all().is_empty());
        assert_eq!(accept("SELECT 1", "b"), Ok((false, "a".to_owned())), "it does not run twice");
        tokio::time::advance(TOKEN_LIVES).await;
        assert_eq!(accept("SELECT 2", "d"), Ok((true, "d".to_owned())));
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_statements_are_active_at_most() {
        let statements = Statements::new(1);
        let accept = |new: &str| id(statements.accept(request("SELECT 1", None), new.to_owned(), 0.0));
        assert_eq!(accept("a"), Ok((true, "a".to_owned())));
        assert_eq!(accept("b"), Err("ActiveStatementsExceededException"));
        statements.change("a", 1.0, |statement| statement.status = Status::Failed);
        statements.ended("a", Duration::from_secs(1)).await;
        assert_eq!(accept("b"), Ok((true, "b".to_owned())));
    }
}
