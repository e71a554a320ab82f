use super::*;
use crate::schema::GlueTable;
use proptest::prelude::*;

fn read(text: &str) -> String {
    Columns::from_schema(text).unwrap_or_else(|error| panic!("{text}: {error}")).to_string()
}

fn refused(text: &str) -> String {
    Columns::from_schema(text).expect_err(text).to_string()
}

#[test]
fn a_statement_of_athena_gives_its_columns_without_those_of_partitions() {
    let text = r#"
        -- the orders of a day
        CREATE EXTERNAL TABLE IF NOT EXISTS `lake`.`orders(2)` (
          `id` bigint COMMENT 'the shop''s, it\'s unique',
          total decimal(12, 2), /* with tax */
          tags array<string> comment "a, b)",
          customer struct<name:string COMMENT 'x', `e-mail`:string>,
          at timestamp
        )
        COMMENT 'all of them'
        PARTITIONED BY (`day` date, region string)
        ROW FORMAT SERDE 'org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe'
        STORED AS PARQUET LOCATION 's3://lake/orders/' TBLPROPERTIES ('a'='b');"#;
    let columns = "id bigint, total decimal(12,2), tags array<string>, customer struct<name:string,`e-mail`:string>, at timestamp";
    assert_eq!(read(text), columns);
    assert_eq!(read(&format!("({columns})")), columns);
    assert_eq!(read(&format!("  {columns}\n-- the end")), columns);
    assert_eq!(read("create table t(a timestamp with local time zone, b double precision)"), "a timestamp, b double");
}

#[test]
fn an_error_of_a_statement_says_the_line() {
    let cases = [
        ("CREATE TABLE t (\n  id bigint,\n  total monney\n)", "line 3, column 9: expected a type, found \"monney\""),
        (
            "CREATE TABLE t (\n  a uniontype<int,string>)",
            "line 2, column 5: expected a type that files of columns have: no uniontype, found \"uniontype\"",
        ),
        ("a interval", "line 1, column 3: expected a type that tables have: no interval, found \"interval\""),
        ("a set<string>", "line 1, column 3: expected a type that Hive has: array instead of set, found \"set\""),
        ("CREATE TABLE t AS SELECT 1", "line 1, column 27: expected '(' and the columns, found the end"),
        ("CREATE VIEW (a int)", "line 1, column 13: expected TABLE, found \"(\""),
        ("CREATE TABLE t (a int", "line 1, column 22: expected ',' or ')', found the end"),
        ("(a int) b", "line 1, column 9: expected the end, found \"b\""),
        ("a int COMMENT 'x", "line 1, column 15: expected a closing quote, found \"'x\""),
        ("a int comment x", "line 1, column 15: expected the comment in quotes, found \"x\""),
        ("", "line 1, column 1: expected a column's name, found the end"),
    ];
    for (text, message) in cases {
        assert_eq!(refused(text), message);
    }
}

#[test]
fn an_avro_record_becomes_its_fields() {
    let text = r#"{"type":"record","name":"Order","namespace":"shop","fields":[
        {"name":"id","type":"long"},
        {"name":"note","type":["null","string"],"default":null},
        {"name":"total","type":{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}},
        {"name":"hash","type":{"type":"fixed","name":"Hash","size":16}},
        {"name":"day","type":{"type":"int","logicalType":"date"}},
        {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
        {"name":"local","type":{"type":"long","logicalType":"local-timestamp-micros"}},
        {"name":"clock","type":{"type":"int","logicalType":"time-millis"}},
        {"name":"key","type":{"type":"string","logicalType":"uuid"}},
        {"name":"kind","type":{"type":"enum","name":"Kind","symbols":["A","B"]}},
        {"name":"from","type":{"type":"record","name":"Address","fields":[{"name":"city","type":"string"}]}},
        {"name":"to","type":["null","shop.Address"]},
        {"name":"also","type":{"type":"array","items":"Address"}},
        {"name":"counts","type":{"type":"map","values":["float","null"]}},
        {"name":"other","type":"Kind"},
        {"name":"flags","type":{"type":"array","items":{"type":"boolean"}}},
        {"name":"raw","type":"bytes"}]}"#;
    assert_eq!(
        read(text),
        "id bigint, note string, total decimal(12,2), hash binary, day date, at timestamp, local timestamp, clock int, \
         key string, kind string, from struct<city:string>, to struct<city:string>, also array<struct<city:string>>, \
         counts map<string,float>, other string, flags array<boolean>, raw binary"
    );
}

