//! Carries the protocol's effects out: one future each, which repeats its request until the answer means something to
//! the protocol, and then is that event. Time lives here: pauses, deadlines, the age of a batch.
//!
//! Never here: what an answer means.

mod refusals;

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use standpipe_flow::{
    Advance, Batch, Clock, Commit, CommitError, CommitId, CommitLog, Declare, DeliveryError, Destination, Finalize,
    Holdings, LeaseRow, Mode, Output, Published, Random, Range, Receipt, Tenure,
};
use tokio::sync::Semaphore;
use tracing::{debug, error, info, warn};

pub(crate) use self::refusals::Carried;
use self::refusals::Refusals;
use crate::failed;
use crate::metrics::{At, Metrics};
use crate::protocol::{Answer, Event, StagedBatch};

/// A live batch refuses to commit when it is older than this, so that the sweeper's 24 h can never meet one (protocol 3).
const BATCH_AGE_MAX: Duration = Duration::from_secs(6 * 3600);
/// How often a delivery that is under way looks whether its leases are still held.
const LOOK_AT_LEASES: Duration = Duration::from_millis(500);
/// A publication that fails for so long is told as a refusal is: it may pass by itself, and somebody should know.
const FAILING_MAX: Duration = Duration::from_secs(300);
/// Tries of a discard before the upload is left to the sweeper.
const DISCARD_TRIES: usize = 3;
/// Tries of writing an incident down.
const INCIDENT_TRIES: usize = 10;

/// What every effect needs.
#[derive(Clone)]
pub(crate) struct Context {
    pub destination: Arc<dyn Destination>,
    pub log: Arc<dyn CommitLog>,
    pub holdings: Arc<Holdings>,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub metrics: Metrics,
    pub at: At,
    /// Held by the batch whose error objects are being staged.
    pub error_turn: Arc<Semaphore>,
    /// How long the stream keeps a record; zero when that is not known.
    pub retention: Duration,
    /// For how long commits that were taken back had been refused.
    pub refused: Carried,
}

/// Pauses between tries: exponential, with up to a quarter of jitter from the given randomness.
pub(crate) struct Pauses {
    delays: backon::ExponentialBackoff,
    last: Duration,
    random: Arc<dyn Random>,
}

impl Pauses {
    pub(crate) fn new(random: &Arc<dyn Random>, first: Duration, longest: Duration) -> Self {
        let delays =
            ExponentialBuilder::new().with_min_delay(first).with_max_delay(longest).without_max_times().build();
        Self { delays, last: longest, random: random.clone() }
    }

    pub(crate) async fn pause(&mut self, at_least: Option<Duration>) {
        let delay = self.delays.next().unwrap_or(self.last);
        let jitter = Duration::from_micros(self.random.below(1 + delay.as_micros() as u64 / 4));
        tokio::time::sleep((delay + jitter).max(at_least.unwrap_or_default())).await;
    }
}

impl Context {
    fn short_pauses(&self) -> Pauses {
        Pauses::new(&self.random, Duration::from_millis(50), Duration::from_secs(2))
    }

    fn long_pauses(&self) -> Pauses {
        Pauses::new(&self.random, Duration::from_millis(200), Duration::from_secs(10))
    }

    /// 5 to 50 ms: another write of the same item was under way.
    async fn conflict_pause(&self) {
        tokio::time::sleep(Duration::from_millis(5 + self.random.below(46))).await;
    }

    fn count(&self, step: &str) {
        self.metrics.delivery_retries.get_or_create(&self.at.why(step)).inc();
    }

