//! Whole fleets under the plan: workers join, leave, die and are replaced, each planning from a view of its own age.

use std::collections::BTreeMap;

use proptest::prelude::*;
use standpipe_flow::Throughput;

use super::*;

const FAILOVER: Duration = Duration::from_secs(10);
/// Nothing has moved for so long: the fleet has settled.
const SETTLED: u32 = 60;
/// Nor will any more for the sake of load.
const AT_REST: u32 = 400;
/// Before that, at the latest.
const PATIENCE: u32 = 40_000;

/// A table and workers that do what their plans say, in steps of one second.
struct World {
    rows: Vec<LeaseRow>,
    /// The table of the last seconds, the newest last: views are up to two seconds old.
    past: Vec<Vec<LeaseRow>>,
    workers: Vec<Worker>,
    now: u32,
    /// How often a lease has passed from one worker to another.
    moves: usize,
    last_owner: BTreeMap<LeaseKey, WorkerId>,
    mix: u64,
}

struct Worker {
    id: WorkerId,
    alive: bool,
    stopping: bool,
    held: BTreeSet<LeaseKey>,
    /// Leases under release, and when it is done.
    draining: BTreeMap<LeaseKey, u32>,
    watch: Watch,
    fresh: bool,
}

impl World {
    fn new(weights: &[u64], mix: u64) -> Self {
        let row = |(n, kb): (usize, &u64)| {
            let mut row = LeaseRow::new(LeaseKey::new(format!("shardId-{n:012}")));
            row.throughput = Some(Throughput { millionths: kb * 1_000_000 });
            row
        };
        let rows: Vec<_> = weights.iter().enumerate().map(row).collect();
        let past = vec![rows.clone(); 3];
        Self { rows, past, workers: Vec::new(), now: 0, moves: 0, last_owner: BTreeMap::new(), mix }
    }

    fn random(&mut self, bound: u64) -> u64 {
        self.mix = self.mix.wrapping_add(1);
        hash64(&[&self.mix.to_be_bytes()]) % bound
    }

    fn join(&mut self) {
        let id = WorkerId::new(format!("worker-{}-{}", self.workers.len(), self.mix));
        self.workers.push(Worker {
            id,
            alive: true,
            stopping: false,
            held: BTreeSet::new(),
            draining: BTreeMap::new(),
            watch: Watch::default(),
            fresh: true,
        });
    }

    /// One second. Whether anything moved.
    fn step(&mut self) -> bool {
        self.now += 1;
        let before = (self.rows.iter().map(|row| (row.owner.clone(), row.next.clone()))).collect::<Vec<_>>();
        for index in 0..self.workers.len() {
            if self.workers[index].alive {
                self.beat(index);
                if (self.now as usize + index).is_multiple_of(2) && !self.workers[index].stopping {
                    self.act(index);
                }
            }
        }
        self.past.remove(0);
        self.past.push(self.rows.clone());
        before != (self.rows.iter().map(|row| (row.owner.clone(), row.next.clone()))).collect::<Vec<_>>()
    }

    /// Heartbeats every three seconds; whoever waits is seen with one. A drain takes some seconds, and then the lease is
    /// released.
    fn beat(&mut self, index: usize) {
        let beats = (self.now as usize + index).is_multiple_of(3);
        let (now, drain) = (self.now, 1 + self.random(4) as u32);
        let worker = &mut self.workers[index];
        for row in &mut self.rows {
            if !worker.held.contains(&row.key) {
                continue;
            }
            if beats {
                row.counter += 1;
                if row.next.is_some() || worker.stopping {
                    worker.draining.entry(row.key.clone()).or_insert(now + drain);
                }
            }
            if worker.draining.get(&row.key).is_some_and(|done| *done <= now) {
                row.owner = None;
                row.counter += 1;
                worker.held.remove(&row.key);
                worker.draining.remove(&row.key);
            }
        }
        worker.alive = !(worker.stopping && worker.held.is_empty());
    }

    fn act(&mut self, index: usize) {
        let age = self.random(3) as usize;
        let now = Duration::from_secs(u64::from(self.now));
        let worker = &mut self.workers[index];
        let view = &self.past[self.past.len() - 1 - age];
        let observed: Vec<_> = view.iter().map(|row| worker.watch.see(row, now)).collect();
        let nothing = BTreeSet::new();
        let Plan { actions, content } = plan(&View {
            me: &worker.id,
            now,
            failover: FAILOVER,
            leases_max: usize::MAX,
            observed: &observed,
            held: &worker.held,
            ours: &nothing,
            busy: &nothing,
            stole_at: None,
            fresh: worker.fresh,
        });
        worker.fresh &= !content;
        for action in actions {
            match action {
                Action::Take(lease) => {
                    let seen = view.iter().find(|row| row.key == lease).expect("the lease");
                    let row = self.rows.iter_mut().find(|row| row.key == lease).expect("the lease");
                    if row.counter != seen.counter {
                        continue;
                    }
                    let worker = &mut self.workers[index];
                    let before = self.last_owner.insert(lease.clone(), worker.id.clone());
                    self.moves += usize::from(before.is_some_and(|before| before != worker.id));
                    row.owner = Some(worker.id.clone());
                    row.tenure = Some(tenure(&worker.id, 0));
                    row.counter += 1;
                    row.next = None;
                    worker.held.insert(lease);
                }
                Action::Ask { lease, owner } => {
                    let row = self.rows.iter_mut().find(|row| row.key == lease).expect("the lease");
                    if row.owner.as_ref() == Some(&owner) && row.next.is_none() {
                        row.next = Some(self.workers[index].id.clone());
                    }
                }
                Action::Steal(lease) => panic!("a theft of {lease} among our own"),
            }
        }
    }

