//! What goes wrong with requests: now and then anywhere, and for a moment at one worker that is about to be killed, so
//! that the kill finds it in a chosen phase of a commit.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use standpipe_emulator::{Call, Emulator, Fault, Service};
use tokio::sync::mpsc;

use super::http::call;
use super::{BUCKET, PREFIX};
use crate::simulation::Dice;

/// Where a commit of the worker under the fault stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Parts do not arrive: what is cut stays staged in part, and the last commit stays published and not finalized.
    Staging,
    /// Transactions arrive late or are answered late: committed, and the worker does not know.
    Committing,
    /// Uploads are not completed: committed and invisible.
    Publishing,
    /// The receipt is DONE, and the worker does not know.
    Finalizing,
}

impl Phase {
    /// In turn, those that leave most behind twice.
    pub const TURNS: [Self; 6] =
        [Self::Publishing, Self::Staging, Self::Committing, Self::Publishing, Self::Staging, Self::Finalizing];
}

struct State {
    dice: Dice,
    /// By the worker's name; with how often it has struck.
    phases: BTreeMap<String, (Phase, u32)>,
    /// When what must not be missing last happened, epoch milliseconds.
    aborted_at: u64,
    dropped_at: u64,
    struck: BTreeMap<&'static str, u64>,
    aborts: mpsc::UnboundedSender<String>,
}

/// The weather of one storm.
#[derive(Clone)]
pub struct Weather(Arc<Mutex<State>>);

/// How this process's own requests are known: they are not signed.
const UNSIGNED: &str = "tcp";
/// A request under [`Phase`] is on its way for so long: the worker is dead when it arrives.
const LATE_MILLIS: u64 = 4_000;
/// At least so often an answer of a transaction is lost, and an upload aborted.
const OFTEN_MILLIS: u64 = 3_000;
/// Out of a thousand requests to DynamoDB, of whatever kind, so many are throttled.
const THROTTLED: u64 = 25;
/// Out of a thousand conditional writes, so many take effect and their answer is lost: 1 in 50.
const ANSWERS_LOST: u64 = 20;
/// How long a Complete is held up so that its upload can be aborted before it arrives.
const ABORT_MILLIS: u64 = 600;

impl Weather {
    /// Begins: from now on the endpoints' faults are these. The paths of uploads to abort come out of the channel.
    pub fn begin(emulator: &Emulator, seed: u64) -> (Self, mpsc::UnboundedReceiver<String>) {
        let (aborts, to_abort) = mpsc::unbounded_channel();
        let state = State {
            dice: Dice::new(seed),
            phases: BTreeMap::new(),
            aborted_at: 0,
            dropped_at: 0,
            struck: BTreeMap::new(),
            aborts,
        };
        let weather = Self(Arc::new(Mutex::new(state)));
        let hook = weather.clone();
        emulator.faults().set_hook(move |call| hook.strike(call));
        (weather, to_abort)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the commits of one worker to a halt in this phase.
    pub fn halt(&self, worker: &str, phase: Phase) {
        self.state().phases.insert(worker.to_owned(), (phase, 0));
    }

    /// How many requests that has held up so far.
    pub fn halted(&self, worker: &str) -> u32 {
        self.state().phases.get(worker).map_or(0, |(_, struck)| *struck)
    }

    /// Ends that.
    pub fn release(&self, worker: &str) {
        self.state().phases.remove(worker);
    }

    /// How often each kind of fault struck.
    pub fn struck(&self) -> BTreeMap<&'static str, u64> {
        self.state().struck.clone()
    }

    fn strike(&self, call: &Call) -> Option<Fault> {
        if *call.connection == *UNSIGNED {
            return None;
        }
        let mut state = self.state();
        let (name, fault) = match state.halted(call) {
            Some(fault) => fault,
            None => state.scattered(call)?,
        };
        *state.struck.entry(name).or_default() += 1;
        Some(fault)
    }
}

