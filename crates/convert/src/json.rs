//! A record's bytes -> JSON documents -> a walk over each.
//!
//! serde_json says what is JSON ([`documents`] lets it read every byte, without building a value); a [`Cursor`] then
//! walks the text that was found good. Two passes, because the walk needs what a visitor does not give: the text of a
//! number (a double that `f64` parsing rounds rightly, a decimal without loss, `1.10` in a string column) and of a
//! whole value (an object in a string column).
//!
//! A record may hold several documents, with or without white space between them, as Firehose allows.
//! Never panics, whatever the bytes: on text that is not JSON the walk ends in an error.

use std::borrow::Cow;

use memchr::memchr2;
use serde_json::value::RawValue;

use crate::fault::Fault;

/// Levels of arrays and objects that a document may have: what serde_json's own recursion limit of 128 accepts.
pub(crate) const DEPTH_MAX: usize = 127;

/// Bytes that a key may have, as Firehose says ("Length of json key must not be greater than 262144"): of an object that
/// is a column, a field or the document itself.
pub(crate) const KEY_BYTES_MAX: usize = 262_144;

/// The documents of a record, in order; at least one. The first bad byte fails them all.
pub(crate) fn documents(data: &[u8]) -> Result<impl Iterator<Item = Result<&str, Fault>>, Fault> {
    let text = std::str::from_utf8(data).map_err(|_| Fault::NotText)?;
    if text.trim_ascii().is_empty() {
        return Err(Fault::Empty);
    }
    let documents = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    Ok(documents.map(|document| document.map(RawValue::get).map_err(|error| Fault::Broken(error.to_string()))))
}

/// What a value is, by its first byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Object,
    Array,
    String,
    Number,
    Boolean,
    Null,
}

