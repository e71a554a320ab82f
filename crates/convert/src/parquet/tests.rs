//! What is written is read back by the library's own reader, and compared with serde_json's view of the records.

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::ParquetMetaData;
use proptest::prelude::*;
use serde_json::{Map, Number, Value, json};

use standpipe_flow::Record;

use super::*;
use crate::deserialize::{Deserializer, Hive, OpenX, RowFormat};
use crate::encode::{Encode, EncodedObject, Format, encode_all};
use crate::rows::{BATCH_LIMITS, BatchLimits, Rows};
use crate::schema::{Column, ColumnType, Inferring, fold};
use crate::testing::{lease, record};

mod coercions;
mod reference;

struct File {
    object: EncodedObject,
    bytes: Bytes,
}

impl File {
    fn batches(&self) -> Vec<RecordBatch> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(self.bytes.clone()).expect("a Parquet file");
        reader.build().expect("a reader").collect::<Result<_, _>>().expect("rows")
    }

    fn metadata(&self) -> Arc<ParquetMetaData> {
        ParquetRecordBatchReaderBuilder::try_new(self.bytes.clone()).expect("a Parquet file").metadata().clone()
    }

    /// The rows as JSON objects; a null is a field that is not there.
    fn rows(&self) -> Vec<Value> {
        let batches = self.batches();
        batches
            .iter()
            .flat_map(|batch| (0..batch.num_rows()).map(|row| cells(batch.columns(), &batch.schema(), row)))
            .collect()
    }

    fn messages(&self) -> Vec<&str> {
        self.object.rejected.iter().map(|rejected| &*rejected.message).collect()
    }
}

fn cells(columns: &[arrow_array::ArrayRef], schema: &arrow_schema::Schema, row: usize) -> Value {
    let fields = schema.fields().iter().zip(columns);
    fields
        .filter(|(_, column)| column.is_valid(row))
        .map(|(field, column)| (field.name().clone(), cell(column, row)))
        .collect::<Map<_, _>>()
        .into()
}

fn cell(array: &dyn Array, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    let list = |values: &dyn Array| -> Value { (0..values.len()).map(|index| cell(values, index)).collect() };
    match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).into(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        DataType::Float32 => f64::from(array.as_primitive::<Float32Type>().value(row)).into(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(row).into(),
        DataType::Decimal128(..) => array.as_primitive::<Decimal128Type>().value_as_string(row).into(),
        DataType::Date32 => array.as_primitive::<Date32Type>().value(row).into(),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            array.as_primitive::<TimestampMillisecondType>().value(row).into()
        }
        DataType::Timestamp(TimeUnit::Nanosecond, None) => {
            array.as_primitive::<TimestampNanosecondType>().value(row).into()
        }
        DataType::Timestamp(..) => array.as_primitive::<TimestampMicrosecondType>().value(row).into(),
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::Binary => array.as_binary::<i32>().value(row).to_vec().into(),
        DataType::List(_) => list(&array.as_list::<i32>().value(row)),
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            let key = |index| match cell(keys, index) {
                Value::String(key) => key,
                other => other.to_string(),
            };
            (0..entries.len()).map(|index| (key(index), cell(values, index))).collect::<Map<_, _>>().into()
        }
        DataType::Struct(fields) => {
            let array = array.as_struct();
            let fields = fields.iter().zip(array.columns()).filter(|(_, column)| column.is_valid(row));
            fields.map(|(field, column)| (field.name().clone(), cell(column, row))).collect::<Map<_, _>>().into()
        }
        other => panic!("no cell of {other}"),
    }
}

fn encode_with(encoder: Box<dyn Encode>, records: &[impl AsRef<[u8]>]) -> File {
    let lease = lease();
    let records: Vec<Record> = records.iter().map(|data| record(data.as_ref())).collect();
    let mut bytes = Vec::new();
    let object = encode_all(encoder, records.iter().map(|record| (&lease, record)), |part| {
        bytes.extend_from_slice(&part);
        Ok::<_, ()>(())
    });
    let object = object.expect("encoded");
    assert_eq!(object.records + object.rejected.len() as u64, records.len() as u64);
    File { object, bytes: bytes.into() }
}

