//! Values beside a slow reference that knows serde_json's tree alone; hostile records; sums.

use super::*;

/// What a value is in a column, or that its record fails.
fn reference(kind: &ColumnType, value: &Value, hive: bool) -> Result<Value, ()> {
    if value.is_null() {
        return Ok(Value::Null);
    }
    match kind {
        ColumnType::Boolean => match value {
            Value::Bool(_) => Ok(value.clone()),
            Value::String(text) => text.trim().to_lowercase().parse::<bool>().map(Value::from).map_err(drop),
            _ => Err(()),
        },
        ColumnType::TinyInt => integer::<i8>(value, hive),
        ColumnType::SmallInt => integer::<i16>(value, hive),
        ColumnType::Int => integer::<i32>(value, hive),
        ColumnType::BigInt => integer::<i64>(value, hive),
        ColumnType::Double => Ok(double(value, hive)?.into()),
        ColumnType::Decimal { .. } => {
            let hundredths = (double(value, hive)? * 100.0).round();
            if hundredths.abs() < 1e6 { Ok(format!("{:.2}", hundredths / 100.0).into()) } else { Err(()) }
        }
        ColumnType::String => match value {
            Value::String(_) => Ok(value.clone()),
            Value::Array(_) | Value::Object(_) if hive => Err(()),
            other => Ok(folded(other).to_string().into()),
        },
        ColumnType::Timestamp => timestamp(value, hive),
        ColumnType::Array(element) => match value {
            Value::Array(values) => values.iter().map(|value| reference(element, value, hive)).collect(),
            _ if hive => Err(()),
            one => Ok(json!([reference(element, one, hive)?])),
        },
        ColumnType::Map(_, kind) => {
            let Value::Object(object) = value else { return Err(()) };
            let mut entries = Map::new();
            for (key, value) in object {
                let key = if hive { key.clone() } else { fold(key) };
                if !entries.contains_key(&key) {
                    entries.insert(key, reference(kind, value, hive)?);
                }
            }
            Ok(entries.into())
        }
        ColumnType::Struct(columns) => match value {
            Value::Object(object) => reference_row(columns, object, hive),
            Value::Array(values) if !hive => {
                let named = columns.iter().zip(values).map(|(column, value)| (column.name.clone(), value.clone()));
                reference_row(columns, &named.collect(), hive)
            }
            _ => Err(()),
        },
        other => panic!("not generated: {other}"),
    }
}

fn reference_row(columns: &[Column], object: &Map<String, Value>, hive: bool) -> Result<Value, ()> {
    let mut row = Map::new();
    for column in columns {
        let found = object.iter().find(|(key, _)| fold(key) == fold(&column.name));
        let value = found.map_or(Ok(Value::Null), |(_, value)| reference(&column.kind, value, hive))?;
        if !value.is_null() {
            row.insert(column.name.clone(), value);
        }
    }
    Ok(row.into())
}

/// Fractions that are generated have two binary digits.
fn double(value: &Value, hive: bool) -> Result<f64, ()> {
    match value {
        Value::Number(number) => number.as_f64().ok_or(()),
        Value::String(text) if !hive => text.trim().parse().map_err(drop),
        _ => Err(()),
    }
}

fn integer<T: TryFrom<i128>>(value: &Value, hive: bool) -> Result<Value, ()> {
    let whole = match value {
        Value::Number(number) if number.is_f64() => {
            let number = number.as_f64().filter(|number| number.fract() == 0.0).ok_or(())?;
            number as i128
        }
        Value::Number(number) => number.to_string().parse().map_err(drop)?,
        Value::String(text) if !hive => text.trim().parse().map_err(drop)?,
        _ => return Err(()),
    };
    T::try_from(whole).map(|_| Value::from(whole as i64)).map_err(drop)
}

fn timestamp(value: &Value, hive: bool) -> Result<Value, ()> {
    let of_number = |number: f64| {
        let micros = if number.abs() < 1e12 { number * 1e6 } else { number * 1e3 };
        if micros.abs() < 9.2e18 { Ok(Value::from(micros as i64)) } else { Err(()) }
    };
    match value {
        Value::Number(number) if !hive => of_number(number.as_f64().ok_or(())?),
        Value::String(text) => match text.trim() {
            "2018-02-07 01:02:03" => Ok(json!(1_517_965_323_000_000i64)),
            "2018-02-07T01:02:03Z" if !hive => Ok(json!(1_517_965_323_000_000i64)),
            "2018-02-07" if !hive => Ok(json!(1_517_961_600_000_000i64)),
            other if !hive => of_number(other.parse().map_err(drop)?),
            _ => Err(()),
        },
        _ => Err(()),
    }
}

