//! Every step that may come next. Here: what each worker may do by itself.

use std::rc::Rc;

use crate::carry::row;
use crate::scene::{SHARDS, Scene, WORKERS};
use crate::world::{Message, World, number};

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

    /// Takes, losses, heartbeats.
    fn leases(&mut self, w: usize) {
        let (scene, from) = (self.scene, self.from);
        for s in scene.shards() {
            let Some(holding) = from.worker(w).holding(s) else {
                let first = from.tenures > 0 || w == 0;
                if from.left.takes > 0 && from.row(s).is_some() && first {
                    self.push(
                        |x| format!("{} takes shard {s} (tenure {})", x.name(scene, w), x.tenures),
                        |x| {
                            x.left.takes -= 1;
                            x.take(scene, w, s);
                        },
                    );
                }
                continue;
            };
            if !from.holds(w, s) {
                if from.left.takes > 0 && from.row(s).is_some() {
                    self.push(
                        |x| format!("{} takes shard {s} again, unaware that it lost it", x.name(scene, w)),
                        |x| {
                            x.left.takes -= 1;
                            x.take(scene, w, s);
                        },
                    );
                }
                self.push(|x| format!("{} notices that it lost shard {s}", x.name(scene, w)), |x| x.lose(scene, w, s));
            } else if from.left.deadlines > 0 {
                self.push(
                    |x| format!("{}'s deadline for shard {s} passes", x.name(scene, w)),
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
                            x.name(scene, w),
                            row(x, s)
                        )
                    },
                    |x| x.heartbeat(scene, w, s),
                );
                let sending = |message: &Message| matches!(message, Message::Heartbeat { w: of, s: shard, .. } if (*of, *shard) == (w, s));
                let current = from.row(s).is_some_and(|row| row.counter == holding.counter);
                if current && !from.net.get().0.iter().any(sending) {
                    let (fence, position) = (Rc::new(holding.fence.clone()), next.clone());
                    let message = Message::Heartbeat { w, s, fence, position, current: true };
                    self.push(
                        |x| {
                            format!(
                                "{} sends a heartbeat of shard {s} with checkpoint {next}: no answer",
                                x.name(scene, w)
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
                if set == 3 && (scene.scenario.child || scene.scenario.declared) {
                    continue;
                }
                for to in from.ends_of_cut(scene, w, d, set) {
                    self.push(
                        |x| {
                            let owed = from.worker(w).protocol(d).and_then(|protocol| {
                                scene
                                    .leases
                                    .iter()
                                    .filter(|lease| set & 1 << scene.shard(lease) != 0)
                                    .find_map(|lease| protocol.owed(lease))
                            });
                            let id = owed.map_or(from.commits.len() + 1, |(cid, _)| number(cid));
                            format!(
                                "{} cuts commit {id} at {}: {}",
                                x.name(scene, w),
                                scene.destinations[d],
                                ranges(scene, from, w, d, to)
                            )
                        },
                        |x| {
                            x.left.attempts -= 1;
                            x.cut(scene, w, d, to);
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
                |_| format!("{} crashes", from.name(scene, w)),
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
                        from.name(scene, w),
                        x.name(scene, w),
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
}

fn ranges(scene: &Scene, from: &World, w: usize, d: usize, to: [u8; SHARDS]) -> String {
    let range = |s: usize| {
        let (_, at, _) = from.worker(w).protocol(d)?.ready(&scene.leases[s])?;
        Some(format!("shard {s} ({at}, {}]", scene.position(to[s])))
    };
    scene.shards().filter(|s| to[*s] > 0).filter_map(range).collect::<Vec<_>>().join(", ")
}
