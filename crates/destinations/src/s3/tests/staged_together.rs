//! Many small objects in staging objects: their bytes, every answer on the way, and what is left of them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use standpipe_emulator::{Fault, Rule, Service};
use standpipe_flow::conformance::receipt;
use standpipe_flow::{Checksum, OutputKind};

use super::emulated::{World, committed};
use super::partitioned::{batch_of_partitions, failing_after, many, partitioned, requests, with_backup};
use super::scripted::{Script, error, obliging};
use super::*;
use crate::s3::staging;

const MIB: usize = 1 << 20;

fn put() -> S3Settings {
    let limits = BatchLimits { size_bytes: 64 << 20, ..partitioned().limits };
    S3Settings { publish: Publish::Put, limits, ..partitioned() }
}

/// A partition each, of so many bytes that no other has in this order.
fn sized(sizes: &[usize]) -> Arc<Batch> {
    let pattern = |n: usize| (0..997).map(|at| char::from(b'a' + ((n * 7 + at / 11) % 26) as u8)).collect::<String>();
    let text = |(n, size): (usize, &usize)| pattern(n).repeat(size / 997 + 1)[..*size].to_owned();
    let texts: Vec<(String, String)> =
        sizes.iter().enumerate().map(|(n, size)| (format!("c{n:04}"), text((n, size)))).collect();
    let records: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    batch_of_partitions(&records)
}

/// Keys of staging objects.
fn staging_objects(world: &World) -> Vec<String> {
    let keys = world.emulator.objects("lake").into_iter().map(|object| object.key);
    keys.filter(|key| key.starts_with("standpipe-staging/")).collect()
}

fn visible(world: &World) -> usize {
    world.emulator.objects("lake").len() - staging_objects(world).len()
}

fn is_slice(output: &Output) -> bool {
    matches!(output.held, Held::Slice { .. })
}

/// The staging objects of a receipt.
fn staged_in(receipt: &Receipt) -> Vec<String> {
    let object = |output: &Output| match &output.held {
        Held::Slice { object, .. } => Some(object.clone()),
        _ => None,
    };
    let mut objects: Vec<String> = receipt.outputs.iter().filter_map(object).collect();
    objects.dedup();
    objects
}

#[tokio::test(start_paused = true)]
async fn many_small_objects_take_one_request_each_and_a_few_for_all() {
    let world = World::new();
    let s3 = world.with(S3Settings { compression: Compression::Gzip, ..put() });
    let receipt = committed(&s3, 1, &many(40)).await;
    assert_eq!(requests(&world), BTreeMap::from([("PutObject".to_owned(), 1)]));
    assert_eq!((world.open(), visible(&world), staging_objects(&world)), (0, 0, staged_in(&receipt)));
    assert!(staging_objects(&world)[0].starts_with(&format!("standpipe-staging/{}-", cid(1))));
    assert_eq!(receipt.created_at, Some(Millis(1_790_000_000_000)), "the store's own time");

    assert_eq!(s3.publish(&receipt).await.expect("published"), Published::All);
    assert_eq!(requests(&world), BTreeMap::from([("GetObject".to_owned(), 1), ("PutObject".to_owned(), 40)]));
    assert_eq!(visible(&world), 40);
    for output in &receipt.outputs {
        let object = world.emulator.object("lake", &output.key).expect("visible");
        assert_eq!(object.len() as u64, output.size);
        let mut text = String::new();
        std::io::Read::read_to_string(&mut flate2::read::MultiGzDecoder::new(&object[..]), &mut text).expect("gzip");
        assert_eq!(text, "{}\n");
    }
    let published = |object: &standpipe_emulator::ObjectSummary| !object.key.starts_with("standpipe-staging/");
    let encoded = |object: standpipe_emulator::ObjectSummary| object.content_encoding.as_deref() == Some("gzip");
    assert!(world.emulator.objects("lake").into_iter().filter(published).all(encoded));

    s3.clear(&receipt).await.expect("cleared");
    assert_eq!(requests(&world), BTreeMap::from([("DeleteObject".to_owned(), 1)]));
    assert_eq!((visible(&world), staging_objects(&world)), (40, Vec::new()));
    s3.clear(&receipt).await.expect("gone is as good as deleted");
    assert_eq!(s3.publish(&receipt).await.expect("looked up"), Published::All, "the objects are the proof");
}

