//! Examples of the RFCs, what programs write, and any bytes.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::testing::{Outcome, outcome, record};

fn parsed(format: SyslogFormat, line: &str) -> Value {
    serde_json::from_str(&outcome(&Syslog::new(format), record(line.to_owned())).text()).unwrap()
}

#[track_caller]
fn rejected(format: SyslogFormat, line: &str, why: &str) {
    let fault = outcome(&Syslog::new(format), record(line.to_owned())).fault();
    assert_eq!((fault.output_type, fault.code), ("processing-failed", "Parse.Syslog"));
    assert_eq!(fault.message.split_once(": ").unwrap().1, why);
}

#[test]
fn messages_of_rfc_3164_have_the_fields_of_the_blueprint() {
    let json = outcome(
        &Syslog::new(SyslogFormat::Rfc3164),
        record("<34>Oct 11 22:14:15 mymachine su[231]: 'su root' failed for \"lonvick\" on /dev/pts/8\n"),
    );
    assert_eq!(
        json.text(),
        r#"{"timestamp":"Oct 11 22:14:15","hostname":"mymachine","program":"su","processid":"231","#.to_owned()
            + r#""message":"'su root' failed for \"lonvick\" on /dev/pts/8","facility":4,"severity":2}"#
    );
}

#[test]
fn what_programs_write_in_place_of_rfc_3164_is_read_too() {
    for (line, timestamp, hostname, program, processid, message) in [
        ("Feb  5 17:32:18 10.0.0.99 Use the BFG!", "Feb  5 17:32:18", "10.0.0.99", None, None, "Use the BFG!"),
        ("Feb 5 17:32:18.123 h p: m", "Feb 5 17:32:18.123", "h", Some("p"), None, "m"),
        (
            "2024-01-02T03:04:05.000123+01:00 h postfix/smtpd[1]: a: b",
            "2024-01-02T03:04:05.000123+01:00",
            "h",
            Some("postfix/smtpd"),
            Some("1"),
            "a: b",
        ),
        ("Jan 31 00:00:00 h kernel: [  1.5] x", "Jan 31 00:00:00", "h", Some("kernel"), None, "[  1.5] x"),
        (
            "Jan 31 00:00:00 h last message repeated 3 times",
            "Jan 31 00:00:00",
            "h",
            None,
            None,
            "last message repeated 3 times",
        ),
        ("Jan 31 00:00:00 h at 10:20:30 x", "Jan 31 00:00:00", "h", None, None, "at 10:20:30 x"),
        ("Jan 31 00:00:00 h 10:20:30 x", "Jan 31 00:00:00", "h", None, None, "10:20:30 x"),
        ("Jan 31 00:00:00 h p[]:", "Jan 31 00:00:00", "h", Some("p"), Some(""), ""),
        ("Jan 31 00:00:00 h p[1 x", "Jan 31 00:00:00", "h", None, None, "p[1 x"),
        ("Jan 31 00:00:00 h", "Jan 31 00:00:00", "h", None, None, ""),
    ] {
        let expected = json!({
            "timestamp": timestamp, "hostname": hostname, "program": program, "processid": processid, "message": message,
        });
        assert_eq!(parsed(SyslogFormat::Rfc3164, line), expected, "{line}");
    }
    let with_priority = parsed(SyslogFormat::Rfc3164, "<191>Jan 31 00:00:00 h m");
    assert_eq!((&with_priority["facility"], &with_priority["severity"]), (&json!(23), &json!(7)));
}

#[test]
fn what_is_not_rfc_3164_is_rejected() {
    let priority = "it does not begin with a priority of 0 to 191 in angle brackets";
    let time = "it does not begin with a time";
    for (line, why) in [
        ("", time),
        ("secret", time),
        ("Oct 32 22:14:15 h m", time),
        ("Okt 12 22:14:15 h m", time),
        ("Oct 12 soon h m", time),
        ("<34>", time),
        ("<192>Oct 11 22:14:15 h m", priority),
        ("<+1>Oct 11 22:14:15 h m", priority),
        ("<34", priority),
        ("Oct 11 22:14:15", "no hostname follows the time"),
    ] {
        rejected(SyslogFormat::Rfc3164, line, why);
    }
}

