//! ORC's chunks: a stream is cut into blocks, each compressed by itself behind a header of 3 bytes (ORCv1,
//! "Compression"). Without compression a stream has neither.

use libdeflater::{CompressionLvl, Compressor};

use crate::encode::EncodeError;

use super::OrcCompression;
use super::rle::Mark;

/// Bytes of a chunk before it is compressed, every one but the last: ORC's default.
pub(super) const CHUNK_BYTES: usize = 256 << 10;

/// zlib's level; Java's writer has the same default.
const ZLIB_LEVEL: i32 = 6;
const ZSTD_LEVEL: i32 = 1;

/// Compresses the streams of a file, one after the other.
pub(super) enum Packer {
    None,
    Zlib(Compressor),
    Snappy(Box<snap::raw::Encoder>),
    Zstd(Box<zstd::bulk::Compressor<'static>>),
}

/// A stream as it stands in the file.
pub(super) struct Packed {
    pub(super) bytes: Vec<u8>,
    /// Where each chunk begins in `bytes`; none without compression.
    chunks: Option<Vec<usize>>,
}

impl Packed {
    /// The numbers by which a row index names a place.
    pub(super) fn position(&self, mark: Mark) -> impl Iterator<Item = u64> {
        let (first, second) = match &self.chunks {
            // A place behind the last whole chunk is where the next would begin.
            Some(chunks) => {
                let chunk = chunks.get(mark.byte / CHUNK_BYTES).copied().unwrap_or(self.bytes.len());
                (chunk, Some(mark.byte % CHUNK_BYTES))
            }
            None => (mark.byte, None),
        };
        [Some(first), second, mark.values, mark.bits].into_iter().flatten().map(|number| number as u64)
    }
}

impl Packer {
    pub(super) fn new(compression: OrcCompression) -> Result<Self, EncodeError> {
        Ok(match compression {
            OrcCompression::None => Self::None,
            OrcCompression::Zlib => Self::Zlib(Compressor::new(CompressionLvl::new(ZLIB_LEVEL).unwrap_or_default())),
            OrcCompression::Snappy => Self::Snappy(Box::new(snap::raw::Encoder::new())),
            OrcCompression::Zstd => {
                Self::Zstd(Box::new(zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(EncodeError::of)?))
            }
        })
    }

    pub(super) fn pack(&mut self, stream: Vec<u8>) -> Result<Packed, EncodeError> {
        if matches!(self, Self::None) {
            return Ok(Packed { bytes: stream, chunks: None });
        }
        let mut bytes = Vec::new();
        let mut chunks = Vec::new();
        for chunk in stream.chunks(CHUNK_BYTES) {
            chunks.push(bytes.len());
            let packed = self.compress(chunk)?;
            // What does not shrink stands as it is.
            let original = packed.len() >= chunk.len();
            let chunk = if original { chunk } else { &packed };
            let header = (chunk.len() << 1 | usize::from(original)) as u32;
            bytes.extend_from_slice(&header.to_le_bytes()[..3]);
            bytes.extend_from_slice(chunk);
        }
        Ok(Packed { bytes, chunks: Some(chunks) })
    }

    fn compress(&mut self, chunk: &[u8]) -> Result<Vec<u8>, EncodeError> {
        match self {
            Self::None => Ok(chunk.to_vec()),
            Self::Zlib(compressor) => {
                let mut packed = vec![0; compressor.deflate_compress_bound(chunk.len())];
                let written = compressor.deflate_compress(chunk, &mut packed).map_err(EncodeError::of)?;
                packed.truncate(written);
                Ok(packed)
            }
            Self::Snappy(encoder) => encoder.compress_vec(chunk).map_err(EncodeError::of),
            Self::Zstd(compressor) => compressor.compress(chunk).map_err(EncodeError::of),
        }
    }
}
