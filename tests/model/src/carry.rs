//! Carrying a worker's tasks out as the shell around the protocol does, when the service answers: the same for every
//! step of the model and for the drain. And their words.

use standpipe_flow::{Advance, CommitId, Declare, Range, ReceiptState};
use standpipe_pipeline::protocol::{Answer, Event};

use crate::requests::Asker;
use crate::scene::{OUTPUTS, SHARDS, Scene, cid, output};
use crate::shared::Shared;
use crate::worker::Task;
use crate::world::{Entry, Message, Upload, World, number};

/// When the answer arrives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum How {
    AtOnce,
    /// The request is carried out, the answer on its way while the world goes on.
    Late,
}

/// What publishing answers once every output was tried.
fn publication(uploads: &[Upload; OUTPUTS], outputs: usize) -> Answer {
    let gone: Vec<usize> = (0..outputs).filter(|o| uploads[*o] == Upload::Gone).collect();
    if gone.is_empty() {
        return Answer::Published;
    }
    let published = gone.len() < outputs;
    Answer::Gone { outputs: gone.into_iter().map(output).collect(), published }
}

impl World {
    /// Takes a task off the list.
    pub(crate) fn finish(&mut self, w: usize, n: usize) -> Task {
        self.workers[w].edit().tasks.remove(n)
    }

    /// Carries the `n`th task of a worker out; the service answers what is true.
    pub(crate) fn carry(&mut self, scene: &Scene, w: usize, n: usize, how: How) {
        match self.finish(w, n) {
            Task::Stage(d, cid) => self.staged(scene, (w, d), cid),
            Task::Declare { d, run, declare } => {
                let written = self.declare(scene, &declare);
                self.reply(scene, Asker { w, d, cid: declare.cid, run }, Answer::Declared(written), how);
            }
            Task::Commit { d, run, commit, .. } => {
                let refusals = self.judge(scene, &commit.0);
                let answer = match refusals.first() {
                    None => {
                        self.commit(scene, &commit.0);
                        Answer::Committed
                    }
                    Some(_) if self.entry(commit.cid()).receipt.is_some() => Answer::Committed,
                    Some(whose) => self.refusal(scene, *whose),
                };
                self.reply(scene, Asker { w, d, cid: commit.cid(), run }, answer, how);
            }
            Task::Read { d, cid, run } => {
                let receipt = self.entry(cid).receipt.as_ref().map(|receipt| Box::new((**receipt).clone()));
                self.reply(scene, Asker { w, d, cid, run }, Answer::Receipt(receipt), how);
            }
            Task::Publish { d, run, receipt } => {
                let outputs = scene.scenario.outputs;
                (0..outputs).for_each(|o| self.complete(scene, receipt.cid, o));
                let answer = publication(&self.entry(receipt.cid).uploads, outputs);
                self.reply(scene, Asker { w, d, cid: receipt.cid, run }, answer, how);
            }
            Task::Done { d, cid, run } => {
                let answer = if self.done(cid) { Answer::Done } else { Answer::Refused };
                self.reply(scene, Asker { w, d, cid, run }, answer, how);
            }
            Task::Retract { d, run, receipt } => {
                let answer = if self.retract(scene, receipt.cid) { Answer::Retracted } else { Answer::Refused };
                self.reply(scene, Asker { w, d, cid: receipt.cid, run }, answer, how);
            }
            Task::Soon { d, finalize, tenure } => {
                let event = Event::FinalizeDue { lease: finalize.lease.clone(), tenure, cid: finalize.cid };
                self.tell(scene, w, d, event);
            }
            Task::Finalize { d, finalize, tenure } => {
                self.write(scene, &finalize.write());
                let event = Event::Finalized { lease: finalize.lease.clone(), tenure, cid: finalize.cid };
                self.tell(scene, w, d, event);
            }
            Task::Advance { d, advance } => self.advance(scene, (w, d), &advance),
            Task::Answer { d, cid, run, answer } => {
                self.tell(scene, w, d, Event::Answer { cid, run, answer: (*answer).clone() });
            }
        }
    }

    /// The declaring write is answered; a refusal that shows our own write is a yes.
    fn declare(&mut self, scene: &Scene, declare: &Declare) -> bool {
        if self.write(scene, &declare.write()) {
            self.entry_mut(declare.cid).declared = true;
            return true;
        }
        let fence = &declare.shard.fence;
        let ours = self.row(scene.shard(&fence.lease)).filter(|row| row.tenure == Some(fence.tenure));
        let pending = ours.and_then(|row| row.destinations.get(&declare.destination)?.pending.as_ref());
        pending.is_some_and(|pending| pending.cid == declare.cid)
    }

