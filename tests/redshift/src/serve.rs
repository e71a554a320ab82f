//! The endpoint on a TCP port, HTTP/1.1: the Data API at `POST /`, and beside it what a test asks for.
//!
//! `GET /counts` tells what happened and which rules of faults stand, `POST /faults` sets rules (a list), `DELETE /faults`
//! ends them. A fault that loses an answer closes the connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::api::calls::call;
use crate::api::exception::Exception;
use crate::api::request::Execute;
use crate::faults::Fault;
use crate::peer::Peer;
use crate::run::is_copy;

const TARGET: &str = "RedshiftData.";
/// How long an answer is held back until its statement has ended.
const ENDED_MAX: Duration = Duration::from_secs(600);

type Answer = http::Response<Full<Bytes>>;

/// Makes hyper close the connection without an answer.
#[derive(Debug)]
struct Lost;

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("lost by a fault")
    }
}

impl std::error::Error for Lost {}

/// Serves until the listener fails.
///
/// # Errors
/// Those of the listener.
pub(crate) async fn serve(peer: Arc<Peer>, listener: TcpListener) -> io::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                connections.spawn(connection(peer.clone(), stream));
            }
        }
    }
}

async fn connection(peer: Arc<Peer>, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| answer(peer.clone(), request));
    // What goes wrong is the client's to see.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(peer: Arc<Peer>, request: http::Request<Incoming>) -> Result<Answer, Lost> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Lost)?.to_bytes();
    let target = parts.headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    match (parts.method.as_str(), parts.uri.path()) {
        ("POST", "/") => match target.strip_prefix(TARGET) {
            Some(operation) => data_api(&peer, operation, &body).await,
            None => Ok(refused(&Exception::unknown(target))),
        },
        ("GET", "/counts") => Ok(json(200, peer.counts().to_string().into_bytes())),
        ("POST", "/faults") => match serde_json::from_slice(&body) {
            Ok(rules) => {
                peer.faults.set(rules);
                Ok(json(200, peer.counts().to_string().into_bytes()))
            }
            Err(error) => Ok(json(400, error.to_string().into_bytes())),
        },
        ("DELETE", "/faults") => {
            peer.faults.set(Vec::new());
            Ok(json(200, peer.counts().to_string().into_bytes()))
        }
        _ => Ok(json(404, b"{}".to_vec())),
    }
}

async fn data_api(peer: &Arc<Peer>, operation: &str, body: &[u8]) -> Result<Answer, Lost> {
    peer.count(operation, 1);
    let submits = matches!(operation, "ExecuteStatement" | "BatchExecuteStatement");
    let asks = matches!(operation, "DescribeStatement" | "GetStatementResult" | "CancelStatement");
    let has_copy =
        serde_json::from_slice::<Execute>(body).is_ok_and(|asked| asked.statements().iter().any(|sql| is_copy(sql)));
    let fits = |fault: Fault| match fault {
        Fault::ActiveStatements | Fault::DatabaseConnection | Fault::DropEnded => submits,
        Fault::Forgotten => asks,
        other => other.of_requests(),
    };
    let strike = peer.faults.strike(operation, has_copy, fits).map(|strike| strike.fault);
    match strike {
        Some(Fault::Throttle) => return Ok(refused(&Exception::throttled())),
        Some(Fault::Internal) => return Ok(refused(&Exception::internal())),
        Some(Fault::ActiveStatements) => return Ok(refused(&Exception::active_statements())),
        Some(Fault::DatabaseConnection) => return Ok(refused(&Exception::database_connection())),
        Some(Fault::DropRequest) => return Err(Lost),
        Some(Fault::Forgotten) => {
            let asked: Value = serde_json::from_slice(body).unwrap_or_default();
            peer.statements.forget(asked["Id"].as_str().unwrap_or_default());
        }
        _ => {}
    }
    let result = call(peer, operation, body).await;
    match strike {
        Some(Fault::InternalAfter) => return Ok(refused(&Exception::internal())),
        Some(Fault::DropAccepted) => return Err(Lost),
        Some(Fault::DropEnded) => {
            if let Some(id) = result.as_ref().ok().and_then(|answer| answer["Id"].as_str()) {
                peer.statements.ended(id, ENDED_MAX).await;
            }
            return Err(Lost);
        }
        _ => {}
    }
    Ok(match result {
        Ok(value) => json(200, value.to_string().into_bytes()),
        Err(exception) => refused(&exception),
    })
}

fn refused(exception: &Exception) -> Answer {
    json(exception.status, exception.body())
}

fn json(status: u16, body: Vec<u8>) -> Answer {
    let mut answer = http::Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1"));
    answer
}
