//! Implements, of the arrow `what the user wrote -> what it means`: does a tree have the shape of the JSON Schema?
//!
//! It finds everything at once: unknown, repeated, missing and unbuilt keys, words that are no choice, values of the
//! wrong kind, each with the nearest valid name. A tree that passes decodes into the structs of `file.rs`.
//! Never: judges what a text means (`resolve.rs` does), or shows a value that came from the environment.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use crate::errors::Finding;
use crate::nearest::nearest;
use crate::not_built;
use crate::source::At;
use crate::tree::{Key, Node, Scalar, Value};

/// Compares a tree with the schema of a file.
pub(crate) fn check(schema: &Json, node: &Node, findings: &mut Vec<Finding>) {
    let place = Place { at: node.at, path: String::new(), pattern: String::new() };
    Shape { root: schema, findings }.node(schema, node, &place);
}

/// Where in the file the check is.
struct Place {
    /// The key that leads here, to point at when something is missing.
    at: At,
    /// `pipelines.orders.destinations[0].s3`.
    path: String,
    /// `pipelines.*.destinations[].s3`.
    pattern: String,
}

impl Place {
    fn key(&self, key: &Key, chosen: bool) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        let name = if chosen { "*" } else { key.text.as_str() };
        Self {
            at: key.at,
            path: format!("{}{dot}{}", self.path, key.text),
            pattern: format!("{}{dot}{name}", self.pattern),
        }
    }
    fn item(&self, index: usize, at: At) -> Self {
        Self { at, path: format!("{}[{index}]", self.path), pattern: format!("{}[]", self.pattern) }
    }
    /// The path in the words of a message.
    fn name(&self) -> String {
        if self.path.is_empty() { "the file".to_owned() } else { format!("`{}`", self.path) }
    }
}

/// What a schema allows, its alternatives taken together.
#[derive(Default)]
struct Allowed<'s> {
    words: Vec<String>,
    /// The schemas that take any text, whole number or truth value.
    text: Option<&'s Json>,
    integer: bool,
    boolean: bool,
    null: bool,
    items: Option<&'s Json>,
    properties: BTreeMap<&'s str, &'s Json>,
    required: Vec<&'s str>,
    /// For a mapping whose keys the user chooses.
    chosen: Option<&'s Json>,
    mapping: bool,
    /// A mapping of exactly one key, which names the kind.
    tagged: bool,
}

struct Shape<'s, 'f> {
    root: &'s Json,
    findings: &'f mut Vec<Finding>,
}

