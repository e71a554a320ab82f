//! The lease table, the commit table, the objects and the stream, in memory. Every write is judged as it happens.
//!
//! Never here: faults, time.

use std::collections::{BTreeMap, BTreeSet};

use standpipe_flow::write::RowWrite;
use standpipe_flow::{
    Checksum, CommitError, CommitId, DestinationId, DestinationPosition, Held, LeaseKey, LeaseRow, Output, OutputKind,
    Part, Pending, PendingMode, Position, Receipt, ReceiptState, Record,
};
use tokio::time::Instant;

use super::Ignored;
use super::destination::id;

/// A record of the stream, and when it can be read.
pub struct Produced {
    pub record: Record,
    /// Whether an aggregate ends with it: reads and checkpoints stop only there.
    pub last_of_aggregate: bool,
    pub there_from: Instant,
    /// The destination cannot encode it.
    pub bad: bool,
}

/// One shard of the stream.
pub struct Shard {
    pub records: Vec<Produced>,
    /// When it closes, if it does.
    pub closes: Option<Instant>,
}

impl Shard {
    /// The position of a worker that has delivered everything.
    pub fn end(&self) -> Position {
        let last = self.records.last().map_or(Position::TrimHorizon, |last| last.record.position());
        if self.closes.is_some() { Position::ShardEnd } else { last }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UploadState {
    Open,
    Visible,
    /// Aborted by the program.
    Discarded,
    /// Aborted by somebody else.
    Aborted,
}

pub struct Upload {
    pub cid: CommitId,
    pub key: String,
    pub state: UploadState,
    /// Ids of records, in order.
    pub records: Vec<usize>,
}

/// The upload that holds an output: nothing here is held otherwise.
pub fn upload_of(output: &Output) -> &String {
    let Held::Upload { id, .. } = &output.held else { panic!("no upload: {output:?}") };
    id
}

/// What a transaction does to the commit table.
pub enum ReceiptWrite<'a> {
    Nothing,
    Put(&'a Receipt),
    Settle(CommitId, ReceiptState),
}

pub struct Store {
    start: Instant,
    ignored: Ignored,
    pub destination: DestinationId,
    pub rows: BTreeMap<LeaseKey, LeaseRow>,
    pub receipts: BTreeMap<CommitId, Receipt>,
    /// Commits whose receipt has pages beside it that are written.
    pub paged: BTreeSet<CommitId>,
    pub uploads: BTreeMap<String, Upload>,
    pub incidents: BTreeSet<CommitId>,
    pub shards: BTreeMap<LeaseKey, Shard>,
    /// What the Java worker delivered: (from, to].
    pub java: Vec<(LeaseKey, Position, Position)>,
    /// What an idempotent destination has, and the ranges that needed no commit: (from, to].
    pub taken_in: BTreeSet<usize>,
    pub advanced: Vec<(LeaseKey, Position, Position)>,
    /// What was declared, what was sent under each id, and under which id each record was sent last.
    declared: BTreeMap<CommitId, (LeaseKey, Position, Position)>,
    sent: BTreeMap<CommitId, Vec<usize>>,
    under: BTreeMap<usize, CommitId>,
    /// The last commit of a shard of which something is visible.
    last_visible: BTreeMap<LeaseKey, (CommitId, Position)>,
    pub wrong: Vec<String>,
    pub events: BTreeMap<String, u64>,
    pub trace: Vec<String>,
}

impl Store {
    pub fn new(ignored: Ignored, destination: DestinationId, shards: BTreeMap<LeaseKey, Shard>) -> Self {
        Self {
            start: Instant::now(),
            ignored,
            destination,
            rows: shards.keys().map(|lease| (lease.clone(), LeaseRow::new(lease.clone()))).collect(),
            receipts: BTreeMap::new(),
            paged: BTreeSet::new(),
            uploads: BTreeMap::new(),
            incidents: BTreeSet::new(),
            shards,
            java: Vec::new(),
            taken_in: BTreeSet::new(),
            advanced: Vec::new(),
            declared: BTreeMap::new(),
            sent: BTreeMap::new(),
            under: BTreeMap::new(),
            last_visible: BTreeMap::new(),
            wrong: Vec::new(),
            events: BTreeMap::new(),
            trace: Vec::new(),
        }
    }

    /// Adds a line to the list of what happened.
    pub fn note(&mut self, text: String) {
        self.trace.push(format!("{:6} {text}", self.start.elapsed().as_millis()));
    }

    /// Counts.
    pub fn count(&mut self, event: &str) {
        *self.events.entry(event.to_owned()).or_default() += 1;
    }

    pub fn fail(&mut self, what: String) {
        self.note(format!("WRONG {what}"));
        self.wrong.push(what);
    }

    /// One conditional update of one row: the row after it.
    pub fn write(&mut self, write: &RowWrite) -> Result<LeaseRow, CommitError> {
        self.transact(std::slice::from_ref(write), &ReceiptWrite::Nothing)?;
        Ok(self.rows[&write.lease].clone())
    }

    /// All or nothing.
    pub fn transact(&mut self, writes: &[RowWrite], receipt: &ReceiptWrite<'_>) -> Result<(), CommitError> {
        let mut after = Vec::new();
        let mut refused: Vec<LeaseKey> = Vec::new();
        for write in writes {
            let mut heeded = write.clone();
            heeded.require.retain(|clause| !(self.ignored)(clause));
            match heeded.apply(&self.rows[&write.lease]) {
                Some(row) => after.push(row),
                None => refused.push(write.lease.clone()),
            }
        }
        if !refused.is_empty() {
            let cid = if let ReceiptWrite::Put(receipt) = receipt { Some(receipt.cid) } else { None };
            let carries = |lease: &&LeaseKey| self.pending(&self.rows[*lease]).map(|pending| pending.cid) == cid;
            let shown = refused.iter().find(|lease| cid.is_some() && carries(lease)).unwrap_or(&refused[0]);
            let now = Some(Box::new(self.rows[shown].clone()));
            return Err(CommitError::Refused { lease: Some(shown.clone()), now });
        }
        self.write_receipt(receipt)?;
        for row in after {
            let before = self.rows.insert(row.key.clone(), row.clone()).expect("a row is never deleted");
            self.judge(&before, &row);
        }
        Ok(())
    }

    fn write_receipt(&mut self, write: &ReceiptWrite<'_>) -> Result<(), CommitError> {
        let refused = Err(CommitError::Refused { lease: None, now: None });
        match write {
            ReceiptWrite::Nothing => {}
            ReceiptWrite::Put(receipt) => {
                if self.receipts.contains_key(&receipt.cid) {
                    return refused;
                }
                for output in &receipt.outputs {
                    if self.uploads[upload_of(output)].state == UploadState::Discarded {
                        self.fail(format!("I5: {} is committed, and its upload {} discarded", receipt.cid, output.key));
                    }
                }
                self.receipts.insert(receipt.cid, (*receipt).clone());
            }
            ReceiptWrite::Settle(cid, state) => {
                match self.receipts.get_mut(cid).filter(|receipt| receipt.state == ReceiptState::Committed) {
                    Some(receipt) => receipt.state = *state,
                    None => return refused,
                }
                let visible = |output: &Output| self.uploads[upload_of(output)].state == UploadState::Visible;
                if *state == ReceiptState::Done && !self.receipts[cid].outputs.iter().all(visible) {
                    self.fail(format!("I1: {cid} is DONE and not all of it visible"));
                }
            }
        }
        Ok(())
    }

    pub fn pending<'a>(&self, row: &'a LeaseRow) -> Option<&'a Pending> {
        row.destinations.get(&self.destination)?.pending.as_ref()
    }

