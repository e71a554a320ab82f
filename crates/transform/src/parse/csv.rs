//! `csv`: rows to JSON, a record each.
//!
//! The names of the columns stand in the config, or in the first row of every record. Values are strings, as the Kinesis
//! agent (`CSVTOJSON`) makes them: `jq` or the table's schema makes numbers of them. A record of one row stays that
//! record; of several, each row becomes a piece. A row with another number of fields than there are columns rejects the
//! record. A record without a row is dropped.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use standpipe_flow::Record;

use super::text;
use crate::stage::{Fault, Made, Stage};

/// What `csv` takes from the config.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CsvSettings {
    /// Where the names of the columns stand.
    pub columns: CsvColumns,
    /// What stands between fields: one ASCII character, by default a comma.
    pub delimiter: char,
    /// What fields with a delimiter or a newline are put in, doubled within: one ASCII character, by default `"`. `None`:
    /// quotes mean nothing.
    pub quote: Option<char>,
}

/// Where the names of the columns stand.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CsvColumns {
    /// `columns: [...]`.
    Named(Vec<String>),
    /// `header: true`: in the first row of every record.
    Header,
}

/// The stage.
#[derive(Debug)]
pub struct Csv {
    /// `None`: they stand in the first row of every record.
    columns: Option<Members>,
    builder: ReaderBuilder,
    /// Readers that nobody uses. The tables of one cost more than most rows do, and a clone of one has not all of them.
    readers: Mutex<Vec<Reader>>,
}

/// Every record of these fields that cannot be read is rejected with this code.
const CODE: &str = "Parse.Csv";

impl Csv {
    /// Fails, with words for the user, if there is no column, two have one name, or a character cannot have its part.
    pub fn new(settings: CsvSettings) -> Result<Self, String> {
        let columns = match &settings.columns {
            CsvColumns::Named(names) => {
                check_names(names)?;
                Some(Members::of(names.iter().map(String::as_str)))
            }
            CsvColumns::Header => None,
        };
        let delimiter = separator("delimiter", settings.delimiter)?;
        let quote = settings.quote.map(|quote| separator("quote", quote)).transpose()?;
        if quote == Some(delimiter) {
            return Err("delimiter and quote are the same character".into());
        }
        let mut builder = ReaderBuilder::new();
        builder.delimiter(delimiter);
        match quote {
            Some(quote) => builder.quote(quote),
            None => builder.quoting(false),
        };
        Ok(Self { columns, builder, readers: Mutex::default() })
    }

    // A poisoned lock holds a list that is whole.
    fn readers(&self) -> MutexGuard<'_, Vec<Reader>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stage for Csv {
    fn name(&self) -> &'static str {
        "csv"
    }

    fn apply(&self, record: Record, made: &mut Made) -> Result<(), Fault> {
        let text = text(&record)?;
        let kept = self.readers().pop();
        let mut reader = kept.unwrap_or_else(|| self.builder.build());
        reader.reset();
        let applied = self.rows(&record, Rows::of(text, &mut reader), made);
        self.readers().push(reader);
        applied
    }
}

impl Csv {
    fn rows(&self, record: &Record, mut rows: Rows<'_>, made: &mut Made) -> Result<(), Fault> {
        let header;
        let members = match &self.columns {
            Some(members) => members,
            None => {
                let Some(row) = rows.next()? else { return Ok(()) };
                let names: Vec<&str> = row.fields().collect();
                check_names(&names).map_err(|wrong| Fault::processing(CODE, format!("the first row: {wrong}")))?;
                header = Members::of(names);
                &header
            }
        };
        // One row is the record itself, so the first waits for a second.
        let mut first = rows.next()?.map(|row| row.object(members)).transpose()?;
        while let Some(row) = rows.next()? {
            if let Some(first) = first.take() {
                made.piece(record, first);
            }
            made.piece(record, row.object(members)?);
            if made.is_over() {
                return Ok(());
            }
        }
        match first {
            Some(only) => made.change(record, only),
            None if made.is_empty() && self.columns.is_none() => return Err(only_a_header()),
            None => {}
        }
        Ok(())
    }
}

/// Room for the ends of so many fields; of more it grows.
const FIELDS: usize = 32;

/// The rows of a text, one after the other.
struct Rows<'a> {
    reader: &'a mut Reader,
    rest: &'a [u8],
    /// What the fields of the present row say, one after the other: never more than the text.
    bytes: Vec<u8>,
    /// Where each of them ends there.
    ends: Vec<usize>,
    number: u64,
}

/// One row.
struct Row<'a> {
    text: &'a str,
    ends: &'a [usize],
    /// From 1, a header included.
    number: u64,
}

impl<'a> Rows<'a> {
    /// `reader` stands at the beginning of a text.
    fn of(text: &'a str, reader: &'a mut Reader) -> Self {
        // One byte more: the reader has no use for a buffer without room.
        Self { reader, rest: text.as_bytes(), bytes: vec![0; text.len() + 1], ends: vec![0; FIELDS], number: 0 }
    }

