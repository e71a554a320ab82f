//! What the demo delivers to: one file a kind, which says what the workers' config has of it, and reads back what arrived.
//!
//! Never: asks a worker what it has delivered.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::Result;
use async_trait::async_trait;

use super::count::Count;
use super::lake::Lake;
use super::producer::Produced;
use super::redshift::Warehouse;
use super::scene::Scene;
use super::search::Search;
use crate::args::DemoDestination;

/// One kind of destination, as the demo needs it.
#[async_trait]
pub trait Target: Send {
    /// What the opening says after the records: `delivered as Parquet into standpipe-demo/`.
    fn opening(&self, dir: &Path) -> String;

    /// Where the demo's own endpoints listen: where another server was told to find its objects; otherwise any port.
    fn listen(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
    }

    /// What `aws.endpoints` of the config has beside the demo's own, each with a comma before it.
    fn endpoints(&self) -> String {
        String::new()
    }

    /// The item of `destinations`, as it stands in the config. Error objects go under `errors/`.
    fn destination(&self) -> String;

    /// Makes what must be there before a worker starts, and sees whether the server answers.
    async fn prepare(&mut self, _scene: &Scene) -> Result<()> {
        Ok(())
    }

    /// Rows that have arrived so far.
    async fn rows(&mut self, scene: &Scene) -> Result<u64>;

    /// Reads all of them back and compares them with what was produced.
    async fn count(&mut self, scene: &Scene, produced: &Produced) -> Result<Count>;

    /// How the report speaks of them.
    fn told(&self, scene: &Scene, count: &Count) -> Told;
}

/// How the report speaks of what was delivered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    /// What was read back: `the files`.
    pub what: &'static str,
    /// How many rows in what: `100,000 records in 31 Parquet files, 4.2 MB`.
    pub delivered: String,
    /// Where they are and how to look at them.
    pub after: String,
    /// The folder, if they are files.
    pub directory: Option<String>,
}

/// The one that was asked for.
///
/// # Errors
/// A server that it needs is not named: what to start is said.
pub fn of(destination: DemoDestination) -> Result<Box<dyn Target>> {
    Ok(match destination {
        DemoDestination::S3 => Box::new(Lake::default()),
        DemoDestination::Redshift => Box::new(Warehouse::from_environment()?),
        DemoDestination::Opensearch => Box::new(Search::from_environment()?),
    })
}
