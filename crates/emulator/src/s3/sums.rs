//! Checksums and ETags of objects and parts.
//!
//! S3 keeps one checksum with an object: the one the client gave, else CRC64NVME that it computes itself.

use md5::{Digest, Md5};
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Sha1, Sha256};
use s3s::dto::Checksum;
use s3s::{S3Result, s3_error};
use serde::{Deserialize, Serialize};

/// One checksum: its algorithm and its value in base64, with `-N` where it is of N parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sum {
    pub(super) algorithm: Algorithm,
    pub(super) value: String,
}

/// The algorithms of S3 (API reference, ChecksumAlgorithm).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Algorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
}

impl Algorithm {
    pub(super) fn parse(name: &str) -> S3Result<Self> {
        Ok(match name.to_ascii_uppercase().as_str() {
            "CRC32" => Self::Crc32,
            "CRC32C" => Self::Crc32c,
            "CRC64NVME" => Self::Crc64Nvme,
            "SHA1" => Self::Sha1,
            "SHA256" => Self::Sha256,
            other => return Err(s3_error!(InvalidRequest, "Checksum algorithm {other} is not supported")),
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// The checksum of these pieces, one after another.
    pub(super) fn of<'a>(self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Sum {
        let mut running = Running::new(self);
        pieces.into_iter().for_each(|piece| running.update(piece));
        running.finish()
    }

    /// The checksum of checksums that a composite upload has.
    pub(super) fn of_parts<'a>(self, parts: impl ExactSizeIterator<Item = &'a str>) -> Sum {
        let count = parts.len();
        let raw: Vec<Vec<u8>> =
            parts.map(|value| base64_simd::STANDARD.decode_to_vec(value).unwrap_or_default()).collect();
        let mut sum = self.of(raw.iter().map(Vec::as_slice));
        sum.value.push_str(&format!("-{count}"));
        sum
    }
}

/// A checksum that is being computed.
pub(super) struct Running {
    algorithm: Algorithm,
    hasher: ChecksumHasher,
}

impl Running {
    pub(super) fn new(algorithm: Algorithm) -> Self {
        let mut hasher = ChecksumHasher::default();
        match algorithm {
            Algorithm::Crc32 => hasher.crc32 = Some(Crc32::new()),
            Algorithm::Crc32c => hasher.crc32c = Some(Crc32c::new()),
            Algorithm::Crc64Nvme => hasher.crc64nvme = Some(Crc64Nvme::new()),
            Algorithm::Sha1 => hasher.sha1 = Some(Sha1::new()),
            Algorithm::Sha256 => hasher.sha256 = Some(Sha256::new()),
        }
        Self { algorithm, hasher }
    }

    pub(super) fn update(&mut self, data: &[u8]) {
        self.hasher.update(data);
    }

    pub(super) fn finish(self) -> Sum {
        let value = Given::from(self.hasher.finalize()).of(self.algorithm).unwrap_or_default();
        Sum { algorithm: self.algorithm, value }
    }
}

/// The checksums that a request carries, at most one in practice.
#[derive(Debug, Clone, Default)]
pub(super) struct Given {
    pub(super) crc32: Option<String>,
    pub(super) crc32c: Option<String>,
    pub(super) crc64nvme: Option<String>,
    pub(super) sha1: Option<String>,
    pub(super) sha256: Option<String>,
}

impl From<Checksum> for Given {
    fn from(sums: Checksum) -> Self {
        Self {
            crc32: sums.checksum_crc32,
            crc32c: sums.checksum_crc32c,
            crc64nvme: sums.checksum_crc64nvme,
            sha1: sums.checksum_sha1,
            sha256: sums.checksum_sha256,
        }
    }
}

/// Collects the checksum fields of one of s3s's inputs.
macro_rules! given {
    ($input:expr) => {
        $crate::s3::sums::Given {
            crc32: $input.checksum_crc32.clone(),
            crc32c: $input.checksum_crc32c.clone(),
            crc64nvme: $input.checksum_crc64nvme.clone(),
            sha1: $input.checksum_sha1.clone(),
            sha256: $input.checksum_sha256.clone(),
        }
    };
}

/// Sets the checksum fields of one of s3s's outputs.
macro_rules! set_sum {
    ($output:expr, $sum:expr) => {
        if let Some(sum) = $sum {
            let value = Some(sum.value.clone());
            match sum.algorithm {
                $crate::s3::sums::Algorithm::Crc32 => $output.checksum_crc32 = value,
                $crate::s3::sums::Algorithm::Crc32c => $output.checksum_crc32c = value,
                $crate::s3::sums::Algorithm::Crc64Nvme => $output.checksum_crc64nvme = value,
                $crate::s3::sums::Algorithm::Sha1 => $output.checksum_sha1 = value,
                $crate::s3::sums::Algorithm::Sha256 => $output.checksum_sha256 = value,
            }
        }
    };
}

pub(super) use {given, set_sum};

impl Given {
    fn of(&self, algorithm: Algorithm) -> Option<String> {
        match algorithm {
            Algorithm::Crc32 => &self.crc32,
            Algorithm::Crc32c => &self.crc32c,
            Algorithm::Crc64Nvme => &self.crc64nvme,
            Algorithm::Sha1 => &self.sha1,
            Algorithm::Sha256 => &self.sha256,
        }
        .clone()
    }

    /// The checksum that was given.
    pub(super) fn one(&self) -> Option<Sum> {
        use Algorithm::{Crc32, Crc32c, Crc64Nvme, Sha1, Sha256};
        let all = [Crc32, Crc32c, Crc64Nvme, Sha1, Sha256];
        all.into_iter().find_map(|algorithm| Some(Sum { algorithm, value: self.of(algorithm)? }))
    }

    /// Compares what was given with the data.
    pub(super) fn verify(&self, data: &[u8]) -> S3Result<Option<Sum>> {
        let Some(given) = self.one() else { return Ok(None) };
        if given.algorithm.of([data]) == given {
            Ok(Some(given))
        } else {
            let name = given.algorithm.name();
            Err(s3_error!(BadDigest, "The {name} you specified did not match the calculated checksum."))
        }
    }
}

/// The MD5 of the data in hexadecimal: the ETag of an object put in one piece.
pub(super) fn md5_hex(data: &[u8]) -> String {
    hex(&Md5::digest(data))
}

/// The ETag of a multipart object: the MD5 of the parts' MD5s and their number.
pub(super) fn multipart_etag<'a>(part_etags: impl ExactSizeIterator<Item = &'a str>) -> String {
    let count = part_etags.len();
    let mut md5 = Md5::new();
    part_etags.for_each(|etag| md5.update(unhex(etag)));
    format!("{}-{count}", hex(&md5.finalize()))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    pairs.filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_checksums() {
        // The check values of the catalogues for "123456789", and the MD5 of the empty string (RFC 1321).
        assert_eq!(Algorithm::Crc32.of([b"123456789".as_slice()]).value, "y/Q5Jg==");
        assert_eq!(Algorithm::Crc64Nvme.of([b"12345".as_slice(), b"6789"]).value, "rosUhgp5mIg=");
        assert_eq!(md5_hex(b""), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(multipart_etag([md5_hex(b"").as_str()].into_iter()), "59adb24ef3cdbe0297f05b395827453f-1");
    }

    #[test]
    fn a_wrong_checksum_is_refused() {
        let given = Given { crc32: Some("AAAAAA==".into()), ..Given::default() };
        assert!(given.verify(b"x").is_err());
        assert!(Given::default().verify(b"x").expect("nothing to compare").is_none());
    }
}
