//! The services that the workers talk to: lease rows, receipts, uploads, and requests still on their way. Rows change
//! by the REAL writes of `standpipe_flow::write` alone (but for a Java worker's); what each change may do to a row and
//! to a receipt is checked here, at the instant it happens.

use std::hash::{Hash, Hasher};
use std::rc::Rc;

use standpipe_flow::write::{self, RowWrite};
use standpipe_flow::{
    Advance, Commit, CommitId, Declare, DestinationId, DestinationPosition, Fence, Finalize, LeaseKey, LeaseRow,
    PendingMode, Position, Receipt, ReceiptState,
};

use crate::scene::{Budget, DESTINATIONS, OUTPUTS, RECORDS, SHARDS, Scene, WORKERS, cid_index};
use crate::shared::{Shared, hash_unordered};
use crate::worker::Worker;

/// No position yet.
pub(crate) const NEVER: u8 = 255;
/// `leaseCounter` of every row between two steps: only its equality with what a holder remembers matters.
pub(crate) const COUNTER: u64 = 2;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Upload {
    Unmade,
    Open,
    Visible,
    Gone,
}

/// Everything that the services know of one commit.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub receipt: Option<Rc<Receipt>>,
    pub uploads: [Upload; OUTPUTS],
    /// One of ours threw its outputs away.
    pub discarded: bool,
    /// Its maker has asked for the transaction before.
    pub sent: bool,
    /// Nobody can ever come back to it.
    pub over: bool,
    /// A row carries it, or has carried it, as what is about to be sent.
    pub declared: bool,
    /// The records of each shard that it was cut for: those between.
    pub ranges: [(u8, u8); SHARDS],
}

impl Entry {
    pub(crate) const NEW: Self = Self {
        receipt: None,
        uploads: [Upload::Unmade; OUTPUTS],
        discarded: false,
        sent: false,
        over: false,
        declared: false,
        ranges: [(0, 0); SHARDS],
    };

    pub(crate) fn state(&self) -> Option<ReceiptState> {
        self.receipt.as_ref().map(|receipt| receipt.state)
    }

    fn set_state(&mut self, state: ReceiptState) {
        if let Some(receipt) = &mut self.receipt {
            Rc::make_mut(receipt).state = state;
        }
    }
}

impl Hash for Entry {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (self.uploads, self.discarded, self.sent, self.over, self.declared, self.ranges).hash(hasher);
        self.receipt.as_ref().map(|receipt| (receipt.state, &receipt.shards)).hash(hasher);
    }
}

/// A transaction or a receipt as part of a hashed state: its outputs are always the same.
#[derive(Clone, Debug)]
pub(crate) struct Sent(pub Rc<Commit>);

impl Sent {
    pub(crate) fn cid(&self) -> CommitId {
        self.0.receipt.cid
    }
}

impl Hash for Sent {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (self.cid(), &self.0.shards).hash(hasher);
    }
}

/// A request that left its worker and may arrive at any time, or never.
#[derive(Clone, Hash, Debug)]
pub(crate) enum Message {
    /// And how many copies of it.
    Commit(Sent, u8),
    Complete(CommitId, usize),
    Finalize(Rc<Finalize>),
    Advance(Rc<Advance>),
    Declare(Rc<Declare>),
    Done(CommitId),
    /// Of worker `w` for shard `s`; `current` while its counter is the row's.
    Heartbeat {
        w: usize,
        s: usize,
        fence: Rc<Fence>,
        position: Position,
        current: bool,
    },
}

#[derive(Clone, Default, Debug)]
pub(crate) struct Net(pub Vec<Message>);

impl Hash for Net {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(hash_unordered(&self.0));
    }
}

/// A Java worker on one shard.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Java {
    pub holds: bool,
    /// Its counter is the present one.
    pub valid: bool,
    pub position: u8,
}

/// What really happened, which nobody in the model can see.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Ghost {
    /// How often each record is visible.
    pub visible: [[[u8; RECORDS]; DESTINATIONS]; SHARDS],
    /// How many commits that are COMMITTED or DONE contain it.
    pub covered: [[[u8; RECORDS]; DESTINATIONS]; SHARDS],
    /// Where the destination began in this shard, or [`NEVER`].
    pub start: [[u8; DESTINATIONS]; SHARDS],
    /// What a Java worker has processed and checkpointed.
    pub java: [u8; SHARDS],
    /// Records, as bits, that an incident has named: they may be there twice.
    pub excused: [[u8; DESTINATIONS]; SHARDS],
    /// Under which id a declared destination got each record: of its entry, plus one.
    pub under: [[[u8; RECORDS]; DESTINATIONS]; SHARDS],
}

