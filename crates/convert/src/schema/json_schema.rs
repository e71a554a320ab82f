//! A subset of JSON Schema -> columns: those of an object's `properties`, in their order.
//!
//! What says what a value is, is read: `type` (null beside another type is that type), `properties`, `items`,
//! `additionalProperties` of an object without properties (a map), `format`, `enum`, `const`, `$ref` within the document,
//! `anyOf` and `oneOf` of null and one schema, `allOf` of one. What says more of a value (`minimum`, `pattern`,
//! `required`) is passed over: that is the producer's affair. A schema that allows anything is a string, which holds the
//! JSON text of anything. What no column can be is refused.

use std::cell::Cell;

use super::source::{Json, Node, SourceError, named_columns};
use super::{Column, ColumnType};

/// References that may lead to each other.
const REFERENCES_MAX: usize = 64;

/// References that are followed in all: each is read anew.
const FOLLOWED_MAX: usize = 10_000;

pub(super) fn columns(root: &Node<'_>) -> Result<Vec<Column>, SourceError> {
    match (Reader { root: root.clone(), followed: Cell::new(0) }).kind(root, 0)? {
        ColumnType::Struct(columns) => Ok(columns),
        _ => Err(root.wrong("it does not describe an object with properties")),
    }
}

struct Reader<'a> {
    root: Node<'a>,
    followed: Cell<usize>,
}

impl<'a> Reader<'a> {
    fn kind(&self, node: &Node<'a>, references: usize) -> Result<ColumnType, SourceError> {
        if let Json::Boolean(true) = node.json {
            return Ok(ColumnType::String);
        }
        node.members()?;
        if let Some(reference) = node.get("$ref") {
            return self.kind(&self.target(&reference, node.depth, references)?, references + 1);
        }
        for name in ["anyOf", "oneOf", "allOf"] {
            if let Some(schemas) = node.get(name) {
                let schemas: Vec<Node<'a>> = schemas.elements()?.into_iter().filter(|one| !is_null(one)).collect();
                return match schemas.as_slice() {
                    [one] => self.kind(one, references),
                    _ => Err(node.wrong(&format!("`{name}` of more than null and one schema is no column"))),
                };
            }
        }
        match self.type_name(node)? {
            None if node.get("properties").is_some() => self.object(node, references),
            None if node.get("items").is_some() => self.array(node, references),
            None => Ok(ColumnType::String),
            Some("object") => self.object(node, references),
            Some("array") => self.array(node, references),
            Some("boolean") => Ok(ColumnType::Boolean),
            Some("string") => Ok(match format(node) {
                Some("date-time") => ColumnType::Timestamp,
                Some("date") => ColumnType::Date,
                _ => ColumnType::String,
            }),
            Some("integer") => Ok(if format(node) == Some("int32") { ColumnType::Int } else { ColumnType::BigInt }),
            Some("number") => Ok(if format(node) == Some("float") { ColumnType::Float } else { ColumnType::Double }),
            Some(other) => Err(node.wrong(&format!("`{other}` is no type of JSON Schema"))),
        }
    }

    /// The one type beside null, if it is said.
    fn type_name(&self, node: &Node<'a>) -> Result<Option<&'a str>, SourceError> {
        let names = match node.get("type") {
            Some(kind) if kind.text().is_some() => vec![kind.need_text()?],
            Some(kind) => kind.elements()?.iter().map(Node::need_text).collect::<Result<_, _>>()?,
            None => {
                let values = match (node.get("enum"), node.get("const")) {
                    (Some(values), _) => values.elements()?,
                    (None, Some(value)) => vec![value],
                    (None, None) => return Ok(None),
                };
                values.iter().map(|value| type_of(value.json)).collect()
            }
        };
        let mut names: Vec<&str> = names.into_iter().filter(|name| *name != "null").collect();
        names.dedup();
        match names.as_slice() {
            [] => Err(node.wrong("a column that is only ever null has no type")),
            [one] => Ok(Some(one)),
            ["integer", "number"] | ["number", "integer"] => Ok(Some("number")),
            _ => Err(node.wrong("a value of several types is no column")),
        }
    }

    fn object(&self, node: &Node<'a>, references: usize) -> Result<ColumnType, SourceError> {
        if let Some(properties) = node.get("properties") {
            let mut fields = properties.members()?;
            for (_, field) in &mut fields {
                *field = field.clone().inner()?;
            }
            if !fields.is_empty() {
                return Ok(ColumnType::Struct(named_columns(fields, |field| self.kind(field, references))?));
            }
        }
        match node.get("additionalProperties") {
            Some(value) if matches!(value.json, Json::Object(_)) => {
                let value = self.kind(&value.inner()?, references)?;
                Ok(ColumnType::Map(Box::new(ColumnType::String), Box::new(value)))
            }
            // Its text.
            _ => Ok(ColumnType::String),
        }
    }

    fn array(&self, node: &Node<'a>, references: usize) -> Result<ColumnType, SourceError> {
        let element = match node.get("items") {
            Some(items) if matches!(items.json, Json::Array(_)) => {
                return Err(items.wrong("an array whose elements have a type each is no column"));
            }
            Some(items) => self.kind(&items.inner()?, references)?,
            None => ColumnType::String,
        };
        Ok(ColumnType::Array(Box::new(element)))
    }

    /// What a reference names: a JSON Pointer within the document.
    fn target(&self, reference: &Node<'a>, depth: usize, references: usize) -> Result<Node<'a>, SourceError> {
        let text = reference.need_text()?;
        let Some(pointer) = text.strip_prefix('#') else {
            return Err(reference.wrong("a reference to another document is not followed"));
        };
        self.followed.set(self.followed.get() + 1);
        if references >= REFERENCES_MAX || self.followed.get() > FOLLOWED_MAX {
            return Err(reference.wrong("a schema within itself is no column"));
        }
        let mut node = self.root.clone();
        for name in pointer.split('/').skip(1) {
            let name = name.replace("~1", "/").replace("~0", "~");
            node = node.get(&name).ok_or_else(|| reference.wrong(&format!("`{text}` leads nowhere")))?;
        }
        Ok(Node { depth, ..node })
    }
}

fn is_null(node: &Node<'_>) -> bool {
    node.get("type").is_some_and(|kind| kind.text() == Some("null"))
}

fn format<'a>(node: &Node<'a>) -> Option<&'a str> {
    node.get("format")?.text()
}

fn type_of(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Boolean(_) => "boolean",
        Json::Number(number) if number.fract() == 0.0 => "integer",
        Json::Number(_) => "number",
        Json::Text(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    }
}
