//! What was produced: for each record, its shard and its place in the order of that shard.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use standpipe_emulator::Placed;

/// Where a record stands: the number of its shard, and how many records of that shard come before it.
pub type Place = (u16, u32);

/// The record of all records. The id of a record is its place in this list.
#[derive(Debug, Default)]
pub struct Ledger {
    placed: Vec<Place>,
    shards: BTreeMap<String, u16>,
    /// By shard: how many records, and the sequence number of the last.
    last: Vec<(u32, String)>,
    /// Bytes of record data.
    pub bytes: u64,
}

impl Ledger {
    /// Where the next record of the stream was put; it holds the next records in order of ids, of these sizes.
    ///
    /// # Panics
    /// When the stream gave a sequence number that does not ascend: then nothing could be checked.
    pub fn produced(&mut self, at: Placed, sizes: &[usize]) {
        let Placed { shard_id, sequence_number } = at;
        let next = self.shards.len() as u16;
        let shard = *self.shards.entry(shard_id).or_insert(next);
        if usize::from(shard) == self.last.len() {
            self.last.push((0, String::new()));
        }
        let (count, last) = &mut self.last[usize::from(shard)];
        assert!((last.len(), last.as_str()) < (sequence_number.len(), sequence_number.as_str()), "numbers ascend");
        *last = sequence_number;
        for bytes in sizes {
            self.placed.push((shard, *count));
            *count += 1;
            self.bytes += *bytes as u64;
        }
    }

    /// Records produced.
    pub fn len(&self) -> usize {
        self.placed.len()
    }

    /// Whether nothing was produced.
    pub fn is_empty(&self) -> bool {
        self.placed.is_empty()
    }

    /// Where the record of this id stands.
    pub fn place(&self, id: usize) -> Option<Place> {
        self.placed.get(id).copied()
    }

    /// Writes it down for a reader that is no part of this program: a line a record, in the order of ids: the number of
    /// its shard, a tab, its place there.
    ///
    /// # Errors
    /// Those of the file.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        for (shard, place) in &self.placed {
            writeln!(file, "{shard}\t{place}")?;
        }
        file.flush()
    }

    /// How many shards records went to.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }
}
