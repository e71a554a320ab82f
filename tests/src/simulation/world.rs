//! The world of one run: the endpoints, the workers, the producer, and the schedule of what happens to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use standpipe_emulator::{Connection, Emulator, Faults, Options as EmulatorOptions, TraceEntry};
use standpipe_flow::offload::{Job, Offload};
use standpipe_flow::{Clock, Millis, Random, WorkerId};
use standpipe_lease::{Dynamo, LeaseTable};
use standpipe_source::{PACK_BYTES, Pack};
use standpipe_worker::{Options, Platform, SharedMetrics};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::check::{self, Ledger};
use super::moments::{Deed, Moments};
use super::scene::Scene;
use super::{Dice, Outcome, faults, matrix};

/// The wall clock at the start of every run: 2026-11-21T00:00:00Z.
const EPOCH_MILLIS: u64 = 1_795_219_200_000;
pub(super) const STREAM: &str = "events";
/// A bucket for each destination that there may be.
pub(super) const BUCKETS: [&str; 3] = ["lake", "pond", "well"];
pub(super) const TABLE: &str = "standpipe-sim";
/// Takes leases and is no worker.
pub(super) const THIEF: &str = "thief";

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
pub(super) struct Process {
    pub(super) connection: Connection,
    pub(super) stop: CancellationToken,
    pub(super) task: AbortHandle,
}

pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) scene: Scene,
    pub(super) emulator: Arc<Emulator>,
    start: Instant,
    metrics: SharedMetrics,
    pub(super) processes: BTreeMap<u64, Process>,
    born: u64,
    pub(super) tasks: JoinSet<Result<(), String>>,
    pub(super) ledger: Ledger,
    pub(super) moments: Moments,
    trace: Vec<TraceEntry>,
    outcome: Outcome,
}

/// Virtual seconds of faults, and the most that the quiet time after them may take.
const STORM_SECONDS: u64 = 45;
const QUIET_SECONDS: u64 = 75;
/// A fleet that is down for longer than the stream keeps records.
const DOWN: Duration = Duration::from_secs(30 * 3600);
/// An open shard is read again so soon after twice the failover time: requests travel, an iterator is asked for.
const READ_AGAIN_SLACK: Duration = Duration::from_secs(1);
/// The longest pause between two tries of a publication, with its jitter.
const PUBLICATION_PAUSE: Duration = Duration::from_millis(12_500);

impl World {
    async fn play(seed: u64) -> Outcome {
        let mut world = Self::new(seed);
        world.history();
        for _ in 0..world.scene.workers {
            world.begin();
        }
        if world.scene.latest {
            world.wait_for_leases().await;
        }
        world.storm().await;
        world.quiet().await;
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
        let scene = Scene::draw(&mut dice, &mut Dice::new(seed ^ 0x4C41_5445_5220_4F4E));
        let emulator = Emulator::new(options).expect("an emulator in memory opens");
        emulator.create_stream(STREAM, scene.shards as usize).expect("a new stream");
        for bucket in scene.buckets() {
            emulator.create_bucket(bucket).expect("a bucket in memory");
        }
        let until = EPOCH_MILLIS + STORM_SECONDS * 1000;
        faults::scatter(emulator.faults(), &mut dice, until);
        for (wanted, faults) in [
            (scene.fan_out, faults::subscriptions as fn(&Faults, u64)),
            (scene.consumer, faults::beside_a_consumer),
            (scene.slow_parts, faults::slow_parts),
            (scene.slow_publication, faults::slow_publication),
            (scene.put, faults::puts),
        ] {
            if wanted {
                faults(emulator.faults(), until);
            }
        }
        Self {
            dice,
            emulator,
            start,
            metrics: SharedMetrics::new(),
            processes: BTreeMap::new(),
            born: 0,
            tasks: JoinSet::new(),
            ledger: Ledger::of(scene.buckets()),
            scene,
            moments: Moments::default(),
            trace: Vec::new(),
            outcome: Outcome { seed, ..Outcome::default() },
        }
    }

