//! The registered consumer that subscriptions are made for, and the clients that they are spread over.
//!
//! A consumer is registered once, by name, and never deregistered here: one that goes away with a worker takes the
//! subscriptions of all others with it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_kinesis::types::ConsumerStatus;
use aws_sdk_kinesis::{Client, Config};
use tracing::info;

use crate::errors::{Failure, Kind, StreamError};
use crate::stream::Stream;

/// Between two looks at a consumer that is not ACTIVE yet (the KCL's pause), and how many there are.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const LOOKS_MAX: u32 = 60;
/// Subscriptions of one client. All of a client's share one HTTP/2 connection, whose window (5 MiB in the SDK's client)
/// is spent by the unread data of any of them (2 MiB each), and then the others get nothing.
const SUBSCRIPTIONS_MAX: usize = 8;

/// A consumer that is ACTIVE. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Consumer {
    arn: Arc<str>,
    clients: Arc<Clients>,
}

impl Consumer {
    pub(crate) fn new(arn: &str, config: Config) -> Self {
        Self { arn: arn.into(), clients: Arc::new(Clients { config, clients: Mutex::default() }) }
    }

    /// Its ARN.
    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// How many clients its subscriptions are spread over.
    pub fn clients(&self) -> usize {
        self.clients.clients.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(crate) fn seat(&self) -> Seat {
        self.clients.seat()
    }
}

/// Clients of the same configuration. Each has connections of its own, unless the configuration brings an HTTP client.
#[derive(Debug)]
struct Clients {
    config: Config,
    clients: Mutex<Vec<Arc<Client>>>,
}

/// A place for one subscription at one of the clients; free again when dropped.
#[derive(Debug)]
pub(crate) struct Seat(Arc<Client>);

impl Seat {
    pub(crate) fn client(&self) -> &Client {
        &self.0
    }
}

impl Clients {
    fn seat(&self) -> Seat {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        // One count is the list's own.
        let free = clients.iter().find(|client| Arc::strong_count(client) <= SUBSCRIPTIONS_MAX);
        let client = free.cloned().unwrap_or_else(|| {
            let client = Arc::new(Client::from_conf(self.config.clone()));
            clients.push(client.clone());
            client
        });
        Seat(client)
    }
}

impl Stream {
    /// The consumer of this name, once it is ACTIVE; registered if it is not there. Tried again as other control data is.
    /// Cancel-safe.
    pub async fn consumer(&self, stream_arn: &str, name: &str) -> Result<Consumer, StreamError> {
        if let Some(consumer) = self.registered_consumer(stream_arn, name).await? {
            return Ok(consumer);
        }
        match self.catalog().ask(|| self.register(stream_arn, name)).await {
            Ok(()) => info!(consumer = name, "consumer registered; it costs money until somebody deregisters it"),
            // Another worker was faster: the next look finds its consumer, or the error is true.
            Err(StreamError::Again { cause }) if cause.contains("ResourceInUse") => {}
            Err(error) => return Err(error),
        }
        let found = self.registered_consumer(stream_arn, name).await?;
        found.ok_or_else(|| again(format!("consumer {name} is registered, but not there")))
    }

    /// The consumer of this name, once it is ACTIVE; `None` if there is none. Cancel-safe.
    pub async fn registered_consumer(&self, stream_arn: &str, name: &str) -> Result<Option<Consumer>, StreamError> {
        for _ in 0..LOOKS_MAX {
            match self.catalog().ask(|| self.describe_consumer(stream_arn, name)).await {
                Ok((arn, ConsumerStatus::Active)) => return Ok(Some(Consumer::new(&arn, self.config.clone()))),
                Ok(_) => tokio::time::sleep(LOOK_AGAIN).await,
                Err(StreamError::Gone { .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Err(again(format!("consumer {name} does not become ACTIVE")))
    }

    async fn register(&self, stream_arn: &str, name: &str) -> Result<(), Failure> {
        let request = self.client.register_stream_consumer().stream_arn(stream_arn).consumer_name(name);
        request.send().await.map(drop).map_err(|error| Failure::of(&error))
    }

    async fn describe_consumer(&self, stream_arn: &str, name: &str) -> Result<(String, ConsumerStatus), Failure> {
        let request = self.client.describe_stream_consumer().stream_arn(stream_arn).consumer_name(name);
        let answer = request.send().await.map_err(|error| Failure::of(&error))?;
        let described = answer.consumer_description;
        let described = described.ok_or_else(|| Failure::new(Kind::Transient, "the description is empty"))?;
        Ok((described.consumer_arn, described.consumer_status))
    }
}

fn again(cause: String) -> StreamError {
    StreamError::Again { cause }
}
