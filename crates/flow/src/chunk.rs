//! What one read returned.

use std::sync::Arc;
use std::time::Duration;

use crate::lease::{LeaseKey, Tenure};
use crate::record::Record;
use crate::rejected::RejectedRecord;
use crate::sequence::Position;

/// The records of one shard that one read returned, in order. A KPL aggregate is in one chunk as a whole, and nothing
/// after this splits one ([`Chunk::pieces`] cuts between them); so no commit ends within an aggregate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chunk {
    /// The lease that the shard was read under.
    pub lease: LeaseKey,
    /// The acquisition it was read under; the chunk dies with it (I9).
    pub tenure: Tenure,
    /// Where the read went on from: nothing lies between this and the first record (I15).
    pub from: Position,
    /// The position of the last record that was read: of the last user record of its aggregate, dropped or not.
    pub to: Position,
    /// The records to be delivered, ascending by position. Empty if everything that was read was dropped or rejected.
    pub records: Vec<Record>,
    /// Records that a transform could not take, ascending by position: they become lines of error objects of the commit
    /// that delivers the chunk.
    pub rejected: Vec<RejectedRecord>,
    /// The user records as they were read, if a destination keeps all of them as a backup (`backup: { mode: all }`);
    /// otherwise empty.
    pub originals: Arc<[Record]>,
    /// MillisBehindLatest of the answer.
    pub behind: Duration,
    /// Bytes of memory that the records hold: what the budget is charged.
    pub memory_bytes: usize,
    /// What the stream gave for it.
    pub taken: Taken,
}

/// What the stream gave for a chunk, before aggregates were taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Taken {
    /// Records of the stream.
    pub stream_records: u64,
    /// Bytes of their data.
    pub stream_bytes: u64,
    /// User records that came in aggregates, those out of range included.
    pub user_records: u64,
    /// User records of aggregates whose hash key lies outside the shard; whether they are among the records is for
    /// `out_of_range` to say.
    pub out_of_range: u64,
    /// Records that began like an aggregate and are none: delivered as they are.
    pub no_aggregates: u64,
}

impl Chunk {
    /// Bytes of record data, before any encoding, rejected records included: what `buffer.size` counts.
    pub fn data_bytes(&self) -> usize {
        let rejected: usize = self.rejected.iter().map(|record| record.data.len()).sum();
        self.records.iter().map(|record| record.data.len()).sum::<usize>() + rejected
    }

    /// Cuts a chunk that no transform has seen into pieces of about so many bytes of data, at least one, each continuing
    /// the one before (I15): so that what a transform makes of each can be charged before the next. Never within an
    /// aggregate.
    pub fn pieces(mut self, bytes: usize) -> Vec<Chunk> {
        let mut cuts = Vec::new();
        let mut size = 0;
        for (i, record) in self.records.iter().enumerate() {
            if size >= bytes && i > 0 && self.records[i - 1].sequence != record.sequence {
                cuts.push(i);
                size = 0;
            }
            size += record.data.len();
        }
        let mut pieces: Vec<Self> = cuts.into_iter().rev().map(|cut| self.cut_at(cut)).collect();
        pieces.push(self);
        pieces.reverse();
        pieces
    }

    /// Cuts the records from `index` on off, as a chunk that continues this one. The caller has seen that an aggregate ends
    /// before them.
    pub fn cut_at(&mut self, index: usize) -> Chunk {
        let records = self.records.split_off(index);
        let from = self.records.last().map_or_else(|| self.from.clone(), Record::position);
        let to = std::mem::replace(&mut self.to, from.clone());
        // What it holds is shared by the bytes; what the stream gave is counted once, with the first piece.
        let memory_bytes: usize = records.iter().map(|record| record.data.len()).sum();
        self.memory_bytes = self.memory_bytes.saturating_sub(memory_bytes);
        let (lease, tenure, behind) = (self.lease.clone(), self.tenure, self.behind);
        let (rejected, originals, taken) = (Vec::new(), Arc::default(), Taken::default());
        Self { lease, tenure, from, to, records, rejected, originals, behind, memory_bytes, taken }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::Millis;

    fn record((sequence, sub, size): (u64, u64, usize)) -> Record {
        let (data, partition_key) = (Bytes::from(vec![b'x'; size]), "k".into());
        let (transformed, partition) = (None, None);
        Record {
            data,
            partition_key,
            sequence: sequence.into(),
            sub,
            arrival: Millis(sequence),
            transformed,
            partition,
        }
    }

    #[test]
    fn pieces_continue_each_other_and_never_cut_an_aggregate() {
        let records: Vec<Record> =
            [(1, 0, 5), (2, 0, 5), (3, 0, 4), (3, 1, 4), (3, 2, 4), (4, 0, 1), (5, 0, 20), (6, 0, 1)]
                .map(record)
                .into();
        let whole = Chunk {
            lease: LeaseKey::new("shardId-000000000000"),
            tenure: Tenure([1; 16]),
            from: Position::TrimHorizon,
            to: Position::at(9_u64.into(), 0),
            memory_bytes: 1_000,
            records: records.clone(),
            rejected: Vec::new(),
            originals: Arc::default(),
            behind: Duration::ZERO,
            taken: Taken { stream_records: 6, ..Taken::default() },
        };
        let pieces = whole.clone().pieces(10);
        let counts: Vec<usize> = pieces.iter().map(|piece| piece.records.len()).collect();
        assert_eq!(counts, [2, 3, 2, 1]);
        assert!(pieces.windows(2).all(|two| two[0].to == two[1].from && two[0].from < two[0].to));
        assert_eq!((&pieces[0].from, &pieces[3].to), (&whole.from, &whole.to));
        assert_eq!(pieces.iter().map(|piece| piece.memory_bytes).sum::<usize>(), whole.memory_bytes);
        assert_eq!(pieces.iter().map(|piece| piece.taken.stream_records).sum::<u64>(), 6);
        assert_eq!(pieces.into_iter().flat_map(|piece| piece.records).collect::<Vec<_>>(), records);
        assert_eq!(whole.clone().pieces(1 << 20), [whole]);
    }
}
