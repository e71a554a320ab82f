//! The drain: from any state, once faults stop, one healthy worker takes every lease and finishes alone, and every
//! record is delivered exactly once. So nothing is lost, and nothing is stuck.

use standpipe_pipeline::protocol::Event;

use crate::carry::{How, row, words};
use crate::scene::{Scene, WORKERS};
use crate::shared::{Shared, Table, hash_of};
use crate::worker::{Worker, reached};
use crate::world::{World, number};

/// Steps in which a drain must be over.
const STEPS_MAX: usize = 400;

/// Who drains.
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
        let before = reached();
        let found = self.find(scene, world);
        crate::worker::REACHED.set(before);
        found
    }

    fn find(&mut self, scene: &Scene, world: &World) -> Option<(Drain, String)> {
        let store = hash_of(&(&world.rows, &world.commits, &world.net, &world.ghost));
        if self.0.insert(store)
            && let Err(wrong) = Run::new(scene, world, Drain::Newcomer, false).finish()
        {
            return Some((Drain::Newcomer, wrong));
        }
        for w in (0..WORKERS).filter(|w| !world.worker(*w).idle()) {
            let survivor = hash_of(&(store, w, &world.workers[w]));
            if self.0.insert(survivor)
                && let Err(wrong) = Run::new(scene, world, Drain::Survivor(w), false).finish()
            {
                return Some((Drain::Survivor(w), wrong));
            }
        }
        None
    }
}

/// The steps of one drain, in words.
pub(crate) fn steps(scene: &Scene, world: &World, how: Drain) -> Vec<String> {
    let mut run = Run::new(scene, world, how, true);
    let _ = run.finish();
    run.steps
}

struct Run<'a> {
    scene: &'a Scene,
    me: usize,
    x: World,
    /// Its config has every destination that is delivered to.
    complete: bool,
    named: bool,
    steps: Vec<String>,
}

impl<'a> Run<'a> {
    fn new(scene: &'a Scene, world: &World, how: Drain, named: bool) -> Self {
        let mut x = world.clone();
        let live = scene.dests().filter(|d| scene.shards().any(|s| x.live(s, *d)));
        let config = live.fold(0, |bits: u8, d| bits | 1 << d);
        let config = if config == 0 { scene.scenario.config } else { config };
        x.java = Default::default();
        for w in (0..WORKERS).filter(|w| Drain::Survivor(*w) != how) {
            let process = x.worker(w).process + 1;
            x.workers[w] = Shared::new(Worker::new(scene, w, process, config));
        }
        let me = if let Drain::Survivor(w) = how { w } else { 0 };
        let complete = x.worker(me).config == config;
        let mut run = Self { scene, me, x, complete, named, steps: Vec::new() };
        run.note(|_, me| match how {
            Drain::Newcomer => format!("everybody crashes, and faults stop; {me} is new"),
            Drain::Survivor(_) => format!("the others crash, and faults stop; {me} goes on"),
        });
        run
    }

    fn note(&mut self, name: impl FnOnce(&World, &str) -> String) {
        if self.named {
            let me = self.scene.worker(self.me, self.x.worker(self.me).process).as_str();
            self.steps.push(name(&self.x, me));
        }
    }

    /// Finishes everything alone; then what was on its way arrives.
    fn finish(&mut self) -> Result<(), String> {
        let mut left = STEPS_MAX;
        while self.step() {
            if let Some(fault) = self.x.fault.take() {
                return Err(fault);
            }
            left -= 1;
            if left == 0 {
                return Err("STUCK: the drain does not end".into());
            }
        }
        self.judge()?;
        while !self.x.net.get().0.is_empty() {
            self.note(|_, _| "what is still on its way arrives".into());
            self.x.arrive(self.scene, 0);
        }
        self.judge()
    }

    fn judge(&self) -> Result<(), String> {
        if let Some(wrong) = self.x.check(self.scene) {
            return Err(wrong);
        }
        if self.complete { self.x.all_delivered(self.scene) } else { Ok(()) }
    }

    fn step(&mut self) -> bool {
        if !self.x.worker(self.me).tasks.is_empty() {
            let before = self.x.clone();
            self.x.carry(self.scene, self.me, 0, How::AtOnce);
            if self.named {
                let task = (self.me, &before.worker(self.me).tasks[0]);
                self.steps.push(words(self.scene, task, &before, &self.x));
            }
            return true;
        }
        self.take() || self.cut() || self.finalize() || self.beat()
    }

    fn take(&mut self) -> bool {
        let (scene, me) = (self.scene, self.me);
        for s in scene.shards() {
            if self.x.worker(me).holding(s).is_some() {
                if self.x.holds(me, s) {
                    continue;
                }
                self.x.lose(scene, me, s);
            }
            if self.x.row(s).is_some() {
                self.x.take(scene, me, s);
                self.x.tidy(scene);
                self.note(|x, me| format!("{me} takes shard {s} (tenure {}): {}", x.tenures, row(x, s)));
                return true;
            }
        }
        false
    }

    fn cut(&mut self) -> bool {
        let (scene, me) = (self.scene, self.me);
        for d in scene.dests() {
            for set in 1u8..1 << scene.scenario.shards {
                if set == 3 && scene.scenario.declared {
                    continue;
                }
                if let Some(end) = self.x.ends_of_cut(scene, me, d, set).pop() {
                    let cid = self.x.cut(scene, me, d, end);
                    self.note(|_, me| {
                        format!("{me} cuts commit {}: all the rest at {}", number(cid), scene.destinations[d])
                    });
                    return true;
                }
            }
        }
        false
    }

    fn finalize(&mut self) -> bool {
        for d in self.scene.dests() {
            for s in self.scene.shards() {
                let lease = &self.scene.leases[s];
                let left = |x: &World| {
                    let protocol = x.worker(self.me).protocol(d);
                    protocol.is_some_and(|protocol| protocol.ready(lease).is_some() && !protocol.settled(lease))
                };
                if left(&self.x) {
                    self.x.tell(self.scene, self.me, d, Event::FinalizeNow { lease: lease.clone() });
                    return !self.x.worker(self.me).tasks.is_empty();
                }
            }
        }
        false
    }

    fn beat(&mut self) -> bool {
        for s in self.scene.shards() {
            if self.x.worker(self.me).holding(s).is_some_and(|holding| holding.next_checkpoint().is_some()) {
                self.x.heartbeat(self.scene, self.me, s);
                self.x.tidy(self.scene);
                self.note(|x, me| format!("{me} sends a heartbeat of shard {s}: {}", row(x, s)));
                return true;
            }
        }
        false
    }
}
