//! Where a record stands in its shard, and how far a destination has come.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// A Kinesis sequence number: up to 129 decimal digits without leading zeros.
/// Order is numeric, which for such a string is length, then bytes. Cloning shares the digits: all user records of an
/// aggregate have the same.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SequenceNumber(Arc<str>);

/// A text that is not a sequence number.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a sequence number: 1 to 129 decimal digits")]
pub struct BadSequenceNumber(String);

impl SequenceNumber {
    /// Digits allowed by the Kinesis API for a SequenceNumber (pattern `0|([1-9]\d{0,128})`).
    pub const DIGITS_MAX: usize = 129;

    /// Reads a sequence number as the Kinesis API writes it.
    pub fn parse(text: impl Into<String>) -> Result<Self, BadSequenceNumber> {
        let text: String = text.into();
        let digits = !text.is_empty() && text.len() <= Self::DIGITS_MAX && text.bytes().all(|b| b.is_ascii_digit());
        let canonical = text == "0" || !text.starts_with('0');
        if digits && canonical { Ok(Self(text.into())) } else { Err(BadSequenceNumber(text)) }
    }

    /// The decimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<u64> for SequenceNumber {
    fn from(number: u64) -> Self {
        Self(number.to_string().into())
    }
}

impl Ord for SequenceNumber {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for SequenceNumber {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How far a shard has been delivered: everything up to and including this is done. Ranges are `(from, to]`.
/// Order: TRIM_HORIZON < (sequence number, sub-sequence number) < SHARD_END.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Position {
    /// Nothing yet.
    TrimHorizon,
    /// Up to this user record. `sub` is its index in a KPL aggregate, 0 for a plain record; a finished aggregate is
    /// marked by the index of its last user record.
    At {
        /// The sequence number that Kinesis gave the record.
        sequence: SequenceNumber,
        /// The sub-sequence number within an aggregate.
        sub: u64,
    },
    /// The whole closed shard.
    ShardEnd,
}

impl Position {
    /// The position just after the user record `(sequence, sub)`.
    pub fn at(sequence: SequenceNumber, sub: u64) -> Self {
        Self::At { sequence, sub }
    }

    /// The KCL's `checkpoint` attribute.
    pub fn checkpoint(&self) -> &str {
        match self {
            Self::TrimHorizon => "TRIM_HORIZON",
            Self::At { sequence, .. } => sequence.as_str(),
            Self::ShardEnd => "SHARD_END",
        }
    }

    /// The KCL's `checkpointSubSequenceNumber` attribute.
    pub fn sub(&self) -> u64 {
        match self {
            Self::At { sub, .. } => *sub,
            _ => 0,
        }
    }

    /// Reads the two KCL attributes. LATEST and AT_TIMESTAMP are no positions of ours and are refused.
    pub fn parse(checkpoint: &str, sub: u64) -> Result<Self, BadSequenceNumber> {
        match checkpoint {
            "TRIM_HORIZON" => Ok(Self::TrimHorizon),
            "SHARD_END" => Ok(Self::ShardEnd),
            digits => Ok(Self::At { sequence: SequenceNumber::parse(digits)?, sub }),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.checkpoint())?;
        if self.sub() > 0 { write!(f, ".{}", self.sub()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(digits: &str, sub: u64) -> Position {
        Position::at(SequenceNumber::parse(digits).expect("digits"), sub)
    }

    #[test]
    fn positions_order_as_the_kcl_orders_them() {
        let ascending =
            [Position::TrimHorizon, at("0", 0), at("9", 0), at("9", 3), at("10", 0), at("100", 1), Position::ShardEnd];
        for pair in ascending.windows(2) {
            assert!(pair[0] < pair[1], "{} < {}", pair[0], pair[1]);
        }
    }

    #[test]
    fn what_is_no_sequence_number_is_refused() {
        for bad in ["", "01", "-1", "1a", "LATEST", "AT_TIMESTAMP", &"1".repeat(130)] {
            assert!(Position::parse(bad, 0).is_err(), "{bad}");
        }
    }

    #[test]
    fn attributes_round_trip() {
        for position in [Position::TrimHorizon, at("495", 7), Position::ShardEnd] {
            assert_eq!(Position::parse(position.checkpoint(), position.sub()), Ok(position));
        }
    }
}
