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

use super::orders::COLUMNS;
use crate::commands::emulator::{REGION, clock};

/// The stream.
pub const STREAM: &str = "orders";
/// How many shards it begins with.
pub const SHARDS: usize = 4;
/// A worker that is silent for this long has lost its leases.
pub const FAILOVER: Duration = Duration::from_secs(2);
const BUCKET: &str = "lake";
const FOLDER: &str = "orders";

/// The endpoints with what they hold.
pub struct Scene {
    /// The core of the endpoints.
    pub emulator: Arc<Emulator>,
    /// Where they are served.
    pub url: String,
    /// The config of every worker, but for their names.
    pub config: Config,
    /// The bucket, as a folder.
    bucket: PathBuf,
    _server: JoinSet<std::io::Result<()>>,
}

impl Scene {
    /// Sets everything up in the directory.
    pub async fn set(dir: &Path) -> Result<Self> {
        let options = Options { data_dir: Some(dir.to_owned()), ..Options::new(clock()) };
        let emulator = Emulator::new(options).context("cannot open the endpoints")?;
        emulator.create_stream(STREAM, SHARDS).context("cannot make the stream")?;
        emulator.create_bucket(BUCKET).context("cannot make the bucket")?;
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen on 127.0.0.1")?;
        let url = format!("http://{}", listener.local_addr().context("cannot tell the port")?);
        let mut server = JoinSet::new();
        server.spawn(serve(emulator.clone(), listener, std::future::pending()));
        let text = config_text(&url);
        let path = dir.join("standpipe.yaml");
        std::fs::write(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
        let config = parse(&path, &text)?;
        let bucket = dir.join("s3").join(BUCKET);
        Ok(Self { emulator, url, config, bucket, _server: server })
    }

    /// The folder of the delivered files.
    pub fn orders_dir(&self) -> PathBuf {
        self.bucket.join(FOLDER)
    }

    /// The files of delivered records that are there now, in the order of their keys.
    pub fn files(&self) -> Vec<PathBuf> {
        let objects = self.emulator.objects(BUCKET).into_iter();
        objects.filter(|object| is_order(&object.key)).map(|object| self.bucket.join(object.key)).collect()
    }

    /// How many objects hold records that could not be delivered.
    pub fn error_objects(&self) -> usize {
        self.emulator.objects(BUCKET).iter().filter(|object| !is_order(&object.key)).count()
    }
}

fn is_order(key: &str) -> bool {
    key.strip_prefix(FOLDER).is_some_and(|rest| rest.starts_with('/'))
}

fn parse(path: &Path, text: &str) -> Result<Config> {
    Ok(standpipe_config::parse(&path.display().to_string(), text, &|_| None, &Known)?)
}

fn config_text(url: &str) -> String {
    let failover = FAILOVER.as_secs();
    format!(
        "# Written by `standpipe demo`: what each of its workers runs.
version: 1
aws:
  region: {REGION}
  endpoints: {{ kinesis: \"{url}\", dynamodb: \"{url}\", s3: \"{url}\" }}
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
      - s3:
          id: lake
          bucket: {BUCKET}
          prefix: \"{FOLDER}/dt=!{{timestamp:yyyy-MM-dd}}/\"
          error_prefix: \"errors/!{{firehose:error-output-type}}/\"
          format: {{ parquet: {{ compression: snappy }} }}
          schema:
            columns: \"{COLUMNS}\"
          buffer: {{ size: 16MiB, interval: 2s }}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_config_is_sound() {
        let config = parse(Path::new("standpipe.yaml"), &config_text("http://127.0.0.1:4600")).expect("it is sound");
        assert_eq!(config.pipelines.len(), 1);
        assert_eq!(config.pipelines[0].lease.failover, FAILOVER);
        assert_eq!(config.http, None);
    }
}
