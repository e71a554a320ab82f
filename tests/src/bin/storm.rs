//! The storm: three worker processes, one of them killed every 3 to 8 s, others frozen until they are zombies, shards
//! split and merged, answers lost, uploads aborted; then a quiet drain, and everything is counted.
//!
//! `storm [--seconds 120] [--rate 20] [--shards 12] [--seed 1] [--short] [--dir DIR]`, the rate in MB/s. `--short` is 30 s
//! at 4 MB/s. Exits 1 if anything is wrong, or if too little went wrong on the way to prove anything.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use standpipe_tests::simulation::Dice;
use standpipe_tests::storm::endpoints::Endpoints;
use standpipe_tests::storm::fleet::Fleet;
use standpipe_tests::storm::objects::Found;
use standpipe_tests::storm::producer::{Shared, lock, produce};
use standpipe_tests::storm::report::{Report, Seen};
use standpipe_tests::storm::tables;
use standpipe_tests::storm::weather::{Phase, Weather, abort_uploads};
use standpipe_tests::storm::{STREAM, config, number};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

const WORKERS: usize = 3;
const FAILOVER_SECONDS: u64 = 2;
const INTERVAL_SECONDS: u64 = 1;
const MEMORY_MIB: u64 = 256;
const TICK: Duration = Duration::from_millis(100);
/// How long before its death a worker's commits are brought to a halt, at least.
const HALT: Duration = Duration::from_millis(1_200);
/// So many of its requests are to be held up by then.
const HALTED: u32 = 3;
/// From kill to kill.
const KILL_MILLIS: (u64, u64) = (3_000, 8_000);
/// A worker that young has no leases yet.
const GROWN_UP: Duration = Duration::from_secs(3);
/// The drain has failed when nothing more is found for so long.
const STUCK: Duration = Duration::from_secs(45);
const DRAIN_MAX: Duration = Duration::from_secs(90);
/// When shards are split, and when two are merged, of the whole time.
const SPLITS: [f64; 4] = [0.15, 0.3, 0.45, 0.6];
const MERGE: f64 = 0.75;

struct Plan {
    seconds: u64,
    bytes_per_second: f64,
    shards: usize,
    seed: u64,
    dir: Option<PathBuf>,
}

impl Plan {
    fn read(arguments: &[String]) -> Result<Self, String> {
        let short = arguments.iter().any(|argument| argument == "--short");
        let (seconds, rate, shards) = if short { (30.0, 4.0, 6.0) } else { (120.0, 20.0, 12.0) };
        let dir = arguments.iter().position(|argument| argument == "--dir").and_then(|at| arguments.get(at + 1));
        Ok(Self {
            seconds: number(arguments, "--seconds", seconds)? as u64,
            bytes_per_second: number(arguments, "--rate", rate)? * 1e6,
            shards: number(arguments, "--shards", shards)? as usize,
            seed: number(arguments, "--seed", 1.0)? as u64,
            dir: dir.map(PathBuf::from),
        })
    }

    /// Recoveries that must be seen, by kind.
    fn least(&self) -> Vec<(&'static str, u64)> {
        match self.seconds {
            120.. => ["staged", "committed", "done", "retracted", "recognised"].map(|kind| (kind, 20)).into(),
            _ => vec![("committed", 1), ("done", 1)],
        }
    }
}

struct Storm {
    plan: Plan,
    dice: Dice,
    endpoints: Endpoints,
    fleet: Fleet,
    weather: Weather,
    ledger: Shared,
    found: Found,
    begin: Instant,
    seen: Seen,
    /// Who is halted, and since when.
    doomed: Option<(String, Instant)>,
    /// Who is frozen, and when it thaws.
    frozen: Option<(String, Instant)>,
    last_kill: Instant,
    next_kill: Instant,
    next_freeze: Instant,
    resharded: usize,
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
    let fleet = Fleet::new(&dir, &config(FAILOVER_SECONDS, INTERVAL_SECONDS, MEMORY_MIB))?;
    let (weather, to_abort) = Weather::begin(&endpoints.emulator, plan.seed);
    let mut beside = JoinSet::new();
    beside.spawn(abort_uploads(endpoints.emulator.clone(), endpoints.address.clone(), to_abort));
    let mut storm = Storm::new(plan, endpoints, fleet, weather);
    for _ in 0..WORKERS {
        storm.start()?;
    }
    let enough = CancellationToken::new();
    let (emulator, ledger) = (storm.endpoints.emulator.clone(), storm.ledger.clone());
    beside.spawn(produce(emulator, ledger, storm.plan.bytes_per_second, enough.clone()));
    storm.rage().await?;
    enough.cancel();
    storm.quiet().await?;
    let Storm { plan, endpoints, fleet, weather, ledger, found, seen, .. } = storm;
    let report = Report {
        seen,
        found,
        struck: weather.struck(),
        peak_kib: fleet.peak_kib,
        cpu: fleet.cpu(),
        least: plan.least(),
    };
    let right = report.tell(&endpoints, &ledger, &dir).await?;
    if !right {
        println!("the logs are in {}", temporary.keep().display());
    }
    Ok(right)
}

