//! The embedded endpoints in this process, on ports of 127.0.0.1: one for each client, so that faults tell them apart.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use standpipe_emulator::{Emulator, Options, serve_as};
use standpipe_flow::Clock as _;
use standpipe_worker::platform::SystemClock;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{BUCKET, STREAM};

/// The endpoints with their doors.
pub struct Endpoints {
    /// The core.
    pub emulator: Arc<Emulator>,
    /// `host:port` of the door that no fault strikes.
    pub quiet: String,
    doors: JoinSet<io::Result<()>>,
}

/// The name of the door that only this process uses.
pub const QUIET: &str = "observer";

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
        let mut endpoints = Self { emulator, quiet: String::new(), doors: JoinSet::new() };
        endpoints.quiet = endpoints.door(QUIET).await?;
        Ok(endpoints)
    }

    /// Opens a door under a name that faults know; its `host:port`.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn door(&mut self, name: &str) -> io::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (emulator, name) = (self.emulator.clone(), name.to_owned());
        self.doors.spawn(async move { serve_as(emulator, &name, listener, std::future::pending()).await });
        Ok(address.to_string())
    }
}
