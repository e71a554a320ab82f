//! `batch -> delivered`: requests until every record of a batch is accepted, or refused for good.
//!
//! A pass sends every pending record once. What a pass leaves pending is sent again after a pause, as long as passes get
//! something done; when they do not, or the service is in trouble, the caller is told, and asks again when it is time: the
//! progress is kept. The retry duration counts from the first attempt on while the service answers.
//! A request that is refused as a whole ([`refused`]) is halved, where another is taken, until the record that somebody in
//! between does not let through is alone; it becomes an error record, so that it does not hold the others up for ever.
//! Never here: what an answer means, a log.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use standpipe_flow::{Batch, DeliveryError};

use super::answer::{self, FILTER, Item, Said, Verdict};
use super::nodes::Unanswered;
use super::plan::{self, Built, Plan};
use super::progress::{Progress, locked};
use super::size::BYTES_MIN;
use super::{DOCUMENT_EXISTS, DocumentId, OpenSearch};
use crate::offloaded::offloaded;

/// Requests of one batch at once; the window may allow fewer.
const AT_ONCE: usize = 8;
/// Passes in a row without anything done, after which the caller waits in our place.
const IDLE_PASSES: u32 = 3;
/// Bytes of an answer that are always read, and for each document: an item, or the reason of an error.
const ANSWER_BYTES: usize = 1 << 20;
const ANSWER_BYTES_A_DOCUMENT: usize = 4 << 10;
/// Of all requests together no more than a batch or two: the answers are in no budget.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Large requests in a row that broke, after which smaller ones are tried: some servers close instead of answering 413.
const BROKEN_MAX: usize = 3;
/// Times that a record alone is refused as a request, while another is taken each time, before it is an error record.
const ALONE_MAX: u32 = 3;

/// How a pass ended, beside what became of the records.
#[derive(Default)]
struct Pass {
    trouble: Option<DeliveryError>,
    busy: bool,
    after: Option<Duration>,
    /// What was denied, and the index.
    denied: Option<(Said, String)>,
}

/// What became of a request.
enum Done {
    /// Each of its records has its answer, in the progress.
    Answered,
    /// Some of it was denied, in this index.
    Denied(Said, String),
    /// It was too large, or something in it is refused.
    Split(Vec<u32>),
    /// The server is busy.
    Busy(Option<Duration>),
    Trouble(DeliveryError),
}

/// Delivers what is pending of a batch.
///
/// # Errors
/// When nothing can be done now; the progress stands.
pub(super) async fn deliver(
    to: &OpenSearch,
    batch: &Arc<Batch>,
    progress: &Arc<Mutex<Progress>>,
    stream: &Arc<str>,
) -> Result<(), DeliveryError> {
    let mut pending: Vec<u32> = locked(progress).pending_records().collect();
    if pending.is_empty() {
        return Ok(());
    }
    let plan = {
        let (batch, settings, pending) = (batch.clone(), to.settings.clone(), pending.clone());
        let (expressions, stream) = (to.expressions.clone(), stream.clone());
        let plan = move || Plan::new(&batch, &settings, (expressions.as_ref(), &stream), &pending);
        offloaded(to.offload.as_ref(), plan).await?
    };
    let plan = Arc::new(plan);
    let mut idle = 0;
    loop {
        let begin = to.clock.elapsed();
        locked(progress).answers(begin);
        let pass = run(to, (batch, &plan), &pending, progress).await;
        let before = pending.len();
        pending = locked(progress).pending_records().collect();
        if pending.is_empty() {
            return Ok(());
        }
        idle = if pending.len() < before { 0 } else { idle + 1 };
        let index = |record| plan.index(batch, &to.settings, record);
        if goes_on(to, pass, (&mut locked(progress), pending.len(), &index), idle, begin)? == Next::GivenUp {
            return Ok(());
        }
        tokio::time::sleep(to.pause(idle)).await;
    }
}

/// What comes after a pass that has left records pending.
#[derive(PartialEq, Eq)]
enum Next {
    Again,
    GivenUp,
}

/// Whether another pass follows.
///
/// # Errors
/// When the caller is to wait first.
fn goes_on(
    to: &OpenSearch,
    pass: Pass,
    (progress, pending, index): (&mut Progress, usize, &dyn Fn(u32) -> String),
    idle: u32,
    begin: Duration,
) -> Result<Next, DeliveryError> {
    // A pass that met a cluster that is away does not count: it may have waited for an answer the whole time.
    if let Some(trouble) = pass.trouble {
        progress.silent(begin);
        return Err(trouble);
    }
    if let Some((denied, index)) = pass.denied {
        progress.silent(begin);
        let cause = format!("documents for the index {index} are denied with {}: {}", denied.code, kind(&denied));
        return Err(DeliveryError::Halt { cause });
    }
    if to.retry_max().is_some_and(|most| progress.spent(to.clock.elapsed()) >= most) {
        progress.give_up(&Said::new("429", "the service was busy until the retry duration was over"));
        return Ok(Next::GivenUp);
    }
    if idle >= IDLE_PASSES || pass.busy {
        return Err(DeliveryError::Retry { after: pass.after, cause: waits(progress, pending, index) });
    }
    Ok(Next::Again)
}

