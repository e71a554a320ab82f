//! `json_to_csv`: a JSON object to a row of the named columns, without a newline behind it.
//!
//! A text stands as it is, null or nothing as an empty field, any other value as its JSON; a field is quoted if it must
//! be. Of equal keys the last counts; other keys are left out. Nested values are `jq`'s to bring up.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use csv::WriterBuilder;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use standpipe_flow::Record;

use super::csv::{check_names, separator};
use super::text;
use crate::stage::{Fault, Made, Stage};

/// What `json_to_csv` takes from the config.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JsonToCsvSettings {
    /// The keys, in the order of the fields.
    pub columns: Vec<String>,
    /// What stands between fields: one ASCII character, by default a comma.
    pub delimiter: char,
}

/// The stage.
#[derive(Debug)]
pub struct JsonToCsv {
    /// The place of each key.
    places: BTreeMap<String, usize>,
    writer: WriterBuilder,
}

impl JsonToCsv {
    /// Fails, with words for the user, if there is no column, two have one name, or the delimiter cannot be one.
    pub fn new(settings: JsonToCsvSettings) -> Result<Self, String> {
        check_names(&settings.columns)?;
        let delimiter = separator("delimiter", settings.delimiter)?;
        if delimiter == b'"' {
            return Err("delimiter and quote are the same character".into());
        }
        let mut writer = WriterBuilder::new();
        writer.delimiter(delimiter);
        Ok(Self { places: settings.columns.into_iter().zip(0..).collect(), writer })
    }

    fn row(&self, record: &Record) -> Result<Vec<u8>, Fault> {
        let fault = |error| Fault::json("Parse.Json", "the record is not one JSON object", &error);
        let mut json = serde_json::Deserializer::from_str(text(record)?);
        let values = Values(&self.places).deserialize(&mut json).and_then(|values| json.end().map(|()| values));
        let fields: Vec<Cow<'_, str>> =
            values.map_err(fault)?.into_iter().map(field).collect::<Result<_, _>>().map_err(fault)?;
        let mut row = self.writer.from_writer(Vec::new());
        row.write_record(fields.iter().map(|field| field.as_bytes())).expect("a vector takes every byte");
        let mut row = row.into_inner().expect("a vector takes every byte");
        row.pop();
        Ok(row)
    }
}

impl Stage for JsonToCsv {
    fn name(&self) -> &'static str {
        "json_to_csv"
    }

    fn apply(&self, record: Record, made: &mut Made) -> Result<(), Fault> {
        let row = self.row(&record)?;
        made.change(&record, row);
        Ok(())
    }
}

/// The text of a field.
fn field(value: Option<&RawValue>) -> Result<Cow<'_, str>, serde_json::Error> {
    match value.map(RawValue::get) {
        None | Some("null") => Ok(Cow::Borrowed("")),
        Some(text) if text.starts_with('"') => Ok(serde_json::from_str::<Text<'_>>(text)?.0),
        Some(text) => Ok(Cow::Borrowed(text)),
    }
}

/// A string, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Reads the values of the named keys of an object.
struct Values<'s>(&'s BTreeMap<String, usize>);

impl<'de> DeserializeSeed<'de> for Values<'_> {
    type Value = Vec<Option<&'de RawValue>>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Values<'_> {
    type Value = Vec<Option<&'de RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut values = vec![None; self.0.len()];
        while let Some(Text(key)) = object.next_key()? {
            match self.0.get(&*key) {
                Some(place) => values[*place] = Some(object.next_value()?),
                None => {
                    object.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;
    use crate::testing::{Outcome, outcome, record};

    fn stage(columns: &[&str], delimiter: char) -> JsonToCsv {
        let columns = columns.iter().map(|name| (*name).to_owned()).collect();
        JsonToCsv::new(JsonToCsvSettings { columns, delimiter }).unwrap()
    }

    fn row(columns: &[&str], json: &str) -> String {
        outcome(&stage(columns, ','), record(json.to_owned())).text()
    }

    #[test]
    fn values_stand_in_the_order_of_the_columns() {
        let json = r#"{"b":1.10,"a":"x","c":null,"d":true,"e":{"f":[1, "2"]},"other":["left out"],"z":1e400}"#;
        assert_eq!(row(&["a", "b", "c", "d", "e", "none", "z"], json), r#"x,1.10,,true,"{""f"":[1, ""2""]}",,1e400"#);
        assert_eq!(row(&["a"], r#" {"a":"one, \"two\"\nthree"} "#), "\"one, \"\"two\"\"\nthree\"");
        assert_eq!(row(&["a", "b"], "{}"), ",");
        assert_eq!(row(&["a"], "{}"), "\"\"", "a row of one empty field is not an empty line");
        assert_eq!(row(&["a"], r#"{"a":1,"\u0061":2}"#), "2");
        assert_eq!(outcome(&stage(&["a", "b"], '\t'), record(r#"{"a":"1,2","b":"\t"}"#)).text(), "1,2\t\"\t\"");
    }

    #[test]
    fn what_is_not_one_object_is_rejected() {
        for json in ["", "[1]", "\"secret\"", "{\"a\":1} {}", "{\"a\":", "{\"a\":\"\\ud800\"}", "{\"\\ud800\":1}"] {
            let fault = outcome(&stage(&["a"], ','), record(json.to_owned())).fault();
            assert_eq!((fault.output_type, fault.code), ("processing-failed", "Parse.Json"), "{json}");
            assert!(
                fault.message.starts_with("the record is not one JSON object: ") && !fault.message.contains("secret")
            );
        }
        let deep = format!("{{\"a\":{}", "[".repeat(1_000_000));
        assert_eq!(outcome(&stage(&["a"], ','), record(deep)).fault().code, "Parse.Json");
    }

    #[test]
    fn settings_that_cannot_be_meant_are_refused() {
        let new = |columns: &[&str], delimiter| {
            let columns = columns.iter().map(|name| (*name).to_owned()).collect();
            JsonToCsv::new(JsonToCsvSettings { columns, delimiter }).unwrap_err()
        };
        assert_eq!(new(&[], ','), "there is no column");
        assert_eq!(new(&["a", "b", "a"], ','), "column 3 has the name of another before it");
        assert_eq!(new(&["a"], '"'), "delimiter and quote are the same character");
        assert_eq!(new(&["a"], 'é'), "delimiter must be one ASCII character");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_row_or_rejected(data in proptest::collection::vec(any::<u8>(), 0..100), json in r#"[{}\[\]":,a0\\u\x{e9}]{0,20}"#) {
            outcome(&stage(&["a"], ','), record(data));
            outcome(&stage(&["a"], ','), record(json));
        }

        #[test]
        fn texts_come_back_from_the_row(values in proptest::collection::vec(any::<String>(), 3)) {
            let object: Map<String, Value> = ["a", "b", "c"].map(String::from).into_iter().zip(values.iter().cloned().map(Value::String)).collect();
            let Outcome::Made(made) = outcome(&stage(&["a", "b", "c"], ','), record(Value::Object(object).to_string())) else { panic!() };
            let mut rows = csv::ReaderBuilder::new().has_headers(false).from_reader(&made[0].data[..]);
            let read: Vec<csv::StringRecord> = rows.records().map(Result::unwrap).collect();
            prop_assert_eq!(read.len(), 1);
            // The reader takes a mark at the very beginning for the encoding's.
            let marked = made[0].data.starts_with("\u{feff}".as_bytes());
            prop_assert!(marked || read[0].iter().eq(values.iter().map(String::as_str)));
        }
    }
}
