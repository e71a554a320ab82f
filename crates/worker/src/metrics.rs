//! What the process exports: the registry, and the families that every pipeline of it counts in.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use standpipe_pipeline::metrics::Metrics;

/// The registry and the families, shared by every worker of the process.
#[derive(Clone, Debug)]
pub struct SharedMetrics {
    registry: Arc<Mutex<Registry>>,
    /// What pipelines count.
    pub pipeline: Metrics,
    /// Bytes that all buffers may hold.
    pub memory_budget_bytes: Gauge,
    /// Bytes that they hold.
    pub memory_used_bytes: Gauge,
}

impl Default for SharedMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl SharedMetrics {
    /// A fresh registry.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("standpipe");
        let pipeline = Metrics::new(&mut registry);
        let (memory_budget_bytes, memory_used_bytes) = (Gauge::default(), Gauge::default());
        registry.register(
            "memory_budget_bytes",
            "Bytes that all buffers together may hold",
            memory_budget_bytes.clone(),
        );
        registry.register("memory_used_bytes", "Bytes that they hold", memory_used_bytes.clone());
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The program that is running", build);
        Self { registry: Arc::new(Mutex::new(registry)), pipeline, memory_budget_bytes, memory_used_bytes }
    }

    /// The OpenMetrics text of `/metrics`.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a string does not fail.
        let _ = encode(&mut text, &registry);
        text
    }
}
