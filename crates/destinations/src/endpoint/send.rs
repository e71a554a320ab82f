//! `batch -> delivered`: one pass over the requests of a batch that are not settled yet.
//!
//! A pass sends every pending request once, and the halves of one that is too large. What it leaves pending is for the
//! caller to ask for again, not before the protocol's pause; the progress is kept. The retry duration counts from the first
//! attempt on while the server answers.
//! Never here: what an answer means, a log.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::Method;
use standpipe_flow::{Batch, CommitId, DeliveryError};

use super::answer::{self, Said, Verdict};
use super::progress::{Part, Progress, locked};
use super::{Endpoint, UNDER_WAY_BYTES, request};
use crate::http::{Bounds, Request};
use crate::offloaded::offloaded;
use crate::opensearch::gzip;

/// Requests of one batch at once.
const AT_ONCE: usize = 4;
/// How long an endpoint has to answer: the protocol's three minutes.
const WHOLE_MAX: Duration = Duration::from_secs(180);

/// How a pass went, beside what became of the records.
#[derive(Default)]
struct Pass {
    /// Something was taken, or refused for good.
    done: bool,
    /// What was last said by a server that answers and refuses.
    refused: Option<Said>,
    /// It was busy, away or denied us: nothing more is sent.
    away: Option<Said>,
    denied: Option<Said>,
    busy: bool,
    after: Option<Duration>,
    /// Something of ours went wrong.
    trouble: Option<DeliveryError>,
}

impl Pass {
    fn goes_on(&self) -> bool {
        self.away.is_none() && self.denied.is_none() && !self.busy && self.trouble.is_none()
    }
}

/// Delivers what is pending of a batch, and gives what became of all of it.
///
/// # Errors
/// When something is left; the progress stands.
pub(super) async fn deliver(
    to: &Endpoint,
    cid: CommitId,
    batch: &Arc<Batch>,
) -> Result<Arc<Mutex<Progress>>, DeliveryError> {
    to.source()?;
    // The progress is this attempt's: a range that was read again may hold other records, if a transform answers otherwise.
    let records = batch.records().count();
    let progress = to.kept.of(cid, records).unwrap_or_else(|| {
        let requests = request::cut(batch, to.settings.request_data_bytes);
        to.kept.begin(cid, records, requests)
    });
    // What every repeat carries, whoever sends it.
    let cid = batch.declared.unwrap_or(cid);
    if locked(&progress).pending().is_empty() {
        return Ok(progress);
    }
    let begin = to.clock.elapsed();
    locked(&progress).answers(begin);
    let pass = run(to, cid, batch, &progress).await;
    settle(to, pass, &mut locked(&progress), begin)?;
    Ok(progress)
}

/// What a pass comes to: everything is settled, or the caller waits.
fn settle(to: &Endpoint, pass: Pass, progress: &mut Progress, begin: Duration) -> Result<(), DeliveryError> {
    if progress.pending().is_empty() {
        return Ok(());
    }
    let failures = progress.passed(pass.done);
    if let Some(trouble) = pass.trouble {
        progress.silent(begin);
        return Err(trouble);
    }
    if let Some(denied) = pass.denied {
        progress.silent(begin);
        return Err(DeliveryError::Halt { cause: denied.shown.to_string() });
    }
    // By the protocol, or longer where the server asks for it.
    let after = Some(to.pause(failures).max(pass.after.unwrap_or_default()));
    let waiting = progress.pending().len();
    if let Some(away) = pass.away {
        progress.silent(begin);
        let cause = format!("{waiting} requests wait: {}", away.shown);
        return Err(DeliveryError::Retry { after, cause });
    }
    let Some(refused) = pass.refused else {
        // Its end was not reached, and nothing says why.
        return Err(DeliveryError::Retry { after, cause: format!("{waiting} requests wait") });
    };
    if to.retry_max().is_some_and(|most| progress.spent(to.clock.elapsed()) >= most) {
        progress.give_up(&refused);
        return Ok(());
    }
    Err(DeliveryError::Retry { after, cause: format!("{waiting} requests wait: {}", refused.shown) })
}

/// Sends every pending request once.
async fn run(to: &Endpoint, cid: CommitId, batch: &Arc<Batch>, progress: &Mutex<Progress>) -> Pass {
    let mut pass = Pass::default();
    let mut parts: VecDeque<Part> = locked(progress).pending().to_vec().into();
    let mut under_way = FuturesUnordered::new();
    loop {
        while pass.goes_on() && under_way.len() < AT_ONCE {
            let Some(part) = parts.pop_front() else { break };
            under_way.push(async move { (part.range.clone(), one(to, cid, batch, part.range).await) });
        }
        // Those under way go on to their end, so that nothing of them is forgotten.
        let Some((range, sent)) = under_way.next().await else { return pass };
        let (verdict, bytes) = match sent {
            Ok(sent) => sent,
            Err(trouble) => {
                pass.trouble = Some(trouble);
                continue;
            }
        };
        let mut progress = locked(progress);
        match verdict {
            Verdict::Taken => {
                progress.take(&range, bytes);
                pass.done = true;
            }
            Verdict::TooLarge(said) => {
                progress.split(&range, said).into_iter().rev().for_each(|half| parts.push_front(half));
                pass.done = true;
            }
            Verdict::Refused(said) => {
                progress.refuse(&range, Some(said.clone()));
                pass.after = pass.after.max(said.after);
                pass.refused = Some(said);
            }
            Verdict::Busy(said) => {
                progress.refuse(&range, Some(said.clone()));
                pass.after = pass.after.max(said.after);
                (pass.refused, pass.busy) = (Some(said), true);
            }
            Verdict::Away(said) => {
                progress.refuse(&range, None);
                pass.after = pass.after.max(said.after);
                pass.away = Some(said);
            }
            Verdict::Denied(said) => {
                progress.refuse(&range, None);
                pass.denied = Some(said);
            }
        }
    }
}

/// One request, from its place to what its answer means, with its bytes as they were sent.
async fn one(
    to: &Endpoint,
    cid: CommitId,
    batch: &Arc<Batch>,
    range: Range<u32>,
) -> Result<(Verdict, usize), DeliveryError> {
    let raw_bytes = request::bytes(request::Index::new(batch).records(batch, &range));
    // A request that is larger than all places together takes all of them.
    let places = (raw_bytes >> 20).min((UNDER_WAY_BYTES >> 20) - 1) + 1;
    let closed = |_| DeliveryError::Retry { after: None, cause: "the destination is closed".to_owned() };
    let _place = to.places.acquire_many(u32::try_from(places).unwrap_or(1)).await.map_err(closed)?;
    let (id, body) = {
        let (batch, timestamp, compress) = (batch.clone(), to.clock.wall().0, to.settings.gzip);
        let build = move || {
            let index = request::Index::new(&batch);
            let id = request::id(cid, index.records(&batch, &range));
            let body = request::body(&id, timestamp, raw_bytes, index.records(&batch, &range));
            (id, Bytes::from(if compress { gzip(&body) } else { body }))
        };
        offloaded(to.offload.as_ref(), build).await?
    };
    let (url, bytes) = (&to.settings.url, body.len());
    let request = Request { method: Method::POST, path: url.path.clone(), headers: to.headers(&id)?, body };
    let answered = to.http.send(&url.origin, &request, Bounds::within(WHOLE_MAX)).await;
    Ok((answer::judge(&answered, &id, to.settings.any_2xx), bytes))
}
