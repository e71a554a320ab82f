//! One attempt to deliver one batch, from the cut to DONE (protocol 2 and 3).

use std::collections::BTreeMap;

use standpipe_flow::{
    Advance, Commit, CommitId, CommitShard, Declare, DestinationPosition, LeaseKey, LeaseRow, Millis, Mode, Output,
    Pending, PendingMode, Position, Range, Receipt, ReceiptShard, ReceiptState, Tenure,
};

use super::event::StagedBatch;
use super::{Answer, Effect, Note, Protocol, Stage, pending_cid};

/// An attempt of ours, or a commit that a take found.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Attempt {
    run: u64,
    /// The shards whose state hangs on it, under the acquisition that they were cut or found in.
    held: BTreeMap<LeaseKey, Tenure>,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    /// The row is being told what will be sent.
    Declaring(Vec<Range>),
    Staging(Vec<Range>),
    /// Delivered, with nothing to commit: each shard's position is on its way.
    Advancing(Box<HashedReceipt>),
    Committing(Box<HashedCommit>),
    /// The receipt is being read, because of this.
    Asking(Doubt),
    Publishing(Box<HashedReceipt>),
    MarkingDone(Box<HashedReceipt>),
    Retracting(Box<HashedReceipt>),
}

/// Why the receipt is being read.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Doubt {
    /// The commit's answer was unclear.
    Unclear(Box<HashedCommit>),
    /// The commit was refused: `lease` is no longer as it was.
    Refused { commit: Box<HashedCommit>, lease: Option<LeaseKey>, stable: bool, moved: bool },
    /// A take found the commit pending.
    Found,
    /// Its receipt was not COMMITTED when we thought so: somebody else has moved it on.
    Again,
    /// Outputs cannot be found, or DONE was refused: somebody else may have finished it.
    Lost { lost: Vec<Output>, published: bool },
}

/// A receipt that can be part of a hashed state.
#[derive(Clone, PartialEq, Eq, Debug)]
struct HashedReceipt(Receipt);
/// A commit that can be part of a hashed state.
#[derive(Clone, PartialEq, Eq, Debug)]
struct HashedCommit(Commit);

impl std::hash::Hash for HashedReceipt {
    fn hash<H: std::hash::Hasher>(&self, hasher: &mut H) {
        (self.0.cid, self.0.state, &self.0.shards, &self.0.outputs).hash(hasher);
    }
}

impl std::hash::Hash for HashedCommit {
    fn hash<H: std::hash::Hasher>(&self, hasher: &mut H) {
        (self.0.receipt.cid, &self.0.shards, &self.0.receipt.outputs).hash(hasher);
    }
}

impl Attempt {
    pub(super) fn found(run: u64) -> Self {
        Self { run, held: BTreeMap::new(), phase: Phase::Asking(Doubt::Found) }
    }

    pub(super) fn join(&mut self, lease: LeaseKey, tenure: Tenure) {
        self.held.insert(lease, tenure);
    }

    /// Whether it is a batch of ours that is not yet decided: these hold memory or a reader up.
    pub(super) fn undecided(&self) -> bool {
        matches!(self.phase, Phase::Declaring(_) | Phase::Staging(_) | Phase::Advancing(_) | Phase::Committing(_))
    }

    /// Whether a commit or a declared range of this shard is, or may be, on its way.
    pub(super) fn committing(&self, lease: &LeaseKey) -> bool {
        let sent = matches!(
            self.phase,
            Phase::Declaring(_) | Phase::Committing(_) | Phase::Asking(Doubt::Unclear(_) | Doubt::Refused { .. })
        );
        sent && self.held.contains_key(lease)
    }
}

