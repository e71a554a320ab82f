//! The readers of a pipeline: started where destinations stand, stopped when they feed nobody, watched, and brought to the
//! end of their shards. Which of them feeds whom is [`standpipe_pipeline::feed`]'s.
//!
//! Invariant: I11, for each destination: nothing of a child is read before every parent is finalized at SHARD_END.
//! Never here: a lease, what is read.

use std::time::Duration;

use standpipe_flow::{ChildShard, DestinationId, LeaseKey, Millis, Tenure};
use standpipe_lease::may_read;
use standpipe_pipeline::deliver::Notice;
use standpipe_pipeline::feed::{Start, Subscriber};
use standpipe_pipeline::progress::Progress;
use standpipe_pipeline::shard::{self, ReadContext, ReadEnd, Reading};
use standpipe_source::{ReadFrom, Unpack};
use tracing::{debug, error, info, warn};

use crate::gone::Gone;
use crate::watchdog::Verdict;
use crate::worker::{Ended, Held, PipelineWorker};

impl Held {
    /// Nobody is fed any more.
    pub(crate) fn stop_readers(&mut self, progress: &Progress) {
        self.feeds.clear();
        for (reader, task) in std::mem::take(&mut self.readers) {
            task.abort();
            progress.forget(&self.row.key, reader);
        }
    }

    fn stop_reader(&mut self, reader: u64, progress: &Progress) {
        if let Some(task) = self.readers.remove(&reader) {
            task.abort();
        }
        progress.forget(&self.row.key, reader);
    }
}

impl PipelineWorker {
    /// Nothing more is read for a destination.
    pub(crate) fn read_no_more(&mut self, lease: &LeaseKey, destination: &DestinationId) {
        let Some(held) = self.held.get_mut(lease) else { return };
        if let Some(idle) = held.feeds.unsubscribe(destination) {
            held.stop_reader(idle, &self.context.progress);
        }
    }

    pub(crate) fn start_waiting_readers(&mut self) {
        let waiting: Vec<LeaseKey> =
            self.held.iter().filter(|(_, held)| !held.wanted.is_empty()).map(|(lease, _)| lease.clone()).collect();
        for lease in waiting {
            self.start_readers(&lease);
        }
    }

    /// Reads for the destinations that want it, once every parent is finalized at SHARD_END there (I11).
    pub(crate) fn start_readers(&mut self, lease: &LeaseKey) {
        let rows = self.leases.rows();
        let Some(held) = self.held.get_mut(lease) else { return };
        let mut starts = Vec::new();
        for (destination, to) in &self.destinations {
            if !held.wanted.contains_key(destination) || !may_read(&held.row, &rows, destination) {
                continue;
            }
            let Some((from, epoch)) = held.wanted.remove(destination) else { continue };
            // Not from the row as it was taken: a commit that the take found is finalized by now, and has moved the
            // position.
            let arrival = self.leases.arrival(lease, destination, &from);
            warn_if_expired(lease, arrival, self.retention, &self.context);
            let (destination, outlet) = (destination.clone(), to.outlet.clone());
            self.last_reader += 1;
            starts.extend(held.feeds.subscribe(Subscriber { destination, epoch, from, outlet }, self.last_reader));
        }
        for start in starts {
            self.start_reader(lease, start);
        }
    }

    fn start_reader(&mut self, lease: &LeaseKey, Start { reader, from, first }: Start) {
        let Some(held) = self.held.get_mut(lease) else { return };
        if !first {
            info!(shard = %lease, position = %from, "a destination catches up with a reader of its own");
        }
        let tenure = held.fence.tenure;
        let of = Reading { lease: lease.clone(), reader, feeds: held.feeds.clone(), from: from.clone(), first };
        let unpack = Unpack { hash_range: held.row.hash_range, ..self.unpack };
        let (shard, pinned) = (lease.shard(), held.row.start);
        let from = ReadFrom { shard, lease: lease.clone(), tenure, position: from, pinned, unpack };
        let reads = if first { self.readers.reader(from) } else { self.readers.second(from) };
        let (context, lease) = (self.context.clone(), lease.clone());
        let task = self.tasks.spawn(async move {
            let end = shard::read(reads, of, context).await;
            Ended::Reader { lease, tenure, reader, end }
        });
        held.readers.insert(reader, task);
    }

    /// A reader has ended by itself. One that was stopped feeds nobody, and means nothing.
    pub(crate) fn reader_ended(&mut self, (lease, tenure, reader): (LeaseKey, Tenure, u64), end: ReadEnd) {
        let Some(held) = self.held.get_mut(&lease) else { return };
        if let ReadEnd::LeftAlone = end {
            self.last_reader += 1;
            held.stop_reader(reader, &self.context.progress);
            if let Some(start) = held.feeds.lead(reader, self.last_reader) {
                debug!(shard = %lease, "the destinations are together again");
                self.start_reader(&lease, start);
            }
            return;
        }
        if let ReadEnd::Died = end {
            return self.stumbled((lease, tenure, reader), "died");
        }
        let fed = held.feeds.end(reader);
        held.stop_reader(reader, &self.context.progress);
        if fed.is_empty() {
            return;
        }
        let children = match end {
            ReadEnd::ShardEnd { children } => Some(children),
            ReadEnd::Gone => None,
            ReadEnd::Stopped | ReadEnd::LeftAlone | ReadEnd::Died => return,
        };
        held.read_to_end.extend(fed.iter().map(|one| one.destination.clone()));
        self.make_children((lease, tenure, fed), children);
    }

