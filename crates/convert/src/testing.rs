//! Records for the tests of this crate.

use bytes::Bytes;
use standpipe_flow::{LeaseKey, Millis, Record, SequenceNumber};

pub(crate) fn lease() -> LeaseKey {
    LeaseKey::new("shardId-000000000000")
}

pub(crate) fn record(data: &[u8]) -> Record {
    Record {
        data: Bytes::copy_from_slice(data),
        partition_key: "key".into(),
        sequence: SequenceNumber::from(7),
        sub: 0,
        arrival: Millis(1_700_000_000_000),
        transformed: None,
        partition: None,
    }
}
