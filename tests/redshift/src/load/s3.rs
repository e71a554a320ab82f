//! GET of an object, path style, over one connection each. Requests are not signed: the server must not ask for it.

use std::fmt;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::manifest::Address;

/// A server of S3's protocol.
#[derive(Debug, Clone)]
pub(crate) struct S3 {
    authority: String,
}

/// An object that is being read. Its connection ends with it.
pub(crate) struct Object {
    pub(crate) length: Option<u64>,
    pub(crate) body: Incoming,
    _connection: JoinSet<()>,
}

/// Why an object could not be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct S3Error {
    pub(crate) status: u16,
    code: String,
    message: String,
}

impl fmt::Display for S3Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, code, message } = self;
        write!(f, "S3ServiceException:{message},Status {status},Error {code},Rid 0,ExtRid 0,CanRetry 1")
    }
}

impl S3Error {
    fn unreachable(error: &dyn fmt::Display) -> Self {
        Self { status: 0, code: "ConnectionError".to_owned(), message: error.to_string() }
    }
}

impl S3 {
    /// Of an endpoint `http://host:port`.
    pub(crate) fn new(endpoint: &str) -> Option<Self> {
        let authority = endpoint.strip_prefix("http://")?.trim_end_matches('/').to_owned();
        (!authority.is_empty()).then_some(Self { authority })
    }

    /// Begins to read an object.
    ///
    /// # Errors
    /// What S3 answers instead.
    pub(crate) async fn get(&self, address: &Address) -> Result<Object, S3Error> {
        let unreachable = |error: &dyn fmt::Display| S3Error::unreachable(error);
        let stream = TcpStream::connect(&self.authority).await.map_err(|error| unreachable(&error))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, driver) = handshake.map_err(|error| unreachable(&error))?;
        let mut connection = JoinSet::new();
        connection.spawn(async move {
            // An error shows where the body is read.
            let _ = driver.await;
        });
        let request = http::Request::get(format!("/{}/{}", address.bucket, escaped(&address.key)))
            .header(HOST, &self.authority)
            .body(Empty::<Bytes>::new())
            .map_err(|error| unreachable(&error))?;
        let answer = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
        let length = answer.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let status = answer.status();
        let body = answer.into_body();
        if status.is_success() {
            return Ok(Object { length, body, _connection: connection });
        }
        let text = body.collect().await.map_err(|error| unreachable(&error))?.to_bytes();
        let text = String::from_utf8_lossy(&text);
        let tag = |name: &str| {
            let begin = text.find(&format!("<{name}>"))? + name.len() + 2;
            Some(text[begin..].split('<').next()?.to_owned())
        };
        let message = tag("Message").unwrap_or_else(|| "The object could not be read".to_owned());
        Err(S3Error { status: status.as_u16(), code: tag("Code").unwrap_or_default(), message })
    }

    /// Reads an object whole.
    ///
    /// # Errors
    /// What S3 answers instead, or a connection that broke.
    pub(crate) async fn whole(&self, address: &Address) -> Result<Bytes, S3Error> {
        let object = self.get(address).await?;
        Ok(object.body.collect().await.map_err(|error| S3Error::unreachable(&error))?.to_bytes())
    }
}

/// A key as a path of a URL.
fn escaped(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_escaped_as_paths() {
        assert_eq!(escaped("a/b c=é+"), "a/b%20c%3D%C3%A9%2B");
    }
}
