//! What an answer means: the one place where the protocol's rules of an acknowledgement are read.
//!
//! Strict, as Firehose is: 200 alone, JSON that names this request, nothing encoded, nothing beside what the protocol has. A
//! refusal is one of four kinds, by who can do something about it: nobody for records that are too large, the server for
//! the moment, this batch's sender (what is refused for so long is given up), or somebody who changes a setting.
//! Never here: a count of tries, a clock. What a server says goes into error records and never into a log.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::http::{Answer, HttpError};

/// Characters of an answer that an error record shows.
const SHOWN_CHARS_MAX: usize = 1_000;
/// Characters of `errorMessage`: the protocol's.
const ERROR_MESSAGE_CHARS_MAX: usize = 8_192;

/// What an answer, or the lack of one, means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Every record is there.
    Taken,
    /// Fewer records at once.
    TooLarge(Said),
    /// Not these records, or not now, by a server that answers: it counts.
    Refused(Said),
    /// As above, and nothing else of this destination for a while.
    Busy(Said),
    /// The server is away, or what stands before it says so: it does not count.
    Away(Said),
    /// Somebody must act: it does not count.
    Denied(Said),
}

/// What is said of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Said {
    /// Firehose's code.
    pub code: &'static str,
    /// For error records.
    pub message: Arc<str>,
    /// For logs: without a word of the server.
    pub shown: Arc<str>,
    /// `Retry-After`.
    pub after: Option<Duration>,
}

const DESTINATION_EXCEPTION: &str = "HttpEndpoint.DestinationException";
const INVALID_RESPONSE: &str = "HttpEndpoint.InvalidResponseFromDestination";

/// Judges what came of a request of this id.
pub(super) fn judge(answered: &Result<Answer, HttpError>, id: &str, any_2xx: bool) -> Verdict {
    let answer = match answered {
        Ok(answer) => answer,
        Err(error) => return unanswered(error, any_2xx),
    };
    if (200..300).contains(&answer.status) && any_2xx {
        return Verdict::Taken;
    }
    if answer.status == 200 {
        return match acknowledges(answer, id) {
            Ok(()) => Verdict::Taken,
            Err(why) => {
                let message =
                    format!("The response from the endpoint destination is invalid: {why}. {}", shown(answer));
                let shown = format!("answered 200, which is no acknowledgement: {why}");
                Verdict::Refused(Said::new(INVALID_RESPONSE, message, shown, answer.retry_after))
            }
        };
    }
    let message = format!("Received the following response from the endpoint destination. {}", shown(answer));
    let hint = if (200..300).contains(&answer.status) { ", which `response: any_2xx` would take" } else { "" };
    let said = format!("answered {}{hint}", answer.status);
    by_status(answer.status, Said::new(DESTINATION_EXCEPTION, message, said, answer.retry_after))
}

/// Whose turn it is after a status other than 200.
fn by_status(status: u16, said: Said) -> Verdict {
    match status {
        413 => Verdict::TooLarge(said),
        429 => Verdict::Busy(said),
        408 | 425 | 502..=599 => Verdict::Away(said),
        // Another address, key, method or encoding than the server wants.
        300..=399 | 401 | 403 | 404 | 405 | 407 | 410 | 411 | 415 | 501 => Verdict::Denied(said),
        _ => Verdict::Refused(said),
    }
}

fn unanswered(error: &HttpError, any_2xx: bool) -> Verdict {
    let said = |code| Said::new(code, error.to_string(), error.to_string(), None);
    match error {
        HttpError::Unreachable { .. } => Verdict::Away(said("HttpEndpoint.ConnectionFailed")),
        HttpError::Broken(_) => Verdict::Away(said("HttpEndpoint.ConnectionReset")),
        HttpError::TimedOut(_) => Verdict::Away(said("HttpEndpoint.RequestTimeout")),
        HttpError::Refused { .. } | HttpError::Malformed(_) => Verdict::Denied(said("HttpEndpoint.ConnectionFailed")),
        HttpError::TooLarge { status: 200..=299, .. } if any_2xx => Verdict::Taken,
        HttpError::TooLarge { status: 200..=299, .. } => Verdict::Refused(said("HttpEndpoint.ResponseTooLarge")),
        // A page of somebody in between: the status counts.
        HttpError::TooLarge { status, .. } => by_status(*status, said("HttpEndpoint.ResponseTooLarge")),
    }
}

