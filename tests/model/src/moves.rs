//! Every step that may come next: what each worker may do, with every way in which a service may answer it.

use std::rc::Rc;

use standpipe_flow::{CommitId, Range, ReceiptState};
use standpipe_pipeline::protocol::{Answer, Event};

use crate::scene::{OUTPUTS, SHARDS, Scene, WORKERS, cid, output};
use crate::shared::Shared;
use crate::worker::{Task, Worker};
use crate::world::{Entry, Message, Upload, World, number};

/// The successors of one state, with their names if they are wanted.
pub(crate) struct Moves<'a> {
    pub scene: &'a Scene,
    pub from: &'a World,
    named: bool,
    pub found: Vec<(String, World)>,
}

impl<'a> Moves<'a> {
    /// All of them, in an order that is the same every time.
    pub(crate) fn of(scene: &'a Scene, from: &'a World, named: bool) -> Vec<(String, World)> {
        let mut moves = Self { scene, from, named, found: Vec::with_capacity(16) };
        for w in 0..WORKERS {
            moves.leases(w);
            moves.cuts(w);
            for (n, task) in from.worker(w).tasks.iter().enumerate() {
                moves.task(w, n, task);
            }
            moves.ends(w);
        }
        moves.world();
        moves.found
    }

    pub(crate) fn push(&mut self, name: impl FnOnce(&World) -> String, change: impl FnOnce(&mut World)) {
        let mut world = self.from.clone();
        change(&mut world);
        world.tidy(self.scene);
        let name = if self.named { name(&world) } else { String::new() };
        self.found.push((name, world));
    }

    fn name(&self, w: usize) -> String {
        self.scene.worker(w, self.from.worker(w).process).to_string()
    }

    /// Takes, losses, heartbeats.
    fn leases(&mut self, w: usize) {
        let (scene, from) = (self.scene, self.from);
        for s in scene.shards() {
            let Some(holding) = from.worker(w).holding(s) else {
                let first = from.tenures > 0 || w == 0;
                if from.left.takes > 0 && from.row(s).is_some() && first {
                    self.push(
                        |x| format!("{} takes shard {s} (tenure {})", self_name(scene, x, w), x.tenures),
                        |x| {
                            x.left.takes -= 1;
                            x.take(scene, w, s);
                        },
                    );
                }
                continue;
            };
            if !from.holds(w, s) {
                self.push(
                    |x| format!("{} notices that it lost shard {s}", self_name(scene, x, w)),
                    |x| x.lose(scene, w, s),
                );
            } else if from.left.deadlines > 0 {
                self.push(
                    |x| format!("{}'s deadline for shard {s} passes", self_name(scene, x, w)),
                    |x| {
                        x.left.deadlines -= 1;
                        x.lose(scene, w, s);
                    },
                );
            }
            if let Some(next) = holding.next_checkpoint() {
                self.push(
                    |x| {
                        format!(
                            "{} sends a heartbeat of shard {s} with checkpoint {next}: {}",
                            self_name(scene, x, w),
                            row(x, s)
                        )
                    },
                    |x| x.heartbeat(scene, w, s),
                );
                let sending =
                    |message: &Message| matches!(message, Message::Heartbeat(of, shard, ..) if *of == w && *shard == s);
                let current = from.row(s).is_some_and(|row| row.counter == holding.counter);
                if current && !from.net.get().0.iter().any(sending) {
                    let message = Message::Heartbeat(w, s, Rc::new(holding.fence.clone()), next.clone());
                    self.push(
                        |x| {
                            format!(
                                "{} sends a heartbeat of shard {s} with checkpoint {next}: no answer",
                                self_name(scene, x, w)
                            )
                        },
                        |x| x.net.edit().0.push(message),
                    );
                }
            }
        }
    }