/// A place in the text of a document.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Cursor<'a> {
    /// At the start of a text that is JSON.
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// The kind of the next value.
    pub(crate) fn kind(&mut self) -> Result<Kind, Fault> {
        match self.peek() {
            b'{' => Ok(Kind::Object),
            b'[' => Ok(Kind::Array),
            b'"' => Ok(Kind::String),
            b'-' | b'0'..=b'9' => Ok(Kind::Number),
            b't' | b'f' => Ok(Kind::Boolean),
            b'n' => Ok(Kind::Null),
            _ => Err(broken()),
        }
    }

    /// Goes into the next value, an object or an array.
    pub(crate) fn enter(&mut self) -> Result<(), Fault> {
        if !matches!(self.peek(), b'{' | b'[') {
            return Err(broken());
        }
        self.at += 1;
        self.depth += 1;
        if self.depth > DEPTH_MAX { Err(Fault::Deep) } else { Ok(()) }
    }

    /// The next key of the object that was entered; `None` after the last, behind which the cursor then stands.
    pub(crate) fn next_key(&mut self) -> Result<Option<Cow<'a, str>>, Fault> {
        if !self.next_in(b'}')? {
            return Ok(None);
        }
        let key = self.string()?;
        if key.len() > KEY_BYTES_MAX {
            return Err(Fault::LongKey);
        }
        if self.peek() != b':' {
            return Err(broken());
        }
        self.at += 1;
        Ok(Some(key))
    }

    /// Whether the array that was entered has another element; if not, the cursor stands behind it.
    pub(crate) fn next_element(&mut self) -> Result<bool, Fault> {
        self.next_in(b']')
    }

    fn next_in(&mut self, close: u8) -> Result<bool, Fault> {
        match self.peek() {
            byte if byte == close => {
                self.at += 1;
                self.depth = self.depth.saturating_sub(1);
                return Ok(false);
            }
            b',' => self.at += 1,
            _ => (),
        }
        // The text was found good, so a value (or a key) follows; an end means that it was not.
        if self.peek() == 0 { Err(broken()) } else { Ok(true) }
    }

    /// The next value, a string, with its escapes resolved.
    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>, Fault> {
        self.peek();
        let (quoted, escaped) = self.quoted()?;
        if escaped {
            // A lone surrogate is no text: the first pass does not look at the code points of escapes.
            let text: String = serde_json::from_str(quoted).map_err(|error| Fault::Broken(error.to_string()))?;
            Ok(Cow::Owned(text))
        } else {
            Ok(Cow::Borrowed(&quoted[1..quoted.len() - 1]))
        }
    }

    /// The text of the next value, a number, `true`, `false` or `null`.
    pub(crate) fn word(&mut self) -> Result<&'a str, Fault> {
        self.peek();
        let rest = &self.text[self.at..];
        let end = rest.bytes().position(|byte| matches!(byte, b',' | b']' | b'}' | b' ' | b'\n' | b'\r' | b'\t'));
        let word = &rest[..end.unwrap_or(rest.len())];
        self.at += word.len();
        if word.is_empty() { Err(broken()) } else { Ok(word) }
    }

    /// Passes over the next value, whatever it is; its text.
    pub(crate) fn skip(&mut self) -> Result<&'a str, Fault> {
        let kind = self.kind()?;
        let start = self.at;
        match kind {
            Kind::String => drop(self.quoted()?),
            Kind::Number | Kind::Boolean | Kind::Null => drop(self.word()?),
            Kind::Object | Kind::Array => self.skip_nested()?,
        }
        Ok(&self.text[start..self.at])
    }

    fn skip_nested(&mut self) -> Result<(), Fault> {
        let outside = self.depth;
        loop {
            match self.byte() {
                b'{' | b'[' => self.enter()?,
                b'}' | b']' => {
                    self.at += 1;
                    self.depth -= 1;
                    if self.depth == outside {
                        return Ok(());
                    }
                }
                b'"' => drop(self.quoted()?),
                0 if self.at >= self.text.len() => return Err(broken()),
                _ => self.at += 1,
            }
        }
    }

    /// The string at the cursor with its quotes, and whether it has escapes.
    fn quoted(&mut self) -> Result<(&'a str, bool), Fault> {
        let bytes = self.text.as_bytes();
        if self.byte() != b'"' {
            return Err(broken());
        }
        let start = self.at;
        let mut at = start + 1;
        let mut escaped = false;
        loop {
            let found = bytes.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)).ok_or_else(broken)?;
            at += found;
            if bytes[at] == b'"' {
                self.at = at + 1;
                return Ok((&self.text[start..self.at], escaped));
            }
            escaped = true;
            at += 2;
        }
    }

    /// The byte at the cursor; 0 at the end.
    fn byte(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    /// The next byte that is no white space; 0 at the end.
    fn peek(&mut self) -> u8 {
        while matches!(self.byte(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
        self.byte()
    }
}

/// The text is not JSON after all. [`documents`] gives no such text.
fn broken() -> Fault {
    Fault::Broken("the document ends too early".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(data: &[u8]) -> Result<Vec<String>, Fault> {
        documents(data)?.map(|document| document.map(str::to_owned)).collect()
    }

    #[test]
    fn a_record_may_hold_several_documents() {
        assert_eq!(all(br#"{"a":1}{"a":2}"#).expect("two"), [r#"{"a":1}"#, r#"{"a":2}"#]);
        assert_eq!(all(b" {} \n[1]\n").expect("two"), ["{}", "[1]"]);
        assert!(matches!(all(b""), Err(Fault::Empty)));
        assert!(matches!(all(b" \r\n\t"), Err(Fault::Empty)));
        assert!(matches!(all(b"{\"a\":\"\xFF\"}"), Err(Fault::NotText)));
    }

    #[test]
    fn what_is_not_json_is_broken() {
        for bad in [
            "{",
            "{} x",
            "{},{}",
            "{\"a\":1,}",
            "{\"a\" 1}",
            "{'a':1}",
            "{\"a\":01}",
            "{\"a\":1-2}",
            "{\"a\":\"\n\"}",
            "{\"a\":\"\\x\"}",
            "nul",
            "{\"a\":NaN}",
            "\u{FEFF}{}",
        ] {
            assert!(matches!(all(bad.as_bytes()), Err(Fault::Broken(_))), "{bad}");
        }
    }

    #[test]
    fn the_walk_gives_texts_as_they_stand() {
        let mut json = Cursor::new(r#" { "a" : [ 1.10 , "x\"y\u00e9" , { } , [ ] ], "b\n":null, "c": {"d":["]"]} } "#);
        assert_eq!(json.kind().expect("kind"), Kind::Object);
        json.enter().expect("enter");
        assert_eq!(json.next_key().expect("key").as_deref(), Some("a"));
        json.enter().expect("enter");
        assert!(json.next_element().expect("element"));
        assert_eq!(json.word().expect("number"), "1.10");
        assert!(json.next_element().expect("element"));
        assert_eq!(json.string().expect("string"), "x\"yé");
        assert!(json.next_element().expect("element"));
        assert_eq!(json.skip().expect("object"), "{ }");
        assert!(json.next_element().expect("element"));
        assert_eq!(json.skip().expect("array"), "[ ]");
        assert!(!json.next_element().expect("end"));
        assert_eq!(json.next_key().expect("key").as_deref(), Some("b\n"));
        assert_eq!(json.word().expect("null"), "null");
        assert_eq!(json.next_key().expect("key").as_deref(), Some("c"));
        assert_eq!(json.skip().expect("object"), r#"{"d":["]"]}"#);
        assert_eq!(json.next_key().expect("end"), None);
    }

    #[test]
    fn depth_is_limited_where_serde_json_limits_it() {
        for depth in [DEPTH_MAX, DEPTH_MAX + 1, 100_000] {
            let text = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            let ours = Cursor::new(&text).skip();
            assert_eq!(ours.is_ok(), theirs.is_ok(), "{depth}");
            assert_eq!(ours.is_ok(), depth <= DEPTH_MAX);
        }
    }

    proptest! {
        #[test]
        fn the_walk_never_panics(text in "[\\[\\]{}:,\"\\\\ntfx 0-9.eé-]{0,30}|\\PC{0,30}") {
            let mut json = Cursor::new(&text);
            for _ in 0..40 {
                let failed = json.kind().is_err() || json.skip().is_err();
                if failed || (json.enter().is_ok() && json.next_key().is_err()) {
                    break;
                }
            }
        }
    }
}
