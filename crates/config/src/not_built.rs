//! Implements, of the arrow `what the user wrote -> what it means`: keys and words of the design that are not built yet.
//!
//! They are refused by name, so that nobody takes a feature for present, or for unknown. When one lands it moves from
//! this table into `file.rs`.
//! Never: holds a key that is built (a test compares the table with the schema).

/// Where (`*` is a name that the user chose, `[]` an element of a list), and the keys or words there.
const TABLE: &[(&str, &[&str])] = &[
    ("aws", &["role_arn", "external_id"]),
    ("http", &["admin"]),
    ("telemetry", &["cloudwatch_emf"]),
    ("pipelines.*.source", &["kafka"]),
    ("pipelines.*.source.kinesis", &["role_arn", "external_id"]),
    ("pipelines.*.destinations[]", &["splunk", "snowflake", "iceberg"]),
    ("pipelines.*.destinations[].s3", &["role_arn", "external_id"]),
    ("pipelines.*.destinations[].redshift", &["role_arn", "external_id"]),
    ("pipelines.*.destinations[].opensearch", &["role_arn", "external_id"]),
    ("pipelines.*.destinations[].http", &["role_arn", "external_id"]),
];

const OPENSEARCH: &str = "it is `opensearch`, which speaks to Elasticsearch 7 and later too";
const WAREHOUSE: &str =
    "it is `workgroup: NAME` or `cluster: NAME`, and `database: NAME`: there is no connection by JDBC";

/// Words that people bring along, and what they are here. Each is a key or word nowhere in a config.
const WORDS: &[(&str, &str)] = &[
    ("dynamic_partitioning", "partitions are `partition_by` of an s3 destination: `partition_by: { KEY: JQ }`"),
    ("partition_keys", "partitions are `partition_by` of an s3 destination: `partition_by: { KEY: JQ }`"),
    ("consumer", "a consumer is named in `source.kinesis.read: { enhanced_fan_out: { consumer: NAME } }`"),
    ("consumer_name", "a consumer is named in `source.kinesis.read: { enhanced_fan_out: { consumer: NAME } }`"),
    ("efo", "it is `source.kinesis.read: { enhanced_fan_out: { consumer: NAME } }`"),
    ("fan_out", "it is `source.kinesis.read: { enhanced_fan_out: { consumer: NAME } }`"),
    ("application_name", "a KCL application's name is `lease.table`"),
    ("checkpoint_table", "it is `lease.table`"),
    ("lease_table", "it is `lease.table`"),
    ("heartbeat", "it is `lease.heartbeat`"),
    ("failover", "it is `lease.failover`"),
    ("enhanced_fan_out", "it goes under `read`: `source.kinesis.read: { enhanced_fan_out: { consumer: NAME } }`"),
    ("polling", "it is a word: `read: polling`"),
    ("iterator_type", "it is `source.kinesis.start`: trim_horizon, latest, a time, or a span such as -6h"),
    ("starting_position", "it is `source.kinesis.start`: trim_horizon, latest, a time, or a span such as -6h"),
    ("buffering_hints", "it is `buffer: { size: 5MiB, interval: 300s }`"),
    ("processors", "they are `transforms` of a pipeline"),
    ("elasticsearch", OPENSEARCH),
    ("amazonopensearchservice", OPENSEARCH),
    ("amazon_opensearch", OPENSEARCH),
    ("hosts", "it is `endpoint: https://HOST`, or `endpoints: [...]` for several servers of one cluster"),
    ("nodes", "it is `endpoint: https://HOST`, or `endpoints: [...]` for several servers of one cluster"),
    ("domain_arn", "it is `endpoint: https://HOST`, the address that the domain has"),
    ("index_rotation", "it is `rotation`: none, hourly, daily, weekly, monthly"),
    ("index_rotation_period", "it is `rotation`: none, hourly, daily, weekly, monthly"),
    ("type_name", "documents have no types any more: leave it out"),
    ("cluster_jdbcurl", WAREHOUSE),
    ("cluster_jdbc_url", WAREHOUSE),
    ("jdbc_url", WAREHOUSE),
    ("copy_command", "it is `copy: { table: NAME, columns: [...], options: \"...\" }`"),
    ("s3_backup_mode", "it is `backup: { mode: all, bucket: NAME }`"),
    ("retry_options", "it is `retry: { for: 1h }`"),
    (
        "credentials",
        "credentials come from the SDK's own chain: the environment, a profile, or the role of the process",
    ),
    (
        "access_key_id",
        "credentials come from the SDK's own chain: the environment, a profile, or the role of the process",
    ),
];

/// What a word that is unknown where it stands is here: a word of others, or a key that stands elsewhere.
pub(crate) fn advice(pattern: &str, word: &str) -> Option<String> {
    if let Some((_, advice)) = WORDS.iter().find(|(known, _)| *known == word) {
        return Some((*advice).to_owned());
    }
    if pattern.ends_with(".deaggregate") && matches!(word, "true" | "yes" | "on") {
        return Some("did you mean `kpl`?".to_owned());
    }
    if pattern.ends_with(".opensearch.auth") {
        match word {
            "user" | "username" | "password" => {
                return Some("it is `auth: { basic: { user: NAME, password: { env: NAME } } }`".to_owned());
            }
            "iam" | "aws" | "role" | "aws4" => return Some("did you mean `sigv4`?".to_owned()),
            _ => {}
        }
    }
    let elsewhere = TABLE.iter().find(|(place, names)| *place != pattern && names.contains(&word));
    elsewhere.map(|(place, _)| format!("`{word}` belongs to `{place}`, and is not built yet"))
}

/// What a key that is missing may be, where one example would not say it.
pub(crate) fn missing(pattern: &str, name: &str) -> Option<&'static str> {
    match name {
        "auth" if pattern.ends_with(".opensearch") => Some(
            "`auth: sigv4` at AWS, `auth: { basic: { user: NAME, password: { env: NAME } } }`, or `auth: none` where nobody is asked",
        ),
        _ => None,
    }
}

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
