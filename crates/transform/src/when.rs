//! `when`: a predicate over each record, for all destinations or for one.
//!
//! A record is kept where the program's first output is neither false nor null, and dropped where it is, or where there is
//! no output. An error is not an answer: the record is rejected, not dropped. Never here: a change of the record.

use standpipe_flow::Record;

use crate::jq::{JqError, Limits, Programs};
use crate::stage::{Fault, Made, Stage};

/// The stage `when`.
#[derive(Clone, Debug)]
pub struct When {
    programs: Programs,
}

impl When {
    /// Compiles the predicate.
    pub fn new(text: &str, limits: Limits) -> Result<Self, JqError> {
        match Programs::new(&[text], limits) {
            Ok(programs) => Ok(Self { programs }),
            Err((_, error)) => Err(error),
        }
    }

    /// Whether a record of these bytes is kept: where it holds several JSON documents, by any of them.
    pub fn keeps(&self, data: &[u8]) -> Result<bool, Fault> {
        self.programs.keeps(data)
    }
}

impl Stage for When {
    fn name(&self) -> &'static str {
        "when"
    }

    fn apply(&self, record: Record, made: &mut Made) -> Result<(), Fault> {
        if self.keeps(&record.data)? {
            made.pass(record);
        }
        Ok(())
    }
}
