//! An Avro schema (specification 1.12) -> columns: those of its outermost record.
//!
//! A union with null is the other type, for every column may be null; other unions are refused. A named type may be used
//! again by its name, but not within itself. Logical types that Avro does not know are passed over, as it says.
//! The records are JSON, not Avro's encoding of data: a decimal is a number, a union has no name of a branch.

use super::source::{Json, Node, Size, SourceError, named_columns};
use super::{Column, ColumnType};

pub(super) fn columns(root: &Node<'_>) -> Result<Vec<Column>, SourceError> {
    match (Reader { named: Vec::new() }).complex(root, "")? {
        ColumnType::Struct(columns) => Ok(columns),
        _ => Err(root.wrong("it is no record")),
    }
}

/// Named types by their full names; the type is not known while its own fields are read.
struct Reader {
    named: Vec<(String, Option<ColumnType>)>,
}

impl Reader {
    fn kind(&mut self, node: &Node<'_>, namespace: &str) -> Result<ColumnType, SourceError> {
        match node.json {
            Json::Text(name) => self.by_name(node, name, namespace),
            Json::Array(_) => self.union(node, namespace),
            _ => match node.need("type")? {
                inner if inner.text().is_some() => self.complex(node, namespace),
                // `{"type": {"type": "array", ...}}`
                inner => self.kind(&inner, namespace),
            },
        }
    }

    fn by_name(&self, node: &Node<'_>, name: &str, namespace: &str) -> Result<ColumnType, SourceError> {
        if let Some(kind) = primitive(name) {
            return Ok(kind);
        }
        if name == "null" {
            return Err(node.wrong("a column that is only ever null has no type"));
        }
        match self.named.iter().rev().find(|(full, _)| *full == full_name(name, namespace)) {
            Some((_, Some(kind))) => Ok(kind.clone()),
            Some((_, None)) => Err(node.wrong(&format!("the type `{name}` is within itself"))),
            None => Err(node.wrong(&format!("`{name}` is no type of Avro, and none that was named before"))),
        }
    }

    fn union(&mut self, node: &Node<'_>, namespace: &str) -> Result<ColumnType, SourceError> {
        let branches: Vec<Node<'_>> =
            node.elements()?.into_iter().filter(|branch| branch.text() != Some("null")).collect();
        match branches.as_slice() {
            [one] => self.kind(one, namespace),
            [] => Err(node.wrong("a column that is only ever null has no type")),
            _ => Err(node.wrong("a union of more than null and one type is no column")),
        }
    }

    fn complex(&mut self, node: &Node<'_>, namespace: &str) -> Result<ColumnType, SourceError> {
        let name = node.need("type")?.need_text()?;
        match (name, node.get("logicalType").and_then(|logical| logical.text())) {
            ("bytes" | "fixed", Some("decimal")) => return self.define(node, namespace, |_, _, node| node.decimal()),
            ("int", Some("date")) => return Ok(ColumnType::Date),
            ("long", Some(logical)) if logical.contains("timestamp-") => return Ok(ColumnType::Timestamp),
            ("fixed", Some("duration")) => return Err(node.wrong("a duration is no column")),
            _ => (),
        }
        match name {
            "record" => self.define(node, namespace, |reader, namespace, node| {
                Ok(ColumnType::Struct(reader.record(node, namespace)?))
            }),
            "enum" => self.define(node, namespace, |_, _, _| Ok(ColumnType::String)),
            "fixed" => self.define(node, namespace, |_, _, _| Ok(ColumnType::Binary)),
            "array" => {
                let element = self.kind(&node.need("items")?.inner()?, namespace)?;
                Ok(ColumnType::Array(Box::new(element)))
            }
            "map" => {
                let value = self.kind(&node.need("values")?.inner()?, namespace)?;
                Ok(ColumnType::Map(Box::new(ColumnType::String), Box::new(value)))
            }
            _ => self.by_name(&node.need("type")?, name, namespace),
        }
    }

    /// Reads a named type, and keeps it for those that use its name.
    fn define(
        &mut self,
        node: &Node<'_>,
        namespace: &str,
        kind: impl FnOnce(&mut Self, &str, &Node<'_>) -> Result<ColumnType, SourceError>,
    ) -> Result<ColumnType, SourceError> {
        let Some(name) = node.get("name") else { return kind(self, namespace, node) };
        let own = node.get("namespace").and_then(|name| name.text()).unwrap_or(namespace);
        let full = full_name(name.need_text()?, own);
        let namespace = full.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
        let place = self.named.len();
        self.named.push((full, None));
        let kind = kind(self, &namespace, node)?;
        // What is used again by its name is copied.
        Size::of(&kind).check().map_err(|message| node.wrong(&message))?;
        self.named[place].1 = Some(kind.clone());
        Ok(kind)
    }

    fn record(&mut self, node: &Node<'_>, namespace: &str) -> Result<Vec<Column>, SourceError> {
        let mut fields = Vec::new();
        for field in node.need("fields")?.elements()? {
            fields.push((field.need("name")?.need_text()?, field.need("type")?.inner()?));
        }
        if fields.is_empty() {
            return Err(node.wrong("a record without fields is no column"));
        }
        named_columns(fields, |kind| self.kind(kind, namespace))
    }
}

fn primitive(name: &str) -> Option<ColumnType> {
    Some(match name {
        "boolean" => ColumnType::Boolean,
        "int" => ColumnType::Int,
        "long" => ColumnType::BigInt,
        "float" => ColumnType::Float,
        "double" => ColumnType::Double,
        "bytes" => ColumnType::Binary,
        "string" => ColumnType::String,
        _ => return None,
    })
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}
