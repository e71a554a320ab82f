//! Writes one JSON object, field by field.

use serde::Serialize;
use serde_json::{Map, Value};

/// A JSON object in the making.
#[derive(Debug)]
pub(super) struct Object(Vec<u8>);

impl Object {
    pub(super) fn new() -> Self {
        Self(vec![b'{'])
    }

    /// Adds a field; the name is the caller's to be unique.
    pub(super) fn field(mut self, name: &str, value: impl Serialize) -> Self {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        serde_json::to_writer(&mut self.0, name).expect("a string has JSON, and a vector takes every byte");
        self.0.push(b':');
        serde_json::to_writer(&mut self.0, &value).expect("values with string keys have JSON");
        self
    }

    /// Adds a field if there is a value.
    pub(super) fn field_if(self, name: &str, value: Option<impl Serialize>) -> Self {
        match value {
            Some(value) => self.field(name, value),
            None => self,
        }
    }

    /// The text.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }
}

/// Adds a value to those of a name: what comes again becomes an array. No value is an array itself.
pub(super) fn add(fields: &mut Map<String, Value>, name: &str, value: Value) {
    match fields.get_mut(name) {
        None => {
            fields.insert(name.to_owned(), value);
        }
        Some(Value::Array(values)) => values.push(value),
        Some(first) => *first = Value::Array(vec![first.take(), value]),
    }
}
