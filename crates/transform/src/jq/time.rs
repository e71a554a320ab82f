//! Dates, in UTC and in the C locale, as `strftime` and `strptime` of the GNU C library have them.
//!
//! Never here: the time of day. The same record gives the same text at any time and place.

use std::fmt::Write;

use super::run::{Outcome, Run, raise, raise_plain};
use super::value::Value;

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
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
/// Bytes of what `strftime` makes.
const TEXT_MAX: usize = 4_096;

/// Broken-down time, the fields as jq has them: months and days of the year from 0, Sunday is 0.
#[derive(Clone, Copy, Default, Debug)]
struct Time {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: f64,
    weekday: i64,
    yearday: i64,
}

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar; months from 0, any day of a month.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = (year + month.div_euclid(12), month.rem_euclid(12));
    // Years that begin in March have their leap day at their end.
    let year = if month < 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 10) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

impl Time {
    fn at(seconds: f64) -> Self {
        // A fraction before 1970 rounds towards it, and stays as it would be counted from below: as in jq 1.6.
        let (whole, fraction) = (seconds.trunc(), seconds - seconds.floor());
        let (days, of_day) = ((whole as i64).div_euclid(86_400), (whole as i64).rem_euclid(86_400));
        let shifted = days + 719_468;
        let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let month = (month + 2) % 12;
        let year = year_of_era + era * 400 + i64::from(month < 2);
        Self {
            year,
            month,
            day,
            hour: of_day / 3_600,
            minute: of_day / 60 % 60,
            second: (of_day % 60) as f64 + fraction,
            weekday: (days + 4).rem_euclid(7),
            yearday: days - days_of(year, 0, 1),
        }
    }

    fn days(&self) -> i64 {
        days_of(self.year, self.month, self.day)
    }

    fn seconds(&self) -> i64 {
        self.days() * 86_400 + self.hour * 3_600 + self.minute * 60 + self.second as i64
    }

    fn array(&self, run: &Run<'_>) -> Outcome<Value> {
        let fields = [self.year, self.month, self.day, self.hour, self.minute];
        let mut items: Vec<_> = fields.iter().map(|field| Value::Num(*field as f64)).collect();
        items.push(Value::Num(self.second));
        items.extend([self.weekday, self.yearday].iter().map(|field| Value::Num(*field as f64)));
        run.array(items)
    }

    /// Of jq's array of eight numbers.
    fn of(value: &Value) -> Option<Self> {
        let Value::Arr(array) = value else { return None };
        let fields: Vec<f64> = array.items().iter().take(8).map_while(Value::number).collect();
        // What C's int cannot hold would be nonsense there, too.
        if fields.len() < 8 || fields.iter().any(|field| field.is_nan() || field.abs() > 1e9) {
            return None;
        }
        let field = |index: usize| fields[index] as i64;
        Some(Self {
            year: field(0),
            month: field(1),
            day: field(2),
            hour: field(3),
            minute: field(4),
            second: fields[5],
            weekday: field(6),
            yearday: field(7),
        })
    }
}

/// `gmtime`
pub(super) fn gmtime(run: &Run<'_>, value: Value, _: &[Value]) -> Outcome<Value> {
    match value.number() {
        Some(seconds) => broken_down(seconds)?.array(run),
        None => raise_plain("gmtime() requires a number"),
    }
}

fn broken_down(seconds: f64) -> Outcome<Time> {
    if seconds.is_nan() || seconds.abs() > 1e16 {
        return raise_plain("error converting number of seconds since epoch to datetime");
    }
    Ok(Time::at(seconds))
}

/// `mktime`
pub(super) fn mktime(_: &Run<'_>, value: Value, _: &[Value]) -> Outcome<Value> {
    match (&value, Time::of(&value)) {
        (_, Some(time)) => Ok(Value::Num(time.seconds() as f64)),
        (Value::Arr(_), None) => raise_plain("mktime requires parsed datetime inputs"),
        _ => raise_plain("mktime requires array of 6 numbers"),
    }
}

/// `strftime`
pub(super) fn strftime(run: &Run<'_>, value: Value, args: &[Value]) -> Outcome<Value> {
    let time = match value.number() {
        Some(seconds) => Some(broken_down(seconds)?),
        None => Time::of(&value),
    };
    let Some(time) = time else { return raise_plain("strftime/1 requires parsed datetime inputs") };
    let Some(Value::Str(format)) = args.first() else { return raise_plain("strftime/1 requires a string format") };
    run.steps(format.len() as u64)?;
    let mut out = String::new();
    print(&time, format, &mut out);
    if out.is_empty() || out.len() > TEXT_MAX {
        return raise_plain("strftime/1: unknown system failure");
    }
    run.string(out)
}

