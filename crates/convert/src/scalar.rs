//! The text of one JSON value -> the value of a column that is no array, map or struct.
//!
//! Every function gives `None` where the value does not fit the type: nothing is rounded silently but the digits that
//! a decimal's scale, a double's precision or a timestamp's microseconds do not hold.

/// Digits of a second that a timestamp holds.
const MICROS_DIGITS: u8 = 6;
const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// A number from here on counts milliseconds, below it seconds (probed of Firehose; 1e12 ms is September 2001).
const EPOCH_MILLIS_FROM: i128 = 1_000_000_000_000;

/// `true` and `false` in any case.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// A whole number in range, however it is written: `5`, `5.0`, `5e3`. `5.5` is none.
pub(crate) fn integer<T: TryFrom<i128> + std::str::FromStr>(text: &str) -> Option<T> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let number = decimal(text, 0).filter(|number| number.exact)?;
    T::try_from(number.value).ok()
}

/// A double: the nearest one. A number that only infinity is near to does not fit; `NaN`, `Infinity` and `-Infinity`
/// may stand in a string, as in Java.
pub(crate) fn double(text: &str) -> Option<f64> {
    match special(text) {
        Some(special) => Some(special),
        None => looks_numeric(text).then(|| text.parse().ok()).flatten().filter(|number: &f64| number.is_finite()),
    }
}

/// A float, by the same rules.
pub(crate) fn float(text: &str) -> Option<f32> {
    match special(text) {
        Some(special) => Some(special as f32),
        None => looks_numeric(text).then(|| text.parse().ok()).flatten().filter(|number: &f32| number.is_finite()),
    }
}

fn special(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" | "+Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// Keeps out the words that Rust reads as numbers: `inf`, `nan`.
fn looks_numeric(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'))
}

/// `number * 10^scale`, rounded half away from zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Scaled {
    pub(crate) value: i128,
    /// Whether nothing was rounded away.
    pub(crate) exact: bool,
}

/// Reads a decimal number with an optional exponent and scales it.
pub(crate) fn decimal(text: &str, scale: u8) -> Option<Scaled> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let (mantissa, exponent) = match digits.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        None => (digits, 0),
        Some(at) => (&digits[..at], exponent(&digits[at + 1..])?),
    };
    let (whole, fraction) = match mantissa.iter().position(|byte| *byte == b'.') {
        None => (mantissa, &[][..]),
        Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
    };
    if whole.len() + fraction.len() == 0 || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
        return None;
    }
    // How many of the digits, from the left, stand before the point of the scaled number.
    let kept = (whole.len() as i64).saturating_add(exponent).saturating_add(i64::from(scale));
    let mut value: i128 = 0;
    let mut exact = true;
    let mut round_up = false;
    for (index, digit) in whole.iter().chain(fraction).enumerate() {
        let digit = i128::from(digit - b'0');
        let index = index as i64;
        if index < kept {
            value = value.checked_mul(10)?.checked_add(digit)?;
        } else {
            round_up |= index == kept && digit >= 5;
            exact &= digit == 0;
        }
    }
    let missing = kept.saturating_sub((whole.len() + fraction.len()) as i64);
    if missing > 0 && value != 0 {
        value = value.checked_mul(10i128.checked_pow(u32::try_from(missing).ok()?)?)?;
    }
    value = value.checked_add(i128::from(round_up))?;
    Some(Scaled { value: if negative { -value } else { value }, exact })
}

/// An exponent; one of many digits is as good as 10^9, for no number reaches it.
fn exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let size = digits.iter().fold(0i64, |size, digit| (size * 10 + i64::from(digit - b'0')).min(1_000_000_000));
    Some(if negative { -size } else { size })
}

/// The unscaled value of a decimal of at most `precision` digits.
pub(crate) fn decimal_of(text: &str, precision: u8, scale: u8) -> Option<i128> {
    let number = decimal(text, scale)?;
    let limit = 10i128.checked_pow(u32::from(precision))?;
    (number.value.abs() < limit).then_some(number.value)
}

