//! What a take finds, and how it is brought to its end (protocol 4).

use standpipe_flow::{
    Advance, CommitId, Fence, Finalize, LeaseKey, LeaseRow, Millis, Pending, PendingMode, Position, Tenure,
};

use super::attempt::Attempt;
use super::{Effect, Note, Protocol, Shard, Stage};

impl Protocol {
    /// 4.1: the row is the take's own answer.
    pub(super) fn taken(&mut self, row: &LeaseRow, fence: Fence, effects: &mut Vec<Effect>) {
        let lease = row.key.clone();
        if let Some(old) = self.shards.get(&lease).map(|shard| shard.fence.tenure) {
            self.lost(&lease, old, effects); // taken again without word of the loss: the old state dies with it (I9)
        }
        let (tenure, checkpoint) = (fence.tenure, row.checkpoint.clone());
        let position = row.destinations.get(&self.destination);
        let (at, arrival) =
            position.map_or((checkpoint.clone(), None), |position| (position.at.clone(), position.arrival));
        let shard = Shard { fence, at, arrival, previous: None, owed: None, checkpoint, stage: Stage::Ready };
        self.shards.insert(lease.clone(), shard);
        let Some(position) = position else {
            return self.give_up(&lease, format!("the row has no sp_{}", self.destination), effects);
        };
        match &position.pending {
            None => {
                if row.owner_switches > 1 {
                    effects.push(Effect::Note(Note::FoundNothing));
                }
                self.begin(&lease, effects);
            }
            Some(pending) => match pending.mode {
                PendingMode::Staged => self.found(lease, tenure, pending.cid, effects),
                PendingMode::Declared => self.found_declared(&lease, pending, effects),
                PendingMode::Unknown => {
                    self.give_up(
                        &lease,
                        "a commit of a form that this version does not know is pending".into(),
                        effects,
                    );
                }
            },
        }
    }

    /// 4.3: whether all of it arrived is not known, so it is sent again, as a whole and under its id. Not what a Java worker
    /// has done meanwhile; what it has done of it only in part is sent again too.
    fn found_declared(&mut self, lease: &LeaseKey, pending: &Pending, effects: &mut Vec<Effect>) {
        let Some(shard) = self.shards.get_mut(lease) else { return };
        if shard.checkpoint >= pending.to {
            let at = (shard.at.clone(), shard.arrival);
            return self.settle_found(lease, pending.cid, at, effects);
        }
        shard.owed = Some((pending.cid, pending.to.clone()));
        effects.push(Effect::Note(Note::FoundDeclared));
        self.rewind(lease, effects);
    }

    /// 4.4: read the receipt. Several leases of one lane share the recovery of their commit; a lease that comes back
    /// while our own attempt is still under way joins that.
    fn found(&mut self, lease: LeaseKey, tenure: Tenure, cid: CommitId, effects: &mut Vec<Effect>) {
        if let Some(shard) = self.shards.get_mut(&lease) {
            shard.stage = Stage::Recovering(cid);
        }
        if !self.attempts.contains_key(&cid) {
            let run = self.next_run();
            self.attempts.insert(cid, Attempt::found(run));
            effects.push(Effect::ReadReceipt { cid, run });
        }
        if let Some(attempt) = self.attempts.get_mut(&cid) {
            attempt.join(lease, tenure);
        }
    }

    /// 4.6 and 4.7: the found commit is over; the row is told, then 4.8.
    pub(super) fn settle_found(
        &mut self,
        lease: &LeaseKey,
        cid: CommitId,
        (to, arrival): (Position, Option<Millis>),
        effects: &mut Vec<Effect>,
    ) {
        let destination = self.destination.clone();
        let Some(shard) = self.shards.get_mut(lease) else { return };
        shard.stage = Stage::Settling(cid, to.clone(), arrival);
        let finalize = Finalize { lease: lease.clone(), destination, cid, to, arrival };
        effects.push(Effect::Finalize { finalize, tenure: shard.fence.tenure });
    }

    /// 4.8: nothing is pending. A `checkpoint` past our position is a Java worker's progress: advance it first.
    pub(super) fn begin(&mut self, lease: &LeaseKey, effects: &mut Vec<Effect>) {
        let destination = self.destination.clone();
        let Some(shard) = self.shards.get_mut(lease) else { return };
        if shard.checkpoint > shard.at {
            shard.stage = Stage::Adopting;
            effects.push(Effect::Advance(Advance {
                fence: shard.fence.clone(),
                destination,
                from: shard.at.clone(),
                to: shard.checkpoint.clone(),
                arrival: None,
            }));
        } else {
            self.rewind(lease, effects);
        }
    }

    /// The answer to an [`Effect::Advance`]; of a batch, or of a Java worker's progress.
    pub(super) fn advanced(
        &mut self,
        lease: &LeaseKey,
        tenure: Tenure,
        position: Option<Position>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(shard) = self.shard(lease, tenure) else { return };
        match (&shard.stage, position) {
            (Stage::Busy(cid), position) => {
                let cid = *cid;
                self.batch_advanced(cid, lease, position.is_some(), effects);
            }
            (Stage::Adopting, Some(position)) => {
                (shard.at, shard.arrival) = (position, None);
                effects.push(Effect::Note(Note::Adopted));
                self.settle(lease, effects);
                self.rewind(lease, effects);
            }
            (Stage::Adopting, None) => self.walk_away(lease, "its adopting write was refused", effects),
            _ => {}
        }
    }

    /// Hands off: release, alarm, and leave the row for a human (I13).
    pub(super) fn give_up(&mut self, lease: &LeaseKey, why: String, effects: &mut Vec<Effect>) {
        if let Some(shard) = self.shards.get_mut(lease) {
            shard.stage = Stage::HandsOff;
            effects.push(Effect::HandsOff { lease: lease.clone(), tenure: shard.fence.tenure, why });
        }
    }
}
