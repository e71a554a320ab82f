//! Several destinations of one read: each gets every record once, in order, at its own pace; one that is down does not
//! hold up the others; those that come and go leave the positions of the others alone.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use standpipe_config::Config;
use standpipe_emulator::{Emulator, Fault, Options as EmulatorOptions, Rule, Service};
use standpipe_flow::{Clock, LeaseRow};
use standpipe_lease::{Dynamo, LeaseTable};
use standpipe_tests::simulation::{Dice, Inline, SimClock, SimRandom};
use standpipe_worker::{Ending, Options, Platform, SharedMetrics, WorkerError, platform};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

const STREAM: &str = "events";
const TABLE: &str = "standpipe-several";
const SECOND: Duration = Duration::from_secs(1);

/// A destination: its id, and its interval in seconds.
type To = (&'static str, u64);

/// The bucket of a destination.
fn lake(id: &str) -> String {
    format!("lake-{id}")
}

struct World {
    emulator: Arc<Emulator>,
    clock: Arc<SimClock>,
    metrics: SharedMetrics,
    workers: JoinSet<Result<Ending, WorkerError>>,
    stop: CancellationToken,
    produced: usize,
    /// Bytes that each record has beside its number.
    pad: usize,
    /// What a run says of the pipeline beside its destinations.
    more: &'static str,
}

impl World {
    fn new(shards: usize) -> Self {
        let clock = Arc::new(SimClock::start());
        let of_emulator = clock.clone();
        let mut options = EmulatorOptions::new(Arc::new(move || of_emulator.wall().0));
        options.trace = true;
        let emulator = Emulator::new(options).expect("an emulator in memory opens");
        emulator.create_stream(STREAM, shards).expect("a new stream");
        for bucket in ["a", "b", "c"] {
            emulator.create_bucket(&lake(bucket)).expect("a bucket in memory");
        }
        let (workers, stop, metrics) = (JoinSet::new(), CancellationToken::new(), SharedMetrics::new());
        Self { emulator, clock, metrics, workers, stop, produced: 0, pad: 20, more: "" }
    }

    fn config(&self, destinations: &[To]) -> Config {
        let mut text = format!(
            "version: 1\nhttp: \"off\"\nworker: {{ memory: 64MiB, shutdown_grace: 60s }}\npipelines:\n  several:\n    lease: {{ table: {TABLE}, failover: 5s }}\n    source: {{ kinesis: {{ stream: {STREAM}, start: trim_horizon, poll: 1s }} }}\n{}    destinations:\n",
            self.more
        );
        for (id, interval) in destinations {
            let _ = writeln!(
                text,
                "      - s3: {{ id: {id}, bucket: lake-{id}, buffer: {{ size: 5MiB, interval: {interval}s }} }}"
            );
        }
        let checks = standpipe_config::Unchecked;
        match standpipe_config::parse("several.yaml", &text, &|_| None, &checks) {
            Ok(config) => config,
            Err(errors) => panic!("the config is refused:\n{}", errors.render(false)),
        }
    }

    fn start(&mut self, name: &str, destinations: &[To]) -> AbortHandle {
        let platform = Platform {
            sdk: platform::embedded(Some(self.emulator.connect(name).http_client()), "http://127.0.0.1:4600"),
            clock: self.clock.clone(),
            random: Arc::new(SimRandom::new(name.len() as u64 + self.produced as u64)),
            offload: Arc::new(Inline),
            heartbeats: None,
            outside: Default::default(),
            metrics: self.metrics.clone(),
        };
        let mut config = self.config(destinations);
        config.worker.id = Some(name.to_owned());
        let (options, stop) = (Options { version: "test".into(), ..Options::default() }, self.stop.clone());
        self.workers.spawn(async move { standpipe_worker::run(&config, &options, platform, stop).await })
    }

    fn produce(&mut self, records: usize) {
        let pad = "x".repeat(self.pad);
        let record = |number: usize| (format!("key-{number}"), Bytes::from(format!("{number} {pad}")));
        let records: Vec<(String, Bytes)> = (self.produced..self.produced + records).map(record).collect();
        self.produced += records.len();
        self.emulator.put_records(STREAM, &records).expect("the stream takes it");
    }

    /// 40 records each second until this holds. Whether it did, within so many seconds.
    async fn produce_until(&mut self, seconds: u64, holds: impl Fn(&Self) -> bool) -> bool {
        for _ in 0..seconds {
            self.produce(40);
            sleep(SECOND).await;
            if holds(self) {
                return true;
            }
        }
        false
    }

    async fn rows(&self) -> BTreeMap<standpipe_flow::LeaseKey, LeaseRow> {
        let sdk = platform::embedded(Some(self.emulator.connect("observer").http_client()), "http://127.0.0.1:4600");
        LeaseTable::new(Dynamo::new(&sdk, 5 * SECOND), TABLE).scan().await.expect("the table").leases
    }

    /// How often each number was delivered to a bucket.
    fn delivered(&self, bucket: &str) -> BTreeMap<usize, usize> {
        let mut found = BTreeMap::new();
        let bucket = lake(bucket);
        for object in self.emulator.objects(&bucket) {
            let body = self.emulator.object(&bucket, &object.key).expect("it was just listed");
            for line in String::from_utf8_lossy(&body).lines() {
                let number = line.split(' ').next().and_then(|number| number.parse().ok()).expect("a number");
                *found.entry(number).or_default() += 1;
            }
        }
        found
    }

    fn count(&self, bucket: &str) -> usize {
        self.delivered(bucket).len()
    }

    /// The value of a series; nothing if it is not there.
    fn metric(&self, name: &str, labelled: &str) -> f64 {
        let text = self.metrics.encode();
        let of = |line: &&str| line.starts_with(name) && line.contains(labelled);
        text.lines().filter(of).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Everybody stops in order.
    async fn drain(&mut self) {
        self.stop.cancel();
        while let Some(ended) = self.workers.join_next().await {
            assert!(
                matches!(ended, Ok(Ok(Ending::Drained))) || ended.as_ref().is_err_and(|e| e.is_cancelled()),
                "{ended:?}"
            );
        }
        self.stop = CancellationToken::new();
        assert_eq!(self.metric("standpipe_invariant_violations_total{", ""), 0.0);
    }

    /// A bucket has these numbers, each once.
    fn has_once(&self, bucket: &str, numbers: impl IntoIterator<Item = usize>) {
        let found = self.delivered(bucket);
        let twice: Vec<_> = found.iter().filter(|(_, times)| **times > 1).take(5).collect();
        assert!(twice.is_empty(), "{bucket}: there twice {twice:?}");
        let wanted: Vec<usize> = numbers.into_iter().collect();
        let lost: Vec<_> = wanted.iter().filter(|number| !found.contains_key(number)).take(5).collect();
        assert!(lost.is_empty(), "{bucket}: lost {lost:?}");
        assert_eq!(found.len(), wanted.len(), "{bucket}: more than it should have");
    }
}

#[tokio::test(start_paused = true)]
async fn one_read_feeds_three_destinations_each_at_its_own_pace() {
    let mut world = World::new(2);
    let to = [("a", 2), ("b", 10), ("c", 60)];
    world.start("lone", &to);
    for _ in 0..45 {
        world.produce(20);
        sleep(SECOND).await;
    }
    assert_eq!(world.metric("standpipe_source_shards{", "polling"), 2.0, "one reader a shard");
    assert!(world.count("a") >= 41 * 20 && world.count("b") >= 30 * 20 && world.count("c") == 0);
    world.drain().await;
    for (bucket, _) in to {
        world.has_once(bucket, 0..world.produced);
    }
    println!("objects of 45 s: a {}, b {}, c {}", objects(&world, "a"), objects(&world, "b"), objects(&world, "c"));
    assert!(objects(&world, "a") > objects(&world, "b") && objects(&world, "b") > objects(&world, "c"));
    for row in world.rows().await.values() {
        assert_eq!(row.destinations.len(), 3);
        assert!(row.destinations.values().all(|position| position.at == row.checkpoint && position.pending.is_none()));
    }
}

fn objects(world: &World, bucket: &str) -> usize {
    world.emulator.objects(&lake(bucket)).len()
}

/// Nothing can be written to a bucket.
fn down(world: &World, id: &str) {
    let bucket = lake(id);
    let rule = Rule::new(Service::S3, Fault::InternalError).when(move |call| call.detail.contains(&bucket));
    world.emulator.faults().add(rule.times(u32::MAX));
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_is_down_for_ten_minutes_does_not_hold_up_the_other_and_catches_up() {
    let mut world = World::new(2);
    world.pad = 10_000;
    let to = [("a", 10), ("b", 10)];
    world.start("lone", &to);
    let mut before = Vec::new();
    let (mut worst, mut detached, mut most) = (0, false, 0.0_f64);
    for second in 0..640 {
        if second == 20 {
            down(&world, "b");
        }
        world.produce(20);
        before.push(world.produced);
        sleep(SECOND).await;
        detached |= world.metric("standpipe_destination_detached{", "destination=\"b\"") > 0.0;
        most = most.max(world.metric("standpipe_memory_used_bytes", ""));
        // The age of the oldest record that is not there yet.
        if second % 7 == 0 {
            let there = world.count("a");
            let age = second + 1 - before.iter().take_while(|produced| **produced <= there).count();
            worst = worst.max(age);
        }
        if second == 620 {
            world.emulator.faults().clear();
        }
    }
    println!(
        "b was down for 600 s; the oldest record that a lacked was at most {worst} s old, with an interval of 10 s"
    );
    println!("memory used: at most {:.1} of 64 MiB, with {} MB of records", most / 1e6, world.produced / 100);
    assert!(detached, "b had more than its part of the memory");
    assert!(worst <= 14, "{worst}: a is held up");
    assert_eq!(world.metric("standpipe_destination_detached{", "destination=\"a\""), 0.0);
    for _ in 0..300 {
        sleep(SECOND).await;
        if world.count("b") == world.produced && world.metric("standpipe_source_shards{", "polling") == 2.0 {
            break;
        }
    }
    assert_eq!(world.metric("standpipe_destination_detached{", "destination=\"b\""), 0.0);
    assert_eq!(world.metric("standpipe_source_shards{", "polling"), 2.0, "one reader a shard again");
    world.drain().await;
    world.has_once("a", 0..world.produced);
    world.has_once("b", 0..world.produced);
}

/// One worker dies while a destination is detached, the next one too, and a third while what was missed is read again.
#[tokio::test(start_paused = true)]
async fn workers_that_are_killed_while_a_destination_is_detached_lose_and_repeat_nothing() {
    let mut world = World::new(2);
    world.pad = 10_000;
    let to = [("a", 5), ("b", 5)];
    let detached = |world: &World| world.metric("standpipe_destination_detached{", "destination=\"b\"") > 0.0;
    for name in ["first", "second", "third"] {
        let worker = world.start(name, &to);
        assert!(world.produce_until(60, |world| world.count("b") > 0).await, "{name}: b is there");
        down(&world, "b");
        assert!(world.produce_until(240, detached).await, "{name}: b had more than its part of the memory");
        let at_once = |world: &World| detached(world) && world.count("a") + 500 > world.produced;
        assert!(world.produce_until(60, at_once).await, "{name}: b alone is held up");
        let missed = world.produced - world.count("b");
        println!("{name}: of {} records a has {}, b lacks {missed}", world.produced, world.count("a"));
        assert!(missed > 1_000, "{name}: {missed}");
        if name == "third" {
            let there = world.count("b");
            world.emulator.faults().clear();
            let goes_on = |world: &World| !detached(world) && world.count("b") > there;
            assert!(world.produce_until(60, goes_on).await, "it comes back");
            assert!(world.count("b") + 1_000 < world.produced, "it has not caught up");
        }
        worker.abort();
        assert_eq!(world.metric("standpipe_invariant_violations_total{", ""), 0.0);
        world.metrics = SharedMetrics::new();
        world.emulator.faults().clear();
    }
    world.start("fourth", &to);
    let all_there = |world: &World| world.count("a").min(world.count("b")) == world.produced;
    for _ in 0..300 {
        sleep(SECOND).await;
        if all_there(&world) {
            break;
        }
    }
    world.drain().await;
    world.has_once("a", 0..world.produced);
    world.has_once("b", 0..world.produced);
}

#[tokio::test(start_paused = true)]
async fn with_stop_the_others_wait_for_a_destination_that_is_down() {
    let mut world = World::new(1);
    (world.pad, world.more) = (10_000, "    on_destination_failure: stop\n");
    let to = [("a", 10), ("b", 10)];
    world.start("lone", &to);
    sleep(5 * SECOND).await;
    down(&world, "b");
    for _ in 0..150 {
        world.produce(60);
        sleep(SECOND).await;
    }
    let (there, produced) = (world.count("a"), world.produced);
    assert!(there < produced - 500, "{there} of {produced}: reading stops");
    assert_eq!(world.metric("standpipe_destination_detaches_total{", ""), 0.0);
    world.emulator.faults().clear();
    for _ in 0..240 {
        sleep(SECOND).await;
        if world.count("a").min(world.count("b")) == produced {
            break;
        }
    }
    world.drain().await;
    world.has_once("a", 0..produced);
    world.has_once("b", 0..produced);
}

/// Workers are killed and join, the stream is resharded, a destination is away now and then.
async fn storm(seed: u64) {
    let mut dice = Dice::new(seed);
    let mut world = World::new(dice.within(1, 3) as usize);
    let all = [("a", dice.within(1, 4)), ("b", dice.within(2, 9)), ("c", dice.within(1, 20))];
    let to = &all[..dice.within(2, 3) as usize];
    let mut living = vec![world.start("worker-0", to), world.start("worker-1", to)];
    let mut events = [0; 4];
    for born in 2..80 {
        world.produce(dice.within(0, 30) as usize);
        sleep(Duration::from_millis(dice.within(200, 1500))).await;
        if dice.percent(10) {
            let killed = dice.within(0, living.len() as u64 - 1) as usize;
            living.swap_remove(killed).abort();
            events[0] += 1;
        }
        if living.len() < 2 || (living.len() < 4 && dice.percent(8)) {
            living.push(world.start(&format!("worker-{born}"), to));
            events[1] += 1;
        }
        let open = world.emulator.open_shards(STREAM).expect("the stream is there");
        if dice.percent(8) && open.len() < 5 {
            world
                .emulator
                .split_shard(STREAM, &open[dice.within(0, open.len() as u64 - 1) as usize])
                .expect("it splits");
            events[2] += 1;
        }
        if dice.percent(10) {
            let (now, bucket) = (world.clock.wall().0, lake(to[dice.within(0, to.len() as u64 - 1) as usize].0));
            let rule = Rule::new(Service::S3, Fault::InternalError).when(move |call| call.detail.contains(&bucket));
            world.emulator.faults().add(rule.between(now, now + dice.within(500, 12_000)));
            events[3] += 1;
        }
    }
    for _ in 0..90 {
        sleep(SECOND).await;
        if to.iter().all(|(bucket, _)| world.count(bucket) == world.produced) {
            break;
        }
    }
    world.drain().await;
    let [kills, starts, splits, away] = events;
    println!(
        "seed {seed}: {} records to {} destinations; {kills} kills, {starts} starts, {splits} splits, {away} times one was away",
        world.produced,
        to.len()
    );
    for (bucket, _) in to {
        world.has_once(bucket, 0..world.produced);
    }
    for row in world.rows().await.values() {
        let smallest = row.destinations.values().map(|position| &position.at).min();
        assert_eq!(smallest, Some(&row.checkpoint), "{}", row.key);
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_each_destination_has_every_record_once() {
    for seed in 1..=4 {
        storm(seed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn destinations_that_come_and_go_leave_the_positions_of_the_others_alone() {
    let mut world = World::new(2);
    let (a, b, c) = (("a", 3), ("b", 3), ("c", 3));
    let mut ends = Vec::new();
    let retired = "    retired: [b]\n";
    let runs: [(&[To], &str); 5] = [(&[a, b], ""), (&[a], ""), (&[a, b], ""), (&[a], retired), (&[a, b, c], "")];
    for (number, (to, more)) in runs.into_iter().enumerate() {
        world.more = more;
        world.start(&format!("run-{number}"), to);
        sleep(10 * SECOND).await;
        for _ in 0..10 {
            world.produce(10);
            sleep(SECOND).await;
        }
        let held_back = world.metric("standpipe_checkpoint_held_back{", "");
        assert_eq!(held_back, if number == 1 { 2.0 } else { 0.0 }, "run {number}: b is missed until it is retired");
        world.drain().await;
        ends.push(world.produced);
        let rows = world.rows().await;
        let at = |row: &LeaseRow, id: &str| row.destinations[&standpipe_flow::DestinationId::new(id)].at.clone();
        for row in rows.values() {
            let checkpoint = if number == 1 { at(row, "b") } else { at(row, "a") };
            assert_eq!(row.checkpoint, checkpoint, "run {number}");
        }
    }
    world.has_once("a", 0..ends[4]);
    // It came back once to what it had missed, and once, after it was retired, to what came from then on.
    world.has_once("b", (0..ends[2]).chain(ends[3]..ends[4]));
    world.has_once("c", ends[3]..ends[4]);
}
