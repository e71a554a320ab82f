//! The ordered list of what was asked and what came of it, so that a simulation can prove that one seed gives one run.
//!
//! A line is written when the service has acted (or was kept from acting), in the order of the effects.

use std::fmt;
use std::sync::Mutex;

use crate::call::Call;

/// One line of the trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceEntry {
    /// The request.
    pub call: Call,
    /// When the service acted, epoch milliseconds.
    pub acted_millis: u64,
    /// The answer: an HTTP status with the error's name, `lost`, or the fault that stood in the way.
    pub outcome: String,
}

impl fmt::Display for TraceEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Call { at_millis, connection, service, operation, detail } = &self.call;
        write!(f, "{at_millis}+{} {connection} {service} ", self.acted_millis.saturating_sub(*at_millis))?;
        write!(f, "{operation} {detail} -> {}", self.outcome)
    }
}

/// The trace, if one is kept.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    entries: Option<Mutex<Vec<TraceEntry>>>,
}

impl Trace {
    pub(crate) fn new(kept: bool) -> Self {
        Self { entries: kept.then(Mutex::default) }
    }

    pub(crate) fn record(&self, entry: impl FnOnce() -> TraceEntry) {
        if let Some(entries) = &self.entries {
            lock(entries).push(entry());
        }
    }

    pub(crate) fn take(&self) -> Vec<TraceEntry> {
        self.entries.as_ref().map(|entries| std::mem::take(&mut *lock(entries))).unwrap_or_default()
    }
}

/// A lock whose holder panicked still guards whole data here: every critical section writes in one step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
