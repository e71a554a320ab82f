//! `regex`: the named groups of a pattern to JSON, as strings; a group that took no part is null.
//!
//! The pattern is searched for: one that is to take the whole line stands between `^` and `$`. The engine takes time
//! linear in the record, whatever the pattern; it has no look-around and no back references.

use standpipe_flow::Record;

use super::line;
use super::object::Object;
use crate::stage::{Fault, Made, Stage};

/// The stage.
#[derive(Debug)]
pub struct Regex {
    pattern: regex::Regex,
}

impl Regex {
    /// Fails, with words for the user, if the pattern is none or has no named group.
    pub fn new(pattern: &str) -> Result<Self, String> {
        let pattern = regex::Regex::new(pattern).map_err(|error| error.to_string())?;
        match pattern.capture_names().flatten().next() {
            Some(_) => Ok(Self { pattern }),
            None => Err("the pattern has no named group: (?<name>...) becomes the field `name`".into()),
        }
    }
}

impl Stage for Regex {
    fn name(&self) -> &'static str {
        "regex"
    }

    fn apply(&self, record: Record, made: &mut Made) -> Result<(), Fault> {
        let found = self.pattern.captures(line(&record)?);
        let found = found.ok_or_else(|| Fault::processing("Parse.Regex", "the pattern is not found in the record"))?;
        let named =
            self.pattern.capture_names().flatten().map(|name| (name, found.name(name).map(|group| group.as_str())));
        let json = named.fold(Object::new(), |object, (name, text)| object.field(name, text)).finish();
        made.change(&record, json);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{Outcome, outcome, record};

    #[test]
    fn named_groups_become_fields_in_their_order() {
        let stage = Regex::new(r"^(?<level>[A-Z]+)(\[(?P<thread>\d+)\])? (?<text>.*)$").unwrap();
        assert_eq!(
            outcome(&stage, record("WARN[12] disk \"full\"\r\n")).text(),
            r#"{"level":"WARN","thread":"12","text":"disk \"full\""}"#
        );
        assert_eq!(outcome(&stage, record("INFO ")).text(), r#"{"level":"INFO","thread":null,"text":""}"#);
        for (data, code) in
            [(&b"info x"[..], "Parse.Regex"), (b"A b\nC d", "Parse.Regex"), (b"A \xff", "Parse.NotUtf8")]
        {
            assert_eq!(outcome(&stage, record(data)).fault().code, code);
        }
    }

    #[test]
    fn a_pattern_that_cannot_be_meant_is_refused_in_words() {
        assert!(Regex::new("a(").unwrap_err().contains("unclosed group"));
        assert!(Regex::new("(?<x>a)(?<x>b)").unwrap_err().contains("duplicate"));
        assert!(Regex::new(r"(?<x>a{1000}{1000}{1000})").unwrap_err().contains("size limit"));
        assert_eq!(
            Regex::new("(a)").unwrap_err(),
            "the pattern has no named group: (?<name>...) becomes the field `name`"
        );
    }

    #[test]
    fn what_blows_up_other_engines_takes_linear_time() {
        let stage = Regex::new("^(?<x>(a*)*)*$").unwrap();
        assert_eq!(outcome(&stage, record("a".repeat(1 << 20) + "!")).fault().code, "Parse.Regex");
    }

    proptest! {
        #[test]
        fn any_bytes_are_found_or_rejected(data in proptest::collection::vec(any::<u8>(), 0..100), key in "[^=\n\r]{1,9}", value in "[^\n\r]{0,9}") {
            let stage = Regex::new("^(?<key>[^=]+)=(?<value>.*)$").unwrap();
            outcome(&stage, record(data));
            let Outcome::Made(made) = outcome(&stage, record(format!("{key}={value}\n"))) else { panic!("rejected") };
            prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&made[0].data).unwrap(), serde_json::json!({"key": key, "value": value}));
        }
    }
}
