//! Many objects in one commit, against the emulator: of partitions, of the backup; and what faults do to one of them.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use standpipe_convert::{Columns, ParquetOptions};
use standpipe_emulator::{Fault, Rule, Service};
use standpipe_flow::conformance::{check, receipt};
use standpipe_flow::{OutputKind, Partition};

use super::emulated::{World, committed};
use super::*;

/// A destination whose keys name the partition; small objects, so that large partitions are several.
pub(super) fn partitioned() -> S3Settings {
    let prefix = "in/customer=!{partitionKeyFromQuery:customer}/!{timestamp:HH-mm-ss}/";
    S3Settings {
        prefix: Template::prefix(Some(prefix)).expect("a prefix"),
        limits: BatchLimits { size_bytes: 1000, partitions_max: Some(500), ..settings().limits },
        ..settings()
    }
}

pub(super) fn with_backup() -> S3Settings {
    let backup = BackupSettings {
        bucket: "raw".to_owned(),
        prefix: Template::prefix(Some("all/")).expect("a prefix"),
        compression: Compression::Gzip,
        file_extension: None,
        kms: None,
        expected_owner: None,
    };
    S3Settings { backup: Some(backup), ..partitioned() }
}

/// One record each, of this partition, a second apart; kept as they were read, too.
pub(super) fn batch_of_partitions(records: &[(&str, &str)]) -> Arc<Batch> {
    let mut batch = Arc::unwrap_or_clone(batch_of(records.iter().map(|(_, data)| Bytes::from((*data).to_owned()))));
    let chunk = &mut batch.shards[0].chunks[0];
    chunk.originals = chunk.records.iter().map(|record| record.with_data(Bytes::from_static(b"raw;"))).collect();
    for (second, (record, (customer, _))) in (0..).zip(chunk.records.iter_mut().zip(records)) {
        record.arrival = Millis(1_790_000_000_000 + 1000 * second);
        let query = [("customer".to_owned(), (*customer).to_owned())].into();
        record.partition = Some(Arc::new(Partition { query, ..Partition::default() }));
    }
    Arc::new(batch)
}

pub(super) fn many(count: usize) -> Arc<Batch> {
    let names: Vec<String> = (0..count).map(|n| format!("c{n:04}")).collect();
    let records: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "{}")).collect();
    batch_of_partitions(&records)
}

/// Requests by operation, since the last time.
pub(super) fn requests(world: &World) -> BTreeMap<String, usize> {
    let mut requests = BTreeMap::new();
    for entry in world.emulator.take_trace() {
        *requests.entry(entry.call.operation).or_default() += 1;
    }
    requests
}

