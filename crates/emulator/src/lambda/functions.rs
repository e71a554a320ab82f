//! Functions that transform the records of a delivery stream, for tests: a closure decides on each record.

use std::future::{Ready, ready};

use bytes::Bytes;
use serde_json::{Value, json};

use super::Reply;

/// What a function says of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// `Ok` with these bytes.
    Ok(Vec<u8>),
    /// `Ok` with these bytes and partition keys.
    Keyed(Vec<u8>, Vec<(String, String)>),
    /// `Dropped`.
    Dropped,
    /// `ProcessingFailed`.
    Failed,
    /// Nothing: a defect of the function.
    Silent,
    /// `Ok` with these bytes, twice: a defect of the function.
    Twice(Vec<u8>),
    /// Whatever this is, with the record's id put in as `recordId`.
    Raw(Value),
}

/// A function that decides on each record by its number in the event and its bytes.
pub fn each(fate: impl Fn(usize, Vec<u8>) -> Fate + Send + Sync) -> impl Fn(Bytes) -> Ready<Reply> + Send + Sync {
    move |event| ready(answer(&event, &fate).unwrap_or_else(|| Reply::failed("KeyError", "'records'")))
}

fn answer(event: &[u8], fate: &dyn Fn(usize, Vec<u8>) -> Fate) -> Option<Reply> {
    let event: Value = serde_json::from_slice(event).ok()?;
    let mut answered = Vec::new();
    for (i, record) in event.get("records")?.as_array()?.iter().enumerate() {
        let id = record.get("recordId")?;
        let data = base64_simd::STANDARD.decode_to_vec(record.get("data")?.as_str()?).ok()?;
        let ok = |data: &[u8]| json!({ "recordId": id, "result": "Ok", "data": base64_simd::STANDARD.encode_to_string(data) });
        match fate(i, data.clone()) {
            Fate::Ok(data) => answered.push(ok(&data)),
            Fate::Keyed(data, keys) => {
                let keys: serde_json::Map<_, _> = keys.into_iter().map(|(key, value)| (key, value.into())).collect();
                let mut one = ok(&data);
                one["metadata"] = json!({ "partitionKeys": keys });
                answered.push(one);
            }
            Fate::Dropped => answered.push(json!({ "recordId": id, "result": "Dropped" })),
            Fate::Failed => {
                answered.push(json!({ "recordId": id, "result": "ProcessingFailed", "data": record["data"] }))
            }
            Fate::Silent => {}
            Fate::Twice(data) => answered.extend([ok(&data), ok(&data)]),
            Fate::Raw(mut one) => {
                one["recordId"] = id.clone();
                answered.push(one);
            }
        }
    }
    Some(Reply::Returned(json!({ "records": answered }).to_string().into()))
}
