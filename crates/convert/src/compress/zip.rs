//! `.zip`: an archive of one deflated entry (PKWARE's APPNOTE 6.3), written while the bytes come.
//!
//! What is not known when the entry begins (its sizes and its checksum) stands in a data descriptor behind it and in
//! the directory at the end, as in `zip -` and in Java's ZipOutputStream. Beyond 4 GiB the descriptor has lengths of 8
//! bytes and the directory a Zip64 extension, again as Java writes them; what is smaller stays readable for programs
//! that do not know Zip64. The time is the first that the format can say (1 January 1980).

use std::io::Write;

use bytes::Bytes;
use flate2::write::DeflateEncoder;
use libdeflater::Crc;

use crate::encode::EncodeError;
use crate::parts::Parts;

/// zlib's own default level, as Java's.
const LEVEL: u32 = 6;

const LOCAL_HEADER: u32 = 0x0403_4b50;
const DESCRIPTOR: u32 = 0x0807_4b50;
const DIRECTORY_ENTRY: u32 = 0x0201_4b50;
const ZIP64_DIRECTORY_END: u32 = 0x0606_4b50;
const ZIP64_LOCATOR: u32 = 0x0706_4b50;
const DIRECTORY_END: u32 = 0x0605_4b50;

/// APPNOTE 4.4.3: 2.0 for deflate, 4.5 for Zip64.
const VERSION_DEFLATE: u16 = 20;
const VERSION_ZIP64: u16 = 45;
/// APPNOTE 4.4.4: sizes in a data descriptor (bit 3), a name in UTF-8 (bit 11).
const FLAGS: u16 = 1 << 3 | 1 << 11;
const DEFLATED: u16 = 8;
const TIME_AND_DATE: u32 = 0x0021_0000;
/// Stands where a Zip64 extension has the value.
const ELSEWHERE: u32 = u32::MAX;

/// Takes the bytes of the entry and gives the parts of the archive.
pub(super) struct ZipFile {
    name: String,
    deflate: DeflateEncoder<Parts>,
    checksum: Crc,
    begun: bool,
}

impl ZipFile {
    pub(super) fn new() -> Self {
        let deflate = DeflateEncoder::new(Parts::default(), flate2::Compression::new(LEVEL));
        Self { name: "records".to_owned(), deflate, checksum: Crc::new(), begun: false }
    }

    /// The name of the entry, before the first byte. What file systems and programs read in special ways becomes `-`.
    pub(super) fn name(&mut self, name: &str) {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
        // A name's length has 16 bits.
        self.name = name.chars().map(plain).take(1024).collect();
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.begin();
        self.checksum.update(bytes);
        self.deflate.write_all(bytes).map_err(EncodeError::of)
    }

    pub(super) fn take(&mut self) -> Option<Bytes> {
        self.deflate.get_mut().take()
    }

    pub(super) fn finish(mut self) -> Result<Parts, EncodeError> {
        self.begin();
        self.deflate.try_finish().map_err(EncodeError::of)?;
        let entry = Entry {
            name: &self.name,
            checksum: self.checksum.sum(),
            size: self.deflate.total_in(),
            packed: self.deflate.total_out(),
        };
        let tail = entry.tail();
        let mut parts = self.deflate.finish().map_err(EncodeError::of)?;
        parts.extend(&tail);
        Ok(parts)
    }

    fn begin(&mut self) {
        if !self.begun {
            self.begun = true;
            let mut header = Vec::new();
            put32(&mut header, LOCAL_HEADER);
            put_common(&mut header, VERSION_DEFLATE, [0; 3]);
            put16(&mut header, self.name.len() as u16);
            put16(&mut header, 0);
            header.extend_from_slice(self.name.as_bytes());
            self.deflate.get_mut().extend(&header);
        }
    }
}

/// The entry when it is whole.
struct Entry<'a> {
    name: &'a str,
    checksum: u32,
    size: u64,
    packed: u64,
}

