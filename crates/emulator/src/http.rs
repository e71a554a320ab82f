//! Plain answers: what every endpoint hands back before a transport sends it.
//!
//! Requests are whole, and so are answers, but for the events of a subscription: one core serves both transports, and an
//! answer can be withheld, replaced or repeated by a fault. Nothing here reads a clock: the date of an answer is given.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body::{Frame, SizeHint};

/// A whole request.
pub(crate) type Request = http::Request<Bytes>;
/// An answer.
pub(crate) type Answer = http::Response<Body>;
/// The frames of an event stream, made when the caller asks for the next one: what is not asked for is not buffered.
pub(crate) type Events = Pin<Box<dyn Stream<Item = Result<Bytes, Lost>> + Send + Sync>>;

/// The body of an answer.
pub(crate) enum Body {
    /// All of it.
    Whole(Bytes),
    /// Frames as they come.
    Events(Events),
}

impl Body {
    /// The bytes of a whole body.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Body::Whole(bytes) => bytes,
            Body::Events(_) => &[],
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Body::Whole(bytes) => write!(f, "{} bytes", bytes.len()),
            Body::Events(_) => f.write_str("events"),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Body::Whole(bytes)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Lost;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Lost>>> {
        match self.get_mut() {
            Body::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Body::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Body::Events(events) => events.as_mut().poll_next(cx).map(|next| next.map(|part| part.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Body::Events(_) => SizeHint::default(),
        }
    }
}

/// The connection broke: no answer, and the caller cannot know whether the request had its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Lost {
    /// The service could not be reached at all; the request had no effect.
    #[error("connection refused by a fault")]
    Refused,
    /// The connection was reset with the request under way.
    #[error("connection reset by a fault")]
    Reset,
}

/// An AWS JSON answer; `version` is "1.0" for DynamoDB and "1.1" for Kinesis.
pub(crate) fn json(status: u16, version: &str, body: impl Into<Bytes>) -> Answer {
    let kind = if version == "1.0" { "application/x-amz-json-1.0" } else { "application/x-amz-json-1.1" };
    answer(status, kind, body.into())
}

/// An error of the AWS JSON protocols: `__type` names the exception.
pub(crate) fn json_error(status: u16, version: &str, kind: &str, message: &str) -> Answer {
    let body = serde_json::json!({ "__type": kind, "message": message }).to_string();
    json(status, version, body)
}

/// An error of S3, as its REST XML protocol writes it.
pub(crate) fn xml_error(status: u16, code: &str, message: &str) -> Answer {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    answer(status, "application/xml", body.into())
}

/// An answer whose body is an event stream (the content type of the AWS event stream encoding).
pub(crate) fn events(events: Events) -> Answer {
    let mut answer = http::Response::new(Body::Events(events));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/vnd.amazon.eventstream"));
    answer
}

fn answer(status: u16, content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = http::Response::new(Body::Whole(body));
    *answer.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// The instant as HTTP writes it (RFC 9110, IMF-fixdate).
pub(crate) fn http_date(epoch_millis: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let secs = epoch_millis / 1000;
    let days = secs / 86_400;
    let (year, month, day) = civil(days);
    let of_day = secs % 86_400;
    format!(
        "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        DAYS[(days % 7) as usize],
        MONTHS[(month - 1) as usize],
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60
    )
}

/// Days since 1970-01-01 to (year, month, day) of the Gregorian calendar: eras of 400 years that begin on 1 March.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_rfc() {
        assert_eq!(http_date(784_111_777_000), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(http_date(1_709_164_800_000), "Thu, 29 Feb 2024 00:00:00 GMT");
    }
}
