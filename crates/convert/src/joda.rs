//! A pattern of Joda-Time's DateTimeFormat -> the instants of texts: the `timestamp_formats` of the Hive deserializer.
//!
//! Read as Joda reads: a number takes at most as many digits as the next letter leaves it, names are English and without
//! regard to case, what is not said is the beginning of 1970, and without a zone the time is UTC. `yy` is 2000 to 2099.
//!
//! Never here: patterns that write times (keys of objects have those of Java's DateTimeFormatter).

use std::str::FromStr;

use crate::scalar;

/// A pattern, or `millis`: a number of milliseconds since 1970.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Joda {
    pattern: String,
    items: Vec<Item>,
}

/// A pattern that cannot be read with.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JodaError {
    /// A letter that is none of Joda's, or that no time can be read by.
    #[error("at character {at}: `{letter}` {why}")]
    Letter {
        /// Counted from 1.
        at: usize,
        /// The letter.
        letter: char,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A quote without its end.
    #[error("at character {at}: a quote that does not end")]
    Quote {
        /// Counted from 1.
        at: usize,
    },
    /// Nothing that could be read.
    #[error("the pattern has no letters")]
    Nothing,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Item {
    Literal(String),
    Number { of: Part, digits: usize },
    TwoDigitYear,
    MonthName,
    DayName,
    HalfDay,
    Fraction,
    Offset,
    Millis,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Year,
    Month,
    Day,
    DayOfYear,
    /// 0 to 23.
    Hour,
    /// 1 to 24.
    ClockHour,
    /// 0 to 11.
    HalfDayHour,
    /// 1 to 12.
    HalfDayClockHour,
    Minute,
    Second,
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// Digits of a year that stands alone.
const YEAR_DIGITS_MAX: usize = 9;

impl FromStr for Joda {
    type Err = JodaError;

    fn from_str(pattern: &str) -> Result<Self, JodaError> {
        let items = if pattern == "millis" { vec![Item::Millis] } else { items(pattern)? };
        Ok(Self { pattern: pattern.to_owned(), items })
    }
}

impl std::fmt::Display for Joda {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.pattern)
    }
}

fn items(pattern: &str) -> Result<Vec<Item>, JodaError> {
    let chars: Vec<char> = pattern.chars().collect();
    let (mut items, mut literal, mut at) = (Vec::new(), String::new(), 0);
    while let Some(&letter) = chars.get(at) {
        let run = chars[at..].iter().take_while(|c| **c == letter).count();
        if letter == '\'' {
            let (text, end) = quoted(&chars, at)?;
            literal.push_str(&text);
            at = end;
        } else if letter.is_ascii_alphabetic() {
            if !literal.is_empty() {
                items.push(Item::Literal(std::mem::take(&mut literal)));
            }
            items.push(item(letter, run).map_err(|why| JodaError::Letter { at: at + 1, letter, why })?);
            at += run;
        } else {
            literal.push(letter);
            at += 1;
        }
    }
    if items.is_empty() {
        return Err(JodaError::Nothing);
    }
    if !literal.is_empty() {
        items.push(Item::Literal(literal));
    }
    leave_digits(&mut items);
    Ok(items)
}

/// The text in quotes that begin at `at`, `''` being a quote, and where it ends.
fn quoted(chars: &[char], at: usize) -> Result<(String, usize), JodaError> {
    if chars.get(at + 1) == Some(&'\'') {
        return Ok(("'".to_owned(), at + 2));
    }
    let mut text = String::new();
    let mut end = at + 1;
    loop {
        match (chars.get(end), chars.get(end + 1)) {
            (Some('\''), Some('\'')) => {
                text.push('\'');
                end += 2;
            }
            (Some('\''), _) => return Ok((text, end + 1)),
            (Some(c), _) => {
                text.push(*c);
                end += 1;
            }
            (None, _) => return Err(JodaError::Quote { at: at + 1 }),
        }
    }
}

fn item(letter: char, run: usize) -> Result<Item, &'static str> {
    let number = |of, digits| Ok(Item::Number { of, digits });
    match letter {
        'y' | 'Y' if run == 2 => Ok(Item::TwoDigitYear),
        'y' | 'Y' => number(Part::Year, YEAR_DIGITS_MAX),
        'M' if run >= 3 => Ok(Item::MonthName),
        'M' => number(Part::Month, 2),
        'd' => number(Part::Day, 2),
        'D' => number(Part::DayOfYear, 3),
        'E' => Ok(Item::DayName),
        'a' => Ok(Item::HalfDay),
        'H' => number(Part::Hour, 2),
        'k' => number(Part::ClockHour, 2),
        'K' => number(Part::HalfDayHour, 2),
        'h' => number(Part::HalfDayClockHour, 2),
        'm' => number(Part::Minute, 2),
        's' => number(Part::Second, 2),
        'S' => Ok(Item::Fraction),
        'Z' => Ok(Item::Offset),
        'z' => Err("is the name of a time zone, which nothing is read from; `Z` is an offset"),
        'G' | 'C' | 'x' | 'w' | 'e' => Err("says no day by itself: use y, M and d, or y and D"),
        _ => Err("is no letter of Joda's patterns; text stands in quotes"),
    }
}