    /// Goes on until nothing has moved for so many seconds. How many moves that took, and how many seconds.
    fn settle(&mut self, seconds: u32) -> (usize, u32) {
        let (moves, begin) = (self.moves, self.now);
        let (mut quiet, mut last) = (0, self.now);
        while quiet < seconds {
            if self.step() {
                (quiet, last) = (0, self.now);
            } else {
                quiet += 1;
            }
            assert!(self.now - begin < PATIENCE, "it never stands still: {:?}", self.held());
        }
        (self.moves - moves, last - begin)
    }

    fn living(&self) -> Vec<usize> {
        (0..self.workers.len()).filter(|index| self.workers[*index].alive).collect()
    }

    fn held(&self) -> Vec<usize> {
        self.living().into_iter().map(|index| self.workers[index].held.len()).collect()
    }

    fn loads(&self) -> Vec<u64> {
        let weight = |lease: &LeaseKey| {
            let row = self.rows.iter().find(|row| row.key == *lease).expect("the lease");
            64 + row.throughput.unwrap_or_default().kb()
        };
        self.living().into_iter().map(|index| self.workers[index].held.iter().map(weight).sum()).collect()
    }

    /// Every lease has exactly one living owner, and every worker has one if there are enough.
    fn check(&self) {
        for row in &self.rows {
            let owners = self.living().into_iter().filter(|index| self.workers[*index].held.contains(&row.key)).count();
            assert_eq!(owners, 1, "{:?}", row.key);
        }
        if self.rows.len() >= self.held().len() {
            assert!(self.held().iter().all(|held| *held > 0), "{:?}", self.held());
        }
    }
}

fn weights() -> impl Strategy<Value = Vec<u64>> {
    let kb = prop_oneof![4 => Just(0_u64), 3 => 0_u64..200, 1 => 200_u64..1024];
    proptest::collection::vec(kb, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Workers join, are stopped and die one at a time, in a fleet that has settled: what moves is bounded, and then
    /// nothing moves any more.
    #[test]
    fn a_membership_change_moves_at_most_a_share_and_one(
        weights in weights(),
        start in 1_usize..7,
        mix in any::<u64>(),
        events in proptest::collection::vec((0_u8..3, any::<prop::sample::Index>()), 1..5),
    ) {
        let mut world = World::new(&weights, mix);
        (0..start).for_each(|_| world.join());
        world.settle(AT_REST);
        world.check();
        for (event, index) in events {
            let living = world.living();
            let before = living.len();
            let gone = living[index.index(before)];
            match event {
                0 => world.join(),
                1 if before > 1 => world.workers[gone].stopping = true,
                2 if before > 1 => world.workers[gone].alive = false,
                _ => continue,
            }
            let (moves, _) = world.settle(SETTLED);
            world.check();
            let workers = before.max(world.living().len());
            let most = weights.len().div_ceil(workers) + 1;
            prop_assert!(moves <= most, "{moves} moves of {} leases, {before} workers, event {event}", weights.len());
            let (_, took) = world.settle(AT_REST);
            prop_assert!(took < 3_000, "{took} seconds");
        }
    }
}

/// Every worker of a fleet is replaced, one after the other, twenty seconds apart: each lease moves about twice, once away
/// from the worker that goes and once to the one that comes.
#[test]
fn a_rolling_deploy_moves_each_lease_about_twice() {
    for (leases, workers) in [(16, 4), (100, 5), (40, 7), (12, 3)] {
        let weights: Vec<u64> = (0..leases).map(|n| if n % 7 == 0 { 900 } else { n * 37 % 120 }).collect();
        let mut world = World::new(&weights, 1);
        (0..workers).for_each(|_| world.join());
        world.settle(AT_REST);
        let before = world.moves;
        for _ in 0..workers {
            let oldest = world.living()[0];
            world.workers[oldest].stopping = true;
            (0..20).for_each(|_| _ = world.step());
            world.join();
            (0..20).for_each(|_| _ = world.step());
        }
        world.settle(SETTLED);
        world.check();
        let moves = world.moves - before;
        println!(
            "{leases} leases, {workers} workers replaced: {moves} moves, then {:?} of {:?}",
            world.held(),
            world.loads()
        );
        assert!(moves as u64 * 2 <= leases * 5, "{moves}");
    }
}
