//! JSON records -> rows -> batches of arrays, for the file formats that have columns (Parquet and ORC).
//!
//! Every record is tried alone; one that is no row is rejected whole and leaves no trace in any column. A record that
//! holds several JSON documents is as many rows, or none. Rows gather as arrays of some thousand, bounded in bytes,
//! and then go to the [`Table`] that writes them.
//! The file depends on the records and the columns alone: no time, no random id.
//!
//! Never here: what a value becomes in a column (`column.rs`), and the bytes of a file.

use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{SchemaRef, TimeUnit};
use bytes::Bytes;
use standpipe_flow::{CatalogTable, Detail, LeaseKey, Record, RejectedRecord};

use crate::column::Reading;
use crate::deserialize::{RowFormat, Rules};
use crate::encode::{Encode, EncodeError, Encoded};
use crate::failed::FORMAT_CONVERSION_FAILED;
use crate::fault::Fault;
use crate::fields::FieldBuilders;
use crate::json::{Cursor, Kind, documents};

/// When the rows that have gathered go on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchLimits {
    /// Rows of a batch of arrays; also the documents that one record may hold.
    pub(crate) rows: usize,
    /// Bytes of a batch of arrays.
    pub(crate) bytes: usize,
}

/// Beyond some hundred rows a batch gains nothing; wide rows end it by bytes.
pub(crate) const BATCH_LIMITS: BatchLimits = BatchLimits { rows: 8192, bytes: 8 << 20 };

/// The file that the rows of one object become. After an error it is thrown away.
pub(crate) trait Table: Send {
    /// Appends a batch of rows with the columns that the file was made for.
    fn write(&mut self, batch: &RecordBatch) -> Result<(), EncodeError>;

    /// The next whole part.
    fn take(&mut self) -> Option<Bytes>;

    /// Ends the file; what was not taken yet.
    fn finish(self) -> Result<Vec<Bytes>, EncodeError>;
}

/// The encoder of one file of rows.
pub(crate) struct Rows<T> {
    fields: FieldBuilders,
    rules: Rules,
    catalog: Option<Arc<CatalogTable>>,
    width: usize,
    schema: SchemaRef,
    /// Rows in `fields`, and about how many bytes they take.
    rows: usize,
    bytes: usize,
    /// The error stays: a file that lacks rows must not be finished.
    table: Result<T, EncodeError>,
    records: u64,
    limits: BatchLimits,
    /// The last message of a fault: a million records of one fault have one.
    said: Arc<str>,
}

/// What was appended of the record at hand.
#[derive(Default)]
struct Pushed {
    rows: usize,
    /// About how many bytes they take.
    bytes: usize,
}

impl<T: Table> Rows<T> {
    /// `unit` is that of the timestamps in the batches.
    pub(crate) fn new(format: &RowFormat, unit: TimeUnit, table: Result<T, EncodeError>, limits: BatchLimits) -> Self {
        let columns = format.columns();
        let fields = FieldBuilders::new(columns.as_slice(), &format.keys(), unit);
        Self {
            width: fields.width(),
            fields,
            rules: format.rules(),
            catalog: format.table().cloned(),
            schema: Arc::new(columns.arrow_schema_in(unit)),
            rows: 0,
            bytes: 0,
            table,
            records: 0,
            limits,
            said: "".into(),
        }
    }

    /// Appends the rows of one record, all or none.
    fn push_record(&mut self, data: &[u8]) -> Result<(), Fault> {
        let pushed = self.push_text(data).or_else(|_| {
            self.fields.truncate(self.rows);
            self.push_documents(data)
        });
        match pushed {
            Ok(Pushed { rows, bytes }) => {
                self.rows += rows;
                self.bytes += bytes;
                Ok(())
            }
            Err(fault) => {
                self.fields.truncate(self.rows);
                Err(fault)
            }
        }
    }

    /// Reads the record once. Of what this refuses, [`Self::push_documents`] says why: a fault of the text, wherever it
    /// stands in a document, comes before one of a value.
    fn push_text(&mut self, data: &[u8]) -> Result<Pushed, Fault> {
        let mut json = Cursor::new(std::str::from_utf8(data).map_err(|_| Fault::NotText)?);
        let mut pushed = Pushed::default();
        while json.has_more() {
            self.push_document(&mut json, &mut pushed)?;
        }
        if pushed.rows == 0 { Err(Fault::Empty) } else { Ok(pushed) }
    }

    /// Reads each document twice.
    fn push_documents(&mut self, data: &[u8]) -> Result<Pushed, Fault> {
        let mut pushed = Pushed::default();
        for document in documents(data)? {
            self.push_document(&mut Cursor::new(document?), &mut pushed)?;
        }
        Ok(pushed)
    }

    fn push_document(&mut self, json: &mut Cursor<'_>, pushed: &mut Pushed) -> Result<(), Fault> {
        if pushed.rows == self.limits.rows {
            return Err(Fault::Documents { max: self.limits.rows });
        }
        let mut reading = Reading { rules: &self.rules, bytes: pushed.bytes };
        reading.add(self.width)?;
        match json.kind()? {
            Kind::Object => self.fields.push_object(json, self.rows + pushed.rows, &mut reading)?,
            found => return Err(Fault::NotAnObject(found)),
        }
        *pushed = Pushed { rows: pushed.rows + 1, bytes: reading.bytes };
        Ok(())
    }

    /// Hands the gathered rows to the file.
    fn write(&mut self) -> Result<(), EncodeError> {
        let Ok(table) = &mut self.table else { return Ok(()) };
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let arrays = self.fields.finish(rows).map_err(EncodeError::of)?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch =
            RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options).map_err(EncodeError::of)?;
        table.write(&batch)
    }

    fn message(&mut self, fault: &Fault) -> Arc<str> {
        let message = fault.message();
        if *self.said != *message {
            self.said = message.into();
        }
        self.said.clone()
    }

    fn write_or_fail(&mut self) {
        if let Err(error) = self.write() {
            self.table = Err(error);
        }
    }
}

impl<T: Table> Encode for Rows<T> {
    fn push(&mut self, lease: &LeaseKey, record: &Record) -> Result<(), Box<RejectedRecord>> {
        if self.table.is_err() {
            return Ok(());
        }
        if let Err(fault) = self.push_record(&record.data) {
            let message = self.message(&fault);
            let of = (lease, record);
            let detail = self.catalog.clone().map_or(Detail::None, Detail::Table);
            let rejected = RejectedRecord::of(of, FORMAT_CONVERSION_FAILED, fault.code(), message);
            return Err(Box::new(RejectedRecord { detail, ..rejected }));
        }
        self.records += 1;
        if self.rows >= self.limits.rows || self.bytes >= self.limits.bytes {
            self.write_or_fail();
        }
        Ok(())
    }

    fn take(&mut self) -> Result<Option<Bytes>, EncodeError> {
        match &mut self.table {
            Ok(table) => Ok(table.take()),
            Err(error) => Err(error.clone()),
        }
    }

    fn finish(mut self: Box<Self>) -> Result<Encoded, EncodeError> {
        self.write_or_fail();
        Ok(Encoded { tail: self.table?.finish()?, records: self.records })
    }
}
