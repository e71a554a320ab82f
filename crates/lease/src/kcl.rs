//! `lease ->`: a lease row as an item of the lease table. The KCL's attributes keep the KCL's names and types
//! (`DynamoDBLeaseSerializer`), ours begin with `sp`; `docs/decisions/commit-protocol.md` 1 lists them.
//!
//! I13: what this program does not know is left alone. A row of another `entityType` (KCL >= 3.5 keeps its own rows
//! in the lease table) is no lease; a half row, or a checkpoint that is no position of ours, is a [`RowError`].
//! Attributes that are not named here are ignored, and survive, because rows are only ever changed by UpdateItem.
//!
//! Never here: a panic on what a table holds.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_types::Blob;
use standpipe_flow::{
    CommitId, DestinationId, DestinationPosition, Generation, HashRange, LeaseKey, LeaseRow, Millis, Pending,
    PendingMode, Position, ShardId, Tenure, Throughput, WorkerId,
};

/// An item, in attribute order.
pub(crate) type Item = BTreeMap<String, AttributeValue>;

/// Attribute names of a lease row.
pub(crate) mod name {
    pub(crate) const KEY: &str = "leaseKey";
    pub(crate) const OWNER: &str = "leaseOwner";
    pub(crate) const CHECKPOINT_OWNER: &str = "checkpointOwner";
    pub(crate) const COUNTER: &str = "leaseCounter";
    pub(crate) const CHECKPOINT: &str = "checkpoint";
    pub(crate) const CHECKPOINT_SUB: &str = "checkpointSubSequenceNumber";
    pub(crate) const OWNER_SWITCHES: &str = "ownerSwitchesSinceCheckpoint";
    pub(crate) const PARENTS: &str = "parentShardId";
    pub(crate) const CHILDREN: &str = "childShardIds";
    pub(crate) const HASH_START: &str = "startingHashKey";
    pub(crate) const HASH_END: &str = "endingHashKey";
    pub(crate) const THROUGHPUT: &str = "throughputKBps";
    pub(crate) const PENDING_CHECKPOINT: [&str; 3] =
        ["pendingCheckpoint", "pendingCheckpointSubSequenceNumber", "pendingCheckpointState"];
    pub(crate) const ENTITY: &str = "entityType";
    pub(crate) const MULTI_STREAM: &str = "streamName";

    pub(crate) const TENURE: &str = "spTenure";
    pub(crate) const OWN_CHECKPOINT: &str = "spCheckpoint";
    pub(crate) const OWN_SUB: &str = "spSub";
    pub(crate) const GENERATION: &str = "spGen";
    pub(crate) const START: &str = "spStart";
    pub(crate) const STREAM: &str = "spStream";
    pub(crate) const NEXT: &str = "spNext";
    pub(crate) const OFF: &str = "spOff";
    pub(crate) const VERSION: &str = "spVersion";
    pub(crate) const DESTINATION_PREFIX: &str = "sp_";

    pub(crate) const AT: &str = "at";
    pub(crate) const SUB: &str = "sub";
    pub(crate) const ARRIVAL: &str = "t";
    pub(crate) const TO: &str = "to";
    pub(crate) const TO_SUB: &str = "toSub";
    pub(crate) const CID: &str = "cid";
    pub(crate) const MODE: &str = "mode";
}

/// `entityType` of a lease (KCL >= 3.5 `EntityType.LEASE`).
const ENTITY_LEASE: &str = "LEASE";

/// `checkpoint` of a lease that begins with what comes next.
pub(crate) const LATEST: &str = "LATEST";
/// `checkpoint` of a lease that begins at an instant which only the Java application's configuration knows.
const AT_TIMESTAMP: &str = "AT_TIMESTAMP";

