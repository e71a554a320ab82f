//! A worker: one REAL `Protocol` for each destination of its config, what it holds (`standpipe_flow::Holding`), and
//! the effects it has yet to carry out.

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use standpipe_flow::write::{self, Take};
use standpipe_flow::{
    Advance, CommitId, Declare, DestinationPosition, Fence, Finalize, Holding, LeaseRow, Mode, Output, Receipt,
    ReceiptState, Staged, Tenure,
};
use standpipe_pipeline::protocol::{Answer, Effect, Event, Note, Protocol, StagedBatch};

use crate::scene::{self, DESTINATIONS, SHARDS, Scene, output, output_index, tenure};
use crate::shared::{Shared, hash_unordered};
use crate::world::{Entry, NEVER, Sent, Upload, World, number};

thread_local! {
    /// Which of the recoveries were met, as bits in the order of [`KINDS`]: a model that never meets one proves nothing.
    pub(crate) static REACHED: Cell<u16> = const { Cell::new(0) };
    static IN_CORE: Cell<bool> = const { Cell::new(false) };
}

/// Whether the core is at work.
pub(crate) fn in_core() -> bool {
    IN_CORE.get()
}

/// What is counted in [`REACHED`].
pub(crate) const KINDS: [&str; 12] = [
    "found committed",
    "found done",
    "found retracted",
    "retracted",
    "recognised",
    "adopted",
    "discarded",
    "walked away",
    "incident",
    "dead while staging or refused",
    "advanced",
    "found declared",
];

pub(crate) fn reached() -> u16 {
    REACHED.get()
}

fn reach(effect: &Effect) {
    let kind = match effect {
        Effect::Note(Note::FoundCommitted) => 0,
        Effect::Note(Note::FoundDone) => 1,
        Effect::Note(Note::FoundRetracted) => 2,
        Effect::Note(Note::Retracted) => 3,
        Effect::Note(Note::Recognised) => 4,
        Effect::Note(Note::Adopted) => 5,
        Effect::Discard { .. } => 6,
        Effect::WalkAway { .. } => 7,
        Effect::Incident { .. } => 8,
        Effect::Dead { .. } => 9,
        Effect::Delivered { receipt, .. } if receipt.outputs.is_empty() => 10,
        Effect::Note(Note::FoundDeclared) => 11,
        _ => return,
    };
    REACHED.set(REACHED.get() | 1 << kind);
}

/// What a worker knows of a lease it holds.
#[derive(Clone, Debug)]
pub(crate) struct Held(pub Option<Holding>);

impl Hash for Held {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        if let Some(held) = &self.0 {
            (&held.fence, held.counter, &held.checkpoint, &held.positions, &held.off).hash(hasher);
        }
    }
}

/// An effect of a protocol that is to be carried out. The first field is the destination.
#[derive(Clone, Debug)]
pub(crate) enum Task {
    Stage(usize, CommitId),
    Declare {
        d: usize,
        run: u64,
        declare: Rc<Declare>,
    },
    Commit {
        d: usize,
        run: u64,
        commit: Sent,
        sent: bool,
    },
    Read {
        d: usize,
        cid: CommitId,
        run: u64,
    },
    Publish {
        d: usize,
        run: u64,
        receipt: Rc<Receipt>,
    },
    Done {
        d: usize,
        cid: CommitId,
        run: u64,
    },
    Soon {
        d: usize,
        finalize: Rc<Finalize>,
        tenure: Tenure,
    },
    Finalize {
        d: usize,
        finalize: Rc<Finalize>,
        tenure: Tenure,
    },
    Retract {
        d: usize,
        run: u64,
        receipt: Rc<Receipt>,
    },
    Advance {
        d: usize,
        advance: Rc<Advance>,
    },
    /// Carried out; the answer is on its way.
    Answer {
        d: usize,
        cid: CommitId,
        run: u64,
        answer: Rc<Answer>,
    },
}

impl Task {
    /// The commit it is about.
    pub(crate) fn cid(&self) -> Option<CommitId> {
        match self {
            Self::Stage(_, cid) | Self::Read { cid, .. } | Self::Done { cid, .. } | Self::Answer { cid, .. } => {
                Some(*cid)
            }
            Self::Declare { declare, .. } => Some(declare.cid),
            Self::Commit { commit, .. } => Some(commit.cid()),
            Self::Publish { receipt, .. } | Self::Retract { receipt, .. } => Some(receipt.cid),
            Self::Soon { finalize, .. } | Self::Finalize { finalize, .. } => Some(finalize.cid),
            Self::Advance { .. } => None,
        }
    }

