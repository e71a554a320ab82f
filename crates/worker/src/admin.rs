//! `/livez`, `/readyz` and `/metrics`. Read-only; no record content, no secret.

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
use tokio::task::JoinSet;
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

/// Connections at once; more wait in the kernel's queue, and hold no file descriptor of ours.
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
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(health);
    // While the worker drains, /readyz goes on to say so: this ends with the process.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, router.clone()));
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
