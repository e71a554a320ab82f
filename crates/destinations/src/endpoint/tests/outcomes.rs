//! What goes wrong, and what becomes of the records then.

use proptest::prelude::*;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::*;
use crate::http::dial::{BoxStream, DialError, Tcp};

/// Nothing that is secret, and nothing of a record or of a server, is told.
fn clean(text: &str) {
    for secret in ["secret", "record 0", "Sign in", "169.254"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_outcome_but_an_acknowledgement_makes_the_same_request_come_again() {
    let halts = true;
    let cases = [
        (Fault::WrongId, !halts),
        (Fault::Page, !halts),
        (Fault::Chunked, !halts),
        (Fault::Bomb, !halts),
        (Fault::Endless, !halts),
        (Fault::Drip, !halts),
        (Fault::Silence, !halts),
        (Fault::Cut, !halts),
        (Fault::Busy(3), !halts),
        (Fault::Status(202, "{}"), !halts),
        (Fault::Status(400, "{\"errorMessage\":\"record 00001\"}"), !halts),
        (Fault::Status(500, ""), !halts),
        (Fault::Status(503, "<html>"), !halts),
        (Fault::Redirect, halts),
        (Fault::Status(401, "secret"), halts),
        (Fault::Status(404, "<html>"), halts),
    ];
    for (fault, halts) in cases {
        let receiver = Receiver::default();
        let made = made(settings(), &receiver);
        receiver.fail([fault.clone()]);
        let batch = numbered(4);
        let told = made.stage(cid(1), &batch).await.expect_err("no acknowledgement");
        assert_eq!(matches!(told, DeliveryError::Halt { .. }), halts, "{fault:?}: {told}");
        clean(&format!("{told} {told:?} {made:?}"));
        let staged = made.stage(cid(1), &batch).await.expect("delivered");
        assert_eq!((staged.rejected.len(), receiver.acknowledged()), (0, all(&batch)), "{fault:?}");
        let ids: Vec<String> = receiver.seen().into_iter().map(|seen| seen.id).collect();
        assert_eq!((ids.len(), &ids[0]), (2, &ids[1]), "{fault:?}: the same id, whatever had become of the first");
    }
}

#[tokio::test(start_paused = true)]
async fn no_answer_takes_more_memory_or_time_than_the_protocol_gives_it() {
    let receiver = Receiver::default();
    let made = made(settings(), &receiver);
    receiver.fail([Fault::Endless]);
    let (cause, _) = refused_in_vain(made.stage(cid(1), &numbered(1)).await);
    assert_eq!(cause, "1 requests wait: the answer, of status 200, has more than 1048576 bytes");
    assert!(receiver.endless_bytes() < 3 << 20, "{} bytes were read", receiver.endless_bytes());
    for fault in [Fault::Drip, Fault::Silence] {
        receiver.fail([fault]);
        let begin = tokio::time::Instant::now();
        let (cause, _) = refused_in_vain(made.stage(cid(1), &numbered(1)).await);
        assert_eq!((cause.as_str(), begin.elapsed().as_secs()), ("1 requests wait: no answer within 180s", 180));
    }
}

#[tokio::test(start_paused = true)]
async fn any_status_of_success_will_do_where_the_config_says_so() {
    for fault in [Fault::Page, Fault::WrongId, Fault::Chunked, Fault::Bomb, Fault::Endless, Fault::Status(204, "")] {
        let receiver = Receiver::default();
        receiver.fail([fault]);
        let made = made(EndpointSettings { any_2xx: true, ..settings() }, &receiver);
        made.stage(cid(1), &numbered(4)).await.expect("delivered");
        assert_eq!(receiver.seen().len(), 1);
    }
    let receiver = Receiver::default();
    receiver.fail([Fault::Redirect]);
    let made = made(EndpointSettings { any_2xx: true, ..settings() }, &receiver);
    assert!(made.stage(cid(1), &numbered(4)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn the_pauses_are_the_protocols_or_as_long_as_the_server_asks_for() {
    let receiver = Receiver::default();
    let made = made(settings(), &receiver);
    receiver.fail((0..10).map(|_| Fault::Status(503, "")));
    let mut pauses = Vec::new();
    for _ in 0..10 {
        let (_, after) = refused_in_vain(made.stage(cid(1), &numbered(1)).await);
        pauses.push(after.expect("a pause").as_millis() as u64);
    }
    for (n, pause) in pauses.iter().enumerate() {
        let middle = (1_000_u64 << n).min(120_000);
        assert!((middle * 85 / 100..=middle * 115 / 100).contains(pause), "{n}: {pause}");
    }
    receiver.fail([Fault::Busy(1_000), Fault::Busy(1)]);
    let (_, after) = refused_in_vain(made.stage(cid(1), &numbered(1)).await);
    assert_eq!(after, Some(Duration::from_secs(1_000)));
    let (_, after) = refused_in_vain(made.stage(cid(1), &numbered(1)).await);
    assert!(after.is_some_and(|after| after > Duration::from_secs(100)), "never sooner than the protocol's: {after:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_until_the_retry_duration_is_over_becomes_error_records_and_the_rest_is_there() {
    let receiver = Receiver::default();
    receiver.refuse(b"record 00003");
    let settings =
        EndpointSettings { request_data_bytes: 24, retry_for: RetryFor::Time(Duration::from_secs(600)), ..settings() };
    let made = made(settings, &receiver);
    let begin = tokio::time::Instant::now();
    let staged = loop {
        match made.stage(cid(1), &numbered(6)).await {
            Ok(staged) => break staged,
            Err(DeliveryError::Retry { after, .. }) => tokio::time::sleep(after.expect("a pause")).await,
            Err(other) => panic!("{other}"),
        }
    };
    assert!((600..800).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
    assert_eq!(receiver.acknowledged().len(), 4);
    let rejected: Vec<(&[u8], &str)> = staged.rejected.iter().map(|one| (&one.data[..], one.code)).collect();
    let code = "HttpEndpoint.DestinationException";
    assert_eq!(rejected, [(&b"record 00002"[..], code), (&b"record 00003"[..], code)], "a request is one fate");
    assert!(
        staged.rejected[0].attempts > 8
            && staged.rejected[0].message.ends_with(r#"400: {"errorMessage":"cannot parse"}"#)
    );
    let again = made.stage(cid(1), &numbered(6)).await.expect("settled");
    assert_eq!((again.rejected.len(), receiver.acknowledged().len()), (2, 4), "asked once more, nothing is sent");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_or_lets_nobody_in_never_uses_the_retry_duration_up() {
    let receiver = Receiver::default();
    let settings = |retry_for| EndpointSettings { retry_for, ..settings() };
    let made_one = made(settings(RetryFor::Time(Duration::from_secs(60))), &receiver);
    for round in 0..50 {
        match round % 5 {
            0 => receiver.unreachable(true),
            1 => receiver.fail([Fault::Silence]),
            2 => receiver.fail([Fault::Cut]),
            3 => receiver.fail([Fault::Status(503, "")]),
            _ => receiver.fail([Fault::Status(403, "")]),
        }
        made_one.stage(cid(1), &numbered(2)).await.expect_err("away");
        receiver.unreachable(false);
        tokio::time::sleep(Duration::from_secs(3_600)).await;
    }
    receiver.fail([Fault::Status(500, "")]);
    refused_in_vain(made_one.stage(cid(1), &numbered(2)).await);
    let staged = made_one.stage(cid(1), &numbered(2)).await.expect("delivered");
    assert_eq!((staged.rejected.len(), receiver.acknowledged().len()), (0, 2));

    receiver.fail([Fault::Status(500, "")]);
    let staged = made(settings(RetryFor::Time(Duration::ZERO)), &receiver).stage(cid(2), &numbered(2)).await;
    assert_eq!(staged.expect("settled").rejected.len(), 2, "one attempt is all");
    let forever = made(settings(RetryFor::Forever), &receiver);
    for _ in 0..100 {
        receiver.fail([Fault::Status(500, "")]);
        refused_in_vain(forever.stage(cid(3), &numbered(2)).await);
        tokio::time::sleep(Duration::from_secs(3_600)).await;
    }
    forever.stage(cid(3), &numbered(2)).await.expect("delivered");
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::Status(500, "")),
        Just(Fault::Status(503, "")),
        Just(Fault::Status(400, "{}")),
        Just(Fault::Status(403, "")),
        Just(Fault::Busy(1)),
        Just(Fault::WrongId),
        Just(Fault::Page),
        Just(Fault::Chunked),
        Just(Fault::Redirect),
        Just(Fault::Silence),
        Just(Fault::Cut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// Whatever the server does, and whoever goes on: every record was acknowledged or is an error record, a receiver that
    /// takes each id once has it once, and no id ever stands for two sets of records (the receiver panics).
    #[test]
    fn every_record_is_there_once_by_its_request_id_or_rejected(
        records in 1..40_usize,
        faults in proptest::collection::vec(fault(), 0..12),
        records_max in prop_oneof![Just(usize::MAX), 1..8_usize],
        most in 12..200_u64,
        killed_after in proptest::collection::vec(0..3_usize, 0..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let receiver = Receiver::default();
            receiver.take_at_most(records_max);
            receiver.fail(faults);
            let batch = numbered(records);
            let settings = EndpointSettings { request_data_bytes: most, ..settings() };
            for tries in killed_after {
                // A worker that is gone after so many passes, in the middle of one.
                let one = made(settings.clone(), &receiver);
                for _ in 0..tries {
                    let _ = one.stage(cid(1), &batch).await;
                }
                let _ = tokio::time::timeout(Duration::from_millis(30), one.stage(cid(1), &batch)).await;
            }
            let last = made(settings, &receiver);
            let mut tries = 0;
            let staged = loop {
                tries += 1;
                assert!(tries < 60, "it does not end");
                match last.stage(cid(1), &batch).await {
                    Ok(staged) => break staged,
                    Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
                }
            };
            assert_eq!(staged.rejected.len(), 0);
            assert_eq!(receiver.acknowledged(), all(&batch));
            assert_eq!(receiver.records(), all(&batch));
        });
    }
}

fn pem(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/tests/");
    std::fs::read(format!("{folder}{name}")).expect("a file of the tests")
}

/// A port of this machine, whoever is asked for.
#[derive(Debug)]
struct Loopback(u16);

#[async_trait]
impl Dial for Loopback {
    async fn dial(&self, _: &str, _: u16) -> Result<BoxStream, DialError> {
        Tcp { allow_private: true }.dial("127.0.0.1", self.0).await
    }
}

/// Sockets and TLS as they are: a server with this certificate, asked over loopback.
async fn over_tls(certificate: &str, url: &str) -> (Receiver, Result<Staged, DeliveryError>) {
    let chain = CertificateDer::pem_slice_iter(&pem(certificate)).collect::<Result<_, _>>().expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(&pem("server.key")).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate and its key");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let receiver = Receiver::default();
    let ca = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/tests/ca.pem");
    let trust = Trust::new(Some(std::path::Path::new(ca))).expect("a CA");
    let settings = EndpointSettings { url: Url::parse(url).expect("an address"), gzip: true, ..settings() };
    let made = made_over(settings, Arc::new(Loopback(port)), trust);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let served = receiver.clone();
    let serve = async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            if let Ok(stream) = acceptor.accept(stream).await {
                served.serve(stream);
            }
        }
    };
    let batch = numbered(3_000);
    let staged = tokio::select! {
        biased;
        staged = made.stage(cid(1), &batch) => staged,
        () = serve => unreachable!("it serves for ever"),
    };
    (receiver, staged)
}

#[tokio::test]
async fn a_server_that_does_not_prove_who_it_is_gets_no_record_and_no_key() {
    let (receiver, staged) = over_tls("good.pem", "https://search.test/in").await;
    staged.expect("delivered");
    assert_eq!(receiver.acknowledged().len(), 3_000);
    for (certificate, url) in [
        ("expired.pem", "https://search.test/in"),
        ("other.pem", "https://search.test/in"),
        ("good.pem", "https://elsewhere.test/in"),
    ] {
        let (receiver, staged) = over_tls(certificate, url).await;
        assert!(matches!(staged, Err(DeliveryError::Halt { .. })), "{certificate} {url}: {staged:?}");
        assert_eq!(receiver.seen().len(), 0);
    }
}
