//! The contract of a stage that looks at one record at a time.

use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use standpipe_flow::{Record, Transformed};

/// `error-output-type` of what a transform could not take.
pub const PROCESSING_FAILED: &str = "processing-failed";

/// Bytes that may be made of one record, by all stages together: twice what `decompress` lets out by default, so that
/// what comes out can be split.
pub const RESULT_BYTES_MAX: usize = 128 << 20;

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

    /// A text that is not the JSON that was asked for. Names the place; what serde_json says of types would show content.
    pub(crate) fn json(code: &'static str, what: &str, error: &serde_json::Error) -> Self {
        let reason = match error.classify() {
            serde_json::error::Category::Eof => "the text ends too early",
            serde_json::error::Category::Data => "a value of another type, or a missing one",
            serde_json::error::Category::Syntax | serde_json::error::Category::Io => "not JSON",
        };
        Self::processing(code, format!("{what}: {reason} at line {}, column {}", error.line(), error.column()))
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

/// What a stage made of one record, in order. Holds no more than it has room for: what is beyond that is not kept, and
/// the record is rejected.
#[derive(Debug)]
pub struct Made {
    records: Vec<Record>,
    bytes: usize,
    room: usize,
}

impl Default for Made {
    fn default() -> Self {
        Self::with_room(RESULT_BYTES_MAX)
    }
}

impl Made {
    /// Room for so many bytes of records, by [`held_bytes`].
    pub(crate) fn with_room(room: usize) -> Self {
        Self { records: Vec::new(), bytes: 0, room }
    }

    /// The record goes on as it is.
    pub fn pass(&mut self, record: Record) {
        self.add(record);
    }

    /// The record goes on with other bytes; it remembers those that were read.
    pub fn change(&mut self, record: &Record, data: impl Into<Bytes>) {
        self.add(record.with_data(data.into()));
    }

    /// One of several records that are made of one. It stands for itself: an error object will show its own bytes.
    pub fn piece(&mut self, of: &Record, data: impl Into<Bytes>) {
        let keys = of.transformed.as_ref().map(|transformed| transformed.keys.clone()).unwrap_or_default();
        self.add(Record {
            data: data.into(),
            partition_key: of.partition_key.clone(),
            sequence: of.sequence.clone(),
            sub: of.sub,
            arrival: of.arrival,
            transformed: Some(Box::new(Transformed { part: of.part(), original: None, keys })),
            partition: of.partition.clone(),
        });
    }

    fn add(&mut self, record: Record) {
        self.bytes = self.bytes.saturating_add(held_bytes(&record));
        if self.is_over() {
            self.records = Vec::new();
        } else {
            self.records.push(record);
        }
    }

    /// Whether there was more than there is room for. The record will be rejected: a stage may stop.
    pub fn is_over(&self) -> bool {
        self.bytes > self.room
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
        self.bytes = 0;
        std::mem::take(&mut self.records)
    }
}

/// What a record holds: itself, its bytes, and those that were read beside them.
pub(crate) fn held_bytes(record: &Record) -> usize {
    let added = record.transformed.as_ref().map_or(0, |added| {
        let keys: usize = added.keys.iter().map(|(key, value)| key.len() + value.len() + 2 * size_of::<String>()).sum();
        size_of::<Transformed>() + added.original.as_ref().map_or(0, Bytes::len) + keys
    });
    size_of::<Record>() + record.data.len() + added
}