    /// What a write of ours may do to a row.
    fn judge(&mut self, before: &LeaseRow, after: &LeaseRow) {
        let lease = &before.key;
        if after.checkpoint < before.checkpoint {
            self.fail(format!("I8: checkpoint of {lease} goes back, {} to {}", before.checkpoint, after.checkpoint));
        }
        let smallest = after.smallest_position().cloned().unwrap_or(Position::TrimHorizon);
        if after.checkpoint != before.checkpoint && (after.checkpoint > smallest || after.counter == before.counter) {
            self.fail(format!("I8: checkpoint of {lease} is moved to {}, delivered is {smallest}", after.checkpoint));
        }
        let Some(was) = before.destinations.get(&self.destination) else { return };
        let Some(is) = after.destinations.get(&self.destination) else {
            return self.fail(format!("{lease} has lost its destination"));
        };
        let mut reached = was.at.clone();
        let changed = was.pending.as_ref().filter(|_| was.pending != is.pending);
        if let Some(pending) = changed.filter(|pending| pending.mode == PendingMode::Declared) {
            reached = self.judge_declared_end(before, (&was.at, pending), is);
        } else if let Some(pending) = changed {
            match self.receipts.get(&pending.cid).map(|receipt| receipt.state) {
                Some(ReceiptState::Done) => reached = pending.to.clone(),
                Some(ReceiptState::Retracted) => {}
                other => {
                    self.fail(format!("I17: {lease} is finalized while the receipt of {} is {other:?}", pending.cid));
                }
            }
        }
        let adopted = was.pending.is_none() && is.pending.is_none() && is.at == after.checkpoint && is.at > reached;
        if is.at != reached && !adopted {
            self.judge_advance(lease, was, &is.at);
        }
        if let Some(pending) = is.pending.clone().filter(|_| was.pending != is.pending) {
            match pending.mode {
                PendingMode::Declared => self.judge_declaration(before, &is.at, &pending),
                _ => self.judge_commit(before, &is.at, &pending),
            }
        }
    }

