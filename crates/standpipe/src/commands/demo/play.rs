//! The demo's course: produce, kill a worker at 30% of the time, split a shard at 50%, wait until all is delivered.
//!
//! It watches from outside: rows for what was delivered, the lease table for who reads what.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use standpipe_flow::LeaseKey;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::display::{Display, Moment};
use super::fleet::{Fleet, Leases, listed, short};
use super::producer::{Produced, Progress, produce};
use super::report::cpu_time;
use super::scene::{STREAM, Scene};
use super::target::Target;
use crate::args::Demo;

/// How often it looks.
const TICK: Duration = Duration::from_millis(250);
/// When a worker is killed, of the duration.
const KILL_AT: f64 = 0.3;
/// When a shard is split, of the duration.
const SPLIT_AT: f64 = 0.5;
/// How much longer it produces, at most, if a short duration left no time for both.
const OVERTIME_MAX: Duration = Duration::from_secs(8);
/// How long the rest may take to be delivered: with 20 s of producing, and 10 s of draining, all ends within 60 s.
const REST_MAX: Duration = Duration::from_secs(25);

/// What came of it.
pub struct Played {
    /// Everything that was produced.
    pub produced: Produced,
    /// Leases of the killed worker that others took.
    pub take_overs: u64,
    /// Splits whose children were read.
    pub splits: u64,
    /// From the first record until all were delivered.
    pub took: Duration,
    /// CPU time of the process meanwhile.
    pub cpu: Option<Duration>,
}

/// The demo under way.
pub struct Play<'a> {
    scene: &'a Scene,
    fleet: Option<Fleet>,
    duration: Duration,
    rate: u32,
    begin: Instant,
    /// What people see.
    pub display: Display,
    /// Where it delivers to.
    pub target: Box<dyn Target>,
    killed: Option<Killed>,
    split: Option<Split>,
}

/// The worker that was killed.
struct Killed {
    name: String,
    lost: BTreeSet<LeaseKey>,
    taken: BTreeSet<LeaseKey>,
}

/// The shard that was split.
struct Split {
    parent: String,
    seen: bool,
}

impl<'a> Play<'a> {
    /// Before it begins.
    pub fn new(args: &Demo, scene: &'a Scene, fleet: Fleet, target: Box<dyn Target>) -> Self {
        Self {
            scene,
            fleet: Some(fleet),
            duration: args.duration,
            rate: args.rate,
            begin: Instant::now(),
            display: Display::new(args.duration),
            target,
            killed: None,
            split: None,
        }
    }

    /// Plays until everything is delivered, or `stop` cuts the producing short, or the time for it is over.
    pub async fn perform(&mut self, stop: &CancellationToken) -> Result<Played> {
        self.begin = Instant::now();
        let cpu_before = cpu_time();
        let progress = Arc::new(Progress::default());
        let enough = CancellationToken::new();
        let mut producer = JoinSet::new();
        producer.spawn(produce(self.scene.emulator.clone(), self.rate, progress.clone(), enough.clone()));
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rest_until = None;
        loop {
            ticks.tick().await;
            let elapsed = self.begin.elapsed();
            if rest_until.is_none() && (self.is_over(elapsed) || stop.is_cancelled()) {
                if stop.is_cancelled() {
                    self.display.event(elapsed, "interrupted: delivering what was produced; once more to end at once");
                }
                enough.cancel();
                rest_until = Some(elapsed + REST_MAX);
            }
            if let Some(ended) = producer.try_join_next() {
                let produced = ended.context("the producer broke off")??;
                return self.rest(produced, rest_until.unwrap_or(elapsed), cpu_before).await;
            }
            self.look(progress.records(), rest_until.is_none()).await?;
        }
    }

    /// Whether enough was produced, and all was done to the fleet that is to be done.
    fn is_over(&self, elapsed: Duration) -> bool {
        let all_done = self.killed.is_some() && self.split.is_some();
        elapsed >= self.duration && (all_done || elapsed >= self.duration + OVERTIME_MAX)
    }

