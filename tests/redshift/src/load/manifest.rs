//! The manifest: which objects a COPY loads.

use serde::Deserialize;

/// An object of S3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) bucket: String,
    pub(crate) key: String,
}

impl Address {
    /// Reads `s3://bucket/key`.
    pub(crate) fn parse(url: &str) -> Option<Self> {
        let (bucket, key) = url.strip_prefix("s3://")?.split_once('/')?;
        let whole = !bucket.is_empty() && !key.is_empty();
        whole.then(|| Self { bucket: bucket.to_owned(), key: key.to_owned() })
    }
}

/// One object to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) url: String,
    pub(crate) address: Address,
    /// Its absence fails the load.
    pub(crate) mandatory: bool,
    /// What its length must be.
    pub(crate) content_length: Option<u64>,
}

#[derive(Deserialize)]
struct Document {
    entries: Vec<Line>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    url: String,
    #[serde(default)]
    mandatory: bool,
    #[serde(default)]
    meta: Meta,
}

#[derive(Deserialize, Default)]
struct Meta {
    content_length: Option<u64>,
}

/// Reads a manifest.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn read(text: &[u8]) -> Result<Vec<Entry>, String> {
    let document: Document = serde_json::from_slice(text).map_err(|error| format!("invalid manifest: {error}"))?;
    if document.entries.is_empty() {
        return Err("The manifest has no entries".to_owned());
    }
    let entry = |line: Line| {
        let address = Address::parse(&line.url)
            .ok_or_else(|| format!("Manifest entry '{}' is no full path of an object", line.url))?;
        Ok(Entry { url: line.url, address, mandatory: line.mandatory, content_length: line.meta.content_length })
    };
    document.entries.into_iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_with_what_must_hold() {
        let text = br#"{"entries":[{"url":"s3://b/a/k.gz","mandatory":true,"meta":{"content_length":12}},{"url":"s3://b/k"}]}"#;
        let entries = read(text).expect("a manifest");
        assert_eq!(entries[0].address, Address { bucket: "b".to_owned(), key: "a/k.gz".to_owned() });
        assert_eq!((entries[0].mandatory, entries[0].content_length), (true, Some(12)));
        assert_eq!((entries[1].mandatory, entries[1].content_length), (false, None));
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        for text in
            ["", "{}", r#"{"entries":[]}"#, r#"{"entries":[{"url":"b/k"}]}"#, r#"{"entries":[{"url":"s3://b"}]}"#]
        {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
    }
}
