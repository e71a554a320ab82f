//! The two streams that Java programs call Snappy: blocks of Snappy's raw format, each behind big-endian lengths.
//!
//! - **xerial**: what `SnappyOutputStream` of snappy-java writes, and Firehose with it (`Snappy`): a header of 16 bytes,
//!   then blocks of 32 KiB of input, each behind its packed length.
//! - **Hadoop**: what `SnappyCodec` writes (`HADOOP_SNAPPY`): no header; each block behind its plain length and then its
//!   packed one (Hadoop may split a block into several; ours has one).
//!
//! Neither is Snappy's own framing format, and neither has a checksum.

use bytes::Bytes;
use snap::raw::{Encoder, max_compress_len};

use crate::encode::EncodeError;
use crate::parts::Parts;

/// snappy-java's SnappyCodec: magic, version 1, readable by readers of version 1.
const XERIAL_HEADER: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];

/// The default of snappy-java's SnappyOutputStream.
const XERIAL_BLOCK_BYTES: usize = 32 << 10;

/// Hadoop's reader takes packed blocks of no more than its buffer, `io.compression.codec.snappy.buffersize`, 256 KiB by
/// default; so its writer takes off what Snappy may add: a sixth and 32 bytes.
const HADOOP_BLOCK_BYTES: usize = (256 << 10) - ((256 << 10) / 6 + 32);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Framing {
    Xerial,
    Hadoop,
}

impl Framing {
    /// Bytes of input of a block, of every one but the last.
    pub(super) fn block_bytes(self) -> usize {
        match self {
            Self::Xerial => XERIAL_BLOCK_BYTES,
            Self::Hadoop => HADOOP_BLOCK_BYTES,
        }
    }
}

/// Takes whole blocks and gives the parts of the stream.
pub(super) struct SnappyStream {
    framing: Framing,
    encoder: Encoder,
    packed: Vec<u8>,
    parts: Parts,
    empty: bool,
}

impl SnappyStream {
    pub(super) fn new(framing: Framing) -> Self {
        let mut parts = Parts::default();
        if framing == Framing::Xerial {
            parts.extend(&XERIAL_HEADER);
        }
        let packed = vec![0; max_compress_len(framing.block_bytes())];
        Self { framing, encoder: Encoder::new(), packed, parts, empty: true }
    }

    pub(super) fn write_block(&mut self, block: &[u8]) -> Result<(), EncodeError> {
        self.empty = false;
        let packed = self.encoder.compress(block, &mut self.packed).map_err(EncodeError::of)?;
        if self.framing == Framing::Hadoop {
            self.parts.extend(&(block.len() as u32).to_be_bytes());
        }
        self.parts.extend(&(packed as u32).to_be_bytes());
        self.parts.extend(&self.packed[..packed]);
        Ok(())
    }

    pub(super) fn take(&mut self) -> Option<Bytes> {
        self.parts.take()
    }

    pub(super) fn finish(mut self) -> Parts {
        if self.empty && self.framing == Framing::Hadoop {
            // Hadoop's writer ends a stream without a byte with a block of no bytes.
            self.parts.extend(&0u32.to_be_bytes());
        }
        self.parts
    }
}
