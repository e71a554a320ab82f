//! The storm: four worker processes, one of them killed every 3 to 8 s, others frozen until they are zombies, connections
//! cut and stalled by a proxy, shards split and merged, DynamoDB throttled, answers lost, uploads aborted; then a quiet
//! drain, and everything is counted, by itself and by a reader that is no part of it.
//!
//! `storm [--short] [--seconds 600] [--rate 3] [--shards 16] [--workers 4] [--seed 1] [--read polling] [--aggregates]
//! [--reader PROGRAM] [--dir DIR]`, the rate in MB/s. `--short` is 60 s at 2 MB/s with 8 shards. The reader is called with
//! the endpoint, the bucket and the file of what was produced. Exits 1 if anything is wrong, or if too little went wrong
//! on the way to prove anything.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use standpipe_tests::simulation::Dice;
use standpipe_tests::storm::endpoints::Endpoints;
use standpipe_tests::storm::fleet::Fleet;
use standpipe_tests::storm::objects::Found;
use standpipe_tests::storm::plan::Plan;
use standpipe_tests::storm::producer::{Pace, Shared, lock, produce};
use standpipe_tests::storm::proxy::Proxy;
use standpipe_tests::storm::report::{Report, Seen};
use standpipe_tests::storm::tables;
use standpipe_tests::storm::weather::{Phase, Weather, abort_uploads};
use standpipe_tests::storm::{BUCKET, STREAM, config};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

const FAILOVER_SECONDS: u64 = 2;
const INTERVAL_SECONDS: u64 = 1;
const MEMORY_MIB: u64 = 256;
const TICK: Duration = Duration::from_millis(100);
/// How long before its death a worker's commits are brought to a halt, at least.
const HALT: Duration = Duration::from_millis(1_200);
/// So many of its requests are to be held up by then.
const HALTED: u32 = 3;
/// A worker that young has no leases yet.
const GROWN_UP: Duration = Duration::from_secs(3);
/// The drain has failed when nothing more is found for so long.
const STUCK: Duration = Duration::from_secs(45);
const DRAIN_MAX: Duration = Duration::from_secs(90);

