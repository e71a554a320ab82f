//! A record that could not be delivered -> one line of an error object, in Firehose's shape.
//!
//! `format-conversion-failed` has the shape that the service writes (`lastErrorCode`, `lastErrorMessage`; its guide
//! prints `ErrorCode`, `ErrorMessage`), everything else the shape of a processing failure. The producer's bytes are in
//! `rawData`, in base64; of a value that does not fit its column the message shows the beginning, as Firehose's does.

use bytes::Bytes;
use serde::ser::{Serialize, Serializer};
use standpipe_flow::{CatalogTable, Detail, Document, Millis, RejectedRecord};

/// `error-output-type` of a record that does not become a row.
pub(crate) const FORMAT_CONVERSION_FAILED: &str = "format-conversion-failed";

/// `error-output-type` of a record that an HTTP endpoint did not take.
pub const HTTP_ENDPOINT_FAILED: &str = "http-endpoint-failed";

/// Bytes of memory that the line of a rejected record will take, at most.
pub fn error_line_bytes(rejected: &RejectedRecord) -> usize {
    /// Member names, numbers, a sequence number of 56 digits (or its twin in `dataId`), the longest code; the names of the
    /// members of a table.
    const FRAME_BYTES: usize = 512;
    let detail = match &rejected.detail {
        Detail::None => 0,
        Detail::Document(document) => escaped_bytes(&document.id) + escaped_bytes(&document.index),
        Detail::Lambda(arn) => escaped_bytes(arn),
        Detail::Table(table) => [&table.catalog_id, &table.database, &table.table, &table.region, &table.version_id]
            .map(|text| escaped_bytes(text))
            .iter()
            .sum(),
    };
    FRAME_BYTES + escaped_bytes(&rejected.message) + detail + rejected.data.len().div_ceil(3) * 4
}

