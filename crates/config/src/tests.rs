//! Whole configurations: the examples, what they mean, and texts that nobody would write.

use std::time::Duration;

use proptest::prelude::*;

use crate::config::{
    Compression, Config, Destination, DocumentId, Format, Logs, LostObject, OnDestinationFailure, OpenSearchAuth,
    ParquetCompression, Parse, Publish, ReadMode, RecordDelimiter, RetryFor, Rotation, S3, StartPosition, TableColumns,
    Transform,
};
use crate::{ConfigErrors, parse};

fn read(text: &str) -> Result<Config, ConfigErrors> {
    let env = |name: &str| (name == "BUCKET").then(|| "acme-lake".to_owned());
    parse("test.yaml", text, &env, &crate::Unchecked)
}

fn good(text: &str) -> Config {
    read(text).unwrap_or_else(|errors| panic!("{}", errors.render(false)))
}

fn s3(config: &Config) -> &S3 {
    let Destination::S3(s3) = &config.pipelines[0].destinations[0] else { panic!("not s3") };
    s3
}

const SMALLEST: &str = include_str!("../../../docs/examples/smallest.yaml");
const LINES: &str = include_str!("../../../docs/examples/lines-gzip.yaml");
const PARQUET: &str = include_str!("../../../docs/examples/parquet.yaml");
const FAN_OUT: &str = include_str!("../../../docs/examples/enhanced-fan-out.yaml");

#[test]
fn a_stream_is_read_by_a_consumer_with_a_name() {
    let mode = |text: &str| good(text).pipelines[0].source.read.clone();
    let fan_out = |consumer: &str| ReadMode::EnhancedFanOut { consumer: consumer.to_owned() };
    assert_eq!(mode(FAN_OUT), fan_out("standpipe-orders"));
    let with = |read: &str| mode(&FAN_OUT.replace("{ enhanced_fan_out: { consumer: standpipe-orders } }", read));
    for default in ["enhanced_fan_out", "{ enhanced_fan_out: {} }"] {
        assert_eq!(with(default), fan_out("standpipe"), "{default}");
    }
    assert_eq!((with("auto"), with("polling")), (ReadMode::Auto, ReadMode::Polling));
}

#[test]
fn every_example_is_good() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/examples");
    let files = std::fs::read_dir(folder).expect("the examples").map(|entry| entry.expect("a file").path());
    let files: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect();
    assert!(files.len() >= 5);
    for file in files {
        if let Err(errors) = crate::load(std::slice::from_ref(&file), &|_| None, &crate::Unchecked) {
            panic!("{}", errors.render(false));
        }
    }
}

#[test]
fn dropping_what_is_out_of_range_is_said_to_do_nothing_where_nothing_is_taken_apart() {
    let with = |deaggregate: &str| {
        let keys = ["start: trim_horizon", &format!("deaggregate: {deaggregate}"), "out_of_range: drop"];
        good(&SMALLEST.replace("start: trim_horizon", &keys.join("\n        "))).warnings
    };
    assert!(with("kpl").is_none());
    let warnings = with("none").expect("a warning");
    assert_eq!(warnings.errors[0].path, "pipelines.orders.source.kinesis.out_of_range");
}

#[test]
fn the_smallest_file_gets_every_default() {
    let config = good(SMALLEST);
    assert_eq!(config.worker.id, None);
    assert_eq!(config.worker.memory_bytes, None);
    assert_eq!(config.worker.shutdown_grace, Duration::from_secs(50));
    assert_eq!(config.http.map(|a| a.to_string()).as_deref(), Some("0.0.0.0:9464"));
    assert_eq!(config.logs, Logs::Auto);
    let pipeline = &config.pipelines[0];
    assert_eq!(pipeline.name, "orders");
    assert_eq!(pipeline.lease.table, "standpipe-orders");
    assert_eq!(pipeline.lease.failover, Duration::from_secs(10));
    assert_eq!((pipeline.lease.leases_max, pipeline.lease.create), (None, true));
    assert_eq!(pipeline.source.start, StartPosition::TrimHorizon);
    assert_eq!((&pipeline.source.read, pipeline.source.poll), (&ReadMode::Auto, Duration::from_secs(1)));
    assert_eq!(pipeline.on_destination_failure, OnDestinationFailure::Isolate);
    let s3 = s3(&config);
    assert_eq!((s3.id.as_str(), s3.bucket.as_str(), s3.extension.as_str()), ("s3", "acme-lake", ""));
    assert_eq!(s3.prefix.to_string(), "!{timestamp:yyyy/MM/dd/HH/}");
    assert_eq!(s3.error_prefix.to_string(), "!{firehose:error-output-type}/!{timestamp:yyyy/MM/dd/HH/}");
    assert_eq!(s3.format, Format::JsonLines);
    assert_eq!((s3.compression, s3.record_delimiter), (Compression::None, RecordDelimiter::Newline));
    assert_eq!((s3.buffer_bytes, s3.buffer_interval), (5 << 20, Duration::from_secs(300)));
    assert_eq!((s3.kms_key.as_deref(), s3.lost_object), (None, LostObject::Replay));
}

