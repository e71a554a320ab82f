//! Every way in which a service may answer what a worker asks of it, or not answer at all.

use std::rc::Rc;

use standpipe_flow::{CommitId, Mode, ReceiptState};
use standpipe_pipeline::protocol::{Answer, Event};

use crate::carry::{How, words};
use crate::moves::Moves;
use crate::scene::{OUTPUTS, Scene, output};
use crate::shared::hash_of;
use crate::worker::Task;
use crate::world::{Message, Upload, World, number};

/// Whose attempt asked.
#[derive(Clone, Copy)]
pub(crate) struct Asker {
    pub w: usize,
    pub d: usize,
    pub cid: CommitId,
    pub run: u64,
}

impl Moves<'_> {
    /// What may become of the `n`th task of a worker.
    pub(crate) fn task(&mut self, w: usize, n: usize, task: &Task) {
        let scene = self.scene;
        match task {
            Task::Stage(d, cid) => {
                self.carried(w, n, How::AtOnce);
                self.push(
                    |x| format!("{} cannot stage commit {}", x.name(scene, w), number(*cid)),
                    |x| {
                        x.finish(w, n);
                        x.tell(scene, w, *d, Event::Unstaged { cid: *cid });
                    },
                );
                if scene.mode() != Mode::Staged {
                    let name =
                        |x: &World| format!("{} has delivered commit {}, unheard", x.name(scene, w), number(*cid));
                    self.push(name, |x| x.deliver(scene, *d, *cid));
                }
            }
            Task::Declare { d, run, declare } => {
                self.answered(w, n);
                self.send(w, Message::Declare(declare.clone()));
                let asker = Asker { w, d: *d, cid: declare.cid, run: *run };
                let name = |x: &World| {
                    format!("{}'s deadline passes before commit {} is declared", x.name(scene, w), number(asker.cid))
                };
                self.push(name, |x| {
                    x.finish(w, n);
                    x.reply(scene, asker, Answer::Declared(false), How::AtOnce);
                });
            }
            Task::Commit { .. } => self.commit(w, n, task),
            Task::Publish { .. } => self.publish(w, n, task),
            Task::Read { .. } | Task::Done { .. } | Task::Retract { .. } => {
                self.answered(w, n);
                self.unanswered(w, task);
            }
            Task::Soon { .. } | Task::Answer { .. } => self.carried(w, n, How::AtOnce),
            Task::Finalize { finalize, .. } => {
                self.carried(w, n, How::AtOnce);
                self.send(w, Message::Finalize(finalize.clone()));
            }
            Task::Advance { advance, .. } => {
                self.carried(w, n, How::AtOnce);
                self.send(w, Message::Advance(advance.clone()));
            }
        }
    }

    fn carried(&mut self, w: usize, n: usize, how: How) {
        let (scene, from) = (self.scene, self.from);
        let task = &from.worker(w).tasks[n];
        let late = if how == How::Late { "; the answer is under way" } else { "" };
        self.push(|x| format!("{}{late}", words(scene, (w, task), from, x)), |x| x.carry(scene, w, n, how));
    }

    /// Carried out and answered: at once, or late.
    fn answered(&mut self, w: usize, n: usize) {
        self.carried(w, n, How::AtOnce);
        if self.from.left.late > 0 {
            self.carried(w, n, How::Late);
        }
    }

    /// Written, and the worker does not hear of it: it will ask again.
    fn unanswered(&mut self, w: usize, task: &Task) {
        let scene = self.scene;
        let committed = |x: &World| task.cid().is_some_and(|cid| x.entry(cid).state() == Some(ReceiptState::Committed));
        match task {
            Task::Done { cid, .. } if committed(self.from) => {
                let name = |x: &World| {
                    format!("commit {} becomes DONE, {} does not hear of it", number(*cid), x.name(scene, w))
                };
                self.push(name, |x| {
                    x.done(*cid);
                });
                self.send(w, Message::Done(*cid));
            }
            Task::Retract { receipt, .. } if committed(self.from) => {
                let cid = receipt.cid;
                let name = |x: &World| {
                    format!("commit {} is retracted, {} does not hear of it", number(cid), x.name(scene, w))
                };
                self.push(name, |x| {
                    x.retract(scene, cid);
                });
            }
            _ => {}
        }
    }

    /// A copy leaves, the worker does not hear of it: it will send again.
    fn send(&mut self, w: usize, message: Message) {
        let (scene, same) = (self.scene, hash_of(&message));
        if !self.from.net.get().0.iter().any(|known| hash_of(known) == same) {
            let what = message.words(scene);
            let name = |x: &World| format!("{} sends {what}: no answer, it is on its way", x.name(scene, w));
            self.push(name, |x| x.net.edit().0.push(message));
        }
    }

    fn commit(&mut self, w: usize, n: usize, task: &Task) {
        let Task::Commit { d, run, commit, sent } = task else { return };
        let (scene, from, c) = (self.scene, self.from, commit.cid());
        let (asker, sent) = (Asker { w, d: *d, cid: c, run: *run }, *sent);
        let refusals = from.judge(scene, &commit.0);
        let exists = from.entry(c).receipt.is_some();
        if refusals.is_empty() || exists {
            self.answered(w, n); // the token of a transaction that was written answers yes
        }
        for refusal in refusals {
            let answer = from.refusal(scene, refusal);
            let whose = refusal.map_or("its receipt".to_owned(), |s| format!("shard {s}"));
            let name = |x: &World| {
                format!("{} sends the transaction of commit {}: refused by {whose}", x.name(scene, w), number(c))
            };
            self.push(name, |x| {
                x.finish(w, n);
                x.reply(scene, asker, answer.clone(), How::AtOnce);
            });
            if from.left.late > 0 {
                self.push(
                    |x| format!("{}; the answer is under way", name(x)),
                    |x| {
                        x.finish(w, n);
                        x.reply(scene, asker, answer.clone(), How::Late);
                    },
                );
            }
            if from.left.unclear > 0 && !exists {
                self.push(
                    |x| format!("{}; a second copy is on its way", name(x)),
                    |x| {
                        x.copy(commit.clone());
                        x.finish(w, n);
                        x.reply(scene, asker, answer.clone(), How::AtOnce);
                    },
                );
            }
        }
        if from.left.unclear > 0 {
            let name = |x: &World| {
                format!(
                    "{} sends the transaction of commit {}: no answer, it is on its way",
                    x.name(scene, w),
                    number(c)
                )
            };
            self.push(name, |x| {
                x.copy(commit.clone());
                x.finish(w, n);
                x.reply(scene, asker, Answer::CommitUnclear, How::AtOnce);
            });
        }
        let name = |x: &World| {
            let again = if sent { " again" } else { "" };
            format!(
                "{}'s deadline passes before it sends the transaction of commit {}{again}",
                x.name(scene, w),
                number(c)
            )
        };
        self.push(name, |x| {
            x.finish(w, n);
            x.reply(scene, asker, Answer::CommitExpired { sent }, How::AtOnce);
        });
    }

    fn publish(&mut self, w: usize, n: usize, task: &Task) {
        let Task::Publish { d, run, receipt } = task else { return };
        let (scene, c, outputs) = (self.scene, receipt.cid, self.scene.scenario.outputs);
        let uploads = self.from.entry(c).uploads;
        self.answered(w, n);
        if let Some(answer) = hasty(&uploads, outputs) {
            let name = |x: &World| {
                let me = x.name(scene, w);
                format!("{me} publishes commit {}: an upload is gone, another is not yet tried", number(c))
            };
            self.push(name, |x| {
                x.finish(w, n);
                x.reply(scene, Asker { w, d: *d, cid: c, run: *run }, answer, How::AtOnce);
            });
        }
        for o in (0..outputs).filter(|o| uploads[*o] == Upload::Open) {
            let name = |x: &World| {
                format!("{} completes output {o} of commit {}, and does not hear of it", x.name(scene, w), number(c))
            };
            self.push(name, |x| x.complete(scene, c, o));
            self.send(w, Message::Complete(c, o));
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

impl World {
    /// How a refused transaction is answered: with the row as it is.
    pub(crate) fn refusal(&self, scene: &Scene, whose: Option<usize>) -> Answer {
        Answer::CommitRefused {
            lease: whose.map(|s| scene.leases[s].clone()),
            now: whose.and_then(|s| self.row(s)).map(|row| Box::new(row.clone())),
        }
    }

    /// One more copy of a transaction is on its way.
    fn copy(&mut self, commit: crate::world::Sent) {
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

    /// An answer to an attempt: at once, or on its way.
    pub(crate) fn reply(&mut self, scene: &Scene, asker: Asker, answer: Answer, how: How) {
        let Asker { w, d, cid, run } = asker;
        match how {
            How::AtOnce => self.tell(scene, w, d, Event::Answer { cid, run, answer }),
            How::Late => {
                self.left.late -= 1;
                self.workers[w].edit().tasks.push(Task::Answer { d, cid, run, answer: Rc::new(answer) });
            }
        }
    }
}
