//! Records that cannot be delivered: they become lines of an error object in Firehose's shape, which is an output of the
//! same commit as the batch they were read in. So error records, too, are there exactly once.
//!
//! Never here: deciding that a record is bad (transforms, encoders and destinations do).

use std::collections::BTreeMap;
use std::sync::Arc;

use standpipe_convert::{error_line, error_line_bytes};
use standpipe_flow::deliver::ExtraObject;
use standpipe_flow::{Batch, Millis, Output, OutputKind, Receipt, RejectedRecord};

/// An error object is full with so many bytes: it stands outside the memory budget while it is staged, and a receipt must
/// hold all of a commit (`docs/decisions/receipt-size.md`). The largest record makes one of 14 MiB more.
pub(crate) const OBJECT_BYTES: usize = 16 << 20;

/// Error objects for what transforms and the destination rejected, at least one an `error-output-type`, built one by one; `-<n>` begins after the
/// data objects.
pub fn error_objects<'a>(
    batch: &'a Batch,
    rejected: impl IntoIterator<Item = &'a RejectedRecord>,
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
        let mut body = Vec::with_capacity(records.iter().map(|record| error_line_bytes(record)).sum());
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

/// Groups of records, in order, of which each but the last has at least [`OBJECT_BYTES`] of lines, and no more than one
/// record beyond.
fn cut(records: Vec<&RejectedRecord>) -> Vec<Vec<&RejectedRecord>> {
    let mut groups: Vec<Vec<&RejectedRecord>> = Vec::new();
    let mut bytes = OBJECT_BYTES;
    for record in records {
        if bytes >= OBJECT_BYTES {
            groups.push(Vec::new());
            bytes = 0;
        }
        bytes += error_line_bytes(record);
        if let Some(group) = groups.last_mut() {
            group.push(record);
        }
    }
    groups
}

/// A batch that a destination refuses as a whole becomes error records, every one with the same reason.
pub fn reject_all(batch: &Batch, output_type: &'static str, code: &'static str, message: &str) -> Vec<RejectedRecord> {
    let message: Arc<str> = message.into();
    batch.records_with_lease().map(|of| RejectedRecord::of(of, output_type, code, message.clone())).collect()
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use standpipe_flow::{LeaseKey, Record, SequenceNumber, conformance};

    use super::*;

    fn rejected(sizes: &[usize]) -> Vec<RejectedRecord> {
        let lease = LeaseKey::new("shardId-000000000001");
        let record = |(size, number): (&usize, u64)| {
            let (data, sequence) = (Bytes::from(vec![b'x'; *size]), SequenceNumber::from(number));
            let record = Record {
                data,
                partition_key: "k".into(),
                sequence,
                sub: 0,
                arrival: Millis(number),
                transformed: None,
                partition: None,
            };
            RejectedRecord::of((&lease, &record), "format-conversion-failed", "Code", "why")
        };
        sizes.iter().zip(1..).map(record).collect()
    }

    fn objects(sizes: &[usize]) -> Vec<(u32, u64, usize)> {
        let batch = conformance::batch(0);
        let rejected = rejected(sizes);
        let objects = error_objects(&batch, &rejected, Millis(0), 1);
        objects.map(|object| (object.ordinal, object.records, object.body.len())).collect()
    }

    /// Regression: the frame of a line was not counted, so that a million empty records made one object of hundreds of MiB.
    #[test]
    fn error_objects_are_full_by_the_bytes_of_their_lines() {
        let found = objects(&[0; 100_000]);
        assert_eq!(found.iter().map(|(_, records, _)| records).sum::<u64>(), 100_000);
        assert!((3..6).contains(&found.len()), "{found:?}");
        assert!(found.iter().all(|(_, _, bytes)| *bytes <= OBJECT_BYTES));
    }

    #[test]
    fn records_just_above_half_an_object_do_not_make_twice_as_many() {
        let found = objects(&[7 << 20; 6]);
        assert_eq!(
            found.iter().map(|(ordinal, records, _)| (*ordinal, *records)).collect::<Vec<_>>(),
            [(1, 2), (2, 2), (3, 2)]
        );
    }
}
