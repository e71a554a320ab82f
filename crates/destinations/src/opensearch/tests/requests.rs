//! What goes over the wire.

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use standpipe_signed::Signer;

use super::*;

/// Gives the members `id` and `routing` of a record.
#[derive(Debug)]
struct Members(&'static [&'static str]);

impl Expressions for Members {
    fn texts(&self, data: &[u8]) -> Result<Vec<Option<String>>, String> {
        let record: serde_json::Value =
            serde_json::from_slice(data).map_err(|_| "Jq.InvalidJson: not JSON".to_owned())?;
        Ok(self.0.iter().map(|name| record[*name].as_str().map(str::to_owned)).collect())
    }
}

fn by_members(create: bool) -> Made {
    let settings = OpenSearchSettings {
        document_id: DocumentId::Expression { create },
        routing: true,
        rotation: Rotation::None,
        ..settings()
    };
    Made { expressions: Some(Arc::new(Members(&["id", "routing"]))), ..Made::of(settings) }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_two_lines_a_document() {
    let cluster = Cluster::default();
    let made = Made::default().at(&cluster);
    let staged = made.stage(cid(1), &batch_of(["{\"n\":1}", "{\n\"n\":2}"])).await.expect("delivered");
    let seen = cluster.seen();
    let expected = concat!(
        "{\"create\":{\"_index\":\"logs-2026-09-21\",\"_id\":\"rptcgrimmmt4mngbx3d6dcjk5k\"}}\n{\"n\":1}\n",
        "{\"create\":{\"_index\":\"logs-2026-09-21\",\"_id\":\"hnn6e6onrt7ppmdq357eppssfi\"}}\n{\"n\":2}\n"
    );
    assert_eq!(seen[0].text, expected);
    assert!(seen[0].path.starts_with("/_bulk?filter_path="));
    assert_eq!(seen[0].headers["content-type"], "application/x-ndjson");
    assert_eq!(seen[0].headers["host"], "one:9200");
    assert_eq!(staged, Staged { delivered_bytes: expected.len() as u64, ..Staged::default() });
    // Again, by another worker: the documents meet themselves.
    let staged = Made::default().at(&cluster).stage(cid(2), &batch_of(["{\"n\":1}", "{\n\"n\":2}"])).await;
    assert_eq!((staged.expect("delivered").rejected, cluster.documents().len()), (Vec::new(), 2));
}

#[tokio::test(start_paused = true)]
async fn the_server_gives_ids_where_none_are_sent_and_a_data_stream_has_timestamps() {
    let cluster = Cluster::default();
    let plain = OpenSearchSettings { document_id: DocumentId::None, rotation: Rotation::Hourly, ..settings() };
    Made::of(plain.clone()).at(&cluster).stage(cid(1), &numbered(1)).await.expect("delivered");
    let stream = OpenSearchSettings { data_stream: true, rotation: Rotation::None, ..plain };
    Made::of(stream).at(&cluster).stage(cid(2), &numbered(1)).await.expect("delivered");
    let texts: Vec<String> = cluster.seen().into_iter().map(|seen| seen.text).collect();
    let expected = [
        "{\"index\":{\"_index\":\"logs-2026-09-21-14\"}}\n{\"n\":0}\n",
        "{\"create\":{\"_index\":\"logs\"}}\n{\"@timestamp\":1789999999000,\"n\":0}\n",
    ];
    assert_eq!(texts, expected);
}

#[tokio::test(start_paused = true)]
async fn ids_and_routing_come_from_the_record_and_the_last_document_of_an_id_stays() {
    let cluster = Cluster::default();
    let made = by_members(false).at(&cluster);
    let records = [
        "{\"n\":1,\"id\":\"a\",\"routing\":\"r\"}",
        "{\"n\":2,\"id\":\"b\"}",
        "{\"n\":3,\"id\":\"a\"}",
        "{\"n\":4}",
        "{\"n\":5,\"id\":\"\"}",
        "no JSON",
        "{\"n\":6,\"id\":\"a\"}",
    ];
    let staged = made.stage(cid(1), &batch_of(records)).await.expect("delivered");
    let expected = [("OS.InvalidDocumentId", "4"), ("OS.InvalidDocumentId", "5"), ("OS.InvalidDocumentId", "6")];
    assert_eq!(codes(&staged), expected.map(|(code, number)| (code, number.to_owned())));
    let key = |id: &str| ("logs".to_owned(), id.to_owned());
    assert_eq!(cluster.documents()[&key("a")], "{\"n\":6,\"id\":\"a\"}");
    let texts: Vec<String> = cluster.seen().into_iter().map(|seen| seen.text).collect();
    assert_eq!(texts.len(), 3, "a document of an id waits for the one before");
    assert!(
        texts[0].starts_with("{\"index\":{\"_index\":\"logs\",\"_id\":\"a\",\"routing\":\"r\"}}\n"),
        "{}",
        texts[0]
    );

    // With `create` the first one stays, and each other is an error record.
    let cluster = Cluster::default();
    let staged =
        by_members(true).at(&cluster).stage(cid(1), &batch_of([records[0], records[2]])).await.expect("delivered");
    assert_eq!(codes(&staged), [("document-exists", "2".to_owned())]);
    assert_eq!(cluster.documents()[&key("a")], records[0]);
    let Detail::Document(document) = &staged.rejected[0].detail else { panic!("a document") };
    assert_eq!((document.id.as_str(), document.index.as_str(), document.serverless), ("a", "logs", false));
}

#[tokio::test(start_paused = true)]
async fn a_newer_document_of_an_id_is_not_sent_while_an_older_one_waits() {
    let cluster = Cluster::default();
    let made = by_members(false).at(&cluster);
    let records = ["{\"n\":0,\"id\":\"x\"}", "{\"n\":1,\"id\":\"a\"}", "{\"n\":2,\"id\":\"a\"}"];
    // The second of the first request is refused for the moment.
    cluster.fail([super::cluster::Fault::Items(429)]);
    made.stage(cid(1), &batch_of(records)).await.expect("delivered");
    let documents: Vec<usize> = cluster.seen().iter().map(|seen| seen.text.lines().count() / 2).collect();
    assert_eq!(documents, [2, 1, 1]);
    assert_eq!(cluster.documents()[&("logs".to_owned(), "a".to_owned())], records[2]);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_document_is_refused_and_smuggles_nothing() {
    let cluster = Cluster::default();
    let made = Made::default().at(&cluster);
    let smuggled = "{\"n\":1}\n{\"create\":{\"_index\":\"secrets\",\"_id\":\"1\"}}\n{\"n\":2}";
    let within = "{\"n\":3,\"text\":\"\\n{\\\"delete\\\":{\\\"_index\\\":\\\"logs\\\"}}\\n\"}";
    let bad: [&[u8]; 4] = [smuggled.as_bytes(), within.as_bytes(), b"{\"n\":\"\xFF\"}", b"[1]"];
    let staged = made.stage(cid(1), &batch_of(bad.map(Bytes::from_static))).await.expect("delivered");
    let expected = ["1", "3", "4"].map(|number| ("OS.MalformedData", number.to_owned()));
    assert_eq!(codes(&staged), expected);
    assert_eq!(staged.rejected[0].data, smuggled);
    assert_eq!(staged.rejected[0].output_type, "AmazonOpenSearchService-failed");
    let documents = cluster.documents();
    assert!(documents.keys().all(|(index, _)| index == "logs-2026-09-21") && documents.len() == 1);
    assert_eq!(documents.values().next().map(String::as_str), Some(within));
    // Nothing but what is refused: nothing is sent.
    let staged = made.stage(cid(2), &batch_of(["", "nothing"])).await.expect("settled");
    assert_eq!((staged.rejected.len(), cluster.seen().len()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn requests_are_compressed_and_signed_as_they_are_sent() {
    let cluster = Cluster::default();
    let keys = Credentials::new("AKID", "secret-key", None, None, "test");
    let sdk = aws_types::SdkConfig::builder().credentials_provider(SharedCredentialsProvider::new(keys)).build();
    let clock = Arc::new(Paused::now());
    let auth = Auth::SigV4(Signer::new(&sdk, "es", "eu-west-1", clock));
    let settings = OpenSearchSettings { gzip: true, ..settings() };
    Made { auth, ..Made::of(settings) }.at(&cluster).stage(cid(1), &numbered(100)).await.expect("delivered");
    let seen = &cluster.seen()[0];
    assert_eq!((seen.headers["content-encoding"].as_str(), cluster.documents().len()), ("gzip", 100));
    assert!(seen.body.len() < seen.text.len() * 3 / 4, "{} of {}", seen.body.len(), seen.text.len());
    let sum = sha2::Digest::finalize(sha2::Digest::chain_update(<sha2::Sha256 as sha2::Digest>::new(), &seen.body));
    let hex: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(seen.headers["x-amz-content-sha256"], hex);
    assert!(seen.headers["authorization"].contains("/eu-west-1/es/aws4_request"));
}

#[tokio::test(start_paused = true)]
async fn a_password_is_read_for_each_request_and_never_shown() {
    let cluster = Cluster::default();
    let reads = Arc::new(AtomicU64::new(0));
    let counted = reads.clone();
    let password = Password::new(move || match counted.fetch_add(1, Ordering::Relaxed) {
        1 => Err("the file is not there".to_owned()),
        _ => Ok("hunter2".into()),
    });
    let auth = Auth::Basic { user: "standpipe".to_owned(), password };
    let made = Made { auth, ..Made::default() }.at(&cluster);
    made.stage(cid(1), &numbered(1)).await.expect("delivered");
    assert_eq!(cluster.seen()[0].headers["authorization"], "Basic c3RhbmRwaXBlOmh1bnRlcjI=");
    assert_eq!(halted(made.stage(cid(2), &numbered(1)).await), "the file is not there");
    assert!(!format!("{made:?}").contains("hunter2"));
}

#[tokio::test(start_paused = true)]
async fn servers_take_turns_and_one_that_is_gone_is_left_out() {
    let cluster = Cluster::default();
    let nodes = vec!["http://one:9200", "http://two:9200", "http://three"];
    let made = Made { nodes, ..Made::default() }.at(&cluster);
    for number in 0..6 {
        made.stage(cid(number), &numbered(1)).await.expect("delivered");
    }
    let of = |cluster: &Cluster| cluster.seen().into_iter().map(|seen| seen.node).collect::<Vec<_>>();
    assert_eq!(of(&cluster), ["one", "two", "three", "one", "two", "three"]);
    // Those of kept connections go on, so a new destination is needed to see who is left out.
    let cluster = Cluster::default();
    cluster.unreachable(&["two"]);
    let nodes = vec!["http://one:9200", "http://two:9200"];
    let made = Made { nodes, ..Made::default() }.at(&cluster);
    for number in 0..4 {
        made.stage(cid(number), &numbered(1)).await.expect("delivered");
    }
    assert_eq!(of(&cluster), ["one", "one", "one", "one"]);
    cluster.unreachable(&["one", "two"]);
    let cluster_gone = Made { nodes: vec!["http://one:9200"], ..Made::default() }.at(&cluster);
    assert!(retried(cluster_gone.stage(cid(9), &numbered(1)).await).contains("no connection to one:9200"));
}

#[tokio::test(start_paused = true)]
async fn several_requests_are_under_way() {
    let cluster = Cluster::default();
    let made = Made::default().at(&cluster);
    cluster.take_at_most(64 << 10);
    let long = "x".repeat(1_000);
    let batch = batch_of((0..2_000).map(|n| format!("{{\"n\":{n},\"text\":\"{long}\"}}")));
    let staged = made.stage(cid(1), &batch).await.expect("delivered");
    assert_eq!((staged.rejected.len(), cluster.documents().len()), (0, 2_000));
    assert!((3..=8).contains(&cluster.most_under_way()), "{}", cluster.most_under_way());
}
