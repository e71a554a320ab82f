//! Rows of JSON: one object after the other, its keys matched to the names of columns.
//!
//! An object may span lines and a line may hold several. A key that no column has is passed over, a column that no key
//! names is NULL, a nested value is its own text. A name matches as it is written, or with `auto ignorecase` in any case.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, BufReader, Read};

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::columns::{Class, Column, RowError, write};
use super::rows::{Ended, Rows, text};
use crate::sql::copy::Rules;

/// The largest object (Redshift, "COPY from JSON format").
const OBJECT_BYTES_MAX: usize = 4 << 20;

/// Reads every object of the input.
///
/// # Errors
/// Bytes that cannot be read, or nobody wants more.
pub(super) fn read(input: impl Read, ignore_case: bool, rows: &mut Rows<'_>) -> Result<(), Ended> {
    let mut input = BufReader::with_capacity(256 << 10, input);
    let names = Names::new(rows.columns, ignore_case);
    let (mut line, mut piece) = (0_u64, Vec::new());
    loop {
        let read = input.read_until(b'\n', &mut piece).map_err(|error| Ended::Broken(error.to_string()))?;
        line += u64::from(read > 0);
        let last = read == 0;
        if last && piece.iter().all(u8::is_ascii_whitespace) {
            return rows.flush();
        }
        let open = !last && piece.len() <= OBJECT_BYTES_MAX;
        let done = objects(&piece, open, line, &names, rows)?;
        if last {
            return rows.flush();
        }
        piece.drain(..done);
    }
}

/// Takes the whole objects off the front; how many bytes that were. What follows them may be an object that is not whole
/// yet, if more is to come.
fn objects(piece: &[u8], open: bool, line: u64, names: &Names<'_>, rows: &mut Rows<'_>) -> Result<usize, Ended> {
    let valid = match text(piece, rows.rules) {
        Ok(valid) => valid,
        Err(error) => {
            rows.add(line, || String::from_utf8_lossy(piece).into_owned(), |_, _, _| Err(error))?;
            return Ok(piece.len());
        }
    };
    let mut at = 0;
    loop {
        let rest = &valid[at..];
        let rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(piece.len());
        }
        at = valid.len() - rest.len();
        match object(rest, names) {
            Ok((values, length)) => {
                let raw = &rest[..length];
                rows.add(line, || raw.to_owned(), |out, columns, rules| row(out, columns, rules, &values))?;
                at += length;
            }
            // What stands for an invalid byte is one byte too, so places in both texts are the same.
            Err(error) if error.is_eof() && open => return Ok(at),
            Err(_) => {
                let error = RowError::row(1216, "Invalid JSON object");
                rows.add(line, || rest.trim_end().to_owned(), |_, _, _| Err(error))?;
                return Ok(piece.len());
            }
        }
    }
}

type Values<'a> = Vec<Option<&'a RawValue>>;

/// The values of one object by column, and its length.
fn object<'a>(text: &'a str, names: &Names<'_>) -> Result<(Values<'a>, usize), serde_json::Error> {
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<&'a RawValue>();
    let whole = match stream.next() {
        Some(whole) => whole?,
        None => return Ok((Vec::new(), text.len())),
    };
    let length = stream.byte_offset();
    let mut deserializer = serde_json::Deserializer::from_str(whole.get());
    Ok((names.deserialize(&mut deserializer)?, length))
}

fn row(out: &mut Vec<u8>, columns: &[Column], rules: &Rules, values: &Values<'_>) -> Result<(), RowError> {
    for (place, column) in columns.iter().enumerate() {
        if place > 0 {
            out.push(b'\t');
        }
        let raw = values.get(place).copied().flatten().map(RawValue::get).filter(|raw| *raw != "null");
        let value = match raw {
            // A string is its characters, but for SUPER, which keeps JSON.
            Some(raw) if raw.starts_with('"') && column.class != Class::Super => {
                match serde_json::from_str::<Cow<'_, str>>(raw) {
                    Ok(text) => Some(text),
                    Err(_) => {
                        return Err(RowError { column: Some(place), ..RowError::row(1216, "Invalid JSON string") });
                    }
                }
            }
            Some(raw) => Some(Cow::Borrowed(raw)),
            None => None,
        };
        write(out, place, column, value.as_deref(), rules)?;
    }
    Ok(())
}

/// Names of columns to places.
struct Names<'c> {
    places: BTreeMap<&'c str, usize>,
    ignore_case: bool,
    count: usize,
}

impl<'c> Names<'c> {
    fn new(columns: &'c [Column], ignore_case: bool) -> Self {
        let places = columns.iter().enumerate().map(|(place, column)| (column.name.as_str(), place)).collect();
        Self { places, ignore_case, count: columns.len() }
    }

