//! The operations: a body in, an answer or an exception out.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::answer;
use super::exception::Exception;
use super::request::{ById, Execute, List, check_wait, read};
use super::statements::{Accepted, Statement};
use crate::peer::Peer;
use crate::run::run;

/// Most statements of a page of the list.
const LIST_MAX: usize = 100;

/// Answers one call.
///
/// # Errors
/// An exception of the service.
pub(crate) async fn call(peer: &Arc<Peer>, operation: &str, body: &[u8]) -> Result<Value, Exception> {
    match operation {
        "ExecuteStatement" => execute(peer, body, false).await,
        "BatchExecuteStatement" => execute(peer, body, true).await,
        "DescribeStatement" => describe(peer, body).await,
        "GetStatementResult" => result(peer, body).await,
        "CancelStatement" => cancel(peer, body),
        "ListStatements" => list(peer, body),
        other => Err(Exception::unknown(other)),
    }
}

async fn execute(peer: &Arc<Peer>, body: &[u8], batch: bool) -> Result<Value, Exception> {
    let request: Execute = read(body)?;
    request.check(batch)?;
    let wait = request.wait_time_seconds;
    let id = peer.new_id();
    let statement = match peer.statements.accept(request, id, peer.now())? {
        Accepted::Known(statement) => statement,
        Accepted::New(statement) => {
            peer.tasks.spawn(run(peer.clone(), statement.clone()));
            statement
        }
    };
    let Some(seconds) = wait else { return Ok(answer::accepted(&statement, false)) };
    peer.statements.ended(&statement.id, Duration::from_secs(seconds.unsigned_abs())).await;
    let now = peer.statements.get(&statement.id).unwrap_or(statement);
    Ok(answer::accepted(&now, true))
}

/// The statement that an id names, and which of its parts.
async fn named(peer: &Peer, asked: &ById) -> Result<(Statement, Option<usize>), Exception> {
    check_wait(asked.wait_time_seconds)?;
    let (id, part) = match asked.id.split_once(':') {
        Some((id, part)) => (id, Some(part)),
        None => (asked.id.as_str(), None),
    };
    if let Some(seconds) = asked.wait_time_seconds {
        peer.statements.ended(id, Duration::from_secs(seconds.unsigned_abs())).await;
    }
    let missing = || Exception::not_found("Query does not exist.");
    let statement = peer.statements.get(id).ok_or_else(missing)?;
    let Some(part) = part else { return Ok((statement, None)) };
    let place = part.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
    let place = place.filter(|place| statement.is_batch() && *place < statement.parts.len()).ok_or_else(missing)?;
    Ok((statement, Some(place)))
}

async fn describe(peer: &Peer, body: &[u8]) -> Result<Value, Exception> {
    let (statement, place) = named(peer, &read(body)?).await?;
    Ok(match place {
        Some(place) => answer::sub(&statement, place, &statement.parts[place]),
        None => answer::described(&statement),
    })
}

async fn result(peer: &Peer, body: &[u8]) -> Result<Value, Exception> {
    let asked: ById = read(body)?;
    let (statement, place) = named(peer, &asked).await?;
    let place = match place {
        Some(place) => place,
        None if statement.is_batch() => {
            let message = "The result of a batch is that of its statements: ask for one by its suffix";
            return Err(Exception::validation(message));
        }
        None => 0,
    };
    let from = match &asked.next_token {
        Some(token) => token.parse().map_err(|_| Exception::validation("Invalid NextToken"))?,
        None => 0,
    };
    let table = statement.parts.get(place).and_then(|part| part.table.as_ref()).filter(|_| statement.status.is_final());
    let missing = "Query does not have result. Please check query status with DescribeStatement.";
    Ok(answer::page(table.ok_or_else(|| Exception::not_found(missing))?, from))
}

fn cancel(peer: &Peer, body: &[u8]) -> Result<Value, Exception> {
    let asked: ById = read(body)?;
    let id = asked.id.split(':').next().unwrap_or_default();
    let statement = peer.statements.get(id).ok_or_else(|| Exception::not_found("Query does not exist."))?;
    if statement.status.is_final() {
        let state = statement.status.name();
        return Err(Exception::validation(format!(
            "Could not cancel a query that is already in {state} state with ID: {}",
            asked.id
        )));
    }
    statement.cancel.cancel();
    Ok(json!({ "Status": true }))
}

fn list(peer: &Peer, body: &[u8]) -> Result<Value, Exception> {
    let asked: List = read(body)?;
    let status = asked.status.as_deref().unwrap_or("ALL");
    let name = asked.statement_name.as_deref().unwrap_or_default();
    let wanted = |statement: &Statement| {
        let named = statement.request.statement_name.as_deref().unwrap_or_default();
        (status == "ALL" || statement.status.name() == status) && named.starts_with(name)
    };
    let from = match &asked.next_token {
        Some(token) => token.parse().map_err(|_| Exception::validation("Invalid NextToken"))?,
        None => 0_usize,
    };
    let most = asked.max_results.unwrap_or(LIST_MAX).clamp(1, LIST_MAX);
    let all: Vec<Statement> = peer.statements.all().into_iter().filter(wanted).collect();
    let page: Vec<Value> = all.iter().skip(from).take(most).map(answer::listed).collect();
    let mut answer = json!({ "Statements": page });
    if let Some(answer) = answer.as_object_mut().filter(|_| from.saturating_add(most) < all.len()) {
        answer.insert("NextToken".to_owned(), json!((from + most).to_string()));
    }
    Ok(answer)
}