    /// Whether every lease of the ranges is held under the same acquisition, and its deadline is still ahead.
    fn in_time<'a>(&self, mut fences: impl Iterator<Item = &'a standpipe_flow::Fence>) -> bool {
        let now = self.clock.elapsed();
        fences.all(|fence| self.holdings.deadline(&fence.lease, fence.tenure).is_some_and(|deadline| now < deadline))
    }

    fn held(&self, ranges: &[Range]) -> bool {
        ranges.iter().all(|range| self.holdings.deadline(&range.fence.lease, range.fence.tenure).is_some())
    }

    /// Ends once the deadline of a lease has passed: another worker may be about to take it.
    async fn out_of_time(&self, ranges: &[Range]) {
        while self.in_time(ranges.iter().map(|range| &range.fence)) {
            tokio::time::sleep(LOOK_AT_LEASES).await;
        }
    }

    /// Stages a batch, error objects included; tried again while its leases are held. What delivers at once stops in the
    /// middle when a lease is lost: the next owner delivers those records, and ours could come after newer ones.
    /// `cid`: the attempt; `outputs`: the id that outputs are staged under.
    pub(crate) async fn stage(self, cid: CommitId, outputs: CommitId, batch: Arc<Batch>) -> Event {
        let mut pauses = self.long_pauses();
        let mut blocked = Blocked::new(&self);
        let ranges = batch.ranges();
        let delivered = self.destination.mode() != Mode::Staged;
        loop {
            let staged = tokio::select! {
                biased;
                staged = self.stage_once(outputs, &batch) => staged,
                () = self.out_of_time(&ranges), if delivered => return Event::Unstaged { cid },
            };
            let error = match staged {
                Ok(staged) => {
                    let records = batch.covered();
                    return Event::Staged {
                        cid,
                        staged: Box::new(StagedBatch { staged, records, delivered, cid: outputs }),
                    };
                }
                Err(error) => error,
            };
            let after = match &error {
                DeliveryError::Retry { after, .. } => *after,
                DeliveryError::Halt { .. } | DeliveryError::Reject { .. } => None,
            };
            self.count("stage");
            if matches!(error, DeliveryError::Halt { .. }) {
                blocked.raise("stage", &error);
            }
            warn!(cid = %cid, destination = %self.at.destination, %error, "staging failed, will be tried again");
            if !self.held(&ranges) {
                return Event::Unstaged { cid };
            }
            // A server may ask for an hour; a lease that is lost meanwhile is another's to deliver.
            tokio::select! {
                biased;
                () = pauses.pause(after) => {}
                () = self.out_of_time(&ranges), if delivered => return Event::Unstaged { cid },
            }
            if !self.held(&ranges) {
                return Event::Unstaged { cid };
            }
        }
    }

    async fn stage_once(&self, cid: CommitId, batch: &Arc<Batch>) -> Result<standpipe_flow::Staged, DeliveryError> {
        let mut staged = match self.destination.stage(cid, batch).await {
            Ok(staged) => staged,
            Err(DeliveryError::Reject { cause }) => standpipe_flow::Staged {
                rejected: failed::reject_all(batch, "processing-failed", "Destination.Refused", &cause),
                ..Default::default()
            },
            Err(error) => return Err(error),
        };
        let unfit = std::mem::take(&mut staged.rejected);
        let rejected = || batch.rejected().chain(&unfit);
        // One at a time, over all batches of the destination: an error object is built, staged and forgotten before the
        // next is built.
        let turn = if rejected().next().is_none() { None } else { self.error_turn.acquire().await.ok() };
        for object in failed::error_objects(batch, rejected(), self.clock.wall(), staged.next_ordinal) {
            match self.destination.stage_extra(cid, &object).await {
                Ok((output, created_at)) => {
                    staged.outputs.push(output);
                    staged.created_at = staged.created_at.or(created_at);
                }
                Err(error) => {
                    self.throw_away(cid, &staged.outputs).await;
                    return Err(error);
                }
            }
        }
        drop(turn);
        for record in rejected() {
            self.metrics.error_records.get_or_create(&self.at.why(record.output_type)).inc();
        }
        Ok(staged)
    }

    /// Writes down what is about to be sent; not after the lease's deadline. A refusal that shows our own write is a yes.
    pub(crate) async fn declare(self, run: u64, declare: Declare) -> Event {
        let (cid, fence) = (declare.cid, &declare.shard.fence);
        let mut pauses = self.short_pauses();
        let mut blocked = Blocked::new(&self);
        let written = loop {
            // What was sent and not answered is fenced by the next acquisition.
            if !self.in_time(std::iter::once(fence)) {
                break false;
            }
            match self.log.declare(&declare).await {
                Ok(()) => break true,
                Err(CommitError::Refused { now, .. }) => {
                    let ours = now.as_ref().filter(|row| row.tenure == Some(fence.tenure));
                    let pending = ours.and_then(|row| row.destinations.get(&declare.destination)?.pending.as_ref());
                    break pending.is_some_and(|pending| pending.cid == cid);
                }
                Err(CommitError::Conflict) => self.conflict_pause().await,
                Err(error) => {
                    self.count("declare");
                    blocked.note("declare", &error);
                    pauses.pause(None).await;
                }
            }
        };
        drop(blocked);
        Event::Answer { cid, run, answer: Answer::Declared(written) }
    }

    /// Sends the transaction, after what its receipt names: again at once on a conflict, later when throttled; not after
    /// a lease's deadline. `sent`: whether a copy may be on its way already.
    pub(crate) async fn commit(self, run: u64, commit: Commit, made_at: Duration, mut sent: bool) -> Event {
        let cid = commit.receipt.cid;
        let mut pauses = self.short_pauses();
        let mut blocked = Blocked::new(&self);
        let mut prepared = sent;
        let answer = loop {
            let young = self.clock.elapsed().saturating_sub(made_at) < BATCH_AGE_MAX;
            if !young || !self.in_time(commit.shards.iter().map(|shard| &shard.fence)) {
                break Answer::CommitExpired { sent };
            }
            if !prepared {
                match self.log.prepare(&commit.receipt).await {
                    Ok(()) => prepared = true,
                    Err(error) => {
                        self.count("prepare");
                        blocked.note("prepare", &error);
                        pauses.pause(None).await;
                    }
                }
                continue;
            }
            // From here on a copy may arrive, whatever is answered.
            sent = true;
            match self.log.commit(&commit).await {
                Ok(()) => break Answer::Committed,
                Err(CommitError::Refused { lease, now }) => break Answer::CommitRefused { lease, now },
                Err(CommitError::Unknown { cause }) => {
                    debug!(cid = %cid, error = cause, "the commit's answer is unclear");
                    self.metrics.commits.get_or_create(&self.at.why("unclear")).inc();
                    // A dead endpoint answers "unclear" at once, without end.
                    pauses.pause(None).await;
                    break Answer::CommitUnclear;
                }
                Err(CommitError::Conflict) => self.conflict_pause().await,
                Err(CommitError::Throttled) => pauses.pause(None).await,
                Err(error @ (CommitError::Denied { .. } | CommitError::Unreadable { .. })) => {
                    blocked.raise("commit", &error);
                    pauses.pause(None).await;
                }
            }
        };
        drop(blocked);
        Event::Answer { cid, run, answer }
    }

    pub(crate) async fn receipt(self, cid: CommitId, run: u64) -> Event {
        let answer = match self.read_until("receipt", || self.log.receipt(cid)).await {
            Ok(receipt) => Answer::Receipt(receipt.map(Box::new)),
            Err(cause) => {
                warn!(cid = %cid, cause, "a receipt cannot be understood");
                Answer::Unreadable
            }
        };
        Event::Answer { cid, run, answer }
    }

    /// Makes the outputs visible. A destination that is down is waited for without end; one that answers and refuses this
    /// commit, for as long as it allows: then it gives the commit up.
    pub(crate) async fn publish(self, run: u64, receipt: Receipt) -> Event {
        let cid = receipt.cid;
        let mut pauses = self.long_pauses();
        // A refusal costs the destination work, and seldom passes in seconds.
        let mut slow = Pauses::new(&self.random, Duration::from_secs(2), Duration::from_secs(60));
        let mut refusals = Refusals::new(self.destination.refused_max(), self.refused.of(&receipt));
        let mut failing_since = None;
        let mut blocked = Blocked::new(&self);
        let answer = loop {
            let published = match self.destination.publish(&receipt).await {
                Err(error @ DeliveryError::Reject { .. }) if refusals.are_enough(self.clock.elapsed()) => {
                    error!(cid = %cid, destination = %self.at.destination, %error, "refused for too long, giving up");
                    self.destination.give_up(&receipt).await
                }
                published => published,
            };
            match published {
                Ok(Published::All) => break Answer::Published,
                Ok(Published::GaveUp) => break Answer::GaveUp,
                Ok(Published::Gone { outputs, published }) => break Answer::Gone { outputs, published },
                Err(error) => {
                    let after = match &error {
                        DeliveryError::Retry { after, .. } => *after,
                        _ => None,
                    };
                    let refused = matches!(error, DeliveryError::Reject { .. });
                    let now = self.clock.elapsed();
                    if refused || matches!(error, DeliveryError::Halt { .. }) {
                        blocked.raise("publish", &error);
                    } else if now.saturating_sub(*failing_since.get_or_insert(now)) >= FAILING_MAX {
                        blocked.failing("publish", &error);
                    }
                    self.count("publish");
                    warn!(cid = %cid, destination = %self.at.destination, %error, "publishing failed, will be tried again");
                    if refused {
                        slow.pause(None).await;
                    } else {
                        refusals.interrupt();
                        pauses.pause(after).await;
                    }
                }
            }
        };
        drop(blocked);
        match answer {
            Answer::Gone { .. } => self.refused.keep(&receipt, refusals.lasted()),
            _ => self.refused.forget(&receipt),
        }
        Event::Answer { cid, run, answer }
    }

    pub(crate) async fn done(self, cid: CommitId, run: u64, gave_up: bool) -> Event {
        let answer = match self.write_until("done", || self.log.done(cid, gave_up)).await {
            Written::Yes => Answer::Done,
            Written::Refused => Answer::Refused,
        };
        Event::Answer { cid, run, answer }
    }

    pub(crate) async fn finalize(self, finalize: Finalize, tenure: Tenure) -> Event {
        // Written or refused: the row does not carry the commit any more.
        self.write_until("finalize", || self.log.finalize(&finalize)).await;
        Event::Finalized { lease: finalize.lease, tenure, cid: finalize.cid }
    }

    pub(crate) async fn finalize_soon(self, finalize: Finalize, tenure: Tenure) -> Event {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Event::FinalizeDue { lease: finalize.lease, tenure, cid: finalize.cid }
    }

    /// Retracts IF COMMITTED. The rows that carry the commit are read anew before each try.
    pub(crate) async fn retract(self, run: u64, receipt: Receipt) -> Event {
        let cid = receipt.cid;
        let mut pauses = self.short_pauses();
        let mut blocked = Blocked::new(&self);
        let answer = loop {
            let mut carriers = Vec::new();
            for shard in &receipt.shards {
                // A row that cannot be understood is none that we may change.
                let row: Option<LeaseRow> = self.read_until("row", || self.log.row(&shard.lease)).await.unwrap_or(None);
                carriers.extend(row.filter(|row| carries(row, &receipt)));
            }
            match self.log.retract(&receipt, &carriers).await {
                Ok(()) => {
                    self.warn_if_expired(&receipt);
                    break Answer::Retracted;
                }
                Err(CommitError::Refused { lease: None, .. }) => break Answer::Refused,
                Err(CommitError::Conflict) => self.conflict_pause().await,
                Err(error) => {
                    blocked.note("retract", &error);
                    self.count("retract");
                    pauses.pause(None).await;
                }
            }
        };
        Event::Answer { cid, run, answer }
    }

    /// Protocol 4.9, for what has to be read again because it was retracted: the position goes back to one that may have
    /// no arrival time, but the receipt has that of its last record.
    fn warn_if_expired(&self, receipt: &Receipt) {
        let now = self.clock.wall();
        for shard in receipt.shards.iter().filter(|_| !self.retention.is_zero()) {
            let Some(arrival) = shard.arrival.filter(|arrival| now.since(*arrival) > self.retention) else { continue };
            let at = At { destination: String::new(), ..self.at.clone() };
            self.metrics.records_possibly_expired.get_or_create(&at).inc();
            error!(shard = %shard.lease, last_arrived_ms = arrival.0, now_ms = now.0,
                "a commit that was lost is older than the stream keeps records: some may be lost");
        }
    }

    /// Moves a position without a commit; a refusal that shows our own write is a yes.
    pub(crate) async fn advance(self, advance: Advance) -> Event {
        let (lease, tenure) = (advance.fence.lease.clone(), advance.fence.tenure);
        let mut pauses = self.short_pauses();
        let mut blocked = Blocked::new(&self);
        let position = loop {
            match self.log.advance(&advance).await {
                Ok(()) => break Some(advance.to.clone()),
                Err(CommitError::Refused { now, .. }) => {
                    let ours = now.as_ref().filter(|row| row.tenure == Some(tenure));
                    let at =
                        ours.and_then(|row| row.destinations.get(&advance.destination)).map(|position| &position.at);
                    break (at == Some(&advance.to)).then(|| advance.to.clone());
                }
                Err(CommitError::Conflict) => self.conflict_pause().await,
                Err(_) if self.holdings.deadline(&lease, tenure).is_none() => break None,
                Err(error) => {
                    blocked.note("advance", &error);
                    pauses.pause(None).await;
                }
            }
        };
        drop(blocked);
        Event::Advanced { lease, tenure, position }
    }

    /// Throws dead outputs away; what does not go is left to the sweeper.
    pub(crate) async fn throw_away(&self, cid: CommitId, outputs: &[Output]) {
        let mut pauses = self.long_pauses();
        for _ in 0..DISCARD_TRIES {
            match self.destination.discard(outputs).await {
                Ok(()) => return,
                Err(error) => {
                    debug!(cid = %cid, %error, "discarding failed");
                    self.count("discard");
                    pauses.pause(None).await;
                }
            }
        }
        info!(cid = %cid, outputs = outputs.len(), "dead outputs are left to the sweeper");
    }

    /// Throws away what publishing needed and nobody reads any more; what does not go is left to the sweeper.
    pub(crate) async fn clear(self, done: Receipt) -> Event {
        if let Err(error) = self.destination.clear(&done).await {
            info!(cid = %done.cid, %error, "staging objects are left to the sweeper");
        }
        Event::Unstaged { cid: done.cid } // an attempt that is over: the protocol knows nothing of it any more
    }

    /// Writes an incident down, tried a few times: the log has it in any case.
    pub(crate) async fn incident(self, receipt: Receipt, lost: Vec<Output>) -> Event {
        let cid = receipt.cid;
        let body = bytes::Bytes::from(failed::incident(&receipt, &lost, self.clock.wall()));
        let mut pauses = self.long_pauses();
        for _ in 0..INCIDENT_TRIES {
            match self.destination.write_incident(cid, body.clone()).await {
                Ok(()) => break,
                Err(error) => {
                    warn!(cid = %cid, %error, "the incident could not be written down, will be tried again");
                    pauses.pause(None).await;
                }
            }
        }
        Event::Unstaged { cid } // nothing to the protocol: the attempt is past its staging
    }

    /// Repeats a read until it is answered; the error is what cannot be understood.
    async fn read_until<T, F>(&self, step: &'static str, mut request: impl FnMut() -> F) -> Result<T, String>
    where
        F: Future<Output = Result<T, CommitError>>,
    {
        let mut pauses = self.short_pauses();
        let mut blocked = Blocked::new(self);
        loop {
            match request().await {
                Ok(found) => return Ok(found),
                Err(CommitError::Unreadable { cause }) => return Err(cause),
                Err(error) => {
                    self.count(step);
                    blocked.note(step, &error);
                    pauses.pause(None).await;
                }
            }
        }
    }

    /// Repeats a write that is the same every time until it is written or refused.
    async fn write_until<F>(&self, step: &'static str, mut request: impl FnMut() -> F) -> Written
    where
        F: Future<Output = Result<(), CommitError>>,
    {
        let mut pauses = self.short_pauses();
        let mut blocked = Blocked::new(self);
        loop {
            match request().await {
                Ok(()) => return Written::Yes,
                Err(CommitError::Refused { .. }) => return Written::Refused,
                Err(CommitError::Conflict) => self.conflict_pause().await,
                Err(error) => {
                    self.count(step);
                    blocked.note(step, &error);
                    pauses.pause(None).await;
                }
            }
        }
    }
}

enum Written {
    Yes,
    Refused,
}

fn carries(row: &LeaseRow, receipt: &Receipt) -> bool {
    let position = row.destinations.get(&receipt.destination);
    position.and_then(|position| position.pending.as_ref()).is_some_and(|pending| pending.cid == receipt.cid)
}

/// The alarm `standpipe_publish_blocked` while a destination refuses us, or has failed for long.
struct Blocked<'a> {
    context: &'a Context,
    raised: bool,
}

