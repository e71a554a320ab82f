//! The encoder of a table whose columns are not known: every record is refused, and no object is made. So nothing is ever
//! encoded with columns that are not those of the table.

use bytes::Bytes;
use standpipe_flow::{LeaseKey, Record, RejectedRecord};

use crate::encode::{Encode, EncodeError, Encoded};
use crate::failed::FORMAT_CONVERSION_FAILED;
use crate::fault::Fault;
use crate::schema::objects;

/// Refuses what it is given: for what is wrong with it, or for having no field that columns could be made of.
pub(crate) struct NoColumns;

impl Encode for NoColumns {
    fn push(&mut self, lease: &LeaseKey, record: &Record) -> Result<(), Box<RejectedRecord>> {
        let fault = objects(&record.data).err().unwrap_or(Fault::NoColumns);
        let of = (lease, record);
        Err(Box::new(RejectedRecord::of(of, FORMAT_CONVERSION_FAILED, fault.code(), fault.message())))
    }

    fn take(&mut self) -> Result<Option<Bytes>, EncodeError> {
        Ok(None)
    }

    fn finish(self: Box<Self>) -> Result<Encoded, EncodeError> {
        Ok(Encoded { tail: vec![Bytes::new()], records: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deserialize::CurrentRows;
    use crate::testing::{lease, record};
    use crate::{Columns, Compression, Format, OrcOptions, ParquetOptions, RowFormat};

    #[test]
    fn nothing_is_a_row_until_the_columns_are_known() {
        for is_orc in [false, true] {
            let rows = CurrentRows::unknown();
            let format = match is_orc {
                true => Format::Orc { rows: rows.clone(), options: OrcOptions::default() },
                false => Format::Parquet { rows: rows.clone(), options: ParquetOptions::default() },
            };
            let lease = lease();
            let mut encoder = format.encoder(Compression::None);
            let said = |encoder: &mut Box<dyn Encode>, data: &str| {
                encoder.push(&lease, &record(data.as_bytes())).expect_err("refused").message.to_string()
            };
            assert!(said(&mut encoder, "{}").starts_with("The record has no field"));
            assert!(said(&mut encoder, "{").starts_with("Encountered malformed JSON"));
            assert!(said(&mut encoder, "").starts_with("The record was empty"));
            assert_eq!(encoder.take(), Ok(None));
            assert_eq!(encoder.finish().expect("an end").records, 0);
            rows.replace(RowFormat::from(Columns::parse("a bigint").expect("columns")));
            let mut encoder = format.encoder(Compression::None);
            assert!(encoder.push(&lease, &record(b"{}")).is_ok());
            assert_eq!(encoder.finish().expect("an end").records, 1);
        }
    }
}
