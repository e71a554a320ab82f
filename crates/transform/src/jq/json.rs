//! JSON to values and back: strict in what is read, and written as jq 1.6 writes it.
//!
//! Reading is one pass over the bytes; nothing that the standard of JSON forbids is let through, but a lone surrogate in an
//! escape becomes U+FFFD, as it does where UTF-8 is damaged in jq. Never here: what a program does.

use std::fmt::Write;

use super::run::{Outcome, Over, Run, Stop};
use super::value::{Map, Value};

/// Why bytes are no JSON.
#[derive(Debug)]
pub(super) enum Unread {
    /// What was wrong, and at which byte.
    Syntax(&'static str, usize),
    /// It would take too much.
    Stop(Stop),
}

impl From<Stop> for Unread {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

/// Reads documents one after the other.
pub(super) struct Reader<'a> {
    run: &'a Run<'a>,
    text: &'a str,
    at: usize,
    nesting: u32,
}

impl<'a> Reader<'a> {
    /// Of a record's bytes.
    pub fn new(run: &'a Run<'a>, bytes: &'a [u8]) -> Result<Self, Unread> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Self { run, text, at: 0, nesting: 0 }),
            Err(error) => Err(Unread::Syntax("no UTF-8", error.valid_up_to())),
        }
    }

    /// The next document; `None` at the end.
    pub fn next(&mut self) -> Result<Option<Value>, Unread> {
        self.space();
        if self.at == self.text.len() { Ok(None) } else { self.value().map(Some) }
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.byte(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn wrong<T>(&self, what: &'static str) -> Result<T, Unread> {
        Err(Unread::Syntax(what, self.at))
    }

    fn value(&mut self) -> Result<Value, Unread> {
        match self.byte() {
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            Some(b'"') => {
                let text = self.string()?;
                Ok(self.run.string(text)?)
            }
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            Some(_) => self.wrong("no value begins so"),
            None => self.wrong("it ends too early"),
        }
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, Unread> {
        if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(value);
        }
        self.wrong("no such word")
    }

    fn open(&mut self) -> Result<(), Unread> {
        self.at += 1;
        self.nesting += 1;
        Ok(self.run.nests(self.nesting)?)
    }

    fn array(&mut self) -> Result<Value, Unread> {
        self.open()?;
        let mut items = Vec::new();
        self.space();
        if self.byte() != Some(b']') {
            loop {
                self.space();
                items.push(self.value()?);
                if !self.more(b']')? {
                    break;
                }
            }
        }
        self.close();
        Ok(self.run.array(items)?)
    }

    fn object(&mut self) -> Result<Value, Unread> {
        self.open()?;
        let mut map = Map::default();
        self.space();
        if self.byte() != Some(b'}') {
            loop {
                self.space();
                if self.byte() != Some(b'"') {
                    return self.wrong("a key must be a string");
                }
                let key = self.string()?.into();
                self.space();
                if self.byte() != Some(b':') {
                    return self.wrong("a colon is missing");
                }
                self.at += 1;
                self.space();
                // Of a key that comes twice the last value counts, at the first one's place.
                map.insert(key, self.value()?);
                if !self.more(b'}')? {
                    break;
                }
            }
        }
        self.close();
        Ok(self.run.object(map)?)
    }

    fn close(&mut self) {
        self.at += 1;
        self.nesting -= 1;
    }

    /// Whether another follows, or the end.
    fn more(&mut self, end: u8) -> Result<bool, Unread> {
        self.space();
        match self.byte() {
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(byte) if byte == end => Ok(false),
            Some(_) => self.wrong("a comma is missing"),
            None => self.wrong("it ends too early"),
        }
    }

    fn string(&mut self) -> Result<std::borrow::Cow<'a, str>, Unread> {
        self.at += 1;
        let begin = self.at;
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(self.text[begin..self.at - 1].into());
                }
                Some(b'\\') => return self.escaped(begin).map(Into::into),
                Some(0..=0x1f) => return self.wrong("a control character in a string"),
                Some(_) => self.at += 1,
                None => return self.wrong("it ends too early"),
            }
        }
    }

    /// The rest of a string that has escapes.
    fn escaped(&mut self, begin: usize) -> Result<String, Unread> {
        let bytes = self.text.as_bytes();
        let mut out = String::from(&self.text[begin..self.at]);
        loop {
            let plain = self.at;
            while !matches!(bytes.get(self.at), None | Some(b'"' | b'\\' | 0..=0x1f)) {
                self.at += 1;
            }
            out.push_str(&self.text[plain..self.at]);
            match bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                Some(_) => return self.wrong("a control character in a string"),
                None => return self.wrong("it ends too early"),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Unread> {
        let Some(byte) = self.text.as_bytes().get(self.at + 1) else { return self.wrong("it ends too early") };
        let char = match byte {
            b'"' | b'\\' | b'/' => char::from(*byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => return self.wrong("no such escape"),
        };
        self.at += 2;
        Ok(char)
    }

    fn unicode(&mut self) -> Result<char, Unread> {
        let first = self.hex(self.at)?;
        self.at += 6;
        if (0xd800..0xdc00).contains(&first)
            && self.text.as_bytes()[self.at..].starts_with(b"\\u")
            && let Ok(second @ 0xdc00..0xe000) = self.hex(self.at)
        {
            self.at += 6;
            return Ok(char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)).unwrap_or('\u{fffd}'));
        }
        Ok(char::from_u32(first).unwrap_or('\u{fffd}'))
    }

    /// The four digits of the escape at a byte.
    fn hex(&self, at: usize) -> Result<u32, Unread> {
        let digits = self.text.as_bytes().get(at + 2..at + 6).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit())) {
            Some(digits) => Ok(u32::from_str_radix(digits, 16).unwrap_or_default()),
            None => self.wrong("four hexadecimal digits are missing"),
        }
    }

    fn number(&mut self) -> Result<Value, Unread> {
        let begin = self.at;
        self.at += usize::from(self.byte() == Some(b'-'));
        match self.byte() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return self.wrong("a digit is missing"),
        }
        if matches!(self.byte(), Some(b'0'..=b'9')) {
            return self.wrong("a number begins with 0");
        }
        let mut integer = true;
        if self.byte() == Some(b'.') {
            integer = false;
            self.at += 1;
            self.some_digits()?;
        }
        if matches!(self.byte(), Some(b'e' | b'E')) {
            integer = false;
            self.at += 1;
            self.at += usize::from(matches!(self.byte(), Some(b'+' | b'-')));
            self.some_digits()?;
        }
        let text = &self.text[begin..self.at];
        self.run.memory(text.len().saturating_sub(20))?;
        Ok(number(text, integer))
    }

    fn digits(&mut self) {
        while matches!(self.byte(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    fn some_digits(&mut self) -> Result<(), Unread> {
        if !matches!(self.byte(), Some(b'0'..=b'9')) {
            return self.wrong("a digit is missing");
        }
        self.digits();
        Ok(())
    }
}

/// A number of its text. What no double reaches is the greatest one; an integer that a double would change keeps its digits.
fn number(text: &str, integer: bool) -> Value {
    let number: f64 = text.parse().unwrap_or(f64::NAN);
    if integer && number.abs() >= 9_007_199_254_740_992.0 && format!("{number}") != text {
        return Value::Big(text.into());
    }
    Value::Num(number.clamp(f64::MIN, f64::MAX))
}

/// A number of a program.
pub(super) fn literal(text: &str) -> Value {
    number(text, text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The number of a string, for `tonumber`: leading zeros, a sign and a missing digit at either end are let through, as in
/// jq 1.6.
pub(super) fn loose_number(run: &Run<'_>, text: &str) -> Outcome<Option<Value>> {
    run.steps(text.len() as u64 / 8)?;
    let text = text.trim_matches([' ', '\t', '\n', '\r']);
    let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    if !digits || text.parse::<f64>().is_err() {
        return Ok(None);
    }
    run.memory(text.len())?;
    let plain = text.strip_prefix('-').unwrap_or(text);
    let integer = plain.bytes().all(|byte| byte.is_ascii_digit()) && !plain.starts_with('0');
    Ok(Some(number(text, integer)))
}

/// The only document of a text, for `fromjson` and `tonumber`.
pub(super) fn only(run: &Run<'_>, text: &str) -> Outcome<Result<Value, &'static str>> {
    let read = || {
        let mut reader = Reader::new(run, text.as_bytes())?;
        let Some(value) = reader.next()? else { return Err(Unread::Syntax("Expected JSON value", 0)) };
        reader.space();
        if reader.at < text.len() {
            return Err(Unread::Syntax("Unexpected extra JSON values", 0));
        }
        Ok(value)
    };
    match read() {
        Ok(value) => Ok(Ok(value)),
        Err(Unread::Syntax(what, _)) => Ok(Err(what)),
        Err(Unread::Stop(stop)) => Err(stop),
    }
}

/// Writes a value without spaces. The bytes are paid for as output of `run`, at most `bytes_max` of them.
pub(super) fn write(run: &Run<'_>, value: &Value, out: &mut String, bytes_max: u64) -> Outcome<()> {
    // Each step of a walk is 64 bytes of a string, or an item: more than the limit can be seen before it is written.
    run.walk(value)?;
    if value.steps() > bytes_max.saturating_add(2) {
        return Err(Stop::Over(Over::OutputBytes));
    }
    let begin = out.len();
    if !put(value, out, usize::try_from(bytes_max).unwrap_or(usize::MAX).saturating_add(begin)) {
        return Err(Stop::Over(Over::OutputBytes));
    }
    run.memory(out.len() - begin)
}

/// The value's text, for `tojson` and `tostring`.
pub(super) fn text(run: &Run<'_>, value: &Value) -> Outcome<Value> {
    if let Value::Str(_) = value {
        return Ok(value.clone());
    }
    tojson(run, value)
}

/// `tostring`, as the format of a string without one.
pub(super) fn text_of(run: &Run<'_>, value: Value, _: &[Value]) -> Outcome<Value> {
    text(run, &value)
}

/// `tojson`.
pub(super) fn tojson(run: &Run<'_>, value: &Value) -> Outcome<Value> {
    let mut out = String::new();
    write(run, value, &mut out, run.limits().memory)?;
    run.string(out)
}

/// The first bytes of the value's text, for an error.
pub(super) fn beginning(value: &Value, bytes: usize) -> String {
    let mut out = String::new();
    put(value, &mut out, bytes);
    out
}

/// Writes until `end` bytes are passed; whether all of it was written.
fn put(value: &Value, out: &mut String, end: usize) -> bool {
    if out.len() > end {
        return false;
    }
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Num(number) => put_number(*number, out),
        Value::Big(digits) => out.push_str(digits),
        Value::Str(text) => put_string(text, out),
        Value::Arr(array) => {
            let mut separator = '[';
            for item in array.items() {
                out.push(separator);
                separator = ',';
                if !put(item, out, end) {
                    return false;
                }
            }
            out.push_str(if separator == '[' { "[]" } else { "]" });
        }
        Value::Obj(object) => {
            let mut separator = '{';
            for (key, value) in object.map() {
                out.push(separator);
                separator = ',';
                put_string(key, out);
                out.push(':');
                if !put(value, out, end) {
                    return false;
                }
            }
            out.push_str(if separator == '{' { "{}" } else { "}" });
        }
    }
    out.len() <= end
}

fn put_string(text: &str, out: &mut String) {
    out.push('"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && !matches!(byte, b'"' | b'\\' | 0x7f) {
            continue;
        }
        out.push_str(&text[plain..at]);
        plain = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x8 => out.push_str("\\b"),
            0xc => out.push_str("\\f"),
            byte => {
                let _ = write!(out, "\\u{byte:04x}");
            }
        }
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

/// A number as jq 1.6 prints it: the shortest digits that read back as the same double, with an exponent below 1e-5 and
/// where more than 15 zeros would follow the digits. What no JSON can hold is null, or the greatest double.
fn put_number(number: f64, out: &mut String) {
    if number.is_nan() {
        out.push_str("null");
        return;
    }
    let number = number.clamp(f64::MIN, f64::MAX);
    if number.fract() == 0.0 && number.abs() < 1e15 {
        if number == 0.0 && number.is_sign_negative() {
            out.push('-');
        }
        // It cannot lose anything: it is an integer below 2^53.
        let _ = write!(out, "{}", number as i64);
        return;
    }
    let shortest = format!("{:e}", number.abs());
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let digits = mantissa.replace('.', "");
    let point = exponent.parse::<i32>().unwrap_or_default() + 1;
    let count = digits.len() as i32;
    if number < 0.0 {
        out.push('-');
    }
    if point <= -4 || point > count + 15 {
        out.push_str(&digits[..1]);
        if count > 1 {
            let _ = write!(out, ".{}", &digits[1..]);
        }
        let exponent = point - 1;
        let _ = write!(out, "e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
    } else if point <= 0 {
        let _ = write!(out, "0.{}{digits}", "0".repeat(point.unsigned_abs() as usize));
    } else if point >= count {
        let _ = write!(out, "{digits}{}", "0".repeat((point - count) as usize));
    } else {
        let (whole, part) = digits.split_at(point as usize);
        let _ = write!(out, "{whole}.{part}");
    }
}
