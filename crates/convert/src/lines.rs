//! `raw` and `json_lines`: records byte for byte, with or without a line feed after each.
//!
//! Nothing is parsed, so nothing is rejected. With [`Delimiter::Newline`] a record that already ends in a line feed
//! gets no second one (producers that send lines would otherwise fill the object with blank ones), and an empty record
//! is an empty line: without line feeds inside records, an object has as many lines as records.

use bytes::Bytes;
use standpipe_flow::{LeaseKey, Record, RejectedRecord};

use crate::compress::{Compression, ObjectBody};
use crate::encode::{Delimiter, Encode, EncodeError, Encoded};

pub(crate) struct Lines {
    delimiter: Delimiter,
    /// The error stays: an object that lacks bytes must not be finished.
    sink: Result<ObjectBody, EncodeError>,
    records: u64,
}

impl Lines {
    pub(crate) fn new(delimiter: Delimiter, compression: Compression) -> Self {
        Self { delimiter, sink: ObjectBody::new(compression), records: 0 }
    }

    fn write(&mut self, lease: &LeaseKey, record: &Record) -> Result<(), EncodeError> {
        let Ok(sink) = &mut self.sink else { return Ok(()) };
        if self.records == 0 {
            sink.begin(lease, record);
        }
        let data = &record.data[..];
        sink.write(data)?;
        if self.delimiter == Delimiter::Newline && data.last() != Some(&b'\n') {
            sink.write(b"\n")?;
        }
        self.records += 1;
        Ok(())
    }
}

impl Encode for Lines {
    fn push(&mut self, lease: &LeaseKey, record: &Record) -> Result<(), Box<RejectedRecord>> {
        if let Err(error) = self.write(lease, record) {
            self.sink = Err(error);
        }
        Ok(())
    }

    fn take(&mut self) -> Result<Option<Bytes>, EncodeError> {
        match &mut self.sink {
            Ok(sink) => Ok(sink.take()),
            Err(error) => Err(error.clone()),
        }
    }

    fn finish(self: Box<Self>) -> Result<Encoded, EncodeError> {
        Ok(Encoded { tail: self.sink?.finish()?, records: self.records })
    }
}

#[cfg(test)]
mod tests {
    use crate::encode::{Format, encode_all};
    use crate::testing::{lease, record};

    use super::*;

    fn encode(format: &Format, records: &[&[u8]]) -> Vec<u8> {
        let lease = lease();
        let records: Vec<_> = records.iter().map(|data| record(data)).collect();
        let mut out = Vec::new();
        let encoder = format.encoder(Compression::None);
        let object = encode_all(encoder, records.iter().map(|record| (&lease, record)), |part| {
            out.extend_from_slice(&part);
            Ok::<_, ()>(())
        });
        let object = object.expect("encoded");
        assert_eq!((object.records, object.bytes), (records.len() as u64, out.len() as u64));
        assert!(object.rejected.is_empty());
        out
    }

    #[test]
    fn raw_is_the_records_byte_for_byte() {
        assert_eq!(encode(&Format::Raw, &[b"a", b"", b"\x00\xFF\n", b"b"]), b"a\x00\xFF\nb");
        let none = Format::JsonLines { delimiter: Delimiter::None };
        assert_eq!(encode(&none, &[b"{}", b"{}"]), b"{}{}");
    }

    #[test]
    fn every_record_is_a_line_and_none_is_a_blank_one_but_the_empty() {
        let lines = Format::JsonLines { delimiter: Delimiter::Newline };
        assert_eq!(encode(&lines, &[b"{\"a\":1}", b"{}\n", b"", b"not json"]), b"{\"a\":1}\n{}\n\nnot json\n");
        assert_eq!(encode(&lines, &[]), b"");
    }

    #[test]
    fn the_entry_of_a_zip_is_named_by_the_first_record() {
        let (lease, records) = (LeaseKey::new("1:orders:2:shardId-0"), [record(b"a"), record(b"b")]);
        let mut out = Vec::new();
        encode_all(Format::Raw.encoder(Compression::Zip), records.iter().map(|record| (&lease, record)), |part| {
            out.extend_from_slice(&part);
            Ok::<_, ()>(())
        })
        .expect("encoded");
        let name = b"1-orders-2-shardId-0-7-0";
        assert_eq!(out[30..30 + name.len()], *name);
    }

    #[test]
    fn a_sink_that_takes_no_more_stops_the_encoding() {
        let big = record(&vec![b'x'; crate::PART_BYTES * 2]);
        let lease = lease();
        let stopped = encode_all(Format::Raw.encoder(Compression::None), [(&lease, &big)], |_| Err("enough"));
        assert_eq!(stopped, Err(crate::Stopped::Sink("enough")));
    }
}