fn print(time: &Time, format: &str, out: &mut String) {
    let mut chars = format.chars();
    while let Some(char) = chars.next() {
        if out.len() > TEXT_MAX {
            return;
        }
        if char != '%' {
            out.push(char);
            continue;
        }
        let mut spec = chars.clone();
        let mut pad = None;
        let mut letter = spec.next();
        while let Some(flag @ ('-' | '_' | '0' | '^' | 'E' | 'O')) = letter {
            pad = Some(flag);
            letter = spec.next();
        }
        let begin = out.len();
        if letter.is_none_or(|letter| !print_one(time, letter, pad, out)) {
            out.truncate(begin);
            out.push('%');
            continue;
        }
        if pad == Some('^') {
            let upper = out[begin..].to_uppercase();
            out.replace_range(begin.., &upper);
        }
        chars = spec;
    }
}

/// Prints what one letter stands for; false where it stands for nothing.
fn print_one(time: &Time, letter: char, pad: Option<char>, out: &mut String) -> bool {
    let mut number = |value: i64, width: usize, fill: char| {
        let _ = match pad.filter(|pad| matches!(pad, '-' | '_' | '0')).unwrap_or(fill) {
            '-' => write!(out, "{value}"),
            '_' | ' ' => write!(out, "{value:width$}"),
            _ => write!(out, "{value:0width$}"),
        };
    };
    let hour12 = (time.hour + 11).rem_euclid(12) + 1;
    match letter {
        'Y' => number(time.year, 1, '-'),
        'C' => number(time.year.div_euclid(100), 2, '0'),
        'y' => number(time.year.rem_euclid(100), 2, '0'),
        'm' => number(time.month + 1, 2, '0'),
        'd' => number(time.day, 2, '0'),
        'e' => number(time.day, 2, ' '),
        'H' => number(time.hour, 2, '0'),
        'k' => number(time.hour, 2, ' '),
        'I' => number(hour12, 2, '0'),
        'l' => number(hour12, 2, ' '),
        'M' => number(time.minute, 2, '0'),
        'S' => number(time.second as i64, 2, '0'),
        'j' => number(time.yearday + 1, 3, '0'),
        'u' => number((time.weekday + 6).rem_euclid(7) + 1, 1, '0'),
        'w' => number(time.weekday, 1, '0'),
        'U' => number((time.yearday + 7 - time.weekday).div_euclid(7), 2, '0'),
        'W' => number((time.yearday + 7 - (time.weekday + 6).rem_euclid(7)).div_euclid(7), 2, '0'),
        'V' => number(iso_week(time).1, 2, '0'),
        'G' => number(iso_week(time).0, 1, '-'),
        'g' => number(iso_week(time).0.rem_euclid(100), 2, '0'),
        's' => number(time.seconds(), 1, '-'),
        _ => return print_text(time, letter, out),
    }
    true
}

fn print_text(time: &Time, letter: char, out: &mut String) -> bool {
    let day = usize::try_from(time.weekday).ok().and_then(|day| DAYS.get(day)).unwrap_or(&"?");
    let month = usize::try_from(time.month).ok().and_then(|month| MONTHS.get(month)).unwrap_or(&"?");
    match letter {
        'a' => out.push_str(&day[..day.len().min(3)]),
        'A' => out.push_str(day),
        'b' | 'h' => out.push_str(&month[..month.len().min(3)]),
        'B' => out.push_str(month),
        'p' => out.push_str(if time.hour < 12 { "AM" } else { "PM" }),
        'P' => out.push_str(if time.hour < 12 { "am" } else { "pm" }),
        'z' => out.push_str("+0000"),
        'Z' => out.push_str("UTC"),
        'n' => out.push('\n'),
        't' => out.push('\t'),
        '%' => out.push('%'),
        'c' => print(time, "%a %b %e %H:%M:%S %Y", out),
        'D' | 'x' => print(time, "%m/%d/%y", out),
        'F' => print(time, "%Y-%m-%d", out),
        'T' | 'X' => print(time, "%H:%M:%S", out),
        'R' => print(time, "%H:%M", out),
        'r' => print(time, "%I:%M:%S %p", out),
        _ => return false,
    }
    true
}

