//! `-> commit`: how many records a reset repeats, counted from receipts. PURE but for the scan of the commit table.
//!
//! A receipt counts in full when every range that it lists is repeated from its beginning to its end; one that is
//! repeated in part counts between nothing and all of it. Receipts live 90 days: where their chain breaks off before the
//! new position, the number has no upper bound. Nor has it one after an earlier reset: what an earlier generation delivered
//! repeats, too, and its ranges are not in the chain.

use std::collections::{BTreeMap, BTreeSet};

use standpipe_flow::{CommitError, DestinationId, Generation, LeaseKey, Millis, Position, ReceiptShard, ReceiptState};

use super::{Mend, MendError};
use crate::client::classify;
use crate::commits::CommitTable;
use crate::kcl::Item;
use crate::receipts;

/// Pages of 1 MB that are read at most, so that the question never costs more than some cents.
const PAGES_MAX: usize = 256;

/// A number of records, as well as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// At least so many.
    pub at_least: u64,
    /// At most so many; `None`: nobody knows.
    pub at_most: Option<u64>,
}

/// What a receipt says about records.
#[derive(Debug, Clone)]
pub(super) struct Delivered {
    pub(super) destination: DestinationId,
    pub(super) shards: Vec<ReceiptShard>,
    pub(super) records: u64,
}

/// What of one lease is repeated at one destination: everything from a floor up to `reached`.
#[derive(Debug, Clone)]
pub(super) struct Area {
    pub(super) lease: LeaseKey,
    pub(super) destination: DestinationId,
    pub(super) generation: Generation,
    /// The instant that TRIM_HORIZON means in this generation.
    pub(super) start: Option<Millis>,
    pub(super) reached: Position,
    pub(super) floor: Floor,
}

/// Where reading begins again.
#[derive(Debug, Clone)]
pub(super) enum Floor {
    /// After this position.
    After(Position),
    /// With what arrived at or after this instant.
    Since(Millis),
}

impl Area {
    /// Whether a chain that came to its end holds everything that may have been delivered after the floor.
    fn whole(&self) -> bool {
        let begins_later = match self.floor {
            Floor::After(Position::TrimHorizon) => self.start.is_some(),
            Floor::After(_) => false,
            Floor::Since(instant) => self.start.is_some_and(|start| start > instant),
        };
        self.generation == Generation(0) && !begins_later
    }
}

/// How much of each receipt's ranges is repeated.
#[derive(Debug, Default)]
struct Touched {
    whole: BTreeSet<LeaseKey>,
    in_part: bool,
}

/// Counts. `complete`: whether every receipt there is was read.
pub(super) fn count(delivered: &[Delivered], areas: &[Area], complete: bool) -> Count {
    let mut by_end: BTreeMap<(&DestinationId, &LeaseKey, &Position, Generation), usize> = BTreeMap::new();
    for (index, receipt) in delivered.iter().enumerate() {
        for shard in receipt.shards.iter().filter(|shard| shard.from < shard.to) {
            by_end.insert((&receipt.destination, &shard.lease, &shard.to, shard.generation), index);
        }
    }
    let mut touched: BTreeMap<usize, Touched> = BTreeMap::new();
    let mut known = complete;
    for area in areas {
        let shard = |index: usize| delivered[index].shards.iter().find(|shard| shard.lease == area.lease);
        let step = |to: &Position| {
            let index = *by_end.get(&(&area.destination, &area.lease, to, area.generation))?;
            Some((index, shard(index)?))
        };
        known &= walk(area, step, &mut touched) && area.whole();
    }
    let mut count = Count { at_least: 0, at_most: known.then_some(0) };
    for (index, touched) in touched {
        let receipt = &delivered[index];
        let whole = !touched.in_part && receipt.shards.iter().all(|shard| touched.whole.contains(&shard.lease));
        count.at_least += if whole { receipt.records } else { 0 };
        count.at_most = count.at_most.map(|most| most + receipt.records);
    }
    count
}

/// Walks an area's chain of ranges (I2) down from where it ends. Whether it came to the floor.
fn walk<'a>(
    area: &Area,
    step: impl Fn(&Position) -> Option<(usize, &'a ReceiptShard)>,
    touched: &mut BTreeMap<usize, Touched>,
) -> bool {
    let mut reached = area.reached.clone();
    // The range above the present one: it is whole only if the present one ends at or after the instant.
    let mut above: Option<usize> = None;
    let mut whole = |index: usize| {
        touched.entry(index).or_default().whole.insert(area.lease.clone());
    };
    let mut parts = Vec::new();
    let arrived = loop {
        let at_floor = match &area.floor {
            Floor::After(floor) => reached <= *floor,
            Floor::Since(_) => reached == Position::TrimHorizon,
        };
        if at_floor {
            break true;
        }
        let Some((index, shard)) = step(&reached) else { break false };
        match &area.floor {
            Floor::After(floor) if shard.from >= *floor => whole(index),
            Floor::After(_) => parts.push(index),
            Floor::Since(instant) => {
                if shard.arrival.is_some_and(|arrival| arrival < *instant) {
                    break true;
                }
                if let Some(above) = above.replace(index) {
                    whole(above);
                }
            }
        }
        reached = shard.from.clone();
    };
    for index in parts.into_iter().chain(above) {
        touched.entry(index).or_default().in_part = true;
    }
    arrived
}

impl Mend {
    /// Every receipt that was not retracted, and whether those are all.
    pub(super) async fn delivered(&self) -> Result<(Vec<Delivered>, bool), MendError> {
        let mut delivered = Vec::new();
        let mut from = None;
        for _ in 0..PAGES_MAX {
            let page = match self.ask(|| self.commits.page(from.clone())).await {
                Ok(page) => page,
                Err(CommitError::Denied { cause }) if super::no_table(&cause) => return Ok((delivered, false)),
                Err(error) => return Err(error.into()),
            };
            delivered.extend(page.receipts);
            match page.next {
                Some(next) => from = Some(next),
                None => return Ok((delivered, true)),
            }
        }
        Ok((delivered, false))
    }
}

struct ReceiptPage {
    receipts: Vec<Delivered>,
    next: Option<Item>,
}

impl CommitTable {
    /// One page of the commit table. What is no receipt (pins, pages) is passed over.
    async fn page(&self, from: Option<Item>) -> Result<ReceiptPage, CommitError> {
        let from = from.map(|key| key.into_iter().collect());
        let request = self.dynamo.patient.scan().table_name(&self.table).set_exclusive_start_key(from);
        let page = request.send().await.map_err(|error| classify(&error))?;
        let mut receipts = Vec::new();
        for item in page.items.unwrap_or_default() {
            let receipt = receipts::decode(&item.into_iter().collect());
            let receipt = receipt.ok().map(|(receipt, _)| receipt);
            if let Some(receipt) = receipt.filter(|receipt| receipt.state != ReceiptState::Retracted) {
                let standpipe_flow::Receipt { destination, shards, records, .. } = receipt;
                receipts.push(Delivered { destination, shards, records });
            }
        }
        let next = page.last_evaluated_key.filter(|key| !key.is_empty());
        Ok(ReceiptPage { receipts, next: next.map(|key| key.into_iter().collect()) })
    }
}