    /// Waits until everything is delivered.
    async fn rest(&mut self, produced: Produced, until: Duration, cpu_before: Option<Duration>) -> Result<Played> {
        let records = produced.shard_of.len() as u64;
        while self.look(records, false).await? < records || !self.all_seen() {
            if self.begin.elapsed() >= until {
                self.display.event(self.begin.elapsed(), "gave up waiting for the rest");
                break;
            }
            tokio::time::sleep(TICK).await;
        }
        let cpu = cpu_time().zip(cpu_before).map(|(now, before)| now.saturating_sub(before));
        Ok(Played {
            produced,
            take_overs: self.killed.as_ref().map_or(0, |killed| killed.taken.len() as u64),
            splits: self.split.as_ref().map_or(0, |split| u64::from(split.seen)),
            took: self.begin.elapsed(),
            cpu,
        })
    }

    /// Drains what is left of the fleet.
    pub async fn drain(&mut self) -> Result<()> {
        match self.fleet.take() {
            Some(fleet) => fleet.drain().await,
            None => Ok(()),
        }
    }

    /// Looks at files and leases, does what is due, shows it. Gives the number of delivered rows.
    async fn look(&mut self, produced: u64, producing: bool) -> Result<u64> {
        let delivered = self.target.rows(self.scene).await?;
        let fleet = self.fleet.as_mut().context("the workers are gone")?;
        if let Some(error) = fleet.fallen().await {
            return Err(error);
        }
        let leases = fleet.leases().await;
        let shards = |name: &str| leases.of(name).iter().map(|key| short(key.as_str())).collect();
        let workers = fleet.names().map(|name| (name.to_owned(), shards(name))).collect();
        let elapsed = self.begin.elapsed();
        if producing {
            self.kill_when_due(&leases, elapsed);
            self.split_when_due(&leases, elapsed)?;
        }
        self.watch(&leases, elapsed);
        self.display.show(&Moment { elapsed, produced, delivered, workers });
        Ok(delivered)
    }

    fn kill_when_due(&mut self, leases: &Leases, elapsed: Duration) {
        if self.killed.is_some() || elapsed < self.duration.mul_f64(KILL_AT) {
            return;
        }
        // If none of the others holds a lease yet, it waits until one does: there would be nothing to take over.
        let Some(name) = self.fleet.as_mut().and_then(|fleet| fleet.kill(leases)) else { return };
        let lost = leases.of(&name);
        let shards = listed(&lost.iter().map(|key| short(key.as_str())).collect::<Vec<_>>());
        self.display.event(elapsed, &format!("{name} was killed while it held {shards}"));
        self.killed = Some(Killed { name, lost, taken: BTreeSet::new() });
    }

    fn split_when_due(&mut self, leases: &Leases, elapsed: Duration) -> Result<()> {
        if self.split.is_some() || elapsed < self.duration.mul_f64(SPLIT_AT) {
            return Ok(());
        }
        let open = self.scene.emulator.open_shards(STREAM).context("cannot list the shards")?;
        // One that somebody alive reads, so that the split does not wait for the take-over.
        let alive: Vec<_> = self.fleet.iter().flat_map(Fleet::names).flat_map(|name| leases.of(name)).collect();
        let read = open.iter().find(|id| alive.contains(&LeaseKey::new(id.as_str())));
        let parent = read.or(open.first()).ok_or_else(|| anyhow!("there is no open shard to split"))?.clone();
        self.scene.emulator.split_shard(STREAM, &parent).context("cannot split a shard")?;
        self.display.event(elapsed, &format!("shard {} was split in two", short(&parent)));
        self.split = Some(Split { parent, seen: false });
        Ok(())
    }

    /// Sees take-overs, and the children of the split.
    fn watch(&mut self, leases: &Leases, elapsed: Duration) {
        if let Some(killed) = &mut self.killed {
            for (key, by) in leases.taken_over(&killed.lost, &killed.name) {
                if killed.taken.insert(key.clone()) {
                    self.display.event(elapsed, &format!("{by} took over shard {}", short(key.as_str())));
                }
            }
        }
        if let Some(split) = &mut self.split
            && !split.seen
            && leases.children_read(&split.parent) > 0
        {
            split.seen = true;
            self.display.event(elapsed, &format!("shard {} is finished, its children are read", short(&split.parent)));
        }
    }

    /// Whether everything that was done to the fleet has been answered by it.
    fn all_seen(&self) -> bool {
        let taken = self.killed.as_ref().is_none_or(|killed| killed.taken.len() == killed.lost.len());
        taken && self.split.as_ref().is_none_or(|split| split.seen)
    }
}
