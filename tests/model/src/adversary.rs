//! What happens without any worker of ours: requests that arrive late, uploads that others abort, a foreign Java
//! worker and its leader, the sweeper. And the tidying that makes states equal which cannot be told apart.

use standpipe_flow::{LeaseRow, ReceiptState};

use crate::carry::row;
use crate::moves::Moves;
use crate::scene::{WORKERS, cid};
use crate::shared::Shared;
use crate::world::{COUNTER, Entry, Java, Message, NEVER, Upload, World, number};
use crate::{scene::Scene, worker::Task};

impl Moves<'_> {
    pub(crate) fn world(&mut self) {
        for s in self.scene.shards() {
            self.java(s);
        }
        for n in 0..self.from.net.get().0.len() {
            self.arrival(n);
        }
        for n in 0..self.from.commits.len() {
            self.uploads(n);
        }
    }

    fn arrival(&mut self, n: usize) {
        let (scene, message) = (self.scene, &self.from.net.get().0[n]);
        let shard = match message {
            Message::Finalize(finalize) => Some(scene.shard(&finalize.lease)),
            Message::Advance(advance) => Some(scene.shard(&advance.fence.lease)),
            Message::Declare(declare) => Some(scene.shard(&declare.shard.fence.lease)),
            Message::Heartbeat { s, .. } => Some(*s),
            _ => None,
        };
        let name = |x: &World| {
            let written = matches!(message, Message::Commit(commit, _) if x.entry(commit.cid()).receipt.is_some());
            let commit = if written { ": written" } else { ": refused" };
            let how = match (message, shard) {
                (Message::Commit(..), _) => commit.to_owned(),
                (_, Some(s)) => format!(": {}", row(x, s)),
                _ => String::new(),
            };
            format!("late, {} arrives{how}", message.words(scene))
        };
        self.push(name, |x| x.arrive(scene, n));
    }

    fn uploads(&mut self, n: usize) {
        let (scene, from, cid) = (self.scene, self.from, cid(n));
        let entry = from.entry(cid);
        let open: Vec<usize> = (0..scene.scenario.outputs).filter(|o| entry.uploads[*o] == Upload::Open).collect();
        if from.left.aborts > 0 && !open.is_empty() && !entry.over {
            if open.len() > 1 {
                self.push(
                    |_| format!("others abort every upload of commit {}", number(cid)),
                    |x| {
                        x.left.aborts -= 1;
                        open.iter().for_each(|o| x.abort(cid, *o));
                    },
                );
            }
            for o in &open {
                self.push(
                    |_| format!("others abort the upload of output {o} of commit {}", number(cid)),
                    |x| {
                        x.left.aborts -= 1;
                        x.abort(cid, *o);
                    },
                );
            }
        }
        let orphan = entry.state() == Some(ReceiptState::Committed) && !from.pending_anywhere(cid);
        if scene.scenario.deletes && orphan {
            self.push(
                |_| {
                    format!("the sweeper retracts commit {}, which no row carries, and aborts its uploads", number(cid))
                },
                |x| {
                    x.retract(scene, cid);
                    (0..scene.scenario.outputs).for_each(|o| x.abort(cid, o));
                },
            );
        }
    }

    fn java(&mut self, s: usize) {
        let (scene, from) = (self.scene, self.from);
        let (java, records) = (from.java[s], scene.scenario.records);
        let Some(lease) = from.row(s) else { return };
        let owner = lease.owner.as_ref() == Some(&scene.java);
        let ended = lease.ended();
        if from.left.java > 0 && !ended && !(java.holds && owner) && from.tenures > 0 {
            self.push(
                |x| {
                    format!(
                        "JAVA takes shard {s} at checkpoint {}",
                        x.row(s).map_or("-", |row| row.checkpoint.checkpoint())
                    )
                },
                |x| {
                    x.left.java -= 1;
                    x.foreign(s, |lease| {
                        lease.owner = Some(scene.java.clone());
                        lease.checkpoint_owner = None;
                    });
                    x.java[s].holds = true;
                    x.java[s].valid = true;
                    x.java[s].position = scene
                        .index(&x.row(s).map_or(standpipe_flow::Position::TrimHorizon, |row| row.checkpoint.clone()));
                },
            );
        }
        if from.left.assigns > 0 {
            self.leader(s, lease, owner && java.holds);
        }
        if !java.holds {
            return;
        }
        let parent_over = s == 0 || !scene.scenario.child || from.row(0).is_none_or(LeaseRow::ended);
        if java.valid && parent_over {
            for to in java.position + 1..=records {
                self.push(
                    |_| format!("JAVA processes shard {s} up to {} and checkpoints", scene.position(to)),
                    |x| {
                        x.foreign(s, |lease| lease.checkpoint = scene.position(to).clone());
                        x.java[s].position = to;
                        x.java[s].valid = true;
                        x.ghost.java[s] = x.ghost.java[s].max(to);
                    },
                );
            }
        }
        self.push(
            |_| format!("JAVA stops on shard {s}"),
            |x| {
                x.java[s] = Java::default();
                if owner {
                    x.foreign(s, |lease| lease.owner = None);
                } else if lease.checkpoint_owner.as_ref() == Some(&scene.java) {
                    x.foreign(s, |lease| lease.checkpoint_owner = None);
                }
            },
        );
        if scene.scenario.deletes && ended {
            self.push(
                |_| format!("JAVA deletes the lease of shard {s}, which has ended"),
                |x| {
                    x.counted(s);
                    x.rows[s] = Shared::new(None);
                    x.java[s] = Java::default();
                },
            );
        }
    }

    /// Java's leader gives its lease to one of ours, or moves one of ours to Java by KCL 3's hand-over.
    fn leader(&mut self, s: usize, lease: &LeaseRow, java: bool) {
        let (scene, from) = (self.scene, self.from);
        for w in (0..WORKERS).filter(|_| java) {
            let name = scene.worker(w, from.worker(w).process);
            self.push(
                |_| format!("JAVA's leader assigns shard {s} to {name}"),
                |x| {
                    x.left.assigns -= 1;
                    x.foreign(s, |lease| lease.owner = Some(name.clone()));
                    x.java[s] = Java::default();
                },
            );
            self.push(
                |_| format!("JAVA's leader moves shard {s} to {name}, Java may still checkpoint"),
                |x| {
                    x.left.assigns -= 1;
                    x.foreign(s, |lease| {
                        lease.owner = Some(name.clone());
                        lease.checkpoint_owner = Some(scene.java.clone());
                    });
                    x.java[s].valid = true;
                },
            );
        }
        let ours = lease.owner.clone().filter(|owner| *owner != scene.java && lease.checkpoint_owner.is_none());
        if let Some(owner) = ours {
            self.push(
                |_| format!("JAVA's leader moves shard {s} to Java, {owner} may still checkpoint"),
                |x| {
                    x.left.assigns -= 1;
                    x.foreign(s, |lease| {
                        lease.owner = Some(scene.java.clone());
                        lease.checkpoint_owner = Some(owner.clone());
                    });
                },
            );
        }
    }
}

