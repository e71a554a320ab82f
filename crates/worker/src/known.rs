//! What the parts of a worker know of texts in a config: whoever will read a text says whether it is one.

use standpipe_config::config::Deserializer;
use standpipe_config::{Checks, TextError};
use standpipe_convert::{Columns, Joda, orc_supports};
use standpipe_transform::Regex;

use crate::formats;

/// The parts that a worker is made of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known;

impl Checks for Known {
    fn columns(&self, text: &str) -> Result<(), TextError> {
        Columns::parse(text).map(drop).map_err(said)
    }

    fn schema(&self, text: &str) -> Result<(), TextError> {
        Columns::parse(text).map(drop).map_err(said)
    }

    fn orc(&self, schema: &str) -> Result<(), TextError> {
        // A schema that is none has been said to be none.
        Columns::parse(schema).map_or(Ok(()), |columns| orc_supports(&columns)).map_err(said)
    }

    fn rows(&self, schema: &str, deserializer: &Deserializer) -> Result<(), TextError> {
        if Columns::parse(schema).is_err() {
            return Ok(());
        }
        formats::row_format(schema, deserializer).map(drop).map_err(said)
    }

    fn joda(&self, pattern: &str) -> Result<(), TextError> {
        pattern.parse::<Joda>().map(drop).map_err(said)
    }

    fn jq(&self, _: &str) -> Result<(), TextError> {
        Ok(())
    }

    fn regex(&self, pattern: &str) -> Result<(), TextError> {
        Regex::new(pattern).map(drop).map_err(said)
    }
}

fn said(error: impl std::fmt::Display) -> TextError {
    error.to_string().into()
}
