//! One worker process: the real delivery loop, real reading tasks over scripted readers, scripted leases around them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use standpipe_flow::{
    BatchLimits, Clock, DestinationId, Fence, Holdings, LeaseKey, LeaseRow, Mode, Position, Random, Tenure, WorkerId,
};
use standpipe_pipeline::budget::Budget;
use standpipe_pipeline::deliver::{Delivery, Notice, Order};
use standpipe_pipeline::feed::{Feeds, Outlet, Subscriber};
use standpipe_pipeline::metrics::{At, Metrics};
use standpipe_pipeline::progress::Progress;
use standpipe_pipeline::shard::{self, ReadContext, ReadEnd, Reading};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep};

use super::destination::ScriptedDestination;
use super::leases::{Leases, Lost, Seen};
use super::log::ScriptedLog;
use super::reader::ScriptedReader;
use super::wire::Wire;
use crate::simulation::{Dice, SimClock, SimRandom};

/// What all workers of a run share.
pub struct Common {
    pub wire: Arc<Wire>,
    pub start: Instant,
    pub destination: DestinationId,
    pub limits: BatchLimits,
    pub failover: Duration,
    pub memory_bytes: u64,
    pub metrics: Metrics,
    /// Of a thousand: slow, failing and refused stagings.
    pub staging: (u64, u64, u64),
    pub two: bool,
    pub mode: Mode,
}

impl Common {
    pub fn at(&self) -> At {
        At { pipeline: "sim".into(), destination: self.destination.to_string() }
    }

    fn scripted(&self) -> ScriptedDestination {
        let (slow, failing, refusing) = self.staging;
        let (wire, limits, two, mode) = (self.wire.clone(), self.limits, self.two, self.mode);
        ScriptedDestination { wire, limits, slow, failing, refusing, two, mode }
    }
}

/// What the world makes a worker do.
pub enum Command {
    Steal(LeaseKey),
    HandOver(LeaseKey),
    Freeze(Duration),
    /// Deliver what was read, release, end.
    Stop,
}

/// A worker process; dropped, it is killed.
pub struct Process {
    pub tasks: JoinSet<()>,
    pub commands: mpsc::UnboundedSender<Command>,
    pub budget: Arc<Budget>,
}

impl Process {
    pub fn start(common: &Arc<Common>, number: u64, dice: &mut Dice) -> Self {
        let worker = WorkerId::new(format!("w{number}"));
        let clock: Arc<dyn Clock> = Arc::new(SimClock::start());
        let random: Arc<dyn Random> = Arc::new(SimRandom::new(dice.roll()));
        let holdings = Arc::new(Holdings::default());
        let budget = Budget::new(common.memory_bytes);
        let wire = common.wire.clone();
        let delivery = Delivery {
            worker: worker.clone(),
            id: common.destination.clone(),
            destination: Arc::new(common.scripted()),
            log: Arc::new(ScriptedLog { wire: wire.clone(), worker: worker.clone() }),
            holdings: holdings.clone(),
            budget: budget.clone(),
            clock: clock.clone(),
            random: random.clone(),
            fingerprint: 7,
            config: "config".into(),
            version: "simulation".into(),
            metrics: common.metrics.clone(),
            pipeline: "sim".into(),
            retention: Duration::ZERO,
            isolate: true,
        };
        let (notices, notices_in) = mpsc::unbounded_channel();
        let (chunks, chunks_in) = mpsc::channel(4);
        let (orders_out, orders) = mpsc::unbounded_channel();
        let (commands, commands_in) = mpsc::unbounded_channel();
        let (lost_out, lost) = mpsc::unbounded_channel();
        let leases = Arc::new(Leases {
            wire,
            worker,
            destination: common.destination.clone(),
            holdings: holdings.clone(),
            clock: clock.clone(),
            random,
            failover: common.failover,
            frozen: Mutex::new(Instant::now()),
        });
        let progress = Arc::new(Progress::default());
        let context = ReadContext {
            budget: budget.clone(),
            progress,
            holdings,
            transform: None,
            clock,
            metrics: common.metrics.clone(),
            at: common.at(),
        };
        let shell = Shell {
            leases: leases.clone(),
            notices,
            outlet: Outlet { chunks, transform: None },
            context,
            held: BTreeMap::new(),
            busy: BTreeSet::new(),
            seen: Seen::default(),
            tasks: JoinSet::new(),
            stopping: false,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(delivery.run(notices_in, chunks_in, orders_out));
        tasks.spawn(async move {
            // Heartbeats end with the shell.
            let mut beats = JoinSet::new();
            beats.spawn(leases.heartbeats(lost_out));
            shell.run(commands_in, orders, lost).await;
        });
        Self { tasks, commands, budget }
    }
}

struct Held {
    fence: Fence,
    reader: Option<AbortHandle>,
    leaving: bool,
}

enum Ended {
    Taken { lease: LeaseKey, taken: Option<Box<(LeaseRow, Fence)>> },
    Reader,
    Drain { lease: LeaseKey, tenure: Tenure, drained: bool },
    GivenBack { lease: LeaseKey },
}

struct Shell {
    leases: Arc<Leases>,
    notices: mpsc::UnboundedSender<Notice>,
    outlet: Outlet,
    context: ReadContext,
    held: BTreeMap<LeaseKey, Held>,
    /// Leases that are being taken or given back.
    busy: BTreeSet<LeaseKey>,
    seen: Seen,
    tasks: JoinSet<Ended>,
    stopping: bool,
}

impl Shell {
    async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        mut orders: mpsc::UnboundedReceiver<(DestinationId, Order)>,
        mut lost: mpsc::UnboundedReceiver<Lost>,
    ) {
        let mut look = Instant::now();
        while !(self.stopping && self.held.is_empty() && self.busy.is_empty()) {
            tokio::select! {
                biased;
                Some(command) = commands.recv() => self.command(command),
                Some((lease, tenure)) = lost.recv() => self.forget(&lease, tenure),
                Some((_, order)) = orders.recv() => self.order(order),
                Some(ended) = self.tasks.join_next() => {
                    if let Ok(ended) = ended { self.ended(ended) }
                }
                () = tokio::time::sleep_until(look) => {
                    self.look();
                    let millis = self.leases.wire.roll(|dice| dice.within(200, 600));
                    look = Instant::now() + Duration::from_millis(millis);
                }
            }
        }
    }

