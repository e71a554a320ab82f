//! What a commit wrote.

use std::fmt;

use crate::clock::Millis;
use crate::lease::{DestinationId, Generation, LeaseKey, Tenure, WorkerId};
use crate::sequence::Position;

/// Names one attempt to deliver one batch: a ULID whose first 20 random bits are a fingerprint of the commit table,
/// so that two deployments on one bucket know their own uploads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitId(pub [u8; 16]);

impl CommitId {
    /// Bits of the fingerprint.
    const FINGERPRINT_BITS: u32 = 20;

    /// A new id: 48 bits of time, 20 of `fingerprint`, 60 of `random`.
    pub fn new(time: Millis, fingerprint: u32, random: u64) -> Self {
        let time = u128::from(time.0 & 0xFFFF_FFFF_FFFF) << 80;
        let fingerprint = u128::from(fingerprint & ((1 << Self::FINGERPRINT_BITS) - 1)) << 60;
        Self((time | fingerprint | u128::from(random >> 4)).to_be_bytes())
    }

    /// The fingerprint of the deployment that made it.
    pub fn fingerprint(&self) -> u32 {
        (u128::from_be_bytes(self.0) >> 60) as u32 & ((1 << Self::FINGERPRINT_BITS) - 1)
    }

    /// Reads the 26 letters of a ULID.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != ulid::ULID_LEN {
            return None;
        }
        ulid::Ulid::from_string(text).ok().map(|ulid| Self(ulid.0.to_be_bytes()))
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", ulid::Ulid(u128::from_be_bytes(self.0)))
    }
}

impl fmt::Debug for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// How far a commit has come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReceiptState {
    /// Decided; being published.
    Committed,
    /// Proven to be published.
    Done,
    /// Taken back: nothing of it is or will be visible.
    Retracted,
}

/// What an output holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum OutputKind {
    /// Delivered records.
    Data,
    /// Records that could not be delivered, with the reason, in Firehose's shape.
    Error,
    /// Records as they were read.
    Backup,
}

/// One uploaded part of an open multipart upload.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Part {
    /// 1-based part number.
    pub number: u32,
    /// The ETag that UploadPart answered, quotes included.
    pub etag: String,
}

/// How an output is held before it is published: durable, and read by nobody under the output's key.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Held {
    /// A multipart upload that is open. Completing it publishes the output.
    Upload {
        /// Its id.
        id: String,
        /// Its parts, ascending.
        parts: Vec<Part>,
    },
    /// Bytes of a staging object, which holds those of many small outputs and never changes. Writing them under the
    /// output's key publishes the output.
    Slice {
        /// The key of the staging object, in the output's own bucket.
        object: String,
        /// Where the output's bytes begin in it; they are as many as the output has.
        offset: u64,
        /// The Content-Encoding that the output is to have.
        encoding: Option<String>,
    },
    /// A whole object that stands under the output's key already: what publishes it is not S3.
    Object,
}

/// A checksum over a whole object, base64 as in S3's headers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Checksum {
    /// CRC-64/NVME.
    Crc64Nvme(String),
    /// CRC-32 (servers that refuse the former).
    Crc32(String),
}

/// One object or load of a commit: durable and invisible until it is published.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Output {
    /// What it holds.
    pub kind: OutputKind,
    /// The bucket.
    pub bucket: String,
    /// The key; unique by the commit's id, so nothing is ever overwritten.
    pub key: String,
    /// Where its bytes are until then.
    pub held: Held,
    /// Bytes of the object.
    pub size: u64,
    /// The checksum over the object.
    pub checksum: Checksum,
    /// User records in it.
    pub records: u64,
}

/// One shard's range in a receipt.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ReceiptShard {
    /// The lease.
    pub lease: LeaseKey,
    /// Where the range begins (exclusive).
    pub from: Position,
    /// Where it ends (inclusive).
    pub to: Position,
    /// The acquisition that committed it.
    pub tenure: Tenure,
    /// The replay generation.
    pub generation: Generation,
    /// When the record at `to` arrived.
    pub arrival: Option<Millis>,
}

/// What a commit wrote: one item of the commit table. Immutable but for `state`, `gave_up` and `expires_at` (I10).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// The commit.
    pub cid: CommitId,
    /// How far it has come.
    pub state: ReceiptState,
    /// It is DONE because it was given up: its data outputs are where nobody reads them, and are named in a manifest there.
    pub gave_up: bool,
    /// The destination.
    pub destination: DestinationId,
    /// The ranges it covers.
    pub shards: Vec<ReceiptShard>,
    /// What was staged.
    pub outputs: Vec<Output>,
    /// Hash of the config that shaped the bytes.
    pub config: String,
    /// Who committed.
    pub worker: WorkerId,
    /// The program's version.
    pub version: String,
    /// User records covered.
    pub records: u64,
    /// Bytes of the outputs.
    pub bytes: u64,
    /// S3's Date header of the answer that opened the first upload; `None` for a commit without outputs.
    pub created_at: Option<Millis>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_id_keeps_its_fingerprint_and_reads_back() {
        let cid = CommitId::new(Millis(1_790_000_000_000), 0xABCDE, u64::MAX);
        assert_eq!(cid.fingerprint(), 0xABCDE);
        assert_eq!(cid.to_string().len(), 26);
        assert_eq!(CommitId::parse(&cid.to_string()), Some(cid));
        assert_eq!(CommitId::parse("not a commit id"), None);
    }

    #[test]
    fn commit_ids_sort_by_time() {
        assert!(CommitId::new(Millis(1), 0xFFFFF, u64::MAX) < CommitId::new(Millis(2), 0, 0));
    }
}