    /// Every batch that may be cut.
    fn cuts(&mut self, w: usize) {
        let (scene, from) = (self.scene, self.from);
        if from.left.attempts == 0 {
            return;
        }
        for d in scene.dests() {
            for set in 1u8..1 << scene.scenario.shards {
                if set == 3 && scene.scenario.child {
                    continue;
                }
                for to in from.ends_of_cut(scene, w, d, set) {
                    self.push(
                        |x| {
                            let id = x.commits.len();
                            format!(
                                "{} cuts commit {id} at {}: {}",
                                self_name(scene, x, w),
                                scene.destinations[d],
                                ranges(scene, from, w, d, to)
                            )
                        },
                        |x| {
                            x.left.attempts -= 1;
                            let cid = x.cut(scene, w, d, to);
                            if !scene.scenario.staging {
                                x.staged(scene, (w, d), cid);
                            }
                        },
                    );
                }
            }
        }
    }

    /// Crashes and restarts.
    fn ends(&mut self, w: usize) {
        let (scene, from) = (self.scene, self.from);
        let config = from.worker(w).config;
        if from.left.crashes > 0 && !from.worker(w).idle() {
            self.push(
                |_| format!("{} crashes", scene.worker(w, from.worker(w).process)),
                |x| {
                    x.left.crashes -= 1;
                    x.restart(scene, w, config);
                },
            );
        }
        for bits in scene.scenario.configs.iter().copied().filter(|bits| *bits != config && from.left.restarts > 0) {
            self.push(
                |x| {
                    format!(
                        "{} restarts as {} with destinations {:?}",
                        scene.worker(w, from.worker(w).process),
                        self_name(scene, x, w),
                        scene.config(bits).0
                    )
                },
                |x| {
                    x.left.restarts -= 1;
                    x.restart(scene, w, bits);
                },
            );
        }
    }

