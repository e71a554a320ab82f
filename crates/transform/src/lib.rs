//! `read -> transform`: records as they were read to records as they are delivered.
//!
//! [`Transforms`] are the stages of a pipeline, in the order of its config; each may pass, drop, change, multiply or
//! reject a record. What looks at one record at a time is a [`Stage`]; a function outside is asked about many at once.
//! Invariants: records stay in order; a record that goes in comes out, is dropped by a stage whose business that is, or
//! is rejected with its reason and the bytes that were read; no record makes a stage panic, hang or take memory without
//! bound.
//!
//! Never here: which destination a record goes to, batching, the lease.

mod cloudwatch_logs;
mod decompress;
pub mod jq;
pub mod lambda;
mod parse;
mod route;
mod split;
mod stage;
#[cfg(test)]
mod testing;
mod texts;
mod transforms;
mod when;

pub use cloudwatch_logs::{CloudWatchLogs, CloudWatchLogsSettings};
pub use decompress::{Codec, DECOMPRESSION_FAILED, Decompress, DecompressSettings};
pub use jq::{Jq, JqError};
pub use lambda::{Lambda, LambdaSettings};
pub use parse::{
    Apache, ApacheFormat, Csv, CsvColumns, CsvSettings, JsonToCsv, JsonToCsvSettings, PARSE_BYTES_MAX, Regex, Syslog,
    SyslogFormat, Xml,
};
pub use route::{METADATA_EXTRACTION_FAILED, OnMissing, Route, RouteError, RouteSettings};
pub use split::{Split, SplitBy, SplitSettings};
pub use stage::{Fate, Fault, Made, PROCESSING_FAILED, RESULT_BYTES_MAX, Stage};
pub use texts::Texts;
pub use transforms::{Counts, Step, Transforms, numbered};
pub use when::When;
