//! Names of objects: `<prefix><pipeline>-1-<yyyy-MM-dd-HH-mm-ss>-<cid>[-<n>]<ext>`.
//!
//! Firehose's form, with the commit's id where Firehose has a UUID: no two outputs can write one key, so nothing is ever
//! overwritten, and whoever lists uploads reads from the key which commit made it. `!{timestamp:...}` in the prefix is
//! the arrival of the oldest record in the object; the time in the name is that of the cut. Both in the same zone.
//! Pure: time and randomness come in as arguments.
//! Never: decides what a prefix may say (that is `standpipe_config::template`).

use jiff::tz::TimeZone;
use standpipe_config::java_pattern::{self, PatternPart};
use standpipe_config::template::{Part, Template};
use standpipe_flow::{CommitId, Millis, Random};

use crate::java_time;

/// Characters of `!{firehose:random-string}`.
const RANDOM_STRING_CHARS: usize = 11;
/// What they are drawn from, as observed in Firehose's keys.
const RANDOM_ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// Firehose counts configuration changes here; a pipeline's receipts know its configuration, so this stays 1.
const VERSION: &str = "-1-";
/// `yyyy-MM-dd-HH-mm-ss`.
const CUT_CHARS: usize = 19;
/// Letters of a commit id.
const CID_CHARS: usize = 26;

/// A prefix, ready to be evaluated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyPrefix {
    pieces: Vec<Piece>,
    zone: TimeZone,
    literal_start: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Literal(String),
    Timestamp(Vec<PatternPart>),
    RandomString,
    ErrorOutputType,
}

impl KeyPrefix {
    /// Compiles a checked template. A pattern in it that does not parse, which `Template` lets nobody make but by hand,
    /// is printed as it stands.
    pub fn new(template: &Template, zone: TimeZone) -> Self {
        let piece = |part: &Part| match part {
            Part::Literal(text) => Piece::Literal(text.clone()),
            Part::Timestamp(pattern) => {
                let literal = |_| vec![PatternPart::Literal(pattern.clone())];
                Piece::Timestamp(java_pattern::parse(pattern).unwrap_or_else(literal))
            }
            Part::RandomString => Piece::RandomString,
            Part::ErrorOutputType => Piece::ErrorOutputType,
            // No config lets them through yet.
            part @ (Part::FromQuery(_) | Part::FromLambda(_)) => {
                Piece::Literal(Template { parts: vec![part.clone()] }.to_string())
            }
        };
        let pieces = template.parts.iter().map(piece).collect();
        Self { pieces, zone, literal_start: template.literal_start().to_owned() }
    }

    /// What every key under this prefix begins with.
    pub fn literal_start(&self) -> &str {
        &self.literal_start
    }

    /// The prefix of one object. `output_type` is `!{firehose:error-output-type}`, empty for data objects.
    pub fn evaluate(&self, oldest_arrival: Millis, output_type: &str, random: &dyn Random) -> String {
        let at = java_time::zoned(oldest_arrival, &self.zone);
        let mut key = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => key.push_str(text),
                Piece::Timestamp(pattern) => java_time::render(pattern, &at, &mut key),
                Piece::RandomString => random_string(random, &mut key),
                Piece::ErrorOutputType => key.push_str(output_type),
            }
        }
        key
    }
}

fn random_string(random: &dyn Random, key: &mut String) {
    for _ in 0..RANDOM_STRING_CHARS {
        let index = random.below(RANDOM_ALPHABET.len() as u64) as usize;
        key.push(char::from(RANDOM_ALPHABET[index]));
    }
}

/// The part of a key behind its prefix.
#[derive(Clone, Copy, Debug)]
pub struct ObjectName<'a> {
    /// The pipeline's name.
    pub pipeline: &'a str,
    /// When the batch was cut.
    pub cut_at: Millis,
    /// The commit.
    pub cid: CommitId,
    /// A further object of the same commit; 0 for the first, which shows none.
    pub ordinal: u32,
    /// The extension with its dot, or nothing.
    pub extension: &'a str,
}

impl ObjectName<'_> {
    /// The whole key under an evaluated prefix.
    pub fn key(&self, prefix: &KeyPrefix, mut evaluated: String) -> String {
        let cut = java_time::zoned(self.cut_at, &prefix.zone);
        let cut = format!(
            "{:04}-{:02}-{:02}-{:02}-{:02}-{:02}",
            cut.year(),
            cut.month(),
            cut.day(),
            cut.hour(),
            cut.minute(),
            cut.second()
        );
        for part in [self.pipeline, VERSION, &cut, "-", &self.cid.to_string()] {
            evaluated.push_str(part);
        }
        if self.ordinal > 0 {
            evaluated.push('-');
            evaluated.push_str(&self.ordinal.to_string());
        }
        evaluated.push_str(self.extension);
        evaluated
    }
}

/// The commit that a key of ours names; `None` for any other key. Reads no further than the form: whose commit it is
/// says its fingerprint.
pub fn cid_of(key: &str) -> Option<CommitId> {
    let mut names = key.rmatch_indices(VERSION);
    names.find_map(|(at, _)| {
        let rest = &key[at + VERSION.len()..];
        let (cut, rest) = (rest.get(..CUT_CHARS)?, rest.get(CUT_CHARS..)?);
        let cid = rest.strip_prefix('-')?.get(..CID_CHARS)?;
        if is_cut(cut) { CommitId::parse(cid) } else { None }
    })
}