    fn task(&mut self, w: usize, n: usize, task: &Task) {
        let (scene, me) = (self.scene, if self.named { self.name(w) } else { String::new() });
        match task {
            Task::Stage(d, cid) => {
                self.push(
                    |_| format!("{me} has staged commit {}", number(*cid)),
                    |x| {
                        x.finish(w, n);
                        x.staged(scene, (w, *d), *cid);
                    },
                );
                self.push(
                    |_| format!("{me} cannot stage commit {}", number(*cid)),
                    |x| {
                        x.finish(w, n);
                        x.tell(scene, w, *d, Event::Unstaged { cid: *cid });
                    },
                );
            }
            Task::Commit { .. } => self.commit(w, n, task, &me),
            Task::Read { d, cid, run } => {
                let receipt = self.from.entry(*cid).receipt.as_ref();
                let answer = Answer::Receipt(receipt.map(|receipt| Box::new((**receipt).clone())));
                let state = receipt.map_or("absent".to_owned(), |receipt| format!("{:?}", receipt.state));
                self.answered(
                    w,
                    n,
                    (*d, *cid, *run),
                    answer,
                    |_| {},
                    || format!("{me} reads the receipt of commit {}: {state}", number(*cid)),
                );
            }
            Task::Publish { .. } => self.publish(w, n, task, &me),
            Task::Done { d, cid, run } => {
                let committed = self.from.entry(*cid).state() == Some(ReceiptState::Committed);
                let answer = if committed { Answer::Done } else { Answer::Refused };
                let c = *cid;
                self.answered(
                    w,
                    n,
                    (*d, c, *run),
                    answer,
                    |x| {
                        x.done(c);
                    },
                    || format!("{me} marks commit {} DONE: {}", number(c), yes(committed)),
                );
                if committed {
                    self.push(
                        |_| format!("commit {} becomes DONE, the answer to {me} is lost", number(c)),
                        |x| {
                            x.done(c);
                        },
                    );
                    self.send(Message::Done(c), || format!("{me} sends DONE of commit {}: no answer", number(c)));
                }
            }
            Task::Soon { d, finalize, tenure } => {
                let event = Event::FinalizeDue { lease: finalize.lease.clone(), tenure: *tenure, cid: finalize.cid };
                self.push(
                    |_| format!("{me}: a second has passed since commit {} was DONE", number(finalize.cid)),
                    |x| {
                        x.finish(w, n);
                        x.tell(scene, w, *d, event);
                    },
                );
            }
            Task::Finalize { d, finalize, tenure } => {
                let s = scene.shard(&finalize.lease);
                self.push(
                    |x| format!("{me} finalizes commit {} in shard {s}: {}", number(finalize.cid), row(x, s)),
                    |x| {
                        x.finish(w, n);
                        x.write(scene, &finalize.write());
                        x.tell(
                            scene,
                            w,
                            *d,
                            Event::Finalized { lease: finalize.lease.clone(), tenure: *tenure, cid: finalize.cid },
                        );
                    },
                );
                self.send(Message::Finalize(finalize.clone()), || {
                    format!("{me} sends the finalize of commit {} in shard {s}: no answer", number(finalize.cid))
                });
            }
            Task::Retract { d, run, receipt } => {
                let (c, committed) =
                    (receipt.cid, self.from.entry(receipt.cid).state() == Some(ReceiptState::Committed));
                let answer = if committed { Answer::Retracted } else { Answer::Refused };
                self.answered(
                    w,
                    n,
                    (*d, c, *run),
                    answer,
                    |x| {
                        x.retract(scene, c);
                    },
                    || format!("{me} retracts commit {}: {}", number(c), yes(committed)),
                );
                if committed {
                    self.push(
                        |_| format!("commit {} is retracted, the answer to {me} is lost", number(c)),
                        |x| {
                            x.retract(scene, c);
                        },
                    );
                }
            }
            Task::Adopt { d, adopt } => {
                let s = scene.shard(&adopt.fence.lease);
                self.push(
                    |x| {
                        format!(
                            "{me} adopts checkpoint {} at {} in shard {s}: {}",
                            adopt.checkpoint,
                            adopt.destination,
                            row(x, s)
                        )
                    },
                    |x| {
                        x.finish(w, n);
                        x.adopt(scene, (w, *d), adopt);
                    },
                );
                self.send(Message::Adopt(adopt.clone()), || {
                    format!(
                        "{me} sends the adopting of checkpoint {} at {}: no answer",
                        adopt.checkpoint, adopt.destination
                    )
                });
            }
            Task::Answer { d, cid, run, answer } => {
                self.push(
                    |_| format!("the answer about commit {} reaches {me} late", number(*cid)),
                    |x| {
                        x.finish(w, n);
                        x.answer(scene, (w, *d), (*cid, *run), (**answer).clone());
                    },
                );
            }
        }
    }

    /// The request is carried out by `change` and answered: at once, or late.
    fn answered(
        &mut self,
        w: usize,
        n: usize,
        (d, cid, run): (usize, CommitId, u64),
        answer: Answer,
        change: impl Fn(&mut World),
        name: impl Fn() -> String,
    ) {
        let scene = self.scene;
        self.push(
            |_| name(),
            |x| {
                x.finish(w, n);
                change(x);
                x.answer(scene, (w, d), (cid, run), answer.clone());
            },
        );
        if self.from.left.late > 0 {
            self.push(
                |_| format!("{}; the answer is under way", name()),
                |x| {
                    x.left.late -= 1;
                    x.finish(w, n);
                    change(x);
                    x.workers[w].edit().tasks.push(Task::Answer { d, cid, run, answer: Rc::new(answer.clone()) });
                },
            );
        }
    }

    /// A copy leaves, the worker does not hear of it: it will send again.
    fn send(&mut self, message: Message, name: impl Fn() -> String) {
        let same = crate::shared::hash_of(&message);
        if !self.from.net.get().0.iter().any(|known| crate::shared::hash_of(known) == same) {
            self.push(|_| name(), |x| x.net.edit().0.push(message));
        }
    }

