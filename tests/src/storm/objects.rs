//! What lies in the bucket, read byte by byte: every line is one that was produced, none twice, and within an object the
//! records of a shard ascend.

use std::collections::{BTreeMap, BTreeSet};

use standpipe_emulator::Emulator;

use super::ledger::Ledger;
use super::producer::{Shared, id_of, line, lock};
use super::{BUCKET, PREFIX};

/// What was found so far.
#[derive(Debug, Default)]
pub struct Found {
    /// How often each id was found.
    times: Vec<u8>,
    /// Different records found.
    pub records: usize,
    /// Lines by object.
    pub lines: BTreeMap<String, u64>,
    /// What is wrong. Kept short: the first findings tell enough.
    pub wrong: BTreeSet<String>,
}

/// Findings of one kind that are written down.
const WRONG_MAX: usize = 20;

impl Found {
    /// Reads the objects that are new since the last time.
    pub fn look(&mut self, emulator: &Emulator, ledger: &Shared) {
        for object in emulator.objects(BUCKET) {
            if self.lines.contains_key(&object.key) {
                continue;
            }
            let body = emulator.object(BUCKET, &object.key).unwrap_or_default();
            self.object(&object.key, &body, &lock(ledger));
        }
    }

    fn object(&mut self, key: &str, body: &[u8], ledger: &Ledger) {
        let mut lines = 0;
        let mut last: BTreeMap<u16, u32> = BTreeMap::new();
        for found in body.split(|byte| *byte == b'\n').filter(|found| !found.is_empty()) {
            lines += 1;
            let known = id_of(found).and_then(|id| Some((id, ledger.place(id)?)));
            let Some((id, (shard, place))) = known.filter(|(id, _)| line(*id) == found) else {
                self.wrong(format!("{key}: a line that was never produced"));
                continue;
            };
            if last.insert(shard, place).is_some_and(|before| before >= place) {
                self.wrong(format!("{key}: records of a shard do not ascend"));
            }
            if self.times.len() <= id {
                self.times.resize(ledger.len(), 0);
            }
            self.times[id] = self.times[id].saturating_add(1);
            match self.times[id] {
                1 => self.records += 1,
                times => self.wrong(format!("{key}: record {id} for the {times}. time")),
            }
        }
        if !body.ends_with(b"\n") {
            self.wrong(format!("{key}: the last line has no end"));
        }
        if !key.starts_with(PREFIX) {
            self.wrong(format!("{key}: an error object, and every record is good"));
        }
        self.lines.insert(key.to_owned(), lines);
    }

    fn wrong(&mut self, what: String) {
        if self.wrong.len() < WRONG_MAX {
            self.wrong.insert(what);
        }
    }

    /// Ids that were produced and are in no object.
    pub fn lost(&self, ledger: &Ledger) -> Vec<usize> {
        (0..ledger.len()).filter(|id| self.times.get(*id).is_none_or(|times| *times == 0)).collect()
    }

    /// Lines beyond the first of a record.
    pub fn repeated(&self) -> u64 {
        self.times.iter().map(|times| u64::from(times.saturating_sub(1))).sum()
    }
}

#[cfg(test)]
mod tests {
    use standpipe_emulator::Placed;

    use super::*;

    /// Three records, the first and the last of one shard.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        for (shard, number) in [("a", "1"), ("b", "2"), ("a", "3")] {
            ledger.produced(Placed { shard_id: shard.to_owned(), sequence_number: number.to_owned() }, &[1]);
        }
        ledger
    }

    fn found(objects: &[&[usize]]) -> Found {
        let mut found = Found::default();
        for (number, ids) in objects.iter().enumerate() {
            let body = ids.iter().flat_map(|id| [line(*id), b"\n".to_vec()].concat()).collect::<Vec<u8>>();
            found.object(&format!("{PREFIX}{number}"), &body, &ledger());
        }
        found
    }

    #[test]
    fn what_is_lost_repeated_foreign_or_in_disorder_is_found() {
        let good = found(&[&[1, 0], &[2]]);
        assert_eq!((good.lost(&ledger()), good.repeated(), good.wrong.len()), (vec![], 0, 0));
        let bad = found(&[&[2, 0], &[2], &[7]]);
        assert_eq!((bad.lost(&ledger()), bad.repeated(), bad.wrong.len()), (vec![1], 1, 3), "{:?}", bad.wrong);
    }
}
