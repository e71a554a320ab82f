//! Records that cannot be delivered: they become lines of an error object in Firehose's shape, which is an output of the
//! same commit as the batch they were read in. So error records, too, are there exactly once.
//!
//! Never here: deciding that a record is bad (encoders and destinations do).

use std::collections::BTreeMap;

use standpipe_convert::error_line;
use standpipe_flow::deliver::ExtraObject;
use standpipe_flow::{Batch, Millis, Output, OutputKind, Receipt, RejectedRecord};

/// Error objects for what was rejected, one an `error-output-type`; `-<n>` begins after the data objects.
pub fn error_objects(batch: &Batch, rejected: &[RejectedRecord], ended: Millis, first: u32) -> Vec<ExtraObject> {
    let mut by_type: BTreeMap<&'static str, Vec<&RejectedRecord>> = BTreeMap::new();
    for record in rejected {
        by_type.entry(record.output_type).or_default().push(record);
    }
    let object = |(n, (output_type, records)): (usize, (&'static str, Vec<&RejectedRecord>))| {
        let mut body = Vec::new();
        for record in &records {
            error_line(record, ended, &mut body);
        }
        ExtraObject {
            kind: OutputKind::Error,
            output_type,
            ordinal: first + n as u32,
            cut_at: batch.cut_at,
            oldest_arrival: records.iter().map(|record| record.arrival).min().unwrap_or(batch.cut_at),
            body: body.into(),
            records: records.len() as u64,
        }
    };
    by_type.into_iter().enumerate().map(object).collect()
}

/// A batch that a destination refuses as a whole becomes error records, every one with the same reason.
pub fn reject_all(batch: &Batch, output_type: &'static str, code: &str, message: &str) -> Vec<RejectedRecord> {
    let rejected = |(lease, record): (&standpipe_flow::LeaseKey, &standpipe_flow::Record)| RejectedRecord {
        output_type,
        code: code.to_owned(),
        message: message.to_owned(),
        attempts: 1,
        arrival: record.arrival,
        lease: lease.clone(),
        sequence: record.sequence.clone(),
        sub: record.sub,
        data: record.data.clone(),
    };
    batch.records_with_lease().map(rejected).collect()
}

/// The text of an incident: which outputs of a commit were lost while others were visible, and the ranges whose records
/// are read again.
pub fn incident(receipt: &Receipt, lost: &[Output], at: Millis) -> Vec<u8> {
    let named =
        |output: &Output| serde_json::json!({ "bucket": output.bucket, "key": output.key, "records": output.records });
    let visible: Vec<_> = receipt.outputs.iter().filter(|output| !lost.contains(output)).map(named).collect();
    let ranges: Vec<_> = receipt
        .shards
        .iter()
        .map(|shard| {
            let (lease, from, to) = (shard.lease.as_str(), shard.from.to_string(), shard.to.to_string());
            serde_json::json!({ "lease": lease, "after": from, "to": to })
        })
        .collect();
    let text = serde_json::json!({
        "cid": receipt.cid.to_string(),
        "destination": receipt.destination.as_str(),
        "timestamp": at.0,
        "message": "uploads were aborted by somebody else after part of the commit was visible: the records of these ranges repeat",
        "lost": lost.iter().map(named).collect::<Vec<_>>(),
        "visible": visible,
        "ranges": ranges,
    });
    text.to_string().into_bytes()
}
