//! `split`: one record that holds many, by JSON documents or by a delimiter, as Firehose's multi-record deaggregation
//! (`RecordDeAggregation`) does.
//!
//! `json`: objects one after the other, with white space between them or none. Newlines within one are taken out, as
//! Firehose does, so that it becomes one line; all else stays as it was written. What is not an object is refused, an
//! array too (Firehose: "an array of JSON objects is not a valid input"). `delimited`: the pieces between delimiters.
//! Pieces of nothing are dropped. A record of which one piece cannot be had is rejected as a whole.
//!
//! One pass, without recursion: a level of nesting costs a byte. Where Firehose stops at 500 pieces a record and passes
//! the rest unsplit, the bound here is a setting, and what is beyond it is rejected.

use bytes::{Bytes, BytesMut};
use memchr::memchr2;
use memchr::memmem::Finder;
use serde_json::value::RawValue;
use standpipe_flow::Record;

use crate::stage::{Fault, Made, Stage};

/// What `split` takes from the config.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SplitSettings {
    /// Where a record is cut.
    pub by: SplitBy,
    /// Pieces of one record; a record of more is rejected.
    pub pieces_max: usize,
}

impl SplitSettings {
    /// The default of `pieces_max`.
    pub const PIECES_MAX: usize = 100_000;
}

/// Where a record is cut.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SplitBy {
    /// `json: {}`: between JSON objects.
    Json,
    /// `delimited: "####"`: at these bytes, which are left out.
    Delimited(String),
}

/// The stage.
#[derive(Debug)]
pub struct Split {
    /// Finds the delimiter; `None` for JSON.
    finder: Option<Finder<'static>>,
    pieces_max: usize,
}

impl Split {
    /// Fails, with words for the user, if the delimiter is empty or no piece is allowed.
    pub fn new(settings: SplitSettings) -> Result<Self, String> {
        let finder = match &settings.by {
            SplitBy::Delimited(delimiter) if delimiter.is_empty() => {
                return Err("a record cannot be split at an empty delimiter".into());
            }
            SplitBy::Delimited(delimiter) => Some(Finder::new(delimiter.as_bytes()).into_owned()),
            SplitBy::Json => None,
        };
        if settings.pieces_max == 0 {
            return Err("with a limit of 0 pieces every record would be rejected".into());
        }
        Ok(Self { finder, pieces_max: settings.pieces_max })
    }

    fn piece(&self, record: &Record, data: Bytes, made: &mut Made) -> Result<(), Fault> {
        if made.len() == self.pieces_max {
            let message = format!("the record holds more than {} records", self.pieces_max);
            return Err(Fault::processing("Split.TooManyRecords", message));
        }
        made.piece(record, data);
        Ok(())
    }

    fn json(&self, record: &Record, made: &mut Made) -> Result<(), Fault> {
        let documents = serde_json::Deserializer::from_slice(&record.data).into_iter::<&RawValue>();
        for document in documents {
            let document = document
                .map_err(|error| Fault::json("Split.NotJson", "the record is not a row of JSON objects", &error))?
                .get();
            if !document.starts_with('{') {
                let message = "the record holds a JSON value that is not an object";
                return Err(Fault::processing("Split.NotAnObject", message));
            }
            self.piece(record, one_line(record.data.slice_ref(document.as_bytes())), made)?;
            if made.is_over() {
                break;
            }
        }
        Ok(())
    }

    fn delimited(&self, finder: &Finder<'_>, record: &Record, made: &mut Made) -> Result<(), Fault> {
        let mut start = 0;
        let ends = finder.find_iter(&record.data).chain([record.data.len()]);
        for end in ends {
            if end > start {
                self.piece(record, record.data.slice(start..end), made)?;
                if made.is_over() {
                    break;
                }
            }
            start = end + finder.needle().len();
        }
        Ok(())
    }
}

impl Stage for Split {
    fn name(&self) -> &'static str {
        "split"
    }

    fn apply(&self, record: Record, made: &mut Made) -> Result<(), Fault> {
        match &self.finder {
            None => self.json(&record, made),
            Some(finder) => self.delimited(finder, &record, made),
        }
    }
}

