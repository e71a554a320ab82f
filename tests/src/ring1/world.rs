//! The world of one run: the stream, the workers, and the schedule of what happens to them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use standpipe_flow::{BatchLimits, DestinationId, LeaseKey, Millis, Mode, Record};
use standpipe_pipeline::budget::Budget;
use standpipe_pipeline::metrics::Metrics;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::store::{Produced, Shard, Store, UploadState};
use super::wire::Wire;
use super::worker::{Command, Common, Process};
use super::{Ignored, check, java};
use crate::simulation::{Dice, Outcome};

pub struct World {
    dice: Dice,
    common: Arc<Common>,
    leases: Vec<LeaseKey>,
    processes: BTreeMap<u64, Process>,
    budgets: Vec<Arc<Budget>>,
    born: u64,
    /// Of a hundred steps, those on which something happens; of these, what Java may do.
    mischief: u64,
    java: bool,
    tasks: JoinSet<()>,
    outcome: Outcome,
}

/// The most that the drain after the faults may take.
const DRAIN_SECONDS: u64 = 60;
/// Requests may arrive so much later than they were sent.
const LATEST: Duration = Duration::from_secs(15);

impl World {
    pub async fn play(seed: u64, ignored: Ignored) -> (Outcome, Vec<String>) {
        let mut dice = Dice::new(seed ^ 0x7269_6E67_5F6F_6E65);
        let storm = Duration::from_secs(dice.within(8, 18));
        let mut world = Self::new(seed, ignored, dice, storm);
        let workers = world.dice.within(2, 3);
        (0..workers).for_each(|_| world.begin());
        let end = Instant::now() + storm;
        while Instant::now() < end {
            sleep(Duration::from_millis(world.dice.within(50, 500))).await;
            world.reap();
            if (world.processes.len() as u64) < workers && world.dice.percent(25) {
                world.begin();
            }
            if world.dice.percent(world.mischief) {
                world.strike();
            }
        }
        world.drain().await;
        world.end()
    }

    fn new(seed: u64, ignored: Ignored, mut dice: Dice, storm: Duration) -> Self {
        let destination = DestinationId::new("s3");
        let shards = stream(&mut dice, storm);
        let leases = shards.keys().cloned().collect();
        let store = Store::new(ignored, destination.clone(), shards);
        let (wire, jobs) = Wire::new(store, &mut dice, storm);
        let mut tasks = JoinSet::new();
        tasks.spawn(wire.clone().carry(jobs));
        let rate = |dice: &mut Dice, percent, most| if dice.percent(percent) { dice.within(1, most) } else { 0 };
        let common = Common {
            wire,
            start: Instant::now(),
            destination,
            limits: BatchLimits {
                size_bytes: dice.within(200, 3_000),
                interval: Duration::from_millis(dice.within(100, 2_500)),
                shards_max: if dice.percent(30) { dice.within(1, 2) as usize } else { 32 },
                partitions_max: None,
            },
            failover: Duration::from_millis(dice.within(1_500, 4_000)),
            memory_bytes: if dice.percent(25) { 1 << 20 } else { 8 << 20 },
            metrics: Metrics::default(),
            staging: (rate(&mut dice, 40, 200), rate(&mut dice, 40, 150), rate(&mut dice, 15, 60)),
            two: dice.percent(30),
            mode: match dice.within(0, 3) {
                0 => Mode::Idempotent,
                1 => Mode::Declared,
                _ => Mode::Staged,
            },
        };
        Self {
            common: Arc::new(common),
            leases,
            processes: BTreeMap::new(),
            budgets: Vec::new(),
            born: 0,
            mischief: dice.within(5, 60),
            java: dice.percent(50),
            tasks,
            outcome: Outcome { seed, ..Outcome::default() },
            dice,
        }
    }

    fn begin(&mut self) {
        self.born += 1;
        let process = Process::start(&self.common, self.born, &mut self.dice);
        self.budgets.push(process.budget.clone());
        self.processes.insert(self.born, process);
    }

    fn count(&self, event: &str) {
        let mut store = self.common.wire.store();
        store.note(event.to_owned());
        store.count(event);
    }

