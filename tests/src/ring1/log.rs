//! The scripted commit log of one worker: each call is one request over the wire.

use std::sync::Arc;

use async_trait::async_trait;
use standpipe_flow::write::{self, RowWrite};
use standpipe_flow::{
    Advance, Commit, CommitError, CommitId, CommitLog, Declare, Finalize, LeaseKey, LeaseRow, Receipt, ReceiptState,
    WorkerId,
};

use super::store::{ReceiptWrite, Store};
use super::wire::{Fate, Wire};

pub struct ScriptedLog {
    pub wire: Arc<Wire>,
    pub worker: WorkerId,
}

/// One request of the tables, with every answer that DynamoDB has for it. `harder`: as in [`Wire::harder_fate`].
async fn ask<T, F>(wire: &Wire, harder: u64, effect: F) -> Result<T, CommitError>
where
    T: Send + 'static,
    F: Fn(&mut Store) -> Result<T, CommitError> + Send + Sync + 'static,
{
    let fate = wire.harder_fate(harder);
    match (wire.send(fate, effect).await, fate) {
        (Some(answer), _) => answer,
        (None, Fate::Conflict) => Err(CommitError::Conflict),
        (None, Fate::Throttled) => Err(CommitError::Throttled),
        (None, _) => Err(CommitError::Unknown { cause: "no answer".into() }),
    }
}

/// One conditional write of one row.
pub async fn write(wire: &Wire, who: &WorkerId, name: &'static str, write: RowWrite) -> Result<LeaseRow, CommitError> {
    let who = who.clone();
    let rare = ["advance", "take", "release"].contains(&name);
    ask(wire, if rare { 250 } else { 0 }, move |store| {
        let answer = store.write(&write);
        let said = match &answer {
            Ok(row) => shown(store, row),
            Err(_) => format!("refused by {}", shown(store, &store.rows[&write.lease])),
        };
        store.note(format!("{who} {name} {}: {said}", write.lease));
        answer
    })
    .await
}

/// A row, in a line.
fn shown(store: &Store, row: &LeaseRow) -> String {
    let position = row.destinations.get(&store.destination);
    let at = position.map_or("-".to_owned(), |position| position.at.to_string());
    let pending = position.and_then(|position| position.pending.as_ref());
    let pending = pending.map_or(String::new(), |pending| format!(" to {} by {}", pending.to, pending.cid));
    let owner = row.owner.as_ref().map_or("-", WorkerId::as_str);
    let tenure = row.tenure.map_or(0, |tenure| tenure.0[15]);
    format!("owner {owner}/{tenure:02x} n {} checkpoint {} at {at}{pending}", row.counter, row.checkpoint)
}

impl ScriptedLog {
    async fn ask<T, F>(&self, harder: u64, effect: F) -> Result<T, CommitError>
    where
        T: Send + 'static,
        F: Fn(&mut Store) -> Result<T, CommitError> + Send + Sync + 'static,
    {
        if self.wire.is(self.wire.denied) {
            tokio::time::sleep(self.wire.latency()).await;
            return Err(CommitError::Denied { cause: "AccessDeniedException".into() });
        }
        ask(&self.wire, harder, effect).await
    }

    async fn row_write(&self, name: &'static str, write: RowWrite) -> Result<(), CommitError> {
        if self.wire.is(self.wire.denied) {
            tokio::time::sleep(self.wire.latency()).await;
            return Err(CommitError::Denied { cause: "AccessDeniedException".into() });
        }
        self::write(&self.wire, &self.worker, name, write).await.map(|_| ())
    }
}

/// Whether the receipt of a commit has outputs on pages beside it.
fn has_pages(cid: CommitId) -> bool {
    cid.0[14].is_multiple_of(3)
}