/// Why records wait, without what is in them.
fn waits(progress: &Progress, pending: usize, index: &dyn Fn(u32) -> String) -> String {
    match progress.last_said() {
        Some((record, said)) => {
            let (index, kind) = (index(record), kind(said));
            format!("{pending} documents wait, the last one, for the index {index}, because of {}: {kind}", said.code)
        }
        None => format!("{pending} documents wait: the service is busy"),
    }
}

/// The error's type: unlike its reason, it shows nothing of a document.
fn kind(said: &Said) -> String {
    let error: serde_json::Value = serde_json::from_str(&said.message).unwrap_or_default();
    error["type"].as_str().unwrap_or("no type is given").chars().filter(|c| c.is_ascii_graphic()).take(60).collect()
}

/// Sends every pending record once.
async fn run(
    to: &OpenSearch,
    (batch, plan): (&Arc<Batch>, &Arc<Plan>),
    pending: &[u32],
    progress: &Arc<Mutex<Progress>>,
) -> Pass {
    let mut pass = Pass::default();
    for wave in plan.waves(pending) {
        // What was refused alone stays alone.
        let (alone, wave_together): (Vec<u32>, Vec<u32>) =
            wave.iter().copied().partition(|record| locked(progress).alone(*record) > 0);
        let mut groups: VecDeque<Vec<u32>> =
            plan.groups(batch, &to.settings, &wave_together, to.request_bytes()).into();
        groups.extend(alone.into_iter().map(|record| vec![record]));
        let mut under_way = FuturesUnordered::new();
        loop {
            while pass.trouble.is_none() && !pass.busy && under_way.len() < AT_ONCE {
                let Some(group) = groups.pop_front() else { break };
                under_way.push(request(to, (batch, plan), group, progress));
            }
            // Those under way go on to their end, so that nothing of them is forgotten.
            match under_way.next().await {
                None => break,
                Some(Done::Answered) => {}
                Some(Done::Denied(said, index)) => pass.denied = Some((said, index)),
                Some(Done::Busy(after)) => {
                    pass.busy = true;
                    pass.after = pass.after.max(after);
                }
                Some(Done::Trouble(trouble)) => pass.trouble = Some(trouble),
                Some(Done::Split(records)) => {
                    // By number too: how large a request becomes is only known when it is built.
                    let (first, second) = records.split_at(records.len() / 2);
                    let most = to.request_bytes();
                    let halves = [second, first].map(|half| plan.groups(batch, &to.settings, half, most));
                    halves.into_iter().flatten().for_each(|group| groups.push_front(group));
                }
            }
        }
        // The next wave has newer documents of ids of this one.
        let progress = locked(progress);
        if wave.iter().any(|record| progress.is_pending(*record)) {
            break;
        }
    }
    pass
}

/// One request, from its place in the window to what its answer means.
async fn request(
    to: &OpenSearch,
    (batch, plan): (&Arc<Batch>, &Arc<Plan>),
    group: Vec<u32>,
    progress: &Arc<Mutex<Progress>>,
) -> Done {
    let place = to.window.place().await;
    let built = {
        let (batch, plan, settings) = (batch.clone(), plan.clone(), to.settings.clone());
        let build = move || plan.build(&batch, &settings, &group);
        match offloaded(to.offload.as_ref(), build).await {
            Ok(built) => built,
            Err(error) => return Done::Trouble(error),
        }
    };
    for (record, said) in &built.unfit {
        locked(progress).reject(*record, said.clone(), plan.id(*record));
    }
    let documents = built.records.len();
    if documents == 0 {
        return Done::Answered;
    }
    let index = plan.index(batch, &to.settings, built.records[0]);
    let answer_bytes = (ANSWER_BYTES + documents * ANSWER_BYTES_A_DOCUMENT).min(ANSWER_BYTES_MAX);
    let path = format!("/_bulk?{FILTER}");
    let sent = (built.body.clone(), to.settings.gzip);
    let answered = to.nodes.send(&path, sent, answer_bytes, to.offload.as_ref()).await;
    let answer = match answered {
        Ok(answer) => answer,
        // Nothing is known of the documents, so that none is refused for it.
        Err(Unanswered::TooLarge) if documents == 1 => {
            let cause = "an answer about one document is too large to read".to_owned();
            return Done::Trouble(DeliveryError::Retry { after: None, cause });
        }
        Err(Unanswered::TooLarge) => return too_large(to, built, plan, progress),
        Err(Unanswered::Broken(cause)) => {
            let large = built.raw_bytes > BYTES_MIN;
            if large && to.broken.fetch_add(1, Ordering::Relaxed) + 1 >= BROKEN_MAX && documents > 1 {
                to.broken.store(0, Ordering::Relaxed);
                to.size().refused(built.raw_bytes, to.clock.elapsed());
            }
            return Done::Trouble(DeliveryError::Retry { after: None, cause });
        }
        Err(Unanswered::Other(error)) => return Done::Trouble(error),
    };
    to.broken.store(0, Ordering::Relaxed);
    match answer::verdict(&answer, to.settings.operation(), documents) {
        Verdict::TooLarge => too_large(to, built, plan, progress),
        Verdict::Trouble(error) => Done::Trouble(in_index(error, &index)),
        Verdict::Refused { code, cause } => refused(to, built, plan, progress, (code, cause, index)).await,
        Verdict::Busy { after } => {
            place.busy();
            Done::Busy(after)
        }
        Verdict::Items(items) => {
            to.size().taken(built.raw_bytes, to.clock.elapsed());
            locked(progress).sent(built.body.len());
            let (busy, denied) = settle(to, &built, items, plan, progress);
            if busy {
                place.busy()
            } else {
                place.taken()
            }
            match denied {
                None => Done::Answered,
                Some((record, said)) => Done::Denied(said, plan.index(batch, &to.settings, record)),
            }
        }
    }
}