impl Protocol {
    pub(super) fn cut(&mut self, cid: CommitId, ranges: Vec<Range>, effects: &mut Vec<Effect>) {
        let run = self.next_run();
        let mut held = BTreeMap::new();
        let mut owed = false;
        for range in &ranges {
            let shard = self.shards.get_mut(&range.fence.lease).expect("a shard is cut only while it is ready");
            assert!(shard.stage == Stage::Ready && shard.fence == range.fence, "I7: one outstanding commit a shard");
            assert!(shard.at == range.from && range.from <= range.to, "I2: a range begins at the shard's position");
            if let Some((declared, to)) = &shard.owed {
                assert!(*to == range.to, "I14: a declared id is one fixed range");
                assert!(self.mode != Mode::Declared || *declared == cid, "I14: a declared range keeps its id");
                owed = true;
            } else {
                assert!(range.from >= shard.checkpoint, "I16: no commit starts below the checkpoint");
            }
            shard.stage = Stage::Busy(cid);
            held.insert(range.fence.lease.clone(), range.fence.tenure);
        }
        let declares = self.mode == Mode::Declared && !owed;
        let phase = if declares {
            let [range] = ranges.as_slice() else { panic!("I14: a declared id is one range, of one shard") };
            effects.push(Effect::Declare { run, declare: Box::new(self.declare_of(cid, range)) });
            Phase::Declaring(ranges)
        } else {
            effects.push(Effect::Stage { cid });
            Phase::Staging(ranges)
        };
        assert!(self.attempts.insert(cid, Attempt { run, held, phase }).is_none(), "a commit id is used once");
    }

    fn declare_of(&self, cid: CommitId, range: &Range) -> Declare {
        Declare { destination: self.destination.clone(), cid, shard: self.commit_shard(range) }
    }

    /// The row carries the range now, or it never will under this acquisition.
    fn declared(&mut self, cid: CommitId, ranges: Vec<Range>, written: bool, effects: &mut Vec<Effect>) {
        if !written {
            effects.push(Effect::Dead { cid, why: "its range could not be declared" });
            for lease in self.end_attempt(cid) {
                self.walk_away(&lease, "its range could not be declared", effects);
            }
            return;
        }
        for range in &ranges {
            let Some(shard) = self.shard(&range.fence.lease, range.fence.tenure) else { continue };
            (shard.previous, shard.owed) = (None, Some((cid, range.to.clone())));
            self.settle_pending(&range.fence.lease, (cid, PendingMode::Declared, &range.to), effects);
        }
        self.enter(cid, Phase::Staging(ranges));
        effects.push(Effect::Stage { cid });
    }

    pub(super) fn staged(&mut self, cid: CommitId, batch: StagedBatch, effects: &mut Vec<Effect>) {
        let Some(Attempt { phase: Phase::Staging(ranges), run, .. }) = self.attempts.get(&cid) else {
            // The attempt died while it was being staged. Its transaction was never sent, so its maker may discard it.
            effects.push(Effect::Discard { cid: batch.cid, outputs: batch.staged.outputs });
            return;
        };
        let (run, ranges) = (*run, ranges.clone());
        let delivered = batch.delivered && batch.staged.outputs.is_empty();
        let declared = self.mode == Mode::Declared;
        let commit = self.commit_of(if delivered { cid } else { batch.cid }, &ranges, batch);
        if delivered && declared {
            return self.acknowledged(commit.receipt, effects);
        }
        let cid = self.rename(cid, commit.receipt.cid);
        // A commit that the row may still carry is finalized by the next one alone.
        if delivered && commit.shards.iter().all(|shard| shard.previous.is_none()) {
            return self.advance(&ranges, commit.receipt, effects);
        }
        if let Some(attempt) = self.attempts.get_mut(&cid) {
            attempt.phase = Phase::Committing(Box::new(HashedCommit(commit.clone())));
        }
        effects.push(Effect::Commit { run, commit: Box::new(commit) });
    }

    /// One shard's part of a write that leaves something pending. A declared range gives way to the commit of its errors.
    fn commit_shard(&self, range: &Range) -> CommitShard {
        let known = self.shards.get(&range.fence.lease);
        let owed = known.and_then(|shard| shard.owed.as_ref()).map(|(cid, _)| *cid);
        CommitShard {
            fence: range.fence.clone(),
            from: range.from.clone(),
            from_arrival: known.and_then(|shard| shard.arrival),
            to: range.to.clone(),
            previous: known.and_then(|shard| shard.previous).or(owed),
        }
    }

