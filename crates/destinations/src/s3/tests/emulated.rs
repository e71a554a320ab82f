//! Against the emulator: the conformance suite, and what faults do.

use async_trait::async_trait;
use standpipe_convert::{Columns, PART_BYTES, ParquetOptions};
use standpipe_emulator::{Connection, Emulator, Fault, Options, RepeatComplete, Rule, Service};
use standpipe_flow::conformance::{Witness, check, receipt};
use standpipe_flow::deliver::ExtraObject;
use standpipe_flow::{Checksum, OutputKind};

use super::*;

pub(super) struct World {
    pub(super) emulator: Arc<Emulator>,
    connection: Connection,
    pub(super) now: Arc<AtomicU64>,
}

impl World {
    pub(super) fn new() -> Self {
        Self::answering(RepeatComplete::NoSuchUpload)
    }

    fn answering(repeat_complete: RepeatComplete) -> Self {
        let now = Arc::new(AtomicU64::new(1_790_000_000_000));
        let clock = now.clone();
        let options = Options::new(Arc::new(move || clock.load(Ordering::Relaxed)));
        let emulator = Emulator::new(Options { repeat_complete, trace: true, ..options }).expect("in memory");
        emulator.create_bucket("lake").expect("a bucket");
        let connection = emulator.connect("test");
        Self { emulator, connection, now }
    }

    fn s3(&self) -> S3 {
        self.with(settings())
    }

    pub(super) fn with(&self, settings: S3Settings) -> S3 {
        destination("http://emulator.test", self.connection.http_client(), settings)
    }

    pub(super) fn fault(&self, fault: Fault, operation: &str) {
        self.emulator.faults().add(Rule::new(Service::S3, fault).operation(operation).times(1));
    }

    pub(super) fn open(&self) -> usize {
        self.emulator.open_uploads("lake").len()
    }

    fn object(&self, output: &Output) -> Option<Bytes> {
        self.emulator.object("lake", &output.key)
    }

    /// Deletes an object as a reader of the bucket does.
    async fn delete(&self, s3: &S3, output: &Output) {
        s3.bucket.client.delete_object().bucket("lake").key(&output.key).send().await.expect("deleted");
    }
}

#[async_trait]
impl Witness for World {
    async fn visible(&self, key: &str) -> Option<Bytes> {
        self.emulator.object("lake", key)
    }

    async fn open_uploads(&self) -> usize {
        self.open()
    }
}

pub(super) async fn committed(s3: &S3, number: u64, batch: &Arc<Batch>) -> Receipt {
    let staged = s3.stage(cid(number), batch).await.expect("staged");
    receipt(cid(number), batch, staged)
}

fn error_object(ordinal: u32, body: impl Into<Bytes>) -> ExtraObject {
    let cut_at = Millis(1_790_000_000_000);
    ExtraObject {
        kind: OutputKind::Error,
        output_type: "processing-failed",
        ordinal,
        cut_at,
        oldest_arrival: cut_at,
        body: body.into(),
        records: 1,
    }
}

#[tokio::test(start_paused = true)]
async fn it_conforms() {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let world = World::new();
        let s3 = world.with(S3Settings { compression, ..settings() });
        check(&s3, &world).await.expect("conforms");
    }
}

#[tokio::test(start_paused = true)]
async fn it_conforms_where_a_repeated_complete_succeeds() {
    let world = World::answering(RepeatComplete::Succeeds);
    check(&world.s3(), &world).await.expect("conforms");
}

#[tokio::test(start_paused = true)]
async fn it_conforms_with_the_older_sum() {
    let world = World::new();
    let s3 = world.s3();
    s3.crc32.store(true, Ordering::Relaxed);
    check(&s3, &world).await.expect("conforms");
}

#[tokio::test(start_paused = true)]
async fn an_object_is_its_records_under_a_name_of_firehoses_form() {
    let world = World::new();
    let s3 = world.with(S3Settings { compression: Compression::Gzip, ..settings() });
    let receipt = committed(&s3, 1, &batch_of([Bytes::from_static(b"{}"), Bytes::from_static(b"{\"a\":1}")])).await;
    let output = &receipt.outputs[0];
    assert_eq!(output.key, format!("in/2026/09/21/orders-1-2026-09-21-14-13-20-{}.gz", cid(1)));
    assert_eq!((output.records, upload_of(&output.held).1.len()), (2, 1));
    assert_eq!(receipt.created_at, Some(Millis(1_790_000_000_000)), "the store's own time");
    assert_eq!(s3.publish(&receipt).await.expect("published"), Published::All);
    let objects = world.emulator.objects("lake");
    assert_eq!(objects[0].content_encoding.as_deref(), Some("gzip"));

    let named = world.with(S3Settings { file_extension: Some(".ndjson".to_owned()), ..settings() });
    let receipt = committed(&named, 2, &conformance::batch(1)).await;
    assert!(receipt.outputs[0].key.ends_with(&format!("-{}.ndjson", cid(2))), "{}", receipt.outputs[0].key);
    named.publish(&receipt).await.expect("published");
    let body = world.object(&receipt.outputs[0]).expect("visible");
    assert_eq!(&body[..], b"{\"shard\":0,\"n\":0}\n{\"shard\":1,\"n\":0}\n");
}

