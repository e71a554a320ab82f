//! A JSON value in a string column -> its text: no white space between tokens, object keys in lower case, of keys that
//! then are equal the first. Numbers and strings stay as they were written.
//!
//! Lower case at every depth is what Firehose's OpenX deserializer does while it ignores case (its default).

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::fault::Fault;
use crate::json::{Cursor, Kind};
use crate::schema::fold;

/// Appends the text of the next value. Recursion ends with the cursor's limit on depth.
pub(crate) fn write(json: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    match json.kind()? {
        Kind::Object => write_object(json, out),
        Kind::Array => write_array(json, out),
        _ => {
            out.extend_from_slice(json.skip()?.as_bytes());
            Ok(())
        }
    }
}

fn write_object(json: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    json.enter()?;
    out.push(b'{');
    let mut keys = Keys::default();
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
        write(json, out)?;
    }
    out.push(b'}');
    Ok(())
}

fn write_array(json: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    json.enter()?;
    out.push(b'[');
    let mut first = true;
    while json.next_element()? {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        write(json, out)?;
    }
    out.push(b']');
    Ok(())
}

/// The keys of one object, without regard to case.
#[derive(Default)]
pub(crate) struct Keys<'a>(BTreeSet<Cow<'a, str>>);

impl<'a> Keys<'a> {
    /// The key in lower case, if none before it was the same.
    pub(crate) fn first(&mut self, key: Cow<'a, str>) -> Option<Cow<'a, str>> {
        let folded = key.bytes().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii());
        let key = if folded { Cow::Owned(fold(&key)) } else { key };
        self.0.insert(key.clone()).then_some(key)
    }

    fn count(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> String {
        let mut out = Vec::new();
        write(&mut Cursor::new(text), &mut out).expect("written");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn keys_are_folded_and_values_kept() {
        let text = r#" { "Aß" : [ 1.10 , "X y\u00E9" ], "aSS":1, "b" : { "C":null, "c" : { "d":[1,2] } , "\u00C9\"":true },"B":2 } "#;
        let kept = r#"{"aß":[1.10,"X y\u00E9"],"ass":1,"b":{"c":null,"é\"":true}}"#;
        assert_eq!(written(text), kept);
        assert_eq!(written("[ ]"), "[]");
        assert_eq!(written("[{ } , -1e5]"), "[{},-1e5]");
    }
}
