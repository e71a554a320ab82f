//! `/livez`, `/readyz` and `/metrics`. Read-only; no record content, no secret.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use standpipe_flow::Clock;
use tokio::task::{AbortHandle, JoinSet};
use tracing::{info, warn};

use crate::metrics::SharedMetrics;

/// Heartbeats older than this many milliseconds mean that the process is stuck: three times the longest failover.
const STUCK_AFTER: Duration = Duration::from_secs(900);

/// What the endpoints answer from.
#[derive(Clone, Debug)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Arc<dyn Clock>,
    metrics: SharedMetrics,
    pipelines_starting: AtomicU64,
    draining: AtomicBool,
    alive_at_ms: AtomicU64,
}

impl Health {
    /// A process with so many pipelines, none of which is ready.
    pub fn new(clock: Arc<dyn Clock>, metrics: SharedMetrics, pipelines: usize) -> Self {
        let inner = Inner {
            clock,
            metrics,
            pipelines_starting: AtomicU64::new(pipelines as u64),
            draining: AtomicBool::new(false),
            alive_at_ms: AtomicU64::new(0),
        };
        Self(Arc::new(inner))
    }

    /// One more pipeline has its lease table and has seen its shards.
    pub fn pipeline_ready(&self) {
        self.0.pipelines_starting.fetch_sub(1, Ordering::Relaxed);
    }

    /// From now on not ready: the process ends.
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// A pipeline's task is running.
    pub fn alive(&self) {
        self.0.alive_at_ms.store(self.0.clock.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    fn is_alive(&self) -> bool {
        let at = Duration::from_millis(self.0.alive_at_ms.load(Ordering::Relaxed));
        self.0.clock.elapsed().saturating_sub(at) < STUCK_AFTER
    }

    fn is_ready(&self) -> bool {
        self.0.pipelines_starting.load(Ordering::Relaxed) == 0 && !self.0.draining.load(Ordering::Relaxed)
    }
}

/// Connections at once. One more ends the oldest: answers take milliseconds, so that one is slow, and a probe must not
/// wait behind it.
const CONNECTIONS_MAX: usize = 64;
/// For a client to send its request head, and for a connection in all: these answers take milliseconds.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves for as long as the process lives. A port in use is a warning: delivery does not depend on it.
pub(crate) async fn serve(listen: SocketAddr, health: Health) {
    let listener = match tokio::net::TcpListener::bind(listen).await {
        Ok(listener) => listener,
        Err(error) => return warn!(%listen, %error, "health and metrics are not served"),
    };
    info!(%listen, "serving /livez, /readyz and /metrics");
    serve_on(listener, health).await;
}

async fn serve_on(listener: tokio::net::TcpListener, health: Health) {
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(health);
    // While the worker drains, /readyz goes on to say so: this ends with the process.
    let mut connections = JoinSet::new();
    let mut by_age: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        tokio::select! {
            biased;
            Some(_) = connections.join_next(), if !connections.is_empty() => by_age.retain(|one| !one.is_finished()),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    if by_age.len() >= CONNECTIONS_MAX && let Some(oldest) = by_age.pop_front() {
                        oldest.abort();
                    }
                    by_age.push_back(connections.spawn(connection(stream, router.clone())));
                }
                Err(error) => {
                    warn!(%error, "a connection to the health port could not be accepted");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            },
        }
    }
}

/// One request on one connection. What goes wrong with it is the client's business.
async fn connection(stream: tokio::net::TcpStream, router: Router) {
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, serving).await;
}

fn answer(yes: bool) -> (StatusCode, &'static str) {
    if yes { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "no\n") }
}

async fn livez(State(health): State<Health>) -> impl IntoResponse {
    answer(health.is_alive())
}

async fn readyz(State(health): State<Health>) -> impl IntoResponse {
    answer(health.is_ready())
}

async fn metrics(State(health): State<Health>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], health.0.metrics.encode())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::platform::SystemClock;

    /// Regression: clients that send a byte now and then took every place, and probes waited for their timeouts.
    #[tokio::test]
    async fn a_probe_is_answered_before_slow_clients_have_ended() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let health = Health::new(Arc::new(SystemClock::start()), SharedMetrics::new(), 0);
        let mut serving = JoinSet::new();
        serving.spawn(serve_on(listener, health));
        let mut slow = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            let mut client = TcpStream::connect(address).await.expect("connected");
            client.write_all(b"G").await.expect("sent");
            slow.push(client);
        }
        let mut probe = TcpStream::connect(address).await.expect("connected");
        probe.write_all(b"GET /livez HTTP/1.1\r\nhost: h\r\n\r\n").await.expect("sent");
        let mut answer = String::new();
        probe.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        let mut byte = [0];
        let youngest = slow.last().expect("there are many").try_read(&mut byte);
        assert!(youngest.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "it is still served");
        assert!(matches!(slow[0].read(&mut byte).await, Ok(0) | Err(_)), "the oldest made room");
    }
}
