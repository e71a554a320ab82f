//! The embedded endpoints in this process, on a port of 127.0.0.1. Faults tell the clients apart by their access keys.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use standpipe_emulator::{Emulator, Options, serve_by_key};
use standpipe_flow::Clock as _;
use standpipe_worker::platform::SystemClock;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{BUCKET, STREAM};

/// The endpoints.
pub struct Endpoints {
    /// The core.
    pub emulator: Arc<Emulator>,
    /// `host:port`.
    pub address: String,
    _server: JoinSet<io::Result<()>>,
}

impl Endpoints {
    /// In memory, with the limits of Kinesis, a stream of so many shards and a bucket.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn open(shards: usize, seed: u64) -> io::Result<Self> {
        let system = SystemClock::start();
        let start = Duration::from_millis(system.wall().0);
        let clock = move || u64::try_from((start + system.elapsed()).as_millis()).unwrap_or(u64::MAX);
        let options = Options { seed, ..Options::new(Arc::new(clock)) };
        let emulator = Emulator::new(options).expect("an emulator in memory opens");
        emulator.create_stream(STREAM, shards).expect("a new stream");
        emulator.create_bucket(BUCKET).expect("a bucket in memory");
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let mut server = JoinSet::new();
        server.spawn(serve_by_key(emulator.clone(), listener, std::future::pending()));
        Ok(Self { emulator, address, _server: server })
    }

    /// What a worker that comes straight to them finds in its environment.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![("AWS_ENDPOINT_URL", format!("http://{}", self.address))]
    }
}