    /// The acquisition that its answer is for, if it is not for an attempt.
    fn of_tenure(&self) -> Option<Tenure> {
        match self {
            Self::Soon { tenure, .. } | Self::Finalize { tenure, .. } => Some(*tenure),
            Self::Advance { advance, .. } => Some(advance.fence.tenure),
            _ => None,
        }
    }
}

impl Hash for Task {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        std::mem::discriminant(self).hash(hasher);
        match self {
            Self::Stage(d, cid) => (d, cid).hash(hasher),
            Self::Declare { d, run, declare } => (d, run, declare).hash(hasher),
            Self::Commit { d, run, commit, sent } => (d, run, commit, sent).hash(hasher),
            Self::Read { d, cid, run } | Self::Done { d, cid, run } => (d, cid, run).hash(hasher),
            Self::Publish { d, run, receipt } | Self::Retract { d, run, receipt } => {
                (d, run, receipt.cid, &receipt.shards).hash(hasher);
            }
            Self::Soon { d, finalize, tenure } | Self::Finalize { d, finalize, tenure } => {
                (d, finalize, tenure).hash(hasher);
            }
            Self::Advance { d, advance } => (d, advance).hash(hasher),
            Self::Answer { d, cid, run, answer } => {
                (d, cid, run).hash(hasher);
                hash_answer(answer, hasher);
            }
        }
    }
}

fn hash_answer<H: Hasher>(answer: &Answer, hasher: &mut H) {
    std::mem::discriminant(answer).hash(hasher);
    match answer {
        Answer::CommitRefused { lease, now } => (lease, now).hash(hasher),
        Answer::CommitExpired { sent } => sent.hash(hasher),
        Answer::Declared(written) => written.hash(hasher),
        Answer::Receipt(receipt) => receipt.as_ref().map(|receipt| (receipt.state, &receipt.shards)).hash(hasher),
        Answer::Gone { outputs, published } => (outputs, published).hash(hasher),
        _ => {}
    }
}

#[derive(Clone)]
pub(crate) struct Worker {
    /// Which process of its slot; a crash makes the next.
    pub process: u8,
    /// The destinations of its config, as bits.
    pub config: u8,
    pub held: [Shared<Held>; SHARDS],
    pub protocols: [Option<Shared<Protocol>>; DESTINATIONS],
    pub tasks: Vec<Task>,
}

impl Hash for Worker {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (self.process, self.config, &self.held, &self.protocols).hash(hasher);
        hasher.write_u64(hash_unordered(&self.tasks));
    }
}

impl Worker {
    pub(crate) fn new(scene: &Scene, slot: usize, process: u8, config: u8) -> Self {
        let protocol = |d: usize| {
            let me = scene.worker(slot, process).clone();
            let protocol =
                Protocol::new(me, (scene.destinations[d].clone(), scene.mode()), String::new(), String::new());
            (config & 1 << d != 0).then(|| Shared::new(protocol))
        };
        Self {
            process,
            config,
            held: [Shared::new(Held(None)), Shared::new(Held(None))],
            protocols: [protocol(0), protocol(1)],
            tasks: Vec::new(),
        }
    }

    pub(crate) fn holding(&self, s: usize) -> Option<&Holding> {
        self.held[s].get().0.as_ref()
    }

    pub(crate) fn protocol(&self, d: usize) -> Option<&Protocol> {
        self.protocols[d].as_ref().map(Shared::get)
    }

    pub(crate) fn idle(&self) -> bool {
        self.tasks.is_empty() && self.held.iter().all(|held| held.get().0.is_none())
    }
}

impl World {
    pub(crate) fn worker(&self, w: usize) -> &Worker {
        self.workers[w].get()
    }

