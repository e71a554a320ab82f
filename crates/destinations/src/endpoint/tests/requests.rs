//! What is sent.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_request_is_the_protocols_to_the_letter() {
    let receiver = Receiver::default();
    let more = HeaderSecret::new(|| Ok("acme corp".to_owned().into()));
    let settings = EndpointSettings { headers: vec![("x-tenant".to_owned(), more)], ..settings() };
    let staged = made(settings, &receiver).stage(cid(1), &batch_of(["one", "", "\u{0}\n"])).await.expect("delivered");
    assert_eq!((staged.outputs.len(), staged.rejected.len()), (0, 0));
    let seen = receiver.seen();
    assert_eq!((seen.len(), seen[0].path.as_str()), (1, "/secret-path/input?api=secret-query"));
    let id = &seen[0].id;
    let body = format!(
        r#"{{"requestId":"{id}","timestamp":1790000000000,"records":[{{"data":"b25l"}},{{"data":""}},{{"data":"AAo="}}]}}"#
    );
    assert_eq!((&seen[0].body, staged.delivered_bytes), (&body, body.len() as u64));
    let headers: Vec<(&str, &str)> =
        seen[0].headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let length = body.len().to_string();
    let expected = [
        ("content-length", length.as_str()),
        ("content-type", "application/json"),
        ("host", "ingest.test"),
        ("x-amz-firehose-access-key", "secret-key"),
        ("x-amz-firehose-common-attributes", r#"{"commonAttributes":{"env":"prod"}}"#),
        ("x-amz-firehose-protocol-version", "1.0"),
        ("x-amz-firehose-request-id", id.as_str()),
        ("x-amz-firehose-source-arn", "arn:aws:firehose:eu-west-1:111122223333:deliverystream/orders"),
        ("x-tenant", "acme corp"),
    ];
    assert_eq!(headers, expected);
}

#[tokio::test(start_paused = true)]
async fn a_compressed_request_says_so_and_holds_the_same() {
    let receiver = Receiver::default();
    let batch = numbered(1_000);
    let settings = EndpointSettings { gzip: true, access_key: None, ..settings() };
    let staged = made(settings, &receiver).stage(cid(1), &batch).await.expect("delivered");
    let seen = receiver.seen();
    assert_eq!(seen[0].headers["content-encoding"], "gzip");
    assert!(!seen[0].headers.contains_key("x-amz-firehose-access-key"), "there is none");
    assert!(staged.delivered_bytes < seen[0].body.len() as u64 / 3, "what counts is what went out");
    assert_eq!(receiver.acknowledged(), all(&batch));
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_several_requests_a_few_at_a_time() {
    let receiver = Receiver::default();
    let batch = numbered(60_001);
    made(settings(), &receiver).stage(cid(1), &batch).await.expect("delivered");
    let mut counts: Vec<usize> = receiver.seen().iter().map(|seen| seen.records.len()).collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 10_000, 10_000, 10_000, 10_000, 10_000, 10_000]);
    assert_eq!((receiver.acknowledged(), receiver.most_under_way()), (all(&batch), 4));
}

