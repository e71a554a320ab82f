//! A table that changes, and a catalog that is away, by an HTTP client that answers from a script.

use std::collections::VecDeque;
use std::sync::Mutex;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;

use super::*;
use crate::platform::{SystemClock, embedded};

/// Answers in turn, and remembers what it was asked.
#[derive(Clone, Debug, Default)]
struct Script(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    /// A status and a body; `None`: no connection.
    answers: VecDeque<Option<(u16, String)>>,
    /// Targets and bodies.
    asked: Vec<(String, String)>,
}

impl Script {
    fn says(&self, status: u16, body: impl Into<String>) {
        self.0.lock().expect("a script").answers.push_back(Some((status, body.into())));
    }
    fn is_away(&self) {
        self.0.lock().expect("a script").answers.push_back(None);
    }
    fn asked(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.0.lock().expect("a script").asked)
    }
}

impl HttpConnector for Script {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let mut script = self.0.lock().expect("a script");
        let target = request.headers().get("x-amz-target").unwrap_or_default().to_owned();
        assert!(request.headers().get("authorization").is_some_and(|it| it.contains("/glue/aws4_request")));
        let body = String::from_utf8_lossy(request.body().bytes().unwrap_or_default()).into_owned();
        script.asked.push((target, body));
        let answer = script.answers.pop_front().expect("a request that the script knows");
        HttpConnectorFuture::ready(match answer {
            Some((status, body)) => Ok(HttpResponse::new(status.try_into().expect("a status"), SdkBody::from(body))),
            None => Err(ConnectorError::io("refused".into())),
        })
    }
}

impl HttpClient for Script {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

fn table(version: &str, columns: &[(&str, &str)]) -> String {
    let column = |(name, kind): &(&str, &str)| serde_json::json!({ "Name": name, "Type": kind });
    let columns: Vec<_> = columns.iter().map(column).collect();
    let table = serde_json::json!({
        "CatalogId": "111122223333", "DatabaseName": "lake", "Name": "orders", "VersionId": version,
        "StorageDescriptor": { "Columns": columns }, "PartitionKeys": [{ "Name": "dt", "Type": "string" }],
    });
    serde_json::json!({ "Table": table }).to_string()
}

fn source(script: &Script, version: Option<&str>) -> Source {
    let sdk = embedded(Some(SharedHttpClient::new(script.clone())), "http://glue");
    let glue = Glue {
        database: "lake".into(),
        table: "orders".into(),
        catalog: Some("111122223333".into()),
        region: None,
        version: version.map(Into::into),
    };
    Source::new(&glue, &sdk, false, Arc::new(SystemClock::start())).expect("a region")
}

fn names(rows: &RowFormat) -> Vec<&str> {
    rows.columns().as_slice().iter().map(|column| column.name.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_changed_table_is_followed_and_a_catalog_that_is_away_changes_nothing() {
    let script = Script::default();
    script.is_away();
    script.says(503, "{}");
    script.says(200, table("1", &[("id", "bigint")]));
    let source = source(&script, None);
    let found = source.read_at_start().await.expect("a table, at the third try");
    assert_eq!((found.table.version_id.as_str(), found.table.region.as_str()), ("1", "us-east-1"));
    assert_eq!(
        script.asked()[2],
        (
            "AWSGlue.GetTable".to_owned(),
            r#"{"DatabaseName":"lake","Name":"orders","CatalogId":"111122223333"}"#.to_owned()
        )
    );
    let rows = CurrentRows::from(RowFormat::from(found.columns).of_table(found.table));
    let mut follower = Follower { source, rows: rows.clone(), version: "1".into() };
    script.is_away();
    follower.look().await;
    assert_eq!(names(&rows.current().expect("columns")), ["id"], "the last good ones stay");
    script.says(200, table("2", &[("id", "bigint"), ("total", "decimal(10,2)")]));
    follower.look().await;
    assert_eq!(names(&rows.current().expect("columns")), ["id", "total"]);
    assert_eq!(rows.current().expect("columns").table().map(|table| table.version_id.clone()).as_deref(), Some("2"));
    script.says(200, table("3", &[("id", "uniontype<int,string>")]));
    follower.look().await;
    assert_eq!(names(&rows.current().expect("columns")), ["id", "total"], "columns that cannot be used change nothing");
}

#[tokio::test(start_paused = true)]
async fn a_table_that_is_not_there_or_not_ours_to_read_ends_the_start() {
    let said = async |status, body: &str| {
        let script = Script::default();
        script.says(status, body);
        source(&script, None).read_at_start().await.expect_err("refused")
    };
    let missing = said(400, r#"{"__type":"EntityNotFoundException","Message":"Table orders not found."}"#).await;
    assert!(matches!(&missing, WorkerError::Findings(cause) if cause.contains("lake.orders")), "{missing}");
    let denied = said(400, r#"{"__type":"AccessDeniedException","Message":"not authorized"}"#).await;
    assert!(matches!(denied, WorkerError::Permission(_)), "{denied}");
    let broken = said(200, "{").await;
    assert!(matches!(broken, WorkerError::Findings(_)), "{broken}");
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_named_is_the_one_that_is_asked_for() {
    let script = Script::default();
    let table: serde_json::Value = serde_json::from_str(&table("7", &[("id", "bigint")])).expect("JSON");
    let version = serde_json::json!({ "TableVersion": { "VersionId": "7", "Table": table["Table"] } });
    script.says(200, version.to_string());
    let found = source(&script, Some("7")).read_at_start().await.expect("a table");
    assert_eq!(found.table.version_id, "7");
    assert_eq!(script.asked()[0].0, "AWSGlue.GetTableVersion");
}
