//! What a scenario allows, and the names of everything in it: tiny, because states carry them.

use std::collections::BTreeSet;

use standpipe_flow::{
    Checksum, CommitId, DestinationId, Held, LeaseKey, Mode, Output, OutputKind, Position, SequenceNumber, Tenure,
    WorkerId,
};

/// Shards at most.
pub(crate) const SHARDS: usize = 2;
/// Destinations at most.
pub(crate) const DESTINATIONS: usize = 2;
/// Records of a shard at most.
pub(crate) const RECORDS: usize = 3;
/// Outputs of a commit at most.
pub(crate) const OUTPUTS: usize = 2;
/// Workers; the one that drains is a third.
pub(crate) const WORKERS: usize = 2;
/// Processes that one worker's slot may see: each restart is a new one, with a new name.
const PROCESSES: usize = 8;

/// What may still go wrong.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Budget {
    /// Takes, by expiry or theft, at any instant.
    pub takes: u8,
    /// Crashes of a worker.
    pub crashes: u8,
    /// Commits begun.
    pub attempts: u8,
    /// Transactions sent whose answer is unclear or comes twice: a copy stays on its way.
    pub unclear: u8,
    /// Answers that are held back while the world goes on.
    pub late: u8,
    /// Uploads aborted by others.
    pub aborts: u8,
    /// Leases taken by a Java worker.
    pub java: u8,
    /// Leases that Java's leader gives to one of ours, or moves away with `checkpointOwner`.
    pub assigns: u8,
    /// Restarts with another config.
    pub restarts: u8,
    /// Deadlines that pass without anybody else taking the lease.
    pub deadlines: u8,
}

/// One bounded world.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub name: &'static str,
    pub what: &'static str,
    pub shards: usize,
    pub records: u8,
    /// Objects of one commit.
    pub outputs: usize,
    pub destinations: usize,
    /// The destinations that the workers' config begins with, as bits.
    pub config: u8,
    /// Those that a restart may bring.
    pub configs: &'static [u8],
    /// A destination that the config lacks is listed under `retired`.
    pub retire: bool,
    /// Shard 1 is the child of shard 0.
    pub child: bool,
    /// Java deletes the lease of an ended shard, and the sweeper follows.
    pub deletes: bool,
    /// Staging takes time, may fail, and the lease may be lost meanwhile.
    pub staging: bool,
    /// Heartbeats with an old counter may still arrive.
    pub old_heartbeats: bool,
    /// The destinations are idempotent: staging delivers the records of even number, and the others are refused and end
    /// in an error object.
    pub idempotent: bool,
    /// The destinations are declared: as idempotent ones, but that a repeat is one, and must come under the same id.
    pub declared: bool,
    pub budget: Budget,
}

impl Scenario {
    /// One shard, two records, one object a commit, one destination, nothing goes wrong.
    pub(crate) const PLAIN: Self = Self {
        name: "",
        what: "",
        shards: 1,
        records: 2,
        outputs: 1,
        destinations: 1,
        config: 1,
        configs: &[],
        retire: false,
        child: false,
        deletes: false,
        staging: false,
        old_heartbeats: false,
        idempotent: false,
        declared: false,
        budget: Budget {
            takes: 2,
            crashes: 0,
            attempts: 2,
            unclear: 0,
            late: 0,
            aborts: 0,
            java: 0,
            assigns: 0,
            restarts: 0,
            deadlines: 0,
        },
    };
}

/// A scenario with its names.
pub(crate) struct Scene {
    pub scenario: Scenario,
    pub leases: Vec<LeaseKey>,
    pub destinations: Vec<DestinationId>,
    pub java: WorkerId,
    positions: Vec<Position>,
    workers: Vec<WorkerId>,
    sets: Vec<BTreeSet<DestinationId>>,
}

