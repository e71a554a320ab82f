//! Implements, of the arrow `what the user wrote -> what it means`: `${VAR}`, `${VAR:-default}`, `${VAR:?message}`.
//!
//! They are replaced after parsing, in plain scalars only, so that a value can never change the shape of a file, and
//! quotes keep a text as it is. `:-` and `:?` count an empty variable as unset, as a shell does.
//! Never: shows a value, reads the environment itself, or looks for variables in what a variable held.

use crate::errors::Finding;
use crate::limits;
use crate::source::At;
use crate::tree::{Node, Scalar, Value};

/// The environment: the value of a variable, `None` when it is not set.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Replaces every variable in the tree.
pub(crate) fn expand(node: &mut Node, env: Env<'_>, findings: &mut Vec<Finding>) {
    let at = node.at;
    match &mut node.value {
        Value::Null => {}
        Value::Scalar(scalar) => expand_scalar(scalar, at, env, findings),
        Value::List(items) => items.iter_mut().for_each(|item| expand(item, env, findings)),
        Value::Map(entries) => entries.iter_mut().for_each(|(_, value)| expand(value, env, findings)),
    }
}

fn expand_scalar(scalar: &mut Scalar, at: At, env: Env<'_>, findings: &mut Vec<Finding>) {
    if !scalar.plain {
        return warn_if_meant(scalar, at, env, findings);
    }
    if !scalar.text.contains("${") {
        return;
    }
    match replace(&scalar.text, env) {
        Ok(text) => {
            scalar.text = text;
            scalar.from_env = true;
        }
        Err(trouble) => findings.push(Finding::new(at, "", trouble.message).label(trouble.label).hint(trouble.hint)),
    }
}

/// In quotes `${VAR}` is text, as people who know the shell do not expect. Only what would be replaced is told of.
fn warn_if_meant(scalar: &Scalar, at: At, env: Env<'_>, warnings: &mut Vec<Finding>) {
    let meant = |rest: &str| {
        let body = rest.split_once('}').map(|(body, _)| body)?;
        // A variable that is not set is a variable all the same.
        value(body, &|name| env(name).or_else(|| Some("set".to_owned()))).ok().map(|_| format!("${{{body}}}"))
    };
    let Some(variable) = scalar.text.split("${").skip(1).find_map(meant) else { return };
    let finding = Finding::new(at, "", format!("`{variable}` is taken as text here"))
        .label("quoted, so nothing in it is replaced")
        .hint(format!("write {variable} without quotes to take it from the environment"));
    warnings.push(finding.warning());
}

#[derive(Debug, PartialEq, Eq)]
struct Trouble {
    message: String,
    label: String,
    hint: Option<String>,
}

/// The text with its variables replaced.
fn replace(text: &str, env: Env<'_>) -> Result<String, Trouble> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        out.push_str(&rest[..start]);
        let body = &rest[start + 2..];
        let Some(end) = body.find('}') else {
            return Err(trouble("`${` is opened and not closed by `}`", "here", "in quotes, `${` is plain text"));
        };
        out.push_str(&value(&body[..end], env)?);
        rest = &body[end + 1..];
        if out.len() > limits::VARIABLE_BYTES_MAX {
            return Err(trouble("a value from the environment is too long", "this one", ""));
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// The value of what stands between the braces.
fn value(body: &str, env: Env<'_>) -> Result<String, Trouble> {
    let (name, rule) = match body.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
        Some(end) => body.split_at(end),
        None => (body, ""),
    };
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(trouble(
            format!("`${{{body}}}` names no variable"),
            "letters, digits and `_` are expected here",
            "the forms are `${VAR}`, `${VAR:-default}` and `${VAR:?message}`",
        ));
    }
    if rule.contains("${") {
        return Err(trouble("a variable within a variable", "one level is all there is", ""));
    }
    let found = env(name);
    if rule.is_empty() {
        return found.ok_or_else(|| {
            trouble(
                format!("the environment variable `{name}` is not set"),
                "needed here",
                &format!("set it, or give a default: `${{{name}:-...}}`"),
            )
        });
    }
    let found = found.filter(|value| !value.is_empty());
    if let Some(default) = rule.strip_prefix(":-") {
        return Ok(found.unwrap_or_else(|| default.to_owned()));
    }
    if let Some(message) = rule.strip_prefix(":?") {
        let message = if message.is_empty() { "not set, or empty" } else { message };
        return found
            .ok_or_else(|| trouble(format!("the environment variable `{name}` is needed: {message}"), "here", ""));
    }
    Err(trouble(
        format!("`{rule}` after a variable's name"),
        "not understood",
        "the forms are `${VAR}`, `${VAR:-default}` and `${VAR:?message}`",
    ))
}

fn trouble(message: impl Into<String>, label: &str, hint: &str) -> Trouble {
    let hint = (!hint.is_empty()).then(|| hint.to_owned());
    Trouble { message: message.into(), label: label.to_owned(), hint }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "REGION" => Some("eu-west-1".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${REGION}".to_owned()),
            _ => None,
        }
    }
    fn replaced(text: &str) -> String {
        replace(text, &env).unwrap_or_else(|t| format!("error: {}", t.message))
    }

    #[test]
    fn the_three_forms() {
        assert_eq!(replaced("a-${REGION}-b"), "a-eu-west-1-b");
        assert_eq!(replaced("${UNSET:-us-east-1}"), "us-east-1");
        assert_eq!(replaced("${EMPTY:-x}"), "x");
        assert_eq!(replaced("${UNSET:-}"), "");
        assert_eq!(replaced("${EMPTY}"), "");
        assert_eq!(replaced("${REGION:?set it}"), "eu-west-1");
        assert_eq!(replaced("${UNSET:?set it}"), "error: the environment variable `UNSET` is needed: set it");
        assert_eq!(replaced("${UNSET}"), "error: the environment variable `UNSET` is not set");
        assert_eq!(replaced("${NESTED}"), "${REGION}", "what a variable held is not looked into");
        assert_eq!(replaced("$REGION $"), "$REGION $");
    }

    #[test]
    fn what_is_no_form_is_an_error() {
        for text in ["${", "${}", "${9A}", "${A-b}", "${A:b}", "${A:-${REGION}}", "${A B}"] {
            assert!(replaced(text).starts_with("error: "), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_string_panics(text in "(\\$\\{|\\}|:-|:\\?|[A-Zé ]){0,20}") {
            let _ = replace(&text, &env);
        }
    }
}
