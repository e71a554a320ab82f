//! `batch -> requests`: which records go out together, under which id, and the bytes.
//!
//! Invariants: the cut depends on the batch and the settings alone, and halves of it on nothing else; an id is a hash of
//! the commit id and the places of the records it stands for, so that it never stands for others.
//! Never here: an answer, a request that is sent.

use std::ops::Range;

use sha2::{Digest, Sha256};
use standpipe_flow::{Batch, CommitId, LeaseKey, Record};

/// Records of a request: the protocol's.
pub(super) const RECORDS_MAX: u32 = 10_000;
/// Bytes of a body before compression: the protocol's.
pub(super) const BODY_BYTES_MAX: usize = 64 << 20;
/// `{"requestId":"...","timestamp":...,"records":[...]}` without records, at most.
const FRAME_BYTES: usize = 128;
/// `{"data":"..."},` without data.
const RECORD_FRAME_BYTES: usize = 12;

/// Finds records of a batch by their number in it.
#[derive(Debug)]
pub(super) struct Index {
    /// Of each chunk with records: the number of its first one, its shard, its place in that.
    chunks: Vec<(u32, usize, usize)>,
}

impl Index {
    pub(super) fn new(batch: &Batch) -> Self {
        let mut chunks = Vec::new();
        let mut first = 0_u32;
        for (shard, of) in batch.shards.iter().enumerate() {
            for (chunk, of) in of.chunks.iter().enumerate().filter(|(_, of)| !of.records.is_empty()) {
                chunks.push((first, shard, chunk));
                first = first.saturating_add(u32::try_from(of.records.len()).unwrap_or(u32::MAX));
            }
        }
        Self { chunks }
    }

    /// The records of a range of numbers, with their leases.
    pub(super) fn records<'a>(
        &'a self,
        batch: &'a Batch,
        range: &Range<u32>,
    ) -> impl Iterator<Item = (&'a LeaseKey, &'a Record)> {
        let begin = self.chunks.partition_point(|(first, ..)| *first <= range.start).saturating_sub(1);
        let skipped = self.chunks.get(begin).map_or(0, |(first, ..)| range.start - first);
        let records = self.chunks[begin..].iter().flat_map(|(_, shard, chunk)| {
            let shard = &batch.shards[*shard];
            shard.chunks[*chunk].records.iter().map(move |record| (&shard.range.fence.lease, record))
        });
        records.skip(skipped as usize).take(range.len())
    }
}

/// The requests of a batch, as ranges of the numbers of its records: as many records and bytes in each as it may have, at
/// least one record.
pub(super) fn cut(batch: &Batch, data_bytes_max: u64) -> Vec<Range<u32>> {
    let mut ranges: Vec<Range<u32>> = Vec::new();
    let (mut data, mut body) = (0_u64, FRAME_BYTES);
    for (number, record) in (0_u32..).zip(batch.records()) {
        let (more_data, more_body) = (record.data.len() as u64, body_bytes(record));
        let fits = data + more_data <= data_bytes_max && body + more_body <= BODY_BYTES_MAX;
        match ranges.last_mut().filter(|range| fits && range.end - range.start < RECORDS_MAX) {
            Some(range) => range.end += 1,
            None => {
                ranges.push(number..number + 1);
                (data, body) = (0, FRAME_BYTES);
            }
        }
        data += more_data;
        body += more_body;
    }
    ranges
}

/// Both halves of a request that is too large; `None` for one record.
pub(super) fn halves(range: &Range<u32>) -> Option<[Range<u32>; 2]> {
    let middle = range.start + (range.end - range.start) / 2;
    (middle > range.start).then_some([range.start..middle, middle..range.end])
}

/// Bytes of a record in a body.
fn body_bytes(record: &Record) -> usize {
    RECORD_FRAME_BYTES + record.data.len().div_ceil(3) * 4
}

/// Bytes of a body before compression, at most.
pub(super) fn bytes<'a>(records: impl Iterator<Item = (&'a LeaseKey, &'a Record)>) -> usize {
    FRAME_BYTES + records.map(|(_, record)| body_bytes(record)).sum::<usize>()
}

