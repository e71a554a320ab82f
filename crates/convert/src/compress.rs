//! Bytes of an object -> compressed bytes, as they come.
//!
//! gzip is written in members of 8 MiB of input (RFC 1952 allows any number; `gzip`, zlib's `inflate` loop, Python,
//! Java, Spark, Athena and Redshift read them as one stream), because a whole-buffer compressor costs less CPU and
//! keeps gzip's ratio where the streaming ones do not. zstd is one frame with a checksum. ZIP and the two streams
//! of Snappy have files of their own. None carries a time: the same records give the same bytes.

use std::io::Write;

use bytes::Bytes;
use libdeflater::{CompressionLvl, Compressor};
use standpipe_flow::{LeaseKey, Record};

use crate::encode::EncodeError;
use crate::parts::Parts;

mod snappy;
mod zip;

use snappy::{Framing, SnappyStream};
use zip::ZipFile;

/// Input bytes of a gzip member: 1 and 8 MiB cost the same within noise, 8 gives 0.5 to 5% fewer bytes.
const GZIP_MEMBER_BYTES: usize = 8 << 20;

/// gzip's own default level.
const GZIP_LEVEL: i32 = 6;

/// Beats gzip at every level in size and needs a quarter of its CPU, on logs and on event records.
const ZSTD_LEVEL: i32 = 1;

/// Bytes handed to zstd and deflate at once: zstd's own block size, so that short records do not cost a call each.
const STREAM_INPUT_BYTES: usize = 128 << 10;

/// How the bytes of an object of lines are compressed. Parquet and ORC compress their own columns instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// gzip, level 6.
    Gzip,
    /// A ZIP archive of one entry, deflated, level 6. The entry is named by the first record of the object:
    /// lease key, sequence number and sub-sequence number, with `-` between them (Firehose: a random UUID).
    Zip,
    /// The stream of snappy-java, which Firehose calls Snappy.
    Snappy,
    /// The stream of Hadoop's SnappyCodec.
    HadoopSnappy,
    /// Zstandard, level 1.
    Zstd,
}

impl Compression {
    /// Every one.
    pub const ALL: [Self; 6] = [Self::None, Self::Gzip, Self::Zip, Self::Snappy, Self::HadoopSnappy, Self::Zstd];

