//! `commit -> publish`: the statements of a load as text. PURE.
//!
//! One batch, one transaction: the ledger is locked FIRST, so that the transaction's snapshot is taken after it (a
//! warehouse with snapshot isolation would else not see what the one before wrote); the guard divides by zero if the commit
//! is in the ledger, and everything rolls back; COPY; one row of the ledger for each shard.
//! Invariants: every name is quoted, every text is a literal without a backslash; nothing of a record stands in SQL.
//! Never: sends anything.

use std::fmt::Write;

use standpipe_flow::hash::hash64;
use standpipe_flow::{CommitId, ReceiptShard};

/// What the ledger's `manifest` says of a commit that was taken back: no load of it can be made any more.
pub(super) const RETRACTED: &str = "retracted";
/// Bytes of a name: Amazon Redshift, "Names and identifiers".
const NAME_BYTES_MAX: usize = 127;
/// What the ledger's name begins with; the table's name is behind it, in the table's schema.
const LEDGER: &str = "standpipe_ledger_";
/// Days that a row of the ledger is kept. An error manifest of 60 days may still be loaded.
const KEEP_DAYS: u32 = 90;

/// The table that is loaded, and how: names not yet quoted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopyInto {
    /// The schema.
    pub schema: String,
    /// The table.
    pub table: String,
    /// The columns; empty for all.
    pub columns: Vec<String>,
    /// The role or roles that read the bucket; `None` for the warehouse's default.
    pub role: Option<String>,
    /// The region of the bucket, where COPY must be told.
    pub region: Option<String>,
    /// Further options, checked by the config: words, numbers and whole literals.
    pub options: String,
    /// Rows that COPY may refuse.
    pub errors_max: u32,
}

impl CopyInto {
    /// `schema.table`, for people.
    pub(super) fn shown(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }

    /// The ledger's name, not quoted: beside the table, one for each.
    pub(super) fn ledger_name(&self) -> String {
        let name = format!("{LEDGER}{}", self.table);
        if name.len() <= NAME_BYTES_MAX {
            return name;
        }
        let hash = format!("_{:016x}", hash64(&[self.table.as_bytes()]));
        let mut end = NAME_BYTES_MAX - hash.len();
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        format!("{}{hash}", &name[..end])
    }