impl<'s> Shape<'s, '_> {
    fn node(&mut self, schema: &'s Json, node: &Node, place: &Place) {
        let mut allowed = Allowed::default();
        self.collect(schema, &mut allowed, 0);
        match &node.value {
            Value::Null if allowed.null => {}
            Value::Null => {
                let message = format!("{} has no value", place.name());
                let label = format!("expected {}", expected(&allowed, schema, &place.pattern));
                self.findings.push(Finding::new(place.at, &place.path, message).label(label));
            }
            Value::Scalar(scalar) => self.scalar(&allowed, schema, (node, scalar), place),
            Value::List(items) => match allowed.items {
                Some(schema) => {
                    for (i, item) in items.iter().enumerate() {
                        self.node(schema, item, &place.item(i, item_at(item)));
                    }
                }
                None => self.wrong_kind(&allowed, schema, node, place),
            },
            Value::Map(entries) if allowed.mapping => self.map(&allowed, entries, place),
            Value::Map(entries) => {
                let built = entries.iter().all(|(key, _)| !not_built::contains(&place.pattern, &key.text));
                match entries.first() {
                    Some((key, _)) if !built => self.not_built(key.at, &key.text, place),
                    _ => self.wrong_kind(&allowed, schema, node, place),
                }
            }
        }
    }

    /// Puts the alternatives of a schema together. Schemas are ours, so the depth is known; the bound is a safety net.
    fn collect(&self, schema: &'s Json, allowed: &mut Allowed<'s>, depth: usize) {
        if depth > 8 {
            return;
        }
        if let Some(target) =
            schema["$ref"].as_str().and_then(|r| r.strip_prefix('#')).and_then(|p| self.root.pointer(p))
        {
            self.collect(target, allowed, depth + 1);
        }
        for alternatives in ["anyOf", "oneOf"].iter().filter_map(|k| schema[k].as_array()) {
            alternatives.iter().for_each(|schema| self.collect(schema, allowed, depth + 1));
            let mappings = alternatives.iter().filter(|s| s["properties"].is_object() && s["required"].is_array());
            allowed.tagged |= mappings.count() > 0;
        }
        let words = schema["enum"].as_array().into_iter().flatten().chain(schema.get("const"));
        let before = allowed.words.len();
        allowed.words.extend(words.map(|word| word.as_str().map_or_else(|| word.to_string(), str::to_owned)));
        let free = allowed.words.len() == before;
        let types = match &schema["type"] {
            Json::Array(types) => types.iter().filter_map(Json::as_str).collect(),
            Json::String(one) => vec![one.as_str()],
            _ => Vec::new(),
        };
        for kind in types {
            match kind {
                "null" => allowed.null = true,
                "string" if free => allowed.text = Some(schema),
                "integer" if free => allowed.integer = true,
                "boolean" if free => allowed.boolean = true,
                "array" => allowed.items = schema.get("items"),
                "object" => Self::collect_object(schema, allowed),
                _ => {}
            }
        }
    }

    fn collect_object(schema: &'s Json, allowed: &mut Allowed<'s>) {
        allowed.mapping = true;
        let properties = schema["properties"].as_object().into_iter().flat_map(Map::iter);
        allowed.properties.extend(properties.map(|(name, schema)| (name.as_str(), schema)));
        allowed.required.extend(schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str));
        allowed.chosen = schema.get("additionalProperties").filter(|s| s.is_object());
    }

    fn scalar(&mut self, allowed: &Allowed<'s>, schema: &'s Json, (node, scalar): (&Node, &Scalar), place: &Place) {
        let text = scalar.text.as_str();
        let fits = allowed.text.is_some()
            || allowed.words.iter().any(|word| word == text)
            || allowed.integer && text.parse::<u64>().is_ok()
            || allowed.boolean && matches!(text, "true" | "false");
        if fits {
            return;
        }
        if not_built::contains(&place.pattern, text) {
            return self.not_built(node.at, text, place);
        }
        let what = expected(allowed, schema, &place.pattern);
        if allowed.words.is_empty() && !allowed.integer && !allowed.boolean {
            return self.wrong_kind(allowed, schema, node, place);
        }
        let shown = if scalar.from_env { "the value from the environment".to_owned() } else { format!("`{text}`") };
        let near = nearest(text, allowed.words.iter().map(String::as_str)).filter(|_| !scalar.from_env);
        let hint = match (near, not_built::advice(&place.pattern, text).filter(|_| !scalar.from_env)) {
            (_, Some(advice)) => Some(advice),
            (Some(word), None) => Some(format!("did you mean `{word}`?")),
            (None, None) if allowed.properties.contains_key(text) && !scalar.from_env => {
                Some(format!("it has settings of its own: `{text}: {{ ... }}`"))
            }
            (None, None) => (place.path == "version").then(|| "this program reads files of version 1".to_owned()),
        };
        let message = format!("{shown} is no value of {}", place.name());
        self.findings.push(Finding::new(node.at, &place.path, message).label(format!("expected {what}")).hint(hint));
    }

    fn map(&mut self, allowed: &Allowed<'s>, entries: &[(Key, Node)], place: &Place) {
        let mut seen: BTreeMap<&str, At> = BTreeMap::new();
        // A key that is missing because it was misspelt has its finding already.
        let mut meant: Vec<&str> = Vec::new();
        for (key, value) in entries {
            if let Some(first) = seen.insert(&key.text, key.at) {
                self.findings.push(
                    Finding::new(
                        key.at,
                        &place.key(key, false).path,
                        format!("the key `{}` stands here twice", key.text),
                    )
                    .label("again here")
                    .also(first, "first here"),
                );
                continue;
            }
            let named = allowed.properties.get(key.text.as_str());
            match named.or(allowed.chosen.as_ref()) {
                Some(schema) => self.node(schema, value, &place.key(key, named.is_none())),
                None if not_built::contains(&place.pattern, &key.text) => {
                    self.not_built(key.at, &key.text, place);
                }
                None => meant.extend(self.unknown(allowed, (key, value), place)),
            }
        }
        if allowed.tagged {
            return self.tagged(allowed, entries, place);
        }
        for name in allowed.required.iter().filter(|name| !seen.contains_key(**name) && !meant.contains(*name)) {
            let example = allowed.properties.get(name).and_then(|s| s["examples"].get(0)).and_then(Json::as_str);
            let message = format!("`{name}` is missing in {}", place.name());
            let hint = match (*name, example) {
                ("version", _) => Some("every file begins with `version: 1`".to_owned()),
                (name, None) => not_built::missing(&place.pattern, name).map(str::to_owned),
                (_, example) => example.map(|example| format!("for example `{name}: {example}`")),
            };
            self.findings.push(
                Finding::new(place.at, &place.path, message).label(format!("`{name}` is required here")).hint(hint),
            );
        }
    }

    /// A mapping that names a kind has one key.
    fn tagged(&mut self, allowed: &Allowed<'s>, entries: &[(Key, Node)], place: &Place) {
        let known: Vec<&Key> = entries
            .iter()
            .map(|(key, _)| key)
            .filter(|key| allowed.properties.contains_key(key.text.as_str()))
            .collect();
        let kinds = quoted(allowed.properties.keys().copied());
        if entries.is_empty() {
            let message = format!("{} names no kind", place.name());
            self.findings.push(Finding::new(place.at, &place.path, message).label(format!("expected {kinds}")));
        } else if known.len() > 1 {
            let message = format!("{} names two kinds", place.name());
            self.findings.push(Finding::new(known[1].at, &place.path, message).label("one is expected"));
        }
    }

    /// A key that nobody knows; the answer is the one that it was most likely meant for.
    fn unknown(&mut self, allowed: &Allowed<'s>, (key, value): (&Key, &Node), place: &Place) -> Option<&'s str> {
        let unbuilt = not_built::at(&place.pattern);
        let known: Vec<&str> = allowed.properties.keys().copied().collect();
        let near = nearest(&key.text, known.iter().copied().chain(unbuilt.iter().copied()));
        let hint = match near {
            _ if key.text == "type" && allowed.tagged => {
                let written = match &value.value {
                    Value::Scalar(scalar) if !scalar.from_env => Some(scalar.text.as_str()),
                    _ => None,
                };
                let kind = written.filter(|kind| known.contains(kind)).or(known.first().copied());
                format!("the kind is the key itself, as in `{}: {{ ... }}`", kind.unwrap_or("s3"))
            }
            Some(name) if unbuilt.contains(&name) => format!("did you mean `{name}`? It is not built yet"),
            Some(name) => format!("did you mean `{name}`?"),
            None => not_built::advice(&place.pattern, &key.text)
                .unwrap_or_else(|| format!("the keys here are {}", quoted(known))),
        };
        self.findings.push(
            Finding::new(key.at, &place.key(key, false).path, format!("unknown key `{}`", key.text))
                .label(format!("not a key of {}", place.name()))
                .hint(Some(hint)),
        );
        near
    }

    fn not_built(&mut self, at: At, name: &str, place: &Place) {
        let message = format!("`{name}` is not built yet");
        let label = "this version does not have it";
        self.findings.push(Finding::new(at, &place.path, message).label(label).not_built());
    }

    fn wrong_kind(&mut self, allowed: &Allowed<'s>, schema: &'s Json, node: &Node, place: &Place) {
        let what = expected(allowed, schema, &place.pattern);
        let message = format!("{} is {}, not {}", place.name(), node.kind(), what);
        let at = if node.at.start == node.at.end { place.at } else { node.at };
        let element = allowed.items.is_some() && !matches!(node.value, Value::List(_));
        let hint = element.then(|| "each element of a list begins with `- `".to_owned());
        self.findings.push(Finding::new(at, &place.path, message).label(format!("expected {what}")).hint(hint));
    }
}

