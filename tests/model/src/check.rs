//! What must hold in every state, and the drain: from any state, once faults stop, one healthy worker takes every lease
//! and finishes alone, and every record is delivered exactly once.

use standpipe_flow::{LeaseRow, ReceiptState};
use standpipe_pipeline::protocol::{Answer, Event};

use crate::moves::publication;
use crate::scene::{Scene, WORKERS};
use crate::shared::{Shared, Table, hash_of};
use crate::worker::{Task, Worker};
use crate::world::{Ghost, Message, NEVER, World, number};

/// Steps in which a drain must be over.
const DRAIN_MAX: usize = 400;

impl World {
    /// The first thing that is wrong in this state.
    pub(crate) fn check(&self, scene: &Scene) -> Option<String> {
        if self.fault.is_some() {
            return self.fault.clone();
        }
        for s in scene.shards() {
            let row = self.row(s);
            if let Some(wrong) = row.and_then(|row| self.check_pending(row)) {
                return Some(wrong);
            }
            for d in scene.dests() {
                if let Some(wrong) = self.check_records(scene, row, s, d) {
                    return Some(wrong);
                }
            }
        }
        None
    }

    /// I6: a row carries a commit only while its receipt is COMMITTED or DONE.
    fn check_pending(&self, row: &LeaseRow) -> Option<String> {
        let mut pending = row.destinations.values().filter_map(|position| position.pending.as_ref());
        let bad = pending.find(|pending| {
            !matches!(self.entry(pending.cid).state(), Some(ReceiptState::Committed | ReceiptState::Done))
        })?;
        Some(format!(
            "I6: a row carries commit {}, whose receipt is {:?}",
            number(bad.cid),
            self.entry(bad.cid).state()
        ))
    }

    fn check_records(&self, scene: &Scene, row: Option<&LeaseRow>, s: usize, d: usize) -> Option<String> {
        let at =
            row.and_then(|row| row.destinations.get(&scene.destinations[d])).map(|position| scene.index(&position.at));
        let checkpoint = row.map_or(0, |row| scene.index(&row.checkpoint));
        for r in 0..scene.scenario.records {
            let (name, visible) = (&scene.destinations[d], self.ghost.visible[s][d][usize::from(r)]);
            if visible > 1 && !self.excused(s, d, r) {
                return Some(format!("DUPLICATE: record {} of shard {s} is visible twice at {name}", r + 1));
            }
            if visible > 0 && scene.scenario.child && s == 1 && self.parent_unseen(scene, d) {
                return Some(format!("I11: a child's record is visible at {name} before its parent's"));
            }
            if visible > 0 || !self.owed(s, d, r) {
                continue;
            }
            if at.is_some_and(|at| r < at) {
                return Some(format!(
                    "I1: the position of {name} in shard {s} is past record {}, which is not visible",
                    r + 1
                ));
            }
            if r < checkpoint {
                return Some(format!(
                    "I1: checkpoint of shard {s} is past record {}, which is not visible at {name}",
                    r + 1
                ));
            }
        }
        None
    }

    fn excused(&self, s: usize, d: usize, r: u8) -> bool {
        self.ghost.excused[s][d] & 1 << r != 0
    }

    /// Whether the destination is to get this record from us.
    fn owed(&self, s: usize, d: usize, r: u8) -> bool {
        self.live(s, d) && r >= self.ghost.start[s][d].max(self.ghost.java[s])
    }

    fn parent_unseen(&self, scene: &Scene, d: usize) -> bool {
        let unseen = |r: u8| self.owed(0, d, r) && self.ghost.visible[0][d][usize::from(r)] == 0;
        self.row(0).is_some() && (0..scene.scenario.records).any(unseen)
    }
}

/// How the drain begins and ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Drain {
    /// Everybody crashes; a new worker finishes; requests on their way arrive afterwards.
    Newcomer,
    /// This worker lives on with what it knows, and finishes; the others crash.
    Survivor(usize),
}

/// Which drains were already seen to end well: they depend on a part of the state only.
pub(crate) struct Drained(Table);

