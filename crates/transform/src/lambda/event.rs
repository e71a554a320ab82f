//! Records to the event that a function gets: which of them go together, and how they are written.
//!
//! The shape is Firehose's for a Kinesis stream, as the event libraries read it: `subsequenceNumber` and the times are
//! numbers, which those of Go and Rust insist on. Pure. Never here: a request, a clock.

use std::fmt::{self, Display};
use std::ops::Range;

use serde::ser::{Serialize, Serializer};
use standpipe_flow::Record;

/// A request of Invoke must be smaller than this, else it is answered with 413 ("Request must be smaller than 6291456
/// bytes for the InvokeFunction operation"). The answer of a function that gives records back as large as they came is
/// smaller than its request, so this bounds both.
pub(super) const REQUEST_BYTES_MAX: usize = 6 * 1024 * 1024 - 1;

/// What every event of a function says.
#[derive(Clone, Debug)]
pub(super) struct Head {
    /// `deliveryStreamArn`: there is no delivery stream, the pipeline stands in its place.
    pub(super) delivery_stream_arn: String,
    pub(super) stream_arn: String,
    pub(super) region: String,
}

/// Names a record within its shard for ever: digits like Firehose's own (the sequence number and six of the
/// sub-sequence number), and more only where these would not do.
pub(super) struct RecordId<'a>(pub(super) &'a Record);

impl Display for RecordId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record { sequence, sub, .. } = self.0;
        match self.0.part() {
            0 if *sub < 1_000_000 => write!(f, "{sequence}{sub:06}"),
            part => write!(f, "{sequence}.{sub}.{part}"),
        }
    }
}

/// Cuts records into runs, in order: each of about so many bytes of data, at least one record, and none that Lambda does
/// not take.
pub(super) fn cut(records: &[Record], head: &Head, shard: &str, bytes: usize) -> Vec<Range<usize>> {
    let mut cuts: Vec<Range<usize>> = Vec::new();
    let (mut start, mut data, mut request) = (0, 0, head_bytes(head));
    for (i, record) in records.iter().enumerate() {
        let more = record_bytes(record, shard);
        if i > start && (data >= bytes || request + more > REQUEST_BYTES_MAX) {
            cuts.push(start..i);
            (start, data, request) = (i, 0, head_bytes(head));
        }
        data += record.data.len();
        request += more;
    }
    cuts.extend((start < records.len()).then_some(start..records.len()));
    cuts
}

/// Whether the event of these records is one that Lambda takes.
pub(super) fn fits(records: &[Record], head: &Head, shard: &str) -> bool {
    let bytes: usize = records.iter().map(|record| record_bytes(record, shard)).sum();
    head_bytes(head) + bytes <= REQUEST_BYTES_MAX
}

/// At least the bytes of an event without its records.
fn head_bytes(head: &Head) -> usize {
    /// Names, punctuation, an invocation id of 36 characters.
    const FRAME_BYTES: usize = 180;
    FRAME_BYTES
        + escaped_bytes(&head.delivery_stream_arn)
        + escaped_bytes(&head.stream_arn)
        + escaped_bytes(&head.region)
}

/// At least the bytes of a record in an event.
fn record_bytes(record: &Record, shard: &str) -> usize {
    /// Names and punctuation, two times and a sub-sequence number of 20 digits, what follows the sequence number in an id.
    const FRAME_BYTES: usize = 300;
    FRAME_BYTES
        + 2 * record.sequence.as_str().len()
        + escaped_bytes(shard)
        + escaped_bytes(&record.partition_key)
        + record.data.len().div_ceil(3) * 4
}

/// At least the bytes of a text in JSON, without its quotes.
fn escaped_bytes(text: &str) -> usize {
    let of = |byte| match byte {
        b'"' | b'\\' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(of).sum()
}

/// The event of one invocation, as JSON.
pub(super) fn render(head: &Head, invocation_id: &str, shard: &str, records: &[Record]) -> Vec<u8> {
    let event = Event {
        invocation_id,
        source_kinesis_stream_arn: &head.stream_arn,
        delivery_stream_arn: &head.delivery_stream_arn,
        region: &head.region,
        records: Records { shard, records },
    };
    let expected: usize = records.iter().map(|record| record_bytes(record, shard)).sum();
    let mut out = Vec::with_capacity(expected + head_bytes(head));
    serde_json::to_writer(&mut out, &event).expect("strings and numbers have JSON, and a vector takes every byte");
    out
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    invocation_id: &'a str,
    source_kinesis_stream_arn: &'a str,
    delivery_stream_arn: &'a str,
    region: &'a str,
    records: Records<'a>,
}

struct Records<'a> {
    shard: &'a str,
    records: &'a [Record],
}

impl Serialize for Records<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.records.iter().map(|record| EventRecord {
            record_id: Text(RecordId(record)),
            approximate_arrival_timestamp: record.arrival.0,
            data: Base64(&record.data),
            kinesis_record_metadata: Metadata {
                shard_id: self.shard,
                partition_key: &record.partition_key,
                approximate_arrival_timestamp: record.arrival.0,
                sequence_number: record.sequence.as_str(),
                subsequence_number: record.sub,
            },
        }))
    }
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct EventRecord<'a> {
    record_id: Text<RecordId<'a>>,
    approximate_arrival_timestamp: u64,
    data: Base64<'a>,
    kinesis_record_metadata: Metadata<'a>,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    shard_id: &'a str,
    partition_key: &'a str,
    approximate_arrival_timestamp: u64,
    sequence_number: &'a str,
    subsequence_number: u64,
}

struct Text<T>(T);

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

struct Base64<'a>(&'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&base64_simd::STANDARD.encode_to_string(self.0))
    }
}
