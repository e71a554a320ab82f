//! The run-length encodings of ORC's streams (ORCv1, "Run Length Encoding"): of bytes, of bits, and version 2 of
//! integers with its sub-encodings short repeat, direct and delta. Patched base is not written; readers do not need it.
//!
//! A writer's place is the bytes that are out and what waits behind them ([`Mark`]): a reader that begins at the byte
//! and passes over so many values is at the same place.

/// A place in a stream that a row index names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Mark {
    /// Bytes of the stream before it is compressed.
    pub(super) byte: usize,
    /// Values to pass over from there; a stream without runs has none.
    pub(super) values: Option<usize>,
    /// Bits to pass over in the byte after these values.
    pub(super) bits: Option<usize>,
}

/// Runs of the same byte, and bytes one by one.
#[derive(Debug, Default)]
pub(super) struct ByteRuns {
    out: Vec<u8>,
    waiting: Vec<u8>,
}

/// Limits of the control byte: a run has 3 to 130 bytes, a list 1 to 128.
const BYTE_RUN_MIN: usize = 3;
const BYTE_RUN_MAX: usize = 130;
const BYTE_LIST_MAX: usize = 128;

impl ByteRuns {
    pub(super) fn push(&mut self, byte: u8) {
        self.waiting.push(byte);
        if self.waiting.len() == BYTE_RUN_MAX {
            self.flush();
        }
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { byte: self.out.len(), values: Some(self.waiting.len()), bits: None }
    }

    pub(super) fn len(&self) -> usize {
        self.out.len() + self.waiting.len()
    }

    pub(super) fn take(&mut self) -> Vec<u8> {
        self.flush();
        std::mem::take(&mut self.out)
    }

    fn flush(&mut self) {
        let mut rest = &self.waiting[..];
        let mut list = 0;
        while list < rest.len() {
            let run = equal(&rest[list..]);
            if run < BYTE_RUN_MIN {
                list += run;
                continue;
            }
            write_list(&mut self.out, &rest[..list]);
            self.out.extend([(run - BYTE_RUN_MIN) as u8, rest[list]]);
            rest = &rest[list + run..];
            list = 0;
        }
        write_list(&mut self.out, rest);
        self.waiting.clear();
    }
}

fn write_list(out: &mut Vec<u8>, bytes: &[u8]) {
    for list in bytes.chunks(BYTE_LIST_MAX) {
        out.push((list.len() as u8).wrapping_neg());
        out.extend_from_slice(list);
    }
}

/// How many values at the start are the same.
fn equal<T: PartialEq>(values: &[T]) -> usize {
    values.iter().take_while(|value| **value == values[0]).count()
}

/// Bits, the highest of a byte first.
#[derive(Debug, Default)]
pub(super) struct Bits {
    bytes: ByteRuns,
    byte: u8,
    bits: usize,
}

impl Bits {
    pub(super) fn push(&mut self, bit: bool) {
        self.byte |= u8::from(bit) << (7 - self.bits);
        self.bits += 1;
        if self.bits == 8 {
            self.bytes.push(std::mem::take(&mut self.byte));
            self.bits = 0;
        }
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { bits: Some(self.bits), ..self.bytes.mark() }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn take(&mut self) -> Vec<u8> {
        if self.bits > 0 {
            self.bytes.push(std::mem::take(&mut self.byte));
            self.bits = 0;
        }
        self.bytes.take()
    }
}

/// Integers, version 2.
#[derive(Debug)]
pub(super) struct Integers {
    out: Vec<u8>,
    waiting: Vec<i64>,
    /// Signed ones are written with the sign in the lowest bit.
    signed: bool,
}

/// The header has 9 bits for the length of a run.
const RUN_MAX: usize = 512;
const SHORT_REPEAT_MIN: usize = 3;
const SHORT_REPEAT_MAX: usize = 10;

impl Integers {
    pub(super) fn signed() -> Self {
        Self { out: Vec::new(), waiting: Vec::new(), signed: true }
    }

