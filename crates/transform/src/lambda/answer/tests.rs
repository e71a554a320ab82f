use bytes::Bytes;
use proptest::prelude::*;
use standpipe_flow::{Millis, Record};

use super::*;

fn records(count: u64) -> Vec<Record> {
    let record = |i| Record {
        data: Bytes::from(format!("r{i}")),
        partition_key: "k".into(),
        sequence: 7_u64.into(),
        sub: i,
        arrival: Millis(1),
        transformed: None,
        partition: None,
    };
    (0..count).map(record).collect()
}

/// An answer about records that are named by their number.
fn answered(about: &[(u64, &str)]) -> Result<Vec<Verdict>, Failure> {
    let about: Vec<_> = about.iter().map(|(id, rest)| format!(r#"{{"recordId":"7{id:06}"{rest}}}"#)).collect();
    verdicts(&records(2), format!(r#"{{"records":[{}]}}"#, about.join(",")).as_bytes())
}

fn ok(data: &'static str) -> Verdict {
    Verdict::Passed { data: Bytes::from(data), keys: BTreeMap::new() }
}

const OK: &str = r#","result":"Ok","data":"YQ==""#;

#[test]
fn each_record_has_the_fate_that_is_answered_about_it() {
    let dropped = r#","result":"Dropped""#;
    assert_eq!(answered(&[(1, dropped), (0, OK)]), Ok(vec![ok("a"), Verdict::Dropped]), "in any order");
    let failed = r#","result":"ProcessingFailed","data":"YQ==""#;
    assert_eq!(answered(&[(0, failed), (1, OK)]), Ok(vec![Verdict::Failed(PROCESSING_FAILED), ok("a")]));
    let empty = r#","result":"Ok","data":"""#;
    assert_eq!(answered(&[(0, empty), (1, OK)]), Ok(vec![ok(""), ok("a")]));
    let none = r#","result":"Ok","data":null"#;
    assert_eq!(answered(&[(0, none), (1, r#","result":"Ok""#)]), Ok(vec![Verdict::Failed(NO_DATA); 2]));
}

#[test]
fn what_is_missing_or_comes_twice_fails_alone_and_what_nobody_asked_about_is_passed_over() {
    assert_eq!(answered(&[(0, OK)]), Ok(vec![ok("a"), Verdict::Failed(MISSING)]));
    assert_eq!(answered(&[(0, OK), (1, OK), (0, OK)]), Ok(vec![Verdict::Failed(DUPLICATED), ok("a")]));
    assert_eq!(answered(&[(0, OK), (5, r#","result":"Huh""#), (1, OK)]), Ok(vec![ok("a"), ok("a")]));
    for nothing in ["{}", "null", r#"{"records":null}"#, r#"{"records":[]}"#, r#"{"records":[{"result":"Ok"}]}"#] {
        assert_eq!(verdicts(&records(2), nothing.as_bytes()), Ok(vec![Verdict::Failed(MISSING); 2]), "{nothing}");
    }
}

#[test]
fn an_answer_that_cannot_be_read_fails_all() {
    for no_json in
        ["", "{", r#""text""#, "7", r#"{"records":7}"#, r#"{"records":[7]}"#, r#"{"records":[{"recordId":7}]}"#]
    {
        assert_eq!(verdicts(&records(2), no_json.as_bytes()), Err(NO_JSON), "{no_json}");
    }
    assert_eq!(verdicts(&records(2), b"{\"records\":[]}\xff"), Err(NO_JSON));
    for wrong in [r#","result":"ok","data":"""#, r#","result":null"#, "", r#","result":"Ok","data":"%""#] {
        assert_eq!(answered(&[(0, OK), (1, wrong)]), Err(WRONG_FORMAT), "{wrong}");
    }
    assert_eq!(WRONG_FORMAT.code, "Lambda.FunctionError");
}

#[test]
fn base64_may_have_line_feeds_and_need_no_padding() {
    let lines = r#","result":"Ok","data":"aGVs\nbG8=\n""#;
    let unpadded = r#","result":"Ok","data":"aGVsbG8""#;
    assert_eq!(answered(&[(0, lines), (1, unpadded)]), Ok(vec![ok("hello"), ok("hello")]));
}

#[test]
fn partition_keys_are_texts() {
    let keys = r#","result":"Ok","data":"","metadata":{"otfMetadata":{"operation":"insert"},"partitionKeys":
        {"customer":"a/b","year":2026,"paid":true,"none":null}}"#;
    let bare = r#","result":"Ok","data":"","metadata":null"#;
    let [Verdict::Passed { keys, .. }, other] = &answered(&[(0, keys), (1, bare)]).expect("an answer")[..] else {
        panic!("both pass");
    };
    let keys: Vec<(&str, &str)> = keys.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(keys, [("customer", "a/b"), ("paid", "true"), ("year", "2026")]);
    assert_eq!(other, &ok(""));
    let nested = r#","result":"Ok","data":"","metadata":{"partitionKeys":{"a":{}}}"#;
    assert_eq!(answered(&[(0, nested)]), Err(NO_JSON));
}

#[test]
fn an_answer_that_lambda_does_not_let_through_is_known_by_its_type() {
    assert!(says_too_large(br#"{"errorMessage":"x","errorType":"Function.ResponseSizeTooLarge"}"#));
    assert!(!says_too_large(br#"{"errorMessage":"Function.ResponseSizeTooLarge","errorType":"Error"}"#));
    assert!(!says_too_large(b"\xff"));
}

proptest! {
    /// No answer panics, and each gives as many verdicts as there are records, or none.
    #[test]
    fn any_answer_is_taken(text in r#"\{?("records":)?[\[\]{}",:a-zA-Z0-9\\ %=]{0,80}"#, bytes: Vec<u8>) {
        for answer in [text.as_bytes(), &bytes] {
            if let Ok(verdicts) = verdicts(&records(3), answer) {
                prop_assert_eq!(verdicts.len(), 3);
            }
            says_too_large(answer);
        }
    }
}
