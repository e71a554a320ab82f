//! `lease ->`: leases go back, or ahead, to another place in the stream (protocol 4, "Reset").
//!
//! What is pending is published and finalized first; then one conditional write bumps the generation, which fences
//! whatever is under way, and moves every position together with `checkpoint`, so that a Java KCL and we agree (I18).
//! I8: positions and `checkpoint` go back in a new generation only.

use std::collections::{BTreeMap, BTreeSet};

use standpipe_flow::write::{self, Reset};
use standpipe_flow::{
    CommitError, CommitId, DestinationId, DestinationPosition, Generation, LeaseKey, LeaseRow, Millis, Position,
    ReceiptState, Tenure, WorkerId,
};

use super::count::{Area, Count, Floor, count};
use super::look::{Look, ReceiptSeen};
use super::{Mend, MendError, TRIES, pause};

/// Where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// The oldest record that the stream holds.
    Horizon,
    /// What arrives after this instant, which is now.
    Latest(Millis),
    /// What arrived at or after this instant.
    Since(Millis),
    /// After this record.
    At(Position),
}

impl To {
    fn position(&self) -> Position {
        if let Self::At(position) = self { position.clone() } else { Position::TrimHorizon }
    }

    /// `spStart`: what TRIM_HORIZON means there.
    fn start(&self) -> Option<Millis> {
        match self {
            Self::Latest(instant) | Self::Since(instant) => Some(*instant),
            Self::Horizon | Self::At(_) => None,
        }
    }
}

/// What is to be reset.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// These leases; `None`: all.
    pub leases: Option<&'a BTreeSet<LeaseKey>>,
    /// This destination alone; `None`: all that the rows have.
    pub destination: Option<&'a DestinationId>,
    /// Where to.
    pub to: &'a To,
    /// Although workers hold them; a plan that is only shown may be made beside them, too.
    pub force: bool,
}

/// Which way a position moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moves {
    /// It is there already.
    Stays,
    /// Records are delivered again.
    Back,
    /// Records are skipped. How many is in the stream alone.
    Ahead,
    /// It cannot be told: when the record at the present position arrived is not known.
    Unclear,
}

/// What becomes of one lease.
#[derive(Debug, Clone)]
pub struct LeaseReset {
    /// The lease.
    pub lease: LeaseKey,
    /// Who holds it, and loses it.
    pub owner: Option<WorkerId>,
    /// The one destination that moves; `None`: all.
    pub destination: Option<DestinationId>,
    /// The new position.
    pub to: Position,
    /// The instant that TRIM_HORIZON means.
    pub start: Option<Millis>,
    /// Whether its owner is not known to be dead.
    pub held: bool,
    /// Although a worker holds it, be it another than now.
    pub force: bool,
    /// The acquisition that `owner` holds it by.
    pub tenure: Option<Tenure>,
    /// The generation that it leaves.
    pub generation: Generation,
    /// Which way each position moves.
    pub moves: BTreeMap<DestinationId, Moves>,
    /// Those of the destinations that are retired. Their positions move, too, but nothing is delivered there.
    pub retired: BTreeSet<DestinationId>,
    /// Commits that are brought to their end first.
    pub pending: BTreeSet<CommitId>,
}

/// What a reset does.
#[derive(Debug, Clone)]
pub struct ResetPlan {
    /// Leases that move.
    pub leases: Vec<LeaseReset>,
    /// Leases that are left as they are, and why.
    pub left: BTreeMap<LeaseKey, String>,
    /// Records that are delivered again.
    pub repeats: Count,
}

