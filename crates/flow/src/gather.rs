//! `read -> transform`: consecutive chunks of one shard become one, for a transform that is called once a chunk and is
//! cheaper for larger ones ([`crate::Transform::gathers`]).
//!
//! Pure: a chunk and the time go in, what is due comes out. I15 holds for what comes out; an aggregate stays whole.
//! Whoever reads takes what is held before anything that ends the reading (a drain, the end of the shard), and when
//! [`Gather::due_at`] has come, whether a read or the budget is waited for or not.
//! Never here: a clock, the budget: the share of a chunk is held as long as the chunk.

use std::time::Duration;

use crate::chunk::{Chunk, Taken};

/// What was read and is not yet handed on.
#[derive(Debug)]
pub struct Gather {
    bytes: usize,
    wait: Duration,
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    chunk: Chunk,
    /// Of data: a merge must not count it anew.
    bytes: usize,
    /// When its first chunk came.
    since: Duration,
}

impl Gather {
    /// Holds chunks until there are so many bytes of data, or the first of them has waited for so long. With no wait,
    /// or no bytes, every chunk is due as it comes.
    pub fn new((bytes, wait): (usize, Duration)) -> Self {
        Self { bytes, wait, held: None }
    }

    /// Takes a chunk that goes on from what is held; `now` is [`crate::Clock::elapsed`]. Gives what is due: what was
    /// held before, if both together would be too much, or everything.
    pub fn push(&mut self, chunk: Chunk, now: Duration) -> Option<Chunk> {
        let bytes = chunk.data_bytes();
        let Some(mut held) = self.held.take() else {
            self.held = Some(Held { chunk, bytes, since: now });
            return self.due(now);
        };
        let continues = held.chunk.tenure == chunk.tenure && held.chunk.to == chunk.from;
        let too_much = held.bytes + bytes > self.bytes && bytes < self.bytes;
        if too_much || !continues {
            self.held = Some(Held { chunk, bytes, since: now });
            return Some(held.chunk);
        }
        append(&mut held.chunk, chunk);
        held.bytes += bytes;
        self.held = Some(held);
        self.due(now)
    }

    /// When what is held is due; `None` when nothing is held.
    pub fn due_at(&self) -> Option<Duration> {
        self.held.as_ref().map(|held| held.since + self.wait)
    }

    /// What is held, if it is due by now.
    pub fn due(&mut self, now: Duration) -> Option<Chunk> {
        self.held.take_if(|held| held.bytes >= self.bytes || now >= held.since + self.wait).map(|held| held.chunk)
    }

    /// What is held, due or not.
    pub fn take(&mut self) -> Option<Chunk> {
        self.held.take().map(|held| held.chunk)
    }
}

/// Puts a chunk after the one that it continues.
fn append(chunk: &mut Chunk, next: Chunk) {
    let Chunk { lease: _, tenure: _, from: _, to, mut records, mut rejected, originals, behind, memory_bytes, taken } =
        next;
    chunk.to = to;
    chunk.records.append(&mut records);
    chunk.rejected.append(&mut rejected);
    if !originals.is_empty() {
        chunk.originals = chunk.originals.iter().chain(originals.iter()).cloned().collect();
    }
    chunk.behind = behind;
    chunk.memory_bytes += memory_bytes;
    let Taken { stream_records, stream_bytes, user_records, out_of_range, no_aggregates } = taken;
    chunk.taken.stream_records += stream_records;
    chunk.taken.stream_bytes += stream_bytes;
    chunk.taken.user_records += user_records;
    chunk.taken.out_of_range += out_of_range;
    chunk.taken.no_aggregates += no_aggregates;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::{LeaseKey, Millis, Position, Record, Tenure};

    const SECOND: Duration = Duration::from_secs(1);

    /// A chunk of one record of so many bytes, after the record before it.
    fn chunk((sequence, size): (u64, usize)) -> Chunk {
        let record = Record {
            data: Bytes::from(vec![b'x'; size]),
            partition_key: "k".into(),
            sequence: sequence.into(),
            sub: 0,
            arrival: Millis(sequence),
            transformed: None,
            partition: None,
        };
        Chunk {
            lease: LeaseKey::new("shardId-000000000000"),
            tenure: Tenure([1; 16]),
            from: if sequence == 1 { Position::TrimHorizon } else { Position::at((sequence - 1).into(), 0) },
            to: record.position(),
            originals: Arc::default(),
            rejected: Vec::new(),
            behind: Duration::from_millis(sequence),
            memory_bytes: size + 1,
            taken: Taken { stream_records: 1, stream_bytes: size as u64, ..Taken::default() },
            records: vec![record],
        }
    }

    #[test]
    fn chunks_become_one_that_ends_where_the_last_one_ended() {
        let mut gather = Gather::new((100, 60 * SECOND));
        assert_eq!(gather.due_at(), None);
        assert_eq!(gather.push(chunk((1, 40)), SECOND), None);
        assert_eq!(gather.push(chunk((2, 40)), 2 * SECOND), None);
        assert_eq!(gather.due_at(), Some(61 * SECOND), "the age of the first counts");
        assert_eq!(gather.due(60 * SECOND), None);
        let whole = gather.due(61 * SECOND).expect("it has waited long enough");
        assert_eq!((whole.from, whole.to), (chunk((1, 40)).from, chunk((2, 40)).to));
        assert_eq!((whole.records.len(), whole.memory_bytes, whole.taken.stream_bytes), (2, 82, 80));
        assert_eq!(whole.behind, Duration::from_millis(2));
        assert_eq!((gather.take(), gather.due_at()), (None, None));
    }

    #[test]
    fn what_would_be_too_much_is_not_cut_but_comes_with_the_next() {
        let mut gather = Gather::new((100, 60 * SECOND));
        assert_eq!(gather.push(chunk((1, 80)), SECOND), None);
        assert_eq!(gather.push(chunk((2, 40)), 3 * SECOND), Some(chunk((1, 80))));
        assert_eq!(gather.due_at(), Some(63 * SECOND));
        assert_eq!(gather.push(chunk((3, 60)), 4 * SECOND).map(|whole| whole.records.len()), Some(2), "just full");
        assert_eq!(gather.push(chunk((4, 10)), 5 * SECOND), None);
        let with_a_large_one = gather.push(chunk((5, 500)), 6 * SECOND).expect("due by itself");
        assert_eq!(with_a_large_one.records.len(), 2);
        assert_eq!(gather.take(), None);
    }

    #[test]
    fn without_a_wait_nothing_is_held() {
        let mut gather = Gather::new((100, Duration::ZERO));
        assert_eq!(gather.push(chunk((1, 1)), SECOND), Some(chunk((1, 1))));
        let mut gather = Gather::new((0, 60 * SECOND));
        assert_eq!(gather.push(chunk((1, 1)), SECOND), Some(chunk((1, 1))));
    }

    #[test]
    fn what_does_not_go_on_from_what_is_held_is_never_merged_with_it() {
        let mut gather = Gather::new((100, 60 * SECOND));
        assert_eq!(gather.push(chunk((1, 1)), SECOND), None);
        assert_eq!(gather.push(chunk((5, 1)), SECOND), Some(chunk((1, 1))));
        assert_eq!(gather.take(), Some(chunk((5, 1))));
    }
}