/// Notes what became of each document. Gives whether the server is too busy for some, and what was denied.
fn settle(
    to: &OpenSearch,
    built: &Built,
    items: Vec<Item>,
    plan: &Plan,
    progress: &Mutex<Progress>,
) -> (bool, Option<(u32, Said)>) {
    let mut progress = locked(progress);
    let (mut busy, mut denied) = (false, None);
    for (record, item) in built.records.iter().zip(items) {
        let id = plan.id(*record);
        match item {
            Item::Accepted => progress.accept(*record),
            Item::Exists(said) => match to.settings.document_id {
                // Nobody else makes such an id: it is this record, sent before.
                DocumentId::Generated => progress.accept(*record),
                DocumentId::Expression { create: true } => {
                    progress.reject(*record, Said { code: DOCUMENT_EXISTS, ..said }, id);
                }
                DocumentId::None | DocumentId::Expression { create: false } => progress.reject(*record, said, id),
            },
            Item::Again(said) => {
                busy |= said.code == "429";
                progress.refuse(*record, said, id);
            }
            Item::Denied(said) => {
                progress.refuse(*record, said.clone(), id);
                denied = Some((*record, said));
            }
            Item::Refused(said) => progress.reject(*record, said, id),
        }
    }
    (busy, denied)
}

/// The request, or its answer, is larger than the other side takes: fewer documents at once; one alone is refused.
fn too_large(to: &OpenSearch, built: Built, plan: &Plan, progress: &Mutex<Progress>) -> Done {
    match built.records.as_slice() {
        [alone] => {
            let message = format!("the service takes no request of {} bytes", built.raw_bytes);
            locked(progress).reject(*alone, Said::new("413", message), plan.id(*alone));
            Done::Answered
        }
        _ => {
            to.size().refused(built.raw_bytes, to.clock.elapsed());
            Done::Split(built.records)
        }
    }
}

/// The request is refused as a whole. Where one that does nothing is taken, it is for something in it, which a firewall or
/// a proxy in between does not like: halves find it. Otherwise everything is refused, and that is held against no document.
async fn refused(
    to: &OpenSearch,
    built: Built,
    plan: &Plan,
    progress: &Mutex<Progress>,
    (code, cause, index): (&'static str, String, String),
) -> Done {
    let path = format!("/_bulk?{FILTER}");
    // In the same form, or it would say nothing of that.
    let gzip = to.settings.gzip;
    let nothing = if gzip { plan::gzip(answer::NOTHING).into() } else { Bytes::from_static(answer::NOTHING) };
    let asked = to.nodes.send(&path, (nothing, gzip), ANSWER_BYTES, to.offload.as_ref()).await;
    if !asked.is_ok_and(|answer| answer::takes_others(&answer)) {
        return Done::Trouble(in_index(DeliveryError::Halt { cause }, &index));
    }
    let [alone] = built.records.as_slice() else { return Done::Split(built.records) };
    let said = Said::new(code, format!("{cause}; a request without this document is taken"));
    let mut progress = locked(progress);
    if progress.refuse_alone(*alone, said, plan.id(*alone)) >= ALONE_MAX {
        progress.settle_refused(*alone);
    }
    Done::Answered
}

/// The same, naming the index that the first of the documents was for.
fn in_index(error: DeliveryError, index: &str) -> DeliveryError {
    match error {
        DeliveryError::Halt { cause } => DeliveryError::Halt { cause: format!("{cause}, for the index {index}") },
        other => other,
    }
}
