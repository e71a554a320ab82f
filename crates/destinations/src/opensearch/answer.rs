//! What an answer to a bulk request means: the one place where its statuses and error types are read.
//!
//! A document is accepted only by an item that says so, in the place of its action: an answer with another number of items,
//! of other actions, cut short, or that is no bulk answer at all acknowledges nothing. What is said of the whole request is
//! held against a document only when that is alone in it: it is too large, or refused while another request is taken.
//! Never here: a count of tries, a clock. What a server says of a document goes into error records and never into a log.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use standpipe_flow::DeliveryError;

use super::action::Operation;
use crate::http::Answer;

/// What is asked for of an answer: a third of it, in the same order.
pub(super) const FILTER: &str =
    "filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by";
/// Characters of what is said of a document that are kept.
const SAID_CHARS_MAX: usize = 1_000;
/// Characters of what is said of a whole request.
const CAUSE_CHARS_MAX: usize = 300;

/// What an answer means.
#[derive(Debug)]
pub(super) enum Verdict {
    /// What became of each document.
    Items(Vec<Item>),
    /// Fewer bytes at once.
    TooLarge,
    /// The request is refused: all that we send may be, or what is in this one.
    Refused {
        /// In Firehose's place for it.
        code: &'static str,
        /// What was said, for a log.
        cause: String,
    },
    /// Fewer requests at once.
    Busy {
        /// `Retry-After`.
        after: Option<Duration>,
    },
    /// The service, not the documents.
    Trouble(DeliveryError),
}

/// What became of a document.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Item {
    /// It is there.
    Accepted,
    /// One of its id was there before.
    Exists(Said),
    /// Not now.
    Again(Said),
    /// We may not, or nobody may now.
    Denied(Said),
    /// Never.
    Refused(Said),
}

/// What a server said of a document.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Said {
    /// The status, in Firehose's place for it.
    pub code: &'static str,
    /// The error, as it was told; it may show a value of the document.
    pub message: Arc<str>,
}

impl Said {
    pub(super) fn new(code: &'static str, message: impl Into<Arc<str>>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Reads the answer to a bulk request of so many documents.
pub(super) fn verdict(answer: &Answer, operation: Operation, documents: usize) -> Verdict {
    match answer.status {
        200..=299 => match items(&answer.body, operation, documents) {
            Ok(items) => Verdict::Items(items),
            // Nothing is known of any document: all are sent again.
            Err(why) => Verdict::Trouble(retry(answer, &format!("an answer of status {} that {why}", answer.status))),
        },
        413 => Verdict::TooLarge,
        429 => Verdict::Busy { after: answer.retry_after },
        408 | 425 | 500..=599 => Verdict::Trouble(retry(answer, &refusal(answer))),
        // What the service itself says of rights and indices is about us, whatever is in the request.
        402..=499 if told_by_the_service(answer) => Verdict::Trouble(DeliveryError::Halt { cause: refusal(answer) }),
        400 | 402..=499 => Verdict::Refused { code: code(answer.status), cause: refusal(answer) },
        _ => Verdict::Trouble(DeliveryError::Halt { cause: refusal(answer) }),
    }
}

/// Whether an answer has the form of an error of OpenSearch or Elasticsearch: a firewall's or a proxy's has not.
fn told_by_the_service(answer: &Answer) -> bool {
    let said: Option<serde_json::Value> = serde_json::from_slice(&answer.body).ok();
    said.is_some_and(|said| said["error"]["type"].is_string())
}

/// A request that does nothing: an index of this name cannot be. Whoever refuses it refuses everything that we send; who
/// takes it answers that its one action has failed.
pub(super) const NOTHING: &[u8] = b"{\"create\":{\"_index\":\"Standpipe Asks\"}}\n{}\n";

/// Whether [`NOTHING`] was taken.
pub(super) fn takes_others(answer: &Answer) -> bool {
    matches!(answer.status, 200..=299) && items(&answer.body, Operation::Create, 1).is_ok()
}

/// What an answer to a question without documents means; `Ok` for any status of success.
pub(super) fn plain(answer: &Answer) -> Result<(), DeliveryError> {
    match answer.status {
        200..=299 => Ok(()),
        408 | 425 | 429 | 500..=599 => Err(retry(answer, &refusal(answer))),
        _ => Err(DeliveryError::Halt { cause: refusal(answer) }),
    }
}

fn retry(answer: &Answer, cause: &str) -> DeliveryError {
    DeliveryError::Retry { after: answer.retry_after, cause: cause.to_owned() }
}

/// What a refusal of a whole request says, for a log: its status, and the error's type and reason where it has them. Not
/// the body otherwise: it may be a page, or hold what was sent.
fn refusal(answer: &Answer) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: Option<serde_json::Value>,
        // An API gateway, or the service's own proxy.
        #[serde(alias = "Message")]
        message: Option<String>,
    }
    let said: Option<Refusal> = serde_json::from_slice(&answer.body).ok();
    let text = said.and_then(|said| match (said.error, said.message) {
        (Some(serde_json::Value::String(text)), _) => Some(text),
        (Some(error), _) => {
            let part = |name: &str| error[name].as_str().unwrap_or_default();
            // Why a request as a whole is malformed may show an id, which a record may have given.
            let reason = if answer.status == 400 { "" } else { part("reason") };
            Some(format!("{}: {reason}", part("type")))
        }
        (None, message) => message,
    });
    match text {
        Some(text) => format!("answered {}: {}", answer.status, bounded(&text, CAUSE_CHARS_MAX)),
        None => format!("answered {}", answer.status),
    }
}