    /// Takes a lease: one conditional write, whose answer every protocol of the worker is told.
    pub(crate) fn take(&mut self, scene: &Scene, w: usize, s: usize) {
        let Some(row) = self.row(s).cloned() else { return };
        self.tenures += 1;
        let (tenure, config, process) = (tenure(self.tenures), self.worker(w).config, self.worker(w).process);
        let me = scene.worker(w, process);
        let (destinations, retired) = scene.config(config);
        self.begin(scene, s, config, &row);
        if !self.write(scene, &write::take(&Take { row: &row, worker: me, tenure, destinations, retired })) {
            return self.fault("a take that nobody disputes was refused");
        }
        let Some(row) = self.row(s).cloned() else { return };
        let fence = Fence { lease: scene.leases[s].clone(), owner: me.clone(), tenure, generation: row.generation };
        let holding = Holding::of(&row, fence.clone(), Duration::ZERO);
        let worker = self.workers[w].edit();
        if let Some(old) = worker.held[s].get().0.as_ref().map(|holding| holding.fence.tenure) {
            worker.tasks.retain(|task| task.of_tenure() != Some(old));
        }
        worker.held[s] = Shared::new(Held(Some(holding)));
        for d in scene.dests() {
            if config & 1 << d != 0 {
                self.tell(scene, w, d, Event::Taken { row: Box::new(row.clone()), fence: fence.clone() });
            }
        }
    }

    /// Where each destination begins in this shard, for the checks.
    fn begin(&mut self, scene: &Scene, s: usize, config: u8, row: &LeaseRow) {
        for d in scene.dests() {
            let start = &mut self.ghost.start[s][d];
            if config & 1 << d != 0 && *start == NEVER {
                *start = scene.index(&row.checkpoint);
            } else if config & 1 << d == 0 && scene.scenario.retire {
                *start = NEVER;
            }
        }
    }

    /// The worker learns, or decides, that a lease is no longer its own.
    pub(crate) fn lose(&mut self, scene: &Scene, w: usize, s: usize) {
        let Some(tenure) = self.worker(w).holding(s).map(|holding| holding.fence.tenure) else { return };
        let worker = self.workers[w].edit();
        worker.held[s] = Shared::new(Held(None));
        worker.tasks.retain(|task| task.of_tenure() != Some(tenure));
        for d in scene.dests() {
            self.tell(scene, w, d, Event::Lost { lease: scene.leases[s].clone(), tenure });
        }
    }

