//! Many user records into one record of the stream, in the form that the KPL writes: for `standpipe put --aggregate`.
//!
//! A pack is for one shard: its partition key is that of its first record, so all of them must belong to the same shard.
//! Never: a pack above its limit, or one of a single record, which goes as it is, like the KPL's.

use std::collections::BTreeMap;

use md5::{Digest, Md5};

use crate::aggregate::{DIGEST_BYTES, ENTRIES_MAX, MAGIC, hash_of_key};
use crate::wire::{put_varint, varint_bytes};

/// The KPL's own limit of an aggregate (AggregationMaxSize).
pub const PACK_BYTES: usize = 51_200;

/// Tags of the fields, all of them with a length but the index (aggregation-format.md of the KPL).
const KEY_TABLE: u8 = 0x0a;
const RECORDS: u8 = 0x1a;
const KEY_INDEX: u8 = 0x08;
const DATA: u8 = 0x1a;

/// Where a partition key belongs, as a hash key.
pub fn hash_key(partition_key: &str) -> u128 {
    hash_of_key(partition_key)
}

/// A record of the stream that holds user records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packed {
    /// An aggregate, or the data of a single user record.
    pub data: Vec<u8>,
    /// The partition key of the first.
    pub partition_key: String,
    /// User records.
    pub records: u64,
    /// Bytes of their data.
    pub bytes: u64,
}

/// User records that wait for their pack to be full.
#[derive(Debug)]
pub struct Pack {
    limit_bytes: usize,
    /// The places of the keys in the table.
    places: BTreeMap<String, u64>,
    /// The table of keys, encoded.
    keys: Vec<u8>,
    /// The records, encoded.
    body: Vec<u8>,
    /// The key of the first record, and its data as long as it is alone.
    first: Option<(String, Vec<u8>)>,
    records: u64,
    bytes: u64,
}

impl Pack {
    /// An empty one, which never grows above so many bytes by being added to.
    pub fn new(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            places: BTreeMap::new(),
            keys: Vec::new(),
            body: Vec::new(),
            first: None,
            records: 0,
            bytes: 0,
        }
    }

    /// Adds a record. If it has no room beside what is there, that is given back as it is, and the record begins anew.
    /// One that is larger than the limit by itself stays alone.
    pub fn add(&mut self, data: Vec<u8>, partition_key: String) -> Option<Packed> {
        let full = (!self.fits(&data, &partition_key)).then(|| self.take()).flatten();
        let next = self.places.len() as u64;
        let place = *self.places.entry(partition_key.clone()).or_insert_with(|| {
            self.keys.push(KEY_TABLE);
            put_bytes(&mut self.keys, partition_key.as_bytes());
            next
        });
        self.records += 1;
        self.bytes += data.len() as u64;
        self.body.push(RECORDS);
        put_varint(&mut self.body, record_bytes(place, data.len()) as u64);
        self.body.push(KEY_INDEX);
        put_varint(&mut self.body, place);
        self.body.push(DATA);
        put_bytes(&mut self.body, &data);
        match &mut self.first {
            None => self.first = Some((partition_key, data)),
            Some((_, alone)) => *alone = Vec::new(),
        }
        full
    }

    /// What is there, and an empty pack again.
    pub fn take(&mut self) -> Option<Packed> {
        let (partition_key, alone) = self.first.take()?;
        self.places.clear();
        let (keys, body) = (std::mem::take(&mut self.keys), std::mem::take(&mut self.body));
        let (records, bytes) = (std::mem::take(&mut self.records), std::mem::take(&mut self.bytes));
        let data = if records == 1 { alone } else { aggregate(&keys, &body) };
        Some(Packed { data, partition_key, records, bytes })
    }

    fn fits(&self, data: &[u8], partition_key: &str) -> bool {
        let place = self.places.get(partition_key).copied();
        let key = if place.is_some() { 0 } else { 1 + with_length(partition_key.len()) };
        let record = 1 + with_length(record_bytes(place.unwrap_or(self.places.len() as u64), data.len()));
        let frame = MAGIC.len() + DIGEST_BYTES;
        // A partition key stands beside the record as well, and counts towards its limit.
        let outer = self.first.as_ref().map_or(partition_key.len(), |(first, _)| first.len());
        let whole = frame + outer + self.keys.len() + key + self.body.len() + record;
        whole <= self.limit_bytes && self.records < ENTRIES_MAX as u64
    }
}

/// The frame around a message.
fn aggregate(keys: &[u8], body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(MAGIC.len() + keys.len() + body.len() + DIGEST_BYTES);
    whole.extend_from_slice(&MAGIC);
    whole.extend_from_slice(keys);
    whole.extend_from_slice(body);
    let digest = Md5::digest(&whole[MAGIC.len()..]);
    whole.extend_from_slice(&digest);
    whole
}

/// Bytes of a record's message.
fn record_bytes(place: u64, data_bytes: usize) -> usize {
    1 + varint_bytes(place) + 1 + with_length(data_bytes)
}

fn with_length(bytes: usize) -> usize {
    varint_bytes(bytes as u64) + bytes
}

fn put_bytes(into: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(into, bytes.len() as u64);
    into.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_record_goes_as_it_is() {
        let mut pack = Pack::new(100);
        assert_eq!(pack.take(), None);
        assert_eq!(pack.add(vec![7; 500], "k".into()), None);
        let packed = pack.add(vec![8; 500], "l".into()).expect("no room for two");
        assert_eq!((packed.data, packed.partition_key.as_str()), (vec![7; 500], "k"));
        assert_eq!((packed.records, packed.bytes), (1, 500));
        assert_eq!(pack.take().expect("the second").data, vec![8; 500]);
        assert_eq!(pack.take(), None);
    }

    #[test]
    fn a_pack_is_filled_to_its_limit_and_never_above() {
        for limit_bytes in [60, 61, 62, 200, 1_000, PACK_BYTES] {
            let mut pack = Pack::new(limit_bytes);
            let (mut largest, mut records) = (0, 0);
            for n in 0..20_000_u64 {
                if let Some(packed) = pack.add(vec![b'x'; (n % 7) as usize], format!("key{}", n % 3)) {
                    largest = largest.max(packed.data.len() + packed.partition_key.len());
                    records += packed.records;
                }
            }
            records += pack.take().map_or(0, |packed| packed.records);
            assert_eq!(records, 20_000);
            assert!(largest <= limit_bytes && largest + 20 >= limit_bytes, "{largest} of {limit_bytes}");
        }
    }
}