fn bounded(text: &str, chars: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(chars).collect()
}

#[derive(Deserialize)]
struct Bulk {
    items: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    create: Option<Told>,
    index: Option<Told>,
}

#[derive(Deserialize)]
struct Told {
    status: u16,
    error: Option<serde_json::Value>,
}

/// What became of each document, in the order of the request.
fn items(body: &[u8], operation: Operation, documents: usize) -> Result<Vec<Item>, &'static str> {
    let bulk: Bulk = serde_json::from_slice(body).map_err(|_| "is no whole answer to a bulk request")?;
    if bulk.items.len() != documents {
        return Err("is not about as many documents as were sent");
    }
    let item = |entry: Entry| {
        let told = match (operation, entry.create, entry.index) {
            (Operation::Create, Some(told), None) | (Operation::Index, None, Some(told)) => told,
            _ => return Err("is about other actions than were sent"),
        };
        Ok(judged(&told))
    };
    bulk.items.into_iter().map(item).collect()
}

fn judged(told: &Told) -> Item {
    let said = || Said::new(code(told.status), told_message(told));
    let kind = told.error.as_ref().and_then(|error| error["type"].as_str()).unwrap_or_default();
    match (told.status, kind) {
        (200..=299, _) if told.error.is_none() => Item::Accepted,
        // Since 7.0 a full disk says 429; before, and when somebody has set the block, 403.
        (401 | 403, _) => Item::Denied(said()),
        (409, "version_conflict_engine_exception") => Item::Exists(said()),
        (409, _) => Item::Again(said()),
        // The cluster's trouble, not the document's: no more shards for a new index, an index that is closed.
        (400, "validation_exception" | "index_closed_exception") => Item::Again(said()),
        // An index that is not there and is not made by itself: somebody may make it.
        (404, "index_not_found_exception") => Item::Again(said()),
        (408 | 429 | 500..=599, _) => Item::Again(said()),
        _ => Item::Refused(said()),
    }
}

fn told_message(told: &Told) -> String {
    match &told.error {
        Some(serde_json::Value::String(text)) => bounded(text, SAID_CHARS_MAX),
        Some(error) => bounded(&error.to_string(), SAID_CHARS_MAX),
        None => "no reason is given".to_owned(),
    }
}

