//! Implements, of the arrow `what the user wrote -> what it means`: the left side of an `http` destination.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Named;
use super::opensearch::{RefusedFile, RequestCompression};
use super::s3::BufferFile;
use crate::decode::Located;
use crate::presets::PresetName;
use crate::secrets::SecretRef;
use crate::text::{ArnText, AttributeText, DestinationIdText, JqText, PathText, RetryText, SiteText, UrlText};

/// Records to an HTTP endpoint by Firehose's delivery protocol, at least once: what is sent again carries the same id.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "HttpEndpoint")]
pub(crate) struct HttpEndpointFile {
    /// The name of this destination's position in the lease table; it must stay as long as the destination does.
    /// Default: the kind, `http`.
    #[schemars(extend("default" = "http"))]
    pub(crate) id: Option<Located<DestinationIdText>>,
    /// Where requests go, with path and query, as it is. Needed unless `preset` knows it.
    pub(crate) url: Option<Located<UrlText>>,
    /// A partner: its address, limits and compression, and a check of what it demands. Default: none.
    pub(crate) preset: Option<Located<PresetName>>,
    /// With a preset, the part of the address that is yours: the site of Datadog (`us1`, `us3`, `us5`, `ap1`, `eu`, `gov`) or
    /// New Relic (`us`, `eu`), the environment of Dynatrace, the domain of Coralogix, the dataset of Honeycomb, the account of
    /// LogicMonitor, the realm of Splunk Observability.
    pub(crate) site: Option<Located<SiteText>>,
    /// The value of `X-Amz-Firehose-Access-Key`: `{ env: NAME }` or `{ file: PATH }`, read anew for every request. Default:
    /// none.
    pub(crate) access_key: Option<Located<SecretRef>>,
    /// The compression of requests: `none` or `gzip`. Default: the preset's, else none.
    #[schemars(extend("default" = "none"))]
    pub(crate) content_encoding: Option<RequestCompression>,
    /// Names and values that go out with every request, in `X-Amz-Firehose-Common-Attributes`: at most 50. Default: none.
    pub(crate) common_attributes: Option<Named<Located<AttributeText>>>,
    /// Further headers: a text, or `{ env: NAME }` or `{ file: PATH }`, read anew for every request. Default: none.
    pub(crate) headers: Option<Named<Located<SecretRef>>>,
    /// What acknowledges a request. `strict`: 200 with the JSON object of the protocol that names it. `any_2xx`: any status of
    /// success, for servers that answer in another form. Default strict.
    #[schemars(extend("default" = "strict"))]
    pub(crate) response: Option<ResponseRule>,
    /// The value of `X-Amz-Firehose-Source-Arn`. Default: `arn:aws:firehose:REGION:ACCOUNT:deliverystream/PIPELINE`, with
    /// region and account of the stream.
    pub(crate) source_arn: Option<Located<ArnText>>,
    /// A file of certificates in PEM: of the CAs that are trusted in place of the machine's. Checks cannot be turned off.
    pub(crate) ca_file: Option<Located<PathText>>,
    /// Whether addresses of private networks, and the machine's own, are connected to. Default false. Link-local addresses
    /// and those of a cloud's metadata are never connected to.
    #[schemars(extend("default" = false))]
    pub(crate) allow_private: Option<bool>,
    /// When records are sent: at this size or after this time, whichever comes first. A request has no more than the size, or
    /// one record. Default 5MiB, 300s; with a preset the partner's size and 60s.
    pub(crate) buffer: Option<BufferFile>,
    /// How long a batch may be refused.
    pub(crate) retry: Option<HttpRetryFile>,
    /// Where records lie that were not taken; needed unless `retry` is `for: forever`.
    pub(crate) backup: Option<Located<RefusedFile>>,
    /// A jq program that says of each record whether this destination gets it: its first output is neither false nor null.
    /// Default: every record.
    pub(crate) when: Option<Located<JqText>>,
}

/// What acknowledges a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(crate) enum ResponseRule {
    /// The protocol's own form.
    #[default]
    Strict,
    /// Any status of success.
    #[serde(rename = "any_2xx")]
    Any2xx,
}

/// How long a batch may be refused.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "HttpRetry")]
pub(crate) struct HttpRetryFile {
    /// How long one batch may be refused by a server that answers, until its records become error records: a time,
    /// `until_retention` (half of the time that the stream keeps records) or `forever`. `0s` gives up after the first try. A
    /// server that cannot be reached, does not answer, or lets nobody in never uses it up. Default until_retention.
    #[serde(rename = "for")]
    #[schemars(extend("default" = "until_retention"))]
    pub(crate) duration: Option<Located<RetryText>>,
}
