//! What the process stands on: clocks, randomness, threads for encoding, and the SDK's configuration. A simulation gives
//! others; everything above takes them as arguments.

use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
pub use aws_types::SdkConfig;
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};
use standpipe_config::config::Aws;
use standpipe_destinations::http::dial::Dial;
use standpipe_flow::offload::{Job, Offload};
use standpipe_flow::{Clock, Millis, Random};
use standpipe_signed::causes;
use tokio::runtime::Handle;
use tracing::warn;

use crate::errors::WorkerError;
use crate::metrics::SharedMetrics;

/// Between tries of whoever gives credentials and does not, and how many more there are: about 20 s.
const CREDENTIALS_AGAIN: Duration = Duration::from_secs(2);
const CREDENTIALS_TRIES: u32 = 10;

/// What a worker runs on.
#[derive(Clone, Debug)]
pub struct Platform {
    /// Region, credentials, endpoint, HTTP client, sleep and time source of every SDK client.
    pub sdk: SdkConfig,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Where encoding runs.
    pub offload: Arc<dyn Offload>,
    /// Threads for heartbeats alone, so that no computation of delivery ever holds them up; `None`: they share the
    /// caller's, as they must under a paused clock.
    pub heartbeats: Option<Handle>,
    /// What is counted; shared by every worker of the process.
    pub metrics: SharedMetrics,
    /// What lies outside of AWS.
    pub outside: Outside,
}

/// What lies outside of AWS: secrets of the environment, and hosts.
#[derive(Clone, Debug)]
pub struct Outside {
    /// A variable of the environment.
    pub env: fn(&str) -> Option<String>,
    /// Makes connections in place of the machine: where there is no network.
    pub dial: Option<Arc<dyn Dial>>,
}

impl Default for Outside {
    /// No variable is set.
    fn default() -> Self {
        Self { env: |_| None, dial: None }
    }
}

impl Platform {
    /// The real thing: the SDK's own chain for region and credentials, the system's clocks, threads for encoding.
    pub async fn system(aws: &Aws) -> Self {
        Self {
            sdk: sdk_config(aws).await,
            clock: Arc::new(SystemClock::start()),
            random: Arc::new(SystemRandom),
            offload: Arc::new(Threads),
            heartbeats: None,
            metrics: SharedMetrics::new(),
            outside: Outside::default(),
        }
    }
}

/// The SDK's configuration: its own chain, with the region of the config where that is given.
pub async fn sdk_config(aws: &Aws) -> SdkConfig {
    let mut loader = aws_config::defaults(BehaviorVersion::latest());
    if let Some(region) = &aws.region {
        loader = loader.region(Region::new(region.clone()));
    }
    loader.load().await
}

/// Whether requests can be made at all: a region and credentials, as far as the SDK's chain can say.
pub(crate) async fn check_identity(sdk: &SdkConfig) -> Result<(), WorkerError> {
    if sdk.region().is_none() {
        let cause = "no region is known: set `aws.region` in the config, or AWS_REGION in the environment";
        return Err(WorkerError::Findings(cause.into()));
    }
    let without = "no credentials are known: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the \
        process a role (EKS: IRSA or Pod Identity, ECS: a task role, EC2: an instance profile)";
    let Some(provider) = sdk.credentials_provider() else {
        return Err(WorkerError::Permission(without.into()));
    };
    let mut tries = 0;
    loop {
        let error = match provider.provide_credentials().await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let nobody = matches!(error, CredentialsError::CredentialsNotLoaded(_));
        let cause = causes(&error);
        if nobody || tries == CREDENTIALS_TRIES {
            return Err(WorkerError::Permission(format!("{without}: {cause}")));
        }
        // Whoever gives them may be back in a moment. Told once: every try would say the same.
        if tries == 0 {
            warn!(error = cause, "credentials could not be had yet, will be asked for again");
        }
        tries += 1;
        tokio::time::sleep(CREDENTIALS_AGAIN).await;
    }
}

/// One service's configuration: its endpoint and region where the config names them.
pub(crate) fn service(sdk: &SdkConfig, endpoint: Option<&String>, region: Option<&String>) -> SdkConfig {
    let mut builder = sdk.to_builder();
    if let Some(endpoint) = endpoint {
        // What the environment says about endpoints would win over this one.
        builder = builder.endpoint_url(endpoint).service_config(NoServiceConfig);
    }
    if let Some(region) = region {
        builder = builder.region(Region::new(region.clone()));
    }
    builder.build()
}

/// Says nothing about any service.
#[derive(Debug)]
struct NoServiceConfig;

