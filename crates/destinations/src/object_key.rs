//! Names of objects: `<prefix><pipeline>-1-<yyyy-MM-dd-HH-mm-ss>-<cid>[-<n>]<ext>`.
//!
//! Firehose's form, with the commit's id where Firehose has a UUID: no two outputs can write one key, so nothing is ever
//! overwritten, and whoever lists uploads reads from the key which commit made it. `!{timestamp:...}` in the prefix is
//! the arrival of the oldest record in the object; the time in the name is that of the cut. Both in the same zone.
//! Partition values come from records, that is from anybody: in a key they are one segment at most, and bounded
//! ([`value_text`]), so that no record leaves its prefix.
//! Pure: time and randomness come in as arguments.
//! Never: decides what a prefix may say (that is `standpipe_config::template`).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::tz::TimeZone;
use standpipe_config::java_pattern::{self, PatternPart};
use standpipe_config::template::{Part, Template};
use standpipe_flow::hash::hash64;
use standpipe_flow::{CommitId, Millis, Partition, Random};

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
/// Bytes of a key: S3's maximum.
const KEY_BYTES_MAX: usize = 1024;
/// Bytes of a partition value in a key.
const VALUE_BYTES_MAX: usize = 256;
/// `~` and a hash in 16 digits: the end of a text that was too long.
const HASH_BYTES: usize = 17;

/// What a prefix says of one object.
#[derive(Clone, Copy, Debug)]
pub struct Of<'a> {
    /// Arrival of the oldest record in it.
    pub oldest_arrival: Millis,
    /// `!{firehose:error-output-type}`; empty for data and backup objects.
    pub output_type: &'a str,
    /// The partition of its records.
    pub partition: Option<&'a Partition>,
}

/// A partition value as it stands in a key. `/`, `%`, control characters and what XML cannot say are percent-encoded, as
/// Hive does, and so are the dots of a value of dots alone: it is part of one segment, and no program that reads `..` as a
/// way up is led astray. Of more than 256 bytes its beginning and a hash of the whole remain.
pub fn value_text(value: &str) -> String {
    let only_dots = value.bytes().all(|byte| byte == b'.');
    let mut text = String::with_capacity(value.len());
    for letter in value.chars() {
        let unfit = letter.is_control() || matches!(letter, '/' | '%' | '\u{FFFE}' | '\u{FFFF}');
        if unfit || only_dots {
            let mut bytes = [0; 4];
            for byte in letter.encode_utf8(&mut bytes).bytes() {
                let _ = write!(text, "%{byte:02X}");
            }
        } else {
            text.push(letter);
        }
    }
    if text.len() > VALUE_BYTES_MAX {
        shorten(&mut text, VALUE_BYTES_MAX - HASH_BYTES);
    }
    text
}

