//! What a function answered, to a verdict on each record.
//!
//! Codes and messages are those that the service writes. As there, a record that the function did not give back, or gave
//! back twice, fails alone; ids that were not asked about are passed over; an answer that cannot be read fails all.
//! Pure: no answer, whatever it is, panics. Never here: a second try.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use standpipe_flow::Record;

use super::event::RecordId;

/// What becomes of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// `Ok`: it goes on, with these bytes and partition keys.
    Passed {
        data: Bytes,
        keys: BTreeMap<String, String>,
    },
    /// `Dropped`.
    Dropped,
    Failed(Failure),
}

/// Why a record fails: `errorCode` and `errorMessage` of its error record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Failure {
    pub(super) code: &'static str,
    pub(super) message: &'static str,
}

const fn failure(code: &'static str, message: &'static str) -> Failure {
    Failure { code, message }
}

pub(super) const FUNCTION_ERROR: Failure =
    failure("Lambda.FunctionError", "The Lambda function was successfully invoked but it returned an error result.");
/// The message is ours; Firehose's is not published.
pub(super) const FUNCTION_TIMEOUT: Failure = failure(
    "Lambda.FunctionTimeout",
    "The Lambda function did not answer in time. The maximum supported function timeout is 5 minutes.",
);
/// Code and message are ours: where Firehose has such a record it is larger than what it takes.
pub(super) const TOO_LARGE: Failure = failure(
    "Lambda.RequestTooLargeException",
    "The record is larger than what a synchronous invocation of a Lambda function takes.",
);
const MISSING: Failure = failure(
    "Lambda.MissingRecordId",
    "One or more record Ids were not returned. Ensure that the Lambda function returns all received record Ids.",
);
const DUPLICATED: Failure = failure(
    "Lambda.DuplicatedRecordId",
    "Multiple records were returned with the same record Id. Ensure that the Lambda function returns a unique record Id \
     for each record.",
);
const PROCESSING_FAILED: Failure = failure("Lambda.ProcessingFailedStatus", "ProcessingFailed status set for record");
const NO_DATA: Failure = failure(
    "Lambda.InvalidReturnFormat",
    "The data field cannot be null when the SourceType is DirectPut or KinesisStreamAsSource and processing result is Ok. \
     The value field cannot be null when the SourceType is MSKAsSource and processing result is Ok.",
);
const NO_JSON: Failure = failure(
    "Lambda.JsonProcessingException",
    "There was an error parsing returned records from the Lambda function. Ensure that the returned records follow the \
     status model required by Amazon Data Firehose.",
);
const WRONG_FORMAT: Failure = failure(
    "Lambda.FunctionError",
    "Check your function and make sure the output is in required format. In addition to that, make sure the processed \
     records contain valid result status of Dropped, Ok, or ProcessingFailed",
);

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default)]
    records: Option<Vec<Answered<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answered<'a> {
    #[serde(borrow, default)]
    record_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    result: Option<Text<'a>>,
    #[serde(borrow, default)]
    data: Option<Text<'a>>,
    #[serde(default)]
    metadata: Option<Metadata>,
}

/// Of `metadata` the partition keys are read; `otfMetadata`, which routes to tables, is not yet.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    partition_keys: Option<BTreeMap<String, Option<Scalar>>>,
}

/// A string that is borrowed from the answer where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Firehose reads a map of strings, into which numbers and booleans fit too.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Number(serde_json::Number),
    Bool(bool),
}

impl Scalar {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
            Self::Bool(bool) => bool.to_string(),
        }
    }
}

/// What was answered about one id.
enum About<'a> {
    Once(Answered<'a>),
    Twice,
}

/// The verdicts on the records that were asked about, in their order; or why all of them fail.
pub(super) fn verdicts(records: &[Record], answer: &[u8]) -> Result<Vec<Verdict>, Failure> {
    let answer: Option<Answer<'_>> = serde_json::from_slice(answer).map_err(|_| NO_JSON)?;
    let mut by_id: BTreeMap<Cow<'_, str>, About<'_>> = BTreeMap::new();
    for mut answered in answer.and_then(|answer| answer.records).unwrap_or_default() {
        if let Some(Text(id)) = answered.record_id.take() {
            by_id.entry(id).and_modify(|about| *about = About::Twice).or_insert(About::Once(answered));
        }
    }
    let verdict = |record| match by_id.remove(RecordId(record).to_string().as_str()) {
        None => Ok(Verdict::Failed(MISSING)),
        Some(About::Twice) => Ok(Verdict::Failed(DUPLICATED)),
        Some(About::Once(answered)) => one(answered),
    };
    records.iter().map(verdict).collect()
}

fn one(answered: Answered<'_>) -> Result<Verdict, Failure> {
    match answered.result.as_ref().map(|Text(result)| result.as_ref()) {
        Some("Dropped") => return Ok(Verdict::Dropped),
        Some("ProcessingFailed") => return Ok(Verdict::Failed(PROCESSING_FAILED)),
        Some("Ok") => {}
        _ => return Err(WRONG_FORMAT),
    }
    let Some(Text(data)) = answered.data else { return Ok(Verdict::Failed(NO_DATA)) };
    // Line feeds, which some libraries put into base64, are no fault; nor is missing padding.
    let data = base64_simd::forgiving_decode_to_vec(data.as_bytes()).map_err(|_| WRONG_FORMAT)?.into();
    let keys = answered.metadata.and_then(|metadata| metadata.partition_keys).unwrap_or_default();
    // A key without a value is as good as none: whether it may be missing is for the destination to say.
    let keys = keys.into_iter().filter_map(|(key, value)| Some((key, value?.into_text()))).collect();
    Ok(Verdict::Passed { data, keys })
}

/// Whether the payload of a function error says that the answer was larger than Lambda lets through.
pub(super) fn says_too_large(payload: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Error<'a> {
        #[serde(borrow)]
        error_type: Text<'a>,
    }
    serde_json::from_slice::<Error<'_>>(payload)
        .is_ok_and(|Error { error_type: Text(name) }| name == "Function.ResponseSizeTooLarge")
}

#[cfg(test)]
mod tests;
