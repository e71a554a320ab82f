//! Implements, of the arrow `what the user wrote -> what it means`: object prefixes, literal text with `!{...}` in it.
//!
//! The language and the rules are Firehose's: `!{timestamp:PATTERN}`, `!{firehose:random-string}`,
//! `!{firehose:error-output-type}`, `!{partitionKeyFromQuery:KEY}` and `!{partitionKeyFromLambda:KEY}`; a prefix without
//! any expression gets the default time prefix behind it. Object keys are made from these parts by the S3 destination.
//! Never: evaluates a template, or lets through one that Firehose would refuse.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use crate::{java_pattern, limits};

/// The time prefix that Firehose uses when the user gives no expression: year, month, day, hour, in UTC.
pub const DEFAULT_TIME_PATTERN: &str = "yyyy/MM/dd/HH/";

/// A prefix of object keys, as parts in order. Every timestamp pattern in it has been checked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Template {
    /// The parts, in the order in which they are written.
    pub parts: Vec<Part>,
}

/// One part of a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Text that stands in the key as it is.
    Literal(String),
    /// `!{timestamp:PATTERN}`: the arrival time of the oldest record in the object. The pattern is one that
    /// [`java_pattern::parse`] accepts.
    Timestamp(String),
    /// `!{firehose:random-string}`: 11 characters, new for every occurrence.
    RandomString,
    /// `!{firehose:error-output-type}`: the kind of failure, such as `processing-failed`; only in an error prefix.
    ErrorOutputType,
    /// `!{partitionKeyFromQuery:KEY}`: what the program under this key of `partition_by` gives; only in a prefix of data.
    FromQuery(String),
    /// `!{partitionKeyFromLambda:KEY}`: what a Lambda function gives under this key; only in a prefix of data.
    FromLambda(String),
}

/// Which of the two prefixes a template is; the rules differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Prefix,
    ErrorPrefix,
}

/// Why a prefix is refused, and which bytes of it are meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TemplateError {
    /// The bytes of the prefix that are meant.
    pub span: Range<usize>,
    /// What is wrong, in lowercase without a period.
    pub message: String,
    /// What to write instead, when that is known.
    pub hint: Option<String>,
    /// Designed, but not built yet.
    pub not_built: bool,
}

impl Template {
    /// The prefix of data objects: what the user wrote, or the default; with the default time prefix behind it when it
    /// has no expression (no slash is inserted, as with Firehose).
    pub fn prefix(written: Option<&str>) -> Result<Self, TemplateError> {
        let mut template = parse(written.unwrap_or_default(), Purpose::Prefix)?;
        if !template.has_expression() {
            template.parts.push(Part::Timestamp(DEFAULT_TIME_PATTERN.to_owned()));
        }
        Ok(template)
    }

    /// The prefix of error objects: what the user wrote; or, when that has no expression, it with
    /// `<error-output-type>/yyyy/MM/dd/HH/` behind it; or the same behind the prefix of data objects when nothing is
    /// written, which is refused when that prefix has an expression.
    pub fn error_prefix(written: Option<&str>, prefix: Option<&str>) -> Result<Self, TemplateError> {
        let mut template = match written {
            Some(written) => parse(written, Purpose::ErrorPrefix)?,
            None => {
                let prefix = prefix.unwrap_or_default();
                let template = parse(prefix, Purpose::Prefix)?;
                if template.has_expression() {
                    return Err(TemplateError {
                        span: 0..prefix.len(),
                        message: "a prefix with an expression needs an `error_prefix` beside it".to_owned(),
                        hint: Some("for example error_prefix: \"errors/!{firehose:error-output-type}/\"".to_owned()),
                        not_built: false,
                    });
                }
                template
            }
        };
        if !template.has_expression() {
            template.parts.push(Part::ErrorOutputType);
            template.parts.push(Part::Literal("/".to_owned()));
            template.parts.push(Part::Timestamp(DEFAULT_TIME_PATTERN.to_owned()));
        } else if !template.parts.contains(&Part::ErrorOutputType) {
            return Err(TemplateError {
                span: 0..written.map_or(0, str::len),
                message: "an error prefix with an expression must contain `!{firehose:error-output-type}`".to_owned(),
                hint: Some("it keeps the kinds of failure apart".to_owned()),
                not_built: false,
            });
        }
        Ok(template)
    }