    /// The next row; none at the end of the text. Lines without a byte are none.
    fn next(&mut self) -> Result<Option<Row<'_>>, Fault> {
        let (mut bytes, mut ends) = (0, 0);
        loop {
            // When nothing is left, the empty rest says so to the reader.
            let (result, read, written, ended) =
                self.reader.read_record(self.rest, &mut self.bytes[bytes..], &mut self.ends[ends..]);
            self.rest = &self.rest[read..];
            (bytes, ends) = (bytes + written, ends + ended);
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.bytes.resize(2 * self.bytes.len(), 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(2 * self.ends.len(), 0),
                ReadRecordResult::End => return Ok(None),
                ReadRecordResult::Record => break,
            }
        }
        self.number += 1;
        // Quotes and delimiters are ASCII, so that what is left of a text is one.
        let text = std::str::from_utf8(&self.bytes[..bytes]).map_err(|_| unreadable())?;
        Ok(Some(Row { text, ends: &self.ends[..ends], number: self.number }))
    }
}

impl<'a> Row<'a> {
    fn fields(&self) -> impl Iterator<Item = &'a str> {
        let text = self.text;
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        // Every end lies where a quote, a delimiter or a row's end was.
        starts.zip(self.ends).map(move |(start, end)| text.get(start..*end).unwrap_or_default())
    }

    /// The row as a JSON object.
    fn object(&self, members: &Members) -> Result<Vec<u8>, Fault> {
        let Self { text, ends, number } = self;
        let columns = members.names.len();
        if ends.len() != columns {
            let message = format!("row {number} has {} fields, and there are {columns} columns", ends.len());
            return Err(Fault::processing(CODE, message));
        }
        let mut json = Vec::with_capacity(members.bytes + text.len() + 3 * columns + 2);
        json.push(b'{');
        for (name, value) in members.names.iter().zip(self.fields()) {
            if json.len() > 1 {
                json.push(b',');
            }
            json.extend_from_slice(name.as_bytes());
            serde_json::to_writer(&mut json, value).expect("a string has JSON, and a vector takes every byte");
        }
        json.push(b'}');
        Ok(json)
    }
}

/// The columns as members of an object, made once: a long name in front of many rows would cost more than they do.
#[derive(Debug)]
struct Members {
    /// Each name as JSON, with its colon.
    names: Vec<String>,
    /// Bytes of them all.
    bytes: usize,
}

impl Members {
    fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let member = |name: &str| format!("{}:", serde_json::Value::from(name));
        let names: Vec<String> = names.into_iter().map(member).collect();
        let bytes = names.iter().map(String::len).sum();
        Self { names, bytes }
    }
}

/// Most likely its producer writes rows alone.
fn only_a_header() -> Fault {
    Fault::processing(CODE, "there is no row: without `columns` the first row of each record is its header")
}

fn unreadable() -> Fault {
    Fault::processing(CODE, "a row cannot be read")
}

/// A character that can stand between fields or around one.
pub(super) fn separator(what: &str, separator: char) -> Result<u8, String> {
    match u8::try_from(separator) {
        Ok(b'\n' | b'\r') => Err(format!("{what} cannot be a newline: it ends a row")),
        Ok(byte) if byte.is_ascii() => Ok(byte),
        _ => Err(format!("{what} must be one ASCII character")),
    }
}

