use std::collections::BTreeSet;

use proptest::prelude::*;
use standpipe_flow::write::{self, Take};
use standpipe_flow::{DestinationPosition, Fence, LeaseKey, Tenure};

use super::*;
use crate::testing::{self, at, ids};

fn plain(expression: &Expression) -> (String, String) {
    let mut names: Vec<_> = expression.names.iter().collect();
    names.sort_by_key(|(placeholder, _)| std::cmp::Reverse(placeholder.len()));
    let name_all = |text: &str| {
        names.iter().fold(text.to_owned(), |text, (placeholder, name)| text.replace(placeholder.as_str(), name))
    };
    (name_all(&expression.condition), name_all(expression.update.as_deref().unwrap_or_default()))
}

fn fence() -> Fence {
    Fence {
        lease: LeaseKey::new("shardId-000000000000"),
        owner: WorkerId::new("me"),
        tenure: Tenure([1; 16]),
        generation: Generation(0),
    }
}

#[test]
fn a_heartbeat_with_a_checkpoint_is_the_kcls_own_with_the_fence() {
    let (condition, update) = plain(&render(&write::heartbeat(&fence(), 4, Some(&at(9)))));
    assert_eq!(
        condition,
        "attribute_exists(leaseKey) AND leaseCounter = :v0 AND \
         ((leaseOwner = :v1 AND attribute_not_exists(checkpointOwner)) OR checkpointOwner = :v1) AND spTenure = :v2 AND \
         (attribute_not_exists(spGen) OR spGen = :v3) AND checkpoint = spCheckpoint AND \
         checkpointSubSequenceNumber = spSub"
    );
    assert_eq!(
        update,
        "SET checkpoint = :v4, checkpointSubSequenceNumber = :v5, leaseCounter = :v6, \
         ownerSwitchesSinceCheckpoint = :v7, spCheckpoint = :v8, spSub = :v9 \
         REMOVE pendingCheckpoint, pendingCheckpointState, pendingCheckpointSubSequenceNumber"
    );
}

#[test]
fn a_take_counts_the_owner_switch_and_ends_a_hand_off() {
    let mut row = LeaseRow::new(LeaseKey::new("shardId-000000000000"));
    row.counter = 7;
    let take = Take {
        row: &row,
        worker: &WorkerId::new("me"),
        tenure: Tenure([1; 16]),
        destinations: &ids(&["lake"]),
        retired: &BTreeSet::new(),
    };
    let expression = render(&write::take(&take));
    let (condition, update) = plain(&expression);
    assert_eq!(
        condition,
        "attribute_exists(leaseKey) AND leaseCounter = :v0 AND (attribute_not_exists(spVersion) OR spVersion = :v1)"
    );
    assert!(update.contains("ADD ownerSwitchesSinceCheckpoint "), "{update}");
    assert!(update.contains("REMOVE checkpointOwner, spNext, spOff"), "{update}");
    assert!(update.contains("sp_lake = "), "{update}");
}

#[test]
fn a_commit_compares_the_position_and_writes_the_map_whole() {
    let held = fence();
    let (from, to, lake) = (at(1), at(2), DestinationId::new("lake"));
    let commit = write::commit(&write::CommitWrite {
        fence: &held,
        destination: &lake,
        from: (&from, None),
        to: &to,
        cid: CommitId([9; 16]),
        mode: standpipe_flow::PendingMode::Staged,
        previous: Some(CommitId([8; 16])),
    });
    let expression = render(&commit);
    let (condition, update) = plain(&expression);
    let position =
        "((attribute_not_exists(sp_lake.cid) AND sp_lake.at = :v3 AND sp_lake.sub = :v4) OR sp_lake.cid = :v5)";
    assert!(condition.ends_with(position), "{condition}");
    assert_eq!(update, "SET sp_lake = :v6");
    assert!(expression.values[":v6"].is_m());
}

#[test]
fn an_owner_switch_and_a_checkpoint_in_one_write_do_not_collide() {
    let me = WorkerId::new("me");
    let switch = Change::Owner(me.clone());
    let checkpoint = Change::Checkpoint(at(1));
    let write = |change| RowWrite { lease: LeaseKey::new("s"), require: Vec::new(), change };
    let (_, first) = plain(&render(&write(vec![switch.clone(), checkpoint.clone()])));
    assert!(!first.contains("ADD"), "{first}");
    let expression = render(&write(vec![checkpoint, switch]));
    assert!(!plain(&expression).1.contains("ADD"));
    assert!(expression.values.values().any(|value| value.as_n().is_ok_and(|count| count == "1")));
}

proptest! {
    #[test]
    fn every_placeholder_is_named_and_used((_, write) in testing::row_and_write()) {
        let expression = render(&write);
        let text = format!("{} {}", expression.condition, expression.update.clone().unwrap_or_default());
        let used: BTreeSet<&str> = text
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '#' || c == ':'))
            .filter(|word| word.starts_with(['#', ':']))
            .collect();
        let given: BTreeSet<&str> =
            expression.names.keys().chain(expression.values.keys()).map(String::as_str).collect();
        prop_assert_eq!(used, given);
        prop_assert!(expression.condition.starts_with("attribute_exists(#n0)"));
    }

    #[test]
    fn a_position_is_written_as_it_is_read(position in testing::destination_position()) {
        let mut row = LeaseRow::new(LeaseKey::new("s"));
        let lake = DestinationId::new("lake");
        row.destinations.insert(lake, DestinationPosition::clone(&position));
        let item = kcl::encode(&row);
        prop_assert_eq!(&item["sp_lake"], &kcl::encode_destination(&position));
    }
}
