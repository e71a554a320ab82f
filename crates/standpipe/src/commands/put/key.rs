//! The partition key of a line.

use std::sync::Arc;

use standpipe_flow::Random;

use crate::args::parse::PartitionKey;

/// The longest partition key, in characters (API reference, PutRecordsRequestEntry).
const KEY_CHARS_MAX: usize = 256;

/// Gives each line its partition key.
pub struct Keys {
    key: PartitionKey,
    random: Arc<dyn Random>,
    /// Lines without the field, which got a random key.
    pub without: u64,
}

impl Keys {
    /// Keys as the command line wants them.
    pub fn new(key: PartitionKey, random: Arc<dyn Random>) -> Self {
        Self { key, random, without: 0 }
    }

    /// The key of a line.
    pub fn of(&mut self, line: &[u8]) -> String {
        let found = match &self.key {
            PartitionKey::Random => None,
            PartitionKey::Field(names) => {
                let found = field(line, names);
                self.without += u64::from(found.is_none());
                found
            }
        };
        found.unwrap_or_else(|| format!("{:016x}", self.random.next()))
    }
}

/// The text of a field, if it is a string, a number or a boolean, cut to what Kinesis takes.
fn field(line: &[u8], names: &[String]) -> Option<String> {
    let document: serde_json::Value = serde_json::from_slice(line).ok()?;
    let value = names.iter().try_fold(&document, |value, name| value.get(name))?;
    let text = match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Number(number) => number.to_string(),
        serde_json::Value::Bool(yes) => yes.to_string(),
        serde_json::Value::Null | serde_json::Value::Array(_) | serde_json::Value::Object(_) => return None,
    };
    let text: String = text.chars().take(KEY_CHARS_MAX).collect();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_along_its_path() {
        let names = |path: &[&str]| path.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let line = br#"{"user":{"id":7,"name":"","on":true,"tags":[]},"n":1.50}"#;
        assert_eq!(field(line, &names(&["user", "id"])).as_deref(), Some("7"));
        assert_eq!(field(line, &names(&["user", "on"])).as_deref(), Some("true"));
        for none in [&["user", "name"][..], &["user"], &["user", "tags"], &["x"], &["n", "x"]] {
            assert_eq!(field(line, &names(none)), None, "{none:?}");
        }
        assert_eq!(field(b"no json", &names(&["a"])), None);
        let long = format!("{{\"a\":\"{}\"}}", "é".repeat(300));
        assert_eq!(field(long.as_bytes(), &names(&["a"])).map(|key| key.chars().count()), Some(KEY_CHARS_MAX));
    }
}
