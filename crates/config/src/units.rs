//! Implements, of the arrow `what the user wrote -> what it means`: sizes, durations and start positions as text.
//!
//! Never: repeats the text in an error (it may have come from the environment); rounds a duration.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;

/// Where reading begins when a shard has no checkpoint yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartPosition {
    /// The oldest record that the stream holds.
    TrimHorizon,
    /// What arrives from now on.
    Latest,
    /// What arrived at or after this instant, in milliseconds since 1970.
    At(i64),
    /// What arrived at or after this long before the lease is made.
    Ago(Duration),
}

/// Why a text is not a size, a duration or a start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct UnitError {
    /// What is wrong with it, in words that do not repeat it.
    pub reason: &'static str,
    /// What to write.
    pub hint: String,
}

/// Spellings of units; "MB" is 2^20, as Firehose's is.
const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
    ("TB", 1 << 40),
    ("GB", 1 << 30),
    ("MB", 1 << 20),
    ("KB", 1 << 10),
];

const DURATIONS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a size in bytes: `5MiB`, `1.5GiB`, `128MB` (2^20 each), or a number of bytes. A fraction is rounded down to
/// whole bytes.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let fail = |reason, hint: &str| Err(UnitError { reason, hint: hint.to_owned() });
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (whole, mut rest) = text.split_at(digits);
    if whole.is_empty() {
        return fail("a size begins with a number", "for example `5MiB`");
    }
    let Ok(whole) = whole.parse::<u64>() else {
        return fail("that is more than can be counted", "for example `5MiB`");
    };
    let mut fraction = "";
    if let Some(after) = rest.strip_prefix('.') {
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        (fraction, rest) = after.split_at(digits);
        if fraction.is_empty() || fraction.len() > 9 {
            return fail("a fraction has one to nine digits", "for example `1.5GiB`");
        }
    }
    let unit = rest.trim_start();
    if unit.is_empty() {
        return if fraction.is_empty() { Ok(whole) } else { fail("a fraction of a byte", "for example `1.5GiB`") };
    }
    let Some((_, factor)) = SIZES.iter().find(|(name, _)| *name == unit) else {
        let nearest =
            SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit) || name[..1].eq_ignore_ascii_case(unit));
        let names = "the units are B, KiB, MiB, GiB, TiB".to_owned();
        let hint = nearest.map_or(names, |(name, _)| format!("did you mean `{name}`?"));
        return Err(UnitError { reason: "the unit is not known", hint });
    };
    let scale = 10u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
    let fraction: u128 = if fraction.is_empty() { 0 } else { fraction.parse().unwrap_or(0) };
    let bytes = u128::from(whole) * u128::from(*factor) + fraction * u128::from(*factor) / scale;
    match u64::try_from(bytes) {
        Ok(bytes) => Ok(bytes),
        Err(_) => fail("that is more than can be counted", "for example `5MiB`"),
    }
}

/// A size as a user would write it: the largest unit that leaves no fraction.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    let (unit, factor) =
        SIZES[..5].iter().find(|(_, factor)| bytes != 0 && bytes.is_multiple_of(*factor)).unwrap_or(&("B", 1));
    format!("{}{unit}", bytes / factor)
}

/// Reads a duration: `300s`, `5m`, `1h30m`, `250ms`, `7d`; whole numbers with units, from large to small.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let fail = |reason, hint: &str| Err(UnitError { reason, hint: hint.to_owned() });
    let text = text.trim();
    let mut rest = text;
    let mut millis: u64 = 0;
    let mut smaller_than = u64::MAX;
    if rest.is_empty() {
        return fail("a duration begins with a number", "for example `5m`");
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        if number.is_empty() {
            return fail("a duration begins with a number", "for example `5m`");
        }
        if after.is_empty() {
            let hint = if digits == text.len() && digits <= 9 {
                format!("for seconds write `{number}s`")
            } else {
                "for example `5m`".to_owned()
            };
            return Err(UnitError { reason: "the unit is missing", hint });
        }
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at(letters);
        let Some((_, factor)) = DURATIONS.iter().find(|(name, _)| *name == unit) else {
            let hint = if after.starts_with('.') {
                "write `90s` or `1m30s` instead of a fraction"
            } else {
                "the units are ms, s, m, h, d"
            };
            return fail("the unit is not known", hint);
        };
        if *factor >= smaller_than {
            return fail("units go from large to small, each once", "for example `1h30m`");
        }
        smaller_than = *factor;
        let Some(sum) =
            number.parse::<u64>().ok().and_then(|n| n.checked_mul(*factor)).and_then(|n| n.checked_add(millis))
        else {
            return fail("that is longer than can be counted", "for example `5m`");
        };
        millis = sum;
        rest = next;
    }
    Ok(Duration::from_millis(millis))
}