#[tokio::test(start_paused = true)]
async fn few_objects_large_ones_and_backups_have_uploads() {
    let with_backup = S3Settings { backup: with_backup().backup, ..put() };
    for (settings, batch, slices, uploads) in [
        (put(), many(16), 0, 16),
        (S3Settings { publish: Publish::Multipart, ..put() }, many(40), 0, 40),
        (put(), many(17), 17, 0),
        (with_backup, many(17), 17, 1),
        (put(), sized(&[[9; 17].as_slice(), &[5 * MIB - 2, 5 * MIB - 1, 5 * MIB, 9 * MIB]].concat()), 18, 3),
    ] {
        let world = World::new();
        world.emulator.create_bucket("raw").expect("a bucket");
        let s3 = world.with(settings);
        let receipt = committed(&s3, 1, &batch).await;
        let found = receipt.outputs.iter().filter(|output| is_slice(output)).count();
        assert_eq!((found, receipt.outputs.len() - found), (slices, uploads));
        assert_eq!(s3.publish(&receipt).await.expect("published"), Published::All);
        for output in &receipt.outputs {
            let size = world.emulator.object(&output.bucket, &output.key).map(|body| body.len() as u64);
            assert_eq!(size, Some(output.size), "{}", output.key);
        }
        s3.discard(&receipt.outputs).await.expect("nothing of it is open");
    }
}

