//! What every [`Destination`] must pass, run by its own tests against a server in memory or a real one.
//!
//! `batch -> stage -> commit -> publish` as the pipeline relies on it: what is staged is invisible until it is published;
//! publishing may be repeated by anyone; what was discarded can never become visible; an empty batch leaves nothing.
//! A [`Witness`] looks at the destination from outside, never through it.
//! Never: knows a kind of destination, or panics: a breach is a [`Violation`] that names the rule.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use bytes::Bytes;

use crate::batch::{Batch, BatchShard, Range};
use crate::chunk::{Chunk, Taken};
use crate::clock::Millis;
use crate::deliver::{DeliveryError, Destination, ExtraObject, Mode, Published, Staged};
use crate::lease::{DestinationId, Fence, Generation, LeaseKey, Tenure, WorkerId};
use crate::receipt::{CommitId, Output, OutputKind, Receipt, ReceiptShard, ReceiptState};
use crate::record::Record;
use crate::sequence::{Position, SequenceNumber};

/// Looks at a destination as its readers and its bill do.
#[async_trait]
pub trait Witness: Send + Sync {
    /// The object under this key, if a reader can see it.
    async fn visible(&self, key: &str) -> Option<Bytes>;
    /// Everything that is staged and not published.
    async fn open_uploads(&self) -> usize;
}

/// A rule that a destination broke.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{rule}: {found}")]
pub struct Violation {
    /// What must hold.
    pub rule: &'static str,
    /// What was seen instead.
    pub found: String,
}

/// When the batches of the suite were cut: 2026-09-21T14:13:20Z.
const CUT_AT: Millis = Millis(1_790_000_000_000);
/// `error-output-type` of the suite's error objects.
const ERROR_TYPE: &str = "processing-failed";

/// Runs the whole suite. The destination must be reachable, and nothing else may write to it meanwhile. It leaves the
/// objects that it published.
pub async fn check(destination: &dyn Destination, witness: &dyn Witness) -> Result<(), Violation> {
    let mut suite = Suite { destination, witness, cids: 0 };
    suite.probing_leaves_nothing().await?;
    suite.an_empty_batch_leaves_nothing().await?;
    if destination.mode() == Mode::Staged {
        suite.staged_is_invisible_and_published_is_visible().await?;
        suite.publishing_may_be_repeated_and_may_race().await?;
        suite.a_commit_without_outputs_is_published().await?;
        suite.discarded_is_gone().await?;
        suite.what_is_left_of_a_commit_is_told_apart().await?;
        suite.two_attempts_never_share_a_key().await?;
        suite.published_outlives_a_late_discard().await?;
    }
    Ok(())
}

struct Suite<'a> {
    destination: &'a dyn Destination,
    witness: &'a dyn Witness,
    cids: u64,
}

fn hold(rule: &'static str, holds: bool, found: impl fmt::Debug) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { rule, found: format!("{found:?}") }) }
}

fn answered<T>(rule: &'static str, answer: Result<T, DeliveryError>) -> Result<T, Violation> {
    answer.map_err(|error| Violation { rule, found: error.to_string() })
}

