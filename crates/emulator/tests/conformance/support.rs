//! Clients of the three services on one emulator.

use std::fmt::Debug;
use std::sync::Arc;

use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use standpipe_emulator::{Clock, Connection, Emulator, Options};

use crate::subject::{Subject, foreign};
pub use crate::subject::{happened, moment, pass};

/// 2026-01-01T00:00:00Z.
pub const BASE_MILLIS: u64 = 1_767_225_600_000;

/// An emulator and clients of it.
pub struct World {
    pub emulator: Subject,
    pub connection: Connection,
    pub kinesis: aws_sdk_kinesis::Client,
    pub dynamodb: aws_sdk_dynamodb::Client,
    pub s3: aws_sdk_s3::Client,
}

/// The time of tokio's clock, which may be paused.
pub fn clock() -> Clock {
    let start = tokio::time::Instant::now();
    Arc::new(move || BASE_MILLIS + u64::try_from(start.elapsed().as_millis()).expect("a test is short"))
}

/// An emulator in memory with limits and a trace.
pub async fn world() -> World {
    world_with(Options { trace: true, ..Options::new(clock()) }).await
}

/// Foreign servers, where the checks look at some, are as they are: of the options only the limits may differ there.
pub async fn world_with(options: Options) -> World {
    if let Some(services) = foreign().await {
        let default = Options::new(options.clock.clone());
        let set = options.stream_change_millis != default.stream_change_millis
            || options.retention_millis != default.retention_millis
            || options.repeat_complete != default.repeat_complete;
        assert!(!set, "ours alone: an option of the emulator");
        let emulator = Subject::theirs(&services).await;
        let connection = Emulator::new(options).expect("in memory").connect("nobody");
        let (kinesis, dynamodb, s3) = services;
        return World { emulator, connection, kinesis, dynamodb, s3 };
    }
    let emulator = Emulator::new(options).expect("memory, or a directory of the test");
    clients(&emulator, "test").await
}

/// Clients with a connection of their own.
pub async fn clients(emulator: &Arc<Emulator>, name: &str) -> World {
    let connection = emulator.connect(name);
    let config = builder().http_client(connection.http_client()).load().await;
    let (kinesis, dynamodb, s3) = services(&config);
    World { emulator: Subject::ours(emulator.clone()), connection, kinesis, dynamodb, s3 }
}

pub fn builder() -> aws_config::ConfigLoader {
    aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("any", "credentials", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
        .endpoint_url("http://127.0.0.1:1")
}

pub fn services(config: &SdkConfig) -> (aws_sdk_kinesis::Client, aws_sdk_dynamodb::Client, aws_sdk_s3::Client) {
    let s3 = aws_sdk_s3::config::Builder::from(config).force_path_style(true).build();
    (aws_sdk_kinesis::Client::new(config), aws_sdk_dynamodb::Client::new(config), aws_sdk_s3::Client::from_conf(s3))
}

/// The name of the error that a call came back with.
pub fn code<T: Debug, E: ProvideErrorMetadata, R>(result: Result<T, SdkError<E, R>>) -> String {
    match result {
        Ok(answer) => panic!("an error was expected, not {answer:?}"),
        Err(SdkError::ServiceError(error)) => error.err().code().unwrap_or("no code").to_owned(),
        Err(SdkError::DispatchFailure(failure)) if failure.is_io() => "io".to_owned(),
        Err(SdkError::DispatchFailure(_)) => "dispatch".to_owned(),
        Err(SdkError::TimeoutError(_)) => "timeout".to_owned(),
        Err(SdkError::ResponseError(_)) => "response".to_owned(),
        Err(_) => "other".to_owned(),
    }
}
