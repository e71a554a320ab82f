//! How a pipeline reads its shards: by polling, or by a registered consumer. Decided once, at the start.
//!
//! Never here: what a read gives, or what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use standpipe_config::config::{CONSUMER_DEFAULT, ReadMode};
use standpipe_flow::{Read, ReadError, ShardReader};
use standpipe_pipeline::metrics::{At, Metrics};
use standpipe_source::{Consumer, FanOut, Polling, PollingSettings, ReadFrom, Stream, StreamError, Watch, Way};
use tracing::{info, warn};

/// Makes the readers of a pipeline.
#[derive(Debug)]
pub(crate) struct Readers {
    stream: Stream,
    settings: PollingSettings,
    consumer: Option<Consumer>,
    counted: Arc<Counted>,
}

impl Readers {
    /// Finds the consumer, or registers it where the config asks for it. What `auto` cannot learn is no reason not to
    /// start: polling needs nobody's permission.
    pub(crate) async fn find(
        stream: &Stream,
        settings: PollingSettings,
        (mode, arn): (&ReadMode, &str),
        (metrics, at): (&Metrics, &At),
    ) -> Result<Self, StreamError> {
        let consumer = match mode {
            ReadMode::Polling => None,
            ReadMode::EnhancedFanOut { consumer } => Some(stream.consumer(arn, consumer).await?),
            ReadMode::Auto => match stream.registered_consumer(arn, CONSUMER_DEFAULT).await {
                Ok(found) => found,
                Err(error) => {
                    warn!(consumer = CONSUMER_DEFAULT, %error, "cannot tell whether there is a consumer, so polling");
                    None
                }
            },
        };
        match &consumer {
            Some(consumer) => info!(consumer = consumer.arn(), "shards are read by enhanced fan-out"),
            None => info!("shards are read by polling"),
        }
        let counted = Counted { metrics: metrics.clone(), at: at.clone() };
        Ok(Self { stream: stream.clone(), settings, consumer, counted: Arc::new(counted) })
    }

    /// A further reader of a shard that catches up with the first. It polls: a consumer has one subscription a shard.
    pub(crate) fn second(&self, from: ReadFrom) -> Reader {
        self.counted.begins(Way::Polling);
        let reader = Box::new(self.stream.reader(from, self.settings));
        let shares_quota = self.consumer.is_none();
        let polled = Polled { reader, counted: self.counted.clone() };
        Reader::Second(Second { polled, shares_quota, not_before: None })
    }

    /// A reader of one shard.
    pub(crate) fn reader(&self, from: ReadFrom) -> Reader {
        match &self.consumer {
            Some(consumer) => {
                let fan_out = self.stream.fan_out(from, self.settings, consumer, self.counted.clone());
                Reader::FanOut(Box::new(fan_out))
            }
            None => {
                self.counted.begins(Way::Polling);
                let reader = Box::new(self.stream.reader(from, self.settings));
                Reader::Polling(Polled { reader, counted: self.counted.clone() })
            }
        }
    }
}

/// A reader of one shard.
pub(crate) enum Reader {
    Polling(Polled),
    Second(Second),
    FanOut(Box<FanOut>),
}

impl ShardReader for Reader {
    async fn next(&mut self) -> Result<Read, ReadError> {
        match self {
            Self::Polling(polled) => polled.reader.next().await,
            Self::Second(second) => second.next().await,
            Self::FanOut(reader) => reader.next().await,
        }
    }

    fn expected_bytes(&self) -> usize {
        match self {
            Self::Polling(polled) => polled.reader.expected_bytes(),
            Self::Second(second) => second.polled.reader.expected_bytes(),
            Self::FanOut(reader) => reader.expected_bytes(),
        }
    }
}

/// A shard that is polled; counted until it is dropped.
pub(crate) struct Polled {
    reader: Box<Polling>,
    counted: Arc<Counted>,
}

impl Drop for Polled {
    fn drop(&mut self) {
        self.counted.ends(Way::Polling);
    }
}

/// Second in line for the reads of a shard: a shard takes in 1 MiB and 1,000 records a second and gives 2 MiB in 5 calls.
/// What the first reader needs to keep up is left to it.
pub(crate) struct Second {
    polled: Polled,
    /// Whether the first one polls too.
    shares_quota: bool,
    not_before: Option<tokio::time::Instant>,
}

/// From call to call.
const SECOND_PAUSE: Duration = Duration::from_millis(500);
/// Bytes a second that it takes.
const SECOND_BYTES: u64 = 1 << 20;

impl Second {
    async fn next(&mut self) -> Result<Read, ReadError> {
        if let Some(not_before) = self.not_before {
            tokio::time::sleep_until(not_before).await;
        }
        let answer = self.polled.reader.next().await;
        let bytes = match &answer {
            Ok(Read::Chunk(chunk)) => chunk.taken.stream_bytes,
            _ => 0,
        };
        let pause = SECOND_PAUSE.max(Duration::from_millis(bytes * 1000 / SECOND_BYTES));
        self.not_before = self.shares_quota.then(|| tokio::time::Instant::now() + pause);
        answer
    }
}

/// Tells the metrics how shards are read.
#[derive(Debug)]
struct Counted {
    metrics: Metrics,
    at: At,
}

impl Watch for Counted {
    fn begins(&self, way: Way) {
        self.metrics.source_shards.get_or_create(&self.at.why(way.as_str())).inc();
    }

    fn ends(&self, way: Way) {
        self.metrics.source_shards.get_or_create(&self.at.why(way.as_str())).dec();
    }

    fn reconnects(&self, why: &'static str) {
        self.metrics.source_efo_reconnects.get_or_create(&self.at.why(why)).inc();
    }
}
