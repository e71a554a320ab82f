//! The demo's workers: real worker loops, each on threads of its own, so that one can be killed without any farewell;
//! and the lease table as anybody may read it, which shows take-overs and splits.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use anyhow::{Context, Result, anyhow};
use standpipe_config::Config;
use standpipe_config::config::Aws;
use standpipe_flow::{LeaseKey, LeaseRow};
use standpipe_lease::{Dynamo, LeaseTable, Rows};
use standpipe_worker::{Ending, Options, Platform, WorkerError};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::scene::{FAILOVER, Scene};
use crate::commands::version::VERSION;

/// One worker.
struct Worker {
    name: String,
    stop: CancellationToken,
    task: JoinHandle<Result<Ending, WorkerError>>,
    /// Its threads; gone with it.
    threads: Threads,
}

/// The threads of one worker. Dropped, they stop where they are, and nobody waits for them.
struct Threads(Option<Runtime>);

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// All workers that were started.
pub struct Fleet {
    workers: Vec<Worker>,
    table: LeaseTable,
}

impl Fleet {
    /// Starts so many workers; the first serves health and metrics at `http`.
    pub async fn start(scene: &Scene, workers: u16, http: Option<SocketAddr>) -> Result<Self> {
        let mut fleet = Vec::new();
        for number in 1..=workers {
            let mut config = scene.config.clone();
            config.http = http.filter(|_| number == 1);
            fleet.push(Worker::start(config, format!("worker-{number}"), scene.url.clone())?);
        }
        let sdk = standpipe_worker::platform::embedded(None, &scene.url);
        let table = LeaseTable::new(Dynamo::new(&sdk, FAILOVER), &scene.config.pipelines[0].lease.table);
        Ok(Self { workers: fleet, table })
    }

    /// The leases as they are now; none before the first worker has made the table.
    pub async fn leases(&self) -> Leases {
        match self.table.scan().await {
            Ok(Rows { leases, .. }) => Leases(leases),
            Err(error) => {
                tracing::debug!(%error, "the lease table was not read");
                Leases::default()
            }
        }
    }

    /// The names of the workers that are there.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.workers.iter().map(|worker| worker.name.as_str())
    }

    /// The name of a worker that ended by itself, with the reason.
    pub async fn fallen(&mut self) -> Option<anyhow::Error> {
        let place = self.workers.iter().position(|worker| worker.task.is_finished())?;
        let worker = self.workers.remove(place);
        Some(match worker.end().await {
            (name, Ok(ending)) => anyhow!("{name} ended before it was told to: {ending:?}"),
            (name, Err(error)) => error.context(format!("{name} ended before it was told to")),
        })
    }

    /// Kills one worker that holds leases: its threads stop where they are. Gives its name; none if all leases are with
    /// nobody.
    pub fn kill(&mut self, leases: &Leases) -> Option<String> {
        let mut places: Vec<usize> = (0..self.workers.len()).collect();
        // The first worker serves the metrics; it is the last choice.
        places.sort_by_key(|place| (*place == 0, *place));
        let place = places.into_iter().find(|place| !leases.of(&self.workers[*place].name).is_empty())?;
        let worker = self.workers.remove(place);
        drop(worker.threads);
        Some(worker.name)
    }

    /// Tells every worker to drain, and waits for all of them.
    pub async fn drain(self) -> Result<()> {
        for worker in &self.workers {
            worker.stop.cancel();
        }
        let mut first = Ok(());
        for worker in self.workers {
            let ended = match worker.end().await {
                (_, Ok(Ending::Drained | Ending::CaughtUp)) => Ok(()),
                (name, Ok(Ending::DrainUnfinished)) => Err(anyhow!("{name} did not finish its drain in time")),
                (name, Err(error)) => Err(error.context(format!("{name} failed"))),
            };
            first = first.and(ended);
        }
        first
    }
}

impl Worker {
    fn start(mut config: Config, name: String, url: String) -> Result<Self> {
        config.worker.id = Some(name.clone());
        let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = threads.context("cannot start threads")?;
        let stop = CancellationToken::new();
        let told = stop.clone();
        let task = runtime.spawn(async move {
            let options = Options {
                pipelines: Vec::new(),
                until_caught_up: false,
                adopt_destinations: false,
                version: VERSION.to_owned(),
            };
            let platform = platform(&url).await;
            standpipe_worker::run(&config, &options, platform, told).await
        });
        Ok(Self { name, stop, task, threads: Threads(Some(runtime)) })
    }

    /// Waits for its end.
    async fn end(self) -> (String, Result<Ending>) {
        let ended = match self.task.await {
            Ok(ended) => ended.map_err(anyhow::Error::from),
            Err(error) => Err(anyhow!("its task broke off: {error}")),
        };
        drop(self.threads);
        (self.name, ended)
    }
}

