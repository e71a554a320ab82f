//! What no well-behaved server says, and what goes over the wire.

use std::sync::Mutex;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use standpipe_flow::conformance::receipt;
use standpipe_flow::{Checksum, Held, OutputKind, Part};

use super::*;

/// A request that arrived: `METHOD path?query`, and its headers.
#[derive(Clone, Debug)]
pub(super) struct Arrived {
    pub(super) line: String,
    headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Arrived {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }
}

type Answer = Box<dyn FnMut(&Arrived) -> (u16, Vec<(&'static str, String)>, String) + Send>;

/// A server that answers as the test says.
#[derive(Clone)]
pub(super) struct Script {
    arrived: Arc<Mutex<Vec<Arrived>>>,
    answer: Arc<Mutex<Answer>>,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

/// A Monday at noon, by S3's clock.
const DATE: &str = "Mon, 21 Sep 2026 12:00:00 GMT";
const DATE_MILLIS: u64 = 1_789_992_000_000;

impl Script {
    pub(super) fn new(
        answer: impl FnMut(&Arrived) -> (u16, Vec<(&'static str, String)>, String) + Send + 'static,
    ) -> Self {
        Self { arrived: Arc::default(), answer: Arc::new(Mutex::new(Box::new(answer))) }
    }

    /// A server that does everything right and remembers nothing.
    fn obliging() -> Self {
        Self::new(obliging)
    }

    pub(super) fn s3(&self, endpoint: &str, settings: S3Settings) -> S3 {
        destination(endpoint, self.clone(), settings)
    }

    pub(super) fn arrived(&self) -> Vec<Arrived> {
        self.arrived.lock().expect("no test panics with the lock held").clone()
    }
}

pub(super) fn obliging(request: &Arrived) -> (u16, Vec<(&'static str, String)>, String) {
    let xml = |body: &str| (200, Vec::new(), body.to_owned());
    match request.line.split_once(' ') {
        Some(("POST", path)) if path.contains("uploads") => {
            xml("<InitiateMultipartUploadResult><UploadId>u-1</UploadId></InitiateMultipartUploadResult>")
        }
        Some(("POST", _)) => xml("<CompleteMultipartUploadResult><ETag>\"e\"</ETag></CompleteMultipartUploadResult>"),
        Some(("PUT", _)) => (200, vec![("etag", "\"p\"".to_owned())], String::new()),
        Some(("DELETE", _)) => (204, Vec::new(), String::new()),
        _ => (200, Vec::new(), String::new()),
    }
}

pub(super) fn error(status: u16, code: &str) -> (u16, Vec<(&'static str, String)>, String) {
    error_saying(status, code, "as the script says")
}

fn error_saying(status: u16, code: &str, message: &str) -> (u16, Vec<(&'static str, String)>, String) {
    (status, Vec::new(), format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>"))
}

impl HttpClient for Script {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Script {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let arrived = Arrived {
            line: format!("{} {}", request.method(), request.uri()),
            headers: request.headers().iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
            body: String::from_utf8_lossy(request.body().bytes().unwrap_or_default()).into_owned(),
        };
        self.arrived.lock().expect("no test panics with the lock held").push(arrived.clone());
        let (status, headers, body) = (self.answer.lock().expect("no test panics with the lock held"))(&arrived);
        let mut response = HttpResponse::new(status.try_into().expect("a status"), SdkBody::from(body));
        response.headers_mut().insert("date", DATE);
        for (name, value) in headers {
            response.headers_mut().insert(name, value);
        }
        HttpConnectorFuture::ready(Ok(response))
    }
}

/// A receipt of one output of 12 bytes that S3 may or may not know.
fn committed(created_at: u64) -> Receipt {
    let output = Output {
        kind: OutputKind::Data,
        bucket: "lake".to_owned(),
        key: "in/k".to_owned(),
        held: Held::Upload { id: "u-1".to_owned(), parts: vec![Part { number: 1, etag: "\"p\"".to_owned() }] },
        size: 12,
        checksum: Checksum::Crc64Nvme("AAAAAAAAAAA=".to_owned()),
        records: 1,
    };
    let staged = Staged { outputs: vec![output], created_at: Some(Millis(created_at)), ..Staged::default() };
    receipt(cid(1), &conformance::batch(1), staged)
}

/// Answers of a server that has lost the upload: to HEAD and to the listing of versions.
fn without_upload(head: (u16, Vec<(&'static str, String)>), versions: (u16, &'static str)) -> Script {
    Script::new(move |request| {
        if request.line.starts_with("POST") {
            error(404, "NoSuchUpload")
        } else if request.line.starts_with("HEAD") {
            (head.0, head.1.clone(), String::new())
        } else if request.line.contains("versions") {
            (versions.0, Vec::new(), versions.1.to_owned())
        } else {
            error(501, "NotImplemented")
        }
    })
}

const NO_VERSIONS: (u16, &str) = (200, "<ListVersionsResult></ListVersionsResult>");

async fn found(script: &Script) -> Result<Published, DeliveryError> {
    script.s3("http://script.test", settings()).publish(&committed(DATE_MILLIS)).await
}

#[tokio::test(start_paused = true)]
async fn requests_say_what_s3_needs_to_hear() {
    let script = Script::obliging();
    let kms = Some("alias/lake".to_owned());
    let s3 = script.s3("http://script.test", S3Settings { kms, compression: Compression::Gzip, ..settings() });
    let batch = conformance::batch(1);
    let staged = s3.stage(cid(1), &batch).await.expect("staged");
    assert_eq!(staged.created_at, Some(Millis(DATE_MILLIS)));
    let receipt = receipt(cid(1), &batch, staged);
    s3.publish(&receipt).await.expect("published");

    let [create, part, complete] = &script.arrived()[..] else { panic!("three requests: {:?}", script.arrived()) };
    assert!(create.line.starts_with("POST http://script.test/lake/in/2026/09/21/orders-1-"), "{}", create.line);
    for (name, value) in [
        ("x-amz-checksum-algorithm", "CRC64NVME"),
        ("x-amz-checksum-type", "FULL_OBJECT"),
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption-aws-kms-key-id", "alias/lake"),
        ("content-type", "application/octet-stream"),
        ("content-encoding", "gzip"),
    ] {
        assert_eq!(create.header(name), Some(value), "{name}");
    }
    let Checksum::Crc64Nvme(sum) = &receipt.outputs[0].checksum else { panic!("CRC-64/NVME") };
    assert_eq!(part.header("x-amz-checksum-crc64nvme"), Some(sum.as_str()), "one part: its sum is the whole's");
    assert_ne!(part.header("x-amz-content-sha256"), Some("UNSIGNED-PAYLOAD"), "signed without TLS");
    assert_eq!(complete.header("x-amz-checksum-crc64nvme"), Some(sum.as_str()));
    assert_eq!(complete.header("x-amz-checksum-type"), Some("FULL_OBJECT"));
    assert_eq!(complete.header("x-amz-mp-object-size"), Some(receipt.outputs[0].size.to_string().as_str()));
    assert_eq!(complete.header("if-none-match"), None, "a 409 would make every part go up again");
    assert!(complete.body.contains("<PartNumber>1</PartNumber>"), "{}", complete.body);
}

/// S3 refuses a request to a bucket of anybody else; so every request must name the owner.
#[tokio::test(start_paused = true)]
async fn every_request_names_the_expected_owner_of_its_bucket() {
    let script = Script::obliging();
    let owner = |digit: char| Some(digit.to_string().repeat(12));
    let backup = BackupSettings {
        bucket: "raw".to_owned(),
        prefix: Template::prefix(Some("all/")).expect("a prefix"),
        compression: Compression::Zstd,
        file_extension: Some(".raw".to_owned()),
        kms: Some("alias/raw".to_owned()),
        expected_owner: owner('2'),
    };
    let s3 =
        script.s3("http://script.test", S3Settings { expected_owner: owner('1'), backup: Some(backup), ..settings() });
    let mut batch = Arc::unwrap_or_clone(conformance::batch(1));
    for chunk in batch.shards.iter_mut().flat_map(|shard| &mut shard.chunks) {
        chunk.originals = chunk.records.clone().into();
    }
    let batch = Arc::new(batch);
    let _ = s3.probe().await;
    let staged = s3.stage(cid(1), &batch).await.expect("staged");
    s3.write_incident(cid(1), Bytes::from_static(b"{}")).await.expect("written");
    let receipt = receipt(cid(1), &batch, staged);
    s3.publish(&receipt).await.expect("published");
    s3.discard(&receipt.outputs).await.expect("discarded");
    let _ = s3.leftovers(&Page::default()).await;
    let arrived = script.arrived();
    assert!(arrived.len() > 10, "{}", arrived.len());
    for request in &arrived {
        let expected = if request.line.contains(".test/raw") { owner('2') } else { owner('1') };
        assert_eq!(request.header("x-amz-expected-bucket-owner").map(str::to_owned), expected, "{}", request.line);
        let signed = request.header("authorization").expect("signed");
        assert!(signed.contains("x-amz-expected-bucket-owner"), "{signed}");
    }
    let opened = |request: &&Arrived| request.line.starts_with("POST") && request.line.contains("raw/all");
    let opened = arrived.iter().find(opened).expect("the backup's upload");
    assert_eq!(opened.header("x-amz-server-side-encryption-aws-kms-key-id"), Some("alias/raw"));
    assert_eq!(opened.header("content-encoding"), Some("zstd"));
    assert!(opened.line.contains(".raw?"), "{}", opened.line);
}

#[tokio::test(start_paused = true)]
async fn a_payload_is_not_hashed_twice_under_tls() {
    let script = Script::obliging();
    let s3 = script.s3("https://script.test", settings());
    s3.stage(cid(1), &conformance::batch(1)).await.expect("staged");
    assert_eq!(script.arrived()[1].header("x-amz-content-sha256"), Some("UNSIGNED-PAYLOAD"));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_the_sum_gets_the_older_one() {
    for (status, code, message) in [
        (400, "InvalidRequest", "Checksum algorithm provided is unsupported."),
        (400, "InvalidArgument", "Value for x-amz-checksum-algorithm header is invalid"),
        (501, "NotImplemented", "A header you provided implies functionality that is not implemented"),
    ] {
        let script = Script::new(move |request| {
            if request.header("x-amz-checksum-algorithm") == Some("CRC64NVME") {
                return error_saying(status, code, message);
            }
            obliging(request)
        });
        let s3 = script.s3("http://script.test", settings());
        let batch = conformance::batch(1);
        let staged = s3.stage(cid(1), &batch).await.expect("staged");
        let Checksum::Crc32(sum) = staged.outputs[0].checksum.clone() else { panic!("the older sum: {code}") };
        s3.publish(&receipt(cid(1), &batch, staged)).await.expect("published");
        s3.stage(cid(2), &batch).await.expect("staged");
        let lines = script.arrived();
        assert_eq!(lines.len(), 6, "the refusal is remembered: {lines:?}");
        assert_eq!(lines[2].header("x-amz-checksum-crc32"), Some(sum.as_str()));
        assert!(lines[3].body.contains(&format!("<ChecksumCRC32>{sum}</ChecksumCRC32>")), "{}", lines[3].body);
    }
    let script = Script::new(|_| error(403, "AccessDenied"));
    let s3 = script.s3("http://script.test", settings());
    assert_eq!(why(&s3.stage(cid(1), &conformance::batch(1)).await.expect_err("denied")), "halt");
    assert_eq!(script.arrived().len(), 1, "a refusal for another reason is no reason to try another sum");
}

#[tokio::test(start_paused = true)]
async fn no_answer_of_a_completion_but_a_whole_one_is_believed() {
    for (answer, expected) in [
        ((200, Vec::new(), String::new()), "retry"),
        ((200, Vec::new(), "<CompleteMultipartUploadResult/>".to_owned()), "retry"),
        (error(200, "NoSuchUpload"), "retry"),
        (error(200, "InternalError"), "retry"),
        (error(403, "AccessDenied"), "halt"),
        (error(400, "KMS.DisabledException"), "halt"),
        (error(400, "BadDigest"), "halt"),
        (error(400, "InvalidPart"), "halt"),
        (error(404, "NoSuchBucket"), "halt"),
    ] {
        let shown = format!("{answer:?}");
        let script = Script::new(move |_| answer.clone());
        let error = found(&script).await.expect_err("not published");
        assert_eq!(why(&error), expected, "{shown}: {error}");
    }
}

/// Some servers answer a completion with what no client can read; the object is there all the same.
#[tokio::test(start_paused = true)]
async fn the_object_proves_what_an_unreadable_200_does_not() {
    for (size, published) in [("12", true), ("13", false)] {
        let script = Script::new(move |request| match request.line.split_once(' ') {
            Some(("HEAD", _)) => (200, vec![("content-length", size.to_owned())], String::new()),
            _ => (200, Vec::new(), "<CompleteMultipartUploadResponse/>".to_owned()),
        });
        assert_eq!(found(&script).await.ok(), published.then_some(Published::All));
    }
}

/// A server that wants the sums of parts although the sum is that of the whole object.
#[tokio::test(start_paused = true)]
async fn the_sums_of_parts_are_named_to_a_server_that_asks_for_them() {
    let script = Script::new(|request| {
        if request.line.starts_with("GET") {
            let part =
                |n| format!("<Part><PartNumber>{n}</PartNumber><ChecksumCRC64NVME>s{n}</ChecksumCRC64NVME></Part>");
            return (200, Vec::new(), format!("<ListPartsResult>{}{}</ListPartsResult>", part(1), part(2)));
        }
        let sums = request.body.matches("<ChecksumCRC64NVME>").count();
        if request.body.matches("<Part>").count() == sums { obliging(request) } else { error(400, "InvalidRequest") }
    });
    let s3 = script.s3("http://script.test", settings());
    let mut receipt = committed(DATE_MILLIS);
    assert_eq!(s3.publish(&receipt).await.expect("published"), Published::All);
    assert_eq!(script.arrived().len(), 1, "the sum of the only part is that of the whole");
    let Held::Upload { parts, .. } = &mut receipt.outputs[0].held else { panic!("an upload") };
    parts.push(Part { number: 2, etag: "\"q\"".to_owned() });
    assert_eq!(s3.publish(&receipt).await.expect("published"), Published::All);
    assert_eq!(script.arrived().len(), 4, "refused, listed, completed");
    assert!(script.arrived()[3].body.contains("<ChecksumCRC64NVME>s2</ChecksumCRC64NVME>"));
    assert_eq!(s3.publish(&receipt).await.expect("published"), Published::All);
    assert_eq!(script.arrived().len(), 6, "what the server wants is remembered");
}

#[tokio::test(start_paused = true)]
async fn an_object_is_ours_by_size_and_sum() {
    let head = |size: &str, sum: Option<&str>| {
        let mut headers = vec![("content-length", size.to_owned())];
        headers.extend(sum.map(|sum| ("x-amz-checksum-crc64nvme", sum.to_owned())));
        (200, headers)
    };
    for (head, ours) in [
        (head("12", Some("AAAAAAAAAAA=")), true),
        (head("12", None), true),
        (head("13", Some("AAAAAAAAAAA=")), false),
        (head("12", Some("AAAAAAAAAAE=")), false),
        ((404, Vec::new()), false),
    ] {
        let shown = format!("{head:?}");
        let script = without_upload(head, NO_VERSIONS);
        let published = found(&script).await.expect("looked up");
        assert_eq!(published == Published::All, ours, "{shown}");
        let asked = script.arrived()[1].header("x-amz-checksum-mode").map(str::to_owned);
        assert_eq!(asked.as_deref(), Some("ENABLED"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_bucket_with_versions_remembers_what_its_readers_delete() {
    let version = |key: &str, id: &str, size: u64| {
        format!(
            "<Version><Key>{key}</Key><VersionId>{id}</VersionId><IsLatest>false</IsLatest><Size>{size}</Size></Version>"
        )
    };
    let marker = |key: &str| format!("<DeleteMarker><Key>{key}</Key><VersionId>m</VersionId></DeleteMarker>");
    for (listed, ours) in [
        (version("in/k", "v1", 12), true),
        (marker("in/k"), true),
        (version("in/k", "v1", 13), false),
        (version("in/k", "null", 12), false),
        (version("in/k-1", "v1", 12), false),
        (marker("in/k-1"), false),
        (String::new(), false),
    ] {
        let body: &'static str = format!("<ListVersionsResult>{listed}</ListVersionsResult>").leak();
        let published = found(&without_upload((404, Vec::new()), (200, body))).await.expect("looked up");
        assert_eq!(published == Published::All, ours, "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_looked_up_is_not_lost() {
    let denied = "<Error><Code>AccessDenied</Code></Error>";
    let unsupported = "<Error><Code>NotImplemented</Code></Error>";
    for (head, versions, expected) in [
        (403, NO_VERSIONS, "halt"),
        (500, NO_VERSIONS, "retry"),
        (404, (403, denied), "halt"),
        (404, (503, ""), "retry"),
    ] {
        let error = found(&without_upload((head, Vec::new()), versions)).await.expect_err("not looked up");
        assert_eq!(why(&error), expected, "HEAD {head}, versions {versions:?}");
    }
    let gone = found(&without_upload((404, Vec::new()), (501, unsupported))).await.expect("looked up");
    assert!(matches!(gone, Published::Gone { .. }), "a server without versions has none");
}

#[tokio::test(start_paused = true)]
async fn every_output_is_tried_and_every_dead_one_aborted() {
    let script = Script::new(|request| match &request.line {
        line if line.contains("/denied") => error(403, "AccessDenied"),
        line if line.contains("/busy") => error(503, "SlowDown"),
        _ => obliging(request),
    });
    let s3 = script.s3("http://script.test", settings());
    let mut receipt = committed(DATE_MILLIS);
    let one = receipt.outputs.remove(0);
    let named = |key: &str| Output { key: key.to_owned(), ..one.clone() };
    receipt.outputs = vec![named("denied"), named("busy"), named("well")];
    assert_eq!(why(&s3.publish(&receipt).await.expect_err("two of three")), "halt");
    assert_eq!(script.arrived().len(), 3);
    assert_eq!(why(&s3.discard(&receipt.outputs).await.expect_err("two of three")), "halt");
    assert_eq!(script.arrived().len(), 6);
}
