//! A file of lines as people have it: plain, gzip or zstd, or stdin; told apart by its first bytes, not by its name.
//!
//! Never: a line of more than [`LINE_BYTES_MAX`], whatever the file.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use flate2::bufread::MultiGzDecoder;

/// The longest line: a little more than the largest record of Kinesis (10 MiB), whose error then names the record.
const LINE_BYTES_MAX: u64 = 11 << 20;
const BUFFER_BYTES: usize = 256 << 10;

/// The lines of one file.
pub struct Lines {
    reader: Box<dyn BufRead>,
    name: String,
    /// How far the file itself was read, before unpacking.
    read_bytes: Arc<AtomicU64>,
    number: u64,
}

impl Lines {
    /// Opens a file; `-` is stdin.
    pub fn open(path: &Path) -> Result<Self> {
        let stdin = path == Path::new("-");
        let name = if stdin { "stdin".to_owned() } else { path.display().to_string() };
        let source: Box<dyn Read> = if stdin {
            Box::new(io::stdin())
        } else {
            let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
            if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
                bail!("{name} is a folder, not a file of lines");
            }
            Box::new(file)
        };
        let read_bytes = Arc::new(AtomicU64::new(0));
        let mut packed = BufReader::with_capacity(BUFFER_BYTES, Counted { source, count: read_bytes.clone() });
        // A pipe may give fewer bytes at first than a magic number has; then it is taken for plain text.
        let head = packed.fill_buf().with_context(|| format!("cannot read {name}"))?;
        let reader: Box<dyn BufRead> = if head.starts_with(&[0x1f, 0x8b]) {
            Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(packed)))
        } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            let decoder =
                zstd::stream::read::Decoder::with_buffer(packed).with_context(|| format!("cannot read {name}"))?;
            Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder))
        } else {
            Box::new(packed)
        };
        Ok(Self { reader, name, read_bytes, number: 0 })
    }

    /// The next line without its line feed; `None` at the end. A last line needs no line feed.
    pub fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let place = || format!("cannot read {} after line {}", self.name, self.number);
        (&mut self.reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).with_context(place)?;
        if line.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if line.len() as u64 == LINE_BYTES_MAX {
            bail!("{} is longer than {} MiB", self.place(), LINE_BYTES_MAX >> 20);
        }
        Ok(Some(line))
    }

    /// The number of the last line, the first being 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Where the last line stood, for messages.
    pub fn place(&self) -> String {
        format!("line {} of {}", self.number, self.name)
    }

    /// How many bytes of the file itself were read.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }
}

struct Counted {
    source: Box<dyn Read>,
    count: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const TEXT: &[u8] = b"one\n\n{\"three\":3}\r\nlast";

    fn read(bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(bytes).expect("written");
        let mut lines = Lines::open(file.path()).expect("it opens");
        let mut all = Vec::new();
        while let Some(line) = lines.next().expect("it reads") {
            all.push(line);
        }
        assert_eq!(lines.read_bytes(), bytes.len() as u64);
        all
    }

    #[test]
    fn lines_are_the_same_however_they_are_packed() {
        let expected: Vec<Vec<u8>> = vec![b"one".to_vec(), b"".to_vec(), b"{\"three\":3}\r".to_vec(), b"last".to_vec()];
        assert_eq!(read(TEXT), expected);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(TEXT).expect("packed");
        assert_eq!(read(&gzip.finish().expect("packed")), expected);
        assert_eq!(read(&zstd::encode_all(TEXT, 1).expect("packed")), expected);
    }

    #[test]
    fn members_and_frames_follow_each_other() {
        let packed = |text: &[u8]| zstd::encode_all(text, 1).expect("packed");
        assert_eq!(read(&[packed(b"a\nb"), packed(b"c\n")].concat()), vec![b"a".to_vec(), b"bc".to_vec()]);
        assert_eq!(read(b""), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn a_broken_file_says_where() {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"first\nsecond\n").expect("packed");
        let whole = gzip.finish().expect("packed");
        file.write_all(&whole[..whole.len() - 9]).expect("written");
        let mut lines = Lines::open(file.path()).expect("it opens");
        let error = loop {
            match lines.next() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("a cut file does not end well"),
                Err(error) => break error,
            }
        };
        assert!(format!("{error}").starts_with("cannot read "), "{error}");
    }
}
