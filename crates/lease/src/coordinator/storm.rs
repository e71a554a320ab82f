//! Workers that are killed, cut off, suspended from handing over, and a DynamoDB that does everything it may do: at no
//! instant do two living workers believe that they may commit for one shard, and in the end every shard has a worker.

use standpipe_emulator::{Fault, Rule, Service};
use standpipe_flow::{Clock, Random};

use super::*;
use crate::emulated::{Seeded, Worker, World, lease};

const LEASES: u64 = 9;
const STEP: Duration = Duration::from_millis(50);
/// 100 seconds of storm.
const STORM_STEPS: u32 = 2_000;
/// 60 seconds of quiet.
const QUIET_STEPS: u32 = 1_200;

struct Storm {
    world: World,
    random: Seeded,
    workers: Vec<Worker>,
    /// Leases that a worker will release in so many steps.
    releases: Vec<(String, u32, LeaseKey, Tenure)>,
    started: u64,
    seen: Seen,
}

/// What has happened, so that a storm in which nothing happened does not count.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Seen {
    taken: u32,
    deadlines: u32,
    others: u32,
    hand_overs: u32,
    kills: u32,
    walks: u32,
}

impl Storm {
    fn new(seed: u64) -> Self {
        let world = World::new();
        world.open_shards(LEASES);
        let (random, seen) = (Seeded::new(seed), Seen::default());
        Self { world, random, workers: Vec::new(), releases: Vec::new(), started: 0, seen }
    }

    fn faults(&self) {
        let faults = self.world.emulator.faults();
        for (fault, percent) in [
            (Fault::DropAnswer, 3),
            (Fault::DropRequest, 1),
            (Fault::Throttle, 3),
            (Fault::TransactionConflict, 3),
            (Fault::InternalErrorAfterEffect, 1),
            (Fault::DelayRequest(3_000), 2),
            (Fault::DelayRequest(14_000), 1),
            (Fault::DelayAnswer(3_000), 2),
            (Fault::Repeat(9_000), 2),
        ] {
            let rule = Rule::new(Service::DynamoDb, fault).operation("UpdateItem");
            faults.add(rule.probability(f64::from(percent) / 100.0));
        }
    }

    async fn start_worker(&mut self) {
        self.started += 1;
        let worker = self.world.worker(&format!("worker-{}", self.started)).await;
        self.workers.push(worker);
    }

    async fn step(&mut self, stormy: bool) {
        tokio::time::sleep(STEP).await;
        self.check();
        for index in 0..self.workers.len() {
            self.answer_events(index);
        }
        for (name, steps, lease, tenure) in std::mem::take(&mut self.releases) {
            match steps.checked_sub(1) {
                Some(steps) => self.releases.push((name, steps, lease, tenure)),
                None => {
                    if let Some(worker) = self.workers.iter().find(|worker| worker.connection.name() == name) {
                        worker.handle.send(Command::Release { lease, tenure });
                    }
                }
            }
        }
        if stormy {
            self.strike().await;
        }
    }

    fn answer_events(&mut self, index: usize) {
        while let Ok(event) = self.workers[index].events.try_recv() {
            match event {
                LeaseEvent::Taken { .. } => self.seen.taken += 1,
                LeaseEvent::Lost { reason: LostReason::Deadline, .. } => self.seen.deadlines += 1,
                LeaseEvent::Lost { .. } => self.seen.others += 1,
                LeaseEvent::HandOver { lease, tenure } => {
                    self.seen.hand_overs += 1;
                    let steps = self.random.below(60) as u32;
                    let name = self.workers[index].connection.name().to_owned();
                    self.releases.push((name, steps, lease, tenure));
                }
            }
        }
    }

    /// Something happens to some worker about every two seconds.
    async fn strike(&mut self) {
        let index = self.random.below(self.workers.len() as u64) as usize;
        match self.random.below(200) {
            0 if self.workers.len() > 1 => {
                self.seen.kills += 1;
                self.workers.remove(index).kill();
            }
            1 if self.workers.len() < 4 => self.start_worker().await,
            2 => self.workers[index].connection.cut(),
            3 | 4 => self.workers.iter().for_each(|worker| worker.connection.mend()),
            5 => {
                if let Some(held) = self.workers[index].holdings.all().pop() {
                    self.seen.walks += 1;
                    let (lease, tenure) = (held.fence.lease, held.fence.tenure);
                    self.workers[index].handle.send(Command::WalkAway { lease, tenure });
                }
            }
            _ => {}
        }
    }

    /// At no instant may two living workers commit for one lease.
    fn check(&self) {
        let now = self.world.clock.elapsed();
        for n in 0..LEASES {
            let may = |worker: &&Worker| worker.holdings.get(&lease(n)).is_some_and(|held| held.deadline > now);
            let count = self.workers.iter().filter(may).count();
            assert!(count <= 1, "lease {n} has {count} owners at {now:?}");
        }
    }

    async fn run(mut self) -> Seen {
        self.start_worker().await;
        self.start_worker().await;
        self.faults();
        for _ in 0..STORM_STEPS {
            self.step(true).await;
        }
        self.world.emulator.faults().clear();
        self.workers.iter().for_each(|worker| worker.connection.mend());
        for _ in 0..QUIET_STEPS {
            self.step(false).await;
        }
        let rows = self.world.table().await.scan().await.expect("a scan");
        for n in 0..LEASES {
            let holders: Vec<_> = self.workers.iter().filter_map(|worker| worker.holdings.get(&lease(n))).collect();
            let [held] = holders.as_slice() else { panic!("lease {n} has {} holders", holders.len()) };
            let row = rows.get(&lease(n)).expect("a row");
            assert_eq!((row.owner.as_ref(), row.tenure), (Some(&held.fence.owner), Some(held.fence.tenure)));
            assert_eq!(row.next, None, "nobody waits any more");
        }
        self.seen
    }
}

fn storm(seed: u64) -> Seen {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build().expect("a runtime");
    runtime.block_on(Storm::new(seed).run())
}

#[test]
fn no_lease_ever_has_two_owners_and_in_the_end_each_has_one() {
    let mut all = Seen::default();
    for seed in 0..5 {
        let seen = storm(seed);
        all.taken += seen.taken;
        all.deadlines += seen.deadlines;
        all.others += seen.others;
        all.hand_overs += seen.hand_overs;
        all.kills += seen.kills;
        all.walks += seen.walks;
    }
    let happened = [all.deadlines, all.hand_overs, all.kills, all.walks];
    assert!(all.taken > 100 && happened.iter().all(|count| *count > 10), "{all:?}");
}

#[test]
fn the_same_seed_is_the_same_storm() {
    assert_eq!(storm(99), storm(99));
}