#[tokio::test(start_paused = true)]
async fn whoever_sends_a_declared_batch_again_sends_the_same_requests() {
    let receiver = Receiver::default();
    let settings = EndpointSettings { request_data_bytes: 1_200, ..settings() };
    let mut batch = Arc::unwrap_or_clone(numbered(1_000));
    batch.declared = Some(cid(7));
    let batch = Arc::new(batch);
    let ids = |receiver: &Receiver, from: usize| {
        let mut ids: Vec<String> = receiver.seen()[from..].iter().map(|seen| seen.id.clone()).collect();
        ids.sort();
        ids
    };
    made(settings.clone(), &receiver).stage(cid(1), &batch).await.expect("delivered");
    let first = ids(&receiver, 0);
    assert_eq!(first.len(), 10);
    // Another worker, and what it leaves in S3 is staged under an id of its own.
    made(settings.clone(), &receiver).stage(cid(2), &batch).await.expect("delivered");
    assert_eq!(ids(&receiver, 10), first);
    // The records of another batch are other requests, even if they are the same.
    let mut other = Batch::clone(&batch);
    other.declared = Some(cid(8));
    made(settings, &receiver).stage(cid(1), &Arc::new(other)).await.expect("delivered");
    assert!(ids(&receiver, 20).iter().all(|id| !first.contains(id)));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_too_large_is_halved_and_each_half_has_an_id_of_its_own() {
    let receiver = Receiver::default();
    receiver.take_at_most(30);
    let batch = numbered(100);
    let staged = made(settings(), &receiver).stage(cid(1), &batch).await.expect("delivered");
    assert_eq!((staged.rejected.len(), receiver.acknowledged()), (0, all(&batch)));
    let sent = |from: usize| {
        let mut sent: Vec<(usize, String)> =
            receiver.seen()[from..].iter().map(|seen| (seen.records.len(), seen.id.clone())).collect();
        sent.sort();
        sent
    };
    let first = sent(0);
    assert_eq!(first.iter().map(|(records, _)| *records).collect::<Vec<_>>(), [25, 25, 25, 25, 50, 50, 100]);
    made(settings(), &receiver).stage(cid(1), &batch).await.expect("delivered");
    assert_eq!(sent(7), first, "another worker halves in the same way, under the same ids");
}

#[tokio::test(start_paused = true)]
async fn one_record_that_is_too_large_becomes_an_error_record_alone() {
    let receiver = Receiver::default();
    receiver.take_at_most(0);
    let staged = made(settings(), &receiver).stage(cid(1), &numbered(3)).await.expect("settled");
    let rejected: Vec<(&str, u32, u64, &str)> =
        staged.rejected.iter().map(|one| (one.code, one.attempts, one.sub, one.output_type)).collect();
    let expected = |attempts, sub| ("HttpEndpoint.DestinationException", attempts, sub, "http-endpoint-failed");
    assert_eq!(rejected, [expected(2, 0), expected(3, 1), expected(3, 2)]);
    let message = "Received the following response from the endpoint destination. 413: <html>too large</html>";
    assert_eq!(&*staged.rejected[0].message, message);
    assert_eq!(&staged.rejected[2].data[..], b"record 00002");
}

#[tokio::test(start_paused = true)]
async fn the_key_is_read_for_every_request_and_one_that_no_header_can_have_waits_for_somebody() {
    let receiver = Receiver::default();
    let reads = Arc::new(AtomicU64::new(0));
    let key = HeaderSecret::new(move || {
        let read = reads.fetch_add(1, Ordering::Relaxed);
        if read == 1 {
            Err("the environment variable `KEY` is not set".to_owned())
        } else {
            Ok(format!("key-{read}").into())
        }
    });
    let made_one = made(EndpointSettings { access_key: Some(key), ..settings() }, &receiver);
    receiver.fail([Fault::Status(403, "")]);
    assert!(matches!(made_one.stage(cid(1), &numbered(1)).await, Err(DeliveryError::Halt { .. })));
    let unset = made_one.stage(cid(1), &numbered(1)).await.expect_err("no key");
    assert_eq!(unset.to_string(), "halted: the environment variable `KEY` is not set");
    made_one.stage(cid(1), &numbered(1)).await.expect("delivered");
    let keys: Vec<String> =
        receiver.seen().iter().map(|seen| seen.headers["x-amz-firehose-access-key"].clone()).collect();
    assert_eq!(keys, ["key-0", "key-2"]);
    for bad in ["a\nb".to_owned(), "ü".to_owned(), "k".repeat(4_097)] {
        let key = HeaderSecret::new(move || Ok(bad.clone().into()));
        let made = made(EndpointSettings { access_key: Some(key), ..settings() }, &receiver);
        assert!(matches!(made.stage(cid(2), &numbered(1)).await, Err(DeliveryError::Halt { .. })));
        assert!(matches!(made.probe().await, Err(DeliveryError::Halt { .. })));
    }
}

#[test]
fn an_address_is_sent_as_it_was_written_and_shown_without_its_path() {
    let shown = |url: &str| Url::parse(url).map(|url| (format!("{url} {url:?}"), url.path));
    let found = shown("https://in.test:8443/receiver/v1/token?a=b%20c/");
    assert_eq!(
        found,
        Some(("https://in.test:8443 https://in.test:8443".to_owned(), "/receiver/v1/token?a=b%20c/".to_owned()))
    );
    assert_eq!(shown("https://in.test").map(|(_, path)| path).as_deref(), Some("/"));
    for bad in ["in.test", "https://a/#x", "https://user@a/", "ftp://a/"] {
        assert_eq!(Url::parse(bad), None, "{bad}");
    }
}