    fn commit(&mut self, w: usize, n: usize, task: &Task, me: &str) {
        let Task::Commit { d, run, commit, sent } = task else { return };
        let (scene, c) = (self.scene, commit.cid());
        let refusals = self.from.judge(scene, &commit.0);
        let exists = self.from.entry(c).receipt.is_some();
        if refusals.is_empty() {
            let transaction = commit.0.clone();
            self.answered(
                w,
                n,
                (*d, c, *run),
                Answer::Committed,
                |x| x.commit(scene, &transaction),
                || format!("{me} sends the transaction of commit {}: written", number(c)),
            );
        } else if exists {
            self.answered(
                w,
                n,
                (*d, c, *run),
                Answer::Committed,
                |_| {},
                || format!("{me} sends the transaction of commit {} again: written, says its token", number(c)),
            );
        }
        for refusal in &refusals {
            let lease = refusal.map(|s| scene.leases[s].clone());
            let now = refusal.and_then(|s| self.from.row(s)).map(|row| Box::new(row.clone()));
            let answer = Answer::CommitRefused { lease, now };
            let whose = refusal.map_or("its receipt".to_owned(), |s| format!("shard {s}"));
            self.answered(
                w,
                n,
                (*d, c, *run),
                answer.clone(),
                |_| {},
                || format!("{me} sends the transaction of commit {}: refused by {whose}", number(c)),
            );
            if self.from.left.unclear > 0 && !exists {
                self.push(|_| format!("{me} sends the transaction of commit {} twice: refused by {whose}, the second copy is on its way", number(c)), |x| {
                    x.copy(commit.clone());
                    x.finish(w, n);
                    x.answer(scene, (w, *d), (c, *run), answer.clone());
                });
            }
        }
        if self.from.left.unclear > 0 {
            self.push(
                |_| format!("{me} sends the transaction of commit {}: no answer, it is on its way", number(c)),
                |x| {
                    x.copy(commit.clone());
                    x.finish(w, n);
                    x.answer(scene, (w, *d), (c, *run), Answer::CommitUnclear);
                },
            );
        }
        let sent = *sent;
        self.push(
            |_| {
                format!(
                    "{me}'s deadline passes before it sends the transaction of commit {}{}",
                    number(c),
                    if sent { " again" } else { "" }
                )
            },
            |x| {
                x.finish(w, n);
                x.answer(scene, (w, *d), (c, *run), Answer::CommitExpired { sent });
            },
        );
    }

    fn publish(&mut self, w: usize, n: usize, task: &Task, me: &str) {
        let Task::Publish { d, run, receipt } = task else { return };
        let (scene, c, outputs) = (self.scene, receipt.cid, self.scene.scenario.outputs);
        let uploads = self.from.entry(c).uploads;
        let answer = publication(&uploads, outputs);
        let how = if answer == Answer::Published { "all is visible" } else { "an upload is gone" };
        self.answered(
            w,
            n,
            (*d, c, *run),
            answer,
            |x| (0..outputs).for_each(|o| x.complete(scene, c, o)),
            || format!("{me} publishes commit {}: {how}", number(c)),
        );
        if let Some(answer) = hasty(&uploads, outputs) {
            self.answered(
                w,
                n,
                (*d, c, *run),
                answer,
                |_| {},
                || format!("{me} publishes commit {}: an upload is gone, another is not yet tried", number(c)),
            );
        }
        for o in (0..outputs).filter(|o| uploads[*o] == Upload::Open) {
            self.push(
                |_| format!("{me} completes output {o} of commit {}, the answer is lost", number(c)),
                |x| x.complete(scene, c, o),
            );
            self.send(Message::Complete(c, o), || {
                format!("{me} sends Complete of output {o} of commit {}: no answer", number(c))
            });
        }
    }
}

/// What publishing may answer before every output was tried: one is gone, another still open.
fn hasty(uploads: &[Upload; OUTPUTS], outputs: usize) -> Option<Answer> {
    let are = |state: Upload| (0..outputs).filter(move |o| uploads[*o] == state);
    let untried = are(Upload::Open).count() > 0 && are(Upload::Gone).count() > 0;
    let published = are(Upload::Visible).count() > 0;
    untried.then(|| Answer::Gone { outputs: are(Upload::Gone).map(output).collect(), published })
}

