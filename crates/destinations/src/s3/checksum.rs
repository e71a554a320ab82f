//! Checksums over objects and their parts, in the form of S3's headers.
//!
//! CRC-64/NVME over the full object: the sums of parts combine, so every byte is summed once. Servers that refuse it get
//! CRC-32 of each part.

use aws_sdk_s3::types::ChecksumAlgorithm;
use crc_fast::{CrcAlgorithm, Digest};
use standpipe_flow::Checksum;

/// Which sum the server takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sum {
    Crc64Nvme,
    Crc32,
}

impl Sum {
    fn algorithm(self) -> CrcAlgorithm {
        match self {
            Self::Crc64Nvme => CrcAlgorithm::Crc64Nvme,
            Self::Crc32 => CrcAlgorithm::Crc32IsoHdlc,
        }
    }

    /// Its name in requests.
    pub(super) fn name(self) -> ChecksumAlgorithm {
        match self {
            Self::Crc64Nvme => ChecksumAlgorithm::Crc64Nvme,
            Self::Crc32 => ChecksumAlgorithm::Crc32,
        }
    }

    /// A sum over nothing yet.
    pub(super) fn start(self) -> Digest {
        Digest::new(self.algorithm())
    }

    /// The sum of one part.
    pub(super) fn of(self, bytes: &[u8]) -> Digest {
        let mut digest = self.start();
        digest.update(bytes);
        digest
    }

    /// The sum as the header carries it: its bytes, the highest first, in base64.
    pub(super) fn header(self, digest: &Digest) -> String {
        let value = digest.finalize();
        match self {
            Self::Crc64Nvme => base64_simd::STANDARD.encode_to_string(value.to_be_bytes()),
            Self::Crc32 => base64_simd::STANDARD.encode_to_string((value as u32).to_be_bytes()),
        }
    }

    /// The sum as a receipt carries it.
    pub(super) fn checksum(self, digest: &Digest) -> Checksum {
        match self {
            Self::Crc64Nvme => Checksum::Crc64Nvme(self.header(digest)),
            Self::Crc32 => Checksum::Crc32(self.header(digest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check values of the CRC catalogue over "123456789": CRC-64/NVME ae8b14860a799888, CRC-32/ISO-HDLC cbf43926.
    #[test]
    fn the_sums_are_those_of_the_catalogue() {
        let text = b"123456789";
        assert_eq!(Sum::Crc64Nvme.of(text).finalize(), 0xae8b_1486_0a79_9888);
        assert_eq!(Sum::Crc64Nvme.header(&Sum::Crc64Nvme.of(text)), "rosUhgp5mIg=");
        assert_eq!(Sum::Crc32.header(&Sum::Crc32.of(text)), "y/Q5Jg==");
    }

    #[test]
    fn parts_combine_to_the_whole() {
        for sum in [Sum::Crc64Nvme, Sum::Crc32] {
            let mut whole = sum.start();
            for part in [&b"1234"[..], b"", b"56", b"789"] {
                whole.combine(&sum.of(part));
            }
            assert_eq!(sum.header(&whole), sum.header(&sum.of(b"123456789")), "{sum:?}");
            assert_eq!(sum.header(&sum.start()), sum.header(&sum.of(b"")), "{sum:?} of nothing");
        }
    }
}
