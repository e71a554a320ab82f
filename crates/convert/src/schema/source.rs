//! A schema that others wrote -> columns: which language it is, and where in it an error stands.
//!
//! [`Columns::from_schema`] tells by the content: what begins with `{` is JSON (Avro's records, Arrow's schemas, JSON
//! Schema, Glue's answers), `CREATE ... TABLE` a statement of Hive or Athena, anything else a column list.
//!
//! Never here: reading a file, asking a service.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{Column, ColumnType, Columns, SchemaError, TYPE_DEPTH_MAX, arrow, avro, fold, glue, json_schema, parse};

/// A schema that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{place}: {message}")]
pub struct SourceError {
    /// Where: `line 3, column 8`, or a path in a JSON document, `fields[2].type`.
    pub place: String,
    /// What is wrong there.
    pub message: String,
}

impl Columns {
    /// Reads a schema of any of the languages.
    pub fn from_schema(text: &str) -> Result<Self, SourceError> {
        let columns = if text.trim_start().starts_with(['{', '[']) {
            let json: Json = serde_json::from_str(text).map_err(|error| broken(&error))?;
            of_json(&Node::root(&json))?
        } else {
            parse::table(text).map_err(|error| in_text(text, &error))?
        };
        Self::checked(columns)
    }

    /// Columns as they are given, if they are some that [`Columns::parse`] could have read.
    pub(super) fn checked(columns: Vec<Column>) -> Result<Self, SourceError> {
        let place = || "the schema".to_owned();
        if columns.is_empty() {
            return Err(SourceError { place: place(), message: "it has no columns".to_owned() });
        }
        let size = columns.iter().fold(Size::default(), |size, column| size.with(&column.kind));
        size.check().map_err(|message| SourceError { place: place(), message })?;
        Ok(Self(columns))
    }
}

/// Columns that hold values, in all.
const LEAVES_MAX: usize = 10_000;

/// How large a type is: what names and references repeat can be very large.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Size {
    leaves: usize,
    depth: usize,
}

impl Size {
    pub(super) fn of(kind: &ColumnType) -> Self {
        let within = match kind {
            ColumnType::Array(element) => Self::default().with(element),
            ColumnType::Map(key, value) => Self::default().with(key).with(value),
            ColumnType::Struct(columns) => columns.iter().fold(Self::default(), |size, column| size.with(&column.kind)),
            _ => Self { leaves: 1, depth: 0 },
        };
        Self { depth: within.depth + 1, ..within }
    }

    fn with(self, kind: &ColumnType) -> Self {
        let other = Self::of(kind);
        Self { leaves: self.leaves + other.leaves, depth: self.depth.max(other.depth) }
    }

    pub(super) fn check(self) -> Result<(), String> {
        if self.leaves > LEAVES_MAX {
            return Err(format!("more than {LEAVES_MAX} columns and fields"));
        }
        if self.depth > TYPE_DEPTH_MAX {
            return Err(format!("at most {TYPE_DEPTH_MAX} types may stand within types"));
        }
        Ok(())
    }
}

fn of_json(root: &Node<'_>) -> Result<Vec<Column>, SourceError> {
    let has = |name| root.get(name).is_some();
    if has("Table") || has("TableVersion") {
        glue::columns(root)
    } else if root.get("type").is_some_and(|kind| kind.text() == Some("record")) {
        avro::columns(root)
    } else if has("fields") || has("schema") {
        arrow::columns(root)
    } else if ["properties", "$ref", "$schema", "type", "allOf"].into_iter().any(has) {
        json_schema::columns(root)
    } else {
        Err(root.wrong(
            "it is none of: an Avro record, an Arrow schema, a JSON Schema of an object, an answer of Glue's GetTable",
        ))
    }
}

fn broken(error: &serde_json::Error) -> SourceError {
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    SourceError {
        place: format!("line {}, column {}", error.line(), error.column()),
        message: format!("not JSON: {message}"),
    }
}

/// Columns and lines count from 1.
fn in_text(text: &str, error: &SchemaError) -> SourceError {
    let before = &text[..error.span.start];
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    SourceError { place: format!("line {line}, column {column}"), message: error.reason() }
}

/// A JSON document with the members of its objects in their order: they become columns in it.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Json {
    Null,
    Boolean(bool),
    Number(f64),
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value as f64))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Json, A::Error> {
        let mut array = Vec::new();
        while let Some(value) = values.next_element()? {
            array.push(value);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let mut object = Vec::new();
        while let Some(member) = members.next_entry()? {
            object.push(member);
        }
        Ok(Json::Object(object))
    }
}