impl World {
    /// A write of Java's: it knows nothing of our attributes, and bumps the counter.
    pub(crate) fn foreign(&mut self, s: usize, change: impl FnOnce(&mut LeaseRow)) {
        if let Some(row) = self.rows[s].edit() {
            change(row);
            row.counter += 1;
        }
        self.counted(s);
    }

    /// The `n`th message arrives.
    pub(crate) fn arrive(&mut self, scene: &Scene, n: usize) {
        let message = match &mut self.net.edit().0[n] {
            Message::Commit(commit, copies) if *copies > 1 => {
                *copies -= 1;
                Message::Commit(commit.clone(), 1)
            }
            _ => self.net.edit().0.remove(n),
        };
        match message {
            Message::Commit(commit, _) => {
                if self.judge(scene, &commit.0).is_empty() {
                    self.commit(scene, &commit.0);
                }
            }
            Message::Complete(cid, output) => self.complete(scene, cid, output),
            Message::Finalize(finalize) => {
                self.write(scene, &finalize.write());
            }
            Message::Advance(advance) => {
                self.write(scene, &advance.write());
            }
            Message::Declare(declare) => {
                if self.write(scene, &declare.write()) {
                    self.entry_mut(declare.cid).declared = true;
                }
            }
            Message::Done(cid) => {
                self.done(cid);
            }
            Message::Heartbeat { s, fence, position, current, .. } => {
                let counter = if current { self.row(s).map_or(0, |row| row.counter) } else { 0 };
                self.write(scene, &standpipe_flow::write::heartbeat(&fence, counter, Some(&position)));
            }
        }
    }

