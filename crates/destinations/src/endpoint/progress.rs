//! How far a batch has come, by the id of the attempt: an attempt whose delivery is asked for again goes on where it was. One
//! that reads a declared range again is another, and sends all of it.
//!
//! What is kept are ranges of record numbers, one a request; what is forgotten is delivered again, under the same ids.
//! Never here: a record, a request.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use standpipe_flow::CommitId;

use super::answer::Said;
use super::request::halves;

/// Batches that are remembered: as many lanes have all shards of a worker.
const BATCHES_MAX: usize = 256;

/// The batches of a destination.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<BTreeMap<CommitId, Arc<Mutex<Progress>>>>);

impl Kept {
    /// The progress of a batch that is known, if it has so many records.
    pub(super) fn of(&self, cid: CommitId, records: usize) -> Option<Arc<Mutex<Progress>>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(&cid).filter(|known| locked(known).records == records).cloned()
    }

    /// Remembers a batch that was cut into these requests.
    pub(super) fn begin(&self, cid: CommitId, records: usize, requests: Vec<Range<u32>>) -> Arc<Mutex<Progress>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while kept.len() >= BATCHES_MAX {
            // The oldest: ids begin with a time.
            kept.pop_first();
        }
        let progress = Arc::new(Mutex::new(Progress::new(records, requests)));
        kept.insert(cid, progress.clone());
        progress
    }
}

/// The progress itself. A poisoned lock holds one that is whole: nothing that panics is done under it.
pub(super) fn locked(progress: &Mutex<Progress>) -> std::sync::MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How far one batch has come.
#[derive(Debug)]
pub(super) struct Progress {
    records: usize,
    /// What is neither taken nor refused for good, ascending.
    pending: Vec<Part>,
    rejected: Vec<Rejected>,
    /// Passes in a row that left something and got nothing done.
    failures: u32,
    /// How long a destination that answers has refused it.
    spent: Duration,
    /// Since when it does, if it does.
    since: Option<Duration>,
    /// Bytes of requests that were taken.
    sent_bytes: u64,
}

/// The records of a request that is still to be taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Part {
    /// Their numbers in the batch.
    pub range: Range<u32>,
    /// How often they were sent.
    pub attempts: u32,
    /// What was last said of them by a server that answers.
    pub said: Option<Said>,
}

/// Records that were refused for good.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Rejected {
    /// Their numbers in the batch.
    pub range: Range<u32>,
    /// How often they were sent.
    pub attempts: u32,
    /// Why.
    pub said: Said,
}

impl Progress {
    fn new(records: usize, requests: Vec<Range<u32>>) -> Self {
        let part = |range| Part { range, attempts: 0, said: None };
        let pending = requests.into_iter().map(part).collect();
        let (spent, since) = (Duration::ZERO, None);
        Self { records, pending, rejected: Vec::new(), failures: 0, spent, since, sent_bytes: 0 }
    }

    /// What is still to be sent, ascending.
    pub(super) fn pending(&self) -> &[Part] {
        &self.pending
    }

    /// What was refused for good, ascending.
    pub(super) fn rejected(&self) -> impl Iterator<Item = &Rejected> {
        self.rejected.iter()
    }

    /// Records are there, by a request of so many bytes.
    pub(super) fn take(&mut self, range: &Range<u32>, bytes: usize) {
        if self.remove(range).is_some() {
            self.sent_bytes += bytes as u64;
        }
    }

    /// A request was sent, and this was said of it.
    pub(super) fn refuse(&mut self, range: &Range<u32>, said: Option<Said>) {
        if let Some(part) = self.pending.iter_mut().find(|part| part.range == *range) {
            part.attempts += 1;
            part.said = said.or_else(|| part.said.take());
        }
    }

    /// A request was too large: its halves take its place, and are given; one record alone is refused for good.
    pub(super) fn split(&mut self, range: &Range<u32>, said: Said) -> Vec<Part> {
        let Some(part) = self.remove(range) else { return Vec::new() };
        let attempts = part.attempts + 1;
        let Some(halves) = halves(range) else {
            self.reject(Rejected { range: range.clone(), attempts, said });
            return Vec::new();
        };
        let parts = halves.map(|range| Part { range, attempts, said: part.said.clone() });
        self.pending.extend(parts.clone());
        self.pending.sort_by_key(|part| part.range.start);
        parts.into()
    }