/// The place of an element: that of its first key, when it is a mapping.
fn item_at(node: &Node) -> At {
    match &node.value {
        Value::Map(entries) => entries.first().map_or(node.at, |(key, _)| key.at),
        _ => node.at,
    }
}

/// What a schema allows, in words.
fn expected(allowed: &Allowed<'_>, schema: &Json, pattern: &str) -> String {
    let mut ways = Vec::new();
    if let Some(text) = allowed.text {
        let title = text["title"].as_str().unwrap_or("text");
        let article = if title.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
        let example = text["examples"].get(0).and_then(Json::as_str);
        let example = example.map(|example| format!(" such as `{example}`")).unwrap_or_default();
        ways.push(if title == "text" { title.to_owned() } else { format!("{article} {title}{example}") });
    } else if allowed.integer {
        ways.push("a whole number".to_owned());
    }
    if allowed.boolean {
        ways.push("true or false".to_owned());
    }
    match allowed.words.len() {
        0 => {}
        1 => ways.push(format!("`{}`", allowed.words[0])),
        _ => ways.push(format!("one of {}", quoted(allowed.words.iter().map(String::as_str)))),
    }
    if allowed.items.is_some() {
        ways.push("a list".to_owned());
    }
    if allowed.mapping && allowed.tagged && allowed.words.is_empty() {
        ways.push(format!("a mapping with the key {}", quoted(allowed.properties.keys().copied())));
    } else if allowed.mapping {
        ways.push("a mapping".to_owned());
    }
    debug_assert!(!ways.is_empty(), "a schema that allows nothing at `{pattern}`: {schema}");
    ways.join(", or ")
}

fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The schema at a place of the table, `None` when the schema has no such place.
    fn allowed_at(pattern: &str) -> Option<(Vec<String>, Vec<String>)> {
        let root: &'static Json = Box::leak(Box::new(crate::schema::schema()));
        let shape = Shape { root, findings: &mut Vec::new() };
        let mut schema = root;
        for step in pattern.split('.') {
            let (name, list) = step.strip_suffix("[]").map_or((step, false), |name| (name, true));
            let mut allowed = Allowed::default();
            shape.collect(schema, &mut allowed, 0);
            schema = if name == "*" { allowed.chosen? } else { allowed.properties.get(name).copied()? };
            if list {
                let mut allowed = Allowed::default();
                shape.collect(schema, &mut allowed, 0);
                schema = allowed.items?;
            }
        }
        let mut allowed = Allowed::default();
        shape.collect(schema, &mut allowed, 0);
        Some((allowed.words, allowed.properties.keys().map(|k| (*k).to_owned()).collect()))
    }

    #[test]
    fn what_is_not_built_stands_at_a_place_of_the_schema_and_is_not_in_it() {
        for place in not_built::places() {
            let (words, keys) = allowed_at(place).unwrap_or_else(|| panic!("no such place: {place}"));
            for name in not_built::at(place) {
                assert!(
                    !words.iter().any(|w| w == name) && !keys.iter().any(|k| k == name),
                    "{place}: {name} is built"
                );
            }
        }
    }
}