impl Mend {
    /// What a reset would do. Refused while workers hold the leases, unless that is wanted.
    pub async fn plan_reset(&self, look: &Look, wanted: &Wanted<'_>) -> Result<ResetPlan, MendError> {
        let chosen: Vec<LeaseKey> = match wanted.leases {
            Some(leases) => leases.iter().cloned().collect(),
            None => look.rows.leases.keys().chain(look.rows.unreadable.keys()).cloned().collect(),
        };
        if matches!(wanted.to, To::At(_)) && chosen.len() != 1 {
            return Err(MendError::refused("a sequence number belongs to one shard: name one lease"));
        }
        let named = |row: &LeaseRow| wanted.destination.is_none_or(|id| row.destinations.contains_key(id));
        if let Some(id) = wanted.destination.filter(|_| !look.rows.leases.values().any(named)) {
            return Err(MendError::refused(format!("no lease has a destination {id}")));
        }
        self.not_to_come(wanted.to).await?;
        let mut plan = ResetPlan { leases: Vec::new(), left: BTreeMap::new(), repeats: Count::default() };
        let mut areas = Vec::new();
        for key in chosen {
            match look.lease(&key).and_then(|row| fitting(row, wanted).map(|()| row)) {
                Ok(row) => {
                    let arrivals = self.arrivals(row, wanted).await?;
                    let held = row.owner.is_some() && !look.expired(row, self.failover);
                    plan.leases.push(LeaseReset { held, ..plan_lease(row, wanted, &arrivals, &mut areas) });
                }
                Err(error) if wanted.leases.is_some() => return Err(error),
                Err(error) => drop(plan.left.insert(key, error.to_string())),
            }
        }
        if let Some(held) = plan.leases.iter().find(|reset| reset.held && !wanted.force) {
            let owner = held.owner.as_ref().map(ToString::to_string).unwrap_or_default();
            return Err(MendError::refused(format!(
                "lease {} is held by {owner}: stop the workers first, or add --force, which takes the leases from them",
                held.lease
            )));
        }
        if !areas.is_empty() {
            let (delivered, complete) = self.delivered().await?;
            plan.repeats = count(&delivered, &areas, complete);
        } else {
            plan.repeats.at_most = Some(0);
        }
        Ok(plan)
    }

    /// Refuses an instant that has not come: nothing would be delivered until then.
    async fn not_to_come(&self, to: &To) -> Result<(), MendError> {
        let To::Since(instant) = to else { return Ok(()) };
        let now = match self.ask(|| self.commits.now()).await {
            Ok(now) => now,
            Err(CommitError::Denied { cause }) if super::no_table(&cause) => None,
            Err(error) => return Err(error.into()),
        };
        let now = now.unwrap_or_else(|| self.clock.wall());
        if *instant <= now {
            return Ok(());
        }
        let seconds = (instant.0 - now.0).div_ceil(1000);
        Err(MendError::refused(format!("that time is {seconds} s from now: `latest` is the latest place there is")))
    }

    /// When the last records of the pending commits arrived, by their receipts.
    async fn arrivals(&self, row: &LeaseRow, wanted: &Wanted<'_>) -> Result<BTreeMap<CommitId, Millis>, MendError> {
        let mut arrivals = BTreeMap::new();
        if !matches!(wanted.to, To::Since(_)) {
            return Ok(arrivals);
        }
        for pending in row.destinations.values().filter_map(|position| position.pending.as_ref()) {
            let ReceiptSeen::There(receipt) = self.receipt(pending.cid).await? else { continue };
            let listed = receipt.shards.iter().find(|shard| shard.lease == row.key);
            if let Some(arrival) = listed.and_then(|shard| shard.arrival)
                && receipt.state != ReceiptState::Retracted
            {
                arrivals.insert(pending.cid, arrival);
            }
        }
        Ok(arrivals)
    }

