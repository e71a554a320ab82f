//! `decompress`: a record that was compressed by its producer, as CloudWatch Logs does, to what it holds.
//!
//! Whatever the input says of itself, no more is allocated for one record than the most that may come out of it. What is
//! broken is rejected with the bytes that were read, in the folder that Firehose gives it
//! (`decompression-failed`); the codes are ours, Firehose documents none.
//!
//! Never here: compressing, archives of several files.

use std::io::Read;

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use standpipe_flow::Record;
use zstd::zstd_safe;

use crate::stage::{Fault, Made, Stage};

/// `error-output-type` of what cannot be decompressed.
pub const DECOMPRESSION_FAILED: &str = "decompression-failed";

/// Deflate makes no more than this of one byte.
const GZIP_RATIO_MAX: usize = 1032;

/// `decompress: gzip`: what the records are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Codec {
    /// Not compressed: every record passes.
    None,
    /// gzip, of one member or several.
    Gzip,
    /// Zstandard, of one frame or several.
    Zstd,
    /// What the first bytes say; a record that begins like neither passes.
    Auto,
}

/// What `decompress` takes from the config.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DecompressSettings {
    /// What the records are.
    pub codec: Codec,
    /// Bytes that may come out of one record; a record that holds more is rejected.
    pub bytes_max: usize,
}

impl DecompressSettings {
    /// The default of `bytes_max`. A Kinesis record has at most 10 MiB, and text shrinks to a tenth or so.
    pub const BYTES_MAX: usize = 64 << 20;
    /// The most that `bytes_max` may be.
    pub const BYTES_MAX_MAX: usize = 1 << 30;
}

/// The stage.
#[derive(Debug)]
pub struct Decompress {
    settings: DecompressSettings,
}

/// Why nothing came out.
enum Broken {
    Corrupt,
    TooLarge,
}

impl Decompress {
    /// Fails, with words for the user, if `bytes_max` is 0 or above 1 GiB.
    pub fn new(settings: DecompressSettings) -> Result<Self, String> {
        match settings.bytes_max {
            0 => Err("nothing could come out of a record with a limit of 0 bytes".into()),
            1..=DecompressSettings::BYTES_MAX_MAX => Ok(Self { settings }),
            _ => Err("more than 1GiB out of one record is not held in memory".into()),
        }
    }

    fn fault(&self, codec: Codec, broken: &Broken) -> Fault {
        let name = if codec == Codec::Gzip { "gzip" } else { "zstd" };
        let (code, message) = match broken {
            Broken::Corrupt => ("Decompression.MalformedData", format!("The record is not valid {name}.")),
            Broken::TooLarge => (
                "Decompression.OutputTooLarge",
                format!("More than {} bytes would come out of the record.", self.settings.bytes_max),
            ),
        };
        Fault { output_type: DECOMPRESSION_FAILED, code, message: message.into() }
    }
}

impl Stage for Decompress {
    fn name(&self) -> &'static str {
        "decompress"
    }

    fn apply(&self, record: Record, made: &mut Made) -> Result<(), Fault> {
        let codec = if self.settings.codec == Codec::Auto { sniff(&record.data) } else { self.settings.codec };
        let out = match codec {
            Codec::Gzip => gunzip(&record.data, self.settings.bytes_max),
            Codec::Zstd => unzstd(&record.data, self.settings.bytes_max),
            Codec::None | Codec::Auto => {
                made.pass(record);
                return Ok(());
            }
        };
        made.change(&record, out.map_err(|broken| self.fault(codec, &broken))?);
        Ok(())
    }
}

/// What the first bytes say: RFC 1952 section 2.3.1 (with the only method there is), RFC 8878 section 3.1.1.
fn sniff(data: &[u8]) -> Codec {
    match data {
        [0x1f, 0x8b, 8, ..] => Codec::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Codec::Zstd,
        _ => Codec::None,
    }
}

fn gunzip(data: &[u8], bytes_max: usize) -> Result<Bytes, Broken> {
    // The last four bytes say the size of the last member: mostly all there is.
    let said = data.last_chunk::<4>().map_or(0, |size| u32::from_le_bytes(*size) as usize);
    let guess = said.min(bytes_max).min(data.len().saturating_mul(GZIP_RATIO_MAX));
    if let Some(out) = inflate(data, guess)? {
        return Ok(out);
    }
    // Before memory is taken for more, it is counted.
    let mut all = MultiGzDecoder::new(data).take(bytes_max as u64 + 1);
    let size = std::io::copy(&mut all, &mut std::io::sink()).map_err(|_| Broken::Corrupt)?;
    let size = usize::try_from(size).ok().filter(|size| *size <= bytes_max).ok_or(Broken::TooLarge)?;
    inflate(data, size)?.ok_or(Broken::Corrupt)
}

/// What comes out, if that is no more than `bytes`.
fn inflate(data: &[u8], bytes: usize) -> Result<Option<Bytes>, Broken> {
    let mut decoder = MultiGzDecoder::new(data);
    let mut out = vec![0; bytes];
    let mut filled = 0;
    loop {
        // Only the read that gives nothing has seen that the checksum is right.
        let (room, mut more) = (&mut out[filled..], [0]);
        let is_full = room.is_empty();
        let read = decoder.read(if is_full { &mut more } else { room }).map_err(|_| Broken::Corrupt)?;
        match read {
            0 => break,
            _ if is_full => return Ok(None),
            _ => filled += read,
        }
    }
    out.truncate(filled);
    Ok(Some(out.into_boxed_slice().into()))
}

fn unzstd(data: &[u8], bytes_max: usize) -> Result<Bytes, Broken> {
    // The whole output is the window, so that no frame can ask for another. What the first frame says of its size is a
    // guess at all of it.
    let said = zstd_safe::get_frame_content_size(data).ok().flatten().and_then(|size| usize::try_from(size).ok());
    let guess = said.unwrap_or(data.len().saturating_mul(16)).min(bytes_max);
    let mut context = zstd_safe::DCtx::try_create().ok_or(Broken::TooLarge)?;
    for room in [guess, bytes_max].into_iter().skip(usize::from(guess == bytes_max)) {
        let mut out = Vec::with_capacity(room);
        match context.decompress(&mut out, data) {
            Ok(_) => return Ok(out.into_boxed_slice().into()),
            Err(code) if zstd_safe::get_error_name(code) != TOO_SMALL => return Err(Broken::Corrupt),
            Err(_) => {}
        }
    }
    Err(Broken::TooLarge)
}

/// zstd's name for output that does not fit (`ZSTD_error_dstSize_tooSmall`); a test holds it.
const TOO_SMALL: &str = "Destination buffer is too small";

#[cfg(test)]
mod tests;