    /// What a declared batch leaves in S3 is committed under an id of its own: the attempt goes on under that.
    fn rename(&mut self, cid: CommitId, other: CommitId) -> CommitId {
        if let Some(attempt) = (cid != other).then(|| self.attempts.remove(&cid)).flatten() {
            for lease in attempt.held.keys() {
                if let Some(shard) = self.shards.get_mut(lease).filter(|shard| shard.stage == Stage::Busy(cid)) {
                    shard.stage = Stage::Busy(other);
                }
            }
            assert!(self.attempts.insert(other, attempt).is_none(), "a commit id is used once");
        }
        other
    }

    /// Every record of a declared range was acknowledged: what DONE is to a commit.
    fn acknowledged(&mut self, receipt: Receipt, effects: &mut Vec<Effect>) {
        let cid = receipt.cid;
        for lease in self.end_attempt(cid) {
            if let Some(listed) = receipt.shards.iter().find(|listed| listed.lease == lease) {
                self.pass(&lease, cid, (listed.to.clone(), listed.arrival), effects);
            }
        }
        effects.push(Effect::Delivered { receipt: Box::new(receipt), by_us: true });
    }

    fn commit_of(&self, cid: CommitId, ranges: &[Range], batch: StagedBatch) -> Commit {
        let listed = |range: &Range| ReceiptShard {
            lease: range.fence.lease.clone(),
            from: range.from.clone(),
            to: range.to.clone(),
            tenure: range.fence.tenure,
            generation: range.fence.generation,
            arrival: range.arrival,
        };
        Commit {
            shards: ranges.iter().map(|range| self.commit_shard(range)).collect(),
            receipt: Receipt {
                gave_up: false,
                cid,
                state: ReceiptState::Committed,
                destination: self.destination.clone(),
                shards: ranges.iter().map(listed).collect(),
                bytes: batch.staged.delivered_bytes
                    + batch.staged.outputs.iter().map(|output| output.size).sum::<u64>(),
                outputs: batch.staged.outputs,
                config: self.config.clone(),
                worker: self.me.clone(),
                version: self.version.clone(),
                records: batch.records,
                created_at: batch.staged.created_at,
            },
        }
    }

    pub(super) fn unstaged(&mut self, cid: CommitId, effects: &mut Vec<Effect>) {
        if matches!(self.attempts.get(&cid), Some(Attempt { phase: Phase::Staging(_), .. })) {
            self.die(cid, "it could not be staged", effects);
        }
    }

    /// The batch is delivered and leaves nothing to commit: each shard goes on by itself. Whoever does not get that far
    /// delivers its records again, which changes nothing.
    fn advance(&mut self, ranges: &[Range], receipt: Receipt, effects: &mut Vec<Effect>) {
        for range in ranges {
            effects.push(Effect::Advance(Advance {
                fence: range.fence.clone(),
                destination: self.destination.clone(),
                from: range.from.clone(),
                to: range.to.clone(),
                arrival: range.arrival,
            }));
        }
        self.enter(receipt.cid, Phase::Advancing(Box::new(HashedReceipt(receipt))));
    }

    /// One shard of a delivered batch has advanced, or must be taken again.
    pub(super) fn batch_advanced(&mut self, cid: CommitId, lease: &LeaseKey, written: bool, effects: &mut Vec<Effect>) {
        let Some(Attempt { phase: Phase::Advancing(receipt), held, .. }) = self.attempts.get_mut(&cid) else { return };
        held.remove(lease);
        let over = held.is_empty().then(|| receipt.0.clone());
        let listed = receipt.0.shards.iter().find(|listed| listed.lease == *lease).cloned();
        if let (true, Some(listed), Some(shard)) = (written, listed, self.shards.get_mut(lease)) {
            (shard.at, shard.arrival, shard.stage) = (listed.to, listed.arrival, Stage::Ready);
            self.settle(lease, effects);
        } else {
            self.walk_away(lease, "its position could not be advanced", effects);
        }
        if let Some(receipt) = over {
            self.attempts.remove(&cid);
            effects.push(Effect::Delivered { receipt: Box::new(receipt), by_us: true });
        }
    }