/// The statuses that an item may have, as text.
fn code(status: u16) -> &'static str {
    match status {
        200..=299 => "200",
        400 => "400",
        401 => "401",
        403 => "403",
        404 => "404",
        405 => "405",
        406 => "406",
        408 => "408",
        409 => "409",
        410 => "410",
        413 => "413",
        415 => "415",
        422 => "422",
        429 => "429",
        500 => "500",
        501 => "501",
        502 => "502",
        503 => "503",
        504 => "504",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        let retry_after = (status == 429).then_some(Duration::from_secs(7));
        let (content_type, content_encoding) = (String::new(), String::new());
        let body = Bytes::copy_from_slice(body.as_bytes());
        Answer { status, retry_after, content_type, content_encoding, has_length: true, body }
    }

    fn of(body: &str, documents: usize) -> Verdict {
        verdict(&answer(200, body), Operation::Create, documents)
    }

    fn trouble(verdict: Verdict) -> String {
        match verdict {
            Verdict::Trouble(error) => error.to_string(),
            Verdict::Refused { cause, .. } => cause,
            other => panic!("{other:?}"),
        }
    }

    /// As OpenSearch 2.19 and Elasticsearch 7 and 8 say it, with `filter_path`, and without by one that ignores it.
    #[test]
    fn every_item_is_read_in_its_place() {
        let body = r#"{"errors":true,"items":[
            {"create":{"status":201}},
            {"create":{"status":409,"error":{"type":"version_conflict_engine_exception","reason":"[1]: version conflict, document already exists (current version [1])"}}},
            {"create":{"status":400,"error":{"type":"mapper_parsing_exception","reason":"failed to parse field [n] of type [long] in document with id '2'. Preview of field's value: 'x'","caused_by":{"type":"illegal_argument_exception","reason":"For input string: \"x\""}}}},
            {"create":{"_index":"i","_id":"3","status":400,"error":{"type":"document_parsing_exception","reason":"[1:6] failed to parse field [n] of type [long]"}}},
            {"create":{"status":429,"error":{"type":"rejected_execution_exception","reason":"rejected execution of coordinating operation"}}},
            {"create":{"status":503,"error":{"type":"unavailable_shards_exception","reason":"primary shard is not active"}}},
            {"create":{"status":403,"error":{"type":"cluster_block_exception","reason":"index [i] blocked by: [FORBIDDEN/8/index write (api)];"}}},
            {"create":{"status":404,"error":{"type":"index_not_found_exception","reason":"no such index [i]"}}},
            {"create":{"status":404,"error":{"type":"document_missing_exception","reason":"?"}}},
            {"create":{"status":400,"error":"MapperParsingException[failed to parse]"}}
        ],"took":3,"more":{}}"#;
        let Verdict::Items(items) = of(body, 10) else { panic!("items") };
        let shown: Vec<(&str, &str)> = items
            .iter()
            .map(|item| match item {
                Item::Accepted => ("accepted", ""),
                Item::Exists(said) => ("exists", said.code),
                Item::Again(said) => ("again", said.code),
                Item::Denied(said) => ("denied", said.code),
                Item::Refused(said) => ("refused", said.code),
            })
            .collect();
        let expected = [
            ("accepted", ""),
            ("exists", "409"),
            ("refused", "400"),
            ("refused", "400"),
            ("again", "429"),
            ("again", "503"),
            ("denied", "403"),
            ("again", "404"),
            ("refused", "404"),
            ("refused", "400"),
        ];
        assert_eq!(shown, expected);
        let Item::Refused(said) = &items[2] else { panic!("refused") };
        assert!(
            said.message.starts_with(r#"{"type":"mapper_parsing_exception","reason":"failed to parse"#),
            "{said:?}"
        );
        assert_eq!(items[9], Item::Refused(Said::new("400", "MapperParsingException[failed to parse]")));
    }

    #[test]
    fn an_answer_that_is_not_whole_and_about_what_was_sent_acknowledges_nothing() {
        let good = r#"{"errors":false,"items":[{"create":{"status":201}},{"create":{"status":201}}]}"#;
        assert!(matches!(of(good, 2), Verdict::Items(items) if items == [Item::Accepted, Item::Accepted]));
        for bad in [
            "",
            "ok",
            "null",
            "[]",
            "{}",
            "<html><body>Sign in</body></html>",
            r#"{"errors":false}"#,
            r#"{"errors":false,"items":[]}"#,
            r#"{"errors":false,"items":[{"create":{"status":201}}]}"#,
            r#"{"errors":false,"items":[{"create":{"status":201}},{"create":{"status":201}},{"create":{"status":201}}]}"#,
            r#"{"errors":false,"items":[{"create":{"status":201}},{"index":{"status":201}}]}"#,
            r#"{"errors":false,"items":[{"create":{"status":201}},{}]}"#,
            r#"{"errors":false,"items":[{"create":{"status":201}},{"create":{}}]}"#,
            r#"{"errors":false,"items":[{"create":{"status":201}},{"create":{"status":"201"}}]}"#,
            r#"{"errors":false,"items":[{"create":{"status":201}},{"create":{"status":201},"index":{"status":201}}]}"#,
            r#"{"errors":false,"items":[{"create":{"status":201}},{"create":{"status":2"#,
        ] {
            assert!(matches!(of(bad, 2), Verdict::Trouble(DeliveryError::Retry { .. })), "{bad}");
        }
        assert!(!trouble(of("<html>secret</html>", 1)).contains("secret"), "what came is not shown");
        let lie = r#"{"errors":false,"items":[{"create":{"status":201,"error":{"type":"x"}}}]}"#;
        assert!(matches!(of(lie, 1), Verdict::Items(items) if matches!(items[0], Item::Refused(_))));
    }

    #[test]
    fn what_is_said_of_the_whole_request_is_held_against_no_document() {
        let whole = |status, body| verdict(&answer(status, body), Operation::Index, 3);
        assert!(matches!(whole(413, "Request size exceeded 10485760 bytes"), Verdict::TooLarge));
        assert!(matches!(whole(429, ""), Verdict::Busy { after: Some(after) } if after == Duration::from_secs(7)));
        for status in [408, 500, 502, 503, 504] {
            assert!(matches!(whole(status, "<html>"), Verdict::Trouble(DeliveryError::Retry { .. })), "{status}");
        }
        for status in [301, 302, 401, 600] {
            assert!(matches!(whole(status, "<html>"), Verdict::Trouble(DeliveryError::Halt { .. })), "{status}");
        }
        for status in [400, 403, 404, 405, 406, 415, 451] {
            assert!(matches!(whole(status, "<html>"), Verdict::Refused { .. }), "{status}");
        }
        let denied = r#"{"error":{"root_cause":[],"type":"security_exception","reason":"no permissions for [indices:data/write/bulk] and User [name=x]"},"status":403}"#;
        assert_eq!(
            trouble(whole(403, denied)),
            "halted: answered 403: security_exception: no permissions for [indices:data/write/bulk] and User [name=x]"
        );
        let proxy = "{\"Message\":\"User: anonymous is not authorized to perform: es:ESHttpPost\\n\"}";
        let expected = "answered 403: User: anonymous is not authorized to perform: es:ESHttpPost";
        assert_eq!(trouble(whole(403, proxy)), expected);
        assert_eq!(trouble(whole(503, r#"{"error":"down"}"#)), "answered 503: down");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

        #[test]
        fn no_answer_panics_or_acknowledges_more_than_was_sent(
            body in "(\\{\"items\":\\[|\\{\"create\":|\\{\"status\":|201|\\}|\\]|,|\"error\":|null|1e9|\"){0,12}",
            status in 0..700_u16,
            documents in 0..3_usize,
        ) {
            if let Verdict::Items(items) = verdict(&answer(status, &body), Operation::Create, documents) {
                prop_assert_eq!(items.len(), documents);
                prop_assert!((200..300).contains(&status));
            }
        }
    }
}
