//! `cloudwatch_logs`: the envelope in which a subscription filter of CloudWatch Logs sends log events.
//!
//! Control messages, by which the service asks whether the stream is there, are dropped. With `extract_message` a record
//! becomes the messages of its events, one a line, as Firehose's `DataMessageExtraction` makes them: one record stays one
//! record (`split` makes many of it). Without it the envelope passes as it is. What is no envelope is rejected.
//!
//! Never here: decompressing (`decompress` stands before it).

use std::borrow::Cow;

use serde::Deserialize;
use standpipe_flow::Record;

use crate::stage::{Fault, Made, Stage};

/// What `cloudwatch_logs` takes from the config.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CloudWatchLogsSettings {
    /// Whether only the messages go on, one a line; otherwise the envelope.
    pub extract_message: bool,
}

/// The stage.
#[derive(Debug)]
pub struct CloudWatchLogs {
    settings: CloudWatchLogsSettings,
}

/// The parts that are read of an envelope (CloudWatch Logs user guide, "Log group-level subscription filters"). It also
/// has `owner`, `logGroup`, `logStream` and `subscriptionFilters`.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "messageType", borrow)]
    message_type: Cow<'a, str>,
    #[serde(rename = "logEvents", borrow)]
    log_events: Vec<LogEvent<'a>>,
}

/// Beside its message an event has `id` and `timestamp`, and `extractedFields` if the filter has a pattern.
#[derive(Deserialize)]
struct LogEvent<'a> {
    #[serde(borrow)]
    message: Cow<'a, str>,
}

impl CloudWatchLogs {
    /// The stage.
    pub fn new(settings: CloudWatchLogsSettings) -> Self {
        Self { settings }
    }
}

impl Stage for CloudWatchLogs {
    fn name(&self) -> &'static str {
        "cloudwatch_logs"
    }

    fn apply(&self, record: Record, made: &mut Made) -> Result<(), Fault> {
        // serde would take the values of an array for fields in their order.
        if !record.data.trim_ascii_start().starts_with(b"{") {
            return Err(Fault::processing("CloudWatchLogs.NotAnEnvelope", "not a JSON object"));
        }
        let envelope: Envelope<'_> = serde_json::from_slice(&record.data).map_err(|error| {
            Fault::json("CloudWatchLogs.NotAnEnvelope", "not an envelope of CloudWatch Logs", &error)
        })?;
        match &*envelope.message_type {
            "DATA_MESSAGE" if self.settings.extract_message => {
                let lines: Vec<&str> = envelope.log_events.iter().map(|event| &*event.message).collect();
                if !lines.is_empty() {
                    made.change(&record, lines.join("\n"));
                }
            }
            "DATA_MESSAGE" => made.pass(record),
            "CONTROL_MESSAGE" => {}
            _ => {
                let message = "messageType is neither DATA_MESSAGE nor CONTROL_MESSAGE";
                return Err(Fault::processing("CloudWatchLogs.UnknownMessageType", message));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Outcome, outcome, record};

    const ENVELOPE: &str = r#"{"messageType":"DATA_MESSAGE","owner":"111111111111","logGroup":"CloudTrail/logs",
        "logStream":"111111111111_CloudTrail/logs_us-east-1","subscriptionFilters":["Destination"],"logEvents":[
        {"id":"3195310660696698337880902507980421114328961542429822156","timestamp":1432826855000,
         "message":"{\"eventVersion\":\"1.03\",\"userIdentity\":{\"type\":\"Root1\"}"},
        {"id":"3195310660696698337880902507980421114328961542429822157","timestamp":1432826855000,
         "message":"{\"eventVersion\":\"1.03\",\"userIdentity\":{\"type\":\"Root2\"}","extractedFields":{"a":"1"}}]}"#;

    const CONTROL: &str = r#"{"messageType":"CONTROL_MESSAGE","owner":"CloudwatchLogs","logGroup":"","logStream":"",
        "subscriptionFilters":[],"logEvents":[{"id":"","timestamp":1510254469274,
        "message":"CWL CONTROL MESSAGE: Checking health of destination Firehose."}]}"#;

    fn through(extract_message: bool, data: &str) -> Outcome {
        outcome(&CloudWatchLogs::new(CloudWatchLogsSettings { extract_message }), record(data.to_owned()))
    }

    #[test]
    fn messages_are_extracted_one_a_line_as_firehose_shows_them() {
        let lines = "{\"eventVersion\":\"1.03\",\"userIdentity\":{\"type\":\"Root1\"}\n\
                     {\"eventVersion\":\"1.03\",\"userIdentity\":{\"type\":\"Root2\"}";
        let made = through(true, ENVELOPE).records();
        assert_eq!(made.len(), 1);
        assert_eq!(made[0].data, lines);
        assert_eq!(made[0].original(), ENVELOPE, "an error object later shows the envelope");
    }

    #[test]
    fn without_extraction_the_envelope_passes_as_it_is() {
        assert_eq!(through(false, ENVELOPE), Outcome::Made(vec![record(ENVELOPE)]));
    }

    #[test]
    fn control_messages_are_dropped_either_way_and_so_is_an_envelope_without_a_message_to_extract() {
        let empty = r#"{"messageType":"DATA_MESSAGE","logEvents":[]}"#;
        assert_eq!(through(true, CONTROL), Outcome::Made(vec![]));
        assert_eq!(through(false, CONTROL), Outcome::Made(vec![]));
        assert_eq!(through(true, empty), Outcome::Made(vec![]));
        assert_eq!(through(false, empty), Outcome::Made(vec![record(empty)]));
    }

    #[test]
    fn what_is_no_envelope_is_rejected_without_its_content_in_the_message() {
        for (data, code) in [
            ("", "CloudWatchLogs.NotAnEnvelope"),
            (r#"["DATA_MESSAGE",[]]"#, "CloudWatchLogs.NotAnEnvelope"),
            ("plain secret text", "CloudWatchLogs.NotAnEnvelope"),
            (r#"{"messageType":"secret"}"#, "CloudWatchLogs.NotAnEnvelope"),
            (r#"{"messageType":"DATA_MESSAGE","logEvents":[{"message":"secret"}]} {}"#, "CloudWatchLogs.NotAnEnvelope"),
            (r#"{"messageType":"DATA_MESSAGE","logEvents":[{"message":["secret"]}]}"#, "CloudWatchLogs.NotAnEnvelope"),
            (r#"{"messageType":"secret","logEvents":[]}"#, "CloudWatchLogs.UnknownMessageType"),
        ] {
            let fault = through(true, data).fault();
            assert_eq!((fault.output_type, fault.code), ("processing-failed", code), "{data}");
            assert!(!fault.message.contains("secret"), "{}", fault.message);
        }
    }

    #[test]
    fn an_envelope_of_great_depth_or_a_lone_surrogate_is_rejected_and_nothing_worse() {
        let deep = format!(r#"{{"messageType":"DATA_MESSAGE","x":{},"logEvents":[]}}"#, "[".repeat(1_000_000));
        assert_eq!(through(true, &deep).fault().code, "CloudWatchLogs.NotAnEnvelope");
        let lone = r#"{"messageType":"DATA_MESSAGE","logEvents":[{"message":"\ud800"}]}"#;
        assert_eq!(through(true, lone).fault().code, "CloudWatchLogs.NotAnEnvelope");
    }
}