    /// The literal text before the first expression: what every key of this template begins with.
    #[must_use]
    pub fn literal_start(&self) -> &str {
        match self.parts.first() {
            Some(Part::Literal(text)) => text,
            _ => "",
        }
    }

    /// The keys of `partition_by` that it names, each once, in their order of the alphabet.
    #[must_use]
    pub fn query_keys(&self) -> BTreeSet<&str> {
        self.parts
            .iter()
            .filter_map(|part| if let Part::FromQuery(key) = part { Some(key.as_str()) } else { None })
            .collect()
    }

    /// The keys of Lambda functions that it names, each once, in their order of the alphabet.
    #[must_use]
    pub fn lambda_keys(&self) -> BTreeSet<&str> {
        self.parts
            .iter()
            .filter_map(|part| if let Part::FromLambda(key) = part { Some(key.as_str()) } else { None })
            .collect()
    }

    /// Whether keys may begin with what a record says, so that a producer chooses where objects come to lie.
    #[must_use]
    pub fn is_unconfined(&self) -> bool {
        matches!(self.parts.first(), Some(Part::FromQuery(_) | Part::FromLambda(_)))
    }

    fn has_expression(&self) -> bool {
        self.parts.iter().any(|part| !matches!(part, Part::Literal(_)))
    }
}

/// The template as a user would write it.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            match part {
                Part::Literal(text) => f.write_str(text)?,
                Part::Timestamp(pattern) => write!(f, "!{{timestamp:{pattern}}}")?,
                Part::RandomString => f.write_str("!{firehose:random-string}")?,
                Part::ErrorOutputType => f.write_str("!{firehose:error-output-type}")?,
                Part::FromQuery(key) => write!(f, "!{{partitionKeyFromQuery:{key}}}")?,
                Part::FromLambda(key) => write!(f, "!{{partitionKeyFromLambda:{key}}}")?,
            }
        }
        Ok(())
    }
}

fn parse(text: &str, purpose: Purpose) -> Result<Template, TemplateError> {
    let length = text.chars().count();
    if length > limits::PREFIX_CHARS_MAX {
        let message = format!("{length} characters; a prefix has at most {}", limits::PREFIX_CHARS_MAX);
        return Err(error(0..text.len(), message));
    }
    if let Some((at, bad)) = text.char_indices().find(|(_, c)| c.is_control()) {
        return Err(error(at..at + bad.len_utf8(), "a control character in a prefix"));
    }
    let mut parts = Vec::new();
    let mut at = 0;
    while let Some(start) = text[at..].find("!{").map(|offset| at + offset) {
        if start > at {
            parts.push(Part::Literal(text[at..start].to_owned()));
        }
        let Some(end) = text[start..].find('}').map(|offset| start + offset) else {
            return Err(TemplateError {
                hint: Some("`!{` always begins an expression".to_owned()),
                ..error(start..text.len(), "an expression is opened and not closed by `}`")
            });
        };
        parts.push(expression(text, start..end + 1, purpose)?);
        at = end + 1;
    }
    if at < text.len() {
        parts.push(Part::Literal(text[at..].to_owned()));
    }
    Ok(Template { parts })
}

