//! `apache_common`, `apache_combined`: a line of an access log to JSON, with the names and types of AWS's blueprint
//! `kinesis-firehose-apachelog-to-json` (the two more fields of the combined format as the Kinesis agent names them).
//!
//! Beyond the blueprint a host may be a name or an IPv6 address, `bytes` may be `-` (which is 0, by Apache's documents)
//! and `response` too (null). Quoted texts stay as Apache wrote them, escapes included. `@timestamp` is the time by the
//! server's clock, `@timestamp_utc` ends in `Z`, so that Hive's deserializers read it; a time of another form stays as it
//! is written.

use jiff::fmt::strtime::BrokenDownTime;
use standpipe_flow::Record;

use super::line;
use super::line::Line;
use super::object::Object;
use crate::stage::{Fault, Made, Stage};

/// The two formats that Apache's documents name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ApacheFormat {
    /// `%h %l %u %t "%r" %>s %b`.
    Common,
    /// The common one, then `"%{Referer}i" "%{User-agent}i"`.
    Combined,
}

/// The stage.
#[derive(Debug)]
pub struct Apache {
    format: ApacheFormat,
}

impl Apache {
    /// The stage for a format.
    pub fn new(format: ApacheFormat) -> Self {
        Self { format }
    }
}

impl Stage for Apache {
    fn name(&self) -> &'static str {
        match self.format {
            ApacheFormat::Common => "apache_common",
            ApacheFormat::Combined => "apache_combined",
        }
    }

    fn apply(&self, record: Record, made: &mut Made) -> Result<(), Fault> {
        let json = parse(self.format, Line(line(&record)?)).map_err(|field| {
            let message = format!("no line of the format {}: {field}", self.name());
            Fault::processing("Parse.ApacheLog", message)
        })?;
        made.change(&record, json);
        Ok(())
    }
}

/// Gives the JSON, or says what is wrong with which field.
fn parse(format: ApacheFormat, mut line: Line<'_>) -> Result<Vec<u8>, &'static str> {
    let host = line.word().ok_or("it has no host")?;
    let ident = line.word().ok_or("it has no ident")?;
    let authuser = line.word().ok_or("it has no authuser")?;
    let time = line.between('[', ']').ok_or("no time in brackets follows the authuser")?;
    let request = line.quoted().ok_or("no request in quotes follows the time")?;
    let response = number(line.word(), None).ok_or("response is not a number")?;
    let bytes = number(line.word(), Some(0)).ok_or("bytes is not a number")?;
    let client = match format {
        ApacheFormat::Common => None,
        ApacheFormat::Combined => {
            let referrer = line.quoted().ok_or("no referrer in quotes follows bytes")?;
            Some((referrer, line.quoted().ok_or("no agent in quotes follows the referrer")?))
        }
    };
    if !line.0.trim_ascii().is_empty() {
        return Err("more follows: take another format, or a regex");
    }
    let time = Time::of(time);
    let verb = request.split_once(char::is_whitespace).map(|(verb, _)| verb);
    let json = Object::new()
        .field("host", host)
        .field("ident", ident)
        .field("authuser", authuser)
        .field("@timestamp", &time.local)
        .field("request", request)
        .field("response", response)
        .field("bytes", bytes)
        .field_if("verb", verb)
        .field_if("timezone", time.zone)
        .field_if("@timestamp_utc", time.utc)
        .field_if("referrer", client.map(|(referrer, _)| referrer))
        .field_if("agent", client.map(|(_, agent)| agent));
    Ok(json.finish())
}

/// A number, or what `-` stands for.
fn number(word: Option<&str>, absent: Option<u64>) -> Option<Option<u64>> {
    match word? {
        "-" => Some(absent),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok().map(Some),
        _ => None,
    }
}

/// The time of a request.
struct Time<'a> {
    local: String,
    zone: Option<&'a str>,
    utc: Option<String>,
}