    /// One of these.
    fn pick<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        (!of.is_empty()).then(|| of[self.dice.within(0, of.len() as u64 - 1) as usize].clone())
    }

    fn strike(&mut self) {
        let living: Vec<u64> = self.processes.keys().copied().collect();
        let lease = self.pick(&self.leases.clone()).expect("there is a shard");
        let Some(victim) = self.pick(&living) else { return };
        let command = match self.dice.within(0, 19) {
            0..=6 => Command::Steal(lease),
            7 | 8 => Command::HandOver(lease),
            9 | 10 => Command::Freeze(Duration::from_millis(self.dice.within(1_000, 8_000))),
            11..=13 => {
                self.processes.remove(&victim);
                return self.count("workers crashed");
            }
            14..=17 if self.java => {
                let dice = Dice::new(self.dice.roll());
                self.tasks.spawn(java::work(self.common.wire.clone(), dice, lease));
                return;
            }
            _ => {
                let open: Vec<String> = {
                    let store = self.common.wire.store();
                    let open = store.uploads.iter().filter(|(_, upload)| upload.state == UploadState::Open);
                    open.map(|(id, _)| id.clone()).collect()
                };
                if let Some(upload) = self.pick(&open) {
                    self.common.wire.store().abort(&upload);
                }
                return;
            }
        };
        if let Some(process) = self.processes.get(&victim) {
            let _ = process.commands.send(command);
        }
    }

    /// No task of a living worker ends by itself.
    fn reap(&mut self) {
        for (number, process) in &mut self.processes {
            while let Some(ended) = process.tasks.try_join_next() {
                self.outcome.wrong.push(format!("worker {number} ended by itself: {ended:?}"));
            }
        }
    }

    /// The faults stop; one healthy worker delivers what is left, alone, and goes.
    async fn drain(&mut self) {
        let fresh = self.dice.percent(60) || self.processes.is_empty();
        let kept = if fresh { None } else { self.processes.keys().next_back().copied() };
        self.processes.retain(|number, _| Some(*number) == kept);
        self.common.wire.calm_down();
        if fresh {
            self.begin();
        }
        self.count("the faults stop");
        let end = Instant::now() + Duration::from_secs(DRAIN_SECONDS);
        while Instant::now() < end && !self.common.wire.store().drained() {
            sleep(Duration::from_millis(500)).await;
            self.reap();
        }
        self.outcome.seconds = self.common.start.elapsed().as_secs();
        for process in self.processes.values() {
            let _ = process.commands.send(Command::Stop);
        }
        sleep(LATEST).await;
        for (number, process) in &mut self.processes {
            while let Some(ended) = process.tasks.try_join_next() {
                if let Err(ended) = ended {
                    self.outcome.wrong.push(format!("worker {number} panicked: {ended}"));
                }
            }
            if !process.tasks.is_empty() {
                self.outcome.wrong.push(format!("worker {number} did not stop"));
            }
        }
        self.processes.clear();
        tokio::task::yield_now().await;
    }

    fn end(mut self) -> (Outcome, Vec<String>) {
        let used = self.budgets.iter().filter(|budget| budget.used_bytes() > 0).count();
        if used > 0 {
            self.outcome.wrong.push(format!("{used} workers have not given all their memory back"));
        }
        let mut store = self.common.wire.store();
        check::all(&mut store, &self.common, &mut self.outcome);
        self.outcome.wrong.splice(0..0, std::mem::take(&mut store.wrong));
        for (event, count) in std::mem::take(&mut store.events) {
            *self.outcome.events.entry(event).or_default() += count;
        }
        let trace = std::mem::take(&mut store.trace);
        self.outcome.requests = trace.len();
        self.outcome.trace = check::hash(&trace);
        drop(store);
        (self.outcome, trace)
    }
}

/// The shards and what will be put into them.
fn stream(dice: &mut Dice, storm: Duration) -> BTreeMap<LeaseKey, Shard> {
    let start = Instant::now();
    let storm = storm.as_millis() as u64;
    let mut id = 0;
    let mut shards = BTreeMap::new();
    let bad = if dice.percent(40) { dice.within(1, 15) } else { 0 };
    for number in 0..dice.within(2, 4) {
        let mut sequence = 1_000 * number;
        let mut records = Vec::new();
        let count = dice.within(15, 50);
        let mut times: Vec<u64> = (0..count).map(|_| dice.within(0, storm)).collect();
        times.sort_unstable();
        for time in times {
            sequence += dice.within(1, 9);
            let aggregate = if dice.percent(15) { dice.within(2, 4) } else { 1 };
            for sub in 0..aggregate {
                let pad = "x".repeat(dice.within(0, 60) as usize);
                let record = Record {
                    data: Bytes::from(format!("{id:06}{pad}")),
                    partition_key: "key".into(),
                    sequence: sequence.into(),
                    sub,
                    arrival: Millis(1_795_219_200_000 + time),
                    transformed: None,
                    partition: None,
                };
                id += 1;
                let there_from = start + Duration::from_millis(time);
                let last_of_aggregate = sub + 1 == aggregate;
                records.push(Produced { record, last_of_aggregate, there_from, bad: dice.percent(bad) });
            }
        }
        let closes = dice.percent(35).then(|| start + Duration::from_millis(storm));
        let closes = closes.or_else(|| {
            let early = records.last().map_or(start, |last| last.there_from);
            dice.percent(15).then_some(early)
        });
        shards.insert(LeaseKey::new(format!("shard-{number}")), Shard { records, closes });
    }
    shards
}
