use std::sync::Arc;

use proptest::prelude::*;
use standpipe_flow::Millis;

use super::*;
use crate::testing::record;

fn outputs(program: &str, data: &str) -> Vec<String> {
    let jq = Jq::new(program, Limits::default()).unwrap();
    let outputs = jq.run(data.as_bytes()).unwrap();
    outputs.iter().map(|output| String::from_utf8(output.to_vec()).unwrap()).collect()
}

fn code(program: &str, data: &[u8]) -> &'static str {
    Jq::new(program, Limits::default()).unwrap().run(data).unwrap_err().code
}

#[test]
fn a_record_becomes_what_the_program_gives() {
    assert_eq!(outputs(".a", r#"{"a": [1, 2.50, "x"]}"#), [r#"[1,2.5,"x"]"#]);
    assert_eq!(outputs(".[]", "[1,null,{}]"), ["1", "null", "{}"]);
    assert_eq!(outputs("select(.a > 1)", r#"{"a":1}"#), [""; 0]);
    assert_eq!(outputs("del(.a) | .b |= ascii_upcase", r#"{"a":1,"b":"x"}"#), [r#"{"b":"X"}"#]);
}

#[test]
fn each_document_of_a_record_is_an_input() {
    assert_eq!(outputs(".a", "{\"a\":1}{\"a\":2}\n[] {\"a\":3}".replace("[]", "").as_str()), ["1", "2", "3"]);
    assert_eq!(code(".a", b"{\"a\":1} x"), NOT_JSON);
    assert_eq!(code(".", b""), NOT_JSON);
    assert_eq!(code(".", b" \n"), NOT_JSON);
}

#[test]
fn several_outputs_are_records_of_their_own() {
    let jq = Jq::new(".[]", Limits::default()).unwrap();
    let mut made = Made::default();
    jq.apply(record("[1,2]"), &mut made).unwrap();
    let pieces = made.take();
    assert_eq!(pieces.iter().map(|piece| &piece.data[..]).collect::<Vec<_>>(), [b"1", b"2"]);
    assert_eq!(pieces[0].original(), &pieces[0].data);
    jq.apply(record("[1]"), &mut made).unwrap();
    let only = made.take();
    assert_eq!((&only[0].data[..], &only[0].original()[..]), (&b"1"[..], &b"[1]"[..]));
    jq.apply(record("[]"), &mut made).unwrap();
    assert!(made.is_empty());
}

#[test]
fn what_is_no_json_is_rejected() {
    for data in [
        "nan",
        "NaN",
        "[1,]",
        "{a:1}",
        "'x'",
        "01",
        "1.",
        ".5",
        "-",
        "[",
        "{\"a\"}",
        "\"\u{1}\"",
        r#""\x""#,
        r#""\u12""#,
    ] {
        assert_eq!(code(".", data.as_bytes()), NOT_JSON, "{data}");
    }
    assert_eq!(code(".", b"\"\xff\""), NOT_JSON);
    let fault = Jq::new(".", Limits::default()).unwrap().run(b"[1, secret]").unwrap_err();
    assert_eq!(fault.message.as_ref(), "not JSON: no value begins so, at byte 4");
}

#[test]
fn odd_json_is_read_as_jq_reads_it() {
    assert_eq!(outputs(".", r#"{"a":1,"b":2,"a":3}"#), [r#"{"a":3,"b":2}"#]);
    assert_eq!(
        outputs(".", "[1e999999,-1e999999,1e-999999]"),
        ["[1.7976931348623157e+308,-1.7976931348623157e+308,0]"]
    );
    assert_eq!(outputs(".", r#""\ud83d\ude00 \ud800 \udc00x\ud800A""#), ["\"\u{1f600} \u{fffd} \u{fffd}x\u{fffd}A\""]);
    assert_eq!(outputs(".", "\"\\u0000\u{7f}\\/\\b\""), ["\"\\u0000\\u007f/\\b\""]);
    assert_eq!(code(".", "[".repeat(1_000_000).as_bytes()), LIMIT_EXCEEDED);
    assert_eq!(code(".", "{\"a\":".repeat(1_000_000).as_bytes()), LIMIT_EXCEEDED);
    let deep = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(outputs(".", &deep(256)), [deep(256)]);
    assert_eq!(code(".", deep(257).as_bytes()), LIMIT_EXCEEDED);
}

#[test]
fn integers_keep_their_digits_until_they_are_reckoned_with() {
    let id = "12345678901234567890123";
    assert_eq!(outputs(".", id), [id]);
    assert_eq!(outputs("tostring", id), [format!("\"{id}\"")]);
    assert_eq!(outputs(". + 0", "1234567890123456789"), ["1234567890123456800"]);
    assert_eq!(
        outputs("sort", "[9007199254740993,9007199254740992,-9007199254740993]"),
        ["[-9007199254740993,9007199254740992,9007199254740993]"]
    );
    assert_eq!(outputs(".[0] == .[1], (. | unique | length)", "[9007199254740993,9007199254740992]"), ["false", "2"]);
}

#[test]
fn numbers_are_printed_as_jq_1_6_prints_them() {
    let printed = [
        ("1e15", "1000000000000000"),
        ("1e16", "1e+16"),
        ("1.5e15", "1500000000000000"),
        ("123e13", "1230000000000000"),
        ("0.0001", "0.0001"),
        ("0.00001", "1e-05"),
        ("1.234e-5", "1.234e-05"),
        ("5e-324", "5e-324"),
        ("-0", "-0"),
        ("-0.0", "-0"),
        ("3.0", "3"),
        ("0.1", "0.1"),
        ("123456789.123", "123456789.123"),
        ("1e100", "1e+100"),
        ("-1.5e-7", "-1.5e-07"),
    ];
    for (number, text) in printed {
        assert_eq!(outputs(".", number), [text], "{number}");
    }
}

#[test]
fn an_error_is_told_without_the_records_content() {
    let message = |program: &str, data: &str| {
        let fault = Jq::new(program, Limits::default()).unwrap().run(data.as_bytes()).unwrap_err();
        (fault.code, fault.message.to_string())
    };
    assert_eq!(message(". + 1", "\"secret\""), (RUNTIME_ERROR, "string and number cannot be added".into()));
    assert_eq!(message(".[.]", "{}"), (RUNTIME_ERROR, "cannot index object with object".into()));
    assert_eq!(message("error", "\"secret\""), (RUNTIME_ERROR, "the program raised an error".into()));
    assert_eq!(message("error(\"no id\")", "1"), (RUNTIME_ERROR, "no id".into()));
    assert_eq!(message("def f: f; f", "1"), (LIMIT_EXCEEDED, "more than 10000 calls within one another".into()));
    assert_eq!(message("tonumber", "\"secret\""), (RUNTIME_ERROR, "the string cannot be parsed as a number".into()));
}

#[test]
fn the_limit_that_is_named_is_that_of_the_record() {
    let limits = Limits { steps: 1_000, memory: 1 << 20, ..Limits::default() };
    let message = |program: &str, data: &str| {
        let fault = Jq::new(program, limits.clone()).unwrap().run(data.as_bytes()).unwrap_err();
        assert_eq!(fault.code, LIMIT_EXCEEDED);
        fault.message.to_string()
    };
    let record = format!("\"{}\"", "x".repeat(98));
    assert_eq!(
        message("range(1e9) | empty", &record),
        format!("more than {} steps", 1_000 + 100 * Limits::STEPS_PER_BYTE)
    );
    let roomy = Limits { steps: 100_000_000, ..limits.clone() };
    let fault = Jq::new("[range(1e9)]", roomy).unwrap().run(record.as_bytes()).unwrap_err();
    let bytes = (1 << 20) + 100 * Limits::MEMORY_PER_BYTE;
    assert_eq!(fault.message.to_string(), format!("more than {bytes} bytes of values"));
}

#[test]
fn a_wrong_program_is_refused_at_its_place() {
    let refused = |program: &str| {
        let error = Jq::new(program, Limits::default()).unwrap_err();
        (error.line, error.column, program.get(error.span.clone()).unwrap_or("?").to_owned(), error.message)
    };
    let (line, column, at, message) = refused(".a |\n  env.SECRET");
    assert_eq!((line, column, at.as_str()), (2, 3, "env"));
    assert!(message.contains("credentials"), "{message}");
    assert_eq!(refused(".a | ascii_downcsae").3, "`ascii_downcsae` is not defined; did you mean `ascii_downcase`?");
    assert_eq!(refused("tostring(1)").3, "`tostring` takes no arguments, not 1");
    assert_eq!(refused("$x").3, "$x is not defined");
    assert_eq!(refused(".a[").3, "expected closing bracket");
    assert!(refused("").3.contains("the program ends"));
    assert!(refused("if . then 1").3.contains("expected else or end"));
    assert!(refused("test(\"a(?=b)\")").3.contains("look-around"));
    assert_eq!(refused("\"é\" | nope").1, 7);
}

#[test]
fn what_is_outside_of_the_record_cannot_be_called() {
    let all = "env $ENV input inputs debug debug(1) stderr input_filename input_line_number halt halt_error halt_error(1) now \
               localtime strflocaltime(1) $__loc__ $__prog_args get_search_list modulemeta _match(1;2;3) _sort_by(1)";
    for name in all.split(' ') {
        assert!(Jq::new(name, Limits::default()).is_err(), "{name}");
    }
    assert!(Jq::new("import \"a\" as a; .", Limits::default()).unwrap_err().message.contains("stands alone"));
}

#[test]
fn every_hostile_program_ends_within_its_bounds() {
    let limits = Limits { steps: 100_000, memory: 8 << 20, ..Limits::default() };
    let programs = include_str!("../../tests/hostile.jq");
    let (mut count, mut run) = (0, 0);
    for program in programs.lines().filter(|line| !line.starts_with('#')) {
        count += 1;
        let Ok(jq) = Jq::new(program, limits.clone()) else { continue };
        run += 1;
        if let Err(fault) = jq.run(br#"{"a":[1,"x",null]}"#) {
            assert!(matches!(fault.code, RUNTIME_ERROR | LIMIT_EXCEEDED), "{program}: {fault:?}");
            assert!(!fault.message.is_empty(), "{program}");
        }
    }
    assert!(count >= 200 && run >= 200, "{count} programs, {run} run");
}

#[test]
fn a_text_of_any_depth_is_a_program_or_is_refused() {
    let n = compile::TEXT_MAX;
    let texts = [
        "(".repeat(n),
        "[".repeat(n),
        "{".repeat(n),
        "-".repeat(n),
        format!("{}1", "-".repeat(n - 1)),
        format!("{}1{}", "(".repeat(n / 2 - 1), ")".repeat(n / 2 - 1)),
        format!("{}1{}", "[".repeat(900), "]".repeat(900)),
        format!("{}1", "1|".repeat(n / 2 - 1)),
        format!("{}1", "1+".repeat(n / 2 - 1)),
        format!("{}1", "1,".repeat(n / 2 - 1)),
        format!("{}.", ". as $x|".repeat(n / 8 - 1)),
        format!("{}1", "try ".repeat(n / 4 - 1)),
        "if ".repeat(n / 3),
        format!(".{}", "[0]".repeat(n / 3 - 1)),
        format!("{}1", "def f:".repeat(n / 6 - 1)),
        "\"\\(".repeat(n / 3),
        format!(".{}", "?".repeat(n - 1)),
        "reduce ".repeat(n / 7),
        "@json ".repeat(n / 6),
        "x".repeat(n + 1),
    ];
    for text in texts {
        if let Ok(jq) = Jq::new(&text, Limits::default()) {
            let _ = jq.run(b"null");
        }
    }
}

#[test]
fn the_same_steps_are_counted_on_any_stack() {
    let program = "def f: if . == 0 then 0 else 1 + (. - 1 | f) end; f";
    assert_eq!(outputs(program, "1000"), ["1000"]);
    assert_eq!(code(program, b"1000000"), LIMIT_EXCEEDED);
    let limits = Limits { steps: 4_000, ..Limits::default() };
    let ends = |n: usize| Jq::new(program, limits.clone()).unwrap().run(n.to_string().as_bytes()).is_ok();
    assert!(ends(10) && ends(100) && !ends(1_000));
}

#[test]
fn outputs_are_bounded() {
    let limits = Limits { outputs: 3, output_bytes: 10, ..Limits::default() };
    let run = |program: &str| Jq::new(program, limits.clone()).unwrap().run(b"1").map(|outputs| outputs.len());
    assert_eq!(run("1, 2, 3"), Ok(3));
    assert_eq!(run("1, 2, 3, 4").unwrap_err().message.as_ref(), "more than 3 outputs");
    assert_eq!(run("\"12345678\"").unwrap(), 1);
    assert_eq!(run("\"123456789\"").unwrap_err().message.as_ref(), "more than 10 bytes of outputs");
    assert_eq!(run("\"1234\", \"1234\"").unwrap_err().code, LIMIT_EXCEEDED);
}

#[test]
fn the_clock_is_the_last_resort() {
    #[derive(Debug)]
    struct Leaps(std::sync::atomic::AtomicU64);
    impl standpipe_flow::Clock for Leaps {
        fn wall(&self) -> Millis {
            Millis(0)
        }
        fn elapsed(&self) -> std::time::Duration {
            std::time::Duration::from_secs(self.0.fetch_add(10, std::sync::atomic::Ordering::Relaxed))
        }
    }
    let limits = Limits { clock: Some(Arc::new(Leaps(0.into()))), ..Limits::default() };
    let jq = Jq::new("[range(100000)] | length", limits).unwrap();
    assert_eq!(jq.run(b"1").unwrap_err().message.as_ref(), "more than 5000 ms");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn any_bytes_are_a_value_or_rejected(data in prop::collection::vec(any::<u8>(), 0..64)) {
        let jq = Jq::new("., [.. | scalars], tojson, @text", Limits::default()).unwrap();
        let _ = jq.run(&data);
    }

    #[test]
    fn what_is_written_is_read_as_the_same(data in json()) {
        let jq = Jq::new("., (tojson | fromjson)", Limits::default()).unwrap();
        let outputs = jq.run(data.to_string().as_bytes()).unwrap();
        prop_assert_eq!(&outputs[0], &outputs[1]);
        let again: serde_json::Value = serde_json::from_slice(&outputs[0]).unwrap();
        prop_assert_eq!(again, data);
    }

    #[test]
    fn any_program_of_jqs_words_ends(words in prop::collection::vec(prop::sample::select(WORDS), 1..14), data in json()) {
        let limits = Limits { steps: 20_000, memory: 1 << 20, ..Limits::default() };
        if let Ok(jq) = Jq::new(&words.join(" "), limits) {
            let _ = jq.run(data.to_string().as_bytes());
        }
    }
}

const WORDS: &[&str] = &[
    ".",
    "..",
    ".a",
    ".[0]",
    ".[]",
    ".[1:]",
    "|",
    ",",
    "+",
    "-",
    "*",
    "/",
    "%",
    "//",
    "==",
    "<",
    "and",
    "or",
    "not",
    "=",
    "|=",
    "+=",
    "//=",
    "(",
    ")",
    "[",
    "]",
    "{a:1}",
    "{",
    "}",
    "\"x\"",
    "\"\\(.)\"",
    "1",
    "-1",
    "1e9",
    "null",
    "true",
    "if",
    "then",
    "else",
    "end",
    "try",
    "catch",
    "reduce",
    "foreach",
    "as $x",
    "(0; . + $x)",
    "$x",
    "def f:",
    "f",
    ";",
    "def f(g):",
    "f(g)",
    "f(.)",
    "?",
    "empty",
    "error",
    "recurse",
    "map(",
    "select(",
    "path(",
    "del(",
    "to_entries",
    "from_entries",
    "with_entries(",
    "walk(",
    "sort",
    "keys",
    "length",
    "add",
    "tojson",
    "fromjson",
    "tostring",
    "tonumber",
    "split(\",\")",
    "join(\"-\")",
    "test(\"a\")",
    "strftime(\"%Y\")",
    "limit(3;",
    "first(",
    "range(",
    "until(",
    "while(",
    "repeat(",
    "label $l |",
    "break $l",
    "getpath(",
    "paths",
    "flatten",
    "implode",
    "explode",
    "@csv",
    "@base64d",
    "gmtime",
    "mktime",
    "indices(1)",
    "min_by(",
    "group_by(",
    "tostream",
    "combinations",
    "transpose",
];

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        (-1_000_000_i64..1_000_000).prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        ".{0,8}".prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map("[a-c]{0,2}", inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}
