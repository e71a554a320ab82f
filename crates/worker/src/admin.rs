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
use standpipe_flow::Clock;
use tokio_util::sync::CancellationToken;
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

/// Serves until `stop`. A port in use is a warning: delivery does not depend on it.
pub(crate) async fn serve(listen: SocketAddr, health: Health, stop: CancellationToken) {
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
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await {
        warn!(%error, "health and metrics are not served any more");
    }
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
