//! What kind of collection an endpoint of OpenSearch Serverless is: those for time series and vectors take no ids of
//! documents, so they need `document_id: none`. A worker needs no right to ask that, so not being let in is no fault.
//!
//! OpenSearch Serverless API, BatchGetCollection (JSON 1.0).
//! Never: changes a collection.

use std::time::Duration;

use serde_json::Value;
use standpipe_config::config::{Destination, DocumentId, OpenSearch, OpenSearchAuth};
use standpipe_flow::Look;
use standpipe_signed::{Call, CallError, Caller, Service};

use crate::platform::Platform;

const SERVERLESS: Service = Service {
    id: "OpenSearchServerless",
    name: "aoss",
    operation: "BatchGetCollection",
    attempt_max: Duration::from_secs(10),
    answer_bytes_max: 1 << 20,
};
/// The reason, in the words of the guide.
const WHY: &str =
    "`document_id: none`: it takes no ids of documents. What was under way when a worker ended is then there twice";

/// A line for a collection, none for anything else.
pub(super) async fn look(file: &Destination, platform: &Platform, seen: &mut Vec<Look>) {
    let Destination::OpenSearch(file) = file else { return };
    let OpenSearchAuth::SigV4 { serverless: true, region } = &file.auth else { return };
    let what = "collection";
    let region = region.clone().or_else(|| platform.sdk.region().map(ToString::to_string)).unwrap_or_default();
    let kind = match id(file) {
        Some(id) => kind(&id, &region, platform).await,
        None => Err("the endpoint's name does not tell which collection it is".to_owned()),
    };
    seen.push(match kind {
        Ok(kind) => verdict(what, &kind, &file.document_id),
        Err(why) if file.document_id == DocumentId::None => Look::fine(what, format!("any kind takes these ({why})")),
        Err(why) => Look::note(what, format!("of which kind it is was not told: {why}"))
            .hint(format!("if it is one for time series or vectors, {WHY}")),
    });
}

fn verdict(what: &str, kind: &str, ids: &DocumentId) -> Look {
    match (kind, ids) {
        ("TIMESERIES" | "VECTORSEARCH", DocumentId::Generated | DocumentId::Expression { .. }) => {
            let kind = if kind == "TIMESERIES" { "time series" } else { "vectors" };
            Look::wrong(what, format!("it is one for {kind}")).hint(WHY)
        }
        ("SEARCH", DocumentId::None) => Look::note(what, "it is one for search, and would take ids")
            .hint("`document_id: generated`: one document a record, whatever is sent again"),
        _ => Look::fine(what, format!("its type is {}", clean(kind))),
    }
}

/// The collection's id: the first part of its endpoint's own name.
fn id(file: &OpenSearch) -> Option<String> {
    let host = file.endpoints.first()?.split("://").nth(1)?.split(['/', ':']).next()?;
    let (id, rest) = host.split_once('.')?;
    rest.contains(".aoss.").then(|| id.to_owned())
}

async fn kind(id: &str, region: &str, platform: &Platform) -> Result<String, String> {
    let caller = Caller::new(&platform.sdk, SERVERLESS, region, platform.clock.clone());
    let headers = vec![
        ("content-type", "application/x-amz-json-1.0"),
        ("x-amz-target", "OpenSearchServerless.BatchGetCollection"),
    ];
    let body = serde_json::json!({ "ids": [id] }).to_string().into_bytes();
    let answer = caller.call(Call { path: "/".to_owned(), headers, body }).await;
    let answer = answer.map_err(|error| match error {
        CallError::NoCredentials(cause) | CallError::Unsignable(cause) | CallError::Unreachable(cause) => cause,
        CallError::TimedOut => "no answer in time".to_owned(),
        CallError::TooLarge => "the answer is larger than any should be".to_owned(),
    })?;
    if answer.status != 200 {
        return Err(format!("`aoss:BatchGetCollection` answers {}", answer.refusal()));
    }
    let said: Value = serde_json::from_slice(&answer.body).map_err(|_| "the answer is no JSON".to_owned())?;
    let kind = said["collectionDetails"][0]["type"].as_str();
    kind.map(str::to_owned).ok_or_else(|| "there is no such collection for this account".to_owned())
}

fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}

#[cfg(test)]
mod tests {
    use standpipe_flow::Found;

    use super::*;

    #[test]
    fn collections_that_take_no_ids_are_told_from_those_that_do() {
        let ids = DocumentId::Expression { program: ".id".to_owned(), create: false };
        for (kind, ids, found) in [
            ("TIMESERIES", &DocumentId::Generated, Found::Wrong),
            ("VECTORSEARCH", &ids, Found::Wrong),
            ("TIMESERIES", &DocumentId::None, Found::Fine),
            ("SEARCH", &DocumentId::Generated, Found::Fine),
            ("SEARCH", &DocumentId::None, Found::Note),
            ("SOMETHINGNEW", &DocumentId::Generated, Found::Fine),
        ] {
            assert_eq!(verdict("collection", kind, ids).found, found, "{kind} {ids:?}");
        }
    }
}