    /// I14: a declared id is one fixed range.
    fn judge_declaration(&mut self, before: &LeaseRow, from: &Position, pending: &Pending) {
        let range = (before.key.clone(), from.clone(), pending.to.clone());
        if *from < before.checkpoint {
            self.fail(format!("I16: {} is declared from {from}, checkpoint is {}", pending.cid, before.checkpoint));
        }
        if self.declared.insert(pending.cid, range.clone()).is_some_and(|known| known != range) {
            self.fail(format!("I14: {} is declared twice, for two ranges", pending.cid));
        }
        self.count("declarations");
    }

    /// A declared range leaves its row: acknowledged, or a commit of its errors takes its place, or Java has done it.
    fn judge_declared_end(
        &mut self,
        before: &LeaseRow,
        (at, pending): (&Position, &Pending),
        is: &DestinationPosition,
    ) -> Position {
        let (lease, cid) = (&before.key, pending.cid);
        if is.at == pending.to {
            let missing = self.missing(lease, at, &pending.to);
            if missing > 0 {
                self.fail(format!("I1: {cid} of {lease} counts as acknowledged, {missing} records are not there"));
            }
            self.advanced.push((lease.clone(), at.clone(), pending.to.clone()));
            return pending.to.clone();
        }
        let replaced = is.pending.as_ref().is_some_and(|by| by.mode == PendingMode::Staged && by.to == pending.to);
        if !replaced && before.checkpoint < pending.to {
            self.fail(format!("I14: {cid} leaves {lease} at {}, and was declared to {}", is.at, pending.to));
        }
        self.count(if replaced { "declared ranges with errors" } else { "declared ranges that Java did" });
        at.clone()
    }

    /// Records between two positions that the destination does not have.
    fn missing(&self, lease: &LeaseKey, from: &Position, to: &Position) -> usize {
        let within = self.shards[lease].records.iter().filter(|made| (from..=to).contains(&&made.record.position()));
        let within = within.filter(|made| made.record.position() != *from);
        within.filter(|made| !self.taken_in.contains(&id(&made.record.data))).count()
    }

    /// I1: a position moves without a commit only past records that the destination has.
    fn judge_advance(&mut self, lease: &LeaseKey, was: &DestinationPosition, to: &Position) {
        let from = &was.at;
        let missing = self.missing(lease, from, to);
        if was.pending.is_some() || to < from {
            return self.fail(format!("I2, I8: {lease} goes from {from} to {to}"));
        }
        if missing > 0 {
            let idempotent = !self.taken_in.is_empty();
            let broken = if idempotent { "I1" } else { "I2, I8" };
            return self.fail(format!("{broken}: {lease} goes from {from} to {to} past {missing} records"));
        }
        self.advanced.push((lease.clone(), from.clone(), to.clone()));
        self.count("advances without a commit");
    }

    fn judge_commit(&mut self, before: &LeaseRow, from: &Position, pending: &Pending) {
        let lease = &before.key;
        let cid = pending.cid;
        let Some(receipt) = self.receipts.get(&cid).filter(|receipt| receipt.state == ReceiptState::Committed) else {
            return self.fail(format!("I6: {lease} carries {cid}, which has no committed receipt"));
        };
        let Some(listed) = receipt.shards.iter().find(|listed| listed.lease == *lease).cloned() else {
            return self.fail(format!("I6: {lease} carries {cid}, whose receipt does not name it"));
        };
        if listed.from != *from || listed.to != pending.to {
            self.fail(format!("I2: {lease} carries {cid} over another range than its receipt"));
        }
        if before.tenure != Some(listed.tenure) || before.generation != listed.generation {
            self.fail(format!("I9: {cid} of a dead tenure is written to {lease}"));
        }
        if pending.to.sub() > 0 {
            self.count("commits that end with an aggregate");
        }
        let replaces =
            self.pending(before).is_some_and(|was| was.mode == PendingMode::Declared && was.to == pending.to);
        if *from < before.checkpoint && !replaces {
            self.fail(format!("I16: {cid} begins at {from}, checkpoint of {lease} is {}", before.checkpoint));
        }
    }

    /// An idempotent destination takes records in: again changes nothing.
    pub fn take_in(&mut self, records: &[usize]) {
        let before = self.taken_in.len();
        self.taken_in.extend(records);
        if self.taken_in.len() - before < records.len() {
            self.count("records taken in again");
        }
        self.note(format!("{} records taken in", records.len()));
    }