/// A year that another number follows at once has four digits: `yyyyMMdd`.
fn leave_digits(items: &mut [Item]) {
    for index in 1..items.len() {
        let followed = matches!(items[index], Item::Number { .. } | Item::TwoDigitYear | Item::Fraction);
        if let (true, Item::Number { of: Part::Year, digits }) = (followed, &mut items[index - 1]) {
            *digits = 4;
        }
    }
}

/// What has been read so far.
struct Read {
    year: i64,
    month: i64,
    day: i64,
    day_of_year: Option<i64>,
    hour: i64,
    afternoon: bool,
    minute: i64,
    second: i64,
    micros: i64,
    offset: i64,
}

impl Joda {
    /// Microseconds since 1970-01-01T00:00:00Z of a text that is whole what the pattern says.
    pub(crate) fn micros(&self, text: &str) -> Option<i64> {
        if self.items == [Item::Millis] {
            return scalar::epoch_millis(text);
        }
        let mut read = Read {
            year: 1970,
            month: 1,
            day: 1,
            day_of_year: None,
            hour: 0,
            afternoon: false,
            minute: 0,
            second: 0,
            micros: 0,
            offset: 0,
        };
        let mut rest = text;
        for item in &self.items {
            rest = read.item(item, rest)?;
        }
        if rest.is_empty() { read.instant() } else { None }
    }
}

impl Read {
    /// Reads one item from the beginning of a text; what follows it.
    fn item<'a>(&mut self, item: &Item, text: &'a str) -> Option<&'a str> {
        match item {
            Item::Literal(literal) => text.strip_prefix(literal.as_str()),
            Item::Number { of, digits } => {
                let signed = *of == Part::Year && text.starts_with('-');
                let (number, rest) = number(if signed { &text[1..] } else { text }, *digits)?;
                self.put(*of, if signed { -number } else { number })?;
                Some(rest)
            }
            Item::TwoDigitYear => {
                let (year, rest) = number(text, 2)?;
                self.year = 2000 + year;
                Some(rest)
            }
            Item::MonthName => {
                let (month, rest) = name(text, &MONTHS)?;
                self.month = month as i64 + 1;
                Some(rest)
            }
            Item::DayName => Some(name(text, &DAYS)?.1),
            Item::HalfDay => {
                let (half, rest) = text.split_at_checked(2)?;
                self.afternoon = half.eq_ignore_ascii_case("pm");
                (self.afternoon || half.eq_ignore_ascii_case("am")).then_some(rest)
            }
            Item::Fraction => {
                let digits = text.bytes().take(9).take_while(u8::is_ascii_digit).count();
                let digit = |index| if index < digits { i64::from(text.as_bytes()[index] - b'0') } else { 0 };
                self.micros = (0..6).fold(0, |micros, index| micros * 10 + digit(index));
                (digits > 0).then(|| &text[digits..])
            }
            Item::Offset => {
                let end = text.find(|c: char| !(c.is_ascii_digit() || "+-:Z".contains(c))).unwrap_or(text.len());
                self.offset = if end == 0 { return None } else { scalar::offset_seconds(&text.as_bytes()[..end])? };
                Some(&text[end..])
            }
            Item::Millis => None,
        }
    }

    fn put(&mut self, of: Part, number: i64) -> Option<()> {
        let (place, range) = match of {
            Part::Year => (&mut self.year, -9999..=9999),
            Part::Month => (&mut self.month, 1..=12),
            Part::Day => (&mut self.day, 1..=31),
            Part::DayOfYear => (self.day_of_year.insert(0), 1..=366),
            Part::Hour => (&mut self.hour, 0..=23),
            Part::ClockHour => (&mut self.hour, 1..=24),
            Part::HalfDayHour => (&mut self.hour, 0..=11),
            Part::HalfDayClockHour => (&mut self.hour, 1..=12),
            Part::Minute => (&mut self.minute, 0..=59),
            Part::Second => (&mut self.second, 0..=59),
        };
        if !range.contains(&number) {
            return None;
        }
        *place = match of {
            Part::ClockHour => number % 24,
            Part::HalfDayClockHour => number % 12,
            _ => number,
        };
        Some(())
    }

    fn instant(&self) -> Option<i64> {
        let days = match self.day_of_year {
            Some(day) => {
                let first = scalar::days_of(self.year, 1, 1)?;
                let next = scalar::days_of(self.year + 1, 1, 1)?;
                (first + day <= next).then_some(first + day - 1)?
            }
            None => scalar::days_of(self.year, self.month, self.day)?,
        };
        let hour = if self.afternoon && self.hour < 12 { self.hour + 12 } else { self.hour };
        let seconds = (hour * 60 + self.minute) * 60 + self.second - self.offset;
        scalar::micros_of(days, seconds, self.micros)
    }
}

