//! Sequence numbers of 56 digits and the hash keys that route records.
//!
//! A number is `49`, the second in which the stream was made (12 digits), the shard (12) and a counter of the stream
//! (30): it ascends within a shard, leaves gaps, and a child's numbers stand above those of its parents.

use md5::{Digest, Md5};

/// The greatest hash key, 2^128 - 1.
pub(super) const HASH_KEY_MAX: u128 = u128::MAX;

/// What a sequence number is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) created_secs: u64,
    pub(super) shard: usize,
    pub(super) counter: u64,
}

/// Writes the 56 digits.
pub(super) fn format(parts: Parts) -> String {
    let Parts { created_secs, shard, counter } = parts;
    format!("49{:012}{shard:012}{counter:030}", created_secs % 1_000_000_000_000)
}

/// Reads what `format` wrote.
pub(super) fn parse(text: &str) -> Option<Parts> {
    let digits = text.strip_prefix("49").filter(|rest| rest.len() == 54 && rest.bytes().all(|b| b.is_ascii_digit()))?;
    Some(Parts {
        created_secs: digits[..12].parse().ok()?,
        shard: digits[12..24].parse().ok()?,
        counter: digits[24..].parse().ok()?,
    })
}

/// The hash key of a partition key: its MD5 read as an unsigned number of 128 bits.
pub(super) fn hash_key(partition_key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(partition_key.as_bytes()).into())
}

/// The `index`th of `count` equal parts of the hash key space, both ends included.
pub(super) fn even_range(index: usize, count: usize) -> (u128, u128) {
    let width = HASH_KEY_MAX / count as u128;
    let start = width * index as u128;
    let end = if index + 1 == count { HASH_KEY_MAX } else { width * (index as u128 + 1) - 1 };
    (start, end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_round_trip_and_ascend(created_secs in 0u64..999_999_999_999, shard in 0usize..100_000, counter: u64) {
            let parts = Parts { created_secs, shard, counter };
            let text = format(parts);
            prop_assert_eq!(text.len(), 56);
            prop_assert_eq!(parse(&text), Some(parts));
            let next = format(Parts { counter: counter.saturating_add(1), ..parts });
            prop_assert!(next >= text);
        }

        #[test]
        fn even_ranges_tile(count in 1usize..300) {
            let ranges: Vec<_> = (0..count).map(|index| even_range(index, count)).collect();
            prop_assert_eq!(ranges[0].0, 0);
            prop_assert_eq!(ranges[count - 1].1, HASH_KEY_MAX);
            for pair in ranges.windows(2) {
                prop_assert_eq!(pair[0].1 + 1, pair[1].0);
            }
        }

        #[test]
        fn junk_is_no_sequence_number(text in ".{0,60}") {
            if let Some(parts) = parse(&text) {
                prop_assert_eq!(format(parts), text);
            }
        }
    }

    #[test]
    fn hash_keys_are_md5() {
        assert_eq!(hash_key("a"), 0x0cc1_75b9_c0f1_b6a8_31c3_99e2_6977_2661);
    }
}
