//! A stream as the user named it, with the clients that reach it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::timeout::TimeoutConfig;
use aws_sdk_kinesis::config::{BehaviorVersion, Builder, StalledStreamProtectionConfig};
use aws_sdk_kinesis::{Client, Config};
use standpipe_flow::{Clock, Millis, Random};

use crate::catalog::{Catalog, Pinned};
use crate::consumer::Consumer;
use crate::fan_out::{FanOut, Watch};
use crate::polling::{Polling, PollingSettings, ReadFrom};
use crate::put::{PutSettings, Putter};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Of one GetRecords: 10 MiB at 1 MiB a second.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Of one PutRecords: 5 MiB over a home line.
const PUT_TIMEOUT: Duration = Duration::from_secs(30);

/// How a stream is named: `orders`, or `arn:aws:kinesis:eu-west-1:111122223333:stream/orders`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StreamRef {
    /// In the account and region of the credentials.
    Name(String),
    /// Anywhere, given the right to it.
    Arn(String),
}

impl StreamRef {
    /// Tells an ARN from a name.
    pub fn parse(text: &str) -> Self {
        if text.starts_with("arn:") { Self::Arn(text.to_owned()) } else { Self::Name(text.to_owned()) }
    }

    pub(crate) fn name(&self) -> Option<String> {
        match self {
            Self::Name(name) => Some(name.clone()),
            Self::Arn(_) => None,
        }
    }

    pub(crate) fn arn(&self) -> Option<String> {
        match self {
            Self::Arn(arn) => Some(arn.clone()),
            Self::Name(_) => None,
        }
    }
}

impl fmt::Display for StreamRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(text) | Self::Arn(text) => f.write_str(text),
        }
    }
}

/// A stream and the way to it. Cloning shares the connections.
#[derive(Clone, Debug)]
pub struct Stream {
    pub(crate) client: Client,
    /// What further clients are made of.
    pub(crate) config: Config,
    pub(crate) reference: StreamRef,
    pub(crate) pinned: Arc<Pinned>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl Stream {
    /// A stream reached with this configuration: region, credentials, endpoint, HTTP client, sleep and time source are
    /// taken from it. Its retries and timeouts are not: the SDK never retries here, and every call has a timeout of ours.
    pub fn new(
        sdk_config: &aws_types::SdkConfig,
        reference: StreamRef,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        let timeouts =
            TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_attempt_timeout(READ_TIMEOUT).build();
        let mut config = Builder::from(sdk_config)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            // The timeout of the whole call covers a stalled body as well.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if sdk_config.behavior_version().is_none() {
            config = config.behavior_version(BehaviorVersion::latest());
        }
        let config = config.build();
        Self { client: Client::from_conf(config.clone()), config, reference, pinned: Arc::default(), clock, random }
    }

    /// From now on only the stream that was created at this instant is read: one that was deleted and made anew under
    /// its name is `Gone` for the readers.
    pub fn pin(&self, created: Millis) {
        self.pinned.pin(created);
    }

    /// How the stream was named.
    pub fn reference(&self) -> &StreamRef {
        &self.reference
    }

    /// A reader of one shard.
    pub fn reader(&self, from: ReadFrom, settings: PollingSettings) -> Polling {
        Polling::new(self.clone(), from, settings)
    }

    /// A reader of one shard by subscription. `heard` is told how it reads.
    pub fn fan_out(
        &self,
        from: ReadFrom,
        settings: PollingSettings,
        consumer: &Consumer,
        heard: Arc<dyn Watch>,
    ) -> FanOut {
        FanOut::new(self.clone(), from, settings, (consumer.clone(), heard))
    }

    /// What is known of the stream itself.
    pub fn catalog(&self) -> Catalog {
        Catalog::new(self.clone())
    }

    /// A producer.
    pub fn putter(&self, settings: PutSettings) -> Putter {
        Putter::new(self.clone(), settings)
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(crate) fn random(&self) -> &dyn Random {
        &*self.random
    }

    /// Waits until this instant of the clock, once: a clock that stands still does not hold the caller.
    pub(crate) async fn wait_until(&self, instant: Duration) {
        let left = instant.saturating_sub(self.clock.elapsed());
        if !left.is_zero() {
            tokio::time::sleep(left).await;
        }
    }
}

/// The configuration of a call that may carry megabytes upwards.
pub(crate) fn put_config() -> Builder {
    aws_sdk_kinesis::Config::builder()
        .timeout_config(TimeoutConfig::builder().operation_attempt_timeout(PUT_TIMEOUT).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_is_told_from_a_name() {
        assert_eq!(StreamRef::parse("orders"), StreamRef::Name("orders".to_owned()));
        let arn = "arn:aws:kinesis:eu-west-1:111122223333:stream/orders";
        assert_eq!(StreamRef::parse(arn).arn().as_deref(), Some(arn));
        assert_eq!(StreamRef::parse(arn).name(), None);
    }
}