/// Why a row of the lease table cannot be worked with: hands off it, and say so. It is not gone either: its children
/// must wait for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// An attribute that every KCL writes is missing.
    #[error("lease {key:?} is half a row: {attribute} is missing")]
    Half {
        /// `leaseKey`, or empty.
        key: String,
        /// The missing attribute.
        attribute: String,
    },
    /// An attribute has a type or a value that it cannot have.
    #[error("lease {key:?}: {attribute} is not {expected}")]
    Malformed {
        /// `leaseKey`.
        key: String,
        /// The attribute.
        attribute: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A Java KCL made the lease and has not checkpointed yet: where it would start is not written in the row. A take
    /// pins it ([`crate::table::Unpinned`]).
    #[error("lease {key:?}: checkpoint is {checkpoint}, which is no position")]
    NoPosition {
        /// `leaseKey`.
        key: String,
        /// LATEST or AT_TIMESTAMP.
        checkpoint: String,
    },
    /// A lease of the KCL's multi-stream mode.
    #[error("lease {key:?} belongs to an application that reads several streams")]
    MultiStream {
        /// `leaseKey`.
        key: String,
    },
}

impl RowError {
    /// `leaseKey` of the row; empty if it has none.
    pub fn key(&self) -> &str {
        match self {
            Self::Half { key, .. }
            | Self::Malformed { key, .. }
            | Self::NoPosition { key, .. }
            | Self::MultiStream { key } => key,
        }
    }
}

/// Typed access to an item's attributes.
pub(crate) struct Fields<'a> {
    /// Names the item in errors.
    pub(crate) key: &'a str,
    /// Prefix of the attribute's name in errors: `sp_lake.` within a map.
    pub(crate) within: String,
    /// The attributes.
    members: BTreeMap<&'a str, &'a AttributeValue>,
}

impl<'a> Fields<'a> {
    /// The attributes of an item, or of a map in it.
    pub(crate) fn of(
        key: &'a str,
        within: String,
        members: impl IntoIterator<Item = (&'a String, &'a AttributeValue)>,
    ) -> Self {
        let members = members.into_iter().map(|(name, value)| (name.as_str(), value)).collect();
        Self { key, within, members }
    }

    /// An attribute as it is.
    pub(crate) fn get(&self, attribute: &str) -> Option<&'a AttributeValue> {
        self.members.get(attribute).copied()
    }

    pub(crate) fn malformed(&self, attribute: &str, expected: &'static str) -> RowError {
        RowError::Malformed { key: self.key.to_owned(), attribute: format!("{}{attribute}", self.within), expected }
    }

    fn half(&self, attribute: &str) -> RowError {
        RowError::Half { key: self.key.to_owned(), attribute: format!("{}{attribute}", self.within) }
    }

    pub(crate) fn need<T>(&self, attribute: &str, value: Option<T>) -> Result<T, RowError> {
        value.ok_or_else(|| self.half(attribute))
    }

    pub(crate) fn text(&self, attribute: &str) -> Result<Option<&'a str>, RowError> {
        match self.get(attribute) {
            None => Ok(None),
            Some(AttributeValue::S(text)) => Ok(Some(text)),
            Some(_) => Err(self.malformed(attribute, "a string")),
        }
    }

    pub(crate) fn number(&self, attribute: &str) -> Result<Option<u64>, RowError> {
        let expected = "a whole number from 0 to 2^64-1";
        match self.get(attribute) {
            None => Ok(None),
            Some(AttributeValue::N(digits)) => {
                digits.parse().map(Some).map_err(|_| self.malformed(attribute, expected))
            }
            Some(_) => Err(self.malformed(attribute, expected)),
        }
    }

    /// A number that is counted up: within the half of Java's `long` that leaves room to go on.
    fn long(&self, attribute: &str) -> Result<Option<u64>, RowError> {
        match self.number(attribute)? {
            Some(number) if number > i64::MAX as u64 / 2 => Err(self.malformed(attribute, "a whole number below 2^62")),
            number => Ok(number),
        }
    }

    pub(crate) fn bytes(&self, attribute: &str) -> Result<Option<&'a [u8]>, RowError> {
        match self.get(attribute) {
            None => Ok(None),
            Some(AttributeValue::B(bytes)) => Ok(Some(bytes.as_ref())),
            Some(_) => Err(self.malformed(attribute, "binary")),
        }
    }

    pub(crate) fn bytes16(&self, attribute: &str) -> Result<Option<[u8; 16]>, RowError> {
        let bytes = self.bytes(attribute)?;
        bytes.map(|bytes| bytes.try_into().map_err(|_| self.malformed(attribute, "16 bytes"))).transpose()
    }

    fn set<T: Ord>(&self, attribute: &str, wrap: impl Fn(String) -> T) -> Result<BTreeSet<T>, RowError> {
        match self.get(attribute) {
            None => Ok(BTreeSet::new()),
            Some(AttributeValue::Ss(texts)) => Ok(texts.iter().cloned().map(wrap).collect()),
            Some(_) => Err(self.malformed(attribute, "a set of strings")),
        }
    }

    /// A position out of two attributes; `None` if the first is missing. A sentinel's sub-sequence number is 0, as
    /// the KCL writes it: anything else could not be compared with our copy.
    pub(crate) fn position(&self, attribute: &str, sub_attribute: &str) -> Result<Option<Position>, RowError> {
        let Some(text) = self.text(attribute)? else { return Ok(None) };
        let sub = self.need(sub_attribute, self.number(sub_attribute)?)?;
        if matches!(text, LATEST | AT_TIMESTAMP) {
            return Err(RowError::NoPosition { key: self.key.to_owned(), checkpoint: text.to_owned() });
        }
        let position = Position::parse(text, sub).map_err(|_| self.malformed(attribute, "a sequence number"))?;
        if position.sub() == sub { Ok(Some(position)) } else { Err(self.malformed(sub_attribute, "0")) }
    }
}

