//! The real clients on the wire: S3 is the emulator, the Data API a warehouse in a few lines that does what the test wants.

mod warehouse;

use std::sync::atomic::AtomicU64;

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_redshiftdata::config::{BehaviorVersion, Region};
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_types::SdkConfig;
use standpipe_convert::Delimiter;
use standpipe_flow::conformance::{Witness, batch, check, receipt};
use standpipe_flow::{BatchShard, Chunk, Job};

use super::*;
use crate::s3::{LostObject, Publish, S3Settings};
use warehouse::{Fate, World};

/// Runs a job where it stands, as a simulation does.
#[derive(Debug)]
struct Inline;

impl Offload for Inline {
    fn run(&self, job: Job) {
        job();
    }
}

/// Counts up from one: no load prunes the ledger by chance.
#[derive(Debug)]
struct Counting(AtomicU64);

impl Random for Counting {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

fn limits() -> BatchLimits {
    BatchLimits { size_bytes: 1 << 20, interval: Duration::from_secs(60), shards_max: 32, partitions_max: None }
}

pub(super) fn settings() -> RedshiftSettings {
    RedshiftSettings {
        warehouse: Warehouse {
            workgroup: Some("analytics".to_owned()),
            cluster: None,
            database: "dev".to_owned(),
            secret: Some("redshift/standpipe".to_owned()),
            db_user: None,
        },
        copy: CopyInto {
            schema: "public".to_owned(),
            table: "orders".to_owned(),
            columns: vec!["shard".to_owned(), "n".to_owned()],
            role: Some("arn:aws:iam::111122223333:role/copy".to_owned()),
            region: None,
            options: "JSON 'auto'".to_owned(),
            errors_max: 0,
        },
        prefix: "rs/".to_owned(),
        pipeline: "orders-dw".to_owned(),
        stream: "orders".to_owned(),
        format: Format::JsonLines { delimiter: Delimiter::Newline },
        compression: Compression::None,
        json: true,
        limits: limits(),
        retry: Duration::from_secs(3600),
    }
}

fn redshift_with(world: &World, settings: RedshiftSettings) -> Redshift {
    let credentials = Credentials::from_keys("id", "secret", None);
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
        .endpoint_url("http://emulator.test")
        .http_client(world.clone())
        .build();
    let (offload, random): (Arc<dyn Offload>, Arc<dyn Random>) =
        (Arc::new(Inline), Arc::new(Counting(AtomicU64::new(1))));
    let s3 = S3Settings {
        bucket: "staging".to_owned(),
        prefix: Template::prefix(Some("rs/")).expect("a prefix"),
        error_prefix: Template::error_prefix(None, Some("rs/errors/")).expect("a prefix"),
        pipeline: "orders-dw".to_owned(),
        time_zone: TimeZone::UTC,
        format: Format::Raw,
        compression: Compression::None,
        file_extension: None,
        limits: limits(),
        kms: None,
        expected_owner: None,
        backup: None,
        lost_object: LostObject::Replay,
        publish: Publish::Multipart,
    };
    let s3 = Arc::new(S3::new(&config, s3, offload.clone(), random.clone()));
    Redshift::new(&config, settings, s3, (offload, random))
}

fn redshift(world: &World) -> Redshift {
    redshift_with(world, settings())
}

fn cid(number: u64) -> CommitId {
    CommitId::new(Millis(1_790_000_000_000), 0xABCDE, number << 4)
}

/// A staged commit of two shards of three records each.
async fn committed(redshift: &Redshift, number: u64) -> Receipt {
    let batch = batch(3);
    let staged = redshift.stage(cid(number), &batch).await.expect("staged");
    receipt(cid(number), &batch, staged)
}

/// The same with an error object behind the staged one.
async fn committed_with_errors(redshift: &Redshift, number: u64) -> Receipt {
    let mut receipt = committed(redshift, number).await;
    let extra = ExtraObject {
        kind: OutputKind::Error,
        output_type: "processing-failed",
        ordinal: 9,
        cut_at: Millis(1_790_000_000_000),
        oldest_arrival: Millis(1_790_000_000_000),
        body: Bytes::from_static(b"{}\n"),
        records: 1,
    };
    let (output, _) = redshift.stage_extra(receipt.cid, &extra).await.expect("staged");
    receipt.outputs.push(output);
    receipt
}

fn why(error: &DeliveryError) -> &'static str {
    match error {
        DeliveryError::Retry { .. } => "retry",
        DeliveryError::Reject { .. } => "reject",
        DeliveryError::Halt { .. } => "halt",
    }
}

