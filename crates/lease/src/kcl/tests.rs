use proptest::prelude::*;

use super::*;
use crate::testing;

fn java_row() -> Item {
    [
        ("leaseKey", text("shardId-000000000001")),
        ("leaseOwner", text("host:9d1")),
        ("leaseCounter", number(42)),
        ("checkpoint", text("49590338271490256608559692538361571095921575989136588898")),
        ("checkpointSubSequenceNumber", number(3)),
        ("ownerSwitchesSinceCheckpoint", number(1)),
        ("parentShardId", AttributeValue::Ss(vec!["shardId-000000000000".into()])),
        ("startingHashKey", text("0")),
        ("endingHashKey", text("340282366920938463463374607431768211455")),
        ("throughputKBps", AttributeValue::N("12.345678".into())),
        ("pendingCheckpoint", text("7")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn with(name: &str, value: AttributeValue) -> Item {
    let mut item = java_row();
    item.insert(name.to_owned(), value);
    item
}

#[test]
fn a_row_that_a_java_worker_wrote_is_read_as_it_is() {
    let row = decode(&java_row()).expect("a row").expect("a lease");
    assert_eq!(row.owner, Some(WorkerId::new("host:9d1")));
    assert_eq!((row.counter, row.owner_switches), (42, 1));
    assert_eq!(row.checkpoint.sub(), 3);
    assert_eq!(row.parents, [ShardId::new("shardId-000000000000")].into());
    assert_eq!(row.hash_range, Some(HashRange { start: 0, end: u128::MAX }));
    assert_eq!((row.tenure, row.own_checkpoint, row.version), (None, None, None));
    assert_eq!(row.generation, Generation(0));
    assert!(row.destinations.is_empty());
}

#[test]
fn a_row_with_no_entity_type_is_a_lease_and_so_is_one_with_lease() {
    assert!(decode(&java_row()).expect("a row").is_some());
    assert!(decode(&with("entityType", text("LEASE"))).expect("a row").is_some());
}

#[test]
fn a_row_of_another_entity_type_is_no_lease() {
    for entity in ["WORKER_METRIC_STATS", "LEADER", "CLIENT_VERSION_MIGRATION", "SOMETHING_NEW"] {
        let item = [("leaseKey", text("Leader")), ("entityType", text(entity))];
        let item = item.map(|(name, value)| (name.to_owned(), value)).into();
        assert_eq!(decode(&item), Ok(None), "{entity}");
    }
}

#[test]
fn half_a_row_is_an_error_that_names_what_is_missing() {
    for missing in ["leaseCounter", "checkpoint", "checkpointSubSequenceNumber", "ownerSwitchesSinceCheckpoint"] {
        let mut item = java_row();
        item.remove(missing);
        let error = decode(&item).expect_err("half a row");
        assert!(matches!(&error, RowError::Half { attribute, .. } if attribute == missing), "{error}");
        assert_eq!(error.key(), "shardId-000000000001");
    }
    assert!(matches!(decode(&Item::new()), Err(RowError::Half { .. })));
}

#[test]
fn a_checkpoint_that_is_no_position_means_hands_off() {
    for checkpoint in ["LATEST", "AT_TIMESTAMP"] {
        let mut item = with("checkpoint", text(checkpoint));
        item.insert("checkpointSubSequenceNumber".into(), number(0));
        assert!(matches!(decode(&item), Err(RowError::NoPosition { .. })), "{checkpoint}");
    }
    assert!(matches!(decode(&with("checkpoint", text("0x7"))), Err(RowError::Malformed { .. })));
    // A sentinel with a sub-sequence number could never equal our copy of it.
    assert!(matches!(decode(&with("checkpoint", text("TRIM_HORIZON"))), Err(RowError::Malformed { .. })));
}

#[test]
fn a_multi_stream_lease_means_hands_off() {
    assert!(matches!(decode(&with("streamName", text("123:orders:1"))), Err(RowError::MultiStream { .. })));
    let key = text("000000000000:orders:1795650493:shardId-000000000000");
    assert!(matches!(decode(&with("leaseKey", key)), Err(RowError::MultiStream { .. })));
}

#[test]
fn a_pending_commit_of_an_unknown_mode_is_read_as_such() {
    let map = |mode: Option<&str>| {
        let mut map: Item = [
            ("at", text("TRIM_HORIZON")),
            ("sub", number(0)),
            ("to", text("9")),
            ("toSub", number(1)),
            ("cid", bytes(&[7; 16])),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        map.extend(mode.map(|mode| ("mode".to_owned(), text(mode))));
        AttributeValue::M(map.into_iter().collect())
    };
    for (mode, read) in [
        (Some("staged"), PendingMode::Staged),
        (Some("declared"), PendingMode::Declared),
        (Some("teleported"), PendingMode::Unknown),
        (None, PendingMode::Unknown),
    ] {
        let row = decode(&with("sp_lake", map(mode))).expect("a row").expect("a lease");
        let pending = row.destinations[&DestinationId::new("lake")].pending.clone().expect("pending");
        assert_eq!((pending.mode, pending.cid), (read, CommitId([7; 16])));
    }
}

#[test]
fn attributes_of_an_unknown_version_are_not_looked_at() {
    let mut item = with("spVersion", number(2));
    item.insert("sp_lake".into(), text("a form of the future"));
    item.insert("spTenure".into(), number(5));
    let row = decode(&item).expect("a row").expect("a lease");
    assert!(!row.version_known());
    assert!(row.destinations.is_empty());
    item.insert("spVersion".into(), number(1));
    assert!(decode(&item).is_err());
}

fn arbitrary_value() -> impl Strategy<Value = AttributeValue> {
    let leaf = prop_oneof![
        "[0-9]{0,30}".prop_map(AttributeValue::S),
        prop_oneof![Just("TRIM_HORIZON"), Just("LATEST"), Just("SHARD_END"), Just("staged")].prop_map(text),
        "-?[0-9]{0,40}(\\.[0-9]+)?".prop_map(AttributeValue::N),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(|raw| bytes(&raw)),
        proptest::collection::vec("[a-z]{0,3}", 0..3).prop_map(AttributeValue::Ss),
        any::<bool>().prop_map(AttributeValue::Bool),
        Just(AttributeValue::Null(true)),
    ];
    leaf.prop_recursive(2, 12, 5, |inner| {
        let name =
            prop_oneof![Just("at"), Just("sub"), Just("t"), Just("to"), Just("toSub"), Just("cid"), Just("mode")];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(AttributeValue::L),
            proptest::collection::vec((name, inner), 0..7)
                .prop_map(|map| AttributeValue::M(map.into_iter().map(|(n, v)| (n.to_owned(), v)).collect())),
        ]
    })
}

proptest! {
    #[test]
    fn rows_round_trip(row in testing::row()) {
        prop_assert_eq!(decode(&encode(&row)), Ok(Some(row)));
    }

    #[test]
    fn no_item_panics(changes in proptest::collection::vec((0_usize..24, arbitrary_value()), 1..6)) {
        let names = [
            "leaseKey", "leaseOwner", "leaseCounter", "checkpoint", "checkpointSubSequenceNumber", "parentShardId",
            "ownerSwitchesSinceCheckpoint", "childShardIds", "startingHashKey", "endingHashKey", "checkpointOwner",
            "entityType", "spTenure", "spCheckpoint", "spSub", "spGen", "spStart", "spStream", "spNext", "spOff",
            "spVersion", "sp_lake", "sp_", "streamName",
        ];
        let mut item = java_row();
        for (index, value) in changes {
            item.insert(names[index].to_owned(), value);
        }
        let _ = decode(&item);
    }
}
