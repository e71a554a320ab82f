use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;
use crate::{Clock, Emulator, Fault, Options, Rule, Service};

fn emulator() -> Arc<Emulator> {
    let clock: Clock = Arc::new(|| 1_700_000_000_000);
    Emulator::new(Options { trace: true, ..Options::new(clock) }).expect("in memory")
}

async fn invoke(emulator: &Arc<Emulator>, function: &str, event: impl Into<Bytes>) -> Answer {
    let uri = format!("http://h/2015-03-31/functions/{function}/invocations");
    let request = http::Request::post(uri).body(event.into()).expect("a request");
    emulator.call(&"w1".into(), request).await.expect("an answer")
}

fn event(data: &[&str]) -> String {
    let one = |(i, data): (usize, &&str)| json!({ "recordId": i.to_string(), "data": base64_simd::STANDARD.encode_to_string(data) });
    json!({ "records": data.iter().enumerate().map(one).collect::<Vec<_>>() }).to_string()
}

fn body(answer: &Answer) -> Value {
    serde_json::from_slice(answer.body().bytes()).expect("JSON")
}

#[tokio::test]
async fn a_function_is_invoked_by_name_arn_version_and_alias() {
    let emulator = emulator();
    emulator.create_function("echo", |event| async move { Reply::Returned(event) });
    for name in
        ["echo", "echo:live", "arn%3Aaws%3Alambda%3Aus-east-1%3A111122223333%3Afunction%3Aecho", "echo?Qualifier=7"]
    {
        let (name, query) = name.split_once('?').unwrap_or((name, ""));
        let uri = format!("http://h/2015-03-31/functions/{name}/invocations?{query}");
        let request = http::Request::post(uri).body("7".into()).expect("a request");
        let answer = emulator.call(&"w1".into(), request).await.expect("an answer");
        assert_eq!((answer.status(), body(&answer)), (StatusCode::OK, json!(7)), "{name}");
    }
    let trace = emulator.take_trace();
    assert_eq!(trace[0].to_string(), "1700000000000+0 w1 lambda Invoke echo -> 200");
    assert!(emulator.delete_function("echo"));
    let gone = invoke(&emulator, "echo", "7").await;
    assert_eq!(gone.headers()["x-amzn-errortype"], "ResourceNotFoundException");
    assert_eq!(emulator.take_trace()[0].outcome, "404 ResourceNotFoundException");
}

#[tokio::test]
async fn each_record_is_answered_as_the_function_says() {
    let emulator = emulator();
    let function = each(|i, data| match i {
        0 => Fate::Ok(data.to_ascii_uppercase()),
        1 => Fate::Dropped,
        2 => Fate::Failed,
        3 => Fate::Silent,
        4 => Fate::Keyed(data, vec![("k".into(), "v".into())]),
        5 => Fate::Raw(json!({ "result": "Maybe" })),
        _ => Fate::Twice(data),
    });
    emulator.create_function("all", function);
    let answer = body(&invoke(&emulator, "all", event(&["a", "b", "c", "d", "e", "f", "g"])).await);
    let twice = json!({ "recordId": "6", "result": "Ok", "data": "Zw==" });
    let expected = json!({ "records": [
        { "recordId": "0", "result": "Ok", "data": "QQ==" },
        { "recordId": "1", "result": "Dropped" },
        { "recordId": "2", "result": "ProcessingFailed", "data": "Yw==" },
        { "recordId": "4", "result": "Ok", "data": "ZQ==", "metadata": { "partitionKeys": { "k": "v" } } },
        { "recordId": "5", "result": "Maybe" },
        twice, twice,
    ]});
    assert_eq!(answer, expected);
    let failed = invoke(&emulator, "all", "{}").await;
    assert_eq!(failed.headers()["x-amz-function-error"], "Unhandled");
}

#[tokio::test]
async fn the_limits_of_a_synchronous_invocation_hold() {
    let emulator = emulator();
    emulator.create_function("large", |event| async move {
        let digits = if event == "1" { ANSWER_BYTES_MAX } else { ANSWER_BYTES_MAX + 1 };
        Reply::Returned(vec![b'1'; digits].into())
    });
    assert!(!invoke(&emulator, "large", "1").await.headers().contains_key("x-amz-function-error"));
    let answer = invoke(&emulator, "large", "2").await;
    assert_eq!(answer.headers()["x-amz-function-error"], "Unhandled");
    assert_eq!(body(&answer)["errorType"], "Function.ResponseSizeTooLarge");
    assert_eq!(invoke(&emulator, "large", vec![b'1'; REQUEST_BYTES]).await.status(), 413);
    assert_eq!(invoke(&emulator, "large", "no json").await.status(), 400);
}

#[tokio::test]
async fn faults_strike_lambda_as_they_do_the_others() {
    let emulator = emulator();
    emulator.create_function("echo", |event| async move { Reply::Returned(event) });
    let faults = [
        (Fault::Throttle, 429, "TooManyRequestsException"),
        (Fault::NotFound, 404, "ResourceNotFoundException"),
        (Fault::InternalError, 500, "ServiceException"),
    ];
    for (fault, status, kind) in faults {
        emulator.faults().add(Rule::new(Service::Lambda, fault).operation("Invoke").times(1));
        let answer = invoke(&emulator, "echo", "7").await;
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers()["x-amzn-errortype"], kind);
        assert_eq!(body(&invoke(&emulator, "echo", "7").await), json!(7));
    }
}

#[tokio::test]
async fn a_function_may_answer_at_an_address() {
    let there = emulator();
    there.create_function("echo", |event| async move { Reply::Returned(event) });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(crate::serve(there, listener, std::future::pending()));
    let emulator = emulator();
    emulator.forward_function("far", format!("{address}/2015-03-31/functions/echo/invocations"));
    assert_eq!(body(&invoke(&emulator, "far", "7").await), json!(7));
    emulator.forward_function("far", format!("{address}/2015-03-31/functions/none/invocations"));
    assert_eq!(invoke(&emulator, "far", "7").await.headers()["x-amz-function-error"], "Unhandled");
    emulator.forward_function("far", "127.0.0.1:1".to_owned());
    assert_eq!(invoke(&emulator, "far", "7").await.status(), 503, "as if Lambda were away");
}