/// A JSON document without its newlines, which can only stand between tokens.
fn one_line(document: Bytes) -> Bytes {
    let Some(mut newline) = memchr2(b'\n', b'\r', &document) else { return document };
    let mut line = BytesMut::with_capacity(document.len());
    let mut rest = &document[..];
    loop {
        line.extend_from_slice(&rest[..newline]);
        rest = &rest[newline + 1..];
        newline = match memchr2(b'\n', b'\r', rest) {
            Some(newline) => newline,
            None => break,
        };
    }
    line.extend_from_slice(rest);
    line.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{Outcome, outcome, record};

    fn json() -> Split {
        Split::new(SplitSettings { by: SplitBy::Json, pieces_max: SplitSettings::PIECES_MAX }).unwrap()
    }

    fn delimited(delimiter: &str) -> Split {
        Split::new(SplitSettings { by: SplitBy::Delimited(delimiter.into()), pieces_max: 1_000 }).unwrap()
    }

    fn pieces(stage: &Split, data: impl Into<Bytes>) -> Vec<Bytes> {
        outcome(stage, record(data)).records().into_iter().map(|record| record.data).collect()
    }

    #[test]
    fn json_objects_are_split_as_firehose_documents_it() {
        for together in [r#"{"a":1}{"a":2}"#, "{\"a\":1}\n{\"a\":2}", "\r\n {\"a\":1} \t\n\n {\"a\":2}\n"] {
            assert_eq!(pieces(&json(), together), [r#"{"a":1}"#, r#"{"a":2}"#], "{together:?}");
        }
        assert_eq!(
            pieces(&json(), "{\n  \"a\": \"x\\n{\",\r\n  \"b\": 1e999999\n}"),
            [r#"{  "a": "x\n{",  "b": 1e999999}"#]
        );
        assert_eq!(pieces(&json(), " \n"), [""; 0], "nothing is dropped");
    }

    #[test]
    fn a_piece_stands_for_itself_in_an_error_object() {
        let made = outcome(&json(), record(r#"{"a":1}{"a":2}"#)).records();
        assert_eq!(made[1].original(), r#"{"a":2}"#);
    }

    #[test]
    fn what_is_not_a_row_of_objects_is_rejected_as_a_whole() {
        for (data, code) in [
            (r#"[{"a":1},{"a":2}]"#, "Split.NotAnObject"),
            (r#"{"a":1}[]"#, "Split.NotAnObject"),
            (r#"{"a":1} 2"#, "Split.NotAnObject"),
            (r#"{"a":1},{"a":2}"#, "Split.NotJson"),
            (r#"{"a":1}{"a""#, "Split.NotJson"),
            ("{\"a\":\"\n\"}", "Split.NotJson"),
        ] {
            assert_eq!(outcome(&json(), record(data)).fault().code, code, "{data}");
        }
        let latin = Bytes::from_static(b"{\"a\":\"\xe9\"}");
        assert_eq!(outcome(&json(), record(latin)).fault().code, "Split.NotJson");
    }

    #[test]
    fn a_million_levels_of_nesting_take_no_recursion() {
        let deep = format!("{}1{}", "{\"a\":".repeat(1_000_000), "}".repeat(1_000_000));
        assert_eq!(pieces(&json(), deep.clone()), [deep.as_str()]);
        assert_eq!(outcome(&json(), record("{\"a\":".repeat(1_000_000))).fault().code, "Split.NotJson");
    }

    #[test]
    fn lone_surrogates_and_equal_keys_are_not_this_stage_s_business() {
        assert_eq!(pieces(&json(), r#"{"a":"\ud800","a":1}"#), [r#"{"a":"\ud800","a":1}"#]);
    }

    #[test]
    fn delimited_pieces_keep_their_bytes_and_empty_ones_are_dropped() {
        assert_eq!(pieces(&delimited("####"), "a####b########c\n####"), ["a", "b", "c\n"]);
        assert_eq!(pieces(&delimited("##"), "###a"), ["#a"]);
        assert_eq!(pieces(&delimited("\n"), Bytes::from_static(b"\xff\n\n\x00")), [&b"\xff"[..], b"\x00"]);
        assert_eq!(pieces(&delimited("\n"), "whole"), ["whole"]);
        assert_eq!(pieces(&delimited("\n"), "\n\n"), [""; 0]);
    }

    #[test]
    fn there_is_a_bound_on_pieces_beyond_firehose_s_500() {
        let hundred_thousand = "{}".repeat(100_000);
        assert_eq!(pieces(&json(), hundred_thousand.clone()).len(), 100_000);
        let fault = outcome(&json(), record(hundred_thousand + "{}")).fault();
        assert_eq!(
            (fault.code, &*fault.message),
            ("Split.TooManyRecords", "the record holds more than 100000 records")
        );
        assert_eq!(outcome(&delimited(","), record("x,".repeat(1_001))).fault().code, "Split.TooManyRecords");
    }

    #[test]
    fn settings_that_cannot_be_meant_are_refused() {
        let empty = SplitSettings { by: SplitBy::Delimited(String::new()), pieces_max: 1 };
        assert_eq!(Split::new(empty).unwrap_err(), "a record cannot be split at an empty delimiter");
        assert!(Split::new(SplitSettings { by: SplitBy::Json, pieces_max: 0 }).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_split_or_rejected(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            outcome(&json(), record(data.clone()));
            let joined = pieces(&delimited("\u{1}"), data.clone()).concat();
            prop_assert_eq!(joined, data.into_iter().filter(|byte| *byte != 1).collect::<Vec<u8>>());
        }

        #[test]
        fn json_written_one_after_the_other_comes_out_in_order(
            values in proptest::collection::vec(("[a-z\"\\\\\n\u{e9}]{0,5}", any::<i64>()), 0..20),
            gaps in proptest::collection::vec("[ \n\r\t]{0,3}", 20),
            pretty in any::<bool>(),
        ) {
            let values: Vec<_> = values.into_iter().map(|(key, number)| serde_json::json!({key: [number, {"x": null}]})).collect();
            let write = |value| if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
            let texts: Vec<String> = values.iter().map(|value| write(value).unwrap()).collect();
            let together: String = texts.iter().zip(&gaps).flat_map(|(text, gap)| [text.as_str(), gap]).collect();
            let made = pieces(&json(), together);
            prop_assert!(made.iter().all(|piece| !piece.contains(&b'\n')));
            let read: Vec<serde_json::Value> = made.iter().map(|piece| serde_json::from_slice(piece).unwrap()).collect();
            prop_assert_eq!(read, values);
        }

        #[test]
        fn the_pieces_between_delimiters_come_back(pieces_in in proptest::collection::vec("[a-c]{0,4}", 0..30)) {
            let kept: Vec<&str> = pieces_in.iter().map(String::as_str).filter(|piece| !piece.is_empty()).collect();
            let made = outcome(&delimited("##"), record(pieces_in.join("##")));
            let Outcome::Made(made) = made else { panic!("rejected") };
            prop_assert_eq!(made.iter().map(|record| &record.data[..]).collect::<Vec<_>>(), kept.iter().map(|kept| kept.as_bytes()).collect::<Vec<_>>());
        }
    }
}