    /// For values that are never negative.
    pub(super) fn unsigned() -> Self {
        Self { signed: false, ..Self::signed() }
    }

    pub(super) fn push(&mut self, value: i64) {
        self.waiting.push(value);
        if self.waiting.len() == RUN_MAX {
            self.flush();
        }
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { byte: self.out.len(), values: Some(self.waiting.len()), bits: None }
    }

    pub(super) fn len(&self) -> usize {
        self.out.len() + self.waiting.len() * 8
    }

    pub(super) fn take(&mut self) -> Vec<u8> {
        self.flush();
        std::mem::take(&mut self.out)
    }

    fn flush(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        let mut rest = &waiting[..];
        let mut list = 0;
        while list < rest.len() {
            let run = equal(&rest[list..]);
            // Within other values a run has to be long enough to pay for the headers around it.
            if run > SHORT_REPEAT_MAX || (run >= SHORT_REPEAT_MIN && run == rest.len()) {
                self.write_list(&rest[..list]);
                self.write_run(rest[list], run);
                rest = &rest[list + run..];
                list = 0;
            } else {
                list += run;
            }
        }
        self.write_list(rest);
        self.waiting = waiting;
        self.waiting.clear();
    }

    fn write_run(&mut self, value: i64, count: usize) {
        if count <= SHORT_REPEAT_MAX {
            let raw = self.raw(value);
            let bytes = (64 - raw.leading_zeros() as usize).div_ceil(8).max(1);
            self.out.push(((bytes - 1) << 3 | (count - SHORT_REPEAT_MIN)) as u8);
            self.out.extend_from_slice(&raw.to_be_bytes()[8 - bytes..]);
        } else {
            self.write_delta(value, 0, 0, count);
        }
    }

    fn write_list(&mut self, values: &[i64]) {
        if values.is_empty() {
            return;
        }
        let raw: Vec<u64> = values.iter().map(|value| self.raw(*value)).collect();
        let width = width(raw.iter().fold(0, |all, raw| all | raw)).max(1);
        match Deltas::of(values) {
            Some(deltas) if deltas.width < width => {
                self.write_delta(values[0], deltas.first, deltas.width, values.len());
                pack(&mut self.out, deltas.rest.iter().copied(), deltas.width);
            }
            _ => {
                self.write_header(1, width_code(width), values.len());
                pack(&mut self.out, raw.into_iter(), width);
            }
        }
    }

    fn write_delta(&mut self, base: i64, first: i64, width: usize, count: usize) {
        // Only here the code 0 is the width 0.
        self.write_header(3, if width == 0 { 0 } else { width_code(width) }, count);
        let base = self.raw(base);
        put_varint(&mut self.out, base.into());
        put_varint(&mut self.out, zigzag(first).into());
    }

    fn write_header(&mut self, encoding: u16, width_code: u16, count: usize) {
        let header = encoding << 14 | width_code << 9 | (count - 1) as u16;
        self.out.extend_from_slice(&header.to_be_bytes());
    }

