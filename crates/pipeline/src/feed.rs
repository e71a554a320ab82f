//! `read ->`: which reader of a shard feeds which destination. Normally one reader feeds them all.
//!
//! A destination that stands where a reader stands subscribes to that reader. One that stands elsewhere gets a reader of
//! its own: nobody waits for a backlog that is another's. Once the reader behind has come to where the one before stands,
//! its subscribers go over to that one, which cuts the next chunk for them, and it ends.
//! Invariant: I15. A subscription is moved only by the task that feeds it, between two chunks, and only to a reader that
//! has not passed it; so chunks of a subscription (its epoch) continue each other, whoever hands them on.
//!
//! Never here: a read, a task, what a destination does with a chunk.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use standpipe_flow::{Chunk, DestinationId, Millis, Position, Transform};
use tokio::sync::mpsc;

use crate::budget::Share;

/// A chunk with its share of the memory budget, on its way to delivery.
#[derive(Debug)]
pub struct Arrived {
    /// The records.
    pub chunk: Chunk,
    /// Which order to read it came from ([`crate::deliver::Order::Read`]): what is older is void.
    pub epoch: u64,
    /// Its share of the budget; copies for other destinations have the same.
    pub share: Arc<Share>,
    /// When the last record arrived that was read for it, delivered or not.
    pub newest: Option<Millis>,
}

/// The way to one destination.
#[derive(Clone, Debug)]
pub struct Outlet {
    /// Where its loop takes chunks in.
    pub chunks: mpsc::Sender<Arrived>,
    /// What is its own: `when`, `partition_by`.
    pub transform: Option<Arc<dyn Transform>>,
}

/// A destination that wants a shard's records.
#[derive(Clone, Debug)]
pub struct Subscriber {
    /// The destination.
    pub destination: DestinationId,
    /// To be sent with each chunk.
    pub epoch: u64,
    /// Where it goes on from: it lacks what lies after this.
    pub from: Position,
    /// Its way.
    pub outlet: Outlet,
}

/// A reader that has to be started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Start {
    /// Its number.
    pub reader: u64,
    /// Where it reads from.
    pub from: Position,
    /// Whether it is the shard's first reader; otherwise it catches up, and must not be in the first one's way.
    pub first: bool,
}

#[derive(Debug)]
struct Feed {
    /// Where the last chunk ended that it took subscribers for.
    at: Position,
    first: bool,
    subscribers: Vec<Subscriber>,
}

/// The readers of one shard under one acquisition of its lease.
#[derive(Debug, Default)]
pub struct Feeds(Mutex<BTreeMap<u64, Feed>>);

impl Feeds {
    fn readers(&self) -> MutexGuard<'_, BTreeMap<u64, Feed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A destination wants to be fed that nobody feeds. The reader that is needed for it, if one is: by the number `fresh`.
    pub fn subscribe(&self, subscriber: Subscriber, fresh: u64) -> Option<Start> {
        let mut readers = self.readers();
        if let Some(feed) = readers.values_mut().find(|feed| feed.at == subscriber.from) {
            feed.subscribers.push(subscriber);
            return None;
        }
        let (from, first) = (subscriber.from.clone(), readers.is_empty());
        readers.insert(fresh, Feed { at: from.clone(), first, subscribers: vec![subscriber] });
        Some(Start { reader: fresh, from, first })
    }

    /// A destination wants no more: the reader that feeds nobody now.
    pub fn unsubscribe(&self, destination: &DestinationId) -> Option<u64> {
        let mut readers = self.readers();
        let fed = |feed: &Feed| feed.subscribers.iter().any(|subscriber| subscriber.destination == *destination);
        let (number, feed) = readers.iter_mut().find(|(_, feed)| fed(feed))?;
        feed.subscribers.retain(|subscriber| subscriber.destination != *destination);
        let idle = feed.subscribers.is_empty().then_some(*number)?;
        readers.remove(&idle);
        Some(idle)
    }

    /// A reader is over: those whom it fed, and where each of them stands.
    pub fn end(&self, reader: u64) -> Vec<Subscriber> {
        let Some(feed) = self.readers().remove(&reader) else { return Vec::new() };
        stand(feed)
    }