/// Bytes of a text within a JSON string.
fn escaped_bytes(text: &str) -> usize {
    let bytes = |byte: u8| match byte {
        b'"' | b'\\' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(bytes).sum()
}

/// Appends one line, with its line feed. `ended` is when the last attempt ended.
pub fn error_line(rejected: &RejectedRecord, ended: Millis, out: &mut Vec<u8>) {
    let (mut function, mut table, mut document) = (None, None, None);
    match &rejected.detail {
        Detail::None => {}
        Detail::Lambda(arn) => function = Some(&**arn),
        Detail::Table(of) => table = Some(DataCatalogTable::of(of)),
        Detail::Document(of) => document = Some(of),
    }
    let of_endpoint = rejected.output_type == HTTP_ENDPOINT_FAILED;
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
                data_catalog_table: table,
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
                named: document.map(|document| Named::of(document)),
                raw_data: Base64(&rejected.data),
                lambda_arn: function,
                subsequence_number: of_endpoint.then_some(rejected.sub),
                data_id: of_endpoint.then(|| format!("{}.{}", rejected.sequence, rejected.sub)),
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
    data_catalog_table: Option<DataCatalogTable<'a>>,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct DataCatalogTable<'a> {
    catalog_id: &'a str,
    database_name: &'a str,
    table_name: &'a str,
    region: &'a str,
    version_id: &'a str,
}

impl<'a> DataCatalogTable<'a> {
    fn of(table: &'a CatalogTable) -> Self {
        Self {
            catalog_id: &table.catalog_id,
            database_name: &table.database,
            table_name: &table.table,
            region: &table.region,
            version_id: &table.version_id,
        }
    }
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Failed<'a> {
    attempts_made: u32,
    arrival_timestamp: u64,
    error_code: &'a str,
    error_message: &'a str,
    attempt_ending_timestamp: u64,
    #[serde(flatten)]
    named: Option<Named<'a>>,
    raw_data: Base64<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lambda_arn: Option<&'a str>,
    /// With `data_id`, of a record that an HTTP endpoint did not take.
    #[serde(skip_serializing_if = "Option::is_none")]
    subsequence_number: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_id: Option<String>,
}

/// The document that was refused.
#[derive(serde::Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
enum Named<'a> {
    Domain { es_document_id: &'a str, es_index_name: &'a str, es_type_name: &'static str },
    Collection { os_document_id: &'a str, os_index_name: &'a str },
}

impl<'a> Named<'a> {
    fn of(document: &'a Document) -> Self {
        let (id, index) = (document.id.as_str(), document.index.as_str());
        if document.serverless {
            Self::Collection { os_document_id: id, os_index_name: index }
        } else {
            // The only type since 7.0.
            Self::Domain { es_document_id: id, es_index_name: index, es_type_name: "_doc" }
        }
    }
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

    fn rejected(output_type: &'static str, detail: Detail) -> RejectedRecord {
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
            detail,
        }
    }

    fn line_of(rejected: &RejectedRecord) -> String {
        let mut out = Vec::new();
        error_line(rejected, Millis(1_665_678_887_550), &mut out);
        assert!(out.len() <= error_line_bytes(rejected));
        String::from_utf8(out).expect("text")
    }

    fn line(output_type: &'static str) -> String {
        line_of(&rejected(output_type, Detail::None))
    }

    #[test]
    fn a_table_and_a_function_are_named_where_the_service_names_them() {
        let table = CatalogTable {
            catalog_id: "111122223333".to_owned(),
            database: "lake".to_owned(),
            table: "orders".to_owned(),
            region: "eu-west-1".to_owned(),
            version_id: "7".to_owned(),
        };
        let line = line_of(&rejected(FORMAT_CONVERSION_FAILED, Detail::Table(table.into())));
        let named = concat!(
            r#""subSequenceNumber":3,"dataCatalogTable":{"catalogId":"111122223333","databaseName":"lake","#,
            r#""tableName":"orders","region":"eu-west-1","versionId":"7"}}"#,
            "\n"
        );
        assert!(line.ends_with(named), "{line}");
        let arn = "arn:aws:lambda:eu-west-1:111122223333:function:enrich:$LATEST";
        let line = line_of(&rejected("processing-failed", Detail::Lambda(arn.into())));
        assert!(line.ends_with(&format!(r#""rawData":"eyJhIjoK/w==","lambdaArn":"{arn}"}}{}"#, "\n")), "{line}");
    }

    #[test]
    fn a_document_is_named_as_the_service_names_it() {
        let line = |serverless| {
            let document = Document { id: "7\"".to_owned(), index: "logs-2026-01-31".to_owned(), serverless };
            line_of(&rejected("AmazonOpenSearchService-failed", Detail::Document(document.into())))
        };
        assert!(line(false).ends_with(concat!(
            r#""attemptEndingTimestamp":1665678887550,"esDocumentId":"7\"","esIndexName":"logs-2026-01-31","#,
            r#""esTypeName":"_doc","rawData":"eyJhIjoK/w=="}"#,
            "\n"
        )));
        let of_collection = r#""osDocumentId":"7\"","osIndexName":"logs-2026-01-31","rawData":"#;
        assert!(line(true).contains(of_collection) && !line(true).contains("esDocumentId"));
    }

    #[test]
    fn a_record_that_an_endpoint_did_not_take_is_named_as_the_service_names_it() {
        let line = line(HTTP_ENDPOINT_FAILED);
        let named = concat!(r#""rawData":"eyJhIjoK/w==","subsequenceNumber":3,"dataId":"49601.3"}"#, "\n");
        assert!(line.ends_with(named), "{line}");
    }

    proptest::proptest! {
        #[test]
        fn no_line_is_longer_than_was_said(
            message in "\\PC{0,40}|[\u{0}-\u{22}\\\\]{0,300}",
            name in "[\u{0}-\u{22}é]{0,100}",
            data in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..100),
        ) {
            let table = CatalogTable { database: name.clone(), table: name.clone(), ..CatalogTable::default() };
            let document = Document { id: name.clone(), index: name.clone(), serverless: false };
            let details = [Detail::Table(table.into()), Detail::Lambda(name.as_str().into()), Detail::Document(document.into())];
            for detail in details {
                for output_type in [FORMAT_CONVERSION_FAILED, HTTP_ENDPOINT_FAILED, "processing-failed"] {
                    let rejected = rejected(output_type, detail.clone());
                    let (message, data) = (message.as_str().into(), data.clone().into());
                    line_of(&RejectedRecord { message, data, sequence: SequenceNumber::from(u64::MAX), ..rejected });
                }
            }
        }
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