impl LoadServiceConfig for NoServiceConfig {
    fn load_config(&self, _: ServiceConfigKey<'_>) -> Option<String> {
        None
    }
}

/// The system's clocks. The monotonic one is tokio's, which is the system's outside of a paused runtime.
#[derive(Debug)]
pub struct SystemClock {
    start: tokio::time::Instant,
}

impl SystemClock {
    /// A clock whose monotonic axis begins now.
    pub fn start() -> Self {
        Self { start: tokio::time::Instant::now() }
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // the one place that reads the wall clock
    fn wall(&self) -> Millis {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

/// The system's randomness.
#[derive(Debug)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn next(&self) -> u64 {
        // Tenures and commit ids must never repeat: without randomness there is no safe way on.
        getrandom::u64().expect("the system gives randomness")
    }
}

/// Encodes on tokio's blocking threads.
#[derive(Debug)]
pub struct Threads;

impl Offload for Threads {
    #[allow(clippy::disallowed_methods)] // the one place behind the seam
    fn run(&self, job: Job) {
        drop(tokio::task::spawn_blocking(job));
    }
}

/// 60% of the memory that the process may use: the cgroup's limit, else what the machine has; 1 GiB if neither says.
pub(crate) fn default_memory_bytes() -> u64 {
    let cgroup = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let machine = || {
        let text = std::fs::read_to_string("/proc/meminfo").ok()?;
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
    };
    let machine = machine().unwrap_or(1 << 30);
    let limit = cgroup("/sys/fs/cgroup/memory.max").or_else(|| cgroup("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
    limit.unwrap_or(machine).min(machine) / 10 * 6
}

/// The SDK's configuration for embedded endpoints: one address, fixed credentials, an HTTP client of the emulator's or
/// the default one.
pub fn embedded(http_client: Option<SharedHttpClient>, endpoint: &str) -> SdkConfig {
    let credentials = Credentials::new("standpipe", "standpipe", None, None, "embedded endpoints");
    let mut builder = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
        .credentials_provider(SharedCredentialsProvider::new(credentials));
    builder.set_http_client(http_client);
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Environment;

    impl LoadServiceConfig for Environment {
        fn load_config(&self, _: ServiceConfigKey<'_>) -> Option<String> {
            Some("http://from-the-environment".into())
        }
    }

    /// Is asked for credentials and cannot be reached.
    #[derive(Debug, Default, Clone)]
    struct Broken(Arc<std::sync::atomic::AtomicU32>);

    impl ProvideCredentials for Broken {
        fn provide_credentials<'a>(&'a self) -> aws_credential_types::provider::future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let error = CredentialsError::provider_error("IMDS is disabled");
            aws_credential_types::provider::future::ProvideCredentials::ready(Err(error))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_credentials_is_asked_again_and_what_to_set_is_said_if_that_does_not_help() {
        let broken = Broken::default();
        let sdk = SdkConfig::builder()
            .region(Region::new("eu-west-1"))
            .credentials_provider(SharedCredentialsProvider::new(broken.clone()));
        let said = check_identity(&sdk.build()).await.expect_err("no credentials").to_string();
        assert!(said.contains("AWS_ACCESS_KEY_ID") && said.contains("IMDS is disabled"), "{said}");
        assert_eq!(broken.0.load(std::sync::atomic::Ordering::Relaxed), CREDENTIALS_TRIES + 1);
    }

    #[tokio::test]
    async fn what_to_set_is_said_when_there_is_no_region_or_nobody_gives_credentials() {
        let said = async |sdk: SdkConfig| check_identity(&sdk).await.expect_err("not complete").to_string();
        let sdk = || SdkConfig::builder().region(Region::new("eu-west-1"));
        assert!(said(SdkConfig::builder().build()).await.contains("AWS_REGION"));
        assert!(said(sdk().build()).await.contains("AWS_ACCESS_KEY_ID"));
        check_identity(&embedded(None, "http://127.0.0.1:1")).await.expect("complete");
    }

    #[test]
    fn an_endpoint_of_the_config_wins_over_the_environment() {
        let sdk = SdkConfig::builder().service_config(Environment).build();
        let given = service(&sdk, Some(&"http://from-the-config".to_owned()), None);
        let key = ServiceConfigKey::builder().service_id("S3").env("AWS_ENDPOINT_URL").profile("endpoint_url").build();
        let key = key.expect("a whole key");
        assert_eq!(given.endpoint_url(), Some("http://from-the-config"));
        assert_eq!(given.service_config().and_then(|config| config.load_config(key)), None);
        assert!(service(&sdk, None, None).service_config().is_some(), "without one the environment decides");
    }
}
