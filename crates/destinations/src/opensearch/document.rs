//! `record -> one line`: the document of a bulk request.
//!
//! A bulk request is lines, and an action is a line like any other: a record that brought a line feed of its own could
//! write into any index. So a record must be exactly one JSON object, and goes out without a line feed: outside of strings
//! they are white space and are left out, within strings JSON has none. Everything else stays as it was written: numbers,
//! escapes, U+2028 (no line end to a bulk request), keys that repeat (the server refuses those, of that document alone).
//! Never here: which index, which id.

use std::fmt;

use memchr::{memchr2, memchr3};
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use standpipe_flow::Millis;

/// The member that a data stream asks for.
const TIMESTAMP: &str = "@timestamp";

/// Why a record is no document; in Firehose's words where it has them.
pub(super) const NOT_A_DOCUMENT: &str = "The record is not a document: it must be one JSON object in UTF-8";

/// Appends the line of a record, with its line feed. `timestamp`: the `@timestamp` of a document that brings none.
///
/// # Errors
/// What is wrong, without the record's content; nothing is appended then.
pub fn append(data: &[u8], timestamp: Option<Millis>, out: &mut Vec<u8>) -> Result<(), String> {
    let text = std::str::from_utf8(data)
        .map_err(|error| format!("{NOT_A_DOCUMENT}: no UTF-8 from byte {} on", error.valid_up_to()))?;
    let mut json = serde_json::Deserializer::from_str(text);
    // What serde_json itself says may show the record.
    let wrong =
        |error: serde_json::Error| format!("{NOT_A_DOCUMENT}: line {}, column {}", error.line(), error.column());
    let top = json.deserialize_map(TopVisitor).map_err(wrong)?;
    json.end().map_err(wrong)?;
    let text = text.trim_ascii();
    let body = match timestamp.filter(|_| !top.has_timestamp) {
        Some(arrival) => {
            out.extend_from_slice(b"{\"@timestamp\":");
            out.extend_from_slice(arrival.0.to_string().as_bytes());
            out.extend_from_slice(if top.is_empty { b"" } else { b"," });
            &text.as_bytes()[1..]
        }
        None => text.as_bytes(),
    };
    one_line(body, out);
    out.push(b'\n');
    Ok(())
}

/// Copies JSON, or the rest of an object, without the line feeds and carriage returns outside of strings.
fn one_line(text: &[u8], out: &mut Vec<u8>) {
    if memchr2(b'\n', b'\r', text).is_none() {
        out.extend_from_slice(text);
        return;
    }
    let mut rest = text;
    // Whatever comes next of a string's beginning and a line's end.
    while let Some(at) = memchr3(b'"', b'\n', b'\r', rest) {
        if rest[at] == b'"' {
            let end = at + string_bytes(&rest[at..]);
            out.extend_from_slice(&rest[..end]);
            rest = &rest[end..];
        } else {
            out.extend_from_slice(&rest[..at]);
            rest = &rest[at + 1..];
        }
    }
    out.extend_from_slice(rest);
}

/// Bytes of the string that a text begins with, quotes included.
fn string_bytes(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(found) = text.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        if text[at + found] == b'"' {
            return at + found + 1;
        }
        at += found + 2;
    }
    text.len()
}

/// What a document has at its top.
struct Top {
    is_empty: bool,
    has_timestamp: bool,
}

/// Reads every byte of an object, so that what is no JSON is found, and builds no value.
struct TopVisitor;

impl<'de> Visitor<'de> for TopVisitor {
    type Value = Top;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Top, A::Error> {
        let mut top = Top { is_empty: true, has_timestamp: false };
        while let Some(is_timestamp) = map.next_key_seed(IsTimestamp)? {
            top.is_empty = false;
            top.has_timestamp |= is_timestamp;
            map.next_value::<IgnoredAny>()?;
        }
        Ok(top)
    }
}

struct IsTimestamp;

impl<'de> DeserializeSeed<'de> for IsTimestamp {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for IsTimestamp {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<bool, E> {
        Ok(key == TIMESTAMP)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(data: &[u8]) -> Result<String, String> {
        let mut out = Vec::new();
        append(data, None, &mut out)?;
        Ok(String::from_utf8(out).expect("text"))
    }

