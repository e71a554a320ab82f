//! The limits of one shard: 5 GetRecords a second and 2 MiB a second out, 1,000 records and 1 MiB a second in.
//!
//! Times are the emulator's clock, so limits hold in virtual time as well.

use std::collections::VecDeque;

const SECOND_MILLIS: u64 = 1000;
/// Calls a second of GetRecords, and of GetShardIterator, for one shard (API reference).
const CALLS_MAX: usize = 5;
/// Bytes a second that a shard gives and takes (API reference).
const READ_BYTES: f64 = 2.0 * 1024.0 * 1024.0;
const WRITE_BYTES: f64 = 1024.0 * 1024.0;
const WRITE_RECORDS: f64 = 1000.0;

/// The state of every limit of one shard.
#[derive(Debug)]
pub(super) struct Quota {
    reads: Calls,
    iterators: Calls,
    read_bytes: Bucket,
    write_bytes: Bucket,
    write_records: Bucket,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            reads: Calls::default(),
            iterators: Calls::default(),
            read_bytes: Bucket::new(READ_BYTES),
            write_bytes: Bucket::new(WRITE_BYTES),
            write_records: Bucket::new(WRITE_RECORDS),
        }
    }
}

impl Quota {
    /// Whether a GetRecords may run now; it then counts.
    pub(super) fn admit_read(&mut self, now: u64) -> bool {
        self.read_bytes.available(now) > 0.0 && self.reads.admit(now)
    }

    /// Books what a GetRecords gave. A reply above a second's worth takes the whole time: 10 MiB, 5 s (API reference).
    pub(super) fn book_read(&mut self, now: u64, bytes: usize) {
        let bytes = bytes as f64;
        if bytes > READ_BYTES { self.read_bytes.owe(now, bytes) } else { self.read_bytes.take(now, bytes) }
    }

    /// Whether a GetShardIterator may run now; it then counts.
    pub(super) fn admit_iterator(&mut self, now: u64) -> bool {
        self.iterators.admit(now)
    }

    /// Whether a record of this size may be written now; it then counts.
    pub(super) fn admit_write(&mut self, now: u64, bytes: usize) -> bool {
        let bytes = bytes as f64;
        // A record may be larger than a second's worth: it needs a full bucket and leaves it in debt.
        let fits = self.write_bytes.available(now) >= bytes.min(WRITE_BYTES);
        if !fits || self.write_records.available(now) < 1.0 {
            return false;
        }
        self.write_bytes.take(now, bytes);
        self.write_records.take(now, 1.0);
        true
    }
}

/// At most five in any second.
#[derive(Debug, Default)]
pub(super) struct Calls(VecDeque<u64>);

impl Calls {
    /// Whether a call may run now; it then counts.
    pub(super) fn admit(&mut self, now: u64) -> bool {
        while self.0.front().is_some_and(|at| at + SECOND_MILLIS <= now) {
            self.0.pop_front();
        }
        let free = self.0.len() < CALLS_MAX;
        if free {
            self.0.push_back(now);
        }
        free
    }
}

/// The 2 MiB a second that each subscription has for itself (API reference).
#[derive(Debug)]
pub(super) struct EventBytes(Bucket);

impl Default for EventBytes {
    fn default() -> Self {
        Self(Bucket::new(READ_BYTES))
    }
}

impl EventBytes {
    /// How long the next event must wait, milliseconds.
    pub(super) fn wait_millis(&mut self, now: u64) -> u64 {
        let level = self.0.available(now);
        if level > 0.0 { 0 } else { (-level / READ_BYTES * SECOND_MILLIS as f64) as u64 + 1 }
    }

    /// Books what an event gave.
    pub(super) fn book(&mut self, now: u64, bytes: usize) {
        self.0.take(now, bytes as f64);
    }
}

/// A bucket that fills in one second and may go into debt.
#[derive(Debug)]
struct Bucket {
    per_second: f64,
    level: f64,
    at_millis: u64,
}

impl Bucket {
    fn new(per_second: f64) -> Self {
        Self { per_second, level: per_second, at_millis: 0 }
    }

    fn available(&mut self, now: u64) -> f64 {
        let passed = now.saturating_sub(self.at_millis) as f64 / SECOND_MILLIS as f64;
        self.level = (self.level + passed * self.per_second).min(self.per_second);
        self.at_millis = self.at_millis.max(now);
        self.level
    }

    fn take(&mut self, now: u64, amount: f64) {
        self.level = self.available(now) - amount;
    }

    fn owe(&mut self, now: u64, amount: f64) {
        self.level = self.available(now).min(0.0) - amount;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_reads_a_second() {
        let mut quota = Quota::default();
        assert!((0..5).all(|_| quota.admit_read(1000)));
        assert!(!quota.admit_read(1999));
        assert!(quota.admit_read(2000));
    }

    #[test]
    fn ten_mebibytes_cost_five_seconds() {
        let mut quota = Quota::default();
        assert!(quota.admit_read(10_000));
        quota.book_read(10_000, 10 << 20);
        assert!(!quota.admit_read(15_000));
        assert!(quota.admit_read(15_001));
    }

    #[test]
    fn writes_are_bound_by_bytes_and_by_count() {
        let mut quota = Quota::default();
        assert!(quota.admit_write(5000, 1 << 20));
        assert!(!quota.admit_write(5000, 1));
        let mut quota = Quota::default();
        assert!((0..1000).all(|_| quota.admit_write(5000, 1)));
        assert!(!quota.admit_write(5000, 1));
        assert!(quota.admit_write(5001, 1));
    }
}
