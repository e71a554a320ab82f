//! `Retry-After -> how long to wait`: seconds, or a date.
//!
//! A date counts from the server's own `Date`, where the answer has one: clocks differ. Never here: a clock, a wait.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use standpipe_flow::Millis;

/// A server that asks for more patience than this is asked again anyway.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// How long `header` asks to wait, at most [`RETRY_AFTER_MAX`]; none where it says nothing that can be read. `date` is the
/// answer's `Date`, `now` stands in for one that is not there.
pub(super) fn retry_after(header: &str, date: Option<&str>, now: Millis) -> Option<Duration> {
    let header = header.trim();
    if !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number has are a long time too.
        let seconds = header.parse::<u64>().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
    }
    let until = instant(header)?;
    let from = date.and_then(instant).or_else(|| Timestamp::from_millisecond(i64::try_from(now.0).ok()?).ok())?;
    // One that is over: at once.
    let millis = until.as_millisecond().saturating_sub(from.as_millisecond()).max(0).unsigned_abs();
    Some(Duration::from_millis(millis).min(RETRY_AFTER_MAX))
}

/// A date as HTTP writes it (RFC 9110, IMF-fixdate).
fn instant(text: &str) -> Option<Timestamp> {
    DateTimeParser::new().parse_timestamp(text.trim()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DATE: &str = "Thu, 26 Nov 2026 09:00:00 GMT";

    #[test]
    fn seconds_and_dates_are_read_and_nothing_else() {
        let asked = |header: &str, date: Option<&str>| {
            retry_after(header, date, Millis(1_795_683_590_000)).map(|after| after.as_secs())
        };
        for (header, expected) in
            [("7", 7), (" 120 ", 120), ("0", 0), ("999999", 3600), ("99999999999999999999999", 3600)]
        {
            assert_eq!(asked(header, None), Some(expected), "{header}");
        }
        assert_eq!(asked("Thu, 26 Nov 2026 09:02:00 GMT", Some(DATE)), Some(120));
        assert_eq!(asked("Thu, 26 Nov 2026 09:00:00 GMT", None), Some(10), "from our own clock");
        assert_eq!(asked("Thu, 26 Nov 2026 08:00:00 GMT", Some(DATE)), Some(0));
        assert_eq!(asked("Fri, 26 Nov 2027 09:00:00 GMT", Some("no date")), Some(3600));
        for bad in ["", "-1", "1.5", "7s", "soon", "1e3", "Thu, 99 Nov 2026 09:00:00 GMT"] {
            assert_eq!(asked(bad, Some(DATE)), None, "{bad}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

        #[test]
        fn no_header_panics_or_asks_for_more_than_an_hour(
            header in "(\\PC{0,8}|[0-9]{0,30}|(Mon|Thu), [0-9]{1,2} (Nov|Feb) [0-9]{1,5} [0-9]{2}:[0-9]{2}:[0-9]{2} (GMT|UTC|\\+9999))",
            date in proptest::option::of("\\PC{0,8}|Thu, [0-9]{1,2} Nov [0-9]{1,5} 09:00:00 GMT"),
            now in any::<u64>(),
        ) {
            let after = retry_after(&header, date.as_deref(), Millis(now));
            prop_assert!(after.is_none_or(|after| after <= RETRY_AFTER_MAX));
        }
    }
}