impl Drained {
    pub(crate) fn new() -> Self {
        Self(Table::new())
    }

    /// The first drain of this state that goes wrong.
    pub(crate) fn check(&mut self, scene: &Scene, world: &World) -> Option<(Drain, String)> {
        let store = hash_of(&(&world.rows, &world.commits, &world.net, &world.ghost));
        if self.0.insert(store)
            && let Err(wrong) = world.drain(scene, Drain::Newcomer)
        {
            return Some((Drain::Newcomer, wrong));
        }
        for w in (0..WORKERS).filter(|w| !world.worker(*w).idle()) {
            let survivor = hash_of(&(store, w, &world.workers[w]));
            if self.0.insert(survivor)
                && let Err(wrong) = world.drain(scene, Drain::Survivor(w))
            {
                return Some((Drain::Survivor(w), wrong));
            }
        }
        None
    }
}

impl World {
    fn drain(&self, scene: &Scene, how: Drain) -> Result<(), String> {
        let mut x = self.clone();
        let all = (1u8 << scene.scenario.destinations) - 1;
        let live = (0..scene.scenario.destinations).filter(|d| scene.shards().any(|s| x.live(s, *d)));
        let config = live.fold(0, |bits, d| bits | 1 << d);
        let config = if config == 0 { all & scene.scenario.config } else { config };
        x.java = Default::default();
        let me = match how {
            Drain::Newcomer => 0,
            Drain::Survivor(w) => w,
        };
        for w in 0..WORKERS {
            if Drain::Survivor(w) != how {
                // A process that never was: its slot's next name.
                let process = x.worker(w).process + 1;
                x.workers[w] = Shared::new(Worker::new(scene, w, process, config));
            }
        }
        x.finish_all(scene, me)?;
        if x.worker(me).config == config {
            x.all_delivered(scene)?;
        }
        while !x.net.get().0.is_empty() {
            // A heartbeat that is still here would be the present one; it has lost its counter by now.
            if let Some(n) = x.net.get().0.iter().position(|message| !matches!(message, Message::Heartbeat(..))) {
                x.arrive(scene, n);
            } else {
                break;
            }
        }
        if let Some(wrong) = x.check(scene) {
            return Err(wrong);
        }
        if x.worker(me).config == config { x.all_delivered(scene) } else { Ok(()) }
    }

    /// Worker `me` takes what it does not hold, and finishes everything alone; nothing fails.
    fn finish_all(&mut self, scene: &Scene, me: usize) -> Result<(), String> {
        for _ in 0..DRAIN_MAX {
            if let Some(fault) = self.fault.take() {
                return Err(fault);
            }
            if !self.worker(me).tasks.is_empty() {
                self.carry_on(scene, me);
            } else if !self.take_next(scene, me) && !self.cut_next(scene, me) && !self.beat_next(scene, me) {
                return Ok(());
            }
        }
        Err("STUCK: the drain does not end".into())
    }

    fn take_next(&mut self, scene: &Scene, me: usize) -> bool {
        for s in scene.shards() {
            if self.worker(me).holding(s).is_some() {
                if self.holds(scene, me, s) {
                    continue;
                }
                self.lose(scene, me, s);
            }
            if self.row(s).is_some() {
                self.take(scene, me, s);
                self.tidy(scene);
                return true;
            }
        }
        false
    }

    fn cut_next(&mut self, scene: &Scene, me: usize) -> bool {
        for d in scene.dests() {
            for set in 1u8..1 << scene.scenario.shards {
                if let Some(end) = self.ends_of_cut(scene, me, d, set).pop() {
                    let cid = self.cut(scene, me, d, end);
                    if !scene.scenario.staging {
                        self.staged(scene, (me, d), cid);
                    }
                    return true;
                }
            }
            for s in scene.shards() {
                let lease = &scene.leases[s];
                if self
                    .worker(me)
                    .protocol(d)
                    .is_some_and(|protocol| protocol.ready(lease).is_some() && !protocol.settled(lease))
                {
                    self.tell(scene, me, d, Event::FinalizeNow { lease: lease.clone() });
                    return !self.worker(me).tasks.is_empty();
                }
            }
        }
        false
    }

