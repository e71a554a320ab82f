//! Texts of a record, by jq: what a destination names a document by.
//!
//! Never here: what the texts are for.

use crate::jq::{JqError, Limits, Programs};
use crate::stage::Fault;

/// Programs that are run over one record.
#[derive(Clone, Debug)]
pub struct Texts(Programs);

impl Texts {
    /// Compiles the programs; the first that is wrong is told.
    pub fn new(programs: &[&str], limits: Limits) -> Result<Self, JqError> {
        Programs::new(programs, limits).map(Self).map_err(|(_, error)| error)
    }

    /// The first output of each program for the record's first JSON document, as text; none for null, and where there is
    /// none. An array or an object is no text.
    pub fn of(&self, data: &[u8]) -> Result<Vec<Option<String>>, Fault> {
        self.0.texts(data)
    }
}
