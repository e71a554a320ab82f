//! `-> commit`: the outputs of a receipt that has many, on pages: items of the commit table under `<cid>.<n>`, written
//! before the transaction that names their number and their hash (`docs/decisions/receipt-size.md`).
//!
//! A page is a list in JSON, compressed. It is never changed; what its receipt says decides whether it means anything.
//! Never here: a request.

use aws_sdk_dynamodb::types::AttributeValue;
use serde::{Deserialize, Serialize};
use standpipe_flow::hash::hash128;
use standpipe_flow::{Checksum, CommitId, Held, Output, OutputKind, Part};

use super::name;
use crate::kcl::{Item, bytes, number, text};

/// Bytes of outputs, as they are on a page before it is compressed, that stay in the receipt's own item: so much is
/// written three times, the page twice.
const INLINE_BYTES_MAX: usize = 24 << 10;
/// Bytes of a page before it is compressed: with what compressing bytes at random adds, an item takes it.
const PAGE_BYTES: usize = 320 << 10;
/// Bytes of a page that this program opens.
const PAGE_BYTES_MAX: usize = 16 << 20;
/// zstd's own default.
const LEVEL: i32 = 3;
/// The attribute that holds a page.
const PAGE: &str = "page";
/// How long a page outlives the first upload of its commit if nothing is heard of that any more: longer than any stream
/// keeps a record.
const KEEP_SECONDS: u64 = 400 * 24 * 60 * 60;

/// An output in few words: kind, bucket, key, how it is held, size, checksum, records. An open upload is held by two, its
/// id and its parts, as on pages from before there was anything else.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Upload(Kind, String, String, String, Vec<(u32, String)>, u64, Sum, u64),
    Other(Kind, String, String, Other, u64, Sum, u64),
}

/// What holds an output that is no upload.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Other {
    /// Staging object, offset, Content-Encoding.
    Slice(String, u64, Option<String>),
    Object,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Data,
    Error,
    Backup,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Sum {
    Crc64Nvme(String),
    Crc32(String),
}

impl Line {
    fn of(output: &Output) -> Self {
        let kind = match output.kind {
            OutputKind::Data => Kind::Data,
            OutputKind::Error => Kind::Error,
            OutputKind::Backup => Kind::Backup,
        };
        let sum = match &output.checksum {
            Checksum::Crc64Nvme(sum) => Sum::Crc64Nvme(sum.clone()),
            Checksum::Crc32(sum) => Sum::Crc32(sum.clone()),
        };
        let Output { bucket, key, held, size, records, .. } = output.clone();
        let other = match held {
            Held::Upload { id, parts } => {
                let parts = parts.into_iter().map(|part| (part.number, part.etag)).collect();
                return Self::Upload(kind, bucket, key, id, parts, size, sum, records);
            }
            Held::Slice { object, offset, encoding } => Other::Slice(object, offset, encoding),
            Held::Object => Other::Object,
        };
        Self::Other(kind, bucket, key, other, size, sum, records)
    }

    fn output(self) -> Output {
        let (kind, bucket, key, held, size, sum, records) = match self {
            Self::Upload(kind, bucket, key, id, parts, size, sum, records) => {
                let parts = parts.into_iter().map(|(number, etag)| Part { number, etag }).collect();
                (kind, bucket, key, Held::Upload { id, parts }, size, sum, records)
            }
            Self::Other(kind, bucket, key, other, size, sum, records) => {
                let held = match other {
                    Other::Slice(object, offset, encoding) => Held::Slice { object, offset, encoding },
                    Other::Object => Held::Object,
                };
                (kind, bucket, key, held, size, sum, records)
            }
        };
        Output {
            kind: match kind {
                Kind::Data => OutputKind::Data,
                Kind::Error => OutputKind::Error,
                Kind::Backup => OutputKind::Backup,
            },
            bucket,
            key,
            held,
            size,
            checksum: match sum {
                Sum::Crc64Nvme(sum) => Checksum::Crc64Nvme(sum),
                Sum::Crc32(sum) => Checksum::Crc32(sum),
            },
            records,
        }
    }
}

/// Outputs that are too many for the receipt's item.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Paged {
    /// Compressed.
    pub(crate) pages: Vec<Vec<u8>>,
}

impl Paged {
    /// The pages of these outputs; `None` if they go into the item. The same outputs make the same pages.
    pub(crate) fn of(outputs: &[Output]) -> Option<Self> {
        let mut pages: Vec<Vec<u8>> = Vec::new();
        for output in outputs {
            let line = serde_json::to_vec(&Line::of(output)).expect("strings and numbers have JSON");
            match pages.last_mut() {
                Some(page) if page.len() + line.len() < PAGE_BYTES => {
                    page.push(b',');
                    page.extend(line);
                }
                _ => pages.push([b"[", &line[..]].concat()),
            }
        }
        if pages.iter().map(Vec::len).sum::<usize>() <= INLINE_BYTES_MAX {
            return None;
        }
        let compress = |mut page: Vec<u8>| {
            page.push(b']');
            zstd::bulk::compress(&page, LEVEL).expect("memory takes what is compressed")
        };
        Some(Self { pages: pages.into_iter().map(compress).collect() })
    }

    /// What the receipt says of them.
    pub(crate) fn hash(&self) -> [u8; 16] {
        let pages: Vec<&[u8]> = self.pages.iter().map(Vec::as_slice).collect();
        hash128(&pages).to_be_bytes()
    }

    /// The outputs again.
    pub(crate) fn outputs(&self) -> Result<Vec<Output>, String> {
        let mut outputs = Vec::new();
        for page in &self.pages {
            let page = zstd::bulk::decompress(page, PAGE_BYTES_MAX).map_err(|error| error.to_string())?;
            let lines: Vec<Line> = serde_json::from_slice(&page).map_err(|error| error.to_string())?;
            outputs.extend(lines.into_iter().map(Line::output));
        }
        Ok(outputs)
    }
}

/// The key of a page.
pub(crate) fn key(cid: CommitId, page: u64) -> AttributeValue {
    text(format!("{cid}.{page}"))
}

/// A page as an item. `created_at`: S3's time of the first upload, in seconds.
pub(crate) fn item(cid: CommitId, page: u64, body: &[u8], created_at: Option<u64>) -> Item {
    let mut item = Item::new();
    item.insert(name::CID.to_owned(), key(cid, page));
    item.insert(PAGE.to_owned(), bytes(body));
    if let Some(seconds) = created_at {
        item.insert(name::EXPIRES_AT.to_owned(), number(seconds + KEEP_SECONDS));
    }
    item
}

/// What an item holds, if it is a page.
pub(crate) fn body(item: &Item) -> Option<Vec<u8>> {
    match item.get(PAGE) {
        Some(AttributeValue::B(body)) => Some(body.as_ref().to_vec()),
        _ => None,
    }
}