/// The system's platform, at the embedded endpoints whatever this machine's environment says.
pub async fn platform(url: &str) -> Platform {
    let sdk = standpipe_worker::platform::embedded(None, url);
    Platform { sdk, ..Platform::system(&Aws::default()).await }
}

/// The leases at one moment.
#[derive(Debug, Default)]
pub struct Leases(BTreeMap<LeaseKey, LeaseRow>);

impl Leases {
    /// The open leases of a worker.
    pub fn of(&self, worker: &str) -> BTreeSet<LeaseKey> {
        let own = self.0.values().filter(|row| !row.ended() && owner(row) == Some(worker));
        own.map(|row| row.key.clone()).collect()
    }

    /// Those of the leases that another worker holds by now, with its name.
    pub fn taken_over(&self, lost: &BTreeSet<LeaseKey>, from: &str) -> BTreeMap<LeaseKey, String> {
        let rows = lost.iter().filter_map(|key| self.0.get(key));
        let taken = rows.filter_map(|row| Some((row.key.clone(), owner(row)?.to_owned())));
        taken.filter(|(_, owner)| owner != from).collect()
    }

    /// The children of a shard that somebody reads, which needs the parent to be finished.
    pub fn children_read(&self, parent: &str) -> usize {
        let child = |row: &&LeaseRow| row.parents.iter().any(|id| id.as_str() == parent) && row.owner.is_some();
        if self.0.get(&LeaseKey::new(parent)).is_some_and(LeaseRow::ended) {
            self.0.values().filter(child).count()
        } else {
            0
        }
    }
}

/// The name that the demo gave to the owner: a process adds a ULID to it, new for every start.
fn owner(row: &LeaseRow) -> Option<&str> {
    /// Characters of a ULID, with the hyphen before it.
    const SUFFIX_CHARS: usize = 27;
    let id = row.owner.as_ref()?.as_str();
    let name = id.len().checked_sub(SUFFIX_CHARS).and_then(|end| id.split_at_checked(end));
    Some(name.filter(|(_, suffix)| suffix.starts_with('-')).map_or(id, |(name, _)| name))
}

/// Shards by their numbers, for people: `shard 0`, `shards 0, 1 and 2`.
pub fn listed(numbers: &[String]) -> String {
    match numbers {
        [] => "no shard".to_owned(),
        [one] => format!("shard {one}"),
        [first @ .., last] => format!("shards {} and {last}", first.join(", ")),
    }
}

/// The number at the end of a shard's id, for people.
pub fn short(shard: &str) -> String {
    shard
        .rsplit('-')
        .next()
        .and_then(|number| number.parse::<u64>().ok())
        .map_or_else(|| shard.to_owned(), |n| n.to_string())
}

#[cfg(test)]
mod tests {
    use standpipe_flow::{Position, ShardId, WorkerId};

    use super::*;

    fn row(key: &str, owner: Option<&str>, parents: &[&str]) -> (LeaseKey, LeaseRow) {
        let mut row = LeaseRow::new(LeaseKey::new(key));
        row.owner = owner.map(WorkerId::new);
        row.parents = parents.iter().map(|id| ShardId::new(*id)).collect();
        (row.key.clone(), row)
    }

    #[test]
    fn a_take_over_is_a_lease_of_the_dead_that_another_holds() {
        let before = Leases([row("a", Some("w2"), &[]), row("b", Some("w1"), &[]), row("c", Some("w2"), &[])].into());
        let lost = before.of("w2");
        assert_eq!(lost.len(), 2);
        assert!(before.taken_over(&lost, "w2").is_empty());
        let after = Leases([row("a", Some("w3"), &[]), row("b", Some("w1"), &[]), row("c", None, &[])].into());
        assert_eq!(after.taken_over(&lost, "w2"), [(LeaseKey::new("a"), "w3".to_owned())].into());
    }

    #[test]
    fn a_split_is_seen_when_the_parent_is_done_and_its_children_are_read() {
        let mut leases =
            Leases([row("p", Some("w1"), &[]), row("x", Some("w1"), &["p"]), row("y", None, &["p"])].into());
        assert_eq!(leases.children_read("p"), 0);
        leases.0.get_mut(&LeaseKey::new("p")).expect("it is there").checkpoint = Position::ShardEnd;
        assert_eq!(leases.children_read("p"), 1);
    }

    #[test]
    fn the_owner_goes_by_the_name_the_demo_gave() {
        let of = |id| owner(&row("a", Some(id), &[]).1).map(str::to_owned);
        assert_eq!(of("worker-2-01M8A48HQ8QJ16XCPGNXWS9SK9").as_deref(), Some("worker-2"));
        assert_eq!(of("worker-2").as_deref(), Some("worker-2"));
    }

    #[test]
    fn shards_are_short_for_people() {
        assert_eq!(short("shardId-000000000012"), "12");
        assert_eq!(short("odd"), "odd");
    }
}
