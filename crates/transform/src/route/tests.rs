use standpipe_flow::Transformed;

use super::*;
use crate::testing::record;

fn route(query: &[(&str, &str)], on_missing: OnMissing) -> Route {
    let query = query.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
    Route::new(RouteSettings { query, on_missing, ..RouteSettings::default() }).unwrap()
}

fn values(route: &Route, data: &str) -> Result<Vec<String>, (&'static str, String)> {
    let partition =
        route.partition(&record(data.to_owned())).map_err(|fault| (fault.code, fault.message.to_string()))?;
    Ok(partition.query.values().cloned().collect())
}

#[test]
fn records_of_equal_values_share_a_partition() {
    let route = route(&[("id", ".id"), ("year", ".ts | strftime(\"%Y\")")], OnMissing::Error);
    let a = route.partition(&record(r#"{"id":"x","ts":1425599621}"#)).unwrap();
    let b = route.partition(&record(r#"{"ts":1425599622,"id":"x","more":1}"#)).unwrap();
    assert!(Arc::ptr_eq(&a, &b));
    assert_eq!((a.query["id"].as_str(), a.query["year"].as_str()), ("x", "2015"));
    let c = route.partition(&record(r#"{"id":"y","ts":1425599621}"#)).unwrap();
    assert_ne!(a, c);
}

#[test]
fn a_scalar_is_its_text_and_anything_else_is_no_key() {
    let route = route(&[("k", ".k")], OnMissing::Error);
    for (json, text) in [
        ("1", "1"),
        ("1.50", "1.5"),
        ("1e3", "1000"),
        ("true", "true"),
        ("false", "false"),
        ("\"a/../\\n\"", "a/../\n"),
    ] {
        assert_eq!(values(&route, &format!("{{\"k\":{json}}}")).unwrap(), [text], "{json}");
    }
    let long = "x".repeat(1_000);
    assert_eq!(values(&route, &format!("{{\"k\":\"{long}\"}}")).unwrap(), [long]);
    for json in ["[1]", "{}"] {
        assert_eq!(values(&route, &format!("{{\"k\":{json}}}")).unwrap_err().0, METADATA_EXTRACTION_FAILED, "{json}");
    }
}

#[test]
fn a_missing_null_or_empty_value_is_rejected_or_has_a_default() {
    let strict = route(&[("k", ".k")], OnMissing::Error);
    let lenient = route(&[("k", ".k")], OnMissing::Default("none".into()));
    for data in ["{}", r#"{"k":null}"#, r#"{"k":""}"#] {
        let error = (METADATA_EXTRACTION_FAILED, "partitionKeys values must not be null or empty".to_owned());
        assert_eq!(values(&strict, data), Err(error), "{data}");
        assert_eq!(values(&lenient, data).unwrap(), ["none"], "{data}");
    }
    let nothing = route(&[("k", "empty")], OnMissing::Default("none".into()));
    assert_eq!(values(&nothing, "{}").unwrap(), ["none"]);
    assert_eq!(values(&route(&[("k", ".k, 5")], OnMissing::Error), r#"{"k":1}"#).unwrap(), ["1"]);
}

#[test]
fn an_expression_that_fails_rejects_the_record_whatever_is_missing() {
    let lenient = route(&[("k", ".k | strftime(\"%Y\")")], OnMissing::Default("none".into()));
    assert_eq!(values(&lenient, "{}").unwrap_err().0, METADATA_EXTRACTION_FAILED);
    assert_eq!(values(&lenient, "no json").unwrap_err().0, METADATA_EXTRACTION_FAILED);
    assert_eq!(values(&lenient, "").unwrap_err().0, METADATA_EXTRACTION_FAILED);
}

#[test]
fn keys_of_a_function_are_those_that_the_prefix_names() {
    let settings = RouteSettings { lambda: vec!["customer".into()], ..RouteSettings::default() };
    let route = Route::new(settings).unwrap();
    let keys = [("customer".to_owned(), "c1".to_owned()), ("unused".to_owned(), "u".to_owned())].into();
    let mut record = record("not json at all");
    record.transformed = Some(Box::new(Transformed { keys, ..Transformed::default() }));
    let partition = route.partition(&record).unwrap();
    assert_eq!((partition.query.len(), partition.lambda.len()), (0, 1));
    assert_eq!(partition.lambda["customer"], "c1");
    record.transformed = None;
    assert_eq!(route.partition(&record).unwrap_err().code, METADATA_EXTRACTION_FAILED);
}

#[test]
fn a_wrong_expression_is_named_by_its_key() {
    let query = [("a".to_owned(), ".a".to_owned()), ("b".to_owned(), ".b | nope".to_owned())].into();
    let error = Route::new(RouteSettings { query, ..RouteSettings::default() }).unwrap_err();
    assert_eq!((error.key.as_str(), error.error.column), ("b", 6));
}

#[test]
fn a_record_is_kept_where_the_answer_is_true_and_rejected_where_there_is_none() {
    let when = crate::When::new(".total > 10", Limits::default()).unwrap();
    assert_eq!(when.keeps(br#"{"total":11}"#), Ok(true));
    assert_eq!(when.keeps(br#"{"total":1}"#), Ok(false));
    assert!(when.keeps(b"x").is_err());
    let when = crate::When::new(".a[]", Limits::default()).unwrap();
    assert_eq!(when.keeps(br#"{"a":[]}"#), Ok(false));
    assert_eq!(when.keeps(br#"{"a":[0,false]}"#), Ok(true));
    assert_eq!(when.keeps(br#"{"a":[]}{"a":[1]}"#), Ok(true));
    assert!(when.keeps(br#"{"a":1}"#).is_err());
}
