//! Implements, of the arrow `what the user wrote -> what it means`: the pattern inside `!{timestamp:...}`.
//!
//! The language is that of Java's `DateTimeFormatter` (`DateTimeFormatterBuilder.appendPattern`), because that is what
//! Firehose evaluates. This file only reads a pattern; the object keys are made from its parts elsewhere, in English
//! and UTC.
//! Never: formats an instant, reads a clock, or accepts a pattern that Java refuses.

use std::fmt;

use crate::limits;

/// One element of a pattern, in the order in which it is printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PatternPart {
    /// Text that is printed as it stands.
    Literal(String),
    /// A run of one pattern letter.
    Field(PatternField),
    /// `[...]`: printed only when every field in it is available, which for an instant they all are.
    Optional(Vec<PatternPart>),
}

/// A run of one pattern letter, such as `yyyy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PatternField {
    /// The letter, one of [`LETTERS`].
    pub letter: char,
    /// How many times it stands there: at least 1, at most what Java allows for the letter.
    pub count: usize,
    /// The width that `p` asks for, filled up with spaces on the left; 0 without `p`.
    pub pad: usize,
}

/// The letters that are understood. Java also knows `F`, `g`, `v` and `B`, which it added or changed between its
/// versions: a pattern with one of these is refused rather than guessed at.
pub const LETTERS: &str = "GyuYQqMLwWdDEecaHkKhmsSAnNVzOXxZ";

/// Why a pattern is not one of Java's, and at which byte of the pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PatternError {
    /// Byte offset in the pattern where the trouble begins.
    pub at: usize,
    /// How many bytes are meant, at least 1 unless the pattern has ended.
    pub len: usize,
    /// What is wrong, in lowercase without a period.
    pub message: String,
    /// What to write instead, when that is known.
    pub hint: Option<String>,
}

/// Reads a pattern. An error names the place; a pattern that is accepted prints for every instant.
pub fn parse(pattern: &str) -> Result<Vec<PatternPart>, PatternError> {
    let mut open: Vec<Vec<PatternPart>> = vec![Vec::new()];
    let mut at = 0;
    while let Some(first) = pattern[at..].chars().next() {
        let start = at;
        match first {
            'a'..='z' | 'A'..='Z' => {
                let (field, end) = field(pattern, at)?;
                top(&mut open).push(PatternPart::Field(field));
                at = end;
            }
            '\'' => {
                let (text, end) = quoted(pattern, at)?;
                literal(top(&mut open), &text);
                at = end;
            }
            '[' => {
                if open.len() > limits::PATTERN_DEPTH_MAX {
                    return Err(error(start, 1, "too many `[` within each other", None));
                }
                open.push(Vec::new());
                at += 1;
            }
            ']' => {
                if open.len() == 1 {
                    let hint = Some("put it in single quotes: ']'".to_owned());
                    return Err(error(start, 1, "`]` without a `[` before it", hint));
                }
                close(&mut open);
                at += 1;
            }
            '{' | '}' | '#' => {
                let hint = Some(format!("put it in single quotes: '{first}'"));
                return Err(error(start, 1, format!("`{first}` is reserved in a date pattern"), hint));
            }
            other => {
                let mut buffer = [0; 4];
                literal(top(&mut open), other.encode_utf8(&mut buffer));
                at += other.len_utf8();
            }
        }
    }
    // Java closes what the pattern left open.
    while open.len() > 1 {
        close(&mut open);
    }
    Ok(open.pop().unwrap_or_default())
}

/// The innermost section that is open.
fn top(open: &mut [Vec<PatternPart>]) -> &mut Vec<PatternPart> {
    open.last_mut().expect("the outermost section is never closed")
}

fn close(open: &mut Vec<Vec<PatternPart>>) {
    if let Some(section) = open.pop()
        && !section.is_empty()
    {
        top(open).push(PatternPart::Optional(section));
    }
}

/// Adds text, joined to a literal that stands before it.
fn literal(parts: &mut Vec<PatternPart>, text: &str) {
    match parts.last_mut() {
        Some(PatternPart::Literal(before)) => before.push_str(text),
        _ => parts.push(PatternPart::Literal(text.to_owned())),
    }
}