/// Year and week of ISO 8601: weeks begin on Monday, the first has the year's first Thursday.
fn iso_week(time: &Time) -> (i64, i64) {
    let week = |yearday: i64, weekday: i64| (yearday - (weekday + 6).rem_euclid(7) + 10).div_euclid(7);
    let weeks_in = |year: i64| {
        let first = (days_of(year, 0, 1) + 4).rem_euclid(7);
        let leap = days_of(year + 1, 0, 1) - days_of(year, 0, 1) == 366;
        if first == 4 || (leap && first == 3) { 53 } else { 52 }
    };
    match week(time.yearday, time.weekday) {
        0 => (time.year - 1, weeks_in(time.year - 1)),
        53 if weeks_in(time.year) < 53 => (time.year + 1, 1),
        week => (time.year, week),
    }
}

/// `strptime`
pub(super) fn strptime(run: &Run<'_>, value: Value, args: &[Value]) -> Outcome<Value> {
    let Value::Str(text) = &value else {
        let what = "cannot be parsed as a date: strptime/1 requires string inputs and arguments";
        return raise(format!("{} {what}", value.shown()), format!("{} {what}", value.kind()));
    };
    let Some(Value::Str(format)) = args.first() else {
        return raise_plain("strptime/1 requires string inputs and arguments");
    };
    run.steps((text.len() + format.len()) as u64)?;
    let mut scan = Scan { rest: text.as_bytes(), ..Scan::default() };
    let read = scan.all(format);
    if read.is_none() || !scan.rest.first().is_none_or(u8::is_ascii_whitespace) {
        let text = format!("date \"{text}\" does not match format \"{format}\"");
        return raise(text, format!("the date does not match the format \"{format}\""));
    }
    let mut fields = scan.time().array(run)?;
    if let (Value::Arr(array), false) = (&mut fields, scan.rest.is_empty()) {
        let rest = run.string(String::from_utf8_lossy(scan.rest))?;
        let array = run.array_mut(array)?;
        run.put_item(array, 8, rest)?;
    }
    Ok(fields)
}

/// What was read of a date so far.
#[derive(Default)]
struct Scan<'a> {
    rest: &'a [u8],
    time: Time,
    century: Option<i64>,
    afternoon: bool,
    twelve: bool,
    has: (bool, bool, bool, bool, bool),
}

