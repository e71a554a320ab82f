//! Services that are away, and a worker that leaves: two worker processes over TCP, at 2 MB/s together.
//!
//! 1. S3 cannot be reached for 60 s: records wait in the stream, no lease changes hands, memory stays within its budget.
//! 2. DynamoDB throttles everything for 60 s: no commit, leases run out and pass on cleanly afterwards.
//! 3. SIGTERM to one of the two: it ends with 0, and the other reads its shards within 3 s.
//!
//! In the end everything is counted as after a storm. `away [--seconds 60] [--rate 2] [--seed 1] [--short] [--dir DIR]`;
//! `--short` is 10 s each. Exits 1 if anything is wrong.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use standpipe_emulator::{Call, Fault, Rule, Service};
use standpipe_tests::storm::endpoints::Endpoints;
use standpipe_tests::storm::fleet::Fleet;
use standpipe_tests::storm::objects::Found;
use standpipe_tests::storm::producer::{Pace, Shared, lock, produce};
use standpipe_tests::storm::report::{Report, Seen};
use standpipe_tests::storm::tables::{self, Lease};
use standpipe_tests::storm::{Reading, config, number};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

const SHARDS: usize = 6;
/// Long enough for a busy machine to keep it: only an outage may take a lease away here.
const FAILOVER_SECONDS: u64 = 5;
const INTERVAL_SECONDS: u64 = 1;
/// The least that a config may say.
const MEMORY_MIB: u64 = 64;
/// What a worker may take beyond its budget.
const BESIDE_BYTES: u64 = 150_000_000;
/// The other worker reads the shards of one that left within this time of its end.
const READ_ON: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(250);
/// How long the rest may take to be found after an outage, beside the outage's own time.
const CATCH_UP: Duration = Duration::from_secs(60);

