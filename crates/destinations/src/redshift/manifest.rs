//! `commit -> publish`: the manifest that COPY reads, and the one that is left of a load that was given up. PURE.
//!
//! Both come from the receipt alone, so that whoever publishes it writes the same bytes under the same key.
//! Never: reads or writes S3.

use jiff::tz::TimeZone;
use serde_json::{Value, json};
use standpipe_flow::{CommitId, DestinationId, Millis, Output, Receipt};

use super::outcome::Failure;
use super::sql::ShardRange;
use super::{RedshiftSettings, Warehouse};

/// The form of what is ours in an error manifest.
const VERSION: u64 = 1;

/// `yyyy/MM/dd/HH/` of an instant, in UTC.
fn hour(at: Millis) -> String {
    let at = crate::java_time::zoned(at, &TimeZone::UTC);
    let (date, time) = (at.date(), at.time());
    format!("{:04}/{:02}/{:02}/{:02}/", date.year(), date.month(), date.day(), time.hour())
}

/// Where what belongs to a commit lies: by the hour in which S3 saw its first object, or in which its id was made.
pub(super) fn key(prefix: &str, folder: &str, (cid, created_at): (CommitId, Millis)) -> String {
    format!("{prefix}{folder}{}{cid}.json", hour(created_at))
}

/// What a commit's own objects are named by.
pub(super) fn named(receipt: &Receipt) -> (CommitId, Millis) {
    (receipt.cid, created_at(receipt))
}

/// `entries`: every object must be there, and is as long as it was when it was staged.
fn entries(objects: &[Output]) -> Value {
    let entry = |object: &Output| {
        let url = format!("s3://{}/{}", object.bucket, object.key);
        json!({ "url": url, "mandatory": true, "meta": { "content_length": object.size } })
    };
    objects.iter().map(entry).collect()
}

/// What COPY reads.
pub(super) fn manifest(objects: &[Output]) -> Vec<u8> {
    json!({ "entries": entries(objects) }).to_string().into_bytes()
}

/// One row that COPY refused.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct RefusedRow {
    pub(super) file: String,
    pub(super) line: Option<u64>,
    pub(super) column: String,
    pub(super) column_type: String,
    pub(super) position: Option<u64>,
    pub(super) code: String,
    pub(super) message: String,
}

impl RefusedRow {
    /// A row of the question that `CopyInto::refused_rows` is.
    pub(super) fn of(row: &[Option<String>]) -> Self {
        let text = |n: usize| row.get(n).cloned().flatten().unwrap_or_default().trim().to_owned();
        let number = |n: usize| text(n).parse().ok();
        Self {
            file: text(0),
            line: number(1),
            column: text(2),
            column_type: text(3),
            position: number(4),
            code: text(5),
            message: text(6),
        }
    }

    fn json(&self) -> Value {
        json!({
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "columnType": self.column_type,
            "position": self.position,
            "code": self.code,
            "message": self.message,
        })
    }

    /// What may stand in a log: which row and column, no value.
    pub(super) fn shown(&self) -> String {
        let line = self.line.map_or_else(String::new, |line| format!("line {line}, "));
        format!("{line}column {:?}, load error {}, in {}", self.column, self.code, self.file)
    }
}

/// Error lines for rows that COPY refused of a load that took effect, one a row: the members of Firehose's error records
/// that are known, and where the record lies.
pub(super) fn refused_lines(cid: CommitId, rows: &[RefusedRow]) -> Vec<u8> {
    let mut lines = Vec::new();
    for row in rows {
        let line = json!({
            "attemptsMade": 1,
            "errorCode": "Redshift.DataLoadFailed",
            "errorMessage": row.message,
            "cid": cid.to_string(),
            "load": row.json(),
        });
        lines.extend_from_slice(line.to_string().as_bytes());
        lines.push(b'\n');
    }
    lines
}

/// A load that was given up: what COPY reads, and all that a later load needs to be the same one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ErrorManifest {
    /// The commit: a later load is made under the same id, which the ledger knows once.
    pub cid: CommitId,
    /// The destination's id.
    pub destination: DestinationId,
    /// `schema.table`.
    pub table: String,
    /// Which database of what it is in, if that was written down.
    pub warehouse: Option<String>,
    /// The stream.
    pub stream: String,
    /// The ranges of the commit.
    pub shards: Vec<ShardRange>,
    /// Records in its objects.
    pub records: u64,
    /// When S3 saw the first object of the commit, by its own time.
    pub created_at: Millis,
    /// `s3://` addresses of the objects.
    pub objects: Vec<String>,
    /// Why it was given up: a code, and what Redshift said.
    pub why: String,
}

/// Writes the manifest of a load that was given up.
pub(super) fn given_up(
    receipt: &Receipt,
    objects: &[Output],
    RedshiftSettings { warehouse, copy, stream, .. }: &RedshiftSettings,
    (failure, message, rows): (Failure, &str, &[RefusedRow]),
) -> Vec<u8> {
    let range = |shard| {
        let ShardRange { shard, from, to } = ShardRange::of(shard);
        json!({ "shard": shard, "after": from, "to": to })
    };
    let records: u64 = objects.iter().map(|object| object.records).sum();
    let text = json!({
        "entries": entries(objects),
        "standpipe": {
            "version": VERSION,
            "cid": receipt.cid.to_string(),
            "destination": receipt.destination.as_str(),
            "table": copy.shown(),
            "workgroup": warehouse.workgroup,
            "cluster": warehouse.cluster,
            "database": warehouse.database,
            "stream": stream,
            "ranges": receipt.shards.iter().map(range).collect::<Vec<_>>(),
            "records": records,
            "createdAt": created_at(receipt).0,
            "errorCode": failure.code,
            "errorMessage": message,
            "refusedRows": rows.iter().map(RefusedRow::json).collect::<Vec<_>>(),
        },
    });
    text.to_string().into_bytes()
}