/// A run of letters from `at`, with the padding that may stand before it; and the offset after it.
fn field(pattern: &str, at: usize) -> Result<(PatternField, usize), PatternError> {
    let (letter, count, mut end) = run(pattern, at);
    let mut field = PatternField { letter, count, pad: 0 };
    let mut from = at;
    if letter == 'p' {
        if !pattern[end..].starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Err(error(at, count, "`p` pads the letters that follow it, and none do", None));
        }
        let (letter, letters, after) = run(pattern, end);
        field = PatternField { letter, count: letters, pad: count };
        (from, end) = (end, after);
    }
    check(field, from)?;
    Ok((field, end))
}

/// The letter at `at`, how often it is repeated, and the offset after the run. `at` stands on an ASCII letter.
fn run(pattern: &str, at: usize) -> (char, usize, usize) {
    let bytes = pattern.as_bytes();
    let count = bytes[at..].iter().take_while(|b| **b == bytes[at]).count();
    (char::from(bytes[at]), count, at + count)
}

/// The counts that `DateTimeFormatterBuilder` accepts for each letter.
fn check(field: PatternField, at: usize) -> Result<(), PatternError> {
    let PatternField { letter, count, pad } = field;
    let allowed: &[std::ops::RangeInclusive<usize>] = match letter {
        'y' | 'u' | 'Y' | 'A' | 'n' | 'N' => &[1..=19],
        'M' | 'L' | 'Q' | 'q' | 'E' | 'e' | 'G' | 'X' | 'x' | 'Z' => &[1..=5],
        'c' => &[1..=1, 3..=5],
        'S' => &[1..=9],
        'D' => &[1..=3],
        'd' | 'H' | 'k' | 'K' | 'h' | 'm' | 's' | 'w' => &[1..=2],
        'a' | 'W' => &[1..=1],
        'V' => &[2..=2],
        'z' => &[1..=4],
        'O' => &[1..=1, 4..=4],
        other => return Err(unknown(other, count, at)),
    };
    if pad > limits::PATTERN_PAD_MAX {
        let message = format!("a padding of {pad}; the most is {}", limits::PATTERN_PAD_MAX);
        return Err(error(at.saturating_sub(pad), pad, message, None));
    }
    if allowed.iter().any(|range| range.contains(&count)) {
        return Ok(());
    }
    let ranges: Vec<String> = allowed
        .iter()
        .map(|r| if r.start() == r.end() { r.start().to_string() } else { format!("{} to {}", r.start(), r.end()) })
        .collect();
    let message = format!("the letter `{letter}` stands {count} times; Java takes {}", ranges.join(" or "));
    Err(error(at, count, message, None))
}

fn unknown(letter: char, count: usize, at: usize) -> PatternError {
    let hint = match letter {
        'T' | 't' => Some("text goes in single quotes: 'T'".to_owned()),
        'F' | 'g' | 'v' | 'B' => Some("Java versions disagree on this letter; it is not supported".to_owned()),
        'I' | 'i' => Some("the minute is `mm`".to_owned()),
        'f' => Some("the fraction of a second is `SSS`".to_owned()),
        _ => Some("text goes in single quotes, as in 'year='yyyy".to_owned()),
    };
    error(at, count, format!("`{letter}` is no letter of a date pattern"), hint)
}

/// A text in single quotes from `at`; `''` is one quote, in the text and alone.
fn quoted(pattern: &str, at: usize) -> Result<(String, usize), PatternError> {
    let mut text = String::new();
    let mut rest = pattern[at + 1..].char_indices().peekable();
    while let Some((offset, c)) = rest.next() {
        if c != '\'' {
            text.push(c);
        } else if rest.next_if(|(_, next)| *next == '\'').is_some() {
            text.push('\'');
        } else {
            let end = at + 1 + offset + 1;
            return Ok((if text.is_empty() { "'".to_owned() } else { text }, end));
        }
    }
    Err(error(at, pattern.len() - at, "a single quote is opened and not closed", None))
}