impl Scene {
    pub(crate) fn new(scenario: Scenario) -> Self {
        let destinations: Vec<DestinationId> = ["d", "e"].map(DestinationId::new).to_vec();
        let set =
            |bits: u8| (0..DESTINATIONS).filter(|d| bits & 1 << d != 0).map(|d| destinations[d].clone()).collect();
        let last = scenario.records;
        let position = |n: u8| match n {
            0 => Position::TrimHorizon,
            n if n == last => Position::ShardEnd,
            n => Position::at(SequenceNumber::from(u64::from(n)), 0),
        };
        Self {
            leases: ["0", "1"].map(LeaseKey::new).to_vec(),
            java: WorkerId::new("j"),
            positions: (0..=last).map(position).collect(),
            workers: (0..=WORKERS * PROCESSES).map(|n| WorkerId::new(Self::worker_name(n))).collect(),
            sets: (0..4).map(set).collect(),
            destinations,
            scenario,
        }
    }

    fn worker_name(n: usize) -> String {
        let letter = ["A", "B"].get(n % WORKERS).copied().unwrap_or("A");
        if n / WORKERS == 0 { letter.to_owned() } else { format!("{letter}{}", n / WORKERS) }
    }

    /// The name of a worker's process.
    pub(crate) fn worker(&self, slot: usize, process: u8) -> &WorkerId {
        &self.workers[(slot + usize::from(process) * WORKERS).min(self.workers.len() - 1)]
    }

    /// The destinations of a config, and those it lists as retired.
    pub(crate) fn config(&self, bits: u8) -> (&BTreeSet<DestinationId>, &BTreeSet<DestinationId>) {
        let all = (1u8 << self.scenario.destinations) - 1;
        let retired = if self.scenario.retire { all & !bits } else { 0 };
        (&self.sets[usize::from(bits)], &self.sets[usize::from(retired)])
    }

    pub(crate) fn shards(&self) -> std::ops::Range<usize> {
        0..self.scenario.shards
    }

    pub(crate) fn dests(&self) -> std::ops::Range<usize> {
        0..self.scenario.destinations
    }

    /// The position after `n` records; after the last one it is SHARD_END.
    pub(crate) fn position(&self, n: u8) -> &Position {
        &self.positions[usize::from(n)]
    }

    /// How many records lie before a position.
    pub(crate) fn index(&self, position: &Position) -> u8 {
        self.positions.iter().position(|known| known == position).map_or(0, |n| n as u8)
    }

    pub(crate) fn shard(&self, lease: &LeaseKey) -> usize {
        usize::from(*lease == self.leases[1])
    }

    pub(crate) fn dest(&self, id: &DestinationId) -> usize {
        usize::from(*id == self.destinations[1])
    }

    /// How the destinations are brought to what they promise.
    pub(crate) fn mode(&self) -> Mode {
        match (self.scenario.idempotent, self.scenario.declared) {
            (true, _) => Mode::Idempotent,
            (_, true) => Mode::Declared,
            _ => Mode::Staged,
        }
    }

    /// The object of a record within a commit; `None` if the destination itself takes it.
    pub(crate) fn output_of(&self, record: u8) -> Option<usize> {
        (!self.delivers(record)).then(|| usize::from(record) % self.scenario.outputs)
    }

    /// Whether staging delivers this record.
    pub(crate) fn delivers(&self, record: u8) -> bool {
        (self.scenario.idempotent || self.scenario.declared) && record.is_multiple_of(2)
    }
}

pub(crate) fn cid(n: usize) -> CommitId {
    CommitId([n as u8 + 1; 16])
}

pub(crate) fn cid_index(cid: CommitId) -> usize {
    usize::from(cid.0[0]).saturating_sub(1)
}

pub(crate) fn tenure(n: u8) -> Tenure {
    Tenure([n; 16])
}

/// The `n`th object of a commit.
pub(crate) fn output(n: usize) -> Output {
    Output {
        kind: OutputKind::Data,
        bucket: String::new(),
        key: ["0", "1"][n].to_owned(),
        held: Held::Upload { id: String::new(), parts: Vec::new() },
        size: 1,
        checksum: Checksum::Crc32(String::new()),
        records: 1,
    }
}

pub(crate) fn output_index(output: &Output) -> usize {
    usize::from(output.key == "1")
}
