//! How often a function is asked about the same records, and when: the whole of what is tried again.
//!
//! A function that fails or does not answer in time is asked again as often as the config says, and then its records fail.
//! What Lambda does not let through is halved. A function that cannot be asked is asked again for ever, loudly.
//! Never here: how a request is made.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use standpipe_flow::Offload;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::answer::{self, Failure, Verdict};
use super::client::{Attempt, Unavailable};
use super::{Asked, Lambda, Observer, event};

/// The pause after the first attempt that came to nothing; each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// No pause is longer: when a function is mended, its records do not wait for long.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// That a function cannot be asked is said so often, however many invocations wait.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// The fate of a record, and how many attempts led to it.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) verdict: Verdict,
    pub(super) attempts: u32,
}

/// What an attempt means for its records.
enum Next {
    Settle(Vec<Verdict>),
    Fail(Failure),
    Halve,
    Again,
    Wait(Unavailable),
}

impl Lambda {
    /// Asks about some records until each has its fate.
    pub(super) async fn invoke(&self, asked: Asked) -> Vec<Settled> {
        let mut settled = Vec::with_capacity(asked.run.len());
        let mut left = vec![asked];
        while let Some(asked) = left.pop() {
            if !event::fits(asked.records(), &self.head, &asked.shard) && asked.run.len() == 1 {
                settled.push(Settled { verdict: Verdict::Failed(answer::TOO_LARGE), attempts: 0 });
                continue;
            }
            match self.until_settled(&asked).await {
                Some(run) => settled.extend(run),
                None => left.extend(asked.halves().into_iter().rev()),
            }
        }
        settled
    }

    /// Asks about records that go out together; `None`: they are too many.
    async fn until_settled(&self, asked: &Asked) -> Option<Vec<Settled>> {
        let (mut attempts, mut waited) = (0, 0);
        let mut waits: Option<Waits<'_>> = None;
        loop {
            let attempt = self.attempt(asked).await;
            attempts += u32::from(!matches!(attempt, Attempt::Unavailable(_)));
            let all = |verdict: Verdict| asked.records().iter().map(|_| verdict.clone()).collect();
            let verdicts: Vec<Verdict> = match self.next(asked, attempt, attempts).await {
                Next::Settle(verdicts) => verdicts,
                Next::Fail(failure) => all(Verdict::Failed(failure)),
                Next::Halve => return None,
                Next::Again => {
                    (waits, waited) = (None, 0);
                    self.pause(attempts - 1).await;
                    continue;
                }
                Next::Wait(why) => {
                    waits.get_or_insert_with(|| Waits::begin(self.seams.observer.as_ref()));
                    // A connection that breaks once is nothing to be said aloud.
                    if waited > 0 {
                        self.trouble.note(&self.arn, &why, self.seams.clock.elapsed());
                    }
                    self.pause(waited).await;
                    waited += 1;
                    continue;
                }
            };
            return Some(verdicts.into_iter().map(|verdict| Settled { verdict, attempts }).collect());
        }
    }

    /// What is to be done after an attempt, with so many made that tell something about the records.
    async fn next(&self, asked: &Asked, attempt: Attempt, attempts: u32) -> Next {
        if !matches!(attempt, Attempt::Unavailable(_)) {
            self.trouble.over(&self.arn);
        }
        let failure = match attempt {
            Attempt::Unavailable(why) => return Next::Wait(why),
            Attempt::Answered(body) => {
                let of = asked.clone();
                let read = away(self.seams.offload.as_ref(), move || answer::verdicts(of.records(), &body));
                // What was answered is final, however wrong it is.
                return read.await.map_or_else(Next::Fail, Next::Settle);
            }
            Attempt::TooLarge { .. } if asked.run.len() > 1 => return Next::Halve,
            Attempt::TooLarge { answer: false } => return Next::Fail(answer::TOO_LARGE),
            Attempt::TimedOut => answer::FUNCTION_TIMEOUT,
            Attempt::FunctionError | Attempt::TooLarge { answer: true } => answer::FUNCTION_ERROR,
        };
        if attempts > self.settings.retries { Next::Fail(failure) } else { Next::Again }
    }

    async fn attempt(&self, asked: &Asked) -> Attempt {
        let _under_way = self.under_way.acquire().await.expect("the semaphore is never closed");
        let begun = self.seams.clock.elapsed();
        let attempt = match self.client.credentials().await {
            Ok(credentials) => {
                let (client, head, of) = (self.client.clone(), self.head.clone(), asked.clone());
                let id = self.invocation_id();
                let request = move || client.request(credentials, event::render(&head, &id, &of.shard, of.records()));
                match away(self.seams.offload.as_ref(), request).await {
                    Ok(request) => self.client.send(request).await,
                    Err(attempt) => attempt,
                }
            }
            Err(attempt) => attempt,
        };
        self.seams.observer.attempt(attempt.label(), self.seams.clock.elapsed().saturating_sub(begun));
        attempt
    }

    /// A random UUID (RFC 9562, version 4), a new one for every attempt.
    fn invocation_id(&self) -> String {
        let (a, b) = (self.seams.random.next(), self.seams.random.next());
        let (time, version) = (a >> 32, (a >> 16) & 0xffff);
        let (rest, variant) = (a & 0xfff | 0x4000, b >> 48 & 0x3fff | 0x8000);
        format!("{time:08x}-{version:04x}-{rest:04x}-{variant:04x}-{:012x}", b & 0xffff_ffff_ffff)
    }

    /// Half of it and a random part of the other half, so that invocations do not come back together.
    async fn pause(&self, before: u32) {
        let whole = PAUSE_MIN.saturating_mul(1 << before.min(16)).min(PAUSE_MAX);
        let half = u64::try_from(whole.as_millis() / 2).unwrap_or(u64::MAX);
        tokio::time::sleep(Duration::from_millis(half + self.seams.random.below(half + 1))).await;
    }
}

/// Runs a computation away from the threads that wait for services.
async fn away<T: Send + 'static>(offload: &dyn Offload, job: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = oneshot::channel();
    offload.run(Box::new(move || {
        // Nobody waits any more when the reader was stopped.
        let _ = sender.send(job());
    }));
    match receiver.await {
        Ok(result) => result,
        // The job died, which is a defect: the reader is begun anew by whoever watches it.
        Err(_) => panic!("a transform ended without its result"),
    }
}

/// That an invocation waits; it is told whenever it ends.
struct Waits<'a>(&'a dyn Observer);

impl<'a> Waits<'a> {
    fn begin(observer: &'a dyn Observer) -> Self {
        observer.waiting(1);
        Self(observer)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting(-1);
    }
}

/// When it was last said that the function cannot be asked.
#[derive(Debug, Default)]
pub(super) struct Trouble(Mutex<Option<Duration>>);

impl Trouble {
    fn note(&self, function: &str, why: &Unavailable, now: Duration) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|said| now >= said + SAID_EVERY) {
            *said = Some(now);
            let Unavailable { code, cause, .. } = why;
            warn!(function, code, error = cause, "the function cannot be invoked; records wait until it can");
        }
    }

    fn over(&self, function: &str) {
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            info!(function, "the function can be invoked again");
        }
    }
}
