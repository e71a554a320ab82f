//! The commit protocol of one destination in one process: `stage -> commit -> publish -> finalize`, and every recovery;
//! for an idempotent destination `deliver -> advance`, for a declared one `declare -> deliver -> finalize`, and for both a
//! commit for what ends in S3.
//!
//! PURE: `step(event)` changes the state and names effects; the shell carries them out and brings their answers back
//! as events. No clock, no I/O, no retry timing: an effect that a service did not answer clearly is the shell's to
//! repeat, what an unclear answer MEANS is decided here. The model explores this very code.
//!
//! Invariants: I2 ranges chain (a commit begins at the shard's position), I4 nothing is published before it is known
//! to be committed, I5 no upload of a committed receipt is discarded, I7 one outstanding commit a shard, I9 state dies
//! with its tenure, I13 unknown forms: hands off, I14 a declared id is one fixed range, I16 no commit below `checkpoint`, I17 finalize
//! only after DONE.
//! Never here: `checkpoint` (only heartbeats move it), reading, encoding.
//! Anchor: `tests/model`.

mod attempt;
mod event;
mod recover;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use standpipe_flow::{
    CommitId, DestinationId, DestinationPosition, Fence, Finalize, LeaseKey, LeaseRow, Millis, Mode, Position, Tenure,
    WorkerId,
};

use attempt::Attempt;
pub use event::{Answer, Effect, Event, Note, StagedBatch};

/// Where one shard stands at this destination.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Shard {
    fence: Fence,
    /// Committed and published up to here by what this process knows: where the next commit begins.
    at: Position,
    arrival: Option<Millis>,
    /// A commit that this process saw DONE, or a declared range that was acknowledged, which the row may still carry.
    previous: Option<CommitId>,
    /// The row carries this declared range from `at` on: it is to be delivered, again or not, under its id and as a whole.
    owed: Option<(CommitId, Position)>,
    /// `checkpoint` in the answer of the take.
    checkpoint: Position,
    stage: Stage,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Stage {
    /// Its records may be cut into a batch.
    Ready,
    /// In an attempt that is not yet published.
    Busy(CommitId),
    /// The take found this commit pending; it is being brought to its end.
    Recovering(CommitId),
    /// The found commit is over; the row is being told: the position it ends at.
    Settling(CommitId, Position, Option<Millis>),
    /// A Java worker's progress is being adopted.
    Adopting,
    /// Given up for a human to look at.
    HandsOff,
}

/// The protocol's state at one destination.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Protocol {
    me: WorkerId,
    destination: DestinationId,
    mode: Mode,
    config: String,
    version: String,
    shards: BTreeMap<LeaseKey, Shard>,
    attempts: BTreeMap<CommitId, Attempt>,
    /// Numbers the attempts, so that a late answer to an abandoned one is told from an answer to its successor.
    runs: u64,
}

impl Protocol {
    /// Nothing held, nothing under way. `config` is the hash of what shapes the bytes, for receipts.
    pub fn new(me: WorkerId, (destination, mode): (DestinationId, Mode), config: String, version: String) -> Self {
        Self { me, destination, mode, config, version, shards: BTreeMap::new(), attempts: BTreeMap::new(), runs: 0 }
    }

    /// Where a batch of this shard would begin, and the right to commit it; `None` unless it may be cut now.
    pub fn ready(&self, lease: &LeaseKey) -> Option<(&Fence, &Position, Option<Millis>)> {
        let shard = self.shards.get(lease)?;
        (shard.stage == Stage::Ready).then_some((&shard.fence, &shard.at, shard.arrival))
    }

    /// The declared range that the row carries: the next batch of this shard has this id and ends exactly there.
    pub fn owed(&self, lease: &LeaseKey) -> Option<(CommitId, &Position)> {
        self.shards.get(lease)?.owed.as_ref().map(|(cid, to)| (*cid, to))
    }

    /// Whether everything that was cut of this shard is finalized in its row: the lease may be given back.
    pub fn settled(&self, lease: &LeaseKey) -> bool {
        let is_settled =
            |shard: &Shard| shard.stage == Stage::Ready && shard.previous.is_none() && shard.owed.is_none();
        self.shards.get(lease).is_none_or(is_settled)
    }

    /// Attempts under way, commits that takes found included.
    pub fn attempts(&self) -> usize {
        self.attempts.len()
    }

    /// Batches of ours that are being staged or committed.
    pub fn undecided(&self) -> usize {
        self.attempts.values().filter(|attempt| attempt.undecided()).count()
    }

    /// Whether the attempt is still under way.
    pub fn knows(&self, cid: CommitId) -> bool {
        self.attempts.contains_key(&cid)
    }

