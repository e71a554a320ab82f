//! A schema in Arrow's JSON ("JSON test data format" of its integration tests) -> columns.
//!
//! Unsigned integers become the next larger type, of 64 bits `decimal(20,0)`; a dictionary is its values' type. Times of
//! day, durations, intervals, unions and run-end encodings are refused.

use super::source::{Node, SourceError, named_columns};
use super::{Column, ColumnType};

pub(super) fn columns(root: &Node<'_>) -> Result<Vec<Column>, SourceError> {
    let schema = root.get("schema").unwrap_or_else(|| root.clone());
    fields(&schema, "fields")
}

fn fields(node: &Node<'_>, name: &str) -> Result<Vec<Column>, SourceError> {
    let mut fields = Vec::new();
    for field in node.need(name)?.elements()? {
        fields.push((field.need("name")?.need_text()?, field.inner()?));
    }
    if fields.is_empty() {
        return Err(node.wrong("it has no fields"));
    }
    named_columns(fields, kind)
}

fn kind(field: &Node<'_>) -> Result<ColumnType, SourceError> {
    let node = field.need("type")?;
    let name = node.need("name")?;
    Ok(match name.need_text()? {
        "bool" => ColumnType::Boolean,
        "int" => integer(&node)?,
        "floatingpoint" => match node.need("precision")?.need_text()? {
            "HALF" | "SINGLE" => ColumnType::Float,
            "DOUBLE" => ColumnType::Double,
            _ => return Err(node.wrong("its precision is none of HALF, SINGLE, DOUBLE")),
        },
        "decimal" => node.decimal()?,
        "utf8" | "largeutf8" | "utf8view" => ColumnType::String,
        "binary" | "largebinary" | "binaryview" | "fixedsizebinary" => ColumnType::Binary,
        "date" => ColumnType::Date,
        "timestamp" => ColumnType::Timestamp,
        "list" | "largelist" | "fixedsizelist" | "listview" | "largelistview" => {
            ColumnType::Array(Box::new(kind(&child(field, 0, 1)?)?))
        }
        "struct" => ColumnType::Struct(fields(field, "children")?),
        "map" => {
            let entries = child(field, 0, 1)?;
            let key = kind(&child(&entries, 0, 2)?)?;
            if key.is_nested() {
                return Err(entries.wrong("the key of a map is no list, map or struct"));
            }
            ColumnType::Map(Box::new(key), Box::new(kind(&child(&entries, 1, 2)?)?))
        }
        other => return Err(name.wrong(&format!("`{other}` of Arrow is no column"))),
    })
}

fn child<'a>(field: &Node<'a>, index: usize, count: usize) -> Result<Node<'a>, SourceError> {
    let children = field.need("children")?;
    let mut elements = children.elements()?;
    if elements.len() != count {
        return Err(children.wrong(&format!("{} children, where {count} belong", elements.len())));
    }
    elements.swap_remove(index).inner()
}

fn integer(node: &Node<'_>) -> Result<ColumnType, SourceError> {
    let signed = node.get("isSigned").is_none_or(|signed| *signed.json != super::source::Json::Boolean(false));
    let width = node.need("bitWidth")?;
    Ok(match (width.whole(8..=64)?, signed) {
        (8, true) => ColumnType::TinyInt,
        (8, false) | (16, true) => ColumnType::SmallInt,
        (16, false) | (32, true) => ColumnType::Int,
        (32, false) | (64, true) => ColumnType::BigInt,
        (64, false) => ColumnType::Decimal { precision: 20, scale: 0 },
        _ => return Err(width.wrong("it is none of 8, 16, 32, 64")),
    })
}