/// The id of a request: a UUID of version 8 (RFC 9562), the first bits of SHA-256 over the commit id and, of each record,
/// lease, sequence number, sub-sequence number and part.
pub(super) fn id<'a>(cid: CommitId, records: impl Iterator<Item = (&'a LeaseKey, &'a Record)>) -> String {
    let mut hash = Sha256::new();
    hash.update(b"standpipe request 1\n");
    hash.update(cid.0);
    for (lease, record) in records {
        for text in [lease.as_str(), record.sequence.as_str()] {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
        hash.update(record.sub.to_be_bytes());
        hash.update(record.part().to_be_bytes());
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut bits = [0; 16];
    bits.copy_from_slice(&digest[..16]);
    let uuid = (u128::from_be_bytes(bits) & !(0xF << 76) & !(0b11 << 62)) | (8 << 76) | (0b10 << 62);
    let hex = format!("{uuid:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// The body of a request, before compression.
pub(super) fn body<'a>(
    id: &str,
    timestamp: u64,
    capacity: usize,
    records: impl Iterator<Item = (&'a LeaseKey, &'a Record)>,
) -> Vec<u8> {
    let mut body = Vec::with_capacity(capacity);
    body.extend_from_slice(format!(r#"{{"requestId":"{id}","timestamp":{timestamp},"records":["#).as_bytes());
    for (number, (_, record)) in records.enumerate() {
        body.extend_from_slice(if number == 0 { br#"{"data":""# } else { br#",{"data":""# });
        base64_simd::STANDARD.encode_append(&record.data, &mut body);
        body.extend_from_slice(br#""}"#);
    }
    body.extend_from_slice(b"]}");
    body
}

/// `X-Amz-Firehose-Common-Attributes`: JSON in ASCII.
pub(super) fn common_attributes(attributes: &[(String, String)]) -> String {
    let pairs: serde_json::Map<String, serde_json::Value> =
        attributes.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    let text = serde_json::json!({ "commonAttributes": pairs }).to_string();
    let mut ascii = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii() && character != '\u{7f}' {
            ascii.push(character);
        } else {
            let mut units = [0; 2];
            character.encode_utf16(&mut units).iter().for_each(|unit| ascii.push_str(&format!("\\u{unit:04x}")));
        }
    }
    ascii
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::Value;
    use standpipe_flow::{Batch, Millis, SequenceNumber, conformance};

    use super::*;

    fn cid(number: u64) -> CommitId {
        CommitId::new(Millis(1_790_000_000_000), 0xABCDE, number << 4)
    }

    /// Two shards whose chunks have records of these sizes.
    fn batch(chunks: &[Vec<usize>]) -> Batch {
        let mut batch = Batch::clone(&conformance::batch(1));
        let shards = batch.shards.len();
        let mut number = 0;
        let like = batch.shards[0].chunks[0].clone();
        batch.shards.iter_mut().for_each(|shard| shard.chunks.clear());
        for (at, sizes) in chunks.iter().enumerate() {
            let mut chunk = like.clone();
            let record = |size: &usize| {
                number += 1;
                let (data, sequence) = (Bytes::from(vec![number as u8; *size]), SequenceNumber::from(number));
                Record { data, sequence, ..like.records[0].clone() }
            };
            chunk.records = sizes.iter().map(record).collect();
            batch.shards[at * shards / chunks.len()].chunks.push(chunk);
        }
        batch
    }

    fn sequences(batch: &Batch, range: &Range<u32>) -> Vec<String> {
        let index = Index::new(batch);
        index.records(batch, range).map(|(_, record)| record.sequence.to_string()).collect()
    }

    #[test]
    fn requests_have_as_many_records_and_bytes_as_they_may() {
        let many = batch(&[vec![1; 12_000], vec![], vec![0; 9_000]]);
        assert_eq!(cut(&many, 5 << 20), [0..10_000, 10_000..20_000, 20_000..21_000]);
        let sizes = batch(&[vec![40, 40, 40, 200, 10], vec![100]]);
        assert_eq!(cut(&sizes, 100), [0..2, 2..3, 3..4, 4..5, 5..6], "a larger record is alone");
        assert_eq!(cut(&batch(&[vec![]]), 100), [], "no request without a record");
        let large = batch(&[vec![30 << 20, 15 << 20, 4 << 20]]);
        assert_eq!(cut(&large, u64::MAX), [0..2, 2..3], "by the body, which base64 makes larger");
    }

    #[test]
    fn halves_are_never_empty_and_one_record_has_none() {
        assert_eq!(halves(&(4..5)), None);
        assert_eq!(halves(&(4..6)), Some([4..5, 5..6]));
        assert_eq!(halves(&(0..5)), Some([0..2, 2..5]));
    }

    #[test]
    fn an_id_is_a_uuid_made_of_the_commit_and_the_records() {
        let batch = batch(&[vec![1, 1, 1], vec![1, 1]]);
        let index = Index::new(&batch);
        let of = |number, range: Range<u32>| id(cid(number), index.records(&batch, &range));
        let one = of(1, 0..5);
        assert_eq!(one, of(1, 0..5), "the same for everybody");
        let parts: Vec<usize> = one.split('-').map(str::len).collect();
        assert_eq!((parts, &one[14..15]), (vec![8, 4, 4, 4, 12], "8"));
        assert!(matches!(one.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{one}");
        let others: BTreeSet<String> =
            [of(2, 0..5), of(1, 0..4), of(1, 1..5), of(1, 0..2), of(1, 2..5), one.clone()].into();
        assert_eq!(others.len(), 6, "other records, or another commit, are another id");
        // It is sent, and compared by others: it stays what it is.
        assert_eq!(one, "e029c8eb-7a1d-86b3-bdc4-a2afbe18bd68");
    }

    #[test]
    fn common_attributes_are_json_in_ascii() {
        let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let text = common_attributes(&[own("b", "é\u{1F600}\"\n"), own("a", "")]);
        assert_eq!(text, r#"{"commonAttributes":{"b":"\u00e9\ud83d\ude00\"\n","a":""}}"#);
        let back: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(back["commonAttributes"]["b"], "é\u{1F600}\"\n");
        assert_eq!(common_attributes(&[]), r#"{"commonAttributes":{}}"#);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

        #[test]
        fn every_record_is_in_one_request_and_no_id_stands_for_two_sets(
            chunks in proptest::collection::vec(proptest::collection::vec(0..50_usize, 0..12), 1..6),
            most in 1..300_u64,
            deep in 0..4_u32,
        ) {
            let batch = batch(&chunks);
            let mut requests = cut(&batch, most);
            for _ in 0..deep {
                requests = requests.iter().flat_map(|range| halves(range).map_or(vec![range.clone()], Vec::from)).collect();
            }
            let all = 0..u32::try_from(batch.records().count()).expect("few");
            let index = Index::new(&batch);
            let mut found = Vec::new();
            let mut ids: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for range in &requests {
                prop_assert!(!range.is_empty());
                let data: usize = index.records(&batch, range).map(|(_, record)| record.data.len()).sum();
                prop_assert!(data as u64 <= most || range.len() == 1);
                let (id, records) = (id(cid(1), index.records(&batch, range)), sequences(&batch, range));
                let estimated = bytes(index.records(&batch, range));
                let body = body(&id, 1_790_000_000_000, estimated, index.records(&batch, range));
                prop_assert!(body.len() <= estimated && body.len() <= BODY_BYTES_MAX);
                let read: Value = serde_json::from_slice(&body).expect("JSON");
                prop_assert_eq!(read["requestId"].as_str(), Some(id.as_str()));
                prop_assert_eq!(read["timestamp"].as_u64(), Some(1_790_000_000_000));
                for ((_, record), sent) in index.records(&batch, range).zip(read["records"].as_array().expect("records")) {
                    let data = base64_simd::STANDARD.decode_to_vec(sent["data"].as_str().expect("text")).expect("base64");
                    prop_assert_eq!(&data[..], &record.data[..]);
                }
                prop_assert_eq!(read["records"].as_array().map(Vec::len), Some(range.len()));
                found.extend(records.clone());
                prop_assert_eq!(ids.insert(id, records), None);
            }
            prop_assert_eq!(found, sequences(&batch, &all));
        }
    }
}