/// What publishing answers once every output was tried.
pub(crate) fn publication(uploads: &[Upload; OUTPUTS], outputs: usize) -> Answer {
    let gone: Vec<usize> = (0..outputs).filter(|o| uploads[*o] == Upload::Gone).collect();
    if gone.is_empty() {
        return Answer::Published;
    }
    let published = gone.len() < outputs;
    Answer::Gone { outputs: gone.into_iter().map(output).collect(), published }
}

impl World {
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
        let written = self
            .write(scene, &standpipe_flow::write::heartbeat(&holding.fence.clone(), holding.counter, next.as_ref()));
        if !written && !self.holds(w, s) {
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
        self.row(0).is_none_or(|row| {
            row.checkpoint == *end
                || row.destinations.get(&scene.destinations[d]).is_some_and(|position| position.at == *end)
        })
    }

    /// Cuts a batch up to these ends (0: not of this shard).
    pub(crate) fn cut(&mut self, scene: &Scene, w: usize, d: usize, to: [u8; SHARDS]) -> CommitId {
        let cid = cid(self.commits.len());
        self.commits.push(Shared::new(Entry::NEW));
        let range = |s: usize| {
            let (fence, from, _) = self.worker(w).protocol(d)?.ready(&scene.leases[s])?;
            Some(Range { fence: fence.clone(), from: from.clone(), to: scene.position(to[s]).clone(), arrival: None })
        };
        let ranges: Vec<Range> = scene.shards().filter(|s| to[*s] > 0).filter_map(range).collect();
        if scene.scenario.staging {
            self.workers[w].edit().tasks.push(Task::Stage(d, cid));
        }
        self.tell(scene, w, d, Event::Cut { cid, ranges });
        cid
    }

    /// Takes a task off the list.
    pub(crate) fn finish(&mut self, w: usize, n: usize) -> Task {
        self.workers[w].edit().tasks.remove(n)
    }

    /// One more copy of a transaction is on its way.
    pub(crate) fn copy(&mut self, commit: crate::world::Sent) {
        self.left.unclear -= 1;
        for message in &mut self.net.edit().0 {
            if let Message::Commit(known, copies) = message
                && known.cid() == commit.cid()
            {
                *copies += 1;
                return;
            }
        }
        self.net.edit().0.push(Message::Commit(commit, 1));
    }

    /// The adopting write is answered; a refusal that shows our own write is a yes.
    pub(crate) fn adopt(&mut self, scene: &Scene, (w, d): (usize, usize), adopt: &standpipe_flow::Adopt) {
        let written = self.write(scene, &adopt.write());
        let ours = self.row(scene.shard(&adopt.fence.lease)).filter(|row| row.tenure == Some(adopt.fence.tenure));
        let at = ours.and_then(|row| row.destinations.get(&adopt.destination)).map(|position| &position.at);
        let position = (written || at == Some(&adopt.checkpoint)).then(|| adopt.checkpoint.clone());
        let (lease, tenure) = (adopt.fence.lease.clone(), adopt.fence.tenure);
        self.tell(scene, w, d, Event::Adopted { lease, tenure, position });
    }
}

fn yes(yes: bool) -> &'static str {
    if yes { "written" } else { "refused" }
}

fn self_name(scene: &Scene, x: &World, w: usize) -> String {
    let worker: &Worker = x.worker(w);
    scene.worker(w, worker.process).to_string()
}

fn ranges(scene: &Scene, from: &World, w: usize, d: usize, to: [u8; SHARDS]) -> String {
    let range = |s: usize| {
        let (_, at, _) = from.worker(w).protocol(d)?.ready(&scene.leases[s])?;
        Some(format!("shard {s} ({at}, {}]", scene.position(to[s])))
    };
    scene.shards().filter(|s| to[*s] > 0).filter_map(range).collect::<Vec<_>>().join(", ")
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