/// Days since 1970-01-01 of `yyyy-[M]M-[d]d`, or of a timestamp.
pub(crate) fn date(text: &str) -> Option<i32> {
    let (days, rest) = calendar_day(text.as_bytes())?;
    let days = if rest.is_empty() { days } else { written_timestamp(text)?.div_euclid(MICROS_PER_DAY) };
    i32::try_from(days).ok()
}

/// Microseconds since 1970-01-01T00:00:00Z: an epoch number (seconds, or from 1e12 on milliseconds, with a fraction),
/// or a text: `yyyy-MM-ddTHH:mm:ss[.fraction][zone]`, `yyyy-[M]M-[d]d [H]H:[m]m:[s]s[.fraction][zone]`,
/// `yyyy-[M]M-[d]d`. The fraction has up to nine digits, those after the sixth are cut off. The zone is `Z` or an
/// offset (which Firehose does not read); without one it is UTC.
pub(crate) fn timestamp(text: &str) -> Option<i64> {
    written_timestamp(text).or_else(|| epoch(text))
}

/// Microseconds of `yyyy-[M]M-[d]d [H]H:[m]m:[s]s[.fraction]`: what java.sql.Timestamp.valueOf reads, as UTC. It knows no
/// offsets, to either side.
pub(crate) fn sql_timestamp(text: &str) -> Option<i64> {
    let (_, time) = text.split_once(' ')?;
    let plain = time.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b':' | b'.'));
    plain.then(|| written_timestamp(text)).flatten()
}

/// Microseconds of a number of milliseconds, with a fraction or not.
pub(crate) fn epoch_millis(text: &str) -> Option<i64> {
    i64::try_from(decimal(text, MICROS_DIGITS - 3)?.value).ok()
}

fn epoch(text: &str) -> Option<i64> {
    let as_seconds = decimal(text, MICROS_DIGITS)?.value;
    let as_micros = if as_seconds.abs() < EPOCH_MILLIS_FROM * i128::from(MICROS_PER_SECOND) {
        as_seconds
    } else {
        decimal(text, MICROS_DIGITS - 3)?.value
    };
    i64::try_from(as_micros).ok()
}

fn written_timestamp(text: &str) -> Option<i64> {
    let (days, rest) = calendar_day(text.as_bytes())?;
    let strict_day = text.len() - rest.len() == "yyyy-MM-dd".len();
    let (width, rest) = match rest {
        [] => return days.checked_mul(MICROS_PER_DAY),
        [b'T', rest @ ..] if strict_day => (2, rest),
        [b' ', rest @ ..] => (1, rest),
        _ => return None,
    };
    let (hour, rest) = field(rest, width, 23)?;
    let (minute, rest) = field(rest.strip_prefix(b":")?, width, 59)?;
    let (second, rest) = field(rest.strip_prefix(b":")?, width, 59)?;
    let (micros, rest) = match rest {
        [b'.', rest @ ..] => fraction(rest)?,
        _ => (0, rest),
    };
    let offset = offset_seconds(rest)?;
    let seconds = days * 86_400 + (hour * 60 + minute) * 60 + second - offset;
    seconds.checked_mul(MICROS_PER_SECOND)?.checked_add(micros)
}

/// Microseconds of a day and a time of it, less an offset from UTC.
pub(crate) fn micros_of(days: i64, seconds: i64, micros: i64) -> Option<i64> {
    days.checked_mul(86_400)?.checked_add(seconds)?.checked_mul(MICROS_PER_SECOND)?.checked_add(micros)
}

/// A day of the proleptic Gregorian calendar, and what follows it.
fn calendar_day(text: &[u8]) -> Option<(i64, &[u8])> {
    let (year, rest) = text.split_at_checked(4)?;
    let (year, none) = field(year, 4, 9999)?;
    if !none.is_empty() {
        return None;
    }
    let (month, rest) = field(rest.strip_prefix(b"-")?, 1, 12)?;
    let (day, rest) = field(rest.strip_prefix(b"-")?, 1, 31)?;
    Some((days_of(year, month, day)?, rest))
}

/// Days since 1970-01-01, if there is such a day.
pub(crate) fn days_of(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 31,
    };
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month {
        return None;
    }
    // Years that begin in March, so that a leap day is the last one; 719,468 days from 0000-03-01 to 1970-01-01.
    let year = year - i64::from(month <= 2);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year;
    Some(days - 719_468)
}