/// Keeps so many bytes at most, never half a letter or half an escape, and ends them with a hash of the whole.
fn shorten(text: &mut String, bytes: usize) {
    let hash = hash64(&[text.as_bytes()]);
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    if let Some(escape) = text.as_bytes()[..end].iter().rposition(|byte| *byte == b'%').filter(|at| at + 3 > end) {
        end = escape;
    }
    text.truncate(end);
    let _ = write!(text, "~{hash:016x}");
}

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
    FromQuery(String),
    FromLambda(String),
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
            Part::FromQuery(key) => Piece::FromQuery(key.clone()),
            Part::FromLambda(key) => Piece::FromLambda(key.clone()),
        };
        let pieces = template.parts.iter().map(piece).collect();
        Self { pieces, zone, literal_start: template.literal_start().to_owned() }
    }

    /// What every key under this prefix begins with.
    pub fn literal_start(&self) -> &str {
        &self.literal_start
    }

    /// The prefix of one object.
    pub fn evaluate(&self, of: &Of<'_>, random: &dyn Random) -> String {
        let at = java_time::zoned(of.oldest_arrival, &self.zone);
        let value = |keys: fn(&Partition) -> &BTreeMap<String, String>, key: &String| {
            of.partition
                .and_then(|partition| keys(partition).get(key))
                .map(|value| value_text(value))
                .unwrap_or_default()
        };
        let mut key = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => key.push_str(text),
                Piece::Timestamp(pattern) => java_time::render(pattern, &at, &mut key),
                Piece::RandomString => random_string(random, &mut key),
                Piece::ErrorOutputType => key.push_str(of.output_type),
                Piece::FromQuery(name) => key.push_str(&value(|partition| &partition.query, name)),
                Piece::FromLambda(name) => key.push_str(&value(|partition| &partition.lambda, name)),
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
    /// The whole key under an evaluated prefix, which is shortened where S3 would refuse the key for its length: never
    /// within the text that all keys begin with.
    pub fn key(&self, prefix: &KeyPrefix, mut evaluated: String) -> String {
        let name = self.name(&prefix.zone);
        let room = KEY_BYTES_MAX.saturating_sub(name.len());
        if evaluated.len() > room && prefix.literal_start.len() + HASH_BYTES < room {
            shorten(&mut evaluated, room - HASH_BYTES - 1);
            evaluated.push('/');
        }
        evaluated.push_str(&name);
        evaluated
    }

    fn name(&self, zone: &TimeZone) -> String {
        let cut = java_time::zoned(self.cut_at, zone);
        let (date, time) = (cut.date(), cut.time());
        let mut name = format!(
            "{}{VERSION}{:04}-{:02}-{:02}-{:02}-{:02}-{:02}-{}",
            self.pipeline,
            date.year(),
            date.month(),
            date.day(),
            time.hour(),
            time.minute(),
            time.second(),
            self.cid
        );
        if self.ordinal > 0 {
            let _ = write!(name, "-{}", self.ordinal);
        }
        name.push_str(self.extension);
        name
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
    use proptest::prelude::*;

    use super::*;
    use crate::fixtures::Counting;

    /// 2026-09-21T14:13:20Z.
    const CUT: Millis = Millis(1_790_000_000_000);
    /// 2026-09-21T13:58:20Z: an hour before the cut's.
    const OLDEST: Millis = Millis(CUT.0 - 900_000);

    fn plain() -> Of<'static> {
        Of { oldest_arrival: OLDEST, output_type: "", partition: None }
    }

    fn cid() -> CommitId {
        CommitId::new(CUT, 0xABCDE, 77)
    }

    fn name(ordinal: u32, extension: &str) -> ObjectName<'_> {
        ObjectName { pipeline: "orders-lake", cut_at: CUT, cid: cid(), ordinal, extension }
    }

    fn key(template: &Template, output_type: &str) -> String {
        let prefix = KeyPrefix::new(template, TimeZone::UTC);
        let evaluated = prefix.evaluate(&Of { output_type, ..plain() }, &Counting::default());
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
        let evaluated = prefix.evaluate(&plain(), &Counting::default());
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

    #[test]
    fn partition_values_stand_in_the_prefix() {
        let template = "in/c=!{partitionKeyFromQuery:customer}/!{partitionKeyFromLambda:day}/!{timestamp:yyyy}/";
        let prefix = KeyPrefix::new(&Template::prefix(Some(template)).expect("a prefix"), TimeZone::UTC);
        let partition = Partition {
            query: [("customer".to_owned(), "a/b".to_owned())].into(),
            lambda: [("day".to_owned(), "..".to_owned()), ("customer".to_owned(), "x".to_owned())].into(),
        };
        let of = Of { partition: Some(&partition), ..plain() };
        assert_eq!(prefix.evaluate(&of, &Counting::default()), "in/c=a%2Fb/%2E%2E/2026/");
    }

    #[test]
    fn a_value_is_part_of_one_segment_and_equal_values_alone_have_equal_texts() {
        for (value, text) in [
            ("eu-west-1", "eu-west-1"),
            ("Zürich ☂", "Zürich ☂"),
            ("..", "%2E%2E"),
            (".", "%2E"),
            ("...", "%2E%2E%2E"),
            ("..a", "..a"),
            ("../../etc", "..%2F..%2Fetc"),
            ("a\n\0\u{7F}\u{85}b", "a%0A%00%7F%C2%85b"),
            ("100%", "100%25"),
            ("a%2Fb", "a%252Fb"),
            ("\u{FFFF}", "%EF%BF%BF"),
            ("", ""),
        ] {
            assert_eq!(value_text(value), text);
        }
        let long = |end: &str| value_text(&format!("{}{end}", "é".repeat(200)));
        assert_eq!(long("1").len(), 238 + HASH_BYTES, "no half letter");
        assert_ne!(long("1"), long("2"));
        assert_eq!(value_text(&"/".repeat(100)).len(), 237 + HASH_BYTES, "no half escape");
    }

    #[test]
    fn a_key_is_no_longer_than_s3_takes() {
        let keys: Vec<String> = (0..9).map(|n| format!("k{n}")).collect();
        let text: String = keys.iter().map(|key| format!("{key}=!{{partitionKeyFromQuery:{key}}}/")).collect();
        let prefix = KeyPrefix::new(&Template::prefix(Some(&format!("in/{text}"))).expect("a prefix"), TimeZone::UTC);
        let key = |last: &str| {
            let query = keys.iter().map(|key| (key.clone(), "v".repeat(200) + if key == "k8" { last } else { "" }));
            let partition = Partition { query: query.collect(), ..Partition::default() };
            let evaluated = prefix.evaluate(&Of { partition: Some(&partition), ..plain() }, &Counting::default());
            name(7, ".parquet").key(&prefix, evaluated)
        };
        assert_eq!(key("1").len(), KEY_BYTES_MAX);
        assert!(key("1").starts_with("in/k0=vv") && key("1").contains("/orders-lake-1-2026"), "{}", key("1"));
        assert_ne!(key("1"), key("2"), "what was cut off still tells them apart");
        assert_eq!(cid_of(&key("1")), Some(cid()));
    }

    proptest! {
        #[test]
        fn no_value_leaves_its_segment(value in "(\\PC|[./%\\x00-\\x20]|\\.\\.){0,300}") {
            let text = value_text(&value);
            prop_assert!(text.len() <= VALUE_BYTES_MAX);
            prop_assert!(!text.contains('/') && !text.chars().any(char::is_control));
            prop_assert!(text != "." && text != "..");
            // Every `%` begins an escape that is whole, so that it reads back.
            let escapes = text.match_indices('%').map(|(at, _)| text.as_bytes().get(at + 1..at + 3));
            for escape in escapes {
                prop_assert!(escape.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)), "{}", text);
            }
        }

        #[test]
        fn a_key_names_its_commit(
            prefix in "[a-z0-9/=é-]{0,12}(-1-2026-01-01-00-00-00-)?",
            extension in "(\\.[a-z0-9.-]{0,8})?",
            bits in any::<u64>(),
            ordinal in 0..3u32,
        ) {
            let cid = CommitId::new(CUT, 0x12345, bits);
            let template = KeyPrefix::new(&Template::prefix(Some(&prefix)).expect("a prefix"), TimeZone::UTC);
            let evaluated = template.evaluate(&plain(), &Counting::default());
            let name = ObjectName { pipeline: "a-1-b", cid, extension: &extension, ..name(ordinal, "") };
            prop_assert_eq!(cid_of(&name.key(&template, evaluated)), Some(cid));
        }

        #[test]
        fn no_key_panics(key in "(-1-|2026-01-01-00-00-00|[0-9A-Zé-]){0,40}") {
            let _ = cid_of(&key);
        }
    }
}
