//! What ORC says of the values of a column, in a row group, a stripe and the file (ORCv1, "Column Statistics").
//!
//! Readers leave out what cannot hold a row that they look for, so a bound may be too wide, never too narrow or absent:
//! some readers take a column without a minimum for one of nulls. Long texts have bounds of [`TEXT_BYTES`], the upper
//! one rounded up. A sum of doubles that is no number tells readers that comparisons with these bounds are void.

use super::proto::Message;

/// Bytes of a text's bounds, as in Java's writer.
const TEXT_BYTES: usize = 1024;

/// Of the values of one column.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Statistics {
    pub(super) count: u64,
    pub(super) has_null: bool,
    pub(super) values: Values,
}

/// By type.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Values {
    /// Structs, lists and maps have the count alone.
    Nested,
    Boolean {
        yes: u64,
    },
    Integer {
        range: Range<i64>,
        sum: Option<i64>,
    },
    /// The range is of those that are numbers.
    Double {
        range: Range<f64>,
        sum: f64,
    },
    Text {
        range: Range<Vec<u8>>,
        bytes: i64,
    },
    Binary {
        bytes: i64,
    },
    /// With this many digits behind the point.
    Decimal {
        range: Range<i128>,
        scale: u32,
    },
    Date {
        range: Range<i64>,
    },
    /// In milliseconds, rounded down.
    Timestamp {
        range: Range<i64>,
    },
}

/// The smallest and the largest value, if there is any.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Range<T>(Option<(T, T)>);

impl<T> Default for Range<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: PartialOrd + Clone> Range<T> {
    pub(super) fn add(&mut self, value: T) {
        match &mut self.0 {
            None => self.0 = Some((value.clone(), value)),
            Some((min, _)) if value < *min => *min = value,
            Some((_, max)) if value > *max => *max = value,
            Some(_) => (),
        }
    }

    fn merge(&mut self, other: &Self) {
        if let Some((min, max)) = &other.0 {
            self.add(min.clone());
            self.add(max.clone());
        }
    }
}

impl Range<Vec<u8>> {
    /// As `add`, without a copy of a text that changes nothing, and of a long text only what its bounds need.
    pub(super) fn add_text(&mut self, text: &[u8]) {
        let text = if text.len() > TEXT_BYTES && has_upper(&text[..cut(text)]) { &text[..=TEXT_BYTES] } else { text };
        match &mut self.0 {
            None => self.0 = Some((text.to_vec(), text.to_vec())),
            Some((min, _)) if text < min.as_slice() => *min = text.to_vec(),
            Some((_, max)) if text > max.as_slice() => *max = text.to_vec(),
            Some(_) => (),
        }
    }
}

impl Statistics {
    pub(super) fn new(values: Values) -> Self {
        Self { count: 0, has_null: false, values }
    }

    /// What they hold; these are of no values again.
    pub(super) fn take(&mut self) -> Self {
        let empty = match &self.values {
            Values::Nested => Values::Nested,
            Values::Boolean { .. } => Values::Boolean { yes: 0 },
            Values::Integer { .. } => Values::Integer { range: Range::default(), sum: Some(0) },
            Values::Double { .. } => Values::Double { range: Range::default(), sum: 0.0 },
            Values::Text { .. } => Values::Text { range: Range::default(), bytes: 0 },
            Values::Binary { .. } => Values::Binary { bytes: 0 },
            Values::Decimal { scale, .. } => Values::Decimal { range: Range::default(), scale: *scale },
            Values::Date { .. } => Values::Date { range: Range::default() },
            Values::Timestamp { .. } => Values::Timestamp { range: Range::default() },
        };
        std::mem::replace(self, Self::new(empty))
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.has_null |= other.has_null;
        match (&mut self.values, &other.values) {
            (Values::Boolean { yes }, Values::Boolean { yes: more }) => *yes += more,
            (Values::Integer { range, sum }, Values::Integer { range: more, sum: others }) => {
                range.merge(more);
                *sum = sum.zip(*others).and_then(|(one, other)| one.checked_add(other));
            }
            (Values::Double { range, sum }, Values::Double { range: more, sum: others }) => {
                range.merge(more);
                *sum += others;
            }
            (Values::Text { range, bytes }, Values::Text { range: more, bytes: others }) => {
                range.merge(more);
                *bytes = bytes.saturating_add(*others);
            }
            (Values::Binary { bytes }, Values::Binary { bytes: more }) => *bytes = bytes.saturating_add(*more),
            (Values::Decimal { range, .. }, Values::Decimal { range: more, .. }) => range.merge(more),
            (Values::Date { range }, Values::Date { range: more })
            | (Values::Timestamp { range }, Values::Timestamp { range: more }) => range.merge(more),
            _ => (),
        }
    }

