//! `batch -> stage`: which records of a batch are in which object, and in which jobs they are encoded. PURE.
//!
//! Records of one partition are in one object, or in several of about one size where they are more than an object is to
//! hold. A job names its records; the batch is shared, and nothing of it copied.
//! Invariants: every record is in one object, in order.
//! Never here: what an object is called, how it is encoded.

use std::collections::BTreeMap;
use std::sync::Arc;

use standpipe_flow::{Batch, LeaseKey, Millis, Partition, Record, RejectedRecord};

/// Record data of one encoding job: large enough that handing it over costs nothing, small enough to yield few parts.
const JOB_BYTES: u64 = 4 << 20;
/// Records of one encoding job, for those with little data.
const JOB_RECORDS: u32 = 16 << 10;

/// Firehose's code for a record of one partition too many.
const PARTITIONS_EXCEEDED: &str = "DynamicPartitioning.ActivePartitionsLimitExceeded";

/// Which records of the chunks are meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kept {
    /// Those to be delivered.
    Records,
    /// Those that were read.
    Originals,
}

impl Kept {
    fn of(self, batch: &Batch, shard: usize, chunk: usize) -> &[Record] {
        let chunk = &batch.shards[shard].chunks[chunk];
        match self {
            Self::Records => &chunk.records,
            Self::Originals => &chunk.originals,
        }
    }
}

/// Records that follow each other in one chunk of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Piece {
    shard: u32,
    chunk: u32,
    from: u32,
    to: u32,
}

impl Piece {
    fn records<'a>(&self, kept: Kept, batch: &'a Batch) -> impl Iterator<Item = (&'a LeaseKey, &'a Record)> + use<'a> {
        let (shard, chunk) = (self.shard as usize, self.chunk as usize);
        let lease = &batch.shards[shard].range.fence.lease;
        let records = &kept.of(batch, shard, chunk)[self.from as usize..self.to as usize];
        records.iter().map(move |record| (lease, record))
    }
}

/// The records of one object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Object {
    kept: Kept,
    pub(super) partition: Option<Arc<Partition>>,
    /// Arrival of the oldest of them.
    pub(super) oldest_arrival: Millis,
    /// Bytes of their data.
    pub(super) bytes: u64,
    pieces: Vec<Piece>,
}

impl Object {
    fn new(kept: Kept, partition: Option<Arc<Partition>>) -> Self {
        Self { kept, partition, oldest_arrival: Millis(u64::MAX), bytes: 0, pieces: Vec::new() }
    }

    fn push(&mut self, record: &Record, shard: usize, chunk: usize, index: usize) {
        self.oldest_arrival = self.oldest_arrival.min(record.arrival);
        self.bytes += record.data.len() as u64;
        let (shard, chunk, index) = (shard as u32, chunk as u32, index as u32);
        match self.pieces.last_mut() {
            Some(last) if (last.shard, last.chunk, last.to) == (shard, chunk, index) => last.to += 1,
            _ => self.pieces.push(Piece { shard, chunk, from: index, to: index + 1 }),
        }
    }

    /// The same records in objects of about one size, none of which is to be above `size` bytes by more than a record.
    fn split(self, batch: &Batch, size: u64) -> Vec<Self> {
        let target = self.bytes.div_ceil(self.bytes.div_ceil(size.max(1)).max(1));
        if self.bytes <= target {
            return vec![self];
        }
        let mut objects: Vec<Self> = Vec::new();
        for piece in &self.pieces {
            let (shard, chunk) = (piece.shard as usize, piece.chunk as usize);
            for index in piece.from as usize..piece.to as usize {
                if objects.last().is_none_or(|object| object.bytes >= target) {
                    objects.push(Self::new(self.kept, self.partition.clone()));
                }
                if let Some(object) = objects.last_mut() {
                    object.push(&self.kept.of(batch, shard, chunk)[index], shard, chunk, index);
                }
            }
        }
        objects
    }

    /// Its records, each with its lease.
    pub(super) fn records<'a>(&'a self, batch: &'a Batch) -> impl Iterator<Item = (&'a LeaseKey, &'a Record)> {
        self.pieces.iter().flat_map(move |piece| piece.records(self.kept, batch))
    }

    /// Its jobs, one after the other.
    pub(super) fn jobs(&self) -> Jobs<'_> {
        Jobs { object: self, piece: 0, record: self.pieces.first().map_or(0, |piece| piece.from) }
    }
}