/// Reads a row. `None`: the item is no lease.
pub(crate) fn decode(item: &Item) -> Result<Option<LeaseRow>, RowError> {
    if item.get(name::ENTITY).is_some_and(|entity| entity.as_s().ok().is_none_or(|entity| entity != ENTITY_LEASE)) {
        return Ok(None);
    }
    let mut fields = Fields::of("", String::new(), item);
    let key = fields.need(name::KEY, fields.text(name::KEY)?)?;
    fields.key = key;
    // No shard id has a colon; `account:stream:epoch:shard` has three.
    if item.contains_key(name::MULTI_STREAM) || key.contains(':') {
        return Err(RowError::MultiStream { key: key.to_owned() });
    }
    let mut row = LeaseRow::new(LeaseKey::new(key));
    decode_kcl(&fields, &mut row)?;
    row.version = fields.number(name::VERSION)?;
    // Attributes of a form that this program does not know are not looked at: such a row is only ever looked away from.
    if row.version_known() {
        decode_own(&fields, item, &mut row)?;
    }
    Ok(Some(row))
}

/// Reads a row whose checkpoint is LATEST or AT_TIMESTAMP as if it were TRIM_HORIZON.
pub(crate) fn decode_unpinned(item: &Item) -> Option<LeaseRow> {
    let mut item = item.clone();
    item.insert(name::CHECKPOINT.to_owned(), text(Position::TrimHorizon.checkpoint()));
    decode(&item).ok().flatten()
}

fn decode_kcl(fields: &Fields<'_>, row: &mut LeaseRow) -> Result<(), RowError> {
    row.owner = fields.text(name::OWNER)?.map(WorkerId::new);
    row.checkpoint_owner = fields.text(name::CHECKPOINT_OWNER)?.map(WorkerId::new);
    row.counter = fields.need(name::COUNTER, fields.long(name::COUNTER)?)?;
    row.checkpoint = fields.need(name::CHECKPOINT, fields.position(name::CHECKPOINT, name::CHECKPOINT_SUB)?)?;
    row.owner_switches = fields.need(name::OWNER_SWITCHES, fields.long(name::OWNER_SWITCHES)?)?;
    row.parents = fields.set(name::PARENTS, ShardId::new)?;
    row.children = fields.set(name::CHILDREN, ShardId::new)?;
    row.hash_range = decode_hash_range(fields)?;
    row.throughput = fields.get(name::THROUGHPUT).and_then(decode_throughput);
    Ok(())
}

