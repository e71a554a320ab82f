//! Functions of strings, and the formats.

use std::fmt::Write;

use super::json;
use super::run::{Outcome, Run, raise, raise_plain};
use super::value::Value;

/// The string from one character to another.
pub(super) fn part(text: &str, from: usize, to: usize) -> &str {
    let byte = |chars: usize| text.char_indices().nth(chars).map_or(text.len(), |(byte, _)| byte);
    if from >= to { "" } else { &text[byte(from)..byte(to)] }
}

/// The string that a function is given, or the error that jq has for it.
pub(super) fn string<'a>(value: &'a Value, what: &str) -> Outcome<&'a str> {
    match value {
        Value::Str(text) => Ok(text),
        _ => raise_plain(what),
    }
}

/// `split/1`
pub(super) fn split(run: &Run<'_>, text: &str, separator: &str) -> Outcome<Value> {
    run.steps(text.len() as u64 / 16)?;
    let mut items = Vec::new();
    let mut push = |piece: &str| {
        run.memory(size_of::<Value>())?;
        items.push(run.string(piece)?);
        Ok(())
    };
    if text.is_empty() {
    } else if separator.is_empty() {
        text.chars().try_for_each(|char| push(char.encode_utf8(&mut [0; 4])))?;
    } else {
        text.split(separator).try_for_each(&mut push)?;
    }
    run.array(items)
}

/// `join/1`
pub(super) fn join(run: &Run<'_>, items: &[Value], separator: &str) -> Outcome<Value> {
    let mut out = String::new();
    for (index, item) in items.iter().enumerate() {
        let begin = out.len();
        if index > 0 {
            out.push_str(separator);
        }
        match item {
            Value::Null => {}
            Value::Str(text) => {
                run.memory(text.len())?;
                out.push_str(text);
            }
            Value::Bool(_) | Value::Num(_) | Value::Big(_) => json::write(run, item, &mut out, 1 << 20)?,
            other => {
                let text = format!("{} and {} cannot be added", Value::text(&out).shown(), other.shown());
                return raise(text, format!("string and {} cannot be added", other.kind()));
            }
        }
        run.memory(out.len() - begin + 1)?;
    }
    run.string(out)
}

/// `implode`
pub(super) fn implode(run: &Run<'_>, value: &Value) -> Outcome<Value> {
    let Value::Arr(points) = value else { return raise_plain("implode input must be an array") };
    run.memory(points.items().len() * 4)?;
    let mut text = String::new();
    for point in points.items() {
        let Some(point) = point.number() else { return raise_plain("Unicode codepoint must be numeric") };
        text.push(char::from_u32(point.clamp(0.0, f64::from(u32::MAX)) as u32).unwrap_or('\u{fffd}'));
    }
    run.string(text)
}

/// `tostring` of a value, escaped byte by byte where `escape` says how.
fn escaped(run: &Run<'_>, value: Value, escape: fn(char, &mut String) -> bool) -> Outcome<Value> {
    let text = json::text(run, &value)?;
    let Value::Str(text) = text else { return Ok(Value::Null) };
    run.memory(text.len() * 2)?;
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if !escape(char, &mut out) {
            out.push(char);
        }
    }
    run.string(out)
}

/// `@html`
pub(super) fn html(run: &Run<'_>, value: Value, _: &[Value]) -> Outcome<Value> {
    escaped(run, value, |char, out| {
        out.push_str(match char {
            '<' => "&lt;",
            '>' => "&gt;",
            '&' => "&amp;",
            '\'' => "&apos;",
            '"' => "&quot;",
            _ => return false,
        });
        true
    })
}

