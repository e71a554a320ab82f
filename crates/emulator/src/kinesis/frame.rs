//! The frames of the AWS event stream encoding that a subscription is made of: a head with a type, and a JSON body.

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use bytes::Bytes;
use serde_json::json;

/// The first frame of every stream.
pub(super) fn initial_response() -> Bytes {
    frame("event", ":event-type", "initial-response", Bytes::from_static(b"{}"))
}

/// A SubscribeToShardEvent.
pub(super) fn event(body: Vec<u8>) -> Bytes {
    frame("event", ":event-type", "SubscribeToShardEvent", body.into())
}

/// An exception, after which the stream ends.
pub(super) fn exception(name: &'static str, message: &str) -> Bytes {
    frame("exception", ":exception-type", name, json!({ "message": message }).to_string().into())
}

fn frame(kind: &'static str, type_header: &'static str, name: &'static str, body: Bytes) -> Bytes {
    let header = |name: &'static str, value: &'static str| Header::new(name, HeaderValue::String(value.into()));
    let message = Message::new(body)
        .add_header(header(":message-type", kind))
        .add_header(header(type_header, name))
        .add_header(header(":content-type", "application/x-amz-json-1.1"));
    let mut bytes = Vec::with_capacity(message.payload().len() + 160);
    // A frame holds 16 MiB, an event 10 MiB of records at most, which base64 makes 13.4 MiB.
    write_message_to(&message, &mut bytes).expect("short headers, and a body within the limit of a frame");
    bytes.into()
}
