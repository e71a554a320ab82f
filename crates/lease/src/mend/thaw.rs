//! `batch -> stage`: frozen columns are forgotten by a human's hand, so that the next worker that starts infers them anew
//! from its first batch. Only what was looked at is deleted.
//!
//! Never here: a worker that is told. One that runs keeps the columns that it has until it is restarted.

use standpipe_flow::{CommitError, DestinationId};

use super::{Mend, MendError};
use crate::frozen::Frozen;

impl Mend {
    /// The columns that are frozen for a destination.
    pub async fn plan_thaw(&self, id: &DestinationId) -> Result<Frozen, MendError> {
        let frozen = self.ask(|| self.commits.frozen(id)).await?;
        frozen.ok_or_else(|| MendError::refused(format!("no columns are frozen for destination {id}")))
    }

    /// Forgets them, if they are those that were seen.
    pub async fn thaw(&self, id: &DestinationId, seen: &Frozen) -> Result<(), MendError> {
        match self.ask(|| self.commits.thaw(id, seen)).await {
            // Gone: an earlier copy of the request, whose answer was lost, or somebody else.
            Err(CommitError::Refused { .. }) if self.ask(|| self.commits.frozen(id)).await?.is_none() => Ok(()),
            thawed => Ok(thawed?),
        }
    }
}