/// A row with one end only has no range: the KCL's auditor fills it in later.
fn decode_hash_range(fields: &Fields<'_>) -> Result<Option<HashRange>, RowError> {
    let end = |attribute: &str| -> Result<Option<u128>, RowError> {
        let text = fields.text(attribute)?;
        let parse = |text: &str| text.parse().map_err(|_| fields.malformed(attribute, "a hash key below 2^128"));
        text.map(parse).transpose()
    };
    Ok(end(name::HASH_START)?.zip(end(name::HASH_END)?).map(|(start, end)| HashRange { start, end }))
}

/// What is no such number says nothing: no rule depends on it.
fn decode_throughput(value: &AttributeValue) -> Option<Throughput> {
    let digits = value.as_n().ok()?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = fraction.get(..6).unwrap_or(fraction);
    let (Ok(whole), Ok(fraction)) = (whole.parse::<u64>(), format!("{fraction:0<6}").parse::<u64>()) else {
        // With an exponent.
        let number: f64 = digits.parse().ok()?;
        return (0.0..1e12).contains(&number).then_some(Throughput { millionths: (number * 1e6) as u64 });
    };
    Some(Throughput { millionths: whole.checked_mul(1_000_000)?.checked_add(fraction)? })
}

/// Six decimals, as the KCL rounds it.
pub(crate) fn encode_throughput(throughput: Throughput) -> AttributeValue {
    let (whole, fraction) = (throughput.millionths / 1_000_000, throughput.millionths % 1_000_000);
    AttributeValue::N(format!("{whole}.{fraction:06}"))
}

fn decode_own(fields: &Fields<'_>, item: &Item, row: &mut LeaseRow) -> Result<(), RowError> {
    row.tenure = fields.bytes16(name::TENURE)?.map(Tenure);
    row.own_checkpoint = fields.position(name::OWN_CHECKPOINT, name::OWN_SUB)?;
    row.generation = Generation(fields.number(name::GENERATION)?.unwrap_or(0));
    row.start = fields.number(name::START)?.map(Millis);
    row.stream = fields.bytes(name::STREAM)?.map(<[u8]>::to_vec);
    row.next = fields.text(name::NEXT)?.map(WorkerId::new);
    row.off = fields.set(name::OFF, DestinationId::new)?;
    for (attribute, value) in item.range(name::DESTINATION_PREFIX.to_owned()..) {
        let Some(id) = attribute.strip_prefix(name::DESTINATION_PREFIX) else { break };
        let position = decode_destination(fields, attribute, value)?;
        row.destinations.insert(DestinationId::new(id), position);
    }
    Ok(())
}

fn decode_destination(
    row: &Fields<'_>,
    attribute: &str,
    value: &AttributeValue,
) -> Result<DestinationPosition, RowError> {
    let map = value.as_m().map_err(|_| row.malformed(attribute, "a map"))?;
    let fields = Fields::of(row.key, format!("{attribute}."), map);
    let at = fields.need(name::AT, fields.position(name::AT, name::SUB)?)?;
    let arrival = fields.number(name::ARRIVAL)?.map(Millis);
    let pending = match fields.bytes16(name::CID)? {
        None if map.contains_key(name::TO) => return Err(fields.half(name::CID)),
        None => None,
        Some(cid) => {
            let to = fields.need(name::TO, fields.position(name::TO, name::TO_SUB)?)?;
            Some(Pending { to, cid: CommitId(cid), mode: decode_mode(fields.text(name::MODE)?) })
        }
    };
    Ok(DestinationPosition { at, arrival, pending })
}

fn decode_mode(text: Option<&str>) -> PendingMode {
    match text {
        Some("staged") => PendingMode::Staged,
        Some("declared") => PendingMode::Declared,
        _ => PendingMode::Unknown,
    }
}