    pub(super) fn now_millis(&self) -> u64 {
        EPOCH_MILLIS + self.start.elapsed().as_millis() as u64
    }

    pub(super) fn note(&mut self, deed: Deed) {
        self.moments.note(self.now_millis(), deed);
    }

    /// Records and reshards of a time when nobody was reading.
    fn history(&mut self) {
        for _ in 0..self.scene.history {
            self.produce();
            self.reshard();
            self.produce();
        }
    }

    fn sdk(&self, name: &str) -> standpipe_worker::platform::SdkConfig {
        let client = self.emulator.connect(name).http_client();
        standpipe_worker::platform::embedded(Some(client), "http://127.0.0.1:4600")
    }

    /// The lease table, over a connection of this name.
    pub(super) fn table(&self, name: &str) -> LeaseTable {
        LeaseTable::new(Dynamo::new(&self.sdk(name), Duration::from_secs(10)), TABLE)
    }

    /// Starts a worker process with a connection, a clock skew and a random source of its own.
    pub(super) fn begin(&mut self) {
        self.born += 1;
        let name = format!("worker-{}", self.born);
        let connection = self.emulator.connect(&name);
        let skewed = self.dice.percent(20);
        let skew_millis = if skewed { self.dice.within(0, 7_200_000) as i64 - 3_600_000 } else { 0 };
        let changed = self.born > self.scene.workers && self.dice.percent(75);
        let interval = if changed { self.scene.interval % 4 + 1 } else { self.scene.interval };
        let clock = Arc::new(SimClock { start: self.start, skew_millis });
        let platform = Platform {
            sdk: standpipe_worker::platform::embedded(Some(connection.http_client()), "http://127.0.0.1:4600"),
            clock,
            random: Arc::new(SimRandom::new(self.dice.roll())),
            offload: Arc::new(Inline),
            heartbeats: None,
            outside: Default::default(),
            metrics: self.metrics.clone(),
        };
        self.note(Deed::Start { who: name.clone(), skewed, interval });
        let mut config = self.scene.config(interval);
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

    /// Until the first leases are there: LATEST is pinned by then.
    async fn wait_for_leases(&mut self) {
        let table = self.table("observer");
        for _ in 0..120 {
            sleep(Duration::from_millis(500)).await;
            self.reap();
            if table.scan().await.is_ok_and(|rows| !rows.leases.is_empty()) {
                return;
            }
        }
        self.outcome.wrong.push("no leases within a minute".into());
    }

    async fn storm(&mut self) {
        let mut left = Duration::from_secs(STORM_SECONDS);
        if self.scene.latest && self.dice.percent(50) {
            // Before anything is committed.
            self.produce();
            self.kill(1);
        }
        let mut down = self.scene.fleet_down.map(|gone| (Duration::from_secs(self.dice.within(10, 35)), gone));
        while !left.is_zero() {
            let step = Duration::from_millis(self.dice.within(50, 700));
            sleep(step).await;
            left = left.saturating_sub(step);
            self.produce();
            self.reap();
            if self.dice.percent(self.scene.mischief) {
                self.strike();
            }
            if self.dice.percent(self.scene.reshards) {
                self.reshard();
            }
            if self.scene.consumer && self.dice.percent(20) {
                self.consume();
            }
            if self.scene.destinations > 1 && self.dice.percent(4) {
                self.destination_down();
            }
            if let Some((_, gone)) = down.take_if(|(when, _)| left < *when) {
                self.fleet_down(gone).await;
            }
            if (self.processes.len() as u64) < self.scene.workers && self.dice.percent(25) {
                self.begin();
            }
        }
    }

    /// Everybody is away for longer than the stream keeps records. What was not committed before is lost, and said to be.
    async fn fleet_down(&mut self, uploads_gone: bool) {
        faults::no_publication(self.emulator.faults(), self.now_millis(), 5_000);
        for _ in 0..10 {
            self.produce();
            sleep(Duration::from_millis(500)).await;
            self.reap();
        }
        for number in self.processes.keys().copied().collect::<Vec<_>>() {
            self.kill(number);
        }
        // What is on its way arrives.
        sleep(Duration::from_secs(15)).await;
        let table = self.table("observer");
        let rows = loop {
            match table.scan().await {
                Ok(rows) => break rows,
                Err(_) => sleep(Duration::from_secs(1)).await,
            }
        };
        let aborted = |cid: &str| {
            self.moments.deeds.iter().any(|(_, deed)| matches!(deed, Deed::Abort(key) if key.contains(cid)))
        };
        self.ledger.may_expire(&rows, |cid| uploads_gone || aborted(cid));
        self.note(Deed::FleetDown { uploads_gone });
        if uploads_gone {
            self.abort_all_uploads();
        }
        sleep(DOWN).await;
        self.begin();
    }

    fn produce(&mut self) {
        let mut left = self.dice.within(0, 18);
        let (mut records, mut holds) = (Vec::new(), Vec::new());
        while left > 0 {
            let packed = if self.scene.kpl && self.dice.percent(40) { self.dice.within(2, 8).min(left) } else { 1 };
            left -= packed;
            records.push(self.record(packed));
            holds.push(packed);
        }
        if records.is_empty() {
            return;
        }
        let placed = self.emulator.put_records(STREAM, &records).expect("the stream takes records");
        for (at, records) in placed.into_iter().zip(holds) {
            self.ledger.produced(&at.shard_id, &at.sequence_number, records);
        }
    }

    /// The partition key and the bytes of a record of the stream that holds so many; of more than one, an aggregate.
    fn record(&mut self, records: u64) -> (String, Bytes) {
        let mut pack = Pack::new(PACK_BYTES);
        for _ in 0..records {
            let id = self.ledger.next_id();
            let pad = "x".repeat(self.dice.within(0, 100) as usize);
            let full =
                pack.add(format!("{{\"id\":{id},\"pad\":\"{pad}\"}}").into_bytes(), self.dice.roll().to_string());
            assert!(full.is_none(), "a few short records fit");
        }
        if records > 1 {
            self.moments.count("aggregates");
        }
        let packed = pack.take().expect("a record was added");
        (packed.partition_key, packed.data.into())
    }

    /// Looks at processes that ended by themselves: none may, but those that were told to.
    fn reap(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            match ended {
                Ok(Ok(())) => {}
                // With one heartbeat a worker, none starts while somebody moves counters lease by lease. Whoever runs the
                // processes starts it again.
                Ok(Err(error)) if error.contains("is renewed by thief") => {
                    self.processes.retain(|_, process| !process.task.is_finished());
                    self.moments.count("refused beside the thief");
                }
                Ok(Err(error)) => self.outcome.wrong.push(format!("a worker ended by itself: {error}")),
                Err(error) if error.is_cancelled() => {}
                Err(error) => self.outcome.wrong.push(format!("a worker panicked: {error}")),
            }
        }
    }