#[test]
fn an_error_of_a_json_schema_says_the_way_to_it() {
    let avro = |kind: &str| format!(r#"{{"type":"record","name":"R","fields":[{{"name":"a","type":{kind}}}]}}"#);
    let cases = [
        (avro(r#"["int","string"]"#), "fields[0].type: a union of more than null and one type is no column"),
        (avro(r#""null""#), "fields[0].type: a column that is only ever null has no type"),
        (avro(r#"["null","R"]"#), "fields[0].type[1]: the type `R` is within itself"),
        (avro(r#""text""#), "fields[0].type: `text` is no type of Avro, and none that was named before"),
        (
            avro(r#"{"type":"bytes","logicalType":"decimal","precision":39}"#),
            "fields[0].type.precision: it is no whole number of 1 to 38",
        ),
        (
            avro(r#"{"type":"fixed","name":"D","size":12,"logicalType":"duration"}"#),
            "fields[0].type: a duration is no column",
        ),
        (avro(r#"{"type":"array"}"#), "fields[0].type: it has no `items`"),
        (
            r#"{"type":"record","name":"R","fields":[]}"#.to_owned(),
            "the document: a record without fields is no column",
        ),
        (
            r#"{"fields":[{"name":"a","type":{"name":"duration","unit":"SECOND"}}]}"#.to_owned(),
            "fields[0].type.name: `duration` of Arrow is no column",
        ),
        (
            r#"{"fields":[{"name":"a","type":{"name":"list"},"children":[]}]}"#.to_owned(),
            "fields[0].children: 0 children, where 1 belong",
        ),
        (
            r#"{"properties":{"a":{"type":["string","integer"]}}}"#.to_owned(),
            "properties.a: a value of several types is no column",
        ),
        (r##"{"properties":{"a":{"$ref":"#"}}}"##.to_owned(), "properties.a: at most 32 types may stand within types"),
        (
            r##"{"properties":{"a":{"$ref":"#/$defs/a"}},"$defs":{"a":{"$ref":"#/$defs/a"}}}"##.to_owned(),
            "$defs.a.$ref: a schema within itself is no column",
        ),
        (r##"{"properties":{"a":{"$ref":"#/$defs/b"}}}"##.to_owned(), "properties.a.$ref: `#/$defs/b` leads nowhere"),
        (
            r#"{"properties":{"a":{"$ref":"other.json"}}}"#.to_owned(),
            "properties.a.$ref: a reference to another document is not followed",
        ),
        (
            r#"{"properties":{"A":{"type":"string"},"a":{"type":"string"}}}"#.to_owned(),
            "properties.a: `a` differs from a name before it in case alone, or not at all",
        ),
        (r#"{"type":"string"}"#.to_owned(), "the document: it does not describe an object with properties"),
        (
            r#"{"a":1}"#.to_owned(),
            "the document: it is none of: an Avro record, an Arrow schema, a JSON Schema of an object, an answer of Glue's GetTable",
        ),
        (
            "[1]".to_owned(),
            "the document: it is none of: an Avro record, an Arrow schema, a JSON Schema of an object, an answer of Glue's GetTable",
        ),
        ("{\n \"a\":1,}".to_owned(), "line 2, column 8: not JSON: trailing comma"),
        (r#"{"Table":{"Name":"t"}}"#.to_owned(), "Table: it has no `StorageDescriptor`"),
        (
            r#"{"Table":{"StorageDescriptor":{"Columns":[{"Name":"a","Type":"map<int"}]}}}"#.to_owned(),
            "Table.StorageDescriptor.Columns[0].Type: at character 8: expected ',' and the value's type, found the end",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(refused(&text), message, "{text}");
    }
}

#[test]
fn an_arrow_schema_becomes_its_fields() {
    let field = |name: &str, kind: &str, children: &str| {
        format!(r#"{{"name":"{name}","nullable":true,"type":{kind},"children":[{children}]}}"#)
    };
    let entries = field(
        "entries",
        r#"{"name":"struct"}"#,
        &[
            field("key", r#"{"name":"utf8"}"#, ""),
            field("value", r#"{"name":"int","bitWidth":16,"isSigned":true}"#, ""),
        ]
        .join(","),
    );
    let fields = [
        field("b", r#"{"name":"bool"}"#, ""),
        field("i8", r#"{"name":"int","bitWidth":8,"isSigned":true}"#, ""),
        field("u8", r#"{"name":"int","bitWidth":8,"isSigned":false}"#, ""),
        field("u32", r#"{"name":"int","bitWidth":32,"isSigned":false}"#, ""),
        field("u64", r#"{"name":"int","bitWidth":64,"isSigned":false}"#, ""),
        field("f", r#"{"name":"floatingpoint","precision":"SINGLE"}"#, ""),
        field("d", r#"{"name":"floatingpoint","precision":"DOUBLE"}"#, ""),
        field("n", r#"{"name":"decimal","precision":20,"scale":4,"bitWidth":128}"#, ""),
        field("s", r#"{"name":"largeutf8"}"#, ""),
        field("y", r#"{"name":"fixedsizebinary","byteWidth":4}"#, ""),
        field("day", r#"{"name":"date","unit":"DAY"}"#, ""),
        field("at", r#"{"name":"timestamp","unit":"NANOSECOND","timezone":"UTC"}"#, ""),
        field("l", r#"{"name":"list"}"#, &field("item", r#"{"name":"utf8"}"#, "")),
        field("st", r#"{"name":"struct"}"#, &field("x", r#"{"name":"bool"}"#, "")),
        field("m", r#"{"name":"map","keysSorted":false}"#, &entries),
    ];
    let columns = "b boolean, i8 tinyint, u8 smallint, u32 bigint, u64 decimal(20,0), f float, d double, n decimal(20,4), \
                   s string, y binary, day date, at timestamp, l array<string>, st struct<x:boolean>, m map<string,smallint>";
    assert_eq!(read(&format!(r#"{{"fields":[{}]}}"#, fields.join(","))), columns);
    assert_eq!(read(&format!(r#"{{"schema":{{"fields":[{}]}},"batches":[]}}"#, fields.join(","))), columns);
}

#[test]
fn a_json_schema_becomes_its_properties() {
    let text = r##"{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","required":["id"],
        "$defs":{"money":{"type":"number","minimum":0},"a/b":{"type":["null","boolean"]}},
        "properties":{
            "id":{"type":"integer"},"small":{"type":"integer","format":"int32"},"total":{"$ref":"#/$defs/money"},
            "name":{"type":["string","null"],"maxLength":5},"at":{"type":"string","format":"date-time"},
            "day":{"type":"string","format":"date"},"ok":{"$ref":"#/$defs/a~1b"},
            "tags":{"type":"array","items":{"type":"string"}},"any":{},"true":true,
            "address":{"type":"object","properties":{"city":{"type":"string"},"geo":{"type":"array","items":{"type":"number"}}}},
            "counts":{"type":"object","additionalProperties":{"type":"integer"}},"free":{"type":"object"},
            "kind":{"enum":["A","B",null]},"maybe":{"anyOf":[{"type":"null"},{"type":"number","format":"float"}]},
            "list":{"type":"array"},"mixed":{"type":["integer","number"]}}}"##;
    assert_eq!(
        read(text),
        "id bigint, small int, total double, name string, at timestamp, day date, ok boolean, tags array<string>, \
         any string, true string, address struct<city:string,geo:array<double>>, counts map<string,bigint>, free string, \
         kind string, maybe float, list array<string>, mixed double"
    );
}

#[test]
fn an_answer_of_glue_becomes_the_table_and_its_names() {
    let table = r#""Table":{"CatalogId":"111122223333","DatabaseName":"lake","Name":"orders","VersionId":"3",
        "CreateTime":1.7E9,"Parameters":{"classification":"json"},"PartitionKeys":[{"Name":"day","Type":"date"}],
        "StorageDescriptor":{"Columns":[{"Name":"id","Type":"bigint","Comment":"x"},{"Name":"s","Type":"struct<a:array<int>>"}],
        "Location":"s3://lake/orders/","Compressed":false}}"#;
    let found = GlueTable::from_answer(format!("{{{table}}}").as_bytes()).expect("a table");
    assert_eq!(found.columns.to_string(), "id bigint, s struct<a:array<int>>");
    let names = &found.table;
    assert_eq!(
        (&*names.catalog_id, &*names.database, &*names.table, &*names.version_id),
        ("111122223333", "lake", "orders", "3")
    );
    let versioned = format!(r#"{{"TableVersion":{{{table},"VersionId":"2"}}}}"#);
    assert_eq!(GlueTable::from_answer(versioned.as_bytes()).expect("a table").table.version_id, "2");
    assert_eq!(read(&versioned), "id bigint, s struct<a:array<int>>");
    let error = GlueTable::from_answer(br#"{"__type":"EntityNotFoundException"}"#).expect_err("no table");
    assert_eq!(error.to_string(), "the document: it has no `Table`");
    let empty = br#"{"Table":{"StorageDescriptor":{"Columns":[]}}}"#;
    assert_eq!(
        GlueTable::from_answer(empty).expect_err("none").to_string(),
        "Table.StorageDescriptor.Columns: the table has no columns"
    );
}

#[test]
fn what_doubles_itself_by_name_is_refused_soon() {
    let mut records =
        r#"{"type":"record","name":"R0","fields":[{"name":"a","type":"int"},{"name":"b","type":"int"}]}"#.to_owned();
    let mut fields = format!(r#"{{"name":"f0","type":{records}}}"#);
    for level in 1..40 {
        records = format!(
            r#"{{"type":"record","name":"R{level}","fields":[{{"name":"a","type":"R{0}"}},{{"name":"b","type":"R{0}"}}]}}"#,
            level - 1
        );
        fields += &format!(r#",{{"name":"f{level}","type":{records}}}"#);
    }
    let error = refused(&format!(r#"{{"type":"record","name":"T","fields":[{fields}]}}"#));
    assert!(error.contains("more than 10000 columns and fields"), "{error}");
    let definitions: Vec<String> = (1..40)
        .map(|level| {
            format!(
                r##""d{level}":{{"properties":{{"a":{{"$ref":"#/$defs/d{0}"}},"b":{{"$ref":"#/$defs/d{0}"}}}}}}"##,
                level - 1
            )
        })
        .collect();
    let error = refused(&format!(
        r##"{{"$ref":"#/$defs/d25","$defs":{{"d0":{{"type":"string"}},{}}}}}"##,
        definitions.join(",")
    ));
    assert!(error.contains("a schema within itself") || error.contains("more than 10000"), "{error}");
}

proptest! {
    #[test]
    fn no_schema_panics_and_what_is_read_prints_and_reads_back(
        text in prop_oneof![
            "\\PC{0,60}",
            "(CREATE TABLE t|) ?\\(?[a-c] (int|array<[a-z]{0,4}>|struct<a:int>|map<int,int>|/\\*|--|'|comment 'x')[,)( ]{0,3}",
            "\\{\"(type|fields|properties|Table|schema|\\$ref)\":(\"record\"|\\[\\]|\\{\\}|\\[\\{\"name\":\"a\",\"type\":\"int\"\\}\\]|\\{\"a\":\\{\"type\":\"string\"\\}\\}),?\"(name|fields|type)\":(\"a\"|\\[\\]|\\[\\{\"name\":\"a\",\"type\":(\"int\"|\\[\"null\",\"long\"\\]|\\{\"name\":\"utf8\"\\})\\}\\])\\}",
        ],
    ) {
        match Columns::from_schema(&text) {
            Ok(columns) => prop_assert_eq!(Columns::parse(&columns.to_string()), Ok(columns)),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}
