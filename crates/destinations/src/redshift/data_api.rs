//! `commit -> publish`: the requests that are made of Redshift's Data API, one function each, and what their errors mean.
//!
//! One call is one request: the SDK's retries are off, because the pipeline owns time. The SDK's types end here.
//! Never: decides whether a load took effect; sends a statement of its own.

use std::error::Error;
use std::time::Duration;

use aws_sdk_redshiftdata::Client;
use aws_sdk_redshiftdata::config::StalledStreamProtectionConfig;
use aws_sdk_redshiftdata::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_redshiftdata::types::{Field, StatusString};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use standpipe_flow::DeliveryError;

/// To be connected: a host that does not answer must not hold a load for longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// For a request that does not wait: the service's own tail is far below.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How long a look at a statement waits for its end: below the service's 30 s, and below what connections live.
const WAIT_SECONDS: i32 = 20;
const WAIT: Duration = Duration::from_secs(20);
/// Characters of a message from outside that are kept.
const CAUSE_CHARS_MAX: usize = 400;

/// Which warehouse, and as whom.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Warehouse {
    /// A workgroup of Redshift Serverless.
    pub workgroup: Option<String>,
    /// A provisioned cluster.
    pub cluster: Option<String>,
    /// The database.
    pub database: String,
    /// A secret's name or ARN, which the service reads.
    pub secret: Option<String>,
    /// A user of a cluster, by temporary credentials.
    pub db_user: Option<String>,
}

impl Warehouse {
    /// Which database of what, for people: `database dev of workgroup analytics`.
    pub(super) fn shown(&self) -> String {
        let of = match (&self.workgroup, &self.cluster) {
            (Some(workgroup), _) => format!("workgroup {workgroup}"),
            (None, cluster) => format!("cluster {}", cluster.as_deref().unwrap_or_default()),
        };
        format!("database {} of {of}", self.database)
    }
}

/// How far a batch has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Status {
    /// Not at its end.
    Running,
    /// It took effect.
    Finished,
    /// It ended without, or so it says.
    Failed,
}

/// Rows of a result, as text; `None` where there is a NULL.
pub(super) type Rows = Vec<Vec<Option<String>>>;

/// A batch of statements.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Batch {
    pub(super) status: Status,
    /// What it says of its failure.
    pub(super) error: String,
    /// The queries of its statements, in their order, where they are known.
    pub(super) queries: Vec<Option<i64>>,
}

/// The Data API of one warehouse.
#[derive(Clone, Debug)]
pub(super) struct DataApi {
    client: Client,
    warehouse: Warehouse,
}

impl DataApi {
    pub(super) fn new(config: &aws_types::SdkConfig, warehouse: Warehouse) -> Self {
        let timeouts =
            TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_attempt_timeout(TIMEOUT).build();
        let config = aws_sdk_redshiftdata::config::Builder::from(config)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        Self { client: Client::from_conf(config.build()), warehouse }
    }

    /// BatchExecuteStatement, one transaction. The same token with the same statements is the same batch, for 8 hours;
    /// without one it is another every time.
    pub(super) async fn submit(
        &self,
        name: &str,
        sqls: &[String],
        token: Option<&str>,
    ) -> Result<String, DeliveryError> {
        let Warehouse { workgroup, cluster, database, secret, db_user } = self.warehouse.clone();
        let sent = self
            .client
            .batch_execute_statement()
            .set_sqls(Some(sqls.to_vec()))
            .set_workgroup_name(workgroup)
            .set_cluster_identifier(cluster)
            .database(database)
            .set_secret_arn(secret)
            .set_db_user(db_user)
            .statement_name(name)
            .set_client_token(token.map(str::to_owned))
            .send()
            .await;
        let answer = sent.map_err(|error| classify("BatchExecuteStatement", &error))?;
        answer.id.ok_or_else(|| unreadable("BatchExecuteStatement: no id"))
    }

