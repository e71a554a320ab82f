//! A record's bytes -> a walk over its JSON documents.
//!
//! A [`Cursor`] reads JSON (RFC 8259) as it goes: what it has passed over was good, so that a document is read once. It
//! gives what a visitor of serde_json does not: the text of a number (a double that `f64` parsing rounds rightly, a
//! decimal without loss, `1.10` in a string column) and of a whole value (an object in a string column).
//! [`documents`] is the second opinion: it takes the same texts, is slower, and says where a bad one breaks.
//!
//! A record may hold several documents, with or without white space between them, as Firehose allows.
//! Never panics, whatever the bytes: on text that is not JSON the walk ends in an error.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::fault::Fault;
use crate::json_scan;

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

/// A key of an object.
#[derive(Debug)]
pub(crate) struct Key<'a> {
    /// The name, with its escapes resolved.
    pub(crate) name: Cow<'a, str>,
    /// How it stands in the text, from behind the comma or the bracket before it to its colon; empty where another one
    /// would not be written like it.
    pub(crate) written: &'a str,
}

/// A place in the text of a record.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    /// Whether an object or array was just entered: what comes next has no comma before it.
    entered: bool,
}

impl<'a> Cursor<'a> {
    /// At the start of a text.
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0, entered: false }
    }

    /// Whether anything but white space follows.
    pub(crate) fn has_more(&mut self) -> bool {
        self.peek();
        self.at < self.text.len()
    }

    /// The kind of the next value.
    #[inline]
    pub(crate) fn kind(&mut self) -> Result<Kind, Fault> {
        match self.peek() {
            b'"' => Ok(Kind::String),
            b'-' | b'0'..=b'9' => Ok(Kind::Number),
            b'{' => Ok(Kind::Object),
            b'[' => Ok(Kind::Array),
            b't' | b'f' => Ok(Kind::Boolean),
            b'n' => Ok(Kind::Null),
            _ => Err(broken()),
        }
    }

    /// Goes into the next value, an object or an array.
    #[inline]
    pub(crate) fn enter(&mut self) -> Result<(), Fault> {
        if !matches!(self.peek(), b'{' | b'[') {
            return Err(broken());
        }
        self.at += 1;
        self.depth += 1;
        self.entered = true;
        if self.depth > DEPTH_MAX { Err(Fault::Deep) } else { Ok(()) }
    }

    /// Passes over the next key of the object that was entered if it is written like this, to the byte. The cheap way
    /// where records name their keys in one order: no key is looked up.
    #[inline]
    pub(crate) fn pass_key(&mut self, written: &str) -> bool {
        let bytes = self.text.as_bytes();
        let start = self.at + usize::from(!self.entered);
        let there = bytes.get(start..).is_some_and(|rest| rest.starts_with(written.as_bytes()));
        if !there || written.is_empty() || (!self.entered && bytes[self.at] != b',') {
            return false;
        }
        self.at = start + written.len();
        self.entered = false;
        true
    }

    /// The next key of the object that was entered; `None` after the last, behind which the cursor then stands.
    pub(crate) fn next_key(&mut self) -> Result<Option<Cow<'a, str>>, Fault> {
        Ok(self.next_written_key()?.map(|key| key.name))
    }

    /// The same, with how the key is written.
    pub(crate) fn next_written_key(&mut self) -> Result<Option<Key<'a>>, Fault> {
        let entered = self.entered;
        let before = self.at;
        let Some((key, escaped)) = self.quoted_key()? else { return Ok(None) };
        let name = unescaped(key, escaped)?;
        if name.len() > KEY_BYTES_MAX {
            return Err(Fault::LongKey);
        }
        // White space before the comma is left out: no two fields have it alike.
        let between = &self.text[before..self.at];
        let written = if entered { between } else { between.strip_prefix(',').unwrap_or("") };
        Ok(Some(Key { name, written }))
    }

    /// The next key with its quotes, and whether it has escapes. The cursor is behind its colon.
    fn quoted_key(&mut self) -> Result<Option<(&'a str, bool)>, Fault> {
        if !self.next_in(b'}')? {
            return Ok(None);
        }
        let key = self.quoted()?;
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

    /// Whether another value or key follows in what was entered, at which the cursor then stands.
    fn next_in(&mut self, close: u8) -> Result<bool, Fault> {
        let next = self.peek();
        let entered = std::mem::take(&mut self.entered);
        if next == close {
            self.at += 1;
            self.depth = self.depth.saturating_sub(1);
            return Ok(false);
        }
        match (entered, next) {
            (true, _) => Ok(true),
            (false, b',') => {
                self.at += 1;
                // No value and no key begins with a bracket that closes, so a comma before it ends in an error.
                self.peek();
                Ok(true)
            }
            (false, _) => Err(broken()),
        }
    }

    /// The next value, a string, with its escapes resolved.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>, Fault> {
        self.peek();
        let (quoted, escaped) = self.quoted()?;
        unescaped(quoted, escaped)
    }

    /// The next value, if it is a string without escapes. If not, nothing was read.
    #[inline]
    pub(crate) fn plain_string(&mut self) -> Option<&'a str> {
        self.peek();
        let end = json_scan::plain(self.text.as_bytes(), self.at)?;
        let text = self.text.get(self.at + 1..end - 1)?;
        self.at = end;
        Some(text)
    }

    /// The next value, if it is a whole number of up to 18 digits that is written without point and exponent, and in
    /// range. If not, nothing was read.
    #[inline]
    pub(crate) fn short_integer<T: TryFrom<i64>>(&mut self) -> Option<T> {
        self.peek();
        let (number, length) = json_scan::short_integer(self.text.as_bytes().get(self.at..)?)?;
        let number = T::try_from(number).ok()?;
        self.at += length;
        Some(number)
    }

    /// The text of the next value, a number, `true`, `false` or `null`.
    pub(crate) fn word(&mut self) -> Result<&'a str, Fault> {
        self.peek();
        let rest = &self.text[self.at..];
        let length = match rest.as_bytes() {
            [b't', b'r', b'u', b'e', ..] | [b'n', b'u', b'l', b'l', ..] => 4,
            [b'f', b'a', b'l', b's', b'e', ..] => 5,
            bytes => json_scan::number(bytes).ok_or_else(broken)?,
        };
        self.at += length;
        Ok(&rest[..length])
    }

    /// Passes over the next value, whatever it is; its text.
    pub(crate) fn skip(&mut self) -> Result<&'a str, Fault> {
        let kind = self.kind()?;
        let start = self.at;
        match kind {
            Kind::String => drop(self.quoted()?),
            Kind::Number | Kind::Boolean | Kind::Null => drop(self.word()?),
            // Recursion ends with the limit on depth.
            Kind::Object => {
                self.enter()?;
                while self.quoted_key()?.is_some() {
                    self.skip()?;
                }
            }
            Kind::Array => {
                self.enter()?;
                while self.next_element()? {
                    self.skip()?;
                }
            }
        }
        Ok(&self.text[start..self.at])
    }

    /// The string at the cursor with its quotes, and whether it has escapes.
    #[inline]
    fn quoted(&mut self) -> Result<(&'a str, bool), Fault> {
        let start = self.at;
        let (end, escaped) = json_scan::quoted(self.text.as_bytes(), start).ok_or_else(broken)?;
        self.at = end;
        Ok((&self.text[start..end], escaped))
    }

    /// The byte at the cursor; 0 at the end.
    #[inline]
    fn byte(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    /// The next byte that is no white space; 0 at the end.
    #[inline]
    fn peek(&mut self) -> u8 {
        loop {
            match self.byte() {
                b' ' | b'\n' | b'\r' | b'\t' => self.at += 1,
                byte => return byte,
            }
        }
    }
}