    /// A reader that is alone now leads: it goes on as a first reader under another number.
    pub fn lead(&self, reader: u64, fresh: u64) -> Option<Start> {
        let mut readers = self.readers();
        let mut feed = readers.remove(&reader)?;
        feed.first = true;
        let from = feed.at.clone();
        readers.insert(fresh, feed);
        Some(Start { reader: fresh, from, first: true })
    }

    /// Which reader feeds a destination.
    pub fn of(&self, destination: &DestinationId) -> Option<u64> {
        let fed = |feed: &Feed| feed.subscribers.iter().any(|subscriber| subscriber.destination == *destination);
        self.readers().iter().find(|(_, feed)| fed(feed)).map(|(number, _)| *number)
    }

    /// Nobody is fed any more.
    pub fn clear(&self) {
        self.readers().clear();
    }

    /// A chunk that ends at `to` is about to be handed on: to whom. `None` if the reader was stopped.
    pub(crate) fn hand(&self, reader: u64, to: &Position) -> Option<Vec<Subscriber>> {
        let mut readers = self.readers();
        let feed = readers.get_mut(&reader)?;
        feed.at = to.clone();
        Some(feed.subscribers.clone())
    }

    /// After a read that began at `before` and is handed on: if it brought the reader to where another one stands, its
    /// subscribers go over. Whether the reader has to go on.
    pub(crate) fn goes_on(&self, reader: u64, before: &Position) -> bool {
        let mut readers = self.readers();
        let Some((at, first)) = readers.get(&reader).map(|feed| (feed.at.clone(), feed.first)) else { return false };
        // Where both stand at one place, the first one stays.
        let reached = |feed: &Feed| *before <= feed.at && (feed.at < at || feed.at == at && !first);
        let Some(other) = readers.iter().find(|(number, feed)| **number != reader && reached(feed)).map(|(n, _)| *n)
        else {
            return true;
        };
        let going_over = readers.remove(&reader).map(stand).unwrap_or_default();
        if let Some(feed) = readers.get_mut(&other) {
            feed.subscribers.extend(going_over);
        }
        false
    }

    /// Whether a reader that was not the first is alone now.
    pub(crate) fn is_left_alone(&self, reader: u64) -> bool {
        let readers = self.readers();
        readers.len() == 1 && readers.get(&reader).is_some_and(|feed| !feed.first)
    }
}

/// The subscribers of a reader, each with where it stands.
fn stand(feed: Feed) -> Vec<Subscriber> {
    let Feed { at, mut subscribers, .. } = feed;
    for subscriber in &mut subscribers {
        if subscriber.from < at {
            subscriber.from = at.clone();
        }
    }
    subscribers
}

/// What of a chunk lies after `from`; `None` if it ends there or before. Positions of destinations are ends of chunks, so
/// this never cuts an aggregate.
pub(crate) fn after(mut chunk: Chunk, from: &Position) -> Option<Chunk> {
    if chunk.from >= *from {
        return Some(chunk);
    }
    if chunk.to <= *from {
        return None;
    }
    chunk.from = from.clone();
    chunk.records.retain(|record| record.position() > *from);
    chunk.rejected.retain(|record| Position::at(record.sequence.clone(), record.sub) > *from);
    if !chunk.originals.is_empty() {
        chunk.originals = chunk.originals.iter().filter(|record| record.position() > *from).cloned().collect();
    }
    Some(chunk)
}

/// What of a chunk lies up to `to`, which is an end of chunks as well.
pub(crate) fn until(mut chunk: Chunk, to: &Position) -> Chunk {
    chunk.to = to.clone();
    chunk.records.retain(|record| record.position() <= *to);
    chunk.rejected.retain(|record| Position::at(record.sequence.clone(), record.sub) <= *to);
    if !chunk.originals.is_empty() {
        chunk.originals = chunk.originals.iter().filter(|record| record.position() <= *to).cloned().collect();
    }
    chunk
}

#[cfg(test)]
mod tests;