impl State {
    fn halted(&mut self, call: &Call) -> Option<(&'static str, Fault)> {
        let (phase, struck) = self.phases.get_mut(&*call.connection)?;
        let commits = call.detail.contains("-standpipe-commits/");
        let strikes = match (*phase, call.operation.as_str()) {
            (Phase::Staging, "UploadPart") => true,
            (Phase::Committing, "TransactWriteItems") | (Phase::Publishing, "CompleteMultipartUpload") => true,
            (Phase::Finalizing, "UpdateItem") => commits,
            _ => false,
        };
        if !strikes {
            return None;
        }
        *struck += 1;
        let fault = match (*phase, self.dice.within(0, 3)) {
            (Phase::Staging, _) | (Phase::Publishing, 1) => Fault::DelayRequest(LATE_MILLIS),
            (Phase::Committing, 0) => Fault::DelayRequest(self.dice.within(600, LATE_MILLIS)),
            (Phase::Committing, 1 | 2) | (Phase::Finalizing, _) | (Phase::Publishing, 2) => {
                Fault::DelayAnswer(LATE_MILLIS)
            }
            (Phase::Committing, _) => Fault::DropAnswer,
            (Phase::Publishing, 0) => return Some(self.abort(call)),
            (Phase::Publishing, _) => Fault::DropRequest,
        };
        Some(("requests held up before a kill", fault))
    }

    /// Somebody else aborts the upload of a commit just before it is published.
    fn abort(&mut self, call: &Call) -> (&'static str, Fault) {
        self.aborted_at = call.at_millis;
        let _ = self.aborts.send(call.detail.clone());
        ("uploads to be aborted before their complete", Fault::DelayRequest(ABORT_MILLIS))
    }

    /// Out of a thousand calls of each kind.
    fn scattered(&mut self, call: &Call) -> Option<(&'static str, Fault)> {
        let roll = self.dice.within(0, 999);
        if call.service == Service::DynamoDb && self.dice.within(0, 999) < THROTTLED {
            return Some(("requests to DynamoDB throttled", Fault::Throttle));
        }
        // However few commits a slow machine makes, these come.
        match call.operation.as_str() {
            "CompleteMultipartUpload" if call.at_millis > self.aborted_at + OFTEN_MILLIS => {
                return Some(self.abort(call));
            }
            "TransactWriteItems" if call.at_millis > self.dropped_at + OFTEN_MILLIS => {
                self.dropped_at = call.at_millis;
                return Some(("answers of transactions dropped", Fault::DropAnswer));
            }
            _ => {}
        }
        let fault = match (call.operation.as_str(), roll) {
            ("TransactWriteItems", 0..ANSWERS_LOST) => ("answers of transactions dropped", Fault::DropAnswer),
            // Everything that the program writes outside a transaction has a condition too.
            ("UpdateItem" | "PutItem" | "DeleteItem", 0..ANSWERS_LOST) => {
                ("answers of conditional writes dropped", Fault::DropAnswer)
            }
            ("TransactWriteItems", ANSWERS_LOST..35) => ("transactions that arrive twice", Fault::Repeat(700)),
            ("TransactWriteItems", 35..40) => ("transactions in conflict", Fault::TransactionConflict),
            ("TransactWriteItems", 40..45) => ("transactions that never arrive", Fault::DropRequest),
            ("CompleteMultipartUpload", 0..10) => return Some(self.abort(call)),
            ("CompleteMultipartUpload", 10..45) => {
                ("completes answered NoSuchUpload", Fault::NoSuchUploadAfterComplete)
            }
            ("CompleteMultipartUpload", 45..55) => ("answers of completes dropped", Fault::DropAnswer),
            ("CompleteMultipartUpload", 55..60) => ("completes answered 200 with an error", Fault::OkWithError),
            ("CompleteMultipartUpload", 60..65) => {
                ("completes done and answered with an error", Fault::OkWithErrorAfterEffect)
            }
            ("UploadPart" | "CreateMultipartUpload", 0..5) => ("uploads slowed down", Fault::Throttle),
            ("UploadPart" | "CreateMultipartUpload", 5..8) => ("answers of uploads dropped", Fault::DropAnswer),
            ("GetRecords", 0..5) => ("reads throttled", Fault::Throttle),
            ("GetRecords", 5..8) => ("iterators expired", Fault::ExpiredIterator),
            ("GetRecords", 8..11) => ("answers of reads dropped", Fault::DropAnswer),
            _ => return None,
        };
        Some(fault)
    }
}

/// Aborts the uploads that it is told of, for ever. Gives up on one that is not open: then its complete was faster.
pub async fn abort_uploads(emulator: Arc<Emulator>, address: String, mut paths: mpsc::UnboundedReceiver<String>) {
    while let Some(path) = paths.recv().await {
        let Some(key) = path.strip_prefix('/').and_then(|path| path.strip_prefix(BUCKET)?.strip_prefix('/')) else {
            continue;
        };
        debug_assert!(key.starts_with(PREFIX));
        for upload in emulator.open_uploads(BUCKET).into_iter().filter(|upload| upload.key == key) {
            let request = format!("DELETE {path}?uploadId={}", upload.upload_id);
            let _ = call(&address, &request, &[], &[]).await;
        }
    }
}
