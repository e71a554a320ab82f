//! What kind of run a seed is: the stream, the config, who starts when, and what the run has beside the scattered faults.
//!
//! A new switch is a field of [`Scene`] drawn in [`Scene::draw`] (at the end of it, by `later`: the draws of the run stay what
//! they were, so that a seed which has not the switch is the run that it was) and, where it is one of the config, a part of
//! [`Scene::config`].

use standpipe_config::Config;

use super::Dice;
use super::world::{BUCKETS, STREAM, TABLE};

/// The switches of a run.
#[derive(Debug, Clone)]
pub(super) struct Scene {
    /// Open shards at the beginning.
    pub shards: u64,
    /// Workers that should be there.
    pub workers: u64,
    /// Failover time, seconds.
    pub failover: u64,
    /// Buffer interval, seconds; half of the workers that start later have another one.
    pub interval: u64,
    /// Buffer size, MiB.
    pub size: u64,
    /// Of a hundred steps, those on which something goes wrong.
    pub mischief: u64,
    /// Of a hundred steps, those on which the stream is resharded.
    pub reshards: u64,
    /// Rounds of records and reshards before anybody is there.
    pub history: u64,
    /// `start: latest`; the first records come when the leases are there.
    pub latest: bool,
    /// Somebody reads objects and deletes them at once.
    pub consumer: bool,
    /// Everybody is away for longer than the stream keeps records; with `true` the open uploads are gone too.
    pub fleet_down: Option<bool>,
    /// `lease.heartbeat: per_worker`.
    pub cheap: bool,
    /// `read: enhanced_fan_out`.
    pub fan_out: bool,
    /// Some records come in aggregates of the KPL, which are taken apart.
    pub kpl: bool,
    /// What goes up takes long to arrive, so that an upload may be gone by then.
    pub slow_parts: bool,
    /// What is committed mostly stays unpublished for a while: a successor publishes it.
    pub slow_publication: bool,
    /// Destinations, each with a bucket of its own.
    pub destinations: usize,
    /// Many partitions, whose small objects are staged together and put (`partitions.publish: put`).
    pub put: bool,
}

/// Partitions of a run that has some: more than are staged one by one.
const PARTITIONS: u64 = 30;

impl Scene {
    pub(super) fn draw(dice: &mut Dice, later: &mut Dice) -> Self {
        let shards = if dice.percent(2) { dice.within(33, 40) } else { dice.within(1, 5) };
        let history = if dice.percent(25) { dice.within(1, 4) } else { 0 };
        let latest = history == 0 && dice.percent(12);
        let many = shards > 32;
        let (destinations, put) = (if later.percent(25) { later.within(2, 3) as usize } else { 1 }, later.percent(20));
        Self {
            shards,
            workers: dice.within(2, 4),
            failover: dice.within(2, 5),
            interval: dice.within(1, 4),
            size: dice.within(1, 3),
            mischief: dice.within(3, 16),
            reshards: if many { 0 } else { dice.within(3, 12) },
            history,
            latest,
            consumer: dice.percent(16),
            // A commit of many outputs, of which some are visible and the uploads of others gone, is the first ring's.
            fleet_down: dice.percent(7).then(|| dice.percent(50) && !put),
            cheap: dice.percent(25),
            fan_out: dice.percent(20),
            kpl: dice.percent(30),
            slow_parts: dice.percent(15),
            slow_publication: dice.percent(15),
            destinations,
            put,
        }
    }

    /// The buckets of the destinations; each is named as its destination.
    pub(super) fn buckets(&self) -> &'static [&'static str] {
        &BUCKETS[..self.destinations]
    }

    /// The config of a worker, with this buffer interval.
    pub(super) fn config(&self, interval: u64) -> Config {
        let Self { failover, .. } = self;
        let heartbeat = if self.cheap { "per_worker" } else { "per_lease" };
        let start = if self.latest { "latest" } else { "trim_horizon" };
        let deaggregate = if self.kpl { "kpl" } else { "none" };
        let read = if self.fan_out { "enhanced_fan_out" } else { "polling" };
        let text = format!(
            "version: 1\nhttp: \"off\"\nworker: {{ memory: 64MiB, shutdown_grace: 40s }}\npipelines:\n  sim:\n    \
             lease: {{ table: {TABLE}, failover: {failover}s, heartbeat: {heartbeat} }}\n    \
             source: {{ kinesis: {{ stream: {STREAM}, start: {start}, read: {read}, \
             deaggregate: {deaggregate} }} }}\n    destinations:\n"
        );
        let destinations = (0..).zip(self.buckets()).map(|(n, bucket)| self.destination(bucket, interval + 3 * n));
        let text = text + &destinations.collect::<String>();
        let checks = standpipe_config::Unchecked;
        match standpipe_config::parse("simulation.yaml", &text, &|_| None, &checks) {
            Ok(config) => config,
            Err(errors) => panic!("the simulation's config is refused:\n{}", errors.render(false)),
        }
    }

    fn destination(&self, bucket: &str, interval: u64) -> String {
        let size = self.size;
        let objects = if self.put {
            format!(
                "prefix: \"out/!{{partitionKeyFromQuery:p}}/\", error_prefix: \"errors/\", \
                 partition_by: {{ p: \".id % {PARTITIONS}\" }}, partitions: {{ publish: put }}"
            )
        } else {
            "prefix: \"out/\"".to_owned()
        };
        format!(
            "      - s3: {{ id: {bucket}, bucket: {bucket}, {objects}, \
             buffer: {{ size: {size}MiB, interval: {interval}s }} }}\n"
        )
    }
}
