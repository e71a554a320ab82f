//! Records that cannot be delivered: they become lines of an error object in Firehose's shape, which is an output of the
//! same commit as the batch they were read in. So error records, too, are there exactly once.
//!
//! Never here: deciding that a record is bad (encoders and destinations do).

use std::collections::BTreeMap;

use standpipe_convert::error_line;
use standpipe_flow::deliver::ExtraObject;
use standpipe_flow::{Batch, Millis, Output, OutputKind, Receipt, RejectedRecord};

/// Bytes of rejected records in one error object: their base64 and its frame stand outside the memory budget while it is
/// staged.
const OBJECT_BYTES_MAX: usize = 8 << 20;

/// Error objects for what was rejected, at least one an `error-output-type`, built one by one; `-<n>` begins after the
/// data objects.
pub fn error_objects<'a>(
    batch: &'a Batch,
    rejected: &'a [RejectedRecord],
    ended: Millis,
    first: u32,
) -> impl Iterator<Item = ExtraObject> + 'a {
    let mut by_type: BTreeMap<&'static str, Vec<&RejectedRecord>> = BTreeMap::new();
    for record in rejected {
        by_type.entry(record.output_type).or_default().push(record);
    }
    let groups = by_type.into_iter().flat_map(|(output_type, records)| {
        cut(records).into_iter().map(move |records| (output_type, records)).collect::<Vec<_>>()
    });
    groups.zip(first..).map(move |((output_type, records), ordinal)| {
        let mut body = Vec::new();
        for record in &records {
            error_line(record, ended, &mut body);
        }
        ExtraObject {
            kind: OutputKind::Error,
            output_type,
            ordinal,
            cut_at: batch.cut_at,
            oldest_arrival: records.iter().map(|record| record.arrival).min().unwrap_or(batch.cut_at),
            body: body.into(),
            records: records.len() as u64,
        }
    })
}

/// Groups of records, in order, of which each is within [`OBJECT_BYTES_MAX`] or a single record.
fn cut(records: Vec<&RejectedRecord>) -> Vec<Vec<&RejectedRecord>> {
    let mut groups: Vec<Vec<&RejectedRecord>> = Vec::new();
    let mut bytes = 0;
    for record in records {
        bytes += record.data.len();
        match groups.last_mut() {
            Some(group) if bytes <= OBJECT_BYTES_MAX => group.push(record),
            _ => {
                bytes = record.data.len();
                groups.push(vec![record]);
            }
        }
    }
    groups
}

/// A batch that a destination refuses as a whole becomes error records, every one with the same reason.
pub fn reject_all(batch: &Batch, output_type: &'static str, code: &str, message: &str) -> Vec<RejectedRecord> {
    batch.records_with_lease().map(|of| RejectedRecord::of(of, output_type, code, message)).collect()
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
