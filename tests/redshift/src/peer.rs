//! What all requests share: where PostgreSQL and S3 are, the statements, the faults, and counts of what happened.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use crate::api::statements::Statements;
use crate::faults::Faults;
use crate::load::s3::S3;
use crate::session::Settings;

/// The endpoint.
pub(crate) struct Peer {
    pub(crate) settings: Settings,
    /// The only database; another one does not exist.
    pub(crate) database: String,
    pub(crate) s3: S3,
    pub(crate) statements: Statements,
    pub(crate) faults: Faults,
    pub(crate) tasks: TaskTracker,
    /// How long a statement is SUBMITTED, and then PICKED.
    pub(crate) queued: Duration,
    query_ids: AtomicI64,
    counts: Mutex<BTreeMap<String, u64>>,
    clock: fn() -> f64,
}

impl Peer {
    pub(crate) fn new(
        (settings, database, s3): (Settings, String, S3),
        faults: Faults,
        (queued, active_max): (Duration, usize),
        clock: fn() -> f64,
    ) -> Self {
        Self {
            settings,
            database,
            s3,
            statements: Statements::new(active_max),
            faults,
            tasks: TaskTracker::new(),
            queued,
            // Ids of several starts do not meet, as far as load errors of the one before are still there.
            query_ids: AtomicI64::new((clock() as i64) * 1000),
            counts: Mutex::default(),
            clock,
        }
    }

    /// Seconds since 1970, to the millisecond.
    pub(crate) fn now(&self) -> f64 {
        ((self.clock)() * 1000.0).round() / 1000.0
    }

    /// A UUID of random bits.
    pub(crate) fn new_id(&self) -> String {
        let mut bytes = [0_u8; 16];
        // Without randomness the counter below still tells ids apart.
        let _ = getrandom::fill(&mut bytes);
        let [a, b, c, d, e, f, g, h, ..] = bytes;
        let tail = self.query_ids.load(Ordering::Relaxed) as u64 ^ u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        let hex: String = bytes[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        format!(
            "{}-{}-4{}-8{:03x}-{:012x}",
            &hex[..8],
            &hex[8..12],
            &hex[13..16],
            tail & 0xFFF,
            (tail >> 12) & 0xFFFF_FFFF_FFFF
        )
    }

    /// The next query id.
    pub(crate) fn new_query(&self) -> i64 {
        self.query_ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts something.
    pub(crate) fn count(&self, what: &str, by: u64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(what.to_owned()).or_default() += by;
    }

    /// All counts, and those of faults.
    pub(crate) fn counts(&self) -> Value {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        json!({ "counts": counts, "faults": self.faults.counts(), "rules": self.faults.rules() })
    }
}
