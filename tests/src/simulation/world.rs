//! The world of one run: the endpoints, the workers, the producer, and the schedule of what happens to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use standpipe_config::Config;
use standpipe_emulator::{Connection, Emulator, Options as EmulatorOptions};
use standpipe_flow::offload::{Job, Offload};
use standpipe_flow::write::{self, Take};
use standpipe_flow::{Clock, Millis, Random, Tenure, WorkerId};
use standpipe_lease::{Dynamo, LeaseTable};
use standpipe_worker::{Options, Platform, SharedMetrics};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::check::{self, Ledger};
use super::{Dice, Outcome, faults};

/// The wall clock at the start of every run: 2026-11-21T00:00:00Z.
const EPOCH_MILLIS: u64 = 1_795_219_200_000;
const STREAM: &str = "events";
pub(super) const BUCKET: &str = "lake";
pub(super) const TABLE: &str = "standpipe-sim";

/// Runs a seed. Deterministic: the same seed gives the same outcome.
pub fn run(seed: u64) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime can be built").block_on(World::play(seed))
}

/// The paused clock, as the workers see it: the wall clock of each may be off.
#[derive(Debug)]
pub struct SimClock {
    start: Instant,
    skew_millis: i64,
}

impl SimClock {
    /// A clock that begins now, and is right.
    pub fn start() -> Self {
        Self { start: Instant::now(), skew_millis: 0 }
    }
}

