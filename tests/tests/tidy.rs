//! The rules of the house that a compiler does not check: sizes, headers, words, links.

use std::fs;
use std::path::{Path, PathBuf};

/// Lines before a file's tests.
const FILE_LINES_MAX: usize = 600;
/// Lines of one function.
const FUNCTION_LINES_MAX: usize = 70;
/// Files that may be larger, with the lines they have now. The list may only shrink.
const LARGER_FILES: [(&str, usize); 0] = [];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the repository").to_owned()
}

fn files(ending: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).expect("a folder of the repository");
        for path in entries.map(|entry| entry.expect("an entry").path()) {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if path.is_dir() {
                if !name.starts_with('.') && !["target", "standpipe-demo"].contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if name.ends_with(ending) {
                let shown = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
                found.push((shown, fs::read_to_string(&path).expect("text")));
            }
        }
    }
    found.sort();
    found
}

fn none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

/// Tests may be as long as their tables, and need no header.
fn is_test(path: &str) -> bool {
    path.ends_with("tests.rs") || path.contains("/tests/") || path.starts_with("tests/tests/")
}

/// The part of a file that is not its inline tests.
fn production(text: &str) -> Vec<&str> {
    text.lines().take_while(|line| !line.starts_with("mod tests {")).collect()
}

#[test]
fn files_and_functions_stay_small_enough_to_read() {
    let mut found = Vec::new();
    for (path, text) in files(".rs") {
        let lines = production(&text);
        let allowed = LARGER_FILES.iter().find(|(name, _)| *name == path).map_or(FILE_LINES_MAX, |(_, lines)| *lines);
        if lines.len() > allowed {
            found.push(format!("{path}: {} lines", lines.len()));
        }
        // A function begins with `fn` at some indent and ends with the first `}` at the same one.
        let mut open: Option<(usize, usize, &str)> = None;
        for (number, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let begins =
                line.trim_start().split(['(', '<']).next().is_some_and(|head| head.split(' ').any(|word| word == "fn"));
            if open.is_none() && begins && !line.trim_end().ends_with(';') && !line.trim_end().ends_with('}') {
                open = Some((number, indent, line.trim()));
            } else if let Some((start, at, name)) = open
                && indent == at
                && line.trim() == "}"
            {
                if number - start > FUNCTION_LINES_MAX && !is_test(&path) {
                    found.push(format!("{path}:{}: {} lines: {name}", start + 1, number - start));
                }
                open = None;
            }
        }
    }
    none("larger than the house allows", &found);
}

#[test]
fn every_file_says_what_it_is() {
    let mut found = Vec::new();
    for (path, text) in files(".rs") {
        let header = text.lines().take_while(|line| line.starts_with("//!")).count();
        if (header == 0 && !is_test(&path)) || header > 30 {
            found.push(format!("{path}: a header of {header} lines"));
        }
    }
    none("without a header `//!`, or with one that is too long", &found);
}

#[test]
fn names_are_the_fields_own() {
    let mut found = Vec::new();
    for (path, text) in files(".rs") {
        for (number, line) in text.lines().enumerate() {
            let declares = ["struct ", "enum ", "trait "]
                .iter()
                .find_map(|word| line.split_once(word))
                .filter(|_| !line.trim_start().starts_with("//"));
            let Some((_, rest)) = declares else { continue };
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric()).collect();
            if ["Manager", "Helper", "Util", "Utils", "Impl", "Sink"].iter().any(|word| name.ends_with(word)) {
                found.push(format!("{path}:{}: {name}", number + 1));
            }
        }
    }
    none("names that say nothing", &found);
}

