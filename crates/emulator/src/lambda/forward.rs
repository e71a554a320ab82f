//! A function that answers at an address: the event is POSTed there, what comes back is its result. So handlers of any
//! language can be tried, behind a server of their own or the runtime interface emulator of Lambda's base images.
//!
//! Where nobody answers, Lambda is away; whatever is wrong with the answer is a failure of the function, as in Lambda.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::Reply;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Asks `host:port/path`.
pub(super) async fn forward(address: Arc<str>, event: Bytes) -> Reply {
    let Ok(stream) = TcpStream::connect(address.split('/').next().unwrap_or_default()).await else {
        // Nobody is there: as if Lambda were away, so that records wait.
        return Reply::Refused(503, "ServiceUnavailableException");
    };
    ask(stream, &address, event).await.unwrap_or_else(|error| Reply::failed("Extension.Crash", &error.to_string()))
}

async fn ask(stream: TcpStream, address: &str, event: Bytes) -> Result<Reply, BoxError> {
    let (host, path) = address.split_at(address.find('/').unwrap_or(address.len()));
    let path = if path.is_empty() { "/" } else { path };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut driving = JoinSet::new();
    driving.spawn(connection);
    let request = http::Request::post(path).header("host", host).header("content-type", "application/json");
    let answer = sender.send_request(request.body(Full::new(event))?).await?;
    let failed = !answer.status().is_success() || answer.headers().contains_key("x-amz-function-error");
    let payload = answer.into_body().collect().await?.to_bytes();
    Ok(if failed { Reply::Failed(payload) } else { Reply::Returned(payload) })
}