#[test]
fn the_example_of_lines_means_what_it_says() {
    let config = good(LINES);
    assert_eq!(config.aws.region.as_deref(), Some("eu-west-1"));
    assert_eq!(config.worker.memory_bytes, Some(512 << 20));
    let source = &config.pipelines[0].source;
    assert_eq!((source.stream.name.as_str(), source.stream.account.as_deref()), ("app-logs", Some("111122223333")));
    assert_eq!(source.start, StartPosition::Ago(Duration::from_secs(6 * 3600)));
    let s3 = s3(&config);
    assert_eq!((s3.id.as_str(), s3.bucket.as_str(), s3.extension.as_str()), ("archive", "acme-logs", ".json.gz"));
    assert_eq!(s3.compression, Compression::Gzip);
    assert_eq!(s3.prefix.literal_start(), "app/dt=");
}

#[test]
fn the_example_of_parquet_means_what_it_says() {
    let config = good(PARQUET);
    let s3 = s3(&config);
    let columns = "id bigint, total double, tags array<string>, at timestamp".to_owned();
    let Format::Parquet(parquet) = &s3.format else { panic!("parquet") };
    assert_eq!((parquet.compression, parquet.dictionary), (ParquetCompression::Snappy, true));
    assert_eq!((parquet.page_bytes, parquet.row_group_bytes), (1 << 20, 128 << 20));
    assert_eq!(parquet.table.columns, TableColumns::Written(columns));
    assert_eq!((s3.extension.as_str(), s3.record_delimiter), (".parquet", RecordDelimiter::None));
    assert_eq!((s3.buffer_bytes, s3.kms_key.as_deref()), (128 << 20, Some("alias/lake")));
    assert_eq!(config.pipelines[0].source.start, StartPosition::At(1_769_817_600_000));
}

#[test]
fn the_published_schema_is_the_present_one() {
    let published = include_str!("../../../docs/reference/config.schema.json");
    let present = crate::schema::schema_text();
    assert!(
        published == present,
        "docs/reference/config.schema.json is out of date: standpipe schema > docs/reference/config.schema.json"
    );
}