    /// DescribeStatement; `None` for a batch that the service does not know (any more).
    pub(super) async fn describe(&self, id: &str) -> Result<Option<Batch>, DeliveryError> {
        let waiting = self.client.describe_statement().id(id).wait_time_seconds(WAIT_SECONDS).customize();
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(TIMEOUT + WAIT).build();
        let patient = aws_sdk_redshiftdata::config::Builder::new().timeout_config(timeouts);
        let mut sent = waiting.config_override(patient).send().await;
        if sent.as_ref().is_err_and(|error| error.code() == Some("ActiveWaitingRequestsExceededException")) {
            sent = self.client.describe_statement().id(id).send().await;
        }
        let answer = match sent {
            Ok(answer) => answer,
            Err(error) if error.code() == Some("ResourceNotFoundException") => return Ok(None),
            Err(error) => return Err(classify("DescribeStatement", &error)),
        };
        let status = match answer.status {
            Some(StatusString::Finished) => Status::Finished,
            Some(StatusString::Failed | StatusString::Aborted) => Status::Failed,
            // One that is not known yet is none of those that end it.
            _ => Status::Running,
        };
        let aborted = answer.status == Some(StatusString::Aborted);
        let word = if aborted { "aborted by the service or on request" } else { "failed without a reason" };
        // Of a batch the reason may stand at the statement that failed.
        let of_parts = answer.sub_statements().iter().find_map(|part| part.error.clone());
        let queries = answer
            .sub_statements()
            .iter()
            .map(|part| Some(part.redshift_query_id).filter(|query| *query > 0))
            .collect();
        Ok(Some(Batch {
            status,
            queries,
            error: answer.error.or(of_parts).filter(|text| !text.is_empty()).unwrap_or_else(|| word.to_owned()),
        }))
    }

    /// CancelStatement. One that has ended is as good as cancelled: how it ended is asked for anyhow.
    pub(super) async fn cancel(&self, id: &str) -> Result<(), DeliveryError> {
        match self.client.cancel_statement().id(id).send().await {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.code(), Some("ValidationException" | "ResourceNotFoundException")) => Ok(()),
            Err(error) => Err(classify("CancelStatement", &error)),
        }
    }

    /// GetStatementResult of one statement of a batch, the first being 1: all pages of it.
    pub(super) async fn rows(&self, batch: &str, statement: usize) -> Result<Rows, DeliveryError> {
        let text = |field: &Field| match field {
            Field::StringValue(text) => Some(text.clone()),
            Field::LongValue(number) => Some(number.to_string()),
            Field::DoubleValue(number) => Some(number.to_string()),
            Field::BooleanValue(whether) => Some(whether.to_string()),
            _ => None,
        };
        let (mut rows, mut next) = (Rows::new(), None);
        loop {
            let request = self.client.get_statement_result().id(format!("{batch}:{statement}")).set_next_token(next);
            let answer = request.send().await.map_err(|error| classify("GetStatementResult", &error))?;
            rows.extend(answer.records().iter().map(|record| record.iter().map(text).collect::<Vec<_>>()));
            next = answer.next_token.filter(|token| !token.is_empty());
            if next.is_none() {
                return Ok(rows);
            }
        }
    }
}

/// Codes that pass by themselves whatever the status is.
const PASSING: [&str; 14] = [
    "ActiveSessionsExceededException",
    "ActiveStatementsExceededException",
    "ActiveWaitingRequestsExceededException",
    "BatchExecuteStatementException",
    "DatabaseConnectionException",
    "ExecuteStatementException",
    "ExpiredTokenException",
    "InternalServerException",
    "QueryTimeoutException",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "ServiceUnavailable",
    "SignatureDoesNotMatch",
    "InvalidSignatureException",
];

/// What the caller must do after `operation` failed with `error`. A request that was not answered may have taken effect.
fn classify<E>(operation: &str, error: &SdkError<E, HttpResponse>) -> DeliveryError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let SdkError::ServiceError(answer) = error else {
        let cause = bounded(&format!("{operation}: {}", DisplayErrorContext(error)));
        return match error {
            SdkError::ConstructionFailure(_) => DeliveryError::Halt { cause },
            _ => DeliveryError::Retry { after: None, cause },
        };
    };
    let status = answer.raw().status().as_u16();
    let code = error.code().unwrap_or("no code");
    let cause = bounded(&format!("{operation}: {status} {code}: {}", error.message().unwrap_or_default()));
    let passing = PASSING.contains(&code) || code.contains("Throttl") || matches!(status, 429 | 500..=599);
    if passing { DeliveryError::Retry { after: None, cause } } else { DeliveryError::Halt { cause } }
}

fn unreadable(cause: &str) -> DeliveryError {
    DeliveryError::Retry { after: None, cause: cause.to_owned() }
}

/// Control characters do not belong in a log line, nor does a text of unknown size.
pub(super) fn bounded(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(CAUSE_CHARS_MAX).collect()
}