    /// A shard of the attempt is gone. Before the transaction was sent the attempt dies with it.
    pub(super) fn leave_attempt(&mut self, cid: CommitId, lease: &LeaseKey, effects: &mut Vec<Effect>) {
        let Some(attempt) = self.attempts.get_mut(&cid) else { return };
        if attempt.held.remove(lease).is_none() {
            return;
        }
        match &attempt.phase {
            Phase::Declaring(_) | Phase::Staging(_) => self.die(cid, "a lease of it was lost", effects),
            Phase::Advancing(_) if attempt.held.is_empty() => {
                self.die(cid, "its leases were lost before their positions were written", effects);
            }
            _ => {}
        }
    }

    /// The attempt will never be committed: its shards rewind.
    fn die(&mut self, cid: CommitId, why: &'static str, effects: &mut Vec<Effect>) {
        effects.push(Effect::Dead { cid, why });
        for lease in self.end_attempt(cid) {
            self.rewind(&lease, effects);
        }
    }

    /// Forgets the attempt; the shards that hung on it and are still ours.
    fn end_attempt(&mut self, cid: CommitId) -> Vec<LeaseKey> {
        let Some(attempt) = self.attempts.remove(&cid) else { return Vec::new() };
        let ours = |(lease, tenure): (LeaseKey, Tenure)| self.shard(&lease, tenure).is_some().then_some(lease);
        attempt.held.into_iter().filter_map(ours).collect()
    }

    pub(super) fn answer(&mut self, cid: CommitId, run: u64, answer: Answer, effects: &mut Vec<Effect>) {
        let Some(attempt) = self.attempts.get(&cid).filter(|attempt| attempt.run == run) else { return };
        match (attempt.phase.clone(), answer) {
            (Phase::Declaring(ranges), Answer::Declared(written)) => self.declared(cid, ranges, written, effects),
            (Phase::Committing(commit), answer) => self.commit_answer(cid, *commit, answer, effects),
            (Phase::Asking(doubt), Answer::Receipt(receipt)) => {
                self.receipt_answer(cid, doubt, receipt.map(|receipt| *receipt), effects);
            }
            (Phase::Asking(_), Answer::Unreadable) => {
                for lease in self.end_attempt(cid) {
                    self.give_up(&lease, format!("the receipt of commit {cid} cannot be understood"), effects);
                }
            }
            (Phase::Publishing(receipt), Answer::Published) => {
                self.enter(cid, Phase::MarkingDone(receipt));
                effects.push(Effect::Done { cid, run, gave_up: false });
            }
            (Phase::Publishing(mut receipt), Answer::GaveUp) => {
                receipt.0.gave_up = true;
                self.enter(cid, Phase::MarkingDone(receipt));
                effects.push(Effect::Done { cid, run, gave_up: true });
            }
            (Phase::Publishing(_), Answer::Gone { outputs, published }) => {
                self.ask(cid, Doubt::Lost { lost: outputs, published }, effects);
            }
            (Phase::MarkingDone(receipt), Answer::Done) => self.done(receipt.0, true, effects),
            (Phase::MarkingDone(_) | Phase::Retracting(_), Answer::Refused) => self.ask(cid, Doubt::Again, effects),
            (Phase::Retracting(receipt), Answer::Retracted) => self.retracted(&receipt.0, true, effects),
            _ => {}
        }
    }

    fn enter(&mut self, cid: CommitId, phase: Phase) {
        if let Some(attempt) = self.attempts.get_mut(&cid) {
            attempt.phase = phase;
        }
    }

    fn ask(&mut self, cid: CommitId, doubt: Doubt, effects: &mut Vec<Effect>) {
        self.enter(cid, Phase::Asking(doubt));
        if let Some(attempt) = self.attempts.get(&cid) {
            effects.push(Effect::ReadReceipt { cid, run: attempt.run });
        }
    }