/// The schema comes from serde's and schemars' attributes, which could disagree: every key and word of it must decode.
#[test]
fn everything_that_the_schema_has_is_read() {
    let everything = "
version: 1
aws: { region: eu-west-1, endpoints: { kinesis: http://k, dynamodb: http://d, s3: http://s, lambda: http://l, glue: http://g, redshift_data: http://r } }
worker: { id: a-1, memory: 1GiB, shutdown_grace: 10s }
http: { listen: 127.0.0.1:9464 }
telemetry: { logs: json }
pipelines:
  one:
    lease: { table: leases, failover: 2s, max: 8, create: false, heartbeat: per_worker }
    source: { kinesis: { stream: s, start: latest, read: auto, poll: 1s, deaggregate: none, out_of_range: drop } }
    destinations:
      - s3:
          id: raw
          bucket: bucket
          prefix: in/
          error_prefix: bad/
          format: raw
          compression: zstd
          record_delimiter: none
          file_extension: .bin
          buffer: { size: 1MiB, interval: 0s }
          encryption: { kms: alias/key }
          lost_object: assume_published
          time_zone: Europe/Berlin
          bucket_owner: 111122223333
          when: .ok
          backup: { mode: all, bucket: raw-bucket, prefix: raw/, compression: gzip }
    on_destination_failure: stop
    retired: [old]
    transforms:
      - decompress: auto
      - cloudwatch_logs: { extract_message: true }
      - split: { json: { max: 7 } }
      - split: { delimited: '####' }
      - parse: apache_combined
      - parse: { csv: { columns: [a, b], delimiter: ';', quote: \"'\" } }
      - parse: { regex: { pattern: '(?<a>.*)' } }
      - json_to_csv: { columns: [a, b], delimiter: '\\t' }
      - jq: .
      - lambda: { function: enrich, retries: 1, buffer: { size: 2MiB, interval: 0s } }
  two:
    source: { kinesis: { stream: s, start: latest, read: { enhanced_fan_out: { consumer: mine } } } }
    destinations:
      - s3:
          bucket: bucket
          format: { parquet: { dictionary: false, page_size: 64KiB, row_group_size: 1MiB, version: v2, timestamps: int96 } }
          schema: { columns: id bigint }
          deserializer: { openx: { case_insensitive: false, convert_dots_in_keys: true, column_keys: { a: b } } }
          prefix: x/!{partitionKeyFromQuery:k}/
          error_prefix: bad/!{firehose:error-output-type}/
          partition_by: { k: .k }
          partitions: { max_active: 9, on_missing: { default: none }, publish: put }
      - s3:
          id: other
          bucket: bucket
          format: { orc: { compression: zlib, stripe_size: 8MiB, row_index_stride: 2000, dictionary_threshold: 0 } }
          schema: { glue: { database: d, table: t, catalog: 111122223333, region: eu-west-1, version: '7' } }
          deserializer: { hive: { timestamp_formats: [millis, yyyy-MM-dd] } }
          allow_unconfined_prefix: true
      - s3: { id: third, bucket: bucket, format: parquet, schema: { file: ../../docs/examples/orders.avsc } }
      - s3: { id: fourth, bucket: bucket, format: parquet, schema: { infer: { sample: 7 } } }
      - redshift:
          id: dw
          cluster: prod
          database: dev
          auth: { iam: { db_user: loader } }
          staging: { bucket: staging, prefix: rs/, compression: zstd, region: eu-west-2, encryption: { kms: alias/key }, bucket_owner: 111122223333 }
          copy: { table: Sales.Orders, columns: [Id, '\"Total\"'], role: default, options: MAXERROR 3 }
          format: csv
          buffer: { size: 1MiB, interval: 0s }
          retry: { for: 0s }
          when: .ok
          error_prefix: bad/
          backup: { bucket: raw-bucket }
      - redshift:
          id: dw2
          workgroup: analytics
          database: dev
          auth: { secretsmanager: name }
          staging: { bucket: staging }
          copy: { table: orders }
          format: { parquet: {} }
          schema: { columns: id bigint }
          deserializer: openx
      - opensearch:
          id: search
          endpoints: [https://one.example.com:9200, https://two.example.com:9200]
          auth: { basic: { user: standpipe, password: { env: PASSWORD } } }
          ca_file: ca.pem
          allow_private: false
          index: logs
          rotation: weekly
          document_id: .id
          action: create
          routing: .tenant
          compression: gzip
          buffer: { size: 1MiB, interval: 0s }
          retry: { for: 2h }
          when: .ok
          backup: { mode: all, bucket: raw-bucket, prefix: raw/, error_prefix: 'bad/!{firehose:error-output-type}/', compression: gzip, encryption: { kms: alias/key }, bucket_owner: 111122223333 }
      - opensearch:
          id: streams
          endpoint: https://logs.example.com
          auth: { sigv4: { service: aoss, region: eu-west-2 } }
          index: logs
          data_stream: true
          document_id: none
          retry: { for: forever }
      - http:
          id: own
          url: https://in.example.com/receiver/v1?a=b
          access_key: { env: KEY }
          content_encoding: gzip
          common_attributes: { env: prod, team: '' }
          headers: { X-Tenant: acme, Authorization: { file: token } }
          response: any_2xx
          source_arn: arn:aws:firehose:eu-west-1:111122223333:deliverystream/x
          ca_file: ca.pem
          allow_private: true
          buffer: { size: 2MiB, interval: 0s }
          retry: { for: 2h }
          when: .ok
          backup: { mode: all, bucket: raw-bucket, prefix: raw/ }
      - http: { preset: datadog, site: eu, access_key: { env: KEY }, retry: { for: forever } }
";
    let config = good(everything);
    let Destination::S3(fourth) = &config.pipelines[1].destinations[3] else { panic!("not s3") };
    let Format::Parquet(parquet) = &fourth.format else { panic!("not parquet") };
    assert_eq!(parquet.table.columns, TableColumns::Inferred { sample: 7 });
    assert_eq!((config.http.map(|a| a.port()), config.logs), (Some(9464), Logs::Json));
    assert_eq!(config.pipelines[0].lease.leases_max, Some(8));
    assert_eq!(s3(&config).extension, ".bin");
    assert_eq!(s3(&config).error_prefix.literal_start(), "bad/");
    let Destination::Redshift(redshift) = &config.pipelines[1].destinations[4] else { panic!("not redshift") };
    assert_eq!((redshift.copy.schema.as_str(), redshift.copy.table.as_str()), ("sales", "orders"));
    assert_eq!((redshift.copy.options.as_str(), redshift.copy.errors_max), ("CSV ZSTD MAXERROR 3", 3));
    assert_eq!(redshift.copy.columns, ["id", "Total"]);
    assert_eq!((redshift.retry, redshift.error_prefix.literal_start()), (Duration::ZERO, "bad/"));
    let Destination::Redshift(redshift) = &config.pipelines[1].destinations[5] else { panic!("not redshift") };
    assert_eq!((redshift.copy.options.as_str(), redshift.retry), ("FORMAT AS PARQUET", Duration::from_secs(3600)));
    assert_eq!((redshift.copy.schema.as_str(), redshift.error_prefix.literal_start()), ("public", "errors/"));
    let Destination::OpenSearch(search) = &config.pipelines[1].destinations[6] else { panic!("not opensearch") };
    assert_eq!(search.document_id, DocumentId::Expression { program: ".id".to_owned(), create: true });
    assert_eq!((search.rotation, search.gzip, search.allow_private), (Rotation::Weekly, true, false));
    assert_eq!(search.retry, RetryFor::Time(Duration::from_secs(7200)));
    assert_eq!(search.ca_file.as_deref(), Some(std::path::Path::new("ca.pem")));
    assert_eq!(search.refused.as_ref().map(|refused| refused.error_prefix.literal_start()), Some("bad/"));
    assert_eq!(search.backup.as_ref().map(|backup| backup.prefix.literal_start()), Some("raw/"));
    let Destination::OpenSearch(streams) = &config.pipelines[1].destinations[7] else { panic!("not opensearch") };
    let region = Some("eu-west-2".to_owned());
    assert_eq!(streams.auth, OpenSearchAuth::SigV4 { serverless: true, region });
    assert_eq!((streams.rotation, streams.retry, streams.allow_private), (Rotation::None, RetryFor::Forever, true));
    let Destination::Http(own) = &config.pipelines[1].destinations[8] else { panic!("not http") };
    let own_pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(own.common_attributes, [own_pair("env", "prod"), own_pair("team", "")]);
    let names: Vec<&str> = own.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((names, own.shown()), (vec!["x-tenant", "authorization"], "https://in.example.com"));
    assert_eq!((own.any_2xx, own.gzip, own.allow_private, own.buffer_bytes), (true, true, true, 2 << 20));
    assert_eq!(own.backup.as_ref().map(|backup| backup.prefix.literal_start()), Some("raw/"));
    assert!(!format!("{own:?}").contains("receiver"), "an address may hold a token");
    let Destination::Http(datadog) = &config.pipelines[1].destinations[9] else { panic!("not http") };
    assert_eq!(datadog.url, "https://aws-kinesis-http-intake.logs.datadoghq.eu/v1/input");
    assert_eq!(
        (datadog.gzip, datadog.any_2xx, datadog.allow_private, datadog.id.as_str()),
        (true, false, false, "http")
    );
    assert_eq!((datadog.buffer_bytes, datadog.buffer_interval), (4 << 20, Duration::from_secs(60)));
    let mut keys = Vec::new();
    keys_of(&crate::schema::schema(), &mut keys);
    for key in keys {
        assert!(everything.contains(&format!("{key}:")), "`{key}` is not tried here");
    }
}

fn keys_of(schema: &serde_json::Value, keys: &mut Vec<String>) {
    if let Some(properties) = schema["properties"].as_object() {
        keys.extend(properties.keys().cloned());
    }
    match schema {
        serde_json::Value::Object(map) => map.values().for_each(|value| keys_of(value, keys)),
        serde_json::Value::Array(items) => items.iter().for_each(|value| keys_of(value, keys)),
        _ => {}
    }
}

/// The file of `docs/reference/config.md` that has everything is too long for this; here is what crosses fields.
#[test]
fn partitions_are_what_the_prefix_names() {
    let with = |s3: &str, transforms: &str| {
        let text = SMALLEST.replace("bucket: acme-lake", &format!("bucket: acme-lake\n{s3}"));
        read(&format!("{text}{transforms}")).map_err(|errors| errors.errors[0].message.clone())
    };
    let prefix = |prefix: &str| {
        format!("          prefix: {prefix}\n          error_prefix: e/!{{firehose:error-output-type}}/\n")
    };
    let by_k = "          partition_by: { k: .k }\n";
    let query = prefix("x/!{partitionKeyFromQuery:k}/");
    let config = with(&format!("{query}{by_k}"), "").expect("good");
    let partitions = s3(&config).partitions.as_ref().expect("partitions");
    assert_eq!((partitions.max_active, partitions.default.as_deref()), (5000, None));
    assert_eq!(partitions.publish, Publish::Multipart);
    let put = with(&format!("{query}{by_k}          partitions: {{ publish: put }}\n"), "").expect("good");
    assert_eq!(s3(&put).partitions.as_ref().map(|partitions| partitions.publish), Some(Publish::Put));
    assert_eq!(s3(&config).buffer_bytes, 128 << 20);
    assert_eq!(with(&query, "").expect_err("no key"), "`partition_by` has no key `k`");
    assert!(with(by_k, "").expect_err("not named").contains("does not name the partition key `k`"));
    let lambda = prefix("x/!{partitionKeyFromLambda:k}/");
    assert!(with(&lambda, "").expect_err("no function").contains("no Lambda function"));
    let function = "    transforms: [{ lambda: { function: f } }]\n";
    assert_eq!(s3(&with(&lambda, function).expect("good")).partitions.as_ref().expect("partitions").lambda, ["k"]);
    let unconfined = prefix("\"!{partitionKeyFromQuery:k}/\"");
    assert!(with(&format!("{unconfined}{by_k}"), "").expect_err("unconfined").contains("keys would begin"));
    let allowed = format!("{unconfined}{by_k}          allow_unconfined_prefix: true\n");
    assert!(with(&allowed, "").is_ok());
    let alone = "          partitions: { max_active: 5 }\n";
    assert_eq!(with(alone, "").expect_err("none"), "there are no partitions");
}

#[test]
fn transforms_keep_their_order_and_get_their_defaults() {
    let list = "    transforms:\n      - parse: csv\n      - jq: .a\n      - lambda: { function: f:live }\n";
    let transforms = good(&format!("{SMALLEST}{list}")).pipelines[0].transforms.clone();
    assert_eq!(transforms[0], Transform::Parse(Parse::Csv { columns: None, delimiter: b',', quote: b'"' }));
    assert_eq!(transforms[1], Transform::Jq(".a".to_owned()));
    let Transform::Lambda(lambda) = &transforms[2] else { panic!("lambda") };
    assert_eq!((lambda.retries, lambda.buffer_bytes, lambda.buffer_interval), (3, 1 << 20, Duration::from_secs(60)));
}

#[test]
fn destinations_of_a_pipeline_have_ids_of_their_own() {
    let second = |more: &str| format!("{SMALLEST}      - s3: {{ bucket: acme-raw{more} }}\n");
    assert_eq!(good(&second(", id: raw")).pipelines[0].destinations.len(), 2);
    assert!(read(&second("")).expect_err("twice").errors[0].message.contains("share an id"));
}

#[test]
fn http_can_be_off() {
    assert_eq!(good(&format!("{SMALLEST}http: off\n")).http, None);
}

#[test]
fn json_is_yaml() {
    let json = r#"{"version": 1, "pipelines": {"orders": {
        "source": {"kinesis": {"stream": "orders", "start": "latest"}},
        "destinations": [{"s3": {"bucket": "acme-lake", "buffer": {"size": 5242880}}}]}}}"#;
    assert_eq!(s3(&good(json)).buffer_bytes, 5 << 20);
}

#[test]
fn variables_stand_for_values_and_not_for_structure() {
    let bucket = |text: &str| SMALLEST.replace("acme-lake", text);
    assert_eq!(s3(&good(&bucket("${BUCKET}"))).bucket, "acme-lake");
    assert_eq!(s3(&good(&bucket("${OTHER:-other-lake}"))).bucket, "other-lake");
    assert!(read(&bucket("\"${BUCKET}\"")).is_err(), "in quotes it is plain text");
    assert!(read(&bucket("|\n            ${BUCKET}")).is_err(), "a block is plain text");
    let injected = |_: &str| Some("x\n          format: raw".to_owned());
    assert!(parse("t", &bucket("${X}"), &injected, &crate::Unchecked).is_err());
}

#[test]
fn an_id_from_the_environment_is_not_shown() {
    let env = |_: &str| Some("s3".to_owned());
    let text = format!("{SMALLEST}    retired:\n      - ${{ID}}\n");
    let errors = parse("t", &text, &env, &crate::Unchecked).expect_err("retired and in use");
    assert_eq!(errors.errors[0].message, "this destination is both retired and in use");
}

#[test]
fn anchors_and_merges_are_followed_and_errors_point_at_the_definition() {
    let text = "
version: 1
pipelines:
  a:
    source: &source { kinesis: { stream: s, start: latest } }
    destinations: &to [{ s3: { bucket: acme-lake } }]
  b:
    source: *source
    destinations: *to
  c:
    source: { kinesis: { stream: s, start: latest } }
    destinations: [{ s3: { bucket: acme-lake, buffer: &buffer { size: 2MiB } } }]
  d:
    source: *source
    destinations: [{ s3: { bucket: acme-lake, buffer: { <<: *buffer, interval: 2m } } }]
";
    let config = good(text);
    assert_eq!(config.pipelines.len(), 4);
    let Destination::S3(merged) = &config.pipelines[3].destinations[0] else { panic!("not s3") };
    assert_eq!((merged.buffer_bytes, merged.buffer_interval), (2 << 20, Duration::from_secs(120)));
    let errors =
        read(&text.replace("start: latest } }\n    destinations: &to", "start: lates } }\n    destinations: &to"))
            .expect_err("a bad start");
    assert_eq!((errors.errors[0].line, errors.errors[0].hint.as_deref()), (5, Some("did you mean `latest`?")));
}

/// What YAML is made of.
const PIECES: &str =
    "(version: 1\n|pipelines:|  |\n|\t|- |: |[a-z]{1,4}|\\{|\\}|\\[|\\]|&a|\\*a|<<|\\||>|\"|'|#|\\$\\{|é|!!str|~|1)";

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,200}") {
        if let Err(errors) = read(&text) {
            let _ = (errors.render(false), errors.render(true), errors.to_string());
        }
    }

    #[test]
    fn no_text_that_looks_like_yaml_panics(pieces in proptest::collection::vec(PIECES, 0..40)) {
        if let Err(errors) = read(&pieces.concat()) {
            let _ = errors.render(false);
        }
    }

    /// A good file with a piece cut out and another put in: every outcome is a meaning or a drawn error.
    #[test]
    fn no_damaged_file_panics(
        which in 0..4usize, from in 0..2000usize, len in 0..40usize, put in "[ -~é\n\t]{0,12}"
    ) {
        let text = [SMALLEST, LINES, PARQUET, FAN_OUT][which];
        let from = text.floor_char_boundary(from % text.len());
        let to = text.ceil_char_boundary((from + len).min(text.len()));
        let damaged = format!("{}{put}{}", &text[..from], &text[to..]);
        if let Err(errors) = read(&damaged) {
            let drawn = errors.render(false);
            prop_assert!(errors.errors.iter().all(|e| e.line >= 1 && e.column >= 1), "{drawn}");
            prop_assert!(drawn.contains("--> test.yaml:"), "{drawn}");
            // What passes the shape check decodes: serde's own words never reach a user.
            for word in ["unknown field", "missing field", "invalid type", "unknown variant", "duplicate field"] {
                prop_assert!(!drawn.contains(word), "{drawn}");
            }
        }
    }
}
