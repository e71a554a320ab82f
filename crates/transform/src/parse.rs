//! `parse`: what a line or a document says, as JSON (or CSV), in place of the Lambda blueprints that people used for it.
//!
//! One stage a form. Field names are those of AWS's blueprints and of the Kinesis agent, so that tables made for them
//! go on:
//!
//! | stage | fields |
//! |---|---|
//! | `apache_common` | `host`, `ident`, `authuser`, `@timestamp`, `request`, `response`, `bytes`, and if known `verb`, `timezone`, `@timestamp_utc` |
//! | `apache_combined` | these, `referrer`, `agent` |
//! | `syslog_rfc3164` | `timestamp`, `hostname`, `program`, `processid`, `message`, and with a priority `facility`, `severity` |
//! | `syslog_rfc5424` | these, `messageid`, `structured_data` |
//! | `csv` | the columns, all as strings |
//! | `regex` | the named groups, all as strings |
//! | `xml` | one for the root element: attributes as `@name`, text beside other things as `#text`, what is repeated as an array |
//! | `json_to_csv` | the columns, as a row |
//!
//! A record is one line or one document of at most [`PARSE_BYTES_MAX`], in UTF-8; only `csv` takes several rows and makes
//! a record of each. What does not fit the form is rejected; its content is not in the message.
//!
//! Never here: several lines in a record (`split` stands before), choosing or renaming fields (`jq` stands behind).

mod apache;
mod csv;
mod json_to_csv;
mod line;
mod object;
mod regex;
mod syslog;
mod xml;

pub use apache::{Apache, ApacheFormat};
pub use csv::{Csv, CsvColumns, CsvSettings};
pub use json_to_csv::{JsonToCsv, JsonToCsvSettings};
pub use regex::Regex;
pub use syslog::{Syslog, SyslogFormat};
pub use xml::Xml;

use standpipe_flow::Record;

use crate::stage::Fault;

/// Bytes of a record that is parsed: above what Kinesis lets in (10 MiB). What was compressed may be more, and is to be
/// split first.
pub const PARSE_BYTES_MAX: usize = 16 << 20;

/// The text of a record.
fn text(record: &Record) -> Result<&str, Fault> {
    if record.data.len() > PARSE_BYTES_MAX {
        let message = format!("the record has more than {PARSE_BYTES_MAX} bytes: split it first");
        return Err(Fault::processing("Parse.TooLarge", message));
    }
    std::str::from_utf8(&record.data).map_err(|error| {
        Fault::processing("Parse.NotUtf8", format!("the record is not UTF-8 from byte {} on", error.valid_up_to()))
    })
}

/// The one line that a record is, without its newline.
fn line(record: &Record) -> Result<&str, Fault> {
    text(record).map(|text| text.trim_end_matches(['\r', '\n']))
}