    /// Protocol 3: what the answer to a transaction proves.
    fn commit_answer(&mut self, cid: CommitId, commit: HashedCommit, answer: Answer, effects: &mut Vec<Effect>) {
        match answer {
            Answer::Committed => self.committed(commit.0.receipt, effects),
            Answer::CommitRefused { now: Some(row), .. } if pending_cid(&row, &self.destination) == Some(cid) => {
                // The transaction is all or nothing: one row that carries our id shows that an earlier copy was written.
                effects.push(Effect::Note(Note::Recognised));
                self.committed(commit.0.receipt, effects);
            }
            Answer::CommitRefused { lease, now } => {
                let (stable, moved) =
                    lease.as_ref().map_or((false, false), |lease| self.evidence(&commit.0, lease, now.as_deref()));
                self.ask(cid, Doubt::Refused { commit: Box::new(commit), lease, stable, moved }, effects);
            }
            Answer::CommitUnclear => self.ask(cid, Doubt::Unclear(Box::new(commit)), effects),
            Answer::CommitExpired { sent } => {
                if !sent {
                    effects.push(Effect::Discard { cid, outputs: commit.0.receipt.outputs });
                }
                effects.push(Effect::Dead { cid, why: "the lease's deadline has passed" });
                for lease in self.end_attempt(cid) {
                    self.walk_away(&lease, "the deadline of its lease passed before a commit", effects);
                }
            }
            _ => {}
        }
    }

    /// What a refused row proves: that no copy of the transaction can ever be written (`stable`), and that the shard's
    /// position is past the batch's beginning (`moved`).
    fn evidence(&self, commit: &Commit, lease: &LeaseKey, now: Option<&LeaseRow>) -> (bool, bool) {
        let Some(shard) = commit.shards.iter().find(|shard| shard.fence.lease == *lease) else { return (false, false) };
        // A row that is gone can only come back as a new one, without our tenure.
        let Some(row) = now else { return (true, false) };
        let touched = row.own_checkpoint.as_ref() != Some(&row.checkpoint);
        let stable = row.tenure != Some(shard.fence.tenure) || row.generation != shard.fence.generation || touched;
        let reached = row.destinations.get(&self.destination).map(DestinationPosition::reached);
        (stable, reached.is_some_and(|reached| *reached > shard.from))
    }

    fn committed(&mut self, receipt: Receipt, effects: &mut Vec<Effect>) {
        let cid = receipt.cid;
        let Some(attempt) = self.attempts.get(&cid) else { return };
        let run = attempt.run;
        for listed in &receipt.shards {
            let Some(shard) = self.shard(&listed.lease, listed.tenure).filter(|shard| shard.stage == Stage::Busy(cid))
            else {
                continue;
            };
            // The commit's own write finalized the one, or took the place of the other.
            (shard.previous, shard.owed) = (None, None);
            self.settle_pending(&listed.lease, (cid, PendingMode::Staged, &listed.to), effects);
        }
        self.publish(run, receipt, effects);
    }

    /// The row carries this now.
    fn settle_pending(
        &self,
        lease: &LeaseKey,
        (cid, mode, to): (CommitId, PendingMode, &Position),
        effects: &mut Vec<Effect>,
    ) {
        let Some(shard) = self.shards.get(lease) else { return };
        let pending = Some(Pending { to: to.clone(), cid, mode });
        let position = DestinationPosition { at: shard.at.clone(), arrival: shard.arrival, pending };
        effects.push(Effect::Settle { lease: lease.clone(), tenure: shard.fence.tenure, position });
    }

    fn publish(&mut self, run: u64, receipt: Receipt, effects: &mut Vec<Effect>) {
        self.enter(receipt.cid, Phase::Publishing(Box::new(HashedReceipt(receipt.clone()))));
        effects.push(Effect::Publish { run, receipt: Box::new(receipt) });
    }

    fn receipt_answer(&mut self, cid: CommitId, doubt: Doubt, receipt: Option<Receipt>, effects: &mut Vec<Effect>) {
        let Some(receipt) = receipt else { return self.receipt_absent(cid, doubt, effects) };
        let run = self.attempts.get(&cid).map_or(0, |attempt| attempt.run);
        if matches!(doubt, Doubt::Found) {
            effects.push(Effect::Note(match receipt.state {
                ReceiptState::Committed => Note::FoundCommitted,
                ReceiptState::Done => Note::FoundDone,
                ReceiptState::Retracted => Note::FoundRetracted,
            }));
        }
        match (receipt.state, doubt) {
            (ReceiptState::Committed, Doubt::Unclear(_) | Doubt::Refused { .. }) => {
                effects.push(Effect::Note(Note::Recognised));
                self.committed(receipt, effects);
            }
            (ReceiptState::Committed, Doubt::Found | Doubt::Again) => self.publish(run, receipt, effects),
            (ReceiptState::Committed, Doubt::Lost { lost, published }) => {
                // An output that is not lost may be visible now, or become so by a Complete that is still on its way.
                if published || lost.len() < receipt.outputs.len() {
                    effects.push(Effect::Incident { receipt: Box::new(receipt.clone()), lost });
                }
                self.enter(cid, Phase::Retracting(Box::new(HashedReceipt(receipt.clone()))));
                effects.push(Effect::Retract { run, receipt: Box::new(receipt) });
            }
            (ReceiptState::Done, _) => self.done(receipt, false, effects),
            (ReceiptState::Retracted, _) => self.retracted(&receipt, false, effects),
        }
    }