impl Storm {
    fn new(plan: Plan, endpoints: Endpoints, fleet: Fleet, weather: Weather) -> Self {
        let begin = Instant::now();
        Self {
            dice: Dice::new(plan.seed ^ 0x0053_544F_524D),
            plan,
            endpoints,
            fleet,
            weather,
            ledger: Shared::default(),
            found: Found::default(),
            begin,
            seen: Seen::default(),
            doomed: None,
            frozen: None,
            last_kill: begin,
            next_kill: begin + Duration::from_secs(6),
            next_freeze: begin + Duration::from_secs(12),
            resharded: 0,
        }
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.dice.within(from, to))
    }

    fn start(&mut self) -> io::Result<()> {
        self.fleet.start(&self.endpoints.address).map(drop)
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
        let latest = self.last_kill + Duration::from_millis(KILL_MILLIS.1);
        let weather = self.weather.clone();
        let ripe = |name: &str, since: Instant| now >= latest || now >= since + HALT && weather.halted(name) >= HALTED;
        if let Some((name, _)) = self.doomed.take_if(|(name, since)| ripe(name, *since)) {
            self.fleet.kill(&name);
            self.weather.release(&name);
            self.seen.count("killed with -9");
            self.start()?;
            self.last_kill = now;
            self.next_kill = now + self.millis(KILL_MILLIS.0, KILL_MILLIS.1);
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
        if let Some((name, _)) = self.frozen.take_if(|(_, at)| now >= *at) {
            self.fleet.thaw(&name);
            self.next_freeze = now + self.millis(6_000, 12_000);
        }
        if self.frozen.is_none() && now >= self.next_freeze {
            let Some(name) = self.victim().await? else { return Ok(()) };
            self.fleet.freeze(&name);
            self.seen.count("frozen for 4 to 10 s");
            self.frozen = Some((name, now + self.millis(4_000, 10_000)));
        }
        Ok(())
    }

    fn reshard(&mut self) {
        let part = self.begin.elapsed().as_secs_f64() / self.plan.seconds as f64;
        let emulator = &self.endpoints.emulator;
        let open = emulator.open_shards(STREAM).expect("the stream is there");
        match SPLITS.get(self.resharded) {
            Some(at) if part >= *at => {
                let shard = &open[self.dice.within(0, open.len() as u64 - 1) as usize];
                emulator.split_shard(STREAM, shard).expect("an open shard splits");
                self.seen.count("shards split");
                self.resharded += 1;
            }
            None if self.resharded == SPLITS.len() && part >= MERGE => {
                let at = self.dice.within(0, open.len() as u64 - 2) as usize;
                emulator.merge_shards(STREAM, &open[at], &open[at + 1]).expect("neighbours merge");
                self.seen.count("pairs of shards merged");
                self.resharded += 1;
            }
            _ => {}
        }
    }

    /// No more faults: everything that was produced must be found, and every worker end with 0.
    async fn quiet(&mut self) -> io::Result<()> {
        let begin = Instant::now();
        self.endpoints.emulator.faults().clear();
        if let Some((name, _)) = self.frozen.take() {
            self.fleet.thaw(&name);
        }
        while self.fleet.len() < WORKERS {
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
        self.seen.wrong.extend(self.fleet.drain(DRAIN_MAX).await);
        self.seen.stopped_seconds = begin.elapsed().as_secs_f64() - self.seen.drained_seconds;
        self.found.look(&self.endpoints.emulator, &self.ledger);
        Ok(())
    }
}
