//! How far a batch has come, by its commit id: a batch whose delivery is asked for again goes on where it was.
//!
//! Without ids of documents what is sent again is there twice, so what was accepted is remembered, also after the whole
//! batch was: its error objects may fail to be staged, and then it is asked for once more. Bounded by number; what is
//! forgotten is delivered again.
//! Never here: a record, a request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use standpipe_flow::CommitId;

use super::answer::Said;

/// Batches that are remembered: as many lanes have all shards of a worker.
const BATCHES_MAX: usize = 256;
/// Records of all of them together that are not known to be accepted.
const RECORDS_MAX: usize = 8 << 20;
/// Bytes of what was said of the records of one batch; of those beyond, the code alone is kept.
const SAID_BYTES_MAX: usize = 4 << 20;

/// The batches of a destination.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<BTreeMap<CommitId, Arc<Mutex<Progress>>>>);

impl Kept {
    /// The progress of a batch of so many records; a new one if it is not known.
    pub(super) fn of(&self, cid: CommitId, records: usize) -> Arc<Mutex<Progress>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept.get(&cid) {
            return known.clone();
        }
        let weight = |one: &Arc<Mutex<Progress>>| locked(one).weight();
        let mut total: usize = kept.values().map(weight).sum::<usize>() + records;
        while kept.len() >= BATCHES_MAX || total > RECORDS_MAX {
            // The oldest: ids begin with a time.
            let Some((_, forgotten)) = kept.pop_first() else { break };
            total -= weight(&forgotten).min(total);
        }
        kept.entry(cid).or_insert_with(|| Arc::new(Mutex::new(Progress::new(records)))).clone()
    }
}

/// The progress itself. A poisoned lock holds one that is whole: each change is one assignment.
pub(super) fn locked(progress: &Mutex<Progress>) -> std::sync::MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How far one batch has come.
#[derive(Debug)]
pub(super) struct Progress {
    /// Of each record; empty when all are settled.
    states: Vec<State>,
    pending: usize,
    /// What was last said of records that are not accepted.
    refusals: BTreeMap<u32, Refusal>,
    /// How long a destination that answers has refused it.
    spent: Duration,
    /// Since when it does, if it does.
    since: Option<Duration>,
    /// Bytes of requests that were answered document by document.
    sent_bytes: u64,
    /// Bytes of what is kept of what was said.
    said_bytes: usize,
    /// What stands in the place of what is not kept.
    unkept: Arc<str>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Pending,
    Accepted,
    Rejected,
}

/// What was last said of a record, and how often it was sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Refusal {
    pub said: Said,
    pub attempts: u32,
    /// Final.
    pub rejected: bool,
    /// How often of that it was alone in its request, and the request as a whole was refused.
    pub alone: u32,
    /// The id that it was to have, where that came from an expression.
    pub id: Option<Box<str>>,
}

impl Progress {
    fn new(records: usize) -> Self {
        let states = vec![State::Pending; records];
        let (refusals, spent) = (BTreeMap::new(), Duration::ZERO);
        let unkept = Arc::from("refused, as others of its batch: of so many not all reasons are kept");
        Self { states, pending: records, refusals, spent, since: None, sent_bytes: 0, said_bytes: 0, unkept }
    }

    fn weight(&self) -> usize {
        self.states.len() + self.refusals.len() * 64
    }

    /// Records that are neither accepted nor rejected.
    #[cfg(test)]
    pub(super) fn pending(&self) -> usize {
        self.pending
    }

    /// Their numbers, ascending.
    pub(super) fn pending_records(&self) -> impl Iterator<Item = u32> {
        (0_u32..).zip(&self.states).filter(|(_, state)| **state == State::Pending).map(|(record, _)| record)
    }

    /// What became of records that were rejected, ascending.
    pub(super) fn rejected(&self) -> impl Iterator<Item = (u32, &Refusal)> {
        self.refusals.iter().filter(|(_, refusal)| refusal.rejected).map(|(record, refusal)| (*record, refusal))
    }

    /// A record that waits, and what was last said of it.
    pub(super) fn last_said(&self) -> Option<(u32, &Said)> {
        let waits = self.refusals.iter().rev().find(|(_, refusal)| !refusal.rejected);
        waits.map(|(record, refusal)| (*record, &refusal.said))
    }

    /// How often a record was refused alone, as a request.
    pub(super) fn alone(&self, record: u32) -> u32 {
        self.refusals.get(&record).map_or(0, |refusal| refusal.alone)
    }

    pub(super) fn accept(&mut self, record: u32) {
        if self.settle(record, State::Accepted) {
            self.refusals.remove(&record);
        }
    }

    /// The record waits.
    pub(super) fn refuse(&mut self, record: u32, said: Said, id: Option<&str>) {
        if self.is_pending(record) {
            self.note(record, said, id);
        }
    }

    /// The record waits: a request with nothing else in it was refused as a whole. Gives how often that was so.
    pub(super) fn refuse_alone(&mut self, record: u32, said: Said, id: Option<&str>) -> u32 {
        self.refuse(record, said, id);
        let refusal = self.refusals.get_mut(&record).filter(|refusal| !refusal.rejected);
        refusal.map_or(0, |refusal| {
            refusal.alone += 1;
            refusal.alone
        })
    }

