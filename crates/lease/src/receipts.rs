//! `-> commit`: a receipt as an item of the commit table (`docs/decisions/commit-protocol.md` 1).
//!
//! The key `cid` is the ULID's 26 letters. The outputs stand in the item as long as they are few, otherwise on pages beside
//! it ([`pages`]). I10: immutable but for `state` and `expiresAt`, which is no part of a
//! [`Receipt`]: it is written only with DONE and RETRACTED.

pub(crate) mod pages;

use aws_sdk_dynamodb::types::AttributeValue;
use standpipe_flow::{
    Checksum, CommitId, DestinationId, Generation, Held, LeaseKey, Millis, Output, OutputKind, Part, Position, Receipt,
    ReceiptShard, ReceiptState, Tenure, WorkerId,
};

use crate::kcl::{Fields, Item, RowError, bytes, number, text};
use pages::Paged;

/// Attribute names of a receipt.
pub(crate) mod name {
    pub(crate) const CID: &str = "cid";
    pub(crate) const STATE: &str = "state";
    pub(crate) const EXPIRES_AT: &str = "expiresAt";
    /// Beside DONE: the commit was given up. Absent otherwise.
    pub(crate) const GAVE_UP: &str = "gaveUp";
    pub(super) const DESTINATION: &str = "destination";
    pub(super) const SHARDS: &str = "shards";
    pub(super) const OUTPUTS: &str = "outputs";
    pub(super) const CONFIG: &str = "config";
    pub(super) const WORKER: &str = "worker";
    pub(super) const VERSION: &str = "version";
    pub(super) const RECORDS: &str = "records";
    pub(super) const BYTES: &str = "bytes";
    pub(super) const CREATED_AT: &str = "createdAt";
    pub(super) const PAGES: &str = "pages";
    pub(super) const PAGES_HASH: &str = "pagesHash";

    pub(super) const LEASE: &str = "lease";
    pub(super) const FROM: &str = "from";
    pub(super) const FROM_SUB: &str = "fromSub";
    pub(super) const TO: &str = "to";
    pub(super) const TO_SUB: &str = "toSub";
    pub(super) const TENURE: &str = "tenure";
    pub(super) const GENERATION: &str = "gen";
    pub(super) const ARRIVAL: &str = "t";

    pub(super) const KIND: &str = "kind";
    pub(super) const BUCKET: &str = "bucket";
    pub(super) const KEY: &str = "key";
    /// How an output is held; an open upload has none, as in receipts from before there was anything else.
    pub(super) const HELD: &str = "held";
    pub(super) const STAGED_IN: &str = "stagedIn";
    pub(super) const OFFSET: &str = "offset";
    pub(super) const ENCODING: &str = "encoding";
    pub(super) const UPLOAD_ID: &str = "uploadId";
    pub(super) const ETAGS: &str = "etags";
    pub(super) const PART_NUMBERS: &str = "partNumbers";
    pub(super) const SIZE: &str = "size";
    pub(super) const CHECKSUM: &str = "checksum";
    pub(super) const ALGORITHM: &str = "algorithm";
}

/// The state's word.
pub(crate) fn state_word(state: ReceiptState) -> &'static str {
    match state {
        ReceiptState::Committed => "COMMITTED",
        ReceiptState::Done => "DONE",
        ReceiptState::Retracted => "RETRACTED",
    }
}

/// Writes a receipt; its outputs are named only, if they are on pages.
pub(crate) fn encode(receipt: &Receipt) -> Item {
    let mut item = Item::new();
    let mut put = |attribute: &str, value: AttributeValue| item.insert(attribute.to_owned(), value);
    put(name::CID, text(receipt.cid.to_string()));
    put(name::STATE, text(state_word(receipt.state)));
    if receipt.gave_up {
        put(name::GAVE_UP, AttributeValue::Bool(true));
    }
    put(name::DESTINATION, text(receipt.destination.as_str()));
    put(name::SHARDS, AttributeValue::L(receipt.shards.iter().map(encode_shard).collect()));
    match Paged::of(&receipt.outputs) {
        None => drop(put(name::OUTPUTS, AttributeValue::L(receipt.outputs.iter().map(encode_output).collect()))),
        Some(paged) => {
            put(name::PAGES, number(paged.pages.len() as u64));
            put(name::PAGES_HASH, bytes(&paged.hash()));
        }
    }
    put(name::CONFIG, text(&receipt.config));
    put(name::WORKER, text(receipt.worker.as_str()));
    put(name::VERSION, text(&receipt.version));
    put(name::RECORDS, number(receipt.records));
    put(name::BYTES, number(receipt.bytes));
    if let Some(created_at) = receipt.created_at {
        put(name::CREATED_AT, number(created_at.0));
    }
    item
}

