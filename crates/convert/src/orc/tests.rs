//! The layout of the file; its values are read by readers that others wrote, in `tests/peers/formats`.

use proptest::prelude::*;

use super::*;
use crate::encode::{Encode, EncodedObject, Format, encode_all};
use crate::parts::PART_BYTES;
use crate::rows::{BATCH_LIMITS, Rows};
use crate::schema::Column;
use crate::testing::{lease, record};

fn encode(columns: &str, options: OrcOptions, records: &[String]) -> (EncodedObject, Vec<u8>) {
    let columns = Columns::parse(columns).expect("columns");
    let format = Format::Orc { rows: columns.into(), options };
    let (lease, records) = (lease(), records.iter().map(|data| record(data.as_bytes())).collect::<Vec<_>>());
    let mut out = Vec::new();
    let encoder = format.encoder(crate::Compression::None);
    let object = encode_all(encoder, records.iter().map(|record| (&lease, record)), |part| {
        out.extend_from_slice(&part);
        Ok::<_, ()>(())
    });
    (object.expect("encoded"), out)
}

/// The fields of a message: numbers of varints, bytes of the others.
fn fields(mut bytes: &[u8]) -> Vec<(u64, u64, &[u8])> {
    let mut fields = Vec::new();
    let varint = |bytes: &mut &[u8]| {
        let end = bytes.iter().position(|byte| byte & 0x80 == 0).expect("a varint ends");
        let value = bytes[..=end].iter().rev().fold(0, |all, byte| all << 7 | u64::from(byte & 0x7f));
        *bytes = &bytes[end + 1..];
        value
    };
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let (number, length) = match key & 7 {
            0 => (varint(&mut bytes), 0),
            1 => (0, 8),
            _ => (0, varint(&mut bytes) as usize),
        };
        let (value, rest) = bytes.split_at(length);
        fields.push((key >> 3, number, value));
        bytes = rest;
    }
    fields
}

fn number(fields: &[(u64, u64, &[u8])], field: u64) -> usize {
    fields.iter().find(|(key, ..)| *key == field).expect("the field").1 as usize
}

/// The parts of an uncompressed file: the bytes of its stripes, and its footer.
fn split(file: &[u8]) -> (&[u8], &[u8]) {
    let (rest, length) = file.split_at(file.len() - 1);
    let (rest, postscript) = rest.split_at(rest.len() - length[0] as usize);
    let postscript = fields(postscript);
    assert_eq!(postscript.last(), Some(&(8000, 0, MAGIC)));
    let (rest, footer) = rest.split_at(rest.len() - number(&postscript, 1));
    let metadata = number(&postscript, 5);
    assert_eq!(&file[..3], MAGIC);
    (&rest[..rest.len() - metadata], footer)
}

fn uncompressed() -> OrcOptions {
    OrcOptions { compression: OrcCompression::None, ..OrcOptions::default() }
}