impl Suite<'_> {
    fn cid(&mut self) -> CommitId {
        self.cids += 1;
        CommitId::new(CUT_AT, 0xC0FFE, self.cids << 4)
    }

    /// A batch of two shards and an error object beside it, staged under a new id.
    async fn staged(&mut self) -> Result<Receipt, Violation> {
        let (cid, batch) = (self.cid(), batch(3));
        let mut staged = answered("a batch can be staged", self.destination.stage(cid, &batch).await)?;
        let object = error_object(staged.outputs.len() as u32);
        let (output, _) =
            answered("an error object can be staged beside a batch", self.destination.stage_extra(cid, &object).await)?;
        staged.outputs.push(output);
        Ok(receipt(cid, &batch, staged))
    }

    async fn publish(&self, receipt: &Receipt) -> Result<(), Violation> {
        const RULE: &str = "a committed receipt is published";
        let published = answered(RULE, self.destination.publish(receipt).await)?;
        hold(RULE, published == Published::All, published)
    }

    async fn all_visible(&self, rule: &'static str, outputs: &[Output]) -> Result<Vec<Bytes>, Violation> {
        let mut bodies = Vec::new();
        for output in outputs {
            let Some(body) = self.witness.visible(&output.key).await else {
                return Err(Violation { rule, found: format!("{} is not visible", output.key) });
            };
            hold("an object has the size in its receipt", body.len() as u64 == output.size, &output.key)?;
            bodies.push(body);
        }
        Ok(bodies)
    }

    async fn none_visible(&self, rule: &'static str, outputs: &[Output]) -> Result<(), Violation> {
        for output in outputs {
            hold(rule, self.witness.visible(&output.key).await.is_none(), &output.key)?;
        }
        Ok(())
    }

    async fn open_are(&self, rule: &'static str, expected: usize) -> Result<(), Violation> {
        let open = self.witness.open_uploads().await;
        hold(rule, open == expected, format!("{open} staged, {expected} expected"))
    }

    async fn probing_leaves_nothing(&mut self) -> Result<(), Violation> {
        const RULE: &str = "probing succeeds and leaves nothing";
        let before = self.witness.open_uploads().await;
        answered(RULE, self.destination.probe().await)?;
        self.open_are(RULE, before).await
    }

    async fn an_empty_batch_leaves_nothing(&mut self) -> Result<(), Violation> {
        const RULE: &str = "a batch without records leaves nothing";
        let before = self.witness.open_uploads().await;
        let staged = answered(RULE, self.destination.stage(self.cid(), &batch(0)).await)?;
        hold(RULE, staged == Staged::default(), staged)?;
        self.open_are(RULE, before).await
    }

    async fn staged_is_invisible_and_published_is_visible(&mut self) -> Result<(), Violation> {
        let before = self.witness.open_uploads().await;
        let receipt = self.staged().await?;
        let outputs = &receipt.outputs;
        let data: u64 = outputs.iter().filter(|output| output.kind == OutputKind::Data).map(|o| o.records).sum();
        hold("every record is in an output or rejected", data == receipt.records, &receipt)?;
        hold("staging says when it was first seen by the store", receipt.created_at.is_some(), &receipt)?;
        self.none_visible("what is staged is invisible", outputs).await?;
        self.open_are("every output is staged once", before + outputs.len()).await?;

        self.publish(&receipt).await?;
        let bodies = self.all_visible("what is published is visible", outputs).await?;
        let whole = error_object(1).body;
        hold("an error object is published byte for byte", bodies.last() == Some(&whole), bodies.last())?;
        self.open_are("what is published is not staged any more", before).await
    }

    async fn publishing_may_be_repeated_and_may_race(&mut self) -> Result<(), Violation> {
        const RULE: &str = "publishing again, by anyone, changes nothing and says All";
        let receipt = self.staged().await?;
        let (first, second) = join(self.destination.publish(&receipt), self.destination.publish(&receipt)).await;
        for published in [first, second] {
            // The slower of two may be told to ask again, which is what a publisher does.
            if !matches!(published, Err(DeliveryError::Retry { .. })) {
                let published = answered(RULE, published)?;
                hold(RULE, published == Published::All, published)?;
            }
        }
        self.publish(&receipt).await?;
        let bodies = self.all_visible(RULE, &receipt.outputs).await?;
        let again = answered(RULE, self.destination.publish(&receipt).await)?;
        hold(RULE, again == Published::All, again)?;
        let unchanged = self.all_visible(RULE, &receipt.outputs).await? == bodies;
        hold(RULE, unchanged, "the bytes have changed")
    }

    async fn a_commit_without_outputs_is_published(&mut self) -> Result<(), Violation> {
        let cid = self.cid();
        self.publish(&receipt(cid, &batch(0), Staged::default())).await
    }

    async fn discarded_is_gone(&mut self) -> Result<(), Violation> {
        const RULE: &str = "what was discarded is gone, and discarding it again is no error";
        let before = self.witness.open_uploads().await;
        let receipt = self.staged().await?;
        for _ in 0..2 {
            answered(RULE, self.destination.discard(&receipt.outputs).await)?;
            self.open_are(RULE, before).await?;
        }
        let published = answered(RULE, self.destination.publish(&receipt).await)?;
        let expected = Published::Gone { outputs: receipt.outputs.clone(), published: false };
        hold(RULE, published == expected, published)?;
        self.none_visible(RULE, &receipt.outputs).await
    }

    async fn what_is_left_of_a_commit_is_told_apart(&mut self) -> Result<(), Violation> {
        const RULE: &str = "of a commit with a lost output the others are published, and the lost one is named";
        let receipt = self.staged().await?;
        let (lost, left) = receipt.outputs.split_at(1);
        answered(RULE, self.destination.discard(lost).await)?;
        for _ in 0..2 {
            let published = answered(RULE, self.destination.publish(&receipt).await)?;
            let expected = Published::Gone { outputs: lost.to_vec(), published: true };
            hold(RULE, published == expected, published)?;
        }
        self.all_visible(RULE, left).await?;
        self.none_visible(RULE, lost).await
    }

    async fn two_attempts_never_share_a_key(&mut self) -> Result<(), Violation> {
        const RULE: &str = "two attempts at one batch never share a key";
        let (first, second) = (self.staged().await?, self.staged().await?);
        let shared = first.outputs.iter().find(|output| second.outputs.iter().any(|other| other.key == output.key));
        hold(RULE, shared.is_none(), shared)?;
        answered(RULE, self.destination.discard(&first.outputs).await)?;
        answered(RULE, self.destination.discard(&second.outputs).await)
    }

    async fn published_outlives_a_late_discard(&mut self) -> Result<(), Violation> {
        const RULE: &str = "discarding what is published takes nothing away";
        let receipt = self.staged().await?;
        self.publish(&receipt).await?;
        // Whether that is an error is the destination's to say.
        let _ = self.destination.discard(&receipt.outputs).await;
        self.all_visible(RULE, &receipt.outputs).await.map(drop)
    }
}

