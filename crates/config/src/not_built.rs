//! Implements, of the arrow `what the user wrote -> what it means`: keys and words of the design that are not built yet.
//!
//! They are refused by name, so that nobody takes a feature for present, or for unknown. When one lands it moves from
//! this table into `file.rs`.
//! Never: holds a key that is built (a test compares the table with the schema).

/// Where (`*` is a name that the user chose, `[]` an element of a list), and the keys or words there.
const TABLE: &[(&str, &[&str])] = &[
    ("aws", &["role_arn", "external_id"]),
    ("aws.endpoints", &["lambda", "redshift_data"]),
    ("http", &["admin"]),
    ("telemetry", &["cloudwatch_emf"]),
    ("pipelines.*", &["transforms"]),
    ("pipelines.*.source", &["kafka"]),
    ("pipelines.*.source.kinesis", &["role_arn", "external_id"]),
    ("pipelines.*.source.kinesis.read", &["enhanced_fan_out"]),
    ("pipelines.*.source.kinesis.deaggregate", &["kpl"]),
    ("pipelines.*.destinations[]", &["redshift", "opensearch", "splunk", "http", "snowflake", "iceberg"]),
    (
        "pipelines.*.destinations[].s3",
        &[
            "role_arn",
            "external_id",
            "allow_unconfined_prefix",
            "partition_by",
            "partitions",
            "deserializer",
            "when",
            "backup",
        ],
    ),
    ("pipelines.*.destinations[].s3.format", &["orc"]),
    ("pipelines.*.destinations[].s3.compression", &["zip", "snappy", "hadoop_snappy"]),
    ("pipelines.*.destinations[].s3.schema", &["glue", "file", "infer"]),
];

/// Keys that are not built and stand in the place of one that is, which is then not asked for.
pub(crate) const REPLACES: &[(&str, &str)] = &[("glue", "columns"), ("file", "columns"), ("infer", "columns")];

/// What is designed and not built at a place.
pub(crate) fn at(pattern: &str) -> &'static [&'static str] {
    TABLE.iter().find(|(place, _)| *place == pattern).map_or(&[], |(_, names)| names)
}

/// Whether a key or word is designed and not built at a place.
pub(crate) fn contains(pattern: &str, name: &str) -> bool {
    at(pattern).contains(&name)
}

#[cfg(test)]
pub(crate) fn places() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(place, _)| *place)
}