struct Away {
    outage: Duration,
    endpoints: Endpoints,
    fleet: Fleet,
    ledger: Shared,
    found: Found,
    seen: Seen,
    begin: Instant,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be built");
    match runtime.block_on(run(&arguments)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("away: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &[String]) -> io::Result<bool> {
    let short = arguments.iter().any(|argument| argument == "--short");
    let given = |flag: &str, default: f64| number(arguments, flag, default).map_err(io::Error::other);
    let outage = Duration::from_secs_f64(given("--seconds", if short { 10.0 } else { 60.0 })?);
    let bytes_per_second = given("--rate", 2.0)? * 1e6;
    let seed = given("--seed", 1.0)? as u64;
    let dir = arguments.iter().position(|argument| argument == "--dir").and_then(|at| arguments.get(at + 1));
    let temporary = tempfile::tempdir()?;
    let dir = dir.map_or_else(|| temporary.path().to_owned(), PathBuf::from);

    let endpoints = Endpoints::open(SHARDS, seed).await?;
    let fleet = Fleet::new(&dir, &config(FAILOVER_SECONDS, INTERVAL_SECONDS, MEMORY_MIB, &Reading::default()))?;
    let pace = Pace { bytes_per_second, pack: 1 };
    let (ledger, enough) = (Shared::default(), CancellationToken::new());
    let mut beside = JoinSet::new();
    beside.spawn(produce(endpoints.emulator.clone(), ledger.clone(), pace, enough.clone()));
    let (found, seen, begin) = (Found::default(), Seen::default(), Instant::now());
    let mut away = Away { outage, endpoints, fleet, ledger, found, seen, begin };
    let environment = away.endpoints.environment();
    away.fleet.start(&environment)?;
    let leaving = away.fleet.start(&environment)?;
    away.both_at_work().await?;
    away.s3_away().await?;
    away.dynamodb_throttled().await?;
    away.both_at_work().await?;
    away.one_leaves(&leaving).await?;
    enough.cancel();
    let right = away.end(&dir).await?;
    if !right {
        println!("the logs are in {}", temporary.keep().display());
    }
    Ok(right)
}

impl Away {
    fn watch(&mut self) -> io::Result<()> {
        self.fleet.measure();
        self.found.look(&self.endpoints.emulator, &self.ledger);
        self.fleet.fallen().map_or(Ok(()), |fallen| Err(io::Error::other(fallen)))
    }

    async fn leases(&self) -> io::Result<BTreeMap<String, Lease>> {
        tables::leases(&self.endpoints.address).await
    }

    /// Waits until every shard has an owner and each worker is one, and until that has stood for a failover.
    async fn both_at_work(&mut self) -> io::Result<()> {
        let give_up = Instant::now() + CATCH_UP;
        let mut since = (Instant::now(), Vec::new());
        while Instant::now() < give_up {
            sleep(TICK).await;
            self.watch()?;
            let leases = self.leases().await.unwrap_or_default();
            let held: Vec<_> = leases.into_iter().map(|(key, lease)| (key, lease.owner, lease.tenure)).collect();
            let of = |name: &str| held.iter().filter(|(_, owner, _)| owned(owner.as_ref(), name)).count();
            let names: Vec<_> = self.fleet.awake().into_iter().map(|(name, _)| name).collect();
            let all = held.len() >= SHARDS && names.iter().map(|name| of(name)).sum::<usize>() == held.len();
            if held != since.1 || !all || names.iter().any(|name| of(name) == 0) {
                since = (Instant::now(), held);
            } else if since.0.elapsed() > Duration::from_secs(FAILOVER_SECONDS) {
                return Ok(());
            }
        }
        Err(io::Error::other("the workers did not come to share the shards"))
    }

    /// An outage by this rule, and from then on until everything is found that was produced by its end.
    async fn outage(&mut self, what: &str, service: Service, fault: Fault) -> io::Result<BTreeMap<String, Lease>> {
        let emulator = self.endpoints.emulator.clone();
        let now = emulator.now_millis();
        emulator
            .faults()
            .add(Rule::new(service, fault).when(of_worker).between(now, now + self.outage.as_millis() as u64));
        let (begin, found_before) = (Instant::now(), self.found.records);
        while begin.elapsed() < self.outage {
            sleep(TICK).await;
            self.watch()?;
        }
        let leases = self.leases().await?;
        let produced = lock(&self.ledger).len();
        let waiting = produced - self.found.records;
        while self.found.records < produced {
            if begin.elapsed() > self.outage * 2 + CATCH_UP {
                let left = produced - self.found.records;
                self.seen.wrong.push(format!("{what}: {left} of {produced} records not found {CATCH_UP:?} later"));
                break;
            }
            sleep(TICK).await;
            self.watch()?;
        }
        emulator.faults().clear();
        let after = begin.elapsed().saturating_sub(self.outage).as_secs_f64();
        println!("{what} for {:.0} s", self.outage.as_secs_f64());
        println!("{:10} records found meanwhile, {waiting} waiting at its end", produced - waiting - found_before);
        println!("{after:10.1} s until they were found");
        self.memory(what);
        Ok(leases)
    }

    fn memory(&mut self, what: &str) {
        let peak = self.fleet.peak_kib * 1024;
        println!("{:10.1} MB resident at most in a worker so far", peak as f64 / 1e6);
        if peak > (MEMORY_MIB << 20) + BESIDE_BYTES {
            self.seen
                .wrong
                .push(format!("{what}: {peak} bytes resident in a worker, with a budget of {MEMORY_MIB} MiB"));
        }
    }

    async fn s3_away(&mut self) -> io::Result<()> {
        let before = self.leases().await?;
        let during = self.outage("S3 away", Service::S3, Fault::Away).await?;
        let after = self.leases().await?;
        let held = |lease: &Lease| (lease.owner.clone(), lease.tenure.clone());
        let moved = before.iter().filter(|(key, lease)| {
            let same = |leases: &BTreeMap<String, Lease>| leases.get(*key).is_some_and(|now| held(now) == held(lease));
            !same(&during) || !same(&after)
        });
        let moved = moved.count();
        println!("{moved:10} of {} leases changed hands", before.len());
        if moved > 0 {
            self.seen.wrong.push(format!("{moved} leases changed hands while S3 was away"));
        }
        Ok(())
    }

    async fn dynamodb_throttled(&mut self) -> io::Result<()> {
        let before = self.leases().await?;
        self.outage("DynamoDB throttled", Service::DynamoDb, Fault::Throttle).await?;
        let after = self.leases().await?;
        let taken = before.iter().filter(|(key, lease)| after.get(*key).is_some_and(|now| now.tenure != lease.tenure));
        println!("{:10} of {} leases were taken anew", taken.count(), before.len());
        Ok(())
    }

    /// SIGTERM to one of them; when the other first reads each of its shards.
    async fn one_leaves(&mut self, leaving: &str) -> io::Result<()> {
        let leases = self.leases().await?;
        let of_leaving = |(_, lease): &(&String, &Lease)| owned(lease.owner.as_ref(), leaving);
        let shards: Vec<String> = leases.iter().filter(of_leaving).map(|(key, _)| key.clone()).collect();
        let reads: Arc<Mutex<BTreeMap<String, Instant>>> = Arc::default();
        let (noted, name) = (reads.clone(), leaving.to_owned());
        self.endpoints.emulator.faults().set_hook(move |call| {
            if call.operation == "GetRecords" && *call.connection != *name {
                let shard = call.detail.split('/').nth(1).and_then(|rest| rest.split('@').next()).unwrap_or_default();
                let mut reads = noted.lock().unwrap_or_else(PoisonError::into_inner);
                reads.entry(shard.to_owned()).or_insert_with(Instant::now);
            }
            None
        });
        let told = Instant::now();
        self.fleet.stop(leaving);
        match self.fleet.ended(leaving, CATCH_UP).await {
            Some(status) if status.success() => {}
            other => self.seen.wrong.push(format!("{leaving} ended with {other:?} after SIGTERM")),
        }
        let ended = Instant::now();
        sleep(READ_ON).await;
        self.watch()?;
        println!("SIGTERM to one of two workers, with {} shards", shards.len());
        println!("{:10} ms until it had ended", ended.duration_since(told).as_millis());
        let reads = reads.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for shard in &shards {
            let Some(read) = reads.get(shard) else {
                self.seen.wrong.push(format!("{shard} was not read within {READ_ON:?} of the end of {leaving}"));
                continue;
            };
            let after = read.saturating_duration_since(ended).as_millis();
            println!(
                "{:10} ms after SIGTERM {shard} is read by the other, {after} ms after the end",
                read.duration_since(told).as_millis()
            );
        }
        if shards.is_empty() {
            self.seen.wrong.push(format!("{leaving} held nothing when it was told to leave"));
        }
        self.endpoints.emulator.faults().clear();
        Ok(())
    }

    async fn end(mut self, dir: &std::path::Path) -> io::Result<bool> {
        self.seen.seconds = self.begin.elapsed().as_secs_f64();
        self.seen.commits = tables::receipts(&self.endpoints.address).await?.len();
        self.seen.behind = lock(&self.ledger).len() - self.found.records;
        let begin = Instant::now();
        while self.found.records < lock(&self.ledger).len() && begin.elapsed() < CATCH_UP {
            sleep(TICK).await;
            self.watch()?;
        }
        self.seen.drained_seconds = begin.elapsed().as_secs_f64();
        self.seen.wrong.extend(self.fleet.drain(CATCH_UP).await);
        self.seen.stopped_seconds = begin.elapsed().as_secs_f64() - self.seen.drained_seconds;
        self.found.look(&self.endpoints.emulator, &self.ledger);
        let Self { endpoints, fleet, ledger, found, seen, .. } = self;
        let (peak_kib, cpu) = (fleet.peak_kib, fleet.cpu());
        let report = Report { seen, found, struck: BTreeMap::new(), peak_kib, cpu, least: Vec::new() };
        report.tell(&endpoints, &ledger, dir).await
    }
}

/// Whether a lease's owner is this worker: a process adds a ULID to its name.
fn owned(owner: Option<&String>, name: &str) -> bool {
    owner.is_some_and(|owner| owner.starts_with(&format!("{name}-")))
}

/// This process asks without a signature, and is never kept away.
fn of_worker(call: &Call) -> bool {
    call.connection.starts_with("worker-")
}