/// A number of one to `digits` digits, and what follows it.
fn number(text: &str, digits: usize) -> Option<(i64, &str)> {
    let count = text.bytes().take(digits).take_while(u8::is_ascii_digit).count();
    Some((text[..count].parse().ok()?, &text[count..]))
}

/// Which of the names begins a text, whole or by its first three letters.
fn name<'a>(text: &'a str, names: &[&str]) -> Option<(usize, &'a str)> {
    let starts = |name: &str| text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    let index = names.iter().position(|name| starts(&name[..3]))?;
    let length = if starts(names[index]) { names[index].len() } else { 3 };
    Some((index, &text[length..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(pattern: &str, text: &str) -> Option<i64> {
        pattern.parse::<Joda>().unwrap_or_else(|error| panic!("{pattern}: {error}")).micros(text)
    }

    #[test]
    fn texts_are_read_as_the_pattern_says() {
        let second = 1_000_000;
        let at = 1_518_033_528 * second; // 2018-02-07T19:58:48Z
        let cases = [
            ("yyyy-MM-dd HH:mm:ss", "2018-02-07 19:58:48", Some(at)),
            ("yyyy-MM-dd'T'HH:mm:ss.SSSZ", "2018-02-07T19:58:48.250Z", Some(at + 250_000)),
            ("yyyy-MM-dd'T'HH:mm:ssZ", "2018-02-07T21:58:48+0200", Some(at)),
            ("yyyy-MM-dd'T'HH:mm:ssZZ", "2018-02-07T14:28:48-05:30", Some(at)),
            ("dd/MMM/yyyy:HH:mm:ss Z", "07/Feb/2018:19:58:48 +0000", Some(at)),
            ("EEE, d MMMM yyyy hh:mm:ss a", "wed, 7 FEBRUARY 2018 07:58:48 pm", Some(at)),
            ("yyyyMMddHHmmss", "20180207195848", Some(at)),
            ("M/d/yy H:m:s", "2/7/18 19:58:48", Some(at)),
            ("yyyy DDD HH:mm:ss", "2018 038 19:58:48", Some(at)),
            ("yyyy-MM-dd HH:mm:ss.SSSSSSSSS", "2018-02-07 19:58:48.123456789", Some(at + 123_456)),
            ("yyyy-MM-dd", "2018-02-07", Some(1_517_961_600 * second)),
            ("HH 'o''clock'", "01 o'clock", Some(3600 * second)),
            ("''yyyy''", "'1970'", Some(0)),
            ("kk:mm", "24:00", Some(0)),
            ("hh a", "12 AM", Some(0)),
            ("KK a", "0 PM", Some(12 * 3600 * second)),
            ("millis", "1518033528250", Some(at + 250_000)),
            ("millis", "1518033528250.5", Some(at + 250_500)),
            ("millis", "2018-02-07", None),
            ("millis", "1e30", None),
            ("yyyy-MM-dd", "2018-02-30", None),
            ("yyyy-MM-dd", "2018-02-07 ", None),
            ("yyyy-MM-dd", "2018-02", None),
            ("yyyy DDD", "2018 366", None),
            ("yyyy DDD", "2020 366", Some(1_609_372_800 * second)),
            ("HH:mm", "24:00", None),
            ("MMM", "Foo", None),
            ("Z", "", None),
            ("SSS", "", None),
        ];
        for (pattern, text, micros) in cases {
            assert_eq!(read(pattern, text), micros, "{pattern} {text}");
        }
    }

    #[test]
    fn a_pattern_that_says_no_time_is_refused() {
        let cases = [
            (
                "yyyy-MM-dd z",
                "at character 12: `z` is the name of a time zone, which nothing is read from; `Z` is an offset",
            ),
            ("xxxx-'W'ww", "at character 1: `x` says no day by itself: use y, M and d, or y and D"),
            ("yyyy-MM-ddTHH", "at character 11: `T` is no letter of Joda's patterns; text stands in quotes"),
            ("yyyy 'x", "at character 6: a quote that does not end"),
            ("", "the pattern has no letters"),
            ("'x'", "the pattern has no letters"),
        ];
        for (pattern, message) in cases {
            assert_eq!(pattern.parse::<Joda>().expect_err(pattern).to_string(), message);
        }
    }

    proptest! {
        #[test]
        fn every_time_is_the_one_of_another_calendar(seconds in -62_135_596_800i64..253_402_300_799, millis in 0i64..1000) {
            let time = jiff::Timestamp::new(seconds, 0).expect("a time").to_string();
            let text = format!("{}.{millis:03}Z", time.trim_end_matches('Z'));
            prop_assert_eq!(read("yyyy-MM-dd'T'HH:mm:ss.SSSZ", &text), Some(seconds * 1_000_000 + millis * 1000));
        }

        #[test]
        fn nothing_panics(pattern in "[yMdDEaHkKhmsSZ':/ é-]{0,12}", text in "[-+0-9:/ ZTé]{0,20}|\\PC{0,10}") {
            if let Ok(joda) = pattern.parse::<Joda>() {
                let _ = joda.micros(&text);
            }
        }
    }
}
