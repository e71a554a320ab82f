//! `record -> action`: which index, under which id, and the line that says so.
//!
//! An id is a function of where the record stands in the stream, and the index of when it arrived there: so a record that
//! is sent again, by whomever, meets itself.
//! Never here: the document, a clock.

use jiff::civil::ISOWeekDate;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use sha2::{Digest, Sha256};
use standpipe_flow::{LeaseKey, Millis, Record};

/// Bytes of an id, and of a routing value: more is refused, and with it the whole request.
pub(super) const ID_BYTES_MAX: usize = 512;

/// How often there is a new index, by the arrival of records, in UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Rotation {
    /// Always the same one.
    None,
    /// `-2016-02-25-13`.
    Hourly,
    /// `-2016-02-25`.
    #[default]
    Daily,
    /// `-2016-w08`: year and number of the ISO week, which begins on Monday.
    Weekly,
    /// `-2016-02`.
    Monthly,
}

impl Rotation {
    /// What is put behind the index's name.
    pub(super) fn suffix(self, arrival: Millis) -> String {
        // Beyond the years that a timestamp can have: no Kinesis says so.
        let stamp = i64::try_from(arrival.0).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok());
        let at: Zoned = stamp.unwrap_or_default().to_zoned(TimeZone::UTC);
        let (year, month, day) = (at.year(), at.month(), at.day());
        match self {
            Self::None => String::new(),
            Self::Hourly => format!("-{year:04}-{month:02}-{day:02}-{:02}", at.hour()),
            Self::Daily => format!("-{year:04}-{month:02}-{day:02}"),
            Self::Weekly => {
                let week = ISOWeekDate::from_date(at.date());
                format!("-{:04}-w{:02}", week.year(), week.week())
            }
            Self::Monthly => format!("-{year:04}-{month:02}"),
        }
    }

    /// What a suffix is a function of: records of one instant of it share theirs.
    pub(super) fn hour(self, arrival: Millis) -> u64 {
        if self == Self::None { 0 } else { arrival.0 / 3_600_000 }
    }
}

/// The id of a record in a stream, `stream` being what tells that stream from every other: 26 letters and digits.
pub(super) fn generated_id(stream: &str, lease: &LeaseKey, record: &Record) -> String {
    let mut hash = Sha256::new();
    for part in [stream, lease.as_str(), record.sequence.as_str()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.update(record.sub.to_be_bytes());
    hash.update(record.part().to_be_bytes());
    base32(&hash.finalize(), 26)
}

/// RFC 4648, in small letters, without padding: the first so many of them.
fn base32(bytes: &[u8], letters: usize) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let bit = |n: usize| bytes.get(n / 8).map_or(0, |byte| byte >> (7 - n % 8) & 1);
    let letter = |i: usize| (0..5).fold(0, |value, n| value << 1 | bit(i * 5 + n));
    (0..letters).map(|i| char::from(ALPHABET[usize::from(letter(i))])).collect()
}

/// What is done with a document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operation {
    /// Added, unless one of its id is there.
    Create,
    /// Added, in place of one of its id.
    Index,
}

impl Operation {
    /// As it stands in requests and answers.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Index => "index",
        }
    }
}

/// The first of a document's two lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Action<'a> {
    pub operation: Operation,
    pub index: &'a str,
    pub id: Option<&'a str>,
    pub routing: Option<&'a str>,
}

impl Action<'_> {
    /// Appends the line, with its line feed. What comes from a record is a JSON string here, whatever it holds.
    pub(super) fn append(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"");
        out.extend_from_slice(self.operation.name().as_bytes());
        out.extend_from_slice(b"\":{\"_index\":");
        text(self.index, out);
        for (name, value) in [("_id", self.id), ("routing", self.routing)] {
            if let Some(value) = value {
                out.extend_from_slice(b",\"");
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(b"\":");
                text(value, out);
            }
        }
        out.extend_from_slice(b"}}\n");
    }
}

fn text(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a string has JSON, and a vector takes every byte");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use standpipe_flow::{Transformed, conformance};

    use super::*;

    #[test]
    fn an_index_has_the_suffix_of_its_records_arrival() {
        let at = |text: &str| {
            Millis(u64::try_from(text.parse::<Timestamp>().expect("a time").as_millisecond()).expect("after 1970"))
        };
        let suffixes = |text: &str| {
            [Rotation::None, Rotation::Hourly, Rotation::Daily, Rotation::Weekly, Rotation::Monthly]
                .map(|rotation| rotation.suffix(at(text)))
        };
        // Firehose's own example.
        let expected = ["", "-2016-02-25-13", "-2016-02-25", "-2016-w08", "-2016-02"];
        assert_eq!(suffixes("2016-02-25T13:00:00Z"), expected);
        assert_eq!(suffixes("2021-01-01T00:00:00Z")[3], "-2020-w53", "the year is that of the week");
        assert_eq!(suffixes("2026-12-31T23:59:59.999Z")[1], "-2026-12-31-23");
        assert_eq!(Rotation::Daily.suffix(Millis(u64::MAX)), "-1970-01-01", "no panic");
        assert_ne!(Rotation::Hourly.hour(Millis(3_599_999)), Rotation::Hourly.hour(Millis(3_600_000)));
    }

    #[test]
    fn an_id_is_a_function_of_everything_that_names_a_record() {
        let batch = conformance::batch(2);
        let (lease, record) = batch.records_with_lease().next().expect("a record");
        let id = generated_id("arn", lease, record);
        assert_eq!(id, "7rz5vcjx2aqntxh3cgnfp4wanj", "it is the same for ever");
        let part = |part| Record {
            transformed: Some(Box::new(Transformed { part, ..Transformed::default() })),
            ..record.clone()
        };
        let changed = part(0).with_data("{}".into());
        assert_eq!(generated_id("arn", lease, &changed), id, "what is made of the record changes nothing");
        let others = [
            generated_id("arn2", lease, record),
            generated_id("arn", &LeaseKey::new("shardId-9"), record),
            generated_id("arn", lease, &Record { sequence: 77_u64.into(), ..record.clone() }),
            generated_id("arn", lease, &Record { sub: 1, ..record.clone() }),
            generated_id("arn", lease, &part(1)),
            id,
        ];
        assert_eq!(others.iter().collect::<BTreeSet<_>>().len(), others.len());
        assert!(
            others.iter().all(|id| id.len() == 26 && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
        );
    }

    #[test]
    fn base32_is_that_of_the_rfc() {
        assert_eq!(base32(b"foobar", 10), "mzxw6ytboi");
        assert_eq!(base32(b"f", 2), "my");
    }

    #[test]
    fn an_action_is_one_line_whatever_its_id_holds() {
        let mut out = Vec::new();
        let id = "1\n{\"delete\":{}}\n\"\u{2028}";
        let action = Action { operation: Operation::Create, index: "logs-2026", id: Some(id), routing: Some("r\n") };
        action.append(&mut out);
        let expected = "{\"create\":{\"_index\":\"logs-2026\",\"_id\":\"1\\n{\\\"delete\\\":{}}\\n\\\"\u{2028}\",\"routing\":\"r\\n\"}}\n";
        assert_eq!(String::from_utf8(out).expect("text"), expected);
        let mut out = Vec::new();
        Action { operation: Operation::Index, index: "i", id: None, routing: None }.append(&mut out);
        assert_eq!(out, b"{\"index\":{\"_index\":\"i\"}}\n");
    }
}
