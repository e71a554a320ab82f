//! The scripted destination: open uploads as the staging, completing them as the publishing, and all that goes wrong.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use standpipe_flow::deliver::ExtraObject;
use standpipe_flow::{
    Batch, BatchLimits, CommitId, DeliveryError, Destination, LeaseKey, Millis, Mode, Output, OutputKind, Published,
    Receipt, Record, RejectedRecord, Staged,
};
use tokio::time::sleep;

use super::store::UploadState;
use super::wire::{Fate, Wire};

pub struct ScriptedDestination {
    pub wire: Arc<Wire>,
    pub limits: BatchLimits,
    /// Of a thousand: batches that take seconds to stage, steps that fail, batches that are refused as a whole.
    pub slow: u64,
    pub failing: u64,
    pub refusing: u64,
    /// A batch becomes two data objects.
    pub two: bool,
    /// Unless it is staged it takes records itself: staging delivers them.
    pub mode: Mode,
}

impl fmt::Debug for ScriptedDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScriptedDestination")
    }
}

/// Letters of a record's data that are its id.
pub const ID_LETTERS: usize = 6;

/// The id in a record's data.
pub fn id(data: &[u8]) -> usize {
    let text = std::str::from_utf8(&data[..ID_LETTERS]).expect("the stream holds text");
    text.parse().expect("a record begins with its id")
}

fn retry(cause: &str) -> DeliveryError {
    DeliveryError::Retry { after: None, cause: cause.into() }
}

impl ScriptedDestination {
    fn lets_us_in(&self) -> Result<(), DeliveryError> {
        if self.wire.is(self.wire.halted) { Err(DeliveryError::Halt { cause: "AccessDenied".into() }) } else { Ok(()) }
    }

    async fn complete(&self, output: &Output) -> Result<UploadState, DeliveryError> {
        let copy = output.clone();
        match self.wire.fate() {
            Fate::Conflict => {
                sleep(self.wire.latency()).await;
                self.lets_us_in()?;
                Err(retry("InternalError in a 200"))
            }
            fate => {
                let found = self.wire.send(fate, move |store| store.complete(&copy)).await;
                found.ok_or_else(|| retry("no answer"))
            }
        }
    }

    /// Takes records in, in two requests: the first may be all that happens.
    async fn take(
        &self,
        declared: Option<CommitId>,
        good: Vec<usize>,
        rejected: Vec<RejectedRecord>,
    ) -> Result<Staged, DeliveryError> {
        let delivered_bytes = 10 * good.len() as u64;
        for records in good.chunks(good.len().div_ceil(2).max(1)) {
            let (records, whole) = (records.to_vec(), good.clone());
            let fate = self.wire.fate();
            let taken = self.wire.send(fate, move |store| match declared {
                Some(cid) => store.take_declared(cid, &whole, &records),
                None => store.take_in(&records),
            });
            taken.await.ok_or_else(|| retry("no answer"))?;
        }
        if self.wire.chance(self.slow) {
            sleep(Duration::from_millis(self.wire.roll(|dice| dice.within(1_000, 8_000)))).await;
        }
        Ok(Staged { rejected, delivered_bytes, ..Staged::default() })
    }

    /// Records that the batch's objects hold, and those that no object can.
    fn encode(&self, batch: &Batch) -> (Vec<usize>, Vec<RejectedRecord>) {
        let mut bad = BTreeSet::new();
        for shard in self.wire.store().shards.values() {
            bad.extend(shard.records.iter().filter(|made| made.bad).map(|made| id(&made.record.data)));
        }
        let (mut good, mut rejected) = (Vec::new(), Vec::new());
        for (lease, record) in batch.records_with_lease() {
            let id = id(&record.data);
            if bad.contains(&id) { rejected.push(reject(lease, record)) } else { good.push(id) }
        }
        (good, rejected)
    }
}

fn reject(lease: &LeaseKey, record: &Record) -> RejectedRecord {
    RejectedRecord::of((lease, record), "format-conversion-failed", "DataFormatConversion.ParseError", "no value")
}

#[async_trait]
impl Destination for ScriptedDestination {
    fn mode(&self) -> Mode {
        self.mode
    }

    fn limits(&self) -> BatchLimits {
        self.limits
    }

    async fn probe(&self) -> Result<(), DeliveryError> {
        Ok(())
    }

