//! A peer for tests: the Redshift Data API in front of a real PostgreSQL.
//!
//! Statements run in real transactions with real locks, conflicts, errors and cancels; COPY is read by a grammar of
//! Redshift's, and loads what a manifest in S3 names within the same transaction. Shares no code with Standpipe.
//!
//! What it cannot show: WLM queues, Redshift's planner, distribution and slices; its locks (Redshift knows one of tables,
//! PostgreSQL many more); VACUUM; UNLOAD; sessions; how long anything takes there. Isolation is REPEATABLE READ, which is
//! snapshot isolation as new Redshift databases have it, but the snapshot differs in when it is taken: here at the
//! first statement that reads, after a LOCK that stands first. A conflict of two writers of one row fails here with 1023;
//! in Redshift two writers of one table already may. Keys are not enforced, as there. Errors have Redshift's words where
//! they are public, PostgreSQL's otherwise. Requests are not signed; roles are read, not used.

mod api;
mod faults;
mod load;
mod peer;
mod run;
mod serve;
mod session;
mod sql;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::faults::Faults;
use crate::load::s3::S3;
use crate::peer::Peer;
use crate::session::{Session, Settings, chain};

/// Where everything is, and what goes wrong.
#[derive(Debug, Clone)]
pub struct Options {
    /// PostgreSQL's address as libpq writes it: `host=127.0.0.1 port=5439 user=rs`. The role must be a superuser.
    pub postgres: String,
    /// The database; it must be there.
    pub database: String,
    /// S3's address, `http://host:port`.
    pub s3: String,
    /// Rules of faults, as `POST /faults` takes them.
    pub faults: String,
    /// Decides which calls a fault with a probability strikes.
    pub seed: u64,
    /// How long a statement waits before it starts.
    pub queued: Duration,
    /// Most statements that are active at once.
    pub active_max: usize,
    /// Seconds since 1970.
    pub clock: fn() -> f64,
}

/// Serves until the listener fails.
///
/// # Errors
/// Options that cannot be used, PostgreSQL that does not answer, or the listener's own.
pub async fn serve(options: Options, listener: TcpListener) -> io::Result<()> {
    let s3 = S3::new(&options.s3).ok_or_else(|| io::Error::other("the address of S3 must be http://host:port"))?;
    let rules = serde_json::from_str(&options.faults).map_err(|error| io::Error::other(chain(&error)))?;
    let settings = Settings(format!("{} dbname={}", options.postgres, options.database));
    let session = Session::open(&settings).await.map_err(|trouble| io::Error::other(trouble.to_string()))?;
    session.run(include_str!("setup.sql")).await.map_err(|trouble| io::Error::other(trouble.to_string()))?;
    drop(session);
    let faults = Faults::new(options.seed, rules);
    let place = (settings, options.database, s3);
    let peer = Peer::new(place, faults, (options.queued, options.active_max), options.clock);
    serve::serve(Arc::new(peer), listener).await
}
