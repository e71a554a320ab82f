//! A worker of the Java KCL: it takes a lease, delivers some records by itself, moves `checkpoint`, and goes away, or its
//! leader gives the lease back to whom it was taken from. It knows none of our attributes.

use std::sync::Arc;
use std::time::Duration;

use standpipe_flow::{LeaseKey, Position, WorkerId};
use tokio::time::{Instant, sleep};

use super::store::Store;
use super::wire::Wire;
use crate::simulation::Dice;

/// Takes the lease and works a little.
pub async fn work(wire: Arc<Wire>, mut dice: Dice, lease: LeaseKey) {
    let java = WorkerId::new("java");
    let (owner, mut counter) = {
        let mut store = wire.store();
        let row = store.rows.get_mut(&lease).expect("a row is never deleted");
        if row.ended() || row.owner.is_none() {
            return;
        }
        let owner = row.owner.replace(java.clone());
        row.counter += 1;
        row.owner_switches += 1;
        (owner, row.counter)
    };
    wire.store().note(format!("java takes {lease}"));
    wire.store().count("leases that Java took");
    for _ in 0..dice.within(1, 3) {
        sleep(Duration::from_millis(dice.within(20, 500))).await;
        let most = dice.within(1, 12) as usize;
        let mut store = wire.store();
        let row = &store.rows[&lease];
        if row.owner.as_ref() != Some(&java) || row.counter != counter {
            return;
        }
        let from = row.checkpoint.clone();
        let Some(to) = reach(&store, &lease, &from, most) else { continue };
        let row = store.rows.get_mut(&lease).expect("a row is never deleted");
        row.checkpoint = to.clone();
        row.owner_switches = 0;
        row.counter += 1;
        counter = row.counter;
        store.note(format!("java moves checkpoint of {lease} from {from} to {to}"));
        store.count("checkpoints that Java moved");
        store.java.push((lease.clone(), from, to));
    }
    sleep(Duration::from_millis(dice.within(20, 300))).await;
    let mut store = wire.store();
    let row = store.rows.get_mut(&lease).expect("a row is never deleted");
    if row.owner.as_ref() == Some(&java) && row.counter == counter {
        match dice.within(0, 2) {
            0 => return, // it expires
            1 => row.owner = None,
            _ => row.owner = owner,
        }
        row.counter += 1;
        store.note(format!("java leaves {lease}"));
    }
}

/// The end of an aggregate after `from`, of what can be read by now.
fn reach(store: &Store, lease: &LeaseKey, from: &Position, most: usize) -> Option<Position> {
    let there = store.shards[lease].records.iter().filter(|made| made.there_from <= Instant::now());
    let after = there.filter(|made| made.last_of_aggregate).map(|made| made.record.position());
    after.filter(|position| position > from).take(most).last()
}