#[tokio::test(start_paused = true)]
async fn it_conforms() {
    let world = World::new();
    check(&redshift(&world), &world).await.expect("conforms");
}

#[tokio::test(start_paused = true)]
async fn a_load_says_what_redshift_needs_to_hear() {
    let world = World::new();
    let redshift = redshift(&world);
    let receipt = committed(&redshift, 1).await;
    let [output] = &receipt.outputs[..] else { panic!("one object: {:?}", receipt.outputs) };
    assert_eq!(output.key, format!("rs/2026/09/21/14/orders-dw-1-2026-09-21-14-13-20-{}-1", cid(1)));
    assert_eq!((output.records, &output.held), (6, &Held::Object));
    assert_eq!(redshift.publish(&receipt).await.expect("published"), Published::All);
    let batch = world.batches().pop().expect("a batch");
    assert_eq!(
        (batch.workgroup.as_str(), batch.database.as_str(), batch.secret.as_str()),
        ("analytics", "dev", "redshift/standpipe")
    );
    assert!(batch.token.starts_with(&format!("{}-", cid(1))) && batch.token.len() <= 64, "{}", batch.token);
    let manifest = format!("rs/manifests/2026/09/21/14/{}.json", cid(1));
    assert!(batch.sqls[2].contains(&format!("FROM 's3://staging/{manifest}'")), "{}", batch.sqls[2]);
    assert!(batch.sqls[3].contains("shardId-000000000001"), "{}", batch.sqls[3]);
    assert_eq!(world.rows(), 6);
    let manifest = String::from_utf8(world.object(&manifest).expect("the manifest").to_vec()).expect("text");
    let entry = format!(
        r#"{{"url":"s3://staging/{}","mandatory":true,"meta":{{"content_length":{}}}}}"#,
        output.key, output.size
    );
    assert_eq!(manifest, format!(r#"{{"entries":[{entry}]}}"#));
}

/// Whatever becomes of an answer or of a statement, the rows are there once.
#[tokio::test(start_paused = true)]
async fn a_load_is_made_once_whatever_becomes_of_its_answers() {
    for fates in [
        vec![],
        vec![Fate::LostBefore],
        vec![Fate::LostAfter],
        vec![Fate::LostAfter, Fate::LostAfter],
        vec![Fate::Busy("ActiveStatementsExceededException")],
        vec![Fate::Busy("ThrottlingException")],
        vec![Fate::Busy("DatabaseConnectionException")],
        vec![Fate::Internal],
        vec![Fate::Failed("ERROR: 1023 DETAIL: Serializable isolation violation on table - 100")],
        vec![Fate::Aborted],
        vec![Fate::FailedAfter("ERROR: server closed the connection unexpectedly")],
        vec![Fate::AbortedAfter],
        vec![Fate::Forgotten],
        vec![Fate::ForgottenAfter],
        vec![Fate::Failed("ERROR: relation \"orders\" does not exist"), Fate::LostAfter, Fate::Aborted],
    ] {
        let world = World::new();
        let redshift = redshift(&world);
        let receipt = committed(&redshift, 1).await;
        world.fates(&fates);
        let mut tries = 0;
        let published = loop {
            tries += 1;
            match redshift.publish(&receipt).await {
                Ok(published) => break published,
                Err(error) => assert!(tries < 10, "{fates:?}: {error}"),
            }
        };
        assert_eq!((published, world.rows(), world.ledger()), (Published::All, 6, 2), "{fates:?}");
        assert_eq!(redshift.publish(&receipt).await.expect("again"), Published::All);
        let other = redshift_with(&world, settings());
        assert_eq!(other.publish(&receipt).await.expect("by another"), Published::All);
        assert_eq!((world.rows(), world.ledger()), (6, 2), "{fates:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_asked_for_again_under_the_same_token_and_an_end_makes_a_new_one() {
    let world = World::new();
    let redshift = redshift(&world);
    let receipt = committed(&redshift, 1).await;
    world.fates(&[Fate::LostBefore, Fate::Aborted]);
    while redshift.publish(&receipt).await.is_err() {}
    let tokens: Vec<String> = world.batches().into_iter().map(|batch| batch.token).collect();
    let [first, second, third] = &tokens[..] else { panic!("{tokens:?}") };
    assert!(first == second && second != third, "{tokens:?}");
}

#[tokio::test(start_paused = true)]
async fn what_an_error_means_for_the_caller() {
    for (fate, expected) in [
        (Fate::Failed("ERROR: Query (1) cancelled on user's request"), "retry"),
        (Fate::Failed("ERROR: disk full"), "reject"),
        (Fate::Failed("ERROR: permission denied for relation orders"), "reject"),
        (Fate::Failed("ERROR: relation \"public.orders\" does not exist"), "reject"),
        (Fate::Failed("ERROR: Load into table 'orders' failed. Check 'sys_load_error_detail'"), "reject"),
        (Fate::Busy("AccessDeniedException"), "halt"),
        (Fate::Busy("ValidationException"), "halt"),
        (Fate::Internal, "retry"),
    ] {
        let world = World::new();
        let redshift = redshift(&world);
        let receipt = committed(&redshift, 1).await;
        redshift.create_ledger().await.expect("made");
        world.fates(&[fate]);
        let error = redshift.publish(&receipt).await.expect_err("not loaded");
        assert_eq!(why(&error), expected, "{fate:?}: {error}");
        assert_eq!(world.rows(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_for_too_long_is_given_up_and_can_be_loaded_later_once() {
    let world = World::new();
    let redshift = redshift(&world);
    let receipt = committed(&redshift, 1).await;
    world.fates(&[Fate::Failed("ERROR: relation \"public.orders\" does not exist"); 2]);
    assert_eq!(why(&redshift.publish(&receipt).await.expect_err("no table")), "reject");
    assert_eq!(redshift.refused_max(), Some(Duration::from_secs(3600)));
    assert_eq!(redshift.give_up(&receipt).await.expect("given up"), Published::GaveUp);
    assert_eq!(redshift.give_up(&receipt).await.expect("again"), Published::GaveUp);
    let key = format!("{}2026/09/21/14/{}.json", redshift.given_up_prefix(), cid(1));
    let written = world.object(&key).expect("the manifest");
    let text = String::from_utf8_lossy(&written).into_owned();
    assert!(text.contains("Redshift.TableNotFound") && text.contains("shardId-000000000001"), "{text}");
    assert!(world.object(&receipt.outputs[0].key).is_some(), "staged objects stay");

    let manifest = ErrorManifest::parse(&written).expect("ours");
    let url = format!("s3://staging/{key}");
    let now = Millis(receipt.created_at.expect("S3's time").0 + 59 * 24 * 3600 * 1000);
    let redrive = async |manifest: &ErrorManifest, now| redshift.redrive(manifest, (&url, now), Decided::Unknown).await;
    assert_eq!(why(&redrive(&manifest, now).await.expect_err("still no table")), "reject");
    assert_eq!(redrive(&manifest, now).await.expect("loaded"), Redriven::Loaded { left_out: None });
    assert_eq!(redrive(&manifest, now).await.expect("known"), Redriven::Already);
    assert_eq!((world.rows(), world.ledger()), (6, 2));
    let late = Millis(now.0 + 2 * 24 * 3600 * 1000);
    assert_eq!(why(&redrive(&manifest, late).await.expect_err("too old")), "halt");
    for (table, warehouse) in [("public.others", None), ("public.orders", Some("database dev of workgroup other"))] {
        let (table, warehouse) = (table.to_owned(), warehouse.map(str::to_owned));
        let other = ErrorManifest { table, warehouse, ..manifest.clone() };
        assert_eq!(why(&redrive(&other, now).await.expect_err("another table")), "halt");
    }
}

/// A reader takes error objects away as soon as it has them, while Redshift refuses the load: nothing is delivered again
/// for that, and the load is made once Redshift takes it.
#[tokio::test(start_paused = true)]
async fn error_objects_that_a_reader_took_are_no_reason_to_take_a_refused_load_back() {
    let world = World::new();
    let redshift = redshift(&world);
    let receipt = committed_with_errors(&redshift, 1).await;
    let errors = receipt.outputs.last().expect("an error object").clone();
    world.fates(&[Fate::Failed("ERROR: disk full"); 3]);
    assert_eq!(why(&redshift.publish(&receipt).await.expect_err("refused")), "reject");
    assert!(world.object(&errors.key).is_some(), "visible before the load");
    redshift.objects().delete(&errors.key).await.expect("a reader has it");
    assert_eq!(why(&redshift.publish(&receipt).await.expect_err("still refused")), "reject");
    // Another worker, whose tokens are its own, knows it from the manifest.
    let other = redshift_with(&world, settings());
    (0..100).for_each(|_| _ = other.random.next());
    assert_eq!(why(&other.publish(&receipt).await.expect_err("still refused")), "reject");
    assert_eq!(world.ledger(), 0, "no load of it was made impossible");
    assert_eq!(other.publish(&receipt).await.expect("loaded"), Published::All);
    assert_eq!((world.rows(), world.ledger()), (6, 2));
}

/// Before the manifest stands there, an error object that is lost was never seen by anybody.
#[tokio::test(start_paused = true)]
async fn error_objects_that_never_became_visible_take_the_commit_back() {
    let world = World::new();
    let redshift = redshift(&world);
    let receipt = committed_with_errors(&redshift, 1).await;
    redshift.discard(&receipt.outputs[1..]).await.expect("aborted");
    let gone = Published::Gone { outputs: receipt.outputs.clone(), published: false };
    assert_eq!(redshift.publish(&receipt).await.expect("looked"), gone);
    assert_eq!((world.rows(), world.ledger()), (0, 2));
}

/// A worker that has lost its leases takes a commit back in the ledger after another has given it up. Its receipt is DONE,
/// so nobody delivers its records again: they are loaded in spite of that, once.
#[tokio::test(start_paused = true)]
async fn what_was_given_up_is_loaded_although_a_late_worker_has_fenced_it() {
    let world = World::new();
    let redshift = redshift(&world);
    let receipt = committed(&redshift, 1).await;
    world.fates(&[Fate::Failed("ERROR: disk full")]);
    assert_eq!(why(&redshift.publish(&receipt).await.expect_err("refused")), "reject");
    assert_eq!(redshift.give_up(&receipt).await.expect("given up"), Published::GaveUp);
    let late = redshift_with(&world, settings());
    assert!(matches!(late.lost(&receipt, &[], false).await, Ok(Published::Gone { .. })));
    let key = format!("{}2026/09/21/14/{}.json", redshift.given_up_prefix(), cid(1));
    let manifest = ErrorManifest::parse(&world.object(&key).expect("the manifest")).expect("ours");
    let (url, now) = (format!("s3://staging/{key}"), receipt.created_at.expect("S3's time"));
    let redrive = async |decided| redshift.redrive(&manifest, (&url, now), decided).await.expect("answered");
    assert_eq!(redrive(Decided::Unknown).await, Redriven::TakenBack);
    assert_eq!(redrive(Decided::TakenBack).await, Redriven::TakenBack);
    assert_eq!(world.rows(), 0);
    assert_eq!(redrive(Decided::GivenUp).await, Redriven::Loaded { left_out: None });
    assert_eq!(redrive(Decided::GivenUp).await, Redriven::Already);
    assert_eq!((world.rows(), world.ledger()), (6, 2));
    // Whoever fences it once more comes too late.
    assert_eq!(late.lost(&receipt, &[], false).await.expect("asked"), Published::All);
    assert_eq!(redrive(Decided::GivenUp).await, Redriven::Already);
}

#[tokio::test(start_paused = true)]
async fn what_turns_out_to_be_loaded_is_not_given_up() {
    let world = World::new();
    let redshift = redshift(&world);
    let receipt = committed(&redshift, 1).await;
    assert_eq!(redshift.publish(&receipt).await.expect("published"), Published::All);
    assert_eq!(redshift_with(&world, settings()).give_up(&receipt).await.expect("asked"), Published::All);
    assert_eq!(world.objects_under("rs/errors/manifests/"), 0);
}

/// The statement is cancelled, and its end awaited; one that had ended by then counts.
#[tokio::test(start_paused = true)]
async fn a_load_that_runs_is_cancelled_before_it_is_given_up_and_may_have_won() {
    for (fate, expected, rows) in [(Fate::Hangs, Published::GaveUp, 0), (Fate::HangsThenWins, Published::All, 6)] {
        let world = World::new();
        let redshift = redshift(&world);
        let receipt = committed(&redshift, 1).await;
        world.fates(&[fate]);
        let hung = tokio::time::timeout(Duration::from_secs(300), redshift.publish(&receipt)).await;
        assert!(hung.is_err(), "it runs");
        assert_eq!(redshift.give_up(&receipt).await.expect("ended"), expected, "{fate:?}");
        assert_eq!((world.rows(), world.cancelled()), (rows, 1), "{fate:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_is_taken_back_can_never_be_loaded() {
    let world = World::new();
    let redshift = redshift(&world);
    let receipt = committed(&redshift, 1).await;
    let object = receipt.outputs[0].clone();
    let body = world.object(&object.key).expect("staged");
    redshift.discard(std::slice::from_ref(&object)).await.expect("deleted");
    let gone = Published::Gone { outputs: vec![object.clone()], published: false };
    assert_eq!(redshift.publish(&receipt).await.expect("looked"), gone);
    // A copy of the object comes back, and a publisher that slept: the guard stops it.
    let back = crate::s3::Whole { key: object.key.clone(), body, once: false };
    redshift.s3.put_whole(back).await.expect("put");
    assert_eq!(redshift_with(&world, settings()).publish(&receipt).await.expect("stopped"), gone);
    assert_eq!((world.rows(), world.ledger()), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn rows_that_copy_leaves_out_become_error_lines_once() {
    let world = World::new();
    let copy = CopyInto { options: "JSON 'auto' MAXERROR 10".to_owned(), errors_max: 10, ..settings().copy };
    let redshift = redshift_with(&world, RedshiftSettings { copy, ..settings() });
    let receipt = committed(&redshift, 1).await;
    world.refuse_rows(&[(3, "n", "Invalid digit, Value 'x'")]);
    assert_eq!(redshift.publish(&receipt).await.expect("published"), Published::All);
    let key = format!("rs/errors/rows/2026/09/21/14/{}.json", cid(1));
    let written = world.object(&key).expect("error lines");
    let line: serde_json::Value = serde_json::from_slice(&written).expect("one line");
    assert_eq!((line["load"]["line"].as_u64(), line["load"]["column"].as_str()), (Some(3), Some("n")));
    assert_eq!(line["errorCode"], "Redshift.DataLoadFailed");
    world.refuse_rows(&[(4, "n", "another")]);
    assert_eq!(redshift.publish(&receipt).await.expect("again"), Published::All);
    assert_eq!(world.object(&key), Some(written), "what was written stays");
}

#[tokio::test(start_paused = true)]
async fn records_that_copy_cannot_read_are_rejected_one_by_one() {
    let world = World::new();
    let redshift = redshift(&world);
    let mut batch = Arc::unwrap_or_clone(batch(3));
    let shard: &mut BatchShard = &mut batch.shards[0];
    let chunk: &mut Chunk = &mut shard.chunks[0];
    chunk.records[1].data = Bytes::from_static(b"'); DROP TABLE orders; --");
    let staged = redshift.stage(cid(1), &Arc::new(batch)).await.expect("staged");
    let rejected: Vec<_> = staged.rejected.iter().map(|record| (record.output_type, record.code)).collect();
    assert_eq!(rejected, [("redshift-failed", "Redshift.InvalidRecord")]);
    assert_eq!(staged.outputs[0].records, 5);
}

#[tokio::test(start_paused = true)]
async fn probing_says_what_is_missing() {
    let world = World::new();
    redshift(&world).probe().await.expect("all there");
    assert!(!world.ledger_made(), "probing makes nothing");
    let copy = CopyInto { table: "nowhere".to_owned(), ..settings().copy };
    let missing = redshift_with(&world, RedshiftSettings { copy, ..settings() });
    let error = missing.probe().await.expect_err("no table");
    assert!(error.to_string().contains("public.nowhere"), "{error}");
}
