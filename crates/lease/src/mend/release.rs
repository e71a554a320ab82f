//! `lease ->`: one lease is let go. A live owner is asked the way a newcomer asks (`spNext`): it stops reading, delivers
//! what is buffered, finalizes, and gives the lease back. A dead one cannot be asked: the lease is taken from it, as any
//! worker would take it.
//!
//! Never here: a live owner that loses a lease, unless that was asked for by name (`force`).

use std::collections::BTreeMap;
use std::time::Duration;

use standpipe_flow::write;
use standpipe_flow::{CommitError, LeaseKey, WorkerId};

use super::look::Look;
use super::{Mend, MendError, TRIES, pause};
use crate::plan::foreign;

/// Between two looks at a lease that is being drained.
const LOOK: Duration = Duration::from_millis(500);

/// How a lease is let go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Release {
    /// Nobody holds it.
    Unowned,
    /// Its owner has been asked by another already.
    Asked {
        /// The owner.
        owner: WorkerId,
        /// Who asked.
        next: WorkerId,
    },
    /// Its owner is asked, and drains it.
    Ask {
        /// The owner.
        owner: WorkerId,
        /// Who gets it first: the live worker with the fewest leases; `None`: whoever is first.
        next: Option<WorkerId>,
    },
    /// Its owner is dead: anybody may take it at once.
    Free {
        /// The owner.
        owner: WorkerId,
    },
    /// Taken from a live owner, which drops what it has buffered; that is read again.
    TakeAway {
        /// The owner.
        owner: WorkerId,
    },
}

impl Mend {
    /// What releasing a lease means, by a look of more than a failover time.
    pub fn plan_release(&self, look: &Look, lease: &LeaseKey, force: bool) -> Result<Release, MendError> {
        let row = look.lease(lease)?;
        let Some(owner) = row.owner.clone() else { return Ok(Release::Unowned) };
        if look.expired(row, self.failover) {
            return Ok(Release::Free { owner });
        }
        if force {
            return Ok(Release::TakeAway { owner });
        }
        if foreign(row) {
            return Err(MendError::refused(format!(
                "lease {lease} is held by {owner}, a Java worker, which lets nothing go when it is asked: stop it, or add \
                 --force, which takes the lease from it"
            )));
        }
        if let Some(next) = row.next.clone() {
            return Ok(Release::Asked { owner, next });
        }
        let mut leases: BTreeMap<&WorkerId, usize> = BTreeMap::new();
        for row in look.rows.leases.values().filter(|row| look.moving.contains(&row.key)) {
            *leases.entry(row.owner.as_ref().unwrap_or(&owner)).or_default() += 1;
        }
        let others = leases.into_iter().filter(|(other, _)| **other != owner);
        let next = others.min_by_key(|(_, count)| *count).map(|(other, _)| other.clone());
        Ok(Release::Ask { owner, next })
    }

    /// Does it. `me` stands for a worker where nobody else can be named: it never takes, and is waited for 3 s at most.
    pub async fn release(&self, lease: &LeaseKey, plan: &Release, me: &WorkerId) -> Result<(), MendError> {
        match plan {
            Release::Unowned | Release::Asked { .. } => Ok(()),
            Release::Ask { owner, next } => {
                let ask = write::ask(lease, owner, next.as_ref().unwrap_or(me));
                match self.ask(|| self.table.write(&ask)).await {
                    Ok(_) => Ok(()),
                    // An earlier copy of this request was written.
                    Err(CommitError::Refused { now: Some(now), .. })
                        if now.owner.as_ref() == Some(owner) && now.next.is_some() =>
                    {
                        Ok(())
                    }
                    Err(error) => Err(error.into()),
                }
            }
            Release::Free { owner } | Release::TakeAway { owner } => self.free(lease, owner).await,
        }
    }

    async fn free(&self, lease: &LeaseKey, owner: &WorkerId) -> Result<(), MendError> {
        for tries in 1..=TRIES {
            let row = self.row(lease).await?;
            if row.owner.as_ref() != Some(owner) {
                return Ok(());
            }
            match self.table.write(&write::free(&row)).await {
                Ok(_) => return Ok(()),
                // Its owner was faster; or the answer is unclear, which the next look clears up.
                Err(error) if super::passes(&error) => pause(tries).await,
                Err(CommitError::Refused { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(MendError::Unavailable { cause: format!("lease {lease} changes faster than it can be freed") })
    }

    /// Waits until the owner has let the lease go. `false`: not within that time.
    pub async fn await_release(&self, lease: &LeaseKey, owner: &WorkerId, within: Duration) -> Result<bool, MendError> {
        let begun = self.clock.elapsed();
        loop {
            if self.row(lease).await?.owner.as_ref() != Some(owner) {
                return Ok(true);
            }
            if self.clock.elapsed().saturating_sub(begun) >= within {
                return Ok(false);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
