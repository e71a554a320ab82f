//! Whole renderings of bad configurations: each `golden/NAME.yaml` (or folder) beside its `golden/NAME.txt`.
//!
//! When one changes on purpose, the failing test prints what is drawn now.

use std::path::{Path, PathBuf};

use standpipe_config::config::Deserializer;
use standpipe_config::{Checks, Config, ConfigErrors, TextError, load, parse};

/// No part of this may ever be seen in an error.
const SECRET: &str = "hunter2-Parquet!{bad}";

fn env(name: &str) -> Option<String> {
    match name {
        "SECRET" => Some(SECRET.to_owned()),
        "SMALL" => Some("17KiB".to_owned()),
        _ => None,
    }
}

/// Stands for what other crates know of texts: a column is a bigint, and a program has no `oops`.
struct Stand;

impl Checks for Stand {
    fn columns(&self, text: &str) -> Result<(), TextError> {
        match text.split(", ").find(|column| !column.ends_with(" bigint")) {
            Some(column) => Err(format!("`{column}` has no known type").into()),
            None => Ok(()),
        }
    }
    fn schema(&self, text: &str) -> Result<(), TextError> {
        self.columns(text.trim())
    }
    fn orc(&self, _: &str) -> Result<(), TextError> {
        Err("`tags` is nested".to_owned().into())
    }
    fn rows(&self, _: &str, deserializer: &Deserializer) -> Result<(), TextError> {
        match deserializer {
            Deserializer::Openx { column_keys, .. } if !column_keys.is_empty() => {
                Err("there is no column `at`".to_owned().into())
            }
            _ => Ok(()),
        }
    }
    fn joda(&self, pattern: &str) -> Result<(), TextError> {
        if pattern.contains('?') { Err("`?` is no letter of a pattern".to_owned().into()) } else { Ok(()) }
    }
    fn jq(&self, program: &str) -> Result<(), TextError> {
        let Some(at) = program.find("oops") else { return Ok(()) };
        let hint = Some("did you mean `ops`?".to_owned());
        Err(TextError { reason: "there is no function `oops`".to_owned(), hint, part: Some(at..at + 4) })
    }
    fn regex(&self, pattern: &str) -> Result<(), TextError> {
        if pattern.contains('(') { Ok(()) } else { Err("it has no named group".to_owned().into()) }
    }
}

fn loaded(paths: &[PathBuf]) -> Result<Config, ConfigErrors> {
    load(paths, &env, &Stand)
}

fn cases() -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = std::fs::read_dir("tests/golden")
        .expect("the folder of cases")
        .map(|entry| entry.expect("a case").path())
        .filter(|path| path.is_dir() || path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    cases.sort();
    cases
}

#[test]
fn every_bad_configuration_is_drawn_as_it_was() {
    let cases = cases();
    assert!(cases.len() > 30, "the cases are found: {}", cases.len());
    let mut changed = String::new();
    for case in &cases {
        let drawn = match loaded(std::slice::from_ref(case)) {
            Ok(config) => format!("accepted: {config:#?}\n"),
            Err(errors) => errors.render(false),
        };
        let golden = std::fs::read_to_string(case.with_extension("txt")).unwrap_or_default();
        if drawn != golden {
            changed.push_str(&format!("=== {}\n{drawn}", case.display()));
        }
    }
    assert!(changed.is_empty(), "drawn differently now:\n{changed}=== end");
}

#[test]
fn nothing_of_the_environment_is_shown() {
    for case in cases() {
        let Err(errors) = loaded(&[case]) else { continue };
        let text = format!("{}{}{errors}{errors:?}", errors.render(false), errors.render(true));
        for secret in [SECRET, "hunter2", "17KiB", "17408"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

#[test]
fn places_and_fields_are_given_to_programs_too() {
    let errors = loaded(&["tests/golden/unknown-key.yaml".into()]).expect_err("bad");
    let first = errors.errors.first().expect("one at least");
    assert_eq!((first.line, first.column), (7, 11));
    assert_eq!(first.path, "pipelines.orders.destinations[0].s3.bukcet");
    assert_eq!(first.file, "tests/golden/unknown-key.yaml");
    assert!(!first.not_built);
    let errors = loaded(&["tests/golden/not-built.yaml".into()]).expect_err("bad");
    assert!(errors.errors.iter().all(|e| e.not_built), "{errors}");
}

#[test]
fn every_key_of_the_design_is_known() {
    let errors = loaded(&["tests/golden/the-whole-design.yaml".into()]).expect_err("much of it is not built yet");
    assert!(errors.errors.len() >= 4 && errors.left_out == 0, "{errors}");
    assert!(errors.errors.iter().all(|e| e.not_built), "known or built, each: {errors}");
}

#[test]
fn what_is_left_out_is_counted() {
    let keys: String = (0..50).map(|i| format!("key{i}: 1\n")).collect();
    let text = format!("version: 1\n{keys}");
    let errors = parse("many", &text, &env, &Stand).expect_err("bad");
    assert_eq!((errors.errors.len(), errors.left_out), (40, 10));
    assert!(errors.render(false).ends_with("\nand 10 more\n"));
}

#[test]
fn colours_are_asked_for() {
    let errors = loaded(&["tests/golden/unknown-key.yaml".into()]).expect_err("bad");
    assert!(!errors.render(false).contains('\u{1b}') && errors.render(true).contains('\u{1b}'));
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let missing = loaded(&["tests/golden/there-is-none.yaml".into()]).expect_err("missing").render(false);
    assert!(missing.starts_with("error: tests/golden/there-is-none.yaml: cannot read the file: "), "{missing}");
    let folder = tempfile::tempdir().expect("a folder");
    let empty = loaded(&[folder.path().to_owned()]).expect_err("empty").to_string();
    assert!(empty.contains("holds no *.yaml"), "{empty}");
    let binary = folder.path().join("a.yaml");
    std::fs::write(&binary, b"version: \xff").expect("written");
    let binary = loaded(&[binary]).expect_err("binary").to_string();
    assert!(binary.contains("byte 9 is not UTF-8"), "{binary}");
    let long = folder.path().join("long.yaml");
    std::fs::write(&long, vec![b'#'; (1 << 20) + 1]).expect("written");
    assert!(loaded(&[long]).expect_err("long").to_string().contains("larger than 1048576 bytes"));
    assert!(loaded(&[]).is_err());
}

#[test]
fn a_file_named_twice_is_read_once() {
    let example = |name: &str| Path::new("../../docs/examples").join(name);
    let paths = [example("smallest.yaml"), example("lines-gzip.yaml"), example("../examples/smallest.yaml")];
    assert_eq!(loaded(&paths).expect("good").pipelines.len(), 2);
}

#[test]
fn a_text_is_read_like_a_file() {
    let text = std::fs::read_to_string("../../docs/examples/smallest.yaml").expect("an example");
    let config = parse("smallest", &text, &env, &Stand).expect("good");
    assert_eq!(config, loaded(&["../../docs/examples/smallest.yaml".into()]).expect("good"));
}