/// The text of a string that stands in quotes.
#[inline]
fn unescaped(quoted: &str, escaped: bool) -> Result<Cow<'_, str>, Fault> {
    if escaped {
        // A lone surrogate is no text.
        let text: String = serde_json::from_str(quoted).map_err(|error| Fault::Broken(error.to_string()))?;
        Ok(Cow::Owned(text))
    } else {
        Ok(Cow::Borrowed(&quoted[1..quoted.len() - 1]))
    }
}

/// The text is not JSON. Whoever wants to know where asks [`documents`].
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
    fn a_key_that_is_written_alike_is_passed_over() {
        let mut json = Cursor::new(r#"{ "a" :1 , "b":2, "c":3,"d":4}"#);
        json.enter().expect("enter");
        let written = |json: &mut Cursor<'_>| json.next_written_key().expect("JSON").expect("a key").written.to_owned();
        assert_eq!(written(&mut json), r#" "a" :"#);
        json.skip().expect("1");
        assert!(!json.pass_key(r#" "b":"#), "the comma is not where it was");
        assert_eq!(written(&mut json), "");
        json.skip().expect("2");
        assert!(!json.pass_key(""));
        assert!(!json.pass_key(r#" "d":"#));
        assert!(json.pass_key(r#" "c":"#));
        assert_eq!(json.short_integer(), Some(3i64));
        assert_eq!(written(&mut json), r#""d":"#);
        json.skip().expect("4");
        assert!(!json.pass_key(r#""d":"#));
        assert_eq!(json.next_key().expect("end"), None);
        assert!(!json.has_more());
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

    /// The length of the text of the first value, told by each of the two.
    fn lengths(text: &str) -> (Option<usize>, Option<usize>) {
        let mut theirs = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
        let theirs = theirs.next().and_then(|value| Some(value.ok()?.get().len()));
        (Cursor::new(text).skip().ok().map(str::len), theirs)
    }

    #[test]
    fn what_is_passed_over_is_what_serde_json_takes() {
        for text in [
            "{}",
            "[]",
            "{ }",
            "[ ]",
            "[,]",
            "{,}",
            "[1,]",
            "{\"a\":1,}",
            "[1 2]",
            "{\"a\":1 \"b\":2}",
            "[1}",
            "{\"a\":1]",
            "{\"a\"}",
            "{\"a\",1}",
            "{1:2}",
            "[[],[]]",
            "[[][]]",
            "{\"a\":}",
            "{\"a\"::1}",
            "[tru]",
            "[truex]",
            "[null]",
            "[01]",
            "[-]",
            "[1.]",
            "[.1]",
            "[1e+]",
            "[\"\t\"]",
            "[\"\\u12g4\"]",
            "[\"\\ud800\"]",
            "[1,,2]",
            "{\"a\":1,,}",
            "[",
            "{",
            "[1",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1",
            "[1,",
            "\u{feff}[]",
            "[\u{a0}]",
            "[\u{c}]",
        ] {
            let (ours, theirs) = lengths(text);
            assert_eq!(ours, theirs, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_passed_over_as_serde_json_does(
            text in "[\\[{]([\\[\\]{}:,]|\"[a\\\\\"\n]{0,2}\"|\"a\":|-?[0-9.e]{1,3}|true|null|[ tx]){0,12}",
        ) {
            let (ours, theirs) = lengths(&text);
            prop_assert_eq!(ours, theirs, "{}", text);
        }

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