/// The expression at `span`, which runs from `!` to `}`.
fn expression(text: &str, span: Range<usize>, purpose: Purpose) -> Result<Part, TemplateError> {
    let body_at = span.start + 2;
    let body = &text[body_at..span.end - 1];
    let Some((namespace, value)) = body.split_once(':') else {
        return Err(TemplateError {
            hint: Some(format!("expected one of {}", known(purpose))),
            ..error(span, format!("`!{{{body}}}` has no `:`"))
        });
    };
    match (namespace, value) {
        ("timestamp", "") => Err(error(span, "a timestamp expression without a pattern")),
        ("timestamp", pattern) => match java_pattern::parse(pattern) {
            Ok(_) => Ok(Part::Timestamp(pattern.to_owned())),
            Err(e) => {
                let from = body_at + "timestamp:".len() + e.at;
                Err(TemplateError { span: from..from + e.len, message: e.message, hint: e.hint, not_built: false })
            }
        },
        ("firehose", "random-string") => Ok(Part::RandomString),
        ("firehose", "error-output-type") => match purpose {
            Purpose::ErrorPrefix => Ok(Part::ErrorOutputType),
            Purpose::Prefix => Err(TemplateError {
                hint: Some("it belongs in `error_prefix`".to_owned()),
                ..error(span, "`!{firehose:error-output-type}` has no meaning for data objects")
            }),
        },
        ("partitionKeyFromQuery" | "partitionKeyFromLambda", key) => match purpose {
            Purpose::Prefix if is_key(key) && namespace == "partitionKeyFromQuery" => {
                Ok(Part::FromQuery(key.to_owned()))
            }
            Purpose::Prefix if is_key(key) => Ok(Part::FromLambda(key.to_owned())),
            Purpose::Prefix => Err(TemplateError {
                hint: Some("letters, digits, `_`, `-` and `.`, at most 128".to_owned()),
                ..error(body_at + namespace.len() + 1..span.end - 1, format!("`{key}` is no partition key"))
            }),
            Purpose::ErrorPrefix => Err(error(span, format!("`!{{{namespace}:...}}` cannot stand in an error prefix"))),
        },
        _ => {
            let nearest = crate::nearest::nearest(
                body.split_once(char::is_whitespace).map_or(body, |(first, _)| first),
                EXPRESSIONS.iter().copied(),
            );
            let hint = match nearest {
                Some(name) => format!("did you mean `!{{{name}}}`?"),
                None => format!("expected one of {}", known(purpose)),
            };
            Err(TemplateError { hint: Some(hint), ..error(span, format!("`!{{{body}}}` is no expression")) })
        }
    }
}

const EXPRESSIONS: [&str; 5] = [
    "firehose:random-string",
    "firehose:error-output-type",
    "timestamp:yyyy/MM/dd/",
    "partitionKeyFromQuery:KEY",
    "partitionKeyFromLambda:KEY",
];

/// What may name a partition key.
pub(crate) fn is_key(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

fn known(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Prefix => {
            "`!{timestamp:PATTERN}`, `!{firehose:random-string}`, `!{partitionKeyFromQuery:KEY}`, `!{partitionKeyFromLambda:KEY}`"
        }
        Purpose::ErrorPrefix => "`!{timestamp:PATTERN}`, `!{firehose:random-string}`, `!{firehose:error-output-type}`",
    }
}

