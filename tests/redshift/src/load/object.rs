//! One object of S3 to rows: bytes as they come, unpacked and read by a thread of their own.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt;
use tokio::sync::mpsc;

use super::columns::Column;
use super::manifest::Entry;
use super::rows::{Ended, Piece, Rows};
use super::s3::{Object, S3};
use super::{delimited, json, parquet};
use crate::sql::copy::{Compression, Copy, Format};

/// Reads the objects of a manifest one after the other, and hands on their rows.
///
/// # Errors
/// What fails the COPY whole, in the words of Redshift.
pub(super) async fn read_all(
    s3: S3,
    entries: Vec<Entry>,
    copy: Arc<Copy>,
    columns: Arc<[Column]>,
    out: mpsc::Sender<Piece>,
) -> Result<(), String> {
    for entry in entries {
        let object = match s3.get(&entry.address).await {
            Ok(object) => object,
            Err(error) if error.status == 404 && !entry.mandatory => continue,
            Err(error) => return Err(format!("Problem reading manifest file - {error} for '{}'", entry.url)),
        };
        if let (Some(wanted), Some(length)) = (entry.content_length, object.length)
            && wanted != length
        {
            return Err(format!(
                "Problem reading manifest file - file size mismatch for '{}': the manifest says {wanted}, S3 says {length}",
                entry.url
            ));
        }
        if matches!(copy.format, Format::Parquet { .. }) && entry.content_length.is_none() {
            return Err(format!("Manifest file is not in correct json format: meta.content_length of '{}'", entry.url));
        }
        match read(object, &entry.url, copy.clone(), columns.clone(), out.clone()).await {
            Ok(()) => {}
            Err(Ended::Unwanted) => return Ok(()),
            Err(Ended::Broken(text)) => return Err(text),
        }
    }
    Ok(())
}

async fn read(
    object: Object,
    url: &str,
    copy: Arc<Copy>,
    columns: Arc<[Column]>,
    out: mpsc::Sender<Piece>,
) -> Result<(), Ended> {
    let Object { mut body, .. } = object;
    let file: Arc<str> = url.into();
    if let Format::Parquet { serialize_nested } = copy.format {
        let whole = body.collect().await.map_err(|error| Ended::Broken(error.to_string()))?.to_bytes();
        return blocking(move || {
            let mut rows = Rows::new(&columns, &copy.rules, file.clone(), &out);
            parquet::read(whole, &file, serialize_nested, &mut rows)
        })
        .await;
    }
    let (pieces, received) = mpsc::channel::<io::Result<Bytes>>(16);
    let feed = async move {
        while let Some(frame) = body.frame().await {
            let piece = frame.map_err(io::Error::other).map(|frame| frame.into_data().unwrap_or_default());
            let failed = piece.is_err();
            if pieces.send(piece).await.is_err() || failed {
                return;
            }
        }
    };
    let rows = blocking(move || text_rows(Pieces { received, current: Bytes::new() }, &copy, &columns, file, &out));
    tokio::join!(feed, rows).1
}

/// Reads rows on a thread that may block.
#[allow(clippy::disallowed_methods, reason = "a server for tests that runs by real time: no simulation drives it")]
async fn blocking(work: impl FnOnce() -> Result<(), Ended> + Send + 'static) -> Result<(), Ended> {
    match tokio::task::spawn_blocking(work).await {
        Ok(ended) => ended,
        Err(_) => Err(Ended::Broken("the reader of the object failed".to_owned())),
    }
}

fn text_rows(
    input: Pieces,
    copy: &Copy,
    columns: &[Column],
    file: Arc<str>,
    out: &mpsc::Sender<Piece>,
) -> Result<(), Ended> {
    let input: Box<dyn Read> = match copy.compression {
        Compression::None => Box::new(input),
        Compression::Gzip => Box::new(MultiGzDecoder::new(input)),
        Compression::Zstd => {
            Box::new(zstd::Decoder::new(input).map_err(|error| Ended::Broken(format!("Zstd: {error}")))?)
        }
    };
    let mut rows = Rows::new(columns, &copy.rules, file, out);
    match copy.format {
        Format::Json { ignore_case } => json::read(input, ignore_case, &mut rows),
        Format::Delimited { delimiter, quote, skip_lines } => {
            delimited::read(input, &delimited::Shape { delimiter, quote, skip_lines }, &mut rows)
        }
        Format::Parquet { .. } => Err(Ended::Broken("Parquet is read whole".to_owned())),
    }
}

/// The body of an object, for a reader that blocks.
struct Pieces {
    received: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.received.blocking_recv() {
                Some(piece) => self.current = piece?,
                None => return Ok(0),
            }
        }
        let length = self.current.len().min(into.len());
        self.current.copy_to_slice(&mut into[..length]);
        Ok(length)
    }
}