/// A duration as a user would write it, in whole milliseconds.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let mut millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, factor) in DURATIONS {
        if millis >= factor {
            write!(text, "{}{unit}", millis / factor).expect("writing to a string does not fail");
            millis %= factor;
        }
    }
    text
}

/// Reads a start: `trim_horizon`, `latest`, a time such as `2026-01-31T12:00:00Z`, or `-6h`.
pub fn parse_start(text: &str) -> Result<StartPosition, UnitError> {
    match text.trim() {
        "trim_horizon" => Ok(StartPosition::TrimHorizon),
        "latest" => Ok(StartPosition::Latest),
        ago if ago.starts_with('-') => match parse_duration(&ago[1..]) {
            Ok(duration) => Ok(StartPosition::Ago(duration)),
            Err(UnitError { reason, .. }) => Err(UnitError { reason, hint: "for example `-6h`".to_owned() }),
        },
        time if time.starts_with(|c: char| c.is_ascii_digit()) => match time.parse::<Timestamp>() {
            Ok(instant) => Ok(StartPosition::At(instant.as_millisecond())),
            Err(_) => Err(UnitError {
                reason: "a time has a date, a clock and an offset",
                hint: "for example `2026-01-31T12:00:00Z`".to_owned(),
            }),
        },
        other => {
            let nearest = crate::nearest::nearest(other, ["trim_horizon", "latest"]);
            let hint = match (nearest, other.to_ascii_lowercase().as_str()) {
                (Some(word), _) => format!("did you mean `{word}`?"),
                (None, "earliest" | "oldest" | "beginning") => "did you mean `trim_horizon`?".to_owned(),
                (None, "newest" | "now" | "end") => "did you mean `latest`?".to_owned(),
                _ => "one of trim_horizon, latest, a time such as 2026-01-31T12:00:00Z, or -6h".to_owned(),
            };
            Err(UnitError { reason: "it names no place in a stream", hint })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_powers_of_two() {
        assert_eq!(parse_size("5MiB"), Ok(5 << 20));
        assert_eq!(parse_size("128MB"), Ok(128 << 20));
        assert_eq!(parse_size("1.5GiB"), Ok(3 << 29));
        assert_eq!(parse_size("5 MiB"), Ok(5 << 20));
        assert_eq!(parse_size("5242880"), Ok(5 << 20));
        assert_eq!(parse_size("0.5B"), Ok(0));
        for bad in ["", "MiB", "-5MiB", "5.MiB", "1.5", "5mib", "5Mi", "99999999999TiB", "5MiB5", "1e6", "0x10"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_size("5mb").expect_err("case").hint, "did you mean `MB`?");
        assert_eq!(parse_size("5M").expect_err("short").hint, "did you mean `MiB`?");
    }

    #[test]
    fn durations_need_their_units() {
        assert_eq!(parse_duration("300s"), Ok(Duration::from_secs(300)));
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_duration("300").expect_err("bare").hint, "for seconds write `300s`");
        for bad in ["", "s", "5", "5x", "1.5h", "30m1h", "5s5s", "-5s", "5m ", "99999999999999999999s"] {
            assert_eq!(parse_duration(bad).is_ok(), bad == "5m ", "{bad}");
        }
    }

    #[test]
    fn a_start_is_a_word_a_time_or_a_distance() {
        assert_eq!(parse_start("trim_horizon"), Ok(StartPosition::TrimHorizon));
        assert_eq!(parse_start("1970-01-01T00:00:01Z"), Ok(StartPosition::At(1000)));
        assert_eq!(parse_start("1970-01-01T01:00:00.5+01:00"), Ok(StartPosition::At(500)));
        assert_eq!(parse_start("-6h"), Ok(StartPosition::Ago(Duration::from_secs(21_600))));
        assert_eq!(parse_start("TRIM_HORIZON").expect_err("case").hint, "did you mean `trim_horizon`?");
        assert_eq!(parse_start("earliest").expect_err("Kafka's").hint, "did you mean `trim_horizon`?");
        assert!(parse_start("2026-01-31").is_err(), "a date alone has no instant");
        assert!(parse_start("2026-01-31T12:00:00").is_err(), "nor has a time without an offset");
    }

    proptest! {
        #[test]
        fn sizes_come_back(bytes: u64) {
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }

        #[test]
        fn round_sizes_come_back(n in 0u64..4096, shift in 0u32..5) {
            let bytes = n << (10 * shift);
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }

        #[test]
        fn durations_come_back(millis: u64) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn no_string_panics(text in ".{0,40}", likely in "[0-9.KMGTiBsmhd+:TZ -]{0,30}") {
            for text in [text, likely] {
                let _ = (parse_size(&text), parse_duration(&text), parse_start(&text));
            }
        }
    }
}