#[derive(Clone)]
pub(crate) struct World {
    pub rows: [Shared<Option<LeaseRow>>; SHARDS],
    pub commits: Vec<Shared<Entry>>,
    pub workers: [Shared<Worker>; WORKERS],
    pub net: Shared<Net>,
    pub java: [Java; SHARDS],
    pub left: Budget,
    pub ghost: Ghost,
    pub tenures: u8,
    /// What must not happen, and did.
    pub fault: Option<String>,
}

impl Hash for World {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (&self.rows, &self.commits, &self.workers, &self.net).hash(hasher);
        (&self.java, &self.left, &self.ghost, self.tenures).hash(hasher);
    }
}

impl World {
    pub(crate) fn new(scene: &Scene) -> Self {
        let row = |s: usize| {
            let row = LeaseRow { counter: COUNTER, ..LeaseRow::new(scene.leases[s].clone()) };
            Shared::new((s < scene.scenario.shards).then_some(row))
        };
        let worker = |slot| Shared::new(Worker::new(scene, slot, 0, scene.scenario.config));
        Self {
            rows: [row(0), row(1)],
            commits: Vec::new(),
            workers: [worker(0), worker(1)],
            net: Shared::new(Net::default()),
            java: [Java::default(); SHARDS],
            left: scene.scenario.budget,
            ghost: Ghost {
                visible: [[[0; RECORDS]; DESTINATIONS]; SHARDS],
                covered: [[[0; RECORDS]; DESTINATIONS]; SHARDS],
                start: [[NEVER; DESTINATIONS]; SHARDS],
                java: [0; SHARDS],
                excused: [[0; DESTINATIONS]; SHARDS],
                under: [[[0; RECORDS]; DESTINATIONS]; SHARDS],
            },
            tenures: 0,
            fault: None,
        }
    }

    /// Notes what must not happen; the first is kept.
    pub(crate) fn fault(&mut self, what: impl Into<String>) {
        self.fault.get_or_insert(what.into());
    }

    pub(crate) fn row(&self, s: usize) -> Option<&LeaseRow> {
        self.rows[s].get().as_ref()
    }

    pub(crate) fn entry(&self, cid: CommitId) -> &Entry {
        self.commits[cid_index(cid)].get()
    }

    pub(crate) fn entry_mut(&mut self, cid: CommitId) -> &mut Entry {
        self.commits[cid_index(cid)].edit()
    }

    /// `leaseCounter` went up: what was sent or remembered under the old one is void.
    pub(crate) fn counted(&mut self, s: usize) {
        self.java[s].valid = false;
        let of_shard = |message: &Message| matches!(message, Message::Heartbeat { s: of, .. } if *of == s);
        if self.net.get().0.iter().any(of_shard) {
            for message in &mut self.net.edit().0 {
                if let Message::Heartbeat { s: of, current, .. } = message
                    && *of == s
                {
                    *current = false;
                }
            }
        }
    }

    /// Applies a write to its row, if its conditions hold.
    pub(crate) fn write(&mut self, scene: &Scene, write: &RowWrite) -> bool {
        let s = scene.shard(&write.lease);
        let Some(old) = self.row(s) else { return false };
        let Some(new) = write.apply(old) else { return false };
        let counted = new.counter != old.counter;
        let faults = self.compare(old, &new);
        if let Some(fault) = faults {
            self.fault(fault);
        }
        self.rows[s] = Shared::new(Some(new));
        if counted {
            self.counted(s);
        }
        true
    }

    /// What one write of ours may do to a row: I8, I17, I18.
    fn compare(&self, old: &LeaseRow, new: &LeaseRow) -> Option<String> {
        if new.checkpoint < old.checkpoint {
            return Some(format!("I8: our write moves checkpoint back, {} to {}", old.checkpoint, new.checkpoint));
        }
        if new.checkpoint > old.checkpoint {
            if new.smallest_position().is_some_and(|smallest| new.checkpoint > *smallest) {
                return Some(format!("I18: checkpoint {} passes a destination of the row", new.checkpoint));
            }
            if new.counter == old.counter {
                return Some("I8: checkpoint is written without leaseCounter".into());
            }
        }
        let both = old.destinations.iter().filter_map(|(id, was)| Some((id, was, new.destinations.get(id)?)));
        both.map(|(id, was, is)| self.compare_position(id, was, is)).find(Option::is_some).flatten()
    }

