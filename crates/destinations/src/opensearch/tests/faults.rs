//! What goes wrong, and what becomes of the records then.

use proptest::prelude::*;

use super::cluster::Fault;
use super::*;

#[tokio::test(start_paused = true)]
async fn documents_that_are_refused_for_good_are_rejected_and_the_others_are_there() {
    let cluster = Cluster::default();
    let made = Made::default().at(&cluster);
    let staged = made.stage(cid(1), &batch_of(["{\"n\":1}", "{\"n\":\"x\"}", "{\"n\":2}"])).await.expect("delivered");
    assert_eq!(codes(&staged), [("400", "2".to_owned())]);
    let record = &staged.rejected[0];
    assert_eq!((record.attempts, record.data.as_ref()), (1, &b"{\"n\":\"x\"}"[..]));
    assert_eq!(&*record.message, r#"{"type":"mapper_parsing_exception","reason":"failed to parse field [n]"}"#);
    let Detail::Document(document) = &record.detail else { panic!("a document") };
    assert_eq!((document.id.len(), document.index.as_str()), (26, "logs-2026-09-21"));
    assert_eq!(cluster.documents().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn documents_that_are_refused_for_the_moment_are_sent_again_and_only_they() {
    for status in [429, 500, 503] {
        let cluster = Cluster::default();
        let made = Made::default().at(&cluster);
        cluster.fail([Fault::Items(status), Fault::Items(status)]);
        let staged = made.stage(cid(1), &numbered(8)).await.expect("delivered");
        assert_eq!((staged.rejected.len(), cluster.documents().len()), (0, 8));
        let documents: Vec<usize> = cluster.seen().iter().map(|seen| seen.text.lines().count() / 2).collect();
        assert_eq!(documents, [8, 4, 2], "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn trouble_of_the_whole_service_is_told_and_held_against_no_record() {
    let denied = r#"{"error":{"type":"security_exception","reason":"no permissions"},"status":403}"#;
    let cases = [
        (Fault::Answer(503, ""), false),
        (Fault::Answer(502, "<html>"), false),
        (Fault::Answer(200, "<html>Sign in</html>"), false),
        (Fault::Answer(200, "{\"errors\":false,\"items\":[]}"), false),
        (Fault::Answer(429, "busy"), false),
        (Fault::Cut, false),
        (Fault::Lost, false),
        (Fault::Short, false),
        (Fault::Silence, false),
        (Fault::Answer(401, ""), true),
        (Fault::Answer(403, denied), true),
        (Fault::Answer(400, "{\"error\":{\"type\":\"illegal_argument_exception\"}}"), true),
        (Fault::Answer(302, ""), true),
        (Fault::Items(403), true),
    ];
    for (fault, halts) in cases {
        let cluster = Cluster::default();
        let settings = OpenSearchSettings { retry_for: RetryFor::Time(Duration::from_secs(3600)), ..settings() };
        let made = Made::of(settings).at(&cluster);
        cluster.fail([fault.clone()]);
        let told = made.stage(cid(1), &numbered(4)).await;
        if halts {
            halted(told);
        } else {
            retried(told);
        }
        let staged = made.stage(cid(1), &numbered(4)).await.expect("delivered");
        assert_eq!((staged.rejected.len(), cluster.documents().len()), (0, 4), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_somebody_in_between_refuses_holds_no_other_up() {
    let cluster = Cluster::default();
    cluster.dislike("OR 1=1");
    let made = Made::default().at(&cluster);
    let record = |n| {
        if n == 70 { format!("{{\"n\":{n},\"q\":\"' OR 1=1\"}}") } else { format!("{{\"n\":{n}}}") }
    };
    let staged = made.stage(cid(1), &batch_of((0..100).map(record))).await.expect("delivered");
    assert_eq!(codes(&staged), [("403", "71".to_owned())]);
    let rejected = &staged.rejected[0];
    assert_eq!((rejected.attempts, &*rejected.message), (3, "answered 403; a request without this document is taken"));
    assert_eq!(cluster.documents().len(), 99);
    // Halves, and the record alone twice more; behind each refused request one that does nothing.
    let requests = cluster.seen().len();
    assert!((15..=17).contains(&requests), "{requests}");
    assert!((8..=10).contains(&cluster.asked()), "{}", cluster.asked());
    // Alone in its batch it is known by the same.
    let staged = made.stage(cid(2), &batch_of([record(70)])).await.expect("settled");
    assert_eq!(codes(&staged), [("403", "1".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn what_the_service_says_of_rights_is_about_us_and_asks_for_nothing_more() {
    let cluster = Cluster::default();
    let made = Made::of(OpenSearchSettings { gzip: true, ..settings() }).at(&cluster);
    let denied = r#"{"error":{"type":"security_exception","reason":"no permissions"},"status":403}"#;
    cluster.fail([Fault::Answer(403, denied)]);
    let cause = halted(made.stage(cid(1), &numbered(8)).await);
    assert_eq!(cause, "answered 403: security_exception: no permissions, for the index logs-2026-09-21");
    assert_eq!((cluster.seen().len(), cluster.asked()), (1, 0));
    // Somebody who does not take compressed requests takes no compressed one that does nothing.
    cluster.fail([Fault::Answer(415, "")]);
    assert_eq!(halted(made.stage(cid(1), &numbered(8)).await), "answered 415, for the index logs-2026-09-21");
    assert_eq!((cluster.seen().len(), cluster.asked()), (2, 1));
    made.stage(cid(1), &numbered(8)).await.expect("delivered");
}

#[tokio::test(start_paused = true)]
async fn when_everything_is_refused_nothing_is_looked_for() {
    let cluster = Cluster::default();
    let made = Made::default().at(&cluster);
    for status in [400, 403, 404] {
        let before = (cluster.seen().len(), cluster.asked());
        cluster.fail([Fault::Answer(status, "<html>")]);
        let cause = halted(made.stage(cid(1), &numbered(1_000)).await);
        assert_eq!(cause, format!("answered {status}, for the index logs-2026-09-21"));
        assert_eq!((cluster.seen().len() - before.0, cluster.asked() - before.1), (1, 1));
    }
    cluster.fail([Fault::Items(403)]);
    let cause = halted(made.stage(cid(2), &numbered(4)).await);
    assert_eq!(cause, "documents for the index logs-2026-09-21 are denied with 403: some_exception");
    assert_eq!(made.stage(cid(2), &numbered(4)).await.expect("delivered").rejected, []);
}

#[tokio::test(start_paused = true)]
async fn how_long_to_wait_is_what_the_server_says() {
    let cluster = Cluster::default();
    let made = Made::default().at(&cluster);
    cluster.fail([Fault::Answer(429, "")]);
    let Err(DeliveryError::Retry { after, .. }) = made.stage(cid(1), &numbered(1)).await else { panic!("busy") };
    assert_eq!(after, Some(Duration::from_secs(3)));
}

#[tokio::test(start_paused = true)]
async fn without_ids_nothing_that_was_accepted_is_sent_again_for_the_same_commit() {
    let cluster = Cluster::default();
    let settings = OpenSearchSettings { document_id: DocumentId::None, ..settings() };
    let made = Made::of(settings).at(&cluster);
    cluster.fail([Fault::Items(429), Fault::Answer(503, "")]);
    retried(made.stage(cid(1), &numbered(6)).await);
    made.stage(cid(1), &numbered(6)).await.expect("delivered");
    assert_eq!(cluster.documents().len(), 6);
    // Its error objects could not be staged, say: the caller asks once more.
    let again = made.stage(cid(1), &numbered(6)).await.expect("delivered");
    assert_eq!((cluster.documents().len(), again.rejected.len()), (6, 0));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_too_large_is_halved_and_that_is_remembered() {
    let cluster = Cluster::default();
    cluster.take_at_most(100_000);
    let settings = OpenSearchSettings { rotation: Rotation::None, ..settings() };
    let made = Made::of(settings).at(&cluster);
    let text = "x".repeat(9_000);
    let batch = batch_of((0..100).map(|n| format!("{{\"n\":{n},\"text\":\"{text}\"}}")));
    let staged = made.stage(cid(1), &batch).await.expect("delivered");
    assert_eq!((staged.rejected.len(), cluster.documents().len()), (0, 100));
    let first = cluster.seen().len();
    made.stage(cid(2), &batch).await.expect("delivered");
    let sizes: Vec<usize> = cluster.seen()[first..].iter().map(|seen| seen.text.len()).collect();
    assert!(sizes.iter().all(|size| (1..=100_000).contains(size)), "none is refused any more: {sizes:?}");

    // One document alone that is larger is refused for good, and the others are not.
    let large = format!("{{\"n\":0,\"text\":\"{}\"}}", "x".repeat(200_000));
    let batch = batch_of(["{\"n\":1}".to_owned(), large, "{\"n\":2}".to_owned()]);
    let staged = made.stage(cid(3), &batch).await.expect("delivered");
    assert_eq!(codes(&staged), [("413", "2".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn the_retry_duration_counts_from_the_first_attempt_and_not_while_the_service_is_away() {
    let cluster = Cluster::default();
    let settings = OpenSearchSettings { retry_for: RetryFor::Time(Duration::from_secs(60)), ..settings() };
    let made = Made::of(settings.clone()).at(&cluster);
    let begin = tokio::time::Instant::now();
    cluster.fail((0..1_000).map(|_| Fault::Items(429)));
    let staged = loop {
        // The caller's own pauses.
        match made.stage(cid(1), &numbered(2)).await {
            Ok(staged) => break staged,
            Err(_) => tokio::time::sleep(Duration::from_secs(5)).await,
        }
    };
    assert_eq!(codes(&staged), [("429", "2".to_owned())]);
    assert!(staged.rejected[0].attempts > 10, "{}", staged.rejected[0].attempts);
    let took = begin.elapsed();
    assert!((Duration::from_secs(60)..Duration::from_secs(70)).contains(&took), "{took:?}");

    let cluster = Cluster::default();
    let made = Made::of(settings).at(&cluster);
    cluster.fail([Fault::Items(429), Fault::Answer(503, "")]);
    retried(made.stage(cid(2), &numbered(2)).await);
    cluster.unreachable(&["one"]);
    cluster.fail([Fault::Cut]);
    retried(made.stage(cid(2), &numbered(2)).await);
    tokio::time::sleep(Duration::from_secs(6 * 3600)).await;
    retried(made.stage(cid(2), &numbered(2)).await);
    cluster.unreachable(&[]);
    cluster.fail([Fault::Items(429)]);
    let staged = made.stage(cid(2), &numbered(2)).await.expect("delivered");
    assert_eq!((staged.rejected.len(), cluster.documents().len()), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn without_a_retry_one_attempt_is_all_and_for_ever_is_for_ever() {
    let cluster = Cluster::default();
    let settings = |retry_for| OpenSearchSettings { retry_for, ..settings() };
    cluster.fail([Fault::Items(503)]);
    let staged = Made::of(settings(RetryFor::Time(Duration::ZERO))).at(&cluster).stage(cid(1), &numbered(2)).await;
    assert_eq!(codes(&staged.expect("settled")), [("503", "2".to_owned())]);
    let made = Made::of(settings(RetryFor::Forever)).at(&cluster);
    for _ in 0..100 {
        cluster.fail((0..20).map(|_| Fault::Items(503)));
        let _ = made.stage(cid(2), &numbered(2)).await;
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    assert_eq!(made.retry_max(), None);
    let half = Made::default().at(&cluster).retry_max();
    assert_eq!(half, Some(Duration::from_secs(12 * 3600)), "half of what the stream keeps");
}

#[tokio::test(start_paused = true)]
async fn requests_that_break_in_a_row_become_smaller() {
    let cluster = Cluster::default();
    let made = Made::default().at(&cluster);
    let text = "x".repeat(10_000);
    let batch = batch_of((0..100).map(|n| format!("{{\"n\":{n},\"text\":\"{text}\"}}")));
    cluster.fail([Fault::Cut, Fault::Cut, Fault::Cut]);
    for _ in 0..3 {
        retried(made.stage(cid(1), &batch).await);
    }
    made.stage(cid(1), &batch).await.expect("delivered");
    let seen = cluster.seen();
    assert!(seen[3].text.len() < seen[0].text.len() / 2 + 20_000);
    assert_eq!(cluster.documents().len(), 100);
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::Answer(503, "")),
        Just(Fault::Answer(429, "")),
        Just(Fault::Answer(403, "")),
        Just(Fault::Answer(200, "{}")),
        Just(Fault::Lost),
        Just(Fault::Cut),
        Just(Fault::Short),
        Just(Fault::Items(429)),
        Just(Fault::Items(503)),
        Just(Fault::Items(403)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// Whatever the server does: every record is one document, or was refused for good, and never both.
    #[test]
    fn every_record_is_a_document_once_or_rejected(
        records in proptest::collection::vec(prop_oneof![
            (0..100_u32).prop_map(|n| format!("{{\"n\":{n}}}")),
            Just("{\"n\":\"bad\"}".to_owned()),
            Just("no document".to_owned()),
        ], 1..20),
        faults in proptest::collection::vec(fault(), 0..12),
        bytes_max in prop_oneof![Just(usize::MAX), 100..2_000_usize],
        workers in 1..3_u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let cluster = Cluster::default();
            cluster.take_at_most(bytes_max);
            cluster.fail(faults);
            let good = records.iter().filter(|record| record.starts_with("{\"n\":") && !record.contains("bad")).count();
            for worker in 0..workers {
                // A worker that was killed after its delivery: the next one delivers the same records.
                let made = Made::default().at(&cluster);
                let mut tries = 0;
                let staged = loop {
                    tries += 1;
                    assert!(tries < 50, "it does not end");
                    match made.stage(cid(worker), &batch_of(records.clone())).await {
                        Ok(staged) => break staged,
                        Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
                    }
                };
                let documents = cluster.documents();
                if bytes_max > 1_000 {
                    assert_eq!((documents.len(), staged.rejected.len()), (good, records.len() - good));
                }
                assert_eq!(documents.len() + staged.rejected.len(), records.len());
            }
        });
    }
}
