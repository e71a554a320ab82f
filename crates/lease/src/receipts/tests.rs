use proptest::prelude::*;

use super::*;
use crate::testing;

fn output() -> impl Strategy<Value = Output> {
    let kind = prop_oneof![Just(OutputKind::Data), Just(OutputKind::Error), Just(OutputKind::Backup)];
    let checksum =
        prop_oneof!["[A-Za-z0-9+/]{11}=".prop_map(Checksum::Crc64Nvme), "[A-Za-z0-9+/]{6}==".prop_map(Checksum::Crc32)];
    let parts = prop_oneof![
        (0_u32..5).prop_map(|count| (1..=count).collect::<Vec<_>>()),
        proptest::collection::btree_set(1_u32..10_001, 0..4).prop_map(|numbers| numbers.into_iter().collect()),
    ];
    (kind, ".{0,8}", ".{0,20}", parts, any::<u64>(), checksum, any::<u64>()).prop_map(
        |(kind, bucket, key, parts, size, checksum, records)| Output {
            kind,
            bucket,
            key,
            upload_id: "upload".to_owned(),
            parts: parts.into_iter().map(|number| Part { number, etag: format!("\"{number:x}\"") }).collect(),
            size,
            checksum,
            records,
        },
    )
}

pub(crate) fn receipt() -> impl Strategy<Value = Receipt> {
    let state = prop_oneof![Just(ReceiptState::Committed), Just(ReceiptState::Done), Just(ReceiptState::Retracted)];
    let shard = (testing::shard(), testing::position(), testing::position(), testing::tenure(), 0_u64..3, any::<u64>())
        .prop_map(|(shard, from, to, tenure, generation, arrival)| ReceiptShard {
            lease: LeaseKey::of(&shard),
            from,
            to,
            tenure,
            generation: Generation(generation),
            arrival: (arrival % 2 == 0).then_some(Millis(arrival)),
        });
    (
        any::<[u8; 16]>(),
        state,
        testing::destination(),
        proptest::collection::vec(shard, 0..3),
        proptest::collection::vec(output(), 0..3),
        any::<u64>(),
        proptest::option::of(any::<u64>().prop_map(Millis)),
    )
        .prop_map(|(cid, state, destination, shards, outputs, records, created_at)| Receipt {
            cid: CommitId(cid),
            state,
            destination,
            shards,
            outputs,
            config: "c0ffee".to_owned(),
            worker: WorkerId::new("worker-1"),
            version: "0.1.0".to_owned(),
            records,
            bytes: records / 2,
            created_at,
        })
}

proptest! {
    #[test]
    fn receipts_round_trip(receipt in receipt()) {
        prop_assert_eq!(decode(&encode(&receipt)), Ok(receipt));
    }

    #[test]
    fn a_receipt_with_something_missing_or_wrong_is_an_error(receipt in receipt(), index in any::<prop::sample::Index>()) {
        let mut item = encode(&receipt);
        let names: Vec<_> = item.keys().filter(|name| *name != name::CREATED_AT).cloned().collect();
        let name = index.get(&names).clone();
        item.insert(name.clone(), AttributeValue::Null(true));
        prop_assert!(decode(&item).is_err(), "{} is null", name);
        item.remove(&name);
        prop_assert!(decode(&item).is_err(), "{} is missing", name);
    }
}
