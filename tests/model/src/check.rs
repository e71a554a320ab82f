//! What must hold in every state.

use standpipe_flow::{LeaseRow, PendingMode, ReceiptState};

use crate::scene::Scene;
use crate::world::{World, number};

impl World {
    /// The first thing that is wrong in this state.
    pub(crate) fn check(&self, scene: &Scene) -> Option<String> {
        if self.fault.is_some() {
            return self.fault.clone();
        }
        for s in scene.shards() {
            let row = self.row(s);
            if let Some(wrong) = row.and_then(|row| self.check_pending(row)) {
                return Some(wrong);
            }
            for d in scene.dests() {
                if let Some(wrong) = self.check_records(scene, row, s, d) {
                    return Some(wrong);
                }
            }
        }
        None
    }

    /// I6: a row carries a commit only while its receipt is COMMITTED or DONE.
    fn check_pending(&self, row: &LeaseRow) -> Option<String> {
        let pending = row.destinations.values().filter_map(|position| position.pending.as_ref());
        let mut pending = pending.filter(|pending| pending.mode != PendingMode::Declared);
        let bad = pending.find(|pending| {
            !matches!(self.entry(pending.cid).state(), Some(ReceiptState::Committed | ReceiptState::Done))
        })?;
        Some(format!(
            "I6: a row carries commit {}, whose receipt is {:?}",
            number(bad.cid),
            self.entry(bad.cid).state()
        ))
    }

    fn check_records(&self, scene: &Scene, row: Option<&LeaseRow>, s: usize, d: usize) -> Option<String> {
        let at =
            row.and_then(|row| row.destinations.get(&scene.destinations[d])).map(|position| scene.index(&position.at));
        let checkpoint = row.map_or(0, |row| scene.index(&row.checkpoint));
        for r in 0..scene.scenario.records {
            let (name, visible) = (&scene.destinations[d], self.ghost.visible[s][d][usize::from(r)]);
            if visible > 1 && !self.excused(s, d, r) {
                return Some(format!("DUPLICATE: record {} of shard {s} is visible twice at {name}", r + 1));
            }
            if visible > 0 && scene.scenario.child && s == 1 && self.parent_unseen(scene, d) {
                return Some(format!("I11: a child's record is visible at {name} before its parent's"));
            }
            if visible > 0 || !self.owed(s, d, r) {
                continue;
            }
            if at.is_some_and(|at| r < at) {
                return Some(format!(
                    "I1: the position of {name} in shard {s} is past record {}, which is not visible",
                    r + 1
                ));
            }
            if r < checkpoint {
                return Some(format!(
                    "I1: checkpoint of shard {s} is past record {}, which is not visible at {name}",
                    r + 1
                ));
            }
        }
        None
    }

    pub(crate) fn excused(&self, s: usize, d: usize, r: u8) -> bool {
        self.ghost.excused[s][d] & 1 << r != 0
    }

    /// Whether the destination is to get this record from us.
    pub(crate) fn owed(&self, s: usize, d: usize, r: u8) -> bool {
        self.live(s, d) && r >= self.ghost.start[s][d].max(self.ghost.java[s])
    }

    fn parent_unseen(&self, scene: &Scene, d: usize) -> bool {
        let unseen = |r: u8| self.owed(0, d, r) && self.ghost.visible[0][d][usize::from(r)] == 0;
        self.row(0).is_some() && (0..scene.scenario.records).any(unseen)
    }

    /// Everything was delivered, once.
    pub(crate) fn all_delivered(&self, scene: &Scene) -> Result<(), String> {
        let visible = &self.ghost.visible;
        for s in scene.shards() {
            let Some(row) = self.row(s) else { continue };
            for d in scene.dests().filter(|d| self.live(s, *d)) {
                let name = &scene.destinations[d];
                for r in 0..scene.scenario.records {
                    match visible[s][d][usize::from(r)] {
                        0 if self.owed(s, d, r) => {
                            return Err(format!("LOST: record {} of shard {s} never reaches {name}", r + 1));
                        }
                        2 if !self.excused(s, d, r) => {
                            return Err(format!("DUPLICATE: record {} of shard {s} is visible twice at {name}", r + 1));
                        }
                        _ => {}
                    }
                }
            }
            if !row.ended() {
                return Err(format!("STUCK: checkpoint of shard {s} stays at {}", row.checkpoint));
            }
        }
        Ok(())
    }
}
