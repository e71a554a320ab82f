//! Answers of Elasticsearch 7.17, 8 and 9 as it writes them, where they differ from OpenSearch's: read from its own texts, since
//! no such server runs beside these tests.

use super::super::action::Operation;
use super::super::answer::{self, Item, Verdict};
use super::*;
use crate::http::Answer;

fn verdict(status: u16, body: &str, documents: usize) -> Verdict {
    let (content_type, content_encoding) = ("application/json".to_owned(), String::new());
    let body = Bytes::copy_from_slice(body.as_bytes());
    let answer = Answer { status, retry_after: None, content_type, content_encoding, has_length: true, body };
    answer::verdict(&answer, Operation::Create, documents)
}

/// What became of the only document of an answer.
fn item(told: &str) -> (&'static str, &'static str) {
    let body = format!(r#"{{"errors":true,"took":7,"items":[{{"create":{told}}}]}}"#);
    let Verdict::Items(items) = verdict(200, &body, 1) else { panic!("no items: {body}") };
    match &items[0] {
        Item::Accepted => ("accepted", ""),
        Item::Exists(said) => ("exists", said.code),
        Item::Again(said) => ("again", said.code),
        Item::Denied(said) => ("denied", said.code),
        Item::Refused(said) => ("refused", said.code),
    }
}

#[test]
fn items_are_judged_by_their_status_whatever_the_version_calls_the_error() {
    for (told, expected) in [
        // 7 has types, and without filter_path the rest too.
        (
            r#"{"_index":"i","_type":"_doc","_id":"1","_version":1,"result":"created","_shards":{"total":2,"successful":1,"failed":0},"_seq_no":0,"_primary_term":1,"status":201}"#,
            ("accepted", ""),
        ),
        // 8.18 and 9: a document that the mapping refuses lies in the failure store of its data stream, if that has one.
        (r#"{"_index":".fs-logs-2026.01.31-000002","_id":"1","status":201,"failure_store":"used"}"#, ("accepted", "")),
        (
            r#"{"_index":"i","_id":"1","status":400,"error":{"type":"document_parsing_exception","reason":"[1:6] failed to parse field [n] of type [long] in document with id '1'. Preview of field's value: 'x'","caused_by":{"type":"illegal_argument_exception","reason":"For input string: \"x\""}}}"#,
            ("refused", "400"),
        ),
        (
            r#"{"_index":"i","_id":"1","status":400,"error":{"type":"mapper_parsing_exception","reason":"failed to parse field [n] of type [long] in document with id '1'"}}"#,
            ("refused", "400"),
        ),
        (
            r#"{"status":409,"error":{"type":"version_conflict_engine_exception","reason":"[1]: version conflict, document already exists (current version [1])","index_uuid":"u","shard":"0","index":"i"}}"#,
            ("exists", "409"),
        ),
        (
            r#"{"status":429,"error":{"type":"es_rejected_execution_exception","reason":"rejected execution of TimedRunnable{original=...} on TaskExecutionTimeTrackingEsThreadPoolExecutor[name = one/write, queue capacity = 10000]"}}"#,
            ("again", "429"),
        ),
        (
            r#"{"status":429,"error":{"type":"cluster_block_exception","reason":"index [i] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark, index has read-only-allow-delete block; for more information, see ...];"}}"#,
            ("again", "429"),
        ),
        (
            r#"{"status":403,"error":{"type":"security_exception","reason":"action [indices:data/write/bulk[s]] is unauthorized for user [standpipe] with effective roles [reader] on indices [i], this action is granted by the index privileges [create_doc,create,delete,index,write,all]"}}"#,
            ("denied", "403"),
        ),
        (
            r#"{"status":404,"error":{"type":"index_not_found_exception","reason":"no such index [i] and [action.auto_create_index] contains [-*] which forbids automatic creation of the index","index_uuid":"_na_","index":"i"}}"#,
            ("again", "404"),
        ),
        (
            r#"{"status":400,"error":{"type":"validation_exception","reason":"Validation Failed: 1: this action would add [2] shards, but this cluster currently has [1000]/[1000] maximum normal shards open;"}}"#,
            ("again", "400"),
        ),
        (
            r#"{"status":503,"error":{"type":"unavailable_shards_exception","reason":"[i][0] primary shard is not active Timeout: [1m], request: [BulkShardRequest [[i][0]] containing [index {[i][1], source[_na_]}]]"}}"#,
            ("again", "503"),
        ),
    ] {
        assert_eq!(item(told), expected, "{told}");
    }
}

#[test]
fn what_is_said_of_the_whole_request_is_trouble_or_a_refusal() {
    let busy = r#"{"error":{"root_cause":[{"type":"es_rejected_execution_exception","reason":"rejected execution of coordinating operation [coordinating_and_primary_bytes=0, replica_bytes=0, all_bytes=0, coordinating_operation_bytes=108, max_coordinating_and_primary_bytes=107]"}],"type":"es_rejected_execution_exception","reason":"rejected execution of coordinating operation"},"status":429}"#;
    assert!(matches!(verdict(429, busy, 1), Verdict::Busy { .. }));
    let memory = r#"{"error":{"root_cause":[{"type":"circuit_breaking_exception","reason":"[parent] Data too large, data for [<http_request>] would be [987654321/941.9mb], which is larger than the limit of [986932838/941.2mb]","bytes_wanted":987654321,"bytes_limit":986932838,"durability":"PERMANENT"}],"type":"circuit_breaking_exception","reason":"[parent] Data too large"},"status":429}"#;
    assert!(matches!(verdict(429, memory, 1), Verdict::Busy { .. }));
    assert!(matches!(verdict(413, "", 1), Verdict::TooLarge));
    let starting = r#"{"error":{"root_cause":[],"type":"cluster_block_exception","reason":"blocked by: [SERVICE_UNAVAILABLE/1/state not recovered / initialized];"},"status":503}"#;
    let Verdict::Trouble(DeliveryError::Retry { cause, .. }) = verdict(503, starting, 1) else { panic!("trouble") };
    assert!(cause.starts_with("answered 503: cluster_block_exception: blocked by:"), "{cause}");
    let nobody = r#"{"error":{"root_cause":[{"type":"security_exception","reason":"missing authentication credentials for REST request [/_bulk]","header":{"WWW-Authenticate":["Basic realm=\"security\" charset=\"UTF-8\"","ApiKey"]}}],"type":"security_exception","reason":"missing authentication credentials for REST request [/_bulk]"},"status":401}"#;
    let Verdict::Trouble(DeliveryError::Halt { cause }) = verdict(401, nobody, 1) else { panic!("halted") };
    assert_eq!(cause, "answered 401: security_exception: missing authentication credentials for REST request [/_bulk]");
    // 6 and before: their actions have types.
    let typed = r#"{"error":{"root_cause":[{"type":"action_request_validation_exception","reason":"Validation Failed: 1: type is missing;"}],"type":"action_request_validation_exception","reason":"Validation Failed: 1: type is missing;"},"status":400}"#;
    let Verdict::Refused { code, cause } = verdict(400, typed, 1) else { panic!("refused") };
    assert_eq!((code, cause.as_str()), ("400", "answered 400: action_request_validation_exception: "));
}
