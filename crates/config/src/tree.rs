//! Implements, of the arrow `what the user wrote -> what it means`: YAML text -> a tree in which every key and value
//! knows its place.
//!
//! Scalars stay text here: what a value means is decided by the field it is for. Repeated keys stay in the tree, so that
//! both places can be named. Aliases and merge keys are followed, within bounds.
//! Never: recurses deeper, or keeps more nodes, than `limits.rs` says.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, NonFiniteFloatPolicy, Spanned};

use crate::errors::Finding;
use crate::limits;
use crate::source::{At, Sources};

/// A value and its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) at: At,
    pub(crate) value: Value,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A scalar as text.
#[derive(Debug, Clone)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Not in quotes and not a block.
    pub(crate) plain: bool,
    /// A part of the text came from the environment, so it is never shown.
    pub(crate) from_env: bool,
}

/// A key and its place.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) at: At,
    pub(crate) text: String,
}

impl Node {
    /// What stands there, in the words of a message.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// Reads file number `file`. An empty file gives an empty node.
pub(crate) fn parse(sources: &Sources, file: usize) -> Result<Node, Box<Finding>> {
    let text = sources.text(file);
    if text.len() > limits::FILE_BYTES_MAX {
        let at = At { file, start: 0, end: 0 };
        let message = format!("the file is larger than {} bytes", limits::FILE_BYTES_MAX);
        return Err(Box::new(Finding::new(at, "", message)));
    }
    let raw: Spanned<Raw> =
        serde_saphyr::from_str_with_options(text, options()).map_err(|e| Box::new(syntax(&e, text, file)))?;
    node(raw, text, file)
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: limits::YAML_DEPTH_MAX,
            flow_nesting_limit: limits::YAML_DEPTH_MAX,
            max_nodes: limits::YAML_NODES_MAX,
            max_events: limits::YAML_NODES_MAX * 4,
            max_aliases: limits::YAML_ALIASES_MAX,
            max_anchors: limits::YAML_ALIASES_MAX,
            max_merge_keys: limits::YAML_ALIASES_MAX,
            max_documents: 2,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: limits::YAML_NODES_MAX,
        },
        emit_comments: false,
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        strict_booleans: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

/// What the parser hands over. Numbers and the like are taken from the text again, as they were written.
enum Raw {
    Null,
    Text(String),
    Typed(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<Raw>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }
    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }
    fn visit_bool<E>(self, v: bool) -> Result<Raw, E> {
        Ok(Raw::Typed(v.to_string()))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Raw, E> {
        Ok(Raw::Typed(v.to_string()))
    }
    fn visit_u64<E>(self, v: u64) -> Result<Raw, E> {
        Ok(Raw::Typed(v.to_string()))
    }
    fn visit_f64<E>(self, v: f64) -> Result<Raw, E> {
        Ok(Raw::Typed(v.to_string()))
    }
    fn visit_str<E>(self, v: &str) -> Result<Raw, E> {
        Ok(Raw::Text(v.to_owned()))
    }
    fn visit_string<E>(self, v: String) -> Result<Raw, E> {
        Ok(Raw::Text(v))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

/// The parser bounds the depth, so this may recurse.
fn node(raw: Spanned<Raw>, text: &str, file: usize) -> Result<Node, Box<Finding>> {
    let at = place(&raw.defined, file);
    let written = text.get(at.start..at.end).unwrap_or_default();
    let plain = !written.is_empty() && !written.starts_with(['"', '\'']) && !block(&text[..at.start]);
    let scalar = |text: String| Value::Scalar(Scalar { text, plain, from_env: false });
    let value = match raw.value {
        Raw::Null => Value::Null,
        Raw::Text(text) => scalar(text),
        Raw::Typed(value) => scalar(if plain { written.trim().to_owned() } else { value }),
        Raw::List(items) => {
            Value::List(items.into_iter().map(|item| node(item, text, file)).collect::<Result<_, _>>()?)
        }
        Raw::Map(entries) => {
            let mut map = Vec::with_capacity(entries.len());
            for (key, value) in entries {
                map.push((self::key(key, text, file)?, node(value, text, file)?));
            }
            Value::Map(map)
        }
    };
    Ok(Node { at, value })
}

/// Whether a scalar that follows this text is a block: a `|` or `>` ends the line above it.
fn block(before: &str) -> bool {
    let above = before.trim_end_matches([' ', '\t']);
    if !above.ends_with('\n') {
        return false;
    }
    let line = above.trim_end().rsplit('\n').next().unwrap_or_default();
    let line = line.split_once(" #").map_or(line, |(code, _)| code).trim_end();
    let header = line.rsplit([' ', '\t']).next().unwrap_or_default();
    header.starts_with(['|', '>']) && header[1..].chars().all(|c| c.is_ascii_digit() || c == '+' || c == '-')
}

fn key(raw: Spanned<Raw>, text: &str, file: usize) -> Result<Key, Box<Finding>> {
    let node = node(raw, text, file)?;
    match node.value {
        Value::Scalar(scalar) => Ok(Key { at: node.at, text: scalar.text }),
        _ => Err(Box::new(Finding::new(node.at, "", format!("a key must be a name, not {}", node.kind())))),
    }
}

fn place(location: &serde_saphyr::Location, file: usize) -> At {
    let span = location.span();
    let start = span.byte_offset().unwrap_or_default();
    let len = span.byte_len().unwrap_or_default();
    let index = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    At { file, start: index(start), end: index(start.saturating_add(len)) }
}

/// A finding for text that is not YAML.
fn syntax(error: &serde_saphyr::Error, text: &str, file: usize) -> Finding {
    let location = error.location();
    let mut at = location.map_or(At { file, start: 0, end: 0 }, |l| place(&l, file));
    if let Some(location) = location
        && location.span().byte_offset().is_none()
    {
        let line = usize::try_from(location.line()).unwrap_or_default();
        let column = usize::try_from(location.column()).unwrap_or_default();
        let begin: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
        let offset =
            text.get(begin..).map_or(0, |rest| rest.chars().take(column.saturating_sub(1)).map(char::len_utf8).sum());
        at = At { file, start: begin + offset, end: begin + offset + 1 };
    }
    if at.end == at.start {
        at.end += 1;
    }
    let start = text.floor_char_boundary(at.start);
    let begin = text[..start].rfind('\n').map_or(0, |i| i + 1);
    let line = text[begin..].lines().next().unwrap_or_default();
    let message = serde_saphyr::UserMessageFormatter;
    let message = error.render_with_formatter(&message);
    let message = message.lines().next().unwrap_or("this is not YAML").trim();
    let message = message.split_once(" at line ").map_or(message, |(message, _)| message);
    Finding::new(at, "", format!("this is not YAML: {message}")).hint(advice(line, text, message))
}

/// The usual reasons, by how the line looks.
fn advice(line: &str, text: &str, message: &str) -> Option<String> {
    let indent = &line[..line.len() - line.trim_start().len()];
    if indent.contains('\t') || text.lines().any(|l| l.starts_with('\t')) {
        return Some("YAML is indented with spaces; a tab stands at the beginning of a line".to_owned());
    }
    if line.contains("${") && (line.contains('{') || line.contains('[')) {
        return Some("`${VAR}` cannot stand within `{ }` or `[ ]`; write one key a line".to_owned());
    }
    if message.contains("mapping values are not allowed") && line.matches(": ").count() > 1 {
        return Some("a value with `: ` in it goes in quotes".to_owned());
    }
    None
}