/// `width` digits, or one or two where `width` is 1, up to `max`.
fn field(text: &[u8], width: usize, max: i64) -> Option<(i64, &[u8])> {
    let digits = text.iter().take(width.max(2)).take_while(|byte| byte.is_ascii_digit()).count();
    if digits < width {
        return None;
    }
    let number = text[..digits].iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
    (number <= max).then_some((number, &text[digits..]))
}

/// Microseconds of one to nine digits after the point.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 || digits > 9 {
        return None;
    }
    let digit = |index: usize| if index < digits { i64::from(text[index] - b'0') } else { 0 };
    let micros = (0..usize::from(MICROS_DIGITS)).fold(0, |micros, index| micros * 10 + digit(index));
    Some((micros, &text[digits..]))
}

/// Nothing, `Z`, `+hh`, `+hhmm` or `+hh:mm`.
pub(crate) fn offset_seconds(text: &[u8]) -> Option<i64> {
    let (sign, rest) = match text {
        [] | [b'Z'] => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, rest) = field(rest, 2, 23)?;
    let (minutes, rest) = match rest {
        [] => (0, rest),
        [b':', rest @ ..] => field(rest, 2, 59)?,
        _ => field(rest, 2, 59)?,
    };
    rest.is_empty().then_some(sign * (hours * 60 + minutes) * 60)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn whole_numbers_fit_or_do_not() {
        let fits = [("0", 0), ("-128", -128), ("127", 127), ("+5", 5), ("5.0", 5), ("0.5e1", 5), ("120e-1", 12)];
        for (text, number) in fits {
            assert_eq!(integer::<i8>(text), Some(number), "{text}");
        }
        for text in ["128", "-129", "1.5", "", "-", "x", "1e2x", "1e", "0x10", "1_0", "1e400", " 1"] {
            assert_eq!(integer::<i8>(text), None, "{text}");
        }
        assert_eq!(integer::<i64>("9223372036854775807"), Some(i64::MAX));
        assert_eq!(integer::<i64>("9223372036854775808"), None);
        assert_eq!(integer::<i64>("-9223372036854775808.0"), Some(i64::MIN));
    }

    #[test]
    fn doubles_are_the_nearest_or_named() {
        assert_eq!(double("0.1"), Some(0.1));
        assert_eq!(double("1e-400"), Some(0.0));
        assert_eq!(double("-Infinity"), Some(f64::NEG_INFINITY));
        assert!(double("NaN").is_some_and(f64::is_nan));
        for text in ["1e400", "inf", "nan", "infinity", "", "1.2.3", "0x1p3", "-"] {
            assert_eq!(double(text), None, "{text}");
        }
        assert_eq!(float("3.4e38"), Some(3.4e38));
        assert_eq!(float("3.5e38"), None);
    }

    #[test]
    fn decimals_round_half_away_from_zero_and_fit_their_precision() {
        let cases = [
            ("12.34", Some(1234)),
            ("12.345", Some(1235)),
            ("-12.345", Some(-1235)),
            ("12.3449", Some(1234)),
            ("0.004", Some(0)),
            ("0.005", Some(1)),
            ("0.0005", Some(0)),
            ("1e1", Some(1000)),
            ("99.994", Some(9999)),
            ("99.995", None),
            ("100", None),
            ("5e-3", Some(1)),
            ("0e999999999999", Some(0)),
            ("1e99999", None),
            (".5", Some(50)),
            ("5.", Some(500)),
            (".", None),
            ("1e-99999", Some(0)),
            ("", None),
        ];
        for (text, value) in cases {
            assert_eq!(decimal_of(text, 4, 2), value, "{text}");
        }
        let longest = "9".repeat(38);
        assert_eq!(decimal_of(&longest, 38, 0), Some(10i128.pow(38) - 1));
        assert_eq!(decimal_of(&format!("{longest}0e-1"), 38, 0), Some(10i128.pow(38) - 1));
        assert_eq!(decimal_of(&"9".repeat(1_000_000), 38, 0), None);
    }

    #[test]
    fn timestamps_are_read_as_firehose_reads_them() {
        let second = MICROS_PER_SECOND;
        let cases = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2018-02-07T19:58:48Z", Some(1_518_033_528 * second)),
            ("2018-02-07T19:58:48.123456789Z", Some(1_518_033_528 * second + 123_456)),
            ("2018-02-07T19:58:48", Some(1_518_033_528 * second)),
            ("2018-02-07T21:58:48+02:00", Some(1_518_033_528 * second)),
            ("2018-02-07T14:28:48.5-0530", Some(1_518_033_528 * second + 500_000)),
            ("2018-2-7 19:58:48", Some(1_518_033_528 * second)),
            ("2018-2-7 1:5:8.25", Some(1_517_965_508 * second + 250_000)),
            ("2018-02-07", Some(1_517_961_600 * second)),
            ("1518033528", Some(1_518_033_528 * second)),
            ("1518033528.25", Some(1_518_033_528 * second + 250_000)),
            ("1518033528123", Some(1_518_033_528 * second + 123_000)),
            ("1518033528123.5", Some(1_518_033_528 * second + 123_500)),
            ("-1", Some(-second)),
            ("999999999999.9", Some(999_999_999_999 * second + 900_000)),
            ("1000000000000", Some(1_000_000_000 * second)),
            ("0001-01-01 00:00:00", Some(-62_135_596_800 * second)),
            ("2018-2-7T19:58:48Z", None),
            ("2018-02-07T1:58:48Z", None),
            ("2018-02-07t19:58:48z", None),
            ("2018-02-30 00:00:00", None),
            ("2018-13-01 00:00:00", None),
            ("2018-00-01", None),
            ("2018-02-07 24:00:00", None),
            ("2018-02-07 19:58", None),
            ("2018-02-07 19:58:48.", None),
            ("2018-02-07 19:58:48.1234567890", None),
            ("2018-02-07 19:58:48 UTC", None),
            ("02/01/2024", None),
            ("17/May/2015:10:05:03 +0000", None),
            ("1e30", None),
            ("", None),
        ];
        for (text, micros) in cases {
            assert_eq!(timestamp(text), micros, "{text}");
        }
        assert_eq!((date("2018-2-7"), date("2018-02-07T23:59:59Z")), (Some(17_569), Some(17_569)));
        assert_eq!((date("1969-12-31 23:00:00"), date("2018"), date("17569")), (Some(-1), None, None));
    }

    #[test]
    fn a_sql_timestamp_has_no_offset_to_either_side() {
        let at = Some(1_518_033_528 * MICROS_PER_SECOND + 500_000);
        assert_eq!((sql_timestamp("2018-02-07 19:58:48.5"), sql_timestamp("2018-2-7 19:58:48.5")), (at, at));
        for offset in ["-05:00", "+05:00", " -05:00", " +05:00", "-05", "-0530", "Z", " UTC", " "] {
            assert_eq!(sql_timestamp(&format!("2018-02-07 19:58:48{offset}")), None, "{offset}");
        }
        for other in ["2018-02-07", "2018-02-07T19:58:48", "-2018-02-07 19:58:48", "1518033528", ""] {
            assert_eq!(sql_timestamp(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn every_day_is_the_one_of_another_calendar(days in -719_162i32..2_932_896) {
            let day = jiff::civil::date(1970, 1, 1) + jiff::Span::new().days(days);
            prop_assert_eq!(date(&day.to_string()), Some(days));
        }

        #[test]
        fn decimals_agree_with_integers(value in any::<i64>(), scale in 0u8..10) {
            let text = format!("{value}e-{scale}");
            prop_assert_eq!(decimal(&text, scale), Some(Scaled { value: value.into(), exact: true }));
            prop_assert_eq!(integer::<i64>(&format!("{value}.00")), Some(value));
        }

        #[test]
        fn no_text_panics(text in "[-+0-9.eETZ: ]{0,30}|\\PC{0,20}") {
            let _ = (timestamp(&text), date(&text), decimal_of(&text, 38, 10), double(&text), integer::<i64>(&text));
        }
    }
}