/// The data objects of a batch, in the order of their partitions. `size` bounds those of a partition; where records have
/// none, there is one object, as large as the batch.
pub(super) fn of_records(batch: &Batch, size: u64) -> Vec<Object> {
    let mut objects: Vec<Object> = Vec::new();
    let mut known: BTreeMap<Option<Arc<Partition>>, usize> = BTreeMap::new();
    for (shard, of_shard) in batch.shards.iter().enumerate() {
        for (chunk, of_chunk) in of_shard.chunks.iter().enumerate() {
            // Records of a chunk share their partition: values are compared once for each, not for each record.
            let mut places: BTreeMap<Option<*const Partition>, usize> = BTreeMap::new();
            for (index, record) in of_chunk.records.iter().enumerate() {
                let place = places.entry(record.partition.as_ref().map(Arc::as_ptr)).or_insert_with(|| {
                    *known.entry(record.partition.clone()).or_insert_with(|| {
                        objects.push(Object::new(Kept::Records, record.partition.clone()));
                        objects.len() - 1
                    })
                });
                objects[*place].push(record, shard, chunk, index);
            }
        }
    }
    objects.sort_by(|a, b| a.partition.cmp(&b.partition));
    let bounded = |object: Object| if object.partition.is_some() { object.split(batch, size) } else { vec![object] };
    objects.into_iter().flat_map(bounded).collect()
}

/// The records of all objects but the first `most`, which remain.
pub(super) fn reject_beyond(most: usize, objects: &mut Vec<Object>, batch: &Batch) -> Vec<RejectedRecord> {
    let further = objects.split_off(objects.len().min(most));
    let reason: Arc<str> = format!("a batch has more than {most} partitions").into();
    let reject = |of| RejectedRecord::of(of, "processing-failed", PARTITIONS_EXCEEDED, reason.clone());
    further.iter().flat_map(|object| object.records(batch)).map(reject).collect()
}

/// The backup object of a batch; `None` if nothing was kept.
pub(super) fn of_originals(batch: &Batch) -> Option<Object> {
    let mut object = Object::new(Kept::Originals, None);
    for (shard, of_shard) in batch.shards.iter().enumerate() {
        for (chunk, of_chunk) in of_shard.chunks.iter().enumerate() {
            for (index, record) in of_chunk.originals.iter().enumerate() {
                object.push(record, shard, chunk, index);
            }
        }
    }
    (!object.pieces.is_empty()).then_some(object)
}

/// The records of one encoding job.
#[derive(Debug)]
pub(super) struct Job {
    kept: Kept,
    pieces: Vec<Piece>,
}

impl Job {
    pub(super) fn records<'a>(&'a self, batch: &'a Batch) -> impl Iterator<Item = (&'a LeaseKey, &'a Record)> {
        self.pieces.iter().flat_map(move |piece| piece.records(self.kept, batch))
    }
}

/// Cuts an object's records into jobs, in order.
pub(super) struct Jobs<'a> {
    object: &'a Object,
    piece: usize,
    record: u32,
}

