use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn parsed(text: &str) -> Columns {
    Columns::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(text: &str) -> SchemaError {
    Columns::parse(text).expect_err(text)
}

#[test]
fn every_type_reads_and_prints() {
    let text = "b boolean, t tinyint, s smallint, i int, l bigint, f float, d double, n decimal(10,2), x string, \
                y binary, e date, at timestamp, tags array<string>, m map<string,int>, \
                deep struct<a:int,b:array<struct<c:map<int,decimal(38,38)>>>>";
    assert_eq!(parsed(text).to_string(), text);
}

#[test]
fn spelling_is_hives() {
    let columns =
        parsed("A INTEGER,\n b Double  Precision , c decimal, d VARCHAR(20), e char( 3 ), f struct < g : int >");
    assert_eq!(columns.to_string(), "A int, b double, c decimal(10,0), d string, e string, f struct<g:int>");
}

#[test]
fn names_stand_in_backticks_when_they_must() {
    let text = "`a b` int, `c``d` int, `e.f` struct<`g:h`:int>, größe_2 int, `int` int";
    let columns = parsed(text);
    let names: Vec<&str> = columns.as_slice().iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["a b", "c`d", "e.f", "größe_2", "int"]);
    assert_eq!(parsed(&columns.to_string()), columns);
}

#[test]
fn an_error_says_where_what_and_the_nearest_name() {
    let cases = [
        ("id bigin", "at character 4: expected a type, found \"bigin\"; did you mean bigint?"),
        ("id long", "at character 4: expected a type, found \"long\"; did you mean bigint?"),
        ("größe texst", "at character 7: expected a type, found \"texst\""),
        ("id", "at character 3: expected a type, found the end"),
        ("", "at character 1: expected a column's name, found the end"),
        ("id int total double", "at character 8: expected ',' or the end, found \"total\""),
        ("id int,", "at character 8: expected a column's name, found the end"),
        ("id: int", "at character 3: expected a type, found \":\""),
        ("d decimal(39,2)", "at character 11: expected a precision of 1 to 38, found \"39\""),
        ("d decimal(5,6)", "at character 13: expected a scale of 0 to 5, found \"6\""),
        ("a array", "at character 8: expected '<' and the element's type, found the end"),
        ("a array<int", "at character 12: expected '>', found the end"),
        (
            "m map<array<int>,int>",
            "at character 7: expected a key that is no array, map or struct, found \"array<int>\"",
        ),
        ("s struct<>", "at character 10: expected a field's name, found \">\""),
        ("s struct<a int>", "at character 12: expected ':' and the field's type, found \"int\""),
        ("s struct<a:int b:int>", "at character 16: expected ',' or '>', found \"b\""),
        ("`a int", "at character 1: expected a closing backtick, found \"`a int\""),
        ("`` int", "at character 1: expected a name that is not empty, found \"``\""),
        ("v varchar", "at character 10: expected '(' and a length, found the end"),
    ];
    for (text, message) in cases {
        assert_eq!(refused(text).to_string(), message);
    }
}

#[test]
fn names_that_differ_in_case_alone_are_refused() {
    let error = refused("id int, s struct<A:int,a:string>");
    assert_eq!((error.at, error.found.as_str()), (23, "\"a\""));
    assert_eq!(refused("Id int, `ID` int").span, 8..12);
}

#[test]
fn types_within_types_have_a_limit() {
    let nested = |levels: usize| format!("a {}int{}", "array<".repeat(levels), ">".repeat(levels));
    assert_eq!(parsed(&nested(TYPE_DEPTH_MAX - 1)).to_string(), nested(TYPE_DEPTH_MAX - 1));
    assert!(refused(&nested(TYPE_DEPTH_MAX)).expected.contains("at most 32"));
    assert!(Columns::parse(&nested(1_000_000)).is_err());
}

#[test]
fn arrow_types_follow_the_parquet_specification() {
    let schema = parsed("m map<string,int>, a array<double>, at timestamp").arrow_schema();
    let DataType::Map(entries, false) = schema.field(0).data_type() else { panic!("a map") };
    assert_eq!((entries.name().as_str(), entries.is_nullable()), ("key_value", false));
    let DataType::List(element) = schema.field(1).data_type() else { panic!("a list") };
    assert_eq!((element.name().as_str(), element.is_nullable()), ("element", true));
    assert_eq!(schema.field(2).data_type(), &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
    assert!(schema.fields().iter().all(|field| field.is_nullable()));
}

fn any_scalar() -> impl Strategy<Value = ColumnType> {
    prop_oneof![
        Just(ColumnType::Boolean),
        Just(ColumnType::TinyInt),
        Just(ColumnType::BigInt),
        Just(ColumnType::Float),
        Just(ColumnType::Double),
        Just(ColumnType::String),
        Just(ColumnType::Binary),
        Just(ColumnType::Date),
        Just(ColumnType::Timestamp),
        (1u8..=38).prop_flat_map(|precision| {
            (0..=precision).prop_map(move |scale| ColumnType::Decimal { precision, scale })
        }),
    ]
}

fn any_columns(kind: impl Strategy<Value = ColumnType>, max: usize) -> impl Strategy<Value = Vec<Column>> {
    let column = (any::<String>(), kind).prop_map(|(name, kind)| Column { name, kind });
    prop::collection::vec(column, 1..max).prop_map(|mut columns| {
        let mut seen = BTreeSet::new();
        columns.retain(|column| !column.name.is_empty() && seen.insert(fold(&column.name)));
        if columns.is_empty() {
            columns.push(Column { name: "only".to_owned(), kind: ColumnType::Int });
        }
        columns
    })
}

fn any_type() -> impl Strategy<Value = ColumnType> {
    any_scalar().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|element| ColumnType::Array(Box::new(element))),
            (any_scalar(), inner.clone()).prop_map(|(key, value)| ColumnType::Map(Box::new(key), Box::new(value))),
            any_columns(inner, 4).prop_map(ColumnType::Struct),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_reads_back(columns in any_columns(any_type(), 6)) {
        let columns = Columns(columns);
        prop_assert_eq!(Columns::parse(&columns.to_string()), Ok(columns));
    }

    #[test]
    fn no_text_panics_and_every_error_points_into_it(text in "[a-z`<>(),: 0-9é]{0,40}|\\PC{0,40}") {
        if let Err(error) = Columns::parse(&text) {
            prop_assert!(text.get(error.span.clone()).is_some());
            prop_assert_eq!(text[..error.span.start].chars().count(), error.at);
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