fn is_cut(text: &str) -> bool {
    let dashes = [4, 7, 10, 13, 16];
    text.bytes().enumerate().all(|(i, b)| if dashes.contains(&i) { b == b'-' } else { b.is_ascii_digit() })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Default)]
    struct Counting(AtomicU64);

    impl Random for Counting {
        fn next(&self) -> u64 {
            self.0.fetch_add(1, Ordering::Relaxed)
        }
    }

    /// 2026-09-21T14:13:20Z.
    const CUT: Millis = Millis(1_790_000_000_000);
    /// 2026-09-21T13:58:20Z: an hour before the cut's.
    const OLDEST: Millis = Millis(CUT.0 - 900_000);

    fn cid() -> CommitId {
        CommitId::new(CUT, 0xABCDE, 77)
    }

    fn name(ordinal: u32, extension: &str) -> ObjectName<'_> {
        ObjectName { pipeline: "orders-lake", cut_at: CUT, cid: cid(), ordinal, extension }
    }

    fn key(template: &Template, output_type: &str) -> String {
        let prefix = KeyPrefix::new(template, TimeZone::UTC);
        let evaluated = prefix.evaluate(OLDEST, output_type, &Counting::default());
        name(0, ".parquet").key(&prefix, evaluated)
    }

    fn data_key(prefix: Option<&str>) -> String {
        key(&Template::prefix(prefix).expect("a prefix"), "")
    }

    #[test]
    fn the_default_is_the_hour_of_the_oldest_record_and_the_name_the_cut() {
        let expected = format!("2026/09/21/13/orders-lake-1-2026-09-21-14-13-20-{}.parquet", cid());
        assert_eq!(data_key(None), expected);
        assert_eq!(data_key(Some("legacy")), format!("legacy{expected}"), "no slash is inserted");
    }

    #[test]
    fn any_expression_stands_alone() {
        let random = data_key(Some("in/!{firehose:random-string}/!{firehose:random-string}/"));
        assert!(random.starts_with("in/ABCDEFGHIJK/LMNOPQRSTUV/orders-lake-1-"), "{random}");
        assert!(data_key(Some("dt=!{timestamp:yyyy-MM-dd}/")).starts_with("dt=2026-09-21/orders-lake-1-"));
    }

    #[test]
    fn error_prefixes_follow_firehose() {
        let error = |written, prefix| {
            key(&Template::error_prefix(written, prefix).expect("an error prefix"), "format-conversion-failed")
        };
        assert!(error(None, None).starts_with("format-conversion-failed/2026/09/21/13/orders-lake-1-"));
        assert!(error(None, Some("in/")).starts_with("in/format-conversion-failed/2026/09/21/13/"));
        let written = Some("bad/!{firehose:error-output-type}/!{timestamp:yyyy}/");
        assert!(error(written, None).starts_with("bad/format-conversion-failed/2026/orders-lake-1-"));
    }

    #[test]
    fn the_zone_holds_for_prefix_and_name() {
        let zone = TimeZone::get("Asia/Kolkata").expect("a zone");
        let prefix = KeyPrefix::new(&Template::prefix(None).expect("default"), zone);
        let evaluated = prefix.evaluate(OLDEST, "", &Counting::default());
        let key = name(2, "").key(&prefix, evaluated);
        assert_eq!(key, format!("2026/09/21/19/orders-lake-1-2026-09-21-19-43-20-{}-2", cid()));
    }

    #[test]
    fn a_foreign_key_names_no_commit() {
        let uuid = "x-1-2025-11-19-22-30-48-c0357a0f-495d-4eb6-9383-66b7d9347e15";
        for foreign in ["", "a", "-1-", "é-1-é", uuid, &format!("a-1-2026-09-21T14-13-20-{}", cid())] {
            assert_eq!(cid_of(foreign), None, "{foreign}");
        }
    }

    proptest! {
        #[test]
        fn a_key_names_its_commit(
            prefix in "[a-z0-9/=é-]{0,12}(-1-2026-01-01-00-00-00-)?",
            extension in "(\\.[a-z0-9.-]{0,8})?",
            bits in any::<u64>(),
            ordinal in 0..3u32,
        ) {
            let cid = CommitId::new(CUT, 0x12345, bits);
            let template = KeyPrefix::new(&Template::prefix(Some(&prefix)).expect("a prefix"), TimeZone::UTC);
            let evaluated = template.evaluate(OLDEST, "", &Counting::default());
            let name = ObjectName { pipeline: "a-1-b", cid, extension: &extension, ..name(ordinal, "") };
            prop_assert_eq!(cid_of(&name.key(&template, evaluated)), Some(cid));
        }

        #[test]
        fn no_key_panics(key in "(-1-|2026-01-01-00-00-00|[0-9A-Zé-]){0,40}") {
            let _ = cid_of(&key);
        }
    }
}