impl Jobs<'_> {
    pub(super) fn next(&mut self, batch: &Batch) -> Option<Job> {
        let mut pieces = Vec::new();
        let (mut bytes, mut records) = (0, 0);
        while bytes < JOB_BYTES && records < JOB_RECORDS {
            let Some(piece) = self.object.pieces.get(self.piece) else { break };
            let all = self.object.kept.of(batch, piece.shard as usize, piece.chunk as usize);
            let from = self.record;
            while self.record < piece.to && bytes < JOB_BYTES && records < JOB_RECORDS {
                bytes += all[self.record as usize].data.len() as u64;
                records += 1;
                self.record += 1;
            }
            pieces.push(Piece { from, to: self.record, ..*piece });
            if self.record == piece.to {
                self.piece += 1;
                self.record = self.object.pieces.get(self.piece).map_or(0, |piece| piece.from);
            }
        }
        (!pieces.is_empty()).then_some(Job { kept: self.object.kept, pieces })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use standpipe_flow::{Chunk, SequenceNumber, conformance};

    use super::*;

    /// Shards of chunks of records of these sizes and partitions, numbered through.
    fn batch(shards: &[Vec<Vec<(usize, u8)>>]) -> Batch {
        let template = conformance::batch(1);
        let mut number = 0;
        let mut record = |(size, partition): &(usize, u8)| {
            number += 1;
            let data = Bytes::from(vec![0; *size]);
            let query = [("k".to_owned(), partition.to_string())].into();
            let partition = (*partition > 0).then(|| Arc::new(Partition { query, ..Partition::default() }));
            let (sequence, arrival) = (SequenceNumber::from(number), Millis(1_000_000 - number));
            let record = template.shards[0].chunks[0].records[0].clone();
            Record { data, sequence, arrival, partition, ..record }
        };
        let mut shard = |(index, chunks): (usize, &Vec<Vec<(usize, u8)>>)| {
            let mut shard = template.shards[0].clone();
            shard.range.fence.lease = LeaseKey::new(format!("shard-{index}"));
            let empty = Chunk { records: Vec::new(), ..shard.chunks[0].clone() };
            let chunk =
                |of: &Vec<(usize, u8)>| Chunk { records: of.iter().map(&mut record).collect(), ..empty.clone() };
            shard.chunks = chunks.iter().map(chunk).collect();
            shard
        };
        let shards = shards.iter().enumerate().map(&mut shard).collect();
        Batch { shards, ..Arc::unwrap_or_clone(conformance::batch(0)) }
    }

    fn records(partitions: u8) -> impl Strategy<Value = Vec<Vec<Vec<(usize, u8)>>>> {
        let third = JOB_BYTES as usize / 3;
        let size = prop_oneof![0..10usize, Just(third), Just(third * 3), Just(third * 3 + 2)];
        let chunk = proptest::collection::vec((size, 0..=partitions), 0..6);
        proptest::collection::vec(proptest::collection::vec(chunk, 0..3), 0..4)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

        #[test]
        fn jobs_hold_every_record_of_an_object_once_in_order_with_its_lease(of in records(0)) {
            let batch = batch(&of);
            let objects = of_records(&batch, 1);
            prop_assert!(objects.len() <= 1, "without partitions one object, whatever its size");
            let mut found = Vec::new();
            let mut jobs = objects.first().map(Object::jobs);
            while let Some(job) = jobs.as_mut().and_then(|jobs| jobs.next(&batch)) {
                let records: Vec<_> = job.records(&batch).map(|(lease, record)| (lease.clone(), record.clone())).collect();
                let bytes: usize = records.iter().map(|(_, record)| record.data.len()).sum();
                let last = records.last().map_or(0, |(_, record)| record.data.len());
                prop_assert!((bytes - last) < JOB_BYTES as usize, "a job ends with the record that fills it");
                found.extend(records);
            }
            prop_assert!(found.iter().map(|(lease, record)| (lease, record)).eq(batch.records_with_lease()));
        }

        #[test]
        fn every_record_is_in_one_object_of_its_partition(of in records(3), size in prop_oneof![Just(1_u64), Just(8), 1..JOB_BYTES * 2]) {
            let batch = batch(&of);
            let objects = of_records(&batch, size);
            let mut found = Vec::new();
            for object in &objects {
                let (mut bytes, mut last, mut oldest) = (0, 0, u64::MAX);
                let mut jobs = object.jobs();
                while let Some(job) = jobs.next(&batch) {
                    for (lease, record) in job.records(&batch) {
                        prop_assert_eq!(&record.partition, &object.partition);
                        last = record.data.len() as u64;
                        bytes += last;
                        oldest = oldest.min(record.arrival.0);
                        found.push((lease.clone(), record.sequence.clone()));
                    }
                }
                prop_assert_eq!((bytes, Millis(oldest)), (object.bytes, object.oldest_arrival));
                let bounded = bytes <= size || bytes - last < size;
                prop_assert!(object.partition.is_none() || bounded, "{bytes} bytes");
            }
            prop_assert!(objects.windows(2).all(|two| two[0].partition <= two[1].partition));
            let mut all: Vec<_> = batch.records_with_lease().map(|(lease, record)| (lease.clone(), record.sequence.clone())).collect();
            found.sort();
            all.sort();
            prop_assert_eq!(found, all);
        }
    }

    #[test]
    fn records_without_data_are_bounded_by_number() {
        let batch = batch(&[vec![vec![(0, 0); JOB_RECORDS as usize + 1]]]);
        let objects = of_records(&batch, 1);
        let mut jobs = objects[0].jobs();
        let lengths: Vec<usize> =
            std::iter::from_fn(|| jobs.next(&batch)).map(|job| job.records(&batch).count()).collect();
        assert_eq!(lengths, [JOB_RECORDS as usize, 1]);
    }

    #[test]
    fn what_is_more_than_an_object_is_to_hold_goes_into_several_of_one_size() {
        let batch = batch(&[vec![vec![(10, 1); 7], vec![(10, 2); 3]], vec![vec![(10, 1); 5]]]);
        let sizes: Vec<u64> = of_records(&batch, 50).iter().map(|object| object.bytes).collect();
        assert_eq!(sizes, [40, 40, 40, 30]);
    }

    /// A KPL aggregate of tiny records may have more partitions than anybody can want.
    #[test]
    fn records_of_partitions_too_many_are_rejected() {
        let batch = batch(&[vec![vec![(1, 3), (1, 1), (1, 2), (1, 3), (1, 1)]]]);
        let mut objects = of_records(&batch, 100);
        let rejected = reject_beyond(2, &mut objects, &batch);
        let found: Vec<_> = rejected.iter().map(|record| (record.sequence.as_str(), record.code)).collect();
        assert_eq!(found, [("1", PARTITIONS_EXCEEDED), ("4", PARTITIONS_EXCEEDED)]);
        assert_eq!(objects.iter().map(|object| object.bytes).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(reject_beyond(2, &mut objects, &batch), Vec::new());
    }

    #[test]
    fn a_backup_holds_what_was_read_of_every_shard() {
        let mut batch = batch(&[vec![vec![(10, 1); 2]], vec![vec![], vec![(5, 0)]]]);
        assert_eq!(of_originals(&batch), None);
        for chunk in batch.shards.iter_mut().flat_map(|shard| &mut shard.chunks) {
            chunk.originals = chunk.records.drain(..).collect();
        }
        let object = of_originals(&batch).expect("records were kept");
        let job = object.jobs().next(&batch).expect("a job");
        assert!(job.records(&batch).map(|(_, record)| record).eq(batch.originals()));
        assert_eq!((object.bytes, of_records(&batch, 1)), (25, Vec::new()));
    }
}