/// 17 MiB of records of very different sizes, in order, in parts of 8 MiB; the sum is that of the whole.
#[tokio::test(start_paused = true)]
async fn a_large_batch_goes_up_in_parts_and_in_order() {
    let world = World::new();
    let s3 = world.with(S3Settings { format: Format::Raw, ..settings() });
    let sizes = [1, 0, 900_000, 3, 1_048_576, 77, 5_000, 262_144];
    let mut records = Vec::new();
    let mut total = 0;
    while total < 17 << 20 {
        let n = records.len();
        let size = sizes[n % sizes.len()];
        records.push(Bytes::from((0..size).map(|i| (i * 31 + n * 17) as u8).collect::<Vec<u8>>()));
        total += size;
    }
    let whole: Vec<u8> = records.concat();
    let receipt = committed(&s3, 1, &batch_of(records.clone())).await;
    let output = &receipt.outputs[0];
    assert_eq!((output.size, output.records), (whole.len() as u64, records.len() as u64));
    assert_eq!(upload_of(&output.held).1.len(), whole.len().div_ceil(PART_BYTES));
    assert_eq!(upload_of(&output.held).1.iter().map(|part| part.number).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(output.checksum, Checksum::Crc64Nvme(Sum::Crc64Nvme.header(&Sum::Crc64Nvme.of(&whole))));
    assert_eq!(world.open(), 1, "invisible until it is published");
    assert_eq!(s3.publish(&receipt).await.expect("published"), Published::All);
    assert_eq!(world.object(output).expect("visible"), whole);
}

/// The older sum is one of the parts' sums, which the server wants back.
#[tokio::test(start_paused = true)]
async fn a_large_batch_goes_up_with_the_older_sum() {
    let world = World::new();
    let s3 = world.s3();
    s3.crc32.store(true, Ordering::Relaxed);
    let receipt = committed(&s3, 1, &batch_of((0..9).map(|_| Bytes::from(vec![b'x'; 1 << 20])))).await;
    assert_eq!(upload_of(&receipt.outputs[0].held).1.len(), 2);
    for _ in 0..2 {
        assert_eq!(s3.publish(&receipt).await.expect("published"), Published::All);
    }
    assert_eq!(world.object(&receipt.outputs[0]).map(|body| body.len()), Some((9 << 20) + 9));
}

#[tokio::test(start_paused = true)]
async fn a_large_error_object_goes_up_in_parts() {
    let world = World::new();
    let s3 = world.s3();
    let body: Vec<u8> = (0..PART_BYTES + 9).map(|i| (i % 253) as u8).collect();
    let (output, created_at) = s3.stage_extra(cid(1), &error_object(3, body.clone())).await.expect("staged");
    assert_eq!(output.key, format!("bad/processing-failed/orders-1-2026-09-21-14-13-20-{}-3", cid(1)));
    assert_eq!((output.kind, upload_of(&output.held).1.len(), created_at.is_some()), (OutputKind::Error, 2, true));
    let staged = Staged { outputs: vec![output.clone()], created_at, ..Staged::default() };
    s3.publish(&receipt(cid(1), &conformance::batch(0), staged)).await.expect("published");
    assert_eq!(world.object(&output).expect("visible"), body);
}

/// The records that do not become rows, and their reasons, come back; when none does, nothing was opened.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_encoded_comes_back_and_opens_nothing() {
    let columns = Columns::parse("n bigint").expect("columns");
    let format = Format::Parquet { rows: columns.into(), options: ParquetOptions::default() };
    let world = World::new();
    let s3 = world.with(S3Settings { format, ..settings() });
    let broken = || Bytes::from_static(b"{broken");

    let staged = s3.stage(cid(1), &batch_of([broken(), broken()])).await.expect("staged");
    assert_eq!((staged.outputs.len(), staged.rejected.len(), staged.created_at), (0, 2, None));
    let operations: Vec<_> = world.emulator.take_trace().into_iter().map(|entry| entry.call.operation).collect();
    assert_eq!(operations, Vec::<String>::new());

    let mixed = batch_of([broken(), Bytes::from_static(b"{\"n\":1}"), broken()]);
    let staged = s3.stage(cid(2), &mixed).await.expect("staged");
    let sequences: Vec<_> = staged.rejected.iter().map(|record| record.sequence.as_str().to_owned()).collect();
    assert_eq!((staged.outputs[0].records, sequences), (1, vec!["1".to_owned(), "3".to_owned()]));
    assert!(staged.outputs[0].key.ends_with(".parquet"), "{}", staged.outputs[0].key);
    assert_eq!(world.open(), 1);
}