    pub(super) fn reject(&mut self, record: u32, said: Said, id: Option<&str>) {
        if !self.is_pending(record) {
            return;
        }
        self.note(record, said, id);
        if let Some(refusal) = self.refusals.get_mut(&record) {
            refusal.rejected = true;
        }
        self.settle(record, State::Rejected);
    }

    /// A record that waits is rejected, with what was last said of it.
    pub(super) fn settle_refused(&mut self, record: u32) {
        if let Some(refusal) = self.refusals.get_mut(&record) {
            refusal.rejected = true;
            self.settle(record, State::Rejected);
        }
    }

    /// Every record that waits is rejected, with what was last said of it, or this.
    pub(super) fn give_up(&mut self, otherwise: &Said) {
        let waiting: Vec<u32> = self.pending_records().collect();
        for record in waiting {
            let refusal = self.refusals.entry(record).or_insert_with(|| Refusal {
                said: otherwise.clone(),
                attempts: 0,
                rejected: true,
                alone: 0,
                id: None,
            });
            refusal.rejected = true;
            self.settle(record, State::Rejected);
        }
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

    /// Whether a record is neither accepted nor rejected.
    pub(super) fn is_pending(&self, record: u32) -> bool {
        self.states.get(record as usize) == Some(&State::Pending)
    }

    /// A request of so many bytes was answered.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent_bytes += bytes as u64;
    }

    /// Bytes of requests so far.
    pub(super) fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    fn note(&mut self, record: u32, said: Said, id: Option<&str>) {
        let known = self.refusals.get(&record);
        let (attempts, alone) = known.map_or((1, 0), |refusal| (refusal.attempts + 1, refusal.alone));
        let id = id.map(Into::into);
        let before = known.map_or(0, |refusal| refusal.said.message.len());
        let bytes = self.said_bytes.saturating_sub(before) + said.message.len();
        let said = if bytes > SAID_BYTES_MAX { Said { message: self.unkept.clone(), ..said } } else { said };
        self.said_bytes = bytes.min(SAID_BYTES_MAX);
        self.refusals.insert(record, Refusal { said, attempts, rejected: false, alone, id });
    }

    fn settle(&mut self, record: u32, state: State) -> bool {
        let Some(of) = self.states.get_mut(record as usize).filter(|state| **state == State::Pending) else {
            return false;
        };
        *of = state;
        self.pending -= 1;
        if self.pending == 0 {
            self.states = Vec::new();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use standpipe_flow::Millis;

    use super::*;

    fn said(code: &'static str) -> Said {
        Said::new(code, "why")
    }

    fn cid(number: u64) -> CommitId {
        CommitId::new(Millis(number), 0, 0)
    }

    #[test]
    fn a_batch_goes_on_where_it_was() {
        let kept = Kept::default();
        let progress = kept.of(cid(1), 4);
        {
            let mut progress = locked(&progress);
            progress.accept(1);
            progress.refuse(2, said("429"), None);
            progress.refuse(2, said("503"), None);
            progress.reject(3, said("400"), Some("id"));
            progress.refuse(0, said("429"), None);
        }
        let again = kept.of(cid(1), 4);
        let mut again = locked(&again);
        assert_eq!(again.pending_records().collect::<Vec<_>>(), [0, 2]);
        again.accept(0);
        again.accept(3);
        again.reject(1, said("400"), None);
        assert_eq!(again.pending(), 1, "what is settled stays so");
        again.give_up(&said("none"));
        let rejected: Vec<_> = again.rejected().map(|(n, r)| (n, r.said.code, r.attempts, r.id.as_deref())).collect();
        assert_eq!(rejected, [(2, "503", 2, None), (3, "400", 1, Some("id"))]);
        assert_eq!((again.pending(), again.weight()), (0, 128), "what was accepted takes no memory any more");
    }

    #[test]
    fn time_counts_while_the_destination_answers() {
        let seconds = Duration::from_secs;
        let mut progress = Progress::new(1);
        progress.answers(seconds(10));
        assert_eq!(progress.spent(seconds(15)), seconds(5), "from the first attempt on");
        progress.silent(seconds(20));
        assert_eq!(progress.spent(seconds(500)), seconds(10));
        progress.silent(seconds(600));
        progress.answers(seconds(1_000));
        progress.answers(seconds(1_001));
        assert_eq!(progress.spent(seconds(1_003)), seconds(13));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_goes_first() {
        let kept = Kept::default();
        for number in 0..BATCHES_MAX as u64 + 10 {
            let progress = kept.of(cid(number), 2);
            locked(&progress).accept(0);
        }
        assert_eq!(locked(&kept.of(cid(BATCHES_MAX as u64), 2)).pending(), 1, "remembered");
        assert_eq!(locked(&kept.of(cid(0), 2)).pending(), 2, "forgotten");
        drop(kept.of(cid(10_000), RECORDS_MAX));
        assert_eq!(kept.0.lock().expect("whole").len(), 1);
    }
}