#[test]
fn nothing_is_skipped_and_nothing_is_left_to_do() {
    let mut found = Vec::new();
    let banned =
        [concat!("#[ig", "nore"), concat!("to", "do!("), concat!("unimple", "mented!("), concat!("danger_", "accept")];
    for (path, text) in files(".rs") {
        for (number, line) in text.lines().enumerate() {
            if banned.iter().any(|word| line.contains(word)) {
                found.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    none("skipped tests or unfinished code", &found);
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    let mut found = Vec::new();
    for (path, text) in files(".md") {
        let folder = root().join(&path).parent().expect("a folder").to_owned();
        for part in text.split("](").skip(1) {
            let target = part.split([')', '#']).next().unwrap_or_default();
            let elsewhere = target.is_empty() || target.contains("://");
            if !elsewhere && !folder.join(target).exists() {
                found.push(format!("{path}: {target}"));
            }
        }
    }
    none("links that lead nowhere", &found);
}

#[test]
fn every_behaviour_of_the_kcl_has_a_test_that_exists_or_a_reason() {
    let page = fs::read_to_string(root().join("docs/reference/kcl-behaviours.md")).expect("the page");
    let tests: String = files(".rs").into_iter().map(|(_, text)| text).collect();
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with('|')).collect();
    let mut found = Vec::new();
    for number in 1..=76 {
        let Some(row) = rows.iter().find(|row| row.starts_with(&format!("| {number} |"))) else {
            found.push(format!("{number} is missing"));
            continue;
        };
        let ours = row.rsplit(" | ").next().expect("a last cell");
        // A test of ours is a whole sentence.
        let named: Vec<&str> =
            ours.split('`').skip(1).step_by(2).filter(|name| name.matches('_').count() > 1).collect();
        found.extend(
            named.iter().filter(|name| !tests.contains(&format!("fn {name}("))).map(|name| format!("{number}: {name}")),
        );
        if named.is_empty() && !ours.contains("not ours:") {
            found.push(format!("{number} has neither"));
        }
    }
    none("behaviours without a test", &found);
}

#[test]
fn every_row_of_the_parity_with_firehose_has_a_test_that_exists_or_a_reason() {
    let page = fs::read_to_string(root().join("docs/reference/firehose-parity.md")).expect("the page");
    let tests: String = files(".rs").into_iter().map(|(_, text)| text).collect();
    let is_row = |line: &&str| line.starts_with("| ") && !line.starts_with("| Firehose |");
    let rows: Vec<&str> = page.lines().filter(is_row).collect();
    assert!(rows.len() > 30, "the rows are found: {}", rows.len());
    let mut found = Vec::new();
    for row in rows {
        let cell = row.trim_end_matches(['|', ' ']).rsplit(" | ").next().expect("a last cell");
        let named: Vec<&str> =
            cell.split('`').skip(1).step_by(2).filter(|name| name.matches('_').count() > 1).collect();
        let missing = named.iter().filter(|name| !tests.contains(&format!("fn {name}(")));
        found.extend(missing.map(|name| (*name).to_owned()));
        if named.is_empty() && !row.contains("not yet:") {
            found.push(format!("neither: {row}"));
        }
    }
    none("rows without a test", &found);
}

#[test]
fn no_path_of_one_machine() {
    let mut found = Vec::new();
    let banned = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("crates", ".io")];
    for ending in [".rs", ".md", ".toml", ".yaml", ".sh", ".py"] {
        for (path, text) in files(ending) {
            for word in banned.iter().filter(|word| text.contains(*word)) {
                found.push(format!("{path}: {word}"));
            }
        }
    }
    none("paths of one machine, or hosts of package registries", &found);
}

/// Name and version of every package in the lock file.
fn locked() -> Vec<(String, String)> {
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("the lock file");
    let field = |block: &str, name: &str| {
        let line = block.lines().find(|line| line.starts_with(name))?;
        Some(line.split('"').nth(1)?.to_owned())
    };
    lock.split("[[package]]").filter_map(|block| Some((field(block, "name")?, field(block, "version")?))).collect()
}

#[test]
fn one_tree_of_each_heavy_library_and_none_of_the_unwanted() {
    let packages = locked();
    let unwanted = ["openssl", "openssl-sys", "native-tls", "backoff", "hyper-tls", "arrow-orc"];
    let found: Vec<String> =
        packages.iter().filter(|(name, _)| unwanted.contains(&name.as_str())).map(|(name, _)| name.clone()).collect();
    none("unwanted packages", &found);
    let mut twice = Vec::new();
    for one in ["arrow-array", "arrow-schema", "parquet", "hyper", "rustls", "tokio", "aws-lc-rs", "http-body"] {
        let versions: Vec<&str> =
            packages.iter().filter(|(name, _)| name == one).map(|(_, version)| version.as_str()).collect();
        if versions.len() > 1 {
            twice.push(format!("{one}: {versions:?}"));
        }
    }
    none("more than one version of a heavy library", &twice);
}

#[test]
fn each_service_crate_is_named_by_one_of_ours() {
    let owners = [
        ("aws-sdk-kinesis", "source"),
        ("aws-sdk-dynamodb", "lease"),
        ("aws-sdk-s3", "destinations"),
        ("aws-sdk-redshiftdata", "destinations"),
    ];
    let mut found = Vec::new();
    for (path, text) in files("Cargo.toml").into_iter().filter(|(path, _)| path.starts_with("crates/")) {
        // The emulator's own conformance tests speak to it by all three.
        let dependencies = text.split("[dev-dependencies]").next().unwrap_or_default();
        for (service, owner) in owners {
            if dependencies.contains(service) && path != format!("crates/{owner}/Cargo.toml") {
                found.push(format!("{path} names {service}"));
            }
        }
    }
    none("an SDK crate in more than one of ours", &found);
}

#[test]
fn the_heart_knows_no_aws_and_the_nouns_know_no_runtime() {
    let mut found = Vec::new();
    let fences = [("crates/flow/Cargo.toml", ["aws-", "tokio"]), ("crates/pipeline/Cargo.toml", ["aws-", "s3"])];
    for (path, fenced) in fences {
        let text = fs::read_to_string(root().join(path)).expect("a manifest");
        for line in text.lines().filter(|line| fenced.iter().any(|word| line.starts_with(word))) {
            found.push(format!("{path}: {line}"));
        }
    }
    none("an arrow the wrong way", &found);
}
