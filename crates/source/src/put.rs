//! A producer: lines into a stream with PutRecords, for `standpipe put` and for the demo.
//!
//! Only the entries that failed are sent again, after a pause. A call whose outcome is unknown (a broken connection, a
//! timeout, a 5xx) is sent again as a whole, so its records may be in the stream twice: the counts say how many. The
//! order of records that share a partition key is not kept when some of them fail.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_kinesis::operation::put_records::PutRecordsOutput;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use aws_smithy_types::Blob;

use crate::backoff::Backoff;
use crate::errors::{Failure, Kind};
use crate::pack::Packed;
use crate::stream::{Stream, put_config};

/// PutRecords takes so many records (API reference).
const RECORDS_MAX: usize = 500;
/// PutRecords takes so many bytes, partition keys included. 5 MiB is what every service of this API takes; newer ones
/// take 10 MiB, which is left to a single large record.
const REQUEST_BYTES_MAX: usize = 5 * 1024 * 1024;
/// The largest record (API reference, PutRecordsRequestEntry).
const RECORD_BYTES_MAX: usize = 10 * 1024 * 1024;
/// The longest partition key, in characters (API reference).
const KEY_CHARS_MAX: usize = 256;
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LONGEST: Duration = Duration::from_secs(5);

/// Why a producer stopped; named by what the caller must do.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PutError {
    /// The record can never be written; leave it out. Nothing else was lost.
    #[error(
        "record of {bytes} bytes with a partition key of {key_chars} characters: a record is 10 MiB at most, its key 1 to 256 characters"
    )]
    Record {
        /// Data and partition key.
        bytes: usize,
        /// The partition key's length.
        key_chars: usize,
    },
    /// Not permitted: somebody must change a policy, a key or the credentials.
    #[error("not permitted: {cause}")]
    Denied {
        /// What the service said.
        cause: String,
    },
    /// Somebody must act: the stream does not exist, or the request is refused.
    #[error("the stream refuses: {cause}")]
    Refused {
        /// What the service said.
        cause: String,
    },
    /// Nothing was written for as long as the caller is willing to wait. What was buffered is still buffered.
    #[error("gave up: {cause}")]
    GaveUp {
        /// The last failure.
        cause: String,
    },
}

/// How a producer behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PutSettings {
    /// How long it goes on without a single record written.
    pub patience: Duration,
    /// Bytes of data a second; `None` is as fast as the stream takes them.
    pub bytes_per_second: Option<u64>,
}

impl Default for PutSettings {
    fn default() -> Self {
        Self { patience: Duration::from_secs(60), bytes_per_second: None }
    }
}

/// What a producer has done so far.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct PutCounts {
    /// User records known to be in the stream.
    pub records: u64,
    /// Bytes of their data.
    pub bytes: u64,
    /// Records of the stream that hold them.
    pub stream_records: u64,
    /// Calls of PutRecords.
    pub calls: u64,
    /// Entries refused for throughput, and sent again.
    pub throttled: u64,
    /// Entries that failed otherwise, and were sent again.
    pub failed: u64,
    /// User records sent again although the first try may have written them.
    pub maybe_twice: u64,
}

/// What keeps a producer from writing at the moment, for whoever waits for it.
#[derive(Debug, Default)]
pub struct Trouble(Mutex<Option<String>>);

impl Trouble {
    /// The last failure, if nothing was written since.
    pub fn cause(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, cause: Option<&str>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = cause.map(str::to_owned);
    }
}

/// A record of the stream on its way, and what it holds.
#[derive(Debug)]
struct Entry {
    request: PutRecordsRequestEntry,
    user_records: u64,
    user_bytes: u64,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.request.data.as_ref().len() + self.request.partition_key.as_deref().map_or(0, str::len)
    }
}

/// Sends records to a stream.
#[derive(Debug)]
pub struct Putter {
    stream: Stream,
    settings: PutSettings,
    buffer: Vec<Entry>,
    buffer_bytes: usize,
    rate: Rate,
    counts: PutCounts,
    trouble: Arc<Trouble>,
}

impl Putter {
    pub(crate) fn new(stream: Stream, settings: PutSettings) -> Self {
        let rate = Rate::new(settings.bytes_per_second);
        let (counts, trouble) = (PutCounts::default(), Arc::default());
        Self { stream, settings, buffer: Vec::new(), buffer_bytes: 0, rate, counts, trouble }
    }

    /// Adds a record, and sends what is buffered when a call is full. Not cancel-safe: a dropped future may have sent
    /// records that are sent again.
    pub async fn push(&mut self, data: Vec<u8>, partition_key: String) -> Result<(), PutError> {
        let bytes = data.len() as u64;
        self.push_packed(Packed { data, partition_key, records: 1, bytes }).await
    }

    /// As `push`, of a record that holds several.
    pub async fn push_packed(&mut self, packed: Packed) -> Result<(), PutError> {
        let Packed { data, partition_key, records: user_records, bytes: user_bytes } = packed;
        let bytes = data.len() + partition_key.len();
        let key_chars = partition_key.chars().count();
        if bytes > RECORD_BYTES_MAX || !(1..=KEY_CHARS_MAX).contains(&key_chars) {
            return Err(PutError::Record { bytes, key_chars });
        }
        if self.buffer_bytes + bytes > REQUEST_BYTES_MAX {
            self.flush().await?;
        }
        let request = PutRecordsRequestEntry::builder().data(Blob::new(data)).partition_key(partition_key);
        let request = request.build().map_err(|error| PutError::Refused { cause: error.to_string() })?;
        self.buffer.push(Entry { request, user_records, user_bytes });
        self.buffer_bytes += bytes;
        if self.buffer.len() >= RECORDS_MAX {
            self.flush().await?;
        }
        Ok(())
    }