fn encode_mode(mode: PendingMode) -> &'static str {
    match mode {
        PendingMode::Staged => "staged",
        PendingMode::Declared => "declared",
        PendingMode::Unknown => "unknown",
    }
}

/// A string.
pub(crate) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// A number.
pub(crate) fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// Binary.
pub(crate) fn bytes(value: &[u8]) -> AttributeValue {
    AttributeValue::B(Blob::new(value))
}

/// A set of strings; `None` when empty, which DynamoDB refuses.
pub(crate) fn set<T>(values: &BTreeSet<T>, as_str: impl Fn(&T) -> &str) -> Option<AttributeValue> {
    (!values.is_empty()).then(|| AttributeValue::Ss(values.iter().map(|value| as_str(value).to_owned()).collect()))
}

/// `sp_<id>`.
pub(crate) fn destination_attribute(id: &DestinationId) -> String {
    format!("{}{id}", name::DESTINATION_PREFIX)
}

/// The map `sp_<id>`, whole.
pub(crate) fn encode_destination(position: &DestinationPosition) -> AttributeValue {
    let mut map = Item::new();
    map.insert(name::AT.into(), text(position.at.checkpoint()));
    map.insert(name::SUB.into(), number(position.at.sub()));
    if let Some(arrival) = position.arrival {
        map.insert(name::ARRIVAL.into(), number(arrival.0));
    }
    if let Some(pending) = &position.pending {
        map.insert(name::TO.into(), text(pending.to.checkpoint()));
        map.insert(name::TO_SUB.into(), number(pending.to.sub()));
        map.insert(name::CID.into(), bytes(&pending.cid.0));
        map.insert(name::MODE.into(), text(encode_mode(pending.mode)));
    }
    AttributeValue::M(map.into_iter().collect())
}

/// A whole row: for a lease that is being made. Any later change is an UpdateItem.
pub(crate) fn encode(row: &LeaseRow) -> Item {
    let mut item = Item::new();
    let mut put = |attribute: &str, value: Option<AttributeValue>| {
        if let Some(value) = value {
            item.insert(attribute.to_owned(), value);
        }
    };
    put(name::KEY, Some(text(row.key.as_str())));
    put(name::ENTITY, Some(text(ENTITY_LEASE)));
    put(name::OWNER, row.owner.as_ref().map(|owner| text(owner.as_str())));
    put(name::CHECKPOINT_OWNER, row.checkpoint_owner.as_ref().map(|owner| text(owner.as_str())));
    put(name::COUNTER, Some(number(row.counter)));
    put(name::CHECKPOINT, Some(text(row.checkpoint.checkpoint())));
    put(name::CHECKPOINT_SUB, Some(number(row.checkpoint.sub())));
    put(name::OWNER_SWITCHES, Some(number(row.owner_switches)));
    put(name::PARENTS, set(&row.parents, ShardId::as_str));
    put(name::CHILDREN, set(&row.children, ShardId::as_str));
    put(name::HASH_START, row.hash_range.map(|range| text(range.start.to_string())));
    put(name::HASH_END, row.hash_range.map(|range| text(range.end.to_string())));
    put(name::THROUGHPUT, row.throughput.map(encode_throughput));
    put(name::TENURE, row.tenure.map(|tenure| bytes(&tenure.0)));
    put(name::OWN_CHECKPOINT, row.own_checkpoint.as_ref().map(|position| text(position.checkpoint())));
    put(name::OWN_SUB, row.own_checkpoint.as_ref().map(|position| number(position.sub())));
    put(name::GENERATION, (row.generation.0 > 0).then(|| number(row.generation.0)));
    put(name::START, row.start.map(|start| number(start.0)));
    put(name::STREAM, row.stream.as_deref().map(bytes));
    put(name::NEXT, row.next.as_ref().map(|next| text(next.as_str())));
    put(name::OFF, set(&row.off, DestinationId::as_str));
    put(name::VERSION, row.version.map(number));
    for (id, position) in &row.destinations {
        put(&destination_attribute(id), Some(encode_destination(position)));
    }
    item
}

#[cfg(test)]
mod tests;
