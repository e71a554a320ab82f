//! What the parts of the program know of texts in a config: whoever will read a text says whether it is one.

use standpipe_config::{Checks, TextError};
use standpipe_convert::Columns;

/// The parts that this program is made of.
pub(crate) struct Known;

impl Checks for Known {
    fn columns(&self, text: &str) -> Result<(), TextError> {
        Columns::parse(text).map(drop).map_err(|error| error.to_string().into())
    }
    fn schema(&self, text: &str) -> Result<(), TextError> {
        Columns::parse(text).map(drop).map_err(|error| error.to_string().into())
    }
    fn orc(&self, _: &str) -> Result<(), TextError> {
        Ok(())
    }
    fn jq(&self, _: &str) -> Result<(), TextError> {
        Ok(())
    }
    fn regex(&self, _: &str) -> Result<(), TextError> {
        Ok(())
    }
}