impl<'a> Blocked<'a> {
    fn new(context: &'a Context) -> Self {
        Self { context, raised: false }
    }

    /// Says that something goes wrong; once, loudly and with the alarm, if a human must act.
    fn note(&mut self, step: &'static str, error: &CommitError) {
        if matches!(error, CommitError::Denied { .. } | CommitError::Unreadable { .. }) {
            self.raise(step, error);
        } else {
            debug!(step, %error, "no answer that means something, will be tried again");
        }
    }

    fn raise(&mut self, step: &'static str, error: &dyn std::error::Error) {
        if self.is_news() {
            warn!(step, destination = %self.context.at.destination, %error, "refused; tried again until somebody has mended it");
        }
    }

    /// The same for what may pass by itself, and has not for long.
    fn failing(&mut self, step: &'static str, error: &dyn std::error::Error) {
        if self.is_news() {
            warn!(step, destination = %self.context.at.destination, %error, "failing for five minutes; tried again without end");
        }
    }

    fn is_news(&mut self) -> bool {
        let news = !std::mem::replace(&mut self.raised, true);
        if news {
            self.context.metrics.publish_blocked.get_or_create(&self.context.at).inc();
        }
        news
    }
}

impl Drop for Blocked<'_> {
    fn drop(&mut self) {
        if self.raised {
            self.context.metrics.publish_blocked.get_or_create(&self.context.at).dec();
        }
    }
}

#[cfg(test)]
mod tests;