fn created_at(receipt: &Receipt) -> Millis {
    // A cid begins with the milliseconds of its making.
    let made = receipt.cid.0[..6].iter().fold(0, |time, byte| (time << 8) | u64::from(*byte));
    receipt.created_at.unwrap_or(Millis(made))
}

impl ErrorManifest {
    /// Reads one; the error says what is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(text).map_err(|_| "it is no JSON".to_owned())?;
        let ours = &value["standpipe"];
        if ours["version"].as_u64() != Some(VERSION) {
            return Err("it is no error manifest of a form that this version knows".to_owned());
        }
        let text =
            |name: &str| ours[name].as_str().map(str::to_owned).ok_or_else(|| format!("`standpipe.{name}` is missing"));
        let number = |name: &str| ours[name].as_u64().ok_or_else(|| format!("`standpipe.{name}` is missing"));
        let ranges = ours["ranges"].as_array().ok_or("`standpipe.ranges` is missing")?;
        let range = |range: &Value| {
            let part = |name: &str| range[name].as_str().map(str::to_owned);
            Some(ShardRange { shard: part("shard")?, from: part("after")?, to: part("to")? })
        };
        let entries = value["entries"].as_array().ok_or("`entries` is missing")?;
        let url = |entry: &Value| entry["url"].as_str().map(str::to_owned);
        let of = |name: &str| ours[name].as_str().map(str::to_owned);
        let warehouse = |database: String| {
            let (workgroup, cluster) = (of("workgroup"), of("cluster"));
            Warehouse { workgroup, cluster, database, ..Warehouse::default() }.shown()
        };
        Ok(Self {
            cid: CommitId::parse(&text("cid")?).ok_or("`standpipe.cid` is no commit id")?,
            destination: DestinationId::new(text("destination")?),
            table: text("table")?,
            warehouse: of("database").map(warehouse),
            stream: text("stream")?,
            shards: ranges.iter().map(range).collect::<Option<_>>().ok_or("a range is not whole")?,
            records: number("records")?,
            created_at: Millis(number("createdAt")?),
            objects: entries.iter().map(url).collect::<Option<_>>().ok_or("an entry has no `url`")?,
            why: format!("{}: {}", text("errorCode")?, text("errorMessage")?),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use standpipe_flow::conformance::{batch, receipt};
    use standpipe_flow::{Checksum, Held, OutputKind, Staged};

    use super::super::outcome::Meaning;
    use super::super::tests::settings;
    use super::*;

    fn output(key: &str) -> Output {
        Output {
            kind: OutputKind::Data,
            bucket: "b".to_owned(),
            key: key.to_owned(),
            held: Held::Object,
            size: 7,
            checksum: Checksum::Crc32(String::new()),
            records: 3,
        }
    }

    fn committed() -> Receipt {
        let cid = CommitId::new(Millis(1_790_000_000_000), 1, 16);
        let staged = Staged { outputs: vec![output("in/a"), output("in/b")], ..Staged::default() };
        receipt(cid, &batch(3), staged)
    }

    #[test]
    fn a_manifest_names_every_object_with_its_length() {
        let written = String::from_utf8(manifest(&committed().outputs)).expect("text");
        let entry =
            |key: &str| format!(r#"{{"url":"s3://b/in/{key}","mandatory":true,"meta":{{"content_length":7}}}}"#);
        assert_eq!(written, format!(r#"{{"entries":[{},{}]}}"#, entry("a"), entry("b")));
        let of = key("rs/", "manifests/", named(&committed()));
        assert_eq!(of, format!("rs/manifests/2026/09/21/14/{}.json", committed().cid));
    }

    #[test]
    fn an_error_manifest_reads_back() {
        let receipt = committed();
        let failure = Failure { code: "Redshift.TableNotFound", meaning: Meaning::Refused };
        let rows = [RefusedRow { line: Some(5), column: "id".into(), ..RefusedRow::default() }];
        let written = given_up(&receipt, &receipt.outputs, &settings(), (failure, "no table", &rows));
        let read = ErrorManifest::parse(&written).expect("ours");
        assert_eq!((read.cid, read.records, read.created_at), (receipt.cid, 6, Millis(1_790_000_000_000)));
        assert_eq!((read.table.as_str(), read.stream.as_str(), read.shards.len()), ("public.orders", "orders", 2));
        assert_eq!(read.warehouse.as_deref(), Some("database dev of workgroup analytics"));
        assert_eq!(read.objects, ["s3://b/in/a", "s3://b/in/b"]);
        assert_eq!(read.why, "Redshift.TableNotFound: no table");
        let copied: Value = serde_json::from_slice(&written).expect("JSON");
        assert_eq!(copied["entries"], entries(&receipt.outputs), "COPY reads it too");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(\\{|\\}|\"standpipe\"|:|\\{\"version\":1|,|\"cid\"|\"x\"|\\[|\\]|1){0,20}") {
            let _ = ErrorManifest::parse(text.as_bytes());
        }
    }
}