    /// A declared destination is sent a batch, or a part of it: the whole of it is the same every time, and no record comes
    /// under two ids, unless a commit that covered it was taken back.
    pub fn take_declared(&mut self, cid: CommitId, whole: &[usize], part: &[usize]) {
        if !self.declared.contains_key(&cid) {
            self.fail(format!("I14: {cid} is sent before its range is written down"));
        }
        if self.sent.entry(cid).or_insert_with(|| whole.to_vec()) != whole {
            self.fail(format!("I14: {cid} is sent again with other records"));
        }
        for id in part {
            let before = self.under.insert(*id, cid).filter(|before| *before != cid);
            if let Some(before) = before
                && !self.was_taken_back(*id)
            {
                self.fail(format!("repeated: record {id} is sent as {before} and as {cid}"));
            }
        }
        self.take_in(part);
    }

    fn was_taken_back(&self, record: usize) -> bool {
        let retracted = self.receipts.values().filter(|receipt| receipt.state == ReceiptState::Retracted);
        retracted.flat_map(|receipt| &receipt.shards).any(|listed| {
            let made = self.shards[&listed.lease].records.iter().find(|made| id(&made.record.data) == record);
            made.map(|made| made.record.position()).is_some_and(|at| listed.from < at && at <= listed.to)
        })
    }

    /// A new open upload.
    pub fn open(&mut self, cid: CommitId, key: String, kind: OutputKind, records: Vec<usize>) -> Output {
        let upload_id = format!("upload-{}", self.uploads.len());
        let output = Output {
            kind,
            bucket: "lake".into(),
            key: key.clone(),
            held: Held::Upload { id: upload_id.clone(), parts: vec![Part { number: 1, etag: "\"1\"".into() }] },
            size: 10 * records.len() as u64,
            checksum: Checksum::Crc32("AAAAAA==".into()),
            records: records.len() as u64,
        };
        self.note(format!("open {key} {upload_id} of {} records", records.len()));
        self.uploads.insert(upload_id, Upload { cid, key, state: UploadState::Open, records });
        output
    }

    /// CompleteMultipartUpload: what is there after it.
    pub fn complete(&mut self, output: &Output) -> UploadState {
        let (cid, state) = (self.uploads[upload_of(output)].cid, self.uploads[upload_of(output)].state);
        if state == UploadState::Open {
            self.judge_visible(cid, output);
            self.uploads.get_mut(upload_of(output)).expect("just read").state = UploadState::Visible;
        }
        self.note(format!("complete {} {}: was {state:?}", output.key, upload_of(output)));
        self.uploads[upload_of(output)].state
    }

    fn judge_visible(&mut self, cid: CommitId, output: &Output) {
        let Some(receipt) = self.receipts.get(&cid).filter(|receipt| receipt.outputs.contains(output)) else {
            return self.fail(format!("I4: {} becomes visible without a receipt", output.key));
        };
        if receipt.state == ReceiptState::Retracted {
            return; // a late request; whether an incident names it is checked at the end
        }
        for listed in receipt.shards.clone() {
            let before = self.last_visible.insert(listed.lease.clone(), (cid, listed.from.clone()));
            let Some((other, from)) = before.filter(|(other, _)| *other != cid) else { continue };
            let retracted = self.receipts[&other].state == ReceiptState::Retracted;
            if listed.from < from || (listed.from == from && !retracted) {
                self.fail(format!("order: of {} {cid} becomes visible after {other}", listed.lease));
            }
        }
    }

    /// AbortMultipartUpload by the program.
    pub fn discard(&mut self, output: &Output) {
        let cid = self.uploads[upload_of(output)].cid;
        let named = self.receipts.get(&cid).filter(|receipt| receipt.outputs.contains(output));
        if named.is_some_and(|receipt| receipt.state != ReceiptState::Retracted) {
            self.fail(format!("I5: {} is discarded, its receipt stands", output.key));
        }
        let upload = self.uploads.get_mut(upload_of(output)).expect("an output was opened");
        if upload.state == UploadState::Open {
            upload.state = UploadState::Discarded;
        }
        self.note(format!("discard {} {}", output.key, upload_of(output)));
    }

    /// Somebody else aborts an open upload.
    pub fn abort(&mut self, upload_id: &str) {
        let Some(upload) = self.uploads.get_mut(upload_id).filter(|upload| upload.state == UploadState::Open) else {
            return;
        };
        upload.state = UploadState::Aborted;
        let cid = upload.cid;
        let when = if self.receipts.contains_key(&cid) { "after the commit" } else { "before the commit" };
        self.count(&format!("uploads aborted by somebody else, {when}"));
        self.note(format!("foreign abort of {upload_id}"));
    }

    /// Whether everything is delivered, finalized and checkpointed.
    pub fn drained(&self) -> bool {
        self.rows.values().all(|row| {
            let end = self.shards[&row.key].end();
            let position = row.destinations.get(&self.destination);
            row.checkpoint == end && position.is_some_and(|at| at.at == end && at.pending.is_none())
        })
    }
}
