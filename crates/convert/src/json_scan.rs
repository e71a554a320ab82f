//! The bytes of JSON: where a string and a number end (RFC 8259, sections 6 and 7).
//!
//! Whatever serde_json passes over is passed over here, and nothing else.
//! Never panics, whatever the bytes.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// The end of the string that begins at `start` with its quote, and whether it has escapes. `None`: there is no string.
#[inline]
pub(crate) fn quoted(bytes: &[u8], start: usize) -> Option<(usize, bool)> {
    if bytes.get(start) != Some(&b'"') {
        return None;
    }
    let (mut at, mut escaped) = (start + 1, false);
    loop {
        at = plain_end(bytes, at);
        match bytes.get(at)? {
            b'"' => return Some((at + 1, escaped)),
            b'\\' => {
                escaped = true;
                at += escape(&bytes[at + 1..])? + 1;
            }
            _ => return None,
        }
    }
}

/// The same for a string without escapes: it is not read beyond the first.
#[inline]
pub(crate) fn plain(bytes: &[u8], start: usize) -> Option<usize> {
    if bytes.get(start) != Some(&b'"') {
        return None;
    }
    let end = plain_end(bytes, start + 1);
    (bytes.get(end) == Some(&b'"')).then_some(end + 1)
}

/// From `at` on the first byte that may not stand for itself in a string: a quote, a backslash, a control character.
#[inline]
fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(eight) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        let word = u64::from_le_bytes(*eight);
        // The high bit of the lowest byte that is meant is set, and of none below it (a borrow goes up).
        let zero = |word: u64| word.wrapping_sub(ONES) & !word;
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let found = (zero(word ^ (ONES * b'"' as u64)) | zero(word ^ (ONES * b'\\' as u64)) | control) & HIGHS;
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while bytes.get(at).is_some_and(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20)) {
        at += 1;
    }
    at
}

/// The length of what follows a backslash.
fn escape(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => Some(1),
        [b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) => Some(5),
        _ => None,
    }
}

/// The length of the number at the start.
pub(crate) fn number(bytes: &[u8]) -> Option<usize> {
    let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut at = usize::from(bytes.first() == Some(&b'-'));
    at += match bytes.get(at)? {
        // A zero stands alone: a digit after it is where no number goes on.
        b'0' if bytes.get(at + 1).is_some_and(u8::is_ascii_digit) => return None,
        b'0'..=b'9' => digits(at),
        _ => return None,
    };
    if bytes.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        if fraction == 0 {
            return None;
        }
        at += 1 + fraction;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        at += 1 + usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let exponent = bytes.get(at..).map_or(0, |_| digits(at));
        if exponent == 0 {
            return None;
        }
        at += exponent;
    }
    Some(at)
}

/// Digits that no 64-bit number overflows with.
const SHORT_DIGITS: usize = 18;

/// The whole number at the start and its length, if it has at most 18 digits, no point and no exponent.
#[inline]
pub(crate) fn short_integer(bytes: &[u8]) -> Option<(i64, usize)> {
    let (negative, digits) = match bytes {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let (mut size, mut count) = (0i64, 0usize);
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        // What wraps has too many digits.
        size = size.wrapping_mul(10).wrapping_add(i64::from(digit));
        count = count.wrapping_add(1);
    }
    let leads_with_zero = count > 1 && digits[0] == b'0';
    if count == 0 || count > SHORT_DIGITS || leads_with_zero || matches!(digits.get(count), Some(b'.' | b'e' | b'E')) {
        return None;
    }
    Some((if negative { -size } else { size }, count + usize::from(negative)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    /// How much of a text serde_json passes over as one value.
    fn theirs(text: &str) -> Option<usize> {
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
        values.next()?.ok().map(|value| value.get().len())
    }

    /// Whether a text is one value for serde_json.
    fn is_one(text: &str) -> bool {
        !text.is_empty() && serde_json::from_str::<&RawValue>(text).is_ok()
    }

    #[test]
    fn strings_end_where_they_do() {
        for (text, end) in [
            (r#""""#, Some((2, false))),
            (r#""a"b"#, Some((3, false))),
            (r#""12345678""#, Some((10, false))),
            (r#""1234567\"9" "#, Some((12, true))),
            (r#""\u00e9\\""#, Some((10, true))),
            (r#""\ud800""#, Some((8, true))),
            ("\"\u{7f}é\u{80}\"", Some((7, false))),
            ("\"a\nb\"", None),
            ("\"1234567\u{1f}\"", None),
            (r#""abc"#, None),
            (r#""\"#, None),
            (r#""\u12""#, None),
            (r#""\x""#, None),
            ("", None),
            ("a", None),
        ] {
            assert_eq!(quoted(text.as_bytes(), 0), end, "{text}");
            let unescaped = end.filter(|(_, escaped)| !escaped).map(|(end, _)| end);
            assert_eq!(plain(text.as_bytes(), 0), unescaped, "{text}");
        }
    }

    #[test]
    fn short_integers_are_those_that_nothing_can_go_wrong_with() {
        for (text, read) in [
            ("0", Some((0, 1))),
            ("-0,", Some((0, 2))),
            ("120]", Some((120, 3))),
            ("-999999999999999999}", Some((-999_999_999_999_999_999, 19))),
            ("1000000000000000000", None),
            ("1.0", None),
            ("1e3", None),
            ("01", None),
            ("-", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(short_integer(text.as_bytes()), read, "{text}");
        }
    }

    proptest! {
        #[test]
        fn numbers_are_those_of_serde_json(text in "[-+0-9.eE]{0,8}") {
            let length = number(text.as_bytes());
            prop_assert_eq!(length == Some(text.len()), is_one(&text));
            if let Some((number, length)) = short_integer(text.as_bytes()) {
                prop_assert_eq!(text[..length].parse::<i64>().ok(), Some(number));
                prop_assert!(is_one(&text[..length]));
            }
        }

        #[test]
        fn strings_are_those_of_serde_json(inside in "(\\PC|\\\\|\"|\\\\u[0-9a-fg]{4}|\\\\[bnx/\"]|\n|\u{0}){0,24}") {
            let text = format!("\"{inside}\"");
            prop_assert_eq!(quoted(text.as_bytes(), 0).map(|(end, _)| end), theirs(&text));
        }

        #[test]
        fn a_plain_end_is_the_first_byte_that_is_not_plain(bytes in prop::collection::vec(any::<u8>(), 0..40), at in 0usize..40) {
            let from = bytes.get(at..).unwrap_or_default();
            let first = from.iter().position(|byte| *byte == b'"' || *byte == b'\\' || *byte < 0x20);
            prop_assert_eq!(plain_end(&bytes, at), at + first.unwrap_or(from.len()));
        }
    }
}