    /// Everything that waits is refused for good, with what was last said of it.
    pub(super) fn give_up(&mut self, otherwise: &Said) {
        for Part { range, attempts, said } in std::mem::take(&mut self.pending) {
            self.reject(Rejected { range, attempts, said: said.unwrap_or_else(|| otherwise.clone()) });
        }
    }

    /// A pass is over, with or without something done. Gives how many in a row had nothing done before it.
    pub(super) fn passed(&mut self, done: bool) -> u32 {
        let before = if done { 0 } else { self.failures };
        self.failures = before.saturating_add(1);
        before
    }

    /// The destination answers from now on, as far as anybody knows.
    pub(super) fn answers(&mut self, now: Duration) {
        self.since.get_or_insert(now);
    }

    /// It does not, since then: until it does again, no time counts.
    pub(super) fn silent(&mut self, then: Duration) {
        self.spent = self.spent(then);
        self.since = None;
    }

    /// How long it has answered and refused.
    pub(super) fn spent(&self, now: Duration) -> Duration {
        self.spent + self.since.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }

    /// Bytes of requests that were taken.
    pub(super) fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    fn reject(&mut self, rejected: Rejected) {
        self.rejected.push(rejected);
        self.rejected.sort_by_key(|one| one.range.start);
    }

    fn remove(&mut self, range: &Range<u32>) -> Option<Part> {
        let at = self.pending.iter().position(|part| part.range == *range)?;
        Some(self.pending.remove(at))
    }
}

#[cfg(test)]
mod tests {
    use standpipe_flow::Millis;

    use super::*;

    fn said() -> Said {
        Said { code: "code", message: "why".into(), shown: "why".into(), after: None }
    }

    fn one_request() -> Vec<Range<u32>> {
        std::iter::once(0..1).collect()
    }

    fn cid(number: u64) -> CommitId {
        CommitId::new(Millis(number), 0, 0)
    }

    #[test]
    fn a_batch_goes_on_where_it_was_and_every_record_is_settled_once() {
        let kept = Kept::default();
        assert!(kept.of(cid(1), 9).is_none());
        let progress = kept.begin(cid(1), 9, vec![0..4, 4..9]);
        {
            let mut progress = locked(&progress);
            progress.refuse(&(4..9), Some(said()));
            assert_eq!(progress.split(&(0..4), said()).len(), 2);
            progress.take(&(2..4), 100);
            progress.take(&(2..4), 100);
            progress.take(&(0..4), 100);
        }
        assert!(kept.of(cid(1), 8).is_none(), "another batch under this id is not this one");
        let again = kept.of(cid(1), 9).expect("known");
        let mut again = locked(&again);
        let pending: Vec<(Range<u32>, u32)> =
            again.pending().iter().map(|part| (part.range.clone(), part.attempts)).collect();
        assert_eq!((pending, again.sent_bytes()), (vec![(0..2, 1), (4..9, 1)], 100));
        again.split(&(0..2), said());
        assert_eq!(again.split(&(1..2), said()), [], "one record alone");
        again.give_up(&Said { code: "otherwise", ..said() });
        let rejected: Vec<(Range<u32>, &str, u32)> =
            again.rejected().map(|one| (one.range.clone(), one.said.code, one.attempts)).collect();
        assert_eq!(rejected, [(0..1, "otherwise", 2), (1..2, "code", 3), (4..9, "code", 1)]);
        assert_eq!(again.pending(), []);
    }

    #[test]
    fn time_counts_while_the_destination_answers() {
        let seconds = Duration::from_secs;
        let mut progress = Progress::new(1, one_request());
        progress.answers(seconds(10));
        assert_eq!(progress.spent(seconds(15)), seconds(5), "from the first attempt on");
        progress.answers(seconds(20));
        progress.silent(seconds(20));
        assert_eq!(progress.spent(seconds(500)), seconds(10), "not the time of an attempt that had no answer");
        progress.answers(seconds(1_000));
        assert_eq!(progress.spent(seconds(1_003)), seconds(13));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_goes_first() {
        let kept = Kept::default();
        for number in 0..BATCHES_MAX as u64 + 10 {
            kept.begin(cid(number), 1, one_request());
        }
        assert!(kept.of(cid(9), 1).is_none() && kept.of(cid(10), 1).is_some());
    }
}
