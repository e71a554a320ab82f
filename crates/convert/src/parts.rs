//! Encoded bytes -> parts of one size.
//!
//! Every part but the last has exactly [`PART_BYTES`] bytes: some S3-compatible stores refuse a multipart upload whose
//! parts differ in size.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;

/// Bytes of a part: above S3's minimum of 5 MiB, and at S3's maximum of 10,000 parts an object of 80 GiB.
pub const PART_BYTES: usize = 8 << 20;

/// The encoded bytes that have not been taken yet.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    current: Vec<u8>,
    ready: VecDeque<Bytes>,
    given: bool,
}

impl Parts {
    pub(crate) fn extend(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = PART_BYTES - self.current.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.current.extend_from_slice(now);
            bytes = later;
            if self.current.len() == PART_BYTES {
                // The next part is likely to be whole too: one allocation instead of a doubling row of them.
                let full = std::mem::replace(&mut self.current, Vec::with_capacity(PART_BYTES));
                self.ready.push_back(Bytes::from(full));
            }
        }
    }

    /// The next whole part.
    pub(crate) fn take(&mut self) -> Option<Bytes> {
        let part = self.ready.pop_front();
        self.given |= part.is_some();
        part
    }

    /// Everything that was not taken: whole parts, then what is left. At least one part, if none was taken before:
    /// an upload needs one, even an empty one.
    pub(crate) fn finish(mut self) -> Vec<Bytes> {
        let last = Bytes::from(self.current);
        if !last.is_empty() || (self.ready.is_empty() && !self.given) {
            self.ready.push_back(last);
        }
        self.ready.into()
    }
}

impl io::Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_but_the_last_has_the_same_size() {
        let mut parts = Parts::default();
        let data: Vec<u8> = (0..PART_BYTES * 2 + 77).map(|i| (i % 251) as u8).collect();
        for piece in data.chunks(999_983) {
            parts.extend(piece);
        }
        let first = parts.take().expect("a whole part");
        let rest = parts.finish();
        let sizes: Vec<usize> = rest.iter().map(Bytes::len).collect();
        assert_eq!((first.len(), sizes), (PART_BYTES, vec![PART_BYTES, 77]));
        assert_eq!([&first[..], &rest[0], &rest[1]].concat(), data);
    }

    #[test]
    fn an_object_has_a_part_even_when_it_is_empty_and_no_empty_part_otherwise() {
        assert_eq!(Parts::default().finish(), vec![Bytes::new()]);
        let mut parts = Parts::default();
        parts.extend(&vec![1; PART_BYTES]);
        assert!(parts.take().is_some());
        assert!(parts.finish().is_empty());
    }
}