    pub(super) fn ledger(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.ledger_name()))
    }

    pub(super) fn target(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.table))
    }

    /// Makes the ledger.
    pub(super) fn create_ledger(&self) -> String {
        format!(
            "CREATE TABLE IF NOT EXISTS {} (cid VARCHAR(26) NOT NULL, shard VARCHAR(256) NOT NULL, \
             from_position VARCHAR(256) NOT NULL, to_position VARCHAR(256) NOT NULL, stream VARCHAR(512) NOT NULL, \
             table_name VARCHAR(512) NOT NULL, records BIGINT NOT NULL, loaded_at TIMESTAMP NOT NULL, \
             manifest VARCHAR(2048) NOT NULL)",
            self.ledger()
        )
    }

    /// Which of the table and its ledger are there. Redshift keeps names in small letters unless it is told otherwise.
    pub(super) fn find_tables(&self) -> String {
        let small = |name: &str| text(&name.to_lowercase());
        format!(
            "SELECT LOWER(table_name) FROM information_schema.tables WHERE LOWER(table_schema) = {} AND \
             LOWER(table_name) IN ({}, {})",
            small(&self.schema),
            small(&self.table),
            small(&self.ledger_name())
        )
    }

    /// What the ledger says of a commit: no row, or its manifest, or [`RETRACTED`]. Under the ledger's lock, like a load:
    /// a snapshot from before the end of the load that held it would not show what that load wrote.
    pub(super) fn ask_ledger(&self, cid: CommitId) -> [String; 2] {
        let (ledger, cid) = (self.ledger(), text(&cid.to_string()));
        [format!("LOCK TABLE {ledger}"), format!("SELECT manifest FROM {ledger} WHERE cid = {cid} LIMIT 1")]
    }

    /// Forgets what is old.
    pub(super) fn prune_ledger(&self) -> [String; 2] {
        let ledger = self.ledger();
        [
            format!("LOCK TABLE {ledger}"),
            format!("DELETE FROM {ledger} WHERE loaded_at < DATEADD(day, -{KEEP_DAYS}, SYSDATE)"),
        ]
    }

    fn guarded(&self, cid: CommitId) -> [String; 2] {
        let ledger = self.ledger();
        let cid = text(&cid.to_string());
        [format!("LOCK TABLE {ledger}"), format!("SELECT 1/(1-LEAST(COUNT(*),1)) FROM {ledger} WHERE cid = {cid}")]
    }

    /// The guarded load of one commit.
    pub(super) fn load(&self, load: &Load<'_>) -> Vec<String> {
        let mut batch = Vec::from(self.guarded(load.cid));
        batch.push(self.copy(load.manifest_url));
        batch.push(self.insert(load));
        batch
    }

    /// The same for a commit that is known to be not taken back: whoever wrote that it was came too late.
    pub(super) fn load_in_spite(&self, load: &Load<'_>) -> Vec<String> {
        let mut batch = self.load(load);
        let (ledger, cid) = (self.ledger(), text(&load.cid.to_string()));
        batch.insert(1, format!("DELETE FROM {ledger} WHERE cid = {cid} AND manifest = {}", text(RETRACTED)));
        batch
    }

    /// Writes down that a commit is taken back: the same guard, no COPY. After it no load of the commit can be made.
    pub(super) fn fence(&self, load: &Load<'_>) -> Vec<String> {
        let mut batch = Vec::from(self.guarded(load.cid));
        batch.push(self.insert(&Load { manifest_url: RETRACTED, records: 0, ..*load }));
        batch
    }

    fn copy(&self, manifest_url: &str) -> String {
        let mut sql = format!("COPY {}", self.target());
        if !self.columns.is_empty() {
            let columns: Vec<String> = self.columns.iter().map(|column| quoted(column)).collect();
            let _ = write!(sql, " ({})", columns.join(", "));
        }
        let _ = write!(sql, " FROM {} ", text(manifest_url));
        match self.role.as_deref() {
            None | Some("default") => sql.push_str("IAM_ROLE default MANIFEST"),
            Some(role) => drop(write!(sql, "IAM_ROLE {} MANIFEST", text(role))),
        }
        if let Some(region) = &self.region {
            let _ = write!(sql, " REGION {}", text(region));
        }
        if !self.options.is_empty() {
            let _ = write!(sql, " {}", self.options);
        }
        sql
    }

    fn insert(&self, load: &Load<'_>) -> String {
        let row = |shard: &ShardRange| {
            format!(
                "({}, {}, {}, {}, {}, {}, {}, SYSDATE, {})",
                text(&load.cid.to_string()),
                bounded(&shard.shard, 256),
                bounded(&shard.from, 256),
                bounded(&shard.to, 256),
                bounded(load.stream, 512),
                bounded(&self.shown(), 512),
                load.records,
                bounded(load.manifest_url, 2048),
            )
        };
        let rows: Vec<String> = load.shards.iter().map(row).collect();
        format!(
            "INSERT INTO {} (cid, shard, from_position, to_position, stream, table_name, records, loaded_at, manifest) \
             VALUES {}",
            self.ledger(),
            rows.join(", ")
        )
    }

    /// The rows that COPY refused of a load, at most 100: of one query, or of the last one that read its objects.
    pub(super) fn refused_rows(cid: CommitId, query: Option<i64>) -> String {
        let of_files = format!("file_name LIKE {}", text(&format!("%{cid}%")));
        let of_query = match query {
            Some(query) => format!("query_id = {query}"),
            None => format!("query_id = (SELECT MAX(query_id) FROM sys_load_error_detail WHERE {of_files})"),
        };
        format!(
            "SELECT file_name, line_number, column_name, column_type, position, error_code, error_message \
             FROM sys_load_error_detail WHERE {of_files} AND {of_query} ORDER BY file_name, line_number LIMIT 100"
        )
    }
}

/// What one load covers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load<'a> {
    pub(super) cid: CommitId,
    /// `s3://` and where the manifest is.
    pub(super) manifest_url: &'a str,
    pub(super) shards: &'a [ShardRange],
    pub(super) stream: &'a str,
    /// Of the whole commit.
    pub(super) records: u64,
}

/// One shard of a load, as the ledger and an error manifest name it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShardRange {
    /// The lease key.
    pub shard: String,
    /// Where the range begins (exclusive).
    pub from: String,
    /// Where it ends (inclusive).
    pub to: String,
}

impl ShardRange {
    pub(super) fn of(shard: &ReceiptShard) -> Self {
        Self { shard: shard.lease.to_string(), from: shard.from.to_string(), to: shard.to.to_string() }
    }
}

/// A name between double quotes.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A literal: the same text whether a backslash escapes or not, because none is in it.
pub(super) fn text(text: &str) -> String {
    let safe = |c: char| if c == '\\' || c.is_control() { '_' } else { c };
    let text: String = text.chars().map(safe).collect();
    format!("'{}'", text.replace('\'', "''"))
}

