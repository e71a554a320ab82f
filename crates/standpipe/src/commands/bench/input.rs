//! The lines of a file, or records of a shape -> what stages are given.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use flate2::write::GzEncoder;
use standpipe_convert::{Column, ColumnType, Columns, Inferring};
use standpipe_flow::{Chunk, LeaseKey, Millis, Position, Record, SequenceNumber, Taken, Tenure};

use super::records::Shape;
use crate::lines::Lines;

/// More of a file is not read: a stage goes over its input several times.
const INPUT_BYTES_MAX: usize = 64 << 20;
/// What records had before they were made up: 2026-01-31 12:00 UTC.
const ARRIVAL: Millis = Millis(1_769_860_800_000);

/// The records that are measured.
#[derive(Debug)]
pub struct Input {
    /// Where they are from.
    pub name: String,
    /// One a line.
    pub lines: Vec<Bytes>,
    /// The columns that hold them; `None` if they are no JSON objects.
    pub columns: Option<Columns>,
    /// Whether there were more.
    pub cut: bool,
}

impl Input {
    /// The first lines of a file.
    pub fn read(path: &Path) -> Result<Self> {
        let mut file = Lines::open(path)?;
        let (mut lines, mut bytes, mut cut) = (Vec::new(), 0, false);
        while let Some(line) = file.next()? {
            if bytes + line.len() > INPUT_BYTES_MAX && !lines.is_empty() {
                cut = true;
                break;
            }
            bytes += line.len();
            if !line.is_empty() {
                lines.push(Bytes::from(line));
            }
        }
        if lines.is_empty() {
            bail!("there is no record in {}", path.display());
        }
        Ok(Self::of(path.display().to_string(), lines, cut))
    }

    /// Records of a shape.
    pub fn made_up(shape: Shape) -> Self {
        Self::of(shape.name().to_owned(), shape.records(), false)
    }

    fn of(name: String, lines: Vec<Bytes>, cut: bool) -> Self {
        let mut inferring = Inferring::default();
        lines.iter().zip(1..).for_each(|(line, number)| inferring.line(number, line));
        let inferred = inferring.finish();
        let columns = inferred.columns.filter(|_| inferred.rejected * 2 < inferred.lines);
        Self { name, lines, columns, cut }
    }

    /// Bytes of the lines: what a GB is a GB of.
    pub fn bytes(&self) -> u64 {
        self.lines.iter().map(|line| line.len() as u64).sum()
    }

    /// A record a line.
    pub fn records(&self) -> Vec<Record> {
        records(self.lines.iter().cloned())
    }

    /// A record of so many lines, which end in line feeds.
    pub fn joined(&self, lines: usize) -> impl Iterator<Item = Bytes> {
        self.lines.chunks(lines).map(|lines| {
            let text = |line: &Bytes| [line, &b"\n"[..]].concat();
            lines.iter().flat_map(text).collect::<Vec<u8>>().into()
        })
    }

    /// Envelopes of CloudWatch Logs with so many lines each.
    pub fn envelopes(&self, lines: usize) -> Result<Vec<Bytes>> {
        let envelope = |lines: &[Bytes]| {
            let event = |(line, id): (&Bytes, u64)| serde_json::json!({ "id": id.to_string(), "timestamp": ARRIVAL.0, "message": String::from_utf8_lossy(line) });
            let events: Vec<_> = lines.iter().zip(0..).map(event).collect();
            let envelope = serde_json::json!({
                "messageType": "DATA_MESSAGE", "owner": "111122223333", "logGroup": "orders", "logStream": "web",
                "subscriptionFilters": ["all"], "logEvents": events,
            });
            Ok(serde_json::to_vec(&envelope)?.into())
        };
        self.lines.chunks(lines).map(envelope).collect()
    }

    /// Names of the first columns that hold texts, numbers or booleans.
    pub fn keys(&self) -> Vec<&str> {
        let plain = |column: &&Column| {
            !matches!(column.kind, ColumnType::Array(_) | ColumnType::Map(..) | ColumnType::Struct(_))
        };
        let columns = self.columns.as_ref().map(Columns::as_slice).unwrap_or_default();
        columns.iter().filter(plain).map(|column| column.name.as_str()).collect()
    }
}

/// Records of a shard, as they were read.
pub fn records(data: impl IntoIterator<Item = Bytes>) -> Vec<Record> {
    let keys: Vec<Arc<str>> = (0..100).map(|key| format!("key-{key}").into()).collect();
    let record = |(data, number): (Bytes, usize)| Record {
        data,
        partition_key: keys[number % keys.len()].clone(),
        // As long as the service makes them.
        sequence: SequenceNumber::parse(format!("49654346307654800757710509270303956035997522{number:012}"))
            .expect("these are digits"),
        sub: 0,
        arrival: ARRIVAL,
        transformed: None,
        partition: None,
    };
    data.into_iter().zip(1..).map(record).collect()
}

/// The lease of the shard that records are of.
pub fn lease() -> LeaseKey {
    LeaseKey::new("shardId-000000000000")
}

/// What one read would return.
pub fn chunk(records: Vec<Record>) -> Chunk {
    Chunk {
        lease: lease(),
        tenure: Tenure([0; 16]),
        from: Position::TrimHorizon,
        to: records.last().map_or(Position::TrimHorizon, Record::position),
        memory_bytes: records.iter().map(|record| record.data.len()).sum(),
        records,
        rejected: Vec::new(),
        originals: Arc::default(),
        behind: Duration::ZERO,
        taken: Taken::default(),
    }
}

/// Each packed by gzip, as producers do.
pub fn gzipped(records: impl Iterator<Item = Bytes>) -> Result<Vec<Bytes>> {
    let packed = |data: Bytes| {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&data).context("cannot pack a record")?;
        Ok(encoder.finish().context("cannot pack a record")?.into())
    };
    records.map(packed).collect()
}
