//! A record that could not be delivered -> one line of an error object, in Firehose's shape.
//!
//! `format-conversion-failed` has the shape that the service writes (`lastErrorCode`, `lastErrorMessage`; its guide
//! prints `ErrorCode`, `ErrorMessage`), everything else the shape of a processing failure. The producer's bytes are in
//! `rawData`, in base64, and nowhere else.

use bytes::Bytes;
use serde::ser::{Serialize, Serializer};
use standpipe_flow::{Millis, RejectedRecord};

/// `error-output-type` of a record that does not become a row.
pub(crate) const FORMAT_CONVERSION_FAILED: &str = "format-conversion-failed";

/// Bytes of memory that the line of a rejected record will take, at most as far as its message needs no escapes.
pub fn error_line_bytes(rejected: &RejectedRecord) -> usize {
    /// Member names, numbers, a sequence number of 56 digits, the longest code.
    const FRAME_BYTES: usize = 400;
    FRAME_BYTES + rejected.message.len() + rejected.data.len().div_ceil(3) * 4
}

/// Appends one line, with its line feed. `ended` is when the last attempt ended.
pub fn error_line(rejected: &RejectedRecord, ended: Millis, out: &mut Vec<u8>) {
    let written = if rejected.output_type == FORMAT_CONVERSION_FAILED {
        serde_json::to_writer(
            &mut *out,
            &FormatConversionFailed {
                attempts_made: rejected.attempts,
                arrival_timestamp: rejected.arrival.0,
                last_error_code: rejected.code,
                last_error_message: &rejected.message,
                attempt_ending_timestamp: ended.0,
                raw_data: Base64(&rejected.data),
                sequence_number: rejected.sequence.as_str(),
                sub_sequence_number: rejected.sub,
                data_catalog_table: None,
            },
        )
    } else {
        serde_json::to_writer(
            &mut *out,
            &Failed {
                attempts_made: rejected.attempts,
                arrival_timestamp: rejected.arrival.0,
                error_code: rejected.code,
                error_message: &rejected.message,
                attempt_ending_timestamp: ended.0,
                raw_data: Base64(&rejected.data),
            },
        )
    };
    written.expect("strings and numbers have JSON, and a vector takes every byte");
    out.push(b'\n');
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct FormatConversionFailed<'a> {
    attempts_made: u32,
    arrival_timestamp: u64,
    last_error_code: &'a str,
    last_error_message: &'a str,
    attempt_ending_timestamp: u64,
    raw_data: Base64<'a>,
    sequence_number: &'a str,
    sub_sequence_number: u64,
    /// The Glue table that the schema came from. None: the columns stand in the config.
    data_catalog_table: Option<()>,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Failed<'a> {
    attempts_made: u32,
    arrival_timestamp: u64,
    error_code: &'a str,
    error_message: &'a str,
    attempt_ending_timestamp: u64,
    raw_data: Base64<'a>,
}

/// Standard alphabet, padded (RFC 4648 section 4).
struct Base64<'a>(&'a Bytes);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&base64_simd::STANDARD.encode_to_string(self.0))
    }
}

#[cfg(test)]
mod tests {
    use standpipe_flow::SequenceNumber;

    use crate::testing::lease;

    use super::*;

    fn rejected(output_type: &'static str) -> RejectedRecord {
        RejectedRecord {
            output_type,
            code: "DataFormatConversion.ParseError",
            message: "Encountered malformed \"JSON\".\n".into(),
            attempts: 1,
            arrival: Millis(1_665_653_487_107),
            lease: lease(),
            sequence: SequenceNumber::parse("49601").expect("digits"),
            sub: 3,
            data: Bytes::from_static(b"{\"a\":\n\xFF"),
            detail: standpipe_flow::Detail::None,
        }
    }

    fn line(output_type: &'static str) -> String {
        let mut out = Vec::new();
        error_line(&rejected(output_type), Millis(1_665_678_887_550), &mut out);
        assert!(out.len() <= error_line_bytes(&rejected(output_type)));
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_failed_conversion_has_the_shape_that_firehose_writes() {
        assert_eq!(
            line(FORMAT_CONVERSION_FAILED),
            concat!(
                r#"{"attemptsMade":1,"arrivalTimestamp":1665653487107,"lastErrorCode":"DataFormatConversion.ParseError","#,
                r#""lastErrorMessage":"Encountered malformed \"JSON\".\n","attemptEndingTimestamp":1665678887550,"#,
                r#""rawData":"eyJhIjoK/w==","sequenceNumber":"49601","subSequenceNumber":3,"dataCatalogTable":null}"#,
                "\n"
            )
        );
    }

    #[test]
    fn every_other_failure_has_the_shape_of_a_processing_failure() {
        assert_eq!(
            line("processing-failed"),
            concat!(
                r#"{"attemptsMade":1,"arrivalTimestamp":1665653487107,"errorCode":"DataFormatConversion.ParseError","#,
                r#""errorMessage":"Encountered malformed \"JSON\".\n","attemptEndingTimestamp":1665678887550,"#,
                r#""rawData":"eyJhIjoK/w=="}"#,
                "\n"
            )
        );
    }
}
