//! A JSON value in a string column -> its text: no white space between tokens, of keys that are equal the first.
//! Numbers and strings stay as they were written.
//!
//! Keys are put in lower case, at every depth, while Firehose's OpenX deserializer ignores case (its default).

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::fault::Fault;
use crate::json::{Cursor, Kind};
use crate::schema::fold;

/// Appends the text of the next value. Recursion ends with the cursor's limit on depth.
pub(crate) fn write(json: &mut Cursor<'_>, fold_keys: bool, out: &mut Vec<u8>) -> Result<(), Fault> {
    match json.kind()? {
        Kind::Object => write_object(json, fold_keys, out),
        Kind::Array => write_array(json, fold_keys, out),
        _ => {
            out.extend_from_slice(json.skip()?.as_bytes());
            Ok(())
        }
    }
}

fn write_object(json: &mut Cursor<'_>, fold_keys: bool, out: &mut Vec<u8>) -> Result<(), Fault> {
    json.enter()?;
    out.push(b'{');
    let mut keys = DataKeys::new(fold_keys);
    while let Some(key) = json.next_key()? {
        let Some(key) = keys.first(key) else {
            json.skip()?;
            continue;
        };
        if keys.count() > 1 {
            out.push(b',');
        }
        serde_json::to_writer(&mut *out, &key).expect("a string has JSON, and a vector takes every byte");
        out.push(b':');
        write(json, fold_keys, out)?;
    }
    out.push(b'}');
    Ok(())
}

fn write_array(json: &mut Cursor<'_>, fold_keys: bool, out: &mut Vec<u8>) -> Result<(), Fault> {
    json.enter()?;
    out.push(b'[');
    let mut first = true;
    while json.next_element()? {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        write(json, fold_keys, out)?;
    }
    out.push(b']');
    Ok(())
}

/// The keys of one object that are data.
pub(crate) struct DataKeys<'a> {
    seen: BTreeSet<Cow<'a, str>>,
    fold: bool,
}

impl<'a> DataKeys<'a> {
    pub(crate) fn new(fold: bool) -> Self {
        Self { seen: BTreeSet::new(), fold }
    }

    /// The key, in lower case where that is asked for, if none before it was the same.
    pub(crate) fn first(&mut self, key: Cow<'a, str>) -> Option<Cow<'a, str>> {
        let changes = self.fold && key.bytes().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii());
        let key = if changes { Cow::Owned(fold(&key)) } else { key };
        self.seen.insert(key.clone()).then_some(key)
    }

    fn count(&self) -> usize {
        self.seen.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> String {
        written_as(text, true)
    }

    fn written_as(text: &str, fold_keys: bool) -> String {
        let mut out = Vec::new();
        write(&mut Cursor::new(text), fold_keys, &mut out).expect("written");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn keys_are_folded_and_values_kept() {
        let text = r#" { "Aß" : [ 1.10 , "X y\u00E9" ], "aSS":1, "b" : { "C":null, "c" : { "d":[1,2] } , "\u00C9\"":true },"B":2 } "#;
        let kept = r#"{"aß":[1.10,"X y\u00E9"],"ass":1,"b":{"c":null,"é\"":true}}"#;
        assert_eq!(written(text), kept);
        assert_eq!(written_as(r#"{"A":{"B":1,"b":2,"B":3}}"#, false), r#"{"A":{"B":1,"b":2}}"#);
        assert_eq!(written("[ ]"), "[]");
        assert_eq!(written("[{ } , -1e5]"), "[{},-1e5]");
    }
}
