//! The KPL's aggregated record: many user records in one record of the stream, taken apart without a copy of their data.
//!
//! `F3 89 9A C2`, a protobuf message, and the MD5 of that message (aggregation-format.md of the KPL). What does not check
//! out in every part is no aggregate: its record is delivered as it is. So a forged or broken one is never dropped, never
//! half delivered, and stops nobody. Everything in it is bounded before anything is made of it: user records and keys by
//! [`ENTRIES_MAX`], lengths by the record's own, nesting by [`GROUPS_DEEP_MAX`].
//!
//! Of the message `tags` are read for their form only, as the KCL does. Fields of other numbers are skipped.
//! Never here: which user records were delivered before (`chunks.rs`).

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use md5::{Digest, Md5};
use standpipe_flow::{HashRange, Record};

use crate::answer::RECORD_BYTES;
use crate::unpack::{OutOfRange, Unpack};
use crate::wire::{Fields, Malformed, Value};

/// What an aggregate begins with.
pub(crate) const MAGIC: [u8; 4] = [0xF3, 0x89, 0x9A, 0xC2];
/// The length of its MD5.
pub(crate) const DIGEST_BYTES: usize = 16;
/// User records of an aggregate, and keys of a table of it, at most. The KPL makes none larger than 1 MiB, and no user
/// record takes less than 6 bytes of it: 174,762.
pub(crate) const ENTRIES_MAX: usize = 1 << 18;
/// Bytes of memory beside its text that a partition key takes: its count of holders, and a place in the table.
const KEY_BYTES: usize = 96;

/// Why a record that begins like an aggregate is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("the digest is of another message")]
    Digest,
    #[error("the message does not parse")]
    Malformed,
    #[error("a user record names a key that is not in its table")]
    Index,
    #[error("it holds no user record")]
    Empty,
    #[error("it holds more user records or keys than the KPL can write")]
    TooMany,
}

impl From<Malformed> for Broken {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

/// The user records of a record of the stream that is an aggregate; `None` if it is none. For whoever has bytes and no
/// shard: nothing is counted, and what is broken is no aggregate.
pub fn user_records(whole: &Record, unpack: &Unpack) -> Option<Vec<Record>> {
    let aggregate = unpack.kpl.then(|| Aggregate::of(&whole.data).ok().flatten()).flatten()?;
    let mut records = Vec::with_capacity(aggregate.records());
    aggregate.take_apart(whole, 0, unpack, &mut records);
    Some(records)
}

/// An aggregate that has been checked in every part.
#[derive(Debug)]
pub(crate) struct Aggregate {
    message: Bytes,
    keys: Vec<Span>,
    hash_keys: Vec<Span>,
    records: usize,
}

/// Bytes of the message.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    end: u32,
}

/// One field of the message.
enum Part {
    Key(Range<usize>),
    HashKey(Range<usize>),
    Record(UserRecord),
}

struct UserRecord {
    key: u64,
    hash_key: Option<u64>,
    data: Range<usize>,
}

/// A partition key as far as it has been needed.
#[derive(Clone, Default)]
struct Key {
    text: Option<Arc<str>>,
    hash: Option<u128>,
}

impl Aggregate {
    /// The aggregate that a record of the stream is, if it is one.
    pub(crate) fn of(data: &Bytes) -> Result<Option<Self>, Broken> {
        let Some(message) = data.len().checked_sub(DIGEST_BYTES).filter(|end| *end > MAGIC.len()) else {
            return Ok(None);
        };
        if !data.starts_with(&MAGIC) {
            return Ok(None);
        }
        let (message, digest) = (data.slice(MAGIC.len()..message), &data[message..]);
        if Md5::digest(&message)[..] != *digest {
            return Err(Broken::Digest);
        }
        Self::check(message).map(Some)
    }

    fn check(message: Bytes) -> Result<Self, Broken> {
        let (mut keys, mut hash_keys) = (Vec::new(), Vec::new());
        let mut records = 0;
        // Tables may come after the records that point into them.
        let (mut keys_named, mut hash_keys_named) = (0, 0);
        walk(&message, |part| {
            match part {
                Part::Key(range) => keys.push(Span::of(&range)?),
                Part::HashKey(range) => hash_keys.push(Span::of(&range)?),
                Part::Record(record) => {
                    records += 1;
                    keys_named = keys_named.max(record.key.saturating_add(1));
                    hash_keys_named = hash_keys_named.max(record.hash_key.map_or(0, |key| key.saturating_add(1)));
                }
            }
            if keys.len().max(hash_keys.len()).max(records) > ENTRIES_MAX { Err(Broken::TooMany) } else { Ok(()) }
        })?;
        if keys_named > keys.len() as u64 || hash_keys_named > hash_keys.len() as u64 {
            return Err(Broken::Index);
        }
        if records == 0 {
            return Err(Broken::Empty);
        }
        keys.shrink_to_fit();
        hash_keys.shrink_to_fit();
        Ok(Self { message, keys, hash_keys, records })
    }

    /// How many user records it holds, at least one.
    pub(crate) fn records(&self) -> usize {
        self.records
    }