    fn compare_position(
        &self,
        id: &DestinationId,
        was: &DestinationPosition,
        is: &DestinationPosition,
    ) -> Option<String> {
        if is.at < was.at {
            return Some(format!("I8: the position of {id} goes back, {} to {}", was.at, is.at));
        }
        let pending = was.pending.as_ref()?;
        if is.pending.as_ref().is_some_and(|now| now.cid == pending.cid) {
            return None;
        }
        if pending.mode == PendingMode::Declared {
            // Whether its records are there is for I1 to say; that they need not be, for `check_records`.
            let ends = is.at == pending.to || is.at == was.at;
            return (!ends).then(|| format!("I8: declared commit {} leaves the row at {}", number(pending.cid), is.at));
        }
        match self.entry(pending.cid).state() {
            Some(ReceiptState::Done) if is.at == pending.to => None,
            Some(ReceiptState::Retracted) if is.at == was.at => None,
            state => {
                Some(format!("I17: commit {} leaves the row at {} while it is {state:?}", number(pending.cid), is.at))
            }
        }
    }

    /// Whose condition fails: a shard's, or (`None`) the receipt's own.
    pub(crate) fn judge(&self, scene: &Scene, commit: &Commit) -> Vec<Option<usize>> {
        let exists = self.entry(commit.receipt.cid).receipt.is_some();
        let mut failed: Vec<Option<usize>> = exists.then_some(None).into_iter().collect();
        for write in commit.writes() {
            let s = scene.shard(&write.lease);
            if !self.row(s).is_some_and(|row| write.allowed(row)) {
                failed.push(Some(s));
            }
        }
        failed
    }

    /// The transaction takes effect; [`World::judge`] found nothing against it.
    pub(crate) fn commit(&mut self, scene: &Scene, commit: &Commit) {
        let (cid, d) = (commit.receipt.cid, scene.dest(&commit.receipt.destination));
        if self.entry(cid).discarded {
            self.fault(format!("I5: commit {} is committed, and one of us has thrown its uploads away", number(cid)));
        }
        for shard in &commit.shards {
            let s = scene.shard(&shard.fence.lease);
            let Some(row) = self.row(s) else { continue };
            let Some(position) = row.destinations.get(&commit.receipt.destination) else { continue };
            let pending = position.pending.as_ref();
            let declared = pending.filter(|pending| pending.mode == PendingMode::Declared).cloned();
            let carried = pending.map(|pending| self.entry(pending.cid).state()).filter(|_| declared.is_none());
            let reached = match &declared {
                Some(pending) if shard.from == pending.to => pending.to.clone(), // acknowledged, and finalized by this
                _ => position.reached().clone(),
            };
            let replaces = declared.as_ref().is_some_and(|pending| shard.from != pending.to);
            let cuts_short = replaces && declared.is_some_and(|pending| pending.to != shard.to);
            let holder = row.checkpoint_owner.as_ref().or(row.owner.as_ref()).cloned();
            let below = shard.from < row.checkpoint;
            if holder.as_ref() != Some(&shard.fence.owner) {
                self.fault(format!("I9: {} commits while the lease is held by {holder:?}", shard.fence.owner));
            }
            if cuts_short {
                self.fault(format!("I14: commit {} replaces a declared one of another range", number(cid)));
            }
            if below && !replaces {
                self.fault(format!("I16: commit {} starts below checkpoint", number(cid)));
            }
            if reached != shard.from {
                self.fault(format!(
                    "I2: commit {} starts at {}, the shard stands at {reached}",
                    number(cid),
                    shard.from
                ));
            }
            if carried.is_some_and(|state| state != Some(ReceiptState::Done)) {
                self.fault(format!("I7: commit {} replaces one that is not DONE", number(cid)));
            }
            self.cover(scene, (s, d), (&shard.from, &shard.to), true);
        }
        for write in commit.writes() {
            self.write(scene, &write);
        }
        self.entry_mut(cid).receipt = Some(Rc::new(commit.receipt.clone()));
    }

    fn cover(&mut self, scene: &Scene, (s, d): (usize, usize), (from, to): (&Position, &Position), on: bool) {
        for r in scene.index(from)..scene.index(to) {
            let covered = &mut self.ghost.covered[s][d][usize::from(r)];
            *covered = if on { *covered + 1 } else { covered.saturating_sub(1) };
            if *covered > 1 {
                self.fault(format!("I3: record {} of shard {s} is in two commits", r + 1));
            }
        }
    }