fn error(span: Range<usize>, message: impl fmt::Display) -> TemplateError {
    TemplateError { span, message: message.to_string(), hint: None, not_built: false }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix(text: &str) -> String {
        Template::prefix(Some(text)).map_or_else(|e| format!("error: {e}"), |t| t.to_string())
    }
    fn error_prefix(text: Option<&str>, prefix: Option<&str>) -> String {
        Template::error_prefix(text, prefix).map_or_else(|e| format!("error: {e}"), |t| t.to_string())
    }

    #[test]
    fn defaults_are_those_of_firehose() {
        assert_eq!(Template::prefix(None).expect("default").to_string(), "!{timestamp:yyyy/MM/dd/HH/}");
        assert_eq!(prefix("legacy"), "legacy!{timestamp:yyyy/MM/dd/HH/}", "no slash is inserted");
        assert_eq!(prefix("a/!{firehose:random-string}/"), "a/!{firehose:random-string}/", "nothing is appended");
        let default = "!{firehose:error-output-type}/!{timestamp:yyyy/MM/dd/HH/}";
        assert_eq!(error_prefix(None, None), default);
        assert_eq!(error_prefix(None, Some("in/")), format!("in/{default}"));
        assert_eq!(error_prefix(Some("bad/"), Some("in/")), format!("bad/{default}"));
    }

    #[test]
    fn firehose_rules_hold() {
        assert!(prefix("!{firehose:error-output-type}/").starts_with("error: "));
        assert!(prefix("a!{timestamp:yyyy").starts_with("error: "));
        assert!(prefix("!{timestamp:}").starts_with("error: "));
        assert!(prefix("!{}").starts_with("error: "));
        assert!(error_prefix(Some("e/!{timestamp:yyyy}/"), None).starts_with("error: an error prefix with"));
        assert!(error_prefix(None, Some("!{timestamp:yyyy}/")).starts_with("error: a prefix with an expression"));
        assert!(prefix(&"x".repeat(1025)).starts_with("error: "));
    }

    #[test]
    fn partition_keys_stand_in_prefixes_of_data_alone() {
        let text = "x/!{partitionKeyFromQuery:customer.id}/!{partitionKeyFromLambda:day}/!{partitionKeyFromQuery:customer.id}/";
        let template = Template::prefix(Some(text)).expect("a prefix");
        assert_eq!(template.to_string(), text, "nothing is appended");
        assert_eq!(template.query_keys().into_iter().collect::<Vec<_>>(), ["customer.id"]);
        assert_eq!(template.lambda_keys().into_iter().collect::<Vec<_>>(), ["day"]);
        assert!(!template.is_unconfined());
        assert!(Template::prefix(Some("!{partitionKeyFromLambda:day}/")).expect("a prefix").is_unconfined());
        let error = Template::prefix(Some("x/!{partitionKeyFromQuery:a b}/")).expect_err("a space");
        assert_eq!(error.span, 26..29);
        assert!(error_prefix(Some("e/!{partitionKeyFromQuery:a}/"), None).contains("cannot stand"));
    }

    #[test]
    fn a_bad_pattern_is_named_where_it_stands() {
        let error = Template::prefix(Some("in/!{timestamp:yyyy-MM-ddTHH}/")).expect_err("`T`");
        assert_eq!(error.span, 25..26);
        assert_eq!(&"in/!{timestamp:yyyy-MM-ddTHH}/"[error.span], "T");
    }

    #[test]
    fn the_nearest_expression_is_named() {
        let error = Template::prefix(Some("!{firehose:random_string}")).expect_err("unknown");
        assert_eq!(error.hint.as_deref(), Some("did you mean `!{firehose:random-string}`?"));
    }

    proptest! {
        #[test]
        fn no_string_panics_and_places_lie_within(text in "(!\\{|\\}|timestamp:|firehose:|random-string|[a-zé'/:]){0,30}") {
            for result in [Template::prefix(Some(&text)), Template::error_prefix(Some(&text), None)] {
                if let Err(error) = result {
                    prop_assert!(text.get(error.span.clone()).is_some(), "{:?}", error.span);
                }
            }
        }

        #[test]
        fn what_is_printed_reads_back(parts in proptest::collection::vec(0..6usize, 1..8)) {
            let pieces = ["in/", "!{timestamp:yyyy}", "!{firehose:random-string}", "x=", "!{partitionKeyFromQuery:k}", "!{partitionKeyFromLambda:k}"];
            let text: String = parts.iter().map(|i| pieces[*i]).collect();
            let template = Template::prefix(Some(&text)).expect("made of valid pieces");
            prop_assert_eq!(Template::prefix(Some(&template.to_string())), Ok(template));
        }
    }
}
