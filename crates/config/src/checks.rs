//! What other crates know about texts that stand in a configuration: a jq program is compiled by whoever will run it.
//!
//! Never: what a finding looks like.

use std::ops::Range;

use crate::config::Deserializer;

/// Whether a text is what it should be, with the reason when it is not.
pub trait Checks {
    /// The column list of a table.
    fn columns(&self, text: &str) -> Result<(), TextError>;

    /// The content of a file that describes a table.
    fn schema(&self, text: &str) -> Result<(), TextError>;

    /// Whether ORC files can hold the columns of such a text.
    fn orc(&self, schema: &str) -> Result<(), TextError>;

    /// Whether records can become rows of these columns in this way.
    fn rows(&self, schema: &str, deserializer: &Deserializer) -> Result<(), TextError>;

    /// A pattern of Joda-Time, or `millis`.
    fn joda(&self, pattern: &str) -> Result<(), TextError>;

    /// A jq program.
    fn jq(&self, program: &str) -> Result<(), TextError>;

    /// A regular expression with named groups.
    fn regex(&self, pattern: &str) -> Result<(), TextError>;
}

/// Why a text is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TextError {
    /// What is wrong, in lowercase without a period.
    pub reason: String,
    /// What to write instead, when that is known.
    pub hint: Option<String>,
    /// The bytes of the text that are meant, when that is known.
    pub part: Option<Range<usize>>,
}

impl From<String> for TextError {
    fn from(reason: String) -> Self {
        Self { reason, hint: None, part: None }
    }
}

/// Takes every text: for whoever looks at other things.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unchecked;

impl Checks for Unchecked {
    fn columns(&self, _: &str) -> Result<(), TextError> {
        Ok(())
    }
    fn schema(&self, _: &str) -> Result<(), TextError> {
        Ok(())
    }
    fn orc(&self, _: &str) -> Result<(), TextError> {
        Ok(())
    }
    fn rows(&self, _: &str, _: &Deserializer) -> Result<(), TextError> {
        Ok(())
    }
    fn joda(&self, _: &str) -> Result<(), TextError> {
        Ok(())
    }
    fn jq(&self, _: &str) -> Result<(), TextError> {
        Ok(())
    }
    fn regex(&self, _: &str) -> Result<(), TextError> {
        Ok(())
    }
}
