//! Bytes of an object -> compressed bytes, as they come.
//!
//! gzip is written in members of 8 MiB of input (RFC 1952 allows any number; `gzip`, zlib's `inflate` loop, Python,
//! Java, Spark, Athena and Redshift read them as one stream), because a whole-buffer compressor costs less CPU and
//! keeps gzip's ratio where the streaming ones do not. zstd is one frame with a checksum. Neither carries a time
//! or a name: the same records give the same bytes.

use std::io::Write;

use bytes::Bytes;
use libdeflater::{CompressionLvl, Compressor};

use crate::encode::EncodeError;
use crate::parts::Parts;

/// Input bytes of a gzip member: 1 and 8 MiB cost the same within noise, 8 gives 0.5 to 5% fewer bytes.
const GZIP_MEMBER_BYTES: usize = 8 << 20;

/// gzip's own default level.
const GZIP_LEVEL: i32 = 6;

/// Beats gzip at every level in size and needs a quarter of its CPU, on logs and on event records.
const ZSTD_LEVEL: i32 = 1;

/// Bytes handed to zstd at once: its own block size, so that short records do not cost a call each.
const ZSTD_INPUT_BYTES: usize = 128 << 10;

/// How the bytes of an object of lines are compressed. Parquet compresses its own pages instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// gzip, level 6.
    Gzip,
    /// Zstandard, level 1.
    Zstd,
}

impl Compression {
    /// Firehose's extension of the object's name; empty for none.
    pub fn extension(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
        }
    }

    /// The `Content-Encoding` (RFC 9110, IANA registry) that the object carries.
    pub fn content_encoding(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
        }
    }
}

/// Takes the bytes of one object and gives its parts.
pub(crate) struct ObjectBody {
    /// Bytes that wait to be compressed together.
    input: Vec<u8>,
    codec: Codec,
}

enum Codec {
    None(Parts),
    Gzip { compressor: Compressor, output: Vec<u8>, parts: Parts, members: u64 },
    Zstd(zstd::Encoder<'static, Parts>),
}

impl ObjectBody {
    pub(crate) fn new(compression: Compression) -> Result<Self, EncodeError> {
        let codec = match compression {
            Compression::None => Codec::None(Parts::default()),
            Compression::Gzip => {
                let level = CompressionLvl::new(GZIP_LEVEL).unwrap_or_default();
                let compressor = Compressor::new(level);
                Codec::Gzip { compressor, output: Vec::new(), parts: Parts::default(), members: 0 }
            }
            Compression::Zstd => {
                let mut encoder = zstd::Encoder::new(Parts::default(), ZSTD_LEVEL).map_err(EncodeError::of)?;
                encoder.include_checksum(true).map_err(EncodeError::of)?;
                Codec::Zstd(encoder)
            }
        };
        Ok(Self { input: Vec::new(), codec })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let block = match &mut self.codec {
            Codec::None(parts) => {
                parts.extend(bytes);
                return Ok(());
            }
            Codec::Gzip { .. } => GZIP_MEMBER_BYTES,
            Codec::Zstd(_) => ZSTD_INPUT_BYTES,
        };
        self.input.extend_from_slice(bytes);
        if self.input.len() >= block { self.compress() } else { Ok(()) }
    }

    /// The next whole part.
    pub(crate) fn take(&mut self) -> Option<Bytes> {
        match &mut self.codec {
            Codec::None(parts) | Codec::Gzip { parts, .. } => parts.take(),
            Codec::Zstd(encoder) => encoder.get_mut().take(),
        }
    }

    /// Ends the stream; what was not taken yet.
    pub(crate) fn finish(mut self) -> Result<Vec<Bytes>, EncodeError> {
        // A gzip file has at least one member, even when it holds nothing.
        let no_member = matches!(self.codec, Codec::Gzip { members: 0, .. });
        if !self.input.is_empty() || no_member {
            self.compress()?;
        }
        match self.codec {
            Codec::None(parts) | Codec::Gzip { parts, .. } => Ok(parts.finish()),
            Codec::Zstd(encoder) => Ok(encoder.finish().map_err(EncodeError::of)?.finish()),
        }
    }

    fn compress(&mut self) -> Result<(), EncodeError> {
        match &mut self.codec {
            Codec::None(parts) => parts.extend(&self.input),
            Codec::Gzip { compressor, output, parts, members } => {
                output.resize(compressor.gzip_compress_bound(self.input.len()), 0);
                let written = compressor.gzip_compress(&self.input, output).map_err(EncodeError::of)?;
                parts.extend(&output[..written]);
                *members += 1;
            }
            Codec::Zstd(encoder) => encoder.write_all(&self.input).map_err(EncodeError::of)?,
        }
        self.input.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    fn compress(compression: Compression, pieces: &[Vec<u8>]) -> Vec<u8> {
        let mut sink = ObjectBody::new(compression).expect("a sink");
        let mut out = Vec::new();
        for piece in pieces {
            sink.write(piece).expect("write");
            while let Some(part) = sink.take() {
                out.extend_from_slice(&part);
            }
        }
        for part in sink.finish().expect("finish") {
            out.extend_from_slice(&part);
        }
        out
    }

    /// Decoders that share no code with the encoders' framing.
    fn decompress(compression: Compression, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match compression {
            Compression::None => out.extend_from_slice(bytes),
            Compression::Gzip => {
                flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut out).expect("gzip");
            }
            Compression::Zstd => {
                zstd::Decoder::new(bytes).expect("zstd").single_frame().read_to_end(&mut out).expect("zstd");
            }
        }
        out
    }

    const ALL: [Compression; 3] = [Compression::None, Compression::Gzip, Compression::Zstd];

    #[test]
    fn nothing_is_still_a_valid_stream() {
        for compression in ALL {
            let bytes = compress(compression, &[]);
            assert_eq!(bytes.is_empty(), compression == Compression::None);
            assert_eq!(decompress(compression, &bytes), Vec::<u8>::new());
        }
    }

    #[test]
    fn a_stream_of_many_members_and_parts_reads_back_as_one() {
        // Bytes that hardly compress, so that several parts come out.
        let mut state = 1u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        };
        let pieces: Vec<Vec<u8>> = (0..21).map(|_| (0..1 << 20).map(|_| noise()).collect()).collect();
        for compression in ALL {
            let bytes = compress(compression, &pieces);
            assert!(decompress(compression, &bytes) == pieces.concat(), "{compression:?}");
            assert_eq!(bytes, compress(compression, &pieces), "{compression:?} is not deterministic");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_read_back(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20)) {
            for compression in ALL {
                let bytes = compress(compression, &pieces);
                prop_assert_eq!(decompress(compression, &bytes), pieces.concat());
            }
        }
    }
}