    fn raw(&self, value: i64) -> u64 {
        if self.signed { zigzag(value) } else { value as u64 }
    }
}

/// A list whose values only rise or only fall.
struct Deltas {
    first: i64,
    /// Those after the first, without their sign.
    rest: Vec<u64>,
    /// Bits of the largest of `rest`; 0 if all are as the first.
    width: usize,
}

impl Deltas {
    fn of(values: &[i64]) -> Option<Self> {
        let mut deltas = values.windows(2).map(|pair| pair[1].checked_sub(pair[0]));
        let first = deltas.next()??;
        if first == 0 {
            return None;
        }
        let mut rest = Vec::with_capacity(values.len() - 2);
        for delta in deltas {
            let delta = delta?;
            if delta != 0 && (delta < 0) != (first < 0) {
                return None;
            }
            rest.push(delta.unsigned_abs());
        }
        if rest.iter().all(|delta| *delta == first.unsigned_abs()) {
            return Some(Self { first, rest: Vec::new(), width: 0 });
        }
        // The width 1 has no code among deltas.
        let width = width(rest.iter().fold(0, |all, delta| all | delta)).max(2);
        Some(Self { first, rest, width })
    }
}

/// The smallest width that has a code and holds the value.
fn width(value: u64) -> usize {
    match 64 - value.leading_zeros() as usize {
        bits @ 0..=24 => bits,
        25..=26 => 26,
        27..=28 => 28,
        29..=30 => 30,
        31..=32 => 32,
        bits => bits.next_multiple_of(8),
    }
}

fn width_code(width: usize) -> u16 {
    let code = match width {
        0..=24 => width.saturating_sub(1),
        26 => 24,
        28 => 25,
        30 => 26,
        _ => 27 + (width - 32) / 8,
    };
    code as u16
}

/// Values of `width` bits one after the other, the highest bit first, up to a whole byte.
fn pack(out: &mut Vec<u8>, values: impl Iterator<Item = u64>, width: usize) {
    let (mut held, mut bits) = (0u128, 0);
    for value in values {
        held = held << width | u128::from(value);
        bits += width;
        while bits >= 8 {
            bits -= 8;
            out.push((held >> bits) as u8);
        }
    }
    if bits > 0 {
        out.push((held << (8 - bits)) as u8);
    }
}

pub(super) fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u128) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bits of a stream, the highest first.
    struct Reader<'a> {
        bytes: &'a [u8],
        bit: usize,
    }

    impl Reader<'_> {
        fn bits(&mut self, count: usize) -> u64 {
            (0..count).fold(0, |all, _| {
                let bit = self.bytes[self.bit / 8] >> (7 - self.bit % 8) & 1;
                self.bit += 1;
                all << 1 | u64::from(bit)
            })
        }

        fn varint(&mut self) -> u64 {
            let (mut value, mut shift) = (0, 0);
            loop {
                let byte = self.bits(8);
                value |= (byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    return value;
                }
            }
        }
    }

    /// Reads integers as the specification says, table by table.
    fn read_integers(bytes: &[u8], signed: bool) -> Vec<i64> {
        let unzigzag = |raw: u64| (raw >> 1) as i64 ^ -((raw & 1) as i64);
        let plain = |raw: u64| if signed { unzigzag(raw) } else { raw as i64 };
        let width = |code: u64| match code {
            0..=23 => code as usize + 1,
            24..=27 => [26, 28, 30, 32][code as usize - 24],
            _ => [40, 48, 56, 64][code as usize - 28],
        };
        let mut reader = Reader { bytes, bit: 0 };
        let mut values = Vec::new();
        while reader.bit < bytes.len() * 8 {
            let encoding = reader.bits(2);
            if encoding == 0 {
                let (bytes, count) = (reader.bits(3) + 1, reader.bits(3) + 3);
                let value = plain(reader.bits(bytes as usize * 8));
                values.extend((0..count).map(|_| value));
                continue;
            }
            let (code, count) = (reader.bits(5), reader.bits(9) as usize + 1);
            if encoding == 1 {
                values.extend((0..count).map(|_| plain(reader.bits(width(code)))));
            } else {
                assert_eq!(encoding, 3);
                let (mut value, first) = (plain(reader.varint()), unzigzag(reader.varint()));
                values.push(value);
                for at in 1..count {
                    let delta = if at == 1 || code == 0 { first.unsigned_abs() } else { reader.bits(width(code)) };
                    value =
                        if first < 0 { value.wrapping_sub_unsigned(delta) } else { value.wrapping_add_unsigned(delta) };
                    values.push(value);
                }
            }
            reader.bit = reader.bit.next_multiple_of(8);
        }
        values
    }

    fn read_bytes(mut bytes: &[u8]) -> Vec<u8> {
        let mut values = Vec::new();
        while let Some((control, rest)) = bytes.split_first() {
            let list = (*control as i8).unsigned_abs() as usize;
            if *control < 128 {
                values.extend(vec![rest[0]; list + 3]);
                bytes = &rest[1..];
            } else {
                values.extend_from_slice(&rest[..list]);
                bytes = &rest[list..];
            }
        }
        values
    }

    /// Values as columns have them: noise, runs, and rising and falling lists.
    fn lists() -> impl Strategy<Value = Vec<i64>> {
        let edges = prop::sample::select(vec![i64::MIN, i64::MAX, -1, 0, 1, 1 << 31, -(1 << 24)]);
        let piece = prop_oneof![
            (any::<i64>(), 1..40usize).prop_map(|(value, count)| vec![value; count]),
            (-1000..1000i64, -50..50i64, 1..700usize)
                .prop_map(|(first, step, count)| (0..count as i64).map(|at| first + at * step).collect()),
            (0..100i64, 1..200usize).prop_map(|(first, count)| (0..count as i64).map(|at| first + at * at).collect()),
            prop::collection::vec(prop_oneof![any::<i64>(), -300..300i64, edges], 1..600),
        ];
        prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn integers_read_back(values in lists()) {
            prop_assert_eq!(read_integers(&integers(true, &values), true), values.clone());
            let lengths: Vec<i64> = values.iter().map(|value| value & i64::MAX).collect();
            prop_assert_eq!(read_integers(&integers(false, &lengths), false), lengths);
        }

        #[test]
        fn bytes_read_back(pieces in prop::collection::vec((any::<u8>(), 1..300usize), 0..60)) {
            let values: Vec<u8> = pieces.iter().flat_map(|(byte, count)| vec![*byte; count % 7 * count / 6 + 1]).collect();
            prop_assert_eq!(read_bytes(&bytes(&values)), values);
        }

        #[test]
        fn a_mark_is_where_a_value_begins(values in lists(), at in any::<prop::sample::Index>()) {
            prop_assume!(!values.is_empty());
            let (at, mut runs) = (at.index(values.len()), Integers::signed());
            let mut mark = Mark::default();
            for (place, value) in values.iter().enumerate() {
                if place == at {
                    mark = runs.mark();
                }
                runs.push(*value);
            }
            let out = runs.take();
            let rest = read_integers(&out[mark.byte..], true);
            prop_assert_eq!(rest[mark.values.unwrap_or_default()], values[at]);
        }
    }

    fn integers(signed: bool, values: &[i64]) -> Vec<u8> {
        let mut runs = Integers { signed, ..Integers::signed() };
        values.iter().for_each(|value| runs.push(*value));
        runs.take()
    }

    fn bytes(values: &[u8]) -> Vec<u8> {
        let mut runs = ByteRuns::default();
        values.iter().for_each(|value| runs.push(*value));
        runs.take()
    }

    /// The examples of the specification.
    #[test]
    fn runs_are_those_of_the_specification() {
        assert_eq!(bytes(&[0; 100]), [0x61, 0x00]);
        assert_eq!(bytes(&[0x44, 0x45]), [0xfe, 0x44, 0x45]);
        assert_eq!(integers(false, &[10000; 5]), [0x0a, 0x27, 0x10]);
        assert_eq!(
            integers(false, &[23713, 43806, 57005, 48879]),
            [0x5e, 0x03, 0x5c, 0xa1, 0xab, 0x1e, 0xde, 0xad, 0xbe, 0xef]
        );
        assert_eq!(
            integers(false, &[2, 3, 5, 7, 11, 13, 17, 19, 23, 29]),
            // Largest delta 6: 3 bits do, and the specification's bytes have 4.
            [0xc4, 0x09, 0x02, 0x02, 0x4a, 0x28, 0xa6]
        );
    }

    #[test]
    fn bits_have_the_highest_first_and_their_place() {
        let mut bits = Bits::default();
        for bit in [true, false, false, false, false, false, false, false, true] {
            bits.push(bit);
        }
        assert_eq!(bits.mark(), Mark { byte: 0, values: Some(1), bits: Some(1) });
        assert_eq!(bits.take(), [0xfe, 0x80, 0x80]);
    }
}
