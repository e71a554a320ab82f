//! What the parts of a worker know of texts in a config: whoever will read a text says whether it is one.

use standpipe_config::config::Deserializer;
use standpipe_config::{Checks, TextError};
use standpipe_convert::{Columns, Joda, RowFormat, orc_supports};
use standpipe_transform::jq::Limits;
use standpipe_transform::{Jq, Regex};

use crate::formats;

/// The parts that a worker is made of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known;

impl Checks for Known {
    fn columns(&self, text: &str) -> Result<(), TextError> {
        Columns::parse(text).map(drop).map_err(said)
    }

    fn schema(&self, text: &str) -> Result<(), TextError> {
        Columns::from_schema(text).map(drop).map_err(said)
    }

    fn orc(&self, schema: &str) -> Result<(), TextError> {
        // A schema that is none has been said to be none.
        Columns::from_schema(schema).map_or(Ok(()), |columns| orc_supports(&columns)).map_err(said)
    }

    fn rows(&self, schema: &str, deserializer: &Deserializer) -> Result<(), TextError> {
        let Ok(columns) = Columns::from_schema(schema) else { return Ok(()) };
        let deserializer = formats::deserializer(deserializer).map_err(said)?;
        RowFormat::new(columns, deserializer).map(drop).map_err(said)
    }

    fn joda(&self, pattern: &str) -> Result<(), TextError> {
        pattern.parse::<Joda>().map(drop).map_err(said)
    }

    fn jq(&self, program: &str) -> Result<(), TextError> {
        Jq::new(program, Limits::default()).map(drop).map_err(|error| TextError {
            reason: error.message,
            hint: None,
            part: Some(error.span),
        })
    }

    fn regex(&self, pattern: &str) -> Result<(), TextError> {
        // The library draws the pattern, and says what is wrong in its last line.
        let last = |text: String| text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Regex::new(pattern).map(drop).map_err(|error| last(error).into())
    }
}

fn said(error: impl std::fmt::Display) -> TextError {
    error.to_string().into()
}
