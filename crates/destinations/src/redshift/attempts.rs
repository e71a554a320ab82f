//! `commit -> publish`: which statements of this process may be running. PURE.
//!
//! A statement is remembered from before it is sent until its end is known. One whose answer was lost is sent again under
//! the same token, which is the same statement to the service (for 8 hours), and behind the guard in any case.
//! Never: decides whether a load took effect.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use standpipe_flow::CommitId;

/// What a batch of statements is to do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Task {
    /// Load the commit.
    Load,
    /// Write down that it will never be loaded.
    Fence,
}

/// A batch that was sent, or is about to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Attempt {
    /// `ClientToken`.
    pub(super) token: String,
    /// Its id, once the service has said it.
    pub(super) id: Option<String>,
}

/// Those of this process.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<BTreeMap<(CommitId, Task), Attempt>>);

impl Attempts {
    fn map(&self) -> MutexGuard<'_, BTreeMap<(CommitId, Task), Attempt>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The attempt that is under way, or a new one. `nonce` makes its token new: a token of before would name a statement
    /// that has ended.
    pub(super) fn begin(&self, cid: CommitId, task: Task, nonce: u64) -> Attempt {
        let mark = match task {
            Task::Load => "",
            Task::Fence => "r",
        };
        let new = || Attempt { token: format!("{cid}-{mark}{nonce:016x}"), id: None };
        self.map().entry((cid, task)).or_insert_with(new).clone()
    }

    /// The attempt that is under way.
    pub(super) fn under_way(&self, cid: CommitId, task: Task) -> Option<Attempt> {
        self.map().get(&(cid, task)).cloned()
    }

    /// The service has taken it under this id.
    pub(super) fn taken(&self, cid: CommitId, task: Task, (token, id): (&str, &str)) {
        if let Some(attempt) = self.map().get_mut(&(cid, task)).filter(|attempt| attempt.token == token) {
            attempt.id = Some(id.to_owned());
        }
    }

    /// Its end is known.
    pub(super) fn ended(&self, cid: CommitId, task: Task, token: &str) {
        let mut map = self.map();
        if map.get(&(cid, task)).is_some_and(|attempt| attempt.token == token) {
            map.remove(&(cid, task));
        }
    }
}

#[cfg(test)]
mod tests {
    use standpipe_flow::Millis;

    use super::*;

    #[test]
    fn a_token_is_kept_until_the_end_is_known_and_is_then_another() {
        let (attempts, cid) = (Attempts::default(), CommitId::new(Millis(1), 2, 16));
        let first = attempts.begin(cid, Task::Load, 7);
        assert_eq!(attempts.begin(cid, Task::Load, 8), first);
        assert!(first.token.len() <= 64 && first.token.starts_with(&cid.to_string()));
        attempts.taken(cid, Task::Load, (&first.token, "id-1"));
        assert_eq!(attempts.under_way(cid, Task::Load).and_then(|attempt| attempt.id).as_deref(), Some("id-1"));
        assert_ne!(attempts.begin(cid, Task::Fence, 7).token, first.token);
        attempts.ended(cid, Task::Load, "another");
        assert!(attempts.under_way(cid, Task::Load).is_some());
        attempts.ended(cid, Task::Load, &first.token);
        assert_ne!(attempts.begin(cid, Task::Load, 9).token, first.token);
    }
}
