//! Pure types: texts that mean a size, a duration and so on, with what the JSON Schema says of them.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use crate::decode::Located;

/// A place adds nothing to what a value may be.
impl<T: JsonSchema> JsonSchema for Located<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }
    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// Defines a text with a meaning of its own; what it means is decided in `resolve.rs`. The pattern is for editors, and
/// lets a `${VAR}` pass.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $title:literal, $types:tt, $pattern:literal, $examples:tt) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub(crate) struct $name(pub(crate) String);

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "title": $title, "type": $types, "pattern": concat!($pattern, r"|\$\{"), "examples": $examples })
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer).map(Self)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

text!(
    /// A number of bytes.
    SizeText, "size", ["string", "integer"], r"^[0-9]+(\.[0-9]+)? ?(B|[KMGT]i?B)?$", ["5MiB", "1.5GiB"]
);
text!(
    /// A length of time.
    DurationText, "duration", "string", r"^([0-9]+(d|h|m|s|ms))+$", ["300s", "5m", "1h30m"]
);
text!(
    /// A place in a stream.
    StartText, "start", "string", r"^(trim_horizon|latest|-([0-9]+(d|h|m|s|ms))+|[0-9]{4}-[0-9]{2}-[0-9]{2}.*)$",
    ["trim_horizon", "latest", "2026-01-31T12:00:00Z", "-6h"]
);
text!(
    /// A stream's name or ARN.
    StreamText, "stream name or ARN", "string", r"^([a-zA-Z0-9_.-]{1,128}|arn:.+)$",
    ["orders", "arn:aws:kinesis:eu-west-1:111122223333:stream/orders"]
);
text!(
    /// A name of a stream's consumer.
    ConsumerText, "consumer name", "string", r"^[a-zA-Z0-9_.-]{1,128}$", ["standpipe"]
);
text!(
    /// A bucket's name or ARN.
    BucketText, "bucket name or ARN", "string", r"^([a-z0-9][a-z0-9.-]{1,61}[a-z0-9]|arn:.+)$",
    ["acme-lake", "arn:aws:s3:::acme-lake"]
);
text!(
    /// The beginning of object keys, with expressions.
    PrefixText, "prefix", "string", r"^.{0,1024}$", ["orders/dt=!{timestamp:yyyy-MM-dd}/"]
);
text!(
    /// A destination's id.
    DestinationIdText, "destination id", "string", r"^[a-z][a-z0-9_]{0,15}$", ["lake"]
);
text!(
    /// The end of object keys.
    ExtensionText, "file extension", "string", r"^\.[0-9a-z!\-_.*'()]+$", [".json", ".json.gz"]
);
text!(
    /// Names and types of columns.
    ColumnsText, "column list", "string", r".", ["id bigint, total double, tags array<string>"]
);
text!(
    /// A KMS key's id, ARN or alias.
    KmsKeyText, "KMS key", "string", r"^(alias/.+|arn:.+|[0-9a-f-]{36}|mrk-[0-9a-f]+)$", ["alias/lake"]
);
text!(
    /// A name of a DynamoDB table.
    TableText, "table name", "string", r"^[a-zA-Z0-9_.-]{3,237}$", ["standpipe-orders"]
);
text!(
    /// The base of a service's addresses.
    EndpointText, "endpoint", "string", r"^https?://.+$", ["http://127.0.0.1:4600"]
);
text!(
    /// An address and a port to listen on.
    ListenText, "address to listen on", "string", r"^.+:[0-9]+$", ["0.0.0.0:9464"]
);
text!(
    /// A region of AWS.
    RegionText, "region", "string", r"^[a-z0-9-]{1,32}$", ["eu-west-1"]
);
text!(
    /// A worker's id, or `auto`.
    WorkerIdText, "worker id", "string", r"^[a-zA-Z0-9_.:-]{1,128}$", ["auto"]
);
text!(
    /// `unlimited`, or how many.
    LeasesText, "number of leases", ["string", "integer"], r"^(unlimited|[0-9]+)$", ["unlimited", 8]
);
text!(
    /// A jq program.
    JqText, "jq program", "string", r".", ["select(.type == \"order\")"]
);
text!(
    /// A regular expression.
    RegexText, "regular expression", "string", r".", ["^(?<host>\\S+) (?<request>.*)$"]
);
text!(
    /// What stands between records.
    DelimiterText, "delimiter", "string", r".", ["####"]
);
text!(
    /// One character.
    CharText, "character", "string", r"^.$", [";"]
);
text!(
    /// A name of a member or column.
    NameText, "name", "string", r".", ["id"]
);
text!(
    /// A Lambda function's name or ARN.
    FunctionText, "function name or ARN", "string", r"^([a-zA-Z0-9_-]{1,64}(:[a-zA-Z0-9$_-]+)?|arn:.+)$", ["enrich-orders"]
);
text!(
    /// A value that stands for one that is missing.
    ValueText, "value", "string", r".", ["unknown"]
);
text!(
    /// How many.
    CountText, "number", ["string", "integer"], r"^[0-9]+$", [500]
);
text!(
    /// A file's path; a relative one begins at the folder of the config file.
    PathText, "path", "string", r".", ["orders.avsc"]
);
text!(
    /// A time zone of the IANA database.
    ZoneText, "time zone", "string", r"^[a-zA-Z0-9/_+-]{1,50}$", ["Europe/Berlin"]
);
text!(
    /// A table or a column, as SQL names it.
    TableNameText, "name in SQL", "string", r#"^[a-zA-Z_"]"#, ["public.orders"]
);
text!(
    /// A role's ARN, or several with commas.
    RoleText, "role ARN", "string", r"^(default|arn:.+)$", ["arn:aws:iam::111122223333:role/redshift-copy"]
);
text!(
    /// Options of COPY.
    CopyOptionsText, "options of COPY", "string", r".*", ["JSON 'auto' TIMEFORMAT 'auto'"]
);
text!(
    /// An index, or what its name begins with.
    IndexText, "index", "string", r#"^[^A-Z\\/*?"<>| ,#:_+-][^A-Z\\/*?"<>| ,#:]*$"#, ["app-logs"]
);
text!(
    /// `generated`, `none` or a jq program.
    DocumentIdText, "document id", "string", r".", ["generated", "none", ".order.id"]
);
text!(
    /// A time, `until_retention` or `forever`.
    RetryText, "retry duration", "string", r"^(until_retention|forever|([0-9]+(d|h|m|s|ms))+)$", ["until_retention", "2h", "forever"]
);
text!(
    /// An address with its path and query.
    UrlText, "address", "string", r"^https?://.+$", ["https://ingest.example.com/firehose?x=1"]
);
text!(
    /// A part of a preset's address.
    SiteText, "site", "string", r"^[a-zA-Z0-9._-]+$", ["eu"]
);
text!(
    /// The value of a common attribute.
    AttributeText, "value", "string", r".*", ["prod"]
);
text!(
    /// The ARN of a delivery stream.
    ArnText, "ARN", "string", r"^arn:.+$", ["arn:aws:firehose:eu-west-1:111122223333:deliverystream/orders"]
);
text!(
    /// An AWS account.
    AccountText, "account number", ["string", "integer"], r"^[0-9]{12}$", ["111122223333"]
);