    fn receipt_absent(&mut self, cid: CommitId, doubt: Doubt, effects: &mut Vec<Effect>) {
        match doubt {
            Doubt::Unclear(commit) => {
                // Absent proves nothing: the transaction may still be on its way. Send the identical one again.
                let run = self.attempts.get(&cid).map_or(0, |attempt| attempt.run);
                effects.push(Effect::Commit { run, commit: Box::new(commit.0.clone()) });
                self.enter(cid, Phase::Committing(commit));
            }
            Doubt::Refused { commit, lease, stable, moved } => {
                effects.push(Effect::Dead { cid, why: "the commit was refused" });
                if moved {
                    // The position was read first, then the receipt: the upload is dead (protocol 3).
                    effects.push(Effect::Discard { cid, outputs: commit.0.receipt.outputs });
                }
                for held in self.end_attempt(cid) {
                    if stable && lease.as_ref() != Some(&held) {
                        self.rewind(&held, effects);
                    } else {
                        self.walk_away(&held, "a commit of it was refused", effects);
                    }
                }
            }
            Doubt::Found | Doubt::Again | Doubt::Lost { .. } => {
                for lease in self.end_attempt(cid) {
                    self.give_up(
                        &lease,
                        format!("the row carries commit {cid}, of which there is no receipt"),
                        effects,
                    );
                }
            }
        }
    }

    /// DONE: proof of publication. Shards of ours go on; what a take found is finalized at once.
    fn done(&mut self, receipt: Receipt, by_us: bool, effects: &mut Vec<Effect>) {
        let cid = receipt.cid;
        for lease in self.end_attempt(cid) {
            let Some(listed) = receipt.shards.iter().find(|listed| listed.lease == lease) else {
                self.give_up(&lease, format!("the row carries commit {cid}, whose receipt does not name it"), effects);
                continue;
            };
            self.pass(&lease, cid, (listed.to.clone(), listed.arrival), effects);
        }
        effects.push(Effect::Delivered { receipt: Box::new(receipt), by_us });
    }

    fn pass(&mut self, lease: &LeaseKey, cid: CommitId, to: (Position, Option<Millis>), effects: &mut Vec<Effect>) {
        let Some(shard) = self.shards.get_mut(lease) else { return };
        if shard.stage == Stage::Busy(cid) {
            (shard.at, shard.arrival) = to;
            (shard.stage, shard.previous, shard.owed) = (Stage::Ready, Some(cid), None);
            if let Some((finalize, tenure)) = self.finalize_of(lease) {
                effects.push(Effect::FinalizeSoon { finalize, tenure });
            }
        } else if shard.stage == Stage::Recovering(cid) {
            self.settle_found(lease, cid, to, effects);
        }
    }

    /// Taken back: the shards go on from where they were. `cleared`: the rows no longer carry it, by the same write.
    fn retracted(&mut self, receipt: &Receipt, cleared: bool, effects: &mut Vec<Effect>) {
        let cid = receipt.cid;
        if cleared {
            effects.push(Effect::Note(Note::Retracted));
        }
        for lease in self.end_attempt(cid) {
            let Some(shard) = self.shards.get_mut(&lease) else { continue };
            let back = (shard.at.clone(), shard.arrival);
            shard.stage = Stage::Recovering(cid);
            shard.previous = None;
            self.settle_found(&lease, cid, back, effects);
        }
    }
}