fn encode_shard(shard: &ReceiptShard) -> AttributeValue {
    let mut map = Item::new();
    let mut put = |member: &str, value: AttributeValue| map.insert(member.to_owned(), value);
    put(name::LEASE, text(shard.lease.as_str()));
    put(name::FROM, text(shard.from.checkpoint()));
    put(name::FROM_SUB, number(shard.from.sub()));
    put(name::TO, text(shard.to.checkpoint()));
    put(name::TO_SUB, number(shard.to.sub()));
    put(name::TENURE, bytes(&shard.tenure.0));
    put(name::GENERATION, number(shard.generation.0));
    if let Some(arrival) = shard.arrival {
        put(name::ARRIVAL, number(arrival.0));
    }
    AttributeValue::M(map.into_iter().collect())
}

fn encode_output(output: &Output) -> AttributeValue {
    let mut map = Item::new();
    let mut put = |member: &str, value: AttributeValue| map.insert(member.to_owned(), value);
    let kind = match output.kind {
        OutputKind::Data => "data",
        OutputKind::Error => "error",
        OutputKind::Backup => "backup",
    };
    let (algorithm, checksum) = match &output.checksum {
        Checksum::Crc64Nvme(checksum) => ("CRC64NVME", checksum),
        Checksum::Crc32(checksum) => ("CRC32", checksum),
    };
    put(name::KIND, text(kind));
    put(name::BUCKET, text(&output.bucket));
    put(name::KEY, text(&output.key));
    match &output.held {
        Held::Upload { id, parts } => {
            put(name::UPLOAD_ID, text(id));
            put(name::ETAGS, AttributeValue::L(parts.iter().map(|part| text(&part.etag)).collect()));
            // Parts are numbered from 1 without a gap; only others need their numbers written down.
            if (1..).zip(parts).any(|(number, part)| part.number != number) {
                let numbers = parts.iter().map(|part| number(part.number.into()));
                put(name::PART_NUMBERS, AttributeValue::L(numbers.collect()));
            }
        }
        Held::Slice { object, offset, encoding } => {
            put(name::HELD, text("slice"));
            put(name::STAGED_IN, text(object));
            put(name::OFFSET, number(*offset));
            if let Some(encoding) = encoding {
                put(name::ENCODING, text(encoding));
            }
        }
        Held::Object => drop(put(name::HELD, text("object"))),
    }
    put(name::SIZE, number(output.size));
    put(name::ALGORITHM, text(algorithm));
    put(name::CHECKSUM, text(checksum));
    put(name::RECORDS, number(output.records));
    AttributeValue::M(map.into_iter().collect())
}

/// Where the outputs of a receipt are that are not in its item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct OnPages {
    /// How many.
    pub(crate) pages: u64,
    /// Of all of them together.
    pub(crate) hash: [u8; 16],
}

/// Reads a receipt; without outputs, if they are on pages. Errors name the attribute; the commit is then neither there
/// nor absent: hands off.
pub(crate) fn decode(item: &Item) -> Result<(Receipt, Option<OnPages>), RowError> {
    let mut fields = Fields::of("", String::new(), item);
    let key = fields.need(name::CID, fields.text(name::CID)?)?;
    fields.key = key;
    let state = match need_text(&fields, name::STATE)? {
        "COMMITTED" => ReceiptState::Committed,
        "DONE" => ReceiptState::Done,
        "RETRACTED" => ReceiptState::Retracted,
        _ => return Err(fields.malformed(name::STATE, "COMMITTED, DONE or RETRACTED")),
    };
    let on_pages = match fields.number(name::PAGES)? {
        None => None,
        Some(pages) => Some(OnPages { pages, hash: fields.need(name::PAGES_HASH, fields.bytes16(name::PAGES_HASH)?)? }),
    };
    let receipt = Receipt {
        cid: CommitId::parse(key).ok_or_else(|| fields.malformed(name::CID, "a ULID"))?,
        state,
        gave_up: matches!(item.get(name::GAVE_UP), Some(AttributeValue::Bool(true))),
        destination: DestinationId::new(need_text(&fields, name::DESTINATION)?),
        shards: decode_list(&fields, name::SHARDS, decode_shard)?,
        outputs: match on_pages {
            None => decode_list(&fields, name::OUTPUTS, decode_output)?,
            Some(_) => Vec::new(),
        },
        config: need_text(&fields, name::CONFIG)?.to_owned(),
        worker: WorkerId::new(need_text(&fields, name::WORKER)?),
        version: need_text(&fields, name::VERSION)?.to_owned(),
        records: need_number(&fields, name::RECORDS)?,
        bytes: need_number(&fields, name::BYTES)?,
        created_at: fields.number(name::CREATED_AT)?.map(Millis),
    };
    Ok((receipt, on_pages))
}