    /// Firehose's extension of the object's name; empty for none. Its guide says `.hsnappy` for Hadoop's, the service
    /// writes `.snappy`.
    pub fn extension(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Zip => ".zip",
            Self::Snappy | Self::HadoopSnappy => ".snappy",
            Self::Zstd => ".zst",
        }
    }

    /// The `Content-Encoding` that the object carries: Firehose's, and for zstd that of the IANA registry.
    pub fn content_encoding(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip => Some("gzip"),
            Self::Zip => Some("zip"),
            Self::Snappy => Some("snappy-java"),
            Self::HadoopSnappy => Some("hadoop-snappy"),
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
    Zip(Box<ZipFile>),
    Snappy(Framing, Box<SnappyStream>),
    Zstd(zstd::Encoder<'static, Parts>),
}

impl ObjectBody {
    pub(crate) fn new(compression: Compression) -> Result<Self, EncodeError> {
        let snappy = |framing| Codec::Snappy(framing, Box::new(SnappyStream::new(framing)));
        let codec = match compression {
            Compression::None => Codec::None(Parts::default()),
            Compression::Gzip => {
                let level = CompressionLvl::new(GZIP_LEVEL).unwrap_or_default();
                let compressor = Compressor::new(level);
                Codec::Gzip { compressor, output: Vec::new(), parts: Parts::default(), members: 0 }
            }
            Compression::Zip => Codec::Zip(Box::new(ZipFile::new())),
            Compression::Snappy => snappy(Framing::Xerial),
            Compression::HadoopSnappy => snappy(Framing::Hadoop),
            Compression::Zstd => {
                let mut encoder = zstd::Encoder::new(Parts::default(), ZSTD_LEVEL).map_err(EncodeError::of)?;
                encoder.include_checksum(true).map_err(EncodeError::of)?;
                Codec::Zstd(encoder)
            }
        };
        Ok(Self { input: Vec::new(), codec })
    }

    /// Tells the first record, before its bytes are written.
    pub(crate) fn begin(&mut self, lease: &LeaseKey, record: &Record) {
        if let Codec::Zip(zip) = &mut self.codec {
            zip.name(&format!("{lease}-{}-{}", record.sequence, record.sub));
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let block = match &mut self.codec {
            Codec::None(parts) => {
                parts.extend(bytes);
                return Ok(());
            }
            Codec::Gzip { .. } => GZIP_MEMBER_BYTES,
            Codec::Zip(_) | Codec::Zstd(_) => STREAM_INPUT_BYTES,
            Codec::Snappy(framing, _) => framing.block_bytes(),
        };
        self.input.extend_from_slice(bytes);
        if self.input.len() >= block { self.compress() } else { Ok(()) }
    }

    /// The next whole part.
    pub(crate) fn take(&mut self) -> Option<Bytes> {
        match &mut self.codec {
            Codec::None(parts) | Codec::Gzip { parts, .. } => parts.take(),
            Codec::Zip(zip) => zip.take(),
            Codec::Snappy(_, stream) => stream.take(),
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
        let parts = match self.codec {
            Codec::None(parts) | Codec::Gzip { parts, .. } => parts,
            Codec::Zip(zip) => zip.finish()?,
            Codec::Snappy(_, mut stream) => {
                if !self.input.is_empty() {
                    stream.write_block(&self.input)?;
                }
                stream.finish()
            }
            Codec::Zstd(encoder) => encoder.finish().map_err(EncodeError::of)?,
        };
        Ok(parts.finish())
    }

    /// Compresses what waits; of Snappy, whose blocks have one size, the whole blocks.
    fn compress(&mut self) -> Result<(), EncodeError> {
        let mut done = self.input.len();
        match &mut self.codec {
            Codec::None(parts) => parts.extend(&self.input),
            Codec::Gzip { compressor, output, parts, members } => {
                output.resize(compressor.gzip_compress_bound(self.input.len()), 0);
                let written = compressor.gzip_compress(&self.input, output).map_err(EncodeError::of)?;
                parts.extend(&output[..written]);
                *members += 1;
            }
            Codec::Zip(zip) => zip.write(&self.input)?,
            Codec::Snappy(framing, stream) => {
                let blocks = self.input.chunks_exact(framing.block_bytes());
                done -= blocks.remainder().len();
                for block in blocks {
                    stream.write_block(block)?;
                }
            }
            Codec::Zstd(encoder) => encoder.write_all(&self.input).map_err(EncodeError::of)?,
        }
        self.input.drain(..done);
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
            // Programs that others wrote read the archive in `tests/peers/formats`.
            Compression::Zip => {
                let local = 30 + u16::from_le_bytes([bytes[26], bytes[27]]) as usize;
                let mut inflate = flate2::read::DeflateDecoder::new(&bytes[local..]);
                inflate.read_to_end(&mut out).expect("deflate");
                let tail = &bytes[local + inflate.total_in() as usize..];
                let number = |at: usize| u32::from_le_bytes(tail[at..at + 4].try_into().expect("4 bytes"));
                let mut crc = flate2::Crc::new();
                crc.update(&out);
                let sizes = [inflate.total_in() as u32, out.len() as u32];
                assert_eq!([number(0), number(4), number(8), number(12)], [0x0807_4b50, crc.sum(), sizes[0], sizes[1]]);
                assert_eq!([number(16), number(32), number(36)], [0x0201_4b50, crc.sum(), sizes[0]]);
            }
            Compression::Snappy => {
                let (header, blocks) = bytes.split_at(16);
                assert_eq!(header, b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
                unpack_blocks(blocks, false, &mut out);
            }
            Compression::HadoopSnappy => unpack_blocks(bytes, true, &mut out),
            Compression::Zstd => {
                zstd::Decoder::new(bytes).expect("zstd").single_frame().read_to_end(&mut out).expect("zstd");
            }
        }
        out
    }

    /// Snappy blocks behind big-endian lengths; in Hadoop's stream, the plain one first.
    fn unpack_blocks(mut bytes: &[u8], hadoop: bool, out: &mut Vec<u8>) {
        let number = |bytes: &mut &[u8]| {
            let (number, rest) = bytes.split_first_chunk::<4>().expect("4 bytes");
            *bytes = rest;
            u32::from_be_bytes(*number) as usize
        };
        while !bytes.is_empty() {
            let plain = hadoop.then(|| number(&mut bytes));
            if plain == Some(0) {
                assert!(bytes.is_empty(), "nothing follows the block of no bytes");
                return;
            }
            let packed = number(&mut bytes);
            // Hadoop's reader has no more room.
            assert!(packed <= 256 << 10);
            let block = snap::raw::Decoder::new().decompress_vec(&bytes[..packed]).expect("a Snappy block");
            assert!(plain.is_none_or(|plain| plain == block.len()));
            out.extend_from_slice(&block);
            bytes = &bytes[packed..];
        }
    }

    #[test]
    fn nothing_is_still_a_valid_stream() {
        for compression in Compression::ALL {
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
        for compression in Compression::ALL {
            let bytes = compress(compression, &pieces);
            assert!(decompress(compression, &bytes) == pieces.concat(), "{compression:?}");
            assert_eq!(bytes, compress(compression, &pieces), "{compression:?} is not deterministic");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_read_back(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20)) {
            for compression in Compression::ALL {
                let bytes = compress(compression, &pieces);
                prop_assert_eq!(decompress(compression, &bytes), pieces.concat());
            }
        }
    }
}
