//! A record that cannot be delivered, with the reason: it becomes a line of an error object in Firehose's shape.

use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Millis;
use crate::lease::LeaseKey;
use crate::record::Record;
use crate::sequence::SequenceNumber;

/// A record that a transform or the destination cannot take, with the reason.
#[derive(Clone, PartialEq, Eq)]
pub struct RejectedRecord {
    /// `error-output-type`, e.g. `format-conversion-failed`.
    pub output_type: &'static str,
    /// The error code, e.g. `DataFormatConversion.ParseError`.
    pub code: &'static str,
    /// The message, without record content beyond what Firehose itself shows; records of one fault share it.
    pub message: Arc<str>,
    /// Attempts made.
    pub attempts: u32,
    /// When the record arrived in the stream.
    pub arrival: Millis,
    /// The shard.
    pub lease: LeaseKey,
    /// The record's sequence number.
    pub sequence: SequenceNumber,
    /// Its sub-sequence number.
    pub sub: u64,
    /// The record's bytes, as they were read.
    pub data: Bytes,
    /// What else Firehose says of such a record.
    pub detail: Detail,
}

/// Never shows the producer's bytes: they must not reach a log.
impl std::fmt::Debug for RejectedRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RejectedRecord({}.{}, {}, {} bytes)", self.sequence, self.sub, self.code, self.data.len())
    }
}

/// What an error line says beside the reason.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum Detail {
    /// Nothing more.
    #[default]
    None,
    /// The function that failed: `lambdaArn`.
    Lambda(Arc<str>),
    /// The table of the Glue Data Catalog whose columns did not fit: `dataCatalogTable`.
    Table(Arc<CatalogTable>),
    /// The document that was refused: its id, its index.
    Document(Arc<Document>),
}

/// A document of OpenSearch, as an error line names it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Document {
    /// `esDocumentId`: the id that it was to have; empty where the service would have given one.
    pub id: String,
    /// `esIndexName`.
    pub index: String,
    /// In a collection of OpenSearch Serverless: the members are `osDocumentId` and `osIndexName`.
    pub serverless: bool,
}

/// A table of the Glue Data Catalog, as an error line names it. What is unknown is empty.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct CatalogTable {
    /// `catalogId`: the account.
    pub catalog_id: String,
    /// `databaseName`.
    pub database: String,
    /// `tableName`.
    pub table: String,
    /// `region`.
    pub region: String,
    /// `versionId`: of the columns that were tried.
    pub version_id: String,
}

impl RejectedRecord {
    /// A record that was tried once: another try would end in the same way. Its bytes are those that were read.
    pub fn of(
        (lease, record): (&LeaseKey, &Record),
        output_type: &'static str,
        code: &'static str,
        message: impl Into<Arc<str>>,
    ) -> Self {
        Self {
            output_type,
            code,
            message: message.into(),
            attempts: 1,
            arrival: record.arrival,
            lease: lease.clone(),
            sequence: record.sequence.clone(),
            sub: record.sub,
            data: record.original().clone(),
            detail: Detail::None,
        }
    }
}
