//! What a request is, read from its head: the service, the operation and a short detail.
//!
//! Faults match on it and the trace is made of it. Kinesis and DynamoDB name their operation in `X-Amz-Target`, Lambda is
//! known by its path; everything else is S3, whose operation follows from the method, the path and the query.

use std::fmt;
use std::sync::Arc;

use crate::http::Request;
use crate::lambda;

/// One of the endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// Amazon Kinesis Data Streams, `Kinesis_20131202`.
    Kinesis,
    /// Amazon DynamoDB, `DynamoDB_20120810`.
    DynamoDb,
    /// Amazon S3, REST XML with path-style addresses.
    S3,
    /// AWS Lambda, Invoke of its API 2015-03-31.
    Lambda,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Service::Kinesis => "kinesis",
            Service::DynamoDb => "dynamodb",
            Service::S3 => "s3",
            Service::Lambda => "lambda",
        })
    }
}

/// One request as faults and the trace see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// When it was sent, epoch milliseconds of the emulator's clock.
    pub at_millis: u64,
    /// Who sent it: the name given to `Emulator::connect`, or `tcp`.
    pub connection: Arc<str>,
    /// The endpoint.
    pub service: Service,
    /// The API's name of the operation, for example `GetRecords`.
    pub operation: String,
    /// What it is about, without record content: a shard, a key of a table, an object.
    pub detail: String,
}

const KINESIS: &str = "Kinesis_20131202.";
const DYNAMODB: &str = "DynamoDB_20120810.";

/// The service and the operation that a request names.
pub(crate) fn classify(request: &Request) -> (Service, String) {
    let target = request.headers().get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if let Some(operation) = target.strip_prefix(KINESIS) {
        (Service::Kinesis, operation.to_owned())
    } else if let Some(operation) = target.strip_prefix(DYNAMODB) {
        (Service::DynamoDb, operation.to_owned())
    } else if request.method() == http::Method::POST && lambda::invoked(request).is_some() {
        (Service::Lambda, "Invoke".to_owned())
    } else {
        (Service::S3, s3_operation(request).to_owned())
    }
}

fn s3_operation(request: &Request) -> &'static str {
    let path = request.uri().path().trim_start_matches('/');
    let query = request.uri().query().unwrap_or_default();
    let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    let method = request.method().as_str();
    let Some((_, key)) = path.split_once('/').filter(|(_, key)| !key.is_empty()) else {
        let bucket = !path.is_empty();
        return match method {
            "GET" if !bucket => "ListBuckets",
            "GET" if has("uploads") => "ListMultipartUploads",
            "GET" if has("versions") => "ListObjectVersions",
            "GET" if has("location") => "GetBucketLocation",
            "GET" if has("versioning") => "GetBucketVersioning",
            "GET" if has("list-type") => "ListObjectsV2",
            "GET" => "ListObjects",
            "PUT" => "CreateBucket",
            "HEAD" => "HeadBucket",
            "DELETE" => "DeleteBucket",
            "POST" if has("delete") => "DeleteObjects",
            _ => "Unknown",
        };
    };
    debug_assert!(!key.is_empty());
    match method {
        "POST" if has("uploads") => "CreateMultipartUpload",
        "POST" if has("uploadId") => "CompleteMultipartUpload",
        "PUT" if has("uploadId") => "UploadPart",
        "GET" if has("uploadId") => "ListParts",
        "DELETE" if has("uploadId") => "AbortMultipartUpload",
        "PUT" if request.headers().contains_key("x-amz-copy-source") => "CopyObject",
        "PUT" => "PutObject",
        "GET" => "GetObject",
        "HEAD" => "HeadObject",
        "DELETE" => "DeleteObject",
        _ => "Unknown",
    }
}

/// The path of an S3 request, with the number of the part where there is one.
pub(crate) fn s3_detail(request: &Request) -> String {
    let query = request.uri().query().unwrap_or_default();
    let part = query.split('&').find_map(|pair| pair.strip_prefix("partNumber="));
    let prefix = query.split('&').find_map(|pair| pair.strip_prefix("prefix="));
    let path = request.uri().path();
    match (part, prefix) {
        (Some(part), _) => format!("{path}#{part}"),
        (None, Some(prefix)) => format!("{path}?{prefix}"),
        (None, None) => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(method: &str, uri: &str) -> String {
        let request = http::Request::builder().method(method).uri(uri).body(bytes::Bytes::new()).expect("a request");
        classify(&request).1
    }

    #[test]
    fn s3_operations_are_told_apart() {
        for (method, uri, expected) in [
            ("GET", "http://h/", "ListBuckets"),
            ("PUT", "http://h/b", "CreateBucket"),
            ("PUT", "http://h/b/", "CreateBucket"),
            ("GET", "http://h/b?list-type=2&prefix=x", "ListObjectsV2"),
            ("GET", "http://h/b/?uploads&prefix=x", "ListMultipartUploads"),
            ("POST", "http://h/b?delete", "DeleteObjects"),
            ("POST", "http://h/b/k?uploads", "CreateMultipartUpload"),
            ("PUT", "http://h/b/k?partNumber=1&uploadId=u", "UploadPart"),
            ("POST", "http://h/b/k?uploadId=u", "CompleteMultipartUpload"),
            ("DELETE", "http://h/b/k/l?uploadId=u", "AbortMultipartUpload"),
            ("GET", "http://h/b/k?uploadId=u", "ListParts"),
            ("HEAD", "http://h/b/k", "HeadObject"),
        ] {
            assert_eq!(operation(method, uri), expected, "{method} {uri}");
        }
    }
}