    async fn stage(&self, cid: CommitId, batch: &Arc<Batch>) -> Result<Staged, DeliveryError> {
        sleep(self.wire.latency()).await;
        self.lets_us_in()?;
        if self.wire.chance(self.failing) {
            return Err(retry("SlowDown"));
        }
        let (good, rejected) = self.encode(batch);
        if self.mode != Mode::Staged {
            // It refuses records, never a batch: of one, another worker may have brought half before.
            return self.take(batch.declared, good, rejected).await;
        }
        if self.wire.chance(self.refusing) {
            return Err(DeliveryError::Reject { cause: "this batch never".into() });
        }
        let cut = if self.two { good.len().div_ceil(2) } else { good.len() };
        let mut outputs = Vec::new();
        for (n, records) in [&good[..cut], &good[cut..]].into_iter().filter(|part| !part.is_empty()).enumerate() {
            outputs.push(self.wire.store().open(cid, format!("{cid}-{n}"), OutputKind::Data, records.to_vec()));
            sleep(self.wire.latency()).await;
        }
        if self.wire.chance(self.slow) {
            sleep(Duration::from_millis(self.wire.roll(|dice| dice.within(1_000, 8_000)))).await;
        }
        if self.wire.chance(self.failing) {
            // As far as the destination answers, nothing remains.
            for output in outputs.iter().filter(|_| !self.wire.chance(300)) {
                self.wire.store().discard(output);
            }
            return Err(retry("UploadPart failed"));
        }
        let next_ordinal = outputs.len() as u32;
        Ok(Staged { outputs, rejected, created_at: Some(batch.cut_at), next_ordinal, delivered_bytes: 0 })
    }

    async fn stage_extra(
        &self,
        cid: CommitId,
        object: &ExtraObject,
    ) -> Result<(Output, Option<Millis>), DeliveryError> {
        sleep(self.wire.latency()).await;
        if self.wire.chance(self.failing) {
            return Err(retry("SlowDown"));
        }
        let key = format!("{}/{cid}-{}", object.output_type, object.ordinal);
        let output = self.wire.store().open(cid, key, object.kind, records_of(&object.body));
        sleep(self.wire.latency()).await;
        Ok((output, Some(object.cut_at)))
    }

    async fn publish(&self, receipt: &Receipt) -> Result<Published, DeliveryError> {
        self.lets_us_in()?;
        let hasty = self.wire.chance(300);
        let (mut outputs, mut published, mut failed) = (Vec::new(), false, None);
        for output in &receipt.outputs {
            match self.complete(output).await {
                Ok(UploadState::Visible) => published = true,
                Ok(_) => outputs.push(output.clone()),
                Err(error) => failed = Some(error),
            }
            if hasty && !outputs.is_empty() {
                return Ok(Published::Gone { outputs, published });
            }
        }
        match failed {
            Some(error) => Err(error),
            None if outputs.is_empty() => Ok(Published::All),
            None => Ok(Published::Gone { outputs, published }),
        }
    }

    async fn discard(&self, dead: &[Output]) -> Result<(), DeliveryError> {
        let mut failed = false;
        for output in dead {
            let (fate, output) = (self.wire.fate(), output.clone());
            failed |= self.wire.send(fate, move |store| store.discard(&output)).await.is_none();
        }
        if failed { Err(retry("no answer")) } else { Ok(()) }
    }

    async fn write_incident(&self, cid: CommitId, _body: Bytes) -> Result<(), DeliveryError> {
        let fate = self.wire.fate();
        let written = self.wire.send(fate, move |store| {
            store.incidents.insert(cid);
        });
        written.await.ok_or_else(|| retry("no answer"))
    }
}

/// The ids of the records in an error object, whose lines carry them in base64.
fn records_of(body: &[u8]) -> Vec<usize> {
    let text = std::str::from_utf8(body).expect("error lines are JSON");
    let raw = |line: &str| line.split("\"rawData\":\"").nth(1)?.split('"').next().map(str::to_owned);
    text.lines().map(|line| id(&decode(&raw(line).expect("an error line holds the record")))).collect()
}

/// The bytes of the first letters of a base64 text: enough for an id.
fn decode(text: &str) -> Vec<u8> {
    let value = |letter: u8| match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let bytes = |four: &[u8]| {
        let bits = four.iter().fold(0u32, |bits, letter| bits << 6 | u32::from(value(*letter)));
        bits.to_be_bytes()[1..].to_vec()
    };
    text.as_bytes()[..ID_LETTERS / 3 * 4].chunks(4).flat_map(bytes).collect()
}
