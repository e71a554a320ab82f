//! Renders a Java date pattern as Java does: `DateTimeFormatter.ofPattern(pattern, Locale.US)` on an instant in a zone.
//!
//! Pure. What each letter prints was compared with a Java run, `golden/java_patterns.tsv`. Weeks are those of the US
//! locale: they begin on Sunday, and the week with January 1 is the first.
//! Never: reads a pattern's text (that is `standpipe_config::java_pattern`) or refuses one; where Java throws (a padding
//! too narrow for its field) the field is printed whole, because a batch must not fail over a name.

use std::fmt::Write as _;

use jiff::Zoned;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use standpipe_config::java_pattern::{PatternField, PatternPart};
use standpipe_flow::Millis;

/// The instant in the zone. One beyond the year 9999 is that year's end: no service gives such a time.
pub fn zoned(at: Millis, zone: &TimeZone) -> Zoned {
    let at = i64::try_from(at.0).ok().and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
    at.unwrap_or(jiff::Timestamp::MAX).to_zoned(zone.clone())
}

/// Adds the pattern's rendering of `at` to `out`.
pub fn render(parts: &[PatternPart], at: &Zoned, out: &mut String) {
    for part in parts {
        match part {
            PatternPart::Literal(text) => out.push_str(text),
            PatternPart::Field(field) => render_field(*field, at, out),
            PatternPart::Optional(section) => render(section, at, out),
        }
    }
}

fn render_field(field: PatternField, at: &Zoned, out: &mut String) {
    let text = field_text(field.letter, field.count, at);
    let spaces = field.pad.saturating_sub(text.chars().count());
    out.extend(std::iter::repeat_n(' ', spaces));
    out.push_str(&text);
}

fn field_text(letter: char, count: usize, at: &Zoned) -> String {
    match letter {
        'G' => ["AD", "Anno Domini", "A"][width(count)].to_owned(),
        'y' | 'u' => year(at.year().into(), count),
        'Y' => year(week_of_year(at).0, count),
        'w' => number(week_of_year(at).1, count),
        'W' => number(week(at.day().into(), at, at.day().into()), count),
        'Q' | 'q' => quarter((i64::from(at.month()) + 2) / 3, count),
        'M' | 'L' if count > 2 => shortened(MONTHS[usize::from(at.month().unsigned_abs()) - 1], count),
        'M' | 'L' => number(at.month().into(), count),
        'E' => shortened(day_name(at), count),
        'e' | 'c' if count > 2 => shortened(day_name(at), count),
        'e' | 'c' => number(at.weekday().to_sunday_one_offset().into(), count),
        'D' => number(at.day_of_year().into(), count),
        'd' => number(at.day().into(), count),
        'a' => if at.hour() < 12 { "AM" } else { "PM" }.to_owned(),
        'V' => zone_id(at),
        'z' => zone_name(at, count),
        'O' => localized_offset(at, count == 4),
        'X' => offset(at, count, true),
        'x' => offset(at, count, false),
        'Z' => match count {
            4 => localized_offset(at, true),
            5 => offset(at, 5, true),
            _ => offset(at, 2, false),
        },
        _ => time_of_day(letter, count, at),
    }
}

