//! jq: records through fixed programs, and programs over a fixed record.

use bytes::Bytes;
use serde_json::value::RawValue;
use standpipe_transform::jq::Limits;
use standpipe_transform::{Jq, Route, RouteSettings};

use super::stages::record;
use super::{Answer, Check, words};

/// What programs begin with.
pub(super) const PROGRAMS: &[&str] = &[
    "select(.a > 1) | {a, b: (.b // [] | map(tostring) | join(\"-\")), c: .c.d?}",
    "def f(g): if . == 0 then 1 else . * g end; [.. | numbers | f(2)] | add",
    "reduce (.b[]? | tostring) as $x (\"\"; . + $x) | sub(\"(?<y>[0-9]+)\"; \"<\\(.y)>\")",
    "to_entries | map(.value |= tojson) | from_entries | .a |= (tonumber? // null)",
    "label $out | foreach .b[] as $x (0; . + $x; if . > 3 then ., break $out else . end)",
    "[paths] | sort_by(length) | group_by(length) | map({(.[0] | length | tostring): .}) | add",
    "def f: def g: f; g; first(f), limit(3; range(1000000)), (.b | @csv, @base64), (.c.d | strptime(\"%Y\")?)",
];

/// Words of the language.
pub(super) const TOKENS: &[&[u8]] = &[
    b".",
    b"..",
    b"|",
    b",",
    b"[",
    b"]",
    b"(",
    b")",
    b"{",
    b"}",
    b"?",
    b"//",
    b"; ",
    b"$x",
    b" as $x | ",
    b"def f: ",
    b"f",
    b"try ",
    b"if . then ",
    b" else . end",
    b"recurse",
    b"range(9; 99999999)",
    b"test(\"a*\")",
    b"tojson",
    b"fromjson",
    b"tostring",
    b"tonumber",
    b"\"\\(.)\"",
    b"first(",
    b"path(",
    b"getpath([\"a\"])",
    b"setpath([0]; ",
    b"delpaths([[0]])",
    b" |= ",
    b" += ",
    b"break $out",
    b"input",
    b"env",
    b"implode",
    b"explode",
    b"ltrimstr(\"a\")",
    b"splits(\"a\")",
    b"combinations",
    b"@json",
    b"gsub(\"\"; \"x\")",
    b"tostream",
    b"until(. > 5; . + 1)",
    b"[limit(9; repeat(.))]",
    b"* 1e308",
    b"infinite",
    b"nan",
    b"strftime(\"%j\")",
];

/// Sends a record through most of what jq does to values.
const PROGRAM: &str = r#"
    [.. | (numbers | tostring, floor, todate?),
          (strings | tonumber?, fromjson?, @base64, @uri, ascii_downcase, length, test("a.*b"), split("/")),
          (arrays | sort, unique, (map(tostring)? | join(","))),
          (objects | keys, to_entries)]
    | ., (tojson | fromjson), length, (paths | tostring)"#;

/// Few enough for many executions.
fn limits() -> Limits {
    Limits { steps: 200_000, memory: 16 << 20, ..Limits::default() }
}

/// A record through a fixed program.
pub(super) fn input() -> Check {
    let jq = Jq::new(PROGRAM, limits()).expect("the program is jq");
    Box::new(move |data| ran(&jq, data))
}

/// The input is the program. It ends within its limits, whatever it is.
pub(super) fn program(program: &Bytes) -> Answer {
    let Ok(text) = std::str::from_utf8(program) else { return Ok("not a text".into()) };
    match Jq::new(text, limits()) {
        Ok(jq) => ran(&jq, br#"{"a":[1,"x",null,{"b":-2.5}],"b":[3,2,1],"c":{"d":"2024-01-02T03:04:05Z"}}"#),
        Err(error) => Ok(format!("no program: {}", words(&error.message))),
    }
}

/// Outputs are JSON.
fn ran(jq: &Jq, data: &[u8]) -> Answer {
    match jq.run(data) {
        Ok(outputs) => {
            let json = outputs.iter().all(|output| serde_json::from_slice::<&RawValue>(output).is_ok());
            if json { Ok("ran".into()) } else { Err("an output is not JSON".into()) }
        }
        Err(fault) => Ok(format!("{} {}", fault.code, words(&fault.message))),
    }
}

/// The keys of a record: all of them, none empty, or a rejection.
pub(super) fn partition_by() -> Check {
    let query = [("a", ".a"), ("b", ".b[0]? // .c.d | tostring")].map(|(key, text)| (key.to_owned(), text.to_owned()));
    let settings = RouteSettings { query: query.into(), limits: limits(), ..RouteSettings::default() };
    let route = Route::new(settings).expect("the expressions are jq");
    Box::new(move |data| match route.partition(&record(data)) {
        Ok(partition) if partition.query.len() == 2 && partition.query.values().all(|value| !value.is_empty()) => {
            Ok("keys".into())
        }
        Ok(partition) => Err(format!("there are {} keys, or an empty one", partition.query.len())),
        Err(fault) => Ok(format!("{} {}", fault.code, words(&fault.message))),
    })
}