    /// Bytes of memory that it takes beside the record's own.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Span>() * (self.keys.capacity() + self.hash_keys.capacity())
    }

    /// Bytes of memory that its user records from `first` on take at most, beside the record's own.
    pub(crate) fn expanded_bytes(&self, first: usize) -> usize {
        let texts: usize = self.keys.iter().map(|span| (span.end - span.start) as usize + KEY_BYTES).sum();
        (self.records - first.min(self.records)) * RECORD_BYTES + texts
    }

    /// Adds its user records from the index `first` on to `into`. `whole` is the record of the stream that it came in.
    /// Gives the number of user records whose hash key lies outside the shard, delivered or not.
    pub(crate) fn take_apart(&self, whole: &Record, first: usize, unpack: &Unpack, into: &mut Vec<Record>) -> u64 {
        let range = unpack.hash_range.filter(|range| *range != HashRange { start: 0, end: u128::MAX });
        let mut keys = vec![Key::default(); self.keys.len()];
        let (mut index, mut outside) = (0, 0);
        let checked = walk(&self.message, |part| {
            let Part::Record(record) = part else { return Ok(()) };
            let sub = index;
            index += 1;
            if sub < first {
                return Ok(());
            }
            let place = usize::try_from(record.key).map_err(|_| Broken::Index)?;
            let key = keys.get_mut(place).ok_or(Broken::Index)?;
            if let Some(range) = range
                && self.hash_of(&record, key).is_some_and(|hash| !(range.start..=range.end).contains(&hash))
            {
                outside += 1;
                if unpack.out_of_range == OutOfRange::Drop {
                    return Ok(());
                }
            }
            let partition_key = key.text.get_or_insert_with(|| self.text(&self.keys, record.key).into()).clone();
            into.push(Record {
                data: self.message.slice(record.data),
                partition_key,
                sequence: whole.sequence.clone(),
                sub: sub as u64,
                arrival: whole.arrival,
                transformed: None,
                partition: None,
            });
            Ok(())
        });
        debug_assert!(checked.is_ok(), "the message was checked: {checked:?}");
        outside
    }

    /// The KCL's effective hash key: the explicit one, else the MD5 of the partition key. `None` for an explicit one that
    /// is no such number: nobody can say where it belongs.
    fn hash_of(&self, record: &UserRecord, key: &mut Key) -> Option<u128> {
        match record.hash_key {
            Some(explicit) => self.text(&self.hash_keys, explicit).parse().ok(),
            None => Some(*key.hash.get_or_insert_with(|| hash_of_key(self.text(&self.keys, record.key)))),
        }
    }

    fn text(&self, table: &[Span], place: u64) -> &str {
        let span = usize::try_from(place).ok().and_then(|place| table.get(place));
        let bytes = span.and_then(|span| self.message.get(span.start as usize..span.end as usize));
        bytes.and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

/// Where a partition key belongs: its MD5 as an unsigned number (API reference, PutRecords).
pub(crate) fn hash_of_key(partition_key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(partition_key.as_bytes()).into())
}

impl Span {
    fn of(range: &Range<usize>) -> Result<Self, Broken> {
        let number = |place| u32::try_from(place).map_err(|_| Broken::TooMany);
        Ok(Self { start: number(range.start)?, end: number(range.end)? })
    }
}

/// Goes through an AggregatedRecord: its fields in the order of the bytes.
fn walk(message: &[u8], mut each: impl FnMut(Part) -> Result<(), Broken>) -> Result<(), Broken> {
    let mut fields = Fields::new(message, 0..message.len());
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, Value::Bytes(range)) => each(Part::Key(text(message, range)?))?,
            (2, Value::Bytes(range)) => each(Part::HashKey(text(message, range)?))?,
            (3, Value::Bytes(range)) => each(Part::Record(user_record(message, range)?))?,
            (1..=3, _) => return Err(Broken::Malformed),
            _ => {}
        }
    }
    Ok(())
}

fn user_record(message: &[u8], range: Range<usize>) -> Result<UserRecord, Broken> {
    let (mut key, mut hash_key, mut data) = (None, None, None);
    let mut fields = Fields::new(message, range);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, Value::Varint(number)) => key = Some(number),
            (2, Value::Varint(number)) => hash_key = Some(number),
            (3, Value::Bytes(range)) => data = Some(range),
            (4, Value::Bytes(range)) => tag(message, range)?,
            (1..=4, _) => return Err(Broken::Malformed),
            _ => {}
        }
    }
    match (key, data) {
        (Some(key), Some(data)) => Ok(UserRecord { key, hash_key, data }),
        // Required fields.
        _ => Err(Broken::Malformed),
    }
}

fn tag(message: &[u8], range: Range<usize>) -> Result<(), Broken> {
    let mut key = false;
    let mut fields = Fields::new(message, range);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1 | 2, Value::Bytes(range)) => {
                text(message, range)?;
                key |= number == 1;
            }
            (1 | 2, _) => return Err(Broken::Malformed),
            _ => {}
        }
    }
    if key { Ok(()) } else { Err(Broken::Malformed) }
}

/// A string field is UTF-8.
fn text(message: &[u8], range: Range<usize>) -> Result<Range<usize>, Broken> {
    match message.get(range.clone()).map(std::str::from_utf8) {
        Some(Ok(_)) => Ok(range),
        _ => Err(Broken::Malformed),
    }
}

#[cfg(test)]
mod tests;