/// Runs jobs on another thread, as production does, and loses the third.
#[derive(Debug, Default)]
struct Losing(AtomicU64);

impl Offload for Losing {
    fn run(&self, job: Job) {
        if self.0.fetch_add(1, Ordering::Relaxed) != 2 {
            #[expect(clippy::disallowed_methods, reason = "this is the seam")]
            tokio::task::spawn_blocking(job);
        }
    }
}

#[tokio::test]
async fn a_job_that_is_lost_fails_the_attempt_and_leaves_nothing() {
    let world = World::new();
    let s3 = S3 { offload: Arc::new(Losing::default()), ..world.s3() };
    let batch = batch_of((0..9).map(|_| Bytes::from(vec![b'x'; 1 << 20])));
    let error = s3.stage(cid(1), &batch).await.expect_err("the third job is lost");
    assert_eq!((why(&error), world.open()), ("retry", 0));
    let receipt = committed(&s3, 2, &batch).await;
    assert_eq!(s3.publish(&receipt).await.expect("published"), Published::All);
    assert_eq!(world.object(&receipt.outputs[0]).map(|body| body.len()), Some((9 << 20) + 9));
}

#[tokio::test(start_paused = true)]
async fn nothing_stays_open_when_staging_fails() {
    let big = || batch_of((0..9).map(|_| Bytes::from(vec![b'x'; 1 << 20])));
    for (fault, operation, expected) in [
        (Fault::InternalError, "CreateMultipartUpload", "retry"),
        (Fault::Throttle, "CreateMultipartUpload", "retry"),
        (Fault::InternalError, "UploadPart", "retry"),
        (Fault::DropAnswer, "UploadPart", "retry"),
        (Fault::DropRequest, "UploadPart", "retry"),
        (Fault::DelayAnswer(600_000), "UploadPart", "retry"),
    ] {
        let world = World::new();
        let s3 = world.s3();
        world.fault(fault, operation);
        let error = s3.stage(cid(1), &big()).await.expect_err("a fault");
        assert_eq!(why(&error), expected, "{fault:?} at {operation}: {error}");
        assert_eq!(world.open(), 0, "{fault:?} at {operation}");
        s3.stage(cid(2), &big()).await.expect("the next attempt is a new one");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unclear_completion_is_asked_for_again() {
    for fault in [
        Fault::DropAnswer,
        Fault::OkWithError,
        Fault::OkWithErrorAfterEffect,
        Fault::InternalError,
        Fault::InternalErrorAfterEffect,
        Fault::Throttle,
    ] {
        let world = World::new();
        let s3 = world.s3();
        let receipt = committed(&s3, 1, &conformance::batch(2)).await;
        world.fault(fault, "CompleteMultipartUpload");
        match s3.publish(&receipt).await {
            Ok(published) => {
                let proven = (published, fault) == (Published::All, Fault::OkWithErrorAfterEffect);
                assert!(proven, "{fault:?}: the object is its own proof");
            }
            Err(error) => assert_eq!(why(&error), "retry", "{fault:?}"),
        }
        assert_eq!(s3.publish(&receipt).await.expect("again"), Published::All, "{fault:?}");
        assert!(world.object(&receipt.outputs[0]).is_some(), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_is_gone_because_it_was_completed_is_published() {
    let world = World::new();
    let s3 = world.s3();
    let receipt = committed(&s3, 1, &conformance::batch(2)).await;
    world.fault(Fault::NoSuchUploadAfterComplete, "CompleteMultipartUpload");
    assert_eq!(s3.publish(&receipt).await.expect("looked up"), Published::All);
}

#[tokio::test(start_paused = true)]
async fn a_lost_object_is_replayed_or_assumed_as_configured() {
    let world = World::new();
    let replay = world.s3();
    let assume = world.with(S3Settings { lost_object: LostObject::AssumePublished, ..settings() });
    let receipt = committed(&replay, 1, &conformance::batch(2)).await;
    replay.publish(&receipt).await.expect("published");
    world.delete(&replay, &receipt.outputs[0]).await;

    let gone = Published::Gone { outputs: receipt.outputs.clone(), published: false };
    assert_eq!(replay.publish(&receipt).await.expect("looked up"), gone);
    assert_eq!(assume.publish(&receipt).await.expect("assumed"), Published::All);
    let unknown = Receipt { created_at: None, ..receipt.clone() };
    assert_eq!(assume.publish(&unknown).await.expect("looked up"), gone, "nothing is assumed without S3's time");
    world.now.fetch_add(24 * 3600 * 1000, Ordering::Relaxed);
    assert_eq!(assume.publish(&receipt).await.expect("looked up"), gone, "nor a day later");
}

#[tokio::test(start_paused = true)]
async fn another_object_under_the_key_is_not_ours() {
    let world = World::new();
    let s3 = world.s3();
    let receipt = committed(&s3, 1, &conformance::batch(2)).await;
    s3.publish(&receipt).await.expect("published");
    let output = &receipt.outputs[0];
    for body in [vec![b'x'; output.size as usize], b"short".to_vec()] {
        let put = s3.bucket.client.put_object().bucket("lake").key(&output.key);
        let put = put.checksum_algorithm(aws_sdk_s3::types::ChecksumAlgorithm::Crc64Nvme);
        put.body(body.into()).send().await.expect("overwritten");
        let published = s3.publish(&receipt).await.expect("looked up");
        assert!(matches!(published, Published::Gone { .. }), "{published:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_foreign_bucket_is_never_touched() {
    let world = World::new();
    let s3 = world.s3();
    let mut receipt = committed(&s3, 1, &conformance::batch(1)).await;
    receipt.outputs.push(Output { bucket: "another".to_owned(), ..receipt.outputs[0].clone() });
    world.emulator.take_trace();
    assert_eq!(why(&s3.publish(&receipt).await.expect_err("refused")), "halt");
    assert_eq!(why(&s3.discard(&receipt.outputs).await.expect_err("refused")), "halt");
    assert!(world.emulator.take_trace().is_empty(), "no request was made");
}

#[tokio::test(start_paused = true)]
async fn a_missing_bucket_is_for_a_human_and_a_missing_network_is_not() {
    let world = World::new();
    let nowhere = world.with(S3Settings { bucket: "nowhere".to_owned(), ..settings() });
    assert_eq!(why(&nowhere.probe().await.expect_err("no bucket")), "halt");
    assert_eq!(why(&nowhere.stage(cid(1), &conformance::batch(1)).await.expect_err("no bucket")), "halt");
    let s3 = world.s3();
    s3.probe().await.expect("there");
    world.connection.cut();
    assert_eq!(why(&s3.probe().await.expect_err("cut")), "retry");
    assert_eq!(why(&s3.stage(cid(1), &conformance::batch(1)).await.expect_err("cut")), "retry");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_leaves_only_an_open_upload() {
    let world = World::new();
    let s3 = world.s3();
    world.fault(Fault::DelayAnswer(5_000), "UploadPart");
    let batch = conformance::batch(1);
    let staging = s3.stage(cid(1), &batch);
    assert!(tokio::time::timeout(Duration::from_secs(1), staging).await.is_err());
    assert_eq!((world.open(), world.emulator.objects("lake").len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn open_uploads_are_listed_page_by_page_and_only_those_of_our_form() {
    let world = World::new();
    let s3 = world.s3();
    let mut expected = Vec::new();
    for number in 1..=1003 {
        let (output, _) = s3.stage_extra(cid(number), &error_object(1, "{}\n")).await.expect("staged");
        expected.push((output.key, Some(upload_of(&output.held).0)));
    }
    let staged = s3.stage(cid(2000), &conformance::batch(1)).await.expect("staged");
    expected.extend(staged.outputs.into_iter().map(|output| (output.key, Some(upload_of(&output.held).0))));
    for foreign in ["in/foreign", "elsewhere/foreign"] {
        s3.bucket.client.create_multipart_upload().bucket("lake").key(foreign).send().await.expect("opened");
    }
    world.now.fetch_add(24 * 3600 * 1000, Ordering::Relaxed);

    let (mut found, mut pages, mut page) = (Vec::new(), 0, Some(Page::default()));
    while let Some(at) = page {
        let listed = s3.leftovers(&at).await.expect("listed");
        found.extend(listed.found);
        (page, pages) = (listed.next, pages + 1);
    }
    assert_eq!(pages, 3, "two of the error prefix, one of the other");
    expected.sort();
    let mut keys: Vec<_> = found.iter().map(|upload| (upload.key.clone(), upload.upload_id.clone())).collect();
    keys.sort();
    assert_eq!(keys, expected);
    assert!(found.iter().all(|upload| upload.cid.fingerprint() == 0xABCDE && sweep::due(upload)));

    s3.end(&found[0]).await.expect("aborted");
    s3.end(&found[0]).await.expect("gone is as good as aborted");
    assert_eq!(world.open(), expected.len() - 1 + 2);
}