    /// Two workers at least. Whether any had to be started.
    fn replenish(&mut self) -> bool {
        let before = self.born;
        while (self.processes.len() as u64) < self.scene.workers.min(2) {
            self.begin();
        }
        self.born > before
    }

    /// No more faults: everything must come to its end.
    async fn quiet(&mut self) {
        self.emulator.faults().clear();
        self.reap();
        let mut begun = self.processes.is_empty().then(|| self.now_millis());
        self.replenish();
        self.processes.values().for_each(|process| process.connection.mend());
        let calm = self.now_millis();
        let open = self.emulator.open_shards(STREAM).expect("the stream is there");
        let rows = self.table("observer").scan().await.expect("no fault is left");
        let stops = |owner: &WorkerId| {
            let named = |name: &str| owner.as_str().strip_prefix(name).is_some_and(|rest| rest.starts_with('-'));
            self.moments.deeds.iter().any(|(_, deed)| matches!(deed, Deed::Stop(name) if named(name)))
        };
        let readable = check::readable(&open, &rows, stops);
        let carrying = check::carrying(&rows);
        for _ in 0..QUIET_SECONDS {
            sleep(Duration::from_secs(1)).await;
            self.reap();
            if self.replenish() {
                begun = Some(self.now_millis());
            }
            self.trace.extend(self.emulator.take_trace());
            let read = check::first_reads(&self.trace, calm);
            // A subscription that goes on asks for nothing: there the records alone show that every shard is read.
            let all_read = self.scene.fan_out || readable.iter().all(|shard| read.contains_key(shard));
            let all_found = || check::found(&self.emulator, &self.ledger) >= self.ledger.expected();
            // A lease of a shard that is delivered to its end is taken for its checkpoint alone.
            if all_read && all_found() && check::ended(&self.table("observer")).await {
                break;
            }
        }
        if !self.scene.fan_out {
            self.read_again((calm, begun), &readable, &carrying);
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

    /// Every shard is read again within two failover times after the last fault: what was sent before and came late is
    /// one, too. Of a fleet that had to begin anew, from then on; with one heartbeat a worker it first looks for more than
    /// a failover time whether somebody renews lease by lease. A shard with a commit may wait for its publication, when it
    /// is given up or read anew: until the next try of that.
    fn read_again(
        &mut self,
        (calm, begun): (u64, Option<u64>),
        readable: &BTreeSet<String>,
        carrying: &BTreeSet<String>,
    ) {
        let late = self.trace.iter().filter(|entry| entry.call.at_millis < calm).map(|entry| entry.acted_millis).max();
        let looks = if self.scene.cheap { self.scene.failover * 1250 } else { 0 };
        let begun = begun.map_or(0, |begun| begun + looks);
        let stopped = late.unwrap_or(calm).max(calm).max(begun);
        let read = check::first_reads(&self.trace, calm);
        for shard in readable {
            let carries = carrying.contains(shard);
            let slack = if carries { READ_AGAIN_SLACK + PUBLICATION_PAUSE } else { READ_AGAIN_SLACK };
            let within = 2 * self.scene.failover * 1000 + slack.as_millis() as u64;
            let took = read.get(shard).map(|at| at.saturating_sub(stopped));
            if took.is_none_or(|took| took > within) {
                let seconds = self.scene.failover;
                self.outcome
                    .wrong
                    .push(format!("{shard} was read again after {took:?} ms, at a failover of {seconds} s"));
            }
            let took = took.filter(|_| !carries).unwrap_or_default();
            let (millis, hundredths) = self.outcome.read_again;
            self.outcome.read_again = (millis.max(took), hundredths.max(took / (self.scene.failover * 10)));
        }
    }

    async fn end(mut self) -> Outcome {
        self.reap();
        let table = self.table("observer");
        let mut outcome = self.outcome;
        check::records(&self.emulator, &self.ledger, &mut outcome);
        check::rows(&table, &self.ledger, &mut outcome).await;
        check::metrics(&self.metrics, &mut outcome);
        let mut trace = self.trace;
        trace.extend(self.emulator.take_trace());
        outcome.requests = trace.len();
        outcome.trace = check::hash(&trace);
        outcome.depth = depth(&self.emulator.lineage(STREAM).expect("the stream is there"));
        outcome.rows = matrix::count(&trace, &self.moments, (self.scene.failover * 1000, self.scene.latest));
        outcome.rows.insert(31, u64::from(outcome.wrong.is_empty()));
        for (event, count) in self.moments.events {
            *outcome.events.entry(event).or_default() += count;
        }
        if std::env::var_os("STANDPIPE_SIM_TRACE").is_some() {
            trace.iter().for_each(|entry| println!("{entry}"));
        }
        outcome
    }
}

/// The longest line of parents and children, in steps. Parents are listed before their children.
fn depth(lineage: &[(String, Vec<String>)]) -> usize {
    let mut depths: BTreeMap<&str, usize> = BTreeMap::new();
    for (shard, parents) in lineage {
        let above = parents.iter().filter_map(|parent| depths.get(parent.as_str())).max();
        let depth = above.map_or(0, |depth| depth + 1);
        depths.insert(shard, depth);
    }
    depths.values().copied().max().unwrap_or(0)
}