struct Storm {
    plan: Plan,
    dice: Dice,
    endpoints: Endpoints,
    proxy: Proxy,
    fleet: Fleet,
    weather: Weather,
    ledger: Shared,
    found: Found,
    begin: Instant,
    seen: Seen,
    /// Who is halted, and since when.
    doomed: Option<(String, Instant)>,
    /// Who is frozen, and when each thaws.
    frozen: Vec<(String, Instant)>,
    last_kill: Instant,
    next_kill: Instant,
    next_freeze: Instant,
    next_cut: Instant,
    next_reshard: Instant,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let plan = match Plan::read(&arguments) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("storm: {error}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be built");
    match runtime.block_on(run(plan)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("storm: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(plan: Plan) -> io::Result<bool> {
    let temporary = tempfile::tempdir()?;
    let dir = plan.dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    let endpoints = Endpoints::open(plan.shards, plan.seed).await?;
    let proxy = Proxy::open(&endpoints.address).await?;
    let fleet = Fleet::new(&dir, &config(FAILOVER_SECONDS, INTERVAL_SECONDS, MEMORY_MIB, &plan.reading))?;
    let (weather, to_abort) = Weather::begin(&endpoints.emulator, plan.seed);
    let mut beside = JoinSet::new();
    beside.spawn(abort_uploads(endpoints.emulator.clone(), endpoints.address.clone(), to_abort));
    let mut storm = Storm::new(plan, endpoints, proxy, (fleet, weather));
    for _ in 0..storm.plan.workers {
        storm.start()?;
    }
    let enough = CancellationToken::new();
    let (emulator, ledger) = (storm.endpoints.emulator.clone(), storm.ledger.clone());
    let pack = if storm.plan.reading.aggregates { 20 } else { 1 };
    let pace = Pace { bytes_per_second: storm.plan.bytes_per_second, pack };
    beside.spawn(produce(emulator, ledger, pace, enough.clone()));
    let raged = storm.rage().await;
    enough.cancel();
    let calmed = match raged {
        Ok(()) => storm.quiet().await,
        Err(error) => Err(error),
    };
    if let Err(error) = calmed {
        println!("the logs are in {}", temporary.keep().display());
        return Err(error);
    }
    let Storm { plan, endpoints, fleet, weather, ledger, found, mut seen, .. } = storm;
    if let Some(reader) = &plan.reader {
        seen.wrong.extend(read_back(reader, &endpoints, &ledger, &dir).await?);
    }
    let report =
        Report { seen, found, struck: weather.struck(), peak_kib: fleet.peak_kib, cpu: fleet.cpu(), least: plan.least };
    let right = report.tell(&endpoints, &ledger, &dir).await?;
    if !right {
        println!("the logs are in {}", temporary.keep().display());
    }
    Ok(right)
}

/// The other reader's word on what was delivered.
#[allow(clippy::disallowed_methods)] // waits for a process, in a program that knows no simulation
async fn read_back(reader: &Path, endpoints: &Endpoints, ledger: &Shared, dir: &Path) -> io::Result<Option<String>> {
    let produced = dir.join("produced.tsv");
    lock(ledger).write(&produced)?;
    let mut command = std::process::Command::new(reader);
    command.arg(format!("http://{}", endpoints.address)).arg(BUCKET).arg(&produced);
    // This process answers its requests meanwhile.
    let status = tokio::task::spawn_blocking(move || command.status()).await.map_err(io::Error::other)??;
    Ok((!status.success()).then(|| format!("the independent reader ended with {status}")))
}

impl Storm {
    fn new(plan: Plan, endpoints: Endpoints, proxy: Proxy, (fleet, weather): (Fleet, Weather)) -> Self {
        let begin = Instant::now();
        let after = |millis: (u64, u64)| begin + Duration::from_millis(millis.1);
        Self {
            dice: Dice::new(plan.seed ^ 0x0053_544F_524D),
            next_kill: begin + Duration::from_secs(6),
            next_freeze: begin + Duration::from_secs(9),
            next_cut: begin + Duration::from_secs(5),
            next_reshard: after(plan.reshard),
            plan,
            endpoints,
            proxy,
            fleet,
            weather,
            ledger: Shared::default(),
            found: Found::default(),
            begin,
            seen: Seen::default(),
            doomed: None,
            frozen: Vec::new(),
            last_kill: begin,
        }
    }

    fn millis(&mut self, (from, to): (u64, u64)) -> Duration {
        Duration::from_millis(self.dice.within(from, to))
    }

    fn start(&mut self) -> io::Result<()> {
        self.fleet.start(&self.proxy.environment()).map(drop)
    }

    /// Until the time is over.
    async fn rage(&mut self) -> io::Result<()> {
        let end = self.begin + Duration::from_secs(self.plan.seconds);
        let mut next_look = self.begin;
        while Instant::now() < end {
            sleep(TICK).await;
            self.watch()?;
            self.strike().await?;
            self.freeze().await?;
            self.cut();
            self.reshard();
            if Instant::now() >= next_look {
                self.found.look(&self.endpoints.emulator, &self.ledger);
                next_look = Instant::now() + Duration::from_secs(1);
            }
        }
        self.seen.commits = tables::receipts(&self.endpoints.address).await?.len();
        self.seen.behind = lock(&self.ledger).len().saturating_sub(self.found.records);
        self.seen.seconds = self.begin.elapsed().as_secs_f64();
        Ok(())
    }

    fn watch(&mut self) -> io::Result<()> {
        self.fleet.measure();
        self.fleet.fallen().map_or(Ok(()), |fallen| Err(io::Error::other(fallen)))
    }

    /// A worker that holds leases, runs, and is not about to be killed.
    async fn victim(&mut self) -> io::Result<Option<String>> {
        let doomed = self.doomed.as_ref().map(|(name, _)| name.clone());
        let leases = tables::leases(&self.endpoints.address).await.unwrap_or_default();
        let holds = |name: &str| {
            let own = |owner: &String| owner.starts_with(&format!("{name}-"));
            leases.values().any(|lease| lease.owner.as_ref().is_some_and(own) && !lease.ended())
        };
        let fit = |(name, age): (String, Duration)| {
            (age >= GROWN_UP && holds(&name) && Some(&name) != doomed.as_ref()).then_some(name)
        };
        let fit: Vec<String> = self.fleet.awake().into_iter().filter_map(fit).collect();
        if fit.is_empty() {
            return Ok(None);
        }
        let at = self.dice.within(0, fit.len() as u64 - 1) as usize;
        Ok(Some(fit[at].clone()))
    }

    /// Halts a worker in some phase of its commits, kills it a moment later, and starts another in its place.
    async fn strike(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let latest = self.last_kill + Duration::from_millis(self.plan.kill.1);
        let weather = self.weather.clone();
        let ripe = |name: &str, since: Instant| now >= latest || now >= since + HALT && weather.halted(name) >= HALTED;
        if let Some((name, _)) = self.doomed.take_if(|(name, since)| ripe(name, *since)) {
            self.fleet.kill(&name);
            self.weather.release(&name);
            self.seen.count("killed with -9");
            self.start()?;
            self.last_kill = now;
            self.next_kill = now + self.millis(self.plan.kill);
        }
        if self.doomed.is_none() && now + HALT >= self.next_kill {
            let Some(name) = self.victim().await? else { return Ok(()) };
            let phase = Phase::TURNS[self.seen.of("killed with -9") as usize % Phase::TURNS.len()];
            self.weather.halt(&name, phase);
            self.doomed = Some((name, now));
        }
        Ok(())
    }

    /// Freezes a worker for longer than a failover, so that it wakes as a zombie.
    async fn freeze(&mut self) -> io::Result<()> {
        let now = Instant::now();
        for (name, _) in self.frozen.extract_if(.., |(_, thaws)| now >= *thaws) {
            self.fleet.thaw(&name);
        }
        if self.frozen.len() < self.plan.frozen && now >= self.next_freeze {
            let Some(name) = self.victim().await? else { return Ok(()) };
            self.fleet.freeze(&name);
            self.seen.count("frozen until they were zombies");
            let thaws = now + self.millis(self.plan.freeze);
            self.frozen.push((name, thaws));
            self.next_freeze = now + self.millis((5_000, 15_000));
        }
        Ok(())
    }

    fn cut(&mut self) {
        let now = Instant::now();
        if now >= self.next_cut {
            let (what, count) = self.proxy.strike(&mut self.dice);
            self.seen.add(what, count);
            self.next_cut = now + self.millis(self.plan.cut);
        }
    }

    /// Splits or merges, so that the number of open shards stays about what it was.
    fn reshard(&mut self) {
        let now = Instant::now();
        if now < self.next_reshard {
            return;
        }
        self.next_reshard = now + self.millis(self.plan.reshard);
        let emulator = &self.endpoints.emulator;
        let open = emulator.open_shards(STREAM).expect("the stream is there");
        let few = open.len() * 4 <= self.plan.shards * 3;
        let many = open.len() * 4 >= self.plan.shards * 5;
        if few || !many && self.dice.percent(50) {
            let shard = &open[self.dice.within(0, open.len() as u64 - 1) as usize];
            emulator.split_shard(STREAM, shard).expect("an open shard splits");
            self.seen.count("shards split");
        } else {
            let at = self.dice.within(0, open.len() as u64 - 2) as usize;
            emulator.merge_shards(STREAM, &open[at], &open[at + 1]).expect("neighbours merge");
            self.seen.count("pairs of shards merged");
        }
    }

    /// No more faults: everything that was produced must be found, and every worker end with 0.
    async fn quiet(&mut self) -> io::Result<()> {
        let begin = Instant::now();
        self.endpoints.emulator.faults().clear();
        self.proxy.calm();
        for (name, _) in std::mem::take(&mut self.frozen) {
            self.fleet.thaw(&name);
        }
        while self.fleet.len() < self.plan.workers {
            self.start()?;
        }
        let mut last = (self.found.records, begin);
        while self.found.records < lock(&self.ledger).len() && last.1.elapsed() < STUCK {
            sleep(TICK * 3).await;
            self.watch()?;
            self.found.look(&self.endpoints.emulator, &self.ledger);
            if self.found.records > last.0 {
                last = (self.found.records, Instant::now());
            }
        }
        self.seen.drained_seconds = begin.elapsed().as_secs_f64();
        let open = self.endpoints.emulator.open_shards(STREAM).unwrap_or_default();
        self.seen.add("shards open at the end", open.len() as u64);
        self.seen.wrong.extend(self.fleet.drain(DRAIN_MAX).await);
        self.seen.stopped_seconds = begin.elapsed().as_secs_f64() - self.seen.drained_seconds;
        self.found.look(&self.endpoints.emulator, &self.ledger);
        Ok(())
    }
}