/// A value in a document, and the way to it.
#[derive(Clone, Debug)]
pub(super) struct Node<'a> {
    pub(super) json: &'a Json,
    pub(super) path: String,
    /// Types around it.
    pub(super) depth: usize,
}

impl<'a> Node<'a> {
    pub(super) fn root(json: &'a Json) -> Self {
        Self { json, path: String::new(), depth: 0 }
    }

    /// A member of an object; `null` is none.
    pub(super) fn get(&self, name: &str) -> Option<Node<'a>> {
        let Json::Object(members) = self.json else { return None };
        let (_, json) = members.iter().find(|(key, json)| key == name && *json != Json::Null)?;
        Some(self.member(name, json))
    }

    pub(super) fn need(&self, name: &str) -> Result<Node<'a>, SourceError> {
        self.get(name).ok_or_else(|| self.wrong(&format!("it has no `{name}`")))
    }

    fn member(&self, name: &str, json: &'a Json) -> Node<'a> {
        let dot = if self.path.is_empty() { "" } else { "." };
        Node { json, path: format!("{}{dot}{name}", self.path), depth: self.depth }
    }

    /// The members of an object.
    pub(super) fn members(&self) -> Result<Vec<(&'a str, Node<'a>)>, SourceError> {
        match self.json {
            Json::Object(members) => Ok(members.iter().map(|(key, json)| (&**key, self.member(key, json))).collect()),
            _ => Err(self.wrong("it is no object")),
        }
    }

    pub(super) fn elements(&self) -> Result<Vec<Node<'a>>, SourceError> {
        let Json::Array(values) = self.json else { return Err(self.wrong("it is no array")) };
        let element = |(index, json)| Node { json, path: format!("{}[{index}]", self.path), depth: self.depth };
        Ok(values.iter().enumerate().map(element).collect())
    }

    pub(super) fn text(&self) -> Option<&'a str> {
        if let Json::Text(text) = self.json { Some(text) } else { None }
    }

    pub(super) fn need_text(&self) -> Result<&'a str, SourceError> {
        self.text().ok_or_else(|| self.wrong("it is no string"))
    }

    /// A whole number of a range.
    pub(super) fn whole(&self, range: std::ops::RangeInclusive<u8>) -> Result<u8, SourceError> {
        let wrong = || self.wrong(&format!("it is no whole number of {} to {}", range.start(), range.end()));
        let Json::Number(number) = self.json else { return Err(wrong()) };
        let whole = *number as u8;
        if f64::from(whole) == *number && range.contains(&whole) { Ok(whole) } else { Err(wrong()) }
    }

    /// The decimal that `precision` and `scale` beside each other say.
    pub(super) fn decimal(&self) -> Result<ColumnType, SourceError> {
        let precision = self.need("precision")?.whole(1..=38)?;
        let scale = self.get("scale").map_or(Ok(0), |scale| scale.whole(0..=precision))?;
        Ok(ColumnType::Decimal { precision, scale })
    }

    /// The same one type further in.
    pub(super) fn inner(mut self) -> Result<Self, SourceError> {
        self.depth += 1;
        if self.depth < TYPE_DEPTH_MAX {
            Ok(self)
        } else {
            Err(self.wrong(&format!("at most {TYPE_DEPTH_MAX} types may stand within types")))
        }
    }

    pub(super) fn wrong(&self, message: &str) -> SourceError {
        let place = if self.path.is_empty() { "the document".to_owned() } else { self.path.clone() };
        SourceError { place, message: message.to_owned() }
    }
}

/// Columns of named types, one a node: names that are not empty and differ in more than case.
pub(super) fn named_columns<'a>(
    fields: Vec<(&str, Node<'a>)>,
    mut kind: impl FnMut(&Node<'a>) -> Result<ColumnType, SourceError>,
) -> Result<Vec<Column>, SourceError> {
    let mut seen = std::collections::BTreeSet::new();
    let column = |(name, node): (&str, Node<'a>)| {
        if name.is_empty() {
            return Err(node.wrong("it has no name"));
        }
        if !seen.insert(fold(name)) {
            return Err(node.wrong(&format!("`{name}` differs from a name before it in case alone, or not at all")));
        }
        Ok(Column { name: name.to_owned(), kind: kind(&node)? })
    };
    fields.into_iter().map(column).collect()
}

#[cfg(test)]
mod tests;
