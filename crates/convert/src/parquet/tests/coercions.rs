//! What Firehose's deserializers do with values of other types, row by row, as it was seen of the service: each row has
//! the same record under both. Then what their options change.

use super::*;

/// What becomes of a value: the row's cell, or the beginning of the message.
enum Becomes {
    Value(Value),
    Null,
    Fails(&'static str),
}
use Becomes::{Fails, Null, Value as Is};

fn openx() -> Deserializer {
    Deserializer::default()
}

fn hive(formats: &[&str]) -> Deserializer {
    let formats = formats.iter().map(|format| format.parse().expect("a pattern"));
    Deserializer::Hive(Hive { timestamp_formats: formats.collect() })
}

fn encode_under(deserializer: &Deserializer, columns: &str, records: &[impl AsRef<[u8]>]) -> File {
    let columns = Columns::parse(columns).unwrap_or_else(|error| panic!("{columns}: {error}"));
    let rows = RowFormat::new(columns, deserializer.clone()).expect("rows");
    encode_as(rows, &ParquetOptions::default(), records)
}

fn check(deserializer: &Deserializer, kind: &str, value: &str, becomes: &Becomes) {
    let record = format!(r#"{{"c":{value},"after":1}}"#);
    let file = encode_under(deserializer, &format!("c {kind}, after int"), &[record]);
    let (rows, messages) = (file.rows(), file.messages());
    match becomes {
        Is(cell) => assert_eq!(rows, [json!({"c": cell, "after": 1})], "{kind} {value} {messages:?}"),
        Null => assert_eq!(rows, [json!({"after": 1})], "{kind} {value} {messages:?}"),
        Fails(message) => {
            assert_eq!((rows.len(), messages.len()), (0, 1), "{kind} {value}");
            assert!(messages[0].starts_with(message), "{kind} {value}: {}", messages[0]);
        }
    }
}

const NOT_NUMERIC: &str = "Data does not match the schema. Current token (VALUE_STRING) not numeric, can not use numeric \
                           value accessors";
const NOT_A_FIELD: &str = "One or more fields have incorrect format. Exception when validating field (root)";
const NO_ARRAY: &str = "Data does not match the schema. java.io.IOException: Start of Array expected";
const NO_OBJECT: &str = "Data does not match the schema. java.io.IOException: Start of Object expected";
const NO_TIMESTAMP: &str = "Encountered invalid or unsupported timestamp format. Please see the Firehose developer guide \
                            for supported timestamp formats.";

#[test]
fn each_row_of_the_table_is_as_the_service_does() {
    // Column type, value, under OpenX, under Hive.
    let rows: Vec<(&str, &str, Becomes, Becomes)> = vec![
        // A string in a numeric column.
        ("bigint", r#""12""#, Is(json!(12)), Fails(NOT_NUMERIC)),
        ("double", r#""1.5""#, Is(json!(1.5)), Fails(NOT_NUMERIC)),
        ("decimal(5,2)", r#""1.5""#, Is(json!("1.50")), Fails(NOT_NUMERIC)),
        // A number or boolean in a string column.
        ("string", "1.10", Is(json!("1.10")), Is(json!("1.10"))),
        ("string", "true", Is(json!("true")), Is(json!("true"))),
        // An object or array in a string column.
        ("string", r#"{ "A": {"B": [1, 2]} }"#, Is(json!(r#"{"a":{"b":[1,2]}}"#)), Fails(NOT_A_FIELD)),
        ("string", "[1]", Is(json!("[1]")), Fails(NOT_A_FIELD)),
        // What is no array in an array column.
        ("array<string>", r#""x""#, Is(json!(["x"])), Fails(NO_ARRAY)),
        ("array<struct<a:int>>", r#"{"a":1}"#, Is(json!([{"a": 1}])), Fails(NO_ARRAY)),
        // An array in a struct column: by position, what is beyond is passed over.
        ("struct<a:int,b:int>", "[1,2,3]", Is(json!({"a": 1, "b": 2})), Fails(NO_OBJECT)),
        // A scalar in a struct column. Two spaces, as the service writes them.
        (
            "struct<a:int>",
            "42",
            Fails("Data does not match the schema. Data is not JSONObject  but java.lang.Long with value 42"),
            Fails(NO_OBJECT),
        ),
        (
            "struct<a:int>",
            r#""x""#,
            Fails("Data does not match the schema. Data is not JSONObject  but java.lang.String with value x"),
            Fails(NO_OBJECT),
        ),
        (
            "struct<a:int>",
            "1.5",
            Fails("Data does not match the schema. Data is not JSONObject  but java.lang.Double with value 1.5"),
            Fails(NO_OBJECT),
        ),
        (
            "struct<a:int>",
            "true",
            Fails("Data does not match the schema. Data is not JSONObject  but java.lang.Boolean with value true"),
            Fails(NO_OBJECT),
        ),
        // A map holds objects alone; its keys are data.
        ("map<string,int>", r#"{"Key":1,"KEY":2}"#, Is(json!({"key": 1})), Is(json!({"Key": 1, "KEY": 2}))),
        ("map<string,int>", "[1]", Fails("Data does not match the schema."), Fails(NO_OBJECT)),
        ("map<string,int>", "1", Fails("A scalar type was found in the data but a complex type was"), Fails(NO_OBJECT)),
        (
            "map<int,int>",
            r#"{"x":1}"#,
            Fails("Record is not as per schema. One or more map keys were invalid for map<int,int>."),
            Fails(NOT_NUMERIC_KEY),
        ),
        // Numbers out of range, and what is none.
        (
            "double",
            r#""oops""#,
            Fails("Data does not match the schema. For input string: \"oops\""),
            Fails(NOT_NUMERIC),
        ),
        ("tinyint", "128", Fails(FOR_128), Fails(FOR_128)),
        ("bigint", "9223372036854775808", Fails(FOR_INPUT), Fails(FOR_INPUT)),
        ("double", "1e999999", Fails(FOR_INPUT), Fails(FOR_INPUT)),
        ("decimal(5,2)", "1000", Fails(FOR_INPUT), Fails(FOR_INPUT)),
        ("int", "1.5", Fails(FOR_INPUT), Fails(FOR_INPUT)),
        ("int", "true", Fails(FOR_INPUT), Fails("Data does not match the schema. Current token (VALUE_TRUE) not")),
        (
            "int",
            "[1]",
            Fails("Data does not match the schema."),
            Fails("Data does not match the schema. Current token (START_ARRAY)"),
        ),
        // Epoch numbers: seconds below 1e12, milliseconds from there on, with a fraction, as a string too.
        ("timestamp", "1518033528", Is(json!(1_518_033_528_000_000i64)), Fails(NO_TIMESTAMP)),
        ("timestamp", "1518033528123", Is(json!(1_518_033_528_123_000i64)), Fails(NO_TIMESTAMP)),
        ("timestamp", "1518033528.5", Is(json!(1_518_033_528_500_000i64)), Fails(NO_TIMESTAMP)),
        ("timestamp", r#""1518033528""#, Is(json!(1_518_033_528_000_000i64)), Fails(NO_TIMESTAMP)),
        ("timestamp", "1e300", Fails(NO_TIMESTAMP), Fails(NO_TIMESTAMP)),
        // Written ones: one digit will do beside a space, not beside a T.
        (
            "timestamp",
            r#""2018-2-7 1:5:8.25""#,
            Is(json!(1_517_965_508_250_000i64)),
            Is(json!(1_517_965_508_250_000i64)),
        ),
        ("timestamp", r#""2018-02-07T19:58:48Z""#, Is(json!(1_518_033_528_000_000i64)), Fails(NO_TIMESTAMP)),
        ("timestamp", r#""2018-2-7T19:58:48Z""#, Fails(NO_TIMESTAMP), Fails(NO_TIMESTAMP)),
        ("date", r#""2018-2-7""#, Is(json!(17_569)), Is(json!(17_569))),
        (
            "date",
            r#""soon""#,
            Fails("Data does not match the schema. Invalid format for one or more dates."),
            Fails("Data does not match the schema. Invalid format for one or more dates."),
        ),
        // Null is null everywhere.
        ("int", "null", Null, Null),
        ("struct<a:int>", "null", Null, Null),
        ("array<int>", "null", Null, Null),
        ("struct<a:int>", "{}", Is(json!({})), Is(json!({}))),
        ("boolean", r#""TRUE""#, Is(json!(true)), Is(json!(true))),
        ("boolean", "1", Fails(FOR_INPUT), Fails(FOR_INPUT)),
    ];
    for (kind, value, under_openx, under_hive) in &rows {
        check(&openx(), kind, value, under_openx);
        check(&hive(&[]), kind, value, under_hive);
    }
}

const FOR_INPUT: &str = "Data does not match the schema. For input string: \"";
const FOR_128: &str = "Data does not match the schema. For input string: \"128\"";
const NOT_NUMERIC_KEY: &str = "Record is not as per schema. One or more map keys were invalid for map<int,int>.";

#[test]
fn a_bad_key_of_a_map_has_a_code_of_its_own() {
    let file = encode("m map<int,int>", &[r#"{"m":{"x":1}}"#]);
    assert_eq!(file.object.rejected[0].code, "DataFormatConversion.InvalidRecord");
}

#[test]
fn columns_are_found_without_regard_to_case_under_both_and_the_first_of_equal_keys_counts() {
    for deserializer in [openx(), hive(&[])] {
        let file = encode_under(
            &deserializer,
            "userid int, s struct<x:int>",
            &[r#"{"USERID":1,"userId":2,"S":{"X":3,"x":4}}"#],
        );
        assert_eq!(file.rows(), [json!({"userid": 1, "s": {"x": 3}})]);
    }
}

#[test]
fn case_counts_when_openx_is_told_so() {
    let exact = Deserializer::OpenX(OpenX { case_insensitive: false, ..OpenX::default() });
    let columns = "userId int, m map<string,int>, t string, s struct<X:int>";
    let record = r#"{"userid":1,"userId":2,"userId":3,"m":{"A":1,"a":2},"t":{"K":{"L":1}},"s":{"x":1,"X":2}}"#;
    let wanted = json!({"userId": 2, "m": {"A": 1, "a": 2}, "t": r#"{"K":{"L":1}}"#, "s": {"X": 2}});
    assert_eq!(encode_under(&exact, columns, &[record]).rows(), [wanted]);
}

#[test]
fn dots_in_keys_become_underscores_at_every_depth_but_in_data() {
    let dots = Deserializer::OpenX(OpenX { convert_dots_in_keys: true, ..OpenX::default() });
    let columns = "a_b int, s struct<c_d:int>, m map<string,int>";
    let record = r#"{"A.b":1,"a_b":2,"s":{"c.d":3},"m":{"e.f":4}}"#;
    assert_eq!(encode_under(&dots, columns, &[record]).rows(), [json!({"a_b": 1, "s": {"c_d": 3}, "m": {"e.f": 4}})]);
    assert_eq!(encode(columns, &[record]).rows(), [json!({"a_b": 2, "s": {}, "m": {"e.f": 4}})]);
}

#[test]
fn a_mapped_column_is_read_from_its_key_alone() {
    let column_to_json_key = [("ts".to_owned(), "Timestamp".to_owned())].into();
    let mapped = Deserializer::OpenX(OpenX { column_to_json_key, ..OpenX::default() });
    let record = r#"{"ts":1,"timestamp":2,"s":{"TIMESTAMP":3}}"#;
    let file = encode_under(&mapped, "ts int, s struct<ts:int>", &[record]);
    assert_eq!(file.rows(), [json!({"ts": 2, "s": {"ts": 3}})]);
}

#[test]
fn timestamps_of_hive_have_the_formats_that_were_given_and_then_their_own() {
    let formats = hive(&["dd/MMM/yyyy:HH:mm:ss Z", "yyyy-MM-dd'T'HH:mm:ssZ", "millis"]);
    let at = json!(1_518_033_528_000_000i64);
    for text in ["07/Feb/2018:19:58:48 +0000", "2018-02-07T20:58:48+01:00", "1518033528000", "2018-02-07 19:58:48"] {
        check(&formats, "timestamp", &format!("\"{text}\""), &Is(at.clone()));
    }
    check(&formats, "timestamp", "1518033528000", &Is(at));
    check(&formats, "timestamp", r#""2018-02-07""#, &Fails(NO_TIMESTAMP));
}

#[test]
fn a_message_shows_the_beginning_of_a_value() {
    let message = fault("id int", &format!(r#"{{"id":"{}"}}"#, "é".repeat(1 << 20)));
    assert!(message.contains(&format!("For input string: \"{}...\"", "é".repeat(64))) && message.len() < 400);
}

#[test]
fn timestamps_are_written_in_milliseconds_when_that_is_asked_for() {
    let options = ParquetOptions { timestamps: ParquetTimestamps::Millis, ..ParquetOptions::default() };
    let columns = Columns::parse("t timestamp, l array<timestamp>").expect("columns");
    let records = [r#"{"t":"1969-12-31T23:59:59.9999Z","l":[1518033528.1239,null]}"#];
    let file = encode_as(columns.into(), &options, &records);
    assert_eq!(file.rows(), [json!({"t": -1, "l": [1_518_033_528_123i64, null]})]);
}

#[test]
fn pages_of_version_2_without_dictionaries_read_back() {
    let version = ParquetVersion::V2;
    let options = ParquetOptions { version, dictionary: false, page_bytes: 64 << 10, ..ParquetOptions::default() };
    let records: Vec<String> = (0..5000).map(|i| format!(r#"{{"i":{i},"s":["value {}"]}}"#, i % 7)).collect();
    let file = encode_as(Columns::parse("i bigint, s array<string>").expect("columns").into(), &options, &records);
    assert!(
        file.rows()
            .iter()
            .zip(&records)
            .all(|(row, record)| row == &serde_json::from_str::<Value>(record).expect("JSON"))
    );
    let metadata = file.metadata();
    assert_eq!(metadata.file_metadata().version(), 2);
    assert_eq!(metadata.row_group(0).column(0).dictionary_page_offset(), None);
}

#[test]
fn timestamps_are_written_as_int96_at_every_depth_when_that_is_asked_for() {
    let columns = "id int, t timestamp, s struct<x:string,t:timestamp,l:array<timestamp>>, \
                   m map<string,struct<t:timestamp>>, ll array<array<timestamp>>, k map<timestamp,int>";
    let records = [
        r#"{"id":1,"t":"2018-02-07T19:58:48.123456Z","s":{"x":"y","t":0,"l":[1,null,2]},"ll":[[1,2],[],null,[null]]}"#,
        r#"{"id":2,"m":{"a":{"t":1},"b":null,"c":{}},"s":{"l":[]},"ll":[]}"#,
        r#"{"id":3,"t":"1900-01-01 00:00:00","s":null,"m":{},"k":{"5":1,"6":null}}"#,
        r#"{"id":4,"t":null}"#,
        r#"{"id":5,"t":-1,"ll":[[3]],"s":{"t":4}}"#,
    ];
    let columns = Columns::parse(columns).expect("columns");
    let options = ParquetOptions { timestamps: ParquetTimestamps::Int96, ..ParquetOptions::default() };
    let int96 = encode_as(columns.clone().into(), &options, &records);
    let micros = encode_as(columns.into(), &ParquetOptions::default(), &records);
    let schema = int96.metadata().file_metadata().schema_descr_ptr();
    let physical: Vec<_> = schema.columns().iter().map(|leaf| leaf.physical_type()).collect();
    assert_eq!(physical.iter().filter(|kind| **kind == PhysicalType::INT96).count(), 6);
    // The reader gives nanoseconds.
    assert_eq!(int96.rows(), micros.rows().into_iter().map(nanos).collect::<Vec<_>>());
}

/// Every number of microseconds as nanoseconds: those of timestamps, for `id` and values are small.
fn nanos(row: Value) -> Value {
    fn times(value: Value, key: &str) -> Value {
        match value {
            Value::Number(number) if key == "t" || key == "l" => (number.as_i64().expect("micros") * 1000).into(),
            Value::Array(values) => values.into_iter().map(|value| times(value, key)).collect(),
            Value::Object(object) if key == "k" => {
                let entries = object.into_iter();
                entries.map(|(key, value)| (format!("{key}000"), value)).collect::<Map<_, _>>().into()
            }
            Value::Object(object) => {
                let entries = object.into_iter().map(|(key, value)| {
                    let value = times(value, if key == "ll" { "l" } else { &key });
                    (key, value)
                });
                entries.collect::<Map<_, _>>().into()
            }
            other => other,
        }
    }
    times(row, "")
}
