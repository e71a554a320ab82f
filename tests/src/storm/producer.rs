//! The producer: JSON lines of about 1 KiB at a steady rate. A line is made of its id alone, so that whoever finds it can
//! tell whether it is what was sent, byte for byte.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use standpipe_emulator::Emulator;
use standpipe_source::{PACK_BYTES, Pack};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::STREAM;
use super::ledger::Ledger;

const TICK: Duration = Duration::from_millis(20);
const LETTERS: &[u8; 63] = b"abcdefghijklmnopqrstuvwxyz0123456789-ABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// The letters over and over: every text is a piece of it.
static TEXT: [u8; 1_280] = {
    let mut text = [0; 1_280];
    let mut at = 0;
    while at < text.len() {
        text[at] = LETTERS[at % LETTERS.len()];
        at += 1;
    }
    text
};
/// The text in a line: 900 to 1,155 bytes.
const TEXT_BYTES_MIN: usize = 900;

/// The line of this id.
pub fn line(id: usize) -> Vec<u8> {
    let length = TEXT_BYTES_MIN + (id.wrapping_mul(0x9E37_79B9) >> 8) % 256;
    let at = id % LETTERS.len();
    let mut line = Vec::with_capacity(length + 40);
    line.extend_from_slice(format!("{{\"id\":{id},\"text\":\"").as_bytes());
    line.extend_from_slice(&TEXT[at..at + length]);
    line.extend_from_slice(b"\"}");
    line
}

/// The id at the beginning of a line.
pub fn id_of(line: &[u8]) -> Option<usize> {
    let digits = line.strip_prefix(b"{\"id\":")?;
    let end = digits.iter().position(|byte| *byte == b',')?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

/// The ledger, which the producer writes and the checks read.
pub type Shared = Arc<Mutex<Ledger>>;

/// Locks it.
pub fn lock(ledger: &Shared) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a producer goes about it.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Bytes of lines.
    pub bytes_per_second: f64,
    /// Lines in a record of the stream: more than one are packed as the KPL does.
    pub pack: usize,
}

/// Produces at this pace until `stop`. What the machine delays by more than a second is not made up for.
pub async fn produce(emulator: Arc<Emulator>, ledger: Shared, pace: Pace, stop: CancellationToken) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = Instant::now();
    let mut owed = 0.0;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        owed += last.elapsed().as_secs_f64().min(1.0) * pace.bytes_per_second;
        last = Instant::now();
        // Under the lock, so that nobody finds a record that the ledger does not know yet.
        let mut ledger = lock(&ledger);
        let (mut records, mut sizes) = (Vec::new(), Vec::new());
        let mut next = ledger.len();
        while owed > 0.0 {
            let lines: Vec<_> = (next..next + pace.pack).map(line).collect();
            next += pace.pack;
            sizes.push(lines.iter().map(Vec::len).collect::<Vec<_>>());
            owed -= lines.iter().map(Vec::len).sum::<usize>() as f64;
            records.push(record(next, lines));
        }
        let placed = emulator.put_records(STREAM, &records).expect("the stream takes records");
        for (at, sizes) in placed.into_iter().zip(&sizes) {
            ledger.produced(at, sizes);
        }
    }
}

/// The record of the stream that holds these lines. All of them have one partition key, so that they are of one shard.
fn record(number: usize, lines: Vec<Vec<u8>>) -> (String, Bytes) {
    let key = format!("{:016x}", (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut pack = Pack::new(PACK_BYTES);
    for line in lines {
        let full = pack.add(line, key.clone());
        assert!(full.is_none(), "so few lines are one pack");
    }
    let packed = pack.take().expect("there are lines");
    (key, packed.data.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_its_id_and_has_its_size() {
        for id in [0, 1, 77, 123_456_789] {
            assert_eq!(id_of(&line(id)), Some(id));
            assert!((TEXT_BYTES_MIN..1_200).contains(&line(id).len()));
        }
        assert_ne!(line(1)[8..], line(2)[8..]);
        assert_eq!(id_of(b"{\"id\":x,"), None);
    }
}
