//! What crashed workers left, open uploads and staging objects: listed here, decided by the rule of death, ended by the
//! worker's sweeper.
//!
//! The 24 hours are between two times of S3's own, `Initiated` or `LastModified` and the Date header of the listing: no
//! clock of ours is read (I12). Whose it is says the fingerprint in the commit id of its key; the caller compares it.
//! Never: ends anything. A listing is one page, so that a bucket full of foreign uploads costs no memory.

use std::time::Duration;

use standpipe_flow::{CommitId, Held, Millis, Output, Receipt, ReceiptState};

/// How long a leftover stays untouched. A live batch refuses to commit when older than 6 h, so that none can be hit.
pub const DUE_AFTER: Duration = Duration::from_secs(24 * 3600);

/// A multipart upload that is open, or a staging object, whose key is one of ours by its form.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leftover {
    /// The bucket.
    pub bucket: String,
    /// The key that an upload would become; the staging object's own.
    pub key: String,
    /// The upload; `None` for a staging object.
    pub upload_id: Option<String>,
    /// The commit named in the key.
    pub cid: CommitId,
    /// When it was opened or written, by S3.
    pub initiated: Millis,
    /// When it was listed, by S3's Date header.
    pub now: Millis,
}

/// One page of a listing, and where the next one begins.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Leftovers {
    /// What is on it, in the order of keys.
    pub found: Vec<Leftover>,
    /// The next page; `None` after the last.
    pub next: Option<Page>,
}

/// Where a listing goes on: at which bucket and prefix, and the markers within it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Page {
    pub(super) place: usize,
    pub(super) key_marker: Option<String>,
    pub(super) upload_id_marker: Option<String>,
}

/// What the sweeper does with a leftover that is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It may still be published.
    Keep,
    /// It is dead: no receipt will ever name it, or none that needs it.
    End,
    /// Its commit was given up by everybody (a Java worker finished the shard): RETRACTED IF COMMITTED, then end.
    RetractThenEnd,
}

/// Whether a leftover is old enough to be judged.
pub fn due(leftover: &Leftover) -> bool {
    leftover.now.since(leftover.initiated) >= DUE_AFTER
}

/// The rule of death for a leftover that is [`due`]. `receipt` was read consistently; `carried` says whether any lease
/// row carries the commit, by a consistent read made after that of the receipt.
pub fn verdict(receipt: Option<&Receipt>, upload_id: Option<&str>, carried: bool) -> Verdict {
    let Some(receipt) = receipt else {
        return Verdict::End;
    };
    let named = |output: &Output| matches!(&output.held, Held::Upload { id, .. } if Some(id.as_str()) == upload_id);
    match receipt.state {
        ReceiptState::Committed if carried => Verdict::Keep,
        ReceiptState::Committed => Verdict::RetractThenEnd,
        // DONE and named: what is published cannot be open, so the listing is late. The bucket's own rule ends it.
        ReceiptState::Done if receipt.outputs.iter().any(named) => Verdict::Keep,
        // RETRACTED is final: nothing of it will be visible, whether the receipt names the upload or not. Nothing that is
        // DONE needs a staging object.
        ReceiptState::Done | ReceiptState::Retracted => Verdict::End,
    }
}

/// The prefixes to list, each once: one that begins with another is covered by it.
pub(super) fn distinct<'a>(starts: &[&'a str]) -> Vec<&'a str> {
    let mut sorted: Vec<&str> = starts.to_vec();
    sorted.sort_unstable();
    let mut kept: Vec<&str> = Vec::new();
    for start in sorted {
        if !kept.iter().any(|covering| start.starts_with(covering)) {
            kept.push(start);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use standpipe_flow::{Checksum, DestinationId, OutputKind, WorkerId};

    use super::*;

    fn receipt(state: ReceiptState, upload_id: &str) -> Receipt {
        let output = Output {
            kind: OutputKind::Data,
            bucket: "b".to_owned(),
            key: "k".to_owned(),
            held: Held::Upload { id: upload_id.to_owned(), parts: Vec::new() },
            size: 1,
            checksum: Checksum::Crc64Nvme(String::new()),
            records: 1,
        };
        Receipt {
            gave_up: false,
            cid: CommitId([0; 16]),
            state,
            destination: DestinationId::new("s3"),
            shards: Vec::new(),
            outputs: vec![output],
            config: String::new(),
            worker: WorkerId::new("w"),
            version: String::new(),
            records: 1,
            bytes: 1,
            created_at: None,
        }
    }

    #[test]
    fn the_rule_of_death() {
        use ReceiptState::{Committed, Done, Retracted};
        let verdict = |state: Option<ReceiptState>, named: bool, carried: bool| {
            let receipt = state.map(|state| receipt(state, if named { "u" } else { "another" }));
            let staging_object = super::verdict(receipt.as_ref(), None, carried);
            let upload = super::verdict(receipt.as_ref(), Some("u"), carried);
            assert!(staging_object == upload || (state == Some(Done) && staging_object == Verdict::End));
            upload
        };
        for carried in [false, true] {
            assert_eq!(verdict(None, false, carried), Verdict::End);
            assert_eq!(verdict(Some(Done), true, carried), Verdict::Keep);
            assert_eq!(verdict(Some(Done), false, carried), Verdict::End);
            assert_eq!(verdict(Some(Retracted), true, carried), Verdict::End);
            assert_eq!(verdict(Some(Retracted), false, carried), Verdict::End);
        }
        for named in [false, true] {
            assert_eq!(verdict(Some(Committed), named, true), Verdict::Keep, "it may be published");
            assert_eq!(verdict(Some(Committed), named, false), Verdict::RetractThenEnd);
        }
    }

    #[test]
    fn an_upload_is_due_after_a_day_of_s3s_own_time() {
        let upload = |age_millis: u64| Leftover {
            bucket: "b".to_owned(),
            key: "k".to_owned(),
            upload_id: Some("u".to_owned()),
            cid: CommitId([0; 16]),
            initiated: Millis(1_000),
            now: Millis(1_000 + age_millis),
        };
        let day = 24 * 3600 * 1000;
        assert!(!due(&upload(0)));
        assert!(!due(&upload(day - 1)));
        assert!(due(&upload(day)));
        assert!(!due(&Leftover { now: Millis(0), ..upload(0) }), "a listing from before is no day later");
    }

    #[test]
    fn a_prefix_under_another_is_listed_once() {
        assert_eq!(distinct(&["in/", "in/errors/"]), ["in/"]);
        assert_eq!(distinct(&["in/", "in/"]), ["in/"]);
        assert_eq!(distinct(&["in/", "bad/"]), ["bad/", "in/"]);
        assert_eq!(distinct(&["in/", ""]), [""]);
    }
}