impl Clock for SimClock {
    fn wall(&self) -> Millis {
        let now = EPOCH_MILLIS + self.start.elapsed().as_millis() as u64;
        Millis(now.saturating_add_signed(self.skew_millis))
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

/// Seeded randomness.
#[derive(Debug)]
pub struct SimRandom(AtomicU64);

impl SimRandom {
    /// The randomness of a seed.
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

impl Random for SimRandom {
    fn next(&self) -> u64 {
        let seed = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        Dice::new(seed).roll()
    }
}

/// Encodes at once, on the calling thread: a thread would not hold the paused clock.
#[derive(Debug)]
pub struct Inline;

impl Offload for Inline {
    fn run(&self, job: Job) {
        job();
    }
}

/// One worker process.
struct Process {
    connection: Connection,
    stop: CancellationToken,
    task: AbortHandle,
}

struct World {
    dice: Dice,
    emulator: Arc<Emulator>,
    start: Instant,
    config: Config,
    metrics: SharedMetrics,
    processes: BTreeMap<u64, Process>,
    born: u64,
    tasks: JoinSet<Result<(), String>>,
    ledger: Ledger,
    events: BTreeMap<String, u64>,
    outcome: Outcome,
}

/// Virtual seconds of faults, and the most that the quiet time after them may take.
const STORM_SECONDS: u64 = 45;
const QUIET_SECONDS: u64 = 75;

impl World {
    async fn play(seed: u64) -> Outcome {
        let mut world = Self::new(seed);
        let workers = world.dice.within(2, 4);
        for _ in 0..workers {
            world.begin();
        }
        world.storm(workers).await;
        world.quiet(workers).await;
        world.end().await
    }

    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x5349_4D55_4C41_5445);
        let start = Instant::now();
        let clock = move || EPOCH_MILLIS + start.elapsed().as_millis() as u64;
        let mut options = EmulatorOptions::new(Arc::new(clock));
        options.seed = dice.roll();
        options.latency = faults::latency(&mut dice);
        options.trace = true;
        let emulator = Emulator::new(options).expect("an emulator in memory opens");
        let shards = if dice.percent(2) { 64 } else { dice.within(4, 16) };
        emulator.create_stream(STREAM, shards as usize).expect("a new stream");
        emulator.create_bucket(BUCKET).expect("a bucket in memory");
        let config = config(&mut dice);
        faults::scatter(emulator.faults(), &mut dice, EPOCH_MILLIS + STORM_SECONDS * 1000);
        Self {
            dice,
            emulator,
            start,
            config,
            metrics: SharedMetrics::new(),
            processes: BTreeMap::new(),
            born: 0,
            tasks: JoinSet::new(),
            ledger: Ledger::default(),
            events: BTreeMap::new(),
            outcome: Outcome { seed, ..Outcome::default() },
        }
    }

    fn now_millis(&self) -> u64 {
        EPOCH_MILLIS + self.start.elapsed().as_millis() as u64
    }

    fn note(&mut self, event: &str) {
        *self.events.entry(event.to_owned()).or_default() += 1;
    }

    /// Starts a worker process with a connection, a clock skew and a random source of its own.
    fn begin(&mut self) {
        self.born += 1;
        let name = format!("worker-{}", self.born);
        let connection = self.emulator.connect(&name);
        let skew_millis = if self.dice.percent(20) { self.dice.within(0, 7_200_000) as i64 - 3_600_000 } else { 0 };
        let clock = Arc::new(SimClock { start: self.start, skew_millis });
        let platform = Platform {
            sdk: standpipe_worker::platform::embedded(Some(connection.http_client()), "http://127.0.0.1:4600"),
            clock,
            random: Arc::new(SimRandom::new(self.dice.roll())),
            offload: Arc::new(Inline),
            heartbeats: None,
            metrics: self.metrics.clone(),
        };
        let mut config = self.config.clone();
        config.worker.id = Some(name);
        let options = Options { version: "simulation".into(), ..Options::default() };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = self.tasks.spawn(async move {
            match standpipe_worker::run(&config, &options, platform, stopped).await {
                Ok(_) => Ok(()),
                Err(error) => Err(error.to_string()),
            }
        });
        self.processes.insert(self.born, Process { connection, stop, task });
    }

    /// A random living process, if there is one.
    fn victim(&mut self) -> Option<u64> {
        let living: Vec<u64> = self.processes.keys().copied().collect();
        (!living.is_empty()).then(|| living[self.dice.within(0, living.len() as u64 - 1) as usize])
    }

    /// `kill -9`: nothing more is sent, what is on its way arrives.
    fn kill(&mut self, number: u64) {
        if let Some(process) = self.processes.remove(&number) {
            process.task.abort();
            self.note("killed");
        }
    }

    async fn storm(&mut self, workers: u64) {
        let end = self.start + Duration::from_secs(STORM_SECONDS);
        let mischief = self.dice.within(2, 14);
        while Instant::now() < end {
            sleep(Duration::from_millis(self.dice.within(50, 700))).await;
            self.produce();
            self.reap();
            if self.dice.percent(mischief) {
                self.strike();
            }
            if (self.processes.len() as u64) < workers && self.dice.percent(25) {
                self.begin();
                self.note("started");
            }
        }
    }

    fn strike(&mut self) {
        let now = self.now_millis();
        match self.dice.within(0, 12) {
            0..=2 => {
                if let Some(number) = self.victim() {
                    self.kill(number);
                }
            }
            3 => {
                if let Some(process) = self.victim().and_then(|number| self.processes.remove(&number)) {
                    process.stop.cancel();
                    self.note("stopped");
                }
            }
            4 => {
                if let Some(name) = self.victim().map(|number| self.processes[&number].connection.name().to_owned()) {
                    faults::slow(self.emulator.faults(), &mut self.dice, now, &name);
                    self.note("slow connection");
                }
            }
            5 => {
                if let Some(number) = self.victim() {
                    let connection = self.processes[&number].connection.clone();
                    let while_cut = Duration::from_millis(self.dice.within(300, 9_000));
                    connection.cut();
                    self.tasks.spawn(async move {
                        sleep(while_cut).await;
                        connection.mend();
                        Ok(())
                    });
                    self.note("cut connection");
                }
            }
            6 | 7 => self.reshard(),
            8 | 9 => self.abort_an_upload(),
            10 => self.steal(),
            _ => {
                let name = faults::away(self.emulator.faults(), &mut self.dice, now);
                self.note(name);
            }
        }
    }

    /// Somebody who is no worker takes a lease, whoever holds it, and never renews it.
    fn steal(&mut self) {
        let sdk = standpipe_worker::platform::embedded(
            Some(self.emulator.connect("thief").http_client()),
            "http://127.0.0.1:4600",
        );
        let table = LeaseTable::new(Dynamo::new(&sdk, Duration::from_secs(10)), TABLE);
        let (roll, tenure) = (self.dice.roll(), self.dice.roll());
        self.note("stolen");
        self.tasks.spawn(async move {
            let Ok(rows) = table.scan().await else { return Ok(()) };
            let held: Vec<_> = rows.leases.values().filter(|row| row.owner.is_some() && !row.ended()).collect();
            if let Some(row) = held.get(roll as usize % held.len().max(1)) {
                let none = BTreeSet::new();
                let take = Take {
                    row,
                    worker: &WorkerId::new("thief"),
                    tenure: Tenure(u128::from(tenure).to_be_bytes()),
                    destinations: &none,
                    retired: &none,
                };
                let _ = table.write(&write::take(&take)).await;
            }
            Ok(())
        });
    }

    /// Somebody else aborts an upload of ours, whatever it is for.
    fn abort_an_upload(&mut self) {
        let open = self.emulator.open_uploads(BUCKET);
        if open.is_empty() {
            return;
        }
        let upload = &open[self.dice.within(0, open.len() as u64 - 1) as usize];
        if self.emulator.abort_upload(BUCKET, &upload.key, &upload.upload_id) {
            self.note("upload aborted by others");
        }
    }

    fn reshard(&mut self) {
        let open = self.emulator.open_shards(STREAM).expect("the stream is there");
        let at = self.dice.within(0, open.len() as u64 - 1) as usize;
        if self.dice.percent(65) || open.len() < 2 {
            self.emulator.split_shard(STREAM, &open[at]).expect("an open shard splits");
            self.note("split");
        } else {
            let at = at.min(open.len() - 2);
            if self.emulator.merge_shards(STREAM, &open[at], &open[at + 1]).is_ok() {
                self.note("merged");
            }
        }
    }

    fn produce(&mut self) {
        let count = self.dice.within(0, 25);
        let mut records = Vec::new();
        for _ in 0..count {
            let id = self.ledger.next_id();
            let pad = "x".repeat(self.dice.within(0, 300) as usize);
            let key = self.dice.roll().to_string();
            records.push((key, Bytes::from(format!("{{\"id\":{id},\"pad\":\"{pad}\"}}"))));
        }
        if records.is_empty() {
            return;
        }
        let placed = self.emulator.put_records(STREAM, &records).expect("the stream takes records");
        for at in placed {
            self.ledger.produced(at.shard_id, at.sequence_number);
        }
    }

    /// Looks at processes that ended by themselves: none may, but those that were told to.
    fn reap(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => self.outcome.wrong.push(format!("a worker ended by itself: {error}")),
                Err(error) if error.is_cancelled() => {}
                Err(error) => self.outcome.wrong.push(format!("a worker panicked: {error}")),
            }
        }
    }

    /// No more faults: everything must come to its end.
    async fn quiet(&mut self, workers: u64) {
        self.emulator.faults().clear();
        while (self.processes.len() as u64) < workers.min(2) {
            self.begin();
        }
        for _ in 0..QUIET_SECONDS {
            sleep(Duration::from_secs(1)).await;
            self.reap();
            if check::found(&self.emulator) >= self.ledger.len() {
                break;
            }
        }
        self.outcome.seconds = self.start.elapsed().as_secs();
        let processes = std::mem::take(&mut self.processes);
        for process in processes.values() {
            process.stop.cancel();
        }
        for _ in 0..60 {
            sleep(Duration::from_secs(1)).await;
            self.reap();
            if processes.values().all(|process| process.task.is_finished()) {
                break;
            }
        }
        if processes.values().any(|process| !process.task.is_finished()) {
            self.outcome.wrong.push("a worker did not stop within 60 s".into());
        }
    }

    async fn end(mut self) -> Outcome {
        self.reap();
        let mut outcome = self.outcome;
        check::records(&self.emulator, &self.ledger, &mut outcome);
        let table = self.emulator.connect("observer");
        let sdk = standpipe_worker::platform::embedded(Some(table.http_client()), "http://127.0.0.1:4600");
        check::rows(&sdk, &mut outcome).await;
        check::metrics(&self.metrics, &mut outcome);
        let trace = self.emulator.take_trace();
        outcome.requests = trace.len();
        outcome.trace = check::hash(&trace);
        for (event, count) in self.events {
            *outcome.events.entry(event).or_default() += count;
        }
        if std::env::var_os("STANDPIPE_SIM_TRACE").is_some() {
            for entry in &trace {
                println!("{entry}");
            }
        }
        outcome
    }
}

fn config(dice: &mut Dice) -> Config {
    let failover = dice.within(2, 5);
    let interval = dice.within(1, 4);
    let size = dice.within(1, 3);
    let text = format!(
        "version: 1\nhttp: \"off\"\nworker: {{ memory: 64MiB, shutdown_grace: 40s }}\npipelines:\n  sim:\n    lease: {{ table: {TABLE}, failover: {failover}s }}\n    source: {{ kinesis: {{ stream: {STREAM}, start: trim_horizon }} }}\n    destinations:\n      - s3: {{ bucket: {BUCKET}, prefix: \"out/\", buffer: {{ size: {size}MiB, interval: {interval}s }} }}\n"
    );
    let checks = standpipe_config::Checks { columns: &|_| Ok(()) };
    match standpipe_config::parse("simulation.yaml", &text, &|_| None, &checks) {
        Ok(config) => config,
        Err(errors) => panic!("the simulation's config is refused:\n{}", errors.render(false)),
    }
}