#[tokio::test(start_paused = true)]
async fn a_passing_fault_is_repeated_and_every_object_is_written_once() {
    for fault in [
        Fault::InternalError,
        Fault::InternalErrorAfterEffect,
        Fault::Throttle,
        Fault::DropAnswer,
        Fault::DropRequest,
        Fault::ConditionalConflict,
    ] {
        for (operation, after) in [("PutObject", 0), ("PutObject", 1), ("GetObject", 0), ("PutObject", 20)] {
            let world = World::new();
            let s3 = world.with(put());
            let mut left = after;
            world.emulator.faults().set_hook(move |call| {
                let strikes = call.operation == operation && left == 0;
                left -= i32::from(call.operation == operation);
                strikes.then_some(fault)
            });
            let receipt = committed(&s3, 1, &many(40)).await;
            let mut published = s3.publish(&receipt).await;
            if let (Err(error), "GetObject") = (&published, operation) {
                assert_eq!(why(error), "retry", "there is one read: the pipeline asks again");
                published = s3.publish(&receipt).await;
            }
            assert_eq!(published.expect("published"), Published::All, "{fault:?} at {operation} {after}");
            assert_eq!((visible(&world), staging_objects(&world).len()), (40, 1), "{fault:?} at {operation} {after}");
            for output in &receipt.outputs {
                assert_eq!(world.emulator.object("lake", &output.key).as_deref(), Some(&b"{}\n"[..]));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lasting_fault_leaves_no_staging_object_and_the_next_attempt_of_the_same_commit_succeeds() {
    for fault in [Fault::InternalError, Fault::DropRequest, Fault::ConditionalConflict] {
        for after in [0, 1, 2, 4] {
            let world = World::new();
            let s3 = world.with(put());
            let batch = sized(&[MIB; 40]);
            failing_after(&world, fault, ("PutObject", after));
            let error = s3.stage(cid(1), &batch).await.expect_err("a lasting fault");
            assert_eq!((why(&error), world.open(), staging_objects(&world)), ("retry", 0, Vec::new()), "{fault:?}");
            world.emulator.faults().clear();
            let receipt = committed(&s3, 1, &batch).await;
            assert_eq!(s3.publish(&receipt).await.expect("published"), Published::All);
            assert_eq!((visible(&world), staging_objects(&world).len()), (40, 6));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn publishing_that_was_cut_off_is_finished_by_anyone() {
    for after in [0, 7, 39] {
        let world = World::new();
        let s3 = world.with(put());
        let receipt = committed(&s3, 1, &sized(&[MIB; 40])).await;
        failing_after(&world, Fault::InternalError, ("PutObject", after));
        assert_eq!(why(&s3.publish(&receipt).await.expect_err("a lasting fault")), "retry");
        assert_eq!(visible(&world), after);
        world.emulator.faults().clear();
        let another = world.with(S3Settings { publish: Publish::Multipart, ..put() });
        assert_eq!(another.publish(&receipt).await.expect("published"), Published::All);
        assert_eq!(visible(&world), 40, "whatever its own configuration is");
    }
}

#[tokio::test(start_paused = true)]
async fn two_publishers_at_once_write_every_object_once() {
    let world = World::new();
    let (s3, other) = (world.with(put()), world.with(put()));
    world.emulator.faults().add(Rule::new(Service::S3, Fault::Delay(50)));
    let receipt = committed(&s3, 1, &sized(&[100_000; 100])).await;
    let (first, second) = tokio::join!(s3.publish(&receipt), other.publish(&receipt));
    assert_eq!((first.expect("published"), second.expect("published")), (Published::All, Published::All));
    assert_eq!(visible(&world), 100);
    // The first is DONE and clears; the second looks again.
    s3.clear(&receipt).await.expect("cleared");
    assert_eq!(other.publish(&receipt).await.expect("looked up"), Published::All);
}

/// The chain of a lost upload: the object is proof, then the configuration says what to assume.
#[tokio::test(start_paused = true)]
async fn without_its_staging_object_an_output_is_there_or_assumed_or_gone() {
    let world = World::new();
    let s3 = world.with(put());
    let assume = world.with(S3Settings { lost_object: LostObject::AssumePublished, ..put() });
    let receipt = committed(&s3, 1, &many(40)).await;
    failing_after(&world, Fault::InternalError, ("PutObject", 15));
    s3.publish(&receipt).await.expect_err("a lasting fault");
    world.emulator.faults().clear();
    for key in staged_in(&receipt) {
        assert!(world.emulator.delete_object("lake", &key), "as a rule of the bucket might");
    }
    let (there, lost): (Vec<Output>, Vec<Output>) =
        receipt.outputs.iter().cloned().partition(|output| world.emulator.object("lake", &output.key).is_some());
    assert_eq!((there.len(), lost.len()), (15, 25));
    let found = s3.publish(&receipt).await.expect("looked up");
    let Published::Gone { mut outputs, published: true } = found else { panic!("{found:?}") };
    outputs.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(outputs, lost);
    assert_eq!(assume.publish(&receipt).await.expect("assumed"), Published::All);
    world.now.fetch_add(24 * 3600 * 1000, Ordering::Relaxed);
    assert!(matches!(assume.publish(&receipt).await.expect("looked up"), Published::Gone { .. }), "a day later");
    assert_eq!(visible(&world), 15, "nothing was written");
}

#[tokio::test(start_paused = true)]
async fn a_dead_attempt_is_discarded_with_its_staging_objects() {
    let world = World::new();
    let s3 = world.with(put());
    let receipt = committed(&s3, 1, &sized(&[[MIB; 20].as_slice(), &[6 * MIB]].concat())).await;
    assert_eq!((staging_objects(&world).len(), world.open()), (3, 1));
    for _ in 0..2 {
        s3.discard(&receipt.outputs).await.expect("discarded");
        assert_eq!((world.emulator.objects("lake").len(), world.open()), (0, 0));
    }
    let gone = s3.publish(&receipt).await.expect("looked up");
    assert!(matches!(gone, Published::Gone { published: false, outputs } if outputs.len() == 21));
}

/// A receipt is data from outside: what it names as a staging object would be deleted.
#[tokio::test(start_paused = true)]
async fn a_slice_of_anything_but_a_staging_object_is_refused() {
    let world = World::new();
    let s3 = world.with(put());
    let receipt = committed(&s3, 1, &many(40)).await;
    let foreign = ["in/customer=a/k", "standpipe-staging/", "standpipe-staging/notes.txt", "standpipe-staging/x-0"];
    for object in foreign {
        let mut receipt = receipt.clone();
        receipt.outputs[7].held = Held::Slice { object: object.to_owned(), offset: 0, encoding: None };
        world.emulator.take_trace();
        assert_eq!(why(&s3.publish(&receipt).await.expect_err("refused")), "halt", "{object}");
        assert_eq!(why(&s3.discard(&receipt.outputs).await.expect_err("refused")), "halt", "{object}");
        assert_eq!(why(&s3.clear(&receipt).await.expect_err("refused")), "halt", "{object}");
        assert!(world.emulator.take_trace().is_empty(), "no request was made");
    }
}

#[tokio::test(start_paused = true)]
async fn staging_objects_are_listed_behind_the_uploads_and_only_those_of_our_form() {
    let world = World::new();
    let s3 = world.with(put());
    let mut expected = Vec::new();
    for number in 1..=1003 {
        let key = format!("{}{}-00-0", staging::PREFIX, cid(number));
        s3.bucket.client.put_object().bucket("lake").key(&key).send().await.expect("written");
        expected.push((key, cid(number)));
    }
    for foreign in ["standpipe-staging/notes.txt", "standpipe-staging/zzz", "standpipe-incidents/a"] {
        s3.bucket.client.put_object().bucket("lake").key(foreign).send().await.expect("written");
    }
    let receipt = committed(&world.with(S3Settings { publish: Publish::Multipart, ..put() }), 1, &many(2)).await;
    world.now.fetch_add(24 * 3600 * 1000, Ordering::Relaxed);

    let (mut found, mut page) = (Vec::new(), Some(Page::default()));
    while let Some(at) = page {
        let listed = s3.leftovers(&at).await.expect("listed");
        found.extend(listed.found);
        page = listed.next;
    }
    let (uploads, objects): (Vec<_>, Vec<_>) = found.into_iter().partition(|found| found.upload_id.is_some());
    assert_eq!(uploads.len(), receipt.outputs.len());
    let mut keys: Vec<_> = objects.iter().map(|found| (found.key.clone(), found.cid)).collect();
    keys.sort();
    expected.sort();
    assert_eq!(keys, expected);
    assert!(objects.iter().all(sweep::due));
    s3.end(&objects[0]).await.expect("deleted");
    s3.end(&objects[0]).await.expect("gone is as good as deleted");
    assert_eq!(staging_objects(&world).len(), 1002 + 2);
}

#[tokio::test(start_paused = true)]
async fn requests_of_staged_objects_say_what_s3_needs_to_hear() {
    let body = "{}\n".repeat(40);
    let script = Script::new(move |request| match request.line.split_once(' ') {
        Some(("GET", _)) => (206, vec![("content-range", "bytes 0-119/120".to_owned())], body.clone()),
        _ => obliging(request),
    });
    let s3 = script.s3("http://script.test", S3Settings { kms: Some("alias/lake".to_owned()), ..put() });
    let receipt = committed(&s3, 1, &many(40)).await;
    s3.publish(&receipt).await.expect("published");
    let arrived = script.arrived();
    assert_eq!(arrived.len(), 42);
    assert_eq!(arrived[1].header("range"), Some("bytes=0-119"));
    for (request, output) in arrived[2..].iter().zip(&receipt.outputs) {
        let Checksum::Crc64Nvme(sum) = &output.checksum else { panic!("CRC-64/NVME") };
        assert_eq!(request.header("x-amz-checksum-crc64nvme"), Some(sum.as_str()));
        assert_eq!(request.body, "{}\n");
    }
    for request in arrived.iter().filter(|request| request.line.starts_with("PUT")) {
        for (name, value) in [
            ("if-none-match", "*"),
            ("content-type", "application/octet-stream"),
            ("x-amz-server-side-encryption", "aws:kms"),
            ("x-amz-server-side-encryption-aws-kms-key-id", "alias/lake"),
        ] {
            assert_eq!(request.header(name), Some(value), "{name} of {}", request.line);
        }
        assert_ne!(request.header("x-amz-content-sha256"), Some("UNSIGNED-PAYLOAD"), "signed without TLS");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_the_sum_gets_the_older_one_of_all_of_them() {
    let script = Script::new(|request| match request.header("x-amz-checksum-crc64nvme") {
        Some(_) => error(501, "NotImplemented"),
        None => obliging(request),
    });
    let s3 = script.s3("http://script.test", put());
    assert_eq!(why(&s3.stage(cid(1), &many(40)).await.expect_err("the sums are of the other kind")), "retry");
    let staged = s3.stage(cid(1), &many(40)).await.expect("staged");
    assert!(staged.outputs.iter().all(|output| matches!(output.checksum, Checksum::Crc32(_))));
    // A server that knows no conditions refuses the staging object too: nothing is committed that it cannot publish.
    let script = Script::new(|_| error(501, "NotImplemented"));
    let s3 = script.s3("http://script.test", put());
    assert_eq!(why(&s3.stage(cid(1), &many(40)).await.expect_err("the sum")), "retry");
    assert_eq!(why(&s3.stage(cid(1), &many(40)).await.expect_err("the condition")), "halt");
}

#[tokio::test(start_paused = true)]
async fn every_answer_of_a_read_and_of_a_write_has_its_meaning() {
    let slices = "{}\n".repeat(40);
    let ranged = |body: &str| (206, vec![("content-range", "bytes".to_owned())], body.to_owned());
    let whole = |body: &str| (200, Vec::new(), body.to_owned());
    let stored = (200, vec![("etag", "\"e\"".to_owned())], String::new());
    for (read, write, expected) in [
        (ranged(&slices), stored.clone(), "published"),
        (whole(&slices), stored.clone(), "published"),
        (ranged(&slices), error(412, "PreconditionFailed"), "published"),
        (ranged(&slices), error(409, "ConditionalRequestConflict"), "retry"),
        (ranged(&slices), error(400, "BadDigest"), "retry"),
        (ranged(&slices), error(503, "SlowDown"), "retry"),
        (ranged(&slices), error(403, "AccessDenied"), "halt"),
        (ranged(&slices), error(404, "NoSuchBucket"), "halt"),
        (ranged(&slices), error(501, "NotImplemented"), "halt"),
        (ranged(&slices[1..]), stored.clone(), "retry"),
        (whole(""), stored.clone(), "retry"),
        (error(503, "SlowDown"), stored.clone(), "retry"),
        (error(403, "AccessDenied"), stored.clone(), "halt"),
        (error(404, "NoSuchBucket"), stored.clone(), "halt"),
        (error(404, "NoSuchKey"), stored.clone(), "gone"),
    ] {
        let shown = format!("{read:?} {write:?}");
        let mut staged = false;
        let script = Script::new(move |request| match request.line.split_once(' ') {
            Some(("GET", line)) if line.contains("versions") => (200, Vec::new(), "<ListVersionsResult/>".to_owned()),
            Some(("GET", _)) => read.clone(),
            Some(("HEAD", _)) => (404, Vec::new(), String::new()),
            _ if staged => write.clone(),
            _ => {
                staged = true;
                obliging(request)
            }
        });
        let s3 = script.s3("http://script.test", put());
        let receipt = committed(&s3, 1, &many(40)).await;
        let found = match s3.publish(&receipt).await {
            Ok(Published::All) => "published",
            Ok(Published::Gone { .. }) => "gone",
            Ok(Published::GaveUp) => "given up",
            Err(error) => why(&error),
        };
        assert_eq!(found, expected, "{shown}");
    }
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    let size = prop_oneof![4 => 0..3_000usize, 1 => Just(0), 1 => Just(MIB), 1 => 3 * MIB..6 * MIB];
    proptest::collection::vec(size, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(16) })]

    #[test]
    fn a_slice_is_the_bytes_that_were_encoded(sizes in sizes()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let world = World::new();
            let s3 = world.with(S3Settings { format: Format::Raw, ..put() });
            let batch = sized(&sizes);
            let receipt = committed(&s3, 1, &batch).await;
            let small = sizes.iter().filter(|size| **size < 5 * MIB).count();
            let slices = receipt.outputs.iter().filter(|output| is_slice(output)).count();
            prop_assert_eq!(slices, if small > 16 { small } else { 0 });
            prop_assert_eq!((world.open(), visible(&world)), (sizes.len() - slices, 0));
            prop_assert!(world.emulator.objects("lake").iter().all(|object| object.size <= 8 << 20));
            prop_assert_eq!(s3.publish(&receipt).await.expect("published"), Published::All);
            for (output, record) in receipt.outputs.iter().zip(&batch.shards[0].chunks[0].records) {
                let body = world.emulator.object("lake", &output.key);
                prop_assert_eq!(body.as_ref(), Some(&record.data));
            }
            Ok(())
        })?;
    }

    /// What is read covers every slice once; no read is longer than a staging object, or than one slice that is.
    #[test]
    fn reads_cover_every_slice(slices in proptest::collection::vec((0..3u8, 0..20_000_000u64, 0..9_000_000u64), 0..40)) {
        let template = receipt(cid(1), &conformance::batch(0), Staged::default());
        prop_assert!(staging::loads(&template.outputs).is_empty());
        let output = |(n, (object, offset, size)): (usize, &(u8, u64, u64))| Output {
            kind: OutputKind::Data,
            bucket: "lake".to_owned(),
            key: format!("k{n}"),
            held: Held::Slice { object: format!("o{object}"), offset: *offset, encoding: None },
            size: *size,
            checksum: Checksum::Crc32(String::new()),
            records: 1,
        };
        let outputs: Vec<Output> = slices.iter().enumerate().map(output).collect();
        let loads = staging::loads(&outputs);
        let mut found = 0;
        for load in &loads {
            found += load.slices.len();
            let length = load.range.end - load.range.start;
            prop_assert!(length <= 8 << 20 || load.slices.len() == 1, "{:?}", load.range);
            for (output, offset) in &load.slices {
                prop_assert!(load.range.start <= *offset && offset + output.size <= load.range.end);
                let Held::Slice { object, .. } = &output.held else { panic!("a slice") };
                prop_assert_eq!(object, load.object);
            }
        }
        prop_assert_eq!(found, outputs.len());
    }
}