    /// Takes in one event.
    pub fn step(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Taken { row, fence } => self.taken(&row, fence, &mut effects),
            Event::Lost { lease, tenure } => self.lost(&lease, tenure, &mut effects),
            Event::Cut { cid, ranges } => self.cut(cid, ranges, &mut effects),
            Event::Staged { cid, staged } => self.staged(cid, *staged, &mut effects),
            Event::Unstaged { cid } => self.unstaged(cid, &mut effects),
            Event::Answer { cid, run, answer } => self.answer(cid, run, answer, &mut effects),
            Event::Finalized { lease, tenure, cid } => self.finalized(&lease, tenure, cid, &mut effects),
            Event::FinalizeDue { lease, tenure, cid } => self.finalize_due(&lease, tenure, cid, &mut effects),
            Event::FinalizeNow { lease } => self.finalize_now(&lease, &mut effects),
            Event::Advanced { lease, tenure, position } => self.advanced(&lease, tenure, position, &mut effects),
        }
        effects
    }

    fn shard(&mut self, lease: &LeaseKey, tenure: Tenure) -> Option<&mut Shard> {
        self.shards.get_mut(lease).filter(|shard| shard.fence.tenure == tenure)
    }

    fn next_run(&mut self) -> u64 {
        self.runs += 1;
        self.runs
    }

    /// The lease is no longer ours. What was not yet sent dies; what was sent goes on, because it may be committed.
    fn lost(&mut self, lease: &LeaseKey, tenure: Tenure, effects: &mut Vec<Effect>) {
        if self.shard(lease, tenure).is_none() {
            return;
        }
        self.shards.remove(lease);
        let cids: Vec<CommitId> = self.attempts.keys().copied().collect();
        for cid in cids {
            self.leave_attempt(cid, lease, effects);
        }
    }

    /// Drops a lease that must be taken again: the new tenure fences every request of ours that may still be on its way.
    fn walk_away(&mut self, lease: &LeaseKey, why: &'static str, effects: &mut Vec<Effect>) {
        if let Some(shard) = self.shards.remove(lease) {
            effects.push(Effect::WalkAway { lease: lease.clone(), tenure: shard.fence.tenure, why });
        }
    }

    /// Back to the shard's position, to read again from there.
    fn rewind(&mut self, lease: &LeaseKey, effects: &mut Vec<Effect>) {
        if let Some(shard) = self.shards.get_mut(lease) {
            shard.stage = Stage::Ready;
            let (lease, tenure, from) = (lease.clone(), shard.fence.tenure, shard.at.clone());
            effects.push(Effect::Read { lease, tenure, from });
        }
    }

    fn finalize_of(&self, lease: &LeaseKey) -> Option<(Finalize, Tenure)> {
        let shard = self.shards.get(lease)?;
        let finalize = Finalize {
            lease: lease.clone(),
            destination: self.destination.clone(),
            cid: shard.previous?,
            to: shard.at.clone(),
            arrival: shard.arrival,
        };
        Some((finalize, shard.fence.tenure))
    }

    /// A second has passed since DONE. If a commit of the same shard is on its way, that one carries it.
    fn finalize_due(&mut self, lease: &LeaseKey, tenure: Tenure, cid: CommitId, effects: &mut Vec<Effect>) {
        let committing = self.attempts.values().any(|attempt| attempt.committing(lease));
        let due = self.shard(lease, tenure).is_some_and(|shard| shard.previous == Some(cid));
        if due && !committing {
            self.finalize_now(lease, effects);
        }
    }

    fn finalize_now(&mut self, lease: &LeaseKey, effects: &mut Vec<Effect>) {
        if let Some((finalize, tenure)) = self.finalize_of(lease) {
            effects.push(Effect::Finalize { finalize, tenure });
        }
    }

    /// The row no longer carries the commit: by this write, or by an earlier one that said the same.
    fn finalized(&mut self, lease: &LeaseKey, tenure: Tenure, cid: CommitId, effects: &mut Vec<Effect>) {
        let Some(shard) = self.shard(lease, tenure) else { return };
        match &shard.stage {
            Stage::Settling(settling, at, arrival) if *settling == cid => {
                (shard.at, shard.arrival) = (at.clone(), *arrival);
                self.settle(lease, effects);
                self.begin(lease, effects);
            }
            _ if shard.previous == Some(cid) => {
                shard.previous = None;
                self.settle(lease, effects);
            }
            _ => {}
        }
    }

    fn settle(&mut self, lease: &LeaseKey, effects: &mut Vec<Effect>) {
        if let Some(shard) = self.shards.get(lease) {
            let position = DestinationPosition::finalized(shard.at.clone(), shard.arrival);
            effects.push(Effect::Settle { lease: lease.clone(), tenure: shard.fence.tenure, position });
        }
    }
}

fn pending_cid(row: &LeaseRow, destination: &DestinationId) -> Option<CommitId> {
    row.destinations.get(destination)?.pending.as_ref().map(|pending| pending.cid)
}