/// Every request of an operation fails after so many.
pub(super) fn failing_after(world: &World, fault: Fault, (operation, mut after): (&'static str, usize)) {
    world.emulator.faults().set_hook(move |call| {
        let meant = call.operation == operation;
        let fails = meant && after == 0;
        after -= usize::from(meant && !fails);
        fails.then_some(fault)
    });
}

#[tokio::test(start_paused = true)]
async fn it_conforms_with_partitions_and_a_backup() {
    let world = World::new();
    world.emulator.create_bucket("raw").expect("a bucket");
    check(&world.with(with_backup()), &world).await.expect("conforms");
}

#[tokio::test(start_paused = true)]
async fn a_partition_is_an_object_named_by_its_value_and_its_oldest_record() {
    let world = World::new();
    let s3 = world.with(partitioned());
    let batch = batch_of_partitions(&[("b", "1"), ("a", "2"), ("../x", "3"), ("b", "4")]);
    let receipt = committed(&s3, 1, &batch).await;
    assert_eq!(s3.publish(&receipt).await.expect("published"), Published::All);
    let name = format!("orders-1-2026-09-21-14-13-20-{}", cid(1));
    let found: Vec<_> = world.emulator.objects("lake").into_iter().map(|object| object.key).collect();
    let expected = [
        format!("in/customer=..%2Fx/14-13-22/{name}"),
        format!("in/customer=a/14-13-21/{name}-1"),
        format!("in/customer=b/14-13-20/{name}-2"),
    ];
    assert_eq!(found, expected);
    assert_eq!(world.emulator.object("lake", &found[2]).as_deref(), Some(&b"1\n4\n"[..]));
}

#[tokio::test(start_paused = true)]
async fn what_is_more_than_an_object_is_to_hold_is_a_further_object() {
    let world = World::new();
    let s3 = world.with(partitioned());
    let line = "x".repeat(399);
    let batch = batch_of_partitions(&[("a", &line), ("a", &line), ("a", &line), ("b", &line)]);
    let receipt = committed(&s3, 1, &batch).await;
    let sizes: Vec<_> = receipt.outputs.iter().map(|output| (output.size, output.records)).collect();
    assert_eq!(sizes, [(800, 2), (400, 1), (400, 1)]);
    assert_eq!(receipt.outputs.iter().map(|output| &output.key).collect::<BTreeSet<_>>().len(), 3);
    assert_eq!(s3.publish(&receipt).await.expect("published"), Published::All);
}

#[tokio::test(start_paused = true)]
async fn a_backup_holds_what_was_read_in_a_bucket_of_its_own() {
    let world = World::new();
    world.emulator.create_bucket("raw").expect("a bucket");
    let s3 = world.with(with_backup());
    s3.probe().await.expect("both are there");
    let receipt = committed(&s3, 1, &batch_of_partitions(&[("a", "1"), ("b", "2")])).await;
    let backup = receipt.outputs.last().expect("the backup");
    assert_eq!((backup.kind, backup.bucket.as_str(), backup.records), (OutputKind::Backup, "raw", 2));
    assert_eq!(backup.key, format!("all/2026/09/21/14/orders-1-2026-09-21-14-13-20-{}-2.gz", cid(1)));
    assert_eq!(world.emulator.open_uploads("raw").len(), 1);
    let swept = s3.leftovers(&Page { place: 2, ..Page::default() }).await.expect("listed");
    assert_eq!(swept.found.iter().map(|upload| &upload.key).collect::<Vec<_>>(), [&backup.key], "the sweeper sees it");

    assert_eq!(s3.publish(&receipt).await.expect("published"), Published::All);
    let object = world.emulator.objects("raw").remove(0);
    assert_eq!(object.content_encoding.as_deref(), Some("gzip"));
    let body = world.emulator.object("raw", &object.key).expect("visible");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::MultiGzDecoder::new(&body[..]), &mut text).expect("gzip");
    assert_eq!(text, "raw;raw;");
    assert!(world.emulator.objects("lake").iter().all(|object| object.content_encoding.is_none()));

    // Of a batch of which nothing is to be delivered the backup remains.
    let mut dropped = Arc::unwrap_or_clone(batch_of_partitions(&[("a", "1")]));
    dropped.shards[0].chunks[0].records.clear();
    let staged = s3.stage(cid(2), &Arc::new(dropped)).await.expect("staged");
    assert_eq!(staged.outputs.iter().map(|output| output.kind).collect::<Vec<_>>(), [OutputKind::Backup]);
    s3.discard(&staged.outputs).await.expect("discarded");
    assert_eq!(world.emulator.open_uploads("raw").len(), 0);
    // A destination that no longer knows the bucket touches none of the commit's outputs.
    world.emulator.take_trace();
    assert_eq!(why(&world.with(partitioned()).publish(&receipt).await.expect_err("foreign")), "halt");
    assert!(world.emulator.take_trace().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_passing_fault_of_one_object_repeats_that_object_alone() {
    for fault in [Fault::InternalError, Fault::Throttle, Fault::DropAnswer, Fault::DropRequest] {
        for (operation, staging) in
            [("CreateMultipartUpload", true), ("UploadPart", true), ("CompleteMultipartUpload", false)]
        {
            let world = World::new();
            let s3 = world.with(partitioned());
            world.fault(fault, operation);
            let batch = many(40);
            let receipt = committed(&s3, 1, &batch).await;
            assert_eq!(s3.publish(&receipt).await.expect("published"), Published::All, "{fault:?} at {operation}");
            let counted = requests(&world);
            let expected = if staging || fault != Fault::DropAnswer { 41 } else { 40 };
            assert!(counted[operation] >= expected && counted[operation] <= 41, "{fault:?}: {counted:?}");
            assert_eq!(world.emulator.objects("lake").len(), 40, "{fault:?} at {operation}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lasting_fault_at_any_step_leaves_nothing_open_and_the_next_attempt_succeeds() {
    for fault in [Fault::InternalError, Fault::DropRequest] {
        for operation in ["CreateMultipartUpload", "UploadPart"] {
            for after in [0, 1, 17, 39] {
                let world = World::new();
                let s3 = world.with(partitioned());
                failing_after(&world, fault, (operation, after));
                let error = s3.stage(cid(1), &many(40)).await.expect_err("a lasting fault");
                assert_eq!((why(&error), world.open()), ("retry", 0), "{fault:?} at {operation} after {after}");
                world.emulator.faults().clear();
                let receipt = committed(&s3, 2, &many(40)).await;
                assert_eq!(s3.publish(&receipt).await.expect("published"), Published::All);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn publishing_that_was_cut_off_goes_on_with_what_is_left() {
    let world = World::new();
    let s3 = world.with(partitioned());
    let receipt = committed(&s3, 1, &many(40)).await;
    failing_after(&world, Fault::InternalError, ("CompleteMultipartUpload", 25));
    assert_eq!(why(&s3.publish(&receipt).await.expect_err("a lasting fault")), "retry");
    assert_eq!(world.emulator.objects("lake").len(), 25);
    world.emulator.faults().clear();
    assert_eq!(s3.publish(&receipt).await.expect("published"), Published::All);
    assert_eq!((world.open(), world.emulator.objects("lake").len()), (0, 40));
}

/// Of a large object nothing else is under way, and small ones are not one after the other.
#[tokio::test(start_paused = true)]
async fn small_objects_are_under_way_together() {
    let world = World::new();
    let s3 = world.with(partitioned());
    world.emulator.faults().add(Rule::new(Service::S3, Fault::Delay(100)));
    let begun = tokio::time::Instant::now();
    let receipt = committed(&s3, 1, &many(640)).await;
    s3.publish(&receipt).await.expect("published");
    let millis = begun.elapsed().as_millis();
    // Three requests each of 100 ms, 32 at a time: 6 s; one after the other they would take 192.
    assert!((6_000..7_000).contains(&millis), "{millis} ms");
}

#[derive(Debug, Clone)]
struct Made {
    customer: u8,
    fits: bool,
    bytes: usize,
}

fn records() -> impl Strategy<Value = Vec<Made>> {
    let made = (0..6u8, proptest::bool::weighted(0.8), 0..200usize);
    proptest::collection::vec(made.prop_map(|(customer, fits, bytes)| Made { customer, fits, bytes }), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    /// Whatever the records are, each is in one object of its partition, or is returned.
    #[test]
    fn delivered_and_rejected_are_what_came_in(made in records(), parquet in any::<bool>()) {
        let text = |(n, made): (usize, &Made)| match made.fits {
            true => format!("{{\"n\":{n},\"x\":\"{}\"}}", "x".repeat(made.bytes)),
            false => format!("broken {n}"),
        };
        let texts: Vec<String> = made.iter().enumerate().map(text).collect();
        let customers: Vec<String> = made.iter().map(|made| format!("c{}", made.customer)).collect();
        let of: Vec<(&str, &str)> = customers.iter().zip(&texts).map(|(c, t)| (c.as_str(), t.as_str())).collect();
        let batch = batch_of_partitions(&of);
        let columns = Columns::parse("n bigint").expect("columns");
        let format = Format::Parquet { rows: columns.into(), options: ParquetOptions::default() };
        let settings = if parquet { S3Settings { format, ..partitioned() } } else { partitioned() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let world = World::new();
            let s3 = world.with(settings);
            let staged = s3.stage(cid(1), &batch).await.expect("staged");
            let rejected = staged.rejected.len();
            prop_assert_eq!(rejected, if parquet { made.iter().filter(|made| !made.fits).count() } else { 0 });
            let delivered: u64 = staged.outputs.iter().map(|output| output.records).sum();
            prop_assert_eq!(delivered as usize + rejected, made.len());
            prop_assert_eq!(world.open(), staged.outputs.len());
            prop_assert!(staged.next_ordinal as usize >= staged.outputs.len());
            let receipt = receipt(cid(1), &batch, staged);
            prop_assert_eq!(s3.publish(&receipt).await.expect("published"), Published::All);
            let mut found: Vec<(String, String)> = Vec::new();
            for output in receipt.outputs.iter().filter(|_| !parquet) {
                let body = world.emulator.object("lake", &output.key).expect("visible");
                let customer = output.key.strip_prefix("in/customer=").and_then(|key| key.split('/').next());
                let customer = customer.expect("its partition").to_owned();
                let lines = std::str::from_utf8(&body).expect("text").lines();
                found.extend(lines.map(|line| (customer.clone(), line.to_owned())));
            }
            let mut all: Vec<(String, String)> = customers.iter().cloned().zip(texts.iter().cloned()).collect();
            found.sort();
            all.sort();
            prop_assert!(parquet || found == all);
            Ok(())
        })?;
    }
}
