//! What the user wrote -> what it means, of a Redshift destination.
//!
//! Never: SQL that was not checked; a secret itself.

use std::time::Duration;

use standpipe_flow::DestinationId;

use super::{Backup, Parquet, StagingCompression};
use crate::template::Template;

/// Rows in a table of Redshift.
#[derive(Debug, Clone, PartialEq)]
pub struct Redshift {
    /// The id, `redshift` by default.
    pub id: DestinationId,
    /// Which warehouse.
    pub target: RedshiftTarget,
    /// The database.
    pub database: String,
    /// As whom statements run.
    pub auth: RedshiftAuth,
    /// Where objects lie between this process and COPY.
    pub staging: Staging,
    /// What COPY is told.
    pub copy: Copy,
    /// What a staged object holds.
    pub format: RedshiftFormat,
    /// The beginning of the keys of error objects, in the staging bucket.
    pub error_prefix: Template,
    /// Bytes of records before compression that make one load.
    pub buffer_bytes: u64,
    /// The age of the oldest record that makes a load; zero for no waiting.
    pub buffer_interval: Duration,
    /// How long one load may be refused before it is given up.
    pub retry: Duration,
    /// A jq program that says which records this destination gets; `None` for all. It has been compiled once.
    pub when: Option<String>,
    /// Where records are kept as they were read; `None` for nowhere.
    pub backup: Option<Backup>,
}

/// Which warehouse of Redshift.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedshiftTarget {
    /// A workgroup of Redshift Serverless.
    Workgroup(String),
    /// A provisioned cluster.
    Cluster(String),
}

/// As whom statements run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedshiftAuth {
    /// The database user of this process's IAM identity.
    Identity,
    /// The user in a secret of this name or ARN, which Redshift reads by itself.
    Secret(String),
    /// This database user of a cluster, by temporary credentials.
    User(String),
}

/// Where objects lie between this process and COPY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staging {
    /// The bucket's name.
    pub bucket: String,
    /// The beginning of keys: no expression, no quote, no backslash.
    pub prefix: String,
    /// The compression of objects of lines.
    pub compression: StagingCompression,
    /// The bucket's region, where it is not that of the table.
    pub region: Option<String>,
    /// The KMS key of the objects; `None` for what the bucket says.
    pub kms_key: Option<String>,
    /// The account that must own the bucket.
    pub bucket_owner: Option<String>,
}

/// What COPY is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// The table's schema: a name, not yet quoted.
    pub schema: String,
    /// The table: a name, not yet quoted.
    pub table: String,
    /// The columns that are loaded, not yet quoted; empty for all.
    pub columns: Vec<String>,
    /// The role that reads the bucket, or several with commas; `None` for the warehouse's default.
    pub role: Option<String>,
    /// Format, compression and further options, as SQL that has been checked.
    pub options: String,
    /// Rows of one load that COPY may refuse before it fails as a whole.
    pub errors_max: u32,
}

/// What a staged object of Redshift holds.
#[derive(Debug, Clone, PartialEq)]
pub enum RedshiftFormat {
    /// JSON objects.
    JsonLines,
    /// Lines of values.
    Csv,
    /// A table as a Parquet file.
    Parquet(Box<Parquet>),
}