fn error(at: usize, len: usize, message: impl fmt::Display, hint: Option<String>) -> PatternError {
    PatternError { at, len, message: message.to_string(), hint }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn f(letter: char, count: usize) -> PatternPart {
        PatternPart::Field(PatternField { letter, count, pad: 0 })
    }
    fn l(text: &str) -> PatternPart {
        PatternPart::Literal(text.to_owned())
    }

    #[test]
    fn the_default_prefix_is_four_fields_and_slashes() {
        let expected = vec![f('y', 4), l("/"), f('M', 2), l("/"), f('d', 2), l("/"), f('H', 2), l("/")];
        assert_eq!(parse("yyyy/MM/dd/HH/"), Ok(expected));
    }

    #[test]
    fn quotes_are_read_as_java_reads_them() {
        assert_eq!(parse("'year='yyyy"), Ok(vec![l("year="), f('y', 4)]));
        assert_eq!(parse("''"), Ok(vec![l("'")]));
        assert_eq!(parse("'o''clock'"), Ok(vec![l("o'clock")]));
        assert_eq!(parse("''''"), Ok(vec![l("'")]));
        assert!(parse("'open").is_err());
        assert!(parse("'a''").is_err(), "the second quote is doubled, so the text never ends");
    }

    #[test]
    fn counts_are_those_that_java_allows() {
        for good in
            ["y", "yyyyy", "MMMMM", "EEE", "SSSSSSSSS", "DDD", "VV", "zzzz", "OOOO", "XXXXX", "ZZZZZ", "ccc", "p", ""]
        {
            let taken = parse(good);
            assert_eq!(taken.is_ok(), good != "p", "{good}: {taken:?}");
        }
        for bad in
            ["MMMMMM", "ddd", "HHH", "SSSSSSSSSS", "DDDD", "V", "VVV", "zzzzz", "OO", "XXXXXX", "cc", "aa", "WW", "www"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse(&"y".repeat(19)).is_ok());
        assert!(parse(&"y".repeat(20)).is_err());
    }

    #[test]
    fn padding_holds_for_the_next_letters() {
        let padded = PatternPart::Field(PatternField { letter: 'H', count: 1, pad: 3 });
        assert_eq!(parse("pppH"), Ok(vec![padded]));
        assert!(parse("pp/").is_err());
        assert!(parse("pppp").is_err());
    }

    #[test]
    fn optional_sections_nest_and_close_by_themselves() {
        let inner = PatternPart::Optional(vec![l(":"), f('s', 2)]);
        assert_eq!(parse("mm[:ss]"), Ok(vec![f('m', 2), inner.clone()]));
        assert_eq!(parse("mm[:ss"), Ok(vec![f('m', 2), inner]));
        assert_eq!(parse("[]yyyy"), Ok(vec![f('y', 4)]));
        assert!(parse("yyyy]").is_err());
        assert!(parse(&"[".repeat(10_000)).is_err(), "nesting is bounded");
    }

    #[test]
    fn errors_name_the_place() {
        let error = parse("yyyy-MM-ddTHH").expect_err("`T` is no pattern letter");
        assert_eq!((error.at, error.len), (10, 1));
        let error = parse("yyyy/{MM}").expect_err("reserved");
        assert_eq!((error.at, error.message.as_str()), (5, "`{` is reserved in a date pattern"));
    }

    proptest! {
        #[test]
        fn no_string_panics(pattern in ".{0,80}") {
            let _ = parse(&pattern);
        }

        #[test]
        fn no_likely_string_panics_and_places_lie_within(pattern in "[yMdHpTV'\\[\\]{}#/é -]{0,40}") {
            if let Err(error) = parse(&pattern) {
                prop_assert!(pattern.is_char_boundary(error.at));
                prop_assert!(error.at + error.len <= pattern.len());
            }
        }

        #[test]
        fn quoted_text_comes_back(text in "[^']{1,40}") {
            prop_assert_eq!(parse(&format!("'{text}'")), Ok(vec![PatternPart::Literal(text)]));
        }
    }
}
