//! How many records to ask for, so that an answer holds about as many bytes as its reader reserved.
//!
//! The API bounds an answer by a count only, so the count follows the weight that records had. More than a second's
//! worth (2 MiB) is never wanted: the shard gives no more, and a 10 MiB answer would be paid by 5 s of silence. A reader
//! at the tip gets little and so reserves little; one that falls behind doubles with every answer.

/// GetRecords gives so many records at most (API reference).
const RECORDS_MAX: usize = 10_000;
/// What a quiet shard reserves.
const TARGET_BYTES_MIN: usize = 64 * 1024;
/// What a new reader asks for.
const TARGET_BYTES_FIRST: usize = 1024 * 1024;
/// How many records are asked for before one was weighed: large ones, of 1 MiB each, must not come ten at a time.
const RECORDS_FIRST: i32 = 2;
/// How fast the mean falls; it rises at once.
const MEAN_FALL: f64 = 0.2;

/// The size of the next answer.
#[derive(Debug)]
pub(crate) struct AnswerSize {
    target_bytes: usize,
    target_bytes_max: usize,
    /// The weight of a record; `None` before one was seen.
    record_bytes: Option<f64>,
}

impl AnswerSize {
    /// `bytes_max` is what an answer's records may hold at most, as far as their count decides it.
    pub(crate) fn new(bytes_max: usize) -> Self {
        let target_bytes_max = bytes_max.max(TARGET_BYTES_MIN);
        Self { target_bytes: TARGET_BYTES_FIRST.min(target_bytes_max), target_bytes_max, record_bytes: None }
    }

    /// The `Limit` to ask for.
    pub(crate) fn limit(&self) -> i32 {
        let Some(record_bytes) = self.record_bytes else { return RECORDS_FIRST };
        let records = (self.target_bytes as f64 / record_bytes) as usize;
        i32::try_from(records.clamp(1, RECORDS_MAX)).unwrap_or(i32::MAX)
    }

    /// Bytes of memory that the answer will hold at its peak: its records, and for a moment the body that they are
    /// decoded from, which base64 makes a third longer.
    pub(crate) fn expected_bytes(&self) -> usize {
        self.target_bytes + self.target_bytes / 3 * 4
    }

    /// An answer came: so many records that hold so many bytes of memory.
    pub(crate) fn answered(&mut self, records: usize, memory_bytes: usize, behind: bool) {
        if records > 0 {
            let mean = memory_bytes as f64 / records as f64;
            let fallen = self.record_bytes.map_or(mean, |before| before + (mean - before) * MEAN_FALL);
            self.record_bytes = Some(mean.max(fallen).max(1.0));
        }
        if behind {
            if records > 0 {
                self.target_bytes = (self.target_bytes * 2).min(self.target_bytes_max);
            }
        } else if memory_bytes < self.target_bytes / 4 {
            self.target_bytes = (self.target_bytes / 2).max(TARGET_BYTES_MIN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn a_quiet_shard_reserves_little_and_grows_when_behind() {
        let mut size = AnswerSize::new(2 * MIB);
        for _ in 0..10 {
            size.answered(0, 0, false);
        }
        assert_eq!(size.expected_bytes(), 64 * 1024 + 64 * 1024 / 3 * 4);
        for _ in 0..5 {
            size.answered(100, 100 * 1024, true);
        }
        assert_eq!(size.target_bytes, 2 * MIB);
        assert_eq!(size.limit(), 2048);
    }

    #[test]
    fn large_records_are_asked_for_one_by_one_and_small_ones_to_the_limit() {
        let mut size = AnswerSize::new(2 * MIB);
        assert_eq!(size.limit(), 2, "nothing was weighed yet");
        size.answered(1, 4 * MIB, true);
        assert_eq!(size.limit(), 1);
        for _ in 0..100 {
            size.answered(10_000, 10_000 * 80, true);
        }
        assert_eq!(size.limit(), 10_000);
    }
}