fn need_text<'a>(fields: &Fields<'a>, attribute: &str) -> Result<&'a str, RowError> {
    fields.need(attribute, fields.text(attribute)?)
}

fn need_number(fields: &Fields<'_>, attribute: &str) -> Result<u64, RowError> {
    fields.need(attribute, fields.number(attribute)?)
}

fn list<'a>(fields: &Fields<'a>, attribute: &str) -> Result<&'a [AttributeValue], RowError> {
    let value = fields.need(attribute, fields.get(attribute))?;
    value.as_l().map(Vec::as_slice).map_err(|_| fields.malformed(attribute, "a list"))
}

fn decode_list<T>(
    fields: &Fields<'_>,
    attribute: &str,
    decode: fn(&Fields<'_>) -> Result<T, RowError>,
) -> Result<Vec<T>, RowError> {
    let member = |(index, value): (usize, &AttributeValue)| {
        let map = value.as_m().map_err(|_| fields.malformed(attribute, "a list of maps"))?;
        decode(&Fields::of(fields.key, format!("{attribute}[{index}]."), map))
    };
    list(fields, attribute)?.iter().enumerate().map(member).collect()
}

fn decode_position(fields: &Fields<'_>, attribute: &str, sub: &str) -> Result<Position, RowError> {
    fields.need(attribute, fields.position(attribute, sub)?)
}

fn decode_shard(fields: &Fields<'_>) -> Result<ReceiptShard, RowError> {
    Ok(ReceiptShard {
        lease: LeaseKey::new(need_text(fields, name::LEASE)?),
        from: decode_position(fields, name::FROM, name::FROM_SUB)?,
        to: decode_position(fields, name::TO, name::TO_SUB)?,
        tenure: Tenure(fields.need(name::TENURE, fields.bytes16(name::TENURE)?)?),
        generation: Generation(need_number(fields, name::GENERATION)?),
        arrival: fields.number(name::ARRIVAL)?.map(Millis),
    })
}

fn decode_output(fields: &Fields<'_>) -> Result<Output, RowError> {
    let kind = match need_text(fields, name::KIND)? {
        "data" => OutputKind::Data,
        "error" => OutputKind::Error,
        "backup" => OutputKind::Backup,
        _ => return Err(fields.malformed(name::KIND, "data, error or backup")),
    };
    let checksum = need_text(fields, name::CHECKSUM)?.to_owned();
    let checksum = match need_text(fields, name::ALGORITHM)? {
        "CRC64NVME" => Checksum::Crc64Nvme(checksum),
        "CRC32" => Checksum::Crc32(checksum),
        _ => return Err(fields.malformed(name::ALGORITHM, "CRC64NVME or CRC32")),
    };
    Ok(Output {
        kind,
        bucket: need_text(fields, name::BUCKET)?.to_owned(),
        key: need_text(fields, name::KEY)?.to_owned(),
        held: decode_held(fields)?,
        size: need_number(fields, name::SIZE)?,
        checksum,
        records: need_number(fields, name::RECORDS)?,
    })
}

fn decode_held(fields: &Fields<'_>) -> Result<Held, RowError> {
    match fields.text(name::HELD)? {
        None => Ok(Held::Upload { id: need_text(fields, name::UPLOAD_ID)?.to_owned(), parts: decode_parts(fields)? }),
        Some("slice") => Ok(Held::Slice {
            object: need_text(fields, name::STAGED_IN)?.to_owned(),
            offset: need_number(fields, name::OFFSET)?,
            encoding: fields.text(name::ENCODING)?.map(str::to_owned),
        }),
        Some("object") => Ok(Held::Object),
        Some(_) => Err(fields.malformed(name::HELD, "slice or object")),
    }
}

fn decode_parts(fields: &Fields<'_>) -> Result<Vec<Part>, RowError> {
    let etags = list(fields, name::ETAGS)?;
    let numbers: Vec<u32> = match fields.get(name::PART_NUMBERS) {
        None => (1..).take(etags.len()).collect(),
        Some(_) => {
            let expected = "a list of part numbers, one an etag";
            let number = |value: &AttributeValue| value.as_n().ok().and_then(|digits| digits.parse().ok());
            let numbers: Option<Vec<u32>> = list(fields, name::PART_NUMBERS)?.iter().map(number).collect();
            let numbers = numbers.filter(|numbers| numbers.len() == etags.len());
            numbers.ok_or_else(|| fields.malformed(name::PART_NUMBERS, expected))?
        }
    };
    let part = |(number, etag): (u32, &AttributeValue)| {
        let etag = etag.as_s().map_err(|_| fields.malformed(name::ETAGS, "a list of strings"))?.clone();
        Ok(Part { number, etag })
    };
    numbers.into_iter().zip(etags).map(part).collect()
}

#[cfg(test)]
mod tests;
