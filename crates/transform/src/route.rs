//! `partition_by`: which partition of its destination a record belongs to.
//!
//! The keys come from one jq expression each, all over the record that is parsed once, and from the answer of a Lambda
//! function, those of its keys that the prefix names. Records of equal values share one [`Partition`]. Never here: how
//! values become part of an object's key, how many partitions may be open.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use standpipe_flow::{Partition, Record};

use crate::jq::{JqError, Limits, Programs};
use crate::stage::{Fault, Made, Stage};

/// Firehose's code for a record whose partition keys cannot be had.
pub const METADATA_EXTRACTION_FAILED: &str = "DynamicPartitioning.MetadataExtractionFailed";

/// Firehose's words for a key that is missing, null or empty.
const EMPTY: &str = "partitionKeys values must not be null or empty";

/// Partitions that are remembered so that equal ones are shared. One that was forgotten is made again: it is equal, only
/// not the same piece of memory.
const KEPT_MAX: usize = 10_000;

/// What becomes of a record whose value for a key is missing, null or the empty string.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum OnMissing {
    /// It is rejected, as Firehose does.
    #[default]
    Error,
    /// The key's value is this text.
    Default(String),
}

/// What `partition_by` says.
#[derive(Clone, Default, Debug)]
pub struct RouteSettings {
    /// Keys and their jq expressions: at most 50 in Firehose.
    pub query: BTreeMap<String, String>,
    /// Keys of a Lambda function's `metadata.partitionKeys` that the prefix names.
    pub lambda: Vec<String>,
    /// For keys of both kinds.
    pub on_missing: OnMissing,
    /// Of all expressions together, for each record.
    pub limits: Limits,
}

/// Which key's expression is wrong.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("partition key {key}: {error}")]
pub struct RouteError {
    /// The key in `partition_by`.
    pub key: String,
    /// Where in its expression, and what.
    #[source]
    pub error: JqError,
}

/// The stage `partition_by`.
#[derive(Debug)]
pub struct Route {
    keys: Vec<String>,
    programs: Programs,
    lambda: Vec<String>,
    on_missing: OnMissing,
    kept: Mutex<BTreeMap<Partition, Arc<Partition>>>,
}

impl Route {
    /// Compiles the expressions.
    pub fn new(settings: RouteSettings) -> Result<Self, RouteError> {
        let (keys, texts): (Vec<_>, Vec<_>) = settings.query.into_iter().unzip();
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        match Programs::new(&texts, settings.limits) {
            Ok(programs) => Ok(Self {
                keys,
                programs,
                lambda: settings.lambda,
                on_missing: settings.on_missing,
                kept: Mutex::default(),
            }),
            Err((at, error)) => Err(RouteError { key: keys[at].clone(), error }),
        }
    }

    /// The partition of a record. Of an expression's outputs the first one counts; a number or a boolean is its text; an
    /// array or an object is no key. Of a record with several JSON documents the first one counts.
    pub fn partition(&self, record: &Record) -> Result<Arc<Partition>, Fault> {
        let mut partition = Partition::default();
        if !self.keys.is_empty() {
            let values = self.programs.texts(&record.data).map_err(failed)?;
            for (key, value) in self.keys.iter().zip(values) {
                partition.query.insert(key.clone(), self.present(value)?);
            }
        }
        for key in &self.lambda {
            let value = record.transformed.as_ref().and_then(|transformed| transformed.keys.get(key));
            partition.lambda.insert(key.clone(), self.present(value.cloned())?);
        }
        Ok(self.shared(partition))
    }

    fn present(&self, value: Option<String>) -> Result<String, Fault> {
        match (value.filter(|value| !value.is_empty()), &self.on_missing) {
            (Some(value), _) => Ok(value),
            (None, OnMissing::Default(text)) => Ok(text.clone()),
            (None, OnMissing::Error) => Err(Fault::processing(METADATA_EXTRACTION_FAILED, EMPTY)),
        }
    }

    fn shared(&self, partition: Partition) -> Arc<Partition> {
        // A poisoned lock holds a map that is whole: an insert is the last thing done under it.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = kept.get(&partition) {
            return shared.clone();
        }
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        let shared = Arc::new(partition.clone());
        kept.insert(partition, shared.clone());
        shared
    }
}

/// The record is no JSON, or an expression failed on it: in Firehose both are one error.
fn failed(fault: Fault) -> Fault {
    Fault { code: METADATA_EXTRACTION_FAILED, ..fault }
}

impl Stage for Route {
    fn name(&self) -> &'static str {
        "partition_by"
    }

    fn apply(&self, mut record: Record, made: &mut Made) -> Result<(), Fault> {
        record.partition = Some(self.partition(&record)?);
        made.pass(record);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