fn time_of_day(letter: char, count: usize, at: &Zoned) -> String {
    let hour = i64::from(at.hour());
    let nano = i64::from(at.subsec_nanosecond());
    let second_of_day = (hour * 60 + i64::from(at.minute())) * 60 + i64::from(at.second());
    match letter {
        'H' => number(hour, count),
        'k' => number(if hour == 0 { 24 } else { hour }, count),
        'K' => number(hour % 12, count),
        'h' => number(if hour % 12 == 0 { 12 } else { hour % 12 }, count),
        'm' => number(at.minute().into(), count),
        's' => number(at.second().into(), count),
        'S' => format!("{nano:09}")[..count.min(9)].to_owned(),
        'n' => number(nano, count),
        'A' => number(second_of_day * 1_000 + nano / 1_000_000, count),
        'N' => number(second_of_day * 1_000_000_000 + nano, count),
        // `java_pattern::parse` lets no other letter through.
        _ => String::new(),
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Short, full or narrow, as an index.
fn width(count: usize) -> usize {
    count.saturating_sub(3).min(2)
}

/// An English name of a month or a day: its first three letters, whole, or its first letter.
fn shortened(name: &str, count: usize) -> String {
    let letters = [3, name.len(), 1][width(count)];
    name[..letters].to_owned()
}

fn day_name(at: &Zoned) -> &'static str {
    match at.weekday() {
        Weekday::Monday => "Monday",
        Weekday::Tuesday => "Tuesday",
        Weekday::Wednesday => "Wednesday",
        Weekday::Thursday => "Thursday",
        Weekday::Friday => "Friday",
        Weekday::Saturday => "Saturday",
        Weekday::Sunday => "Sunday",
    }
}

fn quarter(quarter: i64, count: usize) -> String {
    match count {
        3 => format!("Q{quarter}"),
        4 => ["1st quarter", "2nd quarter", "3rd quarter", "4th quarter"][(quarter - 1) as usize].to_owned(),
        5 => quarter.to_string(),
        _ => number(quarter, count),
    }
}

fn number(value: i64, digits_min: usize) -> String {
    format!("{value:0digits_min$}")
}

/// Two letters are the last two digits (Java's reduced year, base 2000); otherwise at least as many digits as letters.
fn year(year: i64, count: usize) -> String {
    if count == 2 { number(year % 100, 2) } else { number(year, count) }
}

/// The week that `day` (of a month or year, 1-based) falls in; `at` is a date in it whose number is `of`.
fn week(day: i64, at: &Zoned, of: i64) -> i64 {
    let weekday = i64::from(at.weekday().to_sunday_one_offset());
    // Days between the last Sunday on or before day 1 and day 1 itself, turned round as Java's `startOfWeekOffset`.
    let start = (of - weekday).rem_euclid(7);
    let offset = if start == 0 { 0 } else { 7 - start };
    (7 + offset + day - 1) / 7
}

/// Week-based year and week in it: the last days of December belong to the week with January 1.
fn week_of_year(at: &Zoned) -> (i64, i64) {
    let day = i64::from(at.day_of_year());
    let this = week(day, at, day);
    let next = week(i64::from(at.days_in_year()) + 1, at, day);
    if this >= next { (i64::from(at.year()) + 1, this - next + 1) } else { (at.year().into(), this) }
}

fn zone_id(at: &Zoned) -> String {
    at.time_zone().iana_name().map_or_else(|| offset(at, 5, true), str::to_owned)
}

/// The abbreviation in the time zone database, which for a few zones is a number where Java has letters. Only UTC has a
/// full name here; another zone prints its id instead.
fn zone_name(at: &Zoned, count: usize) -> String {
    match (at.time_zone().iana_name(), count) {
        (Some("UTC"), 4) => "Coordinated Universal Time".to_owned(),
        (_, 4) => zone_id(at),
        _ => at.time_zone().to_offset_info(at.timestamp()).abbreviation().to_owned(),
    }
}

/// Sign, hours, minutes and seconds of the offset from UTC.
fn offset_parts(at: &Zoned) -> (char, i32, i32, i32) {
    let seconds = at.offset().seconds();
    let of = seconds.abs();
    (if seconds < 0 { '-' } else { '+' }, of / 3600, of / 60 % 60, of % 60)
}

/// `GMT+5:30`, or `GMT+05:30` when full; `GMT` for none.
fn localized_offset(at: &Zoned, full: bool) -> String {
    let (sign, hours, minutes, seconds) = offset_parts(at);
    let mut text = "GMT".to_owned();
    if (hours, minutes, seconds) == (0, 0, 0) {
        return text;
    }
    let digits = if full { 2 } else { 1 };
    let _ = write!(text, "{sign}{hours:0digits$}");
    if full || minutes != 0 || seconds != 0 {
        let _ = write!(text, ":{minutes:02}");
    }
    if seconds != 0 {
        let _ = write!(text, ":{seconds:02}");
    }
    text
}

/// `X` and `x`: 1 hours with minutes if there are any, 2 `+HHMM`, 3 `+HH:MM`, 4 and 5 the same with seconds if any.
fn offset(at: &Zoned, count: usize, zulu: bool) -> String {
    let (sign, hours, minutes, seconds) = offset_parts(at);
    if zulu && (hours, minutes, seconds) == (0, 0, 0) {
        return "Z".to_owned();
    }
    let colon = if matches!(count, 3 | 5) { ":" } else { "" };
    let mut text = format!("{sign}{hours:02}");
    if count > 1 || minutes != 0 {
        let _ = write!(text, "{colon}{minutes:02}");
    }
    if count > 3 && seconds != 0 {
        let _ = write!(text, "{colon}{seconds:02}");
    }
    text
}

#[cfg(test)]
mod tests {
    use standpipe_config::java_pattern;

    use super::*;

    fn rendered(pattern: &str, at: &Zoned) -> String {
        let mut out = String::new();
        render(&java_pattern::parse(pattern).expect("a pattern that Java takes"), at, &mut out);
        out
    }

    #[test]
    fn every_row_of_the_java_run_is_matched() {
        let mut rows = 0;
        let mut wrong = Vec::new();
        for line in include_str!("golden/java_patterns.tsv").lines().filter(|line| !line.starts_with("# ")) {
            let [zone, instant, pattern, expected] = line.split('\t').collect::<Vec<_>>()[..] else {
                panic!("four columns: {line}");
            };
            let zone = if zone == "UTC" { TimeZone::UTC } else { TimeZone::get(zone).expect("a zone") };
            let at: jiff::Timestamp = instant.parse().expect("an instant");
            let at = zoned(Millis(u64::try_from(at.as_millisecond()).expect("after 1970")), &zone);
            let found = rendered(pattern, &at);
            if found != expected {
                wrong.push(format!("{zone:?} {instant} {pattern}: {found:?}, Java {expected:?}"));
            }
            rows += 1;
        }
        assert!(wrong.is_empty(), "{} of {rows} rows:\n{}", wrong.len(), wrong.join("\n"));
        assert!(rows > 1000, "the whole table was read: {rows}");
    }

    #[test]
    fn every_letter_prints_something() {
        let at = zoned(Millis(1_790_000_000_000), &TimeZone::UTC);
        for letter in java_pattern::LETTERS.chars() {
            let pattern = if letter == 'V' { "VV".to_owned() } else { letter.to_string() };
            assert!(!rendered(&pattern, &at).is_empty(), "{letter}");
        }
    }

    #[test]
    fn a_time_without_end_is_the_last_there_is() {
        assert_eq!(rendered("yyyy", &zoned(Millis(u64::MAX), &TimeZone::UTC)), "9999");
    }

    #[test]
    fn a_padding_too_narrow_prints_the_field_whole() {
        let at = zoned(Millis(1_790_000_000_000), &TimeZone::UTC);
        assert_eq!(rendered("pyyyy", &at), "2026");
    }
}