    /// `ColumnStatistics` of orc_proto.proto.
    pub(super) fn message(&self) -> Message {
        let message = Message::default().uint(1, self.count);
        let inner = Message::default();
        let message = match &self.values {
            Values::Nested => message,
            Values::Boolean { yes } => message.message(5, &inner.packed(1, [*yes])),
            Values::Integer { range, sum } => {
                let inner = sints(inner, range, [1, 2]);
                message.message(2, &sum.iter().fold(inner, |inner, sum| inner.sint(3, *sum)))
            }
            Values::Double { range, sum } => {
                let inner = match range.0 {
                    Some((min, max)) => inner.double(1, min).double(2, max),
                    None if self.count > 0 => inner.double(1, f64::NAN).double(2, f64::NAN),
                    None => inner,
                };
                message.message(3, &inner.double(3, *sum))
            }
            Values::Text { range, bytes } => {
                let inner = match &range.0 {
                    Some((min, max)) => inner.bytes(1, lower(min)).bytes(2, &upper(max)),
                    None => inner,
                };
                message.message(4, &inner.sint(3, *bytes))
            }
            Values::Binary { bytes } => message.message(8, &inner.sint(1, *bytes)),
            Values::Decimal { range, scale } => {
                let inner = match range.0 {
                    Some((min, max)) => {
                        inner.bytes(1, decimal(min, *scale).as_bytes()).bytes(2, decimal(max, *scale).as_bytes())
                    }
                    None => inner,
                };
                message.message(6, &inner)
            }
            Values::Date { range } => message.message(7, &sints(inner, range, [1, 2])),
            Values::Timestamp { range } => message.message(9, &sints(inner, range, [3, 4])),
        };
        message.uint(10, self.has_null.into())
    }
}

fn sints(message: Message, range: &Range<i64>, fields: [u32; 2]) -> Message {
    match range.0 {
        Some((min, max)) => message.sint(fields[0], min).sint(fields[1], max),
        None => message,
    }
}

/// At most [`TEXT_BYTES`] that are no more than the text.
fn lower(text: &[u8]) -> &[u8] {
    &text[..cut(text)]
}

/// As few bytes that are no less than the text, if some are: with a character made one larger.
fn upper(text: &[u8]) -> Vec<u8> {
    let kept = &text[..cut(text)];
    if kept.len() == text.len() {
        return text.to_vec();
    }
    let Ok(kept) = std::str::from_utf8(kept) else { return text.to_vec() };
    for (at, last) in kept.char_indices().rev() {
        let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            return format!("{}{next}", &kept[..at]).into_bytes();
        }
    }
    text.to_vec()
}

/// Whether one of the characters can be made larger.
fn has_upper(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.chars().any(|c| c != char::MAX))
}

/// Where a text can be cut between two characters.
fn cut(text: &[u8]) -> usize {
    let mut at = text.len().min(TEXT_BYTES);
    while at > 0 && text.get(at).is_some_and(|byte| byte & 0xC0 == 0x80) {
        at -= 1;
    }
    at
}

fn decimal(value: i128, scale: u32) -> String {
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale as usize + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale as usize);
    let sign = if value < 0 { "-" } else { "" };
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_have_bounds_that_hold_them() {
        for text in
            ["é".repeat(600), "x".repeat(1024), "\u{10FFFF}".repeat(400), "z\u{D7FF}".repeat(900), "x".repeat(9999)]
        {
            let mut range = Range::default();
            range.add_text(text.as_bytes());
            let (min, max) = range.0.expect("a range");
            let (lower, upper) = (lower(&min).to_vec(), upper(&max));
            assert!(*lower <= *text.as_bytes() && *upper >= *text.as_bytes());
            assert!(std::str::from_utf8(&lower).is_ok() && std::str::from_utf8(&upper).is_ok());
            assert!(lower.len() <= TEXT_BYTES);
        }
        assert!(upper("é".repeat(600).as_bytes()).len() <= TEXT_BYTES + 4);
        assert_eq!(upper(b"short"), b"short");
    }

    #[test]
    fn decimals_are_written_in_full() {
        assert_eq!(decimal(-5, 3), "-0.005");
        assert_eq!(decimal(12345, 2), "123.45");
        assert_eq!(decimal(7, 0), "7");
        assert_eq!(decimal(i128::MIN, 0), i128::MIN.to_string());
    }

    #[test]
    fn a_sum_that_does_not_fit_is_left_out() {
        let of = |sum| Statistics::new(Values::Integer { range: Range::default(), sum });
        let mut all = of(Some(i64::MAX));
        all.merge(&of(Some(1)));
        assert_eq!(all, of(None));
        all.merge(&of(Some(-5)));
        assert_eq!(all, of(None));
    }
}
