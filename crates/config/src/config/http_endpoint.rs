//! What the user wrote -> what it means, of an HTTP endpoint.
//!
//! Never: a secret itself.

use std::path::PathBuf;
use std::time::Duration;

use standpipe_flow::DestinationId;

use super::{Backup, Refused, RetryFor};
use crate::secrets::SecretRef;
use crate::template::Template;

/// Requests by Firehose's delivery protocol.
#[derive(Clone, PartialEq)]
pub struct HttpEndpoint {
    /// The id, `http` by default.
    pub id: DestinationId,
    /// Where requests go; may hold a token, and is not to be shown.
    pub url: String,
    /// `X-Amz-Firehose-Access-Key`.
    pub access_key: Option<SecretRef>,
    /// Requests are compressed.
    pub gzip: bool,
    /// Common attributes, in the order of the file.
    pub common_attributes: Vec<(String, String)>,
    /// Further headers, in the order of the file.
    pub headers: Vec<(String, SecretRef)>,
    /// Any status of success acknowledges.
    pub any_2xx: bool,
    /// `X-Amz-Firehose-Source-Arn`; `None`: made of pipeline and stream.
    pub source_arn: Option<String>,
    /// The certificates of the CAs that are trusted; `None`: the machine's.
    pub ca_file: Option<PathBuf>,
    /// Addresses of private networks are connected to.
    pub allow_private: bool,
    /// Bytes of records that make one batch, and that one request has at most.
    pub buffer_bytes: u64,
    /// The age of the oldest record that makes a batch; zero for no waiting.
    pub buffer_interval: Duration,
    /// How long one batch may be refused.
    pub retry: RetryFor,
    /// Where records lie that were not taken; there unless it is tried for ever.
    pub refused: Option<Refused>,
    /// Where records are kept as they were read; `None` for nowhere.
    pub backup: Option<Backup>,
    /// A jq program that says which records this destination gets; `None` for all. It has been compiled once.
    pub when: Option<String>,
}

impl HttpEndpoint {
    /// Scheme, host and port of the address: what may be shown of it.
    #[must_use]
    pub fn shown(&self) -> &str {
        let begin = self.url.find("://").map_or(0, |at| at + 3);
        let end = self.url[begin..].find(['/', '?']).map_or(self.url.len(), |at| begin + at);
        &self.url[..end]
    }

    /// The beginning of the keys of error records.
    #[must_use]
    pub fn error_prefix(&self) -> Option<&Template> {
        self.refused.as_ref().map(|refused| &refused.error_prefix)
    }
}

impl std::fmt::Debug for HttpEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpEndpoint").field("id", &self.id).field("at", &self.shown()).finish_non_exhaustive()
    }
}