/// The literal of a text for a column of so many bytes.
fn bounded(value: &str, bytes: usize) -> String {
    let mut end = value.len().min(bytes);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    text(&value[..end])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use standpipe_flow::Millis;

    use super::*;

    pub(crate) fn into() -> CopyInto {
        CopyInto {
            schema: "public".to_owned(),
            table: "orders".to_owned(),
            columns: vec!["id".to_owned(), "total".to_owned()],
            role: Some("arn:aws:iam::111122223333:role/copy".to_owned()),
            region: Some("eu-west-1".to_owned()),
            options: "JSON 'auto' GZIP".to_owned(),
            errors_max: 0,
        }
    }

    fn cid() -> CommitId {
        CommitId::new(Millis(1_790_000_000_000), 0xABCDE, 16)
    }

    fn shards() -> Vec<ShardRange> {
        let shard = |n: u8| ShardRange { shard: format!("shardId-{n}"), from: "TRIM_HORIZON".into(), to: "49".into() };
        vec![shard(0), shard(1)]
    }

    #[test]
    fn a_load_is_one_guarded_batch() {
        let (cid, shards) = (cid(), shards());
        let load =
            Load { cid, manifest_url: "s3://b/manifests/m", shards: &shards, stream: "arn:aws:kinesis:x", records: 7 };
        let batch = into().load(&load);
        assert_eq!(
            batch,
            [
                "LOCK TABLE \"public\".\"standpipe_ledger_orders\"".to_owned(),
                format!(
                    "SELECT 1/(1-LEAST(COUNT(*),1)) FROM \"public\".\"standpipe_ledger_orders\" WHERE cid = '{cid}'"
                ),
                "COPY \"public\".\"orders\" (\"id\", \"total\") FROM 's3://b/manifests/m' IAM_ROLE \
                 'arn:aws:iam::111122223333:role/copy' MANIFEST REGION 'eu-west-1' JSON 'auto' GZIP"
                    .to_owned(),
                format!(
                    "INSERT INTO \"public\".\"standpipe_ledger_orders\" (cid, shard, from_position, to_position, stream, \
                     table_name, records, loaded_at, manifest) VALUES \
                     ('{cid}', 'shardId-0', 'TRIM_HORIZON', '49', 'arn:aws:kinesis:x', 'public.orders', 7, SYSDATE, \
                     's3://b/manifests/m'), \
                     ('{cid}', 'shardId-1', 'TRIM_HORIZON', '49', 'arn:aws:kinesis:x', 'public.orders', 7, SYSDATE, \
                     's3://b/manifests/m')"
                ),
            ]
        );
        let in_spite = into().load_in_spite(&load);
        let forget = format!(
            "DELETE FROM \"public\".\"standpipe_ledger_orders\" WHERE cid = '{cid}' AND manifest = 'retracted'"
        );
        assert!(in_spite[1] == forget && in_spite[0] == batch[0] && in_spite[2..] == batch[1..], "{in_spite:?}");
        let fence = into().fence(&load);
        assert!(fence[..2] == batch[..2] && fence.len() == 3 && fence[2].contains("'retracted'"), "{fence:?}");
    }

    #[test]
    fn without_a_role_the_default_is_named_and_without_columns_none() {
        let bare = CopyInto { columns: Vec::new(), role: None, region: None, options: "CSV".to_owned(), ..into() };
        assert_eq!(bare.copy("s3://b/m"), "COPY \"public\".\"orders\" FROM 's3://b/m' IAM_ROLE default MANIFEST CSV");
    }

    #[test]
    fn the_name_of_a_ledger_is_no_longer_than_redshift_takes() {
        let named = |table: &str| CopyInto { table: table.to_owned(), ..into() }.ledger_name();
        assert_eq!(named("t"), "standpipe_ledger_t");
        let (first, second) = (named(&"é".repeat(63)), named(&format!("{}a", "é".repeat(62))));
        assert!(first.len() <= NAME_BYTES_MAX && second.len() <= NAME_BYTES_MAX && first != second);
    }

    proptest! {
        /// However a reader takes backslashes, what stands between the quotes is the text and ends where it ends.
        #[test]
        fn no_text_leaves_its_literal(value in "(\\PC|'|\\\\|\"|;|\n){0,40}", bytes in 0..40_usize) {
            for literal in [text(&value), bounded(&value, bytes)] {
                let inner = literal.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).expect("quotes");
                prop_assert!(!inner.contains('\\') && !inner.replace("''", "").contains('\''));
            }
            let name = quoted(&value);
            let inner = &name[1..name.len() - 1];
            prop_assert!(!inner.replace("\"\"", "").contains('"'));
        }
    }
}
