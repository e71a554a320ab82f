//! Implements, of the arrow `what the user wrote -> what it means`: the JSON Schema of a file, of what is built alone.
//!
//! It comes from the structs of `file.rs`; the shape check walks the very same schema.

use serde_json::Value;

use crate::file::File;

/// The JSON Schema (draft 2020-12) of a configuration file.
#[must_use]
pub fn schema() -> Value {
    let mut generator = schemars::generate::SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.root_schema_for::<File>().to_value();
    one_line(&mut schema);
    schema
}

/// The JSON Schema as `standpipe schema` prints it, with a newline at its end.
#[must_use]
pub fn schema_text() -> String {
    format!("{:#}\n", schema())
}

/// Doc comments are wrapped where the source is; an editor wraps by itself.
fn one_line(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if key == "description" => *text = text.replace('\n', " "),
                    other => one_line(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(one_line),
        _ => {}
    }
}
