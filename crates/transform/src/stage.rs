//! The contract of a stage that looks at one record at a time.

use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use standpipe_flow::{Record, Transformed};

/// `error-output-type` of what a transform could not take.
pub const PROCESSING_FAILED: &str = "processing-failed";

/// Drops, changes, multiplies or refuses one record. Runs on a thread that may be busy for a while, never on one that
/// waits for services; bounds its own time and memory.
pub trait Stage: Debug + Send + Sync + 'static {
    /// The label `stage` of its metrics: the key in the config.
    fn name(&self) -> &'static str;

    /// Gives what becomes of a record: nothing, the record, or several. What was given before a fault is forgotten.
    fn apply(&self, record: Record, made: &mut Made) -> Result<(), Fault>;
}

/// Why a record cannot be transformed: it becomes an error record, with the bytes that were read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// `error-output-type`: the folder.
    pub output_type: &'static str,
    /// The error code, such as `Jq.RuntimeError`.
    pub code: &'static str,
    /// What was wrong, without the record's content.
    pub message: Arc<str>,
}

impl Fault {
    /// A fault in the folder `processing-failed`.
    pub fn processing(code: &'static str, message: impl Into<Arc<str>>) -> Self {
        Self { output_type: PROCESSING_FAILED, code, message: message.into() }
    }
}

/// What became of a record in a stage: the label `result` of its metric.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It goes on: as it is, changed, or as several.
    Passed,
    /// It was dropped, as it should be.
    Dropped,
    /// It could not be transformed.
    Failed,
}

impl Fate {
    /// The label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
        }
    }
}

/// What a stage made of one record, in order.
#[derive(Debug, Default)]
pub struct Made {
    records: Vec<Record>,
}

impl Made {
    /// The record goes on as it is.
    pub fn pass(&mut self, record: Record) {
        self.records.push(record);
    }

    /// The record goes on with other bytes; it remembers those that were read.
    pub fn change(&mut self, record: &Record, data: impl Into<Bytes>) {
        self.records.push(record.with_data(data.into()));
    }

    /// One of several records that are made of one. It stands for itself: an error object will show its own bytes.
    pub fn piece(&mut self, of: &Record, data: impl Into<Bytes>) {
        let keys = of.transformed.as_ref().map(|transformed| transformed.keys.clone()).unwrap_or_default();
        let transformed = Some(Box::new(Transformed { part: of.part(), original: None, keys }));
        self.records.push(Record { data: data.into(), transformed, ..of.clone() });
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Takes them out.
    pub fn take(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }
}