    /// Sends what is buffered, until all of it is in the stream. Not cancel-safe, as `push`.
    pub async fn flush(&mut self) -> Result<(), PutError> {
        let mut backoff = Backoff::new(PAUSE_FIRST, PAUSE_LONGEST);
        let mut progress = self.stream.clock().elapsed();
        while !self.buffer.is_empty() {
            let now = self.stream.clock().elapsed();
            self.stream.wait_until(self.rate.ready(now)).await;
            let cause = match self.send().await {
                Ok(answer) => {
                    let written = self.settle(&answer);
                    if written > 0 {
                        backoff.worked();
                        progress = self.stream.clock().elapsed();
                        self.trouble.set(None);
                    }
                    match self.buffer.is_empty() {
                        true => return Ok(()),
                        false => refused_for(&answer),
                    }
                }
                Err(failure) => self.failed(failure)?,
            };
            self.trouble.set(Some(&cause));
            if self.stream.clock().elapsed().saturating_sub(progress) >= self.settings.patience {
                return Err(PutError::GaveUp { cause });
            }
            tokio::time::sleep(backoff.failed(self.stream.random())).await;
        }
        Ok(())
    }

    /// What was done so far.
    pub fn counts(&self) -> PutCounts {
        self.counts
    }

    /// What keeps it from writing, to be looked at while it writes.
    pub fn trouble(&self) -> Arc<Trouble> {
        self.trouble.clone()
    }

    async fn send(&mut self) -> Result<PutRecordsOutput, Failure> {
        self.counts.calls += 1;
        let reference = &self.stream.reference;
        let request = self.stream.client.put_records().set_stream_name(reference.name());
        let entries = self.buffer.iter().map(|entry| entry.request.clone()).collect();
        let request = request.set_stream_arn(reference.arn()).set_records(Some(entries));
        let answer = request.customize().config_override(put_config()).send().await;
        let answer = answer.map_err(|error| Failure::of(&error))?;
        if answer.records.len() == self.buffer.len() {
            return Ok(answer);
        }
        let cause = format!("PutRecords answers {} entries for {}", answer.records.len(), self.buffer.len());
        Err(Failure::new(Kind::Transient, cause))
    }

    /// Keeps the entries that failed; gives the number of those written.
    fn settle(&mut self, answer: &PutRecordsOutput) -> usize {
        let sent = std::mem::take(&mut self.buffer);
        let (mut written, mut bytes) = (0, 0);
        self.buffer_bytes = 0;
        for (entry, result) in sent.into_iter().zip(&answer.records) {
            match result.error_code.as_deref() {
                None => {
                    written += 1;
                    bytes += entry.request.data.as_ref().len();
                    self.counts.records += entry.user_records;
                    self.counts.bytes += entry.user_bytes;
                    self.counts.stream_records += 1;
                }
                Some(code) => {
                    let throttled = code == "ProvisionedThroughputExceededException";
                    *(if throttled { &mut self.counts.throttled } else { &mut self.counts.failed }) += 1;
                    self.buffer_bytes += entry.bytes();
                    self.buffer.push(entry);
                }
            }
        }
        self.rate.sent(self.stream.clock().elapsed(), bytes);
        written
    }

    /// A call that failed as a whole: whether it is worth another try, and the cause.
    fn failed(&mut self, failure: Failure) -> Result<String, PutError> {
        let cause = failure.cause;
        match failure.kind {
            Kind::Throttled => self.counts.throttled += self.buffer.len() as u64,
            Kind::Transient => {
                self.counts.maybe_twice += self.buffer.iter().map(|entry| entry.user_records).sum::<u64>();
            }
            // A stream that is being changed takes no records for a moment.
            Kind::InUse => {}
            Kind::Denied => return Err(PutError::Denied { cause }),
            Kind::Iterator | Kind::Gone | Kind::Refused => return Err(PutError::Refused { cause }),
        }
        Ok(cause)
    }
}

/// The first error code of an answer.
fn refused_for(answer: &PutRecordsOutput) -> String {
    let code = answer.records.iter().find_map(|result| result.error_code.clone());
    code.unwrap_or_else(|| "entries failed".to_owned())
}

/// The rate that the caller wants: a bucket of one second that goes into debt by one call.
#[derive(Debug)]
struct Rate {
    bytes_per_second: Option<f64>,
    ready: Duration,
}

impl Rate {
    fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second: bytes_per_second.map(|rate| rate.max(1) as f64), ready: Duration::ZERO }
    }

    /// When the next call may go out.
    fn ready(&self, now: Duration) -> Duration {
        if self.bytes_per_second.is_some() { self.ready.max(now) } else { now }
    }

    /// So many bytes went out.
    fn sent(&mut self, now: Duration, bytes: usize) {
        if let Some(rate) = self.bytes_per_second {
            // What was not used for more than a second is forgone.
            let from = self.ready.max(now.saturating_sub(Duration::from_secs(1)));
            self.ready = from + Duration::from_secs_f64(bytes as f64 / rate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_over_time_and_forgives_a_pause_of_a_second() {
        let mut rate = Rate::new(Some(1000));
        let mut now = Duration::from_secs(100);
        let start = now;
        for _ in 0..20 {
            now = rate.ready(now);
            rate.sent(now, 500);
        }
        let took = rate.ready(now) - start;
        assert!((8_900..=10_000).contains(&took.as_millis()), "{took:?} for 10,000 bytes");
        assert_eq!(Rate::new(None).ready(now), now);
    }
}
