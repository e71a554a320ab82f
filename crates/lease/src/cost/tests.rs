use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::AttributeValue;
use standpipe_flow::{
    Checksum, CommitId, DestinationId, DestinationPosition, Generation, HashRange, Held, LeaseKey, LeaseRow, Millis,
    Output, OutputKind, Part, Pending, PendingMode, Position, Receipt, ReceiptShard, ReceiptState, SequenceNumber,
    ShardId, Tenure, WorkerId,
};

use super::*;
use crate::kcl::{self, Item};
use crate::receipts;

/// Bytes of an item as DynamoDB counts them (Developer Guide, "DynamoDB item sizes and formats").
fn size(item: &Item) -> f64 {
    item.iter().map(|(name, value)| name.len() + value_size(value)).sum::<usize>() as f64
}

fn value_size(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::N(digits) => digits.len().div_ceil(2) + 1,
        AttributeValue::B(bytes) => bytes.as_ref().len(),
        AttributeValue::Ss(texts) => texts.iter().map(String::len).sum(),
        AttributeValue::L(values) => 3 + values.iter().map(|value| 1 + value_size(value)).sum::<usize>(),
        AttributeValue::M(values) => {
            3 + values.iter().map(|(name, value)| 1 + name.len() + value_size(value)).sum::<usize>()
        }
        _ => 1,
    }
}

fn at(digit: char) -> Position {
    let digits = format!("4966{}", digit.to_string().repeat(52));
    Position::at(SequenceNumber::parse(digits).expect("56 digits"), 0)
}

fn row(destinations: &[&str]) -> LeaseRow {
    let mut row = LeaseRow::new(LeaseKey::new("shardId-000000000012"));
    row.owner = Some(WorkerId::new("standpipe-7c9d8b6f5-x2x4k-01JDHE6Y3V0Q8ZC4T5N6M7P8R9"));
    row.counter = 123_456;
    row.checkpoint = at('1');
    row.parents = BTreeSet::from([ShardId::new("shardId-000000000003")]);
    row.hash_range = Some(HashRange { start: u128::MAX / 3, end: u128::MAX / 2 });
    row.tenure = Some(Tenure([7; 16]));
    row.own_checkpoint = Some(at('1'));
    row.start = Some(Millis(1_790_000_000_000));
    row.stream = Some(vec![9; 32]);
    row.version = Some(1);
    for id in destinations {
        let pending = Pending { to: at('3'), cid: CommitId([1; 16]), mode: PendingMode::Staged };
        let position =
            DestinationPosition { at: at('2'), arrival: Some(Millis(1_790_000_000_000)), pending: Some(pending) };
        row.destinations.insert(DestinationId::new(*id), position);
    }
    row
}

fn receipt(shards: usize) -> Receipt {
    let shard = |number: usize| ReceiptShard {
        lease: LeaseKey::new(format!("shardId-{number:012}")),
        from: at('2'),
        to: at('3'),
        tenure: Tenure([7; 16]),
        generation: Generation(0),
        arrival: Some(Millis(1_790_000_000_000)),
    };
    Receipt {
        gave_up: false,
        cid: CommitId([1; 16]),
        state: ReceiptState::Committed,
        destination: DestinationId::new("lake"),
        shards: (0..shards).map(shard).collect(),
        outputs: vec![Output {
            kind: OutputKind::Data,
            bucket: "acme-lake-production".into(),
            key: "orders/dt=2026-11-25/orders-lake-1-2026-11-25-22-00-00-01JDHE6Y3V0Q8ZC4T5N6M7P8R9.parquet".into(),
            held: Held::Upload {
                id: "u".repeat(128),
                parts: (1..=3).map(|number| Part { number, etag: "e".repeat(34) }).collect(),
            },
            size: 123_456_789,
            checksum: Checksum::Crc64Nvme("c".repeat(12)),
            records: 123_456,
        }],
        config: "0123456789abcdef".into(),
        worker: WorkerId::new("standpipe-7c9d8b6f5-x2x4k-01JDHE6Y3V0Q8ZC4T5N6M7P8R9"),
        version: "0.1.0".into(),
        records: 123_456,
        bytes: 123_456_789,
        created_at: Some(Millis(1_790_000_000_000)),
    }
}

/// Within a quarter, and never too little.
fn assert_near(reckoned: f64, real: f64) {
    assert!(reckoned >= real && reckoned <= 1.25 * real, "reckoned {reckoned} for {real}");
}

#[test]
fn items_are_as_large_as_is_reckoned() {
    for ids in [&["lake"] as &[_], &["lake", "warehouse"], &["lake", "warehouse", "search"]] {
        let reckoned = ROW_BYTES + ROW_BYTES_A_DESTINATION * ids.len() as f64;
        assert_near(reckoned, size(&kcl::encode(&row(ids))));
    }
    for shards in [1, 8, 32] {
        let reckoned = RECEIPT_BYTES + RECEIPT_BYTES_A_SHARD * shards as f64;
        assert_near(reckoned, size(&receipts::encode(&receipt(shards))));
    }
}

fn fleet(shards: u32, workers: u32) -> Fleet {
    Fleet {
        shards,
        workers,
        destinations: 1,
        failover: Duration::from_secs(10),
        commit_every: Duration::from_secs(300),
    }
}

#[test]
fn a_heartbeat_a_lease_costs_a_write_for_every_shard_three_times_a_failover() {
    let cost = cost(&fleet(100, 10), HeartbeatMode::PerLease);
    assert!((cost.heartbeats.writes - 30.0).abs() < 1e-9, "{cost:?}");
    assert_eq!(cost.checkpoints, Units::default());
}

#[test]
fn a_heartbeat_a_worker_costs_a_tenth_where_shards_are_many() {
    let per_lease = cost(&fleet(1000, 50), HeartbeatMode::PerLease);
    let per_worker = cost(&fleet(1000, 50), HeartbeatMode::PerWorker);
    let kept = |cost: &Cost| cost.heartbeats.writes + cost.checkpoints.writes;
    assert!(kept(&per_worker) * 10.0 < kept(&per_lease), "{per_worker:?} {per_lease:?}");
    assert_eq!(per_worker.commits, per_lease.commits);
}

#[test]
fn a_third_destination_costs_a_second_write_unit_a_heartbeat() {
    let writes =
        |destinations| cost(&Fleet { destinations, ..fleet(10, 2) }, HeartbeatMode::PerLease).heartbeats.writes;
    assert_eq!(writes(1), writes(2));
    assert_eq!(writes(3), 2.0 * writes(1));
}

#[test]
fn nothing_costs_nothing_and_no_number_is_no_number() {
    for heartbeat in [HeartbeatMode::PerLease, HeartbeatMode::PerWorker] {
        let none =
            Fleet { shards: 0, workers: 0, destinations: 0, failover: Duration::ZERO, commit_every: Duration::ZERO };
        let total = cost(&none, heartbeat).total();
        assert!(total.writes.is_finite() && total.reads.is_finite(), "{total:?}");
        assert_eq!(cost(&none, heartbeat).commits, Units::default());
    }
}
