//! The producer: JSON lines of about 1 KiB at a steady rate. A line is made of its id alone, so that whoever finds it can
//! tell whether it is what was sent, byte for byte.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use standpipe_emulator::Emulator;
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

/// Produces so many bytes a second until `stop`. What the machine delays by more than a second is not made up for.
pub async fn produce(emulator: Arc<Emulator>, ledger: Shared, bytes_per_second: f64, stop: CancellationToken) {
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
        owed += last.elapsed().as_secs_f64().min(1.0) * bytes_per_second;
        last = Instant::now();
        // Under the lock, so that nobody finds a record that the ledger does not know yet.
        let mut ledger = lock(&ledger);
        let mut records = Vec::new();
        while owed > 0.0 {
            let id = ledger.len() + records.len();
            let line = Bytes::from(line(id));
            owed -= line.len() as f64;
            records.push((format!("{:016x}", (id as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)), line));
        }
        let placed = emulator.put_records(STREAM, &records).expect("the stream takes records");
        for (at, (_, line)) in placed.into_iter().zip(&records) {
            ledger.produced(at, line.len());
        }
    }
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