#[test]
fn stripes_follow_each_other_and_hold_every_row() {
    let records: Vec<String> = (0..30_000).map(|row| format!(r#"{{"a":{row},"b":"text {}"}}"#, row * 7919)).collect();
    let options = OrcOptions { stripe_bytes: 100_000, row_index_stride: 1000, ..uncompressed() };
    let (object, file) = encode("a bigint, b string", options, &records);
    assert_eq!((object.records, object.bytes), (30_000, file.len() as u64));
    let (content, footer) = split(&file);
    let footer = fields(footer);
    assert_eq!((number(&footer, 2), number(&footer, 6)), (content.len(), 30_000));
    let stripes: Vec<_> = footer.iter().filter(|(key, ..)| *key == 3).map(|(.., stripe)| fields(stripe)).collect();
    assert!(stripes.len() > 3);
    let end = stripes.iter().fold(MAGIC.len(), |at, stripe| {
        assert_eq!(number(stripe, 1), at);
        at + number(stripe, 2) + number(stripe, 3) + number(stripe, 4)
    });
    assert_eq!(end, content.len());
    assert_eq!(stripes.iter().map(|stripe| number(stripe, 5)).sum::<usize>(), 30_000);
}

#[test]
fn types_are_numbered_from_the_outside_in() {
    let columns = "a array<struct<b:int,c:decimal(9,2)>>, m map<string,date>";
    let (_, file) = encode(columns, uncompressed(), &[r#"{"a":[{"b":1}]}"#.to_owned()]);
    let footer = fields(split(&file).1);
    let types: Vec<_> = footer.iter().filter(|(key, ..)| *key == 4).map(|(.., kind)| fields(kind)).collect();
    let kinds: Vec<_> = types.iter().map(|kind| number(kind, 1)).collect();
    assert_eq!(kinds, [12, 10, 12, 3, 14, 11, 7, 15]);
    assert_eq!(types[0][1..], [(2, 0, &[1, 5][..]), (3, 0, b"a"), (3, 0, b"m")]);
    assert_eq!(types[2][1..], [(2, 0, &[3, 4][..]), (3, 0, b"b"), (3, 0, b"c")]);
    assert_eq!(types[4][1..], [(5, 9, &[][..]), (6, 2, &[])]);
}

#[test]
fn a_rejected_record_leaves_nothing_and_a_file_without_rows_is_whole() {
    let good = r#"{"a":1,"b":["x"]}"#.to_owned();
    let columns = "a int, b array<string>";
    let (object, file) = encode(columns, OrcOptions::default(), &[good.clone(), r#"{"b":["y"],"a":"z"}"#.to_owned()]);
    assert_eq!((object.records, object.rejected.len()), (1, 1));
    assert_eq!(encode(columns, OrcOptions::default(), &[good]).1, file);
    let (object, file) = encode(columns, uncompressed(), &[]);
    assert_eq!(object.records, 0);
    let (content, footer) = split(&file);
    let footer = fields(footer);
    assert_eq!((content, number(&footer, 6)), (MAGIC, 0));
    // Of each of the four columns, the rows among them.
    assert_eq!(footer.iter().filter(|(key, ..)| *key == 7).count(), 4);
}

#[test]
fn what_is_held_is_a_stripe_however_long_the_file() {
    let columns = Columns::parse("text string").expect("columns");
    let options = OrcOptions { stripe_bytes: 4 << 20, ..uncompressed() };
    let file = OrcFile::new(&columns, &options);
    let mut encoder = Box::new(Rows::new(&columns.into(), arrow_schema::TimeUnit::Microsecond, file, BATCH_LIMITS));
    let (lease, mut state, mut taken) = (lease(), 1u64, 0);
    for _ in 0..40_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let text = format!(r#"{{"text":"{}"}}"#, format!("{state:016x}").repeat(64));
        encoder.push(&lease, &record(text.as_bytes())).expect("a row");
        while let Some(part) = encoder.take().expect("no error") {
            taken += part.len();
        }
    }
    let rest: usize = encoder.finish().expect("a file").tail.iter().map(Bytes::len).sum();
    // 40 MB: a stripe, a batch and a part may wait.
    assert!(taken > 20_000_000 && rest < (4 << 20) + BATCH_LIMITS.bytes + PART_BYTES, "{taken} and {rest}");
}

#[test]
fn every_type_of_a_column_list_is_supported() {
    let columns = "a boolean, b tinyint, c smallint, d int, e bigint, f float, g double, h decimal(38,38), i string, \
        j varchar(5), k char(2), l binary, m date, n timestamp, o array<map<int,struct<p:array<timestamp>>>>";
    let columns = Columns::parse(columns).expect("columns");
    assert_eq!(orc_supports(&columns), Ok(()));
    for Column { kind, .. } in columns.as_slice() {
        assert!(ColumnWriter::new(&kind.data_type(), 80).is_ok(), "{kind}");
    }
    assert!(ColumnWriter::new(&DataType::Null, 80).is_err());
}

proptest! {
    #[test]
    fn the_bytes_depend_on_the_records_alone(
        values in prop::collection::vec((any::<Option<i64>>(), any::<Option<String>>(), any::<bool>()), 0..300),
        compression in prop::sample::select(vec![OrcCompression::Zlib, OrcCompression::Snappy, OrcCompression::Zstd]),
    ) {
        let row = |(a, b, c): &(Option<i64>, Option<String>, bool)| {
            serde_json::json!({ "a": a, "b": b, "c": c, "d": { "a": b, "b": [a, a] } }).to_string()
        };
        let records: Vec<_> = values.iter().map(row).collect();
        let columns = "a bigint, b string, c boolean, d struct<a:string,b:array<double>>";
        let options = OrcOptions { compression, row_index_stride: 100, ..OrcOptions::default() };
        let (object, file) = encode(columns, options.clone(), &records);
        prop_assert_eq!(object.records, records.len() as u64);
        prop_assert_eq!(file, encode(columns, options, &records).1);
    }
}