    /// CompleteMultipartUpload.
    pub(crate) fn complete(&mut self, scene: &Scene, cid: CommitId, output: usize) {
        if self.entry(cid).uploads[output] != Upload::Open {
            return;
        }
        self.entry_mut(cid).uploads[output] = Upload::Visible;
        let Some(receipt) = self.entry(cid).receipt.clone() else {
            return self.fault(format!("I4: commit {} becomes visible and has no receipt", number(cid)));
        };
        let d = scene.dest(&receipt.destination);
        for shard in &receipt.shards {
            let s = scene.shard(&shard.lease);
            for r in scene.index(&shard.from)..scene.index(&shard.to) {
                if scene.output_of(r) == Some(output) {
                    let visible = &mut self.ghost.visible[s][d][usize::from(r)];
                    *visible = (*visible + 1).min(2);
                }
            }
        }
    }

    /// An idempotent destination takes what it takes of a batch: again changes nothing. A declared one is sent it again under
    /// the same id, or it is a repeat that nobody can tell.
    pub(crate) fn deliver(&mut self, scene: &Scene, d: usize, cid: CommitId) {
        if scene.scenario.declared && !self.entry(cid).declared {
            self.fault(format!("I14: commit {} is sent before its range is written down", number(cid)));
        }
        for (s, (from, to)) in self.entry(cid).ranges.into_iter().enumerate() {
            for r in (from..to).filter(|r| scene.delivers(*r)) {
                self.ghost.visible[s][d][usize::from(r)] = 1;
                let before = std::mem::replace(&mut self.ghost.under[s][d][usize::from(r)], number(cid) as u8);
                let repeats = scene.scenario.declared && before != 0 && usize::from(before) != number(cid);
                if repeats && self.ghost.excused[s][d] & 1 << r == 0 {
                    self.fault(format!(
                        "DUPLICATE: record {} of shard {s} is sent as commit {before} and as commit {}",
                        r + 1,
                        number(cid)
                    ));
                }
            }
        }
    }

    /// DONE IF COMMITTED.
    pub(crate) fn done(&mut self, cid: CommitId) -> bool {
        let committed = self.entry(cid).state() == Some(ReceiptState::Committed);
        if committed {
            self.entry_mut(cid).set_state(ReceiptState::Done);
        }
        committed
    }

    /// RETRACTED IF COMMITTED, and every row that carries it goes back.
    pub(crate) fn retract(&mut self, scene: &Scene, cid: CommitId) -> bool {
        let Some(receipt) = self.entry(cid).receipt.clone() else { return false };
        if receipt.state != ReceiptState::Committed {
            return false;
        }
        self.entry_mut(cid).set_state(ReceiptState::Retracted);
        let d = scene.dest(&receipt.destination);
        for shard in &receipt.shards {
            self.cover(scene, (scene.shard(&shard.lease), d), (&shard.from, &shard.to), false);
            if scene.scenario.declared {
                // Its error objects are lost: the batch that left them is sent again, under another id.
                for r in scene.index(&shard.from)..scene.index(&shard.to) {
                    self.ghost.excused[scene.shard(&shard.lease)][d] |= 1 << r;
                }
            }
            if let Some((lease, at)) = self.carried(scene, &shard.lease, &receipt.destination, cid) {
                self.write(scene, &write::finalize(&lease, &receipt.destination, cid, (&at, None)));
            }
        }
        true
    }

    fn carried(
        &self,
        scene: &Scene,
        lease: &LeaseKey,
        id: &DestinationId,
        cid: CommitId,
    ) -> Option<(LeaseKey, Position)> {
        let position = self.row(scene.shard(lease))?.destinations.get(id)?;
        (position.pending.as_ref()?.cid == cid).then(|| (lease.clone(), position.at.clone()))
    }

    /// Whether any row carries the commit.
    pub(crate) fn pending_anywhere(&self, cid: CommitId) -> bool {
        let carries = |row: &LeaseRow| {
            row.destinations.values().filter_map(|position| position.pending.as_ref()).any(|pending| pending.cid == cid)
        };
        self.rows.iter().filter_map(|row| row.get().as_ref()).any(carries)
    }

    /// An upload is aborted.
    pub(crate) fn abort(&mut self, cid: CommitId, output: usize) {
        if self.entry(cid).uploads[output] == Upload::Open {
            self.entry_mut(cid).uploads[output] = Upload::Gone;
        }
    }
}

/// How a commit is called in traces.
pub(crate) fn number(cid: CommitId) -> usize {
    cid_index(cid) + 1
}