#[test]
fn the_examples_of_rfc_5424_are_read() {
    let first = "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \u{feff}'su root' failed for lonvick on /dev/pts/8";
    assert_eq!(
        outcome(&Syslog::new(SyslogFormat::Rfc5424), record(first)).text(),
        r#"{"timestamp":"2003-10-11T22:14:15.003Z","hostname":"mymachine.example.com","program":"su","processid":null,"#
            .to_owned()
            + r#""messageid":"ID47","structured_data":null,"message":"'su root' failed for lonvick on /dev/pts/8","#
            + r#""facility":4,"severity":2}"#
    );
    let third = r#"<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - [exampleSDID@32473 iut="3" eventSource="App\]\"\\\n" ip="1" ip="2" ip="3"][examplePriority@32473 class="high"]"#;
    let data = json!({
        "exampleSDID@32473": {"iut": "3", "eventSource": "App]\"\\\\n", "ip": ["1", "2", "3"]},
        "examplePriority@32473": {"class": "high"},
    });
    let json = parsed(SyslogFormat::Rfc5424, third);
    assert_eq!((&json["structured_data"], &json["message"], &json["processid"]), (&data, &Value::Null, &json!("8710")));
    let least = parsed(SyslogFormat::Rfc5424, "<0>1 - - - - - -");
    assert_eq!(
        least,
        json!({"timestamp": null, "hostname": null, "program": null, "processid": null,
        "messageid": null, "structured_data": null, "message": null, "facility": 0, "severity": 0})
    );
    assert_eq!(parsed(SyslogFormat::Rfc5424, "<0>1 - - - - - [x] ")["message"], "");
}

#[test]
fn what_is_not_rfc_5424_is_rejected() {
    for (line, why) in [
        ("1 - - - - - -", "it does not begin with a priority of 0 to 191 in angle brackets"),
        ("<34>2 - - - - - -", "the version is not 1"),
        ("<34>1", "it has no time"),
        ("<34>1 yesterday - - - - -", "the time is not one of RFC 3339"),
        ("<34>1 - h p", "it has no procid"),
        ("<34>1 - h p 1", "it has no msgid"),
        ("<34>1 - h p 1 m", "it has no structured data"),
        ("<34>1 - h p 1 m [x", "the structured data does not end"),
        ("<34>1 - h p 1 m [x a=\"b\"", "the structured data does not end"),
        ("<34>1 - h p 1 m [x a]", "a parameter of the structured data has no value"),
        ("<34>1 - h p 1 m [x a=b]", "a value of the structured data is not in quotes"),
        ("<34>1 - h p 1 m [x]message", "no space follows the structured data"),
        ("<34>1 - h p 1 m -message", "no space follows the structured data"),
    ] {
        rejected(SyslogFormat::Rfc5424, line, why);
    }
    let many = format!("<34>1 - h p 1 m [x{}]", r#" a="""#.repeat(10_000));
    rejected(SyslogFormat::Rfc5424, &many, "the structured data has more than 10000 parameters");
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_rejected(
        data in proptest::collection::vec(any::<u8>(), 0..200),
        line in r#"(<[0-9]{1,3}>)?(1 - - - - - )?(Oct 11 22:14:15 )?[a-z:\[\]"\\ =0-9\u{feff}-]{0,60}"#,
    ) {
        for format in [SyslogFormat::Rfc3164, SyslogFormat::Rfc5424] {
            outcome(&Syslog::new(format), record(data.clone()));
            if let Outcome::Made(made) = outcome(&Syslog::new(format), record(line.clone())) {
                prop_assert!(serde_json::from_slice::<Value>(&made[0].data).unwrap().is_object());
            }
        }
    }

    #[test]
    fn what_was_written_by_rfc_5424_comes_out(
        priority in 0..192_u8,
        words in proptest::collection::vec("[!-~]{2,10}", 4),
        values in proptest::collection::vec(any::<String>(), 1..5),
        message in "[^\n\r\u{feff}]{0,30}",
    ) {
        let escape = |value: &String| value.replace('\\', r"\\").replace('"', "\\\"").replace(']', r"\]");
        let parameters: String = values.iter().enumerate().map(|(i, value)| format!(" p{i}=\"{}\"", escape(value))).collect();
        let line = format!("<{priority}>1 - {} [id{parameters}] {message}", words.join(" "));
        let json = parsed(SyslogFormat::Rfc5424, &line);
        prop_assert_eq!(&json["messageid"], &words[3]);
        prop_assert_eq!(&json["message"], &message);
        prop_assert_eq!(json["facility"].as_u64().unwrap() * 8 + json["severity"].as_u64().unwrap(), u64::from(priority));
        let read = json["structured_data"]["id"].as_object().unwrap();
        let expected: Map<String, Value> = values.into_iter().enumerate().map(|(i, value)| (format!("p{i}"), value.into())).collect();
        prop_assert_eq!(read, &expected);
    }
}