    /// The advancing write is answered; a refusal that shows our own write is a yes.
    fn advance(&mut self, scene: &Scene, (w, d): (usize, usize), advance: &Advance) {
        let written = self.write(scene, &advance.write());
        let ours = self.row(scene.shard(&advance.fence.lease)).filter(|row| row.tenure == Some(advance.fence.tenure));
        let at = ours.and_then(|row| row.destinations.get(&advance.destination)).map(|position| &position.at);
        let position = (written || at == Some(&advance.to)).then(|| advance.to.clone());
        let (lease, tenure) = (advance.fence.lease.clone(), advance.fence.tenure);
        self.tell(scene, w, d, Event::Advanced { lease, tenure, position });
    }

    /// Whether the worker truly holds what it believes to hold.
    pub(crate) fn holds(&self, w: usize, s: usize) -> bool {
        let Some(holding) = self.worker(w).holding(s) else { return false };
        let fence = standpipe_flow::write::fence(&holding.fence);
        self.row(s).is_some_and(|row| fence.iter().all(|clause| clause.holds(row)))
    }

    /// A heartbeat that is answered. Refused by a row that is still ours: our own earlier one had arrived.
    pub(crate) fn heartbeat(&mut self, scene: &Scene, w: usize, s: usize) {
        let Some(holding) = self.worker(w).holding(s) else { return };
        let next = holding.next_checkpoint();
        let write = standpipe_flow::write::heartbeat(&holding.fence, holding.counter, next.as_ref());
        if !self.write(scene, &write) && !self.holds(w, s) {
            return self.lose(scene, w, s);
        }
        let row = self.row(s).map(|row| (row.counter, row.checkpoint.clone()));
        if let (Some(row), Some(holding)) = (row, &mut self.workers[w].edit().held[s].edit().0) {
            (holding.counter, holding.checkpoint) = row;
        }
    }

    /// The ends that a batch of these shards may be cut at: how many records from the start of each.
    pub(crate) fn ends_of_cut(&self, scene: &Scene, w: usize, d: usize, set: u8) -> Vec<[u8; SHARDS]> {
        let Some(protocol) = self.worker(w).protocol(d) else { return Vec::new() };
        let mut ends = vec![[0; SHARDS]];
        for s in scene.shards().filter(|s| set & 1 << s != 0) {
            let Some((_, at, _)) = protocol.ready(&scene.leases[s]) else { return Vec::new() };
            let at = scene.index(at);
            if let Some((_, to)) = protocol.owed(&scene.leases[s]) {
                ends.iter_mut().for_each(|end| end[s] = scene.index(to));
                continue;
            }
            if self.worker(w).holding(s).is_none() || !self.parents_over(scene, s, d) {
                return Vec::new();
            }
            let with = |end: &[u8; SHARDS]| {
                let end = *end;
                (at + 1..=scene.scenario.records).map(move |to| {
                    let mut end = end;
                    end[s] = to;
                    end
                })
            };
            ends = ends.iter().flat_map(with).collect();
        }
        ends
    }

    /// I11, which is the worker's to keep: every parent is finalized at SHARD_END for this destination.
    fn parents_over(&self, scene: &Scene, s: usize, d: usize) -> bool {
        if !scene.scenario.child || s == 0 {
            return true;
        }
        let end = scene.position(scene.scenario.records);
        let over = |position: &standpipe_flow::DestinationPosition| position.at == *end;
        self.row(0)
            .is_none_or(|row| row.checkpoint == *end || row.destinations.get(&scene.destinations[d]).is_some_and(over))
    }

    /// Cuts a batch up to these ends (0: not of this shard).
    pub(crate) fn cut(&mut self, scene: &Scene, w: usize, d: usize, to: [u8; SHARDS]) -> CommitId {
        let owed = scene.shards().filter(|s| to[*s] > 0).find_map(|s| {
            let (cid, _) = self.worker(w).protocol(d)?.owed(&scene.leases[s])?;
            Some(cid)
        });
        let cid = owed.unwrap_or_else(|| {
            self.commits.push(Shared::new(Entry::NEW));
            cid(self.commits.len() - 1)
        });
        let range = |s: usize| {
            let (fence, from, _) = self.worker(w).protocol(d)?.ready(&scene.leases[s])?;
            Some(Range { fence: fence.clone(), from: from.clone(), to: scene.position(to[s]).clone(), arrival: None })
        };
        let ranges: Vec<Range> = scene.shards().filter(|s| to[*s] > 0).filter_map(range).collect();
        for range in &ranges {
            let records = (scene.index(&range.from), scene.index(&range.to));
            let before = self.entry(cid).ranges[scene.shard(&range.fence.lease)];
            if owed.is_some() && before != records {
                self.fault(format!(
                    "I14: commit {} was declared for {before:?}, and is sent for {records:?}",
                    number(cid)
                ));
            }
            self.entry_mut(cid).ranges[scene.shard(&range.fence.lease)] = records;
        }
        self.tell(scene, w, d, Event::Cut { cid, ranges });
        cid
    }