/// Both, at once.
async fn join<A, B>(first: impl Future<Output = A>, second: impl Future<Output = B>) -> (A, B) {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (mut one, mut other) = (None, None);
    poll_fn(|context| {
        if one.is_none()
            && let Poll::Ready(answer) = first.as_mut().poll(context)
        {
            one = Some(answer);
        }
        if other.is_none()
            && let Poll::Ready(answer) = second.as_mut().poll(context)
        {
            other = Some(answer);
        }
        match (one.take(), other.take()) {
            (Some(one), Some(other)) => Poll::Ready((one, other)),
            (still_one, still_other) => {
                (one, other) = (still_one, still_other);
                Poll::Pending
            }
        }
    })
    .await
}

/// A batch over two shards with so many records each, JSON objects that every format takes; without records it ends its
/// shards.
pub fn batch(records_per_shard: usize) -> Arc<Batch> {
    let shard = |index: u64| {
        let lease = LeaseKey::new(format!("shardId-{index:012}"));
        let record = |n: usize| Record {
            data: Bytes::from(format!("{{\"shard\":{index},\"n\":{n}}}")),
            partition_key: "k".into(),
            sequence: SequenceNumber::from(1_000 * index + n as u64 + 1),
            sub: 0,
            arrival: Millis(CUT_AT.0 - 60_000 + n as u64),
            transformed: None,
            partition: None,
        };
        let records: Vec<Record> = (0..records_per_shard).map(record).collect();
        let to = records.last().map_or(Position::ShardEnd, Record::position);
        let range = Range {
            fence: Fence {
                lease: lease.clone(),
                owner: WorkerId::new("conformance"),
                tenure: Tenure([index as u8; 16]),
                generation: Generation::default(),
            },
            from: Position::TrimHorizon,
            to: to.clone(),
            arrival: records.last().map(|record| record.arrival),
        };
        let chunk = Chunk {
            lease,
            tenure: range.fence.tenure,
            from: Position::TrimHorizon,
            to,
            memory_bytes: records.iter().map(|record| record.data.len()).sum(),
            records,
            rejected: Vec::new(),
            originals: Arc::default(),
            behind: std::time::Duration::ZERO,
            taken: Taken::default(),
        };
        let chunks = if chunk.records.is_empty() { Vec::new() } else { vec![chunk] };
        BatchShard { range, chunks }
    };
    let shards = (0..2).map(shard).collect();
    Arc::new(Batch { destination: DestinationId::new("conformance"), cut_at: CUT_AT, declared: None, shards })
}

fn error_object(ordinal: u32) -> ExtraObject {
    ExtraObject {
        kind: OutputKind::Error,
        output_type: ERROR_TYPE,
        ordinal,
        cut_at: CUT_AT,
        oldest_arrival: Millis(CUT_AT.0 - 60_000),
        body: Bytes::from_static(b"{\"errorCode\":\"Conformance\"}\n"),
        records: 1,
    }
}

/// The receipt of a commit of a whole batch, COMMITTED.
pub fn receipt(cid: CommitId, batch: &Batch, staged: Staged) -> Receipt {
    let shard = |range: Range| ReceiptShard {
        lease: range.fence.lease,
        from: range.from,
        to: range.to,
        tenure: range.fence.tenure,
        generation: range.fence.generation,
        arrival: range.arrival,
    };
    Receipt {
        gave_up: false,
        cid,
        state: ReceiptState::Committed,
        destination: batch.destination.clone(),
        shards: batch.ranges().into_iter().map(shard).collect(),
        records: batch.records().count() as u64,
        bytes: staged.outputs.iter().map(|output| output.size).sum(),
        outputs: staged.outputs,
        config: String::new(),
        worker: WorkerId::new("conformance"),
        version: String::new(),
        created_at: staged.created_at,
    }
}