    /// One event for one protocol, and what it asks for.
    pub(crate) fn tell(&mut self, scene: &Scene, w: usize, d: usize, event: Event) {
        let Some(protocol) = &mut self.workers[w].edit().protocols[d] else { return };
        let protocol = protocol.edit();
        IN_CORE.set(true);
        let effects = catch_unwind(AssertUnwindSafe(|| protocol.step(event)));
        IN_CORE.set(false);
        match effects {
            Ok(effects) => {
                for effect in effects {
                    self.carry_out(scene, (w, d), effect);
                }
            }
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                self.fault(format!("the core panics: {}", text.unwrap_or_default()));
            }
        }
    }

    fn task(&mut self, w: usize, task: Task) {
        self.workers[w].edit().tasks.push(task);
    }

    fn carry_out(&mut self, scene: &Scene, (w, d): (usize, usize), effect: Effect) {
        reach(&effect);
        match effect {
            Effect::Stage { cid } if scene.scenario.staging => self.task(w, Task::Stage(d, cid)),
            Effect::Stage { cid } => self.staged(scene, (w, d), cid),
            Effect::Declare { run, declare } => self.task(w, Task::Declare { d, run, declare: Rc::from(declare) }),
            Effect::Commit { run, commit } => {
                let entry = self.entry_mut(commit.receipt.cid);
                let sent = std::mem::replace(&mut entry.sent, true);
                self.task(w, Task::Commit { d, run, commit: Sent(Rc::from(commit)), sent });
            }
            Effect::ReadReceipt { cid, run } => self.task(w, Task::Read { d, cid, run }),
            Effect::Publish { run, receipt } => {
                if self.entry(receipt.cid).receipt.is_none() {
                    self.fault(format!("I4: commit {} is published and has no receipt", number(receipt.cid)));
                }
                self.task(w, Task::Publish { d, run, receipt: Rc::from(receipt) });
            }
            Effect::Done { cid, run, .. } => self.task(w, Task::Done { d, cid, run }),
            Effect::FinalizeSoon { finalize, tenure } => {
                self.task(w, Task::Soon { d, finalize: Rc::new(finalize), tenure });
            }
            Effect::Finalize { finalize, tenure } => {
                self.task(w, Task::Finalize { d, finalize: Rc::new(finalize), tenure });
            }
            Effect::Retract { run, receipt } => self.task(w, Task::Retract { d, run, receipt: Rc::from(receipt) }),
            Effect::Advance(advance) => self.task(w, Task::Advance { d, advance: Rc::new(advance) }),
            Effect::Discard { cid, outputs } => self.discard(cid, &outputs),
            Effect::Settle { lease, tenure, position } => {
                self.settle(scene, (w, d), (scene.shard(&lease), tenure), position);
            }
            Effect::WalkAway { lease, tenure, .. } => {
                let s = scene.shard(&lease);
                if self.worker(w).holding(s).is_some_and(|holding| holding.fence.tenure == tenure) {
                    self.lose(scene, w, s);
                }
            }
            Effect::HandsOff { why, .. } => self.fault(format!("hands off: {why}")),
            Effect::Delivered { receipt, .. } if receipt.outputs.is_empty() => {}
            Effect::Delivered { receipt, .. } => {
                if self.entry(receipt.cid).state() != Some(ReceiptState::Done) {
                    self.fault(format!("commit {} is said to be delivered and is not DONE", number(receipt.cid)));
                }
            }
            Effect::Incident { receipt, lost } => self.excuse(scene, &receipt, &lost),
            Effect::Read { .. } | Effect::Dead { .. } | Effect::Note(_) => {}
        }
    }

    fn discard(&mut self, cid: CommitId, outputs: &[Output]) {
        if matches!(self.entry(cid).state(), Some(ReceiptState::Committed | ReceiptState::Done)) {
            self.fault(format!("I5: the uploads of commit {}, which is committed, are thrown away", number(cid)));
        }
        self.entry_mut(cid).discarded = true;
        for output in outputs {
            self.abort(cid, output_index(output));
        }
    }

    fn settle(&mut self, scene: &Scene, (w, d): (usize, usize), held: (usize, Tenure), position: DestinationPosition) {
        let (s, tenure) = held;
        let worker = self.workers[w].edit();
        if position.pending.is_some() {
            // A commit was written over the one before it: nothing of that is left to finalize.
            let lease = &scene.leases[s];
            worker.tasks.retain(|task| match task {
                Task::Soon { d: of, finalize, .. } | Task::Finalize { d: of, finalize, .. } => {
                    *of != d || finalize.lease != *lease
                }
                _ => true,
            });
        }
        if worker.holding(s).is_some_and(|holding| holding.fence.tenure == tenure)
            && let Some(holding) = &mut worker.held[s].edit().0
        {
            holding.positions.insert(scene.destinations[d].clone(), position);
        }
    }

    /// An incident names the outputs of a commit that may be visible though it is taken back.
    fn excuse(&mut self, scene: &Scene, receipt: &Receipt, lost: &[Output]) {
        let d = scene.dest(&receipt.destination);
        for shard in &receipt.shards {
            for r in scene.index(&shard.from)..scene.index(&shard.to) {
                if !lost.iter().any(|output| Some(output_index(output)) == scene.output_of(r)) {
                    self.ghost.excused[scene.shard(&shard.lease)][d] |= 1 << r;
                }
            }
        }
    }

    /// The batch is durable and invisible; an idempotent destination has what it takes of it.
    pub(crate) fn staged(&mut self, scene: &Scene, (w, d): (usize, usize), cid: CommitId) {
        self.deliver(scene, d, cid);
        let delivered = scene.mode() != Mode::Staged;
        let refused = self.entry(cid).ranges.iter().any(|(from, to)| (*from..*to).any(|r| !scene.delivers(r)));
        let outputs: Vec<Output> = (0..scene.scenario.outputs).filter(|_| refused).map(output).collect();
        // What a declared batch leaves is staged under another id than the one that was sent.
        let mut of = cid;
        if scene.scenario.declared && !outputs.is_empty() {
            of = scene::cid(self.commits.len());
            let ranges = self.entry(cid).ranges;
            self.commits.push(Shared::new(Entry { ranges, ..Entry::NEW }));
        }
        for n in 0..outputs.len() {
            self.entry_mut(of).uploads[n] = Upload::Open;
        }
        let staged = Staged { outputs, ..Staged::default() };
        let batch = Box::new(StagedBatch { staged, records: 1, delivered, cid: of });
        self.tell(scene, w, d, Event::Staged { cid, staged: batch });
    }

    /// A crash, or a restart with another config: a new process.
    pub(crate) fn restart(&mut self, scene: &Scene, w: usize, config: u8) {
        let process = self.worker(w).process + 1;
        self.workers[w] = Shared::new(Worker::new(scene, w, process, config));
    }
}
