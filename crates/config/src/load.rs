//! Implements, of the arrow `what the user wrote -> what it means`: the whole of it, from files to a [`Config`].
//!
//! bytes -> YAML -> variables -> shape -> structs -> meaning. Findings of one step, over all files, are shown together;
//! the next step runs only when there are none.
//! Never: reads anything but the files that are named; the environment comes in as a function.

use std::fs;
use std::path::{Path, PathBuf};

use crate::checks::Checks;
use crate::config::Config;
use crate::decode;
use crate::errors::{self, ConfigErrors, Finding};
use crate::file::File;
use crate::limits;
use crate::resolve;
use crate::source::{At, Sources};
use crate::tree::{self, Node, Value};
use crate::variables::{self, Env};
use crate::{schema, shape};

/// Reads the configuration that several files make together. A folder stands for all its `*.yaml`, in the order of their
/// names; a file that is named twice is read once.
pub fn load(paths: &[PathBuf], env: Env<'_>, checks: &dyn Checks) -> Result<Config, ConfigErrors> {
    let mut sources = Sources::default();
    for path in files(paths)? {
        let name = path.display().to_string();
        sources.add(&name, &read(&path, &name)?);
    }
    understand(&sources, env, checks)
}

/// Reads the configuration that one text makes; `name` stands for it in errors.
pub fn parse(name: &str, text: &str, env: Env<'_>, checks: &dyn Checks) -> Result<Config, ConfigErrors> {
    let mut sources = Sources::default();
    sources.add(name, text);
    understand(&sources, env, checks)
}

fn understand(sources: &Sources, env: Env<'_>, checks: &dyn Checks) -> Result<Config, ConfigErrors> {
    let mut findings = Vec::new();
    let nodes = trees(sources, env, &mut findings);
    let mut warnings: Vec<Finding> = findings.extract_if(.., |finding| finding.is_warning()).collect();
    let mut files: Vec<File> = Vec::new();
    if findings.is_empty() {
        for node in &nodes {
            match decode::decode(node) {
                Ok(file) => files.push(file),
                Err(e) => findings.push(Finding::new(e.at.unwrap_or(node.at), "", e.message)),
            }
        }
    }
    let mut config = None;
    if findings.is_empty() {
        config = resolve::resolve(files, sources, checks, &mut findings);
        warnings.extend(findings.extract_if(.., |finding| finding.is_warning()));
    }
    if !findings.is_empty() {
        // One may be why the value is wrong.
        findings.extend(warnings);
        return Err(errors::finish(findings, sources).unwrap_or_else(no_configuration));
    }
    match config {
        Some(config) => Ok(Config { warnings: errors::finish(warnings, sources), ..config }),
        None => Err(no_configuration()),
    }
}

fn no_configuration() -> ConfigErrors {
    errors::unreadable("", "no configuration was given", None)
}

/// The trees of all files, with variables replaced and of the right shape when there is no finding.
fn trees(sources: &Sources, env: Env<'_>, findings: &mut Vec<Finding>) -> Vec<Node> {
    let schema = schema::schema();
    let mut nodes = Vec::new();
    for file in 0..sources.len() {
        match tree::parse(sources, file) {
            Ok(Node { value: Value::Null, .. }) => findings.push(
                Finding::new(At { file, start: 0, end: 0 }, "", "the file is empty")
                    .hint("the smallest file is in docs/examples/smallest.yaml".to_owned()),
            ),
            Ok(mut node) => {
                let before = findings.len();
                variables::expand(&mut node, env, findings);
                if findings[before..].iter().all(Finding::is_warning) {
                    shape::check(&schema, &node, findings);
                }
                nodes.push(node);
            }
            Err(finding) => findings.push(*finding),
        }
    }
    nodes
}

/// The files that the paths stand for.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, ConfigErrors> {
    let mut files: Vec<PathBuf> = Vec::new();
    let mut seen: Vec<PathBuf> = Vec::new();
    for path in paths {
        let found = if path.is_dir() { folder(path)? } else { vec![path.clone()] };
        for file in found {
            let same = fs::canonicalize(&file).unwrap_or_else(|_| file.clone());
            if !seen.contains(&same) {
                seen.push(same);
                files.push(file);
            }
        }
    }
    if files.len() > limits::FILES_MAX {
        return Err(errors::unreadable("", format!("more than {} files", limits::FILES_MAX), None));
    }
    Ok(files)
}

fn folder(path: &Path) -> Result<Vec<PathBuf>, ConfigErrors> {
    let name = path.display().to_string();
    let fail = |e: std::io::Error| errors::unreadable(&name, format!("cannot read the folder: {e}"), None);
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(fail)? {
        let file = entry.map_err(fail)?.path();
        if file.extension().is_some_and(|e| e == "yaml") && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        let hint = Some("only files that end in .yaml are read from a folder".to_owned());
        return Err(errors::unreadable(&name, "the folder holds no *.yaml", hint));
    }
    Ok(files)
}

pub(crate) fn read(path: &Path, name: &str) -> Result<String, ConfigErrors> {
    let fail = |message: String| errors::unreadable(name, message, None);
    let size = fs::metadata(path).map_err(|e| fail(format!("cannot read the file: {e}")))?.len();
    if size > limits::FILE_BYTES_MAX as u64 {
        return Err(fail(format!("the file is larger than {} bytes", limits::FILE_BYTES_MAX)));
    }
    let bytes = fs::read(path).map_err(|e| fail(format!("cannot read the file: {e}")))?;
    String::from_utf8(bytes).map_err(|e| fail(format!("byte {} is not UTF-8", e.utf8_error().valid_up_to())))
}