/// `@uri`: all but what RFC 3986 calls unreserved.
pub(super) fn uri(run: &Run<'_>, value: Value, _: &[Value]) -> Outcome<Value> {
    escaped(run, value, |char, out| {
        if char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.' | '~' | '*' | '!' | '\'' | '(' | ')') {
            // The five marks that RFC 2396 let through stay as jq 1.6 has them.
            return false;
        }
        for byte in char.encode_utf8(&mut [0; 4]).bytes() {
            let _ = write!(out, "%{byte:02X}");
        }
        true
    })
}

/// `@csv`, `@tsv`: one row.
fn row(run: &Run<'_>, value: &Value, name: &str, separator: &str, cell: fn(&str, &mut String)) -> Outcome<Value> {
    let Value::Arr(cells) = value else {
        let what = format!("cannot be {name}-formatted, only array");
        return raise(format!("{} {what}", value.shown()), format!("{} {what}", value.kind()));
    };
    let mut out = String::new();
    for (index, value) in cells.items().iter().enumerate() {
        if index > 0 {
            out.push_str(separator);
        }
        match value {
            Value::Null => {}
            Value::Str(text) => {
                run.memory(text.len() * 2)?;
                cell(text, &mut out);
            }
            Value::Bool(_) | Value::Num(_) | Value::Big(_) => json::write(run, value, &mut out, 1 << 20)?,
            other => {
                let what = format!("is not valid in a {name} row");
                return raise(format!("{} {what}", other.shown()), format!("{} {what}", other.kind()));
            }
        }
    }
    run.string(out)
}

/// `@csv`
pub(super) fn csv(run: &Run<'_>, value: Value, _: &[Value]) -> Outcome<Value> {
    row(run, &value, "csv", ",", |text, out| {
        out.push('"');
        out.push_str(&text.replace('"', "\"\""));
        out.push('"');
    })
}

/// `@tsv`
pub(super) fn tsv(run: &Run<'_>, value: Value, _: &[Value]) -> Outcome<Value> {
    row(run, &value, "tsv", "\t", |text, out| {
        for char in text.chars() {
            match char {
                '\t' => out.push_str("\\t"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\\' => out.push_str("\\\\"),
                char => out.push(char),
            }
        }
    })
}

/// `@sh`
pub(super) fn sh(run: &Run<'_>, value: Value, _: &[Value]) -> Outcome<Value> {
    let one = [value.clone()];
    let items = if let Value::Arr(items) = &value { items.items() } else { &one };
    let mut out = String::new();
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(' ');
        }
        match item {
            Value::Str(text) => {
                run.memory(text.len() * 4)?;
                let _ = write!(out, "'{}'", text.replace('\'', "'\\''"));
            }
            Value::Arr(_) | Value::Obj(_) => {
                let what = "can not be escaped for shell";
                return raise(format!("{} {what}", item.shown()), format!("{} {what}", item.kind()));
            }
            other => json::write(run, other, &mut out, 1 << 20)?,
        }
    }
    run.string(out)
}

/// `@base64`
pub(super) fn base64(run: &Run<'_>, value: Value, _: &[Value]) -> Outcome<Value> {
    let Value::Str(text) = json::text(run, &value)? else { return Ok(Value::Null) };
    run.memory(text.len() * 2)?;
    run.string(base64_simd::STANDARD.encode_to_string(text.as_bytes()))
}

/// `@base64d`: with or without its padding; bytes that are no UTF-8 become U+FFFD.
pub(super) fn base64d(run: &Run<'_>, value: Value, _: &[Value]) -> Outcome<Value> {
    let text = json::text(run, &value)?;
    let Value::Str(encoded) = &text else { return Ok(Value::Null) };
    run.memory(encoded.len())?;
    let trimmed = encoded.trim_end_matches('=');
    match base64_simd::STANDARD_NO_PAD.decode_to_vec(trimmed.as_bytes()) {
        Ok(bytes) => run.string(String::from_utf8_lossy(&bytes)),
        Err(_) => {
            let what = "is not valid base64 data";
            raise(format!("{} {what}", text.shown()), format!("the string {what}"))
        }
    }
}
