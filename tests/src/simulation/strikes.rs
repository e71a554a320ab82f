//! What goes wrong in a run at the hand of the world: processes, connections, uploads, leases and shards.

use std::collections::BTreeSet;
use std::time::Duration;

use standpipe_emulator::UploadSummary;
use standpipe_flow::write::{self, Take};
use standpipe_flow::{Tenure, WorkerId};
use tokio::time::sleep;

use super::moments::Deed;
use super::world::{STREAM, THIEF, World};
use super::{check, faults};

/// A stream is not grown beyond so many open shards: more cost requests and show nothing new.
const OPEN_SHARDS_MAX: usize = 9;

impl World {
    /// A random living process, if there is one.
    fn victim(&mut self) -> Option<u64> {
        let living: Vec<u64> = self.processes.keys().copied().collect();
        (!living.is_empty()).then(|| living[self.dice.within(0, living.len() as u64 - 1) as usize])
    }

    /// `kill -9`: nothing more is sent, what is on its way arrives.
    pub(super) fn kill(&mut self, number: u64) {
        if let Some(process) = self.processes.remove(&number) {
            process.task.abort();
            self.note(Deed::Kill(process.connection.name().to_owned()));
        }
    }

    /// One of the things that may go wrong.
    pub(super) fn strike(&mut self) {
        let now = self.now_millis();
        match self.dice.within(0, 11) {
            0..=2 => {
                if let Some(number) = self.victim() {
                    self.kill(number);
                }
            }
            3 => {
                if let Some(process) = self.victim().and_then(|number| self.processes.remove(&number)) {
                    process.stop.cancel();
                    self.note(Deed::Stop(process.connection.name().to_owned()));
                }
            }
            4 => {
                if let Some(name) = self.victim().map(|number| self.processes[&number].connection.name().to_owned()) {
                    faults::slow(self.emulator.faults(), &mut self.dice, now, &name);
                    self.moments.count("slow connection");
                }
            }
            5 => self.cut(),
            6 | 7 => self.abort_an_upload(),
            8 => self.steal(),
            9 => self.join(),
            _ => {
                let service = faults::away(self.emulator.faults(), &mut self.dice, now);
                self.note(Deed::Away(service));
            }
        }
    }

    /// One more worker than there should be: live leases move to it.
    fn join(&mut self) {
        if self.processes.len() < 6 {
            self.begin();
            self.moments.count("joined");
        }
    }

    fn cut(&mut self) {
        let Some(number) = self.victim() else { return };
        let connection = self.processes[&number].connection.clone();
        let while_cut = Duration::from_millis(self.dice.within(300, 9_000));
        connection.cut();
        self.tasks.spawn(async move {
            sleep(while_cut).await;
            connection.mend();
            Ok(())
        });
        self.moments.count("cut connection");
    }

    /// Somebody who is no worker takes a lease, whoever holds it, and never renews it.
    fn steal(&mut self) {
        let table = self.table(THIEF);
        let (roll, tenure) = (self.dice.roll(), self.dice.roll());
        self.moments.count("stolen");
        self.tasks.spawn(async move {
            let Ok(rows) = table.scan().await else { return Ok(()) };
            let held: Vec<_> = rows.leases.values().filter(|row| row.owner.is_some() && !row.ended()).collect();
            if let Some(row) = held.get(roll as usize % held.len().max(1)) {
                let none = BTreeSet::new();
                let take = Take {
                    row,
                    worker: &WorkerId::new(THIEF),
                    tenure: Tenure(u128::from(tenure).to_be_bytes()),
                    destinations: &none,
                    retired: &none,
                };
                let _ = table.write(&write::take(&take)).await;
            }
            Ok(())
        });
    }

    /// One of several destinations is down.
    pub(super) fn destination_down(&mut self) {
        let buckets = self.scene.buckets();
        let bucket = buckets[self.dice.within(0, buckets.len() as u64 - 1) as usize];
        let now = self.now_millis();
        faults::bucket_down(self.emulator.faults(), &mut self.dice, now, bucket);
        self.note(Deed::Down(bucket));
    }

    /// The open uploads of all buckets, each with its bucket.
    fn open_uploads(&self) -> Vec<(&'static str, UploadSummary)> {
        let of =
            |bucket: &'static str| self.emulator.open_uploads(bucket).into_iter().map(move |upload| (bucket, upload));
        self.scene.buckets().iter().copied().flat_map(of).collect()
    }

    /// Somebody else aborts an upload of ours, whatever it is for.
    fn abort_an_upload(&mut self) {
        let open = self.open_uploads();
        // After the retention an upload may be the only copy: such runs say beforehand whether they lose them all. Of a
        // commit of many outputs that is an incident when others are visible: the first ring has those.
        if open.is_empty() || self.scene.fleet_down.is_some() || self.scene.put {
            return;
        }
        let (bucket, upload) = &open[self.dice.within(0, open.len() as u64 - 1) as usize];
        if self.emulator.abort_upload(bucket, &upload.key, &upload.upload_id) {
            self.note(Deed::Abort(upload.key.clone()));
        }
    }

    /// Every open upload is aborted, as a lifecycle rule would.
    pub(super) fn abort_all_uploads(&mut self) {
        for (bucket, upload) in self.open_uploads() {
            self.emulator.abort_upload(bucket, &upload.key, &upload.upload_id);
            self.note(Deed::Abort(upload.key));
        }
    }

    /// Splits, merges or scales; mostly what was resharded last, so that the tree grows deep.
    pub(super) fn reshard(&mut self) {
        let open = self.emulator.open_shards(STREAM).expect("the stream is there");
        let youngest = open.iter().max().and_then(|last| open.iter().position(|shard| shard == last)).unwrap_or(0);
        let at = if self.dice.percent(50) { youngest } else { self.dice.within(0, open.len() as u64 - 1) as usize };
        match self.dice.within(0, 9) {
            0..=5 if open.len() < OPEN_SHARDS_MAX => {
                self.note(Deed::Split(open[at].clone()));
                self.emulator.split_shard(STREAM, &open[at]).expect("an open shard splits");
            }
            6 | 7 => self.scale(open.len()),
            _ if open.len() > 1 => {
                let at = at.min(open.len() - 2);
                self.note(Deed::Merge(open[at].clone(), open[at + 1].clone()));
                self.emulator.merge_shards(STREAM, &open[at], &open[at + 1]).expect("neighbours merge");
            }
            _ => {}
        }
    }

    fn scale(&mut self, open: usize) {
        if open * 2 <= OPEN_SHARDS_MAX && self.dice.percent(25) {
            self.emulator.double_as_on_demand(STREAM).expect("the stream is there");
            return self.note(Deed::Scale { from: open as u64, to: open as u64 * 2 });
        }
        let grow = open * 2 <= OPEN_SHARDS_MAX && self.dice.percent(60);
        let target = if grow { self.dice.within(open as u64, open as u64 * 2) } else { (open as u64).div_ceil(2) };
        if target != open as u64 {
            self.emulator.update_shard_count(STREAM, target as usize).expect("between a half and the double");
            self.note(Deed::Scale { from: open as u64, to: target });
        }
    }

    /// A consumer reads an object and deletes it.
    pub(super) fn consume(&mut self) {
        for bucket in self.scene.buckets() {
            for object in check::delivered(&self.emulator, bucket) {
                if self.dice.percent(30) {
                    let body = self.emulator.object(bucket, &object.key).unwrap_or_default();
                    self.emulator.delete_object(bucket, &object.key);
                    self.ledger.consumed(bucket, object.key.clone(), &body);
                    self.note(Deed::Consume(object.key));
                }
            }
        }
    }
}