fn commit(store: &mut Store, who: &WorkerId, commit: &Commit) -> Result<(), CommitError> {
    let cid = commit.receipt.cid;
    if has_pages(cid) && !store.paged.contains(&cid) {
        store.fail(format!("{cid} is sent before the pages that its receipt names are written"));
    }
    // The client request token: the same transaction again is answered as the first one was.
    let known = store.receipts.contains_key(&cid) && cid.0[15].is_multiple_of(2);
    let answer = if known { Ok(()) } else { store.transact(&commit.writes(), &ReceiptWrite::Put(&commit.receipt)) };
    let ranges = commit.shards.iter().map(|shard| format!("{} {}..{}", shard.fence.lease, shard.from, shard.to));
    let ranges: Vec<String> = ranges.collect();
    let said = match &answer {
        Ok(()) if known => "known".to_owned(),
        Ok(()) => "written".to_owned(),
        Err(CommitError::Refused { lease: Some(lease), .. }) => {
            format!("refused by {lease}: {}", shown(store, &store.rows[lease]))
        }
        Err(error) => error.to_string(),
    };
    store.note(format!("{who} commit {cid} of {}: {said}", ranges.join(", ")));
    answer
}

#[async_trait]
impl CommitLog for ScriptedLog {
    async fn prepare(&self, receipt: &Receipt) -> Result<(), CommitError> {
        let (cid, who) = (receipt.cid, self.worker.clone());
        if !has_pages(cid) {
            return Ok(());
        }
        self.ask(80, move |store| {
            store.note(format!("{who} writes the pages of {cid}"));
            store.paged.insert(cid);
            Ok(())
        })
        .await
    }

    async fn commit(&self, commit: &Commit) -> Result<(), CommitError> {
        let (commit, who) = (commit.clone(), self.worker.clone());
        self.ask(80, move |store| self::commit(store, &who, &commit)).await
    }

    async fn done(&self, cid: CommitId, _: bool) -> Result<(), CommitError> {
        let who = self.worker.clone();
        self.ask(0, move |store| {
            let answer = store.transact(&[], &ReceiptWrite::Settle(cid, ReceiptState::Done));
            store.note(format!("{who} done {cid}: {}", answer.is_ok()));
            answer
        })
        .await
    }

    async fn receipt(&self, cid: CommitId) -> Result<Option<Receipt>, CommitError> {
        let who = self.worker.clone();
        self.ask(0, move |store| {
            let receipt = store.receipts.get(&cid).cloned();
            store.note(format!("{who} reads receipt {cid}: {:?}", receipt.as_ref().map(|receipt| receipt.state)));
            Ok(receipt)
        })
        .await
    }

    async fn finalize(&self, finalize: &Finalize) -> Result<(), CommitError> {
        self.row_write("finalize", finalize.write()).await
    }

    async fn declare(&self, declare: &Declare) -> Result<(), CommitError> {
        self.row_write("declare", declare.write()).await
    }

    async fn advance(&self, advance: &Advance) -> Result<(), CommitError> {
        self.row_write("advance", advance.write()).await
    }

    async fn row(&self, lease: &LeaseKey) -> Result<Option<LeaseRow>, CommitError> {
        let lease = lease.clone();
        self.ask(0, move |store| Ok(store.rows.get(&lease).cloned())).await
    }

    async fn retract(&self, receipt: &Receipt, carriers: &[LeaseRow]) -> Result<(), CommitError> {
        let cid = receipt.cid;
        let clear = |row: &LeaseRow| {
            let position = row.destinations.get(&receipt.destination)?;
            Some(write::finalize(&row.key, &receipt.destination, cid, (&position.at, position.arrival)))
        };
        let writes: Vec<RowWrite> = carriers.iter().filter_map(clear).collect();
        let who = self.worker.clone();
        self.ask(250, move |store| {
            let answer = store.transact(&writes, &ReceiptWrite::Settle(cid, ReceiptState::Retracted));
            store.note(format!("{who} retract {cid} from {} rows: {}", writes.len(), answer.is_ok()));
            answer
        })
        .await
    }
}