fn any_kind() -> impl Strategy<Value = ColumnType> {
    let scalar = prop::sample::select(vec![
        ColumnType::Boolean,
        ColumnType::TinyInt,
        ColumnType::SmallInt,
        ColumnType::Int,
        ColumnType::BigInt,
        ColumnType::Double,
        ColumnType::Decimal { precision: 6, scale: 2 },
        ColumnType::String,
        ColumnType::Timestamp,
    ]);
    scalar.prop_recursive(3, 12, 3, |inner| {
        let fields = prop::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            inner.clone().prop_map(|element| ColumnType::Array(Box::new(element))),
            inner.prop_map(|value| ColumnType::Map(Box::new(ColumnType::String), Box::new(value))),
            fields.prop_map(|kinds| ColumnType::Struct(columns_of(kinds))),
        ]
    })
}

fn columns_of(kinds: Vec<ColumnType>) -> Vec<Column> {
    let names = ["a", "B", "é", "d"];
    kinds.into_iter().zip(names).map(|(kind, name)| Column { name: name.to_owned(), kind }).collect()
}

/// A value that mostly fits.
fn value_for(kind: &ColumnType) -> BoxedStrategy<Value> {
    let fitting = match kind {
        ColumnType::Array(element) => prop::collection::vec(value_for(element), 0..4).prop_map(Value::from).boxed(),
        ColumnType::Map(_, value) => prop::collection::vec(("a|A|b|É|é", value_for(value)), 0..4)
            .prop_map(|entries| entries.into_iter().collect::<Map<_, _>>().into())
            .boxed(),
        ColumnType::Struct(columns) => object_for(columns).prop_map(Value::from).boxed(),
        ColumnType::Boolean => any::<bool>().prop_map(Value::from).boxed(),
        ColumnType::String => "[a-zA-Z\"\\\\\\n é]{0,6}".prop_map(Value::from).boxed(),
        ColumnType::Timestamp => (0i64..2_000_000_000).prop_map(Value::from).boxed(),
        _ => (-100i64..100).prop_map(Value::from).boxed(),
    };
    prop_oneof![12 => fitting, 2 => Just(Value::Null), 1 => any_odd()].boxed()
}

/// A value that may fit no column.
fn any_odd() -> impl Strategy<Value = Value> {
    let texts = ["12", " 7 ", "x", "", "1.5", "TRUE", "2018-02-07", "2018-02-07 01:02:03", "2018-02-07T01:02:03Z"];
    let scalar = prop_oneof![
        prop::sample::select(texts.to_vec()).prop_map(Value::from),
        prop::sample::select(vec![0, 1, -129, 128, 40_000, 3_000_000_000, 1_518_033_528_123, i64::MAX, i64::MIN])
            .prop_map(Value::from),
        Just(Value::from(u64::MAX)),
        (-4000i32..4000).prop_map(|quarters| Value::from(f64::from(quarters) / 4.0)),
        any::<bool>().prop_map(Value::from),
    ];
    prop_oneof![
        4 => scalar.clone(),
        1 => prop::collection::vec(scalar.clone(), 0..3).prop_map(Value::from),
        1 => ("a|A|b|é", scalar).prop_map(|(key, value)| json!({key: value})),
    ]
}

fn object_for(columns: &[Column]) -> BoxedStrategy<Map<String, Value>> {
    let fields: Vec<_> = columns
        .iter()
        .map(|column| {
            let name = column.name.clone();
            let key =
                prop::sample::select(vec![name.clone(), name.to_uppercase(), name.to_lowercase(), "other".to_owned()]);
            (key, value_for(&column.kind))
        })
        .collect();
    fields.prop_map(|fields| fields.into_iter().collect()).boxed()
}

