//! Exploring a scenario: breadth first over every state, or along random walks.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::drain::{self, Drain, Drained};
use crate::moves::Moves;
use crate::scene::{Budget, Scenario, Scene};
use crate::shared::{Table, hash_of};
use crate::world::World;

/// A violation and the steps that lead to it.
pub(crate) struct Violation {
    pub what: String,
    pub steps: Vec<String>,
    /// How a drain from there goes on, if that is where it shows.
    pub drain: Vec<String>,
}

/// What was explored.
pub(crate) struct Report {
    pub states: usize,
    pub transitions: usize,
    pub took: Duration,
    /// Every reachable state was seen.
    pub whole: bool,
    pub violation: Option<Violation>,
}

/// Where to stop.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    pub states: usize,
    pub time: Duration,
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one clock of a test program: it prints seconds and stops when asked"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

fn wrong(scene: &Scene, world: &World, drained: &mut Drained) -> Option<(Option<Drain>, String)> {
    if let Some(wrong) = world.check(scene) {
        return Some((None, wrong));
    }
    let (how, wrong) = drained.check(scene, world)?;
    Some((Some(how), wrong))
}

fn violation(scene: &Scene, world: &World, (how, what): (Option<Drain>, String), steps: Vec<String>) -> Violation {
    let drain = how.map(|how| drain::steps(scene, world, how)).unwrap_or_default();
    Violation { what, steps, drain }
}

/// Every state within the bounds, nearest first; stops at the first violation, whose trace is then a shortest one.
pub(crate) fn breadth(scenario: Scenario, bounds: Bounds) -> Report {
    let (scene, began) = (Scene::new(scenario), now());
    let (mut seen, mut drained) = (Table::new(), Drained::new());
    let first = World::new(&scene);
    let mut parents: Vec<(u32, u16)> = vec![(0, 0)];
    let mut queue = VecDeque::from([(first.clone(), 0u32)]);
    seen.insert(hash_of(&first));
    let (mut transitions, mut visited, mut whole, mut found) = (0, 0usize, true, None);
    while let Some((world, id)) = queue.pop_front() {
        visited += 1;
        if let Some(what) = wrong(&scene, &world, &mut drained) {
            found = Some(violation(&scene, &world, what, trace(&scene, &parents, id)));
            break;
        }
        let late = visited.is_multiple_of(512) && began.elapsed() > bounds.time;
        if late || seen.len() >= bounds.states {
            whole = false;
            break;
        }
        for (n, (_, next)) in Moves::of(&scene, &world, false).into_iter().enumerate() {
            transitions += 1;
            if seen.insert(hash_of(&next)) {
                parents.push((id, n as u16));
                queue.push_back((next, parents.len() as u32 - 1));
            }
        }
    }
    Report { states: seen.len(), transitions, took: began.elapsed(), whole, violation: found }
}

fn trace(scene: &Scene, parents: &[(u32, u16)], mut id: u32) -> Vec<String> {
    let mut path = Vec::new();
    while id != 0 {
        let (parent, n) = parents[id as usize];
        path.push(n);
        id = parent;
    }
    path.reverse();
    replay(scene, &path)
}

/// The names of the steps along a path.
fn replay(scene: &Scene, path: &[u16]) -> Vec<String> {
    let mut world = World::new(scene);
    let mut steps = Vec::new();
    for n in path {
        let (name, next) = Moves::of(scene, &world, true).swap_remove(usize::from(*n));
        steps.push(name);
        world = next;
    }
    steps
}

/// Random walks of at most `length` steps, from seed 1 on; stops at the first violation.
pub(crate) fn walk(scenario: Scenario, walks: u64, length: usize, time: Duration) -> (Report, u64) {
    let (scene, began) = (Scene::new(scenario), now());
    let (mut seen, mut drained) = (Table::new(), Drained::new());
    let mut report = Report { states: 0, transitions: 0, took: Duration::ZERO, whole: true, violation: None };
    let mut walked = 0;
    'walks: for seed in 1..=walks {
        if began.elapsed() > time {
            report.whole = false;
            break;
        }
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03;
        let (mut world, mut path) = (World::new(&scene), Vec::new());
        for _ in 0..length {
            let mut next = Moves::of(&scene, &world, false);
            if next.is_empty() {
                break;
            }
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let n = choose(&world, &next, random >> 11);
            path.push(n as u16);
            world = next.swap_remove(n).1;
            report.transitions += 1;
            if seen.insert(hash_of(&world))
                && let Some(what) = wrong(&scene, &world, &mut drained)
            {
                let what = (what.0, format!("{} [seed {seed}]", what.1));
                report.violation = Some(violation(&scene, &world, what, replay(&scene, &path)));
                break 'walks;
            }
        }
        walked = seed;
    }
    (report.states, report.took) = (seen.len(), began.elapsed());
    (report, walked)
}

/// Three times out of four a step that uses nothing up, so that walks are long and not only full of faults.
fn choose(world: &World, next: &[(String, World)], random: u64) -> usize {
    let free = |to: &World| to.left == Budget { attempts: to.left.attempts, ..world.left };
    let calm: Vec<usize> = (0..next.len()).filter(|n| free(&next[*n].1)).collect();
    let (pick, random) = (!random.is_multiple_of(4), (random / 4) as usize);
    if pick && !calm.is_empty() { calm[random % calm.len()] } else { random % next.len() }
}