    fn beat_next(&mut self, scene: &Scene, me: usize) -> bool {
        for s in scene.shards() {
            if self.worker(me).holding(s).is_some_and(|holding| holding.next_checkpoint().is_some()) {
                self.heartbeat(scene, me, s);
                self.tidy(scene);
                return true;
            }
        }
        false
    }

    /// Carries the first task out, and everything goes well.
    fn carry_on(&mut self, scene: &Scene, me: usize) {
        match self.finish(me, 0) {
            Task::Stage(d, cid) => self.staged(scene, (me, d), cid),
            Task::Commit { d, run, commit, .. } => {
                let refused = self.judge(scene, &commit.0).first().copied();
                let answer = match refused {
                    None => {
                        self.commit(scene, &commit.0);
                        Answer::Committed
                    }
                    Some(refusal) => Answer::CommitRefused {
                        lease: refusal.map(|s| scene.leases[s].clone()),
                        now: refusal.and_then(|s| self.row(s)).map(|row| Box::new(row.clone())),
                    },
                };
                self.answer(scene, (me, d), (commit.cid(), run), answer);
            }
            Task::Read { d, cid, run } => {
                let receipt = self.entry(cid).receipt.as_ref().map(|receipt| Box::new((**receipt).clone()));
                self.answer(scene, (me, d), (cid, run), Answer::Receipt(receipt));
            }
            Task::Publish { d, run, receipt } => {
                let outputs = scene.scenario.outputs;
                (0..outputs).for_each(|o| self.complete(scene, receipt.cid, o));
                let answer = publication(&self.entry(receipt.cid).uploads, outputs);
                self.answer(scene, (me, d), (receipt.cid, run), answer);
            }
            Task::Done { d, cid, run } => {
                let answer = if self.done(cid) { Answer::Done } else { Answer::Refused };
                self.answer(scene, (me, d), (cid, run), answer);
            }
            Task::Soon { d, finalize, tenure } => {
                let event = Event::FinalizeDue { lease: finalize.lease.clone(), tenure, cid: finalize.cid };
                self.tell(scene, me, d, event);
            }
            Task::Finalize { d, finalize, tenure } => {
                self.write(scene, &finalize.write());
                self.tell(scene, me, d, Event::Finalized { lease: finalize.lease.clone(), tenure, cid: finalize.cid });
            }
            Task::Retract { d, run, receipt } => {
                let answer = if self.retract(scene, receipt.cid) { Answer::Retracted } else { Answer::Refused };
                self.answer(scene, (me, d), (receipt.cid, run), answer);
            }
            Task::Adopt { d, adopt } => self.adopt(scene, (me, d), &adopt),
            Task::Answer { d, cid, run, answer } => self.answer(scene, (me, d), (cid, run), (*answer).clone()),
        }
    }

    /// Everything was delivered, once.
    fn all_delivered(&self, scene: &Scene) -> Result<(), String> {
        let Ghost { visible, start, .. } = &self.ghost;
        for s in scene.shards() {
            let Some(row) = self.row(s) else { continue };
            for d in scene.dests().filter(|d| start[s][*d] != NEVER) {
                let name = &scene.destinations[d];
                for r in 0..scene.scenario.records {
                    match visible[s][d][usize::from(r)] {
                        0 if self.owed(s, d, r) => {
                            return Err(format!("LOST: record {} of shard {s} never reaches {name}", r + 1));
                        }
                        2 if !self.excused(s, d, r) => {
                            return Err(format!("DUPLICATE: record {} of shard {s} is visible twice at {name}", r + 1));
                        }
                        _ => {}
                    }
                }
            }
            if !row.ended() {
                return Err(format!("STUCK: checkpoint of shard {s} stays at {}", row.checkpoint));
            }
        }
        Ok(())
    }
}
