//! What an HTTP endpoint is sent, as an object of lines: the records of its requests, which nothing here could answer.
//!
//! Never: a request.

use standpipe_config::config;
use standpipe_config::template::Template;

/// An S3 destination in the endpoint's place, under its id.
pub fn objects(http: &config::HttpEndpoint) -> config::S3 {
    let prefix = format!("{}/", http.id);
    config::S3 {
        id: http.id.clone(),
        bucket: http.refused.as_ref().map_or_else(|| "http-endpoint".to_owned(), |refused| refused.bucket.clone()),
        prefix: Template::prefix(Some(&prefix)).unwrap_or_default(),
        error_prefix: http.error_prefix().cloned().unwrap_or_default(),
        format: config::Format::JsonLines,
        compression: config::Compression::None,
        record_delimiter: config::RecordDelimiter::Newline,
        extension: String::new(),
        buffer_bytes: http.buffer_bytes,
        buffer_interval: http.buffer_interval,
        kms_key: None,
        lost_object: config::LostObject::Replay,
        when: http.when.clone(),
        partitions: None,
        time_zone: None,
        bucket_owner: None,
        backup: http.backup.clone(),
    }
}