impl<'a> Time<'a> {
    /// Of `10/Oct/2000:13:55:36 -0700`, or without the zone.
    fn of(text: &'a str) -> Self {
        let zone = text.split_once(' ').map(|(_, zone)| zone);
        let pattern = if zone.is_some() { "%d/%b/%Y:%H:%M:%S %z" } else { "%d/%b/%Y:%H:%M:%S" };
        let time = BrokenDownTime::parse(pattern, text);
        match time.as_ref().ok().and_then(|time| time.to_datetime().ok()) {
            None => Self { local: text.to_owned(), zone: None, utc: None },
            Some(local) => {
                let utc = time.ok().and_then(|time| time.to_timestamp().ok());
                Self { local: local.to_string(), zone, utc: utc.map(|utc| utc.to_string()) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{outcome, record};

    fn common(line: &str) -> String {
        outcome(&Apache::new(ApacheFormat::Common), record(line.to_owned())).text()
    }

    fn combined(line: &str) -> String {
        outcome(&Apache::new(ApacheFormat::Combined), record(line.to_owned())).text()
    }

    #[test]
    fn the_line_of_the_agent_s_documents_has_the_fields_of_the_blueprint() {
        let line =
            "64.242.88.10 - - [07/Mar/2004:16:10:02 -0800] \"GET /mailman/listinfo/hsdivision HTTP/1.1\" 200 6291\n";
        assert_eq!(
            common(line),
            r#"{"host":"64.242.88.10","ident":"-","authuser":"-","@timestamp":"2004-03-07T16:10:02","#.to_owned()
                + r#""request":"GET /mailman/listinfo/hsdivision HTTP/1.1","response":200,"bytes":6291,"verb":"GET","#
                + r#""timezone":"-0800","@timestamp_utc":"2004-03-08T00:10:02Z"}"#
        );
    }

    #[test]
    fn a_combined_line_has_referrer_and_agent() {
        let line = r#"::1 - frank [10/Oct/2000:13:55:36 +0000] "GET /a HTTP/1.0" 304 - "http://x/?q=\"y\"" "Mozilla/4.08 [en] (Win98; I ;Nav)""#;
        assert_eq!(
            combined(line),
            r#"{"host":"::1","ident":"-","authuser":"frank","@timestamp":"2000-10-10T13:55:36","request":"GET /a HTTP/1.0","#
                .to_owned()
                + r#""response":304,"bytes":0,"verb":"GET","timezone":"+0000","@timestamp_utc":"2000-10-10T13:55:36Z","#
                + r#""referrer":"http://x/?q=\\\"y\\\"","agent":"Mozilla/4.08 [en] (Win98; I ;Nav)"}"#
        );
    }

    #[test]
    fn odd_requests_and_times_stay_as_they_are_written() {
        let json = common(r#"host.example - - [yesterday] "\x16\x03" - -"#);
        assert_eq!(
            json,
            r#"{"host":"host.example","ident":"-","authuser":"-","@timestamp":"yesterday","request":"\\x16\\x03","response":null,"bytes":0}"#
        );
        assert!(
            common(r#"a - - [01/Jan/2024:00:00:00] "" 200 1"#)
                .contains(r#""@timestamp":"2024-01-01T00:00:00","request":"","response":200,"bytes":1}"#)
        );
    }

    #[test]
    fn what_is_another_format_is_rejected_by_the_field() {
        let common = Apache::new(ApacheFormat::Common);
        let combined = Apache::new(ApacheFormat::Combined);
        let line = r#"a b c [d] "e" 1 2"#;
        for (stage, line, message) in [
            (&common, String::new(), "apache_common: it has no host"),
            (&common, "secret".into(), "apache_common: it has no ident"),
            (&common, "a b c d".into(), "apache_common: no time in brackets follows the authuser"),
            (&common, r#"a b c [d] "e 1 2"#.into(), "apache_common: no request in quotes follows the time"),
            (&common, r#"a b c [d] "e" +1 2"#.into(), "apache_common: response is not a number"),
            (&common, r#"a b c [d] "e" 1 99999999999999999999"#.into(), "apache_common: bytes is not a number"),
            (&common, format!(r#"{line} "r" "a""#), "apache_common: more follows: take another format, or a regex"),
            (&common, format!("{line}\n{line}"), "apache_common: bytes is not a number"),
            (&combined, line.into(), "apache_combined: no referrer in quotes follows bytes"),
            (&combined, format!(r#"{line} "r" "#), "apache_combined: no agent in quotes follows the referrer"),
        ] {
            let fault = outcome(stage, record(line)).fault();
            assert_eq!((fault.output_type, fault.code), ("processing-failed", "Parse.ApacheLog"));
            assert_eq!(fault.message.strip_prefix("no line of the format "), Some(message));
        }
        assert_eq!(outcome(&common, record(&b"\xff - -"[..])).fault().code, "Parse.NotUtf8");
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_rejected(data in proptest::collection::vec(any::<u8>(), 0..200), line in r#"[a-z:\[\]"\\ 0-9/+-]{0,80}"#) {
            for format in [ApacheFormat::Common, ApacheFormat::Combined] {
                outcome(&Apache::new(format), record(data.clone()));
                outcome(&Apache::new(format), record(line.clone()));
            }
        }

        #[test]
        fn what_was_logged_comes_out(
            (host, user) in ("[^ \n\r]{1,20}", "[^ \n\r]{1,20}"),
            (request, referrer, agent) in (quotable(), quotable(), quotable()),
            (response, bytes) in (any::<u64>(), any::<u64>()),
        ) {
            let line = format!(r#"{host} - {user} [01/Feb/2020:03:04:05 +0100] "{request}" {response} {bytes} "{referrer}" "{agent}""#);
            let json: serde_json::Value = serde_json::from_str(&combined(&line)).unwrap();
            let expected = serde_json::json!({
                "host": host, "ident": "-", "authuser": user, "@timestamp": "2020-02-01T03:04:05", "timezone": "+0100",
                "@timestamp_utc": "2020-02-01T02:04:05Z", "request": request, "response": response, "bytes": bytes,
                "referrer": referrer, "agent": agent,
            });
            let mut json = json.as_object().unwrap().clone();
            json.remove("verb");
            prop_assert_eq!(serde_json::Value::Object(json), expected);
        }
    }

    /// A text as Apache writes it in quotes.
    fn quotable() -> impl Strategy<Value = String> {
        proptest::string::string_regex(r#"([^"\\\x00-\x1f]|\\"|\\\\|\\x[0-9a-f]{2}){0,20}"#).unwrap()
    }
}