    /// Resets one lease of a plan, if it is as it was planned. The answer is the row afterwards.
    pub async fn reset(&self, reset: &LeaseReset) -> Result<LeaseRow, MendError> {
        let mut unclear = false;
        for tries in 1..=TRIES * 2 {
            let row = self.row(&reset.lease).await?;
            // An earlier copy of the write, whose answer was unclear.
            if unclear && is_done(&row, reset) {
                return Ok(row);
            }
            still(&row, reset)?;
            let row = self.finish(row).await?;
            still(&row, reset)?;
            let write = write::reset(&Reset {
                row: &row,
                destination: reset.destination.as_ref(),
                to: &reset.to,
                start: reset.start,
            });
            match self.table.write(&write).await {
                Ok(row) => return Ok(row),
                // A worker has moved it: look again.
                Err(CommitError::Refused { now: Some(_), .. }) => pause(1).await,
                Err(error) if super::passes(&error) => {
                    unclear |= matches!(error, CommitError::Unknown { .. });
                    pause(tries).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        let cause = format!("lease {} changes faster than it can be reset: stop its worker", reset.lease);
        Err(MendError::Unavailable { cause })
    }
}

/// Whether the row is what this reset makes of it.
fn is_done(row: &LeaseRow, reset: &LeaseReset) -> bool {
    let moved = |id: &DestinationId| row.destinations.get(id).is_some_and(|position| position.at == reset.to);
    row.generation.0 == reset.generation.0 + 1 && row.start == reset.start && reset.moves.keys().all(moved)
}

/// Refuses what is no longer as it was planned.
fn still(row: &LeaseRow, reset: &LeaseReset) -> Result<(), MendError> {
    if row.generation != reset.generation {
        return Err(MendError::refused("somebody else has reset it meanwhile: look at it again"));
    }
    let Some(owner) = row.owner.as_ref().filter(|_| !reset.force) else { return Ok(()) };
    if (Some(owner), row.tenure) == (reset.owner.as_ref(), reset.tenure) {
        return Ok(());
    }
    Err(MendError::refused(format!(
        "{owner} has taken it meanwhile: stop the workers first, or add --force, which takes the leases from them"
    )))
}

/// Why a lease cannot go there.
fn fitting(row: &LeaseRow, wanted: &Wanted<'_>) -> Result<(), MendError> {
    if row.ended() && matches!(wanted.to, To::Latest(_)) {
        return Err(MendError::refused(format!("the shard of lease {} is finished: nothing comes after it", row.key)));
    }
    let Some(chosen) = wanted.destination else { return Ok(()) };
    if !row.destinations.contains_key(chosen) {
        return Err(MendError::refused(format!("lease {} has no destination {chosen}", row.key)));
    }
    // `spStart` is one a lease: it must not change under another destination that still begins with it.
    let other = row.destinations.iter().find(|(id, at)| *id != chosen && at.at == Position::TrimHorizon);
    match other.filter(|_| row.start != wanted.to.start()) {
        None => Ok(()),
        Some((id, _)) => Err(MendError::refused(format!(
            "destination {id} of lease {} has not begun: reset all of them together",
            row.key
        ))),
    }
}

fn plan_lease(
    row: &LeaseRow,
    wanted: &Wanted<'_>,
    arrivals: &BTreeMap<CommitId, Millis>,
    areas: &mut Vec<Area>,
) -> LeaseReset {
    let mut moves = BTreeMap::new();
    let mut pending = BTreeSet::new();
    for (id, position) in &row.destinations {
        pending.extend(position.pending.as_ref().map(|pending| pending.cid));
        if wanted.destination.is_some_and(|one| one != id) {
            continue;
        }
        let arrival = match &position.pending {
            Some(pending) => arrivals.get(&pending.cid).copied(),
            None => position.arrival,
        };
        let way = way(row, position, arrival, wanted.to);
        moves.insert(id.clone(), way);
        if matches!(way, Moves::Back | Moves::Unclear) && !row.off.contains(id) {
            areas.push(Area {
                lease: row.key.clone(),
                destination: id.clone(),
                generation: row.generation,
                start: row.start,
                reached: position.reached().clone(),
                floor: match wanted.to {
                    To::Latest(instant) | To::Since(instant) => Floor::Since(*instant),
                    To::Horizon | To::At(_) => Floor::After(wanted.to.position()),
                },
            });
        }
    }
    LeaseReset {
        lease: row.key.clone(),
        owner: row.owner.clone(),
        held: row.owner.is_some(),
        force: wanted.force,
        tenure: row.tenure,
        generation: row.generation,
        destination: wanted.destination.cloned(),
        to: wanted.to.position(),
        start: wanted.to.start(),
        retired: row.off.iter().filter(|id| moves.contains_key(*id)).cloned().collect(),
        moves,
        pending,
    }
}

/// Which way a position moves, what is pending being finished first. `arrival`: when the record at its end arrived.
fn way(row: &LeaseRow, position: &DestinationPosition, arrival: Option<Millis>, to: &To) -> Moves {
    let reached = position.reached();
    let begins = *reached == Position::TrimHorizon;
    match to {
        To::Horizon if begins && row.start.is_none() => Moves::Stays,
        To::Horizon => Moves::Back,
        To::Latest(_) => Moves::Ahead,
        To::At(position) => match position.cmp(reached) {
            std::cmp::Ordering::Less => Moves::Back,
            std::cmp::Ordering::Equal => Moves::Stays,
            std::cmp::Ordering::Greater => Moves::Ahead,
        },
        // Nothing of it is left to be skipped.
        To::Since(_) if *reached == Position::ShardEnd => Moves::Back,
        To::Since(instant) => match if begins { row.start.or(Some(Millis(0))) } else { arrival } {
            None => Moves::Unclear,
            Some(arrival) if arrival == *instant && begins => Moves::Stays,
            Some(arrival) if arrival < *instant => Moves::Ahead,
            Some(_) => Moves::Back,
        },
    }
}