fn encode(columns: &str, records: &[impl AsRef<[u8]>]) -> File {
    let columns = Columns::parse(columns).unwrap_or_else(|error| panic!("{columns}: {error}"));
    encode_as(columns.into(), &ParquetOptions::default(), records)
}

fn encode_as(rows: RowFormat, options: &ParquetOptions, records: &[impl AsRef<[u8]>]) -> File {
    let format = Format::Parquet { rows: rows.into(), options: *options };
    encode_with(format.encoder(crate::Compression::None), records)
}

/// The one row of one record.
fn row(columns: &str, record: &str) -> Value {
    let file = encode(columns, &[record]);
    assert_eq!(file.messages(), [""; 0], "{record}");
    file.rows().pop().expect("a row")
}

/// Why a record is no row.
fn fault(columns: &str, record: &str) -> String {
    let file = encode(columns, &[record]);
    file.messages().pop().unwrap_or_else(|| panic!("{record} is a row: {:?}", file.rows())).to_owned()
}

#[test]
fn a_value_becomes_the_columns_type_or_the_record_fails() {
    // Column type, value, what it becomes; nothing: it does not fit.
    let cases = [
        ("bigint", r#""12""#, Some(json!(12))),
        ("bigint", r#"" 12 ""#, Some(json!(12))),
        ("bigint", "1.0", Some(json!(1))),
        ("bigint", "1.5", None),
        ("bigint", "true", None),
        ("bigint", "9223372036854775808", None),
        ("bigint", r#""""#, None),
        ("bigint", "{}", None),
        ("bigint", "[1]", None),
        ("tinyint", "127", Some(json!(127))),
        ("tinyint", "128", None),
        ("smallint", "-32768", Some(json!(-32768))),
        ("int", "2147483648", None),
        ("double", r#""1.5""#, Some(json!(1.5))),
        ("double", "3", Some(json!(3.0))),
        ("double", "1e999", None),
        ("double", r#""oops""#, None),
        ("float", "0.5", Some(json!(0.5))),
        ("float", "1e39", None),
        ("boolean", r#""True""#, Some(json!(true))),
        ("boolean", "1", None),
        ("decimal(5,2)", "12.345", Some(json!("12.35"))),
        ("decimal(5,2)", r#""-7""#, Some(json!("-7.00"))),
        ("decimal(5,2)", "1000", None),
        ("string", "1.10", Some(json!("1.10"))),
        ("string", "123456789012345678901234567890", Some(json!("123456789012345678901234567890"))),
        ("string", "false", Some(json!("false"))),
        ("string", r#"{ "A": [1, 2] }"#, Some(json!(r#"{"a":[1,2]}"#))),
        ("string", r#"[ "B" ]"#, Some(json!(r#"["B"]"#))),
        ("string", r#""\u00e9\n""#, Some(json!("é\n"))),
        ("string", r#""\ud800""#, None),
        ("binary", r#""é""#, Some(json!([195, 169]))),
        ("date", r#""2024-2-9""#, Some(json!(19762))),
        ("date", "19762", None),
        ("timestamp", "1518033528", Some(json!(1_518_033_528_000_000i64))),
        ("timestamp", r#""2018-02-07T19:58:48.5Z""#, Some(json!(1_518_033_528_500_000i64))),
        ("timestamp", r#""yesterday""#, None),
        ("timestamp", "true", None),
        ("array<int>", "[1,\"2\",null]", Some(json!([1, 2, null]))),
        ("array<int>", "7", Some(json!([7]))),
        ("array<string>", r#"{"a":1}"#, Some(json!([r#"{"a":1}"#]))),
        ("array<struct<a:int>>", r#"{"a":1}"#, Some(json!([{"a": 1}]))),
        ("array<array<int>>", "[[1],2,[]]", Some(json!([[1], [2], []]))),
        ("array<int>", "[1,\"x\"]", None),
        ("struct<a:int,b:string>", r#"{"B":true,"x":1}"#, Some(json!({"b": "true"}))),
        ("struct<a:int,b:string>", r#"[1,"y",3]"#, Some(json!({"a": 1, "b": "y"}))),
        ("struct<a:int,b:string>", "[]", Some(json!({}))),
        ("struct<a:int>", r#""x""#, None),
        ("struct<a:int>", "5", None),
        ("map<string,int>", r#"{"A":1,"b":null,"a":2}"#, Some(json!({"a": 1, "b": null}))),
        ("map<int,double>", r#"{"1":0.5}"#, Some(json!({"1": 0.5}))),
        ("map<int,double>", r#"{"x":0.5}"#, None),
        ("map<string,int>", "[1]", None),
        ("map<string,int>", "true", None),
    ];
    for (kind, value, wanted) in cases {
        let columns = format!("before int, c {kind}, after int");
        let file = encode(&columns, &[format!(r#"{{"before":1,"c":{value},"after":2}}"#)]);
        let rows = file.rows();
        match wanted {
            Some(wanted) => assert_eq!(rows, [json!({"before": 1, "c": wanted, "after": 2})], "{kind} {value}"),
            None => assert_eq!((rows.len(), file.object.rejected.len()), (0, 1), "{kind} {value}"),
        }
        assert_eq!(row(&columns, r#"{"c":null}"#), json!({}), "{kind} null");
    }
}

#[test]
fn a_bad_record_is_isolated_and_says_why() {
    let columns = "id bigint, s struct<x:array<int>>, at timestamp, d date";
    let deep = format!(r#"{{"id":1,"other":{}{}}}"#, "[".repeat(127), "]".repeat(127));
    let bad: [(&[u8], &str, &str); 17] = [
        (b"", "MalformedData", "The record was empty or contained only whitespace."),
        (b" \n", "MalformedData", "The record was empty or contained only whitespace."),
        (b"\x1F\x8B\xFF", "MalformedData", "The data cannot be decoded as UTF-8."),
        (b"\x01\x02", "ParseError", "Encountered malformed JSON. expected value at line 1 column 1."),
        (b"{\"id\":1", "ParseError", "Encountered malformed JSON. EOF while parsing an object at line 1 column 7."),
        (b"{\"id\":1} SECRET", "ParseError", "Encountered malformed JSON. expected value at line 1 column 10."),
        (b"{\"id\":1,}", "ParseError", "Encountered malformed JSON. key must be a string at line 1 column 9."),
        (
            b"[1]",
            "MalformedData",
            "The input JSON contained an array at the top level. The top level must be an object.",
        ),
        (
            b"\"SECRET\"",
            "MalformedData",
            "The input JSON contained a primitive at the top level. The top level must be an object or array.",
        ),
        (
            b"null",
            "MalformedData",
            "The input JSON contained a primitive at the top level. The top level must be an object or array.",
        ),
        (
            deep.as_bytes(),
            "MalformedData",
            "Data contains a highly nested JSON structure that is not supported. At most 127 levels are.",
        ),
        (
            br#"{"id":"SECRET"}"#,
            "MalformedData",
            "Data does not match the schema. For input string: \"SECRET\". Column `id` of type bigint cannot hold this string.",
        ),
        (
            br#"{"s":{"x":[1,99999999999]}}"#,
            "MalformedData",
            "Data does not match the schema. For input string: \"99999999999\". Column `s.x` of type int cannot hold this number.",
        ),
        (
            br#"{"s":"SECRET"}"#,
            "MalformedData",
            "Data does not match the schema. Data is not JSONObject  but java.lang.String with value SECRET. Column `s` of type struct cannot hold this string.",
        ),
        (
            br#"{"at":"SECRET"}"#,
            "MalformedData",
            "Encountered invalid or unsupported timestamp format. Please see the Firehose developer guide for supported timestamp formats. Column `at` of type timestamp cannot hold this string.",
        ),
        (
            br#"{"d":"SECRET"}"#,
            "MalformedData",
            "Data does not match the schema. Invalid format for one or more dates. Column `d` of type date cannot hold this string.",
        ),
        (
            br#"{"id":2}{"id":"SECRET"}"#,
            "MalformedData",
            "Data does not match the schema. For input string: \"SECRET\". Column `id` of type bigint cannot hold this string.",
        ),
    ];
    let good = |id: usize| format!(r#"{{"s":{{"x":[{id}]}},"id":{id}}}"#).into_bytes();
    let mut records = vec![good(0)];
    for (index, (data, ..)) in bad.iter().enumerate() {
        records.extend([data.to_vec(), good(index + 1)]);
    }
    let file = encode(columns, &records);
    let rows: Vec<Value> = (0..=bad.len()).map(|id| json!({"id": id, "s": {"x": [id]}})).collect();
    assert_eq!(file.rows(), rows);
    assert_eq!(file.object.rejected.len(), bad.len());
    for (rejected, (data, code, message)) in file.object.rejected.iter().zip(bad) {
        assert_eq!((&rejected.data[..], &*rejected.message), (data, message));
        assert_eq!(rejected.code, format!("DataFormatConversion.{code}"));
        assert_eq!((rejected.output_type, rejected.attempts), ("format-conversion-failed", 1));
    }
}

#[test]
fn depth_is_limited_in_a_string_column_too() {
    let nested = |depth: usize| format!(r#"{{"s":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert_eq!(row("s string", &nested(126)), json!({"s": format!("{}{}", "[".repeat(126), "]".repeat(126))}));
    assert!(fault("s string", &nested(127)).contains("highly nested"));
    assert!(fault("s string", &nested(200_000)).contains("highly nested"));
}

#[test]
fn documents_of_one_record_are_as_many_rows_or_none() {
    let file = encode("a int", &[r#"{"a":1}{"a":2} {"a":3}"#, r#"{"a":4}{"a":"x"}"#, r#"{"a":5}"#]);
    assert_eq!(file.rows(), [json!({"a": 1}), json!({"a": 2}), json!({"a": 3}), json!({"a": 5})]);
    assert_eq!((file.object.records, file.object.rejected.len()), (2, 1));
    assert_eq!(fault("a int", &"{}".repeat(8193)), "The record contains more than 8192 JSON documents.");
    assert_eq!(encode("a int", &["{}".repeat(8192)]).rows().len(), 8192);
}

#[test]
fn of_keys_that_differ_in_case_alone_the_first_counts() {
    let columns = "userId bigint, `Größe` string";
    assert_eq!(row(columns, r#"{"USERID":1,"userId":2,"GRÖSSE":1,"GRÖßE":"x"}"#), json!({"userId": 1, "Größe": "x"}));
    assert_eq!(row(columns, r#"{"userid":null,"userId":2}"#), json!({}));
    // The second is not even looked at.
    assert_eq!(row(columns, r#"{"userid":1,"userId":"oops"}"#), json!({"userId": 1}));
}

#[test]
fn absent_fields_are_null_at_every_depth_and_unknown_ones_dropped() {
    let columns = "a int, s struct<x:struct<y:int,z:array<int>>,w:int>, l array<struct<p:int,q:int>>";
    let records = [
        r#"{"unknown":{"a":1},"l":[{"q":1},null,{},{"p":2}]}"#,
        r#"{"s":{"x":{"z":[]}}}"#,
        "{}",
        r#"{"s":{"w":5,"x":null},"a":1}"#,
        r#"{"s":{"x":{"y":1,"z":[1,null]}},"l":[]}"#,
    ];
    let rows = [
        json!({"l": [{"q": 1}, null, {}, {"p": 2}]}),
        json!({"s": {"x": {"z": []}}}),
        json!({}),
        json!({"a": 1, "s": {"w": 5}}),
        json!({"s": {"x": {"y": 1, "z": [1, null]}}, "l": []}),
    ];
    assert_eq!(encode(columns, &records).rows(), rows);
}

#[test]
fn a_short_record_that_makes_many_values_is_rejected() {
    let wide: Vec<String> = (0..500).map(|index| format!("f{index}:decimal(38,0)")).collect();
    let columns = format!("id int, l array<struct<{}>>", wide.join(","));
    let bomb = format!(r#"{{"id":2,"l":[{}{{}}]}}"#, "{},".repeat(20_000));
    let file = encode(&columns, &[r#"{"id":1}"#, &bomb, r#"{"id":3,"l":[{}]}"#]);
    assert_eq!(file.rows(), [json!({"id": 1}), json!({"id": 3, "l": [{}]})]);
    assert_eq!(file.messages(), ["The record has too many values: its columns would take more than 67108864 bytes."]);
}

#[test]
fn every_compression_reads_back_and_the_bytes_depend_on_the_records_alone() {
    let records: Vec<String> = (0..20_000).map(|i| format!(r#"{{"i":{i},"s":"value {}"}}"#, i % 7)).collect();
    let columns = Columns::parse("i bigint, s string").expect("columns");
    let all =
        [ParquetCompression::None, ParquetCompression::Snappy, ParquetCompression::Gzip, ParquetCompression::Zstd];
    for compression in all {
        let options = ParquetOptions { compression, ..ParquetOptions::default() };
        let format = Format::Parquet { rows: columns.clone().into(), options };
        let file = encode_with(format.encoder(crate::Compression::Gzip), &records);
        let rows = file.rows();
        assert_eq!(rows.len(), records.len());
        for (row, record) in rows.iter().zip(&records) {
            assert_eq!(row, &serde_json::from_str::<Value>(record).expect("JSON"));
        }
        assert!(encode_with(format.encoder(crate::Compression::Gzip), &records).bytes == file.bytes, "{compression:?}");
        let metadata = file.metadata();
        let column = metadata.row_group(0).column(0);
        let name = format!("{:?}", column.compression()).to_lowercase();
        let wanted = format!("{compression:?}").to_lowercase();
        assert!(name.contains(if wanted == "none" { "uncompressed" } else { &wanted }), "{name}");
        assert!(metadata.file_metadata().created_by().is_some_and(|by| by.starts_with("standpipe version ")));
    }
}

#[test]
fn rows_leave_as_row_groups_and_parts_while_they_come() {
    let columns = Columns::parse("s string").expect("columns");
    let limits = BatchLimits { rows: 64, bytes: 1 << 20 };
    let compression = ParquetCompression::None;
    let options = ParquetOptions { compression, row_group_bytes: 4 << 20, ..ParquetOptions::default() };
    let file = ParquetFile::new(&columns, &options);
    let mut encoder: Box<dyn Encode> = Box::new(Rows::new(&columns.into(), TimeUnit::Microsecond, file, limits));
    let (mut taken, mut bytes, lease) = (0, Vec::new(), lease());
    let text = |index: usize| format!("{index}{}", "x".repeat(10_000));
    for index in 0..4_000 {
        encoder.push(&lease, &record(format!(r#"{{"s":"{}"}}"#, text(index)).as_bytes())).expect("a row");
        while let Some(part) = encoder.take().expect("no error") {
            taken += 1;
            bytes.extend_from_slice(&part);
        }
    }
    let encoded = encoder.finish().expect("finished");
    assert!(taken >= 4, "{taken} parts of 8 MiB out of 40 MB");
    assert!(encoded.tail.len() == 1);
    encoded.tail.iter().for_each(|part| bytes.extend_from_slice(part));
    let object = EncodedObject { records: encoded.records, bytes: bytes.len() as u64, rejected: Vec::new() };
    let file = File { object, bytes: bytes.into() };
    assert!(file.metadata().num_row_groups() >= 8, "{}", file.metadata().num_row_groups());
    let rows = file.rows();
    assert_eq!(rows.len(), 4_000);
    assert!(rows.iter().enumerate().all(|(index, row)| row["s"] == text(index)));
}

#[test]
fn a_table_is_as_wide_as_its_columns_and_what_is_nested_in_them() {
    let width = |columns: &str| {
        let rows = RowFormat::from(Columns::parse(columns).expect("columns"));
        Format::Parquet { rows: rows.into(), options: ParquetOptions::default() }.width()
    };
    assert_eq!((width("a int"), width("a int, b string"), Format::Raw.width()), (1, 2, 1));
    assert!(width("a struct<b:int,c:array<struct<d:int,e:int>>>") >= 3, "each of b, d and e has buffers");
}

#[test]
fn a_file_without_rows_is_a_file() {
    let file = encode("a int", &["no"; 1]);
    assert_eq!((file.object.records, file.rows().len()), (0, 0));
}

/// What a record's value is in a column, told from serde_json's tree: the oracle of the properties.
fn view(kind: &ColumnType, value: &Value) -> Value {
    match (kind, value) {
        (_, Value::Null) => Value::Null,
        (ColumnType::String, Value::String(_)) => value.clone(),
        (ColumnType::String, other) => folded(other).to_string().into(),
        (ColumnType::Double, Value::Number(number)) => number.as_f64().and_then(Number::from_f64).into(),
        (ColumnType::Array(element), Value::Array(values)) => values.iter().map(|value| view(element, value)).collect(),
        (ColumnType::Struct(columns), Value::Object(object)) => view_row(columns, object),
        (ColumnType::Boolean, Value::Bool(_)) | (ColumnType::BigInt, Value::Number(_)) => value.clone(),
        other => panic!("not inferred: {other:?}"),
    }
}

fn view_row(columns: &[Column], object: &Map<String, Value>) -> Value {
    let first = |column: &Column| object.iter().find(|(key, _)| fold(key) == fold(&column.name));
    let cells = columns.iter().filter_map(|column| Some((column.name.clone(), view(&column.kind, first(column)?.1))));
    cells.filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>().into()
}

fn folded(value: &Value) -> Value {
    match value {
        Value::Array(values) => values.iter().map(folded).collect(),
        Value::Object(object) => {
            let mut out = Map::new();
            for (key, value) in object {
                out.entry(fold(key)).or_insert_with(|| folded(value));
            }
            out.into()
        }
        other => other.clone(),
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| Number::from_f64(number).into()),
        "[a-z\"\\\\\\n é]{0,8}".prop_map(Value::from),
    ];
    scalar.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            any_object(inner).prop_map(Value::from),
        ]
    })
}

fn any_object(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    let key = "a|A|b|B|c d|é|É|\"|\\PC{1,3}";
    prop::collection::vec((key, value), 0..6).prop_map(|fields| fields.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn inferred_columns_hold_every_record_value_by_value(
        objects in prop::collection::vec(any_object(any_value()), 1..12),
        batch_rows in 1usize..6,
    ) {
        let lines: Vec<String> = objects.iter().map(|object| Value::from(object.clone()).to_string()).collect();
        let mut inferring = Inferring::default();
        lines.iter().for_each(|line| inferring.line(0, line.as_bytes()));
        let inference = inferring.finish();
        prop_assert_eq!(inference.rejected, 0);
        let Some(columns) = inference.columns else { return Ok(()) };
        let limits = BatchLimits { rows: batch_rows, ..BATCH_LIMITS };
        let file = ParquetFile::new(&columns, &ParquetOptions::default());
        let encoder = Box::new(Rows::new(&columns.clone().into(), TimeUnit::Microsecond, file, limits));
        let file = encode_with(encoder, &lines);
        prop_assert_eq!(file.messages(), Vec::<&str>::new());
        let wanted: Vec<Value> = objects.iter().map(|object| view_row(columns.as_slice(), object)).collect();
        prop_assert_eq!(file.rows(), wanted);
    }

    #[test]
    fn bad_records_shift_nothing(
        records in prop::collection::vec(("[0-9]{1,4}|x", "1|\"s\"|\\[1,2\\]|\\{\"y\":1,\"z\":\\[3,\"x\"\\]\\}|\\{\"z\":\\[3\\]\\}"), 0..20),
    ) {
        let columns = "l array<string>, s struct<y:int,z:array<int>>, id int, m map<string,int>";
        let line = |(id, s): &(String, String)| format!(r#"{{"l":["{id}"],"m":{{"k":1}},"s":{s},"id":"{id}"}}"#);
        let lines: Vec<String> = records.iter().map(line).collect();
        let file = encode(columns, &lines);
        let alone: Vec<Value> = lines.iter().flat_map(|line| encode(columns, &[line]).rows()).collect();
        prop_assert_eq!(file.rows(), alone);
    }

    #[test]
    fn any_bytes_are_a_row_or_rejected(
        records in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                "[\\[\\]{}:,\"a-c0-9.\\\\ eE+-]{0,40}".prop_map(String::into_bytes),
                "\\{\"[abc]\":[\\[\\]{}:,\"a-c0-9.\\\\ eE+-]{0,20}\\}".prop_map(String::into_bytes),
            ],
            0..20,
        ),
    ) {
        let columns = "a double, b array<struct<a:int,b:map<string,timestamp>>>, c string";
        let file = encode(columns, &records);
        let good = |data: &Vec<u8>| serde_json::from_slice::<Map<String, Value>>(data).is_ok();
        prop_assert!(file.rows().len() >= file.object.records as usize);
        for rejected in &file.object.rejected {
            // A record that is an object is rejected for a value alone.
            prop_assert!(!good(&rejected.data.to_vec()) || rejected.code == "DataFormatConversion.MalformedData");
        }
    }
}
