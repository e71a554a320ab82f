//! The endpoints on a TCP port, HTTP/1.1, until told to stop.
//!
//! Requests are read whole before they are answered. A lost answer closes the connection, and so do events that break off.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::Emulator;
use crate::http::{Answer, Lost};

/// Serves the endpoints until `shutdown` completes; open connections are then dropped.
///
/// Cancel-safe: dropping the future closes the listener and every connection.
///
/// # Errors
/// Those of the listener itself.
pub async fn serve(
    emulator: Arc<Emulator>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let shutdown = pin!(shutdown);
    accept(emulator, listener, shutdown, false).await
}

/// [`serve`], where faults and the trace know each client by its access key id instead of `tcp`.
///
/// Cancel-safe as [`serve`].
///
/// # Errors
/// Those of the listener itself.
pub async fn serve_by_key(
    emulator: Arc<Emulator>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let shutdown = pin!(shutdown);
    accept(emulator, listener, shutdown, true).await
}

async fn accept(
    emulator: Arc<Emulator>,
    listener: TcpListener,
    mut shutdown: Pin<&mut impl Future<Output = ()>>,
    by_key: bool,
) -> io::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        // Stop comes first, so that a flood of connections cannot put it off.
        tokio::select! {
            biased;
            () = &mut shutdown => return Ok(()),
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => { connections.spawn(connection(emulator.clone(), by_key, stream)); }
                Err(error) if is_fatal(&error) => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            },
        }
    }
}

/// Whether the listener itself is broken; otherwise only one connection, or the number of open files, was the trouble.
fn is_fatal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotConnected)
}

async fn connection(emulator: Arc<Emulator>, by_key: bool, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| answer(emulator.clone(), by_key, request));
    let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn answer(emulator: Arc<Emulator>, by_key: bool, request: http::Request<Incoming>) -> Result<Answer, Broken> {
    let (parts, body) = request.into_parts();
    let name: Arc<str> = access_key(&parts.headers).filter(|_| by_key).unwrap_or("tcp").into();
    let body = body.collect().await.map_err(|_| Broken(Lost::Reset))?.to_bytes();
    emulator.call(&name, http::Request::from_parts(parts, body)).await.map_err(Broken)
}

/// The access key id of a signed request (Signature Version 4: `Credential=ID/date/region/service/aws4_request`).
fn access_key(headers: &http::HeaderMap) -> Option<&str> {
    let signature = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    signature.split("Credential=").nth(1)?.split('/').next()
}

/// Makes hyper close the connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Broken(Lost);
