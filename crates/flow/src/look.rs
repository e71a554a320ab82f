//! What is found when a service is asked, before anything runs, whether it is as the config says: one [`Look`] a question.
//!
//! For people, and read-only. Never here: a question.

use crate::deliver::DeliveryError;

/// What one question came to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Found {
    /// It is as it should be.
    Fine,
    /// Nothing is wrong that was seen; something should be known: what is made later, or cannot be asked.
    Note,
    /// Nobody answered, or only that it is not possible now.
    Silent,
    /// The present identity may not do it.
    Denied,
    /// The service or the config must change.
    Wrong,
}

/// What was asked, what was found, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Look {
    /// The thing that was asked about: `bucket acme-lake`.
    pub what: String,
    /// What it came to.
    pub found: Found,
    /// What was seen, or what is wrong.
    pub says: String,
    /// What to change, or which right is missing.
    pub hint: Option<String>,
}

impl Look {
    /// As it should be.
    pub fn fine(what: impl Into<String>, says: impl Into<String>) -> Self {
        Self { what: what.into(), found: Found::Fine, says: says.into(), hint: None }
    }

    /// To be known.
    pub fn note(what: impl Into<String>, says: impl Into<String>) -> Self {
        Self { found: Found::Note, ..Self::fine(what, says) }
    }

    /// To be changed.
    pub fn wrong(what: impl Into<String>, says: impl Into<String>) -> Self {
        Self { found: Found::Wrong, ..Self::fine(what, says) }
    }

    /// Not permitted.
    pub fn denied(what: impl Into<String>, says: impl Into<String>) -> Self {
        Self { found: Found::Denied, ..Self::fine(what, says) }
    }

    /// Not answered.
    pub fn silent(what: impl Into<String>, says: impl Into<String>) -> Self {
        Self { found: Found::Silent, ..Self::fine(what, says) }
    }

    /// With what is to be done.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// A failure of a destination, as its kind says it.
    pub fn failed(what: impl Into<String>, error: DeliveryError) -> Self {
        match error {
            DeliveryError::Retry { cause, .. } => Self::silent(what, cause),
            DeliveryError::Halt { cause } | DeliveryError::Reject { cause } => Self::wrong(what, cause),
        }
    }
}
