//! Implements, of the arrow `what the user wrote -> what it means`: the left side of an `opensearch` destination.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Deserialize;

use super::s3::{BackupMode, BufferFile, Compression, EncryptionFile};
use super::words_or_settings;
use crate::decode::Located;
use crate::secrets::SecretRef;
use crate::text::{
    AccountText, BucketText, DestinationIdText, DocumentIdText, EndpointText, IndexText, JqText, NameText, PathText,
    PrefixText, RegionText, RetryText,
};

/// Documents in OpenSearch or Elasticsearch, one for each record.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "OpenSearch")]
pub(crate) struct OpenSearchFile {
    /// The name of this destination's position in the lease table; it must stay as long as the destination does.
    /// Default: the kind, `opensearch`.
    #[schemars(extend("default" = "opensearch"))]
    pub(crate) id: Option<Located<DestinationIdText>>,
    /// Where it answers: a domain, a collection, or a server of one's own.
    pub(crate) endpoint: Option<Located<EndpointText>>,
    /// Several servers of one cluster, in place of `endpoint`: they take turns.
    #[schemars(length(min = 1))]
    pub(crate) endpoints: Option<Located<Vec<Located<EndpointText>>>>,
    /// As whom we come. `sigv4`: as an identity of AWS. `basic`: by user and password. `none`: as nobody.
    pub(crate) auth: Located<OpenSearchAuthFile>,
    /// A file of certificates in PEM: of the CAs that are trusted in place of the machine's. Checks cannot be turned off.
    pub(crate) ca_file: Option<Located<PathText>>,
    /// Whether addresses of private networks, and the machine's own, are connected to. Default true: most clusters have
    /// no others. Link-local addresses and those of a cloud's metadata are never connected to.
    #[schemars(extend("default" = true))]
    pub(crate) allow_private: Option<bool>,
    /// The index, or what its name begins with where there is a rotation; or the data stream.
    pub(crate) index: Located<IndexText>,
    /// How often there is a new index, by the arrival of records (UTC): `daily` puts `-2026-01-31` behind its name,
    /// `hourly` `-2026-01-31-13`, `weekly` `-2026-w05` (ISO), `monthly` `-2026-01`. Default daily; none for a data stream.
    #[schemars(extend("default" = "daily"))]
    pub(crate) rotation: Option<Located<Rotation>>,
    /// The id of a document. `generated`: a function of the record's place in its stream, so that it is there once. `none`:
    /// the server's, which is cheaper, and a record that is sent again is there twice. Else a jq program over the record.
    /// Default generated.
    #[schemars(extend("default" = "generated"))]
    pub(crate) document_id: Option<Located<DocumentIdText>>,
    /// With ids of a jq program. `index`: the last document of an id stays. `create`: the first one stays, and another is
    /// an error record, `document-exists`. Default index.
    #[schemars(extend("default" = "index"))]
    pub(crate) action: Option<Located<Action>>,
    /// `index` is a data stream: documents are created, and one without `@timestamp` gets that of its arrival. Default
    /// false.
    #[schemars(extend("default" = false))]
    pub(crate) data_stream: Option<bool>,
    /// A jq program that gives the routing of a document; null for none. Default: none.
    pub(crate) routing: Option<Located<JqText>>,
    /// The compression of requests: `none` or `gzip`. Default none.
    #[schemars(extend("default" = "none"))]
    pub(crate) compression: Option<RequestCompression>,
    /// When documents are sent: at this size or after this time, whichever comes first.
    pub(crate) buffer: Option<BufferFile>,
    /// How long a batch may be refused.
    pub(crate) retry: Option<OpenSearchRetryFile>,
    /// Where records lie that were refused for good; needed unless `retry` is `for: forever`.
    pub(crate) backup: Option<Located<RefusedFile>>,
    /// A jq program that says of each record whether this destination gets it: its first output is neither false nor null.
    /// Default: every record.
    pub(crate) when: Option<Located<JqText>>,
}