fn any_table() -> impl Strategy<Value = (Vec<Column>, Vec<Map<String, Value>>)> {
    let columns = prop::collection::vec(any_kind(), 1..5).prop_map(columns_of);
    columns.prop_flat_map(|columns| {
        let records = prop::collection::vec(object_for(&columns), 0..12);
        (Just(columns), records)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_value_is_the_references_and_the_sums_are_right(
        (columns, records) in any_table(),
        hive in any::<bool>(),
        batch_rows in 1usize..6,
        int96 in any::<bool>(),
    ) {
        let table: Vec<String> = columns.iter().map(|column| format!("`{}` {}", column.name, column.kind)).collect();
        let table = Columns::parse(&table.join(",")).expect("columns");
        let deserializer = if hive { Deserializer::Hive(Hive::default()) } else { Deserializer::default() };
        let lines: Vec<String> = records.iter().map(|object| Value::from(object.clone()).to_string()).collect();
        let timestamps = if int96 { ParquetTimestamps::Int96 } else { ParquetTimestamps::Micros };
        let file = ParquetFile::new(&table, &ParquetOptions { timestamps, ..ParquetOptions::default() });
        let rows = RowFormat::new(table, deserializer).expect("rows");
        let limits = BatchLimits { rows: batch_rows, ..BATCH_LIMITS };
        let file = encode_with(Box::new(Rows::new(&rows, TimeUnit::Microsecond, file, limits)), &lines);
        let wanted: Vec<Result<Value, ()>> = records.iter().map(|object| reference_row(&columns, object, hive)).collect();
        let failed = wanted.iter().filter(|row| row.is_err()).count();
        prop_assert_eq!(file.object.rejected.len(), failed, "{:?}", file.messages());
        prop_assert_eq!(file.object.records as usize + failed, records.len());
        // INT96 is read as nanoseconds, which do not hold every microsecond.
        if !int96 {
            prop_assert_eq!(file.rows(), wanted.into_iter().flatten().collect::<Vec<_>>());
        } else {
            prop_assert_eq!(file.rows().len(), records.len() - failed);
        }
    }
}

#[test]
fn hostile_records_are_rows_or_rejected_and_cost_what_they_are() {
    let deep = |open: &str, close: &str| format!(r#"{{"x":{}{}}}"#, open.repeat(1_000_000), close.repeat(1_000_000));
    let keys: Vec<String> = (0..200_000).map(|key| format!("\"k{key}\":{key}")).collect();
    let cases: Vec<(String, Result<(), &str>)> = vec![
        (deep("[", "]"), Err("highly nested")),
        (deep("[", "]").replace("\"x\"", "\"s\""), Err("highly nested")),
        (deep("{\"a\":", "}").replace("\"x\"", "\"m\""), Err("malformed JSON")),
        (deep("[", ""), Err("malformed JSON")),
        (format!(r#"{{"s":"{}"}}"#, "x".repeat(10 << 20)), Ok(())),
        (format!(r#"{{"s":"{}"}}"#, "\\u0000".repeat(1 << 20)), Ok(())),
        (format!(r#"{{"n":{}}}"#, "9".repeat(1 << 20)), Err("For input string")),
        (format!(r#"{{"d":0.{}1e-1}}"#, "0".repeat(1 << 20)), Ok(())),
        (r#"{"n":1e999999}"#.to_owned(), Err("For input string: \"1e999999\"")),
        (r#"{"d":1e-999999999999}"#.to_owned(), Ok(())),
        (r#"{"t":1e999999}"#.to_owned(), Err("timestamp format")),
        (r#"{"s":"\ud800"}"#.to_owned(), Err("malformed JSON")),
        (r#"{"s":"\udc00\ud800"}"#.to_owned(), Err("malformed JSON")),
        (r#"{"\ud800":1}"#.to_owned(), Err("malformed JSON")),
        (format!(r#"{{"m":{{{}}}}}"#, keys.join(",")), Ok(())),
        (format!(r#"{{"{}":1}}"#, "k".repeat(262_144)), Ok(())),
        (format!(r#"{{"{}":1}}"#, "k".repeat(262_145)), Err("Length of json key must not be greater than 262144")),
        ("{\"s\":1,}".to_owned(), Err("malformed JSON")),
        ("{\"s\":\"\u{1}\"}".to_owned(), Err("malformed JSON")),
        ("{\"n\":01}".to_owned(), Err("malformed JSON")),
        ("{\"n\":1.5}".to_owned(), Err("For input string: \"1.5\"")),
        ("{\"n\":1} {\"n\":".to_owned(), Err("malformed JSON")),
    ];
    let columns = "s string, n bigint, d double, t timestamp, m map<string,int>";
    for (index, (record, wanted)) in cases.iter().enumerate() {
        let file = encode(columns, &[record]);
        match (wanted, file.messages().first()) {
            (Ok(()), None) => (),
            (Err(part), Some(message)) => {
                assert!(message.contains(part) && message.len() < 1000, "{index}: {message}");
            }
            (_, message) => panic!("{index}: {message:?}"),
        }
    }
}
