//! Implements, of the arrow `what the user wrote -> what it means`: the left side of `transforms`.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Deserialize;

use super::words_or_settings;
use crate::decode::Located;
use crate::text::{
    CharText, CountText, DelimiterText, DurationText, FunctionText, JqText, NameText, RegexText, SizeText,
};

/// What is done to records, named by its kind.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Transform")]
pub(crate) enum TransformFile {
    /// Unpacks each record: `gzip`, `zstd`, `auto` (by its first bytes; what is not packed passes) or `none`. What cannot
    /// be unpacked is an error record under `decompression-failed`; so is one that comes to more than 64 MiB.
    Decompress(Decompress),
    /// Takes each record for an envelope of a CloudWatch Logs subscription. Control messages are dropped.
    CloudwatchLogs(CloudwatchLogsFile),
    /// Makes several records of one.
    Split(SplitFile),
    /// Makes a JSON object of a line of text.
    Parse(ParseFile),
    /// Makes a line of comma-separated values of a JSON object.
    JsonToCsv(JsonToCsvFile),
    /// A jq program over each record, which is JSON: each of its outputs is a record.
    Jq(Located<JqText>),
    /// A Lambda function that is asked about many records at once, as Firehose asks it.
    Lambda(LambdaFile),
}

/// How records are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Decompress {
    /// They are not.
    None,
    /// Gzip, of one member or several.
    Gzip,
    /// Zstandard.
    Zstd,
    /// As their first bytes say.
    Auto,
}

/// Envelopes of CloudWatch Logs.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CloudwatchLogs")]
pub(crate) struct CloudwatchLogsFile {
    /// Only the messages of the log events, one a line, in place of the envelope. Default false.
    #[schemars(extend("default" = false))]
    pub(crate) extract_message: Option<bool>,
}

/// What holds several records.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SplitFile {
    Json(Option<SplitJsonFile>),
    Delimited(Located<DelimiterText>),
}

impl JsonSchema for SplitFile {
    fn schema_name() -> Cow<'static, str> {
        "Split".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let json = generator.subschema_for::<SplitJsonFile>();
        let delimited = generator.subschema_for::<DelimiterText>();
        words_or_settings(&["json"], &[("json", json), ("delimited", delimited)])
    }
}

/// JSON documents one after the other, with or without line feeds between them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SplitJson")]
pub(crate) struct SplitJsonFile {
    /// The most records of one; with more it is an error record. Default 100000.
    #[schemars(extend("default" = 100_000))]
    pub(crate) max: Option<Located<CountText>>,
}

/// What a line of text is.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ParseFile {
    ApacheCommon,
    ApacheCombined,
    SyslogRfc3164,
    SyslogRfc5424,
    Xml,
    Csv(Option<ParseCsvFile>),
    Regex(ParseRegexFile),
}

impl JsonSchema for ParseFile {
    fn schema_name() -> Cow<'static, str> {
        "Parse".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let words = ["apache_common", "apache_combined", "syslog_rfc3164", "syslog_rfc5424", "xml", "csv"];
        let csv = generator.subschema_for::<ParseCsvFile>();
        let regex = generator.subschema_for::<ParseRegexFile>();
        words_or_settings(&words, &[("csv", csv), ("regex", regex)])
    }
}

/// Comma-separated values.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ParseCsv")]
pub(crate) struct ParseCsvFile {
    /// The names of the columns, in their order. Default: the first line of each record has them; so records of one line
    /// need them here.
    pub(crate) columns: Option<Located<Vec<Located<NameText>>>>,
    /// What stands between values: one character. Default `,`.
    #[schemars(extend("default" = ","))]
    pub(crate) delimiter: Option<Located<CharText>>,
    /// What stands around a value that has delimiters within: one character. Default `"`.
    #[schemars(extend("default" = "\""))]
    pub(crate) quote: Option<Located<CharText>>,
}

/// A regular expression.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ParseRegex")]
pub(crate) struct ParseRegexFile {
    /// A pattern of the regex crate, which never backtracks. Each named group is a member of the JSON object.
    pub(crate) pattern: Located<RegexText>,
}

/// Lines of comma-separated values.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "JsonToCsv")]
pub(crate) struct JsonToCsvFile {
    /// The members of the JSON object, in their order; one that is missing is an empty value.
    #[schemars(length(min = 1))]
    pub(crate) columns: Located<Vec<Located<NameText>>>,
    /// What stands between values: one character. Default `,`.
    #[schemars(extend("default" = ","))]
    pub(crate) delimiter: Option<Located<CharText>>,
}

/// A Lambda function.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Lambda")]
pub(crate) struct LambdaFile {
    /// The function's name or ARN, with or without a version or alias.
    pub(crate) function: Located<FunctionText>,
    /// How often a batch is tried again that the function failed. Default 3; its records then are error records.
    #[schemars(extend("default" = 3))]
    pub(crate) retries: Option<Located<CountText>>,
    /// When the function is asked: at this size of records, or after this time, whichever comes first.
    pub(crate) buffer: Option<LambdaBufferFile>,
}

/// When a function is asked.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LambdaBuffer")]
pub(crate) struct LambdaBufferFile {
    /// Bytes of records in one request. Default 1MiB; at most 3MiB, since Lambda takes 6 MB and base64 adds a third.
    #[schemars(extend("default" = "1MiB"))]
    pub(crate) size: Option<Located<SizeText>>,
    /// How long records of a shard wait for more of them. Default 60s; `0s` asks about each read by itself.
    #[schemars(extend("default" = "60s"))]
    pub(crate) interval: Option<Located<DurationText>>,
}