    /// Makes states equal that nobody can tell apart: counters become relative, what can never have an effect again is
    /// forgotten. Nothing here rests on a rule of the protocol, but for one of the KCL's: unless the scenario keeps them,
    /// heartbeats with an old counter are forgotten.
    pub(crate) fn tidy(&mut self, scene: &Scene) {
        for s in scene.shards() {
            self.tidy_counter(s);
        }
        self.tidy_net(scene);
        for n in 0..self.commits.len() {
            if !self.commits[n].get().over && self.forgettable(scene, n) {
                self.commits[n] = Shared::new(Entry { over: true, ..Entry::NEW });
            }
        }
    }

    fn tidy_counter(&mut self, s: usize) {
        let Some(row) = self.row(s) else { return };
        let (counter, switches) = (row.counter, row.owner_switches);
        if counter == COUNTER && switches == 0 {
            return;
        }
        if let Some(row) = self.rows[s].edit() {
            (row.counter, row.owner_switches) = (COUNTER, 0);
        }
        for w in 0..WORKERS {
            let Some(known) = self.worker(w).holding(s).map(|holding| holding.counter) else { continue };
            let relative = if known == counter { COUNTER } else { 0 };
            if known != relative
                && let Some(holding) = &mut self.workers[w].edit().held[s].edit().0
            {
                holding.counter = relative;
            }
        }
    }

    fn tidy_net(&mut self, scene: &Scene) {
        let alive = |message: &Message| match message {
            Message::Commit(commit, _) => self.entry(commit.cid()).receipt.is_none(),
            Message::Complete(cid, output) => self.entry(*cid).uploads[*output] == Upload::Open,
            Message::Finalize(finalize) => self.row(scene.shard(&finalize.lease)).is_some_and(|row| {
                let position = row.destinations.get(&finalize.destination);
                position
                    .and_then(|position| position.pending.as_ref())
                    .is_some_and(|pending| pending.cid == finalize.cid)
            }),
            Message::Done(cid) => self.entry(*cid).state() == Some(ReceiptState::Committed),
            Message::Advance(advance) => self.row(scene.shard(&advance.fence.lease)).is_some(),
            Message::Declare(declare) => self.row(scene.shard(&declare.shard.fence.lease)).is_some(),
            Message::Heartbeat { current, .. } => *current || scene.scenario.old_heartbeats,
        };
        let kept: Vec<bool> = self.net.get().0.iter().map(alive).collect();
        if kept.contains(&false) {
            let mut kept = kept.into_iter();
            self.net.edit().0.retain(|_| kept.next().unwrap_or(true));
        }
    }

    /// No row carries it, no request or answer is about it, and its end is reached.
    fn forgettable(&self, scene: &Scene, n: usize) -> bool {
        let (cid, entry) = (cid(n), self.commits[n].get());
        let open = entry.uploads.contains(&Upload::Open);
        let ended = match entry.state() {
            Some(ReceiptState::Done) => !open,
            Some(ReceiptState::Retracted) | None => true,
            Some(ReceiptState::Committed) => false,
        };
        let named = |message: &Message| match message {
            Message::Commit(commit, _) => commit.cid() == cid,
            Message::Complete(of, _) | Message::Done(of) => *of == cid,
            Message::Finalize(finalize) => finalize.cid == cid,
            Message::Declare(declare) => declare.cid == cid,
            Message::Advance(_) | Message::Heartbeat { .. } => false,
        };
        let busy = |task: &Task| task.cid() == Some(cid) && !matches!(task, Task::Soon { .. } | Task::Finalize { .. });
        let owed = |w: usize| {
            let protocols = self.worker(w).protocols.iter().flatten().map(Shared::get);
            protocols
                .flat_map(|protocol| scene.leases.iter().filter_map(|lease| protocol.owed(lease)))
                .any(|(of, _)| of == cid)
        };
        ended
            && !(0..WORKERS).any(owed)
            && !self.pending_anywhere(cid)
            && !self.net.get().0.iter().any(named)
            && !(0..WORKERS).any(|w| self.worker(w).tasks.iter().any(busy))
    }

    /// Whether the destination is delivered to in this shard by anybody.
    pub(crate) fn live(&self, s: usize, d: usize) -> bool {
        self.ghost.start[s][d] != NEVER
    }
}