/// There are columns, and no two of one name.
pub(super) fn check_names(names: &[impl Ord]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    match names.iter().position(|name| !seen.insert(name)) {
        Some(at) => Err(format!("column {} has the name of another before it", at + 1)),
        None if names.is_empty() => Err("there is no column".into()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::testing::{Outcome, outcome, record};

    fn settings(columns: &[&str]) -> CsvSettings {
        let columns = if columns.is_empty() {
            CsvColumns::Header
        } else {
            CsvColumns::Named(columns.iter().map(|name| (*name).to_owned()).collect())
        };
        CsvSettings { columns, delimiter: ',', quote: Some('"') }
    }

    fn rows(settings: CsvSettings, data: &str) -> Vec<String> {
        let made = outcome(&Csv::new(settings).unwrap(), record(data.to_owned())).records();
        made.into_iter().map(|record| String::from_utf8(record.data.to_vec()).unwrap()).collect()
    }

    #[test]
    fn one_row_is_the_record_and_several_are_pieces_of_it() {
        let columns = ["a", "b"];
        let stage = Csv::new(settings(&columns)).unwrap();
        let made = outcome(&stage, record("1,\"x, \"\"y\"\"\nz\"\r\n")).records();
        assert_eq!(made[0].data, r#"{"a":"1","b":"x, \"y\"\nz"}"#);
        assert_eq!(made[0].original(), "1,\"x, \"\"y\"\"\nz\"\r\n");
        let made = outcome(&stage, record("1,2\n\n3,\n")).records();
        assert_eq!((&made[0].data[..], &made[1].data[..]), (&br#"{"a":"1","b":"2"}"#[..], &br#"{"a":"3","b":""}"#[..]));
        assert_eq!(made[1].original(), r#"{"a":"3","b":""}"#);
        assert_eq!(outcome(&stage, record("\n\r\n")), Outcome::Made(vec![]));
    }

    #[test]
    fn a_header_names_the_columns_of_its_record() {
        assert_eq!(rows(settings(&[]), "\u{feff}x,y\n1,2\n3,4\n"), [r#"{"x":"1","y":"2"}"#, r#"{"x":"3","y":"4"}"#]);
        assert_eq!(rows(settings(&[]), "x\n1"), [r#"{"x":"1"}"#]);
        assert_eq!(rows(settings(&[]), ""), [""; 0]);
        let header = Csv::new(settings(&[])).unwrap();
        let fault = outcome(&header, record("x,y\n")).fault();
        assert!(fault.message.starts_with("there is no row: without `columns`"), "{}", fault.message);
    }

    #[test]
    fn delimiter_and_quote_are_settings() {
        let tabs = CsvSettings { delimiter: '\t', quote: None, ..settings(&["a", "b"]) };
        assert_eq!(rows(tabs, "\"x\ty\""), [r#"{"a":"\"x","b":"y\""}"#]);
        let single = CsvSettings { delimiter: ';', quote: Some('\''), ..settings(&["a", "b"]) };
        assert_eq!(rows(single, "'x;y';\"z\""), [r#"{"a":"x;y","b":"\"z\""}"#]);
    }

    #[test]
    fn a_row_of_another_length_rejects_the_record() {
        let stage = Csv::new(settings(&["a", "b"])).unwrap();
        for (data, message) in [
            ("1", "row 1 has 1 fields, and there are 2 columns"),
            ("1,2\n\n3,4,secret\n", "row 2 has 3 fields, and there are 2 columns"),
        ] {
            let fault = outcome(&stage, record(data)).fault();
            assert_eq!((fault.output_type, fault.code, &*fault.message), ("processing-failed", "Parse.Csv", message));
        }
        let header = Csv::new(settings(&[])).unwrap();
        let twice = outcome(&header, record("x,x\n1,2")).fault();
        assert_eq!(&*twice.message, "the first row: column 2 has the name of another before it");
        assert_eq!(outcome(&header, record(&b"x\n\xff"[..])).fault().code, "Parse.NotUtf8");
    }

    #[test]
    fn settings_that_cannot_be_meant_are_refused() {
        let new = |settings| Csv::new(settings).unwrap_err();
        assert_eq!(new(settings(&["a", "a"])), "column 2 has the name of another before it");
        let named = |columns| CsvSettings { columns, ..settings(&[]) };
        assert_eq!(new(named(CsvColumns::Named(Vec::new()))), "there is no column");
        assert_eq!(new(CsvSettings { delimiter: '→', ..settings(&[]) }), "delimiter must be one ASCII character");
        assert_eq!(new(CsvSettings { quote: Some('\n'), ..settings(&[]) }), "quote cannot be a newline: it ends a row");
        assert_eq!(new(CsvSettings { delimiter: '"', ..settings(&[]) }), "delimiter and quote are the same character");
    }

    proptest! {
        #[test]
        fn any_bytes_are_rows_or_rejected(data in proptest::collection::vec(any::<u8>(), 0..200), text in "[a,\"\n\r\u{e9}]{0,40}") {
            for columns in [&[][..], &["a"], &["a", "b"]] {
                outcome(&Csv::new(settings(columns)).unwrap(), record(data.clone()));
                if let Outcome::Made(made) = outcome(&Csv::new(settings(columns)).unwrap(), record(text.clone())) {
                    prop_assert!(made.iter().all(|record| serde_json::from_slice::<Value>(&record.data).unwrap().is_object()));
                }
            }
        }

        #[test]
        fn what_was_written_as_rows_comes_out(
            rows_in in proptest::collection::vec(proptest::collection::vec(any::<String>(), 3), 1..6),
            delimiter in prop_oneof![Just(','), Just('\t'), Just(';')],
        ) {
            let mut writer = csv::WriterBuilder::new().delimiter(delimiter as u8).from_writer(Vec::new());
            rows_in.iter().for_each(|row| writer.write_record(row).unwrap());
            // A mark at the very beginning belongs to the encoding.
            let text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            prop_assume!(!text.starts_with('\u{feff}'));
            let made = rows(CsvSettings { delimiter, ..settings(&["a", "b", "c"]) }, &text);
            let read: Vec<Vec<String>> = made
                .iter()
                .map(|json| serde_json::from_str::<Value>(json).unwrap())
                .map(|json| ["a", "b", "c"].map(|name| json[name].as_str().unwrap().to_owned()).into())
                .collect();
            prop_assert_eq!(read, rows_in);
        }
    }
}