impl Said {
    fn new(
        code: &'static str,
        message: impl Into<Arc<str>>,
        shown: impl Into<Arc<str>>,
        after: Option<Duration>,
    ) -> Self {
        Self { code, message: message.into(), shown: shown.into(), after }
    }
}

/// Status and body, as far as they fit.
fn shown(answer: &Answer) -> String {
    // Four bytes a character at most.
    let body = &answer.body[..answer.body.len().min(SHOWN_CHARS_MAX * 4)];
    let text = String::from_utf8_lossy(body);
    let text: String = text.chars().filter(|character| !character.is_control()).take(SHOWN_CHARS_MAX).collect();
    format!("{}: {text}", answer.status)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Acknowledgement {
    request_id: String,
    #[expect(dead_code, reason = "that it is an integer is asked for, its value is not")]
    timestamp: i64,
    error_message: Option<String>,
}

/// Whether an answer of status 200 is an acknowledgement of the request; if not, why, in words of our own.
fn acknowledges(answer: &Answer, id: &str) -> Result<(), &'static str> {
    let media_type = answer.content_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err("its content type is not application/json");
    }
    if !matches!(answer.content_encoding.as_str(), "" | "identity") {
        return Err("it has a content encoding");
    }
    if !answer.has_length {
        return Err("it has no Content-Length");
    }
    let acknowledgement: Acknowledgement = serde_json::from_slice(&answer.body).map_err(
        |_| "its body is not the JSON object of the protocol, with requestId and an integer timestamp alone",
    )?;
    if acknowledgement.request_id != id {
        return Err("it names another request");
    }
    if acknowledgement.error_message.is_some_and(|text| text.chars().count() > ERROR_MESSAGE_CHARS_MAX) {
        return Err("its errorMessage is too long");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "6f1c3c2e-8f5e-8a4b-9c3d-000000000001";

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status,
            retry_after: (status == 429).then_some(Duration::from_secs(7)),
            content_type: "application/json".to_owned(),
            content_encoding: String::new(),
            has_length: true,
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    fn good() -> String {
        format!(r#"{{"requestId":"{ID}","timestamp":1578090903599}}"#)
    }

    fn strict(answer: Answer) -> Verdict {
        judge(&Ok(answer), ID, false)
    }

    fn kind(verdict: &Verdict) -> &'static str {
        match verdict {
            Verdict::Taken => "taken",
            Verdict::TooLarge(_) => "too large",
            Verdict::Refused(_) => "refused",
            Verdict::Busy(_) => "busy",
            Verdict::Away(_) => "away",
            Verdict::Denied(_) => "denied",
        }
    }

    #[test]
    fn an_acknowledgement_is_what_the_protocol_says() {
        assert_eq!(strict(answer(200, &good())), Verdict::Taken);
        let with_null = format!(r#"{{"requestId":"{ID}","timestamp":0,"errorMessage":null}}"#);
        assert_eq!(strict(answer(200, &with_null)), Verdict::Taken, "as Vector answers");
        let charset = Answer { content_type: "Application/JSON; charset=utf-8".to_owned(), ..answer(200, &good()) };
        assert_eq!(strict(charset), Verdict::Taken);
    }

    #[test]
    fn every_other_answer_of_200_acknowledges_nothing() {
        let long = format!(r#"{{"requestId":"{ID}","timestamp":0,"errorMessage":"{}"}}"#, "x".repeat(8_193));
        let bodies = [
            String::new(),
            "OK".to_owned(),
            "null".to_owned(),
            "{}".to_owned(),
            "<html>Sign in, secret</html>".to_owned(),
            format!(r#"{{"requestId":"{ID}"}}"#),
            format!(r#"{{"requestId":"{ID}","timestamp":"1578090903599"}}"#),
            format!(r#"{{"requestId":"{ID}","timestamp":1.5}}"#),
            format!(r#"{{"requestId":"{ID}","timestamp":1,"more":1}}"#),
            format!(r#"{{"requestId":"{ID}","requestId":"{ID}","timestamp":1}}"#),
            format!(r#"{{"requestId":"{ID}0","timestamp":1}}"#),
            r#"{"requestId":null,"timestamp":1}"#.to_owned(),
            format!("{}{}", good(), good()),
            good()[..20].to_owned(),
            long,
        ];
        let mut answers: Vec<Answer> = bodies.iter().map(|body| answer(200, body)).collect();
        answers.push(Answer { content_type: "text/html".to_owned(), ..answer(200, &good()) });
        answers.push(Answer { content_type: String::new(), ..answer(200, &good()) });
        answers.push(Answer { content_encoding: "gzip".to_owned(), ..answer(200, &good()) });
        answers.push(Answer { has_length: false, ..answer(200, &good()) });
        for answer in answers {
            let Verdict::Refused(said) = strict(answer.clone()) else { panic!("{answer:?}") };
            assert_eq!(said.code, INVALID_RESPONSE);
            assert!(!said.shown.contains("secret"), "{said:?}");
            assert_eq!(judge(&Ok(answer), ID, true), Verdict::Taken, "unless any status of success will do");
        }
    }

    #[test]
    fn a_status_says_whose_turn_it_is() {
        let expected = [
            (201, "refused"),
            (204, "refused"),
            (301, "denied"),
            (302, "denied"),
            (400, "refused"),
            (401, "denied"),
            (403, "denied"),
            (404, "denied"),
            (408, "away"),
            (413, "too large"),
            (415, "denied"),
            (422, "refused"),
            (429, "busy"),
            (500, "refused"),
            (502, "away"),
            (503, "away"),
            (504, "away"),
            (599, "away"),
        ];
        for (status, expected) in expected {
            let verdict = strict(answer(status, "{\"errorMessage\":\"of a record\"}"));
            assert_eq!(kind(&verdict), expected, "{status}");
            if let Verdict::Busy(said) | Verdict::Away(said) | Verdict::Denied(said) | Verdict::Refused(said) = verdict
            {
                assert_eq!(said.code, DESTINATION_EXCEPTION);
                assert_eq!(said.after, (status == 429).then_some(Duration::from_secs(7)));
                assert!(said.message.contains("of a record") && !said.shown.contains("of a record"));
            }
            assert_eq!(judge(&Ok(answer(status, "")), ID, true) == Verdict::Taken, status < 300, "{status}");
        }
    }

    #[test]
    fn what_is_no_answer_has_the_code_that_firehose_has_for_it() {
        let of = |error: HttpError| match judge(&Err(error), ID, false) {
            Verdict::Away(said) => (said.code, "away"),
            Verdict::Denied(said) => (said.code, "denied"),
            Verdict::Refused(said) => (said.code, "refused"),
            Verdict::TooLarge(said) => (said.code, "too large"),
            other => panic!("{other:?}"),
        };
        let (to, cause) = ("host".to_owned(), "why".to_owned());
        let unreachable = HttpError::Unreachable { to: to.clone(), cause: cause.clone() };
        assert_eq!(of(unreachable), ("HttpEndpoint.ConnectionFailed", "away"));
        assert_eq!(of(HttpError::Refused { to, cause }), ("HttpEndpoint.ConnectionFailed", "denied"));
        assert_eq!(of(HttpError::Broken("x".to_owned())), ("HttpEndpoint.ConnectionReset", "away"));
        assert_eq!(of(HttpError::TimedOut(Duration::from_secs(180))), ("HttpEndpoint.RequestTimeout", "away"));
        let large = |status| HttpError::TooLarge { status, most: 1 };
        assert_eq!(of(large(200)), ("HttpEndpoint.ResponseTooLarge", "refused"));
        assert_eq!(of(large(413)), ("HttpEndpoint.ResponseTooLarge", "too large"));
        assert_eq!(of(large(503)), ("HttpEndpoint.ResponseTooLarge", "away"));
        assert_eq!(judge(&Err(large(200)), ID, true), Verdict::Taken);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

        #[test]
        fn nothing_but_the_whole_acknowledgement_of_this_request_is_one(
            body in "(\\{|\\}|\"requestId\":|\"timestamp\":|\"errorMessage\":|\"6f1c3c2e-8f5e-8a4b-9c3d-000000000001\"|,|1|null| ){0,12}",
            status in 100..700_u16,
        ) {
            let verdict = strict(answer(status, &body));
            let value: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
            let good = status == 200 && value["requestId"] == ID && value["timestamp"].is_i64()
                && value.get("errorMessage").is_none_or(serde_json::Value::is_null);
            // A member that comes twice is one in a value, and none by the protocol.
            prop_assert!(verdict != Verdict::Taken || good, "{}", body);
        }
    }
}
