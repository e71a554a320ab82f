//! The demo's scene: the endpoints on a port of this machine, a stream, a bucket, and the config that joins them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use standpipe_config::Config;
use standpipe_emulator::{Emulator, Options, serve};
use standpipe_worker::Known;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::target::Target;
use crate::commands::emulator::{REGION, clock};

/// The stream.
pub const STREAM: &str = "orders";
/// How many shards it begins with.
pub const SHARDS: usize = 4;
/// A worker that is silent for this long has lost its leases.
pub const FAILOVER: Duration = Duration::from_secs(2);
/// The bucket.
pub const BUCKET: &str = "lake";
/// What keys of delivered or staged records begin with.
pub const FOLDER: &str = "orders";

/// The endpoints with what they hold.
pub struct Scene {
    /// The core of the endpoints.
    pub emulator: Arc<Emulator>,
    /// Where they are served.
    pub url: String,
    /// The config of every worker, but for their names.
    pub config: Config,
    /// The bucket, as a folder.
    pub bucket: PathBuf,
    _server: JoinSet<std::io::Result<()>>,
}

impl Scene {
    /// Sets everything up in the directory.
    pub async fn set(dir: &Path, target: &dyn Target) -> Result<Self> {
        let options = Options { data_dir: Some(dir.to_owned()), ..Options::new(clock()) };
        let emulator = Emulator::new(options).context("cannot open the endpoints")?;
        emulator.create_stream(STREAM, SHARDS).context("cannot make the stream")?;
        emulator.create_bucket(BUCKET).context("cannot make the bucket")?;
        let address = target.listen();
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        let url = format!("http://{}", listener.local_addr().context("cannot tell the port")?);
        let mut server = JoinSet::new();
        server.spawn(serve(emulator.clone(), listener, std::future::pending()));
        let text = config_text(&url, target);
        let path = dir.join("standpipe.yaml");
        std::fs::write(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
        let config = parse(&path, &text)?;
        let bucket = dir.join("s3").join(BUCKET);
        Ok(Self { emulator, url, config, bucket, _server: server })
    }

    /// How many objects hold records that could not be delivered.
    pub fn error_objects(&self) -> usize {
        self.emulator.objects(BUCKET).iter().filter(|object| !is_order(&object.key)).count()
    }
}

/// Whether an object holds records that are delivered, or are on their way.
pub fn is_order(key: &str) -> bool {
    let rest = key.strip_prefix(FOLDER).and_then(|rest| rest.strip_prefix('/'));
    rest.is_some_and(|rest| !rest.starts_with("errors/"))
}

fn parse(path: &Path, text: &str) -> Result<Config> {
    Ok(standpipe_config::parse(&path.display().to_string(), text, &|_| None, &Known)?)
}

fn config_text(url: &str, target: &dyn Target) -> String {
    let failover = FAILOVER.as_secs();
    let (endpoints, destination) = (target.endpoints(), target.destination());
    format!(
        "# Written by `standpipe demo`: what each of its workers runs.
version: 1
aws:
  region: {REGION}
  endpoints: {{ kinesis: \"{url}\", dynamodb: \"{url}\", s3: \"{url}\"{endpoints} }}
worker:
  memory: 128MiB
  shutdown_grace: 10s
http: off
pipelines:
  orders:
    lease:
      table: standpipe-orders
      failover: {failover}s
    source:
      kinesis:
        stream: {STREAM}
        start: trim_horizon
        read: polling
        poll: 200ms
    destinations:
{destination}"
    )
}

#[cfg(test)]
mod tests {
    use super::super::lake::Lake;
    use super::super::redshift::Warehouse;
    use super::super::search::Search;
    use super::*;

    #[test]
    fn the_config_is_sound() {
        let here = Some("http://127.0.0.1:4600");
        let warehouse = Warehouse::new(here, here).expect("both are here");
        let search = Search::new(here).expect("it is here");
        let targets: [Box<dyn Target>; 3] = [Box::new(Lake::default()), Box::new(warehouse), Box::new(search)];
        for target in targets {
            let text = config_text("http://127.0.0.1:4600", target.as_ref());
            let config = parse(Path::new("standpipe.yaml"), &text).expect("it is sound");
            assert_eq!(config.pipelines.len(), 1);
            assert_eq!(config.pipelines[0].lease.failover, FAILOVER);
            assert_eq!(config.http, None);
        }
    }

    #[test]
    fn what_is_no_record_that_is_delivered_is_an_error_object() {
        assert!(is_order("orders/dt=2026-01-31/x") && is_order("orders/manifests/x"));
        assert!(!is_order("errors/processing-failed/x") && !is_order("orders/errors/rows/x") && !is_order("ordersx/y"));
    }
}