    fn notify(&self, notice: Notice) {
        let _ = self.notices.send(notice);
    }

    fn is_held(&self, lease: &LeaseKey, tenure: Tenure) -> bool {
        self.held.get(lease).is_some_and(|held| held.fence.tenure == tenure)
    }

    /// Takes what is free, as this worker has seen it.
    fn look(&mut self) {
        let rows: Vec<LeaseRow> = self.leases.wire.store().rows.values().cloned().collect();
        for row in rows {
            let expired = self.seen.expired(&row, self.leases.failover);
            let own = row.owner.as_ref() == Some(&self.leases.worker);
            let free = expired || own || row.owner.is_none();
            let chosen = || self.leases.wire.is_calm() || self.leases.wire.chance(500);
            if free && !row.ended() && !self.held.contains_key(&row.key) && chosen() {
                self.take(row);
            }
        }
    }

    fn take(&mut self, row: LeaseRow) {
        if self.stopping || !self.busy.insert(row.key.clone()) {
            return;
        }
        let leases = self.leases.clone();
        self.tasks.spawn(async move {
            let lease = row.key.clone();
            Ended::Taken { lease, taken: leases.take(row).await.map(Box::new) }
        });
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Steal(lease) => {
                let row = self.leases.wire.store().rows[&lease].clone();
                if !self.held.contains_key(&lease) && !row.ended() {
                    if row.owner.is_some() {
                        self.leases.wire.store().count("leases stolen");
                    }
                    self.take(row);
                }
            }
            Command::HandOver(lease) => self.leave(&lease),
            Command::Freeze(time) => {
                *self.leases.frozen.lock().expect("nobody panics with it") = Instant::now() + time;
            }
            Command::Stop => {
                self.stopping = true;
                for lease in self.held.keys().cloned().collect::<Vec<_>>() {
                    self.leave(&lease);
                }
            }
        }
    }

    fn stop_reader(&mut self, lease: &LeaseKey) {
        if let Some(reader) = self.held.get_mut(lease).and_then(|held| held.reader.take()) {
            reader.abort();
        }
    }

    fn leave(&mut self, lease: &LeaseKey) {
        self.stop_reader(lease);
        let Some(held) = self.held.get_mut(lease).filter(|held| !held.leaving) else { return };
        held.leaving = true;
        let tenure = held.fence.tenure;
        let (drained, answer) = oneshot::channel();
        self.notify(Notice::Drain { lease: lease.clone(), tenure, drained });
        let lease = lease.clone();
        self.tasks.spawn(async move { Ended::Drain { lease, tenure, drained: answer.await.is_ok() } });
    }

    /// Drops everything local of a lease.
    fn forget(&mut self, lease: &LeaseKey, tenure: Tenure) {
        if self.is_held(lease, tenure) {
            self.stop_reader(lease);
            self.held.remove(lease);
            self.notify(Notice::Lost { lease: lease.clone(), tenure });
        }
    }

    fn give_back(&mut self, lease: LeaseKey, tenure: Tenure) {
        let holding = self.leases.holdings.remove(&lease, tenure);
        self.forget(&lease, tenure);
        let Some(holding) = holding else { return };
        self.busy.insert(lease.clone());
        let leases = self.leases.clone();
        self.tasks.spawn(async move {
            leases.give_back(holding).await;
            Ended::GivenBack { lease }
        });
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Read { lease, tenure, from, epoch } => {
                if self.held.get(&lease).is_some_and(|held| held.fence.tenure == tenure && !held.leaving) {
                    self.read(lease, tenure, from, epoch);
                }
            }
            Order::Detach { lease, .. } => {
                self.leases.wire.store().fail(format!("{lease} is detached: there is nobody to be held up"));
            }
            Order::WalkAway { lease, tenure } => {
                if self.is_held(&lease, tenure) {
                    self.leases.holdings.remove(&lease, tenure);
                    self.forget(&lease, tenure);
                    self.leases.wire.store().count("leases walked away from");
                }
            }
            Order::HandsOff { lease, .. } => {
                self.leases.wire.store().fail(format!("hands off {lease}: nothing here asks for a human"));
            }
            Order::Ended { lease, tenure } => {
                if self.is_held(&lease, tenure) {
                    self.give_back(lease, tenure);
                }
            }
        }
    }

    fn read(&mut self, lease: LeaseKey, tenure: Tenure, position: Position, epoch: u64) {
        self.stop_reader(&lease);
        let (feeds, outlet) = (Arc::<Feeds>::default(), self.outlet.clone());
        let destination = self.leases.destination.clone();
        let start = feeds.subscribe(Subscriber { destination, epoch, from: position.clone(), outlet }, epoch);
        let (reader, first) = start.map_or((epoch, true), |start| (start.reader, start.first));
        let of = Reading { lease: lease.clone(), reader, feeds: feeds.clone(), from: position.clone(), first };
        let reads = ScriptedReader { wire: self.leases.wire.clone(), lease: lease.clone(), tenure, position };
        let (context, key) = (self.context.clone(), lease.clone());
        let (wire, notices) = (self.leases.wire.clone(), self.notices.clone());
        let task = self.tasks.spawn(async move {
            let end = shard::read(reads, of, context).await;
            if let (ReadEnd::ShardEnd { .. }, Some(fed)) = (end, feeds.end(reader).pop()) {
                // The children get their leases, if they have none yet.
                if wire.chance(500) {
                    sleep(wire.latency()).await;
                }
                let _ = notices.send(Notice::ShardEnd { lease, tenure, epoch, at: fed.from });
            }
            Ended::Reader
        });
        if let Some(held) = self.held.get_mut(&key) {
            held.reader = Some(task);
        }
    }

    fn ended(&mut self, ended: Ended) {
        match ended {
            Ended::Taken { lease, taken } => {
                self.busy.remove(&lease);
                let Some((row, fence)) = taken.map(|taken| *taken) else { return };
                if let Some(old) = self.held.get(&lease).map(|held| held.fence.tenure) {
                    self.forget(&lease, old);
                }
                self.held.insert(lease.clone(), Held { fence: fence.clone(), reader: None, leaving: false });
                self.notify(Notice::Taken { row: Box::new(row), fence });
                if self.stopping {
                    self.leave(&lease);
                }
            }
            Ended::Drain { lease, tenure, drained: true } if self.is_held(&lease, tenure) => {
                self.leases.wire.store().count("leases handed over");
                self.give_back(lease, tenure);
            }
            Ended::GivenBack { lease } => {
                self.busy.remove(&lease);
            }
            _ => {}
        }
    }
}
