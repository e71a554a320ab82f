//! The endpoints as an HTTP client of the AWS SDK: no socket, so a paused clock stays paused and a run is repeatable.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

use crate::Emulator;
use crate::http::{Body, Events, Lost};

/// One client's way to the endpoints: it has a name in the trace and can be cut.
#[derive(Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

struct Inner {
    name: Arc<str>,
    cut: AtomicBool,
    emulator: Arc<Emulator>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("name", &self.inner.name).field("cut", &self.is_cut()).finish()
    }
}

impl Connection {
    pub(crate) fn new(name: &str, emulator: Arc<Emulator>) -> Self {
        Self { inner: Arc::new(Inner { name: name.into(), cut: AtomicBool::new(false), emulator }) }
    }

    /// The name that faults and the trace know.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The client to give to `aws_config::ConfigLoader::http_client`.
    pub fn http_client(&self) -> SharedHttpClient {
        SharedHttpClient::new(self.clone())
    }

    /// Cuts the connection: what is sent from now on never arrives, and no answer comes back any more.
    pub fn cut(&self) {
        self.inner.cut.store(true, Ordering::SeqCst);
    }

    /// Mends the connection.
    pub fn mend(&self) {
        self.inner.cut.store(false, Ordering::SeqCst);
    }

    /// Whether the connection is cut.
    pub fn is_cut(&self) -> bool {
        self.inner.cut.load(Ordering::SeqCst)
    }

    async fn send(self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        if self.is_cut() {
            return Err(broken(Lost::Refused));
        }
        let request = whole(request).await?;
        let answer = self.inner.emulator.call(&self.inner.name, request).await.map_err(broken)?;
        if self.is_cut() {
            return Err(broken(Lost::Reset));
        }
        let connection = self.clone();
        let response: http::Response<SdkBody> = answer.map(|body| match body {
            Body::Whole(bytes) => SdkBody::from(bytes),
            Body::Events(events) => SdkBody::from_body_1_x(StreamBody::new(connection.until_cut(events))),
        });
        HttpResponse::try_from(response).map_err(|error| ConnectorError::other(error.into(), None))
    }
}

impl Connection {
    /// Events as long as the connection is whole.
    fn until_cut(self, events: Events) -> impl Stream<Item = Result<Frame<Bytes>, Lost>> + Send + Sync {
        let mut broken = false;
        let checked = events.map(move |part| if self.is_cut() { Err(Lost::Reset) } else { part });
        checked
            .take_while(move |part| {
                let goes_on = !std::mem::replace(&mut broken, part.is_err());
                std::future::ready(goes_on)
            })
            .map(|part| part.map(Frame::data))
    }
}

/// The request with its body read to the end.
async fn whole(request: HttpRequest) -> Result<http::Request<Bytes>, ConnectorError> {
    let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
    let (parts, body) = request.into_parts();
    let body = match body.bytes() {
        Some(bytes) => Bytes::copy_from_slice(bytes),
        None => body.collect().await.map_err(ConnectorError::user)?.to_bytes(),
    };
    Ok(http::Request::from_parts(parts, body))
}

fn broken(lost: Lost) -> ConnectorError {
    let kind = match lost {
        Lost::Refused => io::ErrorKind::ConnectionRefused,
        Lost::Reset => io::ErrorKind::ConnectionReset,
    };
    let error = ConnectorError::io(Box::new(io::Error::new(kind, lost)));
    if lost == Lost::Refused { error.never_connected() } else { error }
}

impl HttpConnector for Connection {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::new(self.clone().send(request))
    }
}

impl HttpClient for Connection {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}
