//! Protobuf's wire format, as far as the KPL's aggregates need it: the fields of a message in the order of its bytes.
//!
//! Every length is checked against the bytes that are there; unknown fields are skipped, groups among them.
//! Never: an allocation for a length that was only claimed, recursion.

use std::ops::Range;

/// Groups within each other, which only unknown fields may be (the limit of the usual decoders).
const GROUPS_DEEP_MAX: usize = 100;

/// Bytes that are no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Malformed;

/// The value of a field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Value {
    /// A number.
    Varint(u64),
    /// Where its bytes stand.
    Bytes(Range<usize>),
    /// Eight bytes, four bytes, or a group: nothing that an aggregate has.
    Other,
}

/// The fields of a message that stands at some place.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Fields<'a> {
    /// The message that stands at `place`, which lies within the bytes.
    pub(crate) fn new(bytes: &'a [u8], place: Range<usize>) -> Self {
        let end = place.end.min(bytes.len());
        Self { bytes, at: place.start.min(end), end }
    }

    /// The next field and its number; `None` at the end of the message.
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Value)>, Malformed> {
        if self.at == self.end {
            return Ok(None);
        }
        let (number, form) = self.key()?;
        let value = match form {
            3 => self.skip_group(number)?,
            form => self.value(form)?,
        };
        Ok(Some((number, value)))
    }

    /// A field's number and the form of its value.
    fn key(&mut self) -> Result<(u32, u8), Malformed> {
        let key = u32::try_from(self.varint()?).map_err(|_| Malformed)?;
        let number = key >> 3;
        if number == 0 { Err(Malformed) } else { Ok((number, (key & 7) as u8)) }
    }

    fn value(&mut self, form: u8) -> Result<Value, Malformed> {
        match form {
            0 => Ok(Value::Varint(self.varint()?)),
            1 => self.skip(8).map(|_| Value::Other),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                self.skip(length).map(Value::Bytes)
            }
            5 => self.skip(4).map(|_| Value::Other),
            _ => Err(Malformed),
        }
    }

    fn skip_group(&mut self, number: u32) -> Result<Value, Malformed> {
        let mut open = vec![number];
        while let Some(innermost) = open.last() {
            match self.key()? {
                (number, 3) if open.len() < GROUPS_DEEP_MAX => open.push(number),
                (number, 4) if number == *innermost => {
                    open.pop();
                }
                (_, 3 | 4) => return Err(Malformed),
                (_, form) => {
                    self.value(form)?;
                }
            }
        }
        Ok(Value::Other)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for place in 0..10 {
            let place_bits = place * 7;
            let byte = *self.bytes[..self.end].get(self.at).ok_or(Malformed)?;
            self.at += 1;
            // Of the tenth byte only one bit is left in 64.
            if place == 9 && byte > 1 {
                return Err(Malformed);
            }
            number |= u64::from(byte & 0x7f) << place_bits;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed)
    }

    fn skip(&mut self, length: usize) -> Result<Range<usize>, Malformed> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.end).ok_or(Malformed)?;
        Ok(std::mem::replace(&mut self.at, end)..end)
    }
}

/// Appends a number.
pub(crate) fn put_varint(into: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

/// Bytes that a number takes.
pub(crate) fn varint_bytes(number: u64) -> usize {
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(bytes: &[u8]) -> Result<Vec<(u32, Value)>, Malformed> {
        let mut fields = Fields::new(bytes, 0..bytes.len());
        let mut all = Vec::new();
        while let Some(field) = fields.next()? {
            all.push(field);
        }
        Ok(all)
    }

    #[test]
    fn numbers_take_the_bytes_that_are_counted_for_them() {
        for number in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX / 2, u64::MAX] {
            let mut bytes = vec![0x08];
            put_varint(&mut bytes, number);
            assert_eq!(bytes.len() - 1, varint_bytes(number), "{number}");
            assert_eq!(fields(&bytes), Ok(vec![(1, Value::Varint(number))]));
            bytes.pop();
            assert_eq!(fields(&bytes), Err(Malformed), "{number} cut short");
        }
    }

    #[test]
    fn what_is_claimed_and_not_there_is_malformed() {
        for bad in [
            &[0x0a, 0x02, 0x00][..],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
            &[0x00, 0x00],
            &[0x0e],
            &[0x0c],
            &[0x09, 0, 0, 0, 0, 0, 0, 0],
            &[0x0d, 0, 0, 0],
            &[0x0b, 0x14],
            &[0x0b],
        ] {
            assert_eq!(fields(bad), Err(Malformed), "{bad:02x?}");
        }
    }

    #[test]
    fn groups_are_skipped_to_a_depth() {
        let nested = |depth: usize| [vec![0x0b; depth], vec![0x0c; depth]].concat();
        assert_eq!(fields(&nested(GROUPS_DEEP_MAX)), Ok(vec![(1, Value::Other)]));
        assert_eq!(fields(&nested(GROUPS_DEEP_MAX + 1)), Err(Malformed));
        assert_eq!(fields(&nested(1_000_000)), Err(Malformed));
        assert_eq!(
            fields(&[0x0b, 0x08, 0x07, 0x12, 0x01, 0xff, 0x0c, 0x10, 0x05]),
            Ok(vec![(1, Value::Other), (2, Value::Varint(5))])
        );
    }
}