    #[test]
    fn a_document_is_one_line_and_otherwise_as_it_was_written() {
        let text = "\r\n{ \"a\":\n\t1.10,\r\n \"b\\n\\\"\": \"x\\ny\u{2028}\\u0000\",\"a\":[\n{ }\n] }\n\n";
        let expected = "{ \"a\":\t1.10, \"b\\n\\\"\": \"x\\ny\u{2028}\\u0000\",\"a\":[{ }] }\n";
        assert_eq!(line(text.as_bytes()).expect("a document"), expected);
        assert_eq!(line(b"{}").expect("a document"), "{}\n");
    }

    #[test]
    fn what_is_not_one_object_is_refused_without_showing_it() {
        for bad in [
            &b""[..],
            b" \n",
            b"[1]",
            b"\"secret\"",
            b"{\"secret\":1",
            b"{\"a\":1}{\"b\":2}",
            b"{\"a\":1}\n{\"index\":{}}\n{\"b\":2}",
            b"{\"secret\":\"a\nb\"}",
            b"{\"a\":\"\x00\"}",
            b"{\"a\":\"\xFF\"}",
            b"\xEF\xBB\xBF{}",
            b"{\"a\":1,}",
            b"{'a':1}",
            b"{\"a\":01}",
            b"nothing",
        ] {
            let mut out = b"before".to_vec();
            let wrong = append(bad, Some(Millis(1)), &mut out).expect_err("no document");
            assert!(wrong.starts_with(NOT_A_DOCUMENT) && !wrong.contains("secret"), "{wrong}");
            assert_eq!(out, b"before");
        }
    }

    #[test]
    fn a_document_without_a_timestamp_gets_that_of_its_arrival() {
        let stamped = |text: &str| {
            let mut out = Vec::new();
            append(text.as_bytes(), Some(Millis(1_790_000_000_000)), &mut out).expect("a document");
            String::from_utf8(out).expect("text")
        };
        assert_eq!(stamped("{}"), "{\"@timestamp\":1790000000000}\n");
        assert_eq!(stamped(" {\n\"a\":1}"), "{\"@timestamp\":1790000000000,\"a\":1}\n");
        assert_eq!(stamped("{\"@timestamp\":\"2026\",\"a\":1}"), "{\"@timestamp\":\"2026\",\"a\":1}\n");
        assert_eq!(stamped("{\"\\u0040timestamp\":5}"), "{\"\\u0040timestamp\":5}\n", "an escape hides nothing");
        assert_eq!(stamped("{\"a\":{\"@timestamp\":5}}"), "{\"@timestamp\":1790000000000,\"a\":{\"@timestamp\":5}}\n");
    }

    /// JSON values as somebody may write them who wants to smuggle an action.
    fn value() -> impl Strategy<Value = serde_json::Value> {
        let text = prop_oneof![
            Just("\n{\"delete\":{\"_index\":\"i\",\"_id\":\"1\"}}\n".to_owned()),
            Just("\r\n\u{2028}\u{0}\u{85}".to_owned()),
            "\\PC{0,8}",
            "[\"\\\\\n\r{}]{0,6}"
        ];
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            text.clone().prop_map(Into::into)
        ];
        leaf.prop_recursive(4, 24, 5, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
                proptest::collection::btree_map(text.clone(), inner, 0..5)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

        #[test]
        fn no_object_writes_a_second_line(value in value(), pretty in any::<bool>(), stamp in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let text = text.expect("JSON").replace(": ", ":\r\n ");
            // The replacement may have changed a string: then it is no JSON, and no document.
            let valid = serde_json::from_str::<serde_json::Value>(&text);
            let mut out = Vec::new();
            let appended = append(text.as_bytes(), stamp.then_some(Millis(7)), &mut out);
            prop_assert_eq!(appended.is_ok(), valid.as_ref().is_ok_and(serde_json::Value::is_object));
            if appended.is_ok() {
                prop_assert_eq!(out.iter().position(|byte| *byte == b'\n'), Some(out.len() - 1));
                prop_assert!(!out.contains(&b'\r'));
                let mut back: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
                let mut sent = valid.expect("JSON");
                for one in [&mut back, &mut sent] {
                    one.as_object_mut().expect("an object").remove(TIMESTAMP);
                }
                prop_assert_eq!(back, sent);
            }
        }

        #[test]
        fn any_bytes_become_one_line_or_none(data in "[{}\\[\\]\":,\\\\a1\n\r \u{2028}]{0,40}") {
            let mut out = Vec::new();
            if append(data.as_bytes(), None, &mut out).is_ok() {
                prop_assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
                prop_assert!(serde_json::from_str::<serde_json::Value>(&data).is_ok_and(|value| value.is_object()));
            }
        }
    }
}