    /// A read that does not come back is given up, and begun anew; see [`crate::watchdog`].
    pub(crate) fn watch_reads(&mut self) {
        let now = self.context.clock.elapsed();
        let mut stuck = Vec::new();
        for (lease, held) in &self.held {
            let age = |reader: &u64| self.context.progress.read_age(lease, *reader, now).unwrap_or_default();
            let Some(oldest) = held.readers.keys().map(age).max() else { continue };
            self.metrics.shard_read_age_seconds.get_or_create(&self.at.shard(lease.as_str())).set(oldest.as_secs_f64());
            let is_stuck = held.readers.keys().filter(|reader| age(reader) >= self.watchdog.limit);
            stuck.extend(is_stuck.map(|reader| (lease.clone(), held.fence.tenure, *reader)));
        }
        for reader in stuck {
            self.stumbled(reader, "stuck");
        }
    }

    /// A reader is stuck, or has died: another is started where it stood, or its lease is let go.
    fn stumbled(&mut self, (lease, tenure, reader): (LeaseKey, Tenure, u64), why: &'static str) {
        let Some(held) = self.held.get_mut(&lease).filter(|held| !held.leaving) else { return };
        let fed = held.feeds.end(reader);
        held.stop_reader(reader, &self.context.progress);
        if fed.is_empty() {
            return;
        }
        self.metrics.read_restarts.get_or_create(&self.at.why(why)).inc();
        match self.watchdog.stumbled(&lease, self.context.clock.elapsed()) {
            Verdict::ReadOn => {
                warn!(shard = %lease, why, "a read did not come to its end: reading on with a new reader");
                for Subscriber { destination, epoch, .. } in fed {
                    self.notify(&destination, Notice::Stumbled { lease: lease.clone(), tenure, epoch });
                }
            }
            Verdict::LetGo => {
                error!(shard = %lease, why, "a read did not come to its end again: letting the lease go, for another worker to try");
                self.leave(&lease);
                if let Some(held) = self.held.get_mut(&lease) {
                    held.let_go = true;
                }
            }
        }
    }

    /// Whether everything that came to a shard before `until` is read, for every destination.
    pub(crate) fn is_read(&self, lease: &LeaseKey, held: &Held, until: Millis) -> bool {
        self.destinations.keys().all(|destination| {
            let seen = held.feeds.of(destination).and_then(|reader| self.context.progress.get(lease, reader));
            held.read_to_end.contains(destination)
                || seen
                    .is_some_and(|seen| seen.ended || seen.at_tip || seen.newest.is_some_and(|newest| newest > until))
        })
    }

    /// The children's leases exist before the parent's end is committed. Without word of the children (reads say that the
    /// shard is gone) the stream itself is asked: only a shard that it does not list any more has ended.
    fn make_children(
        &mut self,
        (lease, tenure, fed): (LeaseKey, Tenure, Vec<Subscriber>),
        known: Option<Vec<ChildShard>>,
    ) {
        let Some(parent) = self.held.get(&lease).map(|held| held.row.clone()) else { return };
        let (leases, context) = (self.leases.clone(), self.context.clone());
        let gone = Gone { catalog: self.stream.catalog(), identity: self.identity.clone(), lease: lease.clone() };
        self.tasks.spawn(async move {
            let children = match known {
                Some(children) => children,
                None => match gone.confirm().await {
                    Some(children) => {
                        context.metrics.records_possibly_expired.get_or_create(&context.at).inc();
                        error!(shard = %lease, "the stream does not keep the shard any more: what was left of it is lost");
                        children
                    }
                    None => return Ended::StillThere { lease, tenure },
                },
            };
            leases.make_children(parent, children).await;
            Ended::Children { lease, tenure, fed }
        });
    }
}

/// Protocol 4.9: records between the position and the trim horizon may be gone. Counted and alarmed before going on.
fn warn_if_expired(shard: &LeaseKey, arrival: Option<Millis>, retention: Duration, context: &ReadContext) {
    let Some(arrival) = arrival.filter(|_| !retention.is_zero()) else { return };
    let now = context.clock.wall();
    if now.since(arrival) > retention {
        context.metrics.records_possibly_expired.get_or_create(&context.at).inc();
        error!(shard = %shard, position_arrived_ms = arrival.0, now_ms = now.0,
            "the position is older than the stream keeps records: some may be lost");
    }
}
