//! Signatures and bodies in `aws-chunked` form, taken off before the request is read.
//!
//! Signatures are not checked: any credentials are accepted, in headers or in a presigned address. What the chunks
//! carry is data and, in the trailer, the checksum, which becomes an ordinary header (Signature Version 4,
//! "transferring payload in multiple chunks").

use bytes::{Buf, Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, HeaderName, HeaderValue};

use crate::http::Request;

/// The body broke the chunked form.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the aws-chunked body is malformed")]
pub(super) struct Malformed;

/// Takes signature and chunked form off a request.
pub(super) fn plain(mut request: Request) -> Result<Request, Malformed> {
    let chunked =
        request.headers().get("x-amz-content-sha256").is_some_and(|value| value.as_bytes().starts_with(b"STREAMING-"));
    for name in ["x-amz-content-sha256", "x-amz-trailer", "x-amz-decoded-content-length", "x-amz-security-token"] {
        request.headers_mut().remove(name);
    }
    request.headers_mut().remove(AUTHORIZATION);
    strip_signature(&mut request);
    if chunked {
        let (data, trailers) = decode(request.body().clone())?;
        for (name, value) in trailers {
            request.headers_mut().insert(name, value);
        }
        *request.body_mut() = data;
    }
    strip_encoding(&mut request);
    let length = request.body().len();
    if length > 0 || request.headers().contains_key(CONTENT_LENGTH) {
        request.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    Ok(request)
}

/// The parameters of a presigned address, of Signature Version 4 and of Version 2.
const SIGNATURE: [&str; 10] = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
    "X-Amz-Security-Token",
    "AWSAccessKeyId",
    "Signature",
    "Expires",
];

fn strip_signature(request: &mut Request) {
    let Some(query) = request.uri().query() else { return };
    let of_signature = |pair: &&str| SIGNATURE.contains(&pair.split('=').next().unwrap_or_default());
    if !query.split('&').any(|pair| of_signature(&pair)) {
        return;
    }
    let kept: Vec<_> = query.split('&').filter(|pair| !of_signature(pair)).collect();
    let path = request.uri().path();
    let stripped = if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) };
    // A part of what was an address is one too; were it not, the signature would stay and be refused.
    if let Ok(uri) = stripped.parse() {
        *request.uri_mut() = uri;
    }
}

/// `aws-chunked` describes the transfer, not the object.
fn strip_encoding(request: &mut Request) {
    let Some(value) = request.headers().get(CONTENT_ENCODING).and_then(|value| value.to_str().ok()) else { return };
    let kept: Vec<_> =
        value.split(',').map(str::trim).filter(|part| *part != "aws-chunked" && !part.is_empty()).collect();
    match HeaderValue::from_str(&kept.join(",")) {
        Ok(value) if !kept.is_empty() => {
            request.headers_mut().insert(CONTENT_ENCODING, value);
        }
        _ => {
            request.headers_mut().remove(CONTENT_ENCODING);
        }
    }
}

type Trailers = Vec<(HeaderName, HeaderValue)>;

fn decode(mut body: Bytes) -> Result<(Bytes, Trailers), Malformed> {
    let mut data = BytesMut::with_capacity(body.len());
    loop {
        let line = take_line(&mut body)?;
        let size = line.split(|byte| *byte == b';').next().ok_or(Malformed)?;
        let size = std::str::from_utf8(size).map_err(|_| Malformed)?;
        let size = usize::from_str_radix(size.trim(), 16).map_err(|_| Malformed)?;
        if size == 0 {
            break;
        }
        if body.len() < size + 2 || &body[size..size + 2] != b"\r\n" {
            return Err(Malformed);
        }
        data.extend_from_slice(&body[..size]);
        body.advance(size + 2);
    }
    let mut trailers = Vec::new();
    while !body.is_empty() {
        let line = take_line(&mut body)?;
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(line[..colon].trim_ascii()).map_err(|_| Malformed)?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).map_err(|_| Malformed)?;
        if name.as_str() != "x-amz-trailer-signature" {
            trailers.push((name, value));
        }
    }
    Ok((data.freeze(), trailers))
}

fn take_line(body: &mut Bytes) -> Result<Bytes, Malformed> {
    let end = body.windows(2).position(|pair| pair == b"\r\n").ok_or(Malformed)?;
    let line = body.split_to(end);
    body.advance(2);
    Ok(line)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(data: &[u8], chunk: usize) -> Bytes {
        let mut body = Vec::new();
        for part in data.chunks(chunk) {
            body.extend_from_slice(format!("{:x};chunk-signature=abc\r\n", part.len()).as_bytes());
            body.extend_from_slice(part);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n");
        body.into()
    }

    proptest! {
        #[test]
        fn chunks_are_undone(data in proptest::collection::vec(any::<u8>(), 0..2000), chunk in 1usize..700) {
            let (decoded, trailers) = decode(encode(&data, chunk)).expect("well formed");
            prop_assert_eq!(&decoded[..], &data[..]);
            prop_assert_eq!(trailers.len(), 1);
        }

        #[test]
        fn junk_is_refused_or_read(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(data.into());
        }
    }

    #[test]
    fn a_presigned_address_loses_its_signature() {
        let query = "X-Amz-Algorithm=AWS4-HMAC-SHA256&partNumber=1&X-Amz-Signature=ab&uploadId=u&X-Amz-Date=1";
        let request = http::Request::put(format!("http://h:1/b/k?{query}")).body(Bytes::new()).expect("a request");
        assert_eq!(plain(request).expect("well formed").uri(), "/b/k?partNumber=1&uploadId=u");
        let request = http::Request::get("/b/k?AWSAccessKeyId=a&Signature=b&Expires=1").body(Bytes::new());
        assert_eq!(plain(request.expect("a request")).expect("well formed").uri(), "/b/k");
    }

    #[test]
    fn a_streamed_gzip_keeps_its_own_encoding() {
        let request = http::Request::put("/b/k")
            .header("content-encoding", "gzip,aws-chunked")
            .header("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
            .body(encode(b"hello", 2))
            .expect("a request");
        let request = plain(request).expect("well formed");
        assert_eq!(request.headers()[CONTENT_ENCODING], "gzip");
        assert_eq!(request.headers()["x-amz-checksum-crc32"], "AAAAAA==");
        assert_eq!(&request.body()[..], b"hello");
    }
}