impl Scan<'_> {
    fn all(&mut self, format: &str) -> Option<()> {
        let mut chars = format.chars();
        while let Some(char) = chars.next() {
            match char {
                char if char.is_ascii_whitespace() => self.space(),
                '%' => {
                    let mut letter = chars.next()?;
                    while let '-' | '_' | '0' | '^' | '#' | 'E' | 'O' = letter {
                        letter = chars.next()?;
                    }
                    self.one(letter)?;
                }
                char => self.rest = self.rest.strip_prefix(char.encode_utf8(&mut [0; 4]).as_bytes())?,
            }
        }
        Some(())
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    /// A number of so many digits at most, behind any spaces.
    fn number(&mut self, range: std::ops::RangeInclusive<i64>, mut digits: u32) -> Option<i64> {
        while let [b' ', rest @ ..] = self.rest {
            self.rest = rest;
        }
        let mut value = 0;
        let mut any = false;
        while let [digit @ b'0'..=b'9', rest @ ..] = self.rest {
            if digits == 0 || (any && value * 10 > *range.end()) {
                break;
            }
            value = value * 10 + i64::from(digit - b'0');
            self.rest = rest;
            digits -= 1;
            any = true;
        }
        (any && range.contains(&value)).then_some(value)
    }

    /// One of the names, or its first three letters, whatever their case.
    fn name(&mut self, names: &[&str]) -> Option<i64> {
        let begins =
            |name: &str| self.rest.get(..name.len()).is_some_and(|text| text.eq_ignore_ascii_case(name.as_bytes()));
        let found = names.iter().enumerate().find_map(|(index, name)| {
            let length = [*name, &name[..name.len().min(3)]].into_iter().find(|name| begins(name)).map(str::len)?;
            Some((index, length))
        });
        let (index, length) = found?;
        self.rest = &self.rest[length..];
        i64::try_from(index).ok()
    }

    fn one(&mut self, letter: char) -> Option<()> {
        match letter {
            'Y' => {
                self.time.year = self.number(0..=9_999, 4)?;
                (self.has.0, self.century) = (true, None);
            }
            'C' => self.century = Some(self.number(0..=99, 2)?),
            'y' => {
                let year = self.number(0..=99, 2)?;
                self.time.year = if year >= 69 { 1_900 + year } else { 2_000 + year };
                self.has.0 = true;
            }
            'm' => (self.time.month, self.has.1) = (self.number(1..=12, 2)? - 1, true),
            'b' | 'B' | 'h' => (self.time.month, self.has.1) = (self.name(&MONTHS)?, true),
            'd' | 'e' => (self.time.day, self.has.2) = (self.number(1..=31, 2)?, true),
            'j' => (self.time.yearday, self.has.3) = (self.number(1..=366, 3)? - 1, true),
            'a' | 'A' => (self.time.weekday, self.has.4) = (self.name(&DAYS)?, true),
            'u' => (self.time.weekday, self.has.4) = (self.number(1..=7, 1)? % 7, true),
            'w' => (self.time.weekday, self.has.4) = (self.number(0..=6, 1)?, true),
            'H' | 'k' => (self.time.hour, self.twelve) = (self.number(0..=23, 2)?, false),
            'I' | 'l' => (self.time.hour, self.twelve) = (self.number(1..=12, 2)? % 12, true),
            'M' => self.time.minute = self.number(0..=59, 2)?,
            'S' => self.time.second = self.number(0..=61, 2)? as f64,
            'p' => self.afternoon = self.name(&["AM", "PM"])? == 1,
            's' => {
                let seconds = self.number(0..=100_000_000_000_000, 15)?;
                self.time = Time::at(seconds as f64);
                self.has = (true, true, true, true, true);
            }
            'U' | 'W' | 'V' => drop(self.number(0..=53, 2)?),
            'g' => drop(self.number(0..=99, 2)?),
            'G' => drop(self.number(0..=9_999, 4)?),
            'z' => self.zone()?,
            'Z' => {
                self.space();
                let end = self.rest.iter().position(u8::is_ascii_whitespace).unwrap_or(self.rest.len());
                self.rest = &self.rest[end..];
            }
            'n' | 't' => self.space(),
            '%' => self.rest = self.rest.strip_prefix(b"%")?,
            'c' => self.all("%a %b %e %H:%M:%S %Y")?,
            'D' | 'x' => self.all("%m/%d/%y")?,
            'F' => self.all("%Y-%m-%d")?,
            'T' | 'X' => self.all("%H:%M:%S")?,
            'R' => self.all("%H:%M")?,
            'r' => self.all("%I:%M:%S %p")?,
            _ => return None,
        }
        Some(())
    }

    /// The offset of a time zone, which jq 1.6 reads and forgets.
    fn zone(&mut self) -> Option<()> {
        self.space();
        if let [b'Z', rest @ ..] = self.rest {
            self.rest = rest;
            return Some(());
        }
        let ([b'+' | b'-', rest @ ..], mut digits) = (self.rest, 0) else { return None };
        self.rest = rest;
        while let ([digit, rest @ ..], true) = (self.rest, digits < 4) {
            match digit {
                b'0'..=b'9' => digits += 1,
                b':' if digits == 2 => {}
                _ => break,
            }
            self.rest = rest;
        }
        matches!(digits, 2 | 4).then_some(())
    }

    /// The fields, those that follow from others as well.
    fn time(&self) -> Time {
        let mut time = self.time;
        let (year, month, day, yearday, weekday) = self.has;
        if self.twelve && self.afternoon {
            time.hour += 12;
        }
        if let Some(century) = self.century {
            time.year = century * 100 + if year { time.year.rem_euclid(100) } else { 0 };
        } else if !year {
            time.year = 1_900;
        }
        if yearday && !(month && day) {
            let date = Time::at((days_of(time.year, 0, 1) + time.yearday) as f64 * 86_400.0);
            (time.month, time.day) =
                (if month { time.month } else { date.month }, if day { time.day } else { date.day });
        }
        let dated = day || yearday || time.day > 0;
        if !weekday {
            time.weekday = if dated { (time.days() + 4).rem_euclid(7) } else { 8 };
        }
        if !yearday {
            time.yearday = if dated { time.days() - days_of(time.year, 0, 1) } else { 367 };
        }
        time
    }
}
