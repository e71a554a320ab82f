//! `transform ->`: a chunk's copies, one for each destination that is fed. They share the bytes of the records, and so the
//! share of the budget. A copy of which little is left gets bytes of its own, and lets go of the others.
//!
//! Never here: waiting for memory.

use std::sync::Arc;

use bytes::Bytes;
use standpipe_flow::{Chunk, Record, RejectedRecord, Transform};

use crate::budget::Share;
use crate::feed::{self, Subscriber};

/// One destination's copy of a chunk.
pub(crate) struct Copy {
    chunk: Chunk,
    /// Bytes of data in it when it was made.
    came_bytes: usize,
}

impl Copy {
    /// Lets the destination's own transform have it.
    pub(crate) async fn apply(&mut self, transform: &dyn Transform) {
        let Chunk { lease, tenure, from, to, behind, taken, .. } = &self.chunk;
        let nothing = Chunk {
            lease: lease.clone(),
            tenure: *tenure,
            from: from.clone(),
            to: to.clone(),
            records: Vec::new(),
            rejected: Vec::new(),
            originals: Arc::default(),
            behind: *behind,
            memory_bytes: 0,
            taken: *taken,
        };
        self.chunk = transform.apply(std::mem::replace(&mut self.chunk, nothing)).await;
    }

    /// Whether less than half of its bytes is left: they are copied, so that the rest is free.
    fn is_small(&self) -> bool {
        self.chunk.originals.is_empty() && self.chunk.data_bytes() * 2 < self.came_bytes
    }
}

/// A copy for each that lacks something of the chunk.
pub(crate) fn of(chunk: Chunk, mut subscribers: Vec<Subscriber>) -> Vec<(Subscriber, Copy)> {
    let came_bytes = chunk.data_bytes();
    let last = subscribers.pop();
    let mut copies = Vec::with_capacity(subscribers.len() + 1);
    for subscriber in subscribers {
        let chunk = feed::after(chunk.clone(), &subscriber.from);
        copies.extend(chunk.map(|chunk| (subscriber, Copy { chunk, came_bytes })));
    }
    let last = last.and_then(|last| Some((feed::after(chunk, &last.from)?, last)));
    copies.extend(last.map(|(chunk, last)| (last, Copy { chunk, came_bytes })));
    copies
}

/// Gives each copy its share: the whole of it, or a part of its own for a small one. The share is made to fit before.
pub(crate) fn weighed(copies: Vec<(Subscriber, Copy)>, mut share: Share) -> Vec<(Subscriber, Chunk, Arc<Share>)> {
    let small = |copy: &Copy| if copy.is_small() { own_bytes(&copy.chunk) } else { 0 };
    let smalls: usize = copies.iter().map(|(_, copy)| small(copy)).sum();
    let whole = copies.iter().filter(|(_, copy)| !copy.is_small()).map(|(_, copy)| copy.chunk.memory_bytes).max();
    // Each further copy has a list of its records.
    let records: usize = copies.iter().skip(1).map(|(_, copy)| copy.chunk.records.len()).sum();
    let needed = whole.unwrap_or(0) + records * size_of::<Record>() + smalls;
    share.fit(needed);
    let splits = whole.is_none() || share.bytes() >= needed;
    let mut parts: Vec<Option<Share>> = Vec::with_capacity(copies.len());
    for (_, copy) in &copies {
        parts.push((splits && copy.is_small()).then(|| share.split(own_bytes(&copy.chunk))));
    }
    let share = Arc::new(share);
    let weighed = copies.into_iter().zip(parts).map(|((subscriber, mut copy), part)| {
        let share = match part {
            Some(part) => {
                copy_small(&mut copy.chunk);
                Arc::new(part)
            }
            None => share.clone(),
        };
        (subscriber, copy.chunk, share)
    });
    weighed.collect()
}

/// What a chunk holds whose bytes are its own.
fn own_bytes(chunk: &Chunk) -> usize {
    let record = |record: &Record| {
        let original = record.transformed.as_ref().and_then(|transformed| transformed.original.as_ref());
        size_of::<Record>() + record.data.len() + original.map_or(0, Bytes::len)
    };
    let rejected = |record: &RejectedRecord| size_of::<RejectedRecord>() + record.data.len();
    chunk.records.iter().map(record).sum::<usize>() + chunk.rejected.iter().map(rejected).sum::<usize>()
}

fn copy_small(chunk: &mut Chunk) {
    chunk.memory_bytes = own_bytes(chunk);
    for record in &mut chunk.records {
        record.data = Bytes::copy_from_slice(&record.data);
        if let Some(original) = record.transformed.as_mut().and_then(|transformed| transformed.original.as_mut()) {
            *original = Bytes::copy_from_slice(original);
        }
    }
    for record in &mut chunk.rejected {
        record.data = Bytes::copy_from_slice(&record.data);
    }
}

#[cfg(test)]
mod tests {
    use standpipe_flow::{DestinationId, LeaseKey, Millis, Position, Tenure};
    use tokio::sync::mpsc;

    use super::*;
    use crate::budget::Budget;
    use crate::feed::Outlet;

    fn subscriber(name: &str) -> Subscriber {
        let outlet = Outlet { chunks: mpsc::channel(1).0, transform: None };
        Subscriber { destination: DestinationId::new(name), epoch: 1, from: Position::TrimHorizon, outlet }
    }

    fn chunk(records: usize, bytes: usize) -> Chunk {
        let arena = Bytes::from(vec![b'x'; records * bytes]);
        let record = |n: usize| Record {
            data: arena.slice(n * bytes..(n + 1) * bytes),
            partition_key: "k".into(),
            sequence: (n as u64 + 1).into(),
            sub: 0,
            arrival: Millis(0),
            transformed: None,
            partition: None,
        };
        Chunk {
            lease: LeaseKey::new("shardId-000000000000"),
            tenure: Tenure([1; 16]),
            from: Position::TrimHorizon,
            to: Position::at((records as u64).into(), 0),
            records: (0..records).map(record).collect(),
            rejected: Vec::new(),
            originals: Arc::default(),
            behind: Default::default(),
            memory_bytes: records * bytes,
            taken: Default::default(),
        }
    }

    #[tokio::test]
    async fn copies_share_bytes_and_their_share_and_a_small_one_lets_go() {
        let budget = Budget::new(8 << 20);
        let mut copies = of(chunk(100, 10 << 10), vec![subscriber("all"), subscriber("few"), subscriber("none")]);
        copies[1].1.chunk.records.truncate(10);
        copies[2].1.chunk.records.clear();
        let weighed = weighed(copies, budget.take(1000 << 10).await);
        let [(_, all, whole), (_, few, part), (_, none, nothing)] = weighed.try_into().expect("three copies");
        assert_eq!((all.records.len(), few.records.len(), none.records.len()), (100, 10, 0));
        assert_eq!(few.records[0].data, all.records[0].data);
        assert_ne!(few.records[0].data.as_ptr(), all.records[0].data.as_ptr(), "bytes of its own");
        assert!(whole.bytes() >= 1000 << 10);
        assert!((100 << 10..110 << 10).contains(&part.bytes()), "{}", part.bytes());
        assert_eq!(nothing.bytes(), 0);
        drop(whole);
        assert!(
            budget.used_bytes() < 110 << 10,
            "{}: the whole is free while the small one waits",
            budget.used_bytes()
        );
    }
}