    /// How a worker's process is called.
    pub(crate) fn name(&self, scene: &Scene, w: usize) -> String {
        scene.worker(w, self.worker(w).process).to_string()
    }
}

impl Message {
    pub(crate) fn words(&self, scene: &Scene) -> String {
        match self {
            Self::Commit(commit, _) => format!("the transaction of commit {}", number(commit.cid())),
            Self::Complete(cid, o) => format!("Complete of output {o} of commit {}", number(*cid)),
            Self::Finalize(finalize) => {
                format!("the finalize of commit {} in shard {}", number(finalize.cid), scene.shard(&finalize.lease))
            }
            Self::Advance(advance) => {
                let s = scene.shard(&advance.fence.lease);
                format!("the advance to {} at {} in shard {s}", advance.to, advance.destination)
            }
            Self::Declare(declare) => format!("the declaration of commit {}", number(declare.cid)),
            Self::Done(cid) => format!("DONE of commit {}", number(*cid)),
            Self::Heartbeat { s, fence, position, .. } => {
                format!("the heartbeat of {} in shard {s} with checkpoint {position}", fence.owner)
            }
        }
    }
}

/// A task that was carried out, in words; `from` and `x` are the states before and after.
pub(crate) fn words(scene: &Scene, (w, task): (usize, &Task), from: &World, x: &World) -> String {
    let me = from.name(scene, w);
    let was = |cid: CommitId| from.entry(cid).state();
    let if_committed = |cid: CommitId| if was(cid) == Some(ReceiptState::Committed) { "written" } else { "refused" };
    match task {
        Task::Stage(_, cid) => format!("{me} has staged commit {}", number(*cid)),
        Task::Declare { declare, .. } => {
            let s = scene.shard(&declare.shard.fence.lease);
            format!("{me} declares commit {}: {}", number(declare.cid), row(x, s))
        }
        Task::Commit { commit, .. } => {
            let c = number(commit.cid());
            let how = match (was(commit.cid()), x.entry(commit.cid()).state()) {
                (Some(_), _) => "written before, says its token",
                (None, Some(_)) => "written",
                (None, None) => "refused",
            };
            format!("{me} sends the transaction of commit {c}: {how}")
        }
        Task::Read { cid, .. } => {
            let state = was(*cid).map_or("absent".to_owned(), |state| format!("{state:?}").to_uppercase());
            format!("{me} reads the receipt of commit {}: {state}", number(*cid))
        }
        Task::Publish { receipt, .. } => {
            let gone = from.entry(receipt.cid).uploads.contains(&Upload::Gone);
            let how = if gone { "an upload is gone" } else { "all is visible" };
            format!("{me} publishes commit {}: {how}", number(receipt.cid))
        }
        Task::Done { cid, .. } => format!("{me} marks commit {} DONE: {}", number(*cid), if_committed(*cid)),
        Task::Retract { receipt, .. } => {
            format!("{me} retracts commit {}: {}", number(receipt.cid), if_committed(receipt.cid))
        }
        Task::Soon { finalize, .. } => {
            format!("{me}: a second has passed since commit {} was DONE", number(finalize.cid))
        }
        Task::Finalize { finalize, .. } => {
            let s = scene.shard(&finalize.lease);
            format!("{me} finalizes commit {} in shard {s}: {}", number(finalize.cid), row(x, s))
        }
        Task::Advance { advance, .. } => {
            let s = scene.shard(&advance.fence.lease);
            format!("{me} advances to {} at {} in shard {s}: {}", advance.to, advance.destination, row(x, s))
        }
        Task::Answer { cid, .. } => format!("the answer about commit {} reaches {me} late", number(*cid)),
    }
}

/// A row in a few words.
pub(crate) fn row(x: &World, s: usize) -> String {
    let Some(row) = x.row(s) else { return "the row is gone".into() };
    let position = |(id, position): (&standpipe_flow::DestinationId, &standpipe_flow::DestinationPosition)| {
        let pending = position.pending.as_ref().map(|p| format!(", commit {} to {}", number(p.cid), p.to));
        format!("; {id} at {}{}", position.at, pending.unwrap_or_default())
    };
    let positions: String = row.destinations.iter().map(position).collect();
    format!("[checkpoint {}{positions}]", row.checkpoint)
}
