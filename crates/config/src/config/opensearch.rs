//! What the user wrote -> what it means, of an OpenSearch destination.
//!
//! Never: a secret itself.

use std::path::PathBuf;
use std::time::Duration;

use standpipe_flow::DestinationId;

use super::{Backup, Rotation};
use crate::secrets::SecretRef;
use crate::template::Template;

/// Documents in OpenSearch or Elasticsearch.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenSearch {
    /// The id, `opensearch` by default.
    pub id: DestinationId,
    /// Where its servers answer, without a slash at the end; at least one.
    pub endpoints: Vec<String>,
    /// As whom we come.
    pub auth: OpenSearchAuth,
    /// The certificates of the CAs that are trusted; `None`: the machine's.
    pub ca_file: Option<PathBuf>,
    /// Addresses of private networks are connected to.
    pub allow_private: bool,
    /// The index, or what its name begins with; or the data stream.
    pub index: String,
    /// How often there is a new index.
    pub rotation: Rotation,
    /// What the id of a document is.
    pub document_id: DocumentId,
    /// `index` is a data stream.
    pub data_stream: bool,
    /// A jq program that gives the routing; it has been compiled once.
    pub routing: Option<String>,
    /// Requests are compressed.
    pub gzip: bool,
    /// Bytes of records that make one batch.
    pub buffer_bytes: u64,
    /// The age of the oldest record that makes a batch; zero for no waiting.
    pub buffer_interval: Duration,
    /// How long one batch may be refused.
    pub retry: RetryFor,
    /// Where records lie that were refused for good; there unless it is tried for ever.
    pub refused: Option<Refused>,
    /// Where records are kept as they were read; `None` for nowhere.
    pub backup: Option<Backup>,
    /// A jq program that says which records this destination gets; `None` for all. It has been compiled once.
    pub when: Option<String>,
}

/// As whom requests to OpenSearch are made.
#[derive(Debug, Clone, PartialEq)]
pub enum OpenSearchAuth {
    /// As nobody.
    None,
    /// By user and password.
    Basic {
        /// The user.
        user: String,
        /// Where the password is.
        password: SecretRef,
    },
    /// As an identity of AWS.
    SigV4 {
        /// A collection of OpenSearch Serverless (`aoss`), not a domain (`es`).
        serverless: bool,
        /// The region; `None` for `aws.region`.
        region: Option<String>,
    },
}

/// What the id of a document is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentId {
    /// A function of the record's place in its stream.
    Generated,
    /// The server's.
    None,
    /// What a jq program gives.
    Expression {
        /// The program; it has been compiled once.
        program: String,
        /// The first document of an id stays; otherwise the last one.
        create: bool,
    },
}

/// How long a batch may be refused by a server that answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RetryFor {
    /// Half of the time that the stream keeps records.
    #[default]
    UntilRetention,
    /// So long.
    Time(Duration),
    /// Without end.
    Forever,
}

/// Where records lie that were refused for good.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// The bucket.
    pub bucket: String,
    /// The beginning of the keys.
    pub error_prefix: Template,
    /// The KMS key; `None` for what the bucket says.
    pub kms_key: Option<String>,
    /// The account that must own the bucket.
    pub bucket_owner: Option<String>,
}