/// As whom we come: a word, or a word with its settings.
#[derive(Debug, Deserialize)]
pub(crate) enum OpenSearchAuthFile {
    #[serde(rename = "none")]
    None,
    #[serde(rename = "sigv4")]
    SigV4(Option<SigV4File>),
    #[serde(rename = "basic")]
    Basic(Box<BasicFile>),
}

impl JsonSchema for OpenSearchAuthFile {
    fn schema_name() -> Cow<'static, str> {
        "OpenSearchAuth".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let sigv4 = generator.subschema_for::<SigV4File>();
        let basic = generator.subschema_for::<BasicFile>();
        words_or_settings(&["none", "sigv4"], &[("sigv4", sigv4), ("basic", basic)])
    }
}

/// Signatures of AWS.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SigV4")]
pub(crate) struct SigV4File {
    /// `es` for a domain, `aoss` for a collection of OpenSearch Serverless. Default: as the endpoint's name says, else es.
    pub(crate) service: Option<SigV4Service>,
    /// The region. Default: as the endpoint's name says, else `aws.region`.
    pub(crate) region: Option<Located<RegionText>>,
}

/// A service of AWS in signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(crate) enum SigV4Service {
    /// OpenSearch Service.
    Es,
    /// OpenSearch Serverless.
    Aoss,
}

/// User and password.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Basic")]
pub(crate) struct BasicFile {
    /// The user.
    pub(crate) user: Located<NameText>,
    /// The password: `{ env: NAME }` or `{ file: PATH }`, read anew for every request.
    pub(crate) password: Located<SecretRef>,
}

/// How often there is a new index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Rotation {
    /// Always the same one.
    None,
    /// Every hour.
    Hourly,
    /// Every day.
    Daily,
    /// Every week.
    Weekly,
    /// Every month.
    Monthly,
}

/// What becomes of a document whose id is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Action {
    /// It takes the other's place.
    #[default]
    Index,
    /// It becomes an error record.
    Create,
}

/// The compression of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(crate) enum RequestCompression {
    /// As they are.
    #[default]
    None,
    /// Gzip.
    Gzip,
}

/// How long a batch may be refused.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "OpenSearchRetry")]
pub(crate) struct OpenSearchRetryFile {
    /// How long documents of one batch may be refused for the moment by a server that answers, until they become error
    /// records: a time, `until_retention` (half of the time that the stream keeps records) or `forever`. `0s` gives up after
    /// the first try. A server that cannot be reached, or denies everything, never uses it up. Default until_retention.
    #[serde(rename = "for")]
    #[schemars(extend("default" = "until_retention"))]
    pub(crate) duration: Option<Located<RetryText>>,
}

/// Where records lie that were refused for good, and a backup.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RefusedRecords")]
pub(crate) struct RefusedFile {
    /// `failed_only`: records that were refused. `all`: every record as it was read, too. Default failed_only.
    #[schemars(extend("default" = "failed_only"))]
    pub(crate) mode: Option<Located<BackupMode>>,
    /// The bucket's name or ARN.
    pub(crate) bucket: Located<BucketText>,
    /// The beginning of the keys. Without any expression `yyyy/MM/dd/HH/` is put behind it.
    pub(crate) prefix: Option<Located<PrefixText>>,
    /// The beginning of the keys of refused records, with `!{firehose:error-output-type}`. Default:
    /// `<prefix><error-output-type>/yyyy/MM/dd/HH/`.
    pub(crate) error_prefix: Option<Located<PrefixText>>,
    /// The compression of the backup of all records; refused records are written as they are. Default none.
    #[schemars(extend("default" = "none"))]
    pub(crate) compression: Option<Compression>,
    /// How objects are encrypted. Default: as the bucket says.
    pub(crate) encryption: Option<EncryptionFile>,
    /// The account that must own the bucket. Default: not asked.
    pub(crate) bucket_owner: Option<Located<AccountText>>,
}