    fn place(&self, key: &str) -> Option<usize> {
        if self.ignore_case && key.chars().any(char::is_uppercase) {
            return self.places.get(key.to_lowercase().as_str()).copied();
        }
        self.places.get(key).copied()
    }
}

impl<'de> DeserializeSeed<'de> for &Names<'_> {
    type Value = Values<'de>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &Names<'_> {
    type Value = Values<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = vec![None; self.count];
        while let Some(key) = map.next_key::<Key<'de>>()? {
            match self.place(&key.0) {
                Some(place) => values[place] = Some(map.next_value::<&'de RawValue>()?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(values)
    }
}

/// A key, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::sync::mpsc;

    use super::super::columns::tests::rules;
    use super::super::rows::Piece;
    use super::*;

    /// Rows as text, and the lines of what was refused with their codes.
    fn read_all(input: &[u8], ignore_case: bool, rules: &Rules) -> (String, Vec<(u64, i32)>) {
        let columns = [
            Column::new("id", "int8", -1, false),
            Column::new("name", "varchar", 4 + 8, false),
            Column::new("more", "super", -1, false),
        ];
        let (out, mut pieces) = mpsc::channel(10_000);
        let mut rows = Rows::new(&columns, rules, "s3://b/k".into(), &out);
        read(input, ignore_case, &mut rows).expect("readable");
        drop(out);
        let (mut text, mut refused) = (String::new(), Vec::new());
        while let Some(piece) = pieces.blocking_recv() {
            match piece {
                Piece::Batch(batch) => text.push_str(std::str::from_utf8(&batch.text).expect("UTF-8")),
                Piece::Refused(refusal) => refused.push((refusal.line, refusal.error.code)),
            }
        }
        (text, refused)
    }

    #[test]
    fn keys_are_matched_to_columns() {
        let input = b"{\"name\":\"a\\tb\",\"id\":1,\"other\":[1]}\n{\"ID\":2,\"more\":{\"a\":\"\\\"\"}}\n\n{\"id\":3,\"name\":null,\"more\":\"s\"}";
        let (text, refused) = read_all(input, false, &rules());
        assert_eq!(text, "1\ta\\tb\t\\N\n\\N\t\\N\t{\"a\":\"\\\\\"\"}\n3\t\\N\t\"s\"\n");
        assert!(refused.is_empty());
        let (text, _) = read_all(b"{\"ID\":2,\"Name\":true}", true, &rules());
        assert_eq!(text, "2\ttrue\t\\N\n");
    }

    #[test]
    fn objects_may_span_lines_and_lines_may_hold_several() {
        let input = b"{\"id\":\n1,\n\"name\":\"a\"}{\"id\":2} {\"id\":3}\n  {\"id\":4\n}\n";
        let (text, refused) = read_all(input, false, &rules());
        assert_eq!(text, "1\ta\t\\N\n2\t\\N\t\\N\n3\t\\N\t\\N\n4\t\\N\t\\N\n");
        assert!(refused.is_empty());
    }

    #[test]
    fn what_is_no_object_is_refused_with_its_line_and_the_rest_is_loaded() {
        let input = b"{\"id\":1}\nnot json\n{\"id\":2}\n[1]\n{\"name\":\"too long for it\"}\n{\"id\":3}\n{\"id\":\xff}\n{\"id\":4";
        let (text, refused) = read_all(input, false, &rules());
        assert_eq!(text, "1\t\\N\t\\N\n2\t\\N\t\\N\n3\t\\N\t\\N\n");
        assert_eq!(refused, [(2, 1216), (4, 1216), (5, 1204), (7, 1220), (8, 1216)]);
        let accept = Rules { replace_invalid: Some('?'), ..rules() };
        let (text, refused) = read_all(b"{\"id\":1,\"name\":\"a\xff\xfe\"}\n{\"id\":2}", false, &accept);
        assert_eq!((text.as_str(), refused.len()), ("1\ta??\t\\N\n2\t\\N\t\\N\n", 0));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(input in proptest::collection::vec(prop_oneof![
            Just(b"{\"id\":".to_vec()), Just(b"1".to_vec()), Just(b"}".to_vec()), Just(b"\n".to_vec()), Just(b"\"".to_vec()),
            proptest::collection::vec(any::<u8>(), 1..3)], 0..24)) {
            let accept = Rules { replace_invalid: Some('?'), ..rules() };
            read_all(&input.concat(), false, &rules());
            read_all(&input.concat(), true, &accept);
        }
    }
}