impl Entry<'_> {
    /// What follows the deflated bytes: data descriptor, directory, end of the directory.
    fn tail(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let large = self.size >= u64::from(ELSEWHERE) || self.packed >= u64::from(ELSEWHERE);
        put32(&mut out, DESCRIPTOR);
        put32(&mut out, self.checksum);
        for size in [self.packed, self.size] {
            if large {
                put64(&mut out, size);
            } else {
                put32(&mut out, size as u32);
            }
        }
        /// The local header without the name.
        const HEADER_BYTES: u64 = 30;
        let directory_at = HEADER_BYTES + self.name.len() as u64 + self.packed + out.len() as u64;
        let directory = out.len();
        self.put_directory_entry(&mut out, large);
        let directory_bytes = (out.len() - directory) as u64;
        let far = directory_at >= u64::from(ELSEWHERE);
        if far || large {
            put_zip64_end(&mut out, directory_at, directory_bytes);
        }
        put32(&mut out, DIRECTORY_END);
        put32(&mut out, 0); // number of this disk, of the directory's disk
        put16(&mut out, 1);
        put16(&mut out, 1);
        put32(&mut out, directory_bytes as u32);
        put32(&mut out, if far { ELSEWHERE } else { directory_at as u32 });
        put16(&mut out, 0);
        out
    }

    fn put_directory_entry(&self, out: &mut Vec<u8>, large: bool) {
        let version = if large { VERSION_ZIP64 } else { VERSION_DEFLATE };
        let sizes = if large { [ELSEWHERE; 2] } else { [self.packed as u32, self.size as u32] };
        put32(out, DIRECTORY_ENTRY);
        put16(out, version);
        put_common(out, version, [self.checksum, sizes[0], sizes[1]]);
        put16(out, self.name.len() as u16);
        put16(out, if large { 20 } else { 0 });
        out.extend_from_slice(&[0; 14]); // comment, disk, attributes, offset of the local header
        out.extend_from_slice(self.name.as_bytes());
        if large {
            put16(out, 1); // APPNOTE 4.5.3
            put16(out, 16);
            put64(out, self.size);
            put64(out, self.packed);
        }
    }
}

/// What a local header and an entry of the directory have in common; checksum, packed size, size.
fn put_common(out: &mut Vec<u8>, version: u16, numbers: [u32; 3]) {
    put16(out, version);
    put16(out, FLAGS);
    put16(out, DEFLATED);
    put32(out, TIME_AND_DATE);
    numbers.iter().for_each(|number| put32(out, *number));
}

fn put_zip64_end(out: &mut Vec<u8>, directory_at: u64, directory_bytes: u64) {
    put32(out, ZIP64_DIRECTORY_END);
    put64(out, 44); // bytes of what follows of this record
    put16(out, VERSION_ZIP64);
    put16(out, VERSION_ZIP64);
    put64(out, 0); // number of this disk, of the directory's disk
    put64(out, 1);
    put64(out, 1);
    put64(out, directory_bytes);
    put64(out, directory_at);
    put32(out, ZIP64_LOCATOR);
    put32(out, 0);
    put64(out, directory_at + directory_bytes);
    put32(out, 1);
}

fn put16(out: &mut Vec<u8>, number: u16) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put32(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(size: u64, packed: u64) -> Vec<u8> {
        Entry { name: "n", checksum: 7, size, packed }.tail()
    }

    #[test]
    fn what_is_below_4_gib_has_nothing_of_zip64() {
        let tail = tail(0xFFFF_FFFE, 1000);
        assert_eq!(tail.len(), 16 + (46 + 1) + 22);
        assert_eq!(tail[12..16], [0xFE, 0xFF, 0xFF, 0xFF]);
    }

    #[test]
    fn beyond_4_gib_the_sizes_have_8_bytes() {
        for (size, packed) in [(0xFFFF_FFFF, 1000), (1 << 40, 1 << 39)] {
            let tail = tail(size, packed);
            assert_eq!(tail.len(), 24 + (46 + 1 + 20) + 56 + 20 + 22);
            assert_eq!(tail[8..24], [packed.to_le_bytes(), size.to_le_bytes()].concat());
        }
        // A small input cannot deflate to so much, but what counts is where the directory lies.
        let far = tail(0xFFFF_FFFE, 0xFFFF_FFFE);
        assert_eq!(far.len(), 16 + (46 + 1) + 56 + 20 + 22);
    }
}
